/*
 * SMBIOS structures for firmware: what machine this is, its processors, its memory.
 *
 * Source: DMTF DSP0134, System Management BIOS Reference Specification 2.8, chapters 5.2 and 7. Called while the machine
 * is built. Firmware adds its own structure, type 0, and the address of the table.
 */
#ifndef RINGSIDE_SMBIOS_H
#define RINGSIDE_SMBIOS_H

#include <stddef.h>
#include <stdint.h>

#define SMBIOS_TABLES_FILE "etc/smbios/smbios-tables"
#define SMBIOS_ANCHOR_FILE "etc/smbios/smbios-anchor"
#define SMBIOS_ANCHOR_SIZE 31

struct smbios_config {
	const char *product; /* the machine's name */
	unsigned cpus;
	uint64_t memory_low, memory_high; /* bytes below and from 4 GiB on */
	uint64_t cpuid_1;                 /* CPUID leaf 1: EAX, and EDX in the upper half */
};

struct smbios {
	uint8_t *tables; /* on the heap; the caller frees */
	size_t size;
	uint8_t anchor[SMBIOS_ANCHOR_SIZE]; /* the table's address in it is 0 */
};

int smbios_make(const struct smbios_config *config, struct smbios *s); /* 0 or -ENOMEM */

#endif
