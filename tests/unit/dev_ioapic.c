/*
 * The I/O APIC: registers, edge and level pins, remote IRR, masks, and what goes to the local APICs.
 */
#include "irq/ioapic.h"

#include "dev_fixture.h"
#include "irq/lapic.h"

#define SELECT 0xfec00000ull
#define WINDOW 0xfec00010ull
#define EOI 0xfec00040ull
#define MASKED 0x10000u
#define LEVEL 0x8000u
#define REMOTE_IRR 0x4000u
#define LOGICAL 0x800u

static struct ioapic *io;
static struct lapic_message last;
static unsigned sent;

static void deliver(void *opaque, const struct lapic_message *m)
{
	(void)opaque;
	last = *m;
	sent++;
}

static uint32_t reg(unsigned i)
{
	mmio_out(SELECT, 4, i);
	return (uint32_t)mmio_in(WINDOW, 4);
}

static void set_reg(unsigned i, uint32_t value)
{
	mmio_out(SELECT, 4, i);
	mmio_out(WINDOW, 4, value);
}

static void start(void)
{
	fixture_start();
	sent = 0;
	io = ioapic_new(&mmio, 5, deliver, NULL);
}

static void stop(void)
{
	ioapic_free(io);
	fixture_stop();
}

static void registers(void)
{
	start();
	CHECK_EQ(reg(0), 5u << 24);
	CHECK_EQ(reg(1), 23 << 16 | 0x20);
	CHECK_EQ(reg(2), 5u << 24);
	set_reg(0, 0xffffffff);
	CHECK_EQ(reg(0), 0x0f000000);
	set_reg(1, 0);
	CHECK_EQ(reg(1), 23 << 16 | 0x20);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		CHECK_EQ(reg(0x10 + 2 * pin), MASKED);
		CHECK_EQ(reg(0x11 + 2 * pin), 0);
	}
	set_reg(0x10 + 2 * 7, 0xffffffff);
	CHECK_EQ(reg(0x10 + 2 * 7), 0x1afff); /* delivery status and remote IRR are read-only */
	set_reg(0x11 + 2 * 7, 0xffffffff);
	CHECK_EQ(reg(0x11 + 2 * 7), 0xff000000);
	CHECK_EQ(reg(0x3f), 0);
	CHECK_EQ(reg(0x40), 0);
	CHECK_EQ(reg(0xff), 0);
	mmio_out(SELECT, 1, 1);
	CHECK_EQ(mmio_in(SELECT, 4), 1);
	CHECK_EQ(sent, 0);
	stop();
}

static void edges(void)
{
	start();
	set_reg(0x11 + 2 * 4, 3u << 24);
	set_reg(0x10 + 2 * 4, 0x41 | LOGICAL | LAPIC_LOWEST << 8);
	ioapic_set_irq(io, 4, 1);
	CHECK_EQ(sent, 1);
	CHECK_EQ(last.vector, 0x41);
	CHECK_EQ(last.dest, 3);
	CHECK_EQ(last.mode, LAPIC_LOWEST);
	CHECK(last.logical && !last.level);
	ioapic_set_irq(io, 4, 1);
	CHECK_EQ(sent, 1);
	ioapic_set_irq(io, 4, 0);
	ioapic_set_irq(io, 4, 1);
	CHECK_EQ(sent, 2);
	/* An edge on a masked pin is lost. */
	ioapic_set_irq(io, 4, 0);
	set_reg(0x10 + 2 * 4, 0x41 | MASKED);
	ioapic_set_irq(io, 4, 1);
	set_reg(0x10 + 2 * 4, 0x41);
	CHECK_EQ(sent, 2);
	/* ExtINT, NMI */
	set_reg(0x10, 0x700);
	ioapic_set_irq(io, 0, 1);
	CHECK_EQ(sent, 3);
	CHECK_EQ(last.mode, LAPIC_EXTINT);
	CHECK(!last.logical);
	set_reg(0x12, 0x400 | LEVEL);
	ioapic_set_irq(io, 1, 1);
	CHECK_EQ(sent, 4);
	CHECK_EQ(last.mode, LAPIC_NMI);
	CHECK(!last.level);
	set_reg(0x14, 0x350); /* reserved mode: nothing */
	ioapic_set_irq(io, 2, 1);
	CHECK_EQ(sent, 4);
	ioapic_set_irq(io, 24, 1);
	ioapic_set_irq(io, UINT32_MAX, 1);
	CHECK_EQ(sent, 4);
	stop();
}

static void levels(void)
{
	const unsigned pin = 9, low = 0x10 + 2 * pin;

	start();
	ioapic_set_irq(io, pin, 1);
	set_reg(low, 0x61 | LEVEL); /* unmasked while it is high: sent */
	CHECK_EQ(sent, 1);
	CHECK(last.level);
	CHECK_EQ(reg(low), 0x61 | LEVEL | REMOTE_IRR);
	ioapic_set_irq(io, pin, 0);
	ioapic_set_irq(io, pin, 1);
	CHECK_EQ(sent, 1); /* waits for its EOI */
	ioapic_eoi(io, 0x60);
	CHECK_EQ(sent, 1);
	ioapic_eoi(io, 0x61);
	CHECK_EQ(sent, 2); /* still high: again */
	ioapic_set_irq(io, pin, 0);
	ioapic_eoi(io, 0x61);
	CHECK_EQ(sent, 2);
	CHECK_EQ(reg(low), 0x61 | LEVEL);
	/* The EOI of a vector is for all pins that have it and wait for it, and for no other. */
	set_reg(0x10, 0x61 | LEVEL);
	ioapic_set_irq(io, 0, 1);
	CHECK_EQ(sent, 3);
	ioapic_set_irq(io, 0, 0);
	set_reg(0x10, 0x61);
	ioapic_set_irq(io, 0, 1);
	CHECK_EQ(sent, 4);
	ioapic_eoi(io, 0x61); /* edge: nothing to send again */
	CHECK_EQ(sent, 4);
	set_reg(0x10, MASKED);
	set_reg(0x10, 0x61 | LEVEL);
	CHECK_EQ(sent, 5);
	ioapic_eoi(io, 0x61);
	CHECK_EQ(sent, 6);
	set_reg(0x10, MASKED);
	ioapic_set_irq(io, 0, 0);
	sent = 2;
	/* Masked with remote IRR set: the EOI clears it, nothing is sent before it is unmasked. */
	ioapic_set_irq(io, pin, 1);
	CHECK_EQ(sent, 3);
	set_reg(low, 0x61 | LEVEL | MASKED);
	CHECK_EQ(reg(low), 0x61 | LEVEL | MASKED | REMOTE_IRR);
	mmio_out(EOI, 4, 0x61);
	CHECK_EQ(reg(low), 0x61 | LEVEL | MASKED);
	CHECK_EQ(sent, 3);
	set_reg(low, 0x61 | LEVEL);
	CHECK_EQ(sent, 4);
	/* To edge and back: clears remote IRR. */
	set_reg(low, 0x61 | MASKED);
	CHECK_EQ(reg(low), 0x61 | MASKED);
	set_reg(low, 0x61 | LEVEL);
	CHECK_EQ(sent, 5);
	ioapic_reset(io);
	CHECK_EQ(reg(low), MASKED);
	stop();
}

static void hostile(void)
{
	start();
	for (unsigned i = 0; i < 20000; i++) {
		ioapic_set_irq(io, random64() % 26, random64() % 2);
		abuse(&mmio, 0xfec00000, 0x50, 1);
		if (random64() % 4 == 0)
			mmio_out(SELECT, 4, random64() % 64);
		ioapic_eoi(io, (uint8_t)random64());
	}
	abuse(&mmio, 0xfec00000, 0x1000, 1000);
	stop();
}

static unsigned changes;

static void on_change(void *opaque)
{
	(void)opaque;
	changes++;
}

/* What is answered by an EOI, for whoever has the local APICs: masks do not change it. */
static void routes(void)
{
	struct lapic_message m;

	start();
	ioapic_watch_routes(io, on_change);
	changes = 0;
	CHECK(!ioapic_route(io, 9, &m));
	set_reg(0x10 + 2 * 9, MASKED | 0x41);
	CHECK_EQ(changes, 0);
	set_reg(0x11 + 2 * 9, 3u << 24);
	CHECK_EQ(changes, 0);
	set_reg(0x10 + 2 * 9, MASKED | LEVEL | LOGICAL | 0x42);
	CHECK_EQ(changes, 1);
	CHECK(ioapic_route(io, 9, &m));
	CHECK_EQ(m.dest, 3);
	CHECK(m.logical && m.level);
	CHECK_EQ(m.vector, 0x42);
	set_reg(0x10 + 2 * 9, LEVEL | LOGICAL | 0x42);
	CHECK_EQ(changes, 1);
	CHECK_EQ(ioapic_waits_for(io, 9), -1);
	ioapic_set_irq(io, 9, 1);
	CHECK_EQ(ioapic_waits_for(io, 9), 0x42);
	ioapic_set_irq(io, 9, 0);
	ioapic_eoi(io, 0x42);
	CHECK_EQ(ioapic_waits_for(io, 9), -1);
	set_reg(0x11 + 2 * 9, 4u << 24);
	CHECK_EQ(changes, 2);
	set_reg(0x10 + 2 * 9, LEVEL | LOGICAL | 0x442); /* NMIs are edges */
	CHECK_EQ(changes, 3);
	CHECK(!ioapic_route(io, 9, &m));
	stop();
}

int main(void)
{
	registers();
	routes();
	edges();
	levels();
	hostile();
	return summary();
}
