/*
 * Preparing and entering the sandbox, the end of a thread that breaks out of its role, and files that stay open for a
 * reset. See sandbox.h.
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define CALLS 512 /* system calls that have a name here */
#define STATUS_FORBIDDEN (128 + SIGSYS)
#define KEPT_MAX 64u
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* siginfo_t.si_code, in the kernel's headers only */
#endif

static const char *const role_names[] = {
#define X(id, name) name,
	SANDBOX_ROLE_LIST(X)
#undef X
};

/* Of the process; written by sandbox_prepare, before other threads are there. */
static struct sandbox_config config;
static bool prepared;
static struct sock_fprog program[SANDBOX_ROLES];
static char *call_name[CALLS];
static struct sigaction action_before;

static __thread const char *role_name = "a thread";

/* ---- the end ---- */

__attribute__((noreturn)) static void end(const char *line, size_t len)
{
	ssize_t n = write(STDERR_FILENO, line, len);

	(void)n;
	_exit(STATUS_FORBIDDEN);
}

/* What is used here is safe in a signal handler: snprintf of strings and integers is in the GNU C library. */
static void forbidden(int sig, siginfo_t *info, void *context)
{
	const char *name = info->si_syscall >= 0 && info->si_syscall < CALLS ? call_name[info->si_syscall] : NULL;
	char line[256];

	if (info->si_code == SYS_SECCOMP) {
		/* The terminal as it was. */
		if ((action_before.sa_flags & SA_SIGINFO) && action_before.sa_sigaction)
			action_before.sa_sigaction(sig, info, context);
		int n = snprintf(line, sizeof line,
				 "ringside: the sandbox ends this machine: %s called %s (system call %d), which it has no need of\n",
				 role_name, name ? name : "?", info->si_syscall);
		end(line, (size_t)n);
	}
	_exit(STATUS_FORBIDDEN);
}

/* ---- entering ---- */

#define CAP(n) (1ull << (n))
#define CAPS_OF_FILES (CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH))
#define CAPS_OF_SHARES (CAPS_OF_FILES | CAP(CAP_CHOWN) | CAP(CAP_FOWNER) | CAP(CAP_FSETID))

/* Which of its capabilities, if root has started the process, a role keeps: those with which it reaches the files that it
 * was given, whoever owns them. */
static uint64_t capabilities_of(enum sandbox_role role)
{
	uint64_t kept = 0;

	switch (role) {
	case SANDBOX_SHARE:
		return CAPS_OF_SHARES;
	case SANDBOX_REMOTE_DISK:
		return CAPS_OF_FILES;
	case SANDBOX_IO: /* and its threads' */
		for (unsigned i = 0; i < config.paths; i++)
			kept |= config.path[i].kind == SANDBOX_SHARE_READ || config.path[i].kind == SANDBOX_SHARE_WRITE ?
					CAPS_OF_SHARES : CAPS_OF_FILES;
		return kept;
	default:
		return 0;
	}
}

static int drop_capabilities(enum sandbox_role role)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct set[_LINUX_CAPABILITY_U32S_3];
	uint64_t kept = capabilities_of(role);

	if (syscall(SYS_capget, &header, set) < 0)
		return -errno;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		set[i].permitted &= (uint32_t)(kept >> 32 * i);
		set[i].effective = set[i].permitted;
		set[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, set) < 0 ? -errno : 0;
}

static int refuse(const char *what, int err, char *error, size_t size)
{
	snprintf(error, size, "--sandbox: %s: %s; --sandbox off goes without", what, strerror(-err));
	return err;
}

static int install_handler(void)
{
	struct sigaction action = {.sa_sigaction = forbidden, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGSYS, &action, &action_before) < 0 ? -errno : 0;
}

int sandbox_prepare(const struct sandbox_config *wanted, char *error, size_t size)
{
	uint32_t action = SECCOMP_RET_TRAP;
	const char *what;
	int r;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
		return refuse("this host has no seccomp filters", -errno, error, size);
	config = *wanted;
	prepared = true; /* what is opened from now on is kept */
	sandbox_can_open("/proc/self/smaps"); /* for statistics */
	sandbox_can_open("/proc/self/status");
	if (config.device)
		close(sandbox_open(config.device, O_RDWR)); /* not there: who needs it says so */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return refuse("no_new_privs", -errno, error, size);
	if ((r = paths_prepare(&config, &what)) < 0)
		return refuse(what, r, error, size);
	for (unsigned i = 0; i < SANDBOX_ROLES; i++)
		if ((r = sandbox_compile(i, config.needs, &program[i])) < 0)
			return refuse("libseccomp", r, error, size);
	for (int i = 0; i < CALLS; i++)
		call_name[i] = sandbox_call_name(i);
	if ((r = install_handler()) < 0)
		return refuse("SIGSYS", r, error, size);
	return 0;
}

void sandbox_enter(enum sandbox_role role)
{
	const char *what;
	char line[256];
	int r = 0;

	if (!prepared)
		return;
	role_name = role_names[role];
	if (role == SANDBOX_IO)
		r = paths_change_root(&config, &what);
	if (r == 0)
		r = paths_enter(role, &what);
	if (r == 0 && (r = drop_capabilities(role)) < 0)
		what = "capabilities";
	/* Without SPEC_ALLOW hosts before Linux 5.16 make the thread slow: docs/security.md says what is promised. */
	if (r == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program[role]) < 0) {
		r = -errno;
		what = "seccomp";
	}
	if (r == 0)
		return;
	int n = snprintf(line, sizeof line, "ringside: the sandbox cannot be entered by %s: %s: %s\n", role_name, what,
			 strerror(-r));
	end(line, (size_t)n);
}

/* ---- files ---- */

static struct kept {
	char *path;
	int fd; /* -1: it was not there */
	int error;
} kept[KEPT_MAX];
static unsigned kept_count;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

/* Opens what is not kept yet. NULL: no room. kept_lock held. */
static struct kept *find(const char *path, int flags)
{
	for (unsigned i = 0; i < kept_count; i++)
		if (strcmp(kept[i].path, path) == 0)
			return &kept[i];
	if (kept_count == KEPT_MAX)
		return NULL;
	struct kept *k = &kept[kept_count];
	if (!(k->path = strdup(path)))
		return NULL;
	k->fd = open(path, flags | O_CLOEXEC, 0666);
	k->error = k->fd < 0 ? errno : 0;
	kept_count++;
	return k;
}

int sandbox_open(const char *path, int flags)
{
	int fd = -1, err = EMFILE;

	if (!prepared)
		return open(path, flags | O_CLOEXEC, 0666);
	pthread_mutex_lock(&kept_lock);
	struct kept *k = find(path, flags);
	if (k && k->fd < 0) {
		err = k->error;
	} else if (k) {
		fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 0);
		err = errno;
		lseek(k->fd, 0, SEEK_SET);
	}
	pthread_mutex_unlock(&kept_lock);
	errno = err;
	return fd;
}

bool sandbox_can_open(const char *path)
{
	int fd = sandbox_open(path, O_RDONLY);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}
