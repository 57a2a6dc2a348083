/*
 * MOVS and STOS in 64-bit code, in place, upwards; with REP fewer than 4096 elements, source and destination
 * each in one page that the TLB has. Without REP also in 32-bit code with flat segments: GRUB copies by such.
 * Everything else is the interpreter's, by a call-out that comes back behind the instruction.
 *
 * While the host's REP runs, a kick's handler lets it (signal.c), for to step through its elements would
 * take long; so cpu->request is looked at behind it. Sources: SDM 2, REP, MOVS, STOS. vCPU's thread, under
 * the cache's lock.
 */
#include "engine/bt/bt.h"

enum { OP_REP = 0xf3, OP_MOVS = 0xa4, OP_STOS = 0xaa };

/* To `fail` unless rcx is 0. */
static void emit_unless_zero(struct emitter *e, uint32_t fail)
{
	uint8_t *zero = emit_jrcxz(e);

	emit_jmp_to(e, fail);
	patch8(e, zero);
}

/* to = the addend for RCX elements from guest register `reg` on; may use r11 and rcx. Both ends have to be in the page: one
 * alone may seem to be in an empty entry's, if the address is not canonical, and a fault in the host's REP would show
 * the guest what its registers are then. */
static void emit_span(struct translator *t, host_reg to, host_reg reg, unsigned size, enum tlb_kind kind, uint32_t fail)
{
	int32_t set = access_set(t, kind);
	struct emitter *e = t->e;

	emit_tlb_index(e, R11, reg);
	for (unsigned last = 0; last < 2; last++) {
		emit_load(e, RCX, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, minus_page), R11));
		emit_lea(e, RCX, mem_sum(RCX, reg));
		if (last)
			emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = HOST_OF_RCX, .scale = (uint8_t)size, .disp = -1 });
		emit_page_number(e, RCX, RCX);
		emit_unless_zero(e, fail);
	}
	emit_load(e, to, mem_gs_index(set + (int32_t)offsetof(struct tlb_set, addend), R11));
	t->bt->stats.made.tlb_lookups++;
	t->segment_accesses++;
}

static struct host_mem behind(host_reg reg, unsigned size)
{
	return (struct host_mem){ .base = reg, .index = HOST_OF_RCX, .scale = (uint8_t)size };
}

static void emit_rep(struct emitter *e, unsigned op, unsigned size)
{
	emit_mov(e, 8, RCX, HOST_OF_RCX);
	emit8(e, OP_REP);
	if (size == 2)
		emit8(e, 0x66);
	if (size == 8)
		emit8(e, 0x48);
	emit8(e, op | (size > 1));
}

bool string_at_rep(const uint8_t *host)
{
	unsigned op;

	if (host[0] != OP_REP)
		return false;
	op = host[1] == 0x66 || host[1] == 0x48 ? host[2] : host[1];
	return (op & ~1u) == OP_MOVS || (op & ~1u) == OP_STOS;
}

/* rcx = DF. */
static void emit_direction(struct emitter *e)
{
	emit_load(e, RCX, mem_gs(G(rflags)));
	emit_mov_imm(e, R10, RFLAGS_DF);
	emit_pext_reg(e, RCX, RCX, R10);
}

/* r10 = the host address of the element at guest register `reg`. */
static void emit_element(struct translator *t, host_reg reg, unsigned size, enum tlb_kind kind)
{
	emit_mov(t->e, code64(t) ? 8 : 4, R10, reg);
	emit_lea(t->e, R10, translate_lookup(t, kind, size, false));
}

static void emit_advance(struct translator *t, host_reg reg, unsigned size)
{
	(code64(t) ? emit_lea : emit_lea32)(t->e, reg, mem_at(reg, (int32_t)size));
}

/* One element, without REP. */
static bool string_one(struct translator *t, const struct insn *i, struct tail *whole)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;
	bool movs = i->id == INSN_MOVS;
	struct emitter *e = t->e;

	emit_direction(e);
	emit_lea(e, RCX, mem_at(RCX, 1));
	emit_way(t, emit_unless_one(e), whole);
	if (movs) {
		emit_element(t, RSI, size, TLB_READ);
		emit_store(e, R10, mem_gs(WORD(WORD_TMP)));
	}
	emit_element(t, RDI, size, TLB_WRITE);
	if (movs) {
		emit_load(e, R11, mem_gs(WORD(WORD_TMP)));
		if (size == 1)
			emit_load_byte(e, R11, mem_at(R11, 0));
		else
			emit_op_mem(e, OP_LOAD, size, R11, mem_at(R11, 0));
	}
	emit_op_mem(e, size == 1 ? OP_STORE8 : OP_STORE, size == 1 ? 4 : size, movs ? R11 : RAX, mem_at(R10, 0));
	if (movs)
		emit_advance(t, RSI, size);
	emit_advance(t, RDI, size);
	whole->retry = emit_offset(e);
	return true;
}

/* Are its addresses those of registers? */
static bool plain_addresses(const struct translator *t, const struct insn *i)
{
	uint32_t flat = KEY_FLAT_ES | (i->id == INSN_MOVS ? KEY_FLAT_DS : 0);

	if (code64(t))
		return i->addrsize == 8;
	return (t->key & KEY_CODE) == KEY_CODE32 && i->addrsize == 4 && !i->rep && (t->key & flat) == flat;
}

bool string_emit(struct translator *t, const struct insn *i)
{
	unsigned size = i->opcode & 1 ? i->opsize : 1;
	bool movs = i->id == INSN_MOVS;
	struct emitter *e = t->e;
	struct tail *whole, *left;
	uint32_t fail;
	uint8_t *start, *done;

	if (t->bt->unchained || !plain_addresses(t, i) || i->repne || i->seg_prefix != REG_NONE || t->b->len2 ||
	    t->callout_count == CALLOUTS_MAX)
		return false;
	access_forget(t);
	t->callout_count++;
	whole = add_tail(t, TAIL_CALLOUT);
	if (!i->rep)
		return string_one(t, i, whole);
	start = emit_jmp8(e);
	fail = emit_offset(e);
	whole->site = emit_jmp32(e);
	patch8(e, start);

	emit_direction(e);
	emit_unless_zero(e, fail);
	emit_page_number(e, RCX, HOST_OF_RCX);
	emit_unless_zero(e, fail);
	emit_span(t, R10, RDI, size, TLB_WRITE, fail);
	if (movs) {
		emit_span(t, R11, RSI, size, TLB_READ, fail);
		emit_lea(e, RCX, behind(RDI, size));
		emit_store(e, RCX, mem_gs(WORD(WORD_TMP)));
	}
	t->commit = emit_offset(e);
	if (movs) {
		emit_lea(e, RDI, mem_sum(RDI, R10));
		emit_lea(e, R10, behind(RSI, size));
		emit_lea(e, RSI, mem_sum(RSI, R11));
		emit_rep(e, OP_MOVS, size);
		emit_mov(e, 8, RSI, R10);
		emit_load(e, RDI, mem_gs(WORD(WORD_TMP)));
	} else {
		emit_lea(e, R11, behind(RDI, size));
		emit_lea(e, RDI, mem_sum(RDI, R10));
		emit_rep(e, OP_STOS, size);
		emit_mov(e, 8, RDI, R11);
	}
	emit_mov_imm(e, HOST_OF_RCX, 0);
	emit_load32(e, RCX, mem_gs(G(request)));
	done = emit_jrcxz(e);
	left = add_tail(t, TAIL_LEAVE);
	left->leave = LEAVE_CODE(LEAVE_REQUEST, 0, 0);
	left->site = emit_jmp32(e);
	patch8(e, done);
	whole->retry = emit_offset(e);
	return true;
}
