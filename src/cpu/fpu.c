/*
 * The guest's vector state: moving it between cpu->fpu and the host's registers, and the XSAVE and
 * FXSAVE families on guest memory.
 *
 * vCPU's thread, no lock; memory operands through mmu.h. The work is done by the host's own XSAVE
 * and XRSTOR: straight into guest RAM where the area lies in one page, else through a buffer. What
 * is restored is always copied first, since another vCPU may change it between check and use. A host without XSAVE (a
 * virtual machine's processor may be one) has no more state than FXSAVE knows, and its guests have no XSAVE either.
 * PKRU is kept in software: the host's is not the guest's to change.
 * Sources: SDM 1 chapter 13 "Managing state using the XSAVE feature set", SDM 2 FXSAVE to XSAVES.
 *
 * FIP, FDP and FOP: an x87 instruction that ran on the host left host addresses in them; the guest
 * finds zeros instead. Values that the guest loaded itself are kept until then.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"

#define AREA_MAX 4096
#define XCOMP_COMPACTED (1ull << 63)
#define MXCSR_INIT 0x1f80u
#define FCW_INIT 0x37fu
#define FSW_ES 0x80u

enum save_form { SAVE_STANDARD, SAVE_OPTIMIZED, SAVE_COMPACTED };

static uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	__builtin_memcpy(&v, p, 2);
	return v;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, 4);
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, 8);
	return v;
}

static void put16(uint8_t *p, uint16_t v)
{
	__builtin_memcpy(p, &v, 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	__builtin_memcpy(p, &v, 4);
}

static void put64(uint8_t *p, uint64_t v)
{
	__builtin_memcpy(p, &v, 8);
}

/* libc's memset and memcpy would use the vector registers that the guest's state may be in. */
static void zero(uint8_t *to, unsigned long size)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(0) : "memory");
}

static bool all_zero(const uint8_t *p, unsigned size)
{
	for (unsigned i = 0; i < size; i += 8)
		if (get64(p + i))
			return false;
	return true;
}

/* ---- the host's instructions ---- */

static void host_xsave(uint8_t *area, uint64_t mask, bool w)
{
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (w)
		__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("xsave (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

static void host_xsaveopt(uint8_t *area, uint64_t mask, bool w)
{
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (w)
		__asm__ volatile("xsaveopt64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("xsaveopt (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

static void host_xsavec(uint8_t *area, uint64_t mask, bool w)
{
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (w)
		__asm__ volatile("xsavec64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("xsavec (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

static void host_xrstor(const uint8_t *area, uint64_t mask, bool w)
{
	uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);

	if (w)
		__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
	else
		__asm__ volatile("xrstor (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

/* Components that are switched with the host's registers. */
static uint64_t native_mask(const struct cpu *cpu)
{
	return cpu->cpuid->xcr0_mask & ~(uint64_t)XCR0_PKRU;
}

/* All of the guest's state: cpu->fpu into the host's registers. */
static void host_load(const struct cpu *cpu)
{
	if (cpu_has(cpu, FEATURE_XSAVE))
		host_xrstor(cpu->fpu, native_mask(cpu), true);
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(cpu->fpu) : "memory");
}

/* And back. */
static void host_store(struct cpu *cpu)
{
	if (cpu_has(cpu, FEATURE_XSAVE)) {
		host_xsave(cpu->fpu, native_mask(cpu), true);
		return;
	}
	__asm__ volatile("fxsave64 (%0)" : : "r"(cpu->fpu) : "memory");
	fpu_component_changed(cpu, XCR0_X87 | XCR0_SSE);
}

static uint32_t mxcsr_mask(const struct cpu *cpu)
{
	uint32_t mask = get32(cpu->fpu + FPU_MXCSR_MASK);

	return mask ? mask : 0xffbf;
}

/* ---- life ---- */

int fpu_init(struct cpu *cpu)
{
	uint8_t fx[FPU_LEGACY_SIZE] __attribute__((aligned(16)));
	uint32_t size = cpuid_xsave_size(cpu->cpuid, cpu->cpuid->xcr0_mask, false);

	if (size > AREA_MAX)
		return -EOPNOTSUPP;
	cpu->fpu_size = (size + 63) & ~63u;
	cpu->fpu = aligned_alloc(64, cpu->fpu_size);
	if (!cpu->fpu)
		return -ENOMEM;
	zero(cpu->fpu, cpu->fpu_size);
	zero(fx, sizeof(fx));
	__asm__ volatile("fxsave64 (%0)" : : "r"(fx) : "memory");
	put32(cpu->fpu + FPU_MXCSR_MASK, get32(fx + FPU_MXCSR_MASK));
	cpu->fpu_live = false;
	fpu_reset(cpu, false);
	return 0;
}

void fpu_free(struct cpu *cpu)
{
	cpu_fpu_leave(cpu);
	free(cpu->fpu);
	cpu->fpu = NULL;
	cpu->fpu_size = 0;
}

/* RESET: SDM 3 table 10-1. INIT leaves all of it alone. */
void fpu_reset(struct cpu *cpu, bool init)
{
	uint32_t mask;

	if (init)
		return;
	cpu_fpu_leave(cpu);
	mask = mxcsr_mask(cpu);
	zero(cpu->fpu, cpu->fpu_size);
	put32(cpu->fpu + FPU_MXCSR_MASK, mask);
	put32(cpu->fpu + FPU_MXCSR, MXCSR_INIT);
	put16(cpu->fpu + FPU_FCW, 0x40);
	cpu->fpu[FPU_FTW] = 0xff; /* every register holds +0.0: tag word 5555 */
	put64(cpu->fpu + FPU_XSTATE_BV, XCR0_X87);
	cpu->pkru_shadow = 0;
}

void cpu_fpu_enter(struct cpu *cpu)
{
	uint32_t mxcsr, mask;

	if (cpu->fpu_live)
		return;
	mxcsr = get32(cpu->fpu + FPU_MXCSR);
	mask = mxcsr_mask(cpu);
	if (__builtin_expect(mxcsr & ~mask, 0)) /* the host would fault */
		put32(cpu->fpu + FPU_MXCSR, mxcsr & mask);
	host_load(cpu);
	cpu->fpu_live = true;
}

/* The area's pointers unless they are what the guest had loaded: see the head of this file. */
static void hide_host_pointers(uint8_t *area, uint64_t loaded_fip, bool w)
{
	bool same = w ? get64(area + FPU_FIP) == loaded_fip : get32(area + FPU_FIP) == (uint32_t)loaded_fip;

	if (same)
		return;
	put16(area + FPU_FOP, 0);
	put64(area + FPU_FIP, 0);
	put64(area + FPU_FDP, 0);
}

/* What compiled code expects: x87 empty with its default control word, MXCSR likewise, and no upper
 * halves that would slow down SSE. Much cheaper than an XRSTOR of initial values. */
static void host_abi_state(const struct cpu *cpu)
{
	uint32_t mxcsr = MXCSR_INIT;

	if (get64(cpu->fpu + FPU_XSTATE_BV) & XCR0_X87)
		__asm__ volatile("fninit");
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	if (cpu->cpuid->xcr0_mask & XCR0_AVX)
		__asm__ volatile("vzeroupper");
}

void cpu_fpu_leave(struct cpu *cpu)
{
	uint64_t fip;

	if (!cpu->fpu_live)
		return;
	fip = get64(cpu->fpu + FPU_FIP);
	host_store(cpu);
	hide_host_pointers(cpu->fpu, fip, true);
	host_abi_state(cpu);
	cpu->fpu_live = false;
}

/* ---- may the instruction run? ---- */

static bool x87_exception_pending(const struct cpu *cpu)
{
	uint16_t fsw;

	if (cpu->fpu_live)
		__asm__ volatile("fnstsw %0" : "=a"(fsw));
	else
		fsw = get16(cpu->fpu + FPU_FSW);
	return fsw & FSW_ES;
}

enum x fpu_check(struct cpu *cpu, const struct insn *insn)
{
	uint32_t flags = insn_desc(insn)->flags;

	if (flags & (INSN_AVX | INSN_AVX512)) {
		uint64_t need = flags & INSN_AVX512 ? XCR0_SSE | XCR0_AVX | XCR0_AVX512 : XCR0_SSE | XCR0_AVX;

		if (cpu_real_or_v86(cpu) || !(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & need) != need)
			return cpu_raise(cpu, VEC_UD);
	} else if (flags & INSN_SSE) {
		if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR))
			return cpu_raise(cpu, VEC_UD);
	} else if (flags & INSN_MMX) {
		if (cpu->cr0 & CR0_EM)
			return cpu_raise(cpu, VEC_UD);
	} else if (insn->id == INSN_FWAIT) {
		if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
			return cpu_raise(cpu, VEC_NM);
		return x87_exception_pending(cpu) ? cpu_raise(cpu, VEC_MF) : X_OK;
	} else if (flags & INSN_X87) {
		if (cpu->cr0 & CR0_EM)
			return cpu_raise(cpu, VEC_NM);
	} else {
		return X_OK;
	}
	if (cpu->cr0 & CR0_TS)
		return cpu_raise(cpu, VEC_NM);
	/* With CR0.NE clear a PC signals FERR# and IRQ 13 instead; there is no such wire here, and the
	 * instruction must not run on the host with the exception pending: #MF in both cases. */
	if ((flags & (INSN_X87 | INSN_MMX)) && !(flags & INSN_X87_NONWAITING) && x87_exception_pending(cpu))
		return cpu_raise(cpu, VEC_MF);
	return X_OK;
}

static bool is_compacting(const struct insn *insn)
{
	return insn->id == INSN_XSAVEC || insn->id == INSN_XSAVES;
}

static bool is_supervisor(const struct insn *insn)
{
	return insn->id == INSN_XSAVES || insn->id == INSN_XRSTORS;
}

/* The requested-feature bitmap: EDX:EAX & XCR0 (| IA32_XSS). */
static uint64_t rfbm_of(const struct cpu *cpu, const struct insn *insn)
{
	uint64_t mask = (uint32_t)cpu->gpr[RAX] | (uint64_t)(uint32_t)cpu->gpr[RDX] << 32;

	return mask & (cpu->xcr0 | (is_supervisor(insn) ? cpu->xss : 0));
}

unsigned fpu_memory_size(const struct cpu *cpu, const struct insn *insn)
{
	if (insn->id == INSN_FXSAVE || insn->id == INSN_FXRSTOR)
		return FPU_LEGACY_SIZE;
	return cpuid_xsave_size(cpu->cpuid, rfbm_of(cpu, insn), is_compacting(insn) || insn->id == INSN_XRSTORS);
}

static enum x check_fx(struct cpu *cpu, uint64_t linear)
{
	if (cpu->cr0 & (CR0_EM | CR0_TS))
		return cpu_raise(cpu, VEC_NM);
	if (linear & 15)
		return cpu_raise_error(cpu, VEC_GP, 0);
	return X_OK;
}

static enum x check_xsave(struct cpu *cpu, const struct insn *insn, uint64_t linear)
{
	if (!(cpu->cr4 & CR4_OSXSAVE))
		return cpu_raise(cpu, VEC_UD);
	if (is_supervisor(insn) && cpu->cpl)
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (cpu->cr0 & CR0_TS)
		return cpu_raise(cpu, VEC_NM);
	if (linear & 63)
		return cpu_raise_error(cpu, VEC_GP, 0);
	return X_OK;
}

/* ---- layout ---- */

/* Where component i (2 and up) starts; `compacted`: the XCOMP_BV, 0 = standard format. */
static unsigned component_offset(const struct cpu *cpu, unsigned i, uint64_t compacted)
{
	const struct xsave_component *c = cpu->cpuid->xsave;
	unsigned at;

	if (!compacted)
		return c[i].offset;
	at = cpuid_xsave_size(cpu->cpuid, compacted & ((1ull << i) - 1), true);
	return c[i].align64 ? (at + 63) & ~63u : at;
}

/* Outside 64-bit mode only registers 0-7 are saved and restored. */
static unsigned component_size(const struct cpu *cpu, unsigned i)
{
	unsigned size = i == 1 ? 256 : cpu->cpuid->xsave[i].size;

	if (cpu->mode == MODE_LONG)
		return size;
	switch (i) {
	case 1: /* XMM */
	case 2: /* upper halves of YMM */
	case 6: /* upper halves of ZMM0-15 */
		return size / 2;
	case 7: /* ZMM16-31 */
		return 0;
	default:
		return size;
	}
}

/* ---- XSAVE, XSAVEOPT, XSAVEC, XSAVES ---- */

/* PKRU into an area that the host saved the rest of. */
static void save_pkru(struct cpu *cpu, uint8_t *area, uint64_t rfbm, enum save_form form)
{
	uint64_t bv = get64(area + FPU_XSTATE_BV);
	bool used = cpu->pkru_shadow;

	put64(area + FPU_XSTATE_BV, used ? bv | XCR0_PKRU : bv & ~(uint64_t)XCR0_PKRU);
	if (form == SAVE_COMPACTED)
		put64(area + FPU_XCOMP_BV, XCOMP_COMPACTED | rfbm);
	if (used || form == SAVE_STANDARD)
		put64(area + component_offset(cpu, 9, form == SAVE_COMPACTED ? XCOMP_COMPACTED | rfbm : 0),
		      cpu->pkru_shadow);
}

/* The guest's live state into `area`, as the instruction would. */
static void save_to(struct cpu *cpu, uint8_t *area, uint64_t rfbm, enum save_form form, bool w)
{
	uint64_t native = rfbm & ~(uint64_t)XCR0_PKRU;

	switch (form) {
	case SAVE_STANDARD:
		host_xsave(area, native, w);
		break;
	case SAVE_OPTIMIZED:
		host_xsaveopt(area, native, w);
		break;
	case SAVE_COMPACTED:
		host_xsavec(area, native, w);
		break;
	}
	if ((rfbm & XCR0_X87) && (form == SAVE_STANDARD || (get64(area + FPU_XSTATE_BV) & XCR0_X87)))
		hide_host_pointers(area, get64(cpu->fpu + FPU_FIP), w);
	if (rfbm & XCR0_PKRU)
		save_pkru(cpu, area, rfbm, form);
}

/* Runs of bytes of the area that the instruction writes. */
struct ranges {
	unsigned count;
	struct {
		unsigned offset, size;
	} run[16];
};

static void range_add(struct ranges *r, unsigned offset, unsigned size)
{
	if (!size)
		return;
	if (r->count && r->run[r->count - 1].offset + r->run[r->count - 1].size == offset) {
		r->run[r->count - 1].size += size;
		return;
	}
	r->run[r->count].offset = offset;
	r->run[r->count].size = size;
	r->count++;
}

static void written_ranges(const struct cpu *cpu, struct ranges *r, uint64_t rfbm, uint64_t in_use, enum save_form form)
{
	uint64_t saved = form == SAVE_STANDARD ? rfbm : rfbm & in_use;

	r->count = 0;
	if (saved & XCR0_X87)
		range_add(r, 0, FPU_MXCSR);
	if (form == SAVE_COMPACTED ? saved & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX))
		range_add(r, FPU_MXCSR, 8);
	if (saved & XCR0_X87)
		range_add(r, FPU_ST, 128);
	if (saved & XCR0_SSE)
		range_add(r, FPU_XMM, component_size(cpu, 1));
	range_add(r, FPU_XSTATE_BV, form == SAVE_COMPACTED ? 16 : 8);
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
		if (saved >> i & 1)
			range_add(r, component_offset(cpu, i, form == SAVE_COMPACTED ? XCOMP_COMPACTED | rfbm : 0),
				  component_size(cpu, i));
}

/* Through a buffer: the area crosses pages, or the guest is not in 64-bit mode. */
static enum x save_buffered(struct cpu *cpu, uint64_t linear, uint64_t rfbm, enum save_form form, bool w, unsigned size)
{
	uint8_t area[AREA_MAX] __attribute__((aligned(64)));
	struct ranges r;

	TRY(mmu_probe(cpu, linear, size, MMU_WRITE));
	zero(area, FPU_AREA_MIN);
	if (form != SAVE_COMPACTED)
		TRY(mmu_read(cpu, linear + FPU_XSTATE_BV, area + FPU_XSTATE_BV, 8, MMU_READ));
	/* XSAVEOPT may leave out what was not modified since an XRSTOR from this very address, and
	 * this may have been that buffer: XSAVE, and the ranges make the difference. */
	cpu_fpu_enter(cpu);
	save_to(cpu, area, rfbm, form == SAVE_OPTIMIZED ? SAVE_STANDARD : form, w);
	fpu_leave_at_once(cpu);
	written_ranges(cpu, &r, rfbm, get64(area + FPU_XSTATE_BV), form);
	for (unsigned i = 0; i < r.count; i++)
		TRY(mmu_write(cpu, linear + r.run[i].offset, area + r.run[i].offset, r.run[i].size, MMU_WRITE));
	return X_OK;
}

static enum x fxsave(struct cpu *cpu, const struct insn *insn, uint64_t linear)
{
	uint8_t area[FPU_LEGACY_SIZE] __attribute__((aligned(64)));
	bool w = insn->rex & 8, fast = (cpu->efer & EFER_FFXSR) && cpu->mode == MODE_LONG && !cpu->cpl;
	unsigned size = FPU_XMM;

	TRY(check_fx(cpu, linear));
	cpu_fpu_enter(cpu);
	zero(area, FPU_ST);
	if (w)
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
	else
		__asm__ volatile("fxsave (%0)" : : "r"(area) : "memory");
	fpu_leave_at_once(cpu);
	hide_host_pointers(area, get64(cpu->fpu + FPU_FIP), w);
	if ((cpu->cr4 & CR4_OSFXSR) && !fast)
		size += component_size(cpu, 1);
	return mmu_write(cpu, linear, area, size, MMU_WRITE);
}

enum x fpu_xsave(struct cpu *cpu, const struct insn *insn, uint64_t linear)
{
	enum save_form form;
	uint64_t rfbm;
	unsigned size;
	bool w = insn->rex & 8;
	void *hva = NULL;

	if (insn->id == INSN_FXSAVE)
		return fxsave(cpu, insn, linear);
	TRY(check_xsave(cpu, insn, linear));
	form = is_compacting(insn) ? SAVE_COMPACTED : insn->id == INSN_XSAVEOPT ? SAVE_OPTIMIZED : SAVE_STANDARD;
	rfbm = rfbm_of(cpu, insn);
	size = cpuid_xsave_size(cpu->cpuid, rfbm, form == SAVE_COMPACTED);
	if (cpu->mode == MODE_LONG)
		TRY(mmu_writable_pointer(cpu, linear, size, &hva));
	if (!hva)
		return save_buffered(cpu, linear, rfbm, form, w, size);
	cpu_fpu_enter(cpu);
	save_to(cpu, hva, rfbm, form, w);
	fpu_leave_at_once(cpu);
	return X_OK;
}

/* ---- XRSTOR, XRSTORS, FXRSTOR ---- */

/* A copy of what is to be restored, checked. */
struct image {
	uint64_t rfbm;      /* components asked for */
	uint64_t bv;        /* of them those that hold data; the others get their initial values */
	uint64_t compacted; /* XCOMP_BV, 0 = standard format */
	bool mxcsr;         /* MXCSR is loaded, or (compacted) initialized with SSE */
	bool w;             /* 64-bit FIP and FDP */
	uint8_t area[AREA_MAX] __attribute__((aligned(64)));
};

static enum x check_header(struct cpu *cpu, const struct insn *insn, struct image *m)
{
	uint64_t bv = get64(m->area + FPU_XSTATE_BV), comp = get64(m->area + FPU_XCOMP_BV);
	uint64_t have = cpu->xcr0 | (is_supervisor(insn) ? cpu->xss : 0);
	bool bad;

	if (comp & XCOMP_COMPACTED)
		bad = !cpu_has(cpu, FEATURE_XSAVEC) || (comp & ~XCOMP_COMPACTED & ~have) || (bv & ~comp) ||
		      (bv & XCOMP_COMPACTED) || !all_zero(m->area + FPU_XCOMP_BV + 8, 48);
	else
		bad = is_supervisor(insn) || (bv & ~cpu->xcr0) || comp || get64(m->area + FPU_XCOMP_BV + 8);
	if (bad)
		return cpu_raise_error(cpu, VEC_GP, 0);
	m->compacted = comp;
	m->bv = bv & m->rfbm;
	m->mxcsr = m->compacted ? m->bv & XCR0_SSE : m->rfbm & (XCR0_SSE | XCR0_AVX);
	if (m->mxcsr && (get32(m->area + FPU_MXCSR) & ~mxcsr_mask(cpu)))
		return cpu_raise_error(cpu, VEC_GP, 0);
	return X_OK;
}

/* The x87 part of the image into cpu->fpu. */
static void merge_x87(struct cpu *cpu, const struct image *m)
{
	uint8_t *to = cpu->fpu;

	zero(to, FPU_MXCSR);
	zero(to + FPU_ST, 128);
	if (!(m->bv & XCR0_X87)) {
		put16(to + FPU_FCW, FCW_INIT);
		return;
	}
	put16(to + FPU_FCW, get16(m->area + FPU_FCW));
	put16(to + FPU_FSW, get16(m->area + FPU_FSW));
	to[FPU_FTW] = m->area[FPU_FTW];
	put16(to + FPU_FOP, get16(m->area + FPU_FOP) & 0x7ff);
	put64(to + FPU_FIP, m->w ? get64(m->area + FPU_FIP) : get32(m->area + FPU_FIP));
	put64(to + FPU_FDP, m->w ? get64(m->area + FPU_FDP) : get32(m->area + FPU_FDP));
	for (unsigned i = 0; i < 8; i++)
		mmu_copy(to + FPU_ST + 16 * i, m->area + FPU_ST + 16 * i, 10);
}

/* The image into cpu->fpu without the host's help: where only a part of the registers changes. */
static void restore_merged(struct cpu *cpu, const struct image *m)
{
	uint64_t bv;

	cpu_fpu_leave(cpu);
	bv = get64(cpu->fpu + FPU_XSTATE_BV);
	if (m->rfbm & XCR0_X87) {
		merge_x87(cpu, m);
		bv = (bv & ~(uint64_t)XCR0_X87) | (m->bv & XCR0_X87);
	}
	if (m->mxcsr)
		put32(cpu->fpu + FPU_MXCSR, get32(m->area + FPU_MXCSR));
	else if (m->compacted && (m->rfbm & XCR0_SSE))
		put32(cpu->fpu + FPU_MXCSR, MXCSR_INIT);
	for (unsigned i = 1; i < XSAVE_COMPONENTS; i++) {
		unsigned size = component_size(cpu, i);
		unsigned whole = i == 1 ? 256 : cpu->cpuid->xsave[i].size;
		uint8_t *to = cpu->fpu + (i == 1 ? FPU_XMM : component_offset(cpu, i, 0));

		if (!(m->rfbm >> i & 1) || !size || (1u << i) == XCR0_PKRU)
			continue;
		if (m->bv >> i & 1)
			mmu_copy(to, m->area + (i == 1 ? FPU_XMM : component_offset(cpu, i, m->compacted)), size);
		else
			zero(to, size);
		if ((m->bv >> i & 1) || !all_zero(to, whole))
			bv |= 1ull << i;
		else
			bv &= ~(1ull << i);
	}
	put64(cpu->fpu + FPU_XSTATE_BV, bv);
}

/* By the host's XRSTOR: all registers of a component. The state is live afterwards. */
static void restore_native(struct cpu *cpu, const struct image *m)
{
	uint64_t native = m->rfbm & ~(uint64_t)XCR0_PKRU;

	if (native != native_mask(cpu))
		cpu_fpu_enter(cpu); /* what is not restored stays */
	host_xrstor(m->area, native, m->w);
	cpu->fpu_live = true;
	if (!(m->rfbm & XCR0_X87))
		return;
	if (!(m->bv & XCR0_X87))
		put64(cpu->fpu + FPU_FIP, 0);
	else
		put64(cpu->fpu + FPU_FIP, m->w ? get64(m->area + FPU_FIP) : get32(m->area + FPU_FIP));
}

static void restore_pkru(struct cpu *cpu, const struct image *m)
{
	uint32_t pkru = m->bv & XCR0_PKRU ? get32(m->area + component_offset(cpu, 9, m->compacted)) : 0;

	if (pkru == cpu->pkru_shadow)
		return;
	cpu->pkru_shadow = pkru;
	mmu_flush(cpu, true); /* TLB entries were made with the old rights */
}

static enum x fxrstor(struct cpu *cpu, const struct insn *insn, uint64_t linear)
{
	bool fast = (cpu->efer & EFER_FFXSR) && cpu->mode == MODE_LONG && !cpu->cpl;
	bool xmm = (cpu->cr4 & CR4_OSFXSR) && !fast;
	struct image m;

	TRY(check_fx(cpu, linear));
	TRY(mmu_read(cpu, linear, m.area, FPU_LEGACY_SIZE, MMU_READ));
	if (get32(m.area + FPU_MXCSR) & ~mxcsr_mask(cpu))
		return cpu_raise_error(cpu, VEC_GP, 0);
	m.rfbm = m.bv = XCR0_X87 | (xmm ? XCR0_SSE : 0);
	m.compacted = 0;
	m.mxcsr = true;
	m.w = insn->rex & 8;
	if (!xmm || cpu->mode != MODE_LONG) {
		restore_merged(cpu, &m);
		return X_OK;
	}
	cpu_fpu_enter(cpu);
	if (m.w)
		__asm__ volatile("fxrstor64 (%0)" : : "r"(m.area) : "memory");
	else
		__asm__ volatile("fxrstor (%0)" : : "r"(m.area) : "memory");
	fpu_leave_at_once(cpu);
	put64(cpu->fpu + FPU_FIP, m.w ? get64(m.area + FPU_FIP) : get32(m.area + FPU_FIP));
	return X_OK;
}

enum x fpu_xrstor(struct cpu *cpu, const struct insn *insn, uint64_t linear)
{
	struct image m;
	unsigned end = FPU_AREA_MIN;

	if (insn->id == INSN_FXRSTOR)
		return fxrstor(cpu, insn, linear);
	TRY(check_xsave(cpu, insn, linear));
	TRY(mmu_read(cpu, linear, m.area, FPU_AREA_MIN, MMU_READ));
	m.rfbm = rfbm_of(cpu, insn);
	m.w = insn->rex & 8;
	TRY(check_header(cpu, insn, &m));
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		unsigned at;

		if (!(m.bv >> i & 1))
			continue;
		at = component_offset(cpu, i, m.compacted) + component_size(cpu, i);
		end = at > end ? at : end;
	}
	if (end > FPU_AREA_MIN)
		TRY(mmu_read(cpu, linear + FPU_AREA_MIN, m.area + FPU_AREA_MIN, end - FPU_AREA_MIN, MMU_READ));

	if (cpu->mode == MODE_LONG)
		restore_native(cpu, &m);
	else
		restore_merged(cpu, &m);
	fpu_leave_at_once(cpu);
	if (m.rfbm & XCR0_PKRU)
		restore_pkru(cpu, &m);
	return X_OK;
}
