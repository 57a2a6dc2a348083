/*
 * What the soak's guest runs: churn of processes, of mappings, and of code.
 *
 *   churn ROUNDS   in each round: processes that exit at once or exec this program, mappings that are made,
 *                  touched, protected and unmapped, and some thousand functions that are written to new
 *                  memory, called, changed, called again and unmapped. Ends with status 1 if anything was wrong.
 *   churn exit     exits with status 42
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 6
#define MAPPINGS 8
#define FUNCTIONS 4096
#define FUNCTION_SIZE 64
#define EXEC_STATUS 42

static void need(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static uint32_t state = 1;

static uint32_t random_next(void)
{
	state = state * 1664525u + 1013904223u;
	return state >> 8;
}

static void processes(char *path)
{
	for (int i = 0; i < CHILDREN; i++) {
		pid_t child = fork();
		int status;

		need(child >= 0, "fork");
		if (!child) {
			if (i % 2)
				execl(path, path, "exit", (char *)NULL);
			_exit(EXEC_STATUS);
		}
		need(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == EXEC_STATUS, "waitpid");
	}
}

static void mappings(void)
{
	size_t size[MAPPINGS];
	uint8_t *map[MAPPINGS];

	for (int i = 0; i < MAPPINGS; i++) {
		size[i] = (random_next() % 256 + 1) * 4096;
		map[i] = mmap(NULL, size[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		need(map[i] != MAP_FAILED, "mmap");
		for (size_t at = 0; at < size[i]; at += 4096)
			map[i][at + at / 4096 % 4096] += (uint8_t)(i + 1);
	}
	for (int i = 0; i < MAPPINGS; i++) {
		need(!mprotect(map[i], size[i], PROT_READ), "mprotect");
		for (size_t at = 0; at < size[i]; at += 4096)
			need(map[i][at + at / 4096 % 4096] == i + 1, "memory that was written");
		need(!munmap(map[i], size[i]), "munmap");
	}
}

/* Function n: mov $n + add, %eax; a few idle instructions; ret. */
static void write_function(uint8_t *at, uint32_t result)
{
	static const uint8_t rest[] = {0x48, 0x8d, 0x54, 0x07, 0x08, 0x48, 0x31, 0xd2, 0x85, 0xd2, 0x74, 0x01, 0xcc, 0xc3};

	at[0] = 0xb8;
	memcpy(at + 1, &result, 4);
	memcpy(at + 5, rest, sizeof(rest));
}

static void code(uint32_t round)
{
	size_t size = FUNCTIONS * FUNCTION_SIZE;
	/* A new address each time: translations are for an address, so these are all new. */
	void *hint = (void *)(uintptr_t)(0x10000000000 + ((uint64_t)random_next() << 16));
	uint8_t *map = mmap(hint, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(map != MAP_FAILED, "mmap of code");
	for (uint32_t turn = 0; turn < 2; turn++) {
		for (uint32_t i = 0; i < FUNCTIONS; i += turn ? 64 : 1)
			write_function(map + i * FUNCTION_SIZE, i + round + turn);
		for (uint32_t i = 0; i < FUNCTIONS; i++) {
			uint32_t (*function)(void) = (uint32_t(*)(void))(map + i * FUNCTION_SIZE), wanted = i + round;

			need(function() == wanted + (turn && i % 64 == 0), "a function that was written");
		}
	}
	need(!munmap(map, size), "munmap of code");
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "exit"))
		return EXEC_STATUS;
	state = (uint32_t)getpid();
	for (int round = 0; argc == 2 && round < atoi(argv[1]); round++) {
		processes(argv[0]);
		mappings();
		code((uint32_t)round);
	}
	return 0;
}
