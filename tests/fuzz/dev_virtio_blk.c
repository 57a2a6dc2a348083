/*
 * A hostile driver for the virtio disk: requests of every kind, resets while they go on.
 */
#define FUZZ_QUEUES 2
#include "virtio_fuzz.h"

#include <unistd.h>

#include "block/block.h"
#include "virtio/blk.h"

struct disk {
	struct block *block;
	struct virtio_blk *blk;
};

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	static char path[] = "/tmp/ringside-fuzz-XXXXXX";
	char error[256];
	struct disk *d = calloc(1, sizeof *d);
	int fd = mkstemp(path);

	if (!d || fd < 0 || ftruncate(fd, 1 << 20) < 0)
		return NULL;
	close(fd);
	d->block = block_open(l, &(struct block_config){.path = path, .format = "raw"}, error, sizeof error);
	unlink(path);
	memcpy(path + sizeof path - 7, "XXXXXX", 6);
	d->blk = d->block ? virtio_blk_new(&(struct virtio_blk_config){
				    .pci = bus, .devfn = -1, .loop = l, .block = d->block, .serial = "fuzz", .queues = 2}) :
			    NULL;
	return d->blk ? d : NULL;
}

static void fuzz_free(void *device)
{
	struct disk *d = device;

	virtio_blk_free(d->blk);
	block_close(d->block);
	free(d);
}

static void fuzz_event(void *device, struct fuzz_input *in)
{
	struct disk *d = device;

	if (fuzz_take(in, 1) % 2)
		usleep((useconds_t)fuzz_take(in, 1));
	else
		block_drain(d->block);
}
