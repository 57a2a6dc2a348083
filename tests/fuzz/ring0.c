/*
 * Random machine states and random code in ring 0: whatever a guest does, Ringside neither crashes nor
 * hangs. Every case is a vCPU in some mode with half-sane tables (so that exceptions lead somewhere), random
 * registers, control registers and MSRs, and random instructions, privileged ones too; I/O gets random
 * answers. A case ends by a triple fault, after some exits or after some milliseconds; what matters is
 * that it ends, under AddressSanitizer as well. Half of the 64-bit cases begin in programs of accesses off few registers,
 * calls and loops (generate_hot.h), and half of those at CPL 3.
 *
 *   ring0 [--engine NAME|all] [--seed N] [--start N] [--count N]
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "engine/engine.h"
#include "mem/memory.h"

#include "generate_hot.h"

#ifdef SANITIZERS
#define DEFAULT_COUNT 1000
#else
#define DEFAULT_COUNT 3000
#endif
#define EXITS_A_CASE 300
#define TICKS_A_CASE 4 /* of a millisecond */
#define RAM (4u << 20)

enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x4000, TABLES = 0x10000, CODE = 0x20000, CODE_END = 0x28000,
       HOT_FUNCTIONS_AT = 0x26000, HOT_PROGRAMS = 16 };

static uint64_t env_tsc(void *o) { return rnd(o); }
static uint8_t env_get_tpr(void *o) { (void)o; return 0; }
static void env_set_tpr(void *o, uint8_t v) { (void)o; (void)v; }
static uint64_t env_get_apic(void *o) { (void)o; return 0xfee00900; }
static bool env_set_apic(void *o, uint64_t v) { (void)v; return rnd(o) & 1; }
static bool env_msr_read(void *o, uint32_t m, uint64_t *v) { (void)m; *v = rnd(o); return *v & 1; }
static bool env_msr_write(void *o, uint32_t m, uint64_t v) { (void)m; (void)v; return rnd(o) & 1; }
static uint64_t env_hypercall(void *o, uint64_t nr, const uint64_t arg[4]) { (void)nr; (void)arg; return rnd(o); }

static const struct cpu_env test_env = {
	.tsc = env_tsc, .get_tpr = env_get_tpr, .set_tpr = env_set_tpr, .get_apic_base = env_get_apic,
	.set_apic_base = env_set_apic, .x2apic_read = env_msr_read, .x2apic_write = env_msr_write,
	.pv_read = env_msr_read, .pv_write = env_msr_write, .hypercall = env_hypercall,
};

struct guest {
	const struct engine *engine;
	void *engine_vm;
	struct memory memory;
	struct cpuid_table cpuid;
	struct cpu cpu;
	struct rng rng;
	uint64_t insns, exits[EXIT_REASON_COUNT];
};

static struct guest guest;
static volatile sig_atomic_t ticks;

static pthread_mutex_t engine_lock = PTHREAD_MUTEX_INITIALIZER; /* guest.engine, which is gone between engines */

/* Kicks the vCPU a thousand times a second, as timers do. */
static void *ticker(void *opaque)
{
	(void)opaque;
	for (;;) {
		usleep(1000);
		ticks++;
		pthread_mutex_lock(&engine_lock);
		if (guest.engine)
			guest.engine->kick(&guest.cpu);
		pthread_mutex_unlock(&engine_lock);
	}
	return NULL;
}

/* ---- memory ---- */

static void put64(struct guest *g, uint64_t gpa, uint64_t v)
{
	memory_write(&g->memory, gpa, &v, 8);
}

static uint64_t code_address(struct guest *g)
{
	return CODE + below(&g->rng, CODE_END - CODE);
}

/* Mostly instructions, of any kind. */
static void fill_code(struct guest *g, unsigned bits)
{
	uint8_t b[16];
	struct insn insn;
	for (uint64_t at = CODE; at < CODE_END;) {
		for (unsigned i = 0; i < sizeof(b); i++)
			b[i] = (uint8_t)rnd(&g->rng);
		if (below(&g->rng, 4) == 0)
			b[0] = 0x0f;
		if (below(&g->rng, 16) && insn_decode(&insn, b, INSN_MAX_LEN, bits) != DECODE_OK)
			continue;
		unsigned len = insn_decode(&insn, b, INSN_MAX_LEN, bits) == DECODE_OK ? insn.len : 4;
		memory_write(&g->memory, at, b, len);
		at += len;
	}
}

static uint64_t descriptor(struct guest *g, unsigned n)
{
	static const uint64_t sane[] = { 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff, 0x00cffb000000ffff,
					 0x00cff3000000ffff, 0x00affb000000ffff, 0x00009b000000ffff, 0x000093000000ffff };
	if (n < 9)
		return n ? sane[n - 1] : 0;
	uint64_t gate = rnd(&g->rng) & 0x0000ff0000000000;
	return below(&g->rng, 2) ? rnd(&g->rng) : gate | (code_address(g) & 0xffff) | (uint64_t)below(&g->rng, 16) << 19 |
							  (code_address(g) >> 16) << 48;
}

static void fill_tables(struct guest *g, unsigned bits)
{
	for (unsigned i = 0; i < 64; i++)
		put64(g, GDT + i * 8, descriptor(g, i));
	for (unsigned v = 0; v < 256; v++) {
		uint64_t at = code_address(g), low, selector = bits == 64 ? 0x18 : 0x08;
		unsigned type = bits == 16 && below(&g->rng, 2) ? 0x86 : 0x8e + (unsigned)(rnd(&g->rng) & 1);
		low = (at & 0xffff) | selector << 16 | (uint64_t)type << 40 | (at >> 16 & 0xffff) << 48;
		if (below(&g->rng, 16) == 0)
			low = rnd(&g->rng);
		put64(g, IDT + (uint64_t)v * (bits == 64 ? 16 : 8), low);
		if (bits == 64)
			put64(g, IDT + (uint64_t)v * 16 + 8, 0);
	}
	for (unsigned i = 0; i < 32; i++)
		put64(g, TSS + i * 8, i < 8 ? 0x80000 + below(&g->rng, 0x10000) : rnd(&g->rng));
	/* page tables: a PML4, a PDPT, a PD of 2M pages; now and then garbage */
	put64(g, TABLES, (TABLES + 0x1000) | 7);
	for (unsigned i = 0; i < 4; i++)
		put64(g, TABLES + 0x1000 + i * 8, (TABLES + 0x2000) | (bits == 64 ? 7 : 1));
	for (unsigned i = 0; i < 512; i++)
		put64(g, TABLES + 0x2000 + i * 8, below(&g->rng, 32) ? ((uint64_t)(i % 2) << 21 | 0x87) : rnd(&g->rng));
}

/* ---- the processor ---- */

static void random_registers(struct guest *g)
{
	struct cpu *cpu = &g->cpu;
	for (unsigned i = 0; i < GPR_COUNT; i++)
		cpu->gpr[i] = below(&g->rng, 3) ? below(&g->rng, RAM) : rnd(&g->rng);
	cpu->gpr[RSP] = 0x80000 + below(&g->rng, 0x10000);
	cpu->rflags = (rnd(&g->rng) & (below(&g->rng, 4) ? EF_ARITH | RFLAGS_IF : RFLAGS_ALL & ~(uint64_t)RFLAGS_VM)) | RFLAGS_FIXED;
}

static void random_system_state(struct guest *g)
{
	struct cpu *cpu = &g->cpu;
	static const uint32_t msrs[] = { 0x10, 0x1b, 0x174, 0x175, 0x176, 0x1a0, 0x277, 0x2ff, 0xc0000080, 0xc0000081,
					 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103 };
	for (unsigned i = below(&g->rng, 6); i > 0; i--)
		msr_write(cpu, msrs[below(&g->rng, 16)], rnd(&g->rng) >> below(&g->rng, 64));
	for (unsigned i = below(&g->rng, 4); i > 0; i--)
		cpu_write_cr(cpu, 4, cpu->cr4 ^ (rnd(&g->rng) & 0x77ffff));
	if (below(&g->rng, 8) == 0)
		cpu_write_cr(cpu, below(&g->rng, 9), rnd(&g->rng));
	for (unsigned i = below(&g->rng, 8); i > 0; i--)
		cpu_write_dr(cpu, below(&g->rng, 8), below(&g->rng, 2) ? code_address(g) : (uint32_t)rnd(&g->rng));
	cpu_xsetbv(cpu, 0, rnd(&g->rng) & 7);
}

static void load_segments(struct guest *g, unsigned bits)
{
	struct cpu *cpu = &g->cpu;
	for (enum sreg s = ES; s < SREG_COUNT; s++) {
		if (s != CS && s != SS)
			segment_load(cpu, s, (uint16_t)(below(&g->rng, 64) << 3));
	}
	segment_load(cpu, SS, 0x10);
	cpu->seg[CS].selector = bits == 64 ? 0x18 : bits == 32 ? 0x08 : 0x38;
	cpu->seg[CS].attr = bits == 64 ? 0xa09b : bits == 32 ? 0xc09b : 0x009b;
	cpu->seg[CS].base = 0;
	cpu->seg[CS].limit = bits == 16 ? 0xffff : 0xffffffff;
	cpu->tr = (struct segment){ .base = TSS, .limit = 0xff, .selector = 0x40, .attr = 0x8b };
}

static void enter_mode(struct guest *g, unsigned bits, bool protected)
{
	struct cpu *cpu = &g->cpu;
	cpu->gdtr.base = GDT;
	cpu->gdtr.limit = 0x1ff;
	if (!protected) {
		for (enum sreg s = ES; s < SREG_COUNT; s++)
			segment_set_real(cpu, s, s == CS ? CODE >> 4 : (uint16_t)rnd(&g->rng));
		cpu->rip = below(&g->rng, 0x10000);
		cpu_update_mode(cpu);
		return;
	}
	cpu->idtr.base = IDT;
	cpu->idtr.limit = 0xfff;
	cpu_write_cr(cpu, 4, bits == 64 ? CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE : below(&g->rng, 2) ? CR4_PAE : 0);
	cpu_write_cr(cpu, 3, bits == 64 ? TABLES : TABLES + 0x1000);
	if (bits == 64)
		msr_write(cpu, 0xc0000080, EFER_LME | EFER_SCE | EFER_NXE);
	bool paging = bits == 64 || ((cpu->cr4 & CR4_PAE) && below(&g->rng, 2));
	cpu_write_cr(cpu, 0, CR0_PE | CR0_ET | CR0_NE | (paging ? CR0_PG : 0) | (rnd(&g->rng) & (CR0_WP | CR0_AM | CR0_MP)));
	load_segments(g, bits);
	cpu->rip = code_address(g) & (bits == 16 ? 0xffff : ~0ull);
	cpu_update_mode(cpu);
	if (bits != 64 && below(&g->rng, 8) == 0) { /* virtual-8086 */
		cpu->rflags |= RFLAGS_VM | (rnd(&g->rng) & RFLAGS_IOPL);
		for (enum sreg s = ES; s < SREG_COUNT; s++)
			segment_set_real(cpu, s, s == CS ? CODE >> 4 : (uint16_t)rnd(&g->rng));
		cpu->rip &= 0xffff;
		cpu_update_mode(cpu);
	}
}

/* Instead of what random_registers and enter_mode have prepared: the beginning of a program; all memory is RAM, again and
 * again, and the programs' arena its first pages, with the tables. */
static void begin_hot(struct guest *g)
{
	struct cpu *cpu = &g->cpu;
	struct program program;
	unsigned chosen = below(&g->rng, HOT_PROGRAMS);

	for (unsigned n = 0; n < HOT_FUNCTIONS; n++)
		memory_write(&g->memory, HOT_FUNCTIONS_AT + hot_function_at(n), hot_function[n].bytes, hot_function[n].len);
	for (unsigned n = 0; n < HOT_PROGRAMS; n++) {
		gen_hot_program(&g->rng, CODE + n * PROGRAM_BYTES, HOT_FUNCTIONS_AT, &program);
		memory_write(&g->memory, CODE + n * PROGRAM_BYTES, program.bytes, program.len);
		if (n == chosen)
			gen_hot_registers(&g->rng, &program, HOT_FUNCTIONS_AT, cpu->gpr);
	}
	cpu->rip = CODE + chosen * PROGRAM_BYTES;
	if (below(&g->rng, 2)) {
		cpu->seg[CS] = (struct segment){ .limit = 0xffffffff, .selector = 0x33, .attr = 0xa0fb };
		cpu->seg[SS] = (struct segment){ .limit = 0xffffffff, .selector = 0x2b, .attr = 0xc0f3 };
		cpu_update_mode(cpu);
	}
}

/* ---- a case ---- */

static void answer(struct guest *g, const struct exit *exit)
{
	struct io_log *log = &g->cpu.io;
	if (log->count < IO_LOG_MAX) {
		log->access[log->count] = exit->io;
		if (!exit->io.write)
			log->access[log->count].value = rnd(&g->rng);
		log->count++;
	}
}

static void run_case(struct guest *g, uint64_t seed, uint64_t index)
{
	struct cpu *cpu = &g->cpu;
	struct exit exit;
	g->rng.s = seed * 0x9e3779b97f4a7c15ull + index * 0xd1342543de82ef95ull;
	rnd(&g->rng);
	unsigned kind = below(&g->rng, 5), bits = kind == 0 || kind == 1 ? 16 : kind == 2 ? 32 : 64;
	g->insns += cpu->insns;
	cpu->insns = 0;
	cpu_reset(cpu, false);
	cpu->halted = false;
	cpu->io.count = cpu->io.next = 0;
	cpu->db_pending = 0;
	fill_code(g, bits);
	fill_tables(g, bits);
	random_registers(g);
	enter_mode(g, bits, kind != 0);
	bool hot = bits == 64 && below(&g->rng, 2);
	if (hot)
		begin_hot(g);
	if (!hot || below(&g->rng, 4) == 0) /* with breakpoints nothing is translated */
		random_system_state(g);
	ticks = 0;
	for (unsigned exits = 0; exits < EXITS_A_CASE && ticks < TICKS_A_CASE; exits++) {
		__atomic_store_n(&cpu->request, 0, __ATOMIC_SEQ_CST);
		if (cpu->io.count == 0 && cpu_interruptible(cpu) && below(&g->rng, 4) == 0 &&
		    cpu_deliver_event(cpu, EVENT_EXTERNAL, (uint8_t)below(&g->rng, 256)) == X_EXIT)
			return;
		cpu->halted = false;
		cpu->want_irq_window = below(&g->rng, 2) ? WANT_IRQ : 0;
		g->engine->run(cpu, &exit);
		g->exits[exit.reason]++;
		if (exit.reason == EXIT_PIO || exit.reason == EXIT_MMIO)
			answer(g, &exit);
		else if (exit.reason == EXIT_SHUTDOWN || exit.reason == EXIT_ERROR)
			return;
	}
}

static bool fuzz(const struct engine *engine, uint64_t seed, uint64_t start, uint64_t count)
{
	struct guest *g = &guest;
	memset(g, 0, sizeof(*g));
	if (memory_init(&g->memory, RAM) || cpuid_build(&g->cpuid, 1) ||
	    cpu_init(&g->cpu, &g->memory, &test_env, &g->rng, &g->cpuid, 0))
		return false;
	g->engine_vm = engine->vm_create(&g->memory);
	if (!g->engine_vm || engine->vcpu_create(g->engine_vm, &g->cpu))
		return false;
	pthread_mutex_lock(&engine_lock);
	g->engine = engine;
	pthread_mutex_unlock(&engine_lock);
	for (uint64_t i = start; i < start + count; i++) {
		char line[160];
		int n = snprintf(line, sizeof(line), "# %s --seed %" PRIu64 " --start %" PRIu64 " --count 1\n", engine->name, seed, i);
		if (getenv("RING0_VERBOSE") && write(2, line, (size_t)n) < 0)
			return false;
		run_case(g, seed, i);
	}
	pthread_mutex_lock(&engine_lock);
	g->engine = NULL;
	pthread_mutex_unlock(&engine_lock);
	printf("# %s: %" PRIu64 " instructions; exits: port I/O %" PRIu64 ", memory I/O %" PRIu64 ", HLT %" PRIu64
	       ", triple faults %" PRIu64 ", errors %" PRIu64 "\n",
	       engine->name, g->insns, g->exits[EXIT_PIO], g->exits[EXIT_MMIO], g->exits[EXIT_HLT],
	       g->exits[EXIT_SHUTDOWN], g->exits[EXIT_ERROR]);
	engine->vcpu_destroy(&g->cpu);
	engine->vm_destroy(g->engine_vm);
	cpu_free(&g->cpu);
	memory_free(&g->memory);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = { { "engine", required_argument, NULL, 'e' },
						  { "seed", required_argument, NULL, 's' },
						  { "start", required_argument, NULL, 'f' },
						  { "count", required_argument, NULL, 'c' },
						  { 0 } };
	const char *name = "all";
	uint64_t seed = 1, start = 0, count = DEFAULT_COUNT, passed = 0, failed = 0;
	int c;
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (c) {
		case 'e': name = optarg; break;
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'f': start = strtoull(optarg, NULL, 0); break;
		case 'c': count = strtoull(optarg, NULL, 0); break;
		default:
			fprintf(stderr, "usage: ring0 [--engine NAME|all] [--seed N] [--start N] [--count N]\n");
			return 2;
		}
	}
	pthread_t thread;
	if (pthread_create(&thread, NULL, ticker, NULL)) {
		fprintf(stderr, "ring0: no thread\n");
		return 2;
	}
	for (unsigned i = 0; engines[i]; i++) {
		if (strcmp(name, "all") ? strcmp(name, engines[i]->name) : !strcmp(engines[i]->name, "check") || !engine_runs_here(engines[i]))
			continue;
		if (fuzz(engines[i], seed, start, count))
			passed += count;
		else
			failed++;
	}
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed + !passed);
	return failed || !passed;
}
