/*
 * What the processor asks of the machine in the middle of an instruction: time, its local APIC,
 * paravirtual MSRs and hypercalls.
 *
 * Runs on the vCPU's thread while it is in the guest, without vm->lock, with guest vector state
 * possibly in the host's registers. This file is compiled with -mgeneral-regs-only, and whatever
 * calls further puts that state away first (the engine brings it back when it is needed).
 */
#include <sched.h>

#include "cpu/fpu.h"
#include "dev/kvmclock.h"
#include "irq/lapic.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "util/log.h"

/* Enters the machine's code: vector state safe, lock held. */
static struct vcpu *machine_enter(void *opaque, enum vcpu_question question)
{
	struct vcpu *v = opaque;

	v->stats.questions[question]++;
	cpu_fpu_leave(&v->cpu);
	pthread_mutex_lock(&v->vm->lock);
	return v;
}

static void machine_leave(struct vcpu *v) { pthread_mutex_unlock(&v->vm->lock); }

static uint64_t env_tsc(void *opaque)
{
	(void)opaque;
	return __builtin_ia32_rdtsc();
}

static uint8_t env_get_tpr(void *opaque)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_CR8);
	uint8_t cr8 = lapic_get_cr8(v->lapic);

	machine_leave(v);
	return cr8;
}

static void env_set_tpr(void *opaque, uint8_t cr8)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_CR8);

	lapic_set_cr8(v->lapic, cr8);
	machine_leave(v);
}

static uint64_t env_get_apic_base(void *opaque)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_APIC_BASE);
	uint64_t base = lapic_get_base(v->lapic);

	machine_leave(v);
	return base;
}

static bool env_set_apic_base(void *opaque, uint64_t value)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_APIC_BASE);
	bool ok = lapic_set_base(v->lapic, value);

	machine_leave(v);
	return ok;
}

static bool env_x2apic_read(void *opaque, uint32_t msr, uint64_t *value)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_X2APIC);
	bool ok = lapic_msr_read(v->lapic, msr, value);

	machine_leave(v);
	return ok;
}

static bool env_x2apic_write(void *opaque, uint32_t msr, uint64_t value)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_X2APIC);
	bool ok = lapic_msr_write(v->lapic, msr, value);

	machine_leave(v);
	return ok;
}

static bool env_pv_read(void *opaque, uint32_t msr, uint64_t *value)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_PV);
	bool ok = pv_msr_read(v, msr, value);

	machine_leave(v);
	return ok;
}

static bool env_pv_write(void *opaque, uint32_t msr, uint64_t value)
{
	struct vcpu *v = machine_enter(opaque, QUESTION_PV);
	bool ok = pv_msr_write(v, msr, value);

	machine_leave(v);
	return ok;
}

static uint64_t env_hypercall(void *opaque, uint64_t nr, const uint64_t arg[4])
{
	struct vcpu *v = opaque;

	if (v->cpu.cpl != 0)
		return -KVM_EPERM;
	machine_enter(v, QUESTION_HYPERCALL);
	uint64_t result = pv_hypercall(v, nr, arg);
	machine_leave(v);
	return result;
}

/* A loop of PAUSEs waits for another vCPU, whose thread may wait for this host core: after a while it is given up.
 * In TSC ticks: a gap longer than this between two ends a loop, and one that lasts longer than that yields. */
#define PAUSE_GAP 4096u
#define PAUSE_WINDOW 20000u

static void env_pause(void *opaque)
{
	struct vcpu *v = opaque;
	uint64_t now = __builtin_ia32_rdtsc();

	if (now - v->pause_last > PAUSE_GAP)
		v->pause_first = now;
	v->pause_last = now;
	if (now - v->pause_first < PAUSE_WINDOW || v->vm->vcpu_count == 1)
		return;
	v->stats.yields++;
	sched_yield();
	v->pause_first = v->pause_last = __builtin_ia32_rdtsc();
}

const struct cpu_env vcpu_env = {
	.tsc = env_tsc,
	.get_tpr = env_get_tpr,
	.set_tpr = env_set_tpr,
	.get_apic_base = env_get_apic_base,
	.set_apic_base = env_set_apic_base,
	.x2apic_read = env_x2apic_read,
	.x2apic_write = env_x2apic_write,
	.pv_read = env_pv_read,
	.pv_write = env_pv_write,
	.hypercall = env_hypercall,
	.pause = env_pause,
};
