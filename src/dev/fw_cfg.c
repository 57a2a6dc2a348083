/*
 * fw_cfg. See fw_cfg.h. Nothing is writable: DMA writes report an error, bytes written to the data port are lost.
 */
#include "dev/fw_cfg.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mem/bus.h"
#include "mem/memory.h"
#include "util/log.h"

#define ITEMS_MAX 64
#define KEY_MASK 0xbfff /* bit 14 asks for write access, of old */
#define NO_ITEM 0xffff

enum { SELECTOR = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8 }; /* offsets of the registers */
enum { ID_PORTS = 1, ID_DMA = 2 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
static const char dma_signature[8] = "QEMU CFG";

/* In guest memory, big-endian. */
struct dma_access {
	uint32_t control, length;
	uint64_t address;
};

struct directory_entry {
	uint32_t size; /* big-endian, as `key` */
	uint16_t key, reserved;
	char name[FW_CFG_NAME_MAX + 1];
};
_Static_assert(sizeof(struct directory_entry) == 64, "as the specification has it");

struct item {
	uint16_t key;
	uint32_t size;
	uint8_t *data;
};

struct fw_cfg {
	struct memory *memory;
	struct item item[ITEMS_MAX];
	unsigned items;
	struct directory_entry entry[ITEMS_MAX];
	unsigned files;
	uint16_t selected;
	uint64_t offset; /* in the selected item; may be far behind its end */
	uint32_t dma_high;
	void (*on_select)(void *opaque, const char *name);
	void *opaque;
};

/* ---- items ---- */

static struct item *find(struct fw_cfg *f, uint16_t key)
{
	for (unsigned i = 0; i < f->items; i++)
		if (f->item[i].key == key)
			return &f->item[i];
	return NULL;
}

int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t size)
{
	if (find(f, key))
		return -EEXIST;
	if (f->items == ITEMS_MAX || size > UINT32_MAX)
		return -ENOSPC;
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, size);
	f->item[f->items++] = (struct item){.key = key, .size = (uint32_t)size, .data = copy};
	return 0;
}

/* The directory is an item as well, made anew with each file. */
static int update_directory(struct fw_cfg *f)
{
	size_t size = 4 + f->files * sizeof f->entry[0];
	struct item *directory = find(f, FW_CFG_DIRECTORY);
	uint32_t count = __builtin_bswap32(f->files);
	uint8_t *data = realloc(directory->data, size);

	if (!data)
		return -ENOMEM;
	directory->data = data;
	directory->size = (uint32_t)size;
	memcpy(data, &count, 4);
	memcpy(data + 4, f->entry, size - 4);
	return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t size)
{
	uint16_t key = (uint16_t)(FW_CFG_FILES + f->files);

	if (strlen(name) > FW_CFG_NAME_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < f->files; i++)
		if (strcmp(f->entry[i].name, name) == 0)
			return -EEXIST;
	int r = fw_cfg_add(f, key, data, size);
	if (r < 0)
		return r;
	struct directory_entry *e = &f->entry[f->files++];
	e->size = __builtin_bswap32((uint32_t)size);
	e->key = __builtin_bswap16(key);
	strcpy(e->name, name);
	return update_directory(f);
}

int fw_cfg_add_integer(struct fw_cfg *f, uint16_t key, uint64_t value, unsigned size)
{
	return fw_cfg_add(f, key, &value, size);
}

int fw_cfg_add_integer_file(struct fw_cfg *f, const char *name, uint64_t value, unsigned size)
{
	return fw_cfg_add_file(f, name, &value, size);
}

int fw_cfg_change_file(struct fw_cfg *f, const char *name, const void *data, size_t size)
{
	for (unsigned i = 0; i < f->files; i++) {
		if (strcmp(f->entry[i].name, name) != 0)
			continue;
		const struct item *item = find(f, (uint16_t)(FW_CFG_FILES + i));
		if (item->size != size)
			return -EINVAL;
		memcpy(item->data, data, size);
		return 0;
	}
	return -ENOENT;
}

void fw_cfg_on_select(struct fw_cfg *f, void (*selected)(void *opaque, const char *name), void *opaque)
{
	f->on_select = selected;
	f->opaque = opaque;
}

static void select_item(struct fw_cfg *f, uint16_t key)
{
	unsigned file = (key & KEY_MASK) - (unsigned)FW_CFG_FILES;

	if (f->on_select && file < f->files)
		f->on_select(f->opaque, f->entry[file].name);
	f->selected = find(f, key & KEY_MASK) ? key & KEY_MASK : NO_ITEM;
	f->offset = 0;
}

/* What is left of the selected item. */
static uint32_t rest(struct fw_cfg *f, const uint8_t **data)
{
	const struct item *i = find(f, f->selected);

	if (!i || f->offset >= i->size)
		return 0;
	*data = i->data + f->offset;
	return i->size - (uint32_t)f->offset;
}

static uint8_t next_byte(struct fw_cfg *f)
{
	const uint8_t *data;

	if (!rest(f, &data))
		return 0;
	f->offset++;
	return *data;
}

/* ---- DMA ---- */

/* Behind an item's end there are zeros. */
static bool dma_read(struct fw_cfg *f, uint64_t gpa, uint32_t len)
{
	const uint8_t *data = NULL;
	uint32_t have = rest(f, &data), n = have < len ? have : len;

	if (memory_offset_writable(f->memory, gpa, len) == MEMORY_NOT_RAM)
		return false;
	if (n)
		memory_write(f->memory, gpa, data, n);
	memory_fill(f->memory, gpa + n, 0, len - n);
	return true;
}

static void dma(struct fw_cfg *f, uint64_t gpa)
{
	struct dma_access a;
	uint32_t status = 0;

	if (memory_read(f->memory, gpa, &a, sizeof a) < 0)
		return;
	uint32_t control = __builtin_bswap32(a.control), len = __builtin_bswap32(a.length);
	if (control & DMA_SELECT)
		select_item(f, (uint16_t)(control >> 16));
	if (control & DMA_READ) {
		if (len && !dma_read(f, __builtin_bswap64(a.address), len))
			status = DMA_ERROR;
	} else if (control & DMA_WRITE) {
		status = DMA_ERROR;
	}
	if (control & (DMA_READ | DMA_WRITE | DMA_SKIP))
		f->offset += len;
	LOG(LOG_FIRMWARE, "fw_cfg: control %#x, item %#x, %u bytes%s", control, f->selected, len, status ? ": error" : "");
	status = __builtin_bswap32(status);
	memory_write(f->memory, gpa, &status, 4);
}

/* ---- registers ---- */

static uint64_t fw_cfg_read(void *dev, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (offset == DATA && size == 1)
		return next_byte(dev);
	if (offset < DMA_HIGH)
		return UINT64_MAX;
	memcpy(&value, dma_signature + (offset - DMA_HIGH), size);
	return value;
}

static void fw_cfg_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct fw_cfg *f = dev;

	if (offset == SELECTOR && size == 2) {
		select_item(f, (uint16_t)value);
	} else if (offset == DMA_HIGH && size == 4) {
		f->dma_high = __builtin_bswap32((uint32_t)value);
	} else if (offset == DMA_LOW && size == 4) {
		uint64_t gpa = (uint64_t)f->dma_high << 32 | __builtin_bswap32((uint32_t)value);

		f->dma_high = 0;
		dma(f, gpa);
	}
}

static const struct bus_ops ops = {.read = fw_cfg_read, .write = fw_cfg_write, .max_size = 4};

struct fw_cfg *fw_cfg_new(struct bus *pio, struct memory *memory)
{
	struct fw_cfg *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return NULL;
	f->memory = memory;
	f->selected = NO_ITEM;
	if ((r = fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4)) < 0 ||
	    (r = fw_cfg_add_integer(f, FW_CFG_ID, ID_PORTS | ID_DMA, 4)) < 0 ||
	    (r = fw_cfg_add_integer(f, FW_CFG_DIRECTORY, 0, 4)) < 0 ||
	    (r = bus_register(pio, FW_CFG_BASE, FW_CFG_PORTS, &ops, f, "fw_cfg")) < 0) {
		fw_cfg_free(f);
		errno = -r;
		return NULL;
	}
	return f;
}

void fw_cfg_free(struct fw_cfg *f)
{
	if (!f)
		return;
	for (unsigned i = 0; i < f->items; i++)
		free(f->item[i].data);
	free(f);
}
