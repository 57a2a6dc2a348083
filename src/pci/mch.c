/*
 * MCH of q35. See mch.h.
 *
 * Called under vm->lock. Source: Intel 3 Series Express Chipset Family data sheet (316966), chapter 5.
 */
#include "pci/mch.h"

#include <string.h>

enum { DEVEN = 0x54, PCIEXBAR = 0x60, PAM = 0x90, SMRAM = 0x9d, ESMRAMC = 0x9e, TOM = 0xa0, TOLUD = 0xb0 };

#define COMMAND_MEMORY_MASTER 0x0006 /* wired */
#define COMMAND_WRITABLE 0x0100
#define PCIEXBAR_ENABLE 0x1
#define PCIEXBAR_LENGTH(v) ((v) >> 1 & 3) /* 256, 128, 64 MiB */
#define PCIEXBAR_RESERVED_LENGTH 3
#define PCIEXBAR_ADDRESS 0xffc000000ull
#define SMRAM_LOCK 0x10

/* ---- ECAM: bus, slot, function and register in the address ---- */

static uint64_t ecam_read(void *dev, uint64_t offset, unsigned size)
{
	struct mch *m = dev;

	return pci_config_read(m->pci.bus, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff, size);
}

static void ecam_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct mch *m = dev;

	pci_config_write(m->pci.bus, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff, (uint32_t)value, size);
}

static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write, .max_size = 4};

static void place_ecam(struct mch *m)
{
	const uint8_t *c = m->pci.config;
	uint64_t reg = pci_get32(c + PCIEXBAR) | (uint64_t)pci_get32(c + PCIEXBAR + 4) << 32;
	uint64_t size = MCH_ECAM_SIZE >> PCIEXBAR_LENGTH(reg), base = reg & PCIEXBAR_ADDRESS & ~(size - 1);

	if (m->ecam)
		bus_unregister(m->mmio, m->ecam);
	m->ecam = 0;
	if ((reg & PCIEXBAR_ENABLE) && PCIEXBAR_LENGTH(reg) != PCIEXBAR_RESERVED_LENGTH && base &&
	    bus_register(m->mmio, base, size, &ecam_ops, m, "ecam") == 0)
		m->ecam = base;
}

/* ---- registers ---- */

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned len)
{
	return offset < reg + len && offset + size > reg;
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
	struct mch *m = opaque;
	struct pci_device *d = &m->pci;

	for (unsigned n = 0; n < PAM_REGISTERS; n++)
		if (touches(offset, size, PAM + n, 1))
			pam_write(m->pam, n, d->config[PAM + n]);
	if (touches(offset, size, PCIEXBAR, 8))
		place_ecam(m);
	/* Once locked, SMRAM is as it is until reset. */
	if (touches(offset, size, SMRAM, 1) && (d->config[SMRAM] & SMRAM_LOCK))
		d->writable[SMRAM] = d->writable[ESMRAMC] = 0;
}

static const struct pci_device_ops ops = {.config_written = config_written};

int mch_init(struct mch *m, struct pci_bus *bus, struct bus *mmio, struct pam *pam)
{
	static const struct pci_info info = {
		.name = "mch", .vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000, .revision = 2};
	int r = pci_device_init(&m->pci, bus, PCI_DEVFN(0, 0), &info, &ops, m);

	if (r < 0)
		return r;
	m->pam = pam;
	m->mmio = mmio;
	uint8_t *c = m->pci.config, *w = m->pci.writable;

	pci_put16(c + 4, COMMAND_MEMORY_MASTER);
	pci_put16(w + 4, COMMAND_WRITABLE);
	c[6] = 0x80; /* fast back-to-back */
	c[DEVEN] = 0x01; /* of the chip's functions, this one */
	pci_put32(c + PCIEXBAR, 0xe0000000);
	pci_put32(w + PCIEXBAR, 0xfc000000 | PCIEXBAR_ENABLE | PCIEXBAR_RESERVED_LENGTH << 1);
	pci_put32(w + PCIEXBAR + 4, PCIEXBAR_ADDRESS >> 32);
	for (unsigned n = 0; n < PAM_REGISTERS; n++)
		c[PAM + n] = pam_register(pam, n);
	w[PAM] = 0x30;
	memset(w + PAM + 1, 0x33, PAM_REGISTERS - 1);
	c[SMRAM] = 0x02;
	w[SMRAM] = 0x78;
	c[ESMRAMC] = 0x38;
	w[ESMRAMC] = 0x87;
	memset(w + TOM, 0xff, 2);
	pci_put16(c + TOLUD, 0x0010);
	pci_put16(w + TOLUD, 0xfff0);
	return 0;
}

void mch_free(struct mch *m)
{
	if (m->ecam)
		bus_unregister(m->mmio, m->ecam);
	m->ecam = 0;
	pci_device_free(&m->pci);
}

void mch_set_up(struct mch *m)
{
	pci_put32(m->pci.config + PCIEXBAR, MCH_ECAM_BASE | PCIEXBAR_ENABLE);
	place_ecam(m);
}
