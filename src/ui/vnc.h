/*
 * A VNC server that shows a display and brings keys and pointer back, through libvncserver.
 *
 * It has a thread of its own, which takes the lock (vm->lock) only to copy what has changed on the screen, and to hand
 * on a key or the pointer. A client that sends half a message or does not read may hold up other clients for some
 * seconds, never the guest.
 */
#ifndef RINGSIDE_VNC_H
#define RINGSIDE_VNC_H

#include <pthread.h>
#include <stddef.h>

#define VNC_ADDRESSES 4u
#define VNC_ADDRESS_MAX 256u

struct display;
struct input;
struct vnc;

struct vnc_config {
	char address[VNC_ADDRESSES][VNC_ADDRESS_MAX]; /* as ui/address.h has them */
	unsigned addresses;                           /* 0: no server */
	char password_file[VNC_ADDRESS_MAX]; /* its first line, of which VNC takes 8 characters; "": none is asked for */
};

/* Listens, and serves until vnc_free. NULL: one line for the user in error. The lock is not held for either. */
struct vnc *vnc_new(const struct vnc_config *config, pthread_mutex_t *lock, struct display *display,
		    struct input *input, char *error, size_t size);
void vnc_free(struct vnc *v); /* also of NULL */

#endif
