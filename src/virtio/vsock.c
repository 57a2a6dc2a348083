/*
 * virtio socket device. See vsock.h.
 *
 * What goes to the guest is read from the host's socket only when the guest has a buffer for it and has given credit.
 * What comes from the guest and finds its socket full waits in a buffer of the connection, as large as the credit that
 * it was given; a guest that sends more loses the connection. Packets without data that wait for a buffer of the guest's
 * are bits of their connection; refusals of packets without a connection are kept up to REFUSALS_MAX, and while there
 * are so many nothing more is taken from the guest.
 *
 * Under vm->lock, on the I/O thread but for resets. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.10;
 * Firecracker's docs/vsock.md.
 */
#include "virtio/vsock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/log.h"
#include "util/loop.h"
#include "virtio/virtio.h"

#define QUEUE_SIZE 128
#define CONNECTIONS_MAX 256u
#define REFUSALS_MAX 64u
#define CREDIT (256u << 10)  /* what the guest may send before it hears that it was taken */
#define READ_MAX (64u << 10) /* of one packet to the guest */
#define READS_MAX 32         /* of one connection before the others have their turn */
#define LINE_MAX_SIZE 32
#define BACKLOG 64
#define HOST_PORT_FIRST (1u << 30)
#define F_STREAM (1ull << 0)

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };
enum { CID_HOST = 2, TYPE_STREAM = 1 };
enum op { OP_INVALID, OP_REQUEST, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { SHUTDOWN_RECEIVE = 1, SHUTDOWN_SEND = 2, SHUTDOWN_BOTH = 3 };

struct header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 44, "the header's layout");

enum state {
	HANDSHAKE,   /* a program of the host has connected; its line is awaited */
	REQUESTED,   /* the guest was asked */
	ESTABLISHED,
	HUNG_UP,     /* the host's socket is gone; the guest has been told, or will be */
};

struct connection {
	struct connection *next;
	struct virtio_vsock *vsock;
	struct loop_fd fd; /* the socket while it is to be watched, else -1 */
	int socket;        /* -1: closed */
	enum state state;
	char line[LINE_MAX_SIZE]; /* HANDSHAKE: what has come of it, line_len bytes; zeroes behind */
	unsigned line_len;
	uint32_t host_port, guest_port;
	unsigned to_say;      /* a bit for each op that the guest is still to be told */
	uint32_t host_closed, guest_closed; /* SHUTDOWN_ flags: what each side will not do any more */
	/* to the guest */
	uint32_t sent, guest_alloc, guest_forwarded;
	/* from the guest: `waiting` bytes from `first` on in a ring of CREDIT bytes */
	uint8_t *buffer;
	uint32_t first, waiting, forwarded, forwarded_said;
};

struct refusal {
	uint32_t host_port, guest_port;
	uint64_t host_cid;
};

struct virtio_vsock {
	struct virtio_device *device;
	struct loop *loop;
	const char *path;
	struct loop_fd listener;
	struct connection *connections;
	unsigned count;
	uint32_t next_host_port;
	uint64_t cid;
	bool starved; /* the guest had no buffer when one was wanted */
	struct refusal refusal[REFUSALS_MAX];
	unsigned refusals;
	uint8_t data[READ_MAX];
};

/* ---- connections ---- */

static struct connection *find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	for (struct connection *c = v->connections; c; c = c->next)
		if (c->state != HANDSHAKE && c->host_port == host_port && c->guest_port == guest_port)
			return c;
	return NULL;
}

static void close_fd(struct connection *c)
{
	if (c->socket >= 0) {
		loop_remove_fd(c->vsock->loop, &c->fd);
		close(c->socket);
		c->socket = -1;
	}
	free(c->buffer);
	c->buffer = NULL;
	c->waiting = 0;
}

static void drop(struct connection *c)
{
	struct connection **p = &c->vsock->connections;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->vsock->count--;
	close_fd(c);
	free(c);
}

static uint32_t credit(const struct connection *c)
{
	uint32_t under_way = c->sent - c->guest_forwarded;

	return under_way < c->guest_alloc ? c->guest_alloc - under_way : 0;
}

/* What the loop is to look for on the host's socket. While there may be input that the guest cannot take, it is not
 * watched at all: poll would tell of its end again and again. */
static void update_events(struct connection *c)
{
	bool reads = c->state == ESTABLISHED && !(c->host_closed & SHUTDOWN_SEND) && !(c->guest_closed & SHUTDOWN_RECEIVE);
	bool blocked = reads && (c->vsock->starved || !credit(c));

	c->fd.events = (short)((c->state == HANDSHAKE || (reads && !blocked) ? POLLIN : 0) | (c->waiting ? POLLOUT : 0));
	c->fd.fd = blocked && !c->waiting ? -1 : c->socket;
}

static void say(struct connection *c, enum op op) { c->to_say |= 1u << op; }

/* The connection ends for the guest: it is told, and what it says later is answered as to a stranger. */
static void reset_connection(struct connection *c)
{
	close_fd(c);
	c->state = HUNG_UP;
	c->to_say = 1u << OP_RST;
}

static void socket_ready(void *opaque, short revents);

static struct connection *new_connection(struct virtio_vsock *v, int fd, enum state state)
{
	struct connection *c = v->count < CONNECTIONS_MAX ? calloc(1, sizeof *c) : NULL;

	if (!c) {
		close(fd);
		return NULL;
	}
	c->vsock = v;
	c->state = state;
	c->socket = fd;
	c->fd = (struct loop_fd){.ready = socket_ready, .opaque = c};
	c->next = v->connections;
	v->connections = c;
	v->count++;
	update_events(c);
	loop_add_fd(v->loop, &c->fd);
	return c;
}

/* ---- to the guest ---- */

static struct header header_to_guest(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port, enum op op)
{
	return (struct header){.src_cid = CID_HOST, .dst_cid = v->cid, .src_port = host_port, .dst_port = guest_port,
			       .type = TYPE_STREAM, .op = (uint16_t)op};
}

/* A buffer of the guest's that has room for a header; NULL: none, deliver() is called when there is. */
static struct virtqueue_chain *guest_buffer(struct virtio_vsock *v)
{
	struct virtqueue *q = virtio_queue(v->device, QUEUE_RX);
	struct virtqueue_chain *b;

	while ((b = virtqueue_get(q)) != NULL && b->in_len <= sizeof(struct header))
		virtqueue_put(q, b, 0);
	v->starved = !b;
	return b;
}

static bool send_refusal(struct virtio_vsock *v, const struct refusal *r)
{
	struct virtqueue_chain *b = guest_buffer(v);
	struct header h = header_to_guest(v, r->host_port, r->guest_port, OP_RST);

	if (!b)
		return false;
	h.src_cid = r->host_cid;
	virtqueue_put(virtio_queue(v->device, QUEUE_RX), b, (uint32_t)virtio_copy_in(b, 0, &h, sizeof h));
	return true;
}

/* A packet of a connection: `len` bytes of v->data behind its header. */
static void send_packet(struct connection *c, struct virtqueue_chain *b, enum op op, uint32_t len)
{
	struct virtio_vsock *v = c->vsock;
	struct header h = header_to_guest(v, c->host_port, c->guest_port, op);

	h.len = len;
	h.flags = op == OP_SHUTDOWN ? c->host_closed : 0;
	h.buf_alloc = CREDIT;
	h.fwd_cnt = c->forwarded_said = c->forwarded;
	c->sent += len;
	size_t n = virtio_copy_in(b, 0, &h, sizeof h);
	n += virtio_copy_in(b, n, v->data, len);
	virtqueue_put(virtio_queue(v->device, QUEUE_RX), b, (uint32_t)n);
}

/* Says what there is to say of a connection. False: the guest has no buffer. */
static bool say_all(struct connection *c)
{
	while (c->to_say) {
		enum op op = (enum op)__builtin_ctz(c->to_say);
		struct virtqueue_chain *b = guest_buffer(c->vsock);

		if (!b)
			return false;
		c->to_say &= c->to_say - 1;
		send_packet(c, b, op, 0);
		if (op == OP_RST) {
			drop(c);
			break;
		}
	}
	return true;
}

/* The host's side sends no more; `both`: it takes no more either. */
static void host_closed(struct connection *c, bool both)
{
	c->host_closed |= both ? SHUTDOWN_BOTH : SHUTDOWN_SEND;
	say(c, OP_SHUTDOWN);
	if (both) {
		close_fd(c);
		c->state = HUNG_UP;
	}
}

/* Reads once from the host's socket into a buffer of the guest's. False: there was nothing, or no buffer. */
static bool read_socket(struct connection *c, bool hung_up)
{
	struct virtio_vsock *v = c->vsock;
	struct virtqueue *q = virtio_queue(v->device, QUEUE_RX);
	struct virtqueue_chain *b = guest_buffer(v);
	uint64_t len;

	if (!b)
		return false;
	len = b->in_len - sizeof(struct header);
	if (len > credit(c))
		len = credit(c);
	if (len > READ_MAX)
		len = READ_MAX;
	ssize_t n = recv(c->socket, v->data, len, MSG_DONTWAIT);
	if (n > 0) {
		send_packet(c, b, OP_RW, (uint32_t)n);
		return true;
	}
	virtqueue_unget(q, b);
	if (n == 0)
		host_closed(c, hung_up);
	else if (errno != EAGAIN && errno != EINTR)
		host_closed(c, true);
	return false;
}

/* The guest has buffers, or there is something new to say. */
static void deliver(struct virtio_vsock *v)
{
	struct connection *next;
	bool room = true;

	while (room && v->refusals && (room = send_refusal(v, &v->refusal[v->refusals - 1])))
		v->refusals--;
	for (struct connection *c = v->connections; c && room; c = next) {
		next = c->next;
		room = say_all(c);
	}
	for (struct connection *c = v->connections; c; c = c->next)
		update_events(c);
	virtqueue_interrupt(virtio_queue(v->device, QUEUE_RX));
}

/* ---- from the guest ---- */

static void refuse(struct virtio_vsock *v, const struct header *h)
{
	if (h->op != OP_RST && v->refusals < REFUSALS_MAX)
		v->refusal[v->refusals++] = (struct refusal){h->dst_port, h->src_port, h->dst_cid};
}

/* Some bytes are with the host's program: the guest hears of it when much of its credit is used. */
static void forwarded(struct connection *c, uint32_t n)
{
	c->forwarded += n;
	if (c->forwarded - c->forwarded_said >= CREDIT / 2)
		say(c, OP_CREDIT_UPDATE);
}

/* All that the guest sent is with the host: it may be closed as the guest wanted. */
static void close_as_guest_wants(struct connection *c)
{
	if (c->waiting || c->state != ESTABLISHED)
		return;
	if (c->guest_closed == SHUTDOWN_BOTH)
		reset_connection(c);
	else if (c->guest_closed & SHUTDOWN_SEND)
		shutdown(c->socket, SHUT_WR);
}

static bool write_some(struct connection *c, const uint8_t *data, size_t len, size_t *written)
{
	ssize_t n = send(c->socket, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	*written = n > 0 ? (size_t)n : 0;
	forwarded(c, (uint32_t)*written);
	return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Empties the buffer as far as the host takes it. False: the host's socket is gone. */
static bool flush(struct connection *c)
{
	while (c->waiting) {
		uint32_t len = CREDIT - c->first < c->waiting ? CREDIT - c->first : c->waiting;
		size_t n;

		if (!write_some(c, c->buffer + c->first, len, &n))
			return false;
		c->first = (c->first + (uint32_t)n) % CREDIT;
		c->waiting -= (uint32_t)n;
		if (n < len)
			break;
	}
	return true;
}

static bool keep(struct connection *c, const uint8_t *data, size_t len)
{
	if (!c->buffer && !(c->buffer = malloc(CREDIT)))
		return false;
	if (len > CREDIT - c->waiting)
		return false; /* more than it had credit for */
	for (size_t i = 0; i < len;) {
		uint32_t at = (c->first + c->waiting) % CREDIT;
		size_t n = CREDIT - at < len - i ? CREDIT - at : len - i;

		memcpy(c->buffer + at, data + i, n);
		c->waiting += (uint32_t)n;
		i += n;
	}
	return true;
}

static void data_from_guest(struct connection *c, const struct virtqueue_chain *chain, uint32_t len)
{
	uint8_t *data = c->vsock->data;

	if (len > CREDIT) { /* more than it can ever have had */
		reset_connection(c);
		return;
	}
	size_t at = sizeof(struct header), end = at + len, n, written;

	for (; at < end; at += n) {
		n = virtio_copy_out(chain, at, data, end - at < READ_MAX ? end - at : READ_MAX);
		written = 0;
		if (!n)
			break;
		if (!c->waiting && !write_some(c, data, n, &written)) {
			host_closed(c, true);
			return;
		}
		if (written < n && !keep(c, data + written, n - written)) {
			reset_connection(c);
			return;
		}
	}
}

/* The guest wants to connect to a port of the host's. */
static void connect_to_host(struct virtio_vsock *v, const struct header *h)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct connection *c = NULL;

	snprintf(a.sun_path, sizeof a.sun_path, "%s_%u", v->path, h->dst_port);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		LOG(LOG_VIRTIO, "virtio-vsock: %s: %s", a.sun_path, strerror(errno));
		close(fd);
		fd = -1;
	}
	if (fd < 0 || !(c = new_connection(v, fd, ESTABLISHED))) {
		refuse(v, h);
		return;
	}
	c->host_port = h->dst_port;
	c->guest_port = h->src_port;
	c->guest_alloc = h->buf_alloc;
	c->guest_forwarded = h->fwd_cnt;
	say(c, OP_RESPONSE);
}

static void guest_accepted(struct connection *c)
{
	char line[LINE_MAX_SIZE];
	int n = snprintf(line, sizeof line, "OK %u\n", c->host_port);

	c->state = ESTABLISHED;
	if (send(c->socket, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		host_closed(c, true);
}

static void packet_of_connection(struct connection *c, const struct header *h, const struct virtqueue_chain *chain)
{
	c->guest_alloc = h->buf_alloc;
	c->guest_forwarded = h->fwd_cnt;
	switch (h->op) {
	case OP_RESPONSE:
		if (c->state == REQUESTED)
			guest_accepted(c);
		break;
	case OP_RST:
		drop(c);
		return;
	case OP_SHUTDOWN:
		c->guest_closed |= h->flags & SHUTDOWN_BOTH;
		if (c->state == HUNG_UP || c->state == REQUESTED)
			reset_connection(c);
		close_as_guest_wants(c);
		break;
	case OP_RW:
		if (c->state == ESTABLISHED && !(c->guest_closed & SHUTDOWN_SEND))
			data_from_guest(c, chain, h->len);
		break;
	case OP_CREDIT_REQUEST:
		say(c, OP_CREDIT_UPDATE);
		break;
	case OP_CREDIT_UPDATE:
		break;
	default:
		reset_connection(c);
	}
	update_events(c);
}

static void packet(struct virtio_vsock *v, const struct virtqueue_chain *chain)
{
	struct connection *c;
	struct header h;

	if (virtio_copy_out(chain, 0, &h, sizeof h) < sizeof h || h.src_cid != v->cid || h.len > chain->out_len - sizeof h)
		return;
	if (h.dst_cid != CID_HOST || h.type != TYPE_STREAM)
		refuse(v, &h);
	else if ((c = find(v, h.dst_port, h.src_port)) != NULL && h.op != OP_REQUEST)
		packet_of_connection(c, &h, chain);
	else if (!c && h.op == OP_REQUEST)
		connect_to_host(v, &h);
	else
		refuse(v, &h);
}

static void take_from_guest(struct virtio_vsock *v)
{
	struct virtqueue *q = virtio_queue(v->device, QUEUE_TX);
	struct virtqueue_chain *chain;

	while (v->refusals < REFUSALS_MAX && (chain = virtqueue_get(q)) != NULL) {
		packet(v, chain);
		virtqueue_put(q, chain, 0);
	}
	virtqueue_interrupt(q);
}

/* ---- the host's sockets ---- */

/* A line "CONNECT PORT\n", no byte more, which may come in pieces. 0: not all of it yet, or the port; -1: something else. */
static int64_t read_line(struct connection *c, bool *whole)
{
	char *line = c->line, *end;
	unsigned long port;
	ssize_t n;

	*whole = false;
	/* Byte by byte: what comes behind the line is the guest's. */
	do {
		if (c->line_len == LINE_MAX_SIZE - 1)
			return -1;
		n = recv(c->socket, line + c->line_len, 1, MSG_DONTWAIT);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	} while (line[c->line_len++] != '\n');
	if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9')
		return -1;
	port = strtoul(line + 8, &end, 10);
	if (end != line + c->line_len - 1 || port > UINT32_MAX)
		return -1;
	*whole = true;
	return (int64_t)port;
}

static void handshake(struct connection *c)
{
	struct virtio_vsock *v = c->vsock;
	bool whole;
	int64_t port = read_line(c, &whole);

	if (port < 0 || (whole && !virtio_driver_ok(v->device))) {
		drop(c);
		return;
	}
	if (!whole)
		return;
	c->guest_port = (uint32_t)port;
	do
		c->host_port = v->next_host_port++ | HOST_PORT_FIRST;
	while (find(v, c->host_port, c->guest_port));
	c->state = REQUESTED;
	say(c, OP_REQUEST);
}

/* A connection that is established. */
static void serve_socket(struct connection *c, short revents)
{
	bool hung_up = revents & (POLLHUP | POLLERR), reads = c->fd.events & POLLIN;

	if ((revents & POLLOUT) && !flush(c)) {
		host_closed(c, true);
		return;
	}
	close_as_guest_wants(c);
	if (c->state != ESTABLISHED)
		return;
	if (reads)
		for (unsigned i = 0; i < READS_MAX && c->state == ESTABLISHED && credit(c) && read_socket(c, hung_up); i++)
			;
	else if (hung_up && ((c->host_closed & SHUTDOWN_SEND) || (c->guest_closed & SHUTDOWN_RECEIVE)))
		host_closed(c, true);
}

static void socket_ready(void *opaque, short revents)
{
	struct connection *c = opaque;
	struct virtio_vsock *v = c->vsock;

	if (c->state == HANDSHAKE)
		handshake(c);
	else if (c->state == REQUESTED && (revents & (POLLHUP | POLLERR)))
		reset_connection(c);
	else if (c->state == ESTABLISHED)
		serve_socket(c, revents);
	deliver(v);
}

static void listener_ready(void *opaque, short revents)
{
	struct virtio_vsock *v = opaque;
	int fd = loop_accept(v->loop, v->listener.fd);

	(void)revents;
	if (fd >= 0)
		new_connection(v, fd, HANDSHAKE);
}

/* ---- device ---- */

static uint64_t vsock_features(void *opaque)
{
	(void)opaque;
	return F_STREAM;
}

static void vsock_notify(void *opaque, unsigned queue)
{
	struct virtio_vsock *v = opaque;

	if (queue == QUEUE_TX)
		take_from_guest(v);
	else if (queue == QUEUE_RX)
		v->starved = false; /* who still finds none says so again */
	deliver(v);
	if (queue == QUEUE_RX) { /* what was held back by refusals without a buffer */
		take_from_guest(v);
		deliver(v);
	}
}

/* No chain is ever kept. */
static void vsock_queue_reset(void *opaque, unsigned queue)
{
	(void)opaque;
	(void)queue;
}

static void vsock_reset(void *opaque)
{
	struct virtio_vsock *v = opaque;

	while (v->connections)
		drop(v->connections);
	v->refusals = 0;
	v->starved = false;
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	const struct virtio_vsock *v = opaque;

	memcpy(buf, (const uint8_t *)&v->cid + offset, len);
}

static const struct virtio_ops vsock_ops = {
	.name = "virtio-vsock",
	.id = VIRTIO_ID_VSOCK,
	.class_code = 0x078000,
	.features = vsock_features,
	.notify = vsock_notify,
	.reset = vsock_reset,
	.queue_reset = vsock_queue_reset,
	.config_read = config_read,
	.config_size = sizeof(uint64_t),
};

/* ---- life ---- */

/* A socket that nobody listens at any more is in the way. */
static void remove_stale(const struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (fd < 0)
		return;
	if (lstat(a->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && connect(fd, (const struct sockaddr *)a, sizeof *a) < 0 &&
	    errno == ECONNREFUSED)
		unlink(a->sun_path);
	close(fd);
}

int virtio_vsock_listen(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) > VSOCK_PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	remove_stale(&a);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err = errno;
	if (fd >= 0)
		close(fd);
	return -err;
}

struct virtio_vsock *virtio_vsock_new(struct pci_bus *pci, struct loop *loop, uint32_t cid, const char *path, int listen_fd)
{
	struct virtio_vsock *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	v->loop = loop;
	v->path = path;
	v->cid = cid;
	const struct virtio_config config = {.pci = pci, .devfn = -1, .loop = loop, .ops = &vsock_ops, .opaque = v,
					     .queues = QUEUES, .queue_size = QUEUE_SIZE};
	v->device = virtio_new(&config);
	if (!v->device) {
		free(v);
		return NULL;
	}
	v->listener = (struct loop_fd){
		.fd = listen_fd, .events = POLLIN, .listens = true, .ready = listener_ready, .opaque = v,
	};
	loop_add_fd(loop, &v->listener);
	return v;
}

void virtio_vsock_free(struct virtio_vsock *v)
{
	if (!v)
		return;
	loop_remove_fd(v->loop, &v->listener);
	virtio_free(v->device);
	free(v);
}
