/*
 * Stubs: a guest instruction copied into a small host function, so that the host's own units run it.
 *
 * The memory operand is replaced by [pointer register], guest general registers by host registers of
 * the same name (but RSP), and the arithmetic flags go in and out. What x87, MMX and vector registers
 * hold is the caller's business: it has made the guest's state live.
 *
 * The stubs belong to the thread: no locks. Their memory is bounded, mapped once writable and
 * once executable, never both. A host fault in the guest's instruction ends the stub and is reported.
 */
#ifndef RINGSIDE_INTERP_STUB_H
#define RINGSIDE_INTERP_STUB_H

#include "cpu/cpu.h"

struct stub_context {
	uint64_t gpr[GPR_COUNT];
	uint64_t flags; /* arithmetic flags only */
	void *memory;   /* what the memory operand is */
};

void stub_prepare(void); /* this thread's memory for stubs, if it is not there yet */
int stub_reserve(unsigned threads); /* makes it beforehand; 0 or -errno */

struct stub; /* valid until the next stub_get of this thread */

/* The stub of an instruction, made if need be. NULL: the host cannot run such an instruction that way
 * (*no_memory: because there is no memory for stubs). */
const struct stub *stub_get(const struct insn *insn, bool *no_memory);
/* General registers that the stub loads from the context and stores to it: 1 << enum gpr. */
uint16_t stub_registers(const struct stub *s);
/* Runs it. -1, or the vector of the exception that the host raised: then neither context nor memory has
 * changed. */
int stub_run(const struct stub *s, struct stub_context *context);

#endif
