/*
 * Guest physical memory: RAM and what else is memory to the guest, from one memfd; GPA -> HVA; a byte of state per page.
 *
 * RAM is [0, low) but for the VGA window, and [4 GiB, 4 GiB + high), all backed by one contiguous
 * host mapping. Behind RAM in it lie blocks: ROM, flash, a screen's memory, which the guest sees where they are mapped.
 * An offset into the host mapping names a byte for good, wherever, and in however many places, it is mapped.
 * Accessors take an address and a length and can fail; nothing else turns a GPA into a pointer.
 * Threads: memory itself is shared by all threads like real memory. Page state is atomic. Mappings change under
 * vm->lock, and are looked up by any thread without it. What the engine is told by may change while devices run,
 * between memory_hold and memory_release.
 */
#ifndef RINGSIDE_MEMORY_H
#define RINGSIDE_MEMORY_H

#include <pthread.h>
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
#define MEMORY_OVERLAY_END 0x100000ull /* from the VGA window up to here a mapping hides RAM; elsewhere RAM comes first */
#define MEMORY_BLOCKS_MAX (512ull << 20) /* bytes of all blocks */
#define MEMORY_MAPS_MAX 96u

enum page_state {
	PAGE_HAS_CODE = 1, /* translated code was made from this page: stores must be noticed */
	PAGE_DIRTY = 2,    /* written since the dirty log was last read (snapshots, migration) */
	PAGE_UNCOMPARED = 4, /* written by a vCPU since the check engine last compared it */
};

/* [gpa, gpa+len) shows the host mapping's bytes from `offset` on; MEMORY_NOT_RAM: nothing, a window for devices. */
struct memory_map {
	uint64_t gpa, len, offset;
	bool readonly;
};

struct memory {
	int fd;           /* the memfd */
	uint8_t *base;    /* host mapping: RAM's low part, its high part right behind it, then the blocks */
	uint64_t size;    /* bytes of RAM, a multiple of PAGE_SIZE */
	uint64_t low;     /* bytes of it below 4 GiB */
	uint64_t end;     /* bytes of RAM and of the blocks there are; room is kept for memory_span() */
	uint8_t *state;   /* one enum page_state set a page, indexed by offset >> PAGE_SHIFT */
	/* Called when bytes of a PAGE_HAS_CODE page have been changed by anything but a vCPU's own store
	 * (DMA, boot, paravirtual clock), from any thread; set by the engine. NULL: nobody cares. */
	void (*code_write)(void *opaque, uint64_t offset, uint64_t len);
	void *code_write_opaque;
	/* Around every change by the functions below, set by an engine that keeps a second copy of
	 * memory; it may hold a lock in between. NULL: nobody cares. */
	void (*write_begin)(void *opaque);
	void (*write_end)(void *opaque, uint64_t offset, uint64_t len);
	void *write_opaque;
	/* Marks pages of blocks PAGE_DIRTY that vCPUs have written since it was last called, set by an engine that can tell; any
	 * thread. NULL: vCPUs mark what they write the first time, and cannot be made to do so again. */
	void (*note_written)(void *opaque);
	void *note_written_opaque;
	pthread_rwlock_t engine_lock; /* held for reading in the functions above, for writing while they are set */
	uint32_t direct;              /* spans by which devices are writing to RAM itself (mem/dma.h); atomic */
	/* Mappings have changed: vCPUs have to come out of the guest and look (memory_maps_changed). Set by the machine. */
	void (*remapped)(void *opaque);
	void *remapped_opaque;
	struct memory_map map[MEMORY_MAPS_MAX]; /* as asked for, the oldest first */
	unsigned maps;
	/* What is seen of them: disjoint, sorted. Changed under maps_version, which is odd meanwhile. */
	struct memory_map view[2 * MEMORY_MAPS_MAX];
	unsigned views;
	uint32_t maps_version;
};

/* 0, or -errno (-ENOMEM when the host cannot provide `size` bytes). */
int memory_init(struct memory *m, uint64_t size);
/* With at most `low` bytes of RAM below 4 GiB, a multiple of PAGE_SIZE up to MEMORY_LOW_MAX. */
int memory_init_low(struct memory *m, uint64_t size, uint64_t low);
void memory_free(struct memory *m);
/* Between the two no thread is in a change of memory by the functions below, nor in what the engine asked to be told of
 * one; who wants to make a change waits. For replacing the engine while devices run. DMA under way writes on: `direct`. */
void memory_hold(struct memory *m);
void memory_release(struct memory *m);

/* Bytes of the host mapping, used or not: what a table by offset has to have room for. */
static inline uint64_t memory_span(const struct memory *m) { return m->size + MEMORY_BLOCKS_MAX; }

/* Blocks of memory besides RAM that the guest can reach where they are mapped: ROM, flash, a screen's memory. They
 * have page states, and code in them is translated like any other. A store to what is mapped read-only goes to the
 * memory bus, as does every access to an unmapped place.
 *
 * memory_add_block: while the machine is built; the block's offset, page-aligned, all zero. 0, -EINVAL, -ENOSPC.
 * memory_map, memory_unmap: under vm->lock or while the machine is built; whole pages; any offset, RAM's too. Between
 * the VGA window and 1 MiB a mapping hides RAM, elsewhere RAM is seen; where mappings overlap the older one is seen.
 * With offset MEMORY_NOT_RAM a mapping is a hole, where accesses go to the bus. memory_unmap takes the mapping back
 * that was made with the same address, length and offset. Every vCPU forgets what it knew before it next runs guest
 * code: the one whose access is being answered with its next instruction, others when their kick gets there.
 * 0, -EINVAL, -ENOSPC. */
int memory_add_block(struct memory *m, uint64_t size, uint64_t *offset);
int memory_map(struct memory *m, uint64_t gpa, uint64_t len, uint64_t offset, bool readonly);
void memory_unmap(struct memory *m, uint64_t gpa, uint64_t len, uint64_t offset);
/* Makes `to` show what `from` shows: a second copy of the same memory. */
void memory_copy_maps(struct memory *to, const struct memory *from);
/* Has any mapping changed since *version was last brought up to date by this call? */
static inline bool memory_maps_changed(const struct memory *m, uint32_t *version)
{
	uint32_t now = __atomic_load_n(&m->maps_version, __ATOMIC_ACQUIRE);
	bool changed = now != *version;

	*version = now;
	return changed;
}

#define MEMORY_NOT_RAM UINT64_MAX
/* The same as memory_offset for what is not plain RAM; *readonly: part of it must not be written. */
uint64_t memory_offset_mapped(const struct memory *m, uint64_t gpa, uint64_t len, bool *readonly);
static inline uint64_t memory_offset_rights(const struct memory *m, uint64_t gpa, uint64_t len, bool *readonly)
{
	*readonly = false;
	if (gpa < m->low && len <= m->low - gpa && (gpa >= MEMORY_OVERLAY_END || gpa + len <= MEMORY_VGA_BASE))
		return gpa;
	uint64_t high = gpa - MEMORY_HIGH_BASE, high_size = m->size - m->low;
	if (gpa >= MEMORY_HIGH_BASE && high < high_size && len <= high_size - high)
		return m->low + high;
	return memory_offset_mapped(m, gpa, len, readonly);
}

/* Offset into the host mapping of [gpa, gpa+len), or MEMORY_NOT_RAM unless all of it is memory and lies together
 * there. To read from. */
static inline uint64_t memory_offset(const struct memory *m, uint64_t gpa, uint64_t len)
{
	bool readonly;

	return memory_offset_rights(m, gpa, len, &readonly);
}

/* The same to write to: what is mapped read-only is no memory. */
static inline uint64_t memory_offset_writable(const struct memory *m, uint64_t gpa, uint64_t len)
{
	bool readonly;
	uint64_t offset = memory_offset_rights(m, gpa, len, &readonly);

	return readonly ? MEMORY_NOT_RAM : offset;
}

/* Pointer to [gpa, gpa+len), to read from, or NULL unless memory_offset finds it. */
static inline uint8_t *memory_hva(const struct memory *m, uint64_t gpa, uint64_t len)
{
	uint64_t off = memory_offset(m, gpa, len);
	return off == MEMORY_NOT_RAM ? NULL : m->base + off;
}

/* The same to write to. Writers through the pointer must call memory_written (or have checked the page state)
 * themselves. */
static inline uint8_t *memory_hva_writable(const struct memory *m, uint64_t gpa, uint64_t len)
{
	uint64_t off = memory_offset_writable(m, gpa, len);
	return off == MEMORY_NOT_RAM ? NULL : m->base + off;
}

/* A GPA where the byte at `offset` is seen; of a block that is mapped nowhere: MEMORY_NOT_RAM. For messages. */
uint64_t memory_offset_to_gpa(const struct memory *m, uint64_t offset);

/* Everything that is seen as memory now: disjoint pieces by ascending address, each together in the host mapping and of
 * one kind. RAM that nothing can hide is always in pieces of its own. How many; *version is what maps_version was. */
#define MEMORY_PIECES_MAX (4 * MEMORY_MAPS_MAX + 8)
unsigned memory_pieces(const struct memory *m, struct memory_map piece[MEMORY_PIECES_MAX], uint32_t *version);

/* For devices, loaders and host services (not for vCPUs' own accesses): copy, marking dirty and
 * telling the engine of changed code. 0, or -EFAULT if any byte is no memory, or is to be written and read-only (nothing
 * is copied). */
int memory_read(const struct memory *m, uint64_t gpa, void *buf, uint64_t len);
int memory_write(struct memory *m, uint64_t gpa, const void *buf, uint64_t len);
/* One byte, atomically; *old is what it was. */
int memory_exchange8(struct memory *m, uint64_t gpa, uint8_t value, uint8_t *old);
int memory_fill(struct memory *m, uint64_t gpa, uint8_t byte, uint64_t len);
/* The whole pages in [gpa, gpa+len) are of no more use to the guest: the host gets them back, they read as zero.
 * 0, -EFAULT as memory_write, or what the host says (nothing is changed then). */
int memory_discard(struct memory *m, uint64_t gpa, uint64_t len);
/* [gpa, gpa+len) was just changed through a pointer: marks it dirty, tells the engine of changed code. Nothing
 * where it is no memory. */
void memory_written(struct memory *m, uint64_t gpa, uint64_t len);
/* The same two by offset, for whoever owns a block: mapped or not, read-only to the guest or not. */
void memory_block_write(struct memory *m, uint64_t offset, const void *buf, uint64_t len);
void memory_block_written(struct memory *m, uint64_t offset, uint64_t len);
/* May anything in these pages of a block have been written since this was last asked? For its owner. */
bool memory_block_take_written(struct memory *m, uint64_t offset, uint64_t len);

#endif
