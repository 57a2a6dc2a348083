/*
 * All of it written, or -errno: a write that is cut short goes on, one that a signal interrupts is begun again. Any thread.
 */
#ifndef RINGSIDE_WRITE_H
#define RINGSIDE_WRITE_H

#include <stddef.h>
#include <stdint.h>

int write_all(int fd, const void *data, size_t len);
int write_all_at(int fd, const void *data, size_t len, uint64_t at); /* pwrite(2) */

#endif
