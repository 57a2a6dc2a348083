/*
 * 82441FX (PMC) host bridge: function 0 of slot 0. The memory controller's registers that a single bus has a use for:
 * those of 0xc0000-0xfffff (PAM) go to whom the machine names, the rest is kept for firmware to read back.
 *
 * Called under vm->lock. Source: Intel 440FX PCIset data sheet (290549), chapter 3 "Register Description".
 */
#ifndef RINGSIDE_I440FX_H
#define RINGSIDE_I440FX_H

#include "pci/pam.h"
#include "pci/pci.h"

struct i440fx {
	struct pci_device pci;
	struct pam *pam;
};

/* 0 or -errno. */
int i440fx_init(struct i440fx *f, struct pci_bus *bus, struct pam *pam);
void i440fx_free(struct i440fx *f); /* also of one that is all zero */

#endif
