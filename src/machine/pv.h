/*
 * What KVM offers a guest that asks, besides the clock (dev/kvmclock.h) and the EOI (irq/lapic.h): steal time with
 * the "preempted" flag and the TLB flush that others leave there, kicks out of HLT, IPIs to many at once.
 *
 * On the vCPU's own thread, under vm->lock, but for pv_kick. Source: Linux Documentation/virt/kvm/x86/{cpuid,msr,
 * hypercalls}.rst.
 */
#ifndef RINGSIDE_PV_H
#define RINGSIDE_PV_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct vm;

struct vcpu_pv {
	uint64_t steal_msr;    /* address of the record, and an enable bit */
	uint32_t version;      /* of the record */
	bool preempted;        /* the record says so */
	bool unhalted;         /* a kick that no HLT has used up yet */
	uint64_t delay;        /* how long this thread had to wait, as last seen, ns */
	uint64_t updated;      /* when that was, ns */
	uint64_t kicks, ipis, flushes; /* for --stats */
};

/* RESET, INIT: everything off, the clock's record too. */
void pv_reset(struct vcpu *v);
/* The MSRs 0x11, 0x12, 0x4b564d00 and on. False: #GP. */
bool pv_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);
bool pv_msr_write(struct vcpu *v, uint32_t msr, uint64_t value);
/* Steal time's MSR alone. False: #GP. */
bool pv_set_steal_time(struct vcpu *v, uint64_t value);
/* The MSR of the clock's record alone. */
uint64_t pv_clock(struct vcpu *v);
void pv_set_clock(struct vcpu *v, uint64_t value);
/* VMCALL, VMMCALL at CPL 0: what goes to RAX. */
uint64_t pv_hypercall(struct vcpu *v, uint64_t nr, const uint64_t arg[4]);
/* The vCPU is about to sleep, and is back before it does anything else. */
void pv_sleeps(struct vcpu *v);
void pv_wakes(struct vcpu *v);
/* Before it is entered: the record is kept up to date. */
void pv_account(struct vcpu *v);
/* KICK_CPU, by any vCPU: ends its HLT, or the next one. False: there is no such vCPU. */
bool pv_kick(struct vm *vm, uint32_t apic_id);

#endif
