/*
 * The I/O thread's loop over poll(2). See loop.h for threads and locks.
 *
 * A callback may add and remove anything, itself too: what is removed while a turn goes through what was
 * polled is taken out of that turn's list.
 */
#include "util/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "util/timer.h"

#define NEVER UINT64_MAX
#define NS_PER_S 1000000000ull
#define ACCEPT_AGAIN_NS 100000000u

struct loop_set {
	struct pollfd *fd;
	unsigned count, capacity;
	uint64_t deadline;
	bool full; /* no client can be accepted */
};

struct loop {
	pthread_mutex_t *lock;
	int wake_fd; /* an eventfd, always polled */
	struct loop_fd *fds;
	struct loop_source *sources;
	struct loop_set set;
	uint64_t full_until; /* ns */
	struct loop_fd **polled; /* of a turn: who set.fd[1 + i] is of; NULL: removed since */
	unsigned polled_count, polled_capacity;
	pthread_mutex_t calls_lock; /* innermost: guards what follows */
	struct loop_call *calls, **calls_end;
	struct loop_work *work, *working; /* wanted; of those, what this turn still does */
	pthread_t thread; /* that turns the loop */
	bool turned;
};

struct loop *loop_new(pthread_mutex_t *lock)
{
	struct loop *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->lock = lock;
	l->calls_end = &l->calls;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0) {
		free(l);
		return NULL;
	}
	pthread_mutex_init(&l->calls_lock, NULL);
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close(l->wake_fd);
	pthread_mutex_destroy(&l->calls_lock);
	free(l->set.fd);
	free(l->polled);
	free(l);
}

void loop_add_fd(struct loop *l, struct loop_fd *fd)
{
	fd->next = l->fds;
	fd->polled = -1;
	l->fds = fd;
	loop_wake(l);
}

void loop_remove_fd(struct loop *l, struct loop_fd *fd)
{
	for (struct loop_fd **p = &l->fds; *p; p = &(*p)->next)
		if (*p == fd) {
			*p = fd->next;
			break;
		}
	for (unsigned i = 0; i < l->polled_count; i++)
		if (l->polled[i] == fd)
			l->polled[i] = NULL;
}

void loop_add_source(struct loop *l, struct loop_source *s)
{
	s->next = l->sources;
	l->sources = s;
	loop_wake(l);
}

void loop_remove_source(struct loop *l, struct loop_source *s)
{
	for (struct loop_source **p = &l->sources; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			return;
		}
}

void loop_wake(struct loop *l)
{
	/* Full is as good as written. */
	ssize_t n = write(l->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
	(void)n;
}

bool loop_turns_elsewhere(const struct loop *l)
{
	return __atomic_load_n(&l->turned, __ATOMIC_ACQUIRE) && !pthread_equal(l->thread, pthread_self());
}

pthread_mutex_t *loop_lock(const struct loop *l) { return l->lock; }

/* The loop's own thread looks for work and calls before it polls. */
static void wake_others(struct loop *l)
{
	if (!l->turned || loop_turns_elsewhere(l))
		loop_wake(l);
}

void loop_call_soon(struct loop *l, struct loop_call *c)
{
	bool first = false;

	pthread_mutex_lock(&l->calls_lock);
	if (!c->pending) {
		first = !l->calls;
		c->pending = true;
		c->next = NULL;
		*l->calls_end = c;
		l->calls_end = &c->next;
	}
	pthread_mutex_unlock(&l->calls_lock);
	if (first)
		wake_others(l);
}

void loop_call_cancel(struct loop *l, struct loop_call *c)
{
	pthread_mutex_lock(&l->calls_lock);
	for (struct loop_call **p = &l->calls; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			if (!c->next)
				l->calls_end = p;
			break;
		}
	c->pending = false;
	pthread_mutex_unlock(&l->calls_lock);
}

void loop_work_soon(struct loop *l, struct loop_work *w)
{
	bool first = false;

	pthread_mutex_lock(&l->calls_lock);
	if (!w->pending) {
		first = !l->work;
		w->pending = true;
		w->next = l->work;
		l->work = w;
	}
	pthread_mutex_unlock(&l->calls_lock);
	if (first)
		wake_others(l);
}

void loop_work_cancel(struct loop *l, struct loop_work *w)
{
	struct loop_work **lists[] = {&l->work, &l->working};

	pthread_mutex_lock(&l->calls_lock);
	for (unsigned i = 0; i < 2; i++)
		for (struct loop_work **p = lists[i]; *p; p = &(*p)->next)
			if (*p == w) {
				*p = w->next;
				break;
			}
	w->pending = false;
	pthread_mutex_unlock(&l->calls_lock);
}

/* Lock not held. Work that is asked for meanwhile waits for the next turn. True: there is nothing to wait for. */
static bool do_work(struct loop *l)
{
	struct loop_work *w;

	pthread_mutex_lock(&l->calls_lock);
	bool busy = l->work != NULL;
	l->working = l->work;
	l->work = NULL;
	while ((w = l->working) != NULL) {
		l->working = w->next;
		w->pending = false;
		pthread_mutex_unlock(&l->calls_lock);
		w->run(w->opaque);
		pthread_mutex_lock(&l->calls_lock);
	}
	busy |= l->calls != NULL;
	pthread_mutex_unlock(&l->calls_lock);
	return busy;
}

/* Makes the calls that are pending now; those that they ask for wait for the next turn. */
static void make_calls(struct loop *l)
{
	struct loop_call last = {0}, *c;

	pthread_mutex_lock(&l->calls_lock);
	if (l->calls) {
		*l->calls_end = &last;
		l->calls_end = &last.next;
	}
	while ((c = l->calls) != NULL && c != &last) {
		l->calls = c->next;
		c->pending = false;
		pthread_mutex_unlock(&l->calls_lock);
		c->run(c->opaque);
		pthread_mutex_lock(&l->calls_lock);
	}
	if (c == &last) {
		l->calls = last.next;
		if (!l->calls)
			l->calls_end = &l->calls;
	}
	pthread_mutex_unlock(&l->calls_lock);
}

int loop_set_add(struct loop_set *set, int fd, short events)
{
	if (set->count == set->capacity) {
		unsigned capacity = set->capacity ? 2 * set->capacity : 16;
		struct pollfd *grown = realloc(set->fd, capacity * sizeof *grown);

		if (!grown)
			return -1;
		set->fd = grown;
		set->capacity = capacity;
	}
	set->fd[set->count] = (struct pollfd){.fd = fd, .events = events};
	return (int)set->count++;
}

int loop_set_add_listener(struct loop_set *set, int fd) { return set->full ? -1 : loop_set_add(set, fd, POLLIN); }

short loop_set_revents(const struct loop_set *set, int index)
{
	return index >= 0 && (unsigned)index < set->count ? set->fd[index].revents : 0;
}

void loop_set_deadline(struct loop_set *set, uint64_t deadline)
{
	if (deadline < set->deadline)
		set->deadline = deadline;
}

int loop_accept(struct loop *l, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
		l->full_until = clock_now() + ACCEPT_AGAIN_NS;
	return fd;
}

static bool remember(struct loop *l, struct loop_fd *fd)
{
	if (l->polled_count == l->polled_capacity) {
		unsigned capacity = l->polled_capacity ? 2 * l->polled_capacity : 16;
		struct loop_fd **grown = realloc(l->polled, capacity * sizeof *grown);

		if (!grown)
			return false;
		l->polled = grown;
		l->polled_capacity = capacity;
	}
	l->polled[l->polled_count++] = fd;
	return true;
}

static void prepare(struct loop *l)
{
	l->set.count = 0;
	l->set.deadline = NEVER;
	l->set.full = l->full_until && clock_now() < l->full_until;
	if (l->set.full)
		l->set.deadline = l->full_until;
	l->polled_count = 0;
	loop_set_add(&l->set, l->wake_fd, POLLIN);
	for (struct loop_fd *fd = l->fds; fd; fd = fd->next) {
		fd->polled = -1;
		if (fd->fd >= 0 && !(fd->listens && l->set.full) && remember(l, fd))
			fd->polled = loop_set_add(&l->set, fd->fd, fd->events);
	}
	for (struct loop_source *s = l->sources; s; s = s->next)
		s->prepare(s->opaque, &l->set);
}

static void wait(struct loop *l)
{
	struct timespec ts, *timeout = NULL;
	uint64_t now, ns;

	if (l->set.deadline != NEVER) {
		now = clock_now();
		ns = l->set.deadline > now ? l->set.deadline - now : 0;
		ts = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
		timeout = &ts;
	}
	pthread_mutex_unlock(l->lock);
	if (do_work(l)) {
		ts = (struct timespec){0};
		timeout = &ts;
	}
	if (ppoll(l->set.fd, l->set.count, timeout, NULL) < 0)
		for (unsigned i = 0; i < l->set.count; i++)
			l->set.fd[i].revents = 0;
	pthread_mutex_lock(l->lock);
}

void loop_turn(struct loop *l)
{
	uint64_t count;

	if (!l->turned) {
		l->thread = pthread_self();
		__atomic_store_n(&l->turned, true, __ATOMIC_RELEASE);
	}
	prepare(l);
	wait(l);
	if (loop_set_revents(&l->set, 0) && read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
		abort(); /* an eventfd of ours cannot fail otherwise */
	for (unsigned i = 0; i < l->polled_count; i++) {
		struct loop_fd *fd = l->polled[i];
		short revents = fd ? loop_set_revents(&l->set, fd->polled) : 0;

		if (revents)
			fd->ready(fd->opaque, revents);
	}
	for (struct loop_source *s = l->sources, *next; s; s = next) {
		next = s->next;
		s->serve(s->opaque, &l->set);
	}
	make_calls(l);
}
