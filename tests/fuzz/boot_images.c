/*
 * Damaged kernel images: headers with random bytes changed and files cut anywhere. The loaders must say
 * yes or no, in one line, without touching anything but guest memory (AddressSanitizer sees to that in
 * its build), and what they accept must enter inside RAM.
 *
 * usage: boot_images [--cases N] [--seed S]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "mem/memory.h"

#define MEMORY_SIZE (48ull << 20)
#define IMAGE_SIZE 65536u

static uint64_t rng;
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

static void put(uint8_t *p, uint64_t v, unsigned n) { memcpy(p, &v, n); }

/* ---- good images, small ---- */

static void good_linux(uint8_t *p)
{
	p[0x1f1] = 4;
	put(p + 0x1f4, (IMAGE_SIZE - 5 * 512) / 16, 4);
	put(p + 0x1fe, 0xaa55, 2);
	put(p + 0x200, 0x6aeb, 2);
	memcpy(p + 0x202, "HdrS", 4);
	put(p + 0x206, 0x20f, 2);
	p[0x211] = 1;
	put(p + 0x22c, 0x7fffffff, 4);
	put(p + 0x230, 0x200000, 4);
	p[0x234] = 1;
	put(p + 0x236, 1, 2);
	put(p + 0x238, 2047, 4);
	put(p + 0x258, 0x1000000, 8);
	put(p + 0x260, 0x100000, 4);
}

static void good_multiboot(uint8_t *p)
{
	put(p, 0x1badb002, 4);
	put(p + 4, 0x10003, 4);
	put(p + 8, -(0x1badb002u + 0x10003u), 4);
	put(p + 12, 0x100000, 4);
	put(p + 16, 0x100000, 4);
	put(p + 24, 0x180000, 4);
	put(p + 28, 0x100020, 4);
}

/* Header, one segment to load, one of notes. */
static void good_elf(uint8_t *p, bool wide)
{
	unsigned header = wide ? 64 : 52, entry = wide ? 56 : 32;
	uint8_t *load = p + header, *note = load + entry;

	memcpy(p, "\177ELF", 4);
	p[4] = wide ? 2 : 1;
	p[5] = p[6] = 1;
	put(p + 16, 2, 2);
	put(p + 18, wide ? 62 : 3, 2);
	put(p + (wide ? 32 : 28), header, wide ? 8 : 4);
	put(p + (wide ? 54 : 42), entry, 2);
	put(p + (wide ? 56 : 44), 2, 2);
	put(load, 1, 4);
	put(note, 4, 4);
	if (wide) {
		put(load + 24, 0x100000, 8);
		put(load + 32, 0x8000, 8);
		put(load + 40, 0x20000, 8);
		put(note + 8, 0x1000, 8);
		put(note + 32, 64, 8);
	} else {
		put(load + 12, 0x100000, 4);
		put(load + 16, 0x8000, 4);
		put(load + 20, 0x20000, 4);
		put(note + 4, 0x1000, 4);
		put(note + 16, 64, 4);
	}
	put(p + 0x1000, 4, 4);
	put(p + 0x1004, 4, 4);
	put(p + 0x1008, 18, 4);
	memcpy(p + 0x100c, "Xen", 4);
	put(p + 0x1010, 0x101000, 4);
}

static void good_multiboot_elf(uint8_t *p)
{
	good_elf(p, false);
	put(p + 24, 0x101000, 4);
	good_multiboot(p + 0x800);
	put(p + 0x804, 3, 4);
	put(p + 0x808, -(0x1badb002u + 3u), 4);
}

enum { LINUX, MULTIBOOT, ELF32, ELF64, MULTIBOOT_ELF, KINDS };
static const char *const kind_name[KINDS] = {"bzImage", "Multiboot", "ELF32 PVH", "ELF64 PVH", "Multiboot ELF"};

static uint64_t good(unsigned kind, uint8_t *image)
{
	memset(image, 0, IMAGE_SIZE);
	switch (kind) {
	case LINUX:
		good_linux(image);
		return 0x290;
	case MULTIBOOT:
		good_multiboot(image);
		return 32;
	case ELF32:
		good_elf(image, false);
		return 0x1020;
	case ELF64:
		good_elf(image, true);
		return 0x1020;
	default:
		good_multiboot_elf(image);
		return 0x1020;
	}
}

static void damage(unsigned kind, uint8_t *image, uint64_t interesting, uint64_t *size)
{
	/* Where the fields are; most of the rest of the bytes are nobody's business. */
	uint64_t from = kind == LINUX ? 0x1f1 : 0;
	unsigned hits = (unsigned)(rnd() % 4);

	while (hits--) {
		static const uint64_t evil[] = {0,          1,          0x7fffffff,  0x80000000,
						0xffffffff, 0xfffff000, ~0ull,       1ull << 63,
						0xa0000,    0xbffff000, MEMORY_SIZE, MEMORY_SIZE - 1};
		uint64_t span = kind >= ELF32 && rnd() % 4 ? 192 : interesting - from;
		uint64_t at = from + rnd() % span;
		uint64_t value = rnd() % 2 ? evil[rnd() % (sizeof evil / sizeof evil[0])] : rnd();

		put(image + at, value, 1u << rnd() % 4);
	}
	if (kind == MULTIBOOT && rnd() % 4) /* keep the checksum right, else nothing is tested */
		put(image + 8,
		    -(0x1badb002u + (uint32_t)(image[4] | image[5] << 8 | image[6] << 16 | (uint32_t)image[7] << 24)),
		    4);
	if (rnd() % 4 == 0)
		*size = rnd() % (rnd() % 2 ? IMAGE_SIZE : 0x400);
}

struct machine {
	struct memory memory;
	struct cpu cpu;
	struct cpuid_table cpuid;
	int image_fd, initrd_fd;
	uint8_t image[IMAGE_SIZE];
};

/* True when the loaders kept their promises. */
static bool try(struct machine *m, uint64_t size, bool *accepted)
{
	char kernel[64], initrd[64], error[512] = "";
	struct boot_config config = {
		.kernel = kernel, .initrd = rnd() % 2 ? initrd : NULL, .append = "console=ttyS0", .rsdp = 0xe0000};

	if (ftruncate(m->image_fd, 0) < 0 || pwrite(m->image_fd, m->image, size, 0) != (ssize_t)size ||
	    ftruncate(m->initrd_fd, (off_t)(rnd() % (64 << 20))) < 0)
		abort();
	snprintf(kernel, sizeof kernel, "/proc/self/fd/%d", m->image_fd);
	snprintf(initrd, sizeof initrd, "/proc/self/fd/%d", m->initrd_fd);
	cpu_reset(&m->cpu, false);
	int r = boot_load(&m->memory, &m->cpu, &config, error, sizeof error);
	*accepted = r == 0;
	if (r < 0)
		return error[0] != '\0' && !strchr(error, '\n');
	return m->cpu.rflags == RFLAGS_FIXED && (m->cpu.cr0 & CR0_PE) && m->cpu.rip <= UINT32_MAX + 0x200ull;
}

int main(int argc, char **argv)
{
	static struct machine m;
	static const struct cpu_env no_env;
	uint64_t seed = 1, cases = 3000;
	unsigned passed = 0, failed = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--cases") == 0)
			cases = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 0);
	}
	if (memory_init(&m.memory, MEMORY_SIZE) < 0 || cpuid_build(&m.cpuid, 1) < 0 ||
	    cpu_init(&m.cpu, &m.memory, &no_env, NULL, &m.cpuid, 0) < 0)
		return 1;
	m.image_fd = memfd_create("kernel", 0);
	m.initrd_fd = memfd_create("initrd", 0);
	rng = seed * 0x9e3779b97f4a7c15ull | 1;

	for (unsigned kind = 0; kind < KINDS; kind++) {
		unsigned bad = 0, loaded = 0;
		bool accepted;

		for (uint64_t i = 0; i < cases; i++) {
			uint64_t size = IMAGE_SIZE, interesting = good(kind, m.image);

			if (i)
				damage(kind, m.image, interesting, &size);
			bad += !try(&m, size, &accepted);
			loaded += accepted;
		}
		printf("%s - %s: %llu damaged images, %u of them still loaded\n", bad || !loaded ? "not ok" : "ok",
		       kind_name[kind], (unsigned long long)cases, loaded);
		passed += !bad && loaded;
		failed += bad || !loaded;
	}
	cpu_free(&m.cpu);
	memory_free(&m.memory);
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
