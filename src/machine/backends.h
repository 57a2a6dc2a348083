/*
 * The host's side of a VM's devices: disks, networks, screens. Opened before the machine is built, and kept when it is
 * reset; devices.c puts devices in front of them. Under vm->lock once the VM runs.
 */
#ifndef RINGSIDE_BACKENDS_H
#define RINGSIDE_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>

#include "net/net.h"

struct vm;

/* What the user asked for; part of struct vm_config. */
struct backends_config {
	unsigned nets;
	struct net_config net[NET_MAX];
};

struct backends {
	struct net *net[NET_MAX];
};

/* False: one line for the user in error[0..size); backends_close is still to be called. */
bool backends_open(struct backends *b, struct vm *vm, char *error, size_t size);
void backends_close(struct backends *b); /* also of one that is all zero */

#endif
