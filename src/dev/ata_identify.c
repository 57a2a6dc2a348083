/*
 * What ATA drives tell of themselves: IDENTIFY DEVICE, IDENTIFY PACKET DEVICE, SMART and the logs. See ata.h.
 *
 * Sources: ATA/ATAPI-6 sections 8.15, 8.16 and 8.54; ATA8-ACS annex A for the log pages. SMART's attributes have the
 * layout that all drives share (SFF-8035i).
 */
#include <string.h>

#include "dev/ata.h"

#define FIRMWARE "1.0"
#define CYLINDERS_MAX 16383u
#define CHS_SECTORS_MAX 16514064u /* 16383 * 16 * 63 */
#define LBA28_SECTORS_MAX 0x0fffffffu

static void put_word(uint8_t *buf, unsigned word, unsigned value) { pci_put16(buf + word * 2, (uint16_t)value); }

static void put_dword(uint8_t *buf, unsigned word, uint32_t value) { pci_put32(buf + word * 2, value); }

/* ATA's strings: padded with spaces, the first of two characters in the upper byte. */
static void put_string(uint8_t *buf, unsigned word, unsigned words, const char *s)
{
	size_t len = strlen(s);

	for (unsigned i = 0; i < words * 2; i++)
		buf[word * 2 + (i ^ 1)] = i < len ? (uint8_t)s[i] : ' ';
}

/* Word 255: a signature, and what makes the sum of all bytes 0. */
static void put_checksum(uint8_t *buf)
{
	uint8_t sum = 0;

	buf[510] = 0xa5;
	for (unsigned i = 0; i < 511; i++)
		sum = (uint8_t)(sum + buf[i]);
	buf[511] = (uint8_t)-sum;
}

/* Words 62 to 68, 80 to 93: what both kinds say of transfer modes and command sets. */
static void put_modes(const struct ata_drive *d, uint8_t *buf)
{
	uint8_t mode = d->transfer_mode;

	put_word(buf, 53, d->config.sata ? 0x07 : 0x03); /* words 54-58, 64-70 and, with Ultra DMA, 88 are valid */
	put_word(buf, 63, 0x07 | (mode >> 4 == 2 ? 0x100u << (mode & 7) : 0)); /* multiword DMA 0-2 */
	put_word(buf, 64, 0x03); /* PIO 3, 4 */
	for (unsigned word = 65; word <= 68; word++)
		put_word(buf, word, 120); /* ns a cycle */
	put_word(buf, 80, d->config.sata ? 0x1f0 : 0x70); /* ATA/ATAPI-4 to 6; to ACS */
	if (d->config.sata) {
		put_word(buf, 88, 0x7f | (mode >> 4 == 4 ? 0x100u << (mode & 7) : 0));
		/* 1.5 and 3 Gb/s, queued commands */
		put_word(buf, 76, 0x06 | (d->config.ops->queued_finished && !ata_is_packet(d) ? 0x100 : 0));
	} else {
		put_word(buf, 93, 0x600b); /* 80 wires; a jumper chose the device's number; diagnostics passed */
	}
}

void ata_identify_disk(const struct ata_drive *d, uint8_t *buf)
{
	uint64_t chs = d->sectors < CHS_SECTORS_MAX ? d->sectors : CHS_SECTORS_MAX;
	uint32_t cylinders = (uint32_t)(chs / (ATA_HEADS * ATA_SECTORS_PER_TRACK));
	uint32_t now_cylinders = (uint32_t)(chs / ((uint32_t)d->heads * d->sectors_per_track));
	bool trim = block_can_discard(d->config.block) && !block_readonly(d->config.block);

	if (now_cylinders > 65535)
		now_cylinders = 65535;
	memset(buf, 0, BLOCK_SECTOR);
	put_word(buf, 0, 0x0040); /* fixed */
	put_word(buf, 1, cylinders < CYLINDERS_MAX ? cylinders : CYLINDERS_MAX);
	put_word(buf, 3, ATA_HEADS);
	put_word(buf, 6, ATA_SECTORS_PER_TRACK);
	put_string(buf, 10, 10, d->config.serial ? d->config.serial : "");
	put_string(buf, 23, 4, FIRMWARE);
	put_string(buf, 27, 20, "Ringside disk");
	put_word(buf, 47, 0x8000 | ATA_MULTIPLE_MAX);
	put_word(buf, 49, 0x0f00); /* LBA, DMA, IORDY */
	put_word(buf, 50, 0x4000);
	put_word(buf, 54, now_cylinders);
	put_word(buf, 55, d->heads);
	put_word(buf, 56, d->sectors_per_track);
	put_dword(buf, 57, now_cylinders * d->heads * d->sectors_per_track);
	put_word(buf, 59, d->multiple ? 0x100u | d->multiple : 0);
	put_dword(buf, 60, d->sectors < LBA28_SECTORS_MAX ? (uint32_t)d->sectors : LBA28_SECTORS_MAX);
	put_modes(d, buf);
	/* SMART, power management, write cache, look-ahead; FLUSH CACHE (EXT), LBA48; logs, SMART logs, FUA */
	put_word(buf, 82, 0x0049 | (ata_has_cache(d) ? 0x20 : 0));
	put_word(buf, 83, 0x7400);
	put_word(buf, 84, 0x4061);
	put_word(buf, 85, (d->smart ? 0x01 : 0) | 0x08 | (d->write_cache ? 0x20 : 0) | (d->look_ahead ? 0x40 : 0));
	put_word(buf, 86, 0x3400);
	put_word(buf, 87, 0x4061);
	put_word(buf, 75, d->config.ops->queued_finished ? ATA_QUEUE_DEPTH - 1 : 0);
	put_dword(buf, 100, (uint32_t)d->sectors);
	put_dword(buf, 102, (uint32_t)(d->sectors >> 32));
	put_word(buf, 105, trim ? 8 : 0); /* blocks of ranges */
	put_word(buf, 106, 0x4000); /* a physical sector is a logical one */
	put_word(buf, 169, trim ? 1 : 0);
	put_word(buf, 217, 1); /* does not rotate */
	put_checksum(buf);
}

void ata_identify_packet(const struct ata_drive *d, uint8_t *buf)
{
	memset(buf, 0, BLOCK_SECTOR);
	put_word(buf, 0, 0x85c0); /* CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
	put_string(buf, 10, 10, d->config.serial ? d->config.serial : "");
	put_string(buf, 23, 4, FIRMWARE);
	put_string(buf, 27, 20, "Ringside CD-ROM");
	put_word(buf, 49, 0x0f00);
	put_word(buf, 50, 0x4000);
	put_modes(d, buf);
	put_word(buf, 82, 0x0218); /* DEVICE RESET, PACKET, power management */
	put_word(buf, 83, 0x4000);
	put_word(buf, 84, 0x4000);
	put_word(buf, 85, 0x0218);
	put_word(buf, 87, 0x4000);
	put_checksum(buf);
}

/* ---- logs ---- */

static void put_sum(uint8_t *buf)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 511; i++)
		sum = (uint8_t)(sum + buf[i]);
	buf[511] = (uint8_t)-sum;
}

/* The command that failed of those that were queued. */
static void queue_error_page(const struct ata_drive *d, uint8_t *buf)
{
	const struct ata_registers *r = &d->queue_error_regs;

	buf[0] = d->queue_error ? d->queue_error_tag : 0x80; /* 0x80: none that was queued */
	buf[2] = r->status;
	buf[3] = r->error;
	memcpy(buf + 4, r->lba, 3);
	buf[7] = r->device;
	memcpy(buf + 8, r->lba + 3, 3);
	buf[12] = r->count[0];
	buf[13] = r->count[1];
	put_sum(buf);
}

enum { LOG_DIRECTORY = 0x00, LOG_SUMMARY = 0x01, LOG_SELF_TEST = 0x06, LOG_QUEUE_ERROR = 0x10 };

bool ata_log_page(const struct ata_drive *d, uint8_t log, uint16_t page, uint8_t *buf)
{
	memset(buf, 0, BLOCK_SECTOR);
	if (page)
		return false;
	switch (log) {
	case LOG_DIRECTORY:
		put_word(buf, 0, 1); /* version; then each log's pages */
		if (d->config.ops->queued_finished)
			put_word(buf, LOG_QUEUE_ERROR, 1);
		return true;
	case LOG_QUEUE_ERROR:
		if (!d->config.ops->queued_finished)
			return false;
		queue_error_page(d, buf);
		return true;
	}
	return false;
}

/* ---- SMART ---- */

static const struct { uint8_t id, threshold; uint16_t flags; } attributes[] = {
	{0x01, 6, 0x0003},  /* read error rate */
	{0x05, 36, 0x0003}, /* reallocated sectors */
	{0x09, 0, 0x0003},  /* power-on hours */
	{0x0c, 0, 0x0003},  /* power cycles */
};

static void smart_data(uint8_t *buf, bool thresholds)
{
	memset(buf, 0, BLOCK_SECTOR);
	put_word(buf, 0, 1);
	for (unsigned i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
		uint8_t *p = buf + 2 + i * 12;

		p[0] = attributes[i].id;
		if (thresholds) {
			p[1] = attributes[i].threshold;
		} else {
			pci_put16(p + 1, attributes[i].flags);
			p[3] = p[4] = 100; /* as good as new, and never worse; the raw values are 0 */
		}
	}
	if (!thresholds) {
		buf[364] = 2; /* off-line collection: this many seconds */
		put_word(buf, 184, 0x0003); /* saves by itself, on command */
		buf[370] = 0x01; /* errors are logged: the log is empty */
		buf[372] = buf[373] = 1; /* minutes of self-tests */
		buf[367] = 0x11; /* EXECUTE OFF-LINE IMMEDIATE, self-tests */
	}
	put_sum(buf);
}

static bool smart_log(uint8_t log, uint8_t *buf)
{
	memset(buf, 0, BLOCK_SECTOR);
	switch (log) {
	case LOG_DIRECTORY:
		put_word(buf, 0, 1);
		put_word(buf, LOG_SUMMARY, 1);
		put_word(buf, LOG_SELF_TEST, 1);
		return true;
	case LOG_SUMMARY:
		buf[0] = 1;
		break;
	case LOG_SELF_TEST:
		put_word(buf, 0, 1);
		break;
	default:
		return false;
	}
	put_sum(buf);
	return true;
}

void ata_smart(struct ata_drive *d)
{
	struct ata_registers *r = &d->regs;
	bool ok = r->lba[1] == 0x4f && r->lba[2] == 0xc2 && (d->smart || r->feature[0] == 0xd8);

	switch (ok ? r->feature[0] : 0) {
	case 0xd0: /* READ DATA, READ THRESHOLDS */
	case 0xd1:
		smart_data(d->buffer, r->feature[0] == 0xd1);
		ata_send(d, BLOCK_SECTOR, BLOCK_SECTOR, true);
		return;
	case 0xd5: /* READ LOG */
		if (r->count[0] != 1 || !smart_log(r->lba[0], d->buffer))
			break;
		ata_send(d, BLOCK_SECTOR, BLOCK_SECTOR, true);
		return;
	case 0xd2: /* attribute autosave; save; EXECUTE OFF-LINE IMMEDIATE: it is done already */
	case 0xd3:
	case 0xd4:
		ata_finish(d, 0, true);
		return;
	case 0xd8:
	case 0xd9:
		d->smart = r->feature[0] == 0xd8;
		ata_finish(d, 0, true);
		return;
	case 0xda: /* RETURN STATUS: no threshold was exceeded, the registers stay */
		ata_finish(d, 0, true);
		return;
	}
	ata_finish(d, ATA_ERROR_ABRT, true);
}
