/*
 * virtio input devices: a keyboard, and a tablet, which is a pointer that says where it is. Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_INPUT_H
#define RINGSIDE_VIRTIO_INPUT_H

struct input;
struct loop;
struct pci_bus;
struct virtio_input;

enum virtio_input_kind { VIRTIO_INPUT_KEYBOARD, VIRTIO_INPUT_TABLET };

/* Takes what `input` has once the guest's driver is there. NULL: errno. */
struct virtio_input *virtio_input_new(struct pci_bus *pci, struct loop *loop, struct input *input,
				      enum virtio_input_kind kind);
void virtio_input_free(struct virtio_input *v);

#endif
