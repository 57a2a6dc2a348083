/*
 * KVM's paravirtual steal time, TLB flush, kicks and IPIs. See pv.h for threads and lock.
 *
 * "preempted" is true exactly while the thread sleeps in HLT: others then leave their TLB flush in the record instead
 * of sending an interrupt, and it is done before the vCPU touches guest memory again. Whether the host runs a thread
 * that wants to run cannot be known from inside, so that is never said.
 */
#include "machine/pv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/mmu.h"
#include "dev/kvmclock.h"
#include "irq/lapic.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "util/log.h"

#define MSR_SYSTEM_TIME 0x4b564d01u
#define MSR_STEAL_TIME 0x4b564d03u
#define MSR_EOI 0x4b564d04u
#define ENABLED 1ull
#define STEAL_RESERVED 0x3eull /* the record is aligned to 64 bytes */
#define EOI_RESERVED 2ull      /* and this one to 4 */

#define HC_SEND_IPI 10
#define ICR_DEST_LOGICAL (1u << 11)
#define ICR_SHORTHAND (3u << 18)
#define KVM_EINVAL 22ull

#define ACCOUNT_NS 4000000ull /* how old a record may be when the vCPU is entered */

/* The record, as the guest reads it. */
struct steal_time {
	uint64_t steal; /* ns in which the vCPU could have run and did not */
	uint32_t version, flags;
	uint8_t preempted, pad8[3];
	uint32_t pad[11];
};
_Static_assert(sizeof(struct steal_time) == 64, "ABI");

#define PREEMPTED 1u
#define FLUSH_TLB 2u

static uint64_t record_of(const struct vcpu *v) { return v->pv.steal_msr & ~0x3full; }

/* ---- steal time ---- */

/* Nanoseconds that this thread could not run though it was not asleep in HLT: it waited for a host CPU, or for a lock. Of
 * use as a difference only. On that thread. */
static uint64_t host_delay(const struct vcpu *v)
{
	struct timespec ran;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
	return clock_now() - v->stats.halted_ns - ((uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec);
}

static void add_steal(struct vcpu *v, uint64_t ns)
{
	struct memory *m = &v->vm->memory;
	uint64_t gpa = record_of(v);
	struct steal_time r;

	if (memory_read(m, gpa, &r, sizeof r) < 0)
		return;
	v->pv.version += 2;
	r.version = v->pv.version - 1; /* odd while the rest changes */
	r.steal += ns;
	memory_write(m, gpa + offsetof(struct steal_time, version), &r.version, sizeof r.version);
	memory_write(m, gpa, &r.steal, sizeof r.steal);
	memory_write(m, gpa + offsetof(struct steal_time, version), &v->pv.version, sizeof v->pv.version);
}

void pv_account(struct vcpu *v)
{
	uint64_t now, delay;

	if (!(v->pv.steal_msr & ENABLED))
		return;
	now = clock_now();
	if (now - v->pv.updated < ACCOUNT_NS)
		return;
	v->pv.updated = now;
	delay = host_delay(v);
	if (delay > v->pv.delay)
		add_steal(v, delay - v->pv.delay);
	v->pv.delay = delay;
}

bool pv_set_steal_time(struct vcpu *v, uint64_t value)
{
	struct memory *m = &v->vm->memory;
	uint64_t gpa = value & ~0x3full;
	struct steal_time r;

	if (value & STEAL_RESERVED)
		return false;
	v->pv.steal_msr = 0;
	v->pv.preempted = false;
	if (!(value & ENABLED))
		return true;
	if (memory_read(m, gpa, &r, sizeof r) < 0) {
		LOG(LOG_KVMPV, "vCPU %u: no memory at %#llx for steal time", v->cpu.index, (unsigned long long)gpa);
		return true;
	}
	LOG(LOG_KVMPV, "vCPU %u: steal time at %#llx", v->cpu.index, (unsigned long long)gpa);
	v->pv.version = r.version & ~1u;
	r.preempted = 0;
	memory_write(m, gpa + offsetof(struct steal_time, preempted), &r.preempted, 1);
	v->pv.steal_msr = value;
	v->pv.delay = host_delay(v);
	v->pv.updated = clock_now();
	return true;
}

/* ---- preempted ---- */

void pv_sleeps(struct vcpu *v)
{
	const uint8_t preempted = PREEMPTED;

	if (!(v->pv.steal_msr & ENABLED))
		return;
	memory_write(&v->vm->memory, record_of(v) + offsetof(struct steal_time, preempted), &preempted, 1);
	v->pv.preempted = true;
}

void pv_wakes(struct vcpu *v)
{
	uint8_t old = 0;

	if (!v->pv.preempted)
		return;
	v->pv.preempted = false;
	if (memory_exchange8(&v->vm->memory, record_of(v) + offsetof(struct steal_time, preempted), 0, &old) < 0)
		return;
	if (old & FLUSH_TLB) {
		v->pv.flushes++;
		mmu_flush(&v->cpu, true);
	}
}

/* ---- hypercalls ---- */

bool pv_kick(struct vm *vm, uint32_t apic_id)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *v = vm->vcpu[i];

		if (lapic_id(v->lapic) != apic_id)
			continue;
		v->pv.unhalted = true;
		v->pv.kicks++;
		if (!v->in_guest) /* in the guest it will see it when it halts */
			vcpu_kick(v);
		return true;
	}
	return false;
}

/* To the processors that bits 0 to 127 (in 32-bit code 63) of arg[0] and arg[1] name, counted from arg[2]. */
static uint64_t send_ipi(struct vcpu *v, const uint64_t arg[4])
{
	unsigned bits = v->cpu.mode == MODE_LONG ? 64 : 32, count = v->vm->vcpu_count;
	uint64_t targets = 0, first = arg[2];
	uint32_t icr = (uint32_t)arg[3];
	enum lapic_delivery mode = icr >> 8 & 7;

	if ((icr & (ICR_DEST_LOGICAL | ICR_SHORTHAND)) || (mode != LAPIC_FIXED && mode != LAPIC_NMI))
		return -KVM_EINVAL;
	for (unsigned i = 0; i < 2 * bits && first < count && first + i < count; i++)
		if (arg[i / bits] >> (i % bits) & 1)
			targets |= 1ull << (first + i);
	v->pv.ipis++;
	return (uint64_t)lapic_bus_deliver_to(&v->vm->pc->lapics, targets, mode, (uint8_t)icr);
}

uint64_t pv_hypercall(struct vcpu *v, uint64_t nr, const uint64_t arg[4])
{
	if (nr == HC_SEND_IPI)
		return send_ipi(v, arg);
	return kvmclock_hypercall(v->vm->pc->kvmclock, v->cpu.index, nr, arg);
}

/* ---- MSRs, life ---- */

bool pv_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_STEAL_TIME:
		*value = v->pv.steal_msr;
		return true;
	case MSR_EOI:
		*value = lapic_get_pv_eoi(v->lapic);
		return true;
	}
	return kvmclock_msr_read(v->vm->pc->kvmclock, v->cpu.index, msr, value);
}

bool pv_msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
	uint64_t offset = v->cpu.tsc_offset + v->cpu.tsc_adjust;

	switch (msr) {
	case MSR_STEAL_TIME:
		return pv_set_steal_time(v, value);
	case MSR_EOI:
		if (value & EOI_RESERVED)
			return false;
		lapic_set_pv_eoi(v->lapic, value);
		return true;
	}
	if (!kvmclock_msr_write(v->vm->pc->kvmclock, v->cpu.index, msr, value, offset))
		return false;
	v->tsc_offset = offset;
	return true;
}

uint64_t pv_clock(struct vcpu *v)
{
	uint64_t value = 0;

	kvmclock_msr_read(v->vm->pc->kvmclock, v->cpu.index, MSR_SYSTEM_TIME, &value);
	return value;
}

void pv_set_clock(struct vcpu *v, uint64_t value) { pv_msr_write(v, MSR_SYSTEM_TIME, value); }

void pv_reset(struct vcpu *v)
{
	v->pv.steal_msr = 0;
	v->pv.preempted = v->pv.unhalted = false;
	kvmclock_vcpu_reset(v->vm->pc->kvmclock, v->cpu.index);
}
