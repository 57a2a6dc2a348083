/*
 * What the table cannot say in one row: the flags that a decoded instruction reads and certainly
 * overwrites, its condition, count and prefixes looked at. Pure, any thread.
 * Sources: SDM 1 appendix A, SDM 2 (shifts: count masked to 5 or 6 bits, flags kept when it is 0).
 */
#include "cpu/insn.h"

/* Flags that conditions 0-15 test, by pairs. SDM 1 appendix B. */
static uint16_t condition_flags(unsigned cc)
{
	static const uint16_t flags[8] = {
		EF_OF, EF_CF, EF_ZF, EF_CF | EF_ZF, EF_SF, EF_PF, EF_SF | EF_OF, EF_ZF | EF_SF | EF_OF,
	};
	return flags[cc >> 1 & 7];
}

uint16_t insn_eflags_read(const struct insn *i)
{
	if (i->id == INSN_JCC || i->id == INSN_SETCC || i->id == INSN_CMOVCC)
		return condition_flags(i->cc);
	return insn_desc(i)->eflags_read;
}

/* True when the flags stay as they were for some count: CL, or an immediate that masks to 0. */
static bool shift_may_keep_flags(const struct insn *i, const struct operand *count)
{
	if (count->kind != OPERAND_IMM)
		return true;
	return (i->imm & (i->operand[0].size == 8 ? 63 : 31)) == 0;
}

uint16_t insn_eflags_killed(const struct insn *i)
{
	const struct insn_desc *desc = insn_desc(i);
	uint16_t killed = desc->eflags_written | desc->eflags_undefined;
	switch (i->id) {
	case INSN_SHL: case INSN_SHR: case INSN_SAR:
	case INSN_ROL: case INSN_ROR: case INSN_RCL: case INSN_RCR:
		return shift_may_keep_flags(i, &i->operand[1]) ? 0 : killed;
	case INSN_SHLD: case INSN_SHRD:
		return shift_may_keep_flags(i, &i->operand[2]) ? 0 : killed;
	case INSN_CMPS: case INSN_SCAS:
		return i->rep || i->repne ? 0 : killed;
	case INSN_POPF: case INSN_IRET:
		return EF_ARITH; /* IF and the like depend on privilege */
	case INSN_CLI: case INSN_STI:
		return 0;
	default:
		return killed;
	}
}

uint16_t insn_eflags_undefined(const struct insn *i)
{
	uint16_t undefined = insn_desc(i)->eflags_undefined;
	const struct operand *count = &i->operand[1];
	unsigned bits = i->operand[0].size * 8;
	bool by_cl, one;
	switch (i->id) {
	case INSN_SHLD: case INSN_SHRD:
		count = &i->operand[2];
		break;
	case INSN_SHL: case INSN_SHR: case INSN_SAR:
	case INSN_ROL: case INSN_ROR: case INSN_RCL: case INSN_RCR:
		break;
	default:
		return undefined;
	}
	unsigned n = i->imm & (bits == 64 ? 63 : 31);
	by_cl = count->kind != OPERAND_IMM;
	one = !by_cl && n == 1;
	if (!one)
		undefined |= EF_OF;
	if ((i->id == INSN_SHL || i->id == INSN_SHR) && bits < 32 && (by_cl || n > bits))
		undefined |= EF_CF;
	if ((i->id == INSN_SHLD || i->id == INSN_SHRD) && bits == 16 && (by_cl || n > 16))
		undefined |= EF_ARITH; /* and the result with them */
	return undefined;
}
