/*
 * IDE: registers, resets, PIO and DMA in both directions, errors, and the CD-ROM drive's packets.
 */
#include "dev/ide.h"

#include "ata_fixture.h"

#define BM 0xc000u /* the bus master's ports */
#define DEVFN PCI_DEVFN(1, 1)

enum { R_DATA = 0x1f0, R_ERROR, R_COUNT, R_LOW, R_MID, R_HIGH, R_DEVICE, R_STATUS, R_CONTROL = 0x3f6 };
enum { BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01, OK = DRDY | DSC };

static struct ide *ide;
static struct block *disk, *disc;

/* A disk as drive 0, a CD-ROM drive as drive 1 of the first channel. */
static void start(void)
{
	af_start();
	disk = af_disk(AF_DISK);
	disc = af_disk(1 << 20);
	disc->readonly = true;
	const struct ide_config config = {
		.bus = pci,
		.devfn = DEVFN,
		.pio = &pio,
		.irq = {test_line(14), test_line(15)},
		.drive = {{{.block = disk, .serial = "SERIAL1"}, {.block = disc, .cdrom = true}}},
	};
	ide = ide_new(&config);
	CHECK(ide != NULL);
	af_set_config(DEVFN, 0x20, 4, BM | 1);
	af_set_config(DEVFN, 4, 2, 7);
}

static void stop(void)
{
	ide_free(ide);
	af_disk_free(disk);
	af_disk_free(disc);
	af_stop();
}

static void command28(uint8_t command, uint32_t lba, uint8_t count)
{
	outb(R_DEVICE, (uint8_t)(0xe0 | lba >> 24));
	outb(R_COUNT, count);
	outb(R_LOW, (uint8_t)lba);
	outb(R_MID, (uint8_t)(lba >> 8));
	outb(R_HIGH, (uint8_t)(lba >> 16));
	outb(R_STATUS, command);
}

static void command48(uint8_t command, uint64_t lba, uint16_t count)
{
	outb(R_DEVICE, 0xe0);
	outb(R_COUNT, (uint8_t)(count >> 8));
	outb(R_COUNT, (uint8_t)count);
	for (unsigned i = 0; i < 3; i++) {
		outb(R_LOW + i, (uint8_t)(lba >> (24 + 8 * i)));
		outb(R_LOW + i, (uint8_t)(lba >> 8 * i));
	}
	outb(R_STATUS, command);
}

/* The command has ended: its interrupt came, once; returns the status. */
static uint8_t ended(void)
{
	CHECK_EQ(lines[14].level, 1);
	uint8_t status = inb(R_STATUS);
	CHECK_EQ(lines[14].level, 0);
	return status;
}

static void read_data(uint8_t *buf, unsigned len)
{
	for (unsigned i = 0; i < len; i += 2) {
		uint64_t v = in(R_DATA, 2);

		buf[i] = (uint8_t)v;
		buf[i + 1] = (uint8_t)(v >> 8);
	}
}

static void write_data(const uint8_t *buf, unsigned len)
{
	for (unsigned i = 0; i < len; i += 4)
		out(R_DATA, 4, pci_get32(buf + i));
}

static void put_prd(unsigned n, uint32_t address, uint32_t count, bool last)
{
	pci_put32(af_ram(0x10000) + n * 8, address);
	pci_put32(af_ram(0x10000) + n * 8 + 4, count | (last ? 0x80000000 : 0));
}

static void dma_start(bool to_memory)
{
	out(BM + 4, 4, 0x10000);
	outb(BM + 2, 6);
	outb(BM, to_memory ? 8 : 0);
	outb(BM, to_memory ? 9 : 1);
}

/* ---- tests ---- */

static void identity(void)
{
	uint8_t id[512], sum = 0;

	start();
	CHECK_EQ(af_config(DEVFN, 0, 4), 0x70108086);
	CHECK_EQ(af_config(DEVFN, 8, 4) >> 8, 0x010180);
	outb(R_DEVICE, 0xa0);
	CHECK_EQ(inb(R_STATUS), OK);
	outb(R_STATUS, 0xec);
	CHECK_EQ(ended(), OK | DRQ);
	read_data(id, 512);
	CHECK_EQ(inb(R_STATUS), OK);
	CHECK_EQ(lines[14].rises, 1);
	CHECK(memcmp(id + 20, "ESIRLA 1", 8) == 0);
	CHECK(memcmp(id + 54, "iRgnisedd si k", 14) == 0);
	CHECK_EQ(pci_get32(id + 120), AF_DISK / 512);
	CHECK_EQ(pci_get32(id + 200), AF_DISK / 512);
	CHECK_EQ(pci_get16(id + 2), AF_DISK / 512 / 1008);
	CHECK_EQ(pci_get16(id + 176), 0); /* no Ultra DMA in this chip */
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + id[i]);
	CHECK_EQ(sum, 0);
	outb(R_STATUS, 0xa1); /* not a CD-ROM drive */
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 4);
	outb(R_STATUS, 0x02); /* no command at all */
	CHECK_EQ(ended(), OK | ERR);
	/* The second channel is empty. */
	CHECK_EQ(inb(0x177), 0x7f);
	CHECK_EQ(in(0x170, 2), 0x7f7f);
	outb(0x177, 0xec);
	CHECK_EQ(lines[15].rises, 0);
	/* The command register and IDETIM decode the ports. */
	af_set_config(DEVFN, 0x40, 2, 0);
	CHECK_EQ(inb(R_STATUS), 0xff);
	af_set_config(DEVFN, 0x40, 2, 0x8000);
	CHECK_EQ(inb(R_STATUS), OK | ERR);
	af_set_config(DEVFN, 4, 2, 0);
	CHECK_EQ(inb(R_STATUS), 0xff);
	stop();
}

static void resets(void)
{
	start();
	command28(0x20, 5, 1);
	CHECK_EQ(inb(R_CONTROL), BSY);
	CHECK_EQ(inb(R_COUNT), BSY); /* nothing else can be read */
	outb(R_CONTROL, 4);
	CHECK_EQ(disk->pending_count, 0);
	CHECK_EQ(inb(R_STATUS), BSY);
	outb(R_STATUS, 0xec); /* not now */
	outb(R_CONTROL, 0);
	CHECK_EQ(lines[14].level, 0);
	CHECK_EQ(inb(R_STATUS), OK);
	CHECK_EQ(inb(R_ERROR), 1);
	CHECK_EQ(inb(R_COUNT), 1);
	CHECK_EQ(inb(R_LOW), 1);
	CHECK_EQ(inb(R_MID) | inb(R_HIGH) << 8, 0);
	outb(R_DEVICE, 0xb0);
	CHECK_EQ(inb(R_STATUS), 0);
	CHECK_EQ(inb(R_MID) | inb(R_HIGH) << 8, 0xeb14);
	outb(R_STATUS, 0x90); /* EXECUTE DEVICE DIAGNOSTIC: both drives, drive 0 tells */
	CHECK_EQ(inb(R_DEVICE), 0xa0);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(inb(R_ERROR), 1);
	/* Both drives hear registers; each has its own. */
	outb(R_LOW, 0x12);
	outb(R_LOW, 0x34);
	CHECK_EQ(inb(R_LOW), 0x34);
	outb(R_CONTROL, 0x80);
	CHECK_EQ(inb(R_LOW), 0x12);
	outb(R_DEVICE, 0xb0); /* ends reading of the upper halves */
	CHECK_EQ(inb(R_LOW), 0x34);
	stop();
}

static void pio_read(void)
{
	uint8_t buf[32 * 512];

	start();
	command28(0x20, 100, 3);
	af_end_all(disk);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(ended(), OK | DRQ);
		read_data(buf + i * 512, 512);
	}
	CHECK_EQ(lines[14].level, 0); /* no interrupt after the last */
	CHECK_EQ(inb(R_STATUS), OK);
	CHECK(memcmp(buf, disk->data + 51200, 1536) == 0);
	/* Through the end of the buffer, with READ MULTIPLE */
	outb(R_COUNT, 8);
	outb(R_STATUS, 0xc6);
	CHECK_EQ(ended(), OK);
	unsigned before = lines[14].rises;
	command48(0x29, 7, 150);
	for (unsigned i = 0; i < 150; i += 8) {
		unsigned n = 150 - i < 8 ? 150 - i : 8;

		af_end_all(disk);
		CHECK_EQ(ended(), OK | DRQ);
		read_data(buf, n * 512);
		CHECK(memcmp(buf, disk->data + (7 + i) * 512, n * 512) == 0);
	}
	CHECK_EQ(inb(R_STATUS), OK);
	CHECK_EQ(lines[14].rises - before, 19);
	outb(R_COUNT, 3); /* not a power of 2 */
	outb(R_STATUS, 0xc6);
	CHECK_EQ(ended(), OK | ERR);
	command28(0xc4, 0, 1);
	CHECK_EQ(ended(), OK | ERR);
	/* By cylinder, head and sector: 1008 sectors a cylinder */
	outb(R_COUNT, 1);
	outb(R_LOW, 5);
	outb(R_MID, 2);
	outb(R_HIGH, 0);
	outb(R_DEVICE, 0xa0 | 3);
	outb(R_STATUS, 0x20);
	af_end_all(disk);
	CHECK_EQ(ended(), OK | DRQ);
	read_data(buf, 512);
	CHECK(memcmp(buf, disk->data + (2 * 1008 + 3 * 63 + 4) * 512, 512) == 0);
	outb(R_LOW, 0); /* sectors are counted from 1 */
	outb(R_STATUS, 0x20);
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 0x10);
	/* nIEN */
	outb(R_CONTROL, 2);
	command28(0x20, 0, 1);
	af_end_all(disk);
	CHECK_EQ(lines[14].level, 0);
	CHECK_EQ(inb(R_CONTROL), OK | DRQ);
	outb(R_CONTROL, 0);
	CHECK_EQ(lines[14].level, 1);
	stop();
}

static void pio_write(void)
{
	uint8_t buf[512 * 8];

	start();
	for (unsigned i = 0; i < sizeof buf; i++)
		buf[i] = (uint8_t)(i * 5 + i / 512);
	command28(0x30, 40, 2);
	CHECK_EQ(lines[14].level, 0); /* the first block is asked for without an interrupt */
	CHECK_EQ(inb(R_STATUS), OK | DRQ);
	write_data(buf, 512);
	CHECK_EQ(ended(), OK | DRQ);
	write_data(buf + 512, 512);
	CHECK_EQ(inb(R_STATUS), BSY);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK(memcmp(disk->data + 40 * 512, buf, 1024) == 0);
	CHECK_EQ(disk->fua_writes, 0);
	outb(R_ERROR, 0x82); /* without the cache */
	outb(R_STATUS, 0xef);
	CHECK_EQ(inb(R_STATUS), BSY);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(disk->flushes, 1);
	command28(0xc5, 60, 8);
	write_data(buf, 8 * 512);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK(memcmp(disk->data + 60 * 512, buf, 8 * 512) == 0);
	CHECK_EQ(disk->fua_writes, 1);
	outb(R_STATUS, 0xea);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(disk->flushes, 2);
	disk->readonly = true;
	command28(0x30, 40, 1);
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 4);
	stop();
}

static void dma(void)
{
	start();
	outb(BM + 2, 0x60); /* the driver's own bits */
	CHECK_EQ(inb(BM + 2), 0x60);
	/* The command first, then the engine; the table has 2-byte entries for a whole sector, and odd pieces. */
	command48(0x25, 3, 40);
	CHECK_EQ(inb(R_CONTROL), OK | DRQ);
	for (unsigned i = 0; i < 300; i++)
		put_prd(i, 0x100000 + i * 2, 2, false);
	put_prd(300, 0x200000, 40 * 512 - 600 - 22, false);
	put_prd(301, 0x300000, 22, true);
	out(BM + 4, 4, 0x10000);
	outb(BM, 9);
	CHECK_EQ(inb(BM + 2), 0x61);
	CHECK_EQ(lines[14].level, 0);
	af_end_all(disk);
	CHECK_EQ(inb(BM + 2), 0x64); /* an interrupt; the table was done */
	CHECK_EQ(ended(), OK);
	CHECK(memcmp(af_ram(0x100000), disk->data + 3 * 512, 600) == 0);
	CHECK(memcmp(af_ram(0x200000), disk->data + 3 * 512 + 600, 40 * 512 - 622) == 0);
	CHECK(memcmp(af_ram(0x300000), disk->data + 43 * 512 - 22, 22) == 0);
	outb(BM, 0);
	outb(BM + 2, 0x64);
	CHECK_EQ(inb(BM + 2), 0x60);
	/* The engine first; more than a chunk; 0 is 64 KiB; more entries than data */
	for (unsigned i = 0; i < 80; i++)
		put_prd(i, 0x100000 + i * 0x10000, 0, i == 79);
	out(BM + 4, 4, 0x10000);
	outb(BM, 1);
	command48(0x35, 1000, 4096);
	for (unsigned i = 0; i < 4096 * 512; i++)
		af_ram(0x100000)[i] = (uint8_t)(i * 11 + i / 4096);
	af_end_all(disk);
	CHECK_EQ(disk->writes, 2);
	CHECK_EQ(inb(BM + 2), 0x65); /* still active: entries are left */
	CHECK_EQ(ended(), OK);
	CHECK(memcmp(disk->data + 512000, af_ram(0x100000), 4096 * 512) == 0);
	outb(BM, 0);
	CHECK_EQ(inb(BM + 2) & 1, 0);
	/* FUA */
	put_prd(0, 0x100000, 512, true);
	command48(0x3d, 1, 1);
	dma_start(false);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(disk->fua_writes, 1);
	stop();
}

static void dma_errors(void)
{
	start();
	/* A table that is too short: nobody interrupts, the engine stops; SRST helps. */
	put_prd(0, 0x100000, 512, true);
	command28(0xc8, 0, 2);
	dma_start(true);
	af_end_all(disk);
	CHECK_EQ(inb(BM + 2) & 7, 0);
	CHECK_EQ(lines[14].level, 0);
	CHECK_EQ(inb(R_CONTROL), OK | DRQ);
	outb(R_CONTROL, 4);
	outb(R_CONTROL, 0);
	CHECK_EQ(inb(R_CONTROL), OK);
	/* Not RAM: the function's own registers, the end of RAM, the hole */
	static const uint32_t bad[] = {0xe0000000, AF_RAM - 256, 0xa0000, 0xfffffffe};
	for (unsigned i = 0; i < 4; i++) {
		put_prd(0, bad[i], 512, true);
		command28(i & 1 ? 0xca : 0xc8, 0, 1);
		dma_start(!(i & 1));
		CHECK_EQ(disk->pending_count, 0);
		CHECK_EQ(inb(BM + 2) & 7, 6);
		CHECK_EQ(ended(), OK | ERR);
		CHECK_EQ(inb(R_ERROR), 4);
	}
	/* The table is not in RAM; it has no end. */
	command28(0xc8, 0, 1);
	out(BM + 4, 4, 0xffff0000);
	outb(BM, 8);
	outb(BM, 9);
	CHECK_EQ(ended(), OK | ERR);
	for (unsigned i = 0; i < 8192; i++)
		put_prd(i, 0x100000, 2, false);
	command28(0xc8, 0, 255);
	dma_start(true);
	af_end_all(disk);
	CHECK_EQ(lines[14].level, 0);
	outb(R_CONTROL, 4);
	outb(R_CONTROL, 0);
	/* No bus mastering */
	put_prd(0, 0x100000, 512, true);
	af_set_config(DEVFN, 4, 2, 3);
	command28(0xc8, 0, 1);
	dma_start(true);
	CHECK_EQ(ended(), OK | ERR);
	af_set_config(DEVFN, 4, 2, 7);
	/* The disk's errors: where, and what */
	disk->fail = -EIO;
	command28(0xc8, 0x123, 1);
	dma_start(true);
	af_end_all(disk);
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 0x40);
	CHECK_EQ(inb(R_LOW) | inb(R_MID) << 8, 0x123);
	disk->fail = 0;
	command28(0xc8, AF_DISK / 512 - 1, 2);
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 0x14);
	command48(0x24, 1ull << 40, 1);
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_ERROR), 0x10);
	/* Stopped in the middle, reset in the middle */
	put_prd(0, 0x100000, 512, true);
	command28(0xc8, 0, 1);
	dma_start(true);
	CHECK_EQ(disk->pending_count, 1);
	outb(BM, 0);
	CHECK_EQ(disk->pending_count, 0);
	CHECK_EQ(lines[14].level, 0);
	outb(R_CONTROL, 4);
	outb(R_CONTROL, 0);
	command28(0xc8, 0, 1);
	dma_start(true);
	outb(R_CONTROL, 4);
	CHECK_EQ(disk->pending_count, 0);
	outb(R_CONTROL, 0);
	outb(BM, 0);
	CHECK_EQ(lines[14].level, 0);
	command28(0xc8, 0, 1);
	dma_start(true); /* and freed in the middle, by stop */
	CHECK_EQ(disk->pending_count, 1);
	stop();
}

static void others(void)
{
	uint8_t buf[512];

	start();
	/* TRIM: 64 sectors at 8, nothing, 1 at 100 */
	memset(af_ram(0x100000), 0, 512);
	pci_put32(af_ram(0x100000), 8);
	pci_put16(af_ram(0x100006), 64);
	pci_put32(af_ram(0x100010), 100);
	pci_put16(af_ram(0x100016), 1);
	put_prd(0, 0x100000, 512, true);
	outb(R_ERROR, 1);
	command48(0x06, 0, 1);
	dma_start(false);
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(disk->discards, 2);
	CHECK_EQ(disk->discarded, 65 * 512);
	pci_put32(af_ram(0x100010), AF_DISK / 512);
	command48(0x06, 0, 1);
	dma_start(false);
	af_end_all(disk);
	CHECK_EQ(ended(), OK | ERR);
	command28(0x40, 10, 200); /* VERIFY */
	af_end_all(disk);
	CHECK_EQ(ended(), OK);
	/* SMART */
	outb(R_ERROR, 0xda);
	command28(0xb0, 0xc24f00, 0);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(inb(R_MID), 0x4f);
	outb(R_ERROR, 0xd0);
	command28(0xb0, 0xc24f00, 1);
	CHECK_EQ(ended(), OK | DRQ);
	read_data(buf, 512);
	uint8_t sum = 0;
	for (unsigned i = 0; i < 512; i++)
		sum = (uint8_t)(sum + buf[i]);
	CHECK_EQ(sum, 0);
	outb(R_ERROR, 0xd9);
	command28(0xb0, 0xc24f00, 0);
	CHECK_EQ(ended(), OK);
	outb(R_ERROR, 0xd0);
	command28(0xb0, 0xc24f00, 1);
	CHECK_EQ(ended(), OK | ERR);
	/* Power */
	outb(R_STATUS, 0xe0);
	CHECK_EQ(ended(), OK);
	outb(R_STATUS, 0xe5);
	CHECK_EQ(ended(), OK);
	CHECK_EQ(inb(R_COUNT), 0);
	/* A mode that the channel cannot do */
	outb(R_ERROR, 3);
	outb(R_COUNT, 0x45);
	outb(R_STATUS, 0xef);
	CHECK_EQ(ended(), OK | ERR);
	outb(R_COUNT, 0x21);
	outb(R_STATUS, 0xef);
	CHECK_EQ(ended(), OK);
	stop();
}

/* ---- packets ---- */

static uint8_t reply[70000];

/* Sends a packet, reads what comes by PIO in blocks of `limit`. The status at its end; *len is what came. */
static uint8_t packet(const uint8_t *cdb, unsigned limit, bool with_dma, unsigned *len)
{
	uint8_t status;

	outb(R_DEVICE, 0xb0);
	outb(R_ERROR, with_dma);
	outb(R_MID, (uint8_t)limit);
	outb(R_HIGH, (uint8_t)(limit >> 8));
	outb(R_STATUS, 0xa0);
	CHECK_EQ(inb(R_CONTROL), OK | DRQ);
	CHECK_EQ(inb(R_COUNT) & 3, 1); /* a command is awaited */
	write_data(cdb, 12);
	*len = 0;
	if (with_dma)
		dma_start(true);
	af_end_all(disc);
	while ((status = ended()) & DRQ) {
		unsigned n = inb(R_MID) | (unsigned)inb(R_HIGH) << 8;

		CHECK_EQ(inb(R_COUNT) & 3, 2);
		CHECK(n <= limit && n > 0);
		if (!n || n > limit || *len + n + 1 > sizeof reply)
			break;
		read_data(reply + *len, n);
		*len += n;
		af_end_all(disc);
	}
	CHECK_EQ(inb(R_COUNT) & 3, 3);
	return status;
}

static uint8_t simple(uint8_t op, uint8_t a, uint8_t b, unsigned *len)
{
	const uint8_t cdb[12] = {op, a, b, 0, 255, 0, 0, 0, 255, 0};

	return packet(cdb, 2048, false, len);
}

static uint32_t sense(void)
{
	unsigned len;

	CHECK_EQ(simple(0x03, 0, 0, &len), OK);
	CHECK_EQ(len, 18);
	return (uint32_t)(reply[2] << 16 | reply[12] << 8 | reply[13]);
}

static void cdrom(void)
{
	static const uint8_t read10[12] = {0x28, 0, 0, 0, 0, 9, 0, 0, 21}, wrong[12] = {0x28, 0, 0, 0, 1, 255, 0, 0, 2},
			     start_open[12] = {0x1b, 0, 0, 0, 2}, start_close[12] = {0x1b, 0, 0, 0, 3};
	uint8_t buf[512];
	unsigned len;

	start();
	outb(R_DEVICE, 0xb0);
	outb(R_STATUS, 0xec); /* says that it is none of these disks */
	CHECK_EQ(ended(), OK | ERR);
	CHECK_EQ(inb(R_MID) | inb(R_HIGH) << 8, 0xeb14);
	outb(R_STATUS, 0xa1);
	CHECK_EQ(ended(), OK | DRQ);
	read_data(buf, 512);
	CHECK_EQ(lines[14].level, 0);
	CHECK_EQ(pci_get16(buf), 0x85c0);
	/* The first command is told of the reset; INQUIRY is not. */
	CHECK_EQ(simple(0x12, 0, 0, &len), OK);
	CHECK_EQ(len, 36);
	CHECK_EQ(reply[0] | reply[1] << 8, 0x8005);
	CHECK_EQ(simple(0x00, 0, 0, &len), OK | ERR);
	CHECK_EQ(inb(R_ERROR) >> 4, 6);
	CHECK_EQ(sense(), 0x062900);
	CHECK_EQ(sense(), 0);
	CHECK_EQ(simple(0x00, 0, 0, &len), OK);
	CHECK_EQ(simple(0x25, 0, 0, &len), OK);
	CHECK_EQ(len, 8);
	CHECK_EQ(reply[2] << 8 | reply[3], (1 << 20) / 2048 - 1);
	/* Data: in whole sectors, in odd blocks, by DMA */
	static const unsigned limits[] = {2048, 65534, 65535, 1000, 3, 4097};
	for (unsigned i = 0; i < 6; i++) {
		CHECK_EQ(packet(read10, limits[i], false, &len), OK);
		CHECK_EQ(len, 21 * 2048);
		CHECK(memcmp(reply, disc->data + 9 * 2048, len) == 0);
	}
	put_prd(0, 0x100000, 21 * 2048, true);
	CHECK_EQ(packet(read10, 0, true, &len), OK);
	CHECK(memcmp(af_ram(0x100000), disc->data + 9 * 2048, 21 * 2048) == 0);
	CHECK_EQ(packet(wrong, 2048, false, &len), OK | ERR);
	CHECK_EQ(sense(), 0x052100);
	disc->fail = -EIO;
	CHECK_EQ(packet(read10, 2048, false, &len), OK | ERR);
	CHECK_EQ(sense(), 0x031100);
	disc->fail = 0;
	put_prd(0, 0xe0000000, 21 * 2048, true);
	CHECK_EQ(packet(read10, 0, true, &len), OK | ERR);
	CHECK_EQ(sense() >> 16, 0x0b);
	CHECK_EQ(simple(0xff, 0, 0, &len), OK | ERR);
	CHECK_EQ(sense(), 0x052000);
	/* Table of contents: a data track, the lead-out */
	CHECK_EQ(simple(0x43, 0, 0, &len), OK);
	CHECK_EQ(len, 20);
	CHECK_EQ(reply[5] << 8 | reply[6], 0x1401);
	CHECK_EQ(reply[14] << 16 | reply[18] << 8 | reply[19], 0xaa0200);
	CHECK_EQ(simple(0x46, 0, 0, &len), OK);
	CHECK_EQ(reply[7], 8);
	CHECK_EQ(pci_get32(reply) , (uint32_t)__builtin_bswap32(len - 4));
	CHECK_EQ(simple(0x5a, 0, 0x2a, &len), OK);
	CHECK_EQ(reply[8], 0x2a);
	CHECK_EQ(simple(0x5a, 0, 0x33, &len), OK | ERR);
	/* The tray: locked, open, closed */
	CHECK_EQ(simple(0x1e, 0, 0, &len), OK);
	static const uint8_t lock[12] = {0x1e, 0, 0, 0, 1}, unlock[12] = {0x1e};
	CHECK_EQ(packet(lock, 2048, false, &len), OK);
	CHECK_EQ(packet(start_open, 2048, false, &len), OK | ERR);
	CHECK_EQ(sense(), 0x055302);
	CHECK_EQ(packet(unlock, 2048, false, &len), OK);
	CHECK_EQ(packet(start_open, 2048, false, &len), OK);
	CHECK_EQ(packet(read10, 2048, false, &len), OK | ERR);
	CHECK_EQ(sense(), 0x023a02);
	CHECK_EQ(packet(start_close, 2048, false, &len), OK);
	CHECK_EQ(simple(0x00, 0, 0, &len), OK | ERR);
	CHECK_EQ(sense(), 0x062800);
	CHECK_EQ(packet(read10, 2048, false, &len), OK);
	/* MODE SELECT by PIO: 8 bytes of header, and the recovery page, 12 bytes in all told apart from a packet */
	static const uint8_t select[12] = {0x55, 0x10, 0, 0, 0, 0, 0, 0, 20};
	static const uint8_t list[20] = {0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x0a, 0, 5};
	outb(R_ERROR, 0);
	outb(R_MID, 0);
	outb(R_HIGH, 8);
	outb(R_STATUS, 0xa0);
	write_data(select, 12);
	CHECK_EQ(ended(), OK | DRQ);
	CHECK_EQ(inb(R_COUNT) & 3, 0); /* data, from the host */
	write_data(list, 20);
	CHECK_EQ(ended(), OK);
	/* DEVICE RESET in the middle of a read */
	outb(R_STATUS, 0xa0);
	write_data(read10, 12);
	CHECK_EQ(inb(R_STATUS), BSY);
	outb(R_STATUS, 0x08);
	CHECK_EQ(disc->pending_count, 0);
	CHECK_EQ(inb(R_STATUS), 0);
	CHECK_EQ(inb(R_MID), 0x14);
	stop();
}

static void abused(void)
{
	start();
	abuse(&pio, 0x1f0, 8, 20000);
	for (unsigned i = 0; i < 20000; i++) {
		abuse(&pio, random64() % 2 ? 0x1f0 : random64() % 2 ? BM : 0x3f6, random64() % 2 ? 8 : 16, 1);
		if (random64() % 8 == 0 && disk->pending_count)
			af_end(disk, (unsigned)(random64() % disk->pending_count));
		if (random64() % 8 == 0 && disc->pending_count)
			af_end(disc, 0);
		if (random64() % 16 == 0)
			outb(BM + 2, 0x06);
	}
	stop();
}

int main(void)
{
	identity();
	resets();
	pio_read();
	pio_write();
	dma();
	dma_errors();
	others();
	cdrom();
	abused();
	return summary();
}
