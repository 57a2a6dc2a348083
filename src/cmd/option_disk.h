/* `--disk` and `--cdrom`: from text to what machine/backends.h wants. */
#ifndef RINGSIDE_OPTION_DISK_H
#define RINGSIDE_OPTION_DISK_H

#include "machine/backends.h"

/* 0, or -EINVAL and one line on stderr. What was parsed lives as long as the process. */
int option_disk(struct backends_config *b, const char *value);
int option_cdrom(struct backends_config *b, const char *value);
/* When all are known: do the controllers have room for them? `has_ide`: if=ide is IDE, not SATA. */
int option_disk_check(const struct backends_config *b, bool has_ide);

#endif
