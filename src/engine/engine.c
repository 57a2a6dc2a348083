/*
 * The engines that there are, best first, and how to find one by name. Constant; any thread.
 */
#include "engine/engine.h"

#include <string.h>

const struct engine *const engines[] = { &engine_bt, &engine_interp, &engine_check, NULL };

const struct engine *engine_find(const char *name)
{
	for (unsigned i = 0; engines[i]; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}
