/*
 * The network without privileges: libslirp, a TCP/IP stack that ends the guest's connections and opens the host's own.
 * The guest is 10.0.2.15 (DHCP) in 10.0.2.0/24 and fec0::/64; the host's loopback is 10.0.2.2 and fec0::2, its name server
 * 10.0.2.3 and fec0::3. A machine's further networks of this kind are 10.0.3.0/24 and fec0:0:0:1::/64, and so on, so that
 * a guest with several has a route for each.
 *
 * A call into slirp costs much more than a byte does. So it works with IP packets as large as there can be: the guest's
 * large segments go to it uncut; to have it send large ones, it is told a large MSS in place of a full-sized one of the
 * guest's. What then is larger than the guest's MTU becomes one frame that is left to be segmented (which a good driver
 * takes as it is), or IPv4 fragments.
 *
 * I/O thread, under vm->lock. Sources: libslirp.h; RFC 9293 3.1 (header, options); RFC 791 3.2 (fragments).
 */
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/fragment.h"
#include "net/net.h"
#include "net/offload.h"
#include "net/tcp_limit.h"
#include "util/library.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/timer.h"

/* Of libslirp, which is loaded for the first network of this kind: it brings GLib with it. */
#define LIBRARY(X) \
	X(slirp_input) X(slirp_connection_info) X(slirp_pollfds_fill) X(slirp_pollfds_poll) X(slirp_handle_timer) X(slirp_new) \
	X(slirp_add_hostfwd) X(slirp_cleanup) X(slirp_version_string)
static struct {
	LIBRARY(LIBRARY_POINTER)
} library;
static const struct library_symbol symbols[] = {LIBRARY(LIBRARY_SYMBOL) {0}};

#define NS_PER_MS 1000000ull
#define SLIRP_MTU 65521u /* the largest that slirp takes */
#define LARGE_MSS 32000u /* two of them fit in a window without scaling: one is filled while the other is read */
#define HEADERS_MAX 256u

enum { PROTOCOL_TCP = 6, TCP_HEADER = 20, TCP_OFFSET = 12, TCP_FLAGS = 13, TCP_CHECKSUM = 16 };
enum { TCP_SYN = 0x02, OPTION_END = 0, OPTION_NOP = 1, OPTION_MSS = 2, OPTION_MSS_SIZE = 4 };
enum { IP4_HEADER = 20, IP4_TOTAL_LENGTH = 2, IP4_FRAGMENT = 6, IP6_HEADER = 40 };
enum { IP4_MORE_FRAGMENTS = 0x2000, IP4_DONT_FRAGMENT = 0x4000, IP4_OFFSET = 0x1fff };

struct user {
	struct net *net;
	struct loop *loop;
	struct timer_queue *timers;
	Slirp *slirp;
	struct fragments *fragments; /* of the guest's packets */
	struct tcp_limit *limit;     /* of what slirp keeps of them */
	uint64_t ports[65536 / 64];  /* a bit for each port of the guest's with a connection, when refresh_ports looked */
	struct loop_source source;
	bool delivered; /* since net_deliver_end */
	uint8_t frame[NET_FRAME_MAX];
};

/* ---- to the guest ---- */

/* A frame of two parts. */
static void deliver(struct user *u, const void *head, size_t head_len, const void *tail, size_t tail_len,
		    struct net_offload offload)
{
	const struct iovec iov[2] = {{.iov_base = (void *)head, .iov_len = head_len},
				     {.iov_base = (void *)tail, .iov_len = tail_len}};
	const struct net_frame f = {.iov = iov, .iov_count = tail_len ? 2 : 1, .len = (uint32_t)(head_len + tail_len),
				    .offload = offload};

	net_deliver(u->net, &f);
	u->delivered = true;
}

/* A large TCP packet: left to be segmented. */
static bool deliver_tcp(struct user *u, const uint8_t *frame, const struct net_headers *h)
{
	uint8_t head[HEADERS_MAX];
	unsigned mtu = net_guest_mtu(u->net);

	if (h->end - h->l4 < TCP_HEADER)
		return false;
	unsigned headers = h->l4 + (frame[h->l4 + TCP_OFFSET] >> 4) * 4u;
	if (headers > sizeof head || headers > h->end || headers - h->l3 >= mtu)
		return false;
	memcpy(head, frame, headers);
	uint16_t sum = net_pseudo_sum(frame, h, h->end - h->l4);
	memcpy(head + h->l4 + TCP_CHECKSUM, &sum, sizeof sum);
	deliver(u, head, headers, frame + headers, h->end - headers,
		(struct net_offload){
			.flags = NET_NEEDS_CSUM,
			.gso = h->ip4 ? NET_GSO_TCP4 : NET_GSO_TCP6,
			.header_len = (uint16_t)headers,
			.gso_size = (uint16_t)(mtu - (headers - h->l3)),
			.csum_start = (uint16_t)h->l4,
			.csum_offset = TCP_CHECKSUM,
		});
	return true;
}

/* A large IPv4 packet: in fragments. */
static void deliver_fragments(struct user *u, const uint8_t *frame, const struct net_headers *h)
{
	unsigned ip_header = h->l4 - h->l3, step = (net_guest_mtu(u->net) - ip_header) & ~7u, len;
	uint8_t head[HEADERS_MAX], *ip = head + h->l3;
	unsigned word = be16(frame + h->l3 + IP4_FRAGMENT) & ~(unsigned)IP4_DONT_FRAGMENT;

	for (unsigned at = h->l4; at < h->end; at += len) {
		unsigned offset = (word & IP4_OFFSET) + (at - h->l4) / 8;

		len = h->end - at < step ? h->end - at : step;
		memcpy(head, frame, h->l4);
		put_be16(ip + IP4_TOTAL_LENGTH, ip_header + len);
		put_be16(ip + IP4_FRAGMENT, (offset & IP4_OFFSET) |
						     (at + len < h->end ? IP4_MORE_FRAGMENTS : word & IP4_MORE_FRAGMENTS));
		net_ip4_checksum(ip, ip_header);
		deliver(u, head, h->l4, frame + at, len, (struct net_offload){0});
	}
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	struct net_headers h;
	bool parsed = net_parse(buf, len, &h);

	if (parsed && h.protocol == PROTOCOL_TCP && !h.fragment)
		tcp_limit_receive(u->limit, buf, &h);
	if (len > net_guest_mtu(u->net) + NET_ETHERNET_HEADER && parsed) {
		if (h.protocol == PROTOCOL_TCP && !h.fragment && deliver_tcp(u, buf, &h))
			return (ssize_t)len;
		if (h.ip4) {
			deliver_fragments(u, buf, &h);
			return (ssize_t)len;
		}
	}
	deliver(u, buf, len, NULL, 0, (struct net_offload){.flags = NET_CSUM_VALID});
	return (ssize_t)len;
}

static void deliver_end(struct user *u)
{
	if (u->delivered)
		net_deliver_end(u->net);
	u->delivered = false;
}

/* ---- from the guest ---- */

/* The MSS option of a SYN, or NULL. */
static uint8_t *find_mss(uint8_t *tcp, unsigned header)
{
	for (unsigned i = TCP_HEADER; i < header;) {
		if (tcp[i] == OPTION_END)
			return NULL;
		if (tcp[i] == OPTION_NOP) {
			i++;
			continue;
		}
		if (header - i < 2 || tcp[i + 1] < 2 || tcp[i + 1] > header - i)
			return NULL;
		if (tcp[i] == OPTION_MSS)
			return tcp[i + 1] == OPTION_MSS_SIZE ? tcp + i + 2 : NULL;
		i += tcp[i + 1];
	}
	return NULL;
}

/* A guest that takes packets as large as its MTU allows can be sent larger ones, which are cut to that size. One that asks
 * for less means it, and one whose checksum is wrong must not get a right one. */
static void raise_mss(struct user *u, uint8_t *frame, const struct net_headers *h)
{
	uint8_t *tcp = frame + h->l4;
	unsigned l4_len = h->end - h->l4;

	if (h->protocol != PROTOCOL_TCP || h->fragment || l4_len < TCP_HEADER)
		return;
	unsigned header = (tcp[TCP_OFFSET] >> 4) * 4u;
	if (!(tcp[TCP_FLAGS] & TCP_SYN) || header < TCP_HEADER || header > l4_len)
		return;
	uint8_t *mss = find_mss(tcp, header);
	unsigned headers = TCP_HEADER + (h->ip4 ? IP4_HEADER : IP6_HEADER);
	if (!mss || be16(mss) + headers < net_guest_mtu(u->net))
		return;
	uint16_t pseudo = net_pseudo_sum(frame, h, l4_len);
	if (net_sum(tcp, l4_len, pseudo) != 0xffff)
		return;
	put_be16(mss, LARGE_MSS);
	memset(tcp + TCP_CHECKSUM, 0, 2);
	uint16_t sum = (uint16_t)~net_sum(tcp, l4_len, pseudo);
	memcpy(tcp + TCP_CHECKSUM, &sum, sizeof sum);
}

static void user_send(void *backend, const struct net_frame *f)
{
	struct user *u = backend;
	size_t len = net_flatten(f, u->frame, sizeof u->frame);
	struct net_offload offload = f->offload;
	struct net_headers h;
	uint8_t *frame = u->frame;

	if (!net_finish_checksum(frame, len, &offload))
		return;
	if (net_parse(frame, len, &h)) {
		raise_mss(u, frame, &h);
		/* slirp would keep fragments without an end to their number. */
		if (h.ip4 && h.fragment && (!(frame = fragments_add(u->fragments, frame, &h, clock_now(), &len)) ||
					    !net_parse(frame, len, &h)))
			return;
		if (h.protocol == PROTOCOL_TCP && !tcp_limit_send(u->limit, frame, &h)) {
			LOG(LOG_NET, "user: a segment is dropped: too many wait for one before them");
			return;
		}
	}
	library.slirp_input(u->slirp, frame, (int)len);
}

static void user_send_end(void *backend) { deliver_end(backend); }

/* Which of the guest's ports have connections: slirp says it in a table for people. A line is a protocol and its state,
 * a descriptor, an address, a port, an address, a port; which one is the guest's depends on who began it. */
static void refresh_ports(void *opaque)
{
	struct user *u = opaque;
	char *table = library.slirp_connection_info(u->slirp), *save = NULL;

	memset(u->ports, 0, sizeof u->ports);
	for (char *line = strtok_r(table, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *end = strchr(line, ']');
		unsigned port[2];

		if (!end || sscanf(end + 1, "%*s %*s %u %*s %u", &port[0], &port[1]) != 2)
			continue;
		for (unsigned i = 0; i < 2; i++)
			u->ports[port[i] / 64 % 1024] |= 1ull << port[i] % 64;
	}
	free(table);
}

static bool port_in_use(void *opaque, uint16_t port) { return ((struct user *)opaque)->ports[port / 64] >> port % 64 & 1; }

/* ---- slirp's descriptors ---- */

static int add_poll(int fd, int events, void *opaque)
{
	short e = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
			  (events & SLIRP_POLL_PRI ? POLLPRI : 0));

	return loop_set_add(opaque, fd, e);
}

static int get_revents(int index, void *opaque)
{
	short e = loop_set_revents(opaque, index);

	return (e & POLLIN ? SLIRP_POLL_IN : 0) | (e & POLLOUT ? SLIRP_POLL_OUT : 0) | (e & POLLPRI ? SLIRP_POLL_PRI : 0) |
	       (e & POLLERR ? SLIRP_POLL_ERR : 0) | (e & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static void user_prepare(void *opaque, struct loop_set *set)
{
	struct user *u = opaque;
	uint32_t timeout = UINT32_MAX;

	library.slirp_pollfds_fill(u->slirp, &timeout, add_poll, set);
	if (timeout != UINT32_MAX)
		loop_set_deadline(set, clock_now() + timeout * NS_PER_MS);
}

static void user_serve(void *opaque, const struct loop_set *set)
{
	struct user *u = opaque;

	library.slirp_pollfds_poll(u->slirp, 0, get_revents, (void *)set);
	deliver_end(u);
}

static void register_poll_fd(int fd, void *opaque)
{
	(void)fd; /* slirp_pollfds_fill names them all */
	(void)opaque;
}

static void notify(void *opaque) { loop_wake(((struct user *)opaque)->loop); }

/* ---- slirp's timers ---- */

struct user_timer {
	struct timer timer;
	struct user *user;
	SlirpTimerId id;
	void *opaque;
};

static void timer_fired(void *opaque)
{
	struct user_timer *t = opaque;

	library.slirp_handle_timer(t->user->slirp, t->id, t->opaque);
	deliver_end(t->user);
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_timer *t = malloc(sizeof *t);

	if (!t)
		abort(); /* as slirp's own allocations do; while a VM is built */
	*t = (struct user_timer){.user = opaque, .id = id, .opaque = cb_opaque};
	timer_init(&t->timer, t->user->timers, timer_fired, t);
	return t;
}

static void timer_release(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	timer_cancel(&t->timer);
	free(t);
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	timer_arm(&((struct user_timer *)timer)->timer, expire_ms > 0 ? (uint64_t)expire_ms * NS_PER_MS : 0);
}

static int64_t clock_get_ns(void *opaque) { return (int64_t)timer_queue_now(((struct user *)opaque)->timers); }

static void guest_error(const char *msg, void *opaque)
{
	(void)opaque;
	LOG(LOG_NET, "user: %s", msg);
}

/* ---- life ---- */

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new_opaque = timer_new,
	.timer_free = timer_release,
	.timer_mod = timer_mod,
	.register_poll_fd = register_poll_fd,
	.unregister_poll_fd = register_poll_fd,
	.notify = notify,
};

static struct in_addr address4(const struct net_user_config *c, uint8_t host)
{
	return (struct in_addr){htonl(0x0a000200u + (c->number << 8) + host)};
}

static struct in6_addr address6(const struct net_user_config *c, uint8_t host)
{
	return (struct in6_addr){.s6_addr = {0xfe, 0xc0, [7] = (uint8_t)c->number, [15] = host}};
}

static Slirp *start_slirp(struct user *u, const struct net_user_config *c)
{
	const SlirpConfig config = {
		.version = 4,
		.restricted = c->restricted,
		.in_enabled = true,
		.vnetwork = address4(c, 0),
		.vnetmask = {htonl(0xffffff00)},
		.vhost = address4(c, 2),
		.vdhcp_start = address4(c, 15),
		.vnameserver = address4(c, 3),
		.in6_enabled = !c->no_ipv6,
		.vprefix_addr6 = address6(c, 0),
		.vprefix_len = 64,
		.vhost6 = address6(c, 2),
		.vnameserver6 = address6(c, 3),
		.vhostname = c->hostname[0] ? c->hostname : NULL,
		.tftp_path = c->tftp[0] ? c->tftp : NULL,
		.bootfile = c->bootfile[0] ? c->bootfile : NULL,
		.if_mtu = SLIRP_MTU,
		.if_mru = SLIRP_MTU,
	};

	return library.slirp_new(&config, &callbacks, u);
}

static bool add_forward(struct user *u, const struct net_forward *f, char *error, size_t size)
{
	char host[INET_ADDRSTRLEN];

	if (library.slirp_add_hostfwd(u->slirp, f->udp, f->host, f->host_port, f->guest, f->guest_port) == 0)
		return true;
	int err = errno;
	snprintf(error, size, "--net hostfwd: %s port %s:%u: %s", f->udp ? "UDP" : "TCP",
		 inet_ntop(AF_INET, &f->host, host, sizeof host), f->host_port, strerror(err));
	return false;
}

static void user_close(void *backend)
{
	struct user *u = backend;

	if (u->slirp) {
		loop_remove_source(u->loop, &u->source);
		library.slirp_cleanup(u->slirp);
	}
	fragments_free(u->fragments);
	tcp_limit_free(u->limit);
	free(u);
}

static void *user_open(struct net *n, const struct net_host *host, const struct net_config *config, char *error,
		       size_t size)
{
	struct user *u;

	if (!library_load("libslirp.so.0", symbols, error, size))
		return NULL;
	u = calloc(1, sizeof *u);
	if (!u) {
		snprintf(error, size, "--net user: out of memory");
		return NULL;
	}
	u->net = n;
	u->loop = host->loop;
	u->timers = host->timers;
	u->source = (struct loop_source){.prepare = user_prepare, .serve = user_serve, .opaque = u};
	u->fragments = fragments_new();
	u->limit = tcp_limit_new(refresh_ports, port_in_use, u);
	if (!u->fragments || !u->limit || !(u->slirp = start_slirp(u, &config->user))) {
		snprintf(error, size, "--net user: libslirp %s does not start", library.slirp_version_string());
		user_close(u);
		return NULL;
	}
	loop_add_source(u->loop, &u->source);
	for (unsigned i = 0; i < config->user.forwards; i++)
		if (!add_forward(u, &config->user.forward[i], error, size)) {
			user_close(u);
			return NULL;
		}
	return u;
}

const struct net_ops net_user_ops = {
	.name = "user",
	.open = user_open,
	.close = user_close,
	.can_send = NET_CAN_CSUM | NET_CAN_TSO4 | NET_CAN_TSO6 | NET_CAN_ECN,
	.send = user_send,
	.send_end = user_send_end,
};
