/*
 * Networks: checksums and segmentation, the queue between NIC and backend, stream sockets, captures, and libslirp: ARP,
 * DHCP, a connection to a server of the host's, with large segments and without.
 */
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "dev_fixture.h"
#include "net/fragment.h"
#include "net_fixture.h"
#include "util/keyval.h"
#include "util/loop.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *loop;
static struct timer_queue *timers;

/* ---- a NIC that keeps what it gets ---- */

#define KEPT 64
static struct {
	uint8_t data[NET_FRAME_MAX];
	uint32_t len;
	struct net_offload offload;
} kept[KEPT];
static unsigned kept_count, room, ends, sendables, link_changes;

static bool nic_receive(void *nic, const struct net_frame *f)
{
	(void)nic;
	if (room == 0)
		return false;
	room--;
	if (kept_count == KEPT)
		return true;
	kept[kept_count].len = (uint32_t)net_flatten(f, kept[kept_count].data, NET_FRAME_MAX);
	CHECK_EQ(kept[kept_count].len, f->len);
	kept[kept_count++].offload = f->offload;
	return true;
}

static void nic_receive_end(void *nic)
{
	(void)nic;
	ends++;
}

static void nic_sendable(void *nic)
{
	(void)nic;
	sendables++;
}

static void nic_link_changed(void *nic, bool up)
{
	(void)nic;
	(void)up;
	link_changes++;
}

static const struct net_nic_ops nic_ops = {
	.receive = nic_receive,
	.receive_end = nic_receive_end,
	.sendable = nic_sendable,
	.link_changed = nic_link_changed,
};

static void nic_start(struct net *n)
{
	kept_count = ends = sendables = link_changes = 0;
	room = UINT32_MAX;
	net_attach(n, &nic_ops, NULL);
}

/* In libc's place: a socket that takes all there is, whoever reads. */
static bool takes_all;
ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t all = 0;

	if (!takes_all)
		return syscall(SYS_sendmsg, fd, m, flags);
	for (size_t i = 0; i < m->msg_iovlen; i++)
		all += (ssize_t)m->msg_iov[i].iov_len;
	return all;
}

static void turn(void)
{
	loop_wake(loop);
	loop_turn(loop);
}

static void send_frame(struct net *n, const uint8_t *p, size_t len, struct net_offload o)
{
	const struct iovec iov[2] = {{(void *)p, len / 3}, {(void *)(p + len / 3), len - len / 3}};
	const struct net_frame f = {.iov = iov, .iov_count = 2, .len = (uint32_t)len, .offload = o};

	net_send(n, &f);
	net_send_end(n);
}

/* ---- offloads ---- */

static void test_checksum(void)
{
	uint8_t p[2048];
	unsigned h;

	CHECK_EQ(net_sum("\x00\x01\xf2\x03\xf4\xf5\xf6\xf7", 8, 0), 0xf2dd); /* RFC 1071: ddf2 in network order */
	CHECK_EQ(net_sum("\x01", 1, 0), 0x0001);
	for (unsigned i = 0; i < 16; i++) {
		bool ip6 = i & 1, tcp = i & 2;
		size_t len = nf_packet(p, ip6, tcp, 100 + i, &h);
		uint8_t right[2048];

		CHECK(nf_right(p, len));
		memcpy(right, p, len);
		struct net_offload o = nf_leave_checksum(p, len, tcp);
		CHECK(!nf_right(p, len));
		CHECK(net_finish_checksum(p, len, &o));
		CHECK_EQ(memcmp(p, right, len), 0);
		CHECK_EQ(o.flags, NET_CSUM_VALID);
	}
	struct net_offload o = {.flags = NET_NEEDS_CSUM, .csum_start = 100, .csum_offset = 1947};
	CHECK(!net_finish_checksum(p, sizeof p, &o));
	o.csum_offset = 1946;
	CHECK(net_finish_checksum(p, sizeof p, &o));
}

static struct {
	unsigned count;
	size_t payload;
	bool tcp, ip6;
	unsigned headers, size, total;
} cutting;

static void check_segment(void *opaque, const struct net_frame *f)
{
	const uint8_t *p = f->iov[0].iov_base, *l4 = p + 14 + (cutting.ip6 ? 40 : 20);
	size_t n = f->len - cutting.headers;
	bool last = cutting.payload + n == cutting.total, first = cutting.count == 0;

	(void)opaque;
	CHECK_EQ(f->iov_count, 1);
	CHECK(nf_right(p, f->len));
	CHECK(n == cutting.size || last);
	for (size_t i = 0; i < n; i++)
		if (p[cutting.headers + i] != (uint8_t)(cutting.payload + i + (cutting.payload + i) / 256)) {
			CHECK(!"payload");
			break;
		}
	if (cutting.tcp) {
		CHECK_EQ(be32(l4 + 4), (uint32_t)(0xfffff000 + cutting.payload));
		CHECK_EQ(l4[13], 0x10 | (first ? 0x80 : 0) | (last ? 0x09 : 0));
	} else {
		CHECK_EQ(be16(l4 + 4), 8 + n);
	}
	if (!cutting.ip6)
		CHECK_EQ(be16(p + 18), 0x1234 + cutting.count);
	cutting.count++;
	cutting.payload += n;
}

static void count_segment(void *opaque, const struct net_frame *f)
{
	(void)f;
	++*(unsigned *)opaque;
}

static void test_segmentation(void)
{
	static uint8_t p[NET_FRAME_MAX];
	unsigned emitted = 0;

	for (unsigned i = 0; i < 32; i++) {
		bool ip6 = i & 1, tcp = i & 2;
		unsigned total = i < 4 ? 1 : i < 8 ? 1460 : i < 12 ? 2920 : 60000 + i;

		memset(&cutting, 0, sizeof cutting);
		cutting.ip6 = ip6;
		cutting.tcp = tcp;
		cutting.total = total;
		cutting.size = 1460;
		size_t len = nf_packet(p, ip6, tcp, total, &cutting.headers);
		struct net_offload o = nf_leave_checksum(p, len, tcp);
		o.gso = !tcp ? NET_GSO_UDP : ip6 ? NET_GSO_TCP6 : NET_GSO_TCP4;
		o.gso_size = 1460;
		CHECK(net_segment(p, len, &o, check_segment, NULL));
		CHECK_EQ(cutting.payload, total);
		CHECK_EQ(cutting.count, (total + 1459) / 1460);
	}
	unsigned h;
	size_t len = nf_packet(p, false, true, 5000, &h);
	struct net_offload o = nf_leave_checksum(p, len, true);
	o.gso = NET_GSO_TCP6; /* it is not */
	o.gso_size = 1000;
	CHECK(!net_segment(p, len, &o, count_segment, &emitted));
	o.gso = NET_GSO_UDP;
	CHECK(!net_segment(p, len, &o, count_segment, &emitted));
	o.gso = NET_GSO_TCP4;
	CHECK(!net_segment(p, len - 1, &o, count_segment, &emitted)); /* shorter than IP says */
	p[14 + 20 + 12] = 0x40; /* a TCP header that is too short */
	CHECK(!net_segment(p, len, &o, count_segment, &emitted));
	CHECK_EQ(emitted, 0);
}

/* The fragment of `p` with data [at, at + n); returns its length. */
static size_t cut_fragment(uint8_t *to, const uint8_t *p, size_t len, unsigned at, unsigned n)
{
	memcpy(to, p, 34);
	memcpy(to + 34, p + 34 + at, n);
	put_be16(to + 16, 20 + n);
	put_be16(to + 20, at / 8 | (34 + at + n < len ? 0x2000 : 0));
	net_ip4_checksum(to + 14, 20);
	return 34 + n;
}

static uint8_t *add_fragment(struct fragments *f, const uint8_t *p, size_t len, unsigned at, unsigned n, uint64_t now, size_t *whole)
{
	static uint8_t frame[NET_FRAME_MAX];
	struct net_headers h;
	size_t size = cut_fragment(frame, p, len, at, n);

	CHECK(net_parse(frame, size, &h) && h.fragment);
	return fragments_add(f, frame, &h, now, whole);
}

static void test_fragments(void)
{
	static uint8_t p[NET_FRAME_MAX];
	struct fragments *f = fragments_new();
	unsigned h;
	size_t len = nf_packet(p, false, false, 4000, &h), whole = 0;
	uint8_t *got;

	/* any order, overlapping */
	CHECK(add_fragment(f, p, len, 1480, 1480, 1, &whole) == NULL);
	CHECK(add_fragment(f, p, len, 2960, (unsigned)len - 34 - 2960, 2, &whole) == NULL);
	CHECK(add_fragment(f, p, len, 1000, 800, 2, &whole) == NULL);
	got = add_fragment(f, p, len, 0, 1480, 3, &whole);
	CHECK(got != NULL);
	CHECK_EQ(whole, len);
	CHECK(got && memcmp(got, p, len) == 0);
	/* one that is too late, and its packet begins anew */
	CHECK(add_fragment(f, p, len, 0, 1480, 10, &whole) == NULL);
	CHECK(add_fragment(f, p, len, 1480, (unsigned)len - 34 - 1480, 10 + FRAGMENT_NS, &whole) == NULL);
	CHECK(add_fragment(f, p, len, 0, 1480, 11 + FRAGMENT_NS, &whole) != NULL);
	/* more packets than there is room for: the oldest is given up */
	for (unsigned i = 0; i <= FRAGMENT_PACKETS; i++) {
		put_be16(p + 18, i);
		CHECK(add_fragment(f, p, len, 0, 1480, 100 + i, &whole) == NULL);
	}
	CHECK(add_fragment(f, p, len, 1480, (unsigned)len - 34 - 1480, 200, &whole) != NULL);
	put_be16(p + 18, 0);
	CHECK(add_fragment(f, p, len, 1480, (unsigned)len - 34 - 1480, 201, &whole) == NULL);
	/* what cannot be */
	put_be16(p + 18, 77);
	CHECK(add_fragment(f, p, len, 0, 1001, 300, &whole) == NULL); /* no multiple of 8 */
	CHECK(add_fragment(f, p, len, 1480, (unsigned)len - 34 - 1480, 300, &whole) == NULL);
	CHECK(add_fragment(f, p, len - 800, 8, (unsigned)len - 34 - 808, 300, &whole) == NULL); /* another end */
	CHECK(add_fragment(f, p, len, 0, 1480, 300, &whole) == NULL);
	/* the largest */
	len = nf_packet(p, false, false, 65535 - 28, &h);
	for (unsigned at = 0; at + 34 < len; at += 1480)
		got = add_fragment(f, p, len, at, len - 34 - at < 1480 ? (unsigned)(len - 34 - at) : 1480, 400, &whole);
	CHECK(got != NULL);
	CHECK_EQ(whole, len);
	CHECK(got && memcmp(got, p, len) == 0);
	fragments_free(f);
}

/* ---- the net and a socket ---- */

static void test_net(void)
{
	static uint8_t p[NET_FRAME_MAX + 100], got[NET_FRAME_MAX];
	int peer;
	struct net *n = nf_open(loop, timers, &peer);
	unsigned h;

	nic_start(n);
	CHECK(net_link_up(n));
	/* out: as it is, with its checksum left, to be segmented */
	size_t len = nf_packet(p, false, true, 300, &h);
	send_frame(n, p, len, (struct net_offload){0});
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(memcmp(got, p, len), 0);
	send_frame(n, p, len, nf_leave_checksum(p, len, true));
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK(nf_right(got, len));
	len = nf_packet(p, true, true, 4000, &h);
	struct net_offload o = nf_leave_checksum(p, len, true);
	o.gso = NET_GSO_TCP6;
	o.gso_size = 1440;
	send_frame(n, p, len, o);
	CHECK_EQ(nf_receive(peer, got, sizeof got), h + 1440);
	CHECK_EQ(nf_receive(peer, got, sizeof got), h + 1440);
	CHECK_EQ(nf_receive(peer, got, sizeof got), h + 1120);
	CHECK(nf_right(got, h + 1120));
	/* segments as small as the smallest MTU has them; smaller ones are dropped, and what is malformed */
	len = nf_packet(p, false, true, 50, &h);
	o = nf_leave_checksum(p, len, true);
	o.gso = NET_GSO_TCP4;
	o.gso_size = 28;
	send_frame(n, p, len, o);
	CHECK_EQ(nf_receive(peer, got, sizeof got), h + 28);
	CHECK_EQ(nf_receive(peer, got, sizeof got), h + 22);
	o.gso_size = 27;
	send_frame(n, p, len, o);
	send_frame(n, p, 13, (struct net_offload){0});
	send_frame(n, p, sizeof p, (struct net_offload){0});
	send_frame(n, p, len, (struct net_offload){.flags = NET_NEEDS_CSUM, .csum_start = 60000, .csum_offset = 60000});
	send_frame(n, p, len, (struct net_offload){.gso = NET_GSO_TCP6, .gso_size = 100});
	send_frame(n, p, len, (struct net_offload){.gso = 77, .gso_size = 100, .flags = NET_NEEDS_CSUM});
	send_frame(n, p, len, (struct net_offload){.gso = NET_GSO_TCP6, .flags = NET_NEEDS_CSUM});
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	/* in, in pieces, and while the card has no room */
	len = nf_packet(p, false, false, 1000, &h);
	nf_send(peer, p, len);
	turn();
	CHECK_EQ(kept_count, 1);
	CHECK_EQ(kept[0].len, len);
	CHECK_EQ(memcmp(kept[0].data, p, len), 0);
	CHECK(ends > 0);
	room = 0;
	for (unsigned i = 0; i < 5; i++)
		nf_send(peer, p, len - i);
	turn();
	turn();
	CHECK_EQ(kept_count, 1);
	CHECK(!net_can_deliver(n));
	room = 2;
	net_receive_ready(n);
	turn();
	CHECK_EQ(kept_count, 3);
	room = 100;
	net_receive_ready(n);
	turn();
	turn();
	CHECK_EQ(kept_count, 6);
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(kept[1 + i].len, len - i);
	/* a full socket: nothing is lost once net_can_send says no */
	unsigned sent = 0, received = 0;
	while (net_can_send(n) && sent < 100000) {
		send_frame(n, p, len, (struct net_offload){0});
		sent++;
	}
	CHECK(sent < 100000);
	CHECK_EQ(sendables, 0);
	for (unsigned i = 0; i < 1000 && received < sent; i++) {
		while (nf_receive(peer, got, sizeof got) == len)
			received++;
		turn();
	}
	CHECK_EQ(received, sent);
	CHECK(sendables > 0);
	/* the card hears of room as well when all goes out at once after net_can_send said no */
	const struct iovec iov = {p, len};
	const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len};
	sendables = 0;
	takes_all = true;
	while (net_can_send(n))
		net_send(n, &f);
	net_send_end(n);
	takes_all = false;
	turn();
	turn();
	CHECK_EQ(sendables, 1);
	/* a card that goes takes nothing with it */
	room = 0;
	nf_send(peer, p, len);
	turn();
	net_detach(n);
	turn();
	nic_start(n);
	turn();
	CHECK_EQ(kept_count, 0);
	nf_send(peer, p, len);
	turn();
	CHECK_EQ(kept_count, 1);
	/* the other side ends: the link goes down; a frame that cannot be ends it, too */
	uint8_t bad[4] = {0xff, 0, 0, 0};
	ends = 0;
	nf_send(peer, p, len);
	CHECK_EQ(write(peer, bad, 4), 4);
	turn();
	CHECK_EQ(ends, 1);
	CHECK(!net_link_up(n));
	CHECK_EQ(link_changes, 1);
	CHECK_EQ(recv(peer, got, 1, 0), 0);
	send_frame(n, p, len, (struct net_offload){0});
	net_detach(n);
	net_close(n);
	close(peer);
}

/* What a driver cannot take, the net does before. */
static void test_deliver_in_software(void)
{
	static uint8_t p[NET_FRAME_MAX];
	int peer;
	struct net *n = nf_open(loop, timers, &peer);
	unsigned h;
	size_t len = nf_packet(p, false, true, 3000, &h);
	struct net_offload o = nf_leave_checksum(p, len, true);
	const struct iovec iov = {p, len};
	struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len, .offload = o};

	f.offload.gso = NET_GSO_TCP4;
	f.offload.gso_size = 1400;
	nic_start(n);
	net_set_can_receive(n, NET_CAN_CSUM | NET_CAN_TSO4);
	net_deliver(n, &f);
	CHECK_EQ(kept_count, 1);
	CHECK_EQ(kept[0].offload.gso, NET_GSO_TCP4);
	net_set_can_receive(n, NET_CAN_CSUM);
	net_deliver(n, &f);
	CHECK_EQ(kept_count, 4);
	CHECK_EQ(kept[3].len, h + 200);
	for (unsigned i = 1; i < 4; i++)
		CHECK(nf_right(kept[i].data, kept[i].len));
	f.offload = o;
	net_deliver(n, &f);
	CHECK_EQ(kept[4].offload.flags, NET_NEEDS_CSUM);
	net_set_can_receive(n, 0);
	net_deliver(n, &f);
	CHECK(nf_right(kept[5].data, kept[5].len));
	/* what waits was made for another driver */
	net_set_can_receive(n, NET_CAN_CSUM);
	room = 0;
	net_deliver(n, &f);
	net_set_can_receive(n, 0);
	room = 1;
	net_receive_ready(n);
	CHECK_EQ(kept_count, 6);
	net_detach(n);
	net_close(n);
	close(peer);
}

static struct net *open_net(const struct net_config *c, char *error)
{
	const struct net_host host = {.loop = loop, .timers = timers};

	return net_open(&host, c, error, 256);
}

static void test_reconnect(void)
{
	struct net_config listen = {.kind = NET_SOCKET, .fd = -1}, connect;
	char error[256], path[] = "/tmp/ringside-net-test-XXXXXX";
	static uint8_t p[2000];
	unsigned h;
	size_t len = nf_packet(p, false, false, 100, &h);

	CHECK(mkdtemp(path) != NULL);
	listen.socket.address.un.sun_family = AF_UNIX;
	snprintf(listen.socket.address.un.sun_path, sizeof listen.socket.address.un.sun_path, "%s/socket", path);
	listen.socket.address_len = sizeof listen.socket.address.un;
	connect = listen;
	listen.socket.listen = true;
	CHECK(open_net(&connect, error) == NULL);
	CHECK(strstr(error, "cannot connect") != NULL);
	struct net *a = open_net(&listen, error), *b = open_net(&connect, error);
	CHECK(a != NULL && b != NULL);
	if (!a || !b)
		return;
	nic_start(b);
	turn();
	CHECK(net_link_up(a) && net_link_up(b));
	send_frame(a, p, len, (struct net_offload){0});
	turn();
	CHECK_EQ(kept_count, 1);
	net_close(a);
	turn();
	turn();
	CHECK(!net_link_up(b));
	a = open_net(&listen, error);
	CHECK(a != NULL);
	for (unsigned i = 0; i < 4 && !net_link_up(b); i++) {
		timer_queue_set_now(timers, timer_queue_now(timers) + SECOND);
		timer_queue_run(timers);
		turn();
		turn();
	}
	CHECK(net_link_up(b));
	send_frame(a, p, len, (struct net_offload){0});
	turn();
	CHECK_EQ(kept_count, 2);
	net_detach(b);
	net_close(b);
	net_close(a);
	CHECK_EQ(rmdir(path), 0); /* the socket is gone */
}

static uint32_t le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static void test_pcap(void)
{
	char path[] = "/tmp/ringside-pcap-XXXXXX", error[256];
	int pair[2], fd = mkstemp(path);
	struct net_config c = {.kind = NET_SOCKET};
	static uint8_t p[2000], file[8192];
	unsigned h;
	size_t len = nf_packet(p, false, true, 321, &h);

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	c.fd = pair[0];
	snprintf(c.pcap, sizeof c.pcap, "%s", path);
	struct net *n = open_net(&c, error);
	nic_start(n);
	send_frame(n, p, len, (struct net_offload){0});
	nf_send(pair[1], p, len - 1);
	turn();
	net_detach(n);
	net_close(n);
	CHECK_EQ(read(fd, file, sizeof file), (ssize_t)(24 + 16 + len + 16 + len - 1));
	CHECK_EQ(memcmp(file, "\x4d\x3c\xb2\xa1\x02\x00\x04\x00", 8), 0);
	CHECK_EQ(le32(file + 20), 1);
	CHECK_EQ(le32(file + 24 + 8), len);
	CHECK_EQ(memcmp(file + 40, p, len), 0);
	CHECK_EQ(le32(file + 40 + len + 12), len - 1);
	close(fd);
	close(pair[1]);
	unlink(path);
	snprintf(c.pcap, sizeof c.pcap, "/nonexistent/x");
	CHECK(open_net(&c, error) == NULL);
	CHECK(strstr(error, "pcap=/nonexistent/x") != NULL);
}

/* ---- libslirp ---- */

/* Turns the loop until `count` frames came. */
static bool wait_kept(unsigned count)
{
	for (unsigned i = 0; i < 2000 && kept_count < count; i++) {
		turn();
		if (i > 20)
			usleep(1000);
	}
	return kept_count >= count;
}

/* `subnet`: the third byte of all addresses. */
static void test_arp_and_dhcp(struct net *n, uint8_t subnet)
{
	const uint8_t gateway[4] = {10, 0, subnet, 2}, first[4] = {10, 0, subnet, 15};
	static uint8_t p[600];

	memset(p, 0xff, 6);
	memcpy(p + 6, nf_mac, 6);
	put_be16(p + 12, 0x0806);
	memcpy(p + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(p + 22, nf_mac, 6);
	memset(p + 28, 0, 10);
	memcpy(p + 28, first, sizeof first);
	memcpy(p + 38, gateway, sizeof gateway);
	send_frame(n, p, 42, (struct net_offload){0});
	CHECK(wait_kept(1));
	CHECK_EQ(be16(kept[0].data + 20), 2); /* a reply */
	CHECK_EQ(memcmp(kept[0].data + 28, gateway, 4), 0);
	/* DHCPDISCOVER */
	unsigned h;
	size_t len = nf_packet(p, false, false, 300, &h);
	memset(p, 0xff, 6);
	memcpy(p + 26, "\0\0\0\0\xff\xff\xff\xff", 8);
	net_ip4_checksum(p + 14, 20);
	put_be16(p + 34, 68);
	put_be16(p + 36, 67);
	put_be16(p + 40, 0); /* no checksum */
	memset(p + h, 0, 300);
	memcpy(p + h, "\1\1\6\0xid0", 8);
	memcpy(p + h + 28, nf_mac, 6);
	memcpy(p + h + 236, "\x63\x82\x53\x63\x35\1\1\xff", 8);
	kept_count = 0;
	send_frame(n, p, len, (struct net_offload){0});
	CHECK(wait_kept(1));
	CHECK_EQ(memcmp(kept[0].data + h + 16, first, 4), 0); /* an offer */
}

/* A TCP segment of the connection, its checksum left to the other side when `o` is given back with it. */
static size_t tcp_segment(uint8_t *p, uint16_t port, uint32_t seq, uint32_t ack, uint8_t flags, size_t payload,
			  struct net_offload *o)
{
	unsigned h, options = flags & 2 ? 4 : 0;
	size_t len = nf_packet(p, false, true, payload + options, &h);

	put_be16(p + 36, port);
	put_be32(p + 38, seq);
	put_be32(p + 42, ack);
	p[46] = (uint8_t)(0x50 + options / 4 * 0x10);
	p[47] = flags;
	put_be16(p + 48, 0xffff);
	if (options)
		memcpy(p + h, "\2\4\x05\xb4", 4); /* MSS 1460 */
	*o = nf_leave_checksum(p, len, true);
	return len;
}

static uint8_t sent_data[NET_FRAME_MAX], got_data[NET_FRAME_MAX];

/* The guest takes 40000 bytes from the server; how many frames they came in. */
static unsigned take_data(struct net *n, int server, uint16_t port, uint32_t seq, uint32_t *ack, bool large)
{
	static uint8_t p[NET_FRAME_MAX];
	unsigned total = 40000, got = 0, frames = 0, i = 0;
	struct net_offload o;

	kept_count = 0;
	CHECK_EQ(write(server, sent_data, total), total);
	for (unsigned tries = 0; tries < 2000 && got < total; tries++) {
		turn();
		for (; i < kept_count; i++) {
			unsigned headers = 34 + (kept[i].data[46] >> 4) * 4u, len = be16(kept[i].data + 16) - (headers - 14);

			if (!len || be32(kept[i].data + 38) != *ack)
				continue;
			frames++;
			memcpy(got_data + got, kept[i].data + headers, len);
			got += len;
			*ack += len;
			if (kept[i].len > 1514) {
				CHECK(large);
				CHECK_EQ(kept[i].offload.gso, NET_GSO_TCP4);
				CHECK_EQ(kept[i].offload.gso_size, 1460);
				CHECK_EQ(kept[i].offload.flags, NET_NEEDS_CSUM);
			} else {
				CHECK(nf_right(kept[i].data, kept[i].len));
			}
		}
		if (i == kept_count) {
			i = kept_count = 0;
			size_t len = tcp_segment(p, port, seq, *ack, 0x10, 0, &o);
			send_frame(n, p, len, o);
		}
		if (tries > 100)
			usleep(1000);
	}
	CHECK_EQ(got, total);
	CHECK_EQ(memcmp(got_data, sent_data, total), 0);
	return frames;
}

static size_t resident(void)
{
	unsigned long all = 0, here = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%lu %lu", &all, &here) == 2);
	fclose(f);
	return here * 4096;
}

static size_t server_reads(int server, size_t want)
{
	size_t got = 0;

	for (unsigned i = 0; i < 1000 && got < want; i++) {
		turn();
		ssize_t r = recv(server, got_data + got, want - got, MSG_DONTWAIT);

		got += r > 0 ? (size_t)r : 0;
		if (i > 100)
			usleep(1000);
	}
	return got;
}

/* Every other byte of 40000, each in a segment of its own, behind a gap; then all of them. */
static void test_out_of_order(struct net *n, int server, uint16_t port, uint32_t *seq, uint32_t ack)
{
	static uint8_t p[NET_FRAME_MAX];
	struct net_offload o;
	size_t before = resident(), len;

	for (unsigned i = 1; i < 40000; i += 2) {
		len = tcp_segment(p, port, *seq + i, ack, 0x18, 1, &o);
		send_frame(n, p, len, o);
		if (i % 100 == 1)
			turn();
		kept_count = 0;
	}
	CHECK(resident() - before < 16u << 20);
	len = tcp_segment(p, port, *seq, ack, 0x18, 40000, &o);
	o.gso = NET_GSO_TCP4;
	o.gso_size = 1460;
	memcpy(sent_data, p + 54, 40000);
	send_frame(n, p, len, o);
	*seq += 40000;
	/* What came early and short is what all such segments carry: their first byte. */
	CHECK_EQ(server_reads(server, 40000), 40000);
	unsigned wrong = 0;
	for (unsigned i = 0; i < 40000; i++)
		wrong += got_data[i] != sent_data[i] && !(i % 2 && got_data[i] == p[54]);
	CHECK_EQ(wrong, 0);
}

static void test_connection(struct net *n)
{
	static uint8_t p[NET_FRAME_MAX];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof a;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), server = -1;
	struct net_offload o;
	uint32_t seq = 1000, ack;

	CHECK(bind(listener, (struct sockaddr *)&a, size) == 0 && listen(listener, 1) == 0);
	getsockname(listener, (struct sockaddr *)&a, &size);
	uint16_t port = ntohs(a.sin_port);
	kept_count = 0;
	size_t len = tcp_segment(p, port, seq++, 0, 2, 0, &o);
	send_frame(n, p, len, o);
	CHECK(wait_kept(1));
	CHECK_EQ(kept[kept_count - 1].data[47], 0x12); /* SYN, ACK */
	CHECK_EQ(be32(kept[kept_count - 1].data + 42), seq);
	ack = be32(kept[kept_count - 1].data + 38) + 1;
	len = tcp_segment(p, port, seq, ack, 0x10, 0, &o);
	send_frame(n, p, len, o);
	for (unsigned i = 0; i < 1000 && server < 0; i++) {
		turn();
		server = accept(listener, NULL, NULL);
	}
	CHECK(server >= 0);
	/* one large segment out */
	len = tcp_segment(p, port, seq, ack, 0x18, 30000, &o);
	o.gso = NET_GSO_TCP4;
	o.gso_size = 1460;
	memcpy(sent_data, p + 54, 30000);
	send_frame(n, p, len, o);
	seq += 30000;
	CHECK_EQ(server_reads(server, 30000), 30000);
	CHECK_EQ(memcmp(got_data, sent_data, 30000), 0);
	test_out_of_order(n, server, port, &seq, ack);
	for (unsigned i = 0; i < sizeof sent_data; i++)
		sent_data[i] = (uint8_t)(i * 7 + i / 300);
	CHECK(take_data(n, server, port, seq, &ack, false) >= 28);
	net_set_can_receive(n, NET_CAN_CSUM | NET_CAN_TSO4);
	CHECK(take_data(n, server, port, seq, &ack, true) <= 10);
	close(server);
	close(listener);
}

static void test_user(void)
{
	struct net_config c = {.kind = NET_USER, .fd = -1};
	char error[256];
	struct net *n;

	memcpy(c.mac, nf_mac, sizeof c.mac);
	n = open_net(&c, error);
	if (!n) {
		printf("not ok: %s\n", error);
		failed++;
		return;
	}
	nic_start(n);
	test_arp_and_dhcp(n, 2);
	test_connection(n);
	net_detach(n);
	net_close(n);
	c.user.number = 3;
	n = open_net(&c, error);
	nic_start(n);
	test_arp_and_dhcp(n, 5);
	net_detach(n);
	net_close(n);
}

static void test_keyval_repeats(void)
{
	struct keyval kv;
	const char *word;

	CHECK_EQ(keyval_split_repeats(&kv, "user,h=1,x=2,h=3", "h", &word), 0);
	CHECK_EQ(strcmp(keyval_take(&kv, "h"), "1"), 0);
	CHECK_EQ(strcmp(keyval_left(&kv), "x"), 0);
	CHECK_EQ(strcmp(keyval_take(&kv, "h"), "3"), 0);
	CHECK(keyval_take(&kv, "h") == NULL);
	CHECK_EQ(strcmp(keyval_take(&kv, "x"), "2"), 0);
	CHECK(keyval_left(&kv) == NULL);
	keyval_free(&kv);
	CHECK_EQ(keyval_split_repeats(&kv, "user,x=1,x=2", "h", &word), -EINVAL);
	keyval_free(&kv);
}

int main(void)
{
	fixture_start();
	timers = queue;
	loop = loop_new(&lock);
	pthread_mutex_lock(&lock);
	test_checksum();
	test_segmentation();
	test_fragments();
	test_net();
	test_deliver_in_software();
	test_reconnect();
	test_pcap();
	test_user();
	test_keyval_repeats();
	loop_free(loop);
	fixture_stop();
	return summary();
}
