/*
 * NOR flash. See pflash.h.
 *
 * In read-array mode the chip is mapped as read-only memory. The first command takes the mapping away, so that reads
 * come here too, and the command to read the array again brings it back; what was programmed in between is told to
 * `written` by then, range after range.
 */
#include "dev/pflash.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mem/bus.h"
#include "mem/memory.h"

enum {
	CMD_PROGRAM = 0x10, CMD_ERASE = 0x20, CMD_PROGRAM_ALTERNATE = 0x40, CMD_CLEAR_STATUS = 0x50, CMD_LOCK = 0x60,
	CMD_READ_STATUS = 0x70, CMD_READ_ID = 0x90, CMD_QUERY = 0x98, CMD_CONFIRM = 0xd0, CMD_BUFFER = 0xe8,
	CMD_READ_ARRAY = 0xff,
};
enum { LOCK_SET = 0x01, LOCK_DOWN = 0x2f };
enum { STATUS_READY = 0x80, STATUS_ERASE_ERROR = 0x20, STATUS_PROGRAM_ERROR = 0x10 };
#define STATUS_SEQUENCE_ERROR (STATUS_ERASE_ERROR | STATUS_PROGRAM_ERROR)
enum { ID_INTEL = 0x89, ID_DEVICE = 0x18 };

#define BUFFER_SHIFT 6
#define BUFFER_SIZE (1u << BUFFER_SHIFT)

enum mode { MODE_ARRAY, MODE_STATUS, MODE_ID, MODE_QUERY }; /* what reads give */
enum step { STEP_COMMAND, STEP_PROGRAM, STEP_ERASE, STEP_LOCK, STEP_COUNT, STEP_DATA, STEP_CONFIRM };

struct pflash {
	struct pflash_config config;
	enum mode mode;
	enum step step;
	uint8_t status;
	bool mapped;
	uint64_t begin, end; /* programmed since `written` was told; begin == end: nothing */
	struct {
		uint64_t at; /* of the buffer's block */
		unsigned left;
		uint8_t data[BUFFER_SIZE];
		bool used[BUFFER_SIZE];
	} buffer;
};

static void tell(struct pflash *f)
{
	if (f->end > f->begin && f->config.written)
		f->config.written(f->config.opaque, f->begin, f->end - f->begin);
	f->begin = f->end = 0;
}

static void map(struct pflash *f, bool on)
{
	const struct pflash_config *c = &f->config;

	if (on == f->mapped)
		return;
	if (on)
		f->mapped = memory_map(c->memory, c->gpa, c->size, c->offset, true) == 0;
	else {
		memory_unmap(c->memory, c->gpa, c->size, c->offset);
		f->mapped = false;
	}
}

static void set_mode(struct pflash *f, enum mode mode, enum step step)
{
	f->mode = mode;
	f->step = step;
	if (mode == MODE_ARRAY)
		tell(f);
	map(f, mode == MODE_ARRAY && step == STEP_COMMAND);
}

/* ---- the array ---- */

static uint8_t *byte_at(const struct pflash *f, uint64_t at) { return f->config.memory->base + f->config.offset + at; }

/* What does not go on where the last change ended is told by itself, so that the order is known. Before the change. */
static void note(struct pflash *f, uint64_t at, uint64_t len)
{
	if (f->begin == f->end || at != f->end) {
		tell(f);
		f->begin = at;
	}
	f->end = at + len;
}

/* Programming only makes zeros of ones. */
static void program(struct pflash *f, uint64_t at, uint8_t value)
{
	value &= *byte_at(f, at);
	note(f, at, 1);
	memory_block_write(f->config.memory, f->config.offset + at, &value, 1);
}

static void erase(struct pflash *f, uint64_t at)
{
	uint8_t ones[PFLASH_SECTOR];

	at &= ~(uint64_t)(PFLASH_SECTOR - 1);
	memset(ones, 0xff, sizeof ones);
	note(f, at, sizeof ones);
	memory_block_write(f->config.memory, f->config.offset + at, ones, sizeof ones);
}

/* ---- commands ---- */

static void command(struct pflash *f, uint64_t at, uint8_t value)
{
	switch (value) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALTERNATE:
		set_mode(f, MODE_STATUS, STEP_PROGRAM);
		break;
	case CMD_ERASE:
		set_mode(f, MODE_STATUS, STEP_ERASE);
		break;
	case CMD_LOCK:
		set_mode(f, MODE_STATUS, STEP_LOCK);
		break;
	case CMD_BUFFER:
		f->status |= STATUS_READY;
		memset(&f->buffer, 0, sizeof f->buffer);
		f->buffer.at = at & ~(uint64_t)(BUFFER_SIZE - 1);
		set_mode(f, MODE_STATUS, STEP_COUNT);
		break;
	case CMD_CLEAR_STATUS:
		f->status = 0;
		set_mode(f, MODE_ARRAY, STEP_COMMAND);
		break;
	case CMD_READ_STATUS:
		set_mode(f, MODE_STATUS, STEP_COMMAND);
		break;
	case CMD_READ_ID:
		set_mode(f, MODE_ID, STEP_COMMAND);
		break;
	case CMD_QUERY:
		set_mode(f, MODE_QUERY, STEP_COMMAND);
		break;
	default: /* CMD_READ_ARRAY, and what is no command */
		set_mode(f, MODE_ARRAY, STEP_COMMAND);
	}
}

static void done(struct pflash *f, uint8_t errors)
{
	f->status |= STATUS_READY | errors;
	set_mode(f, MODE_STATUS, STEP_COMMAND);
}

static void buffer_data(struct pflash *f, uint64_t at, uint8_t value)
{
	uint64_t n = at - f->buffer.at;

	if (n >= BUFFER_SIZE) {
		done(f, STATUS_SEQUENCE_ERROR);
		return;
	}
	f->buffer.data[n] = value;
	f->buffer.used[n] = true;
	if (--f->buffer.left == 0)
		f->step = STEP_CONFIRM;
}

static void buffer_confirm(struct pflash *f, uint8_t value)
{
	for (unsigned i = 0; value == CMD_CONFIRM && i < BUFFER_SIZE; i++)
		if (f->buffer.used[i] && f->buffer.at + i < f->config.size)
			program(f, f->buffer.at + i, f->buffer.data[i]);
	done(f, value == CMD_CONFIRM ? 0 : STATUS_SEQUENCE_ERROR);
}

static void flash_write(void *dev, uint64_t at, uint64_t data, unsigned size)
{
	struct pflash *f = dev;
	uint8_t value = (uint8_t)data;

	(void)size;
	switch (f->step) {
	case STEP_COMMAND:
		command(f, at, value);
		break;
	case STEP_PROGRAM:
		program(f, at, value);
		done(f, 0);
		break;
	case STEP_ERASE:
		if (value == CMD_CONFIRM)
			erase(f, at);
		done(f, value == CMD_CONFIRM ? 0 : STATUS_SEQUENCE_ERROR);
		break;
	case STEP_LOCK:
		done(f, value == LOCK_SET || value == LOCK_DOWN || value == CMD_CONFIRM ? 0 : STATUS_SEQUENCE_ERROR);
		break;
	case STEP_COUNT:
		if (value >= BUFFER_SIZE) {
			done(f, STATUS_SEQUENCE_ERROR);
			break;
		}
		f->buffer.left = value + 1u;
		f->step = STEP_DATA;
		break;
	case STEP_DATA:
		buffer_data(f, at, value);
		break;
	case STEP_CONFIRM:
		buffer_confirm(f, value);
		break;
	}
}

/* ---- reads ---- */

static uint8_t log2_of(uint64_t size) { return (uint8_t)(63 - __builtin_clzll(size)); }

/* JESD68.01: query identification, system interface, geometry. */
static uint8_t query(const struct pflash *f, unsigned at)
{
	uint64_t sectors = f->config.size / PFLASH_SECTOR - 1;
	const uint8_t table[] = {
		'Q', 'R', 'Y', 0x01, 0x00, 0x31, 0x00, 0, 0, 0, 0,   /* 0x10: Intel's command set, its table at 0x31 */
		0x45, 0x55, 0, 0, 7, 7, 10, 0, 4, 4, 4, 0,           /* 0x1b: voltages, times */
		log2_of(f->config.size), 0, 0, BUFFER_SHIFT, 0, 1,   /* 0x27: size, by bytes, buffer, one region */
		(uint8_t)sectors, (uint8_t)(sectors >> 8), (uint8_t)(PFLASH_SECTOR >> 8), (uint8_t)(PFLASH_SECTOR >> 16),
		'P', 'R', 'I', '1', '0', 0, 0, 0, 0, 0, 0, 0,         /* 0x31: no options */
	};

	return at >= 0x10 && at - 0x10 < sizeof table ? table[at - 0x10] : 0;
}

static uint64_t flash_read(void *dev, uint64_t at, unsigned size)
{
	const struct pflash *f = dev;

	(void)size;
	switch (f->mode) {
	case MODE_STATUS:
		return f->status;
	case MODE_ID:
		return (at & 0xff) == 0 ? ID_INTEL : (at & 0xff) == 1 ? ID_DEVICE : 0;
	case MODE_QUERY:
		return query(f, at & 0xff);
	case MODE_ARRAY:
		break;
	}
	return *byte_at(f, at);
}

static const struct bus_ops ops = {.read = flash_read, .write = flash_write, .max_size = 1};

/* ---- life ---- */

struct pflash *pflash_new(const struct pflash_config *config)
{
	struct pflash *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return NULL;
	f->config = *config;
	f->status = STATUS_READY;
	r = bus_register(config->mmio, config->gpa, config->size, &ops, f, "flash");
	if (r < 0) {
		free(f);
		errno = -r;
		return NULL;
	}
	map(f, true);
	return f;
}

void pflash_free(struct pflash *f)
{
	if (!f)
		return;
	tell(f);
	free(f);
}
