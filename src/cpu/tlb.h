/*
 * The software TLB, shared by the interpreter and generated code.
 *
 * Direct mapped, one set of arrays for each (mode, kind). The layout serves generated code:
 * an access at `gva` of `size` bytes hits when  gva + minus_page[i] <= 4096 - size  (unsigned),
 * i = gva >> 12 & (TLB_ENTRIES - 1); that one comparison also catches accesses that cross the page.
 * Its host address is then gva + addend[i]. An empty entry has minus_page tlb_empty(i), which no
 * address at all matches, canonical or not.
 *
 * An entry in the write set means: a store needs nothing else (A and D set, page dirty already
 * marked, no translated code in the page). Entries exist only for RAM.
 */
#ifndef RINGSIDE_TLB_H
#define RINGSIDE_TLB_H

#include <stdbool.h>
#include <stdint.h>

#define TLB_BITS 12
#define TLB_ENTRIES (1u << TLB_BITS)
/* Only a gva in the page at 2^64 - TLB_EMPTY could match: it is not canonical, and it belongs to entry
 * 0, which is emptied with the next page's value instead. */
#define TLB_EMPTY 0x4000000000000000ull
static inline uint64_t tlb_empty(unsigned i) { return i ? TLB_EMPTY : TLB_EMPTY - 0x1000; }

enum tlb_mode {
	TLB_USER,        /* CPL 3 */
	TLB_KERNEL,      /* CPL 0-2; with SMAP on and AC clear */
	TLB_KERNEL_USER, /* CPL 0-2 that may touch user pages: SMAP off, or AC set */
	TLB_MODES
};
enum tlb_kind { TLB_READ, TLB_WRITE, TLB_FETCH, TLB_KINDS };

/* Of a page that is read and written four words are in use, each in a cache line of its own: TLB_APART keeps those lines in
 * different sets of the host's first-level cache. */
#define TLB_APART 1024
struct tlb_set {
	uint64_t minus_page[TLB_ENTRIES]; /* -(gva & PAGE_MASK) */
	uint8_t apart[TLB_APART];
	uint64_t addend[TLB_ENTRIES];     /* HVA - GVA */
	uint8_t apart_from_next[TLB_APART];
};

/* struct tlb.flags[] */
enum { TLB_GLOBAL = 1 /* from a global page: survives MOV CR3 */, TLB_LARGE = 2 /* from a 2M, 4M or 1G page */ };

/* One range that covers every large page filled since the last full flush: addresses with
 * (gva & mask) == base. base 1: none yet. INVLPG outside of it drops one entry and is done. */
struct tlb_large_range {
	uint64_t base, mask;
};

#define TLB_RECENT 256

/*
 * What the TLB had of an address space that is not the current one: with PCIDs, MOV CR3 puts away what is not global, and
 * brings back what it had of the PCID that it loads if it may be kept. An address space has the place of its PCID's low
 * bits; one that finds another there takes it over.
 */
#define TLB_CONTEXTS 8
struct tlb_context {
	uint16_t pcid;
	uint64_t generation; /* a number that no other time has, from flush to flush; 0: nothing is here */
	uint64_t protected;  /* struct tlb.protected when it was put away: if that has grown, entries for writing are not used */
	uint32_t count[TLB_MODES][TLB_KINDS];
	struct tlb_saved {
		uint64_t minus_page, addend;
		uint16_t index;
		uint8_t flags;
	} saved[TLB_MODES][TLB_KINDS][TLB_RECENT];
};

/*
 * The wide set: pages along which pointers lead, for reading in user mode (TLB_USER). Code that loads a pointer and then
 * reads what it points to waits for the look-up, and 20 bits of a page's number are had by one shift, in a cycle; 12 of
 * them take three. Most of the tables is never touched. The translator's own (engine/bt).
 */
#define TLB_WIDE_BITS 20
#define TLB_WIDE_ENTRIES (1u << TLB_WIDE_BITS)
#define TLB_WIDE_FILLED 2048u   /* entries at most; when there are more, all are dropped */
#define TLB_WIDE_PAGES 256u     /* pages of each table that are kept when it is emptied */
#define TLB_WIDE_PAGE_ENTRIES 512u
struct tlb_wide {
	uint64_t minus_page[TLB_WIDE_ENTRIES]; /* as in struct tlb_set */
	uint64_t addend[TLB_WIDE_ENTRIES];
	uint32_t filled[TLB_WIDE_FILLED]; /* which entries are not empty, or were so and are listed still */
	uint32_t count;
	uint32_t pages;                   /* of minus_page that have been written to since they were fresh: */
	uint64_t touched[TLB_WIDE_ENTRIES / TLB_WIDE_PAGE_ENTRIES / 64];
};
/* An entry of 0 is page 0's: only addresses there could match, and those at the end of 2^64 that reach into it. */
static inline uint64_t tlb_wide_empty(uint32_t i)
{
	return i == 0 ? TLB_EMPTY - 0x1000 : i == TLB_WIDE_ENTRIES - 1 ? TLB_EMPTY : 0;
}

/*
 * The victim level: what another page's entry has taken the place of. A pair of pages with one place in a set, used by turns,
 * change places without a walk. Dropped as a whole, by a new generation, whenever anything is dropped from the sets.
 */
#define TLB_VICTIMS 64
struct tlb_victim {
	uint64_t minus_page, addend;
	uint64_t generation; /* that of struct tlb when it was put here; or it is nothing */
	uint8_t flags;
};

struct tlb {
	struct tlb_set set[TLB_MODES][TLB_KINDS];
	uint8_t flags[TLB_MODES][TLB_KINDS][TLB_ENTRIES];
	bool used[TLB_MODES][TLB_KINDS];      /* anything filled since the last full flush */
	uint32_t local[TLB_MODES][TLB_KINDS]; /* not global ones filled since the last flush of any kind, counted up to
						 TLB_RECENT + 1 */
	uint16_t recent[TLB_MODES][TLB_KINDS][TLB_RECENT]; /* the index of each of those, while they fit */
	unsigned current;                   /* the context that is in use; nothing is in its `saved` */
	uint64_t generations, protected;    /* how many there have been; how often pages were protected from writing */
	struct tlb_context context[TLB_CONTEXTS];
	struct tlb_large_range large[2][2]; /* [lower, upper half of the address space][data, instructions] */
	struct tlb_victim victim[TLB_MODES][TLB_KINDS][TLB_VICTIMS]; /* by the low bits of the page's number */
	uint64_t victim_generation;         /* from 1 */
	bool ready;                         /* false in fresh memory: every entry must be made TLB_EMPTY first */
};

/*
 * Where indirect branches go in translated code: a table for each mode that code may run in. A hit when
 * target + entry[i].minus_target == 0,  i one of two hashes of the target. The translator's
 * own (engine/bt); it lies here to be in reach of generated code.
 */
#define BRANCH_MODES 7
#define BRANCH_BITS 15
#define BRANCH_ENTRIES (1u << BRANCH_BITS)
#define BRANCH_MODE_SHIFT 16 /* words of a mode's table */
#define BRANCH_HINTS 4096u
#define CODE_PAGES 65536u
struct branch_cache {
	struct {
		struct branch_entry {
			_Alignas(16) uint64_t minus_target; /* in one cache line with: */
			uint64_t code; /* host address */
		} entry[BRANCH_ENTRIES];
	} mode[BRANCH_MODES];
	/* Jumps through a table of addresses: which entry, doubled, each of 256 values of the table's index went to
	 * the last time. Any value is right, for the entry tells whether it is the one. */
	uint16_t hint[BRANCH_HINTS + 256];
	/* Where this vCPU runs a page of code whose translations are for any address; 0: nowhere yet. */
	struct code_page {
		_Alignas(16) uint64_t linear_plus_1;
		uint64_t minus_linear;
	} page[CODE_PAGES];
};
_Static_assert(sizeof(((struct branch_cache *)0)->mode) == (8ull << BRANCH_MODE_SHIFT) * BRANCH_MODES, "the shift is right");
_Static_assert(BRANCH_ENTRIES * 2 <= 65536, "hints have room");

#endif
