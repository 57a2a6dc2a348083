/*
 * KVM's paravirtual clock. See kvmclock.h.
 *
 * Guest time is a line through (base_tsc, base_ns) with the slope mul and shift; guests compute it from
 * their record, and it says the same on every vCPU. Once a second the line is continued from where it is,
 * with a slope that leads it back to the host's CLOCK_MONOTONIC within the next second: time never jumps
 * back, never differs between vCPUs, and never drifts.
 *
 * Called under vm->lock. Source: Linux Documentation/virt/kvm/x86/{msr,hypercalls,cpuid}.rst.
 */
#include "dev/kvmclock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "mem/memory.h"
#include "util/log.h"
#include "util/timer.h"

#define VCPUS_MAX 64
#define NS_PER_S 1000000000ull
#define UPDATE_NS NS_PER_S
#define SLEW_MAX_PPM 500
#define STEP_NS 10000000 /* further behind than this, time is set forward at once */
#define SAMPLE_TRIES 4

#define MSR_WALL_CLOCK_OLD 0x11
#define MSR_SYSTEM_TIME_OLD 0x12
#define MSR_WALL_CLOCK 0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
#define SYSTEM_TIME_ENABLE 1ull

#define FLAG_TSC_STABLE 1

#define HC_VAPIC_POLL_IRQ 1
#define HC_KICK_CPU 5
#define HC_CLOCK_PAIRING 9
#define CLOCK_PAIRING_WALLCLOCK 0
#define KVM_EFAULT 14ull
#define KVM_EOPNOTSUPP 95ull
#define KVM_ENOSYS 1000ull

/* The records, as the guest reads them. */
struct time_info {
	uint32_t version; /* odd: being written */
	uint32_t pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad[2];
};
struct wall_clock {
	uint32_t version, sec, nsec;
};
struct clock_pairing {
	int64_t sec, nsec;
	uint64_t tsc;
	uint32_t flags, pad[9];
};
_Static_assert(sizeof(struct time_info) == 32, "ABI");
_Static_assert(sizeof(struct wall_clock) == 12, "ABI");
_Static_assert(sizeof(struct clock_pairing) == 64, "ABI");

struct record {
	uint64_t msr;
	uint64_t tsc_offset;
	uint32_t version;
};

struct kvmclock {
	struct memory *memory;
	struct timer_queue *timers;
	struct timer timer;
	const struct kvmclock_ops *ops;
	void *opaque;
	uint64_t start_tsc, start_ns;
	uint64_t zero_ns;             /* when guest time was 0, or would have been; may have wrapped */
	uint64_t tsc_hz;              /* as measured since then */
	uint64_t base_tsc, base_ns;   /* the line */
	uint32_t mul;
	int8_t shift;
	uint64_t wall_msr;
	uint64_t (*elsewhere)(void *opaque); /* who keeps the time; NULL: it is kept here */
	void *elsewhere_opaque;
	unsigned vcpus;
	struct record record[VCPUS_MAX];
};

/* ---- time ---- */

/* Host TSC and CLOCK_MONOTONIC of the same moment: the closest of a few tries. */
static void sample(const struct kvmclock *c, uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	*tsc = *ns = 0;
	for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
		uint64_t before = c->ops->tsc(c->opaque), now = timer_queue_now(c->timers);
		uint64_t took = c->ops->tsc(c->opaque) - before;

		if (took >= best)
			continue;
		best = took;
		*tsc = before + took / 2;
		*ns = now;
	}
}

static uint64_t line_at(const struct kvmclock *c, uint64_t tsc)
{
	uint64_t delta = tsc - c->base_tsc;

	if ((int64_t)delta < 0) /* read on another host CPU, a hair behind */
		return c->base_ns;
	delta = c->shift < 0 ? delta >> -c->shift : delta << c->shift;
	return c->base_ns + (uint64_t)((unsigned __int128)delta * c->mul >> 32);
}

/* mul and shift such that `hz` ticks, shifted left by `shift` and times mul / 2^32, are `ns` ns. */
static void set_slope(struct kvmclock *c, uint64_t hz, uint64_t ns)
{
	unsigned __int128 ratio = ((unsigned __int128)ns << 64) / hz; /* 64 fractional bits */
	int shift = 0;

	while (shift < 31 && ratio >> (32 + shift) > UINT32_MAX)
		shift++;
	while (shift > -31 && ratio >> (32 + shift) <= UINT32_MAX / 2)
		shift--;
	c->mul = (uint32_t)(ratio >> (32 + shift));
	c->shift = (int8_t)shift;
}

static void continue_line(struct kvmclock *c)
{
	uint64_t tsc, ns;

	sample(c, &tsc, &ns);
	if (ns - c->start_ns >= UPDATE_NS && tsc > c->start_tsc)
		c->tsc_hz = (uint64_t)((unsigned __int128)(tsc - c->start_tsc) * NS_PER_S / (ns - c->start_ns));
	if (!c->tsc_hz)
		c->tsc_hz = 1;
	uint64_t guest = line_at(c, tsc);
	int64_t behind = (int64_t)(ns - c->zero_ns - guest), limit = (int64_t)(NS_PER_S / 1000000 * SLEW_MAX_PPM);

	if (behind > STEP_NS) {
		LOG(LOG_KVMPV, "guest time set forward by %lld ns", (long long)behind);
		guest += (uint64_t)behind;
		behind = 0;
	}
	if (behind > limit)
		behind = limit;
	if (behind < -limit)
		behind = -limit;
	c->base_tsc = tsc;
	c->base_ns = guest;
	set_slope(c, c->tsc_hz, NS_PER_S + (uint64_t)behind);
}

static uint64_t realtime(const struct kvmclock *c)
{
	struct timespec ts;

	if (c->ops->realtime)
		return c->ops->realtime(c->opaque);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t kvmclock_now(const struct kvmclock *c)
{
	if (c->elsewhere)
		return c->elsewhere(c->elsewhere_opaque);
	return line_at(c, c->ops->tsc(c->opaque));
}

/* ---- records ---- */

static void write_record(struct kvmclock *c, unsigned vcpu)
{
	struct record *r = &c->record[vcpu];
	uint64_t gpa = r->msr & ~SYSTEM_TIME_ENABLE;

	if (!(r->msr & SYSTEM_TIME_ENABLE))
		return;
	if (!r->version && memory_read(c->memory, gpa, &r->version, sizeof r->version) == 0)
		r->version &= ~1u; /* nothing that the guest has seen there comes again */
	r->version += 2;
	struct time_info info = {
		.version = r->version - 1,
		.tsc_timestamp = c->base_tsc + r->tsc_offset,
		.system_time = c->base_ns,
		.tsc_to_system_mul = c->mul,
		.tsc_shift = c->shift,
		.flags = FLAG_TSC_STABLE,
	};
	/* The version is odd while the rest changes; memory_write is no inline function, and the host
	 * keeps stores in order. */
	if (memory_write(c->memory, gpa, &info.version, sizeof info.version) < 0 ||
	    memory_write(c->memory, gpa + sizeof info.version, &info.pad0, sizeof info - sizeof info.version) < 0) {
		LOG(LOG_KVMPV, "vCPU %u: no memory at %#llx for the clock", vcpu, (unsigned long long)gpa);
		return;
	}
	info.version = r->version;
	memory_write(c->memory, gpa, &info.version, sizeof info.version);
}

static void write_wall_clock(struct kvmclock *c, uint64_t gpa)
{
	uint64_t boot = realtime(c) - kvmclock_now(c);
	struct wall_clock w;

	if (memory_read(c->memory, gpa, &w, sizeof w) < 0)
		return;
	w.version = (w.version | 1) + 2; /* odd */
	w.sec = (uint32_t)(boot / NS_PER_S);
	w.nsec = (uint32_t)(boot % NS_PER_S);
	memory_write(c->memory, gpa, &w.version, sizeof w.version);
	memory_write(c->memory, gpa + sizeof w.version, &w.sec, sizeof w - sizeof w.version);
	w.version++;
	memory_write(c->memory, gpa, &w.version, sizeof w.version);
}

static bool any_record(const struct kvmclock *c)
{
	for (unsigned i = 0; i < c->vcpus; i++)
		if (c->record[i].msr & SYSTEM_TIME_ENABLE)
			return true;
	return false;
}

static void update(void *opaque)
{
	struct kvmclock *c = opaque;

	continue_line(c);
	for (unsigned i = 0; i < c->vcpus; i++)
		write_record(c, i);
	if (any_record(c))
		timer_arm(&c->timer, timer_queue_now(c->timers) + UPDATE_NS);
}

/* ---- the guest's side ---- */

bool kvmclock_msr_read(const struct kvmclock *c, unsigned vcpu, uint32_t msr, uint64_t *value)
{
	if (vcpu >= c->vcpus)
		return false;
	switch (msr) {
	case MSR_WALL_CLOCK_OLD:
	case MSR_WALL_CLOCK:
		*value = c->wall_msr;
		return true;
	case MSR_SYSTEM_TIME_OLD:
	case MSR_SYSTEM_TIME:
		*value = c->record[vcpu].msr;
		return true;
	}
	return false;
}

bool kvmclock_msr_write(struct kvmclock *c, unsigned vcpu, uint32_t msr, uint64_t value, uint64_t tsc_offset)
{
	if (vcpu >= c->vcpus)
		return false;
	switch (msr) {
	case MSR_WALL_CLOCK_OLD:
	case MSR_WALL_CLOCK:
		c->wall_msr = value;
		write_wall_clock(c, value);
		return true;
	case MSR_SYSTEM_TIME_OLD:
	case MSR_SYSTEM_TIME:
		LOG(LOG_KVMPV, "vCPU %u: clock record at %#llx", vcpu, (unsigned long long)value);
		c->record[vcpu].msr = value;
		c->record[vcpu].tsc_offset = tsc_offset;
		write_record(c, vcpu);
		if (!timer_armed(&c->timer) && any_record(c))
			timer_arm(&c->timer, timer_queue_now(c->timers) + UPDATE_NS);
		return true;
	}
	return false;
}

void kvmclock_vcpu_reset(struct kvmclock *c, unsigned vcpu)
{
	if (vcpu < c->vcpus)
		c->record[vcpu] = (struct record){0};
}

void kvmclock_tsc_changed(struct kvmclock *c, unsigned vcpu, uint64_t tsc_offset)
{
	if (vcpu >= c->vcpus)
		return;
	c->record[vcpu].tsc_offset = tsc_offset;
	write_record(c, vcpu);
}

static uint64_t clock_pairing(struct kvmclock *c, unsigned vcpu, uint64_t gpa, uint64_t type)
{
	if (type != CLOCK_PAIRING_WALLCLOCK)
		return -KVM_EOPNOTSUPP;
	uint64_t tsc = c->ops->tsc(c->opaque), ns = realtime(c);
	struct clock_pairing p = {
		.sec = (int64_t)(ns / NS_PER_S),
		.nsec = (int64_t)(ns % NS_PER_S),
		.tsc = tsc + c->record[vcpu].tsc_offset,
	};
	return memory_write(c->memory, gpa, &p, sizeof p) < 0 ? -KVM_EFAULT : 0;
}

uint64_t kvmclock_hypercall(struct kvmclock *c, unsigned vcpu, uint64_t nr, const uint64_t arg[4])
{
	if (vcpu >= c->vcpus)
		return -KVM_ENOSYS;
	switch (nr) {
	case HC_VAPIC_POLL_IRQ: /* an exit was all that was wanted */
		return 0;
	case HC_KICK_CPU:
		if (!c->ops->kick)
			return -KVM_ENOSYS;
		c->ops->kick(c->opaque, (uint32_t)arg[1]);
		return 0;
	case HC_CLOCK_PAIRING:
		return clock_pairing(c, vcpu, arg[0], arg[1]);
	}
	LOG(LOG_KVMPV, "vCPU %u: unknown hypercall %llu", vcpu, (unsigned long long)nr);
	return -KVM_ENOSYS;
}

/* ---- elsewhere ---- */

/* The line goes on from there. */
static void come_back(struct kvmclock *c)
{
	uint64_t guest = kvmclock_now(c), ns;

	if (guest < c->base_ns) /* it has not failed; but time never goes back */
		guest = c->base_ns;
	sample(c, &c->base_tsc, &ns);
	c->base_ns = guest;
	c->zero_ns = ns - guest;
	/* What the guest has of a record now was written by somebody else. */
	for (unsigned i = 0; i < c->vcpus; i++)
		c->record[i].version = 0;
}

void kvmclock_set_elsewhere(struct kvmclock *c, uint64_t (*now)(void *opaque), void *opaque)
{
	if (c->elsewhere && !now)
		come_back(c);
	else if (!c->elsewhere && now)
		c->base_ns = kvmclock_now(c);
	c->elsewhere = now;
	c->elsewhere_opaque = opaque;
	if (!now)
		return;
	timer_cancel(&c->timer);
	for (unsigned i = 0; i < c->vcpus; i++)
		c->record[i].msr = 0;
}

/* ---- life ---- */

void kvmclock_reset(struct kvmclock *c)
{
	c->wall_msr = 0;
	for (unsigned i = 0; i < c->vcpus; i++)
		c->record[i] = (struct record){0};
	timer_cancel(&c->timer);
	continue_line(c);
}

struct kvmclock *kvmclock_new(struct memory *memory, struct timer_queue *timers, unsigned vcpus, uint64_t tsc_khz,
			      const struct kvmclock_ops *ops, void *opaque)
{
	if (!vcpus || vcpus > VCPUS_MAX || !tsc_khz || tsc_khz > UINT32_MAX) {
		errno = EINVAL;
		return NULL;
	}
	struct kvmclock *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->memory = memory;
	c->timers = timers;
	c->vcpus = vcpus;
	c->tsc_hz = tsc_khz * 1000;
	c->ops = ops;
	c->opaque = opaque;
	timer_init(&c->timer, timers, update, c);
	sample(c, &c->start_tsc, &c->start_ns);
	c->zero_ns = c->start_ns;
	c->base_tsc = c->start_tsc;
	set_slope(c, c->tsc_hz, NS_PER_S);
	return c;
}

void kvmclock_free(struct kvmclock *c)
{
	if (!c)
		return;
	timer_cancel(&c->timer);
	free(c);
}
