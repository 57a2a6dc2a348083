/*
 * The serial ports of a PC: COM1 to COM4, each in front of a character back end of the VM.
 *
 * Under vm->lock, or while the machine is built.
 */
#ifndef RINGSIDE_SERIAL_H
#define RINGSIDE_SERIAL_H

#include "irq/irq.h"

struct vm;
struct serial;
struct uart;

/* As vm->backends.serial says. com13 and com24 are the lines that COM1 and COM3, COM2 and COM4 share. NULL: errno. */
struct serial *serial_new(struct vm *vm, struct irq_line com13, struct irq_line com24);
void serial_free(struct serial *s);
/* COM1 + n, NULL when it is not there. */
struct uart *serial_uart(struct serial *s, unsigned n);
/* At the end: hands over what the ports still hold, waiting for slow readers for a bounded time. */
void serial_drain(struct serial *s);

#endif
