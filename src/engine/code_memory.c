/*
 * Memory for generated code, and those of it that nobody uses. See code_memory.h.
 */
#include "engine/code_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct piece {
	struct piece *next;
	struct code_memory memory; /* rw NULL: in use, and known to its user */
};

static struct piece *pieces; /* of the process; none is ever unmapped */
static int refusal; /* -errno: why nothing could be reserved; nobody tries again */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define SHARED (MAP_SHARED | MAP_NORESERVE)

/* The pages at `rw` once more, to be run. fd -1: they are no file's. */
static void *map_again(void *rw, size_t size, int fd)
{
	void *rx;

	if (fd >= 0)
		return mmap(NULL, size, PROT_READ | PROT_EXEC, SHARED, fd, 0);
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

	if (perf || (fd >= 0 && ftruncate(fd, (off_t)size) == 0))
		rw = mmap(NULL, size, PROT_READ | PROT_WRITE, SHARED | (perf ? MAP_ANONYMOUS : 0), fd, 0);
	if (rw != MAP_FAILED)
		rx = map_again(rw, size, fd);
	err = errno;
	if (rx == MAP_FAILED && rw != MAP_FAILED)
		munmap(rw, size);
	if (fd >= 0)
		close(fd);
	if (rx == MAP_FAILED)
		return -err;
	*m = (struct code_memory){ rw, rx, size };
	return 0;
}

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
	return r;
}

void code_memory_give_back(struct code_memory *m)
{
	struct piece *p;

	if (!m->rw)
		return;
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
