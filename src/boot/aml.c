/*
 * AML writer. See aml.h. Called while the machine is built; keeps no state but struct aml.
 */
#include "boot/aml.h"

#include <string.h>

#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define PREFIX_BYTE 0x0a
#define PREFIX_WORD 0x0b
#define PREFIX_DWORD 0x0c
#define PREFIX_STRING 0x0d
#define PREFIX_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_ARG0 0x68
#define OP_STORE 0x70
#define OP_IF 0xa0
#define OP_RETURN 0xa4
#define OP_EXT 0x5b
#define OP_EXT_DEVICE 0x82
#define SEGMENT_LEN 4

#define RESOURCE_IO 0x47        /* small descriptor 8, 7 bytes follow */
#define RESOURCE_IO_DECODE16 0x01
#define RESOURCE_IRQ 0x22       /* small descriptor 4, 2 bytes follow: edge, active high, exclusive */
#define RESOURCE_MEMORY32_FIXED 0x86
#define RESOURCE_MEMORY_WRITABLE 0x01
#define RESOURCE_WINDOW16 0x88
#define RESOURCE_WINDOW32 0x87
#define RESOURCE_WINDOW64 0x8a
#define RESOURCE_WINDOW_FIXED 0x0c /* both ends; the bridge produces it, and decodes positively */
#define RESOURCE_WINDOW_IO_ALL 0x03 /* ISA addresses and others */
#define RESOURCE_END 0x79       /* end tag, with a checksum byte; 0 = not checked */
#define RESOURCES_SIZE_BYTES 2  /* a buffer's size is written as a word, to be filled in */

void aml_init(struct aml *a, void *buffer, size_t size)
{
	*a = (struct aml){.buffer = buffer, .size = size};
}

static void put(struct aml *a, uint64_t value, unsigned bytes)
{
	if (a->failed || a->size - a->len < bytes) {
		a->failed = true;
		return;
	}
	memcpy(a->buffer + a->len, &value, bytes);
	a->len += bytes;
}

/* ---- names ---- */

static void put_name(struct aml *a, const char *name)
{
	if (*name == '\\') {
		put(a, '\\', 1);
		name++;
	}
	size_t len = strlen(name);
	if (len > SEGMENT_LEN)
		a->failed = true;
	for (size_t i = 0; i < SEGMENT_LEN; i++)
		put(a, i < len ? (uint8_t)name[i] : '_', 1);
}

void aml_name(struct aml *a, const char *name)
{
	put(a, OP_NAME, 1);
	put_name(a, name);
}

/* ---- terms with a PkgLength ---- */

static void begin(struct aml *a)
{
	if (a->depth == sizeof a->open / sizeof a->open[0])
		a->failed = true;
	if (!a->failed)
		a->open[a->depth++] = a->len;
}

/* PkgLength counts itself: in its lead byte 6 bits, or 4 and a byte or two that follow. */
void aml_end(struct aml *a)
{
	if (a->failed || !a->depth) {
		a->failed = true;
		return;
	}
	size_t start = a->open[--a->depth], body = a->len - start;
	unsigned bytes = body + 1 < 0x40 ? 1 : body + 2 < 0x1000 ? 2 : 3;
	size_t len = body + bytes;
	if (len >= 0x100000) {
		a->failed = true;
		return;
	}
	put(a, 0, bytes); /* room */
	if (a->failed)
		return;
	uint8_t *p = a->buffer + start;
	memmove(p + bytes, p, body);
	p[0] = (uint8_t)(bytes == 1 ? len : (bytes - 1) << 6 | (len & 15));
	for (unsigned i = 1; i < bytes; i++)
		p[i] = (uint8_t)(len >> (8 * i - 4));
}

void aml_scope_begin(struct aml *a, const char *name)
{
	put(a, OP_SCOPE, 1);
	begin(a);
	put_name(a, name);
}

void aml_device_begin(struct aml *a, const char *name)
{
	put(a, OP_EXT, 1);
	put(a, OP_EXT_DEVICE, 1);
	begin(a);
	put_name(a, name);
}

void aml_package_begin(struct aml *a, uint8_t elements)
{
	put(a, OP_PACKAGE, 1);
	begin(a);
	put(a, elements, 1);
}

void aml_method_begin(struct aml *a, const char *name, unsigned args)
{
	put(a, OP_METHOD, 1);
	begin(a);
	put_name(a, name);
	put(a, args & 7, 1);
}

void aml_if_begin(struct aml *a, const char *name)
{
	put(a, OP_IF, 1);
	begin(a);
	put_name(a, name);
}

void aml_store_argument(struct aml *a, unsigned argument, const char *name)
{
	put(a, OP_STORE, 1);
	put(a, OP_ARG0 + argument, 1);
	put_name(a, name);
}

void aml_return(struct aml *a, const char *name)
{
	put(a, OP_RETURN, 1);
	put_name(a, name);
}

/* ---- data ---- */

void aml_integer(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		put(a, value ? OP_ONE : OP_ZERO, 1);
		return;
	}
	unsigned bytes = value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
	put(a, bytes == 1 ? PREFIX_BYTE : bytes == 2 ? PREFIX_WORD : bytes == 4 ? PREFIX_DWORD : PREFIX_QWORD, 1);
	put(a, value, bytes);
}

void aml_string(struct aml *a, const char *text)
{
	put(a, PREFIX_STRING, 1);
	do
		put(a, (uint8_t)*text, 1);
	while (*text++);
}

static unsigned hex_digit(char c)
{
	return c >= 'A' ? (unsigned)(c - 'A') + 10 : (unsigned)(c - '0');
}

/* Three letters of 5 bits and four hex digits, the most significant byte first. */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;

	if (strlen(id) != 7) {
		a->failed = true;
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | (unsigned)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	put(a, PREFIX_DWORD, 1);
	put(a, __builtin_bswap32(v), 4);
}

/* ---- resources ---- */

void aml_resources_begin(struct aml *a)
{
	put(a, OP_BUFFER, 1);
	begin(a);
	put(a, PREFIX_WORD, 1);
	put(a, 0, RESOURCES_SIZE_BYTES);
}

void aml_resource_io(struct aml *a, uint16_t base, uint8_t len)
{
	put(a, RESOURCE_IO, 1);
	put(a, RESOURCE_IO_DECODE16, 1);
	put(a, base, 2); /* lowest */
	put(a, base, 2); /* highest */
	put(a, 1, 1);    /* alignment */
	put(a, len, 1);
}

void aml_resource_irq(struct aml *a, unsigned irq)
{
	put(a, RESOURCE_IRQ, 1);
	put(a, 1u << irq, 2);
}

void aml_resource_memory(struct aml *a, uint32_t base, uint32_t len)
{
	put(a, RESOURCE_MEMORY32_FIXED, 1);
	put(a, 9, 2); /* bytes that follow */
	put(a, RESOURCE_MEMORY_WRITABLE, 1);
	put(a, base, 4);
	put(a, len, 4);
}

void aml_resource_window(struct aml *a, enum aml_window kind, uint64_t first, uint64_t last)
{
	static const uint8_t specific[] = {
		[AML_WINDOW_MEMORY] = RESOURCE_MEMORY_WRITABLE, [AML_WINDOW_IO] = RESOURCE_WINDOW_IO_ALL, [AML_WINDOW_BUS] = 0};
	unsigned bytes = kind != AML_WINDOW_MEMORY ? 2 : last <= UINT32_MAX ? 4 : 8;

	put(a, bytes == 2 ? RESOURCE_WINDOW16 : bytes == 4 ? RESOURCE_WINDOW32 : RESOURCE_WINDOW64, 1);
	put(a, 3 + 5 * bytes, 2);
	put(a, kind, 1);
	put(a, RESOURCE_WINDOW_FIXED, 1);
	put(a, specific[kind], 1);
	put(a, 0, bytes); /* granularity */
	put(a, first, bytes);
	put(a, last, bytes);
	put(a, 0, bytes); /* translation */
	put(a, last - first + 1, bytes);
}

void aml_resources_end(struct aml *a)
{
	put(a, RESOURCE_END, 1);
	put(a, 0, 1);
	if (a->failed || !a->depth) {
		a->failed = true;
		return;
	}
	size_t size_at = a->open[a->depth - 1] + 1, first = size_at + RESOURCES_SIZE_BYTES;
	uint16_t size = (uint16_t)(a->len - first);
	memcpy(a->buffer + size_at, &size, sizeof size);
	aml_end(a);
}
