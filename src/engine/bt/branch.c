/*
 * Branch caches: where a vCPU's indirect branches, and those into other pages, go; and at which linear address it runs
 * each page of code that is translated for any (key_any_rip). Both follow from its address translation, and both are
 * emptied when that changes, but for what they have of address spaces with a PCID: that is put away when another one is
 * loaded, and brought back with it if the TLB's is (mmu_switch).
 *
 * On the vCPU's thread, but for branch_forget, which any may call with vm->lock.
 */
#include "engine/bt/bt.h"

#include "util/pages.h"

#define NO_KEY UINT32_MAX

unsigned branch_mode(uint32_t key)
{
	if ((key & KEY_CODE) == KEY_CODE64)
		return KEY_TLB(key);
	/* A 32-bit kernel runs without its FS at the begin and the end of each visit: that shall empty nothing. */
	if ((key & KEY_CODE) == KEY_CODE32 && !(key & (KEY_REAL | KEY_CS_BASE)) && (key & (KEY_CPL0 | KEY_BIG_FS)) != KEY_CPL0)
		return 3 + KEY_TLB(key);
	return BRANCH_MODE_OTHER;
}

static struct branch_context *context_of(struct bt *bt) { return &bt->context[bt->current]; }

/* branch_forget may do the same at the same time. */
static void entry_empty(const struct bt *bt, struct branch_entry *entry)
{
	__atomic_store_n(&entry->minus_target, bt->vm->branch_empty, __ATOMIC_RELAXED);
}

static void branch_empty(struct bt *bt, unsigned mode)
{
	struct branch_entry *entry = bt->cpu->branch_cache->mode[mode].entry;
	const struct branch_context *c = context_of(bt);

	if (bt->branch_filled[mode] <= BRANCH_RECENT)
		for (unsigned i = 0; i < bt->branch_filled[mode]; i++)
			entry_empty(bt, &entry[mode == TLB_USER ? c->entry[i].index : bt->branch_recent[mode][i]]);
	else
		for (unsigned i = 0; i < BRANCH_ENTRIES; i++)
			entry_empty(bt, &entry[i]);
	bt->branch_filled[mode] = 0;
	bt->branch_local[mode] = false;
}

void branch_init(struct bt *bt)
{
	struct branch_cache *cache = bt->cpu->branch_cache;

	/* Emptied when code of their mode is first run (select_one): many guests never have some of the modes. */
	for (unsigned m = 0; m < BRANCH_MODES; m++) {
		bt->branch_key[m] = NO_KEY;
		bt->branch_filled[m] = UINT32_MAX;
	}
	for (unsigned m = 0; m < RETURN_STACKS; m++)
		branch_empty(bt, m);
	pages_make_fresh(cache->page, sizeof(cache->page));
	pages_make_fresh(cache->hint, sizeof(cache->hint));
	branch_flush(bt, true);
}

/* No page of code has an address any more. */
static void pages_empty(struct bt *bt)
{
	struct code_page *page = bt->cpu->branch_cache->page;
	uint32_t used = __atomic_load_n(&bt->vm->code_pages_used, __ATOMIC_RELAXED);

	if (bt->pages_filled <= BRANCH_RECENT)
		for (unsigned i = 0; i < bt->pages_filled; i++)
			__atomic_store_n(&page[context_of(bt)->page[i].index].linear_plus_1, 0, __ATOMIC_RELAXED);
	else
		for (unsigned i = 0; i < used; i++)
			__atomic_store_n(&page[i].linear_plus_1, 0, __ATOMIC_RELAXED);
	bt->pages_filled = 0;
	bt->pages_local = bt->pages_global = false;
}

void branch_flush(struct bt *bt, bool global_too)
{
	bool pages = global_too || bt->pages_local;
	const struct tlb *tlb = bt->cpu->tlb;

	return_drop_all(bt);
	bt->generation = tlb->context[tlb->current].generation;
	for (unsigned m = 0; m < BRANCH_MODES; m++)
		if (bt->branch_key[m] != NO_KEY && bt->branch_filled[m] && (global_too || bt->branch_local[m] || (m == TLB_USER && pages))) {
			branch_empty(bt, m);
			bt->stats.branch_flushes++;
		}
	if (pages)
		pages_empty(bt);
	if (global_too)
		for (unsigned i = 0; i < BRANCH_PAGES / 64; i++)
			bt->branch_pages[i] = 0;
}

static unsigned page_hash(uint64_t gva)
{
	return (unsigned)((gva >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 40) & (BRANCH_PAGES - 1);
}

void branch_flush_page(struct bt *bt, uint64_t gva)
{
	unsigned h = page_hash(gva), before = page_hash(gva - PAGE_SIZE); /* an instruction may reach over */

	return_drop_all(bt);
	if ((bt->branch_pages[h / 64] >> h % 64 & 1) || (bt->branch_pages[before / 64] >> before % 64 & 1))
		branch_flush(bt, true);
}

static void select_one(struct bt *bt, uint32_t key)
{
	unsigned mode = branch_mode(key);
	uint64_t base = bt->cpu->seg[CS].base;

	if (__builtin_expect(bt->branch_key[mode] == key && (mode < 3 || bt->branch_base[mode] == base), 1))
		return;
	branch_empty(bt, mode);
	if (mode < RETURN_STACKS)
		return_drop(bt, mode);
	bt->branch_key[mode] = key;
	bt->branch_base[mode] = base;
}

void branch_select(struct bt *bt, uint32_t key)
{
	select_one(bt, key);
	if (KEY_TLB(key) != TLB_USER && branch_mode(key) != BRANCH_MODE_OTHER) /* STAC and CLAC lead from one to the other */
		select_one(bt, key ^ (uint32_t)(TLB_KERNEL ^ TLB_KERNEL_USER) << KEY_TLB_SHIFT);
	return_select(bt, KEY_TLB(key));
}

/* Is the page that was just fetched from global? If the TLB has forgotten: no. */
static bool fetched_global(const struct cpu *cpu, uint64_t linear)
{
	enum tlb_mode mode = bt_fetch_mode(cpu);
	unsigned i = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);

	return cpu->tlb->set[mode][TLB_FETCH].minus_page[i] == -(linear & PAGE_MASK) &&
	       (cpu->tlb->flags[mode][TLB_FETCH][i] & TLB_GLOBAL);
}

static void note_page(struct bt *bt, uint64_t linear)
{
	unsigned h = page_hash(linear);

	bt->branch_pages[h / 64] |= 1ull << h % 64;
}

void page_bind(struct bt *bt, const struct block *b, uint64_t linear)
{
	struct code_page *page = &bt->cpu->branch_cache->page[b->code_page];
	uint64_t bound = __atomic_load_n(&page->linear_plus_1, __ATOMIC_RELAXED);

	if (__builtin_expect(bound == linear + 1, 1))
		return;
	if (bound) { /* it is at two addresses */
		branch_empty(bt, TLB_USER);
		return_drop(bt, TLB_USER);
	}
	__atomic_store_n(&page->linear_plus_1, linear + 1, __ATOMIC_SEQ_CST);
	page->minus_linear = -linear;
	if (bt->pages_filled < BRANCH_RECENT)
		context_of(bt)->page[bt->pages_filled] = (struct saved_page){ linear, b->code_page };
	if (bt->pages_filled <= BRANCH_RECENT)
		bt->pages_filled++;
	if (fetched_global(bt->cpu, linear))
		bt->pages_global = true;
	else
		bt->pages_local = true;
	note_page(bt, linear);
}

/* Where a target that is not there is entered. The two places are used in turn once both are taken. */
static unsigned branch_place(struct bt *bt, unsigned mode, uint64_t rip)
{
	const struct branch_entry *entry = bt->cpu->branch_cache->mode[mode].entry;
	unsigned first = branch_index(rip), second = branch_second_index(rip);
	uint64_t in_first = __atomic_load_n(&entry[first].minus_target, __ATOMIC_RELAXED);
	uint64_t in_second = __atomic_load_n(&entry[second].minus_target, __ATOMIC_RELAXED);

	if (mode >= RETURN_STACKS || in_first == bt->vm->branch_empty || in_first == -rip)
		return first;
	return in_second == bt->vm->branch_empty || (bt->stats.branch_misses & 1) ? second : first;
}

void branch_insert(struct bt *bt, uint32_t key, uint64_t rip, uint32_t id)
{
	unsigned mode = branch_mode(key), i = branch_place(bt, mode, rip);
	uint64_t linear = (key & KEY_CODE) == KEY_CODE64 ? rip : (uint32_t)(rip + bt->cpu->seg[CS].base);
	struct branch_entry *entry = &bt->cpu->branch_cache->mode[mode].entry[i];
	bool global;

	if (bt->unchained)
		return;
	branch_select(bt, key);
	entry_empty(bt, entry);
	__atomic_store_n(&entry->code, (uint64_t)(uintptr_t)bt_host(bt, bt_block(bt, id)->entry), __ATOMIC_RELEASE);
	__atomic_store_n(&entry->minus_target, -rip, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&bt_block(bt, id)->dead, __ATOMIC_SEQ_CST)) /* or branch_forget has seen the entry */
		entry_empty(bt, entry);
	global = fetched_global(bt->cpu, linear) && (!bt_block(bt, id)->len2 || fetched_global(bt->cpu, linear + PAGE_SIZE));
	if (bt->branch_filled[mode] < BRANCH_RECENT && mode == TLB_USER)
		context_of(bt)->entry[bt->branch_filled[mode]] = (struct saved_branch){
			.minus_target = -rip, .code = entry->code, .index = (uint16_t)i,
			.global = global || bt_block(bt, id)->len2,
		};
	else if (bt->branch_filled[mode] < BRANCH_RECENT)
		bt->branch_recent[mode][bt->branch_filled[mode]] = (uint16_t)i;
	if (bt->branch_filled[mode] <= BRANCH_RECENT)
		bt->branch_filled[mode]++;
	if (!global)
		bt->branch_local[mode] = true;
	note_page(bt, linear);
}

const void *branch_find(struct bt *bt, uint32_t key, uint64_t rip)
{
	unsigned mode = branch_mode(key);
	struct branch_entry *entry = &bt->cpu->branch_cache->mode[mode].entry[branch_index(rip)];

	if (bt->unchained)
		return NULL;
	branch_select(bt, key);
	if (__atomic_load_n(&entry->minus_target, __ATOMIC_ACQUIRE) != -rip && mode < RETURN_STACKS)
		entry = &bt->cpu->branch_cache->mode[mode].entry[branch_second_index(rip)];
	if (__atomic_load_n(&entry->minus_target, __ATOMIC_ACQUIRE) != -rip)
		return NULL;
	return (const void *)(uintptr_t)__atomic_load_n(&entry->code, __ATOMIC_ACQUIRE);
}

void branch_forget(const struct bt_vm *vm, const struct block *b)
{
	uint64_t host = (uint64_t)(uintptr_t)(vm->rx + b->entry), rip = b->rip;

	for (unsigned n = 0; n < vm->vcpus; n++) {
		if (!vm->vcpu[n])
			continue;
		struct branch_cache *cache = vm->vcpu[n]->cpu->branch_cache;

		if (b->code_page)
			rip = b->rip + __atomic_load_n(&cache->page[b->code_page].linear_plus_1, __ATOMIC_SEQ_CST) - 1;
		for (unsigned m = 0; m < BRANCH_MODES; m++)
			for (unsigned p = 0; p < 2; p++) {
				struct branch_entry *entry = &cache->mode[m].entry[p ? branch_second_index(rip) : branch_index(rip)];

				if (__atomic_load_n(&entry->code, __ATOMIC_SEQ_CST) == host)
					__atomic_store_n(&entry->minus_target, vm->branch_empty, __ATOMIC_SEQ_CST);
			}
	}
}

void branch_forget_page(struct bt_vm *vm, unsigned index)
{
	__atomic_fetch_add(&vm->code_page_reuses, 1, __ATOMIC_SEQ_CST); /* as removals */
	for (unsigned n = 0; n < vm->vcpus; n++)
		if (vm->vcpu[n])
			__atomic_store_n(&vm->vcpu[n]->cpu->branch_cache->page[index].linear_plus_1, 0, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&vm->code_page_reuses, 1, __ATOMIC_SEQ_CST);
}

/* ---- address spaces ---- */

/* What is still true of the context that has been in use stays in its lists; all of it leaves the tables. */
static void context_put_away(struct bt *bt)
{
	struct branch_entry *entry = bt->cpu->branch_cache->mode[TLB_USER].entry;
	struct code_page *page = bt->cpu->branch_cache->page;
	struct branch_context *c = context_of(bt);
	uint32_t filled = bt->branch_filled[TLB_USER], pages = bt->pages_filled;

	/* so that all that is put away was true then, of blocks that are removed later */
	c->removals = __atomic_load_n(&bt->vm->removals, __ATOMIC_SEQ_CST);
	c->reuses = __atomic_load_n(&bt->vm->code_page_reuses, __ATOMIC_SEQ_CST);
	c->generation = bt->generation;
	c->key = bt->branch_key[TLB_USER];
	c->filled = c->pages_filled = 0;
	/* INVLPG of a global page counts here too, wherever it is done */
	if (pages <= BRANCH_RECENT && filled <= BRANCH_RECENT && !bt->pages_global) {
		for (unsigned i = 0; i < filled; i++) {
			struct saved_branch s = c->entry[i];

			if (__atomic_load_n(&entry[s.index].minus_target, __ATOMIC_SEQ_CST) != s.minus_target ||
			    entry[s.index].code != s.code)
				continue; /* gone, or what came in its place is further on in the list */
			if (!s.global)
				c->entry[c->filled++] = s;
			entry_empty(bt, &entry[s.index]);
		}
		for (unsigned i = 0; i < pages; i++) {
			struct saved_page s = c->page[i];

			if (__atomic_load_n(&page[s.index].linear_plus_1, __ATOMIC_RELAXED) != s.linear + 1)
				continue; /* it has been at two addresses: the other one is further on */
			c->page[c->pages_filled++] = s;
			__atomic_store_n(&page[s.index].linear_plus_1, 0, __ATOMIC_RELAXED);
		}
		bt->branch_filled[TLB_USER] = bt->pages_filled = 0;
	}
	branch_empty(bt, TLB_USER);
	pages_empty(bt);
}

/* What the context in use has put away is true again, unless code has been removed since. */
static void context_bring_back(struct bt *bt)
{
	struct branch_entry *entry = bt->cpu->branch_cache->mode[TLB_USER].entry;
	struct code_page *page = bt->cpu->branch_cache->page;
	struct branch_context *c = context_of(bt);

	if (c->generation != bt->generation || c->key != bt->branch_key[TLB_USER])
		return;
	for (unsigned i = 0; i < c->pages_filled; i++) {
		__atomic_store_n(&page[c->page[i].index].linear_plus_1, c->page[i].linear + 1, __ATOMIC_SEQ_CST);
		page[c->page[i].index].minus_linear = -c->page[i].linear;
		note_page(bt, c->page[i].linear);
	}
	for (unsigned i = 0; i < c->filled; i++) {
		const struct saved_branch *s = &c->entry[i];

		__atomic_store_n(&entry[s->index].code, s->code, __ATOMIC_RELEASE);
		__atomic_store_n(&entry[s->index].minus_target, s->minus_target, __ATOMIC_RELEASE);
	}
	bt->branch_filled[TLB_USER] = c->filled;
	bt->branch_local[TLB_USER] = c->filled != 0;
	bt->pages_filled = c->pages_filled;
	bt->pages_local = c->pages_filled != 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* Of a removal that begins from here on branch_forget sees the entries. One that was under way when they were put
	 * away, and still is, may have passed by meanwhile. */
	if ((c->removals & 1) || __atomic_load_n(&bt->vm->removals, __ATOMIC_SEQ_CST) != c->removals)
		branch_empty(bt, TLB_USER);
	/* Nor are addresses of pages brought back for others that have their index now. */
	if ((c->reuses & 1) || __atomic_load_n(&bt->vm->code_page_reuses, __ATOMIC_SEQ_CST) != c->reuses) {
		branch_empty(bt, TLB_USER);
		pages_empty(bt);
	}
}

void branch_switch(struct bt *bt)
{
	const struct tlb *tlb = bt->cpu->tlb;
	bool had = bt->branch_filled[TLB_USER];

	return_drop_all(bt);
	for (unsigned m = 0; m < BRANCH_MODES; m++)
		if (m != TLB_USER && bt->branch_filled[m] && bt->branch_local[m]) {
			branch_empty(bt, m);
			bt->stats.branch_flushes++;
		}
	context_put_away(bt);
	bt->current = tlb->current;
	bt->generation = tlb->context[tlb->current].generation;
	context_bring_back(bt);
	bt->stats.branch_flushes += had && !bt->branch_filled[TLB_USER];
}
