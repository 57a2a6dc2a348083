/*
 * The chip set: PCI bus 0 and the two bridges that make a machine of it, either i440FX with PIIX (`pc`) or MCH with ICH9
 * (`q35`). Under vm->lock, or while the machine is built.
 */
#ifndef RINGSIDE_CHIPSET_H
#define RINGSIDE_CHIPSET_H

#include "boot/acpi.h"
#include "pci/assign.h"
#include "pci/host.h"
#include "pci/i440fx.h"
#include "pci/ich9.h"
#include "pci/mch.h"
#include "pci/pam.h"
#include "pci/piix.h"

struct vm;

enum machine_type { MACHINE_PC, MACHINE_Q35 };

struct chipset {
	enum machine_type type;
	struct pci_windows windows; /* addresses that are PCI's */
	struct acpi_pci acpi;       /* the same, for the tables */
	struct pci_config_ports config_ports;
	struct pam pam;
	/* pc */
	struct i440fx i440fx;
	struct piix piix;
	/* q35 */
	struct mch mch;
	struct ich9 ich9;
};

/* RAM below 4 GiB ends here at most. */
uint64_t chipset_low_memory(enum machine_type type);
/* How the chip set lays its ACPI registers out: for vm->pc->pm. */
const struct pm_layout *chipset_pm_layout(enum machine_type type);
/* Makes vm->pc->pci; vm->pc->pm and vm->pc->reset are there. 0 or -errno: what was built is freed by chipset_free. */
int chipset_new(struct vm *vm);
void chipset_free(struct vm *vm);
/* What firmware would have done, for a kernel that is booted without; all functions are there. */
void chipset_set_up(struct vm *vm);
/* What ACPI's tables say of it. */
void chipset_describe(struct vm *vm, struct acpi_config *acpi);

#endif
