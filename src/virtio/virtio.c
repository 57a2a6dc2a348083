/*
 * What every virtio device does: status, features, the life of its queues, notifications carried to the I/O thread,
 * interrupts. See virtio.h for device types, transport.h for the core's other files.
 *
 * A notification sets a bit and asks the loop for a call; the device's notify runs there. An engine that can rings the
 * device's eventfd in place of an exit: every queue is notified then. What one such call may take
 * is bounded, so that a guest that feeds a queue without end does not keep the I/O thread, and vm->lock, to itself.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, sections 2 and 3.
 */
#include "virtio/virtio.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/log.h"
#include "virtio/transport.h"

/* What one call of notify may take of a queue: a chain is one, and another one for each COST_BYTES of its buffers. */
#define NOTIFY_BUDGET 1024u
#define COST_BYTES 65536u
#define PCI_COMMAND 4
#define PCI_COMMAND_MASTER 4

static bool is_power_of_2(unsigned n) { return n && !(n & (n - 1)); }

/* ---- features and status ---- */

uint64_t virtio_offered(const struct virtio_device *v, bool legacy)
{
	uint64_t f = v->ops->features ? v->ops->features(v->opaque) : 0;

	f |= VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	if (legacy)
		return (f | VIRTIO_F_ANY_LAYOUT) & UINT32_MAX;
	return f | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED | (v->ops->queue_reset ? VIRTIO_F_RING_RESET : 0);
}

uint64_t virtio_features(const struct virtio_device *v) { return v->features; }
bool virtio_has(const struct virtio_device *v, uint64_t feature) { return v->features & feature; }
bool virtio_driver_ok(const struct virtio_device *v) { return v->status & STATUS_DRIVER_OK; }

static bool device_takes(struct virtio_device *v, uint64_t features)
{
	return !v->ops->features_ok || v->ops->features_ok(v->opaque, features);
}

/* The modern driver has chosen. */
static bool negotiate(struct virtio_device *v)
{
	uint64_t f = v->driver_features;

	if ((f & ~virtio_offered(v, false)) || !(f & VIRTIO_F_VERSION_1) || !device_takes(v, f)) {
		LOG(LOG_VIRTIO, "%s: features %#llx are not accepted", v->ops->name, (unsigned long long)f);
		return false;
	}
	v->features = f;
	return true;
}

void virtio_set_legacy_features(struct virtio_device *v, uint32_t features)
{
	if (v->status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK))
		return;
	v->driver_features = features;
	v->features = features & virtio_offered(v, true);
}

/* Bits are only ever set, until a reset. */
void virtio_set_status(struct virtio_device *v, uint8_t status, bool legacy)
{
	uint8_t old = v->status, added = status & (uint8_t)~old & (uint8_t)~STATUS_NEEDS_RESET;

	LOG(LOG_VIRTIO, "%s: status %#x", v->ops->name, status);
	if (status == 0) {
		virtio_reset(v);
		return;
	}
	if ((added & STATUS_FEATURES_OK) && (legacy || (old & STATUS_DRIVER_OK) || !negotiate(v)))
		added &= (uint8_t)~STATUS_FEATURES_OK;
	if (!legacy && !((old | added) & STATUS_FEATURES_OK))
		added &= (uint8_t)~STATUS_DRIVER_OK;
	v->status |= added;
	if (!(added & STATUS_DRIVER_OK))
		return;
	LOG(LOG_VIRTIO, "%s: driver is there, features %#llx", v->ops->name, (unsigned long long)v->features);
	if (legacy) {
		/* Old drivers do not turn bus mastering on: firmware did it for them. */
		v->pci.config[PCI_COMMAND] |= PCI_COMMAND_MASTER;
		if (!device_takes(v, v->features))
			virtio_broken(v, "features that do not go together");
	}
	if (v->ops->driver_ok)
		v->ops->driver_ok(v->opaque);
	virtio_notify_all(v);
}

void virtio_reset(struct virtio_device *v)
{
	v->resetting = true;
	v->ops->reset(v->opaque);
	v->resetting = false;
	for (unsigned i = 0; i < v->queues; i++)
		virtqueue_reset(&v->queue[i]);
	memset(v->notified, 0, sizeof v->notified);
	v->status = 0;
	v->features = v->driver_features = 0;
	v->queue_select = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->broken = false;
	virtio_pci_reset(v);
}

void virtio_broken(struct virtio_device *v, const char *why)
{
	if (v->broken)
		return;
	LOG(LOG_VIRTIO, "%s: the driver broke a rule: %s", v->ops->name, why);
	v->broken = true;
	if (!virtio_driver_ok(v) || !virtio_has(v, VIRTIO_F_VERSION_1))
		return; /* a legacy driver knows no such status */
	v->status |= STATUS_NEEDS_RESET;
	virtio_config_changed(v);
}

/* ---- device configuration ---- */

void virtio_config_changed(struct virtio_device *v)
{
	v->config_generation++;
	if (virtio_driver_ok(v))
		virtio_pci_interrupt(v, ISR_CONFIG, v->config_vector);
}

/* How many of `size` bytes at `offset` of the device's configuration there are. */
static unsigned config_part(const struct virtio_device *v, uint64_t offset, unsigned size)
{
	uint64_t left = offset < v->ops->config_size ? v->ops->config_size - offset : 0;

	return size < left ? size : (unsigned)left;
}

uint32_t virtio_config_get(struct virtio_device *v, uint64_t offset, unsigned size)
{
	uint32_t value = UINT32_MAX;
	unsigned part = config_part(v, offset, size);

	if (part)
		v->ops->config_read(v->opaque, (unsigned)offset, &value, part);
	return value;
}

void virtio_config_set(struct virtio_device *v, uint64_t offset, uint32_t value, unsigned size)
{
	unsigned part = config_part(v, offset, size);

	if (part && v->ops->config_write)
		v->ops->config_write(v->opaque, (unsigned)offset, &value, part);
}

/* ---- notifications ---- */

void virtio_notify_queue(struct virtio_device *v, unsigned n)
{
	if (n >= v->queues)
		return;
	v->notified[n / 64] |= 1ull << n % 64;
	if (virtio_driver_ok(v))
		loop_call_soon(v->loop, &v->notify);
}

void virtio_notify_all(struct virtio_device *v)
{
	for (unsigned i = 0; i < v->queues; i++)
		if (v->queue[i].enabled)
			virtio_notify_queue(v, i);
}

/* On the I/O thread. */
static void rung(void *opaque, short revents)
{
	struct virtio_device *v = opaque;
	uint64_t times;

	if ((revents & POLLIN) && read(v->bell.fd, &times, sizeof times) == sizeof times)
		virtio_notify_all(v);
}

int virtio_bell(struct virtio_device *v)
{
	if (v->bell.fd < 0) {
		v->bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v->bell.fd >= 0) {
			loop_add_fd(v->loop, &v->bell);
			loop_wake(v->loop);
		}
	}
	return v->bell.fd;
}

static void remove_bell(struct virtio_device *v)
{
	if (v->bell.fd < 0)
		return;
	loop_remove_fd(v->loop, &v->bell);
	close(v->bell.fd);
}

/* On the I/O thread. */
static void notify(void *opaque)
{
	struct virtio_device *v = opaque;

	if (v->resetting)
		return;
	for (unsigned word = 0; word < VIRTIO_QUEUES_MAX / 64; word++) {
		uint64_t bits = v->notified[word];

		v->notified[word] = 0; /* a queue that its budget ends for sets its bit again */
		for (; bits; bits &= bits - 1) {
			struct virtqueue *q = &v->queue[word * 64 + (unsigned)__builtin_ctzll(bits)];

			if (!virtqueue_ready(q))
				continue;
			q->bounded = true;
			q->budget = NOTIFY_BUDGET;
			v->ops->notify(v->opaque, q->index);
			q->bounded = false;
		}
	}
}

/* ---- queues ---- */

struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n) { return &v->queue[n]; }
unsigned virtqueue_index(const struct virtqueue *q) { return q->index; }

bool virtqueue_ready(const struct virtqueue *q)
{
	return q->enabled && virtio_driver_ok(q->device) && !q->device->broken;
}

static void unmap(struct virtqueue *q)
{
	if (!q->mapped)
		return;
	pci_dma_unmap(&q->device->pci, &q->descriptors, 0);
	pci_dma_unmap(&q->device->pci, &q->driver, 0);
	q->mapped = false;
}

void virtqueue_reset(struct virtqueue *q)
{
	unmap(q);
	*q = (struct virtqueue){
		.device = q->device,
		.index = q->index,
		.size = (uint16_t)q->device->queue_size,
		.vector = VIRTIO_NO_VECTOR,
		.available_wrap = true,
		.used_wrap = true,
	};
}

void virtio_queue_reset_by_driver(struct virtqueue *q)
{
	struct virtio_device *v = q->device;

	v->resetting = true;
	v->ops->queue_reset(v->opaque, q->index);
	v->resetting = false;
	v->notified[q->index / 64] &= ~(1ull << q->index % 64);
	virtqueue_reset(q);
	loop_call_soon(v->loop, &v->notify); /* for other queues, meanwhile */
}

/* The ring's areas are looked up when the queue is first used. */
static bool map(struct virtqueue *q)
{
	static const unsigned split_align[AREAS] = {16, 2, 4}, packed_align[AREAS] = {16, 4, 4};
	struct virtio_device *v = q->device;
	bool packed = virtio_has(v, VIRTIO_F_RING_PACKED);
	uint32_t size[AREAS];
	struct dma_span area[AREAS];
	unsigned n = 0;

	q->format = packed ? &ring_packed : &ring_split;
	q->format->sizes(q, size);
	if (!packed && !is_power_of_2(q->size))
		goto bad;
	for (; n < AREAS; n++)
		if (q->area[n] % (packed ? packed_align : split_align)[n] ||
		    pci_dma_map(&v->pci, q->area[n], size[n], DMA_TO_DEVICE, &area[n]) < 0)
			goto bad;
	q->descriptors = area[AREA_DESCRIPTOR];
	q->driver = area[AREA_DRIVER];
	pci_dma_unmap(&v->pci, &area[AREA_DEVICE], 0);
	q->mapped = true;
	q->format->want_notify(q, !q->notify_off);
	return true;

bad:
	while (n--)
		pci_dma_unmap(&v->pci, &area[n], 0);
	virtio_broken(v, "a ring that is not in RAM, or not aligned");
	return false;
}

static bool usable(struct virtqueue *q)
{
	/* Without bus mastering nothing is read or written; when it is turned on, all queues are looked at. */
	return virtqueue_ready(q) && (q->device->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER) && (q->mapped || map(q));
}

/* Nothing is there. Says that the device wants to hear of what comes, and looks again. */
static bool still_nothing(struct virtqueue *q)
{
	if (q->notify_off)
		return true;
	if (virtio_has(q->device, VIRTIO_F_EVENT_IDX)) {
		q->format->want_notify(q, true);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	return !q->format->has_available(q);
}

struct virtqueue_chain *virtqueue_get(struct virtqueue *q)
{
	if (!usable(q) || (!q->format->has_available(q) && still_nothing(q)))
		return NULL;
	if (q->bounded && q->budget == 0) {
		virtqueue_notify_again(q);
		return NULL;
	}
	struct virtqueue_chain *c = q->format->get(q);
	if (!c)
		return NULL;
	uint64_t cost = 1 + (c->out_len + c->in_len) / COST_BYTES;
	q->budget = q->budget > cost ? q->budget - (unsigned)cost : 0;
	q->in_use += c->descriptors;
	return c;
}

void virtqueue_notify_again(struct virtqueue *q) { virtio_notify_queue(q->device, q->index); }

void virtqueue_unget(struct virtqueue *q, struct virtqueue_chain *c)
{
	q->in_use -= c->descriptors;
	if (q->mapped)
		q->format->unget(q, c);
	chain_end(q->device, c, 0);
}

void virtqueue_forget(struct virtqueue *q, struct virtqueue_chain *c)
{
	q->in_use -= c->descriptors;
	/* Whatever of it may have been written in place was written. */
	for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++)
		pci_dma_unmap(&q->device->pci, &c->span[i], c->span[i].buffer ? 0 : c->span[i].len);
	c->in_count = 0;
	chain_end(q->device, c, 0);
}

void virtqueue_fill(struct virtqueue *q, struct virtqueue_chain *c, uint32_t written)
{
	uint16_t descriptors = c->descriptors;
	struct virtqueue_chain ring = *c;

	q->in_use -= descriptors;
	chain_end(q->device, c, written); /* the data is there before the driver is told */
	if (q->device->broken || !q->mapped)
		return;
	q->format->fill(q, &ring, written);
	q->unsignalled += descriptors;
}

void virtqueue_flush(struct virtqueue *q)
{
	if (q->filled && !q->device->broken && q->mapped)
		q->format->flush(q);
	q->filled = 0;
}

void virtqueue_put(struct virtqueue *q, struct virtqueue_chain *c, uint32_t written)
{
	virtqueue_fill(q, c, written);
	virtqueue_flush(q);
}

void virtqueue_interrupt(struct virtqueue *q)
{
	if (!q->unsignalled || !usable(q))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* what was used is visible before the driver's wish is read */
	if (q->format->wants_interrupt(q, q->unsignalled))
		virtio_pci_interrupt(q->device, ISR_QUEUE, q->vector);
	q->unsignalled = 0;
}

bool virtqueue_want_notify(struct virtqueue *q, bool want)
{
	q->notify_off = !want;
	if (!usable(q))
		return false;
	q->format->want_notify(q, want);
	if (!want)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->format->has_available(q))
		return false;
	if (!q->bounded || q->budget)
		return true;
	virtqueue_notify_again(q);
	return false;
}

/* ---- life ---- */

struct virtio_device *virtio_new(const struct virtio_config *config)
{
	struct virtio_device *v;
	int err = -EINVAL;

	if (!config->queues || config->queues > VIRTIO_QUEUES_MAX || config->queue_size > VIRTQUEUE_SIZE_MAX ||
	    !is_power_of_2(config->queue_size)) {
		errno = EINVAL;
		return NULL;
	}
	if (!(v = calloc(1, sizeof *v)))
		return NULL;
	v->loop = config->loop;
	v->ops = config->ops;
	v->opaque = config->opaque;
	v->queues = config->queues;
	v->queue_size = config->queue_size;
	v->notify = (struct loop_call){.run = notify, .opaque = v};
	v->bell = (struct loop_fd){.fd = -1, .events = POLLIN, .ready = rung, .opaque = v};
	v->queue = calloc(v->queues, sizeof *v->queue);
	v->scratch = calloc(CHAIN_SEGMENTS_MAX, sizeof *v->scratch);
	if (!v->queue || !v->scratch) {
		err = -ENOMEM;
		goto fail;
	}
	for (unsigned i = 0; i < v->queues; i++) {
		v->queue[i] = (struct virtqueue){.device = v, .index = i};
		virtqueue_reset(&v->queue[i]);
	}
	if ((err = virtio_pci_init(v, config)) < 0)
		goto fail;
	return v;

fail:
	virtio_pci_free(v);
	remove_bell(v);
	free(v->scratch);
	free(v->queue);
	free(v);
	errno = -err;
	return NULL;
}

void virtio_free(struct virtio_device *v)
{
	if (!v)
		return;
	v->ops->reset(v->opaque);
	for (unsigned i = 0; i < v->queues; i++)
		virtqueue_reset(&v->queue[i]);
	loop_call_cancel(v->loop, &v->notify);
	virtio_pci_free(v);
	remove_bell(v);
	free(v->scratch);
	free(v->queue);
	free(v);
}
