/*
 * The VGA through its ports and its window, as a VGA BIOS and programs drive it: text and cursor, planar writes in all
 * modes, chained and shifted pixels, split screen, palette, VBE modes, and what the display makes of it.
 */
#include "dev/vga.h"

#include "dev_fixture.h"
#include "mem/memory.h"
#include "ui/display.h"

#define WINDOW 0xa0000
#define TEXT 0xb8000

static struct memory memory;
static struct display *display;
static struct vga *vga;

static void start(void)
{
	fixture_start();
	memory.fd = -1;
	CHECK_EQ(memory_init(&memory, 4 << 20), 0);
	display = display_new();
	const struct vga_config config = {
		.memory = &memory, .pio = &pio, .mmio = &mmio, .timers = queue, .display = display, .devfn = -1};
	vga = vga_new(&config);
	CHECK(vga);
	if (!vga)
		exit(summary());
}

static void stop(void)
{
	vga_free(vga);
	display_free(display);
	memory_free(&memory);
	fixture_stop();
}

/* ---- driving it ---- */

static void set(unsigned port, unsigned index, unsigned value)
{
	outb(port, (uint8_t)index);
	outb(port + 1, (uint8_t)value);
}

static unsigned get(unsigned port, unsigned index)
{
	outb(port, (uint8_t)index);
	return inb(port + 1);
}

static void seq(unsigned i, unsigned value) { set(0x3c4, i, value); }
static void gr(unsigned i, unsigned value) { set(0x3ce, i, value); }
static void crtc(unsigned i, unsigned value) { set(0x3d4, i, value); }

static void attr(unsigned i, unsigned value)
{
	inb(0x3da);
	outb(0x3c0, (uint8_t)i);
	outb(0x3c0, (uint8_t)value);
}

static void screen_on(void)
{
	inb(0x3da);
	outb(0x3c0, 0x20);
}

static void vbe(unsigned i, unsigned value)
{
	out(0x1ce, 2, i);
	out(0x1cf, 2, value); /* the VGA BIOS does so; others write to 0x1d0 */
}

static unsigned vbe_get(unsigned i)
{
	out(0x1ce, 2, i);
	return (unsigned)in(0x1d0, 2);
}

static void dac(unsigned i, unsigned r, unsigned g, unsigned b)
{
	outb(0x3c8, (uint8_t)i);
	outb(0x3c9, (uint8_t)r);
	outb(0x3c9, (uint8_t)g);
	outb(0x3c9, (uint8_t)b);
}

/* What all modes here have in common: `columns` characters, `lines` scan lines of which `rows` make a character. */
static void frame(unsigned columns, unsigned lines, unsigned rows, unsigned pitch)
{
	outb(0x3c2, 0x63);
	seq(0, 3);
	seq(2, 0x0f);
	crtc(0x11, 0);
	crtc(0x01, columns - 1);
	crtc(0x12, (lines - 1) & 0xff);
	crtc(0x07, ((lines - 1) >> 8 & 1) << 1 | ((lines - 1) >> 9 & 1) << 6 | 0x10);
	crtc(0x09, (rows - 1) | 0x40);
	crtc(0x18, 0xff); /* line compare: 0x3ff */
	crtc(0x13, pitch / 2);
	crtc(0x0a, 0x20);
	crtc(0x17, 0xa3);
	gr(8, 0xff);
	for (unsigned i = 0; i < 16; i++) {
		attr(i, i);
		dac(i, i, 2 * i, 3 * i);
	}
	attr(0x12, 0x0f);
	attr(0x10, 0);
}

static void text_mode(void)
{
	frame(80, 400, 16, 80);
	seq(1, 1);
	seq(3, 0);
	/* The font, to plane 2 in sequential addressing. */
	seq(4, 6);
	seq(2, 4);
	gr(5, 0);
	gr(6, 4);
	for (unsigned i = 0; i < 16; i++)
		mmio_out(WINDOW + 'A' * 32 + i, 1, 0x80 | i);
	seq(2, 3);
	seq(4, 2);
	gr(5, 0x10);
	gr(6, 0x0e);
	crtc(0x17, 0xa3);
	screen_on();
}

static uint32_t pixel(unsigned x, unsigned y)
{
	return x < display_width(display) && y < display_height(display) ? display_line(display, y)[x] : 0xdeadbeef;
}

static uint32_t color(unsigned i)
{
	unsigned r = i, g = 2 * i, b = 3 * i & 63;

	return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

/* ---- tests ---- */

static void registers(void)
{
	start();
	CHECK_EQ(inb(0x3cc), 1);
	outb(0x3c2, 0xff);
	CHECK_EQ(inb(0x3cc), 0xef);
	CHECK_EQ(inb(0x3b4), 0xff); /* only 0x3dx answer */
	outb(0x3c2, 0);
	CHECK_EQ(inb(0x3d4), 0xff);
	crtc(0x0e, 0x12); /* goes nowhere */
	set(0x3b4, 0x0e, 0x34);
	CHECK_EQ(get(0x3b4, 0x0e), 0x34);
	outb(0x3c2, 1);
	CHECK_EQ(get(0x3d4, 0x0e), 0x34);
	seq(4, 0xff);
	CHECK_EQ(get(0x3c4, 4), 0x0e);
	gr(5, 0xff);
	CHECK_EQ(get(0x3ce, 5), 0x7b);
	out(0x3ce, 2, 0x5508); /* index and data in one access */
	CHECK_EQ(get(0x3ce, 8), 0x55);
	crtc(0x11, 0x80);
	crtc(0x07, 0xff); /* protected but for bit 4 */
	CHECK_EQ(get(0x3d4, 7), 0x10);
	crtc(0x06, 1);
	CHECK_EQ(get(0x3d4, 6), 0);
	attr(0x10, 0xff);
	CHECK_EQ(inb(0x3c1), 0xef);
	attr(0x20 | 3, 5); /* the palette is the picture's while it is on */
	attr(3, 7);
	inb(0x3da);
	outb(0x3c0, 3);
	CHECK_EQ(inb(0x3c1), 7);
	CHECK_EQ(inb(0x3c0), 3);
	dac(9, 1, 2, 3);
	outb(0x3c7, 9);
	CHECK_EQ(inb(0x3c7), 3);
	CHECK_EQ(inb(0x3c9), 1);
	CHECK_EQ(inb(0x3c9), 2);
	CHECK_EQ(inb(0x3c9), 3);
	CHECK_EQ(inb(0x3c8), 10);
	CHECK_EQ(inb(0x3c6), 0xff);
	unsigned retrace = 0, shown = 0;
	for (unsigned i = 0; i < 1000; i++) { /* a frame and a half */
		pass(20 * MICROSECOND);
		retrace += inb(0x3da) >> 3 & 1;
		shown += !(inb(0x3da) & 1);
	}
	CHECK(retrace > 0 && retrace < 20);
	CHECK(shown > 500 && shown < 900);
	stop();
}

static void text(void)
{
	static struct display_text cells;

	start();
	text_mode();
	mmio_out(TEXT, 2, 0x1e41); /* 'A', yellow on blue */
	mmio_out(TEXT + 162, 2, 0x0742);
	CHECK_EQ(mmio_in(TEXT, 2), 0x1e41);
	CHECK_EQ(mmio_in(TEXT + 162, 4), 0x0742);
	CHECK_EQ(mmio_in(WINDOW, 1), 0xff); /* not in the window */
	display_refresh(display);
	CHECK_EQ(display_width(display), 640);
	CHECK_EQ(display_height(display), 400);
	CHECK_EQ(pixel(0, 0), color(14));
	CHECK_EQ(pixel(1, 0), color(1));
	CHECK_EQ(pixel(4, 15), color(14));
	CHECK_EQ(pixel(7, 15), color(14));
	CHECK_EQ(pixel(3, 15), color(1));
	CHECK_EQ(pixel(8, 0), color(0));
	CHECK(display_text(display, &cells));
	CHECK_EQ(cells.columns, 80);
	CHECK_EQ(cells.rows, 25);
	CHECK_EQ(cells.cell[81], 0x0742);
	CHECK_EQ(cells.cursor_row, -1);
	/* Nine dots: the last is paper, or the eighth for line graphics. */
	seq(1, 0);
	display_refresh(display);
	CHECK_EQ(display_width(display), 720);
	CHECK_EQ(pixel(8, 1), color(1));
	attr(0x10, 4);
	screen_on();
	mmio_out(TEXT, 1, 0xc4);
	seq(4, 6);
	seq(2, 4);
	gr(6, 4);
	gr(5, 0);
	mmio_out(WINDOW + 0xc4 * 32, 1, 0xff);
	seq(4, 2);
	seq(2, 3);
	gr(6, 0x0e);
	gr(5, 0x10);
	display_refresh(display);
	CHECK_EQ(pixel(8, 0), color(14));
	/* The start address, in characters. */
	crtc(0x0d, 80);
	display_refresh(display);
	CHECK(display_text(display, &cells));
	CHECK_EQ(cells.cell[1], 0x0742);
	stop();
}

/* The cursor is there half of the time, and what blinks the other half of its own. */
static void blinking(void)
{
	static struct display_text cells;
	unsigned cursor = 0, ink = 0;

	start();
	text_mode();
	crtc(0x0a, 14);
	crtc(0x0b, 15);
	crtc(0x0f, 81);
	attr(0x10, 8);
	screen_on();
	mmio_out(TEXT, 2, 0x8741);
	mmio_out(TEXT + 162, 2, 0x0700);
	for (unsigned i = 0; i < 100; i++) {
		pass(50 * MILLISECOND);
		display_refresh(display);
		cursor += pixel(8, 31) == color(7);
		CHECK_EQ(pixel(8, 29), color(0));
		ink += pixel(0, 0) == color(7);
		CHECK_EQ(pixel(1, 0), color(0));
	}
	CHECK(cursor > 40 && cursor < 60);
	CHECK(ink > 40 && ink < 60);
	CHECK(display_text(display, &cells));
	CHECK_EQ(cells.cursor_column, 1);
	CHECK_EQ(cells.cursor_row, 1);
	stop();
}

static void planar_mode(void)
{
	frame(80, 480, 1, 80);
	seq(1, 1);
	seq(4, 6);
	gr(5, 0);
	gr(6, 5);
	crtc(0x17, 0xe3);
	screen_on();
}

static uint8_t plane(unsigned n, unsigned at)
{
	gr(5, 0);
	gr(4, n);
	return (uint8_t)mmio_in(WINDOW + at, 1);
}

static void planar(void)
{
	start();
	planar_mode();
	seq(2, 5);
	mmio_out(WINDOW + 81, 1, 0xc1);
	seq(2, 15);
	CHECK_EQ(plane(0, 81), 0xc1);
	CHECK_EQ(plane(1, 81), 0);
	CHECK_EQ(plane(2, 81), 0xc1);
	display_refresh(display);
	CHECK_EQ(display_width(display), 640);
	CHECK_EQ(display_height(display), 480);
	CHECK_EQ(pixel(8, 1), color(5));
	CHECK_EQ(pixel(10, 1), color(0));
	CHECK_EQ(pixel(15, 1), color(5));
	/* Set/reset and the bit mask in mode 0. */
	gr(0, 0x9);
	gr(1, 0xf);
	gr(8, 0x0f);
	mmio_in(WINDOW + 81, 1);
	mmio_out(WINDOW + 81, 1, 0);
	CHECK_EQ(plane(0, 81), 0xcf);
	CHECK_EQ(plane(2, 81), 0xc0);
	CHECK_EQ(plane(3, 81), 0x0f);
	/* Rotate, and a function with the latch. */
	gr(1, 0);
	gr(8, 0xff);
	gr(3, 4 | 3 << 3);
	mmio_in(WINDOW + 81, 1);
	mmio_out(WINDOW + 81, 1, 0xf1);
	CHECK_EQ(plane(0, 81), 0xcf ^ 0x1f);
	gr(3, 1 << 3);
	mmio_in(WINDOW + 81, 1);
	mmio_out(WINDOW + 82, 1, 0x3c);
	CHECK_EQ(plane(0, 82), 0xd0 & 0x3c);
	gr(3, 0);
	/* Mode 1 copies all planes, whatever is written. */
	gr(5, 1);
	mmio_in(WINDOW + 81, 1);
	mmio_out(WINDOW + 500, 1, 0x55);
	CHECK_EQ(plane(0, 500), 0xd0);
	CHECK_EQ(plane(3, 500), 0x0f ^ 0x1f);
	/* Mode 2: a color. */
	gr(5, 2);
	gr(8, 0xf0);
	mmio_in(WINDOW + 700, 1);
	mmio_out(WINDOW + 700, 1, 0x6);
	CHECK_EQ(plane(0, 700), 0);
	CHECK_EQ(plane(1, 700), 0xf0);
	CHECK_EQ(plane(2, 700), 0xf0);
	/* Mode 3: set/reset where the data and the mask have bits. */
	gr(5, 3);
	gr(0, 8);
	mmio_in(WINDOW + 700, 1);
	mmio_out(WINDOW + 700, 1, 0x3c);
	CHECK_EQ(plane(3, 700), 0x30);
	CHECK_EQ(plane(1, 700), 0xc0);
	/* Reads that compare. */
	gr(5, 8);
	gr(2, 6);
	gr(7, 0xf);
	CHECK_EQ(mmio_in(WINDOW + 700, 1), 0xc0);
	gr(7, 0x8);
	CHECK_EQ(mmio_in(WINDOW + 700, 1), 0xcf);
	stop();
}

/* Split screen: below line compare the picture begins at offset 0. */
static void split(void)
{
	start();
	planar_mode();
	seq(2, 1);
	mmio_out(WINDOW, 1, 0x80);
	mmio_out(WINDOW + 800, 1, 0x40);
	crtc(0x0c, 800 >> 8);
	crtc(0x0d, 800 & 0xff);
	crtc(0x18, 99);
	crtc(0x07, 2); /* bit 8 of line compare is clear, that of 480 lines is not */
	crtc(0x09, 0);
	display_refresh(display);
	CHECK_EQ(pixel(1, 0), color(1));
	CHECK_EQ(pixel(0, 0), color(0));
	CHECK_EQ(pixel(0, 100), color(1));
	CHECK_EQ(pixel(0, 99), color(0));
	attr(0x13, 1); /* panning by one */
	screen_on();
	display_refresh(display);
	CHECK_EQ(pixel(0, 0), color(1));
	CHECK_EQ(pixel(0, 100), color(0));
	attr(0x10, 0x20); /* but not below the split */
	screen_on();
	display_refresh(display);
	CHECK_EQ(pixel(0, 100), color(1));
	stop();
}

static void mode_13h(void)
{
	start();
	frame(80, 400, 2, 80);
	seq(1, 1);
	seq(4, 0x0e);
	gr(5, 0x40);
	gr(6, 5);
	crtc(0x14, 0x40);
	screen_on();
	dac(0x47, 63, 0, 1);
	/* The window is memory now. */
	uint8_t *p = memory_hva_writable(&memory, WINDOW, 0x10000);
	CHECK(p != NULL);
	if (!p)
		return;
	p[320 * 3 + 5] = 0x47;
	display_refresh(display);
	CHECK_EQ(display_width(display), 640);
	CHECK_EQ(pixel(10, 6), 0xff0004);
	CHECK_EQ(pixel(11, 7), 0xff0004);
	CHECK_EQ(pixel(12, 7), 0);
	/* With a map mask it is not, and the byte in between is kept. */
	seq(2, 2);
	CHECK(memory_hva(&memory, WINDOW, 1) == NULL);
	mmio_out(WINDOW + 320 * 3 + 5, 4, 0x03020101);
	CHECK_EQ(mmio_in(WINDOW + 320 * 3 + 5, 4), 1);
	/* Unchained: four planes at one address. */
	seq(4, 6);
	seq(2, 8);
	mmio_out(WINDOW + 80, 1, 0x47);
	display_refresh(display);
	CHECK_EQ(pixel(6, 2), 0xff0004);
	stop();
}

/* 320x200 in four colors: odd and even bytes, pixels of two bits, odd lines 8 KiB behind the even ones. */
static void mode_4(void)
{
	start();
	frame(40, 400, 2, 40);
	crtc(0x09, 0xc1);
	seq(1, 9);
	seq(4, 2);
	seq(2, 3);
	gr(5, 0x30);
	gr(6, 0x0f);
	crtc(0x17, 0xa2);
	screen_on();
	mmio_out(TEXT + 1, 1, 0x1b);
	mmio_out(TEXT + 0x2000, 1, 0xc0);
	CHECK_EQ(mmio_in(TEXT, 2), 0x1b00);
	display_refresh(display);
	CHECK_EQ(display_width(display), 640);
	CHECK_EQ(display_height(display), 400);
	CHECK_EQ(pixel(8, 0), color(0));
	CHECK_EQ(pixel(10, 0), color(1));
	CHECK_EQ(pixel(13, 1), color(2));
	CHECK_EQ(pixel(15, 1), color(3));
	CHECK_EQ(pixel(0, 1), color(0));
	CHECK_EQ(pixel(1, 2), color(3));
	CHECK_EQ(pixel(2, 3), color(0));
	CHECK_EQ(pixel(0, 4), color(0));
	stop();
}

static void vbe_modes(void)
{
	static const struct { unsigned bpp, bytes; uint32_t value, rgb; } depth[] = {
		{15, 2, 0x7c1f, 0xff00ff}, {16, 2, 0x07ff, 0x00ffff}, {24, 3, 0x123456, 0x123456},
		{32, 4, 0xff654321, 0x654321},
	};

	start();
	outb(0x3c2, 0x63);
	CHECK_EQ(vbe_get(0), 0xb0c5);
	CHECK_EQ(vbe_get(10), 256);
	vbe(4, 2);
	CHECK_EQ(vbe_get(1), 4096);
	CHECK_EQ(vbe_get(3), 32);
	screen_on();
	for (unsigned i = 0; i < sizeof depth / sizeof depth[0]; i++) {
		vbe(4, 0);
		vbe(1, 800);
		vbe(2, 600);
		vbe(3, depth[i].bpp);
		vbe(4, 0x41);
		CHECK_EQ(vbe_get(6), 800);
		gr(8, 0xff);
		uint64_t at = (800ull * 599 + 799) * depth[i].bytes;
		vbe(5, (unsigned)(at >> 16));
		CHECK_EQ(vbe_get(5), at >> 16);
		uint8_t *p = memory_hva_writable(&memory, WINDOW, 0x10000);
		CHECK(p != NULL);
		if (!p)
			break;
		for (unsigned n = 0; n < depth[i].bytes; n++)
			p[(at & 0xffff) + n] = (uint8_t)(depth[i].value >> 8 * n);
		display_refresh(display);
		CHECK_EQ(display_width(display), 800);
		CHECK_EQ(display_height(display), 600);
		CHECK_EQ(pixel(799, 599), depth[i].rgb);
		CHECK_EQ(pixel(798, 599), 0);
		vbe(6, 1600); /* twice as wide, and scrolled to the same place */
		vbe(8, 8);
		vbe(9, 1);
		display_refresh(display);
		CHECK_EQ(pixel(800 - 8 - 1, 298), 0);
		vbe(9, 0);
		vbe(8, 800);
		display_refresh(display);
		CHECK_EQ(pixel(799, 299), depth[i].rgb);
	}
	vbe(1, 65535);
	vbe(2, 65535);
	vbe(8, 65535);
	vbe(9, 65535);
	CHECK_EQ(vbe_get(1), 4096);
	CHECK(vbe_get(2) * 4096 * 4 <= 16 << 20);
	display_refresh(display);
	vbe(4, 0);
	stop();
}

/* An engine that knows what vCPUs write: of this byte it says so when it is asked to. */
static bool noted;
static uint64_t noted_offset;

static void note(void *opaque)
{
	(void)opaque;
	if (noted)
		__atomic_fetch_or(&memory.state[noted_offset >> PAGE_SHIFT], PAGE_DIRTY, __ATOMIC_RELAXED);
	noted = false;
}

/* Nothing is drawn anew unless display memory was written, by whomever, or a register changed. */
static void unwritten(void)
{
	start();
	outb(0x3c2, 0x63);
	screen_on();
	vbe(1, 800);
	vbe(2, 600);
	vbe(3, 8);
	vbe(4, 0x41);
	gr(8, 0xff);
	vbe(5, 0);
	dac(0, 0, 0, 0);
	dac(1, 63, 0, 0);
	dac(2, 0, 63, 0);
	uint8_t *p = memory_hva_writable(&memory, WINDOW, 0x10000), two = 2;
	CHECK(p != NULL);
	if (!p)
		return;
	display_refresh(display);
	p[5] = 1;
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0xff0000); /* nobody can tell: drawn each time */
	memory.note_written = note;
	noted_offset = (uint64_t)(p - memory.base);
	display_refresh(display);
	p[5] = 0;
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0xff0000);
	noted = true;
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0);
	p[5] = 1;
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0);
	memory_block_write(&memory, noted_offset + 6, &two, 1);
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0xff0000);
	CHECK_EQ(pixel(6, 0), 0x00ff00);
	dac(1, 0, 0, 63);
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0x0000ff);
	p[5] = 2;
	inb(0x3da);
	outb(0x3c0, 0); /* blanked, and not */
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0);
	inb(0x3da);
	outb(0x3c0, 0x20);
	display_refresh(display);
	CHECK_EQ(pixel(5, 0), 0x00ff00);
	vbe(4, 0);
	memory.note_written = NULL;
	stop();
}

static void vbe_planar(void)
{
	start();
	outb(0x3c2, 0x63);
	vbe(1, 800);
	vbe(2, 600);
	vbe(3, 4);
	vbe(4, 1);
	for (unsigned i = 0; i < 16; i++) {
		attr(i, i);
		dac(i, i, 2 * i, 3 * i);
	}
	attr(0x12, 0xf);
	screen_on();
	gr(5, 0);
	gr(8, 0xff);
	seq(2, 6);
	mmio_out(WINDOW + 101, 1, 0x80);
	display_refresh(display);
	CHECK_EQ(pixel(8, 1), color(6));
	CHECK_EQ(pixel(9, 1), color(0));
	vbe(8, 3);
	vbe(6, 816);
	display_refresh(display);
	CHECK_EQ(display_width(display), 800);
	stop();
}

/* Viewers hear of what has changed, once, and only of that. */
static void changes(void)
{
	struct display_viewer a = {0}, b = {0};

	start();
	text_mode();
	display_refresh(display);
	display_add_viewer(display, &a);
	CHECK(a.resized && a.changed[0] == ~0ull);
	memset(&a.changed, 0, sizeof a.changed);
	a.resized = false;
	display_add_viewer(display, &b);
	memset(&b.changed, 0, sizeof b.changed);
	display_refresh(display);
	for (unsigned i = 0; i < DISPLAY_TILE_ROWS; i++)
		CHECK_EQ(a.changed[i], 0);
	mmio_out(TEXT + (80 * 3 + 16) * 2, 2, 0x0741);
	display_refresh(display);
	CHECK(!a.resized);
	CHECK_EQ(a.changed[2], 0);
	CHECK_EQ(a.changed[3], 1 << 16 * 8 / 64);
	CHECK_EQ(b.changed[3], a.changed[3]);
	CHECK_EQ(a.changed[4], 0);
	display_remove_viewer(display, &a);
	memset(&a.changed, 0, sizeof a.changed);
	crtc(0x01, 39);
	display_refresh(display);
	CHECK(!a.resized && a.changed[0] == 0);
	CHECK(b.resized && b.changed[0] == ~0ull);
	display_remove_viewer(display, &b);
	stop();
}

static void hostile(void)
{
	start();
	for (unsigned i = 0; i < 200; i++) {
		abuse(&pio, 0x3b0, 0x30, 200);
		abuse(&pio, 0x1ce, 3, 20);
		abuse(&mmio, WINDOW, 0x20000, 50);
		screen_on();
		display_refresh(display);
	}
	stop();
}

int main(void)
{
	registers();
	text();
	blinking();
	planar();
	split();
	mode_13h();
	mode_4();
	vbe_modes();
	vbe_planar();
	unwritten();
	changes();
	hostile();
	return summary();
}
