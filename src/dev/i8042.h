/*
 * The 8042 keyboard controller, ports 0x60 and 0x64, with a PS/2 keyboard on its first port and
 * nothing on its second one.
 *
 * Called under vm->lock. Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
 * Auxiliary Device Controller"; IBM "Keyboards (101- and 102-key)" reference.
 */
#ifndef RINGSIDE_I8042_H
#define RINGSIDE_I8042_H

#include <stdint.h>

#include "irq/irq.h"

struct bus;
struct i8042;

/* irq1: keyboard, irq12: auxiliary device. `reset`: the guest pulsed the processor's reset line. NULL: errno. */
struct i8042 *i8042_new(struct bus *pio, struct irq_line irq1, struct irq_line irq12, void (*reset)(void *opaque),
			void *opaque);
void i8042_free(struct i8042 *k);
void i8042_reset(struct i8042 *k);

#endif
