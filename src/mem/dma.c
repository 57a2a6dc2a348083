/*
 * Spans of guest memory for devices. See dma.h. Compiled with -mgeneral-regs-only like all of src/mem.
 */
#include "mem/dma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int dma_map(struct memory *m, uint64_t gpa, uint64_t len, enum dma_direction direction, struct dma_span *span)
{
	*span = (struct dma_span){.gpa = gpa, .len = len, .direction = direction};
	if (len == 0)
		return 0;
	span->offset = direction == DMA_FROM_DEVICE ? memory_offset_writable(m, gpa, len) : memory_offset(m, gpa, len);
	if (span->offset == MEMORY_NOT_RAM)
		return -EFAULT;
	span->hva = m->base + span->offset;
	if (direction != DMA_FROM_DEVICE)
		return 0;
	/* Counted before the look: an engine that begins sets the function and looks at the count then. */
	__atomic_fetch_add(&m->direct, 1, __ATOMIC_SEQ_CST);
	span->direct = !__atomic_load_n(&m->write_begin, __ATOMIC_SEQ_CST);
	if (!span->direct) {
		__atomic_fetch_sub(&m->direct, 1, __ATOMIC_SEQ_CST);
		span->buffer = malloc(len);
		if (!span->buffer)
			return -ENOMEM;
		/* What the device does not fill must not change. */
		memcpy(span->buffer, span->hva, len);
		span->hva = span->buffer;
	}
	return 0;
}

void dma_unmap(struct memory *m, struct dma_span *span, uint64_t written)
{
	if (written > span->len)
		written = span->len;
	if (span->direction == DMA_FROM_DEVICE && written) {
		if (span->buffer)
			memory_block_write(m, span->offset, span->buffer, written);
		else
			memory_block_written(m, span->offset, written);
	}
	if (span->direct)
		__atomic_fetch_sub(&m->direct, 1, __ATOMIC_SEQ_CST);
	span->direct = false;
	free(span->buffer);
	span->buffer = NULL;
	span->hva = NULL;
}
