/*
 * The 8042 keyboard controller. See i8042.h.
 *
 * Everything happens at once: commands are done, and answered, when they are written. Bytes wait in the
 * keyboard and the mouse until the output buffer is read. Without a mouse the auxiliary port has nothing plugged in:
 * what is sent there comes back as a timeout.
 *
 * Called under vm->lock. Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller".
 */
#include "dev/i8042.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "dev/ps2.h"
#include "mem/bus.h"
#include "ui/input.h"

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

#define NOBODY_THERE 0xfe
#define SELF_TEST_PASSED 0x55
#define NO_PASSWORD 0xf1
#define RAM_SIZE 32

struct i8042 {
	uint8_t ram[RAM_SIZE];
	uint8_t status;
	uint8_t output; /* the output buffer, valid while STATUS_OBF */
	uint8_t pending_command; /* its data byte comes next; 0 = none */
	bool a20, released; /* released: F0 came from the keyboard, to be merged by translation */
	/* The controller's own answer, while the output buffer is full. */
	bool reply_waits;
	uint8_t reply, reply_status;
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
	bool has_mouse;
	struct input *input;
	struct input_sink keys, pointer;
	struct irq_line irq1, irq12;
	void (*reset)(void *opaque);
	void *opaque;
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
	if (*c <= 0x83)
		*c = ps2_translate(*c) | (k->released ? 0x80 : 0);
	k->released = false;
	return true;
}

/* Takes the next byte that waits into the output buffer, if that is empty. */
static void refill(struct i8042 *k)
{
	uint8_t c;

	if (!(k->status & STATUS_OBF) && k->reply_waits) {
		k->reply_waits = false;
		fill_output(k, k->reply, k->reply_status);
	}
	while (!(k->status & STATUS_OBF) && !(k->ram[0] & CB_KEYBOARD_OFF) && ps2_take(&k->keyboard.queue, &c))
		if (translate(k, &c))
			fill_output(k, c, 0);
	if (!(k->status & STATUS_OBF) && !(k->ram[0] & CB_AUX_OFF)) {
		ps2_mouse_report(&k->mouse);
		if (ps2_take(&k->mouse.queue, &c))
			fill_output(k, c, STATUS_AUX);
	}
	update_irqs(k);
}

static void reply(struct i8042 *k, uint8_t value, uint8_t status)
{
	k->reply_waits = true;
	k->reply = value;
	k->reply_status = status;
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
		ps2_keyboard_write(&k->keyboard, v);
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
		if (k->has_mouse)
			ps2_mouse_write(&k->mouse, v);
		else
			reply(k, NOBODY_THERE, STATUS_AUX | STATUS_TIMEOUT);
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
	ps2_keyboard_reset(&k->keyboard);
	ps2_mouse_reset(&k->mouse);
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

/* ---- keys and pointer ---- */

static void key(void *opaque, unsigned code, bool down)
{
	struct i8042 *k = opaque;

	ps2_keyboard_key(&k->keyboard, code, down);
	refill(k);
}

static void pointer_moved(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
	struct i8042 *k = opaque;

	ps2_mouse_move(&k->mouse, dx, dy, dz, buttons);
	refill(k);
}

void i8042_attach(struct i8042 *k, struct input *input, bool mouse)
{
	k->input = input;
	k->has_mouse = mouse;
	k->keys = (struct input_sink){.key = key, .opaque = k};
	k->pointer = (struct input_sink){.move = pointer_moved, .opaque = k};
	input_attach(input, &k->keys);
	if (mouse)
		input_attach(input, &k->pointer);
}

void i8042_free(struct i8042 *k)
{
	if (k->input) {
		input_detach(k->input, &k->keys);
		input_detach(k->input, &k->pointer);
	}
	free(k);
}
