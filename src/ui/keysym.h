/*
 * From X11 key symbols, as VNC clients send them, to places on a keyboard with the layout of the United States.
 * Source: X11 keysymdef.h. Pure.
 */
#ifndef RINGSIDE_KEYSYM_H
#define RINGSIDE_KEYSYM_H

#include <stdint.h>

/* Which Shift a symbol needs; letters and what both have: either will do. */
enum keysym_shift { KEYSYM_ANY, KEYSYM_SHIFTED, KEYSYM_UNSHIFTED };

/* The key's code (input.h), 0: no such key. */
unsigned keysym_code(uint32_t keysym, enum keysym_shift *shift);

#endif
