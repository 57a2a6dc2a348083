/*
 * io_uring for one disk: reads and writes of block requests whose bytes lie in a file as they are. Whoever calls holds
 * the disk's ring lock (see block.c).
 */
#ifndef RINGSIDE_URING_H
#define RINGSIDE_URING_H

#include <stdbool.h>
#include <stdint.h>

struct block_request;
struct uring;

struct uring *uring_new(void); /* NULL: this host does not allow it, or has no memory */
void uring_free(struct uring *u);
int uring_fd(const struct uring *u); /* readable: something ended */
/* Prepares a read or write of `r`, at `at` of `fd`; `sync`: lasts when it ends. False: the ring is full for now. */
bool uring_add(struct uring *u, struct block_request *r, int fd, uint64_t at, bool sync);
/* Starts what was prepared. 0 or -errno. */
int uring_submit(struct uring *u);
/* One that ended: *result is bytes or -errno. NULL: none. */
struct block_request *uring_take(struct uring *u, int *result);
/* Waits for one to end; something must be going on. */
void uring_wait(struct uring *u);

#endif
