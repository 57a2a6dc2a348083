/*
 * Stacks as far transfers and interrupts use them: frames pushed and popped with the checks of a
 * given SS, and the inner stacks that the TSS names. See protection.h.
 *
 * Sources: SDM 3A 5.8.5 (stack switching), 6.12.1, 6.14.4, 6.14.5 (64-bit mode, IST), 7.2 (TSS).
 * Thread: the vCPU's; no lock.
 */
#include "cpu/protection.h"

static uint64_t pointer_mask(const struct stack *st)
{
	return st->bits == 64 ? ~0ull : st->bits == 32 ? 0xffffffffu : 0xffffu;
}

struct stack stack_current(const struct cpu *cpu)
{
	return (struct stack){.ss = cpu->seg[SS], .sp = cpu->gpr[RSP], .bits = cpu_stack_bits(cpu)};
}

/* SS:offset as a linear address; #SS(st->error). The rules are segment_linear's, for an SS that is
 * not loaded yet. */
static enum x stack_linear(struct cpu *cpu, const struct stack *st, uint64_t offset, unsigned size, bool write,
			   uint64_t *linear)
{
	const struct segment *ss = &st->ss;
	uint64_t last = offset + size - 1;

	if (st->bits == 64) {
		*linear = offset;
		return cpu_canonical(offset) && cpu_canonical(last) ? X_OK : cpu_raise_error(cpu, VEC_SS, st->error);
	}
	*linear = (uint32_t)(ss->base + offset);
	if (!(ss->attr & SEG_P))
		return cpu_raise_error(cpu, VEC_SS, st->error);
	if (cpu->mode != MODE_REAL) {
		if (write && (ss->attr & (SEG_CODE | SEG_WRITABLE)) != SEG_WRITABLE)
			return cpu_raise_error(cpu, VEC_SS, st->error);
		if (ss->attr & SEG_EXPAND_DOWN) {
			if (offset <= ss->limit || last > (ss->attr & SEG_DB ? 0xffffffffu : 0xffffu))
				return cpu_raise_error(cpu, VEC_SS, st->error);
			return X_OK;
		}
	}
	if (last > ss->limit && ss->limit != 0xffffffffu)
		return cpu_raise_error(cpu, VEC_SS, st->error);
	return X_OK;
}

enum x stack_push(struct cpu *cpu, struct stack *st, uint64_t value, unsigned size)
{
	uint64_t mask = pointer_mask(st), sp = (st->sp - size) & mask, linear;

	TRY(stack_linear(cpu, st, sp, size, true, &linear));
	TRY(mmu_write(cpu, linear, &value, size, st->flags));
	st->sp = (st->sp & ~mask) | sp;
	return X_OK;
}

enum x stack_peek(struct cpu *cpu, const struct stack *st, uint64_t offset, uint64_t *value, unsigned size)
{
	uint64_t linear;

	*value = 0;
	TRY(stack_linear(cpu, st, (st->sp + offset) & pointer_mask(st), size, false, &linear));
	return mmu_read(cpu, linear, value, size, st->flags);
}

enum x stack_pop(struct cpu *cpu, struct stack *st, uint64_t *value, unsigned size)
{
	TRY(stack_peek(cpu, st, 0, value, size));
	stack_drop(st, size);
	return X_OK;
}

void stack_drop(struct stack *st, uint64_t size)
{
	uint64_t mask = pointer_mask(st);

	st->sp = (st->sp & ~mask) | ((st->sp + size) & mask);
}

void stack_commit_pointer(struct cpu *cpu, const struct stack *st)
{
	cpu->gpr[RSP] = st->bits == 32 ? (uint32_t)st->sp : st->sp;
}

void stack_commit(struct cpu *cpu, const struct stack *st)
{
	cpu->seg[SS] = st->ss;
	stack_commit_pointer(cpu, st);
}

/* `size` bytes of the current TSS; #TS(TR) beyond its limit. */
static enum x tss_read(struct cpu *cpu, uint32_t offset, void *buf, unsigned size, unsigned ext)
{
	if (!(cpu->tr.attr & SEG_P) || offset + size - 1 > cpu->tr.limit)
		return raise_selector(cpu, VEC_TS, cpu->tr.selector, ext);
	return mmu_read(cpu, cpu->tr.base + offset, buf, size, MMU_SYSTEM);
}

static enum x tss_inner_stack_64(struct cpu *cpu, unsigned cpl, unsigned ist, struct stack *st, unsigned ext)
{
	*st = (struct stack){.bits = 64, .ss = segment_null_stack((uint16_t)cpl, cpl), .error = ext};
	TRY(tss_read(cpu, ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl, &st->sp, 8, ext));
	if (!cpu_canonical(st->sp))
		return cpu_raise_error(cpu, VEC_SS, ext);
	return X_OK;
}

enum x tss_inner_stack(struct cpu *cpu, unsigned cpl, unsigned ist, struct stack *st, unsigned ext)
{
	struct descriptor d;
	uint32_t esp = 0;
	uint16_t ss = 0;

	if (cpu_long_active(cpu)) {
		TRY(tss_inner_stack_64(cpu, cpl, ist, st, ext));
	} else {
		if ((cpu->tr.attr & SEG_TYPE & ~TYPE_BUSY) == TYPE_TSS32) {
			uint8_t both[6];

			TRY(tss_read(cpu, 4 + 8 * cpl, both, 6, ext));
			mmu_copy(&esp, both, 4);
			mmu_copy(&ss, both + 4, 2);
		} else {
			uint16_t both[2];

			TRY(tss_read(cpu, 2 + 4 * cpl, both, 4, ext));
			esp = both[0];
			ss = both[1];
		}
		if (SELECTOR_NULL(ss))
			return cpu_raise_error(cpu, VEC_TS, ext);
		TRY(descriptor_read(cpu, ss, &d, VEC_TS, ext));
		TRY(stack_segment_check(cpu, &d, cpl, VEC_TS, ext));
		TRY(descriptor_mark_accessed(cpu, &d));
		*st = (struct stack){.ss = descriptor_segment(&d, ss),
				     .sp = esp,
				     .bits = d.attr & SEG_DB ? 32 : 16,
				     .error = (ss & 0xfffcu) | ext};
	}
	if (cpu->cpl == 3 && cpl != 3)
		st->flags = MMU_SUPERVISOR;
	return X_OK;
}
