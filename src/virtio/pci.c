/*
 * virtio over PCI: the registers of a device, modern and, for a transitional one, legacy too.
 *
 *   BAR 0  I/O     the legacy interface (transitional devices only)
 *   BAR 1  memory  MSI-X: a vector for each queue and one for configuration changes
 *   BAR 4  memory  one page each: common configuration, ISR, device configuration, notifications
 *
 * The modern registers are reached through configuration space as well (VIRTIO_PCI_CAP_PCI_CFG), as firmware does.
 * Accesses of a width that a field does not have read what is there, and write nothing.
 *
 * Under vm->lock. Source: Virtual I/O Device (VIRTIO) Version 1.2, section 4.1.
 */
#include <errno.h>
#include <string.h>

#include "util/log.h"
#include "virtio/transport.h"

enum { VENDOR = 0x1af4, MODERN_ID_BASE = 0x1040, MODERN_SUBSYSTEM = 0x1100 };
enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };
enum { PCI_COMMAND = 4, PCI_COMMAND_MASTER = 4, PCI_CAP_VENDOR = 9 };

#define REGION 0x1000u
enum { REGION_COMMON, REGION_ISR, REGION_DEVICE, REGION_NOTIFY, REGIONS };
enum { NOTIFY_MULTIPLIER = 4 };

/* Common configuration (4.1.4.3). */
struct common {
	uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
	uint16_t config_vector, queues;
	uint8_t status, generation;
	uint16_t queue_select, queue_size, queue_vector, queue_enable, queue_notify_offset;
	uint64_t queue_area[AREAS];
	uint16_t queue_notify_data, queue_reset;
	uint32_t reserved;
};
_Static_assert(sizeof(struct common) == 0x40, "the layout of common configuration");

/* The legacy header (4.1.4.10); the two vectors are there only while MSI-X is enabled. */
struct legacy {
	uint32_t device_features, driver_features, queue_pfn;
	uint16_t queue_size, queue_select, queue_notify;
	uint8_t status, isr;
	uint16_t config_vector, queue_vector;
};
_Static_assert(sizeof(struct legacy) == 24, "the layout of the legacy header");
enum { LEGACY_CONFIG = 20, LEGACY_CONFIG_MSIX = 24, LEGACY_PAGE = 4096 };

/* Capabilities (4.1.4). */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI };
enum { CAP_LENGTH = 2, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_REGION_LENGTH = 12, CAP_SIZE = 16, CAP_EXTRA = 16 };

#define AT(field, bytes) ((uint64_t)offsetof(struct common, field) << 4 | (bytes))

static struct virtqueue *selected(struct virtio_device *v)
{
	return v->queue_select < v->queues ? &v->queue[v->queue_select] : NULL;
}

static uint16_t checked_vector(const struct virtio_device *v, uint32_t vector)
{
	return vector < v->pci.msix.vectors ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

/* ---- interrupts ---- */

void virtio_pci_interrupt(struct virtio_device *v, uint8_t isr, uint16_t vector)
{
	if (pci_msix_enabled(&v->pci)) {
		if (vector != VIRTIO_NO_VECTOR)
			pci_send_msi(&v->pci, vector);
		return;
	}
	v->isr |= isr;
	pci_set_intx(&v->pci, 1);
}

static uint8_t take_isr(struct virtio_device *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	pci_set_intx(&v->pci, 0);
	return isr;
}

void virtio_pci_reset(struct virtio_device *v)
{
	v->config_vector = VIRTIO_NO_VECTOR;
	take_isr(v);
}

/* ---- common configuration ---- */

static uint32_t common_read(struct virtio_device *v, uint64_t offset, unsigned size)
{
	const struct virtqueue *q = selected(v);
	uint64_t offered = v->device_feature_select < 2 ? virtio_offered(v, false) : 0;
	struct common c = {
		.device_feature_select = v->device_feature_select,
		.device_feature = (uint32_t)(v->device_feature_select == 1 ? offered >> 32 : offered),
		.driver_feature_select = v->driver_feature_select,
		.config_vector = v->config_vector,
		.queues = (uint16_t)v->queues,
		.status = v->status,
		.generation = v->config_generation,
		.queue_select = v->queue_select,
	};
	uint32_t value = 0;

	if (v->driver_feature_select < 2)
		c.driver_feature = (uint32_t)(v->driver_features >> 32 * v->driver_feature_select);
	if (q) {
		c.queue_size = q->size;
		c.queue_vector = q->vector;
		c.queue_enable = q->enabled;
		c.queue_notify_offset = (uint16_t)q->index;
		memcpy(c.queue_area, q->area, sizeof c.queue_area);
		c.queue_notify_data = (uint16_t)q->index;
	}
	if (offset < sizeof c)
		memcpy(&value, (const uint8_t *)&c + offset, size < sizeof c - offset ? size : sizeof c - offset);
	return value;
}

static void write_driver_feature(struct virtio_device *v, uint32_t value)
{
	unsigned shift = 32 * v->driver_feature_select;

	if (v->driver_feature_select < 2 && !(v->status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK)))
		v->driver_features = (v->driver_features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

/* Fields of the queue that is selected. What describes a ring stays as it is while the queue is enabled. */
static void common_write_queue(struct virtio_device *v, struct virtqueue *q, uint64_t offset, uint32_t value,
			       unsigned size)
{
	uint64_t area = offset - offsetof(struct common, queue_area);

	if (area < sizeof q->area && size == 4 && area % 4 == 0) {
		if (!q->enabled)
			memcpy((uint8_t *)q->area + area, &value, sizeof value);
		return;
	}
	switch (offset << 4 | size) {
	case AT(queue_size, 2):
		if (!q->enabled && value && value <= v->queue_size)
			q->size = (uint16_t)value;
		break;
	case AT(queue_vector, 2):
		q->vector = checked_vector(v, value);
		break;
	case AT(queue_enable, 2):
		if (value != 1 || q->enabled)
			break;
		q->enabled = true;
		virtio_notify_queue(v, q->index);
		break;
	case AT(queue_reset, 2):
		if (value == 1 && virtio_has(v, VIRTIO_F_RING_RESET))
			virtio_queue_reset_by_driver(q);
		break;
	}
}

static void common_write(struct virtio_device *v, uint64_t offset, uint32_t value, unsigned size)
{
	struct virtqueue *q = selected(v);

	switch (offset << 4 | size) {
	case AT(device_feature_select, 4):
		v->device_feature_select = value;
		break;
	case AT(driver_feature_select, 4):
		v->driver_feature_select = value;
		break;
	case AT(driver_feature, 4):
		write_driver_feature(v, value);
		break;
	case AT(config_vector, 2):
		v->config_vector = checked_vector(v, value);
		break;
	case AT(status, 1):
		virtio_set_status(v, (uint8_t)value, false);
		break;
	case AT(queue_select, 2):
		v->queue_select = (uint16_t)value;
		break;
	default:
		if (q)
			common_write_queue(v, q, offset, value, size);
	}
}

/* ---- the modern BAR ---- */

static uint64_t modern_read(void *dev, uint64_t offset, unsigned size)
{
	struct virtio_device *v = dev;

	switch (offset / REGION) {
	case REGION_COMMON:
		return common_read(v, offset, size);
	case REGION_ISR:
		return offset % REGION == 0 ? take_isr(v) : 0;
	case REGION_DEVICE:
		return virtio_config_get(v, offset % REGION, size);
	}
	return 0;
}

static void modern_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct virtio_device *v = dev;

	if (v->resetting && offset / REGION != REGION_NOTIFY)
		return;
	switch (offset / REGION) {
	case REGION_COMMON:
		common_write(v, offset, (uint32_t)value, size);
		break;
	case REGION_DEVICE:
		virtio_config_set(v, offset % REGION, (uint32_t)value, size);
		break;
	case REGION_NOTIFY:
		virtio_notify_queue(v, (unsigned)(offset % REGION / NOTIFY_MULTIPLIER));
		break;
	}
}

static bool modern_bells(void *dev, struct bus_bells *b)
{
	struct virtio_device *v = dev;

	*b = (struct bus_bells){.offset = REGION_NOTIFY * REGION, .step = NOTIFY_MULTIPLIER, .count = v->queues,
				.fd = virtio_bell(v)};
	return b->fd >= 0;
}

static const struct bus_ops modern_ops = {.read = modern_read, .write = modern_write, .max_size = 4, .bells = modern_bells};

/* ---- the legacy BAR ---- */

static unsigned legacy_header(const struct virtio_device *v)
{
	return pci_msix_enabled(&v->pci) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static uint16_t legacy_queue_size(const struct virtqueue *q)
{
	return q->size < VIRTIO_LEGACY_QUEUE_SIZE ? q->size : VIRTIO_LEGACY_QUEUE_SIZE;
}

static uint64_t legacy_read(void *dev, uint64_t offset, unsigned size)
{
	struct virtio_device *v = dev;
	const struct virtqueue *q = selected(v);
	unsigned header = legacy_header(v);
	uint32_t value = 0;

	if (offset >= header)
		return virtio_config_get(v, offset - header, size);
	const struct legacy l = {
		.device_features = (uint32_t)virtio_offered(v, true),
		.driver_features = (uint32_t)v->driver_features,
		.queue_pfn = q && q->enabled ? (uint32_t)(q->area[AREA_DESCRIPTOR] / LEGACY_PAGE) : 0,
		.queue_size = q ? legacy_queue_size(q) : 0,
		.queue_select = v->queue_select,
		.status = v->status,
		.isr = offset <= offsetof(struct legacy, isr) && offsetof(struct legacy, isr) < offset + size ? take_isr(v) : 0,
		.config_vector = v->config_vector,
		.queue_vector = q ? q->vector : VIRTIO_NO_VECTOR,
	};
	memcpy(&value, (const uint8_t *)&l + offset, size < header - offset ? size : header - offset);
	return value;
}

/* Where a legacy ring is, from the number of its first page (2.7.2). */
static void legacy_set_ring(struct virtio_device *v, struct virtqueue *q, uint32_t pfn)
{
	if (pfn == 0) { /* how old drivers take a queue away: all of them, after a reset or in place of one */
		virtio_reset(v);
		return;
	}
	if (q->enabled)
		return;
	q->size = legacy_queue_size(q);
	q->area[AREA_DESCRIPTOR] = (uint64_t)pfn * LEGACY_PAGE;
	q->area[AREA_DRIVER] = q->area[AREA_DESCRIPTOR] + DESC_SIZE * q->size;
	uint64_t end = q->area[AREA_DRIVER] + 2u * (3u + q->size);
	q->area[AREA_DEVICE] = (end + LEGACY_PAGE - 1) / LEGACY_PAGE * LEGACY_PAGE;
	q->enabled = true;
	virtio_notify_queue(v, q->index);
}

#undef AT
#define AT(field, bytes) ((uint64_t)offsetof(struct legacy, field) << 4 | (bytes))

static void legacy_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct virtio_device *v = dev;
	struct virtqueue *q = selected(v);
	unsigned header = legacy_header(v);

	if (v->resetting && (offset << 4 | size) != AT(queue_notify, 2))
		return;
	if (offset >= header) {
		virtio_config_set(v, offset - header, (uint32_t)value, size);
		return;
	}
	switch (offset << 4 | size) {
	case AT(driver_features, 4):
		virtio_set_legacy_features(v, (uint32_t)value);
		break;
	case AT(queue_pfn, 4):
		if (q)
			legacy_set_ring(v, q, (uint32_t)value);
		break;
	case AT(queue_select, 2):
		v->queue_select = (uint16_t)value;
		break;
	case AT(queue_notify, 2):
		virtio_notify_queue(v, (unsigned)value);
		break;
	case AT(status, 1):
		virtio_set_status(v, (uint8_t)value, true);
		break;
	case AT(config_vector, 2):
		v->config_vector = checked_vector(v, (uint32_t)value);
		break;
	case AT(queue_vector, 2):
		if (q)
			q->vector = checked_vector(v, (uint32_t)value);
		break;
	}
}

static bool legacy_bells(void *dev, struct bus_bells *b)
{
	*b = (struct bus_bells){.offset = offsetof(struct legacy, queue_notify), .count = 1, .fd = virtio_bell(dev)};
	return b->fd >= 0;
}

static const struct bus_ops legacy_ops = {.read = legacy_read, .write = legacy_write, .max_size = 4, .bells = legacy_bells};

/* ---- configuration space ---- */

/* The window of VIRTIO_PCI_CAP_PCI_CFG: an access to the modern BAR, if that is what the driver set it to. */
static bool window(const struct virtio_device *v, unsigned offset, unsigned size, uint32_t *at, uint32_t *len)
{
	const uint8_t *cap = v->pci.config + v->window;

	*at = pci_get32(cap + CAP_OFFSET);
	*len = pci_get32(cap + CAP_REGION_LENGTH);
	return v->window && offset < v->window + CAP_EXTRA + 4u && offset + size > v->window + CAP_EXTRA &&
	       cap[CAP_BAR] == BAR_MODERN && (*len == 1 || *len == 2 || *len == 4) && *at % *len == 0 &&
	       *at < REGIONS * REGION;
}

static void config_read(void *opaque, unsigned offset, unsigned size)
{
	struct virtio_device *v = opaque;
	uint32_t at, len;

	if (window(v, offset, size, &at, &len))
		pci_put32(v->pci.config + v->window + CAP_EXTRA, (uint32_t)modern_read(v, at, len));
}

static void config_written(void *opaque, unsigned offset, unsigned size)
{
	struct virtio_device *v = opaque;
	bool master = v->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER;
	uint32_t at, len;

	if (master && !v->bus_master && virtio_driver_ok(v))
		virtio_notify_all(v);
	v->bus_master = master;
	if (window(v, offset, size, &at, &len))
		modern_write(v, at, pci_get32(v->pci.config + v->window + CAP_EXTRA) & (UINT32_MAX >> (32 - 8 * len)), len);
}

static const struct pci_device_ops pci_ops = {.config_read = config_read, .config_written = config_written};

/* 0: there is no room. */
static unsigned add_capability(struct virtio_device *v, uint8_t type, unsigned region, uint32_t length, unsigned extra)
{
	unsigned offset = pci_add_capability(&v->pci, PCI_CAP_VENDOR, CAP_SIZE + extra);
	uint8_t *cap = v->pci.config + offset;

	if (!offset)
		return 0;
	cap[CAP_LENGTH] = (uint8_t)(CAP_SIZE + extra);
	cap[CAP_TYPE] = type;
	cap[CAP_BAR] = BAR_MODERN;
	pci_put32(cap + CAP_OFFSET, region * REGION);
	pci_put32(cap + CAP_REGION_LENGTH, length);
	return offset;
}

static int add_capabilities(struct virtio_device *v)
{
	uint32_t config = v->ops->config_size;

	if (!add_capability(v, CAP_COMMON, REGION_COMMON, sizeof(struct common), 0) ||
	    !add_capability(v, CAP_ISR, REGION_ISR, 1, 0) ||
	    (config && !add_capability(v, CAP_DEVICE, REGION_DEVICE, config, 0)))
		return -ENOSPC;
	unsigned notify = add_capability(v, CAP_NOTIFY, REGION_NOTIFY, v->queues * NOTIFY_MULTIPLIER, 4);
	v->window = add_capability(v, CAP_PCI, 0, 0, 4);
	if (!notify || !v->window)
		return -ENOSPC;
	pci_put32(v->pci.config + notify + CAP_EXTRA, NOTIFY_MULTIPLIER);
	v->pci.config[v->window + CAP_BAR] = 0;
	v->pci.writable[v->window + CAP_BAR] = 0xff;
	memset(v->pci.writable + v->window + CAP_OFFSET, 0xff, CAP_EXTRA + 4 - CAP_OFFSET);
	return 0;
}

/* ---- life ---- */

/* 0: there has never been a legacy driver for it. */
static uint16_t transitional_id(enum virtio_id id)
{
	switch (id) {
	case VIRTIO_ID_NET: return 0x1000;
	case VIRTIO_ID_BLOCK: return 0x1001;
	case VIRTIO_ID_BALLOON: return 0x1002;
	case VIRTIO_ID_CONSOLE: return 0x1003;
	case VIRTIO_ID_SCSI: return 0x1004;
	case VIRTIO_ID_RNG: return 0x1005;
	case VIRTIO_ID_9P: return 0x1009;
	default: return 0;
	}
}

static uint32_t round_up_to_power_of_2(uint32_t n)
{
	uint32_t size = 1;

	while (size < n)
		size *= 2;
	return size;
}

int virtio_pci_init(struct virtio_device *v, const struct virtio_config *config)
{
	uint16_t old_id = transitional_id(v->ops->id);
	uint32_t msix = pci_msix_size(v->queues + 1);
	int r;

	v->legacy = old_id && !config->modern_only;
	const struct pci_info info = {
		.name = v->ops->name,
		.vendor = VENDOR,
		.device = v->legacy ? old_id : (uint16_t)(MODERN_ID_BASE + v->ops->id),
		.subsystem_vendor = VENDOR,
		.subsystem = v->legacy ? (uint16_t)v->ops->id : MODERN_SUBSYSTEM,
		.class_code = v->ops->class_code,
		.revision = v->legacy ? 0 : 1,
		.interrupt_pin = 1,
	};
	if (v->ops->config_size > REGION)
		return -EINVAL;
	if ((r = pci_device_init(&v->pci, config->pci, config->devfn, &info, &pci_ops, v)) < 0)
		return r;
	if (v->legacy)
		pci_add_bar(&v->pci, BAR_LEGACY, PCI_BAR_IO,
			    round_up_to_power_of_2(LEGACY_CONFIG_MSIX + v->ops->config_size), &legacy_ops, v);
	pci_add_bar(&v->pci, BAR_MSIX, PCI_BAR_MEMORY32, round_up_to_power_of_2(msix < REGION ? REGION : msix), NULL, NULL);
	pci_add_bar(&v->pci, BAR_MODERN, PCI_BAR_MEMORY64_PREFETCH, REGIONS * REGION, &modern_ops, v);
	if ((r = pci_add_msix(&v->pci, BAR_MSIX, 0, v->queues + 1)) < 0)
		return r;
	virtio_pci_reset(v);
	if (config->rom && (r = pci_add_rom(&v->pci, config->rom)) < 0)
		return r;
	return add_capabilities(v);
}

void virtio_pci_free(struct virtio_device *v) { pci_device_free(&v->pci); }
