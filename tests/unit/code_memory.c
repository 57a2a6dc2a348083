/* Memory for generated code: what is written at one address runs at the other, and what was given back is used again. */
#include "engine/code_memory.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

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
	CHECK(code_memory_take(&m, 1ull << 60) < 0 && code_memory_reserve(1ull << 60, 1) < 0);
	return summary();
}
