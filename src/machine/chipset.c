/*
 * Assembles the chip set. See chipset.h.
 */
#include "machine/chipset.h"

#include <errno.h>

#include "dev/pm.h"
#include "machine/pc.h"
#include "machine/vm.h"

#define PCI_LOW_BASE 0x80000000ull
#define Q35_LOW_MEMORY 0x80000000ull /* so that ECAM lies in no RAM */
#define PCI_IO_BASE 0xc000
#define PCI_IO_FIRST 0xd00 /* behind the configuration ports */
#define PCI_HIGH_ALIGN (1ull << 30)
#define PCI_HIGH_SIZE (32ull << 30)

/* PCI's interrupts and the SCI are levels. */
enum { ELCR_PORT = 0x4d0, ELCR_LEVELS = 1 << 9 | 1 << 10 | 1 << 11 };

uint64_t chipset_low_memory(enum machine_type type) { return type == MACHINE_Q35 ? Q35_LOW_MEMORY : MEMORY_LOW_MAX; }

const struct pm_layout *chipset_pm_layout(enum machine_type type)
{
	return type == MACHINE_Q35 ? &pm_ich9 : &pm_piix4;
}

/* ---- interrupts ---- */

static void set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	struct chipset *c = &((struct pc *)opaque)->chipset;

	if (c->type == MACHINE_Q35)
		ich9_set_intx(&c->ich9, slot, pin, level);
	else
		piix_set_intx(&c->piix, slot, pin, level);
}

static void send_message(void *opaque, uint64_t address, uint32_t data)
{
	lapic_bus_deliver_msi(&((struct pc *)opaque)->lapics, address, data);
}

static int isa_irq(void *opaque, unsigned slot, unsigned pin)
{
	return (int)(((struct chipset *)opaque)->type == MACHINE_Q35 ? ich9_irq(slot, pin) : piix_irq(slot, pin));
}

/* ---- assembly ---- */

/* Where SeaBIOS puts functions too: it knows from the size of RAM. */
static struct pci_windows windows(const struct vm *vm)
{
	uint64_t high_end = MEMORY_HIGH_BASE + vm->memory.size - vm->memory.low, space = 1ull << vm->cpuid.phys_bits;
	bool above_ecam = vm->config.machine == MACHINE_Q35, much_ram = vm->memory.low > PCI_LOW_BASE;
	struct pci_windows w = {
		.low_first = above_ecam ? MCH_ECAM_BASE + MCH_ECAM_SIZE : much_ram ? vm->memory.low : PCI_LOW_BASE,
		.low_last = PCI_HOLE_END - 1,
		.high_first = (high_end + PCI_HIGH_ALIGN - 1) & ~(PCI_HIGH_ALIGN - 1),
		.io_first = PCI_IO_BASE,
		.io_last = 0xffff,
	};

	w.high_last = w.high_first + PCI_HIGH_SIZE - 1;
	if (w.high_last >= space)
		w.high_first = w.high_last = 0;
	return w;
}

static int new_q35(struct vm *vm, struct chipset *c)
{
	struct pc *pc = vm->pc;
	int r = mch_init(&c->mch, pc->pci, &vm->mmio, &c->pam);

	return r < 0 ? r : ich9_init(&c->ich9, pc->pci, &vm->mmio, pc->pm, pc_set_pci_gsi, pc);
}

static int new_i440fx(struct vm *vm, struct chipset *c)
{
	struct pc *pc = vm->pc;
	int r = i440fx_init(&c->i440fx, pc->pci, &c->pam);

	return r < 0 ? r : piix_init(&c->piix, pc->pci, &vm->pio, pc->pm, pc_set_pci_gsi, pc);
}

int chipset_new(struct vm *vm)
{
	struct pc *pc = vm->pc;
	struct chipset *c = &pc->chipset;
	const struct pci_bus_config config = {
		.memory = &vm->memory,
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.set_intx = set_intx,
		.msi = send_message,
		.opaque = pc,
		.express = vm->config.machine == MACHINE_Q35,
	};
	int r;

	c->type = vm->config.machine;
	c->windows = windows(vm);
	if (!(pc->pci = pci_bus_new(&config)))
		return -errno;
	if ((r = pam_init(&c->pam, &vm->memory, &vm->mmio)) < 0)
		return r;
	if (vm->firmware.rom_size)
		pam_set_rom(&c->pam, vm->firmware.rom_offset, vm->firmware.rom_size);
	if ((r = pci_config_ports_init(&c->config_ports, &vm->pio, pc->pci, pc->reset)) < 0)
		return r;
	return c->type == MACHINE_Q35 ? new_q35(vm, c) : new_i440fx(vm, c);
}

void chipset_free(struct vm *vm)
{
	struct chipset *c = &vm->pc->chipset;

	ich9_free(&c->ich9);
	mch_free(&c->mch);
	piix_free(&c->piix);
	i440fx_free(&c->i440fx);
	pci_bus_free(vm->pc->pci);
}

void chipset_set_up(struct vm *vm)
{
	struct chipset *c = &vm->pc->chipset;

	pci_assign(vm->pc->pci, &c->windows, isa_irq, c);
	if (c->type == MACHINE_Q35) {
		mch_set_up(&c->mch);
		ich9_set_up(&c->ich9);
	} else {
		piix_set_up(&c->piix);
	}
	bus_write(&vm->pio, ELCR_PORT, 2, ELCR_LEVELS);
}

/* The last address above 4 GiB that a function has, if firmware went beyond the window. */
static uint64_t high_last(const struct vm *vm, const struct pci_windows *w)
{
	uint64_t last = w->high_last;

	for (unsigned devfn = 0; devfn < 256; devfn++) {
		const struct pci_device *d = pci_bus_device(vm->pc->pci, devfn);

		for (unsigned n = 0; d && n < PCI_BARS; n++) {
			const struct pci_bar *bar = &d->bar[n];

			if (bar->mapped && bar->kind != PCI_BAR_IO && bar->address >= w->high_first &&
			    bar->address + bar->size - 1 > last)
				last = (bar->address + bar->size - 1) | (PCI_HIGH_ALIGN - 1);
		}
	}
	return w->high_first ? last : 0;
}

void chipset_describe(struct vm *vm, struct acpi_config *acpi)
{
	struct chipset *c = &vm->pc->chipset;
	bool q35 = c->type == MACHINE_Q35;

	c->acpi = (struct acpi_pci){
		.low_first = c->windows.low_first,
		.low_last = c->windows.low_last,
		.high_first = c->windows.high_first,
		.high_last = high_last(vm, &c->windows),
		.io_first = PCI_IO_FIRST,
		.ecam = !q35 ? 0 : c->mch.ecam && c->mch.ecam <= UINT32_MAX ? c->mch.ecam : MCH_ECAM_BASE,
		.isa_slot = q35 ? ICH9_SLOT : PIIX_SLOT,
		.gsi = q35 ? ich9_gsi : piix_irq,
		.pic_irq = q35 ? ich9_irq : NULL,
	};
	acpi->pci = &c->acpi;
	/* Where firmware has put things; it asks for the tables when it has. */
	acpi->pm = chipset_pm_layout(c->type);
	acpi->pm_base = pm_base(vm->pc->pm) ? pm_base(vm->pc->pm) : PM_BASE;
}
