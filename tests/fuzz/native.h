/*
 * Runs user code on the bare host CPU, in this process, from a given state to the first exception,
 * and tells the state and the exception. Header only; one thread; on Linux/x86-64.
 *
 * The code ends in an exception (INT3 at the latest), unless it returns to itself for ever, by a return address that it has
 * written: SIGALRM to the thread ends it then. The kernel's signal frame holds all registers and the XSAVE area, so the state
 * is exact.
 */
#ifndef FUZZ_NATIVE_H
#define FUZZ_NATIVE_H

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "engine/interp/hostfault.h"

#define XSAVE_MAX 4096

struct user_state {
	uint64_t gpr[16]; /* in the order of enum gpr */
	uint64_t rip, rflags;
	uint64_t cr2, error;
	unsigned vector;
	uint8_t xsave[XSAVE_MAX] __attribute__((aligned(64)));
};

/* Used by the assembly below. */
struct user_state *native_state;
uint64_t native_mask, native_stack;
struct {
	uint32_t offset;
	uint16_t selector;
} __attribute__((packed)) native_far; /* where to: the kernel's flat segments for 64- or 32-bit programs */
void native_enter(void);
void native_resume(void);
static volatile bool native_active, native_endless;

__asm__(".text\n"
	"native_enter:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, native_stack(%rip)\n"
	"	mov $0x2b, %eax\n	mov %eax, %ds\n	mov %eax, %es\n" /* 32-bit code cannot do without */
	"	mov native_mask(%rip), %eax\n"
	"	mov native_mask+4(%rip), %edx\n"
	"	mov native_state(%rip), %rdi\n"
	"	xrstor64 192(%rdi)\n"
	"	pushq 136(%rdi)\n"
	"	popfq\n"
	"	mov 0(%rdi), %rax\n	mov 8(%rdi), %rcx\n	mov 16(%rdi), %rdx\n	mov 24(%rdi), %rbx\n"
	"	mov 32(%rdi), %rsp\n	mov 40(%rdi), %rbp\n	mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8\n	mov 72(%rdi), %r9\n	mov 80(%rdi), %r10\n	mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12\n	mov 104(%rdi), %r13\n	mov 112(%rdi), %r14\n	mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	ljmpl *native_far(%rip)\n"
	"native_resume:\n"
	"	fninit\n"
	"	pushq $0x1f80\n	ldmxcsr (%rsp)\n	pop %rax\n"
	"	cld\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
	"	ret\n");
_Static_assert(offsetof(struct user_state, rflags) == 136 && offsetof(struct user_state, xsave) == 192, "native_enter");

static bool native_fault(int sig, siginfo_t *info, void *context)
{
	static const int order[16] = { 13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7 }; /* REG_RAX ... in gregs */
	ucontext_t *uc = context;
	struct user_state *s = native_state;
	const uint8_t *frame = (const uint8_t *)uc->uc_mcontext.fpregs;
	uint32_t magic, size = 512;
	(void)sig;
	(void)info;
	if (!native_active)
		return false;
	native_active = false;
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = (uint64_t)uc->uc_mcontext.gregs[order[i]];
	s->rip = (uint64_t)uc->uc_mcontext.gregs[16];
	s->rflags = (uint64_t)uc->uc_mcontext.gregs[17];
	s->error = (uint64_t)uc->uc_mcontext.gregs[19];
	s->vector = (unsigned)uc->uc_mcontext.gregs[20];
	s->cr2 = (uint64_t)uc->uc_mcontext.gregs[22];
	memset(s->xsave, 0, sizeof(s->xsave));
	memcpy(&magic, frame + 464, 4);
	if (magic == 0x46505853) /* FP_XSTATE_MAGIC1: xstate_size follows */
		memcpy(&size, frame + 464 + 16, 4);
	memcpy(s->xsave, frame, size < XSAVE_MAX ? size : XSAVE_MAX);
	uc->uc_mcontext.gregs[16] = (greg_t)(uintptr_t)native_resume;
	uc->uc_mcontext.gregs[15] = (greg_t)native_stack;
	uc->uc_mcontext.gregs[18] = (uc->uc_mcontext.gregs[18] & ~0xffffll) | 0x33; /* CS */
	return true;
}

static struct sigaction native_trap_before; /* an engine's */

static void native_trap(int sig, siginfo_t *info, void *context)
{
	if (native_fault(sig, info, context))
		return;
	if (!(native_trap_before.sa_flags & SA_SIGINFO))
		abort();
	native_trap_before.sa_sigaction(sig, info, context);
}

/* Whoever sends it thinks that the program has run for long. The monitor's code is above 4 GiB. */
static void native_alarm(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	if (!((uint64_t)uc->uc_mcontext.gregs[16] >> 32) && native_fault(sig, info, context))
		native_endless = true;
}

static void native_init(uint64_t mask)
{
	static uint8_t stack[256 << 10];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = native_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct sigaction alarmed = { .sa_sigaction = native_alarm, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	struct sigaction before;
	native_mask = mask;
	if (sigaltstack(&ss, NULL) || sigaction(SIGTRAP, &sa, &before) || sigaction(SIGALRM, &alarmed, NULL)) {
		perror("native_init");
		exit(2);
	}
	if (before.sa_sigaction != native_trap)
		native_trap_before = before;
	hostfault_install();
	hostfault_add(native_fault);
}

/* *s is where it starts (below 4 GiB) and, afterwards, where it ended. bits: 64 or 32. False: it did not end. */
static bool native_run(struct user_state *s, unsigned bits)
{
	native_state = s;
	native_far.offset = (uint32_t)s->rip;
	native_far.selector = bits == 64 ? 0x33 : 0x23;
	native_endless = false;
	native_active = true;
	native_enter();
	return !native_endless;
}

#endif
