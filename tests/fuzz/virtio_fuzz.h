/*
 * Fuzzing of virtio devices. A target defines
 *
 *     static void *fuzz_new(struct pci_bus *pci, struct loop *loop);   the device, at the bus's first free slot (0)
 *     static void fuzz_free(void *device);
 *     static void fuzz_event(void *device, struct fuzz_input *in);     something from the host's side; may be empty
 *
 * with FUZZ_QUEUES (how many of its queues are used), and includes this file. An input is a program for a hostile
 * driver: registers of every size at every offset, rings set up well and badly, chains of random descriptors with
 * contents that the input says, resets in the middle. Header only.
 */
#ifndef VIRTIO_FUZZ_H
#define VIRTIO_FUZZ_H

#include "driver.h"

#include "../unit/virtio_driver.h"

enum { FUZZ_STEPS = 400, FUZZ_CHAIN = 6, FUZZ_REQUEST = 44 };

static void *fuzz_new(struct pci_bus *pci, struct loop *loop);
static void fuzz_free(void *device);
static void fuzz_event(void *device, struct fuzz_input *in);

/* An address: mostly in a small part of RAM, so that things meet; sometimes anything. */
static inline uint64_t fuzz_address(struct fuzz_input *in)
{
	uint64_t kind = fuzz_take(in, 1);

	switch (kind % 16) {
	case 0: return fuzz_take(in, 8);
	case 1: return VD_MEMORY_BASE + fuzz_take(in, 3); /* registers */
	case 2: return VD_RAM - fuzz_take(in, 1);
	case 3: return 0xa0000 - fuzz_take(in, 1);
	default: return 0x10000 + fuzz_take(in, 2);
	}
}

static inline uint32_t fuzz_length(struct fuzz_input *in)
{
	uint64_t kind = fuzz_take(in, 1);

	return kind % 16 == 0 ? (uint32_t)fuzz_take(in, 4) : kind % 4 == 0 ? (uint32_t)fuzz_take(in, 2) : kind % 64;
}

static inline void fuzz_registers(struct vd *v, struct fuzz_input *input)
{
	uint8_t what = (uint8_t)fuzz_take(input, 1);
	unsigned size = 1u << (what & 3);
	uint64_t offset = fuzz_take(input, 2) % 0x4000, value = fuzz_take(input, size);

	switch (what >> 2 & 7) {
	case 0: mmio_in(v->modern + offset, size); break;
	case 1: mmio_out(v->modern + offset, size, value); break;
	case 2: in(v->io + offset % 64, size); break;
	case 3: out(v->io + offset % 64, size, value); break;
	case 4: mmio_out(v->modern + offset % 0x40, size, value); break;
	case 5: mmio_out(v->config + offset % 0x100, size, value); break;
	case 6: mmio_in(v->config + offset % 0x100, size); break;
	default:
		if (size < 8)
			vd_pci_write(v, (unsigned)(offset & ~(size - 1ull)) % 256, size, (uint32_t)value);
	}
}

/* Sets the device up as a driver would, with any features that it offers. */
static inline void fuzz_set_up(struct vd *v, struct fuzz_input *in)
{
	uint64_t mask = fuzz_take(in, 6) | (fuzz_take(in, 1) % 4 ? VIRTIO_F_VERSION_1 : 0);
	uint16_t size = (uint16_t)fuzz_take(in, 1) % 3 ? 16 : 0;

	v->legacy = fuzz_take(in, 1) % 4 == 0 && (vd_pci(v, 0x10, 4) & 1);
	vd_free = 1 << 20;
	vd_pci_write(v, 4, 2, 7);
	vd_negotiate(v, vd_offered(v) & mask);
	for (unsigned i = 0; i < FUZZ_QUEUES; i++) {
		vd_queue_up(v, i, size);
		if (!v->queue[i].size)
			return;
	}
	vd_driver_ok(v);
}

/* Offers a chain of up to FUZZ_CHAIN random segments; the first that is read has contents from the input. */
static inline void fuzz_chain(struct vd *v, struct fuzz_input *in)
{
	unsigned queue = (unsigned)fuzz_take(in, 1) % FUZZ_QUEUES, n = (unsigned)fuzz_take(in, 1) % FUZZ_CHAIN + 1;
	unsigned outs = (unsigned)fuzz_take(in, 1) % (n + 1);
	struct vd_segment s[FUZZ_CHAIN];

	if (!v->queue[queue].size || v->queue[queue].size > 1024 || vd_free > VD_RAM / 2)
		return;
	for (unsigned i = 0; i < n; i++)
		s[i] = (struct vd_segment){fuzz_address(in), fuzz_length(in)};
	if (outs) {
		uint64_t len = fuzz_take(in, 1) % 128;

		uint64_t kind = fuzz_take(in, 1) % 8;

		if (kind == 1) /* what is there already, by fuzz_event or from before */
			s[0] = (struct vd_segment){0x8000, FUZZ_REQUEST};
		if (kind > 1) /* a good request */
			s[0] = (struct vd_segment){0x8000, (uint32_t)len};
		for (uint64_t i = 0; kind != 1 && i < len; i++)
			*vd_ram(0x8000 + i) = (uint8_t)fuzz_take(in, 1);
	}
	v->indirect = fuzz_take(in, 1) % 4 == 0;
	vd_add(v, queue, s, outs, n - outs);
	if (fuzz_take(in, 1) % 4)
		vd_kick(v, queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct vd v;

	vd_start();
	void *device = fuzz_new(pci, loop);
	if (!device)
		abort();
	vd_probe(&v, 0, false, true);
	fuzz_set_up(&v, &in);
	for (unsigned i = 0; i < FUZZ_STEPS && in.size; i++) {
		switch (fuzz_take(&in, 1) % 16) {
		case 0: case 1: fuzz_registers(&v, &in); break;
		case 2: fuzz_event(device, &in); break;
		case 3: /* somewhere in the rings */
			*vd_ram((1 << 20) + fuzz_take(&in, 2)) = (uint8_t)fuzz_take(&in, 1);
			break;
		case 4: fuzz_set_up(&v, &in); break;
		case 5: case 6: vd_turn(); break;
		case 7:
			vd_set_status(&v, (uint8_t)fuzz_take(&in, 1));
			break;
		case 8: vd_kick(&v, (unsigned)fuzz_take(&in, 1) % FUZZ_QUEUES); break;
		default: fuzz_chain(&v, &in);
		}
	}
	vd_turn();
	fuzz_free(device);
	vd_stop();
	return 0;
}

#endif
