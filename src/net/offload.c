/*
 * Checksums and segmentation. See offload.h.
 */
#include "net/offload.h"

#include <string.h>

enum { ETHERTYPE_IP4 = 0x0800, ETHERTYPE_IP6 = 0x86dd, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_QINQ = 0x88a8 };
enum { IP4_TOTAL_LENGTH = 2, IP4_ID = 4, IP4_FRAGMENT = 6, IP4_PROTOCOL = 9, IP4_CHECKSUM = 10, IP4_ADDRESSES = 12 };
enum { IP4_HEADER = 20, IP4_FRAGMENT_BITS = 0x3fff }; /* more fragments, and the offset */
enum { IP6_PAYLOAD_LENGTH = 4, IP6_NEXT = 6, IP6_ADDRESSES = 8, IP6_HEADER = 40 };
enum { IP6_HOP_BY_HOP = 0, IP6_ROUTING = 43, IP6_FRAGMENT = 44, IP6_DESTINATION = 60 };
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };
enum { TCP_SEQUENCE = 4, TCP_OFFSET = 12, TCP_FLAGS = 13, TCP_CHECKSUM = 16, TCP_HEADER = 20 };
enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };
enum { UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_HEADER = 8 };
/* Ethernet, two VLAN tags, IP with all its options, TCP with all of its. */
#define HEADERS_MAX 512u

/* ---- parsing ---- */

static bool parse_ip4(const uint8_t *frame, size_t len, struct net_headers *h)
{
	const uint8_t *ip = frame + h->l3;

	if (len - h->l3 < IP4_HEADER || ip[0] >> 4 != 4)
		return false;
	unsigned header = (ip[0] & 15u) * 4, total = be16(ip + IP4_TOTAL_LENGTH);
	if (header < IP4_HEADER || total < header || total > len - h->l3)
		return false;
	h->ip4 = true;
	h->protocol = ip[IP4_PROTOCOL];
	h->fragment = be16(ip + IP4_FRAGMENT) & IP4_FRAGMENT_BITS;
	h->l4 = h->l3 + header;
	h->end = h->l3 + total;
	return true;
}

static bool parse_ip6(const uint8_t *frame, size_t len, struct net_headers *h)
{
	const uint8_t *ip = frame + h->l3;

	if (len - h->l3 < IP6_HEADER || ip[0] >> 4 != 6)
		return false;
	h->l4 = h->l3 + IP6_HEADER;
	h->end = h->l4 + be16(ip + IP6_PAYLOAD_LENGTH);
	if (h->end > len)
		return false;
	h->ip6 = true;
	h->protocol = ip[IP6_NEXT];
	while (h->protocol == IP6_HOP_BY_HOP || h->protocol == IP6_ROUTING || h->protocol == IP6_DESTINATION ||
	       h->protocol == IP6_FRAGMENT) {
		if (h->end - h->l4 < 8)
			return false;
		unsigned size = h->protocol == IP6_FRAGMENT ? 8 : 8 + 8u * frame[h->l4 + 1];
		if (size > h->end - h->l4)
			return false;
		h->fragment |= h->protocol == IP6_FRAGMENT;
		h->protocol = frame[h->l4];
		h->l4 += size;
		if (h->fragment)
			break;
	}
	return true;
}

bool net_parse(const uint8_t *frame, size_t len, struct net_headers *h)
{
	unsigned type_at = NET_ETHERNET_HEADER - 2;

	*h = (struct net_headers){0};
	if (len < NET_ETHERNET_HEADER)
		return false;
	unsigned type = be16(frame + type_at);
	for (unsigned tags = 0; (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) && tags < 2; tags++) {
		type_at += 4;
		if (len < type_at + 2)
			return false;
		type = be16(frame + type_at);
	}
	h->l3 = type_at + 2;
	if (type == ETHERTYPE_IP4)
		return parse_ip4(frame, len, h);
	return type == ETHERTYPE_IP6 && parse_ip6(frame, len, h);
}

/* ---- checksums ---- */

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Sums 32-bit words: ones' complement sums may be folded at any width (RFC 1071, 2). */
uint16_t net_sum(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *p = data;
	uint64_t a = sum, b = 0;
	uint64_t pair;
	uint32_t word;
	uint16_t half;

	for (; len >= 16; len -= 16, p += 16) {
		memcpy(&pair, p, 8);
		a += (pair & 0xffffffff) + (pair >> 32);
		memcpy(&pair, p + 8, 8);
		b += (pair & 0xffffffff) + (pair >> 32);
	}
	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&word, p, 4);
		a += word;
	}
	if (len >= 2) {
		memcpy(&half, p, 2);
		a += half;
		len -= 2;
		p += 2;
	}
	if (len)
		a += *p; /* little-endian host: the odd byte is the first of a pair */
	return fold((uint64_t)fold(a) + fold(b));
}

uint16_t net_pseudo_sum(const uint8_t *frame, const struct net_headers *h, uint32_t len)
{
	uint8_t tail[8] = {0};

	put_be32(tail, len);
	tail[7] = h->protocol;
	const uint8_t *ip = frame + h->l3;
	uint16_t addresses = h->ip4 ? net_sum(ip + IP4_ADDRESSES, 8, 0) : net_sum(ip + IP6_ADDRESSES, 32, 0);
	return net_sum(tail, sizeof tail, addresses);
}

static void put_sum(uint8_t *p, uint16_t sum)
{
	memcpy(p, &sum, 2);
}

void net_ip4_checksum(uint8_t *header, size_t len)
{
	put_sum(header + IP4_CHECKSUM, 0);
	put_sum(header + IP4_CHECKSUM, (uint16_t)~net_sum(header, len, 0));
}

bool net_finish_checksum(uint8_t *frame, size_t len, struct net_offload *o)
{
	if (!(o->flags & NET_NEEDS_CSUM))
		return true;
	size_t field = (size_t)o->csum_start + o->csum_offset;
	if (o->csum_start > len || field + 2 > len)
		return false;
	uint16_t sum = (uint16_t)~net_sum(frame + o->csum_start, len - o->csum_start, 0);
	put_sum(frame + field, sum ? sum : 0xffff); /* 0 would say "none" in UDP, and means the same in TCP */
	o->flags = (uint8_t)((o->flags & ~NET_NEEDS_CSUM) | NET_CSUM_VALID);
	return true;
}

/* ---- segmentation ---- */

struct cut {
	uint8_t *frame;
	struct net_headers h;
	bool tcp;
	unsigned headers; /* bytes that every segment begins with */
	unsigned gso_size;
	unsigned count;
	uint8_t header[HEADERS_MAX];
};

static bool plan(struct cut *c, uint8_t *frame, size_t len, const struct net_offload *o)
{
	unsigned gso = o->gso & (uint8_t)~NET_GSO_ECN;

	c->frame = frame;
	c->gso_size = o->gso_size;
	if (!net_parse(frame, len, &c->h) || c->h.fragment || c->gso_size == 0)
		return false;
	if ((gso == NET_GSO_TCP4 && !c->h.ip4) || (gso == NET_GSO_TCP6 && !c->h.ip6))
		return false;
	c->tcp = gso != NET_GSO_UDP;
	if (c->h.protocol != (c->tcp ? PROTOCOL_TCP : PROTOCOL_UDP))
		return false;
	unsigned fixed = c->tcp ? TCP_HEADER : UDP_HEADER, size = fixed;
	if (c->h.end - c->h.l4 < fixed)
		return false;
	if (c->tcp)
		size = (frame[c->h.l4 + TCP_OFFSET] >> 4) * 4u;
	if (size < fixed || size > c->h.end - c->h.l4)
		return false;
	c->headers = c->h.l4 + size;
	if (c->headers > HEADERS_MAX)
		return false;
	memcpy(c->header, frame, c->headers);
	c->count = (c->h.end - c->headers + c->gso_size - 1) / c->gso_size;
	if (c->count == 0)
		c->count = 1; /* headers only */
	return true;
}

/* The headers of segment `i`, whose payload of `len` bytes lies behind `to`, where they are put. */
static void put_headers(const struct cut *c, unsigned i, uint8_t *to, unsigned len)
{
	const struct net_headers *h = &c->h;
	uint8_t *ip = to + h->l3, *l4 = to + h->l4;
	unsigned l4_len = c->headers - h->l4 + len;

	memcpy(to, c->header, c->headers);
	if (h->ip4) {
		put_be16(ip + IP4_TOTAL_LENGTH, c->headers - h->l3 + len);
		put_be16(ip + IP4_ID, (be16(ip + IP4_ID) + i) & 0xffff);
		net_ip4_checksum(ip, h->l4 - h->l3);
	} else {
		put_be16(ip + IP6_PAYLOAD_LENGTH, c->headers - h->l3 - IP6_HEADER + len);
	}
	uint8_t *checksum = l4 + (c->tcp ? TCP_CHECKSUM : UDP_CHECKSUM);
	if (c->tcp) {
		put_be32(l4 + TCP_SEQUENCE, be32(l4 + TCP_SEQUENCE) + i * c->gso_size);
		if (i + 1 < c->count)
			l4[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
		if (i)
			l4[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	} else {
		put_be16(l4 + UDP_LENGTH, l4_len);
	}
	put_sum(checksum, 0);
	uint16_t sum = (uint16_t)~net_sum(l4, l4_len, net_pseudo_sum(to, h, l4_len));
	put_sum(checksum, sum ? sum : 0xffff);
}

bool net_segment(uint8_t *frame, size_t len, const struct net_offload *offload,
		 void (*emit)(void *opaque, const struct net_frame *f), void *opaque)
{
	struct cut c;

	if (!plan(&c, frame, len, offload))
		return false;
	/* Each segment's headers overwrite the end of the payload before it, which is gone already. */
	for (unsigned i = 0; i < c.count; i++) {
		unsigned at = c.headers + i * c.gso_size, left = c.h.end - at;
		unsigned payload = left < c.gso_size ? left : c.gso_size;
		uint8_t *segment = frame + at - c.headers;

		put_headers(&c, i, segment, payload);
		const struct iovec iov = {.iov_base = segment, .iov_len = c.headers + payload};
		const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)iov.iov_len,
					    .offload = {.flags = NET_CSUM_VALID}};
		emit(opaque, &f);
	}
	return true;
}

size_t net_flatten(const struct net_frame *f, void *buf, size_t size)
{
	size_t done = 0;

	for (unsigned i = 0; i < f->iov_count && done < size; i++) {
		size_t n = f->iov[i].iov_len < size - done ? f->iov[i].iov_len : size - done;

		memcpy((uint8_t *)buf + done, f->iov[i].iov_base, n);
		done += n;
	}
	return done;
}
