/*
 * Guest physical memory: RAM from one memfd, GPA -> HVA, and a byte of state per page.
 *
 * RAM is [0, low) but for the VGA window, and [4 GiB, 4 GiB + high), all backed by one contiguous
 * host mapping.
 * Accessors take an address and a length and can fail; nothing else turns a GPA into a pointer.
 * Threads: RAM itself is shared by all threads like real memory. Page state is atomic.
 */
#ifndef RINGSIDE_MEMORY_H
#define RINGSIDE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ull
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define MEMORY_LOW_MAX 0xc0000000ull /* RAM below 4 GiB ends here at most; above it is device space */
#define MEMORY_HIGH_BASE 0x100000000ull
/* As on every PC, no RAM here: Linux looks for a text screen by writing to it and reading it back. */
#define MEMORY_VGA_BASE 0xa0000ull
#define MEMORY_VGA_END 0xc0000ull

enum page_state {
	PAGE_HAS_CODE = 1, /* translated code was made from this page: stores must be noticed */
	PAGE_DIRTY = 2,    /* written since the dirty log was last read (snapshots, migration) */
	PAGE_UNCOMPARED = 4, /* written by a vCPU since the check engine last compared it */
};

struct memory {
	int fd;           /* the memfd */
	uint8_t *base;    /* host mapping of all of RAM: low part first, high part right behind it */
	uint64_t size;    /* bytes of RAM, a multiple of PAGE_SIZE */
	uint64_t low;     /* bytes of it below 4 GiB */
	uint8_t *state;   /* one enum page_state set a page, indexed by RAM offset >> PAGE_SHIFT */
	/* Called when bytes of a PAGE_HAS_CODE page have been changed by anything but a vCPU's own store
	 * (DMA, boot, paravirtual clock), from any thread; set by the engine. NULL: nobody cares. */
	void (*code_write)(void *opaque, uint64_t gpa, uint64_t len);
	void *code_write_opaque;
	/* Around every change by memory_write and memory_fill, set by an engine that keeps a second copy of
	 * RAM; it may hold a lock in between. NULL: nobody cares. */
	void (*write_begin)(void *opaque);
	void (*write_end)(void *opaque, uint64_t gpa, uint64_t len);
	void *write_opaque;
};

/* 0, or -errno (-ENOMEM when the host cannot provide `size` bytes). */
int memory_init(struct memory *m, uint64_t size);
void memory_free(struct memory *m);

/* Blocks of memory besides RAM that the guest can reach where they are mapped: ROM, flash, a screen's memory. They lie
 * behind RAM in the same host mapping, have page states, and code in them is translated like any other. Mapped over RAM
 * or a window without RAM, a block hides what was there. A store to one that is mapped read-only goes to the memory bus.
 *
 * memory_add_block: while the machine is built; the block's offset in m->base, page-aligned, all zero. 0, -ENOSPC, -ENOMEM.
 * memory_map, memory_unmap: under vm->lock or while the machine is built; whole pages. The vCPUs forget what they knew
 * of the range before they next run guest code (others at their next kick). 0, -EINVAL, -ENOSPC. */
int memory_add_block(struct memory *m, uint64_t size, uint64_t *offset);
int memory_map(struct memory *m, uint64_t gpa, uint64_t len, uint64_t offset, bool readonly);
void memory_unmap(struct memory *m, uint64_t gpa, uint64_t len);

#define MEMORY_NOT_RAM UINT64_MAX
/* Offset into RAM of [gpa, gpa+len), or MEMORY_NOT_RAM unless all of it is RAM in one part. */
static inline uint64_t memory_offset(const struct memory *m, uint64_t gpa, uint64_t len)
{
	if (gpa < m->low && len <= m->low - gpa)
		return gpa < MEMORY_VGA_END && gpa + len > MEMORY_VGA_BASE ? MEMORY_NOT_RAM : gpa;
	uint64_t high = gpa - MEMORY_HIGH_BASE, high_size = m->size - m->low;
	if (gpa >= MEMORY_HIGH_BASE && high < high_size && len <= high_size - high)
		return m->low + high;
	return MEMORY_NOT_RAM;
}

/* Pointer to [gpa, gpa+len), or NULL unless all of it is RAM. Writers through the pointer must
 * call memory_written (or have checked the page state) themselves. */
static inline uint8_t *memory_hva(const struct memory *m, uint64_t gpa, uint64_t len)
{
	uint64_t off = memory_offset(m, gpa, len);
	return off == MEMORY_NOT_RAM ? NULL : m->base + off;
}

/* The GPA of RAM offset `off`. */
static inline uint64_t memory_offset_to_gpa(const struct memory *m, uint64_t off)
{
	return off < m->low ? off : off - m->low + MEMORY_HIGH_BASE;
}

/* For devices, loaders and host services (not for vCPUs' own accesses): copy, marking dirty and
 * telling the engine of changed code. 0, or -EFAULT if any byte is not RAM (nothing is copied). */
int memory_read(const struct memory *m, uint64_t gpa, void *buf, uint64_t len);
int memory_write(struct memory *m, uint64_t gpa, const void *buf, uint64_t len);
/* One byte, atomically; *old is what it was. */
int memory_exchange8(struct memory *m, uint64_t gpa, uint8_t value, uint8_t *old);
int memory_fill(struct memory *m, uint64_t gpa, uint8_t byte, uint64_t len);
/* [gpa, gpa+len), RAM, was just changed through a pointer: marks it dirty, tells the engine of changed code. Nothing
 * where it is not RAM. */
void memory_written(struct memory *m, uint64_t gpa, uint64_t len);

#endif
