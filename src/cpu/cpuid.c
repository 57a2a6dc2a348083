/*
 * The guest's CPUID: built once a VM from the host's, read by vCPU threads without a lock.
 *
 * What is offered: instructions that the decoder knows (feature.def) and the host has, system
 * features that Ringside itself implements whether the host has them or not, and nothing else.
 * Sources: SDM 2A CPUID, APM 3 appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "sandbox/sandbox.h"

enum { EAX, EBX, ECX, EDX };

#define LEAF_MAX 0xdu
#define LEAF_KVM 0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_KVM_TIMING 0x40000010u
#define LEAF_EXT_MAX 0x80000021u
#define APIC_TIMER_KHZ 1000000u /* LAPIC_TIMER_HZ / 1000 */

#define BIT(n) (1u << (n))

struct feature_bit {
	uint32_t leaf;
	uint8_t subleaf, reg, bit;
};

static const struct feature_bit feature_bits[FEATURE_COUNT] = {
#define FEATURE(id, leaf, subleaf, reg, bit) [FEATURE_##id] = { leaf, subleaf, reg, bit },
#include "cpu/feature.def"
#undef FEATURE
};

/* In feature.def so that their instructions can be decoded, but not virtualized; or set as CPUID is
 * executed (OSXSAVE, OSPKE), or decided in the code below (HTT, PKU, ARCH_CAPABILITIES). */
static const enum feature never[] = {
	FEATURE_MONITOR, FEATURE_VMX, FEATURE_SMX, FEATURE_SGX, FEATURE_RTM, FEATURE_CET_SS, FEATURE_CET_IBT,
	FEATURE_WAITPKG, FEATURE_LA57, FEATURE_ENQCMD, FEATURE_MD_CLEAR, FEATURE_TSXLDTRK, FEATURE_PCONFIG,
	FEATURE_SPEC_CTRL, FEATURE_STIBP, FEATURE_FLUSH_L1D, FEATURE_ARCH_CAPABILITIES, FEATURE_SSBD, FEATURE_HRESET,
	FEATURE_PTWRITE, FEATURE_SVM, FEATURE_SKINIT, FEATURE_MONITORX, FEATURE_RDPRU, FEATURE_MCOMMIT,
	FEATURE_AMD_IBPB, FEATURE_CR8_LEGACY, FEATURE_OSXSAVE, FEATURE_OSPKE, FEATURE_HTT, FEATURE_PKU,
};

/* Ringside's own: there whatever the host says. */
static const enum feature always[] = {
	FEATURE_PCID, FEATURE_X2APIC, FEATURE_TSC_DEADLINE, FEATURE_HYPERVISOR, FEATURE_FPU, FEATURE_VME, FEATURE_DE,
	FEATURE_PSE, FEATURE_TSC, FEATURE_MSR, FEATURE_PAE, FEATURE_MCE, FEATURE_CX8, FEATURE_APIC, FEATURE_SEP,
	FEATURE_MTRR, FEATURE_PGE, FEATURE_MCA, FEATURE_CMOV, FEATURE_PAT, FEATURE_PSE36, FEATURE_CLFLUSH, FEATURE_MMX,
	FEATURE_FXSR, FEATURE_SSE, FEATURE_SSE2, FEATURE_FSGSBASE, FEATURE_TSC_ADJUST, FEATURE_SMEP, FEATURE_INVPCID,
	FEATURE_SMAP, FEATURE_UMIP, FEATURE_LAHF64, FEATURE_SYSCALL, FEATURE_NX, FEATURE_PDPE1GB, FEATURE_RDTSCP,
	FEATURE_LM, FEATURE_INVARIANT_TSC,
};

/* Bits that say something about the host's units and need no instruction: passed on. */
static const struct {
	uint32_t leaf, subleaf, reg, mask;
} informative[] = {
	{ 0x1, 0, EDX, BIT(27) },                        /* self snoop */
	{ 0x7, 0, EBX, BIT(6) | BIT(13) },               /* x87: FDP on exceptions only, FCS and FDS gone */
	{ 0x7, 1, EAX, BIT(10) | BIT(11) | BIT(12) },    /* fast short strings */
	{ 0x80000001, 0, ECX, BIT(22) },                 /* topology extensions */
	{ 0x80000001, 0, EDX, BIT(22) | BIT(30) },       /* MMX and 3DNow! extensions */
	{ 0x80000008, 0, EBX, BIT(2) | BIT(26) }, /* XSAVE's error pointers, SSB_NO */
	{ 0x80000021, 0, EAX, BIT(2) },                  /* LFENCE serializes */
	{ 0x80000021, 0, ECX, BIT(1) | BIT(2) },         /* TSA_SQ_NO, TSA_L1_NO */
};

static const enum feature needs_avx[] = {
	FEATURE_AVX, FEATURE_FMA, FEATURE_F16C, FEATURE_AVX2, FEATURE_VAES, FEATURE_VPCLMULQDQ, FEATURE_AVX_VNNI,
};
static const enum feature needs_avx512[] = {
	FEATURE_AVX512F, FEATURE_AVX512DQ, FEATURE_AVX512IFMA, FEATURE_AVX512CD, FEATURE_AVX512BW, FEATURE_AVX512VL,
	FEATURE_AVX512VBMI, FEATURE_AVX512VBMI2, FEATURE_AVX512VNNI, FEATURE_AVX512BITALG, FEATURE_AVX512VPOPCNTDQ,
	FEATURE_AVX512VP2INTERSECT, FEATURE_AVX512BF16,
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* ---- the table ---- */

const struct cpuid_entry *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < t->count; i++) {
		const struct cpuid_entry *e = &t->entry[i];

		if (e->leaf == leaf && (!e->has_subleaf || e->subleaf == subleaf))
			return e;
	}
	return NULL;
}

static uint32_t *entry_reg(struct cpuid_entry *e, unsigned reg)
{
	switch (reg) {
	case EAX:
		return &e->eax;
	case EBX:
		return &e->ebx;
	case ECX:
		return &e->ecx;
	default:
		return &e->edx;
	}
}

static uint32_t *table_reg(struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
	const struct cpuid_entry *e = cpuid_find(t, leaf, subleaf);

	return e ? entry_reg(&t->entry[e - t->entry], reg) : NULL;
}

static struct cpuid_entry *add(struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, bool has_subleaf)
{
	struct cpuid_entry *e;

	if (t->count == CPUID_ENTRIES_MAX)
		return NULL;
	e = &t->entry[t->count++];
	*e = (struct cpuid_entry){ .leaf = leaf, .subleaf = subleaf, .has_subleaf = has_subleaf };
	return e;
}

static void add_values(struct cpuid_table *t, uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	struct cpuid_entry *e = add(t, leaf, 0, false);

	if (e) {
		e->eax = eax;
		e->ebx = ebx;
		e->ecx = ecx;
		e->edx = edx;
	}
}

static void add_sub(struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
		    uint32_t edx)
{
	struct cpuid_entry *e = add(t, leaf, subleaf, true);

	if (e) {
		e->eax = eax;
		e->ebx = ebx;
		e->ecx = ecx;
		e->edx = edx;
	}
}

static void set_feature(struct cpuid_table *t, enum feature f, bool on)
{
	const struct feature_bit *b = &feature_bits[f];
	uint32_t *r = table_reg(t, b->leaf, b->subleaf, b->reg);

	if (!r)
		return;
	*r = on ? *r | BIT(b->bit) : *r & ~BIT(b->bit);
}

/* Instructions whose registers the guest cannot have. */
static void drop_without_state(struct cpuid_table *t)
{
	for (unsigned i = 0; i < COUNT(needs_avx); i++)
		if (!(t->xcr0_mask & XCR0_AVX))
			set_feature(t, needs_avx[i], false);
	for (unsigned i = 0; i < COUNT(needs_avx512); i++)
		if (!(t->xcr0_mask & XCR0_AVX512))
			set_feature(t, needs_avx512[i], false);
}

/* ---- the host ---- */

struct host {
	uint32_t max_leaf, max_ext, max_hypervisor;
	bool amd;
	uint64_t xcr0; /* 0: no XSAVE, or the host's kernel does not use it */
};

static void host_cpuid(const struct host *h, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	bool there = leaf >= 0x80000000 ? leaf <= h->max_ext :
		     leaf >= LEAF_KVM   ? leaf <= h->max_hypervisor :
					  leaf <= h->max_leaf;

	memset(out, 0, 4 * sizeof(*out));
	if (there)
		__cpuid_count(leaf, subleaf, out[EAX], out[EBX], out[ECX], out[EDX]);
}

static void host_probe(struct host *h)
{
	uint32_t r[4], low, high;

	__cpuid(0, h->max_leaf, r[EBX], r[ECX], r[EDX]);
	h->amd = (r[EBX] == 0x68747541 && r[ECX] == 0x444d4163) || /* AuthenticAMD */
		 (r[EBX] == 0x6f677948 && r[ECX] == 0x656e6975);   /* HygonGenuine */
	__cpuid(0x80000000, h->max_ext, r[EBX], r[ECX], r[EDX]);
	if (h->max_ext < 0x80000000)
		h->max_ext = 0;
	__cpuid(1, r[EAX], r[EBX], r[ECX], r[EDX]);
	h->max_hypervisor = 0;
	h->xcr0 = 0;
	if (r[ECX] & BIT(27) && h->max_leaf >= 0xd) {
		__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
		h->xcr0 = (uint64_t)high << 32 | low;
	}
	if (r[ECX] & BIT(31))
		__cpuid(LEAF_KVM, h->max_hypervisor, r[EBX], r[ECX], r[EDX]);
}

static uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* TSC and clock at one moment: the closest pair of a few tries. */
static void clock_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 16; i++) {
		struct timespec ts;
		uint64_t before = rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = rdtsc();
		if (after - before < best) {
			best = after - before;
			*tsc = before + (after - before) / 2;
			*ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
		}
	}
}

#define TSC_MEASURE_NS 20000000u
#define TSC_SINCE_MAX_NS 2000000000u

/* Since when the clock is compared with the TSC. Written before there are threads. */
static uint64_t tsc_since, ns_since;

void cpuid_clock_begin(void)
{
	if (!ns_since)
		clock_pair(&tsc_since, &ns_since);
}

/* Waits for what is missing of TSC_MEASURE_NS. */
static uint64_t measure_tsc_khz(void)
{
	uint64_t tsc0 = tsc_since, ns0 = ns_since, tsc1, ns1;

	clock_pair(&tsc1, &ns1);
	if (ns1 - ns0 > TSC_SINCE_MAX_NS) { /* never, or the host may have slept since */
		tsc0 = tsc1;
		ns0 = ns1;
	}
	if (ns1 - ns0 < TSC_MEASURE_NS) {
		struct timespec wait = { .tv_nsec = (long)(TSC_MEASURE_NS - (ns1 - ns0)) };

		nanosleep(&wait, NULL);
		clock_pair(&tsc1, &ns1);
	}
	if (ns1 <= ns0)
		return 1000000;
	return (uint64_t)((unsigned __int128)(tsc1 - tsc0) * 1000000 / (ns1 - ns0));
}

static uint64_t host_tsc_khz(const struct host *h)
{
	uint32_t r[4];

	host_cpuid(h, LEAF_KVM_TIMING, 0, r);
	if (r[EAX])
		return r[EAX];
	host_cpuid(h, 0x15, 0, r);
	if (!h->amd && r[EAX] && r[EBX] && r[ECX])
		return (uint64_t)r[ECX] * r[EBX] / r[EAX] / 1000;
	return measure_tsc_khz();
}

/* Is the host's CPU free of a vulnerability, as its kernel sees it? */
static bool host_not_affected(const char *name)
{
	char path[96] = "/sys/devices/system/cpu/vulnerabilities/", text[16] = "";
	int fd;
	ssize_t n;

	strncat(path, name, sizeof(path) - strlen(path) - 1);
	fd = sandbox_open(path, O_RDONLY);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && !strncmp(text, "Not affected", 12);
}

/* IA32_ARCH_CAPABILITIES. A guest under a software engine has no access to memory that its own rings
 * forbid through the host's page tables (RDCL, L1TF: its addresses are looked up in software). */
static uint64_t host_arch_capabilities(void)
{
	uint64_t v = BIT(0) | BIT(3); /* RDCL_NO, SKIP_L1DFL_VMENTRY */

	if (host_not_affected("spec_store_bypass"))
		v |= BIT(4);
	if (host_not_affected("mds"))
		v |= BIT(5);
	if (host_not_affected("itlb_multihit"))
		v |= BIT(6);
	if (host_not_affected("tsx_async_abort"))
		v |= BIT(8);
	if (host_not_affected("mmio_stale_data"))
		v |= BIT(13) | BIT(14) | BIT(15);
	if (host_not_affected("gather_data_sampling"))
		v |= BIT(26);
	if (host_not_affected("reg_file_data_sampling"))
		v |= BIT(27);
	return v;
}

/* ---- leaves ---- */

static unsigned log2_up(unsigned n)
{
	unsigned bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

/* A leaf with only the bits of it that the lists above let through. */
static void add_features(struct cpuid_table *t, const struct host *h, uint32_t leaf, uint32_t subleaf, bool has_subleaf)
{
	uint32_t r[4], mask[4] = { 0 };
	struct cpuid_entry *e = add(t, leaf, subleaf, has_subleaf);

	if (!e)
		return;
	host_cpuid(h, leaf, subleaf, r);
	for (unsigned f = FEATURE_NONE + 1; f < FEATURE_COUNT; f++)
		if (feature_bits[f].leaf == leaf && feature_bits[f].subleaf == subleaf)
			mask[feature_bits[f].reg] |= BIT(feature_bits[f].bit);
	for (unsigned i = 0; i < COUNT(informative); i++)
		if (informative[i].leaf == leaf && informative[i].subleaf == subleaf)
			mask[informative[i].reg] |= informative[i].mask;
	e->eax = r[EAX] & mask[EAX];
	e->ebx = r[EBX] & mask[EBX];
	e->ecx = r[ECX] & mask[ECX];
	e->edx = r[EDX] & mask[EDX];
}

/* Cache parameters (leaf 4, 0x8000001d): one core has L1 and L2 for itself, all share L3. */
static void add_caches(struct cpuid_table *t, const struct host *h, uint32_t leaf, unsigned cpus)
{
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t r[4], level, sharing, cores = (1u << log2_up(cpus)) - 1;

		host_cpuid(h, leaf, i, r);
		if (!(r[EAX] & 0x1f)) {
			add_sub(t, leaf, i, 0, 0, 0, 0);
			return;
		}
		level = r[EAX] >> 5 & 7;
		sharing = level >= 3 ? cores : 0;
		r[EAX] = (r[EAX] & 0x3fff) | sharing << 14;
		if (leaf == 4)
			r[EAX] |= (cores > 63 ? 63 : cores) << 26;
		add_sub(t, leaf, i, r[EAX], r[EBX], r[ECX], r[EDX] & 7);
	}
}

static void add_basic(struct cpuid_table *t, const struct host *h, unsigned cpus)
{
	uint32_t r[4], host1[4];

	host_cpuid(h, 0, 0, r);
	add_values(t, 0, LEAF_MAX, r[EBX], r[ECX], r[EDX]);

	add_features(t, h, 1, 0, false);
	host_cpuid(h, 1, 0, host1);
	*table_reg(t, 1, 0, EAX) = host1[EAX] & 0x0fff3fff;
	/* The APIC ID in bits 31-24 is filled in as CPUID is executed. */
	*table_reg(t, 1, 0, EBX) = (host1[EBX] & 0xff00) | (1u << log2_up(cpus)) << 16;

	if (!h->amd) {
		host_cpuid(h, 2, 0, r);
		add_values(t, 2, r[EAX], r[EBX], r[ECX], r[EDX]);
		add_caches(t, h, 4, cpus);
	}
	add_values(t, 6, BIT(2), 0, 0, 0); /* ARAT: the APIC timer never stops */
	add_features(t, h, 7, 0, true);
	add_features(t, h, 7, 1, true);
	*table_reg(t, 7, 0, EAX) = 1;
	/* One thread a core, all cores in one package. */
	add_sub(t, 0xb, 0, 0, 1, 0x100, 0);
	add_sub(t, 0xb, 1, log2_up(cpus), cpus, 0x201, 0);
}

static void add_xsave(struct cpuid_table *t, const struct host *h)
{
	uint32_t r[4], leaf7[4], ecx = 0;
	uint64_t mask = h->xcr0;

	host_cpuid(h, 7, 0, leaf7);
	if ((mask & 0xe6) != 0xe6)
		mask &= ~(uint64_t)0xe0;
	mask &= XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | (leaf7[ECX] & BIT(4) ? XCR0_PKRU : 0);
	t->xcr0_mask = mask;
	t->xss_mask = 0;

	t->xsave[0] = (struct xsave_component){ 0, 160, false };
	t->xsave[1] = (struct xsave_component){ 160, 256, false };
	if (!mask) { /* what FXSAVE knows: fpu.c */
		t->xcr0_mask = XCR0_X87 | XCR0_SSE;
		return;
	}
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		if (!(mask >> i & 1))
			continue;
		host_cpuid(h, 0xd, i, r);
		t->xsave[i] = (struct xsave_component){ r[EBX], r[EAX], r[ECX] & 2 };
		ecx = r[EBX] + r[EAX] > ecx ? r[EBX] + r[EAX] : ecx;
	}
	add_sub(t, 0xd, 0, (uint32_t)mask, 0, ecx > FPU_AREA_MIN ? ecx : FPU_AREA_MIN, (uint32_t)(mask >> 32));
	host_cpuid(h, 0xd, 1, r);
	r[EAX] &= 7;
	if (r[EAX] & 2)
		r[EAX] |= 8; /* XSAVES without supervisor components is XSAVEC */
	add_sub(t, 0xd, 1, r[EAX], 0, 0, 0);
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
		if (t->xsave[i].size)
			add_sub(t, 0xd, i, t->xsave[i].size, t->xsave[i].offset, t->xsave[i].align64 ? 2 : 0, 0);
}

static void add_hypervisor(struct cpuid_table *t)
{
	add_values(t, LEAF_KVM, LEAF_KVM_TIMING, 0x4b4d564b, 0x564b4d56, 0x4d); /* KVMKVMKVM */
	/* CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, STEAL_TIME, PV_EOI, PV_UNHALT, PV_TLB_FLUSH, PV_SEND_IPI,
	 * CLOCKSOURCE_STABLE */
	add_values(t, LEAF_KVM_FEATURES,
		   BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(24), 0, 0, 0);
	add_values(t, LEAF_KVM_TIMING, (uint32_t)t->tsc_khz, APIC_TIMER_KHZ, 0, 0);
}

static void add_extended(struct cpuid_table *t, const struct host *h, unsigned cpus)
{
	uint32_t r[4], max = h->amd ? LEAF_EXT_MAX : 0x80000008;

	if (max > h->max_ext)
		max = h->max_ext > 0x80000008 ? h->max_ext : 0x80000008;
	host_cpuid(h, 0x80000000, 0, r);
	add_values(t, 0x80000000, max, r[EBX], r[ECX], r[EDX]);
	add_features(t, h, 0x80000001, 0, false);
	host_cpuid(h, 0x80000001, 0, r);
	*table_reg(t, 0x80000001, 0, EAX) = r[EAX];
	*table_reg(t, 0x80000001, 0, EBX) = r[EBX];
	for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++) {
		host_cpuid(h, leaf, 0, r);
		add_values(t, leaf, r[EAX], r[EBX], r[ECX], r[EDX]);
	}
	add_features(t, h, 0x80000007, 0, false);

	host_cpuid(h, 0x80000008, 0, r);
	t->phys_bits = r[EAX] & 0xff;
	t->phys_bits = t->phys_bits < 36 ? 36 : t->phys_bits > 46 ? 46 : t->phys_bits;
	t->linear_bits = 48;
	add_features(t, h, 0x80000008, 0, false);
	*table_reg(t, 0x80000008, 0, EAX) = t->linear_bits << 8 | t->phys_bits;
	if (!h->amd)
		return;
	*table_reg(t, 0x80000008, 0, ECX) = log2_up(cpus) << 12 | (cpus - 1);
	/* BTC_NO, and SRSO_NO below: a guest's RET never runs as the host's, so that what an attacker does to
	 * the prediction of returns has nothing to work on, nor have the guest's counter-measures. */
	*table_reg(t, 0x80000008, 0, EBX) |= BIT(29);
	if (cpus > 1)
		*table_reg(t, 0x80000001, 0, ECX) |= BIT(1); /* CMP_LEGACY: the logical processors are cores */
	for (uint32_t leaf = 0x80000019; leaf <= 0x8000001a && leaf <= max; leaf++) {
		host_cpuid(h, leaf, 0, r);
		add_values(t, leaf, r[EAX], r[EBX], r[ECX], r[EDX]);
	}
	if (max >= 0x8000001e) {
		add_caches(t, h, 0x8000001d, cpus);
		add_values(t, 0x8000001e, 0, 0, 0, 0); /* APIC and core ID as executed; one node */
	}
	if (max >= 0x80000021) {
		add_features(t, h, 0x80000021, 0, false);
		/* Loading a null selector clears the base (segment.c); SRSO_NO. */
		*table_reg(t, 0x80000021, 0, EAX) |= BIT(6) | BIT(29);
	}
}

/* AMD repeats leaf 1's EDX in 0x80000001's. */
static void alias_amd(struct cpuid_table *t)
{
	const uint32_t alias = 0x0183f3ff;
	uint32_t *to = table_reg(t, 0x80000001, 0, EDX);

	*to = (*to & ~alias) | (*table_reg(t, 1, 0, EDX) & alias);
}

static bool bit_is_set(const struct cpuid_table *t, const struct feature_bit *b)
{
	const uint32_t *r = table_reg((struct cpuid_table *)t, b->leaf, b->subleaf, b->reg);

	return r && (*r >> b->bit & 1);
}

static void set_has(struct cpuid_table *t)
{
	for (unsigned f = FEATURE_NONE + 1; f < FEATURE_COUNT; f++)
		t->has[f] = bit_is_set(t, &feature_bits[f]);
}

int cpuid_build(struct cpuid_table *t, unsigned cpus)
{
	struct host h;
	uint32_t leaf7[4];

	memset(t, 0, sizeof(*t));
	if (cpus < 1 || cpus > 255)
		return -EINVAL;
	host_probe(&h);
	t->amd = h.amd;
	t->tsc_khz = host_tsc_khz(&h);

	add_basic(t, &h, cpus);
	add_xsave(t, &h);
	add_hypervisor(t);
	add_extended(t, &h, cpus);

	for (unsigned i = 0; i < COUNT(never); i++)
		set_feature(t, never[i], false);
	for (unsigned i = 0; i < COUNT(always); i++)
		set_feature(t, always[i], true);
	drop_without_state(t);
	if (!h.xcr0)
		set_feature(t, FEATURE_XSAVE, false);
	set_feature(t, FEATURE_HTT, cpus > 1); /* more than one logical processor in the package */
	if (t->xcr0_mask & XCR0_PKRU)
		set_feature(t, FEATURE_PKU, true);
	host_cpuid(&h, 7, 0, leaf7);
	if (!h.amd && (leaf7[EDX] & BIT(29))) {
		set_feature(t, FEATURE_ARCH_CAPABILITIES, true);
		t->arch_capabilities = host_arch_capabilities();
	}
	if (h.amd)
		alias_amd(t);
	if (t->count == CPUID_ENTRIES_MAX)
		return -ENOSPC; /* the next leaf added here would have been lost */
	set_has(t);
	return 0;
}

/* ---- less than the host has ---- */

/* Done by the machine around the processor, or by what an engine puts in between. */
static const enum feature machines_own[] = {
	FEATURE_HYPERVISOR, FEATURE_X2APIC, FEATURE_TSC_DEADLINE, FEATURE_TSC_ADJUST, FEATURE_HTT, FEATURE_INVARIANT_TSC,
	FEATURE_ARCH_CAPABILITIES,
};

static bool is_machines_own(enum feature f)
{
	for (unsigned i = 0; i < COUNT(machines_own); i++)
		if (machines_own[i] == f)
			return true;
	return false;
}

static void limit_xsave(struct cpuid_table *t, const struct cpuid_table *limit)
{
	const struct cpuid_entry *e = cpuid_find(limit, 0xd, 0);

	if (!cpuid_find(t, 0xd, 0))
		return;
	t->xcr0_mask &= e ? e->eax | (uint64_t)e->edx << 32 : 0;
	if ((t->xcr0_mask & (XCR0_AVX | XCR0_AVX512)) != (XCR0_AVX | XCR0_AVX512))
		t->xcr0_mask &= ~(uint64_t)XCR0_AVX512;
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		struct cpuid_entry *component = (struct cpuid_entry *)cpuid_find(t, 0xd, i);

		if (t->xcr0_mask >> i & 1)
			continue;
		t->xsave[i].size = 0;
		if (component)
			component->eax = component->ebx = component->ecx = 0;
	}
	*table_reg(t, 0xd, 0, EAX) = (uint32_t)t->xcr0_mask;
	*table_reg(t, 0xd, 0, ECX) = cpuid_xsave_size(t, t->xcr0_mask, false);
}

void cpuid_limit(struct cpuid_table *t, const struct cpuid_table *limit)
{
	/* What is claimed because software engines run the guest: BTC_NO; no base with a null selector, SRSO_NO. */
	static const struct feature_bit claims[] = {
		{ 0x80000008, 0, EBX, 29 }, { 0x80000021, 0, EAX, 6 }, { 0x80000021, 0, EAX, 29 },
	};

	for (unsigned f = FEATURE_NONE + 1; f < FEATURE_COUNT; f++)
		if (t->has[f] && !is_machines_own(f) && !bit_is_set(limit, &feature_bits[f]))
			set_feature(t, f, false);
	for (unsigned i = 0; i < COUNT(claims); i++) {
		uint32_t *r = table_reg(t, claims[i].leaf, 0, claims[i].reg);

		if (r && !bit_is_set(limit, &claims[i]))
			*r &= ~BIT(claims[i].bit);
	}
	for (unsigned i = 0; i < COUNT(informative); i++) {
		const struct cpuid_entry *e = cpuid_find(limit, informative[i].leaf, informative[i].subleaf);
		uint32_t *r = table_reg(t, informative[i].leaf, informative[i].subleaf, informative[i].reg);

		if (r)
			*r &= ~informative[i].mask | (e ? *entry_reg((struct cpuid_entry *)e, informative[i].reg) : 0);
	}
	t->arch_capabilities &= limit->arch_capabilities;
	limit_xsave(t, limit);
	drop_without_state(t);
	if (t->amd)
		alias_amd(t);
	set_has(t);
}

void cpuid_limit_phys_bits(struct cpuid_table *t, unsigned bits)
{
	if (bits >= t->phys_bits || bits < 36)
		return;
	t->phys_bits = bits;
	*table_reg(t, 0x80000008, 0, EAX) = t->linear_bits << 8 | bits;
}

/* ---- CPUID as executed ---- */

uint32_t cpuid_xsave_size(const struct cpuid_table *t, uint64_t mask, bool compacted)
{
	uint32_t size = FPU_AREA_MIN;

	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		const struct xsave_component *c = &t->xsave[i];

		if (!(mask >> i & 1))
			continue;
		if (compacted) {
			if (c->align64)
				size = (size + 63) & ~63u;
			size += c->size;
		} else if (c->offset + c->size > size) {
			size = c->offset + c->size;
		}
	}
	return size;
}

static bool apic_enabled(struct cpu *cpu)
{
	if (!cpu->env || !cpu->env->get_apic_base)
		return true;
	cpu_fpu_leave(cpu);
	return cpu->env->get_apic_base(cpu->env_opaque) & BIT(11);
}

static void execute_dynamic(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	switch (leaf) {
	case 0x1:
		out[EBX] |= (cpu->index & 0xff) << 24;
		if (cpu->cr4 & CR4_OSXSAVE)
			out[ECX] |= BIT(27);
		if (!apic_enabled(cpu))
			out[EDX] &= ~BIT(9);
		break;
	case 0x7:
		if (subleaf == 0 && (cpu->cr4 & CR4_PKE))
			out[ECX] |= BIT(4);
		break;
	case 0xb:
		out[ECX] |= subleaf & 0xff;
		out[EDX] = cpu->index;
		break;
	case 0xd:
		if (!cpu_has(cpu, FEATURE_XSAVE))
			break;
		if (subleaf == 0)
			out[EBX] = cpuid_xsave_size(cpu->cpuid, cpu->xcr0, false);
		else if (subleaf == 1)
			out[EBX] = cpuid_xsave_size(cpu->cpuid, cpu->xcr0 | cpu->xss, true);
		break;
	case 0x80000001:
		/* Intel has SYSCALL in 64-bit mode only, and says so. */
		if (!cpu->cpuid->amd && cpu->mode != MODE_LONG)
			out[EDX] &= ~BIT(11);
		if (cpu->cpuid->amd && !apic_enabled(cpu))
			out[EDX] &= ~BIT(9);
		break;
	case 0x8000001e:
		out[EAX] = cpu->index;
		out[EBX] = cpu->index & 0xff;
		break;
	}
}

static bool out_of_range(const struct cpuid_table *t, uint32_t leaf)
{
	const struct cpuid_entry *ext = cpuid_find(t, 0x80000000, 0);

	if (leaf < LEAF_KVM)
		return leaf > LEAF_MAX;
	return leaf >= 0x80000000 && ext && leaf > ext->eax;
}

void cpuid_execute(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct cpuid_table *t = cpu->cpuid;
	const struct cpuid_entry *e;

	/* Beyond the last leaf AMD gives zeros, Intel what the last basic leaf gives. */
	if (!t->amd && out_of_range(t, leaf))
		leaf = LEAF_MAX;
	out[EAX] = out[EBX] = out[ECX] = out[EDX] = 0;
	e = cpuid_find(t, leaf, subleaf);
	if (e) {
		out[EAX] = e->eax;
		out[EBX] = e->ebx;
		out[ECX] = e->ecx;
		out[EDX] = e->edx;
	}
	if (e || leaf == 0xb)
		execute_dynamic(cpu, leaf, subleaf, out);
}
