/*
 * Integer arithmetic, logic, shifts and bits. The work, and above all the flags, is done by the
 * host's instruction of the same name: what the manual calls undefined is what this processor does.
 * SDM 2; on the vCPU's thread, no state but the vCPU's.
 */
#include "engine/interp/interp.h"

typedef uint64_t alu_fn(uint64_t a, uint64_t b, unsigned size, uint64_t *flags);

#define BINARY_CASE(n, suffix, mod, op, constraint) \
	case n: \
		asm(LOAD_FLAGS op suffix " %" mod "[b], %" mod "[a]\n\t" SAVE_FLAGS \
		    : [a] "+" constraint(a), "+&a"(ax) \
		    : [b] constraint(b) \
		    : "cc"); \
		break;

#define BINARY(name, op) \
	static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		switch (size) { \
			BINARY_CASE(1, "b", "b", op, "r") \
			BINARY_CASE(2, "w", "w", op, "r") \
			BINARY_CASE(4, "l", "k", op, "r") \
			BINARY_CASE(8, "q", "q", op, "r") \
		} \
		*flags = flags_from_ax(*flags, ax); \
		return a; \
	}

BINARY(host_add, "add")
BINARY(host_adc, "adc")
BINARY(host_sub, "sub")
BINARY(host_sbb, "sbb")
BINARY(host_and, "and")
BINARY(host_or, "or")
BINARY(host_xor, "xor")
BINARY(host_cmp, "cmp")
BINARY(host_test, "test")

/* No byte form. */
#define BINARY_WIDE(name, op) \
	static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		switch (size) { \
			BINARY_CASE(2, "w", "w", op, "r") \
			BINARY_CASE(4, "l", "k", op, "r") \
			BINARY_CASE(8, "q", "q", op, "r") \
		} \
		*flags = flags_from_ax(*flags, ax); \
		return a; \
	}

BINARY_WIDE(host_imul, "imul")
BINARY_WIDE(host_bt, "bt")
BINARY_WIDE(host_bts, "bts")
BINARY_WIDE(host_btr, "btr")
BINARY_WIDE(host_btc, "btc")
BINARY_WIDE(host_bsf, "bsf") /* a: the destination before, which a source of 0 leaves */
BINARY_WIDE(host_bsr, "bsr")

#define UNARY_CASE(n, suffix, mod, op) \
	case n: \
		asm(LOAD_FLAGS op suffix " %" mod "[a]\n\t" SAVE_FLAGS : [a] "+r"(a), "+&a"(ax) : : "cc"); \
		break;

#define UNARY(name, op) \
	static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		(void)b; \
		switch (size) { \
			UNARY_CASE(1, "b", "b", op) \
			UNARY_CASE(2, "w", "w", op) \
			UNARY_CASE(4, "l", "k", op) \
			UNARY_CASE(8, "q", "q", op) \
		} \
		*flags = flags_from_ax(*flags, ax); \
		return a; \
	}

UNARY(host_inc, "inc")
UNARY(host_dec, "dec")
UNARY(host_neg, "neg")
UNARY(host_not, "not")

#define SHIFT_CASE(n, suffix, mod, op) \
	case n: \
		asm(LOAD_FLAGS op suffix " %%cl, %" mod "[a]\n\t" SAVE_FLAGS \
		    : [a] "+r"(a), "+&a"(ax) \
		    : "c"(b) \
		    : "cc"); \
		break;

#define SHIFT(name, op) \
	static uint64_t name(uint64_t a, uint64_t b, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		switch (size) { \
			SHIFT_CASE(1, "b", "b", op) \
			SHIFT_CASE(2, "w", "w", op) \
			SHIFT_CASE(4, "l", "k", op) \
			SHIFT_CASE(8, "q", "q", op) \
		} \
		*flags = flags_from_ax(*flags, ax); \
		return a; \
	}

SHIFT(host_shl, "shl")
SHIFT(host_shr, "shr")
SHIFT(host_sar, "sar")
SHIFT(host_rol, "rol")
SHIFT(host_ror, "ror")
SHIFT(host_rcl, "rcl")
SHIFT(host_rcr, "rcr")

#define DOUBLE_SHIFT_CASE(n, suffix, mod, op) \
	case n: \
		asm(LOAD_FLAGS op suffix " %%cl, %" mod "[b], %" mod "[a]\n\t" SAVE_FLAGS \
		    : [a] "+r"(a), "+&a"(ax) \
		    : [b] "r"(b), "c"(count) \
		    : "cc"); \
		break;

#define DOUBLE_SHIFT(name, op) \
	static uint64_t name(uint64_t a, uint64_t b, unsigned count, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		switch (size) { \
			DOUBLE_SHIFT_CASE(2, "w", "w", op) \
			DOUBLE_SHIFT_CASE(4, "l", "k", op) \
			DOUBLE_SHIFT_CASE(8, "q", "q", op) \
		} \
		*flags = flags_from_ax(*flags, ax); \
		return a; \
	}

DOUBLE_SHIFT(host_shld, "shld")
DOUBLE_SHIFT(host_shrd, "shrd")

uint64_t alu_flags_cmp(uint64_t a, uint64_t b, unsigned size, uint64_t flags)
{
	host_cmp(a, b, size, &flags);
	return flags;
}

/* ---- two operands ---- */

static inline enum x read_modify_write(struct cpu *cpu, const struct insn *insn, uint64_t src, alu_fn *fn)
{
	struct rmw m;
	TRY(rmw_begin(cpu, insn, 0, &m));
	uint64_t flags;
	bool again;
	do {
		flags = cpu->rflags;
		uint64_t result = fn(m.old, src, m.op->size, &flags);
		TRY(rmw_commit(cpu, &m, result, &again));
	} while (__builtin_expect(again, 0));
	cpu->rflags = flags;
	return X_OK;
}

#define ALU(name) \
	enum x alu_##name(struct cpu *cpu, const struct insn *insn) \
	{ \
		uint64_t src; \
		TRY(operand_read(cpu, insn, 1, &src)); \
		return read_modify_write(cpu, insn, src, host_##name); \
	}

ALU(add)
ALU(adc)
ALU(sub)
ALU(sbb)
ALU(and)
ALU(or)
ALU(xor)
/* Shifts and rotates: operand 1 is CL, 1 or an immediate. */
ALU(shl)
ALU(shr)
ALU(sar)
ALU(rol)
ALU(ror)
ALU(rcl)
ALU(rcr)

#define ALU_COMPARE(name) \
	enum x alu_##name(struct cpu *cpu, const struct insn *insn) \
	{ \
		uint64_t a, b; \
		TRY(operand_read(cpu, insn, 0, &a)); \
		TRY(operand_read(cpu, insn, 1, &b)); \
		host_##name(a, b, insn->operand[0].size, &cpu->rflags); \
		return X_OK; \
	}

ALU_COMPARE(cmp)
ALU_COMPARE(test)

#define ALU_UNARY(name) \
	enum x alu_##name(struct cpu *cpu, const struct insn *insn) \
	{ \
		return read_modify_write(cpu, insn, 0, host_##name); \
	}

ALU_UNARY(inc)
ALU_UNARY(dec)
ALU_UNARY(neg)
ALU_UNARY(not)

static enum x double_shift(struct cpu *cpu, const struct insn *insn,
			   uint64_t (*fn)(uint64_t, uint64_t, unsigned, unsigned, uint64_t *))
{
	struct rmw m;
	uint64_t src, count, flags = cpu->rflags;
	bool again;
	TRY(operand_read(cpu, insn, 1, &src));
	TRY(operand_read(cpu, insn, 2, &count));
	TRY(rmw_begin(cpu, insn, 0, &m));
	uint64_t result = fn(m.old, src, (unsigned)count & 0xff, m.op->size, &flags);
	TRY(rmw_commit(cpu, &m, result, &again));
	cpu->rflags = flags;
	return X_OK;
}

enum x alu_shld(struct cpu *cpu, const struct insn *insn)
{
	return double_shift(cpu, insn, host_shld);
}

enum x alu_shrd(struct cpu *cpu, const struct insn *insn)
{
	return double_shift(cpu, insn, host_shrd);
}

/* ---- bits ---- */

/* With a memory operand and a register offset the bit string is as long as the offset says. */
static enum x bit_op(struct cpu *cpu, const struct insn *insn, alu_fn *fn)
{
	struct rmw m;
	const struct operand *base = &insn->operand[0];
	unsigned size = base->size;
	uint64_t index, flags;
	bool again;
	TRY(operand_read(cpu, insn, 1, &index));
	if (base->kind == OPERAND_GPR)
		return fn == host_bt ? host_bt(operand_reg_read(cpu, base), index, size, &cpu->rflags), X_OK :
				       read_modify_write(cpu, insn, index, fn);

	uint64_t moved = 0;
	if (insn->operand[1].kind == OPERAND_GPR)
		moved = (uint64_t)((sign_extend(index, size) >> 3) & -(int64_t)size);
	uint64_t offset = mem_offset(cpu, insn, moved);
	index &= size * 8 - 1;
	if (fn == host_bt) {
		uint64_t v;
		TRY(mem_load(cpu, insn->mem_seg, offset, size, &v));
		host_bt(v, index, size, &cpu->rflags);
		return X_OK;
	}
	m.op = base;
	m.locked = insn->lock;
	TRY(rmw_begin_mem(cpu, insn->mem_seg, offset, size, &m));
	do {
		flags = cpu->rflags;
		uint64_t v = fn(m.old, index, size, &flags);
		TRY(rmw_commit_mem(cpu, &m, size, v, &again));
	} while (again);
	cpu->rflags = flags;
	return X_OK;
}

#define BIT_OP(name) \
	enum x alu_##name(struct cpu *cpu, const struct insn *insn) \
	{ \
		return bit_op(cpu, insn, host_##name); \
	}

BIT_OP(bt)
BIT_OP(bts)
BIT_OP(btr)
BIT_OP(btc)

static enum x bit_scan(struct cpu *cpu, const struct insn *insn, alu_fn *fn)
{
	const struct operand *to = &insn->operand[0];
	uint64_t src, flags = cpu->rflags;
	TRY(operand_read(cpu, insn, 1, &src));
	uint64_t v = fn(cpu->gpr[to->reg], src, to->size, &flags);
	if (src & size_mask(to->size))
		operand_reg_write(cpu, to, v);
	else
		cpu->gpr[to->reg] = v; /* whatever the host does to the upper half */
	cpu->rflags = flags;
	return X_OK;
}

enum x alu_bsf(struct cpu *cpu, const struct insn *insn)
{
	return bit_scan(cpu, insn, host_bsf);
}

enum x alu_bsr(struct cpu *cpu, const struct insn *insn)
{
	return bit_scan(cpu, insn, host_bsr);
}

/* ---- multiplication and division ---- */

#define MULDIV_CASE(n, mod, op) \
	case n: \
		asm("movl %[f], %%eax\n\t" LOAD_FLAGS "movq %[lo], %%rax\n\t" op " %" mod "[b]\n\t" \
		    "movq %%rax, %[lo]\n\t" SAVE_FLAGS "movl %%eax, %[f]" \
		    : [lo] "+&r"(*lo), "+&d"(*hi), [f] "+&r"(ax) \
		    : [b] "r"(b) \
		    : "rax", "cc"); \
		break;

#define MULDIV(name, op) \
	static void name(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size, uint64_t *flags) \
	{ \
		uint32_t ax = flags_to_ax(*flags); \
		switch (size) { \
			MULDIV_CASE(1, "b", op "b") \
			MULDIV_CASE(2, "w", op "w") \
			MULDIV_CASE(4, "k", op "l") \
			MULDIV_CASE(8, "q", op "q") \
		} \
		*flags = flags_from_ax(*flags, ax); \
	}

MULDIV(host_mul, "mul")
MULDIV(host_imul1, "imul")
MULDIV(host_div, "div")
MULDIV(host_idiv, "idiv")

typedef void muldiv_fn(uint64_t *lo, uint64_t *hi, uint64_t b, unsigned size, uint64_t *flags);

/* rAX and rDX as operands of one size; AX alone for bytes. */
static void muldiv(struct cpu *cpu, uint64_t b, unsigned size, muldiv_fn *fn)
{
	uint64_t lo = cpu->gpr[RAX], hi = cpu->gpr[RDX];
	fn(&lo, &hi, b, size, &cpu->rflags);
	if (size == 1) {
		reg_write(cpu, RAX, 2, lo);
		return;
	}
	reg_write(cpu, RAX, size, lo);
	reg_write(cpu, RDX, size, hi);
}

/* The one explicit operand of MUL, IMUL, DIV, IDIV, wherever the implicit ones are listed. */
static unsigned explicit_operand(const struct insn *insn)
{
	for (unsigned n = 0; n < insn->operand_count; n++)
		if (!insn->operand[n].implicit)
			return n;
	return 0;
}

enum x alu_mul(struct cpu *cpu, const struct insn *insn)
{
	unsigned n = explicit_operand(insn);
	uint64_t b;
	TRY(operand_read(cpu, insn, n, &b));
	muldiv(cpu, b, insn->operand[n].size, host_mul);
	return X_OK;
}

enum x alu_imul(struct cpu *cpu, const struct insn *insn)
{
	uint64_t a, b;
	if (insn->map == MAP_ONE_BYTE && (insn->opcode == 0xf6 || insn->opcode == 0xf7)) {
		unsigned n = explicit_operand(insn);
		TRY(operand_read(cpu, insn, n, &b));
		muldiv(cpu, b, insn->operand[n].size, host_imul1);
		return X_OK;
	}
	const struct operand *to = &insn->operand[0];
	if (insn->map == MAP_0F) {
		a = operand_reg_read(cpu, to);
		TRY(operand_read(cpu, insn, 1, &b));
	} else {
		TRY(operand_read(cpu, insn, 1, &a));
		b = (uint64_t)insn->imm;
	}
	operand_reg_write(cpu, to, host_imul(a, b, to->size, &cpu->rflags));
	return X_OK;
}

enum x alu_div(struct cpu *cpu, const struct insn *insn)
{
	unsigned n = explicit_operand(insn), size = insn->operand[n].size;
	uint64_t b;
	TRY(operand_read(cpu, insn, n, &b));
	uint64_t high = size == 1 ? cpu->gpr[RAX] >> 8 & 0xff : reg_read(cpu, RDX, size);
	if (high >= b) /* b = 0 as well */
		return cpu_raise(cpu, VEC_DE);
	muldiv(cpu, b, size, host_div);
	return X_OK;
}

static bool idiv_overflows(__int128 dividend, int64_t divisor, unsigned size)
{
	if (!divisor)
		return true;
	unsigned __int128 n = dividend < 0 ? -(unsigned __int128)dividend : (unsigned __int128)dividend;
	uint64_t d = divisor < 0 ? -(uint64_t)divisor : (uint64_t)divisor;
	bool negative = (dividend < 0) != (divisor < 0);
	unsigned __int128 limit = (1ull << (size * 8 - 1)) - !negative;
	return n / d > limit;
}

enum x alu_idiv(struct cpu *cpu, const struct insn *insn)
{
	unsigned n = explicit_operand(insn), size = insn->operand[n].size;
	uint64_t b;
	__int128 dividend;
	TRY(operand_read(cpu, insn, n, &b));
	if (size == 1)
		dividend = (int16_t)cpu->gpr[RAX];
	else if (size == 8)
		dividend = (__int128)((unsigned __int128)cpu->gpr[RDX] << 64 | cpu->gpr[RAX]);
	else
		dividend = sign_extend(reg_read(cpu, RDX, size) << size * 8 | reg_read(cpu, RAX, size), size * 2);
	if (idiv_overflows(dividend, sign_extend(b, size), size))
		return cpu_raise(cpu, VEC_DE);
	muldiv(cpu, b, size, host_idiv);
	return X_OK;
}

/* ---- decimal: not in 64-bit mode, so there is no host instruction to ask ---- */

static void set_szp(struct cpu *cpu, uint8_t al)
{
	uint64_t f = cpu->rflags & ~(uint64_t)(EF_SF | EF_ZF | EF_PF);
	if (al & 0x80)
		f |= EF_SF;
	if (!al)
		f |= EF_ZF;
	if (!(__builtin_popcount(al) & 1))
		f |= EF_PF;
	cpu->rflags = f;
}

static void set_flag(struct cpu *cpu, uint64_t flag, bool on)
{
	cpu->rflags = on ? cpu->rflags | flag : cpu->rflags & ~flag;
}

static enum x decimal_adjust(struct cpu *cpu, bool subtract)
{
	uint8_t al = (uint8_t)cpu->gpr[RAX], old = al;
	bool cf = cpu->rflags & EF_CF, carry = false;
	bool low = (al & 0xf) > 9 || (cpu->rflags & EF_AF);
	if (low) {
		carry = cf || (subtract ? al < 6 : al > 0xff - 6);
		al = subtract ? al - 6 : al + 6;
	}
	if (old > 0x99 || cf) {
		al = subtract ? al - 0x60 : al + 0x60;
		carry = true;
	}
	reg_write(cpu, RAX, 1, al);
	set_flag(cpu, EF_AF, low);
	set_flag(cpu, EF_CF, carry);
	set_flag(cpu, EF_OF, false);
	set_szp(cpu, al);
	return X_OK;
}

enum x alu_daa(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return decimal_adjust(cpu, false);
}

enum x alu_das(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return decimal_adjust(cpu, true);
}

static enum x ascii_adjust(struct cpu *cpu, bool subtract)
{
	uint16_t ax = (uint16_t)cpu->gpr[RAX];
	bool adjust = (ax & 0xf) > 9 || (cpu->rflags & EF_AF);
	if (adjust)
		ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
	ax &= 0xff0f;
	reg_write(cpu, RAX, 2, ax);
	set_flag(cpu, EF_AF, adjust);
	set_flag(cpu, EF_CF, adjust);
	set_flag(cpu, EF_OF, false);
	set_szp(cpu, (uint8_t)ax);
	return X_OK;
}

enum x alu_aaa(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return ascii_adjust(cpu, false);
}

enum x alu_aas(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return ascii_adjust(cpu, true);
}

enum x alu_aam(struct cpu *cpu, const struct insn *insn)
{
	uint8_t base = (uint8_t)insn->imm, al = (uint8_t)cpu->gpr[RAX];
	if (!base)
		return cpu_raise(cpu, VEC_DE);
	reg_write(cpu, RAX, 2, (uint64_t)(al / base) << 8 | al % base);
	set_szp(cpu, al % base);
	cpu->rflags &= ~(uint64_t)(EF_CF | EF_AF | EF_OF);
	return X_OK;
}

enum x alu_aad(struct cpu *cpu, const struct insn *insn)
{
	uint8_t base = (uint8_t)insn->imm;
	uint8_t al = (uint8_t)(cpu->gpr[RAX] + (cpu->gpr[RAX] >> 8 & 0xff) * base);
	reg_write(cpu, RAX, 2, al);
	set_szp(cpu, al);
	cpu->rflags &= ~(uint64_t)(EF_CF | EF_AF | EF_OF);
	return X_OK;
}

/* ---- exchanges ---- */

enum x alu_xadd(struct cpu *cpu, const struct insn *insn)
{
	struct rmw m;
	uint64_t src, flags;
	bool again;
	TRY(operand_read(cpu, insn, 1, &src));
	TRY(rmw_begin(cpu, insn, 0, &m));
	if (m.op->kind == OPERAND_GPR) { /* XADD r, r with both the same: the sum stays */
		flags = cpu->rflags;
		uint64_t sum = host_add(m.old, src, m.op->size, &flags);
		operand_reg_write(cpu, &insn->operand[1], m.old);
		operand_reg_write(cpu, m.op, sum);
		cpu->rflags = flags;
		return X_OK;
	}
	do {
		flags = cpu->rflags;
		uint64_t sum = host_add(m.old, src, m.op->size, &flags);
		TRY(rmw_commit(cpu, &m, sum, &again));
	} while (again);
	operand_reg_write(cpu, &insn->operand[1], m.old);
	cpu->rflags = flags;
	return X_OK;
}

enum x alu_cmpxchg(struct cpu *cpu, const struct insn *insn)
{
	struct rmw m;
	unsigned size = insn->operand[0].size;
	uint64_t src, flags, expected = reg_read(cpu, RAX, size);
	bool again, equal;
	TRY(operand_read(cpu, insn, 1, &src));
	TRY(rmw_begin(cpu, insn, 0, &m));
	do {
		equal = (m.old & size_mask(size)) == expected;
		flags = alu_flags_cmp(expected, m.old, size, cpu->rflags);
		if (!equal && m.op->kind == OPERAND_GPR) {
			/* a 32-bit destination is written with itself only when it is memory */
			again = false;
			continue;
		}
		TRY(rmw_commit(cpu, &m, equal ? src : m.old, &again));
	} while (again);
	if (!equal)
		reg_write(cpu, RAX, size, m.old);
	cpu->rflags = flags;
	return X_OK;
}

static enum x cmpxchg16b(struct cpu *cpu, const struct insn *insn)
{
	uint64_t linear, old[2], rax = cpu->gpr[RAX], rdx = cpu->gpr[RDX];
	void *p;
	bool equal;
	uint64_t offset = mem_offset(cpu, insn, 0);
	if ((insn->mem_seg >= FS ? offset + cpu->seg[insn->mem_seg].base : offset) & 15) /* before #SS */
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mem_linear(cpu, insn->mem_seg, offset, 16, ACCESS_READ_WRITE, &linear));
	TRY(mmu_writable_pointer(cpu, linear, 16, &p));
	if (p) {
		asm volatile("lock cmpxchg16b %1"
			     : "=@ccz"(equal), "+m"(*(uint8_t (*)[16])p), "+a"(rax), "+d"(rdx)
			     : "b"(cpu->gpr[RBX]), "c"(cpu->gpr[RCX])
			     : "memory");
	} else {
		TRY(mmu_probe(cpu, linear, 16, MMU_WRITE));
		TRY(mmu_read(cpu, linear, old, 16, MMU_READ));
		equal = old[0] == rax && old[1] == rdx;
		uint64_t v[2] = { equal ? cpu->gpr[RBX] : old[0], equal ? cpu->gpr[RCX] : old[1] };
		TRY(mmu_write(cpu, linear, v, 16, MMU_WRITE));
		rax = old[0];
		rdx = old[1];
	}
	if (!equal) {
		cpu->gpr[RAX] = rax;
		cpu->gpr[RDX] = rdx;
	}
	set_flag(cpu, EF_ZF, equal);
	return X_OK;
}

enum x alu_cmpxchg8b(struct cpu *cpu, const struct insn *insn)
{
	struct rmw m = { .op = &insn->operand[insn->mem_index_of < 0 ? 0 : insn->mem_index_of], .locked = insn->lock };
	bool again, equal;
	if (insn->operand[0].size == 16)
		return cmpxchg16b(cpu, insn);
	uint64_t expected = cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX];
	uint64_t wanted = cpu->gpr[RCX] << 32 | (uint32_t)cpu->gpr[RBX];
	TRY(rmw_begin_mem(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 8, &m));
	do {
		equal = m.old == expected;
		TRY(rmw_commit_mem(cpu, &m, 8, equal ? wanted : m.old, &again));
	} while (again);
	if (!equal) {
		cpu->gpr[RAX] = (uint32_t)m.old;
		cpu->gpr[RDX] = m.old >> 32;
	}
	set_flag(cpu, EF_ZF, equal);
	return X_OK;
}

enum x alu_cmpxchg16b(struct cpu *cpu, const struct insn *insn)
{
	return cmpxchg16b(cpu, insn);
}
