/*
 * Log topics. Silence by default; `--log bt,lapic` turns topics on. Lines go to stderr.
 * Any thread may log: a line is written by one write(2).
 */
#ifndef RINGSIDE_LOG_H
#define RINGSIDE_LOG_H

#include <stdbool.h>

/* One row a topic: X(enumerator, name on the command line, what it tells). */
#define LOG_TOPICS(X) \
	X(LOG_BT, "bt", "binary translator: blocks translated, chained, evicted") \
	X(LOG_INTERP, "interp", "interpreter: every instruction") \
	X(LOG_CHECK, "check", "lockstep of bt and interp: compares all written memory after every block") \
	X(LOG_MMU, "mmu", "page faults, TLB flushes") \
	X(LOG_EXC, "exc", "exceptions and interrupts delivered to the guest") \
	X(LOG_MSR, "msr", "MSR accesses that raise #GP") \
	X(LOG_EXIT, "exit", "every VM exit") \
	X(LOG_PIO, "pio", "port I/O to ports that no device claims") \
	X(LOG_MMIO, "mmio", "memory I/O to addresses that no device claims") \
	X(LOG_LAPIC, "lapic", "local APIC") \
	X(LOG_IOAPIC, "ioapic", "I/O APIC") \
	X(LOG_PIC, "pic", "8259A interrupt controllers") \
	X(LOG_PIT, "pit", "8254 timer") \
	X(LOG_RTC, "rtc", "CMOS clock") \
	X(LOG_UART, "uart", "16550A serial port") \
	X(LOG_VGA, "vga", "VGA: modes") \
	X(LOG_VNC, "vnc", "VNC server: clients, errors") \
	X(LOG_ACPI, "acpi", "ACPI registers and tables") \
	X(LOG_PCI, "pci", "PCI configuration space, address registers") \
	X(LOG_VIRTIO, "virtio", "virtio devices: drivers, features, broken rules") \
	X(LOG_ATA, "ata", "commands of IDE and SATA drives") \
	X(LOG_BOOT, "boot", "loading of kernels") \
	X(LOG_FIRMWARE, "firmware", "what firmware asks of the machine, and its own debug output") \
	X(LOG_QMP, "qmp", "commands on the control socket") \
	X(LOG_KVM, "kvm", "KVM engine: memory slots, exits by KVM's own reasons") \
	X(LOG_KVMPV, "kvmpv", "KVM paravirtual clock and hypercalls") \
	X(LOG_NET, "net", "networks and network cards")

enum log_topic {
#define X(id, name, help) id,
	LOG_TOPICS(X)
#undef X
	LOG_TOPIC_COUNT
};

extern unsigned long log_enabled_topics; /* bit n = topic n; written before any thread starts */

static inline bool log_on(enum log_topic t)
{
	return log_enabled_topics >> t & 1;
}

/* Turns on the comma-separated topics ("all" is every one). Returns 0, or -EINVAL and *bad = the
 * first unknown word (points into `list`, *bad_len bytes). */
int log_enable(const char *list, const char **bad, int *bad_len);

void log_write(enum log_topic t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define LOG(t, ...) \
	do { \
		if (__builtin_expect(log_on(t), 0)) \
			log_write(t, __VA_ARGS__); \
	} while (0)

#endif
