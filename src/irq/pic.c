/*
 * The pair of 8259A interrupt controllers. See pic.h.
 *
 * As in the chip sets, edge or level is chosen by line (ELCR), LTIM of ICW1 is ignored, and the vector
 * is always given the 8086's way. An edge, once seen, stays requested until it is acknowledged or the
 * chip is initialised, even if the line falls: devices may pulse their line.
 *
 * Called under vm->lock. Source: Intel 8259A data sheet (231468); ICH10 data sheet 13.4.
 */
#include "irq/pic.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"
#include "util/log.h"

#define CASCADE 2 /* the master's input that the slave drives */

#define ICW1_SELECT 0x10
#define ICW1_SNGL 0x02
#define ICW1_IC4 0x01
#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10
#define OCW3_SELECT 0x08
#define OCW3_ESMM 0x40
#define OCW3_SMM 0x20
#define OCW3_POLL 0x04
#define OCW3_RR 0x02
#define OCW3_RIS 0x01

enum ocw2 {
	OCW2_ROTATE_AEOI_CLEAR, OCW2_EOI, OCW2_NOP, OCW2_SPECIFIC_EOI,
	OCW2_ROTATE_AEOI_SET, OCW2_ROTATE_EOI, OCW2_SET_PRIORITY, OCW2_ROTATE_SPECIFIC_EOI,
};

struct chip {
	struct pic *pic;
	bool master;
	uint8_t lines; /* levels of the inputs */
	uint8_t irr, isr, imr;
	uint8_t elcr, elcr_writable;
	uint8_t follows;      /* inputs whose request is their level: elcr, and the cascade */
	uint8_t vector_base;
	uint8_t first;        /* the input of highest priority; rotation moves it */
	uint8_t next_icw;     /* 2, 3, 4: written next at the odd port; 0: initialised */
	bool single, icw4_needed;
	bool auto_eoi, rotate_on_auto_eoi;
	bool special_fully_nested, special_mask;
	bool read_isr, poll;
};

struct pic {
	struct chip chip[2]; /* master, slave */
	bool output;
	void (*intr)(void *opaque, int level);
	void *opaque;
};

static uint8_t bit(unsigned n)
{
	return (uint8_t)(1u << n);
}

/* 0 = highest; 8 when nothing is set. */
static unsigned highest_priority(const struct chip *c, uint8_t set)
{
	unsigned p = 0;

	while (p < 8 && !(set & bit((p + c->first) & 7)))
		p++;
	return p;
}

/* The input to be served now, or -1. */
static int chip_request(const struct chip *c)
{
	unsigned wanted = highest_priority(c, c->irr & (uint8_t)~c->imr);

	if (wanted == 8 || c->next_icw)
		return -1;
	/* In special mask mode only the unmasked levels in service hold others back. */
	unsigned serving = highest_priority(c, c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr);
	int irq = (wanted + c->first) & 7;

	if (wanted < serving)
		return irq;
	if (c->master && c->special_fully_nested && irq == CASCADE && wanted == serving)
		return irq;
	return -1;
}

static void chip_set_line(struct chip *c, unsigned irq, bool level)
{
	uint8_t m = bit(irq);

	if (c->follows & m)
		c->irr = level ? c->irr | m : c->irr & (uint8_t)~m;
	else if (level && !(c->lines & m))
		c->irr |= m;
	c->lines = level ? c->lines | m : c->lines & (uint8_t)~m;
}

static void update(struct pic *pic)
{
	chip_set_line(&pic->chip[0], CASCADE, chip_request(&pic->chip[1]) >= 0);
	bool output = chip_request(&pic->chip[0]) >= 0;
	if (output != pic->output) {
		pic->output = output;
		pic->intr(pic->opaque, output);
	}
}

/* The first acknowledge pulse, for an input that chip_request gave. */
static void chip_ack(struct chip *c, unsigned irq)
{
	if (!(c->follows & bit(irq)))
		c->irr &= (uint8_t)~bit(irq);
	if (!c->auto_eoi)
		c->isr |= bit(irq);
	else if (c->rotate_on_auto_eoi)
		c->first = (irq + 1) & 7;
}

void pic_set_irq(struct pic *pic, unsigned irq, int level)
{
	if (irq > 15 || irq == CASCADE)
		return;
	chip_set_line(&pic->chip[irq >> 3], irq & 7, level);
	update(pic);
}

bool pic_pending(const struct pic *pic)
{
	return pic->output;
}

uint8_t pic_ack(struct pic *pic)
{
	struct chip *c = &pic->chip[0];
	int irq = chip_request(c);

	if (irq == CASCADE) {
		chip_ack(c, CASCADE);
		c = &pic->chip[1];
		irq = chip_request(c);
	}
	if (irq >= 0)
		chip_ack(c, (unsigned)irq);
	else
		irq = 7; /* the request went away: spurious, and not in service */
	uint8_t vector = c->vector_base + (uint8_t)irq;
	LOG(LOG_PIC, "ack irq %d vector %#x", irq + (c->master ? 0 : 8), vector);
	update(pic);
	return vector;
}

/* ---- programming ---- */

static void end_of_interrupt(struct chip *c, unsigned irq, bool rotate)
{
	c->isr &= (uint8_t)~bit(irq);
	if (rotate)
		c->first = (irq + 1) & 7;
}

static void write_ocw2(struct chip *c, uint8_t value)
{
	unsigned irq = value & 7, p;
	enum ocw2 command = value >> 5;

	switch (command) {
	case OCW2_EOI:
	case OCW2_ROTATE_EOI:
		/* Special mask mode keeps a masked level in service. */
		p = highest_priority(c, c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr);
		if (p < 8)
			end_of_interrupt(c, (p + c->first) & 7, command == OCW2_ROTATE_EOI);
		break;
	case OCW2_SPECIFIC_EOI:
	case OCW2_ROTATE_SPECIFIC_EOI:
		end_of_interrupt(c, irq, command == OCW2_ROTATE_SPECIFIC_EOI);
		break;
	case OCW2_SET_PRIORITY:
		c->first = (irq + 1) & 7;
		break;
	case OCW2_ROTATE_AEOI_CLEAR:
	case OCW2_ROTATE_AEOI_SET:
		c->rotate_on_auto_eoi = command == OCW2_ROTATE_AEOI_SET;
		break;
	case OCW2_NOP:
		break;
	}
}

static void write_ocw3(struct chip *c, uint8_t value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

static void write_icw1(struct chip *c, uint8_t value)
{
	c->irr &= c->follows;
	c->isr = c->imr = 0;
	c->first = 0;
	c->special_mask = c->read_isr = c->poll = false;
	c->auto_eoi = c->rotate_on_auto_eoi = c->special_fully_nested = false;
	c->single = value & ICW1_SNGL;
	c->icw4_needed = value & ICW1_IC4;
	c->next_icw = 2;
}

static void write_odd(struct chip *c, uint8_t value)
{
	switch (c->next_icw) {
	case 0:
		c->imr = value; /* OCW1 */
		return;
	case 2:
		c->vector_base = value & 0xf8;
		c->next_icw = !c->single ? 3 : c->icw4_needed ? 4 : 0;
		return;
	case 3: /* which input has a slave, or which one it is: fixed by the wiring */
		c->next_icw = c->icw4_needed ? 4 : 0;
		return;
	case 4:
		c->auto_eoi = value & ICW4_AEOI;
		c->special_fully_nested = value & ICW4_SFNM;
		c->next_icw = 0;
		return;
	}
}

static void chip_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct chip *c = dev;
	uint8_t v = (uint8_t)value;

	(void)size;
	LOG(LOG_PIC, "%s %s %#x", c->master ? "master" : "slave", offset ? "odd" : "even", v);
	if (offset)
		write_odd(c, v);
	else if (v & ICW1_SELECT)
		write_icw1(c, v);
	else if (v & OCW3_SELECT)
		write_ocw3(c, v);
	else
		write_ocw2(c, v);
	update(c->pic);
}

static uint64_t chip_read(void *dev, uint64_t offset, unsigned size)
{
	struct chip *c = dev;

	(void)size;
	if (c->poll) { /* this read is the acknowledge */
		int irq = chip_request(c);

		c->poll = false;
		if (irq < 0)
			return 7;
		chip_ack(c, (unsigned)irq);
		update(c->pic);
		return 0x80u | (unsigned)irq;
	}
	if (offset)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static uint64_t elcr_read(void *dev, uint64_t offset, unsigned size)
{
	(void)size;
	return ((struct pic *)dev)->chip[offset].elcr;
}

static void elcr_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pic *pic = dev;
	struct chip *c = &pic->chip[offset];
	uint8_t cascade = c->follows & (uint8_t)~c->elcr;

	(void)size;
	c->elcr = (uint8_t)value & c->elcr_writable;
	c->follows = c->elcr | cascade;
	c->irr = (c->irr & (uint8_t)~c->follows) | (c->lines & c->follows);
	update(pic);
}

static const struct bus_ops chip_ops = {.read = chip_read, .write = chip_write, .max_size = 1};
static const struct bus_ops elcr_ops = {.read = elcr_read, .write = elcr_write, .max_size = 1};

/* Power-on leaves an 8259A undefined: here it is masked, as firmware would leave it. */
void pic_reset(struct pic *pic)
{
	for (unsigned i = 0; i < 2; i++) {
		struct chip *c = &pic->chip[i];

		*c = (struct chip){
			.pic = pic,
			.master = i == 0,
			.lines = c->lines,
			.imr = 0xff,
			.vector_base = i == 0 ? 0x08 : 0x70,
			.elcr_writable = i == 0 ? 0xf8 : 0xde,
			.follows = i == 0 ? bit(CASCADE) : 0,
		};
	}
	update(pic);
}

struct pic *pic_new(struct bus *pio, void (*intr)(void *opaque, int level), void *opaque)
{
	struct pic *pic = calloc(1, sizeof *pic);
	int err;

	if (!pic)
		return NULL;
	pic->intr = intr;
	pic->opaque = opaque;
	pic_reset(pic);
	if ((err = bus_register(pio, 0x20, 2, &chip_ops, &pic->chip[0], "pic-master")) ||
	    (err = bus_register(pio, 0xa0, 2, &chip_ops, &pic->chip[1], "pic-slave")) ||
	    (err = bus_register(pio, 0x4d0, 2, &elcr_ops, pic, "pic-elcr"))) {
		free(pic);
		errno = -err;
		return NULL;
	}
	return pic;
}

void pic_free(struct pic *pic)
{
	free(pic);
}
