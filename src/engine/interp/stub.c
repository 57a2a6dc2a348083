/*
 * Makes, keeps and runs stubs, see stub.h. A stub is a function of the encoded instruction alone;
 * its slot is found by the hash of the host encoding, and by that of the guest's bytes for speed.
 *
 *   push callee-saved; push context; [flags in]; mov regs, [context]; mov P, context->memory
 *   begin: the instruction
 *   end:   mov P, [rsp]; mov [context], regs; [flags out]
 *   exit:  pop all; ret
 */
#include "engine/interp/stub.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/code_memory.h"
#include "engine/interp/hostfault.h"

#define SLOT_SIZE 256u
#define SLOTS 4096u
#define LOOKUPS 4096u

struct stub {
	uint64_t key[2];    /* the host encoding, zero-padded, its length in the last byte */
	uint64_t serial;    /* of this making; 0: empty */
	uint16_t registers; /* the guest's; part of the key, since a host register may stand for RSP */
	uint8_t begin, end, exit; /* offsets in the slot */
};

struct lookup {
	uint64_t key[2]; /* guest bytes, mode in the last byte */
	uint64_t serial;
	uint32_t slot;
};

struct stubs {
	struct code_memory code; /* SLOTS * SLOT_SIZE bytes */
	uint64_t serial;
	struct stub stub[SLOTS];
	struct lookup lookup[LOOKUPS];
};

static __thread struct stubs *stubs;
static pthread_key_t stubs_key;
static pthread_once_t stubs_once = PTHREAD_ONCE_INIT;

_Static_assert(offsetof(struct stub_context, flags) == 128 && offsetof(struct stub_context, memory) == 136,
	       "emit_* use these offsets");

/* ---- the thread's stubs ---- */

static void stubs_free(void *p)
{
	struct stubs *s = p;

	code_memory_give_back(&s->code);
	free(s);
}

static void stubs_key_create(void)
{
	pthread_key_create(&stubs_key, stubs_free);
}

static struct stubs *stubs_new(void)
{
	struct stubs *s = calloc(1, sizeof(*s));

	if (!s || code_memory_take(&s->code, SLOTS * SLOT_SIZE) < 0) {
		free(s);
		return NULL;
	}
	pthread_once(&stubs_once, stubs_key_create);
	pthread_setspecific(stubs_key, s);
	return s;
}

/* ---- the instruction, encoded for the host ---- */

/* Which fields of the encoding hold a register number that changes. */
enum { FIELD_REG = 1, FIELD_RM = 2, FIELD_VVVV = 4 };

struct recipe {
	uint8_t pointer;   /* host register for the memory operand, RAX-RDI but RSP and RBP */
	uint8_t stack_as;  /* host register that stands for the guest's RSP */
	uint8_t renamed;   /* FIELD_* that hold RSP */
	bool without_w;    /* VEX.W, EVEX.W that outside 64-bit mode says nothing */
	bool without_imm7; /* the same for bit 7 of an immediate that names a register */
};

static bool is_legacy_gpr(const struct insn *i)
{
	return i->encoding == ENCODING_LEGACY && !(insn_desc(i)->flags & (INSN_X87 | INSN_MMX | INSN_SSE));
}

static bool wants_66(const struct insn *i)
{
	if (insn_desc(i)->flags & INSN_X87)
		return i->opsize == 2;
	if (is_legacy_gpr(i) && i->id != INSN_ADCX)
		return i->opsize == 2;
	return i->opsize_prefix;
}

/* The F2 or F3 that counts: the last one before the opcode. */
static uint8_t repeat_prefix(const struct insn *i)
{
	uint8_t last = 0;
	if (!i->rep && !i->repne)
		return 0;
	for (unsigned n = 0; n < i->opcode_at; n++)
		if (i->bytes[n] == 0xf2 || i->bytes[n] == 0xf3)
			last = i->bytes[n];
	return last;
}

static uint8_t host_modrm(const struct insn *i, const struct recipe *r)
{
	uint8_t reg = i->modrm >> 3 & 7, rm = i->modrm & 7, mod = i->modrm >> 6;
	if (r->renamed & FIELD_REG)
		reg = r->stack_as;
	if (mod != 3) {
		mod = 0;
		rm = r->pointer;
	} else if (r->renamed & FIELD_RM) {
		rm = r->stack_as;
	}
	return (uint8_t)(mod << 6 | reg << 3 | rm);
}

static unsigned encode(const struct insn *i, const struct recipe *r, uint8_t out[INSN_MAX_LEN + 1])
{
	unsigned n = 0;
	bool memory = i->modrm_at && i->modrm >> 6 != 3;
	uint8_t rex = memory ? i->rex & 0x4c : i->rex;
	uint8_t vvvv = r->renamed & FIELD_VVVV ? r->stack_as : i->vvvv;
	unsigned w = r->without_w ? 0 : 0x80;
	if (i->mode != 64)
		vvvv &= 7;
	const uint8_t *payload = i->bytes + i->opcode_at; /* VEX and EVEX end here */
	switch (i->encoding) {
	case ENCODING_LEGACY: {
		static const uint8_t escapes[][2] = { { 0, 0 }, { 0x0f, 0 }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
		uint8_t repeat = repeat_prefix(i);
		if (wants_66(i))
			out[n++] = 0x66;
		if (repeat)
			out[n++] = repeat;
		if (rex)
			out[n++] = rex;
		for (unsigned e = 0; e < 2 && escapes[i->map & 3][e]; e++)
			out[n++] = escapes[i->map & 3][e];
		break;
	}
	case ENCODING_VEX:
		out[n++] = 0xc4;
		out[n++] = (uint8_t)((~rex & 7) << 5 | i->map);
		out[n++] = (uint8_t)(((unsigned)(rex & 8) << 4 & w) | (~vvvv & 15) << 3 | (payload[-1] & 7));
		break;
	case ENCODING_EVEX:
		out[n++] = 0x62;
		out[n] = payload[-3];
		if (memory)
			out[n] |= 0x60; /* X and B clear */
		n++;
		out[n++] = (uint8_t)((payload[-2] & (7 | w)) | (~vvvv & 15) << 3);
		out[n++] = payload[-1];
		break;
	default:
		return 0;
	}
	out[n++] = i->opcode;
	if (i->modrm_at)
		out[n++] = host_modrm(i, r);
	if (n + i->imm_size > INSN_MAX_LEN)
		return 0;
	for (unsigned b = 0; b < i->imm_size; b++)
		out[n++] = i->bytes[i->imm_at + b];
	if (r->without_imm7)
		out[n - 1] &= 0x7f;
	return n;
}

/* Does the host encoding say the same, but for the registers that were meant to change? */
static bool same_meaning(const struct insn *guest, const uint8_t *bytes, unsigned len, const struct recipe *r)
{
	struct insn host;
	if (insn_decode(&host, bytes, len, 64) != DECODE_OK || host.len != len || host.id != guest->id ||
	    host.operand_count != guest->operand_count || host.mem_index_of != guest->mem_index_of)
		return false;
	for (unsigned n = 0; n < guest->operand_count; n++) {
		const struct operand *g = &guest->operand[n], *h = &host.operand[n];
		if (g->kind != h->kind || g->size != h->size || g->high8 != h->high8 || g->access != h->access)
			return false;
		if (g->kind == OPERAND_MEM || g->kind == OPERAND_IMM)
			continue;
		bool stack = g->kind == OPERAND_GPR && g->reg == RSP && !g->high8;
		if (h->reg != (stack ? r->stack_as : g->reg))
			return false;
	}
	return true;
}

static uint16_t registers_of(const struct insn *i)
{
	const struct insn_desc *d = insn_desc(i);
	uint16_t set = d->gpr_read | d->gpr_written;
	for (unsigned n = 0; n < i->operand_count; n++)
		if (i->operand[n].kind == OPERAND_GPR)
			set |= (uint16_t)(1u << i->operand[n].reg);
	return set;
}

/* A low register that the instruction does not use; RSP if there is none. */
static uint8_t free_register(uint16_t used)
{
	static const uint8_t candidates[] = { RBX, RSI, RDX, RCX, RAX };
	for (unsigned n = 0; n < sizeof(candidates); n++)
		if (!(used >> candidates[n] & 1))
			return candidates[n];
	return RSP;
}

static unsigned encode_for_host(const struct insn *i, struct recipe *r, uint8_t out[INSN_MAX_LEN + 1])
{
	uint16_t used = registers_of(i);
	r->pointer = free_register(used);
	r->stack_as = free_register((uint16_t)(used | 1u << r->pointer));
	r->renamed = 0;
	if (r->pointer == RSP || (r->stack_as == RSP && (used >> RSP & 1)))
		return 0;
	/* RSP may be in any of three fields, and outside 64-bit mode some bits are ignored; what the decoder
	 * makes of the result tells what is right */
	unsigned last = used >> RSP & 1 ? 7 : 0;
	for (unsigned attempt = i->mode == 64 ? 1 : 0; attempt < (i->mode == 64 ? 2 : 4); attempt++) {
		r->without_w = !(attempt & 1);
		r->without_imm7 = (attempt & 2) && i->imm_size;
		for (unsigned fields = last ? 1 : 0; fields <= last; fields++) {
			r->renamed = (uint8_t)fields;
			unsigned len = encode(i, r, out);
			if (len && same_meaning(i, out, len, r))
				return len;
		}
	}
	return 0;
}

/* ---- code around it ---- */

struct emitter {
	uint8_t *p;
	unsigned n;
};

static void emit8(struct emitter *e, uint8_t b)
{
	e->p[e->n++] = b;
}

static void emit_bytes(struct emitter *e, const uint8_t *b, unsigned n)
{
	while (n--)
		emit8(e, *b++);
}

/* mov reg, [base + offset] (0x8b) or the other way (0x89); base is not RSP or R12 */
static void emit_move(struct emitter *e, uint8_t opcode, unsigned reg, unsigned base, uint32_t offset)
{
	emit8(e, (uint8_t)(0x48 | (reg >> 3) << 2 | base >> 3));
	emit8(e, opcode);
	emit8(e, (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7)));
	for (unsigned i = 0; i < 4; i++)
		emit8(e, (uint8_t)(offset >> i * 8));
}

static void emit_push(struct emitter *e, unsigned reg, bool pop)
{
	if (reg >= 8)
		emit8(e, 0x41);
	emit8(e, (uint8_t)((pop ? 0x58 : 0x50) | (reg & 7)));
}

static const uint8_t callee_saved[] = { RBX, RBP, R12, R13, R14, R15, RDI /* the context */ };
#define SAVED (sizeof(callee_saved))

/* push/pop qword [base + flags] */
static void emit_flags(struct emitter *e, unsigned base, bool in)
{
	uint32_t offset = offsetof(struct stub_context, flags);
	if (!in)
		emit8(e, 0x9c); /* pushfq */
	emit8(e, in ? 0xff : 0x8f);
	emit8(e, (uint8_t)(0x80 | (in ? 6 : 0) << 3 | base));
	for (unsigned i = 0; i < 4; i++)
		emit8(e, (uint8_t)(offset >> i * 8));
	if (in)
		emit8(e, 0x9d); /* popfq */
}

static void build(struct stub *s, uint8_t *slot, const struct insn *i, const struct recipe *r, const uint8_t *bytes,
		  unsigned len)
{
	const struct insn_desc *d = insn_desc(i);
	struct emitter e = { slot, 0 };
	uint16_t used = registers_of(i);
	bool flags = d->eflags_read | d->eflags_written | d->eflags_undefined;
	for (unsigned n = 0; n < SAVED; n++)
		emit_push(&e, callee_saved[n], false);
	if (flags)
		emit_flags(&e, RDI, true);
	emit_move(&e, 0x8b, r->pointer, RDI, offsetof(struct stub_context, memory));
	for (unsigned g = 0; g < GPR_COUNT; g++)
		if ((used >> g & 1) && g != RDI)
			emit_move(&e, 0x8b, g == RSP ? r->stack_as : g, RDI, g * 8);
	if (used >> RDI & 1)
		emit_move(&e, 0x8b, RDI, RDI, RDI * 8);

	s->begin = (uint8_t)e.n;
	emit_bytes(&e, bytes, len);
	s->end = (uint8_t)e.n;

	static const uint8_t load_context[] = { 0x48, 0x8b, 0x04, 0x24 }; /* mov rax, [rsp] */
	emit8(&e, load_context[0]);
	emit8(&e, load_context[1]);
	emit8(&e, (uint8_t)(load_context[2] | r->pointer << 3));
	emit8(&e, load_context[3]);
	for (unsigned g = 0; g < GPR_COUNT; g++)
		if (used >> g & 1)
			emit_move(&e, 0x89, g == RSP ? r->stack_as : g, r->pointer, g * 8);
	if (flags)
		emit_flags(&e, r->pointer, false);
	s->exit = (uint8_t)e.n;
	for (unsigned n = SAVED; n-- > 0;)
		emit_push(&e, callee_saved[n], true);
	emit8(&e, 0xc3);
	s->registers = used;
}

/* Code that was just written is run next, through another mapping: something serializing between. */
static void serialize(void)
{
	asm volatile("subq $128, %%rsp\n\t" /* the red zone */
		     "leaq 128(%%rsp), %%rax\n\t"
		     "movl %%ss, %%ecx\n\tpushq %%rcx\n\tpushq %%rax\n\tpushfq\n\t"
		     "movl %%cs, %%ecx\n\tpushq %%rcx\n\tleaq 1f(%%rip), %%rcx\n\tpushq %%rcx\n\t"
		     "iretq\n1:"
		     :
		     :
		     : "rax", "rcx", "memory", "cc");
}

/* ---- look-up ---- */

static uint32_t hash(const uint64_t key[2])
{
	uint64_t h = (key[0] ^ key[1] * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	return (uint32_t)(h >> 40);
}

static uint64_t pack(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)p[i] << i * 8;
	return v;
}

static void guest_key(const struct insn *i, uint64_t key[2])
{
	unsigned n = i->len < 8 ? 8 - i->len : 0, m = i->len < 8 ? 8 : 16 - i->len;
	uint64_t high = 0;
	__builtin_memcpy(&key[0], i->bytes, 8);
	__builtin_memcpy(&high, i->bytes + 8, INSN_MAX_LEN - 8);
	key[0] = key[0] << n * 8 >> n * 8;
	key[1] = (m == 8 ? 0 : high << m * 8 >> m * 8) | (uint64_t)(i->mode | i->len) << 56;
}

void stub_prepare(void)
{
	if (!stubs)
		stubs = stubs_new();
}

int stub_reserve(unsigned threads) { return code_memory_reserve(SLOTS * SLOT_SIZE, threads); }

const struct stub *stub_get(const struct insn *insn, bool *no_memory)
{
	struct stubs *t = stubs;
	uint64_t key[2];
	*no_memory = false;
	if (__builtin_expect(!t, 0)) {
		t = stubs = stubs_new();
		if (!t) {
			*no_memory = true;
			return NULL;
		}
	}
	guest_key(insn, key);
	struct lookup *l = &t->lookup[hash(key) & (LOOKUPS - 1)];
	if (l->serial && l->key[0] == key[0] && l->key[1] == key[1] && t->stub[l->slot].serial == l->serial)
		return &t->stub[l->slot];

	uint8_t bytes[INSN_MAX_LEN + 1];
	struct recipe r;
	unsigned len = encode_for_host(insn, &r, bytes);
	if (!len)
		return NULL;
	uint64_t host[2] = { pack(bytes, len < 8 ? len : 8), (len > 8 ? pack(bytes + 8, len - 8) : 0) | (uint64_t)len << 56 };
	uint16_t used = registers_of(insn);
	uint32_t slot = (hash(host) ^ used) & (SLOTS - 1);
	struct stub *s = &t->stub[slot];
	if (!s->serial || s->key[0] != host[0] || s->key[1] != host[1] || s->registers != used) {
		s->key[0] = host[0];
		s->key[1] = host[1];
		s->serial = ++t->serial;
		build(s, t->code.rw + slot * SLOT_SIZE, insn, &r, bytes, len);
		serialize();
	}
	*l = (struct lookup){ { key[0], key[1] }, s->serial, slot };
	return s;
}

uint16_t stub_registers(const struct stub *s)
{
	return s->registers;
}

int stub_run(const struct stub *s, struct stub_context *context)
{
	uint8_t *code = stubs->code.rx + (size_t)(s - stubs->stub) * SLOT_SIZE;
	void (*run)(struct stub_context *);
	__builtin_memcpy(&run, &code, sizeof(run));
	hostfault_stub.begin = (uintptr_t)code + s->begin;
	hostfault_stub.end = (uintptr_t)code + s->end;
	hostfault_stub.exit = (uintptr_t)code + s->exit;
	hostfault_stub.vector = -1;
	run(context);
	hostfault_stub.begin = hostfault_stub.end = 0;
	return hostfault_stub.vector;
}
