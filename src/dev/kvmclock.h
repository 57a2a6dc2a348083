/*
 * KVM's paravirtual clock (kvmclock) and the hypercalls that belong to it: the MSRs 0x11, 0x12,
 * 0x4b564d00 and 0x4b564d01, and the records in guest memory that they name.
 *
 * The records of all vCPUs are made from one pair (host TSC, ns), so that time is the same on all of
 * them, and are made again every second so that guest time follows the host's CLOCK_MONOTONIC.
 *
 * An engine may have the clock in its stead (kvmclock_set_elsewhere).
 *
 * Called under vm->lock. Source: Linux Documentation/virt/kvm/x86/{msr,hypercalls,cpuid}.rst.
 */
#ifndef RINGSIDE_KVMCLOCK_H
#define RINGSIDE_KVMCLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct memory;
struct timer_queue;
struct kvmclock;

struct kvmclock_ops {
	uint64_t (*tsc)(void *opaque);                /* the host's TSC now (what cpu_env.tsc gives) */
	bool (*kick)(void *opaque, uint32_t apic_id); /* KICK_CPU: wake it from HLT; false: none such. NULL: not offered */
	uint64_t (*realtime)(void *opaque);           /* ns since 1970; NULL: CLOCK_REALTIME. For tests */
};

/* `tsc_khz`: the rate of ops->tsc. vcpus: 1..64. NULL: errno. */
struct kvmclock *kvmclock_new(struct memory *memory, struct timer_queue *timers, unsigned vcpus, uint64_t tsc_khz,
			      const struct kvmclock_ops *ops, void *opaque);
void kvmclock_free(struct kvmclock *c);
void kvmclock_reset(struct kvmclock *c); /* all records are off; time goes on */

/* For cpu_env.pv_read / pv_write of vCPU `vcpu`. False: no such MSR, #GP. `tsc_offset`: guest TSC minus
 * ops->tsc on this vCPU (tsc_offset + tsc_adjust of struct cpu). */
bool kvmclock_msr_read(const struct kvmclock *c, unsigned vcpu, uint32_t msr, uint64_t *value);
bool kvmclock_msr_write(struct kvmclock *c, unsigned vcpu, uint32_t msr, uint64_t value, uint64_t tsc_offset);
void kvmclock_vcpu_reset(struct kvmclock *c, unsigned vcpu); /* its record is off */
/* The guest changed its TSC on this vCPU (by MSR): its record is made again. */
void kvmclock_tsc_changed(struct kvmclock *c, unsigned vcpu, uint64_t tsc_offset);
/* For cpu_env.hypercall: the result for RAX. Who calls has checked CPL 0 (else the result is -KVM_EPERM). */
uint64_t kvmclock_hypercall(struct kvmclock *c, unsigned vcpu, uint64_t nr, const uint64_t arg[4]);

/* Nanoseconds of guest time now. */
uint64_t kvmclock_now(const struct kvmclock *c);

/* Somebody else keeps the time, which `now` tells, and the records: here all of them are off. NULL: it is kept here again,
 * and goes on from what `now` said last; the records' MSRs are to be written again. The wall clock's record stays here. */
void kvmclock_set_elsewhere(struct kvmclock *c, uint64_t (*now)(void *opaque), void *opaque);

#define KVM_EPERM 1ull

#endif
