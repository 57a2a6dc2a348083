/*
 * HPET: the counter, one-shot and periodic comparators, routes, levels, legacy replacement, a host that is late.
 */
#include "dev/hpet.h"

#include "dev_fixture.h"

#define REG(n) (HPET_BASE + (n))
#define TIMER(n) (HPET_BASE + 0x100 + 0x20 * (n))
enum { ENABLE = 1, LEGACY = 2 };
enum { LEVEL = 2, INT = 4, PERIODIC = 8, SET = 0x40, BITS32 = 0x100 };

static struct hpet *hpet;
static bool legacy;

static void set_gsi(void *opaque, unsigned gsi, int level)
{
	(void)opaque;
	line_set(lines, gsi, level);
}

static void set_legacy(void *opaque, bool on)
{
	(void)opaque;
	legacy = on;
}

static void start(void)
{
	static const struct hpet_ops ops = {.set_gsi = set_gsi, .legacy = set_legacy};

	fixture_start();
	legacy = false;
	hpet = hpet_new(&mmio, queue, &ops, NULL);
}

static void stop(void)
{
	hpet_free(hpet);
	fixture_stop();
}

static void counting(void)
{
	start();
	CHECK_EQ(mmio_in(REG(0), 8), 10000000ull << 32 | 0x8086a201);
	CHECK_EQ(mmio_in(REG(4), 4), 10000000);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 0);
	pass(SECOND);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 0);
	mmio_out(REG(0x10), 4, ENABLE);
	pass(SECOND);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 100000000);
	CHECK_EQ(mmio_in(REG(0xf0), 4), 100000000);
	mmio_out(REG(0x10), 8, 0);
	pass(SECOND);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 100000000); /* it stands */
	mmio_out(REG(0xf4), 4, 5);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 5ull << 32 | 100000000);
	mmio_out(REG(0xf0), 8, 7);
	mmio_out(REG(0x10), 8, UINT64_MAX);
	CHECK_EQ(mmio_in(REG(0x10), 8), 3);
	CHECK(legacy);
	CHECK_EQ(mmio_in(REG(0xf0), 8), 7);
	mmio_out(REG(0), 8, 0); /* read-only */
	CHECK_EQ(mmio_in(REG(0), 4), 0x8086a201);
	CHECK_EQ(mmio_in(TIMER(3), 8), 0); /* there are three */
	stop();
}

static void one_shot(void)
{
	start();
	CHECK_EQ(mmio_in(TIMER(0), 8), 0x00ff010400000030);
	CHECK_EQ(mmio_in(TIMER(1), 8), 0x00ff010400000020);
	mmio_out(TIMER(1), 4, 0xffffffff);
	CHECK_EQ(mmio_in(TIMER(1), 4), 0x00000126); /* route 31 is not to be had */
	mmio_out(TIMER(1), 4, 0);
	mmio_out(REG(0x10), 4, ENABLE);
	mmio_out(TIMER(2), 4, INT | 20 << 9);
	CHECK_EQ(mmio_in(TIMER(2), 4), 0x20 | INT | 20 << 9);
	mmio_out(TIMER(2) + 8, 8, 100000);
	pass(MILLISECOND - 10);
	CHECK_EQ(lines[20].rises, 0);
	pass(10);
	CHECK_EQ(lines[20].rises, 1);
	CHECK_EQ(lines[20].level, 0); /* an edge */
	CHECK_EQ(mmio_in(REG(0x20), 8), 0);
	pass(100 * SECOND);
	CHECK_EQ(lines[20].rises, 1);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	/* A match that is past does not come. */
	mmio_out(TIMER(2) + 8, 8, 5);
	pass(100 * SECOND);
	CHECK_EQ(lines[20].rises, 1);
	/* Of 32 bits: when the counter has wrapped, and each time that it does. */
	mmio_out(TIMER(2), 4, INT | BITS32 | 20 << 9);
	mmio_out(TIMER(2) + 8, 8, 0xff00000005);
	CHECK_EQ(mmio_in(TIMER(2) + 8, 8), 5);
	pass(43 * SECOND);
	CHECK_EQ(lines[20].rises, 2);
	pass(43 * SECOND);
	CHECK_EQ(lines[20].rises, 3);
	/* Not without INT, nor while the counter stands */
	mmio_out(TIMER(2), 4, BITS32 | 20 << 9);
	pass(50 * SECOND);
	mmio_out(TIMER(2), 4, INT | BITS32 | 20 << 9);
	mmio_out(REG(0x10), 4, 0);
	pass(50 * SECOND);
	CHECK_EQ(lines[20].rises, 3);
	stop();
}

static void levels(void)
{
	start();
	mmio_out(REG(0x10), 4, ENABLE);
	mmio_out(TIMER(1), 4, LEVEL | INT | 16 << 9);
	mmio_out(TIMER(1) + 8, 8, 100);
	pass(MICROSECOND);
	CHECK_EQ(lines[16].level, 1);
	CHECK_EQ(mmio_in(REG(0x20), 8), 2);
	mmio_out(REG(0x20), 4, 1);
	CHECK_EQ(lines[16].level, 1);
	mmio_out(TIMER(1), 4, LEVEL | INT | 17 << 9); /* rerouted while it is held */
	CHECK_EQ(lines[16].level, 0);
	CHECK_EQ(lines[17].level, 1);
	mmio_out(TIMER(1), 4, LEVEL | 17 << 9);
	CHECK_EQ(lines[17].level, 0);
	CHECK_EQ(mmio_in(REG(0x20), 8), 2); /* the status stays */
	mmio_out(TIMER(1), 4, LEVEL | INT | 17 << 9);
	mmio_out(REG(0x20), 4, 2);
	CHECK_EQ(lines[17].level, 0);
	CHECK_EQ(mmio_in(REG(0x20), 8), 0);
	stop();
}

static void periodic(void)
{
	start();
	mmio_out(TIMER(0), 4, INT | PERIODIC | SET | BITS32 | 2 << 9);
	mmio_out(REG(0x10), 4, ENABLE | LEGACY);
	uint64_t now = mmio_in(REG(0xf0), 4);
	mmio_out(TIMER(0) + 8, 4, now + 400000); /* as Linux does: the value, then the period */
	CHECK_EQ(mmio_in(TIMER(0), 4) & SET, 0);
	mmio_out(TIMER(0) + 8, 4, 400000);
	pass(40 * MILLISECOND + 100);
	CHECK_EQ(lines[2].rises, 10);
	CHECK_EQ(mmio_in(TIMER(0) + 8, 8), now + 11 * 400000);
	/* The host is late: nothing is lost. */
	stall(20 * MILLISECOND);
	pass(40 * MILLISECOND);
	CHECK(lines[2].rises >= 24 && lines[2].rises <= 25);
	/* Very late: what is too old is. */
	unsigned before = lines[2].rises;
	stall(1000 * SECOND);
	pass(40 * MILLISECOND);
	CHECK(lines[2].rises - before <= 12);
	/* As timer 0 in legacy mode its route does not matter; without it does. */
	mmio_out(TIMER(0), 4, INT | PERIODIC | BITS32 | 21 << 9);
	before = lines[2].rises;
	pass(8 * MILLISECOND);
	CHECK_EQ(lines[21].rises, 0);
	mmio_out(REG(0x10), 4, ENABLE);
	CHECK(!legacy);
	pass(8 * MILLISECOND);
	CHECK(lines[21].rises >= 1 && lines[2].rises - before <= 3);
	/* A period that would be a storm */
	mmio_out(TIMER(0), 4, INT | PERIODIC | SET | 21 << 9);
	mmio_out(TIMER(0) + 8, 8, mmio_in(REG(0xf0), 8) + 1);
	mmio_out(TIMER(0) + 8, 8, 1);
	before = lines[21].rises;
	pass(100 * MILLISECOND);
	CHECK(lines[21].rises - before <= 2002);
	CHECK(lines[21].rises - before >= 1000);
	mmio_out(TIMER(0) + 8, 8, 0); /* none at all */
	pass(100 * MILLISECOND);
	/* The others have no periodic mode. */
	mmio_out(TIMER(1), 4, INT | PERIODIC | SET);
	CHECK_EQ(mmio_in(TIMER(1), 4) & (PERIODIC | SET), 0);
	stop();
}

int main(void)
{
	counting();
	one_shot();
	levels();
	periodic();
	start();
	abuse(&mmio, HPET_BASE, HPET_SIZE, 20000);
	abuse(&mmio, HPET_BASE + 0x100, 0x60, 20000);
	stop();
	return summary();
}
