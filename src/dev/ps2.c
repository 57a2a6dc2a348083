/*
 * PS/2 keyboard and mouse. See ps2.h.
 *
 * Commands are done, and answered, when they are written. Keys do not repeat by themselves (whoever presses them does
 * that), and in scan code set 3 all of them make and break. The mouse reports when its last report has been taken, not
 * at its sample rate; resolution and scaling are kept and have no effect but in what the status tells.
 */
#include "dev/ps2.h"

#include <linux/input-event-codes.h>
#include <string.h>

#include "ui/input.h"

enum keyboard_command {
	KB_SET_LEDS = 0xed, KB_ECHO = 0xee, KB_SCAN_CODE_SET = 0xf0, KB_READ_ID = 0xf2, KB_TYPEMATIC, KB_ENABLE,
	KB_DISABLE, KB_DEFAULTS, KB_ALL_TYPEMATIC, KB_ALL_MAKE_BREAK, KB_ALL_MAKE, KB_ALL_BOTH,
	KB_ONE_TYPEMATIC, KB_ONE_MAKE_BREAK, KB_ONE_MAKE, KB_RESEND, KB_RESET,
};
enum mouse_command {
	MOUSE_SCALE_1 = 0xe6, MOUSE_SCALE_2, MOUSE_RESOLUTION, MOUSE_STATUS, MOUSE_STREAM, MOUSE_READ, MOUSE_WRAP_OFF,
	MOUSE_WRAP = 0xee, MOUSE_REMOTE = 0xf0, MOUSE_READ_ID = 0xf2, MOUSE_RATE, MOUSE_ENABLE, MOUSE_DISABLE,
	MOUSE_DEFAULTS, MOUSE_RESEND = 0xfe, MOUSE_RESET,
};
#define ACK 0xfa
#define RESEND_REQUEST 0xfe
#define SELF_TEST_PASSED 0xaa
#define EXTENDED 0xe0 /* prefix of keys that are not on the first PC's keyboard */
#define EXTENDED_PAUSE 0xe1
#define RELEASED 0xf0
#define RELEASED_1 0x80 /* in set 1 */

#define RELEASE_ROOM 64u /* of the queue, kept for keys that are let go: none is to be stuck */

#define ID_MOUSE 0
#define ID_WHEEL 3
#define PACKET_MAX 4u
#define MOVE_MAX 255
#define PENDING_MAX 4096 /* movement that is kept for a guest that does not look */

#define MOUSE_BYTE_0 0x08 /* always there */

/* ---- queues ---- */

static unsigned room(const struct ps2_queue *q) { return PS2_QUEUE_SIZE - q->count; }

static void put(struct ps2_queue *q, uint8_t value)
{
	if (room(q))
		q->byte[(q->first + q->count++) % PS2_QUEUE_SIZE] = value;
}

bool ps2_take(struct ps2_queue *q, uint8_t *value)
{
	if (!q->count)
		return false;
	*value = q->last = q->byte[q->first];
	q->first = (q->first + 1) % PS2_QUEUE_SIZE;
	q->count--;
	return true;
}

/* ---- scan codes ---- */

/* Scan code set 2 to set 1. */
static const uint8_t translation[0x84] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
	0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
	0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
	0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
	0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
	0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
	0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
	0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
	0x80, 0x81, 0x82, 0x41,
};

uint8_t ps2_translate(uint8_t code) { return code < sizeof translation ? translation[code] : code; }

/* Set 2, with its prefix, and set 3, by key. */
#define E 0xe000
static const struct { uint16_t set2; uint8_t set3; } scan_code[INPUT_CODES] = {
	[KEY_ESC] = {0x76, 0x08}, [KEY_1] = {0x16, 0x16}, [KEY_2] = {0x1e, 0x1e}, [KEY_3] = {0x26, 0x26},
	[KEY_4] = {0x25, 0x25}, [KEY_5] = {0x2e, 0x2e}, [KEY_6] = {0x36, 0x36}, [KEY_7] = {0x3d, 0x3d},
	[KEY_8] = {0x3e, 0x3e}, [KEY_9] = {0x46, 0x46}, [KEY_0] = {0x45, 0x45}, [KEY_MINUS] = {0x4e, 0x4e},
	[KEY_EQUAL] = {0x55, 0x55}, [KEY_BACKSPACE] = {0x66, 0x66}, [KEY_TAB] = {0x0d, 0x0d}, [KEY_Q] = {0x15, 0x15},
	[KEY_W] = {0x1d, 0x1d}, [KEY_E] = {0x24, 0x24}, [KEY_R] = {0x2d, 0x2d}, [KEY_T] = {0x2c, 0x2c},
	[KEY_Y] = {0x35, 0x35}, [KEY_U] = {0x3c, 0x3c}, [KEY_I] = {0x43, 0x43}, [KEY_O] = {0x44, 0x44},
	[KEY_P] = {0x4d, 0x4d}, [KEY_LEFTBRACE] = {0x54, 0x54}, [KEY_RIGHTBRACE] = {0x5b, 0x5b},
	[KEY_ENTER] = {0x5a, 0x5a}, [KEY_LEFTCTRL] = {0x14, 0x11}, [KEY_A] = {0x1c, 0x1c}, [KEY_S] = {0x1b, 0x1b},
	[KEY_D] = {0x23, 0x23}, [KEY_F] = {0x2b, 0x2b}, [KEY_G] = {0x34, 0x34}, [KEY_H] = {0x33, 0x33},
	[KEY_J] = {0x3b, 0x3b}, [KEY_K] = {0x42, 0x42}, [KEY_L] = {0x4b, 0x4b}, [KEY_SEMICOLON] = {0x4c, 0x4c},
	[KEY_APOSTROPHE] = {0x52, 0x52}, [KEY_GRAVE] = {0x0e, 0x0e}, [KEY_LEFTSHIFT] = {0x12, 0x12},
	[KEY_BACKSLASH] = {0x5d, 0x5c}, [KEY_Z] = {0x1a, 0x1a}, [KEY_X] = {0x22, 0x22}, [KEY_C] = {0x21, 0x21},
	[KEY_V] = {0x2a, 0x2a}, [KEY_B] = {0x32, 0x32}, [KEY_N] = {0x31, 0x31}, [KEY_M] = {0x3a, 0x3a},
	[KEY_COMMA] = {0x41, 0x41}, [KEY_DOT] = {0x49, 0x49}, [KEY_SLASH] = {0x4a, 0x4a},
	[KEY_RIGHTSHIFT] = {0x59, 0x59}, [KEY_KPASTERISK] = {0x7c, 0x7e}, [KEY_LEFTALT] = {0x11, 0x19},
	[KEY_SPACE] = {0x29, 0x29}, [KEY_CAPSLOCK] = {0x58, 0x14}, [KEY_F1] = {0x05, 0x07}, [KEY_F2] = {0x06, 0x0f},
	[KEY_F3] = {0x04, 0x17}, [KEY_F4] = {0x0c, 0x1f}, [KEY_F5] = {0x03, 0x27}, [KEY_F6] = {0x0b, 0x2f},
	[KEY_F7] = {0x83, 0x37}, [KEY_F8] = {0x0a, 0x3f}, [KEY_F9] = {0x01, 0x47}, [KEY_F10] = {0x09, 0x4f},
	[KEY_NUMLOCK] = {0x77, 0x76}, [KEY_SCROLLLOCK] = {0x7e, 0x5f}, [KEY_KP7] = {0x6c, 0x6c},
	[KEY_KP8] = {0x75, 0x75}, [KEY_KP9] = {0x7d, 0x7d}, [KEY_KPMINUS] = {0x7b, 0x84}, [KEY_KP4] = {0x6b, 0x6b},
	[KEY_KP5] = {0x73, 0x73}, [KEY_KP6] = {0x74, 0x74}, [KEY_KPPLUS] = {0x79, 0x7c}, [KEY_KP1] = {0x69, 0x69},
	[KEY_KP2] = {0x72, 0x72}, [KEY_KP3] = {0x7a, 0x7a}, [KEY_KP0] = {0x70, 0x70}, [KEY_KPDOT] = {0x71, 0x71},
	[KEY_102ND] = {0x61, 0x13}, [KEY_F11] = {0x78, 0x56}, [KEY_F12] = {0x07, 0x5e},
	[KEY_KPENTER] = {E | 0x5a, 0x79}, [KEY_RIGHTCTRL] = {E | 0x14, 0x58}, [KEY_KPSLASH] = {E | 0x4a, 0x77},
	[KEY_SYSRQ] = {E | 0x7c, 0x57}, [KEY_RIGHTALT] = {E | 0x11, 0x39}, [KEY_HOME] = {E | 0x6c, 0x6e},
	[KEY_UP] = {E | 0x75, 0x63}, [KEY_PAGEUP] = {E | 0x7d, 0x6f}, [KEY_LEFT] = {E | 0x6b, 0x61},
	[KEY_RIGHT] = {E | 0x74, 0x6a}, [KEY_END] = {E | 0x69, 0x65}, [KEY_DOWN] = {E | 0x72, 0x60},
	[KEY_PAGEDOWN] = {E | 0x7a, 0x6d}, [KEY_INSERT] = {E | 0x70, 0x67}, [KEY_DELETE] = {E | 0x71, 0x64},
	[KEY_PAUSE] = {EXTENDED_PAUSE << 8 | 0x77, 0x62}, [KEY_LEFTMETA] = {E | 0x1f, 0x8b},
	[KEY_RIGHTMETA] = {E | 0x27, 0x8c}, [KEY_COMPOSE] = {E | 0x2f, 0x8d},
};

/* One code with its prefix in set 1 or 2; 0: no prefix. */
static void put_code(struct ps2_keyboard *k, uint8_t prefix, uint8_t code, bool down)
{
	if (prefix)
		put(&k->queue, prefix);
	if (k->scan_code_set == 1) {
		put(&k->queue, ps2_translate(code) | (down ? 0 : RELEASED_1));
		return;
	}
	if (!down)
		put(&k->queue, RELEASED);
	put(&k->queue, code);
}

void ps2_keyboard_key(struct ps2_keyboard *k, unsigned code, bool down)
{
	unsigned longest = 8, set2 = code < INPUT_CODES ? scan_code[code].set2 : 0;

	if (!set2 || k->disabled || room(&k->queue) < longest + (down ? RELEASE_ROOM : 0))
		return;
	if (k->scan_code_set == 3) {
		if (!down)
			put(&k->queue, RELEASED);
		put(&k->queue, scan_code[code].set3);
	} else if (code == KEY_PAUSE) { /* Control and Num Lock at once, when it goes down */
		if (!down)
			return;
		put_code(k, EXTENDED_PAUSE, 0x14, true);
		put_code(k, 0, 0x77, true);
		put_code(k, EXTENDED_PAUSE, 0x14, false);
		put_code(k, 0, 0x77, false);
	} else if (code == KEY_SYSRQ) { /* with a Shift around it */
		if (down)
			put_code(k, EXTENDED, 0x12, true);
		put_code(k, EXTENDED, 0x7c, down);
		if (!down)
			put_code(k, EXTENDED, 0x12, false);
	} else {
		put_code(k, (uint8_t)(set2 >> 8), (uint8_t)set2, down);
	}
}

/* ---- keyboard ---- */

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	*k = (struct ps2_keyboard){.scan_code_set = 2, .queue.last = SELF_TEST_PASSED};
}

static void keyboard_option(struct ps2_keyboard *k, uint8_t v)
{
	uint8_t command = k->expects;

	k->expects = 0;
	put(&k->queue, ACK);
	switch (command) {
	case KB_SCAN_CODE_SET:
		if (v == 0)
			put(&k->queue, k->scan_code_set);
		else if (v <= 3)
			k->scan_code_set = v;
		break;
	case KB_ONE_TYPEMATIC:
	case KB_ONE_MAKE_BREAK:
	case KB_ONE_MAKE:
		k->expects = command; /* a list of keys, ended by the next command */
		break;
	}
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t v)
{
	k->queue.count = 0; /* a command makes the keyboard forget what it has not sent */
	if (k->expects && v < KB_SET_LEDS) {
		keyboard_option(k, v);
		return;
	}
	k->expects = 0;
	switch (v) {
	case KB_ECHO:
		put(&k->queue, KB_ECHO);
		return;
	case KB_RESEND:
		put(&k->queue, k->queue.last);
		return;
	case KB_READ_ID:
		put(&k->queue, ACK);
		put(&k->queue, 0xab);
		put(&k->queue, 0x83);
		return;
	case KB_RESET:
		k->scan_code_set = 2;
		k->disabled = false;
		put(&k->queue, ACK);
		put(&k->queue, SELF_TEST_PASSED);
		return;
	case KB_SET_LEDS:
	case KB_SCAN_CODE_SET:
	case KB_TYPEMATIC:
	case KB_ONE_TYPEMATIC:
	case KB_ONE_MAKE_BREAK:
	case KB_ONE_MAKE:
		k->expects = v;
		break;
	case KB_DISABLE:
	case KB_DEFAULTS:
		k->scan_code_set = 2;
		k->disabled = v == KB_DISABLE;
		break;
	case KB_ENABLE:
		k->disabled = false;
		break;
	case KB_ALL_TYPEMATIC:
	case KB_ALL_MAKE_BREAK:
	case KB_ALL_MAKE:
	case KB_ALL_BOTH:
		break;
	default:
		put(&k->queue, RESEND_REQUEST);
		return;
	}
	put(&k->queue, ACK);
}

/* ---- mouse ---- */

static void mouse_defaults(struct ps2_mouse *m)
{
	m->resolution = 2;
	m->rate = 100;
	m->enabled = m->remote = m->scaled = false;
	m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	*m = (struct ps2_mouse){.queue.last = SELF_TEST_PASSED, .id = ID_MOUSE};
	mouse_defaults(m);
}

static int cut(int value, int max) { return value < -max ? -max : value > max ? max : value; }

/* One packet of what has happened since the last one. The wire has y upward. */
static void packet(struct ps2_mouse *m)
{
	int dx = cut(m->dx, MOVE_MAX), dy = cut(-m->dy, MOVE_MAX), dz = cut(m->dz, 7);

	put(&m->queue, (uint8_t)(MOUSE_BYTE_0 | m->buttons | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
	put(&m->queue, (uint8_t)dx);
	put(&m->queue, (uint8_t)dy);
	if (m->id == ID_WHEEL)
		put(&m->queue, (uint8_t)dz);
	m->dx -= dx;
	m->dy += dy;
	m->dz -= dz;
	m->reported = m->buttons;
}

void ps2_mouse_report(struct ps2_mouse *m)
{
	if (m->id != ID_WHEEL)
		m->dz = 0;
	if (m->enabled && !m->remote && !m->wrap && m->queue.count == 0 &&
	    (m->dx || m->dy || m->dz || m->buttons != m->reported))
		packet(m);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons)
{
	if (!m->enabled)
		return;
	m->dx = cut(m->dx + cut(dx, PENDING_MAX), PENDING_MAX);
	m->dy = cut(m->dy + cut(dy, PENDING_MAX), PENDING_MAX);
	m->dz = cut(m->dz + cut(dz, PENDING_MAX), PENDING_MAX);
	/* A button that goes down and up again at once is to be seen. */
	if (buttons != m->buttons && m->buttons != m->reported && !m->remote && !m->wrap &&
	    room(&m->queue) >= PACKET_MAX)
		packet(m);
	m->buttons = buttons & 7;
	ps2_mouse_report(m);
}

static void mouse_status(struct ps2_mouse *m)
{
	put(&m->queue, (uint8_t)((m->remote ? 0x40 : 0) | (m->enabled ? 0x20 : 0) | (m->scaled ? 0x10 : 0) |
				 (m->buttons & INPUT_LEFT ? 4 : 0) | (m->buttons & INPUT_MIDDLE ? 2 : 0) |
				 (m->buttons & INPUT_RIGHT ? 1 : 0)));
	put(&m->queue, m->resolution);
	put(&m->queue, m->rate);
}

static void mouse_option(struct ps2_mouse *m, uint8_t v)
{
	put(&m->queue, ACK);
	if (m->expects == MOUSE_RESOLUTION) {
		m->resolution = v & 3;
	} else {
		m->rate = v;
		if (m->knock[0] == 200 && m->knock[1] == 100 && v == 80)
			m->id = ID_WHEEL;
		m->knock[0] = m->knock[1];
		m->knock[1] = v;
	}
	m->expects = 0;
}

static void mouse_command(struct ps2_mouse *m, uint8_t v)
{
	switch (v) {
	case MOUSE_SCALE_1:
	case MOUSE_SCALE_2:
		m->scaled = v == MOUSE_SCALE_2;
		break;
	case MOUSE_RESOLUTION:
	case MOUSE_RATE:
		m->expects = v;
		break;
	case MOUSE_STREAM:
	case MOUSE_REMOTE:
		m->remote = v == MOUSE_REMOTE;
		break;
	case MOUSE_WRAP:
		m->wrap = true;
		break;
	case MOUSE_WRAP_OFF:
		m->wrap = false;
		break;
	case MOUSE_ENABLE:
	case MOUSE_DISABLE:
		m->enabled = v == MOUSE_ENABLE;
		break;
	case MOUSE_DEFAULTS:
		mouse_defaults(m);
		break;
	case MOUSE_STATUS:
		put(&m->queue, ACK);
		mouse_status(m);
		return;
	case MOUSE_READ:
		put(&m->queue, ACK);
		packet(m);
		return;
	case MOUSE_READ_ID:
		put(&m->queue, ACK);
		put(&m->queue, m->id);
		return;
	case MOUSE_RESEND:
		put(&m->queue, m->queue.last);
		return;
	case MOUSE_RESET:
		ps2_mouse_reset(m);
		put(&m->queue, ACK);
		put(&m->queue, SELF_TEST_PASSED);
		put(&m->queue, ID_MOUSE);
		return;
	default:
		put(&m->queue, RESEND_REQUEST);
		return;
	}
	put(&m->queue, ACK);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t v)
{
	m->queue.count = 0;
	if (m->wrap && v != MOUSE_WRAP_OFF && v != MOUSE_RESET)
		put(&m->queue, v);
	else if (m->expects && v < MOUSE_SCALE_1)
		mouse_option(m, v);
	else {
		m->expects = 0;
		mouse_command(m, v);
	}
}
