/*
 * Libraries that are loaded when they are first needed: those that most machines never use and that bring many others
 * with them (libvncserver, libnbd, libslirp: 6 MiB and 22 more libraries). Any thread; a library stays loaded.
 */
#ifndef RINGSIDE_LIBRARY_H
#define RINGSIDE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

struct library_symbol {
	const char *name;
	void *pointer; /* to the pointer that is set */
};

/* For a list LIST(X) of X(symbol): members of a struct `library` that point to them, and rows of a table of symbols. */
#define LIBRARY_POINTER(symbol) __typeof__(symbol) *symbol;
#define LIBRARY_SYMBOL(symbol) {#symbol, &library.symbol},

/* Loads `file` ("libnbd.so.0") and sets the symbols, the last of which has name NULL. False: one line for the user. */
bool library_load(const char *file, const struct library_symbol *symbols, char *error, size_t size);

#endif
