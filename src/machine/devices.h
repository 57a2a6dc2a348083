/*
 * The devices that the user asked for, on the PCI bus of the machine: readable, ordered calls, one function a kind.
 * Under vm->lock, or while the machine is built.
 */
#ifndef RINGSIDE_DEVICES_H
#define RINGSIDE_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#define DEVICES_MAX 96u

struct vga;
struct vm;
struct virtio_balloon;

/* What the user asked for that has nothing on the host's side; part of struct vm_config. */
struct devices_config {
	bool rng;
	bool balloon;
	uint64_t balloon_target; /* bytes that the guest is to keep; more than it has: all of them */
};

/* What was built, in order; part of struct vm. Devices are freed in the opposite one. */
struct devices {
	struct {
		void *device;
		void (*free)(void *device);
	} list[DEVICES_MAX];
	unsigned count;
	struct vga *vga; /* one of the list; NULL: the machine has none */
	struct virtio_balloon *balloon; /* NULL: none */
};

/* After the chip set is there. 0 or -errno: what was built is freed by devices_free. */
int devices_new(struct vm *vm);
void devices_free(struct vm *vm);

/* Asks the guest to keep `target` bytes of its memory, now and after resets. -ENODEV: it has no balloon. */
int devices_set_balloon(struct vm *vm, uint64_t target);

#endif
