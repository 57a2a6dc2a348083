/*
 * What device tests share: a port bus and a memory bus to drive a device through as a guest would, a
 * timer queue whose time the test moves, interrupt lines that keep their level and count their edges,
 * and checks that count. Header only, single thread.
 */
#ifndef DEV_FIXTURE_H
#define DEV_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "irq/irq.h"
#include "mem/bus.h"
#include "util/timer.h"

/* ---- buses ---- */

static struct bus pio, mmio;

static inline uint64_t in(uint64_t port, unsigned size)
{
	uint64_t value;

	bus_read(&pio, port, size, &value);
	return value;
}

static inline uint8_t inb(uint64_t port) { return (uint8_t)in(port, 1); }
static inline void outb(uint64_t port, uint8_t value) { bus_write(&pio, port, 1, value); }
static inline void out(uint64_t port, unsigned size, uint64_t value) { bus_write(&pio, port, size, value); }

static inline uint64_t mmio_in(uint64_t gpa, unsigned size)
{
	uint64_t value;

	bus_read(&mmio, gpa, size, &value);
	return value;
}

static inline void mmio_out(uint64_t gpa, unsigned size, uint64_t value) { bus_write(&mmio, gpa, size, value); }

/* ---- time ---- */

#define SECOND 1000000000ull
#define MILLISECOND 1000000ull
#define MICROSECOND 1000ull

static struct timer_queue *queue;

/* Moves time on, running timers when they are due. */
static inline void pass(uint64_t ns)
{
	uint64_t end = timer_queue_now(queue) + ns;

	while (timer_queue_next(queue) <= end) {
		if (timer_queue_next(queue) > timer_queue_now(queue))
			timer_queue_set_now(queue, timer_queue_next(queue));
		timer_queue_run(queue);
	}
	timer_queue_set_now(queue, end);
}

/* The host does nothing for that long, and then runs what is due. */
static inline void stall(uint64_t ns)
{
	timer_queue_set_now(queue, timer_queue_now(queue) + ns);
	timer_queue_run(queue);
}

/* ---- interrupt lines ---- */

struct line {
	int level;
	unsigned rises;
};

static struct line lines[32];

static inline void line_set(void *opaque, unsigned number, int level)
{
	struct line *l = (struct line *)opaque + number;

	if (level && !l->level)
		l->rises++;
	l->level = level;
}

static inline struct irq_line test_line(unsigned number)
{
	return (struct irq_line){.set = line_set, .opaque = lines, .number = number};
}

static inline void fixture_start(void)
{
	memset(&pio, 0, sizeof pio);
	memset(&mmio, 0, sizeof mmio);
	memset(lines, 0, sizeof lines);
	queue = timer_queue_new_manual(1000 * SECOND);
	if (!queue) {
		perror("timer queue");
		exit(1);
	}
}

static inline void fixture_stop(void)
{
	timer_queue_free(queue);
	queue = NULL;
}

/* ---- hostile accesses ---- */

static inline uint64_t random64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Random accesses of every size in and around [base, base+len), with time passing now and then. */
static inline void abuse(struct bus *b, uint64_t base, uint64_t len, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t addr = base - 8 + random64() % (len + 16), value = random64();
		unsigned size = 1u << random64() % 4;

		if (random64() % 4 == 0)
			value = random64() % 2 ? UINT64_MAX : 0;
		if (random64() % 2)
			bus_write(b, addr, size, value);
		else
			bus_read(b, addr, size, &value);
		if (random64() % 16 == 0)
			stall(random64() % (random64() % 8 ? 5 * MILLISECOND : 100 * SECOND));
	}
	passed += count > 1; /* still alive */
}

#endif
