/*
 * Multiboot 1 images: ELF, or flat with the addresses in the Multiboot header. --initrd is the one module.
 *
 * Source: Multiboot specification version 0.6.96.
 */
#include <errno.h>
#include <string.h>

#include "boot/loader.h"
#include "util/log.h"

#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC 0x2badb002u
enum { HEADER_SIZE = 12, HEADER_SIZE_FLAT = 32 };
enum {
	WANT_PAGE_ALIGN = 1,
	WANT_MEMORY = 2,
	WANT_VIDEO = 4,
	WANT_MASK = 0xffff, /* unknown ones there must be refused */
	HAS_ADDRESSES = 1 << 16,
};
enum { INFO_MEMORY = 1, INFO_CMDLINE = 4, INFO_MODULES = 8, INFO_MMAP = 64, INFO_LOADER_NAME = 512 };
enum {
	INFO_SIZE = 120,
	MODULE_OFFSET = 128,
	MMAP_OFFSET = 160,
	MMAP_ENTRY = 24,
	NAME_OFFSET = 384,
	STRINGS_OFFSET = 400
};
_Static_assert(MMAP_OFFSET + E820_MAX * MMAP_ENTRY <= NAME_OFFSET, "the memory map has its room");
#define CMDLINE_MAX 65535u

/* Offset of the header in the file's first 8 KiB, or len when there is none. */
static uint64_t header_find(const uint8_t *head, uint64_t len)
{
	for (uint64_t i = 0; i + HEADER_SIZE <= len; i += 4)
		if (get32(head + i) == HEADER_MAGIC && get32(head + i) + get32(head + i + 4) + get32(head + i + 8) == 0)
			return i;
	return len;
}

bool multiboot_probe(const uint8_t *head, uint64_t len) { return header_find(head, len) < len; }

/* A flat image: load_addr, load_end_addr (0: the whole file), bss_end_addr (0: none), entry_addr. */
static int load_flat(struct loader *l, const uint8_t *head, uint64_t len, uint64_t at, uint64_t *entry)
{
	if (at + HEADER_SIZE_FLAT > len)
		return loader_fail(l, "%s: truncated in its Multiboot header", l->kernel.path);
	uint64_t header = get32(head + at + 12), load = get32(head + at + 16), load_end = get32(head + at + 20),
		 bss_end = get32(head + at + 24);

	*entry = get32(head + at + 28);
	if (header < load || header - load > at)
		return loader_fail(l, "%s: not a kernel: Multiboot header at %#llx is to load at %#llx", l->kernel.path,
				   (unsigned long long)header, (unsigned long long)load);
	uint64_t offset = at - (header - load);
	if (load_end == 0)
		load_end = load + (l->kernel.size - offset);
	if (load_end < load)
		return loader_fail(l, "%s: not a kernel: Multiboot load addresses end before they start",
				   l->kernel.path);
	int r = image_load(l, &l->kernel, offset, load, load_end - load);
	if (r < 0)
		return r;
	if (bss_end > load_end && memory_fill(l->memory, load_end, 0, bss_end - load_end) < 0)
		return loader_fail(
			l, "%s: kernel does not fit in memory: its data ends at %#llx, guest memory is %llu MiB",
			l->kernel.path, (unsigned long long)bss_end, (unsigned long long)(l->memory->size >> 20));
	loader_claim(l, load, bss_end > load_end ? bss_end : load_end);
	return 0;
}

static int load_elf(struct loader *l, uint64_t *entry)
{
	struct elf elf;
	int r = elf_open(l, &elf);

	if (r == 0)
		r = elf_load(l, &elf);
	if (r < 0)
		return r;
	if (elf.entry >> 32)
		return loader_fail(l,
				   "%s: not a kernel: a Multiboot entry at %#llx is out of a 32-bit processor's reach",
				   l->kernel.path, (unsigned long long)elf.entry);
	*entry = elf.entry;
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void put_mmap(const struct loader *l, uint8_t *map)
{
	for (unsigned i = 0; i < l->e820_count; i++, map += MMAP_ENTRY) {
		put32(map, MMAP_ENTRY - 4); /* the size field does not count itself */
		put64(map + 4, l->e820[i].base);
		put64(map + 12, l->e820[i].len);
		put32(map + 20, l->e820[i].type);
	}
}

static int put_module(struct loader *l, uint8_t *info, uint64_t info_gpa, uint64_t module, uint64_t string)
{
	put32(info + 20, 1);
	put32(info + 24, (uint32_t)(info_gpa + MODULE_OFFSET));
	put32(info + MODULE_OFFSET, (uint32_t)module);
	put32(info + MODULE_OFFSET + 4, (uint32_t)(module + l->initrd.size));
	put32(info + MODULE_OFFSET + 8, (uint32_t)string);
	return INFO_MODULES;
}

/* The information structure, with all that it points to behind it. */
static int build_info(struct loader *l, uint64_t *gpa)
{
	uint64_t cmdline_len = strlen(l->append) + 1, module = 0;
	const char *name = l->initrd.fd >= 0 ? base_name(l->initrd.path) : "";
	uint64_t len = STRINGS_OFFSET + cmdline_len + strlen(name) + 1;
	uint32_t flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME;

	if (cmdline_len > CMDLINE_MAX)
		return loader_fail(l, "--append: command line of %llu bytes, %u is the limit",
				   (unsigned long long)(cmdline_len - 1), CMDLINE_MAX);
	int r = loader_alloc(l, len, gpa);
	if (r == 0 && l->initrd.fd >= 0)
		r = loader_place_initrd(l, MEMORY_HIGH_BASE, &module);
	if (r < 0)
		return r;
	uint8_t *info = memory_hva(l->memory, *gpa, len);
	if (!info)
		return -EFAULT;

	put32(info + 4, 639);                                           /* KiB of lower memory */
	put32(info + 8, (uint32_t)((l->memory->low - 0x100000) >> 10)); /* KiB from 1 MiB on */
	put32(info + 16, (uint32_t)(*gpa + STRINGS_OFFSET));
	memcpy(info + STRINGS_OFFSET, l->append, cmdline_len);
	if (l->initrd.fd >= 0) {
		memcpy(info + STRINGS_OFFSET + cmdline_len, name, strlen(name) + 1);
		flags |= (uint32_t)put_module(l, info, *gpa, module, *gpa + STRINGS_OFFSET + cmdline_len);
	}
	put32(info + 44, l->e820_count * MMAP_ENTRY);
	put32(info + 48, (uint32_t)(*gpa + MMAP_OFFSET));
	put_mmap(l, info + MMAP_OFFSET);
	put32(info + 64, (uint32_t)(*gpa + NAME_OFFSET));
	memcpy(info + NAME_OFFSET, "Ringside", sizeof "Ringside");
	put32(info, flags);
	return 0;
}

int multiboot_load(struct loader *l, const uint8_t *head, uint64_t len)
{
	uint64_t at = header_find(head, len), entry = 0, info;
	uint32_t want = get32(head + at + 4);
	int r;

	/* There is no screen to set a mode of: asking for one is granted in the spirit of "if possible". */
	if (want & WANT_MASK & ~(uint32_t)(WANT_PAGE_ALIGN | WANT_MEMORY | WANT_VIDEO))
		return loader_fail(l, "%s: wants Multiboot features %#x, which are unknown", l->kernel.path,
				   want & WANT_MASK);
	if (want & HAS_ADDRESSES)
		r = load_flat(l, head, len, at, &entry);
	else if (elf_is(head, len))
		r = load_elf(l, &entry);
	else
		r = loader_fail(l, "%s: a Multiboot image that is neither ELF nor says where to load", l->kernel.path);
	if (r == 0)
		r = build_info(l, &info);
	if (r == 0)
		r = entry_protected(l, entry);
	if (r < 0)
		return r;
	l->cpu->gpr[RAX] = BOOT_MAGIC;
	l->cpu->gpr[RBX] = info;
	LOG(LOG_BOOT, "Multiboot: information at %#llx", (unsigned long long)info);
	return 0;
}
