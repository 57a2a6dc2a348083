/*
 * The vCPU states that boot protocols start a kernel in: a GDT in guest memory, flat segments, and
 * for 64-bit entry page tables that map the low 4 GiB one to one.
 *
 * Sources: Linux Documentation/arch/x86/boot.rst "32-bit" and "64-bit boot protocol"; Xen
 * docs/misc/pvh.pandoc; Multiboot specification 0.6.96, section 3.2 "Machine state".
 */
#include <errno.h>

#include "boot/loader.h"

#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_DATA 0x00cf93000000ffffull
#define GDT_TSS 0x00008b0000000067ull
enum { SELECTOR_CODE = 0x10, SELECTOR_DATA = 0x18, SELECTOR_TSS = 0x20, GDT_ENTRIES = 5 };

#define ATTR_CODE32 (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)
#define ATTR_CODE64 (SEG_G | SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)
#define ATTR_DATA (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED)
#define ATTR_TSS (SEG_P | 0xb)

#define PTE_TABLE 0x3ull /* present, writable */
#define PTE_LARGE 0x83ull
#define TABLE_ENTRIES 512u

static int entry_gdt(struct loader *l, bool long_mode)
{
	const uint64_t entry[GDT_ENTRIES] = {0, 0, long_mode ? GDT_CODE64 : GDT_CODE32, GDT_DATA, GDT_TSS};
	struct cpu *cpu = l->cpu;
	uint8_t bytes[sizeof entry];
	uint64_t gpa;
	int r = loader_alloc(l, sizeof bytes, &gpa);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < GDT_ENTRIES; i++)
		put64(bytes + i * 8, entry[i]);
	r = memory_write(l->memory, gpa, bytes, sizeof bytes);
	if (r < 0)
		return r;

	cpu->gdtr.base = gpa;
	cpu->gdtr.limit = sizeof bytes - 1;
	cpu->idtr.base = 0;
	cpu->idtr.limit = 0;
	for (unsigned s = 0; s < SREG_COUNT; s++)
		cpu->seg[s] = (struct segment){0, 0xffffffff, SELECTOR_DATA, ATTR_DATA};
	cpu->seg[CS] = (struct segment){0, 0xffffffff, SELECTOR_CODE, long_mode ? ATTR_CODE64 : ATTR_CODE32};
	cpu->tr = (struct segment){0, 0x67, SELECTOR_TSS, ATTR_TSS};
	return 0;
}

int entry_protected(struct loader *l, uint64_t eip)
{
	struct cpu *cpu = l->cpu;
	int r = entry_gdt(l, false);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < GPR_COUNT; i++)
		cpu->gpr[i] = 0;
	cpu->cr0 = CR0_PE | CR0_ET;
	cpu->rflags = RFLAGS_FIXED;
	cpu->rip = eip;
	cpu_update_mode(cpu);
	return 0;
}

/* Four page directories of 2 MiB pages, under one page directory pointer table, under one PML4. */
static int entry_page_tables(struct loader *l, uint64_t *cr3)
{
	uint64_t gpa;
	int r = loader_alloc(l, 6 * PAGE_SIZE, &gpa);

	if (r < 0)
		return r;
	uint8_t *pml4 = memory_hva(l->memory, gpa, 6 * PAGE_SIZE);
	if (!pml4)
		return -EFAULT;
	uint8_t *pdpt = pml4 + PAGE_SIZE, *directory = pdpt + PAGE_SIZE;

	put64(pml4, (gpa + PAGE_SIZE) | PTE_TABLE);
	for (unsigned i = 0; i < 4; i++)
		put64(pdpt + i * 8, (gpa + (2 + i) * PAGE_SIZE) | PTE_TABLE);
	for (uint64_t i = 0; i < 4 * TABLE_ENTRIES; i++)
		put64(directory + i * 8, i << 21 | PTE_LARGE);
	*cr3 = gpa;
	return 0;
}

int entry_long(struct loader *l, uint64_t rip)
{
	struct cpu *cpu = l->cpu;
	int r = entry_protected(l, 0);

	if (r == 0)
		r = entry_gdt(l, true);
	if (r == 0)
		r = entry_page_tables(l, &cpu->cr3);
	if (r < 0)
		return r;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA;
	cpu->cr0 = CR0_PG | CR0_PE | CR0_ET;
	cpu->rip = rip;
	cpu_update_mode(cpu);
	return 0;
}
