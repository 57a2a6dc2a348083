/*
 * Between translated code and C that ThreadSanitizer watches (make TSAN=1). Its run-time library uses vector
 * registers, so guest vector state is live in translated code only. And it does not see jumps being patched: that a
 * vCPU which runs into a block by one happens after whatever made the block and patched the jump.
 *
 * On the vCPU's thread. This file and signal.c, whose handlers run in the middle of anything, are not watched.
 */
#include "engine/bt/bt.h"

#ifdef TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);

void seen_patched(struct bt_vm *vm) { __tsan_release(vm->rw); }

/* Translated code has been left, for good or for a while. */
static void leave(struct cpu *cpu)
{
	cpu_fpu_leave(cpu);
	__tsan_acquire(bt_of(cpu)->rw);
}

/* What it is told to do next: if that is to go on, its vector state is live again. */
static uint32_t go_on(struct cpu *cpu, uint32_t code, bool live)
{
	if ((code == 0 || code == LEAVE_ENTER) && (live || bt_of(cpu)->fpu_wanted))
		cpu_fpu_enter(cpu);
	bt_of(cpu)->fpu_wanted = false;
	return code;
}

uint32_t seen_enter(struct cpu *cpu, const void *code)
{
	uint32_t why;

	go_on(cpu, 0, false);
	why = bt_of(cpu)->vm->enter(cpu, code);
	leave(cpu);
	return why;
}

uint32_t seen_miss(struct cpu *cpu, uint64_t address, uint32_t info, uint32_t id)
{
	bool live = cpu->fpu_live;

	leave(cpu);
	return go_on(cpu, bt_miss(cpu, address, info, id), live);
}

uint32_t seen_callout(struct cpu *cpu, const struct callout *c)
{
	bool live = cpu->fpu_live;

	leave(cpu);
	return go_on(cpu, callout_run(cpu, c), live);
}
#endif
