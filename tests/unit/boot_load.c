/*
 * The loaders: what a kernel of each boot protocol finds in memory and in its registers, and that the
 * loader's structures, the kernel and the initrd never lie on top of each other. (Damaged images are
 * tests/fuzz/boot_images.c's.)
 */
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "dev_fixture.h"
#include "mem/memory.h"

#define MIB (1ull << 20)
#define RSDP 0xe0000
#define KERNEL_MAX 65536u

static struct memory memory;
static struct cpu cpu;
static struct cpuid_table cpuid;
static uint8_t image[KERNEL_MAX];
static int kernel_fd, initrd_fd;
static char error[256];

static void put(uint32_t at, uint64_t v, unsigned n) { memcpy(image + at, &v, n); }

static uint64_t at(uint64_t gpa, unsigned n)
{
	uint64_t v = 0;

	CHECK_EQ(memory_read(&memory, gpa, &v, n), 0);
	return v;
}

static bool text_at(uint64_t gpa, const char *text)
{
	char s[256];

	return memory_read(&memory, gpa, s, strlen(text) + 1) == 0 && !strcmp(s, text);
}

static uint8_t pattern(uint64_t i) { return (uint8_t)(i * 7 + (i >> 8) + 1); }

static bool pattern_at(uint64_t gpa, uint64_t len)
{
	const uint8_t *p = memory_hva(&memory, gpa, len);

	for (uint64_t i = 0; p && i < len; i++)
		if (p[i] != pattern(i))
			return false;
	return p;
}

/* Guest memory of that size, and an initrd with a pattern in it (0: none). */
static void start(uint64_t memory_size, uint64_t initrd_size)
{
	static const struct cpu_env no_env;

	memset(image, 0, sizeof image);
	if (memory_init(&memory, memory_size) < 0 || cpu_init(&cpu, &memory, &no_env, NULL, &cpuid, 0) < 0 ||
	    ftruncate(kernel_fd, 0) < 0 || ftruncate(initrd_fd, (off_t)initrd_size) < 0)
		exit(1);
	for (uint64_t i = 0; i < initrd_size; i += 4096) {
		uint8_t page[4096];

		for (unsigned j = 0; j < 4096; j++)
			page[j] = pattern(i + j);
		if (pwrite(initrd_fd, page, initrd_size - i < 4096 ? initrd_size - i : 4096, (off_t)i) < 0)
			exit(1);
	}
}

static void stop(void)
{
	cpu_free(&cpu);
	memory_free(&memory);
}

static int load(uint64_t size, bool initrd, const char *append)
{
	char kernel_path[64], initrd_path[64];
	const struct boot_config config = {
		.kernel = kernel_path, .initrd = initrd ? initrd_path : NULL, .append = append, .rsdp = RSDP};

	snprintf(kernel_path, sizeof kernel_path, "/proc/self/fd/%d", kernel_fd);
	snprintf(initrd_path, sizeof initrd_path, "/proc/self/fd/%d", initrd_fd);
	if (pwrite(kernel_fd, image, size, 0) != (ssize_t)size)
		exit(1);
	cpu_reset(&cpu, false);
	error[0] = '\0';
	return boot_load(&memory, &cpu, &config, error, sizeof error);
}

static void check_segments(uint64_t code_descriptor)
{
	CHECK_EQ(cpu.seg[CS].selector, 0x10);
	CHECK_EQ(cpu.seg[DS].selector, 0x18);
	CHECK_EQ(cpu.seg[SS].selector, 0x18);
	CHECK_EQ(cpu.seg[CS].limit, 0xffffffff);
	CHECK_EQ(at(cpu.gdtr.base + 0x10, 8), code_descriptor);
	CHECK_EQ(at(cpu.gdtr.base + 0x18, 8), 0x00cf93000000ffff);
	CHECK_EQ(at(cpu.gdtr.base + 0x20, 8), 0x00008b0000000067);
	CHECK_EQ(at(cpu.gdtr.base, 8) | at(cpu.gdtr.base + 8, 8), 0);
	CHECK_EQ(cpu.gdtr.limit, 39);
	/* What the processor holds is what it would load from there. */
	for (unsigned s = 0; s < SREG_COUNT; s++) {
		uint64_t d = s == CS ? code_descriptor : 0x00cf93000000ffff;

		CHECK_EQ(cpu.seg[s].base, 0);
		CHECK_EQ(cpu.seg[s].limit, 0xffffffff);
		CHECK_EQ(cpu.seg[s].attr & 0xf0ff, d >> 40 & 0xf0ff);
	}
	CHECK_EQ(cpu.tr.selector, 0x20);
	CHECK_EQ(cpu.tr.limit, 0x67);
	CHECK_EQ(cpu.tr.attr & 0xff, 0x8b);
	CHECK_EQ(cpu.idtr.limit, 0);
	CHECK_EQ(cpu.rflags, RFLAGS_FIXED);
}

/* ---- Linux ---- */

static void linux_image(bool wide)
{
	put(0x1f1, 4, 1);
	put(0x1f4, (KERNEL_MAX - 5 * 512) / 16, 4);
	put(0x1fe, 0xaa55, 2);
	put(0x200, 0x6aeb, 2);
	memcpy(image + 0x202, "HdrS", 4);
	put(0x206, 0x20f, 2);
	put(0x210, 0x33, 1);
	put(0x211, 0x81, 1);
	put(0x22c, 0x7fffffff, 4);
	put(0x230, 0x200000, 4);
	put(0x234, 1, 1);
	put(0x236, wide, 2);
	put(0x238, 100, 4);
	put(0x258, 0x1000000, 8);
	put(0x260, 0x180000, 4);
	for (uint32_t i = 5 * 512; i < KERNEL_MAX; i++)
		image[i] = pattern(i - 5 * 512);
}

/* Walks the four-level tables of 2 MiB pages. */
static uint64_t translated(uint64_t va)
{
	uint64_t e = at(cpu.cr3 + (va >> 39 & 511) * 8, 8);

	e = at((e & ~0xfffull) + (va >> 30 & 511) * 8, 8);
	e = at((e & ~0xfffull) + (va >> 21 & 511) * 8, 8);
	CHECK_EQ(e & 0x83, 0x83);
	return (e & ~0x1fffffull) | (va & 0x1fffff);
}

static void check_zero_page(uint64_t zero, uint64_t initrd_size, uint64_t memory_size)
{
	static const struct { uint64_t base, end; uint32_t type; } map[] = {
		{0, 0x9fc00, 1}, {0x9fc00, 0xa0000, 2}, {0xe0000, MIB, 2}};

	CHECK_EQ(at(zero + 0x202, 4), 0x53726448);
	CHECK_EQ(at(zero + 0x1ef, 1), 0); /* else Linux takes it for rubbish */
	CHECK_EQ(at(zero + 0x210, 1), 0xff);
	CHECK_EQ(at(zero + 0x211, 1), 1);
	CHECK_EQ(at(zero + 0x070, 8), RSDP);
	CHECK(text_at(at(zero + 0x228, 4), "console=ttyS0 x"));
	CHECK_EQ(at(zero + 0x21c, 4), initrd_size);
	CHECK(pattern_at(at(zero + 0x218, 4), initrd_size));
	CHECK_EQ(at(zero + 0x1e8, 1), 4);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(at(zero + 0x2d0 + i * 20, 8), map[i].base);
		CHECK_EQ(at(zero + 0x2d8 + i * 20, 8), map[i].end - map[i].base);
		CHECK_EQ(at(zero + 0x2e0 + i * 20, 4), map[i].type);
	}
	CHECK_EQ(at(zero + 0x2d0 + 60, 8), MIB);
	CHECK_EQ(at(zero + 0x2d8 + 60, 8), memory_size - MIB);
}

static void linux_protocols(void)
{
	start(64 * MIB, 5000);
	linux_image(true);
	CHECK_EQ(load(sizeof image, true, "console=ttyS0 x"), 0);
	CHECK_EQ(cpu.rip, 0x1000200);
	CHECK_EQ(cpu.cr0 & (CR0_PG | CR0_PE), CR0_PG | CR0_PE);
	CHECK_EQ(cpu.efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
	CHECK(pattern_at(0x1000000, KERNEL_MAX - 5 * 512));
	check_segments(0x00af9b000000ffff);
	check_zero_page(cpu.gpr[RSI], 5000, 64 * MIB);
	CHECK_EQ(at(cpu.gpr[RSI] + 0x214, 4), 0x1000000);
	CHECK_EQ(at(cpu.gpr[RSI] + 0x218, 4), 64 * MIB - 8192);
	for (uint64_t va = 0; va < 1ull << 32; va += 0x7fff123)
		CHECK_EQ(translated(va), va);
	/* A command line of the longest that the kernel takes, and one more. */
	char line[102];
	memset(line, 'a', 101);
	line[101] = '\0';
	CHECK(load(sizeof image, false, line) < 0 && strstr(error, "--append"));
	CHECK_EQ(load(sizeof image, false, line + 1), 0);
	CHECK(text_at(at(cpu.gpr[RSI] + 0x228, 4), line + 1));
	CHECK_EQ(at(cpu.gpr[RSI] + 0x218, 8), 0);
	stop();

	/* 32-bit. Where the preferred address is behind the end of memory the kernel would move there. */
	start(8 * MIB, 100);
	linux_image(false);
	CHECK(load(sizeof image, true, NULL) < 0 && strstr(error, "does not fit"));
	put(0x258, 0x200000, 8);
	CHECK_EQ(load(sizeof image, true, "console=ttyS0 x"), 0);
	CHECK_EQ(cpu.rip, 0x200000);
	CHECK_EQ(cpu.cr0 & (CR0_PG | CR0_PE), CR0_PE);
	CHECK_EQ(cpu.gpr[RBX] | cpu.gpr[RBP] | cpu.gpr[RDI], 0);
	CHECK(pattern_at(0x200000, KERNEL_MAX - 5 * 512));
	check_segments(0x00cf9b000000ffff);
	check_zero_page(cpu.gpr[RSI], 100, 8 * MIB);
	stop();

	/* The initrd keeps clear of all that the kernel needs, to the page. */
	start(8 * MIB, 8 * MIB - 0x380000);
	linux_image(true);
	put(0x258, 0x200000, 8);
	CHECK_EQ(load(sizeof image, true, ""), 0);
	CHECK_EQ(at(cpu.gpr[RSI] + 0x218, 4), 0x380000);
	stop();
	start(8 * MIB, 8 * MIB - 0x380000 + 1);
	linux_image(true);
	put(0x258, 0x200000, 8);
	CHECK(load(sizeof image, true, "") < 0 && strstr(error, "initrd"));
	stop();
}

/* RAM above 4 GiB is in the map, and boot structures stay below. */
static void high_memory(void)
{
	struct memory m;

	if (memory_init(&m, MEMORY_LOW_MAX + 32 * MIB) < 0)
		return; /* not on this host */
	memory_free(&m);
	start(MEMORY_LOW_MAX + 32 * MIB, 5000);
	linux_image(true);
	CHECK_EQ(load(sizeof image, true, ""), 0);
	uint64_t zero = cpu.gpr[RSI];
	CHECK_EQ(at(zero + 0x1e8, 1), 5);
	CHECK_EQ(at(zero + 0x2d0 + 3 * 20 + 8, 8), MEMORY_LOW_MAX - MIB);
	CHECK_EQ(at(zero + 0x2d0 + 4 * 20, 8), MEMORY_HIGH_BASE);
	CHECK_EQ(at(zero + 0x2d0 + 4 * 20 + 8, 8), 32 * MIB);
	CHECK_EQ(at(zero + 0x218, 4), 0x80000000 - 8192); /* as high as the kernel allows */
	stop();
}

/* ---- Multiboot ---- */

static void multiboot_image(uint32_t load_at, uint32_t bss_end)
{
	put(0, 0x1badb002, 4);
	put(4, 0x10003, 4);
	put(8, -(0x1badb002u + 0x10003u), 4);
	put(12, load_at, 4);
	put(16, load_at, 4);
	put(24, bss_end, 4);
	put(28, load_at + 32, 4);
	for (uint32_t i = 32; i < KERNEL_MAX; i++)
		image[i] = pattern(i - 32);
}

static void check_multiboot(uint64_t memory_size, uint64_t initrd_size)
{
	uint64_t info = cpu.gpr[RBX], map = at(info + 48, 4), end = map + at(info + 44, 4), ram = 0;

	CHECK_EQ(cpu.gpr[RAX], 0x2badb002);
	CHECK_EQ(at(info, 4), 0x24d);
	CHECK_EQ(at(info + 4, 4), 639);
	CHECK_EQ(at(info + 8, 4), (memory_size - MIB) / 1024);
	CHECK(text_at(at(info + 16, 4), "a b"));
	CHECK_EQ(at(info + 20, 4), 1);
	uint64_t module = at(info + 24, 4);
	CHECK_EQ(at(module, 4) % 4096, 0);
	CHECK_EQ(at(module + 4, 4) - at(module, 4), initrd_size);
	CHECK(pattern_at(at(module, 4), initrd_size));
	for (; map < end; map += at(map, 4) + 4)
		if (at(map + 20, 4) == 1)
			ram += at(map + 12, 8);
	CHECK_EQ(map, end);
	CHECK_EQ(ram, memory_size - MIB + 0x9fc00);
}

static void multiboot(void)
{
	start(16 * MIB, 12345);
	multiboot_image(0x100000, 0x180000);
	memory_fill(&memory, 0x100000, 0xee, 0x100000);
	CHECK_EQ(load(sizeof image, true, "a b"), 0);
	CHECK_EQ(cpu.rip, 0x100020);
	CHECK_EQ(cpu.cr0 & (CR0_PG | CR0_PE), CR0_PE);
	CHECK(pattern_at(0x100020, KERNEL_MAX - 32));
	CHECK_EQ(at(0x100000 + KERNEL_MAX, 8), 0);
	CHECK_EQ(at(0x17ffff, 1), 0);
	CHECK_EQ(at(0x180000, 1), 0xee);
	check_segments(0x00cf9b000000ffff);
	check_multiboot(16 * MIB, 12345);
	stop();

	/* A kernel where the loader's structures would be: they go behind it, and the module not over them. */
	for (uint64_t pages = 252; pages <= 256; pages++) {
		start(2 * MIB, pages * 4096);
		multiboot_image(0x10000, 0);
		int r = load(sizeof image, true, "a b");
		CHECK(r == 0 || strstr(error, "memory"));
		CHECK_EQ(r == 0, pages <= 254);
		if (r == 0) {
			CHECK(pattern_at(0x10020, KERNEL_MAX - 32));
			check_segments(0x00cf9b000000ffff);
			check_multiboot(2 * MIB, pages * 4096);
		}
		stop();
	}
}

/* A 32-bit ELF image with a Multiboot header behind its two segments' headers. */
static void multiboot_elf(void)
{
	start(16 * MIB, 1);
	memcpy(image, "\177ELF\1\1\1", 7);
	put(16, 2, 2), put(18, 3, 2), put(24, 0x200010, 4), put(28, 52, 4), put(42, 32, 2), put(44, 2, 2);
	put(52, 1, 4), put(52 + 4, 0x1000, 4), put(52 + 12, 0x200000, 4), put(52 + 16, 0x800, 4), put(52 + 20, 0x2000, 4);
	put(84, 1, 4), put(84 + 4, 0x3000, 4), put(84 + 12, 0x300000, 4), put(84 + 16, 0x100, 4), put(84 + 20, 0x100, 4);
	put(512, 0x1badb002, 4), put(516, 3, 4), put(520, -(0x1badb002u + 3u), 4);
	for (uint32_t i = 0; i < 0x800; i++)
		image[0x1000 + i] = image[0x3000 + i] = pattern(i);
	memory_fill(&memory, 0x200000, 0xee, 0x3000);
	CHECK_EQ(load(sizeof image, true, "a b"), 0);
	CHECK_EQ(cpu.rip, 0x200010);
	CHECK(pattern_at(0x200000, 0x800));
	CHECK_EQ(at(0x200800, 8), 0);
	CHECK_EQ(at(0x201fff, 1), 0);
	CHECK_EQ(at(0x202000, 1), 0xee);
	CHECK(pattern_at(0x300000, 0x100));
	check_segments(0x00cf9b000000ffff);
	check_multiboot(16 * MIB, 1);
	CHECK(text_at(at(cpu.gpr[RBX] + 64, 4), "Ringside"));
	char name[16];
	snprintf(name, sizeof name, "%d", initrd_fd); /* the module's string: its file's name */
	CHECK(text_at(at(at(cpu.gpr[RBX] + 24, 4) + 8, 4), name));
	for (unsigned i = 0; i < GPR_COUNT; i++)
		CHECK(i == RAX || i == RBX || cpu.gpr[i] == 0);
	put(16, 1, 2); /* an object file */
	CHECK(load(sizeof image, false, NULL) < 0 && strstr(error, "not executable"));
	put(16, 2, 2), put(52 + 16, 0x2001, 4); /* more in the file than in memory */
	CHECK(load(sizeof image, false, NULL) < 0);
	stop();
}

/* ---- PVH ---- */

static void pvh(void)
{
	start(16 * MIB, 777);
	memcpy(image, "\177ELF\2\1\1", 7);
	put(16, 2, 2), put(18, 62, 2), put(32, 64, 8), put(54, 56, 2), put(56, 2, 2);
	put(64, 1, 4), put(64 + 8, 0x2000, 8), put(64 + 24, 0x200000, 8), put(64 + 32, 0x1000, 8),
		put(64 + 40, 0x3000, 8);
	put(120, 4, 4), put(120 + 8, 0x1000, 8), put(120 + 32, 40, 8);
	put(0x1000, 4, 4), put(0x1004, 0, 4), put(0x1008, 6, 4), memcpy(image + 0x100c, "Xen", 4); /* another note */
	put(0x1010, 4, 4), put(0x1014, 8, 4), put(0x1018, 18, 4), memcpy(image + 0x101c, "Xen", 4);
	put(0x1020, 0x200040, 8);
	for (uint32_t i = 0; i < 0x1000; i++)
		image[0x2000 + i] = pattern(i);
	memory_fill(&memory, 0x200000, 0xee, 0x4000);
	CHECK_EQ(load(sizeof image, true, "quiet"), 0);
	CHECK_EQ(cpu.rip, 0x200040);
	CHECK_EQ(cpu.cr0 & (CR0_PG | CR0_PE), CR0_PE);
	CHECK(pattern_at(0x200000, 0x1000));
	CHECK_EQ(at(0x201000, 8), 0);
	CHECK_EQ(at(0x202fff, 1), 0);
	CHECK_EQ(at(0x203000, 1), 0xee);
	check_segments(0x00cf9b000000ffff);
	uint64_t info = cpu.gpr[RBX], module = at(info + 16, 8), map = at(info + 40, 8);
	CHECK_EQ(at(info, 4), 0x336ec578);
	CHECK_EQ(at(info + 4, 4), 1);
	CHECK_EQ(at(info + 12, 4), 1);
	CHECK(text_at(at(info + 24, 8), "quiet"));
	CHECK_EQ(at(info + 32, 8), RSDP);
	CHECK_EQ(at(module + 8, 8), 777);
	CHECK(pattern_at(at(module, 8), 777));
	CHECK_EQ(at(info + 48, 4), 4);
	CHECK_EQ(at(map + 3 * 24, 8), MIB);
	CHECK_EQ(at(map + 3 * 24 + 8, 8), 15 * MIB);
	CHECK_EQ(at(map + 3 * 24 + 16, 4), 1);
	CHECK_EQ(at(map + 24 + 16, 4), 2);
	/* No entry note: said in one line. */
	put(0x1018, 17, 4);
	CHECK(load(sizeof image, false, NULL) < 0 && strstr(error, "PVH") && !strchr(error, '\n'));
	stop();
}

int main(void)
{
	kernel_fd = memfd_create("kernel", 0);
	initrd_fd = memfd_create("initrd", 0);
	if (kernel_fd < 0 || initrd_fd < 0 || cpuid_build(&cpuid, 1) < 0)
		return 1;
	linux_protocols();
	high_memory();
	multiboot();
	multiboot_elf();
	pvh();
	return summary();
}
