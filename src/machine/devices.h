/*
 * The devices that the user asked for, on the PCI bus of the machine: readable, ordered calls, one function a kind.
 * Under vm->lock, or while the machine is built.
 */
#ifndef RINGSIDE_DEVICES_H
#define RINGSIDE_DEVICES_H

struct vm;

/* After the chip set is there. 0 or -errno: what was built is freed by devices_free. */
int devices_new(struct vm *vm);
void devices_free(struct vm *vm);

#endif
