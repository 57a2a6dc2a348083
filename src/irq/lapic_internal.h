/*
 * The local APIC, inside: what lapic.c, which takes, orders and sends interrupts and has the timer, and
 * lapic_registers.c, by which software sees and sets all that, share. Under the lock of lapic.h.
 */
#ifndef RINGSIDE_LAPIC_INTERNAL_H
#define RINGSIDE_LAPIC_INTERNAL_H

#include "irq/lapic.h"

#define BASE_BSP (1ull << 8)
#define BASE_X2APIC (1ull << 10)
#define BASE_ENABLE (1ull << 11)

#define VERSION 0x01050014u /* EOI broadcasts can be suppressed, 6 LVT entries, integrated APIC */
#define SVR_ENABLE (1u << 8)
#define SVR_NO_EOI_BROADCAST (1u << 12) /* the guest tells the I/O APIC itself */
#define SVR_WRITABLE 0x13ffu
#define LVT_MASKED (1u << 16)
#define LVT_LEVEL (1u << 15)
#define LVT_REMOTE_IRR (1u << 14)
#define LVT_READ_ONLY (1u << 12 | LVT_REMOTE_IRR) /* delivery status, remote IRR */
#define LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define TIMER_MODE(lvt) ((lvt) >> 17 & 3)
#define ESR_SEND_ILLEGAL_VECTOR (1u << 5)
#define ESR_RECEIVE_ILLEGAL_VECTOR (1u << 6)
#define ESR_ILLEGAL_REGISTER (1u << 7)
#define ICR_WRITABLE 0xccfffu /* vector, mode, destination mode, level, trigger, shorthand */
#define ICR_LOGICAL (1u << 11)
#define ICR_ASSERT (1u << 14)
#define ICR_LEVEL (1u << 15)
#define DFR_FLAT 0xfu
#define DIVIDE_WRITABLE 0xbu
#define BROADCAST 0xffffffffu
#define XAPIC_BROADCAST 0xffu

#define MSI_LOGICAL (1u << 2)
#define MSI_REDIRECTION (1u << 3)
#define MSI_ASSERT (1u << 14)
#define MSI_LEVEL (1u << 15)

#define PV_EOI_ENABLED 1ull
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u

/* A periodic timer fires no more often than this, whatever the guest asks: ticks in between merge. */
#define TIMER_PERIOD_MIN_NS 50000ull
#define TIMER_WAIT_MAX_NS (3600ull * 1000000000)

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Register offsets in the page; in x2APIC mode the MSR is 0x800 + offset / 16. */
enum {
	REG_ID = 0x20,
	REG_VERSION = 0x30,
	REG_TPR = 0x80,
	REG_APR = 0x90,
	REG_PPR = 0xa0,
	REG_EOI = 0xb0,
	REG_RRD = 0xc0,
	REG_LDR = 0xd0,
	REG_DFR = 0xe0,
	REG_SVR = 0xf0,
	REG_ISR = 0x100,
	REG_TMR = 0x180,
	REG_IRR = 0x200,
	REG_ESR = 0x280,
	REG_ICR = 0x300,
	REG_ICR_HIGH = 0x310,
	REG_LVT = 0x320,
	REG_INITIAL_COUNT = 0x380,
	REG_CURRENT_COUNT = 0x390,
	REG_DIVIDE = 0x3e0,
	REG_SELF_IPI = 0x3f0,
};

struct lapic {
	struct lapic_config config;
	uint64_t base; /* IA32_APIC_BASE */
	uint32_t tpr, ldr, dfr, svr;
	uint32_t esr, esr_seen; /* errors since, and at, the last write of ESR */
	uint64_t icr;           /* in x2APIC's format: destination in bits 63-32 */
	uint32_t lvt[LVT_COUNT];
	uint32_t isr[8], tmr[8], irr[8];
	bool lint[2];       /* levels of the pins */
	uint64_t pv_eoi_msr; /* as the guest wrote it */
	bool pv_eoi_set;     /* the byte in guest memory is 1: the interrupt in service may have ended without us */
	uint64_t pv_eois;
	bool extint_message; /* the I/O APIC passed the 8259's request on; until INTR falls */

	struct timer timer;
	uint32_t initial_count, divide;
	uint64_t deadline;     /* one-shot, periodic: when the count reaches 0; 0 = stopped */
	uint64_t last_tick;    /* when the host's timer last did that */
	uint64_t tsc_deadline; /* 0 = none */
};

static inline bool x2apic_mode(const struct lapic *l)
{
	return (l->base & (BASE_ENABLE | BASE_X2APIC)) == (BASE_ENABLE | BASE_X2APIC);
}

static inline bool software_enabled(const struct lapic *l)
{
	return (l->base & BASE_ENABLE) && (l->svr & SVR_ENABLE);
}

static inline bool asleep(const struct lapic *l)
{
	return l->config.bus->message;
}

static inline uint64_t now_ns(const struct lapic *l)
{
	return timer_queue_now(l->config.timers);
}

/* ---- lapic.c ---- */
/* PPR. */
uint32_t lapic_priority(const struct lapic *l);
/* Something changed: the vCPU has to look when there is something for it. */
void lapic_update(struct lapic *l);
/* Notes an error for ESR; the first of its kind is an interrupt. */
void lapic_error(struct lapic *l, uint32_t bit);
void lapic_end_of_interrupt(struct lapic *l);
void lapic_withdraw_pv_eoi(struct lapic *l);
/* The source of this LVT entry has something to say. */
void lapic_deliver_lvt(struct lapic *l, enum lvt which);
/* A write of ICR: an IPI. */
void lapic_send_ipi(struct lapic *l);
enum timer_mode lapic_timer_mode(const struct lapic *l);
void lapic_timer_stop(struct lapic *l);
uint32_t lapic_timer_count(const struct lapic *l);
/* To be called before anything changes that makes ticks noticed again: those up to now were not. */
void lapic_timer_catch_up(struct lapic *l);
/* A tick that is due, and that the host has not delivered yet, comes now. */
void lapic_timer_tick_due(struct lapic *l);
/* Sets the host's timer to the deadline. */
void lapic_timer_wait(struct lapic *l);
/* From so many counts down; 0 stops it. */
void lapic_timer_start(struct lapic *l, uint32_t count);
void lapic_timer_set_deadline(struct lapic *l, uint64_t value);
void lapic_timer_set_divider(struct lapic *l, uint32_t value);
uint32_t lapic_x2apic_ldr(const struct lapic *l);

#endif
