/*
 * Control transfer: near branches here, far ones through transfer.c. On the vCPU's thread.
 * SDM 2; SDM 3A 5.8, 6.12.
 */
#include "engine/interp/interp.h"

enum x jump_near(struct cpu *cpu, uint64_t target, unsigned opsize)
{
	target &= size_mask(opsize);
	if (cpu->mode == MODE_LONG ? !is_canonical(target) : target > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	cpu->rip = target;
	return X_JUMP;
}

static enum x jump_relative(struct cpu *cpu, const struct insn *insn)
{
	return jump_near(cpu, next_rip(cpu, insn) + (uint64_t)insn->imm, insn->opsize);
}

enum x branch_jmp(struct cpu *cpu, const struct insn *insn)
{
	uint64_t target;
	if (insn->operand[0].kind == OPERAND_REL)
		return jump_relative(cpu, insn);
	TRY(operand_read(cpu, insn, 0, &target));
	return jump_near(cpu, target, insn->opsize);
}

enum x branch_call(struct cpu *cpu, const struct insn *insn)
{
	uint64_t target, back = next_rip(cpu, insn), rip = cpu->rip;
	if (insn->operand[0].kind == OPERAND_REL)
		target = back + (uint64_t)insn->imm;
	else
		TRY(operand_read(cpu, insn, 0, &target));
	enum x x = jump_near(cpu, target, insn->opsize);
	if (x != X_JUMP)
		return x;
	x = guest_push(cpu, insn->opsize, back);
	if (x != X_OK) {
		cpu->rip = rip;
		return x;
	}
	return X_JUMP;
}

enum x branch_ret(struct cpu *cpu, const struct insn *insn)
{
	uint64_t target, rsp = cpu->gpr[RSP];
	TRY(guest_pop(cpu, insn->opsize, &target));
	enum x x = jump_near(cpu, target, insn->opsize);
	if (x != X_JUMP)
		cpu->gpr[RSP] = rsp;
	else if (insn->imm_size)
		stack_set(cpu, cpu->gpr[RSP] + (uint16_t)insn->imm);
	return x;
}

enum x branch_jcc(struct cpu *cpu, const struct insn *insn)
{
	if (!condition(insn->cc, cpu->rflags))
		return X_OK;
	return jump_relative(cpu, insn);
}

enum x branch_jcxz(struct cpu *cpu, const struct insn *insn)
{
	if (reg_read(cpu, RCX, insn->addrsize))
		return X_OK;
	return jump_relative(cpu, insn);
}

/* LOOP, LOOPE, LOOPNE */
enum x branch_loop(struct cpu *cpu, const struct insn *insn)
{
	uint64_t count = (cpu->gpr[RCX] - 1) & size_mask(insn->addrsize);
	bool taken = count;
	if (insn->id == INSN_LOOPE)
		taken = taken && (cpu->rflags & EF_ZF);
	else if (insn->id == INSN_LOOPNE)
		taken = taken && !(cpu->rflags & EF_ZF);
	enum x x = taken ? jump_relative(cpu, insn) : X_OK;
	if (x == X_OK || x == X_JUMP)
		reg_write(cpu, RCX, insn->addrsize, count);
	return x;
}

/* ---- far ---- */

static enum x jumped(enum x x)
{
	return x == X_OK ? X_JUMP : x;
}

static enum x far_pointer(struct cpu *cpu, const struct insn *insn, uint16_t *selector, uint64_t *offset)
{
	if (insn->operand[0].kind == OPERAND_FAR) {
		*selector = (uint16_t)insn->imm2;
		*offset = (uint64_t)insn->imm & size_mask(insn->opsize);
		return X_OK;
	}
	uint64_t s, ea = mem_offset(cpu, insn, 0);
	TRY(mem_load(cpu, insn->mem_seg, ea, insn->opsize, offset));
	TRY(mem_load(cpu, insn->mem_seg, (ea + insn->opsize) & size_mask(insn->addrsize), 2, &s));
	*selector = (uint16_t)s;
	return X_OK;
}

enum x branch_jmp_far(struct cpu *cpu, const struct insn *insn)
{
	uint16_t selector;
	uint64_t offset;
	TRY(far_pointer(cpu, insn, &selector, &offset));
	return jumped(transfer_far_jmp(cpu, selector, offset, insn->opsize, next_rip(cpu, insn)));
}

enum x branch_call_far(struct cpu *cpu, const struct insn *insn)
{
	uint16_t selector;
	uint64_t offset;
	TRY(far_pointer(cpu, insn, &selector, &offset));
	return jumped(transfer_far_call(cpu, selector, offset, insn->opsize, next_rip(cpu, insn)));
}

enum x branch_ret_far(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_far_ret(cpu, insn->opsize, insn->imm_size ? (uint16_t)insn->imm : 0));
}

enum x branch_iret(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_iret(cpu, insn->opsize, next_rip(cpu, insn)));
}

enum x branch_int(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_int(cpu, EVENT_SOFT_INT, (uint8_t)insn->imm, next_rip(cpu, insn)));
}

enum x branch_int3(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_int(cpu, EVENT_SOFT_EXCEPTION, VEC_BP, next_rip(cpu, insn)));
}

enum x branch_into(struct cpu *cpu, const struct insn *insn)
{
	if (!(cpu->rflags & EF_OF))
		return X_OK;
	return jumped(transfer_int(cpu, EVENT_SOFT_EXCEPTION, VEC_OF, next_rip(cpu, insn)));
}

enum x branch_int1(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_int(cpu, EVENT_ICEBP, VEC_DB, next_rip(cpu, insn)));
}

enum x branch_bound(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	uint64_t low, high, ea = mem_offset(cpu, insn, 0);
	int64_t index = sign_extend(cpu->gpr[insn->operand[0].reg], size);
	TRY(mem_load(cpu, insn->mem_seg, ea, size, &low));
	TRY(mem_load(cpu, insn->mem_seg, (ea + size) & size_mask(insn->addrsize), size, &high));
	if (index < sign_extend(low, size) || index > sign_extend(high, size))
		return cpu_raise(cpu, VEC_BR);
	return X_OK;
}

enum x branch_syscall(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_syscall(cpu, next_rip(cpu, insn)));
}

enum x branch_sysret(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_sysret(cpu, insn->opsize));
}

enum x branch_sysenter(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return jumped(transfer_sysenter(cpu));
}

enum x branch_sysexit(struct cpu *cpu, const struct insn *insn)
{
	return jumped(transfer_sysexit(cpu, insn->opsize));
}
