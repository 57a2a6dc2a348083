/*
 * Random byte strings through Ringside's decoder and through Zydis, in all three modes: both must say
 * the same. Arguments: [count [seed]], or "bench" for the time a decoding takes.
 */
// LIBS: -lZydis
#include "decode_compare.h"

#include <time.h>

static uint64_t random_state;

static uint64_t random_u64(void)
{
	/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717ull;
}

/* A string that is often an instruction: prefixes, an escape to some map, noise after it. */
static void random_bytes(uint8_t bytes[16])
{
	static const uint8_t prefixes[] = { 0x66, 0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x64, 0x65, 0x26, 0x36, 0x3e };
	uint64_t noise[2] = { random_u64(), random_u64() };
	uint64_t how = random_u64();
	memcpy(bytes, noise, 16);
	unsigned n = 0;
	for (unsigned i = how & 7; i >= 5; i--) /* three in eight have prefixes */
		bytes[n++] = prefixes[random_u64() % sizeof(prefixes)];
	how >>= 3;
	if ((how & 3) == 0)
		bytes[n++] = 0x40 | (how >> 2 & 15); /* REX in 64-bit mode */
	how >>= 6;
	switch (how & 15) {
	case 0 ... 4:
		bytes[n] = 0x0f;
		break;
	case 5:
		bytes[n] = 0x0f;
		bytes[n + 1] = 0x38;
		break;
	case 6:
		bytes[n] = 0x0f;
		bytes[n + 1] = 0x3a;
		break;
	case 7:
		bytes[0] = 0xc5;
		break;
	case 8:
	case 9:
		bytes[0] = 0xc4;
		bytes[1] = (bytes[1] & 0xe0) | (1 + bytes[2] % 3);
		bytes[2] |= how >> 4 & 1 ? 0x78 : 0;
		break;
	case 10:
	case 11:
		bytes[0] = 0x62;
		bytes[1] = (bytes[1] & 0xf0) | (1 + bytes[2] % 3);
		bytes[2] |= 4;
		bytes[2] |= how >> 4 & 1 ? 0x78 : 0;
		if (how >> 5 & 1)
			bytes[3] &= 0x6f; /* no zeroing, no broadcast */
		if (how >> 6 & 1)
			bytes[3] &= 0xf8; /* no mask */
		if (how >> 7 & 1)
			bytes[3] |= 8;
		break;
	}
}

/* Seconds of processor time: other work on the machine does not count. */
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static int bench(void)
{
	enum { STRINGS = 4096, ROUNDS = 500 };
	static uint8_t bytes[STRINGS][16];
	struct insn insn;
	unsigned valid = 0;
	for (unsigned i = 0; i < STRINGS;) {
		random_bytes(bytes[i]);
		i += insn_decode(&insn, bytes[i], 16, 64) == DECODE_OK;
	}
	double start = now();
	for (unsigned r = 0; r < ROUNDS; r++)
		for (unsigned i = 0; i < STRINGS; i++)
			valid += insn_decode(&insn, bytes[i], 16, 64) == DECODE_OK;
	double ns = (now() - start) * 1e9 / ((double)STRINGS * ROUNDS);
	printf("decode: %.1f ns an instruction (random valid ones, %u)\n", ns, valid);
	return 0;
}

int main(int argc, char **argv)
{
	static const unsigned modes[3] = { 64, 32, 16 };
	if (argc > 1 && !strcmp(argv[1], "bench"))
		return bench();
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 0) : 10000000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, valid = 0, excused = 0, differences = 0;
	random_state = seed * 0x9e3779b97f4a7c15ull | 1;
	zydis_setup();
	for (uint64_t i = 0; i < count; i++) {
		uint8_t bytes[16];
		struct insn insn;
		struct zydis_one z;
		unsigned mode = modes[random_u64() % 4 % 3];
		unsigned size = 15;
		random_bytes(bytes);
		enum decode_result result = insn_decode(&insn, bytes, size, mode);
		zydis_decode(&z, bytes, size, mode);
		valid += z.ok;
		const char *what = different(result, &insn, &z);
		if (!what)
			continue;
		if (decode_excused(what, result, &insn, &z)) {
			excused++;
			continue;
		}
		if (differences++ < 20)
			print_difference(what, bytes, size, mode, result, &insn, &z);
	}
	printf("# %llu strings, seed %llu: %llu valid, %llu excused, %llu different\n", (unsigned long long)count,
	       (unsigned long long)seed, (unsigned long long)valid, (unsigned long long)excused,
	       (unsigned long long)differences);
	printf("%s decoder agrees with Zydis\n", differences ? "not ok" : "ok");
	printf("%d passed, %d failed\n", !differences, !!differences);
	return differences ? 1 : 0;
}
