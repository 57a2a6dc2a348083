/*
 * Firmware. See firmware.h.
 *
 * Sources: QEMU's docs/specs/fw_cfg; the names and numbers of items as SeaBIOS and OVMF look for them.
 */
#include "machine/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/acpi.h"
#include "boot/acpi_loader.h"
#include "boot/smbios.h"
#include "dev/debug.h"
#include "dev/fw_cfg.h"
#include "dev/pflash.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "sandbox/sandbox.h"
#include "util/log.h"
#include "util/write.h"

#define ROM_UNIT 0x10000u
#define UEFI_UNIT 0x1000u
#define ROM_MAX (16u << 20)
#define TOP (1ull << 32)
#define DEBUG_PORT 0x402 /* where SeaBIOS and OVMF write what they do */
#define CLASS_DISPLAY 3

/* CMOS RAM, as QEMU and SeaBIOS use it. */
enum { CMOS_BOOT_3 = 0x38, CMOS_BOOT_12 = 0x3d, CMOS_CPUS = 0x5f };
#define DEFAULT_ORDER "cad"

enum { E820_RAM_TYPE = 1 };
struct e820_row {
	uint64_t base, len;
	uint32_t type;
} __attribute__((packed));

/* ---- ROM ---- */

static int open_rom(const struct vm *vm, const char **path)
{
	static const char *const known[] = {"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"};
	int fd = -1;

	*path = vm->config.firmware.uefi ? uefi_code_path() : vm->config.firmware.bios;
	if (*path)
		return sandbox_open(*path, O_RDONLY | O_NONBLOCK);
	for (unsigned i = 0; i < sizeof known / sizeof known[0] && fd < 0; i++)
		if ((fd = sandbox_open(known[i], O_RDONLY)) >= 0)
			*path = known[i];
	return fd;
}

int firmware_load(struct vm *vm, char *error, size_t size)
{
	const char *path;
	unsigned unit = vm->config.firmware.uefi ? UEFI_UNIT : ROM_UNIT;
	struct memory *m = &vm->memory;
	struct stat st;
	int fd = open_rom(vm, &path), r = 0;

	if (!path) {
		snprintf(error, size, "no BIOS is installed: give --kernel FILE, --bios FILE, or install the package seabios");
		return -ENOENT;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size % unit || st.st_size > ROM_MAX)
		snprintf(error, size, "%s: not a BIOS: 64 KiB or a multiple of that, and at most 16 MiB, is wanted", path);
	else if ((r = memory_add_block(m, (uint64_t)st.st_size, &vm->firmware.rom_offset)) == 0 &&
		 (r = read_all(fd, m->base + vm->firmware.rom_offset, (uint64_t)st.st_size)) == 0 &&
		 (r = memory_map(m, TOP - (uint64_t)st.st_size, (uint64_t)st.st_size, vm->firmware.rom_offset, true)) == 0)
		vm->firmware.rom_size = (uint64_t)st.st_size;
	if (r == 0 && vm->config.firmware.uefi)
		r = uefi_new_flash(vm, TOP - vm->firmware.rom_size, &vm->firmware.flash);
	if (r < 0)
		snprintf(error, size, "%s: %s", path, strerror(-r));
	if (fd >= 0)
		close(fd);
	LOG(LOG_FIRMWARE, "%s: %llu KiB", path, (unsigned long long)vm->firmware.rom_size >> 10);
	return r < 0 ? r : vm->firmware.rom_size ? 0 : -EINVAL;
}

/* ---- fw_cfg ---- */

static int add_processors(struct vm *vm, struct fw_cfg *f)
{
	int r = fw_cfg_add_integer(f, FW_CFG_CPUS, vm->vcpu_count, 2);

	return r < 0 ? r : fw_cfg_add_integer(f, FW_CFG_MAX_CPUS, vm->vcpu_count, 2);
}

static int add_memory(struct vm *vm, struct fw_cfg *f)
{
	const struct memory *m = &vm->memory;
	const struct e820_row rows[] = {
		{0, m->low, E820_RAM_TYPE},
		{MEMORY_HIGH_BASE, m->size - m->low, E820_RAM_TYPE},
	};

	return fw_cfg_add_file(f, "etc/e820", rows, m->size > m->low ? sizeof rows : sizeof rows[0]);
}

typedef int put_file(struct fw_cfg *f, const char *name, const void *data, size_t size);

static int put_acpi(struct vm *vm, put_file *put)
{
	struct acpi_config config = pc_acpi_config(vm);
	struct fw_cfg *f = vm->firmware.fw_cfg;
	struct acpi_files files;
	int r = acpi_files_make(&config, &files);

	if (r < 0)
		return r;
	if ((r = put(f, ACPI_TABLES_FILE, files.tables, files.tables_size)) == 0 &&
	    (r = put(f, ACPI_RSDP_FILE, files.rsdp, sizeof files.rsdp)) == 0)
		r = put(f, ACPI_LOADER_FILE, files.script, files.script_size);
	acpi_files_free(&files);
	return r;
}

/* Firmware is about to read a file. The tables tell where it has put the power management registers, which may be
 * elsewhere than when the machine was built. */
static void file_selected(void *opaque, const char *name)
{
	struct vm *vm = opaque;

	if (strcmp(name, ACPI_LOADER_FILE) == 0 && put_acpi(vm, fw_cfg_change_file) < 0)
		LOG(LOG_FIRMWARE, "ACPI tables stay as they were");
}

static int add_acpi(struct vm *vm, struct fw_cfg *f)
{
	fw_cfg_on_select(f, file_selected, vm);
	return put_acpi(vm, fw_cfg_add_file);
}

static int add_smbios(struct vm *vm, struct fw_cfg *f)
{
	const struct cpuid_entry *leaf1 = cpuid_find(&vm->cpuid, 1, 0);
	const struct smbios_config config = {
		.product = vm->config.machine == MACHINE_Q35 ? "PC (Q35)" : "PC (i440FX)",
		.cpus = vm->vcpu_count,
		.memory_low = vm->memory.low,
		.memory_high = vm->memory.size - vm->memory.low,
		.cpuid_1 = leaf1 ? leaf1->eax | (uint64_t)leaf1->edx << 32 : 0,
	};
	struct smbios s;
	int r = smbios_make(&config, &s);

	if (r < 0)
		return r;
	if ((r = fw_cfg_add_file(f, SMBIOS_TABLES_FILE, s.tables, s.size)) == 0)
		r = fw_cfg_add_file(f, SMBIOS_ANCHOR_FILE, s.anchor, sizeof s.anchor);
	free(s.tables);
	return r;
}

static bool has_screen(struct vm *vm)
{
	for (unsigned devfn = 0; devfn < 256; devfn++)
		if (pci_config_read(vm->pc->pci, 0, devfn, 11, 1) == CLASS_DISPLAY)
			return true;
	return false;
}

static int add_choices(struct vm *vm, struct fw_cfg *f)
{
	int r = fw_cfg_add_integer(f, FW_CFG_BOOT_MENU, vm->config.firmware.boot_menu, 2);

	/* A machine with nothing to boot from says so, and does not reset again and again. */
	if (r == 0)
		r = fw_cfg_add_integer_file(f, "etc/boot-fail-wait", UINT32_MAX, 4);
	if (r == 0 && !has_screen(vm))
		r = fw_cfg_add_integer_file(f, "etc/sercon-port", UART_COM1, 2);
	return r;
}

static void fill_cmos(struct vm *vm)
{
	const char *order = vm->config.firmware.boot_order ? vm->config.firmware.boot_order : DEFAULT_ORDER;
	static const char letters[] = "acdn";
	uint8_t code[3] = {0};

	for (unsigned i = 0; order[i] && i < 3; i++)
		code[i] = (uint8_t)(strchr(letters, order[i]) - letters + 1);
	rtc_set_ram(vm->pc->rtc, CMOS_BOOT_12, (uint8_t)(code[1] << 4 | code[0]));
	rtc_set_ram(vm->pc->rtc, CMOS_BOOT_3, (uint8_t)(code[2] << 4));
	rtc_set_ram(vm->pc->rtc, CMOS_CPUS, (uint8_t)(vm->vcpu_count - 1));
}

static void debug_output(void *opaque, const uint8_t *data, size_t len)
{
	(void)opaque;
	while (len && (data[len - 1] == '\n' || data[len - 1] == '\r'))
		len--;
	LOG(LOG_FIRMWARE, "%.*s", (int)len, (const char *)data);
}

int firmware_configure(struct vm *vm)
{
	struct firmware *fw = &vm->firmware;
	int r;

	if (!(fw->fw_cfg = fw_cfg_new(&vm->pio, &vm->memory)))
		return -errno;
	if (log_on(LOG_FIRMWARE) && !(fw->debug = debug_console_new(&vm->pio, DEBUG_PORT, debug_output, NULL)))
		return -errno;
	fill_cmos(vm);
	if ((r = add_processors(vm, fw->fw_cfg)) < 0 || (r = add_memory(vm, fw->fw_cfg)) < 0 ||
	    (r = add_acpi(vm, fw->fw_cfg)) < 0 || (r = add_smbios(vm, fw->fw_cfg)) < 0)
		return r;
	return add_choices(vm, fw->fw_cfg);
}

void firmware_free(struct vm *vm)
{
	fw_cfg_free(vm->firmware.fw_cfg);
	pflash_free(vm->firmware.flash);
	debug_console_free(vm->firmware.debug);
	vm->firmware = (struct firmware){0};
}
