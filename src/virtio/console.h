/*
 * virtio console: consoles (hvc0, hvc1, ...) and named ports, each on a character back end. Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_CONSOLE_H
#define RINGSIDE_VIRTIO_CONSOLE_H

#define VIRTIO_CONSOLE_PORTS 16u

struct chardev;
struct loop;
struct pci_bus;
struct virtio_console;

struct virtio_console_port {
	struct chardev *chardev;
	const char *name; /* NULL: a console; else what the guest finds it by, as /dev/virtio-ports/NAME */
};

/* The back ends must outlive it. At most VIRTIO_CONSOLE_PORTS. NULL: errno. */
struct virtio_console *virtio_console_new(struct pci_bus *pci, struct loop *loop, const struct virtio_console_port *ports,
					  unsigned count);
void virtio_console_free(struct virtio_console *c);

#endif
