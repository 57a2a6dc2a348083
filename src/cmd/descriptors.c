/*
 * Descriptors that are there at the beginning. See descriptors.h.
 */
#include "cmd/descriptors.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void descriptors_fill_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* The lowest number from `from` on that stands behind `before` in a word; INT_MAX: none does. */
static long lowest_behind(const char *word, const char *before, long from)
{
	long lowest = INT_MAX;

	for (const char *at = word; (at = strstr(at, before)) != NULL;) {
		at += strlen(before);
		long fd = strtol(at, NULL, 10);
		lowest = fd >= from && fd < lowest ? fd : lowest;
	}
	return lowest;
}

static long lowest_named(int argc, char *const *argv, long from)
{
	long lowest = INT_MAX;

	for (int i = 0; i < argc; i++) {
		long fd = lowest_behind(argv[i], "fd=", from), path = lowest_behind(argv[i], "/fd/", from);

		lowest = fd < lowest ? fd : lowest;
		lowest = path < lowest ? path : lowest;
	}
	return lowest;
}

void descriptors_close_inherited(int argc, char *const *argv)
{
	long from = STDERR_FILENO + 1, to;

	for (; from < INT_MAX; from = to + 1) {
		to = lowest_named(argc, argv, from);
		if (to == from || close_range((unsigned)from, (unsigned)to - 1, 0) == 0)
			continue;
		for (long fd = from, end = sysconf(_SC_OPEN_MAX); fd < to && fd < end; fd++) /* Linux before 5.9 */
			close((int)fd);
	}
}
