/*
 * Emptying the software TLB: MOV CR3, INVLPG and what else changes translations, and dropping the
 * right to store into a page unnoticed. mmu.c fills it.
 *
 * Sources: SDM 3A 4.10.4 (invalidation), APM 2 5.5. Thread: the vCPU's; no lock.
 * The TLB holds translations of the current PCID only; those of others are put away (struct tlb_context).
 */
#include "cpu/protection.h"

#include "mem/memory.h"
#include "util/pages.h"

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

/* ---- the wide set ---- */

static void wide_empty(struct tlb_wide *w)
{
	for (uint32_t n = 0; n < w->count; n++)
		w->minus_page[w->filled[n]] = tlb_wide_empty(w->filled[n]);
	w->count = 0;
	if (w->pages < TLB_WIDE_PAGES || !pages_release(w->minus_page, sizeof(w->minus_page)))
		return;
	pages_release(w->addend, sizeof(w->addend));
	w->minus_page[0] = tlb_wide_empty(0);
	w->minus_page[TLB_WIDE_ENTRIES - 1] = tlb_wide_empty(TLB_WIDE_ENTRIES - 1);
	for (unsigned n = 0; n < sizeof(w->touched) / sizeof(w->touched[0]); n++)
		w->touched[n] = 0;
	w->pages = 0;
}

static void wide_make(struct tlb_wide *w)
{
	pages_make_fresh(w, sizeof(*w));
	w->minus_page[0] = tlb_wide_empty(0);
	w->minus_page[TLB_WIDE_ENTRIES - 1] = tlb_wide_empty(TLB_WIDE_ENTRIES - 1);
}

static uint32_t wide_index(uint64_t linear) { return linear >> PAGE_SHIFT & (TLB_WIDE_ENTRIES - 1); }

void mmu_wide_enter(struct cpu *cpu, uint64_t linear)
{
	const struct tlb_set *set = &cpu->tlb->set[TLB_USER][TLB_READ];
	struct tlb_wide *w = cpu->tlb_wide;
	uint32_t i = wide_index(linear), page = i / TLB_WIDE_PAGE_ENTRIES;
	unsigned from = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);
	uint64_t bit = 1ull << page % 64;

	if (w->count == TLB_WIDE_FILLED || (w->pages == TLB_WIDE_PAGES && !(w->touched[page / 64] & bit)))
		wide_empty(w);
	w->pages += !(w->touched[page / 64] & bit);
	w->touched[page / 64] |= bit;
	w->addend[i] = set->addend[from];
	w->minus_page[i] = set->minus_page[from];
	w->filled[w->count++] = i;
}

/* ---- all of it ---- */

void mmu_flush(struct cpu *cpu, bool global_too)
{
	struct tlb *tlb = cpu->tlb;

	tlb->victim_generation++;
	if (tlb->ready)
		wide_empty(cpu->tlb_wide);
	else
		wide_make(cpu->tlb_wide);
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
	for (unsigned n = 0; n < TLB_CONTEXTS; n++)
		if (tlb->context[n].generation) /* or the page stays untouched */
			tlb->context[n].generation = 0;
	tlb->context[tlb->current].generation = ++tlb->generations;
	tlb->context[tlb->current].pcid = cpu->cr4 & CR4_PCIDE ? (uint16_t)(cpu->cr3 & 0xfff) : 0;
	cpu->tlb_flushes++;
	if (cpu->hooks && cpu->hooks->tlb_flushed)
		cpu->hooks->tlb_flushed(cpu, global_too);
}

/* What is not global leaves the TLB for the context. */
static void put_away(struct tlb *tlb, struct tlb_context *c, unsigned mode, unsigned kind)
{
	struct tlb_set *set = &tlb->set[mode][kind];
	const uint8_t *flags = tlb->flags[mode][kind];
	uint32_t n = tlb->local[mode][kind], count = 0;

	for (uint32_t k = 0; k < n && n <= TLB_RECENT; k++) {
		unsigned i = tlb->recent[mode][kind][k];

		if ((flags[i] & TLB_GLOBAL) || set->minus_page[i] == tlb_empty(i))
			continue;
		c->saved[mode][kind][count++] = (struct tlb_saved){
			.minus_page = set->minus_page[i], .addend = set->addend[i], .index = (uint16_t)i, .flags = flags[i],
		};
		set->minus_page[i] = tlb_empty(i);
	}
	if (n > TLB_RECENT)
		flush_local(tlb, mode, kind);
	c->count[mode][kind] = count;
	tlb->local[mode][kind] = 0;
}

static void bring_back(struct tlb *tlb, const struct tlb_context *c, unsigned mode, unsigned kind)
{
	struct tlb_set *set = &tlb->set[mode][kind];
	uint32_t count = c->count[mode][kind];

	if (kind == TLB_WRITE && c->protected != tlb->protected)
		count = 0;
	for (uint32_t k = 0; k < count; k++) {
		const struct tlb_saved *s = &c->saved[mode][kind][k];

		set->addend[s->index] = s->addend;
		set->minus_page[s->index] = s->minus_page;
		tlb->flags[mode][kind][s->index] = s->flags;
		tlb->recent[mode][kind][k] = s->index;
	}
	tlb->local[mode][kind] = count;
	if (count)
		tlb->used[mode][kind] = true;
}

void mmu_switch(struct cpu *cpu, uint16_t pcid, bool keep)
{
	struct tlb *tlb = cpu->tlb;
	struct tlb_context *old = &tlb->context[tlb->current], *new = &tlb->context[pcid % TLB_CONTEXTS];

	if (keep && old == new && old->pcid == pcid)
		return;
	tlb->victim_generation++;
	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned kind = 0; kind < TLB_KINDS; kind++)
			put_away(tlb, old, mode, kind);
	wide_empty(cpu->tlb_wide);
	old->protected = tlb->protected;
	if (keep && new->generation && new->pcid == pcid)
		for (unsigned mode = 0; mode < TLB_MODES; mode++)
			for (unsigned kind = 0; kind < TLB_KINDS; kind++)
				bring_back(tlb, new, mode, kind);
	else
		new->generation = ++tlb->generations;
	new->pcid = pcid;
	tlb->current = (unsigned)(new - tlb->context);
	cpu->tlb_switches++;
	if (cpu->hooks && cpu->hooks->tlb_switched)
		cpu->hooks->tlb_switched(cpu);
}

void mmu_forget(struct cpu *cpu, uint16_t pcid)
{
	struct tlb_context *c = &cpu->tlb->context[pcid % TLB_CONTEXTS];

	if (c->pcid == pcid && c != &cpu->tlb->context[cpu->tlb->current])
		c->generation = 0;
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
	uint64_t *wide;

	tlb->victim_generation++;
	if (!cpu_long_active(cpu))
		linear = (uint32_t)linear;
	wide = &cpu->tlb_wide->minus_page[wide_index(linear)];
	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
			unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);
			uint64_t *entry = &tlb->set[mode][kind].minus_page[i];

			if (*entry == -(linear & PAGE_MASK))
				*entry = tlb_empty(i);
		}
	if (*wide == -(linear & PAGE_MASK))
		*wide = tlb_wide_empty(wide_index(linear));
	if (in_range(&tlb->large[linear >> 63][0], linear)) {
		wide_empty(cpu->tlb_wide);
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

	tlb->protected++;
	tlb->victim_generation++;
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
	cpu->tlb->protected++;
	cpu->tlb->victim_generation++;
	for (unsigned mode = 0; mode < TLB_MODES; mode++)
		for (unsigned i = 0; cpu->tlb->used[mode][TLB_WRITE] && i < TLB_ENTRIES; i++)
			cpu->tlb->set[mode][TLB_WRITE].minus_page[i] = tlb_empty(i);
}
