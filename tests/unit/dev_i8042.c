/*
 * The keyboard controller and its keyboard, as firmware and Linux's i8042 and atkbd drivers probe them.
 */
#include "dev/i8042.h"

#include "dev_fixture.h"

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

int main(void)
{
	controller();
	a20_and_reset();
	auxiliary();
	keyboard();
	waiting();
	start();
	abuse(&pio, 0x60, 5, 100000);
	stop();
	return summary();
}
