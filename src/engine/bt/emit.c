/*
 * The emitter's instruction forms, see emit.h.
 */
#include "engine/bt/emit.h"

/* ---- operands ---- */

unsigned host_mem_rex(const struct host_mem *m)
{
	unsigned x = m->index != REG_NONE && m->index >= 8, b = m->base != REG_NONE && m->base >= 8;

	return x << 1 | b;
}

static unsigned scale_bits(unsigned scale) { return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0; }

void emit_modrm_mem(struct emitter *e, unsigned reg, const struct host_mem *m)
{
	unsigned index = m->index == REG_NONE ? 4 : m->index & 7, mod;

	reg = (reg & 7) << 3;
	if (m->cache) { /* relative to the instruction's end */
		emit8(e, reg | 5);
		emit32(e, (uint32_t)m->disp - (emit_offset(e) + 4));
		return;
	}
	if (m->base == REG_NONE) { /* no base: SIB with base 5, disp32 */
		emit8(e, reg | 4);
		emit8(e, scale_bits(m->scale) << 6 | index << 3 | 5);
		emit32(e, (uint32_t)m->disp);
		return;
	}
	if (m->disp == 0 && (m->base & 7) != 5)
		mod = 0;
	else
		mod = m->disp == (int8_t)m->disp && !m->disp32 ? 1 : 2;
	if (m->index == REG_NONE && (m->base & 7) != 4) {
		emit8(e, mod << 6 | reg | (m->base & 7));
	} else {
		emit8(e, mod << 6 | reg | 4);
		emit8(e, scale_bits(m->scale) << 6 | index << 3 | (m->base & 7));
	}
	if (mod == 1)
		emit8(e, (uint8_t)m->disp);
	else if (mod == 2)
		emit32(e, (uint32_t)m->disp);
}

static void emit_prefixes(struct emitter *e, unsigned size, host_reg reg, const struct host_mem *m, bool byte)
{
	unsigned rex = (size == 8) << 3 | (reg >= 8) << 2 | host_mem_rex(m);

	if (m->gs)
		emit8(e, 0x65);
	if (size == 2)
		emit8(e, 0x66);
	if (rex || (byte && reg >= 4))
		emit8(e, 0x40 | rex);
}

void emit_op_mem(struct emitter *e, unsigned op, unsigned size, host_reg reg, struct host_mem m)
{
	if (op != OP_STORE && op != OP_STORE8)
		emit_changes(e, reg);
	emit_prefixes(e, size, reg, &m, op == OP_STORE8);
	emit8(e, op);
	emit_modrm_mem(e, reg, &m);
}

static void emit_load_zero_extended(struct emitter *e, unsigned op, host_reg reg, const struct host_mem *m)
{
	emit_changes(e, reg);
	emit_prefixes(e, 4, reg, m, false);
	emit8(e, 0x0f);
	emit8(e, op);
	emit_modrm_mem(e, reg, m);
}

void emit_load_byte(struct emitter *e, host_reg reg, struct host_mem m) { emit_load_zero_extended(e, 0xb6, reg, &m); }

void emit_load_word(struct emitter *e, host_reg reg, struct host_mem m) { emit_load_zero_extended(e, 0xb7, reg, &m); }

void emit_store_imm(struct emitter *e, unsigned size, struct host_mem m, int32_t imm)
{
	emit_prefixes(e, size, 0, &m, false);
	emit8(e, size == 1 ? 0xc6 : 0xc7);
	emit_modrm_mem(e, 0, &m);
	if (size == 1) {
		emit8(e, (uint8_t)imm);
	} else if (size == 2) {
		emit8(e, (uint8_t)imm);
		emit8(e, (uint8_t)(imm >> 8));
	} else {
		emit32(e, (uint32_t)imm);
	}
}

/* ---- between registers ---- */

static void emit_rex_rr(struct emitter *e, unsigned size, host_reg reg, host_reg rm)
{
	unsigned rex = (size == 8) << 3 | (reg >= 8) << 2 | rm >> 3;

	if (rex)
		emit8(e, 0x40 | rex);
}

void emit_mov(struct emitter *e, unsigned size, host_reg to, host_reg from)
{
	emit_changes(e, to);
	emit_rex_rr(e, size, to, from);
	emit8(e, OP_LOAD);
	emit_modrm_reg(e, to, from);
}

void emit_movzx8(struct emitter *e, host_reg to, host_reg from)
{
	emit_changes(e, to);
	emit8(e, 0x40 | (to >> 3) << 2 | from >> 3); /* any REX: no AH to DH */
	emit8(e, 0x0f);
	emit8(e, 0xb6);
	emit_modrm_reg(e, to, from);
}

void emit_movzx16(struct emitter *e, host_reg to, host_reg from)
{
	emit_changes(e, to);
	emit_rex_rr(e, 4, to, from);
	emit8(e, 0x0f);
	emit8(e, 0xb7);
	emit_modrm_reg(e, to, from);
}

void emit_landing_sum(struct emitter *e, unsigned code_page, int32_t disp)
{
	emit_load(e, RCX, mem_gs(G(branch_cache[0].page[0].minus_linear) + (int32_t)(code_page * sizeof(struct code_page))));
	emit_changes(e, RCX);
	emit8(e, 0x4a); /* lea rcx, [rcx+r10+disp32] */
	emit8(e, OP_LEA);
	emit8(e, 0x8c);
	emit8(e, 0x11);
	emit32(e, (uint32_t)disp);
}

uint32_t emit_lea_rip(struct emitter *e, host_reg to)
{
	emit_changes(e, to);
	emit8(e, 0x48 | (to >> 3) << 2);
	emit8(e, OP_LEA);
	emit8(e, 5 | (to & 7) << 3);
	emit32(e, 0);
	return emit_offset(e) - 4;
}

void emit_mov_imm(struct emitter *e, host_reg reg, uint64_t imm)
{
	emit_changes(e, reg);
	if (imm == (uint32_t)imm) {
		emit_rex_rr(e, 4, 0, reg);
		emit8(e, 0xb8 | (reg & 7));
		emit32(e, (uint32_t)imm);
	} else if (imm == (uint64_t)(int32_t)imm) {
		emit_rex_rr(e, 8, 0, reg);
		emit8(e, 0xc7);
		emit_modrm_reg(e, 0, reg);
		emit32(e, (uint32_t)imm);
	} else {
		emit_mov_imm64(e, reg, imm);
	}
}

void emit_mov_imm64(struct emitter *e, host_reg reg, uint64_t imm)
{
	emit_changes(e, reg);
	emit_rex_rr(e, 8, 0, reg);
	emit8(e, 0xb8 | (reg & 7));
	emit64(e, imm);
}

void emit_not(struct emitter *e, host_reg reg)
{
	emit_changes(e, reg);
	emit_rex_rr(e, 8, 0, reg);
	emit8(e, 0xf7);
	emit_modrm_reg(e, 2, reg);
}

/* ---- BMI2 ---- */

/* A three-byte VEX prefix, W1 or W0 by `size`, L0, map 0F38 or 0F3A; reg is what the instruction changes. */
static void emit_vex_size(struct emitter *e, unsigned size, unsigned map, unsigned pp, host_reg reg, host_reg vvvv,
			  unsigned rex_xb)
{
	emit_changes(e, reg);
	emit8(e, 0xc4);
	emit8(e, (reg < 8) << 7 | (~rex_xb & 3) << 5 | map);
	emit8(e, (size == 8) << 7 | (~vvvv & 15) << 3 | pp);
}

static void emit_vex(struct emitter *e, unsigned map, unsigned pp, host_reg reg, host_reg vvvv, unsigned rex_xb)
{
	emit_vex_size(e, 8, map, pp, reg, vvvv, rex_xb);
}

static void emit_bits(struct emitter *e, unsigned pp, host_reg to, host_reg from, struct host_mem mask)
{
	if (mask.gs)
		emit8(e, 0x65);
	emit_vex(e, 2, pp, to, from, host_mem_rex(&mask));
	emit8(e, 0xf5);
	emit_modrm_mem(e, to, &mask);
}

void emit_pext(struct emitter *e, host_reg to, host_reg from, struct host_mem mask) { emit_bits(e, 2, to, from, mask); }

void emit_pdep(struct emitter *e, host_reg to, host_reg from, struct host_mem mask) { emit_bits(e, 3, to, from, mask); }

void emit_pext_reg(struct emitter *e, host_reg to, host_reg from, host_reg mask)
{
	emit_vex(e, 2, 2, to, from, mask >> 3);
	emit8(e, 0xf5);
	emit_modrm_reg(e, to, mask);
}

void emit_pdep_reg(struct emitter *e, host_reg to, host_reg from, host_reg mask)
{
	emit_vex(e, 2, 3, to, from, mask >> 3);
	emit8(e, 0xf5);
	emit_modrm_reg(e, to, mask);
}

void emit_rorx(struct emitter *e, host_reg to, host_reg from, unsigned count)
{
	emit_vex(e, 3, 3, to, 0, from >> 3);
	emit8(e, 0xf0);
	emit_modrm_reg(e, to, from);
	emit8(e, count);
}

void emit_shift_reg(struct emitter *e, enum shift shift, host_reg to, host_reg from, host_reg count)
{
	emit_vex(e, 2, shift, to, count, from >> 3);
	emit8(e, 0xf7);
	emit_modrm_reg(e, to, from);
}

void emit_shift_reg32(struct emitter *e, enum shift shift, host_reg to, host_reg from, host_reg count)
{
	emit_vex_size(e, 4, 2, shift, to, count, from >> 3);
	emit8(e, 0xf7);
	emit_modrm_reg(e, to, from);
}

/* ---- jumps ---- */

uint8_t *emit_jrcxz(struct emitter *e)
{
	emit8(e, OP_JRCXZ);
	emit8(e, 0);
	return e->p - 1;
}

uint8_t *emit_jmp8(struct emitter *e)
{
	emit8(e, 0xeb);
	emit8(e, 0);
	return e->p - 1;
}

uint8_t *emit_jcc8(struct emitter *e, unsigned cc)
{
	emit8(e, 0x70 | cc);
	emit8(e, 0);
	return e->p - 1;
}

void emit_align_rel32(struct emitter *e, unsigned opcode)
{
	unsigned at = (emit_offset(e) + opcode) & 7;

	for (unsigned i = 0; at > 4 && i < 8 - at; i++)
		emit8(e, 0x2e); /* a CS prefix says nothing in 64-bit code, and is no instruction of its own as a NOP is */
}

uint32_t emit_jmp32(struct emitter *e)
{
	emit8(e, 0xe9);
	emit32(e, 0);
	return emit_offset(e) - 4;
}

uint32_t emit_jcc32(struct emitter *e, unsigned cc)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cc);
	emit32(e, 0);
	return emit_offset(e) - 4;
}

void emit_jmp_to(struct emitter *e, uint32_t target) { patch32(e->base, emit_jmp32(e), target); }

uint32_t emit_call32(struct emitter *e)
{
	emit8(e, 0xe8);
	emit32(e, 0);
	return emit_offset(e) - 4;
}

void emit_call_to(struct emitter *e, uint32_t target) { patch32(e->base, emit_call32(e), target); }

static void emit_group5(struct emitter *e, unsigned digit, const struct host_mem *m)
{
	emit_prefixes(e, 4, 0, m, false);
	emit8(e, 0xff);
	emit_modrm_mem(e, digit, m);
}

void emit_jmp_mem(struct emitter *e, struct host_mem m) { emit_group5(e, 4, &m); }

void emit_call_mem(struct emitter *e, struct host_mem m) { emit_group5(e, 2, &m); }

void patch8(struct emitter *e, uint8_t *at) { *at = (uint8_t)(e->p - (at + 1)); }

void patch32(uint8_t *base, uint32_t at, uint32_t target)
{
	uint32_t rel = target - (at + 4);

	/* One store: other vCPUs may be about to run the instruction. */
	__asm__ volatile("movl %1, (%0)" : : "r"(base + at), "r"(rel) : "memory");
}

/* ---- the rest ---- */

void emit_push(struct emitter *e, host_reg reg)
{
	emit_rex_rr(e, 4, 0, reg);
	emit8(e, 0x50 | (reg & 7));
}

void emit_pop(struct emitter *e, host_reg reg)
{
	emit_changes(e, reg);
	emit_rex_rr(e, 4, 0, reg);
	emit8(e, 0x58 | (reg & 7));
}

void emit_push_mem(struct emitter *e, struct host_mem m) { emit_group5(e, 6, &m); }

void emit_pop_mem(struct emitter *e, struct host_mem m)
{
	emit_prefixes(e, 4, 0, &m, false);
	emit8(e, 0x8f);
	emit_modrm_mem(e, 0, &m);
}

static void emit_group1(struct emitter *e, unsigned size, unsigned digit, host_reg reg, int32_t imm)
{
	emit_changes(e, reg);
	emit_rex_rr(e, size, 0, reg);
	emit8(e, 0x81);
	emit_modrm_reg(e, digit, reg);
	emit32(e, (uint32_t)imm);
}

void emit_and_imm(struct emitter *e, unsigned size, host_reg reg, int32_t imm) { emit_group1(e, size, 4, reg, imm); }

void emit_shift_imm(struct emitter *e, unsigned shift, host_reg reg, unsigned count)
{
	emit_changes(e, reg);
	if (reg >= 8)
		emit8(e, 0x41);
	emit8(e, 0xc1);
	emit_modrm_reg(e, shift, reg);
	emit8(e, count);
}

void emit_add_imm(struct emitter *e, host_reg reg, int32_t imm) { emit_group1(e, 8, 0, reg, imm); }

void emit_alu_reg(struct emitter *e, unsigned op, host_reg to, host_reg from)
{
	emit_changes(e, to);
	emit_rex_rr(e, 8, from, to);
	emit8(e, op);
	emit_modrm_reg(e, from, to);
}
