/*
 * Threads against each other, for a guest with several vCPUs: a static program that says "NAME ok" or what is wrong.
 * Everything has an exact result. usage: stress NAME [THREADS [TURNS]]
 *
 * Each thread is pinned to a CPU, as far as there are so many.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 64

static unsigned threads = 4, turns = 20000;
static pthread_barrier_t barrier;
static unsigned long wrong;

static void bad(void) { __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED); }

static void pin(unsigned n)
{
	cpu_set_t set;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	CPU_ZERO(&set);
	CPU_SET(n % (unsigned)(cpus > 0 ? cpus : 1), &set);
	sched_setaffinity(0, sizeof set, &set); /* a CPU may just go: then anywhere */
}

static void run(void *(*fn)(void *))
{
	pthread_t t[THREADS_MAX];

	pthread_barrier_init(&barrier, NULL, threads);
	for (uintptr_t i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, fn, (void *)i)) {
			perror("pthread_create");
			exit(1);
		}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
}

/* ---- counters ---- */

static uint64_t added, exchanged, compared;
static unsigned __int128 wide __attribute__((aligned(16)));
static uint8_t bytes[THREADS_MAX];

static void *count(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;
	uint64_t lo, hi;
	bool done;

	pin(n);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < turns; i++) {
		asm volatile("lock addq $3, %0" : "+m"(added));
		__atomic_fetch_add(&exchanged, 1, __ATOMIC_SEQ_CST); /* XADD, or ADD */
		for (uint64_t old = __atomic_load_n(&compared, __ATOMIC_RELAXED);
		     !__atomic_compare_exchange_n(&compared, &old, old + 2, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);)
			;
		lo = hi = 0;
		do
			asm volatile("mov %2, %%rbx; mov %3, %%rcx; add $1, %%rbx; adc $1, %%rcx; lock cmpxchg16b %0"
				     : "+m"(wide), "=@ccz"(done), "+a"(lo), "+d"(hi)
				     :
				     : "rbx", "rcx", "memory");
		while (!done);
		bytes[n]++; /* in one cache line with the others' */
	}
	return NULL;
}

static void test_count(void)
{
	uint64_t all = (uint64_t)threads * turns;

	run(count);
	if (added != 3 * all || exchanged != all || compared != 2 * all)
		bad();
	if ((uint64_t)wide != all || (uint64_t)(wide >> 64) != all)
		bad();
	for (unsigned i = 0; i < threads; i++)
		if (bytes[i] != (uint8_t)turns)
			bad();
}

/* ---- futexes: a lock, a condition, a ring of those who wake each other ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned turn;
static uint64_t guarded;

static void *wait_and_wake(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;

	pin(n);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < turns; i++) {
		pthread_mutex_lock(&lock);
		guarded++;
		pthread_mutex_unlock(&lock);
	}
	for (unsigned i = 0; i < turns / 40; i++) {
		pthread_mutex_lock(&lock);
		while (turn != n)
			pthread_cond_wait(&changed, &lock);
		turn = (n + 1) % threads;
		guarded++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void test_futex(void)
{
	run(wait_and_wake);
	if (guarded != (uint64_t)threads * turns + (uint64_t)threads * (turns / 40))
		bad();
}

/* ---- TLB shootdown: a page that was made read-only is not written to by anybody ---- */

static volatile uint64_t *page;
static volatile bool ended;
static __thread sigjmp_buf retry;
static __thread uint64_t faults;

static void on_segv(int sig)
{
	(void)sig;
	faults++;
	siglongjmp(retry, 1);
}

static void *protect(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;

	pin(n);
	pthread_barrier_wait(&barrier);
	if (n == 0) {
		for (unsigned i = 0; i < turns / 40; i++) {
			uint64_t seen[THREADS_MAX];

			mprotect((void *)page, 4096, PROT_READ);
			for (unsigned t = 1; t < threads; t++)
				seen[t] = page[t];
			for (unsigned spin = 0; spin < 2000; spin++)
				asm volatile("pause");
			for (unsigned t = 1; t < threads; t++)
				if (page[t] != seen[t])
					bad();
			mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
			if (i % 16 == 0) { /* and gone, with new zeros in its place */
				madvise((void *)page, 4096, MADV_DONTNEED);
				sched_yield();
			}
		}
		ended = true;
		return NULL;
	}
	sigsetjmp(retry, 1);
	while (!ended)
		page[n]++;
	return NULL;
}

static void test_shootdown(void)
{
	struct sigaction sa = {.sa_handler = on_segv};

	sigaction(SIGSEGV, &sa, NULL);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	run(protect);
}

/* ---- threads map, use and unmap memory of their own in one address space ---- */

static void *map(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;

	pin(n);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < turns / 20; i++) {
		size_t size = 4096 * (1 + i % 9);
		uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			bad();
			continue;
		}
		for (size_t at = 0; at < size; at += 512)
			if (p[at])
				bad(); /* somebody else's */
		memset(p, (int)n + 1, size);
		sched_yield();
		for (size_t at = 0; at < size; at += 512)
			if (p[at] != n + 1)
				bad();
		munmap(p, size);
	}
	return NULL;
}

static void test_map(void) { run(map); }

/* ---- code that one thread writes and all execute ---- */

static uint8_t *code;
static uint32_t (*volatile current)(void);
static volatile uint32_t newest;

static void *jit(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;
	uint32_t last = 0;

	pin(n);
	pthread_barrier_wait(&barrier);
	for (uint32_t v = 1; n == 0 && v <= turns; v++) {
		uint8_t *p = code + v % 4096 * 16; /* 4096 versions later the place is used again */

		if (v >= 4096 && v % 1024 == 0)
			usleep(1000);
		newest = v;
		p[3] = 0xb8; /* mov eax, v, with v at a multiple of 4: a thread may still be there */
		*(volatile uint32_t *)(p + 4) = v;
		p[8] = 0xc3;
		current = (uint32_t(*)(void))(void *)(p + 3);
	}
	while (n != 0 && last != turns) {
		uint32_t least = newest, got;
		uint32_t (*fn)(void) = current;

		if (!fn)
			continue;
		got = fn();
		/* what was published last, or the one before it, or a newer one in its place */
		if (got + 1 < least || got < last || got > newest)
			bad();
		last = got;
	}
	return NULL;
}

static void test_jit(void)
{
	code = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	run(jit);
}

/* ---- fork in a process with threads: copy on write ---- */

static uint64_t shared_words[8192];

static void *forker(void *opaque)
{
	unsigned n = (unsigned)(uintptr_t)opaque;

	pin(n);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 1; i <= turns / 400; i++) {
		for (unsigned w = n; w < 8192; w += threads)
			shared_words[w] = i;
		pid_t child = fork();

		if (child == 0) {
			bool ok = true;

			for (unsigned w = n; w < 8192; w += threads)
				ok &= shared_words[w] == i;
			for (unsigned w = 0; w < 8192; w += 64)
				shared_words[w] = ~0ull; /* the parent must not see it */
			_exit(ok ? 7 : 8);
		}
		for (unsigned w = n; w < 8192; w += threads)
			if (shared_words[w] != i)
				bad();
		int status = 0;

		if (child < 0 || waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7 || !WIFEXITED(status))
			bad();
	}
	return NULL;
}

static void test_fork(void) { run(forker); }

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{"count", test_count}, {"futex", test_futex}, {"shootdown", test_shootdown},
	{"map", test_map},     {"jit", test_jit},     {"fork", test_fork},
};

int main(int argc, char **argv)
{
	if (argc > 2)
		threads = (unsigned)atoi(argv[2]);
	if (argc > 3)
		turns = (unsigned)atoi(argv[3]);
	if (threads < 2 || threads > THREADS_MAX || argc < 2) {
		fprintf(stderr, "usage: stress NAME [THREADS [TURNS]]\n");
		return 2;
	}
	for (unsigned i = 0; i < sizeof tests / sizeof tests[0]; i++) {
		if (strcmp(argv[1], tests[i].name) != 0)
			continue;
		tests[i].fn();
		if (wrong)
			printf("%s WRONG %lu\n", argv[1], wrong);
		else
			printf("%s ok\n", argv[1]);
		return wrong != 0;
	}
	fprintf(stderr, "stress: no test '%s'\n", argv[1]);
	return 2;
}
