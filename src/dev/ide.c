/*
 * PIIX3 IDE. See ide.h.
 *
 * The channels' ports are where every PC has them (compatibility mode, the only one of this chip): the function's
 * command register and its IDETIM registers turn them on; the latter are on from the beginning, as firmware leaves
 * them. Timings are kept and mean nothing.
 */
#include "dev/ide.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/ata.h"
#include "util/log.h"

/* Configuration space */
enum { COMMAND = 0x04, STATUS = 0x06, IDETIM = 0x40, SIDETIM = 0x44 };
#define COMMAND_IO 0x0001
#define STATUS_MEDIUM 0x0280
#define IDETIM_DECODE 0x80 /* of its upper byte */

/* Command block, and the one port of the control block that is IDE's */
enum { DATA, ERROR_FEATURE, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, STATUS_COMMAND, COMMAND_BLOCK };
#define CONTROL_NIEN 0x02
#define CONTROL_SRST 0x04
#define CONTROL_HOB 0x80
#define NOBODY 0x7f /* nothing drives the bus; DD7 is pulled down */

/* The bus master's registers, 8 bytes a channel */
enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4, BM_SIZE = 8 };
#define BM_START 0x01
#define BM_TO_MEMORY 0x08
#define BM_ACTIVE 0x01
#define BM_ERROR 0x02
#define BM_INTERRUPT 0x04
#define BM_CAPABLE 0x60 /* bits for the driver's own use: drives 0 and 1 can do DMA */

#define PRD_SIZE 8u
#define PRD_LAST 0x80000000u
#define TABLE_END 0x10000u /* a table does not cross a multiple of 64 KiB */

struct channel {
	struct ide *ide;
	unsigned number;
	struct ata_drive *drive[IDE_DRIVES];
	unsigned selected;
	uint8_t control;
	bool intrq[IDE_DRIVES]; /* what each drive asserts; only the selected one's is seen */
	struct irq_line irq;
	/* bus master */
	uint8_t bm_command, bm_status;
	uint32_t table, next; /* its address; the next entry's offset from it */
	bool last;            /* the last entry has been read */
};

struct ide {
	struct pci_device pci;
	struct bus *pio;
	struct channel channel[IDE_CHANNELS];
};

static const uint16_t command_ports[IDE_CHANNELS] = {0x1f0, 0x170}, control_ports[IDE_CHANNELS] = {0x3f6, 0x376};

/* ---- interrupts ---- */

static void update_irq(struct channel *c)
{
	irq_set(&c->irq, c->intrq[c->selected] && !(c->control & CONTROL_NIEN));
}

static void set_intrq(struct channel *c, unsigned n, bool level)
{
	if (level && !c->intrq[n] && n == c->selected)
		c->bm_status |= BM_INTERRUPT;
	c->intrq[n] = level;
	update_irq(c);
}

/* ---- what drives ask of their channel: always the selected one, as no other can be selected while one works ---- */

/* The engine stops by itself when it has done the last entry; with entries left it stays active. */
static void dma_ended(struct channel *c)
{
	if (c->last && !c->drive[c->selected]->transfer.table.left)
		c->bm_status &= (uint8_t)~BM_ACTIVE;
}

static void drive_finished(void *opaque, bool interrupt)
{
	struct channel *c = opaque;

	if (c->bm_status & BM_ACTIVE)
		dma_ended(c);
	if (interrupt)
		set_intrq(c, c->selected, true);
}

static void drive_pio(void *opaque, bool interrupt)
{
	struct channel *c = opaque;

	if (interrupt)
		set_intrq(c, c->selected, true);
}

static void try_dma(struct channel *c)
{
	struct ata_drive *d = c->drive[c->selected];

	if (d && d->phase == ATA_DMA && (c->bm_status & BM_ACTIVE) && d->to_host == !!(c->bm_command & BM_TO_MEMORY))
		ata_drive_dma(d);
}

static void drive_dma(void *opaque) { try_dma(opaque); }

static void drive_dma_failed(void *opaque, int result)
{
	struct channel *c = opaque;

	/* The table was too short: the drive waits on, nobody interrupts, the driver's timeout ends it. */
	c->bm_status &= (uint8_t)~BM_ACTIVE;
	LOG(LOG_ATA, "ide%u: DMA failed: error %d", c->number, -result);
	if (result == -ENODATA)
		return;
	c->bm_status |= BM_ERROR;
	ata_drive_abort(c->drive[c->selected]);
}

static int drive_next(void *opaque, uint64_t *gpa, uint32_t *len)
{
	struct channel *c = opaque;
	uint8_t entry[PRD_SIZE];

	if (c->last)
		return -ENODATA;
	/* The counter of the table's address has 16 bits. */
	uint32_t at = (c->table & ~(TABLE_END - 1)) | ((c->table + c->next) & (TABLE_END - 1));
	if (pci_dma_read(&c->ide->pci, at, entry, sizeof entry) < 0)
		return -EFAULT;
	c->next += PRD_SIZE;
	uint32_t count = pci_get32(entry + 4);
	/* One that is not the last although the table has no more room: a table without end */
	c->last = (count & PRD_LAST) || c->next >= TABLE_END;
	*gpa = pci_get32(entry) & ~1u;
	*len = count & 0xfffe ? count & 0xfffe : 0x10000;
	return 0;
}

static const struct ata_drive_ops drive_ops = {
	.finished = drive_finished,
	.pio = drive_pio,
	.dma = drive_dma,
	.dma_failed = drive_dma_failed,
	.next = drive_next,
};

/* ---- command block ---- */

static bool decoding(const struct channel *c)
{
	const uint8_t *config = c->ide->pci.config;

	return (config[COMMAND] & COMMAND_IO) && (config[IDETIM + 2 * c->number + 1] & IDETIM_DECODE);
}

/* One of the drives waits for its disk, because of another vCPU: both are busy. */
static bool draining(const struct channel *c)
{
	return (c->drive[0] && c->drive[0]->draining) || (c->drive[1] && c->drive[1]->draining);
}

/* No drive 1: drive 0 answers for it with zeros. No drive at all: nobody does. */
static uint8_t absent(const struct channel *c) { return c->drive[0] || c->drive[1] ? 0 : NOBODY; }

static uint8_t register_read(struct channel *c, unsigned reg)
{
	struct ata_drive *d = c->drive[c->selected];
	unsigned hob = c->control & CONTROL_HOB ? 1 : 0;

	if (!d)
		return absent(c);
	const struct ata_registers *r = &d->regs;
	if ((r->status & ATA_BSY) && reg != STATUS_COMMAND)
		return r->status; /* all registers read as status */
	switch (reg) {
	case ERROR_FEATURE:
		return r->error;
	case COUNT:
		return r->count[hob];
	case LBA_LOW:
	case LBA_MID:
	case LBA_HIGH:
		return r->lba[reg - LBA_LOW + 3 * hob];
	case DEVICE:
		return (uint8_t)((r->device & ~ATA_DEVICE_DEV) | 0xa0 | (c->selected ? ATA_DEVICE_DEV : 0));
	case STATUS_COMMAND:
		set_intrq(c, c->selected, false);
		return r->status;
	}
	return 0xff;
}

static void diagnose(struct channel *c)
{
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (c->drive[n]) {
			ata_drive_reset(c->drive[n]);
			c->intrq[n] = false;
		}
	c->selected = 0;
	if (c->drive[0])
		set_intrq(c, 0, true);
	else
		update_irq(c);
}

static void execute(struct channel *c, uint8_t command)
{
	struct ata_drive *d = c->drive[c->selected];

	if (command == ATA_COMMAND_DIAGNOSTIC) {
		diagnose(c);
		return;
	}
	if (!d)
		return;
	if (d->phase != ATA_IDLE && !(command == ATA_COMMAND_DEVICE_RESET && ata_is_packet(d)))
		return;
	set_intrq(c, c->selected, false);
	d->regs.command = command;
	ata_drive_execute(d);
}

static void write_register(struct ata_registers *r, unsigned reg, uint8_t v)
{
	switch (reg) {
	case ERROR_FEATURE:
		r->feature[1] = r->feature[0];
		r->feature[0] = v;
		break;
	case COUNT:
		r->count[1] = r->count[0];
		r->count[0] = v;
		break;
	case LBA_LOW:
	case LBA_MID:
	case LBA_HIGH:
		r->lba[reg - LBA_LOW + 3] = r->lba[reg - LBA_LOW];
		r->lba[reg - LBA_LOW] = v;
		break;
	case DEVICE:
		r->device = v;
		break;
	}
}

static void register_write(struct channel *c, unsigned reg, uint8_t v)
{
	struct ata_drive *d = c->drive[c->selected];

	c->control &= (uint8_t)~CONTROL_HOB;
	if (reg == STATUS_COMMAND) {
		execute(c, v);
		return;
	}
	if (d && d->phase != ATA_IDLE)
		return;
	/* Both drives hear it. */
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (c->drive[n] && c->drive[n]->phase == ATA_IDLE)
			write_register(&c->drive[n]->regs, reg, v);
	if (reg == DEVICE) {
		c->selected = v & ATA_DEVICE_DEV ? 1 : 0;
		update_irq(c);
	}
}

static uint64_t command_read(void *dev, uint64_t offset, unsigned size)
{
	struct channel *c = dev;
	struct ata_drive *d = c->drive[c->selected];
	uint64_t value = 0;

	if (!decoding(c))
		return UINT64_MAX;
	if (draining(c))
		return ATA_BSY;
	if (offset == DATA)
		return d ? ata_drive_pio_read(d, size > 2 ? 4 : 2) : absent(c) * 0x01010101u;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)register_read(c, (unsigned)offset + i) << 8 * i;
	return value;
}

static void command_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct channel *c = dev;
	struct ata_drive *d = c->drive[c->selected];

	if (!decoding(c) || draining(c))
		return;
	if (offset == DATA) {
		if (d)
			ata_drive_pio_write(d, (uint32_t)value, size > 2 ? 4 : 2);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		register_write(c, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
}

static const struct bus_ops command_ops = {.read = command_read, .write = command_write, .max_size = 4};

/* ---- control block ---- */

static uint64_t control_read(void *dev, uint64_t offset, unsigned size)
{
	struct channel *c = dev;

	(void)offset;
	(void)size;
	if (!decoding(c))
		return UINT64_MAX;
	if (draining(c))
		return ATA_BSY;
	return c->drive[c->selected] ? c->drive[c->selected]->regs.status : absent(c);
}

static void control_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct channel *c = dev;
	uint8_t old = c->control;

	(void)offset;
	(void)size;
	if (!decoding(c) || draining(c))
		return;
	c->control = (uint8_t)value;
	if (!(old & CONTROL_SRST) && (c->control & CONTROL_SRST)) {
		for (unsigned n = 0; n < IDE_DRIVES; n++) {
			c->intrq[n] = false;
			if (!c->drive[n])
				continue;
			ata_drive_reset(c->drive[n]);
			c->drive[n]->phase = ATA_BUSY; /* as long as SRST is set */
			c->drive[n]->regs.status = ATA_BSY;
		}
		c->selected = 0;
	} else if ((old & CONTROL_SRST) && !(c->control & CONTROL_SRST)) {
		for (unsigned n = 0; n < IDE_DRIVES; n++)
			if (c->drive[n])
				ata_drive_reset(c->drive[n]);
	}
	update_irq(c);
}

static const struct bus_ops control_ops = {.read = control_read, .write = control_write, .max_size = 1};

/* ---- bus master ---- */

static void start_engine(struct channel *c)
{
	c->next = 0;
	c->last = false;
	c->bm_status |= BM_ACTIVE;
	try_dma(c);
}

static void stop_engine(struct channel *c)
{
	c->bm_status &= (uint8_t)~BM_ACTIVE;
	for (unsigned n = 0; n < IDE_DRIVES; n++)
		if (c->drive[n] && c->drive[n]->phase == ATA_MOVING)
			ata_drive_stop_dma(c->drive[n]);
}

static uint64_t bm_read(void *dev, uint64_t offset, unsigned size)
{
	struct ide *ide = dev;
	struct channel *c = &ide->channel[offset / BM_SIZE];
	const uint8_t reg[BM_SIZE] = {c->bm_command, 0, c->bm_status, 0, (uint8_t)c->table, (uint8_t)(c->table >> 8),
				      (uint8_t)(c->table >> 16), (uint8_t)(c->table >> 24)};
	uint64_t value = 0;

	for (unsigned i = 0; i < size && offset % BM_SIZE + i < BM_SIZE; i++)
		value |= (uint64_t)reg[offset % BM_SIZE + i] << 8 * i;
	return value;
}

static void bm_write_byte(struct channel *c, unsigned reg, uint8_t v)
{
	switch (reg) {
	case BM_COMMAND: {
		bool was = c->bm_command & BM_START;

		if (c->bm_status & BM_ACTIVE) /* the direction is not changed in the middle */
			v = (uint8_t)((v & ~BM_TO_MEMORY) | (c->bm_command & BM_TO_MEMORY));
		c->bm_command = v & (BM_START | BM_TO_MEMORY);
		if (!was && (v & BM_START))
			start_engine(c);
		else if (was && !(v & BM_START))
			stop_engine(c);
		break;
	}
	case BM_STATUS: /* ones clear error and interrupt */
		c->bm_status &= (uint8_t)~(BM_CAPABLE | (v & (BM_ERROR | BM_INTERRUPT)));
		c->bm_status |= v & BM_CAPABLE;
		break;
	case BM_TABLE:
	case BM_TABLE + 1:
	case BM_TABLE + 2:
	case BM_TABLE + 3: {
		unsigned shift = 8 * (reg - BM_TABLE);

		if (!(c->bm_status & BM_ACTIVE))
			c->table = (c->table & ~(0xffu << shift)) | (uint32_t)(reg == BM_TABLE ? v & 0xfc : v) << shift;
		break;
	}
	}
}

static void bm_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct ide *ide = dev;

	if (draining(&ide->channel[0]) || draining(&ide->channel[1]))
		return;
	for (unsigned i = 0; i < size && offset + i < IDE_CHANNELS * BM_SIZE; i++)
		bm_write_byte(&ide->channel[(offset + i) / BM_SIZE], (unsigned)(offset + i) % BM_SIZE,
			      (uint8_t)(value >> 8 * i));
}

static const struct bus_ops bm_ops = {.read = bm_read, .write = bm_write, .max_size = 4};

/* ---- life ---- */

static int new_channel(struct ide *ide, unsigned n, const struct ide_config *config)
{
	struct channel *c = &ide->channel[n];
	int r;

	c->ide = ide;
	c->number = n;
	c->irq = config->irq[n];
	for (unsigned i = 0; i < IDE_DRIVES; i++) {
		const struct ide_drive_config *dc = &config->drive[n][i];
		const struct ata_config drive = {
			.block = dc->block,
			.cdrom = dc->cdrom,
			.serial = dc->serial,
			.pci = &ide->pci,
			.ops = &drive_ops,
			.opaque = c,
		};

		if (!dc->block && !dc->cdrom)
			continue;
		c->drive[i] = ata_drive_new(&drive);
		if (!c->drive[i])
			return -errno;
	}
	if ((r = bus_register(ide->pio, command_ports[n], COMMAND_BLOCK, &command_ops, c, "ide")) < 0)
		return r;
	return bus_register(ide->pio, control_ports[n], 1, &control_ops, c, "ide control");
}

struct ide *ide_new(const struct ide_config *config)
{
	static const struct pci_info info = {
		.name = "piix3-ide", .vendor = 0x8086, .device = 0x7010, .class_code = 0x010180, .multifunction = true};
	struct ide *ide = calloc(1, sizeof *ide);
	int r;

	if (!ide)
		return NULL;
	ide->pio = config->pio;
	r = pci_device_init(&ide->pci, config->bus, (int)config->devfn, &info, NULL, ide);
	if (r == 0) {
		pci_put16(ide->pci.config + STATUS, STATUS_MEDIUM);
		for (unsigned i = 0; i < 4; i++)
			ide->pci.writable[IDETIM + i] = 0xff;
		ide->pci.writable[IDETIM + 1] = ide->pci.writable[IDETIM + 3] = 0xf3;
		ide->pci.writable[SIDETIM] = 0xff;
		for (unsigned n = 0; n < IDE_CHANNELS; n++)
			ide->pci.config[IDETIM + 2 * n + 1] = IDETIM_DECODE;
		pci_add_bar(&ide->pci, 4, PCI_BAR_IO, IDE_CHANNELS * BM_SIZE, &bm_ops, ide);
	}
	for (unsigned n = 0; n < IDE_CHANNELS && r == 0; n++)
		r = new_channel(ide, n, config);
	if (r < 0) {
		ide_free(ide);
		errno = -r;
		return NULL;
	}
	return ide;
}

void ide_free(struct ide *ide)
{
	if (!ide)
		return;
	for (unsigned n = 0; n < IDE_CHANNELS; n++) {
		struct channel *c = &ide->channel[n];

		for (unsigned i = 0; i < IDE_DRIVES; i++)
			ata_drive_free(c->drive[i]);
		if (c->ide) {
			bus_unregister(ide->pio, command_ports[n]);
			bus_unregister(ide->pio, control_ports[n]);
		}
	}
	pci_device_free(&ide->pci);
	free(ide);
}
