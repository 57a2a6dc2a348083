/*
 * PCI functions on a bus: configuration space, base address registers, INTx. See pci.h. MSI and MSI-X are in msi.c.
 *
 * A base address register claims its addresses on the port or memory bus while the command register enables it, and
 * only where nothing else is: RAM, the top of the 4 GiB space with the board's own registers, another register. One
 * that found no room is tried again whenever another has moved, so that overlaps in the middle of a reassignment, or of
 * sizing with decoding enabled, do no harm.
 *
 * Called under vm->lock. Source: PCI Local Bus Specification 3.0, chapter 6 "Configuration Space".
 */
#include "pci/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pci/pci_internal.h"
#include "sandbox/sandbox.h"
#include "util/log.h"
#include "util/write.h"

#define ROM_MAX (16ull << 20)
#define CONFIG_CONVENTIONAL 256u

/* ---- mapping ---- */

static unsigned bar_offset(unsigned n) { return n == PCI_ROM ? PCI_CONFIG_ROM : PCI_CONFIG_BAR + 4 * n; }

static bool is_64bit(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_MEMORY64 || bar->kind == PCI_BAR_MEMORY64_PREFETCH;
}

static bool ranges_meet(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Where BAR n is to answer; false: nowhere. */
static bool wanted_address(const struct pci_device *d, unsigned n, uint64_t *address)
{
	const struct pci_bar *bar = &d->bar[n];
	uint16_t command = pci_get16(d->config + PCI_CONFIG_COMMAND);
	const uint8_t *reg = d->config + bar_offset(n);

	if (!bar->size || !(command & (bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	if (n == PCI_ROM && !(reg[0] & PCI_ROM_ENABLE))
		return false;
	*address = pci_get32(reg);
	if (is_64bit(bar))
		*address |= (uint64_t)pci_get32(reg + 4) << 32;
	*address &= ~(bar->size - 1);
	return *address != 0 && *address + bar->size > *address;
}

/* Memory space that no function may claim: RAM, and from the I/O APIC to the reset vector. */
static bool is_reserved(const struct pci_bus *b, uint64_t address, uint64_t size)
{
	const struct memory *m = b->config.memory;

	return ranges_meet(address, size, 0, m->low) || ranges_meet(address, size, MEMORY_HIGH_BASE, m->size - m->low) ||
	       ranges_meet(address, size, PCI_HOLE_END, MEMORY_HIGH_BASE - PCI_HOLE_END);
}

/* Registers of host memory: stores to what is read-only come here, and reads of a BAR without registers. */
static uint64_t nothing_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return 0;
}

static const struct bus_ops nothing_ops = {.read = nothing_read};

static const struct bus_ops *registers_of(struct pci_device *d, unsigned n, void **opaque)
{
	struct pci_bar *bar = &d->bar[n];

	*opaque = bar->opaque;
	if (d->msix.present && d->msix.bar == n) {
		*opaque = d;
		return &d->msix.ops;
	}
	return bar->ops ? bar->ops : &nothing_ops;
}

static void map_bar(struct pci_device *d, unsigned n, uint64_t address)
{
	struct pci_bar *bar = &d->bar[n];
	struct pci_bus_config *c = &d->bus->config;
	struct bus *bus = bar->kind == PCI_BAR_IO ? c->pio : c->mmio;
	void *opaque;
	const struct bus_ops *ops = registers_of(d, n, &opaque);

	if (bar->kind == PCI_BAR_IO ? address + bar->size > PCI_IO_END : is_reserved(d->bus, address, bar->size))
		return;
	if (bus_register(bus, address, bar->size, ops, opaque, bar->name) < 0)
		return;
	if (bar->is_block && memory_map(c->memory, address, bar->size, bar->block_offset, bar->block_readonly) < 0) {
		bus_unregister(bus, address);
		return;
	}
	bar->mapped = true;
	bar->address = address;
	LOG(LOG_PCI, "%s: BAR %u at %#llx", d->name, n, (unsigned long long)address);
}

static void unmap_bar(struct pci_device *d, unsigned n)
{
	struct pci_bar *bar = &d->bar[n];
	struct pci_bus_config *c = &d->bus->config;

	if (!bar->mapped)
		return;
	if (bar->is_block)
		memory_unmap(c->memory, bar->address, bar->size, bar->block_offset);
	bus_unregister(bar->kind == PCI_BAR_IO ? c->pio : c->mmio, bar->address);
	bar->mapped = false;
}

/* Something of d's address decoding changed: others may find room now. */
static void update_mappings(struct pci_device *d)
{
	uint64_t address;

	for (unsigned n = 0; n <= PCI_ROM; n++)
		if (d->bar[n].mapped && (!wanted_address(d, n, &address) || address != d->bar[n].address))
			unmap_bar(d, n);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		struct pci_device *other = d->bus->device[i];

		for (unsigned n = 0; other && n <= PCI_ROM; n++)
			if (!other->bar[n].mapped && wanted_address(other, n, &address))
				map_bar(other, n, address);
	}
}

/* ---- INTx ---- */

/* Of the functions of a slot that share a pin, any one holds it. */
void pci_update_intx(struct pci_device *d)
{
	uint8_t pin = d->config[PCI_CONFIG_INTERRUPT_PIN];
	unsigned slot = d->devfn >> 3;

	if (!pin)
		return;
	uint8_t *holders = &d->bus->holders[slot][pin - 1];
	bool disabled = pci_get16(d->config + PCI_CONFIG_COMMAND) & PCI_COMMAND_INTX_DISABLE;
	bool asserted = d->intx_level && !disabled && !pci_msi_enabled(d) && !pci_msix_enabled(d);

	d->config[PCI_CONFIG_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	if (d->intx_level)
		d->config[PCI_CONFIG_STATUS] |= PCI_STATUS_INTERRUPT;
	if (asserted == d->intx_asserted)
		return;
	d->intx_asserted = asserted;
	*holders = asserted ? *holders + 1 : *holders - 1;
	if (*holders == (asserted ? 1 : 0) && d->bus->config.set_intx)
		d->bus->config.set_intx(d->bus->config.opaque, slot, pin - 1u, asserted);
}

void pci_set_intx(struct pci_device *d, int level)
{
	if (d->intx_level == !!level)
		return;
	d->intx_level = !!level;
	pci_update_intx(d);
}

/* ---- configuration accesses ---- */

static unsigned config_size(const struct pci_bus *b)
{
	return b->config.express ? PCI_CONFIG_SIZE : CONFIG_CONVENTIONAL;
}

static struct pci_device *addressed(struct pci_bus *b, unsigned bus_number, unsigned devfn, unsigned offset,
				    unsigned size)
{
	if (bus_number != 0 || devfn >= PCI_DEVFNS || offset >= config_size(b) || size > config_size(b) - offset)
		return NULL;
	return b->device[devfn];
}

uint32_t pci_config_read(struct pci_bus *b, unsigned bus_number, unsigned devfn, unsigned offset, unsigned size)
{
	struct pci_device *d = addressed(b, bus_number, devfn, offset, size);
	uint32_t value = UINT32_MAX;

	if (!d)
		return size == 4 ? value : (1u << size * 8) - 1;
	if (d->ops && d->ops->config_read)
		d->ops->config_read(d->opaque, offset, size);
	value = 0;
	memcpy(&value, d->config + offset, size);
	return value;
}

void pci_config_write(struct pci_bus *b, unsigned bus_number, unsigned devfn, unsigned offset, uint32_t value,
		      unsigned size)
{
	struct pci_device *d = addressed(b, bus_number, devfn, offset, size);

	if (!d)
		return;
	LOG(LOG_PCI, "%s: config %#x = %#x (%u)", d->name, offset, value, size);
	for (unsigned i = 0; i < size; i++) {
		unsigned at = offset + i;
		uint8_t byte = (uint8_t)(value >> i * 8), writable = d->writable[at];

		d->config[at] = (uint8_t)((d->config[at] & ~writable) | (byte & writable));
		d->config[at] &= (uint8_t)~(byte & d->clear[at]);
	}
	if (ranges_meet(offset, size, PCI_CONFIG_COMMAND, 2) || ranges_meet(offset, size, PCI_CONFIG_BAR, 4 * PCI_BARS) ||
	    ranges_meet(offset, size, PCI_CONFIG_ROM, 4))
		update_mappings(d);
	pci_msi_config_written(d, offset, size);
	pci_update_intx(d);
	if (d->ops && d->ops->config_written)
		d->ops->config_written(d->opaque, offset, size);
}

/* ---- building ---- */

struct pci_bus *pci_bus_new(const struct pci_bus_config *config)
{
	struct pci_bus *b = calloc(1, sizeof *b);

	if (b)
		b->config = *config;
	return b;
}

void pci_bus_free(struct pci_bus *b) { free(b); }

struct pci_device *pci_bus_device(const struct pci_bus *b, unsigned devfn)
{
	return devfn < PCI_DEVFNS ? b->device[devfn] : NULL;
}

static int free_slot(const struct pci_bus *b)
{
	for (int slot = 0; slot < PCI_SLOTS; slot++) {
		bool used = false;

		for (unsigned f = 0; f < PCI_FUNCTIONS; f++)
			used |= b->device[PCI_DEVFN(slot, f)] != NULL;
		if (!used)
			return PCI_DEVFN(slot, 0);
	}
	return -ENOSPC;
}

static void fill_header(struct pci_device *d, const struct pci_info *info)
{
	uint8_t *c = d->config, *w = d->writable;

	pci_put16(c + PCI_CONFIG_VENDOR, info->vendor);
	pci_put16(c + PCI_CONFIG_DEVICE, info->device);
	pci_put32(c + PCI_CONFIG_REVISION, info->class_code << 8 | info->revision);
	c[PCI_CONFIG_HEADER_TYPE] = info->multifunction ? PCI_HEADER_MULTIFUNCTION : 0;
	pci_put16(c + PCI_CONFIG_SUBSYSTEM_VENDOR, info->subsystem_vendor);
	pci_put16(c + PCI_CONFIG_SUBSYSTEM, info->subsystem);
	c[PCI_CONFIG_INTERRUPT_PIN] = info->interrupt_pin;

	pci_put16(w + PCI_CONFIG_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
		  PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	pci_put16(d->clear + PCI_CONFIG_STATUS, PCI_STATUS_ERRORS);
	w[PCI_CONFIG_CACHE_LINE] = w[PCI_CONFIG_LATENCY] = 0xff;
	w[PCI_CONFIG_INTERRUPT_LINE] = info->interrupt_pin ? 0xff : 0;
}

int pci_device_init(struct pci_device *d, struct pci_bus *bus, int devfn, const struct pci_info *info,
		    const struct pci_device_ops *ops, void *opaque)
{
	memset(d, 0, sizeof *d);
	if (devfn < 0 && (devfn = free_slot(bus)) < 0)
		return devfn;
	if (devfn >= PCI_DEVFNS || bus->device[devfn])
		return -EBUSY;
	uint8_t *space = calloc(3, PCI_CONFIG_SIZE);
	if (!space)
		return -ENOMEM;
	d->config = space;
	d->writable = space + PCI_CONFIG_SIZE;
	d->clear = space + 2 * PCI_CONFIG_SIZE;
	d->bus = bus;
	d->devfn = (unsigned)devfn;
	d->name = info->name;
	d->ops = ops;
	d->opaque = opaque;
	d->capability_end = PCI_CONFIG_CAPABILITIES;
	fill_header(d, info);
	bus->device[devfn] = d;
	return 0;
}

void pci_device_free(struct pci_device *d)
{
	if (!d->bus)
		return;
	pci_set_intx(d, 0);
	for (unsigned n = 0; n <= PCI_ROM; n++)
		unmap_bar(d, n);
	d->bus->device[d->devfn] = NULL;
	free(d->msix.entry);
	free(d->msix.pending);
	free(d->config);
	memset(d, 0, sizeof *d);
}

void pci_add_bar(struct pci_device *d, unsigned n, enum pci_bar_kind kind, uint64_t size, const struct bus_ops *ops,
		 void *opaque)
{
	static const uint8_t type[] = {
		[PCI_BAR_IO] = 0x1, [PCI_BAR_MEMORY32] = 0x0, [PCI_BAR_MEMORY32_PREFETCH] = 0x8,
		[PCI_BAR_MEMORY64] = 0x4, [PCI_BAR_MEMORY64_PREFETCH] = 0xc,
	};
	unsigned at = bar_offset(n);
	uint64_t mask = ~(size - 1);

	d->bar[n] = (struct pci_bar){.kind = kind, .size = size, .ops = ops, .opaque = opaque, .name = d->name};
	pci_put32(d->writable + at, (uint32_t)mask);
	if (n == PCI_ROM) {
		d->writable[at] |= PCI_ROM_ENABLE;
		return;
	}
	d->config[at] = type[kind];
	if (is_64bit(&d->bar[n]))
		pci_put32(d->writable + at + 4, (uint32_t)(mask >> 32));
}

void pci_add_memory_bar(struct pci_device *d, unsigned n, enum pci_bar_kind kind, uint64_t size, uint64_t offset)
{
	pci_add_bar(d, n, kind, size, NULL, NULL);
	d->bar[n].is_block = true;
	d->bar[n].block_offset = offset;
}

/* A BIOS runs a ROM only if the ROM's first data structure (PCI Firmware Specification 3.0, 5.1.2) names the function. One
 * file serves kin with several device numbers: it gets this one's, and its sum is kept by the byte that makers of ROMs
 * leave for that, behind the jump at the entry. */
static void name_device(const struct pci_device *d, uint8_t *rom, uint64_t size)
{
	unsigned at = size > 0x1a ? pci_get16(rom + 0x18) : 0, sum = 0;
	uint8_t *ids = rom + at + 4;

	if (!at || at + 0x18 > size || memcmp(rom, "\x55\xaa", 2) || memcmp(rom + at, "PCIR", 4) || rom[at + 0x14] != 0 ||
	    memcmp(ids, d->config, 4) == 0)
		return;
	for (unsigned i = 0; i < 4; i++)
		sum += ids[i] - d->config[i];
	memcpy(ids, d->config, 4);
	rom[6] = (uint8_t)(rom[6] + sum);
}

int pci_add_rom(struct pci_device *d, const char *path)
{
	struct memory *m = d->bus->config.memory;
	uint64_t size = PAGE_SIZE, offset;
	struct stat st;
	int fd = sandbox_open(path, O_RDONLY), r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		r = -errno;
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > ROM_MAX) {
		r = -EINVAL;
		goto out;
	}
	while (size < (uint64_t)st.st_size)
		size *= 2;
	if ((r = memory_add_block(m, size, &offset)) < 0 || (r = read_all(fd, m->base + offset, (size_t)st.st_size)) < 0)
		goto out;
	name_device(d, m->base + offset, (uint64_t)st.st_size);
	pci_add_memory_bar(d, PCI_ROM, PCI_BAR_MEMORY32, size, offset);
	d->bar[PCI_ROM].block_readonly = true;
out:
	close(fd);
	return r;
}

unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size)
{
	unsigned at = d->capability_end;

	if (size > CONFIG_CONVENTIONAL - at)
		return 0;
	d->capability_end = (at + size + 3) & ~3u;
	d->config[at] = id;
	d->config[at + 1] = d->config[PCI_CONFIG_CAPABILITY_POINTER];
	d->config[PCI_CONFIG_CAPABILITY_POINTER] = (uint8_t)at;
	d->config[PCI_CONFIG_STATUS] |= PCI_STATUS_CAPABILITIES;
	return at;
}

/* ---- DMA ---- */

static bool is_master(const struct pci_device *d) { return d->config[PCI_CONFIG_COMMAND] & PCI_COMMAND_MASTER; }

int pci_dma_read(struct pci_device *d, uint64_t gpa, void *buf, uint64_t len)
{
	return is_master(d) ? memory_read(d->bus->config.memory, gpa, buf, len) : -EFAULT;
}

int pci_dma_write(struct pci_device *d, uint64_t gpa, const void *buf, uint64_t len)
{
	return is_master(d) ? memory_write(d->bus->config.memory, gpa, buf, len) : -EFAULT;
}

int pci_dma_map(struct pci_device *d, uint64_t gpa, uint64_t len, enum dma_direction direction, struct dma_span *span)
{
	*span = (struct dma_span){.gpa = gpa};
	return is_master(d) ? dma_map(d->bus->config.memory, gpa, len, direction, span) : -EFAULT;
}

void pci_dma_unmap(struct pci_device *d, struct dma_span *span, uint64_t written)
{
	dma_unmap(d->bus->config.memory, span, written);
}
