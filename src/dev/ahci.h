/*
 * An AHCI controller as the ICH9 has it: six SATA ports with a drive each, queued commands, MSI.
 *
 * Called under vm->lock; ends of transfers come on the I/O thread. Sources: Serial ATA AHCI 1.3.1; Serial ATA 2.6 for
 * the FISes; Intel ICH9 data sheet (316972), chapter 15, for configuration space.
 */
#ifndef RINGSIDE_AHCI_H
#define RINGSIDE_AHCI_H

#include <stdbool.h>

#include "pci/pci.h"

#define AHCI_PORTS 6u

struct ahci;

struct ahci_drive_config {
	struct block *block; /* NULL: no drive, or a CD-ROM drive without a disc */
	bool cdrom;
	const char *serial; /* NULL: none */
};

struct ahci_config {
	struct pci_bus *bus;
	int devfn; /* -1: the first free slot */
	struct ahci_drive_config drive[AHCI_PORTS];
};

struct ahci *ahci_new(const struct ahci_config *config); /* NULL: errno */
void ahci_free(struct ahci *ahci);                       /* waits for the disks; NULL is nothing */

#endif
