/*
 * virtio 9P transport: a shared directory, which the guest mounts by its tag. Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_P9_H
#define RINGSIDE_VIRTIO_P9_H

#define VIRTIO_P9_TAG_MAX 255u

struct loop;
struct pci_bus;
struct share;
struct virtio_p9;

/* `share` must outlive it. The tag has 1 to VIRTIO_P9_TAG_MAX bytes. NULL: errno. */
struct virtio_p9 *virtio_p9_new(struct pci_bus *pci, struct loop *loop, struct share *share, const char *tag);
void virtio_p9_free(struct virtio_p9 *d);

#endif
