/*
 * The signals that engines keep for themselves: each vCPU's thread of that engine gets its own, by tgkill, and nobody
 * blocks them. Faults of the host's (SIGSEGV and the like) are interp/hostfault.h's, SIGSYS is the sandbox's, and what
 * the user sends goes to the signal descriptor of cmd/run.c.
 */
#ifndef RINGSIDE_ENGINE_SIGNALS_H
#define RINGSIDE_ENGINE_SIGNALS_H

#include <signal.h>

#define SIGNAL_KICK_BT (SIGRTMIN + 5)  /* leaves translated code, or steps out of it: bt/signal.c */
#define SIGNAL_KICK_KVM (SIGRTMIN + 6) /* ends KVM_RUN: kvm/run.c */

#endif
