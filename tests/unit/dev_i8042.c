/*
 * The keyboard controller and its keyboard, as firmware and Linux's i8042 and atkbd drivers probe them.
 */
#include "dev/i8042.h"

#include "dev_fixture.h"
#include "ui/input.h"

#include <linux/input-event-codes.h>

#define DATA 0x60
#define CMD 0x64
#define OBF 0x01
#define AUX 0x20
#define TIMEOUT 0x40

static struct i8042 *k;
static unsigned resets;

static void reset(void *opaque)
{
	(void)opaque;
	resets++;
}

static void start(void)
{
	fixture_start();
	resets = 0;
	k = i8042_new(&pio, test_line(1), test_line(12), reset, NULL);
}

static void stop(void)
{
	i8042_free(k);
	fixture_stop();
}

static void expect(uint8_t value)
{
	CHECK(inb(CMD) & OBF);
	CHECK_EQ(inb(DATA), value);
}

static void expect_nothing(void) { CHECK_EQ(inb(CMD) & OBF, 0); }

static void controller(void)
{
	start();
	CHECK_EQ(inb(CMD), 0x14);
	outb(CMD, 0xaa);
	expect(0x55);
	expect_nothing();
	outb(CMD, 0xab);
	expect(0);
	outb(CMD, 0xa4);
	expect(0xf1);
	outb(CMD, 0x20);
	expect(0x65);
	outb(CMD, 0x60);
	CHECK_EQ(inb(CMD), 0x1c); /* the last write was a command */
	outb(DATA, 0x74);
	CHECK_EQ(inb(CMD), 0x14);
	outb(CMD, 0x20);
	expect(0x74);
	outb(CMD, 0xae);
	outb(CMD, 0xa8);
	outb(CMD, 0x20);
	expect(0x44);
	outb(CMD, 0xad);
	outb(CMD, 0xa7);
	outb(CMD, 0x20);
	expect(0x74);
	outb(CMD, 0x7f); /* the RAM's last byte */
	outb(DATA, 0x99);
	outb(CMD, 0x3f);
	expect(0x99);
	outb(CMD, 0x60); /* the system flag shows in the status */
	outb(DATA, 0x70);
	CHECK_EQ(inb(CMD), 0x10);
	outb(CMD, 0xaa);
	CHECK_EQ(inb(CMD), 0x1d);
	expect(0x55);
	outb(CMD, 0xc0);
	expect(0xa0);
	outb(CMD, 0xe0);
	expect(0);
	outb(CMD, 0x42); /* no such command */
	expect_nothing();
	stop();
}

static void a20_and_reset(void)
{
	start();
	outb(CMD, 0xd0);
	expect(0xc3);
	outb(CMD, 0xd1);
	outb(DATA, 0xdd);
	outb(CMD, 0xd0);
	expect(0xc1);
	outb(CMD, 0xdf);
	outb(CMD, 0xd0);
	expect(0xc3);
	outb(CMD, 0xd2); /* bits 4 and 5 are the interrupt lines */
	outb(DATA, 0);
	outb(CMD, 0xd0);
	expect(0);
	expect(0xd3); /* it was answered when the buffer was full: IRQ 1 */
	outb(CMD, 0xff);
	CHECK_EQ(resets, 0);
	outb(CMD, 0xfe);
	CHECK_EQ(resets, 1);
	outb(CMD, 0xd1);
	outb(DATA, 0xfe);
	CHECK_EQ(resets, 2);
	stop();
}

/* The auxiliary port works, and nothing is plugged in. */
static void auxiliary(void)
{
	start();
	outb(CMD, 0x60);
	outb(DATA, 0x47); /* both interrupts */
	outb(CMD, 0xd3);
	outb(DATA, 0x5a);
	CHECK_EQ(inb(CMD) & (OBF | AUX), OBF | AUX);
	CHECK(lines[12].level && !lines[1].level);
	CHECK_EQ(inb(DATA), 0x5a);
	CHECK(!lines[12].level);
	outb(CMD, 0xa9);
	expect(0);
	outb(CMD, 0xd4);
	outb(DATA, 0xff);
	CHECK_EQ(inb(CMD) & (OBF | AUX | TIMEOUT), OBF | AUX | TIMEOUT);
	expect(0xfe);
	CHECK_EQ(inb(CMD) & (OBF | AUX | TIMEOUT), 0);
	stop();
}

static void keyboard(void)
{
	start();
	CHECK_EQ(lines[1].rises, 0);
	outb(DATA, 0xff);
	CHECK_EQ(lines[1].rises, 1);
	expect(0xfa);
	CHECK_EQ(lines[1].rises, 2); /* falls and rises for each byte */
	expect(0xaa);
	expect_nothing();
	CHECK(!lines[1].level);
	outb(DATA, 0xf2);
	expect(0xfa);
	expect(0xab);
	expect(0x41); /* 0x83, translated */
	outb(DATA, 0xed);
	expect(0xfa);
	outb(DATA, 7);
	expect(0xfa);
	outb(DATA, 0xf3);
	expect(0xfa);
	outb(DATA, 0);
	expect(0xfa);
	outb(DATA, 0xee);
	expect(0xee);
	outb(DATA, 0xfe);
	expect(0xee);
	outb(DATA, 0xf4);
	expect(0xfa);
	outb(DATA, 0xf5);
	expect(0xfa);
	outb(DATA, 0x12); /* no command */
	expect(0xfe);
	outb(DATA, 0xed); /* a command instead of the option byte */
	expect(0xfa);
	outb(DATA, 0xf4);
	expect(0xfa);
	outb(DATA, 0x01);
	expect(0xfe);
	/* Scan code sets, not translated */
	outb(CMD, 0x60);
	outb(DATA, 0x24);
	outb(DATA, 0xf0);
	expect(0xfa);
	outb(DATA, 0);
	expect(0xfa);
	expect(2);
	outb(DATA, 0xf0);
	expect(0xfa);
	outb(DATA, 3);
	expect(0xfa);
	outb(DATA, 0xf0);
	expect(0xfa);
	outb(DATA, 0);
	expect(0xfa);
	expect(3);
	outb(DATA, 0xff); /* RESET: set 2 again */
	expect(0xfa);
	expect(0xaa);
	outb(DATA, 0xf0);
	expect(0xfa);
	outb(DATA, 0);
	expect(0xfa);
	expect(2);
	outb(DATA, 0xfc); /* a list of keys */
	expect(0xfa);
	outb(DATA, 0x1c);
	expect(0xfa);
	outb(DATA, 0x1d);
	expect(0xfa);
	outb(DATA, 0xf2);
	expect(0xfa);
	expect(0xab);
	expect(0x83);
	CHECK(!lines[1].level);
	stop();
}

static void waiting(void)
{
	start();
	outb(DATA, 0xf2);
	outb(CMD, 0xad); /* port off: what is in the buffer stays, the rest waits */
	expect(0xfa);
	expect_nothing();
	outb(CMD, 0x20); /* the controller's own answer comes through */
	expect(0x75);
	outb(CMD, 0xae);
	expect(0xab);
	outb(CMD, 0x20);
	expect(0x41);
	expect(0x65);
	expect_nothing();
	for (unsigned i = 0; i < 1000; i++)
		outb(DATA, 0xf2);
	unsigned n = 0;
	while (inb(CMD) & OBF && n < 1000)
		inb(DATA), n++;
	CHECK(n <= 4);
	stop();
}

static struct input *input;

static void start_with_mouse(void)
{
	start();
	input = input_new();
	i8042_attach(k, input, true);
	outb(CMD, 0x60);
	outb(DATA, 0x47); /* both interrupts, translation */
}

static void stop_with_mouse(void)
{
	stop();
	input_free(input);
}

static void press(unsigned code)
{
	input_key(input, code, true);
	input_key(input, code, false);
}

static void keys(void)
{
	start_with_mouse();
	press(KEY_A);
	CHECK_EQ(lines[1].rises, 1);
	expect(0x1e);
	expect(0x9e);
	press(KEY_F7); /* the one code that translation does not know by its place */
	expect(0x41);
	expect(0xc1);
	press(KEY_UP);
	expect(0xe0);
	expect(0x48);
	expect(0xe0);
	expect(0xc8);
	press(KEY_SYSRQ);
	static const uint8_t print[] = {0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa};
	for (unsigned i = 0; i < sizeof print; i++)
		expect(print[i]);
	press(KEY_PAUSE);
	static const uint8_t pause[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
	for (unsigned i = 0; i < sizeof pause; i++)
		expect(pause[i]);
	expect_nothing();
	press(KEY_LEFTSHIFT + 400); /* no such key */
	press(KEY_MUTE);            /* none that this keyboard has */
	input_key(input, KEY_B, false); /* was not down */
	expect_nothing();
	outb(CMD, 0x60);
	outb(DATA, 0x07); /* as it comes */
	press(KEY_KPENTER);
	static const uint8_t enter[] = {0xe0, 0x5a, 0xe0, 0xf0, 0x5a};
	for (unsigned i = 0; i < sizeof enter; i++)
		expect(enter[i]);
	for (unsigned set = 1; set <= 3; set += 2) {
		outb(DATA, 0xf0);
		expect(0xfa);
		outb(DATA, (uint8_t)set);
		expect(0xfa);
		press(KEY_LEFTCTRL);
		if (set == 1) {
			expect(0x1d);
			expect(0x9d);
		} else {
			expect(0x11);
			expect(0xf0);
			expect(0x11);
		}
	}
	outb(DATA, 0xf5); /* scanning off */
	expect(0xfa);
	press(KEY_A);
	expect_nothing();
	outb(DATA, 0xf4);
	expect(0xfa);
	/* A guest that does not read: keys are lost, but none stays down. */
	for (unsigned i = 0; i < 1000; i++)
		press(KEY_A);
	unsigned n = 0, down = 0, up = 0;
	for (bool released = false; inb(CMD) & OBF && n < 2000; n++) {
		uint8_t c = inb(DATA);

		if (c == 0xf0) {
			released = true;
			continue;
		}
		down += !released;
		up += released;
		released = false;
	}
	CHECK(n > 30 && n <= 258);
	CHECK(up >= down && down > 10);
	/* What is down is let go when a viewer leaves. */
	input_key(input, KEY_A, true);
	expect(0x1c);
	input_release_all(input);
	expect(0xf0);
	expect(0x1c);
	expect_nothing();
	stop_with_mouse();
}

static void mouse_byte(uint8_t value)
{
	CHECK_EQ(inb(CMD) & (OBF | AUX | TIMEOUT), OBF | AUX);
	CHECK_EQ(inb(DATA), value);
}

static void to_mouse(uint8_t value)
{
	outb(CMD, 0xd4);
	outb(DATA, value);
	mouse_byte(0xfa);
}

static void mouse(void)
{
	start_with_mouse();
	input_pointer(input, 10, 10, 640, 480, 0, 0);
	input_pointer(input, 20, 20, 640, 480, 0, 0); /* not enabled yet */
	expect_nothing();
	to_mouse(0xff);
	mouse_byte(0xaa);
	mouse_byte(0);
	to_mouse(0xf2);
	mouse_byte(0);
	to_mouse(0xf4);
	input_pointer(input, 25, 17, 640, 480, 0, INPUT_LEFT);
	CHECK(lines[12].level);
	mouse_byte(0x09);
	mouse_byte(5);
	mouse_byte(3); /* up */
	input_pointer(input, 20, 20, 640, 480, 0, INPUT_RIGHT | INPUT_MIDDLE);
	mouse_byte(0x3e);
	mouse_byte(0xfb);
	mouse_byte(0xfd);
	expect_nothing();
	/* Far away, while the guest does not look; and then in packets, each as much as one can say. */
	input_pointer(input, 21, 20, 640, 480, 0, 0);
	input_pointer(input, 521, 20, 640, 480, 0, 0);
	input_pointer(input, 621, 20, 640, 480, 0, 0);
	mouse_byte(0x08);
	mouse_byte(1);
	mouse_byte(0);
	mouse_byte(0x08);
	mouse_byte(255);
	mouse_byte(0);
	mouse_byte(0x08);
	mouse_byte(255);
	mouse_byte(0);
	mouse_byte(0x08);
	mouse_byte(90);
	mouse_byte(0);
	expect_nothing();
	/* The wheel, once it was knocked for. */
	static const uint8_t knock[] = {200, 100, 80};
	for (unsigned i = 0; i < 3; i++) {
		to_mouse(0xf3);
		to_mouse(knock[i]);
	}
	to_mouse(0xf2);
	mouse_byte(3);
	input_pointer(input, 621, 20, 640, 480, -1, 0);
	mouse_byte(0x08);
	mouse_byte(0);
	mouse_byte(0);
	mouse_byte(0xff);
	to_mouse(0xe8);
	to_mouse(1);
	to_mouse(0xe9);
	mouse_byte(0x20);
	mouse_byte(1);
	mouse_byte(80);
	to_mouse(0xf0); /* remote: only when asked */
	input_pointer(input, 620, 20, 640, 480, 0, 0);
	expect_nothing();
	to_mouse(0xeb);
	mouse_byte(0x18);
	mouse_byte(0xff);
	mouse_byte(0);
	mouse_byte(0);
	to_mouse(0xee); /* wrap */
	outb(CMD, 0xd4);
	outb(DATA, 0x77);
	mouse_byte(0x77);
	to_mouse(0xec);
	outb(CMD, 0xd4);
	outb(DATA, 0x11);
	mouse_byte(0xfe);
	/* Keyboard and mouse side by side: each byte says whose it is. */
	to_mouse(0xea);
	press(KEY_A);
	input_pointer(input, 625, 20, 640, 480, 0, 0);
	expect(0x1e);
	expect(0x9e);
	mouse_byte(0x08);
	mouse_byte(5);
	mouse_byte(0);
	mouse_byte(0);
	/* A click that is over before the guest looks is two packets. */
	input_pointer(input, 625, 20, 640, 480, 0, INPUT_LEFT);
	input_pointer(input, 625, 20, 640, 480, 0, 0);
	input_pointer(input, 625, 20, 640, 480, 0, INPUT_LEFT);
	input_pointer(input, 625, 20, 640, 480, 0, 0);
	unsigned pressed = 0;
	for (unsigned i = 0; i < 4; i++) {
		pressed += inb(DATA) & 1;
		mouse_byte(0);
		mouse_byte(0);
		mouse_byte(0);
	}
	CHECK_EQ(pressed, 2);
	expect_nothing();
	for (unsigned i = 0; i < 10000; i++)
		input_pointer(input, (unsigned)random64(), (unsigned)random64(), 640, 480, (int)random64(), i);
	stop_with_mouse();
}

int main(void)
{
	keys();
	mouse();
	controller();
	a20_and_reset();
	auxiliary();
	keyboard();
	waiting();
	start();
	abuse(&pio, 0x60, 5, 100000);
	stop();
	start_with_mouse();
	for (unsigned i = 0; i < 100; i++) {
		abuse(&pio, 0x60, 5, 1000);
		press((unsigned)random64() % 256);
		input_pointer(input, (unsigned)random64() % 1000, 5, 640, 480, 1, (unsigned)random64());
	}
	stop_with_mouse();
	return summary();
}
