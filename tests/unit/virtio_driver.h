/*
 * A guest's side of virtio for tests: RAM, buses, a PCI bus and a loop, and a driver that finds a device, sets it up
 * (modern or legacy, split or packed), offers buffers and takes them back. Header only, single thread; the test turns
 * the loop (vd_turn). Guest addresses below 16 MiB are plain RAM: vd_ram() gives them to the test.
 */
#ifndef VIRTIO_DRIVER_H
#define VIRTIO_DRIVER_H

#include <unistd.h>

#include "dev_fixture.h"

#include "pci/pci.h"
#include "util/loop.h"
#include "virtio/virtio.h"

#define VD_RAM (16ull << 20)
#define VD_QUEUES 16
#define VD_IO_BASE 0xc000u
#define VD_MEMORY_BASE 0xe0000000u

enum { VD_ACKNOWLEDGE = 1, VD_DRIVER = 2, VD_DRIVER_OK = 4, VD_FEATURES_OK = 8, VD_NEEDS_RESET = 64 };
enum { VD_NEXT = 1, VD_WRITE = 2, VD_INDIRECT = 4, VD_AVAIL = 1 << 7, VD_USED = 1 << 15 };
/* Common configuration, legacy registers. */
enum {
	VC_DEVICE_SELECT = 0, VC_DEVICE = 4, VC_DRIVER_SELECT = 8, VC_DRIVER = 12, VC_CONFIG_VECTOR = 16, VC_QUEUES = 18,
	VC_STATUS = 20, VC_GENERATION = 21, VC_SELECT = 22, VC_SIZE = 24, VC_VECTOR = 26, VC_ENABLE = 28, VC_NOTIFY = 30,
	VC_DESCRIPTORS = 32, VC_DRIVER_AREA = 40, VC_DEVICE_AREA = 48, VC_RESET = 58,
};
enum {
	VL_DEVICE = 0, VL_DRIVER = 4, VL_PFN = 8, VL_SIZE = 12, VL_SELECT = 14, VL_NOTIFY = 16, VL_STATUS = 18, VL_ISR = 19,
	VL_CONFIG_VECTOR = 20, VL_VECTOR = 22,
};

static struct memory memory;
static struct pci_bus *pci;
static struct loop *loop;
static pthread_mutex_t vd_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned vd_messages[64]; /* MSI-X messages by their data */
static int vd_intx;
static uint64_t vd_free; /* guest memory not yet given out */

/* ---- the machine ---- */

static inline uint8_t *vd_ram(uint64_t gpa) { return memory.base + gpa; }

static inline void vd_set_intx(void *opaque, unsigned slot, unsigned pin, int level)
{
	(void)opaque;
	(void)slot;
	(void)pin;
	vd_intx = level;
}

static inline void vd_msi(void *opaque, uint64_t address, uint32_t data)
{
	(void)opaque;
	(void)address;
	vd_messages[data % 64]++;
}

static inline void vd_start(void)
{
	fixture_start();
	memset(vd_messages, 0, sizeof vd_messages);
	vd_intx = 0;
	vd_free = 1 << 20;
	loop = loop_new(&vd_lock);
	if (!loop || memory_init(&memory, VD_RAM) < 0) {
		perror("virtio fixture");
		exit(1);
	}
	const struct pci_bus_config c = {
		.memory = &memory, .pio = &pio, .mmio = &mmio, .set_intx = vd_set_intx, .msi = vd_msi};
	pci = pci_bus_new(&c);
	pthread_mutex_lock(&vd_lock);
}

static inline void vd_stop(void)
{
	pthread_mutex_unlock(&vd_lock);
	pci_bus_free(pci);
	loop_free(loop);
	memory_free(&memory);
	fixture_stop();
}

/* One turn of the I/O thread that does not wait. */
static inline void vd_turn(void)
{
	loop_wake(loop);
	loop_turn(loop);
}

static inline uint64_t vd_alloc(uint64_t len, uint64_t align)
{
	uint64_t at = (vd_free + align - 1) / align * align;

	vd_free = at + len;
	if (vd_free > VD_RAM) {
		printf("not ok: the test has no guest memory left\n");
		exit(1);
	}
	return at;
}

static inline void vd_put16(uint64_t gpa, uint16_t v) { memcpy(vd_ram(gpa), &v, 2); }
static inline void vd_put32(uint64_t gpa, uint32_t v) { memcpy(vd_ram(gpa), &v, 4); }
static inline void vd_put64(uint64_t gpa, uint64_t v) { memcpy(vd_ram(gpa), &v, 8); }

static inline uint32_t vd_get(uint64_t gpa, unsigned size)
{
	uint32_t v = 0;

	memcpy(&v, vd_ram(gpa), size);
	return v;
}

/* ---- finding a device ---- */

struct vd_queue {
	uint16_t size, next;      /* next: split: available index; packed: position */
	bool wrap, used_wrap;     /* packed */
	uint16_t used;            /* split: used index seen; packed: position */
	uint16_t free;            /* split: next descriptor, taken round */
	uint64_t descriptors, driver, device;
	uint16_t count[1024]; /* packed: descriptors of a buffer id */
};

struct vd {
	unsigned devfn;
	bool legacy, packed, event_index, msix;
	bool indirect; /* vd_add puts buffers into indirect tables */
	uint64_t io, modern, table; /* BARs */
	uint64_t common, isr, config, notify;
	uint32_t notify_multiplier, config_len;
	uint64_t features;
	struct vd_queue queue[VD_QUEUES];
};

struct vd_segment {
	uint64_t gpa;
	uint32_t len;
};

static inline uint32_t vd_pci(const struct vd *v, unsigned offset, unsigned size)
{
	return pci_config_read(pci, 0, v->devfn, offset, size);
}

static inline void vd_pci_write(const struct vd *v, unsigned offset, unsigned size, uint32_t value)
{
	pci_config_write(pci, 0, v->devfn, offset, value, size);
}

/* Gives its BARs addresses, reads its capabilities. `legacy`: to be driven as an old driver does. */
static inline void vd_probe(struct vd *v, unsigned devfn, bool legacy, bool msix)
{
	*v = (struct vd){.devfn = devfn, .legacy = legacy, .msix = msix};
	v->io = VD_IO_BASE + devfn * 0x20;
	v->table = VD_MEMORY_BASE + devfn * 0x20000u;
	v->modern = v->table + 0x10000;
	if (vd_pci(v, 0x10, 4) & 1)
		vd_pci_write(v, 0x10, 4, (uint32_t)v->io);
	vd_pci_write(v, 0x14, 4, (uint32_t)v->table);
	vd_pci_write(v, 0x20, 4, (uint32_t)v->modern);
	vd_pci_write(v, 0x24, 4, 0);
	vd_pci_write(v, 4, 2, 7);
	for (unsigned at = vd_pci(v, 0x34, 1), n = 0; at && n < 48; at = vd_pci(v, at + 1, 1), n++) {
		uint32_t offset = vd_pci(v, at + 8, 4);

		if (vd_pci(v, at, 1) == 0x11 && msix) {
			for (unsigned i = 0; i <= (vd_pci(v, at + 2, 2) & 0x7ff); i++) {
				mmio_out(v->table + 16 * i, 4, 0xfee00000);
				mmio_out(v->table + 16 * i + 4, 4, 0);
				mmio_out(v->table + 16 * i + 8, 4, i);
				mmio_out(v->table + 16 * i + 12, 4, 0);
			}
			vd_pci_write(v, at + 2, 2, 0x8000);
		}
		if (vd_pci(v, at, 1) != 9)
			continue;
		switch (vd_pci(v, at + 3, 1)) {
		case 1: v->common = v->modern + offset; break;
		case 2:
			v->notify = v->modern + offset;
			v->notify_multiplier = vd_pci(v, at + 16, 4);
			break;
		case 3: v->isr = v->modern + offset; break;
		case 4:
			v->config = v->modern + offset;
			v->config_len = vd_pci(v, at + 12, 4);
			break;
		}
	}
}

/* ---- registers ---- */

static inline uint64_t vd_common(const struct vd *v, unsigned offset, unsigned size)
{
	return mmio_in(v->common + offset, size);
}

static inline void vd_common_write(const struct vd *v, unsigned offset, unsigned size, uint64_t value)
{
	mmio_out(v->common + offset, size, value);
}

static inline uint8_t vd_status(const struct vd *v)
{
	return (uint8_t)(v->legacy ? in(v->io + VL_STATUS, 1) : vd_common(v, VC_STATUS, 1));
}

static inline void vd_set_status(const struct vd *v, uint8_t status)
{
	if (v->legacy)
		outb(v->io + VL_STATUS, status);
	else
		vd_common_write(v, VC_STATUS, 1, status);
}

static inline uint64_t vd_config(const struct vd *v, unsigned offset, unsigned size)
{
	return v->legacy ? in(v->io + (v->msix ? 24u : 20u) + offset, size) : mmio_in(v->config + offset, size);
}

static inline void vd_config_write(const struct vd *v, unsigned offset, unsigned size, uint64_t value)
{
	if (v->legacy)
		out(v->io + (v->msix ? 24u : 20u) + offset, size, value);
	else
		mmio_out(v->config + offset, size, value);
}

static inline uint64_t vd_offered(const struct vd *v)
{
	if (v->legacy)
		return in(v->io + VL_DEVICE, 4);
	vd_common_write(v, VC_DEVICE_SELECT, 4, 1);
	uint64_t high = vd_common(v, VC_DEVICE, 4);
	vd_common_write(v, VC_DEVICE_SELECT, 4, 0);
	return high << 32 | vd_common(v, VC_DEVICE, 4);
}

/* Reset, and the features `wanted`. False: the device did not take them. */
static inline bool vd_negotiate(struct vd *v, uint64_t wanted)
{
	memset(v->queue, 0, sizeof v->queue);
	vd_set_status(v, 0);
	vd_set_status(v, VD_ACKNOWLEDGE);
	vd_set_status(v, VD_ACKNOWLEDGE | VD_DRIVER);
	v->features = wanted;
	v->packed = wanted & VIRTIO_F_RING_PACKED;
	v->event_index = wanted & VIRTIO_F_EVENT_IDX;
	if (v->legacy) {
		out(v->io + VL_DRIVER, 4, (uint32_t)wanted);
		if (v->msix)
			out(v->io + VL_CONFIG_VECTOR, 2, 0);
		return true;
	}
	vd_common_write(v, VC_DRIVER_SELECT, 4, 0);
	vd_common_write(v, VC_DRIVER, 4, (uint32_t)wanted);
	vd_common_write(v, VC_DRIVER_SELECT, 4, 1);
	vd_common_write(v, VC_DRIVER, 4, wanted >> 32);
	vd_set_status(v, VD_ACKNOWLEDGE | VD_DRIVER | VD_FEATURES_OK);
	vd_common_write(v, VC_CONFIG_VECTOR, 2, v->msix ? 0 : 0xffff);
	return vd_status(v) & VD_FEATURES_OK;
}

/* Sets queue n up, with `size` entries (0, and always for a legacy driver: what the device has). */
static inline void vd_queue_up(struct vd *v, unsigned n, uint16_t size)
{
	struct vd_queue *q = &v->queue[n];
	bool packed = v->packed;

	*q = (struct vd_queue){.wrap = true, .used_wrap = true};
	if (v->legacy) {
		out(v->io + VL_SELECT, 2, n);
		q->size = (uint16_t)in(v->io + VL_SIZE, 2);
		q->descriptors = vd_alloc(0x8000, 4096);
		memset(vd_ram(q->descriptors), 0, 0x8000);
		q->driver = q->descriptors + 16u * q->size;
		q->device = (q->driver + 6 + 2u * q->size + 4095) / 4096 * 4096;
		if (v->msix)
			out(v->io + VL_VECTOR, 2, n + 1);
		out(v->io + VL_PFN, 4, (uint32_t)(q->descriptors >> 12));
		return;
	}
	vd_common_write(v, VC_SELECT, 2, n);
	if (size)
		vd_common_write(v, VC_SIZE, 2, size);
	q->size = (uint16_t)vd_common(v, VC_SIZE, 2);
	q->descriptors = vd_alloc(16u * q->size, 16);
	q->driver = vd_alloc(packed ? 4 : 6u + 2u * q->size, 4);
	q->device = vd_alloc(packed ? 4 : 6u + 8u * q->size, 4);
	memset(vd_ram(q->descriptors), 0, vd_free - q->descriptors);
	for (unsigned half = 0; half < 2; half++) {
		vd_common_write(v, VC_DESCRIPTORS + 4 * half, 4, (uint32_t)(q->descriptors >> 32 * half));
		vd_common_write(v, VC_DRIVER_AREA + 4 * half, 4, (uint32_t)(q->driver >> 32 * half));
		vd_common_write(v, VC_DEVICE_AREA + 4 * half, 4, (uint32_t)(q->device >> 32 * half));
	}
	vd_common_write(v, VC_VECTOR, 2, v->msix ? n + 1 : 0xffff);
	vd_common_write(v, VC_ENABLE, 2, 1);
}

static inline void vd_driver_ok(const struct vd *v)
{
	vd_set_status(v, (uint8_t)(vd_status(v) | VD_DRIVER_OK));
}

/* ---- buffers ---- */

static inline void vd_descriptor(uint64_t at, struct vd_segment s, uint16_t flags, uint16_t next)
{
	vd_put64(at, s.gpa);
	vd_put32(at + 8, s.len);
	vd_put16(at + 12, flags);
	vd_put16(at + 14, next);
}

/* The segments as an indirect table in guest memory. */
static inline struct vd_segment vd_table(const struct vd *v, const struct vd_segment *s, unsigned outs, unsigned ins)
{
	unsigned n = outs + ins;
	struct vd_segment table = {vd_alloc(16u * n, 16), 16 * n};

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)((i >= outs ? VD_WRITE : 0) | (!v->packed && i + 1 < n ? VD_NEXT : 0));

		if (v->packed)
			vd_descriptor(table.gpa + 16 * i, s[i], 0, flags);
		else
			vd_descriptor(table.gpa + 16 * i, s[i], flags, (uint16_t)(i + 1));
	}
	return table;
}

static inline uint16_t vd_add_packed(struct vd *v, struct vd_queue *q, const struct vd_segment *s, unsigned n,
				     unsigned outs, uint16_t extra)
{
	uint16_t id = q->next, first = q->next, first_flags = 0;

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)((q->wrap ? VD_AVAIL : VD_USED) | (i >= outs ? VD_WRITE : 0) |
					    (i + 1 < n ? VD_NEXT : 0) | extra);

		if (i == 0)
			first_flags = flags;
		vd_descriptor(q->descriptors + 16u * q->next, s[i], id, i ? flags : (uint16_t)vd_get(
			      q->descriptors + 16u * q->next + 14, 2));
		if (++q->next == q->size) {
			q->next = 0;
			q->wrap = !q->wrap;
		}
	}
	q->count[id] = (uint16_t)n;
	vd_put16(q->descriptors + 16u * first + 14, first_flags);
	(void)v;
	return id;
}

/* Makes a buffer available: `outs` segments to be read, then `ins` to be written. Returns its id. The ring must have
 * room. */
static inline uint16_t vd_add(struct vd *v, unsigned queue, const struct vd_segment *s, unsigned outs, unsigned ins)
{
	struct vd_queue *q = &v->queue[queue];
	unsigned n = outs + ins;
	struct vd_segment table;
	uint16_t extra = 0;

	if (v->indirect) {
		table = vd_table(v, s, outs, ins);
		s = &table;
		n = outs = 1;
		extra = VD_INDIRECT;
	}
	if (v->packed)
		return vd_add_packed(v, q, s, n, outs, extra);
	uint16_t head = q->free;
	for (unsigned i = 0; i < n; i++) {
		uint16_t at = q->free, next = (uint16_t)((at + 1) % q->size);

		vd_descriptor(q->descriptors + 16u * at, s[i],
			      (uint16_t)((i >= outs ? VD_WRITE : 0) | (i + 1 < n ? VD_NEXT : 0) | extra), next);
		q->free = next;
	}
	vd_put16(q->driver + 4 + 2u * (q->next % q->size), head);
	vd_put16(q->driver + 2, ++q->next);
	return head;
}

static inline void vd_kick(struct vd *v, unsigned queue)
{
	if (v->legacy)
		out(v->io + VL_NOTIFY, 2, queue);
	else
		mmio_out(v->notify + (uint64_t)queue * v->notify_multiplier, 2, queue);
}

/* Does the device want to be notified of what is available up to now? (Without event index: its flags.) */
static inline bool vd_wants_kick(const struct vd *v, unsigned queue)
{
	const struct vd_queue *q = &v->queue[queue];

	return v->packed ? vd_get(q->device + 2, 2) != 1 : !(vd_get(q->device, 2) & 1);
}

/* The next buffer that the device gave back. False: none. */
static inline bool vd_used(struct vd *v, unsigned queue, uint16_t *id, uint32_t *len)
{
	struct vd_queue *q = &v->queue[queue];

	if (v->packed) {
		uint64_t at = q->descriptors + 16u * q->used;
		uint16_t flags = (uint16_t)vd_get(at + 14, 2);

		if (!!(flags & VD_AVAIL) != q->used_wrap || !!(flags & VD_USED) != q->used_wrap)
			return false;
		*id = (uint16_t)vd_get(at + 12, 2);
		*len = vd_get(at + 8, 4);
		q->used = (uint16_t)(q->used + q->count[*id % 1024]);
		if (q->used >= q->size) {
			q->used = (uint16_t)(q->used - q->size);
			q->used_wrap = !q->used_wrap;
		}
		return true;
	}
	if (vd_get(q->device + 2, 2) == q->used)
		return false;
	uint64_t at = q->device + 4 + 8u * (q->used % q->size);
	*id = (uint16_t)vd_get(at, 4);
	*len = vd_get(at + 4, 4);
	q->used++;
	return true;
}

/* Turns the loop until the buffer is back, for some seconds: how many bytes the device wrote, or -1. */
static inline int64_t vd_wait(struct vd *v, unsigned queue, uint16_t wanted)
{
	uint16_t id;
	uint32_t len;

	for (unsigned i = 0; i < 50000; i++) {
		vd_turn();
		if (vd_used(v, queue, &id, &len))
			return id == wanted ? (int64_t)len : -1;
		usleep(100);
	}
	return -1;
}

/* Adds, kicks, waits. */
static inline int64_t vd_transfer(struct vd *v, unsigned queue, const struct vd_segment *s, unsigned outs, unsigned ins)
{
	uint16_t wanted = vd_add(v, queue, s, outs, ins);

	vd_kick(v, queue);
	return vd_wait(v, queue, wanted);
}

#endif
