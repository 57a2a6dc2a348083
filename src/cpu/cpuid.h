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
/* Where an XSAVE state component lies: the host's layout, which is the guest's as well. */
#define XSAVE_COMPONENTS 10
struct xsave_component {
	uint32_t offset, size; /* in the standard format; size 0: the guest does not have it */
	bool align64;          /* in the compacted format: starts at a multiple of 64 */
};
struct cpuid_table {
	unsigned count;
	struct cpuid_entry entry[CPUID_ENTRIES_MAX];
	bool has[FEATURE_COUNT];
	uint64_t xcr0_mask, xss_mask; /* bits that XSETBV / IA32_XSS may set */
	struct xsave_component xsave[XSAVE_COMPONENTS];
	uint64_t arch_capabilities;   /* IA32_ARCH_CAPABILITIES, when the guest has it */
	unsigned phys_bits, linear_bits;
	uint64_t tsc_khz;
	bool amd;                     /* AMD's reading where the vendors differ (SYSCALL in compat mode, ...) */
};

/* The process begins: the TSC's frequency is measured from now on, where the host does not tell it (20 ms); else when a
 * table is built. While there is one thread. */
void cpuid_clock_begin(void);
/* Builds the table for `cpus` processors from the host's CPUID. 0 or -errno. */
int cpuid_build(struct cpuid_table *t, unsigned cpus);
/* Fewer physical address bits than there are; before the table is used. Not below 36. */
void cpuid_limit_phys_bits(struct cpuid_table *t, unsigned bits);
/* Takes away what `limit` does not have, for an engine whose host has less: features (its rows of the leaves that have
 * them), components of XCR0, what the processor is said not to be vulnerable to. What the machine does itself stays.
 * Before the table is used. */
void cpuid_limit(struct cpuid_table *t, const struct cpuid_table *limit);
/* CPUID as executed: dynamic bits (OSXSAVE, APIC ID, XSAVE sizes) from the vCPU's state. out: EAX EBX ECX EDX. */
void cpuid_execute(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
/* The row of (leaf, subleaf), NULL if there is none. */
const struct cpuid_entry *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf);
/* Bytes of an XSAVE area that holds the components of `mask`, in the standard or compacted format. */
uint32_t cpuid_xsave_size(const struct cpuid_table *t, uint64_t mask, bool compacted);
static inline bool cpu_has(const struct cpu *cpu, enum feature f) { return f == FEATURE_NONE || cpu->cpuid->has[f]; }

#endif
