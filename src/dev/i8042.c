/*
 * The 8042 keyboard controller and its keyboard. See i8042.h.
 *
 * Everything happens at once: commands are done, and answered, when they are written. Bytes wait in the
 * keyboard and the auxiliary port until the output buffer is read. The keyboard has no keys pressed. The
 * auxiliary port has nothing plugged in: what is sent there comes back as a timeout.
 *
 * Called under vm->lock. Sources: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller" and "Keyboards (101- and 102-key)".
 */
#include "dev/i8042.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "mem/bus.h"

#define PORT_DATA 0x60
#define PORT_COMMAND 0x64

/* Status register */
#define STATUS_OBF 0x01
#define STATUS_SYS 0x04
#define STATUS_COMMAND 0x08
#define STATUS_NOT_LOCKED 0x10
#define STATUS_AUX 0x20
#define STATUS_TIMEOUT 0x40

/* Command byte: byte 0 of the controller's RAM */
#define CB_KEYBOARD_INT 0x01
#define CB_AUX_INT 0x02
#define CB_SYS 0x04
#define CB_KEYBOARD_OFF 0x10
#define CB_AUX_OFF 0x20
#define CB_TRANSLATE 0x40

/* Output port */
#define OUT_NOT_RESET 0x01
#define OUT_A20 0x02
#define OUT_IRQ1 0x10
#define OUT_IRQ12 0x20

enum command {
	CMD_READ_RAM = 0x20, CMD_WRITE_RAM = 0x60, /* and the 31 behind each */
	CMD_TEST_PASSWORD = 0xa4, CMD_AUX_DISABLE = 0xa7, CMD_AUX_ENABLE, CMD_AUX_TEST, CMD_SELF_TEST, CMD_KEYBOARD_TEST,
	CMD_KEYBOARD_DISABLE = 0xad, CMD_KEYBOARD_ENABLE, CMD_READ_INPUT_PORT = 0xc0, CMD_READ_OUTPUT_PORT = 0xd0,
	CMD_WRITE_OUTPUT_PORT, CMD_WRITE_KEYBOARD_BUFFER, CMD_WRITE_AUX_BUFFER, CMD_WRITE_AUX,
	CMD_A20_OFF = 0xdd, CMD_A20_ON = 0xdf, CMD_READ_TEST_INPUTS, CMD_PULSE = 0xf0, /* and the 15 behind */
};

enum keyboard_command {
	KEY_SET_LEDS = 0xed, KEY_ECHO = 0xee, KEY_SCAN_CODE_SET = 0xf0, KEY_READ_ID = 0xf2, KEY_TYPEMATIC, KEY_ENABLE,
	KEY_DISABLE, KEY_DEFAULTS, KEY_ALL_TYPEMATIC, KEY_ALL_MAKE_BREAK, KEY_ALL_MAKE, KEY_ALL_BOTH,
	KEY_ONE_TYPEMATIC, KEY_ONE_MAKE_BREAK, KEY_ONE_MAKE, KEY_RESEND, KEY_RESET,
};
#define KEY_ACK 0xfa
#define KEY_RESEND_REQUEST 0xfe
#define KEY_SELF_TEST_PASSED 0xaa

#define SELF_TEST_PASSED 0x55
#define NO_PASSWORD 0xf1
#define RAM_SIZE 32
#define QUEUE_MAX 8 /* longest answer of the keyboard, and to spare */

struct keyboard {
	uint8_t queue[QUEUE_MAX]; /* bytes not yet taken by the controller */
	unsigned count;
	uint8_t last; /* sent; for RESEND */
	uint8_t expects; /* the command whose option byte comes next; 0 = none */
	uint8_t scan_code_set;
};

struct i8042 {
	uint8_t ram[RAM_SIZE];
	uint8_t status;
	uint8_t output; /* the output buffer, valid while STATUS_OBF */
	uint8_t pending_command; /* its data byte comes next; 0 = none */
	bool a20, released; /* released: F0 came from the keyboard, to be merged by translation */
	/* The controller's own answer, while the output buffer is full. */
	bool reply_waits;
	uint8_t reply, reply_status;
	struct keyboard keyboard;
	struct irq_line irq1, irq12;
	void (*reset)(void *opaque);
	void *opaque;
};

/* Scan code set 2 to set 1, as the controller translates; from 0x84 on bytes stay as they are. */
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

/* ---- output buffer ---- */

static void update_irqs(struct i8042 *k)
{
	bool full = k->status & STATUS_OBF, aux = k->status & STATUS_AUX;

	irq_set(&k->irq1, full && !aux && (k->ram[0] & CB_KEYBOARD_INT));
	irq_set(&k->irq12, full && aux && (k->ram[0] & CB_AUX_INT));
}

static void fill_output(struct i8042 *k, uint8_t value, uint8_t status)
{
	k->output = value;
	k->status = (k->status & (uint8_t)~(STATUS_AUX | STATUS_TIMEOUT)) | STATUS_OBF | status;
}

/* A byte of the keyboard on its way to the output buffer. False: translation has swallowed it. */
static bool translate(struct i8042 *k, uint8_t *c)
{
	if (!(k->ram[0] & CB_TRANSLATE))
		return true;
	if (*c == 0xf0) {
		k->released = true;
		return false;
	}
	if (*c < sizeof translation)
		*c = translation[*c] | (k->released ? 0x80 : 0);
	k->released = false;
	return true;
}

/* Takes the next byte that waits into the output buffer, if that is empty. */
static void refill(struct i8042 *k)
{
	struct keyboard *kb = &k->keyboard;

	if (!(k->status & STATUS_OBF) && k->reply_waits) {
		k->reply_waits = false;
		fill_output(k, k->reply, k->reply_status);
	}
	while (!(k->status & STATUS_OBF) && kb->count && !(k->ram[0] & CB_KEYBOARD_OFF)) {
		uint8_t c = kb->last = kb->queue[0];

		kb->count--;
		for (unsigned i = 0; i < kb->count; i++)
			kb->queue[i] = kb->queue[i + 1];
		if (translate(k, &c))
			fill_output(k, c, 0);
	}
	update_irqs(k);
}

static void reply(struct i8042 *k, uint8_t value, uint8_t status)
{
	k->reply_waits = true;
	k->reply = value;
	k->reply_status = status;
}

/* ---- keyboard ---- */

static void keyboard_send(struct keyboard *kb, uint8_t c)
{
	if (kb->count < QUEUE_MAX)
		kb->queue[kb->count++] = c;
}

static void keyboard_option(struct keyboard *kb, uint8_t v)
{
	uint8_t command = kb->expects;

	kb->expects = 0;
	keyboard_send(kb, KEY_ACK);
	switch (command) {
	case KEY_SCAN_CODE_SET:
		if (v == 0)
			keyboard_send(kb, kb->scan_code_set);
		else if (v <= 3)
			kb->scan_code_set = v;
		break;
	case KEY_ONE_TYPEMATIC:
	case KEY_ONE_MAKE_BREAK:
	case KEY_ONE_MAKE:
		kb->expects = command; /* a list of keys, ended by the next command */
		break;
	}
}

static void keyboard_write(struct keyboard *kb, uint8_t v)
{
	kb->count = 0; /* a command makes the keyboard forget what it has not sent */
	if (kb->expects && v < KEY_SET_LEDS) {
		keyboard_option(kb, v);
		return;
	}
	kb->expects = 0;
	switch (v) {
	case KEY_ECHO:
		keyboard_send(kb, KEY_ECHO);
		return;
	case KEY_RESEND:
		keyboard_send(kb, kb->last);
		return;
	case KEY_READ_ID:
		keyboard_send(kb, KEY_ACK);
		keyboard_send(kb, 0xab);
		keyboard_send(kb, 0x83);
		return;
	case KEY_RESET:
		kb->scan_code_set = 2;
		keyboard_send(kb, KEY_ACK);
		keyboard_send(kb, KEY_SELF_TEST_PASSED);
		return;
	case KEY_SET_LEDS:
	case KEY_SCAN_CODE_SET:
	case KEY_TYPEMATIC:
	case KEY_ONE_TYPEMATIC:
	case KEY_ONE_MAKE_BREAK:
	case KEY_ONE_MAKE:
		kb->expects = v;
		keyboard_send(kb, KEY_ACK);
		return;
	case KEY_DISABLE:
	case KEY_DEFAULTS:
		kb->scan_code_set = 2;
		keyboard_send(kb, KEY_ACK);
		return;
	case KEY_ENABLE:
	case KEY_ALL_TYPEMATIC:
	case KEY_ALL_MAKE_BREAK:
	case KEY_ALL_MAKE:
	case KEY_ALL_BOTH:
		keyboard_send(kb, KEY_ACK);
		return;
	default:
		keyboard_send(kb, KEY_RESEND_REQUEST);
		return;
	}
}

/* ---- controller ---- */

static uint8_t output_port(const struct i8042 *k)
{
	bool full = k->status & STATUS_OBF, aux = k->status & STATUS_AUX;

	return (uint8_t)(0xc0 | OUT_NOT_RESET | (k->a20 ? OUT_A20 : 0) | (full && !aux ? OUT_IRQ1 : 0) |
			 (full && aux ? OUT_IRQ12 : 0));
}

static void write_ram(struct i8042 *k, unsigned i, uint8_t v)
{
	k->ram[i] = v;
	if (i == 0)
		k->status = (k->status & (uint8_t)~STATUS_SYS) | (v & CB_SYS ? STATUS_SYS : 0);
}

/* Commands that need no data byte. */
static void do_command(struct i8042 *k, uint8_t c)
{
	switch (c) {
	case CMD_TEST_PASSWORD:
		reply(k, NO_PASSWORD, 0);
		break;
	case CMD_AUX_DISABLE:
		k->ram[0] |= CB_AUX_OFF;
		break;
	case CMD_AUX_ENABLE:
		k->ram[0] &= (uint8_t)~CB_AUX_OFF;
		break;
	case CMD_AUX_TEST:
	case CMD_KEYBOARD_TEST:
		reply(k, 0, 0); /* clock and data lines are fine */
		break;
	case CMD_SELF_TEST:
		write_ram(k, 0, k->ram[0] | CB_SYS);
		reply(k, SELF_TEST_PASSED, 0);
		break;
	case CMD_KEYBOARD_DISABLE:
		k->ram[0] |= CB_KEYBOARD_OFF;
		break;
	case CMD_KEYBOARD_ENABLE:
		k->ram[0] &= (uint8_t)~CB_KEYBOARD_OFF;
		break;
	case CMD_READ_INPUT_PORT:
		reply(k, 0xa0, 0); /* keyboard not locked, no manufacturing jumper */
		break;
	case CMD_READ_OUTPUT_PORT:
		reply(k, output_port(k), 0);
		break;
	case CMD_A20_OFF:
	case CMD_A20_ON:
		k->a20 = c == CMD_A20_ON;
		break;
	case CMD_READ_TEST_INPUTS:
		reply(k, 0, 0);
		break;
	}
}

static void command_write(struct i8042 *k, uint8_t c)
{
	k->status |= STATUS_COMMAND;
	k->pending_command = 0;
	if (c >= CMD_READ_RAM && c < CMD_READ_RAM + RAM_SIZE) {
		reply(k, k->ram[c % RAM_SIZE], 0);
	} else if ((c >= CMD_WRITE_RAM && c < CMD_WRITE_RAM + RAM_SIZE) ||
		   (c >= CMD_WRITE_OUTPUT_PORT && c <= CMD_WRITE_AUX)) {
		k->pending_command = c;
	} else if (c >= CMD_PULSE) { /* bits 0-3 low: which outputs are pulsed */
		if (!(c & OUT_NOT_RESET))
			k->reset(k->opaque);
	} else {
		do_command(k, c);
	}
}

static void data_write(struct i8042 *k, uint8_t v)
{
	uint8_t c = k->pending_command;

	k->status &= (uint8_t)~STATUS_COMMAND;
	k->pending_command = 0;
	switch (c) {
	case 0:
		k->ram[0] &= (uint8_t)~CB_KEYBOARD_OFF; /* sending opens the port */
		keyboard_write(&k->keyboard, v);
		break;
	case CMD_WRITE_OUTPUT_PORT:
		k->a20 = v & OUT_A20;
		if (!(v & OUT_NOT_RESET))
			k->reset(k->opaque);
		break;
	case CMD_WRITE_KEYBOARD_BUFFER:
		reply(k, v, 0);
		break;
	case CMD_WRITE_AUX_BUFFER:
		reply(k, v, STATUS_AUX);
		break;
	case CMD_WRITE_AUX:
		k->ram[0] &= (uint8_t)~CB_AUX_OFF;
		reply(k, KEY_RESEND_REQUEST, STATUS_AUX | STATUS_TIMEOUT); /* nobody there */
		break;
	default:
		write_ram(k, c % RAM_SIZE, v);
		break;
	}
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned size)
{
	struct i8042 *k = dev;
	uint8_t value = k->output;

	(void)offset;
	(void)size;
	k->status &= (uint8_t)~(STATUS_OBF | STATUS_AUX | STATUS_TIMEOUT);
	update_irqs(k); /* the line falls before it rises for the next byte */
	refill(k);
	return value;
}

static void data_port_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)offset;
	(void)size;
	data_write(dev, (uint8_t)value);
	refill(dev);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size)
{
	(void)offset;
	(void)size;
	return ((struct i8042 *)dev)->status;
}

static void command_port_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)offset;
	(void)size;
	command_write(dev, (uint8_t)value);
	refill(dev);
}

static const struct bus_ops data_ops = {.read = data_read, .write = data_port_write, .max_size = 1};
static const struct bus_ops command_ops = {.read = status_read, .write = command_port_write, .max_size = 1};

/* As firmware leaves it: self-test done, keyboard translated, interrupts on, nothing in the buffer. */
void i8042_reset(struct i8042 *k)
{
	for (unsigned i = 0; i < RAM_SIZE; i++)
		k->ram[i] = 0;
	k->ram[0] = CB_KEYBOARD_INT | CB_SYS | CB_AUX_OFF | CB_TRANSLATE;
	k->status = STATUS_NOT_LOCKED | STATUS_SYS;
	k->output = k->pending_command = 0;
	k->a20 = true;
	k->released = k->reply_waits = false;
	k->keyboard = (struct keyboard){.scan_code_set = 2, .last = KEY_SELF_TEST_PASSED};
	update_irqs(k);
}

struct i8042 *i8042_new(struct bus *pio, struct irq_line irq1, struct irq_line irq12, void (*reset)(void *opaque),
			void *opaque)
{
	struct i8042 *k = calloc(1, sizeof *k);
	int err;

	if (!k)
		return NULL;
	k->irq1 = irq1;
	k->irq12 = irq12;
	k->reset = reset;
	k->opaque = opaque;
	i8042_reset(k);
	if ((err = bus_register(pio, PORT_DATA, 1, &data_ops, k, "i8042-data")) ||
	    (err = bus_register(pio, PORT_COMMAND, 1, &command_ops, k, "i8042-command"))) {
		free(k);
		errno = -err;
		return NULL;
	}
	return k;
}

void i8042_free(struct i8042 *k)
{
	free(k);
}
