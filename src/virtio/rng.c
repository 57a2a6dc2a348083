/*
 * virtio entropy device. See rng.h.
 *
 * The driver offers buffers, the device fills them, from getrandom(2). One buffer gets BUFFER_MAX bytes at most: the
 * device may fill less than all of it.
 *
 * Under vm->lock. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.4.
 */
#include "virtio/rng.h"

#include <stdlib.h>
#include <sys/random.h>

#include "virtio/virtio.h"

#define QUEUE_SIZE 64
#define BUFFER_MAX 4096u

struct virtio_rng {
	struct virtio_device *device;
};

static uint32_t fill(struct virtqueue_chain *c)
{
	uint8_t bytes[BUFFER_MAX];
	size_t want = c->in_len < BUFFER_MAX ? c->in_len : BUFFER_MAX;
	ssize_t n = getrandom(bytes, want, GRND_NONBLOCK);

	/* The host's generator was seeded long ago: it does not say no. */
	return n > 0 ? (uint32_t)virtio_copy_in(c, 0, bytes, (size_t)n) : 0;
}

static void rng_notify(void *opaque, unsigned queue)
{
	struct virtio_rng *r = opaque;
	struct virtqueue *q = virtio_queue(r->device, queue);
	struct virtqueue_chain *c;

	while ((c = virtqueue_get(q)) != NULL)
		virtqueue_put(q, c, fill(c));
	virtqueue_interrupt(q);
}

/* Chains are given back at once: there is none to forget. */
static void rng_reset(void *opaque) { (void)opaque; }

static void rng_queue_reset(void *opaque, unsigned queue)
{
	(void)opaque;
	(void)queue;
}

static const struct virtio_ops rng_ops = {
	.name = "virtio-rng",
	.id = VIRTIO_ID_RNG,
	.class_code = 0x00ff00,
	.notify = rng_notify,
	.reset = rng_reset,
	.queue_reset = rng_queue_reset,
};

struct virtio_rng *virtio_rng_new(struct pci_bus *pci, struct loop *loop)
{
	struct virtio_rng *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	const struct virtio_config config = {
		.pci = pci, .devfn = -1, .loop = loop, .ops = &rng_ops, .opaque = r, .queues = 1, .queue_size = QUEUE_SIZE};
	r->device = virtio_new(&config);
	if (!r->device) {
		free(r);
		return NULL;
	}
	return r;
}

void virtio_rng_free(struct virtio_rng *r)
{
	if (!r)
		return;
	virtio_free(r->device);
	free(r);
}
