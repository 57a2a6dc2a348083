/*
 * How translated code reaches guest memory: effective and linear addresses, the look-up in the software
 * TLB, and groups of accesses that share one look-up.
 *
 * A group is what a block accesses off one register that only changes by constants meanwhile (the stack
 * pointer, a structure's address). Its first access looks up the whole span, from the lowest byte to the
 * highest; if that lies in one page that may be accessed so, the addend serves all of them, and later
 * ones need one instruction more than the guest's, or none while rcx still has it. If the span crosses into
 * another page, the code goes on, at that instruction, in a block that is made without groups, and comes
 * back to those with groups where that block ends. A group that writes serves reads as well. It may be read
 * first, if it is certain to be written; should it not be writable, that is as if it crossed.
 */
#include "engine/bt/bt.h"

#define SPAN_MAX 512
#define OFFSET_MAX (1 << 20)
#define QUIET_MAX 4u /* instructions that flags may be wrong for: so many that their code is shorter than INSN_CODE_MAX */

/* ---- addresses ---- */

/* The host register that a guest register lives in, or `scratch`, loaded with it. */
host_reg guest_value(struct translator *t, unsigned guest, host_reg scratch)
{
	if (host_of[guest] != HOST_NONE)
		return host_of[guest];
	emit_load(t->e, scratch, mem_gs(G(gpr) + (int32_t)guest * 8));
	return scratch;
}

/* Segments of no consequence, or of a base alone. */
static bool segment_usable(const struct translator *t, unsigned seg, bool *has_base)
{
	*has_base = seg >= FS;
	switch (seg) {
	case DS: return t->key & KEY_FLAT_DS;
	case ES: return t->key & KEY_FLAT_ES;
	case SS: return t->key & KEY_FLAT_SS;
	case FS: return t->key & KEY_BIG_FS;
	case GS: return t->key & KEY_BIG_GS;
	default: return code64(t);
	}
}

/* to = the offset that a memory operand names (LEA). */
void emit_effective_address(struct translator *t, const struct insn *i, host_reg to, int64_t moved)
{
	struct host_mem m = { .base = REG_NONE, .index = REG_NONE, .scale = i->mem_scale ? i->mem_scale : 1 };
	struct emitter *e = t->e;
	int64_t disp = i->mem_disp + moved;

	if (i->mem_base == REG_RIP || (i->mem_base == REG_NONE && i->mem_index == REG_NONE)) {
		uint64_t address = (uint64_t)disp + (i->mem_base == REG_RIP ? next_rip(t, i) : 0);

		if (i->mem_base == REG_RIP && t->b->code_page) {
			emit_rip(t, to, address);
			if (i->addrsize == 4)
				emit_mov(e, 4, to, to);
			return;
		}
		emit_mov_imm(e, to, i->addrsize == 8 ? address : i->addrsize == 4 ? (uint32_t)address : (uint16_t)address);
		return;
	}
	if (i->mem_base != REG_NONE)
		m.base = guest_value(t, i->mem_base, R10);
	if (i->mem_index != REG_NONE)
		m.index = guest_value(t, i->mem_index, R11);
	m.disp = (int32_t)disp;
	if (i->addrsize == 8)
		emit_lea(e, to, m);
	else
		emit_lea32(e, to, m);
	if (i->addrsize == 2)
		emit_movzx16(e, to, to);
}

bool translate_address(struct translator *t, const struct insn *i, int64_t moved)
{
	struct emitter *e = t->e;
	bool has_base;

	if (!segment_usable(t, i->mem_seg, &has_base) || i->mem_vsib)
		return false;
	emit_effective_address(t, i, R10, moved);
	if (!has_base)
		return true;
	emit_load(e, R11, mem_gs(G(seg) + i->mem_seg * (int32_t)sizeof(struct segment) +
				 (int32_t)offsetof(struct segment, base)));
	if (code64(t))
		emit_lea(e, R10, mem_sum(R10, R11));
	else
		emit_lea32(e, R10, mem_sum(R10, R11));
	return true;
}

/* ---- the look-up ---- */

int32_t access_set(const struct translator *t, enum tlb_kind kind)
{
	return G(tlb) + (int32_t)offsetof(struct tlb, set) +
	       (int32_t)((KEY_TLB(t->key) * TLB_KINDS + kind) * sizeof(struct tlb_set));
}

static struct tail *lookup_begin(struct translator *t, enum tlb_kind kind, unsigned size, host_reg reg)
{
	struct tail *tail = add_tail(t, TAIL_MISS);

	access_release_rcx(t);
	emit_ways(t, WAY_ROOM_LOOKUP);
	t->r10_group = GROUP_NONE;
	emit_changes(t->e, R10); /* by a miss */
	t->bt->stats.made.tlb_lookups++;
	t->segment_accesses++;
	tail->size = (uint16_t)size;
	tail->write = kind == TLB_WRITE;
	tail->reg = reg;
	tail->retry = emit_offset(t->e);
	return tail;
}

/* rcx is `minus_page` of the entry that belongs to the page of base + disp. Goes on, with the addend in rcx, if that
 * is for this page, and all bytes lie in it. Not for any other entry: nothing is said of the first byte then. `shift`: a
 * register that is PAGE_SHIFT, or REG_NONE.
 *
 * What has one end in the page at 2^64 - TLB_EMPTY may seem to be in an empty entry's. No addend makes that an address of
 * the host's: the access faults there, and the interpreter does it. */
static void lookup_end(struct translator *t, struct tail *tail, host_reg base, int32_t disp, host_reg shift,
		       struct host_mem addend)
{
	disp += tail->size - 1 + emit_page_hit(t->e) * (int32_t)PAGE_SIZE;
	emit_lea(t->e, RCX, (struct host_mem){ .base = RCX, .index = base, .scale = 1, .disp = disp });
	if (shift == REG_NONE)
		emit_page_number(t->e, RCX, RCX);
	else
		emit_shift_reg(t->e, SHIFT_SHRX, RCX, RCX, shift);
	emit_way(t, emit_unless_page_hit(t->e), tail);
	emit_load(t->e, RCX, addend);
	t->commit = emit_offset(t->e);
}

static void emit_lookup_indexed(struct translator *t, struct tail *tail, enum tlb_kind kind, int32_t disp)
{
	int32_t set = access_set(t, kind);

	emit_tlb_index(t->e, R11, tail->reg);
	emit_load(t->e, RCX, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, minus_page), R11));
	lookup_end(t, tail, tail->reg, disp, REG_NONE, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, addend), R11));
}

/* Looks up the linear address in `reg`, which may be one of the guest's. */
static struct tail *emit_lookup(struct translator *t, host_reg reg, enum tlb_kind kind, unsigned size)
{
	struct tail *tail = lookup_begin(t, kind, size, reg);

	emit_lookup_indexed(t, tail, kind, 0);
	return tail;
}

/* What is right below `reg`: the index is that of its page, and the lowest byte has to be in that. Where `reg` is the beginning of
 * a page this is as if it crossed: not for a kernel, whose stacks begin there. */
static struct tail *emit_lookup_below(struct translator *t, host_reg reg, enum tlb_kind kind, unsigned size)
{
	struct tail *tail = lookup_begin(t, kind, size, reg);

	tail->group = tail->below = true;
	t->group_lookups++;
	emit_lookup_indexed(t, tail, kind, 1 - 2 * (int32_t)size);
	return tail;
}

static bool is_below(const struct translator *t, struct host_mem low, unsigned size)
{
	return low.base != REG_NONE && low.index == REG_NONE && low.disp + (int32_t)size == 0 && KEY_TLB(t->key) == TLB_USER &&
	       code64(t) && !(t->b->key & KEY_ONE_BY_ONE) && !t->b->len2 && t->group_lookups < GROUPS_MAX;
}

/* The same in the wide set, for reading what a pointer leads to: the addend is there two cycles sooner. */
static struct tail *emit_lookup_wide(struct translator *t, host_reg reg, unsigned size)
{
	int32_t set = G(tlb_wide);
	struct tail *tail = lookup_begin(t, TLB_READ, size, reg);
	host_reg count = reg == R10 ? RCX : R10;
	struct emitter *e = t->e;

	tail->wide = true;
	emit_mov_imm(e, count, PAGE_SHIFT);
	_Static_assert(PAGE_SHIFT + TLB_WIDE_BITS == 32, "what a shift of 32 bits leaves is the index");
	emit_shift_reg32(e, SHIFT_SHRX, R11, reg, count);
	emit_load(e, RCX, mem_gs_index(set + (int32_t)offsetof(struct tlb_wide, minus_page), R11));
	lookup_end(t, tail, reg, 0, count == R10 ? R10 : REG_NONE,
		   mem_gs_index(set + (int32_t)offsetof(struct tlb_wide, addend), R11));
	return tail;
}

/* Looks up an address that is known, hence its entry: [the result] is the host's memory. */
static struct host_mem emit_constant_lookup(struct translator *t, enum tlb_kind kind, unsigned size, uint64_t address)
{
	int32_t entry = access_set(t, kind) + (int32_t)(address >> PAGE_SHIFT & (TLB_ENTRIES - 1)) * 8;
	struct tail *tail = lookup_begin(t, kind, size, REG_NONE);
	bool near = address + 2 * PAGE_SIZE == (uint64_t)(int32_t)(address + 2 * PAGE_SIZE) &&
		    address == (uint64_t)(int32_t)address;

	tail->address = address;
	if (!near)
		emit_mov_imm(t->e, R10, address);
	emit_load(t->e, RCX, mem_gs(entry + (int32_t)offsetof(struct tlb_set, minus_page)));
	lookup_end(t, tail, near ? REG_NONE : R10, near ? (int32_t)address : 0, REG_NONE,
		   mem_gs(entry + (int32_t)offsetof(struct tlb_set, addend)));
	return near ? mem_at(RCX, (int32_t)address) : mem_sum(R10, RCX);
}

struct host_mem translate_lookup(struct translator *t, enum tlb_kind kind, unsigned size, bool no_fill)
{
	emit_lookup(t, R10, kind, size)->no_fill = no_fill;
	return mem_sum(R10, RCX);
}

/* ---- pointers ---- */

/* MOV reg, [reg + ...], which goes along a list. */
static bool chases(const struct insn *i)
{
	return i->id == INSN_MOV && i->operand[0].kind == OPERAND_GPR && i->operand[0].size == 8 && i->mem_index_of == 1 &&
	       i->mem_base == i->operand[0].reg;
}

static void plan_pointers(struct translator *t)
{
	t->pointers = 0;
	if (!code64(t) || KEY_TLB(t->key) != TLB_USER)
		return;
	for (unsigned n = 0; n < t->count; n++)
		if (chases(&t->insn[n]) && host_of[t->insn[n].mem_base] != HOST_NONE)
			t->pointers |= 1u << t->insn[n].mem_base;
}

/* Is what is off these registers looked up in the wide set? */
static bool wide(const struct translator *t, unsigned base, unsigned index, enum tlb_kind kind)
{
	return kind == TLB_READ && base != REG_NONE && index == REG_NONE && (t->pointers >> base & 1);
}

/* ---- groups: planning ---- */

struct tracked {
	uint16_t version;
	int32_t offset;
};

static void forget(struct tracked *r)
{
	r->version++;
	r->offset = 0;
}

static void move(struct tracked *r, int64_t by)
{
	if (by < -OFFSET_MAX || by > OFFSET_MAX || r->offset + by < -OFFSET_MAX || r->offset + by > OFFSET_MAX)
		forget(r);
	else
		r->offset += (int32_t)by;
}

struct planner {
	struct translator *t;
	struct tracked reg[GPR_COUNT];
	unsigned segment; /* conditional branches so far */
};

/* An access at base + index * scale + disp as a member of a group, old or new. */
static void plan_access(struct planner *p, unsigned insn, unsigned which, struct group access, int64_t disp,
			unsigned size)
{
	struct planned_access *plan = &p->t->plan[insn][which];
	struct translator *t = p->t;
	int64_t low, high;

	plan->offset = 0;
	if (access.base != REG_NONE) {
		plan->offset = p->reg[access.base].offset;
		access.version = p->reg[access.base].version;
	}
	if (access.index != REG_NONE) {
		plan->offset += p->reg[access.index].offset * access.scale;
		access.index_version = p->reg[access.index].version;
	}
	low = plan->offset + disp;
	high = low + size;
	if (low < -16 * OFFSET_MAX || high > 16 * OFFSET_MAX)
		return;
	for (unsigned n = 0; n < t->group_count; n++) {
		struct group *g = &t->group[n];
		int32_t l = low < g->low ? (int32_t)low : g->low, h = high > g->high ? (int32_t)high : g->high;

		if (g->base != access.base || g->version != access.version || g->index != access.index ||
		    g->scale != access.scale || g->index_version != access.index_version || h - l > SPAN_MAX)
			continue;
		if (g->kind == TLB_READ && access.kind == TLB_WRITE) {
			if (g->segment != p->segment)
				continue;
			g->kind = TLB_WRITE; /* that it will be written is certain */
		}
		g->low = l;
		g->high = h;
		g->members++;
		plan->group = (uint8_t)n;
		return;
	}
	if (t->group_count == GROUPS_MAX)
		return;
	plan->group = (uint8_t)t->group_count;
	access.segment = (uint8_t)p->segment;
	access.low = (int32_t)low;
	access.high = (int32_t)high;
	access.members = 1;
	t->group[t->group_count++] = access;
}

static void plan_stack(struct planner *p, unsigned insn, enum tlb_kind kind, int64_t disp, unsigned size)
{
	struct group access = { .base = RSP, .index = REG_NONE, .scale = 1, .kind = (uint8_t)kind };

	plan_access(p, insn, ACCESS_STACK, access, disp, size);
}

static bool is_bit_string(const struct insn *i)
{
	return (i->id == INSN_BT || i->id == INSN_BTS || i->id == INSN_BTR || i->id == INSN_BTC) &&
	       i->operand[1].kind == OPERAND_GPR;
}

/* A memory operand off general registers, in a segment without a base. */
static void plan_operand(struct planner *p, unsigned n)
{
	const struct insn *i = &p->t->insn[n];
	const struct operand *o = &i->operand[i->mem_index_of];
	struct group access = { .base = i->mem_base, .index = i->mem_index, .scale = 1,
				.kind = o->access & ACCESS_WRITE ? TLB_WRITE : TLB_READ };

	if (i->mem_base == REG_RIP || (i->mem_base == REG_NONE && i->mem_index == REG_NONE) || i->mem_vsib ||
	    i->mem_seg >= FS || i->addrsize != 8 || i->evex_aaa || o->size == 0 || o->size > 64 ||
	    o->access == ACCESS_NONE || i->id == INSN_POP || i->id == INSN_LEA ||
	    insn_desc(i)->xlate == XLATE_CALLOUT || is_bit_string(i))
		return;
	if (i->mem_index != REG_NONE && i->mem_scale)
		access.scale = i->mem_scale;
	plan_access(p, n, ACCESS_OPERAND, access, i->mem_disp,
		    i->id == INSN_PUSH || i->id == INSN_CALL || i->id == INSN_JMP ? i->opsize : o->size);
}

/* What an instruction does to registers other than by a constant: their versions end. */
static void track_writes(const struct insn *i, struct tracked *regs)
{
	const struct insn_desc *d = insn_desc(i);

	for (unsigned g = 0; g < GPR_COUNT; g++)
		if ((d->gpr_written >> g & 1) || d->xlate == XLATE_CALLOUT)
			forget(&regs[g]);
	for (unsigned n = 0; n < i->operand_count; n++)
		if (i->operand[n].kind == OPERAND_GPR && (i->operand[n].access & ACCESS_WRITE))
			forget(&regs[i->operand[n].reg]);
}

static bool tracks_constant(const struct insn *i, struct tracked *regs)
{
	const struct operand *o = &i->operand[0];

	if (o->kind != OPERAND_GPR || o->size != 8)
		return false;
	switch (i->id) {
	case INSN_ADD:
	case INSN_SUB:
		if (i->operand[1].kind != OPERAND_IMM)
			return false;
		move(&regs[o->reg], i->id == INSN_ADD ? i->imm : -i->imm);
		return true;
	case INSN_INC:
	case INSN_DEC:
		move(&regs[o->reg], i->id == INSN_INC ? 1 : -1);
		return true;
	case INSN_LEA:
		if (i->mem_base != o->reg || i->mem_index != REG_NONE || i->addrsize != 8)
			return false;
		move(&regs[o->reg], i->mem_disp);
		return true;
	default:
		return false;
	}
}

void access_plan(struct translator *t)
{
	struct planner p = { .t = t };

	plan_pointers(t);
	t->group_count = t->group_lookups = 0;
	for (unsigned n = 0; n < t->count; n++)
		t->plan[n][ACCESS_OPERAND].group = t->plan[n][ACCESS_STACK].group = GROUP_NONE;
	if (!code64(t) || (t->b->key & KEY_ONE_BY_ONE) || t->b->len2)
		return;
	for (unsigned n = 0; n < t->count; n++) {
		const struct insn *i = &t->insn[n];
		struct tracked *rsp = &p.reg[RSP];
		int size = i->opsize;

		if (i->mem_index_of >= 0)
			plan_operand(&p, n);
		p.segment += (insn_desc(i)->flags & INSN_BRANCH) != 0;
		switch (i->id) {
		case INSN_PUSH:
		case INSN_PUSHF:
		case INSN_CALL:
			plan_stack(&p, n, TLB_WRITE, -size, (unsigned)size);
			move(rsp, -size);
			break;
		case INSN_POP:
			plan_stack(&p, n, TLB_READ, 0, (unsigned)size);
			move(rsp, size);
			if (i->operand[0].kind == OPERAND_GPR)
				forget(&p.reg[i->operand[0].reg]);
			break;
		case INSN_RET:
			plan_stack(&p, n, TLB_READ, 0, (unsigned)size);
			break;
		default:
			if (!tracks_constant(i, p.reg))
				track_writes(i, p.reg);
		}
	}
	for (unsigned n = 0; n < t->group_count; n++) {
		struct group *g = &t->group[n];

		g->left = g->members;
		if (wide(t, g->base, g->index, g->kind) && g->low > 0 && g->high <= SPAN_MAX)
			g->low = 0; /* the pointer itself is looked up */
	}
}

bool access_shared_beyond(const struct translator *t, unsigned count)
{
	uint32_t groups = 0;

	for (unsigned n = 0; n < t->count; n++)
		for (unsigned which = 0; which < ACCESSES; which++) {
			uint8_t group = t->plan[n][which].group;

			if (group == GROUP_NONE)
				continue;
			if (n < count)
				groups |= 1u << group;
			else if (groups >> group & 1)
				return true;
		}
	return false;
}

/* ---- groups: code ---- */

/*
 * What rcx_group and r10_group say of these registers is so: nothing has been emitted that changes them. Else the
 * code would reach any memory of the monitor's, so nothing that has been translated may be trusted any more.
 */
static host_reg held(const struct translator *t, host_reg reg)
{
	if (!emit_intact(t->e, reg))
		__builtin_trap();
	return reg;
}

/* rcx is about to get another value: what it has is put where further members find it. */
void access_release_rcx(struct translator *t)
{
	struct group *g;

	if (t->rcx_group == GROUP_NONE)
		return;
	g = &t->group[t->rcx_group];
	if (g->left && !g->kept) {
		emit_store(t->e, held(t, RCX), mem_gs(WORD(WORD_GROUP + t->rcx_group)));
		g->kept = true;
	}
	t->rcx_group = GROUP_NONE;
}

/* Until its one access; after those of CALL and RET the block is over. */
static bool inline_leaves_rcx(const struct insn *i)
{
	switch (i->id) {
	case INSN_JCC:
	case INSN_RET:
		return true;
	case INSN_CALL:
		return i->operand[0].kind == OPERAND_REL;
	case INSN_PUSH:
	case INSN_POP:
		return i->operand[0].kind == OPERAND_GPR || i->operand[0].kind == OPERAND_IMM;
	default:
		return false;
	}
}

void access_begin_insn(struct translator *t, const struct insn *i)
{
	switch (insn_desc(i)->xlate) {
	case XLATE_IDENT:
		t->rcx_free = i->id == INSN_LEA || ident_leaves_rcx(i);
		break;
	case XLATE_INLINE:
		t->rcx_free = inline_leaves_rcx(i);
		break;
	default:
		t->rcx_free = false;
	}
	if (t->cpu->counting) /* its counters are added to in rcx */
		t->rcx_free = false;
	if (!t->rcx_free)
		access_release_rcx(t);
	t->r10_free = t->rcx_free && (i->id == INSN_JCC || i->id == INSN_PUSH || i->id == INSN_POP ||
				      (i->id != INSN_LEA && ident_leaves_r10(i)));
	if (!t->r10_free)
		t->r10_group = GROUP_NONE;
}

void access_end_insn(struct translator *t)
{
	if (!t->rcx_free)
		t->rcx_group = GROUP_NONE;
}

/* Members are reached by host address of the group's lowest byte rather than by the addend if that is
 * shorter: when the guest's registers would have to be added up again. */
static bool anchored(const struct group *g)
{
	return g->index != REG_NONE || host_of[g->base] == HOST_NONE;
}

/* Looks up [base + index * scale + disp], of any size from there, in 64-bit code: the register that the address is
 * in then, or rather the lowest one's. */
static struct tail *emit_lookup_at(struct translator *t, struct host_mem low, enum tlb_kind kind, unsigned size, bool in_wide)
{
	host_reg reg = low.base;

	if (low.base == REG_NONE || low.index != REG_NONE || low.disp) {
		emit_lea(t->e, R10, low);
		reg = R10;
	}
	return in_wide ? emit_lookup_wide(t, reg, size) : emit_lookup(t, reg, kind, size);
}

/* The first access of a group, or the first behind what made the translator forget (access_forget), which is of `kind`. */
static void emit_group_lookup(struct translator *t, const struct planned_access *p, enum tlb_kind kind)
{
	struct group *g = &t->group[p->group];
	struct host_mem low = { .base = REG_NONE, .index = REG_NONE, .scale = g->scale, .disp = g->low - p->offset };
	struct emitter *e = t->e;
	struct tail *tail;

	if (g->base != REG_NONE)
		low.base = guest_value(t, g->base, R10);
	if (g->index != REG_NONE)
		low.index = guest_value(t, g->index, R11);
	if (!anchored(g) && is_below(t, low, (unsigned)(g->high - g->low))) {
		tail = emit_lookup_below(t, low.base, g->kind, (unsigned)(g->high - g->low));
	} else {
		tail = emit_lookup_at(t, low, g->kind, (unsigned)(g->high - g->low), wide(t, g->base, g->index, g->kind));
		tail->group = true;
		t->group_lookups++;
	}
	tail->read_first = g->kind == TLB_WRITE && kind == TLB_READ;
	if (anchored(g))
		emit_lea(e, RCX, mem_sum(RCX, tail->reg));
	emit_value(e, RCX);
	g->looked_up = true;
	if (g->left && !t->rcx_free) {
		emit_store(e, RCX, mem_gs(WORD(WORD_GROUP + p->group)));
		g->kept = true;
	}
}

void access_forget(struct translator *t)
{
	for (unsigned n = 0; n < t->group_count; n++)
		t->group[n].looked_up = t->group[n].kept = false;
	t->rcx_group = t->r10_group = GROUP_NONE;
}

/* The register that has what a group's first access looked up: rcx, or r10 if rcx has another group's. */
static host_reg emit_group_value(struct translator *t, unsigned group)
{
	struct host_mem word = mem_gs(WORD(WORD_GROUP + group));

	if (t->rcx_group == group)
		return held(t, RCX);
	if (t->r10_group == group)
		return held(t, R10);
	if (t->r10_free && t->rcx_group != GROUP_NONE && t->group[t->rcx_group].left) {
		t->r10_group = (uint8_t)group;
		emit_load(t->e, R10, word);
		emit_value(t->e, R10);
		return R10;
	}
	access_release_rcx(t);
	t->rcx_group = (uint8_t)group;
	emit_load(t->e, RCX, word);
	emit_value(t->e, RCX);
	return RCX;
}

/* The access that was planned. */
static struct host_mem emit_grouped(struct translator *t, const struct planned_access *p, enum tlb_kind kind, int64_t disp)
{
	struct group *g = &t->group[p->group];
	host_reg value = RCX;

	g->left--;
	if (!g->looked_up) {
		emit_group_lookup(t, p, kind);
		t->rcx_group = p->group;
	} else {
		t->bt->stats.made.shared++;
		t->segment_accesses++;
		value = emit_group_value(t, p->group);
	}
	if (anchored(g))
		return mem_at(value, (int32_t)(disp + p->offset - g->low));
	if (g->base == RSP)
		disp += t->rsp_owed;
	return (struct host_mem){ .base = host_of[g->base], .index = value, .scale = 1, .disp = (int32_t)disp };
}

/* The memory operand on its own, in 64-bit code. */
static struct host_mem emit_single(struct translator *t, const struct insn *i, enum tlb_kind kind, unsigned size)
{
	struct host_mem m = { .base = REG_NONE, .index = REG_NONE, .scale = i->mem_scale ? i->mem_scale : 1,
			      .disp = (int32_t)i->mem_disp };

	if (i->mem_base == REG_RIP && t->b->code_page) { /* not the same everywhere */
		emit_effective_address(t, i, R10, 0);
		return translate_lookup(t, kind, size, false);
	}
	if (i->mem_base == REG_RIP || (i->mem_base == REG_NONE && i->mem_index == REG_NONE))
		return emit_constant_lookup(t, kind, size, (uint64_t)i->mem_disp + (i->mem_base == REG_RIP ? next_rip(t, i) : 0));
	if (i->mem_base != REG_NONE)
		m.base = guest_value(t, i->mem_base, R10);
	if (i->mem_index != REG_NONE)
		m.index = guest_value(t, i->mem_index, R11);
	return mem_sum(emit_lookup_at(t, m, kind, size, wide(t, i->mem_base, i->mem_index, kind))->reg, RCX);
}

/* A block has links for so many look-ups of groups; call-outs may make more of them necessary than there are groups. */
static bool grouped(const struct translator *t, const struct planned_access *p)
{
	return p->group != GROUP_NONE && t->group[p->group].members > 1 &&
	       (t->group[p->group].looked_up || t->group_lookups < GROUPS_MAX);
}

bool access_operand(struct translator *t, const struct insn *i, enum tlb_kind kind, unsigned size, struct host_mem *m)
{
	const struct planned_access *p = &t->plan[t->insn_index][ACCESS_OPERAND];

	if (grouped(t, p)) {
		*m = emit_grouped(t, p, kind, i->mem_disp);
		return true;
	}
	if (code64(t) && i->addrsize == 8 && i->mem_seg < FS && !i->mem_vsib && !i->evex_aaa) {
		*m = emit_single(t, i, kind, size);
		return true;
	}
	if (!translate_address(t, i, 0))
		return false;
	*m = translate_lookup(t, kind, size, i->evex_aaa != 0);
	return true;
}

bool access_stack(struct translator *t, enum tlb_kind kind, unsigned size, int32_t disp, struct host_mem *m)
{
	const struct planned_access *p = &t->plan[t->insn_index][ACCESS_STACK];

	if (grouped(t, p)) {
		*m = emit_grouped(t, p, kind, disp);
		return true;
	}
	*m = mem_at(HOST_OF_RSP, disp);
	if (is_below(t, *m, size)) {
		emit_lookup_below(t, HOST_OF_RSP, kind, size);
		m->index = RCX;
		return true;
	}
	if (KEY_STACK_BITS(t->key) == 64) {
		*m = mem_sum(emit_lookup_at(t, mem_at(HOST_OF_RSP, disp), kind, size, false)->reg, RCX);
		return true;
	}
	if (KEY_STACK_BITS(t->key) != 32 || !(t->key & KEY_FLAT_SS))
		return false; /* a stack that is not flat */
	emit_lea32(t->e, R10, mem_at(HOST_OF_RSP, disp));
	*m = translate_lookup(t, kind, size, false);
	return true;
}

/* ---- RSP: moved once for several instructions ---- */

void access_stack_move(struct translator *t, int32_t by)
{
	if (KEY_STACK_BITS(t->key) == 64)
		t->rsp_owed += by;
	else
		emit_lea32(t->e, HOST_OF_RSP, mem_at(HOST_OF_RSP, by));
}

void access_stack_settle(struct translator *t)
{
	if (t->rsp_owed)
		emit_lea(t->e, HOST_OF_RSP, mem_at(HOST_OF_RSP, t->rsp_owed));
	t->rsp_owed = 0;
}

static bool is_gpr(const struct operand *o, unsigned reg) { return o->kind == OPERAND_GPR && o->reg == reg; }

/* Between registers other than RSP: nothing to be looked up, nothing that faults. */
static bool harmless(const struct insn *i)
{
	switch (i->id) {
	case INSN_MOV: case INSN_MOVZX: case INSN_MOVSX: case INSN_MOVSXD: case INSN_LEA: case INSN_ADD: case INSN_SUB:
	case INSN_AND: case INSN_OR: case INSN_XOR: case INSN_CMP: case INSN_TEST:
		break;
	default:
		return false;
	}
	if (i->lock || insn_desc(i)->xlate != XLATE_IDENT ||
	    (i->mem_index_of >= 0 && (i->id != INSN_LEA || i->mem_base == RSP)))
		return false;
	for (unsigned n = 0; n < i->operand_count; n++) {
		const struct operand *o = &i->operand[n];

		if (o->high8 || is_gpr(o, RSP) ||
		    (o->kind != OPERAND_GPR && o->kind != OPERAND_IMM && (int)n != i->mem_index_of))
			return false;
	}
	return true;
}

/* Can instruction n run with something owed, and nothing happen in it that would be seen? */
static bool unobserved(const struct translator *t, unsigned n)
{
	const struct planned_access *p = &t->plan[n][ACCESS_STACK];
	const struct insn *i = &t->insn[n];
	const struct operand *o = &i->operand[0];

	if (!code64(t))
		return false;
	if (n < t->quiet || harmless(i))
		return true;
	if (i->opsize != 8 || !grouped(t, p) || !t->group[p->group].looked_up)
		return false;
	switch (i->id) {
	case INSN_PUSH:
		return o->kind == OPERAND_IMM || (o->kind == OPERAND_GPR && o->reg != RSP);
	case INSN_POP:
		return o->kind == OPERAND_GPR && o->reg != RSP;
	case INSN_CALL:
		return o->kind == OPERAND_REL;
	case INSN_RET:
		return true;
	default:
		return false;
	}
}

/* The instruction behind the one that overwrites all flags which instruction n leaves, with none in between that could
 * show them to anybody; 0: there is none. */
static unsigned flags_dead_from(const struct translator *t, unsigned n)
{
	for (unsigned end = n + QUIET_MAX; n < end && ++n < t->count;) {
		const struct insn *i = &t->insn[n];

		if (!unobserved(t, n) || (insn_eflags_read(i) & EF_ARITH) || (insn_desc(i)->flags & INSN_BRANCH))
			return 0;
		if ((insn_eflags_killed(i) & EF_ARITH) == EF_ARITH)
			return n + 1;
	}
	return 0;
}

/* Does instruction n change RSP by a constant, and nothing else that is ever seen? From where on its flags are dead;
 * 0: it does not. */
static unsigned moves_rsp(const struct translator *t, unsigned n, int64_t *by)
{
	const struct insn *i = &t->insn[n];
	const struct operand *o = i->operand;

	if (!code64(t) || !is_gpr(&o[0], RSP) || o[0].size != 8 || i->lock)
		return 0;
	switch (i->id) {
	case INSN_ADD:
	case INSN_SUB:
		if (o[1].kind != OPERAND_IMM)
			return 0;
		*by = i->id == INSN_ADD ? i->imm : -i->imm;
		break;
	case INSN_LEA:
		if (i->mem_base != RSP || i->mem_index != REG_NONE || i->addrsize != 8)
			return 0;
		*by = i->mem_disp;
		break;
	default:
		return 0;
	}
	if (*by < -OFFSET_MAX || *by > OFFSET_MAX)
		return 0;
	return i->id == INSN_LEA ? n + 1 : flags_dead_from(t, n);
}

bool access_may_owe(const struct translator *t, unsigned n)
{
	int64_t by;

	return unobserved(t, n) || moves_rsp(t, n, &by);
}

bool access_owe(struct translator *t)
{
	unsigned dead;
	int64_t by;

	if (emit_offset(t->e) == t->b->entry || !(dead = moves_rsp(t, t->insn_index, &by)))
		return false;
	if (dead > t->quiet)
		t->quiet = dead;
	access_stack_move(t, (int32_t)by);
	return true;
}
