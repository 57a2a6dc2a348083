/*
 * The bridges of both chip sets: how interrupts are routed, where the ACPI registers lie, ECAM, chip configuration
 * registers; and what a kernel without firmware finds assigned.
 */
#include "dev/pm.h"
#include "dev_fixture.h"
#include "pci/assign.h"
#include "pci/i440fx.h"
#include "pci/ich9.h"
#include "pci/mch.h"
#include "pci/piix.h"

#define RAM_SIZE (32ull << 20)

static struct memory memory;
static struct pci_bus *bus;
static struct pam pam;
static struct pm *pm;
static struct piix piix;
static struct i440fx i440fx;
static struct mch mch;
static struct ich9 ich9;
static uint32_t gsis;
static bool q35;

static void set_gsi(void *opaque, unsigned gsi, int level)
{
	(void)opaque;
	CHECK((gsis >> gsi & 1) != (unsigned)level);
	gsis = level ? gsis | 1u << gsi : gsis & ~(1u << gsi);
}

static void set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	(void)opaque;
	if (q35)
		ich9_set_intx(&ich9, slot, pin, level);
	else
		piix_set_intx(&piix, slot, pin, level);
}

static void power_off(void *opaque) { (void)opaque; }

static void start(bool with_q35)
{
	static const struct pm_ops pm_ops = {.power_off = power_off};

	fixture_start();
	q35 = with_q35;
	gsis = 0;
	const struct pci_bus_config c = {.memory = &memory, .pio = &pio, .mmio = &mmio, .set_intx = set_intx, .express = q35};
	memory_init(&memory, RAM_SIZE);
	bus = pci_bus_new(&c);
	pam_init(&pam, &memory, &mmio);
	pm = pm_new(&pio, queue, test_line(9), q35 ? &pm_ich9 : &pm_piix4, &pm_ops, NULL);
	if (q35) {
		CHECK_EQ(mch_init(&mch, bus, &mmio, &pam), 0);
		CHECK_EQ(ich9_init(&ich9, bus, &mmio, pm, set_gsi, NULL), 0);
	} else {
		CHECK_EQ(i440fx_init(&i440fx, bus, &pam), 0);
		CHECK_EQ(piix_init(&piix, bus, &pio, pm, set_gsi, NULL), 0);
	}
}

static void stop(void)
{
	if (q35) {
		ich9_free(&ich9);
		mch_free(&mch);
	} else {
		piix_free(&piix);
		i440fx_free(&i440fx);
	}
	pm_free(pm);
	pci_bus_free(bus);
	memory_free(&memory);
	fixture_stop();
}

static uint32_t get(unsigned slot, unsigned function, unsigned offset, unsigned size)
{
	return pci_config_read(bus, 0, PCI_DEVFN(slot, function), offset, size);
}

static void set(unsigned slot, unsigned function, unsigned offset, unsigned size, uint32_t value)
{
	pci_config_write(bus, 0, PCI_DEVFN(slot, function), offset, value, size);
}

static const struct pci_info nic = {.name = "nic", .vendor = 0x8086, .device = 0x100e, .class_code = 0x020000,
				    .interrupt_pin = 1};

static void piix_interrupts(void)
{
	struct pci_device a, b, c;

	start(false);
	CHECK_EQ(get(0, 0, 0, 4), 0x12378086);
	CHECK_EQ(get(1, 0, 0, 4), 0x70008086);
	CHECK_EQ(get(1, 0, 8, 4), 0x06010000);
	CHECK_EQ(get(1, 0, 0x0e, 1), 0x80);
	CHECK_EQ(get(1, 3, 0, 4), 0x71138086);
	CHECK_EQ(get(1, 0, 0x60, 4), 0x80808080); /* not routed */
	pci_device_init(&a, bus, PCI_DEVFN(3, 0), &nic, NULL, NULL); /* PIRQC */
	pci_device_init(&b, bus, PCI_DEVFN(7, 0), &nic, NULL, NULL); /* PIRQC */
	pci_device_init(&c, bus, PCI_DEVFN(4, 0), &nic, NULL, NULL); /* PIRQD */
	pci_set_intx(&a, 1);
	CHECK_EQ(gsis, 0);
	set(1, 0, 0x62, 1, 5);
	CHECK_EQ(gsis, 1 << 5);
	set(1, 0, 0x62, 1, 8); /* the RTC's: not to be had */
	CHECK_EQ(gsis, 0);
	set(1, 0, 0x62, 1, 0x7b);
	CHECK_EQ(get(1, 0, 0x62, 1), 0x0b);
	CHECK_EQ(gsis, 1 << 11);
	pci_set_intx(&b, 1);
	pci_set_intx(&a, 0);
	CHECK_EQ(gsis, 1 << 11); /* shared */
	set(1, 0, 0x63, 1, 11);
	pci_set_intx(&c, 1);
	pci_set_intx(&b, 0);
	CHECK_EQ(gsis, 1 << 11); /* two PIRQs on one interrupt */
	set(1, 0, 0x63, 1, 0x80);
	CHECK_EQ(gsis, 0);
	pci_device_free(&c);
	pci_device_free(&b);
	pci_device_free(&a);
	/* By firmware's routes */
	piix_set_up(&piix);
	CHECK_EQ(get(1, 0, 0x60, 4), 0x0b0b0a0a);
	for (unsigned slot = 2; slot < 32; slot++) {
		pci_device_init(&a, bus, (int)PCI_DEVFN(slot, 0), &nic, NULL, NULL);
		pci_set_intx(&a, 1);
		CHECK_EQ(gsis, 1u << piix_irq(slot, 0));
		pci_device_free(&a);
		CHECK_EQ(gsis, 0);
	}
	stop();
}

static void piix_power(void)
{
	start(false);
	CHECK_EQ(pio.count, 0);
	CHECK_EQ(get(1, 3, 0x40, 4), 1);
	CHECK_EQ(get(1, 3, 0x58, 4) >> 25 & 1, 1); /* SMM has been seen to */
	set(1, 3, 0x40, 4, 0xb039);
	CHECK_EQ(get(1, 3, 0x40, 4), 0xb001);
	CHECK_EQ(pm_base(pm), 0);
	set(1, 3, 0x80, 1, 0xff);
	CHECK_EQ(get(1, 3, 0x80, 1), 1);
	CHECK_EQ(pm_base(pm), 0xb000);
	CHECK_EQ(in(0xb004, 2), 1);
	piix_set_up(&piix);
	CHECK_EQ(pm_base(pm), PM_BASE);
	CHECK_EQ(get(1, 3, 0x3c, 1), 9);
	set(1, 3, 0x80, 1, 0);
	CHECK_EQ(pm_base(pm), 0);
	CHECK_EQ(pio.count, 1); /* the SMBus's */
	/* The host bridge's registers for firmware */
	set(0, 0, 0x72, 1, 0x1a);
	CHECK_EQ(get(0, 0, 0x72, 1), 0x1a);
	set(0, 0, 0x72, 1, 0x02); /* locked */
	CHECK_EQ(get(0, 0, 0x72, 1), 0x1a);
	stop();
}

/* Nobody is on the bus: each transaction ends with "device error". */
static void piix_smbus(void)
{
	start(false);
	CHECK_EQ(get(1, 3, 0x90, 4), 1);
	set(1, 3, 0x90, 4, 0x70f);
	CHECK_EQ(get(1, 3, 0x90, 4), 0x701);
	CHECK_EQ(pio.count, 0); /* I/O is not decoded yet */
	set(1, 3, 4, 2, 1);
	CHECK_EQ(pio.count, 1);
	out(0x704, 1, 0xa1);
	CHECK_EQ(in(0x704, 1), 0xa1);
	out(0x702, 1, 0x44);
	CHECK_EQ(in(0x702, 1), 4);
	CHECK_EQ(in(0x700, 1), 0); /* the host interface is off */
	set(1, 3, 0xd2, 1, 0xf9);
	CHECK_EQ(get(1, 3, 0xd2, 1), 9);
	out(0x702, 1, 0x49);
	CHECK_EQ(in(0x700, 1), 4);
	CHECK_EQ(gsis, 1 << 9);
	out(0x700, 1, 0x1b);
	CHECK_EQ(in(0x700, 1), 4);
	out(0x700, 1, 4);
	CHECK_EQ(in(0x700, 1), 0);
	CHECK_EQ(gsis, 0);
	for (unsigned i = 0; i < 32; i++)
		out(0x707, 1, i);
	in(0x702, 1); /* to its begin */
	for (unsigned i = 0; i < 33; i++)
		CHECK_EQ(in(0x707, 1), i % 32);
	set(1, 3, 4, 2, 0);
	CHECK_EQ(pio.count, 0);
	piix_set_up(&piix);
	CHECK_EQ(in(0x700, 4), 0x90000); /* cut into bytes */
	stop();
}

static void ich9_smbus(void)
{
	start(true);
	CHECK_EQ(get(31, 3, 0, 4), 0x29308086);
	CHECK_EQ(get(31, 3, 8, 4), 0x0c050002);
	set(31, 3, 0x20, 4, 0x0700);
	set(31, 3, 0x10, 4, 0xfe000000);
	set(31, 3, 4, 2, 3);
	CHECK_EQ(in(0x70e, 2), 0x0707); /* idle pins */
	CHECK_EQ(in(0x700, 1), 0);
	CHECK_EQ(in(0x700, 1), 0x40); /* somebody has asked: in use */
	CHECK_EQ(mmio_in(0xfe000000, 1), 0x40);
	out(0x700, 1, 0x40);
	out(0x702, 1, 0x40);
	CHECK_EQ(in(0x700, 1), 0);
	set(31, 3, 0x40, 1, 0xf1);
	CHECK_EQ(get(31, 3, 0x40, 1), 1);
	mmio_out(0xfe000002, 1, 0x69);
	CHECK_EQ(mmio_in(0xfe000002, 1), 9);
	CHECK_EQ(mmio_in(0xfe000020, 4), 0);
	CHECK_EQ(gsis, 1u << ich9_gsi(31, 1));
	set(31, 3, 0x40, 1, 3); /* an SMI instead */
	CHECK_EQ(gsis, 0);
	set(31, 3, 0x40, 1, 1);
	CHECK_EQ(in(0x700, 1) & ~0x40u, 4);
	out(0x700, 1, 4);
	CHECK_EQ(gsis, 0);
	out(0x702, 1, 0x49);
	set(31, 3, 0x40, 1, 9); /* reset */
	CHECK_EQ(get(31, 3, 0x40, 1), 1);
	CHECK_EQ(in(0x700, 4), 0);
	CHECK_EQ(gsis, 0);
	stop();
}

static void ich9_interrupts(void)
{
	struct pci_device a, b;

	start(true);
	CHECK_EQ(get(0, 0, 0, 4), 0x29c08086);
	CHECK_EQ(get(31, 0, 0, 4), 0x29188086);
	CHECK_EQ(get(31, 0, 0x60, 4), 0x80808080);
	CHECK_EQ(get(31, 0, 0x68, 4), 0x80808080);
	pci_device_init(&a, bus, PCI_DEVFN(3, 0), &nic, NULL, NULL); /* PIRQH */
	pci_device_init(&b, bus, PCI_DEVFN(31, 2), &nic, NULL, NULL); /* PIRQA */
	pci_set_intx(&a, 1);
	CHECK_EQ(gsis, 1 << 23); /* the I/O APIC's, always */
	set(31, 0, 0x6b, 1, 10);
	CHECK_EQ(gsis, 1 << 23 | 1 << 10);
	pci_set_intx(&b, 1);
	set(31, 0, 0x60, 1, 10);
	CHECK_EQ(gsis, 1 << 23 | 1 << 16 | 1 << 10);
	/* Slot 31's pins are routed by the chip configuration registers. */
	set(31, 0, 0xf0, 4, 0xfed1c001);
	CHECK_EQ(mmio_in(0xfed1c000 + 0x3140, 2), 0x3210);
	mmio_out(0xfed1c000 + 0x3140, 2, 0xfffd);
	CHECK_EQ(mmio_in(0xfed1c000 + 0x3140, 4), 0x32107775);
	CHECK_EQ(gsis, 1 << 23 | 1 << 21 | 1 << 10);
	CHECK_EQ(mmio_in(0xfed1c000 + 0x3410, 4), 0x20); /* no watchdog */
	set(31, 0, 0xf0, 4, 0);
	CHECK_EQ(mmio_in(0xfed1c000 + 0x3410, 4), 0xffffffff);
	pci_device_free(&b);
	pci_device_free(&a);
	CHECK_EQ(gsis, 0);
	stop();
	start(true);
	ich9_set_up(&ich9);
	CHECK_EQ(pm_base(pm), PM_BASE);
	for (unsigned slot = 1; slot < 32; slot++) {
		pci_device_init(&a, bus, (int)PCI_DEVFN(slot, 1), &nic, NULL, NULL);
		pci_set_intx(&a, 1);
		CHECK_EQ(gsis, 1u << ich9_irq(slot, 0) | 1u << ich9_gsi(slot, 0));
		pci_device_free(&a);
	}
	set(31, 0, 0x44, 1, 0); /* ACPI_CNTL */
	CHECK_EQ(pm_base(pm), 0);
	stop();
}

static void ecam(void)
{
	start(true);
	CHECK_EQ(mmio_in(0xe0000000, 4), 0xffffffff);
	set(0, 0, 0x60, 4, 0xe0000001);
	CHECK_EQ(mmio_in(0xe0000000, 4), 0x29c08086);
	CHECK_EQ(mmio_in(0xe00f8000, 8), 0x0200000729188086);
	CHECK_EQ(mmio_in(0xe00f8002, 2), 0x2918);
	CHECK_EQ(mmio_in(0xe0100000, 4), 0xffffffff); /* bus 1 */
	CHECK_EQ(mmio_in(0xe0000100, 4), 0);          /* no extended capability */
	mmio_out(0xe00f8080, 4, 0x12345678);
	CHECK_EQ(get(31, 0, 0x80, 4), 0x12345678);
	/* It moves itself: to above 4 GiB, with 64 MiB. */
	mmio_out(0xe0000064, 4, 0x8);
	CHECK_EQ(mmio_in(0xe0000000, 4), 0xffffffff);
	CHECK_EQ(mmio_in(0x8e0000000, 4), 0x29c08086);
	mmio_out(0x8e0000060, 4, 0xe4000005);
	CHECK_EQ(mmio_in(0x8e4000000, 4), 0x29c08086);
	CHECK_EQ(mmio_in(0x8e8000000, 4), 0xffffffff);
	set(0, 0, 0x60, 4, 0xe4000007); /* a length that there is not */
	CHECK_EQ(mmio_in(0x8e4000000, 4), 0xffffffff);
	mch_set_up(&mch);
	stop();
}

static uint64_t one(void *dev, uint64_t offset, unsigned size)
{
	(void)dev;
	(void)offset;
	(void)size;
	return 1;
}

static int irq(void *opaque, unsigned slot, unsigned pin)
{
	(void)opaque;
	return (int)piix_irq(slot, pin);
}

static void assignment(void)
{
	static const struct bus_ops ops = {.read = one};
	static const struct pci_windows w = {.low_first = 0xfe000000, .low_last = 0xfebfffff, .high_first = 1ull << 32,
					     .high_last = (2ull << 32) - 1, .io_first = 0xff00, .io_last = 0xffff};
	struct pci_device a, b;

	start(false);
	pci_device_init(&a, bus, PCI_DEVFN(2, 0), &nic, NULL, NULL);
	pci_device_init(&b, bus, PCI_DEVFN(3, 0), &nic, NULL, NULL);
	pci_add_bar(&a, 0, PCI_BAR_MEMORY32, 0x1000, &ops, NULL);
	pci_add_bar(&a, 1, PCI_BAR_MEMORY32, 0x800000, &ops, NULL);
	pci_add_bar(&a, 2, PCI_BAR_IO, 0x80, &ops, NULL);
	pci_add_bar(&b, 0, PCI_BAR_MEMORY64, 0x400000, &ops, NULL);
	pci_add_bar(&b, 2, PCI_BAR_MEMORY64_PREFETCH, 1ull << 30, &ops, NULL);
	pci_add_bar(&b, 4, PCI_BAR_IO, 0x100, &ops, NULL);
	pci_add_bar(&b, 5, PCI_BAR_MEMORY32, 0x10, &ops, NULL);
	pci_assign(bus, &w, irq, NULL);
	CHECK(a.bar[1].mapped && a.bar[1].address == 0xfe000000);
	CHECK(b.bar[0].mapped && b.bar[0].address == 0xfe800000);
	CHECK(!a.bar[0].mapped && !b.bar[5].mapped); /* full */
	CHECK(b.bar[2].mapped && b.bar[2].address == 1ull << 32);
	CHECK(b.bar[4].mapped && b.bar[4].address == 0xff00);
	CHECK(!a.bar[2].mapped);
	CHECK_EQ(get(2, 0, 4, 2), 3);
	CHECK_EQ(get(2, 0, 0x3c, 1), 10);
	CHECK_EQ(get(3, 0, 0x3c, 1), 11);
	CHECK_EQ(mmio_in(1ull << 32, 1), 1);
	pci_device_free(&b);
	pci_device_free(&a);
	stop();
}

/* Every register of every function written with what comes: nothing breaks, and what is wired stays. */
static void hostile(bool with_q35)
{
	struct pci_device a;

	start(with_q35);
	pci_device_init(&a, bus, PCI_DEVFN(29, 2), &nic, NULL, NULL);
	for (unsigned i = 0; i < 100000; i++) {
		static const unsigned at[] = {PCI_DEVFN(0, 0), PCI_DEVFN(1, 0), PCI_DEVFN(1, 3), PCI_DEVFN(31, 0)};
		unsigned size = 1u << random64() % 3, offset = random64() % 256 & ~(size - 1);

		if (random64() % 4)
			pci_config_write(bus, 0, at[random64() % 4], offset, (uint32_t)random64(), size);
		else
			pci_set_intx(&a, random64() % 2);
		if (i % 64 == 0)
			abuse(&pio, 0x600, 0x80, 1);
	}
	CHECK_EQ(get(0, 0, 0, 2), 0x8086);
	CHECK_EQ(get(q35 ? 31 : 1, 0, 0, 2), 0x8086);
	pci_device_free(&a);
	stop();
}

int main(void)
{
	piix_interrupts();
	piix_power();
	piix_smbus();
	ich9_smbus();
	ich9_interrupts();
	ecam();
	assignment();
	hostile(false);
	hostile(true);
	return summary();
}
