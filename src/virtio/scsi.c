/*
 * virtio-scsi: carries SCSI commands from the rings to disks (dev/scsi_disk.c) and CD-ROM drives (dev/cdrom.c), and their
 * block operations to the block layer. Data of reads and writes goes from and to the guest's memory directly.
 *
 * Called under vm->lock; notify and the ends of requests on the I/O thread. What a guest can make it allocate is one
 * request, with its segments, for each entry of its rings.
 *
 * The event queue is there and never used: nothing comes or goes while the machine runs.
 *
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.6.
 */
#include "virtio/scsi.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "dev/cdrom.h"
#include "dev/scsi_disk.h"
#include "util/iov.h"
#include "virtio/virtio.h"

#define QUEUES_MAX 16u
#define QUEUE_SIZE 512u /* 1 MiB in pages of 4 KiB, with header and response, is one command */
#define SENSE_SIZE 96u
#define CDB_SIZE 32u
#define FIELD_MAX 255u /* what a driver can make of the two */
#define SENSE_LEN 18u
#define CONFIG_SIZE 36u

enum { QUEUE_CONTROL, QUEUE_EVENT, QUEUE_REQUEST };
enum { RESPONSE_OK = 0, RESPONSE_OVERRUN = 1, RESPONSE_BAD_TARGET = 3, RESPONSE_REJECTED = 11 };
enum { STATUS_GOOD = 0, STATUS_CHECK_CONDITION = 2 };
enum { CONTROL_TASK = 0, CONTROL_QUERY = 1, CONTROL_SUBSCRIBE = 2 };
enum { TASK_QUERY = 6, TASK_QUERY_SET = 7 };

struct request_head {
	uint8_t lun[8];
	uint64_t id;
	uint8_t attribute, priority, crn;
} __attribute__((packed));

struct response {
	uint32_t sense_len, residual;
	uint16_t status_qualifier;
	uint8_t status, response;
};
_Static_assert(sizeof(struct request_head) == 19 && sizeof(struct response) == 12, "section 5.6.6.1");

struct config {
	uint32_t num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size, cdb_size;
	uint16_t max_channel, max_target;
	uint32_t max_lun;
};
_Static_assert(sizeof(struct config) == CONFIG_SIZE, "section 5.6.4");

struct target {
	struct block *block;
	struct scsi_disk disk;
	struct cdrom *cdrom; /* NULL: a disk */
	unsigned active;     /* requests that have not been given back */
	struct virtqueue_chain *aborts; /* control requests that wait for their end */
};

struct virtio_scsi {
	struct virtio_device *virtio;
	struct config config;
	struct target target[VIRTIO_SCSI_TARGETS];
	unsigned targets;
	uint64_t used;       /* queues with requests given back since the last interrupt */
	uint64_t forgetting; /* queues that are being reset: chains are dropped */
	uint8_t buffer[SCSI_BUFFER_SIZE]; /* of the command that is being decoded: its reply or its list */
};

struct request {
	struct block_request block;
	struct virtio_scsi *device;
	struct virtqueue *queue;
	struct virtqueue_chain *chain;
	struct target *target;
	struct response response;
	uint8_t sense[SENSE_LEN];
	uint8_t cdb[SCSI_CDB_SIZE];
	struct scsi_result result;
	unsigned next_range;
	uint64_t out_room, in_room; /* bytes of data in the chain */
	struct iovec iov[];         /* of the chain's data, to be changed */
};

_Static_assert(SCSI_BUFFER_SIZE >= CDROM_BUFFER_SIZE && SCSI_CDB_SIZE >= CDROM_CDB_SIZE, "one buffer for both");

/* ---- the end of a request ---- */

/* Answers a request of the control queue. */
static void put_control(struct virtio_scsi *d, struct virtqueue_chain *c, const uint8_t *answer, size_t len)
{
	len = virtio_copy_in(c, 0, answer, len);
	virtqueue_put(virtio_queue(d->virtio, QUEUE_CONTROL), c, (uint32_t)len);
	d->used |= 1u << QUEUE_CONTROL;
}

/* What went on at a target has ended, and those who wanted that hear of it. */
static void answer_aborts(struct virtio_scsi *d, struct target *t)
{
	static const uint8_t ok = RESPONSE_OK;
	struct virtqueue_chain *c;

	while ((c = t->aborts) != NULL) {
		t->aborts = c->next;
		if (d->forgetting & 1u << QUEUE_CONTROL)
			virtqueue_forget(virtio_queue(d->virtio, QUEUE_CONTROL), c);
		else
			put_control(d, c, &ok, sizeof ok);
	}
}

static void finish(struct request *r)
{
	struct virtio_scsi *d = r->device;
	uint64_t queue = 1ull << virtqueue_index(r->queue);

	virtio_copy_in(r->chain, 0, &r->response, sizeof r->response);
	if (r->response.sense_len)
		virtio_copy_in(r->chain, sizeof r->response, r->sense, r->response.sense_len);
	if (d->forgetting & queue) {
		virtqueue_forget(r->queue, r->chain);
	} else {
		virtqueue_put(r->queue, r->chain, (uint32_t)r->chain->in_len);
		d->used |= queue;
	}
	if (r->target && --r->target->active == 0)
		answer_aborts(d, r->target);
	free(r);
}

static void finish_with(struct request *r, uint8_t response)
{
	r->response.response = response;
	finish(r);
}

/* With the sense of r->result, or good status and `moved` bytes of data. */
static void finish_command(struct request *r, uint64_t moved)
{
	uint64_t room = r->in_room ? r->in_room : r->out_room;

	if (r->result.key) {
		uint32_t len = r->device->config.sense_size < SENSE_LEN ? r->device->config.sense_size : SENSE_LEN;

		if (r->target && r->target->cdrom)
			cdrom_sense(r->target->cdrom, r->sense);
		else
			scsi_sense(&r->result, r->sense);
		r->response.sense_len = len;
		r->response.status = STATUS_CHECK_CONDITION;
	}
	r->response.residual = (uint32_t)(room > moved ? room - moved : 0);
	finish(r);
}

static void batch_ended(void *opaque)
{
	struct virtio_scsi *d = opaque;
	uint64_t used = d->used;

	d->used = 0;
	for (; used; used &= used - 1)
		virtqueue_interrupt(virtio_queue(d->virtio, (unsigned)__builtin_ctzll(used)));
}

/* ---- block operations ---- */

static void next_range(struct request *r)
{
	if (r->result.ranges) {
		r->block.offset = r->result.range[r->next_range].offset;
		r->block.len = r->result.range[r->next_range].len;
	}
	r->next_range++;
	block_submit(r->target->block, &r->block);
}

static void block_done(struct block_request *b, int result)
{
	struct request *r = b->opaque;
	bool forgotten = r->device->forgetting >> virtqueue_index(r->queue) & 1;

	if (result == 0 && r->next_range < r->result.ranges && !forgotten) {
		next_range(r);
		return;
	}
	if (result < 0 && r->target->cdrom) {
		struct cdrom_result c;

		cdrom_read_failed(r->target->cdrom, result, &c);
		r->result.key = c.key;
	} else if (result < 0) {
		scsi_disk_failed(result, &r->result);
	}
	finish_command(r, result == 0 && b->iov ? b->len : 0);
}

static void start_block(struct request *r)
{
	struct virtqueue_chain *c = r->chain;
	bool read = r->result.op == BLOCK_READ, write = r->result.op == BLOCK_WRITE;
	unsigned count = read ? c->in_count : c->out_count;
	struct iovec *v = r->iov;

	r->block.op = r->result.op;
	r->block.fua = r->result.fua;
	r->block.may_unmap = r->result.may_unmap;
	if (read || write) {
		if (r->result.range[0].len > (read ? r->in_room : r->out_room)) {
			finish_with(r, RESPONSE_OVERRUN);
			return;
		}
		memcpy(v, read ? c->in : c->out, count * sizeof *v);
		iov_skip(&v, &count, read ? sizeof r->response + r->device->config.sense_size :
					    sizeof(struct request_head) + r->device->config.cdb_size);
		iov_cut(v, &count, r->result.range[0].len);
		r->block.iov = v;
		r->block.iov_count = (int)count;
	}
	next_range(r);
}

/* ---- commands ---- */

/* A CD-ROM drive's answer, in the words of a disk's. */
static void take_cdrom_result(struct request *r, const struct cdrom_result *c)
{
	static const enum scsi_what what[] = {
		[CDROM_NONE] = SCSI_NOTHING, [CDROM_REPLY] = SCSI_REPLY, [CDROM_READ] = SCSI_BLOCK, [CDROM_LIST] = SCSI_LIST};

	r->result = (struct scsi_result){.key = c->key, .asc = c->asc, .ascq = c->ascq, .what = what[c->data], .len = c->len};
	if (c->data == CDROM_READ) {
		r->result.op = BLOCK_READ;
		r->result.range[0].offset = c->offset;
		r->result.range[0].len = c->len;
		r->result.ranges = 1;
		if (!c->len)
			r->result.what = SCSI_NOTHING;
	}
}

static void decode(struct request *r)
{
	struct cdrom_result c;

	if (!r->target->cdrom) {
		scsi_disk_command(&r->target->disk, r->cdb, r->device->buffer, &r->result);
		return;
	}
	cdrom_command(r->target->cdrom, r->cdb, r->device->buffer, &c);
	take_cdrom_result(r, &c);
}

static void give_list(struct request *r)
{
	uint32_t len = r->result.len < r->out_room ? r->result.len : (uint32_t)r->out_room;
	struct cdrom_result c;

	virtio_copy_out(r->chain, sizeof(struct request_head) + r->device->config.cdb_size, r->device->buffer, len);
	if (!r->target->cdrom) {
		scsi_disk_list(&r->target->disk, r->cdb, r->device->buffer, len, &r->result);
		return;
	}
	cdrom_list(r->target->cdrom, r->device->buffer, len, &c);
	take_cdrom_result(r, &c);
}

static void start_command(struct request *r)
{
	uint64_t moved = 0;

	decode(r);
	if (!r->result.key && r->result.what == SCSI_LIST) {
		moved = r->result.len;
		give_list(r);
	}
	if (r->result.key) {
		finish_command(r, 0);
	} else if (r->result.what == SCSI_BLOCK) {
		start_block(r);
	} else {
		if (r->result.what == SCSI_REPLY)
			moved = virtio_copy_in(r->chain, sizeof r->response + r->device->config.sense_size, r->device->buffer,
					       r->result.len);
		finish_command(r, moved);
	}
}

/* A logical unit that a target does not have: INQUIRY says so, anything else fails. */
static void no_such_unit(struct request *r)
{
	uint8_t inquiry[36] = {0x7f};
	uint64_t moved = 0;

	if (r->cdb[0] == 0x12 && !(r->cdb[1] & 1))
		moved = virtio_copy_in(r->chain, sizeof r->response + r->device->config.sense_size, inquiry,
				       sizeof inquiry);
	else
		r->result = (struct scsi_result){.key = SCSI_KEY_ILLEGAL_REQUEST, .asc = 0x25};
	r->target = NULL;
	finish_command(r, moved);
}

/* The single level structure: 1, target, flat logical unit number. NULL: there is no such target. */
static struct target *find_target(struct virtio_scsi *d, const uint8_t *lun, unsigned *unit)
{
	*unit = (unsigned)(lun[2] & 0x3f) << 8 | lun[3];
	return lun[0] == 1 && lun[1] < d->targets ? &d->target[lun[1]] : NULL;
}

static void take_request(struct virtio_scsi *d, struct virtqueue *q, struct virtqueue_chain *c)
{
	uint64_t head = sizeof(struct request_head) + d->config.cdb_size, answer = sizeof(struct response) + d->config.sense_size;
	bool whole = c->out_len >= head && c->in_len >= answer;
	unsigned segments = c->out_count > c->in_count ? c->out_count : c->in_count, unit;
	struct request *r = whole ? malloc(sizeof *r + segments * sizeof *r->iov) : NULL;
	struct request_head h;

	if (!r) {
		virtqueue_forget(q, c);
		virtio_broken(d->virtio, whole ? "no memory for a SCSI request" : "a SCSI request without its header");
		return;
	}
	memset(r, 0, sizeof *r);
	r->block.done = block_done;
	r->block.opaque = r;
	r->device = d;
	r->queue = q;
	r->chain = c;
	r->out_room = c->out_len - head;
	r->in_room = c->in_len - answer;
	virtio_copy_out(c, 0, &h, sizeof h);
	virtio_copy_out(c, sizeof h, r->cdb, d->config.cdb_size < sizeof r->cdb ? d->config.cdb_size : sizeof r->cdb);
	r->target = find_target(d, h.lun, &unit);
	if (!r->target) {
		finish_with(r, RESPONSE_BAD_TARGET);
	} else if (unit) {
		no_such_unit(r);
	} else {
		r->target->active++;
		start_command(r);
	}
}

/* ---- the control queue ---- */

/* Aborts and resets: what goes on ends, and is given back before the answer. True: it is answered later. */
static bool manage_task(struct virtio_scsi *d, uint32_t subtype, const uint8_t *lun, struct virtqueue_chain *c,
			uint8_t *response)
{
	unsigned unit;
	struct target *t = find_target(d, lun, &unit);

	*response = !t ? RESPONSE_BAD_TARGET : subtype >= TASK_QUERY ? RESPONSE_REJECTED : RESPONSE_OK;
	if (*response != RESPONSE_OK || !t->active)
		return false;
	c->next = t->aborts;
	t->aborts = c;
	return true;
}

static void take_control(struct virtio_scsi *d, struct virtqueue_chain *c)
{
	struct { uint32_t type, subtype; uint8_t lun[8]; } task = {0};
	uint8_t answer[5] = {0};

	virtio_copy_out(c, 0, &task, sizeof task);
	if (task.type == CONTROL_TASK) {
		if (!manage_task(d, task.subtype, task.lun, c, &answer[4]))
			put_control(d, c, answer + 4, 1);
		return;
	}
	if (task.type != CONTROL_QUERY && task.type != CONTROL_SUBSCRIBE)
		answer[4] = RESPONSE_REJECTED;
	put_control(d, c, answer, sizeof answer);
}

static void scsi_notify(void *opaque, unsigned queue)
{
	struct virtio_scsi *d = opaque;
	struct virtqueue *q = virtio_queue(d->virtio, queue);
	struct virtqueue_chain *c;

	if (queue == QUEUE_EVENT)
		return;
	do {
		virtqueue_want_notify(q, false);
		while ((c = virtqueue_get(q)) != NULL)
			if (queue == QUEUE_CONTROL)
				take_control(d, c);
			else
				take_request(d, q, c);
	} while (virtqueue_want_notify(q, true));
	batch_ended(d);
}

/* ---- configuration, reset ---- */

static void scsi_config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	struct virtio_scsi *d = opaque;

	/* With header and response a chain fits in the ring. */
	d->config.seg_max = virtio_has(d->virtio, VIRTIO_F_VERSION_1) ? QUEUE_SIZE - 2 : VIRTIO_LEGACY_QUEUE_SIZE - 2;
	memcpy(buf, (const uint8_t *)&d->config + offset, len);
}

/* The sizes of sense data and commands are the driver's, while it sets the device up. */
static void scsi_config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_scsi *d = opaque;
	uint32_t value;

	if (len != sizeof value || virtio_driver_ok(d->virtio))
		return;
	memcpy(&value, buf, sizeof value);
	if (offset == offsetof(struct config, sense_size) && value <= FIELD_MAX)
		d->config.sense_size = value;
	if (offset == offsetof(struct config, cdb_size) && value && value <= FIELD_MAX)
		d->config.cdb_size = value;
}

static void forget(struct virtio_scsi *d, uint64_t queues)
{
	d->forgetting = queues;
	for (unsigned i = 0; i < d->targets; i++)
		block_drain(d->target[i].block);
	d->forgetting = 0;
	d->used &= ~queues;
}

static void scsi_reset(void *opaque)
{
	struct virtio_scsi *d = opaque;

	forget(d, UINT64_MAX);
	d->config.sense_size = SENSE_SIZE;
	d->config.cdb_size = CDB_SIZE;
	for (unsigned i = 0; i < d->targets; i++)
		if (d->target[i].cdrom)
			cdrom_reset(d->target[i].cdrom);
}

static void scsi_queue_reset(void *opaque, unsigned queue) { forget(opaque, 1ull << queue); }

static const struct virtio_ops scsi_ops = {
	.name = "virtio-scsi",
	.id = VIRTIO_ID_SCSI,
	.class_code = 0x010000, /* SCSI storage controller */
	.notify = scsi_notify,
	.reset = scsi_reset,
	.queue_reset = scsi_queue_reset,
	.config_read = scsi_config_read,
	.config_write = scsi_config_write,
	.config_size = CONFIG_SIZE,
};

/* ---- life ---- */

static bool add_targets(struct virtio_scsi *d, const struct virtio_scsi_config *config)
{
	for (unsigned i = 0; i < config->targets; i++) {
		struct target *t = &d->target[d->targets++];

		t->block = config->target[i].block;
		t->disk = (struct scsi_disk){.block = t->block, .serial = config->target[i].serial};
		block_set_batch_ended(t->block, batch_ended, d);
		if (config->target[i].cdrom && !(t->cdrom = cdrom_new(t->block, config->target[i].serial)))
			return false;
	}
	return true;
}

struct virtio_scsi *virtio_scsi_new(const struct virtio_scsi_config *config)
{
	unsigned queues = config->queues < QUEUES_MAX ? config->queues : QUEUES_MAX;
	struct virtio_scsi *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->config = (struct config){
		.num_queues = queues,
		.max_sectors = 0xffff,
		.cmd_per_lun = 128,
		.event_info_size = 16,
		.sense_size = SENSE_SIZE,
		.cdb_size = CDB_SIZE,
		.max_target = (uint16_t)(config->targets ? config->targets - 1 : 0),
	};
	const struct virtio_config virtio = {
		.pci = config->pci,
		.devfn = config->devfn,
		.loop = config->loop,
		.ops = &scsi_ops,
		.opaque = d,
		.queues = QUEUE_REQUEST + queues,
		.queue_size = QUEUE_SIZE,
	};
	if (!add_targets(d, config) || !(d->virtio = virtio_new(&virtio))) {
		virtio_scsi_free(d);
		return NULL;
	}
	return d;
}

void virtio_scsi_free(struct virtio_scsi *d)
{
	if (!d)
		return;
	virtio_free(d->virtio);
	for (unsigned i = 0; i < d->targets; i++) {
		block_set_batch_ended(d->target[i].block, NULL, NULL);
		cdrom_free(d->target[i].cdrom);
	}
	free(d);
}
