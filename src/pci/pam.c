/*
 * Programmable attribute map. See pam.h.
 *
 * RAM that is read and written needs no mapping; what may only be read is mapped read-only, and so is ROM, or a hole
 * where there is none. Stores to those come to the bus, and so here, where a segment may take them into its RAM.
 */
#include "pci/pam.h"

#include "mem/bus.h"
#include "mem/memory.h"

#define BASE 0xc0000ull
#define END 0x100000ull
#define SEGMENT_F_BASE 0xf0000ull
#define SEGMENT_F_SIZE 0x10000ull
#define SEGMENT_SIZE 0x4000ull
#define ROM_MAX 0x20000ull

enum { READ = 1, WRITE = 2, BOTH = READ | WRITE };
#define PAM_RAM (UINT64_MAX - 1) /* no mapping */

static uint64_t segment_base(unsigned s) { return s ? BASE + (s - 1) * SEGMENT_SIZE : SEGMENT_F_BASE; }

static uint64_t segment_size(unsigned s) { return s ? SEGMENT_SIZE : SEGMENT_F_SIZE; }

/* What reads of a segment see: an offset in the host mapping. */
static uint64_t seen(const struct pam *p, unsigned s)
{
	uint64_t base = segment_base(s);

	if (p->attributes[s] & READ)
		return p->attributes[s] & WRITE ? PAM_RAM : base;
	return base >= END - p->rom_size ? p->rom_offset + (base - (END - p->rom_size)) : MEMORY_NOT_RAM;
}

static void unmap(struct pam *p, unsigned s)
{
	if (p->mapped[s] != PAM_RAM)
		memory_unmap(p->memory, segment_base(s), segment_size(s), p->mapped[s]);
	p->mapped[s] = PAM_RAM;
}

static void update(struct pam *p, unsigned s)
{
	uint64_t offset = seen(p, s);

	if (segment_base(s) + segment_size(s) > p->memory->low || offset == p->mapped[s])
		return;
	unmap(p, s);
	if (offset != PAM_RAM && memory_map(p->memory, segment_base(s), segment_size(s), offset, true) == 0)
		p->mapped[s] = offset;
}

static void set(struct pam *p, unsigned s, uint8_t attributes)
{
	p->attributes[s] = attributes & BOTH;
	update(p, s);
}

void pam_write(struct pam *p, unsigned n, uint8_t value)
{
	if (n == 0) {
		set(p, 0, value >> 4);
	} else if (n < PAM_REGISTERS) {
		set(p, 2 * n - 1, value);
		set(p, 2 * n, value >> 4);
	}
}

uint8_t pam_register(const struct pam *p, unsigned n)
{
	return (uint8_t)(n == 0 ? p->attributes[0] << 4 : p->attributes[2 * n] << 4 | p->attributes[2 * n - 1]);
}

void pam_set_rom(struct pam *p, uint64_t rom_offset, uint64_t rom_size)
{
	p->rom_size = rom_size < ROM_MAX ? rom_size : ROM_MAX;
	p->rom_offset = rom_offset + rom_size - p->rom_size;
	for (unsigned s = 0; s < PAM_SEGMENTS; s++)
		set(p, s, 0);
}

/* ---- stores that do not go to memory by themselves, and reads of what is nothing ---- */

static uint64_t hole_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return UINT64_MAX;
}

static void shadow_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pam *p = dev;
	uint64_t gpa = BASE + offset;
	unsigned s = gpa >= SEGMENT_F_BASE ? 0 : 1 + (unsigned)(offset / SEGMENT_SIZE);

	if (p->attributes[s] & WRITE && gpa + size <= p->memory->low)
		memory_block_write(p->memory, gpa, &value, size); /* RAM below 1 MiB lies at its address */
}

static const struct bus_ops ops = {.read = hole_read, .write = shadow_write};

int pam_init(struct pam *p, struct memory *memory, struct bus *mmio)
{
	*p = (struct pam){.memory = memory};
	for (unsigned s = 0; s < PAM_SEGMENTS; s++) {
		p->attributes[s] = BOTH;
		p->mapped[s] = PAM_RAM;
	}
	return bus_register(mmio, BASE, END - BASE, &ops, p, "pam");
}
