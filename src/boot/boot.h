/*
 * Loading of guests: a kernel file (Linux bzImage, ELF with a PVH entry, Multiboot 1), an initrd or
 * module and a command line go into guest memory, and the first vCPU gets the state that the kernel's
 * boot protocol asks for.
 *
 * Called while the machine is built, before any vCPU runs. Nothing in a file is trusted: every length
 * and offset is checked against the file and against RAM.
 */
#ifndef RINGSIDE_BOOT_H
#define RINGSIDE_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory;
struct cpu;

struct boot_config {
	const char *kernel;          /* path */
	const char *initrd, *append; /* path, command line; NULL: none */
	uint64_t rsdp;               /* GPA of the ACPI root pointer; 0: none */
	/* What is on the screen already: VGA's text mode, or a picture of 32 bits a pixel with lines of width * 4 bytes;
	 * address 0: none. */
	struct {
		bool text;
		uint64_t address;
		uint16_t width, height;
		uint32_t size; /* of its memory, bytes */
	} picture;
};

/* Loads the kernel of `config` and sets `cpu` (as after RESET) to enter it. 0, or -errno and one line for the
 * user in error[0..size). */
int boot_load(struct memory *memory, struct cpu *cpu, const struct boot_config *config, char *error, size_t size);

#endif
