/*
 * A file or a block device of the host as a disk image, and the locks on it. See image.h for threads.
 *
 * Locks are open-file-description locks on single bytes, the same that QEMU takes (its block/file-posix.c documents
 * them): byte 100+p says "I use permission p", byte 200+p "others must not use p". All are shared locks; who opens first
 * takes his own and then looks for those that contradict, so of two that contradict at least one gives up.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "block/image.h"
#include "util/iov.h"

enum { LOCK_USES = 100, LOCK_DENIES = 200 };
/* Permissions, as numbers of bits. */
enum { PERM_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, PERM_COUNT };

#define LOCK_TRIES 10u
#define LOCK_PAUSE_US 30000u
#define SEGMENTS 128
#define DIRECT_ALIGN 4096u /* what every device takes */

struct file {
	struct image image;
	int fd;
	int direct_fd; /* -1: none. Takes only what is aligned */
	unsigned direct_align;
	bool no_punch, no_zero_range; /* found out: this file system cannot */
};

static struct file *file_of(struct image *i) { return (struct file *)i; }

/* ---- locks ---- */

static bool lock_byte(int fd, off_t byte)
{
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	/* A file system without locks is used without. */
	return fcntl(fd, F_OFD_SETLK, &l) == 0 || (errno != EAGAIN && errno != EACCES);
}

static bool others_lock(int fd, off_t byte)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* A writer uses and denies writing and resizing; a reader only denies them. */
static bool lock_image(int fd, bool readonly)
{
	const bool uses[PERM_COUNT] = {true, !readonly, false, !readonly};
	const bool denies[PERM_COUNT] = {false, true, false, true};

	for (unsigned p = 0; p < PERM_COUNT; p++)
		if ((uses[p] && !lock_byte(fd, LOCK_USES + p)) || (denies[p] && !lock_byte(fd, LOCK_DENIES + p)))
			return false;
	for (unsigned p = 0; p < PERM_COUNT; p++)
		if ((uses[p] && others_lock(fd, LOCK_DENIES + p)) || (denies[p] && others_lock(fd, LOCK_USES + p)))
			return false;
	return true;
}

/* ---- reads and writes ---- */

/* The descriptor for this piece: the direct one if everything about it is aligned. */
static int choose_fd(const struct file *f, uint64_t offset, const struct iovec *v, int count)
{
	uint64_t bits = offset;

	if (f->direct_fd < 0)
		return f->fd;
	for (int n = 0; n < count; n++)
		bits |= (uintptr_t)v[n].iov_base | v[n].iov_len;
	return bits & (f->direct_align - 1) ? f->fd : f->direct_fd;
}

/* What lies behind the end of the file reads as zeroes. */
static void zero_rest(struct iovec *v, unsigned count)
{
	for (unsigned n = 0; n < count; n++)
		memset(v[n].iov_base, 0, v[n].iov_len);
}

static ssize_t move_once(int fd, bool write, const struct iovec *v, unsigned count, uint64_t offset)
{
	return write ? pwritev(fd, v, (int)count, (off_t)offset) : preadv(fd, v, (int)count, (off_t)offset);
}

static int move_segments(struct file *f, bool write, uint64_t *offset, struct iovec *v, unsigned count)
{
	while (count) {
		int fd = choose_fd(f, *offset, v, (int)count);
		ssize_t n = move_once(fd, write, v, count, *offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd == f->direct_fd) {
			f->direct_align = DIRECT_ALIGN; /* more than was told */
			n = move_once(f->fd, write, v, count, *offset);
		}
		if (n < 0)
			return -errno;
		if (n == 0) {
			if (write)
				return -EIO;
			for (unsigned s = 0; s < count; s++)
				*offset += v[s].iov_len;
			zero_rest(v, count);
			return 0;
		}
		*offset += (uint64_t)n;
		iov_skip(&v, &count, (size_t)n);
	}
	return 0;
}

static int move(struct file *f, bool write, uint64_t offset, struct iov_cursor *c, uint64_t len)
{
	struct iovec v[SEGMENTS];
	uint64_t end = offset + len;
	int count, r;

	while (offset < end) {
		if ((count = iov_take(c, v, SEGMENTS, end - offset)) == 0)
			return -EINVAL;
		if ((r = move_segments(f, write, &offset, v, (unsigned)count)) < 0)
			return r;
	}
	return 0;
}

static int file_read(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len)
{
	return move(file_of(i), false, offset, to, len);
}

static int file_write(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len)
{
	return move(file_of(i), true, offset, from, len);
}

/* ---- zeroes ---- */

static int allocate(int fd, int mode, uint64_t offset, uint64_t len)
{
	int r;

	do
		r = fallocate(fd, mode, (off_t)offset, (off_t)len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int file_zero(struct image *i, uint64_t offset, uint64_t len, bool may_unmap)
{
	struct file *f = file_of(i);
	int r = -EOPNOTSUPP;

	if (may_unmap && !f->no_punch) {
		r = allocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
		f->no_punch = r == -EOPNOTSUPP;
	}
	if (r < 0 && !f->no_zero_range) {
		r = allocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, len);
		f->no_zero_range = r == -EOPNOTSUPP;
	}
	/* Slow, and always right. */
	return r < 0 ? image_write_zeroes(i, offset, len) : 0;
}

static int file_discard(struct image *i, uint64_t offset, uint64_t len)
{
	struct file *f = file_of(i);
	int r;

	if (f->no_punch)
		return 0;
	r = allocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
	f->no_punch = r == -EOPNOTSUPP;
	return f->no_punch ? 0 : r;
}

static int file_flush(struct image *i)
{
	return fdatasync(file_of(i)->fd) < 0 ? -errno : 0;
}

static int file_locate(struct image *i, bool write, uint64_t offset, const struct iovec *iov, int count, uint64_t len,
		       uint64_t *at)
{
	struct file *f = file_of(i);

	(void)write;
	(void)len;
	*at = offset;
	return choose_fd(f, offset, iov, count);
}

static void file_close(struct image *i)
{
	struct file *f = file_of(i);

	if (f->direct_fd >= 0)
		close(f->direct_fd);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

static const struct image_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.zero = file_zero,
	.discard = file_discard,
	.flush = file_flush,
	.locate = file_locate,
	.close = file_close,
};

/* ---- opening ---- */

static void open_direct(struct file *f, const char *path, bool readonly)
{
	struct statx x;

	/* Not every file system can (tmpfs): then it is the page cache. */
	f->direct_fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_DIRECT);
	f->direct_align = DIRECT_ALIGN;
#ifdef STATX_DIOALIGN
	if (f->direct_fd >= 0 && statx(f->direct_fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 &&
	    (x.stx_mask & STATX_DIOALIGN) && x.stx_dio_offset_align)
		f->direct_align = x.stx_dio_offset_align > x.stx_dio_mem_align ? x.stx_dio_offset_align
									       : x.stx_dio_mem_align;
#else
	(void)x;
#endif
}

static int find_size(int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	*size = (uint64_t)st.st_size;
	return 0;
}

static int open_file(struct file *f, const char *path, struct image_flags flags, const char **why)
{
	int r;

	/* A FIFO must not make the open wait. */
	f->fd = open(path, (flags.readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0) {
		if (!flags.readonly && (errno == EACCES || errno == EROFS))
			*why = "; add ,ro to only read it";
		return -errno;
	}
	if ((r = find_size(f->fd, &f->image.size)) < 0)
		return r;
	fcntl(f->fd, F_SETFL, 0);
	/* The kernel keeps a killed program's locks until it has ended what that had going on. */
	for (unsigned n = 0; !lock_image(f->fd, flags.readonly); n++) {
		if (n == LOCK_TRIES)
			return -EBUSY;
		usleep(LOCK_PAUSE_US);
	}
	if (flags.direct)
		open_direct(f, path, flags.readonly);
	return 0;
}

struct image *file_open(const char *path, struct image_flags flags, char *error, size_t size)
{
	struct file *f = calloc(1, sizeof *f);
	const char *why = "";
	int r;

	if (!f) {
		snprintf(error, size, "%s: out of memory", path);
		return NULL;
	}
	f->fd = f->direct_fd = -1;
	f->image.ops = &file_ops;
	f->image.readonly = flags.readonly;
	if ((r = open_file(f, path, flags, &why)) == 0)
		return &f->image;
	if (r == -EBUSY)
		snprintf(error, size, "%s: in use by another program%s", path,
			 flags.readonly ? " that writes to it" : " (a lock is held on it)");
	else
		snprintf(error, size, "%s: %s%s", path, strerror(-r), why);
	file_close(&f->image);
	return NULL;
}
