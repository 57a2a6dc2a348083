/*
 * QEMU's pc-testdev registers. See testdev.h. Called under vm->lock.
 */
#include "dev/testdev.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mem/bus.h"

#define ECHO_PORT 0xe0
#define ECHO_SIZE 4
#define FLUSH_PORT 0xe4
#define IRQ_PORT 0x2000
#define IOMEM_BASE 0xff000000ull
#define IOMEM_SIZE 0x10000

struct testdev {
	struct irq_line gsi;
	uint8_t echo[ECHO_SIZE];
	uint8_t iomem[IOMEM_SIZE];
};

/* The bus keeps accesses inside their region. The host is little-endian, as the guest is. */
static uint64_t load(const uint8_t *p, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, p, size);
	return value;
}

static uint64_t echo_read(void *dev, uint64_t offset, unsigned size)
{
	return load(((struct testdev *)dev)->echo + offset, size);
}

static void echo_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	memcpy(((struct testdev *)dev)->echo + offset, &value, size);
}

static uint64_t iomem_read(void *dev, uint64_t offset, unsigned size)
{
	return load(((struct testdev *)dev)->iomem + offset, size);
}

static void iomem_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	memcpy(((struct testdev *)dev)->iomem + offset, &value, size);
}

static void irq_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct testdev *t = dev;

	(void)size;
	if (t->gsi.set)
		t->gsi.set(t->gsi.opaque, (unsigned)offset, value != 0);
}

/* QEMU's page flush: the page's host mapping goes away and comes back, which no guest can see. */
static void flush_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)value;
	(void)size;
}

static const struct bus_ops echo_ops = {.read = echo_read, .write = echo_write, .max_size = 4};
static const struct bus_ops flush_ops = {.write = flush_write, .max_size = 4};
static const struct bus_ops irq_ops = {.write = irq_write, .max_size = 1};
static const struct bus_ops iomem_ops = {.read = iomem_read, .write = iomem_write};

struct testdev *testdev_new(struct bus *pio, struct bus *mmio, struct irq_line gsi)
{
	struct testdev *t = calloc(1, sizeof *t);
	int err;

	if (!t)
		return NULL;
	t->gsi = gsi;
	if ((err = bus_register(pio, ECHO_PORT, ECHO_SIZE, &echo_ops, t, "testdev-echo")) ||
	    (err = bus_register(pio, FLUSH_PORT, 4, &flush_ops, t, "testdev-flush")) ||
	    (err = bus_register(pio, IRQ_PORT, TESTDEV_IRQS, &irq_ops, t, "testdev-irq")) ||
	    (err = bus_register(mmio, IOMEM_BASE, IOMEM_SIZE, &iomem_ops, t, "testdev-iomem"))) {
		free(t);
		errno = -err;
		return NULL;
	}
	return t;
}

void testdev_free(struct testdev *t)
{
	free(t);
}
