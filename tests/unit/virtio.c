/*
 * The virtio core under a driver: both interfaces, both ring formats, indirect tables, event index, MSI-X and INTx,
 * ring reset, and drivers that break the rules. The device here gives back what it reads, turned round.
 */
#include <unistd.h>

#include "virtio_driver.h"

enum { QUEUES = 3, SIZE = 16, CONFIG_SIZE = 12, HELD_MAX = 64 };
#define FEATURE_TEST (1ull << 3)
#define FEATURE_NEVER (1ull << 4) /* offered, and refused with FEATURE_TEST */

static struct virtio_device *device;
static unsigned resets, queue_resets, oks, notifies;
static bool hold; /* the device keeps what it gets */
static struct virtqueue_chain *held[HELD_MAX];
static unsigned held_count;
static uint8_t config[CONFIG_SIZE];

static uint64_t test_features(void *opaque)
{
	(void)opaque;
	return FEATURE_TEST | FEATURE_NEVER;
}

static bool test_features_ok(void *opaque, uint64_t f)
{
	(void)opaque;
	return (f & (FEATURE_TEST | FEATURE_NEVER)) != (FEATURE_TEST | FEATURE_NEVER);
}

static void test_ok(void *opaque)
{
	(void)opaque;
	oks++;
}

static void echo(struct virtqueue *q, struct virtqueue_chain *c)
{
	uint8_t buf[8192];
	size_t n = virtio_copy_out(c, 0, buf, sizeof buf);

	for (size_t i = 0; i < n / 2; i++) {
		uint8_t t = buf[i];

		buf[i] = buf[n - 1 - i];
		buf[n - 1 - i] = t;
	}
	virtqueue_put(q, c, (uint32_t)virtio_copy_in(c, 0, buf, n));
}

static void test_notify(void *opaque, unsigned queue)
{
	struct virtqueue *q = virtio_queue(device, queue);
	struct virtqueue_chain *c;

	(void)opaque;
	notifies++;
	while ((c = virtqueue_get(q)) != NULL) {
		if (hold && held_count < HELD_MAX)
			held[held_count++] = c;
		else
			echo(q, c);
	}
	virtqueue_interrupt(q);
}

static void forget_all(unsigned queue)
{
	while (held_count)
		virtqueue_forget(virtio_queue(device, queue), held[--held_count]);
}

static void test_reset(void *opaque)
{
	(void)opaque;
	resets++;
	if (device)
		forget_all(0);
}

static void test_queue_reset(void *opaque, unsigned queue)
{
	(void)opaque;
	queue_resets++;
	forget_all(queue);
}

static void test_config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	(void)opaque;
	CHECK(offset + len <= CONFIG_SIZE);
	memcpy(buf, config + offset, len);
}

static void test_config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	(void)opaque;
	CHECK(offset + len <= CONFIG_SIZE);
	memcpy(config + offset, buf, len);
}

static const struct virtio_ops ops = {
	.name = "virtio-test",
	.id = VIRTIO_ID_RNG,
	.class_code = 0x00ff00,
	.features = test_features,
	.features_ok = test_features_ok,
	.driver_ok = test_ok,
	.notify = test_notify,
	.reset = test_reset,
	.queue_reset = test_queue_reset,
	.config_read = test_config_read,
	.config_write = test_config_write,
	.config_size = CONFIG_SIZE,
};

static struct vd v;
static bool mirrored; /* as under an engine that keeps a second copy of memory: spans are buffers */

static void write_begin(void *opaque) { (void)opaque; }

static void write_end(void *opaque, uint64_t offset, uint64_t len)
{
	(void)opaque;
	CHECK(offset + len <= VD_RAM);
}

static void start(bool legacy, bool msix)
{
	vd_start();
	if (mirrored) {
		memory.write_begin = write_begin;
		memory.write_end = write_end;
	}
	resets = queue_resets = oks = notifies = 0;
	hold = false;
	for (unsigned i = 0; i < CONFIG_SIZE; i++)
		config[i] = (uint8_t)(0x10 + i);
	const struct virtio_config c = {
		.pci = pci, .devfn = 8, .loop = loop, .ops = &ops, .queues = QUEUES, .queue_size = SIZE};
	device = virtio_new(&c);
	if (!device) {
		perror("virtio_new");
		exit(1);
	}
	vd_probe(&v, 8, legacy, msix);
}

static void stop(void)
{
	virtio_free(device);
	device = NULL;
	held_count = 0;
	vd_stop();
}

/* A device that runs, with queue 0 set up. */
static void start_running(bool legacy, bool msix, uint64_t features)
{
	start(legacy, msix);
	CHECK(vd_negotiate(&v, features | (legacy ? 0 : VIRTIO_F_VERSION_1)));
	vd_queue_up(&v, 0, 0);
	vd_driver_ok(&v);
	CHECK_EQ(oks, 1);
}

static struct vd_segment segment(uint32_t len) { return (struct vd_segment){vd_alloc(len, 1), len}; }

/* ---- identity and registers ---- */

static void test_identity(void)
{
	start(false, false);
	CHECK_EQ(vd_pci(&v, 0, 4), 0x10051af4);
	CHECK_EQ(vd_pci(&v, 8, 1), 0);
	CHECK_EQ(vd_pci(&v, 0x2c, 4), 0x00041af4);
	CHECK(v.common && v.notify && v.isr && v.config);
	CHECK_EQ(v.config_len, CONFIG_SIZE);
	CHECK_EQ(vd_common(&v, VC_QUEUES, 2), QUEUES);
	vd_common_write(&v, VC_SELECT, 2, QUEUES);
	CHECK_EQ(vd_common(&v, VC_SIZE, 2), 0);
	vd_common_write(&v, VC_SELECT, 2, QUEUES - 1);
	CHECK_EQ(vd_common(&v, VC_SIZE, 2), SIZE);
	CHECK_EQ(vd_common(&v, VC_NOTIFY, 2), QUEUES - 1);
	vd_common_write(&v, VC_VECTOR, 2, QUEUES + 1);
	CHECK_EQ(vd_common(&v, VC_VECTOR, 2), 0xffff);
	vd_common_write(&v, VC_VECTOR, 2, QUEUES);
	CHECK_EQ(vd_common(&v, VC_VECTOR, 2), QUEUES);
	CHECK_EQ(vd_config(&v, 0, 4), 0x13121110);
	CHECK_EQ(vd_config(&v, 10, 4), 0xffff1b1a); /* behind its end: ones */
	vd_config_write(&v, 8, 4, 0xaabbccdd);
	CHECK_EQ(config[8], 0xdd);
	CHECK_EQ(vd_config(&v, 8, 8), 0xffffffffaabbccdd);
	stop();

	vd_start();
	const struct virtio_config c = {.pci = pci, .devfn = 8, .loop = loop, .ops = &ops, .queues = 1, .queue_size = 4,
					.modern_only = true};
	device = virtio_new(&c);
	vd_probe(&v, 8, false, false);
	CHECK_EQ(vd_pci(&v, 0, 4), 0x10441af4);
	CHECK_EQ(vd_pci(&v, 8, 1), 1);
	CHECK_EQ(vd_pci(&v, 0x10, 4), 0); /* no legacy BAR */
	stop();
}

static void test_features_and_status(void)
{
	const uint64_t ring = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX, mine = FEATURE_TEST | FEATURE_NEVER;

	start(false, false);
	CHECK_EQ(vd_offered(&v), mine | ring | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED | VIRTIO_F_RING_RESET);
	CHECK(!vd_negotiate(&v, FEATURE_TEST));                       /* without VERSION_1 */
	CHECK(!vd_negotiate(&v, VIRTIO_F_VERSION_1 | 1));             /* not offered */
	CHECK(!vd_negotiate(&v, VIRTIO_F_VERSION_1 | mine));          /* the device refuses */
	vd_driver_ok(&v);
	CHECK(!(vd_status(&v) & VD_DRIVER_OK));                       /* not without FEATURES_OK */
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1 | FEATURE_TEST));
	CHECK_EQ(virtio_features(device), VIRTIO_F_VERSION_1 | FEATURE_TEST);
	vd_common_write(&v, VC_DRIVER_SELECT, 4, 0);
	vd_common_write(&v, VC_DRIVER, 4, 0);                         /* too late */
	CHECK_EQ(vd_common(&v, VC_DRIVER, 4), FEATURE_TEST);
	vd_driver_ok(&v);
	CHECK_EQ(vd_status(&v), VD_ACKNOWLEDGE | VD_DRIVER | VD_FEATURES_OK | VD_DRIVER_OK);
	unsigned before = resets;
	vd_set_status(&v, 0);
	CHECK_EQ(resets, before + 1);
	CHECK_EQ(vd_status(&v), 0);
	CHECK_EQ(virtio_features(device), 0);
	stop();

	start(true, false);
	CHECK_EQ(vd_offered(&v), mine | ring | VIRTIO_F_ANY_LAYOUT);
	vd_negotiate(&v, FEATURE_TEST | 1);
	CHECK_EQ(virtio_features(device), FEATURE_TEST);
	CHECK_EQ(vd_config(&v, 4, 4), 0x17161514);
	stop();
}

/* The registers through configuration space. */
static void test_window(void)
{
	unsigned at;

	start(false, false);
	for (at = vd_pci(&v, 0x34, 1); at && (vd_pci(&v, at, 1) != 9 || vd_pci(&v, at + 3, 1) != 5);)
		at = vd_pci(&v, at + 1, 1);
	CHECK(at);
	vd_pci_write(&v, at + 4, 1, 4);
	vd_pci_write(&v, at + 8, 4, VC_QUEUES);
	vd_pci_write(&v, at + 12, 4, 2);
	CHECK_EQ(vd_pci(&v, at + 16, 4), QUEUES);
	vd_pci_write(&v, at + 8, 4, VC_STATUS);
	vd_pci_write(&v, at + 12, 4, 1);
	vd_pci_write(&v, at + 16, 4, VD_ACKNOWLEDGE);
	CHECK_EQ(vd_status(&v), VD_ACKNOWLEDGE);
	vd_pci_write(&v, at + 8, 4, 0xfffffffc); /* not a register */
	vd_pci_write(&v, at + 12, 4, 4);
	vd_pci_write(&v, at + 16, 4, 0);
	vd_pci_write(&v, at + 12, 4, 3);
	vd_pci_write(&v, at + 16, 4, 0);
	CHECK_EQ(vd_status(&v), VD_ACKNOWLEDGE);
	stop();
}

/* ---- transfers ---- */

/* Buffers of several segments, more of them than the ring is long, some at a time. */
static void transfers(void)
{
	const struct vd_segment s[4] = {segment(5), segment(600), segment(3), segment(1000)};
	uint16_t id;
	uint32_t len;

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 605; i++)
			*vd_ram(i < 5 ? s[0].gpa + i : s[1].gpa + i - 5) = (uint8_t)(round + i);
		memset(vd_ram(s[3].gpa), 0xee, 1000);
		CHECK_EQ(vd_transfer(&v, 0, s, 2, 2), 605);
		CHECK_EQ(*vd_ram(s[2].gpa), (uint8_t)(round + 604));
		CHECK_EQ(*vd_ram(s[3].gpa), (uint8_t)(round + 601));
		CHECK_EQ(*vd_ram(s[3].gpa + 601), (uint8_t)round);
		CHECK_EQ(*vd_ram(s[3].gpa + 602), 0xee);
		/* three at once, the device keeps them and gives them back in another order */
		hold = true;
		uint16_t ids[3];
		for (unsigned i = 0; i < 3; i++)
			ids[i] = vd_add(&v, 0, s, 2, 2);
		vd_kick(&v, 0);
		vd_turn();
		hold = false;
		CHECK_EQ(held_count, 3);
		CHECK(!vd_used(&v, 0, &id, &len));
		if (held_count != 3)
			return;
		virtqueue_fill(virtio_queue(device, 0), held[1], 7);
		virtqueue_fill(virtio_queue(device, 0), held[0], 0);
		CHECK(!vd_used(&v, 0, &id, &len));
		virtqueue_flush(virtio_queue(device, 0));
		held_count = 0;
		CHECK(vd_used(&v, 0, &id, &len) && id == ids[1] && len == 7);
		CHECK(vd_used(&v, 0, &id, &len) && id == ids[0] && len == 0);
		virtqueue_unget(virtio_queue(device, 0), held[2]);
		struct virtqueue_chain *again = virtqueue_get(virtio_queue(device, 0));
		CHECK(again != NULL);
		if (again)
			echo(virtio_queue(device, 0), again);
		CHECK(vd_used(&v, 0, &id, &len) && id == ids[2] && len == 605);
		CHECK(!vd_used(&v, 0, &id, &len));
	}
}

static void test_transfers(void)
{
	static const uint64_t sets[] = {
		0, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX};

	for (unsigned i = 0; i < 4; i++)
		for (unsigned indirect = 0; indirect < 2; indirect++) {
			start_running(false, true, sets[i] | (indirect ? VIRTIO_F_INDIRECT_DESC : 0));
			v.indirect = indirect;
			transfers();
			CHECK(!(vd_status(&v) & VD_NEEDS_RESET));
			stop();
		}
	for (unsigned msix = 0; msix < 2; msix++) {
		start_running(true, msix, VIRTIO_F_INDIRECT_DESC | (msix ? VIRTIO_F_EVENT_IDX : 0));
		v.indirect = msix;
		transfers();
		stop();
	}
}

/* A packed ring whose size is no power of 2, a split one smaller than the device's. */
static void test_sizes(void)
{
	start(false, true);
	vd_negotiate(&v, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
	vd_queue_up(&v, 0, 13);
	vd_driver_ok(&v);
	CHECK_EQ(v.queue[0].size, 13);
	transfers();
	vd_negotiate(&v, VIRTIO_F_VERSION_1);
	vd_queue_up(&v, 0, 16);
	vd_common_write(&v, VC_SIZE, 2, 8); /* while enabled: no */
	CHECK_EQ(vd_common(&v, VC_SIZE, 2), 16);
	vd_driver_ok(&v);
	transfers();
	vd_negotiate(&v, VIRTIO_F_VERSION_1);
	vd_queue_up(&v, 0, 13); /* no power of 2 */
	vd_driver_ok(&v);
	vd_kick(&v, 0);
	vd_turn();
	CHECK(vd_status(&v) & VD_NEEDS_RESET);
	stop();
}

/* ---- interrupts and notifications ---- */

static void test_interrupts(void)
{
	const uint64_t formats[] = {0, VIRTIO_F_RING_PACKED};

	for (unsigned f = 0; f < 2; f++) {
		start_running(false, true, formats[f]);
		const struct vd_segment s[2] = {segment(4), segment(4)};
		CHECK_EQ(vd_transfer(&v, 0, s, 1, 1), 4);
		CHECK_EQ(vd_messages[1], 1);
		vd_put16(v.queue[0].driver + (f ? 2 : 0), 1); /* none wanted */
		vd_transfer(&v, 0, s, 1, 1);
		CHECK_EQ(vd_messages[1], 1);
		virtio_config_changed(device);
		CHECK_EQ(vd_messages[0], 1);
		CHECK_EQ(vd_common(&v, VC_GENERATION, 1), 1);
		CHECK_EQ(vd_intx, 0);
		CHECK(vd_wants_kick(&v, 0));
		CHECK(!virtqueue_want_notify(virtio_queue(device, 0), false));
		CHECK(!vd_wants_kick(&v, 0));
		vd_add(&v, 0, s, 1, 1);
		CHECK(virtqueue_want_notify(virtio_queue(device, 0), true));
		CHECK(vd_wants_kick(&v, 0));
		stop();

		/* Event index: after the third buffer from here on. */
		start_running(false, true, formats[f] | VIRTIO_F_EVENT_IDX);
		if (f) {
			vd_put16(v.queue[0].driver, 2 * 2 | 1 << 15); /* two descriptors each */
			vd_put16(v.queue[0].driver + 2, 2);
		} else {
			vd_put16(v.queue[0].driver + 4 + 2 * SIZE, 2);
		}
		const struct vd_segment t[2] = {segment(4), segment(4)};
		for (unsigned i = 1; i <= 10; i++) {
			vd_transfer(&v, 0, t, 1, 1);
			CHECK_EQ(vd_messages[1], i >= 3);
			if (!f) /* the device waits for the next */
				CHECK_EQ(vd_get(v.queue[0].device + 4 + 8 * SIZE, 2), i);
		}
		stop();
	}
	/* INTx, both interfaces */
	for (unsigned legacy = 0; legacy < 2; legacy++) {
		start_running(legacy, false, 0);
		const struct vd_segment s[2] = {segment(4), segment(4)};
		vd_transfer(&v, 0, s, 1, 1);
		CHECK_EQ(vd_intx, 1);
		CHECK_EQ(legacy ? inb(v.io + VL_ISR) : mmio_in(v.isr, 1), 1);
		CHECK_EQ(vd_intx, 0);
		virtio_config_changed(device);
		CHECK_EQ(vd_intx, 1);
		CHECK_EQ(legacy ? in(v.io + VL_STATUS, 4) >> 8 & 0xff : mmio_in(v.isr, 1), 2);
		CHECK_EQ(vd_intx, 0);
		virtio_config_changed(device);
		vd_set_status(&v, 0);
		CHECK_EQ(vd_intx, 0);
		stop();
	}
}

/* Buffers that were there, and notifications that came, before DRIVER_OK or bus mastering are seen after it. */
static void test_early(void)
{
	uint16_t id;
	uint32_t len;

	start(false, true);
	vd_negotiate(&v, VIRTIO_F_VERSION_1);
	vd_queue_up(&v, 0, 0);
	const struct vd_segment s[2] = {segment(4), segment(4)};
	vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	vd_turn();
	CHECK(!vd_used(&v, 0, &id, &len));
	vd_pci_write(&v, 4, 2, 3);
	vd_driver_ok(&v);
	vd_turn();
	CHECK(!vd_used(&v, 0, &id, &len));
	CHECK(!(vd_status(&v) & VD_NEEDS_RESET));
	vd_pci_write(&v, 4, 2, 7);
	vd_turn();
	CHECK(vd_used(&v, 0, &id, &len));
	stop();
}

/* ---- bells ---- */

static unsigned regions_changed;

static void on_change(void *opaque)
{
	(void)opaque;
	regions_changed++;
}

/* The region with the queues' notifications says where they are, wherever the guest puts it, and what to ring in place of
 * a write; a ring is a notification of every queue. */
static void test_bells(void)
{
	const struct bus_region *r = NULL;
	struct bus_bells b = {.fd = -1};
	uint64_t one = 1;
	uint16_t id;
	uint32_t len;

	start_running(false, true, 0);
	const struct vd_segment s[2] = {segment(4), segment(4)};
	mmio.changed = on_change;
	for (unsigned i = 0; i < mmio.count; i++)
		if (mmio.region[i].ops->bells)
			r = &mmio.region[i];
	CHECK(r && r->ops->bells(r->dev, &b));
	CHECK_EQ(r->base + b.offset, v.notify);
	CHECK_EQ(b.step, v.notify_multiplier);
	CHECK_EQ(b.count, QUEUES);
	CHECK(b.fd >= 0);
	vd_turn(); /* what DRIVER_OK has begun */
	vd_add(&v, 0, s, 1, 1);
	vd_turn();
	CHECK(!vd_used(&v, 0, &id, &len));
	CHECK_EQ(write(b.fd, &one, sizeof one), sizeof one);
	vd_turn();
	vd_turn();
	CHECK(vd_used(&v, 0, &id, &len));
	/* For nothing, and to a device that was reset. */
	CHECK_EQ(write(b.fd, &one, sizeof one), sizeof one);
	vd_set_status(&v, 0);
	vd_turn();
	vd_turn();
	CHECK_EQ(vd_status(&v), 0);
	/* Memory decoding off and on. */
	regions_changed = 0;
	vd_pci_write(&v, 4, 2, 4);
	CHECK(regions_changed > 0);
	regions_changed = 0;
	vd_pci_write(&v, 4, 2, 7);
	CHECK(regions_changed > 0);
	mmio.changed = NULL;
	stop();
}

/* ---- resets ---- */

static void test_resets(void)
{
	start_running(false, true, VIRTIO_F_RING_RESET);
	const struct vd_segment s[2] = {segment(4), segment(4)};
	hold = true;
	vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	vd_turn();
	CHECK_EQ(held_count, 1);
	vd_common_write(&v, VC_SELECT, 2, 0);
	vd_common_write(&v, VC_RESET, 2, 1);
	CHECK_EQ(queue_resets, 1);
	CHECK_EQ(held_count, 0);
	CHECK_EQ(vd_common(&v, VC_ENABLE, 2), 0);
	CHECK_EQ(vd_common(&v, VC_RESET, 2), 0);
	hold = false;
	vd_kick(&v, 0);
	vd_turn();
	vd_queue_up(&v, 0, 8); /* again, smaller */
	CHECK_EQ(vd_common(&v, VC_ENABLE, 2), 1);
	transfers();
	hold = true;
	vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	vd_turn();
	CHECK_EQ(held_count, 1);
	vd_kick(&v, 0);
	vd_set_status(&v, 0); /* with a notification on its way */
	CHECK_EQ(held_count, 0);
	vd_turn();
	stop();

	start_running(true, false, 0);
	hold = true;
	vd_add(&v, 0, s, 1, 1);
	vd_kick(&v, 0);
	vd_turn();
	out(v.io + VL_PFN, 4, 0);
	CHECK_EQ(held_count, 0);
	CHECK_EQ(vd_status(&v), 0);
	stop();
}

/* ---- drivers that break rules ---- */

static void expect_broken(bool packed, const char *what)
{
	vd_kick(&v, 0);
	vd_turn();
	if (!(vd_status(&v) & VD_NEEDS_RESET))
		printf("%s, %s\n", what, packed ? "packed" : "split");
	CHECK(vd_status(&v) & VD_NEEDS_RESET);
	CHECK_EQ(vd_messages[0], 1); /* the driver was told */
	vd_kick(&v, 0);
	vd_turn();
	stop();
}

static void bad_segment(bool packed, struct vd_segment a, unsigned outs, const char *what)
{
	start_running(false, true, packed ? VIRTIO_F_RING_PACKED : 0);
	const struct vd_segment s[2] = {a, segment(4)};
	vd_add(&v, 0, s, outs, 2 - outs);
	expect_broken(packed, what);
}

/* They have no segments, and count all the same. */
static void empty_descriptors(bool packed)
{
	enum { COUNT = 2048 };
	const struct vd_segment s[2] = {{0x5000, 4}, {0x6000, 4}};
	const uint64_t table = VD_RAM - COUNT * 16;

	start_running(false, true, (packed ? VIRTIO_F_RING_PACKED : 0) | VIRTIO_F_INDIRECT_DESC);
	v.indirect = true;
	vd_add(&v, 0, s, 1, 1);
	for (unsigned i = 0; i < COUNT; i++) {
		vd_put64(table + i * 16, 0);
		vd_put64(table + i * 16 + 8, packed || i == COUNT - 1 ? 0 : (uint64_t)VD_NEXT << 32 | (uint64_t)(i + 1) << 48);
	}
	vd_put64(v.queue[0].descriptors, table);
	vd_put32(v.queue[0].descriptors + 8, COUNT * 16);
	expect_broken(packed, "empty descriptors");
}

static void test_broken_rings(void)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		empty_descriptors(packed);
		uint64_t f = packed ? VIRTIO_F_RING_PACKED : 0;
		uint64_t flags_at = packed ? 14 : 12;

		bad_segment(packed, (struct vd_segment){VD_RAM, 4}, 1, "behind RAM");
		bad_segment(packed, (struct vd_segment){VD_RAM - 2, 4}, 1, "over the end of RAM");
		bad_segment(packed, (struct vd_segment){0x9fffe, 4}, 0, "into the VGA window");
		bad_segment(packed, (struct vd_segment){UINT64_MAX - 1, 4}, 0, "an address that wraps");
		bad_segment(packed, (struct vd_segment){0x1000, 0xffffffff}, 1, "longer than RAM");
		bad_segment(packed, (struct vd_segment){VD_MEMORY_BASE + 0x110000, 4}, 0, "the device's registers");

		start_running(false, true, f); /* read after write */
		const struct vd_segment s[2] = {segment(4), segment(4)};
		vd_add(&v, 0, s, 1, 1);
		vd_put16(v.queue[0].descriptors + flags_at, (uint16_t)(vd_get(v.queue[0].descriptors + flags_at, 2) | VD_WRITE));
		vd_put16(v.queue[0].descriptors + 16 + flags_at,
			 (uint16_t)(vd_get(v.queue[0].descriptors + 16 + flags_at, 2) & ~VD_WRITE));
		expect_broken(packed, "read after write");

		start_running(false, true, f); /* indirect, not negotiated */
		v.indirect = true;
		vd_add(&v, 0, s, 1, 1);
		expect_broken(packed, "indirect");

		for (unsigned kind = 0; kind < 4; kind++) {
			if (packed && kind == 2) /* there, only VIRTQ_DESC_F_WRITE means anything */
				continue;
			start_running(false, true, f | VIRTIO_F_INDIRECT_DESC);
			v.indirect = true;
			vd_add(&v, 0, s, 1, 1);
			uint64_t d = v.queue[0].descriptors, table = vd_get(d, 4);
			if (kind == 0)
				vd_put32(d + 8, 24); /* half an entry */
			else if (kind == 1)
				vd_put16(d + flags_at, (uint16_t)(vd_get(d + flags_at, 2) | VD_NEXT));
			else if (kind == 2)
				vd_put16(table + flags_at, VD_INDIRECT);
			else
				vd_put64(d, VD_RAM - 16);
			expect_broken(packed, "indirect table");
		}
	}
	/* split only */
	const struct vd_segment s[2] = {{0x5000, 4}, {0x6000, 4}};
	start_running(false, true, 0);
	vd_add(&v, 0, s, 1, 1);
	vd_put16(v.queue[0].descriptors + 14, 0); /* its own next */
	expect_broken(false, "a loop");
	start_running(false, true, 0);
	vd_add(&v, 0, s, 1, 1);
	vd_put16(v.queue[0].descriptors + 14, SIZE);
	expect_broken(false, "next outside");
	start_running(false, true, 0);
	vd_put16(v.queue[0].driver + 4, 0xffff);
	vd_put16(v.queue[0].driver + 2, 1);
	expect_broken(false, "head outside");
	start_running(false, true, 0);
	vd_put16(v.queue[0].driver + 2, SIZE + 1);
	expect_broken(false, "too many available");
	start_running(false, true, VIRTIO_F_INDIRECT_DESC);
	v.indirect = true;
	vd_add(&v, 0, s, 1, 1);
	vd_put16(vd_get(v.queue[0].descriptors, 4) + 14, 0);
	expect_broken(false, "a loop in a table");
	/* the same head over and over, while the device has it */
	start_running(false, true, 0);
	hold = true;
	for (unsigned i = 0; i <= SIZE; i++) {
		vd_put16(v.queue[0].driver + 4 + 2 * (i % SIZE), 0);
		vd_put16(v.queue[0].driver + 2, (uint16_t)(i + 1));
		vd_kick(&v, 0);
		vd_turn();
		CHECK_EQ(!!(vd_status(&v) & VD_NEEDS_RESET), i == SIZE);
	}
	CHECK_EQ(held_count, SIZE);
	stop();
	/* rings at bad places */
	for (unsigned kind = 0; kind < 4; kind++) {
		start(false, true);
		vd_negotiate(&v, VIRTIO_F_VERSION_1);
		vd_common_write(&v, VC_SELECT, 2, 0);
		vd_common_write(&v, VC_DESCRIPTORS, 4, kind == 0 ? 0x10008 : 0x10000);
		vd_common_write(&v, VC_DRIVER_AREA, 4, kind == 1 ? 0x20001 : 0x20000);
		vd_common_write(&v, VC_DEVICE_AREA, 4, kind == 2 ? 0x30002 : 0x30000);
		vd_common_write(&v, VC_DESCRIPTORS + 4, 4, kind == 3 ? 1 : 0);
		vd_common_write(&v, VC_ENABLE, 2, 1);
		vd_driver_ok(&v);
		vd_turn();
		CHECK(vd_status(&v) & VD_NEEDS_RESET);
		CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1)); /* and after a reset all is well */
		vd_queue_up(&v, 0, 0);
		vd_driver_ok(&v);
		transfers();
		stop();
	}
}

/* A guest that feeds the queue without end does not keep the I/O thread. */
static uint64_t fed;

static void feed_notify(void *opaque, unsigned queue)
{
	struct virtqueue *q = virtio_queue(device, queue);
	struct virtqueue_chain *c;

	(void)opaque;
	do {
		while ((c = virtqueue_get(q)) != NULL) {
			virtqueue_put(q, c, 0);
			fed++;
			vd_put16(v.queue[0].driver + 2, (uint16_t)(fed + 1));
		}
	} while (virtqueue_want_notify(q, true));
}

static void test_endless(void)
{
	struct virtio_ops feed_ops = ops;

	vd_start();
	feed_ops.notify = feed_notify;
	const struct virtio_config c = {.pci = pci, .devfn = 8, .loop = loop, .ops = &feed_ops, .queues = 1, .queue_size = SIZE};
	device = virtio_new(&c);
	vd_probe(&v, 8, false, false);
	vd_negotiate(&v, VIRTIO_F_VERSION_1);
	vd_queue_up(&v, 0, 0);
	vd_driver_ok(&v);
	vd_put16(v.queue[0].driver + 2, 1);
	vd_turn();
	uint64_t once = fed;
	CHECK(once > 0 && once <= 4096);
	vd_turn();
	CHECK_EQ(fed, 2 * once);
	stop();
}

int main(void)
{
	test_identity();
	test_features_and_status();
	test_window();
	test_transfers();
	mirrored = true;
	test_transfers();
	test_resets();
	mirrored = false;
	test_sizes();
	test_interrupts();
	test_early();
	test_bells();
	test_resets();
	test_broken_rings();
	test_endless();
	return summary();
}
