/*
 * A VM's life: build it, run it, end it. The thread that calls vm_run serves I/O: timers, the host's
 * end of the serial line, and one descriptor of the caller's.
 *
 * vm->lock is held by the I/O thread while it works and released while it polls.
 */
#include "machine/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "boot/boot.h"
#include "machine/console.h"
#include "machine/pc.h"

#define ERROR_SIZE 512u

/* vm_create's line for the user. */
static _Thread_local char error_line[ERROR_SIZE];

static struct vm *fail(struct vm *vm, const char **error, const char *what, int err)
{
	if (what)
		snprintf(error_line, sizeof error_line, "%s: %s", what, strerror(-err));
	*error = error_line;
	vm_destroy(vm);
	return NULL;
}

static struct vm *fail_memory(struct vm *vm, const char **error, int err)
{
	unsigned long long mib = vm->config.memory_size >> 20;

	if (err == -ENOMEM)
		snprintf(error_line, sizeof error_line, "--memory: this host cannot provide %llu MiB", mib);
	else
		snprintf(error_line, sizeof error_line, "--memory: %llu bytes: %s",
			 (unsigned long long)vm->config.memory_size, strerror(-err));
	return fail(vm, error, NULL, err);
}

static int load_guest(struct vm *vm)
{
	const struct boot_config boot = {
		.kernel = vm->config.kernel,
		.initrd = vm->config.initrd,
		.append = vm->config.append,
		.rsdp = vm->pc->rsdp,
	};

	return boot_load(&vm->memory, &vm->vcpu[0]->cpu, &boot, error_line, sizeof error_line);
}

struct vm *vm_create(const struct vm_config *config, const char **error)
{
	struct vm *vm = calloc(1, sizeof *vm);
	int r;

	if (!vm) {
		*error = "out of memory";
		return NULL;
	}
	vm->config = *config;
	vm->memory.fd = -1;
	vm->started = clock_now();
	pthread_mutex_init(&vm->lock, NULL);
	vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake_fd < 0)
		return fail(vm, error, "eventfd", -errno);
	if (config->cpus == 0 || config->cpus > VCPUS_MAX)
		return fail(vm, error, "--cpus", -EINVAL);
	if ((r = memory_init(&vm->memory, config->memory_size)) < 0)
		return fail_memory(vm, error, r);
	if ((r = cpuid_build(&vm->cpuid, config->cpus)) < 0)
		return fail(vm, error, "CPUID of this host", r);
	if (!(vm->timers = timer_queue_new()))
		return fail(vm, error, "timers", -errno);
	errno = 0;
	vm->engine_vm = config->engine->vm_create(&vm->memory);
	if (!vm->engine_vm && errno)
		return fail(vm, error, config->engine->name, -errno);
	for (unsigned i = 0; i < config->cpus; i++, vm->vcpu_count++)
		if ((r = vcpu_new(vm, i)) < 0)
			return fail(vm, error, "vCPU", r);
	if (!(vm->console = console_new(vm)))
		return fail(vm, error, "console", -errno);
	if ((r = pc_new(vm)) < 0)
		return fail(vm, error, "devices", r);
	if ((r = load_guest(vm)) < 0)
		return fail(vm, error, NULL, r);
	return vm;
}

void vm_destroy(struct vm *vm)
{
	pc_free(vm);
	if (vm->console)
		console_free(vm->console);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_free(vm->vcpu[i]);
	if (vm->engine_vm)
		vm->config.engine->vm_destroy(vm->engine_vm);
	if (vm->timers)
		timer_queue_free(vm->timers);
	if (vm->memory.base)
		memory_free(&vm->memory);
	if (vm->wake_fd >= 0)
		close(vm->wake_fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm->report);
	free(vm);
}

void vm_wake_io(struct vm *vm)
{
	/* Full is as good as written. */
	ssize_t n = write(vm->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
	(void)n;
}

void vm_stop(struct vm *vm, enum vm_end end)
{
	if (vm->end != VM_RUNNING)
		return;
	vm->end = end;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(vm->vcpu[i]);
	vm_wake_io(vm);
}

enum { POLL_TIMERS, POLL_WAKE, POLL_HOST, POLL_INPUT, POLL_OUTPUT, POLL_COUNT };

/* One turn of the I/O thread: waits for something to do, then does it. vm->lock is held. */
static void serve_io(struct vm *vm)
{
	struct pollfd fds[POLL_COUNT] = {
		[POLL_TIMERS] = {.fd = timer_queue_fd(vm->timers), .events = POLLIN},
		[POLL_WAKE] = {.fd = vm->wake_fd, .events = POLLIN},
		[POLL_HOST] = {.fd = vm->config.host_fd, .events = POLLIN},
	};
	uint64_t count;

	console_poll(vm->console, &fds[POLL_INPUT], &fds[POLL_OUTPUT]);
	pthread_mutex_unlock(&vm->lock);
	int n = poll(fds, POLL_COUNT, -1);
	if (n > 0 && fds[POLL_HOST].revents)
		vm->config.host_ready(vm->config.host_opaque, vm);
	pthread_mutex_lock(&vm->lock);
	if (n <= 0)
		return;
	if (fds[POLL_WAKE].revents && read(vm->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
		vm_stop(vm, VM_ERROR);
	if (fds[POLL_TIMERS].revents)
		timer_queue_run(vm->timers);
	console_serve(vm->console, &fds[POLL_INPUT], &fds[POLL_OUTPUT]);
}

static void start_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *v = vm->vcpu[i];

		if (pthread_create(&v->thread, NULL, vcpu_main, v) != 0) {
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
		serve_io(vm);
	pthread_mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i]->thread_started)
			pthread_join(vm->vcpu[i]->thread, NULL);
	pthread_mutex_lock(&vm->lock);
	console_drain(vm->console);
	pthread_mutex_unlock(&vm->lock);
	return vm->end;
}
