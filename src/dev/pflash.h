/*
 * A NOR flash chip, byte-wide, with Intel's command set and CFI: where UEFI firmware keeps its variables. The guest
 * reads it as memory, and writes commands to it.
 *
 * Called under vm->lock. Sources: Intel 28F016SA and 28FxxxJ3 (StrataFlash) data sheets, command definitions; JEDEC JEP137
 * and JESD68.01, Common Flash Interface. Block locks are accepted and do not lock. The status register reads 0 after it
 * has been cleared, which is how OVMF tells a flash chip from ROM and from RAM.
 */
#ifndef RINGSIDE_PFLASH_H
#define RINGSIDE_PFLASH_H

#include <stdint.h>

#define PFLASH_SECTOR 4096u

struct bus;
struct memory;
struct pflash;

struct pflash_config {
	struct memory *memory;
	struct bus *mmio;
	uint64_t gpa, offset, size; /* where it is seen; its contents, a block of memory; whole sectors */
	/* Bytes have changed for good: [at, at+len) of the chip. */
	void (*written)(void *opaque, uint64_t at, uint64_t len);
	void *opaque;
};

/* NULL: errno. */
struct pflash *pflash_new(const struct pflash_config *config);
void pflash_free(struct pflash *f);

#endif
