/*
 * The machine as a library: VMs in one process, each with a serial line of its own, on every engine;
 * how they end; interrupts from a device to a halted vCPU; input and output.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "machine/vm.h"

static void check_on(const char *name, const char *engine, bool ok)
{
	char text[100];

	snprintf(text, sizeof text, "%s, %s", name, engine);
	check_named(text, ok);
}

/* A flat Multiboot image at 1 MiB: header, then 32-bit code. Its path is in `path`. */
static void make_image(const uint8_t *code, size_t len, char path[32])
{
	const uint32_t header[8] = {0x1badb002, 0x10000, -(0x1badb002u + 0x10000u), 0x100000, 0x100000, 0, 0, 0x100020};
	int fd = memfd_create("image", 0);

	if (fd < 0 || write(fd, header, sizeof header) != sizeof header || write(fd, code, len) != (ssize_t)len)
		abort();
	snprintf(path, 32, "/proc/self/fd/%d", fd);
}

struct guest {
	struct vm *vm;
	int in[2], out[2];
	enum vm_end end;
	pthread_t thread;
};

static void *run(void *opaque)
{
	struct guest *g = opaque;

	g->end = vm_run(g->vm);
	close(g->out[1]);
	return NULL;
}

static bool start(struct guest *g, const struct engine *engine, const uint8_t *code, size_t len)
{
	char path[32];
	const char *error = "";
	struct vm_config config = {.memory_size = 16 << 20,
				   .cpus = 1,
				   .engine = engine,
				   .kernel = path,
				   .debug_exit_port = 0xf4,
				   .host_fd = -1};

	if (pipe(g->in) < 0 || pipe(g->out) < 0)
		abort();
	make_image(code, len, path);
	config.input_fd = g->in[0];
	config.output_fd = g->out[1];
	g->vm = vm_create(&config, &error);
	if (!g->vm) {
		printf("# %s\n", error);
		return false;
	}
	return pthread_create(&g->thread, NULL, run, g) == 0;
}

static void finish(struct guest *g)
{
	pthread_join(g->thread, NULL);
	vm_destroy(g->vm);
	close(g->in[0]);
	close(g->in[1]);
	close(g->out[0]);
}

static void stop(struct guest *g)
{
	pthread_mutex_lock(&g->vm->lock);
	vm_stop(g->vm, VM_QUIT);
	pthread_mutex_unlock(&g->vm->lock);
}

/* Raises RTS, then sends back what it receives, plus one. */
static const uint8_t echo[] = {
	0x66, 0xba, 0xfc, 0x03, 0xb0, 0x03, 0xee,             /* out 0x3fc, 3 */
	0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, /* wait for 0x3fd bit 0 */
	0x66, 0xba, 0xf8, 0x03, 0xec, 0xfe, 0xc0, 0xee, 0xeb, 0xed,
};

static void two_at_once(const struct engine *engine)
{
	struct guest a, b;
	char c[2] = "";

	if (!start(&a, engine, echo, sizeof echo) || !start(&b, engine, echo, sizeof echo)) {
		check_on("two VMs in one process", engine->name, false);
		return;
	}
	bool ok = write(a.in[1], "A", 1) == 1 && write(b.in[1], "x", 1) == 1 && read(b.out[0], c, 1) == 1 &&
		  read(a.out[0], c + 1, 1) == 1;
	check_on("two VMs in one process, each with its serial line", engine->name, ok && c[0] == 'y' && c[1] == 'B');
	stop(&a);
	ok = write(b.in[1], "0", 1) == 1 && read(b.out[0], c, 1) == 1;
	check_on("one ends, the other goes on", engine->name, ok && c[0] == '1');
	stop(&b);
	finish(&a);
	finish(&b);
	check_on("both were stopped", engine->name, a.end == VM_QUIT && b.end == VM_QUIT);
}

/* One guest to its end. */
static enum vm_end ends(const struct engine *engine, const uint8_t *code, size_t len, int *debug_exit)
{
	struct guest g;

	if (!start(&g, engine, code, len))
		return VM_RUNNING;
	pthread_join(g.thread, NULL);
	pthread_create(&g.thread, NULL, run, &g); /* a second vm_run of an ended VM returns at once */
	*debug_exit = g.vm->debug_exit_code;
	finish(&g);
	return g.end;
}

static const uint8_t off[] = {0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x34, 0x66, 0xef, 0xeb, 0xfe};
static const uint8_t reset[] = {0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe};
static const uint8_t fault[] = {0x0f, 0x0b};
static const uint8_t debug_exit[] = {0xb0, 0x2a, 0xe6, 0xf4, 0xeb, 0xfe};
/* Sets up the 8259s (vectors 0x20 on) and counter 0 of the 8254 (1 ms), sleeps three times in HLT, then exits with 3.
 */
#define TIMER_SLEEPS 15 /* bytes at its end: ebx = 0, and what follows */
static const uint8_t timer[] = {
	0xbc, 0x00, 0x00, 0x20, 0x00, /* mov esp, 0x200000 */
	0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe,
	0xe6, 0x21, 0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40, 0xc7, 0x05, 0x00, 0x01,
	0x11, 0x00, 0x00, 0x02, 0x10, 0x00, /* gate 0x20 at 0x110100: selector 0x10, offset 0x100200 */
	0xc7, 0x05, 0x04, 0x01, 0x11, 0x00, 0x00, 0x8e, 0x10, 0x00, 0x0f, 0x01, 0x1d, 0x00, 0x03, 0x10, 0x00, /* lidt
														 [0x100300]
													       */
	0x31, 0xdb,                               /* ebx = 0 */
	0xfb, 0xf4, 0x83, 0xfb, 0x03, 0x72, 0xf9, /* sti; hlt; cmp ebx, 3; jb back to sti */
	0x88, 0xd8, 0xe6, 0xf4, 0xeb, 0xfe,       /* out 0xf4, bl */
};
static const uint8_t timer_handler[] = {0x43, 0xb0, 0x20, 0xe6, 0x20, 0xcf}; /* inc ebx; EOI; iret */
static const uint8_t timer_idtr[] = {0xff, 0x07, 0x00, 0x00, 0x11, 0x00};

static void timer_image(uint8_t *code, size_t size)
{
	memset(code, 0, size);
	memcpy(code, timer, sizeof timer);
	memcpy(code + 0x200 - 0x20, timer_handler, sizeof timer_handler);
	memcpy(code + 0x300 - 0x20, timer_idtr, sizeof timer_idtr);
}

static void all_ends(const struct engine *engine)
{
	uint8_t code[0x300];
	int status = 0;

	check_on("power off", engine->name, ends(engine, off, sizeof off, &status) == VM_POWER_OFF);
	check_on("reset", engine->name, ends(engine, reset, sizeof reset, &status) == VM_RESET);
	check_on("triple fault", engine->name, ends(engine, fault, sizeof fault, &status) == VM_TRIPLE_FAULT);
	check_on("debug exit", engine->name,
	      ends(engine, debug_exit, sizeof debug_exit, &status) == VM_DEBUG_EXIT && status == 85);
	timer_image(code, sizeof code);
	check_on("the timer's interrupts end HLT", engine->name,
	      ends(engine, code, sizeof code, &status) == VM_DEBUG_EXIT && status == 7);
}

/* ---- an engine that has the local APICs, and asks of the machine to deliver the 8259's interrupts ---- */

static bool lint0_open;

static int apics_begin(void *engine_vm) { return (void)engine_vm, 0; }
static int apics_message(void *engine_vm, const struct apic_msi *m) { return (void)engine_vm, (void)m, 1; }
static int apics_routes(void *engine_vm, const struct apic_msi *pin, unsigned count)
{
	return (void)engine_vm, (void)pin, (void)count, 0;
}
static int apics_put(struct cpu *cpu, const struct apic_state *s) { return (void)cpu, (void)s, 0; }
static bool apics_takes_extint(struct cpu *cpu, bool sent) { return cpu_interruptible(cpu) && (sent || lint0_open); }
static int apics_set_clock(void *engine_vm, uint64_t ns) { return (void)engine_vm, (void)ns, 0; }

static const struct engine_apics apics = {
	.begin = apics_begin, .message = apics_message, .routes = apics_routes, .put = apics_put, .takes_extint = apics_takes_extint,
	.set_clock = apics_set_clock,
};

/* In place of the sleeps: waits until the 8259 requests the timer's interrupt, lets interrupts in for a while, and exits
 * with how many there were. */
static const uint8_t requested[] = {
	0x31, 0xdb,                                                 /* ebx = 0 */
	0xb0, 0x0a, 0xe6, 0x20, 0xe4, 0x20, 0xa8, 0x01, 0x74, 0xfa, /* OCW3: IRR; until bit 0 is set */
	0xb9, 0xe8, 0x03, 0x00, 0x00, 0xfb, 0xe2, 0xfe, 0xfa,       /* sti; 1000 times round; cli */
	0x88, 0xd8, 0xe6, 0xf4, 0xeb, 0xfe,                         /* out 0xf4, bl */
};

static void lint0_says(void)
{
	struct engine engine = engine_interp;
	uint8_t code[0x300];
	int status = 0;

	engine.apics = &apics;
	timer_image(code, sizeof code);
	memcpy(code + sizeof timer - TIMER_SLEEPS, requested, sizeof requested);
	check_on("an engine's LINT0 masks the 8259's interrupt", "interp",
		 ends(&engine, code, sizeof code, &status) == VM_DEBUG_EXIT && status == 1);
	lint0_open = true;
	check_on("an engine's LINT0 lets the 8259's interrupt through", "interp",
		 ends(&engine, code, sizeof code, &status) == VM_DEBUG_EXIT && status > 1);
}

static void *no_room(struct memory *memory)
{
	(void)memory;
	errno = ENOMEM;
	return NULL;
}

static void fallback(void)
{
	struct engine none = engine_interp;
	struct vm_config config = {.memory_size = 16 << 20, .cpus = 1, .engine = &none, .kernel = "/nonexistent", .input_fd = -1,
				   .output_fd = -1, .debug_exit_port = -1, .host_fd = -1};
	const char *error = NULL;

	none.name = "none";
	none.vm_create = no_room;
	check_on("no room", "an engine", !vm_create(&config, &error) && strstr(error, "none: Cannot allocate memory"));
	config.fallback = &engine_interp;
	check_on("no room", "its fallback goes on", !vm_create(&config, &error) && strstr(error, "/nonexistent"));
	config.fallback = &none;
	check_on("no room", "nor its fallback", !vm_create(&config, &error) && strstr(error, "none: Cannot"));

	char path[32];
	make_image(echo, sizeof echo, path);
	config.kernel = path;
	config.fallback = &engine_interp;
	none.vm_create = engine_interp.vm_create;
	struct vm *vm = vm_create(&config, &error);
	none.vm_create = no_room;
	check_on("no room", "after a reset", vm && !vm_reset(vm, &error) && strstr(error, "none: Cannot"));
	if (vm)
		vm_destroy(vm);
}

static void refusals(void)
{
	struct vm_config config = {.memory_size = 16 << 20,
				   .cpus = 1,
				   .engine = engine_find("bt"),
				   .kernel = "/nonexistent",
				   .debug_exit_port = -1,
				   .input_fd = -1,
				   .output_fd = -1,
				   .host_fd = -1};
	const char *error = NULL;

	check_on("no kernel", "vm_create", !vm_create(&config, &error) && strstr(error, "/nonexistent"));
	config.memory_size = 1ull << 50;
	check_on("too much memory", "vm_create", !vm_create(&config, &error) && strstr(error, "cannot provide"));
	config.memory_size = 16 << 20;
	config.cpus = VCPUS_MAX + 1;
	check_on("too many processors", "vm_create", !vm_create(&config, &error) && strstr(error, "--cpus"));
}

int main(void)
{
	alarm(60); /* a VM that does not end is a failure, not a wait */
	for (unsigned e = 0; engines[e]; e++) {
		if (!engine_runs_here(engines[e]))
			continue;
		two_at_once(engines[e]);
		all_ends(engines[e]);
	}
	lint0_says();
	fallback();
	refusals();
	return summary();
}
