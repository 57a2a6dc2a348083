/*
 * The screen of a VM: what the user asked for, and its host's side (display, input, VNC server).
 * Opened and closed without vm->lock, as threads that take it end there.
 */
#ifndef RINGSIDE_SCREEN_H
#define RINGSIDE_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

#include "ui/vnc.h"

struct vm;
struct display;
struct input;
struct terminal_screen;

enum screen_vga { SCREEN_VGA_DEFAULT, SCREEN_VGA_NONE, SCREEN_VGA_STD }; /* default: when something shows it */

/* virtio input devices; by default a tablet when there is a screen. PS/2 keyboard and mouse are there in any case. */
enum { SCREEN_KEYBOARD = 1, SCREEN_TABLET = 2 };

struct screen_config {
	enum screen_vga vga;
	bool input_given;
	unsigned input; /* a mask, if given */
	struct vnc_config vnc;
	bool text; /* in the terminal, which then is no serial line */
};

struct screen {
	struct display *display; /* NULL: the machine has no VGA */
	struct input *input;
	struct vnc *vnc;
	struct terminal_screen *terminal;
};

bool screen_wanted(const struct screen_config *config);
unsigned screen_input(const struct screen_config *config); /* which virtio input devices */
/* False: one line for the user in error[0..size); screen_close is still to be called. */
bool screen_open(struct screen *s, struct vm *vm, char *error, size_t size);
void screen_close(struct screen *s); /* also of one that is all zero */

#endif
