/*
 * Raising and delivering exceptions and interrupts: which one comes of two (double and triple
 * faults), CR2 and DR6, what delivery does to the vCPU's state between instructions. How one event
 * passes its gate is interrupt.c.
 *
 * Sources: SDM 3A chapter 6 (6.15, double fault classes: table 6-4, 6-5), 3B 17.3; APM 2 chapter 8.
 * Thread: the vCPU's; no lock.
 *
 * A delivery that needs I/O (a stack or a table in I/O memory) returns X_EXIT with nothing committed
 * and cpu->fault as it was; once the I/O is answered the caller calls again with the same fault (or
 * runs the instruction again, which raises it again), or cpu_deliver_event with the same event.
 */
#include "cpu/protection.h"

#define DR6_BREAKPOINTS 0xfull
#define DR7_GD (1ull << 13)
#define DEBUGCTL_LBR_BTF 3ull

static enum x record(struct cpu *cpu, struct fault fault)
{
	cpu->fault = fault;
	return X_FAULT;
}

enum x cpu_raise(struct cpu *cpu, enum vector v)
{
	return record(cpu, (struct fault){.vector = v, .type = EVENT_EXCEPTION});
}

enum x cpu_raise_error(struct cpu *cpu, enum vector v, uint32_t error)
{
	return record(cpu, (struct fault){.vector = v, .type = EVENT_EXCEPTION, .has_error = true, .error = error});
}

enum x cpu_raise_page_fault(struct cpu *cpu, uint64_t gva, uint32_t error)
{
	return record(
		cpu, (struct fault){
			     .vector = VEC_PF, .type = EVENT_EXCEPTION, .has_error = true, .error = error, .cr2 = gva});
}

enum x cpu_raise_debug(struct cpu *cpu, uint64_t dr6_bits)
{
	return record(cpu, (struct fault){.vector = VEC_DB, .type = EVENT_EXCEPTION, .dr6 = dr6_bits});
}

static bool is_contributory(const struct fault *f)
{
	return f->type == EVENT_EXCEPTION && (f->vector == VEC_DE || (f->vector >= VEC_TS && f->vector <= VEC_GP));
}

static bool is_page_fault(const struct fault *f) { return f->type == EVENT_EXCEPTION && f->vector == VEC_PF; }
static bool is_double_fault(const struct fault *f) { return f->type == EVENT_EXCEPTION && f->vector == VEC_DF; }

/* SDM 3A table 6-5. */
static bool makes_double_fault(const struct fault *first, const struct fault *second)
{
	if (is_page_fault(first))
		return is_page_fault(second) || is_contributory(second);
	return is_contributory(first) && is_contributory(second);
}

/* Faults go back to their instruction, which then runs with RF set; #DB leaves that to its handler. */
static bool resumes(const struct fault *f)
{
	return f->type == EVENT_EXCEPTION && f->vector != VEC_DB && f->vector != VEC_DF && f->vector != VEC_MC;
}

/* What the exception leaves in CR2, DR6 and DR7, as soon as it is taken. */
static void record_cause(struct cpu *cpu, const struct fault *f)
{
	if (is_page_fault(f))
		cpu->cr2 = f->cr2;
	if (f->type == EVENT_ICEBP || (f->type == EVENT_EXCEPTION && f->vector == VEC_DB)) {
		cpu->dr[6] = (cpu->dr[6] & ~DR6_BREAKPOINTS) | f->dr6;
		cpu->dr[7] &= ~DR7_GD;
		cpu->debugctl &= ~DEBUGCTL_LBR_BTF;
	}
}

static enum x shut_down(struct cpu *cpu, const struct fault *last)
{
	CPU_LOG(cpu, LOG_EXC, "triple fault: vector %u error %#x in the delivery of a double fault, rip %#llx",
		last->vector, last->error, (unsigned long long)cpu->rip);
	cpu->exit = (struct exit){.reason = EXIT_SHUTDOWN};
	return X_EXIT;
}

/* Delivers f, or what its delivery raises: at most f, one or two serial ones and a double fault. */
static enum x deliver(struct cpu *cpu, struct fault f)
{
	for (;;) {
		struct event event = {.type = f.type,
				      .vector = f.vector,
				      .has_error = f.has_error,
				      .error = f.error,
				      .resume = resumes(&f),
				      .rip = cpu->rip};
		enum x x;

		record_cause(cpu, &f);
		CPU_LOG(cpu, LOG_EXC, "vector %u type %u error %#x at %#llx:%#llx cpl %u cr2 %#llx", f.vector, f.type,
			f.error, (unsigned long long)cpu->seg[CS].selector, (unsigned long long)cpu->rip, cpu->cpl,
			(unsigned long long)f.cr2);
		x = interrupt_deliver(cpu, &event);
		if (x == X_OK)
			break;
		if (x == X_EXIT)
			return x;
		if (is_double_fault(&f))
			return shut_down(cpu, &cpu->fault);
		if (is_page_fault(&cpu->fault))
			cpu->cr2 = cpu->fault.cr2;
		if (makes_double_fault(&f, &cpu->fault))
			f = (struct fault){.vector = VEC_DF, .type = EVENT_EXCEPTION, .has_error = true};
		else
			f = cpu->fault;
	}
	if (f.type == EVENT_EXTERNAL)
		cpu->interrupts_delivered++;
	else
		cpu->faults_delivered[f.vector & 31]++;
	return X_OK;
}

static void delivered(struct cpu *cpu)
{
	cpu->sti_shadow = false;
	cpu->mov_ss_shadow = false;
	cpu->halted = false;
	cpu->io.count = 0;
	cpu->io.next = 0;
}

enum x cpu_deliver_fault(struct cpu *cpu)
{
	struct fault fault = cpu->fault;
	uint64_t db_pending = cpu->db_pending;
	unsigned io_next = cpu->io.next;
	enum x x;

	if (resumes(&fault))
		cpu->db_pending = 0; /* the instruction did not complete: it will match again */
	x = deliver(cpu, fault);
	if (x == X_EXIT) {
		cpu->fault = fault;
		cpu->db_pending = db_pending;
		cpu->io.next = io_next;
		return x;
	}
	delivered(cpu);
	return X_OK;
}

enum x cpu_deliver_event(struct cpu *cpu, enum event_type type, uint8_t vector)
{
	enum x x;

	cpu->io.next = 0;
	x = deliver(cpu, (struct fault){.type = type, .vector = vector});
	if (x == X_EXIT) {
		cpu->io.next = 0;
		return x;
	}
	if (type == EVENT_NMI) {
		cpu->nmi_blocked = true;
		cpu->nmi_pending = false;
	}
	delivered(cpu);
	return X_OK;
}
