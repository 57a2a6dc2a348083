/*
 * 82801IB (ICH9), q35's south bridge, slot 31: function 0 is the LPC bridge, which routes PCI's interrupts to ISA ones
 * and to the I/O APIC, and places the ACPI registers (dev/pm.c) and its own chip configuration registers. Function 3
 * is the SMBus controller (dev/smbus.c). Function 2, AHCI, is a device of its own.
 *
 * Called under vm->lock. Source: Intel I/O Controller Hub 9 data sheet (316972), chapters 10, 13 and 18.
 */
#ifndef RINGSIDE_ICH9_H
#define RINGSIDE_ICH9_H

#include "dev/smbus.h"
#include "pci/pci.h"

#define ICH9_SLOT 31
#define ICH9_PIRQS 8
#define ICH9_PIRQ_GSI 16 /* PIRQA's input of the I/O APIC; the others follow */

struct pm;

struct ich9 {
	struct pci_device lpc, smb;
	struct smbus smbus;
	bool smbus_raised;
	struct pm *pm;
	struct bus *mmio;
	uint64_t rcba;            /* where the chip configuration registers are; 0: nowhere */
	uint8_t pin_route[7][2];  /* D25IR to D31IR */
	uint8_t pins[32];         /* levels of a slot's pins, a bit a pin */
	uint32_t driven;          /* GSIs that are high */
	void (*set_gsi)(void *opaque, unsigned gsi, int level);
	void *opaque;
};

/* `set_gsi`: level of an interrupt as far as PCI drives it. `pm`: of layout pm_ich9. 0 or -errno. */
int ich9_init(struct ich9 *i, struct pci_bus *bus, struct bus *mmio, struct pm *pm,
	      void (*set_gsi)(void *opaque, unsigned gsi, int level), void *opaque);
void ich9_free(struct ich9 *i); /* also of one that is all zero */

/* A slot's pin changed: pci_bus_config.set_intx. */
void ich9_set_intx(struct ich9 *i, unsigned slot, unsigned pin, int level);
/* As firmware leaves it, and ACPI's tables say: PIRQs A, B, E and F to IRQ 10, the others to IRQ 11; the ACPI registers
 * at PM_BASE; the SMBus controller is on. */
void ich9_set_up(struct ich9 *i);
/* The interrupt of a slot's pin by these routes: with the 8259s, with the I/O APIC. */
unsigned ich9_irq(unsigned slot, unsigned pin);
unsigned ich9_gsi(unsigned slot, unsigned pin);

#endif
