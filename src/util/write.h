/*
 * All of it written or read, or -errno: what is cut short goes on, what a signal interrupts is begun again. Any thread.
 */
#ifndef RINGSIDE_WRITE_H
#define RINGSIDE_WRITE_H

#include <stddef.h>
#include <stdint.h>

int write_all(int fd, const void *data, size_t len);
int write_all_at(int fd, const void *data, size_t len, uint64_t at); /* pwrite(2) */
int read_all(int fd, void *data, size_t len); /* -EIO: the file ends before */

#endif
