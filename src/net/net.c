/*
 * Joins a NIC and a backend. See net.h for threads and what a frame is.
 *
 * What waits for a NIC without room is bounded by QUEUE_FRAMES and QUEUE_BYTES: beyond that frames are lost, as on a
 * wire. Backends that can wait (net_can_deliver) lose none.
 */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/offload.h"
#include "net/pcap.h"
#include "util/log.h"

#define QUEUE_FRAMES 2048u
#define QUEUE_BYTES (8u << 20)

struct waiting {
	struct waiting *next;
	uint32_t len;
	struct net_offload offload;
	uint8_t data[];
};

struct net {
	struct net_config config;
	const struct net_ops *ops;
	void *backend;
	const struct net_nic_ops *nic_ops;
	void *nic;
	unsigned nic_can;
	bool link_up;
	bool send_stopped;    /* the NIC was told that it cannot send */
	bool deliver_stopped; /* the backend was told that it cannot deliver */
	struct pcap *pcap;
	struct waiting *first, **end;
	unsigned waiting;
	size_t waiting_bytes;
	uint64_t sent, delivered, dropped;
	uint8_t *send_buffer, *deliver_buffer; /* NET_FRAME_MAX bytes each: for work done in software */
};

/* ---- frames in general ---- */

/* What must be done to a frame before a side that `can` gets it, is nothing. */
static bool fits(const struct net_offload *o, unsigned can)
{
	unsigned want = o->flags & NET_NEEDS_CSUM ? NET_CAN_CSUM : 0;

	switch (o->gso & (uint8_t)~NET_GSO_ECN) {
	case NET_GSO_NONE:
		break;
	case NET_GSO_TCP4:
		want |= NET_CAN_TSO4;
		break;
	case NET_GSO_TCP6:
		want |= NET_CAN_TSO6;
		break;
	case NET_GSO_UDP:
		want |= NET_CAN_USO;
		break;
	}
	if (o->gso & NET_GSO_ECN)
		want |= NET_CAN_ECN;
	return (want & ~can) == 0;
}

/* What the smallest MTU that there is leaves (RFC 791: 68). Smaller segments are nobody's, and one frame would be tens of
 * thousands. */
#define SEGMENT_MIN (68u - 40u)

static bool well_formed(const struct net_frame *f)
{
	const struct net_offload *o = &f->offload;
	unsigned gso = o->gso & (uint8_t)~NET_GSO_ECN;

	if (f->len < NET_ETHERNET_HEADER || f->len > NET_FRAME_MAX)
		return false;
	if ((o->flags & NET_NEEDS_CSUM) && (uint32_t)o->csum_start + o->csum_offset + 2 > f->len)
		return false;
	if (gso != NET_GSO_NONE && gso != NET_GSO_TCP4 && gso != NET_GSO_TCP6 && gso != NET_GSO_UDP)
		return false;
	return gso == NET_GSO_NONE ? o->gso == 0 : o->gso_size >= SEGMENT_MIN && (o->flags & NET_NEEDS_CSUM);
}

/* Does in software what `f` has left to do, in `buffer`, and gives `emit` the results. */
static bool finish(const struct net_frame *f, uint8_t *buffer, void (*emit)(void *opaque, const struct net_frame *f),
		   void *opaque)
{
	size_t len = net_flatten(f, buffer, NET_FRAME_MAX);
	struct net_offload offload = f->offload;

	if (offload.gso != NET_GSO_NONE)
		return net_segment(buffer, len, &offload, emit, opaque);
	if (!net_finish_checksum(buffer, len, &offload))
		return false;
	const struct iovec iov = {.iov_base = buffer, .iov_len = len};
	const struct net_frame done = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len, .offload = offload};
	emit(opaque, &done);
	return true;
}

/* ---- from the guest ---- */

bool net_can_send(const struct net *n)
{
	struct net *writable = (struct net *)n;
	bool can = !n->ops->sendable || n->ops->sendable(n->backend);

	writable->send_stopped = !can;
	return can;
}

static void emit_send(void *opaque, const struct net_frame *f)
{
	struct net *n = opaque;

	n->ops->send(n->backend, f);
}

void net_send(struct net *n, const struct net_frame *f)
{
	if (!well_formed(f) || !net_can_send(n)) {
		n->dropped++;
		LOG(LOG_NET, "%s: a frame of %u bytes from the guest is dropped", n->ops->name, f->len);
		return;
	}
	if (n->pcap)
		pcap_write(n->pcap, f);
	n->sent++;
	if (fits(&f->offload, n->ops->can_send)) {
		n->ops->send(n->backend, f);
	} else if (!finish(f, n->send_buffer, emit_send, n)) {
		n->dropped++;
		LOG(LOG_NET, "%s: a frame of the guest is not what its description says: dropped", n->ops->name);
	}
}

void net_send_end(struct net *n)
{
	if (n->ops->send_end)
		n->ops->send_end(n->backend);
}

void net_sendable(struct net *n)
{
	if (!n->send_stopped)
		return;
	n->send_stopped = false;
	if (n->nic_ops)
		n->nic_ops->sendable(n->nic);
}

/* ---- to the guest ---- */

static void keep(struct net *n, const struct net_frame *f)
{
	struct waiting *w = NULL;

	if (n->waiting < QUEUE_FRAMES && n->waiting_bytes + f->len <= QUEUE_BYTES)
		w = malloc(sizeof *w + f->len);
	if (!w) {
		n->dropped++;
		return;
	}
	*w = (struct waiting){.len = f->len, .offload = f->offload};
	net_flatten(f, w->data, f->len);
	*n->end = w;
	n->end = &w->next;
	n->waiting++;
	n->waiting_bytes += f->len;
}

static void take_first(struct net *n)
{
	struct waiting *w = n->first;

	n->first = w->next;
	if (!n->first)
		n->end = &n->first;
	n->waiting--;
	n->waiting_bytes -= w->len;
	free(w);
}

static void emit_deliver(void *opaque, const struct net_frame *f)
{
	struct net *n = opaque;

	if (n->first || !n->nic_ops->receive(n->nic, f))
		keep(n, f);
	else
		n->delivered++;
}

bool net_can_deliver(const struct net *n)
{
	struct net *writable = (struct net *)n;

	writable->deliver_stopped = n->first != NULL;
	return !n->first;
}

void net_deliver(struct net *n, const struct net_frame *f)
{
	if (!n->nic_ops || !n->link_up || !well_formed(f)) {
		n->dropped++;
		return;
	}
	if (n->pcap)
		pcap_write(n->pcap, f);
	if (fits(&f->offload, n->nic_can))
		emit_deliver(n, f);
	else if (!finish(f, n->deliver_buffer, emit_deliver, n))
		n->dropped++;
}

void net_deliver_end(struct net *n)
{
	if (n->nic_ops)
		n->nic_ops->receive_end(n->nic);
}

void net_receive_ready(struct net *n)
{
	bool some = false;

	while (n->first) {
		struct waiting *w = n->first;
		const struct iovec iov = {.iov_base = w->data, .iov_len = w->len};
		const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = w->len, .offload = w->offload};

		if (!n->nic_ops->receive(n->nic, &f))
			break;
		n->delivered++;
		some = true;
		take_first(n);
	}
	if (some)
		n->nic_ops->receive_end(n->nic);
	if (!n->first && n->deliver_stopped) {
		n->deliver_stopped = false;
		if (n->ops->receive_ready)
			n->ops->receive_ready(n->backend);
	}
}

/* ---- the two ends ---- */

void net_attach(struct net *n, const struct net_nic_ops *ops, void *nic)
{
	n->nic_ops = ops;
	n->nic = nic;
	net_set_can_receive(n, 0);
}

void net_detach(struct net *n)
{
	n->nic = NULL;
	n->nic_ops = NULL;
	n->send_stopped = false;
	while (n->first)
		take_first(n);
	net_set_can_receive(n, 0);
	/* A backend that waited goes on, into nothing, so that the next NIC does not get old frames. */
	if (n->deliver_stopped) {
		n->deliver_stopped = false;
		if (n->ops->receive_ready)
			n->ops->receive_ready(n->backend);
	}
}

void net_set_can_receive(struct net *n, unsigned can)
{
	/* What waits was made for what the driver could take before. */
	if (n->nic_can & ~can)
		while (n->first)
			take_first(n);
	n->nic_can = can;
	if (n->ops->set_can_deliver)
		n->ops->set_can_deliver(n->backend, can);
}

bool net_link_up(const struct net *n) { return n->link_up; }

void net_set_link(struct net *n, bool up)
{
	if (n->link_up == up)
		return;
	n->link_up = up;
	LOG(LOG_NET, "%s: link %s", n->ops->name, up ? "up" : "down");
	if (n->nic_ops && n->nic_ops->link_changed)
		n->nic_ops->link_changed(n->nic, up);
}

const struct net_config *net_configuration(const struct net *n) { return &n->config; }
unsigned net_guest_mtu(const struct net *n) { return n->config.mtu ? n->config.mtu : NET_FRAME_MTU; }

/* ---- life ---- */

struct net *net_open(const struct net_host *host, const struct net_config *config, char *error, size_t size)
{
	static const struct net_ops *const kinds[] = {
		[NET_USER] = &net_user_ops, [NET_TAP] = &net_tap_ops, [NET_SOCKET] = &net_socket_ops};
	struct net *n = calloc(1, sizeof *n);

	if (n) {
		n->send_buffer = malloc(NET_FRAME_MAX);
		n->deliver_buffer = malloc(NET_FRAME_MAX);
	}
	if (!n || !n->send_buffer || !n->deliver_buffer) {
		snprintf(error, size, "--net: out of memory");
		goto failed;
	}
	n->config = *config;
	n->end = &n->first;
	n->link_up = true;
	n->ops = kinds[config->kind];
	if (config->pcap[0] && !(n->pcap = pcap_open(config->pcap, error, size)))
		goto failed;
	if (!(n->backend = n->ops->open(n, host, config, error, size)))
		goto failed;
	return n;
failed:
	net_close(n);
	return NULL;
}

void net_close(struct net *n)
{
	if (!n)
		return;
	if (n->backend)
		n->ops->close(n->backend);
	if (n->pcap)
		pcap_close(n->pcap);
	while (n->first)
		take_first(n);
	if (n->ops)
		LOG(LOG_NET, "%s: %llu frames sent, %llu received, %llu dropped", n->ops->name,
		    (unsigned long long)n->sent, (unsigned long long)n->delivered, (unsigned long long)n->dropped);
	free(n->send_buffer);
	free(n->deliver_buffer);
	free(n);
}
