/*
 * Memory for generated code: the same pages at one address where they are written, and at another where they are run.
 *
 * The process keeps what is given back, empty, and hands it out again: a machine that is reset, or moved to another
 * engine, in a sandbox that lets nobody make memory executable finds there what it needs. Any thread; the lock is its
 * own.
 *
 * A host's processor finds few small pages of code by itself, so 2 MiB that are full may become one large page: for both
 * addresses, with nothing to be seen but the time. A thread asks the host for that (MADV_COLLAPSE, Linux 6.1: madvise(2));
 * on a host that has none of it, nothing happens. It is never done before they are full: memory in use does not grow.
 */
#ifndef RINGSIDE_ENGINE_CODE_MEMORY_H
#define RINGSIDE_ENGINE_CODE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define CODE_MEMORY_LARGE (2u << 20) /* bytes of a large page; both addresses are multiples */

struct code_memory {
	uint8_t *rw, *rx; /* NULL: none */
	size_t size;      /* bytes, whole pages */
	struct large *large; /* NULL: no large pages */
};

/* May there be such memory? An engine's probe: 0, or -errno and why not, in one line. */
int code_memory_probe(char *why, size_t size);
/* What the host gives it, it gives when a page is first touched. 0 or -errno. */
int code_memory_take(struct code_memory *m, size_t size);
/* Nobody runs it or writes to it any more. *m is empty afterwards; it may be so before. */
void code_memory_give_back(struct code_memory *m);
/* The page of CODE_MEMORY_LARGE bytes that offset lies in is full, and will be run. One thread at a time; does not wait. */
void code_memory_full(struct code_memory *m, size_t offset);
/* How many of those are large pages now. */
unsigned code_memory_large(const struct code_memory *m);
/* Makes as many of `size` bytes as it takes for there to be `count`, those in use included. 0 or -errno. */
int code_memory_reserve(size_t size, unsigned count);

#endif
