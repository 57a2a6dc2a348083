/*
 * ATA drives: phases of a command, and the command set of disks. See ata.h.
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

#define MULTIPLE_MAX 16u
#define TRIM_ENTRY 8u
#define TRIM_SECTORS_MAX 8u

static bool in_packet(const struct ata_drive *d)
{
	return ata_is_packet(d) && d->regs.command == ATA_COMMAND_PACKET;
}

/* ---- data phases ---- */

static void disk_done(struct block_request *r, int result);
static void transfer_done(void *opaque, int result);

static void submit(struct ata_drive *d, enum block_op op, uint64_t offset, uint64_t len)
{
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
		submit(d, BLOCK_READ, d->offset, d->filled);
	else
		next_drq(d, interrupt);
}

void ata_send(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio)
{
	d->pio = pio;
	d->to_host = true;
	d->on_disk = false;
	d->drq_size = drq_size;
	d->at = 0;
	d->filled = len;
	d->left = 0;
	if (pio && d->config.ops->pio)
		next_drq(d, true);
	else
		start_dma(d);
}

void ata_receive(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio, void (*received)(struct ata_drive *d))
{
	d->pio = pio;
	d->to_host = false;
	d->on_disk = false;
	d->drq_size = drq_size;
	d->at = 0;
	d->filled = len;
	d->left = 0;
	d->received = received;
	if (pio && d->config.ops->pio)
		next_drq(d, in_packet(d) && !d->wants_packet);
	else
		start_dma(d);
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
		submit(d, BLOCK_WRITE, d->offset, d->filled);
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

void ata_drive_stop_dma(struct ata_drive *d) { ata_transfer_cancel(&d->transfer); }

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

static void next_trim(struct ata_drive *d);
static void next_verify(struct ata_drive *d);

/* A request of this file has ended. */
static void disk_done(struct block_request *r, int result)
{
	struct ata_drive *d = r->opaque;

	d->busy = false;
	if (d->cancelled)
		return;
	if (r->op == BLOCK_FLUSH) {
		ata_finish(d, result < 0 ? ATA_ERROR_ABRT : 0, true);
		return;
	}
	if (r->op == BLOCK_DISCARD) {
		if (result < 0)
			ata_finish(d, ATA_ERROR_ABRT, true);
		else
			next_trim(d);
		return;
	}
	if (result < 0) {
		disk_failed(d, result, r->offset);
		return;
	}
	d->offset += r->len;
	d->left -= r->len;
	if (!d->on_disk) /* VERIFY: nobody wants the data */
		next_verify(d);
	else if (d->to_host)
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

/* ---- addresses ---- */

/* The range of a command, in sectors. False: it is not on the disk. */
static bool get_range(const struct ata_drive *d, const struct ata_registers *r, bool ext, uint64_t *lba, uint32_t *count)
{
	*lba = 0;
	*count = r->count[0];
	if (ext) {
		*count |= (uint32_t)r->count[1] << 8;
		if (!*count)
			*count = 65536;
		for (unsigned i = 0; i < 6; i++)
			*lba |= (uint64_t)r->lba[i] << 8 * i;
	} else {
		if (!*count)
			*count = 256;
		uint32_t cylinder = r->lba[1] | (uint32_t)r->lba[2] << 8, head = r->device & 0x0f;
		if (r->device & ATA_DEVICE_LBA) {
			*lba = r->lba[0] | cylinder << 8 | head << 24;
		} else {
			if (!r->lba[0] || r->lba[0] > d->sectors_per_track || head >= d->heads)
				return false;
			*lba = ((uint64_t)cylinder * d->heads + head) * d->sectors_per_track + r->lba[0] - 1;
		}
	}
	return *lba < d->sectors && *count <= d->sectors - *lba;
}

/* ---- commands ---- */

enum { EXT = 1, DMA = 2, WRITE = 4, MULTIPLE = 8, FUA = 16, PACKETS_TOO = 32 };

static void read_write(struct ata_drive *d, unsigned flags)
{
	uint64_t lba;
	uint32_t count;

	if ((flags & MULTIPLE) && !d->multiple) {
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	if (!get_range(d, &d->regs, flags & EXT, &lba, &count)) {
		ata_finish(d, ATA_ERROR_IDNF | ((flags & DMA) ? ATA_ERROR_ABRT : 0), true);
		return;
	}
	if ((flags & WRITE) && block_readonly(d->config.block)) {
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	d->standby = false;
	d->fua = (flags & WRITE) && ((flags & FUA) || !d->write_cache);
	ata_move_disk(d, !(flags & WRITE), lba * BLOCK_SECTOR, (uint64_t)count * BLOCK_SECTOR,
		      flags & MULTIPLE ? d->multiple * BLOCK_SECTOR : BLOCK_SECTOR, !(flags & DMA));
}

static void next_verify(struct ata_drive *d)
{
	if (d->left)
		submit(d, BLOCK_READ, d->offset, d->left < ATA_BUFFER_SIZE ? d->left : ATA_BUFFER_SIZE);
	else
		ata_finish(d, 0, true);
}

static void verify(struct ata_drive *d, unsigned flags)
{
	uint64_t lba;
	uint32_t count;

	if (!get_range(d, &d->regs, flags & EXT, &lba, &count)) {
		ata_finish(d, ATA_ERROR_IDNF, true);
		return;
	}
	d->on_disk = false;
	d->to_host = true;
	d->offset = lba * BLOCK_SECTOR;
	d->left = (uint64_t)count * BLOCK_SECTOR;
	next_verify(d);
}

static void seek(struct ata_drive *d, unsigned flags)
{
	struct ata_registers r = d->regs;
	uint64_t lba;
	uint32_t count;

	(void)flags;
	r.count[0] = 1;
	ata_finish(d, get_range(d, &r, false, &lba, &count) ? 0 : ATA_ERROR_IDNF, true);
}

static void flush(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	if (ata_is_packet(d))
		ata_finish(d, 0, true);
	else
		submit(d, BLOCK_FLUSH, 0, 0);
}

/* DATA SET MANAGEMENT's ranges, one after the other: 48 bits of address, 16 of length. */
static void next_trim(struct ata_drive *d)
{
	while (d->trim_at < d->filled) {
		const uint8_t *e = d->buffer + d->trim_at;
		uint64_t lba = pci_get32(e) | (uint64_t)pci_get16(e + 4) << 32;
		uint32_t count = pci_get16(e + 6);

		d->trim_at += TRIM_ENTRY;
		if (!count)
			continue;
		if (lba >= d->sectors || count > d->sectors - lba) {
			ata_finish(d, ATA_ERROR_ABRT | ATA_ERROR_IDNF, true);
			return;
		}
		submit(d, BLOCK_DISCARD, lba * BLOCK_SECTOR, (uint64_t)count * BLOCK_SECTOR);
		return;
	}
	ata_finish(d, 0, true);
}

static void trim_received(struct ata_drive *d)
{
	d->trim_at = 0;
	next_trim(d);
}

static void data_set_management(struct ata_drive *d, unsigned flags)
{
	uint32_t count = d->regs.count[0] | (uint32_t)d->regs.count[1] << 8;

	(void)flags;
	if (!(d->regs.feature[0] & 1) || !count || count > TRIM_SECTORS_MAX || !block_can_discard(d->config.block) ||
	    block_readonly(d->config.block))
		ata_finish(d, ATA_ERROR_ABRT, true);
	else
		ata_receive(d, count * BLOCK_SECTOR, BLOCK_SECTOR, false, trim_received);
}

static void identify(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	if (ata_is_packet(d)) {
		ata_set_signature(d);
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	ata_identify_disk(d, d->buffer);
	ata_send(d, BLOCK_SECTOR, BLOCK_SECTOR, true);
}

static void identify_packet(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	if (!ata_is_packet(d)) {
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	ata_identify_packet(d, d->buffer);
	ata_send(d, BLOCK_SECTOR, BLOCK_SECTOR, true);
}

static void packet(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	if (ata_is_packet(d))
		atapi_packet(d);
	else
		ata_finish(d, ATA_ERROR_ABRT, true);
}

static void set_multiple(struct ata_drive *d, unsigned flags)
{
	uint8_t n = d->regs.count[0];
	bool ok = n <= MULTIPLE_MAX && (n & (n - 1)) == 0;

	(void)flags;
	d->multiple = ok ? n : 0;
	ata_finish(d, ok ? 0 : ATA_ERROR_ABRT, true);
}

/* The translation: that of the default is in IDENTIFY too. */
static void set_parameters(struct ata_drive *d, unsigned flags)
{
	uint16_t heads = (d->regs.device & 0x0f) + 1, spt = d->regs.count[0];

	(void)flags;
	if (spt) {
		d->heads = heads;
		d->sectors_per_track = spt;
	}
	ata_finish(d, spt ? 0 : ATA_ERROR_ABRT, true);
}

static bool set_transfer_mode(struct ata_drive *d, uint8_t mode)
{
	if (mode <= 0x01 || (mode >= 0x08 && mode <= 0x0c)) /* PIO */
		return true;
	if ((mode >= 0x20 && mode <= 0x22) || (d->config.sata && mode >= 0x40 && mode <= 0x46)) {
		d->transfer_mode = mode;
		return true;
	}
	return false;
}

static void set_features(struct ata_drive *d, unsigned flags)
{
	bool ok = true;

	(void)flags;
	switch (d->regs.feature[0]) {
	case 0x03:
		ok = set_transfer_mode(d, d->regs.count[0]);
		break;
	case 0x02:
	case 0x82:
		ok = !ata_is_packet(d);
		if (ok && d->write_cache && d->regs.feature[0] == 0x82) {
			d->write_cache = false; /* and what is in it goes to the disk */
			submit(d, BLOCK_FLUSH, 0, 0);
			return;
		}
		if (ok)
			d->write_cache = d->regs.feature[0] == 0x02;
		break;
	case 0x55:
	case 0xaa:
		ok = !ata_is_packet(d);
		d->look_ahead = d->regs.feature[0] == 0xaa;
		break;
	case 0x66: /* settings after a software reset: they always go back to the defaults */
	case 0xcc:
		break;
	default:
		ok = false;
	}
	ata_finish(d, ok ? 0 : ATA_ERROR_ABRT, true);
}

static void power(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	switch (d->regs.command) {
	case 0xe5: /* CHECK POWER MODE */
	case 0x98:
		d->regs.count[0] = d->standby ? 0x00 : 0xff;
		break;
	case 0xe0: /* STANDBY IMMEDIATE, STANDBY, SLEEP: what comes next wakes it */
	case 0x94:
	case 0xe2:
	case 0x96:
	case 0xe6:
	case 0x99:
		d->standby = true;
		break;
	default:
		d->standby = false;
	}
	ata_finish(d, 0, true);
}

static void diagnostic(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	ata_set_signature(d);
	d->phase = ATA_IDLE;
	d->config.ops->finished(d->config.opaque, true);
}

static void nothing(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	ata_finish(d, 0, true);
}

static void smart(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	ata_smart(d);
}

static void read_log(struct ata_drive *d, unsigned flags)
{
	uint32_t count = d->regs.count[0] | (uint32_t)d->regs.count[1] << 8;
	uint16_t page = d->regs.lba[1] | (uint16_t)(d->regs.lba[4] << 8);

	if (!count || count > ATA_BUFFER_SIZE / BLOCK_SECTOR || page + count > 0x10000) {
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		if (!ata_log_page(d, d->regs.lba[0], (uint16_t)(page + i), d->buffer + i * BLOCK_SECTOR)) {
			ata_finish(d, ATA_ERROR_ABRT, true);
			return;
		}
	if (d->regs.lba[0] == 0x10)
		d->queue_error = false;
	ata_send(d, count * BLOCK_SECTOR, BLOCK_SECTOR, !(flags & DMA));
}

static const struct {
	void (*run)(struct ata_drive *d, unsigned flags);
	unsigned flags;
} commands[256] = {
	[0x06] = {data_set_management, DMA},
	[0x20] = {read_write}, [0x21] = {read_write},
	[0x24] = {read_write, EXT}, [0x25] = {read_write, EXT | DMA}, [0x29] = {read_write, EXT | MULTIPLE},
	[0x2f] = {read_log}, [0x47] = {read_log, DMA},
	[0x30] = {read_write, WRITE}, [0x31] = {read_write, WRITE},
	[0x34] = {read_write, EXT | WRITE}, [0x35] = {read_write, EXT | WRITE | DMA},
	[0x39] = {read_write, EXT | WRITE | MULTIPLE}, [0x3d] = {read_write, EXT | WRITE | DMA | FUA},
	[0x40] = {verify}, [0x41] = {verify}, [0x42] = {verify, EXT},
	[0x70] = {seek},
	[ATA_COMMAND_DIAGNOSTIC] = {diagnostic, PACKETS_TOO},
	[0x91] = {set_parameters},
	[0x10] = {nothing}, /* RECALIBRATE */
	[0x94] = {power, PACKETS_TOO}, [0x95] = {power, PACKETS_TOO}, [0x96] = {power, PACKETS_TOO},
	[0x97] = {power, PACKETS_TOO}, [0x98] = {power, PACKETS_TOO}, [0x99] = {power, PACKETS_TOO},
	[ATA_COMMAND_PACKET] = {packet, PACKETS_TOO}, [0xa1] = {identify_packet, PACKETS_TOO},
	[0xb0] = {smart},
	[0xc4] = {read_write, MULTIPLE}, [0xc5] = {read_write, WRITE | MULTIPLE}, [0xc6] = {set_multiple},
	[0xc8] = {read_write, DMA}, [0xc9] = {read_write, DMA},
	[0xca] = {read_write, WRITE | DMA}, [0xcb] = {read_write, WRITE | DMA},
	[0xce] = {read_write, EXT | WRITE | MULTIPLE | FUA},
	[0xe0] = {power, PACKETS_TOO}, [0xe1] = {power, PACKETS_TOO}, [0xe2] = {power, PACKETS_TOO},
	[0xe3] = {power, PACKETS_TOO}, [0xe5] = {power, PACKETS_TOO}, [0xe6] = {power, PACKETS_TOO},
	[0xe7] = {flush, PACKETS_TOO}, [0xea] = {flush},
	[0xec] = {identify, PACKETS_TOO}, [0xef] = {set_features, PACKETS_TOO},
};

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
	if (!commands[command].run || (ata_is_packet(d) && !(commands[command].flags & PACKETS_TOO))) {
		if (ata_is_packet(d) && (command == 0x20 || command == 0x21))
			ata_set_signature(d);
		ata_finish(d, ATA_ERROR_ABRT, true);
		return;
	}
	commands[command].run(d, commands[command].flags);
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
	if (ata_is_packet(d) || (d->queued >> tag & 1) || !get_range(d, &range, true, &lba, &count) ||
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

void ata_drive_cancel(struct ata_drive *d)
{
	bool wait = d->busy || d->transfer.active || d->queued;

	/* All of it before the first is waited for: others end then too. */
	d->cancelled = d->transfer.cancelled = true;
	for (unsigned i = 0; i < ATA_QUEUE_DEPTH; i++)
		if (d->queue[i])
			d->queue[i]->transfer.cancelled = true;
	if (wait)
		block_drain(d->config.block);
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
	d->multiple = 0;
	d->transfer_mode = d->config.sata ? 0x46 : 0x22;
	d->write_cache = d->look_ahead = true;
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
