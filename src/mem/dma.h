/*
 * Device access to guest memory that lasts: spans of RAM that a host service (a disk's thread, a socket)
 * reads or fills while the guest runs on.
 *
 * A span is a pointer into RAM, or, where an engine keeps a second copy of RAM and must see every change at
 * one moment, a buffer that is copied at dma_unmap. Spans of the first kind that are written through are counted
 * (memory's `direct`): such an engine cannot begin while there are any. Only RAM can be mapped: DMA never reaches a device.
 * dma_map and dma_unmap: any thread, no lock needed; several spans may cover the same bytes.
 */
#ifndef RINGSIDE_DMA_H
#define RINGSIDE_DMA_H

#include <stdint.h>

#include "mem/memory.h"

enum dma_direction { DMA_TO_DEVICE, DMA_FROM_DEVICE }; /* the device reads RAM; the device writes RAM */

struct dma_span {
	uint64_t gpa, len;
	uint64_t offset; /* of the first byte in the host mapping */
	uint8_t *hva; /* len bytes */
	enum dma_direction direction;
	uint8_t *buffer; /* NULL, or where hva points to instead of RAM */
	bool direct;     /* counted */
};

/* 0, -EFAULT unless all of it is memory (and may be written, to write to it), -ENOMEM. len may be 0. */
int dma_map(struct memory *m, uint64_t gpa, uint64_t len, enum dma_direction direction, struct dma_span *span);
/* Ends the access. The first `written` bytes (at most len; 0 for DMA_TO_DEVICE) were changed: their pages are marked
 * dirty, and the engine is told of changed code. */
void dma_unmap(struct memory *m, struct dma_span *span, uint64_t written);

#endif
