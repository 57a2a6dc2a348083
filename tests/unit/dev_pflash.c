/* The flash chip: reads through the mapping, every command and every way to break its sequence, what is told to the file. */
#include "dev/pflash.h"

#include "dev_fixture.h"
#include "mem/memory.h"

#define GPA 0xffc00000ull
#define SIZE 0x84000u

static struct memory memory;
static uint64_t offset, told_at, told_len;
static unsigned told;

static void written(void *opaque, uint64_t at, uint64_t len)
{
	(void)opaque;
	told++;
	told_at = at;
	told_len = len;
}

/* As a vCPU does it. */
static uint8_t load(uint64_t at)
{
	uint8_t byte;
	uint64_t value;

	if (memory_read(&memory, GPA + at, &byte, 1) == 0)
		return byte;
	bus_read(&mmio, GPA + at, 1, &value);
	return (uint8_t)value;
}

static void store(uint64_t at, uint8_t byte)
{
	CHECK(memory_write(&memory, GPA + at, &byte, 1) < 0);
	bus_write(&mmio, GPA + at, 1, byte);
}

static bool mapped(void) { return memory_offset(&memory, GPA, SIZE) == offset; }

static void test_detection(void) /* as OVMF does it */
{
	CHECK(mapped());
	store(0x100, 0x50);
	CHECK_EQ(load(0x100), 0x5a);
	store(0x100, 0x70);
	CHECK_EQ(load(0x100), 0);
	CHECK(!mapped());
	store(0x100, 0xff);
	CHECK(mapped() && load(0x100) == 0x5a && told == 0);
}

static void test_program(void)
{
	store(0x200, 0x10);
	store(0x200, 0xf0);
	CHECK_EQ(load(0x200), 0x80); /* status: ready */
	store(0x201, 0x40);
	store(0x201, 0x0f);
	CHECK_EQ(told, 0);
	store(0x201, 0xff);
	CHECK(told == 1 && told_at == 0x200 && told_len == 2);
	store(0x208, 0x10); /* not where the last one ended: two changes, in this order */
	store(0x208, 0xff);
	store(0x206, 0x10);
	store(0x206, 0xff);
	CHECK(told == 2 && told_at == 0x208 && told_len == 1);
	store(0x206, 0xff);
	CHECK(told == 3 && told_at == 0x206 && told_len == 1);
	CHECK(load(0x200) == (0x5a & 0xf0) && load(0x201) == (0x5a & 0x0f));
	store(0x200, 0x10); /* no zero becomes a one */
	store(0x200, 0xff);
	store(0x200, 0xff);
	CHECK_EQ(load(0x200), 0x50);
	CHECK(memory.state[(offset + 0x200) >> PAGE_SHIFT] & PAGE_DIRTY);
}

static void test_erase(void)
{
	store(0x2345, 0x20);
	store(0x2345, 0xd0);
	CHECK_EQ(load(0), 0x80);
	store(0, 0xff);
	CHECK(load(0x1fff) == 0x5a && load(0x2000) == 0xff && load(0x2fff) == 0xff && load(0x3000) == 0x5a);
	CHECK(told_at == 0x2000 && told_len == PFLASH_SECTOR);
	store(0x3000, 0x20);
	store(0x3000, 0x10); /* not confirmed */
	CHECK_EQ(load(0), 0xb0);
	store(0, 0x50);
	store(0, 0x70);
	CHECK_EQ(load(0), 0);
	store(0, 0xff);
	CHECK_EQ(load(0x3000), 0x5a);
}

static void test_buffer(void)
{
	store(0x2010, 0xe8);
	CHECK_EQ(load(0), 0x80);
	store(0x2010, 2); /* three bytes */
	store(0x2010, 0x11);
	store(0x2012, 0x22);
	store(0x2011, 0x33);
	CHECK_EQ(memory.base[offset + 0x2010], 0xff);
	store(0x2010, 0xd0);
	store(0, 0xff);
	CHECK(load(0x2010) == 0x11 && load(0x2011) == 0x33 && load(0x2012) == 0x22 && load(0x2013) == 0xff);
	CHECK(told_at == 0x2010 && told_len == 3);
	static const uint16_t bad[][4] = {{0xe8, 64, 0, 0}, {0xe8, 0, 0x100, 0}, {0xe8, 0, 0, 0x10}};
	for (unsigned i = 0; i < 3; i++) {
		store(0, 0x50);
		store(0x2040, (uint8_t)bad[i][0]);
		store(0x2040, (uint8_t)bad[i][1]);
		if (i > 0)
			store(0x2040u + bad[i][2], 0);
		if (i > 1)
			store(0x2040, (uint8_t)bad[i][3]);
		CHECK_EQ(load(0), 0xb0);
		store(0, 0xff);
	}
	CHECK_EQ(load(0x2040), 0xff);
	store(0, 0x50);
}

static void test_identity(void)
{
	store(0x55, 0x98);
	CHECK(load(0x10) == 'Q' && load(0x11) == 'R' && load(0x12) == 'Y' && load(0x13) == 1);
	CHECK_EQ(load(0x27), 19);
	CHECK_EQ((load(0x2d) | load(0x2e) << 8) + 1, SIZE / PFLASH_SECTOR);
	CHECK_EQ((load(0x2f) | load(0x30) << 8) * 256, PFLASH_SECTOR);
	CHECK(load(0x31) == 'P' && load(0xff) == 0);
	store(0, 0x90);
	CHECK(load(0) == 0x89 && load(1) == 0x18 && load(2) == 0);
	store(0, 0x60);
	store(0, 0x01);
	CHECK_EQ(load(0), 0x80);
	store(0, 0x60);
	store(0, 0x02);
	CHECK_EQ(load(0), 0xb0);
	store(0, 0x12); /* no command */
	CHECK(mapped());
}

int main(void)
{
	struct pflash *f;

	if (memory_init(&memory, 1 << 20) < 0 || memory_add_block(&memory, SIZE, &offset) < 0)
		return 1;
	memset(memory.base + offset, 0x5a, SIZE);
	const struct pflash_config config = {
		.memory = &memory, .mmio = &mmio, .gpa = GPA, .offset = offset, .size = SIZE, .written = written};
	if (!(f = pflash_new(&config)))
		return 1;
	CHECK(!pflash_new(&config) && errno == EEXIST);
	test_detection();
	test_program();
	test_erase();
	test_buffer();
	test_identity();
	told = 0;
	store(7, 0x10);
	store(7, 0);
	pflash_free(f); /* what was not told yet is told */
	CHECK(told == 1 && told_at == 7 && told_len == 1);
	memory_free(&memory);
	return summary();
}
