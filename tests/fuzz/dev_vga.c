/*
 * Fuzz target: the VGA as a PCI function. An input is a list of accesses to its ports, its window, its registers in
 * memory and its configuration space, with looks at the picture in between, as a hostile guest and a viewer make them.
 */
#include "driver.h"

#include "dev/vga.h"
#include "mem/memory.h"
#include "pci/pci.h"
#include "ui/display.h"
#include "util/timer.h"

#define MMIO 0xe1000000u
#define SCREENS 24u /* pictures an input: each may have ten million pixels */

static void set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	(void)opaque, (void)slot, (void)pin, (void)level;
}

static void msi(void *opaque, uint64_t address, uint32_t data) { (void)opaque, (void)address, (void)data; }

static void access_bus(struct bus *bus, struct fuzz_input *in, uint64_t base, uint64_t len)
{
	uint64_t address = base + fuzz_take(in, 3) % len, value;
	unsigned how = (unsigned)fuzz_take(in, 1), size = 1u << (how >> 1 & 3);

	if (how & 1)
		bus_write(bus, address, size, fuzz_take(in, size));
	else
		bus_read(bus, address, size, &value);
}

/* The register sets by index and data, which random accesses would seldom hit. */
static void indexed(struct bus *pio, struct fuzz_input *in)
{
	static const uint16_t port[] = {0x3c4, 0x3ce, 0x3d4, 0x3b4, 0x1ce, 0x3c0};
	unsigned n = (unsigned)fuzz_take(in, 1) % 6, index = (unsigned)fuzz_take(in, 1);
	uint64_t value;

	if (port[n] == 0x1ce) {
		bus_write(pio, 0x1ce, 2, index % 12);
		bus_write(pio, 0x1d0, 2, fuzz_take(in, 2));
	} else if (port[n] == 0x3c0) {
		bus_read(pio, 0x3da, 1, &value);
		bus_write(pio, 0x3c0, 1, index % 0x40);
		bus_write(pio, 0x3c0, 1, fuzz_take(in, 1));
	} else {
		bus_write(pio, port[n], 1, index % 0x20);
		bus_write(pio, port[n] + 1, 1, fuzz_take(in, 1));
	}
}

static void picture(struct display *display)
{
	static struct display_text text;

	display_refresh(display);
	if (display_text(display, &text) && (uint64_t)text.columns * text.rows > DISPLAY_TEXT_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bus pio, mmio;
	struct memory memory = {.fd = -1};
	struct fuzz_input in = {data, size};
	const struct pci_bus_config bus = {.memory = &memory, .pio = &pio, .mmio = &mmio, .set_intx = set_intx, .msi = msi};
	unsigned screens = 0;

	memset(&pio, 0, sizeof pio);
	memset(&mmio, 0, sizeof mmio);
	if (memory_init(&memory, 1 << 20) < 0)
		abort();
	struct timer_queue *timers = timer_queue_new_manual(1);
	struct display *display = display_new();
	struct pci_bus *pci = pci_bus_new(&bus);
	const struct vga_config config = {.memory = &memory, .pio = &pio, .mmio = &mmio, .timers = timers, .pci = pci,
					  .devfn = 8, .display = display};
	struct vga *vga = vga_new(&config);
	if (!vga)
		abort();
	pci_config_write(pci, 0, 8, 0x10, 0xe0000000, 4);
	pci_config_write(pci, 0, 8, 0x18, MMIO, 4);
	pci_config_write(pci, 0, 8, 0x04, 3, 2);
	bus_write(&pio, 0x3c2, 1, 0x63);
	while (in.size) {
		switch (fuzz_take(&in, 1) % 8) {
		case 0:
			access_bus(&pio, &in, 0x3b0 - 4, 0x38);
			break;
		case 1:
			access_bus(&mmio, &in, 0xa0000, 0x20000);
			break;
		case 2:
			access_bus(&mmio, &in, MMIO, 0x1000);
			break;
		case 3:
			access_bus(&pio, &in, 0x1ce - 2, 8);
			break;
		case 4:
			if (screens++ < SCREENS)
				picture(display);
			break;
		case 5:
			pci_config_write(pci, 0, 8, (unsigned)fuzz_take(&in, 1) & 0x3c, (uint32_t)fuzz_take(&in, 4), 4);
			pci_config_write(pci, 0, 8, 0x04, 3, 2);
			break;
		default:
			indexed(&pio, &in);
			break;
		}
	}
	bus_write(&pio, 0x3c0, 1, 0x20);
	picture(display);
	vga_free(vga);
	pci_bus_free(pci);
	display_free(display);
	timer_queue_free(timers);
	memory_free(&memory);
	return 0;
}
