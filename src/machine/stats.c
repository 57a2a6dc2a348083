/*
 * --stats: what a VM did, as text. Counters of running vCPUs are read as they are: each is right or a
 * little old.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "irq/lapic.h"
#include "machine/resident.h"
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

static const char *const question_name[QUESTION_COUNT] = {
#define X(id, name) [id] = name,
	VCPU_QUESTIONS(X)
#undef X
};

static void print_part(FILE *out, const char *name, uint64_t count)
{
	if (count)
		fprintf(out, "    %-24s %7" PRIu64 "\n", name, count);
}

/* Whom accesses were for, those with most first. */
static void print_bus(const struct bus *b, FILE *out)
{
	uint64_t below = UINT64_MAX;

	for (;;) {
		uint64_t most = 0;

		for (unsigned i = 0; i < b->tallies; i++) {
			uint64_t count = b->tally[i].reads + b->tally[i].writes;

			if (count < below && count > most)
				most = count;
		}
		if (!most)
			return;
		for (unsigned i = 0; i < b->tallies; i++)
			if (b->tally[i].reads + b->tally[i].writes == most)
				print_part(out, i ? b->tally[i].name : "no device", most);
		below = most;
	}
}

static void print_questions(const struct vm *vm, FILE *out)
{
	fputs("  asked by instructions, without an exit\n", out);
	for (unsigned q = 0; q < QUESTION_COUNT; q++) {
		uint64_t count = 0;

		for (unsigned i = 0; i < vm->vcpu_count; i++)
			count += vm->vcpu[i]->stats.questions[q];
		print_part(out, question_name[q], count);
	}
}

static void print_parts(const struct vm *vm, unsigned reason, FILE *out)
{
	uint64_t lapic = 0;

	if (reason == EXIT_PIO)
		print_bus(&vm->pio, out);
	if (reason != EXIT_MMIO)
		return;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		lapic += vm->vcpu[i]->stats.lapic_accesses;
	print_part(out, "lapic", lapic);
	print_bus(&vm->mmio, out);
}

static void print_exits(struct vm *vm, FILE *out)
{
	uint64_t total = 0;

	for (unsigned r = 0; r < EXIT_REASON_COUNT; r++) {
		uint64_t count = 0;

		for (unsigned i = 0; i < vm->vcpu_count; i++)
			count += vm->vcpu[i]->stats.exits[r];
		total += count;
		if (!count)
			continue;
		fprintf(out, "  exit %-12s %14" PRIu64 "   %s\n", exit_name[r], count, exit_help[r]);
		print_parts(vm, r, out);
	}
	fprintf(out, "  exits in all      %14" PRIu64 "\n", total);
	print_questions(vm, out);
}

static void print_vcpu(const struct vcpu *v, FILE *out)
{
	const struct cpu *cpu = &v->cpu;
	uint64_t missed = cpu->tlb_misses + cpu->tlb_recalls, faults = 0;

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
			cpu->tlb_accesses > missed ? cpu->tlb_accesses - missed : 0);
	if (v->pv.steal_msr || lapic_pv_eois(v->lapic))
		fprintf(out,
			"           paravirtual: EOIs %" PRIu64 ", kicks %" PRIu64 ", IPI calls %" PRIu64
			", TLB flushes left %" PRIu64 "\n",
			lapic_pv_eois(v->lapic), v->pv.kicks, v->pv.ipis, v->pv.flushes);
	fprintf(out,
		"           interrupts %" PRIu64 ", exceptions %" PRIu64 " (page faults %" PRIu64
		"), TLB misses %" PRIu64 " and recalls %" PRIu64 ", TLB flushes %" PRIu64 ", switches %" PRIu64 "\n",
		cpu->interrupts_delivered, faults, cpu->faults_delivered[VEC_PF], cpu->tlb_misses, cpu->tlb_recalls,
		cpu->tlb_flushes,
		cpu->tlb_switches);
}

/* Memory by what it is for. */
struct account {
	unsigned count;
	struct { const char *name; uint64_t bytes; } part[16];
};

static void account_range(void *arg, const char *name, const void *start, size_t size)
{
	struct account *a = arg;
	unsigned i;

	for (i = 0; i < a->count && strcmp(a->part[i].name, name); i++)
		;
	if (i == sizeof(a->part) / sizeof(a->part[0]))
		return; /* it is in the rest then */
	if (i == a->count) {
		a->part[a->count++].name = name;
		a->part[i].bytes = 0;
	}
	a->part[i].bytes += resident_range(start, size);
}

static void print_kib(FILE *out, const char *name, uint64_t bytes) { fprintf(out, "  %-30s %8" PRIu64 " KiB\n", name, bytes >> 10); }

/* What the process has in memory besides the guest's RAM, and what uses it. */
static void print_memory(struct vm *vm, FILE *out)
{
	uint64_t all, page_tables, ram = resident_range(vm->memory.base, vm->memory.size), known = 0;
	struct account a = {0};

	if (!resident_process(&all, &page_tables))
		return;
	if (vm->config.engine->each_range && vm->engine_vm)
		vm->config.engine->each_range(vm->engine_vm, account_range, &a);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		const struct cpu *cpu = &vm->vcpu[i]->cpu;

		account_range(&a, "vCPUs: branch caches", &cpu->branch_cache, sizeof(cpu->branch_cache));
		account_range(&a, "vCPUs: TLBs", &cpu->tlb, sizeof(cpu->tlb));
		account_range(&a, "vCPUs: TLBs", cpu->tlb_wide, sizeof(cpu->tlb_wide));
	}
	account_range(&a, "state of RAM's pages", vm->memory.state, vm->memory.size >> PAGE_SHIFT);
	for (unsigned i = 0; i < a.count; i++)
		known += a.part[i].bytes;
	print_kib(out, "guest RAM in use", ram);
	print_kib(out, "memory besides guest RAM", (all > ram ? all - ram : 0) + page_tables);
	for (unsigned i = 0; i < a.count; i++) {
		char name[40];

		snprintf(name, sizeof(name), "  %s", a.part[i].name);
		print_kib(out, name, a.part[i].bytes);
	}
	print_kib(out, "  program, libraries, the rest", all > ram + known ? all - ram - known : 0);
	print_kib(out, "  the host's page tables", page_tables);
}

void vm_print_stats(struct vm *vm, FILE *to)
{
	const struct engine *engine = vm->config.engine;
	struct cpu *cpus[VCPUS_MAX];
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return;
	pthread_mutex_lock(&vm->lock);
	fprintf(out, "statistics: engine %s, wall %.3f s\n", engine->name, seconds(clock_now() - vm->started));
	if (vm->moves)
		fprintf(out, "  moves between engines %10u   what follows of an engine is since the last\n", vm->moves);
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		cpus[i] = &vm->vcpu[i]->cpu;
		print_vcpu(vm->vcpu[i], out);
	}
	print_exits(vm, out);
	print_memory(vm, out);
	if (engine->print_stats && vm->engine_vm)
		engine->print_stats(vm->engine_vm, cpus, vm->vcpu_count, out);
	pthread_mutex_unlock(&vm->lock);
	/* all at once, and without the lock: whoever reads it may take his time */
	if (fclose(out) == 0)
		fwrite(text, 1, size, to);
	free(text);
}
