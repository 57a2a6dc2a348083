/*
 * A VM's life: build it, run it, end it. The thread that calls vm_run serves I/O: it turns the loop.
 *
 * vm->lock is held by the I/O thread while it works and released while it polls.
 */
#include "machine/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "boot/boot.h"
#include "control/qmp.h"
#include "dev/vga.h"
#include "machine/apics.h"
#include "machine/bells.h"
#include "machine/console.h"
#include "machine/pc.h"
#include "machine/serial.h"

#define ERROR_SIZE 512u
/* OVMF makes page tables for all addresses that the processor has, in pages of 2 MiB. */
#define UEFI_PHYS_BITS 40
#define UEFI_MEMORY_MAX (1ull << 39)
/* What a kernel that is loaded without firmware finds on the screen, if there is one. */
#define PICTURE_WIDTH 1024
#define PICTURE_HEIGHT 768

/* vm_create's line for the user. */
static _Thread_local char error_line[ERROR_SIZE];

/* Which of the host's limits may be behind an error. */
static const char *limit_of(int err)
{
	switch (err) {
	case -ENOMEM:
		return " (ulimit -v, ulimit -d, sysctl vm.overcommit_memory)";
	case -EMFILE:
		return " (ulimit -n)";
	case -EAGAIN: /* threads */
		return " (ulimit -u, a container's limit of processes)";
	case -EFBIG:
		return " (ulimit -f)";
	default:
		return "";
	}
}

static bool fail(const char **error, const char *what, int err)
{
	if (what)
		snprintf(error_line, sizeof error_line, "%s: %s%s", what, strerror(-err), limit_of(err));
	*error = error_line;
	return false;
}

static bool fail_memory(const struct vm *vm, const char **error, int err)
{
	unsigned long long mib = vm->config.memory_size >> 20;

	if (err == -ENOMEM)
		snprintf(error_line, sizeof error_line, "--memory: this host cannot provide %llu MiB%s", mib, limit_of(err));
	else
		snprintf(error_line, sizeof error_line, "--memory: %llu bytes: %s%s",
			 (unsigned long long)vm->config.memory_size, strerror(-err), limit_of(err));
	return fail(error, NULL, err);
}

static int load_guest(struct vm *vm)
{
	struct boot_config boot = {
		.kernel = vm->config.kernel,
		.initrd = vm->config.initrd,
		.append = vm->config.append,
		.rsdp = vm->pc->rsdp,
	};

	if (vm->devices.vga && vm->config.backends.screen.text && !vm->config.backends.screen.vnc.addresses) {
		boot.picture.text = true;
		vga_set_text_mode(vm->devices.vga);
	} else if (vm->devices.vga) {
		boot.picture.width = PICTURE_WIDTH;
		boot.picture.height = PICTURE_HEIGHT;
		boot.picture.size = VGA_MEMORY_SIZE;
		vga_set_linear_mode(vm->devices.vga, PICTURE_WIDTH, PICTURE_HEIGHT, &boot.picture.address);
	}
	return boot_load(&vm->memory, &vm->vcpu[0]->cpu, &boot, error_line, sizeof error_line);
}

/* ---- the machine ---- */

/* Other memory is seen somewhere: vCPUs in the guest come out of it. */
static void remapped(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->in_guest)
			vcpu_kick(vm->vcpu[i]);
}

static bool make_engine_vm(struct vm *vm, const char **error)
{
	struct vm_config *config = &vm->config;

	errno = 0;
	vm->engine_vm = config->engine->vm_create(&vm->memory);
	if (vm->engine_vm || !errno)
		return true;
	fail(error, config->engine->name, -errno);
	if (!config->fallback)
		return false;
	config->engine = config->fallback;
	config->fallback = NULL;
	return make_engine_vm(vm, error);
}

static bool build_machine(struct vm *vm, const char **error)
{
	const struct vm_config *config = &vm->config;
	int r;

	vm->started = clock_now();
	if (config->cpus == 0 || config->cpus > VCPUS_MAX)
		return fail(error, "--cpus", -EINVAL);
	if ((r = memory_init_low(&vm->memory, config->memory_size, chipset_low_memory(config->machine))) < 0)
		return fail_memory(vm, error, r);
	vm->memory.remapped = remapped;
	vm->memory.remapped_opaque = vm;
	if ((r = cpuid_build(&vm->cpuid, config->cpus)) < 0)
		return fail(error, "CPUID of this host", r);
	if (config->firmware.uefi && config->memory_size <= UEFI_MEMORY_MAX)
		cpuid_limit_phys_bits(&vm->cpuid, UEFI_PHYS_BITS);
	if (!make_engine_vm(vm, error))
		return false;
	if ((r = apics_begin(vm)) < 0)
		return fail(error, config->engine->name, r);
	if (config->engine->limit_cpuid && (r = config->engine->limit_cpuid(vm->engine_vm, &vm->cpuid)) < 0)
		return fail(error, "CPUID of the engine", r);
	for (unsigned i = 0; i < config->cpus; i++, vm->vcpu_count++)
		if ((r = vcpu_new(vm, i)) < 0)
			return fail(error, "vCPU", r);
	if (!config->kernel && (r = firmware_load(vm, error_line, sizeof error_line)) < 0)
		return fail(error, NULL, r);
	if ((r = pc_new(vm)) < 0)
		return fail(error, "devices", r);
	if (config->kernel && (r = load_guest(vm)) < 0)
		return fail(error, NULL, r);
	if (!config->kernel && (r = firmware_configure(vm)) < 0)
		return fail(error, "firmware", r);
	if ((r = apics_give(vm)) < 0)
		return fail(error, "local APICs of the engine", r);
	bells_on(vm);
	return true;
}

static void tear_machine_down(struct vm *vm)
{
	bells_off(vm);
	pc_free(vm);
	firmware_free(vm);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_free(vm->vcpu[i]);
	memset(vm->vcpu, 0, sizeof vm->vcpu);
	vm->vcpu_count = 0;
	if (vm->engine_vm)
		vm->config.engine->vm_destroy(vm->engine_vm);
	vm->engine_vm = NULL;
	vm->apics = NULL;
	if (vm->memory.base)
		memory_free(&vm->memory);
	memset(&vm->pio, 0, sizeof vm->pio);
	memset(&vm->mmio, 0, sizeof vm->mmio);
	free(vm->report);
	vm->report = NULL;
}

/* The host's side has threads that look for a device in front of them at any time. */
static bool build_machine_locked(struct vm *vm, const char **error)
{
	pthread_mutex_lock(&vm->lock);
	bool ok = build_machine(vm, error);
	pthread_mutex_unlock(&vm->lock);
	return ok;
}

static void tear_machine_down_locked(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	tear_machine_down(vm);
	pthread_mutex_unlock(&vm->lock);
}

/* ---- the host's side ---- */

static void timers_ready(void *opaque, short revents)
{
	(void)revents;
	timer_queue_run(((struct vm *)opaque)->timers);
}

static void host_ready(void *opaque, short revents)
{
	struct vm *vm = opaque;

	(void)revents;
	pthread_mutex_unlock(&vm->lock);
	vm->config.host_ready(vm->config.host_opaque, vm);
	pthread_mutex_lock(&vm->lock);
}

static bool open_host_side(struct vm *vm, const char **error)
{
	if (!(vm->loop = loop_new(&vm->lock)))
		return fail(error, "eventfd", -errno);
	if (!(vm->timers = timer_queue_new()))
		return fail(error, "timers", -errno);
	vm->timers_fd = (struct loop_fd){
		.fd = timer_queue_fd(vm->timers), .events = POLLIN, .ready = timers_ready, .opaque = vm};
	vm->host_fd = (struct loop_fd){.fd = vm->config.host_fd, .events = POLLIN, .ready = host_ready, .opaque = vm};
	loop_add_fd(vm->loop, &vm->timers_fd);
	loop_add_fd(vm->loop, &vm->host_fd);
	if (!(vm->console = console_new(vm)))
		return fail(error, "console", -errno);
	if (!backends_open(&vm->backends, vm, error_line, sizeof error_line))
		return fail(error, NULL, 0);
	if (vm->config.firmware.uefi &&
	    uefi_open(&vm->uefi_vars, vm->config.firmware.vars, error_line, sizeof error_line) < 0)
		return fail(error, NULL, 0);
	return true;
}

static void close_host_side(struct vm *vm)
{
	uefi_close(&vm->uefi_vars);
	backends_close(&vm->backends, vm);
	if (vm->console)
		console_free(vm->console);
	if (vm->timers) {
		loop_remove_fd(vm->loop, &vm->timers_fd);
		loop_remove_fd(vm->loop, &vm->host_fd);
		timer_queue_free(vm->timers);
	}
	if (vm->loop)
		loop_free(vm->loop);
}

/* ---- life ---- */

struct vm *vm_create(const struct vm_config *config, const char **error)
{
	struct vm *vm = calloc(1, sizeof *vm);

	if (!vm) {
		*error = "out of memory";
		return NULL;
	}
	vm->config = *config;
	vm->memory.fd = -1;
	vm->uefi_vars.fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->came_out, NULL);
	if (!open_host_side(vm, error) || !build_machine_locked(vm, error)) {
		vm_destroy(vm);
		return NULL;
	}
	vm->config.fallback = NULL; /* nothing is made for it outside of the sandbox */
	return vm;
}

bool vm_reset(struct vm *vm, const char **error)
{
	tear_machine_down_locked(vm);
	vm->end = VM_RUNNING;
	return build_machine_locked(vm, error);
}

void vm_destroy(struct vm *vm)
{
	tear_machine_down_locked(vm);
	close_host_side(vm);
	pthread_cond_destroy(&vm->came_out);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

void vm_wake_io(struct vm *vm) { loop_wake(vm->loop); }

void vm_stop(struct vm *vm, enum vm_end end)
{
	if (vm->end != VM_RUNNING)
		return;
	vm->end = end;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(vm->vcpu[i]);
	pthread_cond_signal(&vm->came_out); /* who waits to move it */
	vm_wake_io(vm);
}

static void start_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *v = vm->vcpu[i];

		int r = pthread_create(&v->thread, NULL, vcpu_main, v);

		if (r != 0) {
			if (!vm->report && asprintf(&vm->report, "vCPU %u: no thread can be started: %s%s\n", i, strerror(r),
						    limit_of(-r)) < 0)
				vm->report = NULL;
			vm_stop(vm, VM_ERROR);
			return;
		}
		v->thread_started = true;
	}
}

enum vm_end vm_run(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	start_vcpus(vm);
	while (vm->end == VM_RUNNING)
		loop_turn(vm->loop);
	pthread_mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->thread_started)
			pthread_join(vm->vcpu[i]->thread, NULL);
	pthread_mutex_lock(&vm->lock);
	serial_drain(vm->pc->serial);
	if (vm->backends.qmp)
		qmp_tell_end(vm->backends.qmp, vm->end == VM_RESET && !vm->config.no_reboot);
	pthread_mutex_unlock(&vm->lock);
	return vm->end;
}
