/*
 * ACPI tables for firmware. See acpi_loader.h.
 *
 * The tables are built as for a kernel, as if they lay at ACPI_BASE; then they are walked as an operating system
 * does, and what is an address becomes an offset and a command, what is a checksum becomes 0 and a command.
 */
#include "boot/acpi_loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi.h"

#define COMMANDS_MAX 128
#define NAME_SIZE 56
#define ALIGN 64 /* of the FACS; others want less */
#define HEADER_SIZE 36

enum { ALLOCATE = 1, ADD_POINTER, ADD_CHECKSUM };
enum { ZONE_HIGH = 1, ZONE_F_SEGMENT };

/* Offsets of fields, ACPI 5.0 chapter 5.2. */
enum { RSDP_CHECKSUM = 8, RSDP_RSDT = 16, RSDP_V1_SIZE = 20, RSDP_XSDT = 24, RSDP_EXTENDED_CHECKSUM = 32 };
enum { TABLE_LENGTH = 4, TABLE_CHECKSUM = 9 };
enum { FADT_FIRMWARE_CTRL = 36, FADT_DSDT = 40, FADT_X_FIRMWARE_CTRL = 132, FADT_X_DSDT = 140 };

struct command {
	uint32_t command;
	union {
		struct {
			char file[NAME_SIZE];
			uint32_t align;
			uint8_t zone;
		} __attribute__((packed)) allocate;
		struct {
			char file[NAME_SIZE], target[NAME_SIZE];
			uint32_t offset;
			uint8_t size;
		} __attribute__((packed)) pointer;
		struct {
			char file[NAME_SIZE];
			uint32_t offset, start, length;
		} __attribute__((packed)) checksum;
		uint8_t all[124];
	};
} __attribute__((packed));
_Static_assert(sizeof(struct command) == 128, "as firmware reads it");

struct script {
	struct acpi_files *files;
	/* Checksums come last: they are of what pointers have been filled into. */
	struct command command[COMMANDS_MAX], checksum[COMMANDS_MAX];
	unsigned commands, checksums;
	bool failed;
};

static struct command *add(struct script *s, struct command *list, unsigned *count, uint32_t what)
{
	static struct command spare;

	if (*count == COMMANDS_MAX) {
		s->failed = true;
		return &spare;
	}
	list[*count] = (struct command){.command = what};
	return &list[(*count)++];
}

static void add_allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
	struct command *c = add(s, s->command, &s->commands, ALLOCATE);

	strcpy(c->allocate.file, file);
	c->allocate.align = align;
	c->allocate.zone = zone;
}

static void add_checksum(struct script *s, const char *file, uint8_t *bytes, uint32_t offset, uint32_t start,
			 uint32_t length)
{
	struct command *c = add(s, s->checksum, &s->checksums, ADD_CHECKSUM);

	bytes[offset] = 0;
	strcpy(c->checksum.file, file);
	c->checksum.offset = offset;
	c->checksum.start = start;
	c->checksum.length = length;
}

/* The address at `offset` of a file, `size` bytes, becomes an offset in the tables, which is returned; 0: it was none. */
static uint32_t add_pointer(struct script *s, const char *file, uint8_t *bytes, uint32_t offset, uint8_t size)
{
	uint64_t address = 0;

	memcpy(&address, bytes + offset, size);
	if (address < ACPI_BASE || address - ACPI_BASE >= s->files->tables_size) {
		s->failed |= address != 0;
		return 0;
	}
	address -= ACPI_BASE;
	memcpy(bytes + offset, &address, size);
	struct command *c = add(s, s->command, &s->commands, ADD_POINTER);
	strcpy(c->pointer.file, file);
	strcpy(c->pointer.target, ACPI_TABLES_FILE);
	c->pointer.offset = offset;
	c->pointer.size = size;
	return (uint32_t)address;
}

/* ---- the walk ---- */

static uint32_t table_pointer(struct script *s, uint32_t offset, uint8_t size)
{
	return add_pointer(s, ACPI_TABLES_FILE, s->files->tables, offset, size);
}

static uint32_t table_length(const struct script *s, uint32_t table)
{
	uint32_t length;

	memcpy(&length, s->files->tables + table + TABLE_LENGTH, 4);
	return length;
}

static void table_checksum(struct script *s, uint32_t table)
{
	add_checksum(s, ACPI_TABLES_FILE, s->files->tables, table + TABLE_CHECKSUM, table, table_length(s, table));
}

static void walk_fadt(struct script *s, uint32_t fadt)
{
	uint32_t dsdt = table_pointer(s, fadt + FADT_DSDT, 4);

	table_pointer(s, fadt + FADT_X_DSDT, 8);
	table_pointer(s, fadt + FADT_FIRMWARE_CTRL, 4);
	table_pointer(s, fadt + FADT_X_FIRMWARE_CTRL, 8);
	if (dsdt)
		table_checksum(s, dsdt);
}

/* RSDT or XSDT: entries of 4 or 8 bytes. The tables are the same in both; `deeper` goes into them. */
static void walk_root(struct script *s, uint32_t root, uint8_t size, bool deeper)
{
	if (!root)
		return;
	for (uint32_t at = HEADER_SIZE; at + size <= table_length(s, root); at += size) {
		uint32_t table = table_pointer(s, root + at, size);

		if (!deeper || !table)
			continue;
		if (memcmp(s->files->tables + table, "FACP", 4) == 0)
			walk_fadt(s, table);
		table_checksum(s, table);
	}
	table_checksum(s, root);
}

static void walk(struct script *s)
{
	uint8_t *rsdp = s->files->rsdp;

	memcpy(rsdp, s->files->tables, ACPI_RSDP_SIZE);
	memset(s->files->tables, 0, ACPI_RSDP_SIZE); /* there is to be one only */
	add_allocate(s, ACPI_RSDP_FILE, 16, ZONE_F_SEGMENT);
	add_allocate(s, ACPI_TABLES_FILE, ALIGN, ZONE_HIGH);
	uint32_t rsdt = add_pointer(s, ACPI_RSDP_FILE, rsdp, RSDP_RSDT, 4);
	uint32_t xsdt = add_pointer(s, ACPI_RSDP_FILE, rsdp, RSDP_XSDT, 8);
	walk_root(s, rsdt, 4, false);
	walk_root(s, xsdt, 8, true);
	add_checksum(s, ACPI_RSDP_FILE, rsdp, RSDP_CHECKSUM, 0, RSDP_V1_SIZE);
	add_checksum(s, ACPI_RSDP_FILE, rsdp, RSDP_EXTENDED_CHECKSUM, 0, ACPI_RSDP_SIZE);
}

int acpi_files_make(const struct acpi_config *config, struct acpi_files *files)
{
	struct script *s = calloc(1, sizeof *s);
	int r = -ENOMEM;

	*files = (struct acpi_files){.tables = calloc(1, ACPI_SIZE)};
	if (!s || !files->tables)
		goto out;
	r = acpi_make(files->tables, ACPI_BASE, ACPI_SIZE, config, &files->tables_size);
	if (r < 0)
		goto out;
	s->files = files;
	walk(s);
	r = -ENOSPC;
	if (s->failed)
		goto out;
	r = -ENOMEM;
	size_t commands = s->commands * sizeof(struct command), checksums = s->checksums * sizeof(struct command);
	files->script = malloc(commands + checksums);
	if (!files->script)
		goto out;
	memcpy(files->script, s->command, commands);
	memcpy(files->script + commands, s->checksum, checksums);
	files->script_size = commands + checksums;
	r = 0;
out:
	free(s);
	if (r < 0)
		acpi_files_free(files);
	return r;
}

void acpi_files_free(struct acpi_files *files)
{
	free(files->tables);
	free(files->script);
	*files = (struct acpi_files){0};
}
