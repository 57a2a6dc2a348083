/*
 * Reassembly of IPv4 packets. See fragment.h.
 *
 * A packet's data lies behind room for its headers; a bit for each eight bytes says what is there. Where fragments overlap,
 * the last one counts.
 */
#include "net/fragment.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_ROOM 128u
#define DATA_MAX 65535u
#define UNIT 8u
#define UNITS (DATA_MAX / UNIT + 1)

enum { IP4_TOTAL_LENGTH = 2, IP4_ID = 4, IP4_FRAGMENT = 6, IP4_PROTOCOL = 9, IP4_SOURCE = 12 };
enum { IP4_MORE_FRAGMENTS = 0x2000, IP4_OFFSET = 0x1fff };
enum { KEY_SIZE = 11 }; /* addresses, identification, protocol */

struct packet {
	uint64_t started; /* 0: free */
	uint8_t key[KEY_SIZE];
	uint32_t header; /* bytes of Ethernet and IP header in front of the data; 0: the first fragment has not come */
	uint32_t l3;     /* bytes of Ethernet header */
	uint32_t total;  /* bytes of data; 0: the last fragment has not come */
	uint32_t units;  /* how many of them are there */
	uint8_t there[UNITS / 8 + 1];
	uint8_t data[HEADER_ROOM + DATA_MAX];
};

struct fragments {
	struct packet packet[FRAGMENT_PACKETS];
};

struct fragments *fragments_new(void) { return calloc(1, sizeof(struct fragments)); }
void fragments_free(struct fragments *f) { free(f); }

static void make_key(uint8_t key[KEY_SIZE], const uint8_t *ip)
{
	memcpy(key, ip + IP4_SOURCE, 8);
	memcpy(key + 8, ip + IP4_ID, 2);
	key[10] = ip[IP4_PROTOCOL];
}

static struct packet *find(struct fragments *f, const uint8_t key[KEY_SIZE], uint64_t now)
{
	struct packet *oldest = &f->packet[0];

	for (unsigned i = 0; i < FRAGMENT_PACKETS; i++) {
		struct packet *p = &f->packet[i];

		if (p->started && now - p->started < FRAGMENT_NS && memcmp(p->key, key, KEY_SIZE) == 0)
			return p;
		if (p->started < oldest->started)
			oldest = p;
	}
	memset(oldest, 0, offsetof(struct packet, data));
	oldest->started = now;
	memcpy(oldest->key, key, KEY_SIZE);
	return oldest;
}

/* False: no packet has such a fragment. */
static bool add(struct packet *p, const uint8_t *frame, const struct net_headers *h, unsigned word)
{
	uint32_t offset = (word & IP4_OFFSET) * UNIT, len = h->end - h->l4;
	bool last = !(word & IP4_MORE_FRAGMENTS);

	if (len == 0 || (!last && len % UNIT) || offset + len > DATA_MAX - (h->l4 - h->l3))
		return false;
	if (p->total && (offset + len > p->total || (last && offset + len != p->total)))
		return false;
	if (last)
		p->total = offset + len;
	if (offset == 0 && h->l4 <= HEADER_ROOM) {
		p->header = h->l4;
		p->l3 = h->l3;
		memcpy(p->data + HEADER_ROOM - h->l4, frame, h->l4);
	}
	memcpy(p->data + HEADER_ROOM + offset, frame + h->l4, len);
	for (uint32_t unit = offset / UNIT; unit < (offset + len + UNIT - 1) / UNIT; unit++) {
		uint8_t bit = (uint8_t)(1 << unit % 8);

		p->units += !(p->there[unit / 8] & bit);
		p->there[unit / 8] |= bit;
	}
	return true;
}

uint8_t *fragments_add(struct fragments *f, const uint8_t *frame, const struct net_headers *h, uint64_t now, size_t *len)
{
	unsigned word = be16(frame + h->l3 + IP4_FRAGMENT);
	uint8_t key[KEY_SIZE];

	make_key(key, frame + h->l3);
	struct packet *p = find(f, key, now ? now : 1);
	if (!add(p, frame, h, word)) {
		p->started = 0;
		return NULL;
	}
	if (!p->header || !p->total || p->units < (p->total + UNIT - 1) / UNIT)
		return NULL;
	uint8_t *whole = p->data + HEADER_ROOM - p->header, *ip = whole + p->l3;
	p->started = 0;
	/* More is there than the last fragment, which came later, says there is. */
	if (p->units > (p->total + UNIT - 1) / UNIT)
		return NULL;
	put_be16(ip + IP4_TOTAL_LENGTH, p->header - p->l3 + p->total);
	put_be16(ip + IP4_FRAGMENT, 0);
	net_ip4_checksum(ip, p->header - p->l3);
	*len = p->header + p->total;
	return whole;
}
