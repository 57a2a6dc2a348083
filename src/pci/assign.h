/*
 * What firmware does for PCI, for a kernel that is booted without: base addresses, interrupt lines, decoding enabled.
 *
 * Called while the machine is built, when all functions are there.
 */
#ifndef RINGSIDE_PCI_ASSIGN_H
#define RINGSIDE_PCI_ASSIGN_H

#include <stdint.h>

struct pci_bus;

/* Where functions may be; last bytes included. */
struct pci_windows {
	uint64_t low_first, low_last;   /* memory below 4 GiB */
	uint64_t high_first, high_last; /* and above; 0: none */
	uint64_t io_first, io_last;
};

/* `irq`: the ISA interrupt of INTA + pin of a slot, for the interrupt line registers; -1: none. What does not fit stays
 * without an address. */
void pci_assign(struct pci_bus *b, const struct pci_windows *w, int (*irq)(void *opaque, unsigned slot, unsigned pin),
		void *opaque);

#endif
