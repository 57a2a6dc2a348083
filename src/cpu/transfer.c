/*
 * Far JMP, CALL and RET: direct ones, call gates of 16, 32 and 64 bits, task gates and TSS selectors
 * (the switch itself is task.c). Also the I/O permission bit map.
 *
 * Sources: SDM 2A CALL, JMP, 2B RET (the pseudocode), SDM 3A 5.8, 1 18.5.2 (I/O permission).
 * Thread: the vCPU's; no lock. What is checked comes first, then the stack is written, then the
 * vCPU's registers change: a fault leaves them as they were.
 */
#include "cpu/protection.h"

static uint64_t truncate_offset(uint64_t offset, unsigned opsize)
{
	return opsize == 8 ? offset : opsize == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* ---- real and virtual-8086 mode ---- */

static enum x far_real(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, bool call, uint64_t next)
{
	struct stack st = stack_current(cpu);

	offset = truncate_offset(offset, opsize);
	if (offset > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (call) {
		TRY(stack_push(cpu, &st, cpu->seg[CS].selector, opsize));
		TRY(stack_push(cpu, &st, next, opsize));
		stack_commit_pointer(cpu, &st);
	}
	segment_set_real(cpu, CS, selector);
	cpu->rip = offset;
	cpu_update_mode(cpu);
	return X_OK;
}

static enum x ret_real(struct cpu *cpu, unsigned opsize, uint16_t pop_bytes)
{
	struct stack st = stack_current(cpu);
	uint64_t rip, cs;

	TRY(stack_pop(cpu, &st, &rip, opsize));
	TRY(stack_pop(cpu, &st, &cs, opsize));
	if (rip > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	stack_drop(&st, pop_bytes);
	stack_commit_pointer(cpu, &st);
	segment_set_real(cpu, CS, (uint16_t)cs);
	cpu->rip = rip;
	cpu_update_mode(cpu);
	return X_OK;
}

/* ---- code segments ---- */

static enum x present_or_np(struct cpu *cpu, const struct descriptor *d)
{
	return d->attr & SEG_P ? X_OK : raise_selector(cpu, VEC_NP, d->selector, 0);
}

static void commit_code(struct cpu *cpu, const struct descriptor *d, unsigned cpl, uint64_t rip)
{
	cpu->seg[CS] = descriptor_segment(d, (uint16_t)((d->selector & 0xfffc) | cpl));
	cpu->rip = rip;
	cpu_update_mode(cpu);
}

/* A code segment named by JMP or CALL itself: CPL does not change. */
static enum x direct_code_check(struct cpu *cpu, const struct descriptor *d)
{
	unsigned dpl = SEG_DPL(d->attr);

	if (descriptor_is_conforming(d) ? dpl > cpu->cpl : SELECTOR_RPL(d->selector) > cpu->cpl || dpl != cpu->cpl)
		return raise_selector(cpu, VEC_GP, d->selector, 0);
	TRY(code_bits_check(cpu, d, 0));
	return present_or_np(cpu, d);
}

static enum x far_direct(struct cpu *cpu, struct descriptor *d, uint64_t offset, unsigned opsize, bool call,
			 uint64_t next)
{
	struct segment cs = descriptor_segment(d, d->selector);
	struct stack st = stack_current(cpu);

	TRY(direct_code_check(cpu, d));
	offset = truncate_offset(offset, opsize);
	if (call) {
		TRY(stack_push(cpu, &st, cpu->seg[CS].selector, opsize));
		TRY(stack_push(cpu, &st, next, opsize));
	}
	TRY(code_offset_check(cpu, &cs, offset, 0));
	TRY(descriptor_mark_accessed(cpu, d));
	if (call)
		stack_commit_pointer(cpu, &st);
	commit_code(cpu, d, cpu->cpl, offset);
	return X_OK;
}

/* ---- call gates ---- */

/* DPL and P of a gate or TSS descriptor that an instruction names. */
static enum x gate_check(struct cpu *cpu, const struct descriptor *gate)
{
	unsigned dpl = SEG_DPL(gate->attr);

	if (dpl < cpu->cpl || dpl < SELECTOR_RPL(gate->selector))
		return raise_selector(cpu, VEC_GP, gate->selector, 0);
	return present_or_np(cpu, gate);
}

/* The code segment that a call gate leads to. *cpl: the privilege level that it will run at. */
static enum x gate_target(struct cpu *cpu, const struct descriptor *gate, bool call, struct descriptor *cs,
			  unsigned *cpl)
{
	uint16_t selector = gate_selector(gate);
	unsigned dpl;

	if (SELECTOR_NULL(selector))
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(descriptor_read(cpu, selector, cs, VEC_GP, 0));
	dpl = SEG_DPL(cs->attr);
	if (!descriptor_is_code(cs) || dpl > cpu->cpl)
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (!call && !descriptor_is_conforming(cs) && dpl != cpu->cpl)
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (cpu_long_active(cpu) && (cs->attr & (SEG_L | SEG_DB)) != SEG_L)
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(present_or_np(cpu, cs));
	*cpl = descriptor_is_conforming(cs) ? cpu->cpl : dpl;
	return X_OK;
}

/* CALL to an inner ring: old SS:(E)SP, the gate's parameters and the return address on the TSS's stack. */
static enum x push_inner_frame(struct cpu *cpu, struct stack *st, unsigned size, unsigned params, uint64_t next)
{
	struct stack old = stack_current(cpu);
	uint64_t value;

	TRY(stack_push(cpu, st, cpu->seg[SS].selector, size));
	TRY(stack_push(cpu, st, cpu->gpr[RSP], size));
	while (params--) {
		TRY(stack_peek(cpu, &old, (uint64_t)params * size, &value, size));
		TRY(stack_push(cpu, st, value, size));
	}
	TRY(stack_push(cpu, st, cpu->seg[CS].selector, size));
	return stack_push(cpu, st, next, size);
}

static enum x far_gate(struct cpu *cpu, const struct descriptor *gate, bool call, uint64_t next)
{
	bool is_long = cpu_long_active(cpu), wide = descriptor_type(gate) == TYPE_CALL32, inner;
	unsigned size = is_long ? 8 : wide ? 4 : 2, cpl = 0;
	uint64_t offset = wide ? gate_offset(gate) : gate_offset(gate) & 0xffff;
	struct descriptor cs;
	struct segment cs_new;
	struct stack st;

	TRY(gate_target(cpu, gate, call, &cs, &cpl));
	cs_new = descriptor_segment(&cs, cs.selector);
	inner = cpl < cpu->cpl;
	if (inner) {
		TRY(tss_inner_stack(cpu, cpl, 0, &st, 0));
		TRY(push_inner_frame(cpu, &st, size, is_long ? 0 : gate->raw >> 32 & 31, next));
	} else {
		st = stack_current(cpu);
		if (is_long)
			st.bits = 64; /* from compatibility mode as well: the gate leads to 64-bit code */
		if (call) {
			TRY(stack_push(cpu, &st, cpu->seg[CS].selector, size));
			TRY(stack_push(cpu, &st, next, size));
		}
	}
	TRY(code_offset_check(cpu, &cs_new, offset, 0));
	TRY(descriptor_mark_accessed(cpu, &cs));
	if (inner)
		stack_commit(cpu, &st);
	else if (call)
		stack_commit_pointer(cpu, &st);
	commit_code(cpu, &cs, cpl, offset);
	return X_OK;
}

/* ---- task switches by JMP and CALL ---- */

static enum x far_tss(struct cpu *cpu, const struct descriptor *tss, bool call, uint64_t next)
{
	return task_switch(cpu, tss, call ? TASK_SWITCH_CALL : TASK_SWITCH_JMP,
			   &(struct task_event){.next = next, .flags = cpu->rflags});
}

static enum x far_task_gate(struct cpu *cpu, const struct descriptor *gate, bool call, uint64_t next)
{
	uint16_t selector = gate_selector(gate);
	struct descriptor tss;
	unsigned type;

	if (SELECTOR_NULL(selector) || (selector & SELECTOR_TI))
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(descriptor_read(cpu, selector, &tss, VEC_GP, 0));
	type = descriptor_type(&tss);
	if (type != TYPE_TSS16 && type != TYPE_TSS32)
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(present_or_np(cpu, &tss));
	return far_tss(cpu, &tss, call, next);
}

/* ---- JMP and CALL ---- */

static enum x far_transfer(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, bool call,
			   uint64_t next)
{
	struct descriptor d;
	bool is_long = cpu_long_active(cpu);

	if (cpu_real_or_v86(cpu))
		return far_real(cpu, selector, offset, opsize, call, next);
	if (SELECTOR_NULL(selector))
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	if (descriptor_is_code(&d))
		return far_direct(cpu, &d, offset, opsize, call, next);
	switch (descriptor_type(&d)) {
	case TYPE_CALL32:
		TRY(gate_check(cpu, &d));
		if (is_long)
			TRY(descriptor_read_high(cpu, &d, VEC_GP, 0));
		return far_gate(cpu, &d, call, next);
	case TYPE_CALL16:
		if (is_long)
			break;
		TRY(gate_check(cpu, &d));
		return far_gate(cpu, &d, call, next);
	case TYPE_TASK_GATE:
		if (is_long)
			break;
		TRY(gate_check(cpu, &d));
		return far_task_gate(cpu, &d, call, next);
	case TYPE_TSS16:
	case TYPE_TSS32:
		if (is_long || (selector & SELECTOR_TI))
			break;
		TRY(gate_check(cpu, &d));
		return far_tss(cpu, &d, call, next);
	default:
		break;
	}
	return raise_selector(cpu, VEC_GP, selector, 0);
}

enum x transfer_far_jmp(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, uint64_t next)
{
	return far_transfer(cpu, selector, offset, opsize, false, next);
}

enum x transfer_far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, uint64_t next)
{
	return far_transfer(cpu, selector, offset, opsize, true, next);
}

/* ---- RET ---- */

enum x return_code_check(struct cpu *cpu, uint16_t selector, struct descriptor *d)
{
	unsigned rpl = SELECTOR_RPL(selector), dpl;

	if (SELECTOR_NULL(selector))
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(descriptor_read(cpu, selector, d, VEC_GP, 0));
	dpl = SEG_DPL(d->attr);
	if (!descriptor_is_code(d) || rpl < cpu->cpl || (descriptor_is_conforming(d) ? dpl > rpl : dpl != rpl))
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(code_bits_check(cpu, d, 0));
	return present_or_np(cpu, d);
}

enum x return_stack_check(struct cpu *cpu, uint16_t selector, const struct descriptor *cs, struct segment *ss)
{
	unsigned cpl = SELECTOR_RPL(cs->selector);
	struct descriptor d;

	if (SELECTOR_NULL(selector)) {
		if (!code_is_64(cpu, cs->attr) || cpl == 3 || SELECTOR_RPL(selector) != cpl)
			return cpu_raise_error(cpu, VEC_GP, 0);
		*ss = segment_null_stack(selector, cpl);
		return X_OK;
	}
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	TRY(stack_segment_check(cpu, &d, cpl, VEC_GP, 0));
	TRY(descriptor_mark_accessed(cpu, &d));
	*ss = descriptor_segment(&d, selector);
	return X_OK;
}

unsigned return_stack_bits(const struct cpu *cpu, const struct descriptor *cs, const struct segment *ss)
{
	if (code_is_64(cpu, cs->attr))
		return 64;
	return ss->attr & SEG_DB ? 32 : 16;
}

enum x transfer_far_ret(struct cpu *cpu, unsigned opsize, uint16_t pop_bytes)
{
	struct stack st = stack_current(cpu), outer;
	uint64_t rip, selector, sp, ss = 0;
	struct descriptor cs;
	struct segment cs_new;
	bool outward;

	if (cpu_real_or_v86(cpu))
		return ret_real(cpu, opsize, pop_bytes);
	TRY(stack_pop(cpu, &st, &rip, opsize));
	TRY(stack_pop(cpu, &st, &selector, opsize));
	TRY(return_code_check(cpu, (uint16_t)selector, &cs));
	cs_new = descriptor_segment(&cs, cs.selector);
	outward = SELECTOR_RPL(selector) > cpu->cpl;
	stack_drop(&st, pop_bytes);
	if (outward) {
		TRY(stack_pop(cpu, &st, &sp, opsize));
		TRY(stack_pop(cpu, &st, &ss, opsize));
		outer = (struct stack){.sp = sp};
		TRY(return_stack_check(cpu, (uint16_t)ss, &cs, &outer.ss));
		outer.bits = return_stack_bits(cpu, &cs, &outer.ss);
		if (outer.bits == 16)
			outer.sp = (cpu->gpr[RSP] & ~0xffffull) | (sp & 0xffff);
		stack_drop(&outer, pop_bytes);
	}
	TRY(code_offset_check(cpu, &cs_new, rip, 0));
	TRY(descriptor_mark_accessed(cpu, &cs));
	if (outward)
		stack_commit(cpu, &outer);
	else
		stack_commit_pointer(cpu, &st);
	commit_code(cpu, &cs, SELECTOR_RPL(selector), rip);
	if (outward)
		segments_drop_privileged(cpu, cpu->cpl);
	return X_OK;
}

/* ---- I/O permission ---- */

enum x transfer_io_permission(struct cpu *cpu, uint16_t port, unsigned size)
{
	uint16_t map, bits;
	uint32_t at;

	if (cpu->mode == MODE_REAL)
		return X_OK;
	if (cpu->mode != MODE_V8086 && cpu->cpl <= (cpu->rflags & RFLAGS_IOPL) >> 12)
		return X_OK;
	if (!(cpu->tr.attr & SEG_P) || (cpu->tr.attr & SEG_TYPE & ~TYPE_BUSY) != TYPE_TSS32 || cpu->tr.limit < 103)
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mmu_read(cpu, cpu->tr.base + 102, &map, 2, MMU_SYSTEM));
	at = map + port / 8u;
	if (at + 1 > cpu->tr.limit) /* two bytes are read, whatever the port */
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mmu_read(cpu, cpu->tr.base + at, &bits, 2, MMU_SYSTEM));
	if (bits >> (port & 7) & ((1u << size) - 1))
		return cpu_raise_error(cpu, VEC_GP, 0);
	return X_OK;
}
