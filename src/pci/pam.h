/*
 * Programmable attribute map: whether reads and writes of 0xc0000-0xfffff go to RAM, or to the ROM that lies behind it.
 * The same seven registers in the i440FX (0x59-0x5f) and in q35's MCH (0x90-0x96); a host bridge hands them over.
 *
 * Called under vm->lock. Source: Intel 440FX PCIset data sheet (290549), 3.2.18 "PAM".
 */
#ifndef RINGSIDE_PAM_H
#define RINGSIDE_PAM_H

#include <stdint.h>

#define PAM_REGISTERS 7
#define PAM_SEGMENTS 13 /* 0xf0000-0xfffff, then 16 KiB each from 0xc0000 on */

struct bus;
struct memory;

struct pam {
	struct memory *memory;
	/* The ROM's part that is seen up to 1 MiB, in the host mapping; rom_size 0: there is none. */
	uint64_t rom_offset, rom_size;
	uint8_t attributes[PAM_SEGMENTS];
	uint64_t mapped[PAM_SEGMENTS]; /* offset that hides RAM there, or PAM_RAM */
};

/* All of it is RAM, as without firmware, and as firmware leaves it. 0, -EEXIST, -ENOSPC. */
int pam_init(struct pam *p, struct memory *memory, struct bus *mmio);
/* There is a ROM, whose last bytes (up to 128 KiB) are seen below 1 MiB, and nothing is RAM yet: a machine's reset. */
void pam_set_rom(struct pam *p, uint64_t rom_offset, uint64_t rom_size);
/* Register n, 0 to 6, was written. */
uint8_t pam_register(const struct pam *p, unsigned n); /* what it reads now */
void pam_write(struct pam *p, unsigned n, uint8_t value);

#endif
