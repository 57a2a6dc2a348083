/* virtio-scsi: a SCSI controller with disks and CD-ROM drives, see scsi.c. Everything under vm->lock. */
#ifndef RINGSIDE_VIRTIO_SCSI_H
#define RINGSIDE_VIRTIO_SCSI_H

#include <stdbool.h>

#define VIRTIO_SCSI_TARGETS 32u

struct block;
struct loop;
struct pci_bus;
struct virtio_scsi;

struct virtio_scsi_config {
	struct pci_bus *pci;
	int devfn; /* -1: first free */
	struct loop *loop;
	struct {
		struct block *block; /* stays the caller's */
		bool cdrom;
		const char *serial; /* NULL: none */
	} target[VIRTIO_SCSI_TARGETS]; /* by target number; each has logical unit 0 */
	unsigned targets;
	unsigned queues; /* of requests, 1 or more: one a vCPU is best */
};

struct virtio_scsi *virtio_scsi_new(const struct virtio_scsi_config *config); /* NULL: errno */
void virtio_scsi_free(struct virtio_scsi *d);

#endif
