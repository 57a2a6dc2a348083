/*
 * ISA debug exit and the debug console. See debug.h. Called under vm->lock.
 */
#include "dev/debug.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"

#define CONSOLE_ID 0xe9 /* what a read of the console gives */
#define LINE_MAX_BYTES 256

/* ---- debug exit ---- */

struct debug_exit {
	void (*exited)(void *opaque, uint32_t status);
	void *opaque;
};

static uint64_t exit_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return 0;
}

static void exit_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct debug_exit *d = dev;

	(void)offset;
	(void)size;
	d->exited(d->opaque, (uint32_t)value << 1 | 1);
}

static const struct bus_ops exit_ops = {.read = exit_read, .write = exit_write, .max_size = 4};

struct debug_exit *debug_exit_new(struct bus *pio, uint16_t port, void (*exited)(void *opaque, uint32_t status),
				  void *opaque)
{
	struct debug_exit *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->exited = exited;
	d->opaque = opaque;
	int err = bus_register(pio, port, DEBUG_EXIT_PORTS, &exit_ops, d, "debug-exit");
	if (err) {
		free(d);
		errno = -err;
		return NULL;
	}
	return d;
}

void debug_exit_free(struct debug_exit *d)
{
	free(d);
}

/* ---- debug console ---- */

struct debug_console {
	uint8_t line[LINE_MAX_BYTES];
	size_t len;
	void (*output)(void *opaque, const uint8_t *data, size_t len);
	void *opaque;
};

void debug_console_flush(struct debug_console *d)
{
	if (d->len)
		d->output(d->opaque, d->line, d->len);
	d->len = 0;
}

static uint64_t console_read(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return CONSOLE_ID;
}

static void console_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct debug_console *d = dev;

	(void)offset;
	(void)size;
	d->line[d->len++] = (uint8_t)value;
	if ((uint8_t)value == '\n' || d->len == sizeof d->line)
		debug_console_flush(d);
}

static const struct bus_ops console_ops = {.read = console_read, .write = console_write, .max_size = 1};

struct debug_console *debug_console_new(struct bus *pio, uint16_t port,
					void (*output)(void *opaque, const uint8_t *data, size_t len), void *opaque)
{
	struct debug_console *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->output = output;
	d->opaque = opaque;
	int err = bus_register(pio, port, 1, &console_ops, d, "debug-console");
	if (err) {
		free(d);
		errno = -err;
		return NULL;
	}
	return d;
}

void debug_console_free(struct debug_console *d)
{
	if (!d)
		return;
	debug_console_flush(d);
	free(d);
}
