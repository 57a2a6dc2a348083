/*
 * What the files of the qcow2 format share: the image, where bytes are and reads (qcow2.c), writes (qcow2_write.c), tables
 * in memory and how they reach the disk (qcow2_cache.c), reference counts and allocation (qcow2_refcount.c), compressed
 * clusters (qcow2_compressed.c).
 *
 * Everything about tables is under q->lock; clusters' contents are read and written without it.
 *
 * Source: QEMU's docs/interop/qcow2.txt.
 */
#ifndef RINGSIDE_QCOW2_H
#define RINGSIDE_QCOW2_H

#include <pthread.h>
#include <string.h>

#include "block/image.h"
#include "util/big_endian.h"

/* Entries of the level 1 and level 2 tables. */
#define QCOW2_COPIED (1ull << 63) /* the reference count is exactly 1: may be written in place */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull /* version 3 */
#define QCOW2_OFFSET 0x00fffffffffffe00ull

/* Subclusters of an extended level 2 entry. */
#define QCOW2_SUBCLUSTERS 32u

enum { QCOW2_VERSION_2 = 2, QCOW2_VERSION_3 = 3 };

/* A table of one cluster: a level 2 table or a block of reference counts. */
struct qcow2_table {
	uint64_t offset; /* in the file */
	uint8_t *data;
	bool refcounts;  /* what it is */
	bool dirty;      /* [dirty_from, dirty_to) is to be written at the next flush */
	uint32_t dirty_from, dirty_to;
	uint32_t written_from, written_to; /* while it is `writing` */
	bool writing;    /* a flush is writing it: the file may be older than `data` */
	struct qcow2_table *hash_next, *older, *newer;
};

/* Clusters that nothing in memory refers to any more, while tables in the file still may. */
struct qcow2_freed {
	uint64_t offset, len;
};

struct qcow2_freed_list {
	struct qcow2_freed *range;
	size_t count, capacity;
};

/* Clusters of the guest's disk that a write is giving room. */
struct qcow2_flight {
	uint64_t first, count;
	struct qcow2_flight *next;
};

#define QCOW2_DEPTH_MAX 64u /* images behind each other */
#define QCOW2_NAME_MAX 1023u

/* What lies behind an image; "": nothing, and a format that nobody says. */
struct qcow2_backing {
	char path[2 * QCOW2_NAME_MAX], format[32];
};

struct qcow2 {
	struct image image;
	struct image *file, *backing; /* backing NULL: none */
	unsigned version, cluster_bits, refcount_order;
	uint64_t cluster_size;
	bool extended;          /* level 2 entries have 16 bytes */
	bool zstd;              /* how compressed clusters are compressed */
	unsigned l2_bits;       /* log2 of the entries of a level 2 table */
	pthread_mutex_t lock;   /* all that follows */
	pthread_cond_t changed; /* a flight, a flush or the last use in place ended, or `exclusive` fell */
	uint64_t *l1;           /* in the host's byte order */
	uint32_t l1_size;
	uint64_t l1_offset;
	uint8_t *l1_dirty;      /* a byte for each sector of it */
	bool l1_any_dirty;
	uint64_t *reftable;     /* likewise */
	uint64_t reftable_size; /* entries */
	uint64_t reftable_offset;
	uint8_t *reftable_dirty;
	bool reftable_any_dirty;
	uint64_t first_free;    /* no cluster before this one is free */
	uint64_t virgin;        /* nothing was ever written at or behind this offset of the file: it reads as zeroes */
	struct qcow2_freed_list freed;
	/* tables */
	struct qcow2_table **hash, lru; /* lru.newer is the oldest, lru.older the newest */
	size_t hash_size, tables, tables_max, dirty;
	/* reads and writes going on */
	struct qcow2_flight *flights;
	unsigned in_place; /* how many use places in the file that they have looked up */
	unsigned exclusive; /* who waits for none to do so: no new ones */
	bool flushing; /* one flush at a time */
	/* Reads without the ring, by the epoch that they began in. Clusters that were given up lose their count only when all
	 * reads have ended that may have looked them up before. */
	unsigned reading[2], epoch;
	/* one compressed cluster, read last */
	pthread_mutex_t inflated_lock;
	uint64_t inflated_entry; /* its level 2 entry; 0: none */
	uint8_t *inflated;
};

/* ---- where bytes are, q->lock held (qcow2.c) ---- */

enum qcow2_kind { QCOW2_IS_HOLE, QCOW2_IS_ZERO, QCOW2_IS_DATA, QCOW2_IS_COMPRESSED };

struct qcow2_place {
	enum qcow2_kind kind;
	uint64_t entry; /* of level 2, its first half */
	uint64_t at;    /* data: in the file */
	uint64_t len;   /* bytes that are alike, and in a row */
	bool in_place;  /* data that may be overwritten */
};

static inline struct qcow2 *qcow2_of(struct image *i) { return (struct qcow2 *)i; }

static inline uint64_t qcow2_l2_index(const struct qcow2 *q, uint64_t offset)
{
	return offset >> q->cluster_bits & ((1ull << q->l2_bits) - 1);
}

static inline uint64_t qcow2_l1_index(const struct qcow2 *q, uint64_t offset)
{
	return offset >> (q->cluster_bits + q->l2_bits);
}

static inline uint8_t *qcow2_l2_entry(const struct qcow2 *q, struct qcow2_table *t, uint64_t index)
{
	return t->data + index * (q->extended ? 16 : 8);
}

/* What the unit (a cluster, or a subcluster) at `offset` is; all but `len`. */
int qcow2_look_at(const struct qcow2 *q, struct qcow2_table *t, uint64_t offset, struct qcow2_place *p);
/* What is at `offset`, and how far it goes on like that, at most `len`. cached_only: -ENOENT instead of reading a table. */
int qcow2_look_up(struct qcow2 *q, uint64_t offset, uint64_t len, bool cached_only, struct qcow2_place *p);
/* The level 2 table of `offset`; NULL: there is none. */
int qcow2_find_l2(struct qcow2 *q, uint64_t offset, bool cached_only, struct qcow2_table **t);
/* One that was counted in q->in_place ended. */
void qcow2_leave_place(struct qcow2 *q);

/* ---- operations of the image, q->lock not held (qcow2.c, qcow2_write.c) ---- */

int qcow2_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len);
int qcow2_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len);
int qcow2_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap);
int qcow2_discard(struct image *i, uint64_t offset, uint64_t len);

/* ---- qcow2_cache.c ---- */

int qcow2_cache_init(struct qcow2 *q);
void qcow2_cache_free(struct qcow2 *q);
/* The table at `offset`, read if it is not there; it stays until q->lock is let go. cached_only: -ENOENT instead of
 * reading. */
int qcow2_table_get(struct qcow2 *q, uint64_t offset, bool refcounts, bool cached_only, struct qcow2_table **table);
/* A new one, all zero and dirty. */
int qcow2_table_new(struct qcow2 *q, uint64_t offset, bool refcounts, struct qcow2_table **table);
void qcow2_table_changed(struct qcow2 *q, struct qcow2_table *t, const uint8_t *at, uint64_t len);
/* A table's cluster was given up: what is known of it is forgotten. */
void qcow2_table_drop(struct qcow2 *q, uint64_t offset);
void qcow2_l1_set(struct qcow2 *q, uint32_t index, uint64_t entry);
void qcow2_reftable_set(struct qcow2 *q, uint64_t index, uint64_t entry);
/* Writes what is dirty so that the image in the file is right at every moment, also if the host crashes. q->lock not
 * held. */
int qcow2_flush(struct qcow2 *q);
/* Much is dirty or freed: flush before more comes. */
bool qcow2_is_full(const struct qcow2 *q);
/* Writes all dirty blocks of reference counts now. q->lock held. */
int qcow2_write_refcounts(struct qcow2 *q);

/* ---- qcow2_refcount.c, q->lock held ---- */

/* Up to `want` clusters in a row, at least 1, with a reference count of 1 each. *virgin: the file reads as zeroes there.
 * May let go of q->lock in between. */
int qcow2_allocate(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got, bool *virgin);
/* Gives back what nothing in the file refers to: at once. */
void qcow2_release(struct qcow2 *q, uint64_t offset, uint64_t clusters);
/* Drops one reference of each cluster of the range, once no table in the file can refer to it any more. */
int qcow2_free_later(struct qcow2 *q, uint64_t offset, uint64_t len);
void qcow2_apply_freed(struct qcow2 *q, struct qcow2_freed_list *list);

/* ---- qcow2_compressed.c ---- */

/* The compressed cluster that `entry` describes: its bytes [from, from+len). q->lock not held. */
int qcow2_read_compressed(struct qcow2 *q, uint64_t entry, uint64_t from, struct iov_cursor *to, uint64_t len);
/* Where it lies in the file. */
void qcow2_compressed_range(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *len);

/* ---- qcow2.c ---- */

/* `file` is owned from now on, also if it fails. `depth`: how many images are in front of it. */
struct image *qcow2_open(const char *path, struct image *file, struct image_flags flags, unsigned depth, char *error,
			 size_t size);
/* What the header of `file` at `path`, open to read, has behind it. False: nothing, or nothing that can be opened. */
bool qcow2_find_backing(const char *path, struct image *file, struct qcow2_backing *b);

#endif
