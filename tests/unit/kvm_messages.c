/*
 * Messages to local APICs in the kernel, of which no processor runs: more of them than there are routes, and each comes once,
 * also where KVM delivers it later. Without a KVM that has split interrupt controllers there is nothing to test.
 *
 * usage: kvm_messages [kvm]: there has to be one
 */
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#include "check.h"
#include "engine/kvm/kvm.h"

#define FIRST 0x30u
#define EVERYBODY 0xfeeff000ull /* KVM leaves these to a work item */
#define TO_0 0xfee00000ull
#define SVR 0xf0
#define IRR 0x200

static struct kvm_vm vm;
static int vcpu;

/* Vectors that wait, and from now on none. */
static void take(uint32_t irr[8])
{
	struct kvm_lapic_state page;

	CHECK(ioctl(vcpu, KVM_GET_LAPIC, &page) == 0);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(&irr[i], page.regs + IRR + 16 * i, sizeof irr[i]);
		memset(page.regs + IRR + 16 * i, 0, sizeof irr[i]);
	}
	page.regs[SVR + 1] |= 1; /* enabled */
	CHECK(ioctl(vcpu, KVM_SET_LAPIC, &page) == 0);
}

static int has(const uint32_t irr[8], unsigned vector) { return irr[vector / 32] >> vector % 32 & 1; }

static int send(uint64_t address, unsigned vector)
{
	return kvm_message(&vm, &(struct apic_msi){.address = address, .data = vector});
}

static bool make(void)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = KVM_PINS};
	const char *why;

	if (kvm_host_open(&vm.host, &why) < 0) {
		printf("# %s\n", why);
		return false;
	}
	if (!vm.host->split_irqchip || !vm.host->irqfd || kvm_vm_make(&vm, &why) < 0 || ioctl(vm.fd, KVM_ENABLE_CAP, &cap) < 0 ||
	    (vcpu = ioctl(vm.fd, KVM_CREATE_VCPU, 0)) < 0) {
		printf("# no local APICs in this KVM\n");
		return false;
	}
	return true;
}

static void one_after_the_other(void)
{
	uint32_t irr[8];

	for (unsigned round = 0; round < 4; round++)
		for (unsigned v = FIRST; v < FIRST + 3 * KVM_ROUTES; v++)
			CHECK(send(v % 3 ? TO_0 : EVERYBODY, v) > 0);
	kvm_end_messages(&vm);
	take(irr);
	for (unsigned v = FIRST; v < FIRST + 3 * KVM_ROUTES; v++)
		CHECK_SAYING(has(irr, v), "vector %#x has not come", v);
}

/* The first message waits for its work item, which does not get the processor, while others take its route. */
static void route_taken_while_one_waits(void)
{
	const struct sched_param above = {.sched_priority = 1}, usual = {0};
	uint64_t changes;
	uint32_t irr[8];
	cpu_set_t here, all;

	CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	CHECK(send(EVERYBODY, FIRST) > 0); /* and has a route now */
	take(irr);
	for (unsigned v = 1; v < KVM_ROUTES; v++)
		CHECK(send(TO_0, FIRST + v) > 0);
	take(irr);
	if (sched_setaffinity(0, sizeof here, &here) < 0 || sched_setscheduler(0, SCHED_FIFO, &above) < 0)
		printf("# no priority: whether a message waits is luck\n");
	CHECK(send(EVERYBODY, FIRST) > 0);
	for (unsigned v = 1; v < KVM_ROUTES; v++)
		send(TO_0, FIRST + v);
	changes = vm.route_changes;
	for (unsigned v = 0; vm.route_changes == changes && v < 200; v++)
		send(TO_0, 0xf0);
	CHECK(vm.route_changes > changes);
	sched_setscheduler(0, SCHED_OTHER, &usual);
	sched_setaffinity(0, sizeof all, &all);
	take(irr);
	CHECK_SAYING(has(irr, FIRST), "the message whose route was taken is lost");
	CHECK(has(irr, FIRST + 1) && has(irr, 0xf0));
}

int main(int argc, char **argv)
{
	uint32_t irr[8];
	bool there = make();

	(void)argv;
	if (!there && argc == 1)
		return 0; /* counts as one that passed */
	CHECK(there);
	if (there) {
		take(irr); /* enables it */
		route_taken_while_one_waits();
		kvm_end_messages(&vm);
		take(irr);
		one_after_the_other();
	}
	return summary();
}
