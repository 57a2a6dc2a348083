/*
 * A hostile guest on the user network: DHCP with options of its own making, ARP, TFTP, DNS, ICMP, neighbor discovery, and
 * TCP connections that both sides begin, whose segments go on where the other side is, or nearly there. A guest's frames
 * go through net_send to libslirp; a step is a frame, something that the host's end does, or a turn of the loop.
 * Besides what every target must not do: frames to the guest are no larger than its MTU (but of IPv6 without TCP, which
 * nobody on the way may cut), and it is answered to the end.
 *
 * Connections need a network of the process's own, which has the loopback only. Where that cannot be had, libslirp is
 * told to reach nothing outside, and there are none.
 */
#include "driver.h"

#include <arpa/inet.h>
#include <sched.h>
#include <sys/stat.h>

#include "../unit/dev_fixture.h"
#include "../unit/net_fixture.h"
#include "util/loop.h"

enum { STEPS = 80, CONNECTIONS = 4, HOST_SOCKETS = 8, SERVER_PORT = 80, FORWARDED_PORT = 2222, GUEST_PORT = 22 };
enum { DHCP_SERVER = 67, TFTP_PORT = 69, DNS_PORT = 53, UDP_HEADER = 8, ARP_FRAME = 42, COOKIE = 236 };
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMP6 = 58 };
enum { SYN = 2, ACK = 16 };

/* libslirp, whose allocations are glib's, leaves two things behind when it is closed: TFTP sessions, 20 at most, and frames
 * that wait for their receiver's address, for a second. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libglib-2.0\n"; }

static const uint8_t gateway_mac[6] = {0x52, 0x55, 10, 0, 2, 2};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t p[NET_FRAME_MAX], received[NET_FRAME_MAX];
static char directory[64], file[96];
static bool own_network, nic_full, arp_answered;

/* The guest's end of TCP connections, as far as its segments need it. */
static struct connection {
	uint16_t guest_port, peer_port;
	uint32_t seq, ack;
} connections[CONNECTIONS];

/* ---- the host's end ---- */

static int server = -1, udp_server = -1, sockets[HOST_SOCKETS];

static int bound(int type, uint16_t port)
{
	const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof a) < 0 || (type == SOCK_STREAM && listen(fd, 4) < 0))
		abort();
	return fd;
}

/* A network without anything but its loopback, for this process only. */
static bool leave_network(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
	close(fd);
	if (!up)
		return false;
	server = bound(SOCK_STREAM, SERVER_PORT);
	udp_server = bound(SOCK_DGRAM, SERVER_PORT);
	return true;
}

static void remove_files(void)
{
	unlink(file);
	rmdir(directory);
}

static void prepare(void)
{
	static bool prepared;
	FILE *f;

	if (prepared)
		return;
	prepared = true;
	own_network = leave_network();
	strcpy(directory, "/tmp/ringside-net-guest-XXXXXX");
	if (!mkdtemp(directory))
		abort();
	atexit(remove_files);
	snprintf(file, sizeof file, "%s/boot", directory);
	f = fopen(file, "w");
	if (!f)
		abort();
	for (unsigned i = 0; i < 400; i++)
		fprintf(f, "line %u\n", i);
	fclose(f);
}

static void host_acts(struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1), n = (how >> 3) % HOST_SOCKETS;
	const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(FORWARDED_PORT),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static uint8_t data[65536];
	struct sockaddr_in from;
	socklen_t from_len = sizeof from;
	ssize_t len;

	if (!own_network)
		return;
	switch (how & 7) {
	case 0: /* into the guest */
		if (sockets[n] < 0 && (sockets[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0)
			(void)!connect(sockets[n], (const struct sockaddr *)&a, sizeof a);
		break;
	case 1: /* from it */
		if (sockets[n] < 0)
			sockets[n] = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 2:
		if (sockets[n] >= 0)
			send(sockets[n], data, fuzz_take(in, 2), MSG_DONTWAIT | MSG_NOSIGNAL | (how & 64 ? MSG_OOB : 0));
		break;
	case 3:
		if (sockets[n] >= 0)
			(void)!recv(sockets[n], data, fuzz_take(in, 2), MSG_DONTWAIT);
		break;
	case 4:
		if (sockets[n] >= 0)
			shutdown(sockets[n], how & 64 ? SHUT_WR : SHUT_RD);
		break;
	case 5:
		if (sockets[n] >= 0) {
			const struct linger reset = {1, 0};

			if (how & 64)
				setsockopt(sockets[n], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
			close(sockets[n]);
			sockets[n] = -1;
		}
		break;
	default: /* datagrams come back */
		len = recvfrom(udp_server, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
		if (len >= 0)
			sendto(udp_server, data, (size_t)len, MSG_DONTWAIT, (struct sockaddr *)&from, from_len);
		break;
	}
}

/* ---- what the guest gets ---- */

static void segment_came(const uint8_t *f, const struct net_headers *h)
{
	const uint8_t *tcp = f + h->l4;
	uint16_t peer = be16(tcp), guest = be16(tcp + 2);
	unsigned payload = h->end - h->l4 - (tcp[12] >> 4) * 4u, i;

	for (i = 0; i < CONNECTIONS; i++)
		if (connections[i].guest_port == guest && connections[i].peer_port == peer)
			break;
	if (i == CONNECTIONS) {
		i = peer % CONNECTIONS;
		connections[i] = (struct connection){guest, peer, 0x7fffff00, 0};
	}
	connections[i].ack = be32(tcp + 4) + payload + (tcp[13] & SYN ? 1 : 0) + (tcp[13] & 1);
	if (tcp[13] & ACK)
		connections[i].seq = be32(tcp + 8);
}

static bool nic_receive(void *nic, const struct net_frame *f)
{
	struct net_headers h;

	(void)nic;
	if (nic_full)
		return false;
	if (f->len > sizeof received || f->len < NET_ETHERNET_HEADER)
		abort();
	size_t len = net_flatten(f, received, sizeof received);
	bool ip = net_parse(received, len, &h);
	if (len != f->len)
		abort();
	if (!f->offload.gso && len > NET_FRAME_MTU + NET_ETHERNET_HEADER && !(ip && h.ip6 && h.protocol != PROTOCOL_TCP))
		abort(); /* more than the card's MTU */
	if (be16(received + 12) == 0x0806 && len >= ARP_FRAME && received[21] == 2)
		arp_answered = true;
	if (ip && h.protocol == PROTOCOL_TCP && !h.fragment && h.end - h.l4 >= 20 &&
	    (received[h.l4 + 12] >> 4) * 4u <= h.end - h.l4)
		segment_came(received, &h);
	return true;
}

static void nic_nothing(void *nic) { (void)nic; }
static const struct net_nic_ops nic_ops = {.receive = nic_receive, .receive_end = nic_nothing, .sendable = nic_nothing};

/* ---- what it sends ---- */

static void random_bytes(struct fuzz_input *in, uint8_t *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)fuzz_take(in, 1);
}

/* Right checksums for a TCP or UDP packet, whatever else is wrong with it. */
static void seal(size_t len)
{
	struct net_headers h;

	if (!net_parse(p, len, &h) || h.fragment || h.end - h.l4 < 8 || (h.protocol == PROTOCOL_TCP && h.end - h.l4 < 20))
		return;
	uint8_t *sum_at = p + h.l4 + (h.protocol == PROTOCOL_TCP ? 16 : h.protocol == PROTOCOL_UDP ? 6 : 2);
	memset(sum_at, 0, 2);
	uint16_t sum = (uint16_t)~net_sum(p + h.l4, h.end - h.l4,
					  h.ip4 && h.protocol == PROTOCOL_ICMP ? 0 : net_pseudo_sum(p, &h, h.end - h.l4));
	memcpy(sum_at, &sum, sizeof sum);
}

static size_t make_arp(struct fuzz_input *in)
{
	unsigned how = in ? (unsigned)fuzz_take(in, 1) : 0;

	memset(p, 0xff, 6);
	memcpy(p + 6, nf_mac, 6);
	memcpy(p + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
	memcpy(p + 22, nf_mac, 6);
	memcpy(p + 28, "\x0a\0\2\x0f\0\0\0\0\0\0\x0a\0\2\2", 14);
	if (how & 1)
		p[21] = (uint8_t)fuzz_take(in, 1);
	if (how & 2)
		random_bytes(in, p + 28, 4);
	if (how & 4)
		random_bytes(in, p + 38, 4);
	if (how & 8)
		random_bytes(in, p + 22, 6);
	if (how & 16)
		random_bytes(in, p + 14, 6);
	return how & 32 ? fuzz_take(in, 1) % ARP_FRAME : ARP_FRAME;
}

static size_t udp_packet(struct fuzz_input *in, unsigned how, bool ip6, uint16_t port, size_t payload, uint8_t **data)
{
	unsigned h;
	size_t len = nf_packet(p, ip6, false, payload, &h);

	*data = p + h;
	put_be16(p + h - UDP_HEADER + 2, port);
	if (!ip6 && how & 1)
		memset(p + 30, 0xff, 4);
	if (!ip6 && how & 2)
		memset(p + 26, 0, 4);
	if (how & 4)
		p[ip6 ? 53 : 33] = (uint8_t)fuzz_take(in, 1); /* another of the network's hosts */
	if (!ip6)
		net_ip4_checksum(p + 14, 20);
	return len;
}

static size_t make_dhcp(struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1), options = (unsigned)fuzz_take(in, how & 128 ? 2 : 1) % 1200;
	uint8_t *d, *o;
	size_t len = udp_packet(in, how, false, DHCP_SERVER, COOKIE + 4 + options, &d);

	memset(d, 0, COOKIE);
	memcpy(d, "\1\1\6\0\1\2\3\4", 8);
	memcpy(d + 28, nf_mac, 6);
	memcpy(d + COOKIE, "\x63\x82\x53\x63", 4);
	if (how & 8) /* anything in the fixed part */
		for (unsigned n = (unsigned)fuzz_take(in, 1) % 8; n; n--)
			d[fuzz_take(in, 1)] = (uint8_t)fuzz_take(in, 1);
	o = d + COOKIE + 4;
	for (unsigned i = 0; i + 3 < options && in->size;) {
		static const uint8_t tags[] = {53, 53, 50, 54, 61, 55, 12, 0, 255, 119, 77};
		unsigned tag = (unsigned)fuzz_take(in, 1), size = (unsigned)fuzz_take(in, 1);

		size = size & 128 ? size : size % 8; /* some are longer than the packet */
		o[i++] = tag & 128 ? (uint8_t)tag : tags[tag % sizeof tags];
		o[i++] = (uint8_t)size;
		for (unsigned end = i + size; i < end && i < options; i++)
			o[i] = (uint8_t)fuzz_take(in, 1) % 10;
	}
	seal(len);
	return len;
}

static size_t make_tftp(struct fuzz_input *in)
{
	static const char *const name[] = {"boot", "/boot", "../boot", "missing"};
	unsigned how = (unsigned)fuzz_take(in, 1), n, extra = (unsigned)fuzz_take(in, 1) % 128;
	char text[300];
	uint8_t *d;

	if (how & 16) { /* ACK, or anything */
		text[0] = 0;
		text[1] = (char)(how & 32 ? 4 : fuzz_take(in, 1));
		text[2] = 0;
		text[3] = (char)fuzz_take(in, 1);
		n = 4;
	} else { /* RRQ */
		n = (unsigned)sprintf(text, "%c%c%s%coctet", 0, 1, name[how >> 6 & 3], 0) + 1;
		if (how & 32)
			n += (unsigned)sprintf(text + n, "%s%c%llu%ctsize%c0", how & 8 ? "blksize" : "timeout", 0,
					       (unsigned long long)fuzz_take(in, 2), 0, 0) + 1;
	}
	size_t len = udp_packet(in, how & 4, how & 1, TFTP_PORT, n + extra, &d);
	memcpy(d, text, n);
	random_bytes(in, d + n, extra);
	seal(len);
	return how & 2 && extra ? len - 1 : len;
}

/* Neighbor discovery, echoes, DHCPv6: to one of the network's hosts or all of them. */
static size_t make_icmp(struct fuzz_input *in)
{
	static const uint8_t types[] = {128, 133, 134, 135, 136, 137, 1, 2, 3, 8};
	unsigned how = (unsigned)fuzz_take(in, 1), h;
	bool ip6 = how & 1;
	size_t len = nf_packet(p, ip6, false, (unsigned)fuzz_take(in, how & 2 ? 2 : 1) % 1400, &h);
	uint8_t *icmp = p + h - UDP_HEADER;

	if (ip6 && how & 4) {
		memcpy(p + 38, "\xff\2\0\0\0\0\0\0\0\0\0\0\0\1\0\2", 16);
		put_be16(icmp + 2, 547);
	} else {
		p[ip6 ? 20 : 23] = ip6 ? PROTOCOL_ICMP6 : PROTOCOL_ICMP;
		p[ip6 ? 21 : 22] = 255;
		icmp[0] = types[how >> 4 & 7];
		icmp[1] = how & 8 ? (uint8_t)fuzz_take(in, 1) : 0;
	}
	random_bytes(in, icmp + 4, (unsigned)fuzz_take(in, 1) % 64 % (len - (size_t)(icmp + 4 - p) + 1));
	if (!ip6)
		net_ip4_checksum(p + 14, 20);
	seal(len);
	return len;
}

static size_t make_udp(struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1);
	uint8_t *d;
	size_t len = udp_packet(in, how & 6, how & 1, how & 8 ? DNS_PORT : SERVER_PORT, fuzz_take(in, how & 16 ? 2 : 1) % 1460,
				&d);

	seal(len);
	return len;
}

static size_t make_tcp(struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1), which = (unsigned)fuzz_take(in, 1), h;
	struct connection *c = &connections[which % CONNECTIONS];
	unsigned options = which >> 4 & 3, payload = how & 64 ? (unsigned)fuzz_take(in, 2) % 20000 : 0;
	static const uint8_t usual[] = {ACK, SYN, ACK | 1, ACK | 8, SYN | ACK, 4, ACK | 32, ACK};
	size_t len = nf_packet(p, false, true, payload + 4 * options, &h);
	uint8_t *tcp = p + h - 20;

	if (!c->guest_port)
		*c = (struct connection){(uint16_t)(1025 + which % CONNECTIONS), SERVER_PORT, 0xfffff000, 0};
	put_be16(tcp, c->guest_port);
	put_be16(tcp + 2, c->peer_port);
	tcp[13] = how & 128 ? (uint8_t)fuzz_take(in, 1) : usual[how & 7];
	put_be32(tcp + 4, c->seq + (how & 8 ? (uint32_t)fuzz_take(in, 2) - 0x8000 : 0));
	put_be32(tcp + 8, c->ack + (how & 16 ? (uint32_t)fuzz_take(in, 2) - 0x8000 : 0));
	put_be16(tcp + 14, how & 32 ? (unsigned)fuzz_take(in, 2) : 0xffff);
	if (tcp[13] & 32)
		put_be16(tcp + 18, (unsigned)fuzz_take(in, 2));
	tcp[12] = (uint8_t)((5 + options) << 4);
	random_bytes(in, tcp + 20, 4 * options);
	if (options && which & 64)
		memcpy(tcp + 20, "\2\4\x05\xb4", 4);
	seal(len);
	c->seq += how & 8 ? 0 : payload + (tcp[13] & SYN ? 1 : 0);
	return len;
}

static size_t make_frame(struct fuzz_input *in, unsigned kind)
{
	switch (kind & 7) {
	case 0: return make_arp(in);
	case 1: return make_dhcp(in);
	case 2: return make_tftp(in);
	case 3: return make_icmp(in);
	case 4: return make_udp(in);
	default: return make_tcp(in);
	}
}

static void guest_sends(struct net *net, size_t len)
{
	const struct iovec iov = {p, len};
	const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len};

	net_send(net, &f);
	net_send_end(net);
}

/* ---- an input ---- */

static struct net *start(const struct net_host *host)
{
	struct net_config config = {.kind = NET_USER, .fd = -1, .user = {.restricted = !own_network, .hostname = "guest"}};
	char error[256];

	strcpy(config.user.tftp, directory);
	strcpy(config.user.bootfile, "boot");
	if (own_network) {
		config.user.forwards = 1;
		config.user.forward[0] = (struct net_forward){.host.s_addr = htonl(INADDR_LOOPBACK),
							      .host_port = FORWARDED_PORT, .guest_port = GUEST_PORT};
	}
	memset(connections, 0, sizeof connections);
	for (unsigned i = 0; i < HOST_SOCKETS; i++)
		sockets[i] = -1;
	nic_full = false;
	struct net *net = net_open(host, &config, error, sizeof error);
	if (!net) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	net_attach(net, &nic_ops, NULL);
	return net;
}

static void turn(struct net *net, struct loop *loop)
{
	net_receive_ready(net);
	loop_wake(loop);
	loop_turn(loop);
}

/* It still serves one that keeps to the protocols. */
static void good_frame(struct net *net)
{
	nic_full = arp_answered = false;
	net_receive_ready(net);
	guest_sends(net, make_arp(NULL));
	if (!arp_answered || memcmp(received + 6, gateway_mac, 6) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	prepare();
	fixture_start();
	struct loop *loop = loop_new(&lock);
	if (!loop)
		abort();
	pthread_mutex_lock(&lock);
	struct net *net = start(&(struct net_host){.loop = loop, .timers = queue});
	net_set_can_receive(net, (unsigned)fuzz_take(&in, 1) % 32);
	for (unsigned i = 0; i < STEPS && in.size; i++) {
		unsigned how = (unsigned)fuzz_take(&in, 1);

		nic_full = (how & 0xf8) == 0xf8;
		if ((how & 0x18) == 0x18) {
			host_acts(&in);
		} else {
			size_t len = make_frame(&in, how);

			if (how & 32 && (how & 64)) /* damage behind the checksums' back, or an end too early */
				p[fuzz_take(&in, 1) % (len + 1)] ^= (uint8_t)fuzz_take(&in, 1);
			guest_sends(net, how & 32 && how & 128 ? fuzz_take(&in, 2) % (len + 1) : len);
		}
		if (how & 64)
			turn(net, loop);
	}
	good_frame(net);
	net_detach(net);
	net_close(net);
	pthread_mutex_unlock(&lock);
	loop_free(loop);
	fixture_stop();
	for (unsigned i = 0; i < HOST_SOCKETS; i++)
		if (sockets[i] >= 0)
			close(sockets[i]);
	return 0;
}
