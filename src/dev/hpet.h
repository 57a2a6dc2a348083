/*
 * HPET: a main counter of 100 MHz and three timers, at 0xfed00000. In legacy replacement mode timers 0 and 1 take the
 * places of the 8254 and the RTC on their interrupt lines.
 *
 * Called under vm->lock. Source: IA-PC HPET Specification 1.0a.
 */
#ifndef RINGSIDE_HPET_H
#define RINGSIDE_HPET_H

#include <stdbool.h>
#include <stdint.h>

#define HPET_BASE 0xfed00000ull
#define HPET_SIZE 0x400
#define HPET_ID 0x8086a201u /* the low half of the capability register: for the ACPI table */
#define HPET_MIN_TICK 0x80 /* of a periodic timer, in ticks of the counter: for the ACPI table */

struct bus;
struct hpet;
struct timer_queue;

struct hpet_ops {
	/* Level of a GSI, as far as the timers drive it. */
	void (*set_gsi)(void *opaque, unsigned gsi, int level);
	/* Legacy replacement is on: the 8254 and the RTC do not reach their lines. */
	void (*legacy)(void *opaque, bool on);
};

/* NULL: errno. */
struct hpet *hpet_new(struct bus *mmio, struct timer_queue *timers, const struct hpet_ops *ops, void *opaque);
void hpet_free(struct hpet *h);

#endif
