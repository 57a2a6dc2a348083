/*
 * Fuzzing of AHCI: an input is a program for a hostile driver of a disk and a CD-ROM drive. Registers of every size at
 * every offset, command lists, tables and FISes in RAM, outside it and over each other, commands queued and not, resets
 * in the middle; requests of the disk end in any order, well or badly.
 */
#include "driver.h"

#include "../unit/ata_fixture.h"

#include "dev/ahci.h"

#define ABAR 0xe0000000u
#define DEVFN PCI_DEVFN(0, 0)
#define LIST 0x10000u
#define FISES 0x11000u
#define TABLES 0x20000u
#define TABLE_SIZE 0x200u
enum { STEPS = 600, SLOTS = 8, PRDS = 4 };

static struct block *disk, *disc;

static uint64_t address(struct fuzz_input *in)
{
	switch (fuzz_take(in, 1) % 16) {
	case 0: return fuzz_take(in, 8);
	case 1: return ABAR + fuzz_take(in, 2);
	case 2: return LIST + fuzz_take(in, 2); /* over its own list */
	default: return 0x100000 + fuzz_take(in, 2);
	}
}

static void build(struct fuzz_input *in)
{
	static const uint8_t often[] = {0x60, 0x61, 0x60, 0x61, 0x25, 0x35, 0x20, 0x30, 0x06, 0x42, 0x2f, 0xec,
					0xa0, 0xa1, 0xea};
	unsigned slot = (unsigned)fuzz_take(in, 1) % SLOTS, n = (unsigned)fuzz_take(in, 1) % PRDS;
	uint8_t *header = af_ram(LIST + slot * 32), *table = af_ram(TABLES + slot * TABLE_SIZE);
	uint8_t which = (uint8_t)fuzz_take(in, 1);

	pci_put32(header, 5 | n << 16);
	pci_put32(header + 8, fuzz_take(in, 1) % 16 ? TABLES + slot * TABLE_SIZE : (uint32_t)fuzz_take(in, 4));
	pci_put32(header + 12, 0);
	memset(table, 0, 0x80);
	table[0] = fuzz_take(in, 1) % 16 ? 0x27 : (uint8_t)fuzz_take(in, 1);
	table[1] = which % 16 ? 0x80 : 0;
	table[2] = which < 0xe0 ? often[which % sizeof often] : (uint8_t)fuzz_take(in, 1);
	table[3] = (uint8_t)fuzz_take(in, 1) % 64;
	table[4] = (uint8_t)fuzz_take(in, 1);
	table[5] = fuzz_take(in, 1) % 16 == 0;
	table[7] = 0x40;
	table[12] = table[2] == 0x60 || table[2] == 0x61 ? (uint8_t)(slot << 3) : (uint8_t)fuzz_take(in, 1);
	table[15] = (uint8_t)fuzz_take(in, 1) & 4;
	for (unsigned i = 0; i < 12; i++)
		table[0x40 + i] = (uint8_t)fuzz_take(in, 1) & (i < 2 || i > 6 ? 0xff : 0);
	for (unsigned i = 0; i < n; i++) {
		uint64_t a = address(in);

		pci_put32(table + 0x80 + i * 16, (uint32_t)a);
		pci_put32(table + 0x84 + i * 16, (uint32_t)(a >> 32));
		pci_put32(table + 0x8c + i * 16, (uint32_t)fuzz_take(in, 3));
	}
}

static void start(unsigned port)
{
	uint32_t at = ABAR + 0x100 + port * 0x80;

	mmio_out(at, 8, LIST);
	mmio_out(at + 8, 8, FISES);
	mmio_out(at + 0x10, 4, 0xffffffff);
	mmio_out(at + 0x14, 4, 0xffffffff);
	mmio_out(at + 0x18, 4, 0x19);
	mmio_out(at + 0x18, 4, 0x11);
	mmio_out(ABAR + 4, 4, 2);
}

static void step(struct fuzz_input *in)
{
	uint8_t what = (uint8_t)fuzz_take(in, 1);
	unsigned size = 1u << fuzz_take(in, 1) % 4, port = what & 0x80 ? 1 : 0;
	uint32_t offset = (uint32_t)fuzz_take(in, 2), at = ABAR + 0x100 + port * 0x80;

	switch (what % 16) {
	case 0: mmio_out(ABAR + offset % 0x410, size, fuzz_take(in, size)); break;
	case 1: mmio_in(ABAR + offset % 0x1000, size); break;
	case 2: mmio_out(at + offset % 0x40, size, fuzz_take(in, size)); break;
	case 3: af_set_config(DEVFN, offset & 0xfc, 4, (uint32_t)fuzz_take(in, 4)); break;
	case 4: start(port); break;
	case 5: mmio_out(at + 0x18, 4, 0x10); break;
	case 6:
	case 7:
	case 8: build(in); break;
	case 9: mmio_out(at + 0x34, 4, offset); break;
	case 10:
	case 11: mmio_out(at + 0x38, 4, offset & 0xff); break;
	case 12:
		mmio_out(at + 0x2c, 4, offset & 0xff);
		mmio_out(at + 0x2c, 4, 0);
		break;
	case 13: disk->fail = disc->fail = offset % 8 ? 0 : -EIO; break;
	default:
		if (disk->pending_count)
			af_end(disk, offset % disk->pending_count);
		if (disc->pending_count)
			af_end(disc, offset % disc->pending_count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	af_start();
	disk = af_disk(1 << 17);
	disc = af_disk(1 << 16);
	disc->readonly = true;
	const struct ahci_config config = {
		.bus = pci, .devfn = DEVFN, .drive = {{.block = disk}, {.block = disc, .cdrom = true}}};
	struct ahci *ahci = ahci_new(&config);

	if (!ahci)
		abort();
	af_set_config(DEVFN, 0x24, 4, ABAR);
	af_set_config(DEVFN, 4, 2, 6);
	start(0);
	start(1);
	for (unsigned i = 0; i < STEPS && in.size; i++)
		step(&in);
	ahci_free(ahci);
	af_disk_free(disk);
	af_disk_free(disc);
	af_stop();
	return 0;
}
