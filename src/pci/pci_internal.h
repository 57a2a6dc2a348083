/*
 * What the files of src/pci share: the bus, and the registers of the configuration header. For src/pci only.
 */
#ifndef RINGSIDE_PCI_INTERNAL_H
#define RINGSIDE_PCI_INTERNAL_H

#include "pci/pci.h"

#define PCI_SLOTS 32
#define PCI_FUNCTIONS 8
#define PCI_DEVFNS (PCI_SLOTS * PCI_FUNCTIONS)

/* Configuration header, type 0 */
#define PCI_CONFIG_VENDOR 0x00
#define PCI_CONFIG_DEVICE 0x02
#define PCI_CONFIG_COMMAND 0x04
#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_PARITY 0x0040
#define PCI_COMMAND_SERR 0x0100
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_CONFIG_STATUS 0x06
#define PCI_STATUS_INTERRUPT 0x0008
#define PCI_STATUS_CAPABILITIES 0x0010
#define PCI_STATUS_ERRORS 0xf900
#define PCI_CONFIG_REVISION 0x08
#define PCI_CONFIG_CLASS 0x0a /* class << 8 | subclass */
#define PCI_CLASS_VGA 0x0300
#define PCI_CONFIG_CACHE_LINE 0x0c
#define PCI_CONFIG_LATENCY 0x0d
#define PCI_CONFIG_HEADER_TYPE 0x0e
#define PCI_HEADER_MULTIFUNCTION 0x80
#define PCI_CONFIG_BAR 0x10
#define PCI_CONFIG_SUBSYSTEM_VENDOR 0x2c
#define PCI_CONFIG_SUBSYSTEM 0x2e
#define PCI_CONFIG_ROM 0x30
#define PCI_ROM_ENABLE 0x01
#define PCI_CONFIG_CAPABILITY_POINTER 0x34
#define PCI_CONFIG_INTERRUPT_LINE 0x3c
#define PCI_CONFIG_INTERRUPT_PIN 0x3d
#define PCI_CONFIG_CAPABILITIES 0x40 /* where the first one goes */

#define PCI_IO_END 0x10000ull

struct pci_bus {
	struct pci_bus_config config;
	struct pci_device *device[PCI_DEVFNS];
	uint8_t holders[PCI_SLOTS][4]; /* how many functions of the slot assert the pin */
};

/* The function's line again, after something that it depends on has changed. */
void pci_update_intx(struct pci_device *d);
/* Configuration space was written: messages that a mask held back go out. */
void pci_msi_config_written(struct pci_device *d, unsigned offset, unsigned size);

#endif
