/*
 * Page walks of every kind, access rights and #PF error codes, A and D bits, the software TLB and
 * its flushes, accesses across pages and to I/O memory, translated-code and breakpoint pages.
 */
#include "cpu_fixture.h"

#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)

static uint64_t pte_at(uint64_t linear) { return TABLES + 0x3000 + (linear >> 12 & 511) * 8; }

/* 4-level: linear 0x200000-0x3fffff goes through a page table at TABLES+0x3000. */
static struct guest *guest_4k(void)
{
	struct guest *g = guest_long();

	put(g, TABLES + 0x2008, (TABLES + 0x3000) | P | W | U, 8);
	mmu_flush(&g->cpu, true);
	return g;
}

static void map(struct guest *g, uint64_t linear, uint64_t entry)
{
	put(g, pte_at(linear), entry, 8);
	mmu_flush(&g->cpu, true);
}

static enum x read8(struct cpu *cpu, uint64_t linear)
{
	uint64_t v;
	return mmu_read(cpu, linear, &v, 8, 0);
}
static enum x write8(struct cpu *cpu, uint64_t linear)
{
	uint64_t v = 1;
	return mmu_write(cpu, linear, &v, 8, 0);
}
static enum x fetch1(struct cpu *cpu, uint64_t linear)
{
	uint8_t b;
	unsigned got;

	return mmu_fetch(cpu, linear, &b, 1, &got);
}

static void test_rights(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t at4k = 0x201000;

	map(g, at4k, 0);
	CHECK_FAULT(read8(cpu, at4k + 8), VEC_PF, 0);
	CHECK_EQ(cpu->fault.cr2, at4k + 8);
	CHECK_FAULT(write8(cpu, at4k), VEC_PF, PF_WRITE);
	CHECK_FAULT(fetch1(cpu, at4k), VEC_PF, PF_FETCH);
	map(g, at4k, 0x300000 | P);
	CHECK_OK(read8(cpu, at4k));
	CHECK_EQ(get(g, pte_at(at4k), 8), 0x300000 | P | A);
	CHECK_OK(write8(cpu, at4k)); /* supervisor, CR0.WP clear */
	CHECK_EQ(get(g, pte_at(at4k), 8), 0x300000 | P | A | D);
	cpu->cr0 |= CR0_WP;
	mmu_flush(cpu, true);
	CHECK_FAULT(write8(cpu, at4k), VEC_PF, PF_PRESENT | PF_WRITE);
	map(g, at4k, 0x300000 | P | W | NX);
	CHECK_OK(write8(cpu, at4k));
	CHECK_FAULT(fetch1(cpu, at4k), VEC_PF, PF_PRESENT | PF_FETCH);
	CHECK_EQ(get(g, TABLES + 0x2008, 8) & A, A);

	set_ring3_long(g);
	CHECK_FAULT(read8(cpu, at4k), VEC_PF, PF_PRESENT | PF_USER);
	CHECK_FAULT(write8(cpu, at4k), VEC_PF, PF_PRESENT | PF_USER | PF_WRITE);
	CHECK_FAULT(fetch1(cpu, at4k), VEC_PF, PF_PRESENT | PF_USER | PF_FETCH);
	map(g, at4k, 0x300000 | P | U);
	CHECK_OK(read8(cpu, at4k));
	CHECK_FAULT(write8(cpu, at4k), VEC_PF, PF_PRESENT | PF_USER | PF_WRITE);
	CHECK_OK(fetch1(cpu, at4k));
	put(g, TABLES + 0x2008, (TABLES + 0x3000) | P | W, 8); /* U is asked of every level */
	mmu_flush(cpu, true);
	CHECK_FAULT(read8(cpu, at4k), VEC_PF, PF_PRESENT | PF_USER);
	guest_free(g);
}

static void test_smep_smap_pku(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t user = 0x202000, v;

	map(g, user, 0x300000 | P | W | U | 5ull << 59);
	cpu->cr4 |= CR4_SMEP;
	mmu_flush(cpu, true);
	CHECK_FAULT(fetch1(cpu, user), VEC_PF, PF_PRESENT | PF_FETCH);
	CHECK_OK(read8(cpu, user));
	cpu->cr4 |= CR4_SMAP;
	cpu_update_mode(cpu);
	mmu_flush(cpu, true);
	CHECK_FAULT(read8(cpu, user), VEC_PF, PF_PRESENT);
	CHECK_FAULT(write8(cpu, user), VEC_PF, PF_PRESENT | PF_WRITE);
	cpu->rflags |= RFLAGS_AC;
	cpu_update_mode(cpu);
	CHECK_OK(read8(cpu, user));
	CHECK_FAULT(mmu_read(cpu, user, &v, 8, MMU_SYSTEM), VEC_PF, PF_PRESENT); /* AC does not help implicit ones */
	cpu->rflags &= ~(uint64_t)RFLAGS_AC;
	cpu_update_mode(cpu);
	CHECK_FAULT(read8(cpu, user), VEC_PF, PF_PRESENT); /* not out of the other mode's entry */

	cpu->cr4 |= CR4_PKE;
	set_ring3_long(g);
	mmu_flush(cpu, true);
	CHECK_OK(write8(cpu, user));
	cpu->pkru_shadow = 2u << 10; /* WD of key 5 */
	mmu_flush(cpu, true);
	CHECK_OK(read8(cpu, user));
	CHECK_FAULT(write8(cpu, user), VEC_PF, PF_PRESENT | PF_WRITE | PF_USER | PF_PROTECTION_KEY);
	cpu->pkru_shadow = 1u << 10; /* AD */
	mmu_flush(cpu, true);
	CHECK_FAULT(read8(cpu, user), VEC_PF, PF_PRESENT | PF_USER | PF_PROTECTION_KEY);
	CHECK_OK(fetch1(cpu, user));
	CHECK_FAULT(mmu_read(cpu, user, &v, 8, MMU_SUPERVISOR), VEC_PF, PF_PRESENT | PF_PROTECTION_KEY);
	guest_free(g);
}

static void test_reserved(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	struct mmu_translation t;
	uint64_t at4k = 0x203000;

	map(g, at4k, 0x300000 | P | W | 1ull << 45);
	CHECK_FAULT(read8(cpu, at4k), VEC_PF, PF_PRESENT | PF_RESERVED);
	map(g, at4k, 0x300000 | P | W | 1ull << 55); /* ignored */
	CHECK_OK(read8(cpu, at4k));
	cpu->efer &= ~(uint64_t)EFER_NXE;
	map(g, at4k, 0x300000 | P | W | NX);
	CHECK_FAULT(read8(cpu, at4k), VEC_PF, PF_PRESENT | PF_RESERVED);
	cpu->efer |= EFER_NXE;
	put(g, TABLES + 0x2010, 0x400000 | 1 << 14 | P | PS, 8); /* 2M: bits 20-13 */
	CHECK_FAULT(read8(cpu, 0x400000), VEC_PF, PF_PRESENT | PF_RESERVED);
	put(g, TABLES + 0x1008, 0x40000000 | P | W | PS, 8); /* 1G */
	CHECK_OK(mmu_translate(cpu, 0x40123456, 0, &t));
	CHECK_EQ(t.gpa, 0x40123456);
	CHECK_EQ(t.page_size, 1 << 30);
	put(g, TABLES + 0x1008, 0x40000000 | 1 << 20 | P | PS, 8);
	CHECK_FAULT(read8(cpu, 0x40000000), VEC_PF, PF_PRESENT | PF_RESERVED);
	g->cpuid.has[FEATURE_PDPE1GB] = false;
	put(g, TABLES + 0x1008, 0x40000000 | P | PS, 8);
	CHECK_FAULT(read8(cpu, 0x40000000), VEC_PF, PF_PRESENT | PF_RESERVED);
	put(g, TABLES + 8, TABLES | P | PS, 8);
	CHECK_FAULT(read8(cpu, 1ull << 39), VEC_PF, PF_PRESENT | PF_RESERVED);
	put(g, TABLES + 8, 0x30000000 | P | W, 8); /* a table outside RAM */
	CHECK_FAULT(read8(cpu, 1ull << 39), VEC_PF, PF_PRESENT | PF_RESERVED);
	CHECK_FAULT(read8(cpu, 1ull << 47), VEC_GP, 0); /* not canonical */
	cpu->cr3 = 0x70000000;
	mmu_flush(cpu, true);
	CHECK_FAULT(read8(cpu, 0x1000), VEC_PF, PF_PRESENT | PF_RESERVED);
	guest_free(g);
}

static void test_32bit(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	struct mmu_translation t;
	uint64_t gpa;

	put(g, TABLES, (TABLES + 0x1000) | 7, 4);
	put(g, TABLES + 0x1000 + 5 * 4, 0x6000 | 7, 4);
	put(g, TABLES + 4, 0x00800000 | 0x87, 4);           /* 4M */
	put(g, TABLES + 8, 0x00c00000 | 3 << 13 | 0x87, 4); /* PSE-36: address bits 33-32 */
	put(g, TABLES + 12, 0x00c00000 | 1 << 21 | 0x87, 4);
	cpu->cr3 = TABLES;
	cpu->cr0 |= CR0_PG;
	cpu->cr4 = CR4_PSE;
	mmu_flush(cpu, true);
	CHECK_OK(mmu_translate(cpu, 0x5123, MMU_WRITE, &t));
	CHECK_EQ(t.gpa, 0x6123);
	CHECK_EQ(get(g, TABLES + 0x1000 + 20, 4), 0x6067);
	CHECK_EQ(get(g, TABLES, 4), (TABLES + 0x1000) | 0x27);
	CHECK_FAULT(mmu_translate(cpu, 0x7000, MMU_WRITE, &t), VEC_PF, PF_WRITE);
	CHECK_FAULT(mmu_translate(cpu, 0x7000, MMU_FETCH, &t), VEC_PF, 0); /* I/D needs NX or SMEP */
	CHECK_OK(mmu_translate(cpu, 0x7fffff, 0, &t));
	CHECK_EQ(t.gpa, 0xbfffff);
	CHECK_EQ(t.page_size, 4 << 20);
	CHECK_OK(mmu_translate(cpu, 0x800010, 0, &t));
	CHECK_EQ(t.gpa, 0x300c00010);
	CHECK_FAULT(mmu_translate(cpu, 0xc00000, 0, &t), VEC_PF, PF_PRESENT | PF_RESERVED);
	g->cpuid.phys_bits = 32;
	CHECK_FAULT(mmu_translate(cpu, 0x800010, 0, &t), VEC_PF, PF_PRESENT | PF_RESERVED);
	g->cpuid.phys_bits = 40;
	cpu->cr4 = 0; /* no PSE: the entry names a table */
	put(g, 0x800000, 0x9007, 4);
	CHECK_OK(mmu_translate(cpu, 0x400abc, 0, &t));
	CHECK_EQ(t.gpa, 0x9abc);
	CHECK(mmu_translate_debug(cpu, 0x5001, &gpa) && gpa == 0x6001);
	CHECK(!mmu_translate_debug(cpu, 0x7000, &gpa));
	CHECK_OK(mmu_translate(cpu, 0x100005123ull, 0, &t)); /* 32-bit addresses wrap */
	CHECK_EQ(t.gpa, 0x6123);
	guest_free(g);
}

static void test_pae(void)
{
	struct guest *g = guest_protected();
	struct cpu *cpu = &g->cpu;
	struct mmu_translation t;

	cpu->pdpte[0] = TABLES | 1;
	cpu->pdpte[3] = (TABLES + 0x1000) | 1;
	cpu->cr0 |= CR0_PG;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_NXE;
	mmu_flush(cpu, true);
	put(g, TABLES, 0x200000 | 0x87, 8);
	put(g, TABLES + 0x1000 + 511 * 8, (TABLES + 0x2000) | 7, 8);
	put(g, TABLES + 0x2000 + 511 * 8, 0x7000 | 7 | NX, 8);
	CHECK_OK(mmu_translate(cpu, 0x12345, 0, &t));
	CHECK_EQ(t.gpa, 0x212345);
	CHECK_OK(mmu_translate(cpu, 0xfffff010, MMU_WRITE, &t));
	CHECK_EQ(t.gpa, 0x7010);
	CHECK_FAULT(mmu_translate(cpu, 0xfffff010, MMU_FETCH, &t), VEC_PF, PF_PRESENT | PF_FETCH);
	CHECK_FAULT(mmu_translate(cpu, 0x40000000, 0, &t), VEC_PF, 0);
	put(g, TABLES + 8, 0x400000 | 0x87 | 1ull << 55, 8); /* reserved here, not in long mode */
	CHECK_FAULT(mmu_translate(cpu, 0x200000, 0, &t), VEC_PF, PF_PRESENT | PF_RESERVED);
	guest_free(g);
}

static void test_tlb(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t page = 0x205000, misses;
	void *hva;

	map(g, page, 0x300000 | P | W | U);
	CHECK_OK(read8(cpu, page));
	CHECK(!mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_WRITE)); /* D is clear */
	CHECK_OK(write8(cpu, page));
	CHECK(mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_WRITE) == at(g, 0x300000));
	CHECK(!mmu_tlb_hit(cpu, page + 4090, 8, cpu->tlb_mode, TLB_READ)); /* crosses */
	CHECK(mmu_tlb_hit(cpu, page + 4088, 8, cpu->tlb_mode, TLB_READ));
	CHECK(!mmu_tlb_hit(cpu, page, 8, TLB_USER, TLB_READ));
	misses = cpu->tlb_misses;
	CHECK_OK(write8(cpu, page + 16));
	CHECK_EQ(cpu->tlb_misses, misses);
	CHECK(g->memory.state[0x300000 >> 12] & PAGE_DIRTY);

	put(g, pte_at(page), 0x301000 | P | W | U, 8); /* the TLB keeps the old one until INVLPG */
	CHECK_OK(write8(cpu, page + 8));
	CHECK_EQ(get(g, 0x300008, 8), 1);
	mmu_flush_page(cpu, page);
	CHECK_OK(write8(cpu, page + 24));
	CHECK_EQ(get(g, 0x301018, 8), 1);
	mmu_write_protect(cpu, 0x301234);
	CHECK(!mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_WRITE));
	CHECK(mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_READ));
	mmu_flush(cpu, false);
	CHECK(!mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_READ));

	/* a read lets stores hit as well if D is set already */
	CHECK_OK(read8(cpu, page));
	CHECK(mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_WRITE));

	/* global pages survive MOV CR3, and no more than that */
	cpu->cr4 |= CR4_PGE;
	map(g, page, 0x300000 | P | W | U | G);
	CHECK_OK(read8(cpu, page));
	CHECK_OK(read8(cpu, 0x400000));
	mmu_flush(cpu, false);
	CHECK(mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_READ));
	CHECK(!mmu_tlb_hit(cpu, 0x400000, 8, cpu->tlb_mode, TLB_READ));
	mmu_flush(cpu, true);
	CHECK(!mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_READ));

	/* more local entries than are remembered one by one */
	for (uint64_t a = 0x600000; a < 0x700000; a += 4096)
		CHECK(read8(cpu, a) == X_OK);
	mmu_flush(cpu, false);
	for (uint64_t a = 0x600000; a < 0x700000; a += 4096)
		CHECK(!mmu_tlb_hit(cpu, a, 8, cpu->tlb_mode, TLB_READ));

	/* INVLPG anywhere in a large page drops all of it, and nothing else */
	CHECK_OK(read8(cpu, 0x601000));
	CHECK_OK(read8(cpu, 0x6ff000));
	CHECK_OK(read8(cpu, page));
	mmu_flush_page(cpu, 0x7ff000);
	CHECK(!mmu_tlb_hit(cpu, 0x601000, 8, cpu->tlb_mode, TLB_READ));
	CHECK(!mmu_tlb_hit(cpu, 0x6ff000, 8, cpu->tlb_mode, TLB_READ));
	CHECK(mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, TLB_READ));

	CHECK_OK(mmu_fill(cpu, page + 5, MMU_WRITE, &hva));
	CHECK(hva == at(g, 0x300005));
	CHECK_OK(mmu_fill(cpu, 0x20005, MMU_FETCH, &hva));
	CHECK(hva == at(g, 0x20005));
	guest_free(g);
}

#define PAIR 0x1000000ull /* pages that far apart have one place in the TLB */

/* Reads a page and then its pair: so the first has been put into the victim level. */
static void fill_pair(struct cpu *cpu, uint64_t page, unsigned flags)
{
	void *hva;

	CHECK_OK(mmu_fill(cpu, page, flags, &hva));
	CHECK_OK(mmu_fill(cpu, page + PAIR, flags, &hva));
	CHECK(!mmu_tlb_hit(cpu, page, 8, cpu->tlb_mode, flags == MMU_WRITE ? TLB_WRITE : TLB_READ));
}

/* The page is filled again, at `offset`, by a walk if `walks`, or else out of the victim level. */
static void check_refill(struct guest *g, uint64_t page, unsigned flags, uint64_t offset, bool walks)
{
	struct cpu *cpu = &g->cpu;
	uint64_t misses = cpu->tlb_misses, recalls = cpu->tlb_recalls;
	void *hva;

	CHECK_OK(mmu_fill(cpu, page + 5, flags, &hva));
	CHECK(hva == at(g, offset + 5));
	CHECK_EQ(cpu->tlb_misses, misses + walks);
	CHECK_EQ(cpu->tlb_recalls, recalls + !walks);
}

static void test_victims(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t page = 0x205000, entry = 0x300000 | P | W | A | D, moved = 0x301000 | P | W | A | D;

	/* [PAIR + 2 MiB, + 4 MiB) through the same page table, but that of the pair's page says something else */
	put(g, TABLES + 0x2048, (TABLES + 0x4000) | P | W, 8);
	put(g, TABLES + 0x4000 + (page >> 12 & 511) * 8, 0x302000 | P | W | A | D, 8);
	map(g, page, entry);
	for (unsigned write = 0; write < 2; write++) {
		unsigned flags = write ? MMU_WRITE : MMU_READ;

		/* by turns */
		fill_pair(cpu, page, flags);
		for (unsigned n = 0; n < 3; n++) {
			check_refill(g, page, flags, 0x300000, false);
			check_refill(g, page + PAIR, flags, 0x302000, false);
		}

		/* what changes translations is heeded */
		put(g, pte_at(page), moved, 8);
		mmu_flush_page(cpu, page);
		check_refill(g, page, flags, 0x301000, true);
		fill_pair(cpu, page, flags);
		put(g, pte_at(page), entry, 8);
		mmu_flush(cpu, false);
		check_refill(g, page + PAIR, flags, 0x302000, true);
		check_refill(g, page, flags, 0x300000, true);
		fill_pair(cpu, page, flags);
		put(g, pte_at(page), moved, 8);
		mmu_switch(cpu, 0, false);
		check_refill(g, page + PAIR, flags, 0x302000, true);
		check_refill(g, page, flags, 0x301000, true);
		map(g, page, entry);

		/* a global page and one that is not do not change places: a flush of the others would miss one */
		map(g, page, entry | G);
		cpu->cr4 |= CR4_PGE;
		mmu_flush(cpu, true);
		fill_pair(cpu, page, flags);
		check_refill(g, page, flags, 0x300000, true);
		mmu_flush(cpu, false);
		CHECK(!mmu_tlb_hit(cpu, page + PAIR, 8, cpu->tlb_mode, write ? TLB_WRITE : TLB_READ));
		map(g, page, entry);
	}

	/* the right to store unnoticed */
	fill_pair(cpu, page, MMU_WRITE);
	mmu_write_protect(cpu, 0x300000);
	check_refill(g, page, MMU_WRITE, 0x300000, true);
	fill_pair(cpu, page, MMU_WRITE);
	mmu_write_protect_all(cpu);
	check_refill(g, page + PAIR, MMU_WRITE, 0x302000, true);
	check_refill(g, page, MMU_WRITE, 0x300000, true);
	guest_free(g);
}

static void test_crossing(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t v = 0x1122334455667788, r = 0;
	uint8_t big[64], back[64], bytes[15];
	unsigned got;
	void *hva;

	map(g, 0x206000, 0x300000 | P | W | U);
	map(g, 0x207000, 0x305000 | P | W | U);
	CHECK_OK(mmu_write(cpu, 0x206ffd, &v, 8, 0));
	CHECK_EQ(get(g, 0x300ffd, 1), 0x88);
	CHECK_EQ(get(g, 0x305000, 4), 0x22334455);
	CHECK_OK(mmu_read(cpu, 0x206ffd, &r, 8, 0));
	CHECK_EQ(r, v);
	for (unsigned i = 0; i < 64; i++)
		big[i] = (uint8_t)i;
	CHECK_OK(mmu_write(cpu, 0x206fe1, big, 64, 0));
	CHECK_OK(mmu_read(cpu, 0x206fe1, back, 64, 0));
	CHECK(!memcmp(big, back, 64));
	CHECK_OK(mmu_writable_pointer(cpu, 0x206ffd, 8, &hva));
	CHECK(!hva);
	CHECK_OK(mmu_writable_pointer(cpu, 0x206ff8, 8, &hva));
	CHECK(hva == at(g, 0x300ff8));

	map(g, 0x207000, 0);
	put(g, 0x300ff8, 0, 8);
	CHECK_FAULT(mmu_write(cpu, 0x206ffd, &v, 8, 0), VEC_PF, PF_WRITE);
	CHECK_EQ(cpu->fault.cr2, 0x207000);
	CHECK_EQ(get(g, 0x300ff8, 8), 0); /* nothing was written */
	CHECK_FAULT(mmu_probe(cpu, 0x206ffd, 8, MMU_WRITE), VEC_PF, PF_WRITE);
	CHECK_FAULT(mmu_writable_pointer(cpu, 0x206ffd, 8, &hva), VEC_PF, PF_WRITE);
	cpu->fault = (struct fault){.vector = 99};
	CHECK_OK(mmu_fetch(cpu, 0x206ff9, bytes, 15, &got));
	CHECK_EQ(got, 7);
	CHECK_EQ(cpu->fault.vector, 99);
	CHECK_FAULT(mmu_fetch(cpu, 0x207000, bytes, 15, &got), VEC_PF, PF_FETCH);
	CHECK_EQ(got, 0);
	map(g, 0x207000, 0x20000000 | P | W | U);
	CHECK_OK(mmu_fetch(cpu, 0x207000, bytes, 15, &got)); /* no memory there */
	CHECK_EQ(got, 15);
	CHECK_EQ(bytes[14], 0xff);
	guest_free(g);
}

/* What the loop does with an exit: answers it into the log. */
static void answer(struct cpu *cpu, uint64_t value)
{
	struct io_access *a = &cpu->io.access[cpu->io.count++];

	*a = cpu->exit.io;
	if (!a->write)
		a->value = value;
	cpu->io.next = 0;
}

static void test_mmio(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t v = 0, w = 0xaabbccdd11223344;
	uint8_t big[16];
	uint32_t in;

	map(g, 0x208000, 0xfee00000 | P | W | U);
	map(g, 0x207000, 0x300000 | P | W | U);
	CHECK(mmu_read(cpu, 0x208030, &v, 4, 0) == X_EXIT);
	CHECK(cpu->exit.reason == EXIT_MMIO && !cpu->exit.io.write && cpu->exit.io.addr == 0xfee00030 &&
	      cpu->exit.io.size == 4);
	answer(cpu, 0xffffffff12345678);
	CHECK_OK(mmu_read(cpu, 0x208030, &v, 4, 0));
	CHECK_EQ(v, 0x12345678);
	CHECK_EQ(cpu->io.next, 1);

	/* unaligned: pieces, in order */
	cpu->io.count = cpu->io.next = 0;
	CHECK(mmu_read(cpu, 0x208031, big, 10, 0) == X_EXIT);
	CHECK(cpu->exit.io.addr == 0xfee00031 && cpu->exit.io.size == 1);
	answer(cpu, 0x11);
	CHECK(mmu_read(cpu, 0x208031, big, 10, 0) == X_EXIT);
	CHECK(cpu->exit.io.addr == 0xfee00032 && cpu->exit.io.size == 2);
	answer(cpu, 0x3322);
	CHECK(mmu_read(cpu, 0x208031, big, 10, 0) == X_EXIT);
	CHECK(cpu->exit.io.addr == 0xfee00034 && cpu->exit.io.size == 4);
	answer(cpu, 0x77665544);
	CHECK(mmu_read(cpu, 0x208031, big, 10, 0) == X_EXIT);
	CHECK(cpu->exit.io.addr == 0xfee00038 && cpu->exit.io.size == 2);
	answer(cpu, 0x9988);
	CHECK(mmu_read(cpu, 0x208031, big, 10, 0) == X_EXIT);
	CHECK(cpu->exit.io.addr == 0xfee0003a && cpu->exit.io.size == 1);
	answer(cpu, 0);
	CHECK_OK(mmu_read(cpu, 0x208031, big, 10, 0));
	CHECK(!memcmp(big, "\x11\x22\x33\x44\x55\x66\x77\x88\x99", 9) && big[9] == 0);

	/* a store half in RAM: RAM changes only when the device has its part */
	cpu->io.count = cpu->io.next = 0;
	CHECK(mmu_write(cpu, 0x207ffc, &w, 8, 0) == X_EXIT);
	CHECK(cpu->exit.io.write && cpu->exit.io.addr == 0xfee00000 && cpu->exit.io.value == 0xaabbccdd);
	CHECK_EQ(get(g, 0x300ffc, 4), 0);
	answer(cpu, 0);
	CHECK_OK(mmu_write(cpu, 0x207ffc, &w, 8, 0));
	CHECK_EQ(get(g, 0x300ffc, 4), 0x11223344);

	cpu->io.count = cpu->io.next = 0;
	CHECK(mmu_port_in(cpu, 0x3f8, 1, &in) == X_EXIT);
	CHECK(cpu->exit.reason == EXIT_PIO && cpu->exit.io.port && cpu->exit.io.addr == 0x3f8);
	answer(cpu, 0x1ff);
	CHECK_OK(mmu_port_in(cpu, 0x3f8, 1, &in));
	CHECK_EQ(in, 0xff);
	cpu->io.count = cpu->io.next = 0;
	CHECK(mmu_port_out(cpu, 0x80, 2, 0x12345) == X_EXIT);
	CHECK_EQ(cpu->exit.io.value, 0x2345);

	cpu->io.count = cpu->io.next = IO_LOG_MAX;
	CHECK(mmu_port_out(cpu, 0x80, 2, 1) == X_EXIT && cpu->exit.reason == EXIT_ERROR);
	cpu->io.count = cpu->io.next = 0;
	guest_free(g);
}

static uint64_t written_gpa, written_len, written_value;
static struct guest *hooked;
static void on_code_write(struct cpu *cpu, uint64_t offset, uint64_t len)
{
	(void)cpu;
	written_gpa = offset; /* below 3 GiB of RAM they are the same */
	written_len = len;
	memcpy(&written_value, hooked->memory.base + offset, 8);
}

static void test_code_pages(void)
{
	static const struct cpu_engine_hooks hooks = {.code_write = on_code_write};
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	void *hva;

	hooked = g;
	cpu->hooks = &hooks;
	map(g, 0x209000, 0x300000 | P | W | U);
	put(g, 0x300010, 7, 8);
	g->memory.state[0x300000 >> 12] = PAGE_HAS_CODE;
	CHECK_OK(write8(cpu, 0x209010));
	CHECK(written_gpa == 0x300010 && written_len == 8 && written_value == 7);
	CHECK_EQ(get(g, 0x300010, 8), 1);
	CHECK(!mmu_tlb_hit(cpu, 0x209010, 8, cpu->tlb_mode, TLB_WRITE));
	CHECK_OK(mmu_fill(cpu, 0x209010, MMU_WRITE, &hva));
	CHECK(!hva);
	CHECK_OK(mmu_fill(cpu, 0x209010, MMU_READ, &hva));
	CHECK(hva);
	CHECK(!mmu_tlb_hit(cpu, 0x209010, 8, cpu->tlb_mode, TLB_WRITE));
	written_gpa = 0;
	CHECK_OK(mmu_writable_pointer(cpu, 0x209020, 4, &hva));
	CHECK(hva == at(g, 0x300020) && written_gpa == 0x300020 && written_len == 4);
	/* A and D in a page table with translated code in its page */
	g->memory.state[(TABLES + 0x3000) >> 12] = PAGE_HAS_CODE;
	map(g, 0x20a000, 0x301000 | P | W | U);
	CHECK_OK(write8(cpu, 0x20a000));
	CHECK_EQ(written_gpa, pte_at(0x20a000));
	CHECK(g->memory.state[(TABLES + 0x3000) >> 12] & PAGE_DIRTY);
	guest_free(g);
}

/* A block that is mapped read-only, and the same one where it may be written. */
static void test_rom(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	uint64_t rom, gpa = 0xfffff000, other = 0xffff0000, walked;
	void *hva;

	CHECK_EQ(memory_add_block(&g->memory, PAGE_SIZE, &rom), 0);
	CHECK_EQ(memory_map(&g->memory, gpa, PAGE_SIZE, rom, true), 0);
	CHECK_EQ(memory_map(&g->memory, other, PAGE_SIZE, rom, false), 0);
	map(g, 0x209000, gpa | P | W | U);
	CHECK_OK(read8(cpu, 0x209010));
	CHECK(mmu_tlb_hit(cpu, 0x209010, 8, cpu->tlb_mode, TLB_READ) == g->memory.base + rom + 0x10);
	CHECK(!mmu_tlb_hit(cpu, 0x209010, 8, cpu->tlb_mode, TLB_WRITE));
	CHECK(write8(cpu, 0x209010) == X_EXIT && cpu->exit.reason == EXIT_MMIO && cpu->exit.io.write);
	CHECK(cpu->exit.io.addr == gpa + 0x10 && cpu->exit.io.size == 8 && cpu->exit.io.value == 1);
	CHECK(!mmu_tlb_hit(cpu, 0x209010, 8, cpu->tlb_mode, TLB_WRITE));
	CHECK_EQ(g->memory.base[rom + 0x10], 0);
	CHECK_OK(mmu_fill(cpu, 0x209010, MMU_WRITE, &hva));
	CHECK(!hva);
	CHECK_OK(mmu_writable_pointer(cpu, 0x209010, 4, &hva));
	CHECK(!hva);
	CHECK_OK(fetch1(cpu, 0x209010));
	map(g, 0x20a000, other | P | W | U);
	CHECK_OK(write8(cpu, 0x20a010));
	CHECK_EQ(g->memory.base[rom + 0x10], 1);
	CHECK(g->memory.state[rom >> 12] & PAGE_DIRTY);
	written_gpa = 0;
	static const struct cpu_engine_hooks hooks = {.code_write = on_code_write};
	hooked = g;
	cpu->hooks = &hooks;
	g->memory.state[rom >> 12] |= PAGE_HAS_CODE;
	mmu_write_protect(cpu, rom);
	CHECK(!mmu_tlb_hit(cpu, 0x20a010, 8, cpu->tlb_mode, TLB_WRITE));
	CHECK_OK(write8(cpu, 0x20a010));
	CHECK_EQ(written_gpa, rom + 0x10);
	cpu->hooks = NULL;

	/* a page table in it: no A, no D, no loop */
	uint64_t entry = 0x300000 | P | W | U;
	memory_block_write(&g->memory, rom, &entry, 8);
	put(g, TABLES + 0x2010, gpa | P | W | U, 8); /* linear 0x400000 */
	mmu_flush(cpu, true);
	CHECK_OK(write8(cpu, 0x400008));
	CHECK_EQ(get(g, 0x300008, 8), 1);
	CHECK_EQ(g->memory.base[rom], P | W | U);
	CHECK(mmu_translate_debug(cpu, 0x400008, &walked) && walked == 0x300008);
	guest_free(g);
}

static unsigned flushes, page_flushes;
static bool flushed_global;
static void on_flush(struct cpu *cpu, bool global_too)
{
	(void)cpu;
	flushes++;
	flushed_global = global_too;
}
static void on_flush_page(struct cpu *cpu, uint64_t gva)
{
	(void)cpu;
	(void)gva;
	page_flushes++;
}

/* Engines hear of every flush; of a page that may lie in a large page of code, as one of everything. */
static void test_flush_hooks(void)
{
	static const struct cpu_engine_hooks hooks = {.tlb_flushed = on_flush, .tlb_flushed_page = on_flush_page};
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;

	cpu->hooks = &hooks;
	mmu_flush(cpu, false);
	CHECK(flushes == 1 && !flushed_global);
	CHECK_OK(fetch1(cpu, 0x600123));
	mmu_flush_page(cpu, 0x200000);
	CHECK(flushes == 1 && page_flushes == 1);
	CHECK(mmu_tlb_hit(cpu, 0x600000, 1, TLB_KERNEL_USER, TLB_FETCH));
	mmu_flush_page(cpu, 0x7ff000);
	CHECK(flushes == 2 && flushed_global && page_flushes == 1);
	CHECK(!mmu_tlb_hit(cpu, 0x600000, 1, TLB_KERNEL_USER, TLB_FETCH));
	guest_free(g);
}

/* No address hits an entry that is empty, canonical or not. */
static void test_empty(void)
{
	struct guest *g = guest_4k();

	for (uint64_t base = 0; base < 16; base++)
		for (int64_t page = -600; page < 600; page++)
			if (mmu_tlb_hit(&g->cpu, (base << 60) + (uint64_t)page * 4096 + 8, 8, TLB_USER, TLB_READ))
				CHECK(0);
	CHECK(true);
	guest_free(g);
}

static void test_breakpoints(void)
{
	struct guest *g = guest_4k();
	struct cpu *cpu = &g->cpu;
	void *hva;

	map(g, 0x20b000, 0x300000 | P | W | U);
	cpu->dr[1] = 0x20b010;
	cpu->dr[7] = 0x400 | 1 << 2 | 1u << 20 | 3u << 22; /* DR1: stores, 4 bytes */
	CHECK_OK(write8(cpu, 0x20b000));
	CHECK_EQ(cpu->db_pending, 0);
	CHECK_OK(read8(cpu, 0x20b010));
	CHECK_EQ(cpu->db_pending, 0);
	CHECK_OK(write8(cpu, 0x20b00d));
	CHECK_EQ(cpu->db_pending, 2);
	CHECK(!mmu_tlb_hit(cpu, 0x20b000, 8, cpu->tlb_mode, TLB_READ));
	CHECK_OK(mmu_fill(cpu, 0x20b000, MMU_READ, &hva));
	CHECK(!hva);
	guest_free(g);
}

int main(void)
{
	test_rights();
	test_smep_smap_pku();
	test_reserved();
	test_32bit();
	test_pae();
	test_tlb();
	test_victims();
	test_crossing();
	test_mmio();
	test_code_pages();
	test_rom();
	test_flush_hooks();
	test_empty();
	test_breakpoints();
	return report();
}
