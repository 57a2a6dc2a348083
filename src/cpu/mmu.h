/*
 * Paging and the processor's accesses to memory: linear address -> GPA -> RAM or I/O.
 * Sources: SDM 3A chapter 4, APM 2 chapter 5.
 *
 * All run on the vCPU's thread. X_FAULT: #PF (or #GP/#SS for non-canonical addresses, raised by
 * segment_linear before) is recorded. X_EXIT: an I/O access to be done outside (see exit.h).
 */
#ifndef RINGSIDE_MMU_H
#define RINGSIDE_MMU_H

#include "cpu/cpu.h"
#include "cpu/store_log.h"

enum mmu_access_flags {
	MMU_READ = 0,
	MMU_WRITE = 1,
	MMU_FETCH = 2,
	MMU_SYSTEM = 4, /* implicit supervisor access: descriptor tables, TSS; whatever CPL and AC are */
	MMU_SUPERVISOR = 8, /* explicit supervisor access before CPL has changed: the stack of an inner ring */
};

enum { PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_RESERVED = 8, PF_FETCH = 16, PF_PROTECTION_KEY = 32 };

struct mmu_translation {
	uint64_t gpa;       /* of the very byte asked for */
	uint64_t page_size; /* 4K, 2M, 4M, 1G of the mapping; 4K when paging is off */
	bool writable, user, global, executable, dirty;
};

/* Walks the page tables at the access's rights, sets A (and D for a write). X_OK or X_FAULT. */
enum x mmu_translate(struct cpu *cpu, uint64_t linear, unsigned flags, struct mmu_translation *t);
/* The same walk for a debugger or a dump: sets nothing, raises nothing. False: not mapped. */
bool mmu_translate_debug(struct cpu *cpu, uint64_t linear, uint64_t *gpa);

/* Data accesses at a linear address, of any size up to 4096, across pages, atomic when aligned and
 * size is 1, 2, 4, 8. Both pages of an access that crosses are checked before anything is written. */
static inline enum x mmu_read(struct cpu *cpu, uint64_t linear, void *buf, unsigned size, unsigned flags);
static inline enum x mmu_write(struct cpu *cpu, uint64_t linear, const void *buf, unsigned size, unsigned flags);
/* Checks that [linear, linear+size) can be written (read, if flags says MMU_READ) without doing it:
 * for instructions that must not half complete. */
enum x mmu_probe(struct cpu *cpu, uint64_t linear, unsigned size, unsigned flags);
/* A host pointer for a locked or read-modify-write access of `size` bytes: RAM, writable, one page,
 * page dirtied, translated code told. *hva = NULL (and X_OK) when it is I/O or crosses pages: the
 * caller then uses mmu_read and mmu_write. */
enum x mmu_writable_pointer(struct cpu *cpu, uint64_t linear, unsigned size, void **hva);
/* The same with the rights that `flags` says: MMU_SYSTEM for descriptors. */
enum x mmu_writable_pointer_as(struct cpu *cpu, uint64_t linear, unsigned size, unsigned flags, void **hva);
/* The same for a locked access that crosses into another page, so that it is one access to other vCPUs as well.
 * *hva = NULL (and X_OK) when part of it is I/O, or a store log wants to know: then mmu_read and mmu_write. */
enum x mmu_crossing_pointer(struct cpu *cpu, uint64_t linear, unsigned size, void **hva);
/* Instruction bytes: up to 15 from linear; *got bytes were read before the page that faults (the
 * fault is recorded only if none could be read). */
enum x mmu_fetch(struct cpu *cpu, uint64_t linear, uint8_t *buf, unsigned want, unsigned *got);

/* Fills the TLB for an access and gives the host address; *hva = NULL when it is not RAM or must
 * go the slow way (translated code in the page). For generated code's miss path. */
enum x mmu_fill(struct cpu *cpu, uint64_t linear, unsigned flags, void **hva);

/* Enters what the TLB has for reading at `linear` in user mode, and it has that, into the wide set. */
void mmu_wide_enter(struct cpu *cpu, uint64_t linear);

void mmu_flush(struct cpu *cpu, bool global_too);     /* TLB */
/* MOV CR3 with CR4.PCIDE set: the TLB is of another address space from here on. `keep`: what it had of that stays. */
void mmu_switch(struct cpu *cpu, uint16_t pcid, bool keep);
void mmu_forget(struct cpu *cpu, uint16_t pcid); /* all that it had of a PCID which is not the current one */
void mmu_flush_page(struct cpu *cpu, uint64_t linear);
/* Drops write entries for a page that just got translated code, or is to be tracked as clean; its offset in the host
 * mapping of memory. */
void mmu_write_protect(struct cpu *cpu, uint64_t offset);
void mmu_write_protect_all(struct cpu *cpu); /* the same for every page */

/* Port I/O (permission already checked): X_EXIT the first time, X_OK with the answer on the rerun. */
enum x mmu_port_in(struct cpu *cpu, uint16_t port, unsigned size, uint32_t *value);
enum x mmu_port_out(struct cpu *cpu, uint16_t port, unsigned size, uint32_t value);

/* ---- the fast way: a hit in the software TLB ---- */

enum x mmu_read_slow(struct cpu *cpu, uint64_t linear, void *buf, unsigned size, unsigned flags);
enum x mmu_write_slow(struct cpu *cpu, uint64_t linear, const void *buf, unsigned size, unsigned flags);

/* Whose rights a data access has. */
static inline enum tlb_mode mmu_data_mode(const struct cpu *cpu, unsigned flags)
{
	if (__builtin_expect(!(flags & (MMU_SYSTEM | MMU_SUPERVISOR)), 1))
		return cpu->tlb_mode;
	if (!(cpu->cr4 & CR4_SMAP))
		return TLB_KERNEL_USER;
	return (flags & MMU_SYSTEM) || !(cpu->rflags & RFLAGS_AC) ? TLB_KERNEL : TLB_KERNEL_USER;
}

/* The host address of [linear, linear+size), size <= 4096, or NULL on a miss. */
static inline uint8_t *mmu_tlb_hit(struct cpu *cpu, uint64_t linear, unsigned size, enum tlb_mode mode, enum tlb_kind kind)
{
	const struct tlb_set *set = &cpu->tlb->set[mode][kind];
	unsigned i = linear >> 12 & (TLB_ENTRIES - 1);

	if (__builtin_expect(linear + set->minus_page[i] > 4096 - size, 0))
		return NULL;
	uint8_t *hva = (uint8_t *)(uintptr_t)(linear + set->addend[i]);
	if (kind == TLB_WRITE && __builtin_expect(cpu->store_log != NULL, 0))
		store_log_add(cpu->store_log, hva, size, false);
	return hva;
}

/* Copies, without vector registers; 1, 2, 4 and 8 bytes as one access, as guest memory wants it. */
void mmu_copy_any(void *to, const void *from, unsigned size);
static inline void mmu_copy(void *to, const void *from, unsigned size)
{
	if (!__builtin_constant_p(size))
		mmu_copy_any(to, from, size);
	else if (size == 1)
		__builtin_memcpy(to, from, 1);
	else if (size == 2)
		__builtin_memcpy(to, from, 2);
	else if (size == 4)
		__builtin_memcpy(to, from, 4);
	else if (size == 8)
		__builtin_memcpy(to, from, 8);
	else
		mmu_copy_any(to, from, size);
}

static inline enum x mmu_read(struct cpu *cpu, uint64_t linear, void *buf, unsigned size, unsigned flags)
{
	const uint8_t *hva = mmu_tlb_hit(cpu, linear, size, mmu_data_mode(cpu, flags), TLB_READ);

	if (__builtin_expect(!hva, 0))
		return mmu_read_slow(cpu, linear, buf, size, flags);
	mmu_copy(buf, hva, size);
	return X_OK;
}

static inline enum x mmu_write(struct cpu *cpu, uint64_t linear, const void *buf, unsigned size, unsigned flags)
{
	uint8_t *hva = mmu_tlb_hit(cpu, linear, size, mmu_data_mode(cpu, flags), TLB_WRITE);

	if (__builtin_expect(!hva, 0))
		return mmu_write_slow(cpu, linear, buf, size, flags);
	mmu_copy(hva, buf, size);
	return X_OK;
}

#endif
