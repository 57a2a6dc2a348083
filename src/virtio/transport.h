/*
 * What the files of the virtio core share: the device with its status and features (virtio.c), its registers on PCI
 * (pci.c), the two ring formats (split.c, packed.c) and chains of descriptors (chain.c). Device types include virtio.h.
 *
 * Everything under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_TRANSPORT_H
#define RINGSIDE_VIRTIO_TRANSPORT_H

#include "pci/pci.h"
#include "util/loop.h"
#include "virtio/virtio.h"

#define VIRTIO_QUEUES_MAX 256u
#define VIRTIO_NO_VECTOR 0xffffu
/* A chain may have as many segments, whatever the ring's size: an indirect table can be longer than the ring. */
#define CHAIN_SEGMENTS_MAX 1024u

enum virtio_status {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

/* Descriptors: in both formats address, length and flags mean the same, at different places. */
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, DESC_AVAIL = 1 << 7, DESC_USED = 1 << 15 };
#define DESC_SIZE 16u

/* A ring format. The ring is mapped, and the device is not broken, when these are called. */
struct ring_format {
	/* Bytes of descriptor area, driver area, device area. */
	void (*sizes)(const struct virtqueue *q, uint32_t size[3]);
	bool (*has_available)(const struct virtqueue *q);
	struct virtqueue_chain *(*get)(struct virtqueue *q); /* has_available; NULL: the ring is malformed, said so */
	void (*unget)(struct virtqueue *q, const struct virtqueue_chain *c);
	void (*fill)(struct virtqueue *q, const struct virtqueue_chain *c, uint32_t written);
	void (*flush)(struct virtqueue *q);
	/* `used`: of how many ring entries the driver has not been interrupted for. */
	bool (*wants_interrupt)(const struct virtqueue *q, uint32_t used);
	void (*want_notify)(struct virtqueue *q, bool want);
};

extern const struct ring_format ring_split, ring_packed;

enum { AREA_DESCRIPTOR, AREA_DRIVER, AREA_DEVICE, AREAS };

struct virtqueue {
	struct virtio_device *device;
	unsigned index;
	/* as the driver set it up */
	uint16_t size, vector;
	bool enabled;
	uint64_t area[AREAS]; /* GPAs */
	/* while it runs */
	bool mapped;
	const struct ring_format *format;
	struct dma_span descriptors, driver; /* for reading; what the device writes goes by pci_dma_write */
	uint16_t next_available, next_used;  /* split: free-running; packed: positions */
	bool available_wrap, used_wrap;      /* packed: wrap counters */
	unsigned in_use;                     /* ring entries that the device has */
	unsigned filled;                     /* ring entries filled, and not flushed */
	uint16_t first_position, first_flags; /* packed: of the first that is filled and not flushed */
	uint32_t unsignalled;                /* ring entries used since the driver was last interrupted, or did not want it */
	bool notify_off;                     /* the device does not want to be notified */
	bool bounded;                        /* in the device's notify: `budget` is left to it */
	unsigned budget;
};

struct virtio_device {
	struct pci_device pci;
	unsigned window; /* offset of the capability with a window on the modern registers */
	struct loop *loop;
	const struct virtio_ops *ops;
	void *opaque;
	unsigned queues, queue_size;
	bool legacy; /* there is a legacy interface */
	/* registers */
	uint8_t status, isr, config_generation;
	uint16_t queue_select, config_vector;
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features; /* as the driver writes them */
	uint64_t features;        /* negotiated */
	bool resetting; /* waits for what goes on, perhaps without vm->lock: nothing but notifications is taken meanwhile */
	bool broken, bus_master; /* bus_master: as it was before configuration space was written */
	/* notifications on their way to the I/O thread */
	struct loop_call notify;
	uint64_t notified[VIRTIO_QUEUES_MAX / 64];
	struct loop_fd bell; /* an eventfd that rings for all queues; fd -1: nobody has asked for it */
	struct virtqueue *queue;
	struct dma_span *scratch; /* CHAIN_SEGMENTS_MAX of them: the chain that is being built */
};

/* ---- virtio.c ---- */

uint64_t virtio_offered(const struct virtio_device *v, bool legacy);
void virtio_set_status(struct virtio_device *v, uint8_t status, bool legacy);
void virtio_set_legacy_features(struct virtio_device *v, uint32_t features);
void virtio_reset(struct virtio_device *v);
void virtio_notify_queue(struct virtio_device *v, unsigned n); /* any n: from the guest */
void virtio_notify_all(struct virtio_device *v);
int virtio_bell(struct virtio_device *v); /* an eventfd: rung, it is as if every queue had been notified. -1: cannot be had */
void virtqueue_reset(struct virtqueue *q); /* as after power-on; the device forgot its chains */
void virtio_queue_reset_by_driver(struct virtqueue *q);

/* Device configuration at any offset and of any length up to 4: what is not there reads as ones. */
uint32_t virtio_config_get(struct virtio_device *v, uint64_t offset, unsigned size);
void virtio_config_set(struct virtio_device *v, uint64_t offset, uint32_t value, unsigned size);

/* ---- pci.c ---- */

int virtio_pci_init(struct virtio_device *v, const struct virtio_config *config); /* 0 or -errno */
void virtio_pci_free(struct virtio_device *v);
/* Sets `isr` bits and interrupts by message `vector` or the line. */
void virtio_pci_interrupt(struct virtio_device *v, uint8_t isr, uint16_t vector);
void virtio_pci_reset(struct virtio_device *v);

/* ---- chain.c ---- */

struct chain_builder {
	struct virtqueue *queue;
	unsigned out_count, in_count;
	unsigned descriptors; /* so far, empty ones included */
	uint64_t out_len, in_len;
};

/* False: not a thing that can be; virtio_broken was called. chain_abort afterwards. */
bool chain_add(struct chain_builder *b, uint64_t gpa, uint32_t len, uint16_t flags);
/* An indirect table: `linked` (split ring): its entries go on by DESC_NEXT; otherwise all of them count, in order. */
bool chain_add_table(struct chain_builder *b, uint64_t gpa, uint32_t len, bool linked);
void chain_abort(struct chain_builder *b);
/* NULL: no memory; said so, nothing is left mapped. */
struct virtqueue_chain *chain_finish(struct chain_builder *b, uint16_t id, uint16_t descriptors);
/* Ends the accesses; the first `written` bytes were filled. Frees it. */
void chain_end(struct virtio_device *v, struct virtqueue_chain *c, uint64_t written);

/* A descriptor's fields, copied out of guest memory once: it may change under us. */
struct descriptor {
	uint64_t address;
	uint32_t len;
	uint16_t flags, next; /* packed: id and flags, see packed.c */
};
_Static_assert(sizeof(struct descriptor) == DESC_SIZE, "the rings' layout");

/* Little-endian 16-bit words of a ring, which the driver's processors write meanwhile. */
static inline uint16_t ring_load16(const struct dma_span *s, uint64_t offset)
{
	return __atomic_load_n((const uint16_t *)(const void *)(s->hva + offset), __ATOMIC_ACQUIRE);
}

static inline void ring_store16(struct virtqueue *q, uint64_t gpa, uint16_t value)
{
	/* Two bytes, aligned: libc's memcpy moves them at once. Fences are in pci_dma_write (memory_written). */
	pci_dma_write(&q->device->pci, gpa, &value, sizeof value);
}

#endif
