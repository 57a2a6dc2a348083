/*
 * Paging and memory accesses: page walks, what fills the software TLB, the slow half of reads and
 * writes, instruction fetch, and I/O through the vCPU's log. tlb.c empties the TLB again.
 *
 * Sources: SDM 3A chapter 4 (paging), 3A 4.6 (access rights), 3A 4.7 (#PF error code); APM 2 chapter 5.
 * Thread: the vCPU's; no lock. Page tables lie in guest RAM, which other vCPUs and devices write at
 * the same time: entries are read once, atomically, and A and D are set by compare-and-swap.
 *
 * Whoever changes what these functions depend on without going through cpu_write_cr calls mmu_flush:
 * PKRU (its shadow in struct cpu), DR0-DR3 and DR7.
 */
#include <sys/mman.h>

#include "cpu/protection.h"

#include "cpu/cpuid.h"
#include "mem/memory.h"

#define PTE_P (1ull << 0)
#define PTE_W (1ull << 1)
#define PTE_U (1ull << 2)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_G (1ull << 8)
#define PTE_NX (1ull << 63)
#define PTE_FRAME 0x000ffffffffff000ull
#define PTE_KEY(e) ((e) >> 59 & 15)

/* A table entry that does not lie in RAM: what a bus without a device answers. */
#define ENTRY_OUTSIDE UINT64_MAX

/* Another vCPU may change an entry between our reading it and setting A or D: then the walk starts
 * over, this many times; after that the bits are set in whatever is there now. */
#define WALK_RETRIES 16

struct access {
	enum tlb_mode mode;
	enum tlb_kind kind;
	bool debug; /* look only: no rights, no A and D */
	bool force; /* set A and D even if the entry has changed */
};

struct walk {
	struct mmu_translation t;
	uint32_t error; /* of the #PF, without W, U and I: 0 = not present */
	uint8_t key;
};

enum walk_result { WALK_OK, WALK_FAULT, WALK_AGAIN };

/* Where one page's part of an access goes. */
struct target {
	uint64_t gpa;
	uint8_t *hva; /* NULL: no memory, or a store to what is read-only */
	bool code;    /* translated code was made from the page */
	bool watched; /* a data breakpoint lies in the page */
};

static enum tlb_mode fetch_mode(const struct cpu *cpu)
{
	if (cpu->cpl == 3)
		return TLB_USER;
	return cpu->cr4 & CR4_SMEP ? TLB_KERNEL : TLB_KERNEL_USER;
}

void mmu_copy_any(void *to, const void *from, unsigned size)
{
	unsigned long n = size;

	switch (size) {
	case 1:
		__builtin_memcpy(to, from, 1);
		break;
	case 2:
		__builtin_memcpy(to, from, 2);
		break;
	case 4:
		__builtin_memcpy(to, from, 4);
		break;
	case 8:
		__builtin_memcpy(to, from, 8);
		break;
	default:
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	}
}

/* ---- page state ---- */

static uint8_t *page_state(const struct cpu *cpu, uint64_t offset) { return &cpu->memory->state[offset >> PAGE_SHIFT]; }

#define PAGE_WRITTEN (PAGE_DIRTY | PAGE_UNCOMPARED)

static void page_mark_dirty(const struct cpu *cpu, uint64_t offset)
{
	uint8_t *state = page_state(cpu, offset);

	if ((__atomic_load_n(state, __ATOMIC_RELAXED) & PAGE_WRITTEN) != PAGE_WRITTEN)
		__atomic_fetch_or(state, PAGE_WRITTEN, __ATOMIC_RELAXED);
}

static void note_store(struct cpu *cpu, void *hva, unsigned size, bool entry)
{
	if (__builtin_expect(cpu->store_log != NULL, 0))
		store_log_add(cpu->store_log, hva, size, entry);
}

/* [hva, hva+len) of memory with translated code is about to change. */
static void code_write(struct cpu *cpu, const void *hva, uint64_t len)
{
	if (cpu->hooks && cpu->hooks->code_write)
		cpu->hooks->code_write(cpu, (uint64_t)((const uint8_t *)hva - cpu->memory->base), len);
}

/* ---- the walk ---- */

/* Sets bits in the table entry at p, if it still is `old`. In ROM nothing changes. */
static bool entry_set(struct cpu *cpu, const struct access *a, uint64_t gpa, void *p, unsigned size, uint64_t old,
		      uint64_t bits)
{
	uint64_t offset = (uint64_t)((uint8_t *)p - cpu->memory->base);

	if (memory_offset_writable(cpu->memory, gpa, size) == MEMORY_NOT_RAM)
		return true;
	if (__atomic_load_n(page_state(cpu, offset), __ATOMIC_RELAXED) & PAGE_HAS_CODE)
		code_write(cpu, p, size);
	page_mark_dirty(cpu, offset);
	note_store(cpu, p, size, true);
	if (size == 4) {
		uint32_t old32 = (uint32_t)old;

		if (__atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return true;
		if (a->force)
			__atomic_fetch_or((uint32_t *)p, (uint32_t)bits, __ATOMIC_SEQ_CST);
		return a->force;
	}
	if (__atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return true;
	if (a->force)
		__atomic_fetch_or((uint64_t *)p, bits, __ATOMIC_SEQ_CST);
	return a->force;
}

static bool key_denies(const struct cpu *cpu, const struct access *a, const struct walk *w)
{
	unsigned rights;

	if (!(cpu->cr4 & CR4_PKE) || !cpu_long_active(cpu) || !w->t.user)
		return false;
	rights = cpu->pkru_shadow >> (2 * w->key) & 3; /* AD, WD */
	if (rights & 1)
		return true;
	return (rights & 2) && a->kind == TLB_WRITE && (a->mode == TLB_USER || (cpu->cr0 & CR0_WP));
}

/* 0: the access is allowed; otherwise bits of the error code. SDM 3A 4.6, 4.7. */
static uint32_t rights_denied(const struct cpu *cpu, const struct access *a, const struct walk *w)
{
	bool denied = a->mode == TLB_USER ? !w->t.user : a->mode == TLB_KERNEL && w->t.user;
	uint32_t error;

	if (a->kind == TLB_FETCH)
		return denied || !w->t.executable ? PF_PRESENT : 0;
	if (a->kind == TLB_WRITE && !w->t.writable && (a->mode == TLB_USER || (cpu->cr0 & CR0_WP)))
		denied = true;
	error = denied ? PF_PRESENT : 0;
	if (key_denies(cpu, a, w))
		error |= PF_PRESENT | PF_PROTECTION_KEY;
	return error;
}

/* The last entry of a walk is known: rights, A and D. */
static enum walk_result walk_leaf(struct cpu *cpu, const struct access *a, uint64_t gpa, void *p, unsigned size,
				  uint64_t entry, struct walk *w)
{
	uint64_t bits = a->kind == TLB_WRITE ? PTE_A | PTE_D : PTE_A;

	w->t.dirty = entry & PTE_D;
	if (a->debug)
		return WALK_OK;
	w->error = rights_denied(cpu, a, w);
	if (w->error)
		return WALK_FAULT;
	if ((entry & bits) != bits) {
		if (!entry_set(cpu, a, gpa, p, size, entry, bits))
			return WALK_AGAIN;
		w->t.dirty = (entry | bits) & PTE_D;
	}
	return WALK_OK;
}

static enum walk_result walk_fails(struct walk *w, uint32_t error)
{
	w->error = error;
	return WALK_FAULT;
}

/* Bits that must be 0 in an entry of this level (3 = PML4 ... 0 = page table). SDM 3A tables 4-9 to 4-20. */
static uint64_t entry_reserved(const struct cpu *cpu, uint64_t entry, unsigned level, uint64_t always)
{
	if (!(entry & PTE_PS) || level == 0)
		return always;
	if (level == 1)
		return always | 0x1fe000;
	if (level == 2 && cpu_has(cpu, FEATURE_PDPE1GB) && cpu_long_active(cpu))
		return always | 0x3fffe000;
	return always | PTE_PS;
}

/* Tables of 8-byte entries, from `level` down. */
static enum walk_result walk64(struct cpu *cpu, uint64_t linear, uint64_t table, unsigned level, const struct access *a,
			       struct walk *w)
{
	uint64_t all = PTE_W | PTE_U, any = 0, entry, gpa, *p;
	uint64_t reserved = ~0ull << cpu->cpuid->phys_bits & (cpu_long_active(cpu) ? 0xfffffffffffffull : ~PTE_NX);

	if (!(cpu->efer & EFER_NXE))
		reserved |= PTE_NX;
	for (;; level--) {
		gpa = table + (linear >> (12 + 9 * level) & 511) * 8;
		p = (uint64_t *)memory_hva(cpu->memory, gpa, 8);
		entry = p ? __atomic_load_n(p, __ATOMIC_RELAXED) : ENTRY_OUTSIDE;
		if (!(entry & PTE_P))
			return walk_fails(w, 0);
		if (entry & entry_reserved(cpu, entry, level, reserved))
			return walk_fails(w, PF_PRESENT | PF_RESERVED);
		all &= entry;
		any |= entry;
		if (level == 0 || (entry & PTE_PS))
			break;
		if (!(entry & PTE_A) && !a->debug && !entry_set(cpu, a, gpa, p, 8, entry, PTE_A))
			return WALK_AGAIN;
		table = entry & PTE_FRAME;
	}
	w->t.page_size = 1ull << (12 + 9 * level);
	w->t.gpa = (entry & PTE_FRAME & ~(w->t.page_size - 1)) | (linear & (w->t.page_size - 1));
	w->t.writable = all & PTE_W;
	w->t.user = all & PTE_U;
	w->t.executable = !(any & PTE_NX);
	w->t.global = (entry & PTE_G) && (cpu->cr4 & CR4_PGE);
	w->key = PTE_KEY(entry);
	return walk_leaf(cpu, a, gpa, p, 8, entry, w);
}

/* PAE: the four pointers were read, and checked, when CR3 was loaded. SDM 3A 4.4.1. */
static enum walk_result walk_pae(struct cpu *cpu, uint64_t linear, const struct access *a, struct walk *w)
{
	uint64_t pointer = cpu->pdpte[linear >> 30 & 3];

	if (!(pointer & PTE_P))
		return walk_fails(w, 0);
	return walk64(cpu, linear, pointer & PTE_FRAME, 1, a, w);
}

/* 32-bit paging: two levels of 4-byte entries, 4M pages with CR4.PSE, up to 40 address bits (PSE-36). */
static enum walk_result walk32(struct cpu *cpu, uint64_t linear, const struct access *a, struct walk *w)
{
	uint64_t gpa = (cpu->cr3 & 0xfffff000) + (linear >> 22 & 1023) * 4;
	uint32_t *p = (uint32_t *)memory_hva(cpu->memory, gpa, 4);
	uint32_t entry = p ? __atomic_load_n(p, __ATOMIC_RELAXED) : (uint32_t)ENTRY_OUTSIDE;
	uint32_t all = entry;

	if (!(entry & PTE_P))
		return walk_fails(w, 0);
	if ((entry & PTE_PS) && (cpu->cr4 & CR4_PSE)) {
		uint64_t high = entry >> 13 & 0xff; /* address bits 39-32 */

		if ((entry & 1u << 21) || high << 32 >> cpu->cpuid->phys_bits)
			return walk_fails(w, PF_PRESENT | PF_RESERVED);
		w->t.page_size = 1u << 22;
		w->t.gpa = high << 32 | (entry & 0xffc00000) | (linear & 0x3fffff);
	} else {
		if (!(entry & PTE_A) && !a->debug && !entry_set(cpu, a, gpa, p, 4, entry, PTE_A))
			return WALK_AGAIN;
		gpa = (entry & 0xfffff000) + (linear >> 12 & 1023) * 4;
		p = (uint32_t *)memory_hva(cpu->memory, gpa, 4);
		entry = p ? __atomic_load_n(p, __ATOMIC_RELAXED) : (uint32_t)ENTRY_OUTSIDE;
		if (!(entry & PTE_P))
			return walk_fails(w, 0);
		all &= entry;
		w->t.page_size = PAGE_SIZE;
		w->t.gpa = (entry & 0xfffff000) | (linear & 0xfff);
	}
	w->t.writable = all & PTE_W;
	w->t.user = all & PTE_U;
	w->t.executable = true;
	w->t.global = (entry & PTE_G) && (cpu->cr4 & CR4_PGE);
	w->key = 0;
	return walk_leaf(cpu, a, gpa, p, 4, entry, w);
}

static enum walk_result walk(struct cpu *cpu, uint64_t linear, const struct access *a, struct walk *w)
{
	if (!(cpu->cr0 & CR0_PG)) {
		w->t = (struct mmu_translation){.gpa = linear,
						.page_size = PAGE_SIZE,
						.writable = true,
						.user = true,
						.executable = true,
						.dirty = true};
		return WALK_OK;
	}
	if (cpu_long_active(cpu))
		return walk64(cpu, linear, cpu->cr3 & PTE_FRAME, 3, a, w);
	if (cpu->cr4 & CR4_PAE)
		return walk_pae(cpu, linear, a, w);
	return walk32(cpu, linear, a, w);
}

/* INVLPG of any address in a large page must find all that was cached of it. */
static void note_large(struct cpu *cpu, uint64_t linear, uint64_t size, bool fetch)
{
	struct tlb_large_range *r = &cpu->tlb->large[linear >> 63][fetch];
	uint64_t mask = ~(size - 1);

	if (r->base == 1) {
		*r = (struct tlb_large_range){.base = linear & mask, .mask = mask};
		return;
	}
	mask &= r->mask;
	while ((linear & mask) != (r->base & mask))
		mask <<= 1;
	*r = (struct tlb_large_range){.base = linear & mask, .mask = mask};
}

/* A whole walk with the access's rights; raises #PF, or #GP(0) for an address that is not canonical. */
static enum x page_walk(struct cpu *cpu, uint64_t *linear, struct access *a, struct walk *w)
{
	enum walk_result result;
	uint32_t error;

	if (!cpu_long_active(cpu))
		*linear = (uint32_t)*linear;
	else if (!cpu_canonical(*linear))
		return cpu_raise_error(cpu, VEC_GP, 0);
	for (unsigned tries = 0; (result = walk(cpu, *linear, a, w)) == WALK_AGAIN; tries++)
		a->force = tries >= WALK_RETRIES;
	if (result == WALK_OK) {
		if (w->t.page_size > PAGE_SIZE)
			note_large(cpu, *linear, w->t.page_size, a->kind == TLB_FETCH);
		return X_OK;
	}
	error = w->error;
	if (a->kind == TLB_WRITE)
		error |= PF_WRITE;
	if (a->mode == TLB_USER)
		error |= PF_USER;
	if (a->kind == TLB_FETCH && ((cpu->cr4 & CR4_SMEP) || ((cpu->cr4 & CR4_PAE) && (cpu->efer & EFER_NXE))))
		error |= PF_FETCH;
	CPU_LOG(cpu, LOG_MMU, "page fault: linear %#llx error %#x rip %#llx cpl %u", (unsigned long long)*linear, error,
		(unsigned long long)cpu->rip, cpu->cpl);
	return cpu_raise_page_fault(cpu, *linear, error);
}

static struct access access_of(const struct cpu *cpu, unsigned flags)
{
	if (flags & MMU_FETCH)
		return (struct access){.mode = fetch_mode(cpu), .kind = TLB_FETCH};
	return (struct access){.mode = mmu_data_mode(cpu, flags), .kind = flags & MMU_WRITE ? TLB_WRITE : TLB_READ};
}

enum x mmu_translate(struct cpu *cpu, uint64_t linear, unsigned flags, struct mmu_translation *t)
{
	struct access a = access_of(cpu, flags);
	struct walk w;

	TRY(page_walk(cpu, &linear, &a, &w));
	*t = w.t;
	return X_OK;
}

bool mmu_translate_debug(struct cpu *cpu, uint64_t linear, uint64_t *gpa)
{
	struct access a = {.debug = true};
	struct walk w;

	if (!cpu_long_active(cpu))
		linear = (uint32_t)linear;
	else if (!cpu_canonical(linear))
		return false;
	if (walk(cpu, linear, &a, &w) != WALK_OK)
		return false;
	*gpa = w.t.gpa;
	return true;
}

/* ---- filling the TLB ---- */

/* A data breakpoint in this page: every access must come to the slow path. */
static bool page_watched(const struct cpu *cpu, uint64_t linear)
{
	if (!debug_armed(cpu))
		return false;
	for (unsigned i = 0; i < 4; i++) {
		unsigned enabled = cpu->dr[7] >> (2 * i) & 3, type = cpu->dr[7] >> (16 + 4 * i) & 3;

		if (enabled && (type & 1) && (cpu->dr[i] & PAGE_MASK) == (linear & PAGE_MASK))
			return true;
	}
	return false;
}

static struct tlb_victim *victim_of(struct tlb *tlb, enum tlb_mode mode, enum tlb_kind kind, uint64_t linear)
{
	return &tlb->victim[mode][kind][linear >> PAGE_SHIFT & (TLB_VICTIMS - 1)];
}

/* Entry `i` is about to be another page's. */
static void victim_keep(struct tlb *tlb, enum tlb_mode mode, enum tlb_kind kind, unsigned i, uint64_t page)
{
	const struct tlb_set *set = &tlb->set[mode][kind];

	if (set->minus_page[i] != tlb_empty(i) && set->minus_page[i] != -page)
		*victim_of(tlb, mode, kind, page) = (struct tlb_victim){
			.minus_page = set->minus_page[i], .addend = set->addend[i],
			.generation = tlb->victim_generation, .flags = tlb->flags[mode][kind][i],
		};
}

/* Did another page's entry take the place of this one's? Then they change places, if they are of one kind: recent[] has the
 * place for both then, or for neither. */
static bool victim_recall(struct tlb *tlb, enum tlb_mode mode, enum tlb_kind kind, uint64_t linear)
{
	struct tlb_victim *v = victim_of(tlb, mode, kind, linear), old = *v;
	struct tlb_set *set = &tlb->set[mode][kind];
	unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);

	if (old.generation != tlb->victim_generation || old.minus_page != -(linear & PAGE_MASK) ||
	    old.flags != tlb->flags[mode][kind][i] || set->minus_page[i] == tlb_empty(i))
		return false;
	v->minus_page = set->minus_page[i];
	v->addend = set->addend[i];
	set->addend[i] = old.addend;
	set->minus_page[i] = old.minus_page;
	return true;
}

static void tlb_enter(struct cpu *cpu, enum tlb_mode mode, enum tlb_kind kind, uint64_t linear, uint8_t *hva,
		      const struct walk *w)
{
	struct tlb *tlb = cpu->tlb;
	struct tlb_set *set = &tlb->set[mode][kind];
	uint64_t page = linear & PAGE_MASK;
	unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);

	victim_keep(tlb, mode, kind, i, page);
	set->addend[i] = (uint64_t)(uintptr_t)hva - linear;
	set->minus_page[i] = -page;
	tlb->flags[mode][kind][i] = (w->t.global ? TLB_GLOBAL : 0) | (w->t.page_size > PAGE_SIZE ? TLB_LARGE : 0);
	tlb->used[mode][kind] = true;
	if (!w->t.global) {
		uint32_t n = tlb->local[mode][kind];

		if (n < TLB_RECENT)
			tlb->recent[mode][kind][n] = (uint16_t)i;
		if (n <= TLB_RECENT)
			tlb->local[mode][kind] = n + 1;
	}
}

/* May the other kind's entry be filled along with one? Not in place of another page's: a copy between pages
 * that share their index would miss every time. */
static bool tlb_vacant(const struct cpu *cpu, enum tlb_mode mode, enum tlb_kind kind, uint64_t linear)
{
	unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);
	uint64_t entry = cpu->tlb->set[mode][kind].minus_page[i];

	return entry == tlb_empty(i) || entry == -(linear & PAGE_MASK);
}

/* Translates one page's part of an access, and enters it into the TLB if the next one may hit. */
static enum x resolve(struct cpu *cpu, uint64_t linear, struct access a, struct target *target)
{
	struct walk w;
	uint64_t offset;
	bool readonly;
	uint8_t state;

	cpu->tlb_misses++;
	TRY(page_walk(cpu, &linear, &a, &w));
	*target = (struct target){.gpa = w.t.gpa};
	target->watched = a.kind != TLB_FETCH && page_watched(cpu, linear);
	offset = memory_offset_rights(cpu->memory, w.t.gpa, 1, &readonly);
	if (offset == MEMORY_NOT_RAM || (readonly && a.kind == TLB_WRITE))
		return X_OK;
	target->hva = cpu->memory->base + offset;
	if (a.kind == TLB_WRITE)
		page_mark_dirty(cpu, offset);
	state = __atomic_load_n(page_state(cpu, offset), __ATOMIC_ACQUIRE);
	target->code = state & PAGE_HAS_CODE;
	if (target->watched)
		return X_OK;
	if (a.kind == TLB_FETCH) {
		tlb_enter(cpu, a.mode, TLB_FETCH, linear, target->hva, &w);
		return X_OK;
	}
	if (a.kind == TLB_READ || tlb_vacant(cpu, a.mode, TLB_READ, linear))
		tlb_enter(cpu, a.mode, TLB_READ, linear, target->hva, &w);
	if (target->code || readonly || !w.t.dirty || (state & PAGE_WRITTEN) != PAGE_WRITTEN)
		return X_OK;
	if (a.kind == TLB_READ) { /* a store would change nothing but the bytes: let it hit as well */
		a.kind = TLB_WRITE;
		if (!tlb_vacant(cpu, a.mode, TLB_WRITE, linear) || rights_denied(cpu, &a, &w))
			return X_OK;
	}
	tlb_enter(cpu, a.mode, TLB_WRITE, linear, target->hva, &w);
	return X_OK;
}

enum x mmu_fill(struct cpu *cpu, uint64_t linear, unsigned flags, void **hva)
{
	struct access a = access_of(cpu, flags);
	struct target target;

	*hva = mmu_tlb_hit(cpu, linear, 1, a.mode, a.kind);
	if (*hva) /* the access crosses into another page */
		return X_OK;
	if (victim_recall(cpu->tlb, a.mode, a.kind, linear)) {
		cpu->tlb_recalls++;
		*hva = mmu_tlb_hit(cpu, linear, 1, a.mode, a.kind);
		return X_OK;
	}
	TRY(resolve(cpu, linear, a, &target));
	if (!target.watched && !(a.kind == TLB_WRITE && target.code))
		*hva = target.hva;
	return X_OK;
}

/* ---- I/O ---- */

/* One access of 1, 2, 4 or 8 bytes to a device: out of the log when it was done already. */
static enum x io_access(struct cpu *cpu, const struct io_access *want, uint64_t *value)
{
	struct io_log *log = &cpu->io;

	if (log->next < log->count) {
		const struct io_access *a = &log->access[log->next];

		if (a->addr == want->addr && a->size == want->size && a->write == want->write &&
		    a->port == want->port) {
			log->next++;
			*value = a->value;
			return X_OK;
		}
		log->count = log->next; /* memory changed meanwhile, and the instruction goes another way */
	}
	cpu->exit.io = *want;
	cpu->exit.error = NULL;
	cpu->exit.reason = want->port ? EXIT_PIO : EXIT_MMIO;
	if (log->next >= IO_LOG_MAX) {
		cpu->exit.reason = EXIT_ERROR;
		cpu->exit.error = "one instruction makes more accesses to I/O memory than can be remembered";
	}
	return X_EXIT;
}

/* [gpa, gpa+size) of I/O memory, in naturally aligned pieces of up to 8 bytes. */
static enum x mmio(struct cpu *cpu, uint64_t gpa, uint8_t *buf, unsigned size, bool write)
{
	while (size) {
		struct io_access io = {.addr = gpa, .size = 8, .write = write};
		uint64_t value = 0;

		while (io.size > size || (gpa & (io.size - 1u)))
			io.size >>= 1;
		if (write) {
			mmu_copy(&value, buf, io.size);
			io.value = value;
		}
		TRY(io_access(cpu, &io, &value));
		if (!write)
			mmu_copy(buf, &value, io.size);
		gpa += io.size;
		buf += io.size;
		size -= io.size;
	}
	return X_OK;
}

enum x mmu_port_in(struct cpu *cpu, uint16_t port, unsigned size, uint32_t *value)
{
	struct io_access io = {.addr = port, .size = (uint8_t)size, .port = true};
	uint64_t v = 0;

	TRY(io_access(cpu, &io, &v));
	*value = size == 4 ? (uint32_t)v : (uint32_t)v & ((1u << 8 * size) - 1);
	if (debug_armed(cpu))
		cpu->db_pending |= debug_io_match(cpu, port, size);
	return X_OK;
}

enum x mmu_port_out(struct cpu *cpu, uint16_t port, unsigned size, uint32_t value)
{
	struct io_access io = {.addr = port, .size = (uint8_t)size, .write = true, .port = true};
	uint64_t v = 0;

	io.value = size == 4 ? value : value & ((1u << 8 * size) - 1);
	TRY(io_access(cpu, &io, &v));
	if (debug_armed(cpu))
		cpu->db_pending |= debug_io_match(cpu, port, size);
	return X_OK;
}

/* ---- the slow half of reads and writes ---- */

#define PIECES 2

struct piece {
	uint64_t linear;
	unsigned size;
	struct target target;
};

/* The one or two pages of an access, each translated with its rights; nothing is read or written.
 * Returns X_OK and *count, or the fault of the first page that has one. */
static enum x pieces_resolve(struct cpu *cpu, uint64_t linear, unsigned size, struct access a,
			     struct piece piece[PIECES], unsigned *count)
{
	*count = 0;
	while (size) {
		struct piece *p = &piece[(*count)++];
		unsigned room = (unsigned)(PAGE_SIZE - (linear & ~PAGE_MASK));

		if (*count > PIECES)
			return cpu_raise_error(cpu, VEC_GP, 0); /* over 4096 bytes: no instruction does */
		p->linear = linear;
		p->size = size < room ? size : room;
		TRY(resolve(cpu, linear, a, &p->target));
		linear += p->size;
		size -= p->size;
	}
	return X_OK;
}

static void report_data_match(struct cpu *cpu, uint64_t linear, unsigned size, unsigned flags, bool write)
{
	if (debug_armed(cpu) && !(flags & MMU_SYSTEM))
		cpu->db_pending |= debug_data_match(cpu, linear, size, write);
}

enum x mmu_read_slow(struct cpu *cpu, uint64_t linear, void *buf, unsigned size, unsigned flags)
{
	struct piece piece[PIECES + 1];
	uint8_t *to = buf;
	unsigned count;

	TRY(pieces_resolve(cpu, linear, size, access_of(cpu, flags & ~(MMU_WRITE | MMU_FETCH)), piece, &count));
	for (unsigned i = 0; i < count; i++) {
		struct piece *p = &piece[i];

		if (p->target.hva)
			mmu_copy(to, p->target.hva, p->size);
		else
			TRY(mmio(cpu, p->target.gpa, to, p->size, false));
		to += p->size;
	}
	report_data_match(cpu, linear, size, flags, false);
	return X_OK;
}

/* I/O goes first: until all of it is answered the instruction is run again, and RAM must be as it was. */
enum x mmu_write_slow(struct cpu *cpu, uint64_t linear, const void *buf, unsigned size, unsigned flags)
{
	struct piece piece[PIECES + 1];
	uint8_t *from = (uint8_t *)buf;
	unsigned count;

	flags = (flags & ~MMU_FETCH) | MMU_WRITE;
	TRY(pieces_resolve(cpu, linear, size, access_of(cpu, flags), piece, &count));
	for (unsigned i = 0; i < count; from += piece[i++].size)
		if (!piece[i].target.hva)
			TRY(mmio(cpu, piece[i].target.gpa, from, piece[i].size, true));
	from = (uint8_t *)buf;
	for (unsigned i = 0; i < count; from += piece[i++].size) {
		const struct target *t = &piece[i].target;

		if (!t->hva)
			continue;
		if (t->code)
			code_write(cpu, t->hva, piece[i].size);
		note_store(cpu, t->hva, piece[i].size, false);
		mmu_copy(t->hva, from, piece[i].size);
	}
	report_data_match(cpu, linear, size, flags, true);
	return X_OK;
}

enum x mmu_probe(struct cpu *cpu, uint64_t linear, unsigned size, unsigned flags)
{
	struct access a = access_of(cpu, flags);
	struct target target;

	while (size) {
		unsigned room = (unsigned)(PAGE_SIZE - (linear & ~PAGE_MASK)), n = size < room ? size : room;

		if (!mmu_tlb_hit(cpu, linear, n, a.mode, a.kind))
			TRY(resolve(cpu, linear, a, &target));
		linear += n;
		size -= n;
	}
	return X_OK;
}

enum x mmu_writable_pointer(struct cpu *cpu, uint64_t linear, unsigned size, void **hva)
{
	return mmu_writable_pointer_as(cpu, linear, size, 0, hva);
}

enum x mmu_writable_pointer_as(struct cpu *cpu, uint64_t linear, unsigned size, unsigned flags, void **hva)
{
	struct access a = access_of(cpu, flags | MMU_WRITE);
	struct target target;

	*hva = mmu_tlb_hit(cpu, linear, size, a.mode, TLB_WRITE);
	if (*hva)
		return X_OK;
	if ((linear & ~PAGE_MASK) + size > PAGE_SIZE)
		return mmu_probe(cpu, linear, size, flags | MMU_WRITE);
	TRY(resolve(cpu, linear, a, &target));
	if (!target.hva)
		return X_OK;
	if (target.code)
		code_write(cpu, target.hva, size);
	if (target.watched)
		report_data_match(cpu, linear, size, flags, true);
	note_store(cpu, target.hva, size, false);
	*hva = target.hva;
	return X_OK;
}

/* Two host pages, reserved once, where any two pages of RAM can be seen side by side. NULL: no memory. */
static uint8_t *window_of(struct cpu *cpu, const uint8_t *first, const uint8_t *second)
{
	const uint8_t *page[2] = {first, second};

	if (!cpu->window) {
		uint8_t *w = mmap(NULL, 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (w == MAP_FAILED)
			return NULL;
		cpu->window = w;
		cpu->window_page[0] = cpu->window_page[1] = MEMORY_NOT_RAM;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t offset = (uint64_t)(page[i] - cpu->memory->base) & PAGE_MASK;

		if (cpu->window_page[i] == offset)
			continue;
		cpu->window_page[i] = MEMORY_NOT_RAM;
		if (mmap(cpu->window + i * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 cpu->memory->fd, (off_t)offset) == MAP_FAILED)
			return NULL;
		cpu->window_page[i] = offset;
	}
	return cpu->window;
}

enum x mmu_crossing_pointer(struct cpu *cpu, uint64_t linear, unsigned size, void **hva)
{
	struct piece piece[PIECES + 1];
	unsigned count;
	uint8_t *window;

	*hva = NULL;
	TRY(pieces_resolve(cpu, linear, size, access_of(cpu, MMU_WRITE), piece, &count));
	if (count != 2 || !piece[0].target.hva || !piece[1].target.hva || cpu->store_log)
		return X_OK;
	window = window_of(cpu, piece[0].target.hva, piece[1].target.hva);
	if (!window)
		return X_OK;
	for (unsigned i = 0; i < count; i++)
		if (piece[i].target.code)
			code_write(cpu, piece[i].target.hva, piece[i].size);
	report_data_match(cpu, linear, size, 0, true);
	*hva = window + (linear & ~PAGE_MASK);
	return X_OK;
}

/* Instruction bytes do not come from devices: such a page reads as ones, which is no instruction. */
enum x mmu_fetch(struct cpu *cpu, uint64_t linear, uint8_t *buf, unsigned want, unsigned *got)
{
	struct access a = {.mode = fetch_mode(cpu), .kind = TLB_FETCH};

	*got = 0;
	while (*got < want) {
		uint64_t at = linear + *got;
		unsigned room = (unsigned)(PAGE_SIZE - (at & ~PAGE_MASK));
		unsigned n = want - *got < room ? want - *got : room;
		const uint8_t *hva = mmu_tlb_hit(cpu, at, n, a.mode, TLB_FETCH);

		if (!hva) {
			struct fault before = cpu->fault;
			struct target target;
			enum x x = resolve(cpu, at, a, &target);

			if (x != X_OK && *got) {
				cpu->fault = before;
				return X_OK;
			}
			TRY(x);
			hva = target.hva;
		}
		for (unsigned i = 0; i < n; i++)
			buf[*got + i] = hva ? hva[i] : 0xff;
		*got += n;
	}
	return X_OK;
}
