/* Pages of large tables; see pages.h. Compiled with -mgeneral-regs-only. */
#include "util/pages.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

struct whole {
	uintptr_t first, last; /* the pages in between are whole */
};

static struct whole whole(const void *start, size_t size)
{
	uintptr_t at = (uintptr_t)start;

	return (struct whole){ (at + PAGE - 1) & -(uintptr_t)PAGE, (at + size) & -(uintptr_t)PAGE };
}

bool pages_release(void *start, size_t size)
{
	struct whole w = whole(start, size);

	return w.first < w.last && madvise((void *)w.first, w.last - w.first, MADV_DONTNEED) == 0;
}

void pages_make_fresh(void *start, size_t size)
{
	struct whole w = whole(start, size);

	if (!pages_release(start, size)) {
		memset(start, 0, size);
		return;
	}
	madvise((void *)w.first, w.last - w.first, MADV_NOHUGEPAGE); /* a kernel without large pages says no */
	memset(start, 0, w.first - (uintptr_t)start);
	memset((void *)w.last, 0, (uintptr_t)start + size - w.last);
}
