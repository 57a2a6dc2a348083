/*
 * The benchmark program's whole run-time: raw Linux system calls and a little output. There is no
 * libc, so that no CPUID-dependent choice of memcpy or strlen makes two machines run different code.
 */
#ifndef BENCH_SYS_H
#define BENCH_SYS_H

#include <stddef.h>
#include <stdint.h>

enum {
	SYS_READ = 0,
	SYS_WRITE = 1,
	SYS_CLOSE = 3,
	SYS_MMAP = 9,
	SYS_MUNMAP = 11,
	SYS_RT_SIGACTION = 13,
	SYS_RT_SIGRETURN = 15,
	SYS_IOCTL = 16,
	SYS_PIPE = 22,
	SYS_MADVISE = 28,
	SYS_DUP2 = 33,
	SYS_GETPID = 39,
	SYS_FORK = 57,
	SYS_EXECVE = 59,
	SYS_WAIT4 = 61,
	SYS_KILL = 62,
	SYS_GETPPID = 110,
	SYS_CLOCK_GETTIME = 228,
	SYS_EXIT_GROUP = 231,
};

static inline long sys6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long sys3(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

/* Prints `fail WHAT` and ends the program with status 1. */
_Noreturn void bench_fail(const char *what);

/* Anonymous zeroed memory that the kernel must not back with huge pages; ends the program if there is none. */
void *bench_map(size_t size);

#endif
