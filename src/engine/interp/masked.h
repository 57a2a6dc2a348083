/*
 * Vector accesses to memory that a mask makes conditional, element by element: a masked-out element
 * is not touched and does not fault. Gathers, scatters, masked moves, AVX-512 masking. And VZEROALL outside
 * 64-bit mode, which the host cannot do in 64-bit mode.
 */
#ifndef RINGSIDE_INTERP_MASKED_H
#define RINGSIDE_INTERP_MASKED_H

#include "engine/interp/interp.h"
#include "engine/interp/stub.h"

bool masked_handles(const struct insn *insn);
interp_fn masked_execute;

/* vector.c: runs the instruction with its memory operand at `memory`; registers and flags come back
 * in *c and count once vector_commit is called. */
enum x vector_run(struct cpu *cpu, const struct insn *insn, void *memory, struct stub_context *c);
void vector_commit(struct cpu *cpu, const struct insn *insn, const struct stub_context *c);

#endif
