/*
 * Host code, instruction by instruction: a typed emitter for the few x86-64 forms that the translator
 * puts around the guest's own instructions. None of those named "keeps flags" below changes a flag, for
 * the guest's arithmetic flags live in the host's.
 *
 * Memory of the monitor is reached as [gs + offset], gs being the vCPU's struct cpu: G(field).
 * Sources: SDM 2, chapters 2 and 3. One thread: the vCPU's. The caller has seen to it that there is room.
 */
#ifndef RINGSIDE_BT_EMIT_H
#define RINGSIDE_BT_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"

/* Host registers have the numbers of enum gpr. */
typedef uint8_t host_reg;

struct emitter {
	uint8_t *p;           /* where the next byte goes: the writable mapping */
	uint8_t *base;        /* writable start of the code cache; offsets are from here */
	uint32_t written;     /* host registers that code has changed since their bits were last cleared (emit_value) */
	bool slow_loop, slow_pext; /* the host's processor is slow at LOOP, at PEXT and PDEP (host.c) */
};

#define G(field) ((int32_t)offsetof(struct cpu, field))

/* `reg` is changed by what is emitted; and: it has, from here on, a value that somebody counts on (emit_intact). */
static inline void emit_changes(struct emitter *e, host_reg reg) { e->written |= 1u << reg; }
static inline void emit_value(struct emitter *e, host_reg reg) { e->written &= ~(1u << reg); }
/* Nothing that was emitted since has changed it? Else there is a bug in the translator. */
static inline bool emit_intact(const struct emitter *e, host_reg reg) { return !(e->written >> reg & 1); }

static inline uint32_t emit_offset(const struct emitter *e) { return (uint32_t)(e->p - e->base); }

static inline void emit8(struct emitter *e, unsigned b) { *e->p++ = (uint8_t)b; }

static inline void emit32(struct emitter *e, uint32_t v)
{
	__builtin_memcpy(e->p, &v, 4);
	e->p += 4;
}

static inline void emit64(struct emitter *e, uint64_t v)
{
	__builtin_memcpy(e->p, &v, 8);
	e->p += 8;
}

enum { OP_STORE8 = 0x88, OP_STORE = 0x89, OP_LOAD = 0x8b, OP_LEA = 0x8d, OP_LOOP = 0xe2, OP_JRCXZ = 0xe3 };

/* An operand in memory: [base + index * scale + disp], or [gs + disp + index * scale] with `gs`; with `cache`
 * what lies in the code cache at offset disp (no immediate may follow). */
struct host_mem {
	host_reg base, index; /* REG_NONE: none */
	uint8_t scale;        /* 1, 2, 4, 8 */
	bool gs, cache;
	bool disp32;          /* no displacement of one byte: EVEX counts that in units of its own */
	int32_t disp;
};

static inline struct host_mem mem_cache(uint32_t offset)
{
	return (struct host_mem){ .base = REG_NONE, .index = REG_NONE, .scale = 1, .cache = true, .disp = (int32_t)offset };
}

static inline struct host_mem mem_gs(int32_t disp)
{
	return (struct host_mem){ .base = REG_NONE, .index = REG_NONE, .scale = 1, .gs = true, .disp = disp };
}

static inline struct host_mem mem_gs_index(int32_t disp, host_reg index)
{
	return (struct host_mem){ .base = REG_NONE, .index = index, .scale = 8, .gs = true, .disp = disp };
}

static inline struct host_mem mem_at(host_reg base, int32_t disp)
{
	return (struct host_mem){ .base = base, .index = REG_NONE, .scale = 1, .disp = disp };
}

static inline struct host_mem mem_sum(host_reg base, host_reg index)
{
	return (struct host_mem){ .base = base, .index = index, .scale = 1 };
}

/* REX bits that a memory operand asks for: X and B. */
unsigned host_mem_rex(const struct host_mem *m);
/* ModRM, SIB and displacement; reg is the low three bits. */
void emit_modrm_mem(struct emitter *e, unsigned reg, const struct host_mem *m);
static inline void emit_modrm_reg(struct emitter *e, unsigned reg, unsigned rm)
{
	emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* One-byte opcodes with a register and a memory operand. size 2, 4, 8 (1: the opcode says so). Keeps flags
 * with the OP_ above. */
void emit_op_mem(struct emitter *e, unsigned op, unsigned size, host_reg reg, struct host_mem m);
static inline void emit_load(struct emitter *e, host_reg reg, struct host_mem m) { emit_op_mem(e, OP_LOAD, 8, reg, m); }
static inline void emit_load32(struct emitter *e, host_reg reg, struct host_mem m) { emit_op_mem(e, OP_LOAD, 4, reg, m); }
static inline void emit_store(struct emitter *e, host_reg reg, struct host_mem m) { emit_op_mem(e, OP_STORE, 8, reg, m); }
static inline void emit_lea(struct emitter *e, host_reg reg, struct host_mem m) { emit_op_mem(e, OP_LEA, 8, reg, m); }
static inline void emit_lea32(struct emitter *e, host_reg reg, struct host_mem m) { emit_op_mem(e, OP_LEA, 4, reg, m); }
void emit_load_byte(struct emitter *e, host_reg reg, struct host_mem m);       /* movzx r32, m8; keeps flags */
void emit_load_word(struct emitter *e, host_reg reg, struct host_mem m);       /* movzx r32, m16; keeps flags */
void emit_store_imm(struct emitter *e, unsigned size, struct host_mem m, int32_t imm); /* keeps flags */

void emit_mov(struct emitter *e, unsigned size, host_reg to, host_reg from); /* size 4, 8; keeps flags */
void emit_movzx8(struct emitter *e, host_reg to, host_reg from);             /* keeps flags */
void emit_movzx16(struct emitter *e, host_reg to, host_reg from);            /* keeps flags */
uint32_t emit_lea_rip(struct emitter *e, host_reg to); /* reg = what patch32 says for the offset that it returns; keeps flags */
void emit_mov_imm(struct emitter *e, host_reg reg, uint64_t imm);            /* keeps flags */
void emit_mov_imm64(struct emitter *e, host_reg reg, uint64_t imm);          /* the same with all 64 bits in the code */
/* rcx = minus_linear of a struct code_page + r10 + disp, always in the same bytes: LANDING_PAGE, LANDING_ADDED. Keeps flags. */
void emit_landing_sum(struct emitter *e, unsigned code_page, int32_t disp);
void emit_not(struct emitter *e, host_reg reg);                              /* size 8; keeps flags */

/* BMI2, size 8; keep flags. */
void emit_pext(struct emitter *e, host_reg to, host_reg from, struct host_mem mask);
void emit_pext_reg(struct emitter *e, host_reg to, host_reg from, host_reg mask);
void emit_pdep(struct emitter *e, host_reg to, host_reg from, struct host_mem mask);
void emit_pdep_reg(struct emitter *e, host_reg to, host_reg from, host_reg mask);
void emit_rorx(struct emitter *e, host_reg to, host_reg from, unsigned count);
enum shift { SHIFT_SHLX = 1, SHIFT_SARX = 2, SHIFT_SHRX = 3 };
void emit_shift_reg(struct emitter *e, enum shift shift, host_reg to, host_reg from, host_reg count);
void emit_shift_reg32(struct emitter *e, enum shift shift, host_reg to, host_reg from, host_reg count); /* size 4 */

/* Jumps. Those with a rel8 or rel32 give the place of the displacement, for patch_*. Keep flags. */
uint8_t *emit_jrcxz(struct emitter *e);
uint8_t *emit_jmp8(struct emitter *e);
/* What follows, a jump or call of `opcode` bytes and a rel32, can be patched while it runs: the rel32 is in one aligned
 * quadword (APM 2, 7.6.1). */
void emit_align_rel32(struct emitter *e, unsigned opcode);
uint32_t emit_jmp32(struct emitter *e);              /* offset of the displacement in the cache */
uint32_t emit_jcc32(struct emitter *e, unsigned cc);
uint32_t emit_call32(struct emitter *e);
uint8_t *emit_jcc8(struct emitter *e, unsigned cc);
void emit_jmp_to(struct emitter *e, uint32_t target); /* an offset in the cache */
void emit_call_to(struct emitter *e, uint32_t target);
void emit_jmp_mem(struct emitter *e, struct host_mem m);
void emit_call_mem(struct emitter *e, struct host_mem m);
void patch8(struct emitter *e, uint8_t *at); /* to here */
void patch32(uint8_t *base, uint32_t at, uint32_t target);

void emit_push(struct emitter *e, host_reg reg);
void emit_pop(struct emitter *e, host_reg reg);
void emit_push_mem(struct emitter *e, struct host_mem m);
void emit_pop_mem(struct emitter *e, struct host_mem m);
static inline void emit_ret(struct emitter *e) { emit8(e, 0xc3); }
static inline void emit_pushf(struct emitter *e) { emit8(e, 0x9c); }
static inline void emit_popf(struct emitter *e) { emit8(e, 0x9d); }
/* and, or, shl, shr r64, r/m64 or imm32: these change flags. */
void emit_and_imm(struct emitter *e, unsigned size, host_reg reg, int32_t imm);
enum { SHIFT_SHL = 4, SHIFT_SHR = 5 };
void emit_shift_imm(struct emitter *e, unsigned shift, host_reg reg, unsigned count); /* of 32 bits */
void emit_add_imm(struct emitter *e, host_reg reg, int32_t imm);
void emit_alu_reg(struct emitter *e, unsigned op, host_reg to, host_reg from);

#endif
