/*
 * ringside run: builds a VM, runs it in this terminal, and again after a reset. Main thread, which
 * becomes the VM's I/O thread. Signals come by a descriptor, so they are ordinary events.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/descriptors.h"
#include "cmd/option_sandbox.h"
#include "cmd/options.h"
#include "cmd/terminal.h"
#include "cpu/cpuid.h"
#include "dev/pm.h"
#include "machine/pc.h"
#include "sandbox/sandbox.h"

struct run {
	struct run_options options;
	int signal_fd;
	int ended_by; /* a signal, or 0 */
};

static void stop_for_signal(struct run *run, struct vm *vm, int signo)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->end == VM_RUNNING || vm->end == VM_RESET) /* a guest that resets all the time can be ended, too */
		run->ended_by = signo;
	vm_stop(vm, VM_QUIT);
	pthread_mutex_unlock(&vm->lock);
}

/* Ctrl-Z goes to the guest; a SIGTSTP from elsewhere stops Ringside with the terminal as it was before. */
static void suspend(void)
{
	terminal_restore();
	raise(SIGSTOP);
	terminal_raw(STDIN_FILENO);
}

static void signal_ready(void *opaque, struct vm *vm)
{
	struct run *run = opaque;
	struct signalfd_siginfo info;

	if (read(run->signal_fd, &info, sizeof info) != sizeof info)
		return;
	switch (info.ssi_signo) {
	case SIGUSR1:
		vm_print_stats(vm, stderr);
		break;
	case SIGPWR:
		pthread_mutex_lock(&vm->lock);
		pm_power_button(vm->pc->pm);
		pthread_mutex_unlock(&vm->lock);
		break;
	case SIGTSTP:
		suspend();
		break;
	case SIGCONT:
		terminal_raw(STDIN_FILENO);
		break;
	default:
		stop_for_signal(run, vm, (int)info.ssi_signo);
		break;
	}
}

static int take_signals(struct run *run)
{
	static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPWR, SIGTSTP, SIGCONT};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN); /* write(2) says it */
	signal(SIGXFSZ, SIG_IGN); /* whoever made the file larger says it */
	sigemptyset(&set);
	for (unsigned i = 0; i < sizeof taken / sizeof taken[0]; i++)
		sigaddset(&set, taken[i]);
	/* Before any other thread is there: all inherit the mask. */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return run->signal_fd < 0 ? -errno : 0;
}

static int status_of(const struct run *run, const struct vm *vm, enum vm_end end)
{
	switch (end) {
	case VM_POWER_OFF:
		return STATUS_OK;
	case VM_RESET:
	case VM_QUIT:
		return run->ended_by ? STATUS_SIGNAL + run->ended_by : STATUS_OK;
	case VM_OUTPUT_CLOSED:
		return STATUS_SIGNAL + SIGPIPE;
	case VM_TRIPLE_FAULT:
		return STATUS_TRIPLE_FAULT;
	case VM_DEBUG_EXIT:
		return vm->debug_exit_code & 0xff;
	case VM_RUNNING:
	case VM_ERROR:
		break;
	}
	return STATUS_ERROR;
}

static int start_failed(const char *error)
{
	terminal_restore();
	fprintf(stderr, "ringside run: %s\n", error);
	return STATUS_ERROR;
}

/* The engine that was asked for, if this host is fit for it, or the best one, and the next best; `why` says why not a better
 * one. */
static int choose_engine(struct vm_config *config, char *why, size_t size)
{
	*why = '\0';
	engine_probe_cheap(); /* for who wants to move the machine to another one later */
	if (!config->engine) {
		config->engine = engine_choose(why, size);
		config->fallback = config->engine ? engine_after(config->engine) : NULL;
		if (!config->engine)
			fprintf(stderr, "ringside run: no engine runs here: %s\n", why);
	} else if (engine_probe(config->engine, why, size) < 0) {
		fprintf(stderr, "ringside run: --engine %s: %s\n", config->engine->name, why);
		return -EOPNOTSUPP;
	}
	return config->engine ? 0 : -EOPNOTSUPP;
}

/* Which engine it is, why not a better one, and why not the best after all. */
static void tell_engine(const char *name, const char *why, const char *failed)
{
	if (*why || *failed)
		fprintf(stderr, "ringside: engine %s (not %s%s%s)\n", name, why, *why && *failed ? "; " : "", failed);
	else
		fprintf(stderr, "ringside: engine %s\n", name);
}

/* What resets and moves take that the sandbox gives to nobody. */
static bool reserve(const struct run_options *o, const struct engine *engine)
{
	int r = o->sandbox == SANDBOX_OFF ? 0 : engine_reserve(engine, o->vm.backends.qmp, o->vm.cpus);
	char line[120];

	if (r < 0) {
		snprintf(line, sizeof line, "memory for generated code: %s", strerror(-r));
		start_failed(line);
	}
	return r == 0;
}

/* The guest's lives, from power-on to its end, resets between them. */
static int run_guest(struct run *run)
{
	const bool chooses = !run->options.vm.engine;
	char why[400], line[512];
	const char *error;
	struct vm *vm;
	enum vm_end end;
	int status;

	if (choose_engine(&run->options.vm, why, sizeof(why)) < 0)
		return STATUS_ERROR;
	if (option_sandbox_prepare(&run->options, line, sizeof line) < 0)
		return start_failed(line);
	error = "";
	vm = vm_create(&run->options.vm, &error);
	if (!vm)
		return start_failed(error);
	if (chooses)
		tell_engine(vm->config.engine->name, why, vm->config.engine == run->options.vm.engine ? "" : error);
	if (!reserve(&run->options, vm->config.engine)) {
		vm_destroy(vm);
		return STATUS_ERROR;
	}
	sandbox_enter(SANDBOX_IO);
	if (run->options.vm.escape_keys)
		terminal_raw(STDIN_FILENO);
	while ((end = vm_run(vm)) == VM_RESET && !run->options.vm.no_reboot && !run->ended_by) {
		if (run->options.stats)
			vm_print_stats(vm, stderr);
		if (!vm_reset(vm, &error)) {
			status = start_failed(error);
			vm_destroy(vm);
			return status;
		}
	}
	terminal_restore();
	if (vm->report)
		fprintf(stderr, "ringside: %s", vm->report);
	if (run->options.stats)
		vm_print_stats(vm, stderr);
	status = status_of(run, vm, end);
	vm_destroy(vm);
	return status;
}

int cmd_run(int argc, char **argv)
{
	static struct run run = {.signal_fd = -1}; /* static: words of its options are nobody's to free */
	int status, r;

	if (options_parse(&run.options, argc, argv) < 0)
		return STATUS_USAGE;
	if (run.options.help) {
		options_help();
		return STATUS_OK;
	}
	cpuid_clock_begin();
	descriptors_close_inherited(argc, argv);
	terminal_init();
	if ((r = take_signals(&run)) < 0) {
		fprintf(stderr, "ringside run: signalfd: %s\n", strerror(-r));
		return STATUS_ERROR;
	}
	run.options.vm.input_fd = STDIN_FILENO;
	run.options.vm.output_fd = STDOUT_FILENO;
	run.options.vm.escape_keys = isatty(STDIN_FILENO);
	run.options.vm.host_fd = run.signal_fd;
	run.options.vm.host_ready = signal_ready;
	run.options.vm.host_opaque = &run;
	status = run_guest(&run);
	close(run.signal_fd);
	return status;
}
