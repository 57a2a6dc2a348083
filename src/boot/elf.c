/*
 * ELF executables: header, program headers, loading at physical addresses.
 *
 * Source: System V ABI, chapters 4 "Object Files" and 5 "Program Loading". Nothing in the file is
 * trusted: counts are bounded, every range is checked against the file and against RAM.
 */
#include <errno.h>
#include <string.h>

#include "boot/loader.h"
#include "util/log.h"

enum { EI_CLASS = 4, EI_DATA = 5, CLASS_32 = 1, CLASS_64 = 2, DATA_LITTLE = 1, TYPE_EXEC = 2, TYPE_DYN = 3 };
enum { MACHINE_386 = 3, MACHINE_X86_64 = 62 };
enum { HEADER_32 = 52, HEADER_64 = 64, PHDR_32 = 32, PHDR_64 = 56, SEGMENTS_MAX = 64 };

bool elf_is(const uint8_t *head, uint64_t len) { return len >= 4 && memcmp(head, "\177ELF", 4) == 0; }

int elf_open(struct loader *l, struct elf *elf)
{
	const char *path = l->kernel.path;
	uint8_t h[HEADER_64];
	int r = image_read(l, &l->kernel, 0, h, HEADER_32);

	if (r < 0)
		return r;
	elf->is64 = h[EI_CLASS] == CLASS_64;
	if (elf->is64 && (r = image_read(l, &l->kernel, 0, h, HEADER_64)) < 0)
		return r;
	uint16_t type = get16(h + 16), machine = get16(h + 18);
	if ((h[EI_CLASS] != CLASS_32 && h[EI_CLASS] != CLASS_64) || h[EI_DATA] != DATA_LITTLE ||
	    (machine != MACHINE_386 && machine != MACHINE_X86_64))
		return loader_fail(l, "%s: not a kernel: an ELF file, but not for x86", path);
	if (type != TYPE_EXEC && type != TYPE_DYN)
		return loader_fail(l, "%s: not a kernel: an ELF file, but not executable", path);
	elf->entry = elf->is64 ? get64(h + 24) : get32(h + 24);
	elf->phoff = elf->is64 ? get64(h + 32) : get32(h + 28);
	elf->phentsize = get16(h + (elf->is64 ? 54 : 42));
	elf->phnum = get16(h + (elf->is64 ? 56 : 44));
	if (elf->phnum == 0 || elf->phnum > SEGMENTS_MAX || elf->phentsize < (elf->is64 ? PHDR_64 : PHDR_32))
		return loader_fail(l, "%s: not a kernel: an ELF file with %u program headers of %u bytes", path,
				   elf->phnum, elf->phentsize);
	return 0;
}

int elf_segment(struct loader *l, const struct elf *elf, unsigned index, struct elf_segment *s)
{
	uint8_t p[PHDR_64];
	uint64_t offset;

	if (__builtin_add_overflow(elf->phoff, (uint64_t)index * elf->phentsize, &offset))
		return loader_fail(l, "%s: not a kernel: its program headers lie at %#llx", l->kernel.path,
				   (unsigned long long)elf->phoff);
	int r = image_read(l, &l->kernel, offset, p, elf->is64 ? PHDR_64 : PHDR_32);
	if (r < 0)
		return r;
	s->type = get32(p);
	if (elf->is64) {
		s->offset = get64(p + 8);
		s->paddr = get64(p + 24);
		s->filesz = get64(p + 32);
		s->memsz = get64(p + 40);
		s->align = get64(p + 48);
	} else {
		s->offset = get32(p + 4);
		s->paddr = get32(p + 12);
		s->filesz = get32(p + 16);
		s->memsz = get32(p + 20);
		s->align = get32(p + 28);
	}
	return 0;
}

static int elf_load_segment(struct loader *l, const struct elf_segment *s)
{
	if (s->memsz == 0)
		return 0;
	if (s->filesz > s->memsz)
		return loader_fail(l, "%s: not a kernel: a segment holds %llu bytes of %llu", l->kernel.path,
				   (unsigned long long)s->filesz, (unsigned long long)s->memsz);
	if (memory_offset(l->memory, s->paddr, s->memsz) == MEMORY_NOT_RAM)
		return loader_fail(l,
				   "%s: kernel does not fit in memory: %llu bytes at %#llx, guest memory is %llu MiB",
				   l->kernel.path, (unsigned long long)s->memsz, (unsigned long long)s->paddr,
				   (unsigned long long)(l->memory->size >> 20));
	int r = image_load(l, &l->kernel, s->offset, s->paddr, s->filesz);
	if (r == 0)
		r = memory_fill(l->memory, s->paddr + s->filesz, 0, s->memsz - s->filesz);
	if (r < 0)
		return r;
	LOG(LOG_BOOT, "ELF: %#llx bytes at %#llx", (unsigned long long)s->memsz, (unsigned long long)s->paddr);
	loader_claim(l, s->paddr, s->paddr + s->memsz);
	return 0;
}

int elf_load(struct loader *l, const struct elf *elf)
{
	bool any = false;

	for (unsigned i = 0; i < elf->phnum; i++) {
		struct elf_segment s;
		int r = elf_segment(l, elf, i, &s);

		if (r == 0 && s.type == ELF_LOAD) {
			r = elf_load_segment(l, &s);
			any = true;
		}
		if (r < 0)
			return r;
	}
	return any ? 0 : loader_fail(l, "%s: not a kernel: an ELF file with nothing to load", l->kernel.path);
}
