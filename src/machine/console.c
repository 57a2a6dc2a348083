/*
 * Standard input and output, with escape keys. See console.h.
 *
 * The descriptors belong to whoever built the VM. A guest that talks to nobody, because the reader of its output has
 * gone, ends, as a filter in a pipe would.
 */
#include "machine/console.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pm.h"
#include "dev/uart.h"
#include "machine/pc.h"
#include "machine/serial.h"
#include "machine/vm.h"
#include "ui/chardev.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */

struct console {
	struct vm *vm;
	struct chardev *chardev;
	bool escaped; /* the last byte was Ctrl-A */
};

static const char key_help[] = "\nRingside's keys:\n"
			       "  Ctrl-A x   end the guest at once\n"
			       "  Ctrl-A p   press the power button\n"
			       "  Ctrl-A s   statistics\n"
			       "  Ctrl-A b   send a break\n"
			       "  Ctrl-A a   send Ctrl-A (so does Ctrl-A Ctrl-A)\n"
			       "  Ctrl-A h   this help\n";

static void say(struct console *c, const char *text)
{
	chardev_write_all(c->chardev, (const uint8_t *)text, strlen(text));
}

static void print_stats(struct console *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return;
	/* It takes the lock itself. */
	pthread_mutex_unlock(&c->vm->lock);
	vm_print_stats(c->vm, f);
	pthread_mutex_lock(&c->vm->lock);
	fclose(f);
	say(c, "\n");
	say(c, text);
	free(text);
}

/* On the ports that standard input is the line of. */
static void send_break(struct console *c)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		if (c->vm->backends.serial[i] == c->chardev)
			uart_receive_break(serial_uart(c->vm->pc->serial, i));
}

/* The byte after Ctrl-A. True: the guest is to get a Ctrl-A. */
static bool key(struct console *c, uint8_t byte)
{
	switch (byte) {
	case 'x':
	case 'X':
		vm_stop(c->vm, VM_QUIT);
		break;
	case 'p':
	case 'P':
		pm_power_button(c->vm->pc->pm);
		break;
	case 's':
	case 'S':
		print_stats(c);
		break;
	case 'b':
	case 'B':
		send_break(c);
		break;
	case 'a':
	case 'A':
	case ESCAPE_KEY:
		return true;
	default:
		say(c, key_help);
		break;
	}
	return false;
}

/* Takes keys of ours out of the input. */
static size_t filter(void *opaque, uint8_t *data, size_t len)
{
	struct console *c = opaque;
	size_t left = 0;

	for (size_t i = 0; i < len; i++) {
		if (c->escaped) {
			c->escaped = false;
			if (key(c, data[i]))
				data[left++] = ESCAPE_KEY;
		} else if (data[i] == ESCAPE_KEY) {
			c->escaped = true;
		} else {
			data[left++] = data[i];
		}
	}
	return left;
}

static void broken(void *opaque) { vm_stop(((struct console *)opaque)->vm, VM_OUTPUT_CLOSED); }

struct console *console_new(struct vm *vm)
{
	struct console *c = calloc(1, sizeof *c);
	const struct chardev_owner owner = {
		.filter = vm->config.escape_keys ? filter : NULL, .broken = broken, .opaque = c};

	if (!c)
		return NULL;
	c->vm = vm;
	c->chardev = chardev_new_fds(vm->loop, vm->config.input_fd, vm->config.output_fd, &owner);
	if (!c->chardev) {
		free(c);
		return NULL;
	}
	return c;
}

void console_free(struct console *c)
{
	chardev_free(c->chardev);
	free(c);
}

struct chardev *console_chardev(struct console *c) { return c->chardev; }
