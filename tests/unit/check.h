/*
 * Checks that count, and the line that says how many there were. Header only, single thread.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static unsigned passed, failed;
static const char *check_about; /* told when a check fails, for several that share its line; NULL: nothing */

static inline bool check_that(bool ok, const char *file, int line)
{
	if (ok) {
		passed++;
		return true;
	}
	failed++;
	printf("not ok: %s:%d: ", file, line);
	if (check_about)
		printf("%s: ", check_about);
	return false;
}

/* The check itself is told, or what the format says. */
#define CHECK_SAYING(cond, ...) \
	do { \
		if (!check_that(cond, __FILE__, __LINE__)) { \
			printf(__VA_ARGS__); \
			printf("\n"); \
		} \
	} while (0)
#define CHECK(cond) CHECK_SAYING(cond, "%s", #cond)
#define CHECK_EQ(a, b) \
	do { \
		unsigned long long a_ = (uint64_t)(a), b_ = (uint64_t)(b); \
		CHECK_SAYING(a_ == b_, "%s is %#llx, not %#llx", #a, a_, b_); \
	} while (0)

/* A check with a name, which is told either way. */
static inline void check_named(const char *name, bool ok)
{
	printf("%s %u - %s\n", ok ? "ok" : "not ok", passed + failed + 1, name);
	passed += ok;
	failed += !ok;
}

static inline int summary(void)
{
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}

#endif
