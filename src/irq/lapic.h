/*
 * Local APICs, one a vCPU, and the bus between them that I/O APIC, MSIs and IPIs send messages on.
 * xAPIC (MMIO page) and x2APIC (MSRs), timer in one-shot, periodic and TSC-deadline mode.
 *
 * Any thread, always under the owner's lock (vm->lock): what a vCPU does for itself (the callbacks
 * of struct cpu_env, MMIO exits) takes it as well. Sources: SDM 3A chapter 11 "APIC", APM 2
 * chapter 16.
 */
#ifndef RINGSIDE_LAPIC_H
#define RINGSIDE_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/apic.h"
#include "util/timer.h"

#define LAPIC_MAX 64 /* on one bus */
#define LAPIC_DEFAULT_BASE 0xfee00000ull
#define LAPIC_MMIO_SIZE 4096
#define LAPIC_TIMER_HZ 1000000000ull /* the "bus clock" that the timer divides: CPUID and calibration find it */

struct lapic;
struct memory;

enum lapic_delivery {
	LAPIC_FIXED = 0, LAPIC_LOWEST = 1, LAPIC_SMI = 2, LAPIC_NMI = 4, LAPIC_INIT = 5, LAPIC_STARTUP = 6,
	LAPIC_EXTINT = 7,
};

/* A message on the APIC bus: from the I/O APIC, an MSI, or another local APIC's ICR. */
struct lapic_message {
	uint32_t dest; /* APIC ID or logical destination; 0xff (xAPIC physical) and 0xffffffff are broadcasts */
	bool logical;
	bool level;    /* trigger mode of the interrupt */
	uint8_t mode;  /* enum lapic_delivery */
	uint8_t vector;
};

struct lapic_bus {
	struct lapic *lapic[LAPIC_MAX]; /* by index; NULL = none */
	unsigned count;                 /* highest index + 1 */
	/* Somebody else has the local APICs: messages go there, those here sleep, but for the level of their pins. How many
	 * took it, 0: it was pending already, negative: nobody. NULL: they are here. */
	int (*message)(void *opaque, const struct apic_msi *m);
	void *message_opaque;
};

/* What a local APIC asks of the machine. `index` is the vCPU's. Called under the lock. */
struct lapic_ops {
	/* lapic_pending_vector or lapic_extint_pending may have become true: wake the vCPU, vcpu_kick. */
	void (*kick)(void *opaque, unsigned index);
	void (*nmi)(void *opaque, unsigned index);
	/* INIT: the vCPU is to do cpu_reset(cpu, true) and lapic_reset(lapic, true) on its own thread, and
	 * then (unless it is the BSP) to wait for `startup`. */
	void (*init)(void *opaque, unsigned index);
	/* SIPI: CS = vector << 8, RIP = 0, if the vCPU waits for it (else to be ignored). */
	void (*startup)(void *opaque, unsigned index, uint8_t vector);
	/* EOI of a level-triggered vector: for the I/O APIC. */
	void (*eoi)(void *opaque, unsigned index, uint8_t vector);
	/* The guest's TSC on this vCPU now, as RDTSC gives. Called on any thread. */
	uint64_t (*tsc)(void *opaque, unsigned index);
};

struct lapic_config {
	unsigned index;         /* of the vCPU: initial APIC ID; 0 is the BSP */
	struct lapic_bus *bus;  /* it registers itself there */
	struct timer_queue *timers;
	const struct lapic_ops *ops;
	void *opaque;
	uint64_t tsc_khz;       /* for TSC-deadline mode */
	unsigned phys_bits;     /* reserved bits of IA32_APIC_BASE */
	bool x2apic;            /* CPUID.1:ECX.x2APIC: x2APIC mode may be turned on */
	struct memory *memory;  /* for paravirtual EOI; NULL: none */
};

struct lapic *lapic_new(const struct lapic_config *config); /* NULL and errno; state as after RESET */
void lapic_free(struct lapic *l);                           /* leaves the bus, cancels the timer */
void lapic_reset(struct lapic *l, bool init);               /* RESET, or INIT (APIC_BASE and ID stay) */

/* ---- interrupts into the vCPU ---- */
/* Highest vector that may be delivered to the processor now (IRR above PPR), or -1. */
int lapic_pending_vector(struct lapic *l);
/* The processor takes that vector: IRR -> ISR. Returns it, -1 if none is pending any more. */
int lapic_ack(struct lapic *l);
/* The 8259's INTR is asserted and gets through (LINT0 as ExtINT, or the APIC is off): the vector is
 * then to be asked of the PIC. Comes after lapic_pending_vector. */
bool lapic_extint_pending(const struct lapic *l);
/* It is asserted, and the I/O APIC has sent it: LINT0 is not asked. Also where the local APICs are elsewhere. */
bool lapic_extint_sent(const struct lapic *l);

/* KVM's paravirtual EOI, MSR 0x4b564d04: address of a byte in guest memory, and an enable bit. Its bit 0 is set for an
 * interrupt whose EOI nobody waits for; the guest may clear it instead of doing the EOI. */
void lapic_set_pv_eoi(struct lapic *l, uint64_t value);
uint64_t lapic_get_pv_eoi(const struct lapic *l);
/* Sees whether the guest did so. On the vCPU's thread, not in the guest, before its state matters. */
void lapic_pv_eoi(struct lapic *l);
uint64_t lapic_pv_eois(const struct lapic *l); /* how many were done that way */

/* ---- local APICs that are elsewhere ---- */
/* All there is to know of it, before it goes to sleep; and a new state, when it has woken. */
void lapic_get_state(struct lapic *l, struct apic_state *s);
void lapic_set_state(struct lapic *l, const struct apic_state *s);
/* All on the bus fall asleep, with their timers, or (message NULL) wake; lapic_set_state then says how it stands. */
void lapic_bus_set_elsewhere(struct lapic_bus *bus, int (*message)(void *opaque, const struct apic_msi *m), void *opaque);
/* The vector waits, or is in service, in one of them. They are awake. */
bool lapic_bus_has_vector(const struct lapic_bus *bus, uint8_t vector);
/* What carries that message. */
struct apic_msi lapic_message_msi(const struct lapic_message *m);

/* ---- messages and pins ---- */
/* How many local APICs took it (0: no such destination); *coalesced (may be NULL) = it was pending in
 * all of them already, so that a periodic timer's tick got lost. */
int lapic_bus_deliver(struct lapic_bus *bus, const struct lapic_message *m, bool *coalesced);
/* To the local APICs with these indexes. */
int lapic_bus_deliver_to(struct lapic_bus *bus, uint64_t targets, enum lapic_delivery mode, uint8_t vector);
/* An MSI: a 32-bit write of `data` to address 0xfeexxxxx. */
int lapic_bus_deliver_msi(struct lapic_bus *bus, uint64_t address, uint32_t data);
/* One local APIC only: returns true if the vector was not pending already. */
bool lapic_deliver(struct lapic *l, enum lapic_delivery mode, uint8_t vector, bool level);
/* Level of the pin: 0 = LINT0 (the 8259's INTR, on every local APIC), 1 = LINT1 (NMI). */
void lapic_set_lint(struct lapic *l, unsigned pin, bool level);

/* ---- registers ---- */
/* The page in MMIO space that answers to this vCPU only: true when [gpa, gpa+size) lies in it. False
 * when the APIC is off or in x2APIC mode. The glue asks before it tries the bus. */
bool lapic_claims(const struct lapic *l, uint64_t gpa, unsigned size);
uint64_t lapic_read(struct lapic *l, unsigned offset, unsigned size); /* offset in the page, size 1 2 4 8 */
void lapic_write(struct lapic *l, unsigned offset, uint64_t value, unsigned size);
/* MSRs 0x800-0x8ff in x2APIC mode, and IA32_TSC_DEADLINE (0x6e0): cpu_env.x2apic_*. False: #GP. */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value);
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value);
/* IA32_APIC_BASE: cpu_env.*_apic_base. False: #GP. */
uint64_t lapic_get_base(const struct lapic *l);
bool lapic_set_base(struct lapic *l, uint64_t value);
/* CR8. */
uint8_t lapic_get_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, uint8_t cr8);
uint32_t lapic_id(const struct lapic *l);

#endif
