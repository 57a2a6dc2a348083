/*
 * Character back ends: what is at the host's end of a serial line or a console port. Standard input and output, a
 * file, a pseudo-terminal, a Unix or TCP socket that one client at a time may connect to, or nothing.
 *
 * All under vm->lock; the loop's thread reads.
 */
#ifndef RINGSIDE_CHARDEV_H
#define RINGSIDE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct chardev;

/* The device's side. */
struct chardev_ops {
	/* Takes input: how many bytes of len, 0..len. What it leaves is offered again after each turn of the loop. */
	size_t (*receive)(void *opaque, const uint8_t *data, size_t len);
	/* There is room for output again, after chardev_write was short. */
	void (*output_ready)(void *opaque);
	/* A client came or went (sockets). NULL: nobody cares. */
	void (*connected)(void *opaque, bool open);
};

/* Who else has a say: for standard input and output of `ringside run`. */
struct chardev_owner {
	/* Input before the device sees it; may take bytes out, in place: returns how many are left. */
	size_t (*filter)(void *opaque, uint8_t *data, size_t len);
	/* Nobody reads any more. */
	void (*broken)(void *opaque);
	void *opaque;
};

/* Checks a text that names a back end: "null", "file:PATH", "pty", "unix:PATH", "tcp:[ADDRESS:]PORT" (ADDRESS numeric,
 * 127.0.0.1 without). "stdio" is the caller's: chardev_new_fds. 0, or -EINVAL and one line in error. */
int chardev_check(const char *spec, char *error, size_t size);
/* Opens it. NULL: one line for the user in error. Says on stderr where a pty is. */
struct chardev *chardev_new(struct loop *loop, const char *spec, char *error, size_t size);
/* On descriptors that are shared with other processes: not made non-blocking, not closed. -1: none. owner may be NULL. */
struct chardev *chardev_new_fds(struct loop *loop, int in, int out, const struct chardev_owner *owner);
void chardev_free(struct chardev *c);

/* ops NULL: no device, input is not read (but with an owner's filter). */
void chardev_attach(struct chardev *c, const struct chardev_ops *ops, void *opaque);
bool chardev_connected(const struct chardev *c); /* somebody may be there: false only for a socket without a client */
void chardev_disconnect(struct chardev *c);      /* sends a socket's client away */

/* Writes what can be written without waiting; how much that was. All of it when nobody is there: it is lost. */
size_t chardev_write(struct chardev *c, const uint8_t *data, size_t len);
/* Writes all of it, waiting for a slow reader for a bounded time. */
void chardev_write_all(struct chardev *c, const uint8_t *data, size_t len);
/* Waits until there is room: false when there was none for a bounded time. */
bool chardev_wait_for_room(struct chardev *c);
/* Input to be offered as if it had been read; what there is no room for is lost. */
void chardev_insert(struct chardev *c, const uint8_t *data, size_t len);

#endif
