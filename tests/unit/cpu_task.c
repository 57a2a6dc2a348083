/*
 * The hardware task switch: by JMP, CALL, IRET, task gates in the GDT and the IDT, 32- and 16-bit
 * TSSs, busy bits, back link and NT, faults before and after the switch.
 */
#include "cpu_fixture.h"

static unsigned type_of(struct guest *g, uint16_t selector) { return gdt_get(g, selector) >> 40 & 0x1f; }

/* A new task in ring 3 with recognizable registers. */
static struct guest *guest_tasks(void)
{
	struct guest *g = guest_protected();

	put(g, TSS2 + 0x1c, TABLES, 4);
	put(g, TSS2 + 0x20, 0x40000, 4);
	put(g, TSS2 + 0x24, RFLAGS_FIXED | RFLAGS_IF, 4);
	for (unsigned i = 0; i < 8; i++)
		put(g, TSS2 + 0x28 + 4 * i, i == RSP ? 0xa000 : 0x100 + i, 4);
	for (unsigned s = 0; s < SREG_COUNT; s++)
		put(g, TSS2 + 0x48 + 4 * s, s == CS ? SEL_CODE3 : SEL_DATA3, 4);
	put(g, TSS2 + 0x60, SEL_LDT, 4);
	g->cpu.gpr[RBX] = 0xbbbb;
	return g;
}

static void test_call_and_iret(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	CHECK_OK(transfer_far_call(cpu, SEL_TSS2, 0, 4, CODE + 7));
	CHECK(cpu->cpl == 3 && cpu->rip == 0x40000 && cpu->gpr[RSP] == 0xa000 && cpu->gpr[RBX] == 0x103);
	CHECK(cpu->tr.selector == SEL_TSS2 && cpu->ldtr.selector == SEL_LDT && cpu->seg[GS].selector == SEL_DATA3);
	CHECK_EQ(cpu->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_NT);
	CHECK(cpu->cr0 & CR0_TS);
	CHECK_EQ(get(g, TSS2, 2), SEL_TSS);
	CHECK_EQ(get(g, TSS + 0x20, 4), CODE + 7);
	CHECK_EQ(get(g, TSS + 0x34, 4), 0xbbbb);
	CHECK_EQ(get(g, TSS + 0x4c, 4), SEL_CODE0);
	CHECK_EQ(type_of(g, SEL_TSS), TYPE_TSS32_BUSY);
	CHECK_EQ(type_of(g, SEL_TSS2), TYPE_TSS32_BUSY);

	CHECK_OK(transfer_iret(cpu, 4, 0x40001));
	CHECK(cpu->cpl == 0 && cpu->rip == CODE + 7 && cpu->gpr[RBX] == 0xbbbb && cpu->gpr[RSP] == STACK0);
	CHECK(cpu->tr.selector == SEL_TSS && !(cpu->rflags & RFLAGS_NT));
	CHECK_EQ(type_of(g, SEL_TSS), TYPE_TSS32_BUSY);
	CHECK_EQ(type_of(g, SEL_TSS2), TYPE_TSS32);
	CHECK_EQ(get(g, TSS2 + 0x20, 4), 0x40001);
	CHECK(!(get(g, TSS2 + 0x24, 4) & RFLAGS_NT));

	cpu->rflags |= RFLAGS_NT; /* the link now names nothing that is busy */
	put(g, TSS, SEL_TSS2, 2);
	CHECK_FAULT(transfer_iret(cpu, 4, 0), VEC_TS, SEL_TSS2);
	guest_free(g);
}

static void test_jmp(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	cpu->dr[7] = 0x5ff;
	put(g, TSS2 + 0x64, 1, 2); /* T */
	gdt_set(g, SEL_FREE, gate(SEL_TSS2, 0, TYPE_TASK_GATE, 0, 0));
	CHECK_OK(transfer_far_jmp(cpu, SEL_FREE, 0, 4, CODE + 7));
	CHECK(cpu->rip == 0x40000 && !(cpu->rflags & RFLAGS_NT));
	CHECK_EQ(type_of(g, SEL_TSS), TYPE_TSS32);
	CHECK_EQ(type_of(g, SEL_TSS2), TYPE_TSS32_BUSY);
	CHECK_EQ(get(g, TSS2, 2), 0);
	CHECK_EQ(cpu->dr[7], 0x4aa);
	CHECK_EQ(cpu->db_pending, 1 << 15);
	guest_free(g);
}

static void test_refused(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	CHECK_FAULT(transfer_far_jmp(cpu, SEL_TSS, 0, 4, 0), VEC_GP, SEL_TSS);       /* busy */
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_TSS2 | 3, 0, 4, 0), VEC_GP, SEL_TSS2); /* RPL > DPL */
	gdt_set(g, SEL_FREE, gate(SEL_DATA0, 0, TYPE_TASK_GATE, 0, 0));
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_FREE, 0, 4, 0), VEC_GP, SEL_DATA0);
	gdt_set(g, SEL_TSS2, descriptor(TSS2, 0x66, SEG_P | TYPE_TSS32));
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_TSS2, 0, 4, 0), VEC_TS, SEL_TSS2);
	gdt_set(g, SEL_TSS2, descriptor(TSS2, 0x67, TYPE_TSS32));
	CHECK_FAULT(transfer_far_jmp(cpu, SEL_TSS2, 0, 4, 0), VEC_NP, SEL_TSS2);
	CHECK(cpu->tr.selector == SEL_TSS && cpu->rip == CODE && type_of(g, SEL_TSS) == TYPE_TSS32_BUSY);
	guest_free(g);
}

/* Faults of the new task: everything is switched, and the exception is its own. */
static void test_new_task_faults(void)
{
	static const struct {
		unsigned at;
		uint16_t selector;
		unsigned vector, error;
	} rows[] = {
		{0x60, SEL_DATA0, VEC_TS, SEL_DATA0}, /* LDT */
		{0x4c, 0, VEC_TS, 0},                 /* CS */
		{0x4c, SEL_DATA3, VEC_TS, SEL_DATA3 & ~3},
		{0x50, 0, VEC_TS, 0}, /* SS */
		{0x50, SEL_DATA0, VEC_TS, SEL_DATA0},
		{0x54, SEL_DATA0, VEC_TS, SEL_DATA0},   /* DS */
		{0x5c, 0x100, VEC_TS, 0x100},           /* GS */
		{0x58, SEL_FREE | 3, VEC_NP, SEL_FREE}, /* FS */
	};

	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct guest *g = guest_tasks();
		struct cpu *cpu = &g->cpu;

		gdt_set(g, SEL_FREE, descriptor(0, 0xfffff, SEG_S | SEG_WRITABLE | A_DPL(3)));
		put(g, TSS2 + rows[i].at, rows[i].selector, 2);
		CHECK_FAULT(transfer_far_jmp(cpu, SEL_TSS2, 0, 4, CODE + 7), rows[i].vector, rows[i].error);
		CHECK(cpu->tr.selector == SEL_TSS2 && cpu->rip == 0x40000);
		CHECK_EQ(get(g, TSS + 0x20, 4), CODE + 7);
		guest_free(g);
	}
}

static void test_idt_gate(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	idt_set(g, VEC_GP, gate(SEL_TSS2, 0, TYPE_TASK_GATE, 0, 0));
	cpu_raise_error(cpu, VEC_GP, 0x1230);
	CHECK_OK(cpu_deliver_fault(cpu));
	CHECK(cpu->rip == 0x40000 && cpu->cpl == 3 && (cpu->rflags & RFLAGS_NT));
	CHECK_EQ(cpu->gpr[RSP], 0xa000 - 4);
	CHECK_EQ(get(g, 0xa000 - 4, 4), 0x1230);
	CHECK_EQ(get(g, TSS + 0x20, 4), CODE);
	CHECK_EQ(get(g, TSS + 0x24, 4), RFLAGS_FIXED | RFLAGS_RF);
	guest_free(g);

	g = guest_tasks();
	cpu = &g->cpu;
	idt_set(g, VEC_GP, gate(SEL_TSS, 0, TYPE_TASK_GATE, 0, 0)); /* busy */
	CHECK_FAULT(interrupt_deliver(cpu, &(struct event){.type = EVENT_EXCEPTION, .vector = VEC_GP}), VEC_GP,
		    SEL_TSS | 1);
	guest_free(g);
}

static void test_16bit(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	gdt_set(g, SEL_FREE, descriptor(TSS2 + 0x200, 0x2b, SEG_P | TYPE_TSS16));
	put(g, TSS2 + 0x20e, 0x4444, 2);
	put(g, TSS2 + 0x210, RFLAGS_FIXED, 2);
	for (unsigned i = 0; i < 8; i++)
		put(g, TSS2 + 0x212 + 2 * i, i == RSP ? 0x8800 : 0x200 + i, 2);
	put(g, TSS2 + 0x222, SEL_DATA0, 2);
	put(g, TSS2 + 0x224, SEL_CODE0, 2);
	put(g, TSS2 + 0x226, SEL_DATA0, 2);
	put(g, TSS2 + 0x228, SEL_DATA0, 2);
	put(g, TSS2 + 0x22a, 0, 2);
	CHECK_OK(transfer_far_call(cpu, SEL_FREE, 0, 4, CODE + 7));
	CHECK(cpu->rip == 0x4444 && cpu->gpr[RDI] == 0x207 && cpu->gpr[RSP] == 0x8800 && cpu->seg[FS].selector == 0);
	CHECK_EQ(type_of(g, SEL_FREE), TYPE_TSS16_BUSY);
	CHECK_EQ(get(g, TSS2 + 0x200, 2), SEL_TSS);
	cpu->gpr[RDI] = 0x12345;
	CHECK_OK(transfer_iret(cpu, 4, 0x4446));
	CHECK(cpu->rip == CODE + 7 && cpu->tr.selector == SEL_TSS);
	CHECK_EQ(get(g, TSS2 + 0x20e, 2), 0x4446);
	CHECK_EQ(get(g, TSS2 + 0x220, 2), 0x2345);
	CHECK_EQ(get(g, TSS2 + 0x22a, 2), 0);
	guest_free(g);
}

/* To virtual-8086 mode, with paging on: CR3 comes from the TSS. */
static void test_v8086_and_cr3(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	for (unsigned i = 0; i < 4; i++) {
		put(g, TABLES + 4 * i, i << 22 | 0x87, 4);
		put(g, TABLES + 0x1000 + 4 * i, i << 22 | 0x87, 4);
	}
	cpu->cr4 = CR4_PSE;
	cpu->cr3 = TABLES + 0x1000;
	cpu->cr0 |= CR0_PG;
	mmu_flush(cpu, true);
	put(g, TSS2 + 0x20, 0x40, 4);
	put(g, TSS2 + 0x24, RFLAGS_FIXED | RFLAGS_VM, 4);
	put(g, TSS2 + 0x4c, 0x4000, 2);
	CHECK_OK(transfer_far_jmp(cpu, SEL_TSS2, 0, 4, CODE + 7));
	CHECK(cpu->mode == MODE_V8086 && cpu->cpl == 3 && cpu->rip == 0x40 && cpu->seg[CS].base == 0x40000);
	CHECK_EQ(cpu->cr3, TABLES);
	guest_free(g);
}

static void test_by_selector(void)
{
	struct guest *g = guest_tasks();
	struct cpu *cpu = &g->cpu;

	CHECK_FAULT(transfer_task_switch(cpu, 0, TASK_SWITCH_JMP, CODE, false, 0), VEC_GP, 0);
	CHECK_FAULT(transfer_task_switch(cpu, SEL_TSS, TASK_SWITCH_GATE, CODE, false, 0), VEC_GP, SEL_TSS | 1);
	CHECK_FAULT(transfer_task_switch(cpu, SEL_TSS2, TASK_SWITCH_IRET, CODE, false, 0), VEC_TS, SEL_TSS2);
	CHECK_OK(transfer_task_switch(cpu, SEL_TSS2, TASK_SWITCH_CALL, CODE + 9, true, 5));
	CHECK(cpu->rip == 0x40000 && get(g, cpu->gpr[RSP], 4) == 5 && get(g, TSS + 0x20, 4) == CODE + 9);
	CHECK_OK(transfer_task_switch(cpu, SEL_TSS, TASK_SWITCH_IRET, 0x40002, false, 0));
	CHECK(cpu->rip == CODE + 9 && type_of(g, SEL_TSS2) == TYPE_TSS32);
	guest_free(g);
}

int main(void)
{
	test_by_selector();
	test_call_and_iret();
	test_jmp();
	test_refused();
	test_new_task_faults();
	test_idt_gate();
	test_16bit();
	test_v8086_and_cr3();
	return report();
}
