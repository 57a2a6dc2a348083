/*
 * Reset control register 0xcf9 and system control port A. See reset.h.
 *
 * 0xcf9 lies inside the dword of PCI's configuration address, 0xcf8: the ports are registered there (pci/host.c), which
 * calls reset_control_read and reset_control_write for byte accesses.
 *
 * Called under vm->lock. Source: ICH10 data sheet 13.7 "Processor Interface Registers".
 */
#include "dev/reset.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "mem/bus.h"

#define PORT_A 0x92

#define RST_CPU 0x04      /* 0 → 1: reset */
#define RST_WRITABLE 0x0e /* with SYS_RST and FULL_RST: the kind of reset, all the same here */
#define PORT_A_INIT 0x01  /* 0 → 1: INIT# to the processor */
#define PORT_A_A20 0x02
#define PORT_A_WRITABLE 0x03

struct reset_control {
	uint8_t control, port_a;
	void (*reset)(void *opaque);
	void *opaque;
};

uint8_t reset_control_read(const struct reset_control *r) { return r->control; }

void reset_control_write(struct reset_control *r, uint8_t value)
{
	bool asserted = value & ~r->control & RST_CPU;

	r->control = value & RST_WRITABLE;
	if (asserted)
		r->reset(r->opaque);
}

static uint64_t port_a_read(void *dev, uint64_t offset, unsigned size)
{
	(void)offset;
	(void)size;
	return ((struct reset_control *)dev)->port_a;
}

static void port_a_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct reset_control *r = dev;

	(void)offset;
	(void)size;
	bool asserted = value & ~(uint64_t)r->port_a & PORT_A_INIT;
	r->port_a = (uint8_t)value & PORT_A_WRITABLE;
	if (asserted)
		r->reset(r->opaque);
}

static const struct bus_ops port_a_ops = {.read = port_a_read, .write = port_a_write, .max_size = 1};

void reset_reset(struct reset_control *r)
{
	r->control = 0;
	r->port_a = PORT_A_A20;
}

struct reset_control *reset_new(struct bus *pio, void (*reset)(void *opaque), void *opaque)
{
	struct reset_control *r = calloc(1, sizeof *r);
	int err;

	if (!r)
		return NULL;
	r->reset = reset;
	r->opaque = opaque;
	reset_reset(r);
	if ((err = bus_register(pio, PORT_A, 1, &port_a_ops, r, "port-a"))) {
		free(r);
		errno = -err;
		return NULL;
	}
	return r;
}

void reset_free(struct reset_control *r)
{
	free(r);
}
