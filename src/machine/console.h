/*
 * The host's end of the guest's serial line: a terminal, a pipe or a file.
 *
 * The I/O thread reads the input; output is written by whoever gives it. All under vm->lock.
 */
#ifndef RINGSIDE_CONSOLE_H
#define RINGSIDE_CONSOLE_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

struct vm;
struct console;

struct console *console_new(struct vm *vm); /* descriptors and keys as vm->config says; NULL: errno */
void console_free(struct console *c);

/* Writes what can be written without waiting; how much that was. */
size_t console_output(struct console *c, const uint8_t *data, size_t len);
/* Writes all of it, waiting for a slow reader for a bounded time. */
void console_write_all(struct console *c, const uint8_t *data, size_t len);

/* What to poll for now; fd -1 where there is nothing to wait for. */
void console_poll(struct console *c, struct pollfd *input, struct pollfd *output);
/* After poll: reads input, obeys keys, feeds the UART; tells the UART of room. */
void console_serve(struct console *c, const struct pollfd *input, const struct pollfd *output);
/* At the end: hands over what the UART still holds. */
void console_drain(struct console *c);

#endif
