/*
 * The command line of `ringside run`. One table of options: parsing and help both come from it.
 * Main thread.
 */
#include "cmd/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/option_disk.h"
#include "cmd/option_net.h"
#include "cmd/option_sandbox.h"
#include "cmd/option_screen.h"
#include "cmd/option_virtio.h"
#include "dev/debug.h"
#include "ui/chardev.h"
#include "util/log.h"

#define DEFAULT_MEMORY (512ull << 20)
/* The sanitizers' run-time libraries look at files and processes as they like. */
#ifdef SANITIZERS
#define SANDBOX_DEFAULT SANDBOX_OFF
#else
#define SANDBOX_DEFAULT SANDBOX_ON
#endif

struct option {
	const char *name, *argument; /* NULL: takes none; [FILE]: with = only, or none */
	const char *help;
	int (*set)(struct run_options *o, const char *value);
};

int option_bad(const char *fmt, ...)
{
	va_list ap;

	fputs("ringside run: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return -EINVAL;
}

/* A number in decimal or, with 0x, in hexadecimal; *end is what follows. False: none, or too large. */
static bool number(const char *s, uint64_t *value, const char **end)
{
	char *e;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*value = strtoull(s, &e, s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10);
	*end = e;
	return errno == 0 && e != s;
}

static int set_kernel(struct run_options *o, const char *v)
{
	o->vm.kernel = v;
	return 0;
}
static int set_initrd(struct run_options *o, const char *v)
{
	o->vm.initrd = v;
	return 0;
}
static int set_append(struct run_options *o, const char *v)
{
	o->vm.append = v;
	return 0;
}
static int set_bios(struct run_options *o, const char *v)
{
	o->vm.firmware.bios = v;
	return 0;
}
static int set_uefi(struct run_options *o, const char *v)
{
	o->vm.firmware.uefi = true;
	o->vm.firmware.vars = v;
	return 0;
}
static int set_boot(struct run_options *o, const char *v)
{
	static char order[5];
	size_t n = strspn(v, "acdn");

	if (strcmp(v + n, n ? ",menu" : "menu") == 0)
		o->vm.firmware.boot_menu = true;
	else if (v[n] || !n)
		return option_bad("--boot %s: letters of 'acdn' are wanted, or 'menu', or both with a comma between", v);
	if (n > 3)
		return option_bad("--boot %s: three letters at most", v);
	memcpy(order, v, n);
	order[n] = '\0';
	o->vm.firmware.boot_order = n ? order : NULL;
	return 0;
}
static int set_no_reboot(struct run_options *o, const char *v)
{
	(void)v;
	o->vm.no_reboot = true;
	return 0;
}
static int set_own_apics(struct run_options *o, const char *v)
{
	(void)v;
	o->vm.own_apics = true;
	return 0;
}
static int set_no_hpet(struct run_options *o, const char *v)
{
	(void)v;
	o->vm.no_hpet = true;
	return 0;
}
static int set_testdev(struct run_options *o, const char *v)
{
	(void)v;
	o->vm.testdev = true;
	return 0;
}
static int set_rng(struct run_options *o, const char *v)
{
	(void)v;
	o->vm.devices.rng = true;
	return 0;
}
static int set_stats(struct run_options *o, const char *v)
{
	(void)v;
	o->stats = true;
	o->vm.counting = true;
	return 0;
}
static int set_help(struct run_options *o, const char *v)
{
	(void)v;
	o->help = true;
	return 0;
}

/* A size in bytes, a multiple of PAGE_SIZE. `what` is the option, for messages. */
static int size_argument(const char *what, const char *v, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	unsigned shift = 20;
	uint64_t n;

	if (!number(v, &n, &end))
		return option_bad("%s %s: a size like 512M or 2G is wanted", what, v);
	if (*end != '\0') {
		unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!unit || end[1] != '\0')
			return option_bad("%s %s: unknown unit; K, M, G or T are wanted, and a plain number is MiB", what, v);
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (n == 0)
		return option_bad("%s %s: a guest without memory cannot run", what, v);
	if (n > (uint64_t)INT64_MAX >> shift)
		return option_bad("%s %s: more than this host has", what, v);
	*bytes = ((n << shift) + PAGE_SIZE - 1) & PAGE_MASK;
	return 0;
}

static int set_memory(struct run_options *o, const char *v)
{
	return size_argument("--memory", v, &o->vm.memory_size);
}

static int set_balloon(struct run_options *o, const char *v)
{
	o->vm.devices.balloon = true;
	return size_argument("--balloon", v, &o->vm.devices.balloon_target);
}

static int set_cpus(struct run_options *o, const char *v)
{
	const char *end;
	uint64_t n;

	if (!number(v, &n, &end) || *end || n < 1 || n > VCPUS_MAX)
		return option_bad("--cpus %s: a number from 1 to %d is wanted", v, VCPUS_MAX);
	o->vm.cpus = (unsigned)n;
	return 0;
}

static int set_machine(struct run_options *o, const char *v)
{
	if (strcmp(v, "pc") == 0)
		o->vm.machine = MACHINE_PC;
	else if (strcmp(v, "q35") == 0)
		o->vm.machine = MACHINE_Q35;
	else
		return option_bad("--machine %s: unknown machine; there are: pc, q35", v);
	return 0;
}

static int set_engine(struct run_options *o, const char *v)
{
	char known[256] = "auto";

	o->vm.engine = engine_find(v);
	if (o->vm.engine || strcmp(v, "auto") == 0)
		return 0;
	for (unsigned i = 0; engines[i]; i++) {
		size_t len = strlen(known);

		snprintf(known + len, sizeof known - len, ", %s", engines[i]->name);
	}
	return option_bad("--engine %s: unknown engine; there are: %s", v, known);
}

static int set_net(struct run_options *o, const char *v) { return option_net(&o->vm.backends, v); }
/* The first is COM1, the next COM2, ... "none" leaves one out. */
static int set_serial(struct run_options *o, const char *v)
{
	char error[256];
	unsigned n = o->serial_ports++;

	o->vm.backends.no_serial = true;
	if (n == SERIAL_PORTS)
		return option_bad("--serial: %d ports at most", SERIAL_PORTS);
	if (strcmp(v, "none") == 0)
		return 0;
	if (strcmp(v, "stdio") == 0) {
		if (option_stdio_is_taken(&o->vm.backends))
			return option_bad("--serial stdio: standard input is the line of one port only");
	} else if (chardev_check(v, error, sizeof error) < 0) {
		return option_bad("--serial %s", error);
	}
	o->vm.backends.serial[n] = v;
	return 0;
}

static int set_qmp(struct run_options *o, const char *v)
{
	char error[256];

	if (strncmp(v, "unix:", 5) != 0 && strncmp(v, "tcp:", 4) != 0)
		return option_bad("--qmp %s: unix:PATH or tcp:[ADDRESS:]PORT is wanted", v);
	if (chardev_check(v, error, sizeof error) < 0)
		return option_bad("--qmp %s", error);
	o->vm.backends.qmp = v;
	return 0;
}

static int set_debug_exit(struct run_options *o, const char *v)
{
	const char *end;
	uint64_t n;

	if (!number(v, &n, &end) || *end || n > 0x10000 - DEBUG_EXIT_PORTS)
		return option_bad("--debug-exit %s: a port like 0xf4 is wanted, 0 to %#x", v, 0x10000 - DEBUG_EXIT_PORTS);
	o->vm.debug_exit_port = (int)n;
	return 0;
}

static int set_log(struct run_options *o, const char *v)
{
	const char *word;
	int len;

	(void)o;
	if (log_enable(v, &word, &len) == 0)
		return 0;
	return option_bad("--log %s: unknown topic '%.*s'; 'ringside run --help' lists them", v, len, word);
}

static int set_sandbox(struct run_options *o, const char *v) { return option_sandbox(o, v); }
static int set_console(struct run_options *o, const char *v) { return option_console(&o->vm.backends, v); }
static int set_share(struct run_options *o, const char *v) { return option_share(&o->vm.backends, v); }
static int set_vsock(struct run_options *o, const char *v) { return option_vsock(&o->vm.backends, v); }
static int set_disk(struct run_options *o, const char *v) { return option_disk(&o->vm.backends, v); }
static int set_cdrom(struct run_options *o, const char *v) { return option_cdrom(&o->vm.backends, v); }

static int set_vga(struct run_options *o, const char *v) { return option_vga(&o->vm.backends, v); }
static int set_input(struct run_options *o, const char *v) { return option_input(&o->vm.backends, v); }
static int set_screen(struct run_options *o, const char *v) { return option_screen(&o->vm.backends, v); }
static int set_vnc(struct run_options *o, const char *v) { return option_vnc(&o->vm.backends, v); }

static const struct option options[] = {
	{"--kernel", "FILE", "Linux bzImage, ELF kernel with a PVH entry, or Multiboot image", set_kernel},
	{"--initrd", "FILE", "initial RAM disk; for a Multiboot kernel its module", set_initrd},
	{"--append", "TEXT", "the kernel's command line; Linux wants console=ttyS0 in it to talk here", set_append},
	{"--bios", "FILE", "firmware, where there is no --kernel; default Debian's SeaBIOS", set_bios},
	{"--uefi", "[FILE]", "UEFI (OVMF) instead of a BIOS; --uefi=FILE keeps its variables there", set_uefi},
	{"--boot", "ORDER", "letters a c d n: from floppy, disk, CD-ROM, network; `,menu` behind them or alone", set_boot},
	{"--machine", "TYPE", "the chip set: pc (i440FX and PIIX, the default) or q35 (MCH and ICH9)", set_machine},
	{"--own-apics", NULL, "local APICs in Ringside, also where the host's kernel can have them", set_own_apics},
	{"--no-hpet", NULL, "a machine without a high precision event timer", set_no_hpet},
	{"--memory", "SIZE", "RAM, with K, M, G or T; a plain number is MiB; default 512M", set_memory},
	{"--cpus", "N", "virtual processors, 1 to 64; default 1", set_cpus},
	{"--disk", "FILE", "a disk: FILE, then words like format=qcow2, if=sata, ro, snapshot, cache=none; see docs/cli.md",
	 set_disk},
	{"--cdrom", "FILE", "a disc in a CD-ROM drive; if=ide|sata|scsi", set_cdrom},
	{"--net", "KIND", "a network card on user,... tap,... or socket,...; may be given several times", set_net},
	{"--console", "LINE", "a virtio console (hvc0); with ,name=NAME a port of that name; may be given several times",
	 set_console},
	{"--share", "DIR", "a directory for the guest to mount by 9p: DIR[:TAG][:ro]; TAG is 'share' without", set_share},
	{"--vsock", "PATH", "virtio sockets: PATH[,cid=N]; see docs/cli.md", set_vsock},
	{"--balloon", "SIZE", "a memory balloon: of its memory the guest is to keep SIZE", set_balloon},
	{"--rng", NULL, "a virtio entropy device", set_rng},
	{"--vga", "KIND", "a display adapter: std or none; default none, std when something shows it", set_vga},
	{"--input", "KIND", "a virtio tablet or keyboard, or none; default tablet when there is a screen", set_input},
	{"--screen", "text", "the screen in this terminal, in text modes; the first serial port is then none", set_screen},
	{"--vnc", "ADDRESS", "the screen by VNC: [HOST]:N or unix:PATH, then [,password-file=FILE]", set_vnc},
	{"--engine", "NAME", "how guest code runs: auto, the best way that this host is fit for (the default), or see below",
	 set_engine},
	{"--serial", "LINE", "COM1's other end, given again COM2's ...; see below; default stdio", set_serial},
	{"--qmp", "SOCKET", "listens for QMP commands at unix:PATH or tcp:[ADDRESS:]PORT", set_qmp},
	{"--sandbox", "KIND", "on (the default): system calls and files restricted; chroot: namespaces too; off", set_sandbox},
	{"--no-reboot", NULL, "a guest that resets ends instead of booting again", set_no_reboot},
	{"--stats", NULL, "statistics on stderr at the end", set_stats},
	{"--log", "TOPICS", "log lines on stderr; topics separated by commas, see below", set_log},
	{"--debug-exit", "PORT", "a guest's write of N to this port ends it with status 2N+1", set_debug_exit},
	{"--testdev", NULL, "test registers that kvm-unit-tests use", set_testdev},
	{"--help", NULL, "this text", set_help},
};

static const struct option *option_find(const char *name, size_t len)
{
	for (unsigned i = 0; i < sizeof options / sizeof options[0]; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
			return &options[i];
	return NULL;
}

/* Says what may have been meant: an option that begins so, or with two dashes. Returns -EINVAL. */
static int option_unknown(const char *arg, size_t len)
{
	size_t dashes = strspn(arg, "-"), n = len - dashes;

	if (dashes == 0)
		return option_bad("'%s' is no option; --kernel, --disk or --cdrom goes before a file", arg);
	for (unsigned i = 0; n >= 3 && i < sizeof options / sizeof options[0]; i++) {
		const char *name = options[i].name + 2;
		size_t whole = strlen(name);

		if (memcmp(name, arg + dashes, n < whole ? n : whole) == 0)
			return option_bad("unknown option '%.*s'; is --%s meant?", (int)len, arg, name);
	}
	return option_bad("unknown option '%.*s'; try 'ringside run --help'", (int)len, arg);
}

/* What the options say together. */
static int options_check(const struct run_options *o)
{
	const struct vm_config *vm = &o->vm;
	const struct firmware_config *firmware = &vm->firmware;

	if (firmware->bios && firmware->uefi)
		return option_bad("--bios and --uefi: one of them");
	if (vm->kernel && (firmware->bios || firmware->uefi || firmware->boot_order || firmware->boot_menu))
		return option_bad("--bios, --uefi and --boot are for machines that firmware boots: not with --kernel");
	if (!vm->kernel && (vm->initrd || vm->append))
		return option_bad("--initrd and --append go with --kernel");
	if (!vm->kernel && !firmware->bios && !firmware->uefi && vm->backends.disk_count == 0 && vm->backends.nets == 0)
		return option_bad("nothing to boot: --kernel, --disk, --cdrom or --net is wanted (or --uefi or --bios, alone)");
	if (option_screen_check(&vm->backends) < 0 || option_disk_check(&vm->backends, vm->machine == MACHINE_PC) < 0)
		return -EINVAL;
	if (vm->engine && vm->engine->cpus_max && vm->cpus > vm->engine->cpus_max)
		return option_bad("--cpus %u: engine %s has %u at most; others have up to %d", vm->cpus, vm->engine->name,
				  vm->engine->cpus_max, VCPUS_MAX);
	return 0;
}

int options_parse(struct run_options *o, int argc, char **argv)
{
	*o = (struct run_options){.sandbox = SANDBOX_DEFAULT, .vm = {
					  .memory_size = DEFAULT_MEMORY,
					  .cpus = 1,
					  .debug_exit_port = -1,
					  .input_fd = -1,
					  .output_fd = -1,
					  .host_fd = -1,
				  }};
	for (int i = 0; i < argc; i++) {
		const char *equals = strchr(argv[i], '=');
		size_t len = equals ? (size_t)(equals - argv[i]) : strlen(argv[i]);
		const struct option *option = option_find(argv[i], len);
		const char *value = equals ? equals + 1 : NULL;

		if (strcmp(argv[i], "-h") == 0)
			option = option_find("--help", strlen("--help"));
		if (!option)
			return option_unknown(argv[i], len);
		if (!option->argument && value)
			return option_bad("%s takes no value", option->name);
		if (option->argument && *option->argument != '[' && !value) {
			if (++i == argc)
				return option_bad("%s wants %s behind it", option->name, option->argument);
			value = argv[i];
		}
		int r = option->set(o, value);
		if (r < 0)
			return r;
	}
	return o->help ? 0 : options_check(o);
}

void options_help(void)
{
	static const struct {
		const char *name, *help;
	} topics[] = {
#define X(id, name, help) {name, help},
		LOG_TOPICS(X)
#undef X
	};

	puts("usage: ringside run [--kernel FILE] [options]\n\noptions:");
	for (unsigned i = 0; i < sizeof options / sizeof options[0]; i++)
		printf("  %-13s %-7s %s\n", options[i].name, options[i].argument ? options[i].argument : "",
		       options[i].help);
	puts("\nengines (--engine), best first; `ringside doctor` says which this host is fit for:");
	for (unsigned i = 0; engines[i]; i++)
		printf("  %-10s %s\n", engines[i]->name, engines[i]->help);
	puts("\nlog topics (--log; `all` is every one):");
	for (unsigned i = 0; i < sizeof topics / sizeof topics[0]; i++)
		printf("  %-10s %s\n", topics[i].name, topics[i].help);
	puts("\nserial lines (--serial):\n"
	     "  stdio                 standard input and output\n"
	     "  file:PATH             output to a file\n"
	     "  pty                   a pseudo-terminal; its name is printed\n"
	     "  unix:PATH             a Unix socket to connect to, one client at a time\n"
	     "  tcp:[ADDRESS:]PORT    the same over TCP; 127.0.0.1 without an address\n"
	     "  null                  a port with nobody there\n"
	     "  none                  no port");
	puts("\nThe guest's serial console is stdin and stdout: a terminal (set to raw mode and restored), pipes or\n"
	     "files. At a terminal Ctrl-A is Ringside's: Ctrl-A x ends the guest, Ctrl-A h lists the keys.\n"
	     "SIGUSR1 prints statistics, SIGPWR presses the power button.\n"
	     "\n"
	     "exit status:");
	printf("  %-5d the guest powered off, reset with --no-reboot, or was ended by Ctrl-A x\n", STATUS_OK);
	printf("  %-5d the guest could not be started, or the engine could not go on\n", STATUS_ERROR);
	printf("  %-5d bad command line\n", STATUS_USAGE);
	printf("  %-5d triple fault: the state of the vCPU is on stderr\n", STATUS_TRIPLE_FAULT);
	printf("  %-5s the guest wrote N to the --debug-exit port\n", "2N+1");
	printf("  %-5s ended by signal S; a closed stdout counts as SIGPIPE, the sandbox's end of a machine as SIGSYS\n", "128+S");
	puts("\nexample:\n"
	     "  ringside run --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0 quiet\" --memory 1G");
}
