/*
 * What tests of disks share: a loop, temporary files, and requests that are waited for. Header only, single thread (that
 * holds the lock but while the loop polls).
 */
#ifndef BLOCK_FIXTURE_H
#define BLOCK_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "block/block.h"
#include "util/loop.h"

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *loop;
static char directory[] = "/tmp/ringside-block-XXXXXX";
static char error[512];

static inline void fixture_start(void)
{
	if (!mkdtemp(directory) || !(loop = loop_new(&big_lock))) {
		perror("fixture");
		exit(1);
	}
	pthread_mutex_lock(&big_lock);
}

static inline int fixture_stop(void)
{
	pthread_mutex_unlock(&big_lock);
	loop_free(loop);
	rmdir(directory);
	return summary();
}

/* The path of a file in the test's directory; the same string each time. */
static inline const char *path_of(const char *name)
{
	static struct {
		char name[32], path[128];
	} known[32];
	unsigned n = 0;

	while (known[n].name[0] && strcmp(known[n].name, name) != 0)
		n++;
	snprintf(known[n].name, sizeof known[n].name, "%s", name);
	snprintf(known[n].path, sizeof known[n].path, "%s/%s", directory, name);
	return known[n].path;
}

static inline void make_file(const char *path, uint64_t size)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static inline struct block *open_disk(struct block_config config)
{
	struct block *b = block_open(loop, &config, error, sizeof error);

	if (!b)
		printf("# %s\n", error);
	return b;
}

struct wait {
	bool ended;
	int result;
};

static inline void wait_done(struct block_request *r, int result)
{
	*(struct wait *)r->opaque = (struct wait){.ended = true, .result = result};
}

/* Submits and turns the loop until it has ended. */
static inline int run_request(struct block *b, struct block_request *r)
{
	struct wait w = {0};

	r->done = wait_done;
	r->opaque = &w;
	block_submit(b, r);
	if (w.ended)
		return -ENOTRECOVERABLE; /* must not end before submit returns */
	while (!w.ended)
		loop_turn(loop);
	return w.result;
}

static inline int run(struct block *b, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct iovec v = {.iov_base = buf, .iov_len = len};
	struct block_request r = {.op = op, .offset = offset, .len = len, .iov = &v, .iov_count = buf != NULL};

	return run_request(b, &r);
}

static inline uint64_t random64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

#endif
