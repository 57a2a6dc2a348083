/*
 * Whether guests really run here: a /dev/kvm that opens, and creates machines, may still not be able to run ordinary
 * guests, as under hypervisors that nest badly. A small guest of its own tries what guests need.
 *
 * The first half is for C, the second also for the guest's assembler source.
 */
#ifndef RINGSIDE_KVM_SELFTEST_H
#define RINGSIDE_KVM_SELFTEST_H

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvm_host;

struct kvm_selftest {
	uint32_t us;      /* microseconds that it took, all in all */
	uint32_t exits;   /* times that the guest was entered; 0 if it did not come to its end */
	bool loses_xcr0;  /* what XSETBV has set is not there after an exit: guests cannot use XSAVE and AVX */
	char why[160];    /* what failed, one line without a newline; "" when nothing did */
};

/* In a process of its own, whatever KVM does: some milliseconds; the guest gets no more than about 100 ms in which it can
 * run (50 times as long where the processor itself is emulated by QEMU's TCG). The machine is made as the engine makes its
 * own, with the local APICs in the kernel if KVM has that. 0, or -errno with why set: of what makes the machine, -ETIMEDOUT
 * when the guest hung, -EIO when it went wrong. To be called while the process has one thread. */
int kvm_selftest(const struct kvm_host *host, struct kvm_selftest *test);
#endif

/* Guest-physical memory, 64 KiB: the guest's code runs where it is linear = physical. */
#define SELFTEST_RAM 0x10000
#define SELFTEST_CODE 0x1000  /* two pages, the second one for ring 3 */
#define SELFTEST_STEP 0x3000  /* a byte: what is being tried; then what the guest counts */
#define SELFTEST_COUNTS 0x3008
#define SELFTEST_APIC_COUNTS 0x3010
#define SELFTEST_XCR0 0x3018  /* XCR0 after an exit, where there is XSAVE */
#define SELFTEST_HAS_APIC 0x301c /* a byte: the local APIC is in the kernel */
#define SELFTEST_PML4 0x4000
#define SELFTEST_PDPT 0x5000
#define SELFTEST_PD 0x6000
#define SELFTEST_PT 0x7000
#define SELFTEST_STACK 0x9000      /* its top; the page below */
#define SELFTEST_USER_STACK 0xa000 /* the same, for ring 3 */
#define SELFTEST_IST 0xb000
#define SELFTEST_DATA 0xc000
#define SELFTEST_HIDDEN 0xd000     /* mapped by the guest's page fault handler only */
/* Linear addresses besides. */
#define SELFTEST_ALIAS 0x100000      /* of DATA */
#define SELFTEST_ABSENT 0x101000     /* not present */
#define SELFTEST_MMIO 0x102000       /* of MMIO_GPA */
#define SELFTEST_READ_ONLY 0x103000  /* of DATA */
#define SELFTEST_NX 0x104000         /* of CODE, not executable */
#define SELFTEST_HIGH 0xffff800000000000 /* all of it again */
#define SELFTEST_MMIO_GPA 0xd0000000

/* What the guest is told, and tells. */
#define SELFTEST_PORT_FAIL 0x10
#define SELFTEST_PORT_DONE 0x11
#define SELFTEST_PORT_IN 0x12
#define SELFTEST_PORT_OUT 0x13
#define SELFTEST_PORT_INTERRUPT 0x14 /* asks for one as soon as it may be */
#define SELFTEST_PORT_EXIT 0x15 /* for the exit */
#define SELFTEST_PORT_MSI 0x16  /* asks for one, at once */
#define SELFTEST_IN 0x5aa5
#define SELFTEST_OUT 0x1badcafe
#define SELFTEST_STRING 0x20676e6972747320 /* sent by REP OUTSB, low byte first */
#define SELFTEST_MMIO_IN 0x87654321
#define SELFTEST_MMIO_OUT 0x0123456789abcdef
#define SELFTEST_MAGIC 0x600dc0de
#define SELFTEST_VECTOR_HLT 0x40
#define SELFTEST_VECTOR_WINDOW 0x41
#define SELFTEST_VECTOR_MSI 0x42
#define SELFTEST_VECTOR_IPI 0x43
/* Events that the guest counts, a byte each at COUNTS: real-mode INT, protected-mode INT, page faults, SYSCALLs, #GP,
 * INT of ring 3, the two interrupts; at APIC_COUNTS the two that only a local APIC in the kernel has. */
#define SELFTEST_EVENTS 0x0101010101040101
#define SELFTEST_APIC_EVENTS 0x0101

#define SELFTEST_STEPS(X) \
	X(SELFTEST_START, 0, "their first instructions") \
	X(SELFTEST_REAL, 1, "real mode") \
	X(SELFTEST_PORTS, 2, "port I/O") \
	X(SELFTEST_PROTECTED, 3, "protected mode") \
	X(SELFTEST_LONG, 4, "long mode") \
	X(SELFTEST_VECTOR, 5, "vector instructions") \
	X(SELFTEST_PAGING, 6, "paging") \
	X(SELFTEST_RING3, 7, "ring 3") \
	X(SELFTEST_APIC, 8, "the local APIC") \
	X(SELFTEST_INTERRUPTS, 9, "interrupts") \
	X(SELFTEST_MEMORY_IO, 10, "memory I/O") \
	X(SELFTEST_END, 11, "its end")

#endif
