/* ringside COMMAND ...: finds the command; nothing else. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/descriptors.h"

int main(int argc, char **argv)
{
	descriptors_fill_standard();
	if (argc < 2) {
		fprintf(stderr, "ringside: no command; try 'ringside --help'\n");
		return STATUS_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
		return cmd_help();
	if (strcmp(argv[1], "--version") == 0)
		return cmd_version();
	if (strcmp(argv[1], "run") == 0)
		return cmd_run(argc - 2, argv + 2);
	if (strcmp(argv[1], "screenshot") == 0)
		return cmd_screenshot(argc - 2, argv + 2);
	if (strcmp(argv[1], "doctor") == 0)
		return cmd_doctor(argc - 2, argv + 2);
	fprintf(stderr, "ringside: unknown command '%s'; try 'ringside --help'\n", argv[1]);
	return STATUS_USAGE;
}
