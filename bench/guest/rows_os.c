/*
 * Rows that ask the kernel for something. One process, and never more than one child at a time.
 */
#include "rows.h"
#include "sys.h"

const char *bench_path;

uint64_t row_syscall(void)
{
	uint64_t same = 0;
	long parent = sys3(SYS_GETPPID, 0, 0, 0);

	for (uint32_t i = 0; i < SYSCALL_CALLS; i++)
		same += sys3(SYS_GETPPID, 0, 0, 0) == parent;
	return same;
}

/* Map, write to each page (which must be zero), read all back, unmap. */
uint64_t row_fault(void)
{
	uint8_t *pages = bench_map(FAULT_PAGES * 4096ul);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < FAULT_PAGES; i++)
		pages[i * 4096ul + i % 4096] += (uint8_t)i;
	for (uint32_t i = 0; i < FAULT_PAGES; i++)
		sum += pages[i * 4096ul + i % 4096];
	if (sys3(SYS_MUNMAP, (long)pages, FAULT_PAGES * 4096l, 0))
		bench_fail("munmap");
	return sum;
}

static uint64_t wait_for(long child)
{
	int status;

	if (child < 0)
		bench_fail("fork");
	if (sys6(SYS_WAIT4, child, (long)&status, 0, 0, 0, 0) != child)
		bench_fail("wait4");
	return (uint64_t)status;
}

uint64_t row_fork(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < FORK_CHILDREN; i++) {
		long child = sys3(SYS_FORK, 0, 0, 0);

		if (!child)
			sys3(SYS_EXIT_GROUP, i & 127, 0, 0);
		sum = sum * 3 + wait_for(child);
	}
	return sum;
}

uint64_t row_exec(void)
{
	const char *arguments[] = {bench_path, "exit", NULL}, *environment[] = {NULL};
	uint64_t sum = 0;

	for (uint32_t i = 0; i < EXEC_CHILDREN; i++) {
		long child = sys3(SYS_FORK, 0, 0, 0);

		if (!child) {
			sys3(SYS_EXECVE, (long)bench_path, (long)arguments, (long)environment);
			sys3(SYS_EXIT_GROUP, 1, 0, 0);
		}
		sum = sum * 3 + wait_for(child);
	}
	return sum;
}

/* A byte to a child and a byte back; the child adds one. */
uint64_t row_pipe(void)
{
	int there[2], back[2];
	uint64_t sum = 0;
	uint8_t byte;
	long child;

	if (sys3(SYS_PIPE, (long)there, 0, 0) || sys3(SYS_PIPE, (long)back, 0, 0))
		bench_fail("pipe");
	child = sys3(SYS_FORK, 0, 0, 0);
	if (!child) {
		sys3(SYS_CLOSE, there[1], 0, 0);
		while (sys3(SYS_READ, there[0], (long)&byte, 1) == 1) {
			byte++;
			if (sys3(SYS_WRITE, back[1], (long)&byte, 1) != 1)
				break;
		}
		sys3(SYS_EXIT_GROUP, 7, 0, 0);
	}
	for (uint32_t i = 0; i < PIPE_ROUND_TRIPS; i++) {
		byte = (uint8_t)(i * 5);
		if (sys3(SYS_WRITE, there[1], (long)&byte, 1) != 1 || sys3(SYS_READ, back[0], (long)&byte, 1) != 1)
			bench_fail("ping-pong");
		sum = sum * 3 + byte;
	}
	sys3(SYS_CLOSE, there[1], 0, 0);
	sum += wait_for(child);
	sys3(SYS_CLOSE, there[0], 0, 0);
	sys3(SYS_CLOSE, back[0], 0, 0);
	sys3(SYS_CLOSE, back[1], 0, 0);
	return sum;
}

static volatile uint64_t signals_seen;

static void on_signal(int number)
{
	signals_seen += (uint64_t)number;
}

__asm__(".globl bench_restore\n"
	"bench_restore:\n"
	"	movl $15, %eax\n"
	"	syscall\n");
void bench_restore(void);

uint64_t row_signal(void)
{
	enum { SIGUSR1 = 10, SA_RESTORER = 0x04000000, MASK_SIZE = 8 };
	struct {
		void (*handler)(int);
		uint64_t flags;
		void (*restorer)(void);
		uint64_t mask;
	} action = {on_signal, SA_RESTORER, bench_restore, 0};
	long self = sys3(SYS_GETPID, 0, 0, 0);

	signals_seen = 0;
	if (sys6(SYS_RT_SIGACTION, SIGUSR1, (long)&action, 0, MASK_SIZE, 0, 0))
		bench_fail("sigaction");
	for (uint32_t i = 0; i < SIGNAL_SIGNALS; i++)
		if (sys3(SYS_KILL, self, SIGUSR1, 0))
			bench_fail("kill");
	return signals_seen;
}
