/*
 * The DSDT: processors, the PCI host bridge with its windows and interrupt routes, ISA devices, S5.
 *
 * Source: ACPI specification 5.0, chapters 5.6, 6.2 and 9. Called while the machine is built.
 */
#ifndef RINGSIDE_DSDT_H
#define RINGSIDE_DSDT_H

#include <stddef.h>

struct acpi_config;

/* The table's AML, without its header: bytes written; 0 when they do not fit. */
size_t dsdt_write(void *buffer, size_t size, const struct acpi_config *config);

#endif
