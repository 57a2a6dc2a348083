/*
 * The local APICs go to the engine and come back. See apics.h.
 *
 * The paravirtual clock goes with them. So does what is on its way to a vCPU: INIT and SIPI as messages, an NMI by the
 * loop. The end of a level-triggered interrupt that the engine did not get to tell of is seen by the vector's being in no
 * local APIC any more.
 */
#include "machine/apics.h"

#include <errno.h>

#include "dev/kvmclock.h"
#include "irq/ioapic.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "util/log.h"

int apics_begin(struct vm *vm)
{
	const struct engine_apics *apics = vm->config.engine->apics;
	int r;

	vm->apics = NULL;
	if (!apics || vm->config.own_apics)
		return 0;
	r = apics->begin(vm->engine_vm);
	if (r == 0)
		vm->apics = apics;
	return r == -EOPNOTSUPP ? 0 : r;
}

static int message(void *opaque, const struct apic_msi *m)
{
	struct vm *vm = opaque;

	return vm->apics->message(vm->engine_vm, m);
}

static int tell_routes(struct vm *vm)
{
	struct apic_msi msi[IOAPIC_PINS] = {0};
	struct lapic_message m;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		if (ioapic_route(vm->pc->ioapic, pin, &m))
			msi[pin] = lapic_message_msi(&m);
	return vm->apics->routes(vm->engine_vm, msi, IOAPIC_PINS);
}

void apics_routes(void *opaque)
{
	struct pc *pc = opaque;
	int r = pc->vm->apics ? tell_routes(pc->vm) : 0;

	if (r < 0)
		LOG(LOG_LAPIC, "interrupt routes: %d", r);
}

static int put(struct vcpu *v)
{
	struct apic_state s;

	lapic_get_state(v->lapic, &s);
	s.steal_time = v->pv.steal_msr;
	s.wait_sipi = v->wait_sipi;
	s.unhalted = v->pv.unhalted && !v->cpu.halted;
	s.clock = pv_clock(v);
	return v->vm->apics->put(&v->cpu, &s);
}

static void tell(struct vcpu *v, enum lapic_delivery mode, uint8_t vector)
{
	const struct lapic_message m = {.dest = lapic_id(v->lapic), .mode = mode, .vector = vector};

	lapic_bus_deliver(&v->vm->pc->lapics, &m, NULL);
}

/* It is the engine's now. */
static void let_go(struct vcpu *v)
{
	v->wait_sipi = false;
	pv_set_steal_time(v, 0);
	if (v->pv.unhalted)
		v->cpu.halted = v->pv.unhalted = false; /* of one that runs the engine has been told */
	if (v->init_pending)
		tell(v, LAPIC_INIT, 0);
	v->init_pending = false;
	if (v->sipi_vector >= 0)
		tell(v, LAPIC_STARTUP, (uint8_t)v->sipi_vector);
	v->sipi_vector = -1;
}

static uint64_t engines_clock(void *opaque)
{
	struct vm *vm = opaque;
	uint64_t ns = 0;

	if (vm->apics->get_clock(vm->engine_vm, &ns) < 0)
		LOG(LOG_KVMPV, "the engine does not tell what its clock says");
	return ns;
}

int apics_give(struct vm *vm)
{
	int r;

	if (!vm->apics)
		return 0;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if ((r = put(vm->vcpu[i])) < 0)
			goto fail;
	if ((r = tell_routes(vm)) < 0)
		goto fail;
	if ((r = vm->apics->set_clock(vm->engine_vm, kvmclock_now(vm->pc->kvmclock))) < 0)
		goto fail;
	kvmclock_set_elsewhere(vm->pc->kvmclock, engines_clock, vm);
	lapic_bus_set_elsewhere(&vm->pc->lapics, message, vm);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		let_go(vm->vcpu[i]);
	return 0;
fail:
	vm->apics = NULL;
	return r;
}

int apics_take(struct vm *vm)
{
	const struct engine_apics *apics = vm->apics;

	if (!apics)
		return 0;
	kvmclock_set_elsewhere(vm->pc->kvmclock, NULL, NULL);
	vm->apics = NULL;
	lapic_bus_set_elsewhere(&vm->pc->lapics, NULL, NULL);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *v = vm->vcpu[i];
		struct apic_state s;
		int r = apics->get(&v->cpu, &s);

		if (r < 0)
			return r;
		lapic_set_state(v->lapic, &s);
		pv_set_steal_time(v, s.steal_time);
		v->wait_sipi = s.wait_sipi;
		v->pv.unhalted = s.unhalted;
		pv_set_clock(v, s.clock);
	}
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		int vector = ioapic_waits_for(vm->pc->ioapic, pin);

		if (vector >= 0 && !lapic_bus_has_vector(&vm->pc->lapics, (uint8_t)vector))
			ioapic_eoi(vm->pc->ioapic, (uint8_t)vector);
	}
	return 0;
}
