/*
 * Timers on CLOCK_MONOTONIC: a queue that one thread runs and any thread may arm, under the
 * owner's lock (for a VM: vm->lock). The queue owns a timerfd that is readable when the earliest
 * timer is due, so arming never has to wake the thread that polls.
 */
#ifndef RINGSIDE_TIMER_H
#define RINGSIDE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer_queue;

struct timer {
	struct timer_queue *queue;
	void (*fire)(void *opaque); /* called with the owner's lock held; may re-arm */
	void *opaque;
	uint64_t deadline; /* ns, CLOCK_MONOTONIC; valid while armed */
	int heap_index;    /* -1: not armed */
};

uint64_t clock_now(void); /* CLOCK_MONOTONIC in ns */

struct timer_queue *timer_queue_new(void); /* NULL: errno says why */
/* A queue whose time stands still until timer_queue_set_now moves it: for tests. Its fd never becomes
 * readable; who moves the time calls timer_queue_run. */
struct timer_queue *timer_queue_new_manual(uint64_t now);
void timer_queue_set_now(struct timer_queue *q, uint64_t now);
void timer_queue_free(struct timer_queue *q);
int timer_queue_fd(const struct timer_queue *q); /* poll for POLLIN, then call timer_queue_run */
void timer_queue_run(struct timer_queue *q);     /* fires all that is due */
/* The queue's time, which is what devices go by: clock_now(), or that of a manual queue. */
uint64_t timer_queue_now(const struct timer_queue *q);
/* Deadline of the earliest armed timer, UINT64_MAX when none is. */
uint64_t timer_queue_next(const struct timer_queue *q);

void timer_init(struct timer *t, struct timer_queue *q, void (*fire)(void *), void *opaque);
void timer_arm(struct timer *t, uint64_t deadline); /* re-arms; a deadline in the past fires at once */
void timer_cancel(struct timer *t);
static inline bool timer_armed(const struct timer *t)
{
	return t->heap_index >= 0;
}

#endif
