/*
 * The 8254 programmable interval timer, ports 0x40-0x43, and system control port B, 0x61, which holds
 * counter 2's gate and output.
 *
 * Called under vm->lock. Sources: Intel 8254 data sheet; ICH data sheets for port 0x61.
 */
#ifndef RINGSIDE_PIT_H
#define RINGSIDE_PIT_H

#include <stdint.h>

#include "irq/irq.h"

#define PIT_HZ 1193182u

struct bus;
struct timer_queue;
struct pit;

/* `irq0` follows the output of counter 0. NULL: errno. */
struct pit *pit_new(struct bus *pio, struct timer_queue *timers, struct irq_line irq0);
void pit_free(struct pit *pit);
void pit_reset(struct pit *pit);

#endif
