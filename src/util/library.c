/*
 * Libraries loaded when needed. See library.h.
 */
#include "util/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool library_load(const char *file, const struct library_symbol *symbols, char *error, size_t size)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		snprintf(error, size, "%s is needed: %s", file, dlerror());
		return false;
	}
	for (; symbols->name; symbols++) {
		void *address = dlsym(library, symbols->name);

		if (!address) {
			snprintf(error, size, "%s has no %s", file, symbols->name);
			return false;
		}
		memcpy(symbols->pointer, &address, sizeof address);
	}
	return true;
}
