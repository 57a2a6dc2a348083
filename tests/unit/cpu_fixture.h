/*
 * A processor in 16 MiB of memory, for tests of src/cpu: helpers that put descriptors, gates and
 * page tables into guest memory, and checks that count. Header only, single thread.
 *
 * Guest memory: GDT at 0x1000, IDT at 0x2000, TSS at 0x3000, second TSS at 0x3800, LDT at 0x4000,
 * page tables from 0x10000, ring 0 stack below 0x9000, ring 3 stack below 0xb000, code at 0x20000.
 */
#ifndef CPU_FIXTURE_H
#define CPU_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "cpu/protection.h"
#include "mem/memory.h"


/* The call faults with this vector and error code (-1: none). */
#define CHECK_FAULT(call, vec, err) \
	do { \
		enum x x_ = (call); \
		long e_ = (err); \
		CHECK_SAYING(x_ == X_FAULT && cpu->fault.vector == (vec) && cpu->fault.has_error == (e_ >= 0) && \
			     (e_ < 0 || cpu->fault.error == (uint32_t)e_), \
			     "%s: result %d vector %u error %#x, not vector %u error %#lx", #call, x_, cpu->fault.vector, \
			     cpu->fault.error, (unsigned)(vec), e_); \
	} while (0)

#define CHECK_OK(call) \
	do { \
		enum x x_ = (call); \
		CHECK_SAYING(x_ == X_OK, "%s: result %d vector %u error %#x", #call, x_, cpu->fault.vector, cpu->fault.error); \
	} while (0)

enum {
	GDT = 0x1000,
	IDT = 0x2000,
	TSS = 0x3000,
	TSS2 = 0x3800,
	LDT = 0x4000,
	STACK0 = 0x9000,
	STACK3 = 0xb000,
	TABLES = 0x10000,
	CODE = 0x20000,
	SEL_CODE0 = 0x08,
	SEL_DATA0 = 0x10,
	SEL_CODE3 = 0x1b,
	SEL_DATA3 = 0x23,
	SEL_TSS = 0x28, /* and 0x30 in long mode */
	SEL_LDT = 0x38,
	SEL_CODE64_3 = 0x4b,
	SEL_TSS2 = 0x50,
	SEL_FREE = 0x60, /* up to 0xf8 */
};
#define GDT_LIMIT 0xff

struct guest {
	struct memory memory;
	struct cpuid_table cpuid;
	struct cpu cpu;
};

static inline uint8_t *at(struct guest *g, uint64_t gpa) { return memory_hva(&g->memory, gpa, 1); }
static inline void put(struct guest *g, uint64_t gpa, uint64_t value, unsigned size)
{
	memcpy(at(g, gpa), &value, size);
}
static inline uint64_t get(struct guest *g, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, at(g, gpa), size);
	return value;
}

#define A_CODE (SEG_P | SEG_S | SEG_CODE | SEG_READABLE)
#define A_DATA (SEG_P | SEG_S | SEG_WRITABLE)
#define A_DPL(n) ((unsigned)(n) << SEG_DPL_SHIFT)

static inline uint64_t descriptor(uint32_t base, uint32_t limit, unsigned attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t gate(uint16_t selector, uint32_t offset, unsigned type, unsigned dpl, unsigned low)
{
	return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)low << 32 |
	       (uint64_t)(SEG_P | A_DPL(dpl) | type) << 40 | (uint64_t)(offset >> 16) << 48;
}

static inline void gdt_set(struct guest *g, uint16_t selector, uint64_t raw)
{
	put(g, GDT + (selector & 0xfff8), raw, 8);
}
static inline uint64_t gdt_get(struct guest *g, uint16_t selector) { return get(g, GDT + (selector & 0xfff8), 8); }

static inline void idt_set(struct guest *g, unsigned vector, uint64_t raw)
{
	unsigned size = g->cpu.efer & EFER_LMA ? 16 : 8;

	put(g, IDT + vector * size, raw, 8);
	if (size == 16)
		put(g, IDT + vector * size + 8, 0, 8);
}

static inline struct segment segment_of(uint16_t selector, uint64_t raw)
{
	struct descriptor d = {.raw = raw, .attr = descriptor_attr(raw)};
	struct segment s = descriptor_segment(&d, selector);

	s.attr |= d.attr & SEG_S ? SEG_ACCESSED : 0;
	return s;
}

static inline struct guest *guest_new(void)
{
	struct guest *g = calloc(1, sizeof *g);

	if (!g || memory_init(&g->memory, 16 << 20))
		exit(1);
	g->cpuid.phys_bits = 40;
	g->cpuid.linear_bits = 48;
	g->cpuid.has[FEATURE_PDPE1GB] = true;
	g->cpu.memory = &g->memory;
	g->cpu.cpuid = &g->cpuid;
	g->cpu.rflags = RFLAGS_FIXED;
	g->cpu.cr0 = CR0_ET;
	g->cpu.dr[7] = 0x400;
	mmu_flush(&g->cpu, true);
	for (unsigned s = 0; s < SREG_COUNT; s++)
		g->cpu.seg[s] = (struct segment){.limit = 0xffff, .attr = A_DATA | SEG_ACCESSED};
	g->cpu.gdtr.base = GDT;
	g->cpu.gdtr.limit = GDT_LIMIT;
	g->cpu.idtr.base = 0;
	g->cpu.idtr.limit = 0x3ff;
	g->cpu.gpr[RSP] = STACK0;
	cpu_update_mode(&g->cpu);
	return g;
}

static inline void guest_free(struct guest *g)
{
	memory_free(&g->memory);
	free(g);
}

/* Puts the processor into ring cpl, flat. */
static inline void set_ring(struct guest *g, unsigned cpl)
{
	uint16_t code = cpl ? SEL_CODE3 : SEL_CODE0, data = cpl ? SEL_DATA3 : SEL_DATA0;

	g->cpu.seg[CS] = segment_of(code, gdt_get(g, code));
	for (unsigned s = 0; s < SREG_COUNT; s++)
		if (s != CS)
			g->cpu.seg[s] = segment_of(data, gdt_get(g, data));
	g->cpu.gpr[RSP] = cpl ? STACK3 : STACK0;
	g->cpu.rip = CODE;
	cpu_update_mode(&g->cpu);
}

/* 32-bit protected mode, paging off, ring 0. */
static inline struct guest *guest_protected(void)
{
	struct guest *g = guest_new();
	struct cpu *cpu = &g->cpu;

	cpu->cr0 |= CR0_PE;
	gdt_set(g, SEL_CODE0, descriptor(0, 0xfffff, A_CODE | SEG_DB | SEG_G));
	gdt_set(g, SEL_DATA0, descriptor(0, 0xfffff, A_DATA | SEG_DB | SEG_G));
	gdt_set(g, SEL_CODE3, descriptor(0, 0xfffff, A_CODE | SEG_DB | SEG_G | A_DPL(3)));
	gdt_set(g, SEL_DATA3, descriptor(0, 0xfffff, A_DATA | SEG_DB | SEG_G | A_DPL(3)));
	gdt_set(g, SEL_TSS, descriptor(TSS, 0x67 + 8, SEG_P | TYPE_TSS32_BUSY));
	gdt_set(g, SEL_TSS2, descriptor(TSS2, 0x67, SEG_P | TYPE_TSS32));
	gdt_set(g, SEL_LDT, descriptor(LDT, 0xff, SEG_P | TYPE_LDT));
	cpu->tr = segment_of(SEL_TSS, gdt_get(g, SEL_TSS));
	put(g, TSS + 4, STACK0, 4);
	put(g, TSS + 8, SEL_DATA0, 2);
	put(g, TSS + 102, 104, 2);
	cpu->idtr.base = IDT;
	cpu->idtr.limit = 0x7ff;
	set_ring(g, 0);
	return g;
}

/* Long mode: identity mapping of 16 MiB in 2M user pages, 64-bit ring 0. */
static inline struct guest *guest_long(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;

	put(g, TABLES, (TABLES + 0x1000) | 7, 8);
	put(g, TABLES + 0x1000, (TABLES + 0x2000) | 7, 8);
	for (unsigned i = 0; i < 8; i++)
		put(g, TABLES + 0x2000 + 8 * i, (uint64_t)i << 21 | 0x87, 8);
	cpu->cr3 = TABLES;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
	cpu->cr0 |= CR0_PG;
	gdt_set(g, SEL_CODE0, descriptor(0, 0xfffff, A_CODE | SEG_L | SEG_G));
	gdt_set(g, SEL_CODE64_3, descriptor(0, 0xfffff, A_CODE | SEG_L | SEG_G | A_DPL(3)));
	cpu->idtr.limit = 0xfff;
	put(g, TSS + 4, STACK0, 8);
	mmu_flush(cpu, true);
	set_ring(g, 0);
	return g;
}

static inline void set_ring3_long(struct guest *g)
{
	set_ring(g, 3);
	g->cpu.seg[CS] = segment_of(SEL_CODE64_3, gdt_get(g, SEL_CODE64_3));
	cpu_update_mode(&g->cpu);
}

static inline int report(void)
{
	return summary();
}

#endif
