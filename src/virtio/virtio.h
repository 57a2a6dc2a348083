/*
 * virtio: what all device types share, behind one transport (PCI, modern and transitional).
 *
 * A device type embeds a struct virtio_device, fills in its ops and features, and works on chains of descriptors that
 * the virtqueue hands it, checked: every byte of them is RAM. Everything is called under vm->lock; `notify` comes on
 * the I/O thread, never on a vCPU's.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2.
 */
#ifndef RINGSIDE_VIRTIO_H
#define RINGSIDE_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mem/dma.h"

struct loop;
struct pci_bus;
struct virtio_device;
struct virtqueue;

#define VIRTQUEUE_SIZE_MAX 1024u
/* At most, by the legacy interface: its drivers cannot ask for less, and some have no more. */
#define VIRTIO_LEGACY_QUEUE_SIZE 256u

enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLOCK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_SCSI = 8,
	VIRTIO_ID_9P = 9,
	VIRTIO_ID_INPUT = 18,
	VIRTIO_ID_VSOCK = 19,
};

/* Features of the transport and the rings (section 6); the virtio core offers them by itself. */
#define VIRTIO_F_NOTIFY_ON_EMPTY (1ull << 24)
#define VIRTIO_F_ANY_LAYOUT (1ull << 27)
#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)
#define VIRTIO_F_RING_PACKED (1ull << 34)
#define VIRTIO_F_IN_ORDER (1ull << 35)
#define VIRTIO_F_RING_RESET (1ull << 40)

/* A chain of descriptors, mapped: first what the device reads, then what it writes. */
struct virtqueue_chain {
	struct virtqueue_chain *next;    /* the device's, while it has the chain */
	uint16_t id;                     /* ring's own: head index or buffer id */
	uint16_t descriptors;            /* ring's own: how many of the ring it takes */
	unsigned out_count, in_count;    /* segments */
	uint64_t out_len, in_len;        /* bytes, below 4 GiB */
	struct iovec *out, *in;          /* segments that are read; that are written */
	struct dma_span *span;           /* ring's own: out_count + in_count of them */
};

struct virtio_ops {
	const char *name; /* "virtio-blk" */
	enum virtio_id id;
	uint32_t class_code; /* PCI class of the transitional and modern function, 24 bits */
	/* Device features that are offered, without the transport's. */
	uint64_t (*features)(void *opaque);
	/* The driver accepted features (FEATURES_OK). False: not a combination that the device can do. NULL: all are. */
	bool (*features_ok)(void *opaque, uint64_t features);
	/* DRIVER_OK was set: queues may be used. NULL: nothing to do. */
	void (*driver_ok)(void *opaque);
	/* There may be new chains in `queue`. I/O thread. */
	void (*notify)(void *opaque, unsigned queue);
	/* Status 0 was written, or queue reset: the device forgets every chain that it has, ends what goes on
	 * (block_drain, which may let go of vm->lock: the core takes nothing from the driver meanwhile), and is as after
	 * power-on. virtqueue_put of older chains is no longer allowed. */
	void (*reset)(void *opaque);
	/* One queue is reset (VIRTIO_F_RING_RESET), likewise for its chains. NULL: the feature is not offered. */
	void (*queue_reset)(void *opaque, unsigned queue);
	/* Configuration space, little-endian, `len` bytes inside config_size. write NULL: read-only. */
	void (*config_read)(void *opaque, unsigned offset, void *buf, unsigned len);
	void (*config_write)(void *opaque, unsigned offset, const void *buf, unsigned len);
	unsigned config_size;
};

struct virtio_config {
	struct pci_bus *pci;
	int devfn; /* -1: first free */
	struct loop *loop;
	const struct virtio_ops *ops;
	void *opaque;
	unsigned queues;      /* how many */
	unsigned queue_size;  /* largest, a power of 2, at most VIRTQUEUE_SIZE_MAX */
	const char *rom;      /* expansion ROM, a file of the host; NULL: none */
	bool modern_only;     /* no legacy interface; device types without a transitional ID always are */
};

/* The transport's side of one device. NULL: errno. Frees nothing of `opaque`. */
struct virtio_device *virtio_new(const struct virtio_config *config);
/* Calls ops->reset first. */
void virtio_free(struct virtio_device *v);

uint64_t virtio_features(const struct virtio_device *v); /* negotiated */
bool virtio_has(const struct virtio_device *v, uint64_t feature);
bool virtio_driver_ok(const struct virtio_device *v);
struct virtqueue *virtio_queue(struct virtio_device *v, unsigned n);
/* Configuration space changed: tells the driver. */
void virtio_config_changed(struct virtio_device *v);
/* The driver broke a rule that the device cannot live with: DEVICE_NEEDS_RESET, and no more chains until it resets. */
void virtio_broken(struct virtio_device *v, const char *why);

/* The next chain of a queue, or NULL: none, or the ring is malformed (virtio_broken was called). */
struct virtqueue_chain *virtqueue_get(struct virtqueue *q);
/* Gives a chain back; the first `written` bytes of its in segments were filled. Frees it. Any order. */
void virtqueue_put(struct virtqueue *q, struct virtqueue_chain *chain, uint32_t written);
/* Like put, but the driver sees it only at virtqueue_flush: several buffers at once (mergeable receive buffers). */
void virtqueue_fill(struct virtqueue *q, struct virtqueue_chain *chain, uint32_t written);
void virtqueue_flush(struct virtqueue *q);
/* Takes back the chain that was got last, as if it had not been. */
void virtqueue_unget(struct virtqueue *q, struct virtqueue_chain *chain);
/* Frees a chain without giving it back: for reset. */
void virtqueue_forget(struct virtqueue *q, struct virtqueue_chain *chain);
/* Interrupts the driver if it wants to hear of what was put. Once after a batch. */
void virtqueue_interrupt(struct virtqueue *q);
/* The device wants (or does not want) to be notified of new chains. With `true`: returns whether there are some already,
 * which the device must then take. */
bool virtqueue_want_notify(struct virtqueue *q, bool want);
/* For a device that leaves chains, or a part of one, for another turn of the loop: its notify is called there. */
void virtqueue_notify_again(struct virtqueue *q);
bool virtqueue_ready(const struct virtqueue *q); /* the driver set it up, and DRIVER_OK */
unsigned virtqueue_index(const struct virtqueue *q);

/* Copies between a buffer and the segments at `offset`; how many bytes there were. */
size_t virtio_copy_out(const struct virtqueue_chain *c, size_t offset, void *buf, size_t len);
size_t virtio_copy_in(struct virtqueue_chain *c, size_t offset, const void *buf, size_t len);

#endif
