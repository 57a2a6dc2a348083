/*
 * The VGA's picture: what CRT controller, serializer, attribute controller and DAC make of display memory.
 *
 * Every line is made anew each time somebody looks, unless the engine knows that nothing was written; the display finds
 * out what has changed. Nothing of the guest's is
 * trusted: offsets into display memory wrap around in it, sizes are cut to what the display can have.
 *
 * Not as in the adapter: 9-dot panning in text modes goes by 8, the colors of a blanked screen are black without
 * overscan, and a picture is drawn from the registers of one moment, so that changes in mid-frame do not show.
 *
 * Under vm->lock. Source: IBM VGA XGA Technical Reference Manual.
 */
#include <string.h>

#include "dev/vga_state.h"
#include "util/timer.h"

#define OFFSETS (VGA_MEMORY_SIZE / 4) /* of a plane */
#define CURSOR_BLINK_NS 228571428ull /* 16 frames of 70 Hz */
#define TEXT_BLINK_NS (2 * CURSOR_BLINK_NS)
#define GLYPH_BYTES 32u

/* The frame as the CRT controller counts it. */
struct frame {
	unsigned columns, lines; /* characters, scan lines */
	unsigned rows;           /* scan lines of a character */
	bool double_scan;
	uint32_t start, pitch;   /* offsets in a plane */
	unsigned line_compare;
};

static struct frame frame_of(const struct vga *v)
{
	const uint8_t *c = v->crtc;
	unsigned overflow = c[CRTC_OVERFLOW], scan = c[CRTC_MAX_SCAN_LINE];

	return (struct frame){
		.columns = c[CRTC_H_DISPLAY_END] + 1u,
		.lines = (c[CRTC_V_DISPLAY_END] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1u,
		.rows = (scan & 0x1f) + 1,
		.double_scan = scan & CRTC_DOUBLE_SCAN,
		.start = (uint32_t)(c[CRTC_START_HIGH] << 8 | c[CRTC_START_LOW]),
		.pitch = c[CRTC_OFFSET] * 2u,
		.line_compare = c[CRTC_LINE_COMPARE] | (overflow & 0x10) << 4 | (scan & 0x40) << 3,
	};
}

static bool is_text(const struct vga *v) { return !vga_vbe_on(v) && !(v->gr[GR_MISC] & GR_MISC_GRAPHICS); }

static bool is_blank(const struct vga *v)
{
	if (!(v->attr_index & ATTR_INDEX_SCREEN_ON) || (v->seq[SEQ_CLOCKING] & CLOCKING_SCREEN_OFF))
		return true;
	return !vga_vbe_on(v) && (!(v->crtc[CRTC_MODE] & CRTC_MODE_RUN) ||
				  (v->seq[SEQ_RESET] & SEQ_RESET_RUN) != SEQ_RESET_RUN);
}

/* ---- colors ---- */

static uint32_t dac_pixel(const struct vga *v, unsigned i)
{
	const uint8_t *c = v->dac[i & v->dac_mask];
	uint32_t rgb = 0;

	for (unsigned n = 0; n < 3; n++)
		rgb = rgb << 8 | (v->vbe[VBE_ENABLE] & VBE_8_BIT_DAC ? c[n] : (c[n] & 0x3f) << 2 | (c[n] & 0x3f) >> 4);
	return rgb;
}

/* 16 colors go by the attribute controller's palette. */
static void make_palette_16(struct vga *v)
{
	uint8_t mode = v->attr[ATTR_MODE], select = v->attr[ATTR_COLOR_SELECT];

	for (unsigned i = 0; i < 16; i++) {
		unsigned a = v->attr[i & v->attr[ATTR_PLANES] & 15];

		a = mode & ATTR_MODE_COLOR_SELECT ? (a & 15) | (select & 15u) << 4 : (a & 0x3f) | (select & 12u) << 4;
		v->palette[i] = dac_pixel(v, a);
	}
}

static void make_palette_256(struct vga *v)
{
	for (unsigned i = 0; i < 256; i++)
		v->palette[i] = dac_pixel(v, i);
}

/* ---- text ---- */

struct text_style {
	uint32_t font[2]; /* offsets in plane 2; attribute bit 3 chooses, where the two are not the same */
	unsigned width;   /* dots of a character */
	bool blink, dark; /* attribute bit 7 blinks; and is in the dark half of it */
	unsigned cursor_first, cursor_last; /* scan lines; first > last: none */
	uint32_t cursor;  /* offset */
};

static uint32_t font_offset(unsigned map) { return (map & 3) << 14 | (map & 4) << 11; }

static bool blink_dark(const struct vga *v, uint64_t half_period)
{
	return timer_queue_now(v->config.timers) / half_period & 1;
}

static struct text_style style_of(const struct vga *v)
{
	uint8_t map = v->seq[SEQ_CHARACTER_MAP], start = v->crtc[CRTC_CURSOR_START], end = v->crtc[CRTC_CURSOR_END];
	struct text_style s = {
		.font = {font_offset((map & 3) | (map & 0x10) >> 2), font_offset((map >> 2 & 3) | (map & 0x20) >> 3)},
		.width = v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9,
		.blink = v->attr[ATTR_MODE] & ATTR_MODE_BLINK,
		.dark = blink_dark(v, TEXT_BLINK_NS),
		.cursor_first = start & 0x1f,
		.cursor_last = end & 0x1f,
		.cursor = (uint32_t)(v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW]) + (end >> 5 & 3),
	};

	if ((start & 0x20) || blink_dark(v, CURSOR_BLINK_NS))
		s.cursor_first = s.cursor_last + 1;
	return s;
}

/* One scan line of one character: its dots, the leftmost in bit 15. */
static unsigned glyph_dots(const struct vga *v, const struct text_style *s, uint32_t offset, unsigned row)
{
	uint8_t character = v->memory[4 * offset], attribute = v->memory[4 * offset + 1];
	uint32_t glyph = s->font[attribute >> 3 & 1] + character * GLYPH_BYTES + (row & (GLYPH_BYTES - 1));
	unsigned dots = (unsigned)v->memory[4 * (glyph % OFFSETS) + 2] << 8;

	if ((v->attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS) && character >= 0xc0 && character <= 0xdf)
		dots |= dots >> 1 & 0x80;
	if (s->blink && (attribute & 0x80) && s->dark)
		dots = 0;
	if ((v->attr[ATTR_MODE] & ATTR_MODE_MONO) && (attribute & 7) == 1 &&
	    row == (v->crtc[CRTC_UNDERLINE] & 0x1f))
		dots = 0xffff;
	if (offset == s->cursor && row >= s->cursor_first && row <= s->cursor_last)
		dots = 0xffff;
	return dots;
}

static void text_line(struct vga *v, const struct text_style *s, unsigned columns, uint32_t address, unsigned row)
{
	uint32_t *p = v->line;

	for (unsigned i = 0; i < columns; i++) {
		uint32_t offset = (address + i) % OFFSETS;
		uint8_t attribute = v->memory[4 * offset + 1];
		unsigned dots = glyph_dots(v, s, offset, row);
		unsigned ink_mask = s->font[0] != s->font[1] ? 7 : 15; /* bit 3 is taken by the choice of font */
		uint32_t ink = v->palette[attribute & ink_mask];
		uint32_t paper = v->palette[attribute >> 4 & (s->blink ? 7 : 15)];

		for (unsigned x = 0; x < s->width; x++, dots <<= 1)
			*p++ = dots & 0x8000 ? ink : paper;
	}
}

/* ---- graphics ---- */

static uint32_t planes_at(const struct vga *v, uint32_t offset)
{
	uint32_t word;

	memcpy(&word, v->memory + 4 * (size_t)(offset % OFFSETS), sizeof word);
	return word;
}

/* Where the scan line of that number in its character lies, as the CRT controller's mode register has it. */
static uint32_t row_address(const struct vga *v, uint32_t address, unsigned row)
{
	uint8_t mode = v->crtc[CRTC_MODE];
	unsigned bit = mode & CRTC_MODE_BYTES ? 13 : 12; /* of the plane's offset: word addresses are shifted here */

	if (!(mode & CRTC_MODE_NOT_CGA))
		address = (address & ~(1u << bit)) | (row & 1) << bit;
	if (!(mode & CRTC_MODE_NOT_HERCULES))
		address = (address & ~(2u << bit)) | (row >> 1 & 1) << (bit + 1);
	return address;
}

/* The serializer: how many pixels the four bytes at one offset are, and which. `color` has room for 8. */
static unsigned serialize(const struct vga *v, uint32_t word, uint8_t color[8])
{
	uint8_t mode = v->gr[GR_MODE];

	if (mode & GR_MODE_256_COLORS) {
		for (unsigned i = 0; i < 4; i++)
			color[i] = (uint8_t)(word >> 8 * i);
		return 4;
	}
	for (unsigned i = 0; i < 8; i++) {
		if (mode & GR_MODE_SHIFT_INTERLEAVE) { /* two bits from planes 0 and 1, two more from 2 and 3 */
			unsigned shift = 8 * (i / 4) + 6 - 2 * (i & 3);

			color[i] = (uint8_t)((word >> shift & 3) | (word >> (shift + 16) & 3) << 2);
		} else {
			unsigned shift = 7 - i;

			color[i] = (uint8_t)((word >> shift & 1) | (word >> (shift + 8) & 1) << 1 |
					     (word >> (shift + 16) & 1) << 2 | (word >> (shift + 24) & 1) << 3);
		}
	}
	return 8;
}

/* `count` offsets from `address` on; each pixel is `dots` wide. */
static void planar_line(struct vga *v, uint32_t address, unsigned count, unsigned dots)
{
	const uint32_t *end = v->line + DISPLAY_WIDTH_MAX;
	uint32_t *p = v->line;
	uint8_t color[8];

	for (unsigned i = 0; i < count && p < end; i++) {
		unsigned pixels = serialize(v, planes_at(v, address + i), color);

		for (unsigned n = 0; n < pixels; n++)
			for (unsigned d = 0; d < dots; d++)
				*p++ = v->palette[color[n]];
	}
}

/* ---- frames by the IBM registers ---- */

static unsigned panning(const struct vga *v, bool split)
{
	unsigned n = v->attr[ATTR_PANNING] & 15;

	if (split && (v->attr[ATTR_MODE] & ATTR_MODE_PANNING_COMPATIBLE))
		return 0;
	if (v->gr[GR_MODE] & GR_MODE_256_COLORS)
		return n & 6; /* counts half pixels */
	return n < 8 ? n : 0;
}

static void draw_ibm(struct vga *v, struct display *d)
{
	struct frame f = frame_of(v);
	bool text = is_text(v), split = false;
	unsigned dots = v->seq[SEQ_CLOCKING] & CLOCKING_HALF ? 2 : 1;
	unsigned cell = text ? (v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9) : 8 * dots;
	unsigned row = v->crtc[CRTC_PRESET_ROW] & 0x1f;
	uint32_t address = f.start + (v->crtc[CRTC_PRESET_ROW] >> 5 & 3);
	struct text_style style = style_of(v);

	if (!text && (v->gr[GR_MODE] & GR_MODE_256_COLORS)) {
		make_palette_256(v);
		dots *= 2;
	} else {
		make_palette_16(v);
	}
	display_resize(d, f.columns * cell, f.lines);
	for (unsigned y = 0; y < display_height(d); y++) {
		unsigned pan = panning(v, split);

		if (text)
			text_line(v, &style, f.columns, address, row);
		else
			planar_line(v, row_address(v, address, row), f.columns + 1, dots);
		display_put_line(d, y, v->line + (text ? 0 : pan * dots / (v->gr[GR_MODE] & GR_MODE_256_COLORS ? 2 : 1)));
		if (y == f.line_compare) {
			address = row = 0;
			split = true;
		} else if (!f.double_scan || (y & 1)) {
			if (++row >= f.rows) {
				row = 0;
				address += f.pitch;
			}
		}
	}
}

/* ---- VBE modes ---- */

static uint32_t widen(uint32_t value, unsigned bits) { return value << (8 - bits) | value >> (2 * bits - 8); }

/* One line of `n` pixels whose bytes are all inside display memory. */
static void linear_line(struct vga *v, const uint8_t *s, unsigned n, unsigned bpp)
{
	uint32_t *p = v->line, w;

	switch (bpp) {
	case 8:
		for (unsigned i = 0; i < n; i++)
			p[i] = v->palette[s[i]];
		break;
	case 15:
		for (unsigned i = 0; i < n; i++, s += 2) {
			w = pci_get16(s);
			p[i] = widen(w >> 10 & 31, 5) << 16 | widen(w >> 5 & 31, 5) << 8 | widen(w & 31, 5);
		}
		break;
	case 16:
		for (unsigned i = 0; i < n; i++, s += 2) {
			w = pci_get16(s);
			p[i] = widen(w >> 11, 5) << 16 | widen(w >> 5 & 63, 6) << 8 | widen(w & 31, 5);
		}
		break;
	case 24:
		for (unsigned i = 0; i < n; i++, s += 3)
			p[i] = pci_get16(s) | (uint32_t)s[2] << 16;
		break;
	case 32:
		for (unsigned i = 0; i < n; i++, s += 4) {
			memcpy(&w, s, sizeof w);
			p[i] = w & 0xffffff;
		}
		break;
	}
}

static void draw_vbe(struct vga *v, struct display *d)
{
	unsigned bpp = v->vbe[VBE_BPP], bytes = (bpp + 7) / 8;
	uint64_t pitch = vga_vbe_pitch(v), at = pitch * v->vbe[VBE_Y_OFFSET];

	if (bpp == 4)
		make_palette_16(v);
	else
		make_palette_256(v);
	display_resize(d, v->vbe[VBE_WIDTH], v->vbe[VBE_HEIGHT]);
	for (unsigned y = 0; y < display_height(d); y++, at += pitch) {
		unsigned n = display_width(d);

		if (bpp == 4) {
			unsigned x = v->vbe[VBE_X_OFFSET];

			planar_line(v, (uint32_t)(at / 4 + x / 8), n / 8 + 1, 1);
			display_put_line(d, y, v->line + x % 8);
			continue;
		}
		uint64_t from = at + (uint64_t)v->vbe[VBE_X_OFFSET] * bytes;
		if (from + (uint64_t)n * bytes > VGA_MEMORY_SIZE)
			memset(v->line, 0, sizeof v->line);
		else
			linear_line(v, v->memory + from, n, bpp);
		display_put_line(d, y, v->line);
	}
}

static void draw_blank(struct vga *v, struct display *d)
{
	memset(v->line, 0, sizeof v->line);
	for (unsigned y = 0; y < display_height(d); y++)
		display_put_line(d, y, v->line);
}

/* These modes show nothing but display memory: no cursor, nothing that blinks. Where the engine can tell that nothing
 * was written, the picture is what it was. */
static bool is_unchanged(struct vga *v)
{
	bool written = memory_block_take_written(v->config.memory, v->offset, VGA_MEMORY_SIZE);
	bool same = v->is_drawn && memcmp(&v->drawn, &v->registers, sizeof v->drawn) == 0;

	v->drawn = v->registers;
	v->is_drawn = true;
	return same && !written;
}

static void draw(void *opaque, struct display *d)
{
	struct vga *v = opaque;

	if (!is_blank(v) && vga_vbe_on(v)) {
		if (!is_unchanged(v))
			draw_vbe(v, d);
		return;
	}
	v->is_drawn = false;
	if (is_blank(v))
		draw_blank(v, d);
	else
		draw_ibm(v, d);
}

static bool text(void *opaque, struct display_text *t)
{
	struct vga *v = opaque;
	struct frame f = frame_of(v);
	struct text_style s = style_of(v);

	if (!is_text(v) || is_blank(v))
		return false;
	t->columns = f.columns;
	t->rows = f.lines / f.rows / (f.double_scan ? 2 : 1);
	if (t->rows == 0)
		t->rows = 1;
	if (t->rows > DISPLAY_TEXT_MAX / t->columns)
		t->rows = DISPLAY_TEXT_MAX / t->columns;
	t->cursor_column = t->cursor_row = -1;
	for (unsigned y = 0; y < t->rows; y++)
		for (unsigned x = 0; x < t->columns; x++) {
			uint32_t offset = (f.start + y * f.pitch + x) % OFFSETS;

			t->cell[y * t->columns + x] = pci_get16(v->memory + 4 * offset);
			if (offset == s.cursor && !(v->crtc[CRTC_CURSOR_START] & 0x20)) {
				t->cursor_column = (int)x;
				t->cursor_row = (int)y;
			}
		}
	return true;
}

const struct display_source vga_source = {.draw = draw, .text = text};
