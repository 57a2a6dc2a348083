/*
 * 82441FX host bridge. See i440fx.h.
 *
 * Called under vm->lock. Source: Intel 440FX PCIset data sheet (290549), chapter 3.
 */
#include "pci/i440fx.h"

#include <string.h>

enum {
	PMCCFG = 0x50, DETURBO = 0x52, DBC = 0x53, AXC = 0x54, DRT = 0x55, DRAMC = 0x57, DRAMT = 0x58, PAM = 0x59,
	DRB = 0x60, FDHC = 0x68, MTT = 0x70, CLT = 0x71, SMRAM = 0x72, ERRCMD = 0x90, ERRSTS = 0x91,
};

#define COMMAND_MEMORY_MASTER 0x0006 /* wired */
#define COMMAND_WRITABLE 0x0140
#define STATUS_FAST_MEDIUM 0x0280
#define SMRAM_LOCK 0x10

/* Once locked, SMRAM is as it is until reset. */
static void config_written(void *opaque, unsigned offset, unsigned size)
{
	struct i440fx *f = opaque;

	for (unsigned n = 0; n < PAM_REGISTERS; n++)
		if (offset <= PAM + n && offset + size > PAM + n)
			pam_write(f->pam, n, f->pci.config[PAM + n]);
	if (offset <= SMRAM && offset + size > SMRAM && (f->pci.config[SMRAM] & SMRAM_LOCK))
		f->pci.writable[SMRAM] = 0;
}

static const struct pci_device_ops ops = {.config_written = config_written};

int i440fx_init(struct i440fx *f, struct pci_bus *bus, struct pam *pam)
{
	static const struct pci_info info = {
		.name = "i440fx", .vendor = 0x8086, .device = 0x1237, .class_code = 0x060000, .revision = 2};
	int r = pci_device_init(&f->pci, bus, PCI_DEVFN(0, 0), &info, &ops, f);

	if (r < 0)
		return r;
	f->pam = pam;
	uint8_t *c = f->pci.config, *w = f->pci.writable;

	pci_put16(c + 4, COMMAND_MEMORY_MASTER);
	pci_put16(w + 4, COMMAND_WRITABLE);
	pci_put16(c + 6, STATUS_FAST_MEDIUM);
	c[DBC] = 0x83;
	c[DRAMC] = 0x01;
	c[DRAMT] = 0x10;
	memset(c + DRB, 1, 8);
	c[MTT] = 0x20;
	c[CLT] = 0x10;
	c[SMRAM] = 0x02;
	memset(w + PMCCFG, 0xff, FDHC + 1 - PMCCFG);
	for (unsigned n = 0; n < PAM_REGISTERS; n++)
		c[PAM + n] = pam_register(pam, n);
	w[PAM] = 0xf0;
	memset(w + PAM + 1, 0xff, PAM_REGISTERS - 1);
	w[MTT] = w[CLT] = 0xf8;
	w[SMRAM] = 0x78;
	w[ERRCMD] = 0xff;
	f->pci.clear[ERRSTS] = 0x11;
	return 0;
}

void i440fx_free(struct i440fx *f) { pci_device_free(&f->pci); }
