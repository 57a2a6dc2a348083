/*
 * The pair of 8259A interrupt controllers of a PC: master at ports 0x20/0x21, slave at 0xa0/0xa1
 * behind the master's IR2, edge/level registers at 0x4d0/0x4d1.
 *
 * Called under vm->lock. Sources: Intel 8259A data sheet; PIIX/ICH data sheets for ELCR.
 */
#ifndef RINGSIDE_PIC_H
#define RINGSIDE_PIC_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct pic;

/* `intr` is told when the master's INT output changes (→ LINT0 of the local APICs). NULL: errno. */
struct pic *pic_new(struct bus *pio, void (*intr)(void *opaque, int level), void *opaque);
void pic_free(struct pic *pic);
void pic_reset(struct pic *pic);

void pic_set_irq(struct pic *pic, unsigned irq, int level); /* 0-15; others (and 2, the cascade) are ignored */
bool pic_pending(const struct pic *pic);                    /* the INT output */
/* The processor's interrupt acknowledge cycle: the vector. Spurious ones give IRQ 7 or 15. */
uint8_t pic_ack(struct pic *pic);

#endif
