/*
 * What the files of the 9P server share: fids and messages (p9_fids.c), what is done to files (p9.c), to names
 * (p9_names.c) and to extended attributes (p9_xattr.c). See p9.h. Everything here is called with p9->lock held.
 */
#ifndef RINGSIDE_P9_INTERNAL_H
#define RINGSIDE_P9_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "share/p9.h"
#include "share/tree.h"

#define BUCKETS 4096u
#define NAME_SIZE (NAME_MAX + 1)

enum { QID_DIRECTORY = 0x80, QID_LINK = 0x02, QID_FILE = 0 };

/* What a fid stands for instead of a file. */
struct attribute {
	bool set; /* it is to be set, when the fid is clunked; else it was read */
	int flags;
	size_t size, written;
	char name[NAME_SIZE]; /* "": the list of names */
	uint8_t data[];
};

struct fid {
	struct fid *next;
	uint32_t number, uid;
	unsigned refs; /* the table's, and of who reads or writes outside the lock */
	int fd;        /* -1: not open */
	char *path;
	struct attribute *attribute; /* NULL: it is a file's */
};

struct p9 {
	struct tree tree;
	bool readonly, root; /* root: Ringside may change owners */
	dev_t device;        /* of the tree's root */
	uint32_t message_max;
	pthread_mutex_t lock;
	size_t state; /* bytes of all fids */
	unsigned open, open_max; /* fids with a descriptor */
	struct fid *bucket[BUCKETS];
};

struct in {
	const uint8_t *at;
	size_t left;
	bool bad; /* there was less than was asked for, or a text that cannot be */
};

struct out {
	uint8_t *at;
	size_t used, max;
	bool full;
};

static inline uint64_t get(struct in *m, unsigned bytes)
{
	uint64_t v = 0;

	if (bytes > m->left) {
		m->bad = true;
		m->left = 0;
		return 0;
	}
	memcpy(&v, m->at, bytes);
	m->at += bytes;
	m->left -= bytes;
	return v;
}

static inline uint32_t get32(struct in *m) { return (uint32_t)get(m, 4); }

static inline void put_bytes(struct out *m, const void *p, size_t len)
{
	if (len > m->max - m->used) {
		m->full = true;
		return;
	}
	memcpy(m->at + m->used, p, len);
	m->used += len;
}

static inline void put(struct out *m, uint64_t v, unsigned bytes) { put_bytes(m, &v, bytes); }

/* A text of less than `size` bytes, without NUL. */
void p9_get_text(struct in *m, char *text, size_t size);
void p9_put_text(struct out *m, const char *text);
void p9_put_qid(const struct p9 *s, struct out *m, const struct stat *st);

struct fid *p9_fid_find(struct p9 *s, uint32_t number);
int p9_fid_new(struct p9 *s, uint32_t number, const char *path, uint32_t uid);
void p9_fid_put(struct p9 *s, struct fid *f);
int p9_fid_clunk(struct p9 *s, uint32_t number);
/* Takes the attribute. */
int p9_fid_set_attribute(struct p9 *s, struct fid *f, struct attribute *a);
int p9_fid_set_path(struct p9 *s, struct fid *f, const char *path);
/* What was called `from` is called `to` now, and so is all below it. */
void p9_fid_renamed(struct p9 *s, const char *from, const char *to);
/* A fid as an O_PATH descriptor. */
int p9_fid_open_path(struct p9 *s, uint32_t number);
/* A fid that is a directory, in which a name is to change. */
int p9_fid_open_parent(struct p9 *s, uint32_t number, const char *name);
/* path = directory/name, which may be the same memory as directory. */
int p9_join(char path[PATH_MAX], const char *directory, const char *name);

/* Modes that the client may give. */
static inline mode_t safe_mode(uint32_t mode, bool directory) { return mode & (directory ? 07777 : 01777); }

/* Extended attributes (p9_xattr.c): 0 or -errno. */
int p9_xattrwalk(struct p9 *s, struct in *in, struct out *out);
int p9_xattrcreate(struct p9 *s, struct in *in, struct out *out);
int p9_xattr_read(const struct attribute *a, uint64_t offset, uint64_t count, struct out *out);
int p9_xattr_write(struct attribute *a, uint64_t offset, uint64_t count, const struct in *in, struct out *out);
int p9_xattr_commit(struct p9 *s, const struct fid *f);

/* Requests that are about names (p9_names.c): 0 or -errno. */
int p9_mkdir(struct p9 *s, struct in *in, struct out *out);
int p9_mknod(struct p9 *s, struct in *in, struct out *out);
int p9_symlink(struct p9 *s, struct in *in, struct out *out);
int p9_link(struct p9 *s, struct in *in, struct out *out);
int p9_unlinkat(struct p9 *s, struct in *in, struct out *out);
int p9_remove(struct p9 *s, struct in *in, struct out *out);
int p9_rename(struct p9 *s, struct in *in, struct out *out);
int p9_renameat(struct p9 *s, struct in *in, struct out *out);

#endif
