/*
 * Reference counts of a qcow2 image's clusters, allocation, and giving up. See qcow2.h; q->lock held throughout.
 *
 * Counts rise before anything in the file refers to a cluster, and fall only after nothing does: qcow2_flush keeps the
 * order. So the worst that a crash leaves is a cluster that is counted and not used.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2.h"

#define REFTABLE_MAX (8u << 20) /* bytes */
#define OFFSET_END (1ull << 56)

static uint64_t counts_per_block(const struct qcow2 *q) { return q->cluster_size * 8 >> q->refcount_order; }

static uint64_t get_count(const struct qcow2 *q, const uint8_t *block, uint64_t n)
{
	unsigned bits = 1u << q->refcount_order;
	uint64_t v = 0;

	if (bits < 8)
		return block[n * bits / 8] >> n * bits % 8 & ((1u << bits) - 1);
	for (unsigned i = 0; i < bits / 8; i++)
		v = v << 8 | block[n * (bits / 8) + i];
	return v;
}

static void set_count(const struct qcow2 *q, uint8_t *block, uint64_t n, uint64_t v)
{
	unsigned bits = 1u << q->refcount_order;

	if (bits < 8) {
		uint8_t *p = &block[n * bits / 8];
		unsigned shift = n * bits % 8, mask = ((1u << bits) - 1) << shift;

		*p = (uint8_t)((*p & ~mask) | v << shift);
		return;
	}
	for (unsigned i = bits / 8; i-- > 0; v >>= 8)
		block[n * (bits / 8) + i] = (uint8_t)v;
}

/* Counts [n, n+count) of a block were changed. */
static void counts_changed(struct qcow2 *q, struct qcow2_table *t, uint64_t n, uint64_t count)
{
	uint64_t from = (n << q->refcount_order) / 8, to = (((n + count) << q->refcount_order) + 7) / 8;

	qcow2_table_changed(q, t, t->data + from, to - from);
}

/* ---- the table of blocks ---- */

/* Writes a table of big-endian numbers and points the header at it. */
static int write_reftable(struct qcow2 *q, const uint64_t *entry, uint64_t count, uint64_t offset)
{
	uint64_t len = (count * 8 + q->cluster_size - 1) / q->cluster_size * q->cluster_size;
	uint8_t *buf = calloc(1, len), head[12];
	int r;

	if (!buf)
		return -ENOMEM;
	for (uint64_t n = 0; n < count; n++)
		put_be64(buf + n * 8, entry[n]);
	put_be64(head, offset);
	put_be32(head + 8, (uint32_t)(len / q->cluster_size));
	if ((r = image_write_bytes(q->file, offset, buf, len)) == 0 && (r = q->file->ops->flush(q->file)) == 0 &&
	    (r = image_write_bytes(q->file, 48, head, sizeof head)) == 0)
		r = q->file->ops->flush(q->file);
	free(buf);
	return r;
}

/* New blocks for the clusters behind those that the table can count, with the larger table among these clusters: first
 * the blocks, then the table. */
static int fill_new_blocks(struct qcow2 *q, uint64_t first, uint64_t blocks, uint64_t used, uint64_t *entry)
{
	uint64_t per = counts_per_block(q);

	for (uint64_t n = 0; n < blocks; n++) {
		struct qcow2_table *t;
		int r = qcow2_table_new(q, (first + n) << q->cluster_bits, true, &t);

		if (r < 0)
			return r;
		for (uint64_t c = n * per; c < used && c < (n + 1) * per; c++)
			set_count(q, t->data, c - n * per, 1);
		entry[n] = t->offset;
	}
	return 0;
}

/* Lets go of q->lock while a flush goes on: that one writes the table where it was. */
static int grow_reftable(struct qcow2 *q)
{
	if (q->flushing) {
		while (q->flushing)
			pthread_cond_wait(&q->changed, &q->lock);
		return 0; /* look again */
	}
	uint64_t per = counts_per_block(q), first = q->reftable_size * per, old_size = q->reftable_size;
	uint64_t old_offset = q->reftable_offset, table_len, clusters, blocks = 1, size;
	uint64_t *entry;
	uint8_t *dirty;
	int r;

	table_len = (old_size * 8 * 3 / 2 + 2 * q->cluster_size) / q->cluster_size * q->cluster_size;
	if (table_len > REFTABLE_MAX || first >= OFFSET_END >> q->cluster_bits)
		return -EFBIG;
	clusters = table_len >> q->cluster_bits;
	size = table_len / 8;
	while (blocks * per < blocks + clusters)
		blocks++;
	if (old_size + blocks > size)
		return -EFBIG;
	entry = calloc(size, sizeof *entry);
	dirty = calloc(table_len / 512, 1);
	r = entry && dirty ? 0 : -ENOMEM;
	if (r == 0)
		memcpy(entry, q->reftable, old_size * sizeof *entry);
	if (r == 0 && (r = fill_new_blocks(q, first, blocks, blocks + clusters, entry + old_size)) == 0 &&
	    (r = qcow2_write_refcounts(q)) == 0)
		r = write_reftable(q, entry, size, (first + blocks) << q->cluster_bits);
	if (r < 0) {
		for (uint64_t n = 0; n < blocks; n++)
			qcow2_table_drop(q, (first + n) << q->cluster_bits);
		free(entry);
		free(dirty);
		return r;
	}
	free(q->reftable);
	free(q->reftable_dirty);
	q->reftable = entry;
	q->reftable_dirty = dirty;
	q->reftable_size = size;
	q->reftable_any_dirty = false;
	q->reftable_offset = (first + blocks) << q->cluster_bits;
	uint64_t end = (first + blocks + clusters) << q->cluster_bits;
	if (q->virgin < end)
		q->virgin = end;
	qcow2_release(q, old_offset, (old_size * 8 + q->cluster_size - 1) >> q->cluster_bits);
	return 0;
}

/* The block that counts `cluster`. make: it is put into that very cluster if there is none, which is then used (*made). */
static int get_block(struct qcow2 *q, uint64_t cluster, bool make, bool *made, struct qcow2_table **t)
{
	uint64_t index = cluster / counts_per_block(q), offset;
	int r;

	*made = false;
	*t = NULL;
	while (index >= q->reftable_size)
		if (!make)
			return 0;
		else if ((r = grow_reftable(q)) < 0)
			return r;
	offset = q->reftable[index] & ~511ull;
	if (offset) {
		if (offset & (q->cluster_size - 1))
			return -EIO;
		return qcow2_table_get(q, offset, true, false, t);
	}
	if (!make)
		return 0;
	offset = cluster << q->cluster_bits;
	if ((r = qcow2_table_new(q, offset, true, t)) < 0)
		return r;
	set_count(q, (*t)->data, cluster % counts_per_block(q), 1);
	qcow2_reftable_set(q, index, offset);
	if (q->virgin < offset + q->cluster_size)
		q->virgin = offset + q->cluster_size;
	*made = true;
	return 0;
}

/* ---- allocation ---- */

static bool overlaps(const struct qcow2 *q, uint64_t cluster, uint64_t offset, uint64_t len)
{
	return cluster >= offset >> q->cluster_bits && cluster << q->cluster_bits < offset + len;
}

/* Never given away, whatever an image's counts say. */
static bool is_reserved(const struct qcow2 *q, uint64_t cluster)
{
	return cluster == 0 || overlaps(q, cluster, q->l1_offset, q->l1_size * 8ull) ||
	       overlaps(q, cluster, q->reftable_offset, q->reftable_size * 8);
}

static bool is_free(const struct qcow2 *q, const struct qcow2_table *t, uint64_t cluster)
{
	return get_count(q, t->data, cluster % counts_per_block(q)) == 0 && !is_reserved(q, cluster);
}

/* The first free cluster from q->first_free on, with the block that counts it. */
static int find_free(struct qcow2 *q, uint64_t *cluster, struct qcow2_table **t)
{
	uint64_t per = counts_per_block(q), c = q->first_free;
	bool made;
	int r;

	for (;; c++) {
		if (c >= OFFSET_END >> q->cluster_bits)
			return -EFBIG;
		if (is_reserved(q, c))
			continue;
		if ((r = get_block(q, c, true, &made, t)) < 0)
			return r;
		if (made)
			continue;
		for (uint64_t n = c % per; n < per; n++, c++)
			if (is_free(q, *t, c)) {
				q->first_free = *cluster = c;
				return 0;
			}
		c--;
	}
}

int qcow2_allocate(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got, bool *virgin)
{
	uint64_t per = counts_per_block(q), c, n;
	struct qcow2_table *t;
	int r = find_free(q, &c, &t);

	if (r < 0)
		return r;
	for (n = 0; n < want && c % per + n < per && is_free(q, t, c + n); n++)
		set_count(q, t->data, c % per + n, 1);
	counts_changed(q, t, c % per, n);
	q->first_free = c + n;
	*offset = c << q->cluster_bits;
	*got = n;
	*virgin = *offset >= q->virgin;
	if (q->virgin < *offset + (n << q->cluster_bits))
		q->virgin = *offset + (n << q->cluster_bits);
	return 0;
}

/* ---- giving up ---- */

/* One reference less. True: that was the last. */
static bool drop_reference(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_table *t;
	bool made;

	/* If the block cannot be read or counts none, the cluster stays where it is. */
	if (is_reserved(q, cluster) || get_block(q, cluster, false, &made, &t) < 0 || !t)
		return false;
	uint64_t n = cluster % counts_per_block(q), count = get_count(q, t->data, n);
	if (count == 0)
		return false;
	set_count(q, t->data, n, count - 1);
	counts_changed(q, t, n, 1);
	if (count > 1)
		return false;
	if (cluster < q->first_free)
		q->first_free = cluster;
	return true;
}

void qcow2_release(struct qcow2 *q, uint64_t offset, uint64_t clusters)
{
	for (uint64_t n = 0; n < clusters; n++)
		drop_reference(q, (offset >> q->cluster_bits) + n);
}

int qcow2_free_later(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	struct qcow2_freed_list *f = &q->freed;
	struct qcow2_freed *last = f->count ? &f->range[f->count - 1] : NULL;

	if (last && last->offset + last->len == offset && offset % q->cluster_size == 0) {
		last->len += len;
		return 0;
	}
	if (f->count == f->capacity) {
		size_t capacity = f->capacity ? 2 * f->capacity : 64;
		struct qcow2_freed *grown = realloc(f->range, capacity * sizeof *grown);

		if (!grown)
			return -ENOMEM;
		f->range = grown;
		f->capacity = capacity;
	}
	f->range[f->count++] = (struct qcow2_freed){.offset = offset, .len = len};
	return 0;
}

static void punch(struct qcow2 *q, uint64_t first, uint64_t end)
{
	if (first < end && q->file->ops->discard)
		q->file->ops->discard(q->file, first << q->cluster_bits, (end - first) << q->cluster_bits);
}

void qcow2_apply_freed(struct qcow2 *q, struct qcow2_freed_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		uint64_t c = list->range[i].offset >> q->cluster_bits, hole = c;
		uint64_t end = (list->range[i].offset + list->range[i].len + q->cluster_size - 1) >> q->cluster_bits;

		for (; c < end; c++)
			if (!drop_reference(q, c)) {
				punch(q, hole, c);
				hole = c + 1;
			} else {
				qcow2_table_drop(q, c << q->cluster_bits);
			}
		punch(q, hole, end);
	}
	free(list->range);
	*list = (struct qcow2_freed_list){0};
}
