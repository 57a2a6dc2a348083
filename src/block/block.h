/*
 * Disks: what is behind a disk device. An image in some format, opened and locked by Ringside, read and written by
 * threads or io_uring, never on a vCPU's thread.
 *
 * The device submits requests under vm->lock and hears of their end on the I/O thread, under vm->lock. Requests
 * overlap and may end in any order, as on a real disk; a flush covers what had ended when it was submitted.
 */
#ifndef RINGSIDE_BLOCK_H
#define RINGSIDE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct block;

#define BLOCK_SECTOR 512u

enum block_cache { BLOCK_WRITEBACK, BLOCK_WRITETHROUGH, BLOCK_NONE, BLOCK_UNSAFE };

enum block_aio { BLOCK_AIO_BEST, BLOCK_AIO_THREADS }; /* best: io_uring where the host allows it */

struct block_config {
	const char *path;   /* a file, a block device, or nbd://... */
	const char *format; /* "raw", "qcow2"; NULL: found out (never raw by guessing from what a guest wrote: a file whose
			     * head says qcow2 is qcow2, everything else is raw) */
	bool readonly;
	bool snapshot; /* writes go to a temporary overlay that is gone at the end */
	const char *internal; /* what is seen is the image's internal snapshot of this name or ID; readonly or snapshot is set */
	enum block_cache cache;
	enum block_aio aio;
};

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_request {
	enum block_op op;
	uint64_t offset, len;    /* bytes, multiples of BLOCK_SECTOR, inside the disk; 0 for a flush */
	const struct iovec *iov; /* read, write: len bytes in all (more is not touched, and takes longer); valid until done */
	int iov_count;
	bool fua;        /* writes and zeroes: on stable storage when done */
	bool may_unmap;  /* write zeroes: may give the space back */
	/* result: 0 or -errno. On the I/O thread, vm->lock held; may submit again and may free the request. */
	void (*done)(struct block_request *r, int result);
	void *opaque;
	/* the block layer's own */
	struct block_request *next;
	struct block *block;
	int result;
};

/* Opens a disk; requests end through `loop`. NULL: one line for the user in error[0..size). */
struct block *block_open(struct loop *loop, const struct block_config *config, char *error, size_t size);
/* Ends all requests, flushes, closes. vm->lock held, on the loop's thread or while nobody turns it. */
void block_close(struct block *b);

/* Starts a request. Never calls done before it returns. A bad range or a write to a read-only disk ends with -EINVAL or
 * -EROFS, by done. */
void block_submit(struct block *b, struct block_request *r);
/* `ended` is called after done was called for some requests that ended together: the moment for one interrupt for all of
 * them. NULL: none. */
void block_set_batch_ended(struct block *b, void (*ended)(void *opaque), void *opaque);
/* Waits until all requests submitted have ended. For a device that is reset or freed. vm->lock held; on another thread than
 * the loop's (a vCPU's) it is let go of while there is something to wait for, so that a slow disk holds up nobody else: until
 * this returns the device submits nothing and takes nothing new from its driver. done is called here or on the I/O thread. */
void block_drain(struct block *b);

bool block_format_known(const char *format);
const char *block_formats(void); /* all, for messages */

uint64_t block_size(const struct block *b); /* bytes, a multiple of BLOCK_SECTOR */
bool block_readonly(const struct block *b);
bool block_can_discard(const struct block *b);
bool block_write_cache(const struct block *b); /* a flush is needed for writes to last */

#endif
