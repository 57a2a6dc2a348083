/*
 * The translation cache: blocks keyed by guest physical address, RIP and mode; chaining; branch caches;
 * invalidation when their bytes change; eviction, a region at a time.
 *
 * The cache's memory is mapped twice, once writable and once executable. RIP is part of the key so that
 * translations may have RIP-relative addresses and return addresses built in. What follows from address
 * translation (a branch to another page, an instruction across two) goes through the branch cache, which
 * TLB flushes empty, so a chain never outlives a mapping. vCPU's thread; no lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/bt/bt.h"
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

static void region_reset(struct bt *bt, unsigned r)
{
	bt->region[r] = (struct region){
		.code = r * REGION_SIZE + (r == 0 ? ROUTINES_SIZE : 0),
		.cold = r * REGION_SIZE + REGION_HOT,
		.blocks = r == 0, /* id 0 is NO_BLOCK */
	};
}

int cache_init(struct bt *bt)
{
	uint64_t pages = bt->memory->size >> PAGE_SHIFT;
	void *rw = mmap(NULL, CACHE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *rx;
	int err;

	if (rw == MAP_FAILED)
		goto fail;
	bt->rw = rw;
	rx = mremap(rw, 0, CACHE_SIZE, MREMAP_MAYMOVE); /* the same pages once more */
	if (rx == MAP_FAILED)
		goto fail;
	bt->rx = rx;
	if (mprotect(rx, CACHE_SIZE, PROT_READ | PROT_EXEC) < 0)
		goto fail;
	bt->blocks = anonymous(BLOCKS_SIZE);
	bt->marks = anonymous(MARKS_SIZE);
	bt->links = anonymous(LINKS_SIZE);
	bt->hash = anonymous(HASH_SIZE * sizeof(uint32_t));
	bt->page = anonymous(pages * sizeof(uint32_t));
	if (!bt->blocks || !bt->marks || !bt->links || !bt->hash || !bt->page)
		goto fail;
	for (unsigned r = 0; r < REGIONS; r++)
		region_reset(bt, r);
	bt->e.base = bt->rw;
	for (unsigned m = 0; m < BRANCH_MODES; m++)
		bt->branch_filled[m] = UINT32_MAX;
	branch_flush(bt, true);
	if (getenv("RINGSIDE_PERF_MAP")) {
		char name[64];

		snprintf(name, sizeof(name), "/tmp/perf-%d.map", (int)getpid());
		bt->perf_map = fopen(name, "we");
	}
	return 0;
fail:
	err = errno ? -errno : -ENOMEM;
	cache_free(bt);
	return err;
}

void cache_free(struct bt *bt)
{
	if (bt->rw)
		munmap(bt->rw, CACHE_SIZE);
	if (bt->rx)
		munmap(bt->rx, CACHE_SIZE);
	if (bt->blocks)
		munmap(bt->blocks, BLOCKS_SIZE);
	if (bt->marks)
		munmap(bt->marks, MARKS_SIZE);
	if (bt->links)
		munmap(bt->links, LINKS_SIZE);
	if (bt->hash)
		munmap(bt->hash, HASH_SIZE * sizeof(uint32_t));
	if (bt->page)
		munmap(bt->page, (bt->memory->size >> PAGE_SHIFT) * sizeof(uint32_t));
	if (bt->perf_map)
		fclose(bt->perf_map);
	bt->perf_map = NULL;
	bt->rw = bt->rx = NULL;
}

/* ---- branch caches ---- */

unsigned branch_mode(const struct bt *bt, uint32_t key)
{
	const struct segment *cs = &bt->cpu->seg[CS];

	if ((key & KEY_CODE) == KEY_CODE64)
		return KEY_TLB(key);
	if ((key & KEY_CODE) == KEY_CODE32 && !(key & KEY_REAL) && cs->base == 0)
		return 3 + KEY_TLB(key);
	return BRANCH_MODE_OTHER;
}

static void branch_empty(struct bt *bt, unsigned mode)
{
	uint64_t *entry = bt->cpu->branch_cache->mode[mode].minus_target;

	if (bt->branch_filled[mode] <= BRANCH_RECENT) {
		for (unsigned i = 0; i < bt->branch_filled[mode]; i++)
			entry[bt->branch_recent[mode][i]] = TLB_EMPTY;
	} else {
		unsigned long n = BRANCH_ENTRIES;

		__asm__ volatile("rep stosq" : "+D"(entry), "+c"(n) : "a"(TLB_EMPTY) : "memory");
	}
	bt->branch_filled[mode] = 0;
	bt->branch_local[mode] = false;
}

void branch_flush(struct bt *bt, bool global_too)
{
	for (unsigned m = 0; m < BRANCH_MODES; m++)
		if (bt->branch_filled[m] && (global_too || bt->branch_local[m])) {
			branch_empty(bt, m);
			bt->stats.branch_flushes++;
		}
	if (global_too)
		for (unsigned i = 0; i < 8; i++)
			bt->branch_pages[i] = 0;
}

static unsigned page_hash(uint64_t gva) { return (gva >> 12 ^ gva >> 21) & 511; }

void branch_flush_page(struct bt *bt, uint64_t gva)
{
	unsigned h = page_hash(gva), before = page_hash(gva - PAGE_SIZE); /* an instruction may reach over */

	if ((bt->branch_pages[h / 64] >> h % 64 & 1) || (bt->branch_pages[before / 64] >> before % 64 & 1))
		branch_flush(bt, true);
}

void branch_select(struct bt *bt, uint32_t key)
{
	unsigned mode = branch_mode(bt, key);
	uint64_t base = bt->cpu->seg[CS].base;

	if (__builtin_expect(bt->branch_key[mode] == key && (mode < 3 || bt->branch_base[mode] == base), 1))
		return;
	branch_empty(bt, mode);
	bt->branch_key[mode] = key;
	bt->branch_base[mode] = base;
}

static enum tlb_mode fetch_mode(const struct cpu *cpu)
{
	return cpu->cpl == 3 ? TLB_USER : cpu->cr4 & CR4_SMEP ? TLB_KERNEL : TLB_KERNEL_USER;
}

/* Is the page that was just fetched from global? If the TLB has forgotten: no. */
static bool fetched_global(const struct cpu *cpu, uint64_t linear)
{
	enum tlb_mode mode = fetch_mode(cpu);
	unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);

	return cpu->tlb->set[mode][TLB_FETCH].minus_page[i] == -(linear & PAGE_MASK) &&
	       (cpu->tlb->flags[mode][TLB_FETCH][i] & TLB_GLOBAL);
}

void branch_insert(struct bt *bt, uint32_t key, uint64_t rip, uint32_t id)
{
	unsigned mode = branch_mode(bt, key), i = branch_index(rip), h;
	uint64_t linear = (key & KEY_CODE) == KEY_CODE64 ? rip : (uint32_t)(rip + bt->cpu->seg[CS].base);

	if (bt->unchained)
		return;
	branch_select(bt, key);
	bt->cpu->branch_cache->mode[mode].minus_target[i] = -rip;
	bt->cpu->branch_cache->mode[mode].code[i] = (uint64_t)(uintptr_t)bt_host(bt, bt_block(bt, id)->entry);
	if (bt->branch_filled[mode] < BRANCH_RECENT)
		bt->branch_recent[mode][bt->branch_filled[mode]] = (uint16_t)i;
	if (bt->branch_filled[mode] <= BRANCH_RECENT)
		bt->branch_filled[mode]++;
	if (!fetched_global(bt->cpu, linear) || (bt_block(bt, id)->len2 && !fetched_global(bt->cpu, linear + PAGE_SIZE)))
		bt->branch_local[mode] = true;
	h = page_hash(linear);
	bt->branch_pages[h / 64] |= 1ull << h % 64;
}

/* The block is gone: so is what the branch caches know of it. */
static void branch_forget(struct bt *bt, const struct block *b)
{
	uint64_t host = (uint64_t)(uintptr_t)bt_host(bt, b->entry);
	unsigned i = branch_index(b->rip);

	for (unsigned m = 0; m < BRANCH_MODES; m++)
		if (bt->cpu->branch_cache->mode[m].code[i] == host)
			bt->cpu->branch_cache->mode[m].minus_target[i] = TLB_EMPTY;
}

/* ---- chaining ---- */

static struct link *link_at(const struct bt *bt, uint32_t number) { return &bt->links[number - 1]; }

/* The link jumps to its stub again. */
static void link_unpatch(struct bt *bt, struct link *l)
{
	if (l->kind == LINK_DIRECT)
		patch32(bt->rw, l->site, l->stub);
	l->to = NO_BLOCK;
}

void cache_chain(struct bt *bt, uint32_t from, unsigned link, uint32_t to)
{
	struct block *source = bt_block(bt, from), *target = bt_block(bt, to);
	uint32_t number = source->links + link + 1;
	struct link *l = link_at(bt, number);

	if (bt->unchained || l->kind != LINK_DIRECT || l->to || source->dead || target->dead)
		return;
	if (target->len2 || ((source->gpa ^ target->gpa) & PAGE_MASK) ||
	    source->rip - source->gpa != target->rip - target->gpa)
		return; /* another page, which may be mapped otherwise the next time */
	l->to = to;
	l->next = target->incoming;
	target->incoming = number;
	patch32(bt->rw, l->site, target->entry);
	bt->stats.chained++;
}

/* Takes a link out of the list of the block that it goes to. */
static void link_remove(struct bt *bt, uint32_t number)
{
	struct link *l = link_at(bt, number);
	uint32_t *p;

	if (!l->to)
		return;
	for (p = &bt_block(bt, l->to)->incoming; *p != number; p = &link_at(bt, *p)->next)
		if (!*p)
			return;
	*p = l->next;
	link_unpatch(bt, l);
	bt->stats.unchained++;
}

void cache_unchain_all_of(struct bt *bt, uint32_t id)
{
	struct block *b = bt_block(bt, id);

	for (unsigned i = 0; i < b->link_count; i++)
		link_remove(bt, b->links + i + 1);
}

/* Nobody chains to the block any more. */
static void unchain_incoming(struct bt *bt, struct block *b)
{
	for (uint32_t n = b->incoming, next; n; n = next) {
		next = link_at(bt, n)->next;
		link_unpatch(bt, link_at(bt, n));
		bt->stats.unchained++;
	}
	b->incoming = 0;
}

/* ---- tables ---- */

static uint32_t hash_of(uint64_t gpa, uint64_t rip, uint32_t key)
{
	uint64_t h = (gpa ^ rip << 20 ^ (uint64_t)key << 40) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(h >> 40) & (HASH_SIZE - 1);
}

static uint32_t *page_of(const struct bt *bt, uint64_t gpa)
{
	uint64_t offset = memory_offset(bt->memory, gpa, 1);

	return offset == MEMORY_NOT_RAM ? NULL : &bt->page[offset >> PAGE_SHIFT];
}

static unsigned page_slot(const struct block *b, uint64_t page) { return (b->gpa & PAGE_MASK) != page; }

static void page_insert(struct bt *bt, uint32_t id, uint64_t gpa)
{
	struct block *b = bt_block(bt, id);
	uint32_t *head = page_of(bt, gpa);

	b->page_next[page_slot(b, gpa & PAGE_MASK)] = *head;
	*head = id;
}

void cache_unwatch(struct bt *bt, uint64_t gpa)
{
	uint8_t *state = &bt->memory->state[memory_offset(bt->memory, gpa, 1) >> PAGE_SHIFT];

	if (!*page_of(bt, gpa))
		__atomic_fetch_and(state, (uint8_t)~PAGE_HAS_CODE, __ATOMIC_RELAXED);
}

static void page_remove(struct bt *bt, uint32_t id, uint64_t gpa)
{
	uint64_t page = gpa & PAGE_MASK;
	uint32_t *p = page_of(bt, page);

	while (*p && *p != id)
		p = &bt_block(bt, *p)->page_next[page_slot(bt_block(bt, *p), page)];
	if (*p)
		*p = bt_block(bt, id)->page_next[page_slot(bt_block(bt, id), page)];
	cache_unwatch(bt, page);
}

/* Takes a block out of everything; its memory stays until its region is evicted. */
void cache_remove(struct bt *bt, uint32_t id)
{
	struct block *b = bt_block(bt, id);
	uint32_t *p = &bt->hash[hash_of(b->gpa, b->rip, b->key)];

	if (b->dead)
		return;
	b->dead = true;
	bt->eviction++;
	while (*p && *p != id)
		p = &bt_block(bt, *p)->hash_next;
	if (*p)
		*p = b->hash_next;
	page_remove(bt, id, b->gpa);
	if (b->len2)
		page_remove(bt, id, b->gpa2);
	cache_unchain_all_of(bt, id);
	unchain_incoming(bt, b);
	branch_forget(bt, b);
}

static void region_evict(struct bt *bt, unsigned r)
{
	struct region *region = &bt->region[r];

	for (uint32_t i = r == 0; i < region->blocks; i++)
		if (!bt_block(bt, r * REGION_BLOCKS + i)->dead) {
			cache_remove(bt, r * REGION_BLOCKS + i);
			bt->stats.evicted_blocks++;
		}
	LOG(LOG_BT, "region %u evicted: %u blocks", r, region->blocks);
	bt->stats.evicted_regions++;
	bt->eviction++;
	region_reset(bt, r);
}

void cache_flush(struct bt *bt)
{
	for (unsigned r = 0; r < REGIONS; r++)
		region_evict(bt, r);
	bt->current = 0;
}

struct block *cache_begin(struct bt *bt)
{
	struct region *r = &bt->region[bt->current];
	struct block *b;

	if (r->code % REGION_SIZE + BLOCK_CODE_MAX > REGION_HOT ||
	    (r->cold - 1) % REGION_SIZE + BLOCK_COLD_MAX >= REGION_SIZE || r->blocks >= REGION_BLOCKS ||
	    r->marks + BLOCK_INSNS_MAX > REGION_MARKS || r->links + BLOCK_LINKS_MAX > REGION_LINKS) {
		bt->current = (bt->current + 1) % REGIONS;
		r = &bt->region[bt->current];
		if (r->blocks > (bt->current == 0))
			region_evict(bt, bt->current);
	}
	b = bt_block(bt, bt->current * REGION_BLOCKS + r->blocks);
	*b = (struct block){
		.begin = r->code,
		.cold_begin = r->cold,
		.marks = bt->current * REGION_MARKS + r->marks,
		.links = bt->current * REGION_LINKS + r->links,
	};
	bt->e.p = bt->rw + r->code;
	return b;
}

uint32_t cache_commit(struct bt *bt, struct block *b)
{
	struct region *r = &bt->region[bt->current];
	uint32_t id = bt->current * REGION_BLOCKS + r->blocks, *head = &bt->hash[hash_of(b->gpa, b->rip, b->key)];

	r->blocks++;
	r->marks += b->insns;
	r->links += b->link_count;
	r->code = (b->end + 15) & ~15u;
	r->cold = b->cold_end;
	b->hash_next = *head;
	*head = id;
	page_insert(bt, id, b->gpa);
	if (b->len2)
		page_insert(bt, id, b->gpa2);
	bt->stats.blocks++;
	bt->stats.insns += b->insns;
	bt->stats.host_bytes += b->end - b->begin;
	bt->stats.cold_bytes += b->cold_end - b->cold_begin;
	bt->stats.guest_bytes += b->len + b->len2;
	if (bt->perf_map) {
		fprintf(bt->perf_map, "%llx %x guest_%llx\n", (unsigned long long)(uintptr_t)bt_host(bt, b->begin),
			b->end - b->begin, (unsigned long long)b->rip);
		fflush(bt->perf_map);
	}
	return id;
}

uint32_t cache_block_at(const struct bt *bt, uint32_t offset)
{
	unsigned r = offset / REGION_SIZE;
	bool cold = offset % REGION_SIZE >= REGION_HOT;
	uint32_t low = r * REGION_BLOCKS + (r == 0), high = r * REGION_BLOCKS + bt->region[r].blocks;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct block *b = bt_block(bt, middle);

		if (offset < (cold ? b->cold_begin : b->begin))
			high = middle;
		else if (offset >= (cold ? b->cold_end : b->end))
			low = middle + 1;
		else
			return middle;
	}
	return NO_BLOCK;
}

/* ---- look-up ---- */

/* GPA of code at a linear address; false: not there, or not RAM. */
static bool code_gpa(struct bt *bt, uint64_t linear, uint64_t *gpa)
{
	struct cpu *cpu = bt->cpu;
	uint8_t *hva = mmu_tlb_hit(cpu, linear, 1, fetch_mode(cpu), TLB_FETCH);
	void *p = hva;

	if (!hva && (mmu_fill(cpu, linear, MMU_FETCH, &p) != X_OK || !p))
		return false;
	*gpa = memory_offset_to_gpa(cpu->memory, (uint64_t)((uint8_t *)p - cpu->memory->base));
	return true;
}

uint32_t cache_find(struct bt *bt, uint32_t key)
{
	struct cpu *cpu = bt->cpu;
	uint64_t rip = cpu->rip, linear = rip, gpa, gpa2;

	if ((key & KEY_CODE) != KEY_CODE64)
		linear = (uint32_t)(rip + cpu->seg[CS].base);
	if (!code_gpa(bt, linear, &gpa))
		return NO_BLOCK;
	bt->stats.lookups++;
	for (uint32_t id = bt->hash[hash_of(gpa, rip, key)]; id; id = bt_block(bt, id)->hash_next) {
		const struct block *b = bt_block(bt, id);

		if (b->gpa != gpa || b->rip != rip || b->key != key)
			continue;
		if (b->len2 && (!code_gpa(bt, (linear | 0xfff) + 1, &gpa2) || gpa2 != b->gpa2))
			continue;
		return id;
	}
	cpu_fpu_leave(cpu); /* struct assignments end in libc's memcpy, which uses vector registers */
	return translate(bt, key, rip, linear, gpa);
}

/* ---- invalidation ---- */

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len) { return a < b + b_len && b < a + a_len; }

void cache_invalidate(struct bt *bt, uint64_t gpa, uint64_t len)
{
	bt->stats.code_writes++;
	while (len) {
		uint64_t page = gpa & PAGE_MASK, n = page + PAGE_SIZE - gpa < len ? page + PAGE_SIZE - gpa : len;
		uint32_t *head = page_of(bt, gpa);

		for (uint32_t id = head ? *head : NO_BLOCK, next; id; id = next) {
			struct block *b = bt_block(bt, id);

			next = b->page_next[page_slot(b, page)];
			if (overlaps(gpa, n, b->gpa, b->len) || (b->len2 && overlaps(gpa, n, b->gpa2, b->len2))) {
				cache_remove(bt, id);
				bt->stats.invalidated++;
			}
		}
		gpa += n;
		len -= n;
	}
}
