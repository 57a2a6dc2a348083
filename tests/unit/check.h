/*
 * Checks that count, and the line that says how many there were. Header only, single thread.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>

static unsigned passed, failed;

#define CHECK(cond) \
	do { \
		if (cond) { \
			passed++; \
		} else { \
			failed++; \
			printf("not ok: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
		} \
	} while (0)

#define CHECK_EQ(a, b) \
	do { \
		uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b); \
		if (a_ == b_) { \
			passed++; \
		} else { \
			failed++; \
			printf("not ok: %s:%d: %s is %#llx, not %#llx\n", __FILE__, __LINE__, #a, \
			       (unsigned long long)a_, (unsigned long long)b_); \
		} \
	} while (0)

static inline int summary(void)
{
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}

#endif
