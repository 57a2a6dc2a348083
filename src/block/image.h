/*
 * Disk images: what a format (a plain file, qcow2, an overlay) does for block.c. Images stack: qcow2 lies in a file and
 * may have another image behind it.
 *
 * Every operation may block and is called on worker threads, several at once, without vm->lock. Ranges lie inside the
 * image and are multiples of BLOCK_SECTOR (but for those that a format asks of the file it lies in).
 */
#ifndef RINGSIDE_IMAGE_H
#define RINGSIDE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct image;

/* A place in a scatter list; operations take bytes from it, in order. */
struct iov_cursor {
	const struct iovec *iov;
	int count;
	size_t skip; /* bytes of iov[0] that are behind it already */
};

struct image_ops {
	/* All of [offset, offset+len), or -errno. */
	int (*read)(struct image *i, uint64_t offset, struct iov_cursor *to, uint64_t len);
	int (*write)(struct image *i, uint64_t offset, struct iov_cursor *from, uint64_t len);
	/* Reads as zeroes from now on; may_unmap: and need not have space any more. */
	int (*zero)(struct image *i, uint64_t offset, uint64_t len, bool may_unmap);
	/* Contents are not wanted any more: a hint. NULL: cannot. */
	int (*discard)(struct image *i, uint64_t offset, uint64_t len);
	/* All writes that have ended are on stable storage when it returns. */
	int (*flush)(struct image *i);
	/* Where [offset, offset+len) lies as it is, if that is known without waiting: a descriptor and *at; -1: it is not,
	 * or not all in one place. For a write, nothing but those bytes must have to change. It stays there until
	 * `release` (NULL: always). Called on the I/O thread. NULL: never known. */
	int (*locate)(struct image *i, bool write, uint64_t offset, const struct iovec *iov, int count, uint64_t len,
		      uint64_t *at);
	void (*release)(struct image *i);
	/* After a flush, if anything was written. */
	void (*close)(struct image *i);
};

struct image {
	const struct image_ops *ops;
	uint64_t size; /* bytes */
	bool readonly;
	bool remote; /* it, or what is behind it, talks to a server */
};

struct image_flags {
	bool readonly;
	bool direct; /* past the host's page cache */
	const char *internal; /* the internal snapshot of that name or ID is what is seen; NULL: the image itself */
};

/* Opens `path` in `format` (NULL: found out from its head). *guessed: nothing said that it is raw, see image_guard.
 * NULL: one line for the user in error[0..size). */
struct image *image_open(const char *path, const char *format, struct image_flags flags, bool *guessed, char *error,
			 size_t size);

/* The same for one that is behind `depth` others. */
struct image *image_open_behind(const char *path, const char *format, struct image_flags flags, unsigned depth,
				bool *guessed, char *error, size_t size);

/* Calls `tell` with the path of what image_open would open, and of what is behind it, from the top down, as far as headers
 * in files say it: what an image at a server has behind it is not asked. */
void image_each_path(const char *path, const char *format, void (*tell)(void *arg, const char *path), void *arg);

/* file.c: a file or a block device as it is, locked against other writers. */
struct image *file_open(const char *path, struct image_flags flags, char *error, size_t size);

/* nbd.c: what a server has. */
bool nbd_is_uri(const char *path);
struct image *nbd_open(const char *uri, struct image_flags flags, char *error, size_t size);

/* overlay.c: writes to `base` (owned from now on) go to a temporary file. NULL: errno; base is still the caller's. */
struct image *overlay_new(struct image *base);

/* image.c: `base` (owned from now on), which a guest cannot turn into something that is taken for another format the
 * next time. NULL: errno. */
struct image *image_guard(struct image *base);

/* Whole operations on one buffer. */
int image_read_bytes(struct image *i, uint64_t offset, void *buf, uint64_t len);
int image_write_bytes(struct image *i, uint64_t offset, const void *buf, uint64_t len);
/* Writes zeroes: for images that cannot be told to have them. */
int image_write_zeroes(struct image *i, uint64_t offset, uint64_t len);

/* Fills v[0..max) with the next bytes, at most `len`, and moves on; how many segments (0: the list is at its end). */
int iov_take(struct iov_cursor *c, struct iovec *v, int max, uint64_t len);
void iov_fill(struct iov_cursor *c, uint8_t byte, uint64_t len);
/* How many bytes there were. */
uint64_t iov_copy_to(struct iov_cursor *to, const void *buf, uint64_t len);
uint64_t iov_copy_from(void *buf, struct iov_cursor *from, uint64_t len);

#endif
