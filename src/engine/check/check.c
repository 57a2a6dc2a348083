/*
 * The check engine: bt and interp in lockstep, see check.h. Here are its life, its run loop and its
 * place in the table of engines.
 */
#include "engine/check/check.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>

#include "cpu/fpu.h"
#include "engine/bt/bt.h"

#define IDLE_MAX 1000u /* blocks in a row that complete nothing */

/* ---- the translator's part ---- */

static const struct check_runner bt_runner = {
	.create = bt_vcpu_create_unchained,
	.destroy = bt_vcpu_destroy,
	.run_block = bt_run_block,
};

/* ---- life ---- */

void *check_vm_create(struct memory *memory, const struct check_runner *runner)
{
	struct check_vm *vm;
	int r;

	if (!engine_interp.vm_create(memory))
		return NULL;
	vm = calloc(1, sizeof *vm);
	if (!vm)
		return NULL;
	vm->runner = runner;
	vm->memory = memory;
	pthread_mutex_init(&vm->lock, NULL);
	r = check_mirror_init(vm);
	if (r < 0) {
		pthread_mutex_destroy(&vm->lock);
		free(vm);
		errno = -r;
		return NULL;
	}
	return vm;
}

static int probe(char *why, size_t size) { return engine_bt.probe(why, size); }

static void *vm_create(struct memory *memory) { return check_vm_create(memory, &bt_runner); }

static void vm_destroy(void *engine_vm)
{
	struct check_vm *vm = engine_vm;

	check_mirror_free(vm);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static void check_free(struct check *c)
{
	if (c->second) {
		cpu_free(c->second);
		free(c->second);
	}
	free(c->report);
	free(c);
}

/* The second side. It has no hooks: the interpreter needs none. */
static int second_new(struct check *c)
{
	size_t size = (sizeof *c->second + 63) & ~(size_t)63;
	int r;

	c->second = aligned_alloc(64, size);
	if (!c->second)
		return -ENOMEM;
	r = cpu_init(c->second, &c->vm->copy, &c->second_env, c, c->first->cpuid, c->first->index);
	if (r < 0) {
		free(c->second);
		c->second = NULL;
		return r;
	}
	c->second->store_log = &c->second_log;
	return 0;
}

static int vcpu_create(void *engine_vm, struct cpu *cpu)
{
	struct check_vm *vm = engine_vm;
	struct check *c;
	int r;

	if (vm->vcpu)
		return -EOPNOTSUPP; /* one vCPU only */
	c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->vm = vm;
	c->first = cpu;
	c->env = cpu->env;
	c->env_opaque = cpu->env_opaque;
	check_env_init(c);
	c->report = calloc(1, REPORT_SIZE);
	r = c->report ? second_new(c) : -ENOMEM;
	if (r == 0)
		r = vm->runner->create(vm->memory, cpu);
	if (r < 0) {
		check_free(c);
		return r;
	}
	cpu->env = &c->first_env;
	cpu->env_opaque = c;
	cpu->store_log = &c->first_log;
	vm->vcpu = c;
	return 0;
}

static void vcpu_destroy(struct cpu *cpu)
{
	struct check *c = check_of(cpu);

	c->vm->runner->destroy(cpu);
	c->vm->vcpu = NULL;
	cpu->env = c->env;
	cpu->env_opaque = c->env_opaque;
	cpu->store_log = NULL;
	check_env_end(c);
	check_free(c);
}

/* ---- running ---- */

/* The machine has set registers, and delivered an event perhaps: the second side gets all of it. */
static void enter(struct check *c)
{
	if (!c->vm->copied)
		check_mirror_copy_all(c->vm);
	check_mirror_maps(c);
	cpu_copy_state(c->second, c->first);
	store_log_empty(&c->second_log);
	check_mirror_take_over(c);
	store_log_empty(&c->first_log);
}

/* Somebody wants to write to RAM: this is the place. */
static void let_writers_in(struct check_vm *vm)
{
	while (__builtin_expect(__atomic_load_n(&vm->waiting, __ATOMIC_RELAXED), 0)) {
		pthread_mutex_unlock(&vm->lock);
		sched_yield();
		pthread_mutex_lock(&vm->lock);
	}
}

static bool fail(struct check *c, struct exit *exit)
{
	c->failed = true;
	*exit = (struct exit){.reason = EXIT_ERROR, .error = c->error};
	return false;
}

static bool cannot_go_on(struct check *c, struct exit *exit, const char *why)
{
	snprintf(c->error, sizeof c->error, "check: %s, block at %#" PRIx64, why, c->start.rip);
	return fail(c, exit);
}

static void begin_block(struct check *c)
{
	for (unsigned i = 0; i < GPR_COUNT; i++)
		c->start.gpr[i] = c->first->gpr[i];
	c->start.rip = c->first->rip;
	c->start.rflags = c->first->rflags;
	c->history[c->stats.blocks % HISTORY] = c->start.rip;
	store_log_empty(&c->first_log);
	store_log_empty(&c->second_log);
	check_env_begin(c);
	c->insns = 0;
	c->partial = false;
}

/* A sanitizer's build leaves the host's vector registers at once, and nothing tells that they were used. */
#ifdef FPU_LEAVE_AT_ONCE
#define ALWAYS_VECTORS true
#else
#define ALWAYS_VECTORS false
#endif

/* One block on each side. False: leave, *exit is set. */
static bool run_pair(struct check *c, struct exit *exit)
{
	struct cpu *first = c->first;
	bool vectors = ALWAYS_VECTORS, same;

	begin_block(c);
	c->running = true;
	c->first_x = c->vm->runner->run_block(first, &c->insns, &c->partial);
	vectors |= first->fpu_live;
	cpu_fpu_leave(first);
	if (c->first_x == X_EXIT && first->exit.reason == EXIT_ERROR) {
		c->running = false;
		*exit = first->exit;
		c->failed = true;
		snprintf(c->error, sizeof c->error, "%s", exit->error ? exit->error : "the engine could not go on");
		return false;
	}
	check_follow(c);
	vectors |= c->second->fpu_live;
	cpu_fpu_leave(c->second);
	c->running = false;

	if (c->ask_overflow)
		return cannot_go_on(c, exit, "one block asks too much of the machine");
	if (c->late_lost)
		return cannot_go_on(c, exit, "no memory to remember what a device wrote");
	same = check_compare(c, vectors);
	if (c->late)
		check_env_end(c);
	if (!same) {
		check_report(c);
		return fail(c, exit);
	}
	c->stats.blocks++;
	c->stats.insns += c->insns;
	first->insns = c->stats.insns;
	if (c->first_x == X_EXIT) {
		*exit = first->exit;
		return false;
	}
	if (__builtin_expect(c->insns || c->partial, 1))
		c->idle = 0;
	else if (++c->idle == IDLE_MAX)
		return cannot_go_on(c, exit, "bt completes no instruction");
	return true;
}

static void run(struct cpu *cpu, struct exit *exit)
{
	struct check *c = check_of(cpu);

	*exit = (struct exit){.reason = EXIT_REQUEST};
	pthread_mutex_lock(&c->vm->lock);
	if (c->failed) {
		fail(c, exit);
		goto out;
	}
	c->thread = pthread_self();
	enter(c);
	do {
		let_writers_in(c->vm);
		if (!run_pair(c, exit))
			break;
		if (__builtin_expect(cpu->want_irq_window, 0) && cpu_window_open(cpu)) {
			exit->reason = EXIT_IRQ_WINDOW;
			break;
		}
	} while (!__atomic_load_n(&cpu->request, __ATOMIC_RELAXED));
	store_log_empty(&c->first_log); /* from here on it is of events */
out:
	pthread_mutex_unlock(&c->vm->lock);
}

static void kick(struct cpu *cpu) { __atomic_fetch_or(&cpu->request, REQUEST_EXIT, __ATOMIC_SEQ_CST); }

static void print_stats(void *engine_vm, struct cpu *const *cpus, unsigned count, FILE *out)
{
	const struct check_vm *vm = engine_vm;
	const struct check_stats *s;

	(void)cpus;
	(void)count;
	if (!vm->vcpu)
		return;
	s = &vm->vcpu->stats;
	engine_print(out, "blocks compared", s->blocks);
	engine_print(out, "instructions compared", s->insns);
	engine_print(out, "stores compared", s->stores);
	engine_print(out, "memory pages compared", s->pages);
	engine_print(out, "vector states compared", s->vectors);
	engine_print(out, "answers played back", s->asks);
	engine_print(out, "accessed/dirty bits joined", s->accessed_bits);
	engine_print(out, "blocks: undefined flags", s->undefined_flags);
	engine_print(out, "blocks: open results", s->excused);
}

const struct engine engine_check = {
	.name = "check",
	.help = "bt and interp in lockstep, compared after every block: finds translation errors",
	.cpus_max = 1,
	.probe = probe,
	.reserve = bt_reserve,
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.run = run,
	.kick = kick,
	.print_stats = print_stats,
};
