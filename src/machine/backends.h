/*
 * The host's side of a VM's devices: disks, networks, screens. Opened before the machine is built, and kept when it is
 * reset; devices.c puts devices in front of them. Under vm->lock once the VM runs.
 */
#ifndef RINGSIDE_BACKENDS_H
#define RINGSIDE_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block/block.h"
#include "machine/screen.h"
#include "net/net.h"
#include "virtio/console.h"

#define SERIAL_PORTS 4
#define DISKS_MAX 32u
#define SHARES_MAX 8u
#define DISK_SERIAL_MAX 20u /* characters, as ATA and virtio have room for */

struct vm;
struct chardev;
struct qmp;
struct share;

enum disk_interface { DISK_VIRTIO, DISK_IDE, DISK_SATA, DISK_SCSI };

struct disk_config {
	struct block_config block;
	enum disk_interface interface;
	bool cdrom;
	const char *serial; /* NULL: the device's own */
};

struct console_config {
	const char *line; /* a back end as chardev.h names them, or "stdio" */
	const char *name; /* of the port; NULL: a console */
};

struct share_config {
	const char *directory, *tag;
	bool readonly;
};

/* What the user asked for; part of struct vm_config. Strings must outlive it. */
struct backends_config {
	struct disk_config disk[DISKS_MAX]; /* in the order of the command line, which is that of booting */
	unsigned disk_count;
	/* COM1 to COM4: a back end as chardev.h names them, or "stdio". NULL: no port. */
	const char *serial[SERIAL_PORTS];
	const char *qmp; /* where the control socket listens, as chardev.h names it; NULL: none */
	bool no_serial; /* all NULL means what it says; else it means COM1 on stdio */
	struct console_config console[VIRTIO_CONSOLE_PORTS];
	unsigned consoles;
	struct share_config share[SHARES_MAX];
	unsigned shares;
	const char *vsock; /* path of its sockets; NULL: none */
	uint32_t vsock_cid;
	unsigned nets;
	struct net_config net[NET_MAX];
	struct screen_config screen;
};

struct backends {
	struct block *disk[DISKS_MAX]; /* of config.disk[] with the same index */
	unsigned disk_count;
	struct chardev *serial[SERIAL_PORTS]; /* NULL: no port */
	struct chardev *console[VIRTIO_CONSOLE_PORTS]; /* of config.console[] with the same index */
	struct share *share[SHARES_MAX]; /* of config.share[] with the same index */
	int vsock; /* listens at config.vsock, if there is one */
	struct net *net[NET_MAX];
	struct qmp *qmp; /* NULL: none */
	struct screen screen;
};

/* False: one line for the user in error[0..size); backends_close is still to be called. */
bool backends_open(struct backends *b, struct vm *vm, char *error, size_t size);
void backends_close(struct backends *b, struct vm *vm); /* also of one that is all zero */

#endif
