/*
 * Writes behind somebody's back, in order. See file_writer.h.
 */
#include "block/file_writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/sandbox.h"
#include "util/write.h"

#define WAITING_MAX 256u /* changes */

struct change {
	struct change *next;
	uint64_t at, len;
	uint8_t data[];
};

struct file_writer {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock; /* what follows */
	pthread_cond_t work, idle;
	struct change *first, *last;
	unsigned waiting;
	bool busy, ending;
	bool unsynced; /* something was written that the barrier has yet to follow */
	int error;
};

/* All of a list, then the barrier. Frees it. */
static int write_list(int fd, struct change *c)
{
	int r = 0;

	for (struct change *next; c; c = next) {
		next = c->next;
		if (r == 0)
			r = write_all_at(fd, c->data, c->len, c->at);
		free(c);
	}
	if (fdatasync(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static void *writer_main(void *opaque)
{
	struct file_writer *w = opaque;

	sandbox_enter(SANDBOX_FILE);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->first && !w->unsynced && !w->ending)
			pthread_cond_wait(&w->work, &w->lock);
		struct change *list = w->first;
		if (!list && !w->unsynced)
			break;
		w->first = w->last = NULL;
		w->unsynced = false;
		w->waiting = 0;
		w->busy = true;
		pthread_mutex_unlock(&w->lock);
		int r = write_list(w->fd, list);
		pthread_mutex_lock(&w->lock);
		w->busy = false;
		if (w->error == 0)
			w->error = r;
		pthread_cond_broadcast(&w->idle);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* [*at, *at + *len), and all that waits: w->lock held. */
static void widen(const struct file_writer *w, uint64_t *at, uint64_t *len)
{
	uint64_t end = *at + *len;

	for (const struct change *c = w->first; c; c = c->next) {
		*at = c->at < *at ? c->at : *at;
		end = c->at + c->len > end ? c->at + c->len : end;
	}
	*len = end - *at;
}

static void drop_waiting(struct file_writer *w)
{
	for (struct change *c = w->first, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	w->first = w->last = NULL;
	w->waiting = 0;
}

/* There is no memory to keep it in: here and now, after what waits. w->lock held, and given up meanwhile. */
static void write_at_once(struct file_writer *w, const uint8_t *contents, uint64_t at, uint64_t len)
{
	while (w->first || w->busy)
		pthread_cond_wait(&w->idle, &w->lock);
	int r = write_all_at(w->fd, contents + at, len, at);
	if (w->error == 0)
		w->error = r;
	w->unsynced = true;
}

void file_writer_put(struct file_writer *w, const uint8_t *contents, uint64_t at, uint64_t len)
{
	pthread_mutex_lock(&w->lock);
	bool full = w->waiting == WAITING_MAX;
	if (full)
		widen(w, &at, &len);
	struct change *c = malloc(sizeof *c + len);
	if (c) {
		if (full) /* what is there now is in the new one */
			drop_waiting(w);
		*c = (struct change){.at = at, .len = len};
		memcpy(c->data, contents + at, len);
		if (w->last)
			w->last->next = c;
		else
			w->first = c;
		w->last = c;
		w->waiting++;
	} else {
		write_at_once(w, contents, at, len);
	}
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

int file_writer_drain(struct file_writer *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->first || w->unsynced || w->busy)
		pthread_cond_wait(&w->idle, &w->lock);
	int r = w->error;
	w->error = 0;
	pthread_mutex_unlock(&w->lock);
	return r;
}

struct file_writer *file_writer_new(int fd)
{
	struct file_writer *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return NULL;
	w->fd = fd;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->idle, NULL);
	if ((r = pthread_create(&w->thread, NULL, writer_main, w)) != 0) {
		free(w);
		errno = r;
		return NULL;
	}
	return w;
}

void file_writer_free(struct file_writer *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL); /* it writes what is left first */
	pthread_cond_destroy(&w->idle);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
