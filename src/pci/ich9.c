/*
 * ICH9's LPC bridge. See ich9.h.
 *
 * The pins of the slots that the data sheet says nothing of (0 to 24, and 30, the bridge to conventional PCI) are wired
 * to PIRQE to PIRQH in turn. There is no watchdog: GCS says so, and TCO's registers read as zero.
 *
 * Called under vm->lock. Source: Intel I/O Controller Hub 9 data sheet (316972), chapters 10 "Chipset Configuration
 * Registers", 13 "LPC Interface Bridge Registers" and 18 "SMBus Controller Registers".
 */
#include "pci/ich9.h"

#include <string.h>

#include "dev/pm.h"

enum {
	PMBASE = 0x40, ACPI_CNTL = 0x44, GPIOBASE = 0x48, GC = 0x4c, PIRQA_ROUT = 0x60, SIRQ_CNTL = 0x64, PIRQE_ROUT = 0x68,
	LPC_IO_DEC = 0x80, GEN4_DEC_END = 0x94, GEN_PMCON = 0xa0, GEN_PMCON_END = 0xb0, FWH_SEL = 0xd0, FWH_DEC_EN = 0xd8,
	BIOS_CNTL = 0xdc, RCBA = 0xf0,
};
#define ADDRESS_IO 0x01 /* reads as 1: an I/O address */
#define PMBASE_ADDRESS 0xff80
#define GPIOBASE_ADDRESS 0xffc0
#define ACPI_CNTL_ENABLE 0x80
#define RCBA_ADDRESS 0xffffc000
#define RCBA_ENABLE 0x01
#define RCBA_SIZE 0x4000

/* The SMBus function */
enum { HOSTC = 0x40 };
#define HOSTC_ENABLE 0x01
#define HOSTC_SMI 0x02 /* an SMI instead of the interrupt */
#define HOSTC_RESET 0x08
#define HOSTC_WRITABLE 0x07
#define SMBUS_MEMORY 256

/* Chip configuration registers */
enum { D31IR = 0x3140, D25IR = 0x3150, GCS = 0x3410 };
#define GCS_NO_REBOOT 0x20 /* the watchdog cannot reset the machine; wired */
#define FIRST_ROUTED 25
#define CONVENTIONAL_BRIDGE 30

#define COMMAND_WIRED 0x0007
#define STATUS_MEDIUM 0x0200
#define ROUTE_DISABLED 0x80
#define ROUTE_IRQ 0x0f
#define ROUTABLE 0xdef8u /* IRQ 3 to 7, 9 to 12, 14, 15 */

/* ---- interrupts ---- */

static unsigned wired_pirq(unsigned slot, unsigned pin) { return (slot + pin) % 4 + 4; }

static bool is_wired(unsigned slot) { return slot < FIRST_ROUTED || slot == CONVENTIONAL_BRIDGE; }

static unsigned pirq_of(const struct ich9 *i, unsigned slot, unsigned pin)
{
	if (is_wired(slot))
		return wired_pirq(slot, pin);
	const uint8_t *route = i->pin_route[slot - FIRST_ROUTED];
	return route[pin / 2] >> pin % 2 * 4 & 7;
}

static unsigned rout_register(unsigned pirq) { return pirq < 4 ? PIRQA_ROUT + pirq : PIRQE_ROUT + pirq - 4; }

static void update(struct ich9 *i)
{
	uint32_t driven = 0;

	for (unsigned slot = 0; slot < 32; slot++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			if (!(i->pins[slot] >> pin & 1))
				continue;
			unsigned pirq = pirq_of(i, slot, pin);
			uint8_t route = i->lpc.config[rout_register(pirq)];

			driven |= 1u << (ICH9_PIRQ_GSI + pirq);
			if (!(route & ROUTE_DISABLED) && (ROUTABLE >> (route & ROUTE_IRQ) & 1))
				driven |= 1u << (route & ROUTE_IRQ);
		}
	}
	uint32_t changed = driven ^ i->driven;
	i->driven = driven;
	for (unsigned gsi = 0; changed >> gsi; gsi++)
		if (changed >> gsi & 1)
			i->set_gsi(i->opaque, gsi, driven >> gsi & 1);
}

void ich9_set_intx(struct ich9 *i, unsigned slot, unsigned pin, int level)
{
	uint8_t bit = (uint8_t)(1u << pin);

	i->pins[slot] = level ? i->pins[slot] | bit : i->pins[slot] & (uint8_t)~bit;
	update(i);
}

static unsigned firmware_pirq(unsigned slot, unsigned pin) { return is_wired(slot) ? wired_pirq(slot, pin) : pin; }

static uint8_t firmware_route(unsigned pirq) { return pirq % 4 < 2 ? 10 : 11; }

unsigned ich9_irq(unsigned slot, unsigned pin) { return firmware_route(firmware_pirq(slot, pin)); }
unsigned ich9_gsi(unsigned slot, unsigned pin) { return ICH9_PIRQ_GSI + firmware_pirq(slot, pin); }

/* ---- chip configuration registers ---- */

/* The register byte of a slot's routes at `offset`; NULL: none. D31IR to D27IR are 2 bytes apart, then 4. */
static uint8_t *route_byte(struct ich9 *i, uint64_t offset)
{
	static const uint16_t at[] = {D25IR, 0x314c, 0x3148, 0x3146, 0x3144, 0x3142, D31IR};

	for (unsigned n = 0; n < sizeof at / sizeof at[0]; n++)
		if (offset - at[n] < 2)
			return &i->pin_route[n][offset - at[n]];
	return NULL;
}

static uint64_t chip_read(void *dev, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	for (unsigned n = 0; n < size; n++) {
		const uint8_t *route = route_byte(dev, offset + n);

		if (route)
			value |= (uint64_t)*route << n * 8;
		else if (offset + n == GCS)
			value |= (uint64_t)GCS_NO_REBOOT << n * 8;
	}
	return value;
}

static void chip_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	for (unsigned n = 0; n < size; n++) {
		uint8_t *route = route_byte(dev, offset + n);

		if (route)
			*route = value >> n * 8 & 0x77;
	}
	update(dev);
}

static const struct bus_ops chip_ops = {.read = chip_read, .write = chip_write, .max_size = 4};

static void place_chip(struct ich9 *i)
{
	uint32_t reg = pci_get32(i->lpc.config + RCBA);

	if (i->rcba)
		bus_unregister(i->mmio, i->rcba);
	i->rcba = 0;
	if ((reg & RCBA_ENABLE) && (reg & RCBA_ADDRESS) &&
	    bus_register(i->mmio, reg & RCBA_ADDRESS, RCBA_SIZE, &chip_ops, i, "ich9-chip") == 0)
		i->rcba = reg & RCBA_ADDRESS;
}

/* ---- LPC bridge ---- */

static void config_written(void *opaque, unsigned offset, unsigned size)
{
	struct ich9 *i = opaque;
	const uint8_t *c = i->lpc.config;

	if (offset < RCBA + 4 && offset + size > RCBA)
		place_chip(i);
	pm_map(i->pm, c[ACPI_CNTL] & ACPI_CNTL_ENABLE ? pci_get16(c + PMBASE) & PMBASE_ADDRESS : 0);
	update(i);
}

static const struct pci_device_ops ops = {.config_written = config_written};

static void lpc_registers(struct pci_device *d)
{
	uint8_t *c = d->config, *w = d->writable;

	pci_put16(c + 4, COMMAND_WIRED);
	pci_put16(w + 4, 0);
	pci_put16(c + 6, STATUS_MEDIUM);
	c[PMBASE] = c[GPIOBASE] = ADDRESS_IO;
	pci_put16(w + PMBASE, PMBASE_ADDRESS);
	w[ACPI_CNTL] = ACPI_CNTL_ENABLE;
	pci_put16(w + GPIOBASE, GPIOBASE_ADDRESS);
	w[GC] = 0x11;
	for (unsigned n = 0; n < ICH9_PIRQS; n++) {
		c[rout_register(n)] = ROUTE_DISABLED;
		w[rout_register(n)] = ROUTE_DISABLED | ROUTE_IRQ;
	}
	c[SIRQ_CNTL] = 0x10;
	w[SIRQ_CNTL] = 0xff;
	memset(w + LPC_IO_DEC, 0xff, GEN4_DEC_END - LPC_IO_DEC);
	memset(w + GEN_PMCON, 0xff, GEN_PMCON_END - GEN_PMCON);
	pci_put32(c + FWH_SEL, 0x00112233);
	pci_put16(c + FWH_SEL + 4, 0x4567);
	memset(w + FWH_SEL, 0xff, 6);
	pci_put16(c + FWH_DEC_EN, 0xffcf);
	pci_put16(w + FWH_DEC_EN, 0x7fff);
	w[BIOS_CNTL] = 0x0d;
	pci_put32(w + RCBA, RCBA_ADDRESS | RCBA_ENABLE);
}

/* ---- SMBus ---- */

static void smbus_update(struct ich9 *i)
{
	pci_set_intx(&i->smb, i->smbus_raised && !(i->smb.config[HOSTC] & HOSTC_SMI));
}

static void smbus_raised(void *opaque, unsigned number, int level)
{
	struct ich9 *i = opaque;

	(void)number;
	i->smbus_raised = level;
	smbus_update(i);
}

static void smb_written(void *opaque, unsigned offset, unsigned size)
{
	struct ich9 *i = opaque;
	uint8_t *hostc = i->smb.config + HOSTC;

	(void)offset;
	(void)size;
	if (*hostc & HOSTC_RESET) { /* is over at once */
		*hostc &= (uint8_t)~HOSTC_RESET;
		smbus_restart(&i->smbus);
	}
	i->smbus.enabled = *hostc & HOSTC_ENABLE;
	smbus_update(i);
}

/* The same registers in memory; nothing behind them. */
static uint64_t smb_read(void *dev, uint64_t offset, unsigned size)
{
	return offset < SMBUS_ICH9_SIZE ? smbus_ops.read(&((struct ich9 *)dev)->smbus, offset, size) : 0;
}

static void smb_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	if (offset < SMBUS_ICH9_SIZE)
		smbus_ops.write(&((struct ich9 *)dev)->smbus, offset, value, size);
}

static const struct bus_ops smb_memory_ops = {.read = smb_read, .write = smb_write, .max_size = 1};

static int smb_init(struct ich9 *i, struct pci_bus *bus)
{
	static const struct pci_device_ops smb_ops = {.config_written = smb_written};
	static const struct pci_info info = {.name = "ich9-smbus", .vendor = 0x8086, .device = 0x2930,
					     .class_code = 0x0c0500, .revision = 2, .interrupt_pin = 2};
	int r = pci_device_init(&i->smb, bus, PCI_DEVFN(ICH9_SLOT, 3), &info, &smb_ops, i);

	if (r < 0)
		return r;
	smbus_init(&i->smbus, (struct irq_line){.set = smbus_raised, .opaque = i}, true);
	pci_add_bar(&i->smb, 0, PCI_BAR_MEMORY64, SMBUS_MEMORY, &smb_memory_ops, i);
	pci_add_bar(&i->smb, 4, PCI_BAR_IO, SMBUS_ICH9_SIZE, &smbus_ops, &i->smbus);
	i->smb.writable[HOSTC] = HOSTC_WRITABLE | HOSTC_RESET;
	return 0;
}

/* ---- both ---- */

int ich9_init(struct ich9 *i, struct pci_bus *bus, struct bus *mmio, struct pm *pm,
	      void (*set_gsi)(void *opaque, unsigned gsi, int level), void *opaque)
{
	static const struct pci_info info = {.name = "ich9-lpc", .vendor = 0x8086, .device = 0x2918,
					     .class_code = 0x060100, .revision = 2, .multifunction = true};
	int r = pci_device_init(&i->lpc, bus, PCI_DEVFN(ICH9_SLOT, 0), &info, &ops, i);

	if (r < 0)
		return r;
	i->pm = pm;
	i->mmio = mmio;
	i->set_gsi = set_gsi;
	i->opaque = opaque;
	for (unsigned n = 0; n < sizeof i->pin_route / sizeof i->pin_route[0]; n++)
		pci_put16(i->pin_route[n], 0x3210);
	lpc_registers(&i->lpc);
	return smb_init(i, bus);
}

void ich9_free(struct ich9 *i)
{
	if (i->rcba)
		bus_unregister(i->mmio, i->rcba);
	i->rcba = 0;
	pci_device_free(&i->smb);
	pci_device_free(&i->lpc);
}

void ich9_set_up(struct ich9 *i)
{
	uint8_t *c = i->lpc.config;

	for (unsigned n = 0; n < ICH9_PIRQS; n++)
		c[rout_register(n)] = firmware_route(n);
	pci_put16(c + PMBASE, PM_BASE | ADDRESS_IO);
	c[ACPI_CNTL] = ACPI_CNTL_ENABLE;
	config_written(i, PMBASE, 2);
	i->smb.config[HOSTC] = HOSTC_ENABLE;
	smb_written(i, HOSTC, 1);
}
