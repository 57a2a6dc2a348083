/*
 * Programs that run several times over and make many accesses off the same few registers: what a translator
 * that shares look-ups between accesses, keeps them in registers and predicts returns has to get right. Loads,
 * stores, pushes and pops are mixed with calls into another page and whatever needs registers of its own.
 * Header only; 64-bit code; deterministic by the seed.
 *
 * Such a program is a loop of up to HOT_INSNS instructions, run HOT_ROUNDS times at most, so that from the
 * second round on the code that was looked up in the first is entered. Its pointers move, into the next page, one
 * that cannot be written, one that is not there: then it ends with a fault in the middle. All flags are
 * defined always.
 */
#ifndef FUZZ_GENERATE_HOT_H
#define FUZZ_GENERATE_HOT_H

#include "generate.h"

#define HOT_INSNS (PROGRAM_INSNS_MAX - 2) /* and the end of the loop */
#define HOT_ROUNDS 6
#define HOT_COUNTER R13
#define HOT_FUNCTION R9 /* the address of one, always */

/* ---- functions in pages of their own, that programs call ---- */

#define HOT_FUNCTIONS 8
#define HOT_FUNCTION_BYTES 64
#define HOT_FUNCTIONS_SIZE 0x2000u /* every other one is in the second page */

static const struct {
	uint8_t bytes[HOT_FUNCTION_BYTES - 8];
	uint8_t len;
} hot_function[HOT_FUNCTIONS] = {
	{ { 0xc3 }, 1 },                                     /* ret */
	{ { 0x48, 0x03, 0x04, 0x24, 0xc3 }, 5 },             /* add (%rsp), %rax; ret */
	{ { 0x53, 0x50, 0x48, 0x03, 0x44, 0x24, 0x10, 0x48, 0x8b, 0x53, 0x08, 0x48, 0x01, 0xd0, 0x5a, 0x5b, 0xc3 },
	  17 },                                              /* push %rbx; push %rax; add 16(%rsp), %rax; mov 8(%rbx), %rdx; ... */
	{ { 0x5a, 0x48, 0x01, 0xd0, 0xff, 0xe2 }, 6 },       /* pop %rdx; add %rdx, %rax; jmp *%rdx */
	{ { 0xc2, 0x10, 0x00 }, 3 },                         /* ret $16 */
	{ { 0x48, 0x89, 0x03, 0x50, 0x48, 0x8b, 0x53, 0x10, 0x58, 0x48, 0x89, 0x53, 0x08, 0xc3 },
	  14 },                                              /* mov %rax, (%rbx); push %rax; mov 16(%rbx), %rdx; pop %rax; mov %rdx, 8(%rbx); ret */
	{ { 0x55, 0x48, 0x89, 0xe5, 0x51, 0x48, 0x8b, 0x0e, 0x48, 0x89, 0x4d, 0xf0, 0x59, 0xc9, 0xc3 },
	  15 },                                              /* push %rbp; mov %rsp, %rbp; push %rcx; mov (%rsi), %rcx; mov %rcx, -16(%rbp); pop %rcx; leave; ret */
	{ { 0x4c, 0x8b, 0x14, 0x24, 0x41, 0x52, 0x4c, 0x03, 0x13, 0x41, 0x5a, 0xc3 },
	  12 },                                              /* mov (%rsp), %r10; push %r10; add (%rbx), %r10; pop %r10; ret */
};

static uint32_t hot_function_at(unsigned n)
{
	return (n & 1) * 0x1000 + n * HOT_FUNCTION_BYTES;
}

/* ---- an assembler ---- */

struct assembler {
	uint8_t b[16];
	unsigned n;
};

struct hot_mem {
	unsigned base, index, scale; /* index REG_NONE: none; scale 0 to 3 */
	int32_t disp;
};

static void as8(struct assembler *a, unsigned v) { a->b[a->n++] = (uint8_t)v; }

static void as32(struct assembler *a, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		as8(a, v >> i * 8 & 0xff);
}

/* Prefix (0: none), REX, opcode of one or two bytes, ModRM with memory. */
static void as_mem(struct assembler *a, unsigned prefix, bool w, unsigned opcode, unsigned reg, struct hot_mem m)
{
	unsigned x = m.index != REG_NONE && m.index >= 8, rex = w << 3 | (reg >= 8) << 2 | x << 1 | (m.base >= 8);

	if (prefix)
		as8(a, prefix);
	if (rex)
		as8(a, 0x40 | rex);
	if (opcode > 0xff)
		as8(a, opcode >> 8);
	as8(a, opcode & 0xff);
	unsigned mod = m.disp == (int8_t)m.disp ? 0x40 : 0x80;
	if (m.index != REG_NONE || (m.base & 7) == RSP) {
		as8(a, mod | (reg & 7) << 3 | 4);
		as8(a, m.scale << 6 | (m.index == REG_NONE ? 4 : m.index & 7) << 3 | (m.base & 7));
	} else {
		as8(a, mod | (reg & 7) << 3 | (m.base & 7));
	}
	if (mod == 0x40)
		as8(a, m.disp & 0xff);
	else
		as32(a, (uint32_t)m.disp);
}

static void as_reg(struct assembler *a, bool w, unsigned opcode, unsigned reg, unsigned rm)
{
	unsigned rex = w << 3 | (reg >= 8) << 2 | (rm >= 8);

	if (rex)
		as8(a, 0x40 | rex);
	if (opcode > 0xff)
		as8(a, opcode >> 8);
	as8(a, opcode & 0xff);
	as8(a, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ---- instructions ---- */

struct hot {
	struct rng *r;
	unsigned base[3], index; /* what most operands are off; the stack besides */
	uint32_t at, functions;  /* addresses: of the next instruction, of the functions */
};

static unsigned hot_register(struct hot *h)
{
	static const uint8_t any[] = { RAX, RCX, RDX, RDX, RAX, R8, R10, R10, R11, R12, R14, R15, RBP, RSI, RDI };

	return any[below(h->r, sizeof(any))];
}

/* A register that operands are not off, mostly. */
static unsigned hot_target(struct hot *h)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		unsigned reg = hot_register(h);

		if (reg != h->base[0] && reg != h->base[1] && reg != h->base[2] && reg != h->index)
			return reg;
	}
	return RAX;
}

static struct hot_mem hot_operand(struct hot *h)
{
	struct rng *r = h->r;
	struct hot_mem m = { .base = h->base[below(r, 3)], .index = REG_NONE, .disp = (int32_t)below(r, 16) * 8 - 32 };

	if (one_in(r, 4)) {
		m.base = RSP;
		m.disp = (int32_t)below(r, 8) * 8;
	} else if (one_in(r, 4)) {
		m.index = h->index;
		m.scale = one_in(r, 2) ? 3 : below(r, 4);
	}
	if (one_in(r, 12))
		m.disp += (int32_t)below(r, 8);
	return m;
}

static void hot_stack(struct hot *h, struct assembler *a)
{
	struct rng *r = h->r;
	unsigned reg = one_in(r, 3) ? hot_register(h) : hot_target(h), k = 1 + below(r, 4);

	switch (below(r, 12)) {
	case 0: case 1: case 2: case 3: case 4: /* push */
		if (reg >= 8)
			as8(a, 0x41);
		as8(a, 0x50 | (reg & 7));
		break;
	case 5: case 6: case 7: /* pop */
		reg = hot_target(h);
		if (reg >= 8)
			as8(a, 0x41);
		as8(a, 0x58 | (reg & 7));
		break;
	case 8:
		as8(a, 0x6a); /* push imm8 */
		as8(a, below(r, 256));
		break;
	case 9: /* push, pop of memory */
		if (one_in(r, 2))
			as_mem(a, 0, false, 0xff, 6, hot_operand(h));
		else
			as_mem(a, 0, false, 0x8f, 0, hot_operand(h));
		break;
	case 10:
		as_reg(a, true, 0x83, one_in(r, 2) ? 5 : 0, RSP); /* sub, add rsp, 8 * k */
		as8(a, k * 8);
		break;
	default:
		as_mem(a, 0, true, 0x8d, RSP, (struct hot_mem){ RSP, REG_NONE, 0, one_in(r, 2) ? -8 * (int)k : 8 * (int)k });
	}
}

static void hot_access(struct hot *h, struct assembler *a)
{
	static const uint16_t loads[] = { 0x8b, 0x8b, 0x8b, 0x03, 0x2b, 0x3b, 0x13, 0x1b, 0x0fb6, 0x0fb7, 0x63, 0x0f44 };
	static const uint16_t stores[] = { 0x89, 0x89, 0x89, 0x01, 0x29, 0x39, 0x11, 0x87 };
	struct rng *r = h->r;
	struct hot_mem m = hot_operand(h);

	switch (below(r, 16)) {
	case 0: case 1: case 2: case 3: case 4: case 5:
		as_mem(a, 0, !one_in(r, 5), loads[below(r, 12)], one_in(r, 12) ? hot_register(h) : hot_target(h), m);
		break;
	case 6: case 7: case 8: case 9: case 10: case 11:
		as_mem(a, 0, !one_in(r, 5), stores[below(r, 7 + one_in(r, 4))], hot_target(h), m);
		break;
	case 12:
		as_mem(a, 0, true, 0xc7, 0, m); /* mov imm32 */
		as32(a, (uint32_t)rnd(r));
		break;
	case 13:
		as_mem(a, 0xf0, true, one_in(r, 2) ? 0x0fc1 : 0x0fb1, hot_target(h), m); /* lock xadd, cmpxchg */
		break;
	case 14:
		as_mem(a, one_in(r, 3) ? 0x66 : 0, false, one_in(r, 2) ? 0x0f10 : 0x0f11, below(r, 8), m); /* movups, movupd */
		break;
	default:
		as_mem(a, 0, false, one_in(r, 2) ? 0x8a : 0x88, below(r, 8), m); /* bytes, AH to BH without REX */
	}
}

static void hot_registers(struct hot *h, struct assembler *a)
{
	static const uint16_t alu[] = { 0x01, 0x29, 0x39, 0x89, 0x89, 0x11, 0x19, 0x87 };
	struct rng *r = h->r;
	unsigned base = h->base[below(r, 3)];

	switch (below(r, 8)) {
	case 0: case 1: /* the base moves */
		as_reg(a, true, 0x83, one_in(r, 2) ? 5 : 0, base);
		as8(a, below(r, 4) * 8);
		break;
	case 2:
		as_mem(a, 0, true, 0x8d, base, (struct hot_mem){ base, REG_NONE, 0, (int32_t)below(r, 64) - 24 });
		break;
	case 3: /* inc, dec of the index */
		as_reg(a, true, 0xff, below(r, 2), h->index);
		break;
	case 4:
		as_mem(a, 0, true, 0x8d, hot_target(h), hot_operand(h)); /* lea */
		break;
	default:
		as_reg(a, !one_in(r, 4), alu[below(r, 8)], hot_register(h), hot_target(h));
	}
}

/* What needs registers of the translator's own, or its interpreter. */
static void hot_other(struct hot *h, struct assembler *a)
{
	static const uint8_t strings[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xae };
	struct rng *r = h->r;

	switch (below(r, 10)) {
	case 0: case 1:
		if (one_in(r, 2))
			as8(a, 0x48);
		as8(a, strings[below(r, sizeof(strings))]);
		break;
	case 2:
		as8(a, 0xf3);
		as8(a, strings[below(r, 4)]); /* rcx elements: few, or a fault */
		break;
	case 3:
		as8(a, 0x9c); /* pushf */
		break;
	case 4:
		as8(a, one_in(r, 4) ? 0xfc : 0xd7); /* cld, xlat */
		break;
	case 5:
		as8(a, 0xc4); /* shlx, with count in rcx */
		as8(a, 0xe2);
		as8(a, 0x80 | (~RCX & 15) << 3 | 1);
		as8(a, 0xf7);
		as8(a, 0xc0 | RDX << 3 | RAX);
		break;
	case 6:
		as8(a, 0xc9); /* leave */
		break;
	case 7:
		as_reg(a, true, 0x89, RSP, RBP);
		break;
	case 8:
		as8(a, 0x40 | 1); /* mov imm32 to r8 to r15, not the counter and not the function */
		as8(a, 0xb8 | (unsigned[]){ 0, 2, 3, 4, 6, 7 }[below(r, 6)]);
		as32(a, arena_address(r));
		break;
	default:
		as8(a, 0xb9); /* mov imm32 to rcx */
		as32(a, below(r, 24));
	}
}

static void hot_call(struct hot *h, struct assembler *a)
{
	uint32_t to = h->functions + hot_function_at(below(h->r, HOT_FUNCTIONS));

	switch (below(h->r, 6)) {
	case 0:
		as8(a, 0x41); /* mov imm32 to r9 */
		as8(a, 0xb8 | (HOT_FUNCTION & 7));
		as32(a, to);
		break;
	case 1: case 2:
		as_reg(a, false, 0xff, 2, HOT_FUNCTION); /* call r9 */
		break;
	default:
		as8(a, 0xe8);
		as32(a, to - (h->at + 5));
	}
}

static void hot_insn(struct hot *h, struct assembler *a)
{
	unsigned how = below(h->r, 100);

	a->n = 0;
	if (how < 30)
		hot_stack(h, a);
	else if (how < 68)
		hot_access(h, a);
	else if (how < 80)
		hot_registers(h, a);
	else if (how < 90)
		hot_call(h, a);
	else if (how < 95)
		hot_other(h, a);
	else { /* a branch over what follows: fixed later */
		as8(a, 0x70 | below(h->r, 16));
		as8(a, 0);
	}
}

static bool hot_append(struct program *p, const struct assembler *a)
{
	struct insn *i = &p->insn[p->count];

	if (insn_decode(i, a->b, a->n, 64) != DECODE_OK || i->len != a->n)
		return false;
	for (unsigned n = 0; n < i->operand_count; n++) /* nothing else may change how often it runs */
		if (i->operand[n].kind == OPERAND_GPR && i->operand[n].reg == HOT_COUNTER && !i->operand[n].high8)
			return false;
	p->at[p->count++] = (uint16_t)p->len;
	memcpy(p->bytes + p->len, a->b, a->n);
	p->len += a->n;
	return true;
}

/* Conditional branches go over up to three instructions. */
static void hot_branches(struct rng *r, struct program *p, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		unsigned to = n + 1 + below(r, 4);

		if (p->insn[n].id != INSN_JCC)
			continue;
		p->bytes[p->at[n] + 1] = (uint8_t)(p->at[to > count ? count : to] - p->at[n + 1]);
		insn_decode(&p->insn[n], p->bytes + p->at[n], INSN_MAX_LEN, 64);
	}
}

/* A program at `address`, whose functions are at `functions`. */
static void gen_hot_program(struct rng *r, uint32_t address, uint32_t functions, struct program *p)
{
	static const uint8_t bases[] = { RBX, RBX, RSI, RDI, RBP, R8, R10, R11, R12, R14, RCX };
	struct hot h = { .r = r, .functions = functions };
	unsigned want = 3 + below(r, one_in(r, 4) ? 12 : HOT_INSNS - 3);
	struct assembler a;

	for (unsigned n = 0; n < 3; n++)
		h.base[n] = bases[below(r, sizeof(bases))];
	do {
		h.index = bases[below(r, sizeof(bases))];
	} while (h.index == h.base[0] || h.index == h.base[1] || h.index == h.base[2]);
	memset(p, 0, sizeof(*p));
	memset(p->bytes, 0xcc, sizeof(p->bytes));
	p->bits = 64;
	p->hot_index = h.index;
	while (p->count < want) {
		h.at = address + p->len;
		hot_insn(&h, &a);
		hot_append(p, &a);
	}
	p->removable = p->count;
	p->at[p->count] = (uint16_t)p->len;
	hot_branches(r, p, p->count);
	a.n = 0;
	as_reg(&a, true, 0x83, 5, HOT_COUNTER); /* sub r13, 1; jnz to the beginning: the last two */
	as8(&a, 1);
	as8(&a, 0x0f);
	as8(&a, 0x85);
	as32(&a, 0u - (p->len + a.n + 4));
	for (unsigned at = 0; at < a.n;) {
		insn_decode(&p->insn[p->count], a.b + at, a.n - at, 64);
		p->at[p->count] = (uint16_t)(p->len + at);
		at += p->insn[p->count++].len;
	}
	memcpy(p->bytes + p->len, a.b, a.n);
	p->len += a.n;
	p->at[p->count] = (uint16_t)p->len;
}

/* Where it begins: pointers near each other, a stack between them, few rounds. */
static void gen_hot_registers(struct rng *r, const struct program *p, uint32_t functions, uint64_t *gpr)
{
	for (unsigned n = 0; n < 16; n++) {
		unsigned how = below(r, 16);

		gpr[n] = ARENA + (how < 9 ? 0x80 + below(r, 64) * 8 : how < 13 ? 0xd00 + below(r, 40) * 8 : /* across pages: */
				  how < 14 ? 0xf80 + below(r, 16) * 8 : how < 15 ? 0x1f80 + below(r, 16) * 8 : 0x2f80 + below(r, 16) * 8);
	}
	gpr[p->hot_index] = below(r, 32);
	gpr[RAX] = rnd(r);
	gpr[RDX] = gen_register(r);
	if (p->hot_index != RCX && one_in(r, 2))
		gpr[RCX] = below(r, 24);
	gpr[RSP] = ARENA + (one_in(r, 6) ? 0x1000 : 0x800) + below(r, 64) * 8;
	gpr[HOT_FUNCTION] = functions + hot_function_at(below(r, HOT_FUNCTIONS));
	gpr[HOT_COUNTER] = 2 + below(r, HOT_ROUNDS - 1);
}

#endif
