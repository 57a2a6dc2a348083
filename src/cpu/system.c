/*
 * System registers: control, debug and extended control registers with their checks and side
 * effects, TLB invalidation, the rules for loading EFLAGS, debug breakpoint matching.
 *
 * vCPU's thread, no lock. CPL is checked by who decodes (INSN_PRIVILEGED), except where a comment
 * says otherwise. Sources: SDM 3A chapters 2 and 4, SDM 3B chapter 18 "Debug", SDM 2 MOV CR, MOV DR,
 * XSETBV, INVPCID, POPF.
 */
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "mem/memory.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR3_NO_FLUSH (1ull << 63)
#define CR3_PCID 0xfffull
#define PDPTE_P 1ull
#define PDPTE_RESERVED_LOW 0x1e6ull

#define DR6_B(i) (1ull << (i))
#define DR6_BD (1ull << 13)
#define DR6_WRITABLE 0xe00full
#define DR6_FIXED 0xffff0ff0ull
#define DR7_GD (1ull << 13)
#define DR7_WRITABLE 0xffff23ffull
#define DR7_FIXED 0x400ull

static enum x gp(struct cpu *cpu)
{
	return cpu_raise_error(cpu, VEC_GP, 0);
}

static bool canonical(uint64_t linear)
{
	return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static uint64_t phys_reserved(const struct cpu *cpu)
{
	return ~0ull << cpu->cpuid->phys_bits;
}

/* ---- control registers ---- */

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* The four page-directory-pointer entries that PAE paging keeps in the processor (SDM 3A 4.4.1). */
static enum x load_pdptes(struct cpu *cpu, uint64_t cr3)
{
	const uint8_t *table = memory_hva(cpu->memory, cr3 & 0xffffffe0, 32);
	uint64_t pdpte[4];

	if (!table)
		return gp(cpu); /* not RAM: reads as ones, which sets reserved bits */
	for (unsigned i = 0; i < 4; i++) {
		__builtin_memcpy(&pdpte[i], table + 8 * i, 8);
		if ((pdpte[i] & PDPTE_P) && (pdpte[i] & (PDPTE_RESERVED_LOW | phys_reserved(cpu))))
			return gp(cpu);
	}
	for (unsigned i = 0; i < 4; i++)
		cpu->pdpte[i] = pdpte[i];
	return X_OK;
}

static enum x write_cr0(struct cpu *cpu, uint64_t value)
{
	uint64_t changed, efer = cpu->efer;

	if (value >> 32)
		return gp(cpu);
	value = (value & CR0_DEFINED) | CR0_ET;
	changed = value ^ cpu->cr0;
	if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		return gp(cpu);
	if (changed & value & CR0_PG) {
		if (efer & EFER_LME) {
			bool tss16 = cpu->tr.attr & SEG_P && (cpu->tr.attr & SEG_TYPE & ~2u) == 1;

			if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[CS].attr & SEG_L) || tss16)
				return gp(cpu);
			efer |= EFER_LMA;
		}
	} else if (changed & CR0_PG) {
		if (cpu->mode == MODE_LONG || (cpu->cr4 & CR4_PCIDE))
			return gp(cpu);
		efer &= ~(uint64_t)EFER_LMA;
	}
	if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && pae_paging(value, cpu->cr4, efer))
		TRY(load_pdptes(cpu, cpu->cr3));
	cpu->cr0 = value;
	cpu->efer = efer;
	cpu_update_mode(cpu);
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		mmu_flush(cpu, true);
	return X_OK;
}

static enum x write_cr3(struct cpu *cpu, uint64_t value)
{
	bool keep = (cpu->cr4 & CR4_PCIDE) && (value & CR3_NO_FLUSH);

	if (cpu->cr4 & CR4_PCIDE)
		value &= ~CR3_NO_FLUSH;
	if (cpu_long_active(cpu) && (value & phys_reserved(cpu)))
		return gp(cpu);
	if (!cpu_long_active(cpu))
		value = (uint32_t)value;
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
		TRY(load_pdptes(cpu, value));
	cpu->cr3 = value;
	if (cpu->cr4 & CR4_PCIDE)
		mmu_switch(cpu, (uint16_t)(value & CR3_PCID), keep);
	else
		mmu_flush(cpu, false);
	return X_OK;
}

/* Bits of CR4 that the guest's CPUID gives. */
static uint64_t cr4_allowed(const struct cpu *cpu)
{
	static const struct {
		uint32_t bits;
		enum feature feature;
	} rows[] = {
		{ CR4_PCE, FEATURE_NONE },
		{ CR4_VME | CR4_PVI, FEATURE_VME },
		{ CR4_TSD, FEATURE_TSC },
		{ CR4_DE, FEATURE_DE },
		{ CR4_PSE, FEATURE_PSE },
		{ CR4_PAE, FEATURE_PAE },
		{ CR4_MCE, FEATURE_MCE },
		{ CR4_PGE, FEATURE_PGE },
		{ CR4_OSFXSR, FEATURE_FXSR },
		{ CR4_OSXMMEXCPT, FEATURE_SSE },
		{ CR4_UMIP, FEATURE_UMIP },
		{ CR4_FSGSBASE, FEATURE_FSGSBASE },
		{ CR4_PCIDE, FEATURE_PCID },
		{ CR4_OSXSAVE, FEATURE_XSAVE },
		{ CR4_SMEP, FEATURE_SMEP },
		{ CR4_SMAP, FEATURE_SMAP },
		{ CR4_PKE, FEATURE_PKU },
	};
	uint64_t allowed = 0;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (cpu_has(cpu, rows[i].feature))
			allowed |= rows[i].bits;
	return allowed;
}

static enum x write_cr4(struct cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->cr4;

	if (value & ~cr4_allowed(cpu))
		return gp(cpu);
	if (cpu_long_active(cpu) && !(value & CR4_PAE))
		return gp(cpu);
	if ((changed & value & CR4_PCIDE) && (!cpu_long_active(cpu) || (cpu->cr3 & CR3_PCID)))
		return gp(cpu);
	if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && pae_paging(cpu->cr0, value, cpu->efer))
		TRY(load_pdptes(cpu, cpu->cr3));
	cpu->cr4 = value;
	cpu_update_mode(cpu);
	if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE))
		mmu_flush(cpu, true);
	return X_OK;
}

enum x cpu_read_cr(struct cpu *cpu, unsigned n, uint64_t *value)
{
	switch (n) {
	case 0:
		*value = cpu->cr0;
		return X_OK;
	case 2:
		*value = cpu->cr2;
		return X_OK;
	case 3:
		*value = cpu->cr3;
		return X_OK;
	case 4:
		*value = cpu->cr4;
		return X_OK;
	case 8:
		*value = 0;
		if (cpu->env && cpu->env->get_tpr) {
			cpu_fpu_leave(cpu);
			*value = cpu->env->get_tpr(cpu->env_opaque);
		}
		return X_OK;
	default:
		return cpu_raise(cpu, VEC_UD);
	}
}

enum x cpu_write_cr(struct cpu *cpu, unsigned n, uint64_t value)
{
	switch (n) {
	case 0:
		return write_cr0(cpu, value);
	case 2:
		cpu->cr2 = value;
		return X_OK;
	case 3:
		return write_cr3(cpu, value);
	case 4:
		return write_cr4(cpu, value);
	case 8:
		if (value > 15)
			return gp(cpu);
		if (cpu->env && cpu->env->set_tpr) {
			cpu_fpu_leave(cpu);
			cpu->env->set_tpr(cpu->env_opaque, (uint8_t)value);
		}
		return X_OK;
	default:
		return cpu_raise(cpu, VEC_UD);
	}
}

/* All of XSETBV's checks, CPL as well. */
enum x cpu_xsetbv(struct cpu *cpu, uint32_t index, uint64_t value)
{
	uint64_t avx512 = value & XCR0_AVX512;

	if (!(cpu->cr4 & CR4_OSXSAVE))
		return cpu_raise(cpu, VEC_UD);
	if (cpu->cpl || index != 0)
		return gp(cpu);
	if ((value & ~cpu->cpuid->xcr0_mask) || !(value & XCR0_X87))
		return gp(cpu);
	if ((value & XCR0_AVX) && !(value & XCR0_SSE))
		return gp(cpu);
	if (avx512 && (avx512 != XCR0_AVX512 || !(value & XCR0_AVX)))
		return gp(cpu);
	cpu->xcr0 = value;
	return X_OK;
}

/* ---- TLB ---- */

enum x cpu_invlpg(struct cpu *cpu, uint64_t linear)
{
	if (!cpu_long_active(cpu))
		linear = (uint32_t)linear;
	if (canonical(linear))
		mmu_flush_page(cpu, linear);
	return X_OK;
}

enum x cpu_invpcid(struct cpu *cpu, uint64_t type, uint64_t pcid, uint64_t linear)
{
	bool current = pcid == (cpu->cr4 & CR4_PCIDE ? cpu->cr3 & CR3_PCID : 0);

	if (type > 3)
		return gp(cpu);
	if (type <= 1 && (pcid >> 12 || (!(cpu->cr4 & CR4_PCIDE) && pcid)))
		return gp(cpu);
	switch (type) {
	case 0: /* one address of one PCID */
		if (!canonical(linear))
			return gp(cpu);
		if (current)
			mmu_flush_page(cpu, linear);
		else
			mmu_forget(cpu, (uint16_t)pcid);
		return X_OK;
	case 1: /* one PCID */
		if (current)
			mmu_flush(cpu, false);
		else
			mmu_forget(cpu, (uint16_t)pcid);
		return X_OK;
	case 2: /* all, with global entries */
		mmu_flush(cpu, true);
		return X_OK;
	default: /* all but global entries */
		mmu_flush(cpu, false);
		return X_OK;
	}
}

/* ---- EFLAGS ---- */

/* POPF: what may change. Virtual-8086 mode with IOPL < 3 comes here only with CR4.VME, where a
 * 16-bit POPF moves IF to VIF (the #GP for VIP is the caller's). RF is cleared. */
void cpu_write_rflags_user(struct cpu *cpu, uint64_t value, unsigned opsize)
{
	unsigned iopl = (cpu->rflags & RFLAGS_IOPL) >> 12;
	uint64_t mask = EF_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;
	uint64_t flags, changed;

	if (opsize > 2)
		mask |= RFLAGS_AC | RFLAGS_ID;
	if (cpu->cpl <= iopl)
		mask |= RFLAGS_IF;
	if (cpu->cpl == 0)
		mask |= RFLAGS_IOPL;
	flags = (cpu->rflags & ~mask) | (value & mask);
	if (cpu->mode == MODE_V8086 && iopl < 3) {
		flags &= ~(uint64_t)RFLAGS_VIF;
		if (value & RFLAGS_IF)
			flags |= RFLAGS_VIF;
	}
	flags &= ~(uint64_t)RFLAGS_RF;
	flags |= RFLAGS_FIXED;
	changed = flags ^ cpu->rflags;
	cpu->rflags = flags;
	if (changed & RFLAGS_AC)
		cpu_update_mode(cpu);
}

/* ---- debug registers ---- */

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE; any access with DR7.GD set is a #DB. */
static enum x dr_access(struct cpu *cpu, unsigned *n)
{
	if (*n > 7)
		return cpu_raise(cpu, VEC_UD);
	if (*n == 4 || *n == 5) {
		if (cpu->cr4 & CR4_DE)
			return cpu_raise(cpu, VEC_UD);
		*n += 2;
	}
	if (cpu->dr[7] & DR7_GD)
		return cpu_raise_debug(cpu, DR6_BD);
	return X_OK;
}

enum x cpu_read_dr(struct cpu *cpu, unsigned n, uint64_t *value)
{
	TRY(dr_access(cpu, &n));
	*value = cpu->dr[n];
	return X_OK;
}

enum x cpu_write_dr(struct cpu *cpu, unsigned n, uint64_t value)
{
	TRY(dr_access(cpu, &n));
	if (n >= 6 && value >> 32)
		return gp(cpu);
	if (n == 6)
		value = (value & DR6_WRITABLE) | DR6_FIXED;
	else if (n == 7)
		value = (value & DR7_WRITABLE) | DR7_FIXED;
	cpu->dr[n] = value;
	if (n != 6 && debug_armed(cpu))
		mmu_flush(cpu, true); /* pages with a data breakpoint must not be in the TLB */
	return X_OK;
}

enum { BREAK_EXEC, BREAK_WRITE, BREAK_IO, BREAK_READ_WRITE };

static bool breakpoint_enabled(const struct cpu *cpu, unsigned i)
{
	return cpu->dr[7] >> (2 * i) & 3;
}

static unsigned breakpoint_type(const struct cpu *cpu, unsigned i)
{
	return cpu->dr[7] >> (16 + 4 * i) & 3;
}

/* Does [addr, addr+size) touch breakpoint i, which covers 1, 2, 4 or 8 bytes, aligned? */
static bool breakpoint_touched(const struct cpu *cpu, unsigned i, uint64_t addr, unsigned size)
{
	static const uint8_t bytes[4] = { 1, 2, 8, 4 };
	unsigned len = bytes[cpu->dr[7] >> (18 + 4 * i) & 3];
	uint64_t start = cpu->dr[i] & ~(uint64_t)(len - 1);

	if (!cpu_long_active(cpu)) {
		start = (uint32_t)start;
		addr = (uint32_t)addr;
	}
	/* Differences modulo 2^64 are right across the end of the address space as well. */
	return addr - start < len || start - addr < size;
}

bool debug_exec_match(const struct cpu *cpu, uint64_t linear, uint64_t *dr6_bits)
{
	uint64_t hit = 0;

	for (unsigned i = 0; i < 4; i++)
		if (breakpoint_enabled(cpu, i) && breakpoint_type(cpu, i) == BREAK_EXEC &&
		    breakpoint_touched(cpu, i, linear, 1))
			hit |= DR6_B(i);
	*dr6_bits = hit;
	return hit;
}

uint64_t debug_data_match(const struct cpu *cpu, uint64_t linear, unsigned size, bool write)
{
	uint64_t hit = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned type = breakpoint_type(cpu, i);

		if (breakpoint_enabled(cpu, i) && (type == BREAK_READ_WRITE || (write && type == BREAK_WRITE)) &&
		    breakpoint_touched(cpu, i, linear, size))
			hit |= DR6_B(i);
	}
	return hit;
}

uint64_t debug_io_match(const struct cpu *cpu, uint16_t port, unsigned size)
{
	uint64_t hit = 0;

	if (!(cpu->cr4 & CR4_DE))
		return 0;
	for (unsigned i = 0; i < 4; i++)
		if (breakpoint_enabled(cpu, i) && breakpoint_type(cpu, i) == BREAK_IO &&
		    breakpoint_touched(cpu, i, port, size))
			hit |= DR6_B(i);
	return hit;
}
