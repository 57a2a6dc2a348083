/*
 * Assembles a PC: interrupt controllers, timers, ports and tables, as ordered calls.
 *
 * Thread: the one that builds the VM; the callbacks below run later on any thread, under vm->lock.
 */
#include "machine/pc.h"

#include <errno.h>
#include <stdlib.h>

#include "boot/acpi.h"
#include "control/qmp.h"
#include "dev/debug.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/kvmclock.h"
#include "dev/pit.h"
#include "dev/pm.h"
#include "dev/pvpanic.h"
#include "dev/reset.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "irq/ioapic.h"
#include "irq/pic.h"
#include "machine/apics.h"
#include "machine/console.h"
#include "machine/devices.h"
#include "machine/serial.h"
#include "machine/vm.h"
#include "ui/chardev.h"

/* Interrupt lines of a PC, by GSI: the I/O APIC's pin. All but the timer's are ISA's number too. */
enum { GSI_TIMER = 2, GSI_KEYBOARD = 1, GSI_COM2 = 3, GSI_COM1 = 4, GSI_RTC = 8, GSI_AUX = 12 };
enum { ISA_IRQ_TIMER = 0, ISA_IRQS = 16 };

/* What firmware leaves in the first local APIC: enabled, the 8259's INTR on LINT0, NMI on LINT1. */
enum { APIC_SVR = 0xf0, APIC_LVT_LINT0 = 0x350, APIC_LVT_LINT1 = 0x360 };
enum { SVR_ENABLED_SPURIOUS_FF = 0x1ff, LVT_EXTINT = 0x700, LVT_NMI = 0x400 };

/* ---- interrupt lines ---- */

static void gsi_update(struct pc *pc, unsigned gsi)
{
	uint32_t isa = pc->hpet_legacy ? pc->isa_levels & ~(1u << GSI_TIMER | 1u << GSI_RTC) : pc->isa_levels;
	int level = (isa | pc->pci_levels | pc->hpet_levels) >> gsi & 1;

	if (gsi < ISA_IRQS)
		pic_set_irq(pc->pic, gsi == GSI_TIMER ? ISA_IRQ_TIMER : gsi, level);
	ioapic_set_irq(pc->ioapic, gsi, level);
}

static void set_level(uint32_t *levels, unsigned gsi, int level)
{
	*levels = level ? *levels | 1u << gsi : *levels & ~(1u << gsi);
}

static void gsi_set(void *opaque, unsigned gsi, int level)
{
	struct pc *pc = opaque;

	if (gsi >= IOAPIC_PINS)
		return;
	set_level(&pc->isa_levels, gsi, level);
	gsi_update(pc, gsi);
}

void pc_set_pci_gsi(void *opaque, unsigned gsi, int level)
{
	struct pc *pc = opaque;

	set_level(&pc->pci_levels, gsi, level);
	gsi_update(pc, gsi);
}

static void hpet_gsi_set(void *opaque, unsigned gsi, int level)
{
	struct pc *pc = opaque;

	set_level(&pc->hpet_levels, gsi, level);
	gsi_update(pc, gsi);
}

static void hpet_set_legacy(void *opaque, bool on)
{
	struct pc *pc = opaque;

	pc->hpet_legacy = on;
	gsi_update(pc, GSI_TIMER);
	gsi_update(pc, GSI_RTC);
}

static const struct hpet_ops hpet_ops = {.set_gsi = hpet_gsi_set, .legacy = hpet_set_legacy};

struct irq_line pc_gsi_line(struct pc *pc, unsigned gsi)
{
	return (struct irq_line){.set = gsi_set, .opaque = pc, .number = gsi};
}

static void pic_intr(void *opaque, int level)
{
	struct pc *pc = opaque;

	for (unsigned i = 0; i < pc->lapics.count; i++)
		if (pc->lapics.lapic[i])
			lapic_set_lint(pc->lapics.lapic[i], 0, level);
}

static void ioapic_deliver(void *opaque, const struct lapic_message *m)
{
	struct pc *pc = opaque;

	lapic_bus_deliver(&pc->lapics, m, NULL);
}

/* ---- what local APICs ask of the machine ---- */

static struct vcpu *vcpu_of(void *opaque, unsigned index)
{
	struct pc *pc = opaque;

	return pc->vm->vcpu[index];
}

static void apic_kick(void *opaque, unsigned index) { vcpu_kick(vcpu_of(opaque, index)); }

static void apic_nmi(void *opaque, unsigned index)
{
	struct vcpu *v = vcpu_of(opaque, index);

	v->nmi_pending = true;
	vcpu_kick(v);
}

static void apic_init(void *opaque, unsigned index)
{
	struct vcpu *v = vcpu_of(opaque, index);

	v->init_pending = true;
	v->sipi_vector = -1;
	vcpu_kick(v);
}

static void apic_startup(void *opaque, unsigned index, uint8_t vector)
{
	struct vcpu *v = vcpu_of(opaque, index);

	/* One that runs ignores it; INIT may still be on its way. */
	if (!v->wait_sipi && !v->init_pending)
		return;
	v->sipi_vector = vector;
	vcpu_kick(v);
}

static void apic_eoi(void *opaque, unsigned index, uint8_t vector)
{
	struct pc *pc = opaque;

	(void)index;
	ioapic_eoi(pc->ioapic, vector);
}

static uint64_t apic_tsc(void *opaque, unsigned index) { return cpu_tsc(&vcpu_of(opaque, index)->cpu); }

static const struct lapic_ops apic_ops = {
	.kick = apic_kick,
	.nmi = apic_nmi,
	.init = apic_init,
	.startup = apic_startup,
	.eoi = apic_eoi,
	.tsc = apic_tsc,
};

/* ---- ends of the VM ---- */

static void ask_power_off(void *opaque) { vm_stop(((struct pc *)opaque)->vm, VM_POWER_OFF); }
static void ask_reset(void *opaque) { vm_stop(((struct pc *)opaque)->vm, VM_RESET); }

static void ask_debug_exit(void *opaque, uint32_t status)
{
	struct pc *pc = opaque;

	if (pc->vm->end == VM_RUNNING)
		pc->vm->debug_exit_code = (int)status;
	vm_stop(pc->vm, VM_DEBUG_EXIT);
}

/* It goes on as it likes: its kernel knows whether to reboot. */
static void panicked(void *opaque, uint8_t event)
{
	struct vm *vm = ((struct pc *)opaque)->vm;
	const char *name = event == PVPANIC_PANICKED ? "GUEST_PANICKED" : "GUEST_CRASHLOADED";

	if (vm->backends.qmp)
		qmp_event(vm->backends.qmp, name, "{\"action\": \"run\"}");
}

/* ---- debug console ---- */

static void debug_output(void *opaque, const uint8_t *data, size_t len)
{
	chardev_write_all(console_chardev(((struct pc *)opaque)->vm->console), data, len);
}

/* ---- paravirtual clock ---- */

static uint64_t host_tsc(void *opaque)
{
	(void)opaque;
	return __builtin_ia32_rdtsc();
}

static bool kick_cpu(void *opaque, uint32_t apic_id) { return pv_kick(((struct pc *)opaque)->vm, apic_id); }

static const struct kvmclock_ops kvmclock_ops = {.tsc = host_tsc, .kick = kick_cpu};

/* ---- assembly ---- */

static int new_lapics(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		const struct lapic_config config = {
			.index = i,
			.bus = &vm->pc->lapics,
			.memory = &vm->memory,
			.timers = vm->timers,
			.ops = &apic_ops,
			.opaque = vm->pc,
			.tsc_khz = vm->cpuid.tsc_khz,
			.phys_bits = vm->cpuid.phys_bits,
			.x2apic = vm->cpuid.has[FEATURE_X2APIC],
		};
		vm->vcpu[i]->lapic = lapic_new(&config);
		if (!vm->vcpu[i]->lapic)
			return -errno;
	}
	struct lapic *bsp = vm->vcpu[0]->lapic;
	lapic_write(bsp, APIC_SVR, SVR_ENABLED_SPURIOUS_FF, 4);
	lapic_write(bsp, APIC_LVT_LINT0, LVT_EXTINT, 4);
	lapic_write(bsp, APIC_LVT_LINT1, LVT_NMI, 4);
	return 0;
}

static int new_interrupt_controllers(struct vm *vm)
{
	struct pc *pc = vm->pc;

	if (!(pc->pic = pic_new(&vm->pio, pic_intr, pc)))
		return -errno;
	/* The I/O APIC's ID follows those of the processors. */
	if (!(pc->ioapic = ioapic_new(&vm->mmio, (uint8_t)vm->vcpu_count, ioapic_deliver, pc)))
		return -errno;
	ioapic_watch_routes(pc->ioapic, apics_routes);
	return 0;
}

static int new_devices(struct vm *vm)
{
	static const struct pm_ops pm_ops = {.power_off = ask_power_off};
	struct pc *pc = vm->pc;
	const struct rtc_config rtc = {.memory_low = vm->memory.low, .memory_high = vm->memory.size - vm->memory.low,
				       .battery = &vm->battery};

	if (!(pc->pit = pit_new(&vm->pio, vm->timers, pc_gsi_line(pc, GSI_TIMER))))
		return -errno;
	if (!(pc->rtc = rtc_new(&vm->pio, vm->timers, pc_gsi_line(pc, GSI_RTC), &rtc)))
		return -errno;
	if (!(pc->pm = pm_new(&vm->pio, vm->timers, pc_gsi_line(pc, PM_SCI_GSI),
			      chipset_pm_layout(vm->config.machine), &pm_ops, pc)))
		return -errno;
	if (!(pc->pvpanic = pvpanic_new(&vm->pio, panicked, pc)))
		return -errno;
	if (!vm->config.no_hpet && !(pc->hpet = hpet_new(&vm->mmio, vm->timers, &hpet_ops, pc)))
		return -errno;
	if (!(pc->serial = serial_new(vm, pc_gsi_line(pc, GSI_COM1), pc_gsi_line(pc, GSI_COM2))))
		return -errno;
	if (!(pc->i8042 = i8042_new(&vm->pio, pc_gsi_line(pc, GSI_KEYBOARD), pc_gsi_line(pc, GSI_AUX), ask_reset, pc)))
		return -errno;
	i8042_attach(pc->i8042, vm->backends.screen.input, vm->backends.screen.display);
	if (!(pc->reset = reset_new(&vm->pio, ask_reset, pc)))
		return -errno;
	pc->kvmclock = kvmclock_new(&vm->memory, vm->timers, vm->vcpu_count, vm->cpuid.tsc_khz, &kvmclock_ops, pc);
	return pc->kvmclock ? 0 : -errno;
}

/* Devices for test kernels. */
static int new_test_devices(struct vm *vm)
{
	struct pc *pc = vm->pc;
	int port = vm->config.debug_exit_port;

	if (!(pc->debug_console = debug_console_new(&vm->pio, DEBUG_CONSOLE_PORT, debug_output, pc)))
		return -errno;
	if (port >= 0 && !(pc->debug_exit = debug_exit_new(&vm->pio, (uint16_t)port, ask_debug_exit, pc)))
		return -errno;
	if (vm->config.testdev && !(pc->testdev = testdev_new(&vm->pio, &vm->mmio, pc_gsi_line(pc, 0))))
		return -errno;
	return 0;
}

struct acpi_config pc_acpi_config(struct vm *vm)
{
	struct acpi_config c = {
		.cpus = vm->vcpu_count,
		.lapic_base = LAPIC_DEFAULT_BASE,
		.ioapic_base = IOAPIC_BASE,
		.ioapic_id = (uint8_t)vm->vcpu_count,
		.screen = vm->backends.screen.display != NULL,
		.hpet = vm->pc->hpet != NULL,
		.pvpanic = vm->pc->pvpanic != NULL,
	};

	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		c.serial |= (unsigned)(serial_uart(vm->pc->serial, i) != NULL) << i;
	chipset_describe(vm, &c);
	return c;
}

static int write_tables(struct vm *vm)
{
	const struct acpi_config acpi = pc_acpi_config(vm);

	return acpi_build(&vm->memory, ACPI_BASE, ACPI_SIZE, &acpi, &vm->pc->rsdp);
}

int pc_new(struct vm *vm)
{
	struct pc *pc = calloc(1, sizeof *pc);
	int r;

	if (!pc)
		return -ENOMEM;
	pc->vm = vm;
	vm->pc = pc;
	if ((r = new_lapics(vm)) < 0 || (r = new_interrupt_controllers(vm)) < 0 || (r = new_devices(vm)) < 0 ||
	    (r = chipset_new(vm)) < 0 || (r = new_test_devices(vm)) < 0 || (r = devices_new(vm)) < 0)
		return r;
	if (!vm->config.kernel)
		return 0;
	chipset_set_up(vm);
	return write_tables(vm);
}

void pc_free(struct vm *vm)
{
	struct pc *pc = vm->pc;

	if (!pc)
		return;
	devices_free(vm);
	chipset_free(vm);
	if (pc->testdev)
		testdev_free(pc->testdev);
	if (pc->debug_exit)
		debug_exit_free(pc->debug_exit);
	if (pc->debug_console)
		debug_console_free(pc->debug_console);
	if (pc->kvmclock)
		kvmclock_free(pc->kvmclock);
	if (pc->reset)
		reset_free(pc->reset);
	if (pc->i8042)
		i8042_free(pc->i8042);
	if (pc->serial)
		serial_free(pc->serial);
	hpet_free(pc->hpet);
	pvpanic_free(pc->pvpanic);
	if (pc->pm)
		pm_free(pc->pm);
	if (pc->rtc) {
		rtc_keep(pc->rtc, &vm->battery);
		rtc_free(pc->rtc);
	}
	if (pc->pit)
		pit_free(pc->pit);
	if (pc->ioapic)
		ioapic_free(pc->ioapic);
	if (pc->pic)
		pic_free(pc->pic);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->lapic)
			lapic_free(vm->vcpu[i]->lapic);
	free(pc);
	vm->pc = NULL;
}
