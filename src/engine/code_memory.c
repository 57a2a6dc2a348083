/*
 * Memory for generated code, and those of it that nobody uses. See code_memory.h.
 */
#include "engine/code_memory.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

struct piece {
	struct piece *next;
	struct code_memory memory; /* rw NULL: in use, and known to its user */
};

static struct piece *pieces; /* of the process; none is ever unmapped */
static int refusal; /* -errno: why nothing could be reserved; nobody tries again */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define SHARED (MAP_SHARED | MAP_NORESERVE)

/* Address space of `size` bytes, at a multiple of a large page's if it has room for one; nothing is in it. */
static uint8_t *reserve_addresses(size_t size)
{
	size_t align = size < CODE_MEMORY_LARGE ? 0 : CODE_MEMORY_LARGE;
	uint8_t *room, *at;

	if (size > SIZE_MAX - align) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	room = mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED || !align)
		return room;
	at = room + (-(uintptr_t)room & (align - 1));
	if (at > room)
		munmap(room, (size_t)(at - room));
	munmap(at + size, align - (size_t)(at - room));
	return at;
}

static void *map_file(int fd, size_t size, int protection)
{
	uint8_t *at = reserve_addresses(size);
	void *p;

	if (at == MAP_FAILED)
		return MAP_FAILED;
	p = mmap(at, size, protection, SHARED | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) {
		int err = errno;

		munmap(at, size);
		errno = err;
	}
	return p;
}

/* The pages at `rw` once more, to be run. fd -1: they are no file's. */
static void *map_again(void *rw, size_t size, int fd)
{
	void *rx;

	if (fd >= 0)
		return map_file(fd, size, PROT_READ | PROT_EXEC);
	rx = mremap(rw, 0, size, MREMAP_MAYMOVE);
	if (rx != MAP_FAILED && mprotect(rx, size, PROT_READ | PROT_EXEC) < 0) {
		munmap(rx, size);
		return MAP_FAILED;
	}
	return rx;
}

/*
 * A file in memory, mapped twice: nothing that was writable becomes executable, which some hosts forbid, and where memory
 * is not overcommitted only pages in use count. perf(1) gives names to anonymous memory only: for it there is no file.
 */
static int map(struct code_memory *m, size_t size)
{
	bool perf = getenv("RINGSIDE_PERF_MAP") != NULL;
	int fd = perf ? -1 : memfd_create("ringside-code", MFD_CLOEXEC), err;
	void *rw = MAP_FAILED, *rx = MAP_FAILED;

	if (perf)
		rw = mmap(NULL, size, PROT_READ | PROT_WRITE, SHARED | MAP_ANONYMOUS, -1, 0);
	else if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		rw = map_file(fd, size, PROT_READ | PROT_WRITE);
	if (rw != MAP_FAILED)
		rx = map_again(rw, size, fd);
	err = errno;
	if (rx == MAP_FAILED && rw != MAP_FAILED)
		munmap(rw, size);
	if (fd >= 0)
		close(fd);
	if (rx == MAP_FAILED)
		return -err;
	*m = (struct code_memory){ rw, rx, size, NULL };
	return 0;
}

/* ---- large pages ---- */

enum large_state { SMALL, ASKED, LARGE };

struct large {
	uint8_t *memory; /* where it is run */
	pthread_t thread;
	sem_t work;      /* a page is ASKED, or: */
	bool ending;
	size_t count;
	uint8_t state[]; /* enum large_state of each page. Atomic */
};

static void make_large(struct large *l)
{
	for (size_t i = 0; i < l->count && !__atomic_load_n(&l->ending, __ATOMIC_RELAXED); i++) {
		uint8_t *page = l->memory + i * CODE_MEMORY_LARGE;

		if (__atomic_load_n(&l->state[i], __ATOMIC_ACQUIRE) != ASKED)
			continue;
		/* If the host has no such page free, or a part is busy, small ones do as well; it is asked when that is filled anew. */
		bool made = madvise(page, CODE_MEMORY_LARGE, MADV_COLLAPSE) == 0;
		__atomic_store_n(&l->state[i], made ? LARGE : SMALL, __ATOMIC_RELEASE);
	}
}

static void *large_main(void *opaque)
{
	struct large *l = opaque;

	sandbox_enter(SANDBOX_TRANSLATOR);
	while (!__atomic_load_n(&l->ending, __ATOMIC_RELAXED)) {
		sem_wait(&l->work);
		make_large(l);
	}
	return NULL;
}

/* NULL: there will be none. */
static struct large *large_start(const struct code_memory *m)
{
	size_t count = m->size / CODE_MEMORY_LARGE;
	sigset_t all, old;
	struct large *l;
	int r;

	/* Of nothing: does the host know it? And memory for perf lies anywhere. */
	if (count == 0 || (uintptr_t)m->rx % CODE_MEMORY_LARGE || madvise(m->rx, 0, MADV_COLLAPSE) < 0)
		return NULL;
	l = calloc(1, sizeof(*l) + count);
	if (!l)
		return NULL;
	l->memory = m->rx;
	l->count = count;
	sem_init(&l->work, 0, 0);
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* the sandbox's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&l->thread, NULL, large_main, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		return l;
	sem_destroy(&l->work);
	free(l);
	return NULL;
}

static void large_end(struct large *l)
{
	if (!l)
		return;
	__atomic_store_n(&l->ending, true, __ATOMIC_RELAXED);
	sem_post(&l->work);
	pthread_join(l->thread, NULL);
	sem_destroy(&l->work);
	free(l);
}

void code_memory_full(struct code_memory *m, size_t offset)
{
	uint8_t *state = m->large ? &m->large->state[offset / CODE_MEMORY_LARGE] : NULL;

	if (!state || __atomic_load_n(state, __ATOMIC_RELAXED) != SMALL)
		return;
	__atomic_store_n(state, ASKED, __ATOMIC_RELEASE);
	sem_post(&m->large->work);
}

unsigned code_memory_large(const struct code_memory *m)
{
	unsigned n = 0;

	for (size_t i = 0; m->large && i < m->large->count; i++)
		n += __atomic_load_n(&m->large->state[i], __ATOMIC_RELAXED) == LARGE;
	return n;
}

/* ---- taken and given back ---- */

int code_memory_probe(char *why, size_t size)
{
	struct code_memory m;
	int r = map(&m, (size_t)sysconf(_SC_PAGESIZE));

	if (r < 0) {
		snprintf(why, size, "no executable memory for generated code: %s", strerror(-r));
		return r;
	}
	munmap(m.rw, m.size);
	munmap(m.rx, m.size);
	return 0;
}

/* lock held. */
static int make(size_t size, struct piece **made)
{
	struct piece *p = calloc(1, sizeof(*p));
	int r = p ? map(&p->memory, size) : -ENOMEM;

	if (r < 0) {
		free(p);
		return r;
	}
	p->next = pieces;
	pieces = p;
	*made = p;
	return 0;
}

int code_memory_take(struct code_memory *m, size_t size)
{
	struct piece *p;
	int r = 0;

	pthread_mutex_lock(&lock);
	for (p = pieces; p && !(p->memory.rw && p->memory.size == size); p = p->next)
		;
	if (!p)
		r = refusal ? refusal : make(size, &p);
	if (r == 0) {
		*m = p->memory;
		p->memory.rw = NULL;
	}
	pthread_mutex_unlock(&lock);
	if (r == 0)
		m->large = large_start(m);
	return r;
}

void code_memory_give_back(struct code_memory *m)
{
	struct piece *p;

	if (!m->rw)
		return;
	large_end(m->large);
	madvise(m->rw, m->size, MADV_REMOVE); /* frees the pages; if not, they are written over */
	pthread_mutex_lock(&lock);
	for (p = pieces; p->memory.rx != m->rx; p = p->next)
		;
	p->memory.rw = m->rw;
	pthread_mutex_unlock(&lock);
	*m = (struct code_memory){ 0 };
}

int code_memory_reserve(size_t size, unsigned count)
{
	struct piece *p;
	int r = 0;

	pthread_mutex_lock(&lock);
	for (p = pieces; p && count; p = p->next)
		count -= p->memory.size == size;
	while (r == 0 && count--)
		r = make(size, &p);
	refusal = r;
	pthread_mutex_unlock(&lock);
	return r;
}
