/*
 * The IDE function of a PIIX3: two channels at the ports and interrupts that every PC has, with two drives each, and a
 * bus-master DMA engine a channel.
 *
 * Called under vm->lock; ends of transfers come on the I/O thread. Sources: Intel 82371FB/82371SB data sheet (290550),
 * sections 2.3 and 3.8; "Programming Interface for Bus Master IDE Controller" 1.0; ATA/ATAPI-6.
 */
#ifndef RINGSIDE_IDE_H
#define RINGSIDE_IDE_H

#include <stdbool.h>

#include "irq/irq.h"
#include "pci/pci.h"

#define IDE_CHANNELS 2
#define IDE_DRIVES 2 /* a channel */

struct ide;

struct ide_drive_config {
	struct block *block; /* NULL: no drive, or a CD-ROM drive without a disc */
	bool cdrom;
	const char *serial; /* NULL: none */
};

struct ide_config {
	struct pci_bus *bus;
	unsigned devfn;
	struct bus *pio;
	struct irq_line irq[IDE_CHANNELS]; /* ISA 14 and 15 */
	struct ide_drive_config drive[IDE_CHANNELS][IDE_DRIVES];
};

struct ide *ide_new(const struct ide_config *config); /* NULL: errno */
void ide_free(struct ide *ide);                       /* waits for the disks; NULL is nothing */

#endif
