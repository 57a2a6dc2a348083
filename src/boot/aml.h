/*
 * Writes ACPI Machine Language: each function appends one term to the buffer.
 *
 * Terms that contain others are opened with aml_*_begin and closed with aml_end, which fills in the
 * length. A buffer that overflows stays `failed`; nothing is written past its end.
 * Source: ACPI specification 5.0, chapter 20 "ACPI Machine Language" and 6.4 "Resource Data Types".
 */
#ifndef RINGSIDE_AML_H
#define RINGSIDE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buffer;
	size_t len, size;
	bool failed;
	size_t open[8]; /* where the PkgLength of each open term goes */
	unsigned depth;
};

void aml_init(struct aml *a, void *buffer, size_t size);

/* name: one segment of up to 4 characters, padded with '_'; a leading '\' is the root. */
void aml_name(struct aml *a, const char *name); /* Name (name, ...): the object follows */
void aml_scope_begin(struct aml *a, const char *name);
void aml_device_begin(struct aml *a, const char *name);
void aml_package_begin(struct aml *a, uint8_t elements); /* the elements follow */
void aml_end(struct aml *a);

/* Method (name, args): the statements follow. */
void aml_method_begin(struct aml *a, const char *name, unsigned args);
void aml_if_begin(struct aml *a, const char *name); /* If (name): the statements follow */
void aml_store_argument(struct aml *a, unsigned argument, const char *name); /* name = Arg0 ... */
void aml_return(struct aml *a, const char *name);                            /* Return (name) */

void aml_integer(struct aml *a, uint64_t value);
void aml_string(struct aml *a, const char *text);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0501" as the integer it stands for */

/* A buffer of resource descriptors. */
void aml_resources_begin(struct aml *a);
void aml_resource_io(struct aml *a, uint16_t base, uint8_t len); /* fixed, 16-bit decode */
void aml_resource_irq(struct aml *a, unsigned irq);              /* edge, active high, exclusive */
void aml_resource_memory(struct aml *a, uint32_t base, uint32_t len); /* fixed, below 4 GiB, read and write */
/* A range [first, last] that a bridge hands on to its bus. Of memory: with 64-bit fields when it ends above 4 GiB. */
enum aml_window { AML_WINDOW_MEMORY, AML_WINDOW_IO, AML_WINDOW_BUS };
void aml_resource_window(struct aml *a, enum aml_window kind, uint64_t first, uint64_t last);
void aml_resources_end(struct aml *a);

#endif
