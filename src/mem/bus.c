/*
 * Buses: a sorted array of regions, found by binary search. See bus.h.
 *
 * An access is cut into pieces that are naturally aligned within their region (unless the device does not mind) and no
 * wider than it takes, little end first, as a chip set does. Compiled with -mgeneral-regs-only.
 */
#include "mem/bus.h"

#include <errno.h>
#include <string.h>

/* Index of the first region that ends after `addr`; count when there is none. */
static unsigned find(const struct bus *b, uint64_t addr)
{
	unsigned lo = 0, hi = b->count;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_region *r = &b->region[mid];

		if (addr >= r->base && addr - r->base >= r->len)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Where accesses to regions of that name are counted. */
static unsigned tally_of(struct bus *b, const char *name)
{
	unsigned i;

	for (i = 1; i < b->tallies; i++)
		if (strncmp(b->tally[i].name, name, sizeof b->tally[i].name - 1) == 0)
			return i;
	if (i == BUS_TALLIES_MAX)
		return i - 1;
	if (i == BUS_TALLIES_MAX - 1)
		name = "others";
	strncpy(b->tally[i].name, name, sizeof b->tally[i].name - 1);
	b->tallies = i + 1;
	return i;
}

int bus_register(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev, const char *name)
{
	if (!len || base + (len - 1) < base)
		return -EINVAL;
	unsigned i = find(b, base);
	if (i < b->count && b->region[i].base <= base + (len - 1))
		return -EEXIST;
	/* `find` skips regions that end at or before base, so none before i overlaps. */
	if (b->count == BUS_REGIONS_MAX)
		return -ENOSPC;
	memmove(&b->region[i + 1], &b->region[i], (b->count - i) * sizeof b->region[0]);
	b->region[i] = (struct bus_region){.base = base, .len = len, .ops = ops, .dev = dev, .tally = tally_of(b, name)};
	b->count++;
	if (b->changed)
		b->changed(b->opaque);
	return 0;
}

void bus_unregister(struct bus *b, uint64_t base)
{
	unsigned i = find(b, base);

	if (i == b->count || b->region[i].base != base)
		return;
	b->count--;
	memmove(&b->region[i], &b->region[i + 1], (b->count - i) * sizeof b->region[0]);
	if (b->changed)
		b->changed(b->opaque);
}

/* The region that holds `addr`, or NULL and *gap = the bytes from addr on that none holds. */
static const struct bus_region *lookup(const struct bus *b, uint64_t addr, uint64_t *gap)
{
	unsigned i = find(b, addr);

	if (i == b->count) {
		*gap = UINT64_MAX;
		return NULL;
	}
	const struct bus_region *r = &b->region[i];
	if (addr < r->base) {
		*gap = r->base - addr;
		return NULL;
	}
	return r;
}

/* How many of `size` bytes at `offset` of the region go in one access: a power of 2. */
static unsigned piece_size(const struct bus_region *r, uint64_t offset, unsigned size)
{
	unsigned n = r->ops->max_size ? r->ops->max_size : 8;

	while (n > size || (!r->ops->unaligned && (offset & (n - 1))) || n > r->len - offset)
		n /= 2;
	return n;
}

static uint64_t mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

bool bus_read(struct bus *b, uint64_t addr, unsigned size, uint64_t *value)
{
	uint64_t result = 0;
	bool claimed = true;

	for (unsigned done = 0; done < size;) {
		uint64_t gap, piece;
		unsigned n;
		const struct bus_region *r = lookup(b, addr + done, &gap);

		if (r) {
			uint64_t offset = addr + done - r->base;

			n = piece_size(r, offset, size - done);
			b->tally[r->tally].reads++;
			piece = r->ops->read ? r->ops->read(r->dev, offset, n) & mask(n) : mask(n);
		} else {
			n = gap < size - done ? (unsigned)gap : size - done;
			piece = mask(n);
			b->tally[0].reads++;
			claimed = false;
		}
		result |= piece << done * 8;
		done += n;
	}
	*value = result;
	return claimed;
}

bool bus_write(struct bus *b, uint64_t addr, unsigned size, uint64_t value)
{
	bool claimed = true;

	for (unsigned done = 0; done < size;) {
		uint64_t gap;
		unsigned n;
		const struct bus_region *r = lookup(b, addr + done, &gap);

		if (r) {
			uint64_t offset = addr + done - r->base;

			n = piece_size(r, offset, size - done);
			b->tally[r->tally].writes++;
			if (r->ops->write)
				r->ops->write(r->dev, offset, value >> done * 8 & mask(n), n);
		} else {
			n = gap < size - done ? (unsigned)gap : size - done;
			b->tally[0].writes++;
			claimed = false;
		}
		done += n;
	}
	return claimed;
}
