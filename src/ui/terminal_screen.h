/*
 * A screen of characters drawn in a terminal, and that terminal's keys brought to the guest.
 *
 * The terminal is a character back end (chardev.h) that understands what ECMA-48 terminals do, and UTF-8. Of a picture
 * in graphics it only says that there is one. Under vm->lock.
 */
#ifndef RINGSIDE_TERMINAL_SCREEN_H
#define RINGSIDE_TERMINAL_SCREEN_H

struct chardev;
struct display;
struct input;
struct terminal_screen;
struct timer_queue;

struct terminal_screen *terminal_screen_new(struct chardev *terminal, struct timer_queue *timers, struct display *display,
					    struct input *input); /* NULL: errno */
void terminal_screen_free(struct terminal_screen *s); /* leaves the cursor below the picture; also of NULL */

#endif
