/* What is resident: ranges touched in part, shared memory that is mapped twice, the whole process. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "machine/resident.h"

#define SIZE (64u << 20)

static uint64_t process(void)
{
	uint64_t bytes, tables;

	check_named("the process says", resident_process(&bytes, &tables) && bytes > 100 << 10 && tables > 4096);
	return bytes;
}

static bool about(uint64_t value, uint64_t wanted) { return value + (1 << 20) > wanted && value < wanted + (1 << 20); }

int main(void)
{
	uint64_t before = process();
	uint8_t *private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *again;

	if (private == MAP_FAILED || shared == MAP_FAILED || (again = mremap(shared, 0, SIZE, MREMAP_MAYMOVE)) == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	madvise(private, SIZE, MADV_NOHUGEPAGE);
	check_named("reserved is not resident", resident_range(private, SIZE) == 0 &&
		    resident_range(shared, SIZE) == 0);
	for (unsigned i = 0; i < 1000; i++)
		private[i * 8192] = 1;
	check_named("pages that were touched", resident_range(private, SIZE) == 1000 * 4096);
	check_named("a part of them", resident_range(private + 4096, 5 * 4096) == 2 * 4096);
	check_named("parts of pages", resident_range(private + 4000, 4196) == 96 + 4);
	check_named("an empty range", resident_range(private, 0) == 0);
	check_named("beyond a chunk", resident_range(private + 4096ul * 4095, 3 * 4096) == 4096 * (1000 * 2 > 4096));
	check_named("the process grew by as much", about(process(), before + 1000 * 4096));
	memset(shared, 1, 8 << 20);
	check_named("shared memory, by either mapping", resident_range(shared, SIZE) == 8 << 20 &&
		    resident_range(again, SIZE) == 8 << 20);
	memset(again, 1, 8 << 20);
	check_named("pages mapped twice count once", about(process(), before + 1000 * 4096 + (8 << 20)));
	munmap(private, SIZE);
	munmap(shared, SIZE);
	check_named("one mapping left", about(process(), before + (8 << 20)));
	munmap(again, SIZE);
	check_named("unmapped ranges have nothing", resident_range(again, SIZE) == 0);
	check_named("back to what it was", about(process(), before));
	return summary();
}
