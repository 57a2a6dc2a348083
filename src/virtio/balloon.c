/*
 * virtio memory balloon. See balloon.h.
 *
 * Pages that the guest puts into the balloon, and free pages that it reports, go back to the host at once, and read as
 * zero when they are next touched; taking one out of the balloon needs nothing. A guest that wants its free pages
 * poisoned gets them so only as long as they are left alone: nothing that it reports is discarded then.
 *
 * Queues after the first two are numbered without those whose feature the driver did not take, as drivers do; the
 * reporting queue is also found at the number that the specification names.
 *
 * Under vm->lock. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.5.
 */
#include "virtio/balloon.h"

#include <stdlib.h>
#include <string.h>

#include "mem/memory.h"
#include "virtio/virtio.h"

#define QUEUE_SIZE 128
#define BATCH 256u /* page numbers that are looked at together */
#define PFN_SHIFT 12
/* Page numbers of one chain: more are not looked at, those pages stay. Drivers send some hundred. And of a turn. */
#define CHAIN_PAGES 65536u
#define TURN_PAGES 65536u

#define F_STATS_VQ (1ull << 1)
#define F_PAGE_POISON (1ull << 4)
#define F_PAGE_REPORTING (1ull << 5)

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_FIRST_OPTIONAL, QUEUE_REPORTING = 4, QUEUES };

struct config {
	uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
};

struct statistic {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

struct virtio_balloon {
	struct virtio_device *device;
	struct memory *memory;
	struct config config;
	struct virtqueue_chain *statistics; /* the driver's buffer, until newer figures are wanted */
	uint64_t value[BALLOON_STATISTICS];
};

/* ---- inflating ---- */

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Gives pages back, in runs as long as they come. What is no RAM is left alone. */
static void discard_pages(struct memory *m, uint32_t *pfn, size_t n)
{
	qsort(pfn, n, sizeof *pfn, by_number);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && pfn[end] - pfn[end - 1] <= 1; end++)
			;
		memory_discard(m, (uint64_t)pfn[i] << PFN_SHIFT, ((uint64_t)pfn[end - 1] - pfn[i] + 1) << PFN_SHIFT);
	}
}

/* How many pages there were. */
static size_t inflate(struct virtio_balloon *b, const struct virtqueue_chain *c)
{
	uint32_t pfn[BATCH];
	size_t pages = 0, n;

	while (pages < CHAIN_PAGES && (n = virtio_copy_out(c, pages * sizeof *pfn, pfn, sizeof pfn) / sizeof *pfn) > 0) {
		discard_pages(b->memory, pfn, n);
		pages += n;
	}
	return pages;
}

/* ---- statistics ---- */

static void take_statistics(struct virtio_balloon *b, const struct virtqueue_chain *c)
{
	struct statistic s;

	for (unsigned i = 0; i < BALLOON_STATISTICS; i++)
		if (virtio_copy_out(c, i * sizeof s, &s, sizeof s) == sizeof s && s.tag < BALLOON_STATISTICS)
			b->value[s.tag] = s.value;
}

static void ask_for_statistics(struct virtio_balloon *b, struct virtqueue *q)
{
	if (!b->statistics)
		return;
	virtqueue_put(q, b->statistics, 0);
	b->statistics = NULL;
	virtqueue_interrupt(q);
}

void virtio_balloon_statistics(struct virtio_balloon *b, uint64_t value[BALLOON_STATISTICS])
{
	memcpy(value, b->value, sizeof b->value);
	ask_for_statistics(b, virtio_queue(b->device, QUEUE_FIRST_OPTIONAL));
}

/* ---- reporting ---- */

static void discard_reported(struct virtio_balloon *b, const struct virtqueue_chain *c)
{
	if (virtio_has(b->device, F_PAGE_POISON) && b->config.poison_val)
		return;
	for (unsigned i = c->out_count; i < c->out_count + c->in_count; i++)
		memory_discard(b->memory, c->span[i].gpa, c->span[i].len);
}

/* ---- device ---- */

static uint64_t balloon_features(void *opaque)
{
	(void)opaque;
	return F_STATS_VQ | F_PAGE_POISON | F_PAGE_REPORTING;
}

static bool is_statistics(const struct virtio_balloon *b, unsigned queue)
{
	return queue == QUEUE_FIRST_OPTIONAL && virtio_has(b->device, F_STATS_VQ);
}

static void balloon_notify(void *opaque, unsigned queue)
{
	struct virtio_balloon *b = opaque;
	struct virtqueue *q = virtio_queue(b->device, queue);
	struct virtqueue_chain *c;
	size_t pages = 0;

	while (pages < TURN_PAGES && (c = virtqueue_get(q)) != NULL) {
		if (is_statistics(b, queue)) {
			ask_for_statistics(b, q); /* one is the rule; a driver gets an older one back */
			take_statistics(b, c);
			b->statistics = c;
			continue;
		}
		if (queue == QUEUE_INFLATE)
			pages += inflate(b, c);
		else if (queue != QUEUE_DEFLATE)
			discard_reported(b, c);
		virtqueue_put(q, c, 0);
	}
	if (pages >= TURN_PAGES)
		virtqueue_notify_again(q);
	virtqueue_interrupt(q);
}

static void forget_statistics(struct virtio_balloon *b)
{
	if (b->statistics)
		virtqueue_forget(virtio_queue(b->device, QUEUE_FIRST_OPTIONAL), b->statistics);
	b->statistics = NULL;
}

static void balloon_reset(void *opaque)
{
	struct virtio_balloon *b = opaque;

	forget_statistics(b);
	memset(b->value, 0xff, sizeof b->value);
	b->config.actual = b->config.poison_val = 0;
}

static void balloon_queue_reset(void *opaque, unsigned queue)
{
	if (queue == QUEUE_FIRST_OPTIONAL)
		forget_statistics(opaque);
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	const struct virtio_balloon *b = opaque;

	memcpy(buf, (const uint8_t *)&b->config + offset, len);
}

static void config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_balloon *b = opaque;
	struct config new = b->config;

	memcpy((uint8_t *)&new + offset, buf, len);
	b->config.actual = new.actual;
	b->config.poison_val = new.poison_val;
}

static const struct virtio_ops balloon_ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.class_code = 0x00ff00,
	.features = balloon_features,
	.notify = balloon_notify,
	.reset = balloon_reset,
	.queue_reset = balloon_queue_reset,
	.config_read = config_read,
	.config_write = config_write,
	.config_size = sizeof(struct config),
};

/* ---- the host's side ---- */

uint64_t virtio_balloon_size(const struct virtio_balloon *b) { return (uint64_t)b->config.actual << PFN_SHIFT; }

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t target)
{
	uint64_t size = b->memory->size, pages = target < size ? (size - target) >> PFN_SHIFT : 0;

	b->config.num_pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
	virtio_config_changed(b->device);
}

struct virtio_balloon *virtio_balloon_new(struct pci_bus *pci, struct loop *loop, struct memory *memory, uint64_t target)
{
	struct virtio_balloon *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	b->memory = memory;
	memset(b->value, 0xff, sizeof b->value);
	const struct virtio_config config = {.pci = pci, .devfn = -1, .loop = loop, .ops = &balloon_ops, .opaque = b,
					     .queues = QUEUES, .queue_size = QUEUE_SIZE};
	b->device = virtio_new(&config);
	if (!b->device) {
		free(b);
		return NULL;
	}
	virtio_balloon_set_target(b, target);
	return b;
}

void virtio_balloon_free(struct virtio_balloon *b)
{
	if (!b)
		return;
	virtio_free(b->device);
	free(b);
}
