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

enum screen_vga { SCREEN_VGA_DEFAULT, SCREEN_VGA_NONE, SCREEN_VGA_STD }; /* default: when something shows it */

struct screen_config {
	enum screen_vga vga;
	struct vnc_config vnc;
};

struct screen {
	struct display *display; /* NULL: the machine has no VGA */
	struct input *input;
	struct vnc *vnc;
};

bool screen_wanted(const struct screen_config *config);
/* False: one line for the user in error[0..size); screen_close is still to be called. */
bool screen_open(struct screen *s, struct vm *vm, char *error, size_t size);
void screen_close(struct screen *s); /* also of one that is all zero */

#endif
