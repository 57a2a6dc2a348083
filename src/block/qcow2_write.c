/*
 * qcow2 images: writes, zeroes and discards. See qcow2.h; image.h for threads.
 *
 * A write into clusters that have no room of their own yet is a flight: room is allocated, data (with what belongs
 * around it in its clusters) is written there, and then the tables are changed. Nobody else touches these clusters of the
 * guest's disk meanwhile. Writes in place count themselves in q->in_place; a discard, which takes room away, waits
 * until there are none, so that no late write lands in a cluster that is another's.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2.h"

/* ---- tables that may be changed, q->lock held ---- */

/* A level 2 table of our own for `offset`: a new one, or a copy where snapshots share it. May let go of the lock. */
static int own_l2(struct qcow2 *q, uint64_t offset)
{
	uint64_t index = qcow2_l1_index(q, offset), old = q->l1[index], at, got;
	struct qcow2_table *t, *from = NULL;
	bool virgin;
	int r;

	if ((old & QCOW2_OFFSET) && (old & QCOW2_COPIED))
		return 0;
	if ((r = qcow2_allocate(q, 1, &at, &got, &virgin)) < 0)
		return r;
	if (q->l1[index] != old) {
		/* Another has made one meanwhile. */
		qcow2_release(q, at, 1);
		return own_l2(q, offset);
	}
	if ((r = qcow2_table_new(q, at, false, &t)) == 0 && (old & QCOW2_OFFSET)) {
		if ((r = qcow2_find_l2(q, offset, false, &from)) == 0) {
			memcpy(t->data, from->data, q->cluster_size);
			r = qcow2_free_later(q, old & QCOW2_OFFSET, q->cluster_size);
		}
	}
	if (r < 0) {
		qcow2_free_later(q, at, q->cluster_size);
		return r;
	}
	qcow2_l1_set(q, (uint32_t)index, at | QCOW2_COPIED);
	return 0;
}

/* The room that an entry holds is not referred to any more. */
static int give_up_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset, len = q->cluster_size;

	if (entry & QCOW2_COMPRESSED)
		qcow2_compressed_range(q, entry, &offset, &len);
	else if (!(offset = entry & QCOW2_OFFSET))
		return 0;
	return qcow2_free_later(q, offset, len);
}

static int set_entry(struct qcow2 *q, uint64_t offset, uint64_t entry, uint64_t bits)
{
	struct qcow2_table *t;
	int r = qcow2_find_l2(q, offset, false, &t);

	if (r < 0 || !t)
		return r < 0 ? r : -EIO;
	uint8_t *e = qcow2_l2_entry(q, t, qcow2_l2_index(q, offset));
	if ((be64(e) & QCOW2_OFFSET) != (entry & QCOW2_OFFSET) && (r = give_up_entry(q, be64(e))) < 0)
		return r;
	put_be64(e, entry);
	if (q->extended)
		put_be64(e + 8, bits);
	qcow2_table_changed(q, t, e, q->extended ? 16 : 8);
	return 0;
}

/* ---- flights ---- */

static bool is_in_flight(const struct qcow2 *q, uint64_t cluster)
{
	for (const struct qcow2_flight *f = q->flights; f; f = f->next)
		if (cluster >= f->first && cluster < f->first + f->count)
			return true;
	return false;
}

static void start_flight(struct qcow2 *q, struct qcow2_flight *f)
{
	f->next = q->flights;
	q->flights = f;
	q->in_place++;
}

static void end_flight(struct qcow2 *q, struct qcow2_flight *f)
{
	struct qcow2_flight **p = &q->flights;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	qcow2_leave_place(q);
	pthread_cond_broadcast(&q->changed);
}

/* How many clusters from the one at `offset` on, of the `count` wanted, a single flight can take. */
static int flight_length(struct qcow2 *q, uint64_t offset, uint64_t count, uint64_t *length)
{
	uint64_t n, span = 1ull << q->l2_bits;
	struct qcow2_table *t;
	struct qcow2_place p;
	int r = qcow2_find_l2(q, offset, false, &t);

	if (count > span - qcow2_l2_index(q, offset))
		count = span - qcow2_l2_index(q, offset);
	for (n = 1; n < count && r == 0; n++) {
		uint64_t at = (offset & ~(q->cluster_size - 1)) + (n << q->cluster_bits);

		if (is_in_flight(q, at >> q->cluster_bits))
			break;
		if (!t)
			continue;
		if ((r = qcow2_look_at(q, t, at, &p)) < 0 || (p.kind == QCOW2_IS_DATA && p.in_place))
			break;
	}
	*length = n;
	return r;
}

/* Bytes [offset, offset+len) of the guest's disk, which share a cluster with a write, to `at` in the file. */
static int copy_around(struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t at, bool virgin)
{
	struct qcow2_place p = {0};
	uint8_t *buf;
	int r;

	if (len == 0)
		return 0;
	pthread_mutex_lock(&q->lock);
	r = qcow2_look_up(q, offset, len, false, &p);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		return r;
	if (virgin && p.len == len && (p.kind == QCOW2_IS_ZERO || (p.kind == QCOW2_IS_HOLE && !q->backing)))
		return 0;
	if (!(buf = malloc(len)))
		return -ENOMEM;
	struct iovec v = {.iov_base = buf, .iov_len = len};
	struct iov_cursor to = {.iov = &v, .count = 1};
	if ((r = qcow2_read(&q->image, offset, &to, len)) == 0)
		r = image_write_bytes(q->file, at, buf, len);
	free(buf);
	return r;
}

/* The data of a flight, with what is around it: `room` is in the file. q->lock not held. */
static int fly(struct qcow2 *q, uint64_t offset, struct iov_cursor *from, uint64_t len, uint64_t room, bool virgin)
{
	uint64_t head = offset & (q->cluster_size - 1), tail = -(offset + len) & (q->cluster_size - 1);
	int r = q->file->ops->write(q->file, room + head, from, len);

	if (r == 0)
		r = copy_around(q, offset - head, head, room, virgin);
	return r == 0 ? copy_around(q, offset + len, tail, room + head + len, virgin) : r;
}

static int land(struct qcow2 *q, const struct qcow2_flight *f, uint64_t room)
{
	uint64_t n;
	int r = 0;

	for (n = 0; n < f->count && r == 0; n++)
		r = set_entry(q, (f->first + n) << q->cluster_bits, (room + (n << q->cluster_bits)) | QCOW2_COPIED,
			      UINT32_MAX);
	if (r < 0)
		qcow2_release(q, room + ((n - 1) << q->cluster_bits), f->count - (n - 1));
	return r;
}

/* Writes into clusters without room of their own, from `offset` on: *len of it. q->lock held, and again at the end. */
static int write_new(struct qcow2 *q, uint64_t offset, struct iov_cursor *from, uint64_t *len)
{
	uint64_t first = offset >> q->cluster_bits, in_cluster = offset & (q->cluster_size - 1), count, room;
	struct qcow2_flight f = {.first = first};
	bool virgin;
	int r;

	count = (in_cluster + *len + q->cluster_size - 1) >> q->cluster_bits;
	if ((r = flight_length(q, offset, count, &f.count)) < 0)
		return r;
	start_flight(q, &f);
	if ((r = own_l2(q, offset)) < 0 || (r = qcow2_allocate(q, f.count, &room, &count, &virgin)) < 0)
		goto end;
	f.count = count;
	if (*len > (count << q->cluster_bits) - in_cluster)
		*len = (count << q->cluster_bits) - in_cluster;
	pthread_mutex_unlock(&q->lock);
	r = fly(q, offset, from, *len, room, virgin);
	pthread_mutex_lock(&q->lock);
	if (r == 0)
		r = land(q, &f, room);
	else
		qcow2_release(q, room, count);
end:
	end_flight(q, &f);
	return r;
}

/* ---- writing ---- */

static void take_exclusive(struct qcow2 *q)
{
	q->exclusive++;
	while (q->in_place)
		pthread_cond_wait(&q->changed, &q->lock);
}

static void drop_exclusive(struct qcow2 *q)
{
	if (--q->exclusive == 0)
		pthread_cond_broadcast(&q->changed);
}

/* Some of [offset, offset+len): *len says how much. q->lock held, and again at the end. */
static int write_some(struct qcow2 *q, uint64_t offset, struct iov_cursor *from, uint64_t *len)
{
	struct qcow2_place p;
	int r;

	while (q->exclusive || is_in_flight(q, offset >> q->cluster_bits))
		pthread_cond_wait(&q->changed, &q->lock);
	if ((r = qcow2_look_up(q, offset, *len, false, &p)) < 0)
		return r;
	if (p.kind != QCOW2_IS_DATA || !p.in_place) {
		/* Parts of the cluster may have room, and be written in place by others while it is copied. */
		if (q->extended)
			take_exclusive(q);
		r = write_new(q, offset, from, len);
		if (q->extended)
			drop_exclusive(q);
		return r;
	}
	*len = p.len;
	q->in_place++;
	pthread_mutex_unlock(&q->lock);
	r = q->file->ops->write(q->file, p.at, from, p.len);
	pthread_mutex_lock(&q->lock);
	qcow2_leave_place(q);
	return r;
}

/* Much is in memory that belongs in the file. */
static int flush_if_full(struct qcow2 *q)
{
	pthread_mutex_lock(&q->lock);
	bool full = qcow2_is_full(q);
	pthread_mutex_unlock(&q->lock);
	return full ? qcow2_flush(q) : 0;
}

int qcow2_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len)
{
	struct qcow2 *q = qcow2_of(i);
	uint64_t part;
	int r = flush_if_full(q);

	/* Of a last sector that is not whole, what is there. */
	if (offset + len > q->image.size)
		len = q->image.size - offset;
	pthread_mutex_lock(&q->lock);
	for (; len && r == 0; offset += part, len -= part) {
		part = len;
		r = write_some(q, offset, from, &part);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* ---- zeroes and discards ---- */

/* One whole cluster becomes zero. keep: its room stays allocated. -ENOTSUP: the format cannot say that. q->lock held. */
static int zero_cluster(struct qcow2 *q, uint64_t offset, bool keep)
{
	struct qcow2_table *t;
	uint64_t entry = 0;
	int r = qcow2_find_l2(q, offset, false, &t);

	if (r < 0)
		return r;
	if (t)
		entry = be64(qcow2_l2_entry(q, t, qcow2_l2_index(q, offset)));
	if (!q->backing && !entry)
		return 0;
	if (q->version < QCOW2_VERSION_3 && (q->backing || keep))
		return -ENOTSUP;
	if ((r = own_l2(q, offset)) < 0 || (r = qcow2_find_l2(q, offset, false, &t)) < 0)
		return r;
	entry = be64(qcow2_l2_entry(q, t, qcow2_l2_index(q, offset))); /* the lock may have been let go of */
	if (keep && !(entry & QCOW2_COMPRESSED) && (entry & QCOW2_COPIED) && (entry & QCOW2_OFFSET))
		entry &= QCOW2_OFFSET | QCOW2_COPIED;
	else
		entry = 0;
	if (q->version >= QCOW2_VERSION_3 && !q->extended)
		entry |= QCOW2_ZERO;
	return set_entry(q, offset, entry, (uint64_t)UINT32_MAX << QCOW2_SUBCLUSTERS);
}

/* Whole clusters of [offset, end); with nobody at work in any of them. */
static int zero_clusters(struct qcow2 *q, uint64_t offset, uint64_t end, bool keep)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	take_exclusive(q);
	for (; offset < end && r == 0; offset += q->cluster_size)
		r = zero_cluster(q, offset, keep);
	drop_exclusive(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap)
{
	struct qcow2 *q = qcow2_of(i);
	uint64_t end = offset + len < q->image.size ? offset + len : q->image.size;
	uint64_t first = (offset + q->cluster_size - 1) & ~(q->cluster_size - 1);
	uint64_t last = end == q->image.size ? end : end & ~(q->cluster_size - 1);
	int r = flush_if_full(q);

	if (r < 0 || first >= last)
		return r < 0 ? r : image_write_zeroes(i, offset, end - offset);
	r = zero_clusters(q, first, last, !may_unmap);
	if (r == -ENOTSUP)
		return image_write_zeroes(i, offset, end - offset);
	if (r == 0)
		r = image_write_zeroes(i, offset, first - offset);
	return r == 0 ? image_write_zeroes(i, last, end - last) : r;
}

int qcow2_discard(struct image *i, uint64_t offset, uint64_t len)
{
	struct qcow2 *q = qcow2_of(i);
	uint64_t end = offset + len < q->image.size ? offset + len : q->image.size;
	uint64_t first = (offset + q->cluster_size - 1) & ~(q->cluster_size - 1);
	uint64_t last = end == q->image.size ? end : end & ~(q->cluster_size - 1);
	int r = flush_if_full(q);

	if (r == 0 && first < last)
		r = zero_clusters(q, first, last, false);
	return r == -ENOTSUP ? 0 : r;
}
