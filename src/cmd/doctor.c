/*
 * ringside doctor: what this host can do for guests, and what to do about each lack. It looks and tries; it changes
 * nothing. Main thread.
 *
 * One line a thing: "ok" what is there, "no" what is not and would help; below a "no" what to do about it.
 * `ringside doctor --engines` prints the names of the engines that run here, best first, for scripts.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "engine/engine.h"

__attribute__((format(printf, 2, 3))) static void says(const char *thing, const char *fmt, ...)
{
	va_list ap;

	printf("ok  %-14s ", thing);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

__attribute__((format(printf, 3, 4))) static void lacks(const char *thing, const char *advice, const char *fmt, ...)
{
	va_list ap;

	printf("no  %-14s ", thing);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n    %-14s -> %s\n", "", advice);
}

/* The first line of a file of the kernel's, without its end; false: it cannot be read. */
static bool line_of(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool read = file && fgets(line, (int)size, file);

	if (file)
		fclose(file);
	if (read)
		line[strcspn(line, "\n")] = '\0';
	return read;
}

/* The value of a line "KEY : VALUE" of a file. */
static bool value_of(const char *path, const char *key, char *value, size_t size)
{
	FILE *file = fopen(path, "re");
	char line[8192];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		const char *colon = strchr(line, ':');

		if (!colon || strncmp(line, key, strlen(key)) != 0)
			continue;
		snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
		value[strcspn(value, "\n")] = '\0';
		found = true;
	}
	if (file)
		fclose(file);
	return found;
}

static void processor(void)
{
	static const char *const wanted[] = {"bmi2",    "xsave",    "avx",          "avx2",
					     "avx512f", "fsgsbase", "constant_tsc", "nonstop_tsc"};
	char model[128] = "unknown", flags[8192] = " ", has[200] = "", not[200] = "";

	value_of("/proc/cpuinfo", "model name", model, sizeof(model));
	value_of("/proc/cpuinfo", "flags", flags + 1, sizeof(flags) - 2);
	strcat(flags, " ");
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		char word[32], *list;

		snprintf(word, sizeof(word), " %s ", wanted[i]);
		list = strstr(flags, word) ? has : not;
		snprintf(list + strlen(list), sizeof(has) - strlen(list), " %s", wanted[i]);
	}
	says("processor", "%s; %ld online", model, sysconf(_SC_NPROCESSORS_ONLN));
	says("", "has%s%s%s", has, *not ? "; has not" : "", not);
	if (strstr(not, " bmi2"))
		lacks("BMI2",
		      "Intel's processors have it since Haswell, AMD's since Zen; in a virtual machine: a CPU model that has it "
		      "(host, max, EPYC, Haswell)",
		      "engine bt needs it: without KVM guests are interpreted, many times slower");
	if (strstr(not, "nonstop_tsc"))
		lacks("clock", "nothing to do: guests take the kvm-clock", "the time stamp counter may stop");
}

/* What to do about an engine that this host is not fit for. */
static const char *engine_advice(const struct engine *engine, int err)
{
	if (!engine->device && (err == -EACCES || err == -EPERM))
		return "SELinux (execmem), a service's or a container's rules may forbid it: permit it for ringside";
	switch (err) {
	case -ENOENT:
		return "load kvm-intel or kvm-amd; virtualization may be off in the firmware's setup, or not given to this VM";
	case -EACCES:
	case -EPERM:
		return "as root: adduser USER kvm, then log in again";
	default:
		return "nothing to do in this machine; --engine auto takes another one";
	}
}

/* False: no engine runs. */
static bool engines_here(void)
{
	const struct engine *chosen = NULL;
	char why[200];

	for (unsigned i = 0; engines[i]; i++) {
		int r = 0;

		*why = '\0';
		if (engines[i]->probe)
			r = engine_probe(engines[i], why, sizeof(why));
		if (r < 0) {
			lacks(engines[i]->name, engine_advice(engines[i], r), "%s", why);
			continue;
		}
		says(engines[i]->name, "%s%s%s", engines[i]->help, *why ? "; " : "", why);
		if (!chosen)
			chosen = engines[i];
	}
	if (chosen)
		says("--engine auto", "takes %s", chosen->name);
	return chosen;
}

static void uring(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(8, &ring, 0);
	char line[32] = "";

	if (r == 0) {
		io_uring_queue_exit(&ring);
		says("io_uring", "disks can use it");
		return;
	}
	line_of("/proc/sys/kernel/io_uring_disabled", line, sizeof(line));
	lacks("io_uring", *line && *line != '0' ? "as root: sysctl kernel.io_uring_disabled=0" :
	      r == -ENOMEM ? "raise the limit of locked memory (ulimit -l)" : "a kernel or container that allows it",
	      "%s: disks are read and written by threads", strerror(-r));
}

static void tap(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), err = errno;

	if (fd < 0)
		lacks("tap", err == ENOENT ? "as root: modprobe tun" : "as root: give the user /dev/net/tun, or use --net user",
		      "/dev/net/tun: %s", strerror(err));
	else if (geteuid() == 0)
		says("tap", "--net tap can make devices");
	else
		says("tap", "--net tap can use devices that root has made for this user: ip tuntap add mode tap user USER NAME");
	if (fd >= 0)
		close(fd);
}

/* The word in brackets of a file like "always [madvise] never". */
static bool chosen_word(const char *path, char *word, size_t size)
{
	char line[128], *open, *close;

	if (!line_of(path, line, sizeof(line)) || !(open = strchr(line, '[')) || !(close = strchr(open, ']')))
		return false;
	*close = '\0';
	snprintf(word, size, "%s", open + 1);
	return true;
}

static void memory(void)
{
	static const char shared[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char word[32], total[64] = "?", available[64] = "?";

	value_of("/proc/meminfo", "MemTotal", total, sizeof(total));
	value_of("/proc/meminfo", "MemAvailable", available, sizeof(available));
	says("memory", "%s, %s available", total, available);
	if (line_of("/proc/sys/vm/overcommit_memory", word, sizeof(word)) && strcmp(word, "2") == 0)
		lacks("overcommit", "as root: sysctl vm.overcommit_memory=0, or room for it: vm.overcommit_ratio",
		      "each machine under engine bt counts as 350 MiB of used memory beside its RAM");
	if (!chosen_word(shared, word, sizeof(word)))
		lacks("huge pages", "a kernel with CONFIG_TRANSPARENT_HUGEPAGE", "none for guest memory");
	else if (strcmp(word, "never") == 0 || strcmp(word, "deny") == 0)
		lacks("huge pages", "as root: echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		      "not for shared memory, which guest memory is (%s)", word);
	else
		says("huge pages", "for guest memory (%s)", word);
}

static void limit(const char *name, int resource, uint64_t wanted, const char *advice)
{
	struct rlimit l;

	if (getrlimit(resource, &l) < 0)
		return;
	if (l.rlim_cur == RLIM_INFINITY)
		says(name, "unlimited");
	else if (l.rlim_cur < wanted)
		lacks(name, advice, "%ju, less than %ju", (uintmax_t)l.rlim_cur, (uintmax_t)wanted);
	else
		says(name, "%ju", (uintmax_t)l.rlim_cur);
}

/* What --sandbox is made of. */
static void sandbox(void)
{
	uint32_t action = SECCOMP_RET_TRAP;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0)
		says("seccomp", "system calls of each thread can be restricted");
	else
		lacks("seccomp", "--sandbox off, or a kernel with CONFIG_SECCOMP_FILTER", "%s", strerror(errno));
	if (abi > 0)
		says("Landlock", "version %ld: files of each thread can be restricted", abi);
	else
		lacks("Landlock", "a kernel from 5.13 on, with landlock among the modules of its parameter lsm=",
		      "system calls are restricted, and which files they name is not");
}

/* In a child: may this user have namespaces of its own? */
static void namespaces(void)
{
	pid_t pid;
	int status = 0;

	signal(SIGCHLD, SIG_DFL); /* KVM's self-test does not want to know how its child ended */
	pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) < 0 ? errno & 0x7f : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		lacks("namespaces", "raise the limit of processes (ulimit -u)", "cannot be tried");
	else if (WEXITSTATUS(status))
		lacks("namespaces", "for --sandbox chroot, as root: sysctl user.max_user_namespaces=1000 "
		      "kernel.unprivileged_userns_clone=1; in a container they may be forbidden", "%s",
		      strerror(WEXITSTATUS(status)));
	else
		says("namespaces", "user, mount and network namespaces can be made");
}

/* What others make, and who has it in Debian; by the names that machine/firmware.c, uefi.c and devices.c open. */
static void files(void)
{
	static const struct {
		const char *thing, *path, *advice;
	} wanted[] = {
		{"BIOS", "/usr/share/seabios/bios-256k.bin", "as root: apt install seabios; or --bios FILE, --kernel FILE"},
		{"UEFI", "/usr/share/OVMF/OVMF_CODE_4M.fd", "for --uefi, as root: apt install ovmf"},
		{"network boot", "/usr/lib/ipxe/qemu/efi-virtio.rom", "as root: apt install ipxe-qemu"},
	}, libraries[] = {
		{"user network", "libslirp.so.0", "for --net user, as root: apt install libslirp0"},
		{"VNC", "libvncserver.so.1", "for --vnc, as root: apt install libvncserver1"},
		{"NBD", "libnbd.so.0", "for disks of servers, as root: apt install libnbd0"},
	};

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (access(wanted[i].path, R_OK) == 0)
			says(wanted[i].thing, "%s", wanted[i].path);
		else
			lacks(wanted[i].thing, wanted[i].advice, "%s: %s", wanted[i].path, strerror(errno));
	for (unsigned i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
		if (dlopen(libraries[i].path, RTLD_LAZY))
			says(libraries[i].thing, "%s", libraries[i].path);
		else
			lacks(libraries[i].thing, libraries[i].advice, "%s", dlerror());
}

static int print_engines(void)
{
	for (unsigned i = 0; engines[i]; i++)
		if (engine_runs_here(engines[i]))
			puts(engines[i]->name);
	return STATUS_OK;
}

int cmd_doctor(int argc, char **argv)
{
	char kernel[256] = "?";
	bool runs;

	if (argc == 1 && strcmp(argv[0], "--engines") == 0)
		return print_engines();
	if (argc > 0) {
		fprintf(stderr, "ringside doctor: '%s': --engines or nothing is wanted\n", argv[0]);
		return STATUS_USAGE;
	}
	line_of("/proc/version", kernel, sizeof(kernel));
	kernel[strcspn(kernel, "(")] = '\0';
	says("kernel", "%s", kernel);
	processor();
	runs = engines_here();
	memory();
	limit("open files", RLIMIT_NOFILE, 1024, "raise it: ulimit -n 4096");
	limit("address space", RLIMIT_AS, 1ull << 40, "guest memory and translations take addresses: ulimit -v unlimited");
	limit("data", RLIMIT_DATA, 1ull << 30, "what engine bt keeps of translations takes addresses: ulimit -d unlimited");
	limit("file size", RLIMIT_FSIZE, 1ull << 40, "guest memory and disks are files: ulimit -f unlimited");
	uring();
	tap();
	sandbox();
	namespaces();
	files();
	if (!runs)
		puts("no guest can run here");
	return runs ? STATUS_OK : STATUS_ERROR;
}
