/*
 * The 16550A: FIFOs, interrupts and their priorities, loopback, back-pressure both ways, and the probes
 * that Linux's 8250 driver makes.
 */
#include "dev/uart.h"

#include "dev_fixture.h"

#define B 0x3f8u
enum { THR = B, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };
#define IRQ lines[4]

static struct uart *uart;
static uint8_t sent[1 << 20];
static size_t sent_len, room, calls;
static unsigned ready_calls;

static size_t output(void *opaque, const uint8_t *data, size_t len)
{
	size_t n = len < room ? len : room;

	(void)opaque;
	calls++;
	memcpy(sent + sent_len, data, n);
	sent_len += n;
	room -= n;
	return n;
}

static void input_ready(void *opaque)
{
	(void)opaque;
	ready_calls++;
}

static void start(void)
{
	static const struct uart_ops ops = {.output = output, .input_ready = input_ready};

	fixture_start();
	sent_len = calls = 0;
	ready_calls = 0;
	room = sizeof sent;
	uart = uart_new(&pio, queue, B, test_line(4), &ops, NULL);
}

static void stop(void)
{
	uart_free(uart);
	fixture_stop();
}

static size_t receive(const char *text) { return uart_receive(uart, (const uint8_t *)text, strlen(text)); }

static void registers(void)
{
	start();
	CHECK_EQ(inb(LSR), 0x60);
	CHECK_EQ(inb(IIR), 0x01);
	CHECK_EQ(inb(MSR), 0xb0);
	outb(SCR, 0xa5);
	CHECK_EQ(inb(SCR), 0xa5);
	outb(IER, 0xff);
	CHECK_EQ(inb(IER), 0x0f);
	outb(IER, 0);
	outb(LCR, 0x83);
	out(B, 2, 0x1234);
	CHECK_EQ(in(B, 2), 0x1234);
	outb(LCR, 0x03);
	CHECK_EQ(inb(IER), 0);
	CHECK_EQ(sent_len, 0);
	outb(MCR, 0xff);
	CHECK_EQ(inb(MCR), 0x1f);
	outb(LSR, 0xff);
	outb(MSR, 0xff);
	stop();
}

/* What Linux's autoconfig does to tell a 16550A. */
static void linux_probes(void)
{
	start();
	outb(IER, 0);
	outb(IER, 0x0f);
	CHECK_EQ(inb(IER), 0x0f);
	outb(IER, 0);
	outb(MCR, 0x1a); /* loop, OUT2, RTS */
	CHECK_EQ(inb(MSR) & 0xf0, 0x90);
	outb(MCR, 0);
	outb(FCR, 0x01);
	CHECK_EQ(inb(IIR) & 0xc0, 0xc0);
	outb(LCR, 0x80);
	outb(FCR, 0x21);
	CHECK_EQ(inb(IIR) >> 5, 6); /* no 64-byte FIFO */
	outb(LCR, 0x03);
	outb(FCR, 0x07);
	outb(FCR, 0);
	CHECK_EQ(inb(IIR) & 0xc0, 0);
	/* The transmitter's interrupt comes again when it is enabled again. */
	outb(MCR, 0x08);
	outb(IER, 0x02);
	CHECK(IRQ.level);
	CHECK_EQ(inb(IIR), 0x02);
	CHECK(!IRQ.level);
	CHECK_EQ(inb(IIR), 0x01);
	outb(IER, 0);
	outb(IER, 0x02);
	CHECK_EQ(inb(IIR), 0x02);
	outb(IER, 0x02);
	CHECK_EQ(inb(IIR), 0x01);
	stop();
}

static void transmission(void)
{
	start();
	outb(FCR, 1);
	outb(MCR, 0x0b);
	outb(IER, 0x02);
	for (unsigned i = 0; i < 1000; i++) {
		CHECK(IRQ.level);
		CHECK_EQ(inb(IIR), 0xc2);
		for (unsigned j = 0; j < 16; j++)
			outb(THR, (uint8_t)(i + j));
	}
	CHECK_EQ(calls, 16000 / 4096); /* in batches */
	pass(2 * MILLISECOND);
	CHECK_EQ(sent_len, 16000);
	CHECK_EQ(calls, 16000 / 4096 + 1);
	for (unsigned i = 0; i < 16000; i++)
		if (sent[i] != (uint8_t)(i / 16 + i % 16))
			failed++;
	outb(IER, 0);
	CHECK(!IRQ.level);
	outb(THR, 'x');
	CHECK_EQ(uart_flush(uart), 0);
	CHECK_EQ(sent_len, 16001);
	/* A few characters wait a millisecond for more, and no longer. Nothing to send: nothing wakes the host. */
	outb(THR, 'y');
	pass(MILLISECOND - 1);
	outb(THR, 'z');
	CHECK_EQ(sent_len, 16001);
	pass(1);
	CHECK_EQ(sent_len, 16003);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	stop();
}

/* A driver that answers the transmitter's interrupt without reading IIR: writing THR takes the interrupt back, and
 * the next one is a new edge. */
static void transmission_without_iir(void)
{
	start();
	outb(MCR, 0x08);
	outb(IER, 0x02);
	CHECK_EQ(IRQ.rises, 1);
	for (unsigned i = 0; i < 10; i++) {
		CHECK(inb(LSR) & 0x20);
		outb(THR, 'x');
		CHECK(IRQ.level);
		CHECK_EQ(IRQ.rises, 2 + i);
	}
	stop();
}

/* A host that takes nothing: the guest waits, and nothing is lost. */
static void output_pressure(void)
{
	unsigned written = 0;

	start();
	room = 100;
	outb(MCR, 0x08);
	while (inb(LSR) & 0x20)
		outb(THR, (uint8_t)written++);
	CHECK(written > 10000 && written < 100000);
	CHECK(uart_output_waiting(uart));
	CHECK_EQ(inb(LSR) & 0x60, 0);
	outb(IER, 0x02);
	CHECK(!IRQ.level);
	for (unsigned i = 0; i < 1000; i++) /* a guest that does not look */
		outb(THR, (uint8_t)written++);
	pass(SECOND);
	CHECK_EQ(sent_len, 100);
	room = 10;
	uart_output_ready(uart);
	CHECK(uart_output_waiting(uart));
	room = sizeof sent - sent_len;
	uart_output_ready(uart);
	CHECK(!uart_output_waiting(uart));
	CHECK(IRQ.level);
	CHECK_EQ(inb(IIR), 0x02);
	CHECK_EQ(sent_len, written);
	for (unsigned i = 0; i < written; i++)
		if (sent[i] != (uint8_t)i)
			failed++;
	room = 0;
	for (unsigned i = 0; i < 200000; i++) /* bounded */
		outb(THR, 0);
	CHECK(uart_flush(uart) <= 65536);
	stop();
}

/* Firmware that polls, with neither RTS nor an interrupt. */
static void polling(void)
{
	start();
	for (unsigned i = 0; i < 1000; i++) { /* output alone is no listening */
		inb(LSR);
		outb(THR, 'x');
		inb(LSR);
	}
	CHECK_EQ(receive("lost?"), 0);
	for (unsigned i = 0; i < 100; i++)
		inb(LSR);
	CHECK_EQ(ready_calls, 1);
	CHECK_EQ(receive("a"), 1);
	CHECK_EQ(inb(LSR), 0x61);
	CHECK_EQ(inb(THR), 'a');
	CHECK_EQ(receive("b"), 1);
	outb(IER, 0); /* somebody else takes over */
	CHECK_EQ(inb(THR), 'b');
	CHECK_EQ(receive("lost?"), 0);
	stop();
}

static void reception(void)
{
	start();
	CHECK_EQ(uart_can_receive(uart), 0);
	CHECK_EQ(receive("lost?"), 0); /* no RTS: the guest is not there yet */
	outb(IER, 0x01); /* a probe */
	pass(50 * MILLISECOND);
	CHECK_EQ(receive("lost?"), 0);
	outb(IER, 0);
	pass(SECOND);
	CHECK_EQ(ready_calls, 0);
	outb(IER, 0x01); /* a guest that means it, and does not know RTS */
	pass(100 * MILLISECOND);
	CHECK_EQ(ready_calls, 1);
	CHECK_EQ(receive("x"), 1);
	CHECK_EQ(inb(THR), 'x');
	outb(IER, 0);
	CHECK_EQ(uart_can_receive(uart), 0);
	ready_calls = 0;
	outb(MCR, 0x0b);
	CHECK_EQ(ready_calls, 1);
	CHECK_EQ(uart_can_receive(uart), 1); /* no FIFO */
	outb(IER, 0x01);
	CHECK_EQ(receive("abc"), 1);
	CHECK(IRQ.level);
	CHECK_EQ(inb(IIR), 0x04);
	CHECK_EQ(inb(LSR), 0x61);
	CHECK_EQ(uart_can_receive(uart), 0);
	CHECK_EQ(inb(THR), 'a');
	CHECK_EQ(ready_calls, 2);
	CHECK(!IRQ.level);
	CHECK_EQ(inb(LSR), 0x60);
	/* Trigger level 8 */
	outb(FCR, 0x81);
	CHECK_EQ(receive("1234567"), 7);
	CHECK(!IRQ.level);
	CHECK_EQ(receive("8"), 1);
	CHECK_EQ(inb(IIR), 0xc4);
	CHECK_EQ(receive("9abcdefghijk"), 8);
	outb(IER, 0); /* not asked for: no interrupt */
	CHECK(!IRQ.level);
	CHECK_EQ(inb(IIR), 0xc1);
	outb(IER, 0x01);
	for (const char *c = "123456789"; *c; c++)
		CHECK_EQ(inb(THR), *c);
	CHECK(!IRQ.level);
	CHECK_EQ(inb(IIR), 0xc1);
	/* What is left below the trigger level: timeout after four characters' time. */
	outb(LCR, 0x83);
	out(B, 2, 12); /* 9600 baud */
	outb(LCR, 0x03);
	inb(THR);
	pass(4 * MILLISECOND);
	CHECK(!IRQ.level);
	pass(MILLISECOND);
	CHECK(IRQ.level);
	CHECK_EQ(inb(IIR), 0xcc);
	CHECK_EQ(inb(THR), 'b');
	CHECK(!IRQ.level);
	pass(5 * MILLISECOND);
	CHECK_EQ(inb(IIR), 0xcc);
	ready_calls = 0;
	for (const char *c = "cdefg"; *c; c++)
		CHECK_EQ(inb(THR), *c);
	CHECK_EQ(ready_calls, 1);
	pass(SECOND);
	CHECK_EQ(inb(IIR), 0xc1);
	/* Every trigger level */
	static const struct { uint8_t fcr; unsigned level; } trigger[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
	for (unsigned t = 0; t < 4; t++) {
		outb(FCR, trigger[t].fcr | 2);
		for (unsigned n = 1; n <= 16; n++) {
			CHECK_EQ(receive("x"), 1);
			CHECK_EQ(IRQ.level, n >= trigger[t].level);
		}
		CHECK_EQ(inb(IIR), 0xc4);
	}
	/* A shorter character, a shorter time: 7 bits instead of 10 */
	outb(FCR, 0x83);
	outb(LCR, 0x00);
	receive("x");
	pass(2900 * MICROSECOND);
	CHECK(!IRQ.level);
	pass(100 * MICROSECOND);
	CHECK(IRQ.level);
	outb(IER, 0); /* the timeout is there, and not asked for */
	CHECK(!IRQ.level);
	outb(IER, 0x01);
	CHECK_EQ(inb(IIR), 0xcc);
	outb(LCR, 0x03);
	/* FIFO clear */
	receive("xyz");
	outb(FCR, 0x83);
	CHECK_EQ(inb(LSR), 0x60);
	stop();
}

static void priorities_and_errors(void)
{
	start();
	outb(FCR, 1);
	outb(MCR, 0x0b);
	inb(MSR);
	outb(IER, 0x0f);
	uart_receive_break(uart);
	receive("a");
	uart_receive_break(uart);
	outb(MCR, 0x10); /* loopback: the modem lines change */
	outb(MCR, 0x0b);
	CHECK_EQ(inb(IIR), 0xc6);
	CHECK_EQ(inb(LSR), 0xf1); /* break, an error in the FIFO, data */
	CHECK_EQ(inb(IIR), 0xc4);
	CHECK_EQ(inb(THR), 0);
	CHECK_EQ(inb(LSR), 0xe1); /* the second break is behind 'a' */
	CHECK_EQ(inb(THR), 'a');
	CHECK_EQ(inb(IIR), 0xc6);
	CHECK_EQ(inb(LSR), 0xf1);
	inb(THR);
	CHECK_EQ(inb(LSR), 0x60);
	CHECK_EQ(inb(IIR), 0xc2);
	CHECK_EQ(inb(IIR), 0xc0);
	CHECK(IRQ.level);
	CHECK_EQ(inb(MSR) & 0xf0, 0xb0);
	CHECK_EQ(inb(IIR), 0xc1);
	CHECK(!IRQ.level);
	/* Clearing the FIFO takes its errors along; what is not enabled does not interrupt. */
	uart_receive_break(uart);
	CHECK_EQ(inb(IIR), 0xc6);
	outb(FCR, 0x03);
	CHECK(!IRQ.level);
	CHECK_EQ(inb(LSR), 0x60);
	outb(IER, 0x08);
	uart_receive_break(uart);
	CHECK(!IRQ.level);
	CHECK_EQ(inb(LSR), 0xf1);
	stop();
}

static void loopback(void)
{
	start();
	outb(MCR, 0x10);
	inb(MSR);
	outb(THR, 'L');
	CHECK_EQ(inb(LSR), 0x61);
	outb(THR, 'M');
	CHECK_EQ(inb(LSR), 0x63); /* overrun */
	CHECK_EQ(inb(LSR), 0x61);
	CHECK_EQ(inb(THR), 'M');
	outb(FCR, 1);
	for (unsigned i = 0; i < 20; i++)
		outb(THR, (uint8_t)i);
	CHECK_EQ(inb(LSR), 0x63);
	for (unsigned i = 0; i < 16; i++)
		CHECK_EQ(inb(THR), i);
	CHECK_EQ(inb(LSR), 0x60);
	static const struct { uint8_t mcr, msr; } pair[] = {
		{0x11, 0x22}, {0x12, 0x13}, {0x14, 0x41}, {0x18, 0x8c}, {0x10, 0x08}};
	inb(MSR);
	for (unsigned i = 0; i < sizeof pair / sizeof pair[0]; i++) {
		outb(MCR, pair[i].mcr);
		uint8_t want = pair[i].msr;
		if (i == 1)
			want |= 0x02; /* DTR fell */
		CHECK_EQ(inb(MSR), want);
	}
	CHECK_EQ(uart_can_receive(uart), 0);
	CHECK_EQ(receive("x"), 0);
	pass(SECOND);
	CHECK_EQ(sent_len, 0);
	uart_reset(uart);
	CHECK_EQ(inb(MCR), 0);
	stop();
}

static void hostile(void)
{
	start();
	for (unsigned i = 0; i < 100000; i++) {
		abuse(&pio, B, 8, 1);
		if (random64() % 8 == 0)
			receive("hello, world");
		if (random64() % 64 == 0)
			uart_receive_break(uart);
		if (random64() % 64 == 0) {
			sent_len = 0;
			room = random64() % 200;
			uart_output_ready(uart);
		}
	}
	CHECK(true);
	stop();
}

int main(void)
{
	registers();
	linux_probes();
	transmission();
	transmission_without_iir();
	output_pressure();
	reception();
	polling();
	priorities_and_errors();
	loopback();
	hostile();
	return summary();
}
