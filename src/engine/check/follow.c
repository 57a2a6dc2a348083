/*
 * The second side: the interpreter runs the instructions that the first side has completed. vCPU's thread.
 */
#include "engine/check/check.h"

#include "cpu/mmu.h"

#define TURNS_MAX (1u << 20) /* of a REP, each up to 256 elements: then the sides have parted */

bool check_peek(struct check *c, uint64_t linear, unsigned bits, struct insn *insn)
{
	uint8_t bytes[INSN_MAX_LEN];
	unsigned n = 0;

	for (; n < INSN_MAX_LEN; n++) {
		uint64_t gpa;
		const uint8_t *hva;

		if (!mmu_translate_debug(c->second, linear + n, &gpa))
			break;
		hva = memory_hva(&c->vm->copy, gpa, 1);
		if (!hva)
			break;
		bytes[n] = *hva;
	}
	return insn_decode(insn, bytes, n, bits) == DECODE_OK;
}

static uint64_t linear_rip(const struct cpu *cpu)
{
	return cpu->mode == MODE_LONG ? cpu->rip : (uint32_t)(cpu->rip + cpu->seg[CS].base);
}

static bool peek_at_rip(struct check *c, struct insn *insn)
{
	return check_peek(c, linear_rip(c->second), cpu_code_bits(c->second), insn);
}

/* RIP has not moved. A REP that has more to do, or a jump to itself? */
static bool rep_unfinished(struct check *c)
{
	struct insn insn;

	return peek_at_rip(c, &insn) && (insn_desc(&insn)->flags & INSN_STRING) && (insn.rep || insn.repne);
}

/* One instruction, a REP to its end. */
static enum x step(struct check *c)
{
	struct cpu *cpu = c->second;
	struct trace *t = &c->trace[c->steps++ % BLOCK_INSNS];
	uint64_t rip = cpu->rip;
	enum x x;

	t->rip = rip;
	t->linear = linear_rip(cpu);
	t->bits = (uint8_t)cpu_code_bits(cpu);
	x = interp_step(cpu);
	for (unsigned turn = 0; __builtin_expect(x == X_OK && cpu->rip == rip, 0); turn++) {
		if (turn == TURNS_MAX || !rep_unfinished(c))
			break;
		x = interp_step(cpu);
	}
	return x;
}

static void set_counter(struct cpu *cpu, unsigned size, uint64_t v)
{
	if (size == 2)
		cpu->gpr[RCX] = (cpu->gpr[RCX] & ~0xffffull) | (uint16_t)v;
	else
		cpu->gpr[RCX] = size == 4 ? (uint32_t)v : v;
}

/* The first side has done some elements of the REP at RIP, and not all. The second does as many: it is
 * given a counter that ends there. */
static enum x step_partial(struct check *c)
{
	struct cpu *cpu = c->second;
	uint64_t rip = cpu->rip, rf = cpu->rflags & RFLAGS_RF, mask, left, done;
	struct insn insn;
	enum x x;

	if (rip != c->first->rip || !rep_unfinished(c) || !peek_at_rip(c, &insn))
		return X_OK; /* the comparison will tell */
	mask = insn.addrsize == 8 ? ~0ull : (1ull << insn.addrsize * 8) - 1;
	left = c->first->gpr[RCX] & mask;
	done = (cpu->gpr[RCX] & mask) - left;
	if (!done || done > (cpu->gpr[RCX] & mask))
		return X_OK;
	set_counter(cpu, insn.addrsize, done);
	x = step(c);
	if (x != X_OK || (cpu->gpr[RCX] & mask))
		return x;
	set_counter(cpu, insn.addrsize, left);
	cpu->rip = rip;
	cpu->rflags |= rf;
	return X_OK;
}

void check_follow(struct check *c)
{
	c->steps = 0;
	c->second_x = X_OK;
	while (c->steps < c->insns) {
		c->second_x = step(c);
		if (__builtin_expect(c->second_x != X_OK, 0))
			return;
	}
	if (c->first_x == X_EXIT && c->first->exit.reason != EXIT_HLT)
		c->second_x = step(c); /* must want the same exit */
	else if (__builtin_expect(c->partial, 0))
		c->second_x = step_partial(c);
}
