/*
 * Inside the interpreter: how handlers reach registers, memory, the stack and flags.
 *
 * A handler does one instruction, or fails without having changed any state (X_FAULT, X_EXIT). It
 * sees cpu->rip at the instruction; on X_OK the caller moves it past the instruction, on X_JUMP
 * the handler has set it (a REP that is not done yet leaves it where it is).
 * All runs on the vCPU's thread. No libc memory functions here: they may use vector registers, in
 * which the guest's state may be live.
 */
#ifndef RINGSIDE_INTERP_H
#define RINGSIDE_INTERP_H

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/engine.h"
#include "mem/memory.h"

typedef enum x interp_fn(struct cpu *cpu, const struct insn *insn);
#define X_JUMP ((enum x)3)

/* One handler an id; those without one run on the host (host_execute) or are #UD. */
extern interp_fn *const interp_handlers[INSN_COUNT];
#define HANDLER(id, fn) interp_fn fn;
#include "engine/interp/handlers.def"
#undef HANDLER

/* x87, MMX, SSE, AVX, AVX-512, BMI and whatever else is the host's own: vector.c */
interp_fn vector_execute;

static inline bool is_canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* ---- registers ---- */

static inline uint64_t size_mask(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << size * 8) - 1;
}

static inline int64_t sign_extend(uint64_t v, unsigned size)
{
	switch (size) {
	case 1: return (int8_t)v;
	case 2: return (int16_t)v;
	case 4: return (int32_t)v;
	default: return (int64_t)v;
	}
}

static inline uint64_t reg_read(const struct cpu *cpu, unsigned reg, unsigned size)
{
	return cpu->gpr[reg] & size_mask(size);
}

/* 32-bit writes clear the upper half, smaller ones leave the rest. */
static inline void reg_write(struct cpu *cpu, unsigned reg, unsigned size, uint64_t v)
{
	switch (size) {
	case 8: cpu->gpr[reg] = v; break;
	case 4: cpu->gpr[reg] = (uint32_t)v; break;
	case 2: cpu->gpr[reg] = (cpu->gpr[reg] & ~0xffffull) | (uint16_t)v; break;
	default: cpu->gpr[reg] = (cpu->gpr[reg] & ~0xffull) | (uint8_t)v; break;
	}
}

static inline uint64_t operand_reg_read(const struct cpu *cpu, const struct operand *op)
{
	if (__builtin_expect(op->high8, 0))
		return cpu->gpr[op->reg] >> 8 & 0xff;
	return reg_read(cpu, op->reg, op->size);
}

static inline void operand_reg_write(struct cpu *cpu, const struct operand *op, uint64_t v)
{
	if (__builtin_expect(op->high8, 0))
		cpu->gpr[op->reg] = (cpu->gpr[op->reg] & ~0xff00ull) | (v & 0xff) << 8;
	else
		reg_write(cpu, op->reg, op->size, v);
}

/* Address of the next instruction, wrapped as the mode wraps it. */
static inline uint64_t next_rip(const struct cpu *cpu, const struct insn *insn)
{
	uint64_t next = cpu->rip + insn->len;
	return insn->mode == 64 ? next : (uint32_t)next;
}

/* ---- memory ---- */

/* Misaligned host addresses are fine: these are single moves. */
static inline uint64_t host_load(const void *p, unsigned size)
{
	uint64_t v;
	switch (size) {
	case 1: asm volatile("movzbl %1, %k0" : "=r"(v) : "m"(*(const uint8_t (*)[1])p)); return v;
	case 2: asm volatile("movzwl %1, %k0" : "=r"(v) : "m"(*(const uint8_t (*)[2])p)); return v;
	case 4: asm volatile("movl %1, %k0" : "=r"(v) : "m"(*(const uint8_t (*)[4])p)); return v;
	default: asm volatile("movq %1, %0" : "=r"(v) : "m"(*(const uint8_t (*)[8])p)); return v;
	}
}

static inline void host_store(void *p, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: asm volatile("movb %b1, %0" : "=m"(*(uint8_t (*)[1])p) : "q"(v)); break;
	case 2: asm volatile("movw %w1, %0" : "=m"(*(uint8_t (*)[2])p) : "r"(v)); break;
	case 4: asm volatile("movl %k1, %0" : "=m"(*(uint8_t (*)[4])p) : "r"(v)); break;
	default: asm volatile("movq %1, %0" : "=m"(*(uint8_t (*)[8])p) : "r"(v)); break;
	}
}

static inline void copy_bytes(void *to, const void *from, size_t n)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void zero_bytes(void *to, size_t n)
{
	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

/* Offset of the memory operand in its segment. `moved` is added before it wraps at the address size. */
static inline uint64_t mem_offset(const struct cpu *cpu, const struct insn *insn, uint64_t moved)
{
	uint64_t ea = (uint64_t)insn->mem_disp + moved;
	if (insn->mem_base < GPR_COUNT)
		ea += cpu->gpr[insn->mem_base];
	else if (insn->mem_base == REG_RIP)
		ea += next_rip(cpu, insn);
	if (insn->mem_index < GPR_COUNT && !insn->mem_vsib)
		ea += cpu->gpr[insn->mem_index] * insn->mem_scale;
	if (insn->addrsize == 8)
		return ea;
	return insn->addrsize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

/* Host address of a TLB hit, NULL otherwise. */
static inline void *tlb_hit(struct cpu *cpu, enum tlb_kind kind, uint64_t linear, unsigned size)
{
	return mmu_tlb_hit(cpu, linear, size, cpu->tlb_mode, kind);
}

/* Alignment checks may apply: the slow way looks closer. (Pages with data breakpoints are not in the TLB.) */
static inline bool access_watched(const struct cpu *cpu)
{
	return (cpu->rflags & RFLAGS_AC) && cpu->cpl == 3;
}

#define FLAT_MASK (SEG_P | SEG_S | SEG_CODE | SEG_EXPAND_DOWN | SEG_WRITABLE)
#define FLAT_DATA (SEG_P | SEG_S | SEG_WRITABLE)

/* True, and *linear, for accesses that need no segment checks: 64-bit mode, and flat data segments of
 * 4 GiB. Addresses that are not canonical, or go beyond the end, are not excluded: such accesses
 * never hit the TLB, and the slow way looks again. */
static inline bool flat_linear(const struct cpu *cpu, unsigned seg, uint64_t offset, uint64_t *linear)
{
	const struct segment *s = &cpu->seg[seg];
	if (__builtin_expect(access_watched(cpu), 0))
		return false;
	if (__builtin_expect(cpu->mode == MODE_LONG, 1)) {
		*linear = seg >= FS ? offset + s->base : offset;
		return true;
	}
	*linear = offset;
	return s->base == 0 && s->limit == UINT32_MAX && (s->attr & FLAT_MASK) == FLAT_DATA && cpu->mode != MODE_V8086;
}

/* Segment and alignment checks of a data access at seg:offset. */
enum x mem_linear(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, unsigned access, uint64_t *linear);
enum x mem_load_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t *v);
enum x mem_store_slow(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t v);

static inline enum x mem_load(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t *v)
{
	uint64_t linear;
	if (__builtin_expect(flat_linear(cpu, seg, offset, &linear), 1)) {
		const void *p = tlb_hit(cpu, TLB_READ, linear, size);
		if (__builtin_expect(p != NULL, 1)) {
			*v = host_load(p, size);
			return X_OK;
		}
	}
	return mem_load_slow(cpu, seg, offset, size, v);
}

static inline enum x mem_store(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, uint64_t v)
{
	uint64_t linear;
	if (__builtin_expect(flat_linear(cpu, seg, offset, &linear), 1)) {
		void *p = tlb_hit(cpu, TLB_WRITE, linear, size);
		if (__builtin_expect(p != NULL, 1)) {
			host_store(p, size, v);
			return X_OK;
		}
	}
	return mem_store_slow(cpu, seg, offset, size, v);
}

/* ---- operands: register, memory or immediate, of 1 to 8 bytes ---- */

static inline enum x operand_read(struct cpu *cpu, const struct insn *insn, unsigned n, uint64_t *v)
{
	const struct operand *op = &insn->operand[n];
	switch (op->kind) {
	case OPERAND_GPR:
		*v = operand_reg_read(cpu, op);
		return X_OK;
	case OPERAND_MEM:
		return mem_load(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), op->size, v);
	default:
		*v = (uint64_t)insn->imm;
		return X_OK;
	}
}

static inline enum x operand_write(struct cpu *cpu, const struct insn *insn, unsigned n, uint64_t v)
{
	const struct operand *op = &insn->operand[n];
	if (op->kind == OPERAND_GPR) {
		operand_reg_write(cpu, op, v);
		return X_OK;
	}
	return mem_store(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), op->size, v);
}

/*
 * Read-modify-write of a register or memory operand: begin reads `old`, having made sure that the
 * write cannot fault; commit writes, atomically when `locked`. *again: another processor was
 * faster, `old` is new, compute again.
 */
struct rmw {
	const struct operand *op;
	void *hva;       /* RAM; NULL: a register, or I/O or two pages at `linear` */
	uint64_t linear;
	uint64_t old;
	bool locked;
};
enum x rmw_begin_mem(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size, struct rmw *m);
enum x rmw_commit_mem(struct cpu *cpu, struct rmw *m, unsigned size, uint64_t v, bool *again);

static inline enum x rmw_begin(struct cpu *cpu, const struct insn *insn, unsigned n, struct rmw *m)
{
	m->op = &insn->operand[n];
	if (m->op->kind == OPERAND_GPR) {
		m->old = operand_reg_read(cpu, m->op);
		return X_OK;
	}
	m->locked = insn->lock || insn->id == INSN_XCHG;
	return rmw_begin_mem(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), m->op->size, m);
}

static inline enum x rmw_commit(struct cpu *cpu, struct rmw *m, uint64_t v, bool *again)
{
	*again = false;
	if (m->op->kind == OPERAND_GPR) {
		operand_reg_write(cpu, m->op, v);
		return X_OK;
	}
	return rmw_commit_mem(cpu, m, m->op->size, v, again);
}

/* ---- stack ---- */

static inline uint64_t stack_mask(const struct cpu *cpu)
{
	return size_mask(cpu_stack_bits(cpu) / 8);
}

static inline void stack_set(struct cpu *cpu, uint64_t rsp)
{
	reg_write(cpu, RSP, cpu_stack_bits(cpu) / 8, rsp);
}

/* RSP moves only when the access succeeds. */
static inline enum x guest_push(struct cpu *cpu, unsigned size, uint64_t v)
{
	uint64_t sp = (cpu->gpr[RSP] - size) & stack_mask(cpu);
	TRY(mem_store(cpu, SS, sp, size, v));
	stack_set(cpu, sp);
	return X_OK;
}

static inline enum x guest_pop(struct cpu *cpu, unsigned size, uint64_t *v)
{
	uint64_t sp = cpu->gpr[RSP] & stack_mask(cpu);
	TRY(mem_load(cpu, SS, sp, size, v));
	stack_set(cpu, sp + size);
	return X_OK;
}

/* ---- flags ---- */

static inline bool condition(unsigned cc, uint64_t f)
{
	bool r;
	switch (cc >> 1) {
	case 0: r = f & EF_OF; break;
	case 1: r = f & EF_CF; break;
	case 2: r = f & EF_ZF; break;
	case 3: r = f & (EF_CF | EF_ZF); break;
	case 4: r = f & EF_SF; break;
	case 5: r = f & EF_PF; break;
	case 6: r = !(f & EF_SF) != !(f & EF_OF); break;
	default: r = (f & EF_ZF) || !(f & EF_SF) != !(f & EF_OF); break;
	}
	return r != (cc & 1);
}

/* Flags as LAHF and SETO give them in AX, and back: how host flags travel in and out of asm. */
static inline uint32_t flags_to_ax(uint64_t f)
{
	return (uint32_t)((f & 0xd5) << 8 | (f >> 11 & 1));
}

static inline uint64_t flags_from_ax(uint64_t f, uint32_t ax)
{
	return (f & ~(uint64_t)EF_ARITH) | (ax >> 8 & 0xd5) | (uint64_t)(ax & 1) << 11;
}
#define LOAD_FLAGS "addb $127, %%al\n\tsahf\n\t"
#define SAVE_FLAGS "lahf\n\tseto %%al\n\t"

uint64_t alu_flags_cmp(uint64_t a, uint64_t b, unsigned size, uint64_t flags);

/* #GP(0) unless `target` may be jumped to; sets rip: X_JUMP. */
enum x jump_near(struct cpu *cpu, uint64_t target, unsigned opsize);

#endif
