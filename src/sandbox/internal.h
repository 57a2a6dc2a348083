/* What the sandbox's files share. */
#ifndef RINGSIDE_SANDBOX_INTERNAL_H
#define RINGSIDE_SANDBOX_INTERNAL_H

#include <linux/filter.h>

#include "sandbox/sandbox.h"

/* filters.c, before any thread is there: the role's filter as the kernel takes it; program->filter is malloc'ed. 0 or
 * -errno. */
int sandbox_compile(enum sandbox_role role, unsigned needs, struct sock_fprog *program);
/* The name of a system call, or NULL. Malloc'ed. */
char *sandbox_call_name(int call);

/* paths.c. Main thread; 0, or -errno and *what says what could not be done. */
int paths_prepare(const struct sandbox_config *config, const char **what);
/* The calling thread, any, can reach no files but the role's. Without Landlock in the host: does nothing. 0, or -errno
 * and *what. */
int paths_enter(enum sandbox_role role, const char **what);
/* With `chroot`: all threads' root directory becomes one that has only the machine's paths. 0, or
 * -errno and *what. */
int paths_change_root(const struct sandbox_config *config, const char **what);

#endif
