/*
 * Two ports for test guests: QEMU's ISA debug exit (a write of N ends the VM with status 2N+1) and the
 * debug console at port 0xe9 of Bochs and QEMU (bytes written are output; it reads 0xe9, so that guests
 * can tell that it is there).
 *
 * Called under vm->lock.
 */
#ifndef RINGSIDE_DEBUG_H
#define RINGSIDE_DEBUG_H

#include <stddef.h>
#include <stdint.h>

#define DEBUG_EXIT_PORTS 4u /* ports that the exit device takes */
#define DEBUG_CONSOLE_PORT 0xe9u

struct bus;
struct debug_exit;
struct debug_console;

/* exited: `status` is 2N+1 of the 1, 2 or 4 bytes written. NULL: errno. */
struct debug_exit *debug_exit_new(struct bus *pio, uint16_t port, void (*exited)(void *opaque, uint32_t status),
				  void *opaque);
void debug_exit_free(struct debug_exit *d);

/* output: takes all of it. Given line by line, or when 256 bytes are there. NULL: errno. */
struct debug_console *debug_console_new(struct bus *pio, uint16_t port,
					void (*output)(void *opaque, const uint8_t *data, size_t len), void *opaque);
void debug_console_flush(struct debug_console *d);
void debug_console_free(struct debug_console *d); /* flushes */

#endif
