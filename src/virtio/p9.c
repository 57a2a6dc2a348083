/*
 * virtio 9P transport. See p9.h. A chain holds a message and has room for its reply; share/ does the rest.
 *
 * A message that cannot be answered (without a header, or without room for even an error) comes back empty.
 *
 * Under vm->lock. Source: Virtual I/O Device (VIRTIO) Version 1.2 reserves the device's number; its queue, feature and
 * configuration are as Linux has them (include/uapi/linux/virtio_9p.h).
 */
#include "virtio/p9.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "share/share.h"
#include "virtio/virtio.h"

#define QUEUE_SIZE 128
#define F_MOUNT_TAG (1ull << 0)

struct config {
	uint16_t tag_len;
	char tag[VIRTIO_P9_TAG_MAX]; /* tag_len of them */
} __attribute__((packed));

struct virtio_p9 {
	struct virtio_device *device;
	struct share *share;
	struct virtio_ops ops; /* the configuration is as long as the tag */
	struct config config;
	bool resetting;
};

struct request {
	struct share_request share;
	struct virtio_p9 *device;
	struct virtqueue_chain *chain;
};

static void request_done(struct share_request *share, uint32_t reply)
{
	struct request *r = (struct request *)share;
	struct virtqueue *q = virtio_queue(r->device->device, 0);

	if (r->device->resetting) {
		virtqueue_forget(q, r->chain);
	} else {
		virtqueue_put(q, r->chain, reply);
		virtqueue_interrupt(q);
	}
	free(r);
}

static void p9_notify(void *opaque, unsigned queue)
{
	struct virtio_p9 *d = opaque;
	struct virtqueue *q = virtio_queue(d->device, queue);
	struct virtqueue_chain *c;

	while ((c = virtqueue_get(q)) != NULL) {
		struct request *r = calloc(1, sizeof *r);

		if (!r) {
			virtqueue_put(q, c, 0);
			continue;
		}
		r->share = (struct share_request){.out = c->out, .in = c->in, .out_count = c->out_count,
						  .in_count = c->in_count, .done = request_done};
		r->device = d;
		r->chain = c;
		share_submit(d->share, &r->share);
	}
	virtqueue_interrupt(q);
}

static void p9_reset(void *opaque)
{
	struct virtio_p9 *d = opaque;

	d->resetting = true;
	share_reset(d->share);
	d->resetting = false;
}

static void p9_queue_reset(void *opaque, unsigned queue)
{
	(void)queue;
	p9_reset(opaque);
}

static uint64_t p9_features(void *opaque)
{
	(void)opaque;
	return F_MOUNT_TAG;
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	const struct virtio_p9 *d = opaque;

	memcpy(buf, (const uint8_t *)&d->config + offset, len);
}

static const struct virtio_ops p9_ops = {
	.name = "virtio-9p",
	.id = VIRTIO_ID_9P,
	.class_code = 0x00ff00,
	.features = p9_features,
	.notify = p9_notify,
	.reset = p9_reset,
	.queue_reset = p9_queue_reset,
	.config_read = config_read,
};

struct virtio_p9 *virtio_p9_new(struct pci_bus *pci, struct loop *loop, struct share *share, const char *tag)
{
	size_t len = strlen(tag);
	struct virtio_p9 *d;

	if (!len || len > VIRTIO_P9_TAG_MAX) {
		errno = EINVAL;
		return NULL;
	}
	if (!(d = calloc(1, sizeof *d)))
		return NULL;
	d->share = share;
	d->config.tag_len = (uint16_t)len;
	memcpy(d->config.tag, tag, len);
	d->ops = p9_ops;
	d->ops.config_size = (unsigned)(sizeof d->config.tag_len + len);
	const struct virtio_config config = {
		.pci = pci, .devfn = -1, .loop = loop, .ops = &d->ops, .opaque = d, .queues = 1, .queue_size = QUEUE_SIZE};
	d->device = virtio_new(&config);
	if (!d->device) {
		free(d);
		return NULL;
	}
	return d;
}

void virtio_p9_free(struct virtio_p9 *d)
{
	if (!d)
		return;
	virtio_free(d->device);
	free(d);
}
