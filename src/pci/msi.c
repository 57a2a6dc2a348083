/*
 * MSI and MSI-X: the capabilities, the vector table, and sending. See pci.h.
 *
 * A message is a write by the function, so it needs bus mastering. One that is not for the local APICs is a write to
 * RAM. A masked MSI-X vector becomes pending and goes out when it is unmasked. MSI is without masks, with 64-bit
 * addresses.
 *
 * Called under vm->lock. Source: PCI Local Bus Specification 3.0, 6.8 "Message Signaled Interrupts".
 */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci_internal.h"
#include "util/log.h"

#define MSI_ID 0x05
#define MSI_SIZE 14
#define MSI_CONTROL 2
#define MSI_ENABLE 0x0001
#define MSI_CAPABLE_SHIFT 1 /* log2 of the vectors that the function has */
#define MSI_ENABLED_SHIFT 4 /* log2 of those that it may use */
#define MSI_ENABLED_BITS 0x0070
#define MSI_64BIT 0x0080
#define MSI_ADDRESS 4
#define MSI_DATA 12
#define MSI_VECTORS_MAX 32

#define MSIX_ID 0x11
#define MSIX_SIZE 12
#define MSIX_CONTROL 2
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENABLE 0x8000
#define MSIX_TABLE 4
#define MSIX_PENDING 8
#define MSIX_ENTRY_SIZE 16u
#define MSIX_VECTOR_MASKED 1u
#define MSIX_VECTORS_MAX 2048

/* Messages to local APICs */
#define APIC_WINDOW 0xfee00000ull
#define APIC_WINDOW_MASK 0xfffffffffff00000ull

static void send(struct pci_device *d, uint64_t address, uint32_t data)
{
	const struct pci_bus_config *c = &d->bus->config;

	if (!(d->config[PCI_CONFIG_COMMAND] & PCI_COMMAND_MASTER))
		return;
	if ((address & APIC_WINDOW_MASK) != APIC_WINDOW)
		memory_write(c->memory, address, &data, sizeof data);
	else if (c->msi)
		c->msi(c->opaque, address, data);
}

/* ---- MSI ---- */

int pci_add_msi(struct pci_device *d, unsigned vectors)
{
	if (!vectors || vectors > MSI_VECTORS_MAX || (vectors & (vectors - 1)))
		return -EINVAL;
	unsigned at = pci_add_capability(d, MSI_ID, MSI_SIZE);
	if (!at)
		return -ENOSPC;
	unsigned log2 = (unsigned)__builtin_ctz(vectors);
	pci_put16(d->config + at + MSI_CONTROL, (uint16_t)(MSI_64BIT | log2 << MSI_CAPABLE_SHIFT));
	pci_put16(d->writable + at + MSI_CONTROL, MSI_ENABLE | MSI_ENABLED_BITS);
	pci_put32(d->writable + at + MSI_ADDRESS, ~3u);
	pci_put32(d->writable + at + MSI_ADDRESS + 4, UINT32_MAX);
	pci_put16(d->writable + at + MSI_DATA, UINT16_MAX);
	d->msi_capability = at;
	return 0;
}

bool pci_msi_enabled(const struct pci_device *d)
{
	return d->msi_capability && (d->config[d->msi_capability + MSI_CONTROL] & MSI_ENABLE);
}

static void msi_send(struct pci_device *d, unsigned n)
{
	const uint8_t *c = d->config + d->msi_capability;
	uint16_t control = pci_get16(c + MSI_CONTROL);
	unsigned capable = control >> MSI_CAPABLE_SHIFT & 7, enabled = control >> MSI_ENABLED_SHIFT & 7;
	uint32_t low = (1u << (enabled < capable ? enabled : capable)) - 1; /* these bits of the data are the vector's */

	send(d, pci_get32(c + MSI_ADDRESS) | (uint64_t)pci_get32(c + MSI_ADDRESS + 4) << 32,
	     (pci_get16(c + MSI_DATA) & ~low) | (n & low));
}

/* ---- MSI-X ---- */

static uint32_t pending_offset(unsigned vectors) { return vectors * MSIX_ENTRY_SIZE; }
static uint32_t pending_size(unsigned vectors) { return (vectors + 63) / 64 * 8; }

uint32_t pci_msix_size(unsigned vectors)
{
	uint32_t len = pending_offset(vectors) + pending_size(vectors);

	return (len + (uint32_t)PAGE_SIZE - 1) & ~((uint32_t)PAGE_SIZE - 1);
}

static uint16_t msix_control(const struct pci_device *d)
{
	return d->msix.present ? pci_get16(d->config + d->msix.capability + MSIX_CONTROL) : 0;
}

bool pci_msix_enabled(const struct pci_device *d) { return msix_control(d) & MSIX_ENABLE; }

static bool vector_masked(const struct pci_device *d, unsigned n)
{
	return (msix_control(d) & MSIX_FUNCTION_MASK) || (d->msix.entry[n].control & MSIX_VECTOR_MASKED);
}

static void msix_send(struct pci_device *d, unsigned n)
{
	struct pci_msix *x = &d->msix;

	if (n >= x->vectors)
		return;
	if (vector_masked(d, n))
		x->pending[n / 8] |= (uint8_t)(1u << n % 8);
	else
		send(d, x->entry[n].address, x->entry[n].data);
}

static void send_pending(struct pci_device *d, unsigned n)
{
	uint8_t bit = (uint8_t)(1u << n % 8);

	if (!(d->msix.pending[n / 8] & bit) || !pci_msix_enabled(d) || vector_masked(d, n))
		return;
	d->msix.pending[n / 8] &= (uint8_t)~bit;
	msix_send(d, n);
}

void pci_msi_config_written(struct pci_device *d, unsigned offset, unsigned size)
{
	unsigned control = d->msix.capability + MSIX_CONTROL;

	if (d->msix.present && offset < control + 2 && offset + size > control)
		for (unsigned n = 0; n < d->msix.vectors; n++)
			send_pending(d, n);
}

static uint32_t table_read(const struct pci_device *d, uint32_t offset)
{
	const struct pci_msix *x = &d->msix;
	unsigned n = offset / MSIX_ENTRY_SIZE;

	if (n < x->vectors) {
		switch (offset % MSIX_ENTRY_SIZE / 4) {
		case 0:
			return (uint32_t)x->entry[n].address;
		case 1:
			return (uint32_t)(x->entry[n].address >> 32);
		case 2:
			return x->entry[n].data;
		default:
			return x->entry[n].control;
		}
	}
	offset -= pending_offset(x->vectors);
	return offset < pending_size(x->vectors) ? pci_get32(x->pending + offset) : 0;
}

static void table_write(struct pci_device *d, uint32_t offset, uint32_t value)
{
	struct pci_msix *x = &d->msix;
	unsigned n = offset / MSIX_ENTRY_SIZE;

	if (n >= x->vectors)
		return; /* the pending bits are read-only */
	switch (offset % MSIX_ENTRY_SIZE / 4) {
	case 0:
		x->entry[n].address = (x->entry[n].address & ~(uint64_t)UINT32_MAX) | (value & ~3u);
		break;
	case 1:
		x->entry[n].address = (x->entry[n].address & UINT32_MAX) | (uint64_t)value << 32;
		break;
	case 2:
		x->entry[n].data = value;
		break;
	default:
		x->entry[n].control = value & MSIX_VECTOR_MASKED;
		send_pending(d, n);
	}
}

/* The BAR that the table is in: the device's registers, but for the table. Accesses of the table are of 4 or 8 bytes;
 * narrower reads give their part, narrower writes do nothing. */
static uint64_t msix_bar_read(void *opaque, uint64_t offset, unsigned size)
{
	struct pci_device *d = opaque;
	const struct pci_bar *bar = &d->bar[d->msix.bar];

	if (offset - d->msix.offset >= pci_msix_size(d->msix.vectors))
		return bar->ops && bar->ops->read ? bar->ops->read(bar->opaque, offset, size) : 0;
	uint32_t at = (uint32_t)(offset - d->msix.offset);
	uint64_t value = table_read(d, at & ~3u);

	if (size == 8)
		value |= (uint64_t)table_read(d, at + 4) << 32;
	return value >> (at & 3) * 8;
}

static void msix_bar_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct pci_device *d = opaque;
	const struct pci_bar *bar = &d->bar[d->msix.bar];

	if (offset - d->msix.offset >= pci_msix_size(d->msix.vectors)) {
		if (bar->ops && bar->ops->write)
			bar->ops->write(bar->opaque, offset, value, size);
		return;
	}
	uint32_t at = (uint32_t)(offset - d->msix.offset);
	if (size >= 4)
		table_write(d, at, (uint32_t)value);
	if (size == 8)
		table_write(d, at + 4, (uint32_t)(value >> 32));
}

int pci_add_msix(struct pci_device *d, unsigned bar, uint32_t offset, unsigned vectors)
{
	struct pci_msix *x = &d->msix;

	if (!vectors || vectors > MSIX_VECTORS_MAX || bar >= PCI_BARS || offset % PAGE_SIZE || d->bar[bar].is_block ||
	    d->bar[bar].kind == PCI_BAR_IO || offset > d->bar[bar].size ||
	    pci_msix_size(vectors) > d->bar[bar].size - offset)
		return -EINVAL;
	const struct bus_ops *ops = d->bar[bar].ops;
	if (ops && ops->max_size && ops->max_size < 4)
		return -EINVAL;
	x->entry = calloc(vectors, sizeof *x->entry);
	x->pending = calloc(1, pending_size(vectors));
	if (!x->entry || !x->pending)
		return -ENOMEM; /* pci_device_free frees them */
	unsigned at = pci_add_capability(d, MSIX_ID, MSIX_SIZE);
	if (!at)
		return -ENOSPC;
	pci_put16(d->config + at + MSIX_CONTROL, (uint16_t)(vectors - 1));
	pci_put16(d->writable + at + MSIX_CONTROL, MSIX_FUNCTION_MASK | MSIX_ENABLE);
	pci_put32(d->config + at + MSIX_TABLE, offset | bar);
	pci_put32(d->config + at + MSIX_PENDING, (offset + pending_offset(vectors)) | bar);
	for (unsigned n = 0; n < vectors; n++)
		x->entry[n].control = MSIX_VECTOR_MASKED;
	x->vectors = vectors;
	x->capability = at;
	x->bar = bar;
	x->offset = offset;
	x->ops = (struct bus_ops){.read = msix_bar_read, .write = msix_bar_write,
				  .max_size = ops ? ops->max_size : 0};
	x->present = true;
	return 0;
}

bool pci_send_msi(struct pci_device *d, unsigned n)
{
	if (pci_msix_enabled(d))
		msix_send(d, n);
	else if (pci_msi_enabled(d))
		msi_send(d, n);
	else
		return false;
	return true;
}
