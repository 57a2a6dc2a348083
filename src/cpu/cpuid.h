/*
 * CPUID as the guest sees it: what the host's processor really has, minus what Ringside does not
 * virtualize, plus the hypervisor leaves (KVM's signature). Sources: SDM 2A CPUID, APM 3 appendix E,
 * Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#ifndef RINGSIDE_CPUID_H
#define RINGSIDE_CPUID_H

#include "cpu/cpu.h"

/* FEATURE(id, leaf, subleaf, register 0-3 = EAX EBX ECX EDX, bit): cpu/feature.def */
enum feature {
	FEATURE_NONE,
#define FEATURE(id, leaf, subleaf, reg, bit) FEATURE_##id,
#include "cpu/feature.def"
#undef FEATURE
	FEATURE_COUNT
};

#define CPUID_ENTRIES_MAX 64
struct cpuid_entry {
	uint32_t leaf, subleaf;
	bool has_subleaf;
	uint32_t eax, ebx, ecx, edx;
};
struct cpuid_table {
	unsigned count;
	struct cpuid_entry entry[CPUID_ENTRIES_MAX];
	bool has[FEATURE_COUNT];
	uint64_t xcr0_mask, xss_mask; /* bits that XSETBV / IA32_XSS may set */
	unsigned phys_bits, linear_bits;
	uint64_t tsc_khz;
	bool amd;                     /* AMD's reading where the vendors differ (SYSCALL in compat mode, ...) */
};

/* Builds the table for `cpus` processors from the host's CPUID. 0 or -errno. */
int cpuid_build(struct cpuid_table *t, unsigned cpus);
/* CPUID as executed: dynamic bits (OSXSAVE, APIC ID, XSAVE sizes) from the vCPU's state. out: EAX EBX ECX EDX. */
void cpuid_execute(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
static inline bool cpu_has(const struct cpu *cpu, enum feature f) { return f == FEATURE_NONE || cpu->cpuid->has[f]; }

#endif
