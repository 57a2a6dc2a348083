/*
 * Data between a disk or a buffer and guest memory, scattered as a table of the guest says (PRDs): what the DMA engines
 * of IDE and AHCI controllers have in common.
 *
 * A transfer of blocks goes in chunks: as many entries as fit are mapped, one request is submitted, and when it has
 * ended the next is built. So what a transfer needs does not grow with what the guest asks for.
 * Called under vm->lock; `done` comes on the I/O thread, never before the call that starts it returns.
 */
#ifndef RINGSIDE_ATA_TRANSFER_H
#define RINGSIDE_ATA_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/block.h"
#include "pci/pci.h"

/* Entries of a chunk, and as many more as its last sector may need: PRDs have 2 bytes at least. */
#define ATA_TRANSFER_ENTRIES 128u
#define ATA_TRANSFER_SECTOR_ENTRIES 256u
#define ATA_TRANSFER_CHUNK (1u << 20)

/* The guest's table. */
struct ata_table {
	/* The next entry: 0 with *len even and at least 2, -ENODATA after the last, -EFAULT when it cannot be read. */
	int (*next)(void *opaque, uint64_t *gpa, uint32_t *len);
	void *opaque;
	/* what is left of the entry that next gave last */
	uint64_t gpa;
	uint32_t left;
};

struct ata_transfer {
	struct pci_device *pci;
	struct ata_table table;
	struct block *block;
	enum block_op op;     /* BLOCK_READ: to memory; BLOCK_WRITE */
	uint64_t offset, len; /* what has not been moved yet */
	bool fua;
	/* 0; -ENODATA: the table ended before the data; -EFAULT: not RAM; else the disk's error */
	void (*done)(void *opaque, int result);
	void *opaque;
	/* its own */
	bool active;    /* a request is under way */
	bool cancelled; /* and its end is nobody's concern */
	unsigned count;
	struct block_request request;
	struct iovec iov[ATA_TRANSFER_ENTRIES + ATA_TRANSFER_SECTOR_ENTRIES];
	struct dma_span span[ATA_TRANSFER_ENTRIES + ATA_TRANSFER_SECTOR_ENTRIES];
};

/* Moves t->len bytes (a multiple of BLOCK_SECTOR, not 0) between the disk and memory. 0: t->done will be called; or
 * what went wrong before anything could be submitted: as t->done's result. */
int ata_transfer_start(struct ata_transfer *t);
/* t->done will not be called any more. Waits for the disk, as block_drain does. */
void ata_transfer_cancel(struct ata_transfer *t);

/* Copies between a buffer and memory, at once. 0, -ENODATA, -EFAULT, -ENOMEM; *moved: bytes that were. */
int ata_table_copy(struct ata_table *table, struct pci_device *pci, void *buf, uint32_t len, bool to_memory,
		   uint32_t *moved);

#endif
