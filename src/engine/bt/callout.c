/*
 * Call-outs: instructions of a block that the interpreter runs while the block waits.
 *
 * A block calls the routine `callout` (routine.c) with a struct callout, which lies with the block's
 * rarely run code and holds the decoded instruction. The routine saves the guest's state and calls
 * callout_run here. If all is as it was, the block goes on behind the instruction. If the guest is
 * elsewhere (a branch into another mode, an exception) and its block is known, that is entered at once.
 * Otherwise, and when anything asks for the run loop, the block is left.
 *
 * On the vCPU's thread; no lock.
 */
#include "engine/bt/bt.h"

/* Something is about that blocks know nothing of. */
bool callout_special(const struct cpu *cpu)
{
	return (cpu->rflags & (RFLAGS_TF | RFLAGS_RF)) || debug_armed(cpu) || cpu->db_pending || cpu->sti_shadow ||
	       cpu->mov_ss_shadow;
}

/* Does anything want the run loop before the next instruction? 0: no; else what to leave with. The order
 * is the loop's own. */
static uint32_t wants_loop(const struct cpu *cpu)
{
	if (__builtin_expect(cpu->want_irq_window, 0) && cpu_window_open(cpu))
		return LEAVE_CODE(LEAVE_EXIT_WINDOW, 0, 0);
	if (__builtin_expect(__atomic_load_n(&cpu->request, __ATOMIC_RELAXED) != 0, 0))
		return LEAVE_CODE(LEAVE_REQUEST, 0, 0);
	if (__builtin_expect(callout_special(cpu), 0))
		return LEAVE_CODE(LEAVE_LOOP, 0, 0);
	return 0;
}

/* The block at cpu->rip is entered without the run loop, if there is one in the branch cache, or to be had. */
static uint32_t enter_next(struct bt *bt, uint32_t key)
{
	struct cpu *cpu = bt->cpu;
	const void *code;

	if (key & KEY_INTERPRET)
		return LEAVE_CODE(LEAVE_LOOP, 0, 0);
	code = branch_find(bt, key, cpu->rip);
	if (__builtin_expect(!code, 0)) {
		uint32_t id = cache_find(bt, key);

		if (id == NO_BLOCK)
			return LEAVE_CODE(LEAVE_LOOP, 0, 0);
		branch_insert(bt, key, cpu->rip, id);
		if (bt_block(bt, id)->fpu)
			bt_fpu_enter(cpu);
		code = bt_host(bt, bt_block(bt, id)->entry);
	}
	cpu->engine_word[WORD_TARGET] = (uint64_t)(uintptr_t)code;
	return LEAVE_CODE(LEAVE_ENTER, 0, 0);
}

/* Is the guest at the next instruction, and that what the block has there, mode and mapping included? */
static bool same_code(struct bt *bt, const struct callout *c, uint64_t base, uint32_t key)
{
	struct cpu *cpu = bt->cpu;
	uint64_t linear = base + c->next, offset;

	if (c->ends || cpu->rip != linear || key != c->key || base != bt_rip_base(bt, bt_block(bt, c->block)))
		return false;
	if ((key & KEY_CODE) != KEY_CODE64)
		linear = (uint32_t)(linear + cpu->seg[CS].base);
	return cache_code_offset(bt, linear, &offset) && offset == c->next_offset;
}

/* The routine `callout` calls this. 0: the block goes on; else what to leave it with.
 * cache_sync comes before any translated code: so what a guest uses to serialize (CPUID, IRET, WRMSR, MOV CR,
 * INVLPG, ...) sees what other vCPUs have done. From there on the block's memory may be used anew, unless it
 * still is in no removed block (`dead` is read before `resets`: whoever uses it anew counts that first). */
uint32_t callout_run(struct cpu *cpu, const struct callout *c)
{
	struct bt *bt = bt_of(cpu);
	uint64_t resets = __atomic_load_n(&bt->vm->resets, __ATOMIC_ACQUIRE);
	const struct block *b = bt_block(bt, c->block);
	uint64_t base = bt_rip_base(bt, b);
	uint32_t leave, key;
	bool same, fpu;
	enum x x;

	cpu->rip = base + c->rip;
	bt->stats.interpreted++;
	bt->stats.interpreted_insn[c->insn.id]++;
	x = __builtin_expect(callout_special(cpu), 0) ? interp_step(cpu) : interp_run_decoded(cpu, &c->insn);
	if (x != X_OK)
		return LEAVE_CODE(LEAVE_EXIT, 0, 0);
	leave = wants_loop(cpu);
	if (leave)
		return leave;
	key = bt_key(cpu);
	same = same_code(bt, c, base, key);
	fpu = c->fpu;
	cache_sync(bt);
	if (!same || __atomic_load_n(&b->dead, __ATOMIC_ACQUIRE) ||
	    __atomic_load_n(&bt->vm->resets, __ATOMIC_ACQUIRE) != resets)
		return enter_next(bt, key);
	branch_select(bt, key);
	if (fpu)
		bt_fpu_enter(cpu);
	return 0;
}

/* An access of an instruction cannot be served by the TLB: the interpreter does it, or raises its fault. If
 * the access alone decides what the fault is, that has been raised and is delivered. */
uint32_t callout_access(struct bt *bt, uint32_t id, unsigned insn, bool faults)
{
	struct cpu *cpu = bt->cpu;
	uint32_t leave;

	cpu->rip = bt_insn_rip(bt, bt_block(bt, id), insn);
	if (faults && !callout_special(cpu)) {
		if (interp_deliver(cpu) != X_OK)
			return LEAVE_CODE(LEAVE_EXIT, 0, 0);
	} else {
		bt->stats.interpreted++;
		if (interp_step(cpu) != X_OK)
			return LEAVE_CODE(LEAVE_EXIT, 0, 0);
	}
	leave = wants_loop(cpu);
	if (leave)
		return leave;
	cache_sync(bt);
	return enter_next(bt, bt_key(cpu));
}
