/*
 * SMBIOS structures. See smbios.h.
 */
#include "boot/smbios.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TABLES_MAX 32768u
#define MANUFACTURER "Ringside"
#define MAJOR 2
#define MINOR 8

enum {
	TYPE_SYSTEM = 1, TYPE_CHASSIS = 3, TYPE_PROCESSOR = 4, TYPE_MEMORY_ARRAY = 16, TYPE_MEMORY_DEVICE = 17,
	TYPE_MEMORY_MAPPED = 19, TYPE_BOOT = 32, TYPE_END = 127,
};
/* A structure's handle is its type in the upper byte, and its number. */
#define HANDLE(type, n) ((uint16_t)((type) << 8 | (n)))
#define NO_HANDLE 0xffffu
#define NOT_PROVIDED 0xfffeu
#define UNKNOWN 2u

struct writer {
	uint8_t *p;
	size_t len, begin; /* where the structure under way begins */
	unsigned count, longest;
	bool failed;
};

static void put(struct writer *w, uint64_t value, unsigned size)
{
	if (size > TABLES_MAX - w->len) {
		w->failed = true;
		return;
	}
	for (unsigned i = 0; i < size; i++)
		w->p[w->len++] = (uint8_t)(value >> 8 * i);
}

static void zeros(struct writer *w, unsigned n)
{
	while (n--)
		put(w, 0, 1);
}

static void begin(struct writer *w, uint8_t type, uint8_t length, unsigned n)
{
	w->begin = w->len;
	put(w, type, 1);
	put(w, length, 1);
	put(w, HANDLE(type, n), 2);
}

/* The strings, number 1 first, NULL after the last: they follow the fields. */
static void end(struct writer *w, const char *const *strings)
{
	for (unsigned i = 0; strings[i]; i++) {
		for (const char *c = strings[i]; *c; c++)
			put(w, (uint8_t)*c, 1);
		put(w, 0, 1);
	}
	if (!strings[0])
		put(w, 0, 1);
	put(w, 0, 1);
	w->count++;
	if (w->len - w->begin > w->longest)
		w->longest = (unsigned)(w->len - w->begin);
}

#define END(w, ...) end(w, (const char *const[]){__VA_ARGS__ __VA_OPT__(,) NULL})

/* 7.2 */
static void add_system(struct writer *w, const struct smbios_config *c)
{
	begin(w, TYPE_SYSTEM, 27, 0);
	put(w, 1, 1); /* manufacturer */
	put(w, 2, 1); /* product */
	put(w, 0, 2); /* version, serial number: none */
	zeros(w, 16); /* UUID: none */
	put(w, 6, 1); /* wake-up: power switch */
	put(w, 0, 2); /* SKU, family: none */
	END(w, MANUFACTURER, c->product);
}

/* 7.4 */
static void add_chassis(struct writer *w)
{
	begin(w, TYPE_CHASSIS, 22, 0);
	put(w, 1, 1); /* manufacturer */
	put(w, 1, 1); /* type: other */
	put(w, 0, 3); /* version, serial number, asset tag: none */
	put(w, 3, 1); /* boot-up state: safe */
	put(w, 3, 1); /* power supply */
	put(w, 3, 1); /* thermal */
	put(w, UNKNOWN, 1); /* security */
	put(w, 0, 4); /* OEM */
	put(w, 0, 4); /* height, power cords, contained elements and their length */
	put(w, 0, 1); /* SKU: none */
	END(w, MANUFACTURER);
}

/* 7.5: a socket a processor, as CPUID has it */
static void add_processor(struct writer *w, const struct smbios_config *c, unsigned n)
{
	begin(w, TYPE_PROCESSOR, 42, n);
	put(w, 1, 1); /* socket */
	put(w, 3, 1); /* central processor */
	put(w, 1, 1); /* family: other */
	put(w, 2, 1); /* manufacturer */
	put(w, c->cpuid_1, 8);
	put(w, 0, 1); /* version: none */
	put(w, 0, 1); /* voltage: unknown */
	put(w, 0, 2); /* external clock: unknown */
	put(w, 2000, 2); /* maximum speed, current speed: MHz, nominal */
	put(w, 2000, 2);
	put(w, 0x41, 1); /* populated, enabled */
	put(w, 1, 1); /* upgrade: other */
	put(w, 0xffff, 2); /* caches: no structures */
	put(w, 0xffff, 2);
	put(w, 0xffff, 2);
	put(w, 0, 3); /* serial number, asset tag, part number: none */
	put(w, 1, 1); /* cores, enabled cores, threads */
	put(w, 1, 1);
	put(w, 1, 1);
	put(w, UNKNOWN, 2); /* characteristics */
	put(w, 1, 2); /* family 2 */
	END(w, "CPU", MANUFACTURER);
}

/* 7.17, 7.18: one array with one device of all RAM */
static void add_memory(struct writer *w, const struct smbios_config *c)
{
	uint64_t mib = (c->memory_low + c->memory_high) >> 20, kib = (c->memory_low + c->memory_high) >> 10;

	begin(w, TYPE_MEMORY_ARRAY, 23, 0);
	put(w, 1, 1); /* location: other */
	put(w, 3, 1); /* use: system memory */
	put(w, 6, 1); /* error correction: multi-bit */
	put(w, kib < 0x80000000 ? kib : 0x80000000, 4);
	put(w, NOT_PROVIDED, 2); /* error information */
	put(w, 1, 2); /* devices */
	put(w, kib < 0x80000000 ? 0 : c->memory_low + c->memory_high, 8);
	END(w);

	begin(w, TYPE_MEMORY_DEVICE, 40, 0);
	put(w, HANDLE(TYPE_MEMORY_ARRAY, 0), 2);
	put(w, NOT_PROVIDED, 2); /* error information */
	put(w, 0xffff, 2); /* widths: unknown */
	put(w, 0xffff, 2);
	put(w, mib < 0x7fff ? mib : 0x7fff, 2);
	put(w, 9, 1); /* form factor: DIMM */
	put(w, 0, 1); /* set: none */
	put(w, 1, 1); /* locator */
	put(w, 0, 1); /* bank: none */
	put(w, 7, 1); /* type: RAM */
	put(w, 2, 2); /* detail: other */
	put(w, 0, 2); /* speed: unknown */
	put(w, 2, 1); /* manufacturer */
	put(w, 0, 3); /* serial number, asset tag, part number: none */
	put(w, 0, 1); /* rank: unknown */
	put(w, mib < 0x7fff ? 0 : mib, 4);
	put(w, 0, 2); /* configured clock: unknown */
	put(w, 0, 6); /* voltages: unknown */
	END(w, "DIMM 0", MANUFACTURER);
}

/* 7.20 */
static void add_mapped(struct writer *w, unsigned n, uint64_t base, uint64_t size)
{
	bool wide = (base + size) >> 10 > 0xffffffff;

	if (!size)
		return;
	begin(w, TYPE_MEMORY_MAPPED, 31, n);
	put(w, wide ? 0xffffffff : base >> 10, 4);
	put(w, wide ? 0xffffffff : (base + size - 1) >> 10, 4);
	put(w, HANDLE(TYPE_MEMORY_ARRAY, 0), 2);
	put(w, 1, 1); /* partition width: devices in a row */
	put(w, wide ? base : 0, 8);
	put(w, wide ? base + size - 1 : 0, 8);
	END(w);
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* 5.2.1 */
static void fill_anchor(uint8_t a[SMBIOS_ANCHOR_SIZE], const struct writer *w)
{
	memset(a, 0, SMBIOS_ANCHOR_SIZE);
	memcpy(a, "_SM_", 4);
	a[5] = SMBIOS_ANCHOR_SIZE;
	a[6] = MAJOR;
	a[7] = MINOR;
	a[8] = (uint8_t)w->longest;
	a[9] = (uint8_t)(w->longest >> 8);
	memcpy(a + 16, "_DMI_", 5);
	a[22] = (uint8_t)w->len;
	a[23] = (uint8_t)(w->len >> 8);
	a[28] = (uint8_t)w->count;
	a[29] = (uint8_t)(w->count >> 8);
	a[30] = MAJOR << 4 | MINOR;
	a[21] = checksum(a + 16, 15);
	a[4] = checksum(a, SMBIOS_ANCHOR_SIZE);
}

int smbios_make(const struct smbios_config *config, struct smbios *s)
{
	struct writer w = {.p = malloc(TABLES_MAX)};

	if (!w.p)
		return -ENOMEM;
	add_system(&w, config);
	add_chassis(&w);
	for (unsigned i = 0; i < config->cpus; i++)
		add_processor(&w, config, i);
	add_memory(&w, config);
	add_mapped(&w, 0, 0, config->memory_low);
	add_mapped(&w, 1, 1ull << 32, config->memory_high);
	begin(&w, TYPE_BOOT, 11, 0); /* 7.33: no errors */
	zeros(&w, 7);
	END(&w);
	begin(&w, TYPE_END, 4, 0);
	END(&w);
	if (w.failed) {
		free(w.p);
		return -ENOMEM;
	}
	fill_anchor(s->anchor, &w);
	s->tables = w.p;
	s->size = w.len;
	return 0;
}
