/*
 * An interrupt line, as a device sees it: something with a level. Called under vm->lock.
 */
#ifndef RINGSIDE_IRQ_H
#define RINGSIDE_IRQ_H

struct irq_line {
	void (*set)(void *opaque, unsigned number, int level);
	void *opaque;
	unsigned number; /* for ISA lines: the GSI, as the I/O APIC numbers them */
};

static inline void irq_set(const struct irq_line *line, int level)
{
	if (line->set)
		line->set(line->opaque, line->number, level);
}

static inline void irq_pulse(const struct irq_line *line)
{
	irq_set(line, 1);
	irq_set(line, 0);
}

#endif
