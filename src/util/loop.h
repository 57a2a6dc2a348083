/*
 * The loop of the I/O thread: descriptors, calls put off to it, and libraries that bring descriptors of
 * their own. It polls without the owner's lock and does everything else with it (for a VM: vm->lock).
 *
 * One thread turns the loop. Everything here is called under the lock unless it says otherwise.
 */
#ifndef RINGSIDE_LOOP_H
#define RINGSIDE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct pollfd;

/* A descriptor that is watched. `fd` (-1: not now) and `events` may be changed at any time, by another
 * thread than the loop's with loop_wake after it. The memory is the caller's, until loop_remove_fd. */
struct loop_fd {
	int fd;
	short events; /* POLLIN, POLLOUT; errors and hang-ups are always told */
	bool listens; /* for loop_accept */
	void (*ready)(void *opaque, short revents);
	void *opaque;
	/* the loop's own */
	struct loop_fd *next;
	int polled;
};

/* A call that the loop's thread makes soon, once however often it was asked for. */
struct loop_call {
	void (*run)(void *opaque);
	void *opaque;
	/* the loop's own */
	struct loop_call *next;
	int pending;
};

/* Work that the loop's thread does soon without the lock, before it polls again: what takes long enough that nobody
 * should wait for the lock meanwhile, and is not worth another thread. Once however often it was asked for. */
struct loop_work {
	void (*run)(void *opaque);
	void *opaque;
	/* the loop's own */
	struct loop_work *next;
	bool pending;
};

/* Descriptors for one poll, of a library that has its own list. */
struct loop_set;
int loop_set_add(struct loop_set *set, int fd, short events); /* index for loop_set_revents; -1: no memory */
int loop_set_add_listener(struct loop_set *set, int fd);      /* the same, for loop_accept */
short loop_set_revents(const struct loop_set *set, int index);
/* Poll returns at `deadline` (ns, CLOCK_MONOTONIC) at the latest. */
void loop_set_deadline(struct loop_set *set, uint64_t deadline);

struct loop_source {
	void (*prepare)(void *opaque, struct loop_set *set);     /* before poll */
	void (*serve)(void *opaque, const struct loop_set *set); /* after it, each time */
	void *opaque;
	/* the loop's own */
	struct loop_source *next;
};

struct loop *loop_new(pthread_mutex_t *lock); /* NULL: errno says why */
void loop_free(struct loop *l);               /* nothing may be registered any more */

void loop_add_fd(struct loop *l, struct loop_fd *fd);
void loop_remove_fd(struct loop *l, struct loop_fd *fd);
void loop_add_source(struct loop *l, struct loop_source *s);
void loop_remove_source(struct loop *l, struct loop_source *s);

/* Any thread, with or without the lock. */
void loop_call_soon(struct loop *l, struct loop_call *c);
void loop_call_cancel(struct loop *l, struct loop_call *c);
/* Any thread, with or without the lock. */
void loop_work_soon(struct loop *l, struct loop_work *w);
/* On the loop's thread, or while nobody turns the loop. */
void loop_work_cancel(struct loop *l, struct loop_work *w);
/* Makes the loop look at what it watches again. Any thread, with or without the lock. */
void loop_wake(struct loop *l);

/* The client that waits at a listening socket: a descriptor, close-on-exec and non-blocking; -1: none. If there is none
 * because the process or the host has no descriptor free, none that listens is watched for a while: poll would come back
 * at once. */
int loop_accept(struct loop *l, int listener);

/* Another thread than this one turns the loop. */
bool loop_turns_elsewhere(const struct loop *l);
pthread_mutex_t *loop_lock(const struct loop *l); /* the owner's lock */

/* One turn: waits for something to do, then does it. Lock held, released while it waits. */
void loop_turn(struct loop *l);

#endif
