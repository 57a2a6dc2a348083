/*
 * MMC commands of a CD or DVD drive. See cdrom.h.
 *
 * READ CD gives user data only: images have no sync patterns, headers or correction codes, and there is no audio. The
 * tray opens and closes at the guest's command; the disc in it stays the same.
 */
#include "dev/cdrom.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/big_endian.h"

#define CD_SECTORS_MAX (80u * 60 * 75) /* a longer image is a DVD */
#define FRAMES_LEAD_IN 150u            /* MSF addresses begin two seconds before LBA 0 */

#define PROFILE_CD_ROM 0x0008
#define PROFILE_DVD_ROM 0x0010

struct cdrom {
	struct block *block;
	const char *serial;
	uint32_t sectors; /* 0: no disc */
	bool open, locked;
	/* What the next command is to be told: one or both, in this order. */
	bool attention_reset, attention_medium;
	uint8_t event; /* for GET EVENT STATUS NOTIFICATION: an enum below */
	uint8_t key, asc, ascq; /* of the last command */
	uint16_t list_op; /* whose parameter list is awaited */
};

enum { EVENT_NONE, EVENT_EJECT, EVENT_NEW_MEDIA, EVENT_REMOVED };

/* ---- results ---- */

static void fail(struct cdrom *c, struct cdrom_result *r, uint8_t key, uint8_t asc, uint8_t ascq)
{
	*r = (struct cdrom_result){.key = key, .asc = asc, .ascq = ascq};
	c->key = key;
	c->asc = asc;
	c->ascq = ascq;
}

static void invalid_field(struct cdrom *c, struct cdrom_result *r) { fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x24, 0); }

static void reply(struct cdrom_result *r, uint32_t len, uint32_t allocated)
{
	r->data = CDROM_REPLY;
	r->len = len < allocated ? len : allocated;
	if (!r->len)
		r->data = CDROM_NONE;
}

static bool disc_in(const struct cdrom *c) { return c->sectors && !c->open; }

static bool is_dvd(const struct cdrom *c) { return c->sectors > CD_SECTORS_MAX; }

static unsigned profile(const struct cdrom *c)
{
	return !disc_in(c) ? 0 : is_dvd(c) ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
}

static void put_msf(uint8_t *p, uint32_t lba)
{
	lba += FRAMES_LEAD_IN;
	p[0] = 0;
	p[1] = (uint8_t)(lba / 75 / 60);
	p[2] = (uint8_t)(lba / 75 % 60);
	p[3] = (uint8_t)(lba % 75);
}

static void put_address(uint8_t *p, uint32_t lba, bool msf)
{
	if (msf)
		put_msf(p, lba);
	else
		put_be32(p, lba);
}

/* ---- what the drive is ---- */

static void put_text(uint8_t *p, unsigned len, const char *s)
{
	memset(p, ' ', len);
	for (unsigned i = 0; i < len && s[i]; i++)
		p[i] = (uint8_t)s[i];
}

static void inquiry(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	uint32_t allocated = be16(cdb + 3);

	b[0] = 0x05; /* CD/DVD */
	if (cdb[1] & 1) { /* vital product data */
		const char *serial = c->serial ? c->serial : "";
		unsigned n = (unsigned)strnlen(serial, 20);

		b[1] = cdb[2];
		switch (cdb[2]) {
		case 0x00:
			b[3] = 3;
			b[5] = 0x80;
			b[6] = 0x83;
			reply(r, 7, allocated);
			return;
		case 0x80:
			b[3] = (uint8_t)n;
			memcpy(b + 4, serial, n);
			reply(r, 4 + n, allocated);
			return;
		case 0x83: /* one designator: T10 vendor ID, ASCII */
			b[3] = (uint8_t)(4 + 8 + n);
			b[4] = 0x02;
			b[5] = 0x01;
			b[7] = (uint8_t)(8 + n);
			put_text(b + 8, 8, "RINGSIDE");
			memcpy(b + 16, serial, n);
			reply(r, 16 + n, allocated);
			return;
		}
		invalid_field(c, r);
		return;
	}
	if (cdb[2]) {
		invalid_field(c, r);
		return;
	}
	b[1] = 0x80; /* removable */
	b[2] = 0x05; /* SPC-3 */
	b[3] = 0x02;
	b[4] = 36 - 5;
	put_text(b + 8, 8, "RINGSIDE");
	put_text(b + 16, 16, "CD-ROM");
	put_text(b + 32, 4, "1.0");
	reply(r, 36, allocated);
}

static void request_sense(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	if (!c->key && (c->attention_reset || c->attention_medium)) {
		c->key = CDROM_KEY_UNIT_ATTENTION;
		c->asc = c->attention_reset ? 0x29 : 0x28;
		c->ascq = 0;
		if (c->attention_reset)
			c->attention_reset = false;
		else
			c->attention_medium = false;
	}
	cdrom_sense(c, b);
	c->key = c->asc = c->ascq = 0;
	reply(r, 18, cdb[4]);
}

/* ---- mode pages ---- */

static const uint8_t page_recovery[12] = {0x01, 0x0a, 0x80, 0x05};
static const uint8_t page_audio[16] = {0x0e, 0x0e, 0x04, 0, 0, 0, 0, 0, 1, 0xff, 2, 0xff};
static const uint8_t page_capabilities[32] = {
	0x2a, 0x1e,
	0x08, 0x00, /* reads DVD-ROM; writes nothing */
	0x00, 0x00, /* no audio, no multi-session, no raw reads */
	0x29,       /* locks, ejects, a tray */
	0x00,
	0x0b, 0x00, 0x00, 0x00, /* 16 times 176 kB/s; no volume levels */
	0x00, 0x80, /* KiB of buffer */
	0x0b, 0x00,
};

static unsigned put_page(uint8_t *p, const uint8_t *page, unsigned size, unsigned control)
{
	memcpy(p, page, size);
	if (control == 1) /* what can be changed: nothing */
		memset(p + 2, 0, size - 2);
	return size;
}

static void mode_sense(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	bool ten = cdb[0] == 0x5a;
	unsigned control = cdb[2] >> 6, code = cdb[2] & 0x3f, header = ten ? 8 : 4, n = header;

	if (control == 3) {
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x39, 0); /* saved pages: there are none */
		return;
	}
	if (code == 0x01 || code == 0x3f)
		n += put_page(b + n, page_recovery, sizeof page_recovery, control);
	if (code == 0x0e || code == 0x3f)
		n += put_page(b + n, page_audio, sizeof page_audio, control);
	if (code == 0x2a || code == 0x3f) {
		unsigned at = n;

		n += put_page(b + n, page_capabilities, sizeof page_capabilities, control);
		if (control != 1 && c->locked)
			b[at + 6] |= 0x02;
	}
	if (n == header) {
		invalid_field(c, r);
		return;
	}
	uint8_t medium = c->open ? 0x71 : !c->sectors ? 0x70 : 0x01;
	if (ten) {
		put_be16(b, n - 2);
		b[2] = medium;
		reply(r, n, be16(cdb + 7));
	} else {
		b[0] = (uint8_t)(n - 1);
		b[1] = medium;
		reply(r, n, cdb[4]);
	}
}

static void mode_select(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	uint32_t len = cdb[0] == 0x55 ? be16(cdb + 7) : cdb[4];

	(void)b;
	if (cdb[1] & 1) { /* to save them */
		invalid_field(c, r);
		return;
	}
	if (len > CDROM_BUFFER_SIZE) {
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x1a, 0);
		return;
	}
	c->list_op = cdb[0];
	r->data = len ? CDROM_LIST : CDROM_NONE;
	r->len = len;
}

/* Pages that the drive has are taken; their values stay, as MODE SENSE says. */
void cdrom_list(struct cdrom *c, const uint8_t *list, uint32_t len, struct cdrom_result *r)
{
	uint32_t at = c->list_op == 0x55 ? 8 : 4;

	*r = (struct cdrom_result){0};
	c->key = c->asc = c->ascq = 0;
	if (len >= at)
		at += c->list_op == 0x55 ? be16(list + 6) : list[3]; /* block descriptors */
	while (at < len) {
		uint8_t code = list[at] & 0x3f;

		if (code != 0x01 && code != 0x0e && code != 0x2a) {
			fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x26, 0);
			return;
		}
		if (len - at < 2 || len - at < 2u + list[at + 1]) {
			fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x1a, 0);
			return;
		}
		at += 2 + list[at + 1];
	}
}

/* ---- GET CONFIGURATION ---- */

/* One feature: header, then `n` bytes of data. */
static uint8_t *put_feature(uint8_t *p, unsigned code, unsigned version, bool persistent, bool current, unsigned n)
{
	put_be16(p, code);
	p[2] = (uint8_t)(version << 2 | persistent << 1 | current);
	p[3] = (uint8_t)n;
	return p + 4;
}

static void get_configuration(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	unsigned kind = cdb[1] & 3, start = be16(cdb + 2);
	bool cd = profile(c) == PROFILE_CD_ROM, dvd = profile(c) == PROFILE_DVD_ROM;
	static const uint16_t codes[] = {0x0000, 0x0001, 0x0002, 0x0003, 0x0010, 0x001e, 0x001f, 0x0105, 0x0108};
	uint8_t *p = b + 8;

	if (kind == 3) {
		invalid_field(c, r);
		return;
	}
	for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		bool current = codes[i] == 0x10 ? disc_in(c) : codes[i] == 0x1e ? cd : codes[i] == 0x1f ? dvd : true;
		uint8_t *q = p;

		if (kind == 2 ? codes[i] != start : codes[i] < start || (kind == 1 && !current))
			continue;
		switch (codes[i]) {
		case 0x0000: /* profiles */
			q = put_feature(p, 0x0000, 0, true, true, 8);
			put_be16(q, PROFILE_DVD_ROM);
			q[2] = dvd;
			put_be16(q + 4, PROFILE_CD_ROM);
			q[6] = cd;
			p = q + 8;
			break;
		case 0x0001: /* core: ATAPI */
			q = put_feature(p, 0x0001, 2, true, true, 8);
			put_be32(q, 2);
			q[4] = 0x01; /* INQUIRY's new fields are valid */
			p = q + 8;
			break;
		case 0x0002: /* morphing: events are polled */
			p = put_feature(p, 0x0002, 1, true, true, 4) + 4;
			p[-4] = 0x02;
			break;
		case 0x0003: /* removable medium: a tray, ejects, locks */
			p = put_feature(p, 0x0003, 0, true, true, 4) + 4;
			p[-4] = 0x29;
			break;
		case 0x0010: /* random readable */
			q = put_feature(p, 0x0010, 0, false, current, 8);
			put_be32(q, CDROM_SECTOR);
			put_be16(q + 4, 16);
			p = q + 8;
			break;
		case 0x001e: /* CD read */
			p = put_feature(p, 0x001e, 2, false, current, 4) + 4;
			break;
		case 0x001f: /* DVD read */
			p = put_feature(p, 0x001f, 0, false, current, 0);
			break;
		case 0x0105: /* timeout */
			p = put_feature(p, 0x0105, 0, true, true, 0);
			break;
		case 0x0108: /* serial number: of whole words */
			q = put_feature(p, 0x0108, 0, true, true, 20);
			put_text(q, 20, c->serial ? c->serial : "");
			p = q + 20;
			break;
		}
	}
	put_be32(b, (uint32_t)(p - b) - 4);
	put_be16(b + 6, profile(c));
	reply(r, (uint32_t)(p - b), be16(cdb + 7));
}

/* ---- events, tray ---- */

static void get_event(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	if (!(cdb[1] & 1)) { /* only polled */
		invalid_field(c, r);
		return;
	}
	b[3] = 0x10; /* media events are all there are */
	if (!(cdb[4] & 0x10)) {
		put_be16(b, 2);
		b[2] = 0x80;
		reply(r, 4, be16(cdb + 7));
		return;
	}
	put_be16(b, 6);
	b[2] = 0x04;
	b[4] = c->event;
	b[5] = (uint8_t)((disc_in(c) ? 0x02 : 0) | (c->open ? 0x01 : 0));
	c->event = EVENT_NONE;
	reply(r, 8, be16(cdb + 7));
}

static void start_stop(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	bool start = cdb[4] & 1, load_eject = cdb[4] & 2;

	(void)b;
	if (cdb[4] >> 4 || !load_eject) /* power conditions, spinning: nothing to do */
		return;
	if (!start && !c->open) {
		if (c->locked) {
			fail(c, r, c->sectors ? CDROM_KEY_ILLEGAL_REQUEST : CDROM_KEY_NOT_READY, 0x53, 0x02);
			return;
		}
		c->open = true;
		c->event = c->sectors ? EVENT_REMOVED : EVENT_NONE;
	} else if (start && c->open) {
		c->open = false;
		if (c->sectors) {
			c->attention_medium = true;
			c->event = EVENT_NEW_MEDIA;
		}
	}
}

static void prevent_allow(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)b;
	(void)r;
	c->locked = cdb[4] & 1;
}

static void mechanism_status(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	b[1] = c->open ? 0x10 : 0;
	b[5] = 1; /* slots: one, and no table of them */
	reply(r, 8, be16(cdb + 8));
}

/* ---- the disc ---- */

static void test_unit_ready(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)c;
	(void)cdb;
	(void)b;
	(void)r; /* a disc is in, or it would not have come here */
}

static void read_capacity(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)cdb;
	put_be32(b, c->sectors - 1);
	put_be32(b + 4, CDROM_SECTOR);
	reply(r, 8, 8);
}

static void read_range(struct cdrom *c, uint32_t lba, uint32_t count, struct cdrom_result *r)
{
	if (lba > c->sectors || count > c->sectors - lba || (lba == c->sectors && count)) {
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x21, 0);
		return;
	}
	if (!count)
		return;
	if (count > UINT32_MAX / CDROM_SECTOR) {
		invalid_field(c, r);
		return;
	}
	r->data = CDROM_READ;
	r->offset = (uint64_t)lba * CDROM_SECTOR;
	r->len = count * CDROM_SECTOR;
}

static void read_10_12(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)b;
	read_range(c, be32(cdb + 2), cdb[0] == 0x28 ? be16(cdb + 7) : be32(cdb + 6), r);
}

/* Only data of mode 1, and of it user data: what the image has. */
static void read_cd(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	unsigned expected = cdb[1] >> 2 & 7;
	uint32_t lba, count;

	(void)b;
	if (cdb[0] == 0xb9) { /* READ CD MSF: from, up to */
		uint32_t from = (cdb[3] * 60u + cdb[4]) * 75 + cdb[5], to = (cdb[6] * 60u + cdb[7]) * 75 + cdb[8];

		if (from < FRAMES_LEAD_IN || to < from) {
			invalid_field(c, r);
			return;
		}
		lba = from - FRAMES_LEAD_IN;
		count = to - from;
	} else {
		lba = be32(cdb + 2);
		count = be24(cdb + 6);
	}
	if (expected == 1) { /* CD-DA */
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x64, 0);
		return;
	}
	switch (cdb[9] & 0xf8) {
	case 0x00: /* nothing of the sectors: a seek */
		if (lba >= c->sectors)
			fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x21, 0);
		return;
	case 0x10:
		if (!(cdb[9] & 6) && !(cdb[10] & 7)) {
			read_range(c, lba, count, r);
			return;
		}
		break;
	}
	invalid_field(c, r);
}

static void seek(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)b;
	if (be32(cdb + 2) >= c->sectors)
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x21, 0);
}

/* A track's line in a table of contents. Track 0xaa is the lead-out. */
static uint8_t *put_track(uint8_t *p, unsigned track, uint32_t lba, bool msf)
{
	p[1] = 0x14; /* Q subchannel: position; a data track */
	p[2] = (uint8_t)track;
	put_address(p + 4, lba, msf);
	return p + 8;
}

/* The raw table: lines of the lead-in, each with a time. */
static uint8_t *put_raw(uint8_t *p, unsigned point, unsigned m, unsigned s, unsigned f)
{
	p[0] = 1; /* session */
	p[1] = 0x14;
	p[3] = (uint8_t)point;
	p[8] = (uint8_t)m;
	p[9] = (uint8_t)s;
	p[10] = (uint8_t)f;
	return p + 11;
}

static void read_toc(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	bool msf = cdb[1] & 2;
	unsigned format = cdb[2] & 0x0f, track = cdb[6];
	uint8_t *p = b + 4, end[4];

	if (!format)
		format = cdb[9] >> 6; /* where SFF-8020i had it */
	b[2] = b[3] = 1; /* first and last track, or session */
	switch (format) {
	case 0:
		if (track > 1 && track != 0xaa) {
			invalid_field(c, r);
			return;
		}
		if (track <= 1)
			p = put_track(p, 1, 0, msf);
		p = put_track(p, 0xaa, c->sectors, msf);
		break;
	case 1:
		p = put_track(p, 1, 0, msf);
		break;
	case 2:
		put_msf(end, c->sectors);
		p = put_raw(p, 0xa0, 1, 0, 0);
		p = put_raw(p, 0xa1, 1, 0, 0);
		p = put_raw(p, 0xa2, end[1], end[2], end[3]);
		p = put_raw(p, 1, 0, 2, 0);
		break;
	default:
		invalid_field(c, r);
		return;
	}
	put_be16(b, (uint32_t)(p - b) - 2);
	reply(r, (uint32_t)(p - b), be16(cdb + 7));
}

static void read_subchannel(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	b[1] = 0x15; /* no audio status */
	if (!(cdb[2] & 0x40)) {
		reply(r, 4, be16(cdb + 7));
		return;
	}
	b[4] = cdb[3];
	switch (cdb[3]) {
	case 1: /* position: at the beginning */
		put_be16(b + 2, 12);
		b[5] = 0x14;
		b[6] = b[7] = 1;
		put_address(b + 8, 0, cdb[1] & 2);
		put_address(b + 12, 0, cdb[1] & 2);
		reply(r, 16, be16(cdb + 7));
		return;
	case 2: /* catalogue number, recording code: none */
	case 3:
		put_be16(b + 2, 20);
		reply(r, 24, be16(cdb + 7));
		return;
	}
	invalid_field(c, r);
}

static void read_disc_information(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	if (cdb[1] & 7) {
		invalid_field(c, r);
		return;
	}
	put_be16(b, 32);
	b[2] = 0x0e; /* complete, last session complete */
	b[3] = b[4] = b[5] = b[6] = 1;
	b[7] = 0x20; /* unrestricted use */
	memset(b + 16, 0xff, 8); /* no more lead-ins */
	reply(r, 34, be16(cdb + 7));
}

static void read_track_information(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	uint32_t number = be32(cdb + 2);
	bool there = (cdb[1] & 3) == 0 ? number < c->sectors : number == 1;

	if (!there) {
		invalid_field(c, r);
		return;
	}
	put_be16(b, 34);
	b[2] = b[3] = 1;
	b[5] = 0x04; /* data, uninterrupted */
	b[6] = 0x01; /* mode 1 */
	put_be32(b + 24, c->sectors);
	reply(r, 36, be16(cdb + 7));
}

static void read_dvd_structure(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	uint32_t allocated = be16(cdb + 8);

	if (cdb[1] & 0x0f || cdb[6] || !is_dvd(c)) {
		if (!is_dvd(c))
			fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x30, 0x02);
		else
			invalid_field(c, r);
		return;
	}
	switch (cdb[7]) {
	case 0x00: /* physical format: a DVD-ROM of one layer */
		put_be16(b, 2048 + 2);
		b[4] = 0x01;
		b[5] = 0x0f;
		b[6] = 0x01;
		put_be32(b + 8, 0x30000);
		put_be32(b + 12, 0x30000 + c->sectors - 1);
		reply(r, 2048 + 4, allocated);
		return;
	case 0x01: /* no copy protection */
		put_be16(b, 6);
		reply(r, 8, allocated);
		return;
	case 0x04: /* manufacturer's */
		put_be16(b, 2048 + 2);
		reply(r, 2048 + 4, allocated);
		return;
	}
	invalid_field(c, r);
}

static void nothing(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r)
{
	(void)c;
	(void)cdb;
	(void)b;
	(void)r;
}

/* ---- the table ---- */

enum {
	DISC = 1,      /* needs a disc */
	ATTENTION_OK = 2, /* answers although something is to be told first */
};

static const struct command {
	void (*run)(struct cdrom *c, const uint8_t *cdb, uint8_t *b, struct cdrom_result *r);
	unsigned flags;
} commands[256] = {
	[0x00] = {test_unit_ready, DISC},
	[0x03] = {request_sense, ATTENTION_OK},
	[0x12] = {inquiry, ATTENTION_OK},
	[0x15] = {mode_select}, [0x55] = {mode_select},
	[0x1a] = {mode_sense}, [0x5a] = {mode_sense},
	[0x1b] = {start_stop},
	[0x1e] = {prevent_allow},
	[0x25] = {read_capacity, DISC},
	[0x28] = {read_10_12, DISC}, [0xa8] = {read_10_12, DISC},
	[0x2b] = {seek, DISC},
	[0x35] = {nothing}, /* SYNCHRONIZE CACHE */
	[0x42] = {read_subchannel, DISC},
	[0x43] = {read_toc, DISC},
	[0x46] = {get_configuration, ATTENTION_OK},
	[0x4a] = {get_event, ATTENTION_OK},
	[0x4e] = {nothing, DISC}, /* STOP PLAY */
	[0x51] = {read_disc_information, DISC},
	[0x52] = {read_track_information, DISC},
	[0xad] = {read_dvd_structure, DISC},
	[0xb9] = {read_cd, DISC}, [0xbe] = {read_cd, DISC},
	[0xbb] = {nothing}, /* SET CD SPEED */
	[0xbd] = {mechanism_status},
};

void cdrom_command(struct cdrom *c, const uint8_t cdb[CDROM_CDB_SIZE], uint8_t *buffer, struct cdrom_result *r)
{
	const struct command *command = &commands[cdb[0]];

	*r = (struct cdrom_result){0};
	if (cdb[0] != 0x03)
		c->key = c->asc = c->ascq = 0;
	if (!command->run) {
		fail(c, r, CDROM_KEY_ILLEGAL_REQUEST, 0x20, 0);
		return;
	}
	if (!(command->flags & ATTENTION_OK)) {
		bool *attention = c->attention_reset ? &c->attention_reset : &c->attention_medium;

		if (*attention) {
			fail(c, r, CDROM_KEY_UNIT_ATTENTION, c->attention_reset ? 0x29 : 0x28, 0);
			*attention = false;
			return;
		}
	}
	if ((command->flags & DISC) && !disc_in(c)) {
		fail(c, r, CDROM_KEY_NOT_READY, 0x3a, c->open ? 0x02 : 0x01);
		return;
	}
	memset(buffer, 0, CDROM_BUFFER_SIZE);
	command->run(c, cdb, buffer, r);
}

void cdrom_read_failed(struct cdrom *c, int error, struct cdrom_result *r)
{
	if (error == -EIO)
		fail(c, r, CDROM_KEY_MEDIUM_ERROR, 0x11, 0);
	else
		fail(c, r, CDROM_KEY_ABORTED, 0x08, 0);
}

void cdrom_sense(const struct cdrom *c, uint8_t b[18])
{
	memset(b, 0, 18);
	b[0] = 0x70;
	b[2] = c->key;
	b[7] = 18 - 8;
	b[12] = c->asc;
	b[13] = c->ascq;
}

void cdrom_reset(struct cdrom *c)
{
	c->attention_reset = true;
	c->attention_medium = false;
	c->locked = false;
	c->event = c->sectors ? EVENT_NEW_MEDIA : EVENT_NONE;
	c->key = c->asc = c->ascq = 0;
}

struct cdrom *cdrom_new(struct block *block, const char *serial)
{
	struct cdrom *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->block = block;
	c->serial = serial;
	uint64_t sectors = block ? block_size(block) / CDROM_SECTOR : 0;
	c->sectors = sectors < UINT32_MAX ? (uint32_t)sectors : UINT32_MAX;
	cdrom_reset(c);
	return c;
}

void cdrom_free(struct cdrom *c) { free(c); }
