/*
 * The devices of a PC, and how they are wired. pc.c assembles them; the rest of src/machine reaches
 * them through this structure. All under vm->lock once the VM runs.
 */
#ifndef RINGSIDE_PC_H
#define RINGSIDE_PC_H

#include "boot/acpi.h"
#include "irq/irq.h"
#include "irq/lapic.h"
#include "machine/chipset.h"

struct vm;

struct pc {
	struct vm *vm;
	struct lapic_bus lapics; /* the local APICs themselves belong to the vCPUs */
	/* What drives the interrupt lines, a bit a GSI: a line is high while any does. */
	uint32_t isa_levels, pci_levels, hpet_levels;
	bool hpet_legacy; /* the HPET has the lines of the 8254 and the RTC */
	struct pic *pic;
	struct ioapic *ioapic;
	struct pit *pit;
	struct rtc *rtc;
	struct pm *pm;
	struct hpet *hpet; /* NULL: --no-hpet */
	struct serial *serial;
	struct i8042 *i8042;
	struct reset_control *reset;
	struct pci_bus *pci;
	struct chipset chipset;
	struct kvmclock *kvmclock;
	struct pvpanic *pvpanic;
	struct debug_exit *debug_exit; /* NULL unless asked for */
	struct debug_console *debug_console;
	struct testdev *testdev; /* NULL unless asked for */
	uint64_t rsdp;           /* GPA of the ACPI root pointer */
};

/* Builds all devices of vm on its buses, the local APICs of its vCPUs, and the ACPI tables. 0 or -errno:
 * what was built is freed by pc_free. */
int pc_new(struct vm *vm);
void pc_free(struct vm *vm);
/* The level of a GSI as far as the chip set drives it for PCI; opaque is the struct pc. */
void pc_set_pci_gsi(void *opaque, unsigned gsi, int level);
/* What the ACPI tables say of it. */
struct acpi_config pc_acpi_config(struct vm *vm);

/* An interrupt line of the machine by its GSI, for ISA devices. */
struct irq_line pc_gsi_line(struct pc *pc, unsigned gsi);

#endif
