/*
 * The host's end of the guest's serial line: input with escape keys, output that never waits long.
 *
 * Owns struct console: a buffer of input that the UART has no room for yet. Under vm->lock. The
 * descriptors belong to whoever built the VM and are shared with other processes, so they are not
 * made non-blocking: poll(2) says what can be read and written.
 */
#include "machine/console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/debug.h"
#include "dev/pm.h"
#include "dev/uart.h"
#include "machine/pc.h"
#include "machine/vm.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */
#define INPUT_MAX 4096u
#define WRITE_MAX 512u /* bytes a write: fits where poll says that there is room */
#define DRAIN_MS 2000  /* a reader that takes nothing for so long is given up */

struct console {
	struct vm *vm;
	struct loop_source source;
	int in_index, out_index;   /* in the loop's set of this turn; -1: not watched */
	int in, out;               /* -1: none, at its end, or broken */
	bool escape;               /* Ctrl-A is a key of ours */
	bool escaped;              /* it was the last byte */
	uint8_t buffer[INPUT_MAX]; /* input on its way to the UART: [start, end) */
	size_t start, end;
};

static const char key_help[] = "\nRingside's keys:\n"
			       "  Ctrl-A x   end the guest at once\n"
			       "  Ctrl-A p   press the power button\n"
			       "  Ctrl-A s   statistics\n"
			       "  Ctrl-A b   send a break\n"
			       "  Ctrl-A a   send Ctrl-A (so does Ctrl-A Ctrl-A)\n"
			       "  Ctrl-A h   this help\n";

/* Writes once, if there is room. Bytes written; 0 when there is none, or all of them once the reader is gone. */
static size_t write_some(struct console *c, const uint8_t *data, size_t len)
{
	struct pollfd p = {.fd = c->out, .events = POLLOUT};

	if (c->out < 0)
		return len;
	if (poll(&p, 1, 0) <= 0)
		return 0;
	ssize_t n = write(c->out, data, len < WRITE_MAX ? len : WRITE_MAX);
	if (n >= 0)
		return (size_t)n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	/* Nobody will read any more: a guest that talks to nobody ends, as a filter in a pipe would. */
	c->out = -1;
	vm_stop(c->vm, VM_OUTPUT_CLOSED);
	return len;
}

size_t console_output(struct console *c, const uint8_t *data, size_t len)
{
	size_t done = 0, n;

	while (done < len && (n = write_some(c, data + done, len - done)) > 0)
		done += n;
	return done;
}

/* Waits until there is room, or a reader has shown no sign of life for DRAIN_MS. */
static bool wait_for_room(struct console *c)
{
	struct pollfd p = {.fd = c->out, .events = POLLOUT};

	return c->out >= 0 && poll(&p, 1, DRAIN_MS) > 0;
}

void console_write_all(struct console *c, const uint8_t *data, size_t len)
{
	size_t done = console_output(c, data, len);

	while (done < len && wait_for_room(c))
		done += console_output(c, data + done, len - done);
}

void console_drain(struct console *c)
{
	debug_console_flush(c->vm->pc->debug_console);
	while (uart_flush(c->vm->pc->com1) > 0 && wait_for_room(c))
		;
}

static void buffer_put(struct console *c, uint8_t byte)
{
	if (c->end < INPUT_MAX)
		c->buffer[c->end++] = byte;
}

static void say(struct console *c, const char *text) { console_write_all(c, (const uint8_t *)text, strlen(text)); }

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

/* The byte after Ctrl-A. */
static void key(struct console *c, uint8_t byte)
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
		uart_receive_break(c->vm->pc->com1);
		break;
	case 'a':
	case 'A':
	case ESCAPE_KEY:
		buffer_put(c, ESCAPE_KEY);
		break;
	default:
		say(c, key_help);
		break;
	}
}

static void take(struct console *c, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (c->escaped) {
			c->escaped = false;
			key(c, data[i]);
		} else if (c->escape && data[i] == ESCAPE_KEY) {
			c->escaped = true;
		} else {
			buffer_put(c, data[i]);
		}
	}
}

static void read_input(struct console *c)
{
	uint8_t data[INPUT_MAX];
	size_t room = c->escape ? sizeof data : INPUT_MAX - c->end;
	ssize_t n = read(c->in, data, room);

	if (n > 0)
		take(c, data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		c->in = -1; /* the end of the input is not the end of the guest */
}

static void feed_uart(struct console *c)
{
	c->start += uart_receive(c->vm->pc->com1, c->buffer + c->start, c->end - c->start);
	memmove(c->buffer, c->buffer + c->start, c->end - c->start);
	c->end -= c->start;
	c->start = 0;
}

/* Before poll. */
static void prepare(void *opaque, struct loop_set *set)
{
	struct console *c = opaque;
	/* Keys are obeyed even when the guest reads nothing, so a terminal is always read. */
	bool room = c->escape || c->end < INPUT_MAX;

	c->in_index = room && c->in >= 0 ? loop_set_add(set, c->in, POLLIN) : -1;
	c->out_index = c->out >= 0 && uart_output_waiting(c->vm->pc->com1) ? loop_set_add(set, c->out, POLLOUT) : -1;
}

/* After it. */
static void serve(void *opaque, const struct loop_set *set)
{
	struct console *c = opaque;

	if (loop_set_revents(set, c->in_index))
		read_input(c);
	if (loop_set_revents(set, c->out_index))
		uart_output_ready(c->vm->pc->com1);
	if (c->end > 0)
		feed_uart(c);
}

struct console *console_new(struct vm *vm)
{
	struct console *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->vm = vm;
	c->in = vm->config.input_fd;
	c->out = vm->config.output_fd;
	c->escape = vm->config.escape_keys;
	c->source = (struct loop_source){.prepare = prepare, .serve = serve, .opaque = c};
	loop_add_source(vm->loop, &c->source);
	return c;
}

void console_free(struct console *c)
{
	loop_remove_source(c->vm->loop, &c->source);
	free(c);
}
