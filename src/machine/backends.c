/*
 * Opens and closes what is behind the devices. See backends.h.
 */
#include "machine/backends.h"

#include "machine/vm.h"

static bool open_disks(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct backends_config *config = &vm->config.backends;

	for (unsigned i = 0; i < config->disk_count; i++) {
		if (!(b->disk[i] = block_open(vm->loop, &config->disk[i].block, error, size)))
			return false;
		b->disk_count++;
	}
	return true;
}

static void close_disks(struct backends *b)
{
	while (b->disk_count)
		block_close(b->disk[--b->disk_count]);
}

static bool open_nets(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct net_host host = {.loop = vm->loop, .timers = vm->timers};

	for (unsigned i = 0; i < vm->config.backends.nets; i++)
		if (!(b->net[i] = net_open(&host, &vm->config.backends.net[i], error, size)))
			return false;
	return true;
}

bool backends_open(struct backends *b, struct vm *vm, char *error, size_t size)
{
	return open_disks(b, vm, error, size) && open_nets(b, vm, error, size);
}

void backends_close(struct backends *b)
{
	for (unsigned i = 0; i < NET_MAX; i++)
		net_close(b->net[i]);
	close_disks(b);
	*b = (struct backends){0};
}
