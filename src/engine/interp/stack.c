/*
 * The stack: PUSH, POP and their kin, ENTER, LEAVE, flags on the stack, segment registers.
 * SDM 2; SDM 3B 20.2 (virtual-8086 mode extensions). On the vCPU's thread.
 */
#include "engine/interp/interp.h"

enum x stack_op_push(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	if (insn->operand[0].kind == OPERAND_SREG)
		v = cpu->seg[insn->operand[0].reg].selector;
	else
		TRY(operand_read(cpu, insn, 0, &v));
	return guest_push(cpu, insn->opsize, v);
}

static enum x pop_sreg(struct cpu *cpu, const struct insn *insn)
{
	enum sreg s = insn->operand[0].reg;
	uint64_t v, rsp = cpu->gpr[RSP];
	TRY(guest_pop(cpu, insn->opsize, &v));
	uint64_t popped = cpu->gpr[RSP];
	cpu->gpr[RSP] = rsp;
	unsigned bits = cpu_stack_bits(cpu); /* of the stack popped from, should this be POP SS */
	TRY(segment_load(cpu, s, (uint16_t)v));
	reg_write(cpu, RSP, bits / 8, popped);
	if (s == SS)
		cpu->mov_ss_shadow = true;
	return X_OK;
}

enum x stack_op_pop(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v, rsp = cpu->gpr[RSP];
	if (insn->operand[0].kind == OPERAND_SREG)
		return pop_sreg(cpu, insn);
	TRY(guest_pop(cpu, insn->opsize, &v));
	/* an address made from RSP uses its new value; POP RSP overwrites it */
	enum x x = operand_write(cpu, insn, 0, v);
	if (x != X_OK)
		cpu->gpr[RSP] = rsp;
	return x;
}

enum x stack_op_pusha(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	uint64_t sp = cpu->gpr[RSP];
	for (unsigned r = RAX; r <= RDI; r++) {
		sp = (sp - size) & stack_mask(cpu);
		TRY(mem_store(cpu, SS, sp, size, cpu->gpr[r]));
	}
	stack_set(cpu, sp);
	return X_OK;
}

enum x stack_op_popa(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	uint64_t sp = cpu->gpr[RSP], v[8];
	for (unsigned r = 0; r < 8; r++, sp += size)
		TRY(mem_load(cpu, SS, sp & stack_mask(cpu), size, &v[r]));
	for (unsigned r = 0; r < 8; r++)
		if (7 - r != RSP)
			reg_write(cpu, 7 - r, size, v[r]);
	stack_set(cpu, sp);
	return X_OK;
}

/* In virtual-8086 mode with IOPL < 3: 16-bit forms may use the virtual interrupt flag (CR4.VME). */
static bool v86_restricted(const struct cpu *cpu)
{
	return cpu->mode == MODE_V8086 && (cpu->rflags & RFLAGS_IOPL) != RFLAGS_IOPL;
}

enum x stack_op_pushf(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v = cpu->rflags & ~(uint64_t)(RFLAGS_RF | RFLAGS_VM);
	if (v86_restricted(cpu)) {
		if (!(cpu->cr4 & CR4_VME) || insn->opsize != 2)
			return cpu_raise_error(cpu, VEC_GP, 0);
		v = (v & ~(uint64_t)RFLAGS_IF) | RFLAGS_IOPL | (cpu->rflags & RFLAGS_VIF ? RFLAGS_IF : 0);
	}
	return guest_push(cpu, insn->opsize, v);
}

static enum x popf_vme(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v, rsp = cpu->gpr[RSP];
	if (!(cpu->cr4 & CR4_VME) || insn->opsize != 2)
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(guest_pop(cpu, 2, &v));
	if ((v & RFLAGS_TF) || ((v & RFLAGS_IF) && (cpu->rflags & RFLAGS_VIP))) {
		cpu->gpr[RSP] = rsp;
		return cpu_raise_error(cpu, VEC_GP, 0);
	}
	uint64_t kept = RFLAGS_IF | RFLAGS_IOPL;
	cpu->rflags = (cpu->rflags & (~0xffffull | kept)) | (v & 0xffff & RFLAGS_ALL & ~kept) | RFLAGS_FIXED;
	cpu->rflags &= ~(uint64_t)(RFLAGS_VIF | RFLAGS_RF);
	if (v & RFLAGS_IF)
		cpu->rflags |= RFLAGS_VIF;
	return X_OK;
}

enum x stack_op_popf(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	if (v86_restricted(cpu))
		return popf_vme(cpu, insn);
	TRY(guest_pop(cpu, insn->opsize, &v));
	cpu_write_rflags_user(cpu, v, insn->opsize);
	cpu->rflags &= ~(uint64_t)RFLAGS_RF;
	return X_OK;
}

enum x stack_op_enter(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->opsize, level = insn->imm2 & 31;
	uint64_t mask = stack_mask(cpu), sp = cpu->gpr[RSP], bp = cpu->gpr[RBP], v;
	sp = (sp - size) & mask;
	TRY(mem_store(cpu, SS, sp, size, bp));
	uint64_t frame = sp;
	for (unsigned i = 1; i < level; i++) {
		bp -= size;
		sp = (sp - size) & mask;
		TRY(mem_load(cpu, SS, bp & mask, size, &v));
		TRY(mem_store(cpu, SS, sp, size, v));
	}
	if (level) {
		sp = (sp - size) & mask;
		TRY(mem_store(cpu, SS, sp, size, frame));
	}
	sp = (sp - (uint16_t)insn->imm) & mask;
	/* the new top of the stack must be writable */
	uint64_t linear;
	TRY(mem_linear(cpu, SS, sp, 1, ACCESS_WRITE, &linear));
	TRY(mmu_probe(cpu, linear, 1, MMU_WRITE));
	/* RBP takes as many bytes of the frame's address as the operand size says */
	uint64_t old_sp_high = cpu->gpr[RSP] & ~mask;
	reg_write(cpu, RBP, size, frame | (cpu_stack_bits(cpu) == 16 ? old_sp_high & ~0xffffull : 0));
	stack_set(cpu, sp);
	return X_OK;
}

enum x stack_op_leave(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v, sp = cpu->gpr[RBP] & stack_mask(cpu);
	TRY(mem_load(cpu, SS, sp, insn->opsize, &v));
	stack_set(cpu, sp + insn->opsize);
	reg_write(cpu, RBP, insn->opsize, v);
	return X_OK;
}

/* ---- segment registers ---- */

enum x stack_mov_sreg(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
	uint64_t v;
	if (to->kind == OPERAND_SREG) {
		if (to->reg == CS || to->reg >= SREG_COUNT)
			return cpu_raise(cpu, VEC_UD);
		TRY(operand_read(cpu, insn, 1, &v));
		TRY(segment_load(cpu, to->reg, (uint16_t)v));
		if (to->reg == SS)
			cpu->mov_ss_shadow = true;
		return X_OK;
	}
	if (from->reg >= SREG_COUNT)
		return cpu_raise(cpu, VEC_UD);
	v = cpu->seg[from->reg].selector;
	if (to->kind == OPERAND_GPR)
		reg_write(cpu, to->reg, to->size > 2 ? to->size : insn->opsize, v);
	else
		return mem_store(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 2, v);
	return X_OK;
}

/* LDS LES LFS LGS LSS: offset, then selector. */
enum x stack_load_far(struct cpu *cpu, const struct insn *insn)
{
	enum sreg s = insn->id == INSN_LDS ? DS : insn->id == INSN_LES ? ES : insn->id == INSN_LFS ? FS :
		      insn->id == INSN_LGS ? GS : SS;
	uint64_t offset, selector, mask = size_mask(insn->addrsize), ea = mem_offset(cpu, insn, 0);
	TRY(mem_load(cpu, insn->mem_seg, ea, insn->opsize, &offset));
	TRY(mem_load(cpu, insn->mem_seg, (ea + insn->opsize) & mask, 2, &selector));
	TRY(segment_load(cpu, s, (uint16_t)selector));
	reg_write(cpu, insn->operand[0].reg, insn->opsize, offset);
	return X_OK;
}
