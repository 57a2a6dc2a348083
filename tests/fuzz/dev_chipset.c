/*
 * Fuzz target: both chip sets with functions of every kind of address register, MSI and MSI-X on them, the ACPI
 * registers and the HPET. An input is a list of accesses to configuration space (by ports and by ECAM), to ports and to
 * memory, of interrupts and DMA by the functions, with time that passes.
 *
 * What must hold after each: address registers answer where they say, on nothing else's addresses, and interrupt lines
 * never fall below zero.
 */
#include "driver.h"

#include "dev/hpet.h"
#include "dev/pm.h"
#include "dev/reset.h"
#include "pci/assign.h"
#include "pci/host.h"
#include "pci/i440fx.h"
#include "pci/ich9.h"
#include "pci/mch.h"
#include "pci/piix.h"
#include "util/timer.h"

#define RAM_SIZE (2ull << 20)
#define BLOCK_SIZE 0x10000ull

struct machine {
	struct memory memory;
	struct bus pio, mmio;
	struct timer_queue *timers;
	struct pci_bus *bus;
	struct pci_config_ports ports;
	struct reset_control *reset;
	struct pam pam;
	struct pm *pm;
	struct hpet *hpet;
	bool q35;
	struct i440fx i440fx;
	struct piix piix;
	struct mch mch;
	struct ich9 ich9;
	struct pci_device function[2];
	uint32_t gsis;
};

static void set_gsi(void *opaque, unsigned gsi, int level)
{
	struct machine *m = opaque;

	if (gsi > 23 || (m->gsis >> gsi & 1) == (unsigned)level)
		abort(); /* told of changes only */
	m->gsis ^= 1u << gsi;
}

static void hpet_gsi(void *opaque, unsigned gsi, int level)
{
	(void)opaque, (void)level;
	if (gsi > 23)
		abort();
}

static void hpet_legacy(void *opaque, bool on) { (void)opaque, (void)on; }

static void set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	struct machine *m = opaque;

	if (m->q35)
		ich9_set_intx(&m->ich9, slot, pin, level);
	else
		piix_set_intx(&m->piix, slot, pin, level);
}

static void msi(void *opaque, uint64_t address, uint32_t data)
{
	(void)opaque, (void)data;
	if (address >> 20 != 0xfee)
		abort();
}

static void nothing(void *opaque) { (void)opaque; }

static uint64_t reg_read(void *dev, uint64_t offset, unsigned size)
{
	const struct pci_bar *bar = dev;

	if (offset + size > bar->size)
		abort();
	return offset;
}

static void reg_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)value;
	reg_read(dev, offset, size);
}

static void add_functions(struct machine *m)
{
	static const struct bus_ops ops = {.read = reg_read, .write = reg_write};
	static const struct pci_info info = {.name = "function", .vendor = 0x1234, .device = 0x5678, .interrupt_pin = 1};
	struct pci_device *a = &m->function[0], *b = &m->function[1];
	uint64_t block;

	if (memory_add_block(&m->memory, BLOCK_SIZE, &block) < 0 ||
	    pci_device_init(a, m->bus, PCI_DEVFN(3, 0), &info, NULL, NULL) < 0 ||
	    pci_device_init(b, m->bus, PCI_DEVFN(4, 1), &info, NULL, NULL) < 0)
		abort();
	pci_add_bar(a, 0, PCI_BAR_IO, 0x20, &ops, &a->bar[0]);
	pci_add_bar(a, 1, PCI_BAR_MEMORY32, 0x2000, &ops, &a->bar[1]);
	pci_add_bar(a, 2, PCI_BAR_MEMORY64_PREFETCH, 0x4000, &ops, &a->bar[2]);
	pci_add_memory_bar(b, 0, PCI_BAR_MEMORY32_PREFETCH, BLOCK_SIZE, block);
	pci_add_bar(b, 4, PCI_BAR_IO, 0x100, &ops, &b->bar[4]);
	pci_add_memory_bar(b, PCI_ROM, PCI_BAR_MEMORY32, BLOCK_SIZE, block);
	b->bar[PCI_ROM].block_readonly = true;
	if (pci_add_msix(a, 2, 0x1000, 40) < 0 || pci_add_msi(b, 8) < 0)
		abort();
}

static int no_irq(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque, (void)slot, (void)pin;
	return 10;
}

static void build(struct machine *m, bool q35)
{
	static const struct pm_ops pm_ops = {.power_off = nothing};
	static const struct hpet_ops hpet_ops = {.set_gsi = hpet_gsi, .legacy = hpet_legacy};
	static const struct pci_windows windows = {.low_first = 0xc0000000, .low_last = 0xfebfffff, .io_first = 0xc000,
						   .io_last = 0xffff};
	const struct pci_bus_config config = {.memory = &m->memory, .pio = &m->pio, .mmio = &m->mmio, .set_intx = set_intx,
					      .msi = msi, .opaque = m, .express = q35};

	m->q35 = q35;
	m->timers = timer_queue_new_manual(1);
	if (memory_init(&m->memory, RAM_SIZE) < 0 || !(m->bus = pci_bus_new(&config)) ||
	    pam_init(&m->pam, &m->memory, &m->mmio) < 0 || !(m->reset = reset_new(&m->pio, nothing, NULL)) ||
	    pci_config_ports_init(&m->ports, &m->pio, m->bus, m->reset) < 0 ||
	    !(m->pm = pm_new(&m->pio, m->timers, (struct irq_line){0}, q35 ? &pm_ich9 : &pm_piix4, &pm_ops, NULL)) ||
	    !(m->hpet = hpet_new(&m->mmio, m->timers, &hpet_ops, m)))
		abort();
	if (q35 ? mch_init(&m->mch, m->bus, &m->mmio, &m->pam) < 0 ||
		  ich9_init(&m->ich9, m->bus, &m->mmio, m->pm, set_gsi, m) < 0 :
		  i440fx_init(&m->i440fx, m->bus, &m->pam) < 0 || piix_init(&m->piix, m->bus, &m->pio, m->pm, set_gsi, m) < 0)
		abort();
	add_functions(m);
	pci_assign(m->bus, &windows, no_irq, NULL);
	if (q35)
		mch_set_up(&m->mch), ich9_set_up(&m->ich9);
	else
		piix_set_up(&m->piix);
}

static void tear_down(struct machine *m)
{
	pci_device_free(&m->function[0]);
	pci_device_free(&m->function[1]);
	smbus_restart(m->q35 ? &m->ich9.smbus : &m->piix.smbus);
	if (m->gsis)
		abort(); /* nobody holds a line any more */
	ich9_free(&m->ich9);
	mch_free(&m->mch);
	piix_free(&m->piix);
	i440fx_free(&m->i440fx);
	hpet_free(m->hpet);
	pm_free(m->pm);
	reset_free(m->reset);
	pci_bus_free(m->bus);
	timer_queue_free(m->timers);
	memory_free(&m->memory);
}

static void check_bars(const struct machine *m)
{
	for (unsigned f = 0; f < 2; f++) {
		for (unsigned n = 0; n <= PCI_ROM; n++) {
			const struct pci_bar *bar = &m->function[f].bar[n];

			if (!bar->mapped)
				continue;
			if (bar->address % bar->size || !bar->address)
				abort();
			if (bar->kind == PCI_BAR_IO ? bar->address + bar->size > 0x10000 : bar->address < RAM_SIZE)
				abort();
			uint64_t offset = bar->is_block ? memory_offset(&m->memory, bar->address, bar->size) : 0;
			if (bar->is_block && offset != bar->block_offset)
				abort();
		}
	}
	for (unsigned i = 1; i < m->mmio.count; i++)
		if (m->mmio.region[i - 1].base + m->mmio.region[i - 1].len > m->mmio.region[i].base)
			abort();
}

/* ---- what an input says ---- */

static unsigned some_function(struct fuzz_input *in)
{
	static const uint8_t devfn[] = {PCI_DEVFN(0, 0), PCI_DEVFN(1, 0), PCI_DEVFN(1, 3), PCI_DEVFN(31, 0), PCI_DEVFN(3, 0),
					PCI_DEVFN(4, 1), PCI_DEVFN(3, 0), PCI_DEVFN(4, 1)};

	return devfn[fuzz_take(in, 1) % sizeof devfn];
}

static void config_by_ports(struct machine *m, struct fuzz_input *in)
{
	unsigned devfn = some_function(in), offset = (unsigned)fuzz_take(in, 1), how = (unsigned)fuzz_take(in, 1);
	unsigned size = 1u << how % 3;
	uint64_t value;

	bus_write(&m->pio, 0xcf8, 4, 0x80000000 | devfn << 8 | (offset & 0xfc));
	if (how & 4)
		bus_read(&m->pio, 0xcfc + (offset & 3), size, &value);
	else
		bus_write(&m->pio, 0xcfc + (offset & 3), size, fuzz_take(in, size));
}

static void access_memory(struct machine *m, struct fuzz_input *in, uint64_t address)
{
	unsigned how = (unsigned)fuzz_take(in, 1), size = 1u << (how & 3);
	uint64_t value;

	if (how & 4)
		bus_read(&m->mmio, address, size, &value);
	else
		bus_write(&m->mmio, address, size, fuzz_take(in, size));
}

static void access_bar(struct machine *m, struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1);
	const struct pci_bar *bar = &m->function[how & 1].bar[(how >> 1) % (PCI_ROM + 1)];
	uint64_t value, offset = fuzz_take(in, 2);

	if (!bar->mapped)
		return;
	if (bar->kind == PCI_BAR_IO)
		bus_read(&m->pio, bar->address + offset % bar->size, 1u << (how >> 5 & 3), &value);
	else
		access_memory(m, in, bar->address + offset % bar->size);
}

/* The base address register of one, near those of the other, of RAM and of the board's registers. */
static void move_bar(struct machine *m, struct fuzz_input *in)
{
	static const uint32_t near[] = {0, 0xb0000000, 0xc0000000, 0xc0010000, 0xfec00000, 0xfed00000, 0xffff0000, 0x00100000};
	unsigned devfn = some_function(in), n = (unsigned)fuzz_take(in, 1) % 7;
	uint32_t value = near[fuzz_take(in, 1) % 8] + ((uint32_t)fuzz_take(in, 1) << 12);

	pci_config_write(m->bus, 0, devfn, n == 6 ? 0x30 : 0x10 + 4 * n, value | (n == 6), 4);
}

static void function_acts(struct machine *m, struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1);
	struct pci_device *d = &m->function[how & 1];
	uint8_t bytes[16];

	switch (how >> 1 & 3) {
	case 0:
		pci_set_intx(d, how >> 3 & 1);
		break;
	case 1:
		pci_send_msi(d, how >> 3);
		break;
	case 2:
		memset(bytes, 0, sizeof bytes);
		pci_dma_read(d, fuzz_take(in, 3), bytes, sizeof bytes);
		pci_dma_write(d, fuzz_take(in, 5), bytes, sizeof bytes);
		break;
	default:
		timer_queue_set_now(m->timers, timer_queue_now(m->timers) + (1ull << (how >> 3)));
		timer_queue_run(m->timers);
	}
}

/* Of ACPI, or where PIIX4's SMBus registers are at first. */
static uint64_t board_port(struct fuzz_input *in)
{
	uint64_t n = fuzz_take(in, 1);

	return n < 0x80 ? PM_BASE + n : 0x700 + n % 0x20;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine *m = calloc(1, sizeof *m);
	struct fuzz_input in = {data, size};
	uint64_t value;

	if (!m)
		abort();
	build(m, fuzz_take(&in, 1) & 1);
	while (in.size) {
		switch (fuzz_take(&in, 1) % 8) {
		case 0:
			config_by_ports(m, &in);
			break;
		case 1:
			access_memory(m, &in, MCH_ECAM_BASE + (some_function(&in) << 12) + fuzz_take(&in, 2) % 0x1000);
			break;
		case 2:
			access_bar(m, &in);
			break;
		case 3:
			move_bar(m, &in);
			break;
		case 4:
			function_acts(m, &in);
			break;
		case 5:
			access_memory(m, &in, HPET_BASE + fuzz_take(&in, 2) % HPET_SIZE);
			break;
		case 6:
			bus_write(&m->pio, board_port(&in), 4, fuzz_take(&in, 4));
			bus_read(&m->pio, board_port(&in), 4, &value);
			break;
		default:
			access_memory(m, &in, 0xfed1c000 + fuzz_take(&in, 2) % 0x4000);
		}
		check_bars(m);
	}
	tear_down(m);
	free(m);
	return 0;
}
