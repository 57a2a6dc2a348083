/*
 * Model-specific registers: one table, sorted by number, one row a register or run of registers.
 *
 * vCPU's thread, no lock; registers that live outside of the processor (local APIC, KVM's
 * paravirtual ones) are asked of cpu_env. What has no row raises #GP(0), as on hardware (log topic
 * `msr`). CPL is checked by who decodes. Sources: SDM 4, SDM 3A chapter 12 (MTRR, PAT), APM 2
 * appendix A, Linux Documentation/virt/kvm/x86/msr.rst.
 */
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "util/log.h"

#define MTRR_VARIABLE_COUNT 8
#define MTRR_CAP (MTRR_VARIABLE_COUNT | 1 << 8 /* fixed ranges */ | 1 << 10 /* write-combining */)
#define MTRR_DEF_WRITABLE 0xcffull
#define MTRR_MASK_VALID (1ull << 11)
#define EFER_ALWAYS (EFER_SCE | EFER_LME)
#define MISC_ENABLE_WRITABLE (1ull << 0 | 1ull << 16 | 1ull << 22 | 1ull << 34)
#define DEBUGCTL_WRITABLE 3ull /* LBR, BTF */
#define VM_CR_NO_SVM 0x18      /* LOCK, SVMDIS */
#define HWCR_TSC_AT_P0 (1ull << 24)
#define DE_CFG_LFENCE_SERIALIZES (1ull << 1)

enum vendor { BOTH, AMD, INTEL };

struct msr_row {
	uint32_t first, last;
	uint8_t vendor;  /* enum vendor */
	uint8_t feature; /* enum feature that it comes with */
	/* false: #GP. NULL: never readable / writable. */
	bool (*read)(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value);
	bool (*write)(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value);
	uint64_t constant; /* value of a constant, or offset in struct cpu */
};

static bool canonical(uint64_t v)
{
	return (uint64_t)((int64_t)(v << 16) >> 16) == v;
}

/* ---- simple ones ---- */

static uint64_t *field(struct cpu *cpu, const struct msr_row *row)
{
	return (uint64_t *)((uint8_t *)cpu + row->constant);
}

static bool read_constant(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)cpu, (void)msr;
	*value = row->constant;
	return true;
}

static bool write_ignored(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)cpu, (void)row, (void)msr, (void)value;
	return true;
}

static bool read_field(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = *field(cpu, row);
	return true;
}

static bool write_field(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)msr;
	*field(cpu, row) = value;
	return true;
}

static bool write_low_half(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)msr;
	*field(cpu, row) = (uint32_t)value;
	return true;
}

static bool write_canonical(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (!canonical(value))
		return false;
	*field(cpu, row) = value;
	return true;
}

/* SYSENTER's stack and entry: AMD has 32 bits of them. */
static bool write_sysenter(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	if (cpu->cpuid->amd)
		return write_low_half(cpu, row, msr, value);
	return write_canonical(cpu, row, msr, value);
}

static bool write_tsc_aux(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (value >> 32 && !cpu->cpuid->amd)
		return false;
	cpu->tsc_aux = (uint32_t)value;
	return true;
}

static bool write_xss(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (value & ~cpu->cpuid->xss_mask)
		return false;
	cpu->xss = value;
	return true;
}

static bool write_misc_enable(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	cpu->misc_enable = (cpu->misc_enable & ~MISC_ENABLE_WRITABLE) | (value & MISC_ENABLE_WRITABLE);
	return true;
}

static bool write_debugctl(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (value & ~DEBUGCTL_WRITABLE)
		return false;
	cpu->debugctl = value;
	return true;
}

static bool write_mcg_status(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (value & ~7ull)
		return false;
	cpu->mcg_status = value;
	return true;
}

/* HWCR, of which nothing that can be set changes what the guest sees. */
static bool write_hwcr(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)cpu, (void)row, (void)msr;
	return !(value & 1); /* SMMLOCK: there is no SMM */
}

static bool read_platform_info(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row, (void)msr;
	*value = (cpu->cpuid->tsc_khz / 100000 & 0xff) << 8; /* maximum non-turbo ratio, of 100 MHz */
	return true;
}

static bool read_arch_capabilities(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row, (void)msr;
	*value = cpu->cpuid->arch_capabilities;
	return true;
}

/* ---- long mode ---- */

static bool write_efer(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	uint64_t allowed = EFER_ALWAYS | EFER_LMA | (cpu_has(cpu, FEATURE_NX) ? EFER_NXE : 0) |
			   (cpu_has(cpu, FEATURE_FFXSR) ? EFER_FFXSR : 0);
	uint64_t changed;

	(void)row, (void)msr;
	if (value & ~allowed)
		return false;
	value = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA); /* LMA follows CR0.PG only */
	changed = value ^ cpu->efer;
	if ((changed & EFER_LME) && (cpu->cr0 & CR0_PG))
		return false;
	cpu->efer = value;
	cpu_update_mode(cpu);
	if (changed & EFER_NXE)
		mmu_flush(cpu, true);
	return true;
}

static bool read_segment_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = cpu->seg[row->constant].base;
	return true;
}

static bool write_segment_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (!canonical(value))
		return false;
	cpu->seg[row->constant].base = value;
	return true;
}

/* ---- time ---- */

uint64_t cpu_tsc(struct cpu *cpu)
{
	uint64_t host;

	if (cpu->env && cpu->env->tsc)
		host = cpu->env->tsc(cpu->env_opaque);
	else
		host = __builtin_ia32_rdtsc();
	/* The local APIC's timer asks from another thread (struct lapic_ops.tsc). */
	return host + cpu->tsc_offset + __atomic_load_n(&cpu->tsc_adjust, __ATOMIC_RELAXED);
}

/* The guest moves its TSC by `delta`, and TSC_ADJUST with it. A TSC deadline is a TSC value: the timer has to be set
 * anew. */
static void tsc_move(struct cpu *cpu, uint64_t delta)
{
	const struct cpu_env *env = cpu->env;
	uint64_t deadline;

	__atomic_store_n(&cpu->tsc_adjust, cpu->tsc_adjust + delta, __ATOMIC_RELAXED);
	if (!env || !env->x2apic_read || !env->x2apic_write)
		return;
	cpu_fpu_leave(cpu);
	if (env->x2apic_read(cpu->env_opaque, 0x6e0, &deadline) && deadline)
		env->x2apic_write(cpu->env_opaque, 0x6e0, deadline);
}

static bool read_tsc(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row, (void)msr;
	*value = cpu_tsc(cpu);
	return true;
}

static bool write_tsc(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	tsc_move(cpu, value - cpu_tsc(cpu));
	return true;
}

static bool write_tsc_adjust(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	tsc_move(cpu, value - cpu->tsc_adjust);
	return true;
}

/* ---- outside: local APIC, KVM ---- */

static bool read_apic_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row, (void)msr;
	if (!cpu->env || !cpu->env->get_apic_base)
		return false;
	cpu_fpu_leave(cpu);
	*value = cpu->env->get_apic_base(cpu->env_opaque);
	return true;
}

static bool write_apic_base(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (!cpu->env || !cpu->env->set_apic_base)
		return false;
	cpu_fpu_leave(cpu);
	return cpu->env->set_apic_base(cpu->env_opaque, value);
}

static bool read_apic(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row;
	if (!cpu->env || !cpu->env->x2apic_read)
		return false;
	cpu_fpu_leave(cpu);
	return cpu->env->x2apic_read(cpu->env_opaque, msr, value);
}

static bool write_apic(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row;
	if (!cpu->env || !cpu->env->x2apic_write)
		return false;
	cpu_fpu_leave(cpu);
	return cpu->env->x2apic_write(cpu->env_opaque, msr, value);
}

static bool read_kvm(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row;
	if (!cpu->env || !cpu->env->pv_read)
		return false;
	cpu_fpu_leave(cpu);
	return cpu->env->pv_read(cpu->env_opaque, msr, value);
}

static bool write_kvm(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row;
	if (!cpu->env || !cpu->env->pv_write)
		return false;
	cpu_fpu_leave(cpu);
	return cpu->env->pv_write(cpu->env_opaque, msr, value);
}

/* ---- memory types ---- */

static bool mtrr_type_ok(uint64_t type)
{
	return type < 7 && type != 2 && type != 3;
}

static bool types_ok(uint64_t v, bool pat)
{
	for (unsigned i = 0; i < 64; i += 8) {
		uint64_t type = v >> i & 0xff;

		if (!mtrr_type_ok(type) && !(pat && type == 7))
			return false;
	}
	return true;
}

static bool write_pat(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if (!types_ok(value, true))
		return false;
	cpu->pat = value;
	return true;
}

static bool read_mtrr_variable(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	unsigned i = (msr - row->first) / 2;

	*value = msr & 1 ? cpu->mtrr.mask[i] : cpu->mtrr.base[i];
	return true;
}

static bool write_mtrr_variable(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	unsigned i = (msr - row->first) / 2;

	if (value & ~0ull << cpu->cpuid->phys_bits)
		return false;
	if (msr & 1) {
		if (value & 0xfff & ~MTRR_MASK_VALID)
			return false;
		cpu->mtrr.mask[i] = value;
	} else {
		if ((value & 0xf00) || !mtrr_type_ok(value & 0xff))
			return false;
		cpu->mtrr.base[i] = value;
	}
	return true;
}

/* 0x250, 0x258-0x259, 0x268-0x26f. */
static unsigned mtrr_fixed_index(uint32_t msr)
{
	return msr == 0x250 ? 0 : msr < 0x260 ? msr - 0x258 + 1 : msr - 0x268 + 3;
}

static bool read_mtrr_fixed(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t *value)
{
	(void)row;
	*value = cpu->mtrr.fixed[mtrr_fixed_index(msr)];
	return true;
}

static bool write_mtrr_fixed(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row;
	if (!types_ok(value, false))
		return false;
	cpu->mtrr.fixed[mtrr_fixed_index(msr)] = value;
	return true;
}

static bool write_mtrr_def(struct cpu *cpu, const struct msr_row *row, uint32_t msr, uint64_t value)
{
	(void)row, (void)msr;
	if ((value & ~MTRR_DEF_WRITABLE) || !mtrr_type_ok(value & 0xff))
		return false;
	cpu->mtrr.def_type = value;
	return true;
}

/* ---- the table ---- */

#define NONE FEATURE_NONE
#define FIELD(name) read_field, write_field, offsetof(struct cpu, name)
#define CONSTANT(value) read_constant, NULL, value
#define SINK(value) read_constant, write_ignored, value /* reads as value, writes have no effect */

static const struct msr_row rows[] = {
	{ 0x0, 0x1, BOTH, NONE, CONSTANT(0) }, /* P5_MC_ADDR, P5_MC_TYPE */
	{ 0x10, 0x10, BOTH, NONE, read_tsc, write_tsc },
	{ 0x11, 0x12, BOTH, NONE, read_kvm, write_kvm }, /* KVM: wall clock, system time (old numbers) */
	{ 0x17, 0x17, INTEL, NONE, CONSTANT(0) },         /* PLATFORM_ID */
	{ 0x1b, 0x1b, BOTH, FEATURE_APIC, read_apic_base, write_apic_base },
	{ 0x2a, 0x2a, INTEL, NONE, SINK(0) },     /* EBL_CR_POWERON */
	{ 0x34, 0x34, INTEL, NONE, CONSTANT(0) }, /* SMI_COUNT */
	{ 0x3a, 0x3a, INTEL, NONE, CONSTANT(1) }, /* FEATURE_CONTROL: locked, nothing enabled */
	{ 0x3b, 0x3b, BOTH, FEATURE_TSC_ADJUST, read_field, write_tsc_adjust, offsetof(struct cpu, tsc_adjust) },
	{ 0x79, 0x79, INTEL, NONE, NULL, write_ignored }, /* BIOS_UPDT_TRIG */
	{ 0x8b, 0x8b, AMD, NONE, SINK(0x01000065) },      /* PATCH_LEVEL: no real microcode, a high level */
	{ 0x8b, 0x8b, INTEL, NONE, SINK(0x100000000) },   /* BIOS_SIGN_ID */
	{ 0xce, 0xce, INTEL, NONE, read_platform_info, NULL },
	{ 0xfe, 0xfe, BOTH, FEATURE_MTRR, CONSTANT(MTRR_CAP) },
	{ 0x10a, 0x10a, BOTH, FEATURE_ARCH_CAPABILITIES, read_arch_capabilities, NULL },
	{ 0x140, 0x140, INTEL, NONE, CONSTANT(0) }, /* MISC_FEATURES_ENABLES */
	{ 0x174, 0x174, BOTH, FEATURE_SEP, read_field, write_low_half, offsetof(struct cpu, sysenter_cs) },
	{ 0x175, 0x175, BOTH, FEATURE_SEP, read_field, write_sysenter, offsetof(struct cpu, sysenter_esp) },
	{ 0x176, 0x176, BOTH, FEATURE_SEP, read_field, write_sysenter, offsetof(struct cpu, sysenter_eip) },
	{ 0x179, 0x179, BOTH, FEATURE_MCA, CONSTANT(0) }, /* MCG_CAP: no banks */
	{ 0x17a, 0x17a, BOTH, FEATURE_MCA, read_field, write_mcg_status, offsetof(struct cpu, mcg_status) },
	{ 0x198, 0x199, INTEL, NONE, SINK(0) }, /* PERF_STATUS, PERF_CTL */
	{ 0x1a0, 0x1a0, INTEL, NONE, read_field, write_misc_enable, offsetof(struct cpu, misc_enable) },
	{ 0x1d9, 0x1d9, BOTH, NONE, read_field, write_debugctl, offsetof(struct cpu, debugctl) },
	{ 0x1db, 0x1de, BOTH, NONE, CONSTANT(0) }, /* last branch and exception, from and to */
	{ 0x200, 0x200 + 2 * MTRR_VARIABLE_COUNT - 1, BOTH, FEATURE_MTRR, read_mtrr_variable, write_mtrr_variable },
	{ 0x250, 0x250, BOTH, FEATURE_MTRR, read_mtrr_fixed, write_mtrr_fixed },
	{ 0x258, 0x259, BOTH, FEATURE_MTRR, read_mtrr_fixed, write_mtrr_fixed },
	{ 0x268, 0x26f, BOTH, FEATURE_MTRR, read_mtrr_fixed, write_mtrr_fixed },
	{ 0x277, 0x277, BOTH, FEATURE_PAT, read_field, write_pat, offsetof(struct cpu, pat) },
	{ 0x2ff, 0x2ff, BOTH, FEATURE_MTRR, read_field, write_mtrr_def, offsetof(struct cpu, mtrr.def_type) },
	{ 0x6e0, 0x6e0, BOTH, FEATURE_TSC_DEADLINE, read_apic, write_apic },
	{ 0x800, 0x8ff, BOTH, FEATURE_X2APIC, read_apic, write_apic },
	{ 0xda0, 0xda0, BOTH, FEATURE_XSAVES, read_field, write_xss, offsetof(struct cpu, xss) },
	{ 0x4b564d00, 0x4b564d07, BOTH, NONE, read_kvm, write_kvm },
	{ 0xc0000080, 0xc0000080, BOTH, NONE, read_field, write_efer, offsetof(struct cpu, efer) },
	{ 0xc0000081, 0xc0000081, BOTH, FEATURE_SYSCALL, FIELD(star) },
	{ 0xc0000082, 0xc0000082, BOTH, FEATURE_SYSCALL, read_field, write_canonical, offsetof(struct cpu, lstar) },
	{ 0xc0000083, 0xc0000083, BOTH, FEATURE_SYSCALL, read_field, write_canonical, offsetof(struct cpu, cstar) },
	{ 0xc0000084, 0xc0000084, BOTH, FEATURE_SYSCALL, read_field, write_low_half, offsetof(struct cpu, sfmask) },
	{ 0xc0000100, 0xc0000100, BOTH, FEATURE_LM, read_segment_base, write_segment_base, FS },
	{ 0xc0000101, 0xc0000101, BOTH, FEATURE_LM, read_segment_base, write_segment_base, GS },
	{ 0xc0000102, 0xc0000102, BOTH, FEATURE_LM, read_field, write_canonical, offsetof(struct cpu, kernel_gs_base) },
	{ 0xc0000103, 0xc0000103, BOTH, FEATURE_RDTSCP, read_field, write_tsc_aux, offsetof(struct cpu, tsc_aux) },
	/* AMD. Performance counters that CPUID cannot hide: they count nothing. */
	{ 0xc0010000, 0xc0010007, AMD, NONE, SINK(0) },
	{ 0xc0010010, 0xc0010010, AMD, NONE, SINK(0) }, /* SYSCFG */
	{ 0xc0010015, 0xc0010015, AMD, NONE, read_constant, write_hwcr, HWCR_TSC_AT_P0 },
	{ 0xc001001f, 0xc001001f, AMD, NONE, SINK(0) },             /* NB_CFG */
	{ 0xc0010020, 0xc0010020, AMD, NONE, NULL, write_ignored }, /* PATCH_LOADER */
	{ 0xc0010055, 0xc0010055, AMD, NONE, SINK(0) },             /* interrupt pending message */
	{ 0xc0010058, 0xc0010058, AMD, NONE, SINK(0) },             /* MMIO configuration space: off */
	{ 0xc0010114, 0xc0010114, AMD, NONE, CONSTANT(VM_CR_NO_SVM) },
	{ 0xc0011020, 0xc0011023, AMD, NONE, SINK(0) }, /* LS_CFG, IC_CFG, DC_CFG, BU_CFG */
	{ 0xc0011029, 0xc0011029, AMD, NONE, SINK(DE_CFG_LFENCE_SERIALIZES) },
	{ 0xc001102a, 0xc001102a, AMD, NONE, SINK(0) }, /* BU_CFG2 */
};

static bool row_applies(const struct cpu *cpu, const struct msr_row *row)
{
	if (row->vendor != BOTH && (row->vendor == AMD) != cpu->cpuid->amd)
		return false;
	return cpu_has(cpu, row->feature);
}

static const struct msr_row *find_row(const struct cpu *cpu, uint32_t msr)
{
	unsigned low = 0, high = sizeof(rows) / sizeof(*rows);

	while (low < high) { /* the first row that ends at msr or later */
		unsigned middle = (low + high) / 2;

		if (rows[middle].last < msr)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < sizeof(rows) / sizeof(*rows) && rows[low].first <= msr; low++)
		if (row_applies(cpu, &rows[low]))
			return &rows[low];
	return NULL;
}

enum x msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value)
{
	const struct msr_row *row = find_row(cpu, msr);

	if (row && row->read && row->read(cpu, row, msr, value))
		return X_OK;
	if (log_on(LOG_MSR)) {
		cpu_fpu_leave(cpu);
		log_write(LOG_MSR, "vcpu %u: rdmsr %#x: #GP at rip %#llx", cpu->index, msr,
			  (unsigned long long)cpu->rip);
	}
	return cpu_raise_error(cpu, VEC_GP, 0);
}

enum x msr_write(struct cpu *cpu, uint32_t msr, uint64_t value)
{
	const struct msr_row *row = find_row(cpu, msr);

	if (row && row->write && row->write(cpu, row, msr, value))
		return X_OK;
	if (log_on(LOG_MSR)) {
		cpu_fpu_leave(cpu);
		log_write(LOG_MSR, "vcpu %u: wrmsr %#x = %#llx: #GP at rip %#llx", cpu->index, msr,
			  (unsigned long long)value, (unsigned long long)cpu->rip);
	}
	return cpu_raise_error(cpu, VEC_GP, 0);
}
