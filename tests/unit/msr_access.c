/*
 * MSRs and the other system registers: what reads, what writes, what raises #GP; control registers'
 * checks and side effects; debug registers; XSETBV; INVPCID; POPF; RESET, INIT, copies and diffs.
 */
#include "cpu_fixture.h"
#include "cpu/fpu.h"

static uint64_t fake_tsc = 1000000, fake_base = 0xfee00900, fake_deadline, deadline_writes;

static uint64_t env_tsc(void *o) { (void)o; return fake_tsc; }
static uint64_t env_base(void *o) { (void)o; return fake_base; }
static bool env_set_base(void *o, uint64_t v) { (void)o; fake_base = v; return !(v & 1); }
static bool env_x2_read(void *o, uint32_t msr, uint64_t *v)
{
	(void)o;
	*v = msr == 0x6e0 ? fake_deadline : msr;
	return msr != 0x8ff;
}
static bool env_x2_write(void *o, uint32_t msr, uint64_t v)
{
	(void)o;
	if (msr == 0x6e0) {
		fake_deadline = v;
		deadline_writes++;
	}
	return msr != 0x8ff;
}
static bool env_pv(void *o, uint32_t msr, uint64_t *v) { (void)o; *v = msr; return true; }
static uint8_t cr8;
static uint8_t env_get_tpr(void *o) { (void)o; return cr8; }
static void env_set_tpr(void *o, uint8_t v) { (void)o; cr8 = v; }

static const struct cpu_env env = { .tsc = env_tsc, .get_apic_base = env_base, .set_apic_base = env_set_base,
				    .x2apic_read = env_x2_read, .x2apic_write = env_x2_write, .pv_read = env_pv,
				    .get_tpr = env_get_tpr, .set_tpr = env_set_tpr };

static struct memory memory;
static struct cpuid_table table;

static struct cpu *cpu_new(void)
{
	struct cpu *cpu = calloc(1, sizeof(*cpu));

	if (!cpu || cpu_init(cpu, &memory, &env, NULL, &table, 0))
		exit(1);
	return cpu;
}

static void cpu_delete(struct cpu *cpu)
{
	cpu_free(cpu);
	free(cpu);
}

static uint64_t rd(struct cpu *cpu, uint32_t msr)
{
	uint64_t v = 0xdeadbeefdeadbeef;

	CHECK_OK(msr_read(cpu, msr, &v));
	return v;
}

static void test_msrs(void)
{
	static const uint32_t canonical[] = { 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102 };
	static const uint32_t unknown[] = { 0x2, 0x20, 0x9b, 0x17b, 0x400, 0x480, 0x600, 0x9ff, 0x40000000, 0xc0000085,
					    0xc0000104, 0xc0011030, 0xffffffff, 0x48, 0x49, 0x8ff };
	struct cpu *cpu = cpu_new();
	uint64_t v;

	fake_base = 0xfee00900;
	for (unsigned i = 0; i < 5; i++) {
		CHECK_OK(msr_write(cpu, canonical[i], 0xffff800012345678));
		CHECK_EQ(rd(cpu, canonical[i]), 0xffff800012345678);
		CHECK_FAULT(msr_write(cpu, canonical[i], 0x800000000000), VEC_GP, 0);
	}
	CHECK_EQ(cpu->seg[FS].base, 0xffff800012345678);
	for (unsigned i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
		CHECK_FAULT(msr_read(cpu, unknown[i], &v), VEC_GP, 0);
		CHECK_FAULT(msr_write(cpu, unknown[i], 0), VEC_GP, 0);
	}
	CHECK_EQ(rd(cpu, 0x277), 0x0007040600070406);
	CHECK_OK(msr_write(cpu, 0x277, 0x0007010600070406));
	CHECK_FAULT(msr_write(cpu, 0x277, 0x0007010600070402), VEC_GP, 0);
	CHECK_EQ(rd(cpu, 0xfe), 0x508);
	CHECK_FAULT(msr_write(cpu, 0xfe, 0), VEC_GP, 0);
	CHECK_OK(msr_write(cpu, 0x20e, 0xc0000006));
	CHECK_OK(msr_write(cpu, 0x20f, 0x800));
	CHECK_EQ(cpu->mtrr.base[7], 0xc0000006);
	CHECK_FAULT(msr_write(cpu, 0x200, 0xc0000002), VEC_GP, 0);
	CHECK_FAULT(msr_write(cpu, 0x200, 1ull << table.phys_bits), VEC_GP, 0);
	CHECK_FAULT(msr_write(cpu, 0x201, 0x400), VEC_GP, 0);
	CHECK_FAULT(msr_read(cpu, 0x210, &v), VEC_GP, 0);
	CHECK_OK(msr_write(cpu, 0x26f, 0x0506050605060506));
	CHECK_EQ(cpu->mtrr.fixed[10], 0x0506050605060506);
	CHECK_FAULT(msr_write(cpu, 0x250, 7), VEC_GP, 0);
	CHECK_FAULT(msr_read(cpu, 0x251, &v), VEC_GP, 0);
	CHECK_OK(msr_write(cpu, 0x2ff, 0xc00));
	CHECK_FAULT(msr_write(cpu, 0x2ff, 0x1000), VEC_GP, 0);
	CHECK_EQ(rd(cpu, 0x179), 0);
	CHECK_EQ(rd(cpu, 0x1b), 0xfee00900);
	CHECK_FAULT(msr_write(cpu, 0x1b, 1), VEC_GP, 0);
	CHECK_EQ(rd(cpu, 0x830), 0x830);
	CHECK_EQ(rd(cpu, 0x4b564d01), 0x4b564d01);
	CHECK_FAULT(msr_write(cpu, 0x4b564d01, 0), VEC_GP, 0); /* no pv_write given */
	CHECK_FAULT(msr_write(cpu, 0xda0, 0x100), VEC_GP, 0);
	CHECK_OK(msr_write(cpu, 0xda0, 0));
	CHECK_EQ(rd(cpu, 0x8b) != 0, 1);
	if (table.amd) {
		CHECK_EQ(rd(cpu, 0xc0010015) >> 24 & 1, 1);
		CHECK_EQ(rd(cpu, 0xc0011029), 2);
		CHECK_EQ(rd(cpu, 0xc0010010), 0);
		CHECK_FAULT(msr_read(cpu, 0x1a0, &v), VEC_GP, 0);
	} else {
		CHECK_EQ(rd(cpu, 0x3a), 1);
		CHECK_EQ(rd(cpu, 0x1a0), 0x1801);
		CHECK_OK(msr_write(cpu, 0x1a0, 1ull << 22));
		CHECK_EQ(rd(cpu, 0x1a0), 1ull << 22 | 0x1800);
		CHECK_EQ(rd(cpu, 0xce) >> 8 & 0xff, table.tsc_khz / 100000 & 0xff);
		CHECK_FAULT(msr_read(cpu, 0xc0010015, &v), VEC_GP, 0);
		CHECK_FAULT(msr_write(cpu, 0x176, 1ull << 47), VEC_GP, 0);
	}
	/* Whatever a guest asks for, each number answers or faults. */
	for (uint64_t m = 0; m < 0x20000; m++) {
		static const uint32_t from[] = { 0, 0xc0000000, 0xc0010000, 0x4b560000 };

		for (unsigned i = 0; i < 4; i++) {
			uint32_t msr = from[i] + (uint32_t)m;

			if (msr_read(cpu, msr, &v) == X_OK)
				msr_write(cpu, msr, v ^ (uint64_t)rand() << (rand() & 31));
		}
	}
	cpu_delete(cpu);
}

static void test_time(void)
{
	struct cpu *cpu = cpu_new();

	fake_deadline = deadline_writes = 0;
	CHECK_EQ(cpu_tsc(cpu), fake_tsc);
	CHECK_OK(msr_write(cpu, 0x10, 500));
	CHECK_EQ(cpu_tsc(cpu), 500);
	CHECK_EQ(rd(cpu, 0x3b), 500 - fake_tsc);
	fake_tsc += 100;
	CHECK_EQ(rd(cpu, 0x10), 600);
	CHECK_EQ(deadline_writes, 0);
	fake_deadline = 12345;
	CHECK_OK(msr_write(cpu, 0x3b, 0));
	CHECK_EQ(cpu_tsc(cpu), fake_tsc);
	CHECK_EQ(deadline_writes, 1);
	CHECK_EQ(fake_deadline, 12345);
	fake_deadline = 0;
	cpu_delete(cpu);
}

static void test_long_mode(void)
{
	struct cpu *cpu = cpu_new();

	CHECK_EQ(cpu->mode, MODE_REAL);
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_PG), VEC_GP, 0);
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_NW), VEC_GP, 0);
	CHECK_FAULT(cpu_write_cr(cpu, 0, 1ull << 32), VEC_GP, 0);
	CHECK_OK(cpu_write_cr(cpu, 0, CR0_PE | 0x0ff00000)); /* reserved low bits are ignored */
	CHECK_EQ(cpu->cr0, CR0_PE | CR0_ET);
	CHECK_EQ(cpu->mode, MODE_PROTECTED);
	CHECK_FAULT(msr_write(cpu, 0xc0000080, 1 << 12), VEC_GP, 0); /* SVME */
	CHECK_FAULT(msr_write(cpu, 0xc0000080, 2), VEC_GP, 0);
	CHECK_OK(msr_write(cpu, 0xc0000080, EFER_LME | EFER_LMA | EFER_NXE));
	CHECK_EQ(cpu->efer, EFER_LME | EFER_NXE);
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_PE | CR0_PG), VEC_GP, 0); /* no PAE */
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_PAE));
	cpu->seg[CS].attr |= SEG_L;
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_PE | CR0_PG), VEC_GP, 0); /* CS.L */
	cpu->seg[CS].attr &= ~SEG_L;
	CHECK_FAULT(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PCIDE), VEC_GP, 0); /* not in long mode */
	CHECK_OK(cpu_write_cr(cpu, 3, 0x1fff));
	CHECK_OK(cpu_write_cr(cpu, 0, CR0_PE | CR0_PG));
	CHECK_EQ(cpu->efer, EFER_LME | EFER_LMA | EFER_NXE);
	CHECK_EQ(cpu->mode, MODE_COMPAT);
	CHECK_FAULT(cpu_write_cr(cpu, 4, 0), VEC_GP, 0);                       /* PAE must stay */
	CHECK_FAULT(msr_write(cpu, 0xc0000080, 0), VEC_GP, 0);                  /* LME with paging on */
	CHECK_FAULT(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PCIDE), VEC_GP, 0);      /* CR3[11:0] is not 0 */
	CHECK_OK(cpu_write_cr(cpu, 3, 0x1000));
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PCIDE));
	CHECK_OK(cpu_write_cr(cpu, 3, 0x1005 | 1ull << 63));
	CHECK_EQ(cpu->cr3, 0x1005);
	CHECK_FAULT(cpu_write_cr(cpu, 3, 1ull << table.phys_bits), VEC_GP, 0);
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_PE), VEC_GP, 0); /* paging off with PCIDE */
	CHECK_FAULT(cpu_invpcid(cpu, 4, 0, 0), VEC_GP, 0);
	CHECK_FAULT(cpu_invpcid(cpu, 0, 0x1000, 0), VEC_GP, 0);
	CHECK_FAULT(cpu_invpcid(cpu, 0, 5, 1ull << 47), VEC_GP, 0);
	for (unsigned type = 0; type < 4; type++)
		CHECK_OK(cpu_invpcid(cpu, type, 5, 0x1000));
	CHECK_OK(cpu_invlpg(cpu, 1ull << 47));
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_PAE));
	CHECK_FAULT(cpu_invpcid(cpu, 1, 5, 0), VEC_GP, 0);
	CHECK_FAULT(cpu_write_cr(cpu, 3, 1ull << 63), VEC_GP, 0);
	cpu->seg[CS].attr |= SEG_L;
	cpu_update_mode(cpu);
	CHECK_EQ(cpu->mode, MODE_LONG);
	CHECK_FAULT(cpu_write_cr(cpu, 0, CR0_PE), VEC_GP, 0); /* from 64-bit mode */
	cpu->seg[CS].attr &= ~SEG_L;
	cpu_update_mode(cpu);
	CHECK_OK(cpu_write_cr(cpu, 0, CR0_PE));
	CHECK_EQ(cpu->efer, EFER_LME | EFER_NXE);
	CHECK_EQ(cpu->mode, MODE_PROTECTED);
	CHECK_FAULT(cpu_write_cr(cpu, 4, 1u << 13), VEC_GP, 0); /* VMXE */
	CHECK_FAULT(cpu_write_cr(cpu, 4, 1u << 12), VEC_GP, 0); /* LA57 */
	CHECK_FAULT(cpu_write_cr(cpu, 1, 0), VEC_UD, -1);
	CHECK_FAULT(cpu_write_cr(cpu, 8, 16), VEC_GP, 0);
	CHECK_OK(cpu_write_cr(cpu, 8, 9));
	CHECK_EQ(cr8, 9);
	cpu_delete(cpu);
}

static void test_pae(void)
{
	struct cpu *cpu = cpu_new();
	uint64_t pdpte[4] = { 0x2001, 0, 0x3001, 0x1e6 /* not present: anything goes */ };

	memory_write(&memory, 0x1020, pdpte, sizeof(pdpte));
	CHECK_OK(cpu_write_cr(cpu, 0, CR0_PE));
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_PAE));
	CHECK_OK(cpu_write_cr(cpu, 3, 0x1020));
	CHECK_OK(cpu_write_cr(cpu, 0, CR0_PE | CR0_PG));
	CHECK_EQ(cpu->pdpte[2], 0x3001);
	pdpte[1] = 0x4003; /* reserved bit */
	memory_write(&memory, 0x1020, pdpte, sizeof(pdpte));
	CHECK_FAULT(cpu_write_cr(cpu, 3, 0x1020), VEC_GP, 0);
	CHECK_EQ(cpu->pdpte[1], 0);
	CHECK_FAULT(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PGE), VEC_GP, 0);
	CHECK_FAULT(cpu_write_cr(cpu, 3, 0xfff00000), VEC_GP, 0); /* not RAM */
	pdpte[1] = 0x4001 | 1ull << table.phys_bits;
	memory_write(&memory, 0x1020, pdpte, sizeof(pdpte));
	CHECK_FAULT(cpu_write_cr(cpu, 3, 0x1020), VEC_GP, 0);
	pdpte[1] = 0x4001;
	memory_write(&memory, 0x1020, pdpte, sizeof(pdpte));
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PGE));
	CHECK_EQ(cpu->pdpte[1], 0x4001);
	cpu_delete(cpu);
}

static void test_debug(void)
{
	struct cpu *cpu = cpu_new();
	uint64_t v, bits;

	CHECK_OK(cpu_write_dr(cpu, 7, 0xfffff7ff));
	CHECK_EQ(cpu->dr[7], 0xffff27ff);
	CHECK_FAULT(cpu_read_dr(cpu, 0, &v), VEC_DB, -1);
	CHECK_EQ(cpu->fault.dr6, 1 << 13);
	cpu->dr[7] = 0x400;
	CHECK_OK(cpu_write_dr(cpu, 4, 0)); /* DR6 */
	CHECK_EQ(cpu->dr[6], 0xffff0ff0);
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_DE));
	CHECK_FAULT(cpu_write_dr(cpu, 5, 0), VEC_UD, -1);
	CHECK_FAULT(cpu_write_dr(cpu, 7, 1ull << 32), VEC_GP, 0);
	CHECK_OK(cpu_write_dr(cpu, 0, 0x1000));
	CHECK_OK(cpu_write_dr(cpu, 1, 0x2003)); /* 4 bytes: 0x2000-0x2003 */
	CHECK_OK(cpu_write_dr(cpu, 2, 0x60));
	CHECK_OK(cpu_write_dr(cpu, 3, 0x3000));
	/* 0: execution. 1: write, 4 bytes. 2: I/O, 2 bytes. 3: read or write, 8 bytes, not enabled */
	CHECK_OK(cpu_write_dr(cpu, 7, 1 | 1 << 3 | 1 << 4 | 0xdu << 20 | 0x6u << 24 | 0xbu << 28));
	CHECK(debug_exec_match(cpu, 0x1000, &bits) && bits == 1);
	CHECK(!debug_exec_match(cpu, 0x1001, &bits));
	CHECK_EQ(debug_data_match(cpu, 0x1ffd, 4, true), 2);
	CHECK_EQ(debug_data_match(cpu, 0x1ffd, 3, true), 0);
	CHECK_EQ(debug_data_match(cpu, 0x2003, 1, true), 2);
	CHECK_EQ(debug_data_match(cpu, 0x2004, 8, true), 0);
	CHECK_EQ(debug_data_match(cpu, 0x2000, 4, false), 0);
	CHECK_EQ(debug_data_match(cpu, 0x3000, 4, false), 0);
	CHECK_EQ(debug_io_match(cpu, 0x61, 1), 4);
	CHECK_EQ(debug_io_match(cpu, 0x5e, 4), 4);
	CHECK_EQ(debug_io_match(cpu, 0x62, 1), 0);
	CHECK_OK(cpu_write_dr(cpu, 7, cpu->dr[7] | 1 << 6));
	CHECK_EQ(debug_data_match(cpu, 0x3007, 1, false), 8);
	cpu_delete(cpu);
}

static void test_flags(void)
{
	struct cpu *cpu = cpu_new();

	cpu->cr0 |= CR0_PE;
	cpu_update_mode(cpu);
	cpu_write_rflags_user(cpu, ~0ull, 4);
	CHECK_EQ(cpu->rflags, 0x247fd7); /* all but VM, RF, VIF, VIP */
	cpu->rflags = RFLAGS_FIXED | RFLAGS_AC;
	cpu_write_rflags_user(cpu, 0xffff, 2);
	CHECK_EQ(cpu->rflags, 0x47fd7);
	cpu->cpl = 3;
	cpu->rflags = RFLAGS_FIXED;
	cpu_write_rflags_user(cpu, ~0ull, 8);
	CHECK_EQ(cpu->rflags, 0x244dd7); /* neither IF nor IOPL */
	cpu->cpl = 3;
	cpu->rflags = RFLAGS_FIXED | RFLAGS_IOPL;
	cpu_write_rflags_user(cpu, 0x202, 4);
	CHECK_EQ(cpu->rflags, 0x3202);
	/* SMAP: AC decides */
	cpu->seg[SS].attr = SEG_P | SEG_S | 2;
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_SMAP));
	cpu_write_rflags_user(cpu, 2, 4);
	CHECK_EQ(cpu->tlb_mode, TLB_KERNEL);
	cpu_write_rflags_user(cpu, 2 | RFLAGS_AC, 4);
	CHECK_EQ(cpu->tlb_mode, TLB_KERNEL_USER);
	/* Virtual-8086 with VME: IF goes to VIF */
	cpu->rflags = RFLAGS_FIXED | RFLAGS_VM;
	cpu_update_mode(cpu);
	CHECK_EQ(cpu->cpl, 3);
	cpu_write_rflags_user(cpu, RFLAGS_IF, 2);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_VIF);
	cpu_delete(cpu);
}

static void test_xsetbv(void)
{
	struct cpu *cpu = cpu_new();

	CHECK_FAULT(cpu_xsetbv(cpu, 0, 1), VEC_UD, -1);
	CHECK_OK(cpu_write_cr(cpu, 4, CR4_OSXSAVE));
	CHECK_OK(cpu_xsetbv(cpu, 0, 3));
	CHECK_FAULT(cpu_xsetbv(cpu, 0, 2), VEC_GP, 0);
	CHECK_FAULT(cpu_xsetbv(cpu, 0, 5), VEC_GP, 0);
	CHECK_FAULT(cpu_xsetbv(cpu, 0, 0x23), VEC_GP, 0);
	CHECK_FAULT(cpu_xsetbv(cpu, 1, 1), VEC_GP, 0);
	CHECK_FAULT(cpu_xsetbv(cpu, 0, 1ull << 40 | 1), VEC_GP, 0);
	CHECK_OK(cpu_xsetbv(cpu, 0, table.xcr0_mask));
	cpu->cpl = 3;
	CHECK_FAULT(cpu_xsetbv(cpu, 0, 1), VEC_GP, 0);
	cpu_delete(cpu);
}

static void test_life(void)
{
	struct cpu *a = cpu_new(), *b = cpu_new();
	char text[4096], tiny[10] = "";

	CHECK_EQ(a->rip, 0xfff0);
	CHECK_EQ(a->seg[CS].base, 0xffff0000);
	CHECK_EQ(a->cr0, 0x60000010);
	CHECK(a->gpr[RDX] != 0);
	CHECK(!cpu_diff(a, b, 0, text, sizeof(text)));
	a->gpr[R9] = 5;
	CHECK(cpu_diff(a, b, 0, text, sizeof(text)) && strstr(text, "r9"));
	cpu_copy_state(b, a);
	CHECK(!cpu_diff(a, b, 0, text, sizeof(text)));
	a->rflags |= EF_AF;
	CHECK(cpu_diff(a, b, 0, text, sizeof(text)));
	CHECK(!cpu_diff(a, b, EF_AF, text, sizeof(text)));
	a->rflags = b->rflags;
	a->fpu[FPU_XMM + 16 * 5] = 1;
	CHECK(cpu_diff(a, b, 0, text, sizeof(text)) && strstr(text, "xmm5"));
	cpu_copy_state(b, a);
	a->seg[GS].base = 1;
	CHECK(cpu_diff(a, b, 0, text, sizeof(text)) && strstr(text, "gs"));
	cpu_copy_state(b, a);
	a->mtrr.fixed[3] = 6;
	CHECK(cpu_diff(a, b, 0, text, sizeof(text)));
	cpu_dump(a, text, sizeof(text));
	CHECK(strstr(text, "real mode") && strstr(text, "xmm5"));
	cpu_dump(a, tiny, sizeof(tiny));
	CHECK_EQ(strlen(tiny), sizeof(tiny) - 1);
	/* INIT keeps what RESET does not. */
	a->lstar = 77;
	a->cr0 &= ~(uint64_t)CR0_CD;
	a->cr0 |= CR0_PE;
	a->cr4 = CR4_PAE;
	cpu_reset(a, true);
	CHECK_EQ(a->lstar, 77);
	CHECK_EQ(a->mtrr.fixed[3], 6);
	CHECK_EQ(a->cr0, CR0_NW | CR0_ET);
	CHECK_EQ(a->cr4, 0);
	CHECK_EQ(a->fpu[FPU_XMM + 16 * 5], 1);
	cpu_reset(a, false);
	CHECK_EQ(a->lstar, 0);
	CHECK_EQ(a->mtrr.fixed[3], 0);
	CHECK_EQ(a->fpu[FPU_XMM + 16 * 5], 0);
	cpu_delete(a);
	cpu_delete(b);
}

int main(void)
{
	if (cpuid_build(&table, 2) || memory_init(&memory, 1 << 20))
		return 1;
	test_msrs();
	table.amd = !table.amd; /* the other vendor's rows */
	test_msrs();
	table.amd = !table.amd;
	test_time();
	test_long_mode();
	test_pae();
	test_debug();
	test_flags();
	test_xsetbv();
	test_life();
	memory_free(&memory);
	return report();
}
