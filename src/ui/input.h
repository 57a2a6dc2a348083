/*
 * What the user does with keys and pointer, on its way from viewers (VNC, a terminal) to the devices that the guest has:
 * PS/2 keyboard and mouse, virtio keyboard and tablet.
 *
 * Keys have Linux's event codes (linux/input-event-codes.h, KEY_*), which name the place of a key, not what is printed on
 * it; keysym.h makes them from key symbols. The hub belongs to the host's side and outlives resets; devices attach
 * themselves as sinks. Everything is called under vm->lock.
 */
#ifndef RINGSIDE_INPUT_H
#define RINGSIDE_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#define INPUT_CODES 256u         /* key codes are below */
#define INPUT_POINTER_MAX 32767u /* absolute coordinates go from 0 to this, over the whole screen */

enum input_button { INPUT_LEFT = 1, INPUT_RIGHT = 2, INPUT_MIDDLE = 4 }; /* a mask, as PS/2 mice have it */

struct input;

struct input_sink {
	/* A sink without `key` is no keyboard; NULL `move` and `place`: no pointer. */
	void (*key)(void *opaque, unsigned code, bool down);
	/* The pointer went by (dx, dy), y downward, the wheel by dz (positive: toward the user). */
	void (*move)(void *opaque, int dx, int dy, int dz, unsigned buttons);
	/* The pointer is at (x, y), 0..INPUT_POINTER_MAX. */
	void (*place)(void *opaque, unsigned x, unsigned y, int dz, unsigned buttons);
	/* The guest listens to this device. Of those that do, the one that was attached last gets the events. NULL: always. */
	bool (*active)(void *opaque);
	void *opaque;
	struct input_sink *next; /* the hub's own */
};

struct input *input_new(void);     /* NULL: errno */
void input_free(struct input *in); /* also of NULL; no sink is left */

void input_attach(struct input *in, struct input_sink *sink);
void input_detach(struct input *in, struct input_sink *sink);

/* From viewers. A key that is down already goes down again: it repeats. Codes from INPUT_CODES on are ignored. */
void input_key(struct input *in, unsigned code, bool down);
/* Lets go of every key that is down: a viewer has gone. */
void input_release_all(struct input *in);
bool input_is_down(const struct input *in, unsigned code);
/* A pointer at (x, y) on a screen of width * height. Mice that only know movement get the difference to the last place. */
void input_pointer(struct input *in, unsigned x, unsigned y, unsigned width, unsigned height, int dz, unsigned buttons);

#endif
