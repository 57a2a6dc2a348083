/*
 * Inside the check engine: two processors on two copies of RAM, run in lockstep.
 *
 * The first side is the machine's own struct cpu on the machine's RAM. It runs one block, translated
 * (bt, unchained). The second side is private, a struct cpu with a copy of RAM, and is run by the
 * interpreter over as many instructions. Then registers are compared, and the bytes that either may have written.
 *
 * What the processor asks of the machine (time, local APIC, I/O, ...) is answered once, to the first
 * side, and played back to the second, which must ask the same. What the machine writes to RAM
 * goes to both, between blocks; during a call to the machine it is played back with the answer.
 *
 * All on the vCPU's thread, but for writes to RAM by others, which wait for vm->lock: the vCPU holds
 * that in the guest, except while it asks the machine. One vCPU only: two would have to take turns
 * inside their blocks as well.
 */
#ifndef RINGSIDE_CHECK_H
#define RINGSIDE_CHECK_H

#include <pthread.h>
#include <stdio.h>

#include "cpu/store_log.h"
#include "engine/engine.h"
#include "mem/memory.h"

/* What runs the first side. engine_check's is bt; tests bring one that makes errors. */
struct check_runner {
	int (*create)(struct memory *memory, struct cpu *cpu); /* 0 or -errno */
	void (*destroy)(struct cpu *cpu);
	/* One block from cpu->rip; on return all state but the vectors is in *cpu, at an instruction boundary.
	 * *insns: how many instructions were completed; one that raised an exception is complete when that
	 * is delivered, a REP when its last element is done. *partial: a REP at RIP has begun.
	 * X_OK, or X_EXIT with cpu->exit: of I/O that is yet to be done, or of HLT, which is then complete. */
	enum x (*run_block)(struct cpu *cpu, unsigned *insns, bool *partial);
};

#define BLOCK_INSNS 1024 /* of one block, so many are remembered for the report */
#define HISTORY 1024     /* blocks */
#define ASKS_MAX 256     /* in one block */
#define REPORT_SIZE 65536

enum ask_kind {
	ASK_TSC, ASK_GET_TPR, ASK_SET_TPR, ASK_GET_APIC_BASE, ASK_SET_APIC_BASE, ASK_X2APIC_READ, ASK_X2APIC_WRITE,
	ASK_PV_READ, ASK_PV_WRITE, ASK_HYPERCALL,
};

/* One call of struct cpu_env and its answer. */
struct ask {
	enum ask_kind kind;
	uint64_t in[5];
	uint64_t out;
	bool ok;
};

/* Bytes that somebody wrote into RAM while the first side asked question number `ask`. */
struct late_write {
	struct late_write *next;
	unsigned ask;
	uint64_t offset, len;
	uint8_t bytes[];
};

/* An instruction that the second side has run. */
struct trace {
	uint64_t rip, linear;
	uint8_t bits; /* 16, 32, 64 */
};

/* The registers as a block finds them. */
struct start {
	uint64_t gpr[GPR_COUNT], rip, rflags;
};

struct check_stats {
	uint64_t blocks, insns, stores, pages, vectors, asks;
	uint64_t accessed_bits;   /* A and D bits that one side had set later */
	uint64_t undefined_flags; /* blocks that differed in flags that the manual leaves undefined, only */
	uint64_t excused;         /* blocks that may differ: random numbers, undefined flags looked at */
};

struct check_vm;

/* A vCPU. Address of both sides' env_opaque. */
struct check {
	struct check_vm *vm;
	struct cpu *first, *second;
	struct store_log first_log, second_log;
	const struct cpu_env *env; /* the machine's */
	void *env_opaque;
	struct cpu_env first_env, second_env;

	/* The block under way. */
	bool running;
	bool asking; /* the first side is in the machine's hands */
	pthread_t thread; /* that is, or was, in run */
	struct start start;
	unsigned insns; /* completed by the first side */
	bool partial;
	enum x first_x, second_x;
	unsigned steps; /* instructions that the second side has begun */
	struct trace trace[BLOCK_INSNS]; /* the last of them, by number modulo BLOCK_INSNS */
	struct ask ask[ASKS_MAX];
	unsigned ask_count, ask_next;
	bool ask_overflow;
	bool clock_unasked; /* the second side read a clock that the first did not ask for: it has its own */
	char ask_wrong[160]; /* the second side asked for something else; empty: no */
	struct late_write *late, **late_end;
	bool late_lost; /* there was no memory to remember one */

	uint64_t history[HISTORY]; /* RIP of the last blocks */
	unsigned until_pages;      /* blocks until all written pages are compared */
	unsigned idle;             /* blocks in a row that did nothing */
	bool failed;
	char error[256];
	char what[512]; /* the first difference */
	char *report;   /* REPORT_SIZE bytes; empty: no difference yet */
	struct check_stats stats;
};

struct check_vm {
	const struct check_runner *runner;
	struct memory *memory; /* the first side's */
	struct memory copy;    /* the second side's */
	bool copied;
	uint32_t maps_version; /* that the copy has */
	pthread_mutex_t lock; /* see above */
	uint32_t waiting;     /* threads that want it; atomic */
	struct check *vcpu;   /* NULL: none yet */
};

static inline struct check *check_of(const struct cpu *cpu) { return cpu->env_opaque; }

/* check.c: the engine on another runner. Its other functions are engine_check's. NULL: errno. */
void *check_vm_create(struct memory *memory, const struct check_runner *runner);

/* env.c: fills first_env and second_env. */
void check_env_init(struct check *c);
void check_env_begin(struct check *c); /* a block begins */
void check_env_end(struct check *c);   /* it was compared */
/* The second side has asked for all that the first did; otherwise false, and c->what. */
bool check_env_same(struct check *c);

/* mirror.c: the second copy of RAM. */
int check_mirror_init(struct check_vm *vm);
void check_mirror_free(struct check_vm *vm);
void check_mirror_copy_all(struct check_vm *vm);
/* Between blocks: what the first side's log names, to the second side. */
void check_mirror_take_over(struct check *c);
/* All that either log names: A and D bits joined, then the same on both sides? False: c->what. */
bool check_mirror_same(struct check *c);
/* All pages that were written since the last time. False: c->what. */
bool check_mirror_pages_same(struct check *c);
void check_mirror_write(struct check_vm *vm, uint64_t offset, const void *bytes, uint64_t len);
/* Between blocks: what is mapped where, to the second side. */
void check_mirror_maps(struct check *c);

/* compare.c: after a block. `vectors`: it had vector instructions. False: a difference, and c->what. */
bool check_compare(struct check *c, bool vectors);

/* follow.c: the second side does what the first has done. */
void check_follow(struct check *c);
/* The instruction at a linear address of the second side's memory. */
bool check_peek(struct check *c, uint64_t linear, unsigned bits, struct insn *insn);
static inline const struct trace *check_trace(const struct check *c, unsigned n) { return &c->trace[n % BLOCK_INSNS]; }

/* report.c: everything about the difference c->what, in c->report, c->error and the log. */
void check_report(struct check *c);

#endif
