/*
 * The I/O APIC: 24 pins, each with a redirection entry, at 0xfec00000.
 *
 * Called under vm->lock. Source: Intel 82093AA data sheet; ICH data sheets for the EOI register
 * (version 0x20).
 */
#ifndef RINGSIDE_IOAPIC_H
#define RINGSIDE_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_PINS 24

struct bus;
struct ioapic;
struct lapic_message;

/* `deliver` sends a message to the local APICs (lapic_bus_deliver). An ExtINT entry is sent as
 * LAPIC_EXTINT. NULL: errno. */
struct ioapic *ioapic_new(struct bus *mmio, uint8_t id, void (*deliver)(void *opaque, const struct lapic_message *m),
			  void *opaque);
void ioapic_free(struct ioapic *io);
void ioapic_reset(struct ioapic *io);

void ioapic_set_irq(struct ioapic *io, unsigned pin, int level); /* other pins than 0-23 are ignored */
/* What the pin sends, if that is answered by an EOI (level-triggered); false: it is not. Masked or not. */
bool ioapic_route(const struct ioapic *io, unsigned pin, struct lapic_message *m);
/* `changed` is called, with ioapic_new's opaque, when what ioapic_route says has changed. */
void ioapic_watch_routes(struct ioapic *io, void (*changed)(void *opaque));
/* The vector of a pin that waits for its EOI; -1: it does not. */
int ioapic_waits_for(const struct ioapic *io, unsigned pin);
/* The EOI broadcast of a local APIC for a level-triggered vector. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);

#endif
