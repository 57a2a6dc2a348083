/*
 * An engine is a way to enter the guest. All stand behind this table and give back struct exit.
 * Nothing outside src/engine asks which engine runs.
 */
#ifndef RINGSIDE_ENGINE_H
#define RINGSIDE_ENGINE_H

#include <stdio.h>

#include "cpu/apic.h"
#include "cpu/cpu.h"

struct cpuid_table;
/* Told of `size` bytes of the host's memory at `start`, and what they are for. */
typedef void range_fn(void *arg, const char *name, const void *start, size_t size);

/* Of an engine that can have the local APICs itself, as the host's kernel can. Messages between vCPUs, timers, HLT, INIT and
 * SIPI, paravirtual EOI, steal time and the paravirtual clock are its affair then, and run comes back for none of them;
 * the machine's own local APICs sleep. The 8259's interrupts stay the loop's, by `deliver`, when takes_extint says so. */
struct engine_apics {
	/* Before limit_cpuid and before there are vCPUs: it will have them in this VM. 0, -EOPNOTSUPP: not here, or -errno. */
	int (*begin)(void *engine_vm);
	/* A message to local APICs. Any thread, under vm->lock. How many took it, 0 if it was pending in all of them already, 1
	 * if that is not known; -errno: nobody. */
	int (*message)(void *engine_vm, const struct apic_msi *m);
	/* What `count` pins of the I/O APIC send that are level-triggered: where a vCPU has ended such an interrupt, run comes
	 * back with EXIT_EOI. Any thread, under vm->lock. 0 or -errno. */
	int (*routes)(void *engine_vm, const struct apic_msi *pin, unsigned count);
	/* A vCPU's, which is not in run: to the engine, before it first runs there; and back, before vcpu_destroy. 0 or -errno. */
	int (*put)(struct cpu *cpu, const struct apic_state *s);
	int (*get)(struct cpu *cpu, struct apic_state *s);
	/* Does the vCPU, which is not in run, take the 8259's interrupt now? By LINT0, of which run comes back with EXIT_IRQ_WINDOW
	 * when it does; or, if it was `sent` by the I/O APIC, whatever LINT0 says: then nobody tells when. */
	bool (*takes_extint)(struct cpu *cpu, bool sent);
	/* What the paravirtual clock says, ns; and that it says this from now on. Any thread; to set it: while no vCPU is in run. 0
	 * or -errno. */
	int (*get_clock)(void *engine_vm, uint64_t *ns);
	int (*set_clock)(void *engine_vm, uint64_t ns);
};

#define ENGINE_BELLS_MAX 256
/* A write of any size to this address, of a port or of memory, is answered by adding to the eventfd, and no exit. */
struct engine_bell {
	uint64_t addr;
	bool port;
	int fd;
};

struct engine {
	const char *name, *help;
	unsigned cpus_max; /* vCPUs that a VM may have; 0: any number */
	/* Whether this host is fit for it: 0, or -errno and why not, in one line of less than 200 characters; with 0
	 * perhaps what it found. May take some 100 ms and a child process; on the main thread, before there are others.
	 * NULL: it shows when it is used. */
	int (*probe)(char *why, size_t size);
	/* A device file that vm_create opens, by sandbox_open; NULL: none. */
	const char *device;
	/* It runs also where the host gives no executable memory. What the interpreter does for it there cannot be a vector or x87
	 * instruction: that ends the machine with EXIT_ERROR. */
	bool without_code;
	/* Makes what a VM takes that cannot be made in a sandbox: executable memory. Any number of times; main thread.
	 * 0 or -errno. NULL: nothing. */
	int (*reserve)(void);
	/* Once a VM, and again when the VM is moved to this engine in mid-run, with devices running, then between memory_hold
	 * and memory_release: state shared by its vCPUs. NULL and errno on failure; EBUSY: not now. */
	void *(*vm_create)(struct memory *memory);
	void (*vm_destroy)(void *engine_vm);
	/* Takes from the guest's CPUID what this engine's host lacks, before there are vCPUs. 0 or -errno. NULL: nothing. */
	int (*limit_cpuid)(void *engine_vm, struct cpuid_table *t);
	/* Once a vCPU, on any thread, before it runs. Sets cpu->hooks, cpu->engine_state. 0 or -errno. */
	int (*vcpu_create)(void *engine_vm, struct cpu *cpu);
	/* On any thread, while the vCPU is not in run. When it is at an instruction boundary (cpu->io is empty) all that the
	 * guest can see of it is left in *cpu: another engine, or this one made anew, may go on from there. */
	void (*vcpu_destroy)(struct cpu *cpu);
	/* Enters the guest until an exit; on the vCPU's thread, vm->lock not held. On return all state
	 * is in *cpu (fpu_live false) at an instruction boundary, or can be had from there on by cpu_fetch_state: after an
	 * exit for I/O only when the next run has used the answer (cpu->io.count is 0 again). Never delivers maskable interrupts
	 * itself: the loop does, in its prepare step. When cpu->request is set it returns soon with
	 * EXIT_REQUEST; when an instruction sets IF (or ends a shadow) while request has REQUEST_EXIT
	 * set it returns as well. */
	void (*run)(struct cpu *cpu, struct exit *exit);
	/* From any thread but the one in run: makes it return soon. Sets REQUEST_EXIT; wakes generated code. */
	void (*kick)(struct cpu *cpu);
	/* The loop has an event, EVENT_EXTERNAL or EVENT_NMI, that may be delivered now: true if the engine does it when
	 * it next runs; false: the loop is to do it in *cpu. On the vCPU's thread. NULL: always the loop. */
	bool (*deliver)(struct cpu *cpu, enum event_type type, uint8_t vector);
	const struct engine_apics *apics; /* NULL: it has none */
	/* All there are from now on, in place of those before. Any thread. What it cannot do stays an exit, as all does with
	 * NULL. */
	void (*bells)(void *engine_vm, const struct engine_bell *bell, unsigned count);
	/* From now on, or no longer, memory_block_take_written tells of RAM too what vCPUs have written, in whole pages; the first
	 * time nothing is marked that was written before. Any thread. 0 or -errno. NULL: it cannot. */
	int (*log_ram)(void *engine_vm, bool on);
	/* Prints the engine's part of --stats. NULL: none. */
	void (*print_stats)(void *engine_vm, struct cpu *const *cpus, unsigned count, FILE *out);
	/* Tells of the memory it has mapped for the VM, a range at a time; the same name may come again. NULL: none. */
	void (*each_range)(void *engine_vm, range_fn *tell, void *arg);
};

void engine_print(FILE *out, const char *name, uint64_t value); /* a line of it */

extern const struct engine engine_interp, engine_bt, engine_check, engine_kvm;
const struct engine *engine_find(const char *name); /* NULL: unknown */
extern const struct engine *const engines[];        /* NULL-terminated, best first */
/* What its probe says; the first time it is asked, on the main thread before there are others, and remembered. */
int engine_probe(const struct engine *engine, char *why, size_t size);
bool engine_runs_here(const struct engine *engine);
/* Asks all engines without a device, which cost nothing to ask. Like engine_probe. */
void engine_probe_cheap(void);
/* Any thread: it was found out before that this host is fit for it. Nothing is tried. */
bool engine_found_fit(const struct engine *engine);
/* Calls reserve: of `engine`, and with `all` also of those that a VM may be moved to; and makes the interpreter's part
 * for so many vCPUs, if it can or has to be. 0 or -errno. */
int engine_reserve(const struct engine *engine, bool all, unsigned vcpus);
/* The best engine that this host is fit for, as probe says it; `why` gets "NAME: why not" of those that are better. */
const struct engine *engine_choose(char *why, size_t size);
/* The best behind it; NULL: none. */
const struct engine *engine_after(const struct engine *engine);

/* interp: runs exactly one instruction (or one iteration group of a REP) at cpu->rip, delivering
 * any exception it raises. Every engine may call it. X_OK or X_EXIT (cpu->exit). */
enum x interp_step(struct cpu *cpu);
/* The same for an instruction at cpu->rip that is decoded already, while neither a shadow nor anything of the
 * debug kind is about (RFLAGS.TF and RF, breakpoints, cpu->db_pending). */
enum x interp_run_decoded(struct cpu *cpu, const struct insn *insn);
/* Delivers cpu->fault, which the instruction at cpu->rip has raised; X_OK or X_EXIT. */
enum x interp_deliver(struct cpu *cpu);
/* Makes what the interpreter keeps for the calling thread. Whoever calls interp_step with guest vector state
 * live calls this once on the thread before: to allocate memory uses vector registers. */
void interp_prepare(struct cpu *cpu);
/* Makes beforehand what so many threads need for that: executable memory. 0 or -errno. */
int interp_reserve(unsigned threads);
/* The same without delivering: X_FAULT leaves the exception in cpu->fault. `insn` already decoded. */
enum x interp_execute(struct cpu *cpu, const struct insn *insn);

#endif
