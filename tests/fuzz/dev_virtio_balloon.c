/*
 * A hostile driver for the virtio balloon.
 */
#define FUZZ_QUEUES 5
#include "virtio_fuzz.h"

#include "virtio/balloon.h"

static void *fuzz_new(struct pci_bus *bus, struct loop *l) { return virtio_balloon_new(bus, l, &memory, VD_RAM / 2); }
static void fuzz_free(void *device) { virtio_balloon_free(device); }

static void fuzz_event(void *device, struct fuzz_input *in)
{
	uint64_t value[BALLOON_STATISTICS];

	if (fuzz_take(in, 1) % 2)
		virtio_balloon_set_target(device, fuzz_take(in, 4));
	else
		virtio_balloon_statistics(device, value);
}
