#include "machine/resident.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/sandbox.h"

uint64_t resident_range(const void *start, size_t size)
{
	enum { CHUNK = 4096 };
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)start & -page, end = (uintptr_t)start + size;
	uint64_t bytes = 0;

	while (at < end) {
		unsigned char in[CHUNK];
		uintptr_t pages = (end - at + page - 1) / page;

		if (pages > CHUNK)
			pages = CHUNK;
		if (mincore((void *)at, pages * page, in) < 0)
			return 0;
		for (uintptr_t i = 0; i < pages; i++, at += page) {
			uintptr_t from = at < (uintptr_t)start ? (uintptr_t)start : at;
			uintptr_t to = at + page > end ? end : at + page;

			bytes += in[i] & 1 ? to - from : 0;
		}
	}
	return bytes;
}

/* The number behind `name` in a line of /proc, in bytes; *value is left alone if it is another line. */
static void take_kib(const char *line, const char *name, uint64_t *value)
{
	uint64_t kib;

	if (!strncmp(line, name, strlen(name)) && sscanf(line + strlen(name), " %" SCNu64 " kB", &kib) == 1)
		*value = kib << 10;
}

static FILE *open_file(const char *path)
{
	int fd = sandbox_open(path, O_RDONLY);
	FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

	if (fd >= 0 && !f)
		close(fd);
	return f;
}

bool resident_process(uint64_t *bytes, uint64_t *page_tables)
{
	FILE *smaps = open_file("/proc/self/smaps"), *status = open_file("/proc/self/status");
	char line[512];
	uint64_t rss = 0, pss = 0;
	bool shared = false, good = smaps && status;

	*bytes = *page_tables = 0;
	while (good && fgets(line, sizeof(line), smaps)) {
		char flags[8];

		/* "start-end rwxp ...": shared memory here is the process's own, and some of it mapped twice. Of the
		 * proportional size of such a page each mapping has its part. */
		if (sscanf(line, "%*x-%*x %7s", flags) == 1 && strlen(flags) == 4)
			shared = flags[3] == 's';
		take_kib(line, "Rss:", &rss);
		pss = 0;
		take_kib(line, "Pss:", &pss);
		if (!strncmp(line, "Pss:", 4))
			*bytes += shared ? pss : rss;
	}
	while (good && fgets(line, sizeof(line), status))
		take_kib(line, "VmPTE:", page_tables);
	if (smaps)
		fclose(smaps);
	if (status)
		fclose(status);
	return good && *bytes;
}
