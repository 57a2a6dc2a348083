/*
 * PCI configuration mechanism #1: CONFIG_ADDRESS at port 0xcf8, CONFIG_DATA at 0xcfc. The reset control register 0xcf9
 * lies inside, and answers to byte accesses.
 *
 * Called under vm->lock. Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 "Software Generation of Configuration
 * Transactions".
 */
#ifndef RINGSIDE_PCI_HOST_H
#define RINGSIDE_PCI_HOST_H

#include <stdint.h>

struct bus;
struct pci_bus;
struct reset_control;

struct pci_config_ports {
	struct pci_bus *bus;
	struct reset_control *reset;
	uint32_t address;
};

/* 0 or -errno. There is nothing to free. */
int pci_config_ports_init(struct pci_config_ports *p, struct bus *pio, struct pci_bus *bus, struct reset_control *reset);

#endif
