/*
 * Instructions that are copied: registers renamed, the memory operand looked up in the TLB, everything
 * else as the guest has it. The fields of the encoding and what they name come from the decoder.
 * Sources: SDM 2 chapter 2 (REX, VEX, EVEX).
 */
#include "cpu/cpuid.h"
#include "engine/bt/bt.h"

#define RCX_BIT (1u << RCX)

enum { OP_MOVSXD = 0x63 };

struct copy {
	const struct insn *insn;
	bool memory;          /* there is a memory operand, at `mem` */
	struct host_mem mem;
	host_reg reg, rm, vvvv, opcode; /* numbers for the fields; 0xff: as the guest has them */
	bool rex;             /* a byte register that needs one */
};

/* ---- encoding ---- */

static bool is_integer(const struct insn *i)
{
	return !(insn_desc(i)->flags & (INSN_X87 | INSN_MMX | INSN_SSE | INSN_AVX | INSN_AVX512));
}

static bool wants_66(const struct insn *i)
{
	if (insn_desc(i)->flags & INSN_X87)
		return false;
	if (i->encoding == ENCODING_LEGACY && is_integer(i) && i->id != INSN_ADCX)
		return i->opsize == 2;
	return i->opsize_prefix;
}

/* The F2 or F3 that counts: the last one. */
static uint8_t repeat_prefix(const struct insn *i)
{
	uint8_t last = 0;

	if (i->rep || i->repne)
		for (unsigned n = 0; n < i->opcode_at; n++)
			if (i->bytes[n] == 0xf2 || i->bytes[n] == 0xf3)
				last = i->bytes[n];
	return last;
}

/* REX bits RXB for the host, from the fields that are renamed and those that are not. */
static unsigned rex_bits(const struct copy *c)
{
	const struct insn *i = c->insn;
	unsigned rex = i->rex & 4;

	if (c->reg != 0xff)
		rex = (unsigned)(c->reg >> 3) << 2;
	if (c->memory)
		return rex | host_mem_rex(&c->mem);
	if (c->rm != 0xff)
		return rex | c->rm >> 3;
	if (c->opcode != 0xff)
		return rex | c->opcode >> 3;
	return rex | (i->rex & 3);
}

static void emit_legacy_prefixes(struct emitter *e, const struct copy *c)
{
	static const uint8_t escapes[][2] = { { 0, 0 }, { 0x0f, 0 }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
	const struct insn *i = c->insn;
	uint8_t repeat = repeat_prefix(i);
	unsigned rex = rex_bits(c) | (i->mode == 64 ? i->rex & 8 : 0);

	if (wants_66(i))
		emit8(e, 0x66);
	if (repeat)
		emit8(e, repeat);
	if (rex || c->rex)
		emit8(e, 0x40 | rex);
	for (unsigned n = 0; n < 2 && escapes[i->map & 3][n]; n++)
		emit8(e, escapes[i->map & 3][n]);
}

static unsigned vvvv_field(const struct copy *c)
{
	unsigned v = c->vvvv != 0xff ? c->vvvv : c->insn->mode == 64 ? c->insn->vvvv : c->insn->vvvv & 7;

	return (~v & 15) << 3;
}

static void emit_vex_prefixes(struct emitter *e, const struct copy *c)
{
	const struct insn *i = c->insn;

	emit8(e, 0xc4);
	emit8(e, (~rex_bits(c) & 7) << 5 | i->map);
	emit8(e, (i->rex & 8u) << 4 | vvvv_field(c) | (i->bytes[i->opcode_at - 1] & 7));
}

static void emit_evex_prefixes(struct emitter *e, const struct copy *c)
{
	const uint8_t *payload = c->insn->bytes + c->insn->opcode_at - 3;
	unsigned p0 = payload[0];

	p0 = (p0 & 0x1f) | (~rex_bits(c) & 7) << 5;
	emit8(e, 0x62);
	emit8(e, p0);
	emit8(e, (payload[1] & 0x87) | vvvv_field(c));
	emit8(e, payload[2]);
}

static void emit_copy(struct emitter *e, const struct copy *c)
{
	const struct insn *i = c->insn;
	unsigned reg = c->reg != 0xff ? c->reg : i->modrm >> 3 & 7;
	const host_reg changed[] = { c->reg, c->rm, c->vvvv, c->opcode }; /* perhaps */

	for (unsigned n = 0; n < sizeof(changed); n++)
		if (changed[n] != 0xff)
			emit_changes(e, changed[n]);
	if (c->memory && c->mem.gs)
		emit8(e, 0x65);
	if (i->lock)
		emit8(e, 0xf0);
	if (i->encoding == ENCODING_VEX)
		emit_vex_prefixes(e, c);
	else if (i->encoding == ENCODING_EVEX)
		emit_evex_prefixes(e, c);
	else
		emit_legacy_prefixes(e, c);
	emit8(e, c->opcode != 0xff ? (i->opcode & ~7u) | (c->opcode & 7) : i->opcode);
	if (i->modrm_at) {
		struct host_mem mem = c->mem;

		mem.disp32 = i->encoding == ENCODING_EVEX;
		if (c->memory)
			emit_modrm_mem(e, reg, &mem);
		else
			emit_modrm_reg(e, reg, c->rm != 0xff ? c->rm : i->modrm & 7);
	}
	for (unsigned n = 0; n < i->imm_size; n++)
		emit8(e, i->bytes[i->imm_at + n]);
}

/* Outside 64-bit mode some bits of VEX and EVEX mean nothing; on the host they would. */
static bool odd_outside_64(const struct insn *i)
{
	if (i->mode == 64 || i->encoding == ENCODING_LEGACY)
		return false;
	if ((i->rex & 8) && (insn_desc(i)->gpr_read | insn_desc(i)->gpr_written))
		return true; /* the lengths of VPCMPESTRI */
	for (unsigned n = 0; n < i->operand_count; n++) {
		const struct operand *o = &i->operand[n];

		if ((i->rex & 8) && (o->kind == OPERAND_GPR || (o->kind == OPERAND_MEM && o->size == 4)))
			return true; /* VEX.W would make eight bytes of four */
		if (i->operand[n].at == OPERAND_AT_IS4 && (i->imm & 0x80))
			return true;
	}
	return i->encoding == ENCODING_EVEX;
}

/* ---- registers ---- */

/* A guest register that stays in memory can be the operand itself: [gs + its place]. Only where the
 * encoding has a memory form that does the same, and a register write would not clear the upper half. */
static bool slot_operand(const struct insn *i, const struct operand *o)
{
	if (o->kind != OPERAND_GPR || o->at != OPERAND_AT_RM || host_of[o->reg] != HOST_NONE || i->mem_index_of >= 0)
		return false;
	if ((o->access & ACCESS_WRITE) && o->size == 4)
		return false;
	switch (i->id) {
	case INSN_ADD: case INSN_OR: case INSN_ADC: case INSN_SBB: case INSN_AND: case INSN_SUB: case INSN_XOR:
	case INSN_CMP: case INSN_TEST: case INSN_MOV: case INSN_MOVZX: case INSN_MOVSX: case INSN_MOVSXD:
	case INSN_INC: case INSN_DEC: case INSN_NEG: case INSN_NOT: case INSN_IMUL: case INSN_MUL: case INSN_DIV:
	case INSN_IDIV: case INSN_SHL: case INSN_SHR: case INSN_SAR: case INSN_ROL: case INSN_ROR: case INSN_RCL:
	case INSN_RCR: case INSN_CMOVCC: case INSN_SETCC:
		return true;
	default:
		return false;
	}
}

struct spill {
	uint8_t guest;
	host_reg host;
	bool load, store;
};

struct registers {
	struct spill spill[4];
	unsigned spills;
	bool low_only; /* AH, CH, DH, BH: no REX, hence none of r8 to r15 */
	bool rcx, rcx_written; /* the guest's RCX in the host's */
};

static bool collect(const struct insn *i, struct registers *r)
{
	const struct insn_desc *d = insn_desc(i);

	*r = (struct registers){ 0 };
	for (unsigned n = 0; n < i->operand_count; n++)
		r->low_only |= i->operand[n].kind == OPERAND_GPR && i->operand[n].high8;
	r->rcx = (d->gpr_read | d->gpr_written) & RCX_BIT;
	r->rcx_written = d->gpr_written & RCX_BIT;
	for (unsigned n = 0; n < i->operand_count; n++) {
		const struct operand *o = &i->operand[n];

		if (o->kind != OPERAND_GPR)
			continue;
		if (o->at == OPERAND_AT_NONE || r->low_only) {
			if (o->reg == RCX) {
				r->rcx = true;
				r->rcx_written |= o->access & ACCESS_WRITE;
			} else if (r->low_only && host_of[o->reg] >= 8) {
				return false;
			}
			continue;
		}
		if (host_of[o->reg] != HOST_NONE || slot_operand(i, o))
			continue;
		struct spill *s = r->spill, *end = r->spill + r->spills;
		while (s < end && s->guest != o->reg)
			s++;
		if (s == end) {
			if (r->spills == 3)
				return false;
			r->spills++;
			*s = (struct spill){ .guest = o->reg };
		}
		if ((o->access & (ACCESS_READ | ACCESS_CONDITIONAL)) || o->size < 4)
			s->load = true;
		s->store |= (o->access & ACCESS_WRITE) != 0;
	}
	return true;
}

bool ident_leaves_rcx(const struct insn *i)
{
	bool bits = i->id == INSN_BT || i->id == INSN_BTS || i->id == INSN_BTR || i->id == INSN_BTC;
	struct registers r;

	return collect(i, &r) && !r.rcx && !r.low_only && r.spills <= 1 &&
	       !(bits && i->mem_index_of >= 0 && i->operand[1].kind == OPERAND_GPR);
}

bool ident_leaves_r10(const struct insn *i)
{
	struct registers r;

	return ident_leaves_rcx(i) && collect(i, &r) && !r.spills;
}

static host_reg host_for(const struct registers *r, const struct operand *o)
{
	if (r->low_only)
		return o->high8 ? o->reg + 4 : o->reg;
	for (unsigned n = 0; n < r->spills; n++)
		if (r->spill[n].guest == o->reg)
			return r->spill[n].host;
	return host_of[o->reg];
}

/* Gives each spilled register a scratch register. */
static bool assign(struct registers *r, const host_reg *scratch, unsigned count)
{
	if (r->spills > count)
		return false;
	for (unsigned n = 0; n < r->spills; n++)
		r->spill[n].host = scratch[n];
	return true;
}

static bool place_memory(struct translator *t, const struct insn *i, struct registers *r, struct copy *c)
{
	static const host_reg after_lea[] = { R11, RCX };
	const struct operand *o = &i->operand[i->mem_index_of];
	bool write = o->access & ACCESS_WRITE;

	if (o->size == 0 || o->size > 64 || (r->low_only && r->rcx))
		return false;
	if (!access_operand(t, i, write ? TLB_WRITE : TLB_READ, o->size, &c->mem))
		return false;
	c->memory = true;
	if (r->low_only) {
		emit_lea(t->e, RCX, c->mem);
		c->mem = mem_at(RCX, 0);
		return r->spills == 0;
	}
	if (r->rcx || r->spills > 1) {
		emit_lea(t->e, R10, c->mem);
		c->mem = mem_at(R10, 0);
	}
	return assign(r, after_lea, r->rcx ? 1 : 2);
}

/* ---- BT, BTS, BTR, BTC with a bit offset in a register: it reaches beyond the operand ---- */

static bool bit_string(struct translator *t, const struct insn *i)
{
	unsigned size = i->operand[0].size, log = size == 8 ? 6 : size == 4 ? 5 : 4;
	host_reg bit = host_of[i->operand[1].reg];
	struct emitter *e = t->e;
	struct host_mem word = { .base = R10, .index = R11, .scale = (uint8_t)size };

	if (size == 2 || (i->mode == 64 ? i->addrsize != 8 : i->addrsize != 4) || !translate_address(t, i, 0))
		return false;
	emit_mov_imm(e, RCX, log);
	if (bit == HOST_NONE)
		emit_load(e, R11, mem_gs(G(gpr) + i->operand[1].reg * 8));
	if (size == 4) { /* movsxd r11, r32 */
		emit8(e, 0x4c | (bit == HOST_NONE || bit >= 8));
		emit8(e, OP_MOVSXD);
		emit_modrm_reg(e, R11, bit == HOST_NONE ? R11 : bit);
		emit_shift_reg(e, SHIFT_SARX, R11, R11, RCX);
	} else {
		emit_shift_reg(e, SHIFT_SARX, R11, bit == HOST_NONE ? R11 : bit, RCX);
	}
	if (i->mode == 64)
		emit_lea(e, R10, word);
	else
		emit_lea32(e, R10, word);
	emit_lea(e, R10, translate_lookup(t, i->operand[0].access & ACCESS_WRITE ? TLB_WRITE : TLB_READ, size, false));
	emit_mov_imm(e, R11, size * 8 - 1);
	if (bit == HOST_NONE)
		emit_load(e, RCX, mem_gs(G(gpr) + i->operand[1].reg * 8));
	emit_pext_reg(e, R11, bit == HOST_NONE ? RCX : bit, R11);
	struct copy c = { .insn = i, .memory = true, .mem = mem_at(R10, 0), .reg = R11, .rm = 0xff, .vvvv = 0xff,
			  .opcode = 0xff };
	emit_copy(e, &c);
	return true;
}

/* ---- all together ---- */

bool ident_emit(struct translator *t, const struct insn *i)
{
	static const host_reg all_scratch[] = { R10, R11, RCX };
	struct copy c = { .insn = i, .reg = 0xff, .rm = 0xff, .vvvv = 0xff, .opcode = 0xff };
	struct emitter *e = t->e;
	struct registers r;

	if (odd_outside_64(i) || i->encoding > ENCODING_EVEX || !collect(i, &r))
		return false;
	if (i->mem_index_of >= 0) {
		if (i->operand[i->mem_index_of].access == ACCESS_NONE)
			return true; /* hints */
		if (i->operand_count > 1 && i->operand[1].kind == OPERAND_GPR &&
		    (i->id == INSN_BT || i->id == INSN_BTS || i->id == INSN_BTR || i->id == INSN_BTC))
			return bit_string(t, i);
		if (!place_memory(t, i, &r, &c))
			return false;
	} else if (!assign(&r, all_scratch, r.rcx ? 2 : 3)) {
		return false;
	}
	for (unsigned n = 0; n < r.spills; n++)
		if (r.spill[n].load)
			emit_load(e, r.spill[n].host, mem_gs(G(gpr) + r.spill[n].guest * 8));
	if (r.rcx)
		emit_mov(e, 8, RCX, HOST_OF_RCX);
	for (unsigned n = 0; n < i->operand_count; n++) {
		const struct operand *o = &i->operand[n];

		if (o->kind != OPERAND_GPR || o->at == OPERAND_AT_NONE)
			continue;
		if (slot_operand(i, o)) {
			c.memory = true;
			c.mem = mem_gs(G(gpr) + o->reg * 8);
			continue;
		}
		host_reg h = host_for(&r, o);
		if (o->size == 1 && !o->high8 && h >= 4)
			c.rex = true;
		if (o->at == OPERAND_AT_REG)
			c.reg = h;
		else if (o->at == OPERAND_AT_RM)
			c.rm = h;
		else if (o->at == OPERAND_AT_VVVV)
			c.vvvv = h;
		else if (o->at == OPERAND_AT_OPCODE)
			c.opcode = h;
	}
	emit_copy(e, &c);
	for (unsigned n = 0; n < r.spills; n++)
		if (r.spill[n].store)
			emit_store(e, r.spill[n].host, mem_gs(G(gpr) + r.spill[n].guest * 8));
	if (r.rcx_written)
		emit_mov(e, 8, HOST_OF_RCX, RCX);
	return true;
}
