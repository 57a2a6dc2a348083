/*
 * Differential fuzzing of user instructions: random programs of up to a dozen instructions, with
 * random registers, flags, vector state and memory, run on the bare host CPU and on an engine; the
 * states and exceptions they end in must be the same. A quarter of them is 32-bit code.
 *
 * The guest is one vCPU in long mode at CPL 3, its memory laid out at the addresses the native run uses;
 * every IDT gate leads to a HLT. A failing program is shrunk by turning instructions into NOPs.
 *
 * A third of the programs is made of accesses off few registers, calls and loops (generate_hot.h). Some of them find an empty
 * TLB; with --kicks all of them are interrupted ten thousand times a second, as timers do, wherever they are then
 * (and a failure may be another one the next time). Without any options the last tenth is.
 *
 * Under AddressSanitizer a stray store of the native run could hit the sanitizer's own memory, which lies at
 * low addresses: then only the engine runs, and has to come to an end.
 *
 *   --hot: programs of that kind only
 *
 *   user_diff [--engine NAME|all] [--seed N] [--start N] [--count N] [--verbose] [--stop N] [--hot] [--kicks]
 */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/engine.h"
#include "mem/memory.h"

#include "generate_hot.h"
#include "native.h"

#ifdef SANITIZERS
#define DEFAULT_COUNT 50000
#define NATIVE 0
#else
#define DEFAULT_COUNT 800000
#define NATIVE 1
#endif
#define CODE 0x11000000u
#define CODE_SIZE 0x100000u
#define FUNCTIONS (CODE + CODE_SIZE - HOT_FUNCTIONS_SIZE)
#define CODE_SLOTS ((FUNCTIONS - CODE) / PROGRAM_BYTES)

/* Guest physical layout. What is the kernel's is mapped from KERNEL on, for CPL 0. */
#define KERNEL 0xffffffff80000000ull
enum { GPA_GDT = 0x1000, GPA_IDT = 0x2000, GPA_TSS = 0x4000, GPA_HANDLERS = 0x5000, GPA_STACK = 0x9000,
       GPA_TABLES = 0x10000, GPA_ARENA = 0x100000, GPA_CODE = 0x200000, GPA_SIZE = 4 << 20 };
enum { SEL_KERNEL = 0x08, SEL_TSS = 0x10, SEL_USER_CS32 = 0x23, SEL_USER_SS = 0x2b, SEL_USER_CS = 0x33 };

struct guest {
	const struct engine *engine;
	void *engine_vm;
	struct memory memory;
	struct cpuid_table cpuid;
	struct cpu cpu;
	uint8_t *arena;
	uint64_t next_table; /* GPA */
	uint64_t mask;       /* XSAVE components */
};

struct test {
	struct program program;
	struct user_state start;
	uint8_t arena[ARENA_SIZE];
	uint32_t address;
	bool flush; /* it begins with an empty TLB */
};

struct outcome {
	struct user_state state;
	uint8_t arena[ARENA_SIZE];
};

static uint8_t *native_arena;
static bool verbose, only_hot;

/* ---- the guest ---- */

static uint64_t env_tsc(void *o) { (void)o; return __builtin_ia32_rdtsc(); }
static uint8_t env_get_tpr(void *o) { (void)o; return 0; }
static void env_set_tpr(void *o, uint8_t v) { (void)o; (void)v; }
static uint64_t env_get_apic(void *o) { (void)o; return 0xfee00900; }
static bool env_set_apic(void *o, uint64_t v) { (void)o; (void)v; return true; }
static bool env_msr_read(void *o, uint32_t m, uint64_t *v) { (void)o; (void)m; (void)v; return false; }
static bool env_msr_write(void *o, uint32_t m, uint64_t v) { (void)o; (void)m; (void)v; return false; }

static const struct cpu_env test_env = {
	.tsc = env_tsc, .get_tpr = env_get_tpr, .set_tpr = env_set_tpr, .get_apic_base = env_get_apic,
	.set_apic_base = env_set_apic, .x2apic_read = env_msr_read, .x2apic_write = env_msr_write,
	.pv_read = env_msr_read, .pv_write = env_msr_write,
};

static void put64(struct guest *g, uint64_t gpa, uint64_t v)
{
	memory_write(&g->memory, gpa, &v, 8);
}

static void map_page(struct guest *g, uint64_t linear, uint64_t gpa, uint64_t bits)
{
	uint64_t pd = GPA_TABLES + (linear >> 63 ? 0x3000 : 0x1000) + 0x1000, entry = pd + (linear >> 21 & 511) * 8, table;
	memory_read(&g->memory, entry, &table, 8);
	if (!table) {
		table = g->next_table | 7;
		g->next_table += 0x1000;
		put64(g, entry, table);
	}
	put64(g, (table & PAGE_MASK) + (linear >> 12 & 511) * 8, gpa | bits);
}

static void guest_tables(struct guest *g)
{
	put64(g, GPA_TABLES, (GPA_TABLES + 0x1000) | 7);
	put64(g, GPA_TABLES + 0x1000, (GPA_TABLES + 0x2000) | 7);
	put64(g, GPA_TABLES + 511 * 8, (GPA_TABLES + 0x3000) | 7);
	put64(g, GPA_TABLES + 0x3000 + 510 * 8, (GPA_TABLES + 0x4000) | 7);
	g->next_table = GPA_TABLES + 0x5000;
	for (uint32_t a = 0; a < 0x20000; a += PAGE_SIZE)
		map_page(g, KERNEL + a, a, 3);
	map_page(g, ARENA, GPA_ARENA, (1ull << 63) | 7);
	map_page(g, ARENA + 0x1000, GPA_ARENA + 0x1000, (1ull << 63) | 7);
	map_page(g, ARENA + 0x2000, GPA_ARENA + 0x2000, (1ull << 63) | 5);
	for (uint32_t a = 0; a < CODE_SIZE; a += PAGE_SIZE)
		map_page(g, CODE + a, GPA_CODE + a, 5);

	put64(g, GPA_GDT + SEL_KERNEL, 0x00209b0000000000);
	put64(g, GPA_GDT + SEL_TSS, 0x0000890000000067 | (uint64_t)GPA_TSS << 16 | (KERNEL >> 24 & 0xff) << 56);
	put64(g, GPA_GDT + SEL_TSS + 8, KERNEL >> 32);
	put64(g, GPA_GDT + (SEL_USER_SS & ~7), 0x00cff3000000ffff);
	put64(g, GPA_GDT + (SEL_USER_CS & ~7), 0x00affb000000ffff);
	put64(g, GPA_GDT + (SEL_USER_CS32 & ~7), 0x00cffb000000ffff);
	put64(g, GPA_TSS + 4, KERNEL + GPA_STACK);
	for (unsigned v = 0; v < 256; v++) {
		unsigned handler = GPA_HANDLERS + v * 16;
		put64(g, GPA_IDT + v * 16, handler | SEL_KERNEL << 16 | 0xee00ull << 32 | (KERNEL >> 16 & 0xffff) << 48);
		put64(g, GPA_IDT + v * 16 + 8, KERNEL >> 32);
		put64(g, handler, 0xf4f4f4f4f4f4f4f4);
	}
}

static bool guest_init(struct guest *g, const struct engine *engine)
{
	struct cpu *cpu = &g->cpu;
	memset(g, 0, sizeof(*g));
	g->engine = engine;
	if (memory_init(&g->memory, GPA_SIZE) || cpuid_build(&g->cpuid, 1) ||
	    cpu_init(cpu, &g->memory, &test_env, NULL, &g->cpuid, 0))
		return false;
	g->engine_vm = engine->vm_create(&g->memory);
	if (!g->engine_vm || engine->vcpu_create(g->engine_vm, cpu))
		return false;
	g->arena = memory_hva(&g->memory, GPA_ARENA, ARENA_SIZE);
	guest_tables(g);
	g->mask = g->cpuid.xcr0_mask & ~(uint64_t)XCR0_PKRU;
	cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	cpu->cr3 = GPA_TABLES;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	cpu->xcr0 = g->mask;
	cpu->gdtr.base = KERNEL + GPA_GDT;
	cpu->gdtr.limit = 0x3f;
	cpu->idtr.base = KERNEL + GPA_IDT;
	cpu->idtr.limit = 0xfff;
	cpu->tr = (struct segment){ .base = KERNEL + GPA_TSS, .limit = 0x67, .selector = SEL_TSS, .attr = 0x8b };
	return true;
}

static void guest_free(struct guest *g)
{
	g->engine->vcpu_destroy(&g->cpu);
	g->engine->vm_destroy(g->engine_vm);
	cpu_free(&g->cpu);
	memory_free(&g->memory);
}

static uint64_t frame_word(struct guest *g, uint64_t linear)
{
	uint64_t v = 0;
	memory_read(&g->memory, linear - KERNEL, &v, 8);
	return v;
}

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

static bool guest_run(struct guest *g, const struct user_state *start, unsigned bits, struct user_state *end)
{
	struct cpu *cpu = &g->cpu;
	struct exit exit;
	const struct segment null = { 0 };
	memcpy(cpu->gpr, start->gpr, sizeof(cpu->gpr));
	cpu->rip = start->rip;
	cpu->rflags = start->rflags;
	cpu->cr2 = 0;
	for (unsigned s = 0; s < SREG_COUNT; s++)
		cpu->seg[s] = null;
	cpu->seg[CS] = (struct segment){ .limit = 0xffffffff, .selector = SEL_USER_CS, .attr = 0xa0fb };
	if (bits == 32)
		cpu->seg[CS] = (struct segment){ .limit = 0xffffffff, .selector = SEL_USER_CS32, .attr = 0xc0fb };
	cpu->seg[SS] = (struct segment){ .limit = 0xffffffff, .selector = SEL_USER_SS, .attr = 0xc0f3 };
	cpu->seg[DS] = cpu->seg[ES] = cpu->seg[SS];
	cpu->halted = false;
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	memcpy(cpu->fpu, start->xsave, FPU_MXCSR_MASK);
	memcpy(cpu->fpu + FPU_ST, start->xsave + FPU_ST, cpu->fpu_size - FPU_ST);
	cpu_update_mode(cpu);
	do {
		__atomic_store_n(&cpu->request, 0, __ATOMIC_SEQ_CST);
		g->engine->run(cpu, &exit);
	} while (exit.reason == EXIT_REQUEST || exit.reason == EXIT_STEP);
	if (exit.reason != EXIT_HLT || cpu->rip <= KERNEL + GPA_HANDLERS || cpu->rip > KERNEL + GPA_HANDLERS + 0x1000) {
		printf("not ok: the guest ended with exit %d at %#" PRIx64 "\n", exit.reason, cpu->rip);
		return false;
	}
	uint64_t frame = cpu->gpr[RSP];
	end->vector = (unsigned)((cpu->rip - 1 - KERNEL - GPA_HANDLERS) / 16);
	end->error = has_error_code(end->vector) ? frame_word(g, frame) : 0;
	frame += has_error_code(end->vector) ? 8 : 0;
	memcpy(end->gpr, cpu->gpr, sizeof(end->gpr));
	end->rip = frame_word(g, frame);
	end->rflags = frame_word(g, frame + 16);
	end->gpr[RSP] = frame_word(g, frame + 24);
	end->cr2 = end->vector == VEC_PF ? cpu->cr2 : 0;
	memset(end->xsave, 0, sizeof(end->xsave));
	memcpy(end->xsave, cpu->fpu, cpu->fpu_size);
	return true;
}

/* ---- comparison ---- */

/* Components that XSTATE_BV says are not there hold their initial values. */
static void normalize_xsave(const struct guest *g, uint8_t *x)
{
	uint64_t bv;
	memcpy(&bv, x + FPU_XSTATE_BV, 8);
	if (!(bv & XCR0_X87)) {
		memset(x, 0, FPU_MXCSR);
		memset(x + FPU_ST, 0, 128);
		x[0] = 0x7f;
		x[1] = 0x03;
	}
	memset(x + FPU_FOP, 0, FPU_MXCSR - FPU_FOP);
	memset(x + FPU_MXCSR_MASK, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		memset(x + FPU_ST + 16 * i + 10, 0, 6);
	if (!(bv & XCR0_SSE))
		memset(x + FPU_XMM, 0, 256);
	memset(x + 416, 0, 512 - 416 + 64);
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
		if ((g->mask >> i & 1) && !(bv >> i & 1))
			memset(x + g->cpuid.xsave[i].offset, 0, g->cpuid.xsave[i].size);
}

static unsigned differences; /* lines printed for one failure */

static void differ(const char *what, uint64_t native, uint64_t engine)
{
	if (verbose && differences < 20)
		printf("  %-10s native %016" PRIx64 "  engine %016" PRIx64 "\n", what, native, engine);
	differences++;
}

static void compare_xsave(const struct guest *g, const struct user_state *n, const struct user_state *e)
{
	struct user_state a = *n, b = *e;
	normalize_xsave(g, a.xsave);
	normalize_xsave(g, b.xsave);
	for (unsigned i = 0; i < g->cpu.fpu_size; i += 8) {
		uint64_t x, y;
		char name[24];
		memcpy(&x, a.xsave + i, 8);
		memcpy(&y, b.xsave + i, 8);
		if (x == y)
			continue;
		snprintf(name, sizeof(name), "xsave+%u", i);
		differ(name, x, y);
	}
}

/* The instruction that both faulted at; INSN_INVALID if they did not. */
static unsigned faulting_insn(const struct test *t, const struct user_state *n, const struct user_state *e)
{
	struct insn insn;
	if (n->rip != e->rip || n->rip < t->address || n->rip >= t->address + t->program.len)
		return INSN_INVALID;
	if (insn_decode(&insn, t->program.bytes + (n->rip - t->address), INSN_MAX_LEN, t->program.bits) != DECODE_OK)
		return INSN_INVALID;
	return insn.id;
}

/*
 * Where processors differ. At byte-masked stores: in what a masked-out byte may raise, in the address they
 * report and in when they enter MMX state. At the end of a segment of 4 GiB: an access across it "may or
 * may not" fault (SDM 3A 5.3).
 */
static bool unpredictable(const struct test *t, const struct user_state *n, const struct user_state *e)
{
	unsigned id = faulting_insn(t, n, n);
	if (id == INSN_MASKMOVQ || id == INSN_MASKMOVDQU || id == INSN_VMASKMOVDQU || id == INSN_POPA || id == INSN_PUSHA)
		return true;
	return t->program.bits == 32 && faulting_insn(t, n, e) && (n->vector == VEC_SS || n->vector == VEC_GP) &&
	       e->vector == VEC_PF && (e->cr2 > 0xffffff00 || e->cr2 < 0x100);
}

static void compare_exception(const struct test *t, const struct user_state *n, const struct user_state *e)
{
	/* Linux does not tell programs whether a page of its own exists. */
	uint64_t ignore = n->cr2 >> 47 ? PF_PRESENT : 0;
	/* CMPS looks at either operand first, FLDENV and FRSTOR at any part. */
	unsigned id = faulting_insn(t, n, e);
	uint64_t address = id == INSN_FLDENV || id == INSN_FRSTOR ? PAGE_MASK : ~0ull;
	if (n->rip != e->rip)
		differ("rip", n->rip, e->rip);
	if (id == INSN_CMPS && n->vector >= VEC_SS && n->vector <= VEC_PF && e->vector >= VEC_SS && e->vector <= VEC_PF)
		return;
	if (n->vector != e->vector)
		differ("vector", n->vector, e->vector);
	else if (has_error_code(n->vector) && ((n->error ^ e->error) & ~ignore))
		differ("error", n->error, e->error);
	if (n->vector == VEC_PF && e->vector == VEC_PF && ((n->cr2 ^ e->cr2) & address))
		differ("cr2", n->cr2, e->cr2);
}

/* How many differences. */
static unsigned compare(const struct guest *g, const struct test *t, const struct outcome *native, const struct outcome *engine)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
	const struct user_state *n = &native->state, *e = &engine->state;
	uint64_t flags = (EF_ARITH | RFLAGS_DF) & ~t->program.undefined;
	differences = 0;
	if (!NATIVE || unpredictable(t, n, e))
		return 0;
	compare_exception(t, n, e);
	for (unsigned i = 0; i < 16; i++)
		if (n->gpr[i] != e->gpr[i])
			differ(names[i], n->gpr[i], e->gpr[i]);
	if ((n->rflags ^ e->rflags) & flags)
		differ("flags", n->rflags & flags, e->rflags & flags);
	compare_xsave(g, n, e);
	for (unsigned i = 0; i < ARENA_SIZE; i += 8)
		if (memcmp(native->arena + i, engine->arena + i, 8)) {
			uint64_t x, y;
			char name[24];
			memcpy(&x, native->arena + i, 8);
			memcpy(&y, engine->arena + i, 8);
			snprintf(name, sizeof(name), "[%#x]", ARENA + i);
			differ(name, x, y);
		}
	return differences;
}

/* ---- one test ---- */

static void make_test(struct guest *g, uint64_t seed, uint64_t index, struct test *t)
{
	struct rng r = { seed * 0x9e3779b97f4a7c15ull + index * 0xd1342543de82ef95ull };
	rnd(&r);
	t->address = CODE + (uint32_t)(index % CODE_SLOTS) * PROGRAM_BYTES;
	bool hot = only_hot || one_in(&r, 3);
	if (hot)
		gen_hot_program(&r, t->address, FUNCTIONS, &t->program);
	else
		gen_program(&r, &g->cpuid, t->address, &t->program);
	t->flush = one_in(&r, 8);
	memset(&t->start, 0, sizeof(t->start));
	for (unsigned i = 0; i < 16; i++) {
		t->start.gpr[i] = gen_register(&r);
		if (t->program.bits == 32)
			t->start.gpr[i] = i < 8 ? (uint32_t)t->start.gpr[i] : 0;
	}
	if (!one_in(&r, 10))
		t->start.gpr[RSP] = ARENA + 0x800 + (below(&r, 64) * 8);
	if (hot)
		gen_hot_registers(&r, &t->program, FUNCTIONS, t->start.gpr);
	t->start.rip = t->address;
	t->start.rflags = RFLAGS_FIXED | RFLAGS_IF | (rnd(&r) & EF_ARITH) | (one_in(&r, 8) ? RFLAGS_DF : 0);
	gen_xsave(&r, &g->cpuid, g->mask, t->start.xsave);
	for (unsigned i = 0; i < ARENA_SIZE; i += 64)
		gen_lanes(&r, t->arena + i, 64);
}

static uint64_t programs_begun; /* atomic */
static pthread_t fuzzing;

/* Whether a program ended in the guest, and on the bare CPU: some return to themselves for ever, and tell nothing. */
enum ran { ENDED, HANGS, ENDLESS };

static enum ran run_test(struct guest *g, const struct test *t, struct outcome *native, struct outcome *engine)
{
	__atomic_fetch_add(&programs_begun, 1, __ATOMIC_RELAXED);
	memory_write(&g->memory, GPA_CODE + (t->address - CODE), t->program.bytes, PROGRAM_BYTES);
	memcpy(native_arena, t->arena, ARENA_WRITABLE);
	memcpy(g->arena, t->arena, ARENA_SIZE);
	native->state = t->start;
	/* the read-only page is the same in every test, see main */
	memcpy(g->arena + ARENA_WRITABLE, native_arena + ARENA_WRITABLE, ARENA_SIZE - ARENA_WRITABLE);
	if (NATIVE && !native_run(&native->state, t->program.bits))
		return ENDLESS;
	memcpy(native->arena, native_arena, ARENA_SIZE);
	if (t->flush)
		cpu_write_cr(&g->cpu, 3, g->cpu.cr3);
	if (!guest_run(g, &t->start, t->program.bits, &engine->state))
		return HANGS;
	memcpy(engine->arena, g->arena, ARENA_SIZE);
	return ENDED;
}

static void print_program(const struct test *t)
{
	for (unsigned i = 0; i < t->program.count; i++) {
		struct insn insn;
		char text[96];
		const uint8_t *b = t->program.bytes + t->program.at[i];
		if (b[0] == 0x90)
			continue;
		insn_decode(&insn, b, INSN_MAX_LEN, t->program.bits);
		insn_disassemble(&insn, t->address + t->program.at[i], text, sizeof(text));
		printf("  %x: ", t->address + t->program.at[i]);
		for (unsigned n = 0; n < insn.len; n++)
			printf("%02x ", b[n]);
		printf("%*s%s\n", 3 * (12 - (int)insn.len) > 0 ? 3 * (12 - (int)insn.len) : 0, "", text);
	}
}

/* Every instruction that is not needed for a difference becomes NOPs. */
static void shrink(struct guest *g, struct test *t, struct outcome *native, struct outcome *engine)
{
	bool v = verbose;
	verbose = false;
	for (unsigned i = 0; i < t->program.removable; i++) {
		struct test smaller = *t;
		memset(smaller.program.bytes + smaller.program.at[i], 0x90, smaller.program.at[i + 1] - smaller.program.at[i]);
		if (run_test(g, &smaller, native, engine) == ENDED && compare(g, &smaller, native, engine))
			*t = smaller;
	}
	verbose = v;
	run_test(g, t, native, engine);
}

static void report(struct guest *g, struct test *t, uint64_t seed, uint64_t index, struct outcome *native, struct outcome *engine)
{
	printf("not ok: %s differs from the host CPU: --seed %" PRIu64 " --start %" PRIu64 " --count 1\n", g->engine->name,
	       seed, index);
	shrink(g, t, native, engine);
	print_program(t);
	verbose = true;
	compare(g, t, native, engine);
	printf("  from rax %" PRIx64 " rcx %" PRIx64 " rdx %" PRIx64 " rbx %" PRIx64 " rsp %" PRIx64 " rbp %" PRIx64
	       " rsi %" PRIx64 " rdi %" PRIx64 " flags %" PRIx64 "\n",
	       t->start.gpr[0], t->start.gpr[1], t->start.gpr[2], t->start.gpr[3], t->start.gpr[4], t->start.gpr[5],
	       t->start.gpr[6], t->start.gpr[7], t->start.rflags);
	fflush(stdout);
}

/* ---- all of them ---- */

struct options {
	const char *engine;
	uint64_t seed, start, count, stop;
	uint64_t kicks; /* from this program on */
};

static pthread_mutex_t kicked_lock = PTHREAD_MUTEX_INITIALIZER; /* kicked, which is gone between engines */
static struct guest *kicked;

static void *kicker(void *opaque)
{
	(void)opaque;
	for (;;) {
		usleep(100);
		pthread_mutex_lock(&kicked_lock);
		if (kicked)
			kicked->engine->kick(&kicked->cpu);
		pthread_mutex_unlock(&kicked_lock);
	}
	return NULL;
}

static void kick_guest(struct guest *g)
{
	pthread_mutex_lock(&kicked_lock);
	kicked = g;
	pthread_mutex_unlock(&kicked_lock);
}

/*
 * A program that takes seconds on the bare processor never ends. One that takes a minute, in which this process had much of a
 * processor, or ten minutes, is an engine's that hangs.
 */
static void *watchdog(void *opaque)
{
	uint64_t seen = UINT64_MAX, now;
	struct timespec used, begin = { 0 };

	(void)opaque;
	for (unsigned seconds = 0;; seconds++, sleep(1)) {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
		now = __atomic_load_n(&programs_begun, __ATOMIC_RELAXED);
		if (now != seen) {
			seen = now;
			seconds = 0;
			begin = used;
		} else if (seconds >= 600 || (seconds >= 60 && used.tv_sec - begin.tv_sec >= 20)) {
			printf("not ok: the program begun as number %" PRIu64 " did not end within %u s\n0 passed, 1 failed\n", now,
			       seconds);
			fflush(stdout);
			_exit(1);
		} else if (used.tv_sec - begin.tv_sec >= 2) {
			pthread_kill(fuzzing, SIGALRM);
		}
	}
	return NULL;
}

static void map_native(struct guest *g)
{
	void *arena = mmap((void *)(uintptr_t)ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0);
	void *code = mmap((void *)(uintptr_t)CODE, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
			  g->memory.fd, GPA_CODE);
	if (arena == MAP_FAILED || code == MAP_FAILED) {
		perror("user_diff: mmap");
		exit(2);
	}
	for (unsigned n = 0; n < HOT_FUNCTIONS; n++)
		memory_write(&g->memory, GPA_CODE + (FUNCTIONS - CODE) + hot_function_at(n), hot_function[n].bytes, hot_function[n].len);
	native_arena = arena;
	memset(native_arena, 0, ARENA_SIZE);
	struct rng r = { 1 };
	for (unsigned i = ARENA_WRITABLE; i < ARENA_SIZE; i += 64)
		gen_lanes(&r, native_arena + i, 64);
	mprotect(native_arena + ARENA_WRITABLE, ARENA_SIZE - ARENA_WRITABLE, PROT_READ);
}

static uint64_t fuzz(const struct engine *engine, const struct options *o, uint64_t *passed)
{
	static struct guest g;
	static struct test t;
	static struct outcome native, host;
	struct timespec a, b;
	uint64_t failed = 0, ended = 0, endless = 0;
	if (!guest_init(&g, engine)) {
		printf("not ok: engine %s cannot start\n", engine->name);
		return 1;
	}
	map_native(&g);
	native_init(g.mask);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (uint64_t i = o->start; i < o->start + o->count && failed < o->stop; i++) {
		if (i == o->kicks)
			kick_guest(&g);
		make_test(&g, o->seed, i, &t);
		if (verbose) {
			printf("%" PRIu64 ":\n", i);
			print_program(&t);
			fflush(stdout);
		}
		bool v = verbose;
		verbose = false;
		enum ran ran = run_test(&g, &t, &native, &host);

		if (ran == ENDLESS) {
			endless++;
		} else if (ran == HANGS) {
			printf("not ok: %s: --seed %" PRIu64 " --start %" PRIu64 " --count 1\n", engine->name, o->seed, i);
			print_program(&t);
			failed++;
		} else if (compare(&g, &t, &native, &host)) {
			report(&g, &t, o->seed, i, &native, &host);
			failed++;
		} else {
			++*passed;
			ended += host.state.vector == VEC_BP;
		}
		verbose = v;
	}
	kick_guest(NULL);
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (endless)
		printf("# %" PRIu64 " never end on the bare processor: left out\n", endless);
	printf("# %s: seed %" PRIu64 ", %" PRIu64 " ran to their end, %.1f s\n", engine->name, o->seed, ended,
	       (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
	guest_free(&g);
	return failed;
}

int main(int argc, char **argv)
{
	static const struct option longopts[] = { { "engine", required_argument, NULL, 'e' },
						  { "seed", required_argument, NULL, 's' },
						  { "start", required_argument, NULL, 'f' },
						  { "count", required_argument, NULL, 'c' },
						  { "stop", required_argument, NULL, 'x' },
						  { "verbose", no_argument, NULL, 'v' },
						  { "hot", no_argument, NULL, 'h' },
						  { "kicks", no_argument, NULL, 'k' },
						  { 0 } };
	struct options o = { "all", 1, 0, DEFAULT_COUNT, 10, argc == 1 ? DEFAULT_COUNT / 10 * 9 : UINT64_MAX };
	pthread_t thread;
	uint64_t passed = 0, failed = 0;
	int c;
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (c) {
		case 'e': o.engine = optarg; break;
		case 's': o.seed = strtoull(optarg, NULL, 0); break;
		case 'f': o.start = strtoull(optarg, NULL, 0); break;
		case 'c': o.count = strtoull(optarg, NULL, 0); break;
		case 'x': o.stop = strtoull(optarg, NULL, 0); break;
		case 'v': verbose = true; break;
		case 'h': only_hot = true; break;
		case 'k': o.kicks = 0; break;
		default:
			fprintf(stderr, "usage: user_diff [--engine NAME|all] [--seed N] [--start N] [--count N] [--stop N] [--verbose] [--hot] [--kicks]\n");
			return 2;
		}
	}
	bool all = !strcmp(o.engine, "all");
	if (!all && !engine_find(o.engine)) {
		fprintf(stderr, "user_diff: no engine '%s'\n", o.engine);
		return 2;
	}
	if (o.kicks == 0)
		o.kicks = o.start;
	fuzzing = pthread_self();
	if (pthread_create(&thread, NULL, watchdog, NULL) ||
	    (o.kicks != UINT64_MAX && pthread_create(&thread, NULL, kicker, NULL))) {
		fprintf(stderr, "user_diff: no thread\n");
		return 2;
	}
	for (unsigned i = 0; engines[i]; i++)
		if (all ? strcmp(engines[i]->name, "check") != 0 && engine_runs_here(engines[i]) : !strcmp(engines[i]->name, o.engine))
			failed += fuzz(engines[i], &o, &passed);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
	return failed != 0;
}
