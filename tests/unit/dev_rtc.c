/*
 * The MC146818: time in every format, setting it, update, alarm and periodic interrupts, RAM.
 */
#include "dev/rtc.h"

#include "dev_fixture.h"

#define EPOCH 1709251199ull /* 2024-02-29 23:59:59, a Thursday */

static struct rtc *rtc;
static uint64_t realtime_base; /* ns that realtime is ahead of the queue's time */

static uint64_t realtime(void *opaque)
{
	(void)opaque;
	return timer_queue_now(queue) + realtime_base;
}

static uint8_t get(uint8_t i)
{
	outb(0x70, i);
	return inb(0x71);
}

static void set(uint8_t i, uint8_t value)
{
	outb(0x70, i);
	outb(0x71, value);
}

static void start(uint64_t at_ns)
{
	const struct rtc_config config = {
		.memory_low = 3ull << 30, .memory_high = 5ull << 30, .realtime = realtime};

	fixture_start();
	realtime_base = at_ns - timer_queue_now(queue);
	rtc = rtc_new(&pio, queue, test_line(8), &config);
	set(0x0b, 0x02);
}

static void stop(void)
{
	rtc_free(rtc);
	fixture_stop();
}

static void check_time(uint8_t h, uint8_t m, uint8_t s)
{
	CHECK_EQ(get(4), h);
	CHECK_EQ(get(2), m);
	CHECK_EQ(get(0), s);
}

static void check_date(uint8_t century, uint8_t y, uint8_t m, uint8_t d, uint8_t weekday)
{
	CHECK_EQ(get(0x32), century);
	CHECK_EQ(get(9), y);
	CHECK_EQ(get(8), m);
	CHECK_EQ(get(7), d);
	CHECK_EQ(get(6), weekday);
}

static void formats(void)
{
	start(EPOCH * SECOND);
	check_time(0x23, 0x59, 0x59);
	check_date(0x20, 0x24, 0x02, 0x29, 5);
	set(0x0b, 0x06); /* binary */
	check_time(23, 59, 59);
	check_date(20, 24, 2, 29, 5);
	set(0x0b, 0x00); /* BCD, 12 hours */
	CHECK_EQ(get(4), 0x91);
	set(0x0b, 0x04);
	CHECK_EQ(get(4), 0x80 | 11);
	pass(SECOND);
	check_time(12, 0, 0); /* midnight */
	check_date(20, 24, 3, 1, 6);
	pass(3600 * SECOND);
	CHECK_EQ(get(4), 1);
	pass(11 * 3600 * SECOND);
	CHECK_EQ(get(4), 0x80 | 12); /* noon */
	set(4, 0x80 | 3); /* set in 12-hour format, read in the other */
	set(0x0b, 0x06);
	CHECK_EQ(get(4), 15);
	set(0x0b, 0x04);
	set(4, 12);
	set(0x0b, 0x06);
	CHECK_EQ(get(4), 0);
	CHECK_EQ(get(0x0d), 0x80);
	CHECK_EQ(inb(0x70), 0xff);
	stop();
}

static void update_in_progress(void)
{
	start(EPOCH * SECOND);
	CHECK_EQ(get(0x0a), 0x26);
	pass(SECOND - 2229 * MICROSECOND);
	CHECK_EQ(get(0x0a) & 0x80, 0);
	pass(2 * MICROSECOND);
	CHECK_EQ(get(0x0a) & 0x80, 0x80);
	CHECK_EQ(get(0), 0x59);
	pass(2227 * MICROSECOND);
	CHECK_EQ(get(0x0a) & 0x80, 0);
	CHECK_EQ(get(0), 0x00);
	stop();
}

static void setting(void)
{
	start(EPOCH * SECOND + 250 * MILLISECOND);
	/* One register while it runs */
	set(4, 0x12);
	check_time(0x12, 0x59, 0x59);
	pass(750 * MILLISECOND);
	check_time(0x13, 0x00, 0x00);
	/* All of them, stopped by SET: the fraction of the second goes on. */
	set(0x0b, 0x82);
	pass(10 * SECOND);
	check_time(0x13, 0x00, 0x00);
	set(0, 0x58), set(2, 0x59), set(4, 0x23);
	set(7, 0x31), set(8, 0x12), set(9, 0x99), set(0x32, 0x19), set(6, 0x06);
	check_time(0x23, 0x59, 0x58);
	set(0x0b, 0x02);
	check_time(0x23, 0x59, 0x58);
	pass(2 * SECOND);
	check_time(0x00, 0x00, 0x00);
	check_date(0x20, 0x00, 0x01, 0x01, 7);
	/* With the divider reset: the first update comes half a second after. */
	set(0x0b, 0x82);
	set(0x0a, 0x76);
	pass(123 * MILLISECOND);
	set(0, 0x10);
	set(0x0b, 0x02);
	pass(5 * SECOND);
	CHECK_EQ(get(0), 0x10);
	set(0x0a, 0x26);
	pass(499 * MILLISECOND);
	CHECK_EQ(get(0), 0x10);
	pass(2 * MILLISECOND);
	CHECK_EQ(get(0), 0x11);
	/* Each register alone, while it runs */
	set(2, 0x34), set(7, 0x15), set(8, 0x06), set(9, 0x21);
	check_date(0x20, 0x21, 0x06, 0x15, get(6));
	CHECK_EQ(get(2), 0x34);
	/* From December 9999 the clock goes on in year 0. */
	set(0x32, 0x99), set(9, 0x99), set(8, 0x12), set(7, 0x31), set(4, 0x23), set(2, 0x59), set(0, 0x50);
	check_date(0x99, 0x99, 0x12, 0x31, get(6));
	pass(11 * SECOND);
	check_date(0x00, 0x00, 0x01, 0x01, get(6));
	set(0x32, 0x20), set(9, 0x21), set(0, 0x11);
	/* Guest's own day of week */
	set(6, 0x01);
	CHECK_EQ(get(6), 0x01);
	pass(86400 * SECOND);
	CHECK_EQ(get(6), 0x02);
	stop();
}

static void update_interrupt(void)
{
	start(EPOCH * SECOND + 900 * MILLISECOND);
	get(0x0c);
	pass(50 * MILLISECOND);
	CHECK_EQ(get(0x0c) & 0xbf, 0);
	set(1, 0x30); /* no alarm here */
	pass(100 * MILLISECOND);
	CHECK_EQ(get(0x0c) & 0xbf, 0x10); /* the flag comes without being enabled */
	CHECK_EQ(get(0x0c), 0);
	set(0x0b, 0x12);
	CHECK_EQ(lines[8].level, 0);
	pass(SECOND);
	CHECK_EQ(lines[8].level, 1);
	pass(5 * SECOND);
	CHECK_EQ(lines[8].rises, 1); /* nobody has read register C */
	CHECK_EQ(get(0x0c) & 0xbf, 0x90);
	CHECK_EQ(lines[8].level, 0);
	for (unsigned i = 0; i < 10; i++) {
		pass(SECOND);
		CHECK_EQ(get(0x0c) & 0xbf, 0x90);
	}
	CHECK_EQ(lines[8].rises, 11);
	set(0x0b, 0x92); /* SET clears UIE */
	CHECK_EQ(get(0x0b), 0x82);
	pass(3 * SECOND);
	CHECK_EQ(lines[8].rises, 11);
	stop();
}

static void alarm(void)
{
	start(EPOCH * SECOND);
	set(5, 0x00), set(3, 0x00), set(1, 0x05);
	set(0x0b, 0x22);
	get(0x0c);
	pass(5 * SECOND);
	CHECK_EQ(lines[8].level, 0);
	pass(SECOND);
	CHECK_EQ(lines[8].level, 1);
	CHECK_EQ(get(0x0c) & 0xbf, 0xb0);
	pass(86399 * SECOND);
	CHECK_EQ(lines[8].rises, 1);
	pass(SECOND);
	CHECK_EQ(lines[8].rises, 2);
	get(0x0c);
	set(5, 0xff), set(3, 0xc0); /* every minute */
	pass(3600 * SECOND);
	CHECK_EQ(lines[8].rises, 3);
	for (unsigned i = 0; i < 10; i++) {
		get(0x0c);
		pass(60 * SECOND);
	}
	CHECK_EQ(lines[8].rises, 13);
	get(0x0c);
	set(1, 0x77); /* never */
	pass(86400 * SECOND);
	CHECK_EQ(lines[8].rises, 13);
	/* The flag by polling alone */
	set(0x0b, 0x02);
	set(1, 0x30);
	get(0x0c);
	pass(61 * SECOND);
	CHECK_EQ(get(0x0c) & 0xa0, 0x20);
	stop();
}

/* Whether alarm register `alarm` matches what time register `time` says. */
static bool matches(uint8_t alarm, uint8_t time)
{
	return get(alarm) >= 0xc0 || get(alarm) == get(time);
}

/* Random alarms in every format against a clock that is looked at each second. */
static void alarm_model(void)
{
	unsigned hits = 0;

	start(EPOCH * SECOND);
	for (unsigned round = 0; round < 60; round++) {
		uint8_t format = random64() % 4 * 2, control = 0x20 | format;
		unsigned at = 0, limit = round % 10 ? 4000 : 86401;

		set(0x0b, format);
		pass(random64() % 86400 * SECOND);
		/* Times of the next few hours, so that some hit. */
		uint64_t ahead = random64() % 7200;
		realtime_base += ahead * SECOND;
		for (unsigned i = 0; i < 3; i++)
			set((uint8_t)(2 * i + 1), random64() % 3 ? get((uint8_t)(2 * i)) : 0xc0 | (uint8_t)random64());
		realtime_base -= ahead * SECOND;
		if (round % 8 == 7)
			set(random64() % 3 * 2 + 1, 0xbf); /* no time at all */
		get(0x0c);
		set(0x0b, control);
		lines[8].level = 0;
		for (unsigned i = 1; i <= limit && !at; i++) {
			pass(SECOND);
			if (matches(1, 0) && matches(3, 2) && matches(5, 4))
				at = i;
			if (lines[8].level != (at != 0)) {
				printf("# round %u second %u\n", round, i);
				CHECK(false);
				break;
			}
		}
		hits += at != 0;
	}
	CHECK(hits >= 20 && hits <= 58);
	/* An alarm that never comes is seen to be one at once. */
	set(0x0b, 0x22);
	set(5, 0xff), set(3, 0xff), set(1, 0x77);
	get(0x0c);
	uint64_t before = clock_now();
	for (unsigned i = 0; i < 2000; i++)
		set(1, 0x77);
	CHECK(clock_now() - before < SECOND);
	stop();
}

static void periodic(void)
{
	start(EPOCH * SECOND);
	set(0x0a, 0x26); /* 1024 Hz */
	get(0x0c);
	pass(2 * MILLISECOND);
	CHECK_EQ(get(0x0c) & 0x40, 0x40); /* by polling */
	set(0x0b, 0x42);
	unsigned seen = 0;
	for (unsigned i = 0; i < 10000; i++) {
		pass(100 * MICROSECOND);
		if (lines[8].level) {
			CHECK_EQ(get(0x0c) & 0xc0, 0xc0);
			seen++;
		}
	}
	CHECK(seen >= 1023 && seen <= 1025);
	set(0x0a, 0x2f); /* 2 Hz */
	get(0x0c);
	lines[8].rises = 0;
	for (unsigned i = 0; i < 100; i++) {
		pass(100 * MILLISECOND);
		get(0x0c);
	}
	CHECK(lines[8].rises >= 19 && lines[8].rises <= 21);
	/* Late ticks come later, each after the one before it has been seen. */
	set(0x0a, 0x2a); /* 64 Hz */
	get(0x0c);
	lines[8].rises = 0;
	stall(SECOND);
	CHECK_EQ(lines[8].rises, 1);
	pass(SECOND);
	CHECK_EQ(lines[8].rises, 1);
	for (unsigned i = 0; i < 4000; i++) {
		if (lines[8].level)
			get(0x0c);
		pass(MILLISECOND);
	}
	CHECK(lines[8].rises >= 6 * 64 - 2 && lines[8].rises <= 6 * 64 + 2);
	/* The rates */
	static const struct { uint8_t select; unsigned hz; } rate[] = {
		{1, 256}, {2, 128}, {3, 8192}, {4, 4096}, {5, 2048}, {7, 512}, {14, 4}, {0, 0}};
	for (unsigned r = 0; r < sizeof rate / sizeof rate[0]; r++) {
		set(0x0a, 0x20 | rate[r].select);
		get(0x0c);
		lines[8].rises = 0;
		for (unsigned i = 0; i < 100000; i++) {
			pass(10 * MICROSECOND);
			if (lines[8].level)
				get(0x0c);
		}
		CHECK(lines[8].rises + 2 >= rate[r].hz && lines[8].rises <= rate[r].hz + 1);
	}
	set(0x0a, 0x26);
	set(0x0b, 0x7a);
	pass(SECOND);
	CHECK_EQ(lines[8].level, 1);
	rtc_reset(rtc);
	CHECK_EQ(lines[8].level, 0);
	CHECK_EQ(get(0x0b), 0x02);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX); /* nothing to wake the host for */
	stop();
}

static void ram(void)
{
	unsigned sum = 0;

	start(EPOCH * SECOND);
	CHECK_EQ(get(0x15) | get(0x16) << 8, 640);
	CHECK_EQ(get(0x17) | get(0x18) << 8, 0xffff);
	CHECK_EQ(get(0x34) | get(0x35) << 8, (3072 - 16) * 16);
	CHECK_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 * 1024 * 16);
	for (uint8_t i = 0x10; i <= 0x2d; i++)
		sum += get(i);
	CHECK_EQ(get(0x2e) << 8 | get(0x2f), sum);
	for (uint8_t i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			set(i, (uint8_t)(i * 7));
	for (uint8_t i = 0x0e; i < 0x80; i++)
		if (i != 0x32)
			CHECK_EQ(get(i), (uint8_t)(i * 7));
	set(0x0d, 0); /* read-only */
	CHECK_EQ(get(0x0d), 0x80);
	get(0x0c);
	set(0x0c, 0xff);
	CHECK_EQ(get(0x0c), 0);
	CHECK_EQ(lines[8].level, 0);
	set(0x80 | 0x40, 1); /* bit 7 is the NMI mask */
	CHECK_EQ(get(0x40), 1);
	stop();
}

static void host_clock_jumps(void)
{
	start(EPOCH * SECOND);
	set(0x0b, 0x12);
	pass(SECOND);
	get(0x0c);
	realtime_base -= 3600 * SECOND;
	check_time(0x23, 0x00, 0x00);
	pass(2 * SECOND);
	CHECK_EQ(lines[8].level, 1); /* still goes */
	get(0x0c);
	realtime_base += 3600 * SECOND;
	pass(2 * SECOND);
	CHECK_EQ(lines[8].level, 1);
	stop();
}

static void hostile(void)
{
	start(EPOCH * SECOND);
	for (unsigned i = 0; i < 100000; i++) {
		outb(0x70, random64() % 4 ? random64() % 16 : (uint8_t)random64());
		abuse(&pio, 0x70, 2, 1);
	}
	set(0x0b, 0x82);
	for (uint8_t i = 0; i < 10; i++)
		set(i, 0xff);
	set(0x32, 0xff);
	set(0x0b, 0x02);
	get(0);
	set(0x0b, 0x06);
	CHECK(get(0) < 60);
	stop();
}

static void real_clock(void)
{
	const struct rtc_config config = {.memory_low = 1 << 20};

	fixture_start();
	rtc = rtc_new(&pio, queue, test_line(8), &config);
	CHECK_EQ(get(0x32), 0x20);
	CHECK(get(9) >= 0x24);
	stop();
}

/* A machine is reset: another clock, the same battery. */
static void battery(void)
{
	struct rtc_battery kept = {0};
	const struct rtc_config config = {
		.memory_low = 3ull << 30, .memory_high = 5ull << 30, .battery = &kept, .realtime = realtime};

	start(1000000000ull * 1000000000);
	rtc_free(rtc);
	pio.count = 0;
	rtc = rtc_new(&pio, queue, test_line(8), &config); /* an empty one */
	set(0x0b, 0x86); /* SET, binary, 24 hours */
	set(4, 11);
	set(2, 22);
	set(0, 33);
	set(0x0b, 0x46);
	set(0x50, 0x77);
	set(0x0f, 0x0a);
	set(0x34, 0x55);
	rtc_keep(rtc, &kept);
	rtc_free(rtc);
	pio.count = 0;
	rtc = rtc_new(&pio, queue, test_line(8), &config);
	CHECK(kept.charged);
	check_time(11, 22, 33);
	CHECK_EQ(get(0x0b), 0x06);
	CHECK_EQ(get(0x50), 0x77);
	CHECK_EQ(get(0x0f), 0);
	CHECK_EQ(get(0x34), (0xc0000000u - 0x1000000u) >> 16 & 0xff); /* the size of memory is firmware's to say */
	stop();
}

int main(void)
{
	formats();
	battery();
	update_in_progress();
	setting();
	update_interrupt();
	alarm();
	alarm_model();
	periodic();
	ram();
	host_clock_jumps();
	hostile();
	real_clock();
	return summary();
}
