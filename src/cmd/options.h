/* The command line of `ringside run`: a table of options, parsed into a VM's configuration. */
#ifndef RINGSIDE_OPTIONS_H
#define RINGSIDE_OPTIONS_H

#include <stdbool.h>

#include "machine/vm.h"

enum sandbox_choice { SANDBOX_ON, SANDBOX_OFF, SANDBOX_CHROOT };

struct run_options {
	struct vm_config vm;
	enum sandbox_choice sandbox;
	bool stats, help;
	unsigned serial_ports; /* how many --serial there were */
};

/* 0, or -EINVAL and one line on stderr. Strings point into argv. */
int options_parse(struct run_options *o, int argc, char **argv);
/* One line on stderr: what the user gave is bad. Returns -EINVAL. */
int option_bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* All of `ringside run --help`. */
void options_help(void);

#endif
