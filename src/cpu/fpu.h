/*
 * Guest x87, MMX, SSE, AVX and AVX-512 state. It runs on the host's own units: it is either in the
 * vCPU's XSAVE area (cpu->fpu, standard format) or, while cpu->fpu_live, in the host's registers.
 * Code compiled with -mgeneral-regs-only may run while it is live; anything else must be
 * bracketed: cpu_fpu_leave before, and cpu_fpu_enter before guest vector instructions run again.
 */
#ifndef RINGSIDE_FPU_H
#define RINGSIDE_FPU_H

#include "cpu/cpu.h"

#define XCR0_X87 (1u << 0)
#define XCR0_SSE (1u << 1)
#define XCR0_AVX (1u << 2)
#define XCR0_AVX512 (7u << 5) /* opmask, upper halves of ZMM0-15, ZMM16-31 */
#define XCR0_PKRU (1u << 9)

/* Offsets in the XSAVE area (standard format), those that the architecture fixes. */
enum {
	FPU_FCW = 0, FPU_FSW = 2, FPU_FTW = 4, FPU_FOP = 6, FPU_FIP = 8, FPU_FDP = 16, FPU_MXCSR = 24,
	FPU_MXCSR_MASK = 28,
	FPU_ST = 32,   /* ST0-7, 16 bytes each */
	FPU_XMM = 160, /* XMM0-15, 16 bytes each */
	FPU_XSTATE_BV = 512, FPU_XCOMP_BV = 520,
	FPU_LEGACY_SIZE = 512,
	FPU_AREA_MIN = 576,
	FPU_YMM_HIGH = 576, /* upper halves of YMM0-15 */
};

/* cpu->fpu, while not live: every component that the guest may have is there in full (also those
 * whose bit in XSTATE_BV is clear: they hold the initial values). Who changes a component in it
 * sets its bit: fpu_component_changed. PKRU is not kept there: cpu->pkru_shadow is the register. */
int fpu_init(struct cpu *cpu); /* allocates the area, state as after RESET; 0 or -errno */
void fpu_free(struct cpu *cpu);
void fpu_reset(struct cpu *cpu, bool init);
void cpu_fpu_enter(struct cpu *cpu); /* guest state into the host's registers, if not there yet */
/* Guest state to cpu->fpu; the host's x87 and MXCSR to the ABI's defaults. */
void cpu_fpu_leave(struct cpu *cpu);

/* A sanitizer's run-time library uses vector registers where plain C would not: then the state is live only as
 * long as an instruction needs it. In files that are not instrumented themselves (Makefile). */
#ifdef FPU_LEAVE_AT_ONCE
static inline void fpu_leave_at_once(struct cpu *cpu) { cpu_fpu_leave(cpu); }
#else
static inline void fpu_leave_at_once(struct cpu *cpu) { (void)cpu; }
#endif

/* Bits of XCR0 (XCR0_*) whose components were written in cpu->fpu. Not live. */
static inline void fpu_component_changed(struct cpu *cpu, uint64_t components)
{
	uint64_t bv;

	__builtin_memcpy(&bv, cpu->fpu + FPU_XSTATE_BV, 8);
	bv |= components;
	__builtin_memcpy(cpu->fpu + FPU_XSTATE_BV, &bv, 8);
}

/* #UD or #NM by CR0.EM, TS, MP, CR4.OSFXSR, OSXSAVE, XCR0 for an instruction of this desc;
 * #MF when an x87 exception is pending and the instruction waits. */
enum x fpu_check(struct cpu *cpu, const struct insn *insn);
/* XSAVE family, FXSAVE/FXRSTOR with the guest's XCR0/XSS, layouts as the guest's CPUID says. They
 * check everything but CPUID (the table's feature) and segment limits: CR4.OSXSAVE, TS, alignment, CPL. */
enum x fpu_xsave(struct cpu *cpu, const struct insn *insn, uint64_t linear);
enum x fpu_xrstor(struct cpu *cpu, const struct insn *insn, uint64_t linear);
/* How many bytes from `linear` on such an instruction may touch: for the segment limit. */
unsigned fpu_memory_size(const struct cpu *cpu, const struct insn *insn);

#endif
