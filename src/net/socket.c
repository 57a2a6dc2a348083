/*
 * A stream socket, TCP or Unix, that carries frames, each behind its length in 4 bytes, big-endian: what passt, QEMU's
 * -netdev stream and another Ringside speak. A lost connection is made again, or waited for; the link is down meanwhile.
 *
 * I/O thread, under vm->lock. Nothing blocks but the first connection, before the VM runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/net.h"
#include "net/offload.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/timer.h"

#define LENGTH_SIZE 4u
#define OUT_SIZE (1u << 20)
#define OUT_RESERVE (LENGTH_SIZE + NET_FRAME_MAX + NET_FRAME_MAX / 4) /* a frame that is cut has more headers */
#define IN_SIZE (4u * NET_FRAME_MAX)
#define FIRST_CONNECT_MS 5000
#define RECONNECT_NS 1000000000ull

struct stream {
	struct net *net;
	struct loop *loop;
	struct net_socket_config config;
	bool again;          /* a lost connection is made again */
	bool connecting;
	bool full;           /* the net was told that it cannot send */
	struct loop_fd fd, listener;
	struct loop_call in_call; /* there was no room for what is in `in` */
	struct timer reconnect;
	unsigned out_first, out_count; /* ring */
	size_t in_count;
	uint8_t out[OUT_SIZE], in[IN_SIZE];
};

static void try_connect(void *opaque);

/* ---- the connection ---- */

static void lost(struct stream *s, const char *why)
{
	LOG(LOG_NET, "socket: connection lost: %s", why);
	loop_remove_fd(s->loop, &s->fd);
	close(s->fd.fd);
	s->fd.fd = -1;
	s->connecting = s->full = false;
	s->out_first = s->out_count = 0;
	s->in_count = 0;
	loop_call_cancel(s->loop, &s->in_call);
	net_set_link(s->net, false);
	net_sendable(s->net); /* into nothing */
	if (s->config.listen)
		s->listener.events = POLLIN;
	else if (s->again)
		timer_arm(&s->reconnect, timer_queue_now(s->reconnect.queue) + RECONNECT_NS);
}

static void connected(struct stream *s)
{
	int on = 1;

	s->connecting = false;
	if (s->config.address.any.sa_family != AF_UNIX)
		setsockopt(s->fd.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	s->fd.events = POLLIN;
	net_set_link(s->net, true);
	LOG(LOG_NET, "socket: connected");
}

/* ---- from the guest ---- */

static bool stream_sendable(void *backend)
{
	struct stream *s = backend;

	s->full = OUT_SIZE - s->out_count < OUT_RESERVE;
	return !s->full;
}

static void put(struct stream *s, const void *data, size_t len)
{
	unsigned at = (s->out_first + s->out_count) % OUT_SIZE;
	size_t n = len < OUT_SIZE - at ? len : OUT_SIZE - at;

	memcpy(s->out + at, data, n);
	memcpy(s->out, (const uint8_t *)data + n, len - n);
	s->out_count += (unsigned)len;
}

static void stream_send(void *backend, const struct net_frame *f)
{
	struct stream *s = backend;
	uint8_t length[LENGTH_SIZE];

	if (s->fd.fd < 0 || s->connecting || OUT_SIZE - s->out_count < LENGTH_SIZE + f->len)
		return;
	put_be32(length, f->len);
	put(s, length, sizeof length);
	for (unsigned i = 0; i < f->iov_count; i++)
		put(s, f->iov[i].iov_base, f->iov[i].iov_len);
}

static void stream_send_end(void *backend)
{
	struct stream *s = backend;

	while (s->out_count && s->fd.fd >= 0) {
		unsigned n = OUT_SIZE - s->out_first < s->out_count ? OUT_SIZE - s->out_first : s->out_count;
		struct iovec iov[2] = {{.iov_base = s->out + s->out_first, .iov_len = n},
				       {.iov_base = s->out, .iov_len = s->out_count - n}};
		const struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t sent = sendmsg(s->fd.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			break; /* what is wrong, reading will say */
		s->out_first = (s->out_first + (unsigned)sent) % OUT_SIZE;
		s->out_count -= (unsigned)sent;
	}
	/* Also when nothing waits any more: poll tells the net that it can send again. */
	short events = (short)(s->out_count || s->full ? s->fd.events | POLLOUT : s->fd.events & ~POLLOUT);
	if (events != s->fd.events && s->fd.fd >= 0 && !s->connecting) {
		s->fd.events = events;
		loop_wake(s->loop);
	}
}

/* ---- to the guest ---- */

/* Delivers whole frames of what was read. False: the connection is lost. */
static bool deliver_frames(struct stream *s)
{
	size_t at = 0;

	while (s->in_count - at >= LENGTH_SIZE && net_can_deliver(s->net)) {
		uint32_t len = be32(s->in + at);

		if (len > NET_FRAME_MAX) {
			if (at)
				net_deliver_end(s->net);
			lost(s, "a frame longer than there can be");
			return false;
		}
		if (s->in_count - at - LENGTH_SIZE < len)
			break;
		const struct iovec iov = {.iov_base = s->in + at + LENGTH_SIZE, .iov_len = len};
		const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = len};
		net_deliver(s->net, &f);
		at += LENGTH_SIZE + len;
	}
	memmove(s->in, s->in + at, s->in_count - at);
	s->in_count -= at;
	if (at)
		net_deliver_end(s->net);
	return true;
}

static void read_frames(struct stream *s)
{
	if (s->in_count == sizeof s->in)
		return; /* the NIC has no room */
	ssize_t n = recv(s->fd.fd, s->in + s->in_count, sizeof s->in - s->in_count, MSG_DONTWAIT);

	if (n == 0)
		lost(s, "closed by the other side");
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		lost(s, strerror(errno));
	if (n <= 0)
		return;
	s->in_count += (size_t)n;
	if (deliver_frames(s) && !net_can_deliver(s->net))
		s->fd.events &= ~POLLIN;
}

static void in_again(void *opaque)
{
	struct stream *s = opaque;

	if (s->fd.fd < 0 || !deliver_frames(s) || !net_can_deliver(s->net))
		return;
	s->fd.events |= POLLIN;
	loop_wake(s->loop);
}

static void stream_receive_ready(void *backend)
{
	struct stream *s = backend;

	loop_call_soon(s->loop, &s->in_call);
}

static void stream_ready(void *opaque, short revents)
{
	struct stream *s = opaque;
	int error = 0;
	socklen_t len = sizeof error;

	if (s->connecting) {
		getsockopt(s->fd.fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error)
			lost(s, strerror(error));
		else
			connected(s);
		return;
	}
	if (revents & POLLOUT) {
		s->full = false;
		stream_send_end(s);
		if (stream_sendable(s))
			net_sendable(s->net);
	}
	if ((revents & POLLIN) || ((revents & (POLLHUP | POLLERR)) && (s->fd.events & POLLIN)))
		read_frames(s);
	else if (revents & (POLLHUP | POLLERR | POLLNVAL))
		lost(s, "closed by the other side");
}

/* ---- making connections ---- */

static int start_connect(struct stream *s)
{
	int fd = socket(s->config.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, &s->config.address.any, s->config.address_len) < 0 && errno != EINPROGRESS) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

static void watch(struct stream *s, int fd)
{
	s->fd.fd = fd;
	s->fd.events = POLLIN | POLLOUT;
	loop_add_fd(s->loop, &s->fd);
}

static void try_connect(void *opaque)
{
	struct stream *s = opaque;
	int fd = start_connect(s);

	if (fd < 0) {
		timer_arm(&s->reconnect, timer_queue_now(s->reconnect.queue) + RECONNECT_NS);
		return;
	}
	s->connecting = true;
	watch(s, fd);
}

/* The first connection, which the user waits for. */
static int first_connect(struct stream *s)
{
	struct pollfd p = {.fd = start_connect(s), .events = POLLOUT};
	int error = ETIMEDOUT;
	socklen_t len = sizeof error;

	if (p.fd < 0)
		return p.fd;
	if (poll(&p, 1, FIRST_CONNECT_MS) == 1)
		getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		close(p.fd);
		return -error;
	}
	watch(s, p.fd);
	connected(s);
	return 0;
}

static void accept_ready(void *opaque, short revents)
{
	struct stream *s = opaque;
	int fd = loop_accept(s->loop, s->listener.fd);

	(void)revents;
	if (fd < 0)
		return;
	s->listener.events = 0; /* one at a time */
	watch(s, fd);
	connected(s);
}

/* A Unix socket that nobody listens on is left over from one who died. */
static void remove_stale(const struct stream *s, int fd)
{
	struct stat st;
	const char *path = s->config.address.un.sun_path;

	if (s->config.address.any.sa_family == AF_UNIX && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    connect(fd, &s->config.address.any, s->config.address_len) < 0 && errno == ECONNREFUSED)
		unlink(path);
}

static int start_listening(struct stream *s)
{
	int fd = socket(s->config.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0)
		return -errno;
	s->listener.fd = fd;
	if (s->config.address.any.sa_family == AF_UNIX)
		remove_stale(s, fd);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &s->config.address.any, s->config.address_len) < 0 || listen(fd, 1) < 0) {
		int err = -errno;

		close(fd);
		s->listener.fd = -1;
		return err;
	}
	s->listener.events = POLLIN;
	loop_add_fd(s->loop, &s->listener);
	return 0;
}

/* A descriptor that was handed over: a stream socket. */
static int take_fd(struct stream *s, int fd)
{
	int type;
	socklen_t len = sizeof type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	watch(s, fd);
	connected(s);
	return 0;
}

/* ---- life ---- */

static void stream_close(void *backend)
{
	struct stream *s = backend;

	timer_cancel(&s->reconnect);
	loop_call_cancel(s->loop, &s->in_call);
	if (s->fd.fd >= 0) {
		loop_remove_fd(s->loop, &s->fd);
		close(s->fd.fd);
	}
	if (s->listener.fd >= 0) {
		loop_remove_fd(s->loop, &s->listener);
		close(s->listener.fd);
		if (s->config.address.any.sa_family == AF_UNIX)
			unlink(s->config.address.un.sun_path);
	}
	free(s);
}

static void *stream_open(struct net *n, const struct net_host *host, const struct net_config *config, char *error,
			 size_t size)
{
	struct stream *s = calloc(1, sizeof *s);
	int r;

	if (!s) {
		snprintf(error, size, "--net socket: out of memory");
		return NULL;
	}
	s->net = n;
	s->loop = host->loop;
	s->config = config->socket;
	s->again = config->fd < 0;
	s->fd = (struct loop_fd){.fd = -1, .ready = stream_ready, .opaque = s};
	s->listener = (struct loop_fd){.fd = -1, .listens = true, .ready = accept_ready, .opaque = s};
	s->in_call = (struct loop_call){.run = in_again, .opaque = s};
	timer_init(&s->reconnect, host->timers, try_connect, s);
	net_set_link(n, false);
	r = config->fd >= 0 ? take_fd(s, config->fd) : s->config.listen ? start_listening(s) : first_connect(s);
	if (r == 0)
		return s;
	snprintf(error, size, "--net socket: cannot %s: %s",
		 config->fd >= 0 ? "use that descriptor" : s->config.listen ? "listen" : "connect", strerror(-r));
	stream_close(s);
	return NULL;
}

const struct net_ops net_socket_ops = {
	.name = "socket",
	.open = stream_open,
	.close = stream_close,
	.can_send = 0,
	.sendable = stream_sendable,
	.send = stream_send,
	.send_end = stream_send_end,
	.receive_ready = stream_receive_ready,
};
