/*
 * Chains of descriptors: collected and checked one by one, mapped, and given to the device as two lists of segments.
 * See virtio.h for the result, transport.h for the interface.
 *
 * A chain's memory is one allocation, as large as its segments ask for: a ring's worth of chains is what a guest can
 * make Ringside allocate.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, sections 2.7.4, 2.7.5, 2.8.5, 2.8.7.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/transport.h"

static bool bad(struct chain_builder *b, const char *why)
{
	virtio_broken(b->queue->device, why);
	return false;
}

bool chain_add(struct chain_builder *b, uint64_t gpa, uint32_t len, uint16_t flags)
{
	struct virtio_device *v = b->queue->device;
	bool write = flags & DESC_WRITE;
	unsigned n = b->out_count + b->in_count;

	if (!write && b->in_count)
		return bad(b, "a descriptor that is read follows one that is written");
	if (b->descriptors++ == CHAIN_SEGMENTS_MAX) /* empty ones too: they take time */
		return bad(b, "a chain is too long");
	if (len == 0)
		return true;
	uint64_t *total = write ? &b->in_len : &b->out_len;
	if (*total + len > UINT32_MAX)
		return bad(b, "a chain has 4 GiB or more");
	int r = pci_dma_map(&v->pci, gpa, len, write ? DMA_FROM_DEVICE : DMA_TO_DEVICE, &v->scratch[n]);
	if (r < 0)
		return bad(b, r == -ENOMEM ? "no memory for a chain" : "a buffer is not in RAM");
	*total += len;
	if (write)
		b->in_count++;
	else
		b->out_count++;
	return true;
}

bool chain_add_table(struct chain_builder *b, uint64_t gpa, uint32_t len, bool linked)
{
	struct virtio_device *v = b->queue->device;
	uint32_t entries = len / DESC_SIZE, i = 0;
	struct dma_span table;
	bool ok = true;

	if (!virtio_has(v, VIRTIO_F_INDIRECT_DESC))
		return bad(b, "an indirect table that was not negotiated");
	if (len == 0 || len % DESC_SIZE)
		return bad(b, "an indirect table's length");
	if (pci_dma_map(&v->pci, gpa, len, DMA_TO_DEVICE, &table) < 0)
		return bad(b, "an indirect table is not in RAM");
	for (uint32_t count = 0;; count++) {
		struct descriptor d;

		if (count == entries) {
			ok = !linked || bad(b, "a loop in an indirect table");
			break;
		}
		memcpy(&d, table.hva + (uint64_t)i * DESC_SIZE, sizeof d);
		uint16_t flags = linked ? d.flags : d.next & DESC_WRITE; /* the packed format has its flags last */
		if (flags & DESC_INDIRECT) {
			ok = bad(b, "an indirect table in an indirect table");
			break;
		}
		if (!(ok = chain_add(b, d.address, d.len, flags)))
			break;
		if (!linked) {
			i++;
			continue;
		}
		if (!(flags & DESC_NEXT))
			break;
		if ((i = d.next) >= entries) {
			ok = bad(b, "an indirect table goes on outside of itself");
			break;
		}
	}
	pci_dma_unmap(&v->pci, &table, 0);
	return ok;
}

void chain_abort(struct chain_builder *b)
{
	struct virtio_device *v = b->queue->device;

	for (unsigned i = 0; i < b->out_count + b->in_count; i++)
		pci_dma_unmap(&v->pci, &v->scratch[i], 0);
}

struct virtqueue_chain *chain_finish(struct chain_builder *b, uint16_t id, uint16_t descriptors)
{
	const struct dma_span *span = b->queue->device->scratch;
	unsigned n = b->out_count + b->in_count;
	struct virtqueue_chain *c = malloc(sizeof *c + n * (sizeof *c->span + sizeof *c->out));

	if (!c) {
		chain_abort(b);
		bad(b, "no memory for a chain");
		return NULL;
	}
	*c = (struct virtqueue_chain){
		.id = id,
		.descriptors = descriptors,
		.out_count = b->out_count,
		.in_count = b->in_count,
		.out_len = b->out_len,
		.in_len = b->in_len,
		.span = (struct dma_span *)(c + 1),
	};
	memcpy(c->span, span, n * sizeof *span);
	c->out = (struct iovec *)(c->span + n);
	c->in = c->out + c->out_count;
	for (unsigned i = 0; i < n; i++)
		c->out[i] = (struct iovec){.iov_base = span[i].hva, .iov_len = span[i].len};
	return c;
}

void chain_end(struct virtio_device *v, struct virtqueue_chain *c, uint64_t written)
{
	for (unsigned i = 0; i < c->out_count + c->in_count; i++) {
		struct dma_span *s = &c->span[i];
		uint64_t len = i < c->out_count ? 0 : s->len < written ? s->len : written;

		written -= len;
		pci_dma_unmap(&v->pci, s, len);
	}
	free(c);
}

/* ---- copies ---- */

size_t virtio_copy_out(const struct virtqueue_chain *c, size_t offset, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->out_count && done < len; i++) {
		size_t n = c->out[i].iov_len;

		if (offset >= n) {
			offset -= n;
			continue;
		}
		n = n - offset < len - done ? n - offset : len - done;
		memcpy((uint8_t *)buf + done, (const uint8_t *)c->out[i].iov_base + offset, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t virtio_copy_in(struct virtqueue_chain *c, size_t offset, const void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->in_count && done < len; i++) {
		size_t n = c->in[i].iov_len;

		if (offset >= n) {
			offset -= n;
			continue;
		}
		n = n - offset < len - done ? n - offset : len - done;
		memcpy((uint8_t *)c->in[i].iov_base + offset, (const uint8_t *)buf + done, n);
		done += n;
		offset = 0;
	}
	return done;
}
