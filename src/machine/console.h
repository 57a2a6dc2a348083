/*
 * Standard input and output of `ringside run` as a character back end, with Ringside's own keys: Ctrl-A is taken out of
 * the input of a terminal.
 *
 * All under vm->lock.
 */
#ifndef RINGSIDE_CONSOLE_H
#define RINGSIDE_CONSOLE_H

struct vm;
struct console;
struct chardev;

/* Descriptors and keys as vm->config says; watched by vm->loop. NULL: errno. */
struct console *console_new(struct vm *vm);
void console_free(struct console *c);
struct chardev *console_chardev(struct console *c);

#endif
