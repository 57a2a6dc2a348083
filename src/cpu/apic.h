/*
 * A local APIC's state as the architecture has it, and messages to local APICs: what two implementations of it, Ringside's
 * (irq/lapic.h) and an engine's (engine.h), hand to each other. Plain data.
 *
 * Source: SDM 3A chapter 11 "APIC", table 11-1 (the registers' offsets), 11.11 "Message Signalled Interrupts".
 */
#ifndef RINGSIDE_APIC_H
#define RINGSIDE_APIC_H

#include <stdbool.h>
#include <stdint.h>

#define APIC_REGISTERS 64 /* 16 bytes apart in the page */

struct apic_state {
	/* By offset >> 4, in xAPIC's format whatever the mode: the ID is in bits 31-24. In x2APIC mode the upper half of ICR
	 * is the whole destination. The current count says what is left of the timer's period: 0 of a timer that is stopped. */
	uint32_t reg[APIC_REGISTERS];
	uint64_t base;         /* IA32_APIC_BASE */
	uint64_t tsc_deadline; /* IA32_TSC_DEADLINE; 0: none */
	/* KVM's paravirtual MSRs that go with it. */
	uint64_t pv_eoi, steal_time, clock;
	bool wait_sipi; /* the processor waits for a SIPI */
	/* A paravirtual kick that no HLT has used up; or there may be one: a HLT that ends early does less harm than one that
	 * never does. */
	bool unhalted;
};

/* A write of `data` to `address` 0xfeexxxxx. Address 0: none. */
struct apic_msi {
	uint64_t address;
	uint32_t data;
};

#endif
