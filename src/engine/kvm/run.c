/*
 * KVM_RUN and what comes back: exits, I/O in the pieces that the loop takes, kicks, events.
 *
 * On the vCPU's thread, but for kvm_engine_kick. KVM completes an access to a device when it next runs: the loop's answer
 * goes from cpu->io into what KVM shares with us, and the log is empty again. With kvm_run.immediate_exit KVM completes
 * and comes back without entering the guest, which is how the state gets to an instruction boundary.
 *
 * A kick is a request, immediate_exit, and a signal that ends KVM_RUN. Sources: Linux Documentation/virt/kvm/api.rst,
 * "The kvm_run structure".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/fpu.h"
#include "engine/kvm/kvm.h"
#include "engine/signals.h"
#include "util/log.h"

#define MSR_X2APIC_TPR 0x808u
#define RUNS_TO_COMPLETE 128 /* I/O exits of one instruction, at most */

int kvm_fail(struct kvm_vcpu *k, const char *what, int err)
{
	snprintf(k->error, sizeof(k->error), "kvm: %s: %s", what, strerror(err));
	return -err;
}

static void fails(struct kvm_vcpu *k, struct exit *exit)
{
	*exit = (struct exit){ .reason = EXIT_ERROR, .error = k->error };
}

/* ---- I/O ---- */

static void io_begin(struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;

	if (run->exit_reason == KVM_EXIT_IO)
		k->io = (struct kvm_io){
			.data = (uint8_t *)run + run->io.data_offset, .addr = run->io.port,
			.left = run->io.count * run->io.size, .port_size = run->io.size,
			.write = run->io.direction == KVM_EXIT_IO_OUT,
		};
	else
		k->io = (struct kvm_io){
			.data = run->mmio.data, .addr = run->mmio.phys_addr, .left = run->mmio.len,
			.write = run->mmio.is_write,
		};
}

/* The next piece, for the loop. Memory accesses that cross a page come in odd sizes. */
static void io_exit(struct kvm_vcpu *k, struct exit *exit)
{
	struct kvm_io *io = &k->io;

	io->size = io->port_size ? io->port_size : io->left >= 8 ? 8 : io->left >= 4 ? 4 : io->left >= 2 ? 2 : 1;
	*exit = (struct exit){
		.reason = io->port_size ? EXIT_PIO : EXIT_MMIO,
		.io = { .addr = io->addr, .size = io->size, .write = io->write, .port = io->port_size },
	};
	if (io->write)
		memcpy(&exit->io.value, io->data, io->size);
}

static void io_answer(struct kvm_vcpu *k, uint64_t value)
{
	struct kvm_io *io = &k->io;

	if (!io->write)
		memcpy(io->data, &value, io->size);
	io->data += io->size;
	io->left -= io->size;
	if (!io->port_size)
		io->addr += io->size;
}

/* ---- the state ---- */

/* Software may have changed TPR by the local APIC's registers, of which KVM knows nothing. */
static void tell_cr8(struct kvm_vcpu *k, uint8_t cr8)
{
	if (!k->vm->apics)
		k->run->cr8 = k->cr8 = cr8;
}

static void came_back(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	const struct kvm_run *run = k->run;

	cpu->rip = run->s.regs.regs.rip;
	cpu->rflags = (cpu->rflags & ~(uint64_t)RFLAGS_IF) | (run->if_flag ? RFLAGS_IF : 0);
	cpu->sti_shadow = run->if_flag && !run->ready_for_interrupt_injection;
	cpu->mov_ss_shadow = false;
	cpu->nmi_blocked = false; /* KVM sees to that */
	if (!k->vm->apics && run->cr8 != k->cr8) {
		k->cr8 = (uint8_t)run->cr8;
		cpu->env->set_tpr(cpu->env_opaque, k->cr8);
	}
}

/* Lets KVM complete what it has begun. What it asks for is answered as if nobody were there, unless the loop's answer
 * is there: whoever wants the state in the middle of I/O does not let the instruction end. */
static void complete(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;

	for (unsigned n = 0; k->completes && n < RUNS_TO_COMPLETE; n++) {
		while (k->io.left) {
			uint64_t value = cpu->io.count ? cpu->io.access[cpu->io.count - 1].value : UINT64_MAX;

			cpu->io.count = cpu->io.next = 0;
			io_answer(k, value);
		}
		k->run->immediate_exit = 1;
		k->completes = false;
		if (ioctl(k->fd, KVM_RUN, 0) == 0 &&
		    (k->run->exit_reason == KVM_EXIT_IO || k->run->exit_reason == KVM_EXIT_MMIO)) {
			io_begin(k);
			k->completes = true;
		}
	}
}

void kvm_engine_fetch(struct cpu *cpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);

	complete(k);
	if (kvm_state_load(k) < 0)
		fails(k, &cpu->owed);
	cpu->state_away = false;
}

/* One instruction by the interpreter, with the state here. False: an exit, for the loop. */
static bool interpret(struct kvm_vcpu *k, struct exit *exit)
{
	struct cpu *cpu = k->cpu;
	enum x x;

	k->stats.interpreted++;
	x = interp_step(cpu);
	cpu_fpu_leave(cpu);
	if (x == X_EXIT) {
		*exit = cpu->exit;
		return false;
	}
	if (cpu->want_irq_window && cpu_window_open(cpu)) {
		exit->reason = EXIT_IRQ_WINDOW;
		return false;
	}
	return true;
}

/* The state to KVM. What KVM cannot go on from is done here first: an instruction that has been answered, a debug trap.
 * False: an exit. */
static bool hand_over(struct kvm_vcpu *k, struct exit *exit)
{
	struct cpu *cpu = k->cpu;

	while (cpu->io.count || cpu->db_pending)
		if (!interpret(k, exit))
			return false;
	if (kvm_state_store(k) < 0) {
		fails(k, exit);
		return false;
	}
	cpu->state_away = true;
	return true;
}

/* ---- exits ---- */

/* The machine's MSRs. Those that KVM has itself come here only if it would not take the value. */
static void msr_exit(struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;
	struct cpu *cpu = k->cpu;
	uint64_t value = 0;
	bool ok = !kvm_owns_msr(k->vm, run->msr.index);

	if (ok && run->exit_reason == KVM_EXIT_X86_RDMSR) {
		ok = msr_read(cpu, run->msr.index, &value) == X_OK;
		run->msr.data = value;
	} else if (ok) {
		ok = msr_write(cpu, run->msr.index, run->msr.data) == X_OK;
		if (run->msr.index == MSR_X2APIC_TPR)
			tell_cr8(k, cpu->env->get_tpr(cpu->env_opaque));
	}
	run->msr.error = !ok;
	k->completes = true;
}

static void describe(struct kvm_vcpu *k)
{
	const struct kvm_run *run = k->run;

	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		snprintf(k->error, sizeof(k->error), "kvm: internal error %u", run->internal.suberror);
	else
		snprintf(k->error, sizeof(k->error), "kvm: exit reason %u, of which nothing is known", run->exit_reason);
}

/* What KVM came back with. True: the loop is to see *exit; false: on with it. */
static bool handle(struct kvm_vcpu *k, struct exit *exit)
{
	struct kvm_run *run = k->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (kvm_memory_access(k->vm, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write)) {
			k->completes = true;
			return false;
		}
		/* fall through */
	case KVM_EXIT_IO:
		io_begin(k);
		io_exit(k, exit);
		k->completes = true;
		return true;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		msr_exit(k);
		return false;
	case KVM_EXIT_HLT:
		exit->reason = EXIT_HLT;
		return true;
	case KVM_EXIT_IOAPIC_EOI:
		if (!kvm_apic_broadcasts_eoi(k))
			return false;
		exit->reason = EXIT_EOI;
		exit->vector = run->eoi.vector;
		return true;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		exit->reason = EXIT_IRQ_WINDOW;
		return true;
	case KVM_EXIT_SET_TPR: /* came_back has told the local APIC */
	case KVM_EXIT_INTR:
		exit->reason = EXIT_REQUEST;
		return true;
	case KVM_EXIT_SHUTDOWN:
		exit->reason = EXIT_SHUTDOWN;
		return true;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
			break;
		/* fall through */
	case KVM_EXIT_FAIL_ENTRY:
		/* An instruction that KVM's emulator does not know, or a state that guests can make and processors do not
		 * enter. */
		LOG(LOG_KVM, "vCPU %u: exit reason %u at %#llx: interpreted", k->cpu->index, run->exit_reason,
		    (unsigned long long)k->cpu->rip);
		kvm_engine_fetch(k->cpu);
		return !interpret(k, exit);
	}
	describe(k);
	fails(k, exit);
	return true;
}

/* One KVM_RUN. True: *exit is for the loop. */
static bool run_once(struct kvm_vcpu *k, struct exit *exit)
{
	struct cpu *cpu = k->cpu;
	struct kvm_run *run = k->run;
	bool completed = k->completes;
	int r;

	/* Whoever kicks sets the request first and immediate_exit then: one of the two is seen. */
	__atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	/* An event waits only for an instruction that the loop has answered: nothing is entered for that. */
	if (__atomic_load_n(&cpu->request, __ATOMIC_SEQ_CST) || (completed && cpu_window_open(cpu)))
		run->immediate_exit = 1;
	run->request_interrupt_window = cpu->want_irq_window & WANT_IRQ;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	k->completes = false;
	r = ioctl(k->fd, KVM_RUN, 0);
	k->left = __builtin_ia32_rdtsc();
	if (r < 0) {
		if (errno != EINTR && errno != EAGAIN) {
			kvm_fail(k, "KVM_RUN", errno);
			fails(k, exit);
			return true;
		}
		k->stats.exits[KVM_EXIT_INTR]++;
		came_back(k);
		exit->reason = EXIT_REQUEST;
		if (__atomic_load_n(&cpu->request, __ATOMIC_RELAXED) || !completed)
			return true;
		/* What was answered is complete now. */
		exit->reason = EXIT_IRQ_WINDOW;
		return cpu->want_irq_window && cpu_window_open(cpu);
	}
	k->stats.exits[run->exit_reason < KVM_EXITS ? run->exit_reason : KVM_EXITS - 1]++;
	came_back(k);
	return handle(k, exit);
}

/* Asked once a thread. */
static pid_t own_tid(void)
{
	static _Thread_local pid_t tid;

	if (!tid)
		tid = (pid_t)syscall(SYS_gettid);
	return tid;
}

void kvm_engine_run(struct cpu *cpu, struct exit *exit)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);

	*exit = (struct exit){ .reason = EXIT_REQUEST };
	tell_cr8(k, cpu->tpr_class);
	__atomic_store_n(&k->tid, own_tid(), __ATOMIC_SEQ_CST);
	if (cpu->state_away && cpu->io.count) {
		io_answer(k, cpu->io.access[cpu->io.count - 1].value);
		cpu->io.count = cpu->io.next = 0;
		if (k->io.left) {
			io_exit(k, exit);
			goto out;
		}
	}
	do {
		int r = kvm_memory_update(k->vm);

		if (r < 0) {
			kvm_fail(k, "memory slots", -r);
			fails(k, exit);
			break;
		}
		if (!cpu->state_away && !hand_over(k, exit))
			break;
		if (k->tsc_offset != cpu->tsc_offset + cpu->tsc_adjust && (kvm_store_tsc_offset(k) < 0 || kvm_clock_again(k) < 0)) {
			fails(k, exit);
			break;
		}
	} while (!run_once(k, exit));
out:
	__atomic_store_n(&k->tid, 0, __ATOMIC_SEQ_CST);
}

/* ---- events and kicks ---- */

bool kvm_engine_deliver(struct cpu *cpu, enum event_type type, uint8_t vector)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);
	struct kvm_interrupt interrupt = { .irq = vector };
	bool done;

	if (!cpu->state_away)
		return false;
	if (type == EVENT_NMI)
		done = ioctl(k->fd, KVM_NMI, 0) == 0;
	else
		done = k->vm->apics ? kvm_apic_extint(k, vector) : ioctl(k->fd, KVM_INTERRUPT, &interrupt) == 0;
	if (!done)
		return false;
	cpu->halted = false;
	if (type != EVENT_NMI)
		cpu->interrupts_delivered++;
	k->stats.injected++;
	return true;
}

void kvm_engine_kick(struct cpu *cpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);
	pid_t tid;

	__atomic_fetch_or(&cpu->request, REQUEST_EXIT, __ATOMIC_SEQ_CST);
	__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = __atomic_load_n(&k->tid, __ATOMIC_SEQ_CST);
	if (tid && tid != own_tid())
		syscall(SYS_tgkill, getpid(), tid, SIGNAL_KICK_KVM);
}

/* It is there to end KVM_RUN, and does nothing. */
static void on_kick(int sig) { (void)sig; }

static int init_error;

static void init(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGNAL_KICK_KVM, &sa, NULL) < 0)
		init_error = -errno;
}

int kvm_signal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init);
	return init_error;
}
