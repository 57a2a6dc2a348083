/*
 * Masked vector memory accesses, and what else depends on single registers, see masked.h. Registers are looked at in the
 * vCPU's XSAVE area.
 * SDM 2 VMASKMOV, MASKMOVDQU, VGATHER*, VSCATTER*; SDM 1 15.6.4 (fault suppression). vCPU's thread.
 */
#include "engine/interp/masked.h"

#define VECTOR_MAX 64u

struct vector_value {
	uint8_t b[VECTOR_MAX];
};

enum { COMPONENT_AVX = 2, COMPONENT_OPMASK = 5, COMPONENT_ZMM_HIGH = 6, COMPONENT_ZMM_16_31 = 7 };

/* A component of the XSAVE area, NULL when the guest cannot have it. State not live. */
static uint8_t *component(const struct cpu *cpu, unsigned n)
{
	const struct xsave_component *c = &cpu->cpuid->xsave[n];
	return c->size && c->offset + c->size <= cpu->fpu_size ? cpu->fpu + c->offset : NULL;
}

static void vector_move(struct cpu *cpu, unsigned reg, struct vector_value *v, bool put)
{
	uint8_t *part[3] = { NULL, NULL, NULL };
	static const unsigned at[3] = { 0, 16, 32 }, size[3] = { 16, 16, 32 };
	if (reg < 16) {
		part[0] = cpu->fpu + FPU_XMM + 16 * reg;
		part[1] = component(cpu, COMPONENT_AVX);
		part[2] = component(cpu, COMPONENT_ZMM_HIGH);
		part[1] = part[1] ? part[1] + 16 * reg : NULL;
		part[2] = part[2] ? part[2] + 32 * reg : NULL;
	} else {
		uint8_t *high = component(cpu, COMPONENT_ZMM_16_31);
		for (unsigned i = 0; high && i < 3; i++)
			part[i] = high + 64 * (reg & 15) + at[i];
	}
	if (!put)
		zero_bytes(v->b, VECTOR_MAX);
	for (unsigned i = 0; i < 3; i++)
		if (part[i] && put)
			copy_bytes(part[i], v->b + at[i], size[i]);
		else if (part[i])
			copy_bytes(v->b + at[i], part[i], size[i]);
	if (put)
		fpu_component_changed(cpu, (XCR0_SSE | XCR0_AVX | XCR0_AVX512) & cpu->cpuid->xcr0_mask);
}

static uint64_t mask_get(const struct cpu *cpu, unsigned k)
{
	const uint8_t *c = component(cpu, COMPONENT_OPMASK);
	uint64_t v = 0;
	if (c)
		copy_bytes(&v, c + 8 * k, 8);
	return v;
}

static void mask_put(struct cpu *cpu, unsigned k, uint64_t v)
{
	uint8_t *c = component(cpu, COMPONENT_OPMASK);
	if (c)
		copy_bytes(c + 8 * k, &v, 8);
	fpu_component_changed(cpu, XCR0_AVX512 & cpu->cpuid->xcr0_mask);
}

/* ---- gathers and scatters ---- */

struct gather {
	unsigned index_size, data_size, count;
	bool evex, scatter;
};

static bool gather_of(const struct insn *insn, struct gather *g)
{
	switch (insn->id) {
	case INSN_VGATHERDPS:
	case INSN_VPGATHERDD:
	case INSN_VSCATTERDPS:
	case INSN_VPSCATTERDD:
		g->index_size = 4, g->data_size = 4;
		break;
	case INSN_VGATHERDPD:
	case INSN_VPGATHERDQ:
	case INSN_VSCATTERDPD:
	case INSN_VPSCATTERDQ:
		g->index_size = 4, g->data_size = 8;
		break;
	case INSN_VGATHERQPS:
	case INSN_VPGATHERQD:
	case INSN_VSCATTERQPS:
	case INSN_VPSCATTERQD:
		g->index_size = 8, g->data_size = 4;
		break;
	case INSN_VGATHERQPD:
	case INSN_VPGATHERQQ:
	case INSN_VSCATTERQPD:
	case INSN_VPSCATTERQQ:
		g->index_size = 8, g->data_size = 8;
		break;
	default:
		return false;
	}
	g->evex = insn->encoding == ENCODING_EVEX;
	g->scatter = insn->operand[0].kind == OPERAND_MEM;
	g->count = insn->vector_bytes / (g->index_size > g->data_size ? g->index_size : g->data_size);
	return true;
}

static uint64_t element(const struct vector_value *v, unsigned i, unsigned size)
{
	return host_load(v->b + i * size, size);
}

static bool element_sign(const struct vector_value *v, unsigned i, unsigned size)
{
	return v->b[(i + 1) * size - 1] & 0x80;
}

/* The elements, until one faults: *done of them were done, or masked out. */
static enum x gather_elements(struct cpu *cpu, const struct insn *insn, const struct gather *g, uint64_t mask,
			      struct vector_value *data, unsigned *done)
{
	struct vector_value index;
	vector_move(cpu, insn->mem_index, &index, false);
	for (unsigned i = 0; i < g->count; i++) {
		*done = i;
		if (!(mask >> i & 1))
			continue;
		uint64_t v = element(data, i, g->data_size);
		uint64_t moved = (uint64_t)sign_extend(element(&index, i, g->index_size), g->index_size) * insn->mem_scale;
		uint64_t offset = mem_offset(cpu, insn, moved);
		if (g->scatter) {
			TRY(mem_store(cpu, insn->mem_seg, offset, g->data_size, v));
			continue;
		}
		TRY(mem_load(cpu, insn->mem_seg, offset, g->data_size, &v));
		host_store(data->b + i * g->data_size, g->data_size, v);
	}
	*done = g->count;
	return X_OK;
}

static enum x gather_execute(struct cpu *cpu, const struct insn *insn, const struct gather *g)
{
	unsigned reg = insn->operand[g->scatter ? 1 : 0].reg, mask_reg = 0, done = 0;
	struct vector_value data, mask_vector;
	uint64_t mask = 0;
	if (!g->evex) {
		mask_reg = insn->operand[2].reg;
		if (reg == mask_reg || reg == insn->mem_index || mask_reg == insn->mem_index)
			return cpu_raise(cpu, VEC_UD);
	} else if (!insn->evex_aaa || (!g->scatter && reg == insn->mem_index)) {
		return cpu_raise(cpu, VEC_UD);
	}
	cpu_fpu_leave(cpu);
	vector_move(cpu, reg, &data, false);
	if (g->evex) {
		mask = mask_get(cpu, insn->evex_aaa);
	} else {
		vector_move(cpu, mask_reg, &mask_vector, false);
		for (unsigned i = 0; i < g->count; i++)
			mask |= (uint64_t)element_sign(&mask_vector, i, g->data_size) << i;
	}
	enum x x = gather_elements(cpu, insn, g, mask, &data, &done);
	if (x == X_EXIT) /* answered I/O is in the log: begin again with everything as it was */
		return x;
	unsigned end = x == X_OK ? g->count * g->data_size : VECTOR_MAX;
	if (!g->scatter) {
		zero_bytes(data.b + end, VECTOR_MAX - end);
		vector_move(cpu, reg, &data, true);
	}
	if (g->evex) {
		mask_put(cpu, insn->evex_aaa, x == X_OK ? 0 : mask >> done << done);
	} else {
		zero_bytes(mask_vector.b, x == X_OK ? VECTOR_MAX : done * g->data_size);
		vector_move(cpu, mask_reg, &mask_vector, true);
	}
	return x;
}

/* ---- masked moves ---- */

static bool starts_with(const char *name, const char *start)
{
	while (*start)
		if (*name++ != *start++)
			return false;
	return true;
}

/* Size of an element by the mnemonic's last letter, or W for those of floating point. */
static unsigned element_size(const struct insn *insn)
{
	const char *name = insn_desc(insn)->name, *end = name;
	while (*end)
		end++;
	if (insn->id == INSN_VMOVDQU8)
		return 1;
	if (insn->id == INSN_VMOVDQU16)
		return 2;
	if (starts_with(name, "vp") && end[-1] == 'b')
		return 1;
	if (starts_with(name, "vp") && end[-1] == 'w')
		return 2;
	return insn->rex & 8 ? 8 : 4;
}

static unsigned letter_size(char letter)
{
	return letter == 'b' ? 1 : letter == 'w' ? 2 : letter == 'd' ? 4 : 8;
}

static bool is_compress_expand(const struct insn *insn)
{
	switch (insn->id) {
	case INSN_VCOMPRESSPD:
	case INSN_VCOMPRESSPS:
	case INSN_VPCOMPRESSB:
	case INSN_VPCOMPRESSW:
	case INSN_VPCOMPRESSD:
	case INSN_VPCOMPRESSQ:
	case INSN_VEXPANDPD:
	case INSN_VEXPANDPS:
	case INSN_VPEXPANDB:
	case INSN_VPEXPANDW:
	case INSN_VPEXPANDD:
	case INSN_VPEXPANDQ:
		return true;
	default:
		return false;
	}
}

/* Cuts the memory operand into `count` pieces of `size` bytes, and says which of them are needed. */
static uint64_t evex_pieces(const struct insn *insn, unsigned bytes, uint64_t mask, unsigned *size, unsigned *count)
{
	const char *name = insn_desc(insn)->name, *end = name;
	while (*end)
		end++;
	if (insn->evex_b || starts_with(name, "vbroadcast") || starts_with(name, "vpbroadcast") ||
	    starts_with(name, "vinsert")) { /* any element may need it */
		*size = bytes < 8 ? bytes : 8;
		*count = bytes / *size;
		return mask ? ~0ull : 0;
	}
	unsigned wider = 0; /* element size of the wider side of a conversion */
	if (starts_with(name, "vpmov") && bytes < insn->vector_bytes) {
		unsigned a = letter_size(end[-1]), b = letter_size(end[-2]);
		wider = a > b ? a : b;
	} else if (starts_with(name, "vcvt") && bytes < insn->vector_bytes && bytes > 8) {
		wider = insn->id == INSN_VCVTPH2PS || insn->id == INSN_VCVTPS2PH ? 4 : 8;
	}
	if (wider) {
		*count = insn->vector_bytes / wider;
		*size = bytes / *count;
	} else {
		*size = element_size(insn);
		*count = bytes / *size;
	}
	if (!*count || !*size) { /* a scalar */
		*size = bytes;
		*count = 1;
	}
	return mask;
}

/* Loads or stores elements whose mask bits are set. `probe`: a store's first half, checks only. */
static enum x move_elements(struct cpu *cpu, unsigned seg, uint64_t offset, uint64_t offset_mask, unsigned size,
			    unsigned count, uint64_t mask, uint8_t *buf, bool store, bool probe)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = (offset + i * size) & offset_mask, v = 0, linear;
		if (!(mask >> i & 1))
			continue;
		if (probe) {
			TRY(segment_linear(cpu, seg, at, size, ACCESS_WRITE, &linear));
			TRY(mmu_probe(cpu, linear, size, MMU_WRITE));
		} else if (store) {
			TRY(mem_store(cpu, seg, at, size, host_load(buf + i * size, size)));
		} else {
			TRY(mem_load(cpu, seg, at, size, &v));
			host_store(buf + i * size, size, v);
		}
	}
	return X_OK;
}

/* Memory operand of `count` elements under `mask`: checks, runs, stores. */
static enum x masked_run(struct cpu *cpu, const struct insn *insn, unsigned size, unsigned count, uint64_t mask, bool store)
{
	uint8_t buf[VECTOR_MAX] __attribute__((aligned(64)));
	struct stub_context c;
	uint64_t offset = mem_offset(cpu, insn, 0), wrap = size_mask(insn->addrsize);
	zero_bytes(buf, VECTOR_MAX);
	TRY(move_elements(cpu, insn->mem_seg, offset, wrap, size, count, mask, buf, store, store));
	TRY(vector_run(cpu, insn, buf, &c));
	if (store)
		TRY(move_elements(cpu, insn->mem_seg, offset, wrap, size, count, mask, buf, true, false));
	vector_commit(cpu, insn, &c);
	return X_OK;
}

/* VMASKMOVPS/PD, VPMASKMOVD/Q: the sign bits of the vvvv register. */
static enum x vmaskmov(struct cpu *cpu, const struct insn *insn)
{
	unsigned bytes = insn->vector_bytes, size = insn->id == INSN_VMASKMOVPS || insn->id == INSN_VPMASKMOVD ? 4 : 8;
	struct vector_value v;
	uint64_t mask = 0;
	bool live = cpu->fpu_live;
	cpu_fpu_leave(cpu);
	vector_move(cpu, insn->vvvv & 15, &v, false);
	if (live)
		cpu_fpu_enter(cpu);
	for (unsigned i = 0; i < bytes / size; i++)
		mask |= (uint64_t)element_sign(&v, i, size) << i;
	return masked_run(cpu, insn, size, bytes / size, mask, insn->mem_index_of == 0);
}

/* MASKMOVQ, MASKMOVDQU: bytes of the first register to DS:rDI, by the sign bits of the second. */
static enum x maskmov_bytes(struct cpu *cpu, const struct insn *insn)
{
	bool mmx = insn->id == INSN_MASKMOVQ;
	unsigned size = mmx ? 8 : 16, data_reg = (insn->modrm >> 3 & 7) | (insn->rex & 4) << 1,
		 mask_reg = (insn->modrm & 7) | (insn->rex & 1) << 3;
	unsigned seg = insn->seg_prefix == REG_NONE ? DS : insn->seg_prefix;
	uint64_t offset = reg_read(cpu, RDI, insn->addrsize), wrap = size_mask(insn->addrsize), mask = 0;
	struct vector_value data, selector;
	bool live = cpu->fpu_live;
	cpu_fpu_leave(cpu);
	if (mmx) {
		unsigned top = (cpu->fpu[FPU_FSW + 1] >> 3) & 7;
		copy_bytes(data.b, cpu->fpu + FPU_ST + 16 * (((data_reg & 7) - top) & 7), 8);
		copy_bytes(selector.b, cpu->fpu + FPU_ST + 16 * (((mask_reg & 7) - top) & 7), 8);
	} else {
		vector_move(cpu, data_reg, &data, false);
		vector_move(cpu, mask_reg, &selector, false);
	}
	for (unsigned i = 0; i < size; i++)
		mask |= (uint64_t)element_sign(&selector, i, 1) << i;
	enum x x = move_elements(cpu, seg, offset, wrap, 1, size, mask, data.b, true, true);
	if (x == X_OK)
		x = move_elements(cpu, seg, offset, wrap, 1, size, mask, data.b, true, false);
	if (x == X_OK && mmx) { /* as every MMX instruction: top of stack 0, all registers valid */
		uint8_t st[128];
		unsigned top = (cpu->fpu[FPU_FSW + 1] >> 3) & 7;
		for (unsigned i = 0; i < 8; i++)
			copy_bytes(st + 16 * i, cpu->fpu + FPU_ST + 16 * ((i - top) & 7), 16);
		copy_bytes(cpu->fpu + FPU_ST, st, 128);
		cpu->fpu[FPU_FSW + 1] &= (uint8_t)~0x38;
		cpu->fpu[FPU_FTW] = 0xff;
		fpu_component_changed(cpu, XCR0_X87);
	}
	if (live)
		cpu_fpu_enter(cpu);
	return x;
}

static uint64_t count_mask(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* VZEROUPPER and VZEROALL outside 64-bit mode: registers 0-7 only. */
static enum x vzero_low(struct cpu *cpu, const struct insn *insn)
{
	unsigned kept = insn->id == INSN_VZEROALL ? 0 : 16;
	struct vector_value v;
	bool live = cpu->fpu_live;
	cpu_fpu_leave(cpu);
	for (unsigned reg = 0; reg < 8; reg++) {
		vector_move(cpu, reg, &v, false);
		zero_bytes(v.b + kept, VECTOR_MAX - kept);
		vector_move(cpu, reg, &v, true);
	}
	if (live)
		cpu_fpu_enter(cpu);
	return X_OK;
}

static bool is_vzero_low(const struct insn *insn)
{
	return (insn->id == INSN_VZEROALL || insn->id == INSN_VZEROUPPER) && insn->mode != 64;
}

/* AVX-512 with a mask register and a memory operand. */
static enum x evex_masked(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *op = &insn->operand[insn->mem_index_of];
	unsigned size, count, bytes = op->size;
	bool store = op->access & ACCESS_WRITE, live = cpu->fpu_live;
	cpu_fpu_leave(cpu);
	uint64_t mask = mask_get(cpu, insn->evex_aaa);
	if (live)
		cpu_fpu_enter(cpu);
	if (!bytes || bytes > VECTOR_MAX)
		return cpu_raise(cpu, VEC_UD);
	mask = evex_pieces(insn, bytes, mask, &size, &count);
	if (is_compress_expand(insn)) /* as many elements as the mask selects, next to each other */
		mask = count_mask((unsigned)__builtin_popcountll(mask & count_mask(count)));
	uint64_t linear, offset = mem_offset(cpu, insn, 0);
	if (insn_desc(insn)->flags & INSN_ALIGNED) {
		TRY(segment_linear(cpu, insn->mem_seg, offset, bytes, op->access & ACCESS_READ_WRITE, &linear));
		if (linear & (bytes - 1))
			return cpu_raise_error(cpu, VEC_GP, 0);
	}
	return masked_run(cpu, insn, size, count, mask, store);
}

static bool is_vmaskmov(const struct insn *insn)
{
	return insn->id == INSN_VMASKMOVPS || insn->id == INSN_VMASKMOVPD || insn->id == INSN_VPMASKMOVD ||
	       insn->id == INSN_VPMASKMOVQ;
}

static bool is_maskmov_bytes(const struct insn *insn)
{
	return insn->id == INSN_MASKMOVQ || insn->id == INSN_MASKMOVDQU || insn->id == INSN_VMASKMOVDQU;
}

bool masked_handles(const struct insn *insn)
{
	struct gather g;
	return is_vmaskmov(insn) || is_maskmov_bytes(insn) || is_vzero_low(insn) || (insn->evex_aaa && insn->mem_index_of >= 0) ||
	       gather_of(insn, &g);
}

enum x masked_execute(struct cpu *cpu, const struct insn *insn)
{
	struct gather g;
	if (is_vmaskmov(insn))
		return vmaskmov(cpu, insn);
	if (is_maskmov_bytes(insn))
		return maskmov_bytes(cpu, insn);
	if (is_vzero_low(insn))
		return vzero_low(cpu, insn);
	if (gather_of(insn, &g))
		return gather_execute(cpu, insn, &g);
	return evex_masked(cpu, insn);
}
