/*
 * The 8259A pair, driven by the sequences of its data sheet.
 */
#include "irq/pic.h"

#include "dev_fixture.h"

#define M0 0x20 /* master, even port */
#define M1 0x21
#define S0 0xa0
#define S1 0xa1
#define EOI 0x20

static struct pic *pic;
static int intr;
static unsigned intr_changes;

static void on_intr(void *opaque, int level)
{
	(void)opaque;
	intr = level;
	intr_changes++;
}

/* As systems do it: vectors 0x30 and 0x38, all unmasked. */
static void init(uint8_t icw4)
{
	outb(M0, 0x11);
	outb(M1, 0x30);
	outb(M1, 0x04);
	outb(M1, icw4);
	outb(S0, 0x11);
	outb(S1, 0x38);
	outb(S1, 0x02);
	outb(S1, icw4 & 0x0f);
	outb(M1, 0);
	outb(S1, 0);
}

static void start(uint8_t icw4)
{
	fixture_start();
	intr = 0;
	pic = pic_new(&pio, on_intr, NULL);
	init(icw4);
}

static void stop(void)
{
	pic_free(pic);
	fixture_stop();
}

static void pulse(unsigned irq)
{
	pic_set_irq(pic, irq, 1);
	pic_set_irq(pic, irq, 0);
}

static uint8_t isr(uint16_t port)
{
	outb(port, 0x0b);
	return inb(port);
}

static uint8_t irr(uint16_t port)
{
	outb(port, 0x0a);
	return inb(port);
}

static void fully_nested(void)
{
	start(1);
	CHECK(!pic_pending(pic) && !intr);
	pulse(4);
	CHECK(pic_pending(pic) && intr);
	CHECK_EQ(irr(M0), 1 << 4);
	CHECK_EQ(pic_ack(pic), 0x34);
	CHECK(!pic_pending(pic) && !intr);
	CHECK_EQ(isr(M0), 1 << 4);
	CHECK_EQ(irr(M0), 0);
	pulse(5); /* lower: waits */
	CHECK(!pic_pending(pic));
	pulse(4); /* the same: waits */
	CHECK(!pic_pending(pic));
	pulse(1); /* higher: nests */
	CHECK(pic_pending(pic));
	CHECK_EQ(pic_ack(pic), 0x31);
	CHECK_EQ(isr(M0), 1 << 4 | 1 << 1);
	outb(M0, EOI); /* ends the higher one */
	CHECK_EQ(isr(M0), 1 << 4);
	CHECK(!pic_pending(pic));
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x34);
	outb(M0, 0x60 | 4); /* specific */
	CHECK_EQ(pic_ack(pic), 0x35);
	outb(M0, 0x60 | 5);
	CHECK(!pic_pending(pic));
	pulse(0);
	CHECK(pic_pending(pic) && intr);
	CHECK_EQ(pic_ack(pic), 0x30);
	stop();
}

static void masks_and_edges(void)
{
	start(1);
	outb(M1, 1 << 3);
	CHECK_EQ(inb(M1), 1 << 3);
	pic_set_irq(pic, 3, 1);
	CHECK(!pic_pending(pic));
	outb(M1, 0);
	CHECK(pic_pending(pic)); /* the edge was kept */
	CHECK_EQ(pic_ack(pic), 0x33);
	outb(M0, EOI);
	CHECK(!pic_pending(pic)); /* still high, no new edge */
	pic_set_irq(pic, 3, 1);
	CHECK(!pic_pending(pic));
	pic_set_irq(pic, 3, 0);
	pic_set_irq(pic, 3, 1);
	CHECK(pic_pending(pic));
	CHECK_EQ(pic_ack(pic), 0x33);
	pic_set_irq(pic, 3, 0);
	pic_set_irq(pic, 3, 1);
	init(1); /* ICW1 forgets edges, and what is in service */
	CHECK_EQ(isr(M0), 0);
	CHECK(!pic_pending(pic));
	CHECK_EQ(irr(M0), 0);
	pic_set_irq(pic, 16, 1); /* no such lines */
	pic_set_irq(pic, 2, 1);
	CHECK(!pic_pending(pic));
	stop();
}

static void cascade(void)
{
	start(1);
	pulse(12);
	CHECK(intr);
	CHECK_EQ(pic_ack(pic), 0x3c);
	CHECK_EQ(isr(M0), 1 << 2);
	CHECK_EQ(isr(S0), 1 << 4);
	pulse(8); /* higher on the slave, but the master serves IR2: waits */
	CHECK(!pic_pending(pic));
	pulse(0);
	CHECK_EQ(pic_ack(pic), 0x30);
	outb(M0, EOI);
	outb(S0, EOI);
	CHECK(!pic_pending(pic));
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x38);
	outb(S0, EOI);
	outb(M0, EOI);
	CHECK_EQ(isr(M0) | isr(S0), 0);
	/* The slave's priorities are between 1 and 3 of the master. */
	pulse(3);
	pulse(15);
	pulse(1);
	CHECK_EQ(pic_ack(pic), 0x31);
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x3f);
	outb(S0, EOI);
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x33);
	stop();
}

static void special_fully_nested(void)
{
	start(0x11);
	pulse(12);
	CHECK_EQ(pic_ack(pic), 0x3c);
	pulse(8);
	CHECK(pic_pending(pic)); /* a higher one of the same slave gets through */
	CHECK_EQ(pic_ack(pic), 0x38);
	pulse(5);
	CHECK(!pic_pending(pic)); /* a lower one of the master does not */
	outb(S0, EOI);
	outb(S0, EOI);
	CHECK_EQ(isr(S0), 0);
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x35);
	stop();
}

static void spurious(void)
{
	start(1);
	outb(0x4d0, 1 << 5); /* level-triggered */
	pic_set_irq(pic, 5, 1);
	CHECK(pic_pending(pic));
	pic_set_irq(pic, 5, 0);
	CHECK(!pic_pending(pic));
	CHECK_EQ(pic_ack(pic), 0x37);
	CHECK_EQ(isr(M0), 0);
	stop();
}

static void level(void)
{
	start(1);
	CHECK_EQ(in(0x4d0, 2), 0);
	out(0x4d0, 2, 0xffff);
	CHECK_EQ(in(0x4d0, 2), 0xdef8); /* 0, 1, 2, 8 and 13 are edges for ever */
	pic_set_irq(pic, 10, 1);
	CHECK_EQ(pic_ack(pic), 0x3a);
	CHECK_EQ(irr(S0), 1 << 2); /* still asked for */
	outb(S0, EOI);
	outb(M0, EOI);
	CHECK(pic_pending(pic));
	CHECK_EQ(pic_ack(pic), 0x3a);
	pic_set_irq(pic, 10, 0);
	outb(S0, EOI);
	outb(M0, EOI);
	CHECK(!pic_pending(pic));
	CHECK_EQ(irr(S0), 0);
	CHECK_EQ(irr(M0), 0);
	stop();
}

static void automatic_eoi_and_rotation(void)
{
	start(3);
	pulse(6);
	CHECK_EQ(pic_ack(pic), 0x36);
	CHECK_EQ(isr(M0), 0);
	outb(M0, 0x80); /* rotate in automatic EOI mode */
	pulse(3);
	CHECK_EQ(pic_ack(pic), 0x33); /* 3 is now the lowest, 4 the highest */
	pulse(3);
	pulse(4);
	pulse(1);
	CHECK_EQ(pic_ack(pic), 0x34);
	CHECK_EQ(pic_ack(pic), 0x31); /* 5 is highest: 5 6 7 0 1 2 3 4 */
	CHECK_EQ(pic_ack(pic), 0x33);
	stop();

	start(1);
	outb(M0, 0xc0 | 4); /* set priority: 4 lowest, 5 highest */
	pulse(0);
	pulse(5);
	CHECK_EQ(pic_ack(pic), 0x35);
	outb(M0, 0xa0); /* rotate on non-specific EOI: 5 lowest, 6 highest */
	CHECK_EQ(pic_ack(pic), 0x30);
	pulse(7);
	CHECK(pic_pending(pic)); /* 7 is above 0 now */
	CHECK_EQ(pic_ack(pic), 0x37);
	outb(M0, 0xe0 | 7); /* rotate on specific EOI: 7 lowest, 0 highest */
	CHECK_EQ(isr(M0), 1);
	pulse(1);
	CHECK(!pic_pending(pic));
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x31);
	outb(M0, 0xe0 | 1); /* 2 highest: 2 3 4 5 6 7 0 1 */
	pulse(1);
	pulse(0);
	pulse(3);
	CHECK_EQ(pic_ack(pic), 0x33);
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x30);
	outb(M0, EOI);
	outb(M0, 0xc0 | 0); /* OCW3 without ESMM below leaves the rest alone */
	outb(M0, 0x28);
	CHECK_EQ(pic_ack(pic), 0x31);
	pulse(2);
	outb(M1, 1 << 1);
	CHECK(!pic_pending(pic)); /* no special mask: 1, though masked, holds 2 back */
	init(1);
	pulse(0);
	pulse(1);
	CHECK_EQ(pic_ack(pic), 0x30); /* ICW1: 0 is the highest again */
	stop();
}

static void special_mask(void)
{
	start(1);
	pulse(1);
	CHECK_EQ(pic_ack(pic), 0x31);
	pulse(6);
	CHECK(!pic_pending(pic));
	outb(M1, 1 << 1);
	CHECK(!pic_pending(pic));
	outb(M0, 0x68); /* set special mask: 1, masked, holds nobody back */
	CHECK(pic_pending(pic));
	CHECK_EQ(pic_ack(pic), 0x36);
	outb(M0, EOI); /* non-specific: leaves the masked one */
	CHECK_EQ(isr(M0), 1 << 1);
	outb(M0, 0x48); /* reset special mask */
	pulse(6);
	CHECK(!pic_pending(pic));
	outb(M0, 0x60 | 1);
	CHECK(pic_pending(pic));
	stop();
}

static void poll_mode(void)
{
	start(1);
	outb(M0, 0x0c);
	CHECK_EQ(inb(M0) & 0x80, 0);
	pulse(5);
	outb(M0, 0x0c);
	CHECK_EQ(inb(M0), 0x85);
	CHECK_EQ(isr(M0), 1 << 5); /* the read was the acknowledge */
	CHECK(!pic_pending(pic));
	pulse(9);
	outb(S0, 0x0c);
	CHECK_EQ(inb(S1), 0x81);
	CHECK_EQ(isr(S0), 1 << 1);
	CHECK_EQ(irr(M0), 0);
	pulse(0);
	CHECK(intr);
	outb(M0, 0x0c);
	CHECK_EQ(inb(M0), 0x80); /* request 0 */
	CHECK(!intr);
	stop();
}

static void initialisation(void)
{
	start(1);
	pulse(4);
	outb(M0, 0x11);
	CHECK(!pic_pending(pic));
	pulse(4);
	CHECK(!pic_pending(pic)); /* not before it is ready */
	outb(M1, 0x47); /* low bits of the vector are not kept */
	outb(M1, 0x04);
	outb(M1, 0x01);
	CHECK_EQ(inb(M1), 0);
	CHECK_EQ(pic_ack(pic), 0x44);
	outb(M0, 0x12); /* single, no ICW4 */
	outb(M1, 0x50);
	outb(M1, 0xfe); /* already OCW1 */
	CHECK_EQ(inb(M1), 0xfe);
	pulse(0);
	CHECK_EQ(pic_ack(pic), 0x50);
	pic_reset(pic);
	pulse(1);
	CHECK(!pic_pending(pic));
	outb(M1, 0); /* the vectors of a PC's firmware */
	CHECK_EQ(pic_ack(pic), 0x09);
	outb(S1, 0);
	pulse(8);
	outb(M0, EOI);
	CHECK_EQ(pic_ack(pic), 0x70);
	stop();
}

static void hostile(void)
{
	start(1);
	for (unsigned i = 0; i < 20000; i++) {
		pic_set_irq(pic, random64() % 20, random64() % 2);
		abuse(&pio, random64() % 2 ? 0x20 : random64() % 2 ? 0xa0 : 0x4d0, 2, 1);
		if (random64() % 4 == 0)
			pic_ack(pic);
		if (pic_pending(pic) != (intr != 0))
			failed++;
	}
	stop();
}

int main(void)
{
	fully_nested();
	masks_and_edges();
	cascade();
	special_fully_nested();
	spurious();
	level();
	automatic_eoi_and_rotation();
	special_mask();
	poll_mode();
	initialisation();
	hostile();
	return summary();
}
