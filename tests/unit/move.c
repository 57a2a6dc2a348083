/*
 * A running guest moved between engines, hundreds of times, and what it works out: with I/O, strings of I/O, interrupts,
 * HLT, x87 and vector state and code that changes itself on the way, while another thread writes to its memory as
 * a device does. And moves that are refused, or fail, after which the guest goes on.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "engine/kvm/kvm.h"
#include "machine/vm.h"
#include "mem/dma.h"

#define LOAD 0x100000u
#define RESULT 0x180000u
#define STOP 0x181000u /* not 0: guests that run until they are told to end do so */
#define RESULT_SIZE 32u
#define TICKS 0x180020u

#define STR_(x) #x
#define STR(x) STR_(x)
#define GUEST(label, code) \
	extern const uint8_t guest_##label[], guest_##label##_end[]; \
	__asm__(".pushsection .rodata\nguest_" #label ":\n.code32\n" code "\n.code64\nguest_" #label "_end:\n.popsection")

/* A flat Multiboot image; AT is where a label is in the guest. Timer interrupts come at 1 kHz as vector 0x20, gate at
 * 0x110100. The sum goes over: the UART's scratch register, single and in strings, the I/O APIC's select register, an
 * instruction's immediate, copies, x87, SSE. */
#define AT(label) STR(LOAD_ASM) "+" label "-guest_load"
#define LOAD_ASM 0x100000
GUEST(load, ".long 0x1badb002, 0x10000, -(0x1badb002+0x10000), 0x100000, 0x100000, 0, 0, 0x100020\n"
	    "mov $0x200000, %esp\n"
	    "mov %cr0, %eax\n and $~4, %eax\n or $2, %eax\n mov %eax, %cr0\n"
	    "mov %cr4, %eax\n or $0x600, %eax\n mov %eax, %cr4\n fninit\n fldz\n"
	    "mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n"
	    "mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n"
	    "mov $0x34, %al\n out %al, $0x43\n mov $0xa9, %al\n out %al, $0x40\n mov $4, %al\n out %al, $0x40\n"
	    "mov $" AT("tick") ", %eax\n mov %ax, 0x110100\n movw $0x10, 0x110102\n movw $0x8e00, 0x110104\n"
	    "shr $16, %eax\n mov %ax, 0x110106\n lidt " AT("idtr") "\n sti\n"
	    ".globl guest_rounds\n.byte 0xb9\nguest_rounds: .long 12000\n xor %esi, %esi\n" /* mov $rounds, %ecx */
	    "round: imul $0x9e3779b1, %esi, %esi\n add %ecx, %esi\n rol $7, %esi\n"
	    "mov %esi, " AT("patched") "-4\n mov $1, %edx\n add $0x11223344, %edx\n"
	    "patched: add %edx, %esi\n"
	    "mov $0x3ff, %edx\n mov %esi, %eax\n out %al, %dx\n xor %eax, %eax\n in %dx, %al\n add %eax, %esi\n"
	    "mov %esi, %eax\n and $0xff, %eax\n mov %eax, 0xfec00000\n mov 0xfec00000, %eax\n xor %eax, %esi\n"
	    "push %ecx\n push %esi\n mov $0x300ffa, %edi\n mov $12, %ecx\n rep insb\n"
	    "mov $0x300ffa, %esi\n mov $5, %ecx\n rep outsb\n"
	    "mov $0x300ffa, %esi\n mov $0x301ffd, %edi\n mov $12, %ecx\n rep movsb\n pop %esi\n pop %ecx\n"
	    "add 0x302000, %esi\n"
	    "mov %ecx, 0x303000\n fmuls " AT("half") "\n fiaddl 0x303000\n"
	    "movd %esi, %xmm2\n pshufd $0, %xmm2, %xmm2\n paddd %xmm2, %xmm1\n psrlq $1, %xmm1\n"
	    "test $0x3ff, %ecx\n jnz 1f\n hlt\n"
	    "1: dec %ecx\n jnz round\n"
	    "mov %esi, 0x180000\n fstpl 0x180008\n movdqu %xmm1, 0x180010\n"
	    "mov $1, %al\n out %al, $0xf4\n jmp .\n"
	    "tick: push %eax\n incl 0x180020\n mov $0x20, %al\n out %al, $0x20\n pop %eax\n iret\n"
	    "idtr: .word 0x7ff\n .long 0x110000\n"
	    "half: .float 0.5\n"
	    ".long 0");

/* Starts the second processor, which sleeps in HLT and counts NMIs at 0x9000, and sends it one after the other: each
 * when the last one has come, so that none may be lost. */
#define ICR(low) "movl $0x1000000, 0xfee00310\n movl $" #low ", 0xfee00300\n"
GUEST(nmi, ".long 0x1badb002, 0x10000, -(0x1badb002+0x10000), 0x100000, 0x100000, 0, 0, 0x100020\n"
	   "movl $0x8100, 8\n movl $0x0006ff66, 0x8100\n movl $0xcf90, 0x8104\n" /* incl 0x9000; iret */
	   "movl $0x0406c766, 0x8000\n movl $0x00000190, 0x8004\n movl $0xfdebf400, 0x8008\n" /* movl $1, 0x9004; hlt */
	   "movl $0, 0x9000\n movl $0, 0x9004\n" ICR(0x4500)
	   "1: " ICR(0x4608) "mov $1000, %edx\n 2: pause\n dec %edx\n jnz 2b\n cmpl $0, 0x9004\n je 1b\n"
	   "xor %ecx, %ecx\n"
	   "1: mov 0x9000, %eax\n" ICR(0x4400) "2: pause\n cmp 0x9000, %eax\n je 2b\n inc %ecx\n mov %ecx, 0x180004\n"
	   "cmpl $0, 0x181000\n je 1b\n"
	   "mov 0x9000, %eax\n mov %eax, 0x180000\n mov $1, %al\n out %al, $0xf4\n jmp .\n .long 0, 0");

/* Reads the paravirtual clock all the time: how often it went back, and how far it and the TSC came. The record is at
 * 0x190000, the time read last at 0x190040. */
#define CLOCK \
	"1: mov 0x190000, %ebp\n test $1, %ebp\n jnz 1b\n rdtsc\n" \
	"sub 0x190008, %eax\n sbb 0x19000c, %edx\n movsbl 0x19001c, %ecx\n test %ecx, %ecx\n js 2f\n" \
	"shld %cl, %eax, %edx\n shl %cl, %eax\n jmp 3f\n 2: neg %ecx\n shrd %cl, %edx, %eax\n shr %cl, %edx\n" \
	"3: mov %edx, %edi\n mull 0x190018\n mov %edx, %ebx\n mov %edi, %eax\n mull 0x190018\n" \
	"add %ebx, %eax\n adc $0, %edx\n add 0x190010, %eax\n adc 0x190014, %edx\n cmp 0x190000, %ebp\n jne 1b\n"
GUEST(clock, ".long 0x1badb002, 0x10000, -(0x1badb002+0x10000), 0x100000, 0x100000, 0, 0, 0x100020\n"
	     "mov $0x4b564d01, %ecx\n mov $0x190001, %eax\n xor %edx, %edx\n wrmsr\n"
	     CLOCK "mov %eax, 0x180008\n mov %edx, 0x18000c\n mov %eax, 0x190040\n mov %edx, 0x190044\n"
	     "rdtsc\n mov %eax, 0x180010\n mov %edx, 0x180014\n"
	     CLOCK "cmp 0x190044, %edx\n jb 4f\n ja 5f\n cmp 0x190040, %eax\n jae 5f\n 4: incl 0x180000\n"
	     "5: mov %eax, 0x190040\n mov %edx, 0x190044\n cmpl $0, 0x181000\n je 1b\n"
	     "sub 0x180008, %eax\n sbb 0x18000c, %edx\n mov %eax, 0x180008\n mov %edx, 0x18000c\n"
	     "rdtsc\n sub 0x180010, %eax\n sbb 0x180014, %edx\n mov %eax, 0x180010\n mov %edx, 0x180014\n"
	     "mov $1, %al\n out %al, $0xf4\n jmp .\n .long 0, 0");

/* Writes to every other page from 0x400000 on, says so, waits to be answered, writes to those between. */
#define FILL(from) "mov $" #from ", %edi\n mov $32, %ecx\n 1: movb $1, (%edi)\n add $0x2000, %edi\n dec %ecx\n jnz 1b\n"
GUEST(fill, ".long 0x1badb002, 0x10000, -(0x1badb002+0x10000), 0x100000, 0x100000, 0, 0, 0x100020\n"
	    FILL(0x400000) "movl $1, 0x180000\n 2: pause\n cmpl $0, 0x181000\n je 2b\n"
	    FILL(0x401000) "mov $1, %al\n out %al, $0xf4\n jmp .\n .long 0, 0");

extern const uint8_t guest_rounds[];
#define ROUNDS 12000u
static uint32_t rounds = ROUNDS;

struct guest {
	struct vm *vm;
	enum vm_end end;
	pthread_t io, writer;
	uint64_t unused; /* the last word of the image */
	bool writing;
};

static void *run(void *opaque)
{
	struct guest *g = opaque;

	g->end = vm_run(g->vm);
	return NULL;
}

/* Writes what is there already, into a page with code. */
static void *write_on(void *opaque)
{
	struct guest *g = opaque;
	uint32_t zero = 0;

	while (__atomic_load_n(&g->writing, __ATOMIC_RELAXED)) {
		memory_write(&g->vm->memory, g->unused, &zero, sizeof zero);
		usleep(50);
	}
	return NULL;
}

static bool start_image(struct guest *g, const struct engine *engine, unsigned cpus, const uint8_t *image,
			const uint8_t *image_end, const uint8_t *image_rounds)
{
	const char *error = "";
	char path[32];
	int fd = memfd_create("image", 0);
	ssize_t size = image_end - image;
	struct vm_config config = {.memory_size = 16 << 20, .cpus = cpus, .engine = engine, .kernel = path,
				   .debug_exit_port = 0xf4, .input_fd = -1, .output_fd = -1, .host_fd = -1};

	if (fd < 0 || write(fd, image, (size_t)size) != size ||
	    (image_rounds && pwrite(fd, &rounds, sizeof rounds, image_rounds - image) != sizeof rounds))
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	g->vm = vm_create(&config, &error);
	close(fd);
	if (!g->vm) {
		printf("# %s\n", error);
		return false;
	}
	g->writing = true;
	g->unused = LOAD + (uint64_t)size - 4;
	return pthread_create(&g->io, NULL, run, g) == 0 && pthread_create(&g->writer, NULL, write_on, g) == 0;
}

static bool start(struct guest *g, const struct engine *engine, unsigned cpus)
{
	return start_image(g, engine, cpus, guest_load, guest_load_end, guest_rounds);
}

struct result {
	uint8_t bytes[RESULT_SIZE];
	uint32_t ticks;
};

static struct result finish_joined(struct guest *g)
{
	struct result r = {0};

	__atomic_store_n(&g->writing, false, __ATOMIC_RELAXED);
	pthread_join(g->writer, NULL);
	CHECK_EQ(g->end, VM_DEBUG_EXIT);
	if (g->vm->report)
		printf("# %s", g->vm->report);
	CHECK_EQ(memory_read(&g->vm->memory, RESULT, r.bytes, sizeof r.bytes), 0);
	CHECK_EQ(memory_read(&g->vm->memory, TICKS, &r.ticks, sizeof r.ticks), 0);
	vm_destroy(g->vm);
	return r;
}

static struct result finish(struct guest *g)
{
	pthread_join(g->io, NULL);
	return finish_joined(g);
}

static bool move(struct guest *g, const struct engine *to, const char **error)
{
	pthread_mutex_lock(&g->vm->lock);
	bool ok = vm_move(g->vm, to, error);
	pthread_mutex_unlock(&g->vm->lock);
	return ok;
}

static struct result unmoved(const struct engine *engine)
{
	struct guest g;

	if (!start(&g, engine, 1))
		exit(1);
	return finish(&g);
}

/* From engine to engine, in the order of `which`, every `pause_us` or so, until the guest ends. */
static void moved(const struct result *expected, const char *what, const struct engine *const *which, unsigned count,
		  unsigned pause_us)
{
	const char *error = "";
	unsigned moves = 0;
	struct result r;
	struct guest g;

	if (!start(&g, which[0], 1))
		exit(1);
	do
		usleep(pause_us / 2 + moves * 7919 % pause_us);
	while (move(&g, which[(moves + 1) % count], &error) && ++moves);
	CHECK(strstr(error, "has ended") != NULL);
	r = finish(&g);
	CHECK(moves >= (rounds < ROUNDS ? 1 : 20));
	CHECK(memcmp(r.bytes, expected->bytes, sizeof r.bytes) == 0);
	CHECK(r.ticks > 10);
	printf("# %s: %u moves, %u timer interrupts\n", what, moves, r.ticks);
}

/* From engine to engine, each time after the guest has changed what it keeps at `progress`, and then it is to end. */
static struct result move_on(struct guest *g, const struct engine *const *which, unsigned count, unsigned moves,
			     uint64_t progress)
{
	const uint32_t one = 1;
	const char *error = "";

	for (unsigned n = 1; n <= moves; n++) {
		uint32_t before = 0, now = 0;

		memory_read(&g->vm->memory, progress, &before, sizeof before);
		do {
			usleep(n * 7919 % 1000);
			memory_read(&g->vm->memory, progress, &now, sizeof now);
		} while (now == before);
		while (!move(g, which[n % count], &error) && strstr(error, "try again"))
			;
		CHECK_SAYING(g->vm->config.engine == which[n % count], "%s", error);
	}
	memory_write(&g->vm->memory, STOP, &one, sizeof one);
	return finish(g);
}

/* Messages between processors, whatever the vCPUs are at when they are moved. */
static void moved_nmis(const char *what, const struct engine *const *which, unsigned count, unsigned moves)
{
	uint32_t nmis, sent;
	struct result r;
	struct guest g;

	if (!start_image(&g, which[0], 2, guest_nmi, guest_nmi_end, NULL))
		exit(1);
	r = move_on(&g, which, count, moves, RESULT + 4);
	memcpy(&nmis, r.bytes, sizeof nmis);
	memcpy(&sent, r.bytes + 4, sizeof sent);
	CHECK_EQ(nmis, sent);
	CHECK(nmis >= moves);
	printf("# %s: %u moves, %u NMIs\n", what, moves, nmis);
}

/* Time goes on, much as the host's, and never back. */
static void moved_clock(const char *what, const struct engine *const *which, unsigned count, unsigned moves)
{
	uint64_t ns, tsc, khz, began = clock_now(), all;
	uint32_t backwards;
	struct result r;
	struct guest g;

	if (!start_image(&g, which[0], 1, guest_clock, guest_clock_end, NULL))
		exit(1);
	khz = g.vm->cpuid.tsc_khz;
	r = move_on(&g, which, count, moves, 0x190040);
	all = clock_now() - began;
	memcpy(&backwards, r.bytes, sizeof backwards);
	memcpy(&ns, r.bytes + 8, sizeof ns);
	memcpy(&tsc, r.bytes + 16, sizeof tsc);
	CHECK_EQ(backwards, 0);
	tsc = tsc * 1000 / khz * 1000;
	CHECK(ns > tsc / 2 && ns < all + all / 4);
	printf("# %s: %u moves, %llu ms of the clock, %llu of the TSC\n", what, moves, (unsigned long long)ns / 1000000,
	       (unsigned long long)tsc / 1000000);
}

/* ---- what cannot be ---- */

static int no_vcpu(void *engine_vm, struct cpu *cpu)
{
	(void)engine_vm;
	(void)cpu;
	return -ENXIO;
}

static void *no_vm(struct memory *memory)
{
	(void)memory;
	errno = EPERM;
	return NULL;
}

static void refusals(const struct result *expected)
{
	struct engine broken = engine_interp, absent = engine_interp;
	const char *error = "";
	struct dma_span span;
	struct result r;
	struct guest g;

	broken.probe = absent.probe = NULL;
	broken.vcpu_create = no_vcpu;
	broken.name = "broken";
	absent.vm_create = no_vm;
	if (!start(&g, &engine_bt, 1))
		exit(1);
	CHECK(!move(&g, &broken, &error));
	CHECK(strstr(error, "broken") && strstr(error, strerror(ENXIO)));
	CHECK(!move(&g, &absent, &error));
	CHECK(strstr(error, strerror(EPERM)) != NULL);
	CHECK_EQ(dma_map(&g.vm->memory, 0x400000, 512, DMA_FROM_DEVICE, &span), 0);
	CHECK(!move(&g, &engine_check, &error));
	CHECK(strstr(error, "try again") != NULL);
	dma_unmap(&g.vm->memory, &span, 512);
	CHECK(move(&g, &engine_check, &error));
	CHECK_EQ(dma_map(&g.vm->memory, 0x400000, 512, DMA_FROM_DEVICE, &span), 0); /* a buffer under check */
	CHECK(move(&g, &engine_interp, &error));
	dma_unmap(&g.vm->memory, &span, 512);
	CHECK(move(&g, &engine_check, &error));
	CHECK(move(&g, &engine_bt, &error));
	CHECK(g.vm->config.engine == &engine_bt);
	r = finish(&g);
	CHECK(memcmp(r.bytes, expected->bytes, sizeof r.bytes) == 0);

	if (!start(&g, &engine_bt, 2))
		exit(1);
	CHECK(!move(&g, &engine_check, &error));
	CHECK(strstr(error, "at most 1 vCPU,") != NULL);
	CHECK(move(&g, &engine_interp, &error));
	r = finish(&g);
	CHECK(memcmp(r.bytes, expected->bytes, sizeof r.bytes) == 0);
}

/* How many of the 32 pages, every other one from there on, are said to have been written. */
static unsigned pages_written(struct memory *m, uint64_t gpa)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 32; i++, gpa += 2 * PAGE_SIZE)
		count += memory_block_take_written(m, memory_offset(m, gpa, 1), PAGE_SIZE);
	return count;
}

static void ram_log(const struct engine *engine)
{
	const uint32_t one = 1;
	uint32_t told = 0;
	struct guest g;

	if (!start_image(&g, engine, 1, guest_fill, guest_fill_end, NULL))
		exit(1);
	while (!told && usleep(1000) == 0)
		memory_read(&g.vm->memory, RESULT, &told, sizeof told);
	CHECK_EQ(engine->log_ram(g.vm->engine_vm, true), 0);
	CHECK_EQ(pages_written(&g.vm->memory, 0x400000), 0);
	memory_write(&g.vm->memory, 0x400000, &one, 1); /* as a device does */
	memory_write(&g.vm->memory, RESULT + PAGE_SIZE, &one, sizeof one);
	pthread_join(g.io, NULL);
	CHECK_EQ(pages_written(&g.vm->memory, 0x400000), 1);
	CHECK_EQ(pages_written(&g.vm->memory, 0x401000), 32);
	CHECK_EQ(pages_written(&g.vm->memory, 0x401000), 0);
	CHECK_EQ(engine->log_ram(g.vm->engine_vm, false), 0);
	finish_joined(&g);
}

/* As where KVM has all that bt shows. */
static int limit_as_kvm(void *engine_vm, struct cpuid_table *t)
{
	struct kvm_vm vm = {.apics = true};
	const char *why;

	(void)engine_vm;
	return kvm_host_open(&vm.host, &why) < 0 ? -EIO : kvm_limit_cpuid(&vm, t);
}

/* What is not there without it, and takes little time. */
static void kvm_alone(void)
{
	struct engine bt = engine_bt;
	const struct engine *two[] = {&engine_kvm, &engine_interp}, *from_bt[] = {&bt, &engine_interp, &engine_kvm};

	bt.limit_cpuid = limit_as_kvm;
	bt.probe = NULL; /* nobody has asked this copy */
	moved_nmis("bt, interp, kvm, 2 vCPUs", from_bt, 3, 12);
	moved_clock("the clock, kvm, interp", two, 2, 12);
	ram_log(&engine_kvm);
}

/* The machine begins under KVM, so that its CPUID is one that KVM has. Where KVM is itself emulated each move takes long,
 * and what it has learnt of memory is lost: the guest gets time to go on. */
static void by_kvm(const struct result *expected)
{
	const struct engine *same[] = {&engine_kvm}, *two[] = {&engine_kvm, &engine_interp};
	const struct engine *all[] = {&engine_kvm, &engine_bt, &engine_kvm, &engine_check, &engine_interp};
	uint64_t start = clock_now();
	struct result r = unmoved(&engine_kvm);
	unsigned pause_us = 1000 + (unsigned)((clock_now() - start) / 60000);

	CHECK(memcmp(r.bytes, expected->bytes, sizeof r.bytes) == 0);
	moved(expected, "kvm made anew", same, 1, pause_us);
	moved(expected, "kvm, interp", two, 2, pause_us);
	moved(expected, "kvm, bt, kvm, check, interp", all, 5, pause_us);
	kvm_alone();
}

/* usage: move [kvm | kvm-short]: only the moves to it and from it, where all else takes long; and of these not the long ones */
int main(int argc, char **argv)
{
	const struct engine *all[] = {&engine_bt, &engine_interp, &engine_check, &engine_interp};
	const struct engine *two[] = {&engine_bt, &engine_interp}, *same[] = {&engine_bt};
	struct result expected, r;

	alarm(argc > 1 ? 1500 : 300);
	engine_probe_cheap();
	if (argc > 1 && strcmp(argv[1], "kvm") == 0) {
		CHECK(engine_runs_here(&engine_kvm));
		rounds /= 8;
		expected = unmoved(&engine_interp);
		by_kvm(&expected);
		return summary();
	}
	if (argc > 1) {
		CHECK(engine_runs_here(&engine_kvm));
		kvm_alone();
		return summary();
	}
	expected = unmoved(&engine_interp);
	r = unmoved(&engine_bt);
	CHECK(memcmp(r.bytes, expected.bytes, sizeof r.bytes) == 0);
	moved(&expected, "bt, interp", two, 2, 1000);
	moved(&expected, "bt made anew", same, 1, 1000);
	moved(&expected, "bt, interp, check, interp", all, 4, 1000);
	moved_nmis("bt, interp, 2 vCPUs", two, 2, 300);
	moved_clock("the clock, bt, interp", two, 2, 300);
	refusals(&expected);
	if (engine_runs_here(&engine_kvm))
		by_kvm(&expected);
	else
		printf("# kvm does not run guests here: not moved to and from it\n");
	return summary();
}
