/*
 * PCI configuration mechanism #1. See host.h.
 *
 * Called under vm->lock. Source: PCI Local Bus Specification 3.0, 3.2.2.3.2.
 */
#include "pci/host.h"

#include "dev/reset.h"
#include "mem/bus.h"
#include "pci/pci.h"

#define PORTS_BASE 0xcf8
#define PORTS_SIZE 8
#define RESET_OFFSET (RESET_PORT - PORTS_BASE)
#define DATA_OFFSET 4

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu
#define ADDRESS_BUS(a) ((a) >> 16 & 0xff)
#define ADDRESS_DEVFN(a) ((a) >> 8 & 0xff)
#define ADDRESS_REGISTER(a) ((a) & 0xfc)

static uint64_t ports_read(void *dev, uint64_t offset, unsigned size)
{
	struct pci_config_ports *p = dev;

	if (offset >= DATA_OFFSET)
		return p->address & ADDRESS_ENABLE ?
			pci_config_read(p->bus, ADDRESS_BUS(p->address), ADDRESS_DEVFN(p->address),
					ADDRESS_REGISTER(p->address) + (unsigned)(offset - DATA_OFFSET), size) :
			UINT64_MAX;
	if (offset == 0 && size == 4)
		return p->address;
	return offset == RESET_OFFSET && size == 1 ? reset_control_read(p->reset) : UINT64_MAX;
}

static void ports_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pci_config_ports *p = dev;

	if (offset == 0 && size == 4)
		p->address = (uint32_t)value & ADDRESS_BITS;
	else if (offset == RESET_OFFSET && size == 1)
		reset_control_write(p->reset, (uint8_t)value);
	else if (offset >= DATA_OFFSET && (p->address & ADDRESS_ENABLE))
		pci_config_write(p->bus, ADDRESS_BUS(p->address), ADDRESS_DEVFN(p->address),
				 ADDRESS_REGISTER(p->address) + (unsigned)(offset - DATA_OFFSET), (uint32_t)value, size);
}

static const struct bus_ops ports_ops = {.read = ports_read, .write = ports_write, .max_size = 4};

int pci_config_ports_init(struct pci_config_ports *p, struct bus *pio, struct pci_bus *bus, struct reset_control *reset)
{
	*p = (struct pci_config_ports){.bus = bus, .reset = reset};
	return bus_register(pio, PORTS_BASE, PORTS_SIZE, &ports_ops, p, "pci-config");
}
