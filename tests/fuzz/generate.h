/*
 * Random user programs and random states for them. Header only; deterministic by the seed.
 *
 * Instructions are random bytes that the decoder takes and that behave alike on every run: nothing
 * that reads the time, the machine or addresses of the host. Memory operands mostly lie in an arena of a
 * few pages, some across pages, some not mapped.
 */
#ifndef FUZZ_GENERATE_H
#define FUZZ_GENERATE_H

#include <stdint.h>
#include <string.h>

#include "cpu/cpuid.h"
#include "cpu/insn.h"

#define ARENA 0x10000000u /* linear; two pages read-write, one read-only, the next not mapped */
#define ARENA_WRITABLE 0x2000u
#define ARENA_SIZE 0x3000u
#define PROGRAM_INSNS 12 /* of random bytes */
#define PROGRAM_INSNS_MAX 48
#define PROGRAM_BYTES 512

struct rng {
	uint64_t s;
};

static uint64_t rnd(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static unsigned below(struct rng *r, unsigned n)
{
	return (unsigned)(rnd(r) % n);
}

static bool one_in(struct rng *r, unsigned n)
{
	return below(r, n) == 0;
}

struct program {
	uint8_t bytes[PROGRAM_BYTES];
	unsigned bits; /* 64, or 32: compatibility mode */
	unsigned len, count;
	unsigned removable; /* instructions that a failure may do without: the first ones */
	unsigned hot_index; /* generate_hot.h: the register that is an index */
	struct insn insn[PROGRAM_INSNS_MAX];
	uint16_t at[PROGRAM_INSNS_MAX + 1];
	uint64_t undefined; /* flags that may be undefined at the end */
};

/* An address that an access of up to 64 bytes is interesting at. */
static uint32_t arena_address(struct rng *r)
{
	unsigned how = below(r, 100);
	if (how < 60)
		return ARENA + (below(r, 0x1f80) & ~63u);
	if (how < 80)
		return ARENA + below(r, 0x1f80);
	if (how < 92)
		return ARENA + 0x1000 - 32 + below(r, 48);
	if (how < 96)
		return ARENA + 0x2000 - 32 + below(r, 64);
	return ARENA + 0x3000 - 32 + below(r, 64);
}

/* ---- which instructions ---- */

static bool is_excluded(unsigned id)
{
	switch (id) {
	/* time, chance, the machine */
	case INSN_RDRAND: case INSN_RDSEED: case INSN_RDTSC: case INSN_RDTSCP: case INSN_RDPMC: case INSN_RDPID:
	case INSN_RDPRU: case INSN_CPUID: case INSN_XGETBV: case INSN_MCOMMIT: case INSN_PTWRITE:
	case INSN_MONITORX: case INSN_MWAITX: case INSN_UMONITOR: case INSN_UMWAIT: case INSN_TPAUSE:
	case INSN_SERIALIZE: case INSN_CLFLUSH: case INSN_CLFLUSHOPT: case INSN_CLWB:
	/* the operating system's */
	case INSN_SYSCALL: case INSN_SYSENTER: case INSN_SYSRET: case INSN_SYSEXIT: case INSN_INT: case INSN_INT1:
	case INSN_INT3: case INSN_IRET: case INSN_JMP_FAR: case INSN_CALL_FAR: case INSN_RET_FAR: case INSN_RET:
	case INSN_POPF: case INSN_STAC: case INSN_CLAC: case INSN_RSM:
	case INSN_VMCALL: case INSN_VMMCALL: case INSN_VMFUNC: case INSN_ENCLU: case INSN_ENCLV: case INSN_GETSEC:
	case INSN_XBEGIN: case INSN_XEND: case INSN_XTEST: case INSN_XABORT: case INSN_RDPKRU: case INSN_WRPKRU:
	case INSN_VMREAD: case INSN_VMWRITE: case INSN_VMRUN: case INSN_VMLOAD: case INSN_VMSAVE: case INSN_STGI:
	case INSN_CLGI: case INSN_SKINIT: case INSN_INVLPGA:
	/* segments */
	case INSN_MOV_SREG: case INSN_LDS: case INSN_LES: case INSN_LFS: case INSN_LGS: case INSN_LSS: case INSN_RDFSBASE: case INSN_RDGSBASE:
	case INSN_WRFSBASE: case INSN_WRGSBASE: case INSN_SWAPGS:
	/* images that hold addresses of code */
	case INSN_FNSTENV: case INSN_FNSAVE: case INSN_FXSAVE: case INSN_FXRSTOR: case INSN_XSAVE: case INSN_XSAVEC:
	case INSN_XSAVEOPT: case INSN_XSAVES: case INSN_XRSTOR: case INSN_XRSTORS:
		return true;
	default:
		return false;
	}
}

static bool is_usable(const struct cpuid_table *cpuid, const struct insn *i, uint64_t undefined)
{
	const struct insn_desc *d = insn_desc(i);
	if (is_excluded(i->id) || (d->flags & (INSN_PRIVILEGED | INSN_SENSITIVE | INSN_IOPL | INSN_INDIRECT)))
		return false;
	if (d->feature != FEATURE_NONE && !cpuid->has[d->feature])
		return false;
	for (unsigned n = 0; n < i->operand_count; n++)
		if (i->operand[n].kind == OPERAND_SREG)
			return false;
	if (i->seg_prefix == FS || i->seg_prefix == GS) /* the host's thread lives there */
		return false;
	if (i->id == INSN_MOVSXD && i->opsize == 2) /* AMD's read 32 bits, Intel's 16 */
		return false;
	if (i->mode != 64 && (i->id == INSN_VPINSRD || i->id == INSN_VPEXTRD) && (i->rex & 8)) /* #UD to AMD's */
		return false;
	/* AMD's processors take a REP prefix of LOOPE and LOOPNE for the condition */
	if ((i->id == INSN_LOOPE || i->id == INSN_LOOPNE) && (i->rep || i->repne))
		return false;
	if (i->map == MAP_0F && i->opcode == 0x0d && i->modrm >> 6 == 3) /* a NOP to Intel, #UD to AMD */
		return false;
	if ((d->flags & INSN_BRANCH) && i->opsize_prefix) /* AMD's take 16 bits of address then, Intel's do not */
		return false;
	return !(insn_eflags_read(i) & undefined);
}

/* ---- bytes ---- */

struct encoder {
	uint8_t b[24];
	unsigned n;
	unsigned bits;
	bool rip_relative;
	bool x; /* REX.X as it will be */
};

static void put(struct encoder *e, unsigned v)
{
	e->b[e->n++] = (uint8_t)v;
}

static void put32(struct encoder *e, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		put(e, v >> i * 8 & 0xff);
}

static void gen_modrm(struct rng *r, struct encoder *e)
{
	unsigned reg = below(r, 8) << 3, how = below(r, 100);
	e->rip_relative = false;
	if (how < 45) {
		put(e, 0xc0 | reg | below(r, 8));
	} else if (how < 70 && !e->x) { /* [disp32] */
		put(e, reg | 4);
		put(e, 0x25);
		put32(e, arena_address(r));
	} else if (how < 85) { /* [base + disp8] */
		static const uint8_t base[] = { 3, 5, 6, 7 };
		put(e, 0x40 | reg | base[below(r, 4)]);
		put(e, one_in(r, 3) ? below(r, 256) : 0);
	} else if (how < 92) { /* [rip + disp32], [disp32] in 32-bit code */
		put(e, reg | 5);
		e->rip_relative = true;
		put32(e, arena_address(r));
	} else { /* base, index, whatever */
		put(e, below(r, 256));
		put(e, below(r, 256));
		if (one_in(r, 2))
			put32(e, below(r, 64));
		else
			put32(e, arena_address(r));
	}
}

static void gen_legacy(struct rng *r, struct encoder *e)
{
	unsigned map = below(r, 100);
	if (one_in(r, 4))
		put(e, 0x66);
	if (one_in(r, 24))
		put(e, 0x67);
	if (one_in(r, 40)) {
		static const uint8_t segment[] = { 0x26, 0x2e, 0x36, 0x3e };
		put(e, segment[below(r, 4)]);
	}
	if (one_in(r, 20))
		put(e, 0xf0);
	if (one_in(r, 5))
		put(e, 0xf2 + below(r, 2));
	if (e->bits == 64 && one_in(r, 2)) {
		unsigned rex = 0x40 + below(r, 16);
		put(e, rex);
		e->x = rex & 2;
	}
	if (map >= 40)
		put(e, 0x0f);
	if (map >= 80)
		put(e, map < 92 ? 0x38 : 0x3a);
	put(e, one_in(r, 8) && map < 40 ? 0xd8 + below(r, 8) : below(r, 256));
}

static void gen_vex(struct rng *r, struct encoder *e)
{
	if (one_in(r, 3)) {
		put(e, 0xc5);
		put(e, below(r, 256) | (e->bits == 64 ? 0 : 0xc0));
	} else {
		unsigned b = below(r, 256) | (e->bits == 64 ? 0 : 0xe0);
		put(e, 0xc4);
		put(e, (b & 0xe0) | (1 + below(r, 3)));
		e->x = !(b & 0x40);
		b = below(r, 256);
		put(e, one_in(r, 4) ? b | 0x78 : b);
	}
	put(e, below(r, 256));
}

static void gen_evex(struct rng *r, struct encoder *e)
{
	unsigned b = below(r, 256) | (e->bits == 64 ? 0 : 0xf0);
	put(e, 0x62);
	put(e, (b & 0xf0) | (1 + below(r, 3)));
	e->x = !(b & 0x40);
	put(e, below(r, 256) | 4);
	put(e, below(r, 256));
	put(e, below(r, 256));
}

/* One instruction to lie at `address`. */
static struct insn gen_insn(struct rng *r, const struct cpuid_table *cpuid, unsigned bits, uint32_t address,
			    uint64_t undefined)
{
	for (;;) {
		struct encoder e = { .bits = bits };
		struct insn insn;
		unsigned how = below(r, 100);
		if (how < 60 || !cpuid->has[FEATURE_AVX])
			gen_legacy(r, &e);
		else if (how < 85 || !cpuid->has[FEATURE_AVX512F])
			gen_vex(r, &e);
		else
			gen_evex(r, &e);
		gen_modrm(r, &e);
		for (unsigned i = 0; i < 8; i++)
			put(&e, one_in(r, 2) ? below(r, 256) : below(r, 2) * 0xff);
		if (insn_decode(&insn, e.b, INSN_MAX_LEN, bits) != DECODE_OK)
			continue;
		if (e.rip_relative && insn.mem_base == REG_RIP && insn.disp_size == 4) {
			uint32_t disp = arena_address(r) - (address + insn.len);
			memcpy(e.b + insn.disp_at, &disp, 4);
			if (insn_decode(&insn, e.b, INSN_MAX_LEN, bits) != DECODE_OK)
				continue;
		}
		if (is_usable(cpuid, &insn, undefined))
			return insn;
	}
}

/* Relative branches go forward, to the beginning of an instruction or to the end. */
static void fix_branches(struct rng *r, struct program *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		struct insn *insn = &p->insn[i];
		if (!insn->operand_count || insn->operand[0].kind != OPERAND_REL)
			continue;
		unsigned to = i + 1 + below(r, p->count - i);
		int32_t rel = p->at[to] - p->at[i + 1];
		memcpy(p->bytes + p->at[i] + insn->imm_at, &rel, insn->imm_size);
		insn_decode(insn, p->bytes + p->at[i], INSN_MAX_LEN, p->bits);
	}
}

static inline void gen_program(struct rng *r, const struct cpuid_table *cpuid, uint32_t address, struct program *p)
{
	uint64_t undefined = 0;
	bool branches = one_in(r, 3);
	unsigned want = 1 + below(r, PROGRAM_INSNS);
	memset(p->bytes, 0xcc, sizeof(p->bytes));
	p->bits = one_in(r, 4) ? 32 : 64;
	p->len = p->count = 0;
	p->undefined = 0;
	while (p->count < want) {
		struct insn insn = gen_insn(r, cpuid, p->bits, address + p->len, undefined);
		const struct insn_desc *d = insn_desc(&insn);
		if ((d->flags & INSN_BRANCH) && (!branches || insn.operand[0].kind != OPERAND_REL))
			continue;
		p->undefined |= d->eflags_undefined;
		if (!branches)
			undefined &= ~(uint64_t)(insn_eflags_killed(&insn) & ~d->eflags_undefined);
		undefined |= d->eflags_undefined;
		p->at[p->count] = (uint16_t)p->len;
		p->insn[p->count++] = insn;
		memcpy(p->bytes + p->len, insn.bytes, insn.len);
		p->len += insn.len;
	}
	p->removable = p->count;
	p->at[p->count] = (uint16_t)p->len;
	fix_branches(r, p);
}

/* ---- states ---- */

static uint64_t gen_register(struct rng *r)
{
	static const uint64_t special[] = { 0, 1, ~0ull, 0x80, 0x7f, 0x8000, 0x7fff, 0x80000000, 0x7fffffff,
					    0x8000000000000000ull, 0x7fffffffffffffffull, 0xffffffff, 63, 64, 31, 32 };
	switch (below(r, 8)) {
	case 0: case 1: case 2: case 3:
		return arena_address(r);
	case 4:
		return special[below(r, sizeof(special) / sizeof(special[0]))];
	case 5:
		return below(r, 256);
	default:
		return rnd(r);
	}
}

static void gen_lanes(struct rng *r, uint8_t *to, unsigned bytes)
{
	static const uint64_t doubles[] = { 0, 0x3ff0000000000000ull, 0xbff0000000000000ull, 0x7ff0000000000000ull,
					    0x7ff8000000000001ull, 0x7ff0000000000001ull, 0x0000000000000001ull,
					    0x4330000000000001ull, 0xc1e0000000000000ull, 0x400921fb54442d18ull };
	static const uint32_t floats[] = { 0, 0x3f800000, 0xbf800000, 0x7f800000, 0x7fc00001, 0x7f800001, 1, 0x4b000001,
					   0xcf000000, 0x40490fdb };
	for (unsigned i = 0; i < bytes; i += 8) {
		uint64_t v = rnd(r);
		unsigned how = below(r, 6);
		if (how == 0)
			v = doubles[v % 10];
		else if (how == 1)
			v = floats[v % 10] | (uint64_t)floats[(v >> 8) % 10] << 32;
		else if (how == 2)
			v = (v & 0x800fffffffffffffull) | (uint64_t)(1023 - 8 + v % 16) << 52;
		else if (how == 3)
			v &= 0x00ff00ff00ff00ffull;
		memcpy(to + i, &v, 8);
	}
}

/* An XSAVE image of components `mask`, standard format. */
static inline void gen_xsave(struct rng *r, const struct cpuid_table *cpuid, uint64_t mask, uint8_t *x)
{
	bool plain = !one_in(r, 5);
	uint16_t fcw = plain ? 0x37f : (uint16_t)((rnd(r) & 0xf3f) | 0x40), fsw = (uint16_t)(rnd(r) & 0x7f00);
	uint32_t mxcsr = !one_in(r, 4) ? 0x1f80 : (uint32_t)(rnd(r) & 0xffff);
	memset(x, 0, 576);
	if (plain && one_in(r, 4))
		fsw |= rnd(r) & 0x3f;
	memcpy(x, &fcw, 2);
	memcpy(x + 2, &fsw, 2);
	x[4] = (uint8_t)(one_in(r, 3) ? rnd(r) : 0xff);
	memcpy(x + 24, &mxcsr, 4);
	for (unsigned i = 0; i < 8; i++) {
		uint16_t sign_exponent = (uint16_t)(one_in(r, 6) ? rnd(r) : (rnd(r) & 0x8000) | (16383 - 16 + below(r, 32)));
		gen_lanes(r, x + 32 + 16 * i, 8);
		if (!one_in(r, 16))
			x[32 + 16 * i + 7] |= 0x80;
		memcpy(x + 32 + 16 * i + 8, &sign_exponent, 2);
	}
	gen_lanes(r, x + 160, 256);
	memcpy(x + 512, &mask, 8);
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
		if (mask >> i & 1)
			gen_lanes(r, x + cpuid->xsave[i].offset, cpuid->xsave[i].size);
}

#endif
