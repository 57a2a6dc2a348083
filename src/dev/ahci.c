/*
 * AHCI. See ahci.h.
 *
 * A port fetches a command when PxCI is written and when one has ended. Commands that are not queued run one at a time,
 * in order of their slots from the last one up; queued ones all at once. A command that fails stops its port until the
 * driver clears PxCMD.ST, as the specification has it. Links are up as soon as they are asked for, at 3 Gb/s.
 */
#include "dev/ahci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/ata.h"
#include "util/log.h"

#define SLOTS 32u
#define BAR 5u
#define BAR_SIZE 4096u
#define PORT_BASE 0x100u
#define PORT_SIZE 0x80u

/* The controller's registers */
enum { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0c, VS = 0x10 };
#define CAP_VALUE (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | (SLOTS - 1) << 8 | (AHCI_PORTS - 1))
#define GHC_AE 0x80000000u
#define GHC_IE 0x2u
#define GHC_HR 0x1u
#define VERSION 0x00010300u

/* A port's */
enum {
	PX_CLB = 0x00, PX_CLBU = 0x04, PX_FB = 0x08, PX_FBU = 0x0c, PX_IS = 0x10, PX_IE = 0x14, PX_CMD = 0x18,
	PX_TFD = 0x20, PX_SIG = 0x24, PX_SSTS = 0x28, PX_SCTL = 0x2c, PX_SERR = 0x30, PX_SACT = 0x34, PX_CI = 0x38,
};
#define IS_DHRS 0x00000001u
#define IS_PSS 0x00000002u
#define IS_SDBS 0x00000008u
#define IS_DPS 0x00000020u
#define IS_PCS 0x00000040u  /* follows SERR_DIAG_X */
#define IS_PRCS 0x00400000u /* follows SERR_DIAG_N */
#define IS_OFS 0x01000000u
#define IS_HBFS 0x20000000u
#define IS_TFES 0x40000000u
#define IS_CLEARABLE 0xfd8000afu
#define IE_WRITABLE 0xfdc000ffu
#define CMD_ST 0x00000001u
#define CMD_SUD 0x00000002u
#define CMD_POD 0x00000004u
#define CMD_CLO 0x00000008u
#define CMD_FRE 0x00000010u
#define CMD_CCS_SHIFT 8
#define CMD_FR 0x00004000u
#define CMD_CR 0x00008000u
#define CMD_ATAPI 0x01000000u
#define CMD_DLAE 0x02000000u
#define CMD_WRITABLE (CMD_ST | CMD_FRE | CMD_ATAPI | CMD_DLAE)
#define SCTL_DET 0x00fu
#define SCTL_SPD 0x0f0u
#define SCTL_WRITABLE 0xfffu
#define DET_COMRESET 1u
#define DET_OFFLINE 4u
#define SSTS_UP(speed) (0x103u | (speed) << 4) /* active, communication established */
#define SPEED 2u
#define SERR_DIAG_N 0x00010000u
#define SERR_DIAG_X 0x04000000u
#define SERR_BITS 0x07ff0f03u
#define TFD_NONE 0x7fu
#define SIG_NONE 0xffffffffu

/* In memory */
#define HEADER_SIZE 32u
#define HEADER_PRDBC 4u
#define TABLE_PACKET 0x40u
#define TABLE_PRDT 0x80u
#define PRD_SIZE 16u
#define RECEIVED_PIO 0x20u
#define RECEIVED_D2H 0x40u
#define RECEIVED_SDB 0x58u

enum { FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_PIO = 0x5f, FIS_SDB = 0xa1 };
#define FIS_COMMAND 0x80
#define FIS_INTERRUPT 0x40
#define FIS_TO_HOST 0x20
#define FIS_SIZE 20u
#define FIS_SDB_SIZE 8u
#define CONTROL_SRST 0x04

/* A command's way through its PRD table. */
struct cursor {
	struct port *port;
	uint64_t header, table; /* addresses */
	unsigned entries, at;
	uint64_t given; /* bytes of the entries that were read */
	bool interrupt; /* one of them asked for one */
};

struct port {
	struct ahci *ahci;
	unsigned number;
	struct ata_drive *drive; /* NULL: none */
	uint32_t clb, clbu, fb, fbu, is, ie, cmd, tfd, sig, sctl, serr, sact, ci;
	bool link;              /* the drive answered */
	bool signature_waits;   /* its first FIS, until FIS reception is enabled */
	bool srst;              /* between the two FISes of a software reset */
	bool stopped;           /* by an error, until ST is cleared */
	int slot;               /* of the command that runs and is not queued; -1: none */
	bool fetching;          /* in fetch */
	struct cursor cursor[SLOTS]; /* by slot */
	uint8_t slot_of[SLOTS]; /* by tag of a queued command */
};

struct ahci {
	struct pci_device pci;
	uint32_t ghc, is;
	struct port port[AHCI_PORTS];
};

static void fetch(struct port *p);

/* ---- interrupts ---- */

static uint32_t port_is(const struct port *p)
{
	return p->is | (p->serr & SERR_DIAG_X ? IS_PCS : 0) | (p->serr & SERR_DIAG_N ? IS_PRCS : 0);
}

/* `again`: what is still pending is told by a new message, as the driver has just acknowledged. */
static void update_irq(struct ahci *a, bool again)
{
	uint32_t before = again ? 0 : a->is;

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (port_is(&a->port[i]) & a->port[i].ie)
			a->is |= 1u << i;
	bool on = a->ghc & GHC_IE;
	if (pci_msi_enabled(&a->pci)) {
		if (on && (a->is & ~before))
			pci_send_msi(&a->pci, 0);
	} else {
		pci_set_intx(&a->pci, on && a->is);
	}
}

static void raise(struct port *p, uint32_t bits)
{
	p->is |= bits;
	update_irq(p->ahci, false);
}

/* ---- received FISes ---- */

static uint64_t address(uint32_t low, uint32_t high) { return low | (uint64_t)high << 32; }

static void post(struct port *p, unsigned offset, const uint8_t *fis, unsigned size)
{
	if (!(p->cmd & CMD_FRE))
		return;
	if (pci_dma_write(&p->ahci->pci, address(p->fb, p->fbu) + offset, fis, size) < 0) {
		p->stopped = true;
		raise(p, IS_HBFS);
	}
}

static void put_registers(uint8_t *fis, const struct ata_registers *r)
{
	fis[2] = r->status;
	fis[3] = r->error;
	memcpy(fis + 4, r->lba, 3);
	fis[7] = r->device;
	memcpy(fis + 8, r->lba + 3, 3);
	fis[12] = r->count[0];
	fis[13] = r->count[1];
}

static void set_taskfile(struct port *p, uint8_t status, uint8_t error)
{
	p->tfd = (uint32_t)error << 8 | status;
}

static void post_d2h(struct port *p, bool interrupt)
{
	const struct ata_registers *r = &p->drive->regs;
	uint8_t fis[FIS_SIZE] = {FIS_D2H, interrupt ? FIS_INTERRUPT : 0};

	put_registers(fis, r);
	set_taskfile(p, r->status, r->error);
	post(p, RECEIVED_D2H, fis, sizeof fis);
	if (r->status & ATA_ERR) {
		p->stopped = true;
		p->is |= IS_TFES;
	}
	raise(p, interrupt ? IS_DHRS : 0);
}

static void post_pio_setup(struct port *p, uint64_t bytes)
{
	const struct ata_registers *r = &p->drive->regs;
	uint8_t fis[FIS_SIZE] = {FIS_PIO, FIS_INTERRUPT | FIS_TO_HOST};

	put_registers(fis, r);
	fis[2] = ATA_DRDY | ATA_DSC | ATA_DRQ;
	fis[15] = r->status; /* after the data */
	pci_put16(fis + 16, (uint16_t)(bytes < BLOCK_SECTOR ? bytes : BLOCK_SECTOR)); /* the last block of data's */
	set_taskfile(p, r->status, r->error);
	post(p, RECEIVED_PIO, fis, sizeof fis);
	raise(p, IS_PSS);
}

/* The drive's first FIS after a reset. */
static void post_signature(struct port *p)
{
	const struct ata_registers *r = &p->drive->regs;

	if (!(p->cmd & CMD_FRE)) {
		p->signature_waits = true;
		return;
	}
	p->signature_waits = false;
	p->sig = r->count[0] | (uint32_t)r->lba[0] << 8 | (uint32_t)r->lba[1] << 16 | (uint32_t)r->lba[2] << 24;
	post_d2h(p, false);
}

/* ---- what the drive asks of its port ---- */

static int port_next(void *opaque, uint64_t *gpa, uint32_t *len)
{
	struct cursor *c = opaque;
	uint8_t prd[PRD_SIZE];

	if (c->at == c->entries)
		return -ENODATA;
	if (pci_dma_read(&c->port->ahci->pci, c->table + TABLE_PRDT + (uint64_t)c->at * PRD_SIZE, prd, sizeof prd) < 0)
		return -EFAULT;
	c->at++;
	*gpa = address(pci_get32(prd) & ~1u, pci_get32(prd + 4));
	*len = ((pci_get32(prd + 12) & 0x3fffff) | 1) + 1;
	c->given += *len;
	c->interrupt |= prd[15] >> 7;
	return 0;
}

static int drive_next(void *opaque, uint64_t *gpa, uint32_t *len)
{
	struct port *p = opaque;

	return port_next(&p->cursor[p->slot], gpa, len);
}

static void drive_finished(void *opaque, bool interrupt)
{
	struct port *p = opaque;
	struct ata_drive *d = p->drive;

	if (p->slot < 0)
		return;
	struct cursor *c = &p->cursor[p->slot];
	uint64_t moved = c->given - d->transfer.table.left;
	uint8_t count[4];

	pci_put32(count, (uint32_t)moved);
	pci_dma_write(&p->ahci->pci, c->header + HEADER_PRDBC, count, sizeof count);
	if (c->interrupt)
		p->is |= IS_DPS;
	if (!(d->regs.status & ATA_ERR))
		p->ci &= ~(1u << p->slot);
	p->slot = -1;
	if (d->pio && d->to_host && moved && !(d->regs.status & ATA_ERR) && d->regs.command != ATA_COMMAND_PACKET)
		post_pio_setup(p, moved);
	else
		post_d2h(p, interrupt);
	fetch(p);
}

static void drive_dma(void *opaque)
{
	struct port *p = opaque;

	ata_drive_dma(p->drive);
}

static void drive_dma_failed(void *opaque, int result)
{
	struct port *p = opaque;

	LOG(LOG_ATA, "ahci%u: DMA failed: error %d", p->number, -result);
	p->is |= result == -ENODATA ? IS_OFS : IS_HBFS;
	ata_drive_abort(p->drive);
}

static void post_sdb(struct port *p, unsigned tag, bool failed)
{
	const struct ata_registers *r = &p->drive->queue_error_regs;
	uint8_t fis[FIS_SDB_SIZE] = {FIS_SDB, FIS_INTERRUPT};

	if (failed) {
		fis[2] = r->status & 0x77;
		fis[3] = r->error;
		set_taskfile(p, (uint8_t)((p->tfd & 0x88) | (r->status & 0x77)), r->error);
		p->stopped = true;
		p->is |= IS_TFES;
	} else {
		fis[2] = (ATA_DRDY | ATA_DSC) & 0x77;
		pci_put32(fis + 4, 1u << tag);
		p->sact &= ~(1u << tag);
	}
	post(p, RECEIVED_SDB, fis, sizeof fis);
	raise(p, IS_SDBS);
}

static void drive_queued_finished(void *opaque, unsigned tag, int result)
{
	struct port *p = opaque;
	struct cursor *c = &p->cursor[p->slot_of[tag]];

	if (p->stopped) /* another one failed: the driver looks at PxSACT, and issues this one again */
		return;
	if (c->interrupt)
		p->is |= IS_DPS;
	if (result == -EFAULT)
		p->is |= IS_HBFS;
	else if (result == -ENODATA)
		p->is |= IS_OFS;
	post_sdb(p, tag, result < 0);
	fetch(p);
}

static const struct ata_drive_ops drive_ops = {
	.finished = drive_finished,
	.dma = drive_dma,
	.dma_failed = drive_dma_failed,
	.next = drive_next,
	.queued_finished = drive_queued_finished,
};

/* ---- commands ---- */

static void get_registers(struct ata_registers *r, const uint8_t *fis)
{
	r->command = fis[2];
	r->feature[0] = fis[3];
	memcpy(r->lba, fis + 4, 3);
	r->device = fis[7];
	memcpy(r->lba + 3, fis + 8, 3);
	r->feature[1] = fis[11];
	r->count[0] = fis[12];
	r->count[1] = fis[13];
}

static void set_busy(struct port *p) { p->tfd = (p->tfd & ~0xffu) | ATA_BSY | ATA_DRDY; }

/* A FIS that only changes the device control register: both ends of a software reset. */
static void control_fis(struct port *p, unsigned slot, const uint8_t *fis)
{
	bool srst = fis[15] & CONTROL_SRST;

	p->ci &= ~(1u << slot);
	if (srst) {
		ata_drive_reset(p->drive);
		p->sact = 0;
	} else if (p->srst) {
		post_signature(p);
	}
	p->srst = srst;
}

static void queue(struct port *p, unsigned slot, const uint8_t *fis)
{
	const struct ata_table table = {.next = port_next, .opaque = &p->cursor[slot]};
	struct ata_registers r = {0};

	get_registers(&r, fis);
	unsigned tag = r.count[0] >> 3;
	p->slot_of[tag] = (uint8_t)slot;
	p->ci &= ~(1u << slot); /* the drive has taken it */
	int result = ata_drive_queue(p->drive, &r, &table);
	if (result == 0)
		return;
	LOG(LOG_ATA, "ahci%u: queued command %#x, tag %u: error %d", p->number, r.command, tag, -result);
	p->drive->queue_error = true;
	p->drive->queue_error_tag = (uint8_t)tag;
	p->drive->queue_error_regs = r;
	p->drive->queue_error_regs.status = ATA_DRDY | ATA_ERR;
	p->drive->queue_error_regs.error = ATA_ERROR_ABRT | (result == -EINVAL ? ATA_ERROR_IDNF : 0);
	if (result == -EFAULT)
		p->is |= IS_HBFS;
	else if (result == -ENODATA)
		p->is |= IS_OFS;
	post_sdb(p, tag, true);
}

/* Fetches the command of a slot and starts it. */
static void start(struct port *p, unsigned slot)
{
	struct cursor *c = &p->cursor[slot];
	uint8_t header[HEADER_SIZE], fis[FIS_SIZE], packet[ATA_PACKET_SIZE];

	p->cmd = (p->cmd & ~(31u << CMD_CCS_SHIFT)) | slot << CMD_CCS_SHIFT;
	*c = (struct cursor){.port = p, .header = address(p->clb, p->clbu) + slot * HEADER_SIZE};
	if (pci_dma_read(&p->ahci->pci, c->header, header, sizeof header) < 0)
		goto bus_error;
	c->table = address(pci_get32(header + 8) & ~0x7fu, pci_get32(header + 12));
	c->entries = pci_get16(header + 2);
	if (pci_dma_read(&p->ahci->pci, c->table, fis, sizeof fis) < 0 ||
	    pci_dma_read(&p->ahci->pci, c->table + TABLE_PACKET, packet, sizeof packet) < 0)
		goto bus_error;
	if (fis[0] != FIS_H2D) { /* no drive answers to it; the driver's timeout ends it */
		p->stopped = true;
		return;
	}
	if (!(fis[1] & FIS_COMMAND)) {
		control_fis(p, slot, fis);
		return;
	}
	if ((fis[2] == ATA_COMMAND_READ_QUEUED || fis[2] == ATA_COMMAND_WRITE_QUEUED) && !ata_is_packet(p->drive)) {
		queue(p, slot, fis);
		return;
	}
	p->slot = (int)slot;
	set_busy(p);
	get_registers(&p->drive->regs, fis);
	if (fis[2] == ATA_COMMAND_PACKET)
		ata_drive_packet(p->drive, packet);
	else
		ata_drive_execute(p->drive);
	return;

bus_error:
	p->stopped = true;
	raise(p, IS_HBFS);
}

static bool is_queued(struct port *p, unsigned slot) { return p->sact >> slot & 1; }

/* Starts what can be started. */
static void fetch(struct port *p)
{
	if (p->fetching)
		return;
	p->fetching = true;
	/* A slot a turn, from the one after the last: CI cannot keep it going, as nothing sets it meanwhile. */
	while ((p->cmd & CMD_ST) && !p->stopped && p->slot < 0 && p->link && !(p->tfd & (ATA_BSY | ATA_DRQ)) && p->ci) {
		unsigned last = p->cmd >> CMD_CCS_SHIFT & 31, slot = last;

		do
			slot = (slot + 1) % SLOTS;
		while (!(p->ci >> slot & 1));
		/* What is not queued waits for what is. */
		if (!is_queued(p, slot) && p->drive->queued)
			break;
		start(p, slot);
	}
	p->fetching = false;
}

/* ST was cleared: nothing runs, nothing is issued. */
static void stop(struct port *p)
{
	if (p->drive)
		ata_drive_cancel(p->drive);
	p->slot = -1;
	p->ci = p->sact = 0;
	p->stopped = false;
	p->cmd &= ~(31u << CMD_CCS_SHIFT);
}

/* ---- links ---- */

static void comreset(struct port *p)
{
	stop(p);
	p->srst = false;
	p->signature_waits = false;
	p->sig = SIG_NONE;
	p->tfd = TFD_NONE;
	p->link = p->drive && (p->sctl & SCTL_DET) == 0;
	if (!p->link)
		return;
	ata_drive_reset(p->drive);
	p->serr |= SERR_DIAG_X | SERR_DIAG_N;
	p->tfd = ATA_BSY;
	post_signature(p);
	update_irq(p->ahci, false);
}

static uint32_t sata_status(const struct port *p)
{
	uint32_t limit = (p->sctl & SCTL_SPD) >> 4;

	if ((p->sctl & SCTL_DET) == DET_OFFLINE)
		return DET_OFFLINE;
	if (!p->drive)
		return 0;
	if (!p->link)
		return 1; /* it is there, and does not communicate */
	return SSTS_UP(limit && limit < SPEED ? limit : SPEED);
}

static void write_sctl(struct port *p, uint32_t v)
{
	uint32_t before = p->sctl & SCTL_DET, now = v & SCTL_DET;

	p->sctl = v & SCTL_WRITABLE;
	if (before == now)
		return;
	if (now == DET_COMRESET || now == DET_OFFLINE) {
		stop(p);
		p->link = false;
		p->tfd = now == DET_COMRESET && p->drive ? ATA_BSY | TFD_NONE : TFD_NONE;
	} else if (now == 0) {
		comreset(p);
	}
}

/* ---- registers ---- */

static void write_command(struct port *p, uint32_t v)
{
	uint32_t before = p->cmd;

	p->cmd = (before & ~CMD_WRITABLE) | (v & CMD_WRITABLE);
	if (v & CMD_CLO) /* only while ST is clear */
		if (!(before & CMD_ST))
			p->tfd &= ~(uint32_t)(ATA_BSY | ATA_DRQ);
	if ((before & CMD_ST) && !(v & CMD_ST))
		stop(p);
	if (p->signature_waits && (p->cmd & CMD_FRE))
		post_signature(p);
	fetch(p);
}

static uint32_t port_read(const struct port *p, unsigned reg)
{
	switch (reg) {
	case PX_CLB: return p->clb;
	case PX_CLBU: return p->clbu;
	case PX_FB: return p->fb;
	case PX_FBU: return p->fbu;
	case PX_IS: return port_is(p);
	case PX_IE: return p->ie;
	case PX_CMD:
		return p->cmd | CMD_SUD | CMD_POD | (p->cmd & CMD_FRE ? CMD_FR : 0) | (p->cmd & CMD_ST ? CMD_CR : 0);
	case PX_TFD: return p->tfd;
	case PX_SIG: return p->sig;
	case PX_SSTS: return sata_status(p);
	case PX_SCTL: return p->sctl;
	case PX_SERR: return p->serr;
	case PX_SACT: return p->sact;
	case PX_CI: return p->ci;
	}
	return 0;
}

static void port_write(struct port *p, unsigned reg, uint32_t v)
{
	switch (reg) {
	case PX_CLB: p->clb = v & ~0x3ffu; break;
	case PX_CLBU: p->clbu = v; break;
	case PX_FB: p->fb = v & ~0xffu; break;
	case PX_FBU: p->fbu = v; break;
	case PX_IS:
		p->is &= ~(v & IS_CLEARABLE);
		update_irq(p->ahci, false);
		break;
	case PX_IE:
		p->ie = v & IE_WRITABLE;
		update_irq(p->ahci, false);
		break;
	case PX_CMD: write_command(p, v); break;
	case PX_SCTL: write_sctl(p, v); break;
	case PX_SERR:
		p->serr &= ~(v & SERR_BITS);
		update_irq(p->ahci, false);
		break;
	case PX_SACT:
		if (p->cmd & CMD_ST)
			p->sact |= v;
		break;
	case PX_CI:
		if (p->cmd & CMD_ST)
			p->ci |= v;
		fetch(p);
		break;
	}
}

/* As after power-on, but for where the lists are, which a reset by GHC.HR leaves. */
static void reset(struct ahci *a)
{
	a->ghc = GHC_AE;
	a->is = 0;
	for (unsigned i = 0; i < AHCI_PORTS; i++) {
		struct port *p = &a->port[i];

		p->is = p->ie = p->cmd = p->sctl = p->serr = 0;
		comreset(p);
	}
	update_irq(a, false);
}

static uint32_t global_read(const struct ahci *a, unsigned reg)
{
	switch (reg) {
	case CAP: return CAP_VALUE;
	case GHC: return a->ghc;
	case IS: return a->is;
	case PI: return (1u << AHCI_PORTS) - 1;
	case VS: return VERSION;
	}
	return 0;
}

static void global_write(struct ahci *a, unsigned reg, uint32_t v)
{
	switch (reg) {
	case GHC:
		if (v & GHC_HR) {
			reset(a);
			return;
		}
		a->ghc = GHC_AE | (v & GHC_IE);
		update_irq(a, true);
		break;
	case IS:
		a->is &= ~v;
		update_irq(a, true);
		break;
	}
}

static uint32_t reg_read(const struct ahci *a, unsigned offset)
{
	if (offset < PORT_BASE)
		return global_read(a, offset);
	unsigned n = (offset - PORT_BASE) / PORT_SIZE;
	return n < AHCI_PORTS ? port_read(&a->port[n], offset % PORT_SIZE) : 0;
}

/* Bits that a written 1 clears or sets: the rest of the register keeps what it has when only a part is written. */
static bool is_written_by_ones(unsigned offset)
{
	unsigned reg = offset % PORT_SIZE;

	return offset < PORT_BASE ? offset == IS : reg == PX_IS || reg == PX_SERR || reg == PX_SACT || reg == PX_CI;
}

static uint64_t ahci_read(void *dev, uint64_t offset, unsigned size)
{
	unsigned shift = 8 * (offset & 3);

	(void)size;
	return reg_read(dev, (unsigned)offset & ~3u) >> shift;
}

/* A drive waits for its disk, because of another vCPU. */
static bool draining(const struct port *p) { return p->drive && p->drive->draining; }

static bool any_draining(const struct ahci *a)
{
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (draining(&a->port[i]))
			return true;
	return false;
}

static void ahci_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct ahci *a = dev;
	unsigned reg = (unsigned)offset & ~3u, shift = 8 * (offset & 3);
	uint64_t mask = ((1ull << 8 * size) - 1) << shift;
	uint32_t v = (uint32_t)(value << shift & mask);

	if (!is_written_by_ones(reg))
		v |= reg_read(a, reg) & (uint32_t)~mask;
	if (reg < PORT_BASE) {
		if (!(reg == GHC && (v & GHC_HR) && any_draining(a)))
			global_write(a, reg, v);
		return;
	}
	unsigned n = (reg - PORT_BASE) / PORT_SIZE;
	if (n < AHCI_PORTS && !draining(&a->port[n]))
		port_write(&a->port[n], reg % PORT_SIZE, v);
}

static const struct bus_ops ops = {.read = ahci_read, .write = ahci_write, .max_size = 4};

/* ---- life ---- */

static int new_port(struct ahci *a, unsigned n, const struct ahci_drive_config *config)
{
	struct port *p = &a->port[n];
	const struct ata_config drive = {
		.block = config->block,
		.cdrom = config->cdrom,
		.sata = true,
		.serial = config->serial,
		.pci = &a->pci,
		.ops = &drive_ops,
		.opaque = p,
	};

	p->ahci = a;
	p->number = n;
	p->slot = -1;
	if (!config->block && !config->cdrom)
		return 0;
	p->drive = ata_drive_new(&drive);
	return p->drive ? 0 : -errno;
}

/* The chip's own registers in configuration space: it is in AHCI mode, its ports are enabled. */
static void set_config(struct pci_device *d)
{
	enum { MAP = 0x90, PCS = 0x92 };

	pci_put16(d->config + 0x06, pci_get16(d->config + 0x06) | 0x0280);
	d->config[MAP] = 0x40;
	pci_put16(d->config + PCS, (1u << AHCI_PORTS) - 1);
	pci_put16(d->writable + PCS, (1u << AHCI_PORTS) - 1);
}

struct ahci *ahci_new(const struct ahci_config *config)
{
	static const struct pci_info info = {.name = "ahci", .vendor = 0x8086, .device = 0x2922, .class_code = 0x010601,
					     .revision = 2, .interrupt_pin = 1};
	struct ahci *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	int r = pci_device_init(&a->pci, config->bus, config->devfn, &info, NULL, a);
	if (r == 0) {
		set_config(&a->pci);
		pci_add_bar(&a->pci, BAR, PCI_BAR_MEMORY32, BAR_SIZE, &ops, a);
		r = pci_add_msi(&a->pci, 1);
	}
	for (unsigned i = 0; i < AHCI_PORTS && r == 0; i++)
		r = new_port(a, i, &config->drive[i]);
	if (r < 0) {
		ahci_free(a);
		errno = -r;
		return NULL;
	}
	reset(a);
	return a;
}

void ahci_free(struct ahci *a)
{
	if (!a)
		return;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ata_drive_free(a->port[i].drive);
	pci_device_free(&a->pci);
	free(a);
}
