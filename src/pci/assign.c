/*
 * Base addresses as firmware assigns them. See assign.h.
 *
 * The largest come first, so that each begins at a multiple of its size with no gap. Called while the machine is built.
 */
#include "pci/assign.h"

#include "pci/pci_internal.h"
#include "util/log.h"

static bool is_64bit(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_MEMORY64 || bar->kind == PCI_BAR_MEMORY64_PREFETCH;
}

/* Takes `size` bytes of [*next, last]; 0 when there is no room. */
static uint64_t take(uint64_t *next, uint64_t last, uint64_t size)
{
	uint64_t at = (*next + size - 1) & ~(size - 1);

	if (!*next || at < *next || at > last || size - 1 > last - at)
		return 0;
	*next = at + size;
	return at;
}

static void write_register(struct pci_device *d, unsigned offset, uint32_t value, unsigned size)
{
	pci_config_write(d->bus, 0, d->devfn, offset, value, size);
}

static void assign_bar(struct pci_device *d, unsigned n, const struct pci_windows *w, struct pci_windows *next)
{
	const struct pci_bar *bar = &d->bar[n];
	unsigned at = n == PCI_ROM ? PCI_CONFIG_ROM : PCI_CONFIG_BAR + 4 * n;
	uint64_t address = bar->kind == PCI_BAR_IO ? take(&next->io_first, w->io_last, bar->size) :
						     take(&next->low_first, w->low_last, bar->size);

	if (!address && is_64bit(bar))
		address = take(&next->high_first, w->high_last, bar->size);
	if (!address) {
		LOG(LOG_PCI, "%s: no room for BAR %u of %#llx bytes", d->name, n, (unsigned long long)bar->size);
		return;
	}
	write_register(d, at, (uint32_t)address, 4);
	if (is_64bit(bar))
		write_register(d, at + 4, (uint32_t)(address >> 32), 4);
}

static void enable(struct pci_device *d, int (*irq)(void *opaque, unsigned slot, unsigned pin), void *opaque)
{
	unsigned pin = d->config[PCI_CONFIG_INTERRUPT_PIN];
	uint16_t command = pci_get16(d->config + PCI_CONFIG_COMMAND);

	for (unsigned n = 0; n < PCI_BARS; n++)
		if (d->bar[n].size)
			command |= d->bar[n].kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	if (pci_get16(d->config + PCI_CONFIG_CLASS) == PCI_CLASS_VGA) /* its old ports are not in a BAR */
		command |= PCI_COMMAND_IO;
	write_register(d, PCI_CONFIG_COMMAND, command, 2);
	int line = pin ? irq(opaque, d->devfn / PCI_FUNCTIONS, pin - 1) : -1;
	if (line >= 0)
		write_register(d, PCI_CONFIG_INTERRUPT_LINE, (uint32_t)line, 1);
}

void pci_assign(struct pci_bus *b, const struct pci_windows *w, int (*irq)(void *opaque, unsigned slot, unsigned pin),
		void *opaque)
{
	struct pci_windows next = *w;

	for (uint64_t size = 1ull << 63; size; size >>= 1)
		for (unsigned i = 0; i < PCI_DEVFNS; i++)
			for (unsigned n = 0; b->device[i] && n <= PCI_ROM; n++)
				if (b->device[i]->bar[n].size == size)
					assign_bar(b->device[i], n, w, &next);
	for (unsigned i = 0; i < PCI_DEVFNS; i++)
		if (b->device[i])
			enable(b->device[i], irq, opaque);
}
