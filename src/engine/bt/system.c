/*
 * Reads and writes of system registers that are done in place: selectors, FS and GS bases, control
 * registers. Each function translates one kind of instruction, or returns false: then what it emitted is
 * taken back, and the interpreter does the instruction.
 *
 * That the mode allows the instruction has been seen to (allowed in translate.c), but for what is not of
 * the table's flags. Sources: SDM 2, MOV, MOV CR, RDFSBASE, WRFSBASE. vCPU's thread, under the cache's lock.
 */
#include "engine/bt/bt.h"

static int32_t segment_field(unsigned seg, size_t field)
{
	return G(seg) + (int32_t)(seg * sizeof(struct segment) + field);
}

/* guest register = r11 or its own host register, which has been loaded and extended to 64 bits */
static host_reg result_register(unsigned guest) { return host_of[guest] == HOST_NONE ? R11 : host_of[guest]; }

static void emit_result(struct translator *t, unsigned guest, unsigned size)
{
	if (host_of[guest] == HOST_NONE)
		emit_op_mem(t->e, OP_STORE, size == 2 ? 2 : 8, R11, mem_gs(G(gpr) + (int32_t)guest * 8));
}

/* MOV from a segment register. */
static bool read_selector(struct translator *t, const struct insn *i)
{
	const struct operand *to = &i->operand[0], *from = &i->operand[1];
	struct emitter *e = t->e;
	struct host_mem m, selector;

	if (from->kind != OPERAND_SREG || from->reg >= SREG_COUNT)
		return false;
	selector = mem_gs(segment_field(from->reg, offsetof(struct segment, selector)));
	if (to->kind == OPERAND_MEM) {
		if (!access_operand(t, i, TLB_WRITE, 2, &m))
			return false;
		emit_load_word(e, R11, selector);
		emit_op_mem(e, OP_STORE, 2, R11, m);
		return true;
	}
	if (to->size == 2)
		emit_op_mem(e, OP_LOAD, 2, result_register(to->reg), selector);
	else
		emit_load_word(e, result_register(to->reg), selector);
	emit_result(t, to->reg, to->size);
	return true;
}

/* MOV from CR0, CR2, CR3, CR4. */
static bool read_control(struct translator *t, const struct insn *i)
{
	const struct operand *to = &i->operand[0], *from = &i->operand[1];
	static const int32_t offset[] = { [0] = G(cr0), [2] = G(cr2), [3] = G(cr3), [4] = G(cr4) };

	if (to->kind != OPERAND_GPR || from->kind != OPERAND_CR || from->reg > 4 || from->reg == 1)
		return false;
	emit_op_mem(t->e, OP_LOAD, i->mode == 64 ? 8 : 4, result_register(to->reg), mem_gs(offset[from->reg]));
	emit_result(t, to->reg, 8);
	return true;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: an address that is not canonical is the interpreter's. */
static bool segment_base(struct translator *t, const struct insn *i)
{
	bool fs = i->id == INSN_RDFSBASE || i->id == INSN_WRFSBASE, read = i->id == INSN_RDFSBASE || i->id == INSN_RDGSBASE;
	struct host_mem base = mem_gs(segment_field(fs ? FS : GS, offsetof(struct segment, base)));
	unsigned guest = i->operand[0].reg;
	struct emitter *e = t->e;

	if (!(t->key & KEY_FSGSBASE) || (i->opsize != 4 && i->opsize != 8))
		return false;
	if (read) {
		emit_op_mem(e, OP_LOAD, i->opsize, result_register(guest), base);
		emit_result(t, guest, 8);
		return true;
	}
	emit_mov(e, i->opsize, R10, guest_value(t, guest, R10));
	if (i->opsize == 8)
		emit_canonical_check(t, i);
	emit_store(e, R10, base);
	return true;
}

bool system_emit(struct translator *t, const struct insn *i)
{
	switch (i->id) {
	case INSN_MOV_SREG: return read_selector(t, i);
	case INSN_MOV_CR: return read_control(t, i);
	case INSN_RDFSBASE:
	case INSN_RDGSBASE:
	case INSN_WRFSBASE:
	case INSN_WRGSBASE: return segment_base(t, i);
	default: return false;
	}
}
