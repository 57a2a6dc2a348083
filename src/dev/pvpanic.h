/*
 * pvpanic: one port that a guest writes to when it panics, so that who runs it hears of it. ACPI names it QEMU0001.
 *
 * Called under vm->lock. Source: QEMU's docs/specs/pvpanic.
 */
#ifndef RINGSIDE_PVPANIC_H
#define RINGSIDE_PVPANIC_H

#include <stdint.h>

#define PVPANIC_PORT 0x505
#define PVPANIC_PANICKED 0x01
#define PVPANIC_CRASH_LOADED 0x02 /* its crash kernel takes over */

struct bus;
struct pvpanic;

/* `told`: one of the events above. NULL: errno. */
struct pvpanic *pvpanic_new(struct bus *pio, void (*told)(void *opaque, uint8_t event), void *opaque);
void pvpanic_free(struct pvpanic *p);

#endif
