/*
 * qcow2 images, versions 2 and 3: opening, where bytes are, reads. See qcow2.h; image.h for threads.
 *
 * Not done: encryption and external data files (such images are refused), images with inconsistent reference counts
 * (only read), writes to single subclusters (a write gives the whole cluster room), bitmaps (marked invalid when written).
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/block.h"

#define MAGIC 0x514649fbu
#define HEADER_2 72u
#define HEADER_3 104u
#define L1_MAX (32u << 20)      /* bytes */
#define REFTABLE_MAX (8u << 20)
#define SNAPSHOT_HEAD 40u
#define SNAPSHOT_DISK_SIZE 48u /* in the extra data that version 3 always has */
#define SNAPSHOTS_MAX 65536u
#define EXTENSION_END 0u
#define EXTENSION_BACKING_FORMAT 0xe2792acau

#define INCOMPATIBLE_DIRTY 1u
#define INCOMPATIBLE_CORRUPT 2u
#define INCOMPATIBLE_DATA_FILE 4u
#define INCOMPATIBLE_COMPRESSION 8u
#define INCOMPATIBLE_EXTENDED 16u
#define INCOMPATIBLE_KNOWN 31u

/* ---- where bytes are, q->lock held ---- */

/* A subcluster, or without these a cluster: what is alike at least. */
static uint64_t unit_size(const struct qcow2 *q) { return q->extended ? q->cluster_size / QCOW2_SUBCLUSTERS : q->cluster_size; }

/* What the unit at `offset` is. */
int qcow2_look_at(const struct qcow2 *q, struct qcow2_table *t, uint64_t offset, struct qcow2_place *p)
{
	const uint8_t *e = qcow2_l2_entry(q, t, qcow2_l2_index(q, offset));
	uint64_t entry = be64(e), in_cluster = offset & (q->cluster_size - 1);

	*p = (struct qcow2_place){.kind = QCOW2_IS_HOLE, .entry = entry, .at = (entry & QCOW2_OFFSET) + in_cluster};
	if (entry & QCOW2_COMPRESSED) {
		p->kind = QCOW2_IS_COMPRESSED;
		return 0;
	}
	if ((entry & QCOW2_OFFSET) & (q->cluster_size - 1))
		return -EIO;
	bool allocated = entry & QCOW2_OFFSET, zero = !q->extended && q->version >= QCOW2_VERSION_3 && (entry & QCOW2_ZERO);
	if (q->extended) {
		uint64_t bits = be64(e + 8) >> in_cluster / unit_size(q);

		allocated = allocated && (bits & 1);
		zero = bits >> QCOW2_SUBCLUSTERS & 1;
	}
	if (zero) {
		p->kind = QCOW2_IS_ZERO;
	} else if (allocated) {
		p->kind = QCOW2_IS_DATA;
		p->in_place = entry & QCOW2_COPIED;
	}
	return 0;
}

/* The level 2 table of `offset`; NULL: there is none. */
int qcow2_find_l2(struct qcow2 *q, uint64_t offset, bool cached_only, struct qcow2_table **t)
{
	uint64_t table = q->l1[qcow2_l1_index(q, offset)] & QCOW2_OFFSET;

	*t = NULL;
	if (!table)
		return 0;
	return table & (q->cluster_size - 1) ? -EIO : qcow2_table_get(q, table, false, cached_only, t);
}

/* What is at `offset`, and how far it goes on like that, at most `len`. */
int qcow2_look_up(struct qcow2 *q, uint64_t offset, uint64_t len, bool cached_only, struct qcow2_place *p)
{
	uint64_t span = q->cluster_size << q->l2_bits, unit = unit_size(q), in_unit = offset & (unit - 1);
	struct qcow2_table *t;
	struct qcow2_place next;
	int r = qcow2_find_l2(q, offset, cached_only, &t);

	if (r < 0)
		return r;
	if (len > span - (offset & (span - 1)))
		len = span - (offset & (span - 1));
	if (!t) {
		*p = (struct qcow2_place){.kind = QCOW2_IS_HOLE, .len = len};
		return 0;
	}
	if ((r = qcow2_look_at(q, t, offset, p)) < 0)
		return r;
	if (p->kind == QCOW2_IS_COMPRESSED)
		unit = q->cluster_size;
	for (p->len = unit - in_unit; p->len < len && p->kind != QCOW2_IS_COMPRESSED; p->len += unit) {
		if ((r = qcow2_look_at(q, t, offset + p->len, &next)) < 0)
			return r;
		if (next.kind != p->kind || next.in_place != p->in_place ||
		    (p->kind == QCOW2_IS_DATA && next.at != p->at + p->len))
			break;
	}
	if (p->kind == QCOW2_IS_COMPRESSED)
		p->len = q->cluster_size - (offset & (q->cluster_size - 1));
	if (p->len > len)
		p->len = len;
	return 0;
}

/* ---- reading ---- */

static int read_backing(struct qcow2 *q, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	uint64_t there = 0;
	int r = 0;

	if (q->backing && offset < q->backing->size)
		there = len < q->backing->size - offset ? len : q->backing->size - offset;
	if (there)
		r = q->backing->ops->read(q->backing, offset, to, there);
	if (r == 0)
		iov_fill(to, 0, len - there); /* a backing file may be shorter */
	return r;
}

static int read_place(struct qcow2 *q, const struct qcow2_place *p, uint64_t offset, struct iov_cursor *to)
{
	switch (p->kind) {
	case QCOW2_IS_HOLE:
		return read_backing(q, offset, to, p->len);
	case QCOW2_IS_ZERO:
		iov_fill(to, 0, p->len);
		return 0;
	case QCOW2_IS_DATA:
		return q->file->ops->read(q->file, p->at, to, p->len);
	case QCOW2_IS_COMPRESSED:
		return qcow2_read_compressed(q, p->entry, offset & (q->cluster_size - 1), to, p->len);
	}
	return -EIO;
}

int qcow2_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	struct qcow2 *q = qcow2_of(i);
	struct qcow2_place p;
	int r = 0;

	/* The last sector of an image whose size is no multiple of one. */
	for (; len && offset < q->image.size && r == 0; offset += p.len, len -= p.len) {
		pthread_mutex_lock(&q->lock);
		unsigned epoch = q->epoch;
		q->reading[epoch]++;
		r = qcow2_look_up(q, offset, len, false, &p);
		pthread_mutex_unlock(&q->lock);
		if (r == 0)
			r = read_place(q, &p, offset, to);
		pthread_mutex_lock(&q->lock);
		if (--q->reading[epoch] == 0 && epoch != q->epoch)
			pthread_cond_broadcast(&q->changed);
		pthread_mutex_unlock(&q->lock);
	}
	if (r == 0)
		iov_fill(to, 0, len);
	return r;
}

static int qcow2_locate(struct image *i, bool write, uint64_t offset, const struct iovec *iov, int count, uint64_t len,
			uint64_t *at)
{
	struct qcow2 *q = qcow2_of(i);
	struct qcow2_place p;
	int fd = -1;

	/* Whoever has it may be reading a table. */
	if (!q->file->ops->locate || pthread_mutex_trylock(&q->lock) != 0)
		return -1;
	if (!q->exclusive && offset + len <= q->image.size && qcow2_look_up(q, offset, len, true, &p) == 0 && p.len == len &&
	    p.kind == QCOW2_IS_DATA && (!write || p.in_place))
		fd = q->file->ops->locate(q->file, write, p.at, iov, count, len, at);
	q->in_place += fd >= 0;
	pthread_mutex_unlock(&q->lock);
	return fd;
}

/* q->lock held. */
void qcow2_leave_place(struct qcow2 *q)
{
	if (--q->in_place == 0 && q->exclusive)
		pthread_cond_broadcast(&q->changed);
}

static void qcow2_located_done(struct image *i)
{
	struct qcow2 *q = qcow2_of(i);

	pthread_mutex_lock(&q->lock);
	qcow2_leave_place(q);
	pthread_mutex_unlock(&q->lock);
}

static int qcow2_flush_image(struct image *i) { return qcow2_flush(qcow2_of(i)); }

static void qcow2_close(struct image *i)
{
	struct qcow2 *q = qcow2_of(i);

	/* The first may give clusters up, whose counts the second writes. */
	for (unsigned n = 0; n < 2 && !q->image.readonly && (q->dirty || q->freed.count); n++)
		qcow2_flush(q);
	qcow2_cache_free(q);
	free(q->l1);
	free(q->l1_dirty);
	free(q->reftable);
	free(q->reftable_dirty);
	free(q->freed.range);
	free(q->inflated);
	if (q->backing)
		q->backing->ops->close(q->backing);
	q->file->ops->close(q->file);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->inflated_lock);
	pthread_cond_destroy(&q->changed);
	free(q);
}

static const struct image_ops qcow2_ops = {
	.read = qcow2_read,
	.write = qcow2_write,
	.zero = qcow2_zero,
	.discard = qcow2_discard,
	.flush = qcow2_flush_image,
	.locate = qcow2_locate,
	.release = qcow2_located_done,
	.close = qcow2_close,
};

/* ---- opening ---- */

/* The header, as far as it is used. */
struct header {
	uint8_t raw[HEADER_3 + 8];
	uint64_t size, l1_offset, reftable_offset, backing_offset, snapshots_offset, incompatible;
	uint32_t snapshots, l1_size, reftable_clusters, backing_size, length;
};

static const char *read_header(struct qcow2 *q, struct header *h)
{
	const uint8_t *p = h->raw;

	if (image_read_bytes(q->file, 0, h->raw, sizeof h->raw) < 0)
		return "cannot be read";
	q->version = be32(p + 4);
	if (be32(p) != MAGIC)
		return "not a qcow2 image";
	if (q->version != QCOW2_VERSION_2 && q->version != QCOW2_VERSION_3)
		return "an unknown version of qcow2";
	h->backing_offset = be64(p + 8);
	h->backing_size = be32(p + 16);
	q->cluster_bits = be32(p + 20);
	h->size = be64(p + 24);
	h->l1_size = be32(p + 36);
	h->l1_offset = be64(p + 40);
	h->reftable_offset = be64(p + 48);
	h->reftable_clusters = be32(p + 56);
	h->snapshots = be32(p + 60);
	h->snapshots_offset = be64(p + 64);
	q->refcount_order = 4;
	h->length = HEADER_2;
	if (be32(p + 32) != 0)
		return "encrypted images are not supported";
	if (q->version >= QCOW2_VERSION_3) {
		h->incompatible = be64(p + 72);
		q->refcount_order = be32(p + 96);
		h->length = be32(p + 100);
		if (h->length < HEADER_3)
			return "a damaged header";
		if (h->length > HEADER_3)
			q->zstd = p[HEADER_3] == 1;
		if (h->length > HEADER_3 && p[HEADER_3] > 1)
			return "an unknown compression";
	}
	return NULL;
}

static const char *check_header(struct qcow2 *q, const struct header *h, bool readonly)
{
	if (h->incompatible & INCOMPATIBLE_DATA_FILE)
		return "images with an external data file are not supported";
	if (h->incompatible & ~(uint64_t)INCOMPATIBLE_KNOWN)
		return "made by a newer program, with features that are not known";
	if ((h->incompatible & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT)) && !readonly)
		return "not closed well or damaged: 'qemu-img check -r all' repairs it; with ,ro it can be read";
	q->extended = h->incompatible & INCOMPATIBLE_EXTENDED;
	if (q->cluster_bits < (q->extended ? 14 : 9) || q->cluster_bits > 21 || q->refcount_order > 6)
		return "a damaged header";
	q->cluster_size = 1ull << q->cluster_bits;
	q->l2_bits = q->cluster_bits - (q->extended ? 4 : 3);
	if (h->length > q->cluster_size || h->size > 1ull << 62)
		return "a damaged header";
	uint64_t span = q->cluster_size << q->l2_bits, mask = q->cluster_size - 1;
	if (h->l1_size > L1_MAX / 8 || h->size / span + !!(h->size % span) > h->l1_size || (h->l1_offset & mask) ||
	    (h->l1_size && !h->l1_offset))
		return "a damaged level 1 table";
	if (!h->reftable_clusters || (uint64_t)h->reftable_clusters << q->cluster_bits > REFTABLE_MAX ||
	    (h->reftable_offset & mask) || !h->reftable_offset)
		return "a damaged table of reference counts";
	return NULL;
}

/* Is the text of `len` bytes at `at` of the file this name? */
static bool is_named(struct qcow2 *q, uint64_t at, uint32_t len, const char *name)
{
	char text[QCOW2_NAME_MAX];

	return len == strlen(name) && len <= sizeof text && image_read_bytes(q->file, at, text, len) == 0 &&
	       memcmp(text, name, len) == 0;
}

/* An internal snapshot takes the image's place: its level 1 table and its size. A name wins over an ID. */
static const char *find_snapshot(struct qcow2 *q, struct header *h, const char *name)
{
	uint64_t at = h->snapshots_offset;
	struct header found = {0};
	bool by_name = false;

	if (h->snapshots > SNAPSHOTS_MAX || at > 1ull << 62)
		return "a damaged table of snapshots";
	for (uint32_t n = 0; n < h->snapshots && !by_name; n++) {
		uint8_t p[SNAPSHOT_DISK_SIZE + 8] = {0};

		if (image_read_bytes(q->file, at, p, SNAPSHOT_HEAD) < 0)
			return "its table of snapshots cannot be read";
		uint32_t id_len = (uint32_t)p[12] << 8 | p[13], name_len = (uint32_t)p[14] << 8 | p[15], extra = be32(p + 36);
		uint64_t id_at = at + SNAPSHOT_HEAD + extra;

		by_name = is_named(q, id_at + id_len, name_len, name);
		if (by_name || is_named(q, id_at, id_len, name)) {
			if (extra >= 16 && image_read_bytes(q->file, at, p, sizeof p) < 0)
				return "its table of snapshots cannot be read";
			found.l1_offset = be64(p);
			found.l1_size = be32(p + 8);
			found.size = extra >= 16 ? be64(p + SNAPSHOT_DISK_SIZE) : h->size;
		}
		at = (id_at + id_len + name_len + 7) & ~7ull;
	}
	if (!found.l1_offset)
		return "no internal snapshot of that name";
	h->l1_offset = found.l1_offset;
	h->l1_size = found.l1_size;
	h->size = found.size;
	return NULL;
}

/* A table of big-endian numbers, with a byte for each sector of it that will say what is dirty. */
static int read_numbers(struct qcow2 *q, uint64_t offset, uint64_t count, uint64_t **numbers, uint8_t **dirty)
{
	int r;

	*numbers = calloc(count + 1, sizeof **numbers);
	*dirty = calloc(count / 64 + 1, 1);
	if (!*numbers || !*dirty)
		return -ENOMEM;
	if (count == 0 || (r = image_read_bytes(q->file, offset, *numbers, count * sizeof **numbers)) == 0)
		r = 0;
	for (uint64_t n = 0; n < count; n++)
		(*numbers)[n] = __builtin_bswap64((*numbers)[n]);
	return r;
}

static int read_tables(struct qcow2 *q, const struct header *h)
{
	int r;

	q->image.size = h->size;
	q->l1_size = h->l1_size;
	q->l1_offset = h->l1_offset;
	q->reftable_offset = h->reftable_offset;
	q->reftable_size = ((uint64_t)h->reftable_clusters << q->cluster_bits) / 8;
	q->virgin = (q->file->size + q->cluster_size - 1) & ~(q->cluster_size - 1);
	if ((r = read_numbers(q, q->l1_offset, q->l1_size, &q->l1, &q->l1_dirty)) < 0 ||
	    (r = read_numbers(q, q->reftable_offset, q->reftable_size, &q->reftable, &q->reftable_dirty)) < 0)
		return r;
	return qcow2_cache_init(q);
}

/* Bitmaps and whatever else others keep in the image are not kept up to date from now on. */
static int clear_autoclear(struct qcow2 *q, const struct header *h)
{
	uint8_t zero[8] = {0};

	if (q->version < QCOW2_VERSION_3 || q->image.readonly || be64(h->raw + 88) == 0)
		return 0;
	int r = image_write_bytes(q->file, 88, zero, sizeof zero);
	return r == 0 ? q->file->ops->flush(q->file) : r;
}

/* The format of the backing file from the header's extensions, "" when none says it. */
static int read_backing_format(struct qcow2 *q, const struct header *h, char *format, size_t size)
{
	uint64_t at = h->length, end = h->backing_offset ? h->backing_offset : q->cluster_size;
	uint8_t head[8];
	int r;

	*format = '\0';
	if (end > q->cluster_size)
		end = q->cluster_size;
	while (at + sizeof head <= end) {
		if ((r = image_read_bytes(q->file, at, head, sizeof head)) < 0)
			return r;
		uint32_t type = be32(head), len = be32(head + 4);

		at += sizeof head;
		if (type == EXTENSION_END || len > end - at)
			return 0;
		if (type == EXTENSION_BACKING_FORMAT && len < size) {
			format[len] = '\0';
			return image_read_bytes(q->file, at, format, len);
		}
		at += (len + 7) & ~7u;
	}
	return 0;
}

/* Where a backing file lies: relative to the image. */
static void backing_path(const char *image, const char *name, char *path, size_t size)
{
	const char *slash = strrchr(image, '/');

	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	if (*name == '/' || !slash || strstr(name, "://"))
		snprintf(path, size, "%s", name);
	else
		snprintf(path, size, "%.*s/%s", (int)(slash - image), image, name);
}

/* The backing file's name and format, as they are to be opened; "": there is none. 0 or -errno. */
static int read_backing_names(struct qcow2 *q, const char *path, const struct header *h, struct qcow2_backing *b)
{
	char name[QCOW2_NAME_MAX + 1] = "";
	int r;

	*b->path = *b->format = '\0';
	if (!h->backing_offset)
		return 0;
	if (h->backing_size > QCOW2_NAME_MAX || h->backing_offset > q->cluster_size - h->backing_size)
		return -EIO;
	if ((r = image_read_bytes(q->file, h->backing_offset, name, h->backing_size)) < 0 ||
	    (r = read_backing_format(q, h, b->format, sizeof b->format)) < 0)
		return r;
	if (*name)
		backing_path(path, name, b->path, sizeof b->path);
	return 0;
}

bool qcow2_find_backing(const char *path, struct image *file, struct qcow2_backing *b)
{
	struct qcow2 q = {.file = file};
	struct header h = {0};

	return !read_header(&q, &h) && !check_header(&q, &h, true) && read_backing_names(&q, path, &h, b) == 0 && *b->path;
}

static bool open_backing(struct qcow2 *q, const char *path, const struct header *h, struct image_flags flags,
			 unsigned depth, char *error, size_t size)
{
	struct qcow2_backing b;
	bool guessed;

	if (read_backing_names(q, path, h, &b) < 0) {
		snprintf(error, size, "%s: the name of its backing file cannot be read", path);
		return false;
	}
	if (*b.path == '\0')
		return true;
	if (depth >= QCOW2_DEPTH_MAX) {
		snprintf(error, size, "%s: more than %u backing files behind each other", path, QCOW2_DEPTH_MAX);
		return false;
	}
	flags.readonly = true;
	flags.internal = NULL;
	q->backing = image_open_behind(b.path, *b.format ? b.format : NULL, flags, depth + 1, &guessed, error, size);
	return q->backing != NULL;
}

struct image *qcow2_open(const char *path, struct image *file, struct image_flags flags, unsigned depth, char *error,
			 size_t size)
{
	struct qcow2 *q = calloc(1, sizeof *q);
	struct header h = {0};
	const char *why;
	int r;

	if (!q) {
		file->ops->close(file);
		snprintf(error, size, "%s: out of memory", path);
		return NULL;
	}
	q->image = (struct image){.ops = &qcow2_ops, .readonly = flags.readonly};
	q->file = file;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->inflated_lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	if ((why = read_header(q, &h)) == NULL)
		why = check_header(q, &h, flags.readonly);
	if (!why && flags.internal)
		why = !flags.readonly ? "an internal snapshot can be read only: with ,ro or ,snapshot" :
		      (why = find_snapshot(q, &h, flags.internal)) ? why : check_header(q, &h, true);
	if (why) {
		snprintf(error, size, "%s: %s", path, why);
		goto fail;
	}
	if ((r = read_tables(q, &h)) < 0 || (r = clear_autoclear(q, &h)) < 0) {
		snprintf(error, size, "%s: %s", path, strerror(-r));
		goto fail;
	}
	if (!open_backing(q, path, &h, flags, depth, error, size))
		goto fail;
	q->image.remote = file->remote || (q->backing && q->backing->remote);
	return &q->image;
fail:
	qcow2_close(&q->image);
	return NULL;
}
