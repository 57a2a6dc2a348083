/*
 * Which format an image has, and the guard of those that were guessed to be raw. See image.h for threads.
 */
#include "block/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/qcow2.h"

static const uint8_t qcow2_magic[4] = {'Q', 'F', 'I', 0xfb};

int image_read_bytes(struct image *i, uint64_t offset, void *buf, uint64_t len)
{
	struct iovec v = {.iov_base = buf, .iov_len = len};
	struct iov_cursor to = {.iov = &v, .count = 1};

	return i->ops->read(i, offset, &to, len);
}

int image_write_bytes(struct image *i, uint64_t offset, const void *buf, uint64_t len)
{
	struct iovec v = {.iov_base = (void *)buf, .iov_len = len};
	struct iov_cursor from = {.iov = &v, .count = 1};

	return i->ops->write(i, offset, &from, len);
}

int image_write_zeroes(struct image *i, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[65536];
	int r = 0;

	for (uint64_t part; len && r == 0; offset += part, len -= part) {
		part = len < sizeof zeroes ? len : sizeof zeroes;
		r = image_write_bytes(i, offset, zeroes, part);
	}
	return r;
}

/* ---- a guard over what was guessed to be raw ---- */

/* (Over a file only: see image_open.) A guest may write what it likes to its disk, so also the head of a qcow2 image whose
 * backing file is any file of the host's. If nobody says that the disk is raw, the next start would open that. So such a
 * head is refused. */
struct guard {
	struct image image;
	struct image *base;
};

static int guard_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	struct image *base = ((struct guard *)i)->base;

	return base->ops->read(base, offset, to, len);
}

static int guard_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len)
{
	struct image *base = ((struct guard *)i)->base;
	uint8_t head[BLOCK_SECTOR];
	int r;

	if (offset == 0 && len) {
		/* A copy: the guest can change its memory after the look at it. */
		iov_copy_from(head, from, sizeof head);
		if (memcmp(head, qcow2_magic, sizeof qcow2_magic) == 0)
			return -EPERM;
		if ((r = image_write_bytes(base, 0, head, sizeof head)) < 0 || len == sizeof head)
			return r;
		offset += sizeof head;
		len -= sizeof head;
	}
	return base->ops->write(base, offset, from, len);
}

static int guard_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap)
{
	struct image *base = ((struct guard *)i)->base;

	return base->ops->zero(base, offset, len, may_unmap);
}

static int guard_discard(struct image *i, uint64_t offset, uint64_t len)
{
	struct image *base = ((struct guard *)i)->base;

	return base->ops->discard ? base->ops->discard(base, offset, len) : 0;
}

static int guard_flush(struct image *i)
{
	struct image *base = ((struct guard *)i)->base;

	return base->ops->flush(base);
}

static int guard_locate(struct image *i, bool write, uint64_t offset, const struct iovec *iov, int count, uint64_t len,
			uint64_t *at)
{
	struct image *base = ((struct guard *)i)->base;

	return !base->ops->locate || (write && offset == 0) ? -1 : base->ops->locate(base, write, offset, iov, count, len, at);
}

static void guard_close(struct image *i)
{
	struct guard *g = (struct guard *)i;

	g->base->ops->close(g->base);
	free(g);
}

static const struct image_ops guard_ops = {
	.read = guard_read,
	.write = guard_write,
	.zero = guard_zero,
	.discard = guard_discard,
	.flush = guard_flush,
	.locate = guard_locate,
	.close = guard_close,
};

struct image *image_guard(struct image *base)
{
	struct guard *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	g->image = (struct image){.ops = &guard_ops, .size = base->size, .readonly = base->readonly, .remote = base->remote};
	g->base = base;
	return &g->image;
}

/* ---- formats ---- */

const char *block_formats(void) { return "raw, qcow2"; }
bool block_format_known(const char *format) { return strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0; }

/* NULL format: from the head of the file. *qcow2: what it is. */
static int find_format(struct image *file, const char *format, bool *qcow2)
{
	uint8_t head[sizeof qcow2_magic] = {0};
	int r = 0;

	if (!format && (r = image_read_bytes(file, 0, head, sizeof head)) < 0)
		return r;
	*qcow2 = format ? strcmp(format, "qcow2") == 0 : memcmp(head, qcow2_magic, sizeof head) == 0;
	return 0;
}

struct image *image_open_behind(const char *path, const char *format, struct image_flags flags, unsigned depth,
				bool *guessed, char *error, size_t size)
{
	struct image *file;
	bool qcow2;
	int r;

	*guessed = false;
	if (format && !block_format_known(format)) {
		snprintf(error, size, "%s: unknown format '%s'; there are: %s", path, format, block_formats());
		return NULL;
	}
	file = nbd_is_uri(path) ? nbd_open(path, flags, error, size) : file_open(path, flags, error, size);
	if (!file)
		return NULL;
	if ((r = find_format(file, format, &qcow2)) < 0) {
		snprintf(error, size, "%s: %s", path, strerror(-r));
		file->ops->close(file);
		return NULL;
	}
	if (flags.internal && !qcow2) {
		snprintf(error, size, "%s: a raw image has no internal snapshots", path);
		file->ops->close(file);
		return NULL;
	}
	*guessed = !format && !qcow2;
	return qcow2 ? qcow2_open(path, file, flags, depth, error, size) : file;
}

struct image *image_open(const char *path, const char *format, struct image_flags flags, bool *guessed, char *error,
			 size_t size)
{
	return image_open_behind(path, format, flags, 0, guessed, error, size);
}

void image_each_path(const char *path, const char *format, void (*tell)(void *arg, const char *path), void *arg)
{
	struct qcow2_backing behind[2]; /* in turn */
	char error[256];
	bool qcow2 = true;

	for (unsigned depth = 0; qcow2 && depth <= QCOW2_DEPTH_MAX; depth++) {
		struct qcow2_backing *b = &behind[depth & 1];
		struct image *file;

		tell(arg, path);
		if (nbd_is_uri(path) || !(file = file_open(path, (struct image_flags){.readonly = true}, error, sizeof error)))
			return;
		qcow2 = find_format(file, format, &qcow2) == 0 && qcow2 && qcow2_find_backing(path, file, b);
		file->ops->close(file);
		path = b->path;
		format = *b->format ? b->format : NULL;
	}
}
