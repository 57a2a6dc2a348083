/*
 * The one loop of the program: prepare, enter, exit, analyse, resume.
 *
 * Owns struct vcpu. Each runs on a thread of its own and holds vm->lock all the time but while it is
 * in the guest or asleep in HLT, so prepare and analyse see devices and interrupts as they are.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/mmu.h"
#include "dev/kvmclock.h"
#include "irq/ioapic.h"
#include "irq/lapic.h"
#include "irq/pic.h"
#include "machine/pc.h"
#include "machine/vm.h"
#include "sandbox/sandbox.h"
#include "util/log.h"

#define REPORT_SIZE 8192u
#define LOOK_AGAIN_NS 1000000u

/* ---- life ---- */

/* An interrupt waits, and nobody tells when it can be delivered. */
static void look_again(void *opaque) { vcpu_kick(opaque); }

int vcpu_new(struct vm *vm, unsigned index)
{
	/* Fresh pages: most of it are tables, large parts of which are never touched. */
	struct vcpu *v = mmap(NULL, sizeof *v, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (v == MAP_FAILED)
		return -ENOMEM;
	madvise(v, sizeof *v, MADV_NOHUGEPAGE); /* a large one would be all of it */
	v->vm = vm;
	v->sipi_vector = -1;
	v->wait_sipi = index > 0;
	timer_init(&v->look_again, vm->timers, look_again, v);
	r = cpu_init(&v->cpu, &vm->memory, &vcpu_env, v, &vm->cpuid, index);
	if (r < 0) {
		munmap(v, sizeof *v);
		return r;
	}
	v->cpu.counting = vm->config.counting;
	pthread_cond_init(&v->wake, NULL);
	r = vm->config.engine->vcpu_create(vm->engine_vm, &v->cpu);
	if (r < 0) {
		pthread_cond_destroy(&v->wake);
		cpu_free(&v->cpu);
		munmap(v, sizeof *v);
		return r;
	}
	vm->vcpu[index] = v;
	return 0;
}

void vcpu_free(struct vcpu *v)
{
	timer_cancel(&v->look_again);
	if (v->vm->engine_vm) /* none: a move failed */
		v->vm->config.engine->vcpu_destroy(&v->cpu);
	pthread_cond_destroy(&v->wake);
	cpu_free(&v->cpu);
	munmap(v, sizeof *v);
}

void vcpu_kick(struct vcpu *v)
{
	/* In its own analyse step a vCPU needs no kick: it will prepare before it enters again. */
	if (v->in_guest)
		v->vm->config.engine->kick(&v->cpu);
	pthread_cond_signal(&v->wake);
}

/* Ends the VM for something that this vCPU did, with its state for the user to read. */
static void vcpu_stop(struct vcpu *v, enum vm_end end, const char *why)
{
	struct vm *vm = v->vm;

	if (vm->end == VM_RUNNING && !vm->report) {
		vm->report = malloc(REPORT_SIZE);
		if (vm->report) {
			int n = snprintf(vm->report, REPORT_SIZE, "vCPU %u: %s\n", v->cpu.index, why);

			cpu_fetch_state(&v->cpu);
			cpu_dump(&v->cpu, vm->report + n, REPORT_SIZE - (size_t)n);
		}
	}
	vm_stop(vm, end);
}

/* ---- prepare ---- */

enum step { STEP_ENTER, STEP_WAIT, STEP_AGAIN };

static void take_init(struct vcpu *v)
{
	v->init_pending = false;
	v->nmi_pending = false;
	v->event.valid = false;
	cpu_fetch_state(&v->cpu);
	cpu_reset(&v->cpu, true);
	lapic_reset(v->lapic, true);
	pv_reset(v);
	/* The first processor goes on at the reset vector, where a PC without firmware has nothing. */
	if (v->cpu.index == 0 && !v->vm->firmware.rom_size)
		vm_stop(v->vm, VM_RESET);
	v->wait_sipi = v->cpu.index > 0;
}

static void take_startup(struct vcpu *v)
{
	segment_set_real(&v->cpu, CS, (uint16_t)(v->sipi_vector << 8));
	v->cpu.rip = 0;
	cpu_update_mode(&v->cpu);
	v->sipi_vector = -1;
	v->wait_sipi = false;
}

static bool interrupt_pending(struct vcpu *v)
{
	return lapic_pending_vector(v->lapic) >= 0 || lapic_extint_pending(v->lapic);
}

/* Where the engine has the local APICs, what is pending here is the 8259's. */
static bool takes_interrupt(struct vcpu *v)
{
	const struct engine_apics *apics = v->vm->apics;

	return apics ? apics->takes_extint(&v->cpu, lapic_extint_sent(v->lapic)) : cpu_interruptible(&v->cpu);
}

/* Chooses what is delivered next, and what has to wait for a window. An instruction whose I/O was just
 * answered has to finish first. */
static void choose_event(struct vcpu *v)
{
	struct cpu *cpu = &v->cpu;
	bool between = cpu->io.count == 0;

	cpu->want_irq_window = 0;
	if (v->nmi_pending) {
		if (between && cpu_nmi_deliverable(cpu)) {
			v->nmi_pending = false;
			v->event.valid = true;
			v->event.type = EVENT_NMI;
			v->event.vector = VEC_NMI;
			return;
		}
		cpu->want_irq_window |= WANT_NMI;
	}
	if (!interrupt_pending(v))
		return;
	if (!between || !takes_interrupt(v)) {
		cpu->want_irq_window |= WANT_IRQ;
		if (v->vm->apics && lapic_extint_sent(v->lapic))
			timer_arm(&v->look_again, clock_now() + LOOK_AGAIN_NS);
		return;
	}
	int vector = lapic_ack(v->lapic);
	if (vector < 0)
		vector = pic_ack(v->vm->pc->pic);
	v->event.valid = true;
	v->event.type = EVENT_EXTERNAL;
	v->event.vector = (uint8_t)vector;
	/* Another one may wait behind it. */
	if (v->nmi_pending)
		cpu->want_irq_window |= WANT_NMI;
	if (interrupt_pending(v))
		cpu->want_irq_window |= WANT_IRQ;
}

static void analyse(struct vcpu *v, const struct exit *exit);

/* The event, through the IDT: pushes a frame on the guest's stack. */
static enum x deliver(struct vcpu *v)
{
	const struct engine *engine = v->vm->config.engine;
	const struct cpu_engine_hooks *hooks = v->cpu.hooks;
	struct cpu *cpu = &v->cpu;
	enum x x;

	if (engine->deliver && engine->deliver(cpu, v->event.type, v->event.vector))
		return X_OK;
	cpu_fetch_state(cpu);
	if (hooks && hooks->access_begin)
		hooks->access_begin(cpu);
	x = cpu_deliver_event(cpu, v->event.type, v->event.vector);
	if (hooks && hooks->access_end)
		hooks->access_end(cpu);
	return x;
}

static enum step prepare(struct vcpu *v)
{
	struct cpu *cpu = &v->cpu;

	/* Whoever sets it from now on is seen by the engine; whatever was asked before is seen below. */
	__atomic_store_n(&cpu->request, 0, __ATOMIC_SEQ_CST);
	if (memory_maps_changed(cpu->memory, &cpu->maps_version))
		mmu_flush(cpu, true);
	if (v->init_pending)
		take_init(v);
	if (v->wait_sipi) {
		if (v->sipi_vector < 0)
			return STEP_WAIT;
		take_startup(v);
	}
	if (cpu->tsc_offset + cpu->tsc_adjust != v->tsc_offset) {
		v->tsc_offset = cpu->tsc_offset + cpu->tsc_adjust;
		kvmclock_tsc_changed(v->vm->pc->kvmclock, cpu->index, v->tsc_offset);
	}
	lapic_pv_eoi(v->lapic);
	if (cpu->nmi_pending)
		v->nmi_pending = true;
	cpu->nmi_pending = false;
	if (!v->event.valid)
		choose_event(v);
	if (v->event.valid) {
		LOG(LOG_EXC, "vCPU %u: event type %u vector %#x", cpu->index, v->event.type, v->event.vector);
		if (deliver(v) == X_EXIT) {
			struct exit exit = cpu->exit;

			analyse(v, &exit);
			return STEP_AGAIN;
		}
		v->event.valid = false;
	}
	if (cpu->halted && v->pv.unhalted)
		cpu->halted = v->pv.unhalted = false;
	if (cpu->owed.reason != EXIT_REQUEST) {
		const struct exit exit = cpu->owed;

		cpu->owed.reason = EXIT_REQUEST;
		analyse(v, &exit);
		return STEP_AGAIN;
	}
	return cpu->halted && !v->vm->apics ? STEP_WAIT : STEP_ENTER;
}

/* ---- analyse ---- */

static void do_port_io(struct vcpu *v, struct io_access *io)
{
	struct vm *vm = v->vm;
	bool known = io->write ? bus_write(&vm->pio, io->addr, io->size, io->value)
			       : bus_read(&vm->pio, io->addr, io->size, &io->value);

	if (!known)
		LOG(LOG_PIO, "%s port %#llx size %u value %#llx", io->write ? "out" : "in",
		    (unsigned long long)io->addr, io->size, (unsigned long long)io->value);
}

static void do_memory_io(struct vcpu *v, struct io_access *io)
{
	struct vm *vm = v->vm;

	if (lapic_claims(v->lapic, io->addr, io->size)) {
		unsigned offset = io->addr & (LAPIC_MMIO_SIZE - 1);

		v->stats.lapic_accesses++;
		if (io->write)
			lapic_write(v->lapic, offset, io->value, io->size);
		else
			io->value = lapic_read(v->lapic, offset, io->size);
		return;
	}
	bool known = io->write ? bus_write(&vm->mmio, io->addr, io->size, io->value)
			       : bus_read(&vm->mmio, io->addr, io->size, &io->value);
	if (!known)
		LOG(LOG_MMIO, "%s %#llx size %u value %#llx", io->write ? "write" : "read",
		    (unsigned long long)io->addr, io->size, (unsigned long long)io->value);
}

/* Does the access and leaves the answer where the instruction finds it when it runs again. */
static void do_io(struct vcpu *v, const struct io_access *wanted)
{
	struct io_log *log = &v->cpu.io;
	struct io_access io = *wanted;

	if (log->count >= IO_LOG_MAX) {
		vcpu_stop(v, VM_ERROR, "one instruction makes too many I/O accesses");
		return;
	}
	if (io.port)
		do_port_io(v, &io);
	else
		do_memory_io(v, &io);
	log->access[log->count++] = io;
}

static void analyse(struct vcpu *v, const struct exit *exit)
{
	struct cpu *cpu = &v->cpu;

	v->stats.exits[exit->reason]++;
	LOG(LOG_EXIT, "vCPU %u: exit %u at %#llx, io %#llx", cpu->index, exit->reason, (unsigned long long)cpu->rip,
	    (unsigned long long)exit->io.addr);
	switch (exit->reason) {
	case EXIT_PIO:
	case EXIT_MMIO:
		do_io(v, &exit->io);
		break;
	case EXIT_HLT:
		/* HLT is done: the shadow of an STI before it has ended. */
		cpu->halted = true;
		cpu->sti_shadow = false;
		cpu->mov_ss_shadow = false;
		break;
	case EXIT_EOI:
		ioapic_eoi(v->vm->pc->ioapic, exit->vector);
		break;
	case EXIT_SHUTDOWN:
		vcpu_stop(v, VM_TRIPLE_FAULT, "triple fault");
		break;
	case EXIT_ERROR:
		vcpu_stop(v, VM_ERROR, exit->error ? exit->error : "the engine could not go on");
		break;
	case EXIT_REQUEST:
	case EXIT_IRQ_WINDOW:
	case EXIT_DEBUG:
	case EXIT_STEP:
	case EXIT_REASON_COUNT:
		break; /* prepare sees what there is to do */
	}
}

/* ---- the loop ---- */

static void enter(struct vcpu *v, struct exit *exit)
{
	struct vm *vm = v->vm;
	uint64_t start;

	pv_account(v);
	v->cpu.tpr_class = lapic_get_cr8(v->lapic);
	v->in_guest = true;
	if (vm->held) /* only the instruction under way is to end */
		vm->config.engine->kick(&v->cpu);
	pthread_mutex_unlock(&vm->lock);
	start = clock_now();
	vm->config.engine->run(&v->cpu, exit);
	v->stats.guest_ns += clock_now() - start;
	pthread_mutex_lock(&vm->lock);
	v->in_guest = false;
}

static void wait(struct vcpu *v)
{
	uint64_t start = clock_now();

	pv_sleeps(v);
	pthread_cond_wait(&v->wake, &v->vm->lock);
	pv_wakes(v);
	v->stats.halted_ns += clock_now() - start;
}

/* Out of the guest, at an instruction boundary, until vm->held ends (or something else wakes it). */
static void park(struct vcpu *v)
{
	v->parked = true;
	pthread_cond_signal(&v->vm->came_out);
	pthread_cond_wait(&v->wake, &v->vm->lock);
	v->parked = false;
}

void *vcpu_main(void *opaque)
{
	struct vcpu *v = opaque;
	struct vm *vm = v->vm;
	struct exit exit;

	interp_prepare(&v->cpu); /* it allocates */
	sandbox_enter(SANDBOX_VCPU);
	pthread_mutex_lock(&vm->lock);
	while (vm->end == VM_RUNNING) {
		/* An instruction that has begun its I/O ends first. */
		if (vm->held && v->cpu.io.count == 0) {
			park(v);
			continue;
		}
		switch (prepare(v)) {
		case STEP_ENTER:
			if (vm->end != VM_RUNNING)
				break;
			enter(v, &exit);
			analyse(v, &exit);
			break;
		case STEP_WAIT:
			if (vm->end == VM_RUNNING)
				wait(v);
			break;
		case STEP_AGAIN:
			break;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}
