/*
 * A 16550A serial port. See uart.h.
 *
 * Time: the transmitter takes none; the receiver takes what the host has, and knows the time of four
 * characters for its timeout interrupt. Every character has 8 bits, whatever the line control says.
 * The gate in the interrupt line that OUT2 works on a PC's board is always open: there are systems that
 * never open it. The host sends only to a guest that listens, so that what is typed while it boots waits in
 * the host: one that asserts RTS, or that keeps the receive interrupt enabled for a while (drivers
 * that probe enable it for a moment, and throw away what comes then), or that looks at the line status again and again
 * without anything to send, as firmware that polls does.
 *
 * Called under vm->lock. Source: National Semiconductor PC16550D data sheet.
 */
#include "dev/uart.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"
#include "util/log.h"
#include "util/timer.h"

#define FIFO_SIZE 16
#define OUT_SIZE 65536
/* The transmitter is busy when less than this is free: room for guests that do not look. */
#define OUT_RESERVE 4096
#define OUT_BATCH 4096 /* handed over at once */
#define OUT_DELAY_NS 1000000 /* or after this time */
#define CLOCK_HZ 1843200 /* 16 times the highest baud rate */
#define LISTEN_LOOKS 64 /* at the line status, in a row and in vain */
#define LISTEN_NS 100000000 /* the receive interrupt enabled that long, without RTS: the guest listens */
#define TIMEOUT_CHARACTERS 4
#define TIMEOUT_MIN_NS 100000
#define TIMEOUT_MAX_NS 10000000

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR, REGS };

#define IER_RDI 0x01
#define IER_THRI 0x02
#define IER_RLSI 0x04
#define IER_MSI 0x08
#define IER_BITS 0x0f
#define IIR_NONE 0x01
#define IIR_MODEM 0x00
#define IIR_THRE 0x02
#define IIR_DATA 0x04
#define IIR_LINE 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO 0xc0
#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define FCR_TRIGGER(v) ((v) >> 6)
#define FCR_KEPT 0xc9
#define LCR_LENGTH(v) (((v) & 3) + 5)
#define LCR_STOP2 0x04
#define LCR_PARITY 0x08
#define LCR_DLAB 0x80
#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_BITS 0x1f
#define LSR_DR 0x01
#define LSR_OE 0x02
#define LSR_BI 0x10
#define LSR_ERRORS 0x1e
#define LSR_THRE 0x20
#define LSR_TEMT 0x40
#define LSR_FIFO_ERROR 0x80
#define MSR_DCTS 0x01
#define MSR_DDSR 0x02
#define MSR_TERI 0x04
#define MSR_DDCD 0x08
#define MSR_DELTAS 0x0f
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80

struct uart {
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint16_t divisor;
	uint8_t errors;       /* LSR_ERRORS of the character at the top, and overruns */
	bool thre_interrupt;  /* THR became empty, and IIR has not said so yet */
	bool timeout;         /* characters wait below the trigger level */
	unsigned looks;       /* at the line status, in vain, in a row; stays at LISTEN_LOOKS */
	bool listens;         /* the receive interrupt has been enabled for LISTEN_NS */
	bool blocked;         /* the host was told that it cannot send */
	unsigned rx_first, rx_count; /* ring */
	uint8_t rx[FIFO_SIZE], rx_errors[FIFO_SIZE];
	unsigned out_first, out_count; /* ring */
	bool out_stalled; /* the host took less than all */
	struct irq_line irq;
	struct timer_queue *timers;
	struct timer out_timer, rx_timer, listen_timer;
	const struct uart_ops *ops;
	void *opaque;
	uint8_t out[OUT_SIZE];
};

/* ---- interrupts ---- */

static bool transmitter_ready(const struct uart *u)
{
	return u->out_count < OUT_SIZE - OUT_RESERVE;
}

static bool fifo_enabled(const struct uart *u)
{
	return u->fcr & FCR_ENABLE;
}

static unsigned trigger_level(const struct uart *u)
{
	static const uint8_t level[4] = {1, 4, 8, 14};

	return fifo_enabled(u) ? level[FCR_TRIGGER(u->fcr)] : 1;
}

/* The pending interrupt of highest priority, as IIR names it. */
static uint8_t interrupt_id(const struct uart *u)
{
	if ((u->ier & IER_RLSI) && u->errors)
		return IIR_LINE;
	if ((u->ier & IER_RDI) && u->rx_count >= trigger_level(u))
		return IIR_DATA;
	if ((u->ier & IER_RDI) && u->timeout)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRI) && u->thre_interrupt)
		return IIR_THRE;
	if ((u->ier & IER_MSI) && (u->msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

/* Brings the interrupt line, and the host's view of the receiver, up to date. */
static void update(struct uart *u)
{
	irq_set(&u->irq, interrupt_id(u) != IIR_NONE);
	if (!uart_can_receive(u)) {
		u->blocked = true;
	} else if (u->blocked && !u->rx_count) {
		u->blocked = false;
		if (u->ops->input_ready)
			u->ops->input_ready(u->opaque);
	}
}

/* ---- receiver ---- */

static void arm_timeout(struct uart *u)
{
	u->timeout = false;
	if (!u->rx_count || !fifo_enabled(u)) {
		timer_cancel(&u->rx_timer);
		return;
	}
	unsigned bits = 1 + LCR_LENGTH(u->lcr) + (u->lcr & LCR_PARITY ? 1 : 0) + (u->lcr & LCR_STOP2 ? 2 : 1);
	uint64_t ns = (uint64_t)TIMEOUT_CHARACTERS * bits * (u->divisor ? u->divisor : 1) * 16 * 1000000000 / CLOCK_HZ;
	if (ns < TIMEOUT_MIN_NS)
		ns = TIMEOUT_MIN_NS;
	if (ns > TIMEOUT_MAX_NS)
		ns = TIMEOUT_MAX_NS;
	timer_arm(&u->rx_timer, timer_queue_now(u->timers) + ns);
}

static void timeout_fired(void *opaque)
{
	struct uart *u = opaque;

	u->timeout = u->rx_count;
	update(u);
}

static void push(struct uart *u, uint8_t c, uint8_t errors)
{
	unsigned size = fifo_enabled(u) ? FIFO_SIZE : 1;

	if (u->rx_count == size) {
		u->errors |= LSR_OE;
		if (size > 1)
			return; /* a full FIFO keeps what it has; the lone register is overwritten */
		u->rx_count = 0;
	}
	unsigned i = (u->rx_first + u->rx_count) % FIFO_SIZE;
	u->rx[i] = c;
	u->rx_errors[i] = errors;
	if (u->rx_count++ == 0)
		u->errors |= errors;
	arm_timeout(u);
}

static uint8_t pop(struct uart *u)
{
	uint8_t c = u->rx[u->rx_first]; /* an empty one gives the last character again */

	if (!u->rx_count)
		return c;
	if (--u->rx_count) {
		u->rx_first = (u->rx_first + 1) % FIFO_SIZE;
		u->errors |= u->rx_errors[u->rx_first];
	}
	arm_timeout(u);
	return c;
}

static void clear_receiver(struct uart *u)
{
	u->rx_first = u->rx_count = 0;
	u->errors = 0;
	arm_timeout(u);
}

static bool error_in_fifo(const struct uart *u)
{
	if (!fifo_enabled(u))
		return false;
	for (unsigned i = 0; i < u->rx_count; i++)
		if (u->rx_errors[(u->rx_first + i) % FIFO_SIZE])
			return true;
	return false;
}

static void listen_fired(void *opaque)
{
	struct uart *u = opaque;

	u->listens = true;
	update(u);
}

size_t uart_can_receive(const struct uart *u)
{
	if ((u->mcr & MCR_LOOP) || !((u->mcr & MCR_RTS) || u->listens || u->looks == LISTEN_LOOKS))
		return 0;
	return (fifo_enabled(u) ? FIFO_SIZE : 1) - u->rx_count;
}

size_t uart_receive(struct uart *u, const uint8_t *data, size_t len)
{
	size_t room = uart_can_receive(u), n = len < room ? len : room;

	for (size_t i = 0; i < n; i++)
		push(u, data[i], 0);
	update(u);
	return n;
}

void uart_receive_break(struct uart *u)
{
	if (uart_can_receive(u))
		push(u, 0, LSR_BI);
	update(u);
}

/* ---- transmitter ---- */

size_t uart_flush(struct uart *u)
{
	bool was_ready = transmitter_ready(u);

	timer_cancel(&u->out_timer);
	u->out_stalled = false;
	while (u->out_count && !u->out_stalled) {
		unsigned n = OUT_SIZE - u->out_first;

		if (n > u->out_count)
			n = u->out_count;
		size_t taken = u->ops->output(u->opaque, u->out + u->out_first, n);
		if (taken > n)
			taken = n;
		u->out_first = (u->out_first + (unsigned)taken) % OUT_SIZE;
		u->out_count -= (unsigned)taken;
		u->out_stalled = taken < n;
	}
	if (!was_ready && transmitter_ready(u)) {
		u->thre_interrupt = true;
		update(u);
	}
	return u->out_count;
}

static void out_timer_fired(void *opaque)
{
	uart_flush(opaque);
}

bool uart_output_waiting(const struct uart *u)
{
	return u->out_stalled;
}

void uart_output_ready(struct uart *u)
{
	uart_flush(u);
}

static void transmit(struct uart *u, uint8_t c)
{
	if (u->thre_interrupt) { /* the line falls, even if only to rise again: edges are what the PIC sees */
		u->thre_interrupt = false;
		update(u);
	}
	if (u->mcr & MCR_LOOP) {
		push(u, c, 0);
		u->thre_interrupt = true;
		return;
	}
	if (u->out_count == OUT_SIZE) /* the host has been stuck for long, and the guest does not wait */
		return;
	if (u->looks < LISTEN_LOOKS)
		u->looks = 0;
	u->out[(u->out_first + u->out_count++) % OUT_SIZE] = c;
	u->thre_interrupt = transmitter_ready(u);
	if (u->out_stalled)
		return; /* until uart_output_ready */
	if (u->out_count >= OUT_BATCH)
		uart_flush(u);
	else if (!timer_armed(&u->out_timer))
		timer_arm(&u->out_timer, timer_queue_now(u->timers) + OUT_DELAY_NS);
}

/* ---- modem lines ---- */

/* The other side is there and ready; in loopback the outputs are the inputs. */
static uint8_t modem_inputs(const struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) | (u->mcr & MCR_OUT1 ? MSR_RI : 0) |
	       (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void update_modem(struct uart *u)
{
	uint8_t old = u->msr, now = modem_inputs(u), changed = old ^ now;

	u->msr = (old & MSR_DELTAS) | now;
	if (changed & MSR_CTS)
		u->msr |= MSR_DCTS;
	if (changed & MSR_DSR)
		u->msr |= MSR_DDSR;
	if (changed & MSR_DCD)
		u->msr |= MSR_DDCD;
	if (changed & old & MSR_RI) /* trailing edge */
		u->msr |= MSR_TERI;
}

/* ---- registers ---- */

static uint8_t read_iir(struct uart *u)
{
	uint8_t id = interrupt_id(u);

	if (id == IIR_THRE)
		u->thre_interrupt = false;
	return id | (fifo_enabled(u) ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct uart *u)
{
	uint8_t value = u->errors | (u->rx_count ? LSR_DR : 0) | (error_in_fifo(u) ? LSR_FIFO_ERROR : 0) |
			(transmitter_ready(u) ? LSR_THRE | LSR_TEMT : 0);

	if (value == (LSR_THRE | LSR_TEMT) && u->looks < LISTEN_LOOKS)
		u->looks++;
	u->errors = 0;
	if (u->rx_count)
		u->rx_errors[u->rx_first] = 0; /* the one at the top has been seen */
	return value;
}

static uint8_t read_msr(struct uart *u)
{
	uint8_t value = u->msr;

	u->msr &= (uint8_t)~MSR_DELTAS;
	return value;
}

static uint64_t uart_read(void *dev, uint64_t offset, unsigned size)
{
	struct uart *u = dev;
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t value = 0xff;

	(void)size;
	switch (offset) {
	case RBR_THR_DLL:
		value = dlab ? (uint8_t)u->divisor : pop(u);
		break;
	case IER_DLM:
		value = dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
		break;
	case IIR_FCR:
		value = read_iir(u);
		break;
	case LCR:
		value = u->lcr;
		break;
	case MCR:
		value = u->mcr;
		break;
	case LSR:
		value = read_lsr(u);
		break;
	case MSR:
		value = read_msr(u);
		break;
	case SCR:
		value = u->scr;
		break;
	}
	update(u);
	return value;
}

static void write_ier(struct uart *u, uint8_t value)
{
	uint8_t enabled = value & (uint8_t)~u->ier;

	u->ier = value & IER_BITS;
	u->looks = 0;
	if (enabled & IER_RDI)
		timer_arm(&u->listen_timer, timer_queue_now(u->timers) + LISTEN_NS);
	if (!(value & IER_RDI)) {
		timer_cancel(&u->listen_timer);
		u->listens = false;
	}
	if ((enabled & IER_THRI) && transmitter_ready(u))
		u->thre_interrupt = true;
}

static void write_fcr(struct uart *u, uint8_t value)
{
	if (!(value & FCR_ENABLE))
		value = 0; /* the other bits are taken only together with it */
	if (((value ^ u->fcr) & FCR_ENABLE) || (value & FCR_CLEAR_RX))
		clear_receiver(u);
	/* The transmitter's FIFO is always empty: what is in `out` has been sent. */
	u->fcr = value & FCR_KEPT;
}

static void uart_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct uart *u = dev;
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t v = (uint8_t)value;

	(void)size;
	if (offset != RBR_THR_DLL || dlab)
		LOG(LOG_UART, "register %u = %#x", (unsigned)offset, v);
	switch (offset) {
	case RBR_THR_DLL:
		if (dlab)
			u->divisor = (u->divisor & 0xff00) | v;
		else
			transmit(u, v);
		break;
	case IER_DLM:
		if (dlab)
			u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
		else
			write_ier(u, v);
		break;
	case IIR_FCR:
		write_fcr(u, v);
		break;
	case LCR:
		u->lcr = v;
		break;
	case MCR:
		u->mcr = v & MCR_BITS;
		update_modem(u);
		break;
	case SCR:
		u->scr = v;
		break;
	}
	update(u);
}

static const struct bus_ops uart_bus_ops = {.read = uart_read, .write = uart_write, .max_size = 1};

void uart_reset(struct uart *u)
{
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->divisor = CLOCK_HZ / 16 / 9600;
	u->msr = modem_inputs(u);
	u->thre_interrupt = u->listens = false;
	u->looks = 0;
	timer_cancel(&u->listen_timer);
	clear_receiver(u);
	update(u);
}

struct uart *uart_new(struct bus *pio, struct timer_queue *timers, uint16_t base, struct irq_line irq,
		      const struct uart_ops *ops, void *opaque)
{
	struct uart *u = calloc(1, sizeof *u);

	if (!u)
		return NULL;
	u->irq = irq;
	u->timers = timers;
	u->ops = ops;
	u->opaque = opaque;
	timer_init(&u->out_timer, timers, out_timer_fired, u);
	timer_init(&u->rx_timer, timers, timeout_fired, u);
	timer_init(&u->listen_timer, timers, listen_fired, u);
	uart_reset(u);
	int err = bus_register(pio, base, REGS, &uart_bus_ops, u, "uart");
	if (err) {
		free(u);
		errno = -err;
		return NULL;
	}
	return u;
}

void uart_free(struct uart *u)
{
	if (!u)
		return;
	timer_cancel(&u->out_timer);
	timer_cancel(&u->rx_timer);
	timer_cancel(&u->listen_timer);
	free(u);
}
