/*
 * The paravirtual clock in the kernel: KVM's own kvmclock, with the MSRs of the vCPUs' records (state in apic.c). It is there
 * with the local APICs.
 *
 * KVM counts on without anybody's help, also where the host's TSC is not to be relied on. A guest that is moved finds the time
 * going on: none is added, and it does not go back.
 *
 * Any thread. Source: Linux Documentation/virt/kvm/api.rst, "KVM_GET_CLOCK", "KVM_SET_CLOCK".
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"

int kvm_get_clock(void *engine_vm, uint64_t *ns)
{
	const struct kvm_vm *vm = engine_vm;
	struct kvm_clock_data data = { 0 };

	if (ioctl(vm->fd, KVM_GET_CLOCK, &data) < 0)
		return -errno;
	*ns = data.clock;
	return 0;
}

int kvm_set_clock(void *engine_vm, uint64_t ns)
{
	const struct kvm_vm *vm = engine_vm;
	struct kvm_clock_data data = { .clock = ns };

	return ioctl(vm->fd, KVM_SET_CLOCK, &data) < 0 ? -errno : 0;
}

/* The record is made again: the TSC that it is based on has changed. */
int kvm_clock_again(struct kvm_vcpu *k)
{
	uint64_t record = k->vm->apics ? kvm_get_msr(k, KVM_MSR_SYSTEM_TIME) : 0;

	return record ? kvm_set_msr(k, KVM_MSR_SYSTEM_TIME, record, "KVM_SET_MSRS, clock") : 0;
}
