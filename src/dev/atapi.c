/*
 * The PACKET command of ATA drives: its phases. What a packet means is in cdrom.c. See ata.h.
 *
 * Source: ATA/ATAPI-6 (T13/1410D), sections 8.23 and 9.8.
 */
#include "dev/ata.h"
#include "dev/cdrom.h"
#include "util/log.h"

/* The interrupt reason, in the count register */
#define REASON_CD 0x01 /* a command, not data */
#define REASON_IO 0x02 /* to the host */

#define BYTES_MAX 0xfffeu

static void finish_with(struct ata_drive *d, const struct cdrom_result *r)
{
	d->regs.count[0] = REASON_IO | REASON_CD;
	if (r->key)
		LOG(LOG_ATA, "packet: sense %x/%02x/%02x", r->key, r->asc, r->ascq);
	ata_finish(d, r->key ? (uint8_t)(r->key << 4 | ATA_ERROR_ABRT) : 0, true);
}

void atapi_finish(struct ata_drive *d, int result)
{
	struct cdrom_result r = {0};

	if (result < 0)
		cdrom_read_failed(d->cdrom, result, &r);
	finish_with(d, &r);
}

void atapi_drq(struct ata_drive *d, uint32_t len)
{
	if (d->wants_packet) {
		d->regs.count[0] = REASON_CD;
		return;
	}
	d->regs.count[0] = d->to_host ? REASON_IO : 0;
	d->regs.lba[1] = (uint8_t)len;
	d->regs.lba[2] = (uint8_t)(len >> 8);
}

static void list_received(struct ata_drive *d)
{
	struct cdrom_result r;

	cdrom_list(d->cdrom, d->buffer, d->filled, &r);
	d->received = NULL;
	finish_with(d, &r);
}

/* Bytes of a DRQ block, as the host limits it; even, unless it is the last. */
static uint32_t byte_limit(const struct ata_drive *d, uint32_t len)
{
	uint32_t limit = d->regs.lba[1] | (uint32_t)d->regs.lba[2] << 8;

	if (limit == 0 || limit > BYTES_MAX)
		limit = BYTES_MAX;
	if (limit < len && (limit & 1))
		limit = limit > 1 ? limit - 1 : 2;
	return limit;
}

void atapi_run(struct ata_drive *d, const uint8_t packet[ATA_PACKET_SIZE])
{
	bool pio = !(d->regs.feature[0] & 1);
	uint8_t cdb[CDROM_CDB_SIZE];
	struct cdrom_result r;

	_Static_assert(ATA_PACKET_SIZE == CDROM_CDB_SIZE && CDROM_BUFFER_SIZE <= ATA_BUFFER_SIZE, "sizes");
	for (unsigned i = 0; i < ATA_PACKET_SIZE; i++)
		cdb[i] = packet[i]; /* it may lie in the buffer */
	d->wants_packet = false;
	d->received = NULL;
	LOG(LOG_ATA, "packet %02x %02x %02x%02x%02x%02x %02x%02x%02x%02x %02x %02x", cdb[0], cdb[1], cdb[2], cdb[3],
	    cdb[4], cdb[5], cdb[6], cdb[7], cdb[8], cdb[9], cdb[10], cdb[11]);
	cdrom_command(d->cdrom, cdb, d->buffer, &r);
	switch (r.data) {
	case CDROM_NONE:
		finish_with(d, &r);
		break;
	case CDROM_REPLY:
		ata_send(d, r.len, byte_limit(d, r.len), pio);
		break;
	case CDROM_READ:
		ata_move_disk(d, true, r.offset, r.len, byte_limit(d, r.len), pio);
		break;
	case CDROM_LIST:
		ata_receive(d, r.len, byte_limit(d, r.len), pio, list_received);
		break;
	}
}

static void packet_received(struct ata_drive *d) { atapi_run(d, d->buffer); }

void atapi_packet(struct ata_drive *d)
{
	d->wants_packet = true;
	ata_receive(d, ATA_PACKET_SIZE, ATA_PACKET_SIZE, true, packet_received);
}
