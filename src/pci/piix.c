/*
 * PIIX3 ISA bridge and PIIX4 power management. See piix.h.
 *
 * Called under vm->lock. Sources: Intel 82371FB/82371SB data sheet (290550), chapter 2; 82371AB data sheet (290562),
 * chapter 7.
 */
#include "pci/piix.h"

#include <string.h>

#include "dev/pm.h"

/* ISA bridge */
enum {
	IORT = 0x4c, XBCS = 0x4e, PIRQRC = 0x60, TOM = 0x69, MSTAT = 0x6a, MBIRQ = 0x70, MBDMA = 0x76, PCSC = 0x78,
	APICBASE = 0x80, DLC = 0x82, SMICNTL = 0xa0, SMIEN = 0xa2, SEE = 0xa4, FTMR = 0xa8, SMIREQ = 0xaa, CTLTMR = 0xac,
	CTHTMR = 0xae,
};

/* Power management */
enum {
	PMBA = 0x40, CNTA = 0x44, DEVACTB = 0x58, DEVRES_END = 0x80, PMREGMISC = 0x80, SMBBA = 0x90, SMBHSTCFG = 0xd2,
	SMBSLVC = 0xd3, SMBREV = 0xd6,
};
#define PMBA_IO 0x0001 /* reads as 1: an I/O address */
#define PMBA_ADDRESS 0xffc0
#define PMREGMISC_ENABLE 0x01
#define SMBBA_ADDRESS 0xfff0
#define SMBHSTCFG_ENABLE 0x01
#define SMBHSTCFG_ROUTE 0x0e
#define SMBHSTCFG_IRQ9 0x08 /* of the routes; else an SMI, which there are none of */
#define SMBUS_IRQ 9
#define SMBUS_BASE 0x700 /* where SeaBIOS puts it, too */
#define COMMAND_IO 0x01  /* decodes the SMBus's registers; ACPI's have a bit of their own */
#define DEVACTB_APMC_EN 0x02 /* in its byte 3; set: firmware takes it that SMM is set up, and leaves it alone */

#define INTERRUPT_LINE 0x3c
#define COMMAND_WIRED 0x0007
#define COMMAND_SPECIAL_CYCLES 0x0008
#define STATUS_MEDIUM 0x0200
#define STATUS_FAST_MEDIUM 0x0280
#define ROUTE_DISABLED 0x80
#define ROUTE_IRQ 0x0f
#define ROUTABLE 0xdef8u /* IRQ 3 to 7, 9 to 12, 14, 15 */

static unsigned pirq_of(unsigned slot, unsigned pin) { return (slot + pin - 1) % PIIX_PIRQS; }

static int route(const struct piix *p, unsigned pirq)
{
	uint8_t reg = p->isa.config[PIRQRC + pirq];

	return (reg & ROUTE_DISABLED) || !(ROUTABLE >> (reg & ROUTE_IRQ) & 1) ? -1 : reg & ROUTE_IRQ;
}

static uint8_t firmware_route(unsigned pirq) { return pirq < 2 ? 10 : 11; }

unsigned piix_irq(unsigned slot, unsigned pin) { return firmware_route(pirq_of(slot, pin)); }

static void update(struct piix *p)
{
	uint16_t driven = 0;

	for (unsigned i = 0; i < PIIX_PIRQS; i++)
		if (p->slots[i] && route(p, i) >= 0)
			driven |= (uint16_t)(1u << route(p, i));
	if (p->smbus_raised && (p->power.config[SMBHSTCFG] & SMBHSTCFG_ROUTE) == SMBHSTCFG_IRQ9)
		driven |= 1u << SMBUS_IRQ;
	uint16_t changed = driven ^ p->driven;
	p->driven = driven;
	for (unsigned irq = 0; irq < 16; irq++)
		if (changed >> irq & 1)
			p->set_irq(p->opaque, irq, driven >> irq & 1);
}

void piix_set_intx(struct piix *p, unsigned slot, unsigned pin, int level)
{
	uint8_t *slots = &p->slots[pirq_of(slot, pin)];

	*slots = level ? *slots + 1 : *slots - 1;
	update(p);
}

static void isa_written(void *opaque, unsigned offset, unsigned size)
{
	if (offset < PIRQRC + PIIX_PIRQS && offset + size > PIRQRC)
		update(opaque);
}

static const struct pci_device_ops isa_ops = {.config_written = isa_written};

static void isa_registers(struct pci_device *d)
{
	static const struct { uint8_t offset, value, writable; } reg[] = {
		{IORT, 0x4d, 0x7f}, {XBCS, 0x03, 0xff}, {XBCS + 1, 0x00, 0x01},
		{PIRQRC, 0x80, 0x8f}, {PIRQRC + 1, 0x80, 0x8f}, {PIRQRC + 2, 0x80, 0x8f}, {PIRQRC + 3, 0x80, 0x8f},
		{TOM, 0x02, 0xfe}, {MSTAT, 0x00, 0x80}, {MSTAT + 1, 0x00, 0x60}, {MBIRQ, 0x80, 0xef},
		{MBDMA, 0x0c, 0x8f}, {MBDMA + 1, 0x0c, 0x8f}, {PCSC, 0x02, 0xff}, {PCSC + 1, 0x00, 0xff},
		{APICBASE, 0x00, 0x7f}, {DLC, 0x00, 0x0f}, {SMICNTL, 0x08, 0x1d}, {SMIEN, 0x00, 0xff}, {SMIEN + 1, 0x00, 0x01},
		{SEE, 0x00, 0xff}, {SEE + 1, 0x00, 0xff}, {SEE + 2, 0x00, 0xff}, {SEE + 3, 0x00, 0xe0},
		{FTMR, 0x0f, 0xff}, {SMIREQ, 0x00, 0xff}, {SMIREQ + 1, 0x00, 0x01}, {CTLTMR, 0x00, 0xff}, {CTHTMR, 0x00, 0xff},
	};

	pci_put16(d->config + 4, COMMAND_WIRED);
	pci_put16(d->writable + 4, COMMAND_SPECIAL_CYCLES);
	pci_put16(d->config + 6, STATUS_MEDIUM);
	for (unsigned i = 0; i < sizeof reg / sizeof reg[0]; i++) {
		d->config[reg[i].offset] = reg[i].value;
		d->writable[reg[i].offset] = reg[i].writable;
	}
}

/* ---- power management ---- */

static void smbus_raised(void *opaque, unsigned number, int level)
{
	struct piix *p = opaque;

	(void)number;
	p->smbus_raised = level;
	update(p);
}

static void smbus_map(struct piix *p, uint16_t base)
{
	if (base == p->smbus_base)
		return;
	if (p->smbus_base)
		bus_unregister(p->pio, p->smbus_base);
	p->smbus_base = base;
	if (base && bus_register(p->pio, base, SMBUS_PIIX4_SIZE, &smbus_ops, &p->smbus, "smbus") < 0)
		p->smbus_base = 0;
}

static void power_written(void *opaque, unsigned offset, unsigned size)
{
	struct piix *p = opaque;
	const uint8_t *c = p->power.config;

	(void)offset;
	(void)size;
	pm_map(p->pm, c[PMREGMISC] & PMREGMISC_ENABLE ? pci_get16(c + PMBA) & PMBA_ADDRESS : 0);
	smbus_map(p, pci_get16(c + 4) & COMMAND_IO ? pci_get16(c + SMBBA) & SMBBA_ADDRESS : 0);
	p->smbus.enabled = c[SMBHSTCFG] & SMBHSTCFG_ENABLE;
	update(p);
}

static const struct pci_device_ops power_ops = {.config_written = power_written};

static void power_registers(struct pci_device *d)
{
	pci_put16(d->config + 6, STATUS_FAST_MEDIUM);
	d->config[PMBA] = d->config[SMBBA] = PMBA_IO;
	pci_put16(d->writable + PMBA, PMBA_ADDRESS);
	memset(d->writable + CNTA, 0xff, DEVRES_END - CNTA);
	d->config[DEVACTB + 3] = DEVACTB_APMC_EN;
	d->writable[DEVACTB + 3] = (uint8_t)~DEVACTB_APMC_EN;
	d->writable[PMREGMISC] = PMREGMISC_ENABLE;
	pci_put16(d->writable + SMBBA, SMBBA_ADDRESS);
	d->writable[SMBHSTCFG] = SMBHSTCFG_ENABLE | SMBHSTCFG_ROUTE;
	memset(d->writable + SMBSLVC, 0xff, SMBREV - SMBSLVC);
}

/* ---- both ---- */

void piix_set_up(struct piix *p)
{
	for (unsigned i = 0; i < PIIX_PIRQS; i++)
		p->isa.config[PIRQRC + i] = firmware_route(i);
	update(p);
	pci_put16(p->power.config + PMBA, PM_BASE | PMBA_IO);
	p->power.config[PMREGMISC] = PMREGMISC_ENABLE;
	p->power.config[INTERRUPT_LINE] = PM_SCI_GSI; /* wired */
	pci_put16(p->power.config + SMBBA, SMBUS_BASE | PMBA_IO);
	p->power.config[SMBHSTCFG] = SMBHSTCFG_ENABLE | SMBHSTCFG_IRQ9;
	p->power.config[4] |= COMMAND_IO;
	power_written(p, PMBA, 2);
}

int piix_init(struct piix *p, struct pci_bus *bus, struct bus *pio, struct pm *pm,
	      void (*set_irq)(void *opaque, unsigned irq, int level), void *opaque)
{
	static const struct pci_info isa = {.name = "piix3-isa", .vendor = 0x8086, .device = 0x7000,
					    .class_code = 0x060100, .multifunction = true};
	static const struct pci_info power = {.name = "piix4-pm", .vendor = 0x8086, .device = 0x7113,
					      .class_code = 0x068000, .revision = 3, .interrupt_pin = 1};
	int r = pci_device_init(&p->isa, bus, PCI_DEVFN(PIIX_SLOT, 0), &isa, &isa_ops, p);

	if (r < 0)
		return r;
	p->set_irq = set_irq;
	p->opaque = opaque;
	p->pm = pm;
	p->pio = pio;
	smbus_init(&p->smbus, (struct irq_line){.set = smbus_raised, .opaque = p}, false);
	isa_registers(&p->isa);
	if ((r = pci_device_init(&p->power, bus, PCI_DEVFN(PIIX_SLOT, 3), &power, &power_ops, p)) < 0)
		return r;
	power_registers(&p->power);
	return 0;
}

void piix_free(struct piix *p)
{
	if (p->smbus_base)
		bus_unregister(p->pio, p->smbus_base);
	p->smbus_base = 0;
	pci_device_free(&p->power);
	pci_device_free(&p->isa);
}
