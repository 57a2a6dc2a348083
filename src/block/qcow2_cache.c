/*
 * Tables of a qcow2 image in memory, and how they reach the file. See qcow2.h; q->lock held unless it says otherwise.
 *
 * Changes stay in memory until a flush, which takes copies of all that is dirty at one moment and writes, with a
 * barrier between the steps that have something to write:
 *
 *   1. data (written before), blocks of reference counts: what is referred to is counted
 *   2. the table of these blocks
 *   3. level 2 tables: they refer to data and counts that are there
 *   4. the level 1 table: it refers to level 2 tables that are there
 *   5. only now do clusters that were given up before the flush lose their count: nothing in the file refers to them
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2.h"

#define CACHE_BYTES_MIN (1u << 20)
#define CACHE_BYTES_MAX (64u << 20)
#define TABLES_MIN 32u
#define FREED_MAX 4096u
#define L1_CHUNK 512u

/* ---- the cache ---- */

int qcow2_cache_init(struct qcow2 *q)
{
	uint64_t entry = q->extended ? 16 : 8;
	uint64_t bytes = (q->image.size >> q->cluster_bits) * entry * 5 / 4 + CACHE_BYTES_MIN;

	if (bytes > CACHE_BYTES_MAX)
		bytes = CACHE_BYTES_MAX;
	q->tables_max = bytes / q->cluster_size;
	if (q->tables_max < TABLES_MIN)
		q->tables_max = TABLES_MIN;
	for (q->hash_size = 64; q->hash_size < q->tables_max;)
		q->hash_size *= 2;
	q->lru.older = q->lru.newer = &q->lru;
	q->hash = calloc(q->hash_size, sizeof *q->hash);
	return q->hash ? 0 : -ENOMEM;
}

static struct qcow2_table **bucket(struct qcow2 *q, uint64_t offset)
{
	return &q->hash[(offset >> q->cluster_bits) & (q->hash_size - 1)];
}

static void lru_remove(struct qcow2_table *t)
{
	t->older->newer = t->newer;
	t->newer->older = t->older;
}

static void lru_add(struct qcow2 *q, struct qcow2_table *t)
{
	t->older = q->lru.older;
	t->newer = &q->lru;
	t->older->newer = t;
	q->lru.older = t;
}

static void table_free(struct qcow2 *q, struct qcow2_table *t)
{
	struct qcow2_table **p = bucket(q, t->offset);

	while (*p != t)
		p = &(*p)->hash_next;
	*p = t->hash_next;
	lru_remove(t);
	q->dirty -= t->dirty;
	q->tables--;
	free(t->data);
	free(t);
}

void qcow2_cache_free(struct qcow2 *q)
{
	if (!q->hash)
		return;
	while (q->lru.newer != &q->lru)
		table_free(q, q->lru.newer);
	free(q->hash);
}

static struct qcow2_table *find(struct qcow2 *q, uint64_t offset)
{
	for (struct qcow2_table *t = *bucket(q, offset); t; t = t->hash_next)
		if (t->offset == offset)
			return t;
	return NULL;
}

/* What is dirty stays; qcow2_is_full says that there is too much of it. */
static void make_room(struct qcow2 *q)
{
	struct qcow2_table *t = q->lru.newer, *next;

	for (; q->tables >= q->tables_max && t != &q->lru; t = next) {
		next = t->newer;
		if (!t->dirty && !t->writing)
			table_free(q, t);
	}
}

static struct qcow2_table *add(struct qcow2 *q, uint64_t offset, bool refcounts)
{
	struct qcow2_table *t;

	make_room(q);
	if (!(t = calloc(1, sizeof *t)) || !(t->data = calloc(1, q->cluster_size))) {
		free(t);
		return NULL;
	}
	t->offset = offset;
	t->refcounts = refcounts;
	t->hash_next = *bucket(q, offset);
	*bucket(q, offset) = t;
	lru_add(q, t);
	q->tables++;
	return t;
}

int qcow2_table_get(struct qcow2 *q, uint64_t offset, bool refcounts, bool cached_only, struct qcow2_table **table)
{
	struct qcow2_table *t = find(q, offset);
	int r;

	if (t) {
		/* One cluster as two kinds of table: an image that lies. */
		if (t->refcounts != refcounts)
			return -EIO;
		lru_remove(t);
		lru_add(q, t);
		*table = t;
		return 0;
	}
	if (cached_only)
		return -ENOENT;
	if (!(t = add(q, offset, refcounts)))
		return -ENOMEM;
	if ((r = image_read_bytes(q->file, offset, t->data, q->cluster_size)) < 0) {
		table_free(q, t);
		return r;
	}
	*table = t;
	return 0;
}

int qcow2_table_new(struct qcow2 *q, uint64_t offset, bool refcounts, struct qcow2_table **table)
{
	qcow2_table_drop(q, offset);
	if (find(q, offset))
		return -EIO; /* a free cluster that is being written as a table: an image that lies */
	if (!(*table = add(q, offset, refcounts)))
		return -ENOMEM;
	qcow2_table_changed(q, *table, (*table)->data, q->cluster_size);
	return 0;
}

void qcow2_table_changed(struct qcow2 *q, struct qcow2_table *t, const uint8_t *at, uint64_t len)
{
	/* Whole sectors: no disk writes less. */
	uint32_t from = (uint32_t)(at - t->data) & ~511u, to = ((uint32_t)(at - t->data + len) + 511) & ~511u;

	if (!t->dirty || from < t->dirty_from)
		t->dirty_from = from;
	if (!t->dirty || to > t->dirty_to)
		t->dirty_to = to;
	q->dirty += !t->dirty;
	t->dirty = true;
}

void qcow2_table_drop(struct qcow2 *q, uint64_t offset)
{
	struct qcow2_table *t = find(q, offset);

	if (t && !t->writing)
		table_free(q, t);
}

void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t entry)
{
	q->l1[index] = entry;
	q->l1_dirty[index * 8 / L1_CHUNK] = 1;
	q->l1_any_dirty = true;
}

void qcow2_reftable_set(struct qcow2 *q, uint64_t index, uint64_t entry)
{
	q->reftable[index] = entry;
	q->reftable_dirty[index * 8 / L1_CHUNK] = 1;
	q->reftable_any_dirty = true;
}

bool qcow2_is_full(const struct qcow2 *q) { return q->dirty > q->tables_max / 2 || q->freed.count > FREED_MAX; }

/* ---- flushing ---- */

/* Copies of what one step writes. */
struct step {
	struct piece {
		uint64_t offset;
		uint32_t len;
		uint8_t *data;
	} *piece;
	size_t count, capacity;
};

enum { STEP_REFCOUNTS, STEP_REFTABLE, STEP_L2, STEP_L1, STEPS };

static uint8_t *step_add(struct step *s, uint64_t offset, size_t len)
{
	if (s->count == s->capacity) {
		size_t capacity = s->capacity ? 2 * s->capacity : 16;
		struct piece *grown = realloc(s->piece, capacity * sizeof *grown);

		if (!grown)
			return NULL;
		s->piece = grown;
		s->capacity = capacity;
	}
	uint8_t *data = malloc(len);

	if (data)
		s->piece[s->count++] = (struct piece){.offset = offset, .len = (uint32_t)len, .data = data};
	return data;
}

static void step_free(struct step *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->piece[i].data);
	free(s->piece);
}

static int copy_numbers(struct step *s, const uint64_t *entry, uint64_t count, uint64_t offset, const uint8_t *dirty)
{
	const uint64_t per = L1_CHUNK / 8;

	for (uint64_t chunk = 0; chunk * per < count; chunk++) {
		uint64_t n = count - chunk * per < per ? count - chunk * per : per;
		uint8_t *data;

		if (!dirty[chunk])
			continue;
		if (!(data = step_add(s, offset + chunk * L1_CHUNK, n * 8)))
			return -ENOMEM;
		for (uint64_t i = 0; i < n; i++)
			put_be64(data + i * 8, entry[chunk * per + i]);
	}
	return 0;
}

static int copy_tables(struct qcow2 *q, struct step *steps)
{
	for (struct qcow2_table *t = q->lru.newer; t != &q->lru; t = t->newer) {
		uint8_t *data;

		if (!t->dirty)
			continue;
		uint32_t len = t->dirty_to - t->dirty_from;
		if (!(data = step_add(&steps[t->refcounts ? STEP_REFCOUNTS : STEP_L2], t->offset + t->dirty_from, len)))
			return -ENOMEM;
		memcpy(data, t->data + t->dirty_from, len);
	}
	return 0;
}

static uint64_t dirty_chunks(uint64_t entries) { return (entries * 8 + L1_CHUNK - 1) / L1_CHUNK; }

/* Takes copies of all that is dirty; it is clean then. */
static int take_dirty(struct qcow2 *q, struct step *steps)
{
	int r = copy_tables(q, steps);

	if (r == 0 && q->reftable_any_dirty)
		r = copy_numbers(&steps[STEP_REFTABLE], q->reftable, q->reftable_size, q->reftable_offset,
				 q->reftable_dirty);
	if (r == 0 && q->l1_any_dirty)
		r = copy_numbers(&steps[STEP_L1], q->l1, q->l1_size, q->l1_offset, q->l1_dirty);
	if (r < 0)
		return r;
	for (struct qcow2_table *t = q->lru.newer; t != &q->lru; t = t->newer) {
		t->writing = t->dirty;
		t->written_from = t->dirty_from;
		t->written_to = t->dirty_to;
		t->dirty = false;
	}
	q->dirty = 0;
	if (q->reftable_any_dirty)
		memset(q->reftable_dirty, 0, dirty_chunks(q->reftable_size));
	if (q->l1_any_dirty)
		memset(q->l1_dirty, 0, dirty_chunks(q->l1_size));
	q->reftable_any_dirty = q->l1_any_dirty = false;
	return 0;
}

/* The flush has ended; what it could not write is dirty again. */
static void give_back(struct qcow2 *q, const struct step *steps, bool failed)
{
	for (struct qcow2_table *t = q->lru.newer; t != &q->lru; t = t->newer) {
		if (t->writing && failed)
			qcow2_table_changed(q, t, t->data + t->written_from, t->written_to - t->written_from);
		t->writing = false;
	}
	if (!failed)
		return;
	for (size_t i = 0; i < steps[STEP_REFTABLE].count; i++)
		q->reftable_dirty[(steps[STEP_REFTABLE].piece[i].offset - q->reftable_offset) / L1_CHUNK] = 1;
	for (size_t i = 0; i < steps[STEP_L1].count; i++)
		q->l1_dirty[(steps[STEP_L1].piece[i].offset - q->l1_offset) / L1_CHUNK] = 1;
	q->reftable_any_dirty |= steps[STEP_REFTABLE].count != 0;
	q->l1_any_dirty |= steps[STEP_L1].count != 0;
}

static int write_steps(struct qcow2 *q, const struct step *steps)
{
	bool written = true; /* data, by others */
	int r;

	for (unsigned s = 0; s < STEPS; s++) {
		/* Counts need nothing to be there before them. */
		if (steps[s].count && s != STEP_REFCOUNTS && written) {
			if ((r = q->file->ops->flush(q->file)) < 0)
				return r;
			written = false;
		}
		for (size_t i = 0; i < steps[s].count; i++) {
			const struct piece *p = &steps[s].piece[i];

			if ((r = image_write_bytes(q->file, p->offset, p->data, p->len)) < 0)
				return r;
			written = true;
		}
	}
	return written ? q->file->ops->flush(q->file) : 0;
}

/* Those freed before a flush that failed wait for the next one. */
static void keep_freed(struct qcow2 *q, struct qcow2_freed_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		/* Without memory they are never used again: a leak in the file, nothing worse. */
		qcow2_free_later(q, list->range[i].offset, list->range[i].len);
	free(list->range);
}

/* Reads that began before now may be at clusters that were given up. (They wait for nobody here.) */
static void wait_for_readers(struct qcow2 *q)
{
	unsigned old = q->epoch;

	q->epoch = !old;
	while (q->reading[old])
		pthread_cond_wait(&q->changed, &q->lock);
}

int qcow2_flush(struct qcow2 *q)
{
	struct step steps[STEPS] = {0};
	struct qcow2_freed_list freed;
	int r;

	pthread_mutex_lock(&q->lock);
	while (q->flushing)
		pthread_cond_wait(&q->changed, &q->lock);
	q->flushing = true;
	r = take_dirty(q, steps);
	freed = q->freed;
	q->freed = (struct qcow2_freed_list){0};
	pthread_mutex_unlock(&q->lock);

	bool copied = r == 0;
	if (r == 0)
		r = write_steps(q, steps);

	pthread_mutex_lock(&q->lock);
	if (copied)
		give_back(q, steps, r < 0);
	if (r == 0 && freed.count)
		wait_for_readers(q);
	if (r == 0)
		qcow2_apply_freed(q, &freed);
	else
		keep_freed(q, &freed);
	q->flushing = false;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
	for (unsigned s = 0; s < STEPS; s++)
		step_free(&steps[s]);
	return r;
}

int qcow2_write_refcounts(struct qcow2 *q)
{
	int r = 0;

	for (struct qcow2_table *t = q->lru.newer; t != &q->lru && r == 0; t = t->newer) {
		if (!t->dirty || !t->refcounts)
			continue;
		if ((r = image_write_bytes(q->file, t->offset, t->data, q->cluster_size)) == 0) {
			t->dirty = false;
			q->dirty--;
		}
	}
	return r;
}
