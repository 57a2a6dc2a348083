/*
 * HPET. See hpet.h.
 *
 * The counter follows the timer queue's time; a host timer runs only for what interrupts. Ticks of a periodic timer that
 * the host delivers late are caught up at up to twice their rate; those more than a second late are dropped, and none
 * come faster than every 50 us, whatever period the guest asks for. Interrupts by message (FSB) are not offered.
 *
 * Called under vm->lock. Source: IA-PC HPET Specification 1.0a, chapter 2.
 */
#include "dev/hpet.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"
#include "util/timer.h"

#define TIMERS 3
#define TICK_NS 10ull
#define PERIOD_FS 10000000ull
#define NS_PER_S 1000000000ull
#define INTERVAL_MIN_NS 50000ull

/* Registers */
enum { CAPABILITIES = 0x00, CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, TIMER0 = 0x100, TIMER_STRIDE = 0x20 };
enum { TIMER_CONFIG = 0x00, TIMER_COMPARATOR = 0x08 }; /* of a timer */

#define CONFIG_ENABLE 1ull
#define CONFIG_LEGACY 2ull

#define TN_LEVEL (1ull << 1)
#define TN_ENABLE (1ull << 2)
#define TN_PERIODIC (1ull << 3)
#define TN_PERIODIC_CAPABLE (1ull << 4)
#define TN_SIZE_CAPABLE (1ull << 5)
#define TN_VALUE_SET (1ull << 6)
#define TN_32BIT (1ull << 8)
#define TN_ROUTE(c) ((c) >> 9 & 0x1f)
#define TN_WRITABLE 0x3f4eull
#define TN_ROUTES (0x00ff0104ull << 32) /* GSIs 2, 8, 16 to 23 */
#define LEGACY_TIMER0_GSI 2
#define LEGACY_TIMER1_GSI 8

struct comparator {
	struct hpet *hpet;
	unsigned n;
	uint64_t config, value, period;
	uint64_t fired; /* ns of its last interrupt */
	bool level;     /* status bit: level-triggered and not yet cleared */
	int gsi;        /* the line that it holds; -1: none */
	struct timer timer;
};

struct hpet {
	uint64_t config;
	uint64_t base, since; /* the counter's value, and the time when it had that */
	struct comparator comparator[TIMERS];
	struct timer_queue *timers;
	const struct hpet_ops *ops;
	void *opaque;
};

/* ---- the counter ---- */

static uint64_t counter(const struct hpet *h)
{
	return h->base + (h->config & CONFIG_ENABLE ? (timer_queue_now(h->timers) - h->since) / TICK_NS : 0);
}

static void set_counter(struct hpet *h, uint64_t value)
{
	h->base = value;
	h->since = timer_queue_now(h->timers);
}

/* ---- interrupts ---- */

static bool is_periodic(const struct comparator *t) { return t->config & TN_PERIODIC; }
static uint64_t width(const struct comparator *t) { return t->config & TN_32BIT ? UINT32_MAX : UINT64_MAX; }

static unsigned gsi_of(const struct comparator *t)
{
	if ((t->hpet->config & CONFIG_LEGACY) && t->n < 2)
		return t->n == 0 ? LEGACY_TIMER0_GSI : LEGACY_TIMER1_GSI;
	return TN_ROUTE(t->config);
}

/* Its line as status and configuration want it. */
static void update_line(struct comparator *t)
{
	struct hpet *h = t->hpet;
	bool wanted = t->level && (t->config & TN_ENABLE) && (t->config & TN_LEVEL) && (h->config & CONFIG_ENABLE);
	int gsi = wanted ? (int)gsi_of(t) : -1;

	if (gsi == t->gsi)
		return;
	if (t->gsi >= 0)
		h->ops->set_gsi(h->opaque, (unsigned)t->gsi, 0);
	t->gsi = gsi;
	if (gsi >= 0)
		h->ops->set_gsi(h->opaque, (unsigned)gsi, 1);
}

static void interrupt(struct comparator *t)
{
	struct hpet *h = t->hpet;

	if (t->config & TN_LEVEL) {
		t->level = true;
		update_line(t);
	} else if (t->config & TN_ENABLE) {
		h->ops->set_gsi(h->opaque, gsi_of(t), 1);
		h->ops->set_gsi(h->opaque, gsi_of(t), 0);
	}
}

/* ---- comparators ---- */

enum when {
	NEXT,       /* the counter's next match */
	AFTER_THIS, /* it has just matched */
	LATE,       /* it has matched, and that has not been delivered yet */
};

/* A periodic timer that nobody listened to has gone on. */
static void skip_past(struct comparator *t)
{
	uint64_t past = (counter(t->hpet) - t->value) & width(t);

	if (t->period && past <= width(t) / 2)
		t->value = (t->value + (past / t->period + 1) * t->period) & width(t);
}

/* Arms the host timer, or not: nobody would see it. The comparator asks for equality: a one-shot match that is past
 * comes when the counter has wrapped. */
static void arm(struct comparator *t, enum when when)
{
	struct hpet *h = t->hpet;

	timer_cancel(&t->timer);
	if (!(h->config & CONFIG_ENABLE) || !(t->config & (TN_ENABLE | TN_LEVEL)))
		return;
	if (is_periodic(t) && when == NEXT)
		skip_past(t);
	uint64_t now = timer_queue_now(h->timers), left = (t->value - counter(h)) & width(t);
	if (when == LATE)
		left = 0;
	else if (left == 0 && when == AFTER_THIS)
		left = width(t) == UINT64_MAX ? UINT64_MAX : width(t) + 1;
	if (left > (UINT64_MAX - now) / TICK_NS)
		return; /* in centuries */
	uint64_t due = now + left * TICK_NS, gap = is_periodic(t) ? t->period / 2 * TICK_NS : 0;
	if (gap < INTERVAL_MIN_NS || gap > NS_PER_S)
		gap = INTERVAL_MIN_NS;
	if (t->fired && due < t->fired + gap)
		due = t->fired + gap;
	timer_arm(&t->timer, due);
}

/* How many ticks the counter is past the comparator's match. */
static uint64_t ticks_past(const struct comparator *t) { return (counter(t->hpet) - t->value) & width(t); }

static void fire(void *opaque)
{
	struct comparator *t = opaque;
	uint64_t past = ticks_past(t);
	enum when next = AFTER_THIS;

	if (is_periodic(t) && t->period) {
		bool too_many = past > NS_PER_S / TICK_NS; /* to catch up with */

		t->value = (t->value + (too_many ? past / t->period + 1 : 1) * t->period) & width(t);
		next = !too_many && past >= t->period ? LATE : AFTER_THIS;
	}
	t->fired = timer_queue_now(t->hpet->timers);
	interrupt(t);
	arm(t, next);
}

/* ---- registers ---- */

static void rearm_all(struct hpet *h)
{
	for (unsigned n = 0; n < TIMERS; n++) {
		h->comparator[n].fired = 0;
		arm(&h->comparator[n], NEXT);
		update_line(&h->comparator[n]);
	}
}

static void write_config(struct hpet *h, uint64_t value)
{
	uint64_t changed = h->config ^ value;

	if (changed & CONFIG_ENABLE) {
		uint64_t now = counter(h);

		h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
		set_counter(h, now);
	}
	h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
	if (changed & CONFIG_LEGACY)
		h->ops->legacy(h->opaque, h->config & CONFIG_LEGACY);
	rearm_all(h);
}

static void write_timer_config(struct comparator *t, uint64_t value)
{
	uint64_t writable = TN_WRITABLE;

	if (t->n != 0)
		writable &= ~(TN_PERIODIC | TN_VALUE_SET);
	t->config = (t->config & ~writable) | (value & writable);
	if (!(TN_ROUTES >> 32 >> TN_ROUTE(t->config) & 1))
		t->config &= ~(0x1full << 9); /* what it cannot reach reads back as another */
	t->value &= width(t);
	t->period &= width(t);
	if (!(t->config & TN_LEVEL))
		t->level = false;
	update_line(t);
	t->fired = 0;
	arm(t, NEXT);
}

/* Of a periodic timer a write sets the period, and the value too when that was asked for. `written`: the bits that the
 * access reaches. */
static void write_comparator(struct comparator *t, uint64_t value, uint64_t written)
{
	if (!is_periodic(t) || (t->config & TN_VALUE_SET))
		t->value = ((t->value & ~written) | (value & written)) & width(t);
	if (is_periodic(t))
		t->period = ((t->period & ~written) | (value & written)) & width(t);
	t->config &= ~TN_VALUE_SET;
	t->fired = 0;
	arm(t, NEXT);
}

static uint64_t read_timer(const struct comparator *t, unsigned offset)
{
	if (offset == TIMER_CONFIG)
		return t->config;
	return offset == TIMER_COMPARATOR ? t->value : 0;
}

static uint64_t read_register(struct hpet *h, unsigned offset)
{
	uint64_t status = 0;

	switch (offset) {
	case CAPABILITIES:
		return PERIOD_FS << 32 | HPET_ID;
	case CONFIG:
		return h->config;
	case STATUS:
		for (unsigned n = 0; n < TIMERS; n++)
			status |= (uint64_t)h->comparator[n].level << n;
		return status;
	case COUNTER:
		return counter(h);
	}
	unsigned n = (offset - TIMER0) / TIMER_STRIDE;
	return offset >= TIMER0 && n < TIMERS ? read_timer(&h->comparator[n], offset % TIMER_STRIDE) : 0;
}

static void clear_status(struct hpet *h, uint64_t value)
{
	for (unsigned n = 0; n < TIMERS; n++) {
		if (!(value >> n & 1))
			continue;
		h->comparator[n].level = false;
		update_line(&h->comparator[n]);
	}
}

/* `value` with `written`, the bits of the register that the access reaches. */
static void write_register(struct hpet *h, unsigned offset, uint64_t value, uint64_t written)
{
	uint64_t merged = (read_register(h, offset) & ~written) | (value & written);
	unsigned n = (offset - TIMER0) / TIMER_STRIDE;

	if (offset == CONFIG) {
		write_config(h, merged);
	} else if (offset == STATUS) {
		clear_status(h, value & written);
	} else if (offset == COUNTER) {
		set_counter(h, merged);
		rearm_all(h);
	} else if (offset >= TIMER0 && n < TIMERS) {
		if (offset % TIMER_STRIDE == TIMER_CONFIG)
			write_timer_config(&h->comparator[n], merged);
		else if (offset % TIMER_STRIDE == TIMER_COMPARATOR)
			write_comparator(&h->comparator[n], value, written);
	}
}

static uint64_t bits(unsigned size) { return size == 8 ? UINT64_MAX : (1ull << size * 8) - 1; }

static uint64_t hpet_read(void *dev, uint64_t offset, unsigned size)
{
	(void)size;
	return read_register(dev, (unsigned)offset & ~7u) >> (offset & 7) * 8;
}

static void hpet_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	unsigned shift = (offset & 7) * 8;

	write_register(dev, (unsigned)offset & ~7u, value << shift, bits(size) << shift);
}

static const struct bus_ops hpet_bus_ops = {.read = hpet_read, .write = hpet_write};

/* ---- life ---- */

struct hpet *hpet_new(struct bus *mmio, struct timer_queue *timers, const struct hpet_ops *ops, void *opaque)
{
	struct hpet *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->timers = timers;
	h->ops = ops;
	h->opaque = opaque;
	for (unsigned n = 0; n < TIMERS; n++) {
		struct comparator *t = &h->comparator[n];

		t->hpet = h;
		t->n = n;
		t->gsi = -1;
		t->value = UINT64_MAX;
		t->config = TN_SIZE_CAPABLE | TN_ROUTES | (n == 0 ? TN_PERIODIC_CAPABLE : 0);
		timer_init(&t->timer, timers, fire, t);
	}
	int err = bus_register(mmio, HPET_BASE, HPET_SIZE, &hpet_bus_ops, h, "hpet");
	if (err) {
		free(h);
		errno = -err;
		return NULL;
	}
	return h;
}

void hpet_free(struct hpet *h)
{
	if (!h)
		return;
	for (unsigned n = 0; n < TIMERS; n++)
		timer_cancel(&h->comparator[n].timer);
	free(h);
}
