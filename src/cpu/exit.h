/*
 * The one exit record: why the guest was left. Every engine gives it, the one loop
 * (machine/vcpu.c) analyses it. I/O follows KVM's pattern: the record is handed out, the loop
 * writes the answer into the vCPU's io_log, and the instruction is run again; accesses that are in
 * the log already are answered from it. The log is emptied when the instruction retires.
 */
#ifndef RINGSIDE_EXIT_H
#define RINGSIDE_EXIT_H

#include <stdbool.h>
#include <stdint.h>

#define EXIT_REASONS(X) \
	X(EXIT_REQUEST, "request", "asked to: an interrupt, a timer, a key") \
	X(EXIT_PIO, "pio", "port I/O") \
	X(EXIT_MMIO, "mmio", "memory I/O") \
	X(EXIT_HLT, "hlt", "HLT") \
	X(EXIT_IRQ_WINDOW, "irq-window", "interrupts were just enabled and one may be pending") \
	X(EXIT_EOI, "eoi", "the end of a level-triggered interrupt, where the engine has the local APICs") \
	X(EXIT_SHUTDOWN, "shutdown", "triple fault") \
	X(EXIT_DEBUG, "debug", "a debugger's breakpoint or step") \
	X(EXIT_STEP, "step", "the number of instructions or blocks asked for is done") \
	X(EXIT_ERROR, "error", "the engine could not go on")

enum exit_reason {
#define X(id, name, help) id,
	EXIT_REASONS(X)
#undef X
	EXIT_REASON_COUNT
};

struct io_access {
	uint64_t addr; /* port, or GPA */
	uint64_t value;
	uint8_t size; /* 1, 2, 4, 8 */
	bool write;
	bool port;
};

struct exit {
	enum exit_reason reason;
	struct io_access io; /* EXIT_PIO, EXIT_MMIO */
	uint8_t vector;      /* EXIT_EOI */
	const char *error;   /* EXIT_ERROR: one line */
};

/* Enough for the accesses of one instruction to I/O memory: a 64-byte vector, twice. Longer ones
 * (XSAVE to a device) end in EXIT_ERROR. */
#define IO_LOG_MAX 160
struct io_log {
	unsigned count, next; /* answered accesses; how many of them this run of the instruction has used */
	struct io_access access[IO_LOG_MAX];
};

#endif
