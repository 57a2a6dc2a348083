/*
 * Modes that the VGA is put into where no VGA BIOS does it: for kernels that are started without firmware.
 *
 * Under vm->lock. Source: IBM VGA XGA Technical Reference Manual, the registers' values of mode 3.
 */
#include <string.h>

#include "dev/vga_state.h"

#define SPACE 0x20
#define GREY 0x07

/* 64 colors: bits 0-2 are two thirds of blue, green and red, bits 3-5 the last third. */
static void set_dac(struct vga *v)
{
	for (unsigned i = 0; i < 256; i++)
		for (unsigned c = 0; c < 3; c++)
			v->dac[i][c] = (uint8_t)((i >> (2 - c) & 1) * 42 + (i >> (5 - c) & 1) * 21);
}

void vga_set_text_mode(struct vga *v)
{
	static const uint8_t seq[SEQ_COUNT] = {0x03, 0x00, 0x03, 0x00, 0x02};
	static const uint8_t gr[GR_COUNT] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff};
	static const uint8_t crtc[CRTC_COUNT] = {
		0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
		0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
	};
	static const uint8_t attr[ATTR_COUNT] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
		0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
	};
	uint32_t cell[VGA_TEXT_COLUMNS];

	v->misc = 0x67;
	memcpy(v->seq, seq, sizeof seq);
	memcpy(v->gr, gr, sizeof gr);
	memcpy(v->crtc, crtc, sizeof crtc);
	memcpy(v->attr, attr, sizeof attr);
	v->attr_index = ATTR_INDEX_SCREEN_ON;
	set_dac(v);
	for (unsigned i = 0; i < VGA_TEXT_COLUMNS; i++)
		cell[i] = SPACE | GREY << 8;
	for (unsigned y = 0; y < VGA_TEXT_ROWS; y++)
		memory_block_write(v->config.memory, v->offset + y * sizeof cell, cell, sizeof cell);
}

void vga_set_linear_mode(struct vga *v, unsigned width, unsigned height, uint64_t *address)
{
	v->misc |= MISC_MEMORY;
	v->attr_index |= ATTR_INDEX_SCREEN_ON;
	vga_vbe_write(v, VBE_WIDTH, (uint16_t)width);
	vga_vbe_write(v, VBE_HEIGHT, (uint16_t)height);
	vga_vbe_write(v, VBE_BPP, 32);
	vga_vbe_write(v, VBE_ENABLE, VBE_ENABLED | VBE_LINEAR);
	*address = v->pci.bar[0].mapped ? v->pci.bar[0].address : 0;
}
