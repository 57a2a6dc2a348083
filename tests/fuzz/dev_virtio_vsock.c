/*
 * A hostile driver for virtio sockets, with a program of the host on each side: one that connects, one that listens.
 */
#define FUZZ_QUEUES 3
#include "virtio_fuzz.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/vsock.h"

enum { CLIENTS = 4, FUZZ_CID = 3 };

static char path[64];
static int listener, host, client[CLIENTS];

static int address(const char *suffix, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof a->sun_path, "%s%s", path, suffix);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	struct sockaddr_un a;

	snprintf(path, sizeof path, "/dev/shm/ringside-fuzz-%d", (int)getpid());
	listener = virtio_vsock_listen(path);
	host = address("_1", &a);
	unlink(a.sun_path);
	if (listener < 0 || bind(host, (struct sockaddr *)&a, sizeof a) < 0 || listen(host, 16) < 0)
		abort();
	memset(client, 0xff, sizeof client);
	return virtio_vsock_new(bus, l, FUZZ_CID, path, listener);
}

static void fuzz_free(void *device)
{
	struct sockaddr_un a;

	virtio_vsock_free(device);
	close(listener);
	close(host);
	close(address("_1", &a));
	unlink(a.sun_path);
	unlink(path);
	for (unsigned i = 0; i < CLIENTS; i++)
		if (client[i] >= 0)
			close(client[i]);
}

/* A packet whose fields are few, so that they meet those of connections. */
static void good_packet(struct fuzz_input *in)
{
	const uint32_t ports[] = {1, 1 << 30, (1 << 30) + 1, 7};
	uint8_t *p = vd_ram(0x8000);
	const uint64_t cids[2] = {fuzz_take(in, 1) % 8 ? FUZZ_CID : fuzz_take(in, 8), 2};
	const uint32_t numbers[] = {(uint32_t)fuzz_take(in, 1) % 3, ports[fuzz_take(in, 1) % 4], (uint32_t)fuzz_take(in, 1),
				    (uint32_t)fuzz_take(in, 1) % 9 << 16 | 1, (uint32_t)fuzz_take(in, 1) % 4,
				    (uint32_t)fuzz_take(in, 3), (uint32_t)fuzz_take(in, 1)};

	memcpy(p, cids, sizeof cids);
	memcpy(p + sizeof cids, numbers, sizeof numbers);
}

static void fuzz_event(void *device, struct fuzz_input *in)
{
	static const char text[] = "CONNECT 1\nsome text that follows it";
	static const char *const lines[] = {"CONNECT 2\n", "CONNECT", "CONNECT 99999999999\n", text};
	unsigned n = (unsigned)fuzz_take(in, 1) % CLIENTS;
	struct sockaddr_un a;
	char got[256];

	(void)device;
	switch (fuzz_take(in, 1) % 6) {
	case 0:
		if (client[n] >= 0)
			close(client[n]);
		client[n] = address("", &a);
		if (connect(client[n], (struct sockaddr *)&a, sizeof a) == 0) {
			const char *line = lines[fuzz_take(in, 1) % 4];

			send(client[n], line, strlen(line), MSG_NOSIGNAL);
		}
		break;
	case 1:
		if (client[n] >= 0)
			close(client[n]);
		client[n] = accept4(host, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case 2:
		if (client[n] >= 0)
			send(client[n], text, sizeof text, MSG_NOSIGNAL);
		break;
	case 3:
		if (client[n] >= 0 && recv(client[n], got, sizeof got, 0) == 0)
			shutdown(client[n], SHUT_WR);
		break;
	case 4:
		if (client[n] >= 0)
			close(client[n]);
		client[n] = -1;
		break;
	default:
		good_packet(in);
	}
}
