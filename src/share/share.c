/*
 * Sharing of a directory: requests, worker threads, and the way of replies to the I/O thread. See share.h.
 *
 * Locks: `lock` guards the lists; it is taken inside vm->lock and never the other way round. A worker holds neither
 * while it serves a message.
 */
#include "share/share.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "share/p9.h"
#include "sandbox/sandbox.h"
#include "util/loop.h"

#define WORKERS 4

struct share {
	struct p9 *server;
	struct loop *loop;
	struct loop_call ended; /* calls `done` of what has ended */
	pthread_mutex_t lock;
	pthread_cond_t work, progress; /* there is something to do; something has ended */
	struct share_request *waiting, **waiting_end;
	struct share_request *active; /* on a worker */
	struct share_request *done;
	uint64_t submitted;
	unsigned busy; /* submitted, and not in `done` yet */
	bool closing;
	unsigned workers;
	pthread_t worker[WORKERS];
};

/* ---- workers ---- */

/* Copies a message out of the guest's memory, once: it may change there. */
static size_t collect(const struct share_request *r, uint8_t *message)
{
	size_t size = 0;

	for (unsigned i = 0; i < r->out_count && size < P9_MESSAGE_MAX; i++) {
		size_t n = r->out[i].iov_len;

		if (n > P9_MESSAGE_MAX - size)
			n = P9_MESSAGE_MAX - size;
		memcpy(message + size, r->out[i].iov_base, n);
		size += n;
	}
	return size;
}

static void distribute(const struct share_request *r, const uint8_t *reply, size_t size)
{
	for (unsigned i = 0; i < r->in_count && size; i++) {
		size_t n = r->in[i].iov_len < size ? r->in[i].iov_len : size;

		memcpy(r->in[i].iov_base, reply, n);
		reply += n;
		size -= n;
	}
}

static size_t room(const struct share_request *r)
{
	size_t size = 0;

	for (unsigned i = 0; i < r->in_count && size < P9_MESSAGE_MAX; i++)
		size += r->in[i].iov_len;
	return size < P9_MESSAGE_MAX ? size : P9_MESSAGE_MAX;
}

/* Is a message with that tag being served that came before number `before`? */
static bool is_active(const struct share *s, uint16_t tag, uint64_t before)
{
	for (const struct share_request *r = s->active; r; r = r->next)
		if (r->tag == tag && r->number < before)
			return true;
	return false;
}

/* A flush is answered after what it flushes. That has been taken by a worker before the flush was, so this ends. */
static void wait_for_flushed(struct share *s, const struct share_request *r, const uint8_t *message, size_t size)
{
	uint16_t tag;

	if (size < P9_HEADER + 2 || message[4] != P9_TFLUSH)
		return;
	memcpy(&tag, message + P9_HEADER, sizeof tag);
	pthread_mutex_lock(&s->lock);
	while (is_active(s, tag, r->number))
		pthread_cond_wait(&s->progress, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void serve(struct share *s, struct share_request *r, uint8_t *message, uint8_t *reply)
{
	size_t size = collect(r, message);

	wait_for_flushed(s, r, message, size);
	size = p9_handle(s->server, message, size, reply, room(r));
	distribute(r, reply, size);
	r->reply = (uint32_t)size;
}

/* The tag is known before another worker can take a flush of it. */
static uint16_t tag_of(const struct share_request *r)
{
	uint8_t head[P9_HEADER] = {0};
	size_t size = 0;
	uint16_t tag;

	for (unsigned i = 0; i < r->out_count && size < sizeof head; i++) {
		size_t n = r->out[i].iov_len < sizeof head - size ? r->out[i].iov_len : sizeof head - size;

		memcpy(head + size, r->out[i].iov_base, n);
		size += n;
	}
	memcpy(&tag, head + 5, sizeof tag);
	return tag;
}

static struct share_request *take(struct share *s)
{
	struct share_request *r;

	while (!s->waiting && !s->closing)
		pthread_cond_wait(&s->work, &s->lock);
	if (!(r = s->waiting))
		return NULL;
	s->waiting = r->next;
	if (!s->waiting)
		s->waiting_end = &s->waiting;
	r->next = s->active;
	s->active = r;
	return r;
}

static void finish(struct share *s, struct share_request *r)
{
	struct share_request **p = &s->active;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	r->next = s->done;
	s->done = r;
	s->busy--;
	pthread_cond_broadcast(&s->progress);
	loop_call_soon(s->loop, &s->ended);
}

static void *worker_main(void *opaque)
{
	struct share *s = opaque;
	struct share_request *r;
	uint8_t *buffers = malloc(2 * P9_MESSAGE_MAX);

	sandbox_enter(SANDBOX_SHARE);
	pthread_mutex_lock(&s->lock);
	while ((r = take(s)) != NULL) {
		pthread_mutex_unlock(&s->lock);
		r->reply = 0;
		if (buffers)
			serve(s, r, buffers, buffers + P9_MESSAGE_MAX);
		pthread_mutex_lock(&s->lock);
		finish(s, r);
	}
	pthread_mutex_unlock(&s->lock);
	free(buffers);
	return NULL;
}

/* Signals are for the I/O thread. */
static bool start_worker(struct share *s)
{
	sigset_t all, old;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* the sandbox's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	bool ok = pthread_create(&s->worker[s->workers], NULL, worker_main, s) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->workers += ok;
	return ok;
}

/* ---- the device's side ---- */

static void call_done(void *opaque)
{
	struct share *s = opaque;

	pthread_mutex_lock(&s->lock);
	struct share_request *r = s->done, *next;
	s->done = NULL;
	pthread_mutex_unlock(&s->lock);
	for (; r; r = next) {
		next = r->next;
		r->done(r, r->reply);
	}
}

void share_submit(struct share *s, struct share_request *r)
{
	r->next = NULL;
	r->number = s->submitted++;
	r->tag = tag_of(r);
	pthread_mutex_lock(&s->lock);
	*s->waiting_end = r;
	s->waiting_end = &r->next;
	s->busy++;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->lock);
}

void share_reset(struct share *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->busy)
		pthread_cond_wait(&s->progress, &s->lock);
	pthread_mutex_unlock(&s->lock);
	loop_call_cancel(s->loop, &s->ended);
	call_done(s);
	p9_reset(s->server);
}

struct share *share_open(struct loop *loop, const char *directory, bool readonly, char *error, size_t size)
{
	struct share *s = calloc(1, sizeof *s);

	if (!s) {
		snprintf(error, size, "%s", strerror(ENOMEM));
		return NULL;
	}
	s->loop = loop;
	s->ended = (struct loop_call){.run = call_done, .opaque = s};
	s->waiting_end = &s->waiting;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->progress, NULL);
	if (!(s->server = p9_new(directory, readonly))) {
		snprintf(error, size, "%s: %s", directory, errno == ENOSYS ? "sharing needs openat2, of Linux 5.6" : strerror(errno));
		share_close(s);
		return NULL;
	}
	while (s->workers < WORKERS)
		if (!start_worker(s)) {
			snprintf(error, size, "%s: no thread for it", directory);
			share_close(s);
			return NULL;
		}
	return s;
}

void share_close(struct share *s)
{
	if (!s)
		return;
	if (s->server)
		share_reset(s);
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->workers; i++)
		pthread_join(s->worker[i], NULL);
	p9_free(s->server);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->progress);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
