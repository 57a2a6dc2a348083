/*
 * The bus: overlap, look-up at every edge, splitting of wide and misaligned accesses, unclaimed bytes.
 */
#include "dev_fixture.h"

struct memory_device {
	uint8_t byte[16];
	unsigned accesses, widest;
	uint64_t len;
	bool misaligned, outside;
};

static void note(struct memory_device *d, uint64_t offset, unsigned size)
{
	d->accesses++;
	if (size > d->widest)
		d->widest = size;
	if (offset % size)
		d->misaligned = true;
	if (offset >= d->len || size > d->len - offset)
		d->outside = true;
}

static uint64_t device_read(void *dev, uint64_t offset, unsigned size)
{
	struct memory_device *d = dev;
	uint64_t value = UINT64_MAX << 32; /* bits above `size` must not come through */

	note(d, offset, size);
	memcpy(&value, d->byte + offset, size);
	return value;
}

static void device_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	note(dev, offset, size);
	memcpy(((struct memory_device *)dev)->byte + offset, &value, size);
}

static const struct bus_ops any = {.read = device_read, .write = device_write};
static const struct bus_ops bytes = {.read = device_read, .write = device_write, .max_size = 1};
static const struct bus_ops words = {.read = device_read, .write = device_write, .max_size = 2};
static const struct bus_ops silent;

static void registration(void)
{
	struct bus b = {0};

	CHECK_EQ(bus_register(&b, 0x100, 16, &any, NULL, "a"), 0);
	CHECK_EQ(bus_register(&b, 0x110, 16, &any, NULL, "c"), 0);
	CHECK_EQ(bus_register(&b, 0xf0, 16, &any, NULL, "b"), 0);
	CHECK_EQ(bus_register(&b, 0x100, 1, &any, NULL, ""), -EEXIST);
	CHECK_EQ(bus_register(&b, 0x10f, 1, &any, NULL, ""), -EEXIST);
	CHECK_EQ(bus_register(&b, 0xef, 2, &any, NULL, ""), -EEXIST);
	CHECK_EQ(bus_register(&b, 0, UINT64_MAX, &any, NULL, ""), -EEXIST);
	CHECK_EQ(bus_register(&b, 0, 0, &any, NULL, ""), -EINVAL);
	CHECK_EQ(bus_register(&b, UINT64_MAX, 2, &any, NULL, ""), -EINVAL);
	CHECK_EQ(bus_register(&b, UINT64_MAX, 1, &any, NULL, "last"), 0);
	CHECK_EQ(b.count, 4);
	for (unsigned i = 1; i < b.count; i++)
		CHECK(b.region[i - 1].base < b.region[i].base);
	while (b.count < BUS_REGIONS_MAX)
		CHECK_EQ(bus_register(&b, 0x1000 + b.count * 16, 1, &any, NULL, ""), 0);
	CHECK_EQ(bus_register(&b, 0x1, 1, &any, NULL, ""), -ENOSPC);
}

/* Every size at every address around three devices, against a plain array. */
static void every_access(void)
{
	struct bus b = {0};
	struct memory_device d[3] = {{.len = 16}, {.len = 7}, {.len = 16}};
	uint8_t model[64];

	memset(model, 0xff, sizeof model);
	bus_register(&b, 0x1004, 16, &any, &d[0], "any");
	bus_register(&b, 0x1014, 7, &bytes, &d[1], "bytes");
	bus_register(&b, 0x1021, 16, &words, &d[2], "words");
	for (unsigned i = 0; i < sizeof model; i++)
		if ((i >= 4 && i < 0x1b) || (i >= 0x21 && i < 0x31))
			model[i] = 0;
	for (unsigned round = 0; round < 4; round++)
		for (unsigned at = 0; at + 8 <= sizeof model; at++)
			for (unsigned size = 1; size <= 8; size *= 2) {
				uint64_t value = random64(), got, want = 0;
				bool claimed = true;

				for (unsigned i = at; i < at + size; i++)
					if (!((i >= 4 && i < 0x1b) || (i >= 0x21 && i < 0x31)))
						claimed = false;
					else
						model[i] = (uint8_t)(value >> (i - at) * 8);
				CHECK_EQ(bus_write(&b, 0x1000 + at, size, value), claimed);
				CHECK_EQ(bus_read(&b, 0x1000 + at, size, &got), claimed);
				memcpy(&want, model + at, size);
				CHECK_EQ(got, want);
			}
	for (unsigned i = 0; i < 3; i++)
		CHECK(!d[i].misaligned && !d[i].outside && d[i].accesses);
	CHECK_EQ(d[0].widest, 8);
	CHECK_EQ(d[1].widest, 1);
	CHECK_EQ(d[2].widest, 2);
}

static void odd_ones(void)
{
	struct bus b = {0};
	uint64_t value = 0;

	CHECK(!bus_read(&b, 0x3f8, 4, &value));
	CHECK_EQ(value, 0xffffffff);
	CHECK(!bus_read(&b, UINT64_MAX, 8, &value)); /* wraps */
	CHECK_EQ(value, UINT64_MAX);
	CHECK(!bus_write(&b, UINT64_MAX - 3, 8, 1));
	bus_register(&b, 0x10, 4, &silent, NULL, "no callbacks");
	CHECK(bus_read(&b, 0x10, 4, &value));
	CHECK_EQ(value, 0xffffffff);
	CHECK(bus_write(&b, 0x10, 4, 5));
}

/* Accesses are counted by name, also of regions that are gone; no device, and names that are too many, have one count each. */
static void tallies(void)
{
	static const struct bus_ops none;
	struct bus b = {0};
	uint64_t value;
	char name[8];

	CHECK_EQ(bus_register(&b, 0, 4, &none, NULL, "one"), 0);
	CHECK_EQ(bus_register(&b, 4, 4, &none, NULL, "two"), 0);
	CHECK_EQ(bus_register(&b, 8, 4, &none, NULL, "one"), 0);
	bus_read(&b, 0, 4, &value);
	bus_write(&b, 8, 4, 0);
	bus_write(&b, 4, 1, 0);
	bus_read(&b, 0x100, 1, &value);
	bus_unregister(&b, 8);
	CHECK_EQ(b.tallies, 3);
	CHECK(strcmp(b.tally[1].name, "one") == 0 && b.tally[1].reads == 1 && b.tally[1].writes == 1);
	CHECK(strcmp(b.tally[2].name, "two") == 0 && b.tally[2].reads == 0 && b.tally[2].writes == 1);
	CHECK(b.tally[0].reads == 1 && b.tally[0].writes == 0);
	for (unsigned i = 0; i < BUS_TALLIES_MAX + 8; i++) {
		snprintf(name, sizeof name, "n%u", i);
		CHECK_EQ(bus_register(&b, 0x1000 + i, 1, &none, NULL, name), 0);
		bus_read(&b, 0x1000 + i, 1, &value);
	}
	CHECK_EQ(b.tallies, BUS_TALLIES_MAX);
	CHECK(strcmp(b.tally[BUS_TALLIES_MAX - 1].name, "others") == 0);
	CHECK_EQ(b.tally[BUS_TALLIES_MAX - 1].reads, 8 + 4);
}

int main(void)
{
	registration();
	every_access();
	odd_ones();
	tallies();
	return summary();
}
