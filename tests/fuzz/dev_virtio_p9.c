/*
 * A hostile driver for the virtio 9P transport; dev_p9.c is about the messages themselves.
 */
#define FUZZ_QUEUES 1
#include "virtio_fuzz.h"

#include <sys/stat.h>
#include <unistd.h>

#include "share/share.h"
#include "virtio/p9.h"

static struct share *share;

/* An empty directory that cannot be written. */
static void *fuzz_new(struct pci_bus *bus, struct loop *l)
{
	char error[256], path[64];

	snprintf(path, sizeof path, "/dev/shm/ringside-fuzz-%d", (int)getpid());
	mkdir(path, 0500);
	share = share_open(l, path, true, error, sizeof error);
	rmdir(path);
	return share ? virtio_p9_new(bus, l, share, "fuzz") : NULL;
}

static void fuzz_free(void *device)
{
	virtio_p9_free(device);
	share_close(share);
}

static void fuzz_event(void *device, struct fuzz_input *in)
{
	(void)device;
	(void)in;
	vd_turn();
}
