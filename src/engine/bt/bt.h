/*
 * The binary translator, inside: what its files share.
 *
 *   bt.c         the engine: run loop, statistics
 *   cache.c      where translations live: blocks, look-up, chaining, invalidation, eviction
 *   branch.c     branch caches, address spaces
 *   routine.c    the generated routines around blocks: enter, leave, TLB miss, call-out
 *   callout.c    instructions that the interpreter runs while their block waits
 *   translate.c  guest code -> blocks: decoding, modes
 *   leave.c      ways out of a block: call-outs, links, branches, tails
 *   inline.c     the stack, branches, system flags: what is not a copy
 *   system.c     reads and writes of system registers
 *   string.c     REP MOVS and REP STOS
 *   access.c     addresses, TLB look-ups, and one look-up for several accesses
 *   ident.c      instructions that are copied, with their registers renamed and memory redirected
 *   signal.c     host faults in guest instructions, and the kick
 *   seen.c       between translated code and C that ThreadSanitizer watches
 *   host.c       sequences that depend on what the host's processor is slow at
 *   emit.c       host instructions
 *
 * One struct bt_vm a VM: the cache, shared by all vCPUs. One struct bt a vCPU; all of it belongs to the
 * vCPU's thread, but for what says otherwise. cache.c says how vCPUs keep out of each other's way.
 *
 * In translated code:
 *   - gs points at the vCPU's struct cpu; rsp is a return stack (below), not the monitor's.
 *   - Guest registers live where host_of says: most in the host register of the same name, RCX in
 *     r14, RSP in r15; R10, R11, R14 and R15 stay in cpu->gpr. rcx, r10 and r11 are scratch.
 *   - The guest's arithmetic flags are the host's. Nothing around the guest's instructions changes
 *     flags, so no code is ever needed to save them. DF is 0; the guest's is in cpu->rflags with
 *     the other system flags.
 *   - Guest x87 and vector state is in the host's units once a block that uses it has begun.
 */
#ifndef RINGSIDE_BT_H
#define RINGSIDE_BT_H

#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/bt/emit.h"
#include "engine/code_memory.h"
#include "engine/engine.h"
#include "mem/memory.h"
#include "util/lock.h"

/* ---- registers ---- */

#define HOST_NONE 0xff /* the guest register stays in cpu->gpr */
#define HOST_OF_RCX R14
#define HOST_OF_RSP R15
static const host_reg host_of[GPR_COUNT] = {
	[RAX] = RAX, [RCX] = HOST_OF_RCX, [RDX] = RDX, [RBX] = RBX, [RSP] = HOST_OF_RSP, [RBP] = RBP,
	[RSI] = RSI, [RDI] = RDI,         [R8] = R8,   [R9] = R9,   [R10] = HOST_NONE,   [R11] = HOST_NONE,
	[R12] = R12, [R13] = R13,         [R14] = HOST_NONE,        [R15] = HOST_NONE,
};

/* Constants that generated code uses, at the start of the cache. */
enum {
	CONSTANT_TLB_MASK = 0,     /* pext: index into the TLB out of an address */
	CONSTANT_PAGE_MASK = 8,    /* pext: all but the offset in a page; 0 means a hit */
	CONSTANT_BRANCH_MASK = 16, /* pdep: twice the index into the branch cache, whose entries are two words */
	CONSTANT_ONE = 24,         /* pext: the lowest bit */
	CONSTANTS_SIZE = 64        /* a cache line, without code */
};

/* Words of cpu->engine_word that generated code uses. */
enum {
	WORD_ARITH,       /* arithmetic flags */
	WORD_PUSHF,       /* the other flags that PUSHF shows */
	WORD_RSP,         /* monitor's stack while translated code runs, 16-byte aligned */
	WORD_RETURN_RSP,  /* rsp of translated code, while it does not run */
	WORD_RETURN_FROM, /* RETURN_FROM of the RET under way */
	WORD_BACK,        /* where in a block miss and callout go back to */
	WORD_ADDRESS,     /* of the access that missed */
	WORD_BLOCK,       /* id of the block that was left */
	WORD_MISS_INFO,   /* the access that missed, for a request that comes meanwhile */
	WORD_TMP,
	WORD_MISS_FN, WORD_STOP_FN, WORD_CALLOUT_FN, /* C functions */
	WORD_TARGET,      /* host address of the block to enter */
	WORD_SELF,        /* struct cpu */
	WORD_GROUP,       /* what a block has looked up already: GROUPS_MAX of them */
	WORD_RETURN = WORD_GROUP + 8, /* rsp of each return stack that is not in use */
	WORD_COUNT = WORD_RETURN + 3
};
#define GROUPS_MAX (WORD_RETURN - WORD_GROUP)

/* What the miss routine is told of an access. */
#define MISS_INFO(size, write, no_fill, group, read_first, wide, insn) \
	((uint32_t)(size) | (uint32_t)(write) << 12 | (uint32_t)(no_fill) << 13 | (uint32_t)(group) << 14 | \
	 (uint32_t)(read_first) << 15 | (uint32_t)(wide) << 16 | (uint32_t)(insn) << 17)
#define MISS_SIZE(info) ((info) & 0xfff)
#define MISS_WRITE(info) ((info) >> 12 & 1)
#define MISS_NO_FILL(info) ((info) >> 13 & 1)
#define MISS_GROUP(info) ((info) >> 14 & 1)
#define MISS_READ_FIRST(info) ((info) >> 15 & 1)
#define MISS_WIDE(info) ((info) >> 16 & 1)
#define MISS_INSN(info) ((info) >> 17)
#define WORD(n) (G(engine_word) + (n) * 8)
_Static_assert(WORD_COUNT <= sizeof(((struct cpu *)0)->engine_word) / 8, "struct cpu has room for them");

/*
 * ---- return stacks ----
 *
 * A guest's CALL is a host CALL, and its RET a host RET, so that the host predicts it. The host's goes to
 * the landing behind the CALL's translation, which goes on only if the guest's return address is the one
 * that belongs there; else, and when the stack is empty, a routine looks the address up (routine.c). So
 * what a return stack holds decides nothing but speed, and it may be emptied at any time. It must be when
 * its landings may be stale: whenever the branch cache of its mode has to be emptied, after any change of
 * address translation, and before memory of blocks may be used anew. A block that is removed may be landed
 * in: what follows the landing is not chained any more. In 64-bit code only: a stack for each enum tlb_mode.
 */
#define RETURN_STACKS 3
#define RETURN_STACK_SIZE 65536u
#define RETURN_GUARD 4096u /* the lowest bytes of it: pushing into them faults, and empties the stack */
#define RETURN_EMPTY (RETURN_STACK_SIZE - 64) /* where rsp is then; the sentinel is there */
/* The RET that a target is looked up for. */
#define RETURN_FROM(id, link) ((uint32_t)(id) << 5 | (link))
#define RETURN_FROM_BLOCK(from) ((from) >> 5)
#define RETURN_FROM_LINK(from) ((from) & 31)
#define LANDING_EXPECTED 2 /* bytes into a landing: minus the return address, 64 bits */
/* In user mode, whose blocks are for any RIP: what is loaded from gs, and what is added to that and the target for 1. */
#define LANDING_PAGE 5
#define LANDING_ADDED 13

/* ---- modes: everything but the bytes that a translation depends on ---- */

enum {
	KEY_CODE16 = 0, KEY_CODE32 = 1, KEY_CODE64 = 2, KEY_CODE = 3,
	KEY_STACK_SHIFT = 2, /* 0, 1, 2 as for code; two bits */
	KEY_TLB_SHIFT = 4,   /* enum tlb_mode; two bits */
	KEY_CPL0 = 1 << 6,
	KEY_REAL = 1 << 7,   /* real or virtual-8086 mode */
	KEY_V86 = 1 << 8,
	KEY_X87 = 1 << 9,    /* instructions of the kind raise neither #UD nor #NM */
	KEY_SSE = 1 << 10,
	KEY_AVX = 1 << 11,
	KEY_AVX512 = 1 << 12,
	KEY_FLAT_DS = 1 << 13, /* base 0, 4 GiB, read-write */
	KEY_FLAT_ES = 1 << 14,
	KEY_FLAT_SS = 1 << 15,
	KEY_BIG_FS = 1 << 16, /* any base, 4 GiB, read-write; also in 64-bit mode */
	KEY_BIG_GS = 1 << 17,
	KEY_SMAP = 1 << 18,
	KEY_TSD = 1 << 19,   /* RDTSC raises #GP */
	KEY_INTERPRET = 1 << 20, /* nothing is translated in this mode */
	KEY_FSGSBASE = 1 << 21, /* RDFSBASE and the like do not raise #UD */
	KEY_CS_BASE = 1 << 23, /* CS has a base, outside 64-bit mode: another branch cache */
	KEY_ONE_BY_ONE = 1 << 22, /* no mode: each access has its own look-up, up to the end of the block */
};
#define KEY_TLB(key) ((enum tlb_mode)((key) >> KEY_TLB_SHIFT & 3))
#define KEY_STACK_BITS(key) (16u << ((key) >> KEY_STACK_SHIFT & 3))
#define KEY_CODE_BITS(key) (16u << ((key) & KEY_CODE))
uint32_t bt_key(const struct cpu *cpu);
/*
 * 64-bit user code is translated for any RIP: processes have the same pages of libraries at different ones. In its
 * blocks and links a RIP is from the beginning of the block's page (and may lie before or far behind it); at which
 * linear address a vCPU has the page is in its struct code_page. That is set by cache_find, before any code of the page
 * runs, and stays as long as anything is remembered that leads to such code: branch caches and the return stack are
 * emptied before it changes.
 */
static inline bool key_any_rip(uint32_t key) { return (key & KEY_CODE) == KEY_CODE64 && KEY_TLB(key) == TLB_USER; }

/* Where a branch cache has a target. Functions begin at multiples of 16: higher bits have to be mixed in. */
#define BRANCH_ROTATE 9
static inline unsigned branch_index(uint64_t rip)
{
	return (rip + (rip >> BRANCH_ROTATE | rip << (64 - BRANCH_ROTATE))) & (BRANCH_ENTRIES - 1);
}

/* The other place that it may have there, in 64-bit code: the routines branch_second and call_second look there. */
#define BRANCH_SECOND_ROTATE 6
static inline unsigned branch_second_index(uint64_t rip)
{
	return rip * 9 >> BRANCH_SECOND_ROTATE & (BRANCH_ENTRIES - 1);
}

/* Which of the branch caches code of a mode uses. */
enum { BRANCH_MODE_OTHER = BRANCH_MODES - 1 };

/* ---- blocks ---- */

#define BLOCK_INSNS_MAX 64
#define BLOCK_BRANCHES_MAX 8
#define BLOCK_LINKS_MAX (BLOCK_BRANCHES_MAX * 2 + 8 + GROUPS_MAX) /* a far branch has two, a far CALL up to eight */
_Static_assert(BLOCK_LINKS_MAX <= 32, "RETURN_FROM has room");
#define BLOCK_CODE_MAX 16384u /* bytes of host code */
#define BLOCK_COLD_MAX 12288u
#define NO_BLOCK 0u           /* id 0 is never used */

/* One way out of a block. */
struct link {
	uint64_t target;   /* RIP, as the block's */
	uint32_t key;      /* mode at the target */
	uint32_t site;     /* where the rel32 of the jump is; but for DIRECT: where the sequence begins */
	uint32_t stub;     /* DIRECT: what it jumps to while unchained; else: leaves, from anywhere in the sequence */
	uint32_t to;       /* block id when chained */
	uint32_t next;     /* next link into the same block: global link number + 1 */
	union {
		int16_t undo;       /* LINK_BRANCH: what the instruction added to RSP, for a target that faults */
		uint16_t code_page; /* DIRECT: see link_far_page */
	};
	uint8_t length;    /* but for DIRECT: bytes of the sequence */
	uint8_t insn : 6;  /* index of the instruction in its block */
	uint8_t kind : 2;
};
_Static_assert(sizeof(struct link) == 32 && BLOCK_INSNS_MAX <= 64, "a boot makes a quarter of a million of them");
enum {
	LINK_DIRECT, /* patched to jump to the target's block; if far: run when the target's page is where it has to be */
	LINK_BRANCH, /* looks into the branch cache */
	LINK_PAGE,   /* the same for a known target, in another page: always the same entry */
	LINK_LANDING, /* where a RET comes back to */
};
/* A far link's: the index of the target's struct code_page, which the block keeps. 0: it is not far. */
static inline unsigned link_far_page(const struct link *l) { return l->kind == LINK_DIRECT ? l->code_page : 0; }

/* Where an instruction begins, both sides. */
struct mark {
	uint16_t host;   /* from the block's entry */
	uint16_t commit; /* until there nothing of the guest has changed: its look-ups. Less than host: nobody may stop here */
	uint16_t guest;  /* from the block's RIP */
};

struct block {
	uint64_t rip;          /* see key_any_rip */
	uint64_t offset, offset2; /* offset2: of the second page's first byte, when len2 */
	uint32_t key;
	uint32_t entry;        /* offset in the cache */
	uint32_t begin, end;   /* of its code; what is rarely run lies apart, so that the rest is dense: */
	uint32_t cold_begin, cold_end;
	uint32_t marks, links; /* first of each, in the region's pools */
	uint32_t hash_next;
	uint32_t page_next[2], page_prev[2]; /* in the list of the first, the second page; 0: none */
	uint32_t incoming;     /* links that were patched to come here: global link number + 1 */
	uint16_t len, len2;    /* guest bytes in the first, the second page */
	uint16_t code_page;    /* index of its struct code_page; 0: rip is an address */
	uint16_t insns;
	uint8_t link_count;
	bool dead;             /* removed; atomic */
	bool fpu;              /* needs guest vector state live */
	uint64_t sum;          /* of the guest's bytes that it was made from */
	uint64_t shadowed;     /* instructions that come right after STI: a bit each */
};

#define BRANCH_RECENT 1024
#define BRANCH_PAGES 65536u /* hashes: so many that hardly any page without entries seems to have some */

/* The cache is a ring of regions; the oldest one is evicted as a whole when room is needed. */
#define REGIONS 32u    /* at most: RINGSIDE_BT_CACHE may ask for fewer */
#define REGIONS_MIN 3u /* one is filled, the next is empty or being left, one is in use */
#define REGION_SIZE (8u << 20)
#define REGION_HOT (5u << 20) /* bytes of it for what is often run */
#define REGION_BLOCKS (1u << 15)
#define REGION_MARKS (1u << 18)
#define REGION_LINKS (1u << 17)
#define CACHE_SIZE (REGIONS * REGION_SIZE)
#define ROUTINES_SIZE 4096u
#define HASH_SIZE (1u << 18)

struct region {
	uint32_t code, cold; /* next free bytes: offsets in the cache */
	uint32_t blocks, marks, links; /* how many are used */
	uint64_t retired;    /* not 0: its blocks are removed, and vCPUs that have seen this epoch are not in it */
};

/* Why translated code was left; low bits of what bt->enter returns. The rest: index << 4, id << 16. */
enum leave {
	LEAVE_LINK = 1, /* 0: a routine goes on */
	LEAVE_BRANCH, LEAVE_RETURN, LEAVE_INTERPRET, LEAVE_FPU, LEAVE_REQUEST, LEAVE_WINDOW, LEAVE_STOP,
	/* By call-outs, with all state complete: */
	LEAVE_ENTER,       /* not left: the block at WORD_TARGET is entered */
	LEAVE_LOOP,        /* the run loop looks what to do at cpu->rip */
	LEAVE_EXIT,        /* cpu->exit says why */
	LEAVE_EXIT_WINDOW, /* what cpu->want_irq_window waits for may be delivered */
};
#define LEAVE_CODE(kind, index, id) ((uint32_t)(kind) | (uint32_t)(index) << 4 | (uint32_t)(id) << 16)
#define LEAVE_KIND(code) ((enum leave)((code) & 15))
#define LEAVE_INDEX(code) ((code) >> 4 & 0xfff)
#define LEAVE_INSN(code) ((code) >> 16)

struct bt_stats {
	uint64_t blocks, insns;
	struct bt_made {
		uint64_t ident, inlined, callout; /* instructions by kind */
		uint64_t tlb_lookups, shared;     /* TLB look-ups, accesses that need none of their own */
	} made;                                   /* in blocks */
	uint64_t host_bytes, cold_bytes, guest_bytes;
	uint64_t entered, chained, unchained, lookups, branch_misses;
	uint64_t interpreted, interpreted_insn[INSN_COUNT], interpreted_special;
	uint64_t aborted;           /* accesses that went to the interpreter */
	uint64_t invalidated, evicted_regions, evicted_blocks, code_writes;
	uint64_t kicks, steps;
	uint64_t unsettled, compared; /* pages that others could write to unnoticed; how often they were compared */
	uint64_t branch_flushes;
};

#define VCPUS 64
#define WATCHED 64      /* epochs that are remembered: vCPUs further behind drop all entries for writing */
#define UNSETTLED_MAX 64
#define NOT_ACTIVE UINT64_MAX

/* What all vCPUs share. */
struct bt_vm {
	struct memory *memory;
	struct code_memory cache;
	uint8_t *rw, *rx;     /* its CACHE_SIZE bytes, mapped twice */
	struct block *blocks; /* REGIONS * REGION_BLOCKS */
	struct mark *marks;
	struct link *links;
	/* Routines, offsets in the cache. */
	uint32_t leave, miss, callout, callout_last, routines_end;
	uint32_t enter_restart, enter_end, miss_restart, miss_end, callout_restart, callout_end;
	uint32_t return_empty, return_pop, branch_second, return_mismatch, return_mismatch_any_rip, return_lookup, return_leave,
		return_end, call_second, call_second_end;
	uint32_t (*enter)(struct cpu *cpu, const void *code);
	/* minus_target of an empty entry of a branch cache. A branch to that very address would hit it, and run whatever the
	 * entry's code was: it is no canonical one, and one of 2^61, which no guest can know. */
	uint64_t branch_empty;

	struct lock lock;     /* all that follows; what is read without it as well is atomic */
	struct bt *vcpu[VCPUS];
	unsigned vcpus;
	struct region region[REGIONS];
	unsigned regions;     /* how many of them are used */
	unsigned current;     /* region that is being filled */
	uint32_t *hash;       /* HASH_SIZE block ids; read without the lock */
	uint32_t *page;       /* first block of each page of RAM */
	uint16_t *code_page;  /* of each page of RAM: index of its struct code_page, or 0 */
	/* How many blocks, removed ones too, are of each or have far links to it; and which page of RAM it is. */
	struct { uint32_t users, next_free, page; } code_pages[CODE_PAGES];
	uint32_t code_pages_used; /* there have been so many */
	uint32_t code_page_free;  /* first free one, below that; 0: none */
	uint64_t code_page_reuses; /* how often one was given to another page, counted by two as removals are. Atomic */
	uint64_t removals;    /* of blocks of user code, counted by two; odd: one is under way. Read without the lock */
	uint64_t resets;      /* counts regions that are used anew: block ids from before may be stale */
	uint64_t epoch;       /* counts what vCPUs have to take notice of; read without the lock */
	uint64_t watched[WATCHED]; /* offset of the page that is watched since the epoch, or NOT_ACTIVE */
	unsigned unsettled_count; /* pages that other vCPUs may still write to unnoticed; read without the lock */
	struct { uint64_t offset, epoch; } unsettled[UNSETTLED_MAX];
	struct bt_stats stats;
	FILE *perf_map;       /* NULL, or where perf looks for the names of generated code */
};

/*
 * What branch caches know of 64-bit user code in one address space (struct tlb_context): everything that has been entered
 * since it became the current one; while it is not, what of that is to be entered again.
 */
struct branch_context {
	uint64_t generation;
	uint64_t removals;   /* bt_vm's when it was put away: later removals do not look here */
	uint64_t reuses;     /* the same of code_page_reuses */
	uint32_t key, filled, pages_filled;
	struct saved_branch {
		uint64_t minus_target, code;
		uint16_t index;
		bool global; /* perhaps in part: INVLPG may say in another address space that it is not true any more */
	} entry[BRANCH_RECENT];
	struct saved_page {
		uint64_t linear;
		uint16_t index;
	} page[BRANCH_RECENT];
};

#define WRITES 16
struct bt {
	struct cpu *cpu;
	struct memory *memory;
	struct bt_vm *vm;
	bool unchained;      /* every block comes back: engine check */
	/* As in bt_vm. */
	uint8_t *rw, *rx;
	struct block *blocks;
	struct mark *marks;
	struct link *links;
	uint32_t leave, miss, callout, callout_last;
	uint32_t (*enter)(struct cpu *cpu, const void *code);
	struct emitter e;    /* used under the lock */
	uint8_t *return_stack; /* RETURN_STACKS of them */

	uint64_t active;     /* epoch that was seen since translated code was last left; NOT_ACTIVE: not in run. Atomic */
	uint64_t seen;       /* the same for this thread, kept while it is not in run */

	uint32_t branch_key[BRANCH_MODES]; /* what each branch cache is for, with the base of CS; UINT32_MAX: never used yet */
	uint64_t branch_base[BRANCH_MODES];
	uint32_t branch_filled[BRANCH_MODES];
	bool branch_local[BRANCH_MODES]; /* has targets in pages that are not global */
	uint16_t branch_recent[BRANCH_MODES][BRANCH_RECENT];
	uint32_t pages_filled; /* of struct code_page, in the same way */
	bool pages_local, pages_global; /* some are in pages that are not global, that are */
	/* The lists of what has been filled of TLB_USER and of pages are those of the address space's context. */
	struct branch_context context[TLB_CONTEXTS];
	unsigned current;    /* the one in use: the TLB's, as of the last change that was told */
	uint64_t generation; /* the TLB's, of that */
	uint64_t branch_pages[BRANCH_PAGES / 64]; /* pages with entries: a bit for each hash of a page number */

	/* This vCPU's stores to pages with code, noted before they are done; WRITES + 1: too many, all code goes. */
	unsigned write_count;
	struct { uint64_t offset, len; } write[WRITES];

	int tid;             /* the vCPU's thread while it is in run, for kick; atomic */
	bool fpu_wanted;     /* seen.c: translated code that is entered next wants guest vector state live */
	struct bt_stats stats;
};

static inline struct bt *bt_of(const struct cpu *cpu) { return cpu->engine_state; }
static inline const void *bt_host(const struct bt *bt, uint32_t offset) { return bt->rx + offset; }
static inline struct block *bt_block(const struct bt *bt, uint32_t id) { return &bt->blocks[id]; }
/* What the RIPs of a block, which this vCPU has been in just now, are from. */
static inline uint64_t bt_rip_base(const struct bt *bt, const struct block *b)
{
	const struct code_page *page = &bt->cpu->branch_cache->page[b->code_page];

	return b->code_page ? __atomic_load_n(&page->linear_plus_1, __ATOMIC_RELAXED) - 1 : 0;
}
static inline uint64_t bt_insn_rip(const struct bt *bt, const struct block *b, unsigned insn)
{
	uint64_t rip = bt_rip_base(bt, b) + b->rip + bt->marks[b->marks + insn].guest;

	return (b->key & KEY_CODE) == KEY_CODE64 ? rip : (uint32_t)rip;
}

/* ---- cache.c ---- */
int cache_init(struct bt_vm *vm);  /* 0 or -errno */
void cache_free(struct bt_vm *vm);
void cache_each_range(const struct bt_vm *vm, range_fn *tell, void *arg); /* its memory, for statistics */
/* The block at cpu->rip in mode `key`; translates it if need be. NO_BLOCK: the interpreter has to run the
 * instruction (it raises the fault, or there is nothing to translate). */
uint32_t cache_find(struct bt *bt, uint32_t key);
/* Where code at a linear address lies: its offset in memory's mapping. False: not there, or no memory. */
bool cache_code_offset(struct bt *bt, uint64_t linear, uint64_t *offset);
/* The index of the struct code_page for blocks in the page at `offset`; 0: there are no more. With the lock. */
unsigned cache_code_page(struct bt_vm *vm, uint64_t offset);
void cache_code_page_unused(struct bt_vm *vm, uint64_t offset); /* if it has no users. With the lock */
/* Begins a block: room for BLOCK_CODE_MAX bytes, and what belongs to it. With the lock. */
struct block *cache_begin(struct bt *bt);
/* Ends it: enters it into the tables. Its id. With the lock. */
uint32_t cache_commit(struct bt *bt, struct block *b);
uint32_t cache_block_at(const struct bt_vm *vm, uint32_t offset); /* whose code is it? NO_BLOCK: nobody's */
/* Block `from`, left by its `link`, goes to `to` from now on; unless regions were reset since `resets`. */
void cache_chain(struct bt *bt, uint32_t from, unsigned link, uint32_t to, uint64_t resets);
/* Code in [offset, offset+len) has been changed. Any thread. */
void cache_invalidate(struct bt_vm *vm, uint64_t offset, uint64_t len);
void cache_watch(struct bt *bt, uint64_t offset); /* stores to the page are noticed from now on. With the lock */
void cache_unwatch(struct bt_vm *vm, uint64_t offset); /* no longer, if it has no blocks. With the lock */
/* Translated code has been left: takes notice of what other vCPUs did. Before any is entered again. */
void cache_sync(struct bt *bt);
void cache_activate(struct bt *bt); /* before run looks for code */
void cache_rest(struct bt *bt);     /* run is over: nothing of the cache is held any more */
uint64_t cache_sum(const uint8_t *bytes, unsigned count, uint64_t sum);

/* ---- branch.c ---- */
static inline enum tlb_mode bt_fetch_mode(const struct cpu *cpu)
{
	return cpu->cpl == 3 ? TLB_USER : cpu->cr4 & CR4_SMEP ? TLB_KERNEL : TLB_KERNEL_USER;
}
unsigned branch_mode(uint32_t key);
/* Before code of a mode is entered: its branch cache is its own. */
void branch_select(struct bt *bt, uint32_t key);
void branch_insert(struct bt *bt, uint32_t key, uint64_t rip, uint32_t id);
const void *branch_find(struct bt *bt, uint32_t key, uint64_t rip); /* selects as well; NULL: not there */
void branch_init(struct bt *bt); /* whatever was in the vCPU's tables before */
void branch_flush(struct bt *bt, bool global_too);
void branch_flush_page(struct bt *bt, uint64_t gva);
void branch_switch(struct bt *bt); /* another address space is current */
/* The block is gone, and marked dead: so is what all branch caches know of it. Any thread, with the lock. */
void branch_forget(const struct bt_vm *vm, const struct block *b);
void branch_forget_page(struct bt_vm *vm, unsigned index); /* a struct code_page, before it is another page's. With the lock */
/* The page of a block that is for any RIP is at `linear` now: before any code of it runs. */
void page_bind(struct bt *bt, const struct block *b, uint64_t linear);

/* ---- routine.c ---- */
void routine_init(struct bt_vm *vm);
/* Return stacks. In translated code's absence, but for return_stack_of. */
int return_init(struct bt *bt); /* 0 or -errno */
void return_free(struct bt *bt);
void return_drop(struct bt *bt, unsigned stack); /* empties one */
void return_drop_all(struct bt *bt);
void return_select(struct bt *bt, enum tlb_mode mode); /* the one that translated code will begin with */
/* engine.h: reserve. */
int bt_reserve(void);
/* The rsp of the empty stack that `address` is in, its guard included; 0: in none. */
uint64_t return_stack_of(const struct bt *bt, uint64_t address);

/* ---- translate.c ---- */
#define TAILS_MAX (BLOCK_INSNS_MAX * 4)
struct tail {
	uint8_t kind;
	uint16_t size;    /* TAIL_MISS */
	bool write, no_fill;
	bool group, read_first; /* of a group; that is looked up for writing by an access that reads */
	bool wide;        /* in the wide set */
	bool below;       /* right below what is in reg; of that, too, the page counts */
	host_reg reg;     /* TAIL_MISS: where the address is; REG_NONE: it is */
	uint64_t address;
	uint16_t insn;
	uint32_t site;    /* rel32 to patch to the tail; 0: none */
	uint32_t retry;   /* TAIL_MISS, TAIL_CALLOUT: where to go on; 0: the call is not here */
	uint32_t leave;   /* TAIL_LEAVE: LEAVE_CODE */
	uint8_t link;     /* TAIL_LINK, TAIL_BRANCH, TAIL_FAR */
	bool ends;        /* TAIL_CALLOUT */
	bool apart;       /* TAIL_CALLOUT: of a CALL whose target was not found: nothing of it is in the block */
};
/* A branch with a rel8 to a tail, or to a routine, needs a JMP on its way: behind the block, if that is near enough. */
struct way {
	uint32_t from;   /* the rel8 */
	uint32_t target; /* offset in the cache; 0: `tail` */
	struct tail *tail;
};
#define WAYS_MAX 16
#define WAY_REACH 127
/* Bytes of code that are hardly ever more: of an instruction, but for look-ups; with one; of a branch's look-up; of a CALL besides. */
enum { WAY_ROOM_INSN = 40, WAY_ROOM_LOOKUP = 92, WAY_ROOM_BRANCH = 64, WAY_ROOM_CALL = 24 };
enum { TAIL_MISS, TAIL_LINK, TAIL_LEAVE, TAIL_BRANCH, TAIL_CALLOUT, TAIL_HINT, TAIL_FAR, TAIL_FAR_CALL };

/* An instruction of a block that the interpreter runs; lies with the block's rarely run code. */
struct callout {
	uint64_t rip, next; /* of the instruction, and of the one behind it; as the block's */
	uint64_t next_offset;
	uint32_t block, key;
	bool ends;          /* the block does not go on behind it */
	bool fpu;           /* the block needs guest vector state live */
	struct insn insn;
};
#define CALLOUTS_MAX 8 /* in a block */

/* Accesses off the same registers, which change by known amounts only, near each other: looked up once. */
struct group {
	uint8_t base, index, scale; /* enum gpr; REG_NONE */
	uint8_t kind;        /* enum tlb_kind */
	uint16_t version, index_version; /* of the registers */
	uint8_t segment;     /* conditional branches before its first access */
	int32_t low, high;   /* bytes, from what base + index * scale was when the versions began */
	uint16_t members;
	uint16_t left;       /* members that are not translated yet */
	bool looked_up;
	bool kept;           /* what was looked up is in its word of cpu->engine_word */
};

struct planned_access {
	uint8_t group;  /* GROUP_NONE: on its own */
	int32_t offset; /* of base + index * scale now, from what it was when the versions began */
};
#define GROUP_NONE 0xff
enum { ACCESS_OPERAND, ACCESS_STACK, ACCESSES };

struct translator {
	struct bt *bt;
	struct cpu *cpu;
	struct emitter *e;
	struct block *b;
	uint32_t id;
	uint32_t key;
	uint64_t linear;       /* of the block's page */
	uint64_t rip;          /* of the instruction being translated; as the block's */
	unsigned insn_index;
	unsigned count;
	struct insn insn[BLOCK_INSNS_MAX];
	uint16_t offset[BLOCK_INSNS_MAX]; /* from the block's RIP */
	uint8_t bytes[BLOCK_INSNS_MAX * INSN_MAX_LEN + 1]; /* of the guest's code, copied once: it may change meanwhile */
	uint32_t commit;       /* of the instruction: struct mark */
	bool again[BLOCK_INSNS_MAX];      /* what follows a conditional branch is its target */
	struct planned_access plan[BLOCK_INSNS_MAX][ACCESSES];
	uint16_t pointers;     /* guest registers along which the block follows pointers: what is off them is in the wide set */
	unsigned group_count;
	unsigned group_lookups; /* of groups, so far: GROUPS_MAX at most */
	struct group group[GROUPS_MAX];
	uint8_t rcx_group;     /* the group whose look-up rcx has; GROUP_NONE: none */
	uint8_t r10_group;     /* the same for r10; never the only place that has it */
	bool rcx_free, r10_free; /* the instruction being translated uses them for nothing but that */
	int32_t rsp_owed;      /* RSP is r15 and that: until access_stack_settle, and nothing may see r15 meanwhile */
	unsigned quiet;        /* instructions before this one leave flags that are not the guest's to the one behind them */
	/* What is counted from here to the next conditional branch, when it is: where in the code it goes. */
	uint8_t *count_insns, *count_accesses;
	unsigned segment_insns, segment_accesses;
	unsigned callout_count;
	unsigned tail_count;
	struct tail tail[TAILS_MAX];
	unsigned way_count, ways_made; /* those that wait; how often one could not */
	struct way way[WAYS_MAX];
	bool near;             /* ways may wait for the end of the block */
	bool too_far;          /* one has, for too long: the block has to be made without */
	bool ended;            /* the block is over */
};
/* Translates the code at `offset` of the host mapping (linear address `linear`, RIP `rip`: cache_find). NO_BLOCK as there.
 * With the lock. */
uint32_t translate(struct bt *bt, uint32_t key, uint64_t rip, uint64_t linear, uint64_t offset);
static inline bool code64(const struct translator *t) { return (t->key & KEY_CODE) == KEY_CODE64; }
static inline uint64_t wrap_rip(const struct translator *t, uint64_t rip) { return code64(t) ? rip : (uint32_t)rip; }

/* ---- leave.c ---- */
void emit_rip(struct translator *t, host_reg reg, uint64_t rip); /* reg = a RIP of this block: an address. Keeps flags */
struct tail *add_tail(struct translator *t, unsigned kind);
/* A branch whose rel8 is at `from` goes to the tail, which has no other site; to an offset in the cache. */
void emit_way(struct translator *t, uint32_t from, struct tail *tail);
void emit_way_to(struct translator *t, uint32_t from, uint32_t target);
/* A JMP for each branch that cannot wait for another `room` bytes: those until this is called again, or the block ends. */
void emit_ways(struct translator *t, unsigned room);
void emit_tails(struct translator *t); /* when all instructions have been emitted */
uint64_t next_rip(const struct translator *t, const struct insn *i);
/* The interpreter runs the instruction; `ends`: the block does not go on behind it. */
void emit_callout(struct translator *t, const struct insn *insn, bool ends);
bool callout_ends(const struct translator *t, const struct insn *insn); /* is nothing gained by going on? */

/* The next free link of the block: its number. */
unsigned add_link(struct translator *t, unsigned kind, uint64_t target, uint32_t key);
void emit_goto(struct translator *t, uint64_t target, uint32_t key); /* to a known RIP, in mode `key` */
void emit_goto_from(struct translator *t, uint32_t site, uint64_t target); /* the same for a jump with its rel32 at `site` */
void emit_branch(struct translator *t, unsigned link, const struct insn *insn); /* to the RIP in r10, which is from insn */
void emit_call(struct translator *t, uint64_t target); /* to a RIP that is known, by the return stack */
/* User code out of its page. Is the target's page where it has to be? If not the tail does the CALL. False: no page is known. */
bool emit_call_far_check(struct translator *t, uint64_t target, unsigned *link);
void emit_call_far(struct translator *t, unsigned link); /* behind the push: the call itself */
void emit_call_probe(struct translator *t, const struct insn *insn); /* to the RIP in r10, by the same: before the push */
void emit_landing(struct translator *t, uint64_t rip); /* behind a call: goes on at `rip` if the guest's RET does */
bool has_return_stack(const struct translator *t);

/* ---- inline.c ---- */
/* Emits an instruction that is not a copy. False: the interpreter has to do it. */
bool inline_emit(struct translator *t, const struct insn *insn);
bool inline_lea(struct translator *t, const struct insn *insn);
void inline_call_tail(struct translator *t, const struct insn *insn); /* a CALL whose emit_call_far_check failed */
/* To the interpreter, which raises the fault, unless r10 is a canonical address; uses rcx. Before anything changes. */
void emit_canonical_check(struct translator *t, const struct insn *insn);
void inline_after_sti(struct translator *t); /* behind the instruction that follows STI */

/* ---- system.c ---- */
bool system_emit(struct translator *t, const struct insn *insn); /* the same for system registers */

/* ---- string.c ---- */
bool string_emit(struct translator *t, const struct insn *insn); /* the same for REP MOVS and REP STOS */
bool string_at_rep(const uint8_t *host); /* is the host in the middle of one? */

/* ---- access.c ---- */
void access_plan(struct translator *t); /* which accesses of the decoded block are looked up together */
/* Do accesses of the first `count` instructions share a look-up with later ones? */
bool access_shared_beyond(const struct translator *t, unsigned count);
/* Where the memory operand is, in *m, which may use r10 and rcx; r11 is free. False: not in this mode. */
bool access_operand(struct translator *t, const struct insn *insn, enum tlb_kind kind, unsigned size, struct host_mem *m);
/* The same for the stack at rSP + disp. */
bool access_stack(struct translator *t, enum tlb_kind kind, unsigned size, int32_t disp, struct host_mem *m);
void access_stack_move(struct translator *t, int32_t by); /* rSP += by; settled later */
void access_stack_settle(struct translator *t); /* the register has what it should */
/* Can instruction n be translated with something owed, and nothing happen in it that would be seen? */
bool access_may_owe(const struct translator *t, unsigned n);
/* ADD, SUB or LEA that changes RSP by a constant, and whose flags nobody will see: owed, without any code. */
bool access_owe(struct translator *t);
/* Before an instruction, and behind it, if it was translated. */
void access_begin_insn(struct translator *t, const struct insn *insn);
void access_end_insn(struct translator *t);
int32_t access_set(const struct translator *t, enum tlb_kind kind); /* struct tlb_set for gs */
void access_release_rcx(struct translator *t); /* rcx is about to change */
/* Leaves the linear address seg:offset of the memory operand, `moved` bytes on, in r10. May use r11, rcx. */
bool translate_address(struct translator *t, const struct insn *insn, int64_t moved);
/* Looks r10 up in the TLB: [r10 + rcx] is the host's memory then. */
struct host_mem translate_lookup(struct translator *t, enum tlb_kind kind, unsigned size, bool no_fill);
void emit_effective_address(struct translator *t, const struct insn *i, host_reg to, int64_t moved);
void access_forget(struct translator *t); /* what was looked up may not be so any more */
host_reg guest_value(struct translator *t, unsigned guest, host_reg scratch);

/* ---- host.c: keep flags ---- */
/* What the host's processor is slow at. RINGSIDE_BT_SLOW=loop,pext (or one, or nothing) says otherwise, for tests. */
void host_init(struct emitter *e);
/*
 * Goes on if rcx is 1; else within 127 bytes, to what emit_way or emit_way_to says for the offset of the rel8 that it
 * returns. rcx is lost. A branch that is not taken as a rule: those that are need a place in the host's branch target buffer,
 * and cost a misprediction where there are more of them than that holds.
 */
uint32_t emit_unless_one(struct emitter *e);
uint32_t emit_jmp_in_nop(struct emitter *e); /* a NOP that is a JMP from its fourth byte on: the JMP's rel32 */
/* The same, sooner, for what emit_page_number gives: goes on if that is emit_page_hit. */
static inline int32_t emit_page_hit(const struct emitter *e) { return e->slow_loop ? 0 : 1; }
uint32_t emit_unless_page_hit(struct emitter *e);
void emit_page_number(struct emitter *e, host_reg to, host_reg from); /* to = from >> PAGE_SHIFT */
void emit_tlb_index(struct emitter *e, host_reg to, host_reg from); /* to = an address's index into the TLB; rcx may be lost */
void emit_branch_index(struct emitter *e, host_reg reg); /* reg = twice its low BRANCH_BITS bits; rcx may be lost */
void emit_clear_bit(struct emitter *e, host_reg reg, unsigned bit);

/* ---- callout.c ---- */
bool callout_special(const struct cpu *cpu);
uint32_t callout_run(struct cpu *cpu, const struct callout *c);
uint32_t callout_access(struct bt *bt, uint32_t id, unsigned insn, bool faults); /* faults: cpu->fault says how */

/* ---- ident.c ---- */
/* Emits a copy of an instruction. False: nothing was emitted, and the interpreter has to do it. */
bool ident_emit(struct translator *t, const struct insn *insn);
bool ident_leaves_rcx(const struct insn *insn); /* uses it for the look-up at most, and does not change it then */
bool ident_leaves_r10(const struct insn *insn);

/* ---- seen.c ---- */
#ifdef TSAN
uint32_t seen_enter(struct cpu *cpu, const void *code); /* in place of what generated code is called by and calls */
uint32_t seen_miss(struct cpu *cpu, uint64_t address, uint32_t info, uint32_t id);
uint32_t seen_callout(struct cpu *cpu, const struct callout *c);
void seen_patched(struct bt_vm *vm); /* code that others run leads to a block that this thread knows all of */
static inline void bt_fpu_enter(struct cpu *cpu) { bt_of(cpu)->fpu_wanted = true; }
#else
static inline void seen_patched(struct bt_vm *vm) { (void)vm; }
static inline void bt_fpu_enter(struct cpu *cpu) { cpu_fpu_enter(cpu); } /* for what translated code is entered next */
#endif

/* ---- signal.c ---- */
int signal_init(void); /* once a process; 0 or -errno */
void signal_enter(struct bt *bt); /* this thread is about to run the vCPU: gs, kicks */
void signal_leave(struct bt *bt);
void signal_interrupt(struct bt *bt, uint32_t request); /* REQUEST_*: makes it leave translated code; any thread */

/* ---- bt.c ---- */
uint32_t bt_miss(struct cpu *cpu, uint64_t address, uint32_t info, uint32_t id); /* the routine `miss` calls it */
int bt_vcpu_create_unchained(struct memory *memory, struct cpu *cpu);
void bt_vcpu_destroy(struct cpu *cpu);
/* One block, or one instruction by the interpreter. *insns: completed (a delivered exception completes its
 * instruction; a REP counts when it is done). *partial: the last one, a REP, is not done. */
enum x bt_run_block(struct cpu *cpu, unsigned *insns, bool *partial);

#endif
