/*
 * Large tables of which little is used: pages of theirs that the host need not keep.
 * Private anonymous memory only; any thread that owns it.
 */
#ifndef RINGSIDE_PAGES_H
#define RINGSIDE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroes [start, start + size): what is never used of it takes none of the host's memory, not as part of a large page
 * either. */
void pages_make_fresh(void *start, size_t size);

/* Zeroes the pages that lie in it as a whole, and gives their memory back. False, with nothing done: the host does not. No
 * vector register is used. */
bool pages_release(void *start, size_t size);

#endif
