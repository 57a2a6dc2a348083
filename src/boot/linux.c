/*
 * Linux bzImage by the 64-bit boot protocol, or by the 32-bit one for kernels that have no 64-bit entry.
 *
 * Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst; offsets are from the start of the
 * file and of the zero page, which agree for the setup header.
 */
#include <errno.h>
#include <string.h>

#include "boot/loader.h"
#include "util/log.h"

enum {
	SETUP_SECTS = 0x1f1,
	SETUP_HEADER = 0x1f1,
	SYSSIZE = 0x1f4,
	BOOT_FLAG = 0x1fe,
	JUMP = 0x200,
	MAGIC = 0x202,
	VERSION = 0x206,
	TYPE_OF_LOADER = 0x210,
	LOADFLAGS = 0x211,
	CODE32_START = 0x214,
	RAMDISK_IMAGE = 0x218,
	RAMDISK_SIZE = 0x21c,
	CMD_LINE_PTR = 0x228,
	INITRD_ADDR_MAX = 0x22c,
	XLOADFLAGS = 0x236,
	CMDLINE_SIZE = 0x238,
	PREF_ADDRESS = 0x258,
	INIT_SIZE = 0x260,
	SETUP_HEADER_END = 0x290,
	/* in the zero page only */
	ACPI_RSDP_ADDR = 0x070,
	SCREEN_MODE = 0x006,
	SCREEN_COLUMNS = 0x007,
	SCREEN_EGA = 0x00a,
	SCREEN_ROWS = 0x00e,
	SCREEN_TYPE = 0x00f,
	SCREEN_GLYPH_HEIGHT = 0x010,
	SCREEN_WIDTH = 0x012,
	SCREEN_HEIGHT = 0x014,
	SCREEN_DEPTH = 0x016,
	SCREEN_BASE = 0x018,
	SCREEN_SIZE = 0x01c,
	SCREEN_PITCH = 0x024,
	SCREEN_COLORS = 0x026, /* size and position of red, green, blue and what is left */
	E820_ENTRIES = 0x1e8,
	E820_TABLE = 0x2d0,
	E820_ENTRY_SIZE = 20,
	VID_MODE = 0x1fa,
};
#define HDRS 0x53726448u
enum { SCREEN_IS_VGA_TEXT = 1, VGA_TEXT_MODE = 3, VGA_COLOR_256K = 3 };
enum { SCREEN_IS_VESA_LINEAR = 0x23, SCREEN_SIZE_UNIT = 0x10000 };
enum { LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, XLF_KERNEL_64 = 1 };
#define LOAD_ADDRESS 0x100000ull /* where kernels before protocol 2.10, or fixed ones, go */
#define ENTRY_64 0x200           /* the 64-bit entry is this far behind the 32-bit one */
#define SECTOR 512u

struct linux_image {
	uint16_t version;
	uint64_t setup_size, payload_size;
	uint64_t room; /* bytes the kernel needs from its load address on, until it has set up its memory map */
	uint64_t base; /* load address */
	bool entry64;
};

bool linux_probe(const uint8_t *head, uint64_t len)
{
	return len >= MAGIC + 4 && get16(head + BOOT_FLAG) == 0xaa55 && get32(head + MAGIC) == HDRS;
}

static bool fits(const struct loader *l, uint64_t base, uint64_t room)
{
	return memory_offset(l->memory, base, room) != MEMORY_NOT_RAM && base + room <= l->memory->low;
}

/* The preferred load address, or none: a relocatable kernel that lies below it moves there itself (boot protocol,
 * pref_address). */
static int linux_place(struct loader *l, const uint8_t *head, struct linux_image *k)
{
	k->base = k->version >= 0x20a ? get64(head + PREF_ADDRESS) : LOAD_ADDRESS;
	if (k->base < LOAD_ADDRESS || !fits(l, k->base, k->room))
		return loader_fail(
			l, "%s: kernel does not fit in memory: it needs %llu MiB from %#llx, guest memory is %llu MiB",
			l->kernel.path, (unsigned long long)(k->room >> 20), (unsigned long long)k->base,
			(unsigned long long)(l->memory->size >> 20));
	return 0;
}

static int linux_check(struct loader *l, const uint8_t *head, uint64_t len, struct linux_image *k)
{
	const char *path = l->kernel.path;
	unsigned sectors = head[SETUP_SECTS] ? head[SETUP_SECTS] : 4;

	if (len < SETUP_HEADER_END)
		return loader_fail(l, "%s: truncated: %llu bytes are no kernel", path, (unsigned long long)len);
	k->version = get16(head + VERSION);
	if (k->version < 0x204)
		return loader_fail(l, "%s: boot protocol %u.%02u is too old, 2.04 or later is wanted", path,
				   k->version >> 8, k->version & 0xff);
	if (!(head[LOADFLAGS] & LOADED_HIGH))
		return loader_fail(l, "%s: a zImage, which loads low, cannot be booted; a bzImage is wanted", path);
	k->setup_size = (uint64_t)(sectors + 1) * SECTOR;
	k->payload_size = (uint64_t)get32(head + SYSSIZE) * 16;
	if (k->payload_size == 0)
		return loader_fail(l, "%s: not a kernel: it is empty", path);
	/* The last paragraph may be incomplete. */
	if (k->setup_size > l->kernel.size || k->payload_size > l->kernel.size - k->setup_size + 15)
		return loader_fail(l, "%s: truncated: its header says %llu bytes, the file has %llu", path,
				   (unsigned long long)(k->setup_size + k->payload_size),
				   (unsigned long long)l->kernel.size);
	if (k->payload_size > l->kernel.size - k->setup_size)
		k->payload_size = l->kernel.size - k->setup_size;
	k->room = k->payload_size;
	if (k->version >= 0x20a && get32(head + INIT_SIZE) > k->room)
		k->room = get32(head + INIT_SIZE);
	k->entry64 = k->version >= 0x20c && (get16(head + XLOADFLAGS) & XLF_KERNEL_64);
	return 0;
}

static int linux_command_line(struct loader *l, const uint8_t *head, const struct linux_image *k, uint64_t *gpa)
{
	uint64_t max = k->version >= 0x206 ? get32(head + CMDLINE_SIZE) : 255;
	uint64_t len = strlen(l->append);

	if (len > max)
		return loader_fail(l, "--append: command line of %llu bytes, this kernel takes %llu",
				   (unsigned long long)len, (unsigned long long)max);
	int r = loader_alloc(l, len + 1, gpa);
	return r < 0 ? r : memory_write(l->memory, *gpa, l->append, len + 1);
}

static void zero_page_e820(const struct loader *l, uint8_t *zero)
{
	zero[E820_ENTRIES] = (uint8_t)l->e820_count;
	for (unsigned i = 0; i < l->e820_count; i++) {
		uint8_t *entry = zero + E820_TABLE + i * E820_ENTRY_SIZE;

		put64(entry, l->e820[i].base);
		put64(entry + 8, l->e820[i].len);
		put32(entry + 16, l->e820[i].type);
	}
}

static void zero_page_screen(const struct boot_config *config, uint8_t *zero)
{
	static const uint8_t colors[] = {8, 16, 8, 8, 8, 0, 8, 24};

	if (config->picture.text) {
		zero[SCREEN_TYPE] = SCREEN_IS_VGA_TEXT;
		zero[SCREEN_MODE] = VGA_TEXT_MODE;
		zero[SCREEN_COLUMNS] = 80;
		zero[SCREEN_ROWS] = 25;
		put16(zero + SCREEN_EGA, VGA_COLOR_256K);
		put16(zero + SCREEN_GLYPH_HEIGHT, 16);
		return;
	}
	if (!config->picture.address || config->picture.address > UINT32_MAX)
		return;
	zero[SCREEN_TYPE] = SCREEN_IS_VESA_LINEAR;
	put16(zero + SCREEN_WIDTH, config->picture.width);
	put16(zero + SCREEN_HEIGHT, config->picture.height);
	put16(zero + SCREEN_DEPTH, 32);
	put32(zero + SCREEN_BASE, (uint32_t)config->picture.address);
	put32(zero + SCREEN_SIZE, config->picture.size / SCREEN_SIZE_UNIT);
	put16(zero + SCREEN_PITCH, (uint16_t)(config->picture.width * 4));
	memcpy(zero + SCREEN_COLORS, colors, sizeof colors);
}

/* Builds the zero page from the file's setup header and what the loader has to say. */
static int linux_zero_page(struct loader *l, const uint8_t *head, const struct linux_image *k, uint64_t *gpa)
{
	uint8_t zero[PAGE_SIZE] = {0};
	uint64_t cmdline, initrd = 0, header_end = MAGIC + head[JUMP + 1];
	int r = linux_command_line(l, head, k, &cmdline);

	if (r == 0)
		r = loader_alloc(l, sizeof zero, gpa);
	if (r < 0)
		return r;
	if (header_end > SETUP_HEADER_END)
		header_end = SETUP_HEADER_END;
	memcpy(zero + SETUP_HEADER, head + SETUP_HEADER, header_end - SETUP_HEADER);
	zero[TYPE_OF_LOADER] = 0xff; /* one without a number of its own */
	zero[LOADFLAGS] &= (uint8_t)~CAN_USE_HEAP;
	put16(zero + VID_MODE, 0xffff);
	put32(zero + CODE32_START, (uint32_t)k->base);
	put32(zero + CMD_LINE_PTR, (uint32_t)cmdline);
	if (l->initrd.fd >= 0) {
		r = loader_place_initrd(l, (uint64_t)get32(head + INITRD_ADDR_MAX) + 1, &initrd);
		if (r < 0)
			return r;
		put32(zero + RAMDISK_IMAGE, (uint32_t)initrd);
		put32(zero + RAMDISK_SIZE, (uint32_t)l->initrd.size);
	}
	put64(zero + ACPI_RSDP_ADDR, l->config->rsdp);
	zero_page_e820(l, zero);
	zero_page_screen(l->config, zero);
	LOG(LOG_BOOT, "Linux: protocol %u.%02u, kernel at %#llx (%llu bytes, room %#llx), initrd at %#llx",
	    k->version >> 8, k->version & 0xff, (unsigned long long)k->base, (unsigned long long)k->payload_size,
	    (unsigned long long)k->room, (unsigned long long)initrd);
	return memory_write(l->memory, *gpa, zero, sizeof zero);
}

int linux_load(struct loader *l, const uint8_t *head, uint64_t len)
{
	struct linux_image k = {0};
	uint64_t zero_page;
	int r = linux_check(l, head, len, &k);

	if (r == 0)
		r = linux_place(l, head, &k);
	if (r == 0)
		r = image_load(l, &l->kernel, k.setup_size, k.base, k.payload_size);
	if (r < 0)
		return r;
	loader_claim(l, k.base, k.base + k.room);
	r = linux_zero_page(l, head, &k, &zero_page);
	if (r == 0)
		r = k.entry64 ? entry_long(l, k.base + ENTRY_64) : entry_protected(l, k.base);
	if (r < 0)
		return r;
	l->cpu->gpr[RSI] = zero_page;
	return 0;
}
