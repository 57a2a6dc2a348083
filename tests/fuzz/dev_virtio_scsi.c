/*
 * A hostile driver for the virtio SCSI controller with a disk and a CD-ROM drive: commands of every kind, resets while
 * they go on.
 */
#define FUZZ_QUEUES 4
#include "virtio_fuzz.h"

#include <unistd.h>

#include "block/block.h"
#include "virtio/scsi.h"

struct disks {
	struct block *block[2];
	struct virtio_scsi *scsi;
};

static struct block *open_disk(struct loop *l, bool readonly)
{
	char path[] = "/tmp/ringside-fuzz-XXXXXX", error[256];
	int fd = mkstemp(path);

	if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
		return NULL;
	close(fd);
	struct block *b = block_open(l, &(struct block_config){.path = path, .format = "raw", .readonly = readonly}, error,
				     sizeof error);
	unlink(path);
	return b;
}

static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	struct disks *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->block[0] = open_disk(l, false);
	d->block[1] = open_disk(l, true);
	if (!d->block[0] || !d->block[1])
		return NULL;
	d->scsi = virtio_scsi_new(&(struct virtio_scsi_config){
		.pci = bus, .devfn = -1, .loop = l, .queues = 2, .targets = 2,
		.target = {{d->block[0], false, "fuzz"}, {d->block[1], true, NULL}}});
	return d->scsi ? d : NULL;
}

static void fuzz_free(void *device)
{
	struct disks *d = device;

	virtio_scsi_free(d->scsi);
	block_close(d->block[0]);
	block_close(d->block[1]);
	free(d);
}

static void fuzz_event(void *device, struct fuzz_input *in)
{
	struct disks *d = device;

	if (fuzz_take(in, 1) % 2)
		usleep((useconds_t)fuzz_take(in, 1));
	else
		block_drain(d->block[0]);
}
