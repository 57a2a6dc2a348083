/*
 * Rows that stay in user mode: what the processor does alone. Everything here is deterministic, down
 * to the bits of the floating-point results (no FMA, no x87 transcendental).
 */
#include "rows.h"
#include "sys.h"

#include <emmintrin.h>

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

static uint32_t random_next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

uint64_t row_alu(void)
{
	uint64_t x = 88172645463325252u, y = 1, z = 2;

	for (uint32_t i = 0; i < ALU_ROUNDS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		y += x * 0x2545f4914f6cdd1du;
		z = (z << 11 | z >> 53) + (y ^ i);
		y -= (uint32_t)z > 0x80000000u ? z : i;
	}
	return mix(mix(x, y), z);
}

/* Composite flags for 0 .. SIEVE_SIZE - 1: one byte store for each (prime, multiple). */
uint64_t row_sieve(void)
{
	static uint8_t composite[SIEVE_SIZE];
	uint64_t primes = 0, last = 0, stores = 0;

	for (uint32_t i = 0; i < SIEVE_SIZE; i++)
		composite[i] = 0;
	for (uint32_t i = 2; i < SIEVE_SIZE; i++) {
		if (composite[i])
			continue;
		primes++;
		last = i;
		for (uint32_t j = 2 * i; j < SIEVE_SIZE; j += i) {
			composite[j] = 1;
			stores++;
		}
	}
	return mix(mix(primes, last), stores);
}

__attribute__((noipa, optimize("no-optimize-sibling-calls"))) static uint32_t fib(uint32_t n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t row_fib(void)
{
	return mix(FIB_N, fib(FIB_N));
}

static uint64_t op_add(uint64_t a, uint64_t b)
{
	return a + b;
}

static uint64_t op_xor(uint64_t a, uint64_t b)
{
	return a ^ b;
}

static uint64_t op_rotate(uint64_t a, uint64_t b)
{
	return (a << 7 | a >> 57) + b;
}

static uint64_t op_subtract(uint64_t a, uint64_t b)
{
	return b - a;
}

/* A byte-code interpreter: one jump through a table each step, one call through a pointer every other. */
uint64_t row_dispatch(void)
{
	static uint64_t (*const functions[4])(uint64_t, uint64_t) = {op_add, op_xor, op_rotate, op_subtract};
	static uint8_t program[4096];
	uint64_t a = 1, b = 2;
	uint32_t seed = 12345;

	for (uint32_t i = 0; i < sizeof(program); i++)
		program[i] = random_next(&seed) & 15;
	for (uint32_t step = 0; step < DISPATCH_STEPS; step++) {
		uint8_t code = program[step % sizeof(program)];

		switch (code) {
		case 0: a += b; break;
		case 1: b ^= a << 3; break;
		case 2: a -= step; break;
		case 3: b = b * 5 + 1; break;
		case 4: a = ~a; break;
		case 5: b += a >> 9; break;
		case 6: a ^= 0x5555; break;
		case 7: b -= 77; break;
		default: a = functions[code & 3](a, b); break;
		}
	}
	return mix(a, b);
}

uint64_t row_matmul(void)
{
	static double a[MATMUL_N][MATMUL_N], b[MATMUL_N][MATMUL_N], c[MATMUL_N][MATMUL_N];
	uint64_t hash = 0;

	for (uint32_t i = 0; i < MATMUL_N; i++)
		for (uint32_t j = 0; j < MATMUL_N; j++) {
			a[i][j] = (double)(i * 3 + j) / 7.0;
			b[i][j] = (double)(i + j * 5) / 11.0 - 20.0;
			c[i][j] = 0;
		}
	for (uint32_t i = 0; i < MATMUL_N; i++)
		for (uint32_t k = 0; k < MATMUL_N; k++)
			for (uint32_t j = 0; j < MATMUL_N; j++)
				c[i][j] += a[i][k] * b[k][j];
	for (uint32_t i = 0; i < MATMUL_N; i++)
		for (uint32_t j = 0; j < MATMUL_N; j++) {
			uint64_t bits;

			__builtin_memcpy(&bits, &c[i][j], sizeof(bits));
			hash = mix(hash, bits);
		}
	return hash;
}

/* A term: two additions, two multiplications, a division, and every 16th time a square root, at 80 bits. */
uint64_t row_x87(void)
{
	long double sum = 0, product = 1, step = 0.25L;
	uint64_t significand;
	uint16_t exponent;

	for (uint32_t i = 1; i <= X87_TERMS; i++) {
		step += 1.0L;
		sum += 1.0L / (step * step);
		product *= 1.0L + sum / 1048576.0L;
		if (i % 16 == 0)
			__asm__("fsqrt" : "+t"(product));
	}
	sum += product;
	__builtin_memcpy(&significand, &sum, sizeof(significand));
	__builtin_memcpy(&exponent, (const char *)&sum + sizeof(significand), sizeof(exponent));
	return mix(significand, exponent);
}

struct node {
	struct node *next;
	uint64_t value;
	uint64_t pad[6];
};

/* A random cycle through `count` nodes, one cache line each. */
static struct node *make_cycle(uint32_t count)
{
	struct node *nodes = bench_map(count * sizeof(*nodes));
	uint32_t *order = bench_map(count * sizeof(*order)), seed = 777;

	for (uint32_t i = 0; i < count; i++)
		order[i] = i;
	for (uint32_t i = count - 1; i > 0; i--) {
		uint32_t j = random_next(&seed) % (i + 1), swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	for (uint32_t i = 0; i < count; i++) {
		nodes[order[i]].next = &nodes[order[(i + 1) % count]];
		nodes[order[i]].value = order[i];
	}
	return &nodes[order[0]];
}

/*
 * Three cycles, each for about a third of the time on a bare processor: 32 KiB (first-level cache),
 * 512 KiB, and 4 MiB (1024 pages: more than first-level caches and TLBs hold).
 */
uint64_t row_chase(void)
{
	static const struct {
		uint32_t nodes, steps;
	} sets[3] = {{32 << 4, CHASE_STEPS * 16 / 21}, {512 << 4, CHASE_STEPS * 4 / 21}, {4096 << 4, CHASE_STEPS / 21}};
	static const struct node *cycles[3];
	uint64_t sum = 0;

	for (int set = 0; set < 3; set++) {
		const struct node *node;

		if (!cycles[set])
			cycles[set] = make_cycle(sets[set].nodes);
		node = cycles[set];
		for (uint32_t i = 0; i < sets[set].steps; i++) {
			sum = (sum << 1 | sum >> 63) + node->value;
			node = node->next;
		}
	}
	return sum;
}

static int compare_int(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

/* Quicksort (median of three, insertion sort below 9) that calls its comparison through a pointer, as libc's does. */
static void sort(int32_t *items, int64_t count, int (*compare)(const void *, const void *))
{
	while (count > 8) {
		int32_t pivot, swap;
		int64_t i = 0, j = count - 1, middle = count / 2;
		const int32_t *a = &items[0], *b = &items[middle], *c = &items[j];

		if (compare(a, b) > 0) {
			const int32_t *p = a;

			a = b;
			b = p;
		}
		pivot = compare(b, c) <= 0 ? *b : compare(a, c) <= 0 ? *c : *a;
		while (i <= j) {
			while (compare(&items[i], &pivot) < 0)
				i++;
			while (compare(&items[j], &pivot) > 0)
				j--;
			if (i <= j) {
				swap = items[i];
				items[i++] = items[j];
				items[j--] = swap;
			}
		}
		if (j + 1 < count - i) {
			sort(items, j + 1, compare);
			items += i;
			count -= i;
		} else {
			sort(items + i, count - i, compare);
			count = j + 1;
		}
	}
	for (int64_t i = 1; i < count; i++) {
		int32_t item = items[i];
		int64_t j = i;

		while (j > 0 && compare(&items[j - 1], &item) > 0) {
			items[j] = items[j - 1];
			j--;
		}
		items[j] = item;
	}
}

uint64_t row_qsort(void)
{
	static int32_t items[QSORT_ITEMS];
	int (*volatile compare)(const void *, const void *) = compare_int;
	uint32_t seed = 4242;
	uint64_t hash = 0;

	for (uint32_t i = 0; i < QSORT_ITEMS; i++)
		items[i] = (int32_t)(random_next(&seed) << 8);
	sort(items, QSORT_ITEMS, compare);
	for (uint32_t i = 0; i < QSORT_ITEMS; i++)
		hash = mix(hash, (uint32_t)items[i]);
	return hash;
}

/* 64 bytes a round, as the x86-64 baseline (SSE2) memcpy of a libc does. */
__attribute__((noipa)) static void copy(uint8_t *to, const uint8_t *from, size_t size)
{
	for (size_t i = 0; i < size; i += 64) {
		__m128i a = _mm_loadu_si128((const __m128i *)(from + i));
		__m128i b = _mm_loadu_si128((const __m128i *)(from + i + 16));
		__m128i c = _mm_loadu_si128((const __m128i *)(from + i + 32));
		__m128i d = _mm_loadu_si128((const __m128i *)(from + i + 48));

		_mm_storeu_si128((__m128i *)(to + i), a);
		_mm_storeu_si128((__m128i *)(to + i + 16), b);
		_mm_storeu_si128((__m128i *)(to + i + 32), c);
		_mm_storeu_si128((__m128i *)(to + i + 48), d);
	}
}

uint64_t row_memcpy(void)
{
	enum { SIZE = 1 << 20 };
	static uint8_t *from, *to;
	uint64_t hash = 0;

	if (!from) {
		uint32_t seed = 99;

		from = bench_map(SIZE);
		to = bench_map(SIZE);
		for (uint32_t i = 0; i < SIZE; i++)
			from[i] = (uint8_t)random_next(&seed);
	}
	for (uint32_t i = 0; i < MEMCPY_COPIES; i++)
		copy(to, from, SIZE);
	for (uint32_t i = 0; i < SIZE; i += 509)
		hash = mix(hash, to[i]);
	return hash;
}
