/*
 * AHCI: links and resets, commands of every kind, queued ones that end in any order, errors, interrupts and messages.
 */
#include "dev/ahci.h"

#include "ata_fixture.h"

#define ABAR 0xe0000000u
#define PORT(n) (ABAR + 0x100 + (n) * 0x80)
#define DEVFN PCI_DEVFN(0, 0)
#define LIST 0x10000u
#define FISES 0x11000u
#define TABLE(slot) (0x20000u + (slot) * 0x2000u)

enum { CLB = 0, FB = 8, IS = 0x10, IE = 0x14, CMD = 0x18, TFD = 0x20, SIG = 0x24, SSTS = 0x28, SCTL = 0x2c, SERR = 0x30,
       SACT = 0x34, CI = 0x38 };
enum { DHRS = 1, PSS = 2, SDBS = 8, DPS = 0x20, PCS = 0x40, PRCS = 0x400000 };
enum { OFS = 1 << 24, HBFS = 1 << 29, TFES = 1 << 30 };
enum { OK = 0x50, ERR = 0x51 };

static struct ahci *ahci;
static struct block *disk, *disc;
static unsigned prds; /* of the command that is built */

static uint32_t px(unsigned port, unsigned reg) { return (uint32_t)mmio_in(PORT(port) + reg, 4); }
static void set_px(unsigned port, unsigned reg, uint32_t v) { mmio_out(PORT(port) + reg, 4, v); }

static void start_port(unsigned n)
{
	set_px(n, CLB, LIST);
	set_px(n, FB, FISES);
	set_px(n, CMD, 0x10);
	set_px(n, SERR, 0xffffffff);
	set_px(n, IS, 0xffffffff);
	set_px(n, IE, 0xfdc000ff);
	set_px(n, CMD, 0x11);
	mmio_out(ABAR + 8, 4, 0xffffffff);
	mmio_out(ABAR + 4, 4, 2);
}

/* A disk on port 0, a CD-ROM drive on port 2. */
static void start(void)
{
	af_start();
	disk = af_disk(AF_DISK);
	disc = af_disk(1 << 20);
	disc->readonly = true;
	const struct ahci_config config = {
		.bus = pci,
		.devfn = DEVFN,
		.drive = {{.block = disk, .serial = "AHCI"}, {0}, {.block = disc, .cdrom = true}},
	};
	ahci = ahci_new(&config);
	CHECK(ahci != NULL);
	af_set_config(DEVFN, 0x24, 4, ABAR);
	af_set_config(DEVFN, 4, 2, 6);
}

static void stop(void)
{
	ahci_free(ahci);
	af_disk_free(disk);
	af_disk_free(disc);
	af_stop();
}

static void prd(unsigned slot, uint64_t address, uint32_t len)
{
	uint8_t *p = af_ram(TABLE(slot) + 0x80 + prds++ * 16);

	pci_put32(p, (uint32_t)address);
	pci_put32(p + 4, (uint32_t)(address >> 32));
	pci_put32(p + 12, len - 1);
	pci_put16(af_ram(LIST + slot * 32 + 2), (uint16_t)prds);
}

/* A command in a slot's table, without entries yet. For a queued one count is that of its sectors. */
static void build(unsigned slot, uint8_t command, uint64_t lba, unsigned count)
{
	uint8_t *h = af_ram(LIST + slot * 32), *fis = af_ram(TABLE(slot));
	bool queued = command == 0x60 || command == 0x61;

	memset(h, 0, 32);
	memset(fis, 0, 0x80);
	h[0] = 5;
	pci_put32(h + 8, TABLE(slot));
	fis[0] = 0x27;
	fis[1] = 0x80;
	fis[2] = command;
	for (unsigned i = 0; i < 3; i++) {
		fis[4 + i] = (uint8_t)(lba >> 8 * i);
		fis[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
	}
	fis[7] = 0x40;
	if (queued) {
		fis[3] = (uint8_t)count;
		fis[11] = (uint8_t)(count >> 8);
		fis[12] = (uint8_t)(slot << 3);
	} else {
		pci_put16(fis + 12, (uint16_t)count);
	}
	prds = 0;
}

static void links(void)
{
	start();
	CHECK_EQ(af_config(DEVFN, 8, 4) >> 8, 0x010601);
	CHECK_EQ(mmio_in(ABAR, 4) & 0x1f, 5);
	CHECK_EQ(mmio_in(ABAR + 0x0c, 4), 0x3f);
	CHECK_EQ(mmio_in(ABAR + 4, 4), 0x80000000);
	CHECK_EQ(mmio_in(ABAR + 0x10, 4), 0x10300);
	CHECK_EQ(mmio_in(ABAR + 0x12, 1), 1); /* a part of a register */
	CHECK_EQ(px(0, SSTS), 0x123);
	CHECK_EQ(px(1, SSTS), 0);
	CHECK_EQ(px(1, TFD), 0x7f);
	CHECK_EQ(px(1, SIG), 0xffffffff);
	CHECK_EQ(px(0, SIG), 0xffffffff); /* its FIS waits until it can be received */
	start_port(0);
	CHECK_EQ(px(0, SIG), 0x00000101);
	CHECK_EQ(px(0, TFD), 0x0150);
	CHECK_EQ(af_ram(FISES + 0x40)[0], 0x34);
	CHECK_EQ(px(0, CMD) & 0xc011, 0xc011);
	start_port(2);
	CHECK_EQ(px(2, SIG), 0xeb140101);
	/* COMRESET */
	set_px(0, CMD, 0x10);
	set_px(0, SCTL, 0x301);
	CHECK_EQ(px(0, SSTS), 1);
	set_px(0, SCTL, 0x310);
	CHECK_EQ(px(0, SSTS), 0x113); /* at 1.5 Gb/s, as limited */
	CHECK_EQ(px(0, SERR), 0x04010000);
	CHECK_EQ(px(0, IS) & (PCS | PRCS), PCS | PRCS);
	CHECK_EQ(af_intx, 1);
	set_px(0, SERR, 0xffffffff);
	CHECK_EQ(px(0, IS), 0);
	CHECK_EQ(af_intx, 1);
	mmio_out(ABAR + 8, 4, 1);
	CHECK_EQ(af_intx, 0);
	set_px(0, SCTL, 4);
	CHECK_EQ(px(0, SSTS), 4);
	set_px(0, SCTL, 0);
	CHECK_EQ(px(0, SSTS), 0x123);
	/* The whole controller */
	start_port(0);
	mmio_out(ABAR + 4, 4, 0x80000001);
	CHECK_EQ(mmio_in(ABAR + 4, 4), 0x80000000);
	CHECK_EQ(px(0, CMD) & 0xc011, 0);
	CHECK_EQ(px(0, CLB), LIST);
	CHECK_EQ(px(0, SSTS), 0x123);
	stop();
}

static void commands(void)
{
	start();
	start_port(0);
	/* IDENTIFY: PIO, by DMA all the same */
	build(0, 0xec, 0, 0);
	prd(0, 0x100000, 512);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(px(0, IS), PSS);
	CHECK_EQ(af_intx, 1);
	CHECK_EQ(mmio_in(ABAR + 8, 4), 1);
	CHECK_EQ(af_ram(FISES + 0x20)[0], 0x5f);
	CHECK_EQ(af_ram(FISES + 0x20)[15], OK);
	CHECK_EQ(pci_get32(af_ram(LIST + 4)), 512);
	CHECK_EQ(pci_get16(af_ram(0x100000 + 75 * 2)), 31);
	CHECK_EQ(pci_get16(af_ram(0x100000 + 76 * 2)) & 0x100, 0x100);
	set_px(0, IS, PSS);
	CHECK_EQ(af_intx, 1); /* until the controller's register is cleared too */
	mmio_out(ABAR + 8, 4, 1);
	CHECK_EQ(af_intx, 0);
	/* A read in pieces, one that interrupts; a write */
	build(7, 0x25, 1000, 16);
	prd(7, 0x100000, 2);
	prd(7, 0x200000, 8190);
	af_ram(TABLE(7) + 0x80 + 16 + 15)[0] = 0x80;
	set_px(0, CI, 1 << 7);
	CHECK_EQ(px(0, CI), 1 << 7);
	CHECK_EQ(px(0, TFD) & 0x88, 0x80);
	CHECK_EQ(px(0, CMD) >> 8 & 31, 7);
	af_end_all(disk);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(px(0, IS), DHRS | DPS);
	CHECK_EQ(px(0, TFD), OK);
	CHECK(memcmp(af_ram(0x100000), disk->data + 512000, 2) == 0);
	CHECK(memcmp(af_ram(0x200000), disk->data + 512002, 8190) == 0);
	CHECK_EQ(pci_get32(af_ram(LIST + 7 * 32 + 4)), 8192);
	set_px(0, IS, 0xffffffff);
	build(1, 0x34, 5, 2); /* PIO */
	prd(1, 0x200000, 4096);
	build(2, 0xea, 0, 0);
	set_px(0, CI, 6); /* one after the other */
	CHECK_EQ(disk->pending_count, 1);
	af_end(disk, 0);
	CHECK_EQ(px(0, CI), 4);
	CHECK(memcmp(af_ram(0x200000), disk->data + 5 * 512, 1024) == 0);
	CHECK_EQ(pci_get32(af_ram(LIST + 1 * 32 + 4)), 1024);
	CHECK_EQ(disk->pending_count, 1);
	af_end(disk, 0);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(disk->flushes, 1);
	/* A write without effect on CI while ST is clear */
	set_px(0, CMD, 0x10);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, CI), 0);
	stop();
}

static void queued(void)
{
	start();
	start_port(0);
	mmio_out(ABAR + 4, 4, 2);
	for (unsigned i = 0; i < 32; i++) {
		build(i, i & 1 ? 0x61 : 0x60, 100 + i * 8, 8);
		prd(i, 0x100000 + i * 0x2000, 4096);
		memset(af_ram(0x100000 + i * 0x2000), (int)i, 4096);
	}
	set_px(0, SACT, 0xffffffff);
	set_px(0, CI, 0xffffffff);
	CHECK_EQ(px(0, CI), 0); /* the drive has taken all */
	CHECK_EQ(px(0, SACT), 0xffffffff);
	CHECK_EQ(disk->pending_count, 32);
	CHECK_EQ(px(0, TFD) & 0x88, 0);
	af_end(disk, 31); /* the last of slots 1 to 31 and 0 is 0 */
	CHECK_EQ(px(0, SACT), 0xfffffffe);
	CHECK_EQ(px(0, IS), SDBS);
	CHECK_EQ(pci_get32(af_ram(FISES + 0x58 + 4)), 1);
	while (disk->pending_count)
		af_end(disk, disk->pending_count / 2);
	CHECK_EQ(px(0, SACT), 0);
	for (unsigned i = 0; i < 32; i++)
		CHECK(memcmp(af_ram(0x100000 + i * 0x2000), disk->data + (100 + i * 8) * 512, 4096) == 0);
	CHECK_EQ(disk->data[101 * 512], (uint8_t)(101 * 7)); /* slot 0 read */
	CHECK_EQ(disk->data[109 * 512], 1);
	/* One that is not queued waits for those that are. */
	build(3, 0x60, 0, 1);
	prd(3, 0x100000, 512);
	build(4, 0xea, 0, 0);
	set_px(0, SACT, 8);
	set_px(0, CI, 0x18);
	CHECK_EQ(px(0, CI), 0x10);
	af_end(disk, 0);
	CHECK_EQ(px(0, SACT), 0);
	af_end(disk, 0);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(disk->flushes, 1);
	stop();
}

static void recover(void)
{
	set_px(0, CMD, 0x10);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(px(0, SACT), 0);
	set_px(0, IS, 0xffffffff);
	set_px(0, CMD, 0x11);
}

static void failures(void)
{
	start();
	start_port(0);
	disk->fail = -EIO;
	build(0, 0x25, 0x1234, 1);
	prd(0, 0x100000, 512);
	build(1, 0xec, 0, 0);
	prd(1, 0x100000, 512);
	set_px(0, CI, 1);
	set_px(0, CI, 2);
	af_end_all(disk);
	CHECK_EQ(px(0, IS), TFES | DHRS);
	CHECK_EQ(px(0, TFD), 0x4000 | ERR);
	CHECK_EQ(px(0, CI), 3); /* the port has stopped */
	CHECK_EQ(px(0, CMD) >> 8 & 31, 0);
	CHECK_EQ(pci_get16(af_ram(FISES + 0x44)), 0x1234);
	recover();
	/* Of queued commands the log tells which */
	build(5, 0x60, 0x777, 1);
	prd(5, 0x100000, 512);
	build(6, 0x60, 0x888, 1);
	prd(6, 0x100000, 512);
	set_px(0, SACT, 0x60);
	set_px(0, CI, 0x60);
	af_end(disk, 1);
	CHECK_EQ(px(0, IS) & (TFES | SDBS), TFES | SDBS);
	CHECK_EQ(px(0, SACT), 0x60);
	disk->fail = 0;
	recover();
	CHECK_EQ(disk->pending_count, 0);
	build(0, 0x2f, 0x10, 1);
	prd(0, 0x100000, 512);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(af_ram(0x100000)[0], 6);
	CHECK_EQ(af_ram(0x100000)[3], 0x40);
	CHECK_EQ(pci_get16(af_ram(0x100004)), 0x888);
	set_px(0, CI, 1);
	CHECK_EQ(af_ram(0x100000)[0], 0x80); /* told once */
	stop();
}

/* Commands whose data, list or tables are where there is nothing. */
static void nowhere(void)
{
	start();
	start_port(0);
	/* Outside the disk; outside RAM; fewer entries than data */
	build(0, 0x60, AF_DISK / 512, 1);
	prd(0, 0x100000, 512);
	set_px(0, SACT, 1);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, TFD) >> 8, 0x14);
	recover();
	static const uint64_t bad[] = {ABAR, AF_RAM - 256, 0xa0000, ~511ull};
	for (unsigned i = 0; i < 4; i++) {
		build(0, i & 1 ? 0x60 : 0x35, 0, 1);
		prd(0, bad[i], 512);
		set_px(0, SACT, i & 1);
		set_px(0, CI, 1);
		CHECK_EQ(px(0, IS) & (HBFS | TFES), HBFS | TFES);
		CHECK_EQ(disk->pending_count, 0);
		recover();
	}
	build(0, 0x25, 0, 2);
	prd(0, 0x100000, 512);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, IS) & (OFS | TFES), OFS | TFES);
	recover();
	/* The list, the table, the received FISes */
	set_px(0, CLB, 0xfffffc00);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, IS), HBFS);
	recover();
	set_px(0, CLB, LIST);
	pci_put32(af_ram(LIST + 8), 0xffffff80);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, IS), HBFS);
	recover();
	build(0, 0xec, 0, 0);
	af_ram(TABLE(0))[0] = 0x46; /* no such FIS from a host */
	set_px(0, CI, 1);
	CHECK_EQ(px(0, CI), 1);
	recover();
	build(0, 0xec, 0, 0);
	prd(0, 0x100000, 512);
	set_px(0, FB, 0xffffff00);
	set_px(0, CI, 1);
	CHECK_EQ(px(0, IS) & HBFS, HBFS);
	set_px(0, FB, FISES);
	stop();
}

/* While commands are under way. */
static void in_the_middle(void)
{
	start();
	start_port(0);
	/* Stopped: BSY stays until CLO */
	build(0, 0x25, 0, 1);
	prd(0, 0x100000, 512);
	set_px(0, CI, 1);
	CHECK_EQ(disk->pending_count, 1);
	set_px(0, CMD, 0x10);
	CHECK_EQ(disk->pending_count, 0);
	CHECK_EQ(px(0, TFD) & 0x80, 0x80);
	set_px(0, CMD, 0x18);
	CHECK_EQ(px(0, TFD) & 0x88, 0);
	CHECK_EQ(px(0, CMD) & 8, 0);
	set_px(0, CMD, 0x11);
	/* Software reset: two FISes */
	set_px(0, CI, 1); /* and a read under way */
	build(1, 0, 0, 0);
	af_ram(TABLE(1))[1] = 0;
	af_ram(TABLE(1))[15] = 4;
	af_end_all(disk);
	set_px(0, CI, 2);
	CHECK_EQ(px(0, CI), 0);
	memset(af_ram(FISES + 0x40), 0, 20);
	af_ram(TABLE(1))[15] = 0;
	set_px(0, CI, 2);
	CHECK_EQ(px(0, CI), 0);
	CHECK_EQ(af_ram(FISES + 0x40)[0], 0x34);
	CHECK_EQ(px(0, SIG), 0x101);
	CHECK_EQ(px(0, TFD), 0x150);
	/* Freed in the middle */
	for (unsigned i = 0; i < 4; i++) {
		build(i, 0x60, i, 1);
		prd(i, 0x100000, 512);
	}
	set_px(0, SACT, 15);
	set_px(0, CI, 15);
	CHECK_EQ(disk->pending_count, 4);
	stop();
}

static void messages(void)
{
	start();
	start_port(0);
	unsigned cap = af_config(DEVFN, 0x34, 1);
	while (cap && af_config(DEVFN, cap, 1) != 5)
		cap = af_config(DEVFN, cap + 1, 1);
	CHECK(cap != 0);
	af_set_config(DEVFN, cap + 4, 4, 0xfee00000);
	af_set_config(DEVFN, cap + 2, 2, 1);
	build(0, 0xe5, 0, 0);
	set_px(0, CI, 1);
	CHECK_EQ(af_messages, 1);
	CHECK_EQ(af_intx, 0);
	set_px(0, CI, 1);
	CHECK_EQ(af_messages, 1); /* the last one has not been acknowledged */
	mmio_out(ABAR + 8, 4, 1);
	CHECK_EQ(af_messages, 2); /* but only in part */
	set_px(0, IS, 0xffffffff);
	mmio_out(ABAR + 8, 4, 1);
	CHECK_EQ(af_messages, 2);
	set_px(0, CI, 1);
	CHECK_EQ(af_messages, 3);
	stop();
}

static void cdrom(void)
{
	static const uint8_t read10[12] = {0x28, 0, 0, 0, 0, 3, 0, 0, 2};

	start();
	start_port(2);
	build(0, 0xa0, 0, 0);
	af_ram(LIST)[0] = 0x25;
	prd(0, 0x100000, 4096);
	memcpy(af_ram(TABLE(0) + 0x40), read10, 12);
	set_px(2, CI, 1);
	CHECK_EQ(px(2, TFD), 0x6400 | ERR); /* told of the reset first */
	CHECK_EQ(px(2, IS), TFES | DHRS);
	set_px(2, CMD, 0x10);
	set_px(2, IS, 0xffffffff);
	set_px(2, CMD, 0x11);
	for (unsigned dma = 0; dma < 2; dma++) {
		af_ram(TABLE(0))[3] = (uint8_t)dma;
		memset(af_ram(0x100000), 0, 4096);
		set_px(2, CI, 1);
		af_end_all(disc);
		CHECK_EQ(px(2, TFD), OK);
		CHECK_EQ(px(2, CI), 0);
		CHECK(memcmp(af_ram(0x100000), disc->data + 3 * 2048, 4096) == 0);
		CHECK_EQ(pci_get32(af_ram(LIST + 4)), 4096);
	}
	build(0, 0xa1, 0, 0);
	prd(0, 0x100000, 512);
	set_px(2, CI, 1);
	CHECK_EQ(pci_get16(af_ram(0x100000)), 0x85c0);
	stop();
}

static void abused(void)
{
	start();
	start_port(0);
	start_port(2);
	for (unsigned i = 0; i < 40000; i++) {
		unsigned slot = (unsigned)(random64() % 4);

		if (random64() % 4 == 0) {
			static const uint8_t often[] = {0x60, 0x61, 0x25, 0x35, 0xa0, 0xec, 0xa1, 0x06, 0x2f, 0xea};

			build(slot, random64() % 4 ? often[random64() % 10] : (uint8_t)random64(), random64() % 20000,
			      (unsigned)(random64() % 300));
			prd(slot, random64() % 8 ? 0x100000 : random64(), (uint32_t)(random64() % 200000 + 1));
			prd(slot, 0x200000, (uint32_t)(random64() % 200000 + 1));
		}
		unsigned port = random64() % 2 ? 0 : 2;
		switch (random64() % 8) {
		case 0: set_px(port, CI, 1u << slot); break;
		case 1: set_px(port, SACT, 1u << slot); set_px(port, CI, 1u << slot); break;
		case 2: set_px(port, CMD, 0x10); set_px(port, CMD, 0x11); break;
		case 3: abuse(&mmio, ABAR, 0x500, 1); break;
		case 4: start_port(port); break;
		case 5:
			if (disk->pending_count)
				af_end(disk, (unsigned)(random64() % disk->pending_count));
			break;
		case 6:
			if (disc->pending_count)
				af_end(disc, 0);
			break;
		default:
			disk->fail = random64() % 16 ? 0 : -EIO;
		}
	}
	disk->fail = 0;
	stop();
}

int main(void)
{
	links();
	commands();
	queued();
	failures();
	nowhere();
	in_the_middle();
	messages();
	cdrom();
	abused();
	return summary();
}
