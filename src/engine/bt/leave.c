/*
 * Ways out of a block: call-outs, links to other blocks, branches and calls through the branch cache, and its tails.
 *
 * Part of translation: with the cache's lock.
 * Tails, behind the block's straight line: TLB misses, unchained jumps, everything not expected.
 */
#include "engine/bt/bt.h"

struct tail *add_tail(struct translator *t, unsigned kind)
{
	struct tail *tail = &t->tail[t->tail_count++];

	*tail = (struct tail){ .kind = (uint8_t)kind, .insn = (uint16_t)t->insn_index };
	return tail;
}

/* ---- ways to tails ---- */

/* The JMP on the way is at `jmp`. */
static void way_here(struct translator *t, const struct way *w, uint32_t jmp)
{
	uint32_t by = jmp - (w->from + 1);

	if (by > WAY_REACH)
		t->too_far = true;
	t->e->base[w->from] = (uint8_t)by;
	if (w->target)
		patch32(t->e->base, jmp + 1, w->target);
	else
		w->tail->site = jmp + 1;
}

static void add_way(struct translator *t, struct way w)
{
	if (t->near && t->way_count < WAYS_MAX)
		t->way[t->way_count++] = w;
	else
		way_here(t, &w, emit_jmp_in_nop(t->e) - 1);
}

void emit_way(struct translator *t, uint32_t from, struct tail *tail)
{
	add_way(t, (struct way){ .from = from, .tail = tail });
}

void emit_way_to(struct translator *t, uint32_t from, uint32_t target)
{
	add_way(t, (struct way){ .from = from, .target = target });
}

void emit_ways(struct translator *t, unsigned room)
{
	unsigned done = 0;

	if (t->insn[t->insn_index].id == INSN_CALL)
		room += WAY_ROOM_CALL;
	for (; done < t->way_count; done++) { /* the oldest are the farthest */
		const struct way *w = &t->way[done];

		if (emit_offset(t->e) + room + (t->way_count - done) * 5 <= w->from + 1 + WAY_REACH)
			break;
		way_here(t, w, emit_jmp_in_nop(t->e) - 1);
	}
	t->way_count -= done;
	t->ways_made += done;
	__builtin_memmove(t->way, t->way + done, t->way_count * sizeof(t->way[0]));
}

/* The block goes on elsewhere: here nobody comes by. */
static void emit_ways_behind(struct translator *t)
{
	for (unsigned n = 0; n < t->way_count; n++)
		way_here(t, &t->way[n], emit_jmp32(t->e) - 1);
	t->way_count = 0;
}

static void emit_leave(struct translator *t, uint32_t code)
{
	emit_mov_imm(t->e, R10, t->id);
	emit_mov_imm(t->e, RCX, code);
	emit_jmp_to(t->e, t->bt->leave);
}

static void leave_interpret(struct translator *t, unsigned id)
{
	emit_leave(t, LEAVE_CODE(LEAVE_INTERPRET, t->insn_index, id));
	t->ended = true;
}

/* The interpreter has to do it, and nothing is to be gained by a block that goes on behind it: what goes
 * elsewhere, what holds interrupts back for an instruction, what leaves for the machine. */
bool callout_ends(const struct translator *t, const struct insn *i)
{
	if ((insn_desc(i)->flags & INSN_BRANCH) || t->b->len2 || t->callout_count == CALLOUTS_MAX)
		return true;
	switch (i->id) {
	case INSN_STI:
	case INSN_LSS:
	case INSN_IN:
	case INSN_OUT:
	case INSN_INS:
	case INSN_OUTS:
		return true;
	case INSN_MOV_SREG:
	case INSN_POP:
		return i->operand[0].kind == OPERAND_SREG && i->operand[0].reg == SS;
	default:
		return false;
	}
}

/* The interpreter runs the instruction. */
void emit_callout(struct translator *t, const struct insn *i, bool ends)
{
	struct emitter *e = t->e;
	struct tail *tail;

	if (t->bt->unchained || t->callout_count == CALLOUTS_MAX) {
		leave_interpret(t, i->id);
		return;
	}
	t->callout_count++;
	tail = add_tail(t, TAIL_CALLOUT);
	tail->ends = ends;
	tail->site = emit_lea_rip(e, RCX);
	if (ends) {
		emit_jmp_to(e, t->bt->callout_last);
		t->ended = true;
	} else {
		emit_call_to(e, t->bt->callout);
		access_forget(t);
	}
}

/*
 * rcx is 1 if the target of a CALL, in r10, is in its first place. If not, the tail looks at the second one, and
 * comes back with its index in r11; if it is not there either the CALL is called out. There has to be room for a call-out.
 */
static void emit_call_if_hit(struct translator *t)
{
	struct tail *tail = add_tail(t, TAIL_CALLOUT);

	t->callout_count++;
	tail->ends = tail->apart = true;
	emit_way(t, emit_unless_one(t->e), tail);
	tail->retry = emit_offset(t->e);
}

unsigned add_link(struct translator *t, unsigned kind, uint64_t target, uint32_t key)
{
	struct link *l = &t->bt->links[t->b->links + t->b->link_count];

	if (t->b->link_count >= BLOCK_LINKS_MAX) /* more would be another block's: a bug of the translator */
		__builtin_trap();
	*l = (struct link){ .kind = kind & 3, .target = target, .key = key, .insn = t->insn_index & 63 };
	return t->b->link_count++;
}

uint64_t next_rip(const struct translator *t, const struct insn *i) { return wrap_rip(t, t->rip + i->len); }

void emit_rip(struct translator *t, host_reg reg, uint64_t rip)
{
	int64_t moved = (int64_t)rip - 1; /* the word is the page's address plus 1 */

	if (!t->b->code_page) {
		emit_mov_imm(t->e, reg, rip);
		return;
	}
	emit_load(t->e, reg, mem_gs(G(branch_cache[0].page[0].linear_plus_1) + t->b->code_page * (int32_t)sizeof(struct code_page)));
	if (moved != (int32_t)moved) { /* a branch by nearly 2 GiB */
		emit_lea(t->e, reg, mem_at(reg, (int32_t)(moved / 2)));
		moved -= moved / 2;
	}
	emit_lea(t->e, reg, mem_at(reg, (int32_t)moved));
}

/* A target in this page whose first instruction cannot reach into the next. */
static bool chainable(const struct translator *t, uint64_t target)
{
	uint64_t offset = (t->b->offset & 0xfff) + (target - t->b->rip);

	return offset < PAGE_SIZE - INSN_MAX_LEN && !t->bt->unchained;
}

static int32_t branch_table(const struct translator *t, uint32_t key)
{
	return (int32_t)(branch_mode(key) * sizeof(t->cpu->branch_cache->mode[0]));
}

bool has_return_stack(const struct translator *t) { return code64(t) && !t->bt->unchained; }

/* Looks r10 up: the entry's index in r11, 1 in rcx if it is that of this target. */
static void emit_probe(struct translator *t, int32_t table)
{
	struct emitter *e = t->e;

	emit_rorx(e, R11, R10, BRANCH_ROTATE);
	emit_lea(e, R11, mem_sum(R11, R10));
	emit_branch_index(e, R11);
	emit_load(e, RCX, mem_gs_index(G(branch_cache[0].mode[0].entry[0].minus_target) + table, R11));
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R10, .scale = 1, .disp = 1 });
}

/* rcx is 1 if the branch cache has the target: on a miss leaves by the link. */
static void emit_if_hit(struct translator *t, unsigned link)
{
	struct tail *tail = add_tail(t, TAIL_LEAVE);

	tail->leave = LEAVE_CODE(LEAVE_BRANCH, link, 0);
	tail->link = (uint8_t)link;
	emit_way(t, emit_unless_one(t->e), tail);
}

/* The same for blocks that are for any RIP: which entry it is is not known before it runs. */
static void emit_branch_moved(struct translator *t, unsigned link, bool call)
{
	struct link *l = &t->bt->links[t->b->links + link];
	int32_t table = branch_table(t, l->key);
	struct emitter *e = t->e;

	l->kind = LINK_BRANCH;
	emit_rip(t, R10, l->target);
	emit_ways(t, WAY_ROOM_BRANCH);
	l->site = emit_offset(e);
	emit_probe(t, table);
	emit_if_hit(t, link);
	(call ? emit_call_mem : emit_jmp_mem)(e, mem_gs_index(G(branch_cache[0].mode[0].entry[0].code) + table, R11));
	l->length = (uint8_t)(emit_offset(e) - l->site);
}

/* Through the branch cache, to a RIP that is known. A kick may go to its stub from any place. */
static void emit_branch_known(struct translator *t, unsigned link, bool call)
{
	struct link *l = &t->bt->links[t->b->links + link];

	if (t->b->code_page) {
		emit_branch_moved(t, link, call);
		return;
	}
	int32_t entry = branch_table(t, l->key) + (int32_t)(branch_index(l->target) * sizeof(struct branch_entry));
	struct emitter *e = t->e;

	emit_ways(t, WAY_ROOM_BRANCH);
	l->site = emit_offset(e);
	emit_load(e, RCX, mem_gs(G(branch_cache[0].mode[0].entry[0].minus_target) + entry));
	if (l->target == (uint64_t)(int32_t)l->target && (int32_t)l->target != INT32_MAX) {
		emit_lea(e, RCX, mem_at(RCX, (int32_t)l->target + 1));
	} else {
		emit_mov_imm(e, R10, l->target + 1);
		emit_lea(e, RCX, mem_sum(RCX, R10));
	}
	emit_if_hit(t, link);
	(call ? emit_call_mem : emit_jmp_mem)(e, mem_gs(G(branch_cache[0].mode[0].entry[0].code) + entry));
	l->length = (uint8_t)(emit_offset(e) - l->site);
}

/* ---- far branches: direct ones of user code into other pages ---- */

/*
 * The index of the struct code_page that the target's page has; 0: it is not to be found, or no block there is chained
 * to. Whether the page is where the branch goes is looked at each time (emit_far_check); what is mapped there now is
 * only the likely one.
 */
static unsigned far_page(const struct translator *t, uint64_t target)
{
	int64_t moved = (int64_t)(target & PAGE_MASK);
	uint64_t gpa, offset;

	if (!t->b->code_page || t->b->len2 || !has_return_stack(t) || moved != (int32_t)moved || moved == INT32_MIN ||
	    (target & ~PAGE_MASK) > PAGE_SIZE - INSN_MAX_LEN || !mmu_translate_debug(t->cpu, t->linear + target, &gpa))
		return 0;
	offset = memory_offset(t->bt->memory, gpa & PAGE_MASK, PAGE_SIZE);
	return offset == MEMORY_NOT_RAM ? 0 : cache_code_page(t->bt->vm, offset);
}

/*
 * Goes on if this vCPU has the page at the target's place: then the link, which is chained to a block of that page and
 * no other, leads where the guest's branch does. What the word of a page says holds as what is in a branch cache does.
 */
static unsigned emit_far_check(struct translator *t, uint64_t target, unsigned page, struct tail *tail)
{
	int32_t this = (int32_t)(t->b->code_page * sizeof(struct code_page)), other = (int32_t)(page * sizeof(struct code_page));
	unsigned link = add_link(t, LINK_DIRECT, target, t->key);
	struct emitter *e = t->e;

	t->bt->links[t->b->links + link].code_page = (uint16_t)page;
	emit_load(e, RCX, mem_gs(G(branch_cache[0].page[0].minus_linear) + this));
	emit_load(e, R10, mem_gs(G(branch_cache[0].page[0].linear_plus_1) + other));
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R10, .scale = 1, .disp = -(int32_t)(target & PAGE_MASK) });
	emit_way(t, emit_unless_one(e), tail);
	return link;
}

/* To the target of a link into another page, by the branch cache or, if that page is known, without. */
static void emit_page_branch(struct translator *t, unsigned link)
{
	struct link *l = &t->bt->links[t->b->links + link];
	unsigned page = l->key == t->key ? far_page(t, l->target) : 0;
	struct tail *tail;

	if (!page) {
		emit_branch_known(t, link, false);
		return;
	}
	tail = add_tail(t, TAIL_FAR);
	tail->link = (uint8_t)link;
	link = emit_far_check(t, l->target, page, tail);
	tail = add_tail(t, TAIL_LINK);
	tail->link = (uint8_t)link;
	emit_align_rel32(t->e, 1);
	tail->site = emit_jmp32(t->e);
}

bool emit_call_far_check(struct translator *t, uint64_t target, unsigned *link)
{
	unsigned page = far_page(t, target);

	if (!page)
		return false;
	*link = emit_far_check(t, target, page, add_tail(t, TAIL_FAR_CALL));
	return true;
}

void emit_call_far(struct translator *t, unsigned link)
{
	struct tail *tail = add_tail(t, TAIL_LINK);

	tail->link = (uint8_t)link;
	emit_align_rel32(t->e, 1);
	tail->site = emit_call32(t->e);
}

/* Does the branch go through a table, by an index? Then that index tells sooner than the target where to look. */
static bool hinted(const struct translator *t, const struct insn *i)
{
	return has_return_stack(t) && i->opsize == 8 && i->operand_count && i->operand[0].kind == OPERAND_MEM &&
	       i->mem_index != REG_NONE;
}

/* The hint for the table's index. `slot` is scratch. */
static struct host_mem emit_hint(struct translator *t, const struct insn *i, host_reg slot)
{
	unsigned site = (unsigned)((t->b->offset + t->rip - t->b->rip) * 0x9e3779b97f4a7c15ull >> 40) & (BRANCH_HINTS - 1);

	if (host_of[i->mem_index] == HOST_NONE)
		emit_load_byte(t->e, slot, mem_gs(G(gpr) + i->mem_index * 8));
	else
		emit_movzx8(t->e, slot, host_of[i->mem_index]);
	return (struct host_mem){ .base = REG_NONE, .index = slot, .scale = 2, .gs = true,
				  .disp = G(branch_cache[0].hint) + (int32_t)site * 2 };
}

/* As emit_probe, but first where the hint says; the tail looks further, by hash. */
static struct tail *emit_hinted_probe(struct translator *t, const struct insn *i, int32_t table)
{
	struct emitter *e = t->e;
	struct tail *tail;

	emit_load_word(e, R11, emit_hint(t, i, R11));
	emit_load(e, RCX, mem_gs_index(G(branch_cache[0].mode[0].entry[0].minus_target) + table, R11));
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R10, .scale = 1, .disp = 1 });
	tail = add_tail(t, TAIL_HINT);
	emit_way(t, emit_unless_one(e), tail);
	return tail;
}

/* The hint was wrong. A JMP has a link to leave by; a CALL is called out. */
static void emit_hint_tail(struct translator *t, const struct tail *tail)
{
	const struct insn *i = &t->insn[tail->insn];
	int32_t table = branch_table(t, t->key);
	bool call = i->id == INSN_CALL;
	struct emitter *e = t->e;

	t->rip = wrap_rip(t, t->b->rip + t->offset[tail->insn]);
	emit_probe(t, table);
	if (call)
		emit_call_if_hit(t);
	else
		emit_if_hit(t, tail->link);
	emit_op_mem(e, OP_STORE, 2, R11, emit_hint(t, i, RCX));
	if (call)
		emit_jmp_to(e, tail->retry);
	else
		emit_jmp_mem(e, mem_gs_index(G(branch_cache[0].mode[0].entry[0].code) + table, R11));
}

/* r10 = target: through the branch cache of mode `key`. A kick may go to its stub from any place. */
void emit_branch(struct translator *t, unsigned link, const struct insn *i)
{
	struct link *l = &t->bt->links[t->b->links + link];
	int32_t table = branch_table(t, l->key);
	struct emitter *e = t->e;

	if (!t->bt->unchained) {
		emit_ways(t, WAY_ROOM_BRANCH);
		l->site = emit_offset(e);
		if (hinted(t, i)) {
			emit_hinted_probe(t, i, table)->link = (uint8_t)link;
		} else {
			emit_probe(t, table);
			emit_if_hit(t, link);
		}
		emit_jmp_mem(e, mem_gs_index(G(branch_cache[0].mode[0].entry[0].code) + table, R11));
		l->length = (uint8_t)(emit_offset(e) - l->site);
		return;
	}
	emit_store(e, R10, mem_gs(G(rip)));
	emit_leave(t, LEAVE_CODE(LEAVE_BRANCH, link, 0));
}

/* To a RIP that is known, in mode `key`. */
void emit_goto(struct translator *t, uint64_t target, uint32_t key)
{
	if (chainable(t, target) || t->bt->unchained) {
		struct tail *tail;
		unsigned link = add_link(t, LINK_DIRECT, target, key);

		tail = add_tail(t, TAIL_LINK);
		tail->link = (uint8_t)link;
		emit_align_rel32(t->e, 1);
		tail->site = emit_jmp32(t->e);
	} else {
		emit_page_branch(t, add_link(t, LINK_PAGE, target, key));
	}
}

void emit_call(struct translator *t, uint64_t target)
{
	if (chainable(t, target)) {
		unsigned link = add_link(t, LINK_DIRECT, target, t->key);
		struct tail *tail = add_tail(t, TAIL_LINK);

		tail->link = (uint8_t)link;
		emit_align_rel32(t->e, 1);
		tail->site = emit_call32(t->e);
	} else {
		emit_branch_known(t, add_link(t, LINK_PAGE, target, t->key), true);
	}
}

/*
 * The look-up of a CALL to the RIP in r10, before the push: nothing needs to be undone if it misses, for then
 * the interpreter runs the CALL, and raises what an impossible target raises. Host address into WORD_TMP.
 */
void emit_call_probe(struct translator *t, const struct insn *i)
{
	int32_t table = branch_table(t, t->key);
	struct emitter *e = t->e;

	emit_ways(t, WAY_ROOM_BRANCH);
	if (hinted(t, i)) {
		struct tail *tail = emit_hinted_probe(t, i, table);

		tail->retry = emit_offset(e);
	} else {
		emit_probe(t, table);
		emit_call_if_hit(t);
	}
	emit_load(e, RCX, mem_gs_index(G(branch_cache[0].mode[0].entry[0].code) + table, R11));
	emit_store(e, RCX, mem_gs(WORD(WORD_TMP)));
}

/* r10 = where the guest returned to; r11d says which RET that was. */
void emit_landing(struct translator *t, uint64_t rip)
{
	unsigned link = add_link(t, LINK_LANDING, rip, t->key);
	struct link *l = &t->bt->links[t->b->links + link];
	struct emitter *e = t->e;

	l->site = emit_offset(e);
	l->stub = t->bt->vm->return_leave;
	if (t->b->code_page) {
		emit_landing_sum(e, t->b->code_page, 1 - (int32_t)rip);
		emit_way_to(t, emit_unless_one(e), t->bt->vm->return_mismatch_any_rip);
	} else {
		emit_mov_imm64(e, RCX, -rip);
		_Static_assert(LANDING_EXPECTED == 2, "where the constant is in it");
		emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R10, .scale = 1, .disp = 1 });
		emit_way_to(t, emit_unless_one(e), t->bt->vm->return_mismatch);
	}
	l->length = (uint8_t)(emit_offset(e) - l->site); /* a look-up that follows has a link of its own, and uses r11 */
	emit_goto(t, rip, t->key);
}

/* A jump whose rel32 is at `site`, to a RIP that is known, in this mode. */
void emit_goto_from(struct translator *t, uint32_t site, uint64_t target)
{
	bool direct = chainable(t, target) || t->bt->unchained;
	unsigned link = add_link(t, direct ? LINK_DIRECT : LINK_PAGE, target, t->key);
	struct tail *tail = add_tail(t, direct ? TAIL_LINK : TAIL_BRANCH);

	tail->link = (uint8_t)link;
	tail->site = site;
}

static void emit_callout_data(struct translator *t, const struct tail *tail)
{
	struct callout *c = (struct callout *)(void *)t->e->p;
	const struct insn *i = &t->insn[tail->insn];
	const struct block *b = t->b;

	*c = (struct callout){ .block = t->id, .key = t->key, .ends = tail->ends, .fpu = b->fpu, .insn = *i };
	c->rip = wrap_rip(t, b->rip + t->offset[tail->insn]);
	c->next = wrap_rip(t, c->rip + i->len);
	c->next_offset = b->offset + t->offset[tail->insn] + i->len;
	t->e->p += sizeof(*c);
}

/* r10 and size: does the span of a group cross into the next page? Then on without groups. */
static void emit_crossing(struct translator *t, unsigned size)
{
	uint64_t rip = wrap_rip(t, t->b->rip + t->offset[t->insn_index]);
	unsigned link = add_link(t, LINK_DIRECT, rip, t->key | KEY_ONE_BY_ONE);
	struct emitter *e = t->e;
	struct tail *tail;
	uint8_t *one_page;

	emit_lea(e, RCX, mem_at(R10, (int32_t)size - 1));
	emit_page_number(e, RCX, RCX);
	emit_page_number(e, R11, R10);
	emit_not(e, R11);
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R11, .scale = 1, .disp = 1 });
	one_page = emit_jrcxz(e);
	tail = add_tail(t, TAIL_LINK);
	tail->link = (uint8_t)link;
	emit_align_rel32(e, 1);
	tail->site = emit_jmp32(e);
	patch8(e, one_page);
}

/* The data, which the call in the block names; or both. */
static void emit_callout_tail(struct translator *t, const struct tail *tail)
{
	uint32_t data = emit_offset(t->e);

	emit_callout_data(t, tail);
	if (!tail->retry)
		return;
	patch32(t->e->base, tail->site, emit_offset(t->e));
	if (tail->apart) {
		uint8_t *found;

		emit_call_to(t->e, t->bt->vm->call_second);
		found = emit_jrcxz(t->e);
		patch32(t->e->base, emit_lea_rip(t->e, RCX), data);
		emit_jmp_to(t->e, t->bt->callout_last);
		patch8(t->e, found);
	} else {
		patch32(t->e->base, emit_lea_rip(t->e, RCX), data);
		emit_call_to(t->e, t->bt->callout);
	}
	emit_jmp_to(t->e, tail->retry);
}

static void emit_miss_tail(struct translator *t, const struct tail *tail)
{
	struct emitter *e = t->e;

	if (tail->reg == REG_NONE)
		emit_mov_imm(e, R10, tail->address);
	else if (tail->below)
		emit_lea(e, R10, mem_at(tail->reg, -(int32_t)tail->size));
	else if (tail->reg != R10)
		emit_mov(e, 8, R10, tail->reg);
	if (tail->group)
		emit_crossing(t, tail->size + tail->below);
	emit_mov_imm(e, RCX, MISS_INFO(tail->size, tail->write, tail->no_fill, tail->group, tail->read_first, tail->wide,
				       tail->insn));
	emit_mov_imm(e, R11, t->id);
	emit_call_to(e, t->bt->miss);
	emit_jmp_to(e, tail->retry);
}

static void emit_tail(struct translator *t, const struct tail *tail)
{
	struct link *l = &t->bt->links[t->b->links + tail->link];
	struct emitter *e = t->e;

	t->insn_index = tail->insn;
	while (tail->kind == TAIL_CALLOUT && emit_offset(e) % _Alignof(struct callout))
		emit8(e, 0xcc);
	if (tail->site)
		patch32(e->base, tail->site, emit_offset(e));
	switch (tail->kind) {
	case TAIL_MISS:
		emit_miss_tail(t, tail);
		break;
	case TAIL_LINK:
		l->site = tail->site;
		l->stub = emit_offset(e);
		emit_leave(t, LEAVE_CODE(LEAVE_LINK, tail->link, 0));
		break;
	case TAIL_LEAVE:
		if (LEAVE_KIND(tail->leave) == LEAVE_BRANCH && has_return_stack(t)) {
			l->stub = t->bt->vm->return_leave;
			if (l->kind == LINK_PAGE)
				emit_mov_imm(e, R10, l->target);
			emit_mov_imm(e, R11, RETURN_FROM(t->id, tail->link));
			emit_jmp_to(e, t->bt->vm->branch_second);
			break;
		}
		if (LEAVE_KIND(tail->leave) == LEAVE_BRANCH) {
			l->stub = emit_offset(e);
			if (l->kind == LINK_BRANCH)
				emit_store(e, R10, mem_gs(G(rip)));
		} else if (LEAVE_KIND(tail->leave) == LEAVE_REQUEST) {
			t->rip = wrap_rip(t, t->b->rip + t->offset[tail->insn]);
			emit_rip(t, R10, next_rip(t, &t->insn[tail->insn]));
			emit_store(e, R10, mem_gs(G(rip)));
		}
		emit_leave(t, tail->leave);
		break;
	case TAIL_BRANCH:
		emit_page_branch(t, tail->link);
		break;
	case TAIL_FAR:
		emit_branch_known(t, tail->link, false);
		break;
	case TAIL_FAR_CALL:
		t->rip = wrap_rip(t, t->b->rip + t->offset[tail->insn]);
		inline_call_tail(t, &t->insn[tail->insn]);
		break;
	case TAIL_HINT:
		emit_hint_tail(t, tail);
		break;
	case TAIL_CALLOUT:
		emit_callout_tail(t, tail);
		break;
	}
}

/* Branches to other pages behind the block, everything else where it is rarely run. */
void emit_tails(struct translator *t)
{
	emit_ways_behind(t);
	for (unsigned n = 0, count = t->tail_count; n < count; n++)
		if (t->tail[n].kind == TAIL_BRANCH) {
			emit_tail(t, &t->tail[n]);
			emit_ways_behind(t);
		}
	t->near = false;
	t->b->end = emit_offset(t->e);
	t->e->p = t->e->base + t->b->cold_begin;
	for (unsigned n = 0; n < t->tail_count; n++)
		if (t->tail[n].kind != TAIL_BRANCH)
			emit_tail(t, &t->tail[n]);
	t->b->cold_end = emit_offset(t->e);
}
