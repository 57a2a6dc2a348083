/*
 * The translation cache: blocks keyed by where their bytes lie in memory, RIP and mode; chaining;
 * invalidation when their bytes change; eviction, a region at a time. All vCPUs of a VM share it.
 *
 * The cache's memory is mapped twice, once writable and once executable. RIP is part of the key so that
 * translations may have RIP-relative addresses and return addresses built in; 64-bit user code has none built in, and
 * of its RIP only the offset in the page is (key_any_rip). Where bytes lie is their offset in the
 * host mapping of memory, so what is mapped at which GPA does not matter to a block. What follows from address
 * translation (a branch to another page, an instruction across two) goes through the vCPU's own branch
 * cache, which TLB flushes empty, so a chain never outlives a mapping.
 *
 * Threads. vm->lock, struct bt_vm's here and below, is held to translate, chain and remove blocks; running code and
 * looking for it take no lock. So a vCPU may be in a block, or about to enter it, when another removes it. That is
 * harmless while the block's memory stays as it is, and it does until its region is used anew, for which every vCPU
 * must have left translated code since: each publishes the epoch that it has seen (bt->active). Jumps are patched
 * by one aligned store of 4 bytes, which no processor sees half done.
 *
 * Changed code. A store is noticed because no vCPU's TLB has an entry for writing to a page with code. When
 * a page gets its first block (cache_watch), other vCPUs drop their entries the next time they leave
 * translated code, which a kick makes soon; until then they may still store to it unnoticed, and the page is
 * "unsettled": the guest's bytes are compared with what its blocks were made from whenever a vCPU leaves
 * translated code, so before it serializes, and once more when the last vCPU has dropped its entries.
 * Stores of vCPUs that are noticed are recorded before they are done and take effect on the cache at the
 * next cache_sync; devices write first, and look at the page's state then.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/bt/bt.h"
#include "sandbox/sandbox.h"
#include "util/log.h"

/* ---- memory ---- */

static void *anonymous(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

#define BLOCKS_SIZE (sizeof(struct block) * REGIONS * REGION_BLOCKS)
#define MARKS_SIZE (sizeof(struct mark) * REGIONS * REGION_MARKS)
#define LINKS_SIZE (sizeof(struct link) * REGIONS * REGION_LINKS)

static void region_reset(struct bt_vm *vm, unsigned r)
{
	vm->region[r] = (struct region){
		.code = r * REGION_SIZE + (r == 0 ? ROUTINES_SIZE : 0),
		.cold = r * REGION_SIZE + REGION_HOT,
		.blocks = r == 0, /* id 0 is NO_BLOCK */
	};
}

/* RINGSIDE_BT_CACHE: the size of the cache in MiB, for tests of eviction. */
static unsigned regions_wanted(void)
{
	const char *text = getenv("RINGSIDE_BT_CACHE");
	unsigned long mib = text ? strtoul(text, NULL, 10) : 0, regions = mib / (REGION_SIZE >> 20);

	return !mib || regions > REGIONS ? REGIONS : regions < REGIONS_MIN ? REGIONS_MIN : (unsigned)regions;
}

int cache_init(struct bt_vm *vm)
{
	uint64_t pages = memory_span(vm->memory) >> PAGE_SHIFT;
	int err = code_memory_take(&vm->cache, CACHE_SIZE);

	if (err < 0)
		return err;
	vm->rw = vm->cache.rw;
	vm->rx = vm->cache.rx;
	errno = 0;
	vm->blocks = anonymous(BLOCKS_SIZE);
	vm->marks = anonymous(MARKS_SIZE);
	vm->links = anonymous(LINKS_SIZE);
	vm->hash = anonymous(HASH_SIZE * sizeof(uint32_t));
	vm->page = anonymous(pages * sizeof(uint32_t));
	vm->code_page = anonymous(pages * sizeof(uint16_t));
	vm->code_pages_used = 1;
	if (!vm->blocks || !vm->marks || !vm->links || !vm->hash || !vm->page || !vm->code_page)
		goto fail;
	for (unsigned r = 0; r < REGIONS; r++)
		region_reset(vm, r);
	vm->regions = regions_wanted();
	if (getenv("RINGSIDE_PERF_MAP")) {
		char name[64];

		snprintf(name, sizeof(name), "/tmp/perf-%d.map", (int)getpid());
		int fd = sandbox_open(name, O_WRONLY | O_CREAT | O_TRUNC);

		vm->perf_map = fd >= 0 ? fdopen(fd, "w") : NULL;
	}
	return 0;
fail:
	err = errno ? -errno : -ENOMEM;
	cache_free(vm);
	return err;
}

void cache_free(struct bt_vm *vm)
{
	code_memory_give_back(&vm->cache);
	if (vm->blocks)
		munmap(vm->blocks, BLOCKS_SIZE);
	if (vm->marks)
		munmap(vm->marks, MARKS_SIZE);
	if (vm->links)
		munmap(vm->links, LINKS_SIZE);
	if (vm->hash)
		munmap(vm->hash, HASH_SIZE * sizeof(uint32_t));
	if (vm->page)
		munmap(vm->page, (memory_span(vm->memory) >> PAGE_SHIFT) * sizeof(uint32_t));
	if (vm->code_page)
		munmap(vm->code_page, (memory_span(vm->memory) >> PAGE_SHIFT) * sizeof(uint16_t));
	if (vm->perf_map)
		fclose(vm->perf_map);
	vm->perf_map = NULL;
	vm->rw = vm->rx = NULL;
}

void cache_each_range(const struct bt_vm *vm, range_fn *tell, void *arg)
{
	for (unsigned r = 0; r < REGIONS; r++) {
		const uint8_t *region = vm->rw + r * REGION_SIZE;

		tell(arg, "translated code", region, REGION_HOT);
		tell(arg, "  rarely run", region + REGION_HOT, REGION_SIZE - REGION_HOT);
	}
	tell(arg, "blocks", vm->blocks, BLOCKS_SIZE);
	tell(arg, "links between blocks", vm->links, LINKS_SIZE);
	tell(arg, "marks of instructions", vm->marks, MARKS_SIZE);
	tell(arg, "tables that find blocks", vm->hash, HASH_SIZE * sizeof(uint32_t));
	tell(arg, "tables that find blocks", vm->page, (memory_span(vm->memory) >> PAGE_SHIFT) * sizeof(uint32_t));
	tell(arg, "tables that find blocks", vm->code_page, (memory_span(vm->memory) >> PAGE_SHIFT) * sizeof(uint16_t));
}

/* ---- chaining ---- */

static struct block *vm_block(const struct bt_vm *vm, uint32_t id) { return &vm->blocks[id]; }

static struct link *link_at(const struct bt_vm *vm, uint32_t number) { return &vm->links[number - 1]; }

static bool dead(const struct block *b) { return __atomic_load_n(&b->dead, __ATOMIC_RELAXED); }

/* The link jumps to its stub again. */
static void link_unpatch(struct bt_vm *vm, struct link *l)
{
	if (l->kind == LINK_DIRECT)
		patch32(vm->rw, l->site, l->stub);
	l->to = NO_BLOCK;
	vm->stats.unchained++;
}

void cache_chain(struct bt *bt, uint32_t from, unsigned link, uint32_t to, uint64_t resets)
{
	struct block *source = bt_block(bt, from), *target = bt_block(bt, to);
	uint32_t number = source->links + link + 1;
	struct bt_vm *vm = bt->vm;
	struct link *l = link_at(vm, number);

	if (bt->unchained || target->len2)
		return;
	lock_take(&vm->lock);
	if (vm->resets == resets && l->kind == LINK_DIRECT && !l->to && !dead(source) && !dead(target) &&
	    /* another page may be mapped otherwise the next time; a far link is not run then */
	    (link_far_page(l) ? link_far_page(l) == target->code_page :
				!((source->offset ^ target->offset) & PAGE_MASK) &&
					source->rip - source->offset == target->rip - target->offset)) {
		l->to = to;
		l->next = target->incoming;
		target->incoming = number;
		seen_patched(vm);
		patch32(vm->rw, l->site, target->entry);
		vm->stats.chained++;
	}
	lock_release(&vm->lock);
}

/* Takes a link out of the list of the block that it goes to. */
static void link_remove(struct bt_vm *vm, uint32_t number)
{
	struct link *l = link_at(vm, number);
	uint32_t *p;

	if (!l->to)
		return;
	for (p = &vm_block(vm, l->to)->incoming; *p != number; p = &link_at(vm, *p)->next)
		if (!*p)
			return;
	*p = l->next;
	link_unpatch(vm, l);
}

/* Nobody chains to the block any more, nor it to others. */
static void unchain(struct bt_vm *vm, struct block *b)
{
	for (unsigned i = 0; i < b->link_count; i++)
		link_remove(vm, b->links + i + 1);
	for (uint32_t n = b->incoming, next; n; n = next) {
		next = link_at(vm, n)->next;
		link_unpatch(vm, link_at(vm, n));
	}
	b->incoming = 0;
}

/* ---- tables ---- */

static uint32_t hash_of(uint64_t offset, uint64_t rip, uint32_t key)
{
	uint64_t h = (offset ^ rip << 20 ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(h >> 40) & (HASH_SIZE - 1);
}

static uint32_t *page_of(const struct bt_vm *vm, uint64_t offset) { return &vm->page[offset >> PAGE_SHIFT]; }

static uint8_t *state_of(const struct bt_vm *vm, uint64_t offset) { return &vm->memory->state[offset >> PAGE_SHIFT]; }

/* Two linear pages may be the same in memory. */
static bool two_pages(const struct block *b) { return b->len2 && ((b->offset ^ b->offset2) & PAGE_MASK); }

static unsigned page_slot(const struct block *b, uint64_t page) { return (b->offset & PAGE_MASK) != page; }

static void page_insert(struct bt_vm *vm, uint32_t id, uint64_t offset)
{
	uint64_t page = offset & PAGE_MASK;
	struct block *b = vm_block(vm, id);
	uint32_t *head = page_of(vm, page);
	unsigned slot = page_slot(b, page);

	b->page_next[slot] = *head;
	b->page_prev[slot] = 0;
	if (*head)
		vm_block(vm, *head)->page_prev[page_slot(vm_block(vm, *head), page)] = id;
	*head = id;
}

void cache_unwatch(struct bt_vm *vm, uint64_t offset)
{
	if (!*page_of(vm, offset))
		__atomic_fetch_and(state_of(vm, offset), (uint8_t)~PAGE_HAS_CODE, __ATOMIC_RELAXED);
}

static void page_remove(struct bt_vm *vm, uint32_t id, uint64_t offset)
{
	uint64_t page = offset & PAGE_MASK;
	const struct block *b = vm_block(vm, id);
	uint32_t next = b->page_next[page_slot(b, page)], prev = b->page_prev[page_slot(b, page)];

	if (next)
		vm_block(vm, next)->page_prev[page_slot(vm_block(vm, next), page)] = prev;
	if (prev)
		vm_block(vm, prev)->page_next[page_slot(vm_block(vm, prev), page)] = next;
	else
		*page_of(vm, page) = next;
	cache_unwatch(vm, page);
}

/* Takes a block out of everything; its memory stays until its region is used anew. With the lock. */
static void cache_remove(struct bt_vm *vm, uint32_t id)
{
	struct block *b = vm_block(vm, id);
	uint32_t *p = &vm->hash[hash_of(b->offset, b->rip, b->key)];

	if (dead(b))
		return;
	while (*p && *p != id)
		p = &vm_block(vm, *p)->hash_next;
	if (*p)
		__atomic_store_n(p, b->hash_next, __ATOMIC_RELEASE);
	__atomic_store_n(&b->dead, true, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&vm->removals, b->code_page != 0, __ATOMIC_SEQ_CST); /* whoever brings back entries looks behind it */
	page_remove(vm, id, b->offset);
	if (two_pages(b))
		page_remove(vm, id, b->offset2);
	unchain(vm, b);
	branch_forget(vm, b);
	__atomic_fetch_add(&vm->removals, b->code_page != 0, __ATOMIC_SEQ_CST); /* whoever puts them away, before */
}

unsigned cache_code_page(struct bt_vm *vm, uint64_t offset)
{
	uint16_t *of_page = &vm->code_page[offset >> PAGE_SHIFT];

	if (*of_page)
		return *of_page;
	if (vm->code_page_free) {
		*of_page = (uint16_t)vm->code_page_free;
		vm->code_page_free = vm->code_pages[*of_page].next_free;
		branch_forget_page(vm, *of_page);
	} else if (vm->code_pages_used < CODE_PAGES) {
		*of_page = (uint16_t)vm->code_pages_used;
		__atomic_store_n(&vm->code_pages_used, vm->code_pages_used + 1, __ATOMIC_RELAXED);
	}
	vm->code_pages[*of_page].page = (uint32_t)(offset >> PAGE_SHIFT);
	return *of_page;
}

/* The index is free if no block has it. */
void cache_code_page_unused(struct bt_vm *vm, uint64_t offset)
{
	uint16_t *of_page = &vm->code_page[offset >> PAGE_SHIFT];

	if (!*of_page || vm->code_pages[*of_page].users)
		return;
	vm->code_pages[*of_page].next_free = vm->code_page_free;
	vm->code_page_free = *of_page;
	*of_page = 0;
}

/* A block's memory is about to be used anew. */
static void code_page_release(struct bt_vm *vm, const struct block *b)
{
	if (!b->code_page)
		return;
	vm->code_pages[b->code_page].users--;
	cache_code_page_unused(vm, b->offset);
	for (unsigned i = 0; i < b->link_count; i++) {
		unsigned page = link_far_page(&vm->links[b->links + i]);

		if (page) {
			vm->code_pages[page].users--;
			cache_code_page_unused(vm, (uint64_t)vm->code_pages[page].page << PAGE_SHIFT);
		}
	}
}

static bool code_pages_full(const struct bt_vm *vm) { return vm->code_pages_used == CODE_PAGES && !vm->code_page_free; }

struct block *cache_begin(struct bt *bt)
{
	struct bt_vm *vm = bt->vm;
	struct region *r = &vm->region[vm->current];
	struct block *b = vm_block(vm, vm->current * REGION_BLOCKS + r->blocks);

	*b = (struct block){
		.begin = r->code,
		.cold_begin = r->cold,
		.marks = vm->current * REGION_MARKS + r->marks,
		.links = vm->current * REGION_LINKS + r->links,
	};
	bt->e.p = vm->rw + r->code;
	return b;
}

uint32_t cache_commit(struct bt *bt, struct block *b)
{
	struct bt_vm *vm = bt->vm;
	struct region *r = &vm->region[vm->current];
	uint32_t id = vm->current * REGION_BLOCKS + r->blocks, *head = &vm->hash[hash_of(b->offset, b->rip, b->key)];

	r->marks += b->insns;
	r->links += b->link_count;
	r->code = (b->end + 15) & ~15u;
	if (r->code / CODE_MEMORY_LARGE != b->begin / CODE_MEMORY_LARGE)
		code_memory_full(&vm->cache, b->begin);
	r->cold = b->cold_end;
	vm->code_pages[b->code_page].users++;
	for (unsigned i = 0; i < b->link_count; i++)
		if (link_far_page(&vm->links[b->links + i]))
			vm->code_pages[link_far_page(&vm->links[b->links + i])].users++;
	__atomic_store_n(&r->blocks, r->blocks + 1, __ATOMIC_RELEASE);
	b->hash_next = *head;
	__atomic_store_n(head, id, __ATOMIC_RELEASE);
	page_insert(vm, id, b->offset);
	if (two_pages(b))
		page_insert(vm, id, b->offset2);
	bt->stats.blocks++;
	bt->stats.insns += b->insns;
	bt->stats.host_bytes += b->end - b->begin;
	bt->stats.cold_bytes += b->cold_end - b->cold_begin;
	bt->stats.guest_bytes += b->len + b->len2;
	if (vm->perf_map) {
		fprintf(vm->perf_map, "%llx %x guest_%llx\n", (unsigned long long)(uintptr_t)bt_host(bt, b->begin),
			b->end - b->begin, (unsigned long long)bt->cpu->rip);
		fflush(vm->perf_map);
	}
	return id;
}

uint32_t cache_block_at(const struct bt_vm *vm, uint32_t offset)
{
	unsigned r = offset / REGION_SIZE;
	bool cold = offset % REGION_SIZE >= REGION_HOT;
	uint32_t low = r * REGION_BLOCKS + (r == 0);
	uint32_t high = r * REGION_BLOCKS + __atomic_load_n(&vm->region[r].blocks, __ATOMIC_ACQUIRE);

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct block *b = vm_block(vm, middle);

		if (offset < (cold ? b->cold_begin : b->begin))
			high = middle;
		else if (offset >= (cold ? b->cold_end : b->end))
			low = middle + 1;
		else
			return middle;
	}
	return NO_BLOCK;
}

/* ---- invalidation ---- */

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len) { return a < b + b_len && b < a + a_len; }

static void invalidate_in_page(struct bt_vm *vm, uint64_t offset, uint64_t len)
{
	uint64_t page = offset & PAGE_MASK;

	for (uint32_t id = *page_of(vm, offset), next; id; id = next) {
		struct block *b = vm_block(vm, id);

		next = b->page_next[page_slot(b, page)];
		if (overlaps(offset, len, b->offset, b->len) || (b->len2 && overlaps(offset, len, b->offset2, b->len2))) {
			cache_remove(vm, id);
			vm->stats.invalidated++;
		}
	}
}

void cache_invalidate(struct bt_vm *vm, uint64_t offset, uint64_t len)
{
	lock_take(&vm->lock);
	vm->stats.code_writes++;
	while (len) {
		uint64_t room = PAGE_SIZE - (offset & ~PAGE_MASK), n = room < len ? room : len;

		invalidate_in_page(vm, offset, n);
		offset += n;
		len -= n;
	}
	lock_release(&vm->lock);
}

static void cache_invalidate_all(struct bt_vm *vm)
{
	lock_take(&vm->lock);
	for (unsigned r = 0; r < REGIONS; r++)
		for (uint32_t i = r == 0; i < vm->region[r].blocks; i++)
			cache_remove(vm, r * REGION_BLOCKS + i);
	lock_release(&vm->lock);
}

/* ---- epochs ---- */

/* The epoch that all vCPUs but this one have seen, or rest since. */
static uint64_t seen_by_others(const struct bt_vm *vm, const struct bt *self)
{
	uint64_t seen = NOT_ACTIVE;

	for (unsigned n = 0; n < vm->vcpus; n++)
		if (vm->vcpu[n] && vm->vcpu[n] != self) {
			uint64_t active = __atomic_load_n(&vm->vcpu[n]->active, __ATOMIC_SEQ_CST);

			seen = active < seen ? active : seen;
		}
	return seen;
}

/* A new epoch, with a page that is watched since, or NOT_ACTIVE. With the lock. */
static uint64_t epoch_begin(struct bt_vm *vm, uint64_t offset)
{
	uint64_t epoch = vm->epoch + 1;

	__atomic_store_n(&vm->watched[epoch % WATCHED], offset, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->epoch, epoch, __ATOMIC_SEQ_CST);
	return epoch;
}

static void kick_laggards(const struct bt_vm *vm, const struct bt *self, uint64_t epoch)
{
	for (unsigned n = 0; n < vm->vcpus; n++)
		if (vm->vcpu[n] && vm->vcpu[n] != self &&
		    __atomic_load_n(&vm->vcpu[n]->active, __ATOMIC_SEQ_CST) < epoch)
			signal_interrupt(vm->vcpu[n], REQUEST_ENGINE);
}

/* Waits until all others have seen the epoch. Without the lock; nothing of the cache may be held. */
static void wait_for_others(struct bt *bt, uint64_t epoch)
{
	static const struct timespec pause = { .tv_nsec = 50000 };

	__atomic_store_n(&bt->active, NOT_ACTIVE, __ATOMIC_SEQ_CST); /* others may be waiting for this one */
	while (seen_by_others(bt->vm, bt) < epoch) {
		kick_laggards(bt->vm, bt, epoch);
		syscall(SYS_nanosleep, &pause, NULL);
	}
	cache_activate(bt);
}

static uint64_t sum_add(uint64_t sum, uint64_t value)
{
	sum = (sum ^ value) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 29;
}

uint64_t cache_sum(const uint8_t *bytes, unsigned count, uint64_t sum)
{
	uint64_t word;

	for (; count >= 8; bytes += 8, count -= 8) {
		__builtin_memcpy(&word, bytes, 8);
		sum = sum_add(sum, word);
	}
	for (unsigned i = 0; i < count; i++)
		sum = sum_add(sum, bytes[i]);
	return sum_add(sum, count);
}

/* Are the guest's bytes still what the block was made from? */
static bool unchanged(const struct bt_vm *vm, const struct block *b)
{
	uint64_t sum = cache_sum(vm->memory->base + b->offset, b->len, 0);

	if (b->len2)
		sum = cache_sum(vm->memory->base + b->offset2, b->len2, sum);
	return sum == b->sum;
}

static void compare_page(struct bt_vm *vm, uint64_t page)
{
	for (uint32_t id = *page_of(vm, page), next; id; id = next) {
		next = vm_block(vm, id)->page_next[page_slot(vm_block(vm, id), page)];
		if (!unchanged(vm, vm_block(vm, id))) {
			cache_remove(vm, id);
			vm->stats.invalidated++;
		}
	}
}

/* What others may have written unnoticed. With the lock. */
static void settle(struct bt *bt)
{
	uint64_t seen = seen_by_others(bt->vm, bt);
	struct bt_vm *vm = bt->vm;
	unsigned left = 0;

	vm->stats.compared += vm->unsettled_count;
	for (unsigned n = 0; n < vm->unsettled_count; n++) {
		compare_page(vm, vm->unsettled[n].offset);
		if (vm->unsettled[n].epoch > seen)
			vm->unsettled[left++] = vm->unsettled[n];
	}
	__atomic_store_n(&vm->unsettled_count, left, __ATOMIC_RELEASE);
}

void cache_watch(struct bt *bt, uint64_t offset)
{
	uint8_t *state = state_of(bt->vm, offset);
	struct bt_vm *vm = bt->vm;
	uint64_t epoch;

	if (__atomic_load_n(state, __ATOMIC_RELAXED) & PAGE_HAS_CODE)
		return;
	__atomic_fetch_or(state, PAGE_HAS_CODE, __ATOMIC_SEQ_CST);
	mmu_write_protect(bt->cpu, offset);
	if (vm->vcpus == 1)
		return;
	epoch = epoch_begin(vm, offset & PAGE_MASK);
	if (seen_by_others(vm, bt) >= epoch)
		return; /* all rest, and will drop their entries before they go on */
	vm->stats.unsettled++;
	vm->unsettled[vm->unsettled_count].offset = offset & PAGE_MASK;
	vm->unsettled[vm->unsettled_count].epoch = epoch;
	__atomic_store_n(&vm->unsettled_count, vm->unsettled_count + 1, __ATOMIC_RELEASE);
	kick_laggards(vm, bt, epoch);
}

/* Drops entries for writing to pages that have got code since. */
static void catch_up(struct bt *bt, uint64_t epoch)
{
	struct bt_vm *vm = bt->vm;

	for (uint64_t n = bt->seen + 1; n <= epoch && epoch - bt->seen < WATCHED; n++) {
		uint64_t offset = __atomic_load_n(&vm->watched[n % WATCHED], __ATOMIC_RELAXED);

		if (offset != NOT_ACTIVE)
			mmu_write_protect(bt->cpu, offset);
	}
	if (__atomic_load_n(&vm->epoch, __ATOMIC_SEQ_CST) - bt->seen >= WATCHED) /* some were overwritten, perhaps just now */
		mmu_write_protect_all(bt->cpu);
	bt->seen = epoch;
}

static void take_writes(struct bt *bt)
{
	unsigned count = bt->write_count;

	bt->write_count = 0;
	if (count > WRITES) {
		cache_invalidate_all(bt->vm);
		return;
	}
	for (unsigned n = 0; n < count; n++)
		cache_invalidate(bt->vm, bt->write[n].offset, bt->write[n].len);
}

void cache_sync(struct bt *bt)
{
	uint64_t epoch = __atomic_load_n(&bt->vm->epoch, __ATOMIC_ACQUIRE);

	if (__builtin_expect(epoch != bt->seen, 0))
		catch_up(bt, epoch);
	if (__atomic_load_n(&bt->active, __ATOMIC_RELAXED) != epoch) {
		return_drop_all(bt); /* blocks that are removed are not landed in from now on */
		__atomic_store_n(&bt->active, epoch, __ATOMIC_RELEASE);
	}
	if (__builtin_expect(bt->write_count != 0, 0))
		take_writes(bt);
	if (__builtin_expect(__atomic_load_n(&bt->vm->unsettled_count, __ATOMIC_ACQUIRE) != 0, 0)) {
		lock_take(&bt->vm->lock);
		settle(bt);
		lock_release(&bt->vm->lock);
	}
}

void cache_activate(struct bt *bt)
{
	/* The first store has to be seen before anything is read: whoever does not see it acts before that. */
	__atomic_store_n(&bt->active, bt->seen, __ATOMIC_SEQ_CST);
	cache_sync(bt);
}

void cache_rest(struct bt *bt) { __atomic_store_n(&bt->active, NOT_ACTIVE, __ATOMIC_RELEASE); }

/* ---- regions ---- */

static bool region_full(const struct region *r)
{
	return r->code % REGION_SIZE + BLOCK_CODE_MAX > REGION_HOT ||
	       (r->cold - 1) % REGION_SIZE + BLOCK_COLD_MAX >= REGION_SIZE || r->blocks >= REGION_BLOCKS ||
	       r->marks + BLOCK_INSNS_MAX > REGION_MARKS || r->links + BLOCK_LINKS_MAX > REGION_LINKS;
}

/* Removes all blocks of a region; it can be used anew when all vCPUs have seen this. */
static void region_retire(struct bt_vm *vm, unsigned r)
{
	struct region *region = &vm->region[r];

	for (uint32_t i = r == 0; i < region->blocks; i++)
		if (!dead(vm_block(vm, r * REGION_BLOCKS + i))) {
			cache_remove(vm, r * REGION_BLOCKS + i);
			vm->stats.evicted_blocks++;
		}
	LOG(LOG_BT, "region %u evicted: %u blocks", r, region->blocks);
	vm->stats.evicted_regions++;
	region->retired = epoch_begin(vm, NOT_ACTIVE);
}

/* No block will be added to it. Its hot code ends in the middle of a large page, whose other half is rarely run: if both are
 * full it can be one. */
static void region_left(struct bt_vm *vm, unsigned r)
{
	const struct region *region = &vm->region[r];
	uint32_t hot_end = r * REGION_SIZE + REGION_HOT;

	if (region->code + BLOCK_CODE_MAX > hot_end && region->cold / CODE_MEMORY_LARGE > hot_end / CODE_MEMORY_LARGE)
		code_memory_full(&vm->cache, hot_end);
}

/* Room for a block, taking the lock. The next region is retired when the one before it begins to be
 * filled, so that vCPUs have long left it when it is needed. */
static void lock_with_room(struct bt *bt)
{
	struct bt_vm *vm = bt->vm;
	unsigned next;

	lock_take(&vm->lock);
	for (;;) {
		uint64_t wait = 0;

		next = (vm->current + 1) % vm->regions;
		if (vm->unsettled_count + 2 > UNSETTLED_MAX) {
			settle(bt);
			if (vm->unsettled_count + 2 > UNSETTLED_MAX)
				wait = vm->unsettled[0].epoch;
		}
		if (!wait && !region_full(&vm->region[vm->current]) && !code_pages_full(vm))
			return;
		if (!wait && seen_by_others(vm, bt) < vm->region[next].retired)
			wait = vm->region[next].retired;
		if (!wait)
			break;
		lock_release(&vm->lock);
		wait_for_others(bt, wait);
		lock_take(&vm->lock);
	}
	if (vm->region[next].retired) {
		for (uint32_t i = next == 0; i < vm->region[next].blocks; i++)
			code_page_release(vm, vm_block(vm, next * REGION_BLOCKS + i));
		region_reset(vm, next);
		return_drop_all(bt);
		__atomic_store_n(&vm->resets, vm->resets + 1, __ATOMIC_RELEASE);
	}
	region_left(vm, vm->current);
	vm->current = next;
	next = (next + 1) % vm->regions;
	if (vm->region[next].blocks > (next == 0))
		region_retire(vm, next);
}

/* ---- look-up ---- */

#define CANONICAL_LAST 0x7ffffffffull /* number of the lower half's last page */

bool cache_code_offset(struct bt *bt, uint64_t linear, uint64_t *offset)
{
	struct cpu *cpu = bt->cpu;
	uint8_t *hva = mmu_tlb_hit(cpu, linear, 1, bt_fetch_mode(cpu), TLB_FETCH);
	void *p = hva;

	if (!hva && (mmu_fill(cpu, linear, MMU_FETCH, &p) != X_OK || !p))
		return false;
	*offset = (uint64_t)((uint8_t *)p - cpu->memory->base);
	return true;
}

/* The block for this code, or NO_BLOCK. With or without the lock. */
static uint32_t look_up(struct bt *bt, uint32_t key, uint64_t linear, uint64_t offset)
{
	uint64_t rip = key_any_rip(key) ? bt->cpu->rip & ~PAGE_MASK : bt->cpu->rip, offset2;

	for (uint32_t id = __atomic_load_n(&bt->vm->hash[hash_of(offset, rip, key)], __ATOMIC_ACQUIRE); id;
	     id = __atomic_load_n(&bt_block(bt, id)->hash_next, __ATOMIC_ACQUIRE)) {
		const struct block *b = bt_block(bt, id);

		if (b->offset != offset || b->rip != rip || b->key != key)
			continue;
		if (b->len2 && (!cache_code_offset(bt, (linear | 0xfff) + 1, &offset2) || offset2 != b->offset2))
			continue;
		return id;
	}
	return NO_BLOCK;
}

uint32_t cache_find(struct bt *bt, uint32_t key)
{
	struct cpu *cpu = bt->cpu;
	uint64_t rip = cpu->rip, linear = rip, offset;
	uint32_t id;

	if ((key & KEY_CODE) != KEY_CODE64)
		linear = (uint32_t)(rip + cpu->seg[CS].base);
	else if (linear >> PAGE_SHIFT == CANONICAL_LAST) /* what falls off its end has been done, and is no branch that faults */
		return NO_BLOCK;
	if (!cache_code_offset(bt, linear, &offset))
		return NO_BLOCK;
	if (__builtin_expect(bt->write_count != 0, 0)) /* an A bit, in a page with code */
		take_writes(bt);
	bt->stats.lookups++;
	id = look_up(bt, key, linear, offset);
	if (id) {
		if (key_any_rip(key))
			page_bind(bt, bt_block(bt, id), linear & PAGE_MASK);
		return id;
	}
	cpu_fpu_leave(cpu); /* struct assignments end in libc's memcpy, which uses vector registers */
	lock_with_room(bt);
	id = look_up(bt, key, linear, offset); /* another vCPU may have been faster */
	if (!id)
		id = translate(bt, key, rip, linear, offset);
	lock_release(&bt->vm->lock);
	if (id && key_any_rip(key))
		page_bind(bt, bt_block(bt, id), linear & PAGE_MASK);
	return id;
}
