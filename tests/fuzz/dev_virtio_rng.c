/*
 * A hostile driver for the virtio entropy device: with it, for everything that virtio devices share.
 */
#define FUZZ_QUEUES 1
#include "virtio_fuzz.h"

#include "virtio/rng.h"

static void *fuzz_new(struct pci_bus *bus, struct loop *l) { return virtio_rng_new(bus, l); }
static void fuzz_free(void *device) { virtio_rng_free(device); }

static void fuzz_event(void *device, struct fuzz_input *in)
{
	(void)device;
	(void)in;
}
