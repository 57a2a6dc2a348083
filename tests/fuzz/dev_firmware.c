/*
 * Fuzz target: what firmware talks to: fw_cfg with its DMA, the flash chip, the PAM registers. An input is a list of
 * accesses as a hostile guest makes them; nothing outside the chip and RAM may change, and mappings stay bounded.
 */
#include "driver.h"

#include "dev/fw_cfg.h"
#include "dev/pflash.h"
#include "mem/bus.h"
#include "mem/memory.h"
#include "pci/pam.h"

#define RAM (2u << 20)
#define FLASH_GPA 0xfff80000ull
#define FLASH_SIZE 0x10000u
#define ROM_SIZE 0x20000u
#define DESCRIPTOR 0x1000u

static struct memory memory;
static struct bus pio, mmio;
static uint64_t flash_offset;

static void written(void *opaque, uint64_t at, uint64_t len)
{
	(void)opaque;
	if (at >= FLASH_SIZE || len > FLASH_SIZE - at || len == 0)
		abort();
}

/* As a vCPU does it: memory where there is some, else the bus. */
static void access_memory(struct fuzz_input *in, uint64_t gpa)
{
	unsigned how = (unsigned)fuzz_take(in, 1), size = 1u << (how >> 1 & 3);
	uint64_t value = fuzz_take(in, size);

	if (how & 1) {
		if (memory_write(&memory, gpa, &value, size) < 0)
			bus_write(&mmio, gpa, size, value);
	} else if (memory_read(&memory, gpa, &value, size) < 0) {
		bus_read(&mmio, gpa, size, &value);
	}
}

static void access_fw_cfg(struct fuzz_input *in)
{
	unsigned how = (unsigned)fuzz_take(in, 1), size = 1u << (how >> 1 & 3);
	uint64_t port = FW_CFG_BASE + fuzz_take(in, 1) % FW_CFG_PORTS, value;

	if (how & 1)
		bus_write(&pio, port, size, fuzz_take(in, size));
	else
		bus_read(&pio, port, size, &value);
}

/* A descriptor in memory, its fields from the input, and its address to the register. */
static void dma(struct fuzz_input *in)
{
	uint32_t control = (uint32_t)fuzz_take(in, 1) | (uint32_t)(fuzz_take(in, 1) % 40) << 16;
	uint32_t length = __builtin_bswap32((uint32_t)fuzz_take(in, 4) >> fuzz_take(in, 1) % 32);
	uint64_t address = __builtin_bswap64(fuzz_take(in, 3));
	uint64_t at = fuzz_take(in, 1) & 1 ? DESCRIPTOR : fuzz_take(in, 5);

	control = __builtin_bswap32(control);
	memory_write(&memory, DESCRIPTOR, &control, 4);
	memory_write(&memory, DESCRIPTOR + 4, &length, 4);
	memory_write(&memory, DESCRIPTOR + 8, &address, 8);
	bus_write(&pio, FW_CFG_BASE + 4, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	bus_write(&pio, FW_CFG_BASE + 8, 4, __builtin_bswap32((uint32_t)at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint64_t rom;
	struct pam pam;

	pio.count = mmio.count = 0;
	if (memory_init(&memory, RAM) < 0 || memory_add_block(&memory, ROM_SIZE, &rom) < 0 ||
	    memory_add_block(&memory, FLASH_SIZE, &flash_offset) < 0)
		abort();
	const struct pflash_config config = {.memory = &memory, .mmio = &mmio, .gpa = FLASH_GPA, .offset = flash_offset,
					     .size = FLASH_SIZE, .written = written};
	struct pflash *flash = pflash_new(&config);
	struct fw_cfg *f = fw_cfg_new(&pio, &memory);
	if (!flash || !f || pam_init(&pam, &memory, &mmio) < 0 || fw_cfg_add_file(f, "etc/file", data, size) < 0)
		abort();
	memset(memory.base + rom, 0xf4, ROM_SIZE);
	pam_set_rom(&pam, rom, ROM_SIZE);
	while (in.size) {
		switch (fuzz_take(&in, 1) % 6) {
		case 0:
			access_fw_cfg(&in);
			break;
		case 1:
			dma(&in);
			break;
		case 2:
			pam_write(&pam, (unsigned)fuzz_take(&in, 1) % 9, (uint8_t)fuzz_take(&in, 1));
			break;
		case 3:
			access_memory(&in, 0xbfff8 + fuzz_take(&in, 3) % 0x40010);
			break;
		default:
			access_memory(&in, FLASH_GPA + fuzz_take(&in, 2) % 0x200);
		}
		if (memory.maps > PAM_SEGMENTS + 1)
			abort();
	}
	for (unsigned i = 0; i < ROM_SIZE; i++)
		if (memory.base[rom + i] != 0xf4)
			abort();
	pflash_free(flash);
	fw_cfg_free(f);
	memory_free(&memory);
	return 0;
}
