/*
 * pvpanic. See pvpanic.h. Called under vm->lock.
 */
#include "dev/pvpanic.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"

struct pvpanic {
	void (*told)(void *opaque, uint8_t event);
	void *opaque;
};

/* The events that there are. */
static uint64_t pvpanic_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pvpanic *p = dev;

	(void)offset;
	(void)size;
	if (value & PVPANIC_PANICKED)
		p->told(p->opaque, PVPANIC_PANICKED);
	else if (value & PVPANIC_CRASH_LOADED)
		p->told(p->opaque, PVPANIC_CRASH_LOADED);
}

static const struct bus_ops pvpanic_ops = {.read = pvpanic_read, .write = pvpanic_write, .max_size = 1};

struct pvpanic *pvpanic_new(struct bus *pio, void (*told)(void *opaque, uint8_t event), void *opaque)
{
	struct pvpanic *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->told = told;
	p->opaque = opaque;
	int err = bus_register(pio, PVPANIC_PORT, 1, &pvpanic_ops, p, "pvpanic");
	if (err) {
		free(p);
		errno = -err;
		return NULL;
	}
	return p;
}

void pvpanic_free(struct pvpanic *p) { free(p); }
