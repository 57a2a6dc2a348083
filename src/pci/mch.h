/*
 * 82G33 MCH, q35's host bridge: function 0 of slot 0. Configuration space of all functions in memory (ECAM), where
 * PCIEXBAR says; what is RAM in 0xc0000-0xfffff (PAM); the rest is kept for firmware to read back.
 *
 * Called under vm->lock. Source: Intel 3 Series Express Chipset Family data sheet (316966), chapter 5.
 */
#ifndef RINGSIDE_MCH_H
#define RINGSIDE_MCH_H

#include "pci/pam.h"
#include "pci/pci.h"

#define MCH_ECAM_BASE 0xb0000000ull /* where firmware puts it, and ACPI's tables say */
#define MCH_ECAM_SIZE 0x10000000ull

struct mch {
	struct pci_device pci;
	struct pam *pam;
	struct bus *mmio;
	uint64_t ecam; /* where it is; 0: nowhere */
};

/* 0 or -errno. */
int mch_init(struct mch *m, struct pci_bus *bus, struct bus *mmio, struct pam *pam);
void mch_free(struct mch *m);   /* also of one that is all zero */
void mch_set_up(struct mch *m); /* as firmware leaves it */

#endif
