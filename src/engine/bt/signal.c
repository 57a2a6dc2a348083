/*
 * Signals and translated code: guest instructions that fault on the host (#DE, #XM, #MF, misaligned
 * vectors), and the kick that makes chained blocks stop.
 *
 * Both handlers run on the vCPU's thread, in the middle of translated code or anywhere else. A fault in
 * a block leaves it at the start of the guest instruction, which the interpreter then runs, and raises
 * what is to be raised. A kick leaves the block at once if nothing of the guest instruction has been done
 * yet; else it sets the host's trap flag and looks again after each host instruction. Loops pay nothing
 * for that while nobody kicks, and the code, which other vCPUs may be in, stays as it is.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/bt/bt.h"
#include "engine/interp/hostfault.h"
#include "engine/signals.h"

#define HOST_TF 0x100
#define SIGNAL_STACK_SIZE 65536
#define POP_RCX 0x59
#define JMP_REL32 0xe9

static __thread struct bt *running;    /* the vCPU that this thread is in */
static __thread struct cpu *gs_base;   /* what gs points at */
static __thread int thread_id;

/* Where in the cache a thread is; false: elsewhere. */
static bool in_cache(const struct bt *bt, const ucontext_t *uc, uint32_t *offset)
{
	uint64_t at = (uint64_t)uc->uc_mcontext.gregs[REG_RIP] - (uint64_t)(uintptr_t)bt->rx;

	*offset = (uint32_t)at;
	return at < CACHE_SIZE;
}

static void go(const struct bt *bt, ucontext_t *uc, uint32_t offset)
{
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)bt_host(bt, offset);
}

/* ---- faults ---- */

/* The instruction whose code is at `offset`. */
static unsigned insn_at(const struct bt *bt, const struct block *b, uint32_t offset)
{
	unsigned n = 0;

	while (n + 1 < b->insns && b->entry + bt->marks[b->marks + n + 1].host <= offset)
		n++;
	return n;
}

/*
 * A page fault of the host in a block is never the guest's doing: look-ups keep all accesses in memory that there is.
 * It means that a translation is wrong, and might as well have reached something of the monitor's: the process ends.
 */
static void tell_stray(const struct bt *bt, uint32_t id, uint32_t offset, uint64_t address)
{
	const struct block *b = bt_block(bt, id);
	char text[256];
	int n;

	n = snprintf(text, sizeof(text),
		     "ringside: bt: translated code at %#x of block %u (RIP %#llx, key %#x) accessed host address %#llx: this is a "
		     "bug of Ringside's, and the machine ends here\n",
		     offset - b->entry, id, (unsigned long long)bt_insn_rip(bt, b, insn_at(bt, b, offset)), b->key,
		     (unsigned long long)address);
	if (n > 0 && write(STDERR_FILENO, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1) < 0)
		return;
}

static bool on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct bt *bt = running;
	uint64_t address = (uint64_t)(uintptr_t)info->si_addr, empty = 0;
	uint32_t offset, id;

	if (!bt || !in_cache(bt, uc, &offset))
		return false;
	if (sig == SIGSEGV && address == (uint64_t)uc->uc_mcontext.gregs[REG_RSP] - 8)
		empty = return_stack_of(bt, address);
	if (empty) { /* a push finds the return stack full: it is done again, into an empty one */
		uc->uc_mcontext.gregs[REG_RSP] = (greg_t)empty;
		return true;
	}
	id = cache_block_at(bt->vm, offset);
	if (id == NO_BLOCK)
		return false;
	if (uc->uc_mcontext.gregs[REG_TRAPNO] == VEC_PF) {
		if (sig == SIGSEGV) /* SIGBUS: the host has no memory for a page that there is */
			tell_stray(bt, id, offset, address);
		return false;
	}
	uc->uc_mcontext.gregs[REG_RCX] = LEAVE_CODE(LEAVE_INTERPRET, insn_at(bt, bt_block(bt, id), offset), 0);
	uc->uc_mcontext.gregs[REG_R10] = id;
	uc->uc_mcontext.gregs[REG_EFL] &= ~HOST_TF;
	go(bt, uc, bt->leave);
	return true;
}

/* ---- kicks ---- */

/* In a branch's look-up: to what leaves with the target. */
static bool stop_in_branch(struct bt *bt, ucontext_t *uc, const struct block *b, uint32_t offset)
{
	for (unsigned n = 0; n < b->link_count; n++) {
		const struct link *l = &bt->links[b->links + n];

		if (l->kind == LINK_DIRECT || !l->stub || offset < l->site || offset - l->site >= l->length)
			continue;
		if (l->kind == LINK_LANDING)
			bt->cpu->engine_word[WORD_RETURN_FROM] = (uint64_t)uc->uc_mcontext.gregs[REG_R11];
		else
			bt->cpu->engine_word[WORD_RETURN_FROM] = RETURN_FROM((uint32_t)(b - bt->blocks), n);
		go(bt, uc, l->stub);
		return true;
	}
	return false;
}

/* On the way from a RET to a target that is looked up: the same. */
static bool stop_in_return(struct bt *bt, ucontext_t *uc, uint32_t offset)
{
	const struct bt_vm *vm = bt->vm;

	if (offset < vm->return_empty || offset >= vm->return_end)
		return false;
	if (offset <= vm->return_pop) /* the sentinel has been popped */
		uc->uc_mcontext.gregs[REG_RSP] -= 8;
	if (offset < vm->return_lookup)
		bt->cpu->engine_word[WORD_RETURN_FROM] = (uint64_t)uc->uc_mcontext.gregs[REG_R11];
	go(bt, uc, vm->return_leave);
	return true;
}

/* At a JMP on the way to rarely run code, which may be any instruction's? */
static bool on_way_out(const struct bt *bt, const struct block *b, uint32_t offset)
{
	const uint8_t *host = bt_host(bt, offset);
	uint32_t target;
	int32_t by;

	if (*host != JMP_REL32)
		return false;
	__builtin_memcpy(&by, host + 1, sizeof(by));
	target = offset + 5 + (uint32_t)by;
	return target < bt->vm->routines_end || (target >= b->cold_begin && target < b->cold_end);
}

/* Has nothing been done of the instruction at `offset`? Its number, in *insn. */
static bool at_beginning(const struct bt *bt, const struct block *b, uint32_t offset, unsigned *insn)
{
	*insn = 0;
	if (offset >= b->begin && offset < b->entry) /* the way out for want of vector state */
		return true;
	if (offset < b->begin || offset >= b->end)
		return false;
	if (*(bt->rx + offset) == POP_RCX) /* PUSHF's flags are on the return stack; nothing else is ever popped */
		return false;
	*insn = insn_at(bt, b, offset);
	return offset <= b->entry + bt->marks[b->marks + *insn].commit;
}

/* A request is there. True: translated code will be left; false: not yet, look again after the next
 * host instruction. */
static bool stop(struct bt *bt, ucontext_t *uc)
{
	struct bt_vm *vm = bt->vm;
	uint32_t offset, id;
	unsigned insn;

	if (!in_cache(bt, uc, &offset))
		return true; /* the request is seen before translated code is entered */
	if (offset >= vm->enter_restart && offset < vm->enter_end) {
		go(bt, uc, vm->enter_restart);
		return true;
	}
	if (offset >= vm->miss_restart && offset < vm->miss_end) {
		go(bt, uc, vm->miss_restart);
		return true;
	}
	if (offset >= vm->callout_restart && offset < vm->callout_end) {
		go(bt, uc, vm->callout_restart);
		return true;
	}
	if (stop_in_return(bt, uc, offset))
		return true;
	if (offset >= vm->call_second && offset < vm->call_second_end)
		return false;
	id = cache_block_at(vm, offset);
	if (id == NO_BLOCK)
		return offset < vm->routines_end; /* on the way out */
	if (string_at_rep(bt->rx + offset))
		return true; /* the request is seen behind it */
	if (on_way_out(bt, bt_block(bt, id), offset))
		return false;
	if (stop_in_branch(bt, uc, bt_block(bt, id), offset))
		return true;
	if (!at_beginning(bt, bt_block(bt, id), offset, &insn))
		return false;
	uc->uc_mcontext.gregs[REG_RCX] = LEAVE_CODE(LEAVE_STOP, insn, 0);
	uc->uc_mcontext.gregs[REG_R10] = id;
	go(bt, uc, bt->leave);
	return true;
}

/* The kick, and the host's trap flag after it. */
static void on_kick(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct bt *bt = running;

	(void)info;
	if (sig == SIGNAL_KICK_BT && bt)
		bt->stats.kicks++;
	uc->uc_mcontext.gregs[REG_EFL] &= ~HOST_TF;
	if (bt && __atomic_load_n(&bt->cpu->request, __ATOMIC_RELAXED) && !stop(bt, uc)) {
		uc->uc_mcontext.gregs[REG_EFL] |= HOST_TF;
		bt->stats.steps++;
	}
}

/* From any thread. */
void signal_interrupt(struct bt *bt, uint32_t request)
{
	int tid;

	__atomic_fetch_or(&bt->cpu->request, request, __ATOMIC_SEQ_CST);
	tid = __atomic_load_n(&bt->tid, __ATOMIC_SEQ_CST);
	if (tid && tid != thread_id)
		syscall(SYS_tgkill, getpid(), tid, SIGNAL_KICK_BT);
}

/* ---- the thread ---- */

static int init_error;

/* ThreadSanitizer's sigaction puts handlers off until a system call: no kick would arrive. */
#ifdef TSAN
int __sigaction(int sig, const struct sigaction *action, struct sigaction *old);
#define set_handler __sigaction
#else
#define set_handler sigaction
#endif

static void init(void)
{
	struct sigaction sa = { .sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	sigemptyset(&sa.sa_mask);
	hostfault_install();
	if (!hostfault_add(on_fault))
		init_error = -ENOSPC;
	else if (set_handler(SIGNAL_KICK_BT, &sa, NULL) < 0 || set_handler(SIGTRAP, &sa, NULL) < 0)
		init_error = -errno;
}

int signal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init);
	return init_error;
}

/* Signals find rsp pointing into a return stack: they need one of their own. */
static void prepare_signal_stack(void)
{
	static __thread uint8_t stack[SIGNAL_STACK_SIZE];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) }, old;

	if (sigaltstack(NULL, &old) == 0 && (old.ss_flags & SS_DISABLE))
		sigaltstack(&ss, NULL);
}

void signal_enter(struct bt *bt)
{
	if (__builtin_expect(gs_base != bt->cpu, 0)) {
		prepare_signal_stack();
		syscall(SYS_arch_prctl, ARCH_SET_GS, bt->cpu);
		gs_base = bt->cpu;
		thread_id = (int)syscall(SYS_gettid);
		interp_prepare(bt->cpu);
	}
	running = bt;
	__atomic_store_n(&bt->tid, thread_id, __ATOMIC_SEQ_CST);
}

void signal_leave(struct bt *bt)
{
	__atomic_store_n(&bt->tid, 0, __ATOMIC_SEQ_CST);
	running = NULL;
}
