/*
 * A hostile client of the 9P server: messages of every type with random fields, over a small tree that is made anew for
 * each input. Whatever it does, nothing beside the tree changes.
 */
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"

#include "share/p9.h"

enum { MESSAGES = 200, REPLY = 1 << 16 };

static char top[64], tree[80], secret[80];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void remove_all(void) { nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void make_tree(void)
{
	static bool made;

	if (!made) {
		snprintf(top, sizeof top, "/dev/shm/ringside-fuzz-%d", (int)getpid());
		snprintf(tree, sizeof tree, "%s/tree", top);
		snprintf(secret, sizeof secret, "%s/secret", top);
		atexit(remove_all);
		made = true;
	}
	remove_all();
	if (mkdir(top, 0700) < 0 || mkdir(tree, 0700) < 0)
		abort();
	FILE *f = fopen(secret, "w");
	if (!f || chmod(secret, 0600) < 0)
		abort();
	fclose(f);
}

/* One component, or what is not: few of them, so that they meet. */
static size_t put_name(uint8_t *at, struct fuzz_input *in)
{
	static const char *const names[] = {"a", "b", "c", "..", ".", "../secret", "/", "", "a/b", "link", "a", "b"};
	const char *name = names[fuzz_take(in, 1) % (sizeof names / sizeof names[0])];
	uint16_t len = (uint16_t)strlen(name);

	memcpy(at, &len, 2);
	memcpy(at + 2, name, len);
	return 2u + len;
}

static size_t put_number(uint8_t *at, struct fuzz_input *in, unsigned bytes)
{
	uint64_t kind = fuzz_take(in, 1), v = kind % 8 == 0 ? fuzz_take(in, bytes) : kind % 5;

	memcpy(at, &v, bytes);
	return bytes;
}

/* The fields of each type: 1, 2, 4, 8: a number of that size; s: a name; w: names to walk; d: data. */
static const struct {
	uint8_t type;
	const char *fields;
} types[] = {
	{8, "4"}, {12, "44"}, {14, "4s444"}, {16, "4ss4"}, {18, "4s4444"}, {20, "44s"}, {22, "4"}, {24, "48"},
	{26, "4444488888"}, {30, "44s"}, {32, "4s84"}, {40, "484"}, {50, "44"}, {52, "414884s"}, {54, "41884s"}, {70, "44s"}, {72, "4s44"},
	{74, "4s4s"}, {76, "4s4"}, {100, "4s"}, {104, "44ss4"}, {108, "2"}, {110, "44w"}, {110, "44w"}, {110, "44w"}, {116, "484"},
	{118, "48d"}, {120, "4"}, {122, "4"},
};

static size_t make_message(uint8_t *m, struct fuzz_input *in)
{
	unsigned t = (unsigned)fuzz_take(in, 1) % (sizeof types / sizeof types[0]);
	size_t n = 7;

	m[4] = types[t].type;
	m[5] = m[6] = 0;
	for (const char *f = types[t].fields; *f; f++) {
		if (*f == 's') {
			n += put_name(m + n, in);
		} else if (*f == 'w') {
			uint16_t count = (uint16_t)fuzz_take(in, 1) % 4;

			memcpy(m + n, &count, 2);
			n += 2;
			while (count--)
				n += put_name(m + n, in);
		} else if (*f == 'd') {
			n += put_number(m + n, in, 4);
			memset(m + n, 0x5a, 8);
			n += 8;
		} else {
			n += put_number(m + n, in, (unsigned)*f - '0');
		}
	}
	if (fuzz_take(in, 1) % 16 == 0) /* cut short */
		n -= fuzz_take(in, 1) % n;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t reply[REPLY];
	static const uint8_t attach[] = {23, 0, 0, 0, 104, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0};
	struct fuzz_input in = {data, size};
	struct stat st;

	make_tree();
	struct p9 *s = p9_new(tree, fuzz_take(&in, 1) % 8 == 0);
	if (!s)
		abort();
	p9_handle(s, attach, sizeof attach, reply, sizeof reply);
	for (unsigned i = 0; i < MESSAGES && in.size; i++) {
		uint8_t m[512] = {0};
		size_t n = make_message(m, &in);

		memcpy(m, &(uint32_t){(uint32_t)n}, 4);
		/* Of its exact size, so that a sanitizer sees a read behind it. */
		uint8_t *exact = malloc(n ? n : 1);
		if (!exact)
			abort();
		memcpy(exact, m, n);
		if (p9_handle(s, exact, n, reply, fuzz_take(&in, 1) % 4 ? sizeof reply : fuzz_take(&in, 1)) > sizeof reply)
			abort();
		free(exact);
	}
	p9_free(s);
	if (stat(secret, &st) < 0 || st.st_size || (st.st_mode & 07777) != 0600 || st.st_nlink != 1)
		abort();
	return 0;
}
