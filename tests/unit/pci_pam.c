/* Programmable attribute map: what reads and writes of 0xc0000-0xfffff reach, for each of a segment's four states. */
#include "pci/pam.h"

#include "dev_fixture.h"
#include "mem/memory.h"

#define ROM_SIZE 0x40000u

static struct memory memory;
static struct pam pam;

/* As a vCPU does it: memory where there is some, else the bus. */
static uint8_t load(uint64_t gpa)
{
	uint8_t byte;
	uint64_t value;

	if (memory_read(&memory, gpa, &byte, 1) == 0)
		return byte;
	bus_read(&mmio, gpa, 1, &value);
	return (uint8_t)value;
}

static void store(uint64_t gpa, uint8_t byte)
{
	if (memory_write(&memory, gpa, &byte, 1) < 0)
		bus_write(&mmio, gpa, 1, byte);
}

enum { ROM = 0x11, RAM = 0x22, NOTHING = 0xff };

static void test_segment(unsigned n, unsigned shift, uint64_t first, uint64_t last, uint8_t behind)
{
	uint8_t other = (uint8_t)(pam_register(&pam, n) & ~(3u << shift));

	memory.base[first] = memory.base[last] = RAM;
	pam_write(&pam, n, other);
	CHECK(load(first) == behind && load(last) == behind);
	store(first, 0x33);
	pam_write(&pam, n, (uint8_t)(other | 2u << shift)); /* writes go to RAM, reads do not */
	CHECK(load(first) == behind);
	CHECK_EQ(memory.base[first], RAM);
	store(last, 0x44);
	CHECK(load(last) == behind && memory.base[last] == 0x44);
	CHECK(memory.state[last >> PAGE_SHIFT] & PAGE_DIRTY);
	pam_write(&pam, n, (uint8_t)(other | 1u << shift)); /* the other way round */
	CHECK(load(first) == RAM && load(last) == 0x44);
	store(first, 0x55);
	CHECK_EQ(load(first), RAM);
	pam_write(&pam, n, (uint8_t)(other | 3u << shift));
	store(first, 0x66);
	CHECK_EQ(load(first), 0x66);
	CHECK_EQ(pam_register(&pam, n), other | 3u << shift);
	CHECK_EQ(memory.base[first], 0x66);
}

int main(void)
{
	uint64_t rom;

	if (memory_init(&memory, 2 << 20) < 0 || pam_init(&pam, &memory, &mmio) < 0)
		return 1;
	for (unsigned n = 1; n < PAM_REGISTERS; n++)
		CHECK_EQ(pam_register(&pam, n), 0x33);
	CHECK_EQ(pam_register(&pam, 0), 0x30);
	CHECK_EQ(memory.maps, 0);
	CHECK_EQ(memory_add_block(&memory, ROM_SIZE, &rom), 0);
	memset(memory.base + rom + ROM_SIZE - 0x20000, ROM, 0x20000);
	pam_set_rom(&pam, rom, ROM_SIZE);
	CHECK_EQ(pam_register(&pam, 3), 0);
	for (unsigned n = 1; n < PAM_REGISTERS; n++) {
		uint64_t base = 0xc0000 + (n - 1) * 0x8000;

		test_segment(n, 0, base, base + 0x3fff, base < 0xe0000 ? NOTHING : ROM);
		test_segment(n, 4, base + 0x4000, base + 0x7fff, base < 0xe0000 ? NOTHING : ROM);
	}
	test_segment(0, 4, 0xf0000, 0xfffff, ROM);
	CHECK_EQ(memory.maps, 0);
	pam_write(&pam, 0, 0);
	CHECK_EQ(memory_offset(&memory, 0xffff0, 16), rom + ROM_SIZE - 16);
	CHECK(memory_hva(&memory, 0xeffff, 2) == NULL); /* RAM, then ROM */
	pam_write(&pam, 7, 0xff); /* no such register */
	memory_free(&memory);

	/* Little memory: RAM ends inside. */
	mmio.count = 0;
	if (memory_init(&memory, 0xd0000) < 0 || pam_init(&pam, &memory, &mmio) < 0)
		return 1;
	pam_write(&pam, 6, 0x11);
	pam_write(&pam, 0, 0x20);
	store(0xf0000, 1);
	CHECK_EQ(load(0xf0000), NOTHING);
	memory_free(&memory);
	return summary();
}
