/*
 * The command set of ATA disks, and what CD-ROM drives share of it. See ata.h.
 *
 * Source: ATA/ATAPI-6 (T13/1410D), chapter 8; ATA8-ACS (T13/1699D) for DATA SET MANAGEMENT and the logs.
 */
#include "dev/ata.h"

#define TRIM_ENTRY 8u
#define TRIM_SECTORS_MAX 8u

/* ---- addresses ---- */

bool ata_range(const struct ata_drive *d, const struct ata_registers *r, bool ext, uint64_t *lba, uint32_t *count)
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
	if (!ata_range(d, &d->regs, flags & EXT, &lba, &count)) {
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

static void verified(struct ata_drive *d);

/* Reads and throws away. */
static void next_verify(struct ata_drive *d)
{
	d->filled = d->left < ATA_BUFFER_SIZE ? (uint32_t)d->left : ATA_BUFFER_SIZE;
	if (d->left)
		ata_disk(d, BLOCK_READ, d->offset, d->filled, verified);
	else
		ata_finish(d, 0, true);
}

static void verified(struct ata_drive *d)
{
	d->offset += d->filled;
	d->left -= d->filled;
	next_verify(d);
}

static void verify(struct ata_drive *d, unsigned flags)
{
	uint64_t lba;
	uint32_t count;

	if (!ata_range(d, &d->regs, flags & EXT, &lba, &count)) {
		ata_finish(d, ATA_ERROR_IDNF, true);
		return;
	}
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
	ata_finish(d, ata_range(d, &r, false, &lba, &count) ? 0 : ATA_ERROR_IDNF, true);
}

static void done(struct ata_drive *d) { ata_finish(d, 0, true); }

static void flush(struct ata_drive *d, unsigned flags)
{
	(void)flags;
	if (ata_is_packet(d))
		ata_finish(d, 0, true);
	else
		ata_disk(d, BLOCK_FLUSH, 0, 0, done);
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
		ata_disk(d, BLOCK_DISCARD, lba * BLOCK_SECTOR, (uint64_t)count * BLOCK_SECTOR, next_trim);
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
	bool ok = n <= ATA_MULTIPLE_MAX && (n & (n - 1)) == 0;

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
		ok = ata_has_cache(d);
		d->write_cache = ok;
		break;
	case 0x82:
		ok = !ata_is_packet(d);
		if (!ok || !d->write_cache)
			break;
		d->write_cache = false; /* and what is in it goes to the disk */
		ata_disk(d, BLOCK_FLUSH, 0, 0, done);
		return;
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

void ata_run_command(struct ata_drive *d)
{
	uint8_t command = d->regs.command;

	if (commands[command].run && (!ata_is_packet(d) || (commands[command].flags & PACKETS_TOO))) {
		commands[command].run(d, commands[command].flags);
		return;
	}
	if (ata_is_packet(d) && (command == 0x20 || command == 0x21))
		ata_set_signature(d);
	ata_finish(d, ATA_ERROR_ABRT, true);
}
