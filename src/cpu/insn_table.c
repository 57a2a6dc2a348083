/*
 * The instruction table as C: insn.def becomes insn_descs[] (what an instruction does) and
 * decode_rows[] (how its bytes look), row by row, and from the latter the decoder's look-up is built,
 * once, on the first call of decode_tables_init from whichever thread. Read-only afterwards.
 */
#include "cpu/cpuid.h"
#include "cpu/decode_table.h"

#include <pthread.h>

/* The flags column */
#define PRIVILEGED INSN_PRIVILEGED
#define SENSITIVE INSN_SENSITIVE
#define BRANCH INSN_BRANCH
#define CONDITIONAL INSN_CONDITIONAL
#define IS_CALL INSN_IS_CALL
#define IS_RET INSN_IS_RET
#define INDIRECT INSN_INDIRECT
#define LOCKABLE INSN_LOCKABLE
#define STRING INSN_STRING
#define X87 INSN_X87
#define MMX INSN_MMX
#define SSE INSN_SSE
#define AVX INSN_AVX
#define AVX512 INSN_AVX512
#define ALIGNED INSN_ALIGNED
#define VARIABLE_SIZE INSN_VARIABLE_SIZE
#define ONLY_64 INSN_ONLY_64
#define NOT_64 INSN_NOT_64
#define DEFAULT_64 INSN_DEFAULT_64
#define FORCE_64 INSN_FORCE_64
#define NOT_REAL INSN_NOT_REAL
#define IOPL INSN_IOPL
#define X87_NONWAITING INSN_X87_NONWAITING
#define HAS_VEX_OPERAND INSN_HAS_VEX_OPERAND

/* Every mnemonic's text, as one object whose members have constant addresses. */
static const struct {
#define MNEMONIC(id, name) char text_##id[sizeof(name)];
#include "cpu/insn_ids.def"
#undef MNEMONIC
} names = {
#define MNEMONIC(id, name) name,
#include "cpu/insn_ids.def"
#undef MNEMONIC
};

/* The operands column */
#define n(code) (OC_##code | (ACCESS_NONE) << 8)
#define r(code) (OC_##code | (ACCESS_READ) << 8)
#define w(code) (OC_##code | (ACCESS_WRITE) << 8)
#define rw(code) (OC_##code | (ACCESS_READ_WRITE) << 8)
#define rc(code) (OC_##code | (ACCESS_READ | ACCESS_CONDITIONAL) << 8)
#define wc(code) (OC_##code | (ACCESS_WRITE | ACCESS_CONDITIONAL) << 8)
#define rwc(code) (OC_##code | (ACCESS_READ_WRITE | ACCESS_CONDITIONAL) << 8)
#define OPERANDS_O0 { 0 }
#define OPERANDS_O1(a) { a }
#define OPERANDS_O2(a, b) { a, b }
#define OPERANDS_O3(a, b, c) { a, b, c }
#define OPERANDS_O4(a, b, c, d) { a, b, c, d }
#define OPERANDS_O5(a, b, c, d, e) { a, b, c, d, e }

const struct insn_desc insn_descs[] = {
	{ "(bad)", INSN_INVALID, XLATE_CALLOUT },
#define ROW(id, map, opcode, match, operands, xlate, feature, flags, eflags, gprs) \
	{ names.text_##id, INSN_##id, XLATE_##xlate, FEATURE_##feature, flags, E_##eflags, gprs },
#define EROW(id, map, opcode, match, evex, operands, xlate, feature, flags, eflags) \
	{ names.text_##id, INSN_##id, XLATE_##xlate, FEATURE_##feature, INSN_AVX512 | INSN_NOT_REAL | (flags), \
	  E_##eflags, NO_GPRS },
#include "cpu/insn.def"
#undef ROW
#undef EROW
};
const unsigned insn_desc_count = sizeof(insn_descs) / sizeof(insn_descs[0]);

const struct decode_row decode_rows[] = {
	{ 0 },
#define ROW(id, map, opcode, match, operands, xlate, feature, flags, eflags, gprs) \
	{ match, map, opcode, 0, OPERANDS_##operands },
#define EROW(id, map, opcode, match, evex, operands, xlate, feature, flags, eflags) \
	{ match, map, opcode, evex, OPERANDS_##operands },
#include "cpu/insn.def"
#undef ROW
#undef EROW
};

const struct operand_rule operand_rules[OC_COUNT] = {
#define X(name, where, kind, reg_size, mem_size, fixed) [OC_##name] = { where, kind, reg_size, mem_size, fixed },
	OPERAND_CODES(X)
#undef X
};

#define ROW_COUNT (sizeof(decode_rows) / sizeof(decode_rows[0]))
_Static_assert(ROW_COUNT == sizeof(insn_descs) / sizeof(insn_descs[0]), "one description a row");
_Static_assert(ROW_COUNT < UINT16_MAX, "row numbers are 16 bits");

/* A row is a candidate in each (mod, reg) that it may match: 16 at most, of up to 16 opcodes. */
#define CANDIDATES_MAX (ROW_COUNT * 16 + 16 * 16 * 64)

struct decode_tables decode_tables;
static uint16_t candidates[CANDIDATES_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool row_uses_modrm(const struct decode_row *row)
{
	if (MATCH_MASK(row->match) & MATCH_MODRM_BITS)
		return true;
	for (unsigned i = 0; i < 5; i++) {
		unsigned where = operand_rules[row->operand[i] & 0xff].where;
		if (where == AT_REG || where == AT_RM || where == AT_RM_REG)
			return true;
	}
	return false;
}

static bool row_fits_slot(const struct decode_row *row, unsigned slot)
{
	uint32_t slot_mask = KEY_MOD3 | 7u << KEY_REG_SHIFT;
	uint32_t key = (slot & 8 ? KEY_MOD3 : 0) | (slot & 7) << KEY_REG_SHIFT;
	return ((key ^ MATCH_VALUE(row->match)) & MATCH_MASK(row->match) & slot_mask) == 0;
}

static unsigned row_opcodes(const struct decode_row *row)
{
	return row->match & PLUS_CC ? 16 : row->match & PLUS_R ? 8 : 1;
}

static void build_tables(void)
{
	struct decode_tables *t = &decode_tables;
	/* rows by opcode, first pass: how many, and does the opcode have a ModRM byte */
	for (unsigned i = 1; i < ROW_COUNT; i++) {
		const struct decode_row *row = &decode_rows[i];
		for (unsigned op = row->opcode; op < row->opcode + row_opcodes(row); op++) {
			if (row_uses_modrm(row))
				t->has_modrm[row->opmap][op] = true;
			for (unsigned s = 0; s < 16; s++)
				t->slot[row->opmap][op][s].count += row_fits_slot(row, s);
		}
	}
	unsigned next = 0;
	for (unsigned m = 0; m < OPMAP_COUNT; m++)
		for (unsigned op = 0; op < 256; op++)
			for (unsigned s = 0; s < 16; s++) {
				t->slot[m][op][s].first = next;
				next += t->slot[m][op][s].count;
				t->slot[m][op][s].count = 0;
			}
	for (unsigned i = 1; i < ROW_COUNT; i++) {
		const struct decode_row *row = &decode_rows[i];
		for (unsigned op = row->opcode; op < row->opcode + row_opcodes(row); op++)
			for (unsigned s = 0; s < 16; s++)
				if (row_fits_slot(row, s)) {
					struct decode_slot *slot = &t->slot[row->opmap][op][s];
					candidates[slot->first + slot->count++] = i;
				}
	}
	t->candidate = candidates;
}

void decode_tables_init(void)
{
	pthread_once(&once, build_tables);
}
