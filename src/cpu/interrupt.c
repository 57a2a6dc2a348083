/*
 * One event through its gate: the real-mode interrupt table, interrupt, trap and task gates in
 * protected and virtual-8086 mode, 64-bit gates with IST; INT n, INT3, INTO and INT1 as instructions.
 *
 * Sources: SDM 2A INT n (the pseudocode), SDM 3A 6.10-6.14, 3B chapter 20 (virtual-8086 mode, VME);
 * APM 2 chapter 8. Thread: the vCPU's; no lock.
 */
#include "cpu/protection.h"

/* The program asked for it: the gate's DPL counts, and errors carry no EXT bit. */
static bool is_software(const struct event *e) { return e->type == EVENT_SOFT_INT || e->type == EVENT_SOFT_EXCEPTION; }

static unsigned ext_bit(const struct event *e) { return !is_software(e); }

static enum x raise_idt(struct cpu *cpu, enum vector v, const struct event *e)
{
	return cpu_raise_error(cpu, v, (uint32_t)e->vector << 3 | 2 | ext_bit(e));
}

static uint64_t saved_flags(const struct cpu *cpu, const struct event *e)
{
	if (e->resume)
		return cpu->rflags | RFLAGS_RF;
	return is_software(e) ? cpu->rflags & ~(uint64_t)RFLAGS_RF : cpu->rflags;
}

/* ---- real mode, and virtual-8086 mode's own interrupt table (VME) ---- */

/* Pushes a 16-bit frame with `flags` and goes to the handler in the table at `table`. */
static enum x deliver_16bit_table(struct cpu *cpu, uint64_t table, const struct event *e, uint64_t flags,
				  uint64_t flags_cleared)
{
	struct stack st = stack_current(cpu);
	uint32_t handler = 0;

	TRY(mmu_read(cpu, table + 4u * e->vector, &handler, 4, MMU_SYSTEM));
	TRY(stack_push(cpu, &st, flags & 0xffff, 2));
	TRY(stack_push(cpu, &st, cpu->seg[CS].selector, 2));
	TRY(stack_push(cpu, &st, e->rip & 0xffff, 2));
	if ((handler & 0xffff) > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	stack_commit_pointer(cpu, &st);
	segment_set_real(cpu, CS, (uint16_t)(handler >> 16));
	cpu->rip = handler & 0xffff;
	cpu->rflags &= ~flags_cleared;
	cpu_update_mode(cpu);
	return X_OK;
}

static enum x deliver_real(struct cpu *cpu, const struct event *e)
{
	if (4u * e->vector + 3 > cpu->idtr.limit)
		return raise_idt(cpu, VEC_GP, e);
	return deliver_16bit_table(cpu, cpu->idtr.base, e, cpu->rflags, RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
}

/* ---- protected mode ---- */

/* The gate of the event's vector, checked: type, DPL for software, present. */
static enum x gate_read(struct cpu *cpu, const struct event *e, struct descriptor *gate)
{
	bool is_long = cpu_long_active(cpu);
	unsigned size = is_long ? 16 : 8;
	uint64_t raw[2] = {0, 0};

	if ((e->vector + 1u) * size - 1 > cpu->idtr.limit)
		return raise_idt(cpu, VEC_GP, e);
	TRY(mmu_read(cpu, cpu->idtr.base + e->vector * size, raw, size, MMU_SYSTEM));
	*gate = (struct descriptor){.raw = raw[0], .high = raw[1] & 0xffffffff, .attr = descriptor_attr(raw[0])};
	switch (descriptor_type(gate)) {
	case TYPE_INT32:
	case TYPE_TRAP32:
		break;
	case TYPE_INT16:
	case TYPE_TRAP16:
	case TYPE_TASK_GATE:
		if (!is_long)
			break;
		/* fall through */
	default:
		return raise_idt(cpu, VEC_GP, e);
	}
	if (is_software(e) && SEG_DPL(gate->attr) < cpu->cpl)
		return raise_idt(cpu, VEC_GP, e);
	if (!(gate->attr & SEG_P))
		return raise_idt(cpu, VEC_NP, e);
	return X_OK;
}

/* The handler's code segment and the privilege level that it runs at. */
static enum x handler_segment(struct cpu *cpu, const struct event *e, uint16_t selector, struct descriptor *cs,
			      unsigned *cpl)
{
	unsigned ext = ext_bit(e);

	if (SELECTOR_NULL(selector))
		return cpu_raise_error(cpu, VEC_GP, ext);
	TRY(descriptor_read(cpu, selector, cs, VEC_GP, ext));
	if (!descriptor_is_code(cs) || SEG_DPL(cs->attr) > cpu->cpl)
		return raise_selector(cpu, VEC_GP, selector, ext);
	if (cpu_long_active(cpu) && (cs->attr & (SEG_L | SEG_DB)) != SEG_L)
		return raise_selector(cpu, VEC_GP, selector, ext);
	if (!(cs->attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, ext);
	*cpl = descriptor_is_conforming(cs) ? cpu->cpl : SEG_DPL(cs->attr);
	if (cpu->mode == MODE_V8086 && *cpl != 0)
		return raise_selector(cpu, VEC_GP, selector, ext);
	return X_OK;
}

static void commit_handler(struct cpu *cpu, const struct descriptor *gate, const struct descriptor *cs, unsigned cpl,
			   uint64_t rip)
{
	uint64_t cleared = RFLAGS_TF | RFLAGS_VM | RFLAGS_RF | RFLAGS_NT;

	if (!(descriptor_type(gate) & 1)) /* interrupt gate */
		cleared |= RFLAGS_IF;
	cpu->seg[CS] = descriptor_segment(cs, (uint16_t)((cs->selector & 0xfffc) | cpl));
	cpu->rip = rip;
	cpu->rflags &= ~cleared;
	cpu_update_mode(cpu);
}

static enum x deliver_task_gate(struct cpu *cpu, const struct event *e, const struct descriptor *gate)
{
	uint16_t selector = gate_selector(gate);
	unsigned ext = ext_bit(e), type;
	struct descriptor tss;

	if (SELECTOR_NULL(selector) || (selector & SELECTOR_TI))
		return raise_selector(cpu, VEC_GP, selector, ext);
	TRY(descriptor_read(cpu, selector, &tss, VEC_GP, ext));
	type = descriptor_type(&tss);
	if (type != TYPE_TSS16 && type != TYPE_TSS32)
		return raise_selector(cpu, VEC_GP, selector, ext);
	if (!(tss.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, ext);
	return task_switch(cpu, &tss, TASK_SWITCH_GATE,
			   &(struct task_event){.next = e->rip,
						.flags = saved_flags(cpu, e),
						.has_error = e->has_error,
						.error = e->error,
						.ext = ext});
}

static const enum sreg v8086_data[] = {GS, FS, DS, ES}; /* in the order they are pushed */

static enum x deliver_protected(struct cpu *cpu, const struct event *e, const struct descriptor *gate)
{
	bool from_v8086 = cpu->mode == MODE_V8086, inner;
	unsigned size, cpl;
	uint64_t rip = gate_offset(gate);
	struct descriptor cs;
	struct segment cs_new;
	struct stack st;

	TRY(handler_segment(cpu, e, gate_selector(gate), &cs, &cpl));
	size = descriptor_type(gate) & 8 ? 4 : 2;
	if (size == 2)
		rip &= 0xffff;
	inner = cpl < cpu->cpl;
	if (inner) {
		TRY(tss_inner_stack(cpu, cpl, 0, &st, ext_bit(e)));
		if (from_v8086)
			for (unsigned i = 0; i < 4; i++)
				TRY(stack_push(cpu, &st, cpu->seg[v8086_data[i]].selector, size));
		TRY(stack_push(cpu, &st, cpu->seg[SS].selector, size));
		TRY(stack_push(cpu, &st, cpu->gpr[RSP], size));
	} else {
		st = stack_current(cpu);
		st.error = ext_bit(e);
	}
	TRY(stack_push(cpu, &st, saved_flags(cpu, e), size));
	TRY(stack_push(cpu, &st, cpu->seg[CS].selector, size));
	TRY(stack_push(cpu, &st, e->rip, size));
	if (e->has_error)
		TRY(stack_push(cpu, &st, e->error, size));
	cs_new = descriptor_segment(&cs, cs.selector);
	TRY(code_offset_check(cpu, &cs_new, rip, ext_bit(e)));
	TRY(descriptor_mark_accessed(cpu, &cs));

	if (inner)
		stack_commit(cpu, &st);
	else
		stack_commit_pointer(cpu, &st);
	if (from_v8086)
		for (unsigned i = 0; i < 4; i++)
			segment_set_null(cpu, v8086_data[i], 0);
	commit_handler(cpu, gate, &cs, cpl, rip);
	return X_OK;
}

/* ---- long mode ---- */

static enum x deliver_long(struct cpu *cpu, const struct event *e, const struct descriptor *gate)
{
	unsigned ext = ext_bit(e), ist = gate->raw >> 32 & 7, n = 0, cpl;
	uint64_t rip = gate_offset(gate), frame[6], bottom;
	struct descriptor cs;
	struct stack st;
	bool inner;

	TRY(handler_segment(cpu, e, gate_selector(gate), &cs, &cpl));
	inner = cpl < cpu->cpl;
	if (inner || ist)
		TRY(tss_inner_stack(cpu, cpl, ist, &st, ext));
	else
		st = (struct stack){.sp = cpu->gpr[RSP], .bits = 64};
	if (e->has_error)
		frame[n++] = e->error;
	frame[n++] = e->rip;
	frame[n++] = cpu->seg[CS].selector;
	frame[n++] = saved_flags(cpu, e);
	frame[n++] = cpu->gpr[RSP];
	frame[n++] = cpu->seg[SS].selector;
	bottom = (st.sp & ~15ull) - 8 * n;
	if (!cpu_canonical(bottom) || !cpu_canonical(bottom + 8 * n - 1))
		return cpu_raise_error(cpu, VEC_SS, ext);
	if (!cpu_canonical(rip))
		return cpu_raise_error(cpu, VEC_GP, ext);
	TRY(mmu_write(cpu, bottom, frame, 8 * n, st.flags));
	TRY(descriptor_mark_accessed(cpu, &cs));

	if (inner)
		cpu->seg[SS] = st.ss;
	cpu->gpr[RSP] = bottom;
	commit_handler(cpu, gate, &cs, cpl, rip);
	return X_OK;
}

enum x interrupt_deliver(struct cpu *cpu, const struct event *e)
{
	struct descriptor gate = {0};

	if (cpu->mode == MODE_REAL)
		return deliver_real(cpu, e);
	TRY(gate_read(cpu, e, &gate));
	if (cpu_long_active(cpu))
		return deliver_long(cpu, e, &gate);
	if (descriptor_type(&gate) == TYPE_TASK_GATE)
		return deliver_task_gate(cpu, e, &gate);
	return deliver_protected(cpu, e, &gate);
}

/* ---- INT n and its relatives as instructions ---- */

/* CR4.VME: may the 8086 program handle INT n itself? The bit map lies in front of the I/O permission
 * map of the TSS; a clear bit says yes. */
static enum x vme_redirects(struct cpu *cpu, uint8_t vector, bool *to_program)
{
	uint16_t io_map;
	uint32_t at;
	uint8_t bits;

	*to_program = false;
	if ((cpu->tr.attr & SEG_TYPE & ~TYPE_BUSY) != TYPE_TSS32 || cpu->tr.limit < 103)
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mmu_read(cpu, cpu->tr.base + 102, &io_map, 2, MMU_SYSTEM));
	at = io_map - 32u + vector / 8u;
	if (io_map < 32 || at > cpu->tr.limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(mmu_read(cpu, cpu->tr.base + at, &bits, 1, MMU_SYSTEM));
	*to_program = !(bits >> (vector & 7) & 1);
	return X_OK;
}

/* INT n in virtual-8086 mode, SDM 3B 20.3.3, table 20-2. *done: the program's own handler was entered. */
static enum x int_v8086(struct cpu *cpu, const struct event *e, bool *done)
{
	bool iopl3 = (cpu->rflags & RFLAGS_IOPL) == RFLAGS_IOPL, to_program = false;
	uint64_t flags = cpu->rflags;

	*done = false;
	if (cpu->cr4 & CR4_VME)
		TRY(vme_redirects(cpu, e->vector, &to_program));
	if (!to_program)
		return iopl3 ? X_OK : cpu_raise_error(cpu, VEC_GP, 0);
	*done = true;
	if (iopl3)
		return deliver_16bit_table(cpu, 0, e, flags, RFLAGS_IF | RFLAGS_TF | RFLAGS_RF);
	flags |= RFLAGS_IOPL;
	if (cpu->rflags & RFLAGS_VIF)
		flags |= RFLAGS_IF;
	else
		flags &= ~(uint64_t)RFLAGS_IF;
	return deliver_16bit_table(cpu, 0, e, flags, RFLAGS_VIF | RFLAGS_TF | RFLAGS_RF);
}

enum x transfer_int(struct cpu *cpu, enum event_type type, uint8_t vector, uint64_t next)
{
	struct event e = {.type = type, .vector = vector, .rip = next};
	bool done = false;

	if (cpu->mode == MODE_V8086 && type == EVENT_SOFT_INT)
		TRY(int_v8086(cpu, &e, &done));
	if (!done)
		TRY(interrupt_deliver(cpu, &e));
	cpu->faults_delivered[vector & 31]++;
	return X_OK;
}
