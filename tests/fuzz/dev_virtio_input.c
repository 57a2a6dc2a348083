/*
 * A hostile driver for the virtio keyboard, while a user types.
 */
#define FUZZ_QUEUES 2
#include "virtio_fuzz.h"

#include "ui/input.h"
#include "virtio/input.h"

static struct input *input;

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	input = input_new();
	return input ? virtio_input_new(bus, l, input, VIRTIO_INPUT_KEYBOARD) : NULL;
}

static void fuzz_free(void *device)
{
	virtio_input_free(device);
	input_free(input);
}

static void fuzz_event(void *device, struct fuzz_input *in)
{
	unsigned code = (unsigned)fuzz_take(in, 1);

	(void)device;
	input_key(input, code, fuzz_take(in, 1) & 1);
}
