/*
 * Virtio sockets under a driver: connections from both sides, data, credit, ends, refusals.
 */
#include "virtio_driver.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/vsock.h"

enum { RX, TX, EVENT };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { CID = 42, ALLOC = 1000, CREDIT = 256 << 10, RX_BUFFERS = 64, RX_SIZE = 4096 };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

static struct virtio_vsock *device;
static struct vd v;
static char path[64];
static int listener, host;
static uint64_t rx_buffer[RX_BUFFERS];
static uint64_t rx_of[1024]; /* by descriptor */
static struct packet got;
static uint8_t got_data[RX_SIZE];

static int unix_socket(const char *suffix, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof a->sun_path, "%s%s", path, suffix);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void offer(uint64_t buffer)
{
	const struct vd_segment s = {buffer, RX_SIZE};

	rx_of[vd_add(&v, RX, &s, 0, 1)] = buffer;
}

static void start(unsigned buffers)
{
	struct sockaddr_un a;

	vd_start();
	snprintf(path, sizeof path, "/tmp/ringside-vsock-%d", (int)getpid());
	listener = virtio_vsock_listen(path);
	host = unix_socket("_80", &a);
	unlink(a.sun_path);
	if (listener < 0 || bind(host, (struct sockaddr *)&a, sizeof a) < 0 || listen(host, 8) < 0)
		exit(1);
	device = virtio_vsock_new(pci, loop, CID, path, listener);
	if (!device)
		exit(1);
	vd_probe(&v, 0, false, true);
	CHECK_EQ(vd_pci(&v, 0, 4), 0x10531af4);
	CHECK_EQ(vd_config(&v, 0, 4), CID);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < 3; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
	for (unsigned i = 0; i < buffers; i++) {
		rx_buffer[i] = vd_alloc(RX_SIZE, 8);
		offer(rx_buffer[i]);
	}
	vd_kick(&v, RX);
	vd_turn();
}

static void stop(void)
{
	struct sockaddr_un a;

	virtio_vsock_free(device);
	close(listener);
	close(host);
	close(unix_socket("_80", &a));
	unlink(a.sun_path);
	unlink(path);
	vd_stop();
}

/* A packet of the guest's with `len` bytes of data behind it. */
static void send_flags(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t flags, uint32_t fwd_cnt, uint32_t len)
{
	static uint64_t buffer;
	const struct packet p = {.src_cid = CID, .dst_cid = 2, .src_port = guest_port, .dst_port = host_port, .len = len,
				 .type = 1, .op = op, .flags = flags, .buf_alloc = ALLOC, .fwd_cnt = fwd_cnt};

	buffer = 0x400000;
	memcpy(vd_ram(buffer), &p, sizeof p);
	memset(vd_ram(buffer + sizeof p), 'g', len);
	const struct vd_segment s[2] = {{buffer, sizeof p}, {buffer + sizeof p, len}};
	CHECK_EQ(vd_transfer(&v, TX, s, len ? 2 : 1, 0), 0);
}

static void send_op(uint16_t op, uint32_t guest_port, uint32_t host_port) { send_flags(op, guest_port, host_port, 0, 0, 0); }

/* The next packet to the guest into `got`; its buffer is offered again. */
static bool next_packet(void)
{
	uint16_t id;
	uint32_t len;

	for (unsigned i = 0; i < 4; i++) {
		vd_turn();
		if (!vd_used(&v, RX, &id, &len))
			continue;
		memcpy(&got, vd_ram(rx_of[id]), sizeof got);
		memcpy(got_data, vd_ram(rx_of[id] + sizeof got), RX_SIZE - sizeof got);
		CHECK_EQ(len, sizeof got + got.len);
		CHECK(got.src_cid == 2 && got.dst_cid == CID && got.type == 1);
		offer(rx_of[id]);
		vd_kick(&v, RX);
		return true;
	}
	return false;
}

static void expect(uint16_t op, uint32_t host_port, uint32_t guest_port)
{
	CHECK(next_packet());
	CHECK_EQ(got.op, op);
	CHECK_EQ(got.src_port, host_port);
	CHECK_EQ(got.dst_port, guest_port);
}

/* The guest connects to port 80; the host's descriptor. */
static int connect_from_guest(uint32_t guest_port)
{
	send_op(REQUEST, guest_port, 80);
	expect(RESPONSE, 80, guest_port);
	CHECK_EQ(got.buf_alloc, CREDIT);
	int fd = accept4(host, NULL, NULL, SOCK_NONBLOCK);
	CHECK(fd >= 0);
	return fd;
}

static void test_from_guest(void)
{
	char buf[4096];

	start(16);
	int fd = connect_from_guest(5000);
	send_flags(RW, 5000, 80, 0, 0, 700);
	CHECK_EQ(read(fd, buf, sizeof buf), 700);
	CHECK_EQ(buf[699], 'g');
	memset(buf, 'h', sizeof buf);
	/* no more than the guest's credit */
	CHECK_EQ(write(fd, buf, 1500), 1500);
	expect(RW, 80, 5000);
	CHECK_EQ(got.len, ALLOC);
	CHECK_EQ(got.fwd_cnt, 700);
	CHECK_EQ(got_data[0], 'h');
	CHECK(!next_packet());
	send_flags(CREDIT_UPDATE, 5000, 80, 0, ALLOC, 0);
	expect(RW, 80, 5000);
	CHECK_EQ(got.len, 500);
	send_flags(CREDIT_REQUEST, 5000, 80, 0, 1500, 0);
	expect(CREDIT_UPDATE, 80, 5000);
	/* the host sends no more */
	shutdown(fd, SHUT_WR);
	expect(SHUTDOWN, 80, 5000);
	CHECK_EQ(got.flags, 2);
	send_flags(RW, 5000, 80, 0, 1500, 10);
	CHECK_EQ(read(fd, buf, sizeof buf), 10);
	CHECK(!next_packet());
	close(fd);
	expect(SHUTDOWN, 80, 5000);
	CHECK_EQ(got.flags, 3);
	send_op(RST, 5000, 80);
	send_op(RW, 5000, 80); /* nobody there any more */
	expect(RST, 80, 5000);
	/* the guest ends it: first half, then all */
	fd = connect_from_guest(5001);
	send_flags(RW, 5001, 80, 0, 0, 20);
	send_flags(SHUTDOWN, 5001, 80, 2, 0, 0);
	CHECK_EQ(read(fd, buf, sizeof buf), 20);
	CHECK_EQ(read(fd, buf, sizeof buf), 0);
	CHECK_EQ(write(fd, "answer", 6), 6);
	expect(RW, 80, 5001);
	send_flags(SHUTDOWN, 5001, 80, 3, 6, 0);
	expect(RST, 80, 5001);
	CHECK(read(fd, buf, sizeof buf) == 0);
	close(fd);
	stop();
}

static int connect_from_host(const char *line)
{
	struct sockaddr_un a;
	int fd = unix_socket("", &a);

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
	CHECK_EQ(write(fd, line, strlen(line)), strlen(line));
	vd_turn();
	return fd;
}

static bool closed(int fd)
{
	char c;

	for (unsigned i = 0; i < 4; i++)
		vd_turn();
	ssize_t n = read(fd, &c, 1);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void test_from_host(void)
{
	char buf[64] = "", line[64];

	start(16);
	int fd = connect_from_host("CONNECT 22\nearly"), port;
	CHECK(next_packet());
	CHECK_EQ(got.op, REQUEST);
	CHECK_EQ(got.dst_port, 22);
	port = (int)got.src_port;
	CHECK(read(fd, buf, sizeof buf) < 0);
	send_op(RESPONSE, 22, (uint32_t)port);
	int n = snprintf(line, sizeof line, "OK %d\n", port);
	CHECK_EQ(read(fd, buf, sizeof buf), n);
	CHECK(strcmp(buf, line) == 0);
	expect(RW, (uint32_t)port, 22);
	CHECK_EQ(got.len, 5);
	CHECK(memcmp(got_data, "early", 5) == 0);
	close(fd);
	expect(SHUTDOWN, (uint32_t)port, 22);
	CHECK_EQ(got.flags, 3);
	send_op(RST, 22, (uint32_t)port);

	fd = connect_from_host("CONNECT 23\n");
	CHECK(next_packet());
	send_op(RST, 23, got.src_port); /* the guest does not want */
	CHECK(closed(fd));
	close(fd);
	fd = connect_from_host("CONNECT 24\n");
	CHECK(next_packet());
	close(fd); /* the host gives up */
	expect(RST, got.src_port, 24);

	static const char *const bad[] = {"GET / HTTP/1.0\n", "CONNECT\n", "CONNECT -1\n", "CONNECT 4294967296\n",
					  "CONNECT 1 \n", "CONNECT 11111111111111111111111111\n"};
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		fd = connect_from_host(bad[i]);
		CHECK(closed(fd));
		close(fd);
	}
	CHECK(!next_packet());
	fd = connect_from_host("CONN"); /* in pieces */
	CHECK_EQ(write(fd, "ECT 25\n", 7), 7);
	CHECK(next_packet());
	CHECK_EQ(got.op, REQUEST);
	vd_set_status(&v, 0); /* all connections end with the device */
	CHECK(closed(fd));
	close(fd);
	stop();
}

/* A host that reads slowly: what has credit is kept, more ends the connection. */
static void test_slow_host(void)
{
	uint64_t sent = 0, read_back = 0;
	char buf[65536];
	ssize_t n;

	start(16);
	int fd = connect_from_guest(6000), small = 1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	while (sent < CREDIT) {
		send_flags(RW, 6000, 80, 0, 0, 32768);
		sent += 32768;
	}
	for (unsigned i = 0; i < 1000 && read_back < sent; i++) {
		while ((n = read(fd, buf, sizeof buf)) > 0)
			read_back += (uint64_t)n;
		vd_turn();
	}
	CHECK_EQ(read_back, sent);
	CHECK(next_packet()); /* the guest hears that there is room again */
	CHECK_EQ(got.op, CREDIT_UPDATE);
	CHECK(got.fwd_cnt > 0 && got.fwd_cnt <= sent);
	for (unsigned i = 0; i < 40; i++) /* without end, whatever its credit */
		send_flags(RW, 6000, 80, 0, 0, 32768);
	bool reset = false;
	while (next_packet())
		reset |= got.op == RST;
	CHECK(reset);
	close(fd);
	stop();
}

/* One packet with more than there ever is credit for. */
static void test_large_packet(void)
{
	start(16);
	int fd = connect_from_guest(6001);

	send_flags(RW, 6001, 80, 0, 0, CREDIT + 1);
	expect(RST, 80, 6001);
	close(fd);
	stop();
}

/* Without buffers of the guest's nothing is lost, and nothing spins. */
static void test_no_buffers(void)
{
	start(0);
	int fd = connect_from_host("CONNECT 22\n");
	for (unsigned i = 0; i < 200; i++) { /* strangers, who are to be refused */
		const struct packet p = {.src_cid = CID, .dst_cid = 2, .src_port = i, .dst_port = 9, .type = 1, .op = RW};
		const struct vd_segment s = {0x300000 + i * 64, sizeof p};

		memcpy(vd_ram(s.gpa), &p, sizeof p);
		if (i < 100)
			vd_add(&v, TX, &s, 1, 0);
	}
	vd_kick(&v, TX);
	for (unsigned i = 0; i < 4; i++)
		vd_turn();
	unsigned refusals = 0, requests = 0;
	for (unsigned i = 0; i < 8; i++)
		offer(vd_alloc(RX_SIZE, 8));
	vd_kick(&v, RX);
	while (next_packet()) {
		refusals += got.op == RST;
		requests += got.op == REQUEST;
	}
	CHECK_EQ(refusals, 100);
	CHECK_EQ(requests, 1);
	close(fd);
	stop();
}

/* Data that found no buffer goes on when there is one, though there is nothing else to say. */
static void test_buffers_again(void)
{
	uint8_t data[300] = {1};

	start(1);
	int fd = connect_from_guest(6002);
	uint16_t id;
	uint32_t len;
	CHECK_EQ(write(fd, data, 100), 100);
	for (unsigned i = 0; i < 4; i++)
		vd_turn();
	CHECK(vd_used(&v, RX, &id, &len)); /* the only buffer, which is kept */
	CHECK_EQ(len, sizeof got + 100);
	CHECK_EQ(write(fd, data, 200), 200);
	for (unsigned i = 0; i < 4; i++)
		vd_turn();
	CHECK(!vd_used(&v, RX, &id, &len));
	offer(rx_of[id]);
	vd_kick(&v, RX);
	expect(RW, 80, 6002);
	CHECK_EQ(got.len, 200);
	close(fd);
	stop();
}

static void test_refusals(void)
{
	start(16);
	send_op(REQUEST, 7000, 81); /* nobody listens */
	expect(RST, 81, 7000);
	send_op(RST, 7000, 81);
	CHECK(!next_packet()); /* a reset is not answered */
	struct packet p = {.src_cid = CID, .dst_cid = 2, .src_port = 1, .dst_port = 2, .type = 2, .op = REQUEST};
	const struct vd_segment s = {0x400000, sizeof p};
	memcpy(vd_ram(s.gpa), &p, sizeof p);
	vd_transfer(&v, TX, &s, 1, 0);
	expect(RST, 2, 1); /* no such type */
	p.type = 1;
	p.src_cid = 99; /* somebody else's packet */
	memcpy(vd_ram(s.gpa), &p, sizeof p);
	vd_transfer(&v, TX, &s, 1, 0);
	p.src_cid = CID;
	p.len = 5; /* more than is there */
	memcpy(vd_ram(s.gpa), &p, sizeof p);
	vd_transfer(&v, TX, &s, 1, 0);
	const struct vd_segment cut = {0x400000, 20};
	vd_transfer(&v, TX, &cut, 1, 0);
	CHECK(!next_packet());
	CHECK(!(vd_status(&v) & VD_NEEDS_RESET));
	stop();
}

int main(void)
{
	test_from_guest();
	test_from_host();
	test_slow_host();
	test_large_packet();
	test_no_buffers();
	test_buffers_again();
	test_refusals();
	return summary();
}
