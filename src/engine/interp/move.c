/*
 * Moves, conversions and single flags. On the vCPU's thread.
 */
#include "engine/interp/interp.h"

enum x move_mov(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	TRY(operand_read(cpu, insn, 1, &v));
	return operand_write(cpu, insn, 0, v);
}

enum x move_movzx(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	TRY(operand_read(cpu, insn, 1, &v));
	operand_reg_write(cpu, &insn->operand[0], v);
	return X_OK;
}

enum x move_movsx(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	TRY(operand_read(cpu, insn, 1, &v));
	operand_reg_write(cpu, &insn->operand[0], (uint64_t)sign_extend(v, insn->operand[1].size));
	return X_OK;
}

enum x move_lea(struct cpu *cpu, const struct insn *insn)
{
	operand_reg_write(cpu, &insn->operand[0], mem_offset(cpu, insn, 0));
	return X_OK;
}

/* With memory always locked. */
enum x move_xchg(struct cpu *cpu, const struct insn *insn)
{
	unsigned mem = insn->operand[1].kind == OPERAND_MEM ? 1 : 0;
	struct rmw m;
	bool again;
	uint64_t v = operand_reg_read(cpu, &insn->operand[!mem]);
	TRY(rmw_begin(cpu, insn, mem, &m));
	do
		TRY(rmw_commit(cpu, &m, v, &again));
	while (again);
	operand_reg_write(cpu, &insn->operand[!mem], m.old);
	return X_OK;
}

enum x move_bswap(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *op = &insn->operand[0];
	uint64_t v = cpu->gpr[op->reg];
	if (op->size == 2) /* undefined by the manual; processors clear the register's 16 bits */
		reg_write(cpu, op->reg, 2, 0);
	else
		operand_reg_write(cpu, op, op->size == 8 ? __builtin_bswap64(v) : __builtin_bswap32((uint32_t)v));
	return X_OK;
}

enum x move_movbe(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	unsigned size = insn->operand[0].size;
	TRY(operand_read(cpu, insn, 1, &v));
	v = __builtin_bswap64(v) >> (64 - size * 8);
	return operand_write(cpu, insn, 0, v);
}

/* The source is read, and a 32-bit destination's upper half cleared, whatever the condition. */
enum x move_cmovcc(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *to = &insn->operand[0];
	uint64_t v;
	TRY(operand_read(cpu, insn, 1, &v));
	operand_reg_write(cpu, to, condition(insn->cc, cpu->rflags) ? v : operand_reg_read(cpu, to));
	return X_OK;
}

enum x move_setcc(struct cpu *cpu, const struct insn *insn)
{
	return operand_write(cpu, insn, 0, condition(insn->cc, cpu->rflags));
}

/* CBW, CWDE, CDQE */
enum x move_cbw(struct cpu *cpu, const struct insn *insn)
{
	reg_write(cpu, RAX, insn->opsize, (uint64_t)sign_extend(cpu->gpr[RAX], insn->opsize / 2));
	return X_OK;
}

/* CWD, CDQ, CQO */
enum x move_cwd(struct cpu *cpu, const struct insn *insn)
{
	reg_write(cpu, RDX, insn->opsize, sign_extend(cpu->gpr[RAX], insn->opsize) < 0 ? ~0ull : 0);
	return X_OK;
}

enum x move_xlat(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v, offset = (cpu->gpr[RBX] + (cpu->gpr[RAX] & 0xff)) & size_mask(insn->addrsize);
	TRY(mem_load(cpu, insn->seg_prefix == REG_NONE ? DS : insn->seg_prefix, offset, 1, &v));
	reg_write(cpu, RAX, 1, v);
	return X_OK;
}

enum x move_lahf(struct cpu *cpu, const struct insn *insn)
{
	if (insn->mode == 64 && !cpu_has(cpu, FEATURE_LAHF64))
		return cpu_raise(cpu, VEC_UD);
	cpu->gpr[RAX] = (cpu->gpr[RAX] & ~0xff00ull) | (cpu->rflags & 0xd5) << 8 | 0x200;
	return X_OK;
}

enum x move_sahf(struct cpu *cpu, const struct insn *insn)
{
	if (insn->mode == 64 && !cpu_has(cpu, FEATURE_LAHF64))
		return cpu_raise(cpu, VEC_UD);
	cpu->rflags = (cpu->rflags & ~0xd5ull) | (cpu->gpr[RAX] >> 8 & 0xd5);
	return X_OK;
}

enum x move_salc(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	reg_write(cpu, RAX, 1, cpu->rflags & EF_CF ? 0xff : 0);
	return X_OK;
}

enum x move_clc(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->rflags &= ~(uint64_t)EF_CF;
	return X_OK;
}

enum x move_stc(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->rflags |= EF_CF;
	return X_OK;
}

enum x move_cmc(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->rflags ^= EF_CF;
	return X_OK;
}

enum x move_cld(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->rflags &= ~(uint64_t)EF_DF;
	return X_OK;
}

enum x move_std(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->rflags |= EF_DF;
	return X_OK;
}

/* NOP in its many forms, prefetches, hints, fences (this processor's accesses are in order). */
enum x move_nop(struct cpu *cpu, const struct insn *insn)
{
	(void)cpu;
	(void)insn;
	return X_OK;
}

enum x move_fence(struct cpu *cpu, const struct insn *insn)
{
	(void)cpu;
	(void)insn;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return X_OK;
}

/* MOVDIR64B: 64 bytes from memory to ES:reg, which must be aligned. */
enum x move_movdir64b(struct cpu *cpu, const struct insn *insn)
{
	uint8_t buf[64];
	uint64_t from, to;
	TRY(mem_linear(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 64, ACCESS_READ, &from));
	TRY(mem_linear(cpu, ES, reg_read(cpu, insn->operand[0].reg, insn->addrsize), 64, ACCESS_WRITE, &to));
	if (to & 63)
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mmu_probe(cpu, to, 64, MMU_WRITE));
	TRY(mmu_read(cpu, from, buf, 64, MMU_READ));
	return mmu_write(cpu, to, buf, 64, MMU_WRITE);
}

/* CLZERO: the cache line of DS:rAX. */
enum x move_clzero(struct cpu *cpu, const struct insn *insn)
{
	static const uint8_t zeros[64];
	uint64_t to;
	unsigned seg = insn->seg_prefix == REG_NONE ? DS : insn->seg_prefix;
	TRY(mem_linear(cpu, seg, reg_read(cpu, RAX, insn->addrsize) & ~63ull, 64, ACCESS_WRITE, &to));
	return mmu_write(cpu, to & ~63ull, zeros, 64, MMU_WRITE);
}
