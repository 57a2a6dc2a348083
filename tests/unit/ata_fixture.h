/*
 * What tests of ATA controllers share: RAM, a PCI bus, and a disk that is memory. Its requests end when the test says,
 * in the order that it says, with the result that it says. Header only, single thread. The disk's functions are those
 * of block/block.h, so nothing of src/block is linked.
 */
#ifndef ATA_FIXTURE_H
#define ATA_FIXTURE_H

#include "dev_fixture.h"

#include "block/block.h"
#include "pci/pci.h"

#define AF_RAM (16ull << 20)
#define AF_DISK (8ull << 20)
#define AF_PENDING 64

static struct memory memory;
static struct pci_bus *pci;
static int af_intx;
static unsigned af_messages;

static inline uint8_t *af_ram(uint64_t gpa) { return memory.base + gpa; }

static inline void af_set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	(void)opaque;
	(void)slot;
	(void)pin;
	af_intx = level;
}

static inline void af_msi(void *opaque, uint64_t address, uint32_t data)
{
	(void)opaque;
	(void)address;
	(void)data;
	af_messages++;
}

static inline uint32_t af_config(unsigned devfn, unsigned offset, unsigned size)
{
	return pci_config_read(pci, 0, devfn, offset, size);
}

static inline void af_set_config(unsigned devfn, unsigned offset, unsigned size, uint32_t value)
{
	pci_config_write(pci, 0, devfn, offset, value, size);
}

static inline void af_start(void)
{
	fixture_start();
	af_intx = 0;
	af_messages = 0;
	if (memory_init(&memory, AF_RAM) < 0) {
		perror("guest memory");
		exit(1);
	}
	const struct pci_bus_config c = {
		.memory = &memory, .pio = &pio, .mmio = &mmio, .set_intx = af_set_intx, .msi = af_msi};
	pci = pci_bus_new(&c);
}

static inline void af_stop(void)
{
	pci_bus_free(pci);
	memory_free(&memory);
	fixture_stop();
}

/* ---- the disk ---- */

struct block {
	uint8_t *data;
	uint64_t size;
	bool readonly, can_discard;
	int fail; /* what requests end with */
	struct block_request *pending[AF_PENDING];
	unsigned pending_count, most_pending;
	unsigned reads, writes, fua_writes, flushes, discards;
	uint64_t discarded; /* bytes */
};

static inline struct block *af_disk(uint64_t size)
{
	struct block *b = calloc(1, sizeof *b);

	b->data = malloc(size);
	b->size = size;
	b->can_discard = true;
	for (uint64_t i = 0; i < size; i++)
		b->data[i] = (uint8_t)(i / 512 * 7 + i % 512 * 3);
	return b;
}

static inline void af_disk_free(struct block *b)
{
	CHECK_EQ(b->pending_count, 0);
	free(b->data);
	free(b);
}

void block_submit(struct block *b, struct block_request *r)
{
	if (b->pending_count == AF_PENDING || r->offset % BLOCK_SECTOR || r->len % BLOCK_SECTOR ||
	    r->offset > b->size || r->len > b->size - r->offset) {
		printf("not ok: a bad request of the disk: %d at %llu, %llu bytes\n", r->op,
		       (unsigned long long)r->offset, (unsigned long long)r->len);
		abort();
	}
	b->pending[b->pending_count++] = r;
	if (b->pending_count > b->most_pending)
		b->most_pending = b->pending_count;
}

/* Ends request n of those that wait. */
static inline void af_end(struct block *b, unsigned n)
{
	struct block_request *r = b->pending[n];
	uint64_t at = r->offset, total = 0;
	int result = b->fail;

	b->pending_count--;
	memmove(b->pending + n, b->pending + n + 1, (b->pending_count - n) * sizeof b->pending[0]);
	for (int i = 0; i < r->iov_count; i++)
		total += r->iov[i].iov_len;
	if ((r->op == BLOCK_READ || r->op == BLOCK_WRITE) && total != r->len)
		abort();
	if (result == 0 && r->op == BLOCK_WRITE && b->readonly)
		result = -EROFS;
	for (int i = 0; i < r->iov_count && result == 0; i++) {
		if (r->op == BLOCK_READ)
			memcpy(r->iov[i].iov_base, b->data + at, r->iov[i].iov_len);
		else if (r->op == BLOCK_WRITE)
			memcpy(b->data + at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
	b->reads += r->op == BLOCK_READ;
	b->writes += r->op == BLOCK_WRITE;
	b->fua_writes += r->op == BLOCK_WRITE && r->fua;
	b->flushes += r->op == BLOCK_FLUSH;
	b->discards += r->op == BLOCK_DISCARD;
	b->discarded += r->op == BLOCK_DISCARD ? r->len : 0;
	r->done(r, result);
}

/* Ends all, also those that come meanwhile. */
static inline void af_end_all(struct block *b)
{
	while (b->pending_count)
		af_end(b, 0);
}

void block_drain(struct block *b) { af_end_all(b); }
uint64_t block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
bool block_can_discard(const struct block *b) { return b->can_discard; }
bool block_write_cache(const struct block *b) { (void)b; return true; }

#endif
