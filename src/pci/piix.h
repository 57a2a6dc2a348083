/*
 * PIIX3's ISA bridge with PIIX4's power management, slot 1: function 0 routes PCI interrupts to ISA ones, function 3
 * places the ACPI registers (dev/pm.c) and those of the SMBus controller (dev/smbus.c) in I/O space. Function 1, IDE, is a
 * device of its own.
 *
 * Called under vm->lock. Sources: Intel 82371FB/82371SB (PIIX3) data sheet (290550), chapter 2; 82371AB (PIIX4) data
 * sheet (290562), chapter 7.
 */
#ifndef RINGSIDE_PIIX_H
#define RINGSIDE_PIIX_H

#include "dev/smbus.h"
#include "irq/irq.h"
#include "pci/pci.h"

#define PIIX_SLOT 1
#define PIIX_PIRQS 4

struct pm;

struct piix {
	struct pci_device isa, power;
	struct pm *pm;
	struct bus *pio;
	struct smbus smbus;
	uint16_t smbus_base;       /* 0: not mapped */
	bool smbus_raised;
	uint8_t slots[PIIX_PIRQS]; /* how many slots' pins hold the PIRQ */
	uint16_t driven;           /* ISA interrupts that are high */
	void (*set_irq)(void *opaque, unsigned irq, int level);
	void *opaque;
};

/* `set_irq`: level of an ISA interrupt as far as PCI drives it. `pm`: of layout pm_piix4. 0 or -errno. */
int piix_init(struct piix *p, struct pci_bus *bus, struct bus *pio, struct pm *pm,
	      void (*set_irq)(void *opaque, unsigned irq, int level), void *opaque);
void piix_free(struct piix *p); /* also of one that is all zero */

/* A slot's pin changed: pci_bus_config.set_intx. */
void piix_set_intx(struct piix *p, unsigned slot, unsigned pin, int level);
/* Programs the routes as firmware does, and ACPI's tables say: PIRQ A and B to IRQ 10, C and D to IRQ 11; the ACPI
 * registers at PM_BASE, the SMBus controller's at SMBUS_BASE. */
void piix_set_up(struct piix *p);
/* The interrupt of a slot's pin by these routes. */
unsigned piix_irq(unsigned slot, unsigned pin);

#endif
