/*
 * Scattered data of ATA controllers. See ata_transfer.h.
 */
#include "dev/ata_transfer.h"

#include <errno.h>

/* At most `max` bytes of guest memory in one piece, the table's next. */
static int take(struct ata_table *t, uint64_t max, uint64_t *gpa, uint32_t *len)
{
	if (!t->left) {
		int r = t->next(t->opaque, &t->gpa, &t->left);

		if (r < 0) {
			t->left = 0;
			return r;
		}
	}
	*gpa = t->gpa;
	*len = t->left < max ? t->left : (uint32_t)max;
	t->gpa += *len;
	t->left -= *len;
	return 0;
}

int ata_table_copy(struct ata_table *table, struct pci_device *pci, void *buf, uint32_t len, bool to_memory,
		   uint32_t *moved)
{
	uint8_t *p = buf;

	for (*moved = 0; *moved < len;) {
		uint64_t gpa;
		uint32_t n;
		int r = take(table, len - *moved, &gpa, &n);

		if (r == 0)
			r = to_memory ? pci_dma_write(pci, gpa, p, n) : pci_dma_read(pci, gpa, p, n);
		if (r < 0)
			return r;
		p += n;
		*moved += n;
	}
	return 0;
}

static void unmap(struct ata_transfer *t, bool written)
{
	for (unsigned i = 0; i < t->count; i++)
		pci_dma_unmap(t->pci, &t->span[i], written && t->op == BLOCK_READ ? t->span[i].len : 0);
	t->count = 0;
}

/* Maps the next chunk. Its bytes, or -errno. */
static int64_t map_chunk(struct ata_transfer *t)
{
	enum dma_direction direction = t->op == BLOCK_READ ? DMA_FROM_DEVICE : DMA_TO_DEVICE;
	uint64_t want = t->len < ATA_TRANSFER_CHUNK ? t->len : ATA_TRANSFER_CHUNK, have = 0;

	while (have < want) {
		uint64_t rest = BLOCK_SECTOR - have % BLOCK_SECTOR, gpa;
		bool enough = t->count >= ATA_TRANSFER_ENTRIES;
		uint32_t n;

		if (enough && rest == BLOCK_SECTOR)
			break;
		/* With enough entries, only to the end of the sector: that takes SECTOR_ENTRIES at most. */
		int r = take(&t->table, enough ? rest : want - have, &gpa, &n);
		if (r == 0 && t->count == ATA_TRANSFER_ENTRIES + ATA_TRANSFER_SECTOR_ENTRIES)
			r = -EFAULT;
		if (r == 0)
			r = pci_dma_map(t->pci, gpa, n, direction, &t->span[t->count]);
		if (r < 0)
			return r;
		t->iov[t->count] = (struct iovec){t->span[t->count].hva, n};
		t->count++;
		have += n;
	}
	return (int64_t)have;
}

static void chunk_done(struct block_request *request, int result);

int ata_transfer_start(struct ata_transfer *t)
{
	int64_t n = map_chunk(t);

	if (n < 0) {
		unmap(t, false);
		return (int)n;
	}
	t->request = (struct block_request){
		.op = t->op,
		.offset = t->offset,
		.len = (uint64_t)n,
		.iov = t->iov,
		.iov_count = (int)t->count,
		.fua = t->fua,
		.done = chunk_done,
		.opaque = t,
	};
	t->active = true;
	block_submit(t->block, &t->request);
	return 0;
}

static void chunk_done(struct block_request *request, int result)
{
	struct ata_transfer *t = request->opaque;

	t->active = false;
	unmap(t, result == 0);
	if (t->cancelled)
		return;
	if (result == 0) {
		t->offset += request->len;
		t->len -= request->len;
		if (t->len) {
			result = ata_transfer_start(t);
			if (result == 0)
				return;
		}
	}
	t->done(t->opaque, result);
}

void ata_transfer_cancel(struct ata_transfer *t)
{
	if (!t->active)
		return;
	t->cancelled = true;
	block_drain(t->block);
	t->cancelled = false;
}
