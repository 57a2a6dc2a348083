/*
 * Far JMP, CALL and RET with and without call gates, IRET, SYSCALL and SYSENTER and their returns,
 * the I/O permission map.
 */
#include "cpu_fixture.h"

static void test_real(void)
{
	struct guest *g = guest_new();
	struct cpu *cpu = &g->cpu;

	CHECK_OK(transfer_far_call(cpu, 0x1000, 0x12345678, 2, 0x33));
	CHECK(cpu->rip == 0x5678 && cpu->seg[CS].base == 0x10000 && cpu->gpr[RSP] == STACK0 - 4);
	CHECK_OK(transfer_far_ret(cpu, 2, 6));
	CHECK(cpu->rip == 0x33 && cpu->seg[CS].selector == 0 && cpu->gpr[RSP] == STACK0 + 6);
	CHECK_FAULT(transfer_far_jmp(cpu, 0x1000, 0x10000, 4, 0), VEC_GP, 0);
	CHECK_EQ(cpu->seg[CS].selector, 0);
	cpu->gpr[RSP] = 0x12340001; /* SP = 1: the push would cross the end */
	CHECK_FAULT(transfer_far_call(cpu, 0x1000, 0, 2, 0x33), VEC_SS, 0);
	cpu->gpr[RSP] = 0x12340000; /* SP = 0 wraps */
	CHECK_OK(transfer_far_call(cpu, 0x1000, 0, 2, 0x33));
	CHECK_EQ(cpu->gpr[RSP], 0x1234fffc);
	guest_free(g);
}

static void test_direct(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	gdt_set(g, SEL_FREE, descriptor(0x1000, 0xff, A_CODE | SEG_DB));
	CHECK_OK(transfer_far_jmp(cpu, SEL_FREE, 0xff, 4, 0));
	CHECK(cpu->rip == 0xff && cpu->seg[CS].base == 0x1000 && cpu->seg[CS].selector == SEL_FREE);
	CHECK(gdt_get(g, SEL_FREE) >> 40 & SEG_ACCESSED);
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_FREE, 0x100, 4, 0), VEC_GP, 0);
	CHECK_OK(transfer_far_jmp(cpu, SEL_FREE, 0x10020, 2, 0));
	CHECK_EQ(cpu->rip, 0x20);
	CHECK_FAULT(transfer_far_jmp(cpu, 0, 0, 4, 0), VEC_GP, 0);
	CHECK_FAULT(transfer_far_jmp(cpu, 0x100, 0, 4, 0), VEC_GP, 0x100);
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_DATA0, 0, 4, 0), VEC_GP, SEL_DATA0);
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_CODE3, 0, 4, 0), VEC_GP, SEL_CODE3 & ~3);
	gdt_set(g, SEL_FREE, descriptor(0, 0xff, SEG_S | SEG_CODE));
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_FREE, 0, 4, 0), VEC_NP, SEL_FREE);
	CHECK_OK(transfer_far_call(cpu, SEL_CODE0, 0x7000, 4, 0x1234));
	CHECK_EQ(get(g, STACK0 - 8, 4), 0x1234);
	CHECK_EQ(get(g, STACK0 - 4, 4), SEL_FREE);
	set_ring(g, 3);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, A_CODE | SEG_DB | SEG_G | SEG_CONFORMING));
	CHECK_OK(transfer_far_call(cpu, SEL_FREE, 0x100, 4, CODE + 7)); /* conforming: CPL stays */
	CHECK(cpu->cpl == 3 && cpu->seg[CS].selector == (SEL_FREE | 3));
	CHECK_OK(transfer_far_ret(cpu, 4, 0));
	CHECK(cpu->cpl == 3 && cpu->rip == CODE + 7 && cpu->gpr[RSP] == STACK3);
	guest_free(g);
}

static void test_call_gate(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x00050000, TYPE_CALL32, 3, 2)); /* two parameters */
	set_ring(g, 3);
	cpu->gpr[RSP] = STACK3 - 8;
	put(g, STACK3 - 8, 0x1111, 4);
	put(g, STACK3 - 4, 0x2222, 4);
	CHECK_OK(transfer_far_call(cpu, SEL_FREE | 3, 0x999, 4, CODE + 7));
	CHECK(cpu->cpl == 0 && cpu->rip == 0x50000 && cpu->seg[CS].selector == SEL_CODE0);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 24);
	CHECK_EQ(get(g, STACK0 - 24, 4), CODE + 7);
	CHECK_EQ(get(g, STACK0 - 20, 4), SEL_CODE3);
	CHECK_EQ(get(g, STACK0 - 16, 4), 0x1111);
	CHECK_EQ(get(g, STACK0 - 12, 4), 0x2222);
	CHECK_EQ(get(g, STACK0 - 8, 4), STACK3 - 8);
	CHECK_EQ(get(g, STACK0 - 4, 4), SEL_DATA3);
	cpu->seg[DS] = segment_of(SEL_DATA0, gdt_get(g, SEL_DATA0));
	CHECK_OK(transfer_far_ret(cpu, 4, 8));
	CHECK(cpu->cpl == 3 && cpu->rip == CODE + 7 && cpu->gpr[RSP] == STACK3);
	CHECK(cpu->seg[DS].selector == 0 && !(cpu->seg[DS].attr & SEG_P)); /* ring 0 data is gone */
	CHECK_EQ(cpu->seg[ES].selector, SEL_DATA3);

	CHECK_FAULT(transfer_far_jmp(cpu, SEL_FREE | 3, 0, 4, 0), VEC_GP, SEL_CODE0); /* JMP does not go inward */
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x50000, TYPE_CALL32, 2, 0));
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 4, 0), VEC_GP, SEL_FREE);
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x50000, TYPE_CALL32, 3, 0) & ~((uint64_t)SEG_P << 40));
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 4, 0), VEC_NP, SEL_FREE);
	gdt_set(g, SEL_FREE, gate(0, 0x50000, TYPE_CALL32, 3, 0));
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 4, 0), VEC_GP, 0);
	gdt_set(g, SEL_FREE, gate(SEL_DATA0, 0x50000, TYPE_CALL32, 3, 0));
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 4, 0), VEC_GP, SEL_DATA0);
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x50000, TYPE_CALL32, 3, 0));
	put(g, TSS + 8, 0, 2);
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 4, 0), VEC_TS, 0);
	put(g, TSS + 8, SEL_DATA0, 2);
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0xffff5000, TYPE_CALL16, 3, 0));
	CHECK_OK(transfer_far_call(cpu, SEL_FREE, 0, 4, CODE + 7));
	CHECK(cpu->rip == 0x5000 && cpu->gpr[RSP] == STACK0 - 8);
	CHECK_OK(transfer_far_call(cpu, SEL_FREE, 0, 4, 0x1122)); /* same ring */
	CHECK(cpu->rip == 0x5000 && cpu->gpr[RSP] == STACK0 - 12);
	guest_free(g);
}

static void test_far_ret_errors(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	uint32_t sp = STACK0 - 16;

	cpu->gpr[RSP] = sp;
	put(g, sp, 0x1000, 4);
	put(g, sp + 4, 0, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, 0);
	put(g, sp + 4, SEL_CODE3 & ~3, 4); /* DPL is not RPL */
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, SEL_CODE3 & ~3);
	put(g, sp + 4, SEL_DATA0, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, SEL_DATA0);
	put(g, sp + 4, SEL_CODE3, 4);
	put(g, sp + 8, STACK3, 4);
	put(g, sp + 12, 0, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, 0);
	put(g, sp + 12, SEL_DATA0, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, SEL_DATA0);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, SEG_S | SEG_WRITABLE | A_DPL(3)));
	put(g, sp + 12, SEL_FREE | 3, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_SS, SEL_FREE);
	CHECK(cpu->cpl == 0 && cpu->gpr[RSP] == sp && cpu->rip == CODE);
	set_ring(g, 3);
	cpu->gpr[RSP] = sp;
	put(g, sp + 4, SEL_CODE0, 4);
	CHECK_FAULT(transfer_far_ret(cpu, 4, 0), VEC_GP, SEL_CODE0); /* inward */
	guest_free(g);
}

static void test_long(void)
{
	struct guest *g = guest_long();
	struct cpu *cpu = &g->cpu;
	uint32_t sp = STACK0 - 40;

	/* 64-bit call gate from ring 3 */
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x1000, TYPE_CALL32, 3, 0));
	put(g, GDT + SEL_FREE + 8, 0xffff8000, 8);
	set_ring3_long(g);
	CHECK_OK(transfer_far_call(cpu, SEL_FREE, 0, 8, CODE + 7));
	CHECK(cpu->cpl == 0 && cpu->rip == 0xffff800000001000 && cpu->seg[SS].selector == 0);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 32);
	CHECK_EQ(get(g, STACK0 - 32, 8), CODE + 7);
	CHECK_EQ(get(g, STACK0 - 8, 8), SEL_DATA3);
	CHECK_OK(transfer_far_ret(cpu, 8, 0));
	CHECK(cpu->cpl == 3 && cpu->rip == CODE + 7 && cpu->gpr[RSP] == STACK3 && cpu->mode == MODE_LONG);
	put(g, GDT + SEL_FREE + 8, 0xffff8000 | 1ull << 40, 8);
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 8, CODE + 7), VEC_GP, SEL_FREE);
	gdt_set(g, SEL_FREE, gate(SEL_TSS, 0, TYPE_TASK_GATE, 3, 0));
	CHECK_FAULT(transfer_far_call(cpu, SEL_FREE, 0, 8, CODE + 7), VEC_GP, SEL_FREE);

	/* to compatibility mode and back by IRET */
	set_ring(g, 0);
	cpu->gpr[RSP] = sp;
	put(g, sp, 0x12345678, 8);
	put(g, sp + 8, SEL_CODE3, 8);
	put(g, sp + 16, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_VM, 8);
	put(g, sp + 24, 0x8000, 8);
	put(g, sp + 32, SEL_DATA3, 8);
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(cpu->mode == MODE_COMPAT && cpu->cpl == 3 && cpu->rip == 0x12345678 && cpu->gpr[RSP] == 0x8000);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_IF);

	set_ring(g, 0);
	cpu->seg[FS].base = 0x123456789000;
	cpu->seg[FS].selector = 3;
	cpu->seg[FS].attr = 0;
	cpu->gpr[RSP] = sp;
	put(g, sp + 8, SEL_CODE64_3, 8);
	put(g, sp, 1ull << 47, 8);
	CHECK_FAULT(transfer_iret(cpu, 8, 0), VEC_GP, 0); /* not canonical: in ring 0 still */
	put(g, sp, CODE, 8);
	cpu->rflags |= RFLAGS_NT;
	CHECK_FAULT(transfer_iret(cpu, 8, 0), VEC_GP, 0);
	cpu->rflags = RFLAGS_FIXED;
	put(g, sp + 32, 0, 8);
	CHECK_FAULT(transfer_iret(cpu, 8, 0), VEC_GP, 0); /* null SS for ring 3 */
	put(g, sp + 32, SEL_DATA3, 8);
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(cpu->seg[FS].base == 0x123456789000 && cpu->seg[FS].selector == 0);

	set_ring(g, 0); /* same ring: SS:RSP come from the frame, and null is allowed */
	cpu->gpr[RSP] = sp;
	put(g, sp + 8, SEL_CODE0, 8);
	put(g, sp + 32, 0, 8);
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(cpu->cpl == 0 && cpu->gpr[RSP] == 0x8000 && cpu->seg[SS].selector == 0);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, A_CODE | SEG_L | SEG_DB));
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_FREE, 0, 8, 0), VEC_GP, SEL_FREE);
	guest_free(g);
}

static void test_iret_flags(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	uint32_t sp = STACK3 - 12;

	set_ring(g, 3);
	cpu->rflags = RFLAGS_FIXED | RFLAGS_IF;
	cpu->gpr[RSP] = sp;
	put(g, sp, CODE, 4);
	put(g, sp + 4, SEL_CODE3, 4);
	put(g, sp + 8, 0x3f7fd7 & ~(RFLAGS_IF | RFLAGS_NT), 4); /* ring 3: IF, IOPL, VM, VIF, VIP stay */
	CHECK_OK(transfer_iret(cpu, 4, 0));
	CHECK_EQ(cpu->rflags, (0xfd7 & ~RFLAGS_IF) | RFLAGS_IF | RFLAGS_RF | RFLAGS_AC | RFLAGS_ID);
	cpu->rflags = RFLAGS_FIXED | RFLAGS_AC | RFLAGS_ID;
	cpu->gpr[RSP] = STACK3 - 6;
	put(g, STACK3 - 6, 0x1234, 2);
	put(g, STACK3 - 4, SEL_CODE3, 2);
	put(g, STACK3 - 2, EF_CF, 2);
	CHECK_OK(transfer_iret(cpu, 2, 0)); /* 16 bits: the upper flags stay */
	CHECK(cpu->rflags == (RFLAGS_FIXED | RFLAGS_AC | RFLAGS_ID | EF_CF) && cpu->rip == 0x1234);
	guest_free(g);
}

static void test_syscall(void)
{
	struct guest *g = guest_long();
	struct cpu *cpu = &g->cpu;

	cpu->star = (uint64_t)0x1b << 48 | (uint64_t)0x10 << 32;
	cpu->lstar = 0xffffffff81000000;
	cpu->sfmask = RFLAGS_IF | RFLAGS_TF | RFLAGS_AC;
	set_ring3_long(g);
	cpu->rflags = RFLAGS_FIXED | RFLAGS_IF | EF_CF;
	CHECK_FAULT(transfer_syscall(cpu, CODE + 2), VEC_UD, -1);
	cpu->efer |= EFER_SCE;
	CHECK_OK(transfer_syscall(cpu, CODE + 2));
	CHECK(cpu->cpl == 0 && cpu->mode == MODE_LONG && cpu->rip == cpu->lstar && cpu->gpr[RCX] == CODE + 2);
	CHECK(cpu->seg[CS].selector == 0x10 && cpu->seg[SS].selector == 0x18);
	CHECK_EQ(cpu->gpr[R11], RFLAGS_FIXED | RFLAGS_IF | EF_CF);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | EF_CF);
	cpu->gpr[RCX] = 1ull << 47;
	CHECK_FAULT(transfer_sysret(cpu, 8), VEC_GP, 0);
	g->cpuid.amd = true;
	CHECK_OK(transfer_sysret(cpu, 8)); /* AMD faults at the target */
	CHECK(cpu->cpl == 3 && cpu->rip == 1ull << 47 && cpu->seg[CS].selector == 0x2b &&
	      cpu->seg[SS].selector == 0x23);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_IF | EF_CF);
	CHECK_FAULT(transfer_sysret(cpu, 8), VEC_GP, 0);
	CHECK_FAULT(transfer_sysenter(cpu), VEC_UD, -1);
	g->cpuid.amd = false;
	CHECK_FAULT(transfer_sysenter(cpu), VEC_GP, 0);
	cpu->sysenter_cs = 0x10;
	cpu->sysenter_esp = 0xffff800000001000;
	cpu->sysenter_eip = 0xffff800000002000;
	CHECK_OK(transfer_sysenter(cpu));
	CHECK(cpu->cpl == 0 && cpu->rip == cpu->sysenter_eip && cpu->gpr[RSP] == cpu->sysenter_esp);
	cpu->gpr[RDX] = CODE;
	cpu->gpr[RCX] = STACK3;
	CHECK_OK(transfer_sysexit(cpu, 4));
	CHECK(cpu->cpl == 3 && cpu->mode == MODE_COMPAT && cpu->seg[CS].selector == 0x23 &&
	      cpu->seg[SS].selector == 0x2b);
	CHECK_FAULT(transfer_syscall(cpu, CODE + 2), VEC_UD, -1); /* Intel: 64-bit mode only */
	g->cpuid.amd = true;
	cpu->cstar = 0xffffffff82000000;
	CHECK_OK(transfer_syscall(cpu, CODE + 2));
	CHECK(cpu->rip == cpu->cstar && cpu->mode == MODE_LONG);
	CHECK_OK(transfer_sysret(cpu, 4));
	CHECK(cpu->rip == CODE + 2 && cpu->mode == MODE_COMPAT && cpu->seg[CS].selector == 0x1b);
	guest_free(g);
}

static void test_io_permission(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	put(g, TSS + 104, 0x8000fffffffffffd, 8);
	CHECK_OK(transfer_io_permission(cpu, 0x1234, 4));
	set_ring(g, 3);
	CHECK_OK(transfer_io_permission(cpu, 1, 1));
	CHECK_FAULT(transfer_io_permission(cpu, 1, 2), VEC_GP, 0);
	CHECK_OK(transfer_io_permission(cpu, 48, 4));
	CHECK_OK(transfer_io_permission(cpu, 48, 1));
	CHECK_FAULT(transfer_io_permission(cpu, 60, 4), VEC_GP, 0); /* the map ends */
	CHECK_FAULT(transfer_io_permission(cpu, 0xffff, 1), VEC_GP, 0);
	cpu->rflags |= RFLAGS_IOPL;
	CHECK_OK(transfer_io_permission(cpu, 0xffff, 1));
	cpu->rflags |= RFLAGS_VM; /* IOPL does not count there */
	cpu_update_mode(cpu);
	CHECK_FAULT(transfer_io_permission(cpu, 0xffff, 1), VEC_GP, 0);
	CHECK_OK(transfer_io_permission(cpu, 1, 1));
	guest_free(g);
}

int main(void)
{
	test_real();
	test_direct();
	test_call_gate();
	test_far_ret_errors();
	test_long();
	test_iret_flags();
	test_syscall();
	test_io_permission();
	return report();
}
