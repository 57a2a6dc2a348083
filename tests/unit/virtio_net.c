/*
 * virtio-net under a driver: headers and offloads both ways, mergeable buffers, buffers that come late, filters, the
 * control queue, legacy and packed rings.
 */
#include "virtio_driver.h"

#include "net_fixture.h"
#include "virtio/net.h"

enum { RX, TX };
#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_GUEST_OFFLOADS (1ull << 2)
#define F_MAC (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_HOST_TSO4 (1ull << 11)
#define F_MRG (1ull << 15)
#define F_STATUS (1ull << 16)
#define F_CTRL (1ull << 17)
#define F_CTRL_RX (1ull << 18)
#define F_CTRL_VLAN (1ull << 19)
#define F_MQ (1ull << 22)
#define F_CTRL_MAC (1ull << 23)
#define HEADER 12u

static struct net *net;
static struct virtio_net *card;
static struct vd v;
static int peer;
static uint8_t p[NET_FRAME_MAX], got[NET_FRAME_MAX];

static unsigned pairs = 1;

static void start(uint64_t features, bool legacy)
{
	vd_start();
	net = nf_open(loop, queue, &peer);
	const struct virtio_net_config config = {.pci = pci, .devfn = -1, .loop = loop, .net = net, .pairs = pairs};
	card = virtio_net_new(&config);
	if (!card)
		exit(1);
	vd_probe(&v, 0, legacy, true);
	CHECK(vd_negotiate(&v, (legacy ? 0 : VIRTIO_F_VERSION_1) | features));
	for (unsigned i = 0; i < 2 * pairs + 1; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
	vd_turn();
}

static void stop(void)
{
	virtio_net_free(card);
	net_close(net);
	close(peer);
	vd_stop();
}

/* Sends a frame with a header, in three segments. */
static void transmit(const void *header, unsigned header_size, size_t len)
{
	uint64_t at = vd_alloc(header_size + len, 8);
	const struct vd_segment s[3] = {
		{at, 5}, {at + 5, header_size + 20}, {at + 25 + header_size, (uint32_t)len - 25}};

	memcpy(vd_ram(at), header, header_size);
	memcpy(vd_ram(at + header_size), p, len);
	CHECK_EQ(vd_transfer(&v, TX, s, 3, 0), 0);
}

static uint64_t offer(uint32_t len)
{
	struct vd_segment s = {vd_alloc(len, 8), len};

	memset(vd_ram(s.gpa), 0xee, len);
	vd_add(&v, RX, &s, 0, 1);
	return s.gpa;
}

static void test_transmit(bool legacy, uint64_t features)
{
	unsigned h, header_size = legacy ? 10 : 12;
	uint8_t header[12] = {0};

	start(features | F_CSUM | F_HOST_TSO4, legacy);
	CHECK_EQ(memcmp((uint8_t[4]){0x52, 0x54, 0, 0x12}, &(uint32_t){(uint32_t)vd_config(&v, 0, 4)}, 4), 0);
	size_t len = nf_packet(p, false, true, 500, &h);
	transmit(header, header_size, len);
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(memcmp(got, p, len), 0);
	nf_leave_checksum(p, len, true);
	header[0] = 1;
	put_be16(header + 6, 34 << 8);
	put_be16(header + 8, 16 << 8);
	transmit(header, header_size, len);
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK(nf_right(got, len));
	len = nf_packet(p, false, true, 3000, &h);
	nf_leave_checksum(p, len, true);
	header[1] = 1;
	header[4] = 0xe8; /* 1000 */
	header[5] = 0x03;
	transmit(header, header_size, len);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(nf_receive(peer, got, sizeof got), h + 1000);
		CHECK(nf_right(got, h + 1000));
	}
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	CHECK(vd_messages[TX + 1] > 0);
	/* no frame, half a header */
	const struct vd_segment shorter = {0x1000, 7}, empty = {0x1000, header_size};
	CHECK_EQ(vd_transfer(&v, TX, &shorter, 1, 0), 0);
	CHECK_EQ(vd_transfer(&v, TX, &empty, 1, 0), 0);
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	CHECK(!(vd_status(&v) & VD_NEEDS_RESET));
	stop();
}

static void test_receive_merged(void)
{
	unsigned h;
	uint16_t id;
	uint32_t len, total = 0;
	uint64_t at[8];

	start(F_MRG | F_GUEST_CSUM, false);
	size_t size = nf_packet(p, false, false, 1400, &h);
	for (unsigned i = 0; i < 2; i++)
		at[i] = offer(512);
	vd_kick(&v, RX);
	vd_turn();
	nf_send(peer, p, size);
	vd_turn();
	CHECK(!vd_used(&v, RX, &id, &len)); /* it does not fit yet */
	at[2] = offer(512);
	vd_kick(&v, RX);
	vd_turn();
	vd_turn();
	for (unsigned i = 0; i < 3; i++) {
		CHECK(vd_used(&v, RX, &id, &len));
		memcpy(got + total, vd_ram(at[i]), len);
		total += len;
	}
	CHECK_EQ(total, HEADER + size);
	CHECK_EQ(got[10], 3);
	CHECK_EQ(memcmp(got + HEADER, p, size), 0);
	CHECK(!vd_used(&v, RX, &id, &len));
	CHECK_EQ(vd_messages[RX + 1], 1);
	/* behind each other, in order */
	for (unsigned i = 0; i < 5; i++)
		at[i] = offer(2048);
	vd_kick(&v, RX);
	for (unsigned i = 0; i < 5; i++)
		nf_send(peer, p, size - i);
	vd_turn();
	for (unsigned i = 0; i < 5; i++) {
		CHECK(vd_used(&v, RX, &id, &len));
		CHECK_EQ(len, HEADER + size - i);
		CHECK_EQ(*vd_ram(at[i] + 10), 1);
		CHECK_EQ(*vd_ram(at[i] + len), 0xee); /* nothing behind its end */
	}
	stop();
}

static void test_receive_whole(void)
{
	unsigned h;
	uint16_t id;
	uint32_t len;

	start(F_GUEST_CSUM | F_GUEST_TSO4, false);
	size_t size = nf_packet(p, false, true, 4000, &h);
	const struct iovec iov = {p, size};
	struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)size, .offload = nf_leave_checksum(p, size, true)};

	f.offload.gso = NET_GSO_TCP4;
	f.offload.gso_size = 1460;
	f.offload.header_len = (uint16_t)h;
	offer(100); /* too small for anything: frames that do not fit are lost */
	vd_kick(&v, RX);
	vd_turn();
	net_deliver(net, &f);
	net_deliver_end(net);
	CHECK(!vd_used(&v, RX, &id, &len));
	vd_set_status(&v, 0);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | F_GUEST_CSUM | F_GUEST_TSO4));
	for (unsigned i = 0; i < 3; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
	uint64_t at = offer(65562);
	vd_kick(&v, RX);
	vd_turn();
	net_deliver(net, &f);
	net_deliver_end(net);
	CHECK(vd_used(&v, RX, &id, &len));
	CHECK_EQ(len, HEADER + size);
	const uint8_t header[12] = {1, 1, (uint8_t)h, 0, 0xb4, 0x05, 34, 0, 16, 0, 1, 0};
	CHECK_EQ(memcmp(vd_ram(at), header, sizeof header), 0);
	CHECK_EQ(memcmp(vd_ram(at + HEADER), p, size), 0);
	/* without the offloads: whole frames only, nothing in the header */
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < 3; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
	for (unsigned i = 0; i < 4; i++)
		at = offer(1526);
	vd_kick(&v, RX);
	vd_turn();
	net_deliver(net, &f);
	for (unsigned i = 0; i < 3; i++)
		CHECK(vd_used(&v, RX, &id, &len));
	CHECK_EQ(len, HEADER + h + 4000 - 2 * 1460);
	CHECK_EQ(*vd_ram(at - 1528), 0);
	CHECK(nf_right(vd_ram(at - 1528 + HEADER), len - HEADER));
	stop();
}

/* A command; the device's answer. */
static int command(uint8_t class, uint8_t command, const void *data, uint32_t len)
{
	uint64_t at = vd_alloc(len + 3, 8);
	const struct vd_segment s[3] = {{at, 2}, {at + 2, len}, {at + 2 + len, 1}};

	*vd_ram(at) = class;
	*vd_ram(at + 1) = command;
	memcpy(vd_ram(at + 2), data, len);
	*vd_ram(at + 2 + len) = 0xee;
	CHECK_EQ(vd_transfer(&v, 2 * pairs, s, 2, 1), 1);
	return *vd_ram(at + 2 + len);
}

/* Does a frame to `mac` come through? */
static bool comes_through(const char *mac, int vlan)
{
	unsigned h;
	uint16_t id;
	uint32_t len;
	size_t size = nf_packet(p, false, false, 100, &h);

	memcpy(p, mac, 6);
	if (vlan >= 0) {
		put_be16(p + 12, 0x8100);
		put_be16(p + 14, (unsigned)vlan);
	}
	offer(2048);
	vd_kick(&v, RX);
	nf_send(peer, p, size);
	vd_turn();
	vd_turn();
	return vd_used(&v, RX, &id, &len);
}

static void test_control(void)
{
	static const char own[] = "\x52\x54\x00\x12\x34\x56", other[] = "\x52\x54\x00\x12\x34\x57";
	static const char group[] = "\x33\x33\x00\x00\x00\x01", group2[] = "\x33\x33\x00\x00\x00\x02", all[] = "\xff\xff\xff\xff\xff\xff";
	uint8_t table[8 + 12 + 65 * 6] = {1, 0, 0, 0, 0x52, 0x54, 0, 0x12, 0x34, 0x57, 1, 0, 0, 0, 0x33, 0x33, 0, 0, 0, 2};

	start(F_MRG | F_CTRL | F_CTRL_RX | F_CTRL_MAC | F_CTRL_VLAN, false);
	CHECK(comes_through(own, -1) && comes_through(other, -1) && comes_through(group, -1));
	CHECK_EQ(command(0, 0, "\0", 1), 0); /* not promiscuous */
	CHECK(comes_through(own, -1) && comes_through(all, -1));
	CHECK(!comes_through(other, -1) && !comes_through(group, -1));
	CHECK_EQ(command(0, 1, "\1", 1), 0); /* all groups */
	CHECK(comes_through(group, -1) && !comes_through(other, -1));
	CHECK_EQ(command(0, 1, "\0", 1), 0);
	CHECK_EQ(command(1, 0, table, 20), 0);
	CHECK(comes_through(other, -1) && comes_through(group2, -1) && !comes_through(group, -1));
	CHECK_EQ(command(1, 1, other, 6), 0);
	CHECK_EQ(command(1, 0, table + 20, 8), 0); /* empty lists */
	CHECK(comes_through(other, -1) && !comes_through(own, -1));
	CHECK_EQ(vd_config(&v, 5, 1), 0x57);
	table[0] = 65;
	put_be32(table + 4 + 65 * 6, 0);
	CHECK_EQ(command(1, 0, table, 8 + 65 * 6), 0); /* more than the table has: all of the kind */
	CHECK(comes_through(own, -1) && !comes_through(group2, -1));
	CHECK_EQ(command(0, 5, "\1", 1), 0);
	CHECK(!comes_through(all, -1));
	CHECK_EQ(command(0, 5, "\0", 1), 0);
	CHECK(!comes_through(all, 7));
	CHECK_EQ(command(2, 0, "\7\0", 2), 0);
	CHECK(comes_through(all, 7) && !comes_through(all, 8));
	CHECK_EQ(command(2, 1, "\7\0", 2), 0);
	CHECK(!comes_through(all, 7));
	/* what is no command */
	CHECK_EQ(command(1, 0, "\xff\xff\xff\xff\0\0\0\0", 8), 1);
	CHECK_EQ(command(1, 0, "\0\0\0\0", 4), 1);
	CHECK_EQ(command(2, 0, "\0\x10", 2), 1);
	CHECK_EQ(command(0, 6, "\0", 1), 1);
	CHECK_EQ(command(0, 0, "", 0), 1);
	CHECK_EQ(command(4, 0, "\1\0", 2), 1);
	CHECK_EQ(command(5, 0, "\1\0\0\0\0\0\0\0", 8), 1); /* not negotiated */
	stop();
}

/* Sends a UDP packet from `port` by a pair. */
static void transmit_by(unsigned pair, unsigned port)
{
	unsigned h;
	size_t len = nf_packet(p, false, false, 100, &h);
	uint64_t at = vd_alloc(HEADER + len, 8);
	const struct vd_segment s = {at, (uint32_t)(HEADER + len)};

	put_be16(p + 34, port);
	put_be16(p + 40, 0);
	memset(vd_ram(at), 0, HEADER);
	memcpy(vd_ram(at + HEADER), p, len);
	CHECK_EQ(vd_transfer(&v, 2 * pair + TX, &s, 1, 0), 0);
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
}

/* By which pair an answer to that comes; -1: none. */
static int comes_by(unsigned port)
{
	unsigned h;
	uint16_t id;
	uint32_t len;
	size_t size = nf_packet(p, false, false, 100, &h);

	memcpy(p + 26, "\x0a\0\2\2\x0a\0\2\x0f", 8);
	put_be16(p + 34, 80);
	put_be16(p + 36, port);
	nf_send(peer, p, size);
	vd_turn();
	vd_turn();
	for (unsigned pair = 0; pair < pairs; pair++)
		if (vd_used(&v, 2 * pair + RX, &id, &len))
			return (int)pair;
	return -1;
}

static void test_pairs(void)
{
	pairs = 3;
	start(F_MRG | F_CTRL | F_MQ, false);
	CHECK_EQ(vd_config(&v, 8, 2), 3);
	for (unsigned pair = 0; pair < pairs; pair++)
		for (unsigned i = 0; i < 8; i++) {
			struct vd_segment s = {vd_alloc(2048, 8), 2048};

			vd_add(&v, 2 * pair + RX, &s, 0, 1);
		}
	transmit_by(0, 5000);
	CHECK_EQ(comes_by(5000), 0);
	CHECK_EQ(command(4, 0, "\0\0", 2), 1);
	CHECK_EQ(command(4, 0, "\4\0", 2), 1);
	CHECK_EQ(command(4, 1, "\2\0", 2), 1);
	CHECK_EQ(command(4, 0, "\3\0", 2), 0);
	transmit_by(2, 5000);
	transmit_by(1, 5001);
	CHECK_EQ(comes_by(5000), 2);
	CHECK_EQ(comes_by(5001), 1);
	CHECK_EQ(comes_by(5002), 0);
	transmit_by(0, 5000); /* it moves */
	CHECK_EQ(comes_by(5000), 0);
	CHECK(vd_messages[2 * 2 + RX + 1] > 0 && vd_messages[2 + RX + 1] > 0);
	CHECK_EQ(command(4, 0, "\1\0", 2), 0);
	CHECK_EQ(comes_by(5001), 0);
	stop();
	pairs = 1;
}

static void test_features(void)
{
	start(F_STATUS | F_MAC, false);
	CHECK_EQ(vd_config(&v, 6, 2), 1);
	CHECK(!vd_negotiate(&v, VIRTIO_F_VERSION_1 | F_GUEST_TSO4));
	CHECK(!vd_negotiate(&v, VIRTIO_F_VERSION_1 | F_HOST_TSO4));
	CHECK(!vd_negotiate(&v, VIRTIO_F_VERSION_1 | F_CTRL_RX));
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | F_STATUS));
	vd_queue_up(&v, RX, 0);
	vd_driver_ok(&v);
	close(peer);
	unsigned before = vd_messages[0];
	vd_turn();
	vd_turn();
	CHECK_EQ(vd_config(&v, 6, 2), 0); /* no link */
	CHECK_EQ(vd_messages[0], before + 1);
	peer = -1;
	stop();
}

int main(void)
{
	test_transmit(false, 0);
	test_transmit(false, VIRTIO_F_RING_PACKED);
	test_transmit(true, 0);
	test_receive_merged();
	test_receive_whole();
	test_control();
	test_pairs();
	test_features();
	return summary();
}
