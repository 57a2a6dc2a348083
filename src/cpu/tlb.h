/*
 * The software TLB, shared by the interpreter and generated code.
 *
 * Direct mapped, one set of arrays for each (mode, kind). The layout serves generated code:
 * an access at `gva` of `size` bytes hits when  gva + minus_page[i] <= 4096 - size  (unsigned),
 * i = gva >> 12 & (TLB_ENTRIES - 1); that one comparison also catches accesses that cross the page.
 * Its host address is then gva + addend[i]. An empty entry has minus_page TLB_EMPTY, which no
 * canonical address matches.
 *
 * An entry in the write set means: a store needs nothing else (A and D set, page dirty already
 * marked, no translated code in the page). Entries exist only for RAM.
 */
#ifndef RINGSIDE_TLB_H
#define RINGSIDE_TLB_H

#include <stdbool.h>
#include <stdint.h>

#define TLB_BITS 9
#define TLB_ENTRIES (1u << TLB_BITS)
/* gva + TLB_EMPTY is at least 2^62 for every canonical gva */
#define TLB_EMPTY 0x4000000000000000ull

enum tlb_mode {
	TLB_USER,        /* CPL 3 */
	TLB_KERNEL,      /* CPL 0-2; with SMAP on and AC clear */
	TLB_KERNEL_USER, /* CPL 0-2 that may touch user pages: SMAP off, or AC set */
	TLB_MODES
};
enum tlb_kind { TLB_READ, TLB_WRITE, TLB_FETCH, TLB_KINDS };

struct tlb_set {
	uint64_t minus_page[TLB_ENTRIES]; /* -(gva & PAGE_MASK) */
	uint64_t addend[TLB_ENTRIES];     /* HVA - GVA */
};

struct tlb {
	struct tlb_set set[TLB_MODES][TLB_KINDS];
	uint8_t global[TLB_MODES][TLB_KINDS][TLB_ENTRIES]; /* the entry is from a global page */
	uint32_t used[TLB_MODES][TLB_KINDS];               /* entries filled since the last flush: 0 = skip it */
	/* Last large-page ranges filled, so that INVLPG inside one can drop all of its entries. */
	uint64_t large_base, large_mask; /* as one covering range; large_mask 0 = none */
};

#endif
