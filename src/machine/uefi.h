/*
 * UEFI firmware: OVMF's code and, in a flash chip below it, its variables, which are a file of the host's.
 *
 * The file is opened with the host's side and outlives resets. Thread: the one that builds the machine. What the guest
 * programs into the flash is written to the file by a thread of its own (block/file_writer.h), in the guest's order.
 */
#ifndef RINGSIDE_UEFI_H
#define RINGSIDE_UEFI_H

#include <stddef.h>
#include <stdint.h>

struct vm;
struct file_writer;
struct pflash;

/* The host's side. */
struct uefi_vars {
	int fd; /* -1: none */
	uint64_t size;
	struct file_writer *writer;
};

/* OVMF's code; NULL: it is not installed. */
const char *uefi_code_path(void);
/* Opens the variables: path NULL, a nameless copy of OVMF's template; a file that is not there is made from that.
 * 0, or -errno and a line for the user. */
int uefi_open(struct uefi_vars *vars, const char *path, char *error, size_t size);
void uefi_close(struct uefi_vars *vars); /* also of one with fd -1 */
/* The flash chip with the variables, right below `top`. 0 or -errno. */
int uefi_new_flash(struct vm *vm, uint64_t top, struct pflash **flash);

#endif
