/*
 * The disassembler: struct insn to one line of Intel syntax, for logs, dumps and test output.
 * Pure, any thread; writes nothing past the buffer it is given.
 */
#include "cpu/decode_table.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct text {
	char *buf;
	size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	if (t->len + 1 >= t->size)
		return;
	va_list args;
	va_start(args, format);
	int n = vsnprintf(t->buf + t->len, t->size - t->len, format, args);
	va_end(args);
	if (n > 0)
		t->len += (size_t)n < t->size - t->len ? (size_t)n : t->size - t->len - 1;
}

#define CONDITIONS(p) \
	{ p "o", p "no", p "b", p "ae", p "e", p "ne", p "be", p "a", p "s", p "ns", p "p", p "np", p "l", p "ge", \
	  p "le", p "g" }

/* Names that depend on a size of 1, 2, 4 or 8 bytes. */
static const struct {
	uint16_t id;
	bool by_operand; /* by the size of a string element; else by operand size */
	const char *name[4];
} sized_names[] = {
	{ INSN_MOVS, true, { "movsb", "movsw", "movsd", "movsq" } },
	{ INSN_CMPS, true, { "cmpsb", "cmpsw", "cmpsd", "cmpsq" } },
	{ INSN_STOS, true, { "stosb", "stosw", "stosd", "stosq" } },
	{ INSN_LODS, true, { "lodsb", "lodsw", "lodsd", "lodsq" } },
	{ INSN_SCAS, true, { "scasb", "scasw", "scasd", "scasq" } },
	{ INSN_INS, true, { "insb", "insw", "insd", "insd" } },
	{ INSN_OUTS, true, { "outsb", "outsw", "outsd", "outsd" } },
	{ INSN_CBW, false, { "", "cbw", "cwde", "cdqe" } },
	{ INSN_CWD, false, { "", "cwd", "cdq", "cqo" } },
	{ INSN_PUSHF, false, { "", "pushf", "pushfd", "pushfq" } },
	{ INSN_POPF, false, { "", "popf", "popfd", "popfq" } },
	{ INSN_PUSHA, false, { "", "pusha", "pushad", "" } },
	{ INSN_POPA, false, { "", "popa", "popad", "" } },
	{ INSN_IRET, false, { "", "iret", "iretd", "iretq" } },
	{ INSN_FXSAVE, false, { "", "fxsave", "fxsave", "fxsave64" } },
	{ INSN_FXRSTOR, false, { "", "fxrstor", "fxrstor", "fxrstor64" } },
	{ INSN_XSAVE, false, { "", "xsave", "xsave", "xsave64" } },
	{ INSN_XSAVEC, false, { "", "xsavec", "xsavec", "xsavec64" } },
	{ INSN_XSAVEOPT, false, { "", "xsaveopt", "xsaveopt", "xsaveopt64" } },
	{ INSN_XSAVES, false, { "", "xsaves", "xsaves", "xsaves64" } },
	{ INSN_XRSTOR, false, { "", "xrstor", "xrstor", "xrstor64" } },
	{ INSN_XRSTORS, false, { "", "xrstors", "xrstors", "xrstors64" } },
};

static unsigned size_log2(unsigned size)
{
	return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

const char *insn_mnemonic(const struct insn *insn)
{
	static const char *const j[16] = CONDITIONS("j"), *const set[16] = CONDITIONS("set"),
				 *const cmov[16] = CONDITIONS("cmov");
	switch (insn->id) {
	case INSN_JCC:
		return j[insn->cc & 15];
	case INSN_SETCC:
		return set[insn->cc & 15];
	case INSN_CMOVCC:
		return cmov[insn->cc & 15];
	case INSN_JCXZ:
		return insn->addrsize == 2 ? "jcxz" : insn->addrsize == 4 ? "jecxz" : "jrcxz";
	}
	for (unsigned i = 0; i < sizeof(sized_names) / sizeof(sized_names[0]); i++)
		if (sized_names[i].id == insn->id) {
			unsigned size = insn->operand[insn->id == INSN_OUTS].size;
			return sized_names[i].name[size_log2(sized_names[i].by_operand ? size : insn->opsize)];
		}
	return insn_desc(insn)->name;
}

static void put_gpr(struct text *t, unsigned reg, unsigned size, bool high8)
{
	static const char *const legacy[8] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
	static const char *const low[8] = { "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil" };
	static const char *const high[4] = { "ah", "ch", "dh", "bh" };
	if (high8)
		put(t, "%s", high[reg & 3]);
	else if (reg >= 8)
		put(t, "r%u%s", reg, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
	else if (size == 1)
		put(t, "%s", low[reg]);
	else
		put(t, "%s%s", size == 2 ? "" : size == 4 ? "e" : "r", legacy[reg]);
}

static const char *const sreg_names[SREG_COUNT] = { "es", "cs", "ss", "ds", "fs", "gs" };

static const char *pointer_name(unsigned size)
{
	switch (size) {
	case 1: return "byte ptr ";
	case 2: return "word ptr ";
	case 4: return "dword ptr ";
	case 6: return "fword ptr ";
	case 8: return "qword ptr ";
	case 10: return "tbyte ptr ";
	case 16: return "xmmword ptr ";
	case 32: return "ymmword ptr ";
	case 64: return "zmmword ptr ";
	default: return "";
	}
}

static void put_memory(struct text *t, const struct insn *insn, const struct operand *o, uint64_t next)
{
	put(t, "%s", pointer_name(o->size));
	if (insn->seg_prefix != REG_NONE && insn->mem_seg < SREG_COUNT)
		put(t, "%s:", sreg_names[insn->mem_seg]);
	put(t, "[");
	if (insn->mem_base == REG_RIP) {
		uint64_t address = next + insn->mem_disp;
		put(t, "rip%s0x%" PRIx64 "] ; 0x%" PRIx64, insn->mem_disp < 0 ? "-" : "+",
		    insn->mem_disp < 0 ? -(uint64_t)insn->mem_disp : (uint64_t)insn->mem_disp,
		    insn->addrsize == 4 ? (uint32_t)address : address);
		return;
	}
	const char *plus = "";
	if (insn->mem_base != REG_NONE) {
		put_gpr(t, insn->mem_base, insn->addrsize, false);
		plus = "+";
	}
	if (insn->mem_index != REG_NONE) {
		put(t, "%s", plus);
		if (insn->mem_vsib)
			put(t, "%cmm%u", "xyz"[insn->vector_bytes >> 5], insn->mem_index);
		else
			put_gpr(t, insn->mem_index, insn->addrsize, false);
		if (insn->mem_scale > 1)
			put(t, "*%u", insn->mem_scale);
		plus = "+";
	}
	if (!*plus)
		put(t, "0x%" PRIx64, insn->addrsize == 2 ? (uint16_t)insn->mem_disp :
		    insn->addrsize == 4 ? (uint32_t)insn->mem_disp : (uint64_t)insn->mem_disp);
	else if (insn->mem_disp < 0)
		put(t, "-0x%" PRIx64, -(uint64_t)insn->mem_disp);
	else if (insn->mem_disp > 0)
		put(t, "+0x%" PRIx64, (uint64_t)insn->mem_disp);
	put(t, "]");
	if (insn->evex_b)
		put(t, "{1to%u}", o->size ? insn->vector_bytes / o->size : 0);
}

/* What an implicit string operand is reached by. */
static void put_string_memory(struct text *t, const struct insn *insn, const struct operand *o, bool source)
{
	put(t, "%s%s:[", pointer_name(o->size), source ? sreg_names[insn->mem_seg % SREG_COUNT] : "es");
	put_gpr(t, source ? RSI : RDI, insn->addrsize, false);
	put(t, "]");
}

static void put_operand(struct text *t, const struct insn *insn, unsigned n, uint64_t next)
{
	const struct operand *o = &insn->operand[n];
	unsigned bits = o->size * 8;
	uint64_t target = next + insn->imm;
	switch (o->kind) {
	case OPERAND_GPR:
		put_gpr(t, o->reg, o->size, o->high8);
		break;
	case OPERAND_SREG:
		put(t, "%s", sreg_names[o->reg % SREG_COUNT]);
		break;
	case OPERAND_CR:
		put(t, "cr%u", o->reg);
		break;
	case OPERAND_DR:
		put(t, "dr%u", o->reg);
		break;
	case OPERAND_ST:
		put(t, "st(%u)", o->reg);
		break;
	case OPERAND_MMX:
		put(t, "mm%u", o->reg);
		break;
	case OPERAND_VEC:
		put(t, "%cmm%u", o->size == 64 ? 'z' : o->size == 32 ? 'y' : 'x', o->reg);
		break;
	case OPERAND_MASK:
		put(t, "k%u", o->reg);
		break;
	case OPERAND_MEM:
		if (n == (unsigned)insn->mem_index_of)
			put_memory(t, insn, o, next);
		else
			put_string_memory(t, insn, o, operand_rules[decode_rows[insn->row].operand[n] & 0xff].where ==
							      AT_STRING_SRC);
		break;
	case OPERAND_IMM: {
		bool second = insn->imm_size == 3 || (n && insn->operand[n - 1].kind == OPERAND_IMM);
		uint64_t value = second && n == insn->operand_count - 1u ? insn->imm2 : (uint64_t)insn->imm;
		if (insn->opsize < 8 && bits < 64)
			value &= insn->opsize == 2 ? 0xffff : 0xffffffff;
		put(t, "0x%" PRIx64, value);
		break;
	}
	case OPERAND_REL:
		if (insn->mode != 64)
			target = insn->opsize == 2 ? (uint16_t)target : (uint32_t)target;
		put(t, "0x%" PRIx64, target);
		break;
	case OPERAND_FAR:
		put(t, "0x%x:0x%" PRIx64, insn->imm2, (uint64_t)insn->imm);
		break;
	}
}

/* Implicit operands that assembly leaves out: CMPXCHG's accumulator, ST(0) beside memory. */
static bool operand_hidden(const struct insn *insn, unsigned n)
{
	const struct operand *o = &insn->operand[n];
	return n && o->implicit && (insn->id == INSN_CMPXCHG || (o->kind == OPERAND_ST && insn->mem_index_of == 0));
}

void insn_disassemble(const struct insn *insn, uint64_t rip, char *buf, size_t size)
{
	struct text t = { buf, size, 0 };
	if (size == 0)
		return;
	buf[0] = 0;
	if (insn->id == INSN_INVALID || insn->row >= insn_desc_count) {
		put(&t, "(bad)");
		return;
	}
	const struct insn_desc *desc = insn_desc(insn);
	if (insn->lock)
		put(&t, "lock ");
	if (desc->flags & INSN_STRING && (insn->rep || insn->repne))
		put(&t, "%s ", insn->repne ? "repne" : insn->id == INSN_CMPS || insn->id == INSN_SCAS ? "repe" : "rep");
	put(&t, "%s", insn_mnemonic(insn));
	for (unsigned i = 0; i < insn->operand_count; i++) {
		if (operand_hidden(insn, i))
			continue;
		put(&t, i ? ", " : " ");
		put_operand(&t, insn, i, rip + insn->len);
		if (i == 0 && insn->evex_aaa)
			put(&t, "{k%u}%s", insn->evex_aaa, insn->evex_z ? "{z}" : "");
	}
}
