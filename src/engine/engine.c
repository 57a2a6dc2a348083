/*
 * The engines that there are, best first, and how to find one: by name, or by what this host is fit for. Constant; any
 * thread, but for engine_choose.
 */
#include "engine/engine.h"

#include <string.h>

const struct engine *const engines[] = { &engine_kvm, &engine_bt, &engine_interp, &engine_check, NULL };

const struct engine *engine_find(const char *name)
{
	for (unsigned i = 0; engines[i]; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

bool engine_runs_here(const struct engine *engine)
{
	char why[200];

	return !engine->probe || engine->probe(why, sizeof(why)) == 0;
}

const struct engine *engine_choose(char *why, size_t size)
{
	char reason[200];
	size_t len = 0;

	*why = '\0';
	for (unsigned i = 0; engines[i]; i++) {
		if (!engines[i]->probe || engines[i]->probe(reason, sizeof(reason)) == 0)
			return engines[i];
		len += (size_t)snprintf(why + len, len < size ? size - len : 0, "%s%s: %s", len ? "; " : "", engines[i]->name, reason);
	}
	return NULL;
}
