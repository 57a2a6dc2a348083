/*
 * IRET in every mode: real, virtual-8086 (IOPL, VME), protected to the same and to outer rings, to
 * virtual-8086 mode, to the previous task (NT), and in long mode.
 *
 * Sources: SDM 2A IRET (the pseudocode), SDM 3A 6.7.1 (NMI), 6.14.3; 3B 20.2.5, 20.3. APM 3 IRET.
 * Thread: the vCPU's; no lock.
 */
#include "cpu/protection.h"

#define FLAGS_ARITH (EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF | EF_OF)
#define FLAGS_ANYBODY (FLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)
#define FLAGS_ANYBODY_32 (RFLAGS_RF | RFLAGS_AC | RFLAGS_ID)

static void replace_flags(struct cpu *cpu, uint64_t value, uint64_t mask)
{
	cpu->rflags = (cpu->rflags & ~mask) | (value & mask) | RFLAGS_FIXED;
}

/* (E)IP, CS and (E)FLAGS as every form finds them on the stack. */
struct frame {
	struct stack st;
	uint64_t rip, cs, flags;
};

static enum x frame_pop(struct cpu *cpu, struct frame *f, unsigned opsize)
{
	f->st = stack_current(cpu);
	TRY(stack_pop(cpu, &f->st, &f->rip, opsize));
	TRY(stack_pop(cpu, &f->st, &f->cs, opsize));
	return stack_pop(cpu, &f->st, &f->flags, opsize);
}

static void commit_real(struct cpu *cpu, const struct frame *f, uint64_t flags, uint64_t mask)
{
	stack_commit_pointer(cpu, &f->st);
	segment_set_real(cpu, CS, (uint16_t)f->cs);
	cpu->rip = f->rip;
	replace_flags(cpu, flags, mask);
	cpu_update_mode(cpu);
}

static enum x iret_real(struct cpu *cpu, unsigned opsize)
{
	uint64_t mask = FLAGS_ANYBODY | RFLAGS_IF | RFLAGS_IOPL | (opsize == 2 ? 0 : FLAGS_ANYBODY_32);
	struct frame f;

	TRY(frame_pop(cpu, &f, opsize));
	if (f.rip > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	commit_real(cpu, &f, f.flags, mask);
	return X_OK;
}

static enum x iret_v8086(struct cpu *cpu, unsigned opsize)
{
	uint64_t mask = FLAGS_ANYBODY | (opsize == 2 ? 0 : FLAGS_ANYBODY_32);
	bool iopl3 = (cpu->rflags & RFLAGS_IOPL) == RFLAGS_IOPL;
	struct frame f;

	if (!iopl3 && (opsize != 2 || !(cpu->cr4 & CR4_VME)))
		return cpu_raise_error(cpu, VEC_GP, 0);
	TRY(frame_pop(cpu, &f, opsize));
	if (f.rip > cpu->seg[CS].limit)
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (iopl3) {
		commit_real(cpu, &f, f.flags, mask | RFLAGS_IF);
		return X_OK;
	}
	if ((f.flags & RFLAGS_TF) || ((f.flags & RFLAGS_IF) && (cpu->rflags & RFLAGS_VIP)))
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (f.flags & RFLAGS_IF)
		f.flags |= RFLAGS_VIF;
	commit_real(cpu, &f, f.flags, mask | RFLAGS_VIF);
	return X_OK;
}

static enum x iret_to_v8086(struct cpu *cpu, const struct frame *f)
{
	static const enum sreg order[] = {SS, ES, DS, FS, GS};
	struct stack st = f->st;
	uint64_t esp, selector[5];

	TRY(stack_pop(cpu, &st, &esp, 4));
	for (unsigned i = 0; i < 5; i++)
		TRY(stack_pop(cpu, &st, &selector[i], 4));
	if (f->rip > 0xffff)
		return cpu_raise_error(cpu, VEC_GP, 0);
	cpu->seg[CS] = segment_v8086((uint16_t)f->cs);
	for (unsigned i = 0; i < 5; i++)
		cpu->seg[order[i]] = segment_v8086((uint16_t)selector[i]);
	cpu->gpr[RSP] = esp;
	cpu->rip = f->rip;
	replace_flags(cpu, f->flags, RFLAGS_ALL);
	cpu_update_mode(cpu);
	return X_OK;
}

/* NT: back to the task whose selector the current TSS holds. */
static enum x iret_task(struct cpu *cpu, uint64_t next)
{
	struct descriptor tss;
	uint16_t link;
	unsigned type;

	if (!(cpu->tr.attr & SEG_P) || cpu->tr.limit < 1)
		return raise_selector(cpu, VEC_TS, cpu->tr.selector, 0);
	TRY(mmu_read(cpu, cpu->tr.base, &link, 2, MMU_SYSTEM));
	if (SELECTOR_NULL(link) || (link & SELECTOR_TI))
		return raise_selector(cpu, VEC_TS, link, 0);
	TRY(descriptor_read(cpu, link, &tss, VEC_TS, 0));
	type = descriptor_type(&tss);
	if (type != TYPE_TSS16_BUSY && type != TYPE_TSS32_BUSY)
		return raise_selector(cpu, VEC_TS, link, 0);
	if (!(tss.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, link, 0);
	return task_switch(cpu, &tss, TASK_SWITCH_IRET,
			   &(struct task_event){.next = next, .flags = cpu->rflags & ~(uint64_t)RFLAGS_NT});
}

static uint64_t loadable_flags(const struct cpu *cpu, unsigned opsize)
{
	uint64_t mask = FLAGS_ANYBODY;

	if (opsize != 2)
		mask |= FLAGS_ANYBODY_32;
	if (cpu->cpl <= (cpu->rflags & RFLAGS_IOPL) >> 12)
		mask |= RFLAGS_IF;
	if (cpu->cpl == 0)
		mask |= RFLAGS_IOPL | (opsize != 2 ? RFLAGS_VIF | RFLAGS_VIP : 0);
	return mask;
}

static enum x iret_protected(struct cpu *cpu, unsigned opsize)
{
	bool outward, pops_stack;
	uint64_t mask, sp, ss;
	struct descriptor cs;
	struct segment cs_new;
	struct stack outer;
	struct frame f;

	TRY(frame_pop(cpu, &f, opsize));
	if ((f.flags & RFLAGS_VM) && cpu->cpl == 0 && !cpu_long_active(cpu))
		return iret_to_v8086(cpu, &f);
	TRY(return_code_check(cpu, (uint16_t)f.cs, &cs));
	cs_new = descriptor_segment(&cs, cs.selector);
	outward = SELECTOR_RPL(f.cs) > cpu->cpl;
	pops_stack = outward || cpu->mode == MODE_LONG;
	if (pops_stack) {
		TRY(stack_pop(cpu, &f.st, &sp, opsize));
		TRY(stack_pop(cpu, &f.st, &ss, opsize));
		outer = (struct stack){.sp = sp};
		TRY(return_stack_check(cpu, (uint16_t)ss, &cs, &outer.ss));
		outer.bits = return_stack_bits(cpu, &cs, &outer.ss);
		if (outer.bits == 16)
			outer.sp = (cpu->gpr[RSP] & ~0xffffull) | (sp & 0xffff);
	}
	TRY(code_offset_check(cpu, &cs_new, f.rip, 0));
	TRY(descriptor_mark_accessed(cpu, &cs));

	mask = loadable_flags(cpu, opsize);
	if (pops_stack)
		stack_commit(cpu, &outer);
	else
		stack_commit_pointer(cpu, &f.st);
	cpu->seg[CS] = descriptor_segment(&cs, cs.selector);
	cpu->rip = f.rip;
	replace_flags(cpu, f.flags, mask);
	cpu_update_mode(cpu);
	if (outward)
		segments_drop_privileged(cpu, cpu->cpl);
	return X_OK;
}

/* NMIs are let in again even if the IRET faults: SDM 3A 6.7.1. */
enum x transfer_iret(struct cpu *cpu, unsigned opsize, uint64_t next)
{
	cpu->nmi_blocked = false;
	if (cpu->mode == MODE_REAL)
		return iret_real(cpu, opsize);
	if (cpu->mode == MODE_V8086)
		return iret_v8086(cpu, opsize);
	if (cpu->rflags & RFLAGS_NT)
		return cpu_long_active(cpu) ? cpu_raise_error(cpu, VEC_GP, 0) : iret_task(cpu, next);
	return iret_protected(cpu, opsize);
}
