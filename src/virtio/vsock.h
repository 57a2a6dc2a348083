/*
 * virtio socket device: stream connections between the guest and Unix sockets of the host, by Firecracker's convention.
 *
 * A program of the host connects to PATH, writes "CONNECT PORT\n" and, when the guest takes the connection, reads
 * "OK PORT\n"; from then on it talks to the guest. A connection of the guest's to port N of CID 2 goes to the socket
 * PATH_N, where a program of the host listens.
 *
 * Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_VSOCK_H
#define RINGSIDE_VIRTIO_VSOCK_H

#include <stdint.h>

#define VSOCK_CID_GUEST_MIN 3u
#define VSOCK_CID_GUEST_MAX 0xfffffffeu
#define VSOCK_PATH_MAX 96u /* with "_" and a port behind it it fits into an address */

struct loop;
struct pci_bus;
struct virtio_vsock;

/* Listens at PATH; a socket that is left there from a process that is gone is replaced. The descriptor, or -errno. */
int virtio_vsock_listen(const char *path);

/* `listen_fd` is of virtio_vsock_listen; both it and `path` must outlive the device, which closes neither. NULL: errno. */
struct virtio_vsock *virtio_vsock_new(struct pci_bus *pci, struct loop *loop, uint32_t cid, const char *path, int listen_fd);
void virtio_vsock_free(struct virtio_vsock *v);

#endif
