/*
 * bench: the benchmark program. The same static binary runs on the bare host and inside every guest.
 *
 *   bench [-d DIVISOR] [ROW...]
 *   bench [-d DIVISOR] -p ROW...
 *   bench [-d DIVISOR] -x NAME UNITS PROGRAM ARGUMENT...
 *   bench -l
 *
 * For each row (all, when none is named), in a child process, it runs one unit untimed, then prints
 *   begin ROW
 * and, after the timed units (their full number divided by DIVISOR, at least one),
 *   ROW NS_PER_OP CHECKSUM OPS NS
 * with NS by CLOCK_MONOTONIC. A machine that calculates wrongly shows in CHECKSUM, one whose clock is
 * wrong shows against the times at which the reader sees the two lines. The last line is `end`, or
 * `fail WHAT` with exit status 1. -l lists `ROW OPS`, the operations of a full run.
 *
 * -p is for machines with two processors: each row ten times as long in one process, then in two at a
 * time, under the names ROW.1 and ROW.2. -x measures another program: a unit of the row NAME is one run of
 * PROGRAM, and its checksum is that of all that it prints; it does not print `end`.
 */
#include "rows.h"
#include "sys.h"

#include <stdbool.h>

#define PARALLEL_MAX 2
#define PARALLEL_UNITS 10

static const struct row rows[] = {
	{"alu", row_alu, ALU_ROUNDS, 40},
	{"sieve", row_sieve, SIEVE_STORES, 36},
	{"calls", row_fib, FIB_CALLS, 150},
	{"indirect", row_dispatch, DISPATCH_STEPS, 32},
	{"matmul", row_matmul, MATMUL_N * MATMUL_N * MATMUL_N, 200},
	{"x87", row_x87, X87_TERMS, 300},
	{"chase", row_chase, CHASE_STEPS, 150},
	{"qsort", row_qsort, QSORT_ITEMS, 36},
	{"memcpy", row_memcpy, MEMCPY_COPIES, 100},
	{"syscall", row_syscall, SYSCALL_CALLS, 16},
	{"fault", row_fault, FAULT_PAGES, 24},
	{"fork", row_fork, FORK_CHILDREN, 10},
	{"exec", row_exec, EXEC_CHILDREN, 12},
	{"pipe", row_pipe, PIPE_ROUND_TRIPS, 16},
	{"signal", row_signal, SIGNAL_SIGNALS, 10},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* The compiler may call these. */
void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memset(void *to, int value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = (uint8_t)value;
	return to;
}

__attribute__((optimize("no-tree-loop-distribute-patterns"))) void *memcpy(void *to, const void *from, size_t size)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

static char line[256];
static size_t line_length;

static void put_char(char c)
{
	if (line_length < sizeof(line))
		line[line_length++] = c;
}

static void put(const char *text)
{
	while (*text)
		put_char(*text++);
}

static void put_number(uint64_t value, uint32_t base, uint32_t digits)
{
	char text[24];
	uint32_t n = 0;

	do {
		text[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value || n < digits);
	while (n)
		put_char(text[--n]);
}

/* Write the line, and wait until a terminal has sent it, so that no output is left over for the timed work. */
static void flush(void)
{
	enum { TCSBRK = 0x5409 };

	put_char('\n');
	for (size_t done = 0; done < line_length;) {
		long n = sys3(SYS_WRITE, 1, (long)(line + done), (long)(line_length - done));

		if (n <= 0)
			sys3(SYS_EXIT_GROUP, 1, 0, 0);
		done += (size_t)n;
	}
	sys3(SYS_IOCTL, 1, TCSBRK, 1);
	line_length = 0;
}

void bench_fail(const char *what)
{
	line_length = 0;
	put("fail ");
	put(what);
	flush();
	for (;;)
		sys3(SYS_EXIT_GROUP, 1, 0, 0);
}

void *bench_map(size_t size)
{
	enum { PROT_READ_WRITE = 3, MAP_PRIVATE_ANONYMOUS = 0x22, MADV_NOHUGEPAGE = 15 };
	long address = sys6(SYS_MMAP, 0, (long)size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);

	if (address < 0 && address > -4096)
		bench_fail("mmap");
	sys3(SYS_MADVISE, address, (long)size, MADV_NOHUGEPAGE); /* a kernel without huge pages refuses: as good */
	return (void *)address;
}

static uint64_t now(void)
{
	enum { CLOCK_MONOTONIC = 1 };
	int64_t time[2];

	if (sys3(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, (long)time, 0))
		bench_fail("clock_gettime");
	return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* What the next run of a row does to get one more checksum. */
struct unit {
	uint64_t (*run)(void);
	char *const *program; /* or, where run is NULL, this */
};

static uint64_t run_unit(const struct unit *unit)
{
	return unit->run ? unit->run() : command_run(unit->program);
}

static uint32_t divided(uint32_t units, uint32_t divisor)
{
	return units / divisor ? units / divisor : 1;
}

static void print_begin(const char *name)
{
	put("begin ");
	put(name);
	flush();
}

static void print_row(const char *name, uint64_t elapsed, uint64_t ops, uint64_t checksum)
{
	put(name);
	put_char(' ');
	put_number(elapsed / ops, 10, 1);
	put_char('.');
	put_number(elapsed % ops * 1000 / ops, 10, 3);
	put_char(' ');
	put_number(checksum, 16, 16);
	put_char(' ');
	put_number(ops, 10, 1);
	put_char(' ');
	put_number(elapsed, 10, 1);
	flush();
}

static void repeat(const struct unit *unit, uint32_t units, uint64_t checksum)
{
	for (uint32_t i = 0; i < units; i++)
		if (run_unit(unit) != checksum)
			bench_fail("two units of a row give different checksums");
}

static void measure(const char *name, const struct unit *unit, uint32_t ops, uint32_t units)
{
	uint64_t checksum = run_unit(unit), start, elapsed;

	print_begin(name);
	start = now();
	repeat(unit, units, checksum);
	elapsed = now() - start;
	print_row(name, elapsed, (uint64_t)units * ops, checksum);
}

static void end_child(long child)
{
	int status = 0;

	if (sys6(SYS_WAIT4, child, (long)&status, 0, 0, 0, 0) != child)
		bench_fail("wait4");
	if (status == 1 << 8) /* it has said why */
		sys3(SYS_EXIT_GROUP, 1, 0, 0);
	if (status)
		bench_fail("the row was killed by a signal");
}

/* In a process of its own, so that fork and exec do not depend on the memory that earlier rows touched. */
static void run(const struct row *row, uint32_t divisor)
{
	long child = sys3(SYS_FORK, 0, 0, 0);

	if (child < 0)
		bench_fail("fork");
	if (!child) {
		measure(row->name, &(struct unit){.run = row->unit}, row->ops, divided(row->units, divisor));
		sys3(SYS_EXIT_GROUP, 0, 0, 0);
	}
	end_child(child);
}

static void read_exactly(int file, void *to, size_t size)
{
	if (sys3(SYS_READ, file, (long)to, (long)size) != (long)size)
		bench_fail("a process of the row has ended early");
}

static void write_exactly(int file, const void *from, size_t size)
{
	if (sys3(SYS_WRITE, file, (long)from, (long)size) != (long)size)
		bench_fail("write");
}

/* `count` processes that do the same work, each all of it, begun together. */
static void run_parallel(const struct row *row, uint32_t divisor, uint32_t count)
{
	const struct unit unit = {.run = row->unit};
	uint32_t units = divided(row->units * PARALLEL_UNITS, divisor);
	uint64_t checksum = 0, start, elapsed;
	long child[PARALLEL_MAX];
	char name[32] = {0}, go = 0;
	int ready[2], begin[2];

	for (size_t i = 0; row->name[i] && i < sizeof(name) - 3; i++)
		name[i] = row->name[i];
	for (size_t i = 0; i < sizeof(name) - 3; i++)
		if (!name[i]) {
			name[i] = '.';
			name[i + 1] = (char)('0' + count);
			break;
		}
	if (sys3(SYS_PIPE, (long)ready, 0, 0) || sys3(SYS_PIPE, (long)begin, 0, 0))
		bench_fail("pipe");
	for (uint32_t i = 0; i < count; i++) {
		child[i] = sys3(SYS_FORK, 0, 0, 0);
		if (child[i] < 0)
			bench_fail("fork");
		if (child[i])
			continue;
		checksum = unit.run();
		write_exactly(ready[1], &checksum, sizeof(checksum));
		read_exactly(begin[0], &go, 1);
		repeat(&unit, units, checksum);
		sys3(SYS_EXIT_GROUP, 0, 0, 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		uint64_t other = checksum;

		read_exactly(ready[0], &checksum, sizeof(checksum));
		if (i && checksum != other)
			bench_fail("two processes of a row give different checksums");
	}
	print_begin(name);
	start = now();
	for (uint32_t i = 0; i < count; i++)
		write_exactly(begin[1], &go, 1);
	for (uint32_t i = 0; i < count; i++)
		end_child(child[i]);
	elapsed = now() - start;
	print_row(name, elapsed, (uint64_t)units * row->ops, checksum);
	for (uint32_t i = 0; i < 2; i++) {
		sys3(SYS_CLOSE, ready[i], 0, 0);
		sys3(SYS_CLOSE, begin[i], 0, 0);
	}
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static const struct row *find(const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (same(rows[i].name, name))
			return &rows[i];
	return NULL;
}

static uint32_t parse(const char *text)
{
	uint32_t value = 0;

	while (*text >= '0' && *text <= '9' && value < 100000)
		value = value * 10 + (uint32_t)(*text++ - '0');
	if (*text || !value)
		bench_fail("usage: bench [-d DIVISOR] [-p] [ROW...], or -x NAME UNITS PROGRAM ARGUMENT...");
	return value;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xorl %ebp, %ebp\n"
	"	movq %rsp, %rdi\n"
	"	andq $-16, %rsp\n"
	"	call bench_main\n");
void bench_main(const long *stack);

/* `stack` is what the kernel left there: argc, argv[]. */
void bench_main(const long *stack)
{
	int count = (int)stack[0], i = 1;
	char *const *arguments = (char *const *)(stack + 1);
	uint32_t divisor = 1;
	bool parallel = false;

	if (count == 2 && same(arguments[1], "exit"))
		sys3(SYS_EXIT_GROUP, EXEC_STATUS, 0, 0);
	if (count == 2 && same(arguments[1], "-l")) {
		for (size_t j = 0; j < ROWS; j++) {
			put(rows[j].name);
			put_char(' ');
			put_number((uint64_t)rows[j].units * rows[j].ops, 10, 1);
			flush();
		}
		sys3(SYS_EXIT_GROUP, 0, 0, 0);
	}
	bench_path = arguments[0];
	if (count > 2 && same(arguments[1], "-d")) {
		divisor = parse(arguments[2]);
		i = 3;
	}
	if (i + 3 < count && same(arguments[i], "-x")) {
		measure(arguments[i + 1], &(struct unit){.program = &arguments[i + 3]}, 1, divided(parse(arguments[i + 2]), divisor));
		sys3(SYS_EXIT_GROUP, 0, 0, 0);
	}
	if (i + 1 < count && same(arguments[i], "-p")) {
		parallel = true;
		i++;
	}
	for (int j = i; j < count; j++)
		if (!find(arguments[j]))
			bench_fail("no such row");
	if (i < count) {
		for (; i < count; i++) {
			const struct row *row = find(arguments[i]);

			if (!parallel) {
				run(row, divisor);
				continue;
			}
			for (uint32_t processes = 1; processes <= PARALLEL_MAX; processes++)
				run_parallel(row, divisor, processes);
		}
	} else {
		for (size_t j = 0; j < ROWS; j++)
			run(&rows[j], divisor);
	}
	put("end");
	flush();
	sys3(SYS_EXIT_GROUP, 0, 0, 0);
}
