/* `--console`, `--share` and `--vsock`: from text to what machine/backends.h wants. */
#ifndef RINGSIDE_OPTION_VIRTIO_H
#define RINGSIDE_OPTION_VIRTIO_H

#include "machine/backends.h"

/* 0, or -EINVAL and one line on stderr. What was parsed lives as long as the process. */
int option_console(struct backends_config *b, const char *value);
int option_share(struct backends_config *b, const char *value);
int option_vsock(struct backends_config *b, const char *value);
/* A serial line or a console is on standard input. */
bool option_stdio_is_taken(const struct backends_config *b);

#endif
