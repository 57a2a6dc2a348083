/*
 * A directory shared with the guest: a 9P server and the threads that it works on.
 *
 * The device submits requests under vm->lock; threads take them, read and write the guest's memory themselves, and the
 * end comes on the I/O thread, under vm->lock. Requests may end in any order.
 */
#ifndef RINGSIDE_SHARE_H
#define RINGSIDE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct share;

struct share_request {
	const struct iovec *out, *in; /* the message; room for its reply. Valid until done */
	unsigned out_count, in_count;
	void (*done)(struct share_request *r, uint32_t reply); /* bytes of the reply; 0: none could be given */
	void *opaque;
	/* the share's own */
	struct share_request *next;
	uint64_t number;
	uint16_t tag;
	uint32_t reply;
};

/* NULL: one line for the user in error[0..size). */
struct share *share_open(struct loop *loop, const char *directory, bool readonly, char *error, size_t size);
void share_close(struct share *s); /* waits for what is being done */

/* Never calls done before it returns. */
void share_submit(struct share *s, struct share_request *r);
/* The client is gone: waits until all that was submitted has ended, calls their done here, forgets what it had open. */
void share_reset(struct share *s);

#endif
