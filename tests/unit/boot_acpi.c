/*
 * ACPI tables as an operating system walks them: signatures, lengths, checksums, pointers, MADT entries,
 * AML lengths. With an argument: writes the tables there as files, for iasl.
 */
#include "boot/acpi.h"

#include "boot/aml.h"
#include "dev/pm.h"
#include "dev/reset.h"
#include "dev_fixture.h"
#include "mem/memory.h"

static struct memory memory;
static const char *dump_to;

static uint64_t load(uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	CHECK_EQ(memory_read(&memory, gpa, &value, size), 0);
	return value;
}

static uint8_t sum(uint64_t gpa, uint64_t len)
{
	uint8_t s = 0;

	for (uint64_t i = 0; i < len; i++)
		s += (uint8_t)load(gpa + i, 1);
	return s;
}

static bool is(uint64_t gpa, const char *signature)
{
	char s[9] = {0};

	memory_read(&memory, gpa, s, strlen(signature));
	return !strcmp(s, signature);
}

static void dump(uint64_t gpa, uint64_t len)
{
	char path[512], name[5] = {0};

	if (!dump_to)
		return;
	memory_read(&memory, gpa, name, 4);
	snprintf(path, sizeof path, "%s/%s.dat", dump_to, name);
	FILE *f = fopen(path, "wb");
	if (!f)
		return;
	for (uint64_t i = 0; i < len; i++)
		fputc((int)load(gpa + i, 1), f);
	fclose(f);
}

/* A table that begins at gpa, inside [base, end): its length. */
static uint64_t check_table(uint64_t gpa, const char *signature, uint64_t base, uint64_t end)
{
	uint64_t len = load(gpa + 4, 4);

	CHECK(is(gpa, signature));
	CHECK(gpa >= base && gpa + len <= end && len >= 36);
	if (len > end - gpa)
		return 36;
	CHECK_EQ(sum(gpa, len), 0);
	dump(gpa, len);
	return len;
}

static void check_madt(uint64_t gpa, uint64_t len, const struct acpi_config *c)
{
	unsigned lapics = 0, ioapics = 0, overrides = 0, nmis = 0;
	uint64_t at = 44;

	CHECK_EQ(load(gpa + 36, 4), c->lapic_base);
	CHECK_EQ(load(gpa + 40, 4), 1);
	while (at + 2 <= len) {
		uint64_t entry = gpa + at, type = load(entry, 1), size = load(entry + 1, 1);

		switch (type) {
		case 0:
			CHECK_EQ(size, 8);
			CHECK_EQ(load(entry + 2, 1), lapics);
			CHECK_EQ(load(entry + 3, 1), lapics);
			CHECK_EQ(load(entry + 4, 4), 1);
			lapics++;
			break;
		case 1:
			CHECK_EQ(size, 12);
			CHECK_EQ(load(entry + 2, 1), c->ioapic_id);
			CHECK_EQ(load(entry + 4, 4), c->ioapic_base);
			CHECK_EQ(load(entry + 8, 4), 0);
			ioapics++;
			break;
		case 2:
			CHECK_EQ(size, 10);
			if (load(entry + 3, 1) == 0) {
				CHECK_EQ(load(entry + 4, 4), 2);
				CHECK_EQ(load(entry + 8, 2), 0);
			} else {
				CHECK_EQ(load(entry + 3, 1), 9);
				CHECK_EQ(load(entry + 4, 4), 9);
				CHECK_EQ(load(entry + 8, 2), 0xd);
			}
			overrides++;
			break;
		case 4:
			CHECK_EQ(size, 6);
			nmis++;
			break;
		default:
			CHECK(false);
		}
		if (!size)
			break;
		at += size;
	}
	CHECK_EQ(at, len);
	CHECK_EQ(lapics, c->cpus);
	CHECK_EQ(ioapics, 1);
	CHECK_EQ(overrides, 2);
	CHECK_EQ(nmis, 1);
}

static void check_fadt(uint64_t gpa, uint64_t len, uint64_t base, uint64_t end)
{
	uint64_t facs = load(gpa + 36, 4), dsdt = load(gpa + 40, 4);

	CHECK_EQ(len, 268);
	CHECK_EQ(load(gpa + 8, 1), 5);
	CHECK(is(facs, "FACS"));
	CHECK_EQ(facs % 64, 0);
	CHECK_EQ(load(facs + 4, 4), 64);
	CHECK_EQ(load(gpa + 140, 8), dsdt);
	CHECK_EQ(load(gpa + 46, 2), 9);
	CHECK_EQ(load(gpa + 56, 4), PM1A_EVT);
	CHECK_EQ(load(gpa + 64, 4), PM1A_CNT);
	CHECK_EQ(load(gpa + 76, 4), PM_TMR);
	CHECK_EQ(load(gpa + 80, 4), PM_GPE0);
	CHECK_EQ(load(gpa + 88, 1), 4);
	CHECK_EQ(load(gpa + 108, 1), 0x32);
	CHECK_EQ(load(gpa + 109, 2), 7);
	CHECK(load(gpa + 112, 4) & 1 << 10);
	CHECK_EQ(load(gpa + 116 + 4, 8), RESET_PORT);
	CHECK_EQ(load(gpa + 128, 1), RESET_VALUE);
	CHECK_EQ(load(gpa + 148 + 4, 8), PM1A_EVT);
	check_table(dsdt, "DSDT", base, end);
}

static void check_tables(const struct acpi_config *c, uint64_t gpa, uint64_t size)
{
	uint64_t rsdp = 0, end = gpa + size;
	static const char *const expected[] = {"FACP", "APIC"};

	CHECK_EQ(acpi_build(&memory, gpa, size, c, &rsdp), 0);
	CHECK_EQ(rsdp, gpa);
	CHECK(is(rsdp, "RSD PTR "));
	CHECK_EQ(sum(rsdp, 20), 0);
	CHECK_EQ(sum(rsdp, 36), 0);
	CHECK_EQ(load(rsdp + 15, 1), 2);
	CHECK_EQ(load(rsdp + 20, 4), 36);
	uint64_t rsdt = load(rsdp + 16, 4), xsdt = load(rsdp + 24, 8);
	CHECK_EQ(check_table(rsdt, "RSDT", gpa, end), 36 + 2 * 4);
	CHECK_EQ(check_table(xsdt, "XSDT", gpa, end), 36 + 2 * 8);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t table = load(xsdt + 36 + 8 * i, 8);

		CHECK_EQ(load(rsdt + 36 + 4 * i, 4), table);
		uint64_t len = check_table(table, expected[i], gpa, end);
		if (i == 0)
			check_fadt(table, len, gpa, end);
		else
			check_madt(table, len, c);
	}
}

static void bad_arguments(const struct acpi_config *c)
{
	struct acpi_config none = *c, many = *c;
	uint64_t rsdp;

	none.cpus = 0;
	many.cpus = 256;
	CHECK_EQ(acpi_build(&memory, ACPI_BASE, ACPI_SIZE, &none, &rsdp), -EINVAL);
	CHECK_EQ(acpi_build(&memory, ACPI_BASE, ACPI_SIZE, &many, &rsdp), -EINVAL);
	CHECK_EQ(acpi_build(&memory, ACPI_BASE + 16, ACPI_SIZE, c, &rsdp), -EINVAL);
	CHECK_EQ(acpi_build(&memory, 1ull << 32, ACPI_SIZE, c, &rsdp), -EINVAL);
	for (uint64_t size = 0; size < 1024; size += 64)
		CHECK_EQ(acpi_build(&memory, ACPI_BASE, size, c, &rsdp), -ENOSPC);
	CHECK_EQ(acpi_build(&memory, 2 << 20, ACPI_SIZE, c, &rsdp), -EFAULT);
}

static void aml_encoding(void)
{
	uint8_t b[8192];
	struct aml a;

	aml_init(&a, b, sizeof b);
	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 2);
	aml_integer(&a, 0x100);
	aml_integer(&a, 0x10000);
	aml_integer(&a, 1ull << 32);
	CHECK(!memcmp(b, "\x00\x01\x0a\x02\x0b\x00\x01\x0c\x00\x00\x01\x00\x0e\x00\x00\x00\x00\x01\x00\x00\x00", 21));
	CHECK_EQ(a.len, 21);
	aml_init(&a, b, sizeof b);
	aml_eisa_id(&a, "PNP0A03");
	CHECK(!memcmp(b, "\x0c\x41\xd0\x0a\x03", 5));
	/* PkgLength of one, two, three bytes */
	static const struct { unsigned strings; const char *start; size_t len; } row[] = {
		{1, "\x12\x37", 1 + 55}, {2, "\x12\x4d\x06", 1 + 109}, {80, "\x12\x84\x0e\x01", 1 + 4324}};
	for (unsigned i = 0; i < 3; i++) {
		aml_init(&a, b, sizeof b);
		aml_package_begin(&a, (uint8_t)row[i].strings);
		for (unsigned j = 0; j < row[i].strings; j++)
			aml_string(&a, "0123456789012345678901234567890123456789012345678901");
		aml_end(&a);
		size_t bytes = i + 1, len = bytes == 1 ? b[1] : (b[1] & 15) | b[2] << 4 | (bytes > 2 ? b[3] << 12 : 0);

		CHECK(!a.failed);
		CHECK_EQ(b[1] >> 6, i);
		CHECK_EQ(len, a.len - 1);
	}
	/* Overflow, wrong nesting, wrong names: failed, and not a byte too many. */
	memset(b, 0xee, sizeof b);
	for (size_t size = 0; size < 40; size++) {
		aml_init(&a, b, size);
		aml_scope_begin(&a, "\\_SB");
		aml_name(&a, "_S5");
		aml_string(&a, "some text of a kind");
		aml_end(&a);
		CHECK_EQ(a.failed, size < 33);
		CHECK_EQ(b[size], 0xee);
		memset(b, 0xee, size);
	}
	aml_init(&a, b, sizeof b);
	aml_end(&a);
	CHECK(a.failed);
	aml_init(&a, b, sizeof b);
	for (unsigned i = 0; i < 20; i++)
		aml_package_begin(&a, 1);
	CHECK(a.failed);
	aml_init(&a, b, sizeof b);
	aml_name(&a, "LONGNAME");
	CHECK(a.failed);
}

int main(int argc, char **argv)
{
	struct acpi_config c = {
		.cpus = 1, .lapic_base = 0xfee00000, .ioapic_base = 0xfec00000, .ioapic_id = 1, .serial = true};

	dump_to = argc > 1 ? argv[1] : NULL;
	if (memory_init(&memory, 2 << 20) < 0)
		return 1;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	dump_to = NULL;
	c.cpus = 64;
	c.serial = false;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	c.cpus = 255;
	check_tables(&c, 0x80000, 0x20000);
	bad_arguments(&c);
	aml_encoding();
	memory_free(&memory);
	return summary();
}
