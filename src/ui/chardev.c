/*
 * Character back ends over descriptors. See chardev.h.
 *
 * Owns struct chardev: the descriptors, and a buffer of input that the device has no room for yet.
 * Descriptors that are shared with other processes (standard input and output) are not made non-blocking: poll(2)
 * says what can be read and written.
 */
#include "ui/chardev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "util/loop.h"

#define INPUT_MAX 4096u
#define WRITE_MAX 512u /* bytes a write to a shared descriptor: fits where poll says that there is room */
#define DRAIN_MS 2000  /* a reader that takes nothing for so long is given up */

enum kind { KIND_FDS, KIND_NULL, KIND_FILE, KIND_PTY, KIND_UNIX, KIND_TCP };

struct chardev {
	enum kind kind;
	struct loop *loop;
	struct loop_source source;
	int in_index, out_index, listen_index; /* in the loop's set of this turn; -1: not watched */
	int in, out;                           /* -1: none, at its end, or broken. A socket has one for both */
	int listen_fd, slave_fd;               /* sockets; the pty's other side, kept open so that it never hangs up */
	bool short_write;                      /* the device waits for room */
	char *unlink_path;
	struct chardev_owner owner;
	const struct chardev_ops *ops;
	void *opaque;
	uint8_t buffer[INPUT_MAX]; /* input on its way to the device: [0, end) */
	size_t end;
};

/* ---- names ---- */

static const struct {
	const char *prefix;
	enum kind kind;
} kinds[] = {{"null", KIND_NULL}, {"file:", KIND_FILE}, {"pty", KIND_PTY}, {"unix:", KIND_UNIX}, {"tcp:", KIND_TCP}};

/* The kind that `spec` names and what is behind its prefix. */
static bool parse_kind(const char *spec, enum kind *kind, const char **rest)
{
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		size_t len = strlen(kinds[i].prefix);
		bool takes_more = kinds[i].prefix[len - 1] == ':';

		if (strncmp(spec, kinds[i].prefix, len) != 0 || (takes_more ? !spec[len] : spec[len]))
			continue;
		*kind = kinds[i].kind;
		*rest = spec + len;
		return true;
	}
	return false;
}

static bool parse_tcp(const char *text, struct sockaddr_in *address)
{
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	char host[64] = "127.0.0.1", *end;

	if (colon && (size_t)(colon - text) >= sizeof host)
		return false;
	if (colon) {
		memcpy(host, text, (size_t)(colon - text));
		host[colon - text] = '\0';
	}
	unsigned long n = strtoul(port, &end, 10);
	if (*port < '0' || *port > '9' || *end || n > 65535)
		return false;
	*address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)n)};
	return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

int chardev_check(const char *spec, char *error, size_t size)
{
	struct sockaddr_in address;
	enum kind kind;
	const char *rest;

	if (!parse_kind(spec, &kind, &rest)) {
		snprintf(error, size, "%s: stdio, null, file:PATH, pty, unix:PATH or tcp:[ADDRESS:]PORT is wanted", spec);
		return -EINVAL;
	}
	if (kind == KIND_TCP && !parse_tcp(rest, &address)) {
		snprintf(error, size, "%s: tcp:PORT or tcp:ADDRESS:PORT is wanted, the address in numbers", spec);
		return -EINVAL;
	}
	if (kind == KIND_UNIX && strlen(rest) >= sizeof((struct sockaddr_un *)0)->sun_path) {
		snprintf(error, size, "%s: a longer path than a Unix socket can have", spec);
		return -EINVAL;
	}
	return 0;
}

/* ---- input and output ---- */

static void close_client(struct chardev *c)
{
	if (c->in < 0)
		return;
	close(c->in);
	c->in = c->out = -1;
	if (c->ops && c->ops->connected)
		c->ops->connected(c->opaque, false);
	if (c->short_write && c->ops) { /* there is nobody to wait for any more */
		c->short_write = false;
		c->ops->output_ready(c->opaque);
	}
}

static bool is_socket(const struct chardev *c) { return c->kind == KIND_UNIX || c->kind == KIND_TCP; }

/* The client has sent more than could be read. */
static bool has_more(const struct chardev *c)
{
	uint8_t byte;

	return recv(c->in, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Nobody will read any more. */
static void output_broken(struct chardev *c)
{
	if (is_socket(c) && !has_more(c)) {
		close_client(c);
		return;
	}
	c->out = -1;
	if (c->owner.broken)
		c->owner.broken(c->owner.opaque);
}

/* Writes once, if there is room. Bytes written; 0 when there is none, or all of them when nobody is there. */
static size_t write_some(struct chardev *c, const uint8_t *data, size_t len)
{
	struct pollfd p = {.fd = c->out, .events = POLLOUT};
	ssize_t n;

	if (c->out < 0)
		return len;
	if (c->kind == KIND_FDS) {
		if (poll(&p, 1, 0) <= 0)
			return 0;
		n = write(c->out, data, len < WRITE_MAX ? len : WRITE_MAX);
	} else if (is_socket(c)) {
		n = send(c->out, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	} else {
		n = write(c->out, data, len);
	}
	if (n >= 0)
		return (size_t)n;
	if (errno == EINTR)
		return 0;
	if (errno == EAGAIN) /* a pseudo-terminal that nobody reads must not stop the guest */
		return c->kind == KIND_PTY ? len : 0;
	output_broken(c);
	return len;
}

size_t chardev_write(struct chardev *c, const uint8_t *data, size_t len)
{
	size_t done = 0, n;

	while (done < len && (n = write_some(c, data + done, len - done)) > 0)
		done += n;
	c->short_write = done < len;
	return done;
}

bool chardev_wait_for_room(struct chardev *c)
{
	struct pollfd p = {.fd = c->out, .events = POLLOUT};

	return c->out >= 0 && poll(&p, 1, DRAIN_MS) > 0;
}

void chardev_write_all(struct chardev *c, const uint8_t *data, size_t len)
{
	size_t done = chardev_write(c, data, len);

	while (done < len && chardev_wait_for_room(c))
		done += chardev_write(c, data + done, len - done);
}

void chardev_insert(struct chardev *c, const uint8_t *data, size_t len)
{
	if (len > INPUT_MAX - c->end)
		len = INPUT_MAX - c->end;
	memcpy(c->buffer + c->end, data, len);
	c->end += len;
}

static void read_input(struct chardev *c)
{
	uint8_t data[INPUT_MAX];
	size_t room = c->owner.filter ? sizeof data : INPUT_MAX - c->end;
	ssize_t n = read(c->in, data, room);

	if (n > 0) {
		size_t left = c->owner.filter ? c->owner.filter(c->owner.opaque, data, (size_t)n) : (size_t)n;

		chardev_insert(c, data, left);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		if (is_socket(c))
			close_client(c);
		else
			c->in = -1; /* the end of the input is not the end of the guest */
	}
}

static void accept_client(struct chardev *c)
{
	int fd = loop_accept(c->loop, c->listen_fd);

	if (fd < 0)
		return;
	c->in = c->out = fd;
	c->end = 0;
	if (c->ops && c->ops->connected)
		c->ops->connected(c->opaque, true);
}

static void offer_input(struct chardev *c)
{
	if (c->end == 0 || !c->ops)
		return;
	size_t taken = c->ops->receive(c->opaque, c->buffer, c->end);

	memmove(c->buffer, c->buffer + taken, c->end - taken);
	c->end -= taken;
}

/* ---- the loop ---- */

static bool has_gone(const struct chardev *c)
{
	struct pollfd p = {.fd = c->in};

	return poll(&p, 1, 0) > 0;
}

static void prepare(void *opaque, struct loop_set *set)
{
	struct chardev *c = opaque;
	/* Keys are obeyed even when the guest reads nothing, so what is filtered is always read. */
	bool room = c->owner.filter || (c->ops && c->end < INPUT_MAX);
	/* What a client sent before it went is read first, unless another one waits. */
	bool left = c->in >= 0 && !room && is_socket(c) && has_gone(c) && has_more(c);

	/* A client is watched for its end even when nothing may be read. */
	c->in_index = c->in >= 0 && !left && (room || is_socket(c)) ? loop_set_add(set, c->in, room ? POLLIN : 0) : -1;
	c->out_index = c->out >= 0 && c->short_write ? loop_set_add(set, c->out, POLLOUT) : -1;
	/* One at a time: the next one waits. */
	c->listen_index = c->listen_fd >= 0 && (c->in < 0 || left) ? loop_set_add_listener(set, c->listen_fd) : -1;
}

static void serve(void *opaque, const struct loop_set *set)
{
	struct chardev *c = opaque;
	short revents = loop_set_revents(set, c->in_index);

	if (revents & POLLIN || (revents && !is_socket(c)))
		read_input(c);
	else if (revents && !has_more(c))
		close_client(c);
	if (loop_set_revents(set, c->out_index) && c->short_write && c->ops) {
		c->short_write = false;
		c->ops->output_ready(c->opaque);
	}
	if (loop_set_revents(set, c->listen_index)) {
		close_client(c); /* one that has gone */
		accept_client(c);
	}
	offer_input(c);
}

/* ---- life ---- */

static struct chardev *new_chardev(struct loop *loop, enum kind kind)
{
	struct chardev *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->kind = kind;
	c->loop = loop;
	c->in = c->out = c->listen_fd = c->slave_fd = -1;
	c->source = (struct loop_source){.prepare = prepare, .serve = serve, .opaque = c};
	loop_add_source(loop, &c->source);
	return c;
}

struct chardev *chardev_new_fds(struct loop *loop, int in, int out, const struct chardev_owner *owner)
{
	struct chardev *c = new_chardev(loop, KIND_FDS);

	if (!c)
		return NULL;
	c->in = in;
	c->out = out;
	if (owner)
		c->owner = *owner;
	return c;
}

static bool open_pty(struct chardev *c)
{
	struct termios t;
	char name[64];

	c->in = c->out = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (c->in < 0 || grantpt(c->in) < 0 || unlockpt(c->in) < 0 || ptsname_r(c->in, name, sizeof name) != 0)
		return false;
	c->slave_fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->slave_fd < 0 || tcgetattr(c->slave_fd, &t) < 0)
		return false;
	cfmakeraw(&t); /* no echo of the guest's output as its input */
	tcsetattr(c->slave_fd, TCSANOW, &t);
	fprintf(stderr, "ringside: a serial line is at %s\n", name);
	return true;
}

static bool listen_at(struct chardev *c, const struct sockaddr *address, socklen_t len)
{
	c->listen_fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listen_fd < 0)
		return false;
	if (address->sa_family == AF_INET)
		setsockopt(c->listen_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	return bind(c->listen_fd, address, len) == 0 && listen(c->listen_fd, 1) == 0;
}

/* A socket's path that nobody listens at any more is made free. */
static bool listen_unix(struct chardev *c, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED)
		unlink(path);
	if (fd >= 0)
		close(fd);
	if (!listen_at(c, (struct sockaddr *)&address, sizeof address))
		return false;
	c->unlink_path = strdup(path);
	return true;
}

static bool open_kind(struct chardev *c, const char *rest)
{
	struct sockaddr_in address;

	switch (c->kind) {
	case KIND_FILE:
		c->out = open(rest, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		return c->out >= 0;
	case KIND_PTY:
		return open_pty(c);
	case KIND_UNIX:
		return listen_unix(c, rest);
	case KIND_TCP:
		parse_tcp(rest, &address);
		return listen_at(c, (struct sockaddr *)&address, sizeof address);
	case KIND_NULL:
	case KIND_FDS:
		break;
	}
	return true;
}

struct chardev *chardev_new(struct loop *loop, const char *spec, char *error, size_t size)
{
	struct chardev *c;
	enum kind kind;
	const char *rest;

	if (chardev_check(spec, error, size) < 0)
		return NULL;
	parse_kind(spec, &kind, &rest);
	c = new_chardev(loop, kind);
	if (c && open_kind(c, rest))
		return c;
	snprintf(error, size, "%s: %s", spec, strerror(errno));
	if (c)
		chardev_free(c);
	return NULL;
}

void chardev_free(struct chardev *c)
{
	loop_remove_source(c->loop, &c->source);
	if (c->unlink_path)
		unlink(c->unlink_path);
	free(c->unlink_path);
	if (c->kind != KIND_FDS) {
		if (c->in >= 0)
			close(c->in);
		if (c->out >= 0 && c->out != c->in)
			close(c->out);
	}
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->slave_fd >= 0)
		close(c->slave_fd);
	free(c);
}

void chardev_attach(struct chardev *c, const struct chardev_ops *ops, void *opaque)
{
	c->ops = ops;
	c->opaque = opaque;
	c->short_write = false;
	loop_wake(c->loop);
}

bool chardev_connected(const struct chardev *c) { return !is_socket(c) || c->in >= 0; }

void chardev_disconnect(struct chardev *c)
{
	if (!is_socket(c))
		return;
	close_client(c);
	loop_wake(c->loop);
}
