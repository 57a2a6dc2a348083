/*
 * What the loaders of src/boot share: the image file, guest memory and its map, a place for the
 * loader's own structures, errors as one line, and the vCPU states that boot protocols start in.
 */
#ifndef RINGSIDE_LOADER_H
#define RINGSIDE_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/boot.h"
#include "cpu/cpu.h"
#include "mem/memory.h"

struct image {
	const char *path;
	int fd;
	uint64_t size;
};

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };
struct e820_entry {
	uint64_t base, len;
	uint32_t type;
};
#define E820_MAX 8

struct loader {
	struct memory *memory;
	struct cpu *cpu;
	const struct boot_config *config;
	const char *append;          /* never NULL */
	struct image kernel, initrd; /* initrd.fd < 0: none */
	struct e820_entry e820[E820_MAX];
	unsigned e820_count;
	uint64_t image_end;             /* first byte behind the loaded kernel and its uninitialized data */
	uint64_t alloc_next, alloc_end; /* where loader_alloc takes its memory from */
	char *error;
	size_t error_size;
};

/* Writes the line for the user; returns -EINVAL. */
int loader_fail(struct loader *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Bytes [offset, offset+len) of the file into a buffer or into guest memory. Errors are told. */
int image_read(struct loader *l, const struct image *image, uint64_t offset, void *buf, uint64_t len);
int image_load(struct loader *l, const struct image *image, uint64_t offset, uint64_t gpa, uint64_t len);

/* The kernel occupies [base, end) from now on (may be called for several parts). */
void loader_claim(struct loader *l, uint64_t base, uint64_t end);
/* Guest memory for the loader's structures, page aligned, outside of the kernel. 0, or an error that is told. */
int loader_alloc(struct loader *l, uint64_t len, uint64_t *gpa);
/* Loads the initrd page aligned, as high as possible below `limit` (at most the end of low RAM) and above the kernel.
 */
int loader_place_initrd(struct loader *l, uint64_t limit, uint64_t *gpa);

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }
static inline uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static inline void put32(uint8_t *p, uint32_t v) { put16(p, (uint16_t)v), put16(p + 2, (uint16_t)(v >> 16)); }
static inline void put64(uint8_t *p, uint64_t v) { put32(p, (uint32_t)v), put32(p + 4, (uint32_t)(v >> 32)); }

/* ---- ELF: elf.c ---- */
struct elf {
	bool is64;
	uint16_t phentsize, phnum;
	uint64_t phoff, entry;
};
struct elf_segment {
	uint32_t type;
	uint64_t offset, paddr, filesz, memsz, align;
};
enum { ELF_LOAD = 1, ELF_NOTE = 4 };
bool elf_is(const uint8_t *head, uint64_t len);
/* Reads and checks the ELF header of the kernel: an x86 executable. */
int elf_open(struct loader *l, struct elf *elf);
int elf_segment(struct loader *l, const struct elf *elf, unsigned index, struct elf_segment *segment);
/* Loads all PT_LOAD segments at their physical addresses and claims them. */
int elf_load(struct loader *l, const struct elf *elf);

/* ---- entry states: entry.c ---- */
/* 32-bit protected mode, flat segments (CS 0x10, others 0x18), paging and interrupts off. */
int entry_protected(struct loader *l, uint64_t eip);
/* 64-bit mode with the low 4 GiB mapped one to one. */
int entry_long(struct loader *l, uint64_t rip);

/* ---- formats. `head` is the file's first `len` bytes. ---- */
#define LOADER_HEAD 8192
bool linux_probe(const uint8_t *head, uint64_t len);
int linux_load(struct loader *l, const uint8_t *head, uint64_t len);
bool multiboot_probe(const uint8_t *head, uint64_t len);
int multiboot_load(struct loader *l, const uint8_t *head, uint64_t len);
int pvh_load(struct loader *l);

#endif
