/*
 * fw_cfg: how the machine tells its firmware what it is made of. Items of bytes, by number or, as files, by name, read
 * through two ports or by DMA.
 *
 * Called under vm->lock. Source: QEMU's docs/specs/fw_cfg, "QEMU Firmware Configuration (fw_cfg) Device".
 */
#ifndef RINGSIDE_FW_CFG_H
#define RINGSIDE_FW_CFG_H

#include <stddef.h>
#include <stdint.h>

#define FW_CFG_BASE 0x510u
#define FW_CFG_PORTS 12u
#define FW_CFG_NAME_MAX 55u

/* Numbers of items that are no files. */
enum {
	FW_CFG_SIGNATURE = 0, FW_CFG_ID = 1, FW_CFG_CPUS = 5, FW_CFG_BOOT_MENU = 14, FW_CFG_MAX_CPUS = 15,
	FW_CFG_DIRECTORY = 25, FW_CFG_FILES = 32,
};

struct bus;
struct memory;
struct fw_cfg;

/* NULL: errno. */
struct fw_cfg *fw_cfg_new(struct bus *pio, struct memory *memory);
void fw_cfg_free(struct fw_cfg *f);

/* While the machine is built; the bytes are copied. 0, -ENOMEM, -ENOSPC, -EINVAL for a name that is too long, -EEXIST. */
int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t size);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size);
/* Other bytes for a file, as many as before. 0, -ENOENT, -EINVAL. */
int fw_cfg_change_file(struct fw_cfg *f, const char *name, const void *data, size_t size);
/* Told before firmware reads a file from its beginning. */
void fw_cfg_on_select(struct fw_cfg *f, void (*selected)(void *opaque, const char *name), void *opaque);
/* An integer of `size` bytes, little-endian. */
int fw_cfg_add_integer(struct fw_cfg *f, uint16_t key, uint64_t value, unsigned size);
int fw_cfg_add_integer_file(struct fw_cfg *f, const char *name, uint64_t value, unsigned size);

#endif
