/*
 * Host signals that guest instructions cause while they run natively: SIGFPE, SIGILL, SIGSEGV, SIGBUS.
 *
 * One owner of sigaction for the whole process. The interpreter's stubs (stub.c) are asked first;
 * another engine adds its own function for its generated code. A fault that nobody knows ends the
 * process as it would have without us. Handlers run on the thread that faulted, in signal context, on
 * the alternate stack if the thread has one.
 */
#ifndef RINGSIDE_HOSTFAULT_H
#define RINGSIDE_HOSTFAULT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* True: the fault was ours, and *context (a ucontext_t) says where to go on. */
typedef bool hostfault_fn(int sig, siginfo_t *info, void *context);

/* Installs the handlers; any number of times, from any thread. */
void hostfault_install(void);
/* Adds an engine's function, asked after the interpreter. Before any guest runs. False: no room. */
bool hostfault_add(hostfault_fn *fn);

/* The stub that this thread is in: a fault in [begin, end) continues at `exit`, with the exception's
 * vector set. */
struct hostfault_stub {
	uintptr_t begin, end, exit;
	volatile int vector; /* -1: none */
};
extern __thread struct hostfault_stub hostfault_stub;

/* True when the fault was in this thread's stub and was dealt with. */
bool interp_host_fault(int sig, siginfo_t *info, void *context);

#endif
