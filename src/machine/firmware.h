/*
 * Firmware: its ROM, and what the machine tells it through fw_cfg. A machine without a kernel of its own starts at the
 * reset vector in that ROM.
 *
 * Thread: the one that builds the machine.
 */
#ifndef RINGSIDE_FIRMWARE_H
#define RINGSIDE_FIRMWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vm;
struct fw_cfg;
struct pflash;
struct debug_console;

/* What the user asked for; part of struct vm_config. */
struct firmware_config {
	const char *bios;       /* file; NULL: Debian's SeaBIOS */
	bool uefi;              /* OVMF instead */
	const char *vars;       /* its variables' file; NULL: they are gone at the end */
	const char *boot_order; /* letters a c d n, for floppy, disk, CD-ROM, network; NULL: the default */
	bool boot_menu;
};

struct firmware {
	uint64_t rom_offset, rom_size; /* in the host mapping of memory; rom_size 0: no firmware */
	uint64_t vars_offset;          /* of the flash chip's contents */
	struct pflash *flash;          /* NULL: no UEFI */
	struct fw_cfg *fw_cfg;
	struct debug_console *debug;
};

/* Before the devices are built: ROM into memory, below 4 GiB. 0, or -errno and a line for the user. */
int firmware_load(struct vm *vm, char *error, size_t size);
/* After all others are: fw_cfg and its contents, CMOS RAM. 0 or -errno. */
int firmware_configure(struct vm *vm);
void firmware_free(struct vm *vm);

#endif
