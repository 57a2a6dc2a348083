/*
 * Puts devices in front of the VM's backends. See devices.h.
 */
#include "machine/devices.h"

#include <errno.h>

#include "machine/pc.h"
#include "machine/vm.h"
#include "virtio/rng.h"

/* Puts a device just made into the list, to be freed by `free`. NULL: it could not be made, errno says why. */
static int keep(struct vm *vm, void *device, void (*free)(void *device))
{
	struct devices *d = &vm->devices;

	if (!device)
		return -errno;
	if (d->count == DEVICES_MAX) {
		free(device);
		return -ENOSPC;
	}
	d->list[d->count].device = device;
	d->list[d->count++].free = free;
	return 0;
}

static void free_rng(void *device) { virtio_rng_free(device); }

static int new_rng(struct vm *vm)
{
	return vm->config.devices.rng ? keep(vm, virtio_rng_new(vm->pc->pci, vm->loop), free_rng) : 0;
}

int devices_new(struct vm *vm) { return new_rng(vm); }

void devices_free(struct vm *vm)
{
	struct devices *d = &vm->devices;

	while (d->count) {
		d->count--;
		d->list[d->count].free(d->list[d->count].device);
	}
}
