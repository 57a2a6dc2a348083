/*
 * ACPI tables as an operating system walks them: signatures, lengths, checksums, pointers, MADT entries,
 * the whole of the DSDT read back as text, AML lengths. With an argument: writes the tables there as files, for iasl.
 */
#include "boot/acpi.h"

#include <stdarg.h>

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
			} else { /* levels */
				CHECK_EQ(load(entry + 3, 1), overrides == 1 ? 9 : overrides == 2 ? 10 : 11);
				CHECK_EQ(load(entry + 4, 4), load(entry + 3, 1));
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
	CHECK_EQ(overrides, c->pci ? 4 : 2);
	CHECK_EQ(nmis, 1);
}

/* ---- the DSDT, read back ---- */

struct reader {
	uint64_t at, end;
	char text[32768];
	size_t len;
};

static void say(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(r->text + r->len, sizeof r->text - r->len, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof r->text - r->len)
		r->len += (size_t)n;
}

static uint64_t take(struct reader *r, unsigned bytes)
{
	uint64_t value = r->at + bytes <= r->end ? load(r->at, bytes) : 0;

	r->at += bytes;
	return value;
}

/* Where the term ends whose PkgLength comes next. */
static uint64_t package_end(struct reader *r)
{
	uint64_t start = r->at, lead = take(r, 1), len = lead >> 6 ? lead & 15 : lead & 63;

	for (unsigned i = 0; i < lead >> 6; i++)
		len |= take(r, 1) << (4 + 8 * i);
	return start + len;
}

static void read_name(struct reader *r)
{
	if (load(r->at, 1) == '\\')
		say(r, "%c", (int)take(r, 1));
	for (unsigned i = 0; i < 4; i++)
		say(r, "%c", (int)take(r, 1));
}

static void read_window(struct reader *r, unsigned bytes)
{
	static const char *const kinds[] = {"memory", "io", "bus"};
	static const uint8_t specific[] = {1, 3, 0};

	CHECK_EQ(take(r, 2), 3 + 5 * bytes);
	uint64_t kind = take(r, 1);
	CHECK(kind < 3);
	CHECK_EQ(take(r, 1), 0x0c);
	CHECK_EQ(take(r, 1), specific[kind % 3]);
	CHECK_EQ(take(r, bytes), 0);
	uint64_t first = take(r, bytes), last = take(r, bytes);
	CHECK_EQ(take(r, bytes), 0);
	CHECK_EQ(take(r, bytes), last - first + 1);
	say(r, " %s%u %llx-%llx", kinds[kind % 3], bytes * 8, (unsigned long long)first, (unsigned long long)last);
}

static void read_resources(struct reader *r, uint64_t end)
{
	CHECK_EQ(take(r, 1), 0x0b); /* the buffer's size, as a word */
	uint64_t size = take(r, 2);
	CHECK_EQ(r->at + size, end);
	while (r->at < end) {
		switch (take(r, 1)) {
		case 0x47: {
			CHECK_EQ(take(r, 1), 1); /* 16-bit decode */
			uint64_t low = take(r, 2), high = take(r, 2), align = take(r, 1);

			CHECK_EQ(low, high);
			CHECK_EQ(align, 1);
			say(r, " io %x+%x", (unsigned)low, (unsigned)take(r, 1));
			break;
		}
		case 0x86:
			CHECK_EQ(take(r, 2), 9);
			CHECK_EQ(take(r, 1), 1);
			say(r, " memory %llx+", (unsigned long long)take(r, 4));
			say(r, "%llx", (unsigned long long)take(r, 4));
			break;
		case 0x87:
			read_window(r, 4);
			break;
		case 0x88:
			read_window(r, 2);
			break;
		case 0x8a:
			read_window(r, 8);
			break;
		case 0x22:
			say(r, " irqs %x", (unsigned)take(r, 2));
			break;
		case 0x79:
			CHECK_EQ(take(r, 1), 0);
			CHECK_EQ(r->at, end);
			break;
		default:
			CHECK(false);
			r->at = end;
		}
	}
}

static void read_terms(struct reader *r, uint64_t end);

static void read_object(struct reader *r)
{
	uint64_t op = take(r, 1), end;

	switch (op) {
	case 0:
	case 1:
		say(r, " %u", (unsigned)op);
		break;
	case 0x0a:
		say(r, " %u", (unsigned)take(r, 1));
		break;
	case 0x0b:
		say(r, " %u", (unsigned)take(r, 2));
		break;
	case 0x0c: /* _HID: an EISA ID; _PRT: a slot */
		say(r, " %08x", (unsigned)__builtin_bswap32((uint32_t)take(r, 4)));
		break;
	case 0x0d:
		say(r, " ");
		for (char c; (c = (char)take(r, 1)) != 0;)
			say(r, "%c", c);
		break;
	case 0x11:
		end = package_end(r);
		read_resources(r, end);
		break;
	case 0x12:
		end = package_end(r);
		say(r, " package of %u:", (unsigned)take(r, 1));
		while (r->at < end)
			read_object(r);
		CHECK_EQ(r->at, end);
		break;
	default:
		CHECK(false);
		r->at = r->end;
	}
}

static void read_terms(struct reader *r, uint64_t end)
{
	while (r->at < end) {
		uint64_t op = take(r, 1);

		if (op == 0x08) {
			read_name(r);
			read_object(r);
			say(r, "; ");
		} else if (op == 0x10 || (op == 0x5b && take(r, 1) == 0x82)) {
			uint64_t inner = package_end(r);

			CHECK(inner <= end);
			read_name(r);
			say(r, " {");
			read_terms(r, inner);
			say(r, "}\n");
		} else if (op == 0x14 || op == 0xa0) { /* a method, an If */
			uint64_t inner = package_end(r);

			say(r, op == 0x14 ? "method " : "if ");
			read_name(r);
			if (op == 0x14)
				say(r, " %u", (unsigned)take(r, 1));
			say(r, " {");
			read_terms(r, inner);
			say(r, "}\n");
		} else if (op == 0x70) {
			say(r, "store arg%u ", (unsigned)take(r, 1) - 0x68);
			read_name(r);
			say(r, "; ");
		} else if (op == 0xa4) {
			say(r, "return ");
			read_name(r);
			say(r, "; ");
		} else {
			CHECK(false);
			return;
		}
	}
	CHECK_EQ(r->at, end);
}

static unsigned test_gsi(unsigned slot, unsigned pin) { return 300 + slot * 4 + pin; }

static const struct acpi_pci pci = {
	.low_first = 0x80000000, .low_last = 0xfebfffff, .high_first = 1ull << 32, .high_last = (9ull << 32) - 1,
	.io_first = 0xd00, .isa_slot = 1, .gsi = test_gsi,
};

static unsigned test_irq(unsigned slot, unsigned pin) { return 600 + slot * 4 + pin; }

static const struct acpi_pci express = {
	.low_first = 0xc0000000, .low_last = 0xfebfffff, .io_first = 0xd00, .ecam = 0xb0000000, .isa_slot = 31,
	.gsi = test_gsi, .pic_irq = test_irq,
};

static void expect_routes(struct reader *want, const char *name, unsigned first)
{
	say(want, "%s package of 124:", name);
	for (unsigned slot = 1; slot < 32; slot++)
		for (unsigned pin = 0; pin < 4; pin++)
			say(want, " package of 4: %08x %u 0 %u", __builtin_bswap32(slot << 16 | 0xffff), pin,
			    first + slot * 4 + pin);
	say(want, "; ");
}

static void expect_pci(struct reader *want, const struct acpi_config *c)
{
	bool q35 = c->pci->ecam;

	say(want, "PCI0 {_HID 41d00a0%u; %s_UID 0; _CRS bus16 0-ff io cf8+8 io16 0-cf7 io16 d00-ffff", q35 ? 8 : 3,
	    q35 ? "_CID 41d00a03; " : "");
	say(want, " memory32 a0000-bffff memory32 %x-febfffff", q35 ? 0xc0000000 : 0x80000000);
	say(want, "%s; ", q35 ? "" : " memory64 100000000-8ffffffff");
	if (q35) {
		expect_routes(want, "PRTP", 600);
		expect_routes(want, "PRTA", 300);
		say(want, "method _PRT 0 {if \\PICF {return PRTA; }\nreturn PRTP; }\n");
	} else {
		expect_routes(want, "_PRT", 300);
	}
	say(want, "ISA_ {_ADR %s; ", q35 ? "00001f00" : "00000100");
}

static void check_dsdt(uint64_t gpa, uint64_t len, const struct acpi_config *c)
{
	static struct reader r, want;

	r = (struct reader){.at = gpa + 36, .end = gpa + len};
	want.len = 0;
	read_terms(&r, r.end);
	if (c->pci && c->pci->pic_irq)
		say(&want, "\\PICF 0; method \\_PIC 1 {store arg0 \\PICF; }\n");
	say(&want, "\\_SB_ {");
	for (unsigned i = 0; i < c->cpus; i++)
		say(&want, "C%03X {_HID ACPI0007; _UID %u; }\n", i, i);
	if (c->pci)
		expect_pci(&want, c);
	/* PNP is 41d0. Lines 2, 0, 8, 1, 4 as bits. */
	say(&want, "PIC_ {_HID 41d00000; _CRS io 20+2 io a0+2 io 4d0+2 irqs 4; }\n");
	say(&want, "TIMR {_HID 41d00100; _CRS io 40+4 irqs 1; }\n");
	say(&want, "RTC_ {_HID 41d00b00; _CRS io 70+2 irqs 100; }\n");
	say(&want, "KBD_ {_HID 41d00303; _CRS io 60+1 io 64+1 irqs 2; }\n");
	if (c->serial & 1)
		say(&want, "COM1 {_HID 41d00501; _UID 1; _CRS io 3f8+8 irqs 10; }\n");
	if (c->serial & 2)
		say(&want, "COM2 {_HID 41d00501; _UID 2; _CRS io 2f8+8 irqs 8; }\n");
	if (c->serial & 4)
		say(&want, "COM3 {_HID 41d00501; _UID 3; _CRS io 3e8+8 irqs 10; }\n");
	if (c->serial & 8)
		say(&want, "COM4 {_HID 41d00501; _UID 4; _CRS io 2e8+8 irqs 8; }\n");
	if (c->pvpanic)
		say(&want, "PEVT {_HID QEMU0001; _CRS io 505+1; }\n");
	say(&want, "MBRD {_HID 41d00c02; _CRS io 61+1 io 92+1 io 600+40%s%s; }\n}\n", c->pci ? "" : " io cf9+1",
	    c->pci && c->pci->ecam ? " memory b0000000+10000000" : "");
	if (c->pci)
		say(&want, "}\n}\n");
	if (c->hpet) {
		CHECK(want.text[want.len - 2] == '}');
		want.len -= 2;
		say(&want, "HPET {_HID 41d00103; _UID 0; _CRS memory fed00000+400; }\n}\n");
	}
	say(&want, "\\_S5_ package of 4: 5 5 0 0; ");
	CHECK(r.len == want.len && !memcmp(r.text, want.text, r.len));
	if (r.len != want.len || memcmp(r.text, want.text, r.len))
		printf("# %s\n# is not\n# %s\n", r.text, want.text);
}

/* A generic address structure: a port. */
static void check_port(uint64_t gpa, uint16_t port, unsigned bits, unsigned access)
{
	CHECK_EQ(load(gpa, 4), 1 | bits << 8 | access << 24);
	CHECK_EQ(load(gpa + 4, 8), port);
}

#define EVENT (PM_BASE + PM1A_EVT)
#define CONTROL (PM_BASE + PM1A_CNT)
#define TIMER (PM_BASE + PM_TMR)
#define GPE0 (PM_BASE + 0x0c)

static void check_fadt(uint64_t gpa, uint64_t len, uint64_t base, uint64_t end, const struct acpi_config *c)
{
	uint64_t facs = load(gpa + 36, 4), dsdt = load(gpa + 40, 4);

	CHECK_EQ(len, 268);
	CHECK_EQ(load(gpa + 8, 1), 5);
	CHECK(is(facs, "FACS"));
	CHECK_EQ(facs % 64, 0);
	CHECK_EQ(load(facs + 4, 4), 64);
	CHECK_EQ(load(gpa + 140, 8), dsdt);
	CHECK_EQ(load(gpa + 46, 2), 9);
	CHECK_EQ(load(gpa + 56, 4), EVENT);
	CHECK_EQ(load(gpa + 64, 4), CONTROL);
	CHECK_EQ(load(gpa + 76, 4), TIMER);
	CHECK_EQ(load(gpa + 80, 4), GPE0);
	CHECK_EQ(load(gpa + 88, 4), 0x00040002u << 8 | 4); /* lengths: event, control, PM2, timer */
	CHECK_EQ(load(gpa + 92, 4), 4);                      /* GPE0, GPE1; its base; no C states by SMI */
	CHECK_EQ(load(gpa + 108, 1), 0x32);
	CHECK_EQ(load(gpa + 109, 2), 7);
	CHECK_EQ(load(gpa + 112, 4), 0x565); /* WBINVD, C1, no sleep button, no RTC bit, 32-bit timer, reset */
	CHECK_EQ(load(gpa + 48, 4), 0);      /* no SMI port: always in ACPI mode */
	check_port(gpa + 116, RESET_PORT, 8, 1);
	CHECK_EQ(load(gpa + 128, 1), RESET_VALUE);
	check_port(gpa + 148, EVENT, 32, 2);
	check_port(gpa + 172, CONTROL, 16, 2);
	check_port(gpa + 208, TIMER, 32, 3);
	check_port(gpa + 220, GPE0, 32, 1);
	CHECK_EQ(load(gpa + 160, 8) | load(gpa + 184, 8) | load(gpa + 196, 8) | load(gpa + 232, 8), 0);
	check_dsdt(dsdt, check_table(dsdt, "DSDT", base, end), c);
}

static void check_tables(const struct acpi_config *c, uint64_t gpa, uint64_t size)
{
	uint64_t rsdp = 0, end = gpa + size;
	static const char *const expected[] = {"FACP", "APIC", "MCFG", "HPET"};
	unsigned count = (c->pci && c->pci->ecam ? 3 : 2) + c->hpet;

	CHECK_EQ(acpi_build(&memory, gpa, size, c, &rsdp), 0);
	CHECK_EQ(rsdp, gpa);
	CHECK(is(rsdp, "RSD PTR "));
	CHECK_EQ(sum(rsdp, 20), 0);
	CHECK_EQ(sum(rsdp, 36), 0);
	CHECK_EQ(load(rsdp + 15, 1), 2);
	CHECK_EQ(load(rsdp + 20, 4), 36);
	uint64_t rsdt = load(rsdp + 16, 4), xsdt = load(rsdp + 24, 8);
	CHECK_EQ(check_table(rsdt, "RSDT", gpa, end), 36 + count * 4);
	CHECK_EQ(check_table(xsdt, "XSDT", gpa, end), 36 + count * 8);
	for (unsigned i = 0; i < count; i++) {
		uint64_t table = load(xsdt + 36 + 8 * i, 8);

		CHECK_EQ(load(rsdt + 36 + 4 * i, 4), table);
		uint64_t len = check_table(table, expected[i], gpa, end);
		if (i == 0)
			check_fadt(table, len, gpa, end, c);
		else if (i == 3)
			CHECK(load(table + 36, 4) == 0x8086a201 && load(table + 44, 8) == 0xfed00000 && len == 56);
		else if (i == 2)
			CHECK(load(table + 44, 8) == c->pci->ecam && load(table + 52, 4) == 0xff000000 && len == 60);
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
	/* Every length around where one more byte is needed */
	static char text[5001];
	static uint8_t big[8192];
	memset(text, 'x', 5000);
	for (size_t n = 0; n <= 5000; n += n > 70 && n < 4050 ? 67 : 1) {
		struct reader r = {0};

		aml_init(&a, big, sizeof big);
		aml_package_begin(&a, 1);
		aml_string(&a, text + 5000 - n);
		aml_end(&a);
		CHECK(!a.failed);
		memory_write(&memory, 0x1000, big, a.len);
		r.at = 0x1001;
		r.end = 0x1000 + a.len;
		CHECK_EQ(package_end(&r), r.end);
		CHECK_EQ(r.at, r.end - n - 3); /* no longer than need be: elements, string, its end */
		CHECK_EQ(r.at - 0x1001, n + 3 < 63 ? 1 : n + 3 < 4094 ? 2 : 3);
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
		.cpus = 1, .lapic_base = 0xfee00000, .ioapic_base = 0xfec00000, .ioapic_id = 1, .serial = 1,
		.pm_base = PM_BASE, .pm = &pm_piix4};

	dump_to = argc > 1 ? argv[1] : NULL;
	if (memory_init(&memory, 2 << 20) < 0)
		return 1;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	c.pci = &pci;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	c.pci = &express;
	c.hpet = c.pvpanic = true;
	c.serial = 0xf;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	dump_to = NULL;
	c.hpet = c.pvpanic = false;
	c.cpus = 64;
	c.serial = 0;
	check_tables(&c, ACPI_BASE, ACPI_SIZE);
	c.cpus = 255;
	check_tables(&c, 0x80000, 0x20000);
	c.pci = NULL;
	bad_arguments(&c);
	aml_encoding();
	memory_free(&memory);
	return summary();
}
