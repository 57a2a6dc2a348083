/* ringside --help, ringside --version. */
#include <stdio.h>

#include "cmd/cmd.h"

int cmd_help(void)
{
	fputs("ringside " RINGSIDE_VERSION ": a virtual machine monitor for x86-64\n"
	      "\n"
	      "usage:\n"
	      "  ringside run [--kernel FILE] [options] boot a guest; its serial console is this terminal\n"
	      "  ringside run --help                    all options, the console's keys, exit statuses\n"
	      "  ringside screenshot ADDRESS FILE.png   what the screen of a running guest shows\n"
	      "  ringside doctor                        what this host can do for guests, and what to do about lacks\n"
	      "  ringside --version\n"
	      "\n"
	      "examples: Linux, to whatever the initrd starts; what a BIOS finds on a disk\n"
	      "  ringside run --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0\"\n"
	      "  ringside run --memory 1G --disk debian.img --net user\n"
	      "\n"
	      "KVM is used where it really works, and is not needed: elsewhere the guest's code runs by binary\n"
	      "translation. Neither are root privileges. Ctrl-A x ends a guest, Ctrl-A h lists the other keys.\n",
	      stdout);
	return STATUS_OK;
}

int cmd_version(void)
{
	puts("ringside " RINGSIDE_VERSION);
	return STATUS_OK;
}
