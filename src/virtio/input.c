/*
 * virtio input devices. See input.h.
 *
 * The driver asks in the configuration space what the device has: it selects, and reads what was selected. Events go
 * out in buffers of its, one each; while it has none, they wait in a ring of bounded length. What the driver sends on
 * the status queue, the keyboard's lights, is read and has no effect. The guest repeats keys itself.
 *
 * Under vm->lock. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.8; Linux's event codes, to which it refers.
 */
#include "virtio/input.h"

#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "ui/input.h"
#include "util/loop.h"
#include "virtio/virtio.h"

enum { QUEUE_EVENT, QUEUE_STATUS, QUEUES };
#define QUEUE_SIZE 64
#define EVENTS 1024u      /* that wait for buffers */
#define RELEASE_ROOM 512u /* of them, kept for what ends: no key or button is to stay down */

enum config_select { SELECT_NAME = 1, SELECT_SERIAL, SELECT_IDS, SELECT_PROPERTIES = 0x10, SELECT_EVENTS, SELECT_ABSOLUTE };
#define CONFIG_DATA 8u /* behind select, subsel, size and what is reserved */
#define CONFIG_DATA_SIZE 128u

/* Identity: what the driver shows as bus, vendor, product and version. */
#define BUS_VIRTUAL 0x06
#define VENDOR 0x0627
#define PRODUCT_KEYBOARD 1
#define PRODUCT_TABLET 3
#define VERSION 1

struct event {
	uint16_t type, code;
	uint32_t value;
};

struct virtio_input {
	struct virtio_device *device;
	struct input *input;
	struct input_sink sink;
	enum virtio_input_kind kind;
	uint8_t select, subselect;
	struct event event[EVENTS];
	unsigned first, count;
	bool down[INPUT_CODES]; /* keys, as they were told */
	unsigned buttons, x, y;
	struct loop *loop;
	struct loop_call flush;
};

/* ---- events ---- */

/* To the driver, as far as it has buffers. I/O thread. */
static void flush(void *opaque)
{
	struct virtio_input *v = opaque;
	struct virtqueue *q = virtio_queue(v->device, QUEUE_EVENT);
	struct virtqueue_chain *c;

	if (!virtqueue_ready(q))
		return;
	while (v->count && (c = virtqueue_get(q)) != NULL) {
		const struct event *e = &v->event[v->first];
		const uint8_t bytes[8] = {(uint8_t)e->type, (uint8_t)(e->type >> 8), (uint8_t)e->code,
					  (uint8_t)(e->code >> 8), (uint8_t)e->value, (uint8_t)(e->value >> 8),
					  (uint8_t)(e->value >> 16), (uint8_t)(e->value >> 24)};

		virtqueue_put(q, c, (uint32_t)virtio_copy_in(c, 0, bytes, sizeof bytes));
		v->first = (v->first + 1) % EVENTS;
		v->count--;
	}
	virtqueue_interrupt(q);
}

static void tell(struct virtio_input *v, unsigned type, unsigned code, int value)
{
	if (v->count < EVENTS)
		v->event[(v->first + v->count++) % EVENTS] =
			(struct event){(uint16_t)type, (uint16_t)code, (uint32_t)value};
}

static void end_report(struct virtio_input *v)
{
	tell(v, EV_SYN, SYN_REPORT, 0);
	loop_call_soon(v->loop, &v->flush);
}

static bool has_room(const struct virtio_input *v) { return v->count < EVENTS - RELEASE_ROOM; }

static void key(void *opaque, unsigned code, bool down)
{
	struct virtio_input *v = opaque;

	if (down == v->down[code] || (down && !has_room(v)))
		return;
	v->down[code] = down;
	tell(v, EV_KEY, code, down);
	end_report(v);
}

static void tell_buttons(struct virtio_input *v, unsigned buttons)
{
	static const struct { unsigned mask, code; } button[] = {
		{INPUT_LEFT, BTN_LEFT}, {INPUT_RIGHT, BTN_RIGHT}, {INPUT_MIDDLE, BTN_MIDDLE},
	};

	for (unsigned i = 0; i < sizeof button / sizeof button[0]; i++)
		if ((buttons ^ v->buttons) & button[i].mask)
			tell(v, EV_KEY, button[i].code, (buttons & button[i].mask) != 0);
	v->buttons = buttons;
}

static void place(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons)
{
	struct virtio_input *v = opaque;

	if (!has_room(v)) { /* buttons that are let go, and no more */
		buttons &= v->buttons;
		if (buttons == v->buttons || EVENTS - v->count < 8)
			return;
	} else {
		if (x != v->x)
			tell(v, EV_ABS, ABS_X, (int)x);
		if (y != v->y)
			tell(v, EV_ABS, ABS_Y, (int)y);
		if (dz)
			tell(v, EV_REL, REL_WHEEL, -dz);
		v->x = x;
		v->y = y;
	}
	tell_buttons(v, buttons);
	end_report(v);
}

static bool active(void *opaque) { return virtio_driver_ok(((struct virtio_input *)opaque)->device); }

/* ---- configuration ---- */

static void set_bit(uint8_t *data, unsigned bit, unsigned *size)
{
	data[bit / 8] |= (uint8_t)(1u << bit % 8);
	if (*size < bit / 8 + 1)
		*size = bit / 8 + 1;
}

/* Which codes of an event type the device has. */
static unsigned event_bits(const struct virtio_input *v, unsigned type, uint8_t *data)
{
	unsigned size = 0;

	if (v->kind == VIRTIO_INPUT_KEYBOARD) {
		if (type == EV_KEY)
			for (unsigned code = KEY_ESC; code <= KEY_MICMUTE; code++)
				set_bit(data, code, &size);
		else if (type == EV_REP)
			set_bit(data, REP_DELAY, &size);
		else if (type == EV_LED)
			for (unsigned code = LED_NUML; code <= LED_SCROLLL; code++)
				set_bit(data, code, &size);
	} else if (type == EV_KEY) {
		for (unsigned code = BTN_LEFT; code <= BTN_MIDDLE; code++)
			set_bit(data, code, &size);
	} else if (type == EV_REL) {
		set_bit(data, REL_WHEEL, &size);
	} else if (type == EV_ABS) {
		set_bit(data, ABS_X, &size);
		set_bit(data, ABS_Y, &size);
	}
	return size;
}

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

/* What is selected: its size, 0 when there is no such thing. */
static unsigned selected(const struct virtio_input *v, uint8_t data[CONFIG_DATA_SIZE])
{
	const char *name = v->kind == VIRTIO_INPUT_KEYBOARD ? "Ringside Keyboard" : "Ringside Tablet";

	memset(data, 0, CONFIG_DATA_SIZE);
	switch (v->select) {
	case SELECT_NAME:
		memcpy(data, name, strlen(name));
		return v->subselect ? 0 : (unsigned)strlen(name);
	case SELECT_IDS:
		put16(data, BUS_VIRTUAL);
		put16(data + 2, VENDOR);
		put16(data + 4, v->kind == VIRTIO_INPUT_KEYBOARD ? PRODUCT_KEYBOARD : PRODUCT_TABLET);
		put16(data + 6, VERSION);
		return v->subselect ? 0 : 8;
	case SELECT_EVENTS:
		return event_bits(v, v->subselect, data);
	case SELECT_ABSOLUTE:
		if (v->kind != VIRTIO_INPUT_TABLET || v->subselect > ABS_Y)
			return 0;
		put16(data + 4, INPUT_POINTER_MAX); /* minimum, maximum, fuzz, flat, resolution, 32 bits each */
		return 20;
	}
	return 0;
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	struct virtio_input *v = opaque;
	uint8_t config[CONFIG_DATA + CONFIG_DATA_SIZE] = {v->select, v->subselect};

	config[2] = (uint8_t)selected(v, config + CONFIG_DATA);
	if (!config[2])
		memset(config + CONFIG_DATA, 0, CONFIG_DATA_SIZE);
	memcpy(buf, config + offset, len);
}

static void config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_input *v = opaque;
	const uint8_t *bytes = buf;

	for (unsigned i = 0; i < len; i++) {
		if (offset + i == 0)
			v->select = bytes[i];
		else if (offset + i == 1)
			v->subselect = bytes[i];
	}
}

/* ---- the device ---- */

static void notify(void *opaque, unsigned queue)
{
	struct virtio_input *v = opaque;
	struct virtqueue *q = virtio_queue(v->device, queue);
	struct virtqueue_chain *c;

	if (queue == QUEUE_EVENT) {
		flush(v);
		return;
	}
	while ((c = virtqueue_get(q)) != NULL)
		virtqueue_put(q, c, 0);
	virtqueue_interrupt(q);
}

static void reset(void *opaque)
{
	struct virtio_input *v = opaque;

	v->select = v->subselect = 0;
	v->first = v->count = 0;
	v->buttons = 0;
	memset(v->down, 0, sizeof v->down);
}

/* Chains are given back at once: there is none to forget. */
static void queue_reset(void *opaque, unsigned queue)
{
	(void)opaque;
	(void)queue;
}

static const struct virtio_ops input_ops = {
	.name = "virtio-input",
	.id = VIRTIO_ID_INPUT,
	.class_code = 0x098000,
	.notify = notify,
	.reset = reset,
	.queue_reset = queue_reset,
	.config_read = config_read,
	.config_write = config_write,
	.config_size = CONFIG_DATA + CONFIG_DATA_SIZE,
};

struct virtio_input *virtio_input_new(struct pci_bus *pci, struct loop *loop, struct input *input,
				      enum virtio_input_kind kind)
{
	struct virtio_input *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	const struct virtio_config config = {.pci = pci, .devfn = -1, .loop = loop, .ops = &input_ops, .opaque = v,
					     .queues = QUEUES, .queue_size = QUEUE_SIZE};
	v->kind = kind;
	v->loop = loop;
	v->input = input;
	v->flush = (struct loop_call){.run = flush, .opaque = v};
	v->device = virtio_new(&config);
	if (!v->device) {
		free(v);
		return NULL;
	}
	v->sink = (struct input_sink){.key = kind == VIRTIO_INPUT_KEYBOARD ? key : NULL,
				      .place = kind == VIRTIO_INPUT_TABLET ? place : NULL,
				      .active = active,
				      .opaque = v};
	input_attach(input, &v->sink);
	return v;
}

void virtio_input_free(struct virtio_input *v)
{
	if (!v)
		return;
	input_detach(v->input, &v->sink);
	loop_call_cancel(v->loop, &v->flush);
	virtio_free(v->device);
	free(v);
}
