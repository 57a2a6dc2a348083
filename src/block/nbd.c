/*
 * A disk that a server has: nbd://HOST[:PORT][/EXPORT], nbds://..., nbd+unix:///[EXPORT]?socket=PATH, through libnbd. See
 * image.h for threads.
 *
 * As many connections as the server allows, at most CONNECTIONS, each with one command at a time. A connection that is
 * lost, or that says nothing for TIMEOUT_S seconds, is opened again by the next command; the one that met it fails.
 */
#include <errno.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/image.h"
#include "util/library.h"

#define CONNECTIONS 4u
#define PIECE (1u << 20)         /* bytes of a read or write: through a buffer */
#define RANGE_MAX (1ull << 30)   /* of a discard: the protocol has 32 bits */
#define TIMEOUT_S 30

/* Of libnbd, which is loaded for the first disk of a server. */
#define LIBRARY(X) \
	X(nbd_get_errno) X(nbd_get_error) X(nbd_create) X(nbd_connect_uri) X(nbd_close) X(nbd_aio_is_ready) \
	X(nbd_aio_command_completed) X(nbd_aio_is_dead) X(nbd_aio_is_closed) X(nbd_poll) X(nbd_aio_pread) \
	X(nbd_aio_pwrite) X(nbd_aio_zero) X(nbd_aio_trim) X(nbd_aio_flush) X(nbd_get_size) X(nbd_is_read_only) \
	X(nbd_can_trim) X(nbd_can_zero) X(nbd_can_flush) X(nbd_can_multi_conn)
static struct {
	LIBRARY(LIBRARY_POINTER)
} library;
static const struct library_symbol symbols[] = {LIBRARY(LIBRARY_SYMBOL) {0}};

struct connection {
	struct nbd_handle *handle; /* NULL: lost */
	uint8_t *buffer;           /* PIECE bytes */
	bool busy;
};

struct nbd {
	struct image image;
	char *uri;
	bool can_trim, can_zero, can_flush;
	pthread_mutex_t lock;
	pthread_cond_t freed;
	unsigned connections;
	struct connection connection[CONNECTIONS];
};

static int last_error(void)
{
	int err = library.nbd_get_errno();

	return err ? -err : -EIO;
}

/* ---- connections ---- */

static struct nbd_handle *connect_to(const char *uri)
{
	struct nbd_handle *h = library.nbd_create();

	if (h && library.nbd_connect_uri(h, uri) == 0)
		return h;
	if (h)
		library.nbd_close(h);
	return NULL;
}

/* One that nobody uses, which is the caller's until `give_back`. NULL: the server is not there. */
static struct connection *take(struct nbd *n)
{
	struct connection *c = NULL;

	pthread_mutex_lock(&n->lock);
	while (!c) {
		for (unsigned i = 0; i < n->connections && !c; i++)
			if (!n->connection[i].busy)
				c = &n->connection[i];
		if (!c)
			pthread_cond_wait(&n->freed, &n->lock);
	}
	c->busy = true;
	pthread_mutex_unlock(&n->lock);
	if (!c->handle)
		c->handle = connect_to(n->uri);
	return c;
}

static void give_back(struct nbd *n, struct connection *c)
{
	pthread_mutex_lock(&n->lock);
	c->busy = false;
	pthread_cond_signal(&n->freed);
	pthread_mutex_unlock(&n->lock);
}

static int lose(struct connection *c, int error)
{
	library.nbd_close(c->handle);
	c->handle = NULL;
	return error;
}

/* Waits for a command that was sent. */
static int finish(struct connection *c, int64_t cookie)
{
	if (cookie < 0)
		return library.nbd_aio_is_ready(c->handle) ? last_error() : lose(c, -EIO);
	for (;;) {
		int done = library.nbd_aio_command_completed(c->handle, (uint64_t)cookie), r;

		if (done > 0)
			return 0;
		if (done < 0) {
			int err = last_error();

			return library.nbd_aio_is_dead(c->handle) || library.nbd_aio_is_closed(c->handle) ? lose(c, -EIO) : err;
		}
		if ((r = library.nbd_poll(c->handle, TIMEOUT_S * 1000)) <= 0)
			return lose(c, r == 0 ? -ETIMEDOUT : -EIO);
	}
}

/* ---- operations ---- */

static int nbd_image_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	struct nbd *n = (struct nbd *)i;
	struct connection *c = take(n);
	int r = 0;

	for (uint64_t part; len && r == 0; offset += part, len -= part) {
		part = len < PIECE ? len : PIECE;
		/* Of the last sector, what is there. */
		uint64_t there = offset >= i->size ? 0 : part < i->size - offset ? part : i->size - offset;

		if (!c->handle)
			r = -EIO;
		else if (there)
			r = finish(c, library.nbd_aio_pread(c->handle, c->buffer, there, offset, NBD_NULL_COMPLETION, 0));
		if (r == 0) {
			iov_copy_to(to, c->buffer, there);
			iov_fill(to, 0, part - there);
		}
	}
	give_back(n, c);
	return r;
}

static int nbd_image_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len)
{
	struct nbd *n = (struct nbd *)i;
	struct connection *c = take(n);
	int r = 0;

	if (offset + len > i->size)
		len = offset < i->size ? i->size - offset : 0;
	for (uint64_t part; len && r == 0; offset += part, len -= part) {
		part = len < PIECE ? len : PIECE;
		iov_copy_from(c->buffer, from, part);
		r = !c->handle ? -EIO :
				 finish(c, library.nbd_aio_pwrite(c->handle, c->buffer, part, offset, NBD_NULL_COMPLETION, 0));
	}
	give_back(n, c);
	return r;
}

/* A zero or discard. */
static int send_range(struct nbd *n, uint64_t offset, uint64_t len, bool zero, bool may_unmap)
{
	struct connection *c = take(n);
	int r = 0;

	if (offset + len > n->image.size)
		len = n->image.size - offset;
	for (uint64_t part; len && r == 0; offset += part, len -= part) {
		part = len < RANGE_MAX ? len : RANGE_MAX;
		if (!c->handle)
			r = -EIO;
		else if (zero)
			r = finish(c, library.nbd_aio_zero(c->handle, part, offset, NBD_NULL_COMPLETION,
						   may_unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE));
		else
			r = finish(c, library.nbd_aio_trim(c->handle, part, offset, NBD_NULL_COMPLETION, 0));
	}
	give_back(n, c);
	return r;
}

static int nbd_image_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap)
{
	struct nbd *n = (struct nbd *)i;

	return n->can_zero ? send_range(n, offset, len, true, may_unmap) : image_write_zeroes(i, offset, len);
}

static int nbd_image_discard(struct image *i, uint64_t offset, uint64_t len)
{
	struct nbd *n = (struct nbd *)i;

	return n->can_trim ? send_range(n, offset, len, false, true) : 0;
}

/* Where several connections are allowed, a flush on one is for all. */
static int nbd_image_flush(struct image *i)
{
	struct nbd *n = (struct nbd *)i;
	int r = 0;

	if (!n->can_flush)
		return 0;
	struct connection *c = take(n);
	r = c->handle ? finish(c, library.nbd_aio_flush(c->handle, NBD_NULL_COMPLETION, 0)) : -EIO;
	give_back(n, c);
	return r;
}

static void nbd_image_close(struct image *i)
{
	struct nbd *n = (struct nbd *)i;

	for (unsigned k = 0; k < CONNECTIONS; k++) {
		if (n->connection[k].handle)
			library.nbd_close(n->connection[k].handle);
		free(n->connection[k].buffer);
	}
	pthread_mutex_destroy(&n->lock);
	pthread_cond_destroy(&n->freed);
	free(n->uri);
	free(n);
}

static const struct image_ops nbd_ops = {
	.read = nbd_image_read,
	.write = nbd_image_write,
	.zero = nbd_image_zero,
	.discard = nbd_image_discard,
	.flush = nbd_image_flush,
	.close = nbd_image_close,
};

/* ---- opening ---- */

bool nbd_is_uri(const char *path)
{
	return strncmp(path, "nbd://", 6) == 0 || strncmp(path, "nbds://", 7) == 0 || strncmp(path, "nbd+unix://", 11) == 0 ||
	       strncmp(path, "nbds+unix://", 12) == 0;
}

/* What the server has and can do. */
static bool ask(struct nbd *n, bool readonly, char *error, size_t size)
{
	struct nbd_handle *h = n->connection[0].handle;
	int64_t bytes = library.nbd_get_size(h);

	if (bytes < 0) {
		snprintf(error, size, "%s: %s", n->uri, library.nbd_get_error());
		return false;
	}
	if (!readonly && library.nbd_is_read_only(h) != 0) {
		snprintf(error, size, "%s: the server only lets it be read; add ,ro", n->uri);
		return false;
	}
	n->image.size = (uint64_t)bytes;
	n->can_trim = library.nbd_can_trim(h) > 0;
	n->can_zero = library.nbd_can_zero(h) > 0;
	n->can_flush = library.nbd_can_flush(h) > 0;
	n->connections = library.nbd_can_multi_conn(h) > 0 ? CONNECTIONS : 1;
	return true;
}

struct image *nbd_open(const char *uri, struct image_flags flags, char *error, size_t size)
{
	struct nbd *n = calloc(1, sizeof *n);
	bool memory;

	if (!n) {
		snprintf(error, size, "%s: out of memory", uri);
		return NULL;
	}
	if (!library_load("libnbd.so.0", symbols, error, size)) {
		free(n);
		return NULL;
	}
	n->image = (struct image){.ops = &nbd_ops, .readonly = flags.readonly, .remote = true};
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->freed, NULL);
	memory = (n->uri = strdup(uri)) != NULL;
	for (unsigned k = 0; k < CONNECTIONS; k++)
		memory &= (n->connection[k].buffer = malloc(PIECE)) != NULL;
	if (!memory)
		snprintf(error, size, "%s: out of memory", uri);
	else if (!(n->connection[0].handle = connect_to(uri)))
		snprintf(error, size, "%s: %s", uri, library.nbd_get_error());
	else if (ask(n, flags.readonly, error, size))
		return &n->image;
	nbd_image_close(&n->image);
	return NULL;
}
