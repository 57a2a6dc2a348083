/*
 * Collects the bells of the devices on both buses for the engine. See bells.h.
 */
#include "machine/bells.h"

#include "machine/vm.h"

/* Of one region. Returns how many are in the list then. */
static unsigned add(struct engine_bell *list, unsigned count, const struct bus_region *r, bool port)
{
	struct bus_bells b;

	if (!r->ops->bells || !r->ops->bells(r->dev, &b))
		return count;
	for (unsigned i = 0; i < b.count && count < ENGINE_BELLS_MAX; i++) {
		uint64_t offset = b.offset + (uint64_t)i * b.step;

		if (offset < r->len)
			list[count++] = (struct engine_bell){.addr = r->base + offset, .port = port, .fd = b.fd};
	}
	return count;
}

static void update(void *opaque)
{
	struct engine_bell list[ENGINE_BELLS_MAX];
	struct vm *vm = opaque;
	unsigned count = 0;

	for (unsigned i = 0; i < vm->mmio.count; i++)
		count = add(list, count, &vm->mmio.region[i], false);
	for (unsigned i = 0; i < vm->pio.count; i++)
		count = add(list, count, &vm->pio.region[i], true);
	vm->config.engine->bells(vm->engine_vm, list, count);
}

void bells_on(struct vm *vm)
{
	bells_off(vm);
	if (!vm->config.engine->bells)
		return;
	vm->mmio.changed = vm->pio.changed = update;
	vm->mmio.opaque = vm->pio.opaque = vm;
	update(vm);
}

void bells_off(struct vm *vm) { vm->mmio.changed = vm->pio.changed = NULL; }
