/*
 * The guest's CPUID: what must be there, what must not, consistency of leaves, dynamic bits.
 */
#include "cpu_fixture.h"
#include "cpu/fpu.h"

#include <cpuid.h>
#include <time.h>

static uint32_t reg_of(struct cpu *cpu, uint32_t leaf, uint32_t sub, unsigned reg)
{
	uint32_t out[4];

	cpuid_execute(cpu, leaf, sub, out);
	return out[reg];
}

static void test_features(const struct cpuid_table *t)
{
	static const enum feature must[] = { FEATURE_PCID, FEATURE_INVPCID, FEATURE_X2APIC, FEATURE_TSC_DEADLINE,
					     FEATURE_SMEP, FEATURE_SMAP, FEATURE_UMIP, FEATURE_FSGSBASE, FEATURE_NX,
					     FEATURE_PDPE1GB, FEATURE_SSE2, FEATURE_LM, FEATURE_APIC,
					     FEATURE_MTRR, FEATURE_PAT, FEATURE_RDTSCP, FEATURE_TSC_ADJUST,
					     FEATURE_INVARIANT_TSC, FEATURE_HYPERVISOR };
	static const enum feature must_not[] = { FEATURE_VMX, FEATURE_SVM, FEATURE_MONITOR, FEATURE_LA57, FEATURE_RTM,
						 FEATURE_SGX, FEATURE_CET_SS, FEATURE_CET_IBT, FEATURE_WAITPKG,
						 FEATURE_SPEC_CTRL, FEATURE_STIBP, FEATURE_SSBD, FEATURE_AMD_IBPB,
						 FEATURE_OSXSAVE, FEATURE_OSPKE, FEATURE_RDPRU };

	for (unsigned i = 0; i < sizeof(must) / sizeof(*must); i++)
		CHECK(t->has[must[i]]);
	for (unsigned i = 0; i < sizeof(must_not) / sizeof(*must_not); i++)
		CHECK(!t->has[must_not[i]]);
	CHECK(t->has[FEATURE_PKU] == !!(t->xcr0_mask & XCR0_PKRU));
	CHECK(!t->has[FEATURE_AVX] || (t->xcr0_mask & XCR0_AVX));
	CHECK(t->phys_bits >= 36 && t->phys_bits <= 46 && t->linear_bits == 48);
}

/* What Ringside does itself, or takes from leaves apart (XSAVES is XSAVEC here). */
static bool own(enum feature f)
{
	static const enum feature list[] = { FEATURE_PCID, FEATURE_X2APIC, FEATURE_TSC_DEADLINE, FEATURE_HYPERVISOR,
					     FEATURE_VME, FEATURE_MCE, FEATURE_MCA, FEATURE_MTRR, FEATURE_SEP,
					     FEATURE_FSGSBASE, FEATURE_TSC_ADJUST, FEATURE_SMEP, FEATURE_SMAP, FEATURE_UMIP,
					     FEATURE_INVPCID, FEATURE_PDPE1GB, FEATURE_RDTSCP, FEATURE_LAHF64,
					     FEATURE_INVARIANT_TSC, FEATURE_HTT, FEATURE_XSAVES };

	for (unsigned i = 0; i < sizeof(list) / sizeof(*list); i++)
		if (list[i] == f)
			return true;
	return false;
}

/* Nothing that runs on the host's units is offered which the host lacks. */
static void test_hosts_own(const struct cpuid_table *t)
{
	static const struct {
		uint32_t leaf, subleaf, reg, bit;
		const char *name;
	} bits[] = {
#define FEATURE(id, leaf, subleaf, reg, bit) [FEATURE_##id] = { leaf, subleaf, reg, bit, #id },
#include "cpu/feature.def"
#undef FEATURE
	};
	uint32_t r[4];

	for (unsigned f = FEATURE_NONE + 1; f < FEATURE_COUNT; f++) {
		bool there = __get_cpuid_count(bits[f].leaf, bits[f].subleaf, r, r + 1, r + 2, r + 3) &&
			     (r[bits[f].reg] >> bits[f].bit & 1);

		if (t->has[f] && !there && !own(f))
			printf("not ok: %s is not the host's\n", bits[f].name);
		CHECK(!t->has[f] || there || own(f));
	}
	/* The kernel of the host keeps state by XSAVE or does not. */
	CHECK(t->has[FEATURE_XSAVE] == (__get_cpuid(1, r, r + 1, r + 2, r + 3) && (r[2] >> 27 & 1)));
}

static void test_leaves(struct cpu *cpu)
{
	uint32_t max = reg_of(cpu, 0, 0, 0), ext = reg_of(cpu, 0x80000000, 0, 0), out[4];

	CHECK_EQ(max, 0xd);
	CHECK(ext >= 0x80000008 && ext <= 0x80000021);
	CHECK_EQ(reg_of(cpu, 0xa, 0, 0), 0); /* no performance counters */
	CHECK_EQ(reg_of(cpu, 5, 0, 2), 0);   /* no MWAIT */
	CHECK_EQ(reg_of(cpu, 6, 0, 0), 4);
	cpuid_execute(cpu, 0x40000000, 0, out);
	CHECK(!memcmp(out + 1, "KVMKVMKVM\0\0\0", 12));
	CHECK_EQ(out[0], 0x40000010);
	CHECK_EQ(reg_of(cpu, 0x40000001, 0, 0), 0x01000aeb);
	CHECK_EQ(reg_of(cpu, 0x40000010, 0, 0), cpu->cpuid->tsc_khz);
	CHECK_EQ(reg_of(cpu, 0x40000010, 0, 1), 1000000);
	CHECK_EQ(reg_of(cpu, 0x40000100, 0, 0), 0);
	if (cpu->cpuid->amd) {
		CHECK_EQ(reg_of(cpu, 0x12345, 0, 0), 0);
		CHECK_EQ(reg_of(cpu, 0x8000ffff, 0, 0), 0);
		CHECK_EQ(reg_of(cpu, 0x80000001, 0, 3) & 0x0183f3ff, reg_of(cpu, 1, 0, 3) & 0x0183f3ff);
		CHECK_EQ(reg_of(cpu, 0x80000008, 0, 2), 2 << 12 | 3);
		CHECK_EQ(reg_of(cpu, 0x8000001f, 0, 0), 0); /* no memory encryption */
	}
	/* Topology: 4 processors, this is number 2. */
	CHECK_EQ(reg_of(cpu, 1, 0, 1) >> 24, 2);
	CHECK_EQ(reg_of(cpu, 1, 0, 1) >> 16 & 0xff, 4);
	CHECK(reg_of(cpu, 1, 0, 3) >> 28 & 1);
	CHECK_EQ(reg_of(cpu, 0xb, 0, 1), 1);
	CHECK_EQ(reg_of(cpu, 0xb, 1, 0), 2);
	CHECK_EQ(reg_of(cpu, 0xb, 1, 1), 4);
	CHECK_EQ(reg_of(cpu, 0xb, 1, 2), 0x201);
	CHECK_EQ(reg_of(cpu, 0xb, 1, 3), 2);
	CHECK_EQ(reg_of(cpu, 0xb, 2, 2), 2);
	CHECK_EQ(reg_of(cpu, 0xb, 2, 3), 2);
	/* Deterministic leaves only: everything answers, whatever is asked. */
	for (uint32_t leaf = 0; leaf < 0x40; leaf++)
		for (uint32_t sub = 0; sub < 70; sub++) {
			cpuid_execute(cpu, leaf, sub, out);
			cpuid_execute(cpu, 0x40000000 + leaf, sub, out);
			cpuid_execute(cpu, 0x80000000 + leaf, sub, out);
			cpuid_execute(cpu, 0xffffffc0 + leaf, sub, out);
		}
}

static void test_dynamic(struct cpu *cpu)
{
	CHECK(!(reg_of(cpu, 1, 0, 2) >> 27 & 1));
	if (!cpu->cpuid->has[FEATURE_XSAVE]) {
		CHECK(cpu_write_cr(cpu, 4, CR4_OSXSAVE) != X_OK);
		for (uint32_t i = 0; i < 16; i++)
			CHECK_EQ(reg_of(cpu, 0xd, i / 4, i % 4), 0);
		return;
	}
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_OSXSAVE));
	CHECK(reg_of(cpu, 1, 0, 2) >> 27 & 1);
	CHECK_EQ(reg_of(cpu, 0xd, 0, 0), cpu->cpuid->xcr0_mask);
	CHECK_EQ(reg_of(cpu, 0xd, 0, 1), 576); /* XCR0 = x87 */
	CHECK_EQ(reg_of(cpu, 0xd, 1, 1), 576);
	if (cpu->cpuid->xcr0_mask & XCR0_AVX) {
		CHECK_OK(cpu_xsetbv(cpu, 0, 7));
		CHECK_EQ(reg_of(cpu, 0xd, 0, 1), 832);
		CHECK_EQ(reg_of(cpu, 0xd, 1, 1), 832);
		CHECK_EQ(reg_of(cpu, 0xd, 2, 0), 256);
		CHECK_EQ(reg_of(cpu, 0xd, 2, 1), 576);
	}
	CHECK_EQ(reg_of(cpu, 0xd, 0, 2), cpuid_xsave_size(cpu->cpuid, cpu->cpuid->xcr0_mask, false));
	CHECK_EQ(reg_of(cpu, 0xd, 63, 0), 0);
}

/* AVX-512 and PKRU, which this host may not have: made up. */
static void test_sizes(void)
{
	struct cpuid_table t = { 0 };

	t.xsave[2] = (struct xsave_component){ 576, 256, false };
	t.xsave[5] = (struct xsave_component){ 1088, 64, false };
	t.xsave[6] = (struct xsave_component){ 1152, 512, false };
	t.xsave[7] = (struct xsave_component){ 1664, 1024, true };
	t.xsave[9] = (struct xsave_component){ 2688, 8, false };
	CHECK_EQ(cpuid_xsave_size(&t, 0x2e7, false), 2696);
	CHECK_EQ(cpuid_xsave_size(&t, 0x2e7, true), 576 + 256 + 64 + 512 + 1024 + 8);
	CHECK_EQ(cpuid_xsave_size(&t, 0x203, true), 584);
	CHECK_EQ(cpuid_xsave_size(&t, 0x203, false), 2696);
	CHECK_EQ(cpuid_xsave_size(&t, 3, false), 576);
}

/* Clock and TSC at one moment: nothing came between the two, in the best of many tries. */
static void pair(uint64_t *ns, uint64_t *tsc)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < 100; i++) {
		uint64_t before = __builtin_ia32_rdtsc(), after;
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __builtin_ia32_rdtsc();
		if (after - before >= best)
			continue;
		best = after - before;
		*tsc = before + best / 2;
		*ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	}
}

static void test_tsc(const struct cpuid_table *t)
{
	struct timespec wait = { .tv_nsec = 200000000 };
	uint64_t ns[2], tsc[2], khz;

	pair(&ns[0], &tsc[0]);
	nanosleep(&wait, NULL);
	pair(&ns[1], &tsc[1]);
	khz = (tsc[1] - tsc[0]) * 1000000 / (ns[1] - ns[0]);
	CHECK(t->tsc_khz > khz - khz / 1000 && t->tsc_khz < khz + khz / 1000);
	printf("# TSC %llu kHz, measured again %llu\n", (unsigned long long)t->tsc_khz, (unsigned long long)khz);
}

/* An engine's host that has all, has nothing, and has all but one. */
static void test_limit(void)
{
	static struct cpuid_table t, full, limit;

	if (cpuid_build(&full, 2))
		return;
	t = limit = full;
	limit.arch_capabilities = ~0ull;
	cpuid_limit(&t, &limit);
	CHECK(!memcmp(t.has, full.has, sizeof(t.has)) && t.xcr0_mask == full.xcr0_mask);
	CHECK(!memcmp(t.entry, full.entry, sizeof(t.entry)));
	for (unsigned i = 0; i < limit.count; i++)
		if (limit.entry[i].leaf == 1)
			limit.entry[i].ecx &= ~(1u << 20); /* SSE4.2 */
	cpuid_limit(&t, &limit);
	for (unsigned f = FEATURE_NONE + 1; f < FEATURE_COUNT; f++)
		CHECK(t.has[f] == (full.has[f] && f != FEATURE_SSE42));
	for (unsigned i = 0; i < limit.count; i++)
		if (limit.entry[i].leaf == 0xd && limit.entry[i].subleaf == 0)
			limit.entry[i].eax &= ~XCR0_AVX;
	cpuid_limit(&t, &limit);
	CHECK(!(t.xcr0_mask & (XCR0_AVX | XCR0_AVX512)) && !t.has[FEATURE_AVX] && !t.has[FEATURE_AVX2] && !t.has[FEATURE_FMA]);
	if (full.has[FEATURE_XSAVE])
		CHECK_EQ(cpuid_find(&t, 0xd, 0)->eax, t.xcr0_mask);
	CHECK_EQ(t.xsave[2].size, 0);
	CHECK(t.has[FEATURE_SSE2] && t.has[FEATURE_XSAVE] == full.has[FEATURE_XSAVE]);
	memset(&limit, 0, sizeof(limit));
	t = full;
	cpuid_limit(&t, &limit);
	CHECK(!t.has[FEATURE_SSE2] && !t.has[FEATURE_XSAVE] && !t.has[FEATURE_LM] && (!t.xcr0_mask || !full.has[FEATURE_XSAVE]) && !t.arch_capabilities);
	/* The machine's own. */
	CHECK(t.has[FEATURE_HYPERVISOR] && t.has[FEATURE_X2APIC] && t.has[FEATURE_TSC_DEADLINE]);
	/* Said only because software runs the guest: BTC_NO, SRSO_NO. */
	if (t.amd)
		CHECK(!(cpuid_find(&t, 0x80000008, 0)->ebx >> 29 & 1));
}

int main(void)
{
	static struct cpuid_table t, one;
	static struct cpu processor;
	struct cpu *cpu = &processor;
	struct memory memory;

	CHECK_EQ((uint64_t)cpuid_build(&t, 0), (uint64_t)-22);
	if (cpuid_build(&t, 4) || cpuid_build(&one, 1) || memory_init(&memory, 1 << 20) ||
	    cpu_init(cpu, &memory, NULL, NULL, &t, 2))
		return 1;
	CHECK(!one.has[FEATURE_HTT] && t.has[FEATURE_HTT]);
	CHECK(cpuid_build(&one, 64) == 0 && one.count < CPUID_ENTRIES_MAX);
	printf("# %u rows\n", t.count);
	test_features(&t);
	test_hosts_own(&t);
	test_leaves(cpu);
	test_dynamic(cpu);
	test_sizes();
	test_tsc(&t);
	test_limit();
	cpu_free(cpu);
	memory_free(&memory);
	return report();
}
