/* virtio-blk: a disk, see blk.c. Everything under vm->lock. */
#ifndef RINGSIDE_VIRTIO_BLK_H
#define RINGSIDE_VIRTIO_BLK_H

struct block;
struct loop;
struct pci_bus;
struct virtio_blk;

struct virtio_blk_config {
	struct pci_bus *pci;
	int devfn; /* -1: first free */
	struct loop *loop;
	struct block *block; /* stays the caller's */
	const char *serial;  /* NULL: none */
	unsigned queues;     /* 1 or more: one a vCPU is best */
};

struct virtio_blk *virtio_blk_new(const struct virtio_blk_config *config); /* NULL: errno */
void virtio_blk_free(struct virtio_blk *d);

#endif
