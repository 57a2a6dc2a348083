/*
 * The 8042 keyboard controller, ports 0x60 and 0x64, with a PS/2 keyboard on its first port and
 * a mouse, or nothing, on its second one (ps2.h).
 *
 * Called under vm->lock. Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
 * Auxiliary Device Controller".
 */
#ifndef RINGSIDE_I8042_H
#define RINGSIDE_I8042_H

#include <stdbool.h>
#include <stdint.h>

#include "irq/irq.h"

struct bus;
struct i8042;
struct input;

/* irq1: keyboard, irq12: auxiliary device. `reset`: the guest pulsed the processor's reset line. NULL: errno. */
struct i8042 *i8042_new(struct bus *pio, struct irq_line irq1, struct irq_line irq12, void (*reset)(void *opaque),
			void *opaque);
/* Keys of `input` go to the keyboard, until i8042_free; with a mouse plugged in, so does the pointer. Once. */
void i8042_attach(struct i8042 *k, struct input *input, bool mouse);
void i8042_free(struct i8042 *k);
void i8042_reset(struct i8042 *k);

#endif
