/*
 * String instructions and REP. Registers are up to date after every element, so a fault or an
 * interrupt in the middle needs no undoing: RIP stays on the instruction until the last element.
 * A REP gives up its turn after a while (X_JUMP with RIP unchanged), so interrupts are prompt.
 * SDM 2 "REP"; SDM 1 7.3.9. On the vCPU's thread.
 */
#include "engine/interp/interp.h"

#define ELEMENTS_A_TURN 256

struct string {
	unsigned size, addrsize, source;
	int64_t step;
	uint64_t mask;
};

typedef enum x element_fn(struct cpu *cpu, const struct string *s);
/* Does as many of `count` elements at once as it can, perhaps none; returns how many. */
typedef uint64_t bulk_fn(struct cpu *cpu, const struct string *s, uint64_t count);

static void string_init(const struct cpu *cpu, const struct insn *insn, struct string *s)
{
	s->size = insn->opcode & 1 ? insn->opsize : 1;
	if (s->size == 8 && (insn->id == INSN_INS || insn->id == INSN_OUTS))
		s->size = 4;
	s->addrsize = insn->addrsize;
	s->mask = size_mask(s->addrsize);
	s->source = insn->seg_prefix == REG_NONE ? DS : insn->seg_prefix;
	s->step = cpu->rflags & RFLAGS_DF ? -(int64_t)s->size : (int64_t)s->size;
}

static void advance(struct cpu *cpu, const struct string *s, unsigned reg, uint64_t elements)
{
	reg_write(cpu, reg, s->addrsize, cpu->gpr[reg] + (uint64_t)s->step * elements);
}

static inline enum x source_load(struct cpu *cpu, const struct string *s, uint64_t *v)
{
	return mem_load(cpu, s->source, cpu->gpr[RSI] & s->mask, s->size, v);
}

/* REPE rather than REPNE: of several such prefixes the last counts. */
static bool is_repe(const struct insn *insn)
{
	bool repe = insn->rep;
	if (insn->rep && insn->repne)
		for (unsigned i = 0; i < insn->opcode_at; i++)
			if (insn->bytes[i] == 0xf2 || insn->bytes[i] == 0xf3)
				repe = insn->bytes[i] == 0xf3;
	return repe;
}

/* REP, REPE, REPNE around one element. `compares`: CMPS and SCAS look at ZF. */
static enum x string_run(struct cpu *cpu, const struct insn *insn, element_fn *one, bulk_fn *bulk, bool compares)
{
	struct string s;
	string_init(cpu, insn, &s);
	if (!insn->rep && !insn->repne)
		return one(cpu, &s);
	uint64_t count = cpu->gpr[RCX] & s.mask;
	if (!count)
		return X_OK;
	bool single = (cpu->rflags & RFLAGS_TF) || debug_armed(cpu);
	if (single)
		bulk = NULL;
	for (unsigned turn = single ? 1 : ELEMENTS_A_TURN; ; turn--) {
		uint64_t done = bulk ? bulk(cpu, &s, count) : 0;
		if (!done) {
			TRY(one(cpu, &s));
			cpu->io.count = cpu->io.next = 0; /* this element is done for good */
			done = 1;
		}
		count -= done;
		reg_write(cpu, RCX, s.addrsize, count);
		if (!count)
			return X_OK;
		if (compares && !(cpu->rflags & EF_ZF) == is_repe(insn))
			return X_OK;
		if (turn == 1 || __atomic_load_n(&cpu->request, __ATOMIC_RELAXED))
			return X_JUMP;
	}
}

/* Elements from `offset` on, in the direction that DF says, that lie in one page, at most `count`; *linear is
 * the address of the lowest. 0: do it one by one. */
static uint64_t run_length(struct cpu *cpu, const struct string *s, unsigned seg, uint64_t offset, uint64_t count,
			   unsigned access, uint64_t *linear)
{
	uint64_t in_page, n, moved;

	if (access_watched(cpu))
		return 0;
	if (cpu->mode == MODE_LONG)
		flat_linear(cpu, seg, offset, linear);
	else if (mem_linear(cpu, seg, offset, s->size, access, linear) != X_OK)
		return 0;
	in_page = *linear & (PAGE_SIZE - 1);
	if (in_page + s->size > PAGE_SIZE)
		return 0;
	n = s->step < 0 ? in_page / s->size + 1 : (PAGE_SIZE - in_page) / s->size;
	if (n > count)
		n = count;
	moved = (n - 1) * s->size;
	if (s->step < 0 ? moved > offset : moved + s->size - 1 > s->mask - offset)
		return 0;
	if (s->step < 0)
		offset -= moved;
	if (cpu->mode == MODE_LONG)
		*linear -= s->step < 0 ? moved : 0;
	else if (mem_linear(cpu, seg, offset, n * s->size, access, linear) != X_OK)
		return 0;
	return n;
}

static enum x movs_one(struct cpu *cpu, const struct string *s)
{
	uint64_t v;
	TRY(source_load(cpu, s, &v));
	TRY(mem_store(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, v));
	advance(cpu, s, RSI, 1);
	advance(cpu, s, RDI, 1);
	return X_OK;
}

/* From the highest element, at src and dst, down. */
static void move_down(void *dst, const void *src, unsigned size, uint64_t left)
{
	switch (size) {
	case 1: asm volatile("std; rep movsb; cld" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	case 2: asm volatile("std; rep movsw; cld" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	case 4: asm volatile("std; rep movsl; cld" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	default: asm volatile("std; rep movsq; cld" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	}
}

static void move_up(void *dst, const void *src, unsigned size, uint64_t left)
{
	switch (size) {
	case 1: asm volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	case 2: asm volatile("rep movsw" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	case 4: asm volatile("rep movsl" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	default: asm volatile("rep movsq" : "+S"(src), "+D"(dst), "+c"(left) : : "memory"); break;
	}
}

static uint64_t movs_bulk(struct cpu *cpu, const struct string *s, uint64_t count)
{
	uint64_t from, to;
	uint64_t all = run_length(cpu, s, s->source, cpu->gpr[RSI] & s->mask, count, ACCESS_READ, &from);
	uint64_t n = all ? run_length(cpu, s, ES, cpu->gpr[RDI] & s->mask, all, ACCESS_WRITE, &to) : 0;
	if (n < 2)
		return 0;
	if (s->step < 0)
		from += (all - n) * s->size;
	const void *src = tlb_hit(cpu, TLB_READ, from, n * s->size);
	void *dst = tlb_hit(cpu, TLB_WRITE, to, n * s->size);
	if (!src || !dst)
		return 0;
	uint64_t highest = (n - 1) * s->size;
	/* element by element, also when they overlap */
	if (s->step < 0)
		move_down((uint8_t *)dst + highest, (const uint8_t *)src + highest, s->size, n);
	else
		move_up(dst, src, s->size, n);
	advance(cpu, s, RSI, n);
	advance(cpu, s, RDI, n);
	return n;
}

enum x string_movs(struct cpu *cpu, const struct insn *insn)
{
	return string_run(cpu, insn, movs_one, movs_bulk, false);
}

static enum x stos_one(struct cpu *cpu, const struct string *s)
{
	TRY(mem_store(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, cpu->gpr[RAX]));
	advance(cpu, s, RDI, 1);
	return X_OK;
}

static uint64_t stos_bulk(struct cpu *cpu, const struct string *s, uint64_t count)
{
	uint64_t to, n = run_length(cpu, s, ES, cpu->gpr[RDI] & s->mask, count, ACCESS_WRITE, &to);
	if (n < 2)
		return 0;
	void *dst = tlb_hit(cpu, TLB_WRITE, to, n * s->size);
	if (!dst)
		return 0;
	uint64_t left = n, v = cpu->gpr[RAX];
	switch (s->size) {
	case 1: asm volatile("rep stosb" : "+D"(dst), "+c"(left) : "a"(v) : "memory"); break;
	case 2: asm volatile("rep stosw" : "+D"(dst), "+c"(left) : "a"(v) : "memory"); break;
	case 4: asm volatile("rep stosl" : "+D"(dst), "+c"(left) : "a"(v) : "memory"); break;
	default: asm volatile("rep stosq" : "+D"(dst), "+c"(left) : "a"(v) : "memory"); break;
	}
	advance(cpu, s, RDI, n);
	return n;
}

enum x string_stos(struct cpu *cpu, const struct insn *insn)
{
	return string_run(cpu, insn, stos_one, stos_bulk, false);
}

static enum x lods_one(struct cpu *cpu, const struct string *s)
{
	uint64_t v;
	TRY(source_load(cpu, s, &v));
	reg_write(cpu, RAX, s->size, v);
	advance(cpu, s, RSI, 1);
	return X_OK;
}

enum x string_lods(struct cpu *cpu, const struct insn *insn)
{
	return string_run(cpu, insn, lods_one, NULL, false);
}

static enum x cmps_one(struct cpu *cpu, const struct string *s)
{
	uint64_t a, b;
	TRY(source_load(cpu, s, &a));
	TRY(mem_load(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, &b));
	cpu->rflags = alu_flags_cmp(a, b, s->size, cpu->rflags);
	advance(cpu, s, RSI, 1);
	advance(cpu, s, RDI, 1);
	return X_OK;
}

enum x string_cmps(struct cpu *cpu, const struct insn *insn)
{
	return string_run(cpu, insn, cmps_one, NULL, true);
}

static enum x scas_one(struct cpu *cpu, const struct string *s)
{
	uint64_t v;
	TRY(mem_load(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, &v));
	cpu->rflags = alu_flags_cmp(cpu->gpr[RAX], v, s->size, cpu->rflags);
	advance(cpu, s, RDI, 1);
	return X_OK;
}

enum x string_scas(struct cpu *cpu, const struct insn *insn)
{
	return string_run(cpu, insn, scas_one, NULL, true);
}

/* The port is read only once the store cannot fault. */
static enum x ins_one(struct cpu *cpu, const struct string *s)
{
	uint16_t port = (uint16_t)cpu->gpr[RDX];
	uint64_t linear;
	uint32_t v;
	TRY(mem_linear(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, ACCESS_WRITE, &linear));
	TRY(mmu_probe(cpu, linear, s->size, MMU_WRITE));
	TRY(mmu_port_in(cpu, port, s->size, &v));
	TRY(mem_store(cpu, ES, cpu->gpr[RDI] & s->mask, s->size, v));
	advance(cpu, s, RDI, 1);
	return X_OK;
}

static enum x outs_one(struct cpu *cpu, const struct string *s)
{
	uint16_t port = (uint16_t)cpu->gpr[RDX];
	uint64_t v;
	TRY(source_load(cpu, s, &v));
	TRY(mmu_port_out(cpu, port, s->size, (uint32_t)v));
	advance(cpu, s, RSI, 1);
	return X_OK;
}

enum x string_ins(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = !(insn->opcode & 1) ? 1 : insn->opsize == 2 ? 2 : 4;
	TRY(transfer_io_permission(cpu, (uint16_t)cpu->gpr[RDX], size));
	return string_run(cpu, insn, ins_one, NULL, false);
}

enum x string_outs(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = !(insn->opcode & 1) ? 1 : insn->opsize == 2 ? 2 : 4;
	TRY(transfer_io_permission(cpu, (uint16_t)cpu->gpr[RDX], size));
	return string_run(cpu, insn, outs_one, NULL, false);
}

static enum x port_operand(struct cpu *cpu, const struct operand *op, uint64_t imm, unsigned size, uint16_t *port)
{
	*port = op->kind == OPERAND_IMM ? (uint8_t)imm : (uint16_t)cpu->gpr[RDX];
	TRY(transfer_io_permission(cpu, *port, size));
	return X_OK;
}

enum x string_in(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->operand[0].size;
	uint16_t port;
	uint32_t v;
	TRY(port_operand(cpu, &insn->operand[1], (uint64_t)insn->imm, size, &port));
	TRY(mmu_port_in(cpu, port, size, &v));
	reg_write(cpu, RAX, size, v);
	return X_OK;
}

enum x string_out(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->operand[1].size;
	uint16_t port;
	TRY(port_operand(cpu, &insn->operand[0], (uint64_t)insn->imm, size, &port));
	TRY(mmu_port_out(cpu, port, size, (uint32_t)reg_read(cpu, RAX, size)));
	return X_OK;
}
