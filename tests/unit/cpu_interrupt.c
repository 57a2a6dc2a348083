/*
 * Delivery of exceptions and interrupts: frames in real, protected, virtual-8086 and long mode, IST,
 * gate checks and their error codes, double and triple faults, INT n, restart when a stack is I/O.
 */
#include "cpu_fixture.h"

static void test_real(void)
{
	struct guest *g = guest_new();
	struct cpu *cpu = &g->cpu;

	put(g, 0x21 * 4, 0x12345678, 4);
	segment_set_real(cpu, CS, 0x100);
	cpu->rflags |= RFLAGS_IF | RFLAGS_TF | EF_CF;
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x21, 0x42));
	CHECK(cpu->rip == 0x5678 && cpu->seg[CS].selector == 0x1234 && cpu->seg[CS].base == 0x12340);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 6);
	CHECK_EQ(get(g, STACK0 - 6, 2), 0x42);
	CHECK_EQ(get(g, STACK0 - 4, 2), 0x100);
	CHECK_EQ(get(g, STACK0 - 2, 2), 0x303);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | EF_CF);
	CHECK_OK(transfer_iret(cpu, 2, 0));
	CHECK(cpu->rip == 0x42 && cpu->seg[CS].selector == 0x100 && cpu->gpr[RSP] == STACK0);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | EF_CF | RFLAGS_IF | RFLAGS_TF);

	put(g, VEC_UD * 4, 0x00500060, 4); /* exceptions push no error code */
	cpu->rflags = RFLAGS_FIXED;
	cpu_raise_error(cpu, VEC_UD, 5);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 6);

	cpu->idtr.limit = 8 * 4 + 3; /* up to #DF: #GP has no vector */
	put(g, VEC_DF * 4, 0x00700000, 4);
	cpu_raise(cpu, VEC_GP);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->seg[CS].selector, 0x70);
	cpu->idtr.limit = 3;
	cpu_raise(cpu, VEC_UD);
	CHECK(cpu_deliver_fault(cpu) == X_EXIT && cpu->exit.reason == EXIT_SHUTDOWN);
	guest_free(g);
}

static void test_protected(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	idt_set(g, VEC_PF, gate(SEL_CODE0, 0x00123456, TYPE_INT32, 0, 0));
	idt_set(g, 0x80, gate(SEL_CODE0, 0x00400000, TYPE_TRAP32, 3, 0));
	cpu->rflags |= RFLAGS_IF | RFLAGS_NT;
	cpu->sti_shadow = true;
	cpu_raise_page_fault(cpu, 0xdead, 2);
	CHECK_OK(cpu_deliver_fault(cpu)); /* same ring */
	CHECK_EQ(cpu->cr2, 0xdead);
	CHECK_EQ(cpu->rip, 0x123456);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 16);
	CHECK_EQ(get(g, STACK0 - 16, 4), 2);
	CHECK_EQ(get(g, STACK0 - 12, 4), CODE);
	CHECK_EQ(get(g, STACK0 - 8, 4), SEL_CODE0);
	CHECK_EQ(get(g, STACK0 - 4, 4), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_NT | RFLAGS_RF);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED);
	CHECK(!cpu->sti_shadow);

	set_ring(g, 3);
	cpu->rflags = RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF;
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE + 2)); /* to the inner ring */
	CHECK_EQ(cpu->cpl, 0);
	CHECK_EQ(cpu->seg[SS].selector, SEL_DATA0);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 20);
	CHECK_EQ(get(g, STACK0 - 20, 4), CODE + 2);
	CHECK_EQ(get(g, STACK0 - 16, 4), SEL_CODE3);
	CHECK_EQ(get(g, STACK0 - 12, 4), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF);
	CHECK_EQ(get(g, STACK0 - 8, 4), STACK3);
	CHECK_EQ(get(g, STACK0 - 4, 4), SEL_DATA3);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_IF); /* a trap gate */
	CHECK_OK(transfer_iret(cpu, 4, 0));
	CHECK(cpu->cpl == 3 && cpu->rip == CODE + 2 && cpu->gpr[RSP] == STACK3);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF);

	idt_set(g, 0x81, gate(SEL_CODE0, 0x11118888, TYPE_INT16, 3, 0)); /* 16-bit gate: 16-bit frame and offset */
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x81, CODE + 2));
	CHECK_EQ(cpu->rip, 0x8888);
	CHECK_EQ(cpu->gpr[RSP], STACK0 - 10);
	guest_free(g);
}

static void test_gate_errors(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	struct event ext = {.type = EVENT_EXTERNAL, .vector = 0x40, .rip = CODE};

	cpu->idtr.limit = 0x41 * 8 + 6;
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x41, 0), VEC_GP, 0x41 * 8 + 2);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x40, 0), VEC_GP, 0x40 * 8 + 2); /* no gate */
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_GP, 0x40 * 8 + 3);
	idt_set(g, 0x40, gate(SEL_CODE0, CODE, TYPE_INT32, 0, 0) & ~((uint64_t)SEG_P << 40));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_NP, 0x40 * 8 + 3);
	set_ring(g, 3);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x40, 0), VEC_GP, 0x40 * 8 + 2); /* DPL before P */
	idt_set(g, 0x40, gate(SEL_CODE0, CODE, TYPE_INT32, 0, 0));
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_EXCEPTION, 0x40, 0), VEC_GP, 0x40 * 8 + 2);
	CHECK_EQ(cpu->cpl, 3);
	idt_set(g, 0x40, gate(0, CODE, TYPE_INT32, 0, 0));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_GP, 1);
	idt_set(g, 0x40, gate(SEL_DATA0, CODE, TYPE_INT32, 0, 0));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_GP, SEL_DATA0 | 1);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfff, SEG_S | SEG_CODE));
	idt_set(g, 0x40, gate(SEL_FREE, CODE, TYPE_INT32, 0, 0));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_NP, SEL_FREE | 1);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfff, A_CODE));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_GP, 1); /* offset beyond the limit */
	idt_set(g, 0x40, gate(SEL_CODE0, CODE, TYPE_INT32, 0, 0));
	put(g, TSS + 8, 0, 2);
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_TS, 1);
	put(g, TSS + 8, SEL_DATA3, 2);
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_TS, (SEL_DATA3 & ~3) | 1);
	put(g, TSS + 8, 0x100, 2);
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_TS, 0x101);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfff, SEG_S | SEG_WRITABLE));
	put(g, TSS + 8, SEL_FREE, 2);
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_SS, SEL_FREE | 1);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfff, A_DATA | SEG_DB));
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_SS, SEL_FREE | 1); /* no room */
	cpu->tr.limit = 8;
	CHECK_FAULT(interrupt_deliver(cpu, &ext), VEC_TS, SEL_TSS | 1);
	CHECK_EQ(cpu->cpl, 3);
	CHECK_EQ(cpu->gpr[RSP], STACK3);
	guest_free(g);
}

static void test_double_faults(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	idt_set(g, VEC_DF, gate(SEL_CODE0, 0x5000, TYPE_INT32, 0, 0));
	idt_set(g, VEC_GP, gate(SEL_CODE0, 0x6000, TYPE_INT32, 0, 0));
	idt_set(g, VEC_NP, gate(SEL_CODE0, 0x7000, TYPE_INT32, 0, 0));
	cpu_raise_page_fault(cpu, 0x1234, 0); /* no gate: #GP in the delivery of #PF */
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->rip, 0x5000);
	CHECK_EQ(get(g, cpu->gpr[RSP], 4), 0);
	CHECK_EQ(cpu->cr2, 0x1234);
	CHECK_EQ(cpu->faults_delivered[VEC_DF], 1);

	set_ring(g, 0);
	cpu_raise(cpu, VEC_UD); /* benign: what its delivery raises is served next */
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->rip, 0x6000);
	CHECK_EQ(get(g, cpu->gpr[RSP], 4), VEC_UD * 8 + 3);
	set_ring(g, 0);
	CHECK_OK(cpu_deliver_event(cpu, EVENT_EXTERNAL, 0x30));
	CHECK_EQ(cpu->rip, 0x6000);
	CHECK_EQ(get(g, cpu->gpr[RSP], 4), 0x30 * 8 + 3);
	set_ring(g, 0);
	idt_set(g, VEC_DE, gate(SEL_CODE0, 0x5000, TYPE_INT32, 0, 0) & ~((uint64_t)SEG_P << 40));
	cpu_raise(cpu, VEC_DE); /* contributory twice */
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->rip, 0x5000);
	set_ring(g, 0);
	CHECK_OK(cpu_deliver_event(cpu, EVENT_EXTERNAL, VEC_DE)); /* an interrupt of that number is benign */
	CHECK_EQ(cpu->rip, 0x7000);

	set_ring(g, 0);
	idt_set(g, VEC_DF, 0);
	idt_set(g, VEC_GP, 0);
	cpu_raise_error(cpu, VEC_GP, 0);
	CHECK(cpu_deliver_fault(cpu) == X_EXIT);
	CHECK(cpu->exit.reason == EXIT_SHUTDOWN);
	CHECK_EQ(cpu->rip, CODE);
	guest_free(g);
}

static void test_v8086(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	static const uint16_t value[SREG_COUNT] = {
		[ES] = 0x10, [CS] = 0x2000, [SS] = 0x900, [DS] = 0x30, [FS] = 0x40, [GS] = 0x50};
	uint32_t top = STACK0;

	/* in by IRET */
	cpu->gpr[RSP] = STACK0 - 36;
	put(g, STACK0 - 36, 0x1234, 4);
	put(g, STACK0 - 32, value[CS], 4);
	put(g, STACK0 - 28, RFLAGS_VM | RFLAGS_IOPL | RFLAGS_IF | 2, 4);
	put(g, STACK0 - 24, 0x800, 4);
	put(g, STACK0 - 20, value[SS], 4);
	put(g, STACK0 - 16, value[ES], 4);
	put(g, STACK0 - 12, value[DS], 4);
	put(g, STACK0 - 8, value[FS], 4);
	put(g, STACK0 - 4, value[GS], 4);
	CHECK_OK(transfer_iret(cpu, 4, 0));
	CHECK(cpu->mode == MODE_V8086 && cpu->cpl == 3 && cpu->rip == 0x1234 && cpu->gpr[RSP] == 0x800);
	for (unsigned s = 0; s < SREG_COUNT; s++)
		CHECK(cpu->seg[s].selector == value[s] && cpu->seg[s].base == value[s] * 16u &&
		      cpu->seg[s].limit == 0xffff);

	/* out by an exception, and by INT n at IOPL 3 */
	idt_set(g, VEC_GP, gate(SEL_CODE0, 0x6000, TYPE_INT32, 0, 0));
	idt_set(g, 0x21, gate(SEL_CODE0, 0x7000, TYPE_INT32, 3, 0));
	cpu_raise_error(cpu, VEC_GP, 0);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK(cpu->mode == MODE_PROTECTED && cpu->cpl == 0 && cpu->rip == 0x6000);
	CHECK_EQ(cpu->gpr[RSP], top - 40);
	CHECK_EQ(get(g, top - 40, 4), 0);
	CHECK_EQ(get(g, top - 36, 4), 0x1234);
	CHECK_EQ(get(g, top - 28, 4), RFLAGS_VM | RFLAGS_IOPL | RFLAGS_IF | RFLAGS_RF | 2);
	CHECK_EQ(get(g, top - 16, 4), value[ES]);
	CHECK_EQ(get(g, top - 4, 4), value[GS]);
	CHECK(cpu->seg[DS].selector == 0 && !(cpu->seg[GS].attr & SEG_P));
	cpu->gpr[RSP] += 4;
	CHECK_OK(transfer_iret(cpu, 4, 0));
	CHECK(cpu->mode == MODE_V8086 && (cpu->rflags & RFLAGS_RF));
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x21, 0x1236));
	CHECK(cpu->rip == 0x7000 && get(g, top - 36, 4) == 0x1236);
	CHECK_OK(transfer_iret(cpu, 4, 0));
	CHECK_EQ(cpu->gpr[RSP], 0x800);

	/* IOPL < 3: #GP(0), unless VME redirects */
	cpu->rflags &= ~(uint64_t)RFLAGS_IOPL;
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x21, 0x1236), VEC_GP, 0);
	CHECK_FAULT(transfer_iret(cpu, 2, 0), VEC_GP, 0);
	cpu->cr4 |= CR4_VME;
	cpu->tr.limit = 0x67 + 40;
	put(g, TSS + 102, 104 + 32, 2);
	put(g, TSS + 104, ~0ull, 8);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x21, 0x1236), VEC_GP, 0);
	put(g, TSS + 104 + 4, 0xfd, 1); /* 0x21's bit is clear */
	put(g, 0x21 * 4, 0x01000200, 4);
	cpu->rflags |= RFLAGS_VIF | RFLAGS_TF;
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x21, 0x1236));
	CHECK(cpu->mode == MODE_V8086 && cpu->rip == 0x200 && cpu->seg[CS].base == 0x1000);
	CHECK_EQ(cpu->gpr[RSP], 0x7fa);
	CHECK_EQ(get(g, 0x9000 + 0x7fe, 2) & (RFLAGS_IF | RFLAGS_IOPL | RFLAGS_TF),
		 RFLAGS_IF | RFLAGS_IOPL | RFLAGS_TF);
	CHECK(!(cpu->rflags & (RFLAGS_VIF | RFLAGS_TF)) && (cpu->rflags & RFLAGS_IF));
	put(g, 0x9000 + 0x7fe, 0x202, 2);
	CHECK_OK(transfer_iret(cpu, 2, 0));
	CHECK(cpu->rip == 0x1236 && (cpu->rflags & RFLAGS_VIF));

	/* a handler that is not in ring 0 */
	gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, A_CODE | SEG_DB | SEG_G | A_DPL(3)));
	idt_set(g, VEC_UD, gate(SEL_FREE, 0x6000, TYPE_INT32, 0, 0));
	CHECK_FAULT(interrupt_deliver(cpu, &(struct event){.type = EVENT_EXCEPTION, .vector = VEC_UD}), VEC_GP,
		    SEL_FREE | 1);
	guest_free(g);
}

static void test_long(void)
{
	struct guest *g = guest_long();
	struct cpu *cpu = &g->cpu;
	uint64_t top = STACK0;

	idt_set(g, VEC_PF, gate(SEL_CODE0, 0x30000, TYPE_INT32, 0, 0));
	put(g, IDT + VEC_PF * 16 + 8, 0xffff8000, 4); /* upper half of the offset */
	cpu->gpr[RSP] = STACK0 - 5;
	cpu_raise_page_fault(cpu, 0x1122334455, 4);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->rip, 0xffff800000030000);
	top = STACK0 - 16;
	CHECK_EQ(cpu->gpr[RSP], top - 48);
	CHECK_EQ(get(g, top - 48, 8), 4);
	CHECK_EQ(get(g, top - 40, 8), CODE);
	CHECK_EQ(get(g, top - 32, 8), SEL_CODE0);
	CHECK_EQ(get(g, top - 24, 8), RFLAGS_FIXED | RFLAGS_RF);
	CHECK_EQ(get(g, top - 16, 8), STACK0 - 5);
	CHECK_EQ(get(g, top - 8, 8), SEL_DATA0);
	CHECK_EQ(cpu->seg[SS].selector, SEL_DATA0); /* same ring: SS stays */
	cpu->gpr[RSP] += 8;
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(cpu->rip == CODE && cpu->gpr[RSP] == STACK0 - 5);

	/* from ring 3: RSP0, null SS; IST; NMI */
	top = STACK0;
	idt_set(g, 0x80, gate(SEL_CODE0, 0x40000, TYPE_INT32, 3, 0));
	set_ring3_long(g);
	cpu->rflags |= RFLAGS_IF;
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE + 2));
	CHECK(cpu->cpl == 0 && cpu->seg[SS].selector == 0 && cpu->gpr[RSP] == top - 40 && !(cpu->rflags & RFLAGS_IF));
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(cpu->cpl == 3 && cpu->seg[SS].selector == SEL_DATA3 && cpu->seg[CS].selector == SEL_CODE64_3);
	CHECK(cpu->gpr[RSP] == STACK3 && (cpu->rflags & RFLAGS_IF));
	idt_set(g, VEC_NMI, gate(SEL_CODE0, 0x40000, TYPE_INT32, 0, 3));
	put(g, TSS + 36 + 16, 0xc008, 8);
	cpu->nmi_pending = true;
	CHECK_OK(cpu_deliver_event(cpu, EVENT_NMI, VEC_NMI));
	CHECK(cpu->nmi_blocked && !cpu->nmi_pending);
	CHECK_EQ(cpu->gpr[RSP], 0xc000 - 40);
	CHECK_OK(transfer_iret(cpu, 8, 0));
	CHECK(!cpu->nmi_blocked && cpu->cpl == 3);

	/* errors */
	put(g, TSS + 4, 1ull << 47, 8);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_SS, 0);
	put(g, TSS + 4, STACK0, 8);
	idt_set(g, 0x80, gate(SEL_CODE0, 0x40000, TYPE_INT16, 3, 0));
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_GP, 0x80 * 8 + 2);
	gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, A_CODE | SEG_DB | SEG_G));
	idt_set(g, 0x80, gate(SEL_FREE, 0x40000, TYPE_INT32, 3, 0)); /* not 64-bit code */
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_GP, SEL_FREE);
	idt_set(g, 0x80, gate(SEL_CODE0, 0x40000, TYPE_INT32, 3, 0));
	put(g, IDT + 0x80 * 16 + 8, 0x8000, 8);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_GP, 0);
	cpu->tr.limit = 10;
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_TS, SEL_TSS);

	/* SMAP: a kernel stack on a user page */
	cpu->tr.limit = 0x67;
	put(g, IDT + 0x80 * 16 + 8, 0, 8);
	cpu->cr4 |= CR4_SMAP;
	cpu_update_mode(cpu);
	mmu_flush(cpu, true);
	put(g, TABLES + 0x2000, 0x83, 8); /* tables and stack: supervisor */
	CHECK_OK(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE));
	set_ring3_long(g);
	put(g, TABLES + 0x2000 + 8, 0x200000 | 0x87, 8);
	put(g, TSS + 4, 0x201000, 8);
	CHECK_FAULT(transfer_int(cpu, EVENT_SOFT_INT, 0x80, CODE), VEC_PF, PF_PRESENT | PF_WRITE);
	guest_free(g);
}

static void test_debug(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	idt_set(g, VEC_DB, gate(SEL_CODE0, 0x5000, TYPE_INT32, 0, 0));
	cpu->dr[6] = 0xffff0ff5;
	cpu->dr[7] = 1 << 13 | 0x400;
	cpu_raise_debug(cpu, 1 << 14 | 2);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK_EQ(cpu->dr[6], 0xffff4ff2);
	CHECK_EQ(cpu->dr[7], 0x400);
	CHECK_EQ(get(g, STACK0 - 4, 4), RFLAGS_FIXED); /* RF is the handler's business */
	guest_free(g);
}

/* A stack in I/O memory: the frame goes out piece by piece, and nothing is committed before. */
static void test_mmio_stack(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	unsigned pieces = 0;

	idt_set(g, VEC_GP, gate(SEL_CODE0, 0x6000, TYPE_INT32, 0, 0));
	cpu->gpr[RSP] = 0xfee00100;
	cpu_raise_error(cpu, VEC_GP, 0x44);
	while (cpu_deliver_fault(cpu) == X_EXIT) {
		CHECK(cpu->exit.reason == EXIT_MMIO && cpu->exit.io.write);
		CHECK(cpu->rip == CODE && cpu->gpr[RSP] == 0xfee00100 && cpu->fault.error == 0x44);
		CHECK_EQ(cpu->exit.io.addr, 0xfee000fc - 4 * pieces);
		cpu->io.access[cpu->io.count++] = cpu->exit.io;
		if (++pieces > 4)
			break;
	}
	CHECK_EQ(pieces, 4);
	CHECK_EQ(cpu->rip, 0x6000);
	CHECK_EQ(cpu->gpr[RSP], 0xfee000f0);
	CHECK_EQ(cpu->io.count, 0);
	guest_free(g);
}

int main(void)
{
	test_real();
	test_protected();
	test_gate_errors();
	test_double_faults();
	test_v8086();
	test_long();
	test_debug();
	test_mmio_stack();
	return report();
}
