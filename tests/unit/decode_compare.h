/*
 * One decoding by Ringside against one by Zydis: validity, length, mnemonic, operands. For the tests
 * decode_zydis and decode_kernel. Where the two may differ, and why, is the list in decode_excused.
 */
#ifndef RINGSIDE_TESTS_DECODE_COMPARE_H
#define RINGSIDE_TESTS_DECODE_COMPARE_H

#include <Zydis/Zydis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/insn.h"

struct zydis_one {
	bool ok;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

static ZydisDecoder zydis_decoders[3];

static ZydisDecoder *zydis_decoder(unsigned mode)
{
	return &zydis_decoders[mode == 64 ? 2 : mode == 32 ? 1 : 0];
}

/* MPX and CET off: without them their opcodes are NOPs or undefined, as on the CPU that Ringside's
 * CPUID declares. WBNOINVD on: the decoder names it, execution asks CPUID. */
static void zydis_setup(void)
{
	ZydisDecoderInit(&zydis_decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&zydis_decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&zydis_decoders[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < 3; i++) {
		ZydisDecoderEnableMode(&zydis_decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&zydis_decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&zydis_decoders[i], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
	}
}

static void zydis_decode(struct zydis_one *z, const uint8_t *bytes, size_t size, unsigned mode)
{
	z->ok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(zydis_decoder(mode), bytes, size, &z->insn,
						    z->operand));
}

static void zydis_text(const struct zydis_one *z, char *buf, size_t size)
{
	static ZydisFormatter formatter;
	static bool ready;
	if (!ready)
		ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ready = true;
	snprintf(buf, size, "(bad)");
	if (z->ok)
		ZydisFormatterFormatInstruction(&formatter, &z->insn, z->operand, z->insn.operand_count_visible, buf,
						size, ZYDIS_RUNTIME_ADDRESS_NONE, NULL);
}

static bool same_mnemonic(const struct insn *insn, const struct zydis_one *z)
{
	static const char *const cc[16] = { "o", "no", "b", "nb", "z", "nz", "be", "nbe",
					    "s", "ns", "p", "np", "l", "nl", "le", "nle" };
	const char *name = ZydisMnemonicGetString(z->insn.mnemonic);
	char buf[32];
	switch (insn->id) {
	case INSN_JCC:
	case INSN_SETCC:
	case INSN_CMOVCC:
		snprintf(buf, sizeof(buf), "%s%s", insn_desc(insn)->name, cc[insn->cc]);
		return !strcmp(name, buf);
	case INSN_CALL_FAR:
		return !strcmp(name, "call") && z->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case INSN_JMP_FAR:
		return !strcmp(name, "jmp") && z->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case INSN_RET_FAR:
		return !strcmp(name, "ret") && z->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	case INSN_CALL:
	case INSN_JMP:
	case INSN_RET:
		if (z->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			return false;
	}
	return !strcmp(name, insn_mnemonic(insn));
}

/* Zydis's register as kind, number, size in bytes. */
static void zydis_register(ZydisRegister reg, unsigned *kind, unsigned *number, unsigned *size, bool *high8)
{
	*number = ZydisRegisterGetId(reg);
	*size = ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8;
	*high8 = false;
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		*kind = OPERAND_GPR;
		*high8 = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
		if (*high8)
			*number = reg - ZYDIS_REGISTER_AH;
		else if (reg >= ZYDIS_REGISTER_SPL)
			*number = reg - ZYDIS_REGISTER_SPL + 4;
		else
			*number = reg - ZYDIS_REGISTER_AL;
		break;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		*kind = OPERAND_GPR;
		break;
	case ZYDIS_REGCLASS_X87:
		*kind = OPERAND_ST;
		break;
	case ZYDIS_REGCLASS_MMX:
		*kind = OPERAND_MMX;
		break;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
		*kind = OPERAND_VEC;
		break;
	case ZYDIS_REGCLASS_SEGMENT:
		*kind = OPERAND_SREG;
		break;
	case ZYDIS_REGCLASS_CONTROL:
		*kind = OPERAND_CR;
		break;
	case ZYDIS_REGCLASS_DEBUG:
		*kind = OPERAND_DR;
		break;
	case ZYDIS_REGCLASS_MASK:
		*kind = OPERAND_MASK;
		break;
	default:
		*kind = reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP ? OPERAND_NONE : 99;
		*number = REG_RIP;
	}
}

static bool same_address_register(unsigned ours, ZydisRegister theirs)
{
	unsigned kind, number, size;
	bool high8;
	if (theirs == ZYDIS_REGISTER_NONE)
		return ours == REG_NONE;
	zydis_register(theirs, &kind, &number, &size, &high8);
	return ours == number;
}

static const char *different_memory(const struct insn *insn, const struct operand *o, const ZydisDecodedOperand *z)
{
	unsigned kind, number, size;
	bool high8;
	if (o->size && o->size * 8 != z->size)
		return "memory size";
	if (!same_address_register(insn->mem_base, z->mem.base))
		return "base";
	if (!same_address_register(insn->mem_index, z->mem.index))
		return "index";
	if (insn->mem_index != REG_NONE && insn->mem_scale != z->mem.scale)
		return "scale";
	int64_t disp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
	/* beyond the address size neither says anything */
	unsigned unused = 64 - insn->addrsize * 8;
	if ((uint64_t)disp << unused != (uint64_t)insn->mem_disp << unused)
		return "displacement";
	if (insn->mem_vsib != (z->mem.type == ZYDIS_MEMOP_TYPE_VSIB))
		return "vsib";
	zydis_register(z->mem.segment, &kind, &number, &size, &high8);
	if (z->mem.type != ZYDIS_MEMOP_TYPE_AGEN && insn->mem_seg != number)
		return "segment";
	return NULL;
}

static const char *different_immediate(const struct insn *insn, const struct operand *o, unsigned nth,
				       const ZydisDecodedOperand *z)
{
	if (o->kind != (z->imm.is_relative ? OPERAND_REL : OPERAND_IMM))
		return "immediate kind";
	uint64_t ours = nth ? insn->imm2 : (uint64_t)insn->imm, theirs = z->imm.value.u;
	unsigned bits = o->kind == OPERAND_REL ? 64 : insn->opsize * 8;
	if (o->implicit || insn->operand[0].size == 1)
		bits = 8;
	if (bits < 64) {
		ours &= (1ull << bits) - 1;
		theirs &= (1ull << bits) - 1;
	}
	return ours == theirs ? NULL : "immediate";
}

static const char *different_access(const struct operand *o, const ZydisDecodedOperand *z)
{
	unsigned access = 0;
	if (z->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		access |= ACCESS_READ;
	if (z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		access |= ACCESS_WRITE;
	if ((o->access & 3) == ACCESS_NONE)
		return NULL;
	return (o->access & 3) == access ? NULL : "access";
}

/* NULL when equal, else what is different. */
static const char *different_operands(const struct insn *insn, const struct zydis_one *z)
{
	if (insn->id == INSN_NOP)
		return NULL; /* what a NOP has for operands is anybody's choice */
	static const uint16_t string_ids[] = { INSN_MOVS, INSN_CMPS, INSN_STOS, INSN_LODS,
					       INSN_SCAS, INSN_INS,  INSN_OUTS };
	for (unsigned i = 0; i < sizeof(string_ids) / sizeof(string_ids[0]); i++)
		if (insn->id == string_ids[i])
			return NULL; /* by mnemonic: all their operands are hidden ones to Zydis */
	unsigned n = 0, immediates = 0;
	for (unsigned i = 0; i < z->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *theirs = &z->operand[i];
		if (theirs->encoding == ZYDIS_OPERAND_ENCODING_MASK) {
			unsigned k = theirs->reg.value - ZYDIS_REGISTER_K0;
			if (k != insn->evex_aaa)
				return "mask";
			continue;
		}
		if (n >= insn->operand_count)
			return "operand count";
		const struct operand *ours = &insn->operand[n++];
		const char *difference = different_access(ours, theirs);
		unsigned kind, number, size;
		bool high8;
		switch (theirs->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			zydis_register(theirs->reg.value, &kind, &number, &size, &high8);
			if (ours->kind != kind)
				return "operand kind";
			if (ours->reg != number || ours->high8 != high8)
				return "register";
			if ((kind == OPERAND_GPR || kind == OPERAND_VEC) && ours->size != size)
				return "register size";
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (ours->kind != OPERAND_MEM)
				return "operand kind";
			if (!difference)
				difference = different_memory(insn, ours, theirs);
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			if (ours->kind != OPERAND_FAR || insn->imm2 != theirs->ptr.segment ||
			    (uint64_t)insn->imm != theirs->ptr.offset)
				return "far pointer";
			break;
		default:
			if (ours->kind != OPERAND_IMM && ours->kind != OPERAND_REL)
				return "operand kind";
			if (!difference)
				difference = different_immediate(insn, ours, immediates++, theirs);
		}
		if (difference)
			return difference;
	}
	while (n < insn->operand_count && insn->operand[n].implicit)
		n++; /* hidden ones to Zydis */
	return n == insn->operand_count ? NULL : "operand count";
}

static const char *different(enum decode_result result, const struct insn *insn, const struct zydis_one *z)
{
	if ((result == DECODE_OK) != z->ok)
		return "validity";
	if (!z->ok)
		return NULL;
	if (insn->len != z->insn.length)
		return "length";
	if (!same_mnemonic(insn, z))
		return "mnemonic";
	return different_operands(insn, z);
}

#include "decode_excused.h"

static void print_difference(const char *what, const uint8_t *bytes, unsigned size, unsigned mode,
			     enum decode_result result, const struct insn *insn, const struct zydis_one *z)
{
	char ours[160] = "(bad)", theirs[160];
	if (result == DECODE_OK)
		insn_disassemble(insn, 0, ours, sizeof(ours));
	zydis_text(z, theirs, sizeof(theirs));
	printf("# %s, %u-bit:", what, mode);
	for (unsigned i = 0; i < size; i++)
		printf(" %02x", bytes[i]);
	printf("\n#   Ringside: %s (%u)\n#   Zydis:    %s (%u)\n", ours, result == DECODE_OK ? insn->len : 0, theirs,
	       z->ok ? z->insn.length : 0);
}

#endif
