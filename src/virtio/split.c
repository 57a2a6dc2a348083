/*
 * The split virtqueue: a table of descriptors, a ring of those that the driver made available, a ring of those that
 * the device used. See transport.h for the interface.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 2.7.
 */
#include <string.h>

#include "virtio/transport.h"

enum { AVAILABLE_FLAGS = 0, AVAILABLE_INDEX = 2, AVAILABLE_RING = 4, AVAILABLE_NO_INTERRUPT = 1 };
enum { USED_FLAGS = 0, USED_INDEX = 2, USED_RING = 4, USED_ELEMENT = 8, USED_NO_NOTIFY = 1 };

static bool event_index(const struct virtqueue *q) { return virtio_has(q->device, VIRTIO_F_EVENT_IDX); }
static uint64_t used_event(const struct virtqueue *q) { return AVAILABLE_RING + 2ull * q->size; }
static uint64_t available_event(const struct virtqueue *q) { return USED_RING + (uint64_t)USED_ELEMENT * q->size; }

static void split_sizes(const struct virtqueue *q, uint32_t size[3])
{
	uint32_t event = event_index(q) ? 2 : 0;

	size[AREA_DESCRIPTOR] = DESC_SIZE * q->size;
	size[AREA_DRIVER] = (uint32_t)used_event(q) + event;
	size[AREA_DEVICE] = (uint32_t)available_event(q) + event;
}

static bool split_has_available(const struct virtqueue *q)
{
	return ring_load16(&q->driver, AVAILABLE_INDEX) != q->next_available;
}

/* Collects the chain that begins at `head`. */
static bool split_collect(struct virtqueue *q, struct chain_builder *b, uint16_t head)
{
	uint16_t i = head;

	for (unsigned count = 0; count < q->size; count++) {
		struct descriptor d;

		if (i >= q->size) {
			virtio_broken(q->device, "a descriptor's number is not in the ring");
			return false;
		}
		memcpy(&d, q->descriptors.hva + (uint64_t)i * DESC_SIZE, sizeof d);
		if (d.flags & DESC_INDIRECT) {
			if (!(d.flags & DESC_NEXT))
				return chain_add_table(b, d.address, d.len, true);
			virtio_broken(q->device, "a chain goes on after an indirect table");
			return false;
		}
		if (!chain_add(b, d.address, d.len, d.flags))
			return false;
		if (!(d.flags & DESC_NEXT))
			return true;
		i = d.next;
	}
	virtio_broken(q->device, "a loop of descriptors");
	return false;
}

static struct virtqueue_chain *split_get(struct virtqueue *q)
{
	struct chain_builder b = {.queue = q};
	uint16_t ahead = (uint16_t)(ring_load16(&q->driver, AVAILABLE_INDEX) - q->next_available);

	if (ahead > q->size || q->in_use == q->size) {
		virtio_broken(q->device, "more buffers than the ring has");
		return NULL;
	}
	uint16_t head = ring_load16(&q->driver, AVAILABLE_RING + 2ull * (q->next_available % q->size));
	if (!split_collect(q, &b, head)) {
		chain_abort(&b);
		return NULL;
	}
	struct virtqueue_chain *c = chain_finish(&b, head, 1);
	if (c)
		q->next_available++;
	return c;
}

static void split_unget(struct virtqueue *q, const struct virtqueue_chain *c)
{
	(void)c;
	q->next_available--;
}

static void split_fill(struct virtqueue *q, const struct virtqueue_chain *c, uint32_t written)
{
	const uint32_t element[2] = {c->id, written};
	uint64_t at = USED_RING + (uint64_t)USED_ELEMENT * ((q->next_used + q->filled) % q->size);

	pci_dma_write(&q->device->pci, q->area[AREA_DEVICE] + at, element, sizeof element);
	q->filled++;
}

static void split_flush(struct virtqueue *q)
{
	q->next_used = (uint16_t)(q->next_used + q->filled);
	ring_store16(q, q->area[AREA_DEVICE] + USED_INDEX, q->next_used);
}

static bool split_wants_interrupt(const struct virtqueue *q, uint32_t used)
{
	if (!event_index(q))
		return !(ring_load16(&q->driver, AVAILABLE_FLAGS) & AVAILABLE_NO_INTERRUPT);
	/* Is the entry that the driver waits for among the last `used` ones? */
	uint16_t event = ring_load16(&q->driver, used_event(q));
	return (uint16_t)(q->next_used - event - 1) < used;
}

static void split_want_notify(struct virtqueue *q, bool want)
{
	if (!event_index(q))
		ring_store16(q, q->area[AREA_DEVICE] + USED_FLAGS, want ? 0 : USED_NO_NOTIFY);
	else if (want) /* if not, it is where the driver has been already */
		ring_store16(q, q->area[AREA_DEVICE] + available_event(q), q->next_available);
}

const struct ring_format ring_split = {
	.sizes = split_sizes,
	.has_available = split_has_available,
	.get = split_get,
	.unget = split_unget,
	.fill = split_fill,
	.flush = split_flush,
	.wants_interrupt = split_wants_interrupt,
	.want_notify = split_want_notify,
};
