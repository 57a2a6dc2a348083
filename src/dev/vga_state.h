/*
 * What the VGA's files share: its registers, vga.c, and how they make a picture, vga_draw.c.
 *
 * Display memory is kept as the serializer sees it: byte 4 * n + p is offset n of plane p. So the 256-color mode that
 * chains the planes, and the linear modes, are plain bytes in order. Odd/even addressing and chaining put the bytes
 * of the processor's addresses next to each other (n = address / 2, address / 4), where the IBM adapter leaves gaps and
 * skips them when it counts by two or by four; so here the CRT controller always counts by one.
 */
#ifndef RINGSIDE_VGA_STATE_H
#define RINGSIDE_VGA_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "dev/vga.h"
#include "pci/pci.h"
#include "ui/display.h"

enum { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_CHARACTER_MAP, SEQ_MEMORY_MODE, SEQ_COUNT };
#define SEQ_RESET_RUN 0x03
#define CLOCKING_8_DOTS 0x01
#define CLOCKING_HALF 0x08
#define CLOCKING_SCREEN_OFF 0x20
#define MEMORY_MODE_SEQUENTIAL 0x04 /* odd/even is off */
#define MEMORY_MODE_CHAIN_4 0x08

enum {
	GR_SET_RESET, GR_ENABLE_SET_RESET, GR_COLOR_COMPARE, GR_ROTATE, GR_READ_MAP, GR_MODE, GR_MISC, GR_DONT_CARE,
	GR_BIT_MASK, GR_COUNT,
};
#define GR_MODE_READ_COMPARE 0x08
#define GR_MODE_ODD_EVEN 0x10
#define GR_MODE_SHIFT_INTERLEAVE 0x20
#define GR_MODE_256_COLORS 0x40
#define GR_MISC_GRAPHICS 0x01

enum {
	CRTC_H_DISPLAY_END = 0x01, CRTC_OVERFLOW = 0x07, CRTC_PRESET_ROW = 0x08, CRTC_MAX_SCAN_LINE = 0x09,
	CRTC_CURSOR_START = 0x0a, CRTC_CURSOR_END = 0x0b, CRTC_START_HIGH = 0x0c, CRTC_START_LOW = 0x0d,
	CRTC_CURSOR_HIGH = 0x0e, CRTC_CURSOR_LOW = 0x0f, CRTC_V_RETRACE_END = 0x11, CRTC_V_DISPLAY_END = 0x12,
	CRTC_OFFSET = 0x13, CRTC_UNDERLINE = 0x14, CRTC_MODE = 0x17, CRTC_LINE_COMPARE = 0x18, CRTC_COUNT,
};
#define CRTC_PROTECT 0x80 /* of V_RETRACE_END */
#define CRTC_DOUBLE_SCAN 0x80 /* of MAX_SCAN_LINE */
#define CRTC_MODE_NOT_CGA 0x01
#define CRTC_MODE_NOT_HERCULES 0x02
#define CRTC_MODE_BYTES 0x40
#define CRTC_MODE_RUN 0x80

enum { ATTR_MODE = 0x10, ATTR_OVERSCAN, ATTR_PLANES, ATTR_PANNING, ATTR_COLOR_SELECT, ATTR_COUNT };
#define ATTR_INDEX_SCREEN_ON 0x20
#define ATTR_MODE_MONO 0x02
#define ATTR_MODE_LINE_GRAPHICS 0x04
#define ATTR_MODE_BLINK 0x08
#define ATTR_MODE_PANNING_COMPATIBLE 0x20
#define ATTR_MODE_COLOR_SELECT 0x80

#define MISC_COLOR 0x01 /* ports 0x3dx instead of 0x3bx */
#define MISC_MEMORY 0x02

enum vbe_register {
	VBE_ID, VBE_WIDTH, VBE_HEIGHT, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_VIRTUAL_WIDTH, VBE_VIRTUAL_HEIGHT, VBE_X_OFFSET,
	VBE_Y_OFFSET, VBE_MEMORY_64K, VBE_COUNT,
};
#define VBE_ENABLED 0x01
#define VBE_CAPABILITIES 0x02 /* width, height and bpp read as what is possible */
#define VBE_8_BIT_DAC 0x20
#define VBE_LINEAR 0x40
#define VBE_KEEP_MEMORY 0x80

#define VGA_REGISTERS \
	uint8_t misc, feature; \
	uint8_t seq_index, seq[SEQ_COUNT]; \
	uint8_t gr_index, gr[GR_COUNT]; \
	uint8_t crtc_index, crtc[CRTC_COUNT]; \
	uint8_t attr_index, attr[ATTR_COUNT]; \
	bool attr_data; /* the next write to 0x3c0 is data */ \
	uint8_t dac_mask, dac_index, dac_component, dac_state, dac_new[3]; \
	uint8_t dac[256][3]; \
	uint32_t latch; /* a byte a plane */ \
	uint8_t edid[256]; \
	uint16_t vbe_index, vbe[VBE_COUNT];

struct vga_registers { VGA_REGISTERS };

struct vga {
	struct vga_config config;
	struct pci_device pci;
	uint8_t *memory; /* VGA_MEMORY_SIZE bytes, at `offset` of the guest's memory */
	uint64_t offset;
	bool ports_on, window_on; /* PCI's command register lets the adapter answer */
	uint64_t window;          /* offset into memory that is mapped at 0xa0000; WINDOW_BY_EXITS */

	union {
		struct { VGA_REGISTERS };
		struct vga_registers registers; /* all of them */
	};
	/* The picture was last made of display memory as it was, and of these registers. */
	bool is_drawn;
	struct vga_registers drawn;

	uint32_t palette[256]; /* dac as pixels, while a picture is drawn */
	uint32_t line[DISPLAY_WIDTH_MAX + 32]; /* room for panning, and what is left of the last character */
};

static inline bool vga_vbe_on(const struct vga *v) { return v->vbe[VBE_ENABLE] & VBE_ENABLED; }
/* Bytes of a line in a VBE mode (of a plane's, four to the byte, in 4-bit modes: also counted in all planes). */
static inline uint32_t vga_vbe_pitch(const struct vga *v)
{
	unsigned bpp = v->vbe[VBE_BPP];

	return bpp == 4 ? v->vbe[VBE_VIRTUAL_WIDTH] / 2u : v->vbe[VBE_VIRTUAL_WIDTH] * ((bpp + 7) / 8);
}

void vga_vbe_write(struct vga *v, unsigned index, uint16_t value); /* vga.c */

extern const struct display_source vga_source; /* vga_draw.c */

#endif
