/*
 * What the tests of local APICs share: four of them on a bus, a timer queue whose time the test moves, counts of what they
 * ask of their processors. Header only, single thread.
 */
#ifndef LAPIC_FIXTURE_H
#define LAPIC_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "irq/lapic.h"
#include "mem/memory.h"

#define CPUS 4

static struct lapic_bus bus;
static struct timer_queue *queue;
static struct lapic *apic[CPUS];
static unsigned kicks[CPUS], nmis[CPUS], inits[CPUS], startups[CPUS], eois;
static uint8_t startup_vector, eoi_vector;
static uint64_t now;

static void on_kick(void *o, unsigned i) { (void)o; kicks[i]++; }
static void on_nmi(void *o, unsigned i) { (void)o; nmis[i]++; }
static void on_init(void *o, unsigned i) { (void)o; inits[i]++; }
static void on_startup(void *o, unsigned i, uint8_t v) { (void)o; startups[i]++; startup_vector = v; }
static void on_eoi(void *o, unsigned i, uint8_t v) { (void)o, (void)i; eois++; eoi_vector = v; }
static uint64_t on_tsc(void *o, unsigned i) { (void)o, (void)i; return now * 2; } /* 2 GHz */

static const struct lapic_ops ops = { on_kick, on_nmi, on_init, on_startup, on_eoi, on_tsc };

static struct memory memory;

static inline void setup(void)
{
	memset(&bus, 0, sizeof(bus));
	memset(kicks, 0, sizeof(kicks));
	memset(nmis, 0, sizeof(nmis));
	memset(inits, 0, sizeof(inits));
	memset(startups, 0, sizeof(startups));
	eois = 0;
	now = 1000000;
	queue = timer_queue_new_manual(now);
	for (unsigned i = 0; i < CPUS; i++) {
		struct lapic_config c = { i, &bus, queue, &ops, NULL, 2000000, 46, true, &memory };

		apic[i] = lapic_new(&c);
		if (!apic[i])
			exit(1);
		lapic_write(apic[i], 0xf0, 0x1ff, 4);
	}
}

static inline void teardown(void)
{
	for (unsigned i = 0; i < CPUS; i++)
		lapic_free(apic[i]);
	timer_queue_free(queue);
}

static inline void advance(uint64_t ns)
{
	now += ns;
	timer_queue_set_now(queue, now);
	timer_queue_run(queue);
}

static inline uint32_t rd(unsigned i, unsigned offset) { return (uint32_t)lapic_read(apic[i], offset, 4); }
static inline void wr(unsigned i, unsigned offset, uint32_t v) { lapic_write(apic[i], offset, v, 4); }
static inline bool x2_on(unsigned i) { return lapic_set_base(apic[i], lapic_get_base(apic[i]) | 0xc00); }
static inline uint64_t msr(unsigned i, uint32_t m)
{
	uint64_t v = ~0ull;

	CHECK(lapic_msr_read(apic[i], m, &v));
	return v;
}

static inline void icr(unsigned i, uint8_t dest, uint32_t low)
{
	wr(i, 0x310, (uint32_t)dest << 24);
	wr(i, 0x300, low);
}

#endif
