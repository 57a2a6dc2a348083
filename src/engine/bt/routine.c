/*
 * The generated routines around blocks, at the start of the cache.
 *
 *   enter(cpu, code)  C calls it: guest state into registers, jump to a block. Returns a LEAVE_CODE.
 *   leave             blocks jump there with the code in ecx and their id in r10d
 *   miss              blocks call it when a TLB look-up fails: address in r10, which access in ecx, id in r11d
 *   callout           blocks call it where the interpreter has to run an instruction: struct callout at rcx
 *   callout_last      the same, jumped to: what does not come back
 *
 * enter, miss and callout end in a stretch that looks at cpu->request and then loads guest state. A kick whose
 * signal arrives in it starts it over (signal.c), so that no request is overlooked. A request leaves the
 * block at the instruction whose access missed, of which nothing has been done yet, or behind the one that
 * was called out.
 */
#include "engine/bt/bt.h"

#define ARITH_FLAGS 0x8d5

static const host_reg saved[] = { RBX, RBP, R12, R13, R14, R15 };
#define SAVED (sizeof(saved) / sizeof(saved[0]))

enum { OP_OR = 0x09, OP_TEST = 0x85 };

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
	emit8(e, 0xc3);
}

static void routine_enter(struct bt_vm *vm, struct emitter *e)
{
	uint32_t requested;

	vm->enter = (uint32_t (*)(struct cpu *, const void *))(uintptr_t)(vm->rx + emit_offset(e));
	for (unsigned i = 0; i < SAVED; i++)
		emit_push(e, saved[i]);
	emit_push(e, RSI);
	emit_store(e, RSP, mem_gs(WORD(WORD_RSP)));
	vm->enter_restart = emit_offset(e);
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit_jmp_mem(e, (struct host_mem){ .base = RSP, .index = REG_NONE, .scale = 1 });
	vm->enter_end = emit_offset(e);
	patch32(vm->rw, requested, emit_offset(e));
	emit_mov_imm(e, RAX, LEAVE_REQUEST);
	emit_return(e);
}

static void routine_leave(struct bt_vm *vm, struct emitter *e)
{
	vm->leave = emit_offset(e);
	emit_save_guest(e);
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
	emit_load(e, RSP, mem_gs(WORD(WORD_RSP)));
	emit_load(e, RCX, mem_gs(WORD(WORD_TARGET)));
	emit_store(e, RCX, mem_at(RSP, 0));
	emit_jmp_to(e, vm->enter_restart);
	patch8(e, not_enter);
	emit_return(e);
}

static void routine_miss(struct bt_vm *vm, struct emitter *e)
{
	uint32_t gone, requested;

	vm->miss = emit_offset(e);
	emit_save_guest(e);
	emit_save_flags(e);
	emit_store(e, R10, mem_gs(WORD(WORD_ADDRESS)));
	emit_store(e, RSP, mem_gs(WORD(WORD_MISS_RSP)));
	emit_add_imm(e, RSP, -8);
	emit_mov(e, 8, RSI, R10);
	emit_mov(e, 4, RDX, RCX);
	emit_mov(e, 4, RCX, R11);
	emit_load(e, RDI, mem_gs(WORD(WORD_SELF)));
	emit_call_mem(e, mem_gs(WORD(WORD_MISS_FN)));
	emit8(e, OP_TEST); /* eax, eax: what to leave with, 0 to try again */
	emit_modrm_reg(e, RAX, RAX);
	gone = emit_jcc32(e, 5);

	vm->miss_restart = emit_offset(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_MISS_RSP)));
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit_load(e, R10, mem_gs(WORD(WORD_ADDRESS)));
	emit8(e, 0xc3);
	vm->miss_end = emit_offset(e);

	patch32(vm->rw, requested, emit_offset(e));
	emit_add_imm(e, RSP, -8);
	emit_load(e, RDI, mem_gs(WORD(WORD_SELF)));
	emit_call_mem(e, mem_gs(WORD(WORD_STOP_FN)));

	patch32(vm->rw, gone, emit_offset(e));
	routine_gone(vm, e);
}

static void routine_callout(struct bt_vm *vm, struct emitter *e)
{
	uint32_t gone, requested;

	vm->callout_last = emit_offset(e);
	emit_push(e, RCX); /* where a return address would be */
	vm->callout = emit_offset(e);
	emit_save_guest(e);
	emit_save_flags(e);
	emit_store(e, RSP, mem_gs(WORD(WORD_MISS_RSP)));
	emit_add_imm(e, RSP, -8);
	emit_mov(e, 8, RSI, RCX);
	emit_load(e, RDI, mem_gs(WORD(WORD_SELF)));
	emit_call_mem(e, mem_gs(WORD(WORD_CALLOUT_FN)));
	emit8(e, OP_TEST);
	emit_modrm_reg(e, RAX, RAX);
	gone = emit_jcc32(e, 5);

	vm->callout_restart = emit_offset(e);
	emit_load(e, RSP, mem_gs(WORD(WORD_MISS_RSP)));
	requested = emit_if_request(e);
	emit_load_flags(e);
	emit_load_guest(e);
	emit8(e, 0xc3);
	vm->callout_end = emit_offset(e);

	patch32(vm->rw, requested, emit_offset(e));
	emit_mov_imm(e, RAX, LEAVE_REQUEST);
	emit_return(e);

	patch32(vm->rw, gone, emit_offset(e));
	routine_gone(vm, e);
}

void routine_init(struct bt_vm *vm)
{
	struct emitter e = { .p = vm->rw, .base = vm->rw };

	routine_enter(vm, &e);
	routine_leave(vm, &e);
	routine_miss(vm, &e);
	routine_callout(vm, &e);
	vm->routines_end = emit_offset(&e);
}
