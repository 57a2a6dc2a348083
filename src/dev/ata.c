/*
 * ATA drives: phases of a command, queued commands, resets. See ata.h.
 *
 * The seek and rotation of the drive take no time: what does not need the disk ends at once. PIO data goes through a
 * buffer of 64 KiB that is read ahead, or written when it is full or the command's data is all there.
 */
#include "dev/ata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/cdrom.h"
#include "util/log.h"

static bool in_packet(const struct ata_drive *d)
{
	return ata_is_packet(d) && d->regs.command == ATA_COMMAND_PACKET;
}

/* ---- data phases ---- */

static void disk_done(struct block_request *r, int result);
static void chunk_moved(struct ata_drive *d);
static void transfer_done(void *opaque, int result);

void ata_disk(struct ata_drive *d, enum block_op op, uint64_t offset, uint64_t len, void (*then)(struct ata_drive *d))
{
	d->then = then;
	d->iov = (struct iovec){d->buffer, len};
	d->request = (struct block_request){
		.op = op,
		.offset = offset,
		.len = len,
		.iov = &d->iov,
		.iov_count = op == BLOCK_READ || op == BLOCK_WRITE,
		.fua = op == BLOCK_WRITE && d->fua,
		.may_unmap = true,
		.done = disk_done,
		.opaque = d,
	};
	d->phase = ATA_BUSY;
	d->regs.status = ATA_BSY;
	d->busy = true;
	block_submit(d->config.block, &d->request);
}

void ata_finish(struct ata_drive *d, uint8_t error, bool interrupt)
{
	d->phase = ATA_IDLE;
	d->regs.error = error;
	d->regs.status = ATA_DRDY | ATA_DSC | (error ? ATA_ERR : 0);
	d->config.ops->finished(d->config.opaque, interrupt);
}

void ata_drive_abort(struct ata_drive *d)
{
	if (in_packet(d))
		atapi_finish(d, -EFAULT);
	else
		ata_finish(d, ATA_ERROR_ABRT, true);
}

/* The next DRQ block of the buffer. */
static void next_drq(struct ata_drive *d, bool interrupt)
{
	uint32_t rest = d->filled - d->at;

	d->drq_end = d->at + (rest < d->drq_size ? rest : d->drq_size);
	d->phase = d->to_host ? ATA_PIO_IN : ATA_PIO_OUT;
	d->regs.status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	if (in_packet(d))
		atapi_drq(d, d->drq_end - d->at);
	d->config.ops->pio(d->config.opaque, interrupt);
}

static void start_dma(struct ata_drive *d)
{
	d->phase = ATA_DMA;
	d->regs.status = ATA_DRDY | ATA_DSC | ATA_DRQ;
	d->config.ops->dma(d->config.opaque);
}

/* Reads ahead, or makes room for what the host writes next. */
static void next_chunk(struct ata_drive *d, bool interrupt)
{
	uint32_t room = d->drq_size <= ATA_BUFFER_SIZE ? ATA_BUFFER_SIZE / d->drq_size * d->drq_size : ATA_BUFFER_SIZE;

	room -= room % BLOCK_SECTOR; /* an ATAPI drive's DRQ blocks may be of any size */
	d->at = 0;
	d->filled = d->left < room ? (uint32_t)d->left : room;
	if (d->to_host)
		ata_disk(d, BLOCK_READ, d->offset, d->filled, chunk_moved);
	else
		next_drq(d, interrupt);
}

/* What the buffer holds, or takes. */
static void move_buffer(struct ata_drive *d, bool to_host, uint32_t len, uint32_t drq_size, bool pio, bool interrupt)
{
	d->pio = pio;
	d->to_host = to_host;
	d->on_disk = false;
	d->drq_size = drq_size;
	d->at = 0;
	d->filled = len;
	d->left = 0;
	if (pio && d->config.ops->pio)
		next_drq(d, interrupt);
	else
		start_dma(d);
}

void ata_send(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio)
{
	d->received = NULL;
	move_buffer(d, true, len, drq_size, pio, true);
}

void ata_receive(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio, void (*received)(struct ata_drive *d))
{
	d->received = received;
	move_buffer(d, false, len, drq_size, pio, in_packet(d) && !d->wants_packet);
}

void ata_move_disk(struct ata_drive *d, bool to_host, uint64_t offset, uint64_t len, uint32_t drq_size, bool pio)
{
	d->pio = pio;
	d->to_host = to_host;
	d->on_disk = true;
	d->offset = offset;
	d->left = len;
	d->drq_size = drq_size;
	d->received = NULL;
	if (pio && d->config.ops->pio)
		next_chunk(d, false);
	else
		start_dma(d);
}

/* The host has read or filled a DRQ block. */
static void drq_done(struct ata_drive *d)
{
	if (d->at < d->filled) {
		next_drq(d, true);
	} else if (d->to_host) {
		if (d->left)
			next_chunk(d, true);
		else if (in_packet(d))
			atapi_finish(d, 0);
		else
			ata_finish(d, 0, false);
	} else if (d->received) {
		d->phase = ATA_BUSY;
		d->regs.status = ATA_BSY;
		d->received(d);
	} else {
		ata_disk(d, BLOCK_WRITE, d->offset, d->filled, chunk_moved);
	}
}

uint32_t ata_drive_pio_read(struct ata_drive *d, unsigned size)
{
	uint32_t value = 0;

	if (d->phase != ATA_PIO_IN)
		return UINT32_MAX;
	for (unsigned i = 0; i < size && d->at < d->drq_end; i++)
		value |= (uint32_t)d->buffer[d->at++] << 8 * i;
	if (d->at == d->drq_end)
		drq_done(d);
	return value;
}

void ata_drive_pio_write(struct ata_drive *d, uint32_t value, unsigned size)
{
	if (d->phase != ATA_PIO_OUT)
		return;
	for (unsigned i = 0; i < size && d->at < d->drq_end; i++)
		d->buffer[d->at++] = (uint8_t)(value >> 8 * i);
	if (d->at == d->drq_end)
		drq_done(d);
}

static void dma_done(struct ata_drive *d)
{
	if (d->received) {
		d->phase = ATA_BUSY;
		d->regs.status = ATA_BSY;
		d->received(d);
	} else if (in_packet(d)) {
		atapi_finish(d, 0);
	} else {
		ata_finish(d, 0, true);
	}
}

void ata_drive_dma(struct ata_drive *d)
{
	const struct ata_drive_ops *ops = d->config.ops;
	struct ata_transfer *t = &d->transfer;
	int r;

	if (d->phase != ATA_DMA)
		return;
	d->phase = ATA_MOVING;
	t->table = (struct ata_table){.next = ops->next, .opaque = d->config.opaque};
	if (d->on_disk) {
		t->pci = d->config.pci;
		t->block = d->config.block;
		t->op = d->to_host ? BLOCK_READ : BLOCK_WRITE;
		t->offset = d->offset;
		t->len = d->left;
		t->fua = d->fua;
		t->done = transfer_done;
		t->opaque = d;
		r = ata_transfer_start(t);
		if (r == 0)
			return;
	} else {
		uint32_t moved;

		r = ata_table_copy(&t->table, d->config.pci, d->buffer, d->filled, d->to_host, &moved);
	}
	if (r < 0)
		ops->dma_failed(d->config.opaque, r);
	else
		dma_done(d);
}

void ata_drive_stop_dma(struct ata_drive *d)
{
	d->draining = true;
	ata_transfer_cancel(&d->transfer);
	d->draining = false;
}

/* ---- when the disk answers ---- */

/* After an error the registers have the address of the sector. */
static void set_lba(struct ata_drive *d, uint64_t lba)
{
	bool ext = d->regs.command == 0x24 || d->regs.command == 0x25 || d->regs.command == 0x29 ||
		   (d->regs.command >= 0x34 && d->regs.command <= 0x3d) || d->regs.command == 0x42 ||
		   d->regs.command == 0xce;

	if (!(d->regs.device & ATA_DEVICE_LBA)) {
		uint64_t track = lba / d->sectors_per_track, cylinder = track / d->heads;

		d->regs.lba[0] = (uint8_t)(lba % d->sectors_per_track + 1);
		d->regs.lba[1] = (uint8_t)cylinder;
		d->regs.lba[2] = (uint8_t)(cylinder >> 8);
		d->regs.device = (uint8_t)((d->regs.device & 0xf0) | (track % d->heads & 0x0f));
		return;
	}
	for (unsigned i = 0; i < (ext ? 6 : 3); i++)
		d->regs.lba[i] = (uint8_t)(lba >> 8 * i);
	if (!ext)
		d->regs.device = (uint8_t)((d->regs.device & 0xf0) | (lba >> 24 & 0x0f));
}

static void disk_failed(struct ata_drive *d, int result, uint64_t offset)
{
	LOG(LOG_ATA, "command %#x at byte %llu: error %d", d->regs.command, (unsigned long long)offset, -result);
	if (in_packet(d)) {
		atapi_finish(d, result);
		return;
	}
	set_lba(d, offset / BLOCK_SECTOR);
	ata_finish(d, d->to_host ? ATA_ERROR_UNC : ATA_ERROR_ABRT, true);
}

/* A request of this file has ended. */
static void disk_done(struct block_request *r, int result)
{
	struct ata_drive *d = r->opaque;

	d->busy = false;
	if (d->cancelled)
		return;
	if (result == 0)
		d->then(d);
	else if (r->op == BLOCK_READ || r->op == BLOCK_WRITE)
		disk_failed(d, result, r->offset);
	else
		ata_finish(d, ATA_ERROR_ABRT, true);
}

/* The buffer has been read from the disk or written to it. */
static void chunk_moved(struct ata_drive *d)
{
	d->offset += d->filled;
	d->left -= d->filled;
	if (d->to_host)
		next_drq(d, true);
	else if (d->left)
		next_chunk(d, true);
	else
		ata_finish(d, 0, true);
}

static void transfer_done(void *opaque, int result)
{
	struct ata_drive *d = opaque;

	if (result == 0)
		dma_done(d);
	else if (result == -ENODATA || result == -EFAULT || result == -ENOMEM)
		d->config.ops->dma_failed(d->config.opaque, result);
	else
		disk_failed(d, result, d->transfer.offset);
}

/* ---- commands ---- */

void ata_drive_execute(struct ata_drive *d)
{
	uint8_t command = d->regs.command;

	LOG(LOG_ATA, "command %#04x feature %#x count %#x lba %02x%02x%02x:%02x%02x%02x device %#x", command,
	    d->regs.feature[0], d->regs.count[0], d->regs.lba[5], d->regs.lba[4], d->regs.lba[3], d->regs.lba[2],
	    d->regs.lba[1], d->regs.lba[0], d->regs.device);
	d->phase = ATA_BUSY;
	d->regs.status = ATA_BSY;
	d->regs.error = 0;
	d->received = NULL;
	d->fua = false;
	d->transfer.table.left = 0;
	if (command == ATA_COMMAND_DEVICE_RESET && ata_is_packet(d)) {
		ata_drive_reset(d);
		d->config.ops->finished(d->config.opaque, false);
		return;
	}
	ata_run_command(d);
}

void ata_drive_packet(struct ata_drive *d, const uint8_t p[ATA_PACKET_SIZE])
{
	d->phase = ATA_BUSY;
	d->regs.status = ATA_BSY;
	d->regs.error = 0;
	d->received = NULL;
	d->fua = false;
	d->transfer.table.left = 0;
	if (ata_is_packet(d))
		atapi_run(d, p);
	else
		ata_finish(d, ATA_ERROR_ABRT, true);
}

/* ---- queued commands ---- */

static void queued_done(void *opaque, int result)
{
	struct ata_queued *q = opaque;
	struct ata_drive *d = q->drive;

	d->queued &= ~(1u << q->tag);
	if (result < 0 && !d->queue_error) {
		uint64_t lba = q->transfer.offset / BLOCK_SECTOR;

		d->queue_error = true;
		d->queue_error_tag = (uint8_t)q->tag;
		d->queue_error_regs = (struct ata_registers){
			.status = ATA_DRDY | ATA_ERR,
			.error = q->transfer.op == BLOCK_READ ? ATA_ERROR_UNC : ATA_ERROR_ABRT,
			.device = ATA_DEVICE_LBA,
		};
		for (unsigned i = 0; i < 6; i++)
			d->queue_error_regs.lba[i] = (uint8_t)(lba >> 8 * i);
	}
	d->config.ops->queued_finished(d->config.opaque, q->tag, result);
}

int ata_drive_queue(struct ata_drive *d, const struct ata_registers *regs, const struct ata_table *table)
{
	bool write = regs->command == ATA_COMMAND_WRITE_QUEUED;
	unsigned tag = regs->count[0] >> 3;
	struct ata_registers range = *regs;
	uint64_t lba;
	uint32_t count;

	/* The length is in the feature register, the tag where the length usually is. */
	range.count[0] = regs->feature[0];
	range.count[1] = regs->feature[1];
	if (ata_is_packet(d) || (d->queued >> tag & 1) || !ata_range(d, &range, true, &lba, &count) ||
	    (write && block_readonly(d->config.block)))
		return -EINVAL;
	struct ata_queued *q = d->queue[tag];
	if (!q) {
		q = d->queue[tag] = calloc(1, sizeof *q);
		if (!q)
			return -ENOMEM;
		q->drive = d;
		q->tag = tag;
	}
	struct ata_transfer *t = &q->transfer;
	t->pci = d->config.pci;
	t->table = *table;
	t->block = d->config.block;
	t->op = write ? BLOCK_WRITE : BLOCK_READ;
	t->offset = lba * BLOCK_SECTOR;
	t->len = (uint64_t)count * BLOCK_SECTOR;
	t->fua = write && ((regs->device & 0x80) || !d->write_cache);
	t->done = queued_done;
	t->opaque = q;
	d->standby = false;
	int r = ata_transfer_start(t);
	if (r == 0)
		d->queued |= 1u << tag;
	return r;
}

/* ---- life ---- */

void ata_set_signature(struct ata_drive *d)
{
	struct ata_registers *r = &d->regs;

	r->error = 1; /* the diagnostic passed */
	r->count[0] = 1;
	r->count[1] = 0;
	memset(r->lba, 0, sizeof r->lba);
	r->lba[0] = 1;
	r->device = 0;
	r->status = ATA_DRDY | ATA_DSC;
	if (ata_is_packet(d)) {
		r->lba[1] = 0x14;
		r->lba[2] = 0xeb;
		r->status = 0;
	}
}

static void drain(struct ata_drive *d)
{
	d->draining = true;
	block_drain(d->config.block);
	d->draining = false;
}

void ata_drive_cancel(struct ata_drive *d)
{
	bool wait = d->busy || d->transfer.active || d->queued;

	/* All of it before the first is waited for: others end then too. */
	d->cancelled = d->transfer.cancelled = true;
	for (unsigned i = 0; i < ATA_QUEUE_DEPTH; i++)
		if (d->queue[i])
			d->queue[i]->transfer.cancelled = true;
	if (wait)
		drain(d);
	d->cancelled = d->transfer.cancelled = false;
	for (unsigned i = 0; i < ATA_QUEUE_DEPTH; i++)
		if (d->queue[i])
			d->queue[i]->transfer.cancelled = false;
	d->queued = 0;
	d->phase = ATA_IDLE;
}

void ata_drive_reset(struct ata_drive *d)
{
	ata_drive_cancel(d);
	d->multiple = ATA_MULTIPLE_MAX;
	d->transfer_mode = d->config.sata ? 0x46 : 0x22;
	d->write_cache = ata_has_cache(d);
	d->look_ahead = true;
	d->smart = true;
	d->standby = false;
	d->queue_error = false;
	d->heads = ATA_HEADS;
	d->sectors_per_track = ATA_SECTORS_PER_TRACK;
	memset(&d->regs, 0, sizeof d->regs);
	ata_set_signature(d);
	if (d->cdrom)
		cdrom_reset(d->cdrom);
}

struct ata_drive *ata_drive_new(const struct ata_config *config)
{
	struct ata_drive *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->config = *config;
	d->buffer = calloc(1, ATA_BUFFER_SIZE);
	if (config->cdrom)
		d->cdrom = cdrom_new(config->block, config->serial);
	else
		d->sectors = block_size(config->block) / BLOCK_SECTOR;
	if (!d->buffer || (config->cdrom && !d->cdrom)) {
		ata_drive_free(d);
		errno = ENOMEM;
		return NULL;
	}
	ata_drive_reset(d);
	return d;
}

void ata_drive_free(struct ata_drive *d)
{
	if (!d)
		return;
	ata_drive_cancel(d);
	for (unsigned i = 0; i < ATA_QUEUE_DEPTH; i++)
		free(d->queue[i]);
	cdrom_free(d->cdrom);
	free(d->buffer);
	free(d);
}
