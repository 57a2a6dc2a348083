/* Memory for generated code: what is written at one address runs at the other, and what was given back is used again. */
#include "engine/code_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "check.h"

#define SIZE (64u << 10)
#define LARGE (8u << 20)

/* mov eax, N; ret */
static int runs(const struct code_memory *m, uint32_t n)
{
	uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xc3};
	int (*fn)(void);

	memcpy(code + 1, &n, sizeof n);
	memcpy(m->rw + m->size - sizeof code, code, sizeof code);
	uint8_t *at = m->rx + m->size - sizeof code;
	memcpy(&fn, &at, sizeof fn);
	return fn();
}

static void test_use(void)
{
	struct code_memory a, b, again, none = {0};

	CHECK_EQ(code_memory_take(&a, SIZE), 0);
	CHECK_EQ(code_memory_take(&b, SIZE), 0);
	CHECK(a.rw != a.rx && a.rw != b.rw && a.rx != b.rx && a.size == SIZE);
	CHECK_EQ(runs(&a, 42), 42);
	CHECK_EQ(runs(&b, 43), 43);
	CHECK_EQ(runs(&a, 44), 44);
	uint8_t *rw = a.rw, *rx = a.rx;
	code_memory_give_back(&a);
	CHECK(!a.rw);
	code_memory_give_back(&none);
	CHECK_EQ(code_memory_take(&again, LARGE), 0); /* another size is other memory */
	CHECK(again.rw != rw && runs(&again, 45) == 45);
	CHECK_EQ(code_memory_take(&a, SIZE), 0);
	CHECK(a.rw == rw && a.rx == rx);
	for (unsigned i = 0; i < SIZE; i++)
		if (rw[i] | rx[i]) {
			CHECK(!"it is empty again");
			break;
		}
	CHECK_EQ(runs(&b, 46), 46);
	code_memory_give_back(&a);
	code_memory_give_back(&b);
	code_memory_give_back(&again);
}

/* What is reserved counts what there is; after that nothing is mapped any more. */
static void test_reserve(void)
{
	enum { COUNT = 5, ODD = 12288 };
	struct code_memory m[COUNT];
	uint8_t *rw[COUNT];

	CHECK_EQ(code_memory_take(&m[0], ODD), 0);
	CHECK_EQ(code_memory_reserve(ODD, COUNT), 0);
	CHECK_EQ(code_memory_reserve(ODD, COUNT), 0);
	for (unsigned i = 1; i < COUNT; i++)
		CHECK_EQ(code_memory_take(&m[i], ODD), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		rw[i] = m[i].rw;
		code_memory_give_back(&m[i]);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned known = 0;

		CHECK_EQ(code_memory_take(&m[i], ODD), 0);
		for (unsigned n = 0; n < COUNT; n++)
			known += m[i].rw == rw[n];
		CHECK_EQ(known, 1);
	}
	for (unsigned i = 0; i < COUNT; i++)
		code_memory_give_back(&m[i]);
}

/* What becomes a large page is the same bytes at both addresses, before, meanwhile and after, and is given back. */
static void test_large(void)
{
	enum { SIZE4 = 4 * CODE_MEMORY_LARGE, FULL = CODE_MEMORY_LARGE, WORDS = SIZE4 / 8, TENTHS = 100 };
	const struct timespec tenth = {0, 100000000};
	struct code_memory m;
	uint64_t wrong = 0;
	unsigned waits;

	CHECK_EQ(code_memory_take(&m, SIZE4), 0);
	CHECK(((uintptr_t)m.rw | (uintptr_t)m.rx) % CODE_MEMORY_LARGE == 0);
	volatile uint64_t *rw = (volatile uint64_t *)m.rw, *rx = (volatile uint64_t *)m.rx;
	for (uint64_t i = 0; i < 3 * FULL / 8; i++)
		rw[i] = i * 0x9e3779b97f4a7c15ull;
	code_memory_full(&m, FULL);
	code_memory_full(&m, FULL + 4096); /* the same one */
	code_memory_full(&m, 3 * FULL - 1);
	for (unsigned i = 0; i < 100000; i++) { /* stores while it happens */
		uint64_t at = FULL / 8 + i * 97 % (2 * FULL / 8);

		rw[at] = rw[at] + 1;
		wrong += rx[at] != rw[at];
		rw[at] = rw[at] - 1;
	}
	CHECK(madvise(m.rx, 0, 25) == 0 || !m.large);
	for (waits = 0; m.large && code_memory_large(&m) < 2 && waits < TENTHS; waits++)
		nanosleep(&tenth, NULL);
	if (code_memory_large(&m) < 2)
		printf("# the host has no large pages to give: %u of 2\n", code_memory_large(&m));
	CHECK(code_memory_large(&m) <= 2);
	for (uint64_t i = 0; i < WORDS; i++)
		wrong += rx[i] != (i < 3 * FULL / 8 ? i * 0x9e3779b97f4a7c15ull : 0);
	CHECK_EQ(wrong, 0);
	CHECK_EQ(runs(&m, 47), 47);
	code_memory_full(&m, 0); /* and given back at once */
	code_memory_give_back(&m);
	CHECK_EQ(code_memory_take(&m, SIZE4), 0);
	rx = (volatile uint64_t *)m.rx;
	CHECK_EQ(code_memory_large(&m), 0);
	for (uint64_t i = 0; i < WORDS; i++)
		wrong += rx[i] != 0;
	CHECK_EQ(wrong, 0);
	code_memory_give_back(&m);
}

static void *user(void *arg)
{
	uintptr_t n = (uintptr_t)arg, bad = 0;

	for (unsigned i = 0; i < 300; i++) {
		struct code_memory m;

		if (code_memory_take(&m, SIZE) < 0)
			return (void *)1;
		for (unsigned k = 0; k < 20; k++)
			bad |= runs(&m, (uint32_t)n * 1000 + k) != (int)n * 1000 + (int)k;
		code_memory_give_back(&m);
	}
	return (void *)bad;
}

static void test_threads(void)
{
	pthread_t t[4];
	void *bad;

	for (uintptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, user, (void *)i), 0);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], &bad);
		CHECK(!bad);
	}
}

int main(void)
{
	struct code_memory m;

	test_use();
	test_reserve();
	test_threads();
	test_large();
	CHECK(code_memory_take(&m, 1ull << 60) < 0 && code_memory_reserve(1ull << 60, 1) < 0);
	return summary();
}
