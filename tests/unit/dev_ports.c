/*
 * The small devices: reset control and port A, debug exit, debug console, testdev.
 */
#include "dev/debug.h"
#include "dev/pvpanic.h"
#include "dev/reset.h"
#include "dev/testdev.h"
#include "dev_fixture.h"
#include "pci/host.h"
#include "pci/pci.h"

static unsigned resets;
static uint32_t status;
static char text[4096];
static size_t text_len, text_calls;

static void reset(void *opaque)
{
	(void)opaque;
	resets++;
}

static void exited(void *opaque, uint32_t s)
{
	(void)opaque;
	status = s;
}

static void output(void *opaque, const uint8_t *data, size_t len)
{
	(void)opaque;
	text_calls++;
	if (len <= sizeof text - text_len) {
		memcpy(text + text_len, data, len);
		text_len += len;
	}
}

static void reset_control(void)
{
	fixture_start();
	struct reset_control *r = reset_new(&pio, reset, NULL);
	struct pci_bus *bus = pci_bus_new(&(struct pci_bus_config){.pio = &pio, .mmio = &mmio});
	struct pci_config_ports ports;

	CHECK_EQ(pci_config_ports_init(&ports, &pio, bus, r), 0);
	CHECK_EQ(inb(0xcf9), 0);
	outb(0xcf9, 0x02);
	CHECK_EQ(resets, 0);
	CHECK_EQ(inb(0xcf9), 0x02);
	outb(0xcf9, 0x06);
	CHECK_EQ(resets, 1);
	outb(0xcf9, 0x06); /* no edge */
	CHECK_EQ(resets, 1);
	outb(0xcf9, 0x00);
	outb(0xcf9, 0x0e);
	CHECK_EQ(resets, 2);
	outb(0xcf9, 0);
	/* Wider accesses are PCI's. */
	out(0xcf8, 4, 0xffffffff);
	CHECK_EQ(in(0xcf8, 4), 0x80fffffc);
	CHECK_EQ(inb(0xcf8), 0xff);
	CHECK_EQ(resets, 2);
	outb(0xcf9, 0xff); /* asserted; the bits that there are */
	CHECK_EQ(inb(0xcf9), 0x0e);
	CHECK_EQ(resets, 3);
	resets = 2;
	CHECK_EQ(inb(0x92), 2);
	outb(0x92, 0);
	CHECK_EQ(inb(0x92), 0);
	outb(0x92, 0xfe);
	CHECK_EQ(inb(0x92), 2);
	CHECK_EQ(resets, 2);
	outb(0x92, 3);
	CHECK_EQ(resets, 3);
	reset_reset(r);
	CHECK_EQ(inb(0x92), 2);
	CHECK_EQ(inb(0xcf9), 0);
	abuse(&pio, 0xcf8, 4, 10000);
	abuse(&pio, 0x92, 1, 10000);
	pci_bus_free(bus);
	reset_free(r);
	fixture_stop();
}

static unsigned panics, last_event;

static void panicked(void *opaque, uint8_t event)
{
	(void)opaque;
	panics++;
	last_event = event;
}

static void panic(void)
{
	fixture_start();
	struct pvpanic *p = pvpanic_new(&pio, panicked, NULL);

	CHECK_EQ(inb(PVPANIC_PORT), 3);
	outb(PVPANIC_PORT, 0xfc);
	CHECK_EQ(panics, 0);
	outb(PVPANIC_PORT, PVPANIC_PANICKED);
	CHECK(panics == 1 && last_event == PVPANIC_PANICKED);
	out(PVPANIC_PORT, 4, PVPANIC_CRASH_LOADED);
	CHECK(panics == 2 && last_event == PVPANIC_CRASH_LOADED);
	pvpanic_free(p);
	fixture_stop();
}

static void debug_ports(void)
{
	fixture_start();
	struct debug_exit *e = debug_exit_new(&pio, 0xf4, exited, NULL);
	struct debug_console *c = debug_console_new(&pio, DEBUG_CONSOLE_PORT, output, NULL);
	CHECK(e && c);
	CHECK(debug_exit_new(&pio, 0xf0, exited, NULL) != NULL);
	CHECK(debug_exit_new(&pio, 0xf1, exited, NULL) == NULL);
	CHECK_EQ(errno, EEXIST);
	outb(0xf4, 0);
	CHECK_EQ(status, 1);
	outb(0xf4, 0x10);
	CHECK_EQ(status, 0x21);
	out(0xf4, 2, 0x1234);
	CHECK_EQ(status, 0x2469);
	out(0xf4, 4, 0x80000001);
	CHECK_EQ(status, 3);
	CHECK_EQ(in(0xf4, 4), 0);
	CHECK_EQ(inb(0xe9), 0xe9);
	for (const char *s = "hello\nworld"; *s; s++)
		outb(0xe9, (uint8_t)*s);
	CHECK_EQ(text_len, 6);
	debug_console_flush(c);
	CHECK_EQ(text_len, 11);
	CHECK(!memcmp(text, "hello\nworld", 11));
	CHECK_EQ(text_calls, 2);
	for (unsigned i = 0; i < 300; i++)
		outb(0xe9, 'x');
	CHECK_EQ(text_len, 11 + 256);
	debug_console_free(c); /* flushes */
	CHECK_EQ(text_len, 11 + 300);
	abuse(&pio, 0xf4, 4, 1000);
	debug_exit_free(e);
	for (unsigned i = 0; i < pio.count; i++)
		if (pio.region[i].base == 0xf0)
			debug_exit_free(pio.region[i].dev);
	fixture_stop();
}

static void test_device(void)
{
	fixture_start();
	struct testdev *t = testdev_new(&pio, &mmio, test_line(0));
	out(0xe0, 4, 0x12345678);
	CHECK_EQ(in(0xe0, 4), 0x12345678);
	CHECK_EQ(in(0xe0, 2), 0x5678);
	CHECK_EQ(in(0xe2, 2), 0x1234);
	CHECK_EQ(inb(0xe1), 0x56);
	outb(0xe3, 0xff);
	CHECK_EQ(in(0xe0, 4), 0xff345678);
	out(0xe4, 4, 0x1000);
	CHECK_EQ(in(0xe0, 4), 0xff345678);
	outb(0x2000 + 5, 1);
	CHECK_EQ(lines[5].level, 1);
	outb(0x2000 + 5, 0);
	CHECK_EQ(lines[5].level, 0);
	out(0x2000 + 23, 4, 1);
	CHECK_EQ(lines[23].level, 1);
	mmio_out(0xff000000, 8, 0x1122334455667788);
	CHECK_EQ(mmio_in(0xff000001, 4), 0x44556677);
	mmio_out(0xff00ffff, 8, 0xab);
	CHECK_EQ(mmio_in(0xff00ffff, 1), 0xab);
	abuse(&mmio, 0xff000000, 0x10000, 20000);
	abuse(&pio, 0xe0, 8, 10000);
	abuse(&pio, 0x2000, 24, 10000);
	testdev_free(t);
	fixture_stop();
}

int main(void)
{
	reset_control();
	panic();
	debug_ports();
	test_device();
	return summary();
}
