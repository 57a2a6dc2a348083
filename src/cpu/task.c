/*
 * The hardware task switch, from and to 16- and 32-bit TSSs.
 *
 * Sources: SDM 3A chapter 7 (7.3 the steps, table 7-1 the checks, 7.2.1 and 7.6 the TSS).
 * Thread: the vCPU's; no lock. The old state is saved, the new TSS read and the busy bits changed
 * before the vCPU changes; from there on a fault belongs to the new task.
 */
#include "cpu/protection.h"

#define DR6_BT (1ull << 15)
#define DR7_LOCAL 0x155ull /* L0-L3, LE */

/* Words at these offsets of a TSS; registers and segments follow each other in the manual's order,
 * which is that of enum gpr and enum sreg. */
struct tss_layout {
	unsigned word;     /* bytes a register */
	unsigned rip, ldt; /* from rip on: flags, 8 registers, the segments; all of them are saved */
	unsigned segments;
	unsigned size; /* the limit is at least size - 1 */
};
static const struct tss_layout layout16 = {2, 0x0e, 0x2a, 4, 0x2c}, layout32 = {4, 0x20, 0x60, 6, 0x68};
#define TSS32_CR3 0x1c
#define TSS32_TRAP 0x64

#define TSS_SIZE_MAX 0x68

static const struct tss_layout *tss_layout(uint16_t attr)
{
	return (attr & SEG_TYPE & ~TYPE_BUSY) == TYPE_TSS32 ? &layout32 : &layout16;
}

static void put_word(uint8_t *tss, unsigned at, uint64_t value, unsigned size) { mmu_copy(tss + at, &value, size); }

static uint32_t get_word(const uint8_t *tss, unsigned at, unsigned size)
{
	uint32_t value = 0;

	mmu_copy(&value, tss + at, size);
	return value;
}

static enum x save_old_task(struct cpu *cpu, const struct task_event *e)
{
	const struct tss_layout *l = tss_layout(cpu->tr.attr);
	unsigned w = l->word, n = 0, count = 2 + 8 + l->segments;
	uint8_t image[TSS_SIZE_MAX];

	if (!(cpu->tr.attr & SEG_P) || cpu->tr.limit < l->size - 1)
		return raise_selector(cpu, VEC_TS, cpu->tr.selector, e->ext);
	put_word(image, n++ * w, e->next, w);
	put_word(image, n++ * w, e->flags, w);
	for (unsigned i = 0; i < 8; i++)
		put_word(image, n++ * w, cpu->gpr[i], w);
	for (unsigned i = 0; i < l->segments; i++)
		put_word(image, n++ * w, cpu->seg[i].selector, w);
	return mmu_write(cpu, cpu->tr.base + l->rip, image, count * w, MMU_SYSTEM);
}

static enum x load_ldt(struct cpu *cpu, uint16_t selector, unsigned ext)
{
	struct descriptor d;

	cpu->ldtr = (struct segment){.selector = selector, .attr = SEG_UNUSABLE};
	if (SELECTOR_NULL(selector))
		return X_OK;
	if (selector & SELECTOR_TI)
		return raise_selector(cpu, VEC_TS, selector, ext);
	TRY(descriptor_read(cpu, selector, &d, VEC_TS, ext));
	if (descriptor_type(&d) != TYPE_LDT || !(d.attr & SEG_P))
		return raise_selector(cpu, VEC_TS, selector, ext);
	cpu->ldtr = descriptor_segment(&d, selector);
	return X_OK;
}

static enum x load_code(struct cpu *cpu, uint16_t selector, unsigned ext)
{
	unsigned rpl = SELECTOR_RPL(selector), dpl;
	struct descriptor d;

	if (SELECTOR_NULL(selector))
		return raise_selector(cpu, VEC_TS, selector, ext);
	TRY(descriptor_read(cpu, selector, &d, VEC_TS, ext));
	dpl = SEG_DPL(d.attr);
	if (!descriptor_is_code(&d) || (descriptor_is_conforming(&d) ? dpl > rpl : dpl != rpl))
		return raise_selector(cpu, VEC_TS, selector, ext);
	if (!(d.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, ext);
	TRY(descriptor_mark_accessed(cpu, &d));
	cpu->seg[CS] = descriptor_segment(&d, selector);
	return X_OK;
}

static enum x load_stack(struct cpu *cpu, uint16_t selector, unsigned cpl, unsigned ext)
{
	struct descriptor d;

	if (SELECTOR_NULL(selector))
		return raise_selector(cpu, VEC_TS, selector, ext);
	TRY(descriptor_read(cpu, selector, &d, VEC_TS, ext));
	TRY(stack_segment_check(cpu, &d, cpl, VEC_TS, ext));
	TRY(descriptor_mark_accessed(cpu, &d));
	cpu->seg[SS] = descriptor_segment(&d, selector);
	return X_OK;
}

static enum x load_data(struct cpu *cpu, enum sreg s, uint16_t selector, unsigned cpl, unsigned ext)
{
	struct descriptor d;
	unsigned dpl;

	if (SELECTOR_NULL(selector))
		return X_OK;
	TRY(descriptor_read(cpu, selector, &d, VEC_TS, ext));
	dpl = SEG_DPL(d.attr);
	if (!(d.attr & SEG_S) || (d.attr & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
		return raise_selector(cpu, VEC_TS, selector, ext);
	if (!descriptor_is_conforming(&d) && (SELECTOR_RPL(selector) > dpl || cpl > dpl))
		return raise_selector(cpu, VEC_TS, selector, ext);
	if (!(d.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, ext);
	TRY(descriptor_mark_accessed(cpu, &d));
	cpu->seg[s] = descriptor_segment(&d, selector);
	return X_OK;
}

/* Segment registers of the new task. All selectors are there already, none of them usable. */
static enum x load_segments(struct cpu *cpu, uint16_t ldt, unsigned ext)
{
	unsigned cpl = SELECTOR_RPL(cpu->seg[CS].selector);

	TRY(load_ldt(cpu, ldt, ext));
	if (cpu->rflags & RFLAGS_VM) {
		for (unsigned s = 0; s < SREG_COUNT; s++)
			cpu->seg[s] = segment_v8086(cpu->seg[s].selector);
		return X_OK;
	}
	TRY(load_code(cpu, cpu->seg[CS].selector, ext));
	TRY(load_stack(cpu, cpu->seg[SS].selector, cpl, ext));
	for (unsigned s = 0; s < SREG_COUNT; s++)
		if (s != CS && s != SS)
			TRY(load_data(cpu, s, cpu->seg[s].selector, cpl, ext));
	return X_OK;
}

/* The point of no return: registers and selectors from the new TSS's image. */
static void commit_registers(struct cpu *cpu, const uint8_t *image, const struct tss_layout *l, bool nested)
{
	unsigned w = l->word, at = l->rip, cpl;

	cpu->rip = get_word(image, at, w);
	cpu->rflags = (get_word(image, at + w, w) & RFLAGS_ALL) | RFLAGS_FIXED | (nested ? RFLAGS_NT : 0);
	at += 2 * w;
	for (unsigned i = 0; i < 8; i++, at += w)
		cpu->gpr[i] = get_word(image, at, w);
	for (unsigned s = 0; s < SREG_COUNT; s++, at += w)
		segment_set_null(cpu, s, s < l->segments ? (uint16_t)get_word(image, at, w) : 0);
	cpl = SELECTOR_RPL(cpu->seg[CS].selector);
	cpu->seg[SS] = segment_null_stack(cpu->seg[SS].selector, cpl);
	cpu->cr0 |= CR0_TS;
	cpu->dr[7] &= ~DR7_LOCAL;
	cpu_update_mode(cpu);
}

static enum x push_error(struct cpu *cpu, const struct task_event *e, unsigned size)
{
	struct stack st = stack_current(cpu);

	st.error = e->ext;
	TRY(stack_push(cpu, &st, e->error, size));
	stack_commit_pointer(cpu, &st);
	return X_OK;
}

enum x task_switch(struct cpu *cpu, const struct descriptor *tss, enum task_switch_source source,
		   const struct task_event *e)
{
	const struct tss_layout *l = tss_layout(tss->attr);
	bool nested = source == TASK_SWITCH_CALL || source == TASK_SWITCH_GATE;
	uint16_t old_selector = cpu->tr.selector;
	uint64_t base = descriptor_base(tss);
	uint8_t image[TSS_SIZE_MAX];
	struct descriptor old;

	if (descriptor_limit(tss) < l->size - 1)
		return raise_selector(cpu, VEC_TS, tss->selector, e->ext);
	TRY(save_old_task(cpu, e));
	TRY(mmu_read(cpu, base, image, l->size, MMU_SYSTEM));
	if (!nested) {
		TRY(descriptor_read(cpu, old_selector, &old, VEC_TS, e->ext));
		TRY(mmu_probe(cpu, old.linear + 5, 1, MMU_SYSTEM | MMU_WRITE));
	}
	if (nested)
		TRY(mmu_write(cpu, base, &old_selector, 2, MMU_SYSTEM));
	if (source != TASK_SWITCH_IRET)
		TRY(descriptor_change(cpu, tss, TYPE_BUSY, 0));
	if (!nested && (old.linear != tss->linear || source != TASK_SWITCH_IRET))
		TRY(descriptor_change(cpu, &old, 0, TYPE_BUSY));

	cpu->tr = descriptor_segment(tss, tss->selector);
	cpu->tr.attr |= TYPE_BUSY;
	commit_registers(cpu, image, l, nested);
	if (l == &layout32 && (cpu->cr0 & CR0_PG))
		TRY(cpu_write_cr(cpu, 3, get_word(image, TSS32_CR3, 4)));
	TRY(load_segments(cpu, (uint16_t)get_word(image, l->ldt, 2), e->ext));
	cpu_update_mode(cpu);
	if (e->has_error)
		TRY(push_error(cpu, e, l->word));
	TRY(code_offset_check(cpu, &cpu->seg[CS], cpu->rip, e->ext));
	if (l == &layout32 && (image[TSS32_TRAP] & 1))
		cpu->db_pending |= DR6_BT;
	return X_OK;
}

enum x transfer_task_switch(struct cpu *cpu, uint16_t tss_selector, enum task_switch_source source, uint64_t next,
			    bool has_error, uint32_t error)
{
	struct task_event e = {.next = next,
			       .flags = cpu->rflags,
			       .has_error = has_error,
			       .error = error,
			       .ext = source == TASK_SWITCH_GATE};
	enum vector v = source == TASK_SWITCH_IRET ? VEC_TS : VEC_GP;
	struct descriptor tss;
	unsigned busy = source == TASK_SWITCH_IRET ? TYPE_BUSY : 0;

	if (cpu_long_active(cpu) || SELECTOR_NULL(tss_selector) || (tss_selector & SELECTOR_TI))
		return raise_selector(cpu, v, tss_selector, e.ext);
	TRY(descriptor_read(cpu, tss_selector, &tss, v, e.ext));
	if (descriptor_type(&tss) != (TYPE_TSS16 | busy) && descriptor_type(&tss) != (TYPE_TSS32 | busy))
		return raise_selector(cpu, v, tss_selector, e.ext);
	if (!(tss.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, tss_selector, e.ext);
	if (source == TASK_SWITCH_IRET)
		e.flags &= ~(uint64_t)RFLAGS_NT;
	return task_switch(cpu, &tss, source, &e);
}
