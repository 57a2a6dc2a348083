/*
 * Fuzzing of IDE: an input is a program for a hostile driver of a disk and a CD-ROM drive. Registers of every size,
 * commands with random registers, packets, PRD tables with good and bad addresses, PIO, resets in the middle; requests
 * of the disk end in any order, well or badly.
 */
#include "driver.h"

#include "../unit/ata_fixture.h"

#include "dev/ide.h"

#define BM 0xc000u
#define DEVFN PCI_DEVFN(1, 1)
#define TABLE 0x10000u
enum { STEPS = 600, PRDS = 8 };

static struct block *disk, *disc;

/* An address: mostly in RAM, sometimes anything. */
static uint32_t address(struct fuzz_input *f)
{
	return fuzz_take(f, 1) % 8 ? 0x100000 + (uint32_t)fuzz_take(f, 2) : (uint32_t)fuzz_take(f, 4);
}

static void put_table(struct fuzz_input *f)
{
	unsigned n = (unsigned)fuzz_take(f, 1) % PRDS;

	for (unsigned i = 0; i <= n; i++) {
		pci_put32(af_ram(TABLE) + i * 8, address(f));
		pci_put32(af_ram(TABLE) + i * 8 + 4, (uint32_t)fuzz_take(f, 2) | (i == n ? 0x80000000 : 0));
	}
	out(BM + 4, 4, fuzz_take(f, 1) % 16 ? TABLE : fuzz_take(f, 4));
}

static void command(struct fuzz_input *f)
{
	static const uint8_t often[] = {0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x06, 0x40, 0xc4, 0xc5, 0xc8,
					0xca, 0xec, 0xef, 0xb0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa1, 0xea, 0x08};
	uint8_t which = (uint8_t)fuzz_take(f, 1);

	outb(0x1f6, (uint8_t)(fuzz_take(f, 1) & 0xf3) | 0x40);
	outb(0x1f1, (uint8_t)fuzz_take(f, 1));
	for (unsigned i = 2; i <= 5; i++) {
		outb(0x1f0 + i, 0);
		outb(0x1f0 + i, (uint8_t)fuzz_take(f, 1));
	}
	outb(0x1f7, which < 0xc0 ? often[which % sizeof often] : (uint8_t)fuzz_take(f, 1));
}

/* A packet, or data of the host. */
static void packet(struct fuzz_input *f)
{
	static const uint8_t often[] = {0x28, 0xa8, 0xbe, 0xb9, 0x12, 0x03, 0x43, 0x46, 0x4a, 0x5a, 0x1a, 0x55, 0x15,
					0x1b, 0x42, 0x51, 0x52, 0xad, 0x25, 0x00};

	out(0x1f0, 2, often[fuzz_take(f, 1) % sizeof often] | fuzz_take(f, 1) << 8);
	for (unsigned i = 1; i < 6; i++)
		out(0x1f0, 2, fuzz_take(f, 2) & 0x0fff);
}

static void step(struct fuzz_input *f)
{
	uint8_t what = (uint8_t)fuzz_take(f, 1), size = (uint8_t)(1u << fuzz_take(f, 1) % 4);
	uint64_t offset = fuzz_take(f, 1);

	switch (what % 16) {
	case 0: out(0x1f0 + offset % 8, size, fuzz_take(f, size)); break;
	case 1: in(0x1f0 + offset % 8, size); break;
	case 2: out(BM + offset % 16, size, fuzz_take(f, size)); break;
	case 3: in(BM + offset % 16, size); break;
	case 4: outb(0x3f6, (uint8_t)(offset & 0x86)); break;
	case 5: af_set_config(DEVFN, (unsigned)offset & 0xfc, 4, (uint32_t)fuzz_take(f, 4)); break;
	case 6: af_set_config(DEVFN, 4, 2, 7); break;
	case 7: put_table(f); break;
	case 8: outb(BM, (uint8_t)(offset & 8)); outb(BM, (uint8_t)(offset & 8) | 1); break;
	case 9:
	case 10: command(f); break;
	case 11: packet(f); break;
	case 12:
		for (unsigned i = 0; i < offset; i++)
			what & 0x80 ? out(0x1f0, 4, i * 0x01020304u) : (void)in(0x1f0, 4);
		break;
	case 13:
		disk->fail = disc->fail = offset % 8 ? 0 : -EIO;
		break;
	default:
		if (disk->pending_count)
			af_end(disk, (unsigned)offset % disk->pending_count);
		if (disc->pending_count)
			af_end(disc, (unsigned)offset % disc->pending_count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input f = {data, size};

	af_start();
	disk = af_disk(1 << 17);
	disc = af_disk(1 << 16);
	disc->readonly = true;
	const struct ide_config config = {.bus = pci,
					  .devfn = DEVFN,
					  .pio = &pio,
					  .irq = {test_line(14), test_line(15)},
					  .drive = {{{.block = disk}, {.block = disc, .cdrom = true}}}};
	struct ide *ide = ide_new(&config);

	if (!ide)
		abort();
	af_set_config(DEVFN, 0x20, 4, BM | 1);
	af_set_config(DEVFN, 4, 2, 7);
	for (unsigned i = 0; i < STEPS && f.size; i++)
		step(&f);
	ide_free(ide);
	af_disk_free(disk);
	af_disk_free(disc);
	af_stop();
	return 0;
}
