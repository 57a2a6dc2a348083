/*
 * Fuzz target: the devices that every PC has on its board, wired as there: the 8259s, the I/O APIC and two local APICs, the
 * 8254, the clock, four serial ports, kvmclock, the debug ports, pvpanic and the test device. An input is a list of
 * accesses of every size to their ports, memory and MSRs, of interrupts that the processors take, of what serial lines
 * say, of resets, with time that passes, sometimes by hours.
 *
 * What must hold: a vector that is pending is the one that is taken, and none is below 16.
 */
#include "driver.h"

#include "dev/debug.h"
#include "dev/kvmclock.h"
#include "dev/pit.h"
#include "dev/pvpanic.h"
#include "dev/reset.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "irq/ioapic.h"
#include "irq/irq.h"
#include "irq/lapic.h"
#include "irq/pic.h"
#include "mem/bus.h"
#include "mem/memory.h"
#include "util/timer.h"

#define RAM_SIZE (1ull << 20)
#define CPUS 2
#define UARTS 4
#define DEBUG_EXIT_PORT 0xf4
#define GSI_TIMER 2

struct machine {
	struct memory memory;
	struct bus pio, mmio;
	struct timer_queue *timers;
	struct pic *pic;
	struct ioapic *ioapic;
	struct lapic_bus lapics;
	struct lapic *lapic[CPUS];
	struct pit *pit;
	struct rtc *rtc;
	struct uart *uart[UARTS];
	struct kvmclock *clock;
	struct debug_console *console;
	struct debug_exit *exit;
	struct reset_control *reset;
	struct pvpanic *pvpanic;
	struct testdev *testdev;
	uint8_t init;     /* vCPUs that are to do an INIT, a bit each */
	size_t host_room; /* what serial lines take at a time */
};

static void gsi_set(void *opaque, unsigned gsi, int level)
{
	struct machine *m = opaque;

	if (gsi < 16)
		pic_set_irq(m->pic, gsi == GSI_TIMER ? 0 : gsi, level);
	ioapic_set_irq(m->ioapic, gsi, level);
}

static void pic_intr(void *opaque, int level)
{
	struct machine *m = opaque;

	for (unsigned i = 0; i < CPUS; i++)
		if (m->lapic[i])
			lapic_set_lint(m->lapic[i], 0, level);
}

static void ioapic_deliver(void *opaque, const struct lapic_message *message)
{
	lapic_bus_deliver(&((struct machine *)opaque)->lapics, message, NULL);
}

static void on_kick(void *opaque, unsigned i) { (void)opaque, (void)i; }
static void on_init(void *opaque, unsigned i) { ((struct machine *)opaque)->init |= (uint8_t)(1u << i); }
static void on_startup(void *opaque, unsigned i, uint8_t vector) { (void)opaque, (void)i, (void)vector; }
static void on_eoi(void *opaque, unsigned i, uint8_t vector) { (void)i, ioapic_eoi(((struct machine *)opaque)->ioapic, vector); }
static uint64_t on_tsc(void *opaque, unsigned i) { return (void)i, timer_queue_now(((struct machine *)opaque)->timers) * 2; }
static uint64_t tsc_now(void *opaque) { return on_tsc(opaque, 0); }
static bool on_pv_kick(void *opaque, uint32_t id) { return (void)opaque, id < CPUS; }
static uint64_t realtime(void *opaque) { return 1700000000000000000ull + timer_queue_now(((struct machine *)opaque)->timers); }
static size_t uart_output(void *opaque, const uint8_t *data, size_t len)
{
	size_t room = ((struct machine *)opaque)->host_room;

	(void)data;
	return len < room ? len : room;
}
static void on_exit_port(void *opaque, uint32_t status) { (void)opaque, (void)status; }
static void on_output(void *opaque, const uint8_t *data, size_t len) { (void)opaque, (void)data, (void)len; }
static void on_reset(void *opaque) { (void)opaque; }
static void on_panic(void *opaque, uint8_t event) { (void)opaque, (void)event; }

static const struct lapic_ops lapic_ops = {
	.kick = on_kick, .nmi = on_kick, .init = on_init, .startup = on_startup, .eoi = on_eoi, .tsc = on_tsc,
};
static const struct kvmclock_ops clock_ops = {.tsc = tsc_now, .kick = on_pv_kick, .realtime = realtime};
static const struct uart_ops uart_ops = {.output = uart_output};
static const uint16_t uart_port[UARTS] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};

static void build(struct machine *m, bool x2apic)
{
	static const unsigned uart_gsi[UARTS] = {4, 3, 4, 3};
	struct irq_line line = {.set = gsi_set, .opaque = m};

	if (memory_init(&m->memory, RAM_SIZE) < 0 || !(m->timers = timer_queue_new_manual(1000)) ||
	    !(m->pic = pic_new(&m->pio, pic_intr, m)) || !(m->ioapic = ioapic_new(&m->mmio, 0, ioapic_deliver, m)))
		abort();
	for (unsigned i = 0; i < CPUS; i++) {
		struct lapic_config c = {
			.index = i, .bus = &m->lapics, .timers = m->timers, .ops = &lapic_ops, .opaque = m,
			.tsc_khz = 2000000, .phys_bits = 46, .x2apic = x2apic, .memory = &m->memory,
		};

		if (!(m->lapic[i] = lapic_new(&c)))
			abort();
	}
	for (unsigned i = 0; i < UARTS; i++) {
		line.number = uart_gsi[i];
		if (!(m->uart[i] = uart_new(&m->pio, m->timers, uart_port[i], line, &uart_ops, m)))
			abort();
	}
	line.number = GSI_TIMER;
	m->pit = pit_new(&m->pio, m->timers, line);
	line.number = 8;
	m->rtc = rtc_new(&m->pio, m->timers, line,
			 &(struct rtc_config){.memory_low = RAM_SIZE, .realtime = realtime, .opaque = m});
	m->clock = kvmclock_new(&m->memory, m->timers, CPUS, 2000000, &clock_ops, m);
	m->console = debug_console_new(&m->pio, DEBUG_CONSOLE_PORT, on_output, m);
	m->exit = debug_exit_new(&m->pio, DEBUG_EXIT_PORT, on_exit_port, m);
	m->reset = reset_new(&m->pio, on_reset, m);
	m->pvpanic = pvpanic_new(&m->pio, on_panic, m);
	line.number = 0;
	m->testdev = testdev_new(&m->pio, &m->mmio, line);
	if (!m->pit || !m->rtc || !m->clock || !m->console || !m->exit || !m->reset || !m->pvpanic || !m->testdev)
		abort();
}

static void tear_down(struct machine *m)
{
	testdev_free(m->testdev);
	pvpanic_free(m->pvpanic);
	reset_free(m->reset);
	debug_exit_free(m->exit);
	debug_console_free(m->console);
	kvmclock_free(m->clock);
	rtc_free(m->rtc);
	pit_free(m->pit);
	for (unsigned i = 0; i < UARTS; i++)
		uart_free(m->uart[i]);
	for (unsigned i = 0; i < CPUS; i++)
		lapic_free(m->lapic[i]);
	ioapic_free(m->ioapic);
	pic_free(m->pic);
	timer_queue_free(m->timers);
	memory_free(&m->memory);
}

static void port(struct machine *m, struct fuzz_input *in)
{
	static const uint16_t first[] = {0x20, 0xa0, 0x4d0, 0x40, 0x60, 0x70, 0x92, 0xe0, 0xf4, 0xcf8, PVPANIC_PORT - 1,
					 0x3f8, 0x2f8, 0x3e8, 0x2e8, 0x2000};
	unsigned what = (unsigned)fuzz_take(in, 2), size = 1u << (what >> 8 & 3) % 3;
	uint64_t address = first[what & 15] + (what >> 4 & 7), value;

	if (what & 0x8000)
		bus_read(&m->pio, address, size, &value);
	else
		bus_write(&m->pio, address, size, fuzz_take(in, size));
}

static void memory_access(struct machine *m, struct fuzz_input *in)
{
	unsigned what = (unsigned)fuzz_take(in, 1), size = 1u << (what & 3);
	uint64_t offset = fuzz_take(in, 2) & 0xfff, value;
	struct lapic *l = m->lapic[what >> 2 & 1];
	uint64_t local = (lapic_get_base(l) & ~0xfffull) + offset;
	bool is_local = what & 0x10;

	if (is_local && !lapic_claims(l, local, size))
		return;
	if (what & 0x80 && is_local)
		lapic_read(l, (unsigned)offset, size);
	else if (is_local)
		lapic_write(l, (unsigned)offset, fuzz_take(in, size), size);
	else if (what & 0x80)
		bus_read(&m->mmio, IOAPIC_BASE + offset % 0x40, size, &value);
	else
		bus_write(&m->mmio, IOAPIC_BASE + offset % 0x40, size, fuzz_take(in, size));
}

/* One redirection entry, or the message register of a local APIC, whole: what takes two accesses. */
static void message(struct machine *m, struct fuzz_input *in)
{
	unsigned what = (unsigned)fuzz_take(in, 1);
	uint64_t value = fuzz_take(in, 8);

	if (what & 1) {
		for (unsigned half = 0; half < 2; half++) {
			bus_write(&m->mmio, IOAPIC_BASE, 4, 0x10 + (what >> 1) % 48 + half);
			bus_write(&m->mmio, IOAPIC_BASE + 0x10, 4, value >> half * 32);
		}
	} else if (what & 2) {
		lapic_bus_deliver_msi(&m->lapics, LAPIC_DEFAULT_BASE + (value & 0xfffff), (uint32_t)(value >> 32));
	} else {
		struct lapic *l = m->lapic[what >> 2 & 1];

		lapic_write(l, 0x310, value >> 32, 4);
		lapic_write(l, 0x300, (uint32_t)value, 4);
	}
}

static void msr(struct machine *m, struct fuzz_input *in)
{
	static const uint32_t clock_msr[] = {0x11, 0x12, 0x4b564d00, 0x4b564d01};
	unsigned what = (unsigned)fuzz_take(in, 1), cpu = what & 1;
	uint64_t value = fuzz_take(in, 8), arg[4] = {value, what >> 4, value >> 32, 0};

	switch (what >> 1 & 7) {
	case 0:
		lapic_msr_write(m->lapic[cpu], 0x6e0, value);
		break;
	case 1:
		lapic_set_base(m->lapic[cpu], value);
		break;
	case 2:
		lapic_set_base(m->lapic[cpu], LAPIC_DEFAULT_BASE | (value & 3) << 10);
		break;
	case 3:
		kvmclock_msr_write(m->clock, cpu, clock_msr[what >> 4 & 3], value & (what & 0x80 ? UINT64_MAX : 0x1fffff), value);
		break;
	case 4:
		kvmclock_hypercall(m->clock, cpu, value % 16, arg);
		break;
	case 5:
		lapic_set_pv_eoi(m->lapic[cpu], value & (what & 0x80 ? UINT64_MAX : 0xfffff));
		break;
	case 6:
		lapic_msr_read(m->lapic[cpu], 0x800 + (value & 0xff), &value);
		break;
	default:
		lapic_msr_write(m->lapic[cpu], 0x800 + (what >> 4 | (value >> 60 & 7) << 4), value & 0x0fffffffffffffff);
	}
}

/* The processor looks for interrupts, as the one loop does. */
static void processor(struct machine *m, unsigned cpu)
{
	struct lapic *l = m->lapic[cpu];

	if (m->init >> cpu & 1) {
		m->init &= (uint8_t)~(1u << cpu);
		lapic_reset(l, true);
		kvmclock_vcpu_reset(m->clock, cpu);
	}
	lapic_pv_eoi(l);
	int vector = lapic_pending_vector(l);
	if (vector >= 0) {
		if (vector < 16 || vector > 255 || lapic_ack(l) != vector)
			abort();
	} else if (lapic_extint_pending(l)) {
		pic_ack(m->pic);
	}
}

static void host(struct machine *m, struct fuzz_input *in)
{
	static const uint8_t text[] = "0123456789abcdefghijklmnopqrstuv";
	unsigned what = (unsigned)fuzz_take(in, 1);
	struct uart *u = m->uart[what & 3];

	switch (what >> 2 & 7) {
	case 0:
		if (uart_receive(u, text, what >> 5) > what >> 5)
			abort();
		break;
	case 1:
		uart_receive_break(u);
		break;
	case 2:
		m->host_room = what >> 5;
		uart_output_ready(u);
		break;
	case 3:
		gsi_set(m, what >> 5, (int)fuzz_take(in, 1) & 1);
		break;
	case 4:
		uart_reset(u);
		pit_reset(m->pit);
		rtc_reset(m->rtc);
		break;
	case 5:
		pic_reset(m->pic);
		ioapic_reset(m->ioapic);
		kvmclock_reset(m->clock);
		break;
	default:
		timer_queue_set_now(m->timers, timer_queue_now(m->timers) + (1ull << (fuzz_take(in, 1) % 46)));
		timer_queue_run(m->timers);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine *m = calloc(1, sizeof *m);
	struct fuzz_input in = {data, size};

	if (!m)
		abort();
	build(m, fuzz_take(&in, 1) & 1);
	while (in.size) {
		unsigned what = (unsigned)fuzz_take(&in, 1);

		switch (what % 8) {
		case 0:
			memory_access(m, &in);
			break;
		case 1:
			message(m, &in);
			break;
		case 2:
			msr(m, &in);
			break;
		case 3:
		case 4:
			host(m, &in);
			break;
		default:
			port(m, &in);
		}
		processor(m, what >> 7);
	}
	tear_down(m);
	free(m);
	return 0;
}
