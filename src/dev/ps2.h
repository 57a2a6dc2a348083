/*
 * A PS/2 keyboard and a PS/2 mouse: what is at the other end of the 8042's two ports. Bytes are written to them and
 * taken from them; what is not taken waits in a queue of bounded length.
 *
 * Under vm->lock. Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)" and "Mouse";
 * Microsoft IntelliMouse: the wheel's protocol as drivers ask for it.
 */
#ifndef RINGSIDE_PS2_H
#define RINGSIDE_PS2_H

#include <stdbool.h>
#include <stdint.h>

#define PS2_QUEUE_SIZE 256u

struct ps2_queue {
	uint8_t byte[PS2_QUEUE_SIZE];
	unsigned first, count;
	uint8_t last; /* that was taken; for RESEND */
};

struct ps2_keyboard {
	struct ps2_queue queue;
	uint8_t expects; /* the command whose option byte comes next; 0 = none */
	uint8_t scan_code_set;
	bool disabled; /* keys are not sent */
};

struct ps2_mouse {
	struct ps2_queue queue;
	uint8_t expects;
	uint8_t id, resolution, rate;
	uint8_t knock[2];   /* the last two sample rates: three of them turn the wheel on */
	bool enabled, remote, wrap, scaled;
	int dx, dy, dz;     /* moved, and not reported */
	unsigned buttons;   /* enum input_button, as they are */
	unsigned reported;  /* and as they were last reported */
};

void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t value);
/* `code`: see ui/input.h. Keys without a scan code, and keys for which there is no room, are dropped. */
void ps2_keyboard_key(struct ps2_keyboard *k, unsigned code, bool down);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t value);
/* As input_sink's move. */
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons);
/* Movement that has waited for room becomes bytes. */
void ps2_mouse_report(struct ps2_mouse *m);

/* Takes the next byte. False: there is none. */
bool ps2_take(struct ps2_queue *q, uint8_t *value);

/* A scan code of set 2 in set 1, as the 8042 translates it; from 0x84 on codes stay as they are. */
uint8_t ps2_translate(uint8_t code);

#endif
