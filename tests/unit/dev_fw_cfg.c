/* fw_cfg: selection, the data port, the directory, DMA with all its ways to fail. And what firmware is told by it: the
 * script of the ACPI tables, carried out as firmware does, and SMBIOS. */
#include "dev/fw_cfg.h"

#include "boot/acpi.h"
#include "boot/acpi_loader.h"
#include "boot/smbios.h"
#include "dev/pm.h"
#include "dev_fixture.h"
#include "mem/memory.h"

static struct memory memory;
static struct fw_cfg *f;

static void select_item(uint16_t key) { bus_write(&pio, FW_CFG_BASE, 2, key); }

static uint64_t next(unsigned bytes, bool big_endian)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++) {
		uint64_t byte = inb(FW_CFG_BASE + 1);

		value = big_endian ? value << 8 | byte : value | byte << 8 * i;
	}
	return value;
}

static void test_ports(void)
{
	CHECK_EQ(fw_cfg_add_integer(f, 5, 3, 2), 0);
	CHECK_EQ(fw_cfg_add_integer(f, 5, 3, 2), (uint64_t)-EEXIST);
	CHECK_EQ(fw_cfg_add_file(f, "etc/first", "hello", 5), 0);
	CHECK_EQ(fw_cfg_add_file(f, "etc/first", "hello", 5), (uint64_t)-EEXIST);
	CHECK_EQ(fw_cfg_add_integer_file(f, "etc/second", 0x1122334455667788, 8), 0);
	CHECK_EQ(fw_cfg_add_file(f, "a name that is longer than the fifty-five bytes there are for it", "", 0), (uint64_t)-EINVAL);
	CHECK_EQ(inb(FW_CFG_BASE + 1), 0); /* nothing is selected */
	select_item(FW_CFG_SIGNATURE);
	CHECK_EQ(next(4, true), 0x51454d55);
	CHECK_EQ(next(2, true), 0);
	select_item(FW_CFG_ID);
	CHECK_EQ(next(4, false), 3);
	select_item(0x4000 | FW_CFG_CPUS);
	CHECK_EQ(next(2, false), 3);
	select_item(0x1234);
	CHECK_EQ(next(4, true), 0);
	select_item(FW_CFG_DIRECTORY);
	CHECK_EQ(next(4, true), 2);
	for (unsigned file = 0; file < 2; file++) {
		static const char *const name[] = {"etc/first", "etc/second"};
		char text[56];

		CHECK_EQ(next(4, true), file ? 8 : 5);
		CHECK_EQ(next(2, true), FW_CFG_FILES + file);
		CHECK_EQ(next(2, true), 0);
		for (unsigned i = 0; i < sizeof text; i++)
			text[i] = (char)next(1, true);
		CHECK(strcmp(text, name[file]) == 0);
	}
	select_item(FW_CFG_FILES + 1);
	CHECK_EQ(next(8, false), 0x1122334455667788);
	bus_write(&pio, FW_CFG_BASE + 1, 1, 0x55); /* lost */
	select_item(FW_CFG_FILES + 1);
	CHECK_EQ(next(1, false), 0x88);
	CHECK_EQ(in(FW_CFG_BASE + 4, 4), 0x554d4551); /* "QEMU" */
	CHECK_EQ(in(FW_CFG_BASE + 8, 4), 0x47464320); /* " CFG" */
	CHECK_EQ(in(FW_CFG_BASE, 2), 0xffff);
}

enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

/* The control word afterwards. */
static uint32_t dma(uint64_t at, uint32_t control, uint32_t len, uint64_t address)
{
	struct { uint32_t control, len; uint64_t address; } a = {
		__builtin_bswap32(control), __builtin_bswap32(len), __builtin_bswap64(address)};
	uint32_t result = 0;

	memory_write(&memory, at, &a, sizeof a);
	bus_write(&pio, FW_CFG_BASE + 4, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	bus_write(&pio, FW_CFG_BASE + 8, 4, __builtin_bswap32((uint32_t)at));
	memory_read(&memory, at, &result, 4);
	return __builtin_bswap32(result);
}

static bool holds(uint64_t gpa, const char *bytes, size_t len)
{
	char got[32];

	return memory_read(&memory, gpa, got, len) == 0 && memcmp(got, bytes, len) == 0;
}

static void test_dma(void)
{
	memory_fill(&memory, 0x2000, 0xaa, 64);
	CHECK_EQ(dma(0x1000, FW_CFG_FILES << 16 | SELECT | READ, 3, 0x2000), 0);
	CHECK(holds(0x2000, "hel\xaa", 4));
	CHECK_EQ(dma(0x1000, READ, 4, 0x2000), 0); /* on from there, and zeros behind the end */
	CHECK(holds(0x2000, "lo\0\0\xaa", 5));
	CHECK_EQ(dma(0x1000, FW_CFG_FILES << 16 | SELECT | SKIP, 4, 0), 0);
	CHECK_EQ(dma(0x1000, READ, 1, 0x2000), 0);
	CHECK(holds(0x2000, "o", 1));
	CHECK_EQ(dma(0x1000, SKIP, UINT32_MAX, 0), 0);
	CHECK_EQ(dma(0x1000, READ, 1, 0x2000), 0);
	CHECK(holds(0x2000, "\0", 1));
	CHECK_EQ(dma(0x1000, 0x7777 << 16 | SELECT | READ, 2, 0x2004), 0); /* no such item: zeros */
	CHECK(holds(0x2004, "\0\0\xaa", 3));

	CHECK_EQ(dma(0x1000, FW_CFG_FILES << 16 | SELECT | READ, 5, memory.size - 4), ERROR);
	CHECK(holds(memory.size - 4, "\0\0\0\0", 4));
	CHECK_EQ(dma(0x1000, READ, UINT32_MAX, 0x2000), ERROR);
	CHECK_EQ(dma(0x1000, READ, 5, UINT64_MAX - 2), ERROR);
	CHECK_EQ(dma(0x1000, READ, 0, UINT64_MAX), 0);
	CHECK_EQ(dma(0x1000, WRITE, 5, 0x2000), ERROR);
	CHECK_EQ(dma(0x1000, FW_CFG_FILES << 16 | SELECT, 5, 0x2000), 0);
	CHECK_EQ(next(5, true), 0x68656c6c6f);
	dma(memory.size - 8, READ, 1, 0x2000); /* a descriptor that is not all there, and one that is nowhere */
	dma(UINT64_MAX, READ, 1, 0x2000);
	bus_write(&pio, FW_CFG_BASE + 8, 2, 0x1000); /* neither register is written in parts */
	bus_write(&pio, FW_CFG_BASE + 4, 1, 0x10);
}

/* ---- tables ---- */

#define TABLES_AT 0x100000ull
#define RSDP_AT 0xf0000ull

static uint64_t place(const char *file) { return strcmp(file, ACPI_RSDP_FILE) == 0 ? RSDP_AT : TABLES_AT; }

static uint64_t get(uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	CHECK_EQ(memory_read(&memory, gpa, &value, size), 0);
	return value;
}

static uint8_t sum(uint64_t gpa, uint64_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + get(gpa++, 1));
	return s;
}

/* As SeaBIOS and OVMF do it: checksum fields are 0 before. */
static void carry_out(const uint8_t *c, size_t size)
{
	for (; size >= 128; size -= 128, c += 128) {
		uint32_t what, offset, start, length;
		uint64_t value = 0;

		memcpy(&what, c, 4);
		switch (what) {
		case 1:
			CHECK(memcmp(c + 4, "etc/acpi/", 9) == 0);
			memcpy(&length, c + 60, 4);
			CHECK(length && !(length & (length - 1)) && (c[64] == 1 || c[64] == 2));
			break;
		case 2:
			memcpy(&offset, c + 116, 4);
			CHECK(c[120] == 4 || c[120] == 8);
			value = get(place((const char *)c + 4) + offset, c[120]) + place((const char *)c + 60);
			memory_write(&memory, place((const char *)c + 4) + offset, &value, c[120]);
			break;
		case 3:
			memcpy(&offset, c + 60, 4);
			memcpy(&start, c + 64, 4);
			memcpy(&length, c + 68, 4);
			CHECK_EQ(get(place((const char *)c + 4) + offset, 1), 0);
			value = (uint8_t)-sum(place((const char *)c + 4) + start, length);
			memory_write(&memory, place((const char *)c + 4) + offset, &value, 1);
			break;
		default:
			CHECK(!"a known command");
		}
	}
	CHECK_EQ(size, 0);
}

static void test_acpi(void)
{
	const struct acpi_config config = {.cpus = 3, .lapic_base = 0xfee00000, .ioapic_base = 0xfec00000, .serial = true,
		.pm_base = 0x600, .pm = &pm_piix4};
	struct acpi_files files;
	unsigned tables = 0;

	CHECK_EQ(acpi_files_make(&config, &files), 0);
	memory_write(&memory, TABLES_AT, files.tables, files.tables_size);
	memory_write(&memory, RSDP_AT, files.rsdp, sizeof files.rsdp);
	carry_out(files.script, files.script_size);
	CHECK(holds(RSDP_AT, "RSD PTR ", 8));
	CHECK_EQ(sum(RSDP_AT, 20), 0);
	CHECK_EQ(sum(RSDP_AT, 36), 0);
	uint64_t rsdt = get(RSDP_AT + 16, 4), xsdt = get(RSDP_AT + 24, 8), fadt = 0;
	CHECK(holds(rsdt, "RSDT", 4) && holds(xsdt, "XSDT", 4));
	CHECK_EQ(sum(rsdt, get(rsdt + 4, 4)), 0);
	CHECK_EQ(sum(xsdt, get(xsdt + 4, 4)), 0);
	for (; 36 + tables * 8 < get(xsdt + 4, 4); tables++) {
		uint64_t table = get(xsdt + 36 + tables * 8, 8);

		CHECK_EQ(get(rsdt + 36 + tables * 4, 4), table);
		CHECK(table > TABLES_AT && table < TABLES_AT + files.tables_size);
		CHECK_EQ(sum(table, get(table + 4, 4)), 0);
		if (holds(table, "FACP", 4))
			fadt = table;
	}
	CHECK(fadt && tables >= 2);
	uint64_t dsdt = get(fadt + 40, 4), facs = get(fadt + 36, 4);
	CHECK(holds(dsdt, "DSDT", 4) && holds(facs, "FACS", 4) && facs % 64 == 0);
	CHECK_EQ(get(fadt + 140, 8), dsdt);
	CHECK_EQ(sum(dsdt, get(dsdt + 4, 4)), 0);
	CHECK(!holds(TABLES_AT, "RSD", 3));
	acpi_files_free(&files);
}

static void test_smbios(void)
{
	const struct smbios_config config = {.product = "PC", .cpus = 2, .memory_low = 3ull << 30, .memory_high = 2ull << 30};
	static const uint8_t wanted[] = {1, 3, 4, 4, 16, 17, 19, 19, 32, 127};
	struct smbios s;
	unsigned count = 0, longest = 0;
	uint8_t total = 0, inner = 0;

	CHECK_EQ(smbios_make(&config, &s), 0);
	for (size_t at = 0; at < s.size; count++) {
		size_t end = at + s.tables[at + 1];

		CHECK(count < sizeof wanted && s.tables[at] == wanted[count]);
		if (s.tables[at] == 17)
			CHECK_EQ(s.tables[at + 12] | s.tables[at + 13] << 8, 5120);
		while (end + 1 < s.size && (s.tables[end] || s.tables[end + 1]))
			end++;
		end += 2;
		longest = end - at > longest ? (unsigned)(end - at) : longest;
		at = end;
		CHECK(at <= s.size);
	}
	CHECK_EQ(count, sizeof wanted);
	for (unsigned i = 0; i < SMBIOS_ANCHOR_SIZE; i++) {
		total = (uint8_t)(total + s.anchor[i]);
		inner = (uint8_t)(inner + (i >= 16 ? s.anchor[i] : 0));
	}
	CHECK(total == 0 && inner == 0);
	CHECK_EQ(s.anchor[22] | s.anchor[23] << 8, s.size);
	CHECK_EQ(s.anchor[28] | s.anchor[29] << 8, count);
	CHECK_EQ(s.anchor[8] | s.anchor[9] << 8, longest);
	free(s.tables);
}

int main(void)
{
	if (memory_init(&memory, 8 << 20) < 0 || !(f = fw_cfg_new(&pio, &memory)))
		return 1;
	CHECK(!fw_cfg_new(&pio, &memory) && errno == EEXIST);
	test_ports();
	test_dma();
	test_acpi();
	test_smbios();
	fw_cfg_free(f);
	memory_free(&memory);
	return summary();
}
