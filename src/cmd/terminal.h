/*
 * The terminal that Ringside runs in: raw mode, and its old mode back however the process ends.
 * Process-wide state; main thread, but for the handlers of deadly signals.
 */
#ifndef RINGSIDE_TERMINAL_H
#define RINGSIDE_TERMINAL_H

#include <stdbool.h>

/* Before an engine is made, whose handlers for faults of its own then stand in front of these. */
void terminal_init(void);
/* Sets raw mode on `fd` if it is a terminal (else nothing happens, and it returns false). */
bool terminal_raw(int fd);
/* The mode as it was before terminal_raw. May be called at any time, also in a signal handler. */
void terminal_restore(void);

#endif
