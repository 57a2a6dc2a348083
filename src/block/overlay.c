/*
 * Writes that are forgotten: an image whose changes go to a nameless temporary file ($TMPDIR, else /var/tmp or /tmp) that is
 * gone with the process, over a base that is only read. A bit for each sector says where it is, so no write ever has
 * to be completed with what lies around it. See image.h for threads.
 *
 * The bits are atomic and set after the data was written: a read that overlaps a write sees old or new sectors.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"
#include "block/image.h"

#define WORD_BITS 64u

struct overlay {
	struct image image;
	struct image *base, *file;
	uint64_t *map; /* a bit a sector: it is in `file` */
	size_t map_size;
};

static bool is_here(const struct overlay *o, uint64_t sector)
{
	return __atomic_load_n(&o->map[sector / WORD_BITS], __ATOMIC_ACQUIRE) >> sector % WORD_BITS & 1;
}

/* How many sectors from `sector` on, at most `max`, are where it is. */
static uint64_t run_of(const struct overlay *o, uint64_t sector, uint64_t max)
{
	bool here = is_here(o, sector);
	uint64_t n = 1, all = here ? UINT64_MAX : 0;

	while (n < max) {
		uint64_t at = sector + n;

		if (at % WORD_BITS == 0 && max - n >= WORD_BITS &&
		    __atomic_load_n(&o->map[at / WORD_BITS], __ATOMIC_ACQUIRE) == all)
			n += WORD_BITS;
		else if (is_here(o, at) == here)
			n++;
		else
			break;
	}
	return n;
}

static void mark(struct overlay *o, uint64_t sector, uint64_t count)
{
	for (uint64_t end = sector + count; sector < end;) {
		unsigned bit = sector % WORD_BITS;
		uint64_t n = WORD_BITS - bit < end - sector ? WORD_BITS - bit : end - sector;
		uint64_t bits = n == WORD_BITS ? UINT64_MAX : ((1ull << n) - 1) << bit;

		__atomic_or_fetch(&o->map[sector / WORD_BITS], bits, __ATOMIC_RELEASE);
		sector += n;
	}
}

static int overlay_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	struct overlay *o = (struct overlay *)i;
	int r = 0;

	while (len && r == 0) {
		uint64_t sector = offset / BLOCK_SECTOR;
		uint64_t part = run_of(o, sector, len / BLOCK_SECTOR) * BLOCK_SECTOR;
		struct image *from = is_here(o, sector) ? o->file : o->base;

		r = from->ops->read(from, offset, to, part);
		offset += part;
		len -= part;
	}
	return r;
}

static int overlay_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len)
{
	struct overlay *o = (struct overlay *)i;
	int r = o->file->ops->write(o->file, offset, from, len);

	if (r == 0)
		mark(o, offset / BLOCK_SECTOR, len / BLOCK_SECTOR);
	return r;
}

static int overlay_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap)
{
	struct overlay *o = (struct overlay *)i;
	int r = o->file->ops->zero(o->file, offset, len, may_unmap);

	if (r == 0)
		mark(o, offset / BLOCK_SECTOR, len / BLOCK_SECTOR);
	return r;
}

static int overlay_discard(struct image *i, uint64_t offset, uint64_t len)
{
	return overlay_zero(i, offset, len, true);
}

static int overlay_flush(struct image *i)
{
	(void)i; /* nothing of it is to last */
	return 0;
}

static int overlay_locate(struct image *i, bool write, uint64_t offset, const struct iovec *iov, int count, uint64_t len,
			  uint64_t *at)
{
	struct overlay *o = (struct overlay *)i;
	bool here = is_here(o, offset / BLOCK_SECTOR);
	struct image *from = here ? o->file : o->base;

	/* A first write has its bits to set. */
	if ((write && !here) || !from->ops->locate || from->ops->release ||
	    run_of(o, offset / BLOCK_SECTOR, len / BLOCK_SECTOR) * BLOCK_SECTOR < len)
		return -1;
	return from->ops->locate(from, write, offset, iov, count, len, at);
}

static void overlay_close(struct image *i)
{
	struct overlay *o = (struct overlay *)i;

	if (o->map)
		munmap(o->map, o->map_size);
	if (o->file)
		o->file->ops->close(o->file);
	o->base->ops->close(o->base);
	free(o);
}

static const struct image_ops overlay_ops = {
	.read = overlay_read,
	.write = overlay_write,
	.zero = overlay_zero,
	.discard = overlay_discard,
	.flush = overlay_flush,
	.locate = overlay_locate,
	.close = overlay_close,
};

/* A file without a name. -1 and errno. */
static int nameless_in(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char name[PATH_MAX];

	if (fd >= 0 || errno != EOPNOTSUPP || snprintf(name, sizeof name, "%s/ringside-XXXXXX", dir) >= (int)sizeof name)
		return fd;
	/* A file system that knows none: overlayfs before Linux 6.1, which containers have. */
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* As an image. NULL: errno. */
static struct image *open_temporary(void)
{
	const char *dir = getenv("TMPDIR");
	char path[64], error[256];
	struct image *file;
	int fd;

	fd = nameless_in(dir && *dir ? dir : "/var/tmp");
	if (fd < 0 && !(dir && *dir))
		fd = nameless_in("/tmp");
	if (fd < 0)
		return NULL;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	file = file_open(path, (struct image_flags){0}, error, sizeof error);
	int saved = errno;
	close(fd);
	errno = saved;
	return file;
}

struct image *overlay_new(struct image *base)
{
	struct overlay *o = calloc(1, sizeof *o);
	uint64_t sectors = base->size / BLOCK_SECTOR + 1;

	if (!o)
		return NULL;
	o->image = (struct image){.ops = &overlay_ops, .size = base->size, .remote = base->remote};
	o->base = base;
	o->map_size = (sectors / WORD_BITS + 1) * sizeof *o->map;
	void *map = mmap(NULL, o->map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		goto fail;
	o->map = map;
	if (!(o->file = open_temporary()))
		goto fail;
	return &o->image;
fail:;
	int err = errno;
	if (o->map)
		munmap(o->map, o->map_size);
	free(o);
	errno = err;
	return NULL;
}
