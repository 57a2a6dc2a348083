/*
 * From guest code to a block: decoding ahead, its instructions in order, and the modes that translations depend on.
 *
 * A block goes on over conditional branches that are not taken and ends at any other branch, at what the
 * interpreter has to do, or at the end of its page. Up to the first store or register write of an
 * instruction's translation nothing of the guest has changed, so that a fault can start it over in the
 * interpreter, and a kick leave there. Runs under the cache's lock.
 */
#include "cpu/cpuid.h"
#include "engine/bt/bt.h"
#include "util/log.h"

#define LOOP_INSNS_MAX 16u     /* of a loop of which a block has several rounds */
#define LOOP_ROUNDS_MAX 8u
#define LOOP_BLOCK_INSNS_MAX 56u /* of all rounds */
#define INSN_CODE_MAX 448u /* of one instruction, its tails included */

/* ---- one instruction ---- */

#define VECTOR_FLAGS (INSN_X87 | INSN_MMX | INSN_SSE | INSN_AVX | INSN_AVX512)

/* Would raise nothing by its kind in this mode. */
static bool allowed(const struct translator *t, const struct insn *i)
{
	const struct insn_desc *d = insn_desc(i);

	if (!cpu_has(t->cpu, d->feature))
		return false;
	if (i->lock && !((d->flags & INSN_LOCKABLE) && i->operand[0].kind == OPERAND_MEM))
		return false;
	if ((d->flags & INSN_NOT_REAL) && (t->key & KEY_REAL))
		return false;
	if ((d->flags & INSN_PRIVILEGED) && !(t->key & KEY_CPL0))
		return false;
	if ((d->flags & (INSN_X87 | INSN_MMX)) && !(t->key & KEY_X87))
		return false;
	if ((d->flags & INSN_SSE) && !(t->key & KEY_SSE))
		return false;
	if ((d->flags & INSN_AVX) && !(t->key & KEY_AVX))
		return false;
	return !(d->flags & INSN_AVX512) || (t->key & KEY_AVX512);
}

static bool emit_insn(struct translator *t, const struct insn *i)
{
	if (!allowed(t, i))
		return false;
	switch (insn_desc(i)->xlate) {
	case XLATE_IDENT:
		if (i->id == INSN_LEA)
			return inline_lea(t, i);
		if (i->mode != 64 && (i->id == INSN_VZEROALL || i->id == INSN_VZEROUPPER))
			return false; /* registers 8 to 15 stay as they are */
		return ident_emit(t, i);
	case XLATE_INLINE:
		return inline_emit(t, i);
	default:
		return false;
	}
}

/* `in_shadow`: the one that follows STI. */
static void translate_insn(struct translator *t, const struct insn *i, bool in_shadow)
{
	unsigned tails = t->tail_count, links = t->b->link_count, ways = t->way_count, made = t->ways_made;
	int32_t owed = t->rsp_owed;
	uint8_t *p;

	access_begin_insn(t, i);
	p = t->e->p;
	if ((!in_shadow && access_owe(t)) || emit_insn(t, i)) { /* behind the shadow the block may be left */
		access_end_insn(t);
		if (insn_desc(i)->xlate == XLATE_IDENT)
			t->bt->stats.made.ident++;
		else
			t->bt->stats.made.inlined++;
		t->segment_insns++;
		return;
	}
	t->e->p = p;
	t->rsp_owed = owed;
	access_stack_settle(t);
	t->commit = emit_offset(t->e);
	t->tail_count = tails;
	t->way_count = ways;
	if (t->ways_made != made) { /* some are gone with the code */
		t->way_count = 0;
		t->too_far = true;
	}
	t->b->link_count = (uint8_t)links;
	t->bt->stats.made.callout++;
	emit_callout(t, i, in_shadow || callout_ends(t, i));
}

/* ---- a block ---- */

static bool ends_block(struct translator *t, const struct insn *i)
{
	const struct insn_desc *d = insn_desc(i);

	if (d->xlate == XLATE_CALLOUT)
		return t->bt->unchained || callout_ends(t, i);
	return (d->flags & INSN_BRANCH) && !(d->flags & INSN_CONDITIONAL);
}

/* Decodes ahead. The first instruction alone may reach into the next page: its bytes are in `across`. */
static void decode_ahead(struct translator *t, const uint8_t *code, unsigned avail, unsigned bits, bool alone)
{
	unsigned offset = 0, branches = 0;
	uint64_t end = code64(t) ? UINT64_MAX : bits == 16 ? 0x10000 : 0x100000000ull;

	while (t->count < BLOCK_INSNS_MAX && branches < BLOCK_BRANCHES_MAX) {
		struct insn *i = &t->insn[t->count];

		if (offset >= avail || insn_decode(i, code + offset, avail - offset, bits) != DECODE_OK)
			return;
		if (t->b->rip + offset + i->len > end && !code64(t))
			return;
		t->offset[t->count++] = (uint16_t)offset;
		offset += i->len;
		t->b->fpu |= (insn_desc(i)->flags & VECTOR_FLAGS) != 0;
		branches += (insn_desc(i)->flags & INSN_BRANCH) || i->id == INSN_STI;
		if (ends_block(t, i) || alone)
			return;
	}
}

/* The size of the loop that the block begins with: up to a conditional branch to its beginning. 0: none. */
static unsigned loop_size(const struct translator *t, unsigned *branches)
{
	*branches = 0;
	for (unsigned n = 0; n < t->count && n < LOOP_INSNS_MAX; n++) {
		const struct insn *i = &t->insn[n];

		if (insn_desc(i)->xlate == XLATE_CALLOUT || i->id == INSN_STI)
			return 0;
		*branches += (insn_desc(i)->flags & INSN_BRANCH) != 0;
		if (i->id == INSN_JCC && (uint64_t)i->imm + t->offset[n] + i->len == 0)
			return n + 1;
	}
	return 0;
}

/* A block that begins with a loop gets several rounds of it, and nothing else, so that they share look-ups.
 * False: they would not, and the block has to be decoded again. */
static bool unroll(struct translator *t)
{
	unsigned branches, size = loop_size(t, &branches), rounds;

	if (!size || !code64(t) || (t->b->key & KEY_ONE_BY_ONE) || t->b->len2)
		return true;
	rounds = BLOCK_BRANCHES_MAX / branches;
	if (rounds > LOOP_ROUNDS_MAX)
		rounds = LOOP_ROUNDS_MAX;
	if (rounds > LOOP_BLOCK_INSNS_MAX / size)
		rounds = LOOP_BLOCK_INSNS_MAX / size;
	rounds = 1u << (31 - __builtin_clz(rounds)); /* spans that divide a page cross into no other */
	t->count = size * rounds;
	t->b->fpu = false;
	for (unsigned n = 0; n < t->count; n++) {
		t->insn[n] = t->insn[n % size];
		t->offset[n] = t->offset[n % size];
		t->again[n] = n % size == size - 1 && n + 1 < t->count;
		t->b->fpu |= (insn_desc(&t->insn[n])->flags & VECTOR_FLAGS) != 0;
	}
	access_plan(t);
	if (access_shared_beyond(t, size))
		return true;
	__builtin_memset(t->again, 0, sizeof(t->again));
	t->count = 0;
	return false;
}

/* The first instruction does not end in its page. */
static bool decode_across(struct translator *t, uint64_t linear, unsigned bits, unsigned first)
{
	struct cpu *cpu = t->cpu;
	struct mmu_translation second;
	uint64_t offset;
	unsigned got;

	if (mmu_translate(cpu, (linear | 0xfff) + 1, MMU_FETCH, &second) != X_OK ||
	    (offset = memory_offset(t->bt->memory, second.gpa, PAGE_SIZE)) == MEMORY_NOT_RAM)
		return false;
	cache_watch(t->bt, offset);
	if (mmu_fetch(cpu, linear, t->bytes, INSN_MAX_LEN, &got) != X_OK)
		return false;
	decode_ahead(t, t->bytes, got, bits, true);
	if (!t->count || t->insn[0].len <= first)
		return false;
	t->b->offset2 = offset;
	t->b->len2 = (uint16_t)(t->insn[0].len - first);
	return true;
}

/* counter += what will be patched in; keeps flags. */
static uint8_t *emit_counter(struct emitter *e, int32_t counter)
{
	uint8_t *amount;

	emit_load(e, RCX, mem_gs(counter));
	emit_lea(e, RCX, mem_at(RCX, INT32_MAX));
	amount = e->p - 4;
	emit_store(e, RCX, mem_gs(counter));
	return amount;
}

static void segment_begin(struct translator *t)
{
	t->segment_insns = t->segment_accesses = 0;
	if (!t->cpu->counting)
		return;
	t->count_insns = emit_counter(t->e, G(insns));
	t->count_accesses = emit_counter(t->e, G(tlb_accesses));
}

static void segment_end(struct translator *t)
{
	uint32_t insns = t->segment_insns, accesses = t->segment_accesses;

	if (!t->cpu->counting)
		return;
	__builtin_memcpy(t->count_insns, &insns, 4);
	__builtin_memcpy(t->count_accesses, &accesses, 4);
}

/* From the beginning, as planned. `near`: branches to tails may wait for the end of the block; `too_far` says whether one could not. */
static void emit_block(struct translator *t, bool near)
{
	struct emitter *e = t->e;
	struct block *b = t->b;
	bool window = false;

	t->rcx_group = t->r10_group = GROUP_NONE;
	t->tail_count = t->way_count = t->callout_count = b->link_count = 0;
	t->near = near;
	t->ended = t->too_far = false;
	t->rsp_owed = 0;
	t->quiet = 0;
	b->shadowed = 0;
	e->p = e->base + b->begin;
	if (b->fpu) { /* vector state is brought in where it is first needed */
		struct tail *tail = add_tail(t, TAIL_LEAVE);
		tail->leave = LEAVE_CODE(LEAVE_FPU, 0, 0);
		tail->site = emit_jmp32(e);
		b->entry = emit_offset(e);
		emit_load_byte(e, RCX, mem_gs(G(fpu_live)));
		emit8(e, 0xe3); /* jrcxz, back to what leaves */
		emit8(e, (unsigned)(b->begin - (emit_offset(e) + 1)));
	} else {
		b->entry = b->begin;
	}
	segment_begin(t);
	for (t->insn_index = 0; t->insn_index < t->count && !t->ended; t->insn_index++) {
		const struct insn *i = &t->insn[t->insn_index];

		t->rip = wrap_rip(t, b->rip + t->offset[t->insn_index]);
		if (emit_offset(e) - b->begin + t->tail_count * 96 + INSN_CODE_MAX * 2 > BLOCK_CODE_MAX && !window &&
		    t->insn_index >= t->quiet) {
			t->count = t->insn_index;
			break;
		}
		emit_ways(t, WAY_ROOM_INSN);
		struct mark *mark = &t->bt->marks[b->marks + t->insn_index];
		if (!access_may_owe(t, t->insn_index))
			access_stack_settle(t);
		bool unseen = t->rsp_owed || t->insn_index < t->quiet;
		t->commit = emit_offset(e);
		*mark = (struct mark){ .host = (uint16_t)(t->commit - b->entry), .guest = t->offset[t->insn_index] };
		if (window)
			b->shadowed |= 1ull << t->insn_index;
		translate_insn(t, i, window);
		mark->commit = unseen ? (uint16_t)(mark->host - 1) : (uint16_t)(t->commit - b->entry);
		if (window && !t->ended) {
			access_release_rcx(t);
			inline_after_sti(t);
		}
		window = i->id == INSN_STI && !t->ended;
		if ((insn_desc(i)->flags & INSN_BRANCH) && !t->ended) {
			segment_end(t);
			segment_begin(t);
		}
	}
	segment_end(t);
	b->insns = (uint16_t)t->insn_index;
	unsigned last = t->insn_index - 1, end = 0;
	for (unsigned n = 0; n <= last; n++)
		if (t->offset[n] + t->insn[n].len > end)
			end = t->offset[n] + t->insn[n].len;
	b->len = (uint16_t)(end - b->len2);
	t->insn_index = last;
	access_stack_settle(t);
	if (!t->ended)
		emit_goto(t, wrap_rip(t, b->rip + t->offset[last] + t->insn[last].len), t->key);
	emit_tails(t);
}

uint32_t translate(struct bt *bt, uint32_t key, uint64_t rip, uint64_t linear, uint64_t offset)
{
	static __thread struct translator translator;
	struct translator *t = &translator;
	unsigned first = (unsigned)(PAGE_SIZE - (offset & ~PAGE_MASK)), count;
	unsigned avail = first < BLOCK_INSNS_MAX * INSN_MAX_LEN ? first : BLOCK_INSNS_MAX * INSN_MAX_LEN;
	struct bt_made made;
	uint32_t id;

	t->bt = bt;
	t->cpu = bt->cpu;
	t->e = &bt->e;
	t->linear = linear & PAGE_MASK;
	t->key = key & ~(uint32_t)KEY_ONE_BY_ONE;
	t->count = 0;
	__builtin_memset(t->again, 0, sizeof(t->again));
	t->b = cache_begin(bt);
	if (key_any_rip(key)) {
		t->b->code_page = (uint16_t)cache_code_page(bt->vm, offset);
		if (!t->b->code_page)
			return NO_BLOCK;
		rip &= ~PAGE_MASK;
	}
	t->b->rip = rip;
	t->b->offset = offset;
	t->b->key = key;
	t->id = (uint32_t)(t->b - bt->blocks);
	cache_watch(bt, offset);
	__builtin_memcpy(t->bytes, bt->memory->base + offset, avail);
	decode_ahead(t, t->bytes, avail, KEY_CODE_BITS(key), false);
	if (!t->count && (first >= INSN_MAX_LEN || !decode_across(t, linear, KEY_CODE_BITS(key), first))) {
		cache_unwatch(bt->vm, offset);
		cache_code_page_unused(bt->vm, offset);
		return NO_BLOCK;
	}
	if (!unroll(t))
		decode_ahead(t, t->bytes, avail, KEY_CODE_BITS(key), false);
	access_plan(t);
	count = t->count;
	made = bt->stats.made;
	emit_block(t, true);
	if (t->too_far) {
		bt->stats.made = made;
		t->count = count; /* of which not all may have been made */
		access_plan(t);
		emit_block(t, false);
	}
	t->b->sum = cache_sum(t->bytes, t->b->len, 0);
	if (t->b->len2)
		t->b->sum = cache_sum(t->bytes + t->b->len, t->b->len2, t->b->sum);
	id = cache_commit(bt, t->b);
	_Static_assert(TAILS_MAX * 32 + GROUPS_MAX * 96 + CALLOUTS_MAX * (sizeof(struct callout) + 32) + 160 +
				       (BLOCK_BRANCHES_MAX + 1) * 80 + 448 <= BLOCK_COLD_MAX,
		       "no other tail is longer than 32 bytes, a group's than 128, the one of a hint than 192, of a far jump than 112, of a far CALL than 480");
	LOG(LOG_BT, "block %u at %#llx offset %#llx key %#x: %u instructions, %u bytes to %u", id, (unsigned long long)linear,
	    (unsigned long long)offset, key, t->b->insns, t->b->len, t->b->end - t->b->begin);
	return id;
}

/* ---- modes ---- */

static bool flat(const struct segment *s)
{
	return s->base == 0 && s->limit == UINT32_MAX &&
	       (s->attr & (SEG_P | SEG_S | SEG_CODE | SEG_EXPAND_DOWN | SEG_WRITABLE)) == (SEG_P | SEG_S | SEG_WRITABLE);
}

static bool big(const struct segment *s)
{
	return s->limit == UINT32_MAX &&
	       (s->attr & (SEG_P | SEG_S | SEG_CODE | SEG_EXPAND_DOWN | SEG_WRITABLE)) == (SEG_P | SEG_S | SEG_WRITABLE);
}

static uint32_t segment_key(const struct cpu *cpu)
{
	const struct segment *cs = &cpu->seg[CS];
	unsigned code = cs->attr & SEG_DB ? KEY_CODE32 : KEY_CODE16, stack = cpu->seg[SS].attr & SEG_DB ? 1 : 0;
	uint32_t key = code | stack << KEY_STACK_SHIFT;

	if (cpu->mode == MODE_LONG)
		return KEY_CODE64 | 2 << KEY_STACK_SHIFT | KEY_FLAT_DS | KEY_FLAT_ES | KEY_FLAT_SS | KEY_BIG_FS | KEY_BIG_GS;
	if (code == KEY_CODE32 ? cs->limit != UINT32_MAX : cs->limit < 0xffff || cpu->rip > 0xffff)
		key |= KEY_INTERPRET;
	if (cs->base)
		key |= KEY_CS_BASE;
	if (cpu_real_or_v86(cpu))
		key |= KEY_REAL | (cpu->mode == MODE_V8086 ? KEY_V86 : 0);
	if (flat(&cpu->seg[DS]))
		key |= KEY_FLAT_DS;
	if (flat(&cpu->seg[ES]))
		key |= KEY_FLAT_ES;
	if (flat(&cpu->seg[SS]))
		key |= KEY_FLAT_SS;
	if (big(&cpu->seg[FS]))
		key |= KEY_BIG_FS;
	/* A 32-bit kernel leaves its program's GS there, and threads of its own have none: not two translations for that. */
	if (big(&cpu->seg[GS]) && cpu->cpl)
		key |= KEY_BIG_GS;
	return key;
}

static uint32_t vector_key(const struct cpu *cpu)
{
	uint64_t avx = XCR0_SSE | XCR0_AVX, avx512 = avx | XCR0_AVX512;
	bool ts = cpu->cr0 & CR0_TS;
	uint32_t key = 0;

	if (ts)
		return 0;
	if (!(cpu->cr0 & CR0_EM))
		key |= KEY_X87;
	if (!(cpu->cr0 & CR0_EM) && (cpu->cr4 & CR4_OSFXSR))
		key |= KEY_SSE;
	if (!cpu_real_or_v86(cpu) && (cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & avx) == avx)
		key |= KEY_AVX;
	if (!cpu_real_or_v86(cpu) && (cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & avx512) == avx512)
		key |= KEY_AVX512;
	return key;
}

uint32_t bt_key(const struct cpu *cpu)
{
	uint32_t key = segment_key(cpu) | vector_key(cpu) | (uint32_t)cpu->tlb_mode << KEY_TLB_SHIFT;

	if (cpu->cpl == 0)
		key |= KEY_CPL0;
	if (cpu->cr4 & CR4_SMAP)
		key |= KEY_SMAP;
	if (cpu->cr4 & CR4_FSGSBASE)
		key |= KEY_FSGSBASE;
	if ((cpu->cr4 & CR4_TSD) && cpu->cpl)
		key |= KEY_TSD;
	if ((cpu->rflags & RFLAGS_AC) && cpu->cpl == 3) /* alignment may be checked */
		key |= KEY_INTERPRET;
	return key;
}
