/*
 * A VM: memory, buses, devices, vCPUs. A VM is a few threads of this process: one a vCPU, running
 * the one loop (vcpu.c), and one for I/O (the thread that called vm_run).
 *
 * It has a host's side, which lives as long as the VM (the loop, timers, console, disks and networks behind the
 * devices), and a machine, which a reset throws away and builds anew.
 *
 * vm->lock guards every device, both timer queues and the interrupt controllers. A vCPU takes it
 * in the analyse and prepare steps only, never while it is in the guest.
 */
#ifndef RINGSIDE_VM_H
#define RINGSIDE_VM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cpu/cpuid.h"
#include "dev/rtc.h"
#include "engine/engine.h"
#include "machine/backends.h"
#include "machine/chipset.h"
#include "machine/devices.h"
#include "machine/firmware.h"
#include "machine/pv.h"
#include "machine/uefi.h"
#include "mem/bus.h"
#include "mem/memory.h"
#include "util/loop.h"
#include "util/timer.h"

#define VCPUS_MAX 64

struct vm;
struct lapic;
struct pc;      /* the devices: machine/pc.c */
struct console; /* the host's end of the serial line: machine/console.c */

/* What an instruction asks of the machine without an exit (vcpu_env.c). */
#define VCPU_QUESTIONS(X) \
	X(QUESTION_CR8, "CR8") \
	X(QUESTION_APIC_BASE, "APIC base MSR") \
	X(QUESTION_X2APIC, "x2APIC registers") \
	X(QUESTION_PV, "paravirtual MSRs") \
	X(QUESTION_HYPERCALL, "hypercalls")

enum vcpu_question {
#define X(id, name) id,
	VCPU_QUESTIONS(X)
#undef X
	QUESTION_COUNT
};

struct vcpu_stats {
	uint64_t exits[EXIT_REASON_COUNT];
	uint64_t lapic_accesses; /* of EXIT_MMIO */
	uint64_t questions[QUESTION_COUNT];
	uint64_t guest_ns, halted_ns;
	uint64_t yields; /* loops of PAUSEs that gave the host core up */
};

struct vcpu {
	struct vm *vm;
	struct cpu cpu;
	struct lapic *lapic;
	pthread_t thread;
	bool thread_started;
	pthread_cond_t wake; /* with vm->lock: HLT ends, INIT/SIPI came, the VM stops */
	bool parked;         /* under vm->lock: asleep because of vm->held */
	bool in_guest;       /* under vm->lock: between VM entry and VM exit, so that a kick must reach the engine */
	/* Asked for by other vCPUs or devices, under vm->lock; the prepare step takes them. */
	bool init_pending, nmi_pending;
	bool wait_sipi;  /* an application processor after RESET or INIT */
	int sipi_vector; /* -1: none came */
	/* An event that is being delivered; it stays here while its delivery needs I/O done outside. */
	struct {
		bool valid;
		enum event_type type;
		uint8_t vector;
	} event;
	uint64_t pause_first, pause_last; /* TSC: of a loop of PAUSEs. This vCPU's thread only */
	uint64_t tsc_offset; /* as the paravirtual clock knows it */
	struct timer look_again; /* whether an interrupt can be delivered */
	struct vcpu_pv pv; /* under vm->lock */
	struct vcpu_stats stats;
};

enum vm_end {
	VM_RUNNING,
	VM_POWER_OFF,
	VM_RESET,        /* a reset was asked for */
	VM_TRIPLE_FAULT,
	VM_QUIT,         /* the user: Ctrl-A x, or who called vm_stop */
	VM_OUTPUT_CLOSED, /* nobody reads the serial line any more */
	VM_DEBUG_EXIT,   /* ISA debug exit: vm->debug_exit_code */
	VM_ERROR,
};

struct vm_config {
	enum machine_type machine;
	uint64_t memory_size; /* bytes */
	unsigned cpus;
	const struct engine *engine;
	const struct engine *fallback; /* if vm_create finds this host without what `engine` takes; NULL: none */
	const char *kernel, *initrd, *append; /* paths, command line; kernel NULL: firmware boots; initrd NULL = none */
	struct firmware_config firmware;
	bool no_reboot;
	bool no_hpet;
	bool own_apics; /* local APICs are the machine's, also where the engine could have them */
	struct backends_config backends;
	struct devices_config devices;
	int debug_exit_port; /* -1 = none */
	bool testdev;
	bool counting; /* statistics are wanted: count retired instructions and TLB hits too */
	/* The host's end of the serial line; -1: none, output is dropped. Neither is made non-blocking. */
	int input_fd, output_fd;
	bool escape_keys; /* Ctrl-A in the input is for Ringside, see console.c */
	/* One more descriptor for the I/O thread to poll, and what to do when it is readable (vm->lock not
	 * held): signals, for a program whose only VM this is. host_fd -1: none. */
	int host_fd;
	void (*host_ready)(void *opaque, struct vm *vm);
	void *host_opaque;
};

struct vm {
	struct vm_config config;
	pthread_mutex_t lock;
	/* the host's side */
	struct loop *loop;
	struct timer_queue *timers;
	struct console *console;
	struct backends backends;
	struct uefi_vars uefi_vars;
	struct rtc_battery battery;
	struct loop_fd timers_fd, host_fd;
	/* the machine */
	struct memory memory;
	struct bus pio, mmio;
	struct firmware firmware;
	struct cpuid_table cpuid;
	void *engine_vm;
	const struct engine_apics *apics; /* the engine has the local APICs (apics.h); NULL: it has not */
	unsigned vcpu_count;
	struct vcpu *vcpu[VCPUS_MAX];
	struct pc *pc;
	struct devices devices;
	bool held;               /* under lock: vCPUs are to park, and stay so (move.c) */
	pthread_cond_t came_out; /* with lock: one has parked */
	unsigned moves;          /* to another engine */
	enum vm_end end; /* under lock; vm_stop sets it once */
	int debug_exit_code;
	char *report;    /* VM_TRIPLE_FAULT, VM_ERROR: what happened and the vCPU's state, as text */
	uint64_t started; /* ns */
};

/* Builds the machine of `config` (whose strings must outlive it). NULL: *error is one line for the user,
 * valid until this thread's next vm_create. So it is when vm->config.engine is the fallback: why. */
struct vm *vm_create(const struct vm_config *config, const char **error);
void vm_destroy(struct vm *vm);
/* After vm_run came back with VM_RESET: a new machine of the same configuration, on the same backends; vm_run then starts
 * it. False: *error as above, and only vm_destroy is left to do. */
bool vm_reset(struct vm *vm, const char **error);
/* Starts the vCPUs and serves I/O on the calling thread until the guest ends. */
enum vm_end vm_run(struct vm *vm);
/* Ends the VM (first caller wins). Any thread, vm->lock held. */
void vm_stop(struct vm *vm, enum vm_end end);
/* move.c: lets another engine go on with the guest, from the instruction boundary that each vCPU is at; config.engine is
 * it from then on, after a reset too. vm->lock held, and given up for a moment; any thread but a vCPU's. False: *error
 * as above, and the guest runs on where it was (or, if not even that is possible any more, has ended). */
bool vm_move(struct vm *vm, const struct engine *to, const char **error);
/* Makes the I/O thread look at its descriptors again. Any thread. */
void vm_wake_io(struct vm *vm);
void vm_print_stats(struct vm *vm, FILE *out); /* stats.c; vm->lock not held */

/* vcpu.c: a vCPU's life. vcpu_new: 0 or -errno; the VM's memory, CPUID table and engine are there. */
int vcpu_new(struct vm *vm, unsigned index);
void vcpu_free(struct vcpu *v);
/* The one loop, a vCPU thread's main function. */
void *vcpu_main(void *vcpu);
/* Something may be pending for this vCPU: wakes it from HLT or out of the guest. vm->lock held. */
void vcpu_kick(struct vcpu *v);

/* vcpu_env.c: what the processor asks of the machine; opaque is the struct vcpu. */
extern const struct cpu_env vcpu_env;

#endif
