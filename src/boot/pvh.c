/*
 * ELF kernels with a PVH entry point, as uncompressed Linux images (vmlinux) have.
 *
 * Sources: Xen docs/misc/pvh.pandoc, public headers arch-x86/hvm/start_info.h and elfnote.h.
 */
#include <errno.h>
#include <string.h>

#include "boot/loader.h"
#include "util/log.h"

#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_MAGIC 0x336ec578u
enum { START_INFO_SIZE = 56, MODULE_SIZE = 32, MEMMAP_SIZE = 24 };
/* Layout of the page(s) that hold the start info. */
enum { MODULE_OFFSET = 64, MEMMAP_OFFSET = 128, CMDLINE_OFFSET = 512 };
_Static_assert(MEMMAP_OFFSET + E820_MAX * MEMMAP_SIZE <= CMDLINE_OFFSET, "the memory map has its room");
#define CMDLINE_MAX 65535u

/* Looks for the entry note in [p, p+len). */
static bool note_find(const uint8_t *p, uint64_t len, uint64_t align, uint64_t *entry)
{
	uint64_t pad = align == 8 ? 7 : 3;

	while (len >= 12) {
		uint64_t name_size = get32(p), desc_size = get32(p + 4);
		uint32_t type = get32(p + 8);
		uint64_t desc = (12 + name_size + pad) & ~pad;
		uint64_t next = (desc + desc_size + pad) & ~pad;

		if (desc > len || desc_size > len - desc)
			return false;
		if (type == NOTE_PHYS32_ENTRY && name_size == 4 && memcmp(p + 12, "Xen", 4) == 0 && desc_size >= 4) {
			*entry = get32(p + desc);
			return true;
		}
		if (next > len)
			return false;
		p += next;
		len -= next;
	}
	return false;
}

static int pvh_entry(struct loader *l, const struct elf *elf, uint64_t *entry)
{
	for (unsigned i = 0; i < elf->phnum; i++) {
		static const uint64_t aligns[] = {4, 8}; /* note segments of both alignments say 4 at times */
		uint8_t notes[4096];
		struct elf_segment s;
		int r = elf_segment(l, elf, i, &s);

		if (r < 0)
			return r;
		if (s.type != ELF_NOTE)
			continue;
		uint64_t len = s.filesz < sizeof notes ? s.filesz : sizeof notes;
		if ((r = image_read(l, &l->kernel, s.offset, notes, len)) < 0)
			return r;
		for (unsigned a = 0; a < 2; a++)
			if (note_find(notes, len, aligns[a], entry))
				return 0;
	}
	return loader_fail(l, "%s: not a kernel: an ELF file with neither a PVH entry note nor a Multiboot header",
			   l->kernel.path);
}

static int pvh_start_info(struct loader *l, uint64_t *gpa)
{
	uint64_t len = strlen(l->append), initrd;

	if (len > CMDLINE_MAX)
		return loader_fail(l, "--append: command line of %llu bytes, %u is the limit", (unsigned long long)len,
				   CMDLINE_MAX);
	int r = loader_alloc(l, CMDLINE_OFFSET + len + 1, gpa);
	if (r < 0)
		return r;
	uint8_t *info = memory_hva(l->memory, *gpa, CMDLINE_OFFSET + len + 1);
	if (!info)
		return -EFAULT;
	put32(info, START_MAGIC);
	put32(info + 4, 1); /* version: with a memory map */
	if (l->initrd.fd >= 0) {
		if ((r = loader_place_initrd(l, 1ull << 31, &initrd)) < 0)
			return r;
		put32(info + 12, 1);
		put64(info + 16, *gpa + MODULE_OFFSET);
		put64(info + MODULE_OFFSET, initrd);
		put64(info + MODULE_OFFSET + 8, l->initrd.size);
	}
	put64(info + 24, *gpa + CMDLINE_OFFSET);
	put64(info + 32, l->config->rsdp);
	put64(info + 40, *gpa + MEMMAP_OFFSET);
	put32(info + 48, l->e820_count);
	for (unsigned i = 0; i < l->e820_count; i++) {
		uint8_t *entry = info + MEMMAP_OFFSET + i * MEMMAP_SIZE;

		put64(entry, l->e820[i].base);
		put64(entry + 8, l->e820[i].len);
		put32(entry + 16, l->e820[i].type);
	}
	memcpy(info + CMDLINE_OFFSET, l->append, len + 1);
	return 0;
}

int pvh_load(struct loader *l)
{
	struct elf elf;
	uint64_t entry = 0, info;
	int r = elf_open(l, &elf);

	if (r == 0)
		r = pvh_entry(l, &elf, &entry);
	if (r == 0)
		r = elf_load(l, &elf);
	if (r == 0)
		r = pvh_start_info(l, &info);
	if (r == 0)
		r = entry_protected(l, entry);
	if (r < 0)
		return r;
	l->cpu->gpr[RBX] = info;
	return 0;
}
