/*
 * The MC146818 real-time clock and its battery-backed RAM: ports 0x70 (index, and the NMI mask) and
 * 0x71 (data); 128 bytes.
 *
 * Time is the host's CLOCK_REALTIME in UTC plus an offset that the guest sets by writing the clock.
 * Called under vm->lock. Sources: Motorola MC146818A data sheet; the usual use of the RAM by PC firmware.
 */
#ifndef RINGSIDE_RTC_H
#define RINGSIDE_RTC_H

#include <stdbool.h>
#include <stdint.h>

#include "irq/irq.h"

struct bus;
struct timer_queue;
struct rtc;

#define RTC_RAM_SIZE 128

/* What the battery keeps. Zeroed: the battery was empty. */
struct rtc_battery {
	bool charged; /* the rest is valid */
	uint8_t ram[RTC_RAM_SIZE];
	int64_t offset, phase;
	unsigned weekday_shift;
};

#define RTC_CENTURY 0x32 /* index of the century byte: FADT names it */

struct rtc_config {
	uint64_t memory_low;  /* bytes of RAM below 4 GiB, for the memory size bytes */
	uint64_t memory_high; /* bytes of RAM from 4 GiB on */
	const struct rtc_battery *battery; /* what an rtc_keep has left; NULL: nothing */
	/* ns since 1970 UTC; NULL: CLOCK_REALTIME. For tests. */
	uint64_t (*realtime)(void *opaque);
	void *opaque;
};

/* NULL: errno. */
struct rtc *rtc_new(struct bus *pio, struct timer_queue *timers, struct irq_line irq8, const struct rtc_config *config);
/* A byte of the CMOS RAM, index 14 to 127, while the machine is built. */
void rtc_set_ram(struct rtc *r, unsigned index, uint8_t value);
/* Time and RAM for another rtc_new. */
void rtc_keep(const struct rtc *r, struct rtc_battery *battery);
void rtc_free(struct rtc *rtc);
void rtc_reset(struct rtc *rtc); /* as the RESET pin does: the time and the RAM stay */

#endif
