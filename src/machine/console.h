/*
 * The host's end of the guest's serial line: a terminal, a pipe or a file.
 *
 * The I/O thread reads the input; output is written by whoever gives it. All under vm->lock.
 */
#ifndef RINGSIDE_CONSOLE_H
#define RINGSIDE_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

struct vm;
struct console;

/* Descriptors and keys as vm->config says; watched by vm->loop. NULL: errno. */
struct console *console_new(struct vm *vm);
void console_free(struct console *c);

/* Writes what can be written without waiting; how much that was. */
size_t console_output(struct console *c, const uint8_t *data, size_t len);
/* Writes all of it, waiting for a slow reader for a bounded time. */
void console_write_all(struct console *c, const uint8_t *data, size_t len);

/* At the end: hands over what the UART still holds. */
void console_drain(struct console *c);

#endif
