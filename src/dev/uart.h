/*
 * A 16550A serial port.
 *
 * Transmission takes no time: what the guest writes goes into an output buffer, which is handed to
 * the host in batches (a millisecond's worth at most). When the host takes nothing the buffer fills
 * and the transmitter stays busy: the guest waits, nothing is lost.
 *
 * Called under vm->lock. Sources: National Semiconductor PC16550D data sheet; TI TL16C550C data sheet.
 */
#ifndef RINGSIDE_UART_H
#define RINGSIDE_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "irq/irq.h"

#define UART_COM1 0x3f8u

struct bus;
struct timer_queue;
struct uart;

struct uart_ops {
	/* Takes bytes for the host without waiting: returns how many it took, 0..len. When it took fewer
	 * than len, the owner calls uart_output_ready once the host can take more. */
	size_t (*output)(void *opaque, const uint8_t *data, size_t len);
	/* There is room in the receiver again after uart_receive was short. NULL: nobody asks. */
	void (*input_ready)(void *opaque);
};

/* Eight ports at `base`. NULL: errno. */
struct uart *uart_new(struct bus *pio, struct timer_queue *timers, uint16_t base, struct irq_line irq,
		      const struct uart_ops *ops, void *opaque);
void uart_free(struct uart *uart); /* does not flush */
void uart_reset(struct uart *uart);

/* Host → guest. How many bytes uart_receive would take now; it returns how many it took. */
size_t uart_can_receive(const struct uart *uart);
size_t uart_receive(struct uart *uart, const uint8_t *data, size_t len);
void uart_receive_break(struct uart *uart);

/* Guest → host. */
bool uart_output_waiting(const struct uart *uart); /* output was short: poll the host for POLLOUT */
void uart_output_ready(struct uart *uart);         /* try again */
/* Hands over what is buffered now, as far as ops->output takes it. Bytes left. Call it before the end. */
size_t uart_flush(struct uart *uart);

#endif
