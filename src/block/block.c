/*
 * Requests: a queue, worker threads that take from it, and the way of their results to the I/O thread. See block.h.
 *
 * Reads, and writes past the page cache, whose place in a file is known without waiting go to io_uring instead, where
 * the host allows it: the I/O thread starts them without vm->lock, many with one system call, and what the host's page
 * cache has is copied right then. Whatever does not end as it should is done again by a worker, who finds out why.
 *
 * Locks, from the outside in: vm->lock, b->ring_lock (the ring), b->lock (lists). Workers never take vm->lock, and the
 * I/O thread waits for nobody but the ring lock while it works on the ring. What is in flight is counted under vm->lock.
 */
#include "block/block.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/image.h"
#include "block/uring.h"
#include "sandbox/sandbox.h"
#include "util/loop.h"

#define NS_PER_S 1000000000l
#define DRAIN_MOMENT_NS 5000000l /* without word from the ring, which wakes nobody but the loop */
#define TURN_BYTES (1u << 20) /* what one turn of the I/O thread copies; then those that ended are told, and others have theirs */
#define WORKERS_MAX 8u
#define WRITERS_MAX 2u /* so many may be at a write before another worker is woken for one */

/* Requests in order of arrival. */
struct list {
	struct block_request *first, **end;
};

struct block {
	struct loop *loop;
	struct image *image;
	uint64_t size;
	bool readonly;
	enum block_cache cache;
	pthread_mutex_t lock;
	pthread_cond_t work, ended_one;
	struct list queue, ended; /* under lock */
	unsigned idle, workers;   /* under lock */
	unsigned writers;         /* under lock: workers at a write */
	unsigned gone;            /* under lock, while closing: workers that have nothing to do any more */
	bool closing;             /* under lock */
	struct list pending;      /* under lock: for the ring */
	pthread_mutex_t ring_lock;
	struct uring *uring; /* NULL: workers do everything */
	bool ring_writes;    /* writes too: they go past the page cache, where the kernel has workers for each at best */
	unsigned on_ring;    /* under ring_lock */
	struct loop_work ring_work;
	struct loop_fd ring_fd;
	pthread_t worker[WORKERS_MAX];
	/* under vm->lock */
	struct list told;   /* ended, and done is being called one by one */
	unsigned in_flight; /* submitted, done not called */
	struct loop_call tell, hire;
	void (*batch_ended)(void *opaque);
	void *batch_opaque;
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->end = &l->first;
}

static void list_add(struct list *l, struct block_request *r)
{
	r->next = NULL;
	*l->end = r;
	l->end = &r->next;
}

static struct block_request *list_take(struct list *l)
{
	struct block_request *r = l->first;

	if (r && !(l->first = r->next))
		l->end = &l->first;
	return r;
}

static void list_move(struct list *to, struct list *from)
{
	if (!from->first)
		return;
	*to->end = from->first;
	to->end = from->end;
	list_init(from);
}

/* ---- workers ---- */

static int flush(struct block *b)
{
	return b->cache == BLOCK_UNSAFE || b->readonly ? 0 : b->image->ops->flush(b->image);
}

static int perform(struct block *b, struct block_request *r)
{
	struct image *i = b->image;
	struct iov_cursor c = {.iov = r->iov, .count = r->iov_count};
	int result = -EINVAL;

	switch (r->op) {
	case BLOCK_READ:
		return i->ops->read(i, r->offset, &c, r->len);
	case BLOCK_FLUSH:
		return flush(b);
	case BLOCK_WRITE:
		result = i->ops->write(i, r->offset, &c, r->len);
		break;
	case BLOCK_DISCARD:
		result = i->ops->discard ? i->ops->discard(i, r->offset, r->len) : 0;
		break;
	case BLOCK_WRITE_ZEROES:
		result = i->ops->zero(i, r->offset, r->len, r->may_unmap);
		break;
	}
	if (result == 0 && (r->fua || b->cache == BLOCK_WRITETHROUGH))
		result = flush(b);
	return result;
}

/* b->lock held. */
static void end(struct block *b, struct block_request *r, int result)
{
	bool first = !b->ended.first;

	r->result = result;
	list_add(&b->ended, r);
	if (first) {
		loop_call_soon(b->loop, &b->tell);
		pthread_cond_signal(&b->ended_one);
	}
}

static void *worker_main(void *opaque)
{
	struct block *b = opaque;
	struct block_request *r;

	sandbox_enter(b->image->remote ? SANDBOX_REMOTE_DISK : SANDBOX_DISK);
	pthread_mutex_lock(&b->lock);
	for (;;) {
		while (!b->queue.first && !b->closing) {
			b->idle++;
			pthread_cond_wait(&b->work, &b->lock);
			b->idle--;
		}
		if (!(r = list_take(&b->queue)))
			break;
		bool writes = r->op == BLOCK_WRITE;
		b->writers += writes;
		pthread_mutex_unlock(&b->lock);
		int result = perform(b, r);
		pthread_mutex_lock(&b->lock);
		b->writers -= writes;
		end(b, r, result);
	}
	bool last = ++b->gone == b->workers;
	pthread_mutex_unlock(&b->lock);
	/* Also what was said to be unsafe. A worker does it, who may connect to a server again. */
	if (last && !b->readonly)
		b->image->ops->flush(b->image);
	return NULL;
}

/* ---- submission, vm->lock held ---- */

/* *exact: the request's memory has its length. */
static int check(const struct block *b, const struct block_request *r, bool *exact)
{
	uint64_t bytes = 0;

	*exact = false;

	if (r->op == BLOCK_FLUSH)
		return 0;
	if (r->len == 0 || (r->offset | r->len) % BLOCK_SECTOR || r->offset > b->size || r->len > b->size - r->offset)
		return -EINVAL;
	if (r->op == BLOCK_READ || r->op == BLOCK_WRITE) {
		for (int n = 0; n < r->iov_count; n++)
			bytes += r->iov[n].iov_len;
		if (bytes < r->len)
			return -EINVAL;
		*exact = bytes == r->len;
	}
	return r->op != BLOCK_READ && b->readonly ? -EROFS : 0;
}

/* b->lock held. */
static void give_to_worker(struct block *b, struct block_request *r)
{
	list_add(&b->queue, r);
	/* The writers come by when they are done: more would only wait for each other, for the file. */
	if (r->op == BLOCK_WRITE && b->writers >= WRITERS_MAX)
		return;
	if (b->idle)
		pthread_cond_signal(&b->work);
	else if (b->workers < WORKERS_MAX)
		loop_call_soon(b->loop, &b->hire);
}

static bool start_worker(struct block *b)
{
	bool ok = pthread_create(&b->worker[b->workers], NULL, worker_main, b) == 0;

	b->workers += ok;
	return ok;
}

/* Another worker, which the I/O thread starts: a vCPU's thread may not (sandbox/). */
static void hire(void *opaque)
{
	struct block *b = opaque;

	pthread_mutex_lock(&b->lock);
	if (b->queue.first && !b->idle && b->workers < WORKERS_MAX)
		start_worker(b);
	pthread_mutex_unlock(&b->lock);
}

void block_submit(struct block *b, struct block_request *r)
{
	bool exact;
	int result = check(b, r, &exact);
	/* The ring moves all that there is memory for. */
	bool by_ring = r->op == BLOCK_READ || (r->op == BLOCK_WRITE && b->ring_writes);
	bool ring = b->uring && exact && by_ring && r->iov_count <= IOV_MAX;

	r->block = b;
	b->in_flight++;
	pthread_mutex_lock(&b->lock);
	if (result < 0)
		end(b, r, result);
	else if (ring)
		list_add(&b->pending, r);
	else
		give_to_worker(b, r);
	pthread_mutex_unlock(&b->lock);
	if (ring && result == 0)
		loop_work_soon(b->loop, &b->ring_work);
}

/* ---- the ring, b->ring_lock held ---- */

static void take_from_ring(struct block *b)
{
	struct block_request *r;
	int result;

	while ((r = uring_take(b->uring, &result)) != NULL) {
		b->on_ring--;
		if (b->image->ops->release)
			b->image->ops->release(b->image);
		pthread_mutex_lock(&b->lock);
		/* Part of it, at the end of a file for one, or an error: once more, slowly. */
		if (result >= 0 && (uint64_t)result == r->len)
			end(b, r, 0);
		else
			give_to_worker(b, r);
		pthread_mutex_unlock(&b->lock);
	}
}

/* False: the ring is full. */
static bool put_on_ring(struct block *b, struct block_request *r)
{
	struct image *i = b->image;
	bool write = r->op == BLOCK_WRITE;
	uint64_t at;
	int fd = i->ops->locate(i, write, r->offset, r->iov, r->iov_count, r->len, &at);

	if (fd < 0) {
		pthread_mutex_lock(&b->lock);
		give_to_worker(b, r);
		pthread_mutex_unlock(&b->lock);
		return true;
	}
	if (!uring_add(b->uring, r, fd, at, write && (r->fua || b->cache == BLOCK_WRITETHROUGH))) {
		if (i->ops->release)
			i->ops->release(i);
		return false;
	}
	b->on_ring++;
	return true;
}

static void turn_ring(struct block *b)
{
	struct list pending;
	struct block_request *r = NULL;
	uint64_t bytes = 0;

	list_init(&pending);
	pthread_mutex_lock(&b->ring_lock);
	take_from_ring(b);
	pthread_mutex_lock(&b->lock);
	list_move(&pending, &b->pending);
	pthread_mutex_unlock(&b->lock);
	while (bytes < TURN_BYTES && (r = list_take(&pending)) != NULL) {
		if (!put_on_ring(b, r))
			break;
		bytes += r->len;
		r = NULL;
	}
	int err = uring_submit(b->uring);
	take_from_ring(b);
	if (r || pending.first || err < 0) {
		/* The rest goes on at once; when the ring is full, something is going on that will end. */
		struct list rest;

		list_init(&rest);
		if (r)
			list_add(&rest, r);
		list_move(&rest, &pending);
		pthread_mutex_lock(&b->lock);
		list_move(&rest, &b->pending);
		list_move(&b->pending, &rest);
		pthread_mutex_unlock(&b->lock);
		loop_work_soon(b->loop, &b->ring_work);
	}
	pthread_mutex_unlock(&b->ring_lock);
}

static void ring_work(void *opaque) { turn_ring(opaque); }

static void tell(void *opaque)
{
	struct block *b = opaque;
	struct block_request *r;

	pthread_mutex_lock(&b->lock);
	list_move(&b->told, &b->ended);
	pthread_mutex_unlock(&b->lock);
	while ((r = list_take(&b->told)) != NULL) {
		b->in_flight--;
		r->done(r, r->result);
	}
	if (!b->in_flight)
		pthread_cond_broadcast(&b->ended_one); /* block_drain on another thread */
	if (b->batch_ended)
		b->batch_ended(b->batch_opaque);
}

void block_set_batch_ended(struct block *b, void (*ended)(void *opaque), void *opaque)
{
	b->batch_ended = ended;
	b->batch_opaque = opaque;
}

/* The ring has something for the I/O thread. vm->lock held. */
static void ring_ready(void *opaque, short revents)
{
	struct block *b = opaque;

	(void)revents;
	pthread_mutex_lock(&b->ring_lock);
	take_from_ring(b);
	pthread_mutex_unlock(&b->ring_lock);
	tell(b);
}

/* Waits until the ring has ended something; false: it has nothing to end. */
static bool wait_for_ring(struct block *b)
{
	bool waited = false;

	if (!b->uring)
		return false;
	turn_ring(b);
	pthread_mutex_lock(&b->ring_lock);
	if (b->on_ring) {
		uring_wait(b->uring);
		take_from_ring(b);
		waited = true;
	}
	pthread_mutex_unlock(&b->ring_lock);
	return waited;
}

/* What the loop's thread has not started is the workers': it may have left the loop, the machine being at its end. */
static void give_pending_to_workers(struct block *b)
{
	struct block_request *r;

	pthread_mutex_lock(&b->lock);
	while ((r = list_take(&b->pending)) != NULL)
		give_to_worker(b, r);
	pthread_mutex_unlock(&b->lock);
}

/* A moment; what the ring has ended by itself is taken from it. No lock held. */
static void wait_a_moment(struct block *b)
{
	struct timespec until;

	if (b->uring) {
		pthread_mutex_lock(&b->ring_lock);
		take_from_ring(b);
		pthread_mutex_unlock(&b->ring_lock);
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += DRAIN_MOMENT_NS;
	if (until.tv_nsec >= NS_PER_S) {
		until.tv_nsec -= NS_PER_S;
		until.tv_sec++;
	}
	pthread_mutex_lock(&b->lock);
	if (!b->ended.first)
		pthread_cond_clockwait(&b->ended_one, &b->lock, CLOCK_MONOTONIC, &until);
	pthread_mutex_unlock(&b->lock);
}

static void drain_elsewhere(struct block *b)
{
	while (b->in_flight) {
		give_pending_to_workers(b);
		pthread_mutex_unlock(loop_lock(b->loop));
		wait_a_moment(b);
		pthread_mutex_lock(loop_lock(b->loop));
		tell(b);
	}
}

void block_drain(struct block *b)
{
	tell(b);
	if (loop_turns_elsewhere(b->loop)) {
		drain_elsewhere(b);
		return;
	}
	while (b->in_flight) {
		if (!wait_for_ring(b)) {
			pthread_mutex_lock(&b->lock);
			while (!b->ended.first)
				pthread_cond_wait(&b->ended_one, &b->lock);
			pthread_mutex_unlock(&b->lock);
		}
		tell(b);
	}
}

/* ---- life ---- */

static bool open_image(struct block *b, const struct block_config *config, char *error, size_t size)
{
	const struct image_flags flags = {
		.readonly = config->readonly || config->snapshot,
		.direct = config->cache == BLOCK_NONE,
		.internal = config->internal,
	};
	struct image *top;
	bool guessed;

	b->image = image_open(config->path, config->format, flags, &guessed, error, size);
	if (!b->image)
		return false;
	if (config->snapshot && !config->readonly) {
		if (!(top = overlay_new(b->image)))
			goto fail;
		b->image = top;
	} else if (guessed && !config->readonly) {
		if (!(top = image_guard(b->image)))
			goto fail;
		b->image = top;
	}
	return true;
fail:
	snprintf(error, size, "%s: %s: %s", config->path, config->snapshot ? "temporary overlay" : "opening",
		 strerror(errno));
	return false;
}

static void start_ring(struct block *b)
{
	if (!(b->uring = uring_new()))
		return;
	b->ring_writes = b->cache == BLOCK_NONE;
	b->ring_work = (struct loop_work){.run = ring_work, .opaque = b};
	b->ring_fd = (struct loop_fd){.fd = uring_fd(b->uring), .events = POLLIN, .ready = ring_ready, .opaque = b};
	loop_add_fd(b->loop, &b->ring_fd);
}

struct block *block_open(struct loop *loop, const struct block_config *config, char *error, size_t size)
{
	struct block *b = calloc(1, sizeof *b);

	if (!b) {
		snprintf(error, size, "%s: out of memory", config->path);
		return NULL;
	}
	b->loop = loop;
	b->cache = config->cache;
	b->readonly = config->readonly;
	b->tell = (struct loop_call){.run = tell, .opaque = b};
	b->hire = (struct loop_call){.run = hire, .opaque = b};
	list_init(&b->queue);
	list_init(&b->ended);
	list_init(&b->told);
	list_init(&b->pending);
	pthread_mutex_init(&b->lock, NULL);
	pthread_mutex_init(&b->ring_lock, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->ended_one, NULL);
	if (!open_image(b, config, error, size)) {
		block_close(b);
		return NULL;
	}
	/* A last sector that is not whole is filled with zeroes. */
	b->size = (b->image->size + BLOCK_SECTOR - 1) / BLOCK_SECTOR * BLOCK_SECTOR;
	/* One now, so that a host that gives no thread is noticed now. Of those that talk to a server all: what is started
	 * later may not. */
	unsigned wanted = b->image->remote ? WORKERS_MAX : 1;
	bool started = true;
	pthread_mutex_lock(&b->lock);
	while (started && b->workers < wanted)
		started = start_worker(b);
	pthread_mutex_unlock(&b->lock);
	if (!b->workers) {
		snprintf(error, size, "%s: no thread can be started", config->path);
		block_close(b);
		return NULL;
	}
	if (config->aio != BLOCK_AIO_THREADS && b->image->ops->locate)
		start_ring(b);
	return b;
}

void block_close(struct block *b)
{
	if (!b)
		return;
	block_drain(b);
	pthread_mutex_lock(&b->lock);
	b->closing = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
	for (unsigned n = 0; n < b->workers; n++)
		pthread_join(b->worker[n], NULL);
	loop_call_cancel(b->loop, &b->tell);
	loop_call_cancel(b->loop, &b->hire);
	if (b->uring) {
		loop_remove_fd(b->loop, &b->ring_fd);
		loop_work_cancel(b->loop, &b->ring_work);
		uring_free(b->uring);
	}
	if (b->image)
		b->image->ops->close(b->image);
	pthread_cond_destroy(&b->ended_one);
	pthread_cond_destroy(&b->work);
	pthread_mutex_destroy(&b->ring_lock);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

uint64_t block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
bool block_can_discard(const struct block *b) { return !b->readonly && b->image->ops->discard; }
bool block_write_cache(const struct block *b)
{
	return !b->readonly && b->cache != BLOCK_WRITETHROUGH;
}
