/*
 * Local APIC: registers, priority, LVT, IPIs, timer. See lapic.h for threads and lock.
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

#include "irq/lapic.h"
#include "mem/memory.h"
#include "util/log.h"

#define BASE_BSP (1ull << 8)
#define BASE_X2APIC (1ull << 10)
#define BASE_ENABLE (1ull << 11)

#define VERSION 0x00050014u /* 6 LVT entries, integrated APIC */
#define SVR_ENABLE (1u << 8)
#define SVR_WRITABLE 0x3ffu
#define LVT_MASKED (1u << 16)
#define LVT_LEVEL (1u << 15)
#define LVT_REMOTE_IRR (1u << 14)
#define LVT_READ_ONLY (1u << 12 | LVT_REMOTE_IRR) /* delivery status, remote IRR */
#define LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define ESR_SEND_ILLEGAL_VECTOR (1u << 5)
#define ESR_RECEIVE_ILLEGAL_VECTOR (1u << 6)
#define ESR_ILLEGAL_REGISTER (1u << 7)
#define ICR_WRITABLE 0xccfffu /* vector, mode, destination mode, level, trigger, shorthand */
#define ICR_LOGICAL (1u << 11)
#define ICR_ASSERT (1u << 14)
#define ICR_LEVEL (1u << 15)
#define DFR_FLAT 0xfu
#define DIVIDE_WRITABLE 0xbu
#define BROADCAST 0xffffffffu
#define XAPIC_BROADCAST 0xffu

#define MSI_LOGICAL (1u << 2)
#define MSI_REDIRECTION (1u << 3)
#define MSI_ASSERT (1u << 14)
#define MSI_LEVEL (1u << 15)

#define PV_EOI_ENABLED 1ull
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u

/* A periodic timer fires no more often than this, whatever the guest asks: ticks in between merge. */
#define TIMER_PERIOD_MIN_NS 50000ull
#define TIMER_WAIT_MAX_NS (3600ull * 1000000000)

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Register offsets in the page; in x2APIC mode the MSR is 0x800 + offset / 16. */
enum {
	REG_ID = 0x20,
	REG_VERSION = 0x30,
	REG_TPR = 0x80,
	REG_APR = 0x90,
	REG_PPR = 0xa0,
	REG_EOI = 0xb0,
	REG_RRD = 0xc0,
	REG_LDR = 0xd0,
	REG_DFR = 0xe0,
	REG_SVR = 0xf0,
	REG_ISR = 0x100,
	REG_TMR = 0x180,
	REG_IRR = 0x200,
	REG_ESR = 0x280,
	REG_ICR = 0x300,
	REG_ICR_HIGH = 0x310,
	REG_LVT = 0x320,
	REG_INITIAL_COUNT = 0x380,
	REG_CURRENT_COUNT = 0x390,
	REG_DIVIDE = 0x3e0,
	REG_SELF_IPI = 0x3f0,
};

struct lapic {
	struct lapic_config config;
	uint64_t base; /* IA32_APIC_BASE */
	uint32_t tpr, ldr, dfr, svr;
	uint32_t esr, esr_seen; /* errors since, and at, the last write of ESR */
	uint64_t icr;           /* in x2APIC's format: destination in bits 63-32 */
	uint32_t lvt[LVT_COUNT];
	uint32_t isr[8], tmr[8], irr[8];
	bool lint[2];       /* levels of the pins */
	uint64_t pv_eoi_msr; /* as the guest wrote it */
	bool pv_eoi_set;     /* the byte in guest memory is 1: the interrupt in service may have ended without us */
	uint64_t pv_eois;
	bool extint_message; /* the I/O APIC passed the 8259's request on; until INTR falls */

	struct timer timer;
	uint32_t initial_count, divide;
	uint64_t deadline;     /* one-shot, periodic: when the count reaches 0; 0 = stopped */
	uint64_t last_tick;    /* when the host's timer last did that */
	uint64_t tsc_deadline; /* 0 = none */
};

static bool x2apic_mode(const struct lapic *l)
{
	return (l->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

static bool software_enabled(const struct lapic *l)
{
	return (l->base & BASE_ENABLE) && (l->svr & SVR_ENABLE);
}

static bool asleep(const struct lapic *l)
{
	return l->config.bus->message;
}

uint32_t lapic_id(const struct lapic *l)
{
	return l->config.index;
}

static uint64_t now_ns(const struct lapic *l)
{
	return timer_queue_now(l->config.timers);
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

static uint32_t processor_priority(const struct lapic *l)
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
	return v >= 0 && ((uint32_t)v & 0xf0) > (processor_priority(l) & 0xf0) ? v : -1;
}

static void ticks_lost(struct lapic *l);
static void count_wait(struct lapic *l);
static void pv_eoi_offer(struct lapic *l, unsigned v);

int lapic_ack(struct lapic *l)
{
	int v = lapic_pending_vector(l);

	if (v < 0)
		return -1;
	bool timers = (uint8_t)l->lvt[LVT_TIMER] == v;
	if (timers)
		ticks_lost(l);
	bit_set(l->irr, (unsigned)v, false);
	bit_set(l->isr, (unsigned)v, true);
	if (timers)
		count_wait(l);
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

/* Something changed: the vCPU has to look when there is something for it. */
static void update(struct lapic *l)
{
	/* What seems to be in service may have ended: the vCPU's thread finds out. */
	if (l->pv_eoi_set || lapic_pending_vector(l) >= 0 || lapic_extint_pending(l))
		l->config.ops->kick(l->config.opaque, l->config.index);
}

static void lvt_deliver(struct lapic *l, enum lvt which);

static void error(struct lapic *l, uint32_t bit)
{
	bool seen = l->esr & bit;

	l->esr |= bit;
	/* The error LVT's own vector may be the illegal one: report that once only. */
	if (!seen)
		lvt_deliver(l, LVT_ERROR);
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
			error(l, ESR_RECEIVE_ILLEGAL_VECTOR);
			return false;
		}
		pending = bit_test(l->irr, vector);
		bit_set(l->irr, vector, true);
		bit_set(l->tmr, vector, level);
		if (!pending) /* else the vCPU knows already */
			update(l);
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
		update(l);
		return true;
	default: /* SMI: there is no SMM */
		return false;
	}
}

static void pv_eoi_withdraw(struct lapic *l);

static void end_of_interrupt(struct lapic *l)
{
	uint32_t *lint0 = &l->lvt[LVT_LINT0];
	int v = highest(l->isr);

	pv_eoi_withdraw(l);
	if (v < 0)
		return;
	bit_set(l->isr, (unsigned)v, false);
	if (bit_test(l->tmr, (unsigned)v)) {
		l->config.ops->eoi(l->config.opaque, l->config.index, (uint8_t)v);
		if ((*lint0 & LVT_REMOTE_IRR) && (*lint0 & 0xff) == (uint32_t)v) {
			*lint0 &= ~LVT_REMOTE_IRR;
			if (l->lint[0])
				lvt_deliver(l, LVT_LINT0);
		}
	}
	update(l);
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

static void pv_eoi_withdraw(struct lapic *l)
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
		end_of_interrupt(l);
	} else if (highest(l->irr) >= 0) {
		pv_eoi_withdraw(l); /* somebody waits for it by now */
	}
}

void lapic_set_pv_eoi(struct lapic *l, uint64_t value)
{
	lapic_pv_eoi(l);
	pv_eoi_withdraw(l);
	l->pv_eoi_msr = l->config.memory ? value : 0;
}

uint64_t lapic_get_pv_eoi(const struct lapic *l) { return l->pv_eoi_msr; }

uint64_t lapic_pv_eois(const struct lapic *l) { return l->pv_eois; }

/* ---- local vector table ---- */

static void lvt_deliver(struct lapic *l, enum lvt which)
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
		update(l);
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
		lvt_deliver(l, pin ? LVT_LINT1 : LVT_LINT0);
	else if (pin) /* with the APIC off the pins are NMI and INTR */
		l->config.ops->nmi(l->config.opaque, l->config.index);
	else
		update(l);
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
		if (processor_priority(bus->lapic[i]) < best_priority) {
			best_priority = processor_priority(bus->lapic[i]);
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

/* There is no SMM, and 8259's requests go by the pin. */
static int deliver_elsewhere(struct lapic_bus *bus, const struct lapic_message *m, bool *coalesced)
{
	const struct apic_msi msi = lapic_message_msi(m);
	int taken = -1;

	if (m->mode != LAPIC_SMI && m->mode != LAPIC_EXTINT)
		taken = bus->message(bus->message_opaque, &msi);
	if (coalesced)
		*coalesced = taken == 0;
	return taken < 0 ? 0 : taken == 0 ? 1 : taken;
}

int lapic_bus_deliver(struct lapic_bus *bus, const struct lapic_message *m, bool *coalesced)
{
	if (bus->message)
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
static void send_ipi(struct lapic *l)
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
		error(l, ESR_SEND_ILLEGAL_VECTOR);
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

static enum timer_mode timer_mode(const struct lapic *l)
{
	return TIMER_MODE(l->lvt[LVT_TIMER]);
}

static uint64_t timer_divider(const struct lapic *l)
{
	return 1ull << ((((l->divide & 3) | (l->divide & 8) >> 1) + 1) & 7);
}

static void timer_stop(struct lapic *l)
{
	timer_cancel(&l->timer);
	l->deadline = 0;
	l->tsc_deadline = 0;
}

static uint32_t current_count(const struct lapic *l)
{
	uint64_t now = now_ns(l), period = l->initial_count * timer_divider(l), left;

	if (!l->deadline || timer_mode(l) == TIMER_TSC_DEADLINE)
		return 0;
	if (now < l->deadline)
		left = l->deadline - now;
	else if (timer_mode(l) == TIMER_PERIODIC && period)
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

	if (timer_mode(l) == TIMER_PERIODIC)
		l->deadline += ((now - l->deadline) / period + 1) * period; /* ticks that were missed merge */
	else
		l->deadline = 0;
}

/* To be called before anything changes that makes ticks noticed again: those up to now were not. */
static void ticks_lost(struct lapic *l)
{
	if (l->deadline && tick_unnoticed(l) && l->deadline <= now_ns(l))
		count_expired(l, now_ns(l));
}

/* Sets the host's timer to the deadline. */
static void count_wait(struct lapic *l)
{
	uint64_t at = l->deadline;

	if (!at)
		return; /* stopped, or TSC-deadline mode */
	if (timer_mode(l) == TIMER_PERIODIC && at < l->last_tick + TIMER_PERIOD_MIN_NS)
		at = l->last_tick + TIMER_PERIOD_MIN_NS;
	timer_arm(&l->timer, at);
}

static void timer_start(struct lapic *l, uint32_t count)
{
	timer_stop(l);
	if (!count)
		return;
	l->deadline = now_ns(l) + count * timer_divider(l);
	count_wait(l);
}

static void tsc_deadline_expired(struct lapic *l)
{
	l->tsc_deadline = 0;
	lvt_deliver(l, LVT_TIMER);
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

static void write_tsc_deadline(struct lapic *l, uint64_t value)
{
	if (timer_mode(l) != TIMER_TSC_DEADLINE)
		return;
	timer_stop(l);
	l->tsc_deadline = value;
	if (value)
		tsc_deadline_wait(l);
}

static void timer_fired(void *opaque)
{
	struct lapic *l = opaque;

	if (timer_mode(l) == TIMER_TSC_DEADLINE) {
		if (l->tsc_deadline)
			tsc_deadline_wait(l);
		return;
	}
	/* A guest that does not take its ticks costs no wake-ups: there is none until it may notice one again, when
	 * it acknowledges the last one or writes the LVT. */
	if (!l->deadline || tick_unnoticed(l))
		return;
	l->last_tick = now_ns(l);
	count_expired(l, l->last_tick);
	lvt_deliver(l, LVT_TIMER);
	count_wait(l);
}

static void write_divide(struct lapic *l, uint32_t value)
{
	uint32_t count = current_count(l);

	l->divide = value & DIVIDE_WRITABLE;
	if (count) /* it goes on at the new rate; at 0 its tick is on the way */
		timer_start(l, count);
}

/* ---- registers ---- */

static const uint32_t lvt_writable[LVT_COUNT] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};

static void write_lvt(struct lapic *l, enum lvt which, uint32_t value)
{
	uint32_t old = l->lvt[which];

	value &= lvt_writable[which];
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (which == LVT_TIMER)
		ticks_lost(l);
	/* A change to or from TSC-deadline mode disarms the timer. */
	if (which == LVT_TIMER && (TIMER_MODE(value) == TIMER_TSC_DEADLINE) != (TIMER_MODE(old) == TIMER_TSC_DEADLINE))
		timer_stop(l);
	if (value & LVT_LEVEL)
		value |= old & LVT_REMOTE_IRR;
	l->lvt[which] = value;
	if (which == LVT_TIMER)
		count_wait(l);
	/* A level that is there is seen when it is let through; NMI and INIT are edges. */
	if (which == LVT_LINT0 && l->lint[0] &&
	    (LVT_MODE(value) == LAPIC_EXTINT || (LVT_MODE(value) == LAPIC_FIXED && (value & LVT_LEVEL))))
		lvt_deliver(l, LVT_LINT0);
}

static void write_svr(struct lapic *l, uint32_t value)
{
	l->svr = value & SVR_WRITABLE;
	if (!(l->svr & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			l->lvt[i] |= LVT_MASKED;
}

static void write_tpr(struct lapic *l, uint32_t value)
{
	l->tpr = value & 0xff;
	update(l);
}

/* Registers that xAPIC and x2APIC mode read alike; false: there is none. */
static bool read_register(struct lapic *l, unsigned reg, uint32_t *value)
{
	if (reg >= REG_ISR && reg < REG_ESR) {
		const uint32_t *map = reg < REG_TMR ? l->isr : reg < REG_IRR ? l->tmr : l->irr;

		*value = map[reg >> 4 & 7];
		return true;
	}
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT) {
		*value = l->lvt[(reg - REG_LVT) >> 4];
		return true;
	}
	switch (reg) {
	case REG_ID:
		*value = x2apic_mode(l) ? lapic_id(l) : lapic_id(l) << 24;
		return true;
	case REG_VERSION:
		*value = VERSION;
		return true;
	case REG_TPR:
		*value = l->tpr;
		return true;
	case REG_PPR:
		*value = processor_priority(l);
		return true;
	case REG_LDR:
		*value = l->ldr;
		return true;
	case REG_SVR:
		*value = l->svr;
		return true;
	case REG_ESR:
		*value = l->esr_seen;
		return true;
	case REG_ICR:
		*value = (uint32_t)l->icr;
		return true;
	case REG_INITIAL_COUNT:
		*value = l->initial_count;
		return true;
	case REG_CURRENT_COUNT:
		*value = current_count(l);
		return true;
	case REG_DIVIDE:
		*value = l->divide;
		return true;
	default:
		return false;
	}
}

/* Registers that both modes write alike; false: there is none, or it is read-only. */
static bool write_register(struct lapic *l, unsigned reg, uint32_t value)
{
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT) {
		write_lvt(l, (reg - REG_LVT) >> 4, value);
		return true;
	}
	switch (reg) {
	case REG_TPR:
		write_tpr(l, value);
		return true;
	case REG_EOI:
		end_of_interrupt(l);
		return true;
	case REG_SVR:
		write_svr(l, value);
		return true;
	case REG_ESR:
		l->esr_seen = l->esr;
		l->esr = 0;
		return true;
	case REG_INITIAL_COUNT:
		if (timer_mode(l) != TIMER_TSC_DEADLINE) {
			l->initial_count = value;
			timer_start(l, value);
		}
		return true;
	case REG_DIVIDE:
		write_divide(l, value);
		return true;
	default:
		return false;
	}
}

bool lapic_claims(const struct lapic *l, uint64_t gpa, unsigned size)
{
	uint64_t page = l->base & ~0xfffull;

	return (l->base & BASE_ENABLE) && !x2apic_mode(l) && !asleep(l) && gpa >= page && gpa - page <= LAPIC_MMIO_SIZE - size;
}

uint64_t lapic_read(struct lapic *l, unsigned offset, unsigned size)
{
	unsigned reg = offset & ~0xfu, byte = offset & 0xf;
	uint32_t value = 0;

	lapic_pv_eoi(l);
	if (byte >= 4) /* between the registers */
		return 0;
	switch (reg) {
	case REG_APR:
	case REG_RRD:
		break;
	case REG_DFR:
		value = l->dfr;
		break;
	case REG_ICR_HIGH:
		value = (uint32_t)(l->icr >> 32) << 24;
		break;
	default:
		if (!read_register(l, reg, &value))
			error(l, ESR_ILLEGAL_REGISTER);
	}
	value >>= 8 * byte;
	return size >= 4 ? value : value & ((1u << 8 * size) - 1);
}

void lapic_write(struct lapic *l, unsigned offset, uint64_t value, unsigned size)
{
	uint32_t v = (uint32_t)value;

	lapic_pv_eoi(l);
	if ((offset & 0xf) || size < 4) /* registers are written whole */
		return;
	switch (offset) {
	case REG_ID:
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_CURRENT_COUNT:
	case REG_ISR ... REG_ESR - 1:
		break; /* read-only */
	case REG_LDR:
		l->ldr = v & 0xff000000;
		break;
	case REG_DFR:
		l->dfr = v | 0x0fffffff;
		break;
	case REG_ICR:
		l->icr = (l->icr & ~0xffffffffull) | (v & ICR_WRITABLE);
		send_ipi(l);
		break;
	case REG_ICR_HIGH:
		l->icr = (uint32_t)l->icr | (uint64_t)(v >> 24) << 32;
		break;
	default:
		if (!write_register(l, offset, v))
			error(l, ESR_ILLEGAL_REGISTER);
	}
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
	unsigned reg = (msr - MSR_X2APIC) << 4;
	uint32_t v;

	lapic_pv_eoi(l);
	if (msr == MSR_TSC_DEADLINE) {
		*value = timer_mode(l) == TIMER_TSC_DEADLINE ? l->tsc_deadline : 0;
		return true;
	}
	if (!x2apic_mode(l) || msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff)
		return false;
	if (reg == REG_ICR) {
		*value = l->icr;
		return true;
	}
	if (!read_register(l, reg, &v))
		return false;
	*value = v;
	return true;
}

/* Bits of a register that WRMSR may not set. Those that are read-only are ignored, as in a read-modify-write. */
static uint32_t x2apic_reserved(unsigned reg)
{
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT)
		return ~(lvt_writable[(reg - REG_LVT) >> 4] | LVT_READ_ONLY);
	switch (reg) {
	case REG_TPR:
		return ~0xffu;
	case REG_EOI:
	case REG_ESR:
		return ~0u;
	case REG_SVR:
		return ~SVR_WRITABLE;
	case REG_DIVIDE:
		return ~DIVIDE_WRITABLE;
	default:
		return 0;
	}
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
	unsigned reg = (msr - MSR_X2APIC) << 4;

	lapic_pv_eoi(l);
	if (msr == MSR_TSC_DEADLINE) {
		write_tsc_deadline(l, value);
		return true;
	}
	if (!x2apic_mode(l) || msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff)
		return false;
	if (reg == REG_ICR) {
		if (value & 0xffffffff & ~(uint64_t)(ICR_WRITABLE | 1u << 12))
			return false;
		l->icr = value & (0xffffffff00000000ull | ICR_WRITABLE);
		send_ipi(l);
		return true;
	}
	if (value >> 32)
		return false;
	if (reg == REG_SELF_IPI) {
		if (value > 0xff)
			return false;
		if (value < 16)
			error(l, ESR_SEND_ILLEGAL_VECTOR);
		else
			lapic_deliver(l, LAPIC_FIXED, (uint8_t)value, false);
		return true;
	}
	if (value & x2apic_reserved(reg))
		return false;
	return write_register(l, reg, (uint32_t)value);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
	return l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8)
{
	write_tpr(l, (uint32_t)(cr8 & 0xf) << 4);
}

/* ---- IA32_APIC_BASE, life ---- */

uint64_t lapic_get_base(const struct lapic *l)
{
	return l->base;
}

static uint32_t x2apic_ldr(const struct lapic *l)
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
		l->ldr = x2apic_ldr(l);
		l->icr = (uint32_t)l->icr;
	}
	update(l);
	return true;
}

void lapic_reset(struct lapic *l, bool init)
{
	timer_stop(l);
	if (!init) {
		l->base = LAPIC_DEFAULT_BASE | BASE_ENABLE | (l->config.index == 0 ? BASE_BSP : 0);
		l->lint[0] = l->lint[1] = false;
	}
	l->tpr = 0;
	l->ldr = x2apic_mode(l) ? x2apic_ldr(l) : 0;
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

void lapic_get_state(struct lapic *l, struct apic_state *s)
{
	lapic_pv_eoi(l);
	pv_eoi_withdraw(l);
	ticks_lost(l);
	*s = (struct apic_state){.base = l->base, .tsc_deadline = l->tsc_deadline, .pv_eoi = l->pv_eoi_msr};
	for (unsigned i = 0; i < 8; i++) {
		s->reg[(REG_ISR >> 4) + i] = l->isr[i];
		s->reg[(REG_TMR >> 4) + i] = l->tmr[i];
		s->reg[(REG_IRR >> 4) + i] = l->irr[i];
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		s->reg[(REG_LVT >> 4) + i] = l->lvt[i];
	s->reg[REG_ID >> 4] = lapic_id(l) << 24;
	s->reg[REG_VERSION >> 4] = VERSION;
	s->reg[REG_TPR >> 4] = l->tpr;
	s->reg[REG_LDR >> 4] = l->ldr;
	s->reg[REG_DFR >> 4] = l->dfr;
	s->reg[REG_SVR >> 4] = l->svr;
	s->reg[REG_ESR >> 4] = l->esr_seen;
	s->reg[REG_ICR >> 4] = (uint32_t)l->icr;
	s->reg[REG_ICR_HIGH >> 4] = (uint32_t)(l->icr >> 32) << (x2apic_mode(l) ? 0 : 24);
	s->reg[REG_DIVIDE >> 4] = l->divide;
	if (l->deadline) {
		s->reg[REG_INITIAL_COUNT >> 4] = l->initial_count;
		s->reg[REG_CURRENT_COUNT >> 4] = current_count(l);
		if (!s->reg[REG_CURRENT_COUNT >> 4])
			s->reg[REG_CURRENT_COUNT >> 4] = 1; /* its tick is on the way */
	}
}

static void start_timer(struct lapic *l, const struct apic_state *s)
{
	uint32_t left = s->reg[REG_CURRENT_COUNT >> 4];

	l->initial_count = s->reg[REG_INITIAL_COUNT >> 4];
	if (timer_mode(l) == TIMER_TSC_DEADLINE) {
		write_tsc_deadline(l, s->tsc_deadline);
		return;
	}
	if (left || timer_mode(l) == TIMER_PERIODIC)
		timer_start(l, left ? left : l->initial_count);
	else if (l->initial_count) /* Has its tick come? One too many does less harm than none. */
		timer_start(l, 1);
}

void lapic_set_state(struct lapic *l, const struct apic_state *s)
{
	timer_stop(l);
	l->base = s->base;
	for (unsigned i = 0; i < 8; i++) {
		l->isr[i] = s->reg[(REG_ISR >> 4) + i];
		l->tmr[i] = s->reg[(REG_TMR >> 4) + i];
		l->irr[i] = s->reg[(REG_IRR >> 4) + i];
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = s->reg[(REG_LVT >> 4) + i] & (lvt_writable[i] | LVT_REMOTE_IRR);
	l->tpr = s->reg[REG_TPR >> 4] & 0xff;
	l->ldr = x2apic_mode(l) ? x2apic_ldr(l) : s->reg[REG_LDR >> 4] & 0xff000000;
	l->dfr = s->reg[REG_DFR >> 4] | 0x0fffffff;
	l->svr = s->reg[REG_SVR >> 4] & SVR_WRITABLE;
	l->esr_seen = s->reg[REG_ESR >> 4];
	l->esr = 0;
	l->icr = (uint64_t)(s->reg[REG_ICR_HIGH >> 4] >> (x2apic_mode(l) ? 0 : 24)) << 32 |
		 (s->reg[REG_ICR >> 4] & ICR_WRITABLE);
	l->divide = s->reg[REG_DIVIDE >> 4] & DIVIDE_WRITABLE;
	l->pv_eoi_msr = l->config.memory ? s->pv_eoi : 0;
	l->pv_eoi_set = false;
	l->extint_message = false;
	start_timer(l, s);
	update(l);
}

void lapic_bus_set_elsewhere(struct lapic_bus *bus, int (*message)(void *opaque, const struct apic_msi *m), void *opaque)
{
	bus->message = message;
	bus->message_opaque = opaque;
	for (unsigned i = 0; i < bus->count && message; i++)
		if (bus->lapic[i])
			timer_stop(bus->lapic[i]);
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
