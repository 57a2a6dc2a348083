/*
 * The monitor's EDID. See vga_edid.h. Pure.
 */
#include "dev/vga_edid.h"

#include <string.h>

#define EDID_SIZE 128u

/* The preferred timing: 1024x768 at 60 Hz, as VESA's monitor timing standard has it. */
#define CLOCK_10KHZ 6500u
enum { H_SHOWN = 1024, H_BLANK = 320, H_FRONT = 24, H_SYNC = 136, V_SHOWN = 768, V_BLANK = 38, V_FRONT = 3, V_SYNC = 6 };
enum { WIDTH_MM = 271, HEIGHT_MM = 203 }; /* 96 dots an inch */

static void detailed_timing(uint8_t *d)
{
	d[0] = CLOCK_10KHZ & 0xff;
	d[1] = CLOCK_10KHZ >> 8;
	d[2] = H_SHOWN & 0xff;
	d[3] = H_BLANK & 0xff;
	d[4] = (H_SHOWN >> 8) << 4 | H_BLANK >> 8;
	d[5] = V_SHOWN & 0xff;
	d[6] = V_BLANK;
	d[7] = (V_SHOWN >> 8) << 4;
	d[8] = H_FRONT;
	d[9] = H_SYNC;
	d[10] = V_FRONT << 4 | V_SYNC;
	d[12] = WIDTH_MM & 0xff;
	d[13] = HEIGHT_MM;
	d[14] = (WIDTH_MM >> 8) << 4;
	d[17] = 0x18; /* separate syncs, both negative */
}

/* 13 bytes of text, ended by a line feed and filled up with spaces. */
static void descriptor(uint8_t *d, uint8_t tag, const char *text)
{
	size_t len = strlen(text);

	d[3] = tag;
	memset(d + 5, ' ', 13);
	memcpy(d + 5, text, len);
	d[5 + len] = '\n';
}

void vga_edid_fill(uint8_t edid[256])
{
	/* What is ahead of the descriptors: header, product, EDID 1.4, digital with 8 bits a color, size in cm, gamma 2.2,
	 * sRGB with its first timing preferred, sRGB's chromaticity, 640x480, 800x600 and 1024x768 at 60 Hz. */
	static const uint8_t head[] = {
		0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x4a, 0x64, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xff, 36, 1, 4, 0xa0, WIDTH_MM / 10, HEIGHT_MM / 10, 120, 0x06, 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26,
		0x0f, 0x50, 0x54, 0x21, 0x08, 0x00,
	};
	/* Standard timings, width / 8 - 31, then aspect (4:3 is 1, 5:4 is 2, 16:10 is 0, 16:9 is 3) and 60 Hz. */
	static const uint8_t standard[16] = {
		1280 / 8 - 31, 2 << 6, 1280 / 8 - 31, 1 << 6, 1280 / 8 - 31, 0 << 6, 1280 / 8 - 31, 3 << 6,
		1600 / 8 - 31, 1 << 6, 1680 / 8 - 31, 0 << 6, 1920 / 8 - 31, 3 << 6, 1920 / 8 - 31, 0 << 6,
	};
	unsigned sum = 0;

	memset(edid, 0, 256);
	memcpy(edid, head, sizeof head);
	memcpy(edid + 38, standard, sizeof standard);
	detailed_timing(edid + 54);
	descriptor(edid + 72, 0xfc, "Ringside");
	/* Range limits: 50-75 Hz, 30-120 kHz, up to 250 MHz; no secondary timing formula. */
	static const uint8_t limits[] = {0, 0, 0, 0xfd, 0, 50, 75, 30, 120, 25, 0x01, '\n', ' ', ' ', ' ', ' ', ' ', ' '};
	memcpy(edid + 90, limits, sizeof limits);
	edid[108 + 3] = 0x10; /* a descriptor that says nothing */
	for (unsigned i = 0; i < EDID_SIZE - 1; i++)
		sum += edid[i];
	edid[EDID_SIZE - 1] = (uint8_t)(0x100 - (sum & 0xff));
}
