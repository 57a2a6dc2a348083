/*
 * Accounts of TCP connections. See tcp_limit.h.
 *
 * An account begins with the first packet in which libslirp acknowledges something, which it does before it keeps
 * anything. What it keeps lies behind the last byte that it acknowledged, by less than REACH (its window is at most 64 KiB, a
 * segment likewise, and it may owe the acknowledgement of a window).
 */
#include "net/tcp_limit.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024u
#define ACCOUNTS_MAX 16384u
#define REACH (256u << 10)

enum { TCP_HEADER = 20, TCP_SEQUENCE = 4, TCP_ACKNOWLEDGE = 8, TCP_OFFSET = 12, TCP_FLAGS = 13 };
enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };
enum { IP4_SOURCE = 12, IP4_ADDRESS = 4, IP6_SOURCE = 8, IP6_ADDRESS = 16 };

/* The guest's address and port, the other side's. */
struct key {
	uint8_t guest[IP6_ADDRESS], other[IP6_ADDRESS];
	uint8_t guest_port[2], other_port[2];
};

struct account {
	struct account *next;
	struct key key;
	uint32_t acked; /* by libslirp: all before it has arrived */
	uint32_t end;   /* behind the last byte that it may keep */
	size_t held;
};

struct tcp_limit {
	struct account *bucket[BUCKETS];
	unsigned accounts;
	size_t held;
	void (*refresh)(void *opaque);
	bool (*in_use)(void *opaque, uint16_t port);
	void *opaque;
};

/* ---- packets ---- */

struct segment {
	struct key key;
	uint32_t sequence, acknowledge, len; /* len: of the payload, and a FIN */
	uint8_t flags;
};

static bool parse(const uint8_t *frame, const struct net_headers *h, bool from_guest, struct segment *s)
{
	const uint8_t *tcp = frame + h->l4;
	unsigned size = h->ip4 ? IP4_ADDRESS : IP6_ADDRESS, header;
	if (h->end - h->l4 < TCP_HEADER || (header = (tcp[TCP_OFFSET] >> 4) * 4u) > h->end - h->l4)
		return false;
	const uint8_t *source = frame + h->l3 + (h->ip4 ? IP4_SOURCE : IP6_SOURCE), *destination = source + size;
	*s = (struct segment){
		.sequence = be32(tcp + TCP_SEQUENCE),
		.acknowledge = be32(tcp + TCP_ACKNOWLEDGE),
		.flags = tcp[TCP_FLAGS],
		.len = h->end - h->l4 - header + !!(tcp[TCP_FLAGS] & TCP_FIN),
	};
	memcpy(s->key.guest, from_guest ? source : destination, size);
	memcpy(s->key.other, from_guest ? destination : source, size);
	memcpy(s->key.guest_port, tcp + (from_guest ? 0 : 2), 2);
	memcpy(s->key.other_port, tcp + (from_guest ? 2 : 0), 2);
	return true;
}

/* ---- accounts ---- */

static struct account **find(struct tcp_limit *l, const struct key *k)
{
	struct account **a = &l->bucket[(k->guest_port[0] * 256u + k->guest_port[1] + k->other_port[1] * 31u) % BUCKETS];

	while (*a && memcmp(&(*a)->key, k, sizeof *k) != 0)
		a = &(*a)->next;
	return a;
}

static void close_account(struct tcp_limit *l, struct account **a)
{
	struct account *gone = *a;

	l->held -= gone->held;
	l->accounts--;
	*a = gone->next;
	free(gone);
}

/* Closes those whose connections are gone. */
static void clear(struct tcp_limit *l)
{
	l->refresh(l->opaque);
	for (unsigned n = 0; n < BUCKETS; n++)
		for (struct account **a = &l->bucket[n]; *a;)
			if (l->in_use(l->opaque, (uint16_t)be16((*a)->key.guest_port)))
				a = &(*a)->next;
			else
				close_account(l, a);
}

bool tcp_limit_send(struct tcp_limit *l, const uint8_t *frame, const struct net_headers *h)
{
	struct segment s;
	struct account *a;

	if (!parse(frame, h, true, &s) || s.len == 0)
		return true;
	if ((a = *find(l, &s.key)) == NULL)
		return l->accounts < ACCOUNTS_MAX; /* libslirp has not said a word about it: nothing is kept */
	uint32_t reach = s.sequence + s.len - a->acked;
	if (reach == 0 || reach > REACH || s.len >= reach)
		return true; /* old, too far away, or it fills the gap: nothing that is kept */
	size_t cost = s.len + TCP_LIMIT_BUFFER;
	if (a->held + cost > TCP_LIMIT_CONNECTION)
		return false;
	if (l->held + cost > TCP_LIMIT_ALL) {
		clear(l);
		if (l->held + cost > TCP_LIMIT_ALL || (a = *find(l, &s.key)) == NULL)
			return false;
	}
	a->held += cost;
	l->held += cost;
	if (reach > a->end - a->acked)
		a->end = s.sequence + s.len;
	return true;
}

/* NULL: there are too many, or no memory. */
static struct account *open_account(struct tcp_limit *l, const struct key *k, uint32_t acknowledge)
{
	if (l->accounts == ACCOUNTS_MAX)
		clear(l);
	struct account *a = l->accounts == ACCOUNTS_MAX ? NULL : calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->key = *k;
	a->end = acknowledge;
	*find(l, k) = a;
	l->accounts++;
	return a;
}

void tcp_limit_receive(struct tcp_limit *l, const uint8_t *frame, const struct net_headers *h)
{
	struct segment s;

	if (!parse(frame, h, false, &s))
		return;
	struct account **at = find(l, &s.key), *a = *at;
	if (a && (s.flags & TCP_RST)) { /* the end of a connection */
		close_account(l, at);
		return;
	}
	if (!(s.flags & TCP_ACK) || (s.flags & TCP_RST) || (!a && !(a = open_account(l, &s.key, s.acknowledge))))
		return;
	if (s.flags & TCP_SYN) /* another connection of the same ports */
		a->end = s.acknowledge;
	a->acked = s.acknowledge;
	if (a->end - a->acked == 0 || a->end - a->acked > REACH) {
		l->held -= a->held;
		a->held = 0;
		a->end = a->acked;
	}
}

size_t tcp_limit_held(const struct tcp_limit *l) { return l->held; }

struct tcp_limit *tcp_limit_new(void (*refresh)(void *opaque), bool (*in_use)(void *opaque, uint16_t port), void *opaque)
{
	struct tcp_limit *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->refresh = refresh;
	l->in_use = in_use;
	l->opaque = opaque;
	return l;
}

void tcp_limit_free(struct tcp_limit *l)
{
	if (!l)
		return;
	for (unsigned n = 0; n < BUCKETS; n++)
		while (l->bucket[n])
			close_account(l, &l->bucket[n]);
	free(l);
}
