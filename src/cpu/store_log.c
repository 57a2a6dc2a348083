/*
 * The log of stores, see store_log.h.
 */
#include "cpu/store_log.h"

void store_log_add(struct store_log *log, void *hva, unsigned size, bool entry)
{
	struct store *last = log->count ? &log->store[log->count - 1] : 0;
	uint8_t *at = hva;

	if (last && !entry && !last->entry && last->size < UINT32_MAX / 2) {
		if (at >= last->hva && at + size <= last->hva + last->size)
			return;
		if (at == last->hva + last->size) {
			last->size += size;
			return;
		}
		if (at + size == last->hva) {
			last->hva = at;
			last->size += size;
			return;
		}
	}
	if (log->count == STORE_LOG_MAX) {
		log->overflow = true;
		return;
	}
	log->store[log->count++] = (struct store){.hva = at, .size = size, .entry = entry};
	log->entries += entry;
}
