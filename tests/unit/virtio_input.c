/*
 * virtio keyboard and tablet under a driver: what they say they have, events, a driver without buffers.
 */
#include "virtio_driver.h"

#include "ui/input.h"
#include "virtio/input.h"

#include <linux/input-event-codes.h>

static struct input *input;
static struct virtio_input *device;
static struct vd v;

static void start(enum virtio_input_kind kind)
{
	vd_start();
	input = input_new();
	device = virtio_input_new(pci, loop, input, kind);
	if (!device)
		exit(1);
	vd_probe(&v, 0, false, true);
	CHECK(vd_negotiate(&v, VIRTIO_F_VERSION_1));
	for (unsigned i = 0; i < 2; i++)
		vd_queue_up(&v, i, 0);
	vd_driver_ok(&v);
}

static void stop(void)
{
	virtio_input_free(device);
	input_free(input);
	vd_stop();
}

static unsigned selected(unsigned select, unsigned subselect)
{
	vd_config_write(&v, 0, 1, select);
	vd_config_write(&v, 1, 1, subselect);
	return (unsigned)vd_config(&v, 2, 1);
}

static bool has_bit(unsigned bit) { return vd_config(&v, 8 + bit / 8, 1) >> bit % 8 & 1; }

static uint64_t buffer[64];

static void offer(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct vd_segment s = {vd_alloc(8, 8), 8};
		uint16_t id = vd_add(&v, 0, &s, 0, 1);

		buffer[id % 64] = s.gpa;
	}
	vd_kick(&v, 0);
	vd_turn();
}

/* The next event is this one, and what follows ends the report. */
static void expect_part(unsigned type, unsigned code, uint32_t value)
{
	uint16_t id;
	uint32_t len;

	vd_turn();
	bool used = vd_used(&v, 0, &id, &len);
	CHECK(used);
	if (!used)
		return;
	CHECK_EQ(len, 8);
	CHECK_EQ(vd_get(buffer[id % 64], 2), type);
	CHECK_EQ(vd_get(buffer[id % 64] + 2, 2), code);
	CHECK_EQ(vd_get(buffer[id % 64] + 4, 4), value);
}

static void expect(unsigned type, unsigned code, uint32_t value)
{
	expect_part(type, code, value);
	expect_part(EV_SYN, SYN_REPORT, 0);
}

static void expect_nothing(void)
{
	uint16_t id;
	uint32_t len;

	vd_turn();
	CHECK(!vd_used(&v, 0, &id, &len));
}

static void keyboard(void)
{
	start(VIRTIO_INPUT_KEYBOARD);
	CHECK_EQ(selected(1, 0), strlen("Ringside Keyboard"));
	CHECK_EQ(vd_config(&v, 8, 1), 'R');
	CHECK_EQ(selected(3, 0), 8);
	CHECK(selected(0x11, EV_KEY) > KEY_Z / 8);
	CHECK(has_bit(KEY_Z) && has_bit(KEY_DELETE) && !has_bit(0));
	CHECK_EQ(selected(0x11, EV_ABS), 0);
	CHECK_EQ(vd_config(&v, 8, 4), 0);
	CHECK_EQ(selected(0x12, 0), 0);
	CHECK_EQ(selected(0x99, 0x99), 0);
	offer(8);
	input_key(input, KEY_A, true);
	input_key(input, KEY_A, true); /* the guest repeats */
	input_key(input, KEY_A, false);
	expect(EV_KEY, KEY_A, 1);
	expect(EV_KEY, KEY_A, 0);
	expect_nothing();
	/* No buffers: they wait, and of too many keys none stays down. */
	for (unsigned i = 0; i < 1000; i++) {
		input_key(input, 1 + i % 100, true);
		input_key(input, 1 + i % 100, false);
	}
	unsigned down = 0, up = 0, last = 0;
	for (unsigned n = 0; n < 2000; n++) {
		uint16_t id;
		uint32_t len;

		while (vd_turn(), vd_used(&v, 0, &id, &len)) {
			if (vd_get(buffer[id % 64], 2) != EV_KEY)
				continue;
			last = vd_get(buffer[id % 64] + 4, 4);
			down += last;
			up += !last;
		}
		offer(1);
	}
	CHECK(down > 50 && down == up && last == 0);
	/* Lights, on the status queue. */
	struct vd_segment s = {vd_alloc(8, 8), 8};
	CHECK_EQ(vd_transfer(&v, 1, &s, 1, 0), 0);
	vd_set_status(&v, 0);
	input_key(input, KEY_B, true); /* nobody listens */
	vd_turn();
	stop();
}

static void tablet(void)
{
	start(VIRTIO_INPUT_TABLET);
	CHECK_EQ(selected(0x11, EV_ABS), 1);
	CHECK(has_bit(ABS_X) && has_bit(ABS_Y));
	CHECK_EQ(selected(0x12, ABS_Y), 20);
	CHECK_EQ(vd_config(&v, 12, 4), INPUT_POINTER_MAX);
	CHECK(selected(0x11, EV_KEY) > BTN_MIDDLE / 8);
	CHECK(has_bit(BTN_LEFT) && has_bit(BTN_MIDDLE));
	offer(32);
	input_pointer(input, 639, 0, 640, 480, 0, 0);
	expect(EV_ABS, ABS_X, INPUT_POINTER_MAX);
	input_pointer(input, 639, 479, 640, 480, -1, INPUT_RIGHT);
	expect_part(EV_ABS, ABS_Y, INPUT_POINTER_MAX);
	expect_part(EV_REL, REL_WHEEL, 1);
	expect(EV_KEY, BTN_RIGHT, 1);
	input_pointer(input, 639, 479, 640, 480, 0, INPUT_LEFT);
	expect_part(EV_KEY, BTN_LEFT, 1);
	expect(EV_KEY, BTN_RIGHT, 0);
	input_key(input, KEY_A, true); /* not for a tablet */
	expect_nothing();
	stop();
}

int main(void)
{
	keyboard();
	tablet();
	return summary();
}
