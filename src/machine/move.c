/*
 * Moving a running VM from one engine to another.
 *
 * The vCPUs are held: kicked out of the guest, and parked, each at an instruction boundary; one that is in the middle
 * of an instruction's I/O ends that first. Then the engine puts all state into struct cpu, and nothing else of it is
 * needed. Devices run on; only their changes of memory, of which engines want to be told, wait meanwhile.
 *
 * vm->lock is held, and given up while vCPUs come out. Any thread but a vCPU's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cpu/mmu.h"
#include "machine/apics.h"
#include "machine/bells.h"
#include "machine/vm.h"
#include "util/log.h"

static _Thread_local char error_line[256];

#define PATIENCE_S 5 /* for vCPUs to come out: an instruction may be waiting for a device that waits for a disk */

static bool all_parked(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->thread_started && !vm->vcpu[i]->parked)
			return false;
	return true;
}

/* False: not all vCPUs have come out, or the machine has ended meanwhile. */
static bool hold(struct vm *vm)
{
	struct timespec end;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += PATIENCE_S;
	vm->held = true;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(vm->vcpu[i]);
	while (r == 0 && vm->end == VM_RUNNING && !all_parked(vm))
		r = pthread_cond_clockwait(&vm->came_out, &vm->lock, CLOCK_MONOTONIC, &end);
	return vm->end == VM_RUNNING && all_parked(vm);
}

static void let_go(struct vm *vm)
{
	vm->held = false;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		pthread_cond_signal(&vm->vcpu[i]->wake);
}

static void detach(struct vm *vm, unsigned vcpus)
{
	const struct engine *engine = vm->config.engine;

	for (unsigned i = 0; i < vcpus; i++)
		engine->vcpu_destroy(&vm->vcpu[i]->cpu);
	engine->vm_destroy(vm->engine_vm);
	vm->engine_vm = NULL;
}

/* What one engine has put into the TLB need not be right for another: rights to write unnoticed, above all. */
static int attach(struct vm *vm, const struct engine *engine)
{
	unsigned i;
	int r = 0;

	errno = ENOMEM;
	vm->engine_vm = engine->vm_create(&vm->memory);
	if (!vm->engine_vm)
		return -errno;
	vm->config.engine = engine;
	if ((r = apics_begin(vm)) < 0) {
		detach(vm, 0);
		return r;
	}
	for (i = 0; i < vm->vcpu_count; i++) {
		r = engine->vcpu_create(vm->engine_vm, &vm->vcpu[i]->cpu);
		if (r < 0)
			break;
		mmu_flush(&vm->vcpu[i]->cpu, true);
	}
	if (r < 0)
		detach(vm, i);
	return r;
}

static int change(struct vm *vm, const struct engine *engine)
{
	int r;

	memory_hold(&vm->memory);
	if (vm->engine_vm)
		detach(vm, vm->vcpu_count);
	r = attach(vm, engine);
	memory_release(&vm->memory);
	if (r == 0)
		r = apics_give(vm);
	if (r == 0)
		bells_on(vm);
	return r;
}

/* 0 or -errno; if it is an error the VM goes on as it was, or ends. */
static int replace(struct vm *vm, const struct engine *to)
{
	const struct engine *from = vm->config.engine;
	int r = apics_take(vm);

	bells_off(vm);
	if (r < 0) {
		vm_stop(vm, VM_ERROR);
		return r;
	}
	r = change(vm, to);
	if (r < 0 && change(vm, from) < 0)
		vm_stop(vm, VM_ERROR);
	return r;
}

static bool refuse(const char **error, const char *why)
{
	*error = why;
	return false;
}

bool vm_move(struct vm *vm, const struct engine *to, const char **error)
{
	int r;

	if (vm->held)
		return refuse(error, "the machine is being moved already");
	if (!engine_found_fit(to)) {
		snprintf(error_line, sizeof error_line,
			 "this host was not found fit for engine %s when Ringside began: that is tried with --engine %s or auto",
			 to->name, to->name);
		return refuse(error, error_line);
	}
	if (to->cpus_max && vm->vcpu_count > to->cpus_max) {
		snprintf(error_line, sizeof error_line, "engine %s runs at most %u vCPU%s, and the machine has %u", to->name,
			 to->cpus_max, to->cpus_max == 1 ? "" : "s", vm->vcpu_count);
		return refuse(error, error_line);
	}
	if (!hold(vm)) {
		let_go(vm);
		return refuse(error, vm->end != VM_RUNNING ? "the machine has ended" : "a vCPU is busy with a device: try again");
	}
	LOG(LOG_EXIT, "from engine %s to %s", vm->config.engine->name, to->name);
	r = replace(vm, to);
	let_go(vm);
	if (r == 0) {
		vm->moves++;
		return true;
	}
	if (r == -EOPNOTSUPP) {
		snprintf(error_line, sizeof error_line,
			 "the guest was shown a processor that engine %s does not have here: begin with --engine %s", to->name,
			 to->name);
		return refuse(error, error_line);
	}
	if (r == -EBUSY)
		return refuse(error, "a device is in the middle of writing to memory, which the engine has to see: try again");
	snprintf(error_line, sizeof error_line, "engine %s: %s", to->name, strerror(-r));
	return refuse(error, error_line);
}
