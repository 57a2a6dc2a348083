/*
 * Owner of SIGFPE, SIGILL, SIGSEGV and SIGBUS, see hostfault.h. Handlers are installed once and stay.
 */
#include "engine/interp/hostfault.h"

#include <pthread.h>
#include <stddef.h>
#include <ucontext.h>

#define FUNCTIONS_MAX 4

__thread struct hostfault_stub hostfault_stub;

static hostfault_fn *functions[FUNCTIONS_MAX];
static struct sigaction before[NSIG];
static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS };

bool interp_host_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	(void)sig;
	(void)info;
	if (rip < hostfault_stub.begin || rip >= hostfault_stub.end)
		return false;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)hostfault_stub.exit;
	hostfault_stub.vector = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
	return true;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	if (interp_host_fault(sig, info, context))
		return;
	for (unsigned i = 0; i < FUNCTIONS_MAX; i++) {
		hostfault_fn *fn = __atomic_load_n(&functions[i], __ATOMIC_ACQUIRE);
		if (fn && fn(sig, info, context))
			return;
	}
	/* Not ours. To whoever had the signal (a sanitizer), or the default: the instruction faults
	 * again with the handler gone. */
	const struct sigaction *old = &before[sig];
	if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction)
		old->sa_sigaction(sig, info, context);
	else
		sigaction(sig, old, NULL);
}

static void install(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, &before[signals[i]]);
}

void hostfault_install(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, install);
}

bool hostfault_add(hostfault_fn *fn)
{
	for (unsigned i = 0; i < FUNCTIONS_MAX; i++) {
		hostfault_fn *none = NULL;
		if (__atomic_load_n(&functions[i], __ATOMIC_ACQUIRE) == fn)
			return true;
		if (__atomic_compare_exchange_n(&functions[i], &none, fn, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}
