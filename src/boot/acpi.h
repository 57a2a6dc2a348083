/*
 * ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT, written into guest memory.
 *
 * Source: ACPI specification 5.0, chapters 5 "Software Programming Model" and 20 "AML". Called while the machine is built.
 */
#ifndef RINGSIDE_ACPI_H
#define RINGSIDE_ACPI_H

#include <stdbool.h>
#include <stdint.h>

struct memory;
struct pm_layout;

/* Where firmware tables of a PC are looked for: a 16-byte boundary in 0xe0000-0xfffff. */
#define ACPI_BASE 0xe0000ull
#define ACPI_SIZE 0x10000ull /* bytes to reserve in the memory map (E820 type 3 or 2) */

#define ACPI_ECAM_SIZE 0x10000000u

/* Addresses that a host bridge hands on to PCI; last bytes included. */
struct acpi_pci {
	uint64_t low_first, low_last;   /* memory below 4 GiB */
	uint64_t high_first, high_last; /* and above; 0: none */
	uint16_t io_first;              /* ports up to 0xffff; those below 0xcf8 as well */
	uint64_t ecam;                  /* configuration space of bus 0 to 255 in memory; 0: none */
	unsigned isa_slot;              /* where the bridge to ISA is */
	/* The GSI of INTA + pin of a slot; and without the I/O APIC, NULL: the same. */
	unsigned (*gsi)(unsigned slot, unsigned pin), (*pic_irq)(unsigned slot, unsigned pin);
};

struct acpi_config {
	unsigned cpus;         /* 1..255; APIC IDs are 0..cpus-1 */
	uint32_t lapic_base;   /* 0xfee00000 */
	uint32_t ioapic_base;  /* 0xfec00000 */
	uint8_t ioapic_id;
	bool screen;           /* there is a VGA, and a mouse on the keyboard controller, IRQ 12 */
	unsigned serial;       /* which serial ports there are: bit n is COM1 + n, at the ports and interrupts of a PC */
	bool hpet;             /* dev/hpet.h's */
	bool pvpanic;          /* dev/pvpanic.h's */
	uint16_t pm_base;      /* dev/pm.h's registers */
	const struct pm_layout *pm;
	const struct acpi_pci *pci; /* NULL: no PCI */
};

/* Makes the tables as they are to lie at [gpa, gpa+size), in a buffer of zeros, RSDP first. *len: bytes of it used.
 * 0, -EINVAL, -ENOSPC. */
int acpi_make(uint8_t *buffer, uint64_t gpa, uint64_t size, const struct acpi_config *config, uint64_t *len);
/* Writes the tables to [gpa, gpa+size), RSDP first: *rsdp = gpa. gpa a multiple of 64, below 4 GiB.
 * 0, -EINVAL, -ENOSPC when they do not fit, -EFAULT when it is not RAM. */
int acpi_build(struct memory *memory, uint64_t gpa, uint64_t size, const struct acpi_config *config, uint64_t *rsdp);

#endif
