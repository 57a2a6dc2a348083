/*
 * Registers of the local APIC: the page of xAPIC mode, the MSRs of x2APIC mode, and all of its state for whoever takes
 * over. See lapic.h for threads and lock. Sources: SDM 3A chapter 11 "Advanced Programmable Interrupt Controller".
 */
#include "irq/lapic_internal.h"

/* ---- registers ---- */

static const uint32_t lvt_writable[LVT_COUNT] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};

static void write_lvt(struct lapic *l, enum lvt which, uint32_t value)
{
	uint32_t old = l->lvt[which];

	value &= lvt_writable[which];
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (which == LVT_TIMER)
		lapic_timer_catch_up(l);
	/* A change to or from TSC-deadline mode disarms the timer. */
	if (which == LVT_TIMER && (TIMER_MODE(value) == TIMER_TSC_DEADLINE) != (TIMER_MODE(old) == TIMER_TSC_DEADLINE))
		lapic_timer_stop(l);
	if (value & LVT_LEVEL)
		value |= old & LVT_REMOTE_IRR;
	l->lvt[which] = value;
	if (which == LVT_TIMER)
		lapic_timer_wait(l);
	/* A level that is there is seen when it is let through; NMI and INIT are edges. */
	if (which == LVT_LINT0 && l->lint[0] &&
	    (LVT_MODE(value) == LAPIC_EXTINT || (LVT_MODE(value) == LAPIC_FIXED && (value & LVT_LEVEL))))
		lapic_deliver_lvt(l, LVT_LINT0);
}

static void write_svr(struct lapic *l, uint32_t value)
{
	l->svr = value & SVR_WRITABLE;
	if (!(l->svr & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			l->lvt[i] |= LVT_MASKED;
}

static void write_tpr(struct lapic *l, uint32_t value)
{
	l->tpr = value & 0xff;
	lapic_update(l);
}

/* Registers that xAPIC and x2APIC mode read alike; false: there is none. */
static bool read_register(struct lapic *l, unsigned reg, uint32_t *value)
{
	if (reg >= REG_ISR && reg < REG_ESR) {
		const uint32_t *map = reg < REG_TMR ? l->isr : reg < REG_IRR ? l->tmr : l->irr;

		*value = map[reg >> 4 & 7];
		return true;
	}
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT) {
		*value = l->lvt[(reg - REG_LVT) >> 4];
		return true;
	}
	switch (reg) {
	case REG_ID:
		*value = x2apic_mode(l) ? lapic_id(l) : lapic_id(l) << 24;
		return true;
	case REG_VERSION:
		*value = VERSION;
		return true;
	case REG_TPR:
		*value = l->tpr;
		return true;
	case REG_PPR:
		*value = lapic_priority(l);
		return true;
	case REG_LDR:
		*value = l->ldr;
		return true;
	case REG_SVR:
		*value = l->svr;
		return true;
	case REG_ESR:
		*value = l->esr_seen;
		return true;
	case REG_ICR:
		*value = (uint32_t)l->icr;
		return true;
	case REG_INITIAL_COUNT:
		*value = l->initial_count;
		return true;
	case REG_CURRENT_COUNT:
		*value = lapic_timer_count(l);
		return true;
	case REG_DIVIDE:
		*value = l->divide;
		return true;
	default:
		return false;
	}
}

/* Registers that both modes write alike; false: there is none, or it is read-only. */
static bool write_register(struct lapic *l, unsigned reg, uint32_t value)
{
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT) {
		write_lvt(l, (reg - REG_LVT) >> 4, value);
		return true;
	}
	switch (reg) {
	case REG_TPR:
		write_tpr(l, value);
		return true;
	case REG_EOI:
		lapic_end_of_interrupt(l);
		return true;
	case REG_SVR:
		write_svr(l, value);
		return true;
	case REG_ESR:
		l->esr_seen = l->esr;
		l->esr = 0;
		return true;
	case REG_INITIAL_COUNT:
		if (lapic_timer_mode(l) != TIMER_TSC_DEADLINE) {
			l->initial_count = value;
			lapic_timer_start(l, value);
		}
		return true;
	case REG_DIVIDE:
		lapic_timer_set_divider(l, value);
		return true;
	default:
		return false;
	}
}

bool lapic_claims(const struct lapic *l, uint64_t gpa, unsigned size)
{
	uint64_t page = l->base & ~0xfffull;

	return (l->base & BASE_ENABLE) && !x2apic_mode(l) && !asleep(l) && gpa >= page && gpa - page <= LAPIC_MMIO_SIZE - size;
}

uint64_t lapic_read(struct lapic *l, unsigned offset, unsigned size)
{
	unsigned reg = offset & ~0xfu, byte = offset & 0xf;
	uint32_t value = 0;

	lapic_pv_eoi(l);
	if (byte >= 4) /* between the registers */
		return 0;
	switch (reg) {
	case REG_APR:
	case REG_RRD:
		break;
	case REG_DFR:
		value = l->dfr;
		break;
	case REG_ICR_HIGH:
		value = (uint32_t)(l->icr >> 32) << 24;
		break;
	default:
		if (!read_register(l, reg, &value))
			lapic_error(l, ESR_ILLEGAL_REGISTER);
	}
	value >>= 8 * byte;
	return size >= 4 ? value : value & ((1u << 8 * size) - 1);
}

void lapic_write(struct lapic *l, unsigned offset, uint64_t value, unsigned size)
{
	uint32_t v = (uint32_t)value;

	lapic_pv_eoi(l);
	if ((offset & 0xf) || size < 4) /* registers are written whole */
		return;
	switch (offset) {
	case REG_ID:
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_CURRENT_COUNT:
	case REG_ISR ... REG_ESR - 1:
		break; /* read-only */
	case REG_LDR:
		l->ldr = v & 0xff000000;
		break;
	case REG_DFR:
		l->dfr = v | 0x0fffffff;
		break;
	case REG_ICR:
		l->icr = (l->icr & ~0xffffffffull) | (v & ICR_WRITABLE);
		lapic_send_ipi(l);
		break;
	case REG_ICR_HIGH:
		l->icr = (uint32_t)l->icr | (uint64_t)(v >> 24) << 32;
		break;
	default:
		if (!write_register(l, offset, v))
			lapic_error(l, ESR_ILLEGAL_REGISTER);
	}
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
	unsigned reg = (msr - MSR_X2APIC) << 4;
	uint32_t v;

	lapic_pv_eoi(l);
	if (msr == MSR_TSC_DEADLINE) {
		*value = lapic_timer_mode(l) == TIMER_TSC_DEADLINE ? l->tsc_deadline : 0;
		return true;
	}
	if (!x2apic_mode(l) || msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff)
		return false;
	if (reg == REG_ICR) {
		*value = l->icr;
		return true;
	}
	if (!read_register(l, reg, &v))
		return false;
	*value = v;
	return true;
}

/* Bits of a register that WRMSR may not set. Those that are read-only are ignored, as in a read-modify-write. */
static uint32_t x2apic_reserved(unsigned reg)
{
	if (reg >= REG_LVT && reg < REG_LVT + 0x10 * LVT_COUNT)
		return ~(lvt_writable[(reg - REG_LVT) >> 4] | LVT_READ_ONLY);
	switch (reg) {
	case REG_TPR:
		return ~0xffu;
	case REG_EOI:
	case REG_ESR:
		return ~0u;
	case REG_SVR:
		return ~SVR_WRITABLE;
	case REG_DIVIDE:
		return ~DIVIDE_WRITABLE;
	default:
		return 0;
	}
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
	unsigned reg = (msr - MSR_X2APIC) << 4;

	lapic_pv_eoi(l);
	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_deadline(l, value);
		return true;
	}
	if (!x2apic_mode(l) || msr < MSR_X2APIC || msr > MSR_X2APIC + 0xff)
		return false;
	if (reg == REG_ICR) {
		if (value & 0xffffffff & ~(uint64_t)(ICR_WRITABLE | 1u << 12))
			return false;
		l->icr = value & (0xffffffff00000000ull | ICR_WRITABLE);
		lapic_send_ipi(l);
		return true;
	}
	if (value >> 32)
		return false;
	if (reg == REG_SELF_IPI) {
		if (value > 0xff)
			return false;
		if (value < 16)
			lapic_error(l, ESR_SEND_ILLEGAL_VECTOR);
		else
			lapic_deliver(l, LAPIC_FIXED, (uint8_t)value, false);
		return true;
	}
	if (value & x2apic_reserved(reg))
		return false;
	return write_register(l, reg, (uint32_t)value);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
	return l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8)
{
	write_tpr(l, (uint32_t)(cr8 & 0xf) << 4);
}

/* ---- to and from elsewhere ---- */

void lapic_get_state(struct lapic *l, struct apic_state *s)
{
	lapic_pv_eoi(l);
	lapic_withdraw_pv_eoi(l);
	lapic_timer_catch_up(l);
	lapic_timer_tick_due(l);
	*s = (struct apic_state){.base = l->base, .tsc_deadline = l->tsc_deadline, .pv_eoi = l->pv_eoi_msr};
	for (unsigned i = 0; i < 8; i++) {
		s->reg[(REG_ISR >> 4) + i] = l->isr[i];
		s->reg[(REG_TMR >> 4) + i] = l->tmr[i];
		s->reg[(REG_IRR >> 4) + i] = l->irr[i];
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		s->reg[(REG_LVT >> 4) + i] = l->lvt[i];
	s->reg[REG_ID >> 4] = lapic_id(l) << 24;
	s->reg[REG_VERSION >> 4] = VERSION;
	s->reg[REG_TPR >> 4] = l->tpr;
	s->reg[REG_LDR >> 4] = l->ldr;
	s->reg[REG_DFR >> 4] = l->dfr;
	s->reg[REG_SVR >> 4] = l->svr;
	s->reg[REG_ESR >> 4] = l->esr_seen;
	s->reg[REG_ICR >> 4] = (uint32_t)l->icr;
	s->reg[REG_ICR_HIGH >> 4] = (uint32_t)(l->icr >> 32) << (x2apic_mode(l) ? 0 : 24);
	s->reg[REG_DIVIDE >> 4] = l->divide;
	if (l->deadline) {
		s->reg[REG_INITIAL_COUNT >> 4] = l->initial_count;
		s->reg[REG_CURRENT_COUNT >> 4] = lapic_timer_count(l);
		if (!s->reg[REG_CURRENT_COUNT >> 4])
			s->reg[REG_CURRENT_COUNT >> 4] = 1; /* its tick is on the way */
	}
}

static void start_timer(struct lapic *l, const struct apic_state *s)
{
	uint32_t left = s->reg[REG_CURRENT_COUNT >> 4];

	l->initial_count = s->reg[REG_INITIAL_COUNT >> 4];
	if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE) {
		lapic_timer_set_deadline(l, s->tsc_deadline);
		return;
	}
	if (left || lapic_timer_mode(l) == TIMER_PERIODIC)
		lapic_timer_start(l, left ? left : l->initial_count);
	else if (l->initial_count) /* Has its tick come? One too many does less harm than none. */
		lapic_timer_start(l, 1);
}

void lapic_set_state(struct lapic *l, const struct apic_state *s)
{
	lapic_timer_stop(l);
	l->base = s->base;
	for (unsigned i = 0; i < 8; i++) {
		l->isr[i] = s->reg[(REG_ISR >> 4) + i];
		l->tmr[i] = s->reg[(REG_TMR >> 4) + i];
		l->irr[i] = s->reg[(REG_IRR >> 4) + i];
	}
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = s->reg[(REG_LVT >> 4) + i] & (lvt_writable[i] | LVT_REMOTE_IRR);
	l->tpr = s->reg[REG_TPR >> 4] & 0xff;
	l->ldr = x2apic_mode(l) ? lapic_x2apic_ldr(l) : s->reg[REG_LDR >> 4] & 0xff000000;
	l->dfr = s->reg[REG_DFR >> 4] | 0x0fffffff;
	l->svr = s->reg[REG_SVR >> 4] & SVR_WRITABLE;
	l->esr_seen = s->reg[REG_ESR >> 4];
	l->esr = 0;
	l->icr = (uint64_t)(s->reg[REG_ICR_HIGH >> 4] >> (x2apic_mode(l) ? 0 : 24)) << 32 |
		 (s->reg[REG_ICR >> 4] & ICR_WRITABLE);
	l->divide = s->reg[REG_DIVIDE >> 4] & DIVIDE_WRITABLE;
	l->pv_eoi_msr = l->config.memory ? s->pv_eoi : 0;
	l->pv_eoi_set = false;
	start_timer(l, s);
	lapic_update(l);
}
