/*
 * A hostile driver for the virtio console, with ports that nobody listens to.
 */
#define FUZZ_QUEUES 8
#include "virtio_fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "ui/chardev.h"
#include "virtio/console.h"

static struct chardev *line[3];

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	char error[256];
	struct virtio_console_port port[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		line[i] = chardev_new(l, "null", error, sizeof error);
		port[i] = (struct virtio_console_port){line[i], i == 1 ? "fuzz" : NULL};
	}
	return virtio_console_new(bus, l, port, 3);
}

static void fuzz_free(void *device)
{
	virtio_console_free(device);
	for (unsigned i = 0; i < 3; i++)
		chardev_free(line[i]);
}

/* Input for a port. */
static void fuzz_event(void *device, struct fuzz_input *in)
{
	uint64_t bytes = fuzz_take(in, 8);

	(void)device;
	chardev_insert(line[fuzz_take(in, 1) % 3], (const uint8_t *)&bytes, sizeof bytes);
}
