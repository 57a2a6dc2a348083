/*
 * PCI: buses, functions, configuration space, base address registers, INTx, MSI and MSI-X.
 *
 * A device embeds a struct pci_device, sets it up with pci_device_init and the pci_add_* calls while the machine is
 * built, and then sees accesses to its registers by the bus_ops of its BARs. Everything is called under vm->lock.
 * Nothing here may fail in a running machine: what a guest asks for in vain (a BAR over other registers) is not mapped.
 *
 * Source: PCI Local Bus Specification 3.0; PCI Express Base Specification 3.0 for extended configuration space.
 */
#ifndef RINGSIDE_PCI_H
#define RINGSIDE_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "mem/bus.h"
#include "mem/dma.h"
#include "mem/memory.h"

#define PCI_DEVFN(slot, function) ((unsigned)(slot) << 3 | (function))
#define PCI_BARS 6
#define PCI_ROM 6 /* index of the expansion ROM in pci_device.bar */
#define PCI_CONFIG_SIZE 4096u /* 256 without PCI Express */
#define PCI_HOLE_END 0xfec00000ull /* functions get memory addresses below it, or above RAM */

struct pci_bus;
struct pci_device;

/* What a bus needs of the machine. */
struct pci_bus_config {
	struct memory *memory;
	struct bus *pio, *mmio;
	/* INTx: level of `pin` (0 = INTA) of the device in `slot`, ORed over the functions of that slot. */
	void (*set_intx)(void *opaque, unsigned slot, unsigned pin, int level);
	/* A write of `data` to `address` that is a message to local APICs. */
	void (*msi)(void *opaque, uint64_t address, uint32_t data);
	void *opaque;
	bool express; /* functions have 4 KiB of configuration space (q35) */
};

struct pci_info {
	const char *name; /* for logs */
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, programming interface */
	uint8_t revision;
	uint8_t interrupt_pin; /* 0: none, 1: INTA ... 4: INTD */
	bool multifunction;
};

struct pci_device_ops {
	/* After the guest wrote configuration space (already stored, read-only bits kept). NULL: nobody cares. */
	void (*config_written)(void *opaque, unsigned offset, unsigned size);
	/* Before it reads: to bring pci_device.config up to date. NULL: it is. */
	void (*config_read)(void *opaque, unsigned offset, unsigned size);
};

enum pci_bar_kind {
	PCI_BAR_IO,
	PCI_BAR_MEMORY32,
	PCI_BAR_MEMORY32_PREFETCH,
	PCI_BAR_MEMORY64,
	PCI_BAR_MEMORY64_PREFETCH,
};

struct pci_bar {
	enum pci_bar_kind kind;
	uint64_t size;            /* 0: none */
	const struct bus_ops *ops; /* NULL: reads as zero, but for an MSI-X table or a block */
	void *opaque;
	const char *name;
	bool is_block;            /* memory_add_block's: guest accesses go straight to host memory */
	bool block_readonly;
	uint64_t block_offset;
	bool mapped;
	uint64_t address;         /* while mapped */
};

struct pci_msix {
	bool present;
	unsigned vectors, capability; /* how many; offset of the capability */
	unsigned bar;
	uint32_t offset; /* of the table in that BAR */
	struct { uint64_t address; uint32_t data, control; } *entry;
	uint8_t *pending; /* a bit a vector */
	struct bus_ops ops; /* of the BAR: the table, and the device's own registers around it */
};

struct pci_device {
	struct pci_bus *bus;
	unsigned devfn;
	const char *name;
	const struct pci_device_ops *ops;
	void *opaque;
	uint8_t *config;   /* PCI_CONFIG_SIZE bytes, little-endian */
	uint8_t *writable; /* masks: what the guest can change */
	uint8_t *clear;    /* masks: what a written 1 clears */
	struct pci_bar bar[PCI_BARS + 1];
	struct pci_msix msix;
	unsigned msi_capability; /* 0: none */
	unsigned capability_end; /* where the next one goes */
	int intx_level;     /* what the device wants */
	bool intx_asserted; /* what the bus sees: not while it is disabled, or messages are on */
};

struct pci_bus *pci_bus_new(const struct pci_bus_config *config); /* NULL: errno */
void pci_bus_free(struct pci_bus *b);                             /* no device is on it any more */
struct pci_device *pci_bus_device(const struct pci_bus *b, unsigned devfn); /* NULL: none */

/* Puts a function on the bus. devfn -1: the first free slot. 0, -EBUSY when it is taken, -ENOSPC, -ENOMEM. */
int pci_device_init(struct pci_device *d, struct pci_bus *bus, int devfn, const struct pci_info *info,
		    const struct pci_device_ops *ops, void *opaque);
void pci_device_free(struct pci_device *d); /* also of one that is all zero */

/* Size: a power of 2, at least 16 for memory, 4 for I/O. A 64-bit BAR takes numbers n and n + 1. */
void pci_add_bar(struct pci_device *d, unsigned n, enum pci_bar_kind kind, uint64_t size, const struct bus_ops *ops,
		 void *opaque);
/* One that is host memory: `offset` is of memory_add_block. */
void pci_add_memory_bar(struct pci_device *d, unsigned n, enum pci_bar_kind kind, uint64_t size, uint64_t offset);
/* The expansion ROM from a file of the host, such as a VGA BIOS. 0 or -errno. */
int pci_add_rom(struct pci_device *d, const char *path);
/* A capability of `size` bytes (its ID and next pointer among them); returns its offset, 0 when there is no room.
 * What of it the guest can change is set in d->writable. */
unsigned pci_add_capability(struct pci_device *d, uint8_t id, unsigned size);
/* MSI with 2^n vectors; MSI-X with its table and pending bits in the 4 KiB multiple at `offset` of memory BAR n, which
 * the device has added with room for it: the PCI code answers those accesses itself. 0 or -errno. */
int pci_add_msi(struct pci_device *d, unsigned vectors);
int pci_add_msix(struct pci_device *d, unsigned bar, uint32_t offset, unsigned vectors);
/* Bytes of MSI-X table and pending bits: what that BAR must have room for. */
uint32_t pci_msix_size(unsigned vectors);

/* The function's interrupt line. */
void pci_set_intx(struct pci_device *d, int level);
bool pci_msi_enabled(const struct pci_device *d);
bool pci_msix_enabled(const struct pci_device *d);
/* Sends vector `n` by MSI-X or MSI, whichever the guest enabled. False: neither (the caller uses pci_set_intx). */
bool pci_send_msi(struct pci_device *d, unsigned n);

/* DMA of the function: -EFAULT as well while bus mastering is off in its command register. */
int pci_dma_read(struct pci_device *d, uint64_t gpa, void *buf, uint64_t len);
int pci_dma_write(struct pci_device *d, uint64_t gpa, const void *buf, uint64_t len);
int pci_dma_map(struct pci_device *d, uint64_t gpa, uint64_t len, enum dma_direction direction, struct dma_span *span);
void pci_dma_unmap(struct pci_device *d, struct dma_span *span, uint64_t written);

/* Configuration accesses, for host bridges: `offset` in 0..4095, size 1, 2 or 4, aligned. Absent functions read as ones. */
uint32_t pci_config_read(struct pci_bus *b, unsigned bus_number, unsigned devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *b, unsigned bus_number, unsigned devfn, unsigned offset, uint32_t value,
		      unsigned size);

/* Little-endian fields of configuration space, for the device itself. */
static inline uint16_t pci_get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t pci_get32(const uint8_t *p) { return pci_get16(p) | (uint32_t)pci_get16(p + 2) << 16; }
static inline void pci_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}
static inline void pci_put32(uint8_t *p, uint32_t v)
{
	pci_put16(p, (uint16_t)v);
	pci_put16(p + 2, (uint16_t)(v >> 16));
}

#endif
