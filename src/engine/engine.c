/*
 * The engines that there are, best first, and how to find one: by name, or by what this host is fit for. Any thread,
 * but for what probes.
 */
#include "engine/engine.h"

#include <inttypes.h>
#include <string.h>

const struct engine *const engines[] = { &engine_kvm, &engine_bt, &engine_interp, &engine_check, NULL };

const struct engine *engine_find(const char *name)
{
	for (unsigned i = 0; engines[i]; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

/* What probes have said in this process. */
static struct {
	bool asked;
	int result;
	char why[200];
} verdict[sizeof(engines) / sizeof(engines[0])];

int engine_probe(const struct engine *engine, char *why, size_t size)
{
	unsigned i;

	*why = '\0';
	if (!engine->probe)
		return 0;
	for (i = 0; engines[i] && engines[i] != engine; i++)
		;
	if (!verdict[i].asked)
		verdict[i].result = engine->probe(verdict[i].why, sizeof(verdict[i].why));
	verdict[i].asked = true;
	snprintf(why, size, "%s", verdict[i].why);
	return verdict[i].result;
}

bool engine_found_fit(const struct engine *engine)
{
	if (!engine->probe)
		return true;
	for (unsigned i = 0; engines[i]; i++)
		if (engines[i] == engine)
			return verdict[i].asked && verdict[i].result == 0;
	return false;
}

void engine_probe_cheap(void)
{
	for (unsigned i = 0; engines[i]; i++)
		if (!engines[i]->device)
			engine_runs_here(engines[i]);
}

int engine_reserve(const struct engine *engine, bool all, unsigned vcpus)
{
	int r = interp_reserve(vcpus);

	if (engine->without_code)
		r = 0;
	for (unsigned i = 0; r == 0 && engines[i]; i++)
		if (engines[i]->reserve && (engines[i] == engine || (all && engine_found_fit(engines[i]))))
			r = engines[i]->reserve();
	return r;
}

bool engine_runs_here(const struct engine *engine)
{
	char why[200];

	return engine_probe(engine, why, sizeof(why)) == 0;
}

const struct engine *engine_choose(char *why, size_t size)
{
	char reason[200];
	size_t len = 0;

	*why = '\0';
	for (unsigned i = 0; engines[i]; i++) {
		if (engine_probe(engines[i], reason, sizeof(reason)) == 0)
			return engines[i];
		len += (size_t)snprintf(why + len, len < size ? size - len : 0, "%s%s: %s", len ? "; " : "", engines[i]->name, reason);
	}
	return NULL;
}

const struct engine *engine_after(const struct engine *engine)
{
	unsigned i;

	for (i = 0; engines[i] && engines[i] != engine; i++)
		;
	while (engines[i] && engines[++i] && engines[i] != &engine_check) /* which takes all that the others do */
		if (engine_runs_here(engines[i]))
			return engines[i];
	return NULL;
}

void engine_print(FILE *out, const char *name, uint64_t value) { fprintf(out, "  %-28s %" PRIu64 "\n", name, value); }
