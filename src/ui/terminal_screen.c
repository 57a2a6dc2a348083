/*
 * The screen in a terminal. See terminal_screen.h.
 *
 * It looks at the screen FRAME_NS after the terminal has taken the last of what changed: a slow terminal sees fewer
 * pictures, and one picture's worth of output at most waits for it.
 *
 * Under vm->lock. Sources: ECMA-48; xterm's control sequences for keys; IBM code page 437.
 */
#include "ui/terminal_screen.h"

#include <linux/input-event-codes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ui/chardev.h"
#include "ui/display.h"
#include "ui/input.h"
#include "ui/keysym.h"
#include "util/timer.h"

#define FRAME_NS 40000000ull
#define CELL_BYTES 32u /* at most, with its color and place */
#define OUTPUT_MAX (DISPLAY_TEXT_MAX * CELL_BYTES + 256u)
#define SEQUENCE_MAX 16u
#define ESC 0x1b

struct terminal_screen {
	struct chardev *terminal;
	struct display *display;
	struct input *input;
	struct timer timer;
	struct display_text shown, now;
	bool valid, graphics; /* `shown` is on the terminal; a picture was there at the last look */
	char *output;         /* on its way: [sent, len) */
	size_t len, sent;
	int attribute;        /* that the terminal has; -1: unknown */
	uint8_t sequence[SEQUENCE_MAX]; /* of a key, so far */
	unsigned sequence_len;
};

/* Code page 437: what is below the space, 0x7f, and from 0x80 on. */
static const uint16_t low[32] = {
	0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a,
	0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190,
	0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t high[129] = {
	0x2302, 0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee,
	0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc,
	0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf,
	0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562,
	0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500,
	0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565,
	0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x03b1,
	0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5,
	0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f,
	0x00b2, 0x25a0, 0x00a0,
};

/* ---- output ---- */

static void put(struct terminal_screen *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct terminal_screen *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(s->output + s->len, OUTPUT_MAX - s->len, format, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < OUTPUT_MAX - s->len)
		s->len += (size_t)n;
}

static void put_character(struct terminal_screen *s, uint8_t c)
{
	uint32_t u = c < 0x20 ? low[c] : c < 0x7f ? c : high[c - 0x7f];

	if (u < 0x80)
		put(s, "%c", (char)u);
	else if (u < 0x800)
		put(s, "%c%c", (char)(0xc0 | u >> 6), (char)(0x80 | (u & 0x3f)));
	else
		put(s, "%c%c%c", (char)(0xe0 | u >> 12), (char)(0x80 | (u >> 6 & 0x3f)), (char)(0x80 | (u & 0x3f)));
}

/* VGA's colors have red and blue where ECMA-48 has blue and red. */
static unsigned color(unsigned c) { return (c & 2) | (c & 1) << 2 | (c >> 2 & 1); }

static void put_attribute(struct terminal_screen *s, int attribute)
{
	if (attribute == s->attribute)
		return;
	put(s, "\033[0;%u;%um", (attribute & 8 ? 90 : 30) + color((unsigned)attribute & 7),
	    40 + color((unsigned)attribute >> 4 & 7));
	s->attribute = attribute;
}

static void put_changes(struct terminal_screen *s)
{
	const struct display_text *now = &s->now, *shown = &s->shown;
	bool all = !s->valid || now->columns != shown->columns || now->rows != shown->rows;

	if (all)
		put(s, "\033[0m\033[?7l\033[2J");
	for (unsigned y = 0; y < now->rows; y++) {
		bool there = false; /* the terminal's cursor is where the next character goes */

		for (unsigned x = 0; x < now->columns; x++) {
			uint16_t cell = now->cell[y * now->columns + x];

			if (!all && cell == shown->cell[y * now->columns + x]) {
				there = false;
				continue;
			}
			if (!there)
				put(s, "\033[%u;%uH", y + 1, x + 1);
			there = true;
			put_attribute(s, cell >> 8);
			put_character(s, (uint8_t)cell);
		}
	}
	if (all || s->len || now->cursor_row != shown->cursor_row || now->cursor_column != shown->cursor_column) {
		if (now->cursor_row < 0)
			put(s, "\033[?25l");
		else
			put(s, "\033[?25h\033[%d;%dH", now->cursor_row + 1, now->cursor_column + 1);
	}
	s->shown = *now;
	s->valid = true;
}

/* Sends what waits. True: nothing does any more. */
static bool send_output(struct terminal_screen *s)
{
	s->sent += chardev_write(s->terminal, (const uint8_t *)s->output + s->sent, s->len - s->sent);
	if (s->sent < s->len)
		return false;
	s->sent = s->len = 0;
	return true;
}

static void look(void *opaque)
{
	struct terminal_screen *s = opaque;

	if (display_text(s->display, &s->now)) {
		if (s->graphics)
			s->valid = false;
		s->graphics = false;
		put_changes(s);
	} else if (!s->graphics) {
		put(s, "\033[0m\033[2J\033[H[graphics: --vnc shows them]\r\n");
		s->attribute = -1;
		s->graphics = true;
	}
	if (send_output(s))
		timer_arm(&s->timer, timer_queue_now(s->timer.queue) + FRAME_NS);
}

static void output_ready(void *opaque)
{
	struct terminal_screen *s = opaque;

	if (send_output(s) && !timer_armed(&s->timer))
		timer_arm(&s->timer, timer_queue_now(s->timer.queue) + FRAME_NS);
}

/* ---- keys ---- */

static void stroke(struct terminal_screen *s, unsigned code, bool shift, bool control, bool alt)
{
	const struct { bool on; unsigned code; } modifier[] = {
		{shift, KEY_LEFTSHIFT}, {control, KEY_LEFTCTRL}, {alt, KEY_LEFTALT},
	};

	if (!code)
		return;
	for (unsigned i = 0; i < 3; i++)
		if (modifier[i].on)
			input_key(s->input, modifier[i].code, true);
	input_key(s->input, code, true);
	input_key(s->input, code, false);
	for (unsigned i = 3; i-- > 0;)
		if (modifier[i].on)
			input_key(s->input, modifier[i].code, false);
}

static void character(struct terminal_screen *s, uint8_t c, bool alt)
{
	enum keysym_shift shift = KEYSYM_ANY;
	unsigned code;

	if (c == '\r' || c == '\n')
		code = KEY_ENTER;
	else if (c == '\t')
		code = KEY_TAB;
	else if (c == ESC)
		code = KEY_ESC;
	else if (c == 0x7f || c == '\b')
		code = KEY_BACKSPACE;
	else
		code = keysym_code(c < 0x20 ? c | (c >= 1 && c <= 26 ? 0x60u : 0x40u) : c, &shift);
	bool control = c < 0x20 && c != '\r' && c != '\n' && c != '\t' && c != ESC && c != '\b';
	stroke(s, code, shift == KEYSYM_SHIFTED && !control, control, alt);
}

/* A sequence that is whole: ESC [ or ESC O, perhaps numbers, a letter or ~. */
static void sequence(struct terminal_screen *s)
{
	static const uint8_t by_letter[26] = {
		['A' - 'A'] = KEY_UP, ['B' - 'A'] = KEY_DOWN, ['C' - 'A'] = KEY_RIGHT, ['D' - 'A'] = KEY_LEFT,
		['F' - 'A'] = KEY_END, ['H' - 'A'] = KEY_HOME, ['P' - 'A'] = KEY_F1, ['Q' - 'A'] = KEY_F2,
		['R' - 'A'] = KEY_F3, ['S' - 'A'] = KEY_F4,
	};
	static const uint8_t by_number[25] = {
		[1] = KEY_HOME, [2] = KEY_INSERT, [3] = KEY_DELETE, [4] = KEY_END, [5] = KEY_PAGEUP, [6] = KEY_PAGEDOWN,
		[7] = KEY_HOME, [8] = KEY_END, [11] = KEY_F1, [12] = KEY_F2, [13] = KEY_F3, [14] = KEY_F4,
		[15] = KEY_F5, [17] = KEY_F6, [18] = KEY_F7, [19] = KEY_F8, [20] = KEY_F9, [21] = KEY_F10,
		[23] = KEY_F11, [24] = KEY_F12,
	};
	unsigned number[2] = {0, 1}, n = 0, modifiers, code = 0;
	uint8_t last = s->sequence[s->sequence_len - 1];

	for (unsigned i = 2; i + 1 < s->sequence_len; i++) {
		if (s->sequence[i] == ';' && n == 0)
			number[++n] = 0;
		else if (s->sequence[i] >= '0' && s->sequence[i] <= '9')
			number[n] = number[n] * 10 % 1000 + (s->sequence[i] - '0');
	}
	modifiers = number[1] - 1; /* as xterm has them: shift 1, alt 2, control 4 */
	if (last == '~' && number[0] < sizeof by_number)
		code = by_number[number[0]];
	else if (last == 'Z') {
		code = KEY_TAB;
		modifiers = 1;
	} else if (last >= 'A' && last <= 'Z')
		code = by_letter[last - 'A'];
	stroke(s, code, modifiers & 1, modifiers & 4, modifiers & 2);
}

static void byte(struct terminal_screen *s, uint8_t c)
{
	if (s->sequence_len == 0) {
		if (c == ESC)
			s->sequence[s->sequence_len++] = c;
		else
			character(s, c, false);
		return;
	}
	if (s->sequence_len == 1 && c != '[' && c != 'O') {
		s->sequence_len = 0;
		character(s, c, true);
		return;
	}
	s->sequence[s->sequence_len++] = c;
	if (s->sequence_len > 2 && ((c >= '@' && c <= '~') || s->sequence_len == SEQUENCE_MAX)) {
		sequence(s);
		s->sequence_len = 0;
	}
}

static size_t receive(void *opaque, const uint8_t *data, size_t len)
{
	struct terminal_screen *s = opaque;

	for (size_t i = 0; i < len; i++)
		byte(s, data[i]);
	if (s->sequence_len == 1) { /* nothing behind it: the key itself */
		s->sequence_len = 0;
		character(s, ESC, false);
	}
	return len;
}

/* ---- life ---- */

static void connected(void *opaque, bool open)
{
	struct terminal_screen *s = opaque;

	(void)open;
	s->valid = s->graphics = false; /* another one has another picture */
	s->attribute = -1;
}

static const struct chardev_ops ops = {.receive = receive, .output_ready = output_ready, .connected = connected};

struct terminal_screen *terminal_screen_new(struct chardev *terminal, struct timer_queue *timers, struct display *display,
					    struct input *input)
{
	struct terminal_screen *s = calloc(1, sizeof *s);

	if (!s || !(s->output = malloc(OUTPUT_MAX))) {
		free(s);
		return NULL;
	}
	s->terminal = terminal;
	s->display = display;
	s->input = input;
	s->attribute = -1;
	chardev_attach(terminal, &ops, s);
	timer_init(&s->timer, timers, look, s);
	timer_arm(&s->timer, timer_queue_now(timers) + FRAME_NS);
	return s;
}

void terminal_screen_free(struct terminal_screen *s)
{
	if (!s)
		return;
	timer_cancel(&s->timer);
	if (s->valid && !s->graphics) { /* the last picture, whole */
		send_output(s);
		if (display_text(s->display, &s->now))
			put_changes(s);
		put(s, "\033[0m\033[?7h\033[?25h\033[%u;1H\r\n", s->shown.rows);
		chardev_write_all(s->terminal, (const uint8_t *)s->output + s->sent, s->len - s->sent);
	}
	chardev_attach(s->terminal, NULL, NULL);
	free(s->output);
	free(s);
}
