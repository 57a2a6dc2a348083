/*
 * The decoder: bytes and mode in, struct insn out. Pure, any thread, no allocation, no library calls.
 *
 * Order of work: prefixes and escapes, ModRM, the row of the table that fits, then what the row says
 * follows (SIB, displacement, immediates) and the operands. Every byte is fetched through fetch_u8 and
 * its kin, which know the two limits: the bytes that there are, and 15.
 * Sources: SDM 2A chapter 2, appendix B; APM 3 chapter 1.
 */
#include "cpu/decode_table.h"

#include <string.h>

struct decoder {
	const uint8_t *bytes;
	unsigned pos, limit;
	bool cut; /* the limit was hit */
	bool mode64;
	uint8_t pp; /* mandatory prefix as in VEX.pp */
	uint8_t opmap;
	uint8_t evex_ll;  /* EVEX.L'L: vector length or rounding mode */
	uint8_t last_rep; /* F2, F3: the one that counts */
	uint8_t broadcast;  /* EVEX: bytes of the element that memory is a broadcast of, 0 = none */
	uint8_t disp8_unit; /* EVEX: disp8 counts so many bytes */
	uint32_t key;
};

static bool fetch_u8(struct decoder *d, uint8_t *value)
{
	if (d->pos >= d->limit) {
		d->cut = true;
		return false;
	}
	*value = d->bytes[d->pos++];
	return true;
}

/* 1, 2, 4 or 8 bytes, sign-extended */
static bool fetch_signed(struct decoder *d, unsigned size, int64_t *value)
{
	if (d->limit - d->pos < size) {
		d->cut = true;
		return false;
	}
	const uint8_t *p = d->bytes + d->pos;
	int16_t v16;
	int32_t v32;
	switch (size) {
	case 1:
		*value = (int8_t)*p;
		break;
	case 2:
		memcpy(&v16, p, 2);
		*value = v16;
		break;
	case 4:
		memcpy(&v32, p, 4);
		*value = v32;
		break;
	default:
		memcpy(value, p, 8);
		break;
	}
	d->pos += size;
	return true;
}

static uint64_t zero_extend(int64_t value, unsigned size)
{
	return size >= 8 ? (uint64_t)value : (uint64_t)value & ((1ull << size * 8) - 1);
}

/* Legacy prefixes and REX. Leaves the first byte after them in *opcode. */
static bool decode_prefixes(struct decoder *d, struct insn *insn, uint8_t *opcode)
{
	for (;;) {
		uint8_t b;
		if (!fetch_u8(d, &b))
			return false;
		switch (b) {
		case 0x66:
			insn->opsize_prefix = true;
			break;
		case 0x67:
			insn->addrsize_prefix = true;
			break;
		case 0xf0:
			insn->lock = true;
			break;
		case 0xf2:
			insn->repne = true;
			d->last_rep = b;
			break;
		case 0xf3:
			insn->rep = true;
			d->last_rep = b;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			if (!d->mode64)
				insn->seg_prefix = b >> 3 & 3; /* ES CS SS DS */
			break;
		case 0x64:
			insn->seg_prefix = FS;
			break;
		case 0x65:
			insn->seg_prefix = GS;
			break;
		default:
			if (d->mode64 && (b & 0xf0) == 0x40) {
				insn->rex = b; /* counts only if the opcode comes next */
				continue;
			}
			*opcode = b;
			return true;
		}
		insn->rex = 0;
	}
}

/* C4 and C5 outside 64-bit mode, 62: VEX or EVEX only if the next byte would be a ModRM with mod 3. */
static bool is_vector_escape(const struct decoder *d)
{
	return d->mode64 || (d->pos < d->limit && d->bytes[d->pos] >= 0xc0);
}

/* 66 F2 F3 F0 and REX may not come before VEX, EVEX, XOP. */
static bool vector_prefixes_valid(const struct insn *insn)
{
	return !insn->opsize_prefix && !insn->rep && !insn->repne && !insn->lock && !insn->rex;
}

static enum decode_result decode_vex(struct decoder *d, struct insn *insn, uint8_t escape, uint8_t *opcode)
{
	uint8_t p1, p2;
	unsigned map = 1;
	if (!fetch_u8(d, &p1))
		return DECODE_SHORT;
	uint8_t rxb = ~p1 >> 5 & 4; /* R */
	p2 = p1;
	if (escape == 0xc4) {
		rxb = ~p1 >> 5 & 7;
		map = p1 & 31;
		if (!fetch_u8(d, &p2))
			return DECODE_SHORT;
	}
	insn->encoding = ENCODING_VEX;
	if (!d->mode64)
		rxb &= 4; /* X and B do nothing; R is 1 or it would be LES, LDS */
	insn->rex = 0x40 | (escape == 0xc4 && (p2 & 0x80) ? 8 : 0) | rxb;
	insn->vvvv = ~p2 >> 3 & 15;
	if (insn->vvvv == 0)
		d->key |= KEY_VVVV0;
	if (!d->mode64)
		insn->vvvv &= 7;
	insn->vector_bytes = p2 & 4 ? 32 : 16;
	d->key |= (p2 & 4 ? 1 : 0) << KEY_L_SHIFT;
	d->pp = p2 & 3;
	if (map < 1 || map > 3)
		return DECODE_INVALID;
	d->opmap = V_0F + map - 1;
	insn->map = map;
	return fetch_u8(d, opcode) ? DECODE_OK : DECODE_SHORT;
}

static enum decode_result decode_evex(struct decoder *d, struct insn *insn, uint8_t *opcode)
{
	uint8_t p0, p1, p2;
	if (!fetch_u8(d, &p0) || !fetch_u8(d, &p1) || !fetch_u8(d, &p2))
		return DECODE_SHORT;
	unsigned map = p0 & 3;
	if ((p0 & 0x0c) || !(p1 & 4) || map == 0)
		return DECODE_INVALID;
	insn->encoding = ENCODING_EVEX;
	insn->map = map;
	d->opmap = E_0F + map - 1;
	insn->rex = 0x40 | (p1 & 0x80 ? 8 : 0) | (~p0 >> 5 & 7);
	insn->evex_r_hi = !(p0 & 0x10);
	insn->vvvv = (~p1 >> 3 & 15) | (p2 & 8 ? 0 : 16);
	if ((insn->vvvv & 15) == 0)
		d->key |= KEY_VVVV0;
	if (!d->mode64) {
		if (insn->vvvv & 16)
			return DECODE_INVALID;
		insn->evex_r_hi = false;
		insn->rex &= 0x4c;
		insn->vvvv &= 7;
	}
	d->pp = p1 & 3;
	insn->evex_aaa = p2 & 7;
	insn->evex_b = p2 & 0x10;
	insn->evex_z = p2 & 0x80;
	d->evex_ll = p2 >> 5 & 3;
	return fetch_u8(d, opcode) ? DECODE_OK : DECODE_SHORT;
}

/* From the first byte that is no prefix to the opcode proper. */
static enum decode_result decode_opcode(struct decoder *d, struct insn *insn, uint8_t first)
{
	uint8_t opcode = first;
	d->opmap = M_1B;
	if (first == 0x0f) {
		if (!fetch_u8(d, &opcode))
			return DECODE_SHORT;
		d->opmap = M_0F;
		if (opcode == 0x38 || opcode == 0x3a) {
			d->opmap = opcode == 0x38 ? M_0F38 : M_0F3A;
			if (!fetch_u8(d, &opcode))
				return DECODE_SHORT;
		}
		insn->map = d->opmap;
	} else if (first == 0xc4 || first == 0xc5 || first == 0x62) {
		if (!d->mode64 && d->pos >= d->limit) {
			d->cut = true;
			return DECODE_SHORT;
		}
		if (is_vector_escape(d)) {
			if (!vector_prefixes_valid(insn))
				return DECODE_INVALID;
			enum decode_result result = first == 0x62 ? decode_evex(d, insn, &opcode) :
								    decode_vex(d, insn, first, &opcode);
			if (result != DECODE_OK)
				return result;
		}
	}
	insn->opcode = opcode;
	insn->opcode_at = d->pos - 1;
	if (insn->encoding == ENCODING_LEGACY)
		d->pp = d->last_rep ? (d->last_rep == 0xf3 ? 2 : 3) : insn->opsize_prefix;
	return DECODE_OK;
}

/* The row whose match column the key satisfies; 0: none. */
static unsigned find_row(const struct decoder *d, const struct insn *insn)
{
	const struct decode_tables *t = &decode_tables;
	unsigned s = (d->key & KEY_MOD3 ? 8 : 0) | (insn->modrm >> 3 & 7);
	const struct decode_slot *slot = &t->slot[d->opmap][insn->opcode][s];
	const uint16_t *candidate = t->candidate + slot->first;
	for (unsigned i = 0; i < slot->count; i++) {
		uint64_t match = decode_rows[candidate[i]].match;
		if (((d->key ^ MATCH_VALUE(match)) & MATCH_MASK(match)) == 0)
			return candidate[i];
	}
	return 0;
}

static void decode_sizes(const struct decoder *d, struct insn *insn, const struct decode_row *row,
			 const struct insn_desc *desc)
{
	bool prefix66 = insn->opsize_prefix;
	if ((MATCH_MASK(row->match) & 3) == 3 && (MATCH_VALUE(row->match) & 3) == 1)
		prefix66 = false; /* part of the opcode */
	if (insn->mode == 16)
		insn->opsize = prefix66 ? 4 : 2;
	else if (insn->mode == 32 || !d->mode64)
		insn->opsize = prefix66 ? 2 : 4;
	else if ((insn->rex & 8) || (desc->flags & INSN_FORCE_64))
		insn->opsize = 8;
	else if (prefix66)
		insn->opsize = 2;
	else
		insn->opsize = desc->flags & INSN_DEFAULT_64 ? 8 : 4;
	if (insn->encoding != ENCODING_LEGACY)
		insn->opsize = d->mode64 && (insn->rex & 8) ? 8 : 4;
}

static bool fetch_displacement(struct decoder *d, struct insn *insn, unsigned size)
{
	insn->disp_at = d->pos;
	insn->disp_size = size;
	if (!fetch_signed(d, size, &insn->mem_disp))
		return false;
	if (size == 1)
		insn->mem_disp *= d->disp8_unit;
	return true;
}

/* ModRM, SIB and displacement of a memory operand with 16-bit addresses. SDM 2A table 2-1. */
static bool decode_memory16(struct decoder *d, struct insn *insn)
{
	static const uint8_t bases[8] = { RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX };
	static const uint8_t indexes[8] = { RSI, RDI, RSI, RDI, REG_NONE, REG_NONE, REG_NONE, REG_NONE };
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
	unsigned disp_size = mod;
	insn->mem_base = bases[rm];
	insn->mem_index = indexes[rm];
	if (mod == 0 && rm == 6) {
		insn->mem_base = REG_NONE;
		disp_size = 2;
	}
	insn->mem_seg = insn->mem_base == RBP ? SS : DS;
	return !disp_size || fetch_displacement(d, insn, disp_size);
}

/* The same with 32- and 64-bit addresses. SDM 2A tables 2-2, 2-3. */
static bool decode_memory32(struct decoder *d, struct insn *insn, bool vsib)
{
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
	unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	unsigned rex_b = insn->rex & 1 ? 8 : 0;
	if (rm == 4) {
		insn->sib_at = d->pos;
		if (!fetch_u8(d, &insn->sib))
			return false;
		unsigned base = insn->sib & 7;
		unsigned index = (insn->sib >> 3 & 7) | (insn->rex & 2 ? 8 : 0);
		if (vsib && insn->encoding == ENCODING_EVEX)
			index |= insn->vvvv & 16;
		if (index != RSP || vsib) {
			insn->mem_index = index;
			insn->mem_scale = 1 << (insn->sib >> 6);
		}
		if (base == 5 && mod == 0)
			disp_size = 4;
		else
			insn->mem_base = base | rex_b;
	} else if (rm == 5 && mod == 0) {
		disp_size = 4;
		insn->mem_base = d->mode64 ? REG_RIP : REG_NONE;
	} else {
		insn->mem_base = rm | rex_b;
	}
	insn->mem_seg = insn->mem_base == RSP || insn->mem_base == RBP ? SS : DS;
	return !disp_size || fetch_displacement(d, insn, disp_size);
}

static bool decode_memory(struct decoder *d, struct insn *insn, bool vsib)
{
	insn->mem_vsib = vsib;
	if (!(insn->addrsize == 2 ? decode_memory16(d, insn) : decode_memory32(d, insn, vsib)))
		return false;
	if (insn->seg_prefix != REG_NONE)
		insn->mem_seg = insn->seg_prefix;
	return true;
}

static unsigned operand_bytes(const struct decoder *d, const struct insn *insn, unsigned size)
{
	unsigned opsize = insn->opsize;
	switch (size) {
	case SIZE_1: return 1;
	case SIZE_2: return 2;
	case SIZE_4: return 4;
	case SIZE_8: return 8;
	case SIZE_10: return 10;
	case SIZE_16: return 16;
	case SIZE_32: return 32;
	case SIZE_64: return 64;
	case SIZE_V: return opsize;
	case SIZE_Z: return opsize == 2 ? 2 : 4;
	case SIZE_Y: return opsize == 8 ? 8 : 4;
	case SIZE_MODE: return d->mode64 ? 8 : 4;
	case SIZE_ADDR: return insn->addrsize;
	case SIZE_FAR: return opsize + 2;
	case SIZE_DT: return d->mode64 ? 10 : 6;
	case SIZE_2V: return opsize * 2;
	case SIZE_X: return insn->vector_bytes;
	case SIZE_X2: return insn->vector_bytes / 2;
	case SIZE_X4: return insn->vector_bytes / 4;
	case SIZE_X8: return insn->vector_bytes / 8;
	case SIZE_ENV: return opsize == 2 ? 14 : 28;
	case SIZE_FPU: return opsize == 2 ? 94 : 108;
	case SIZE_512: return 512;
	default: return 0;
	}
}

/* A vector register is never shorter than 16 bytes, however little of it is used. */
static unsigned register_bytes(const struct decoder *d, const struct insn *insn, const struct operand_rule *rule)
{
	unsigned bytes = operand_bytes(d, insn, rule->reg_size);
	return rule->kind == OPERAND_VEC && bytes < 16 ? 16 : bytes;
}

/* Register numbers that the encoding can say but the architecture does not have. */
static bool set_register(const struct decoder *d, const struct insn *insn, struct operand *o, unsigned kind,
			 unsigned reg)
{
	o->kind = kind;
	switch (kind) {
	case OPERAND_GPR:
		if (reg > 15)
			return false;
		if (o->size == 1 && reg >= RSP && reg <= RDI && !(insn->rex)) {
			o->high8 = true;
			reg -= 4;
		}
		break;
	case OPERAND_SREG:
		reg &= 7;
		if (reg >= SREG_COUNT)
			return false;
		break;
	case OPERAND_CR:
		if (reg > 8 || !(1u << reg & 0x11d))
			return false;
		break;
	case OPERAND_DR:
		if (reg > 7)
			return false;
		break;
	case OPERAND_ST:
	case OPERAND_MMX:
		reg &= 7;
		break;
	case OPERAND_VEC:
		if (!d->mode64)
			reg &= 7;
		break;
	case OPERAND_MASK:
		if (reg > 7)
			return false;
		break;
	}
	o->reg = reg;
	return true;
}

static bool decode_immediate(struct decoder *d, struct insn *insn, struct operand *o, unsigned where)
{
	unsigned size = o->size;
	int64_t value;
	if (!insn->imm_at)
		insn->imm_at = d->pos;
	if (where == AT_FAR) {
		int64_t selector;
		size -= 2;
		if (!fetch_signed(d, size, &value) || !fetch_signed(d, 2, &selector))
			return false;
		insn->imm = zero_extend(value, size);
		insn->imm2 = (uint16_t)selector;
		insn->imm_size = size + 2;
		o->kind = OPERAND_FAR;
		return true;
	}
	if (!fetch_signed(d, size, &value))
		return false;
	if (where == AT_IMM_U)
		value = zero_extend(value, size);
	o->kind = where == AT_REL ? OPERAND_REL : OPERAND_IMM;
	if (insn->imm_size)
		insn->imm2 = value;
	else
		insn->imm = value;
	insn->imm_size += size;
	return true;
}

static void set_memory(struct insn *insn, struct operand *o, const struct operand_rule *rule)
{
	o->kind = OPERAND_MEM;
	if (rule->where == AT_STRING_SRC || rule->where == AT_STRING_DST) {
		o->implicit = true;
		insn->mem_seg = insn->seg_prefix != REG_NONE ? insn->seg_prefix : DS;
	} else {
		insn->mem_index_of = o - insn->operand;
	}
}

static const uint8_t operand_at[] = {
	[AT_REG] = OPERAND_AT_REG, [AT_RM] = OPERAND_AT_RM,         [AT_RM_REG] = OPERAND_AT_RM,
	[AT_VVVV] = OPERAND_AT_VVVV, [AT_OPCODE] = OPERAND_AT_OPCODE, [AT_IS4] = OPERAND_AT_IS4,
	[AT_FAR] = OPERAND_AT_NONE,
};

/* One operand as the row says. DECODE_SHORT also when the bytes end. */
static enum decode_result decode_operand(struct decoder *d, struct insn *insn, unsigned code, struct operand *o)
{
	const struct operand_rule *rule = &operand_rules[code & 0xff];
	unsigned rex = insn->rex;
	unsigned reg;
	o->access = code >> 8;
	o->size = register_bytes(d, insn, rule);
	o->at = operand_at[rule->where];
	switch (rule->where) {
	case AT_REG:
		reg = (insn->modrm >> 3 & 7) | (rex & 4 ? 8 : 0) | (insn->evex_r_hi ? 16 : 0);
		if (code == (OC_SwLoad | ACCESS_WRITE << 8) && (reg & 7) == CS)
			return DECODE_INVALID;
		return set_register(d, insn, o, rule->kind, reg) ? DECODE_OK : DECODE_INVALID;
	case AT_RM:
		if (!(d->key & KEY_MOD3)) {
			o->size = d->broadcast ? d->broadcast : operand_bytes(d, insn, rule->mem_size);
			set_memory(insn, o, rule);
			return DECODE_OK;
		}
		if (rule->kind == OPERAND_NONE)
			return DECODE_INVALID;
		/* fall through */
	case AT_RM_REG:
		reg = insn->modrm & 7;
		if (rule->kind != OPERAND_MASK) /* B does nothing to k0-k7 */
			reg |= rex & 1 ? 8 : 0;
		if (insn->encoding == ENCODING_EVEX && rule->kind == OPERAND_VEC)
			reg |= rex & 2 ? 16 : 0;
		return set_register(d, insn, o, rule->kind, reg) ? DECODE_OK : DECODE_INVALID;
	case AT_VVVV:
		return set_register(d, insn, o, rule->kind, insn->vvvv) ? DECODE_OK : DECODE_INVALID;
	case AT_OPCODE:
		set_register(d, insn, o, rule->kind, (insn->opcode & 7) | (rex & 1 ? 8 : 0));
		return DECODE_OK;
	case AT_FIXED:
		o->kind = rule->kind;
		o->reg = rule->fixed;
		o->implicit = true;
		return DECODE_OK;
	case AT_IS4: {
		int64_t value;
		insn->imm_at = d->pos;
		if (!fetch_signed(d, 1, &value))
			return DECODE_SHORT;
		insn->imm_size = 1;
		insn->imm = value & 0xff;
		set_register(d, insn, o, rule->kind, insn->imm >> 4);
		return DECODE_OK;
	}
	case AT_MOFFS:
		insn->disp_at = d->pos;
		insn->disp_size = insn->addrsize;
		if (!fetch_signed(d, insn->addrsize, &insn->mem_disp))
			return DECODE_SHORT;
		insn->mem_disp = zero_extend(insn->mem_disp, insn->addrsize);
		insn->mem_seg = insn->seg_prefix != REG_NONE ? insn->seg_prefix : DS;
		/* fall through */
	case AT_STRING_SRC:
	case AT_STRING_DST:
		o->size = operand_bytes(d, insn, rule->mem_size);
		set_memory(insn, o, rule);
		return DECODE_OK;
	case AT_IMM_ONE:
		o->kind = OPERAND_IMM;
		o->implicit = true;
		insn->imm = 1;
		return DECODE_OK;
	default:
		return decode_immediate(d, insn, o, rule->where) ? DECODE_OK : DECODE_SHORT;
	}
}

/* Vector length from L'L, which is a rounding mode when b is set and no memory is named. */
static bool evex_length(struct decoder *d, struct insn *insn)
{
	unsigned ll = d->evex_ll;
	if (insn->evex_b && (d->key & KEY_MOD3))
		ll = 2;
	if (ll == 3)
		return false;
	insn->vector_bytes = 16 << ll;
	d->key |= ll << KEY_L_SHIFT;
	return true;
}

/* May this row be masked, zeroed, broadcast, rounded as EVEX says? Sets the unit of disp8 and the
 * broadcast element. SDM 2A section 2.7. */
static bool evex_allowed(struct decoder *d, struct insn *insn, const struct decode_row *row,
			 const struct operand_rule *memory)
{
	bool registers = d->key & KEY_MOD3;
	unsigned allowed = row->evex;
	if (insn->evex_aaa ? !(allowed & (EVEX_MASK | EVEX_MASK_REQUIRED)) : allowed & EVEX_MASK_REQUIRED)
		return false;
	if (insn->evex_z &&
	    (!insn->evex_aaa || !(allowed & (registers ? EVEX_ZERO | EVEX_ZERO_REG : EVEX_ZERO))))
		return false;
	if (registers)
		return !insn->evex_b || (allowed & (EVEX_ER | EVEX_SAE));
	if (insn->evex_b) {
		d->broadcast = allowed & EVEX_BCST4 ? 4 : allowed & EVEX_BCST8 ? 8 : 0;
		d->disp8_unit = d->broadcast;
		return d->broadcast;
	}
	if (allowed & (EVEX_N1 | EVEX_N2 | EVEX_N4 | EVEX_N8))
		d->disp8_unit = allowed / EVEX_N1;
	else if (memory)
		d->disp8_unit = operand_bytes(d, insn, memory->mem_size);
	return true;
}

/* Gathers: destination, mask and index must be three registers. Scatters have no vector destination. */
static bool gather_distinct(const struct insn *insn)
{
	unsigned dst = insn->operand[0].reg, index = insn->mem_index;
	if (insn->operand[0].kind != OPERAND_VEC)
		return true;
	if (insn->encoding == ENCODING_EVEX)
		return dst != index;
	unsigned mask = insn->operand[2].reg;
	return dst != index && dst != mask && mask != index;
}

/* Under a mask, memory may not be touched and a merging destination keeps what it had (unless the mask
 * selects between two sources). */
static void mask_accesses(struct insn *insn, bool selects)
{
	for (unsigned i = 0; i < insn->operand_count; i++) {
		struct operand *o = &insn->operand[i];
		if (o->kind == OPERAND_MEM)
			o->access |= ACCESS_CONDITIONAL;
		else if (i == 0 && o->kind == OPERAND_VEC && !insn->evex_z && !selects)
			o->access |= ACCESS_READ | ACCESS_CONDITIONAL;
	}
}

static enum decode_result decode_operands(struct decoder *d, struct insn *insn, const struct decode_row *row,
					  const struct insn_desc *desc)
{
	const struct operand_rule *memory = NULL;
	bool register_only = false;
	for (unsigned i = 0; i < 5 && row->operand[i]; i++) {
		const struct operand_rule *rule = &operand_rules[row->operand[i] & 0xff];
		if (rule->where == AT_RM)
			memory = rule;
		register_only |= rule->where == AT_RM_REG;
	}
	bool vsib = memory && memory->kind == OPERAND_NONE && memory->fixed;
	if (insn->encoding == ENCODING_EVEX &&
	    (!evex_allowed(d, insn, row, memory) ||
	     ((insn->vvvv & 16) && !vsib && (MATCH_MASK(row->match) & KEY_VVVV0))))
		return DECODE_INVALID;
	/* SIB and displacement come before any immediate */
	if (insn->modrm_at && !(d->key & KEY_MOD3) && !register_only) {
		if (vsib && (insn->addrsize == 2 || (insn->modrm & 7) != 4))
			return DECODE_INVALID;
		if (!decode_memory(d, insn, vsib))
			return DECODE_SHORT;
	}
	for (unsigned i = 0; i < 5 && row->operand[i]; i++) {
		enum decode_result result = decode_operand(d, insn, row->operand[i], &insn->operand[i]);
		if (result != DECODE_OK)
			return result;
		insn->operand_count = i + 1;
	}
	if (insn->evex_aaa)
		mask_accesses(insn, row->evex & EVEX_MASK_SELECTS);
	if (vsib && !gather_distinct(insn))
		return DECODE_INVALID;
	if (insn->lock && (!(desc->flags & INSN_LOCKABLE) || insn->operand[0].kind != OPERAND_MEM))
		return DECODE_INVALID;
	return DECODE_OK;
}

static enum decode_result decode(struct decoder *d, struct insn *insn)
{
	uint8_t first;
	if (!decode_prefixes(d, insn, &first))
		return DECODE_SHORT;
	enum decode_result result = decode_opcode(d, insn, first);
	if (result != DECODE_OK)
		return result;
	if (decode_tables.has_modrm[d->opmap][insn->opcode]) {
		insn->modrm_at = d->pos;
		if (!fetch_u8(d, &insn->modrm))
			return DECODE_SHORT;
		d->key |= (insn->modrm >= 0xc0 ? KEY_MOD3 : 0) | (insn->modrm >> 3 & 7) << KEY_REG_SHIFT |
			  (insn->modrm & 7) << KEY_RM_SHIFT;
	}
	if (insn->encoding == ENCODING_EVEX && !evex_length(d, insn))
		return DECODE_INVALID;
	if (insn->mode == 16)
		insn->addrsize = insn->addrsize_prefix ? 4 : 2;
	else if (insn->mode == 32)
		insn->addrsize = insn->addrsize_prefix ? 2 : 4;
	else
		insn->addrsize = insn->addrsize_prefix ? 4 : 8;
	d->key |= d->pp << KEY_PP_SHIFT | (insn->rex & 8 ? KEY_W : 0) | (insn->rex & 1 ? KEY_REX_B : 0) |
		  (d->mode64 && insn->rex & 8 ? KEY_W64 : 0) | (d->mode64 ? KEY_64 : 0) |
		  (insn->opsize_prefix ? KEY_66 : 0) | (insn->addrsize == 2 ? KEY_ADDR16 : 0);
	unsigned index = find_row(d, insn);
	if (!index)
		return DECODE_INVALID;
	const struct decode_row *row = &decode_rows[index];
	const struct insn_desc *desc = &insn_descs[index];
	insn->row = index;
	insn->id = desc->id;
	if (row->match & PLUS_CC)
		insn->cc = insn->opcode & 15;
	decode_sizes(d, insn, row, desc);
	return decode_operands(d, insn, row, desc);
}

/* bytes[] gets what is there, up to 15. No memcpy of unknown length: that would be a library call. */
static void copy_bytes(struct insn *insn, const uint8_t *bytes, size_t avail)
{
	if (avail >= INSN_MAX_LEN) {
		uint64_t low, high;
		memcpy(&low, bytes, 8);
		memcpy(&high, bytes + 7, 8);
		memcpy(insn->bytes, &low, 8);
		memcpy(insn->bytes + 7, &high, 8);
		return;
	}
	for (size_t i = 0; i < avail; i++) {
		insn->bytes[i] = bytes[i];
		__asm__("" ::: "memory");
	}
}

/* Eight bytes at a time: the compiler's choice would be REP STOS, a fifth of the whole decoding. */
static void clear_insn(struct insn *insn)
{
	_Static_assert(sizeof(*insn) % 8 == 0, "cleared in words of 8");
	static const uint64_t zero;
#pragma GCC unroll 32
	for (size_t i = 0; i < sizeof(*insn); i += 8) {
		memcpy((char *)insn + i, &zero, 8);
		__asm__("" ::: "memory");
	}
}

enum decode_result insn_decode(struct insn *insn, const uint8_t *bytes, size_t avail, unsigned mode)
{
	decode_tables_init();
	struct decoder d = {
		.bytes = bytes,
		.limit = avail < INSN_MAX_LEN ? avail : INSN_MAX_LEN,
		.mode64 = mode == 64,
		.disp8_unit = 1,
	};
	clear_insn(insn);
	insn->mode = mode;
	insn->seg_prefix = REG_NONE;
	insn->mem_index_of = -1;
	insn->mem_base = REG_NONE;
	insn->mem_index = REG_NONE;
	insn->mem_scale = 1;
	enum decode_result result = decode(&d, insn);
	if (result == DECODE_OK) {
		insn->len = d.pos;
		copy_bytes(insn, bytes, avail);
		return DECODE_OK;
	}
	if (d.cut)
		return avail >= INSN_MAX_LEN ? DECODE_TOO_LONG : DECODE_SHORT;
	return DECODE_INVALID;
}
