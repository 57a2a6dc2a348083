/*
 * Instructions: the decoded form, the one table, the decoder, the disassembler.
 *
 * src/cpu/insn.def is the one table (X-macros, one row an encoding). From it come enum insn_id,
 * the decoder's opcode maps, the translator's classification and the disassembler. Sources:
 * Intel SDM volume 2 (325383), AMD APM volume 3 (24594).
 *
 * The decoder is pure: bytes and mode in, struct insn out. It knows nothing of CPUID; whether the
 * guest's CPU has the instruction is asked when it is executed (insn_desc.feature).
 */
#ifndef RINGSIDE_INSN_H
#define RINGSIDE_INSN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* <signal.h> has a macro of that name; it is included here so that it cannot come later. */
#undef REG_RIP

#define INSN_MAX_LEN 15

enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, GPR_COUNT };
enum sreg { ES, CS, SS, DS, FS, GS, SREG_COUNT };
#define REG_NONE 0xff
#define REG_RIP 0x10 /* as the base of a memory operand */

/* One id a mnemonic: INSN_<INTEL MNEMONIC>. Families by condition are one id each, INSN_JCC,
 * INSN_SETCC, INSN_CMOVCC, with the condition in insn.cc. Generated from insn.def. */
enum insn_id {
	INSN_INVALID = 0,
#define MNEMONIC(id, name) INSN_##id,
#include "cpu/insn_ids.def"
#undef MNEMONIC
	INSN_COUNT
};

enum operand_kind {
	OPERAND_NONE,
	OPERAND_GPR,  /* reg: enum gpr; size 1, 2, 4, 8; high8: AH CH DH BH (reg = RAX RCX RDX RBX) */
	OPERAND_SREG, /* reg: enum sreg */
	OPERAND_CR,
	OPERAND_DR,
	OPERAND_ST,  /* x87 stack register ST(reg) */
	OPERAND_MMX, /* reg 0-7 */
	OPERAND_VEC, /* XMM, YMM or ZMM by size (16, 32, 64); reg 0-31 */
	OPERAND_MASK, /* k0-k7 */
	OPERAND_MEM, /* insn.mem_*; size in bytes, 0 (and ACCESS_NONE) when only the address matters: LEA, INVLPG, prefetch */
	OPERAND_IMM, /* insn.imm, sign- or zero-extended to 64 bits as the instruction does */
	OPERAND_REL, /* insn.imm: signed displacement from the next instruction */
	OPERAND_FAR, /* ptr16:16 or ptr16:32: insn.imm offset, insn.imm2 selector */
};

/* Which field of the encoding says an operand's register; memory operands are OPERAND_AT_RM. */
enum operand_at {
	OPERAND_AT_NONE, /* none: implicit, immediate, string */
	OPERAND_AT_REG,  /* ModRM.reg */
	OPERAND_AT_RM,   /* ModRM.rm */
	OPERAND_AT_VVVV,
	OPERAND_AT_OPCODE, /* low three bits of the opcode */
	OPERAND_AT_IS4,    /* bits 7-4 of the immediate */
};

enum operand_access { ACCESS_NONE = 0, ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_READ_WRITE = 3, ACCESS_CONDITIONAL = 4 };

struct operand {
	uint8_t kind;   /* enum operand_kind */
	uint8_t reg;
	uint8_t access; /* enum operand_access, ored with ACCESS_CONDITIONAL where it may not happen (masked, CMPXCHG) */
	bool high8;
	bool implicit;  /* named by the opcode, not encoded: AL, CL, DX, 1, XMM0, the string operands */
	uint8_t at;     /* enum operand_at */
	uint16_t size;  /* bytes; memory operands of XSAVE and the like: 0 with INSN_VARIABLE_SIZE */
};

enum insn_encoding { ENCODING_LEGACY, ENCODING_VEX, ENCODING_EVEX, ENCODING_3DNOW, ENCODING_XOP };
enum insn_map { MAP_ONE_BYTE, MAP_0F, MAP_0F38, MAP_0F3A };

struct insn {
	uint16_t id;      /* enum insn_id */
	uint16_t row;     /* index into insn_descs[] */
	uint8_t len;      /* 1-15 */
	uint8_t bytes[INSN_MAX_LEN];
	uint8_t mode;     /* 16, 32, 64: the code segment's default */

	/* What the bytes were. Offsets are into bytes[]; 0 = absent (no field can be at offset 0). */
	uint8_t encoding; /* enum insn_encoding */
	uint8_t map;      /* enum insn_map */
	uint8_t opcode;
	uint8_t opcode_at, modrm_at, sib_at, disp_at, imm_at;
	uint8_t disp_size, imm_size; /* bytes; imm_size counts every immediate (ENTER: 3, far pointer: 4, 6) */
	uint8_t modrm, sib;
	uint8_t rex;       /* the REX byte, 0 = none; for VEX, EVEX: W R X B as a REX byte would say them (0x40 | WRXB) */
	uint8_t vvvv;      /* VEX/EVEX register, already inverted, with V' as bit 4 */
	uint8_t vector_bytes; /* 16, 32, 64 by VEX.L / EVEX.L'L */
	uint8_t evex_aaa;  /* mask register */
	bool evex_z, evex_b, evex_r_hi; /* zeroing; broadcast/rounding; R' (reg bit 4) */
	bool lock, rep, repne;    /* F0, F3, F2 present (also where they are a mandatory prefix) */
	bool opsize_prefix, addrsize_prefix;
	uint8_t seg_prefix; /* enum sreg or REG_NONE; in 64-bit mode CS DS ES SS count as none */

	/* What it means. */
	uint8_t opsize;   /* effective operand size: 2, 4, 8 (1-byte forms say so in their operands) */
	uint8_t addrsize; /* 2, 4, 8 */
	uint8_t cc;       /* condition 0-15 of JCC, SETCC, CMOVCC */
	uint8_t operand_count; /* those that assembly shows, in Intel order, and then the implicit ones */
	struct operand operand[6];
	int8_t mem_index_of; /* which operand is the memory operand, -1 = none (string operands are implicit: -1 too) */

	uint8_t mem_seg;  /* effective segment (prefix or default); strings: of the source, DS:rSI */
	uint8_t mem_base; /* enum gpr, REG_RIP (disp is from the next instruction), REG_NONE */
	uint8_t mem_index; /* enum gpr or REG_NONE; for gathers (VSIB) the vector register */
	uint8_t mem_scale; /* 1, 2, 4, 8 */
	bool mem_vsib;
	int64_t mem_disp; /* sign-extended; moffs: the whole offset */
	int64_t imm;
	uint32_t imm2;    /* ENTER's level, the far pointer's selector, EXTRQ/INSERTQ's second byte */
};

/* How the translator treats it: the column that CONCEPTS.md's sensitive instructions are rows of. */
enum insn_xlate {
	XLATE_IDENT,   /* copied; registers renamed, memory operand redirected */
	XLATE_INLINE,  /* a short safe sequence in its place */
	XLATE_CALLOUT, /* into the monitor */
};

/* insn_desc.flags */
enum {
	INSN_PRIVILEGED = 1 << 0,  /* #GP unless CPL 0 */
	INSN_SENSITIVE = 1 << 1,   /* reads or changes privileged state (Popek & Goldberg), privileged or not */
	INSN_BRANCH = 1 << 2,      /* ends a basic block: may continue elsewhere than at the next instruction */
	INSN_CONDITIONAL = 1 << 3, /* ... or at the next instruction */
	INSN_IS_CALL = 1 << 4,
	INSN_IS_RET = 1 << 5,
	INSN_INDIRECT = 1 << 6,
	INSN_LOCKABLE = 1 << 7,    /* LOCK allowed with a memory destination */
	INSN_STRING = 1 << 8,      /* takes REP */
	INSN_X87 = 1 << 9,
	INSN_MMX = 1 << 10,
	INSN_SSE = 1 << 11,        /* legacy SSE: #UD by CR0.EM, CR4.OSFXSR; #NM by CR0.TS */
	INSN_AVX = 1 << 12,        /* VEX: by XCR0 and CR4.OSXSAVE */
	INSN_AVX512 = 1 << 13,
	INSN_ALIGNED = 1 << 14,    /* memory operand must be aligned to its size, else #GP */
	INSN_VARIABLE_SIZE = 1 << 15, /* FXSAVE, XSAVE, FNSAVE, ...: memory operand's size is not fixed */
	INSN_ONLY_64 = 1 << 16,
	INSN_NOT_64 = 1 << 17,
	INSN_DEFAULT_64 = 1 << 18, /* operand size defaults to 64 bits in 64-bit mode (PUSH, near branches) */
	INSN_NOT_REAL = 1 << 19,   /* #UD in real and virtual-8086 mode */
	INSN_IOPL = 1 << 20,       /* #GP by IOPL (CLI STI) or IOPL and the I/O permission map (IN OUT INS OUTS) */
	INSN_X87_NONWAITING = 1 << 21, /* FNINIT, FNSTSW, ...: pending exceptions not raised */
	INSN_HAS_VEX_OPERAND = 1 << 22, /* VEX.vvvv names an operand */
	INSN_FORCE_64 = 1 << 23,   /* operand size is 64 bits in 64-bit mode, whatever the prefixes (near branches, MOV CR) */
};

/* EFLAGS bits as columns of the table */
enum {
	EF_CF = 1 << 0, EF_PF = 1 << 2, EF_AF = 1 << 4, EF_ZF = 1 << 6, EF_SF = 1 << 7,
	EF_TF = 1 << 8, EF_IF = 1 << 9, EF_DF = 1 << 10, EF_OF = 1 << 11,
	EF_ARITH = EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF | EF_OF,
};

/* CPUID features that an instruction needs: FEATURE_NONE for the base that every x86-64 CPU has
 * (8086 to SSE2, SYSCALL, CMPXCHG8B). The list, and which CPUID bit each is, is FEATURES in cpuid.h. */
struct insn_desc {
	const char *name;          /* lower case mnemonic; families: "j", "set", "cmov" */
	uint16_t id;
	uint8_t xlate;             /* enum insn_xlate */
	uint8_t feature;           /* enum feature */
	uint32_t flags;
	uint16_t eflags_read;      /* EF_*; families by cc: the union (insn_eflags_read is exact) */
	uint16_t eflags_written;   /* given a value, perhaps conditionally (shifts by CL) */
	uint16_t eflags_undefined; /* left undefined by the manual */
	uint16_t gpr_read;         /* implicit registers only, 1 << enum gpr */
	uint16_t gpr_written;
};

extern const struct insn_desc insn_descs[];
extern const unsigned insn_desc_count;

static inline const struct insn_desc *insn_desc(const struct insn *i)
{
	return &insn_descs[i->row];
}

/* Flags read by this very instruction (its condition code, its REP prefix looked at). */
uint16_t insn_eflags_read(const struct insn *i);
/* Flags certainly given a new, defined or undefined, value whatever the operands (a shift by an
 * immediate that is 0 gives none; a shift by CL may give none). This is what liveness may kill. */
uint16_t insn_eflags_killed(const struct insn *i);

/* Flags that this very instruction may leave undefined: the table's column, and for shifts and rotates
 * what the count makes of it (by CL: of any count). For comparisons between engines. */
uint16_t insn_eflags_undefined(const struct insn *i);

enum decode_result {
	DECODE_OK,
	DECODE_INVALID,  /* #UD; insn->len is meaningless */
	DECODE_TOO_LONG, /* over 15 bytes: #GP */
	DECODE_SHORT,    /* `avail` ended inside the instruction */
};

/* Decodes the instruction at bytes[0..avail). mode: 16, 32, 64. Never reads past avail. */
enum decode_result insn_decode(struct insn *insn, const uint8_t *bytes, size_t avail, unsigned mode);

/* The mnemonic with condition and size: "jne", "movsb", "cdqe", "iretq", "fxsave64". Static text. */
const char *insn_mnemonic(const struct insn *insn);

/* Intel syntax, for logs and dumps; always terminated. rip resolves relative targets. */
void insn_disassemble(const struct insn *insn, uint64_t rip, char *buf, size_t size);

#endif
