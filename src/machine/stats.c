/*
 * --stats: what a VM did, as text. Counters of running vCPUs are read as they are: each is right or a
 * little old.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "machine/vm.h"

static const char *const exit_name[EXIT_REASON_COUNT] = {
#define X(id, name, help) [id] = name,
	EXIT_REASONS(X)
#undef X
};
static const char *const exit_help[EXIT_REASON_COUNT] = {
#define X(id, name, help) [id] = help,
	EXIT_REASONS(X)
#undef X
};

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static void print_exits(struct vm *vm, FILE *out)
{
	uint64_t total = 0;

	for (unsigned r = 0; r < EXIT_REASON_COUNT; r++) {
		uint64_t count = 0;

		for (unsigned i = 0; i < vm->vcpu_count; i++)
			count += vm->vcpu[i]->stats.exits[r];
		total += count;
		if (count)
			fprintf(out, "  exit %-12s %14" PRIu64 "   %s\n", exit_name[r], count, exit_help[r]);
	}
	fprintf(out, "  exits in all      %14" PRIu64 "\n", total);
}

static void print_vcpu(const struct vcpu *v, FILE *out)
{
	const struct cpu *cpu = &v->cpu;
	uint64_t faults = 0;

	for (unsigned i = 0; i < 32; i++)
		faults += cpu->faults_delivered[i];
	fprintf(out, "  vCPU %-3u in the guest %.3f s, halted %.3f s", cpu->index, seconds(v->stats.guest_ns),
		seconds(v->stats.halted_ns));
	if (v->stats.yields)
		fprintf(out, ", spinning given up %" PRIu64 " times", v->stats.yields);
	if (cpu->counting)
		fprintf(out, ", instructions %" PRIu64, cpu->insns);
	fputc('\n', out);
	if (cpu->tlb_accesses)
		fprintf(out, "           TLB hits %" PRIu64 " (accesses of translated code)\n",
			cpu->tlb_accesses > cpu->tlb_misses ? cpu->tlb_accesses - cpu->tlb_misses : 0);
	fprintf(out,
		"           interrupts %" PRIu64 ", exceptions %" PRIu64 " (page faults %" PRIu64
		"), TLB misses %" PRIu64 ", TLB flushes %" PRIu64 "\n",
		cpu->interrupts_delivered, faults, cpu->faults_delivered[VEC_PF], cpu->tlb_misses, cpu->tlb_flushes);
}

void vm_print_stats(struct vm *vm, FILE *out)
{
	const struct engine *engine = vm->config.engine;
	struct cpu *cpus[VCPUS_MAX];

	pthread_mutex_lock(&vm->lock);
	fprintf(out, "statistics: engine %s, wall %.3f s\n", engine->name, seconds(clock_now() - vm->started));
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		cpus[i] = &vm->vcpu[i]->cpu;
		print_vcpu(vm->vcpu[i], out);
	}
	print_exits(vm, out);
	if (engine->print_stats)
		engine->print_stats(vm->engine_vm, cpus, vm->vcpu_count, out);
	pthread_mutex_unlock(&vm->lock);
}
