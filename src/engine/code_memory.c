/*
 * Memory for generated code, and those of it that nobody uses. See code_memory.h.
 */
#include "engine/code_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

struct piece {
	struct piece *next;
	struct code_memory memory; /* rw NULL: in use, and known to its user */
};

static struct piece *pieces; /* of the process; none is ever unmapped */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int map(struct code_memory *m, size_t size)
{
	void *rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *rx;
	int err;

	if (rw == MAP_FAILED)
		return -errno;
	rx = mremap(rw, 0, size, MREMAP_MAYMOVE); /* the same pages once more */
	if (rx != MAP_FAILED && mprotect(rx, size, PROT_READ | PROT_EXEC) == 0) {
		*m = (struct code_memory){ rw, rx, size };
		return 0;
	}
	err = errno;
	if (rx != MAP_FAILED)
		munmap(rx, size);
	munmap(rw, size);
	return -err;
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
		r = make(size, &p);
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
	pthread_mutex_unlock(&lock);
	return r;
}
