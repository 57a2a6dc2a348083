/*
 * The packed virtqueue: one ring of descriptors that driver and device both write, each with a wrap counter, and two
 * areas in which each side says what it wants to hear of. See transport.h for the interface.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 2.8.
 */
#include <string.h>

#include "virtio/transport.h"

/* Of a descriptor. */
enum { PACKED_LEN = 8, PACKED_ID = 12, PACKED_FLAGS = 14 };
/* Of the driver's and the device's area. */
enum { EVENT_POSITION = 0, EVENT_FLAGS = 2, EVENT_SIZE = 4 };
enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_AT_POSITION = 2, EVENT_FLAGS_MASK = 3 };
enum { POSITION_WRAP = 1 << 15 };

static void packed_sizes(const struct virtqueue *q, uint32_t size[3])
{
	size[AREA_DESCRIPTOR] = DESC_SIZE * q->size;
	size[AREA_DRIVER] = size[AREA_DEVICE] = EVENT_SIZE;
}

/* Moves a position on by `n` entries, at most the ring's size. */
static void advance(const struct virtqueue *q, uint16_t *position, bool *wrap, unsigned n)
{
	unsigned next = *position + n;

	if (next >= q->size) {
		next -= q->size;
		*wrap = !*wrap;
	}
	*position = (uint16_t)next;
}

static bool packed_has_available(const struct virtqueue *q)
{
	uint16_t flags = ring_load16(&q->descriptors, (uint64_t)q->next_available * DESC_SIZE + PACKED_FLAGS);

	return !!(flags & DESC_AVAIL) == q->available_wrap && !!(flags & DESC_USED) != q->available_wrap;
}

static struct virtqueue_chain *packed_get(struct virtqueue *q)
{
	struct chain_builder b = {.queue = q};
	uint16_t position = q->next_available, flags, id;
	bool wrap = q->available_wrap;
	unsigned count = 0;

	do {
		const uint8_t *at = q->descriptors.hva + (uint64_t)position * DESC_SIZE;
		struct descriptor d;

		if (q->in_use + ++count > q->size) {
			virtio_broken(q->device, "more descriptors than the ring has");
			goto fail;
		}
		memcpy(&d, at, sizeof d);
		id = d.flags; /* where the split format has its flags */
		flags = d.next;
		if (flags & DESC_INDIRECT) {
			if (flags & DESC_NEXT || count > 1) {
				virtio_broken(q->device, "an indirect table in a chain");
				goto fail;
			}
			if (!chain_add_table(&b, d.address, d.len, false))
				goto fail;
		} else if (!chain_add(&b, d.address, d.len, flags)) {
			goto fail;
		}
		advance(q, &position, &wrap, 1);
	} while (flags & DESC_NEXT);

	struct virtqueue_chain *c = chain_finish(&b, id, (uint16_t)count);
	if (c) {
		q->next_available = position;
		q->available_wrap = wrap;
	}
	return c;

fail:
	chain_abort(&b);
	return NULL;
}

static void packed_unget(struct virtqueue *q, const struct virtqueue_chain *c)
{
	if (q->next_available < c->descriptors) {
		q->next_available = (uint16_t)(q->next_available + q->size);
		q->available_wrap = !q->available_wrap;
	}
	q->next_available = (uint16_t)(q->next_available - c->descriptors);
}

static void store_flags(struct virtqueue *q, uint16_t position, uint16_t flags)
{
	ring_store16(q, q->area[AREA_DESCRIPTOR] + (uint64_t)position * DESC_SIZE + PACKED_FLAGS, flags);
}

static void packed_fill(struct virtqueue *q, const struct virtqueue_chain *c, uint32_t written)
{
	const struct { uint32_t len; uint16_t id; } __attribute__((packed)) element = {written, c->id};
	uint64_t at = q->area[AREA_DESCRIPTOR] + (uint64_t)q->next_used * DESC_SIZE;
	uint16_t flags = (uint16_t)((q->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (written ? DESC_WRITE : 0));

	pci_dma_write(&q->device->pci, at + PACKED_LEN, &element, sizeof element);
	if (q->filled == 0) { /* the driver goes no further than this one until its flags say so */
		q->first_position = q->next_used;
		q->first_flags = flags;
	} else {
		store_flags(q, q->next_used, flags);
	}
	q->filled += c->descriptors;
	advance(q, &q->next_used, &q->used_wrap, c->descriptors);
}

static void packed_flush(struct virtqueue *q) { store_flags(q, q->first_position, q->first_flags); }

static bool packed_wants_interrupt(const struct virtqueue *q, uint32_t used)
{
	uint16_t flags = ring_load16(&q->driver, EVENT_FLAGS) & EVENT_FLAGS_MASK;

	if (flags != EVENT_AT_POSITION || !virtio_has(q->device, VIRTIO_F_EVENT_IDX))
		return flags != EVENT_DISABLE;
	/* How far behind the next one to be used is the entry that the driver waits for? */
	uint16_t event = ring_load16(&q->driver, EVENT_POSITION);
	unsigned position = event & (POSITION_WRAP - 1);
	if (position >= q->size)
		return true;
	unsigned next = q->next_used + (!!(event & POSITION_WRAP) != q->used_wrap ? q->size : 0u);
	return next > position && next - position <= used;
}

static void packed_want_notify(struct virtqueue *q, bool want)
{
	uint64_t at = q->area[AREA_DEVICE];

	if (!want) {
		ring_store16(q, at + EVENT_FLAGS, EVENT_DISABLE);
	} else if (!virtio_has(q->device, VIRTIO_F_EVENT_IDX)) {
		ring_store16(q, at + EVENT_FLAGS, EVENT_ENABLE);
	} else {
		ring_store16(q, at + EVENT_POSITION,
			     (uint16_t)(q->next_available | (q->available_wrap ? POSITION_WRAP : 0)));
		ring_store16(q, at + EVENT_FLAGS, EVENT_AT_POSITION);
	}
}

const struct ring_format ring_packed = {
	.sizes = packed_sizes,
	.has_available = packed_has_available,
	.get = packed_get,
	.unget = packed_unget,
	.fill = packed_fill,
	.flush = packed_flush,
	.wants_interrupt = packed_wants_interrupt,
	.want_notify = packed_want_notify,
};
