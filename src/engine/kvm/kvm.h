/*
 * What the files of the KVM engine share. KVM_RUN enters the guest; everything that KVM hands back comes out as the
 * same exit records as the other engines'.
 *
 * The state of a vCPU is in KVM or in struct cpu, never in both: cpu->state_away says where. It goes to KVM when the
 * vCPU is entered and comes back when somebody asks (cpu_fetch_state), not at every exit.
 * Interrupt controllers but for the local APICs, clocks, MSRs of the machine and CPUID are Ringside's own, as under every
 * engine.
 *
 * A struct kvm_vcpu belongs to its vCPU's thread, but for what kick touches. A struct kvm_vm's slots are changed by
 * vCPUs under kvm_vm.lock. Source: Linux Documentation/virt/kvm/api.rst.
 */
#ifndef RINGSIDE_KVM_H
#define RINGSIDE_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/types.h>

#include "engine/engine.h"
#include "mem/memory.h"

struct cpuid_table;

/* What /dev/kvm offers; opened once by the process and kept, so that a machine can be made anew in a sandbox. */
struct kvm_host {
	int fd;
	size_t run_size; /* bytes of struct kvm_run and what follows it */
	bool split_irqchip, irqfd, bells, sregs2, exit_on_emulation_failure;
	bool loses_xcr0; /* KVM does not learn of XSETBV (QEMU's TCG does not intercept it) */
};

/* The argument of KVM_GET_MSRS and KVM_SET_MSRS, for one of them. */
union kvm_one_msr {
	struct kvm_msrs list;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

#define KVM_PINS 24u   /* of the I/O APIC: the first routes are theirs */
#define KVM_ROUTES 32u /* for messages, behind those */

/* A message that an eventfd sends. */
struct kvm_route {
	struct apic_msi msi; /* address 0: none */
	bool has_fd;
	int fd;
	uint64_t used; /* when last, by kvm_vm.messages; 0: never */
};

struct kvm_vm {
	const struct kvm_host *host;
	int fd;
	struct memory *memory;
	pthread_mutex_t lock;
	uint32_t maps_version; /* of the mappings that the slots show */
	struct memory_map slot[MEMORY_PIECES_MAX]; /* by KVM's number; len 0: free */
	bool apics; /* the local APICs are in the kernel (apic.c); set before there are vCPUs */
	bool logs_ram;
	uint64_t *written; /* room for a log of KVM's, of any slot that has one; under lock */
	struct engine_bell bell[ENGINE_BELLS_MAX];
	unsigned bells;
	uint64_t slot_changes;
	/* messages.c's */
	struct apic_msi pin[KVM_PINS];
	struct kvm_route route[KVM_ROUTES];
	uint64_t messages, messages_by_fd, route_misses, route_changes;
};

#define KVM_EXITS 40 /* numbers of exit reasons that are counted one by one; the rest goes to the last */

/* I/O that KVM waits for: `left` bytes at data, in accesses of `size` bytes, to one port or to ascending addresses. */
struct kvm_io {
	uint8_t *data;
	uint64_t addr;
	uint32_t left;
	uint8_t size; /* of the access that the loop is at */
	uint8_t port_size; /* of every access to a port; 0: memory */
	bool write;
};

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct cpu *cpu;
	int fd;
	struct kvm_run *run;
	pid_t tid; /* atomic: the thread that is in kvm_engine_run, 0: none */
	struct kvm_io io;
	bool completes;   /* KVM has something to complete when it next runs, before it looks at the guest */
	bool flush;       /* the guest has emptied its TLB while the state was here */
	bool tsc_by_msr;  /* KVM cannot be told the offset of the TSC */
	uint64_t tsc_offset; /* as KVM knows it */
	uint8_t cr8;      /* as KVM was told; with kvm_vm.apics as KVM has it when the state is here, and so: */
	uint64_t apic_base;
	bool wait_sipi;
	uint64_t left; /* the host's TSC when the guest was last left */
	char error[160];
	struct {
		uint64_t exits[KVM_EXITS], fetches, stores, interpreted, injected;
	} stats;
};

/* host.c: 0, or -errno and why not, one line. Any thread. */
int kvm_host_open(const struct kvm_host **host, const char **why);
/* kvm.c: KVM_CREATE_VM and what is set before there are local APICs and vCPUs, by the self-test too: of *vm host is set, fd is
 * set here (-1: there is none). 0, or -errno with *what: the name of what failed. */
int kvm_vm_make(struct kvm_vm *vm, const char **what);
/* By who has run the self-test, before there are VMs. */
void kvm_host_loses_xcr0(void);

/* memory.c: makes the slots show what the memory map shows, if it has changed since. 0 or -errno. Any vCPU's thread. */
int kvm_memory_update(struct kvm_vm *vm);
void kvm_note_written(void *engine_vm); /* as struct memory.note_written */
int kvm_log_ram(void *engine_vm, bool on);  /* as struct engine.log_ram */
/* An access that KVM took for I/O though memory is there now: does it. False: it is I/O. */
bool kvm_memory_access(struct kvm_vm *vm, uint64_t gpa, uint8_t *data, unsigned len, bool write);

/* bells.c: as struct engine.bells. */
void kvm_bells(void *engine_vm, const struct engine_bell *bell, unsigned count);

/* features.c: what the guest may be shown. 0 or -errno. */
int kvm_limit_cpuid(void *engine_vm, struct cpuid_table *t);
int kvm_set_cpuid(struct kvm_vcpu *k);  /* the vCPU's table into KVM; -EOPNOTSUPP if KVM has less than it says */
int kvm_set_msr_filter(struct kvm_vm *vm);
bool kvm_owns_msr(const struct kvm_vm *vm, uint32_t msr); /* KVM has this MSR; all others are src/cpu/msr.c's */

/* state.c: between struct cpu and KVM. 0, or -errno with k->error set. */
int kvm_state_store(struct kvm_vcpu *k);
int kvm_state_load(struct kvm_vcpu *k);
int kvm_store_tsc_offset(struct kvm_vcpu *k);

/* apic.c: the local APICs in the kernel; of kvm_vm.apics only. 0, or -errno with k->error set. */
extern const struct engine_apics kvm_apics;
int kvm_apic_store(struct kvm_vcpu *k); /* whether it runs, is halted, waits for a SIPI; after the rest of the state */
int kvm_apic_load(struct kvm_vcpu *k);  /* before the rest: an INIT or SIPI that has come takes effect */
bool kvm_apic_extint(struct kvm_vcpu *k, uint8_t vector); /* the 8259's; false: not now */
/* KVM tells of the end of level-triggered interrupts also where the guest has said that it tells the I/O APIC itself. */
bool kvm_apic_broadcasts_eoi(struct kvm_vcpu *k);
int kvm_set_msr(struct kvm_vcpu *k, uint32_t index, uint64_t value, const char *name);
uint64_t kvm_get_msr(struct kvm_vcpu *k, uint32_t index); /* 0 if there is none */

/* clock.c: as in struct engine_apics; and when a vCPU's TSC was changed: 0, or -errno with k->error set. */
#define KVM_MSR_SYSTEM_TIME 0x4b564d01u
int kvm_get_clock(void *engine_vm, uint64_t *ns);
int kvm_set_clock(void *engine_vm, uint64_t ns);
int kvm_clock_again(struct kvm_vcpu *k);

/* messages.c: as in struct engine_apics; and before the local APICs' state is read, or the VM ends: what is on its way has
 * arrived then. */
int kvm_message(struct kvm_vm *vm, const struct apic_msi *m);
int kvm_set_pins(struct kvm_vm *vm, const struct apic_msi *pin, unsigned count);
void kvm_end_messages(struct kvm_vm *vm);

/* run.c: functions of struct engine and of struct cpu_engine_hooks, as there. */
void kvm_engine_run(struct cpu *cpu, struct exit *exit);
void kvm_engine_kick(struct cpu *cpu);
bool kvm_engine_deliver(struct cpu *cpu, enum event_type type, uint8_t vector);
void kvm_engine_fetch(struct cpu *cpu);
int kvm_signal_init(void); /* the kick's, once a process; 0 or -errno. Any thread */
/* "What: why" into k->error; -err. */
int kvm_fail(struct kvm_vcpu *k, const char *what, int err);

static inline struct kvm_vcpu *kvm_vcpu_of(struct cpu *cpu) { return cpu->engine_state; }

#endif
