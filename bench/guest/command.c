/*
 * A unit of work that is a run of another program. Its environment is this one, whatever the machine's is.
 */
#include "rows.h"
#include "sys.h"

uint64_t command_run(char *const *arguments)
{
	static const char *const environment[] = {
		"PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C", "PERL_HASH_SEED=0", NULL,
	};
	static uint8_t buffer[65536];
	uint64_t hash = 0;
	int output[2], status = 0;
	long child, count;

	if (sys3(SYS_PIPE, (long)output, 0, 0))
		bench_fail("pipe");
	child = sys3(SYS_FORK, 0, 0, 0);
	if (child < 0)
		bench_fail("fork");
	if (!child) {
		/* Errors go the usual way, to be read. */
		sys3(SYS_DUP2, output[1], 1, 0);
		sys3(SYS_CLOSE, output[0], 0, 0);
		sys3(SYS_CLOSE, output[1], 0, 0);
		sys3(SYS_EXECVE, (long)arguments[0], (long)arguments, (long)environment);
		sys3(SYS_EXIT_GROUP, 127, 0, 0);
	}
	sys3(SYS_CLOSE, output[1], 0, 0);
	while ((count = sys3(SYS_READ, output[0], (long)buffer, sizeof(buffer))) > 0)
		for (long i = 0; i < count; i++)
			hash = (hash ^ buffer[i]) * 0x100000001b3u + 0x9e3779b97f4a7c15u;
	sys3(SYS_CLOSE, output[0], 0, 0);
	if (count < 0 || sys6(SYS_WAIT4, child, (long)&status, 0, 0, 0, 0) != child)
		bench_fail("read or wait4");
	if (status)
		bench_fail("a program ended badly");
	return hash;
}
