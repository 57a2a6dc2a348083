/*
 * The guest's vector state: enter and leave, the XSAVE and FXSAVE families on guest memory in and
 * out of 64-bit mode, across pages, every check of the restored image, and fpu_check's faults.
 */
#include "cpu_fixture.h"
#include "cpu/fpu.h"

#define AREA 0x100000ull /* guest address, identity mapped */

static struct guest *guest_fpu(bool long_mode)
{
	struct guest *g = long_mode ? guest_long() : guest_protected();
	struct cpu *cpu = &g->cpu;

	if (cpuid_build(&g->cpuid, 1) || fpu_init(cpu))
		exit(1);
	cpu->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	cpu->xcr0 = g->cpuid.xcr0_mask & 7;
	cpu->gpr[RAX] = cpu->gpr[RDX] = ~0u;
	return g;
}

static void guest_fpu_free(struct guest *g)
{
	fpu_free(&g->cpu);
	guest_free(g);
}

static struct insn decode(struct cpu *cpu, const char *bytes, unsigned len)
{
	struct insn insn;

	if (insn_decode(&insn, (const uint8_t *)bytes, len, cpu_code_bits(cpu)) != DECODE_OK) {
		printf("not ok: test instruction %02x %02x %02x does not decode\n", bytes[0] & 0xff, bytes[1] & 0xff, bytes[2] & 0xff);
		exit(1);
	}
	return insn;
}

/* [RAX]-based forms; the address is given apart. */
#define XSAVE64 "\x48\x0f\xae\x20"
#define XSAVE32 "\x0f\xae\x20"
#define XRSTOR64 "\x48\x0f\xae\x28"
#define XRSTOR32 "\x0f\xae\x28"
#define XSAVEOPT64 "\x48\x0f\xae\x30"
#define XSAVEC64 "\x48\x0f\xc7\x20"
#define XSAVEC32 "\x0f\xc7\x20"
#define XSAVES64 "\x48\x0f\xc7\x28"
#define XRSTORS64 "\x48\x0f\xc7\x18"
#define FXSAVE64 "\x48\x0f\xae\x00"
#define FXSAVE32 "\x0f\xae\x00"
#define FXRSTOR64 "\x48\x0f\xae\x08"
#define FXRSTOR32 "\x0f\xae\x08"

static enum x do_save(struct cpu *cpu, const char *bytes, uint64_t linear)
{
	struct insn insn = decode(cpu, bytes, bytes[0] == 0x48 ? 4 : 3);

	return fpu_xsave(cpu, &insn, linear);
}

static enum x do_restore(struct cpu *cpu, const char *bytes, uint64_t linear)
{
	struct insn insn = decode(cpu, bytes, bytes[0] == 0x48 ? 4 : 3);

	return fpu_xrstor(cpu, &insn, linear);
}

static enum x check(struct cpu *cpu, const char *bytes, unsigned len)
{
	struct insn insn = decode(cpu, bytes, len);

	return fpu_check(cpu, &insn);
}

/* Distinct values in every register that the guest has, in cpu->fpu. */
static void fill(struct cpu *cpu, unsigned seed)
{
	cpu_fpu_leave(cpu);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned k = 0; k < 10; k++)
			cpu->fpu[FPU_ST + 16 * i + k] = (uint8_t)(seed + 16 * i + k);
	cpu->fpu[FPU_FCW] = 0x7f;
	cpu->fpu[FPU_FCW + 1] = 2;
	cpu->fpu[FPU_FTW] = 0xff;
	for (unsigned i = 0; i < 256; i++)
		cpu->fpu[FPU_XMM + i] = (uint8_t)(seed * 3 + i);
	for (unsigned i = FPU_AREA_MIN; i < cpu->fpu_size; i++)
		cpu->fpu[i] = (uint8_t)(seed * 5 + i);
	{
		uint32_t mxcsr = 0x1fa0;
		memcpy(cpu->fpu + FPU_MXCSR, &mxcsr, 4);
	}
	fpu_component_changed(cpu, cpu->cpuid->xcr0_mask & 0xff);
}

static uint8_t *keep(struct cpu *cpu)
{
	uint8_t *copy = malloc(cpu->fpu_size);

	cpu_fpu_leave(cpu);
	memcpy(copy, cpu->fpu, cpu->fpu_size);
	return copy;
}

static bool same(struct cpu *cpu, const uint8_t *copy)
{
	cpu_fpu_leave(cpu);
	return !memcmp(cpu->fpu, copy, FPU_MXCSR_MASK) && !memcmp(cpu->fpu + FPU_ST, copy + FPU_ST, 128 + 256) &&
	       !memcmp(cpu->fpu + FPU_AREA_MIN, copy + FPU_AREA_MIN, cpu->fpu_size - FPU_AREA_MIN);
}

/* What cpuid_build makes of a host that has no XSAVE. */
static void forget_xsave(struct guest *g)
{
	g->cpuid.has[FEATURE_XSAVE] = false;
	g->cpuid.xcr0_mask = XCR0_X87 | XCR0_SSE;
}

static void test_enter_leave(bool xsave)
{
	struct guest *g = guest_fpu(true);
	struct cpu *cpu = &g->cpu;
	uint8_t *want;
	uint32_t mxcsr;
	uint16_t fcw;

	if (!xsave)
		forget_xsave(g);
	/* RESET */
	CHECK_EQ(cpu->fpu[FPU_FCW], 0x40);
	CHECK_EQ(cpu->fpu[FPU_FTW], 0xff);
	fill(cpu, 1);
	want = keep(cpu);
	for (unsigned i = 0; i < 1000; i++) {
		cpu_fpu_enter(cpu);
		CHECK(cpu->fpu_live);
		cpu_fpu_leave(cpu);
	}
	CHECK(same(cpu, want));
	/* The host's own state is the ABI's after leaving. */
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	CHECK_EQ(mxcsr, 0x1f80);
	CHECK_EQ(fcw, 0x37f);
	/* What runs while it is live changes it; host addresses do not stay behind. */
	cpu_fpu_enter(cpu);
	__asm__ volatile("fninit; fld1; fldpi; pcmpeqd %%xmm3, %%xmm3" : : : "memory");
	cpu_fpu_leave(cpu);
	CHECK_EQ(cpu->fpu[FPU_FTW], 0xc0);
	CHECK_EQ(cpu->fpu[FPU_XMM + 16 * 3 + 5], 0xff);
	for (unsigned i = FPU_FOP; i < FPU_MXCSR; i++)
		CHECK_EQ(cpu->fpu[i], 0);
	/* Bits of MXCSR that the host would fault on are dropped. */
	cpu->fpu[FPU_MXCSR + 3] = 0xff;
	cpu_fpu_enter(cpu);
	cpu_fpu_leave(cpu);
	CHECK_EQ(cpu->fpu[FPU_MXCSR + 3], 0);
	free(want);
	guest_fpu_free(g);
}

/* Saves, destroys, restores: at an address within a page, and one that crosses a page. */
static void round_trip(struct guest *g, const char *save, const char *restore, uint64_t linear, bool vectors)
{
	struct cpu *cpu = &g->cpu;
	uint8_t *want;

	memset(at(g, AREA), 0, 0x2000);
	fill(cpu, 7);
	want = keep(cpu);
	CHECK_OK(do_save(cpu, save, linear));
	CHECK(same(cpu, want));
	fill(cpu, 99);
	if (!vectors) /* what FXSAVE has not is not restored: put it back */
		memcpy(cpu->fpu + FPU_AREA_MIN, want + FPU_AREA_MIN, cpu->fpu_size - FPU_AREA_MIN);
	CHECK(!same(cpu, want));
	CHECK_OK(do_restore(cpu, restore, linear));
	CHECK(same(cpu, want));
	free(want);
}

static void test_round_trips(void)
{
	struct guest *g = guest_fpu(true);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t linear = AREA + (i ? 0xe00 : 0x40);

		round_trip(g, XSAVE64, XRSTOR64, linear, true);
		round_trip(g, XSAVE32, XRSTOR32, linear, true);
		round_trip(g, XSAVEOPT64, XRSTOR64, linear, true);
		round_trip(g, FXSAVE64, FXRSTOR64, linear, false);
		round_trip(g, FXSAVE32, FXRSTOR32, linear, false);
		if (g->cpuid.has[FEATURE_XSAVEC]) {
			round_trip(g, XSAVEC64, XRSTOR64, linear, true);
			round_trip(g, XSAVEC32, XRSTOR32, linear, true);
			round_trip(g, XSAVES64, XRSTORS64, linear, true);
		}
	}
	forget_xsave(g);
	round_trip(g, FXSAVE64, FXRSTOR64, AREA + 0x40, false);
	guest_fpu_free(g);
}

/* Outside 64-bit mode registers 8-15 are neither written nor loaded. */
static void test_protected(void)
{
	struct guest *g = guest_fpu(false);
	struct cpu *cpu = &g->cpu;
	static const char *const pairs[][2] = { { XSAVE32, XRSTOR32 }, { XSAVEC32, XRSTOR32 }, { FXSAVE32, FXRSTOR32 } };

	for (unsigned i = 0; i < 3; i++) {
		bool fx = i == 2;
		uint8_t *want;

		if (i == 1 && !g->cpuid.has[FEATURE_XSAVEC])
			continue;
		memset(at(g, AREA), 0xee, 0x1000);
		memset(at(g, AREA) + FPU_LEGACY_SIZE, 0, 64);
		fill(cpu, 20);
		want = keep(cpu);
		CHECK_OK(do_save(cpu, pairs[i][0], AREA));
		CHECK(!memcmp(at(g, AREA) + FPU_XMM, want + FPU_XMM, 128));
		CHECK_EQ(get(g, AREA + FPU_XMM + 128, 8), 0xeeeeeeeeeeeeeeee);
		CHECK_EQ(get(g, AREA + FPU_XMM + 248, 8), 0xeeeeeeeeeeeeeeee);
		CHECK_EQ(get(g, AREA + 416, 8), 0xeeeeeeeeeeeeeeee);
		if (!fx && (cpu->xcr0 & XCR0_AVX)) {
			CHECK(!memcmp(at(g, AREA) + FPU_YMM_HIGH, want + FPU_YMM_HIGH, 128));
			CHECK_EQ(get(g, AREA + FPU_YMM_HIGH + 128, 8), 0xeeeeeeeeeeeeeeee);
		}
		fill(cpu, 77);
		CHECK_OK(do_restore(cpu, pairs[i][1], AREA));
		cpu_fpu_enter(cpu);
		cpu_fpu_leave(cpu);
		CHECK(!memcmp(cpu->fpu, want, FPU_MXCSR_MASK));
		CHECK(!memcmp(cpu->fpu + FPU_ST, want + FPU_ST, 128));
		CHECK(!memcmp(cpu->fpu + FPU_XMM, want + FPU_XMM, 128));
		CHECK_EQ(cpu->fpu[FPU_XMM + 128], (77 * 3 + 128) & 0xff); /* XMM8 stayed */
		if (!fx && (cpu->xcr0 & XCR0_AVX)) {
			CHECK(!memcmp(cpu->fpu + FPU_YMM_HIGH, want + FPU_YMM_HIGH, 128));
			CHECK_EQ(cpu->fpu[FPU_YMM_HIGH + 128], (77 * 5 + FPU_YMM_HIGH + 128) & 0xff);
		}
		free(want);
	}
	/* XSTATE_BV 0: registers 0-7 and the x87 to their initial values. */
	memset(at(g, AREA), 0, 0x1000);
	put(g, AREA + FPU_MXCSR, 0x1f80, 4);
	CHECK_OK(do_restore(cpu, XRSTOR32, AREA));
	CHECK_EQ(cpu->fpu[FPU_FCW] | cpu->fpu[FPU_FCW + 1] << 8, 0x37f);
	CHECK_EQ(cpu->fpu[FPU_FTW], 0);
	CHECK_EQ(cpu->fpu[FPU_XMM], 0);
	CHECK(cpu->fpu[FPU_XMM + 129] != 0);
	guest_fpu_free(g);
}

/* EDX:EAX and XCR0 choose; what is not chosen stays, in memory and in registers. */
static void test_masks(void)
{
	struct guest *g = guest_fpu(true);
	struct cpu *cpu = &g->cpu;
	uint8_t *want;

	if (!(cpu->xcr0 & XCR0_AVX)) {
		guest_fpu_free(g);
		return;
	}
	for (unsigned crossing = 0; crossing < 2; crossing++) {
		uint64_t a = AREA + (crossing ? 0xf00 : 0);

		memset(at(g, a), 0xaa, 0x400);
		put(g, a + FPU_XSTATE_BV, 0x13, 8);
		fill(cpu, 3);
		want = keep(cpu);
		cpu->gpr[RAX] = XCR0_AVX;
		cpu->gpr[RDX] = 0;
		CHECK_OK(do_save(cpu, XSAVE64, a));
		CHECK_EQ(get(g, a, 8), 0xaaaaaaaaaaaaaaaa);
		CHECK_EQ(get(g, a + FPU_MXCSR, 4), 0x1fa0);
		CHECK_EQ(get(g, a + FPU_XMM, 8), 0xaaaaaaaaaaaaaaaa);
		CHECK_EQ(get(g, a + FPU_XSTATE_BV, 8), 0x17);
		CHECK_EQ(get(g, a + FPU_XCOMP_BV, 8), 0xaaaaaaaaaaaaaaaa);
		CHECK(!memcmp(at(g, a) + 576, want + 576, 256));
		/* Initial state is left out by XSAVEOPT and XSAVEC, written by XSAVE. */
		put(g, a + FPU_XCOMP_BV, 0, 8);
		memset(cpu->fpu + 576, 0, 256);
		memset(cpu->fpu + FPU_XSTATE_BV, 0, 8);
		fpu_component_changed(cpu, XCR0_X87 | XCR0_SSE);
		memset(at(g, a) + 576, 0xbb, 256);
		put(g, a + FPU_XSTATE_BV, 4, 8);
		cpu->gpr[RAX] = 7;
		CHECK_OK(do_save(cpu, XSAVEOPT64, a));
		CHECK_EQ(get(g, a + FPU_XSTATE_BV, 8), 3);
		CHECK_EQ(get(g, a + 576, 8), 0xbbbbbbbbbbbbbbbb);
		CHECK_OK(do_save(cpu, XSAVE64, a));
		CHECK_EQ(get(g, a + FPU_XSTATE_BV, 8), 3);
		CHECK_EQ(get(g, a + 576, 8), 0);
		free(want);
	}
	/* Restoring AVX only leaves x87 and SSE. */
	fill(cpu, 50);
	want = keep(cpu);
	cpu->gpr[RAX] = XCR0_AVX;
	memset(at(g, AREA), 0, 0x400);
	put(g, AREA + FPU_MXCSR, 0x1f80, 4);
	CHECK_OK(do_restore(cpu, XRSTOR64, AREA));
	cpu_fpu_leave(cpu);
	CHECK(!memcmp(cpu->fpu + FPU_XMM, want + FPU_XMM, 256));
	CHECK(!memcmp(cpu->fpu + FPU_ST, want + FPU_ST, 128));
	CHECK_EQ(cpu->fpu[576], 0);
	CHECK_EQ(cpu->fpu[FPU_MXCSR], 0x80);
	/* A guest XCR0 without AVX: its upper halves stay as they are. */
	fill(cpu, 60);
	cpu->xcr0 = 3;
	cpu->gpr[RAX] = 7;
	CHECK_OK(do_restore(cpu, XRSTOR64, AREA));
	cpu_fpu_leave(cpu);
	CHECK_EQ(cpu->fpu[576 + 5], (60 * 5 + 576 + 5) & 0xff);
	free(want);
	guest_fpu_free(g);
}

static void test_bad_images(void)
{
	struct guest *g = guest_fpu(true);
	struct cpu *cpu = &g->cpu;
	uint8_t *want;

	fill(cpu, 11);
	want = keep(cpu);
#define FRESH() (memset(at(g, AREA), 0, 0x1000), put(g, AREA + FPU_MXCSR, 0x1f80, 4))
	FRESH();
	CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA + 16), VEC_GP, 0);
	CHECK_FAULT(do_save(cpu, XSAVE64, AREA + 32), VEC_GP, 0);
	CHECK_FAULT(do_save(cpu, FXSAVE64, AREA + 8), VEC_GP, 0);
	put(g, AREA + FPU_MXCSR, 0x80001f80, 4);
	CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
	CHECK_FAULT(do_restore(cpu, FXRSTOR64, AREA), VEC_GP, 0);
	FRESH();
	for (unsigned bit = 3; bit < 63; bit++) {
		put(g, AREA + FPU_XSTATE_BV, 1ull << bit, 8);
		CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
	}
	FRESH();
	put(g, AREA + FPU_XCOMP_BV, 1, 8);
	CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
	FRESH();
	put(g, AREA + FPU_XCOMP_BV + 8, 1, 8);
	CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
	FRESH();
	if (g->cpuid.has[FEATURE_XSAVEC]) {
		CHECK_FAULT(do_restore(cpu, XRSTORS64, AREA), VEC_GP, 0); /* standard format */
		put(g, AREA + FPU_XCOMP_BV, 1ull << 63 | 1ull << 40, 8);
		CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
		put(g, AREA + FPU_XCOMP_BV, 1ull << 63 | 1, 8);
		put(g, AREA + FPU_XSTATE_BV, 2, 8);
		CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
		put(g, AREA + FPU_XSTATE_BV, 1ull << 63, 8);
		CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
		put(g, AREA + FPU_XSTATE_BV, 0, 8);
		put(g, AREA + 568, 1, 8);
		CHECK_FAULT(do_restore(cpu, XRSTOR64, AREA), VEC_GP, 0);
		put(g, AREA + 568, 0, 8);
		/* Compacted without SSE in use: MXCSR of the image does not matter. */
		put(g, AREA + FPU_MXCSR, 0xffffffff, 4);
		CHECK(same(cpu, want));
		CHECK_OK(do_restore(cpu, XRSTOR64, AREA));
		cpu_fpu_leave(cpu);
	} else {
		CHECK(same(cpu, want));
	}
	/* A page fault in the middle leaves memory alone. */
	put(g, TABLES + 0x2008, (TABLES + 0x3000) | 7, 8); /* 2M at 0x200000 by 4K pages: only the first is there */
	put(g, TABLES + 0x3000, 0x200000 | 7, 8);
	mmu_flush(cpu, true);
	memset(at(g, 0x200f00), 0, 0x100);
	fill(cpu, 12);
	CHECK_FAULT(do_save(cpu, XSAVE64, 0x200f00), VEC_PF, PF_WRITE);
	CHECK_EQ(get(g, 0x200f00 + FPU_ST, 8), 0);
	CHECK_FAULT(do_restore(cpu, XRSTOR64, 0x200f00), VEC_PF, 0);
	free(want);
	guest_fpu_free(g);
}

static void test_random_images(void)
{
	struct guest *g = guest_fpu(true);
	struct cpu *cpu = &g->cpu;
	unsigned good = 0;

	srand(5);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t *p = at(g, AREA);

		for (unsigned k = 0; k < 1024; k++)
			p[k] = (uint8_t)rand();
		put(g, AREA + FPU_MXCSR, rand() & 0xffff, 4);
		memset(p + 512, 0, 64);
		p[512] = rand() & 7;
		if (i % 3 == 0)
			put(g, AREA + FPU_XCOMP_BV, 1ull << 63 | (rand() & 7), 8);
		if (i % 16 == 0)
			p[512 + rand() % 64] = (uint8_t)rand();
		cpu->gpr[RAX] = rand() & 0xff;
		if (do_restore(cpu, i & 1 ? XRSTOR64 : XRSTOR32, AREA) == X_OK)
			good++;
		cpu_fpu_leave(cpu); /* a bad state would end us here or at the next enter */
		cpu_fpu_enter(cpu);
		if (i % 5 == 0)
			CHECK_OK(do_save(cpu, i & 1 || !g->cpuid.has[FEATURE_XSAVEC] ? XSAVE64 : XSAVEC32, AREA));
	}
	CHECK(good > 5000);
	guest_fpu_free(g);
}

static void test_checks(void)
{
	struct guest *g = guest_fpu(true);
	struct cpu *cpu = &g->cpu;

	cpu->cr4 |= CR4_OSFXSR;
	memset(cpu->fpu + FPU_FSW, 0, 2);
#define FLD1 "\xd9\xe8", 2
#define FNINIT "\xdb\xe3", 2
#define FWAIT "\x9b", 1
#define ADDPS "\x0f\x58\xc1", 3
#define PADDB "\x0f\xfc\xc1", 3 /* MMX */
#define VADDPS "\xc5\xf0\x58\xc2", 4
#define NOP "\x90", 1
	CHECK_OK(check(cpu, FLD1));
	CHECK_OK(check(cpu, ADDPS));
	CHECK_OK(check(cpu, PADDB));
	CHECK_OK(check(cpu, VADDPS));
	cpu->cr0 |= CR0_TS;
	CHECK_FAULT(check(cpu, FLD1), VEC_NM, -1);
	CHECK_FAULT(check(cpu, ADDPS), VEC_NM, -1);
	CHECK_FAULT(check(cpu, PADDB), VEC_NM, -1);
	CHECK_FAULT(check(cpu, VADDPS), VEC_NM, -1);
	CHECK_OK(check(cpu, FWAIT));
	CHECK_OK(check(cpu, NOP));
	CHECK_FAULT(do_save(cpu, XSAVE64, AREA), VEC_NM, -1);
	CHECK_FAULT(do_save(cpu, FXSAVE64, AREA), VEC_NM, -1);
	cpu->cr0 |= CR0_MP;
	CHECK_FAULT(check(cpu, FWAIT), VEC_NM, -1);
	cpu->cr0 &= ~(uint64_t)(CR0_TS | CR0_MP);
	cpu->cr0 |= CR0_EM;
	CHECK_FAULT(check(cpu, FLD1), VEC_NM, -1);
	CHECK_FAULT(check(cpu, ADDPS), VEC_UD, -1);
	CHECK_FAULT(check(cpu, PADDB), VEC_UD, -1);
	CHECK_OK(check(cpu, VADDPS));
	cpu->cr0 &= ~(uint64_t)CR0_EM;
	cpu->cr4 &= ~(uint64_t)CR4_OSFXSR;
	CHECK_FAULT(check(cpu, ADDPS), VEC_UD, -1);
	cpu->cr4 |= CR4_OSFXSR;
	cpu->xcr0 = 3;
	CHECK_FAULT(check(cpu, VADDPS), VEC_UD, -1);
	cpu->xcr0 = 7;
	cpu->cr4 &= ~(uint64_t)CR4_OSXSAVE;
	CHECK_FAULT(check(cpu, VADDPS), VEC_UD, -1);
	CHECK_FAULT(do_save(cpu, XSAVE64, AREA), VEC_UD, -1);
	cpu->cr4 |= CR4_OSXSAVE;
	/* A pending unmasked exception, in memory and live. */
	cpu->fpu[FPU_FCW] = 0x7e;
	cpu->fpu[FPU_FSW] = 0x81;
	fpu_component_changed(cpu, XCR0_X87);
	for (unsigned live = 0; live < 2; live++) {
		CHECK_FAULT(check(cpu, FLD1), VEC_MF, -1);
		CHECK_FAULT(check(cpu, PADDB), VEC_MF, -1);
		CHECK_FAULT(check(cpu, FWAIT), VEC_MF, -1);
		CHECK_OK(check(cpu, FNINIT));
		CHECK_OK(check(cpu, ADDPS));
		cpu_fpu_enter(cpu);
	}
	cpu_fpu_leave(cpu);
	/* XSAVES and XRSTORS are for CPL 0. */
	set_ring3_long(g);
	CHECK_FAULT(do_save(cpu, XSAVES64, AREA), VEC_GP, 0);
	CHECK_FAULT(do_restore(cpu, XRSTORS64, AREA), VEC_GP, 0);
	guest_fpu_free(g);
}

/* PKRU is saved and restored in software; the host need not have it. 32-bit mode: no host XRSTOR. */
static void test_pkru(void)
{
	struct guest *g = guest_fpu(false);
	struct cpu *cpu = &g->cpu;
	uint64_t native = g->cpuid.xcr0_mask;

	g->cpuid.xcr0_mask |= XCR0_PKRU;
	g->cpuid.xsave[9] = (struct xsave_component){ 2688, 8, false };
	cpu->xcr0 |= XCR0_PKRU;
	memset(at(g, AREA), 0, 0x1000);
	cpu->pkru_shadow = 0x55555554;
	CHECK_OK(do_save(cpu, XSAVE32, AREA));
	CHECK_EQ(get(g, AREA + 2688, 8), 0x55555554);
	CHECK_EQ(get(g, AREA + FPU_XSTATE_BV, 8) & XCR0_PKRU, XCR0_PKRU);
	cpu->pkru_shadow = 0;
	CHECK_OK(do_restore(cpu, XRSTOR32, AREA));
	CHECK_EQ(cpu->pkru_shadow, 0x55555554);
	put(g, AREA + FPU_XSTATE_BV, 0, 8);
	CHECK_OK(do_restore(cpu, XRSTOR32, AREA));
	CHECK_EQ(cpu->pkru_shadow, 0);
	CHECK_OK(do_save(cpu, XSAVE32, AREA));
	CHECK_EQ(get(g, AREA + 2688, 8), 0);
	CHECK_EQ(get(g, AREA + FPU_XSTATE_BV, 8) & XCR0_PKRU, 0);
	if (g->cpuid.has[FEATURE_XSAVEC]) {
		unsigned at9 = cpuid_xsave_size(&g->cpuid, native & 7, true);

		cpu->pkru_shadow = 7;
		CHECK_OK(do_save(cpu, XSAVEC32, AREA));
		CHECK_EQ(get(g, AREA + FPU_XCOMP_BV, 8), 1ull << 63 | XCR0_PKRU | (native & 7));
		CHECK_EQ(get(g, AREA + at9, 8), 7);
		cpu->pkru_shadow = 0;
		cpu->gpr[RAX] = XCR0_PKRU;
		CHECK_OK(do_restore(cpu, XRSTOR32, AREA));
		CHECK_EQ(cpu->pkru_shadow, 7);
	}
	guest_fpu_free(g);
}

int main(void)
{
	static struct cpuid_table t;

	test_enter_leave(false);
	if (cpuid_build(&t, 1) || !t.has[FEATURE_XSAVE]) { /* nothing else runs there */
		puts("# this host has no XSAVE");
		return report();
	}
	test_enter_leave(true);
	test_round_trips();
	test_protected();
	test_masks();
	test_bad_images();
	test_random_images();
	test_checks();
	test_pkru();
	return report();
}
