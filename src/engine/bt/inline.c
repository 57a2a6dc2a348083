/*
 * Instructions that are not copies: the stack, flags of the system, branches, and what is done in place.
 *
 * Each function translates one kind of instruction, or returns false: then what it emitted is taken back,
 * and the interpreter does the instruction. The order is always: look-ups, then memory, then registers.
 */
#include "engine/bt/bt.h"

/* ---- the stack ---- */

/* Pushes the word in WORD_TMP. */
static bool push_tmp(struct translator *t, unsigned size)
{
	struct host_mem m;

	if (!access_stack(t, TLB_WRITE, size, -(int32_t)size, &m))
		return false;
	emit_load(t->e, R11, mem_gs(WORD(WORD_TMP)));
	emit_op_mem(t->e, OP_STORE, size, R11, m);
	access_stack_move(t, -(int32_t)size);
	return true;
}

static bool push_imm(struct translator *t, unsigned size, uint64_t value)
{
	struct host_mem m;

	if (!access_stack(t, TLB_WRITE, size, -(int32_t)size, &m))
		return false;
	if (size == 8 && value != (uint64_t)(int32_t)value) {
		emit_mov_imm(t->e, R11, value);
		emit_store(t->e, R11, m);
	} else {
		emit_store_imm(t->e, size, m, (int32_t)value);
	}
	access_stack_move(t, -(int32_t)size);
	return true;
}

static bool push_rip(struct translator *t, unsigned size, uint64_t rip)
{
	struct host_mem m;

	if (!t->b->code_page)
		return push_imm(t, size, rip);
	if (!access_stack(t, TLB_WRITE, size, -(int32_t)size, &m))
		return false;
	emit_rip(t, R11, rip);
	emit_store(t->e, R11, m);
	access_stack_move(t, -(int32_t)size);
	return true;
}

static bool push(struct translator *t, const struct insn *i)
{
	const struct operand *o = &i->operand[0];
	unsigned size = i->opsize;
	struct host_mem m;

	switch (o->kind) {
	case OPERAND_IMM:
		return push_imm(t, size, (uint64_t)i->imm);
	case OPERAND_GPR:
		if (!access_stack(t, TLB_WRITE, size, -(int32_t)size, &m))
			return false;
		emit_op_mem(t->e, OP_STORE, size, guest_value(t, o->reg, R11), m);
		access_stack_move(t, -(int32_t)size);
		return true;
	case OPERAND_MEM:
		if (!access_operand(t, i, TLB_READ, size, &m))
			return false;
		emit_op_mem(t->e, OP_LOAD, size, R11, m);
		emit_store(t->e, R11, mem_gs(WORD(WORD_TMP)));
		return push_tmp(t, size);
	default:
		return false; /* segment registers */
	}
}

static bool pop(struct translator *t, const struct insn *i)
{
	const struct operand *o = &i->operand[0];
	unsigned size = i->opsize;
	struct emitter *e = t->e;
	struct host_mem m;

	if (o->kind != OPERAND_GPR && o->kind != OPERAND_MEM)
		return false;
	if (!access_stack(t, TLB_READ, size, 0, &m))
		return false;
	if (o->kind == OPERAND_MEM) {
		emit_op_mem(e, OP_LOAD, size, R11, m);
		emit_store(e, R11, mem_gs(WORD(WORD_TMP)));
		if (!translate_address(t, i, i->mem_base == RSP ? size : 0))
			return false;
		m = translate_lookup(t, TLB_WRITE, size, false);
		emit_load(e, R11, mem_gs(WORD(WORD_TMP)));
		emit_op_mem(e, OP_STORE, size, R11, m);
		access_stack_move(t, (int32_t)size);
		return true;
	}
	if (o->reg == RSP) {
		if (size == 2)
			return false;
		emit_op_mem(e, OP_LOAD, size, HOST_OF_RSP, m);
		return true;
	}
	if (host_of[o->reg] != HOST_NONE) {
		emit_op_mem(e, OP_LOAD, size, host_of[o->reg], m);
	} else {
		emit_op_mem(e, OP_LOAD, size, R11, m);
		emit_op_mem(e, OP_STORE, size == 2 ? 2 : 8, R11, mem_gs(G(gpr) + o->reg * 8));
	}
	access_stack_move(t, (int32_t)size);
	return true;
}

static bool leave(struct translator *t, const struct insn *i)
{
	struct emitter *e = t->e;
	unsigned bits = KEY_STACK_BITS(t->key);

	if (i->opsize != (bits == 64 ? 8 : 4) || bits == 16 || (bits == 32 && !(t->key & KEY_FLAT_SS)))
		return false;
	emit_mov(e, bits / 8, R10, RBP);
	emit_op_mem(e, OP_LOAD, bits / 8, R11, translate_lookup(t, TLB_READ, bits / 8, false));
	if (bits == 64)
		emit_lea(e, HOST_OF_RSP, mem_at(RBP, 8));
	else
		emit_lea32(e, HOST_OF_RSP, mem_at(RBP, 4));
	emit_mov(e, 8, RBP, R11);
	return true;
}

/* What PUSHF shows: the host's arithmetic flags, the others from cpu->rflags. */
static bool pushf(struct translator *t, const struct insn *i)
{
	struct emitter *e = t->e;

	if (t->key & KEY_V86)
		return false;
	emit_pushf(e);
	emit_pop(e, RCX);
	emit_load(e, R11, mem_gs(WORD(WORD_ARITH)));
	emit_pext_reg(e, RCX, RCX, R11);
	emit_pdep_reg(e, RCX, RCX, R11);
	emit_load(e, R10, mem_gs(G(rflags)));
	emit_load(e, R11, mem_gs(WORD(WORD_PUSHF)));
	emit_pext_reg(e, R10, R10, R11);
	emit_pdep_reg(e, R10, R10, R11);
	emit_lea(e, RCX, mem_sum(RCX, R10));
	emit_store(e, RCX, mem_gs(WORD(WORD_TMP)));
	return push_tmp(t, i->opsize);
}

/* ---- flags of the system, in cpu->rflags ---- */

/* Clears a bit without touching the host's flags, then adds `set` (0 or the bit). */
static void emit_rflags_bit(struct translator *t, uint32_t bit, bool set)
{
	struct emitter *e = t->e;

	emit_load(e, RCX, mem_gs(G(rflags)));
	emit_clear_bit(e, RCX, (unsigned)__builtin_ctz(bit));
	if (set)
		emit_lea(e, RCX, mem_at(RCX, (int32_t)bit));
	emit_store(e, RCX, mem_gs(G(rflags)));
}

/* STI holds interrupts back for one more instruction: that one is translated first. */
static bool sti(struct translator *t)
{
	const struct insn *after = &t->insn[t->insn_index + 1];
	struct emitter *e = t->e;

	if (!(t->key & KEY_CPL0) || (t->key & KEY_REAL) || t->insn_index + 1 >= t->count ||
	    insn_desc(after)->xlate != XLATE_IDENT || (insn_desc(after)->flags & INSN_BRANCH))
		return false;
	/* sti_shadow = IF was clear: (IF - 1) >> 63 */
	emit_load(e, RCX, mem_gs(G(rflags)));
	emit_mov_imm(e, R10, RFLAGS_IF);
	emit_pext_reg(e, R11, RCX, R10);
	emit_lea(e, R11, mem_at(R11, -1));
	emit_mov_imm(e, R10, 63);
	emit_shift_reg(e, SHIFT_SHRX, R11, R11, R10);
	emit_op_mem(e, OP_STORE8, 4, R11, mem_gs(G(sti_shadow)));
	emit_rflags_bit(t, RFLAGS_IF, true);
	return true;
}

void inline_after_sti(struct translator *t)
{
	const struct insn *i = &t->insn[t->insn_index];
	unsigned link = add_link(t, LINK_BRANCH, next_rip(t, i), t->key);
	uint8_t *none;

	t->bt->links[t->b->links + link].site = UINT32_MAX;
	emit_store_imm(t->e, 1, mem_gs(G(sti_shadow)), 0);
	emit_load_byte(t->e, RCX, mem_gs(G(want_irq_window)));
	none = emit_jrcxz(t->e);
	struct tail *tail = add_tail(t, TAIL_LEAVE);
	tail->leave = LEAVE_CODE(LEAVE_WINDOW, link, 0);
	tail->site = emit_jmp32(t->e);
	patch8(t->e, none);
}

/* The other mode's entries are not for this one. */
static void emit_switch_return_stack(struct emitter *e, enum tlb_mode from, enum tlb_mode to)
{
	emit_store(e, RSP, mem_gs(WORD(WORD_RETURN + (int)from)));
	emit_load(e, RSP, mem_gs(WORD(WORD_RETURN + (int)to)));
}

/* STAC and CLAC: from here on another mode. */
static bool set_ac(struct translator *t, const struct insn *i, bool set)
{
	enum tlb_mode mode = set ? TLB_KERNEL_USER : TLB_KERNEL;
	uint32_t key = t->key;

	if (!(key & KEY_CPL0) || (key & KEY_REAL))
		return false;
	if ((key & KEY_SMAP) && branch_mode(key) == BRANCH_MODE_OTHER) /* one table for both */
		return false;
	emit_rflags_bit(t, RFLAGS_AC, set);
	if (key & KEY_SMAP) {
		key = (key & ~(3u << KEY_TLB_SHIFT)) | (uint32_t)mode << KEY_TLB_SHIFT;
		emit_store_imm(t->e, 1, mem_gs(G(tlb_mode)), (int)mode);
		if (key != t->key)
			emit_switch_return_stack(t->e, KEY_TLB(t->key), mode);
		emit_goto(t, next_rip(t, i), key);
		t->ended = true;
	}
	return true;
}

static bool swapgs(struct translator *t)
{
	int32_t base = G(seg) + GS * (int32_t)sizeof(struct segment) + (int32_t)offsetof(struct segment, base);
	struct emitter *e = t->e;

	if (!(t->key & KEY_CPL0))
		return false;
	emit_load(e, R10, mem_gs(base));
	emit_load(e, R11, mem_gs(G(kernel_gs_base)));
	emit_store(e, R11, mem_gs(base));
	emit_store(e, R10, mem_gs(G(kernel_gs_base)));
	return true;
}

static bool rdtsc(struct translator *t)
{
	struct emitter *e = t->e;

	if ((t->key & KEY_TSD) || t->bt->unchained)
		return false;
	emit8(e, 0x0f);
	emit8(e, 0x31);
	emit_mov_imm(e, RCX, 32);
	emit_shift_reg(e, SHIFT_SHLX, RDX, RDX, RCX);
	emit_lea(e, RAX, mem_sum(RAX, RDX));
	emit_load(e, RCX, mem_gs(G(tsc_offset)));
	emit_lea(e, RAX, mem_sum(RAX, RCX));
	emit_load(e, RCX, mem_gs(G(tsc_adjust)));
	emit_lea(e, RAX, mem_sum(RAX, RCX));
	emit_rorx(e, RDX, RAX, 32);
	emit_mov(e, 4, RDX, RDX);
	emit_mov(e, 4, RAX, RAX);
	return true;
}

/* ---- branches ---- */

/* Where a relative branch goes; false: nowhere that may be. Of a block that is for any RIP it shows when it has run. */
static bool branch_target(const struct translator *t, const struct insn *i, uint64_t *target)
{
	*target = next_rip(t, i) + (uint64_t)i->imm;
	if (code64(t))
		return t->b->code_page || (uint64_t)((int64_t)(*target << 16) >> 16) == *target;
	*target = i->opsize == 2 ? (uint16_t)*target : (uint32_t)*target;
	return (t->key & KEY_CODE) != KEY_CODE16 || *target <= 0xffff;
}

/* Operand sizes at which near branches are translated. */
static bool branch_size(const struct translator *t, const struct insn *i)
{
	return code64(t) ? i->opsize == 8 : (t->key & KEY_CODE) == KEY_CODE32 ? i->opsize == 4 : i->opsize == 2;
}

static bool jcc(struct translator *t, const struct insn *i)
{
	uint64_t target;

	if (!branch_target(t, i, &target))
		return false;
	emit_align_rel32(t->e, 2);
	if (t->again[t->insn_index]) /* the loop's next round follows */
		emit_goto_from(t, emit_jcc32(t->e, i->cc ^ 1u), next_rip(t, i));
	else
		emit_goto_from(t, emit_jcc32(t->e, i->cc), target);
	return true;
}

static bool loop(struct translator *t, const struct insn *i)
{
	struct emitter *e = t->e;
	uint8_t *not_taken, *by_zf = NULL;
	uint64_t target;

	if (i->addrsize == 2 || !branch_target(t, i, &target))
		return false;
	if (i->addrsize == 8)
		emit_lea(e, HOST_OF_RCX, mem_at(HOST_OF_RCX, -1));
	else
		emit_lea32(e, HOST_OF_RCX, mem_at(HOST_OF_RCX, -1));
	emit_mov(e, 8, RCX, HOST_OF_RCX);
	not_taken = emit_jrcxz(e);
	if (i->id != INSN_LOOP)
		by_zf = emit_jcc8(e, i->id == INSN_LOOPE ? 5 : 4);
	emit_align_rel32(e, 1);
	emit_goto_from(t, emit_jmp32(e), target);
	patch8(e, not_taken);
	if (by_zf)
		patch8(e, by_zf);
	return true;
}

static bool jcxz(struct translator *t, const struct insn *i)
{
	struct emitter *e = t->e;
	uint8_t *taken, *not_taken;
	uint64_t target;

	if (!branch_target(t, i, &target))
		return false;
	if (i->addrsize == 2)
		emit_movzx16(e, RCX, HOST_OF_RCX);
	else
		emit_mov(e, i->addrsize, RCX, HOST_OF_RCX);
	taken = emit_jrcxz(e);
	not_taken = emit_jmp8(e);
	patch8(e, taken);
	emit_align_rel32(e, 1);
	emit_goto_from(t, emit_jmp32(e), target);
	patch8(e, not_taken);
	return true;
}

/* To the RIP in r10; `undo`: what RSP has to be moved by if it cannot be gone to. */
static void emit_indirect(struct translator *t, const struct insn *i, int undo)
{
	unsigned link = add_link(t, LINK_BRANCH, 0, t->key);

	t->bt->links[t->b->links + link].undo = (int16_t)undo;
	emit_branch(t, link, i);
	t->ended = true;
}

/* The same by the return stack. */
static void emit_return(struct translator *t, int undo)
{
	unsigned link = add_link(t, LINK_BRANCH, 0, t->key);
	struct link *l = &t->bt->links[t->b->links + link];

	l->undo = (int16_t)undo;
	emit_mov_imm(t->e, R11, RETURN_FROM(t->id, link));
	emit_ret(t->e);
	t->ended = true;
}

/* r10 = where an indirect branch goes. */
static bool emit_indirect_target(struct translator *t, const struct insn *i)
{
	const struct operand *o = &i->operand[0];
	unsigned size = i->opsize;
	struct emitter *e = t->e;
	struct host_mem m;

	if (o->kind == OPERAND_GPR) {
		host_reg from = guest_value(t, o->reg, R10);

		if (size == 2)
			emit_movzx16(e, R10, from);
		else if (from != R10 || size == 4)
			emit_mov(e, size, R10, from);
		return true;
	}
	if (!access_operand(t, i, TLB_READ, size, &m))
		return false;
	emit_op_mem(e, OP_LOAD, size, R10, m);
	if (size == 2)
		emit_movzx16(e, R10, R10);
	return true;
}

/* Bits 63-47 plus 1 have to be 0 or 1. */
void emit_canonical_check(struct translator *t, const struct insn *i)
{
	struct emitter *e = t->e;
	struct tail *tail;
	uint8_t *good;

	emit_mov_imm(e, RCX, 47);
	emit_shift_reg(e, SHIFT_SARX, RCX, R10, RCX);
	emit_lea(e, RCX, mem_at(RCX, 1));
	emit_clear_bit(e, RCX, 0);
	good = emit_jrcxz(e);
	tail = add_tail(t, TAIL_LEAVE);
	tail->leave = LEAVE_CODE(LEAVE_INTERPRET, t->insn_index, i->id);
	tail->site = emit_jmp32(e);
	patch8(e, good);
}

static bool jmp(struct translator *t, const struct insn *i)
{
	uint64_t target;

	if (i->operand[0].kind == OPERAND_REL) {
		if (!branch_target(t, i, &target))
			return false;
		emit_goto(t, target, t->key);
		t->ended = true;
		return true;
	}
	if (!branch_size(t, i) || !emit_indirect_target(t, i))
		return false;
	emit_indirect(t, i, 0);
	return true;
}

/*
 * A CALL over a few bytes is made for what it pushes, and a RET that has stored its target itself is a jump:
 * that is how a retpoline does an indirect branch. Neither is for the return stack.
 */
static bool only_pushes(const struct insn *i) { return i->imm >= 0 && i->imm < 16; }

static bool stores_top(const struct insn *i)
{
	return i->id == INSN_MOV && i->operand[0].kind == OPERAND_MEM && i->mem_base == RSP && i->mem_index == REG_NONE &&
	       i->mem_disp == 0;
}

/* To the RIP in r10, which has been looked up: into WORD_TMP. */
static bool call_looked_up(struct translator *t, const struct insn *i)
{
	emit_call_probe(t, i);
	if (!push_rip(t, i->opsize, next_rip(t, i)))
		return false;
	access_stack_settle(t);
	emit_call_mem(t->e, mem_gs(WORD(WORD_TMP)));
	emit_landing(t, next_rip(t, i));
	t->ended = true;
	return true;
}

/* Nothing of the block's look-ups is known to be in its registers here. */
void inline_call_tail(struct translator *t, const struct insn *i)
{
	uint64_t target;

	t->plan[t->insn_index][ACCESS_STACK].group = GROUP_NONE;
	t->rcx_group = t->r10_group = GROUP_NONE;
	t->rcx_free = t->r10_free = false;
	if (branch_target(t, i, &target)) {
		emit_rip(t, R10, target);
		call_looked_up(t, i);
	}
}

static bool call(struct translator *t, const struct insn *i)
{
	unsigned size = i->opsize, link;
	uint64_t target;

	if (!branch_size(t, i))
		return false;
	if (i->operand[0].kind == OPERAND_REL) {
		if (!branch_target(t, i, &target))
			return false;
		if (t->b->code_page && (target & PAGE_MASK)) { /* out of the page: it may be to no canonical address */
			access_stack_settle(t);
			access_release_rcx(t);
			t->r10_free = false; /* the target is there until the push is done */
			t->r10_group = GROUP_NONE;
			if (has_return_stack(t) && !only_pushes(i) && t->callout_count < CALLOUTS_MAX) {
				if (emit_call_far_check(t, target, &link)) {
					if (!push_rip(t, size, next_rip(t, i)))
						return false;
					access_stack_settle(t);
					emit_call_far(t, link);
					emit_landing(t, next_rip(t, i));
					t->ended = true;
					return true;
				}
				emit_rip(t, R10, target);
				return call_looked_up(t, i);
			}
			emit_rip(t, R10, target);
			emit_canonical_check(t, i);
		}
		if (!push_rip(t, size, next_rip(t, i)))
			return false;
		access_stack_settle(t);
		if (has_return_stack(t) && !only_pushes(i)) {
			emit_call(t, target);
			emit_landing(t, next_rip(t, i));
		} else {
			emit_goto(t, target, t->key);
		}
		t->ended = true;
		return true;
	}
	if (!emit_indirect_target(t, i))
		return false;
	access_release_rcx(t); /* the push may be of the same group as the target was, and what is in between takes rcx */
	if (has_return_stack(t) && t->callout_count < CALLOUTS_MAX)
		return call_looked_up(t, i);
	if (size == 8)
		emit_canonical_check(t, i); /* nothing may be pushed for a target that faults */
	emit_store(t->e, R10, mem_gs(WORD(WORD_TMP)));
	if (!push_rip(t, size, next_rip(t, i)))
		return false;
	access_stack_settle(t);
	emit_load(t->e, R10, mem_gs(WORD(WORD_TMP)));
	emit_indirect(t, i, (int)size);
	return true;
}

static bool ret(struct translator *t, const struct insn *i)
{
	unsigned size = i->opsize, pops = i->operand_count && i->operand[0].kind == OPERAND_IMM ? (uint16_t)i->imm : 0;
	struct emitter *e = t->e;
	struct host_mem m;

	if (!branch_size(t, i) || pops > 0x7000 || !access_stack(t, TLB_READ, size, 0, &m))
		return false;
	emit_op_mem(e, OP_LOAD, size, R10, m);
	if (size == 2)
		emit_movzx16(e, R10, R10);
	access_stack_move(t, (int32_t)(size + pops));
	access_stack_settle(t);
	if (has_return_stack(t) && !(t->insn_index && stores_top(&t->insn[t->insn_index - 1])))
		emit_return(t, -(int)(size + pops));
	else
		emit_indirect(t, i, -(int)(size + pops));
	return true;
}

/* ---- other instructions that are not copies ---- */

bool inline_lea(struct translator *t, const struct insn *i)
{
	const struct operand *o = &i->operand[0];
	host_reg to = host_of[o->reg];
	struct emitter *e = t->e;
	bool direct = to != HOST_NONE && o->size >= 4 && i->addrsize >= o->size;

	if (direct && o->size == 4 && i->addrsize == 8) {
		/* the low half alone */
		struct insn narrow = *i;
		narrow.addrsize = 4;
		emit_effective_address(t, &narrow, to, 0);
		return true;
	}
	emit_effective_address(t, i, direct ? to : R10, 0);
	if (direct)
		return true;
	if (to == HOST_NONE && o->size == 2)
		emit_op_mem(e, OP_STORE, 2, R10, mem_gs(G(gpr) + o->reg * 8));
	else if (to == HOST_NONE && o->size == 4)
		emit_mov(e, 4, R10, R10), emit_store(e, R10, mem_gs(G(gpr) + o->reg * 8));
	else if (to == HOST_NONE)
		emit_store(e, R10, mem_gs(G(gpr) + o->reg * 8));
	else if (o->size == 2)
		emit_store(e, R10, mem_gs(WORD(WORD_TMP))), emit_op_mem(e, OP_LOAD, 2, to, mem_gs(WORD(WORD_TMP)));
	else
		emit_mov(e, o->size, to, R10);
	return true;
}

/* MOV between rAX and an absolute address. */
static bool moffs(struct translator *t, const struct insn *i)
{
	bool store = i->operand[0].kind == OPERAND_MEM;
	unsigned size = i->operand[0].size;

	if (!translate_address(t, i, 0))
		return false;
	emit_op_mem(t->e, (store ? OP_STORE : OP_LOAD) - (size == 1), size == 1 ? 4 : size, RAX,
		    translate_lookup(t, store ? TLB_WRITE : TLB_READ, size, false));
	return true;
}

/* INC and DEC of one byte, which are REX on the host. */
static bool inc_dec(struct translator *t, const struct insn *i)
{
	struct insn two = *i;

	if (i->modrm_at)
		return ident_emit(t, i);
	two.opcode = 0xff;
	two.modrm = (uint8_t)(0xc0 | (i->id == INSN_DEC) << 3 | i->operand[0].reg);
	two.modrm_at = two.opcode_at + 1;
	two.operand[0].at = OPERAND_AT_RM;
	return ident_emit(t, &two);
}

/* ---- all together ---- */

bool inline_emit(struct translator *t, const struct insn *i)
{
	switch (i->id) {
	case INSN_JCC: return jcc(t, i);
	case INSN_JMP: return jmp(t, i);
	case INSN_CALL: return call(t, i);
	case INSN_RET: return ret(t, i);
	case INSN_LOOP:
	case INSN_LOOPE:
	case INSN_LOOPNE: return loop(t, i);
	case INSN_JCXZ: return jcxz(t, i);
	case INSN_PUSH: return push(t, i);
	case INSN_POP: return pop(t, i);
	case INSN_LEAVE: return leave(t, i);
	case INSN_PUSHF: return pushf(t, i);
	case INSN_INC:
	case INSN_DEC: return inc_dec(t, i);
	case INSN_MOV: return moffs(t, i);
	case INSN_XCHG: return ident_emit(t, i);
	case INSN_CLD:
	case INSN_STD:
		emit_rflags_bit(t, RFLAGS_DF, i->id == INSN_STD);
		return true;
	case INSN_CLI:
		if (!(t->key & KEY_CPL0) || (t->key & KEY_REAL))
			return false;
		emit_rflags_bit(t, RFLAGS_IF, false);
		return true;
	case INSN_STI: return sti(t);
	case INSN_STAC:
	case INSN_CLAC: return set_ac(t, i, i->id == INSN_STAC);
	case INSN_SWAPGS: return swapgs(t);
	case INSN_RDTSC: return rdtsc(t);
	case INSN_RDTSCP:
		if (!rdtsc(t))
			return false;
		emit_load32(t->e, HOST_OF_RCX, mem_gs(G(tsc_aux)));
		return true;
	case INSN_MOVS:
	case INSN_STOS: return string_emit(t, i);
	default: return system_emit(t, i);
	}
}
