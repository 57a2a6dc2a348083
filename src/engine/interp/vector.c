/*
 * x87, MMX, SSE, AVX, AVX-512, and integer instructions of that age (BMI, CRC32, ...): the host runs
 * them itself, in stubs (stub.c) on the guest's live state. Here: their memory operands, and what
 * the host raises. Accesses that depend on a mask are in masked.c.
 *
 * Order: everything that can fault first, then the instruction, then its store. A store that goes
 * to I/O memory may have to be tried again, so the state from before the instruction is kept then.
 * SDM 1 8.7 (x87 exceptions), 11.5 (SIMD); SDM 2. vCPU's thread, no locks.
 */
#include <stdlib.h>

#include "engine/interp/masked.h"
#include "engine/interp/stub.h"

#define OPERAND_MAX 128 /* the largest: FNSAVE's 108 */

static enum x raise_as_host(struct cpu *cpu, int vector)
{
	switch (vector) {
	case VEC_MF:
		return cpu_raise(cpu, VEC_MF);
	case VEC_XM:
		return cpu_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
	case VEC_UD:
		return cpu_raise(cpu, VEC_UD);
	default: /* LDMXCSR of reserved bits, a misaligned operand */
		return cpu_raise_error(cpu, VEC_GP, 0);
	}
}

static enum x no_stub(struct cpu *cpu, bool no_memory)
{
	if (!no_memory)
		return cpu_raise(cpu, VEC_UD);
	cpu->exit = (struct exit){ .reason = EXIT_ERROR, .error = "no memory for the interpreter's host code" };
	return X_EXIT;
}

static void load_registers(const struct cpu *cpu, uint16_t set, struct stub_context *c)
{
	for (; set; set &= set - 1) {
		unsigned g = (unsigned)__builtin_ctz(set);
		c->gpr[g] = cpu->gpr[g];
	}
	c->flags = (cpu->rflags & EF_ARITH) | RFLAGS_FIXED | RFLAGS_IF;
}

static void store_registers(struct cpu *cpu, const struct insn *insn, uint16_t set, const struct stub_context *c)
{
	const struct insn_desc *d = insn_desc(insn);
	for (; set; set &= set - 1) {
		unsigned g = (unsigned)__builtin_ctz(set);
		cpu->gpr[g] = c->gpr[g];
	}
	if (d->eflags_read | d->eflags_written | d->eflags_undefined)
		cpu->rflags = (cpu->rflags & ~(uint64_t)EF_ARITH) | (c->flags & EF_ARITH);
}

static bool touches_vector_state(const struct insn *insn)
{
	return insn_desc(insn)->flags & (INSN_X87 | INSN_MMX | INSN_SSE | INSN_AVX | INSN_AVX512);
}

enum x vector_run(struct cpu *cpu, const struct insn *insn, void *memory, struct stub_context *c)
{
	bool no_memory;
	const struct stub *s = stub_get(insn, &no_memory);
	if (!s)
		return no_stub(cpu, no_memory);
	load_registers(cpu, stub_registers(s), c);
	c->memory = memory;
	if (touches_vector_state(insn))
		cpu_fpu_enter(cpu);
	int vector = stub_run(s, c);
	fpu_leave_at_once(cpu);
	return vector < 0 ? X_OK : raise_as_host(cpu, vector);
}

void vector_commit(struct cpu *cpu, const struct insn *insn, const struct stub_context *c)
{
	bool no_memory;
	const struct stub *s = stub_get(insn, &no_memory); /* just used: it is there */
	if (s)
		store_registers(cpu, insn, stub_registers(s), c);
}

/* ---- memory operands ---- */

/* FNSTENV and FNSAVE would show addresses of our own in the instruction and data pointers. */
static void hide_pointers(const struct insn *insn, uint8_t *image)
{
	if (insn->opsize == 2) {
		zero_bytes(image + 6, 8);
		return;
	}
	zero_bytes(image + 12, 12);
	zero_bytes(image + 24, 2);
}

static enum x store_result(struct cpu *cpu, const struct insn *insn, uint64_t linear, void *hva, uint8_t *buf, unsigned size)
{
	if (insn->id == INSN_FNSTENV || insn->id == INSN_FNSAVE)
		hide_pointers(insn, buf);
	if (!hva)
		return mmu_write(cpu, linear, buf, size, MMU_WRITE);
	mmu_copy(hva, buf, size);
	return X_OK;
}

/* The store may fail after the instruction has run: with all of the vector state kept. */
static enum x run_and_store_io(struct cpu *cpu, const struct insn *insn, uint64_t linear, uint8_t *buf, unsigned size,
			       struct stub_context *c)
{
	uint8_t *kept = NULL;
	bool live = cpu->fpu_live;
	cpu_fpu_leave(cpu);
	if (touches_vector_state(insn)) {
		kept = malloc(cpu->fpu_size);
		if (!kept)
			return no_stub(cpu, true);
		copy_bytes(kept, cpu->fpu, cpu->fpu_size);
	}
	enum x x = vector_run(cpu, insn, buf, c);
	if (x == X_OK) {
		x = store_result(cpu, insn, linear, NULL, buf, size);
		if (x != X_OK && kept) {
			cpu_fpu_leave(cpu);
			copy_bytes(cpu->fpu, kept, cpu->fpu_size);
		}
	}
	free(kept);
	if (live)
		cpu_fpu_enter(cpu);
	return x;
}

/* MXCSR.MM, AMD's: operands of SSE instructions need not be aligned. */
static bool misalignment_allowed(struct cpu *cpu)
{
	uint32_t mxcsr;
	if (!cpu_has(cpu, FEATURE_MISALIGNSSE))
		return false;
	if (cpu->fpu_live)
		asm volatile("stmxcsr %0" : "=m"(mxcsr));
	else
		__builtin_memcpy(&mxcsr, cpu->fpu + FPU_MXCSR, 4);
	return mxcsr & 1u << 17;
}

/* #GP(0) comes before whatever else is wrong with the address. Where processors differ (SHA, MM) the
 * host decides: the stub's operand is misaligned as the guest's is. */
static enum x check_alignment(struct cpu *cpu, const struct insn *insn, uint64_t offset, unsigned size)
{
	const struct insn_desc *d = insn_desc(insn);
	bool based = cpu->mode != MODE_LONG || insn->mem_seg >= FS;
	uint64_t linear = based ? offset + cpu->seg[insn->mem_seg].base : offset;
	if (!(d->flags & INSN_ALIGNED) || !(linear & (size - 1)))
		return X_OK;
	if (d->feature == FEATURE_SHA || misalignment_allowed(cpu))
		return X_OK;
	return cpu_raise_error(cpu, VEC_GP, 0);
}

/* What lies where the store will go, unless that is a device. */
static enum x read_before_store(struct cpu *cpu, uint64_t linear, const void *hva, uint8_t *buf, unsigned size)
{
	if (hva)
		mmu_copy(buf, hva, size);
	else if ((linear & ~PAGE_MASK) + size > PAGE_SIZE)
		TRY(mmu_read(cpu, linear, buf, size, MMU_READ));
	else
		zero_bytes(buf, size);
	return X_OK;
}

static enum x run_with_memory(struct cpu *cpu, const struct insn *insn, struct stub_context *c)
{
	const struct operand *op = &insn->operand[insn->mem_index_of];
	uint8_t aligned[OPERAND_MAX + 64] __attribute__((aligned(64))), *buf;
	unsigned access = op->access & ACCESS_READ_WRITE, size = op->size;
	uint64_t linear, offset = mem_offset(cpu, insn, 0);
	void *hva = NULL;
	if (!size || size > OPERAND_MAX)
		return cpu_raise(cpu, VEC_UD);
	TRY(check_alignment(cpu, insn, offset, size));
	TRY(mem_linear(cpu, insn->mem_seg, offset, size, access, &linear));
	buf = aligned + (linear & 63);
	if (!(access & ACCESS_WRITE)) {
		TRY(mmu_read(cpu, linear, buf, size, MMU_READ));
		return vector_run(cpu, insn, buf, c);
	}
	TRY(mmu_writable_pointer(cpu, linear, size, &hva));
	if (!hva)
		TRY(mmu_probe(cpu, linear, size, MMU_WRITE));
	if (access & ACCESS_READ)
		TRY(mmu_read(cpu, linear, buf, size, MMU_READ));
	else if (insn_desc(insn)->flags & INSN_X87) /* stores nothing when it has an unmasked exception */
		TRY(read_before_store(cpu, linear, hva, buf, size));
	if (!hva)
		return run_and_store_io(cpu, insn, linear, buf, size, c);
	TRY(vector_run(cpu, insn, buf, c));
	return store_result(cpu, insn, linear, hva, buf, size);
}

enum x vector_execute(struct cpu *cpu, const struct insn *insn)
{
	struct stub_context c;
	enum x x;
	if (masked_handles(insn))
		return masked_execute(cpu, insn);
	if (insn->mem_index_of < 0)
		x = vector_run(cpu, insn, NULL, &c);
	else
		x = run_with_memory(cpu, insn, &c);
	if (x == X_OK)
		vector_commit(cpu, insn, &c);
	return x;
}
