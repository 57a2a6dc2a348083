/*
 * A server of the 9P2000.L protocol over one directory tree: a message in, its reply out.
 *
 * Any thread, several at once; p9_reset and p9_free when no call is under way.
 */
#ifndef RINGSIDE_P9_H
#define RINGSIDE_P9_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define P9_MESSAGE_MAX (512u << 10) /* bytes of a message, either way */
#define P9_HEADER 7u                /* size[4] type[1] tag[2] */
enum { P9_TFLUSH = 108 };

struct p9;

/* NULL: errno (ENOSYS: the host has no openat2). */
struct p9 *p9_new(const char *directory, bool readonly);
void p9_free(struct p9 *s);
/* The client is gone: its fids too. */
void p9_reset(struct p9 *s);

/* Answers a message of `size` bytes into reply[0..max). How long the reply is; 0 when the message has no header or the
 * reply no room for an error. */
size_t p9_handle(struct p9 *s, const uint8_t *message, size_t size, uint8_t *reply, size_t max);

#endif
