/*
 * Key symbols. See keysym.h. Pure.
 */
#include "ui/keysym.h"

#include <linux/input-event-codes.h>

/* ASCII from space on: code, and whether Shift makes it. */
#define S 0x100
static const uint16_t ascii[95] = {
	/*   */ KEY_SPACE, S | KEY_1, S | KEY_APOSTROPHE, S | KEY_3, S | KEY_4, S | KEY_5, S | KEY_7, KEY_APOSTROPHE,
	/* ( */ S | KEY_9, S | KEY_0, S | KEY_8, S | KEY_EQUAL, KEY_COMMA, KEY_MINUS, KEY_DOT, KEY_SLASH,
	/* 0 */ KEY_0, KEY_1, KEY_2, KEY_3, KEY_4, KEY_5, KEY_6, KEY_7,
	/* 8 */ KEY_8, KEY_9, S | KEY_SEMICOLON, KEY_SEMICOLON, S | KEY_COMMA, KEY_EQUAL, S | KEY_DOT, S | KEY_SLASH,
	/* @ */ S | KEY_2, S | KEY_A, S | KEY_B, S | KEY_C, S | KEY_D, S | KEY_E, S | KEY_F, S | KEY_G,
	/* H */ S | KEY_H, S | KEY_I, S | KEY_J, S | KEY_K, S | KEY_L, S | KEY_M, S | KEY_N, S | KEY_O,
	/* P */ S | KEY_P, S | KEY_Q, S | KEY_R, S | KEY_S, S | KEY_T, S | KEY_U, S | KEY_V, S | KEY_W,
	/* X */ S | KEY_X, S | KEY_Y, S | KEY_Z, KEY_LEFTBRACE, KEY_BACKSLASH, KEY_RIGHTBRACE, S | KEY_6, S | KEY_MINUS,
	/* ` */ KEY_GRAVE, KEY_A, KEY_B, KEY_C, KEY_D, KEY_E, KEY_F, KEY_G,
	/* h */ KEY_H, KEY_I, KEY_J, KEY_K, KEY_L, KEY_M, KEY_N, KEY_O,
	/* p */ KEY_P, KEY_Q, KEY_R, KEY_S, KEY_T, KEY_U, KEY_V, KEY_W,
	/* x */ KEY_X, KEY_Y, KEY_Z, S | KEY_LEFTBRACE, S | KEY_BACKSLASH, S | KEY_RIGHTBRACE, S | KEY_GRAVE,
};

/* Symbols 0xff00 to 0xffff: keys that print nothing, and the keypad. */
static const uint8_t function[256] = {
	[0x08] = KEY_BACKSPACE, [0x09] = KEY_TAB, [0x0a] = KEY_ENTER, [0x0d] = KEY_ENTER, [0x13] = KEY_PAUSE,
	[0x14] = KEY_SCROLLLOCK, [0x15] = KEY_SYSRQ, [0x1b] = KEY_ESC, [0x50] = KEY_HOME, [0x51] = KEY_LEFT,
	[0x52] = KEY_UP, [0x53] = KEY_RIGHT, [0x54] = KEY_DOWN, [0x55] = KEY_PAGEUP, [0x56] = KEY_PAGEDOWN,
	[0x57] = KEY_END, [0x61] = KEY_SYSRQ, [0x63] = KEY_INSERT, [0x67] = KEY_COMPOSE, [0x6b] = KEY_PAUSE,
	[0x7e] = KEY_RIGHTALT, [0x7f] = KEY_NUMLOCK, [0x8d] = KEY_KPENTER, [0x95] = KEY_KP7, [0x96] = KEY_KP4,
	[0x97] = KEY_KP8, [0x98] = KEY_KP6, [0x99] = KEY_KP2, [0x9a] = KEY_KP9, [0x9b] = KEY_KP3, [0x9c] = KEY_KP1,
	[0x9d] = KEY_KP5, [0x9e] = KEY_KP0, [0x9f] = KEY_KPDOT, [0xaa] = KEY_KPASTERISK, [0xab] = KEY_KPPLUS,
	[0xad] = KEY_KPMINUS, [0xae] = KEY_KPDOT, [0xaf] = KEY_KPSLASH, [0xb0] = KEY_KP0, [0xb1] = KEY_KP1,
	[0xb2] = KEY_KP2, [0xb3] = KEY_KP3, [0xb4] = KEY_KP4, [0xb5] = KEY_KP5, [0xb6] = KEY_KP6, [0xb7] = KEY_KP7,
	[0xb8] = KEY_KP8, [0xb9] = KEY_KP9, [0xbe] = KEY_F1, [0xbf] = KEY_F2, [0xc0] = KEY_F3, [0xc1] = KEY_F4,
	[0xc2] = KEY_F5, [0xc3] = KEY_F6, [0xc4] = KEY_F7, [0xc5] = KEY_F8, [0xc6] = KEY_F9, [0xc7] = KEY_F10,
	[0xc8] = KEY_F11, [0xc9] = KEY_F12, [0xe1] = KEY_LEFTSHIFT, [0xe2] = KEY_RIGHTSHIFT, [0xe3] = KEY_LEFTCTRL,
	[0xe4] = KEY_RIGHTCTRL, [0xe5] = KEY_CAPSLOCK, [0xe7] = KEY_LEFTALT, [0xe8] = KEY_RIGHTALT,
	[0xe9] = KEY_LEFTALT, [0xea] = KEY_RIGHTALT, [0xeb] = KEY_LEFTMETA, [0xec] = KEY_RIGHTMETA,
	[0xff] = KEY_DELETE,
};

unsigned keysym_code(uint32_t keysym, enum keysym_shift *shift)
{
	*shift = KEYSYM_ANY;
	if (keysym == 0xfe03) /* ISO_Level3_Shift */
		return KEY_RIGHTALT;
	if (keysym == 0xfe20) { /* ISO_Left_Tab */
		*shift = KEYSYM_SHIFTED;
		return KEY_TAB;
	}
	if (keysym >= 0xff00 && keysym <= 0xffff)
		return function[keysym & 0xff];
	if (keysym < 0x20 || keysym >= 0x20 + sizeof ascii / sizeof ascii[0])
		return 0;
	uint16_t entry = ascii[keysym - 0x20];
	if (keysym != ' ')
		*shift = entry & S ? KEYSYM_SHIFTED : KEYSYM_UNSHIFTED;
	return entry & 0xff;
}
