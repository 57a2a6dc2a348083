/*
 * The second side's copy of RAM: made at the first entry, told of what the machine writes, and compared.
 *
 * Writes by the machine come on any thread and take vm->lock, so that no block is half done; see
 * check.h. Everything else is on the vCPU's thread with vm->lock held. No libc functions on the paths
 * that a block takes: guest state is not live there, but speed counts.
 */
#include "engine/check/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/mmu.h"

#define LINE 64u
#define ENTRY_BITS 0x60ull /* accessed, dirty */

/* ---- writes by the machine ---- */

static void write_begin(void *opaque)
{
	struct check_vm *vm = opaque;

	__atomic_fetch_add(&vm->waiting, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&vm->lock);
	__atomic_fetch_sub(&vm->waiting, 1, __ATOMIC_SEQ_CST);
}

/* The first side is asking the machine something, and the second has yet to get there. */
static void write_later(struct check *c, uint64_t offset, uint64_t len)
{
	struct late_write *w = malloc(sizeof *w + len);

	if (!w || c->ask_count == 0) {
		free(w);
		c->late_lost = true;
		return;
	}
	*w = (struct late_write){.ask = c->ask_count - 1, .offset = offset, .len = len};
	memcpy(w->bytes, c->vm->memory->base + offset, len);
	*c->late_end = w;
	c->late_end = &w->next;
}

static void write_end(void *opaque, uint64_t offset, uint64_t len)
{
	struct check_vm *vm = opaque;

	if (vm->copied && len) {
		if (vm->vcpu && vm->vcpu->running)
			write_later(vm->vcpu, offset, len);
		else
			check_mirror_write(vm, offset, vm->memory->base + offset, len);
	}
	pthread_mutex_unlock(&vm->lock);
}

/* ---- life ---- */

int check_mirror_init(struct check_vm *vm)
{
	int r = memory_init_low(&vm->copy, vm->memory->size, vm->memory->low);

	if (r < 0)
		return r;
	vm->memory->write_end = write_end;
	vm->memory->write_opaque = vm;
	__atomic_store_n(&vm->memory->write_begin, write_begin, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&vm->memory->direct, __ATOMIC_SEQ_CST)) { /* a device writes unnoticed just now */
		check_mirror_free(vm);
		return -EBUSY;
	}
	return 0;
}

void check_mirror_free(struct check_vm *vm)
{
	vm->memory->write_begin = NULL;
	vm->memory->write_end = NULL;
	memory_free(&vm->copy);
}

void check_mirror_write(struct check_vm *vm, uint64_t offset, const void *bytes, uint64_t len)
{
	memcpy(vm->copy.base + offset, bytes, len);
}

void check_mirror_maps(struct check *c)
{
	struct check_vm *vm = c->vm;

	if (!memory_maps_changed(vm->memory, &vm->maps_version))
		return;
	memory_copy_maps(&vm->copy, vm->memory);
	mmu_flush(c->second, true);
}

/* Holes of the memfd have never been written. */
void check_mirror_copy_all(struct check_vm *vm)
{
	off_t size = (off_t)vm->memory->end, from, to = 0;

	while ((from = lseek(vm->memory->fd, to, SEEK_DATA)) >= 0 && from < size) {
		to = lseek(vm->memory->fd, from, SEEK_HOLE);
		if (to < 0 || to > size)
			to = size;
		memcpy(vm->copy.base + from, vm->memory->base + from, (size_t)(to - from));
	}
	vm->copied = true;
}

/* ---- logs ---- */

static uint64_t offset_in(const struct memory *m, const struct store *s) { return (uint64_t)(s->hva - m->base); }

static bool any_marked(const uint8_t *state)
{
	uint64_t all = 0, word;

	for (unsigned i = 0; i < 64; i += 8) {
		__builtin_memcpy(&word, state + i, 8);
		all |= word;
	}
	return all & 0x0101010101010101ull * PAGE_UNCOMPARED;
}

/* Pages that PAGE_UNCOMPARED marks in m: `each` for one after the other, while it returns true. */
static bool marked_pages(struct check *c, struct memory *m, bool (*each)(struct check *c, uint64_t offset))
{
	uint64_t pages = m->end >> PAGE_SHIFT, next;

	for (uint64_t i = 0; i < pages; i = next) {
		next = i + 64 < pages ? i + 64 : pages;
		if (next - i == 64 && !any_marked(m->state + i))
			continue;
		for (; i < next; i++) {
			if (!(__atomic_load_n(&m->state[i], __ATOMIC_RELAXED) & PAGE_UNCOMPARED))
				continue;
			__atomic_fetch_and(&m->state[i], (uint8_t)~PAGE_UNCOMPARED, __ATOMIC_RELAXED);
			if (!each(c, i << PAGE_SHIFT))
				return false;
		}
	}
	return true;
}

/* The next store into such a page must mark it again. */
static void forget_write_rights(struct cpu *cpu) { mmu_write_protect_all(cpu); }

static bool take_page(struct check *c, uint64_t offset)
{
	memcpy(c->vm->copy.base + offset, c->vm->memory->base + offset, PAGE_SIZE);
	return true;
}

static void take_stores(struct check *c, const struct memory *m, const struct store_log *log)
{
	for (unsigned i = 0; i < log->count; i++) {
		uint64_t off = offset_in(m, &log->store[i]);

		mmu_copy_any(c->vm->copy.base + off, c->vm->memory->base + off, log->store[i].size);
	}
}

void check_mirror_take_over(struct check *c)
{
	take_stores(c, c->vm->memory, &c->first_log);
	take_stores(c, &c->vm->copy, &c->second_log);
	if (!c->first_log.overflow && !c->second_log.overflow)
		return;
	marked_pages(c, c->vm->memory, take_page);
	marked_pages(c, &c->vm->copy, take_page);
	forget_write_rights(c->first);
	forget_write_rights(c->second);
}

/* ---- comparison ---- */

/* The two TLBs need not agree on what they hold, so one side may walk, and set A or D, where the other
 * does not: whoever was later gets the bits now. */
static bool join_entry(struct check *c, uint64_t off, unsigned size)
{
	uint64_t one = 0, two = 0, bits;

	mmu_copy_any(&one, c->vm->memory->base + off, size);
	mmu_copy_any(&two, c->vm->copy.base + off, size);
	bits = (one ^ two) & ENTRY_BITS;
	if (!bits || ((one ^ two) & ~ENTRY_BITS))
		return false;
	one |= bits;
	c->stats.accessed_bits++;
	mmu_copy_any(c->vm->memory->base + off, &one, size);
	mmu_copy_any(c->vm->copy.base + off, &one, size);
	return true;
}

static void join_entries(struct check *c, const struct memory *m, const struct store_log *log)
{
	for (unsigned i = 0; log->entries && i < log->count; i++)
		if (log->store[i].entry)
			join_entry(c, offset_in(m, &log->store[i]), log->store[i].size);
}

/* Both are aligned to 8; the offset of the first difference, or `len`. */
static uint64_t same_length(const uint8_t *a, const uint8_t *b, uint64_t len)
{
	const uint64_t *x = (const uint64_t *)a, *y = (const uint64_t *)b;

	for (uint64_t i = 0; i < len; i += 64, x += 8, y += 8) {
		if (!((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4]) | (x[5] ^ y[5]) |
		      (x[6] ^ y[6]) | (x[7] ^ y[7])))
			continue;
		for (unsigned k = 0; k < 64; k++)
			if (a[i + k] != b[i + k])
				return i + k;
	}
	return len;
}

static void describe(struct check *c, uint64_t off, const char *when)
{
	const uint8_t *one = c->vm->memory->base + (off & ~7ull), *two = c->vm->copy.base + (off & ~7ull);
	uint64_t a, b;

	memcpy(&a, one, 8);
	memcpy(&b, two, 8);
	snprintf(c->what, sizeof c->what, "memory at GPA %#llx%s: %#llx and %#llx",
		 (unsigned long long)memory_offset_to_gpa(c->vm->memory, off & ~7ull), when, (unsigned long long)a,
		 (unsigned long long)b);
}

/* Whole lines, so that a store that is too wide shows as well. RAM is a multiple of them. */
static bool stores_same(struct check *c, const struct memory *m, const struct store_log *log)
{
	for (unsigned i = 0; i < log->count; i++) {
		const struct store *s = &log->store[i];
		uint64_t off = offset_in(m, s), begin = off & ~(uint64_t)(LINE - 1);
		uint64_t len = (off + s->size - begin + LINE - 1) & ~(uint64_t)(LINE - 1);
		uint64_t same = same_length(c->vm->memory->base + begin, c->vm->copy.base + begin, len);

		if (same == len)
			continue;
		describe(c, begin + same, "");
		return false;
	}
	c->stats.stores += log->count;
	return true;
}

bool check_mirror_same(struct check *c)
{
	join_entries(c, c->vm->memory, &c->first_log);
	join_entries(c, &c->vm->copy, &c->second_log);
	if (c->first_log.overflow || c->second_log.overflow)
		c->until_pages = 0;
	return stores_same(c, c->vm->memory, &c->first_log) && stores_same(c, &c->vm->copy, &c->second_log);
}

static bool page_same(struct check *c, uint64_t offset)
{
	const uint8_t *one = c->vm->memory->base + offset, *two = c->vm->copy.base + offset;
	bool forgotten = c->first_log.overflow || c->second_log.overflow; /* entries, too */
	uint64_t same;

	c->stats.pages++;
	do {
		same = same_length(one, two, PAGE_SIZE);
		if (same == PAGE_SIZE)
			return true;
	} while (forgotten && join_entry(c, offset + (same & ~3ull), 4));
	describe(c, offset + same, ", changed by this block or one of those before it");
	return false;
}

/* The second side's stores are all in its log, so its marks count only when that was too small. */
bool check_mirror_pages_same(struct check *c)
{
	bool same = marked_pages(c, c->vm->memory, page_same);

	forget_write_rights(c->first);
	if (same && c->second_log.overflow) {
		same = marked_pages(c, &c->vm->copy, page_same);
		forget_write_rights(c->second);
	}
	return same;
}
