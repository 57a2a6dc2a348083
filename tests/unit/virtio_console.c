/*
 * The virtio console under a driver: port numbers, control messages, data both ways, a client that comes and goes.
 */
#include "virtio_driver.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ui/chardev.h"
#include "virtio/console.h"

enum { READY = 0, ADD = 1, PORT_READY = 3, CONSOLE = 4, OPEN = 6, NAME = 7 };
#define F_MULTIPORT 2ull

static struct virtio_console *console;
static struct chardev *named, *plain;
static struct vd v;
static int pipe_out[2], pipe_in[2], client = -1;
static char path[64], error[256];
static uint64_t inbox; /* the last control message */

static void start(uint64_t features)
{
	vd_start();
	snprintf(path, sizeof path, "unix:/tmp/ringside-console-%d", (int)getpid());
	named = chardev_new(loop, path, error, sizeof error);
	if (pipe(pipe_out) < 0 || pipe(pipe_in) < 0 || !named) {
		printf("not ok: %s\n", error);
		exit(1);
	}
	plain = chardev_new_fds(loop, pipe_in[0], pipe_out[1], NULL);
	const struct virtio_console_port ports[] = {{named, "org.test"}, {plain, NULL}};
	console = virtio_console_new(pci, loop, ports, 2);
	if (!console)
		exit(1);
	vd_probe(&v, 0, false, true);
	CHECK_EQ(vd_common(&v, VC_QUEUES, 2), 6);
	CHECK_EQ(vd_config(&v, 4, 4), 2);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < 6; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
	inbox = vd_alloc(64, 8);
}

static void stop(void)
{
	virtio_console_free(console);
	chardev_free(named);
	chardev_free(plain);
	for (unsigned i = 0; i < 2; i++) {
		close(pipe_in[i]);
		close(pipe_out[i]);
	}
	if (client >= 0)
		close(client);
	client = -1;
	unlink(path + 5);
	vd_stop();
}

static void tell(uint32_t id, uint16_t event, uint16_t value)
{
	const struct vd_segment s = {vd_alloc(8, 8), 8};

	vd_put32(s.gpa, id);
	vd_put16(s.gpa + 4, event);
	vd_put16(s.gpa + 6, value);
	CHECK_EQ(vd_transfer(&v, 3, &s, 1, 0), 0);
}

/* The next control message is to be this one. */
static void expect(uint32_t id, uint16_t event, uint16_t value, const char *text)
{
	const struct vd_segment s = {inbox, 64};
	int64_t len = vd_transfer(&v, 2, &s, 0, 1);

	CHECK_EQ(len, 8 + (int64_t)strlen(text));
	CHECK_EQ(vd_get(inbox, 4), id);
	CHECK_EQ(vd_get(inbox + 4, 2), event);
	CHECK_EQ(vd_get(inbox + 6, 2), value);
	CHECK(memcmp(vd_ram(inbox + 8), text, strlen(text)) == 0);
}

static bool silent(void)
{
	uint16_t id;
	uint32_t len;

	vd_turn();
	return !vd_used(&v, 2, &id, &len);
}

static void connect_client(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path + 5);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(client >= 0 && connect(client, (struct sockaddr *)&a, sizeof a) == 0);
	vd_turn();
	vd_turn();
}

static void test_ports(void)
{
	char got[128] = "";
	uint16_t id;
	uint32_t len;

	start(F_MULTIPORT);
	tell(UINT32_MAX, READY, 1);
	expect(0, ADD, 1, "");
	expect(1, ADD, 1, "");
	tell(0, PORT_READY, 1);
	expect(0, CONSOLE, 1, "");
	expect(0, OPEN, 1, "");
	tell(1, PORT_READY, 1);
	expect(1, NAME, 1, "org.test");
	tell(7, PORT_READY, 1);  /* no such port */
	tell(2, OPEN, 1);
	const struct vd_segment s = {inbox, 64};
	vd_add(&v, 2, &s, 0, 1);
	vd_kick(&v, 2);
	CHECK(silent()); /* nobody is connected */
	connect_client();
	CHECK(vd_used(&v, 2, &id, &len));
	CHECK_EQ(vd_get(inbox + 4, 4), OPEN | 1 << 16);

	/* to the host */
	const struct vd_segment text[2] = {{vd_alloc(16, 1), 6}, {vd_alloc(16, 1), 5}};
	memcpy(vd_ram(text[0].gpa), "hello ", 6);
	memcpy(vd_ram(text[1].gpa), "world", 5);
	CHECK_EQ(vd_transfer(&v, 5, text, 2, 0), 0);
	CHECK_EQ(read(client, got, sizeof got), 11);
	CHECK(memcmp(got, "hello world", 11) == 0);
	CHECK_EQ(vd_transfer(&v, 1, text, 1, 0), 0);
	CHECK_EQ(read(pipe_out[0], got, sizeof got), 6);

	/* to the guest: kept until the port is open and has a buffer */
	CHECK_EQ(write(client, "abcdef", 6), 6);
	const struct vd_segment room = {vd_alloc(4, 1), 4};
	vd_add(&v, 4, &room, 0, 1);
	vd_kick(&v, 4);
	for (unsigned i = 0; i < 5; i++)
		vd_turn();
	CHECK(!vd_used(&v, 4, &id, &len));
	tell(1, OPEN, 1);
	for (unsigned i = 0; i < 5; i++)
		vd_turn();
	CHECK(vd_used(&v, 4, &id, &len));
	CHECK_EQ(len, 4);
	CHECK(memcmp(vd_ram(room.gpa), "abcd", 4) == 0);
	CHECK_EQ(vd_transfer(&v, 4, &room, 0, 1), 2);
	CHECK(memcmp(vd_ram(room.gpa), "ef", 2) == 0);

	vd_add(&v, 2, &s, 0, 1);
	vd_kick(&v, 2);
	close(client);
	client = -1;
	for (unsigned i = 0; i < 3; i++)
		vd_turn();
	CHECK(vd_used(&v, 2, &id, &len));
	CHECK_EQ(vd_get(inbox + 4, 4), OPEN);
	stop();
}

/* A driver that knows one port only. */
static void test_single(void)
{
	char got[16];

	start(0);
	const struct vd_segment s = {vd_alloc(16, 1), 16};
	memcpy(vd_ram(s.gpa), "0123456789abcdef", 16);
	CHECK_EQ(vd_transfer(&v, 1, &s, 1, 0), 0);
	CHECK_EQ(read(pipe_out[0], got, sizeof got), 16);
	CHECK_EQ(write(pipe_in[1], "xyz", 3), 3);
	CHECK_EQ(vd_transfer(&v, 0, &s, 0, 1), 3);
	CHECK(memcmp(vd_ram(s.gpa), "xyz", 3) == 0);
	vd_config_write(&v, 8, 4, '!');
	CHECK_EQ(read(pipe_out[0], got, sizeof got), 1);
	CHECK_EQ(got[0], '!');
	stop();
}

/* Output that the host does not take stays in the guest's buffer; a reset in the middle of it. */
static void test_stuck(void)
{
	uint16_t id;
	uint32_t len;
	char got[4096];
	size_t read_back = 0;

	start(0);
	const struct vd_segment s = {vd_alloc(1 << 20, 1), 1 << 20};
	vd_add(&v, 1, &s, 1, 0);
	vd_kick(&v, 1);
	for (unsigned i = 0; i < 10; i++)
		vd_turn();
	CHECK(!vd_used(&v, 1, &id, &len));
	for (unsigned i = 0; i < 100000 && read_back < 1 << 20; i++) {
		ssize_t n = read(pipe_out[0], got, sizeof got);

		read_back += n > 0 ? (size_t)n : 0;
		vd_turn();
	}
	CHECK_EQ(read_back, 1 << 20);
	CHECK(vd_used(&v, 1, &id, &len));
	vd_add(&v, 1, &s, 1, 0);
	vd_kick(&v, 1);
	vd_turn();
	vd_set_status(&v, 0);
	vd_turn();
	stop();
}

/* Output into nothing, as long as RAM, in turns. */
static void test_long_chain(void)
{
	struct vd_segment s[12];
	unsigned turns = 0;
	uint16_t id;
	uint32_t len;

	start(0);
	for (unsigned i = 0; i < 12; i++)
		s[i] = (struct vd_segment){0x800000, 1 << 20};
	vd_add(&v, 5, s, 12, 0);
	vd_kick(&v, 5);
	while (!vd_used(&v, 5, &id, &len) && ++turns < 100)
		vd_turn();
	CHECK(turns >= 12 && turns < 20);
	stop();
}

int main(void)
{
	test_ports();
	test_single();
	test_stuck();
	test_long_chain();
	return summary();
}
