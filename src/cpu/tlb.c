/*
 * Emptying the software TLB: MOV CR3, INVLPG and what else changes translations, and dropping the
 * right to store into a page unnoticed. mmu.c fills it.
 *
 * Sources: SDM 3A 4.10.4 (invalidation), APM 2 5.5. Thread: the vCPU's; no lock.
 * The TLB holds translations of the current PCID only, so MOV CR3 always flushes; tagging would
 * begin here.
 */
#include "cpu/protection.h"

#include "mem/memory.h"

static void set_empty(struct tlb_set *set)
{
	uint64_t *entry = set->minus_page, empty = TLB_EMPTY;
	unsigned long n = TLB_ENTRIES;

	__asm__ volatile("rep stosq" : "+D"(entry), "+c"(n) : "a"(empty) : "memory");
	set->minus_page[0] = tlb_empty(0);
}

static void flush_local(struct tlb *tlb, unsigned mode, unsigned kind)
{
	uint64_t *entry = tlb->set[mode][kind].minus_page;
	const uint8_t *flags = tlb->flags[mode][kind];
	uint32_t n = tlb->local[mode][kind];

	if (n <= TLB_RECENT) {
		for (uint32_t k = 0; k < n; k++) {
			unsigned i = tlb->recent[mode][kind][k];

			if (!(flags[i] & TLB_GLOBAL))
				entry[i] = tlb_empty(i);
		}
	} else {
		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (!(flags[i] & TLB_GLOBAL))
				entry[i] = tlb_empty(i);
	}
}

void mmu_flush(struct cpu *cpu, bool global_too)
{
	struct tlb *tlb = cpu->tlb;

	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
			if (!tlb->ready || (global_too && tlb->used[mode][kind])) {
				set_empty(&tlb->set[mode][kind]);
				tlb->used[mode][kind] = false;
			} else if (tlb->local[mode][kind]) {
				flush_local(tlb, mode, kind);
			}
			tlb->local[mode][kind] = 0;
		}
	if (global_too || !tlb->ready)
		for (unsigned half = 0; half < 2; half++)
			for (unsigned fetch = 0; fetch < 2; fetch++)
				tlb->large[half][fetch] = (struct tlb_large_range){.base = 1};
	tlb->ready = true;
	cpu->tlb_flushes++;
	if (cpu->hooks && cpu->hooks->tlb_flushed)
		cpu->hooks->tlb_flushed(cpu, global_too);
}

static bool in_range(const struct tlb_large_range *r, uint64_t linear) { return (linear & r->mask) == r->base; }

/* Drops what is cached of the large page that `linear` may lie in. Its size is not known: everything
 * that came from a large page in the same gigabyte goes. */
static void flush_large(struct tlb *tlb, unsigned kind, uint64_t linear)
{
	for (unsigned mode = 0; mode < TLB_MODES; mode++) {
		uint64_t *entry = tlb->set[mode][kind].minus_page;

		if (!tlb->used[mode][kind])
			continue;
		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if ((tlb->flags[mode][kind][i] & TLB_LARGE) && (-entry[i] ^ linear) >> 30 == 0)
				entry[i] = tlb_empty(i);
	}
}

void mmu_flush_page(struct cpu *cpu, uint64_t linear)
{
	struct tlb *tlb = cpu->tlb;
	bool code_too = false;

	if (!cpu_long_active(cpu))
		linear = (uint32_t)linear;
	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
			unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);
			uint64_t *entry = &tlb->set[mode][kind].minus_page[i];

			if (*entry == -(linear & PAGE_MASK))
				*entry = tlb_empty(i);
		}
	if (in_range(&tlb->large[linear >> 63][0], linear)) {
		flush_large(tlb, TLB_READ, linear);
		flush_large(tlb, TLB_WRITE, linear);
	}
	if (in_range(&tlb->large[linear >> 63][1], linear)) {
		flush_large(tlb, TLB_FETCH, linear);
		code_too = true;
	}
	CPU_LOG(cpu, LOG_MMU, "flush of page %#llx", (unsigned long long)linear);
	if (!cpu->hooks)
		return;
	if (code_too && cpu->hooks->tlb_flushed)
		cpu->hooks->tlb_flushed(cpu, true);
	else if (!code_too && cpu->hooks->tlb_flushed_page)
		cpu->hooks->tlb_flushed_page(cpu, linear);
}

void mmu_write_protect(struct cpu *cpu, uint64_t offset)
{
	const uint8_t *page = cpu->memory->base + (offset & PAGE_MASK);
	struct tlb *tlb = cpu->tlb;

	for (unsigned mode = 0; mode < TLB_MODES; mode++) {
		struct tlb_set *set = &tlb->set[mode][TLB_WRITE];

		if (!tlb->used[mode][TLB_WRITE])
			continue;
		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (set->addend[i] - set->minus_page[i] == (uint64_t)(uintptr_t)page)
				set->minus_page[i] = tlb_empty(i);
	}
}

void mmu_write_protect_all(struct cpu *cpu)
{
	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned i = 0; cpu->tlb->used[mode][TLB_WRITE] && i < TLB_ENTRIES; i++)
			cpu->tlb->set[mode][TLB_WRITE].minus_page[i] = tlb_empty(i);
}
