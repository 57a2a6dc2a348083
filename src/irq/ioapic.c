/*
 * The I/O APIC. See ioapic.h.
 *
 * An edge on a masked pin is lost, as on the 82093AA; a level waits. A level-triggered entry sends one
 * message and then waits, with remote IRR set, for the EOI of its vector. Version 0x20: as 0x11, and
 * with the EOI register of the chip sets.
 *
 * Called under vm->lock. Source: Intel 82093AA data sheet (290566); ICH10 data sheet 13.5.
 */
#include "irq/ioapic.h"

#include <errno.h>
#include <stdlib.h>

#include "irq/lapic.h"
#include "mem/bus.h"
#include "util/log.h"

#define IOAPIC_SIZE 0x1000 /* claimed in memory space; registers repeat nowhere in it */
#define IOAPIC_VERSION 0x20

/* Memory-mapped registers */
#define IOREGSEL 0x00
#define IOWIN 0x10
#define IOEOI 0x40

/* Registers behind IOREGSEL */
#define REG_ID 0
#define REG_VERSION 1
#define REG_ARBITRATION 2
#define REG_REDIRECTION 0x10 /* two of 32 bits each pin */

/* Redirection entry */
#define RTE_VECTOR 0xffull
#define RTE_MODE_SHIFT 8
#define RTE_LOGICAL (1ull << 11)
#define RTE_DELIVERY_STATUS (1ull << 12)
#define RTE_ACTIVE_LOW (1ull << 13)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_DEST_SHIFT 56
#define RTE_WRITABLE ((0x1ffffull & ~(RTE_DELIVERY_STATUS | RTE_REMOTE_IRR)) | 0xffull << RTE_DEST_SHIFT)

struct ioapic {
	uint8_t select;
	uint8_t id, initial_id;
	uint32_t lines; /* levels of the pins */
	uint64_t entry[IOAPIC_PINS];
	void (*deliver)(void *opaque, const struct lapic_message *m);
	void *opaque;
	void (*routes_changed)(void *opaque); /* NULL: nobody cares */
};

/* ---- delivery ---- */

static struct lapic_message message(uint64_t e)
{
	return (struct lapic_message){
		.dest = (uint32_t)(e >> RTE_DEST_SHIFT),
		.logical = e & RTE_LOGICAL,
		.level = e & RTE_LEVEL,
		.mode = e >> RTE_MODE_SHIFT & 7,
		.vector = e & RTE_VECTOR,
	};
}

static void send(struct ioapic *io, unsigned pin)
{
	struct lapic_message m = message(io->entry[pin]);

	/* These are edges whatever the trigger mode says, and nobody sends an EOI for them. */
	if (m.mode == LAPIC_SMI || m.mode == LAPIC_NMI || m.mode == LAPIC_INIT || m.mode == LAPIC_EXTINT)
		m.level = false;
	LOG(LOG_IOAPIC, "pin %u: mode %u vector %#x to %#x%s", pin, m.mode, m.vector, m.dest,
	    m.level ? ", level" : "");
	if (m.mode != 3 && m.mode != LAPIC_STARTUP) /* reserved here */
		io->deliver(io->opaque, &m);
}

/* Only these are answered by an EOI. */
static bool has_remote_irr(uint64_t e)
{
	unsigned mode = e >> RTE_MODE_SHIFT & 7;

	return (e & RTE_LEVEL) && (mode == LAPIC_FIXED || mode == LAPIC_LOWEST);
}

/* A level-triggered pin that is high, unmasked, and not waiting for its EOI sends its message. */
static void service_level(struct ioapic *io, unsigned pin)
{
	uint64_t e = io->entry[pin];

	if (!(io->lines >> pin & 1) || !has_remote_irr(e) || (e & (RTE_MASKED | RTE_REMOTE_IRR)))
		return;
	io->entry[pin] |= RTE_REMOTE_IRR;
	send(io, pin);
}

void ioapic_set_irq(struct ioapic *io, unsigned pin, int level)
{
	if (pin >= IOAPIC_PINS)
		return;
	bool rose = level && !(io->lines >> pin & 1);
	uint64_t e = io->entry[pin];

	if (level)
		io->lines |= 1u << pin;
	else
		io->lines &= ~(1u << pin);
	if (has_remote_irr(e))
		service_level(io, pin);
	else if (rose && !(e & RTE_MASKED))
		send(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t e = io->entry[pin];

		if ((e & RTE_VECTOR) != vector || !(e & RTE_REMOTE_IRR))
			continue;
		io->entry[pin] &= ~RTE_REMOTE_IRR;
		service_level(io, pin);
	}
}

bool ioapic_route(const struct ioapic *io, unsigned pin, struct lapic_message *m)
{
	*m = message(io->entry[pin]);
	return has_remote_irr(io->entry[pin]);
}

void ioapic_watch_routes(struct ioapic *io, void (*changed)(void *opaque)) { io->routes_changed = changed; }

int ioapic_waits_for(const struct ioapic *io, unsigned pin)
{
	return io->entry[pin] & RTE_REMOTE_IRR ? (int)(io->entry[pin] & RTE_VECTOR) : -1;
}

/* ---- registers ---- */

static uint64_t route(uint64_t e)
{
	return has_remote_irr(e) ? e & ~(RTE_MASKED | RTE_REMOTE_IRR | RTE_ACTIVE_LOW) : 0;
}

static void write_entry(struct ioapic *io, unsigned pin, uint64_t value)
{
	uint64_t *e = &io->entry[pin], old = *e;

	*e = (*e & ~RTE_WRITABLE) | (value & RTE_WRITABLE);
	/* Turning an entry to edge and back is how systems without an EOI register clear remote IRR. */
	if (!(*e & RTE_LEVEL))
		*e &= ~RTE_REMOTE_IRR;
	if (io->routes_changed && route(*e) != route(old))
		io->routes_changed(io->opaque);
	service_level(io, pin);
}

static uint32_t reg_read(const struct ioapic *io)
{
	unsigned i = io->select;

	switch (i) {
	case REG_ID:
	case REG_ARBITRATION:
		return (uint32_t)io->id << 24;
	case REG_VERSION:
		return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
	}
	if (i < REG_REDIRECTION || i >= REG_REDIRECTION + 2 * IOAPIC_PINS)
		return 0;
	i -= REG_REDIRECTION;
	return (uint32_t)(io->entry[i / 2] >> (i % 2 ? 32 : 0));
}

static void reg_write(struct ioapic *io, uint32_t value)
{
	unsigned i = io->select;

	if (i == REG_ID)
		io->id = value >> 24 & 0xf;
	if (i < REG_REDIRECTION || i >= REG_REDIRECTION + 2 * IOAPIC_PINS)
		return;
	i -= REG_REDIRECTION;
	uint64_t e = io->entry[i / 2];
	write_entry(io, i / 2, i % 2 ? (e & UINT32_MAX) | (uint64_t)value << 32 : (e & ~(uint64_t)UINT32_MAX) | value);
}

/* Registers are 32 bits wide. A narrower or misaligned access reaches the register's low bytes only. */
static uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size)
{
	struct ioapic *io = dev;
	uint32_t value = 0;

	(void)size;
	if ((offset & ~3ull) == IOREGSEL)
		value = io->select;
	else if ((offset & ~3ull) == IOWIN)
		value = reg_read(io);
	return value >> (offset & 3) * 8;
}

static void ioapic_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct ioapic *io = dev;

	if (offset == IOREGSEL)
		io->select = (uint8_t)value;
	else if (offset == IOWIN && size == 4)
		reg_write(io, (uint32_t)value);
	else if (offset == IOEOI)
		ioapic_eoi(io, (uint8_t)value);
}

static const struct bus_ops ioapic_ops = {.read = ioapic_read, .write = ioapic_write, .max_size = 4};

void ioapic_reset(struct ioapic *io)
{
	io->select = 0;
	io->id = io->initial_id;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->entry[pin] = RTE_MASKED;
}

struct ioapic *ioapic_new(struct bus *mmio, uint8_t id, void (*deliver)(void *opaque, const struct lapic_message *m),
			  void *opaque)
{
	struct ioapic *io = calloc(1, sizeof *io);

	if (!io)
		return NULL;
	io->initial_id = id & 0xf;
	io->deliver = deliver;
	io->opaque = opaque;
	ioapic_reset(io);
	int err = bus_register(mmio, IOAPIC_BASE, IOAPIC_SIZE, &ioapic_ops, io, "ioapic");
	if (err) {
		free(io);
		errno = -err;
		return NULL;
	}
	return io;
}

void ioapic_free(struct ioapic *io)
{
	free(io);
}
