/*
 * Are the two sides the same after a block? Fast where they are; where not, what may differ is
 * told from what may not. vCPU's thread; no vector state is live.
 */
#include "engine/check/check.h"

#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "util/log.h"

/* Compared as words: the general registers, RIP and RFLAGS; and everything from the segments to the last of the
 * MSRs, but the MTRRs, which nothing depends on. (They are compared when all memory is.) */
#define GENERAL_END (offsetof(struct cpu, rflags) + 8)
#define WORDS_BEGIN offsetof(struct cpu, seg)
#define WORDS_END offsetof(struct cpu, mtrr)
_Static_assert(offsetof(struct cpu, gpr) == 0 && GENERAL_END == (GPR_COUNT + 2) * 8, "nothing else in between");
_Static_assert(WORDS_BEGIN % 8 == 0 && WORDS_END % 8 == 0, "whole words");

#define ACCESSED_AND_DIRTY 0x60ull

static bool words_same(const void *a, const void *b, size_t bytes)
{
	const uint64_t *x = a, *y = b;
	uint64_t even = 0, odd = 0;
	size_t i = 0;

	for (; i + 4 <= bytes / 8; i += 4) {
		even |= (x[i] ^ y[i]) | (x[i + 2] ^ y[i + 2]);
		odd |= (x[i + 1] ^ y[i + 1]) | (x[i + 3] ^ y[i + 3]);
	}
	for (; i < bytes / 8; i++)
		even |= x[i] ^ y[i];
	return !(even | odd);
}

static bool registers_same(const struct cpu *a, const struct cpu *b)
{
	return words_same(a, b, GENERAL_END) &&
	       words_same((const uint8_t *)a + WORDS_BEGIN, (const uint8_t *)b + WORDS_BEGIN,
			  WORDS_END - WORDS_BEGIN) &&
	       a->cpl == b->cpl && a->mode == b->mode && a->sti_shadow == b->sti_shadow &&
	       a->mov_ss_shadow == b->mov_ss_shadow && a->nmi_blocked == b->nmi_blocked && a->halted == b->halted &&
	       a->db_pending == b->db_pending;
}

/* ---- what may differ ---- */

struct leeway {
	uint64_t undefined; /* flags that nothing defined since */
	bool anything;      /* some instruction's result is not fixed */
};

/* Random numbers; and whether a component in its initial state counts as in use, the processor may say one
 * way or the other (SDM 1, 13.6): XSAVE stores it, and by it what else it stores. */
static bool gives_anything(const struct insn *insn)
{
	switch (insn->id) {
	case INSN_RDRAND:
	case INSN_RDSEED:
	case INSN_XSAVE:
	case INSN_XSAVEOPT:
	case INSN_XSAVEC:
	case INSN_XSAVES:
	case INSN_XGETBV:
		return true;
	default:
		return false;
	}
}

/* What the instructions of the block leave open. */
static struct leeway block_leeway(struct check *c)
{
	struct leeway l = {0, false};

	if (c->steps > BLOCK_INSNS)
		return l;
	for (unsigned i = 0; i < c->steps; i++) {
		const struct trace *t = check_trace(c, i);
		struct insn insn;

		if (!check_peek(c, t->linear, t->bits, &insn))
			continue;
		if (insn_eflags_read(&insn) & l.undefined)
			l.anything = true;
		l.undefined = (l.undefined & ~(uint64_t)insn_eflags_killed(&insn)) | insn_eflags_undefined(&insn);
		l.anything |= gives_anything(&insn);
	}
	return l;
}

static bool has_entry(const struct store_log *log, const uint8_t *hva)
{
	for (unsigned i = 0; i < log->count; i++)
		if (log->store[i].entry && log->store[i].hva == hva)
			return true;
	return false;
}

/* One side walked, and set A or D, in this block and the other did not: if the block also reads that entry,
 * it sees two values. */
static bool entry_seen_twice(struct check *c)
{
	const struct cpu *a = c->first, *b = c->second;
	uint64_t different = 0;
	bool alone = false;

	for (unsigned i = 0; i < c->first_log.count && !alone; i++)
		alone = c->first_log.store[i].entry &&
			!has_entry(&c->second_log, c->first_log.store[i].hva - c->vm->memory->base + c->vm->copy.base);
	for (unsigned i = 0; i < c->second_log.count && !alone; i++)
		alone = c->second_log.store[i].entry &&
			!has_entry(&c->first_log, c->second_log.store[i].hva - c->vm->copy.base + c->vm->memory->base);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		different |= a->gpr[i] ^ b->gpr[i];
	return alone && a->rip == b->rip && different && !(different & ~ACCESSED_AND_DIRTY);
}

/* The first side is right, whatever it did. */
static bool excuse(struct check *c)
{
	if (!c->clock_unasked && !entry_seen_twice(c) && !block_leeway(c).anything)
		return false;
	cpu_copy_state(c->second, c->first);
	check_mirror_take_over(c);
	c->stats.excused++;
	return true;
}

/* ---- the parts ---- */

static bool is_io(const struct exit *e) { return e->reason == EXIT_PIO || e->reason == EXIT_MMIO; }

static const char *exit_name(enum x x, const struct exit *e)
{
	static const char *const names[] = {
#define X(id, name, help) [id] = name,
		EXIT_REASONS(X)
#undef X
	};
	return x != X_EXIT ? "none" : e->reason < EXIT_REASON_COUNT ? names[e->reason] : "?";
}

static bool exits_same(struct check *c)
{
	const struct exit *a = &c->first->exit, *b = &c->second->exit;

	if (c->first_x != c->second_x || (c->first_x == X_EXIT && a->reason != b->reason)) {
		snprintf(c->what, sizeof c->what, "exit: %s after %u instructions and %s in the %uth",
			 exit_name(c->first_x, a), c->insns, exit_name(c->second_x, b), c->steps);
		return false;
	}
	if (c->first_x != X_EXIT || !is_io(a))
		return true;
	if (a->io.addr == b->io.addr && a->io.size == b->io.size && a->io.write == b->io.write &&
	    a->io.port == b->io.port && (!a->io.write || a->io.value == b->io.value))
		return true;
	snprintf(c->what, sizeof c->what, "I/O: %s %#llx size %u value %#llx and %s %#llx size %u value %#llx",
		 a->io.write ? "write" : "read", (unsigned long long)a->io.addr, a->io.size,
		 (unsigned long long)a->io.value, b->io.write ? "write" : "read", (unsigned long long)b->io.addr,
		 b->io.size, (unsigned long long)b->io.value);
	return false;
}

/* Registers differ as words. In flags that mean nothing, or in padding? Then the second side gets the first's. */
static bool registers_alike(struct check *c)
{
	struct cpu *a = c->first, *b = c->second;
	uint64_t flags = (a->rflags ^ b->rflags) & EF_ARITH;

	if (flags && !(flags & ~block_leeway(c).undefined)) {
		b->rflags = (b->rflags & ~flags) | (a->rflags & flags);
		c->stats.undefined_flags++;
		if (registers_same(a, b))
			return true;
	}
	if (cpu_diff(a, b, 0, c->what, sizeof c->what))
		return false;
	mmu_copy_any((uint8_t *)b + WORDS_BEGIN, (const uint8_t *)a + WORDS_BEGIN, WORDS_END - WORDS_BEGIN);
	return true;
}

/* Bytes of the XSAVE area that are no registers may differ; which components are in use is kept the same. */
static bool vectors_same(struct check *c)
{
	struct cpu *a = c->first, *b = c->second;

	c->stats.vectors++;
	if (words_same(a->fpu, b->fpu, a->fpu_size))
		return true;
	if (cpu_diff(a, b, 0, c->what, sizeof c->what))
		return false;
	mmu_copy_any(b->fpu, a->fpu, a->fpu_size);
	return true;
}

static unsigned pages_interval(const struct check *c)
{
	uint64_t pages = c->vm->memory->end >> PAGE_SHIFT;

	if (log_on(LOG_CHECK))
		return 1;
	return pages / 128 > HISTORY ? (unsigned)(pages / 128) : HISTORY;
}

/* Devices may read any memory; and an exit may be the last one. */
static bool looks_outside(const struct check *c)
{
	const struct exit *e = &c->first->exit;

	return c->first_x == X_EXIT && (e->reason == EXIT_SHUTDOWN || (e->reason == EXIT_PIO && e->io.write));
}

static bool everything_same(struct check *c)
{
	c->until_pages = pages_interval(c);
	return check_mirror_pages_same(c) && !cpu_diff(c->first, c->second, 0, c->what, sizeof c->what);
}

bool check_compare(struct check *c, bool vectors)
{
	bool same = check_env_same(c) && exits_same(c) &&
		    (registers_same(c->first, c->second) || registers_alike(c)) && check_mirror_same(c) &&
		    (!vectors || vectors_same(c));

	if (__builtin_expect(!same, 0) && !excuse(c))
		return false;
	if (__builtin_expect(c->until_pages <= 1 || looks_outside(c), 0))
		return everything_same(c);
	c->until_pages--;
	return true;
}
