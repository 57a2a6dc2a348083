/*
 * Segmentation: descriptors, loading of segment registers, LDTR and TR, address checks, LAR, LSL,
 * VERR and VERW.
 *
 * Sources: SDM 3A chapters 3 and 5, SDM 2 (MOV, LLDT, LTR, LAR, LSL, VERR); APM 2 chapter 4.
 * Thread: the vCPU's; no lock. Descriptor tables are guest memory: every read may fault, and the
 * accessed and busy bits are set atomically.
 */
#include "cpu/protection.h"

#include "cpu/cpuid.h"

/* ---- descriptors in memory ---- */

/* Where a selector's descriptor of `size` bytes is; false when it is outside its table. */
static bool descriptor_locate(const struct cpu *cpu, uint16_t selector, unsigned size, uint64_t *linear)
{
	uint64_t base = cpu->gdtr.base;
	uint32_t limit = cpu->gdtr.limit, offset = selector & 0xfff8u;

	if (selector & SELECTOR_TI) {
		if (!(cpu->ldtr.attr & SEG_P))
			return false;
		base = cpu->ldtr.base;
		limit = cpu->ldtr.limit;
	}
	if (offset + size - 1 > limit)
		return false;
	*linear = base + offset;
	return true;
}

/* X_OK with *inside = false when the selector points outside its table. */
static enum x descriptor_try(struct cpu *cpu, uint16_t selector, struct descriptor *d, bool *inside)
{
	uint64_t linear = 0;

	*inside = descriptor_locate(cpu, selector, 8, &linear);
	if (!*inside)
		return X_OK;
	*d = (struct descriptor){.linear = linear, .selector = selector};
	TRY(mmu_read(cpu, linear, &d->raw, 8, MMU_SYSTEM));
	d->attr = descriptor_attr(d->raw);
	return X_OK;
}

enum x descriptor_read(struct cpu *cpu, uint16_t selector, struct descriptor *d, enum vector v, unsigned ext)
{
	bool inside;

	TRY(descriptor_try(cpu, selector, d, &inside));
	return inside ? X_OK : raise_selector(cpu, v, selector, ext);
}

enum x descriptor_read_high(struct cpu *cpu, struct descriptor *d, enum vector v, unsigned ext)
{
	uint64_t linear;

	if (!descriptor_locate(cpu, d->selector, 16, &linear))
		return raise_selector(cpu, v, d->selector, ext);
	TRY(mmu_read(cpu, linear + 8, &d->high, 8, MMU_SYSTEM));
	if (d->high >> 40 & 0x1f)
		return raise_selector(cpu, v, d->selector, ext);
	d->high &= 0xffffffff;
	return X_OK;
}

enum x descriptor_change(struct cpu *cpu, const struct descriptor *d, uint8_t set, uint8_t clear)
{
	void *hva;
	uint8_t byte;

	TRY(mmu_writable_pointer_as(cpu, d->linear + 5, 1, MMU_SYSTEM, &hva));
	if (hva) {
		if (set)
			__atomic_fetch_or((uint8_t *)hva, set, __ATOMIC_SEQ_CST);
		if (clear)
			__atomic_fetch_and((uint8_t *)hva, (uint8_t)~clear, __ATOMIC_SEQ_CST);
		return X_OK;
	}
	TRY(mmu_read(cpu, d->linear + 5, &byte, 1, MMU_SYSTEM));
	byte = (uint8_t)((byte | set) & ~clear);
	return mmu_write(cpu, d->linear + 5, &byte, 1, MMU_SYSTEM);
}

enum x descriptor_mark_accessed(struct cpu *cpu, struct descriptor *d)
{
	if (d->attr & SEG_ACCESSED)
		return X_OK;
	TRY(descriptor_change(cpu, d, SEG_ACCESSED, 0));
	d->attr |= SEG_ACCESSED;
	return X_OK;
}

struct segment descriptor_segment(const struct descriptor *d, uint16_t selector)
{
	return (struct segment){
		.base = descriptor_base(d), .limit = descriptor_limit(d), .selector = selector, .attr = d->attr};
}

/* ---- segment registers with fixed contents ---- */

void segment_set_real(struct cpu *cpu, enum sreg s, uint16_t selector)
{
	struct segment *seg = &cpu->seg[s];

	if (cpu->mode == MODE_V8086) {
		*seg = segment_v8086(selector);
		return;
	}
	/* Real mode changes the base only: limit and size stay what protected mode left ("unreal mode"). */
	if (!(seg->attr & SEG_P)) {
		seg->attr = 0;
		seg->limit = 0xffff;
	}
	seg->attr = (seg->attr & (SEG_DB | SEG_G | SEG_AVL)) | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
	seg->selector = selector;
	seg->base = (uint32_t)selector << 4;
}

struct segment segment_v8086(uint16_t selector)
{
	return (struct segment){.base = (uint32_t)selector << 4,
				.limit = 0xffff,
				.selector = selector,
				.attr = SEG_P | 3u << SEG_DPL_SHIFT | SEG_S | SEG_WRITABLE | SEG_ACCESSED};
}

void segment_set_null(struct cpu *cpu, enum sreg s, uint16_t selector)
{
	cpu->seg[s] = (struct segment){.selector = selector, .attr = SEG_UNUSABLE};
}

struct segment segment_null_stack(uint16_t selector, unsigned cpl)
{
	return (struct segment){.selector = selector, .attr = (uint16_t)(cpl << SEG_DPL_SHIFT)};
}

struct segment segment_flat_code(uint16_t selector, unsigned dpl, bool is_64)
{
	return (struct segment){.limit = 0xffffffff,
				.selector = selector,
				.attr = (uint16_t)(SEG_G | (is_64 ? SEG_L : SEG_DB) | SEG_P | dpl << SEG_DPL_SHIFT |
						   SEG_S | SEG_CODE | SEG_READABLE | SEG_ACCESSED)};
}

struct segment segment_flat_data(uint16_t selector, unsigned dpl)
{
	return (struct segment){.limit = 0xffffffff,
				.selector = selector,
				.attr = (uint16_t)(SEG_G | SEG_DB | SEG_P | dpl << SEG_DPL_SHIFT | SEG_S |
						   SEG_WRITABLE | SEG_ACCESSED)};
}

/* SDM 2A IRET: null selectors lose even their RPL, and nothing else does when its DPL suffices.
 * Bases stay: that of FS and GS belongs to the program in 64-bit mode. */
void segments_drop_privileged(struct cpu *cpu, unsigned cpl)
{
	static const enum sreg data[] = {ES, DS, FS, GS};

	for (unsigned i = 0; i < 4; i++) {
		struct segment *seg = &cpu->seg[data[i]];
		bool follows_caller = (seg->attr & (SEG_CODE | SEG_CONFORMING)) == (SEG_CODE | SEG_CONFORMING);

		if (SELECTOR_NULL(seg->selector) ||
		    ((seg->attr & SEG_P) && SEG_DPL(seg->attr) < cpl && !follows_caller)) {
			seg->selector = 0;
			seg->attr = SEG_UNUSABLE;
		}
	}
}

/* ---- checks ---- */

enum x stack_segment_check(struct cpu *cpu, const struct descriptor *d, unsigned cpl, enum vector v, unsigned ext)
{
	if (SELECTOR_RPL(d->selector) != cpl || SEG_DPL(d->attr) != cpl || !descriptor_is_writable_data(d))
		return raise_selector(cpu, v, d->selector, ext);
	if (!(d->attr & SEG_P))
		return raise_selector(cpu, VEC_SS, d->selector, ext);
	return X_OK;
}

enum x code_bits_check(struct cpu *cpu, const struct descriptor *d, unsigned ext)
{
	if (cpu_long_active(cpu) && (d->attr & SEG_L) && (d->attr & SEG_DB))
		return raise_selector(cpu, VEC_GP, d->selector, ext);
	return X_OK;
}

enum x code_offset_check(struct cpu *cpu, const struct segment *cs, uint64_t rip, unsigned ext)
{
	if (code_is_64(cpu, cs->attr) ? !cpu_canonical(rip) : rip > cs->limit)
		return cpu_raise_error(cpu, VEC_GP, ext);
	return X_OK;
}

/* ---- loading ---- */

static enum x segment_load_stack(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	if (SELECTOR_NULL(selector)) {
		if (cpu->mode != MODE_LONG || cpu->cpl == 3 || SELECTOR_RPL(selector) != cpu->cpl)
			return cpu_raise_error(cpu, VEC_GP, 0);
		cpu->seg[SS] = segment_null_stack(selector, cpu->cpl);
		return X_OK;
	}
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	TRY(stack_segment_check(cpu, &d, cpu->cpl, VEC_GP, 0));
	TRY(descriptor_mark_accessed(cpu, &d));
	cpu->seg[SS] = descriptor_segment(&d, selector);
	return X_OK;
}

enum x segment_load(struct cpu *cpu, enum sreg s, uint16_t selector)
{
	struct descriptor d;
	unsigned dpl;

	if (cpu_real_or_v86(cpu)) {
		segment_set_real(cpu, s, selector);
		cpu_update_mode(cpu);
		return X_OK;
	}
	if (s == SS) {
		TRY(segment_load_stack(cpu, selector));
		cpu_update_mode(cpu);
		return X_OK;
	}
	if (SELECTOR_NULL(selector)) {
		segment_set_null(cpu, s, selector);
		return X_OK;
	}
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	dpl = SEG_DPL(d.attr);
	if (!(d.attr & SEG_S) || (d.attr & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (!descriptor_is_conforming(&d) && (SELECTOR_RPL(selector) > dpl || cpu->cpl > dpl))
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (!(d.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, 0);
	TRY(descriptor_mark_accessed(cpu, &d));
	cpu->seg[s] = descriptor_segment(&d, selector);
	return X_OK;
}

/* The upper half in long mode, and its canonical base. */
static enum x system_descriptor_complete(struct cpu *cpu, struct descriptor *d)
{
	if (!cpu_long_active(cpu))
		return X_OK;
	TRY(descriptor_read_high(cpu, d, VEC_GP, 0));
	return cpu_canonical(descriptor_base(d)) ? X_OK : raise_selector(cpu, VEC_GP, d->selector, 0);
}

enum x segment_load_ldtr(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;

	if (SELECTOR_NULL(selector)) {
		cpu->ldtr = (struct segment){.selector = selector, .attr = SEG_UNUSABLE};
		return X_OK;
	}
	if (selector & SELECTOR_TI)
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	if (descriptor_type(&d) != TYPE_LDT)
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (!(d.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, 0);
	TRY(system_descriptor_complete(cpu, &d));
	cpu->ldtr = descriptor_segment(&d, selector);
	return X_OK;
}

enum x segment_load_tr(struct cpu *cpu, uint16_t selector)
{
	struct descriptor d;
	unsigned type;

	if (SELECTOR_NULL(selector))
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (selector & SELECTOR_TI)
		return raise_selector(cpu, VEC_GP, selector, 0);
	TRY(descriptor_read(cpu, selector, &d, VEC_GP, 0));
	type = descriptor_type(&d);
	if (type != TYPE_TSS32 && (type != TYPE_TSS16 || cpu_long_active(cpu)))
		return raise_selector(cpu, VEC_GP, selector, 0);
	if (!(d.attr & SEG_P))
		return raise_selector(cpu, VEC_NP, selector, 0);
	TRY(system_descriptor_complete(cpu, &d));
	TRY(descriptor_change(cpu, &d, TYPE_BUSY, 0));
	d.attr |= TYPE_BUSY;
	cpu->tr = descriptor_segment(&d, selector);
	return X_OK;
}

/* ---- addresses ---- */

static enum x linear_fault(struct cpu *cpu, enum sreg s) { return cpu_raise_error(cpu, s == SS ? VEC_SS : VEC_GP, 0); }

/* SDM 3A 5.3. A segment of 4 GiB has no end: what runs over it wraps around, as it does in the flat
 * segments whose limits nobody checks (the manual leaves it to the implementation). */
static bool limit_allows(const struct segment *seg, bool real, uint32_t offset, uint64_t last)
{
	if (!real && (seg->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
		return offset > seg->limit && last <= (seg->attr & SEG_DB ? 0xffffffffu : 0xffffu);
	return last <= seg->limit || seg->limit == 0xffffffffu;
}

enum x segment_linear(struct cpu *cpu, enum sreg s, uint64_t offset, uint64_t size, unsigned access, uint64_t *linear)
{
	const struct segment *seg = &cpu->seg[s];
	uint64_t last = size ? size - 1 : 0;
	bool real = cpu->mode == MODE_REAL;

	if (cpu->mode == MODE_LONG) {
		uint64_t at = s == FS || s == GS ? offset + seg->base : offset;

		if (!cpu_canonical(at) || !cpu_canonical(at + last))
			return linear_fault(cpu, s);
		*linear = at;
		return X_OK;
	}
	if (!(seg->attr & SEG_P))
		return linear_fault(cpu, s);
	if (!real) {
		if ((access & ACCESS_WRITE) && (seg->attr & (SEG_CODE | SEG_WRITABLE)) != SEG_WRITABLE)
			return linear_fault(cpu, s);
		if ((access & ACCESS_READ) && (seg->attr & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
			return linear_fault(cpu, s);
	}
	if (!limit_allows(seg, real, (uint32_t)offset, (uint32_t)offset + last))
		return linear_fault(cpu, s);
	*linear = (uint32_t)(seg->base + offset);
	return X_OK;
}

/* ---- LAR, LSL, VERR, VERW ---- */

/* The descriptor, if the selector is not null, inside its table and visible at this CPL and RPL. */
static enum x visible_descriptor(struct cpu *cpu, uint16_t selector, struct descriptor *d, bool *ok)
{
	*ok = !SELECTOR_NULL(selector);
	if (!*ok)
		return X_OK;
	TRY(descriptor_try(cpu, selector, d, ok));
	if (!*ok)
		return X_OK;
	if (!descriptor_is_conforming(d)) {
		unsigned dpl = SEG_DPL(d->attr);

		*ok = cpu->cpl <= dpl && SELECTOR_RPL(selector) <= dpl;
	}
	return X_OK;
}

/* System types that LAR and LSL know: SDM 2A, tables of LAR and LSL. One bit a type. */
static bool system_type_known(const struct cpu *cpu, const struct descriptor *d, bool with_limit_only)
{
	unsigned known = cpu_long_active(cpu) ? 1u << TYPE_LDT | 1u << TYPE_TSS32 | 1u << TYPE_TSS32_BUSY
					      : 1u << TYPE_TSS16 | 1u << TYPE_LDT | 1u << TYPE_TSS16_BUSY |
							1u << TYPE_TSS32 | 1u << TYPE_TSS32_BUSY;

	if (!with_limit_only) {
		known |= 1u << TYPE_CALL32;
		if (!cpu_long_active(cpu))
			known |= 1u << TYPE_CALL16 | 1u << TYPE_TASK_GATE;
	}
	return (d->attr & SEG_S) || (known >> (d->attr & SEG_TYPE) & 1);
}

enum x segment_lar(struct cpu *cpu, uint16_t selector, bool *ok, uint32_t *rights)
{
	struct descriptor d;

	TRY(visible_descriptor(cpu, selector, &d, ok));
	if (*ok)
		*ok = system_type_known(cpu, &d, false);
	if (*ok)
		*rights =
			d.raw >> 32 & 0x00ffff00; /* bits 16-19 are the limit's: undefined, and this is what they are */
	return X_OK;
}

enum x segment_lsl(struct cpu *cpu, uint16_t selector, bool *ok, uint32_t *limit)
{
	struct descriptor d;

	TRY(visible_descriptor(cpu, selector, &d, ok));
	if (*ok)
		*ok = system_type_known(cpu, &d, true);
	if (*ok)
		*limit = descriptor_limit(&d);
	return X_OK;
}

enum x segment_verify(struct cpu *cpu, uint16_t selector, bool write, bool *ok)
{
	struct descriptor d;

	TRY(visible_descriptor(cpu, selector, &d, ok));
	if (!*ok)
		return X_OK;
	if (write)
		*ok = descriptor_is_writable_data(&d);
	else
		*ok = (d.attr & SEG_S) && (d.attr & (SEG_CODE | SEG_READABLE)) != SEG_CODE;
	return X_OK;
}
