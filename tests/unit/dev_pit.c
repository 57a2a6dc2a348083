/*
 * The 8254, by the waveforms and the read-back commands of its data sheet.
 */
#include "dev/pit.h"

#include "dev_fixture.h"

static struct pit *pit;

static void start(void)
{
	fixture_start();
	pit = pit_new(&pio, queue, test_line(0));
	/* To the start of a clock pulse, so that counts below are exact. */
	uint64_t now = timer_queue_now(queue);
	uint64_t pulse = (uint64_t)((unsigned __int128)now * PIT_HZ / SECOND) + 1;
	timer_queue_set_now(queue, (uint64_t)(((unsigned __int128)pulse * SECOND + PIT_HZ - 1) / PIT_HZ));
}

static void stop(void)
{
	pit_free(pit);
	fixture_stop();
}

/* To the start of the n-th clock pulse from this one's. */
static void pulses(uint64_t n)
{
	uint64_t now = timer_queue_now(queue);
	uint64_t pulse = (uint64_t)((unsigned __int128)now * PIT_HZ / SECOND) + n;
	uint64_t at = (uint64_t)(((unsigned __int128)pulse * SECOND + PIT_HZ - 1) / PIT_HZ);

	pass(at - now);
}

static void program(unsigned counter, uint8_t control, unsigned count)
{
	outb(0x43, (uint8_t)(counter << 6 | control));
	outb(0x40 + counter, (uint8_t)count);
	outb(0x40 + counter, (uint8_t)(count >> 8));
}

static unsigned latched(unsigned counter)
{
	outb(0x43, (uint8_t)(counter << 6));
	unsigned low = inb(0x40 + counter);
	return low | (unsigned)inb(0x40 + counter) << 8;
}

static uint8_t status(unsigned counter)
{
	outb(0x43, (uint8_t)(0xe0 | 2 << counter));
	return inb(0x40 + counter);
}

static bool out2(void) { return inb(0x61) & 0x20; }
static void gate2(bool on) { outb(0x61, on); }

static void mode0(void)
{
	start();
	gate2(true);
	outb(0x43, 0xb0);
	CHECK(!out2());
	CHECK_EQ(status(2), 0x70); /* low, null count, both bytes, mode 0 */
	outb(0x42, 4);
	outb(0x42, 0);
	CHECK_EQ(status(2), 0x70); /* loaded by the next clock pulse */
	pulses(1);
	CHECK_EQ(status(2), 0x30);
	CHECK_EQ(latched(2), 4);
	pulses(3);
	CHECK_EQ(latched(2), 1);
	CHECK(!out2());
	pulses(1); /* N + 1 after the write */
	CHECK_EQ(latched(2), 0);
	CHECK(out2());
	CHECK_EQ(status(2), 0xb0);
	pulses(1);
	CHECK_EQ(latched(2), 0xffff);
	CHECK(out2());
	/* The gate holds the count, not the output. */
	outb(0x42, 10); /* first byte: output low, counting stops */
	CHECK(!out2());
	pulses(100);
	CHECK(!out2());
	outb(0x42, 0);
	pulses(4);
	CHECK_EQ(latched(2), 7);
	gate2(false);
	pulses(50);
	CHECK_EQ(latched(2), 7);
	gate2(true);
	pulses(6);
	CHECK_EQ(latched(2), 1);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	/* 0 is 65536. */
	program(2, 0x30, 0);
	pulses(1);
	CHECK_EQ(latched(2), 0);
	pulses(65535);
	CHECK_EQ(latched(2), 1);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	stop();
}

static void mode1(void)
{
	start();
	program(2, 0x32, 5);
	CHECK(out2());
	pulses(100);
	CHECK(out2());
	CHECK_EQ(status(2) & 0x40, 0x40); /* waits for its trigger */
	gate2(true);
	pulses(1);
	CHECK(!out2());
	CHECK_EQ(status(2) & 0x40, 0);
	pulses(4);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	gate2(false);
	gate2(true);
	pulses(3);
	gate2(false);
	gate2(true); /* again: from the beginning */
	pulses(5);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	stop();
}

static void mode2(void)
{
	start();
	gate2(true);
	program(2, 0x34, 3);
	pulses(1);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(latched(2), 3);
		CHECK(out2());
		pulses(1);
		CHECK_EQ(latched(2), 2);
		CHECK(out2());
		pulses(1);
		CHECK_EQ(latched(2), 1);
		CHECK(!out2());
		pulses(1);
	}
	pulses(1);
	outb(0x42, 5); /* counts from the next period on */
	outb(0x42, 0);
	CHECK_EQ(status(2) & 0x40, 0x40);
	CHECK_EQ(latched(2), 2);
	pulses(2);
	CHECK_EQ(latched(2), 5);
	CHECK_EQ(status(2) & 0x40, 0);
	pulses(4);
	CHECK(!out2());
	gate2(false); /* output high at once */
	CHECK(out2());
	pulses(9);
	gate2(true); /* begins again */
	pulses(1);
	CHECK_EQ(latched(2), 5);
	stop();
}

static void mode3(void)
{
	static const uint8_t even[] = {4, 2, 4, 2}, odd[] = {4, 2, 0, 4, 2};

	start();
	gate2(true);
	program(2, 0x36, 4);
	pulses(1);
	for (unsigned i = 0; i < 8; i++, pulses(1)) {
		CHECK_EQ(latched(2), even[i % 4]);
		CHECK_EQ(out2(), i % 4 < 2);
	}
	program(2, 0x36, 5);
	pulses(1);
	for (unsigned i = 0; i < 15; i++, pulses(1)) {
		CHECK_EQ(latched(2), odd[i % 5]);
		CHECK_EQ(out2(), i % 5 < 3);
	}
	/* A new count is taken at the end of the half period. */
	pulses(1);
	outb(0x42, 8);
	outb(0x42, 0);
	pulses(1);
	CHECK(out2());
	pulses(1);
	for (unsigned i = 0; i < 4; i++, pulses(1))
		CHECK(!out2());
	for (unsigned i = 0; i < 4; i++, pulses(1))
		CHECK(out2());
	CHECK(!out2());
	stop();
}

static void mode4_and_5(void)
{
	start();
	gate2(true);
	program(2, 0x38, 3);
	CHECK(out2());
	pulses(3);
	CHECK(out2());
	pulses(1);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	pulses(1000);
	CHECK(out2());
	gate2(false);
	program(2, 0x3a, 3);
	pulses(10);
	CHECK(out2());
	gate2(true);
	pulses(4);
	CHECK(!out2());
	pulses(1);
	CHECK(out2());
	stop();
}

static void bcd_and_bytes(void)
{
	start();
	gate2(true);
	program(2, 0x35, 0x1000);
	pulses(2);
	CHECK_EQ(latched(2), 0x0999);
	program(2, 0x31, 0); /* 10000 */
	pulses(1);
	CHECK_EQ(latched(2), 0);
	pulses(1);
	CHECK_EQ(latched(2), 0x9999);
	program(2, 0x31, 0x9876);
	pulses(1);
	CHECK_EQ(latched(2), 0x9876);
	pulses(9000 - 124);
	CHECK_EQ(latched(2), 0x1000);
	pulses(1000 + 2);
	CHECK_EQ(latched(2), 0x9998);
	program(2, 0x31, 0xffff); /* no decimal number: anything, but no harm */
	pulses(1);
	outb(0x43, 0x94); /* low byte only, mode 2 */
	outb(0x42, 200);
	pulses(1);
	CHECK_EQ(inb(0x42), 200);
	pulses(1);
	CHECK_EQ(inb(0x42), 199);
	outb(0x43, 0x80); /* a latch of one byte is read by one read */
	pulses(2);
	CHECK_EQ(inb(0x42), 199);
	CHECK_EQ(inb(0x42), 197);
	outb(0x43, 0xa4); /* high byte only */
	outb(0x42, 2);
	pulses(1);
	CHECK_EQ(inb(0x42), 2);
	pulses(1);
	CHECK_EQ(inb(0x42), 1); /* 511 */
	/* A latch stays until it is read; a second one does nothing. */
	program(2, 0x34, 0x1234);
	pulses(1);
	outb(0x43, 0x80);
	pulses(5);
	outb(0x43, 0x80);
	CHECK_EQ(inb(0x42), 0x34);
	CHECK_EQ(inb(0x42), 0x12);
	CHECK_EQ(inb(0x42), 0x2f);
	CHECK_EQ(inb(0x42), 0x12);
	/* Read-back of status and count of two counters at once: status comes first. */
	program(0, 0x34, 100);
	pulses(1);
	outb(0x43, 0xc0 | 2 | 8);
	pulses(9);
	CHECK_EQ(inb(0x40), 0xb4);
	CHECK_EQ(inb(0x40), 100);
	CHECK_EQ(inb(0x40), 0);
	CHECK_EQ(inb(0x42), 0xb4);
	unsigned low = inb(0x42);
	CHECK_EQ(low | (unsigned)inb(0x42) << 8, 0x1234 - 6 - 0);
	CHECK_EQ(inb(0x43), 0xff);
	stop();
}

static void interrupts(void)
{
	start();
	program(0, 0x34, 1193); /* about 1 kHz */
	pass(SECOND);
	CHECK(lines[0].rises >= 1000 && lines[0].rises <= 1001);
	/* One shot, as tickless systems use it. */
	program(0, 0x30, 1193);
	CHECK(!lines[0].level);
	lines[0].rises = 0;
	pass(999 * MICROSECOND);
	CHECK_EQ(lines[0].rises, 0);
	pass(10 * MICROSECOND);
	CHECK_EQ(lines[0].rises, 1);
	pass(SECOND);
	CHECK_EQ(lines[0].rises, 1);
	CHECK(lines[0].level);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX); /* nothing more to wake the host for */
	/* Modes 0 and 4 to the pulse */
	program(0, 0x30, 5);
	lines[0].rises = 0;
	pulses(5);
	CHECK_EQ(lines[0].rises, 0);
	pulses(1);
	CHECK_EQ(lines[0].rises, 1);
	program(0, 0x38, 5);
	lines[0].rises = 0;
	lines[0].level = 0;
	pulses(6);
	CHECK_EQ(lines[0].rises, 0);
	pulses(1);
	CHECK_EQ(lines[0].rises, 1);
	/* A control word stops what was there; modes 6 and 7 are 2 and 3. */
	program(0, 0x3c, 100);
	CHECK_EQ(status(0) & 0x3f, 0x34);
	lines[0].rises = 0;
	pulses(1000);
	CHECK(lines[0].rises >= 9 && lines[0].rises <= 10);
	outb(0x43, 0x3e);
	CHECK_EQ(status(0) & 0x3f, 0x36);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	/* Modes 1 and 5 want a trigger, which counter 0 never gets. */
	program(0, 0x32, 5);
	program(0, 0x3a, 5);
	lines[0].rises = 0;
	pass(SECOND);
	CHECK_EQ(lines[0].rises, 0);
	stop();
}

/* Ticks when the count changes on the way: mode 2 at the end of the period, mode 3 at that of the half period. */
static void rate_changes(void)
{
	static const struct { uint8_t control; unsigned after, first; } row[] = {
		{0x34, 100, 1000 - 100}, {0x34, 900, 100}, {0x36, 100, 500 - 100 + 100}, {0x36, 700, 300}};

	for (unsigned i = 0; i < 4; i++) {
		start();
		program(0, row[i].control, 1000);
		pulses(1 + row[i].after);
		outb(0x40, 200);
		outb(0x40, 0);
		lines[0].rises = 0;
		pulses(row[i].first - 1);
		CHECK_EQ(lines[0].rises, 0);
		pulses(1);
		CHECK_EQ(lines[0].rises, 1);
		pulses(199);
		CHECK_EQ(lines[0].rises, 1);
		pulses(1);
		CHECK_EQ(lines[0].rises, 2);
		pulses(200 * 100);
		CHECK_EQ(lines[0].rises, 102);
		pit_reset(pit);
		CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
		CHECK_EQ(lines[0].level, 0);
		stop();
	}
}

/* What the host was late with comes later, at no more than twice the rate. */
static void late_ticks(void)
{
	start();
	program(0, 0x34, 11932); /* 100 Hz */
	pass(100 * MILLISECOND);
	lines[0].rises = 0;
	stall(SECOND);
	CHECK_EQ(lines[0].rises, 1);
	pass(100 * MILLISECOND);
	CHECK(lines[0].rises >= 20 && lines[0].rises <= 22);
	pass(2900 * MILLISECOND);
	CHECK(lines[0].rises >= 398 && lines[0].rises <= 400); /* four seconds, all told */
	lines[0].rises = 0;
	stall(3600 * SECOND); /* too much: given up */
	pass(SECOND);
	CHECK(lines[0].rises >= 99 && lines[0].rises <= 102);
	/* The shortest periods do not eat the host. */
	program(0, 0x34, 2);
	lines[0].rises = 0;
	pass(SECOND);
	CHECK(lines[0].rises >= 19990 && lines[0].rises <= 20001);
	program(0, 0x34, 1);
	lines[0].rises = 0;
	pass(SECOND);
	CHECK_EQ(lines[0].rises, 0);
	stop();
}

static void port_b(void)
{
	unsigned toggles = 0;
	uint8_t last;

	start();
	outb(0x61, 0xff);
	CHECK_EQ(inb(0x61) & 0xcf, 0x0f);
	outb(0x61, 0);
	last = inb(0x61) & 0x10;
	for (unsigned i = 0; i < 1000; i++) {
		uint8_t now;

		pass(MICROSECOND);
		now = inb(0x61) & 0x10;
		toggles += now != last;
		last = now;
	}
	CHECK(toggles >= 65 && toggles <= 67); /* every 15 us */
	stop();
}

static void hostile(void)
{
	start();
	abuse(&pio, 0x40, 4, 50000);
	for (unsigned i = 0; i < 20000; i++) {
		abuse(&pio, 0x40, 4, 1);
		outb(0x61, (uint8_t)random64());
		inb(0x61);
		pass(random64() % 1000);
	}
	stop();
}

int main(void)
{
	mode0();
	mode1();
	mode2();
	mode3();
	mode4_and_5();
	bcd_and_bytes();
	interrupts();
	rate_changes();
	late_ticks();
	port_b();
	hostile();
	return summary();
}
