/*
 * What insn.def's rows are made of, for the decoder only: match tokens, operand codes, row layout.
 *
 * A row matches when (key & mask) == value, where key packs what the bytes said (prefix, mod, reg,
 * rm, W, L, mode); tokens in the table's `match` column set bits of mask and value. Operand codes
 * are those of SDM volume 2, appendix A.2, as far as that goes. Everything here is constant after
 * decode_tables_init, which any thread may call at any time.
 */
#ifndef RINGSIDE_DECODE_TABLE_H
#define RINGSIDE_DECODE_TABLE_H

#include "cpu/insn.h"

/* ---- the key ---- */
enum {
	KEY_PP_SHIFT = 0,     /* 0 none, 1 66, 2 F3, 3 F2, as in VEX.pp; F2 and F3 come before 66 */
	KEY_MOD3 = 1 << 2,
	KEY_REG_SHIFT = 3,
	KEY_RM_SHIFT = 6,
	KEY_W = 1 << 9,
	KEY_L_SHIFT = 10,
	KEY_64 = 1 << 12,     /* 64-bit mode */
	KEY_66 = 1 << 13,     /* 66 present, whatever else */
	KEY_REX_B = 1 << 14,
	KEY_ADDR16 = 1 << 18,
	KEY_W64 = 1 << 21,    /* W in 64-bit mode */
	KEY_VVVV0 = 1 << 20,  /* VEX.vvvv is 1111b, names nothing */
};
#define MATCH(mask, value) ((uint64_t)(mask) << 32 | (uint32_t)(value))
#define MATCH_MODRM_BITS (0x7fu << 2) /* mod, reg, rm */

#define ANY MATCH(0, 0)
#define NP MATCH(3, 0) /* none of 66 F2 F3 */
#define P66 MATCH(3, 1)
#define F3 MATCH(3, 2)
#define F2 MATCH(3, 3)
#define NOF MATCH(2, 0) /* neither F2 nor F3; 66 is the operand size */
#define MEM MATCH(KEY_MOD3, 0)
#define MOD3 MATCH(KEY_MOD3, KEY_MOD3)
#define REG(n) MATCH(7 << KEY_REG_SHIFT, (n) << KEY_REG_SHIFT)
#define RM(n) MATCH(7 << KEY_RM_SHIFT | KEY_MOD3, (n) << KEY_RM_SHIFT | KEY_MOD3)
#define OP2(reg, rm) (REG(reg) | RM(rm)) /* a second opcode byte C0-FF: mod 3, reg, rm */
#define W0 MATCH(KEY_W, 0)
#define W1 MATCH(KEY_W, KEY_W)
#define WD MATCH(KEY_W64, 0)       /* a doubleword: W is 0, or ignored outside 64-bit mode */
#define WQ MATCH(KEY_W64, KEY_W64) /* a quadword */
#define L0 MATCH(3 << KEY_L_SHIFT, 0 << KEY_L_SHIFT)
#define L1 MATCH(3 << KEY_L_SHIFT, 1 << KEY_L_SHIFT)
#define L2 MATCH(3 << KEY_L_SHIFT, 2 << KEY_L_SHIFT)
#define O64 MATCH(KEY_64, KEY_64)
#define N64 MATCH(KEY_64, 0)
#define NO66 MATCH(KEY_66, 0)
#define REX_B MATCH(KEY_REX_B, KEY_REX_B)
#define NO_REX_B MATCH(KEY_REX_B, 0)
#define NOT_ADDR16 MATCH(KEY_ADDR16, 0)
#define VVVV0 MATCH(KEY_VVVV0, KEY_VVVV0)
/* The row stands for 8 or 16 opcodes: register or condition in the low bits. */
#define PLUS_R ((uint64_t)1 << 63)
#define PLUS_CC ((uint64_t)1 << 62)
#define MATCH_MASK(m) ((uint32_t)((m) >> 32) & 0x3fffffffu)
#define MATCH_VALUE(m) ((uint32_t)(m))

/* ---- opcode maps: how far the decoder's first look-up goes ---- */
enum opmap { M_1B, M_0F, M_0F38, M_0F3A, V_0F, V_0F38, V_0F3A, E_0F, E_0F38, E_0F3A, OPMAP_COUNT };

/* ---- operand codes ---- */
enum operand_where {
	AT_NONE,
	AT_REG,    /* ModRM.reg */
	AT_RM,     /* ModRM.rm, register or memory */
	AT_RM_REG, /* ModRM.rm, a register whatever mod says (MOV CR, MOV DR) */
	AT_VVVV,
	AT_OPCODE, /* low three bits of the opcode */
	AT_FIXED,  /* the register is in the code */
	AT_IS4,    /* bits 7-4 of an immediate byte */
	AT_MOFFS,
	AT_STRING_SRC, AT_STRING_DST,
	AT_IMM_U,  /* immediate, zero-extended; signed: sign-extended to the operand size */
	AT_IMM_S,
	AT_IMM_ONE, /* the constant 1 */
	AT_REL,
	AT_FAR,
};

enum operand_size {
	SIZE_0, SIZE_1, SIZE_2, SIZE_4, SIZE_8, SIZE_10, SIZE_16, SIZE_32, SIZE_64,
	SIZE_V,   /* 2, 4, 8 by operand size */
	SIZE_Z,   /* 2, 4: 4 when the operand size is 8 */
	SIZE_Y,   /* 4, 8: 4 when the operand size is 2 */
	SIZE_MODE, /* 4, in 64-bit mode 8: MOV CR, pointers */
	SIZE_ADDR, /* by address size */
	SIZE_FAR, /* 4, 6, 10: selector and offset by operand size */
	SIZE_DT,  /* 6, in 64-bit mode 10 */
	SIZE_2V,  /* BOUND's pair */
	SIZE_X, SIZE_X2, SIZE_X4, SIZE_X8, /* vector length, half, quarter, eighth of it */
	SIZE_ENV, SIZE_FPU, /* FNSTENV 14, 28; FNSAVE 94, 108 */
	SIZE_512,
	SIZE_CODE_COUNT
};

/* X(name, where, register kind, register size, memory size, fixed register) */
#define OPERAND_CODES(X) \
	X(Eb, AT_RM, OPERAND_GPR, SIZE_1, SIZE_1, 0) \
	X(Ew, AT_RM, OPERAND_GPR, SIZE_2, SIZE_2, 0) \
	X(Ed, AT_RM, OPERAND_GPR, SIZE_4, SIZE_4, 0) \
	X(Eq, AT_RM, OPERAND_GPR, SIZE_8, SIZE_8, 0) \
	X(Ev, AT_RM, OPERAND_GPR, SIZE_V, SIZE_V, 0) \
	X(Ez, AT_RM, OPERAND_GPR, SIZE_Z, SIZE_Z, 0) \
	X(Ey, AT_RM, OPERAND_GPR, SIZE_Y, SIZE_Y, 0) \
	X(EvMw, AT_RM, OPERAND_GPR, SIZE_V, SIZE_2, 0) /* register of operand size, memory always a word */ \
	X(EdMb, AT_RM, OPERAND_GPR, SIZE_4, SIZE_1, 0) \
	X(EdMw, AT_RM, OPERAND_GPR, SIZE_4, SIZE_2, 0) \
	X(Eaddr, AT_RM, OPERAND_GPR, SIZE_ADDR, SIZE_0, 0) \
	X(Rmode, AT_RM, OPERAND_GPR, SIZE_MODE, SIZE_MODE, 0) \
	X(Rcr, AT_RM_REG, OPERAND_GPR, SIZE_MODE, SIZE_0, 0) \
	X(Gb, AT_REG, OPERAND_GPR, SIZE_1, SIZE_0, 0) \
	X(Gw, AT_REG, OPERAND_GPR, SIZE_2, SIZE_0, 0) \
	X(Gd, AT_REG, OPERAND_GPR, SIZE_4, SIZE_0, 0) \
	X(Gq, AT_REG, OPERAND_GPR, SIZE_8, SIZE_0, 0) \
	X(Gv, AT_REG, OPERAND_GPR, SIZE_V, SIZE_0, 0) \
	X(Gz, AT_REG, OPERAND_GPR, SIZE_Z, SIZE_0, 0) \
	X(Gy, AT_REG, OPERAND_GPR, SIZE_Y, SIZE_0, 0) \
	X(Gmode, AT_REG, OPERAND_GPR, SIZE_MODE, SIZE_0, 0) \
	X(Gaddr, AT_REG, OPERAND_GPR, SIZE_ADDR, SIZE_0, 0) \
	X(By, AT_VVVV, OPERAND_GPR, SIZE_Y, SIZE_0, 0) \
	X(Zb, AT_OPCODE, OPERAND_GPR, SIZE_1, SIZE_0, 0) \
	X(Zv, AT_OPCODE, OPERAND_GPR, SIZE_V, SIZE_0, 0) \
	X(Sw, AT_REG, OPERAND_SREG, SIZE_2, SIZE_0, 0) \
	X(SwLoad, AT_REG, OPERAND_SREG, SIZE_2, SIZE_0, 0) /* not CS */ \
	X(Cr, AT_REG, OPERAND_CR, SIZE_MODE, SIZE_0, 0) \
	X(Dr, AT_REG, OPERAND_DR, SIZE_MODE, SIZE_0, 0) \
	/* memory only */ \
	X(M, AT_RM, OPERAND_NONE, SIZE_0, SIZE_0, 0) \
	X(Mb, AT_RM, OPERAND_NONE, SIZE_0, SIZE_1, 0) \
	X(Mw, AT_RM, OPERAND_NONE, SIZE_0, SIZE_2, 0) \
	X(Md, AT_RM, OPERAND_NONE, SIZE_0, SIZE_4, 0) \
	X(Mq, AT_RM, OPERAND_NONE, SIZE_0, SIZE_8, 0) \
	X(Mt, AT_RM, OPERAND_NONE, SIZE_0, SIZE_10, 0) \
	X(Mdq, AT_RM, OPERAND_NONE, SIZE_0, SIZE_16, 0) \
	X(Mqq, AT_RM, OPERAND_NONE, SIZE_0, SIZE_32, 0) \
	X(Mzz, AT_RM, OPERAND_NONE, SIZE_0, SIZE_64, 0) \
	X(Mx, AT_RM, OPERAND_NONE, SIZE_0, SIZE_X, 0) \
	X(Mx2, AT_RM, OPERAND_NONE, SIZE_0, SIZE_X2, 0) \
	X(Mv, AT_RM, OPERAND_NONE, SIZE_0, SIZE_V, 0) \
	X(My, AT_RM, OPERAND_NONE, SIZE_0, SIZE_Y, 0) \
	X(Mmode, AT_RM, OPERAND_NONE, SIZE_0, SIZE_MODE, 0) \
	X(Mp, AT_RM, OPERAND_NONE, SIZE_0, SIZE_FAR, 0) \
	X(Ms, AT_RM, OPERAND_NONE, SIZE_0, SIZE_DT, 0) \
	X(Ma, AT_RM, OPERAND_NONE, SIZE_0, SIZE_2V, 0) \
	X(Menv, AT_RM, OPERAND_NONE, SIZE_0, SIZE_ENV, 0) \
	X(Mfpu, AT_RM, OPERAND_NONE, SIZE_0, SIZE_FPU, 0) \
	X(Mfx, AT_RM, OPERAND_NONE, SIZE_0, SIZE_512, 0) \
	X(Mvar, AT_RM, OPERAND_NONE, SIZE_0, SIZE_0, 0) /* size not known from the bytes: XSAVE */ \
	X(Ob, AT_MOFFS, OPERAND_NONE, SIZE_0, SIZE_1, 0) \
	X(Ov, AT_MOFFS, OPERAND_NONE, SIZE_0, SIZE_V, 0) \
	X(Xb, AT_STRING_SRC, OPERAND_NONE, SIZE_0, SIZE_1, 0) \
	X(Xv, AT_STRING_SRC, OPERAND_NONE, SIZE_0, SIZE_V, 0) \
	X(Xz, AT_STRING_SRC, OPERAND_NONE, SIZE_0, SIZE_Z, 0) \
	X(Yb, AT_STRING_DST, OPERAND_NONE, SIZE_0, SIZE_1, 0) \
	X(Yv, AT_STRING_DST, OPERAND_NONE, SIZE_0, SIZE_V, 0) \
	X(Yz, AT_STRING_DST, OPERAND_NONE, SIZE_0, SIZE_Z, 0) \
	/* named by the opcode */ \
	X(AL, AT_FIXED, OPERAND_GPR, SIZE_1, SIZE_0, RAX) \
	X(CL, AT_FIXED, OPERAND_GPR, SIZE_1, SIZE_0, RCX) \
	X(AX, AT_FIXED, OPERAND_GPR, SIZE_2, SIZE_0, RAX) \
	X(DX, AT_FIXED, OPERAND_GPR, SIZE_2, SIZE_0, RDX) \
	X(EAX, AT_FIXED, OPERAND_GPR, SIZE_4, SIZE_0, RAX) \
	X(EDX, AT_FIXED, OPERAND_GPR, SIZE_4, SIZE_0, RDX) \
	X(ECX, AT_FIXED, OPERAND_GPR, SIZE_4, SIZE_0, RCX) \
	X(rAXv, AT_FIXED, OPERAND_GPR, SIZE_V, SIZE_0, RAX) \
	X(rAXz, AT_FIXED, OPERAND_GPR, SIZE_Z, SIZE_0, RAX) \
	X(rAXa, AT_FIXED, OPERAND_GPR, SIZE_ADDR, SIZE_0, RAX) \
	X(rDXv, AT_FIXED, OPERAND_GPR, SIZE_V, SIZE_0, RDX) \
	X(rBPv, AT_FIXED, OPERAND_GPR, SIZE_V, SIZE_0, RBP) \
	X(xES, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, ES) \
	X(xCS, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, CS) \
	X(xSS, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, SS) \
	X(xDS, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, DS) \
	X(xFS, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, FS) \
	X(xGS, AT_FIXED, OPERAND_SREG, SIZE_2, SIZE_0, GS) \
	X(ST0, AT_FIXED, OPERAND_ST, SIZE_10, SIZE_0, 0) \
	X(ST1, AT_FIXED, OPERAND_ST, SIZE_10, SIZE_0, 1) \
	X(STi, AT_RM, OPERAND_ST, SIZE_10, SIZE_0, 0) \
	X(XMM0, AT_FIXED, OPERAND_VEC, SIZE_16, SIZE_0, 0) \
	/* immediates */ \
	X(Ib, AT_IMM_U, OPERAND_IMM, SIZE_1, SIZE_0, 0) \
	X(Ibs, AT_IMM_S, OPERAND_IMM, SIZE_1, SIZE_0, 0) \
	X(Iw, AT_IMM_U, OPERAND_IMM, SIZE_2, SIZE_0, 0) \
	X(Iz, AT_IMM_S, OPERAND_IMM, SIZE_Z, SIZE_0, 0) \
	X(Iv, AT_IMM_U, OPERAND_IMM, SIZE_V, SIZE_0, 0) \
	X(I1, AT_IMM_ONE, OPERAND_IMM, SIZE_1, SIZE_0, 0) \
	X(Jb, AT_REL, OPERAND_REL, SIZE_1, SIZE_0, 0) \
	X(Jz, AT_REL, OPERAND_REL, SIZE_Z, SIZE_0, 0) \
	X(Ap, AT_FAR, OPERAND_FAR, SIZE_FAR, SIZE_0, 0) \
	/* MMX: P reg, Q rm */ \
	X(Pq, AT_REG, OPERAND_MMX, SIZE_8, SIZE_0, 0) \
	X(Qq, AT_RM, OPERAND_MMX, SIZE_8, SIZE_8, 0) \
	X(Qd, AT_RM, OPERAND_MMX, SIZE_8, SIZE_4, 0) \
	/* vectors: V reg, H vvvv, W rm (memory of the size named last), L is4 */ \
	X(Vdq, AT_REG, OPERAND_VEC, SIZE_16, SIZE_0, 0) \
	X(Vqq, AT_REG, OPERAND_VEC, SIZE_32, SIZE_0, 0) \
	X(Vzz, AT_REG, OPERAND_VEC, SIZE_64, SIZE_0, 0) \
	X(Vx, AT_REG, OPERAND_VEC, SIZE_X, SIZE_0, 0) \
	X(Vx2, AT_REG, OPERAND_VEC, SIZE_X2, SIZE_0, 0) \
	X(Hdq, AT_VVVV, OPERAND_VEC, SIZE_16, SIZE_0, 0) \
	X(Hqq, AT_VVVV, OPERAND_VEC, SIZE_32, SIZE_0, 0) \
	X(Hzz, AT_VVVV, OPERAND_VEC, SIZE_64, SIZE_0, 0) \
	X(Hx, AT_VVVV, OPERAND_VEC, SIZE_X, SIZE_0, 0) \
	X(Hx2, AT_VVVV, OPERAND_VEC, SIZE_X2, SIZE_0, 0) \
	X(Wb, AT_RM, OPERAND_VEC, SIZE_16, SIZE_1, 0) \
	X(Ww, AT_RM, OPERAND_VEC, SIZE_16, SIZE_2, 0) \
	X(Wd, AT_RM, OPERAND_VEC, SIZE_16, SIZE_4, 0) \
	X(Wq, AT_RM, OPERAND_VEC, SIZE_16, SIZE_8, 0) \
	X(Wdq, AT_RM, OPERAND_VEC, SIZE_16, SIZE_16, 0) \
	X(Wqq, AT_RM, OPERAND_VEC, SIZE_32, SIZE_32, 0) \
	X(Wzz, AT_RM, OPERAND_VEC, SIZE_64, SIZE_64, 0) \
	X(Wx, AT_RM, OPERAND_VEC, SIZE_X, SIZE_X, 0) \
	X(Wx2, AT_RM, OPERAND_VEC, SIZE_X2, SIZE_X2, 0) /* half as long as the vector length */ \
	X(Wx4, AT_RM, OPERAND_VEC, SIZE_X4, SIZE_X4, 0) \
	X(Wx8, AT_RM, OPERAND_VEC, SIZE_X8, SIZE_X8, 0) \
	X(Ldq, AT_IS4, OPERAND_VEC, SIZE_16, SIZE_0, 0) \
	X(Lqq, AT_IS4, OPERAND_VEC, SIZE_32, SIZE_0, 0) \
	X(Lx, AT_IS4, OPERAND_VEC, SIZE_X, SIZE_0, 0) \
	/* VSIB: the memory operand's index is a vector; size of one element */ \
	X(Xm_d, AT_RM, OPERAND_NONE, SIZE_0, SIZE_4, 1) \
	X(Xm_q, AT_RM, OPERAND_NONE, SIZE_0, SIZE_8, 1) \
	/* mask registers */ \
	X(Kreg, AT_REG, OPERAND_MASK, SIZE_8, SIZE_0, 0) \
	X(Kvvvv, AT_VVVV, OPERAND_MASK, SIZE_8, SIZE_0, 0) \
	X(Krm, AT_RM, OPERAND_MASK, SIZE_8, SIZE_0, 0) \
	X(KMb, AT_RM, OPERAND_MASK, SIZE_8, SIZE_1, 0) \
	X(KMw, AT_RM, OPERAND_MASK, SIZE_8, SIZE_2, 0) \
	X(KMd, AT_RM, OPERAND_MASK, SIZE_8, SIZE_4, 0) \
	X(KMq, AT_RM, OPERAND_MASK, SIZE_8, SIZE_8, 0)

enum operand_code {
	OC_NONE,
#define X(name, where, kind, reg_size, mem_size, fixed) OC_##name,
	OPERAND_CODES(X)
#undef X
	OC_COUNT
};

struct operand_rule {
	uint8_t where, kind, reg_size, mem_size, fixed;
};

/* ---- what EVEX's fields may say ---- */
enum {
	EVEX_MASK = 1 << 0,          /* a mask register other than k0 */
	EVEX_MASK_REQUIRED = 1 << 1, /* ... and never k0 */
	EVEX_ZERO = 1 << 2,          /* zeroing */
	EVEX_ZERO_REG = 1 << 3,      /* zeroing if the destination is a register */
	EVEX_BCST4 = 1 << 4,         /* memory broadcast of 4, 8 bytes */
	EVEX_BCST8 = 1 << 5,
	EVEX_ER = 1 << 6,            /* b with registers: L'L is the rounding mode */
	EVEX_SAE = 1 << 7,           /* b with registers: no exceptions */
	EVEX_MASK_SELECTS = 1 << 12, /* VPBLENDM and the like: the mask chooses a source, nothing is merged */
	EVEX_N1 = 1 << 8, EVEX_N2 = 1 << 9, EVEX_N4 = 1 << 10, EVEX_N8 = 1 << 11, /* disp8 counts so many bytes */
};

/* ---- rows ---- */
struct decode_row {
	uint64_t match;
	uint8_t opmap, opcode;
	uint16_t evex; /* EVEX_* */
	uint16_t operand[5]; /* enum operand_code | access << 8; 0 ends the list */
};

extern const struct operand_rule operand_rules[OC_COUNT];
extern const struct decode_row decode_rows[]; /* parallel to insn_descs[] */

/* Rows that an opcode may be: candidates[first .. first+count) for each value of mod == 3 and reg. */
struct decode_slot {
	uint16_t first, count;
};
struct decode_tables {
	struct decode_slot slot[OPMAP_COUNT][256][16];
	bool has_modrm[OPMAP_COUNT][256];
	uint16_t *candidate;
};
extern struct decode_tables decode_tables;
void decode_tables_init(void);

#endif
