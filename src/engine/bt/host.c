/*
 * Sequences that are not the same for every host's processor: tests and bits of addresses, without a flag. Each has one form
 * that is best where LOOP, PEXT and PDEP are fast, and another.
 *
 * AMD's processors run LOOP as they run any branch; Intel's take seven micro-operations out of microcode for it, and what
 * others do is not known. PEXT and PDEP are in microcode on AMD's before Zen 3: hundreds of cycles for a mask of many bits.
 * Sources: AMD, Software Optimization Guides for families 17h and 19h; A. Fog, Instruction tables; APM 3, CPUID.
 *
 * Part of translation: with the cache's lock.
 */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bt/bt.h"

void host_init(struct emitter *e)
{
	const char *slow = getenv("RINGSIDE_BT_SLOW");
	unsigned a = 0, b = 0, c = 0, d = 0, vendor[3];
	bool amd, hygon;

	__get_cpuid(0, &a, &vendor[0], &vendor[2], &vendor[1]);
	amd = memcmp(vendor, "AuthenticAMD", sizeof(vendor)) == 0;
	hygon = memcmp(vendor, "HygonGenuine", sizeof(vendor)) == 0; /* its cores are Zen 1 */
	__get_cpuid(1, &a, &b, &c, &d);
	e->slow_loop = slow ? strstr(slow, "loop") != NULL : !amd && !hygon;
	e->slow_pext = slow ? strstr(slow, "pext") != NULL : hygon || (amd && (a >> 8 & 15) + (a >> 20 & 255) < 0x19);
}

/* ---- tests ---- */

static uint32_t emit_branch8(struct emitter *e, unsigned opcode)
{
	emit8(e, opcode);
	emit8(e, 0);
	return emit_offset(e) - 1;
}

uint32_t emit_unless_one(struct emitter *e)
{
	emit_changes(e, RCX);
	if (!e->slow_loop)
		return emit_branch8(e, OP_LOOP);
	emit_lea(e, RCX, mem_at(RCX, -1));
	emit_pext_reg(e, RCX, RCX, RCX); /* as many ones as it has: bit 0 says whether any */
	emit_not(e, RCX);
	emit_pext(e, RCX, RCX, mem_cache(CONSTANT_ONE));
	return emit_branch8(e, OP_JRCXZ);
}

uint32_t emit_unless_page_hit(struct emitter *e)
{
	if (!e->slow_loop)
		return emit_unless_one(e);
	emit_lea(e, RCX, mem_at(RCX, -1)); /* the highest byte is 255 if it was 0, else 0 */
	emit_rorx(e, RCX, RCX, 56);
	emit_movzx8(e, RCX, RCX);
	return emit_branch8(e, OP_JRCXZ);
}

/* A JMP in the SIB byte (0xe9) and displacement of a NOP. */
uint32_t emit_jmp_in_nop(struct emitter *e)
{
	emit8(e, 0x0f);
	emit8(e, 0x1f);
	emit8(e, 0x84);
	return emit_jmp32(e);
}

/* ---- bits ---- */

/* mov r8, 0: the bits above stay. */
static void emit_clear_byte(struct emitter *e, host_reg reg)
{
	emit_changes(e, reg);
	emit8(e, 0x40 | reg >> 3);
	emit8(e, 0xb0 | (reg & 7));
	emit8(e, 0);
}

void emit_page_number(struct emitter *e, host_reg to, host_reg from)
{
	if (!e->slow_pext) {
		emit_pext(e, to, from, mem_cache(CONSTANT_PAGE_MASK));
		return;
	}
	_Static_assert(PAGE_SHIFT == 12, "bits 0 to 7, then 4 to 11");
	if (to != from)
		emit_mov(e, 8, to, from);
	emit_clear_byte(e, to);
	emit_rorx(e, to, to, 4);
	emit_clear_byte(e, to);
	emit_rorx(e, to, to, PAGE_SHIFT - 4);
}

static void emit_shifts(struct emitter *e, host_reg to, host_reg from, unsigned left, unsigned right)
{
	emit_mov_imm(e, RCX, left);
	emit_shift_reg(e, SHIFT_SHLX, to, from, RCX);
	emit_mov_imm(e, RCX, right);
	emit_shift_reg(e, SHIFT_SHRX, to, to, RCX);
}

void emit_tlb_index(struct emitter *e, host_reg to, host_reg from)
{
	if (e->slow_pext)
		emit_shifts(e, to, from, 64 - PAGE_SHIFT - TLB_BITS, 64 - TLB_BITS);
	else
		emit_pext(e, to, from, mem_cache(CONSTANT_TLB_MASK));
}

void emit_branch_index(struct emitter *e, host_reg reg)
{
	if (e->slow_pext)
		emit_shifts(e, reg, reg, 64 - BRANCH_BITS, 64 - BRANCH_BITS - 1);
	else
		emit_pdep(e, reg, reg, mem_cache(CONSTANT_BRANCH_MASK));
}

/* The bit moves to the top, and out. */
void emit_clear_bit(struct emitter *e, host_reg reg, unsigned bit)
{
	emit_rorx(e, reg, reg, bit + 1);
	emit_lea(e, reg, mem_sum(reg, reg));
	if (bit)
		emit_rorx(e, reg, reg, 64 - bit);
}
