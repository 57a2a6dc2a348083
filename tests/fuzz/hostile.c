/*
 * Hostile guests on the whole machine: random bytes, privileged instructions, port and memory I/O at
 * ring 0, in 32-bit and in 64-bit mode, with an exception and NMI handler that goes on with the next
 * piece. Whatever the guest does, its VM must end when it is told to, and Ringside must not crash. Each
 * case is a process of its own. (ring0.c does the same to a vCPU alone, in every mode.)
 *
 * usage: hostile [--cases N] [--seed S] [--one ENGINE]      default: a fixed seed and budget
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/vm.h"

#define CASES 150u
#define SEED 20260101ull
#define GUEST_MS 60   /* how long a guest may run before it is stopped */
#define CASE_MS 20000 /* when a case is taken for hung */
#define MEMORY_SIZE (16ull << 20)

/* Layout of the guest; all is below 2 MiB so that one large page maps it. */
enum {
	LOAD = 0x100000,
	ENTRY = LOAD + 0x20,
	COUNT = 0x108000,
	GDTR = COUNT + 0x80,
	IDTR = COUNT + 0x90,
	GDT = COUNT + 0x100,
	IDT = 0x109000,
	TABLES = 0x10a000,
	STACK = 0x120000,
	CHUNKS = 0x130000,
	CHUNK = 128,
	CHUNK_COUNT = 256,
	IMAGE_SIZE = CHUNKS - LOAD + CHUNK * CHUNK_COUNT,
};

static uint64_t rng;
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}
#define PICK(array) ((array)[rnd() % (sizeof(array) / sizeof(array)[0])])

static uint8_t image[IMAGE_SIZE];
static uint8_t *at; /* where emitted bytes go */

static uint8_t *gpa(uint32_t a) { return image + (a - LOAD); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

static void emit_n(uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*at++ = (uint8_t)(v >> 8 * i);
}

/* Bytes in hexadecimal. */
static void emit(const char *hex)
{
	for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		*at++ = (uint8_t)byte;
}

/* A number of the kind that hurts. */
static uint64_t nasty(void)
{
	static const uint64_t some[] = {
		0,          1,          0x80000000,     0xffffffff,     0x100000,           IDT,        TABLES,
		0xfee00000, 0xfee00300, 0xfec00000,     0xfec00010,     0xff000000,         0xfffffff0, 0xa0000,
		0xfffffe,   0x1000000,  0x7fffffffffff, 0x800000000000, 0xffff800000000000, ~0ull,      0xf000,
		0x80050033, 0x370eb0};

	switch (rnd() % 4) {
	case 0:
		return PICK(some);
	case 1:
		return rnd();
	case 2:
		return (uint32_t)rnd();
	default:
		return 1ull << rnd() % 64;
	}
}

static uint32_t some_msr(void)
{
	static const uint32_t some[] = {
		0x10,       0x11,       0x12,       0x1b,       0x3a,       0x3b,       0x48,       0x49,
		0x8b,       0xfe,       0x174,      0x175,      0x176,      0x179,      0x17a,      0x1a0,
		0x1d9,      0x200,      0x20f,      0x250,      0x277,      0x2ff,      0x6e0,      0x800,
		0x808,      0x80b,      0x830,      0x832,      0x838,      0x83e,      0x83f,      0xd90,
		0xda0,      0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
		0xc0000103, 0xc0010010, 0xc0010015, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03};

	return rnd() % 8 ? PICK(some) + (rnd() % 16 ? 0 : (uint32_t)rnd() % 16) : (uint32_t)rnd();
}

/* Ports of devices; power off and reset are left out for most of the time. */
static uint16_t some_port(void)
{
	static const uint16_t some[] = {0x20,  0x21,  0xa0,  0xa1,   0x40,   0x41,   0x42,  0x43,  0x60,  0x61,
					0x64,  0x70,  0x71,  0x92,   0x2f8,  0x3f8,  0x3f9, 0x3fa, 0x3fb, 0x3fc,
					0x3fd, 0x3fe, 0x3ff, 0x4d0,  0x4d1,  0x600,  0x602, 0x608, 0x610, 0x614,
					0xe0,  0xe4,  0xe9,  0x2000, 0x2008, 0x2017, 0xcf8, 0xcfa, 0xcfc, 0xffff};

	return rnd() % 16 ? PICK(some) : (uint16_t)rnd();
}

/* reg = value; in 64-bit mode with all 64 bits. */
static void emit_mov(unsigned reg, uint64_t value, bool wide)
{
	if (wide)
		*at++ = 0x48;
	*at++ = (uint8_t)(0xb8 + reg);
	emit_n(value, wide ? 8 : 4);
}

static void emit_instruction(bool wide)
{
	static const char *const plain[] = {
		"0f01d1",     "0f05",     "0f07",     "0f34",   "0f35",         "0f01f8",   "0fa2",       "0f31",
		"0f01f9",     "0f01c1",   "0f01d9",   "cf",     "48cf",         "cb",       "ca0800",     "f4",
		"fa",         "fb",       "9d",       "9c",     "0f06",         "0f08",     "0f09",       "0faa",
		"cc",         "cd80",     "f1",       "0f0b",   "6c",           "6d",       "6e",         "6f",
		"f36c",       "f36d",     "f36f",     "f3a4",   "f3ab",         "f348ab",   "0fae00",     "0fae08",
		"0fc720",     "0fc708",   "480fc70f", "0f78c0", "0f79c1",       "0f01c3",   "0f01ca",     "0f01cb",
		"0f01ee",     "0f01ef",   "fc",       "fd",     "0f20c0",       "0f22c0",   "0f22d8",     "0f22e0",
		"440f22c0",   "0f23c0",   "0f23f8",   "0f00d8", "0f00d0",       "0f0110",   "0f0118",     "0f01f0",
		"0f0138",     "0fb20f",   "8ed0",     "8ed8",   "17",           "1f",       "07",         "0fa9",
		"c8ffff1f",   "e0fe",     "ff18",     "ff28",   "ff20",         "ff10",     "660f38820f", "660f38f6c0",
		"dbe3",       "d9d0",     "0f77",     "c5fc77", "62f17c48580f", "0fae1424", "66cf",       "67f3a4",
		"f0480fb10f", "f00fc70f", "0fc7f0",   "0fc7f8",
	};
	static const char *const in_out[] = {"ec", "ed", "66ed", "ee", "ef", "66ef", "6c", "6e", "f36c", "f36e"};
	static const char *const memory[] = {"8b07",     "8907",   "8a07",     "8807",     "668907",
					     "8707",     "f00107", "f30f6f07", "f30f7f07", "0f2907",
					     "c5fe7f07", "dd37",   "ff37",     "8f07",     "48a5"};

	for (unsigned reg = 0; reg < 8; reg++)
		if (reg != 4 && rnd() % 3 == 0)
			emit_mov(reg, nasty(), wide);
	switch (rnd() % 8) {
	case 0: /* WRMSR */
		emit_mov(1, some_msr(), false);
		emit_mov(0, nasty(), false);
		emit_mov(2, nasty() >> (rnd() % 2 ? 32 : 0), false);
		emit("0f30");
		break;
	case 1: /* RDMSR */
		emit_mov(1, some_msr(), false);
		emit("0f32");
		break;
	case 2:
	case 3:
		emit_mov(2, some_port(), false);
		emit_mov(0, rnd(), false);
		emit(PICK(in_out));
		break;
	case 4: /* registers of the APICs, and other places */
		emit_mov(7, rnd() % 2 ? 0xfee00000 + (rnd() % 64) * 16 : nasty(), wide);
		emit_mov(0, nasty(), false);
		emit(PICK(memory));
		break;
	default:
		emit(PICK(plain));
		break;
	}
}

static void emit_chunk(unsigned index, bool wide)
{
	uint8_t *start = gpa(CHUNKS + index * CHUNK);

	for (unsigned i = 0; i < CHUNK; i++)
		start[i] = (uint8_t)rnd();
	at = start;
	if (rnd() % 4 == 0)
		return;
	while (at < start + CHUNK - 100) {
		if (rnd() % 4)
			emit_instruction(wide);
		else
			at += rnd() % 6; /* bytes that stay random */
	}
}

static void emit_idt(uint32_t handler, bool wide)
{
	for (unsigned v = 0; v < (wide ? 128 : 256); v++)
		put64(gpa(IDT) + v * (wide ? 16 : 8),
		      (handler & 0xffffull) | 0x10ull << 16 | 0x8e00ull << 32 | (uint64_t)(handler >> 16) << 48);
}

/* The handler takes the next chunk; so does the entry. Returns its address. */
static uint32_t emit_handler(bool wide)
{
	uint32_t address = LOAD + (uint32_t)(at - image);

	emit("bc"), emit_n(STACK, 4);            /* mov esp, STACK */
	emit("a1"), emit_n(COUNT, wide ? 8 : 4); /* mov eax, [COUNT] */
	emit(wide ? "ffc0" : "40");              /* inc eax */
	emit("a3"), emit_n(COUNT, wide ? 8 : 4); /* mov [COUNT], eax */
	emit("0fb6c069c0"), emit_n(CHUNK, 4);    /* eax = al * CHUNK + CHUNKS */
	emit("05"), emit_n(CHUNKS, 4);
	if (wide)
		emit("6a1868"), emit_n(STACK, 4); /* SS, RSP */
	emit("6a026a1050");                       /* flags, CS, IP */
	emit(wide ? "48cf" : "cf");               /* iret: NMIs may come again */
	return address;
}

static void emit_long_mode(void)
{
	put64(gpa(TABLES), (TABLES + 0x1000) | 3);
	put64(gpa(TABLES + 0x1000), (TABLES + 0x2000) | 3);
	put64(gpa(TABLES + 0x1000) + 3 * 8, (TABLES + 0x3000) | 3); /* 3-4 GiB: the APICs */
	for (uint64_t i = 0; i < 512; i++) {
		put64(gpa(TABLES + 0x2000) + i * 8, i << 21 | 0x83);
		put64(gpa(TABLES + 0x3000) + i * 8, (3ull << 30 | i << 21) | 0x83);
	}
	put64(gpa(GDT) + 0x10, 0x00af9b000000ffffull);
	put64(gpa(GDT) + 0x18, 0x00cf93000000ffffull);
	memcpy(gpa(GDTR), (uint8_t[]){0x1f, 0, GDT & 0xff, GDT >> 8 & 0xff, GDT >> 16, 0}, 6);
	emit("0f0115"), emit_n(GDTR, 4);
	emit("b8"), emit_n(0x6b0, 4), emit("0f22e0"); /* CR4 = PSE PAE PGE OSFXSR OSXMMEXCPT */
	emit("b8"), emit_n(TABLES, 4), emit("0f22d8");
	emit("b9800000c0b80109000031d20f30"); /* EFER = SCE LME NXE */
	emit("b8"), emit_n(0x80000033, 4), emit("0f22c0");
	emit("ea"), emit_n(LOAD + (uint64_t)(at - image) + 6, 4), emit("1000"); /* far jump to the next instruction */
}

static void build(uint64_t seed)
{
	bool wide = seed & 1;

	rng = seed * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned i = 0; i < 8; i++)
		rnd();
	memset(image, 0, sizeof image);
	at = image;
	emit_n(0x1badb002, 4), emit_n(0x10000, 4), emit_n(-(0x1badb002u + 0x10000u), 4);
	emit_n(LOAD, 4), emit_n(LOAD, 4), emit_n(0, 4), emit_n(0, 4), emit_n(ENTRY, 4);
	if (wide)
		emit_long_mode();
	memcpy(gpa(IDTR), (uint8_t[]){0xff, 0x07, IDT & 0xff, IDT >> 8 & 0xff, IDT >> 16, 0, 0, 0, 0, 0}, 10);
	emit(wide ? "0f011c25" : "0f011d"), emit_n(IDTR, 4);
	emit_idt(emit_handler(wide), wide);
	for (unsigned i = 0; i < CHUNK_COUNT; i++)
		emit_chunk(i, wide);
}

/* An NMI a millisecond gets the guest out of HLT and of loops; then it is stopped. */
static void *watchdog(void *opaque)
{
	struct vm *vm = opaque;

	pthread_mutex_lock(&vm->lock);
	for (unsigned ms = 0; ms < GUEST_MS && vm->end == VM_RUNNING; ms++) {
		uint32_t count = 0;

		pthread_mutex_unlock(&vm->lock);
		usleep(1000);
		pthread_mutex_lock(&vm->lock);
		memory_read(&vm->memory, COUNT, &count, sizeof count);
		if (count == 0)
			continue; /* its IDT is not there yet */
		vm->vcpu[0]->nmi_pending = true;
		vcpu_kick(vm->vcpu[0]);
	}
	vm_stop(vm, VM_QUIT);
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/* In a process of its own: 0 when the VM ended in order. */
static int run_case(uint64_t seed, const struct engine *engine, bool verbose)
{
	struct vm_config config = {.memory_size = MEMORY_SIZE,
				   .cpus = 1,
				   .engine = engine,
				   .debug_exit_port = 0xf4,
				   .testdev = true,
				   .input_fd = -1,
				   .output_fd = -1,
				   .host_fd = -1};
	char path[64];
	const char *error;
	int fd = memfd_create("guest", 0);
	pthread_t thread;

	build(seed);
	if (fd < 0 || write(fd, image, sizeof image) != (ssize_t)sizeof image)
		return 1;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	config.kernel = path;
	struct vm *vm = vm_create(&config, &error);
	if (!vm) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	pthread_create(&thread, NULL, watchdog, vm);
	enum vm_end end = vm_run(vm);
	pthread_join(thread, NULL);
	if (verbose) {
		printf("end %d\n%s", end, vm->report ? vm->report : "");
		vm_print_stats(vm, stdout);
	}
	vm_destroy(vm);
	close(fd);
	return 0;
}

/* 0: fine; else what became of it. */
static int in_child(uint64_t seed, const struct engine *engine)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		exit(run_case(seed, engine, false)); /* not _exit: the leak checker is to have its say */
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	if (poll(&p, 1, CASE_MS) == 0) {
		printf("# seed %llu, %s: hangs\n", (unsigned long long)seed, engine->name);
		kill(pid, SIGKILL);
	}
	close(p.fd);
	waitpid(pid, &status, 0);
	if (status)
		printf("# seed %llu, %s: %s\n", (unsigned long long)seed, engine->name,
		       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "bad exit");
	return status;
}

int main(int argc, char **argv)
{
	uint64_t seed = SEED;
	unsigned cases = CASES, passed = 0, failed = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--cases") == 0)
			cases = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--one") == 0 && engine_find(argv[i + 1]))
			return run_case(seed, engine_find(argv[i + 1]), true);
	}
	for (unsigned e = 0; engines[e]; e++) {
		unsigned bad = 0;

		if (!engine_runs_here(engines[e]))
			continue;
		fflush(stdout);
		for (unsigned i = 0; i < cases; i++)
			bad += in_child(seed + i, engines[e]) != 0;
		printf("%s - %u hostile guests, %s\n", bad ? "not ok" : "ok", cases, engines[e]->name);
		passed += cases - bad;
		failed += bad;
	}
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
