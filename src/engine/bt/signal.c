/*
 * Signals and translated code: guest instructions that fault on the host (#DE, #XM, #MF, misaligned
 * vectors), and the kick that makes chained blocks stop.
 *
 * Both handlers run on the vCPU's thread, in the middle of translated code or anywhere else. A fault in
 * a block leaves it at the start of the guest instruction, which the interpreter then runs, and raises
 * what is to be raised. A kick takes the links of the block that is running off, so that it leaves at
 * its end; that costs loops nothing while nobody kicks.
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

#define KICK_SIGNAL (SIGRTMIN + 5)

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

static bool on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct bt *bt = running;
	uint32_t offset, id;

	(void)sig;
	(void)info;
	if (!bt || !in_cache(bt, uc, &offset))
		return false;
	id = cache_block_at(bt, offset);
	if (id == NO_BLOCK)
		return false;
	uc->uc_mcontext.gregs[REG_RCX] = LEAVE_CODE(LEAVE_INTERPRET, insn_at(bt, bt_block(bt, id), offset), 0);
	uc->uc_mcontext.gregs[REG_R10] = id;
	go(bt, uc, bt->leave);
	return true;
}

/* ---- kicks ---- */

static void stop_block(struct bt *bt, uint32_t id)
{
	cache_unchain_all_of(bt, id);
	/* Every branch now looks at entry 0, which is empty. */
	bt->cpu->engine_word[WORD_BRANCH_MASK] = 0;
	for (unsigned m = 0; m < BRANCH_MODES; m++)
		bt->cpu->branch_cache->mode[m].minus_target[0] = TLB_EMPTY;
}

/* What the miss routine calls when a request came while it was away. */
static void stop_at(struct cpu *cpu, const uint8_t *host)
{
	struct bt *bt = bt_of(cpu);
	uint32_t id = cache_block_at(bt, (uint32_t)(host - bt->rx));

	if (id != NO_BLOCK)
		stop_block(bt, id);
}

static void on_kick(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct bt *bt = running;
	uint32_t offset, id;

	(void)sig;
	(void)info;
	if (!bt || !__atomic_load_n(&bt->cpu->request, __ATOMIC_RELAXED) || !in_cache(bt, uc, &offset))
		return; /* not in translated code: the request is seen before it is entered */
	bt->stats.kicks++;
	if (offset >= bt->enter_restart && offset < bt->enter_end) {
		uc->uc_mcontext.gregs[REG_RSP] = (greg_t)bt->cpu->engine_word[WORD_RSP];
		go(bt, uc, bt->enter_restart);
		return;
	}
	if (offset >= bt->miss_restart && offset < bt->miss_end) {
		go(bt, uc, bt->miss_restart);
		return;
	}
	id = cache_block_at(bt, offset);
	if (id == NO_BLOCK)
		return;
	stop_block(bt, id);
	for (unsigned n = 0; n < bt_block(bt, id)->link_count; n++) {
		const struct link *l = &bt->links[bt_block(bt, id)->links + n];

		if (l->kind == LINK_BRANCH && offset >= l->site && offset < l->stub)
			go(bt, uc, l->site);
	}
}

void signal_kick(struct bt *bt)
{
	int tid;

	__atomic_fetch_or(&bt->cpu->request, REQUEST_EXIT, __ATOMIC_SEQ_CST);
	tid = __atomic_load_n(&bt->tid, __ATOMIC_SEQ_CST);
	if (tid && tid != thread_id)
		syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
}

/* ---- the thread ---- */

static int init_error;

static void init(void)
{
	struct sigaction sa = { .sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	sigemptyset(&sa.sa_mask);
	hostfault_install();
	if (!hostfault_add(on_fault))
		init_error = -ENOSPC;
	else if (sigaction(KICK_SIGNAL, &sa, NULL) < 0)
		init_error = -errno;
}

int signal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, init);
	return init_error;
}

void signal_enter(struct bt *bt)
{
	if (__builtin_expect(gs_base != bt->cpu, 0)) {
		syscall(SYS_arch_prctl, ARCH_SET_GS, bt->cpu);
		gs_base = bt->cpu;
		thread_id = (int)syscall(SYS_gettid);
		interp_prepare(bt->cpu);
		bt->cpu->engine_word[WORD_STOP_FN] = (uint64_t)(uintptr_t)stop_at;
	}
	running = bt;
	__atomic_store_n(&bt->tid, thread_id, __ATOMIC_SEQ_CST);
}

void signal_leave(struct bt *bt)
{
	__atomic_store_n(&bt->tid, 0, __ATOMIC_SEQ_CST);
	running = NULL;
}
