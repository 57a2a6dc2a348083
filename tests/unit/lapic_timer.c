/* The local APIC's timer in its three modes, on a queue with manual time, and when it wakes the host. */
#include "lapic_fixture.h"

static void test_timer(void)
{
	setup();
	/* One-shot, divided by 16 */
	wr(0, 0x3e0, 3);
	wr(0, 0x320, 0xec);
	wr(0, 0x380, 1000);
	CHECK_EQ(rd(0, 0x390), 1000);
	advance(8000);
	CHECK_EQ(rd(0, 0x390), 500);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	advance(8000);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(rd(0, 0x390), 0);
	advance(1000000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	/* Stopped by a count of 0, masked */
	wr(0, 0x380, 1000);
	wr(0, 0x380, 0);
	wr(0, 0x320, 0xec);
	CHECK_EQ(rd(0, 0x390), 0);
	advance(1000000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	wr(0, 0x320, 0x100ec);
	wr(0, 0x380, 1000);
	advance(1000000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	/* Periodic, divided by 1; the average rate is exact whatever the steps */
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x200ec);
	wr(0, 0x380, 100000);
	unsigned ticks = 0;
	for (unsigned i = 0; i < 1000; i++) {
		advance(30000);
		if (lapic_ack(apic[0]) == 0xec) {
			ticks++;
			wr(0, 0xb0, 0);
		}
	}
	CHECK_EQ(ticks, 300);
	CHECK_EQ(rd(0, 0x390), 100000);
	/* Late: ticks merge, the phase stays */
	advance(100000 * 7 + 5000);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(rd(0, 0x390), 95000);
	/* A period of a nanosecond does not hang us */
	wr(0, 0x380, 1);
	for (unsigned i = 0; i < 100; i++)
		advance(1000);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	wr(0, 0x380, 0);
	wr(0, 0x320, 0xec);
	/* Every divider: 1000 counts */
	static const struct { uint8_t write; unsigned by; } divider[] = {
		{0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xa, 128}, {0xb, 1}, {0xff, 1}};
	for (unsigned i = 0; i < sizeof(divider) / sizeof(divider[0]); i++) {
		wr(0, 0x3e0, divider[i].write);
		CHECK_EQ(rd(0, 0x3e0), divider[i].write & 0xb);
		wr(0, 0x380, 1000);
		advance(1000 * divider[i].by - 1);
		CHECK_EQ(rd(0, 0x390), 1);
		CHECK_EQ(lapic_pending_vector(apic[0]), -1);
		advance(1);
		CHECK_EQ(lapic_ack(apic[0]), 0xec);
		wr(0, 0xb0, 0);
	}
	/* TSC deadline: 2 GHz */
	wr(0, 0x320, 0x400ec);
	wr(0, 0x380, 5000); /* ignored */
	CHECK_EQ(rd(0, 0x390), 0);
	CHECK(lapic_msr_write(apic[0], 0x6e0, (now + 10000) * 2));
	CHECK_EQ(msr(0, 0x6e0), (now + 10000) * 2);
	advance(9990);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	advance(20);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(msr(0, 0x6e0), 0);
	CHECK(lapic_msr_write(apic[0], 0x6e0, 1)); /* past */
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK(lapic_msr_write(apic[0], 0x6e0, UINT64_MAX));
	for (unsigned i = 0; i < 10; i++)
		advance(3600ull * 1000000000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	wr(0, 0x320, 0xec); /* leaving the mode disarms */
	CHECK_EQ(msr(0, 0x6e0), 0);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	CHECK(lapic_msr_write(apic[0], 0x6e0, 1)); /* and writes are ignored */
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	teardown();
}

/* When the host's timer goes off next; 0: never. */
static uint64_t host_timer(void)
{
	return timer_queue_next(queue) == UINT64_MAX ? 0 : timer_queue_next(queue);
}

/* Ticks that the guest would not notice do not wake the host; those that it would come when they are due. */
static void test_timer_wakeups(void)
{
	uint64_t start;

	setup();
	wr(0, 0x3e0, 0xb);
	wr(0, 0x320, 0x200ec);
	wr(0, 0x380, 100000);
	start = now;
	CHECK_EQ(host_timer(), start + 100000);
	advance(100000);
	CHECK_EQ(lapic_pending_vector(apic[0]), 0xec);
	CHECK_EQ(host_timer(), start + 200000);
	advance(100000);
	CHECK_EQ(host_timer(), 0); /* still pending: more ticks would merge with it */
	advance(150000);
	CHECK_EQ(rd(0, 0x390), 50000); /* the count goes on all the same */
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(host_timer(), start + 400000); /* the phase stays */
	/* Masked and let through again */
	wr(0, 0x320, 0x300ec);
	advance(1000000);
	CHECK_EQ(host_timer(), 0);
	CHECK_EQ(rd(0, 0x390), 50000);
	wr(0, 0x320, 0x200ec);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(host_timer(), start + 1400000);
	/* Due while the host slept: not lost by writing the LVT or the divider */
	timer_queue_set_now(queue, now += 50000);
	wr(0, 0x320, 0x200ed);
	advance(0);
	CHECK_EQ(lapic_ack(apic[0]), 0xed);
	wr(0, 0xb0, 0);
	wr(0, 0x320, 0xec);
	wr(0, 0x380, 1000);
	timer_queue_set_now(queue, now += 1000);
	CHECK_EQ(rd(0, 0x390), 0);
	wr(0, 0x3e0, 3);
	advance(0);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(host_timer(), 0);
	/* A divider changed on the way: what is left counts at the new rate */
	wr(0, 0x380, 1000);
	advance(8000);
	wr(0, 0x3e0, 0xb);
	CHECK_EQ(rd(0, 0x390), 500);
	CHECK_EQ(host_timer(), now + 500);
	advance(500);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	/* One-shot: expired while masked is gone, also when its vector was sent by somebody else meanwhile */
	wr(0, 0x380, 1000);
	wr(0, 0x320, 0x100ec);
	advance(2000);
	CHECK_EQ(host_timer(), 0);
	wr(0, 0x320, 0xec);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(host_timer(), 0);
	wr(0, 0x380, 1000);
	icr(0, 0, 0x400ec);
	advance(500);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(host_timer(), now + 500);
	icr(0, 0, 0x400ec);
	advance(1000);
	CHECK_EQ(lapic_ack(apic[0]), 0xec);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	/* The shortest period, taken at once each time: the host's timer goes no faster than 20 kHz */
	wr(0, 0x320, 0x200ec);
	wr(0, 0x380, 1);
	unsigned ticks = 0;
	for (start = now; now < start + 1000000000; ticks++) {
		advance(host_timer() - now);
		if (lapic_ack(apic[0]) != 0xec)
			break;
		wr(0, 0xb0, 0);
	}
	CHECK(ticks >= 20000 && ticks <= 20001);
	/* Pending, it is not told again and again. */
	kicks[0] = 0;
	icr(1, 0, 0x50);
	icr(1, 0, 0x50);
	CHECK_EQ(kicks[0], 1);
	teardown();
}

int main(void)
{
	if (memory_init(&memory, 1 << 20) < 0)
		return 1;
	test_timer();
	test_timer_wakeups();
	memory_free(&memory);
	return summary();
}
