/*
 * Timer queue: a binary min-heap of armed timers over a timerfd. See timer.h for threads and locks.
 *
 * The timerfd is set only when a timer becomes due before what it is set to; when the earliest timer
 * goes away or moves back, the fd stays as it is, fires once for nothing, and is then set right by
 * timer_queue_run. So a timer that is re-armed again and again costs no system calls.
 */
#include "util/timer.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define NEVER UINT64_MAX

struct timer_queue {
	int fd;
	bool manual;         /* time is `now`, not the host's */
	uint64_t now;
	uint64_t programmed; /* what the timerfd is set to; NEVER = not set */
	bool running;        /* in timer_queue_run: it sets the fd at its end */
	struct timer **heap;
	size_t count, capacity; /* capacity >= number of timers ever armed at once */
};

uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct timer_queue *timer_queue_new(void)
{
	struct timer_queue *q = calloc(1, sizeof *q);

	if (!q)
		return NULL;
	q->programmed = NEVER;
	q->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (q->fd < 0) {
		free(q);
		return NULL;
	}
	return q;
}

struct timer_queue *timer_queue_new_manual(uint64_t now)
{
	struct timer_queue *q = timer_queue_new();

	if (q) {
		q->manual = true;
		q->now = now;
	}
	return q;
}

void timer_queue_set_now(struct timer_queue *q, uint64_t now)
{
	q->now = now;
}

void timer_queue_free(struct timer_queue *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < q->count; i++)
		q->heap[i]->heap_index = -1;
	close(q->fd);
	free(q->heap);
	free(q);
}

int timer_queue_fd(const struct timer_queue *q)
{
	return q->fd;
}

uint64_t timer_queue_now(const struct timer_queue *q)
{
	return q->manual ? q->now : clock_now();
}

uint64_t timer_queue_next(const struct timer_queue *q)
{
	return q->count ? q->heap[0]->deadline : NEVER;
}

static void program(struct timer_queue *q)
{
	uint64_t deadline = timer_queue_next(q);

	if (q->manual || q->running || deadline >= q->programmed)
		return;
	/* An all-zero time would disarm the fd; time_t is signed. */
	uint64_t at = deadline ? deadline : 1;
	if (at > INT64_MAX)
		at = INT64_MAX;
	struct itimerspec spec = {
		.it_value = {.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)},
	};
	if (timerfd_settime(q->fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		q->programmed = deadline;
}

/* ---- the heap ---- */

static void place(struct timer_queue *q, size_t i, struct timer *t)
{
	q->heap[i] = t;
	t->heap_index = (int)i;
}

static void sift_up(struct timer_queue *q, size_t i, struct timer *t)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;

		if (q->heap[parent]->deadline <= t->deadline)
			break;
		place(q, i, q->heap[parent]);
		i = parent;
	}
	place(q, i, t);
}

static void sift_down(struct timer_queue *q, size_t i, struct timer *t)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= q->count)
			break;
		if (child + 1 < q->count && q->heap[child + 1]->deadline < q->heap[child]->deadline)
			child++;
		if (q->heap[child]->deadline >= t->deadline)
			break;
		place(q, i, q->heap[child]);
		i = child;
	}
	place(q, i, t);
}

/* Puts `t`, whose deadline is new, where it belongs; slot `i` is free for it. */
static void settle(struct timer_queue *q, size_t i, struct timer *t)
{
	if (i > 0 && q->heap[(i - 1) / 2]->deadline > t->deadline)
		sift_up(q, i, t);
	else
		sift_down(q, i, t);
}

static void heap_remove(struct timer *t)
{
	struct timer_queue *q = t->queue;
	size_t i = (size_t)t->heap_index;
	struct timer *last = q->heap[--q->count];

	t->heap_index = -1;
	if (last != t)
		settle(q, i, last);
}

/* Room for one more. */
static bool reserve(struct timer_queue *q)
{
	if (q->count < q->capacity)
		return true;
	size_t capacity = q->capacity ? q->capacity * 2 : 32;
	struct timer **heap = realloc(q->heap, capacity * sizeof *heap);

	if (!heap)
		return false;
	q->heap = heap;
	q->capacity = capacity;
	return true;
}

/* ---- timers ---- */

void timer_init(struct timer *t, struct timer_queue *q, void (*fire)(void *), void *opaque)
{
	*t = (struct timer){.queue = q, .fire = fire, .opaque = opaque, .heap_index = -1};
}

void timer_arm(struct timer *t, uint64_t deadline)
{
	struct timer_queue *q = t->queue;

	if (timer_armed(t)) {
		t->deadline = deadline;
		settle(q, (size_t)t->heap_index, t);
	} else {
		/* The heap holds as many timers as there are devices: it grows while a machine
		 * starts and never at a guest's wish. */
		if (!reserve(q))
			abort();
		t->deadline = deadline;
		q->count++;
		sift_up(q, q->count - 1, t);
	}
	program(q);
}

void timer_cancel(struct timer *t)
{
	if (timer_armed(t))
		heap_remove(t);
}

void timer_queue_run(struct timer_queue *q)
{
	uint64_t expirations, now = timer_queue_now(q);
	/* Timers that re-arm themselves in the past must not keep the caller here, with the lock. */
	size_t budget = q->count;

	if (!q->manual && read(q->fd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations)
		q->programmed = NEVER;
	q->running = true;
	while (budget-- > 0 && q->count && q->heap[0]->deadline <= now) {
		struct timer *t = q->heap[0];

		heap_remove(t);
		t->fire(t->opaque);
	}
	q->running = false;
	program(q);
}
