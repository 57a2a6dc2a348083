/*
 * Where a vCPU may have changed RAM: every store that goes through mmu.h, and every accessed and dirty
 * bit that a page walk sets, noted before it happens. For an engine that compares memory; the vCPU's
 * thread only. Stores that generated code does itself are not in it.
 */
#ifndef RINGSIDE_STORE_LOG_H
#define RINGSIDE_STORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define STORE_LOG_MAX 512

struct store {
	uint8_t *hva;
	uint32_t size;
	bool entry; /* accessed and dirty bits of a page table entry */
};

struct store_log {
	unsigned count;
	unsigned entries; /* how many of them are page table entries */
	bool overflow;    /* there were more: the pages' PAGE_UNCOMPARED tells */
	struct store store[STORE_LOG_MAX];
};

static inline void store_log_empty(struct store_log *log)
{
	log->count = log->entries = 0;
	log->overflow = false;
}

/* A run of bytes that touches the last one, or lies in it, is joined to it. */
void store_log_add(struct store_log *log, void *hva, unsigned size, bool entry);

#endif
