/*
 * A hostile driver for virtio-net, with a socket behind it that sends anything, or libslirp (which may reach nothing).
 */
#define FUZZ_QUEUES 3
#include "virtio_fuzz.h"

#include "../unit/net_fixture.h"
#include "virtio/net.h"

static struct net *net;
static int peer;

static struct net *open_user(struct loop *l)
{
	const struct net_host host = {.loop = l, .timers = queue};
	const struct net_config config = {.kind = NET_USER, .fd = -1, .user = {.restricted = true}};
	char error[256];

	return net_open(&host, &config, error, sizeof error);
}

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	static unsigned count;

	peer = -1;
	net = count++ % 4 ? nf_open(l, queue, &peer) : open_user(l);
	const struct virtio_net_config config = {.pci = bus, .devfn = -1, .loop = l, .net = net, .pairs = 1 + count % 3};
	return net ? virtio_net_new(&config) : NULL;
}

static void fuzz_free(void *device)
{
	virtio_net_free(device);
	net_close(net);
	if (peer >= 0)
		close(peer);
}

/* A frame to the guest, with something to be done on it or not. */
static void fuzz_event(void *device, struct fuzz_input *in)
{
	static uint8_t p[NET_FRAME_MAX];
	uint8_t kind = (uint8_t)fuzz_take(in, 1);
	unsigned h;
	size_t len = nf_packet(p, kind & 1, kind & 2, fuzz_take(in, 2), &h);
	struct net_offload o = {.flags = (uint8_t)fuzz_take(in, 1) & 3, .gso = (uint8_t)fuzz_take(in, 1) & 0x87,
				.gso_size = (uint16_t)fuzz_take(in, 2), .csum_start = (uint16_t)fuzz_take(in, 2),
				.csum_offset = (uint16_t)fuzz_take(in, 1)};

	(void)device;
	if (kind & 4)
		p[fuzz_take(in, 1)] = (uint8_t)fuzz_take(in, 1);
	if (kind & 8)
		len = fuzz_take(in, 2) % (len + 1);
	if ((kind & 16) && peer >= 0) {
		nf_send(peer, p, len);
		return;
	}
	const struct iovec iov = {p, len};
	const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len, .offload = o};
	net_deliver(net, &f);
	net_deliver_end(net);
}
