/*
 * How translated code reaches guest memory: effective and linear addresses, the look-up in the software
 * TLB, and groups of accesses that share one look-up.
 *
 * A group is what a block accesses off one register that only changes by constants meanwhile (the stack
 * pointer, a structure's address). Its first access looks up the whole span, from the lowest byte to the
 * highest; if that lies in one page that may be accessed so, the addend serves all of them, and later
 * ones need one instruction more than the guest's. If the span crosses into another page, the first
 * instruction is interpreted and the block is left; blocks to which that happens again and again are
 * translated once more without groups. A group that writes also serves reads that come after its look-up.
 */
#include "engine/bt/bt.h"

#define SPAN_MAX 512
#define OFFSET_MAX (1 << 20)

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

static struct tail *emit_lookup(struct translator *t, enum tlb_kind kind, unsigned size)
{
	int32_t set = G(tlb) + (int32_t)offsetof(struct tlb, set) +
		      (int32_t)((KEY_TLB(t->key) * TLB_KINDS + kind) * sizeof(struct tlb_set));
	struct tail *tail = add_tail(t, TAIL_MISS);
	struct emitter *e = t->e;
	uint8_t *hit;

	t->bt->stats.tlb_lookups++;
	t->segment_accesses++;
	tail->size = (uint16_t)size;
	tail->write = kind == TLB_WRITE;
	tail->retry = emit_offset(e);
	emit_pext(e, R11, R10, mem_gs(WORD(WORD_TLB_MASK)));
	emit_load(e, RCX, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, minus_page), R11));
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R10, .scale = 1, .disp = (int32_t)size - 1 });
	emit_pext(e, RCX, RCX, mem_gs(WORD(WORD_PAGE_MASK)));
	hit = emit_jrcxz(e);
	tail->site = emit_jmp32(e);
	patch8(e, hit);
	emit_load(e, RCX, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, addend), R11));
	t->commit = emit_offset(e);
	return tail;
}

struct host_mem translate_lookup(struct translator *t, enum tlb_kind kind, unsigned size, bool no_fill)
{
	emit_lookup(t, kind, size)->no_fill = no_fill;
	return mem_sum(R10, RCX);
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

static void plan_access(struct translator *t, unsigned insn, unsigned which, unsigned base, const struct tracked *r,
			enum tlb_kind kind, int64_t disp, unsigned size)
{
	int64_t low = r->offset + disp, high = low + size;
	struct planned_access *p = &t->plan[insn][which];

	p->offset = r->offset;
	if (low < -2 * OFFSET_MAX || high > 2 * OFFSET_MAX)
		return;
	for (unsigned n = 0; n < t->group_count; n++) {
		struct group *g = &t->group[n];
		int32_t l = low < g->low ? (int32_t)low : g->low, h = high > g->high ? (int32_t)high : g->high;

		if (g->base != base || g->version != r->version || h - l > SPAN_MAX)
			continue;
		if (g->kind != kind && g->kind != TLB_WRITE)
			continue;
		g->low = l;
		g->high = h;
		g->members++;
		p->group = (uint8_t)n;
		return;
	}
	if (t->group_count == GROUPS_MAX)
		return;
	p->group = (uint8_t)t->group_count;
	t->group[t->group_count++] = (struct group){ .base = (uint8_t)base, .version = r->version, .kind = (uint8_t)kind,
						      .low = (int32_t)low, .high = (int32_t)high, .members = 1 };
}

/* A plain memory operand: base and displacement in a segment without a base. */
static void plan_operand(struct translator *t, unsigned n, const struct tracked *regs)
{
	const struct insn *i = &t->insn[n];
	const struct operand *o = &i->operand[i->mem_index_of];
	bool bits = i->id == INSN_BT || i->id == INSN_BTS || i->id == INSN_BTR || i->id == INSN_BTC;

	if (i->mem_base >= GPR_COUNT || i->mem_index != REG_NONE || i->mem_seg >= FS || i->addrsize != 8 || i->evex_aaa ||
	    o->size == 0 || o->size > 64 || o->access == ACCESS_NONE || i->id == INSN_POP || i->id == INSN_LEA ||
	    insn_desc(i)->xlate == XLATE_CALLOUT || (bits && i->operand[1].kind == OPERAND_GPR))
		return;
	plan_access(t, n, ACCESS_OPERAND, i->mem_base, &regs[i->mem_base], o->access & ACCESS_WRITE ? TLB_WRITE : TLB_READ,
		    i->mem_disp, i->id == INSN_PUSH || i->id == INSN_CALL || i->id == INSN_JMP ? i->opsize : o->size);
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
	struct tracked regs[GPR_COUNT] = { 0 };

	t->group_count = 0;
	for (unsigned n = 0; n < t->count; n++)
		t->plan[n][ACCESS_OPERAND].group = t->plan[n][ACCESS_STACK].group = GROUP_NONE;
	if (!code64(t) || t->bt->unmerged[unmerged_index(t->b->gpa)] == t->b->gpa)
		return;
	for (unsigned n = 0; n < t->count; n++) {
		const struct insn *i = &t->insn[n];
		struct tracked *rsp = &regs[RSP];
		int size = i->opsize;

		if (i->mem_index_of >= 0)
			plan_operand(t, n, regs);
		switch (i->id) {
		case INSN_PUSH:
		case INSN_PUSHF:
		case INSN_CALL:
			plan_access(t, n, ACCESS_STACK, RSP, rsp, TLB_WRITE, -size, (unsigned)size);
			move(rsp, -size);
			break;
		case INSN_POP:
			plan_access(t, n, ACCESS_STACK, RSP, rsp, TLB_READ, 0, (unsigned)size);
			move(rsp, size);
			if (i->operand[0].kind == OPERAND_GPR)
				forget(&regs[i->operand[0].reg]);
			break;
		case INSN_RET:
			plan_access(t, n, ACCESS_STACK, RSP, rsp, TLB_READ, 0, (unsigned)size);
			break;
		default:
			if (!tracks_constant(i, regs))
				track_writes(i, regs);
		}
	}
}

/* ---- groups: code ---- */

void access_forget(struct translator *t)
{
	for (unsigned n = 0; n < t->group_count; n++)
		t->group[n].looked_up = false;
}

/* The access that was planned: off the host register that has the guest's, by the group's addend. */
static struct host_mem emit_grouped(struct translator *t, const struct planned_access *p, int64_t disp)
{
	struct group *g = &t->group[p->group];
	int32_t slot = WORD(WORD_GROUP + p->group);
	struct emitter *e = t->e;
	host_reg base = guest_value(t, g->base, R10);

	if (g->looked_up) {
		t->bt->stats.shared++;
		t->segment_accesses++;
		emit_load(e, RCX, mem_gs(slot));
		return (struct host_mem){ .base = base, .index = RCX, .scale = 1, .disp = (int32_t)disp };
	}
	g->looked_up = true;
	emit_lea(e, R10, mem_at(base, g->low - p->offset));
	emit_lookup(t, g->kind, (unsigned)(g->high - g->low))->group = true;
	emit_store(e, RCX, mem_gs(slot));
	return (struct host_mem){ .base = R10, .index = RCX, .scale = 1, .disp = p->offset + (int32_t)disp - g->low };
}

static bool grouped(const struct translator *t, const struct planned_access *p)
{
	return p->group != GROUP_NONE && t->group[p->group].members > 1;
}

bool access_operand(struct translator *t, const struct insn *i, enum tlb_kind kind, unsigned size, struct host_mem *m)
{
	const struct planned_access *p = &t->plan[t->insn_index][ACCESS_OPERAND];

	if (grouped(t, p)) {
		*m = emit_grouped(t, p, i->mem_disp);
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
		*m = emit_grouped(t, p, disp);
		return true;
	}
	if (KEY_STACK_BITS(t->key) == 64)
		emit_lea(t->e, R10, mem_at(HOST_OF_RSP, disp));
	else if (KEY_STACK_BITS(t->key) == 32 && (t->key & KEY_FLAT_SS))
		emit_lea32(t->e, R10, mem_at(HOST_OF_RSP, disp));
	else
		return false; /* a stack that is not flat */
	*m = translate_lookup(t, kind, size, false);
	return true;
}

void access_stack_move(struct translator *t, int32_t by)
{
	if (KEY_STACK_BITS(t->key) == 64)
		emit_lea(t->e, HOST_OF_RSP, mem_at(HOST_OF_RSP, by));
	else
		emit_lea32(t->e, HOST_OF_RSP, mem_at(HOST_OF_RSP, by));
}
