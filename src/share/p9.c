/*
 * 9P2000.L: sessions, attributes, reading and writing. See p9.h.
 *
 * A fid is a path below the root, and a descriptor once it is opened. Renames by this client carry the paths of its
 * fids along. Metadata is served under one lock; reading, writing and syncing go on beside it. What a client can hold
 * here is bounded: bytes by STATE_MAX (p9_fids.c), descriptors by OPEN_MAX_FIDS and a quarter of what the process may
 * have.
 *
 * All is done with Ringside's own rights. Owners are what the client asks for only where the host lets Ringside change
 * them (as root); otherwise files are its user's, and a client's chown succeeds without effect. Set-user-ID and
 * set-group-ID bits of files are dropped, devices cannot be made. Advisory locks are granted: they are the client's own
 * affair.
 *
 * Source: the 9P2000.L protocol (diod's protocol.md), Plan 9's section 5 of the manual.
 */
#include "share/p9.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "share/p9_internal.h"
#include "util/log.h"

#define MESSAGE_MIN 4096u
#define WALK_MAX 16
#define OPEN_MAX_FIDS 512u /* descriptors */

enum {
	TSTATFS = 8, TLOPEN = 12, TLCREATE = 14, TSYMLINK = 16, TMKNOD = 18, TRENAME = 20, TREADLINK = 22, TGETATTR = 24,
	TSETATTR = 26, TXATTRWALK = 30, TXATTRCREATE = 32, TREADDIR = 40, TFSYNC = 50, TLOCK = 52, TGETLOCK = 54, TLINK = 70,
	TMKDIR = 72, TRENAMEAT = 74, TUNLINKAT = 76, TVERSION = 100, TATTACH = 104, TWALK = 110, TREAD = 116, TWRITE = 118,
	TCLUNK = 120, TREMOVE = 122,
};
enum { RLERROR = 7 };
enum {
	SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 0x10, SET_MTIME = 0x20, SET_ATIME_TO = 0x80,
	SET_MTIME_TO = 0x100,
};
enum { GETATTR_BASIC = 0x7ff, LOCK_UNLOCKED = 2 };

/* ---- sessions, walking ---- */

static int do_version(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t max = get32(in);
	char version[NAME_SIZE];

	p9_get_text(in, version, sizeof version);
	if (in->bad)
		return -EINVAL;
	if (max < MESSAGE_MIN)
		return -EMSGSIZE;
	for (unsigned i = 0; i < BUCKETS; i++)
		while (s->bucket[i])
			p9_fid_clunk(s, s->bucket[i]->number);
	if (max > P9_MESSAGE_MAX)
		max = P9_MESSAGE_MAX;
	__atomic_store_n(&s->message_max, max, __ATOMIC_RELAXED);
	put(out, max, 4);
	p9_put_text(out, strcmp(version, "9P2000.L") == 0 ? version : "unknown");
	return 0;
}

static int do_attach(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), uid;
	char text[PATH_MAX];
	struct stat st;

	get32(in);
	p9_get_text(in, text, sizeof text); /* a user's name: the number counts */
	p9_get_text(in, text, sizeof text); /* a tree's name: there is one */
	uid = get32(in);
	if (in->bad)
		return -EINVAL;
	if (fstat(s->tree.root, &st) < 0)
		return -errno;
	p9_put_qid(s, out, &st);
	return p9_fid_new(s, number, "", uid);
}

/* One step of a walk. */
static int step(struct p9 *s, char path[PATH_MAX], const char *name, struct stat *st)
{
	char *slash;
	int fd, r = 0;

	if (strcmp(name, "..") == 0) { /* without symbolic links in it, a path's text says what is above */
		slash = strrchr(path, '/');
		*(slash ? slash : path) = '\0';
	} else if (!tree_is_name(name)) {
		return -ENOENT;
	} else if ((r = p9_join(path, path, name)) < 0) {
		return r;
	}
	if ((fd = tree_find(&s->tree, path)) < 0)
		return fd;
	if (fstat(fd, st) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int do_walk(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), new = get32(in);
	unsigned count = (unsigned)get(in, 2), done = 0;
	const struct fid *f = p9_fid_find(s, number);
	char path[PATH_MAX], name[NAME_SIZE];
	size_t at = out->used;
	struct stat st;
	int r = 0;

	if (in->bad || count > WALK_MAX)
		return -EINVAL;
	if (!f || f->attribute || (new == number && f->fd >= 0))
		return -EBADF;
	uint32_t uid = f->uid;
	memcpy(path, f->path, strlen(f->path) + 1);
	put(out, 0, 2);
	for (; done < count; done++) {
		p9_get_text(in, name, sizeof name);
		if ((r = in->bad ? -EINVAL : step(s, path, name, &st)) < 0)
			break;
		p9_put_qid(s, out, &st);
	}
	if (r < 0 && done == 0)
		return r;
	if (out->full)
		return -EMSGSIZE;
	memcpy(out->at + at, &(uint16_t){(uint16_t)done}, 2);
	if (done < count)
		return 0; /* not all the way: there is no new fid */
	if (new == number)
		p9_fid_clunk(s, number);
	return p9_fid_new(s, new, path, uid);
}

static int do_clunk(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	const struct fid *f = p9_fid_find(s, number);
	int r = f && f->attribute ? p9_xattr_commit(s, f) : 0, gone = p9_fid_clunk(s, number);

	(void)out;
	return r < 0 ? r : gone;
}

/* ---- attributes ---- */

static int do_getattr(struct p9 *s, struct in *in, struct out *out)
{
	const struct fid *f = p9_fid_find(s, get32(in));
	struct stat st;
	int r, fd;

	if (!f)
		return -EBADF;
	if (f->fd >= 0) { /* it may have lost its name */
		r = fstat(f->fd, &st) < 0 ? -errno : 0;
	} else {
		if ((fd = tree_find(&s->tree, f->path)) < 0)
			return fd;
		r = fstat(fd, &st) < 0 ? -errno : 0;
		close(fd);
	}
	if (r < 0)
		return r;
	put(out, GETATTR_BASIC, 8);
	p9_put_qid(s, out, &st);
	put(out, st.st_mode, 4);
	put(out, st.st_uid, 4);
	put(out, st.st_gid, 4);
	const uint64_t rest[] = {
		st.st_nlink, st.st_rdev, (uint64_t)st.st_size, (uint64_t)st.st_blksize, (uint64_t)st.st_blocks,
		(uint64_t)st.st_atim.tv_sec, (uint64_t)st.st_atim.tv_nsec, (uint64_t)st.st_mtim.tv_sec,
		(uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec, 0, 0, 0, 0,
	};
	put_bytes(out, rest, sizeof rest);
	return 0;
}

static struct timespec time_to_set(uint32_t valid, uint32_t set, uint32_t to, uint64_t seconds, uint64_t ns)
{
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (!(valid & to) || ns >= 1000000000)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)ns};
}

static int set_attributes(const struct p9 *s, int fd, int open_fd, struct in *in)
{
	uint32_t valid = get32(in), mode = get32(in), uid = get32(in), gid = get32(in);
	uint64_t size = get(in, 8), v[4];
	struct stat st;
	int r = 0;

	for (unsigned i = 0; i < 4; i++)
		v[i] = get(in, 8);
	if (in->bad)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (valid & (SET_UID | SET_GID)) {
		uid_t u = valid & SET_UID ? uid : (uid_t)-1;
		gid_t g = valid & SET_GID ? gid : (gid_t)-1;

		if (fchownat(fd, "", u, g, AT_EMPTY_PATH) < 0 && (s->root || errno != EPERM))
			return -errno;
	}
	if ((valid & SET_MODE) && (r = tree_chmod(fd, safe_mode(mode, S_ISDIR(st.st_mode)))) < 0)
		return r;
	if (valid & SET_SIZE) {
		if (size > INT64_MAX)
			return -EINVAL;
		if (open_fd < 0 || ftruncate(open_fd, (off_t)size) < 0)
			r = tree_truncate(fd, (off_t)size);
		if (r < 0)
			return r;
	}
	const struct timespec times[2] = {time_to_set(valid, SET_ATIME, SET_ATIME_TO, v[0], v[1]),
					  time_to_set(valid, SET_MTIME, SET_MTIME_TO, v[2], v[3])};
	return valid & (SET_ATIME | SET_MTIME) ? tree_set_times(fd, times) : 0;
}

static int do_setattr(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	const struct fid *f = p9_fid_find(s, number);
	int fd;

	(void)out;
	if (s->readonly)
		return -EROFS;
	if ((fd = p9_fid_open_path(s, number)) < 0)
		return fd;
	int r = set_attributes(s, fd, f->fd, in);
	close(fd);
	return r;
}

static int do_statfs(struct p9 *s, struct in *in, struct out *out)
{
	struct statfs st;
	int fd = p9_fid_open_path(s, get32(in)), r;

	if (fd < 0)
		return fd;
	r = fstatfs(fd, &st) < 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		return r;
	uint64_t id;
	memcpy(&id, &st.f_fsid, sizeof id);
	put(out, (uint64_t)st.f_type, 4);
	put(out, (uint64_t)st.f_bsize, 4);
	const uint64_t counts[] = {st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, id};
	put_bytes(out, counts, sizeof counts);
	put(out, (uint64_t)st.f_namelen, 4);
	return 0;
}

static int do_readlink(struct p9 *s, struct in *in, struct out *out)
{
	char target[PATH_MAX];
	int fd = p9_fid_open_path(s, get32(in));

	if (fd < 0)
		return fd;
	ssize_t n = readlinkat(fd, "", target, sizeof target - 1);
	int r = n < 0 ? (errno == ENOENT ? -EINVAL : -errno) : 0;
	close(fd);
	if (r < 0)
		return r;
	target[n] = '\0';
	p9_put_text(out, target);
	return 0;
}

/* ---- opening, reading, writing ---- */

static int host_flags(const struct p9 *s, uint32_t flags, int *host)
{
	*host = (int)flags & (O_ACCMODE | O_TRUNC | O_APPEND | O_EXCL | O_DSYNC | O_SYNC | O_DIRECTORY);
	return s->readonly && ((*host & O_ACCMODE) != O_RDONLY || (*host & O_TRUNC)) ? -EROFS : 0;
}

static void put_open(const struct p9 *s, struct out *out, const struct stat *st)
{
	p9_put_qid(s, out, st);
	put(out, 0, 4); /* no unit of I/O but the message's size */
}

static int do_lopen(struct p9 *s, struct in *in, struct out *out)
{
	struct fid *f = p9_fid_find(s, get32(in));
	uint32_t flags = get32(in);
	struct stat st;
	int found, fd, host, r;

	if (in->bad)
		return -EINVAL;
	if (!f || f->fd >= 0 || f->attribute)
		return -EBADF;
	if (s->open == s->open_max)
		return -ENFILE;
	if ((r = host_flags(s, flags, &host)) < 0)
		return r;
	if ((found = tree_find(&s->tree, f->path)) < 0)
		return found;
	fd = tree_reopen(found, host & ~O_EXCL);
	close(found);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	f->fd = fd;
	s->open++;
	put_open(s, out, &st);
	return 0;
}

static int do_lcreate(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), flags, mode, gid;
	struct fid *f = p9_fid_find(s, number);
	char name[NAME_SIZE], path[PATH_MAX];
	struct stat st;
	int directory, fd, host, r;

	p9_get_text(in, name, sizeof name);
	flags = get32(in);
	mode = get32(in);
	gid = get32(in);
	if (in->bad)
		return -EINVAL;
	if (!f || f->fd >= 0 || f->attribute)
		return -EBADF;
	if (s->open == s->open_max)
		return -ENFILE;
	if ((r = host_flags(s, flags, &host)) < 0 || (r = p9_join(path, f->path, name)) < 0)
		return r;
	if ((directory = p9_fid_open_parent(s, number, name)) < 0)
		return directory;
	fd = tree_create(directory, name, host, safe_mode(mode, false));
	close(directory);
	if (fd < 0)
		return fd;
	/* The client has applied its own mask to the mode. */
	if (s->root && fchown(fd, f->uid, gid) < 0)
		r = -errno;
	if (r < 0 || fchmod(fd, safe_mode(mode, false)) < 0 || fstat(fd, &st) < 0 || (r = p9_fid_set_path(s, f, path)) < 0) {
		r = r < 0 ? r : -errno;
		close(fd);
		return r;
	}
	f->fd = fd;
	s->open++;
	put_open(s, out, &st);
	return 0;
}

/* An open fid, to be used without the lock; p9_fid_put afterwards. */
static struct fid *fid_borrow(struct p9 *s, uint32_t number)
{
	struct fid *f = p9_fid_find(s, number);

	if (!f || f->fd < 0)
		return NULL;
	f->refs++;
	return f;
}

static int do_read(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	uint64_t offset = get(in, 8), count = get32(in), room = out->max - out->used;
	const struct fid *attribute = p9_fid_find(s, number);

	if (attribute && attribute->attribute && !in->bad)
		return p9_xattr_read(attribute->attribute, offset, count, out);
	struct fid *f = fid_borrow(s, number);
	if (!f)
		return -EBADF;
	if (in->bad || offset > INT64_MAX || room < 4) {
		p9_fid_put(s, f);
		return -EINVAL;
	}
	if (count > room - 4)
		count = room - 4;
	pthread_mutex_unlock(&s->lock);
	ssize_t n = pread(f->fd, out->at + out->used + 4, count, (off_t)offset);
	int r = n < 0 ? -errno : 0;
	pthread_mutex_lock(&s->lock);
	p9_fid_put(s, f);
	if (r < 0)
		return r;
	put(out, (uint64_t)n, 4);
	out->used += (size_t)n;
	return 0;
}

static int do_write(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	uint64_t offset = get(in, 8), count = get32(in);
	const struct fid *attribute = p9_fid_find(s, number);

	if (attribute && attribute->attribute && !in->bad)
		return p9_xattr_write(attribute->attribute, offset, count, in, out);
	struct fid *f = fid_borrow(s, number);
	if (!f)
		return -EBADF;
	if (in->bad || offset > INT64_MAX || count > in->left) {
		p9_fid_put(s, f);
		return -EINVAL;
	}
	pthread_mutex_unlock(&s->lock);
	ssize_t n = pwrite(f->fd, in->at, count, (off_t)offset);
	int r = n < 0 ? -errno : 0;
	pthread_mutex_lock(&s->lock);
	p9_fid_put(s, f);
	if (r < 0)
		return r;
	put(out, (uint64_t)n, 4);
	return 0;
}

static int do_fsync(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	bool data_only = in->left >= 4 && get32(in);
	struct fid *f = fid_borrow(s, number);

	(void)out;
	if (!f)
		return -EBADF;
	pthread_mutex_unlock(&s->lock);
	int r = (data_only ? fdatasync(f->fd) : fsync(f->fd)) < 0 ? -errno : 0;
	pthread_mutex_lock(&s->lock);
	p9_fid_put(s, f);
	return r;
}

static int do_readdir(struct p9 *s, struct in *in, struct out *out)
{
	struct directory_entry {
		uint64_t number;
		int64_t next;
		uint16_t size;
		uint8_t type;
		char name[];
	} __attribute__((packed));
	const struct fid *f = p9_fid_find(s, get32(in));
	uint64_t offset = get(in, 8), count = get32(in);
	size_t start = out->used, end;
	uint8_t entries[8192];
	long n;

	if (!f || f->fd < 0)
		return -EBADF;
	put(out, 0, 4);
	if (in->bad || out->full)
		return -EINVAL;
	end = count < out->max - out->used ? out->used + (size_t)count : out->max;
	if (lseek(f->fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	while ((n = syscall(SYS_getdents64, f->fd, entries, sizeof entries)) > 0)
		for (long at = 0; at < n;) {
			struct directory_entry *e = (void *)(entries + at);
			size_t len = strlen(e->name);

			if (out->used + 13 + 8 + 1 + 2 + len > end)
				goto done;
			put(out, e->type == DT_DIR ? QID_DIRECTORY : e->type == DT_LNK ? QID_LINK : QID_FILE, 1);
			put(out, 0, 4);
			put(out, e->number, 8);
			put(out, (uint64_t)e->next, 8);
			put(out, e->type, 1);
			p9_put_text(out, e->name);
			at += e->size;
		}
	if (n < 0)
		return -errno;
done:
	memcpy(out->at + start, &(uint32_t){(uint32_t)(out->used - start - 4)}, 4);
	return 0;
}

/* ---- locks ---- */

static int do_lock(struct p9 *s, struct in *in, struct out *out)
{
	const struct fid *f = p9_fid_find(s, get32(in));

	if (!f || f->fd < 0)
		return -EBADF;
	put(out, 0, 1); /* granted */
	return 0;
}

static int do_getlock(struct p9 *s, struct in *in, struct out *out)
{
	const struct fid *f = p9_fid_find(s, get32(in));
	char client[NAME_SIZE];

	get(in, 1);
	uint64_t start = get(in, 8), len = get(in, 8), process = get32(in);
	p9_get_text(in, client, sizeof client);
	if (in->bad)
		return -EINVAL;
	if (!f || f->fd < 0)
		return -EBADF;
	put(out, LOCK_UNLOCKED, 1);
	put(out, start, 8);
	put(out, len, 8);
	put(out, process, 4);
	p9_put_text(out, client);
	return 0;
}

/* Whoever calls waits for the message that is to be flushed (share.c): it has been answered. */
static int do_flush(struct p9 *s, struct in *in, struct out *out)
{
	(void)s;
	(void)in;
	(void)out;
	return 0;
}

/* ---- dispatch ---- */

static const struct {
	uint8_t type; /* of the request; its reply is one more */
	int (*handle)(struct p9 *s, struct in *in, struct out *out); /* s->lock held; 0 or -errno */
} handlers[] = {
	{TSTATFS, do_statfs}, {TLOPEN, do_lopen}, {TLCREATE, do_lcreate}, {TSYMLINK, p9_symlink}, {TMKNOD, p9_mknod},
	{TRENAME, p9_rename}, {TREADLINK, do_readlink}, {TGETATTR, do_getattr}, {TSETATTR, do_setattr},
	{TXATTRWALK, p9_xattrwalk}, {TXATTRCREATE, p9_xattrcreate},
	{TREADDIR, do_readdir}, {TFSYNC, do_fsync}, {TLOCK, do_lock}, {TGETLOCK, do_getlock}, {TLINK, p9_link},
	{TMKDIR, p9_mkdir}, {TRENAMEAT, p9_renameat}, {TUNLINKAT, p9_unlinkat}, {TVERSION, do_version},
	{TATTACH, do_attach}, {P9_TFLUSH, do_flush}, {TWALK, do_walk}, {TREAD, do_read}, {TWRITE, do_write},
	{TCLUNK, do_clunk}, {TREMOVE, p9_remove},
};

static int dispatch(struct p9 *s, uint8_t type, struct in *in, struct out *out)
{
	for (unsigned i = 0; i < sizeof handlers / sizeof handlers[0]; i++)
		if (handlers[i].type == type) {
			pthread_mutex_lock(&s->lock);
			int r = handlers[i].handle(s, in, out);
			pthread_mutex_unlock(&s->lock);
			return r < 0 ? r : out->full ? -EMSGSIZE : 0;
		}
	return -EOPNOTSUPP;
}

size_t p9_handle(struct p9 *s, const uint8_t *message, size_t size, uint8_t *reply, size_t max)
{
	struct in in = {.at = message, .left = size};
	uint32_t agreed = __atomic_load_n(&s->message_max, __ATOMIC_RELAXED);
	struct out out = {.at = reply, .used = P9_HEADER, .max = max < agreed ? max : agreed};
	uint32_t length = get32(&in);
	uint8_t type = (uint8_t)get(&in, 1);
	uint16_t tag = (uint16_t)get(&in, 2);

	if (in.bad || length < P9_HEADER || length > size || out.max < P9_HEADER + 4)
		return 0;
	in.left = length - P9_HEADER;
	int r = dispatch(s, type, &in, &out);
	if (r < 0) {
		LOG(LOG_VIRTIO, "9p: message of type %u: %s", type, strerror(-r));
		out.used = P9_HEADER;
		out.full = false;
		put(&out, (uint64_t)-r, 4);
	}
	reply[4] = r < 0 ? RLERROR : (uint8_t)(type + 1);
	memcpy(reply + 5, &tag, 2);
	memcpy(reply, &(uint32_t){(uint32_t)out.used}, 4);
	return out.used;
}

/* ---- life ---- */

/* The rest of Ringside needs some too. */
static unsigned descriptors_allowed(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur / 4 > OPEN_MAX_FIDS)
		return OPEN_MAX_FIDS;
	return (unsigned)files.rlim_cur / 4;
}

struct p9 *p9_new(const char *directory, bool readonly)
{
	struct p9 *s = calloc(1, sizeof *s);
	struct stat st;
	int r;

	if (!s)
		return NULL;
	if ((r = tree_init(&s->tree, directory)) == 0 && fstat(s->tree.root, &st) < 0) {
		r = -errno;
		tree_free(&s->tree);
	}
	if (r < 0) {
		free(s);
		errno = -r;
		return NULL;
	}
	s->readonly = readonly;
	s->root = geteuid() == 0;
	s->open_max = descriptors_allowed();
	s->device = st.st_dev;
	s->message_max = P9_MESSAGE_MAX;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void p9_reset(struct p9 *s)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		while (s->bucket[i])
			p9_fid_clunk(s, s->bucket[i]->number);
	s->message_max = P9_MESSAGE_MAX;
}

void p9_free(struct p9 *s)
{
	if (!s)
		return;
	p9_reset(s);
	tree_free(&s->tree);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
