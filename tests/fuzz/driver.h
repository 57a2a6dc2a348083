/*
 * What fuzz targets share. A target defines
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
 *
 * and includes this file. Built with -DLIBFUZZER and -fsanitize=fuzzer (make fuzz-devices) libFuzzer calls it. Built
 * without, main() below does: for a fixed number of inputs made from a seed, or for the files that it is given (what
 * libFuzzer found). A crash, a hang or a leak is how a target fails.
 *
 * usage: TARGET [--cases N] [--seed S] [FILE...]
 */
#ifndef FUZZ_DRIVER_H
#define FUZZ_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input is taken from its front; behind its end there are zeros. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes)
{
	uint64_t v = 0;

	if (bytes > in->size)
		bytes = (unsigned)in->size;
	memcpy(&v, in->data, bytes);
	in->data += bytes;
	in->size -= bytes;
	return v;
}

#ifndef LIBFUZZER

#define FUZZ_CASES 2000
#define FUZZ_INPUT_MAX 2048
#define FUZZ_SECONDS 20 /* the budget, on any machine */

static uint64_t fuzz_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dull;
}

/* Random bytes of random length; small numbers are frequent, as they are what registers and rings know. */
static size_t fuzz_make_input(uint64_t *x, uint8_t *data)
{
	size_t size = fuzz_random(x) % FUZZ_INPUT_MAX;
	unsigned small = (unsigned)(fuzz_random(x) % 4);

	for (size_t i = 0; i < size; i++) {
		uint64_t r = fuzz_random(x);

		data[i] = (uint8_t)(r >> 32 & 3) < small ? (uint8_t)(r & 0xf) : (uint8_t)r;
	}
	return size;
}

static bool fuzz_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(1 << 20);
	size_t size = f && data ? fread(data, 1, 1 << 20, f) : 0;

	if (f) {
		LLVMFuzzerTestOneInput(data, size);
		fclose(f);
	} else {
		perror(path);
	}
	free(data);
	return f;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, cases = FUZZ_CASES, done = 0;
	time_t start = time(NULL);
	bool ok = true, files = false;

	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && strcmp(argv[i], "--cases") == 0)
			cases = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[++i], NULL, 0);
		else
			ok &= (files = true, fuzz_file(argv[i]));
	}
	if (files)
		return !ok;
	for (; done < cases && time(NULL) - start < FUZZ_SECONDS; done++) {
		uint64_t x = (seed * 1000003 + done) * 0x9e3779b97f4a7c15ull | 1;
		/* Of its exact size, so that a sanitizer sees a read behind it. */
		uint8_t *data = malloc(FUZZ_INPUT_MAX), *exact;
		size_t size = data ? fuzz_make_input(&x, data) : 0;

		exact = malloc(size ? size : 1);
		if (!data || !exact)
			return 1;
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
		free(data);
	}
	printf("ok - %llu inputs, seed %llu\n%u passed, 0 failed\n", (unsigned long long)done, (unsigned long long)seed,
	       done ? 1 : 0);
	return done == 0;
}

#endif
#endif
