/*
 * Local APIC: priority, LVT, IPIs, timer. Its registers are in lapic_registers.c. See lapic.h for threads and lock.
 *
 * IRR, ISR and TMR are bitmaps by vector. The timer runs on the VM's timer queue: a count is a
 * nanosecond (LAPIC_TIMER_HZ) times the divider, a TSC deadline is turned into a moment of that
 * queue and checked against the guest's TSC when it fires. The count itself is worked out from the
 * time; the host's timer runs only for ticks that the guest would notice.
 * Sources: SDM 3A chapter 11 "Advanced Programmable Interrupt Controller".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irq/lapic_internal.h"
#include "mem/memory.h"
#include "util/log.h"

uint32_t lapic_id(const struct lapic *l)
{
	return l->config.index;
}

/* ---- vectors and priority ---- */

static bool bit_test(const uint32_t *map, unsigned v)
{
	return map[v / 32] >> (v % 32) & 1;
}

static void bit_set(uint32_t *map, unsigned v, bool on)
{
	if (on)
		map[v / 32] |= 1u << (v % 32);
	else
		map[v / 32] &= ~(1u << (v % 32));
}

static int highest(const uint32_t *map)
{
	for (int i = 7; i >= 0; i--)
		if (map[i])
			return i * 32 + 31 - __builtin_clz(map[i]);
	return -1;
}

uint32_t lapic_priority(const struct lapic *l)
{
	int serving = highest(l->isr);
	uint32_t class = serving < 0 ? 0 : (uint32_t)serving & 0xf0;

	return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

int lapic_pending_vector(struct lapic *l)
{
	int v;

	if (!(l->base & BASE_ENABLE) || asleep(l))
		return -1;
	v = highest(l->irr);
	return v >= 0 && ((uint32_t)v & 0xf0) > (lapic_priority(l) & 0xf0) ? v : -1;
}

static void pv_eoi_offer(struct lapic *l, unsigned v);

int lapic_ack(struct lapic *l)
{
	int v = lapic_pending_vector(l);

	if (v < 0)
		return -1;
	bool timers = (uint8_t)l->lvt[LVT_TIMER] == v;
	if (timers)
		lapic_timer_catch_up(l);
	bit_set(l->irr, (unsigned)v, false);
	bit_set(l->isr, (unsigned)v, true);
	if (timers)
		lapic_timer_wait(l);
	pv_eoi_offer(l, (unsigned)v);
	return v;
}

bool lapic_extint_pending(const struct lapic *l)
{
	uint32_t lvt = l->lvt[LVT_LINT0];

	if (!l->lint[0])
		return false;
	if (!(l->base & BASE_ENABLE) || l->extint_message || asleep(l)) /* asleep: who has it knows what LINT0 says */
		return true;
	return !(lvt & LVT_MASKED) && LVT_MODE(lvt) == LAPIC_EXTINT;
}

bool lapic_extint_sent(const struct lapic *l) { return l->lint[0] && l->extint_message; }

/* Something changed: the vCPU has to look when there is something for it. */
void lapic_update(struct lapic *l)
{
	/* What seems to be in service may have ended: the vCPU's thread finds out. */
	if (l->pv_eoi_set || lapic_pending_vector(l) >= 0 || lapic_extint_pending(l))
		l->config.ops->kick(l->config.opaque, l->config.index);
}


void lapic_error(struct lapic *l, uint32_t bit)
{
	bool seen = l->esr & bit;

	l->esr |= bit;
	/* The error LVT's own vector may be the illegal one: report that once only. */
	if (!seen)
		lapic_deliver_lvt(l, LVT_ERROR);
}

bool lapic_deliver(struct lapic *l, enum lapic_delivery mode, uint8_t vector, bool level)
{
	const struct lapic_ops *ops = l->config.ops;
	bool pending;

	if (!(l->base & BASE_ENABLE))
		return false;
	switch (mode) {
	case LAPIC_FIXED:
	case LAPIC_LOWEST:
		if (!(l->svr & SVR_ENABLE))
			return false;
		if (vector < 16) {
			lapic_error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
			return false;
		}
		pending = bit_test(l->irr, vector);
		bit_set(l->irr, vector, true);
		bit_set(l->tmr, vector, level);
		if (!pending) /* else the vCPU knows already */
			lapic_update(l);
		return !pending;
	case LAPIC_NMI:
		ops->nmi(l->config.opaque, l->config.index);
		return true;
	case LAPIC_INIT:
		ops->init(l->config.opaque, l->config.index);
		return true;
	case LAPIC_STARTUP:
		ops->startup(l->config.opaque, l->config.index, vector);
		return true;
	case LAPIC_EXTINT:
		l->extint_message = true;
		lapic_update(l);
		return true;
	default: /* SMI: there is no SMM */
		return false;
	}
}


void lapic_end_of_interrupt(struct lapic *l)
{
	uint32_t *lint0 = &l->lvt[LVT_LINT0];
	int v = highest(l->isr);

	lapic_withdraw_pv_eoi(l);
	if (v < 0)
		return;
	bit_set(l->isr, (unsigned)v, false);
	if (bit_test(l->tmr, (unsigned)v)) {
		if (!(l->svr & SVR_NO_EOI_BROADCAST))
			l->config.ops->eoi(l->config.opaque, l->config.index, (uint8_t)v);
		if ((*lint0 & LVT_REMOTE_IRR) && (*lint0 & 0xff) == (uint32_t)v) {
			*lint0 &= ~LVT_REMOTE_IRR;
			if (l->lint[0])
				lapic_deliver_lvt(l, LVT_LINT0);
		}
	}
	lapic_update(l);
}

/* ---- paravirtual EOI ---- */

static void pv_eoi_write(struct lapic *l, uint8_t bit)
{
	l->pv_eoi_set = memory_write(l->config.memory, l->pv_eoi_msr & ~3ull, &bit, 1) == 0 && bit;
}

/* The vCPU has just taken vector v. Its EOI may be left out if nothing follows from it: nobody waits behind it, it is
 * not level-triggered, and nothing was interrupted by it. */
static void pv_eoi_offer(struct lapic *l, unsigned v)
{
	if (!(l->pv_eoi_msr & PV_EOI_ENABLED) || bit_test(l->tmr, v) || highest(l->irr) >= 0)
		return;
	bit_set(l->isr, v, false);
	bool alone = highest(l->isr) < 0;
	bit_set(l->isr, v, true);
	if (alone)
		pv_eoi_write(l, 1);
}

void lapic_withdraw_pv_eoi(struct lapic *l)
{
	if (l->pv_eoi_set)
		pv_eoi_write(l, 0);
}

void lapic_pv_eoi(struct lapic *l)
{
	uint8_t byte = 1;

	if (!l->pv_eoi_set)
		return;
	memory_read(l->config.memory, l->pv_eoi_msr & ~3ull, &byte, 1);
	if (!(byte & 1)) {
		l->pv_eoi_set = false;
		l->pv_eois++;
		lapic_end_of_interrupt(l);
	} else if (highest(l->irr) >= 0) {
		lapic_withdraw_pv_eoi(l); /* somebody waits for it by now */
	}
}

void lapic_set_pv_eoi(struct lapic *l, uint64_t value)
{
	lapic_pv_eoi(l);
	lapic_withdraw_pv_eoi(l);
	l->pv_eoi_msr = l->config.memory ? value : 0;
}

uint64_t lapic_get_pv_eoi(const struct lapic *l) { return l->pv_eoi_msr; }

uint64_t lapic_pv_eois(const struct lapic *l) { return l->pv_eois; }

/* ---- local vector table ---- */

void lapic_deliver_lvt(struct lapic *l, enum lvt which)
{
	uint32_t *lvt = &l->lvt[which];
	enum lapic_delivery mode = LVT_MODE(*lvt);
	bool level = which == LVT_LINT0 && (*lvt & LVT_LEVEL);

	if (*lvt & LVT_MASKED)
		return;
	if (which == LVT_TIMER || which == LVT_ERROR)
		mode = LAPIC_FIXED;
	if (mode == LAPIC_FIXED && level) {
		if (*lvt & LVT_REMOTE_IRR)
			return;
		*lvt |= LVT_REMOTE_IRR;
	}
	if (mode == LAPIC_EXTINT) /* lint[0] says it all */
		lapic_update(l);
	else if (mode == LAPIC_FIXED || mode == LAPIC_NMI || mode == LAPIC_INIT)
		lapic_deliver(l, mode, (uint8_t)*lvt, level);
}

void lapic_set_lint(struct lapic *l, unsigned pin, bool level)
{
	bool rose = level && !l->lint[pin & 1];

	l->lint[pin & 1] = level;
	if (pin == 0 && !level)
		l->extint_message = false;
	if (!rose)
		return;
	if ((l->base & BASE_ENABLE) && !asleep(l))
		lapic_deliver_lvt(l, pin ? LVT_LINT1 : LVT_LINT0);
	else if (pin) /* with the APIC off the pins are NMI and INTR */
		l->config.ops->nmi(l->config.opaque, l->config.index);
	else
		lapic_update(l);
}

/* ---- the bus ---- */

static bool accepts(const struct lapic *l, uint32_t dest, bool logical)
{
	uint32_t ldr = l->ldr;

	if (!(l->base & BASE_ENABLE))
		return false;
	if (dest == BROADCAST)
		return true;
	if (!logical)
		return dest == lapic_id(l);
	if (x2apic_mode(l))
		return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
	ldr >>= 24;
	if (l->dfr >> 28 == DFR_FLAT)
		return dest & ldr & 0xff;
	return (dest == XAPIC_BROADCAST || (dest >> 4 & 0xf) == ldr >> 4) && (dest & ldr & 0xf);
}

static uint64_t bus_targets(const struct lapic_bus *bus, uint32_t dest, bool logical)
{
	uint64_t targets = 0;

	for (unsigned i = 0; i < bus->count; i++)
		if (bus->lapic[i] && accepts(bus->lapic[i], dest, logical))
			targets |= 1ull << i;
	return targets;
}

/* Lowest priority: of the targets that take interrupts the one with the lowest processor priority. */
static uint64_t arbitrate(const struct lapic_bus *bus, uint64_t targets)
{
	uint32_t best_priority = UINT32_MAX;
	uint64_t best = 0;

	for (unsigned i = 0; i < bus->count; i++) {
		if (!(targets >> i & 1) || !software_enabled(bus->lapic[i]))
			continue;
		if (lapic_priority(bus->lapic[i]) < best_priority) {
			best_priority = lapic_priority(bus->lapic[i]);
			best = 1ull << i;
		}
	}
	return best;
}

static int bus_send(struct lapic_bus *bus, uint64_t targets, enum lapic_delivery mode, uint8_t vector, bool level,
		    bool *coalesced)
{
	int taken = 0;
	bool fresh = false;

	if (mode == LAPIC_LOWEST)
		targets = arbitrate(bus, targets);
	for (unsigned i = 0; i < bus->count; i++) {
		if (!(targets >> i & 1))
			continue;
		if ((mode == LAPIC_FIXED || mode == LAPIC_LOWEST) && !software_enabled(bus->lapic[i]))
			continue;
		fresh |= lapic_deliver(bus->lapic[i], mode, vector, level);
		taken++;
	}
	if (coalesced)
		*coalesced = taken && !fresh;
	return taken;
}

struct apic_msi lapic_message_msi(const struct lapic_message *m)
{
	return (struct apic_msi){
		.address = LAPIC_DEFAULT_BASE | (m->dest & 0xff) << 12 | (m->mode == LAPIC_LOWEST ? MSI_REDIRECTION : 0) |
			   (m->logical ? MSI_LOGICAL : 0),
		.data = m->vector | (uint32_t)m->mode << 8 | (m->level ? MSI_LEVEL | MSI_ASSERT : 0),
	};
}

/* There is no SMM. */
static int deliver_elsewhere(struct lapic_bus *bus, const struct lapic_message *m, bool *coalesced)
{
	const struct apic_msi msi = lapic_message_msi(m);
	int taken = -1;

	if (m->mode != LAPIC_SMI)
		taken = bus->message(bus->message_opaque, &msi);
	if (coalesced)
		*coalesced = taken == 0;
	return taken < 0 ? 0 : taken == 0 ? 1 : taken;
}

int lapic_bus_deliver(struct lapic_bus *bus, const struct lapic_message *m, bool *coalesced)
{
	/* The 8259's request stays with its pin, which is here: it has been passed on also when these wake. */
	if (bus->message && m->mode != LAPIC_EXTINT)
		return deliver_elsewhere(bus, m, coalesced);
	/* Who sends these has 8 bits for the destination, as in xAPIC mode. */
	uint32_t dest = m->dest == XAPIC_BROADCAST && !m->logical ? BROADCAST : m->dest;

	return bus_send(bus, bus_targets(bus, dest, m->logical), m->mode, m->vector, m->level, coalesced);
}

int lapic_bus_deliver_to(struct lapic_bus *bus, uint64_t targets, enum lapic_delivery mode, uint8_t vector)
{
	for (unsigned i = 0; i < LAPIC_MAX; i++)
		if ((targets >> i & 1) && (i >= bus->count || !bus->lapic[i] || !(bus->lapic[i]->base & BASE_ENABLE)))
			targets &= ~(1ull << i);
	return bus_send(bus, targets, mode, vector, false, NULL);
}

int lapic_bus_deliver_msi(struct lapic_bus *bus, uint64_t address, uint32_t data)
{
	struct lapic_message m = {
		.dest = address >> 12 & 0xff,
		.logical = address & MSI_LOGICAL,
		.mode = data >> 8 & 7,
		.vector = data & 0xff,
		.level = data & MSI_LEVEL,
	};

	return lapic_bus_deliver(bus, &m, NULL);
}

/* A write of ICR: an IPI. */
void lapic_send_ipi(struct lapic *l)
{
	struct lapic_bus *bus = l->config.bus;
	enum lapic_delivery mode = l->icr >> 8 & 7;
	uint8_t vector = (uint8_t)l->icr;
	uint32_t dest = (uint32_t)(l->icr >> 32);
	uint64_t self = 1ull << l->config.index, targets;

	LOG(LOG_LAPIC, "lapic %u: IPI %#llx", l->config.index, (unsigned long long)l->icr);
	if (mode == LAPIC_INIT && (l->icr & ICR_LEVEL) && !(l->icr & ICR_ASSERT))
		return; /* INIT level de-assert: sets arbitration IDs, which are no more */
	if ((mode == LAPIC_FIXED || mode == LAPIC_LOWEST) && vector < 16) {
		lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
		return;
	}
	switch (l->icr >> 18 & 3) {
	case 0:
		if (dest == XAPIC_BROADCAST && !x2apic_mode(l) && !(l->icr & ICR_LOGICAL))
			dest = BROADCAST;
		targets = bus_targets(bus, dest, l->icr & ICR_LOGICAL);
		break;
	case 1:
		targets = self;
		break;
	case 2:
		targets = bus_targets(bus, BROADCAST, false);
		break;
	default:
		targets = bus_targets(bus, BROADCAST, false) & ~self;
		break;
	}
	if (mode == LAPIC_EXTINT) /* not to be sent by ICR */
		return;
	bus_send(bus, targets, mode, vector, false, NULL);
}

/* ---- timer ---- */

enum timer_mode lapic_timer_mode(const struct lapic *l)
{
	return TIMER_MODE(l->lvt[LVT_TIMER]);
}

static uint64_t timer_divider(const struct lapic *l)
{
	return 1ull << ((((l->divide & 3) | (l->divide & 8) >> 1) + 1) & 7);
}

void lapic_timer_stop(struct lapic *l)
{
	timer_cancel(&l->timer);
	l->deadline = 0;
	l->tsc_deadline = 0;
}

uint32_t lapic_timer_count(const struct lapic *l)
{
	uint64_t now = now_ns(l), period = l->initial_count * timer_divider(l), left;

	if (!l->deadline || lapic_timer_mode(l) == TIMER_TSC_DEADLINE)
		return 0;
	if (now < l->deadline)
		left = l->deadline - now;
	else if (lapic_timer_mode(l) == TIMER_PERIODIC && period)
		left = period - (now - l->deadline) % period; /* due, and not fired yet */
	else
		return 0;
	left = (left + timer_divider(l) - 1) / timer_divider(l);
	return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

/* A tick now would change nothing: the LVT masks it, or it would merge with one that is still pending. */
static bool tick_unnoticed(const struct lapic *l)
{
	uint32_t lvt = l->lvt[LVT_TIMER];

	return (lvt & LVT_MASKED) || bit_test(l->irr, lvt & 0xff);
}

/* The count has reached 0 at the deadline: on to the next one after `now`. */
static void count_expired(struct lapic *l, uint64_t now)
{
	uint64_t period = l->initial_count * timer_divider(l);

	if (lapic_timer_mode(l) == TIMER_PERIODIC)
		l->deadline += ((now - l->deadline) / period + 1) * period; /* ticks that were missed merge */
	else
		l->deadline = 0;
}

/* To be called before anything changes that makes ticks noticed again: those up to now were not. */
void lapic_timer_catch_up(struct lapic *l)
{
	if (l->deadline && tick_unnoticed(l) && l->deadline <= now_ns(l))
		count_expired(l, now_ns(l));
}

/* Sets the host's timer to the deadline. */
void lapic_timer_wait(struct lapic *l)
{
	uint64_t at = l->deadline;

	if (!at)
		return; /* stopped, or TSC-deadline mode */
	if (lapic_timer_mode(l) == TIMER_PERIODIC && at < l->last_tick + TIMER_PERIOD_MIN_NS)
		at = l->last_tick + TIMER_PERIOD_MIN_NS;
	timer_arm(&l->timer, at);
}

void lapic_timer_start(struct lapic *l, uint32_t count)
{
	lapic_timer_stop(l);
	if (!count)
		return;
	l->deadline = now_ns(l) + count * timer_divider(l);
	lapic_timer_wait(l);
}

static void tsc_deadline_expired(struct lapic *l)
{
	l->tsc_deadline = 0;
	lapic_deliver_lvt(l, LVT_TIMER);
}

/* Waits for the TSC deadline, or for a part of the way there. */
static void tsc_deadline_wait(struct lapic *l)
{
	uint64_t tsc = l->config.ops->tsc(l->config.opaque, l->config.index), ns;

	if (tsc >= l->tsc_deadline) {
		tsc_deadline_expired(l);
		return;
	}
	ns = TIMER_WAIT_MAX_NS;
	if (l->tsc_deadline - tsc < UINT64_MAX / 1000000) {
		uint64_t exact = (l->tsc_deadline - tsc) * 1000000 / l->config.tsc_khz + 1;

		ns = exact < ns ? exact : ns;
	}
	timer_arm(&l->timer, now_ns(l) + ns);
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t value)
{
	if (lapic_timer_mode(l) != TIMER_TSC_DEADLINE)
		return;
	lapic_timer_stop(l);
	l->tsc_deadline = value;
	if (value)
		tsc_deadline_wait(l);
}

static void tick(struct lapic *l)
{
	l->last_tick = now_ns(l);
	count_expired(l, l->last_tick);
	lapic_deliver_lvt(l, LVT_TIMER);
	lapic_timer_wait(l);
}

static void timer_fired(void *opaque)
{
	struct lapic *l = opaque;

	if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE) {
		if (l->tsc_deadline)
			tsc_deadline_wait(l);
		return;
	}
	/* A guest that does not take its ticks costs no wake-ups: there is none until it may notice one again, when
	 * it acknowledges the last one or writes the LVT. */
	if (l->deadline && !tick_unnoticed(l))
		tick(l);
}

void lapic_timer_tick_due(struct lapic *l)
{
	if (l->deadline && l->deadline <= now_ns(l) && !tick_unnoticed(l))
		tick(l);
}

void lapic_timer_set_divider(struct lapic *l, uint32_t value)
{
	uint32_t count = lapic_timer_count(l);

	l->divide = value & DIVIDE_WRITABLE;
	if (count) /* it goes on at the new rate; at 0 its tick is on the way */
		lapic_timer_start(l, count);
}

/* ---- IA32_APIC_BASE, life ---- */

uint64_t lapic_get_base(const struct lapic *l)
{
	return l->base;
}

uint32_t lapic_x2apic_ldr(const struct lapic *l)
{
	return (lapic_id(l) >> 4) << 16 | 1u << (lapic_id(l) & 0xf);
}

bool lapic_set_base(struct lapic *l, uint64_t value)
{
	uint64_t mode = BASE_ENABLE | BASE_X2APIC, old = l->base & mode, new = value & mode;
	uint64_t reserved = 0x2ff | ~0ull << l->config.phys_bits | (l->config.x2apic ? 0 : BASE_X2APIC);

	if ((value & reserved) || new == BASE_X2APIC)
		return false;
	if ((old == mode && new == BASE_ENABLE) || (!old && new == mode))
		return false;
	l->base = (value & ~BASE_BSP) | (l->base & BASE_BSP);
	if (old && !new)
		lapic_reset(l, true); /* the state is lost */
	if (old != mode && new == mode) {
		l->ldr = lapic_x2apic_ldr(l);
		l->icr = (uint32_t)l->icr;
	}
	lapic_update(l);
	return true;
}

void lapic_reset(struct lapic *l, bool init)
{
	lapic_timer_stop(l);
	if (!init) {
		l->base = LAPIC_DEFAULT_BASE | BASE_ENABLE | (l->config.index == 0 ? BASE_BSP : 0);
		l->lint[0] = l->lint[1] = false;
	}
	l->tpr = 0;
	l->ldr = x2apic_mode(l) ? lapic_x2apic_ldr(l) : 0;
	l->dfr = 0xffffffff;
	l->svr = 0xff;
	l->esr = l->esr_seen = 0;
	l->icr = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = LVT_MASKED;
	memset(l->isr, 0, sizeof(l->isr));
	memset(l->tmr, 0, sizeof(l->tmr));
	memset(l->irr, 0, sizeof(l->irr));
	l->pv_eoi_msr = 0;
	l->pv_eoi_set = false;
	l->extint_message = false;
	l->initial_count = 0;
	l->divide = 0;
}

/* ---- to and from elsewhere ---- */

void lapic_bus_set_elsewhere(struct lapic_bus *bus, int (*message)(void *opaque, const struct apic_msi *m), void *opaque)
{
	bus->message = message;
	bus->message_opaque = opaque;
	for (unsigned i = 0; i < bus->count && message; i++)
		if (bus->lapic[i])
			lapic_timer_stop(bus->lapic[i]);
}

bool lapic_bus_has_vector(const struct lapic_bus *bus, uint8_t vector)
{
	for (unsigned i = 0; i < bus->count; i++)
		if (bus->lapic[i] && (bit_test(bus->lapic[i]->irr, vector) || bit_test(bus->lapic[i]->isr, vector)))
			return true;
	return false;
}

struct lapic *lapic_new(const struct lapic_config *config)
{
	struct lapic *l;

	if (config->index >= LAPIC_MAX || config->bus->lapic[config->index] || !config->tsc_khz) {
		errno = EINVAL;
		return NULL;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->config = *config;
	timer_init(&l->timer, config->timers, timer_fired, l);
	config->bus->lapic[config->index] = l;
	if (config->bus->count <= config->index)
		config->bus->count = config->index + 1;
	lapic_reset(l, false);
	return l;
}

void lapic_free(struct lapic *l)
{
	if (!l)
		return;
	timer_cancel(&l->timer);
	l->config.bus->lapic[l->config.index] = NULL;
	free(l);
}
