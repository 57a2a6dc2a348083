/*
 * PCI: configuration space, mapping of address registers, INTx, MSI, MSI-X, DMA, configuration ports.
 */
#include "pci/pci.h"

#include "dev_fixture.h"
#include "dev/reset.h"
#include "pci/host.h"

#define RAM_SIZE (32ull << 20)
#define HIGH 0xc0000000ull

enum { COMMAND = 4, STATUS = 6, BAR0 = 0x10, ROM = 0x30, POINTER = 0x34 };
enum { IO = 1, MEMORY = 2, MASTER = 4, NO_INTX = 0x400 };

static struct memory memory;
static struct pci_bus *bus;
static int pin_level[32][4];
static unsigned pin_changes, messages, config_reads, config_writes;
static uint64_t message_address;
static uint32_t message_data;

static void set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	(void)opaque;
	CHECK(pin_level[slot][pin] != level);
	pin_level[slot][pin] = level;
	pin_changes++;
}

static void msi(void *opaque, uint64_t address, uint32_t data)
{
	(void)opaque;
	messages++;
	message_address = address;
	message_data = data;
}

static uint64_t reg_read(void *dev, uint64_t offset, unsigned size)
{
	(void)size;
	return (uint64_t)(uintptr_t)dev + offset;
}

static uint64_t written_offset, written_value;

static void reg_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)dev;
	(void)size;
	written_offset = offset;
	written_value = value;
}

static const struct bus_ops regs = {.read = reg_read, .write = reg_write, .max_size = 4};

static void on_config_read(void *opaque, unsigned offset, unsigned size)
{
	(void)offset;
	(void)size;
	config_reads++;
	*(uint8_t *)opaque = 0x5a;
}

static void on_config_written(void *opaque, unsigned offset, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	config_writes++;
}

static const struct pci_info info = {.name = "test", .vendor = 0x1234, .device = 0x5678, .subsystem_vendor = 0x9abc,
				     .subsystem = 0xdef0, .class_code = 0x020000, .revision = 7, .interrupt_pin = 1};

static void start(bool express)
{
	const struct pci_bus_config c = {
		.memory = &memory, .pio = &pio, .mmio = &mmio, .set_intx = set_intx, .msi = msi, .express = express};

	fixture_start();
	memset(pin_level, 0, sizeof pin_level);
	pin_changes = messages = 0;
	bus = pci_bus_new(&c);
}

static void stop(void)
{
	CHECK_EQ(pio.count, 0);
	CHECK_EQ(mmio.count, 0);
	pci_bus_free(bus);
	fixture_stop();
}

static uint32_t get(const struct pci_device *d, unsigned offset, unsigned size)
{
	return pci_config_read(bus, 0, d->devfn, offset, size);
}

static void set(const struct pci_device *d, unsigned offset, unsigned size, uint32_t value)
{
	pci_config_write(bus, 0, d->devfn, offset, value, size);
}

static void header(void)
{
	static const struct pci_device_ops ops = {.config_read = on_config_read, .config_written = on_config_written};
	struct pci_device d, other;
	uint8_t seen = 0;

	start(false);
	CHECK_EQ(pci_device_init(&d, bus, PCI_DEVFN(3, 1), &info, &ops, &seen), 0);
	CHECK_EQ(pci_device_init(&other, bus, PCI_DEVFN(3, 1), &info, NULL, NULL), -EBUSY);
	CHECK(pci_bus_device(bus, PCI_DEVFN(3, 1)) == &d);
	CHECK_EQ(get(&d, 0, 4), 0x56781234);
	CHECK_EQ(config_reads, 1);
	CHECK_EQ(seen, 0x5a);
	CHECK_EQ(get(&d, 2, 1), 0x78);
	CHECK_EQ(get(&d, 8, 4), 0x02000007);
	CHECK_EQ(get(&d, 0x2c, 4), 0xdef09abc);
	CHECK_EQ(get(&d, 0x0e, 1), 0);
	CHECK_EQ(get(&d, 0x3c, 2), 0x0100);
	set(&d, 0, 4, 0); /* read-only */
	CHECK_EQ(get(&d, 0, 4), 0x56781234);
	CHECK_EQ(config_writes, 1);
	set(&d, COMMAND, 2, 0xffff);
	CHECK_EQ(get(&d, COMMAND, 2), 0x0547);
	set(&d, 0x3c, 2, 0x0b0b);
	CHECK_EQ(get(&d, 0x3c, 2), 0x010b);
	pci_put16(d.config + STATUS, 0xf900); /* errors: a one clears */
	set(&d, STATUS, 2, 0x4100);
	CHECK_EQ(get(&d, STATUS, 2), 0xb800);
	/* Nobody there */
	CHECK_EQ(pci_config_read(bus, 0, PCI_DEVFN(4, 0), 0, 4), 0xffffffff);
	CHECK_EQ(pci_config_read(bus, 1, d.devfn, 0, 2), 0xffff);
	CHECK_EQ(pci_config_read(bus, 0, d.devfn, 0x100, 1), 0xff);
	CHECK_EQ(pci_config_read(bus, 0, d.devfn, 0xfffffffc, 4), 0xffffffff);
	pci_config_write(bus, 0, d.devfn, 0xfffffffe, 0, 4);
	pci_config_write(bus, 0, 256, 0, 0, 4);
	/* Free slots: the first without any function */
	CHECK_EQ(pci_device_init(&other, bus, -1, &info, NULL, NULL), 0);
	CHECK_EQ(other.devfn, 0);
	pci_device_free(&other);
	struct pci_device all[32];
	for (unsigned i = 0; i < 31; i++)
		CHECK_EQ(pci_device_init(&all[i], bus, -1, &info, NULL, NULL), 0);
	CHECK_EQ(all[3].devfn, PCI_DEVFN(4, 0));
	CHECK_EQ(pci_device_init(&all[31], bus, -1, &info, NULL, NULL), -ENOSPC);
	pci_device_free(&all[31]); /* of one that is all zero */
	for (unsigned i = 0; i < 31; i++)
		pci_device_free(&all[i]);
	pci_device_free(&d);
	CHECK(pci_bus_device(bus, PCI_DEVFN(3, 1)) == NULL);
	stop();
	start(true);
	pci_device_init(&d, bus, 0, &info, NULL, NULL);
	CHECK_EQ(get(&d, 0x100, 4), 0); /* no extended capabilities */
	CHECK_EQ(get(&d, 0x1000, 4), 0xffffffff);
	pci_device_free(&d);
	stop();
}

static void mapping(void)
{
	struct pci_device d, e;

	start(false);
	pci_device_init(&d, bus, 8, &info, NULL, NULL);
	pci_device_init(&e, bus, 16, &info, NULL, NULL);
	pci_add_bar(&d, 0, PCI_BAR_IO, 0x20, &regs, (void *)0x100);
	pci_add_bar(&d, 1, PCI_BAR_MEMORY32, 0x1000, &regs, (void *)0x200);
	pci_add_bar(&d, 2, PCI_BAR_MEMORY64_PREFETCH, 1ull << 33, &regs, (void *)0x300);
	pci_add_bar(&e, 0, PCI_BAR_MEMORY32_PREFETCH, 0x2000, NULL, NULL);
	/* Sizes and kinds, as everybody asks for them */
	for (unsigned i = 0; i < 6; i++)
		set(&d, BAR0 + 4 * i, 4, 0xffffffff);
	CHECK_EQ(get(&d, BAR0, 4), 0xffffffe1);
	CHECK_EQ(get(&d, BAR0 + 4, 4), 0xfffff000);
	CHECK_EQ(get(&d, BAR0 + 8, 4), 0x0000000c);
	CHECK_EQ(get(&d, BAR0 + 12, 4), 0xfffffffe);
	CHECK_EQ(get(&d, BAR0 + 16, 4), 0);
	CHECK_EQ(get(&d, ROM, 4), 0);
	set(&e, BAR0, 4, 0xffffffff);
	CHECK_EQ(get(&e, BAR0, 4), 0xffffe008);
	/* Decoding must be on. */
	set(&d, BAR0, 4, 0xc000);
	set(&d, BAR0 + 4, 4, HIGH);
	CHECK_EQ(in(0xc004, 4), 0xffffffff);
	set(&d, COMMAND, 2, IO);
	CHECK_EQ(in(0xc004, 4), 0x104);
	CHECK_EQ(mmio_in(HIGH, 4), 0xffffffff);
	set(&d, COMMAND, 2, MEMORY);
	CHECK_EQ(in(0xc004, 4), 0xffffffff);
	CHECK_EQ(mmio_in(HIGH + 8, 4), 0x208);
	mmio_out(HIGH + 12, 4, 77);
	CHECK_EQ(written_offset, 12);
	CHECK_EQ(written_value, 77);
	/* It moves, a byte at a time too. */
	set(&d, BAR0 + 7, 1, 0xd0);
	CHECK_EQ(mmio_in(HIGH, 4), 0xffffffff);
	CHECK_EQ(mmio_in(0xd0000ffc, 4), 0x200 + 0xffc);
	/* 64 bits */
	set(&d, BAR0 + 8, 4, 0);
	set(&d, BAR0 + 12, 4, 0x100);
	CHECK_EQ(mmio_in(0x10000000010, 4), 0x310);
	CHECK(d.bar[2].mapped);
	/* Over another one: not mapped until that has gone. */
	set(&e, COMMAND, 2, MEMORY);
	set(&e, BAR0, 4, 0xd0000000);
	CHECK(!e.bar[0].mapped);
	CHECK_EQ(mmio_in(0xd0000000, 4), 0x200);
	set(&d, BAR0 + 4, 4, HIGH);
	CHECK(e.bar[0].mapped);
	CHECK_EQ(mmio_in(0xd0000000, 4), 0);
	/* Never over RAM, the board's registers, or the end of an address space */
	static const uint32_t bad[] = {0, 0x1000, RAM_SIZE - 0x1000, 0xfec00000, 0xfee00000, 0xfffff000};
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		set(&d, BAR0 + 4, 4, bad[i]);
		CHECK(!d.bar[1].mapped);
	}
	set(&d, BAR0 + 4, 4, RAM_SIZE);
	CHECK(d.bar[1].mapped);
	set(&d, BAR0 + 8, 4, 0xffffffff);
	set(&d, BAR0 + 12, 4, 0xffffffff);
	CHECK(!d.bar[2].mapped);
	set(&d, COMMAND, 2, IO | MEMORY);
	set(&d, BAR0, 4, 0xffffffff);
	CHECK(!d.bar[0].mapped);
	set(&d, BAR0, 4, 0xffe0);
	CHECK(d.bar[0].mapped);
	set(&d, BAR0, 4, 0x1ffe0);
	CHECK(!d.bar[0].mapped);
	pci_device_free(&d);
	CHECK_EQ(mmio.count, 1);
	pci_device_free(&e);
	stop();
}

static void interrupt_lines(void)
{
	struct pci_device a, b;
	struct pci_info two = info;

	start(false);
	two.interrupt_pin = 2;
	pci_device_init(&a, bus, PCI_DEVFN(5, 0), &info, NULL, NULL);
	pci_device_init(&b, bus, PCI_DEVFN(5, 1), &info, NULL, NULL);
	pci_set_intx(&a, 1);
	CHECK_EQ(pin_level[5][0], 1);
	CHECK_EQ(get(&a, STATUS, 2), 8);
	pci_set_intx(&b, 1);
	pci_set_intx(&b, 1);
	pci_set_intx(&a, 0);
	CHECK_EQ(pin_level[5][0], 1); /* the other one still holds it */
	CHECK_EQ(get(&a, STATUS, 2), 0);
	pci_set_intx(&b, 0);
	CHECK_EQ(pin_level[5][0], 0);
	CHECK_EQ(pin_changes, 2);
	/* Disabled in the command register: the status bit still tells. */
	set(&a, COMMAND, 2, NO_INTX);
	pci_set_intx(&a, 1);
	CHECK_EQ(pin_changes, 2);
	CHECK_EQ(get(&a, STATUS, 2), 8);
	set(&a, COMMAND, 2, 0);
	CHECK_EQ(pin_level[5][0], 1);
	pci_device_free(&a);
	CHECK_EQ(pin_level[5][0], 0);
	pci_device_free(&b);
	pci_device_init(&b, bus, PCI_DEVFN(31, 7), &two, NULL, NULL);
	pci_set_intx(&b, 1);
	CHECK_EQ(pin_level[31][1], 1);
	pci_device_free(&b);
	stop();
}

static void message_signalled(void)
{
	struct pci_device d;
	uint32_t word;

	start(false);
	pci_device_init(&d, bus, 8, &info, NULL, NULL);
	CHECK_EQ(pci_add_msi(&d, 3), -EINVAL);
	CHECK_EQ(pci_add_msi(&d, 4), 0);
	unsigned c = d.msi_capability;
	CHECK_EQ(get(&d, POINTER, 1), c);
	CHECK_EQ(get(&d, STATUS, 2), 0x10);
	CHECK_EQ(get(&d, c, 4), 0x00840005);
	CHECK(!pci_send_msi(&d, 0));
	set(&d, c + 4, 4, 0xfee01003);
	CHECK_EQ(get(&d, c + 4, 4), 0xfee01000);
	set(&d, c + 12, 2, 0x4047);
	pci_set_intx(&d, 1);
	CHECK_EQ(pin_level[1][0], 1);
	set(&d, c + 2, 2, 1 | 1 << 4); /* enabled, two vectors */
	CHECK_EQ(get(&d, c, 4), 0x00950005);
	CHECK_EQ(pin_level[1][0], 0); /* no longer used */
	CHECK(pci_send_msi(&d, 0));
	CHECK_EQ(messages, 0); /* not a bus master */
	set(&d, COMMAND, 2, MASTER);
	CHECK(pci_send_msi(&d, 0));
	CHECK_EQ(messages, 1);
	CHECK_EQ(message_address, 0xfee01000);
	CHECK_EQ(message_data, 0x4046);
	pci_send_msi(&d, 3); /* more than are enabled: shared */
	CHECK_EQ(message_data, 0x4047);
	/* Elsewhere it is a write to RAM. */
	set(&d, c + 4, 4, 0x3000);
	pci_send_msi(&d, 1);
	CHECK_EQ(messages, 2);
	memory_read(&memory, 0x3000, &word, 4);
	CHECK_EQ(word, 0x4047);
	set(&d, c + 8, 4, 0xffffffff);
	pci_send_msi(&d, 1);
	CHECK_EQ(messages, 2);
	pci_device_free(&d);
	stop();
}

static void message_table(void)
{
	struct pci_device d;

	start(false);
	pci_device_init(&d, bus, 8, &info, NULL, NULL);
	pci_add_bar(&d, 0, PCI_BAR_IO, 0x20, &regs, NULL);
	pci_add_bar(&d, 4, PCI_BAR_MEMORY64, 0x4000, &regs, (void *)0x100000);
	CHECK_EQ(pci_msix_size(1), 0x1000);
	CHECK_EQ(pci_msix_size(254), 0x1000);
	CHECK_EQ(pci_msix_size(255), 0x2000);
	CHECK_EQ(pci_add_msix(&d, 0, 0, 4), -EINVAL);
	CHECK_EQ(pci_add_msix(&d, 4, 0x4000, 4), -EINVAL);
	CHECK_EQ(pci_add_msix(&d, 4, 0x1000, 0), -EINVAL);
	CHECK_EQ(pci_add_msix(&d, 4, 0x1000, 70), 0);
	unsigned c = d.msix.capability;
	CHECK_EQ(get(&d, c, 4), 0x00450011);
	CHECK_EQ(get(&d, c + 4, 4), 0x1004);
	CHECK_EQ(get(&d, c + 8, 4), 0x1004 + 70 * 16);
	set(&d, BAR0 + 16, 4, HIGH);
	set(&d, COMMAND, 2, MEMORY | MASTER);
	uint64_t table = HIGH + 0x1000, pending = table + 70 * 16;
	CHECK_EQ(mmio_in(HIGH + 8, 4), 0x100008);          /* the device's, before */
	CHECK_EQ(mmio_in(HIGH + 0x2008, 4), 0x102008);     /* and behind */
	mmio_out(HIGH + 0x3004, 4, 5);
	CHECK_EQ(written_offset, 0x3004);
	CHECK_EQ(mmio_in(table + 69 * 16 + 12, 4), 1);     /* masked */
	mmio_out(table + 69 * 16, 4, 0xfee02001);
	mmio_out(table + 69 * 16 + 8, 4, 0x55);
	CHECK_EQ(mmio_in(table + 69 * 16, 8), 0xfee02000);
	CHECK_EQ(mmio_in(table + 69 * 16 + 8, 1), 0x55);
	mmio_out(table + 69 * 16 + 8, 1, 0x66); /* too narrow */
	CHECK_EQ(mmio_in(table + 69 * 16 + 8, 4), 0x55);
	CHECK(!pci_send_msi(&d, 69));
	set(&d, c + 2, 2, 0xffff);
	CHECK_EQ(get(&d, c + 2, 2), 0xc045);
	CHECK(pci_msix_enabled(&d));
	/* Masked twice: it waits for both. */
	CHECK(pci_send_msi(&d, 69));
	CHECK_EQ(messages, 0);
	CHECK_EQ(mmio_in(pending + 8, 4), 1 << 5);
	mmio_out(pending + 8, 4, 0); /* read-only */
	mmio_out(table + 69 * 16 + 12, 4, 0);
	CHECK_EQ(messages, 0);
	set(&d, c + 2, 2, 0x8000);
	CHECK_EQ(messages, 1);
	CHECK_EQ(message_address, 0xfee02000);
	CHECK_EQ(message_data, 0x55);
	CHECK_EQ(mmio_in(pending, 8), 0);
	CHECK_EQ(mmio_in(pending + 8, 8), 0);
	pci_send_msi(&d, 69);
	CHECK_EQ(messages, 2);
	pci_send_msi(&d, 70); /* there is none */
	pci_send_msi(&d, 5);
	CHECK_EQ(messages, 2);
	mmio_out(table + 5 * 16, 8, 0xfee03000);
	mmio_out(table + 5 * 16 + 8, 8, 0xfffffffe00000077);
	CHECK_EQ(messages, 3);
	CHECK_EQ(message_data, 0x77);
	CHECK_EQ(mmio_in(table + 5 * 16 + 12, 4), 0);
	abuse(&mmio, HIGH, 0x4000, 20000);
	pci_device_free(&d);
	stop();
}

static void dma(void)
{
	struct pci_device d;
	struct dma_span span;
	char text[6];

	start(false);
	pci_device_init(&d, bus, 8, &info, NULL, NULL);
	CHECK_EQ(pci_dma_write(&d, 0x1000, "hello", 6), -EFAULT);
	CHECK_EQ(pci_dma_read(&d, 0x1000, text, 6), -EFAULT);
	CHECK_EQ(pci_dma_map(&d, 0x1000, 6, DMA_TO_DEVICE, &span), -EFAULT);
	set(&d, COMMAND, 2, MASTER);
	CHECK_EQ(pci_dma_write(&d, 0x1000, "hello", 6), 0);
	CHECK_EQ(pci_dma_read(&d, 0x1000, text, 6), 0);
	CHECK(!strcmp(text, "hello"));
	CHECK_EQ(pci_dma_read(&d, RAM_SIZE - 2, text, 6), -EFAULT);
	CHECK_EQ(pci_dma_map(&d, 0x1000, 6, DMA_TO_DEVICE, &span), 0);
	CHECK(!memcmp(span.hva, "hello", 6));
	pci_dma_unmap(&d, &span, 0);
	pci_device_free(&d);
	stop();
}

static void capabilities(void)
{
	struct pci_device d;
	unsigned n = 0;

	start(false);
	pci_device_init(&d, bus, 8, &info, NULL, NULL);
	CHECK_EQ(pci_add_capability(&d, 9, 13), 0x40);
	CHECK_EQ(pci_add_capability(&d, 1, 8), 0x50);
	CHECK_EQ(get(&d, POINTER, 1), 0x50);
	CHECK_EQ(get(&d, 0x50, 2), 0x4001);
	CHECK_EQ(get(&d, 0x40, 2), 0x0009);
	while (pci_add_capability(&d, 9, 16))
		n++;
	CHECK_EQ(n, (256 - 0x58) / 16);
	CHECK_EQ(pci_add_msi(&d, 1), -ENOSPC);
	pci_device_free(&d);
	stop();
}

static void config_ports(void)
{
	struct pci_device d;
	struct pci_config_ports ports;

	start(false);
	pci_device_init(&d, bus, PCI_DEVFN(2, 3), &info, NULL, NULL);
	CHECK_EQ(pci_config_ports_init(&ports, &pio, bus, NULL), 0);
	CHECK_EQ(in(0xcfc, 4), 0xffffffff); /* not enabled */
	out(0xcf8, 4, 0xffff13fd & ~0x00ff0000);
	CHECK_EQ(in(0xcf8, 4), 0x800013fc);
	out(0xcf8, 4, 0x80001300);
	out(0xcf8, 1, 0x55); /* not its register */
	CHECK_EQ(in(0xcfc, 4), 0x56781234);
	CHECK_EQ(in(0xcfe, 2), 0x5678);
	CHECK_EQ(in(0xcfd, 1), 0x12);
	out(0xcf8, 4, 0x8000133c);
	out(0xcfc, 1, 0x0a);
	CHECK_EQ(in(0xcfc, 4), 0x0000010a);
	out(0xcf8, 4, 0x0000133c);
	out(0xcfc, 1, 0x0b);
	CHECK_EQ(in(0xcfc, 4), 0xffffffff);
	CHECK_EQ(get(&d, 0x3c, 1), 0x0a);
	out(0xcf8, 4, 0x80011300);
	CHECK_EQ(in(0xcfc, 4), 0xffffffff); /* there is no bus 1 */
	bus_unregister(&pio, 0xcf8);
	pci_device_free(&d);
	stop();
}

int main(void)
{
	if (memory_init(&memory, RAM_SIZE) < 0)
		return 1;
	header();
	mapping();
	interrupt_lines();
	message_signalled();
	message_table();
	dma();
	capabilities();
	config_ports();
	memory_free(&memory);
	return summary();
}
