/*
 * The memory balloon under a driver: inflating, reporting, poison, statistics, the target.
 */
#include "virtio_driver.h"

#include "virtio/balloon.h"

enum { INFLATE, DEFLATE, STATISTICS, REPORTING };
#define F_STATS (1ull << 1)
#define F_POISON (1ull << 4)
#define F_REPORTING (1ull << 5)

static struct virtio_balloon *balloon;
static struct vd v;

static void start(uint64_t features)
{
	vd_start();
	balloon = virtio_balloon_new(pci, loop, &memory, VD_RAM - (3 << 12));
	if (!balloon)
		exit(1);
	vd_probe(&v, 0, false, true);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < 5; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
}

static void stop(void)
{
	virtio_balloon_free(balloon);
	vd_stop();
}

static void test_inflate(void)
{
	start(F_STATS);
	CHECK_EQ(vd_config(&v, 0, 4), 3);
	memset(vd_ram(0x800000), 0x5a, 64 << 12);
	const uint32_t pfn[] = {0x812, 0x811, 0x810, 0x820, 0x810, 0xfffffff0, 0xa0, 0xffff};
	struct vd_segment s = {vd_alloc(sizeof pfn + 2, 4), sizeof pfn + 2}; /* half a number at its end */
	memcpy(vd_ram(s.gpa), pfn, sizeof pfn);
	CHECK_EQ(vd_transfer(&v, INFLATE, &s, 1, 0), 0);
	for (unsigned page = 0x800; page < 0x840; page++) {
		bool gone = (page >= 0x810 && page <= 0x812) || page == 0x820;

		CHECK_EQ(*vd_ram((uint64_t)page << 12), gone ? 0 : 0x5a);
		CHECK_EQ(*vd_ram(((uint64_t)page << 12) + 4095), gone ? 0 : 0x5a);
	}
	CHECK_EQ(vd_transfer(&v, DEFLATE, &s, 1, 0), 0);
	vd_config_write(&v, 4, 4, 4);
	CHECK_EQ(virtio_balloon_size(balloon), 4 << 12);
	vd_config_write(&v, 0, 4, 77); /* the target is not the driver's */
	CHECK_EQ(vd_config(&v, 0, 4), 3);
	virtio_balloon_set_target(balloon, VD_RAM / 2);
	CHECK_EQ(vd_config(&v, 0, 4), VD_RAM / 2 >> 12);
	CHECK_EQ(vd_messages[0], 1);
	virtio_balloon_set_target(balloon, 2 * VD_RAM);
	CHECK_EQ(vd_config(&v, 0, 4), 0);
	stop();
}

/* A chain of numbers without end does not keep the I/O thread. */
static void test_long_chain(void)
{
	enum { COUNT = 100000, LOOKED_AT = 65536 };
	struct vd_segment s;

	start(0);
	memset(vd_ram(0x800000), 0x5a, 4 << 12);
	s = (struct vd_segment){vd_alloc(4 * COUNT, 4), 4 * COUNT};
	memset(vd_ram(s.gpa), 0xff, s.len); /* no page of RAM */
	vd_put32(s.gpa, 0x800);
	vd_put32(s.gpa + 4 * (LOOKED_AT - 1), 0x801);
	vd_put32(s.gpa + 4 * LOOKED_AT, 0x802);
	CHECK_EQ(vd_transfer(&v, INFLATE, &s, 1, 0), 0);
	CHECK_EQ(*vd_ram(0x800000), 0);
	CHECK_EQ(*vd_ram(0x801000), 0);
	CHECK_EQ(*vd_ram(0x802000), 0x5a);
	CHECK_EQ(vd_transfer(&v, INFLATE, &s, 1, 0), 0); /* and again, after a turn's worth */
	stop();
}

static void report(uint8_t expected)
{
	memset(vd_ram(0x800000), 0x5a, 0x10000);
	const struct vd_segment s[2] = {{0x800000, 0x4000}, {0x808800, 0x2000}};
	CHECK_EQ(vd_transfer(&v, REPORTING, s, 0, 2), 0);
	CHECK_EQ(*vd_ram(0x800000), expected);
	CHECK_EQ(*vd_ram(0x803fff), expected);
	CHECK_EQ(*vd_ram(0x804000), 0x5a);
	CHECK_EQ(*vd_ram(0x808fff), 0x5a); /* whole pages only */
	CHECK_EQ(*vd_ram(0x809000), expected);
	CHECK_EQ(*vd_ram(0x80a000), 0x5a);
}

static void test_reporting(void)
{
	start(F_STATS | F_REPORTING);
	report(0);
	stop();
	start(F_STATS | F_REPORTING | F_POISON);
	vd_config_write(&v, 12, 4, 0xaaaaaaaa);
	report(0x5a);
	vd_config_write(&v, 12, 4, 0);
	report(0);
	stop();
}

static void test_statistics(void)
{
	uint64_t value[BALLOON_STATISTICS];
	uint16_t id;
	uint32_t len;

	start(F_STATS);
	struct vd_segment s = {vd_alloc(30, 2), 30};
	vd_put16(s.gpa, BALLOON_FREE);
	vd_put64(s.gpa + 2, 12345);
	vd_put16(s.gpa + 10, 0x7777); /* unknown tag */
	vd_put16(s.gpa + 20, BALLOON_TOTAL);
	vd_put64(s.gpa + 22, 67890);
	vd_add(&v, STATISTICS, &s, 1, 0);
	vd_kick(&v, STATISTICS);
	vd_turn();
	CHECK(!vd_used(&v, STATISTICS, &id, &len)); /* kept */
	virtio_balloon_statistics(balloon, value);
	CHECK_EQ(value[BALLOON_FREE], 12345);
	CHECK_EQ(value[BALLOON_TOTAL], 67890);
	CHECK_EQ(value[BALLOON_CACHES], BALLOON_UNKNOWN);
	CHECK(vd_used(&v, STATISTICS, &id, &len)); /* newer ones are wanted */
	virtio_balloon_statistics(balloon, value);
	CHECK(!vd_used(&v, STATISTICS, &id, &len));
	vd_add(&v, STATISTICS, &s, 1, 0);
	vd_kick(&v, STATISTICS);
	vd_turn();
	vd_set_status(&v, 0); /* with the buffer in the device's hands */
	virtio_balloon_statistics(balloon, value);
	CHECK_EQ(value[BALLOON_FREE], BALLOON_UNKNOWN);
	stop();
}

int main(void)
{
	test_inflate();
	test_long_chain();
	test_reporting();
	test_statistics();
	return summary();
}
