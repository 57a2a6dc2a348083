/*
 * The 8254 programmable interval timer. See pit.h.
 *
 * Nothing ticks: each counter keeps the clock pulse at which its counting element was loaded, and count
 * and output are worked out from the time. Only counter 0, whose output is IRQ 0, has a host timer, set
 * to the next rising edge. When the host is late, edges are not lost: they are delivered at up to
 * twice their rate until none is due, so that a guest that counts ticks keeps the time.
 *
 * Called under vm->lock. Source: Intel 8254 data sheet (231164); ICH10 data sheet 13.7.1 (port 0x61).
 */
#include "dev/pit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "mem/bus.h"
#include "util/log.h"
#include "util/timer.h"

#define NS_PER_S 1000000000ll
#define COUNTERS 3
#define GAP_MIN_NS 50000        /* least time between two interrupts: 20 kHz */
#define BACKLOG_MAX_NS (60 * NS_PER_S) /* later than this, edges are given up */
#define REFRESH_TOGGLE_NS 15085 /* DRAM refresh request of the PC/AT */

/* Control word */
#define CONTROL_SELECT(v) ((v) >> 6)
#define CONTROL_RW(v) ((v) >> 4 & 3)
#define CONTROL_MODE(v) ((v) >> 1 & 7)
#define CONTROL_BCD 0x01
#define SELECT_READ_BACK 3
#define READ_BACK_NOT_COUNT 0x20
#define READ_BACK_NOT_STATUS 0x10
#define RW_LATCH 0
#define RW_LSB 1
#define RW_MSB 2
#define RW_BOTH 3

/* Status byte of read-back */
#define STATUS_OUT 0x80
#define STATUS_NULL_COUNT 0x40

/* System control port B */
#define PORTB_GATE2 0x01
#define PORTB_WRITABLE 0x0f /* gate, speaker data, SERR# and IOCHK# enables */
#define PORTB_REFRESH 0x10
#define PORTB_OUT2 0x20

enum mode { MODE_TERMINAL_COUNT, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_SOFT_STROBE, MODE_HARD_STROBE };

struct counter {
	enum mode mode;
	uint8_t rw;
	bool bcd, gate;
	bool loaded;      /* the counting element has a count: `start` or `held` hold */
	uint32_t initial; /* the count it was loaded with: 1..65536, or 1..10000 in BCD */
	int64_t start;    /* clock pulse at which it was, or will be, loaded */
	int64_t held;     /* pulses counted before the gate went low (modes 0, 2, 3, 4) */
	/* A count written that waits: for the end of the period or half period (modes 2, 3), or for a
	 * trigger (modes 1, 5). */
	bool pending;
	uint32_t pending_initial;
	int64_t pending_at;   /* modes 2, 3: when it is loaded */
	bool pending_low;     /* mode 3: then the low half begins */
	/* Bytes */
	bool write_msb, read_msb; /* RW_BOTH: which comes next */
	uint8_t write_lsb;
	uint8_t latched_bytes; /* of `latched` still to be read */
	uint16_t latched;
	bool status_latched;
	uint8_t status;
};

struct pit {
	struct counter counter[COUNTERS];
	uint8_t port_b;
	struct irq_line irq0;
	struct timer_queue *timers;
	struct timer timer; /* counter 0 */
	int64_t edge;       /* the pulse of the rising edge that `timer` waits for */
};

/* ---- time ---- */

static int64_t clock_pulses(const struct pit *pit)
{
	return (int64_t)((unsigned __int128)timer_queue_now(pit->timers) * PIT_HZ / NS_PER_S);
}

/* The first nanosecond at which clock_pulses gives `pulse`. */
static uint64_t pulse_time(int64_t pulse)
{
	return pulse <= 0 ? 0 : (uint64_t)(((unsigned __int128)pulse * NS_PER_S + PIT_HZ - 1) / PIT_HZ);
}

/* ---- a counter ---- */

static bool gate_pauses(const struct counter *c)
{
	return c->mode != MODE_ONE_SHOT && c->mode != MODE_HARD_STROBE;
}

static bool periodic(const struct counter *c)
{
	return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

static int64_t high_half(uint32_t initial)
{
	return (initial + 1) / 2;
}

/* Pulses counted since the load. */
static int64_t elapsed(const struct counter *c, int64_t now)
{
	if (gate_pauses(c) && !c->gate)
		return c->held;
	return now > c->start ? now - c->start : 0;
}

/* Loads a waiting count whose moment has come. */
static void settle(struct counter *c, int64_t now)
{
	if (!c->pending || !periodic(c) || !c->gate || now < c->pending_at)
		return;
	c->pending = false;
	c->initial = c->pending_initial;
	c->start = c->pending_low ? c->pending_at - high_half(c->initial) : c->pending_at;
}

static void load(struct counter *c, uint32_t initial, int64_t now)
{
	c->initial = initial;
	c->start = now + 1;
	c->held = 0;
	c->loaded = true;
	c->pending = false;
}

static bool output(const struct counter *c, int64_t now)
{
	if (!c->loaded)
		return c->mode != MODE_TERMINAL_COUNT;
	int64_t n = c->initial, d = elapsed(c, now);
	switch (c->mode) {
	case MODE_TERMINAL_COUNT:
	case MODE_ONE_SHOT:
		return d >= n;
	case MODE_RATE:
		return !c->gate || d % n != n - 1;
	case MODE_SQUARE:
		return !c->gate || d % n < high_half(c->initial);
	case MODE_SOFT_STROBE:
	case MODE_HARD_STROBE:
		return d != n;
	}
	return true;
}

static uint16_t to_bcd(unsigned v)
{
	return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static unsigned from_bcd(uint16_t v)
{
	return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12) * 1000;
}

/* The counting element, as a read sees it. */
static uint16_t count(const struct counter *c, int64_t now)
{
	int64_t n = c->initial, d = c->loaded ? elapsed(c, now) : 0, wrap = c->bcd ? 10000 : 65536, v;

	switch (c->mode) {
	case MODE_RATE:
		v = n - d % n;
		break;
	case MODE_SQUARE: /* counts down by two from an even number, once in each half */
		d %= n;
		if (d >= high_half(c->initial))
			d -= high_half(c->initial);
		v = (n & ~1ll) - 2 * d;
		break;
	default:
		v = n - d % wrap + wrap;
		break;
	}
	v %= wrap;
	return c->bcd ? to_bcd((unsigned)v) : (uint16_t)v;
}

static void latch_count(struct counter *c, int64_t now)
{
	if (c->latched_bytes)
		return;
	c->latched = count(c, now);
	c->latched_bytes = c->rw == RW_BOTH ? 2 : 1;
}

static void latch_status(struct counter *c, int64_t now)
{
	if (c->status_latched)
		return;
	bool null_count = !c->loaded || c->pending || (now < c->start && !(gate_pauses(c) && !c->gate));

	c->status = (uint8_t)((output(c, now) ? STATUS_OUT : 0) | (null_count ? STATUS_NULL_COUNT : 0) | c->rw << 4 |
			      (unsigned)c->mode << 1 | c->bcd);
	c->status_latched = true;
}

static void set_gate(struct counter *c, bool gate, int64_t now)
{
	if (gate == c->gate)
		return;
	if (!gate) {
		if (gate_pauses(c) && c->loaded)
			c->held = elapsed(c, now);
		c->gate = false;
		return;
	}
	c->gate = true;
	if (c->mode == MODE_TERMINAL_COUNT || c->mode == MODE_SOFT_STROBE)
		c->start = now - c->held; /* goes on */
	else if (c->pending)
		load(c, c->pending_initial, now);
	else if (c->loaded)
		load(c, c->initial, now);
}

/* A whole count has been written. */
static void write_count(struct counter *c, uint16_t value, int64_t now)
{
	uint32_t initial = c->bcd ? from_bcd(value) % 10000 : value;

	if (!initial)
		initial = c->bcd ? 10000 : 65536;
	switch (c->mode) {
	case MODE_TERMINAL_COUNT:
	case MODE_SOFT_STROBE:
		load(c, initial, now);
		return;
	case MODE_RATE:
	case MODE_SQUARE:
		if (!c->loaded || now < c->start || !c->gate) {
			load(c, initial, now);
			return;
		}
		if (!c->pending) {
			int64_t n = c->initial, d = elapsed(c, now), base = now - d % n;

			c->pending_low = c->mode == MODE_SQUARE && d % n < high_half(c->initial);
			c->pending_at = base + (c->pending_low ? high_half(c->initial) : n);
		}
		break;
	case MODE_ONE_SHOT:
	case MODE_HARD_STROBE:
		break; /* waits for a trigger */
	}
	c->pending = true;
	c->pending_initial = initial;
}

/* ---- counter 0 and its interrupt ---- */

/* The next pulse after `now` at which the output rises; -1: it does not. */
static int64_t next_rise(const struct counter *c, int64_t now)
{
	int64_t n = c->initial, d = elapsed(c, now);

	if (!c->loaded || !c->gate)
		return -1;
	switch (c->mode) {
	case MODE_TERMINAL_COUNT:
		return d < n ? c->start + n : -1;
	case MODE_SOFT_STROBE:
		return d <= n ? c->start + n + 1 : -1;
	case MODE_RATE:
	case MODE_SQUARE:
		if (c->pending)
			return c->pending_low ? c->pending_at + c->pending_initial - high_half(c->pending_initial)
					      : c->pending_at;
		return n < 2 ? -1 : c->start + (d / n + 1) * n; /* a count of 1 is illegal here */
	default:
		return -1; /* a trigger would be needed, and gate 0 is tied high */
	}
}

static void arm(struct pit *pit, uint64_t not_before)
{
	uint64_t at = pulse_time(pit->edge);

	timer_arm(&pit->timer, at > not_before ? at : not_before);
}

/* Counter 0 was programmed. */
static void restart_irq(struct pit *pit, int64_t now)
{
	struct counter *c = &pit->counter[0];

	irq_set(&pit->irq0, output(c, now));
	pit->edge = next_rise(c, now);
	if (pit->edge < 0)
		timer_cancel(&pit->timer);
	else
		arm(pit, timer_queue_now(pit->timers) + (periodic(c) ? GAP_MIN_NS : 0));
}

static void timer_fired(void *opaque)
{
	struct pit *pit = opaque;
	struct counter *c = &pit->counter[0];
	int64_t now = clock_pulses(pit);

	settle(c, now);
	irq_set(&pit->irq0, 0);
	irq_set(&pit->irq0, 1);
	if (!periodic(c) || c->initial < 2)
		return;
	int64_t n = c->initial;
	uint64_t gap = GAP_MIN_NS, period = pulse_time(n), ns = timer_queue_now(pit->timers);
	pit->edge += n;
	if (pit->edge <= now) { /* late by more than a period */
		int64_t behind = (now - pit->edge) / n + 1;

		if (pulse_time(now - pit->edge) > BACKLOG_MAX_NS) {
			LOG(LOG_PIT, "gave up %lld ticks", (long long)behind);
			pit->edge += behind * n;
		} else if (period / 2 > gap) {
			gap = period / 2;
		}
	}
	arm(pit, ns + gap);
}

/* ---- ports ---- */

static void write_control(struct pit *pit, uint8_t value, int64_t now)
{
	unsigned select = CONTROL_SELECT(value);

	LOG(LOG_PIT, "control %#x", value);
	if (select == SELECT_READ_BACK) {
		for (unsigned i = 0; i < COUNTERS; i++) {
			if (!(value & 2u << i))
				continue;
			if (!(value & READ_BACK_NOT_COUNT))
				latch_count(&pit->counter[i], now);
			if (!(value & READ_BACK_NOT_STATUS))
				latch_status(&pit->counter[i], now);
		}
		return;
	}
	struct counter *c = &pit->counter[select];
	if (CONTROL_RW(value) == RW_LATCH) {
		latch_count(c, now);
		return;
	}
	unsigned mode = CONTROL_MODE(value);
	*c = (struct counter){
		.mode = mode > 5 ? mode - 4 : mode,
		.rw = CONTROL_RW(value),
		.bcd = value & CONTROL_BCD,
		.gate = c->gate,
		.initial = c->initial,
	};
	if (select == 0)
		restart_irq(pit, now);
}

static void pit_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pit *pit = dev;
	int64_t now = clock_pulses(pit);
	uint8_t v = (uint8_t)value;

	(void)size;
	if (offset == 3) {
		if (CONTROL_SELECT(v) != SELECT_READ_BACK)
			settle(&pit->counter[CONTROL_SELECT(v)], now);
		else
			for (unsigned i = 0; i < COUNTERS; i++)
				settle(&pit->counter[i], now);
		write_control(pit, v, now);
		return;
	}
	struct counter *c = &pit->counter[offset];
	settle(c, now);
	if (c->rw == RW_BOTH && !c->write_msb) { /* the first byte of two */
		c->write_msb = true;
		c->write_lsb = v;
		if (c->mode != MODE_TERMINAL_COUNT)
			return;
		c->loaded = false; /* stops until the second byte */
	} else if (c->rw == RW_BOTH) {
		c->write_msb = false;
		write_count(c, (uint16_t)(v << 8 | c->write_lsb), now);
	} else if (c->rw) {
		write_count(c, c->rw == RW_MSB ? (uint16_t)(v << 8) : v, now);
	} else {
		return; /* no control word yet */
	}
	LOG(LOG_PIT, "counter %d: %#x, mode %u, initial %u", (int)offset, v, c->mode, c->initial);
	if (offset == 0)
		restart_irq(pit, now);
}

static uint64_t pit_read(void *dev, uint64_t offset, unsigned size)
{
	struct pit *pit = dev;
	int64_t now = clock_pulses(pit);

	(void)size;
	if (offset == 3)
		return 0xff; /* the control word cannot be read */
	struct counter *c = &pit->counter[offset];
	settle(c, now);
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	bool msb = c->rw == RW_MSB;
	if (c->rw == RW_BOTH) {
		msb = c->read_msb;
		c->read_msb = !c->read_msb;
	}
	uint16_t value = c->latched;
	if (c->latched_bytes)
		c->latched_bytes--;
	else
		value = count(c, now);
	return msb ? value >> 8 : value & 0xff;
}

static uint64_t port_b_read(void *dev, uint64_t offset, unsigned size)
{
	struct pit *pit = dev;
	int64_t now = clock_pulses(pit);
	uint8_t value = pit->port_b;

	(void)offset;
	(void)size;
	settle(&pit->counter[2], now);
	if (output(&pit->counter[2], now))
		value |= PORTB_OUT2;
	if (timer_queue_now(pit->timers) / REFRESH_TOGGLE_NS & 1)
		value |= PORTB_REFRESH;
	return value;
}

static void port_b_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pit *pit = dev;
	int64_t now = clock_pulses(pit);

	(void)offset;
	(void)size;
	pit->port_b = (uint8_t)value & PORTB_WRITABLE;
	settle(&pit->counter[2], now);
	set_gate(&pit->counter[2], value & PORTB_GATE2, now);
}

static const struct bus_ops pit_ops = {.read = pit_read, .write = pit_write, .max_size = 1};
static const struct bus_ops port_b_ops = {.read = port_b_read, .write = port_b_write, .max_size = 1};

/* The data sheet leaves counters undefined until they are programmed: here they stand still. */
void pit_reset(struct pit *pit)
{
	for (unsigned i = 0; i < COUNTERS; i++)
		pit->counter[i] = (struct counter){.gate = i != 2, .initial = 65536};
	pit->port_b = 0;
	timer_cancel(&pit->timer);
	irq_set(&pit->irq0, 0);
}

struct pit *pit_new(struct bus *pio, struct timer_queue *timers, struct irq_line irq0)
{
	struct pit *pit = calloc(1, sizeof *pit);
	int err;

	if (!pit)
		return NULL;
	pit->irq0 = irq0;
	pit->timers = timers;
	timer_init(&pit->timer, timers, timer_fired, pit);
	pit_reset(pit);
	if ((err = bus_register(pio, 0x40, 4, &pit_ops, pit, "pit")) ||
	    (err = bus_register(pio, 0x61, 1, &port_b_ops, pit, "port-b"))) {
		free(pit);
		errno = -err;
		return NULL;
	}
	return pit;
}

void pit_free(struct pit *pit)
{
	if (!pit)
		return;
	timer_cancel(&pit->timer);
	free(pit);
}
