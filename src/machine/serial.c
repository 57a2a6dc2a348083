/*
 * Serial ports and their back ends. See serial.h.
 */
#include "machine/serial.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/uart.h"
#include "machine/vm.h"
#include "ui/chardev.h"

struct port {
	struct vm *vm;
	struct serial *serial;
	struct uart *uart;
	struct chardev *chardev;
	int level; /* of its interrupt */
};

struct serial {
	struct port port[SERIAL_PORTS];
	struct irq_line line[2]; /* of even and odd ports */
};

static const uint16_t base[SERIAL_PORTS] = {UART_COM1, 0x2f8, 0x3e8, 0x2e8};

static void port_irq(void *opaque, unsigned number, int level)
{
	struct serial *s = opaque;

	s->port[number].level = level;
	irq_set(&s->line[number & 1], s->port[number & 1].level || s->port[(number & 1) + 2].level);
}

static size_t output(void *opaque, const uint8_t *data, size_t len)
{
	return chardev_write(((struct port *)opaque)->chardev, data, len);
}

static void input_ready(void *opaque) { vm_wake_io(((struct port *)opaque)->vm); }

static const struct uart_ops uart_ops = {.output = output, .input_ready = input_ready};

static size_t receive(void *opaque, const uint8_t *data, size_t len)
{
	return uart_receive(((struct port *)opaque)->uart, data, len);
}

static void output_ready(void *opaque) { uart_output_ready(((struct port *)opaque)->uart); }

static const struct chardev_ops chardev_ops = {.receive = receive, .output_ready = output_ready};

struct serial *serial_new(struct vm *vm, struct irq_line com13, struct irq_line com24)
{
	struct serial *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->line[0] = com13;
	s->line[1] = com24;
	for (unsigned i = 0; i < SERIAL_PORTS; i++) {
		struct port *p = &s->port[i];
		const struct irq_line line = {.set = port_irq, .opaque = s, .number = i};

		*p = (struct port){.vm = vm, .serial = s, .chardev = vm->backends.serial[i]};
		if (!p->chardev)
			continue;
		p->uart = uart_new(&vm->pio, vm->timers, base[i], line, &uart_ops, p);
		if (!p->uart) {
			int err = errno;

			serial_free(s);
			errno = err;
			return NULL;
		}
		chardev_attach(p->chardev, &chardev_ops, p);
	}
	return s;
}

void serial_free(struct serial *s)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		if (s->port[i].uart) {
			chardev_attach(s->port[i].chardev, NULL, NULL);
			uart_free(s->port[i].uart);
		}
	free(s);
}

struct uart *serial_uart(struct serial *s, unsigned n) { return s->port[n].uart; }

void serial_drain(struct serial *s)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		while (s->port[i].uart && uart_flush(s->port[i].uart) > 0 &&
		       chardev_wait_for_room(s->port[i].chardev))
			;
}
