/*
 * Writes the DSDT. See dsdt.h.
 *
 * The routes of PCI interrupts are fixed ones: to the interrupts that firmware programs into the chip set.
 */
#include "boot/dsdt.h"

#include <stdint.h>
#include <stdio.h>

#include "boot/acpi.h"
#include "boot/aml.h"
#include "dev/hpet.h"
#include "dev/pm.h"
#include "dev/pvpanic.h"
#include "dev/reset.h"

#define PCI_SLOTS 32
#define PCI_PINS 4
#define PCI_CONFIG_PORTS 0xcf8
#define PRT_ANY_FUNCTION 0xffff

static void isa_device_begin(struct aml *a, const char *name, const char *pnp_id)
{
	aml_device_begin(a, name);
	aml_name(a, "_HID");
	aml_eisa_id(a, pnp_id);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
}

static void isa_device_end(struct aml *a)
{
	aml_resources_end(a);
	aml_end(a);
}

/* Two ports share a line, as on an ISA bus. */
static void add_serial_ports(struct aml *a, unsigned ports)
{
	static const uint16_t base[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};

	for (unsigned i = 0; i < sizeof base / sizeof *base; i++) {
		char name[5];

		if (!(ports & 1u << i))
			continue;
		snprintf(name, sizeof name, "COM%c", (char)('1' + i));
		aml_device_begin(a, name);
		aml_name(a, "_HID");
		aml_eisa_id(a, "PNP0501");
		aml_name(a, "_UID");
		aml_integer(a, i + 1);
		aml_name(a, "_CRS");
		aml_resources_begin(a);
		aml_resource_io(a, base[i], 8);
		aml_resource_irq(a, i & 1 ? 3 : 4);
		isa_device_end(a);
	}
}

static void add_isa_devices(struct aml *a, const struct acpi_config *c)
{
	isa_device_begin(a, "PIC", "PNP0000");
	aml_resource_io(a, 0x20, 2);
	aml_resource_io(a, 0xa0, 2);
	aml_resource_io(a, 0x4d0, 2);
	aml_resource_irq(a, 2);
	isa_device_end(a);

	isa_device_begin(a, "TIMR", "PNP0100");
	aml_resource_io(a, 0x40, 4);
	aml_resource_irq(a, 0);
	isa_device_end(a);

	isa_device_begin(a, "RTC", "PNP0B00");
	aml_resource_io(a, 0x70, 2);
	aml_resource_irq(a, 8);
	isa_device_end(a);

	isa_device_begin(a, "KBD", "PNP0303");
	aml_resource_io(a, 0x60, 1);
	aml_resource_io(a, 0x64, 1);
	aml_resource_irq(a, 1);
	isa_device_end(a);

	if (c->screen) {
		isa_device_begin(a, "MOU", "PNP0F13");
		aml_resource_irq(a, 12);
		isa_device_end(a);
	}

	add_serial_ports(a, c->serial);

	if (c->pvpanic) {
		aml_device_begin(a, "PEVT");
		aml_name(a, "_HID");
		aml_string(a, "QEMU0001");
		aml_name(a, "_CRS");
		aml_resources_begin(a);
		aml_resource_io(a, PVPANIC_PORT, 1);
		isa_device_end(a);
	}

	/* Ports of the board that no other device names. */
	isa_device_begin(a, "MBRD", "PNP0C02");
	aml_resource_io(a, 0x61, 1);
	aml_resource_io(a, 0x92, 1);
	aml_resource_io(a, c->pm_base, (uint8_t)c->pm->size);
	if (!c->pci)
		aml_resource_io(a, RESET_PORT, 1);
	if (c->pci && c->pci->ecam)
		aml_resource_memory(a, (uint32_t)c->pci->ecam, ACPI_ECAM_SIZE);
	isa_device_end(a);
}

static void add_hpet(struct aml *a)
{
	aml_device_begin(a, "HPET");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0103");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_memory(a, HPET_BASE, HPET_SIZE);
	aml_resources_end(a);
	aml_end(a);
}

static void add_processors(struct aml *a, const struct acpi_config *c)
{
	for (unsigned i = 0; i < c->cpus; i++) {
		char name[5];

		snprintf(name, sizeof name, "C%03X", i & 0xfff);
		aml_device_begin(a, name);
		aml_name(a, "_HID");
		aml_string(a, "ACPI0007");
		aml_name(a, "_UID");
		aml_integer(a, i);
		aml_end(a);
	}
}

/* ---- PCI ---- */

static void add_pci_windows(struct aml *a, const struct acpi_pci *p)
{
	aml_name(a, "_CRS");
	aml_resources_begin(a);
	aml_resource_window(a, AML_WINDOW_BUS, 0, 0xff);
	aml_resource_io(a, PCI_CONFIG_PORTS, 8);
	aml_resource_window(a, AML_WINDOW_IO, 0, PCI_CONFIG_PORTS - 1);
	aml_resource_window(a, AML_WINDOW_IO, p->io_first, 0xffff);
	aml_resource_window(a, AML_WINDOW_MEMORY, 0xa0000, 0xbffff); /* VGA */
	aml_resource_window(a, AML_WINDOW_MEMORY, p->low_first, p->low_last);
	if (p->high_first)
		aml_resource_window(a, AML_WINDOW_MEMORY, p->high_first, p->high_last);
	aml_resources_end(a);
}

static void add_routes(struct aml *a, const char *name, unsigned (*gsi)(unsigned slot, unsigned pin))
{
	aml_name(a, name);
	aml_package_begin(a, (PCI_SLOTS - 1) * PCI_PINS);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		for (unsigned pin = 0; pin < PCI_PINS; pin++) {
			aml_package_begin(a, 4);
			aml_integer(a, slot << 16 | PRT_ANY_FUNCTION);
			aml_integer(a, pin);
			aml_integer(a, 0); /* no link device: */
			aml_integer(a, gsi(slot, pin));
			aml_end(a);
		}
	}
	aml_end(a);
}

/* An operating system that uses the I/O APIC calls _PIC (1) before it asks for the routes. */
static void add_pci_routes(struct aml *a, const struct acpi_pci *p)
{
	if (!p->pic_irq) {
		add_routes(a, "_PRT", p->gsi);
		return;
	}
	add_routes(a, "PRTP", p->pic_irq);
	add_routes(a, "PRTA", p->gsi);
	aml_method_begin(a, "_PRT", 0);
	aml_if_begin(a, "\\PICF");
	aml_return(a, "PRTA");
	aml_end(a);
	aml_return(a, "PRTP");
	aml_end(a);
}

static void add_pic_method(struct aml *a)
{
	aml_name(a, "\\PICF");
	aml_integer(a, 0);
	aml_method_begin(a, "\\_PIC", 1);
	aml_store_argument(a, 0, "\\PICF");
	aml_end(a);
}

static void add_pci(struct aml *a, const struct acpi_config *c)
{
	aml_device_begin(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisa_id(a, c->pci->ecam ? "PNP0A08" : "PNP0A03");
	if (c->pci->ecam) {
		aml_name(a, "_CID");
		aml_eisa_id(a, "PNP0A03");
	}
	aml_name(a, "_UID");
	aml_integer(a, 0);
	add_pci_windows(a, c->pci);
	add_pci_routes(a, c->pci);
	aml_device_begin(a, "ISA");
	aml_name(a, "_ADR");
	aml_integer(a, c->pci->isa_slot << 16); /* function 0 */
	add_isa_devices(a, c);
	aml_end(a);
	aml_end(a);
}

size_t dsdt_write(void *buffer, size_t size, const struct acpi_config *c)
{
	struct aml a;

	aml_init(&a, buffer, size);
	if (c->pci && c->pci->pic_irq)
		add_pic_method(&a);
	aml_scope_begin(&a, "\\_SB");
	add_processors(&a, c);
	if (c->pci)
		add_pci(&a, c);
	else
		add_isa_devices(&a, c);
	if (c->hpet)
		add_hpet(&a);
	aml_end(&a);
	aml_name(&a, "\\_S5");
	aml_package_begin(&a, 4);
	aml_integer(&a, PM_SLP_TYP_S5); /* PM1a_CNT.SLP_TYP */
	aml_integer(&a, PM_SLP_TYP_S5); /* PM1b_CNT.SLP_TYP: there is none */
	aml_integer(&a, 0);
	aml_integer(&a, 0);
	aml_end(&a);
	return a.failed ? 0 : a.len;
}
