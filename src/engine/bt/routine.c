/*
 * The generated routines around blocks, at the start of the cache.
 *
 *   enter(cpu, code)  C calls it: guest state into registers, jump to a block. Returns a LEAVE_CODE.
 *   leave             blocks jump there with the code in ecx and their id in r10d
 *   miss              blocks call it when a TLB look-up fails: address in r10, which access in ecx, id in r11d
 *   callout           blocks call it where the interpreter has to run an instruction: struct callout at rcx
 *   callout_last      the same, jumped to: what does not come back
 *   return_*          where a RET goes that its landing is not for: RIP in r10, RETURN_FROM in r11d
 *   branch_second     the same for a branch whose target is not in its first place in the branch cache
 *   call_second       looks whether the target of a CALL, in r10, is in its second place: rcx is 0 if so. r11: the place
 *
 * enter, miss and callout end in a stretch that looks at cpu->request and then loads guest state. A kick whose
 * signal arrives in it starts it over (signal.c), so that no request is overlooked. A request leaves the
 * block at the instruction whose access missed, of which nothing has been done yet, or behind the one that
 * was called out. rsp is a return stack in blocks; the routines switch to the monitor's and back.
 */
#include <errno.h>
#include <sys/mman.h>

#include "engine/bt/bt.h"

#define ARITH_FLAGS 0x8d5

static const host_reg saved[] = { RBX, RBP, R12, R13, R14, R15 };
#define SAVED (sizeof(saved) / sizeof(saved[0]))

enum { OP_OR = 0x09, OP_MOVSXD = 0x63, OP_TEST = 0x85 };

/* All but rcx, r10, r11, which are not the guest's. */
static void emit_load_guest(struct emitter *e)
{
	for (unsigned g = 0; g < GPR_COUNT; g++)
		if (host_of[g] != HOST_NONE)
			emit_load(e, host_of[g], mem_gs(G(gpr) + (int32_t)g * 8));
}

static void emit_save_guest(struct emitter *e)
{
	for (unsigned g = 0; g < GPR_COUNT; g++)
		if (host_of[g] != HOST_NONE)
			emit_store(e, host_of[g], mem_gs(G(gpr) + (int32_t)g * 8));
}

/* Arithmetic flags from cpu->rflags; uses rax and rcx. LAHF and SAHF with OF in AL: far cheaper than PUSHF
 * and POPF. */
static void emit_load_flags(struct emitter *e)
{
	emit_load32(e, RAX, mem_gs(G(rflags)));
	emit_mov(e, 4, RCX, RAX);
	emit_shift_imm(e, SHIFT_SHR, RCX, 11);
	emit_and_imm(e, 4, RCX, 1);
	emit_shift_imm(e, SHIFT_SHL, RAX, 8);
	emit_alu_reg(e, OP_OR, RAX, RCX);
	emit8(e, 0x04); /* add al, 127: OF if it was 1 */
	emit8(e, 127);
	emit8(e, 0x9e); /* sahf */
}

/* Flags to cpu->rflags; uses rax, rdx and rsi, which have been saved. */
static void emit_save_flags(struct emitter *e)
{
	emit8(e, 0x9f); /* lahf */
	emit8(e, 0x0f); /* seto al */
	emit8(e, 0x90);
	emit_modrm_reg(e, 0, RAX);
	emit8(e, 0x0f); /* movzx edx, ah */
	emit8(e, 0xb6);
	emit_modrm_reg(e, RDX, 4);
	emit_and_imm(e, 4, RDX, ARITH_FLAGS & 0xff);
	emit_and_imm(e, 4, RAX, 1);
	emit_shift_imm(e, SHIFT_SHL, RAX, 11);
	emit_alu_reg(e, OP_OR, RDX, RAX);
	emit_load(e, RSI, mem_gs(G(rflags)));
	emit_and_imm(e, 8, RSI, ~ARITH_FLAGS);
	emit_alu_reg(e, OP_OR, RSI, RDX);
	emit_store(e, RSI, mem_gs(G(rflags)));
}

/* cmp dword [gs:request], 0; jne */
static uint32_t emit_if_request(struct emitter *e)
{
	struct host_mem m = mem_gs(G(request));

	emit8(e, 0x65);
	emit8(e, 0x83);
	emit_modrm_mem(e, 7, &m);
	emit8(e, 0);
	return emit_jcc32(e, 5);
}

static void emit_return(struct emitter *e)
{
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
	emit_add_imm(e, RSP, 8);
	for (unsigned i = SAVED; i-- > 0;)
		emit_pop(e, saved[i]);
	emit_ret(e);
}

static void routine_enter(struct bt_vm *vm, struct emitter *e)
{
	uint32_t requested;

	vm->enter = (uint32_t (*)(struct cpu *, const void *))(uintptr_t)(vm->rx + emit_offset(e));
	for (unsigned i = 0; i < SAVED; i++)
		emit_push(e, saved[i]);
	emit_lea(e, RSP, mem_at(RSP, -8)); /* aligned */
	emit_store(e, RSI, mem_gs(WORD(WORD_TARGET)));
	emit_store(e, RSP, mem_gs(WORD(WORD_RSP)));
	vm->enter_restart = emit_offset(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_RETURN_RSP)));
	emit_jmp_mem(e, mem_gs(WORD(WORD_TARGET)));
	vm->enter_end = emit_offset(e);
	patch32(vm->rw, requested, emit_offset(e));
	emit_mov_imm(e, RAX, LEAVE_REQUEST);
	emit_return(e);
}

/* From the return stack to the monitor's. */
static void emit_to_monitor(struct emitter *e)
{
	emit_store(e, RSP, mem_gs(WORD(WORD_RETURN_RSP)));
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
}

/* Back to the block that called: as it did, for the host's prediction, but the stack may be another now. */
static void emit_back(struct emitter *e)
{
	emit_load(e, RSP, mem_gs(WORD(WORD_RETURN_RSP)));
	emit_push_mem(e, mem_gs(WORD(WORD_BACK)));
	emit_ret(e);
}

static void routine_leave(struct bt_vm *vm, struct emitter *e)
{
	vm->leave = emit_offset(e);
	emit_save_guest(e);
	emit_to_monitor(e);
	emit_store(e, R10, mem_gs(WORD(WORD_BLOCK)));
	emit_save_flags(e);
	emit_mov(e, 4, RAX, RCX);
	emit_return(e);
}

/* eax: why the block is left; it may be for another block. */
static void routine_gone(struct bt_vm *vm, struct emitter *e)
{
	uint8_t *not_enter;

	emit8(e, 0x83); /* cmp eax, LEAVE_ENTER */
	emit_modrm_reg(e, 7, RAX);
	emit8(e, LEAVE_CODE(LEAVE_ENTER, 0, 0));
	not_enter = emit_jcc8(e, 5);
	emit_jmp_to(e, vm->enter_restart);
	patch8(e, not_enter);
	emit_return(e);
}

/* Calls a C function with struct cpu and what is in the other argument registers. Where the rel32 is of a
 * jump that is taken when it returns what to leave the block with; on 0 the block goes on. */
static uint32_t emit_call_c(struct emitter *e, int function)
{
	emit_load(e, RDI, mem_gs(WORD(WORD_SELF)));
	emit_call_mem(e, mem_gs(WORD(function)));
	emit8(e, OP_TEST); /* eax, eax */
	emit_modrm_reg(e, RAX, RAX);
	return emit_jcc32(e, 5);
}

static void routine_miss(struct bt_vm *vm, struct emitter *e)
{
	uint32_t gone, requested;

	vm->miss = emit_offset(e);
	emit_pop_mem(e, mem_gs(WORD(WORD_BACK)));
	emit_save_guest(e);
	emit_to_monitor(e);
	emit_save_flags(e);
	emit_store(e, R10, mem_gs(WORD(WORD_ADDRESS)));
	emit_mov(e, 8, RSI, R10);
	emit_mov(e, 4, RDX, RCX);
	emit_mov(e, 4, RCX, R11);
	gone = emit_call_c(e, WORD_MISS_FN);

	vm->miss_restart = emit_offset(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit_load(e, R10, mem_gs(WORD(WORD_ADDRESS)));
	emit_back(e);
	vm->miss_end = emit_offset(e);

	patch32(vm->rw, requested, emit_offset(e));
	emit_load(e, RDI, mem_gs(WORD(WORD_SELF)));
	emit_call_mem(e, mem_gs(WORD(WORD_STOP_FN)));

	patch32(vm->rw, gone, emit_offset(e));
	routine_gone(vm, e);
}

static void routine_callout(struct bt_vm *vm, struct emitter *e)
{
	uint32_t gone, requested;

	vm->callout = emit_offset(e);
	emit_pop_mem(e, mem_gs(WORD(WORD_BACK)));
	vm->callout_last = emit_offset(e);
	emit_save_guest(e);
	emit_to_monitor(e);
	emit_save_flags(e);
	emit_mov(e, 8, RSI, RCX);
	gone = emit_call_c(e, WORD_CALLOUT_FN);

	vm->callout_restart = emit_offset(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit_back(e);
	vm->callout_end = emit_offset(e);

	patch32(vm->rw, requested, emit_offset(e));
	emit_mov_imm(e, RAX, LEAVE_REQUEST);
	emit_return(e);

	patch32(vm->rw, gone, emit_offset(e));
	routine_gone(vm, e);
}

/* A jump that is taken if the entry that r11 hashes to is the one for r10: r11 is its place then. */
static uint8_t *emit_if_entry(struct emitter *e)
{
	emit_branch_index(e, R11);
	emit_load_byte(e, RCX, mem_gs(G(tlb_mode)));
	emit_rorx(e, RCX, RCX, 64 - BRANCH_MODE_SHIFT);
	emit_lea(e, R11, mem_sum(R11, RCX));
	emit_load(e, RCX, mem_gs_index(G(branch_cache[0].mode[0].entry[0].minus_target), R11));
	emit_lea(e, RCX, mem_sum(RCX, R10));
	return emit_jrcxz(e);
}

/*
 * A RET whose target is not that of its landing. When the entry below is the right one, it returns to
 * that: code that drops a return address from its stack is in step again. Nobody's flags change here.
 */
static void routine_return(struct bt_vm *vm, struct emitter *e)
{
	struct host_mem nine = { .base = R10, .index = R10, .scale = 8 };
	uint8_t *first, *second, *empty, *below, *other, *branch;
	uint32_t mismatch;

	vm->return_empty = emit_offset(e); /* begins as a landing does, for whoever looks at what is below */
	emit_landing_sum(e, 0, 1);
	vm->return_pop = emit_offset(e); /* the sentinel's: back onto it */
	emit_lea(e, RSP, mem_at(RSP, -8));
	empty = emit_jmp8(e);
	vm->return_mismatch_any_rip = emit_offset(e);
	emit_store(e, R11, mem_gs(WORD(WORD_RETURN_FROM)));
	mismatch = emit_jmp32(e);
	vm->branch_second = emit_offset(e);
	emit_store(e, R11, mem_gs(WORD(WORD_RETURN_FROM)));
	branch = emit_jmp8(e);
	vm->return_mismatch = emit_offset(e);
	emit_load(e, RCX, mem_at(RSP, 0));
	emit_load(e, RCX, mem_at(RCX, LANDING_EXPECTED));
	emit_lea(e, RCX, mem_sum(RCX, R10));
	below = emit_jrcxz(e);
	other = emit_jmp8(e);
	patch8(e, below);
	emit_ret(e);
	patch8(e, other);
	patch8(e, empty);
	emit_store(e, R11, mem_gs(WORD(WORD_RETURN_FROM)));
	vm->return_lookup = emit_offset(e); /* from here on r11 is free */
	emit_rorx(e, R11, R10, BRANCH_ROTATE);
	emit_lea(e, R11, mem_sum(R11, R10));
	first = emit_if_entry(e);
	patch8(e, branch);
	emit_lea(e, R11, nine);
	emit_rorx(e, R11, R11, BRANCH_SECOND_ROTATE);
	second = emit_if_entry(e);
	vm->return_leave = emit_offset(e);
	emit_store(e, R10, mem_gs(G(rip)));
	emit_mov_imm(e, R10, NO_BLOCK);
	emit_mov_imm(e, RCX, LEAVE_CODE(LEAVE_RETURN, 0, 0));
	emit_jmp_to(e, vm->leave);
	patch8(e, first);
	patch8(e, second);
	emit_jmp_mem(e, mem_gs_index(G(branch_cache[0].mode[0].entry[0].code), R11));
	patch32(vm->rw, mismatch, emit_offset(e)); /* the same look at the entry below, which is for any RIP */
	emit_load(e, RCX, mem_at(RSP, 0));
	emit_op_mem(e, OP_MOVSXD, 8, R11, mem_at(RCX, LANDING_ADDED));
	emit_load32(e, RCX, mem_at(RCX, LANDING_PAGE));
	emit_load(e, RCX, (struct host_mem){ .base = RCX, .index = REG_NONE, .scale = 1, .gs = true });
	emit_lea(e, RCX, mem_sum(RCX, R10));
	emit_lea(e, RCX, (struct host_mem){ .base = RCX, .index = R11, .scale = 1, .disp = -1 });
	below = emit_jrcxz(e);
	emit_jmp_to(e, vm->return_lookup);
	patch8(e, below);
	emit_load(e, R11, mem_gs(WORD(WORD_RETURN_FROM)));
	emit_ret(e);
	vm->return_end = emit_offset(e);
}

/* r11 is counted from the beginning of the mode's table, as in blocks. Nobody's flags change here either. */
static void routine_call_second(struct bt_vm *vm, struct emitter *e)
{
	vm->call_second = emit_offset(e);
	emit_lea(e, R11, (struct host_mem){ .base = R10, .index = R10, .scale = 8 });
	emit_rorx(e, R11, R11, BRANCH_SECOND_ROTATE);
	emit_branch_index(e, R11);
	emit_load_byte(e, RCX, mem_gs(G(tlb_mode)));
	emit_rorx(e, RCX, RCX, 64 - BRANCH_MODE_SHIFT);
	emit_lea(e, RCX, mem_sum(RCX, R11));
	emit_load(e, RCX, mem_gs_index(G(branch_cache[0].mode[0].entry[0].minus_target), RCX));
	emit_lea(e, RCX, mem_sum(RCX, R10));
	emit_ret(e);
	vm->call_second_end = emit_offset(e);
}

void routine_init(struct bt_vm *vm)
{
	struct emitter e = { .p = vm->rw, .base = vm->rw };

	host_init(&e);
	emit64(&e, (uint64_t)(TLB_ENTRIES - 1) << PAGE_SHIFT); /* in the order of CONSTANT_ */
	emit64(&e, PAGE_MASK);
	emit64(&e, (BRANCH_ENTRIES - 1) << 1);
	emit64(&e, 1);
	e.p = vm->rw + CONSTANTS_SIZE;
	routine_enter(vm, &e);
	routine_leave(vm, &e);
	routine_miss(vm, &e);
	routine_callout(vm, &e);
	routine_return(vm, &e);
	routine_call_second(vm, &e);
	vm->routines_end = emit_offset(&e);
}

/* ---- return stacks ---- */

static uint64_t stack_base(const struct bt *bt) { return (uint64_t)(uintptr_t)bt->return_stack; }

static uint64_t stack_empty(const struct bt *bt, unsigned stack)
{
	return stack_base(bt) + stack * RETURN_STACK_SIZE + RETURN_EMPTY;
}

/* Which one translated code was on, or is about to be. */
static unsigned stack_in_use(const struct bt *bt)
{
	return (unsigned)((bt->cpu->engine_word[WORD_RETURN_RSP] - stack_base(bt)) / RETURN_STACK_SIZE);
}

int return_init(struct bt *bt)
{
	uint64_t sentinel = (uint64_t)(uintptr_t)bt_host(bt, bt->vm->return_empty);
	uint8_t *stack = mmap(NULL, RETURN_STACKS * RETURN_STACK_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stack == MAP_FAILED)
		return -errno;
	bt->return_stack = stack;
	for (unsigned i = 0; i < RETURN_STACKS; i++, stack += RETURN_STACK_SIZE) {
		if (mprotect(stack, RETURN_GUARD, PROT_NONE) < 0)
			return -errno;
		__builtin_memcpy(stack + RETURN_EMPTY, &sentinel, sizeof(sentinel));
	}
	bt->cpu->engine_word[WORD_RETURN_RSP] = stack_empty(bt, 0);
	return_drop_all(bt);
	return 0;
}

void return_free(struct bt *bt)
{
	if (bt->return_stack)
		munmap(bt->return_stack, RETURN_STACKS * RETURN_STACK_SIZE);
	bt->return_stack = NULL;
}

void return_drop(struct bt *bt, unsigned stack)
{
	uint64_t *word = bt->cpu->engine_word;

	word[stack == stack_in_use(bt) ? (unsigned)WORD_RETURN_RSP : WORD_RETURN + stack] = stack_empty(bt, stack);
}

void return_drop_all(struct bt *bt)
{
	for (unsigned i = 0; i < RETURN_STACKS; i++)
		return_drop(bt, i);
}

void return_select(struct bt *bt, enum tlb_mode mode)
{
	uint64_t *word = bt->cpu->engine_word;
	unsigned from = stack_in_use(bt);

	if (from == (unsigned)mode)
		return;
	word[WORD_RETURN + from] = word[WORD_RETURN_RSP];
	word[WORD_RETURN_RSP] = word[WORD_RETURN + (unsigned)mode];
}

uint64_t return_stack_of(const struct bt *bt, uint64_t address)
{
	uint64_t offset = address - stack_base(bt);

	return offset < RETURN_STACKS * RETURN_STACK_SIZE ? stack_empty(bt, (unsigned)(offset / RETURN_STACK_SIZE)) : 0;
}
