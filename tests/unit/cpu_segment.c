/*
 * Segment register loads and their faults, LDTR and TR, limits and rights of accesses, LAR, LSL,
 * VERR and VERW.
 */
#include "cpu_fixture.h"

static void free_slot(struct guest *g, unsigned attr) { gdt_set(g, SEL_FREE, descriptor(0x100000, 0x0fff, attr)); }

static void test_data_loads(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	struct segment before[SREG_COUNT];

	CHECK_OK(segment_load(cpu, DS, SEL_DATA3));
	CHECK(gdt_get(g, SEL_DATA3) >> 40 & SEG_ACCESSED);
	CHECK_EQ(cpu->seg[DS].limit, 0xffffffff);
	CHECK_OK(segment_load(cpu, DS, 3)); /* null, whatever its RPL */
	CHECK_EQ(cpu->seg[DS].attr & SEG_P, 0);
	CHECK_EQ(cpu->seg[DS].selector, 3);

	memcpy(before, cpu->seg, sizeof(before));
	CHECK_FAULT(segment_load(cpu, ES, 0x100), VEC_GP, 0x100); /* beyond the table */
	CHECK_FAULT(segment_load(cpu, ES, 0x103), VEC_GP, 0x100);
	CHECK_FAULT(segment_load(cpu, ES, 0x0c), VEC_GP, 0x0c); /* no LDT */
	CHECK_FAULT(segment_load(cpu, ES, SEL_TSS), VEC_GP, SEL_TSS);
	free_slot(g, SEG_P | SEG_S | SEG_CODE); /* execute only */
	CHECK_FAULT(segment_load(cpu, ES, SEL_FREE), VEC_GP, SEL_FREE);
	free_slot(g, SEG_S | SEG_WRITABLE);
	CHECK_FAULT(segment_load(cpu, ES, SEL_FREE), VEC_NP, SEL_FREE);
	free_slot(g, A_DATA);
	CHECK_FAULT(segment_load(cpu, ES, SEL_FREE | 1), VEC_GP, SEL_FREE); /* RPL > DPL */
	CHECK(!memcmp(before, cpu->seg, sizeof(before)));
	free_slot(g, A_CODE | SEG_CONFORMING);
	CHECK_OK(segment_load(cpu, ES, SEL_FREE | 3));
	set_ring(g, 3);
	free_slot(g, A_DATA | A_DPL(2));
	CHECK_FAULT(segment_load(cpu, ES, SEL_FREE), VEC_GP, SEL_FREE); /* CPL > DPL */

	CHECK_OK(segment_load_ldtr(cpu, SEL_LDT));
	put(g, LDT + 8, descriptor(0x55000, 7, A_DATA | A_DPL(3)), 8);
	CHECK_OK(segment_load(cpu, GS, 0x0f));
	CHECK_EQ(cpu->seg[GS].base, 0x55000);
	CHECK_FAULT(segment_load(cpu, GS, 0x107), VEC_GP, 0x104);
	guest_free(g);
}

static void test_stack_loads(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	CHECK_FAULT(segment_load(cpu, SS, 0), VEC_GP, 0);
	CHECK_FAULT(segment_load(cpu, SS, SEL_CODE0), VEC_GP, SEL_CODE0);
	CHECK_FAULT(segment_load(cpu, SS, SEL_DATA0 | 3), VEC_GP, SEL_DATA0);
	CHECK_FAULT(segment_load(cpu, SS, SEL_DATA3), VEC_GP, SEL_DATA3 & ~3);
	free_slot(g, SEG_P | SEG_S);
	CHECK_FAULT(segment_load(cpu, SS, SEL_FREE), VEC_GP, SEL_FREE);
	free_slot(g, SEG_S | SEG_WRITABLE);
	CHECK_FAULT(segment_load(cpu, SS, SEL_FREE), VEC_SS, SEL_FREE);
	free_slot(g, A_DATA);
	CHECK_OK(segment_load(cpu, SS, SEL_FREE));
	CHECK_EQ(cpu_stack_bits(cpu), 16);
	guest_free(g);

	g = guest_long();
	cpu = &g->cpu;
	CHECK_OK(segment_load(cpu, SS, 0));
	CHECK_EQ(cpu->cpl, 0);
	CHECK_FAULT(segment_load(cpu, SS, 3), VEC_GP, 0); /* RPL is not CPL */
	set_ring3_long(g);
	CHECK_FAULT(segment_load(cpu, SS, 3), VEC_GP, 0);
	CHECK_FAULT(segment_load(cpu, SS, 0), VEC_GP, 0);
	CHECK_EQ(cpu->cpl, 3);
	guest_free(g);
}

static void test_system_loads(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	CHECK_FAULT(segment_load_ldtr(cpu, SEL_DATA0), VEC_GP, SEL_DATA0);
	CHECK_FAULT(segment_load_ldtr(cpu, SEL_LDT | 4), VEC_GP, SEL_LDT | 4);
	gdt_set(g, SEL_FREE, descriptor(LDT, 0xff, TYPE_LDT));
	CHECK_FAULT(segment_load_ldtr(cpu, SEL_FREE), VEC_NP, SEL_FREE);
	CHECK_OK(segment_load_ldtr(cpu, SEL_LDT));
	CHECK_OK(segment_load_ldtr(cpu, 0));
	CHECK_FAULT(segment_load(cpu, ES, 0x0c), VEC_GP, 0x0c);

	CHECK_FAULT(segment_load_tr(cpu, 0), VEC_GP, 0);
	CHECK_FAULT(segment_load_tr(cpu, SEL_TSS), VEC_GP, SEL_TSS); /* busy */
	CHECK_OK(segment_load_tr(cpu, SEL_TSS2));
	CHECK_EQ(cpu->tr.base, TSS2);
	CHECK_EQ(gdt_get(g, SEL_TSS2) >> 40 & 0x1f, TYPE_TSS32_BUSY);
	CHECK_FAULT(segment_load_tr(cpu, SEL_TSS2), VEC_GP, SEL_TSS2);
	guest_free(g);

	g = guest_long();
	cpu = &g->cpu;
	gdt_set(g, SEL_FREE, descriptor(0x12345678, 0x67, SEG_P | TYPE_TSS32));
	put(g, GDT + SEL_FREE + 8, 0xffff8000, 8);
	CHECK_OK(segment_load_tr(cpu, SEL_FREE));
	CHECK_EQ(cpu->tr.base, 0xffff800012345678);
	gdt_set(g, SEL_FREE, descriptor(0, 0x67, SEG_P | TYPE_TSS32));
	put(g, GDT + SEL_FREE + 8, 0x00008000, 8); /* not canonical */
	CHECK_FAULT(segment_load_tr(cpu, SEL_FREE), VEC_GP, SEL_FREE);
	put(g, GDT + SEL_FREE + 8, 0x0000020000000000, 8); /* a type in the upper half */
	CHECK_FAULT(segment_load_tr(cpu, SEL_FREE), VEC_GP, SEL_FREE);
	gdt_set(g, 0xf8, descriptor(0, 0x67, SEG_P | TYPE_TSS32)); /* the upper half is beyond the table */
	CHECK_FAULT(segment_load_tr(cpu, 0xf8), VEC_GP, 0xf8);
	gdt_set(g, SEL_FREE, descriptor(0, 0x67, SEG_P | TYPE_TSS16));
	CHECK_FAULT(segment_load_tr(cpu, SEL_FREE), VEC_GP, SEL_FREE);
	guest_free(g);
}

static void test_addresses(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	uint64_t linear = 0;

	free_slot(g, A_DATA | SEG_DB);
	CHECK_OK(segment_load(cpu, ES, SEL_FREE));
	CHECK_OK(segment_linear(cpu, ES, 0xffc, 4, ACCESS_READ_WRITE, &linear));
	CHECK_EQ(linear, 0x100ffc);
	CHECK_FAULT(segment_linear(cpu, ES, 0xffd, 4, ACCESS_READ, &linear), VEC_GP, 0);
	CHECK_FAULT(segment_linear(cpu, ES, 0xffffffff, 4, ACCESS_READ, &linear), VEC_GP, 0);
	free_slot(g, A_DATA | SEG_DB | SEG_EXPAND_DOWN);
	CHECK_OK(segment_load(cpu, ES, SEL_FREE));
	CHECK_FAULT(segment_linear(cpu, ES, 0xfff, 1, ACCESS_READ, &linear), VEC_GP, 0);
	CHECK_OK(segment_linear(cpu, ES, 0x1000, 4, ACCESS_READ, &linear));
	CHECK_OK(segment_linear(cpu, ES, 0xfffffffc, 4, ACCESS_READ, &linear));
	CHECK_EQ(linear, 0xffffc);
	CHECK_FAULT(segment_linear(cpu, ES, 0xfffffffd, 4, ACCESS_READ, &linear), VEC_GP, 0);
	free_slot(g, A_DATA | SEG_EXPAND_DOWN);
	CHECK_OK(segment_load(cpu, ES, SEL_FREE));
	CHECK_FAULT(segment_linear(cpu, ES, 0xfffe, 4, ACCESS_READ, &linear), VEC_GP, 0);
	free_slot(g, SEG_P | SEG_S);
	CHECK_OK(segment_load(cpu, ES, SEL_FREE));
	CHECK_OK(segment_linear(cpu, ES, 0, 4, ACCESS_READ, &linear));
	CHECK_FAULT(segment_linear(cpu, ES, 0, 4, ACCESS_WRITE, &linear), VEC_GP, 0);
	CHECK_FAULT(segment_linear(cpu, CS, 0, 4, ACCESS_WRITE, &linear), VEC_GP, 0);
	CHECK_OK(segment_linear(cpu, CS, 0, 4, ACCESS_READ, &linear));
	CHECK_OK(segment_load(cpu, ES, 0));
	CHECK_FAULT(segment_linear(cpu, ES, 0, 4, ACCESS_READ, &linear), VEC_GP, 0);
	free_slot(g, A_DATA | SEG_DB);
	CHECK_OK(segment_load(cpu, SS, SEL_FREE));
	CHECK_FAULT(segment_linear(cpu, SS, 0x1000, 4, ACCESS_READ, &linear), VEC_SS, 0);
	guest_free(g);

	g = guest_long();
	cpu = &g->cpu;
	cpu->seg[FS].base = 0x7f0000001000;
	cpu->seg[DS].base = 0x1000;
	CHECK_OK(segment_linear(cpu, FS, (uint64_t)-0x1000, 8, ACCESS_READ, &linear));
	CHECK_EQ(linear, 0x7f0000000000);
	CHECK_OK(segment_linear(cpu, DS, 0x10, 8, ACCESS_READ, &linear));
	CHECK_EQ(linear, 0x10);
	CHECK_FAULT(segment_linear(cpu, DS, 0x7ffffffffffd, 8, ACCESS_READ, &linear), VEC_GP, 0);
	CHECK_FAULT(segment_linear(cpu, SS, 1ull << 47, 8, ACCESS_READ, &linear), VEC_SS, 0);
	guest_free(g);
}

static void test_real(void)
{
	struct guest *g = guest_new();
	struct cpu *cpu = &g->cpu;
	uint64_t linear;

	CHECK_OK(segment_load(cpu, DS, 0xf000));
	CHECK_EQ(cpu->seg[DS].base, 0xf0000);
	CHECK_OK(segment_linear(cpu, DS, 0xfffe, 2, ACCESS_WRITE, &linear));
	CHECK_EQ(linear, 0xffffe);
	CHECK_FAULT(segment_linear(cpu, DS, 0xffff, 2, ACCESS_WRITE, &linear), VEC_GP, 0);
	cpu->seg[DS].limit = 0xffffffff; /* unreal mode */
	CHECK_OK(segment_load(cpu, DS, 0));
	CHECK_OK(segment_linear(cpu, DS, 0x12345678, 2, ACCESS_WRITE, &linear));
	guest_free(g);
}

static void test_lar_lsl_verify(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	uint32_t v = 77;
	bool ok;

	CHECK_OK(segment_lar(cpu, SEL_CODE3, &ok, &v));
	CHECK(ok);
	CHECK_EQ(v, 0xcffa00);
	CHECK_OK(segment_lsl(cpu, SEL_CODE3, &ok, &v));
	CHECK(ok && v == 0xffffffff);
	CHECK_OK(segment_lsl(cpu, SEL_TSS, &ok, &v));
	CHECK(ok && v == 0x6f);
	v = 77;
	CHECK_OK(segment_lar(cpu, 0, &ok, &v));
	CHECK(!ok && v == 77);
	CHECK_OK(segment_lar(cpu, 0x100, &ok, &v));
	CHECK(!ok && v == 77);
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x1234, TYPE_CALL32, 3, 0));
	CHECK_OK(segment_lar(cpu, SEL_FREE, &ok, &v));
	CHECK(ok);
	CHECK_OK(segment_lsl(cpu, SEL_FREE, &ok, &v));
	CHECK(!ok);
	gdt_set(g, SEL_FREE, gate(SEL_CODE0, 0x1234, TYPE_INT32, 3, 0));
	CHECK_OK(segment_lar(cpu, SEL_FREE, &ok, &v));
	CHECK(!ok);
	CHECK_OK(segment_verify(cpu, SEL_CODE0, false, &ok));
	CHECK(ok);
	CHECK_OK(segment_verify(cpu, SEL_CODE0, true, &ok));
	CHECK(!ok);
	CHECK_OK(segment_verify(cpu, SEL_DATA0, true, &ok));
	CHECK(ok);
	CHECK_OK(segment_verify(cpu, SEL_DATA0 | 3, true, &ok)); /* RPL */
	CHECK(!ok);
	CHECK_OK(segment_verify(cpu, SEL_TSS, false, &ok));
	CHECK(!ok);
	free_slot(g, A_CODE | SEG_CONFORMING);
	set_ring(g, 3);
	CHECK_OK(segment_verify(cpu, SEL_FREE | 3, false, &ok));
	CHECK(ok);
	CHECK_OK(segment_lar(cpu, SEL_CODE0, &ok, &v));
	CHECK(!ok);
	guest_free(g);

	g = guest_long();
	cpu = &g->cpu;
	gdt_set(g, SEL_FREE, descriptor(0, 0x67, SEG_P | TYPE_TSS16));
	CHECK_OK(segment_lar(cpu, SEL_FREE, &ok, &v));
	CHECK(!ok);
	guest_free(g);
}

int main(void)
{
	test_data_loads();
	test_stack_loads();
	test_system_loads();
	test_addresses();
	test_real();
	test_lar_lsl_verify();
	return report();
}
