/*
 * Guest x87, MMX, SSE, AVX and AVX-512 state. It runs on the host's own units: it is either in the
 * vCPU's XSAVE area (cpu->fpu, standard format) or, while cpu->fpu_live, in the host's registers.
 * Code compiled with -mgeneral-regs-only may run while it is live; anything else must be
 * bracketed: cpu_fpu_leave before, and cpu_fpu_enter before guest vector instructions run again.
 */
#ifndef RINGSIDE_FPU_H
#define RINGSIDE_FPU_H

#include "cpu/cpu.h"

int fpu_init(struct cpu *cpu);      /* allocates the area, state as after RESET; 0 or -errno */
void fpu_free(struct cpu *cpu);
void fpu_reset(struct cpu *cpu, bool init);
void cpu_fpu_enter(struct cpu *cpu); /* guest state into the host's registers, if not there yet */
void cpu_fpu_leave(struct cpu *cpu); /* guest state to cpu->fpu, host's MXCSR and x87 control word to the ABI's defaults */
/* #UD or #NM by CR0.EM, TS, MP, CR4.OSFXSR, OSXSAVE, XCR0 for an instruction of this desc. */
enum x fpu_check(struct cpu *cpu, const struct insn *insn);
/* XSAVE family, FXSAVE/FXRSTOR with the guest's XCR0/XSS, layouts as the guest's CPUID says. */
enum x fpu_xsave(struct cpu *cpu, const struct insn *insn, uint64_t linear);
enum x fpu_xrstor(struct cpu *cpu, const struct insn *insn, uint64_t linear);

#endif
