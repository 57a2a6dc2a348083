/*
 * Intel 82540EM: registers, interrupts, PHY, EEPROM. See e1000.h; e1000_rings.c sends and receives.
 *
 * A write of a tail register only wakes the I/O thread, which works on the ring. Negotiation of the link takes no time.
 * The interrupt throttling register is obeyed; the delays of single descriptors (RDTR, RADV, TIDV, TADV) count as over
 * at once. Not there: flash, wake-up and management functions (their registers keep what is written), MSI (the real
 * one's does not work either), writes to the EEPROM, fibre.
 *
 * vCPU threads (registers) and the I/O thread, under vm->lock.
 * Sources: 317453-006, chapters 5 (EEPROM), 8 (PHY by MDIC), 13 (registers); Marvell 88E1011 for the PHY's own registers.
 */
#include "dev/e1000.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/e1000_internal.h"
#include "util/log.h"

#define BAR_REGISTERS_SIZE 0x20000u
#define BAR_IO_SIZE 0x40u
#define ITR_UNIT_NS 256u
#define CAPABILITY_PM 1u

enum { VENDOR_INTEL = 0x8086, DEVICE_82540EM = 0x100e, SUBSYSTEM_PRO1000_MT = 0x001e, REVISION = 2 };
enum { IOADDR = 0, IODATA = 4 };

#define EECD_SK 0x01u
#define EECD_CS 0x02u
#define EECD_DI 0x04u
#define EECD_DO 0x08u
#define EECD_REQ 0x40u
#define EECD_GNT 0x80u
#define EECD_PRES 0x100u
#define EECD_WRITABLE 0x77u
#define EERD_START 0x01u
#define EERD_DONE 0x10u
#define EEPROM_SUM 0xbabau
enum { MICROWIRE_COMMAND = 9, MICROWIRE_READ = 6 }; /* start bit, opcode, 6 bits of address */

#define MDIC_OP_WRITE 0x04000000u
#define MDIC_OP_READ 0x08000000u
#define MDIC_OP 0x0c000000u
#define MDIC_READY 0x10000000u
#define MDIC_INTERRUPT 0x20000000u
#define MDIC_ERROR 0x40000000u
#define PHY_ADDRESS 1u

enum { PHY_STATUS = 1, PHY_ID1 = 2, PHY_ID2 = 3, PHY_ADVERTISE = 4, PHY_PARTNER = 5, PHY_EXPANSION = 6,
       PHY_1000_CONTROL = 9, PHY_1000_STATUS = 10, PHY_EXTENDED_STATUS = 15, M88_CONTROL = 16, M88_STATUS = 17,
       M88_INTERRUPT_STATUS = 19, M88_EXTENDED_CONTROL = 20 };
#define PHY_CONTROL_RESET 0x8000u
#define PHY_CONTROL_RESTART 0x0200u
#define PHY_CONTROL_DEFAULT 0x1140u       /* negotiation on, full duplex, 1000 Mb/s */
#define PHY_STATUS_ABLE 0x7949u           /* 10, 100 and extended status; negotiation; extended registers */
#define PHY_STATUS_NEGOTIATED 0x0020u
#define PHY_STATUS_LINK 0x0004u
#define M88_STATUS_LINK 0xac00u           /* 1000 Mb/s, full duplex, resolved, link */
#define M88_STATUS_NO_LINK 0x0000u

/* ---- interrupts (13.4.17 to 13.4.22) ---- */

static void throttle_fired(void *opaque);

static void update_interrupt(struct e1000 *d)
{
	bool wanted = d->reg[ICR / 4] & d->reg[IMS / 4];
	uint64_t gap = (uint64_t)(d->reg[ITR / 4] & 0xffff) * ITR_UNIT_NS, now;

	if (!wanted || d->pci.intx_level) {
		if (!wanted)
			timer_cancel(&d->throttle);
		pci_set_intx(&d->pci, wanted);
		return;
	}
	now = timer_queue_now(d->throttle.queue);
	if (gap && now < d->interrupted + gap) {
		if (!timer_armed(&d->throttle))
			timer_arm(&d->throttle, d->interrupted + gap);
		return;
	}
	timer_cancel(&d->throttle);
	d->interrupted = now;
	pci_set_intx(&d->pci, 1);
}

static void throttle_fired(void *opaque)
{
	struct e1000 *d = opaque;

	d->interrupted = 0;
	update_interrupt(d);
}

void e1000_cause(struct e1000 *d, uint32_t bits)
{
	d->reg[ICR / 4] |= bits & ICR_BITS;
	update_interrupt(d);
}

static uint32_t take_icr(struct e1000 *d)
{
	uint32_t icr = d->reg[ICR / 4];

	d->reg[ICR / 4] = 0;
	update_interrupt(d);
	return icr;
}

/* ---- statistics (13.7) ---- */

void e1000_count(struct e1000 *d, unsigned r, uint32_t n)
{
	uint32_t *count = &d->reg[r / 4];

	*count = *count > UINT32_MAX - n ? UINT32_MAX : *count + n;
}

void e1000_count64(struct e1000 *d, unsigned r, uint64_t n)
{
	uint64_t count = d->reg[r / 4] | (uint64_t)d->reg[r / 4 + 1] << 32;

	count = count > UINT64_MAX - n ? UINT64_MAX : count + n;
	d->reg[r / 4] = (uint32_t)count;
	d->reg[r / 4 + 1] = (uint32_t)(count >> 32);
}

/* ---- PHY (8.2, 13.4.9) ---- */

static bool link_up(const struct e1000 *d) { return net_link_up(d->net); }

static void phy_reset(struct e1000 *d)
{
	memset(d->phy, 0, sizeof d->phy);
	d->phy[PHY_CONTROL] = PHY_CONTROL_DEFAULT;
	d->phy[PHY_ID1] = 0x0141;
	d->phy[PHY_ID2] = 0x0c20;
	d->phy[PHY_ADVERTISE] = 0x0de1;
	d->phy[PHY_1000_CONTROL] = 0x0e00;
	d->phy[PHY_EXTENDED_STATUS] = 0x3000;
	d->phy[M88_CONTROL] = 0x0360;
	d->phy[M88_EXTENDED_CONTROL] = 0x0d60;
}

static uint16_t phy_read(const struct e1000 *d, unsigned r)
{
	bool up = link_up(d);

	switch (r) {
	case PHY_STATUS:
		return (uint16_t)(PHY_STATUS_ABLE | (up ? PHY_STATUS_LINK | PHY_STATUS_NEGOTIATED : 0));
	case PHY_PARTNER:
		return up ? 0xcde1 : 0;
	case PHY_EXPANSION:
		return up ? 0x0007 : 0;
	case PHY_1000_STATUS:
		return up ? 0x3c00 : 0;
	case M88_STATUS:
		return up ? M88_STATUS_LINK : M88_STATUS_NO_LINK;
	}
	return d->phy[r];
}

static void phy_write(struct e1000 *d, unsigned r, uint16_t value)
{
	switch (r) {
	case PHY_CONTROL:
		if (value & PHY_CONTROL_RESET)
			value |= PHY_CONTROL_RESTART;
		d->phy[r] = value & (uint16_t)~(PHY_CONTROL_RESET | PHY_CONTROL_RESTART);
		if (value & PHY_CONTROL_RESTART)
			e1000_cause(d, ICR_LSC);
		break;
	case PHY_STATUS:
	case PHY_ID1:
	case PHY_ID2:
	case PHY_PARTNER:
	case PHY_EXPANSION:
	case PHY_1000_STATUS:
	case PHY_EXTENDED_STATUS:
	case M88_STATUS:
	case M88_INTERRUPT_STATUS:
		break;
	default:
		d->phy[r] = value;
	}
}

static void mdic_write(struct e1000 *d, uint32_t value)
{
	unsigned r = value >> 16 & 31;
	uint32_t result = value & ~(MDIC_ERROR | MDIC_READY);

	if ((value >> 21 & 31) != PHY_ADDRESS || ((value & MDIC_OP) != MDIC_OP_READ && (value & MDIC_OP) != MDIC_OP_WRITE))
		result |= MDIC_ERROR;
	else if ((value & MDIC_OP) == MDIC_OP_READ)
		result = (result & ~0xffffu) | phy_read(d, r);
	else
		phy_write(d, r, (uint16_t)value);
	d->reg[MDIC / 4] = result | MDIC_READY;
	if (value & MDIC_INTERRUPT)
		e1000_cause(d, ICR_MDAC);
}

/* ---- EEPROM (5.3, 5.6, 13.4.3, 13.4.4) ---- */

/* What the manufacturer leaves in it (table 5-1). Words that nothing is said about are all ones, as erased. */
static void fill_eeprom(struct e1000 *d)
{
	const uint8_t *mac = net_configuration(d->net)->mac;
	unsigned sum = 0;

	memset(d->eeprom, 0xff, sizeof d->eeprom);
	for (unsigned i = 0; i < 3; i++)
		d->eeprom[i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
	d->eeprom[0x03] = 0; /* compatibility */
	d->eeprom[0x0a] = 0x4003; /* initialization control 1: valid; load the identifiers below */
	d->eeprom[0x0b] = SUBSYSTEM_PRO1000_MT;
	d->eeprom[0x0c] = VENDOR_INTEL;
	d->eeprom[0x0d] = DEVICE_82540EM;
	d->eeprom[0x0e] = VENDOR_INTEL;
	d->eeprom[0x0f] = 0x3000; /* initialization control 2: flow control both ways */
	for (unsigned i = 0; i < EEPROM_WORDS - 1; i++)
		sum += d->eeprom[i];
	d->eeprom[EEPROM_WORDS - 1] = (uint16_t)(EEPROM_SUM - sum);
}

/* A rising clock with the chip selected. */
static void microwire_clock(struct e1000 *d, bool in)
{
	if (d->microwire.bits < MICROWIRE_COMMAND) {
		if (d->microwire.bits == 0 && !in)
			return; /* before the start bit */
		d->microwire.in = d->microwire.in << 1 | in;
		if (++d->microwire.bits == MICROWIRE_COMMAND && d->microwire.in >> 6 == MICROWIRE_READ) {
			d->microwire.address = d->microwire.in & (EEPROM_WORDS - 1);
			d->microwire.left = 16;
			d->microwire.out = false; /* a 0 comes before the data */
		}
		return;
	}
	if (!d->microwire.left)
		return; /* not a read */
	d->microwire.out = d->eeprom[d->microwire.address] >> --d->microwire.left & 1;
	if (!d->microwire.left) { /* the next word follows */
		d->microwire.address = (d->microwire.address + 1) % EEPROM_WORDS;
		d->microwire.left = 16;
	}
}

static void eecd_write(struct e1000 *d, uint32_t value)
{
	uint32_t old = d->reg[EECD / 4];

	d->reg[EECD / 4] = value & EECD_WRITABLE;
	if (!(value & EECD_CS)) {
		memset(&d->microwire, 0, sizeof d->microwire);
		d->microwire.out = true;
		return;
	}
	if ((value & EECD_SK) && !(old & EECD_SK))
		microwire_clock(d, value & EECD_DI);
}

static uint32_t eecd_read(const struct e1000 *d)
{
	uint32_t value = d->reg[EECD / 4] | EECD_PRES;

	return value | (d->microwire.out ? EECD_DO : 0) | (value & EECD_REQ ? EECD_GNT : 0);
}

static void eerd_write(struct e1000 *d, uint32_t value)
{
	unsigned word = value >> 8 & 0xff;
	uint32_t data = word < EEPROM_WORDS ? d->eeprom[word] : 0;

	d->reg[EERD / 4] = value & EERD_START ? data << 16 | (value & 0xff00) | EERD_DONE : value & 0xff00;
}

/* ---- registers (13.4) ---- */

/* RST: all but the PHY and the PCI side (13.4.1); the address comes from the EEPROM again. */
static void mac_reset(struct e1000 *d)
{
	const uint8_t *mac = net_configuration(d->net)->mac;

	timer_cancel(&d->throttle);
	memset(d->reg, 0, sizeof d->reg);
	d->reg[CTRL / 4] = CTRL_FD | CTRL_SLU | CTRL_SPEED_1000;
	d->reg[PBA / 4] = 0x00100030; /* 48 KiB for what is received, 16 for what is sent */
	d->reg[LEDCTL / 4] = 0x07068302;
	d->reg[VET / 4] = 0x8100;
	d->reg[RAL / 4] = mac[0] | mac[1] << 8 | mac[2] << 16 | (uint32_t)mac[3] << 24;
	d->reg[RAH / 4] = mac[4] | mac[5] << 8 | RAH_AV;
	memset(&d->microwire, 0, sizeof d->microwire);
	d->microwire.out = true;
	d->interrupted = 0;
	pci_set_intx(&d->pci, 0);
	e1000_rings_reset(d);
}

static uint32_t status(const struct e1000 *d)
{
	bool up = link_up(d) && (d->reg[CTRL / 4] & CTRL_SLU);

	return (d->reg[CTRL / 4] & CTRL_FD) | STATUS_SPEED_1000 | STATUS_ASDV_1000 | (up ? STATUS_LU : 0);
}

void e1000_link_changed(void *nic, bool up)
{
	(void)up;
	e1000_cause(nic, ICR_LSC);
}

static void ctrl_write(struct e1000 *d, uint32_t value)
{
	uint32_t old = d->reg[CTRL / 4];

	if (value & CTRL_RST) {
		mac_reset(d);
		return;
	}
	d->reg[CTRL / 4] = value & ~CTRL_PHY_RST;
	if (value & CTRL_PHY_RST)
		phy_reset(d);
	if ((value & CTRL_PHY_RST) || ((old ^ value) & CTRL_SLU))
		e1000_cause(d, ICR_LSC);
}

static uint32_t register_read(struct e1000 *d, uint32_t r)
{
	uint32_t value;

	if (r >= REGISTERS_END)
		return 0;
	value = d->reg[r / 4];
	if (r >= STATISTICS && r < STATISTICS_END) {
		d->reg[r / 4] = 0; /* they count from 0 again */
		return value;
	}
	switch (r) {
	case STATUS:
		return status(d);
	case EECD:
		return eecd_read(d);
	case ICR:
		return take_icr(d);
	case ICS:
	case IMC:
		return 0;
	}
	return value;
}

/* Which bits of a plain register keep what is written; 0: it is not one. */
static uint32_t register_bits(uint32_t r)
{
	if ((r >= MTA && r < RA_END) || (r >= VFTA && r < VFTA_END))
		return r >= RAL && r < RA_END && r % 8 == 4 ? RAH_AV | RAH_ASEL | 0xffff : UINT32_MAX;
	switch (r) {
	case CTRL_EXT: case FCAL: case FCAH: case FCT: case VET: case FCTTV: case TXCW: case TIPG: case AIT: case LEDCTL:
	case FCRTL: case FCRTH: case RDBAH: case TDBAH: case RXDCTL: case TXDCTL: case TXDMAC: case TSPMT: case RXCSUM:
	case WUC: case WUFC: case IPAV: case MANC:
		return UINT32_MAX;
	case ITR: case RDTR: case RADV: case TIDV: case TADV: case PBA: case RDH: case TDH: case RDT: case TDT:
		return 0xffff;
	case RDBAL: case TDBAL:
		return ~15u;
	case RDLEN: case TDLEN:
		return 0xfff80;
	case RSRPD:
		return 0xfff;
	case RCTL:
		return 0x06dfb3feu;
	case TCTL:
		return 0x037ffffau;
	}
	return 0;
}

static void register_write(struct e1000 *d, uint32_t r, uint32_t value)
{
	uint32_t bits;

	if (r >= REGISTERS_END)
		return;
	switch (r) {
	case CTRL:
		ctrl_write(d, value);
		return;
	case EECD:
		eecd_write(d, value);
		return;
	case EERD:
		eerd_write(d, value);
		return;
	case MDIC:
		mdic_write(d, value);
		return;
	case ICR: /* ones clear */
		d->reg[ICR / 4] &= ~value;
		update_interrupt(d);
		return;
	case ICS:
		e1000_cause(d, value);
		return;
	case IMS:
		d->reg[IMS / 4] |= value & ICR_BITS;
		update_interrupt(d);
		return;
	case IMC:
		d->reg[IMS / 4] &= ~value;
		update_interrupt(d);
		return;
	case WUS:
		d->reg[WUS / 4] &= ~value;
		return;
	}
	if ((bits = register_bits(r)) == 0)
		return;
	d->reg[r / 4] = value & bits;
	if (r == TDT || r == TCTL)
		loop_call_soon(d->loop, &d->send_call);
	else if (r == RDT || r == RCTL)
		loop_call_soon(d->loop, &d->receive_call);
}

/* Registers are 32 bits wide; narrower writes are no accesses to them (13.2), narrower reads see a part. */
static uint64_t memory_bar_read(void *dev, uint64_t offset, unsigned size)
{
	unsigned shift = 8 * (offset & 3);

	if (shift + 8 * size > 32)
		return UINT32_MAX;
	return register_read(dev, (uint32_t)offset & ~3u) >> shift;
}

static void memory_bar_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	if (size == 4 && offset % 4 == 0)
		register_write(dev, (uint32_t)offset, (uint32_t)value);
}

static const struct bus_ops memory_bar = {.read = memory_bar_read, .write = memory_bar_write, .max_size = 4};

/* An address and a data register: the way in before there is memory, or for real mode (13.2.2). */
static uint64_t io_bar_read(void *dev, uint64_t offset, unsigned size)
{
	struct e1000 *d = dev;

	if (size != 4)
		return UINT32_MAX;
	return offset == IOADDR ? d->io_address : offset == IODATA ? register_read(d, d->io_address & ~3u) : UINT32_MAX;
}

static void io_bar_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct e1000 *d = dev;

	if (size != 4)
		return;
	if (offset == IOADDR)
		d->io_address = (uint32_t)value;
	else if (offset == IODATA)
		register_write(d, d->io_address & ~3u, (uint32_t)value);
}

static const struct bus_ops io_bar = {.read = io_bar_read, .write = io_bar_write, .max_size = 4};

/* ---- life ---- */

static int add_power_management(struct e1000 *d)
{
	unsigned at = pci_add_capability(&d->pci, CAPABILITY_PM, 8);

	if (!at)
		return -ENOSPC;
	pci_put16(d->pci.config + at + 2, 0x0022); /* version 1.1; device-specific initialization */
	pci_put16(d->pci.writable + at + 4, 0x0103); /* power state, PME enable */
	return 0;
}

struct e1000 *e1000_new(const struct e1000_config *config)
{
	static const struct pci_info info = {
		.name = "e1000",
		.vendor = VENDOR_INTEL,
		.device = DEVICE_82540EM,
		.subsystem_vendor = VENDOR_INTEL,
		.subsystem = SUBSYSTEM_PRO1000_MT,
		.class_code = 0x020000,
		.revision = REVISION,
		.interrupt_pin = 1,
	};
	struct e1000 *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return NULL;
	d->net = config->net;
	d->loop = config->loop;
	d->send_call = (struct loop_call){.run = e1000_send_all, .opaque = d};
	d->receive_call = (struct loop_call){.run = e1000_receive_more, .opaque = d};
	timer_init(&d->throttle, config->timers, throttle_fired, d);
	if ((r = pci_device_init(&d->pci, config->pci, config->devfn, &info, NULL, d)) < 0 ||
	    (r = add_power_management(d)) < 0 || (config->rom && (r = pci_add_rom(&d->pci, config->rom)) < 0)) {
		pci_device_free(&d->pci);
		free(d);
		errno = -r;
		return NULL;
	}
	pci_add_bar(&d->pci, 0, PCI_BAR_MEMORY32, BAR_REGISTERS_SIZE, &memory_bar, d);
	pci_add_bar(&d->pci, 1, PCI_BAR_IO, BAR_IO_SIZE, &io_bar, d);
	net_attach(d->net, &e1000_nic_ops, d);
	fill_eeprom(d);
	phy_reset(d);
	mac_reset(d);
	return d;
}

void e1000_free(struct e1000 *d)
{
	if (!d)
		return;
	net_detach(d->net);
	timer_cancel(&d->throttle);
	loop_call_cancel(d->loop, &d->send_call);
	loop_call_cancel(d->loop, &d->receive_call);
	pci_device_free(&d->pci);
	free(d);
}
