/*
 * The SMBus host controller of Intel's south bridges: PIIX4's (in its power management function) and ICH9's (a function
 * of its own). Nothing is on the bus but the controller: a transaction ends at once, for no device acknowledges its
 * address. The chip set says where the registers are.
 *
 * Called under vm->lock. Sources: Intel 82371AB (PIIX4) data sheet (290562), 7.3; ICH9 data sheet (316972), 18.2.
 */
#ifndef RINGSIDE_SMBUS_H
#define RINGSIDE_SMBUS_H

#include <stdbool.h>
#include <stdint.h>

#include "irq/irq.h"
#include "mem/bus.h"

#define SMBUS_PIIX4_SIZE 16 /* bytes of I/O space */
#define SMBUS_ICH9_SIZE 32
#define SMBUS_BLOCK 32 /* bytes that a block transaction has at most */

struct smbus {
	struct irq_line irq;
	bool ich9;
	bool enabled; /* the chip set's configuration register says so; else no transaction is begun */
	uint8_t status, control;
	uint8_t reg[SMBUS_ICH9_SIZE]; /* those that only keep what is written */
	uint8_t block[SMBUS_BLOCK];
	unsigned block_at;
};

extern const struct bus_ops smbus_ops; /* its device is the struct smbus */

/* After reset. */
void smbus_init(struct smbus *s, struct irq_line irq, bool ich9);
/* ICH9's SSRESET: the state machine begins anew. */
void smbus_restart(struct smbus *s);

#endif
