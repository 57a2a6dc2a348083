/*
 * virtio-blk: requests go from the rings to the block layer and back. Every chain is one request (a discard with
 * several segments is done one segment after the other), read from and written to the guest's memory directly.
 *
 * Called under vm->lock; notify and the ends of requests on the I/O thread. What a guest can make it allocate is one
 * request for each entry of its rings.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.2.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "util/iov.h"
#include "virtio/virtio.h"

#define QUEUES_MAX 16u
#define QUEUE_SIZE 512u /* 1 MiB in pages of 4 KiB, with header and status, is one request */
#define RANGES_MAX 16u             /* segments of a discard */
#define RANGE_SECTORS_MAX 0x400000u /* of one of them: 2 GiB */
#define ID_SIZE 20u
#define PHYSICAL_BLOCK_EXPONENT 3  /* what lies behind has pages of 4 KiB */
#define SECTOR_SHIFT 9

#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH (1ull << 9)
#define F_TOPOLOGY (1ull << 10)
#define F_CONFIG_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { RANGE_UNMAP = 1 };

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct config {
	uint64_t capacity; /* sectors */
	uint32_t size_max, seg_max;
	struct { uint16_t cylinders; uint8_t heads, sectors; } geometry;
	uint32_t blk_size;
	struct { uint8_t physical_block_exp, alignment_offset; uint16_t min_io_size; uint32_t opt_io_size; } topology;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(offsetof(struct config, writeback) == 32 && sizeof(struct config) == 64, "section 5.2.4");

#define CONFIG_SIZE 60u

struct request {
	struct block_request block;
	struct virtio_blk *device;
	struct virtqueue *queue;
	struct virtqueue_chain *chain;
	uint8_t *status;
	/* of a discard or write-zeroes */
	struct range range[RANGES_MAX];
	unsigned ranges, next_range;
};

struct virtio_blk {
	struct virtio_device *virtio;
	struct block *block;
	struct config config;
	char id[ID_SIZE];
	unsigned queues;
	bool writeback;      /* the guest flushes when it wants writes to last */
	uint64_t used;       /* queues with requests given back since the last interrupt */
	uint64_t forgetting; /* queues that are being reset: chains are dropped */
};

/* ---- the end of a request ---- */

static void finish(struct request *r, uint8_t status)
{
	struct virtio_blk *d = r->device;
	uint64_t queue = 1ull << virtqueue_index(r->queue);

	*r->status = status;
	if (d->forgetting & queue) {
		virtqueue_forget(r->queue, r->chain);
	} else {
		virtqueue_put(r->queue, r->chain, (uint32_t)r->chain->in_len);
		d->used |= queue;
	}
	free(r);
}

static void request_done(struct block_request *b, int result)
{
	finish(b->opaque, result == 0 ? S_OK : result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR);
}

/* Some requests have ended, and no more for now. */
static void batch_ended(void *opaque)
{
	struct virtio_blk *d = opaque;
	uint64_t used = d->used;

	d->used = 0;
	for (; used; used &= used - 1)
		virtqueue_interrupt(virtio_queue(d->virtio, (unsigned)__builtin_ctzll(used)));
}

/* ---- discard and write zeroes ---- */

static void next_range(struct request *r)
{
	const struct range *range = &r->range[r->next_range++];

	r->block.offset = range->sector << SECTOR_SHIFT;
	r->block.len = (uint64_t)range->sectors << SECTOR_SHIFT;
	r->block.may_unmap = range->flags & RANGE_UNMAP;
	block_submit(r->device->block, &r->block);
}

static void range_done(struct block_request *b, int result)
{
	struct request *r = b->opaque;
	bool forgotten = r->device->forgetting >> virtqueue_index(r->queue) & 1;

	if (result == 0 && r->next_range < r->ranges && !forgotten)
		next_range(r);
	else
		request_done(b, result);
}

static int check_range(const struct virtio_blk *d, const struct range *range, uint32_t type)
{
	if (range->flags & ~(type == T_WRITE_ZEROES ? RANGE_UNMAP : 0u))
		return S_UNSUPP;
	if (range->sectors == 0 || range->sectors > RANGE_SECTORS_MAX || range->sector > d->config.capacity ||
	    range->sectors > d->config.capacity - range->sector)
		return S_IOERR;
	return S_OK;
}

static void start_ranges(struct request *r, uint32_t type)
{
	struct virtio_blk *d = r->device;
	uint64_t len = r->chain->out_len - sizeof(struct header);
	int status = S_OK;

	r->ranges = (unsigned)(len / sizeof(struct range));
	if (block_readonly(d->block) || len == 0 || len % sizeof(struct range) || len > sizeof r->range) {
		finish(r, S_IOERR);
		return;
	}
	if (type == T_DISCARD && !block_can_discard(d->block))
		status = S_UNSUPP;
	/* One copy, which the guest cannot change between the look at it and its use. */
	virtio_copy_out(r->chain, sizeof(struct header), r->range, len);
	for (unsigned n = 0; n < r->ranges && status == S_OK; n++)
		status = check_range(d, &r->range[n], type);
	if (status != S_OK) {
		finish(r, (uint8_t)status);
		return;
	}
	r->block.op = type == T_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	r->block.fua = type == T_WRITE_ZEROES && !d->writeback;
	r->block.done = range_done;
	next_range(r);
}

/* ---- requests ---- */

static void start_io(struct request *r, uint32_t type, uint64_t sector)
{
	struct virtio_blk *d = r->device;
	struct virtqueue_chain *c = r->chain;
	bool in = type == T_IN;
	struct iovec *v = in ? c->in : c->out;
	unsigned count = in ? c->in_count : c->out_count;
	uint64_t len = in ? c->in_len - 1 : c->out_len - sizeof(struct header);

	if (in)
		iov_cut(v, &count, len); /* the status is not the disk's */
	else
		iov_skip(&v, &count, sizeof(struct header));
	if (sector >= d->config.capacity || len == 0) {
		finish(r, len == 0 ? S_OK : S_IOERR);
		return;
	}
	r->block.op = in ? BLOCK_READ : BLOCK_WRITE;
	r->block.fua = !in && !d->writeback;
	r->block.offset = sector << SECTOR_SHIFT;
	r->block.len = len; /* not whole sectors, or too many: the block layer refuses */
	r->block.iov = v;
	r->block.iov_count = (int)count;
	block_submit(d->block, &r->block);
}

static void start_get_id(struct request *r)
{
	struct virtqueue_chain *c = r->chain;

	virtio_copy_in(c, 0, r->device->id, c->in_len - 1 < ID_SIZE ? c->in_len - 1 : ID_SIZE);
	finish(r, S_OK);
}

static void start(struct request *r, const struct header *h)
{
	switch (h->type) {
	case T_IN:
	case T_OUT:
		start_io(r, h->type, h->sector);
		break;
	case T_FLUSH:
		r->block.op = BLOCK_FLUSH;
		block_submit(r->device->block, &r->block);
		break;
	case T_GET_ID:
		start_get_id(r);
		break;
	case T_DISCARD:
	case T_WRITE_ZEROES:
		start_ranges(r, h->type);
		break;
	default:
		finish(r, S_UNSUPP);
		break;
	}
}

/* The last byte that the device writes is the status. */
static uint8_t *last_byte(struct virtqueue_chain *c)
{
	struct iovec *v = &c->in[c->in_count - 1];

	return (uint8_t *)v->iov_base + v->iov_len - 1;
}

static void take(struct virtio_blk *d, struct virtqueue *q, struct virtqueue_chain *c)
{
	bool whole = c->in_len && c->out_len >= sizeof(struct header);
	struct request *r = whole ? malloc(sizeof *r) : NULL;
	struct header h;

	if (!r) {
		virtqueue_forget(q, c);
		virtio_broken(d->virtio, whole ? "no memory for a disk request" : "a disk request without header or status");
		return;
	}
	virtio_copy_out(c, 0, &h, sizeof h);
	r->block = (struct block_request){.done = request_done, .opaque = r};
	r->device = d;
	r->queue = q;
	r->chain = c;
	r->status = last_byte(c);
	r->ranges = r->next_range = 0;
	start(r, &h);
}

static void blk_notify(void *opaque, unsigned queue)
{
	struct virtio_blk *d = opaque;
	struct virtqueue *q = virtio_queue(d->virtio, queue);
	struct virtqueue_chain *c;

	do {
		virtqueue_want_notify(q, false);
		while ((c = virtqueue_get(q)) != NULL)
			take(d, q, c);
	} while (virtqueue_want_notify(q, true));
	batch_ended(d); /* of those that ended at once */
}

/* ---- configuration, reset ---- */

static uint64_t blk_features(void *opaque)
{
	struct virtio_blk *d = opaque;
	uint64_t f = F_SEG_MAX | F_BLK_SIZE | F_TOPOLOGY | F_MQ;

	if (block_readonly(d->block))
		return f | F_RO;
	f |= F_WRITE_ZEROES;
	if (block_can_discard(d->block))
		f |= F_DISCARD;
	if (block_write_cache(d->block))
		f |= F_FLUSH | F_CONFIG_WCE;
	return f;
}

static void blk_driver_ok(void *opaque)
{
	struct virtio_blk *d = opaque;

	/* A driver that cannot flush expects writes to last when they end. */
	if (!virtio_has(d->virtio, F_CONFIG_WCE))
		d->writeback = virtio_has(d->virtio, F_FLUSH);
}

static void blk_config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	struct virtio_blk *d = opaque;

	d->config.writeback = d->writeback;
	/* With header and status a chain fits in the ring. */
	d->config.seg_max = virtio_has(d->virtio, VIRTIO_F_VERSION_1) ? QUEUE_SIZE - 2 : VIRTIO_LEGACY_QUEUE_SIZE - 2;
	memcpy(buf, (const uint8_t *)&d->config + offset, len);
}

static void blk_config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_blk *d = opaque;
	unsigned at = offsetof(struct config, writeback);

	if (offset <= at && at < offset + len && virtio_has(d->virtio, F_CONFIG_WCE))
		d->writeback = ((const uint8_t *)buf)[at - offset] != 0;
}

static void forget(struct virtio_blk *d, uint64_t queues)
{
	d->forgetting = queues;
	block_drain(d->block);
	d->forgetting = 0;
	d->used &= ~queues;
}

static void blk_reset(void *opaque)
{
	struct virtio_blk *d = opaque;

	forget(d, UINT64_MAX);
	d->writeback = block_write_cache(d->block);
}

static void blk_queue_reset(void *opaque, unsigned queue) { forget(opaque, 1ull << queue); }

static const struct virtio_ops blk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.class_code = 0x010000, /* mass storage: drivers look at the device ID */
	.features = blk_features,
	.driver_ok = blk_driver_ok,
	.notify = blk_notify,
	.reset = blk_reset,
	.queue_reset = blk_queue_reset,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.config_size = CONFIG_SIZE,
};

/* ---- life ---- */

struct virtio_blk *virtio_blk_new(const struct virtio_blk_config *config)
{
	struct virtio_blk *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->block = config->block;
	d->queues = config->queues < QUEUES_MAX ? config->queues : QUEUES_MAX;
	d->writeback = block_write_cache(d->block);
	if (config->serial)
		memcpy(d->id, config->serial, strnlen(config->serial, ID_SIZE));
	d->config = (struct config){
		.capacity = block_size(d->block) >> SECTOR_SHIFT,
		.blk_size = BLOCK_SECTOR,
		.topology = {.physical_block_exp = PHYSICAL_BLOCK_EXPONENT, .min_io_size = 1},
		.num_queues = (uint16_t)d->queues,
		.max_discard_sectors = RANGE_SECTORS_MAX,
		.max_discard_seg = RANGES_MAX,
		.discard_sector_alignment = 1u << PHYSICAL_BLOCK_EXPONENT,
		.max_write_zeroes_sectors = RANGE_SECTORS_MAX,
		.max_write_zeroes_seg = RANGES_MAX,
		.write_zeroes_may_unmap = 1,
	};
	const struct virtio_config virtio = {
		.pci = config->pci,
		.devfn = config->devfn,
		.loop = config->loop,
		.ops = &blk_ops,
		.opaque = d,
		.queues = d->queues,
		.queue_size = QUEUE_SIZE,
	};
	if (!(d->virtio = virtio_new(&virtio))) {
		free(d);
		return NULL;
	}
	block_set_batch_ended(d->block, batch_ended, d);
	return d;
}

void virtio_blk_free(struct virtio_blk *d)
{
	if (!d)
		return;
	virtio_free(d->virtio);
	block_set_batch_ended(d->block, NULL, NULL);
	free(d);
}
