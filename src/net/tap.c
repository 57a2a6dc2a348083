/*
 * A tap device of the host's kernel, made before and given to Ringside's user (ip tuntap add mode tap user NAME), or a
 * descriptor of one. Frames go both ways with a struct virtio_net_hdr in front, so that the host's kernel does or puts off
 * what checksums and segmentation it likes.
 *
 * I/O thread, under vm->lock. Source: Linux, Documentation/networking/tuntap.rst and linux/if_tun.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/net.h"
#include "net/offload.h"
#include "util/log.h"
#include "util/loop.h"

#define IOV_MAX_HERE 64
#define BATCH 64 /* frames from the tap in one turn: others want the lock, too */

/* As struct virtio_net_hdr of virtio 0.9.5, in the host's byte order, which is the guest's. */
struct vnet_header {
	uint8_t flags, gso;
	uint16_t header_len, gso_size, csum_start, csum_offset;
};

struct tap {
	struct net *net;
	struct loop *loop;
	struct loop_fd fd;
	bool full; /* the last write found no room */
	uint8_t frame[NET_FRAME_MAX]; /* nothing stays in it */
};

/* ---- from the guest ---- */

static bool tap_sendable(void *backend) { return !((struct tap *)backend)->full; }

static void tap_send(void *backend, const struct net_frame *f)
{
	struct tap *t = backend;
	const struct net_offload *o = &f->offload;
	struct vnet_header header = {
		.flags = o->flags & NET_NEEDS_CSUM,
		.gso = o->gso,
		.header_len = o->header_len,
		.gso_size = o->gso_size,
		.csum_start = o->csum_start,
		.csum_offset = o->csum_offset,
	};
	struct iovec iov[IOV_MAX_HERE + 1] = {{.iov_base = &header, .iov_len = sizeof header}};
	unsigned count = f->iov_count;

	if (count > IOV_MAX_HERE) {
		iov[1] = (struct iovec){.iov_base = t->frame, .iov_len = net_flatten(f, t->frame, sizeof t->frame)};
		count = 1;
	} else {
		memcpy(iov + 1, f->iov, count * sizeof iov[0]);
	}
	if (writev(t->fd.fd, iov, (int)count + 1) >= 0)
		return;
	if (errno == EAGAIN) {
		t->full = true;
		t->fd.events |= POLLOUT;
		loop_wake(t->loop);
	} else {
		LOG(LOG_NET, "tap: a frame of %u bytes: %s", f->len, strerror(errno));
	}
}

/* ---- to the guest ---- */

static bool read_frame(struct tap *t)
{
	struct vnet_header header;
	struct iovec iov[2] = {{.iov_base = &header, .iov_len = sizeof header},
			       {.iov_base = t->frame, .iov_len = sizeof t->frame}};
	ssize_t n = readv(t->fd.fd, iov, 2);

	if (n <= (ssize_t)sizeof header) {
		/* What came with a tap that is down or gone comes again at its time; without end it must not spin. */
		if (n < 0 && errno != EAGAIN && errno != EINTR && errno != EIO) {
			fprintf(stderr, "ringside: --net tap: %s: the link is down now\n", strerror(errno));
			net_set_link(t->net, false);
			t->fd.events = 0;
			loop_remove_fd(t->loop, &t->fd);
		}
		return false;
	}
	iov[1].iov_len = (size_t)n - sizeof header;
	const struct net_frame f = {
		.iov = &iov[1],
		.iov_count = 1,
		.len = (uint32_t)iov[1].iov_len,
		.offload = {
			.flags = header.flags & (NET_NEEDS_CSUM | NET_CSUM_VALID),
			.gso = header.gso,
			.header_len = header.header_len,
			.gso_size = header.gso_size,
			.csum_start = header.csum_start,
			.csum_offset = header.csum_offset,
		},
	};
	net_deliver(t->net, &f);
	return true;
}

static void tap_ready(void *opaque, short revents)
{
	struct tap *t = opaque;
	bool some = false;

	if (revents & POLLOUT) {
		t->full = false;
		t->fd.events &= ~POLLOUT;
		net_sendable(t->net);
	}
	if (revents & ~POLLOUT) {
		/* With an error it is read in any case, or poll would come back at once for ever. */
		for (int i = 0; i < BATCH && ((revents & POLLERR) || net_can_deliver(t->net)) && read_frame(t); i++)
			some = true;
		if (!net_can_deliver(t->net))
			t->fd.events &= ~POLLIN;
	}
	if (some)
		net_deliver_end(t->net);
}

static void tap_receive_ready(void *backend)
{
	struct tap *t = backend;

	t->fd.events |= POLLIN;
	loop_wake(t->loop);
}

static void tap_set_can_deliver(void *backend, unsigned can)
{
	struct tap *t = backend;
	unsigned offload = can & NET_CAN_CSUM ? TUN_F_CSUM : 0;

	if (offload)
		offload |= (can & NET_CAN_TSO4 ? TUN_F_TSO4 : 0) | (can & NET_CAN_TSO6 ? TUN_F_TSO6 : 0) |
			   (can & NET_CAN_ECN ? TUN_F_TSO_ECN : 0);
	if (ioctl(t->fd.fd, TUNSETOFFLOAD, offload) < 0)
		LOG(LOG_NET, "tap: offloads %#x: %s", offload, strerror(errno)); /* the net does them then */
}

/* ---- life ---- */

static void tap_close(void *backend)
{
	struct tap *t = backend;

	loop_remove_fd(t->loop, &t->fd);
	if (t->fd.fd >= 0)
		close(t->fd.fd);
	free(t);
}

static int open_tap(const char *name)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	if (ioctl(fd, TUNSETIFF, &r) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* One that was handed over must be a tap with headers. */
static int check_tap(int fd)
{
	struct ifreq r = {0};

	if (ioctl(fd, TUNGETIFF, &r) < 0)
		return -errno;
	if ((r.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) != (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
		return -EINVAL;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return -errno;
	return fd;
}

static void *tap_open(struct net *n, const struct net_host *host, const struct net_config *config, char *error,
		      size_t size)
{
	struct tap *t = calloc(1, sizeof *t);
	int header = sizeof(struct vnet_header);

	if (!t) {
		snprintf(error, size, "--net tap: out of memory");
		return NULL;
	}
	t->net = n;
	t->loop = host->loop;
	int fd = config->fd >= 0 ? check_tap(config->fd) : open_tap(config->tap);
	if (fd < 0) {
		if (config->fd >= 0)
			snprintf(error, size, "--net tap,fd=%d: %s", config->fd,
				 fd == -EINVAL ? "a tap with IFF_NO_PI and IFF_VNET_HDR is wanted" : strerror(-fd));
		else
			snprintf(error, size, "--net tap,ifname=%s: %s", config->tap, strerror(-fd));
		free(t);
		return NULL;
	}
	t->fd = (struct loop_fd){.fd = fd, .events = POLLIN, .ready = tap_ready, .opaque = t};
	loop_add_fd(t->loop, &t->fd);
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
		snprintf(error, size, "--net tap: TUNSETVNETHDRSZ: %s", strerror(errno));
		tap_close(t);
		return NULL;
	}
	return t;
}

const struct net_ops net_tap_ops = {
	.name = "tap",
	.open = tap_open,
	.close = tap_close,
	.can_send = NET_CAN_CSUM | NET_CAN_TSO4 | NET_CAN_TSO6 | NET_CAN_ECN,
	.sendable = tap_sendable,
	.send = tap_send,
	.receive_ready = tap_receive_ready,
	.set_can_deliver = tap_set_can_deliver,
};
