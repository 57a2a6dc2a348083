/*
 * UEFI firmware. See uefi.h.
 */
#include "machine/uefi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file_writer.h"
#include "dev/pflash.h"
#include "machine/vm.h"
#include "util/log.h"

#define CODE_PATH "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define TEMPLATE_PATH "/usr/share/OVMF/OVMF_VARS_4M.fd"
#define VARS_MAX (4u << 20)

const char *uefi_code_path(void) { return CODE_PATH; }

/* All of the template into `to`. 0 or -errno. */
static int copy_template(int to)
{
	int from = open(TEMPLATE_PATH, O_RDONLY | O_CLOEXEC), r = 0;
	uint8_t buf[65536];
	off_t at = 0;

	if (from < 0)
		return -errno;
	for (ssize_t n; r == 0 && (n = pread(from, buf, sizeof buf, at)) != 0; at += n) {
		if (n < 0 || pwrite(to, buf, (size_t)n, at) != n)
			r = errno ? -errno : -EIO;
		if (n < 0)
			break;
	}
	close(from);
	return r;
}

/* A file with variables, made if it is not there. It is made under another name first: half of one would be taken for
 * variables the next time. */
static int open_file(const char *path)
{
	char other[4096];
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	if (snprintf(other, sizeof other, "%s.XXXXXX", path) >= (int)sizeof other)
		return -ENAMETOOLONG;
	fd = mkostemp(other, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = copy_template(fd);
	if (r == 0 && (fsync(fd) < 0 || link(other, path) < 0))
		r = -errno;
	unlink(other);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int open_nameless(void)
{
	int fd = memfd_create("ringside-uefi-vars", MFD_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = copy_template(fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int uefi_open(struct uefi_vars *vars, const char *path, char *error, size_t size)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat st;
	int r = 0;

	if (access(CODE_PATH, R_OK) < 0) {
		snprintf(error, size, "--uefi: %s is not there: install the package ovmf", CODE_PATH);
		return -ENOENT;
	}
	vars->fd = path ? open_file(path) : open_nameless();
	if (vars->fd < 0)
		r = vars->fd;
	else if (fstat(vars->fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		snprintf(error, size, "--uefi %s: %s", path ? path : "(" TEMPLATE_PATH ")", strerror(-r));
	} else if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size % PFLASH_SECTOR || st.st_size > VARS_MAX) {
		snprintf(error, size, "--uefi %s: no file with OVMF's variables", path);
		r = -EINVAL;
	} else if (path && fcntl(vars->fd, F_OFD_SETLK, &lock) < 0) {
		snprintf(error, size, "--uefi %s: another machine uses it", path);
		r = -EBUSY;
	} else if (!(vars->writer = file_writer_new(vars->fd))) {
		r = -errno;
		snprintf(error, size, "--uefi: a thread: %s", strerror(errno));
	} else {
		vars->size = (uint64_t)st.st_size;
		return 0;
	}
	if (vars->fd >= 0)
		close(vars->fd);
	vars->fd = -1;
	return r;
}

void uefi_close(struct uefi_vars *vars)
{
	file_writer_free(vars->writer);
	vars->writer = NULL;
	if (vars->fd >= 0)
		close(vars->fd);
	vars->fd = -1;
}

/* ---- the flash ---- */

static void flash_written(void *opaque, uint64_t at, uint64_t len)
{
	struct vm *vm = opaque;

	file_writer_put(vm->uefi_vars.writer, vm->memory.base + vm->firmware.vars_offset, at, len);
}

int uefi_new_flash(struct vm *vm, uint64_t top, struct pflash **flash)
{
	uint64_t size = vm->uefi_vars.size;
	int r = memory_add_block(&vm->memory, size, &vm->firmware.vars_offset);

	if (r < 0)
		return r;
	/* What the machine before a reset wrote. */
	if ((r = file_writer_drain(vm->uefi_vars.writer)) < 0)
		LOG(LOG_FIRMWARE, "UEFI variables: %s", strerror(-r));
	if (pread(vm->uefi_vars.fd, vm->memory.base + vm->firmware.vars_offset, size, 0) != (ssize_t)size)
		return errno ? -errno : -EIO;
	const struct pflash_config config = {
		.memory = &vm->memory,
		.mmio = &vm->mmio,
		.gpa = top - size,
		.offset = vm->firmware.vars_offset,
		.size = size,
		.written = flash_written,
		.opaque = vm,
	};
	*flash = pflash_new(&config);
	return *flash ? 0 : -errno;
}
