/*
 * The check engine on a first side that makes errors: each must be found, and what may differ lawfully
 * must not be taken for one. The first side here is the interpreter, a few instructions at a time, and
 * what is done to its state afterwards is the error.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/check/check.h"

#define RAM (8u << 20)

enum {
	TABLES = 0x10000, /* 4K pages for the first 2M, 2M pages above */
	GDT = 0x1000, IDT = 0x2000, CODE = 0x20000, HANDLER = 0x30000, STACK = 0x40000, DATA = 0x50000, FAR = 0x60000,
	CLOCK = 0x70000,
};

/* ---- guest programs; rbx = DATA, rsp = STACK, HLT ends ---- */

#define GUEST(label, code) \
	extern const uint8_t guest_##label[], guest_##label##_end[]; \
	__asm__(".pushsection .rodata\nguest_" #label ":\n" code "\nguest_" #label "_end:\n.popsection")

GUEST(loop, "mov $40, %ecx\n"
	    "1: add %rcx, %rax\n mov %rax, (%rbx)\n mov %cx, 8(%rbx)\n add $16, %rbx\n lock incq 0x1000(%rdi)\n"
	    "push %rax\n pop %rdx\n imul $3, %rdx\n call 2f\n dec %ecx\n jnz 1b\n hlt\n"
	    "2: rol $5, %rdx\n ret");
GUEST(strings, "mov $0x900, %ecx\n mov %rbx, %rdi\n mov $0x5a, %al\n rep stosb\n"
	       "mov $0x123, %ecx\n mov %rbx, %rsi\n lea 0x2000(%rbx), %rdi\n rep movsq\n"
	       "mov $0x700, %ecx\n mov %rbx, %rdi\n movb $1, 0x3f0(%rbx)\n repe scasb\n"
	       "mov $300, %ecx\n lea 0x100(%rbx), %rsi\n lea 0x104(%rbx), %rdi\n std\n rep movsb\n cld\n hlt");
GUEST(faults, "mov $20, %ecx\n 1: ud2\n mov 0x7fffff000000, %rax\n dec %ecx\n jnz 1b\n hlt");
GUEST(vectors, "fninit\n mov $50, %ecx\n movq %rcx, %xmm1\n"
	       "1: paddq %xmm1, %xmm2\n movdqu %xmm2, (%rbx)\n cvtsi2sd %ecx, %xmm3\n sqrtsd %xmm3, %xmm3\n"
	       "fildl (%rbx)\n fsqrt\n fstpl 16(%rbx)\n dec %ecx\n jnz 1b\n hlt");
GUEST(clock, "mov $200, %ecx\n 1: rdtsc\n mov %eax, (%rbx)\n rdtsc\n mov %eax, 4(%rbx)\n dec %ecx\n jnz 1b\n hlt");
GUEST(random, "mov $50, %ecx\n 1: rdrand %rax\n mov %rax, (%rbx)\n dec %ecx\n jnz 1b\n hlt");
GUEST(undefined, "mov $50, %ecx\n 1: and $0x7f, %eax\n nop\n nop\n nop\n pushf\n pop %rdx\n nop\n dec %ecx\n"
		 "jnz 1b\n hlt");
GUEST(io, "mov $9, %ecx\n mov $0x80, %edx\n 1: in %dx, %eax\n add %ecx, %eax\n out %eax, %dx\n dec %ecx\n jnz 1b\n"
	  "mov $5, %ecx\n mov %rbx, %rdi\n rep insb\n hlt");
GUEST(asks, "mov $0x4b564d01, %ecx\n mov $0x70001, %eax\n xor %edx, %edx\n wrmsr\n"
	    "mov $40000, %esi\n 1: mov 0x70000, %eax\n mov 0x70004, %edi\n mov 0x70000, %ebp\n"
	    "mov $0x4b564d01, %ecx\n rdmsr\n mov 0x70000, %edi\n mov %cr8, %rdi\n dec %esi\n jnz 1b\n hlt");
GUEST(self, "jmp .\n");
GUEST(modes, "mov $30, %ecx\n 1: mov %cr0, %rax\n mov %rax, %cr0\n mov %rcx, %dr0\n mov $0x18, %eax\n mov %eax, %fs\n"
	     "mov %cr3, %rax\n mov %rax, %cr3\n dec %ecx\n jnz 1b\n hlt");
GUEST(accessed, "mov $30, %ecx\n 1: andl $~0x60, 0x13280\n mov %ecx, (%rbx)\n mov 0x13280, %eax\n mov %eax, 8(%rbx)\n"
		"dec %ecx\n jnz 1b\n hlt");
GUEST(handler_6, "addq $2, (%rsp)\n iretq");
GUEST(handler_14, "addq $8, %rsp\n addq $8, (%rsp)\n mov %cr2, %rax\n iretq");
GUEST(handler_48, "incq 0x50800\n iretq");

/* ---- a machine ---- */

static struct memory memory;
static struct cpuid_table cpuid;
static struct cpu *cpu;
static void *engine;
static uint64_t tsc_now, tpr, pv_value;
static pthread_mutex_t vm_lock = PTHREAD_MUTEX_INITIALIZER; /* as the machine's */

static uint64_t env_tsc(void *o)
{
	(void)o;
	return tsc_now += 12345;
}

static uint64_t env_get_apic_base(void *o)
{
	(void)o;
	return 0xfee00900;
}

static uint8_t env_get_tpr(void *o)
{
	(void)o;
	pthread_mutex_lock(&vm_lock);
	pthread_mutex_unlock(&vm_lock);
	return (uint8_t)(tpr++ & 15);
}

static void write_clock(uint32_t v)
{
	memory_write(&memory, CLOCK, &v, 4);
	memory_write(&memory, CLOCK + 4, &v, 4);
}

static bool env_pv_read(void *o, uint32_t msr, uint64_t *value)
{
	(void)o;
	(void)msr;
	pthread_mutex_lock(&vm_lock);
	write_clock((uint32_t)pv_value);
	*value = pv_value++;
	pthread_mutex_unlock(&vm_lock);
	return true;
}

static bool env_pv_write(void *o, uint32_t msr, uint64_t value)
{
	(void)o;
	(void)msr;
	write_clock((uint32_t)value);
	return true;
}

static const struct cpu_env env = {
	.tsc = env_tsc,
	.get_apic_base = env_get_apic_base,
	.get_tpr = env_get_tpr,
	.pv_read = env_pv_read,
	.pv_write = env_pv_write,
};

static void put64(uint64_t gpa, uint64_t v) { memory_write(&memory, gpa, &v, 8); }

static uint64_t get64(uint64_t gpa)
{
	uint64_t v = 0;

	memory_read(&memory, gpa, &v, 8);
	return v;
}

static void put_gate(unsigned vector, const uint8_t *code, const uint8_t *end)
{
	uint64_t at = HANDLER + vector * 64;

	memory_write(&memory, at, code, (uint64_t)(end - code));
	put64(IDT + vector * 16, (at & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | at >> 16 << 48);
	put64(IDT + vector * 16 + 8, 0);
}

static void put_tables(void)
{
	put64(TABLES, (TABLES + 0x1000) | 3);
	put64(TABLES + 0x1000, (TABLES + 0x2000) | 3);
	put64(TABLES + 0x2000, (TABLES + 0x3000) | 3);
	for (uint64_t i = 0; i < 512; i++)
		put64(TABLES + 0x3000 + i * 8, i << 12 | 3);
	for (uint64_t i = 1; i < 4; i++)
		put64(TABLES + 0x2000 + i * 8, i << 21 | 0x83);
}

/* ---- the first side ---- */

enum error {
	NO_ERROR, REGISTER, FLAG, SYSTEM_FLAG, NEXT_RIP, SEGMENT, CONTROL, MSR, MEMORY, MEMORY_BESIDE, MEMORY_FAR, XMM,
	X87, MXCSR, ONE_MORE, ONE_LESS, OUT_VALUE, SKIPPED_IO, SHADOW, NOT_ASKED, UNDEFINED_FLAG,
};
static struct {
	unsigned length; /* instructions a block */
	bool partial;    /* REPs in pieces */
	bool unlogged;   /* stores do not show in the log, as those of generated code */
	bool fresh_tlb;  /* walks anew all the time */
	enum error error;
	unsigned at; /* block that the error is made in, and all from there on */
} fake;
static unsigned block_number;

static int fake_create(struct memory *m, struct cpu *c)
{
	(void)m;
	(void)c;
	return 0;
}

static void fake_destroy(struct cpu *c) { (void)c; }

static void make_error(struct cpu *c)
{
	void *hva;

	switch (fake.error) {
	case REGISTER: c->gpr[R9] ^= 1ull << 40; break;
	case FLAG: c->rflags ^= EF_SF; break;
	case UNDEFINED_FLAG: c->rflags ^= EF_AF; break;
	case SYSTEM_FLAG: c->rflags ^= RFLAGS_NT; break;
	case NEXT_RIP: c->rip++; break;
	case SEGMENT: c->seg[ES].limit--; break;
	case CONTROL: c->cr2 ^= 8; break;
	case MSR: c->lstar++; break;
	case MEMORY: *memory_hva(&memory, c->gpr[RBX] - 16, 1) ^= 0x10; break;
	case MEMORY_BESIDE: *memory_hva(&memory, ((c->gpr[RBX] - 16) & ~63ull) + 63, 1) ^= 1; break;
	case MEMORY_FAR:
		if (mmu_fill(c, FAR + 0x123, MMU_WRITE, &hva) == X_OK && hva)
			*(uint8_t *)hva ^= 0x80;
		break;
	case XMM: c->fpu[FPU_XMM + 2 * 16 + 3] ^= 4; break;
	case X87: c->fpu[FPU_FSW + 1] ^= 8; break;
	case MXCSR: c->fpu[FPU_MXCSR + 1] ^= 0x20; break;
	case SHADOW: c->mov_ss_shadow = !c->mov_ss_shadow; break;
	default: break;
	}
}

static void forget_stores(struct store_log *log)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < log->count; i++)
		if (log->store[i].entry)
			log->store[kept++] = log->store[i];
	log->count = kept;
}

/* No program here jumps to itself but `self`, which does nothing else. Guest vector state may be live:
 * nothing but calls and integers between the steps. */
static enum x fake_steps(struct cpu *c, unsigned *insns, bool *partial)
{
	enum x x = X_OK;

	while (*insns < fake.length) {
		uint64_t rip = c->rip;

		x = interp_step(c);
		if (x == X_OK && c->rip == rip && *memory_hva(&memory, rip, 1) != 0xeb) {
			if (!fake.partial)
				continue;
			*partial = true;
			break;
		}
		*insns += x == X_OK || c->exit.reason == EXIT_HLT;
		if (x != X_OK || c->rip < rip || c->rip > rip + INSN_MAX_LEN)
			break;
	}
	return x;
}

static enum x fake_run_block(struct cpu *c, unsigned *insns, bool *partial)
{
	bool wrong = fake.error && ++block_number >= fake.at, live;
	const struct cpu_env *asked = c->env;
	struct cpu_env other = *c->env;
	enum x x;

	other.get_tpr = NULL;
	if (wrong && fake.error == NOT_ASKED)
		c->env = &other;
	if (fake.fresh_tlb)
		mmu_flush(c, true);
	x = fake_steps(c, insns, partial);
	live = c->fpu_live;
	cpu_fpu_leave(c);
	c->env = asked;
	if (wrong)
		make_error(c);
	if (wrong && x == X_EXIT && c->exit.reason == EXIT_PIO) {
		c->exit.io.value ^= fake.error == OUT_VALUE && c->exit.io.write;
		if (fake.error == SKIPPED_IO) {
			x = X_OK;
			c->rip++;
			++*insns;
		}
	}
	if (fake.unlogged)
		forget_stores(c->store_log);
	*insns += wrong && fake.error == ONE_MORE;
	*insns -= wrong && fake.error == ONE_LESS;
	if (live)
		cpu_fpu_enter(c);
	return x;
}

static const struct check_runner fake_runner = {fake_create, fake_destroy, fake_run_block};

/* ---- running a guest ---- */

static void boot(const uint8_t *code, const uint8_t *end)
{
	memset(memory.base, 0, TABLES);
	put_tables();
	put64(GDT + 8, 0x00af9b000000ffff);
	put64(GDT + 16, 0x00cf93000000ffff);
	put64(GDT + 24, 0x00cf93000000ffff);
	put_gate(6, guest_handler_6, guest_handler_6_end);
	put_gate(14, guest_handler_14, guest_handler_14_end);
	put_gate(48, guest_handler_48, guest_handler_48_end);
	memory_write(&memory, CODE, code, (uint64_t)(end - code));
	cpu_reset(cpu, false);
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG | CR0_MP | CR0_WP;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
	cpu->cr3 = TABLES;
	cpu->efer = EFER_LME | EFER_LMA;
	cpu->xcr0 = cpuid.xcr0_mask & 7;
	cpu->seg[CS] = (struct segment){.selector = 8, .limit = 0xffffffff, .attr = 0xa09b};
	for (unsigned s = 0; s < SREG_COUNT; s++)
		if (s != CS)
			cpu->seg[s] = (struct segment){.selector = 16, .limit = 0xffffffff, .attr = 0xc093};
	cpu->gdtr.base = GDT;
	cpu->gdtr.limit = 31;
	cpu->idtr.base = IDT;
	cpu->idtr.limit = 0xfff;
	cpu->rip = CODE;
	cpu->rflags = RFLAGS_FIXED;
	cpu->gpr[RBX] = DATA;
	cpu->gpr[RDI] = DATA;
	cpu->gpr[RSP] = STACK;
	cpu_update_mode(cpu);
	mmu_flush(cpu, true);
	block_number = 0;
}

static bool set_up(void)
{
	if (!(engine = check_vm_create(&memory, &fake_runner)))
		return false;
	return cpu_init(cpu, &memory, &env, NULL, &cpuid, 0) == 0 && engine_check.vcpu_create(engine, cpu) == 0;
}

static void tear_down(void)
{
	engine_check.vcpu_destroy(cpu);
	engine_check.vm_destroy(engine);
	cpu_free(cpu);
}

/* An interrupt every few exits, as the loop delivers it. */
static void machine(const struct exit *exit, unsigned n)
{
	if (exit->reason == EXIT_PIO) {
		struct io_access io = exit->io;

		if (!io.write)
			io.value = 0x1234567 * n;
		cpu->io.access[cpu->io.count++] = io;
	} else if (n % 3 == 0 && cpu->io.count == 0) {
		cpu_deliver_event(cpu, EVENT_EXTERNAL, 48);
	}
}

static enum exit_reason run_to_end(bool requests)
{
	struct exit exit = {0};

	for (unsigned n = 1; n < 100000; n++) {
		cpu->request = requests ? REQUEST_EXIT : 0;
		engine_check.run(cpu, &exit);
		if (exit.reason == EXIT_HLT || exit.reason == EXIT_ERROR)
			break;
		machine(&exit, n);
	}
	return exit.reason;
}

static struct check *state(void) { return check_of(cpu); }

/* All is well: to the HLT, in blocks of several lengths, with and without interrupts between them. */
static void clean(const char *what, const uint8_t *code, const uint8_t *end)
{
	static const unsigned lengths[] = {1, 2, 5, 64};

	check_about = what;
	for (unsigned i = 0; i < 16; i++) {
		memset(&fake, 0, sizeof fake);
		fake.length = lengths[i & 3];
		fake.partial = i & 4;
		fake.unlogged = fake.fresh_tlb = i & 8;
		if (!set_up())
			exit(1);
		boot(code, end);
		enum exit_reason r = run_to_end(i & 1);
		CHECK(r == EXIT_HLT);
		if (r == EXIT_ERROR)
			puts(state()->report);
		CHECK(state()->stats.blocks && state()->stats.insns > 15);
		tear_down();
	}
}
#define CLEAN(label) clean(#label, guest_##label, guest_##label##_end)

/* The error is found, at once unless it is in memory that nobody looks at. */
static void wrong(const char *what, enum error error, unsigned at, const uint8_t *code, const uint8_t *end,
		  const char *says)
{
	check_about = what;
	for (unsigned i = 0; i < 2; i++) {
		memset(&fake, 0, sizeof fake);
		fake.length = 9;
		fake.error = error;
		fake.at = at;
		fake.unlogged = i;
		if (!set_up())
			exit(1);
		boot(code, end);
		CHECK(run_to_end(false) == EXIT_ERROR);
		CHECK(strstr(state()->error, says));
		CHECK(strstr(state()->report, "interp") && strstr(state()->report, "rip"));
		CHECK(error == MEMORY_FAR || block_number <= at + 1);
		if (!strstr(state()->error, says))
			puts(state()->error);
		struct exit again;
		engine_check.run(cpu, &again); /* it stays failed */
		CHECK(again.reason == EXIT_ERROR && again.error);
		tear_down();
	}
}
#define WRONG(error, label, says) wrong(#error " in " #label, error, 7, guest_##label, guest_##label##_end, says)

static void test_errors(void)
{
	WRONG(REGISTER, loop, "r9");
	WRONG(FLAG, loop, "rflags");
	WRONG(SYSTEM_FLAG, loop, "rflags");
	WRONG(NEXT_RIP, loop, "rip");
	WRONG(SEGMENT, loop, "es:");
	WRONG(CONTROL, loop, "cr2");
	WRONG(MSR, loop, "lstar");
	WRONG(MEMORY, loop, "memory at GPA 0x50");
	WRONG(MEMORY_BESIDE, loop, "memory at GPA 0x50");
	WRONG(SHADOW, loop, "mov_ss_shadow");
	WRONG(ONE_MORE, loop, "");
	WRONG(ONE_LESS, loop, "");
	WRONG(XMM, vectors, "xmm2");
	WRONG(X87, vectors, "fsw");
	WRONG(MXCSR, vectors, "mxcsr");
	WRONG(OUT_VALUE, io, "I/O");
	WRONG(SKIPPED_IO, io, "exit");
	WRONG(NOT_ASKED, asks, "");
	WRONG(FLAG, faults, "rflags");
	wrong("REGISTER in strings", REGISTER, 2, guest_strings, guest_strings_end, "r9");
}

/* A store to a page that only one side wrote: before the guest can do I/O, or after some blocks. */
static void test_far_store(void)
{
	WRONG(MEMORY_FAR, io, "memory at GPA 0x60120");
	check_about = "far store, no I/O";
	memset(&fake, 0, sizeof fake);
	fake.length = 9;
	fake.error = MEMORY_FAR;
	fake.at = 3;
	set_up();
	boot(guest_self, guest_self_end);
	CHECK(run_to_end(false) == EXIT_ERROR && strstr(state()->error, "0x60120"));
	CHECK(block_number <= HISTORY + 3);
	tear_down();
}

/* AF after AND is nobody's business, also when it is pushed. */
static void test_undefined(void)
{
	check_about = "undefined flags";
	for (unsigned length = 2; length < 9; length++) {
		memset(&fake, 0, sizeof fake);
		fake.length = length;
		set_up();
		boot(guest_undefined, guest_undefined_end);
		CHECK(run_to_end(false) == EXIT_HLT);
		tear_down();
	}
	fake.length = 2; /* mov, and */
	fake.error = UNDEFINED_FLAG;
	fake.at = 1;
	set_up();
	boot(guest_undefined, guest_undefined_end);
	CHECK(run_to_end(false) == EXIT_ERROR); /* the second block has no AND */
	CHECK(state()->stats.undefined_flags == 1 && block_number == 2);
	tear_down();
}

/* A guest that clears A and D without a flush sees one thing or another. */
static void test_accessed(void)
{
	static const unsigned lengths[] = {1, 2, 3, 20};

	check_about = "accessed bits";
	for (unsigned i = 0; i < 4; i++) {
		memset(&fake, 0, sizeof fake);
		fake.length = lengths[i];
		fake.fresh_tlb = fake.unlogged = true;
		set_up();
		boot(guest_accessed, guest_accessed_end);
		CHECK(run_to_end(false) == EXIT_HLT);
		CHECK(state()->stats.accessed_bits + state()->stats.excused > 20);
		CHECK(fake.length < 3 || state()->stats.excused);
		if (state()->error[0])
			puts(state()->report);
		tear_down();
	}
}

static bool writing;
static void *writer(void *opaque)
{
	unsigned n = 0;

	while (__atomic_load_n(&writing, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&vm_lock);
		write_clock(++n);
		pthread_mutex_unlock(&vm_lock);
	}
	(void)opaque;
	return NULL;
}

/* A device writes to memory that the guest reads, on another thread and out of what the guest asks for. */
static void test_writer(void)
{
	pthread_t thread;

	check_about = "writer";
	memset(&fake, 0, sizeof fake);
	fake.length = 20;
	set_up();
	boot(guest_asks, guest_asks_end);
	writing = true;
	pthread_create(&thread, NULL, writer, NULL);
	CHECK(run_to_end(false) == EXIT_HLT);
	CHECK(state()->stats.asks > 80000);
	if (state()->error[0])
		puts(state()->report);
	__atomic_store_n(&writing, false, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	tear_down();
}

static void *kicker(void *opaque)
{
	struct timespec ms = {.tv_nsec = 20000000};

	(void)opaque;
	nanosleep(&ms, NULL);
	engine_check.kick(cpu);
	return NULL;
}

static void test_kick(void)
{
	pthread_t thread;
	struct exit exit;

	check_about = "kick";
	memset(&fake, 0, sizeof fake);
	fake.length = 5;
	set_up();
	boot(guest_self, guest_self_end);
	pthread_create(&thread, NULL, kicker, NULL);
	engine_check.run(cpu, &exit);
	CHECK(exit.reason == EXIT_REQUEST && cpu->request == REQUEST_EXIT);
	pthread_join(thread, NULL);
	cpu->request = 0;
	cpu->want_irq_window = WANT_IRQ;
	cpu->rflags |= RFLAGS_IF;
	engine_check.run(cpu, &exit);
	CHECK(exit.reason == EXIT_IRQ_WINDOW);
	tear_down();
	check_about = "one vCPU";
	set_up();
	struct cpu *other = aligned_alloc(64, (sizeof *other + 63) & ~63ul);
	CHECK(other && engine_check.vcpu_create(engine, other) < 0);
	free(other);
	tear_down();
}

static void test_clean(void)
{
	CLEAN(loop);
	CHECK(get64(FAR) == 0);
	CLEAN(strings);
	CLEAN(faults);
	CLEAN(vectors);
	CLEAN(clock);
	if (cpuid.has[FEATURE_RDRAND])
		CLEAN(random);
	CLEAN(undefined);
	CLEAN(io);
	CLEAN(modes);
}

int main(void)
{
	cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~63ul);
	if (!cpu || memory_init(&memory, RAM) || cpuid_build(&cpuid, 1)) {
		printf("not ok: no vCPU\n0 passed, 1 failed\n");
		return 1;
	}
	freopen("/dev/null", "w", stderr); /* the reports */
	test_clean();
	test_errors();
	test_far_store();
	test_undefined();
	test_accessed();
	test_writer();
	test_kick();
	free(cpu);
	memory_free(&memory);
	return summary();
}
