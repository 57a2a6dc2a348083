/*
 * The chip set's reset control register, port 0xcf9, and system control port A, 0x92 (fast A20, fast
 * INIT).
 *
 * Address line 20 is never masked, as on processors without A20M#: the gate's bit only keeps its value.
 * Called under vm->lock. Source: ICH data sheets, "Processor Interface Registers".
 */
#ifndef RINGSIDE_RESET_H
#define RINGSIDE_RESET_H

#include <stdint.h>

#define RESET_PORT 0xcf9u /* FADT RESET_REG */
#define RESET_VALUE 0x06u /* FADT RESET_VALUE: full reset */

struct bus;
struct reset_control;

/* `reset` asks the machine for a reset. NULL: errno. */
struct reset_control *reset_new(struct bus *pio, void (*reset)(void *opaque), void *opaque);
void reset_free(struct reset_control *r);
/* Byte accesses of RESET_PORT, from the configuration ports of PCI that it lies in. */
uint8_t reset_control_read(const struct reset_control *r);
void reset_control_write(struct reset_control *r, uint8_t value);
void reset_reset(struct reset_control *r); /* registers as after power-on */

#endif
