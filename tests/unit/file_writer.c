/* Writes behind somebody's back: everything arrives, in order, also when far more comes than the thread keeps up with. */
#include "block/file_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"

#define SIZE 65536u

static uint8_t contents[SIZE], file[SIZE];

static void test_all_arrives(int fd)
{
	struct file_writer *w = file_writer_new(fd);

	CHECK(w != NULL);
	CHECK_EQ(file_writer_drain(w), 0);
	srandom(1);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned n = 0; n < 400; n++) {
			uint64_t at = (uint64_t)random() % SIZE, len = 1 + (uint64_t)random() % 300;

			len = len < SIZE - at ? len : SIZE - at;
			for (uint64_t i = 0; i < len; i++)
				contents[at + i] = (uint8_t)random();
			file_writer_put(w, contents, at, len);
		}
		if (round % 7)
			continue;
		CHECK_EQ(file_writer_drain(w), 0);
		CHECK_EQ(pread(fd, file, SIZE, 0), (ssize_t)SIZE);
		CHECK(memcmp(file, contents, SIZE) == 0);
	}
	file_writer_free(w); /* what is left is written */
	CHECK_EQ(pread(fd, file, SIZE, 0), (ssize_t)SIZE);
	CHECK(memcmp(file, contents, SIZE) == 0);
}

static void test_errors(void)
{
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	struct file_writer *w = file_writer_new(fd);

	CHECK(fd >= 0 && w != NULL);
	file_writer_put(w, contents, 0, 10);
	CHECK(file_writer_drain(w) < 0);
	CHECK_EQ(file_writer_drain(w), 0); /* told once */
	file_writer_free(w);
	close(fd);
}

/* No memory for a large change, with small ones before it: all of it arrives all the same, in order. */
static void test_no_memory(void)
{
#ifndef SANITIZERS
	enum { LARGE = 32 << 20 };
	int fd = memfd_create("large", MFD_CLOEXEC);
	uint8_t *large = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *got = MAP_FAILED;
	struct rlimit limit, none = {0};

	CHECK(fd >= 0 && large != MAP_FAILED && ftruncate(fd, LARGE) == 0 && getrlimit(RLIMIT_AS, &limit) == 0);
	got = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, fd, 0);
	struct file_writer *w = file_writer_new(fd);
	CHECK(got != MAP_FAILED && w != NULL);
	none.rlim_max = limit.rlim_max;
	for (unsigned n = 0; n < 200; n++) {
		memset(large, (int)n, 64);
		file_writer_put(w, large, 0, 64);
	}
	memset(large, 0xa5, LARGE);
	setrlimit(RLIMIT_AS, &none);
	CHECK(malloc(LARGE) == NULL);
	file_writer_put(w, large, 0, LARGE);
	setrlimit(RLIMIT_AS, &limit);
	CHECK_EQ(file_writer_drain(w), 0);
	CHECK(memcmp(got, large, LARGE) == 0);
	file_writer_free(w);
	munmap(got, LARGE);
	munmap(large, LARGE);
	close(fd);
#endif
}

int main(void)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, SIZE), 0);
	test_all_arrives(fd);
	test_errors();
	test_no_memory();
	close(fd);
	return summary();
}
