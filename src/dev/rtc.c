/*
 * The MC146818 real-time clock. See rtc.h.
 *
 * The guest's time is the host's plus an offset; it is worked out when somebody looks. Host timers run
 * only for interrupts that are enabled; flags of the others are worked out when register C is read. A
 * periodic interrupt that the host delivers late is not lost: it comes after the guest has read
 * register C, at up to twice the rate.
 *
 * Register B's DSE (daylight saving) bit is kept, and has no effect. The time base is always 32768 Hz.
 *
 * Called under vm->lock. Source: Motorola MC146818A data sheet.
 */
#include "dev/rtc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mem/bus.h"
#include "util/log.h"
#include "util/timer.h"

#define NS_PER_S 1000000000ll
#define UIP_NS 2228000        /* 244 us of warning and 1984 us of update */
#define FIRST_UPDATE_NS 500000000 /* after the divider is let go */
#define CRYSTAL_HZ 32768
#define GAP_MIN_NS 50000
#define BACKLOG_MAX_S 60
#define RAM_SIZE RTC_RAM_SIZE
#define SHUTDOWN_STATUS 0x0f /* in the RAM */

enum {
	REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS, REG_HOURS_ALARM,
	REG_WEEKDAY, REG_DAY, REG_MONTH, REG_YEAR, REG_A, REG_B, REG_C, REG_D,
};

#define A_UIP 0x80
#define A_DIVIDER_RESET 0x60 /* both bits set: the divider stands still */
#define A_RATE 0x0f
#define B_SET 0x80
#define B_PIE 0x40
#define B_AIE 0x20
#define B_UIE 0x10
#define B_SQWE 0x08
#define B_BINARY 0x04
#define B_24H 0x02
#define C_IRQF 0x80
#define C_PF 0x40
#define C_AF 0x20
#define C_UF 0x10
#define D_VRT 0x80
#define HOUR_PM 0x80
#define ALARM_ANY 0xc0

struct rtc {
	uint8_t index;
	uint8_t ram[RAM_SIZE]; /* the time bytes are as of the last `refresh` */
	struct rtc_config config;
	struct irq_line irq8;
	struct timer_queue *timers;
	/* Guest's time: (realtime + phase) / 1 s + offset */
	int64_t offset, phase;
	bool divider_was_reset; /* while the time stood still */
	unsigned weekday_shift; /* the guest's idea of the day of week */
	int64_t checked;        /* updates up to this second are in the flags */
	uint64_t tick;          /* next periodic tick to report */
	struct timer update, periodic;
};

/* ---- time ---- */

static int64_t shifted_ns(const struct rtc *r)
{
	if (r->config.realtime)
		return (int64_t)r->config.realtime(r->config.opaque) + r->phase;
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec + r->phase;
}

static int64_t guest_seconds(const struct rtc *r)
{
	return shifted_ns(r) / NS_PER_S + r->offset;
}

/* ns to the next update. */
static int64_t to_next_second(const struct rtc *r)
{
	return NS_PER_S - shifted_ns(r) % NS_PER_S;
}

static bool frozen(const struct rtc *r)
{
	return (r->ram[REG_B] & B_SET) || (r->ram[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static uint8_t encode(const struct rtc *r, int value)
{
	return (uint8_t)(r->ram[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *r, uint8_t value, int min, int max)
{
	int v = r->ram[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);

	return v < min ? min : v > max ? max : v;
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
	if (r->ram[REG_B] & B_24H)
		return encode(r, hour);
	return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *r, uint8_t value)
{
	if (r->ram[REG_B] & B_24H)
		return decode(r, value, 0, 23);
	return decode(r, value & 0x7f, 0, 12) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Puts the time into the registers, unless it stands still. */
static void refresh(struct rtc *r)
{
	time_t t = guest_seconds(r);
	struct tm tm;

	if (frozen(r) || !gmtime_r(&t, &tm))
		return;
	r->ram[REG_SECONDS] = encode(r, tm.tm_sec);
	r->ram[REG_MINUTES] = encode(r, tm.tm_min);
	r->ram[REG_HOURS] = encode_hour(r, tm.tm_hour);
	r->ram[REG_WEEKDAY] = encode(r, ((unsigned)tm.tm_wday + r->weekday_shift) % 7 + 1);
	r->ram[REG_DAY] = encode(r, tm.tm_mday);
	r->ram[REG_MONTH] = encode(r, tm.tm_mon + 1);
	int year = tm.tm_year + 1900;
	if (year < 0 || year > 9999) /* the clock wraps */
		year = (year % 10000 + 10000) % 10000;
	r->ram[REG_YEAR] = encode(r, year % 100);
	r->ram[RTC_CENTURY] = encode(r, year / 100);
}

/* Takes the time from the registers. */
static void commit(struct rtc *r)
{
	struct tm tm = {
		.tm_sec = decode(r, r->ram[REG_SECONDS], 0, 59),
		.tm_min = decode(r, r->ram[REG_MINUTES], 0, 59),
		.tm_hour = decode_hour(r, r->ram[REG_HOURS]),
		.tm_mday = decode(r, r->ram[REG_DAY], 1, 31),
		.tm_mon = decode(r, r->ram[REG_MONTH], 1, 12) - 1,
		.tm_year = decode(r, r->ram[RTC_CENTURY], 0, 99) * 100 + decode(r, r->ram[REG_YEAR], 0, 99) - 1900,
	};
	time_t t = timegm(&tm);

	if (r->divider_was_reset) {
		r->divider_was_reset = false;
		int64_t ns = (shifted_ns(r) - r->phase) % NS_PER_S;
		r->phase = (2 * NS_PER_S - FIRST_UPDATE_NS - ns) % NS_PER_S;
	}
	r->offset = t - shifted_ns(r) / NS_PER_S;
	/* timegm has made tm a real date, and found its day of week. */
	r->weekday_shift = (unsigned)(decode(r, r->ram[REG_WEEKDAY], 1, 7) - 1 - tm.tm_wday + 7) % 7;
	r->checked = t;
	LOG(LOG_RTC, "time set to %lld", (long long)t);
}

/* Which of the values 0..count-1 an alarm register matches, as bits. */
static uint64_t alarm_matches(const struct rtc *r, unsigned alarm, int count)
{
	uint64_t set = 0;

	for (int v = 0; v < count; v++) {
		uint8_t now = alarm == REG_HOURS_ALARM ? encode_hour(r, v) : encode(r, v);

		if (r->ram[alarm] >= ALARM_ANY || r->ram[alarm] == now)
			set |= 1ull << v;
	}
	return set;
}

/* The first second from `from` on at which the alarm goes off; -1: never. */
static int64_t next_alarm(const struct rtc *r, int64_t from)
{
	const uint64_t hours = alarm_matches(r, REG_HOURS_ALARM, 24),
		       minutes = alarm_matches(r, REG_MINUTES_ALARM, 60),
		       seconds = alarm_matches(r, REG_SECONDS_ALARM, 60);

	if (!hours || !minutes || !seconds)
		return -1;
	for (int64_t t = from;;) {
		int second = (int)(((t % 86400) + 86400) % 86400);
		int h = second / 3600, m = second / 60 % 60, s = second % 60;

		if (!(hours >> h & 1))
			t += 3600 - (m * 60 + s);
		else if (!(minutes >> m & 1))
			t += 60 - s;
		else if (!(seconds >> s & 1))
			t++;
		else
			return t;
	}
}

/* ---- flags and interrupts ---- */

/* Shift from the crystal's frequency to the periodic rate; 0: none. */
static unsigned rate_shift(const struct rtc *r)
{
	unsigned rate = r->ram[REG_A] & A_RATE;

	return rate == 0 ? 0 : rate <= 2 ? rate + 6 : rate - 1;
}

/* Ticks of the periodic rate up to now. */
static uint64_t ticks_now(const struct rtc *r)
{
	unsigned __int128 crystal = (unsigned __int128)timer_queue_now(r->timers) * CRYSTAL_HZ / NS_PER_S;

	return (uint64_t)crystal >> rate_shift(r);
}

static uint64_t tick_time(const struct rtc *r, uint64_t tick)
{
	unsigned __int128 crystal = (unsigned __int128)tick << rate_shift(r);

	return (uint64_t)((crystal * NS_PER_S + CRYSTAL_HZ - 1) / CRYSTAL_HZ);
}

static void update_irq(struct rtc *r)
{
	if (r->ram[REG_C] & r->ram[REG_B] & (C_PF | C_AF | C_UF))
		r->ram[REG_C] |= C_IRQF;
	else
		r->ram[REG_C] &= (uint8_t)~C_IRQF;
	irq_set(&r->irq8, r->ram[REG_C] & C_IRQF ? 1 : 0);
}

/* Brings the flags up to date. */
static void catch_up(struct rtc *r)
{
	if (!frozen(r)) {
		int64_t now = guest_seconds(r);

		if (now > r->checked) {
			int64_t alarm = next_alarm(r, r->checked + 1);

			r->ram[REG_C] |= C_UF;
			if (alarm >= 0 && alarm <= now)
				r->ram[REG_C] |= C_AF;
		}
		r->checked = now; /* also when the host's clock went back */
	}
	/* With PIE set, the timer reports the ticks one by one. */
	if (rate_shift(r) && !(r->ram[REG_B] & B_PIE)) {
		uint64_t ticks = ticks_now(r);

		if (ticks >= r->tick)
			r->ram[REG_C] |= C_PF;
		r->tick = ticks + 1;
	}
	update_irq(r);
}

static void arm_update(struct rtc *r)
{
	uint8_t b = r->ram[REG_B];

	timer_cancel(&r->update);
	if (frozen(r))
		return;
	int64_t now = guest_seconds(r), at = -1;
	if ((b & B_AIE) && !(r->ram[REG_C] & C_AF))
		at = next_alarm(r, now + 1);
	if ((b & B_UIE) && !(r->ram[REG_C] & C_UF))
		at = now + 1;
	if (at >= 0)
		timer_arm(&r->update, timer_queue_now(r->timers) +
				      (uint64_t)((at - now - 1) * NS_PER_S + to_next_second(r)));
}

static void update_fired(void *opaque)
{
	struct rtc *r = opaque;

	catch_up(r);
	arm_update(r);
}

/* Only while the last tick has been seen: one that has not would hide the next, as in the chip. */
static void arm_periodic(struct rtc *r, uint64_t not_before)
{
	timer_cancel(&r->periodic);
	if (!rate_shift(r) || !(r->ram[REG_B] & B_PIE) || (r->ram[REG_C] & C_PF))
		return;
	uint64_t ticks = ticks_now(r), backlog_max = (uint64_t)BACKLOG_MAX_S * CRYSTAL_HZ >> rate_shift(r);
	if (ticks > r->tick + backlog_max)
		r->tick = ticks;
	uint64_t at = tick_time(r, r->tick);
	timer_arm(&r->periodic, at > not_before ? at : not_before);
}

static void periodic_fired(void *opaque)
{
	struct rtc *r = opaque;

	r->ram[REG_C] |= C_PF;
	r->tick++;
	update_irq(r);
}

static uint8_t read_c(struct rtc *r)
{
	catch_up(r);
	uint8_t value = r->ram[REG_C];
	r->ram[REG_C] = 0;
	update_irq(r);
	arm_update(r);
	if (value & C_PF) {
		uint64_t gap = rate_shift(r) ? tick_time(r, 1) / 2 : 0;

		arm_periodic(r, timer_queue_now(r->timers) + (gap > GAP_MIN_NS ? gap : GAP_MIN_NS));
	}
	return value;
}

/* ---- registers ---- */

static bool is_time(unsigned i)
{
	return i == REG_SECONDS || i == REG_MINUTES || i == REG_HOURS || (i >= REG_WEEKDAY && i <= REG_YEAR) ||
	       i == RTC_CENTURY;
}

static uint8_t reg_read(struct rtc *r, unsigned i)
{
	refresh(r);
	switch (i) {
	case REG_A:
		return r->ram[REG_A] | (!frozen(r) && to_next_second(r) <= UIP_NS ? A_UIP : 0);
	case REG_C:
		return read_c(r);
	case REG_D:
		return D_VRT;
	}
	return r->ram[i];
}

/* Registers A and B: what they stop, start, and enable. */
static void control_write(struct rtc *r, unsigned i, uint8_t v)
{
	catch_up(r);
	refresh(r); /* if the time stops now, it stops here */
	bool was_frozen = frozen(r);
	uint8_t old = r->ram[i];

	if (i == REG_A)
		v &= (uint8_t)~A_UIP;
	else if (v & B_SET)
		v &= (uint8_t)~B_UIE;
	r->ram[i] = v;
	if ((r->ram[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET)
		r->divider_was_reset = true;
	if (was_frozen && !frozen(r))
		commit(r);
	if (i == REG_A ? (old ^ v) & A_RATE : ~old & v & B_PIE)
		r->tick = ticks_now(r) + 1;
	update_irq(r);
	arm_update(r);
	arm_periodic(r, 0);
}

static void reg_write(struct rtc *r, unsigned i, uint8_t v)
{
	if (i == REG_C || i == REG_D)
		return;
	if (i == REG_A || i == REG_B) {
		control_write(r, i, v);
		return;
	}
	catch_up(r);
	refresh(r);
	r->ram[i] = v;
	if (is_time(i) && !frozen(r))
		commit(r);
	if (i <= REG_YEAR)
		arm_update(r);
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned size)
{
	struct rtc *r = dev;

	(void)size;
	return offset ? reg_read(r, r->index) : 0xff; /* the index cannot be read */
}

static void rtc_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct rtc *r = dev;

	(void)size;
	if (offset) {
		LOG(LOG_RTC, "write %#x to %#x", (unsigned)value, r->index);
		reg_write(r, r->index, (uint8_t)value);
	} else {
		r->index = value & 0x7f; /* bit 7 would mask NMIs: none come through here */
	}
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write, .max_size = 1};

static void put_word(struct rtc *r, unsigned i, uint64_t value)
{
	if (value > 0xffff)
		value = 0xffff;
	r->ram[i] = (uint8_t)value;
	r->ram[i + 1] = (uint8_t)(value >> 8);
}

/* What firmware leaves in the RAM. */
static void fill_ram(struct rtc *r)
{
	uint64_t low = r->config.memory_low, high = r->config.memory_high >> 16;
	const uint64_t mib = 1 << 20;

	r->ram[0x14] = 0x02; /* equipment: a floating-point unit */
	put_word(r, 0x15, 640); /* base memory, KiB */
	put_word(r, 0x17, low > mib ? (low - mib) >> 10 : 0); /* above 1 MiB, KiB */
	put_word(r, 0x30, low > mib ? (low - mib) >> 10 : 0);
	put_word(r, 0x34, low > 16 * mib ? (low - 16 * mib) >> 16 : 0); /* above 16 MiB, 64 KiB units */
	r->ram[0x5b] = (uint8_t)high; /* above 4 GiB, 64 KiB units */
	r->ram[0x5c] = (uint8_t)(high >> 8);
	r->ram[0x5d] = (uint8_t)(high >> 16);
	unsigned sum = 0;
	for (unsigned i = 0x10; i <= 0x2d; i++)
		sum += r->ram[i];
	r->ram[0x2e] = (uint8_t)(sum >> 8);
	r->ram[0x2f] = (uint8_t)sum;
}

void rtc_reset(struct rtc *r)
{
	r->index = 0;
	r->ram[REG_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE | B_SQWE);
	r->ram[REG_C] = 0;
	update_irq(r);
	arm_update(r);
	arm_periodic(r, 0);
}

/* The RAM of the machine did not outlive its reset, so nothing in it is to be gone on with. */
static void restore(struct rtc *r, const struct rtc_battery *battery)
{
	memcpy(r->ram, battery->ram, sizeof r->ram);
	r->ram[SHUTDOWN_STATUS] = 0;
	r->ram[REG_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE | B_SQWE);
	r->ram[REG_C] = 0;
	r->offset = battery->offset;
	r->phase = battery->phase;
	r->weekday_shift = battery->weekday_shift;
}

void rtc_keep(const struct rtc *r, struct rtc_battery *battery)
{
	*battery = (struct rtc_battery){
		.charged = true, .offset = r->offset, .phase = r->phase, .weekday_shift = r->weekday_shift};
	memcpy(battery->ram, r->ram, sizeof r->ram);
}

struct rtc *rtc_new(struct bus *pio, struct timer_queue *timers, struct irq_line irq8, const struct rtc_config *config)
{
	struct rtc *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->config = *config;
	r->irq8 = irq8;
	r->timers = timers;
	timer_init(&r->update, timers, update_fired, r);
	timer_init(&r->periodic, timers, periodic_fired, r);
	r->ram[REG_A] = 0x26; /* 32768 Hz, 1024 Hz periodic */
	r->ram[REG_B] = B_24H;
	if (config->battery && config->battery->charged)
		restore(r, config->battery);
	fill_ram(r);
	r->checked = guest_seconds(r);
	r->tick = ticks_now(r) + 1;
	int err = bus_register(pio, 0x70, 2, &rtc_ops, r, "rtc");
	if (err) {
		free(r);
		errno = -err;
		return NULL;
	}
	return r;
}

void rtc_set_ram(struct rtc *r, unsigned index, uint8_t value) { r->ram[index] = value; }

void rtc_free(struct rtc *r)
{
	if (!r)
		return;
	timer_cancel(&r->update);
	timer_cancel(&r->periodic);
	free(r);
}
