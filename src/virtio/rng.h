/*
 * virtio entropy device: gives the guest random bytes of the host's. Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_RNG_H
#define RINGSIDE_VIRTIO_RNG_H

struct loop;
struct pci_bus;
struct virtio_rng;

/* NULL: errno. */
struct virtio_rng *virtio_rng_new(struct pci_bus *pci, struct loop *loop);
void virtio_rng_free(struct virtio_rng *r);

#endif
