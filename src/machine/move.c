/*
 * Moving a running VM from one engine to another.
 *
 * The vCPUs are held: kicked out of the guest, and kept from entering it, each at an instruction boundary or before an
 * instruction whose I/O has been answered (cpu->io), which every engine runs again. Then all state is in struct cpu,
 * and nothing of the old engine is needed. Devices run on; only their changes of memory, of which engines want to be
 * told, wait meanwhile.
 *
 * vm->lock is held, and given up while vCPUs come out. Any thread but a vCPU's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cpu/mmu.h"
#include "machine/vm.h"
#include "util/log.h"

static _Thread_local char error_line[256];

static bool any_in_guest(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->in_guest)
			return true;
	return false;
}

static void hold(struct vm *vm)
{
	vm->held = true;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(vm->vcpu[i]);
	while (any_in_guest(vm))
		pthread_cond_wait(&vm->came_out, &vm->lock);
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

/* 0 or -errno; if it is an error the VM goes on as it was, or ends. */
static int replace(struct vm *vm, const struct engine *to)
{
	const struct engine *from = vm->config.engine;
	int r;

	memory_hold(&vm->memory);
	detach(vm, vm->vcpu_count);
	r = attach(vm, to);
	if (r < 0 && attach(vm, from) < 0)
		vm_stop(vm, VM_ERROR);
	memory_release(&vm->memory);
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
	if (to->cpus_max && vm->vcpu_count > to->cpus_max) {
		snprintf(error_line, sizeof error_line, "engine %s runs at most %u vCPU%s, and the machine has %u", to->name,
			 to->cpus_max, to->cpus_max == 1 ? "" : "s", vm->vcpu_count);
		return refuse(error, error_line);
	}
	hold(vm);
	if (vm->end != VM_RUNNING) {
		let_go(vm);
		return refuse(error, "the machine has ended");
	}
	LOG(LOG_EXIT, "from engine %s to %s", vm->config.engine->name, to->name);
	r = replace(vm, to);
	let_go(vm);
	if (r == 0) {
		vm->moves++;
		return true;
	}
	if (r == -EBUSY)
		return refuse(error, "a device is in the middle of writing to memory, which the engine has to see: try again");
	snprintf(error_line, sizeof error_line, "engine %s: %s", to->name, strerror(-r));
	return refuse(error, error_line);
}
