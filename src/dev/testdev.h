/*
 * The registers of QEMU's pc-testdev, as test kernels (kvm-unit-tests) use them:
 *   ports 0xe0-0xe3  hold what was written, any size
 *   ports 0xe4-0xe7  take a page's address: QEMU unmaps it from the host and maps it again, which no
 *                    guest can see; nothing happens here
 *   ports 0x2000-0x2017  a write sets the level of that GSI
 *   0xff000000       64 KiB of memory-mapped registers that hold what was written
 * Its second echo, for byte accesses at 0xe8-0xeb, is left out: the debug console is at 0xe9.
 *
 * Called under vm->lock.
 */
#ifndef RINGSIDE_TESTDEV_H
#define RINGSIDE_TESTDEV_H

#include "irq/irq.h"

struct bus;
struct testdev;

#define TESTDEV_IRQS 24

/* `gsi`: its `number` is ignored, set is called with 0-23. NULL: errno. */
struct testdev *testdev_new(struct bus *pio, struct bus *mmio, struct irq_line gsi);
void testdev_free(struct testdev *t);

#endif
