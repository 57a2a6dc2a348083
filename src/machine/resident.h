/*
 * How much of the host's memory is in use: what of a range of addresses is resident, and what of the
 * whole process. For statistics; any thread.
 */
#ifndef RINGSIDE_RESIDENT_H
#define RINGSIDE_RESIDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the pages of [start, start + size) that are in memory. Pages that lie partly in it count as
 * far as they do. 0 if the range is not mapped. */
uint64_t resident_range(const void *start, size_t size);

/* Bytes of all the process's pages that are in memory, each once however often it is mapped here, and of the
 * host kernel's page tables for them. Libraries count in full, though others may share them. False: the host
 * does not say. */
bool resident_process(uint64_t *bytes, uint64_t *page_tables);

#endif
