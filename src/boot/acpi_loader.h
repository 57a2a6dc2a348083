/*
 * ACPI tables for firmware to put where it likes: the tables, their root pointer, and the script by which firmware
 * allocates memory for them, fills in their addresses and their checksums ("etc/table-loader" of fw_cfg).
 *
 * Source: QEMU's docs/specs/fw_cfg and the header of its hw/acpi/bios-linker-loader: four commands in records of 128
 * bytes. Called while the machine is built.
 */
#ifndef RINGSIDE_ACPI_LOADER_H
#define RINGSIDE_ACPI_LOADER_H

#include <stddef.h>
#include <stdint.h>

#define ACPI_TABLES_FILE "etc/acpi/tables"
#define ACPI_RSDP_FILE "etc/acpi/rsdp"
#define ACPI_LOADER_FILE "etc/table-loader"
#define ACPI_RSDP_SIZE 36

struct acpi_files {
	uint8_t *tables, *script; /* on the heap */
	size_t tables_size, script_size;
	uint8_t rsdp[ACPI_RSDP_SIZE];
};

struct acpi_config;

/* 0, -ENOMEM, -ENOSPC, -EINVAL; the caller frees. */
int acpi_files_make(const struct acpi_config *config, struct acpi_files *files);
void acpi_files_free(struct acpi_files *files); /* also of one that is all zero */

#endif
