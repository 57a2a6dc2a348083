/*
 * Small changes of a file, written by a thread of its own in the order in which they were made, and then made to last
 * (fdatasync): for what a vCPU changes and must not wait for. Any thread; the lock is its own, taken inside all others.
 */
#ifndef RINGSIDE_FILE_WRITER_H
#define RINGSIDE_FILE_WRITER_H

#include <stdint.h>

struct file_writer;

/* `fd` stays the caller's, and open until file_writer_free. NULL: errno. */
struct file_writer *file_writer_new(int fd);
/* Writes what is left, and ends the thread. NULL: nothing. */
void file_writer_free(struct file_writer *w);
/* Bytes [at, at+len) of `contents`, which is all of the file, have changed; they are copied now. When the disk does not
 * keep up, changes that wait become one: memory is bounded by some times the file; when there is none, the caller waits
 * for what is before it and writes itself. One thread at a time. */
void file_writer_put(struct file_writer *w, const uint8_t *contents, uint64_t at, uint64_t len);
/* Waits until all of it lasts. 0, or -errno of the first write that failed since the last time. */
int file_writer_drain(struct file_writer *w);

#endif
