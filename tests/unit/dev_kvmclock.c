/*
 * The paravirtual clock: what a guest computes from its records follows the host's time, on every vCPU,
 * without a step back; bad addresses do no harm.
 */
#include "dev/kvmclock.h"

#include "dev_fixture.h"
#include "mem/memory.h"

#define SYSTEM_TIME 0x4b564d01
#define WALL_CLOCK 0x4b564d00
#define MEMORY_SIZE (1u << 20)
#define VCPUS 2

static struct memory memory;
static struct kvmclock *clock_;
static uint64_t tsc_khz_real;       /* what the host's TSC really does */
static uint64_t tsc_start = 1ull << 40;
static uint64_t offset[VCPUS] = {0, (uint64_t)-12345};
static uint32_t kicked;

static uint64_t host_tsc(void *opaque)
{
	(void)opaque;
	uint64_t ns = timer_queue_now(queue) - 1000 * SECOND;
	return tsc_start + (uint64_t)((unsigned __int128)ns * tsc_khz_real / 1000000);
}

static bool kick(void *opaque, uint32_t apic_id)
{
	(void)opaque;
	kicked = apic_id;
	return true;
}

static uint64_t realtime(void *opaque)
{
	(void)opaque;
	return 1700000000 * SECOND + 123456789 + timer_queue_now(queue) - 1000 * SECOND;
}

static void start(uint64_t khz_told, uint64_t khz_real)
{
	static const struct kvmclock_ops ops = {.tsc = host_tsc, .kick = kick, .realtime = realtime};

	fixture_start();
	tsc_khz_real = khz_real;
	if (memory_init(&memory, MEMORY_SIZE) < 0)
		exit(1);
	clock_ = kvmclock_new(&memory, queue, VCPUS, khz_told, &ops, NULL);
}

static void stop(void)
{
	kvmclock_free(clock_);
	memory_free(&memory);
	fixture_stop();
}

struct record {
	uint32_t version, pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};

static struct record record(uint64_t gpa)
{
	struct record r;

	memory_read(&memory, gpa, &r, sizeof r);
	return r;
}

/* Time as the guest computes it on that vCPU. */
static uint64_t guest_ns(uint64_t gpa, unsigned vcpu)
{
	struct record r = record(gpa);
	uint64_t delta = host_tsc(NULL) + offset[vcpu] - r.tsc;

	CHECK_EQ(r.version & 1, 0);
	delta = r.shift < 0 ? delta >> -r.shift : delta << r.shift;
	return r.ns + (uint64_t)((unsigned __int128)delta * r.mul >> 32);
}

static int64_t host_ns(void) { return (int64_t)(timer_queue_now(queue) - 1000 * SECOND); }

static bool set(unsigned vcpu, uint32_t msr, uint64_t value)
{
	return kvmclock_msr_write(clock_, vcpu, msr, value, offset[vcpu]);
}

static void records(void)
{
	uint64_t value;

	start(3000000, 3000000);
	pass(1234567);
	CHECK(set(0, SYSTEM_TIME, 0x1001));
	CHECK(set(1, SYSTEM_TIME, 0x1041));
	struct record r = record(0x1000);
	CHECK_EQ(r.version, 2);
	CHECK_EQ(r.flags, 1);
	CHECK_EQ(r.shift, -1);
	CHECK_EQ(record(0x1040).tsc, r.tsc + offset[1]);
	CHECK(kvmclock_msr_read(clock_, 1, SYSTEM_TIME, &value));
	CHECK_EQ(value, 0x1041);
	CHECK(kvmclock_msr_read(clock_, 0, 0x12, &value));
	CHECK_EQ(value, 0x1001);
	CHECK(!kvmclock_msr_read(clock_, 0, 0x4b564d02, &value));
	CHECK(!kvmclock_msr_write(clock_, 0, 0x4b564d04, 1, 0));
	CHECK(!kvmclock_msr_write(clock_, VCPUS, SYSTEM_TIME, 1, 0));
	for (unsigned i = 0; i < 50; i++) {
		uint64_t a = guest_ns(0x1000, 0), b = guest_ns(0x1040, 1);
		int64_t diff = (int64_t)a - host_ns();

		CHECK(a == b);
		CHECK(diff >= -10 && diff <= 10);
		pass(777 * MILLISECOND);
	}
	CHECK(record(0x1000).version > 30);
	/* The guest's TSC moves. */
	offset[1] += 99999;
	kvmclock_tsc_changed(clock_, 1, offset[1]);
	CHECK_EQ(guest_ns(0x1000, 0), guest_ns(0x1040, 1));
	/* Off */
	CHECK(set(0, SYSTEM_TIME, 0));
	CHECK(set(1, SYSTEM_TIME, 0));
	uint32_t version = record(0x1000).version;
	pass(10 * SECOND);
	CHECK_EQ(record(0x1000).version, version);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	CHECK(set(0, SYSTEM_TIME, 0x1001));
	int64_t diff = (int64_t)guest_ns(0x1000, 0) - host_ns();
	CHECK(diff >= -100 && diff <= 100);
	kvmclock_reset(clock_);
	CHECK(kvmclock_msr_read(clock_, 0, SYSTEM_TIME, &value));
	CHECK_EQ(value, 0);
	stop();
}

/* A TSC rate that was measured wrong, or that changes: time follows the host's all the same. */
static void discipline(uint64_t told, uint64_t real, uint64_t worst_ns)
{
	int64_t worst = 0, settled = 0;
	uint64_t last = 0;

	start(told, real);
	set(0, SYSTEM_TIME, 0x2001);
	for (unsigned i = 0; i < 600; i++) {
		uint64_t now = guest_ns(0x2000, 0);
		int64_t diff = (int64_t)now - host_ns();

		if (now < last)
			failed++;
		/* Once the rate is measured, time is led back and not pushed. */
		if (i > 20 && llabs((int64_t)(now - last - 100 * MILLISECOND)) > 51 * (int64_t)MICROSECOND)
			failed++;
		last = now;
		if (llabs(diff) > worst)
			worst = llabs(diff);
		if (i > 500 && llabs(diff) > settled)
			settled = llabs(diff);
		pass(100 * MILLISECOND);
	}
	CHECK((uint64_t)worst <= worst_ns);
	CHECK(settled < 1000);
	stop();
}

static void wall_clock(void)
{
	uint32_t w[3];
	uint64_t value;

	start(2000000, 2000000);
	pass(3 * SECOND);
	CHECK(set(0, WALL_CLOCK, 0x3000));
	memory_read(&memory, 0x3000, w, sizeof w);
	CHECK_EQ(w[0] & 1, 0);
	CHECK(w[0] != 0);
	CHECK_EQ(w[1], 1700000000);
	CHECK(w[2] >= 123456780 && w[2] <= 123456810);
	CHECK(kvmclock_msr_read(clock_, 1, WALL_CLOCK, &value));
	CHECK_EQ(value, 0x3000);
	CHECK(kvmclock_msr_read(clock_, 0, 0x11, &value));
	CHECK_EQ(value, 0x3000);
	CHECK(!kvmclock_msr_read(clock_, VCPUS, WALL_CLOCK, &value));
	memory_read(&memory, 0x300c, w, 4);
	CHECK_EQ(w[0], 0); /* 12 bytes and no more */
	CHECK(set(0, WALL_CLOCK, 0x3000));
	memory_read(&memory, 0x3000, w, sizeof w);
	CHECK(w[0] > 2 && w[0] % 2 == 0); /* a new version */
	kvmclock_reset(clock_);
	CHECK(kvmclock_msr_read(clock_, 0, WALL_CLOCK, &value));
	CHECK_EQ(value, 0);
	stop();
}

static uint64_t others_ns;

static uint64_t others_now(void *opaque)
{
	CHECK(opaque == &others_ns);
	return others_ns;
}

/* Somebody else keeps the time for a while, and not well: here it goes on from there. */
static void elsewhere(void)
{
	uint32_t version;
	uint64_t value, before;

	start(2000000, 2000000);
	CHECK(set(0, SYSTEM_TIME, 0x1001));
	pass(3 * SECOND);
	before = kvmclock_now(clock_);
	version = record(0x1000).version;
	kvmclock_set_elsewhere(clock_, others_now, &others_ns);
	CHECK(kvmclock_msr_read(clock_, 0, SYSTEM_TIME, &value));
	CHECK_EQ(value, 0);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	others_ns = before + 7 * SECOND;
	CHECK_EQ(kvmclock_now(clock_), others_ns);
	pass(5 * SECOND);
	kvmclock_tsc_changed(clock_, 0, 1000);
	CHECK_EQ(record(0x1000).version, version);
	memory_write(&memory, 0x1000, &(uint32_t){101}, 4); /* its writer was stopped in the middle */
	kvmclock_set_elsewhere(clock_, NULL, NULL);
	CHECK(set(0, SYSTEM_TIME, 0x1001));
	CHECK(record(0x1000).version > 101);
	CHECK_EQ(guest_ns(0x1000, 0), others_ns);
	for (unsigned i = 1; i <= 20; i++) {
		pass(SECOND);
		int64_t diff = (int64_t)(guest_ns(0x1000, 0) - others_ns - i * SECOND);
		CHECK(diff >= -20 && diff <= 20);
	}
	/* One that says less than was said before is not believed. */
	before = kvmclock_now(clock_);
	kvmclock_set_elsewhere(clock_, others_now, &others_ns);
	others_ns = 5;
	kvmclock_set_elsewhere(clock_, NULL, NULL);
	CHECK_EQ(kvmclock_now(clock_), before);
	stop();
}

static void hypercalls(void)
{
	const uint64_t none[4] = {0};
	struct {
		int64_t sec, nsec;
		uint64_t tsc;
		uint32_t flags, pad[9];
	} pairing;

	start(1000000, 1000000);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 1, none), 0);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 5, (uint64_t[4]){0, 7}), 0);
	CHECK_EQ(kicked, 7);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 9, (uint64_t[4]){0x4000, 0}), 0);
	memory_read(&memory, 0x4000, &pairing, sizeof pairing);
	CHECK_EQ(pairing.sec, 1700000000);
	CHECK_EQ(pairing.nsec, 123456789);
	CHECK_EQ(pairing.tsc, tsc_start);
	kvmclock_tsc_changed(clock_, 1, 1000); /* the TSC of the vCPU that asks */
	CHECK_EQ(kvmclock_hypercall(clock_, 1, 9, (uint64_t[4]){0x4000, 0}), 0);
	memory_read(&memory, 0x4000, &pairing, sizeof pairing);
	CHECK_EQ(pairing.tsc, tsc_start + 1000);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 9, (uint64_t[4]){0x4000, 1}), (uint64_t)-95);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 9, (uint64_t[4]){UINT64_MAX, 0}), (uint64_t)-14);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, 2, none), (uint64_t)-1000);
	CHECK_EQ(kvmclock_hypercall(clock_, 0, UINT64_MAX, none), (uint64_t)-1000);
	stop();
}

static void hostile(void)
{
	start(2500000, 2500000);
	for (unsigned i = 0; i < 20000; i++) {
		static const uint32_t msr[] = {0x11, 0x12, WALL_CLOCK, SYSTEM_TIME};
		uint64_t value = random64() >> random64() % 64, arg[4] = {random64(), random64(), value, 0};

		if (random64() % 4 == 0)
			value = MEMORY_SIZE - random64() % 40;
		kvmclock_msr_write(clock_, random64() % 3, msr[random64() % 4], value, random64());
		kvmclock_hypercall(clock_, random64() % 3, random64() % 12, arg);
		if (random64() % 16 == 0)
			stall(random64() % (100 * SECOND));
	}
	CHECK(true);
	stop();
	CHECK(kvmclock_new(&memory, queue, 65, 1, NULL, NULL) == NULL);
	CHECK(kvmclock_new(&memory, queue, 1, 0, NULL, NULL) == NULL);
}

int main(void)
{
	records();
	discipline(3000000, 3000000, 20);
	discipline(3000000, 3000300, 200000);   /* 100 ppm too slow: guest ahead by 100 us in the first second */
	discipline(3000000, 2999700, 200000);
	discipline(3000000, 3030000, 20000000); /* 1 % */
	discipline(3000000, 2970000, 20000000);
	wall_clock();
	elsewhere();
	hypercalls();
	hostile();
	return summary();
}
