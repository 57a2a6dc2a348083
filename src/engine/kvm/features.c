/*
 * What a guest under KVM is shown: Ringside's CPUID without what this host's KVM lacks, and Ringside's MSRs, but for
 * those that KVM has to have itself.
 *
 * kvm_limit_cpuid: while the machine is built; the rest: on the thread that makes the vCPU. What a guest has seen under
 * KVM it finds under the other engines too, so that a vCPU can be moved.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "engine/kvm/kvm.h"

#define LEAF_KVM_FEATURES 0x40000001u
/* CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, CLOCKSOURCE_STABLE: by MSRs, which are Ringside's unless the local APICs are in the
 * kernel. */
#define PV_CLOCK (1u << 0 | 1u << 1 | 1u << 3 | 1u << 24)
/* STEAL_TIME, PV_EOI: likewise. */
#define PV_MSRS (1u << 5 | 1u << 6)
/* PV_UNHALT, PV_TLB_FLUSH, PV_SEND_IPI: hypercalls, which KVM answers itself, so only if it has the local APICs and steal
 * time. */
#define PV_HYPERCALLS (1u << 7 | 1u << 9 | 1u << 11)
#define SUPPORTED_MAX 256
#define MSR_ARCH_CAPABILITIES 0x10au

/* ---- CPUID ---- */

/* XCR0, XSAVE and what only XSAVE keeps: AVX, PKU. The legacy state stays. */
static void take_xsave(struct kvm_cpuid_entry2 *e)
{
	if (e->function == 0x1)
		e->ecx &= ~(1u << 26);
	else if (e->function == 0x7 && e->index == 0)
		e->ecx &= ~(1u << 3);
	else if (e->function == 0xd && e->index == 0)
		e->eax &= XCR0_X87 | XCR0_SSE, e->edx = 0;
	else if (e->function == 0xd)
		e->eax = 0;
}

/* What KVM supports on this host, the leaves that have features. */
static int supported(const struct kvm_host *host, struct cpuid_table *limit)
{
	static const uint32_t wanted[] = { 0x1, 0x7, 0xd, LEAF_KVM_FEATURES, 0x80000001, 0x80000007, 0x80000008, 0x80000021 };
	union {
		struct kvm_cpuid2 list;
		uint8_t room[sizeof(struct kvm_cpuid2) + SUPPORTED_MAX * sizeof(struct kvm_cpuid_entry2)];
	} all = { .list.nent = SUPPORTED_MAX };
	union kvm_one_msr msr = { .list.nmsrs = 1 };

	msr.list.entries[0].index = MSR_ARCH_CAPABILITIES;
	memset(limit, 0, sizeof(*limit));
	if (ioctl(host->fd, KVM_GET_SUPPORTED_CPUID, &all) < 0)
		return -errno;
	for (unsigned i = 0; i < all.list.nent; i++) {
		struct kvm_cpuid_entry2 *e = &all.list.entries[i];

		if (host->loses_xcr0)
			take_xsave(e);
		for (unsigned k = 0; k < sizeof(wanted) / sizeof(wanted[0]); k++)
			if (e->function == wanted[k] && e->index < 2 && limit->count < CPUID_ENTRIES_MAX)
				limit->entry[limit->count++] = (struct cpuid_entry){
					.leaf = e->function, .subleaf = e->index,
					.has_subleaf = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
					.eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx,
				};
	}
	if (ioctl(host->fd, KVM_GET_MSRS, &msr) == 1)
		limit->arch_capabilities = msr.list.entries[0].data;
	return 0;
}

static uint32_t pv_features(const struct kvm_vm *vm, const struct cpuid_table *limit)
{
	const struct cpuid_entry *kernel = cpuid_find(limit, LEAF_KVM_FEATURES, 0);

	if (!vm->apics)
		return PV_CLOCK | PV_MSRS;
	return kernel ? kernel->eax & (PV_CLOCK | PV_MSRS | PV_HYPERCALLS) : 0;
}

int kvm_limit_cpuid(void *engine_vm, struct cpuid_table *t)
{
	struct kvm_vm *vm = engine_vm;
	struct cpuid_table limit;
	int r = supported(vm->host, &limit);

	if (r < 0)
		return r;
	cpuid_limit(t, &limit);
	for (unsigned i = 0; i < t->count; i++)
		if (t->entry[i].leaf == LEAF_KVM_FEATURES)
			t->entry[i].eax &= pv_features(vm, &limit);
	return 0;
}

/* CPUID of this vCPU where it is not the same for all; KVM sees to what follows from control registers. */
static void own_bits(struct kvm_cpuid_entry2 *e, uint32_t id)
{
	switch (e->function) {
	case 0x1:
		e->ebx |= (id & 0xff) << 24;
		break;
	case 0xb:
		e->ecx |= e->index;
		e->edx = id;
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx |= id & 0xff;
		break;
	}
}

/* A guest that was shown more, by another engine, relies on it: on what is for several processors if it has them. */
static bool relies_on_more(const struct cpuid_table *t, const struct cpuid_table *limited)
{
	const struct cpuid_entry *pv = cpuid_find(t, LEAF_KVM_FEATURES, 0), *here = cpuid_find(limited, LEAF_KVM_FEATURES, 0);

	return pv && here && (pv->eax & ~here->eax & (t->has[FEATURE_HTT] ? ~0u : ~PV_HYPERCALLS));
}

int kvm_set_cpuid(struct kvm_vcpu *k)
{
	const struct cpuid_table *t = k->cpu->cpuid;
	struct cpuid_table limited = *t;
	union {
		struct kvm_cpuid2 list;
		uint8_t room[sizeof(struct kvm_cpuid2) + (CPUID_ENTRIES_MAX + 1) * sizeof(struct kvm_cpuid_entry2)];
	} all = { .list.nent = t->count };
	int r = kvm_limit_cpuid(k->vm, &limited);

	if (r < 0)
		return r;
	if (memcmp(limited.has, t->has, sizeof(t->has)) || limited.xcr0_mask != t->xcr0_mask || relies_on_more(t, &limited))
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < t->count; i++) {
		const struct cpuid_entry *e = &t->entry[i];

		all.list.entries[i] = (struct kvm_cpuid_entry2){
			.function = e->leaf, .index = e->subleaf,
			.flags = e->has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx,
		};
		own_bits(&all.list.entries[i], k->cpu->index);
	}
	/* Levels of the topology that are not there have the APIC ID all the same. */
	all.list.entries[all.list.nent++] = (struct kvm_cpuid_entry2){
		.function = 0xb, .index = 2, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ecx = 2, .edx = k->cpu->index,
	};
	if (ioctl(k->fd, KVM_SET_CPUID2, &all) < 0)
		return -errno;
	/* Hypercalls that the guest was not told of fail. A KVM that does not know this answers them as it likes. */
	ioctl(k->fd, KVM_ENABLE_CAP, &(struct kvm_enable_cap){ .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args[0] = 1 });
	return 0;
}

/* ---- MSRs ---- */

struct msr_range {
	uint32_t base, count;
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Those that the processor uses itself while the guest runs. */
static const struct msr_range owned[] = {
	{ 0x174, 3 },      /* SYSENTER */
	{ 0x277, 1 },      /* PAT */
	{ 0xda0, 1 },      /* XSS */
	{ 0xc0000080, 5 }, /* EFER, STAR, LSTAR, CSTAR, SFMASK */
	{ 0xc0000100, 4 }, /* FS and GS base, KERNEL_GS_BASE, TSC_AUX */
};

/* With the local APICs in the kernel these are KVM's too. The filter does not bear on x2APIC's registers. */
static const struct msr_range with_apics[] = {
	{ 0x1b, 1 },       /* APIC_BASE */
	{ 0x6e0, 1 },      /* TSC_DEADLINE */
	{ 0x12, 1 },       /* the paravirtual clock's record, by its old number */
	{ 0x4b564d01, 1 }, /* and its new one */
	{ 0x4b564d03, 2 }, /* steal time, paravirtual EOI */
}, x2apic = { 0x800, 0x100 };

static bool in_range(const struct msr_range *r, uint32_t msr) { return msr - r->base < r->count; }

bool kvm_owns_msr(const struct kvm_vm *vm, uint32_t msr)
{
	for (unsigned i = 0; i < COUNT(owned); i++)
		if (in_range(&owned[i], msr))
			return true;
	for (unsigned i = 0; vm->apics && i < COUNT(with_apics); i++)
		if (in_range(&with_apics[i], msr))
			return true;
	return vm->apics && in_range(&x2apic, msr);
}

int kvm_set_msr_filter(struct kvm_vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args[0] = KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER,
	};
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_DENY };
	uint64_t all = 0xff; /* is read by words of 64 bits */

	for (unsigned i = 0; i < COUNT(owned) + (vm->apics ? COUNT(with_apics) : 0); i++) {
		const struct msr_range *r = i < COUNT(owned) ? &owned[i] : &with_apics[i - COUNT(owned)];

		filter.ranges[i] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.base = r->base, .nmsrs = r->count, .bitmap = (uint8_t *)&all,
		};
	}
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0 || ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
		return -errno;
	return 0;
}
