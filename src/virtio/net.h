/*
 * virtio-net: a network card in front of a struct net. Under vm->lock, or while the machine is built.
 * Source: virtio 1.2, 5.1.
 */
#ifndef RINGSIDE_VIRTIO_NET_H
#define RINGSIDE_VIRTIO_NET_H

struct loop;
struct net;
struct pci_bus;
struct virtio_net;

#define VIRTIO_NET_PAIRS_MAX 8u

struct virtio_net_config {
	struct pci_bus *pci;
	int devfn; /* -1: first free */
	struct loop *loop;
	struct net *net; /* attached to, until virtio_net_free */
	unsigned pairs;  /* of queues, 1 to VIRTIO_NET_PAIRS_MAX: one a vCPU is best */
	const char *rom; /* expansion ROM, a file of the host; NULL: none */
};

struct virtio_net *virtio_net_new(const struct virtio_net_config *config); /* NULL: errno */
void virtio_net_free(struct virtio_net *d);

#endif
