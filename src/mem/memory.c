/*
 * Guest physical memory: one memfd, one contiguous host mapping, one byte of state a page.
 *
 * Owns struct memory. memory_init and memory_free belong to the thread that builds the VM; the
 * copying accessors may be called from any thread, they do not lock (RAM is shared like real RAM),
 * and page state is changed by atomic operations only. maps.c has what is mapped where.
 */
#include "mem/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* RAM that the host has in all: a guest with more than this could only ever die of it. */
static uint64_t memory_host_size(void)
{
	struct sysinfo info;

	if (sysinfo(&info) < 0)
		return UINT64_MAX;
	return (uint64_t)info.totalram * info.mem_unit;
}

int memory_init(struct memory *m, uint64_t size) { return memory_init_low(m, size, MEMORY_LOW_MAX); }

int memory_init_low(struct memory *m, uint64_t size, uint64_t low)
{
	int err;

	memset(m, 0, sizeof *m);
	m->fd = -1;
	pthread_rwlock_init(&m->engine_lock, NULL);
	if (size == 0 || size % PAGE_SIZE || size > INT64_MAX - MEMORY_BLOCKS_MAX)
		return -EINVAL;
	if (size > memory_host_size())
		return -ENOMEM;

	m->size = size;
	m->low = size < low ? size : low;
	m->end = size;
	m->fd = memfd_create("ringside-ram", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)memory_span(m)) < 0)
		goto fail;
	m->base = mmap(NULL, memory_span(m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (m->base == MAP_FAILED) {
		m->base = NULL;
		goto fail;
	}
	/* Advice only: a host without huge pages for shared memory says no, and nothing is lost. */
	madvise(m->base, size, MADV_HUGEPAGE);

	/* Pages of state that are never touched cost nothing. */
	m->state = mmap(NULL, memory_span(m) >> PAGE_SHIFT, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->state == MAP_FAILED) {
		m->state = NULL;
		goto fail;
	}
	return 0;

fail:
	err = errno;
	memory_free(m);
	return -err;
}

void memory_free(struct memory *m)
{
	if (m->state)
		munmap(m->state, memory_span(m) >> PAGE_SHIFT);
	if (m->base)
		munmap(m->base, memory_span(m));
	if (m->fd >= 0)
		close(m->fd);
	pthread_rwlock_destroy(&m->engine_lock);
	memset(m, 0, sizeof *m);
	m->fd = -1;
}

void memory_hold(struct memory *m) { pthread_rwlock_wrlock(&m->engine_lock); }

void memory_release(struct memory *m) { pthread_rwlock_unlock(&m->engine_lock); }

/* Marks the pages of [off, off+len), just written, dirty, and tells the engine when translated code is among
 * them. Whoever translates marks the page first and reads its bytes then, so one of the two sees the other.
 * `locked`: engine_lock is held. */
static void memory_touch(struct memory *m, uint64_t off, uint64_t len, bool locked)
{
	bool code = false;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (uint64_t page = off >> PAGE_SHIFT; page <= (off + len - 1) >> PAGE_SHIFT; page++) {
		uint8_t state = __atomic_load_n(&m->state[page], __ATOMIC_RELAXED);

		code |= state & PAGE_HAS_CODE;
		if (!(state & PAGE_DIRTY))
			__atomic_fetch_or(&m->state[page], PAGE_DIRTY, __ATOMIC_RELAXED);
	}
	if (!code)
		return;
	if (!locked)
		pthread_rwlock_rdlock(&m->engine_lock);
	if (m->code_write)
		m->code_write(m->code_write_opaque, off, len);
	if (!locked)
		pthread_rwlock_unlock(&m->engine_lock);
}

void memory_written(struct memory *m, uint64_t gpa, uint64_t len)
{
	uint64_t off = memory_offset(m, gpa, len);

	if (len && off != MEMORY_NOT_RAM)
		memory_touch(m, off, len, false);
}

void memory_block_written(struct memory *m, uint64_t offset, uint64_t len)
{
	if (len)
		memory_touch(m, offset, len, false);
}

bool memory_block_take_written(struct memory *m, uint64_t offset, uint64_t len)
{
	bool written = false;

	pthread_rwlock_rdlock(&m->engine_lock);
	if (!m->note_written) {
		pthread_rwlock_unlock(&m->engine_lock);
		return true;
	}
	m->note_written(m->note_written_opaque);
	for (uint64_t page = offset >> PAGE_SHIFT; len && page <= (offset + len - 1) >> PAGE_SHIFT; page++)
		if (__atomic_load_n(&m->state[page], __ATOMIC_RELAXED) & PAGE_DIRTY) {
			__atomic_fetch_and(&m->state[page], (uint8_t)~PAGE_DIRTY, __ATOMIC_SEQ_CST);
			written = true;
		}
	pthread_rwlock_unlock(&m->engine_lock);
	return written;
}

int memory_read(const struct memory *m, uint64_t gpa, void *buf, uint64_t len)
{
	uint64_t off = memory_offset(m, gpa, len);

	if (len == 0)
		return 0;
	if (off == MEMORY_NOT_RAM)
		return -EFAULT;
	memcpy(buf, m->base + off, len);
	return 0;
}

static void write_begin(struct memory *m)
{
	pthread_rwlock_rdlock(&m->engine_lock);
	if (m->write_begin)
		m->write_begin(m->write_opaque);
}

static void write_end(struct memory *m, uint64_t off, uint64_t len)
{
	memory_touch(m, off, len, true);
	if (m->write_end)
		m->write_end(m->write_opaque, off, len);
	pthread_rwlock_unlock(&m->engine_lock);
}

void memory_block_write(struct memory *m, uint64_t offset, const void *buf, uint64_t len)
{
	if (len == 0)
		return;
	write_begin(m);
	memcpy(m->base + offset, buf, len);
	write_end(m, offset, len);
}

int memory_write(struct memory *m, uint64_t gpa, const void *buf, uint64_t len)
{
	uint64_t off = memory_offset_writable(m, gpa, len);

	if (len == 0)
		return 0;
	if (off == MEMORY_NOT_RAM)
		return -EFAULT;
	write_begin(m);
	memcpy(m->base + off, buf, len);
	write_end(m, off, len);
	return 0;
}

int memory_fill(struct memory *m, uint64_t gpa, uint8_t byte, uint64_t len)
{
	uint64_t off = memory_offset_writable(m, gpa, len);

	if (len == 0)
		return 0;
	if (off == MEMORY_NOT_RAM)
		return -EFAULT;
	write_begin(m);
	memset(m->base + off, byte, len);
	write_end(m, off, len);
	return 0;
}

int memory_discard(struct memory *m, uint64_t gpa, uint64_t len)
{
	uint64_t start = (gpa + PAGE_SIZE - 1) & PAGE_MASK, end = (gpa + len) & PAGE_MASK;

	if (memory_offset_writable(m, gpa, len) == MEMORY_NOT_RAM)
		return -EFAULT;
	if (start >= end)
		return 0;
	uint64_t off = memory_offset_writable(m, start, end - start);
	write_begin(m);
	int r = fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)(end - start));
	int err = r < 0 ? errno : 0;
	write_end(m, off, end - start);
	return -err;
}

int memory_exchange8(struct memory *m, uint64_t gpa, uint8_t value, uint8_t *old)
{
	uint64_t off = memory_offset_writable(m, gpa, 1);

	if (off == MEMORY_NOT_RAM)
		return -EFAULT;
	write_begin(m);
	*old = __atomic_exchange_n(m->base + off, value, __ATOMIC_SEQ_CST);
	write_end(m, off, 1);
	return 0;
}
