/*
 * Loading of guests: opens the files, finds out the kernel's format, and leaves the rest to the
 * format's own file. Also what these share: errors, bounds-checked reads, room in guest memory.
 *
 * Thread: the one that builds the VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/acpi.h"
#include "boot/loader.h"
#include "sandbox/sandbox.h"
#include "util/log.h"

/* The loader's structures go here unless the kernel wants to be there: above the real mode vectors,
 * the BIOS data area and the page that old boot code uses, below the extended BIOS data area. */
#define LOADER_LOW_BASE 0x6000ull
#define LOADER_LOW_END 0x9f000ull
#define EBDA_BASE 0x9fc00ull
#define MIB 0x100000ull

int loader_fail(struct loader *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->error, l->error_size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int image_open(struct loader *l, struct image *image, const char *path)
{
	struct stat st;

	image->path = path;
	/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
	image->fd = sandbox_open(path, O_RDONLY | O_NONBLOCK);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		return loader_fail(l, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return loader_fail(l, "%s: not a regular file", path);
	image->size = (uint64_t)st.st_size;
	return 0;
}

int image_read(struct loader *l, const struct image *image, uint64_t offset, void *buf, uint64_t len)
{
	uint8_t *p = buf;

	if (offset > image->size || len > image->size - offset)
		return loader_fail(l, "%s: truncated: %llu bytes are wanted at offset %llu, the file has %llu",
				   image->path, (unsigned long long)len, (unsigned long long)offset,
				   (unsigned long long)image->size);
	while (len > 0) {
		ssize_t n = pread(image->fd, p, len < 1u << 30 ? len : 1u << 30, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return loader_fail(l, "%s: %s", image->path, strerror(errno));
		if (n == 0)
			return loader_fail(l, "%s: truncated while it was read", image->path);
		p += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int image_load(struct loader *l, const struct image *image, uint64_t offset, uint64_t gpa, uint64_t len)
{
	if (len == 0)
		return 0;
	uint8_t *hva = memory_hva(l->memory, gpa, len);
	if (!hva)
		return loader_fail(l, "%s: does not fit in memory (%llu bytes at %#llx, guest memory is %llu MiB)",
				   image->path, (unsigned long long)len, (unsigned long long)gpa,
				   (unsigned long long)(l->memory->size >> 20));
	/* No vCPU runs and no code is translated yet: writing through the pointer needs no one told. */
	return image_read(l, image, offset, hva, len);
}

void loader_claim(struct loader *l, uint64_t base, uint64_t end)
{
	if (end > l->image_end)
		l->image_end = end;
	if (base < l->alloc_end && end > l->alloc_next && l->alloc_end == LOADER_LOW_END) {
		l->alloc_next = 0; /* found when something is allocated, behind the kernel */
		l->alloc_end = l->memory->low;
	}
}

int loader_alloc(struct loader *l, uint64_t len, uint64_t *gpa)
{
	uint64_t next = l->alloc_next;

	if (next == 0)
		next = ((l->image_end > MIB ? l->image_end : MIB) + PAGE_SIZE - 1) & PAGE_MASK;
	if (next > l->alloc_end || len > l->alloc_end - next)
		return loader_fail(l, "%s: no room left in guest memory (%llu MiB) for boot information",
				   l->kernel.path, (unsigned long long)(l->memory->size >> 20));
	*gpa = next;
	l->alloc_next = (next + len + PAGE_SIZE - 1) & PAGE_MASK;
	return memory_fill(l->memory, *gpa, 0, len);
}

int loader_place_initrd(struct loader *l, uint64_t limit, uint64_t *gpa)
{
	uint64_t end = limit < l->memory->low ? limit : l->memory->low;
	uint64_t start = l->image_end > MIB ? l->image_end : MIB;

	if (l->alloc_end == l->memory->low && l->alloc_next > start)
		start = l->alloc_next;
	start = (start + PAGE_SIZE - 1) & PAGE_MASK;
	end &= PAGE_MASK;
	uint64_t room = (l->initrd.size + PAGE_SIZE - 1) & PAGE_MASK;
	if (start > end || room > end - start || room < l->initrd.size)
		return loader_fail(l, "%s: initrd of %llu bytes does not fit in memory (%llu MiB) behind the kernel",
				   l->initrd.path, (unsigned long long)l->initrd.size,
				   (unsigned long long)(l->memory->size >> 20));
	*gpa = end - room;
	if (l->alloc_end > *gpa) /* what is allocated after this stays below it */
		l->alloc_end = *gpa;
	return image_load(l, &l->initrd, 0, *gpa, l->initrd.size);
}

static void e820_add(struct loader *l, uint64_t base, uint64_t end, enum e820_type type)
{
	if (end > base)
		l->e820[l->e820_count++] = (struct e820_entry){base, end - base, type};
}

static void e820_build(struct loader *l)
{
	const struct memory *m = l->memory;

	e820_add(l, 0, EBDA_BASE, E820_RAM);
	e820_add(l, EBDA_BASE, MEMORY_VGA_BASE, E820_RESERVED);
	e820_add(l, ACPI_BASE, MIB, E820_RESERVED);
	e820_add(l, MIB, m->low, E820_RAM);
	e820_add(l, MEMORY_HIGH_BASE, MEMORY_HIGH_BASE + (m->size - m->low), E820_RAM);
}

/* Which format it is, by what the file's head says of itself. */
static int load_by_format(struct loader *l)
{
	uint8_t head[LOADER_HEAD];
	uint64_t len = l->kernel.size < sizeof head ? l->kernel.size : sizeof head;
	int r = image_read(l, &l->kernel, 0, head, len);

	if (r < 0)
		return r;
	if (linux_probe(head, len))
		return linux_load(l, head, len);
	if (multiboot_probe(head, len))
		return multiboot_load(l, head, len);
	if (elf_is(head, len))
		return pvh_load(l);
	return loader_fail(
		l, "%s: not a kernel (a Linux bzImage, an ELF file with a PVH entry or a Multiboot image is wanted)",
		l->kernel.path);
}

int boot_load(struct memory *memory, struct cpu *cpu, const struct boot_config *config, char *error, size_t size)
{
	struct loader l = {
		.memory = memory,
		.cpu = cpu,
		.config = config,
		.append = config->append ? config->append : "",
		.kernel.fd = -1,
		.initrd.fd = -1,
		.alloc_next = LOADER_LOW_BASE,
		.alloc_end = LOADER_LOW_END,
		.error = error,
		.error_size = size,
	};
	int r = image_open(&l, &l.kernel, config->kernel);

	if (r == 0 && config->initrd)
		r = image_open(&l, &l.initrd, config->initrd);
	if (r == 0 && memory->low < MIB)
		r = loader_fail(&l, "guest memory of less than 1 MiB holds no kernel");
	if (r == 0) {
		e820_build(&l);
		r = load_by_format(&l);
	}
	if (r == 0)
		LOG(LOG_BOOT, "%s: enters at %#llx", config->kernel, (unsigned long long)cpu->rip);
	if (l.kernel.fd >= 0)
		close(l.kernel.fd);
	if (l.initrd.fd >= 0)
		close(l.initrd.fd);
	return r;
}
