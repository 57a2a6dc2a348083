/*
 * Raw mode and its end. The mode is restored at exit, and by handlers for the signals that a crash
 * raises; these then give way to the action that was there before, so a crash stays a crash.
 * Signals that ask the process to end are not handled here: run.c takes them one by one.
 */
#include "cmd/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios old_mode;
static volatile sig_atomic_t raw_fd = -1; /* -1: not in raw mode */

static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
#define DEADLY_COUNT (sizeof deadly / sizeof deadly[0])
static struct sigaction old_action[DEADLY_COUNT];

void terminal_restore(void)
{
	int err = errno, fd = raw_fd;

	raw_fd = -1;
	if (fd >= 0)
		tcsetattr(fd, TCSANOW, &old_mode);
	errno = err;
}

/* Returning runs the instruction again, this time under the old action; a signal that was sent is sent again. */
static void crashed(int signo, siginfo_t *info, void *context)
{
	(void)context;
	terminal_restore();
	for (unsigned i = 0; i < DEADLY_COUNT; i++)
		if (deadly[i] == signo)
			sigaction(signo, &old_action[i], NULL);
	if (info->si_code <= 0)
		raise(signo);
}

void terminal_init(void)
{
	struct sigaction action = {.sa_sigaction = crashed, .sa_flags = SA_ONSTACK | SA_NODEFER | SA_SIGINFO};

	sigfillset(&action.sa_mask);
	for (unsigned i = 0; i < DEADLY_COUNT; i++)
		sigaction(deadly[i], &action, &old_action[i]);
	atexit(terminal_restore);
}

bool terminal_raw(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &mode) < 0)
		return false;
	if (raw_fd < 0)
		old_mode = mode;
	cfmakeraw(&mode);
	/* Lines that Ringside itself prints end in a newline only. */
	mode.c_oflag |= OPOST;
	mode.c_cc[VMIN] = 1;
	mode.c_cc[VTIME] = 0;
	raw_fd = fd;
	tcsetattr(fd, TCSANOW, &mode);
	return true;
}
