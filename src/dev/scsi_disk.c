/*
 * A disk's SCSI commands. See scsi_disk.h.
 *
 * Not done: reservations that last, WRITE SAME of other than zeroes, VERIFY with a comparison, protection information.
 */
#include "dev/scsi_disk.h"

#include <errno.h>
#include <string.h>

#include "util/big_endian.h"

enum {
	TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, READ_6 = 0x08, WRITE_6 = 0x0a, INQUIRY = 0x12, MODE_SELECT_6 = 0x15,
	RESERVE_6 = 0x16, RELEASE_6 = 0x17, MODE_SENSE_6 = 0x1a, START_STOP_UNIT = 0x1b, PREVENT_ALLOW = 0x1e,
	READ_CAPACITY_10 = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a, SEEK_10 = 0x2b, WRITE_VERIFY_10 = 0x2e, VERIFY_10 = 0x2f,
	SYNCHRONIZE_10 = 0x35, WRITE_SAME_10 = 0x41, UNMAP = 0x42, MODE_SELECT_10 = 0x55, MODE_SENSE_10 = 0x5a,
	READ_16 = 0x88, WRITE_16 = 0x8a, WRITE_VERIFY_16 = 0x8e, VERIFY_16 = 0x8f, SYNCHRONIZE_16 = 0x91,
	WRITE_SAME_16 = 0x93, SERVICE_IN_16 = 0x9e, REPORT_LUNS = 0xa0, READ_12 = 0xa8, WRITE_12 = 0xaa,
};
enum { READ_CAPACITY_16 = 0x10 };
enum { VPD_SUPPORTED = 0x00, VPD_SERIAL = 0x80, VPD_ID = 0x83, VPD_LIMITS = 0xb0, VPD_KIND = 0xb1, VPD_PROVISIONING = 0xb2 };
enum { PAGE_CACHING = 0x08, PAGE_CONTROL = 0x0a, PAGE_ALL = 0x3f };

#define SECTOR_SHIFT 9
#define PHYSICAL_EXPONENT 3
#define MAX_SECTORS 0xffffu           /* of a transfer */
#define MAX_UNMAP_SECTORS 0x400000u   /* of one range, and of WRITE SAME: 2 GiB */
#define FUA 0x08                      /* byte 1 of reads and writes */
#define WRITE_SAME_UNMAP 0x08
#define WRITE_SAME_NDOB 0x01

static uint64_t sectors(const struct scsi_disk *d) { return block_size(d->block) >> SECTOR_SHIFT; }

/* ---- results ---- */

static void fail(struct scsi_result *r, uint8_t key, uint8_t asc, uint8_t ascq)
{
	*r = (struct scsi_result){.key = key, .asc = asc, .ascq = ascq};
}

static void bad_field(struct scsi_result *r) { fail(r, SCSI_KEY_ILLEGAL_REQUEST, 0x24, 0); }
static void bad_list(struct scsi_result *r) { fail(r, SCSI_KEY_ILLEGAL_REQUEST, 0x26, 0); }
static void bad_address(struct scsi_result *r) { fail(r, SCSI_KEY_ILLEGAL_REQUEST, 0x21, 0); }

static void reply(struct scsi_result *r, uint32_t len, uint32_t allocation)
{
	r->what = SCSI_REPLY;
	r->len = len < allocation ? len : allocation;
}

static void want_list(struct scsi_result *r, uint32_t len)
{
	if (len > SCSI_BUFFER_SIZE) {
		bad_field(r);
		return;
	}
	r->what = len ? SCSI_LIST : SCSI_NOTHING;
	r->len = len;
}

static bool inside(const struct scsi_disk *d, uint64_t lba, uint64_t count)
{
	return lba <= sectors(d) && count <= sectors(d) - lba;
}

/* One range of the disk; nothing to do when it is empty. */
static void start(const struct scsi_disk *d, struct scsi_result *r, enum block_op op, uint64_t lba, uint64_t count)
{
	if (!inside(d, lba, count)) {
		bad_address(r);
		return;
	}
	if (op != BLOCK_READ && block_readonly(d->block)) {
		fail(r, SCSI_KEY_DATA_PROTECT, 0x27, 0);
		return;
	}
	if (!count)
		return;
	r->what = SCSI_BLOCK;
	r->op = op;
	r->range[0].offset = lba << SECTOR_SHIFT;
	r->range[0].len = count << SECTOR_SHIFT;
	r->ranges = 1;
}

void scsi_disk_failed(int error, struct scsi_result *r)
{
	switch (error) {
	case -ENOSPC:
		fail(r, SCSI_KEY_DATA_PROTECT, 0x27, 7); /* space allocation failed write protect */
		break;
	case -EROFS:
		fail(r, SCSI_KEY_DATA_PROTECT, 0x27, 0);
		break;
	case -ENOMEM:
		fail(r, SCSI_KEY_HARDWARE_ERROR, 0x44, 0); /* internal target failure */
		break;
	default:
		fail(r, SCSI_KEY_MEDIUM_ERROR, 0x0c, 0);
	}
}

void scsi_sense(const struct scsi_result *r, uint8_t buffer[18])
{
	memset(buffer, 0, 18);
	buffer[0] = 0x70; /* current, fixed format */
	buffer[2] = r->key;
	buffer[7] = 10;
	buffer[12] = r->asc;
	buffer[13] = r->ascq;
}

/* ---- who it is ---- */

static uint32_t standard_inquiry(uint8_t *b)
{
	static const uint16_t standards[] = {0x00a0, 0x0460, 0x04c0}; /* SAM-5, SPC-4, SBC-3 */
	const uint32_t len = 74;

	memset(b, 0, len);
	b[2] = 6;    /* SPC-4 */
	b[3] = 0x12; /* HISUP, response data format 2 */
	b[4] = (uint8_t)(len - 5);
	b[7] = 0x02; /* CMDQUE */
	memcpy(b + 8, "RINGSIDERINGSIDE DISK   1.0 ", 28);
	for (unsigned n = 0; n < 3; n++)
		put_be16(b + 58 + 2 * n, standards[n]);
	return len;
}

static uint32_t vpd_limits(const struct scsi_disk *d, uint8_t *b)
{
	b[4] = 1; /* WSNZ: WRITE SAME of no blocks means none, not all */
	put_be16(b + 6, 1u << PHYSICAL_EXPONENT);
	put_be32(b + 8, MAX_SECTORS);
	if (block_can_discard(d->block)) {
		put_be32(b + 20, MAX_UNMAP_SECTORS);
		put_be32(b + 24, SCSI_RANGES_MAX);
		put_be32(b + 28, 1u << PHYSICAL_EXPONENT);
	}
	put_be64(b + 36, MAX_UNMAP_SECTORS);
	return 64;
}

/* A page of vital product data; 0: there is none such. */
static uint32_t vpd_page(const struct scsi_disk *d, uint8_t page, uint8_t *b)
{
	static const uint8_t pages[] = {VPD_SUPPORTED, VPD_SERIAL, VPD_ID, VPD_LIMITS, VPD_KIND, VPD_PROVISIONING};
	const char *serial = d->serial ? d->serial : "";
	uint32_t len = (uint32_t)strlen(serial);

	switch (page) {
	case VPD_SUPPORTED:
		memcpy(b + 4, pages, sizeof pages);
		return 4 + sizeof pages;
	case VPD_SERIAL:
		memcpy(b + 4, serial, len);
		return 4 + len;
	case VPD_ID:
		b[4] = 2; /* ASCII */
		b[5] = 1; /* T10 vendor identification */
		b[7] = (uint8_t)(8 + len);
		memcpy(b + 8, "RINGSIDE", 8);
		memcpy(b + 16, serial, len);
		return 16 + len;
	case VPD_LIMITS:
		return vpd_limits(d, b);
	case VPD_KIND:
		put_be16(b + 4, 1); /* it does not rotate */
		return 64;
	case VPD_PROVISIONING:
		if (block_can_discard(d->block)) {
			b[5] = 0xc0; /* UNMAP, WRITE SAME (16) with UNMAP */
			b[6] = 2;    /* thin */
		}
		return 8;
	}
	return 0;
}

static void inquiry(const struct scsi_disk *d, const uint8_t *cdb, uint8_t *b, struct scsi_result *r)
{
	uint32_t len;

	if (!(cdb[1] & 1)) {
		if (cdb[2])
			bad_field(r);
		else
			reply(r, standard_inquiry(b), be16(cdb + 3));
		return;
	}
	memset(b, 0, 256);
	if (!(len = vpd_page(d, cdb[2], b))) {
		bad_field(r);
		return;
	}
	b[1] = cdb[2];
	put_be16(b + 2, len - 4);
	reply(r, len, be16(cdb + 3));
}

static void capacity_10(const struct scsi_disk *d, uint8_t *b, struct scsi_result *r)
{
	uint64_t last = sectors(d) - 1;

	put_be32(b, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
	put_be32(b + 4, BLOCK_SECTOR);
	reply(r, 8, 8);
}

static void capacity_16(const struct scsi_disk *d, const uint8_t *cdb, uint8_t *b, struct scsi_result *r)
{
	memset(b, 0, 32);
	put_be64(b, sectors(d) - 1);
	put_be32(b + 8, BLOCK_SECTOR);
	b[13] = PHYSICAL_EXPONENT;
	b[14] = block_can_discard(d->block) ? 0x80 : 0; /* LBPME; what is unmapped need not read as zeroes */
	reply(r, 32, be32(cdb + 10));
}

/* ---- modes ---- */

/* Mode page `page`, with what can be changed (nothing) or what is. 0: no such page. */
static uint32_t mode_page(const struct scsi_disk *d, uint8_t page, bool changeable, uint8_t *b)
{
	uint32_t len = page == PAGE_CACHING ? 20 : page == PAGE_CONTROL ? 12 : 0;

	if (!len)
		return 0;
	memset(b, 0, len);
	b[0] = page;
	b[1] = (uint8_t)(len - 2);
	if (page == PAGE_CACHING && !changeable && block_write_cache(d->block))
		b[2] = 0x04; /* WCE */
	return len;
}

static void mode_sense(const struct scsi_disk *d, const uint8_t *cdb, uint8_t *b, struct scsi_result *r)
{
	bool ten = cdb[0] == MODE_SENSE_10, changeable = cdb[2] >> 6 == 1;
	uint8_t page = cdb[2] & 0x3f, specific = (uint8_t)(0x10 | (block_readonly(d->block) ? 0x80 : 0)); /* DPOFUA, WP */
	uint32_t len = ten ? 8 : 4, header = len, before;

	if (cdb[2] >> 6 == 3) {
		fail(r, SCSI_KEY_ILLEGAL_REQUEST, 0x39, 0); /* saving is not supported */
		return;
	}
	memset(b, 0, 16);
	if (!(cdb[1] & 8)) { /* block descriptor wanted */
		put_be32(b + len, sectors(d) > UINT32_MAX ? UINT32_MAX : (uint32_t)sectors(d));
		put_be32(b + len + 4, BLOCK_SECTOR);
		len += 8;
	}
	before = len;
	if (page == PAGE_CACHING || page == PAGE_ALL)
		len += mode_page(d, PAGE_CACHING, changeable, b + len);
	if (page == PAGE_CONTROL || page == PAGE_ALL)
		len += mode_page(d, PAGE_CONTROL, changeable, b + len);
	if (len == before) {
		bad_field(r);
		return;
	}
	if (ten) {
		put_be16(b, len - 2);
		b[3] = specific;
		b[7] = (uint8_t)(before - header);
	} else {
		b[0] = (uint8_t)(len - 1);
		b[2] = specific;
		b[3] = (uint8_t)(before - header);
	}
	reply(r, len, ten ? be16(cdb + 7) : cdb[4]);
}

/* Nothing can be changed: what is there may be written again. */
static void mode_select(const struct scsi_disk *d, const uint8_t *cdb, const uint8_t *list, uint32_t len,
			struct scsi_result *r)
{
	uint32_t at = cdb[0] == MODE_SELECT_10 ? 8 : 4, descriptors;
	uint8_t now[20];

	if (len < at) {
		bad_list(r);
		return;
	}
	descriptors = at == 8 ? be16(list + 6) : list[3];
	for (at += descriptors; at + 2 <= len; at += list[at + 1] + 2u) {
		uint32_t there = mode_page(d, list[at] & 0x3f, false, now);

		if (!there || list[at + 1] + 2u != there || at + there > len ||
		    memcmp(list + at + 2, now + 2, there - 2) != 0) {
			bad_list(r);
			return;
		}
	}
}

/* ---- data ---- */

static void read_write(const struct scsi_disk *d, const uint8_t *cdb, struct scsi_result *r)
{
	enum block_op op = BLOCK_READ;
	uint64_t lba, count;

	switch (cdb[0]) {
	case WRITE_6: case WRITE_10: case WRITE_12: case WRITE_16: case WRITE_VERIFY_10: case WRITE_VERIFY_16:
		op = BLOCK_WRITE;
	}
	switch (cdb[0] >> 5) {
	case 0:
		lba = be32(cdb) & 0x1fffff;
		count = cdb[4] ? cdb[4] : 256;
		break;
	case 1:
		lba = be32(cdb + 2);
		count = be16(cdb + 7);
		break;
	case 4:
		lba = be64(cdb + 2);
		count = be32(cdb + 10);
		break;
	default:
		lba = be32(cdb + 2);
		count = be32(cdb + 6);
	}
	if (count > MAX_SECTORS && cdb[0] >> 5 != 1) {
		bad_field(r);
		return;
	}
	start(d, r, op, lba, count);
	r->fua = cdb[0] >> 5 && op == BLOCK_WRITE && (cdb[1] & FUA);
}

static void verify(const struct scsi_disk *d, const uint8_t *cdb, struct scsi_result *r)
{
	bool long_form = cdb[0] == VERIFY_16;

	if (cdb[1] & 6) /* BYTCHK: a comparison */
		bad_field(r);
	else if (!inside(d, long_form ? be64(cdb + 2) : be32(cdb + 2), long_form ? be32(cdb + 10) : be16(cdb + 7)))
		bad_address(r);
}

static void write_same(const struct scsi_disk *d, const uint8_t *cdb, struct scsi_result *r)
{
	bool long_form = cdb[0] == WRITE_SAME_16;
	uint64_t lba = long_form ? be64(cdb + 2) : be32(cdb + 2);
	uint64_t count = long_form ? be32(cdb + 10) : be16(cdb + 7);

	if ((cdb[1] & 0xe6) || (!long_form && (cdb[1] & WRITE_SAME_NDOB)) || count == 0 || count > MAX_UNMAP_SECTORS) {
		bad_field(r);
		return;
	}
	start(d, r, BLOCK_WRITE_ZEROES, lba, count);
	r->may_unmap = cdb[1] & WRITE_SAME_UNMAP;
	if (r->what == SCSI_BLOCK && !(cdb[1] & WRITE_SAME_NDOB)) {
		r->what = SCSI_LIST; /* the block that it is to be filled with */
		r->len = BLOCK_SECTOR;
	}
}

static void write_same_list(const struct scsi_disk *d, const uint8_t *cdb, const uint8_t *list, uint32_t len,
			    struct scsi_result *r)
{
	write_same(d, cdb, r);
	r->what = SCSI_BLOCK;
	for (uint32_t n = 0; n < len; n++)
		if (list[n]) {
			bad_field(r);
			return;
		}
	if (len < BLOCK_SECTOR)
		bad_list(r);
}

static void unmap_list(const struct scsi_disk *d, const uint8_t *list, uint32_t len, struct scsi_result *r)
{
	uint32_t bytes = len < 8 ? 0 : be16(list + 2);

	if (len < 8 || bytes > len - 8 || bytes / 16 > SCSI_RANGES_MAX) {
		bad_list(r);
		return;
	}
	if (block_readonly(d->block)) {
		fail(r, SCSI_KEY_DATA_PROTECT, 0x27, 0);
		return;
	}
	for (const uint8_t *p = list + 8; bytes >= 16; p += 16, bytes -= 16) {
		uint64_t lba = be64(p), count = be32(p + 8);

		if (!inside(d, lba, count)) {
			bad_address(r);
			return;
		}
		if (count > MAX_UNMAP_SECTORS) {
			bad_list(r);
			return;
		}
		if (!count)
			continue;
		r->range[r->ranges].offset = lba << SECTOR_SHIFT;
		r->range[r->ranges++].len = count << SECTOR_SHIFT;
	}
	r->what = r->ranges ? SCSI_BLOCK : SCSI_NOTHING;
	r->op = BLOCK_DISCARD;
}

/* ---- commands ---- */

static void report_luns(const uint8_t *cdb, uint8_t *b, struct scsi_result *r)
{
	memset(b, 0, 16);
	put_be32(b, 8); /* one, number 0 */
	reply(r, 16, be32(cdb + 6));
}

void scsi_disk_command(const struct scsi_disk *d, const uint8_t cdb[SCSI_CDB_SIZE], uint8_t *b, struct scsi_result *r)
{
	*r = (struct scsi_result){0};
	switch (cdb[0]) {
	case TEST_UNIT_READY: case START_STOP_UNIT: case PREVENT_ALLOW: case RESERVE_6: case RELEASE_6: case SEEK_10:
		return;
	case REQUEST_SENSE:
		scsi_sense(r, b); /* it went with the status */
		reply(r, 18, cdb[4]);
		return;
	case INQUIRY:
		inquiry(d, cdb, b, r);
		return;
	case REPORT_LUNS:
		report_luns(cdb, b, r);
		return;
	case MODE_SENSE_6: case MODE_SENSE_10:
		mode_sense(d, cdb, b, r);
		return;
	case MODE_SELECT_6:
		want_list(r, cdb[4]);
		return;
	case MODE_SELECT_10: case UNMAP:
		want_list(r, be16(cdb + 7));
		return;
	case READ_CAPACITY_10:
		capacity_10(d, b, r);
		return;
	case READ_6: case READ_10: case READ_12: case READ_16: case WRITE_6: case WRITE_10: case WRITE_12: case WRITE_16:
	case WRITE_VERIFY_10: case WRITE_VERIFY_16:
		read_write(d, cdb, r);
		return;
	case VERIFY_10: case VERIFY_16:
		verify(d, cdb, r);
		return;
	case SYNCHRONIZE_10: case SYNCHRONIZE_16:
		r->what = SCSI_BLOCK;
		r->op = BLOCK_FLUSH;
		return;
	case WRITE_SAME_10: case WRITE_SAME_16:
		write_same(d, cdb, r);
		return;
	case SERVICE_IN_16:
		if ((cdb[1] & 0x1f) == READ_CAPACITY_16) {
			capacity_16(d, cdb, b, r);
			return;
		}
		bad_field(r);
		return;
	}
	fail(r, SCSI_KEY_ILLEGAL_REQUEST, 0x20, 0); /* no such command */
}

void scsi_disk_list(const struct scsi_disk *d, const uint8_t cdb[SCSI_CDB_SIZE], const uint8_t *list, uint32_t len,
		    struct scsi_result *r)
{
	*r = (struct scsi_result){0};
	switch (cdb[0]) {
	case UNMAP:
		unmap_list(d, list, len, r);
		break;
	case WRITE_SAME_10: case WRITE_SAME_16:
		write_same_list(d, cdb, list, len, r);
		break;
	default:
		mode_select(d, cdb, list, len, r);
	}
}
