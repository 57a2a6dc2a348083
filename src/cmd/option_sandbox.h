/* --sandbox, and what a machine of a given configuration needs of the host once it runs. Main thread. */
#ifndef RINGSIDE_OPTION_SANDBOX_H
#define RINGSIDE_OPTION_SANDBOX_H

#include "cmd/options.h"

/* 0 or -EINVAL. */
int option_sandbox(struct run_options *o, const char *value);
/* Before anything is opened for the machine. 0, or -errno and one line in error[0..size). */
int option_sandbox_prepare(const struct run_options *o, char *error, size_t size);

#endif
