/*
 * A benchmark row: `units` times the same unit of work of `ops` operations. A unit returns a checksum
 * that depends on nothing but the work, so every unit on every machine must return the same one,
 * and a slow machine may run fewer units.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include <stdint.h>

struct row {
	const char *name;
	uint64_t (*unit)(void);
	uint32_t ops;   /* operations in a unit: what ns_per_op is divided by */
	uint32_t units; /* in a full run: about 100 ms on a 2020s server core */
};

/* rows_cpu.c */
#define ALU_ROUNDS 1000000
#define SIEVE_SIZE (1 << 20)
#define SIEVE_STORES 2775210
#define FIB_N 26
#define FIB_CALLS 392835
#define DISPATCH_STEPS 500000
#define MATMUL_N 128
#define X87_TERMS 100000
#define CHASE_STEPS 210000
#define QSORT_ITEMS 32768
#define MEMCPY_COPIES 32

uint64_t row_alu(void);
uint64_t row_sieve(void);
uint64_t row_fib(void);
uint64_t row_dispatch(void);
uint64_t row_matmul(void);
uint64_t row_x87(void);
uint64_t row_chase(void);
uint64_t row_qsort(void);
uint64_t row_memcpy(void);

/* rows_os.c */
#define SYSCALL_CALLS 50000
#define FAULT_PAGES 2048
#define FORK_CHILDREN 50
#define EXEC_CHILDREN 20
#define PIPE_ROUND_TRIPS 1000
#define SIGNAL_SIGNALS 5000

uint64_t row_syscall(void);
uint64_t row_fault(void);
uint64_t row_fork(void);
uint64_t row_exec(void);
uint64_t row_pipe(void);
uint64_t row_signal(void);

/* command.c: runs a program to its end; a hash of all that it printed. A status other than 0 ends the benchmark. */
uint64_t command_run(char *const *arguments);

/* The program's own path, for row_exec: run as `PATH exit`, it exits with EXEC_STATUS at once. */
extern const char *bench_path;
#define EXEC_STATUS 42

#endif
