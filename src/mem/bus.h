/*
 * A bus: where port and memory I/O find their device. One `struct bus` for ports, one for memory.
 * Everything here, look-ups and the device callbacks too, runs under the VM's lock (vm->lock), or while the
 * machine is built. Regions may come and go while the guest runs: BARs move.
 */
#ifndef RINGSIDE_BUS_H
#define RINGSIDE_BUS_H

#include <stdbool.h>
#include <stdint.h>

/* Places in a region, `step` bytes apart from `offset` on, where a write, of whatever size and value, may as well be an
 * addition to the eventfd `fd`. */
struct bus_bells {
	uint64_t offset, step;
	unsigned count;
	int fd;
};

struct bus_ops {
	/* `offset` is from the region's base; size is 1, 2, 4 or 8 and the access lies inside the region. */
	uint64_t (*read)(void *dev, uint64_t offset, unsigned size);
	void (*write)(void *dev, uint64_t offset, uint64_t value, unsigned size);
	/* Widest access that the device takes; wider ones are split, little end first. 0 = 8. */
	unsigned max_size;
	bool unaligned; /* takes accesses at any offset as they come; others are cut into aligned ones */
	/* False: it has none now. NULL: it never has. */
	bool (*bells)(void *dev, struct bus_bells *bells);
};

struct bus_region {
	uint64_t base, len;
	const struct bus_ops *ops;
	void *dev;
	unsigned tally; /* index in bus->tally */
};

#define BUS_REGIONS_MAX 128
#define BUS_TALLIES_MAX 64

/* Accesses to all regions of a name, those that are gone too. */
struct bus_tally {
	char name[24];
	uint64_t reads, writes;
};

struct bus {
	struct bus_region region[BUS_REGIONS_MAX]; /* sorted by base, disjoint */
	unsigned count;
	struct bus_tally tally[BUS_TALLIES_MAX]; /* the first: of accesses that no device claimed; the last: of further names */
	unsigned tallies;
	/* A region came or went. NULL: nobody cares. */
	void (*changed)(void *opaque);
	void *opaque;
};

/* 0, -EEXIST when it overlaps another region, -ENOSPC when the bus is full. */
int bus_register(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev, const char *name);

/* Takes the region away that begins at `base`; nothing when there is none. */
void bus_unregister(struct bus *b, uint64_t base);

/* True when a device claimed every byte. Unclaimed bytes read as ones; unclaimed writes go nowhere. */
bool bus_read(struct bus *b, uint64_t addr, unsigned size, uint64_t *value);
bool bus_write(struct bus *b, uint64_t addr, unsigned size, uint64_t value);

#endif
