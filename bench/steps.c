/*
 * Counts host instructions: steps a running Ringside's vCPU with ptrace(2), one host instruction after
 * the other, and says where they were, and how many there were to each instruction of the guest.
 *
 *   steps PID [INSTRUCTIONS [WINDOWS [MILLISECONDS]]]
 *
 * PID is a Ringside with engine bt and --stats (which makes translated code count the guest's
 * instructions; the host instructions that do so are left out here). All its threads stand still while
 * one vCPU, the first in the guest, is stepped, so that no timer ticks into it. WINDOWS stretches of INSTRUCTIONS
 * each are taken, MILLISECONDS apart, each after SETTLE more in which what was pending is over; what is
 * printed is the median one. Not a profile of time: a cache miss counts like an addition.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

/* sys/user.h has its own. */
#undef PAGE_SIZE
#undef PAGE_MASK
#include "engine/bt/bt.h"

#define THREADS 256
#define WINDOWS 100
#define SYMBOLS 8192
#define SETTLE 100000
static pid_t pid, thread[THREADS], vcpu;
static unsigned threads;
static struct cpu *cpu; /* there */
static struct bt_vm vm; /* a copy */

static void die(const char *what)
{
	fprintf(stderr, "steps: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

static void get(const void *there, void *here, size_t size)
{
	struct iovec local = { here, size }, remote = { (void *)(uintptr_t)there, size };

	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)size)
		die("cannot read the process's memory");
}

static void attach(void)
{
	char name[64];
	struct dirent *d;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/task", (int)pid);
	dir = opendir(name);
	if (!dir)
		die(name);
	threads = 0;
	vcpu = 0;
	while ((d = readdir(dir)) && threads < THREADS) {
		struct user_regs_struct regs;
		pid_t tid = atoi(d->d_name);

		if (tid <= 0)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 ||
		    waitpid(tid, NULL, __WALL) != tid)
			die("cannot attach");
		thread[threads++] = tid;
		if (!vcpu && ptrace(PTRACE_GETREGS, tid, 0, &regs) == 0 && regs.gs_base && (long)regs.orig_rax < 0) {
			vcpu = tid;
			cpu = (struct cpu *)(uintptr_t)regs.gs_base;
		}
	}
	closedir(dir);
}

static void detach(void)
{
	for (unsigned n = 0; n < threads; n++)
		ptrace(PTRACE_DETACH, thread[n], 0, 0);
}

/* ---- functions of the program, by address ---- */

static struct symbol {
	uint64_t address;
	const char *name;
} symbol[SYMBOLS];
static unsigned symbols;
static uint64_t base; /* where the program is */
static const uint8_t *image;

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static void load_symbols(void)
{
	const Elf64_Ehdr *h;
	const Elf64_Shdr *s;
	char name[64], line[512];
	struct stat st;
	FILE *maps;
	int fd;

	snprintf(name, sizeof(name), "/proc/%d/exe", (int)pid);
	fd = open(name, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		die(name);
	image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image == MAP_FAILED)
		die(name);
	h = (const Elf64_Ehdr *)image;
	s = (const Elf64_Shdr *)(image + h->e_shoff);
	for (unsigned n = 0; n < h->e_shnum; n++) {
		const Elf64_Sym *sym = (const Elf64_Sym *)(image + s[n].sh_offset);

		if (s[n].sh_type != SHT_SYMTAB)
			continue;
		for (unsigned i = 0; i < s[n].sh_size / sizeof(*sym) && symbols < SYMBOLS; i++)
			if (ELF64_ST_TYPE(sym[i].st_info) == STT_FUNC && sym[i].st_size)
				symbol[symbols++] = (struct symbol){
					sym[i].st_value, (const char *)image + s[s[n].sh_link].sh_offset + sym[i].st_name };
	}
	if (!symbols)
		die("the program has no symbols");
	qsort(symbol, symbols, sizeof(*symbol), by_address);
	snprintf(name, sizeof(name), "/proc/%d/maps", (int)pid);
	maps = fopen(name, "r");
	if (!maps || !fgets(line, sizeof(line), maps) || sscanf(line, "%lx", &base) != 1)
		die(name);
	fclose(maps);
}

#define OUTSIDE SYMBOLS /* of the program: libraries */
static unsigned symbol_at(uint64_t rip)
{
	unsigned low = 0, high = symbols;

	if (rip - base >= 1 << 24)
		return OUTSIDE;
	while (high - low > 1) {
		unsigned middle = (low + high) / 2;

		if (symbol[middle].address <= rip - base)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* ---- counting ---- */

enum { HOT, COLD, ROUTINE, C_CODE, PLACES };
static uint8_t *code; /* a copy of the cache */
static struct window {
	uint64_t count[PLACES], all, guest, accesses;
	uint32_t in[SYMBOLS + 1]; /* by function */
} *window, *w;

/* The host's instruction at `insn` loads a counter of the guest's: three instructions belong to it. */
static bool loads_counter(const uint8_t *insn)
{
	static const uint8_t load[] = { 0x65, 0x48, 0x8b, 0x0c, 0x25 }; /* mov rcx, gs:[disp32] */
	int32_t disp;

	if (memcmp(insn, load, sizeof(load)))
		return false;
	memcpy(&disp, insn + sizeof(load), 4);
	return disp == G(insns) || disp == G(tlb_accesses);
}


static void step(void)
{
	int status, sig = 0;

	do {
		if (ptrace(PTRACE_SINGLESTEP, vcpu, 0, sig) < 0 || waitpid(vcpu, &status, __WALL) != vcpu)
			die("cannot step");
		if (!WIFSTOPPED(status))
			die("it has ended");
		sig = WSTOPSIG(status); /* another than SIGTRAP: one of its own */
	} while (sig != SIGTRAP);
}

static void count_here(void)
{
	struct user_regs_struct regs;
	uint64_t at;

	if (ptrace(PTRACE_GETREGS, vcpu, 0, &regs) < 0)
		die("registers");
	at = regs.rip - (uint64_t)(uintptr_t)vm.rx;
	if (at >= CACHE_SIZE) {
		w->count[C_CODE]++;
		w->in[symbol_at(regs.rip)]++;
		return;
	}
	w->count[at < vm.routines_end ? ROUTINE : at % REGION_SIZE >= REGION_HOT ? COLD : HOT]++;
	if (loads_counter(code + at))
		w->count[HOT] -= 3;
}

static void step_window(unsigned instructions)
{
	uint64_t before[2], after[2];

	for (unsigned n = 0; n < SETTLE; n++)
		step();
	get((char *)cpu + G(insns), &before[0], 8);
	get((char *)cpu + G(tlb_accesses), &before[1], 8);
	for (unsigned n = 0; n < instructions; n++) {
		count_here();
		step();
	}
	get((char *)cpu + G(insns), &after[0], 8);
	get((char *)cpu + G(tlb_accesses), &after[1], 8);
	w->guest = after[0] - before[0];
	w->accesses = after[1] - before[1];
	for (unsigned n = 0; n < PLACES; n++)
		w->all += w->count[n];
}

static double share(uint64_t n) { return w->guest ? (double)n / (double)w->guest : 0; }

static int by_ratio(const void *a, const void *b)
{
	const struct window *x = a, *y = b;
	double p = (double)x->all / (double)(x->guest + 1), q = (double)y->all / (double)(y->guest + 1);

	return p < q ? -1 : p > q;
}

static void print(unsigned taken)
{
	qsort(window, taken, sizeof(*window), by_ratio);
	w = &window[taken / 2];
	if (!w->guest)
		die("no guest instruction was run: is it engine bt, with --stats?");
	printf("host instructions to each of the guest's: %.2f  (%llu to %llu, the median of %u windows)\n", share(w->all),
	       (unsigned long long)w->all, (unsigned long long)w->guest, taken);
	printf("  %6.2f  translated code\n  %6.2f  its rarely run part\n  %6.2f  enter, leave, miss\n  %6.2f  C\n",
	       share(w->count[HOT]), share(w->count[COLD]), share(w->count[ROUTINE]), share(w->count[C_CODE]));
	for (unsigned line = 0; line < 10; line++) {
		unsigned best = OUTSIDE;

		for (unsigned n = 0; n < symbols; n++)
			best = w->in[n] > w->in[best] ? n : best;
		if (w->in[best] * 200ull < w->all)
			break;
		printf("  %6.2f    %s\n", share(w->in[best]), best == OUTSIDE ? "(libraries)" : symbol[best].name);
		w->in[best] = 0;
	}
	printf("  data accesses of translated code to each instruction of the guest: %.2f\n", share(w->accesses));
}

int main(int argc, char **argv)
{
	unsigned instructions = argc > 2 ? (unsigned)atoi(argv[2]) : 50000, windows = argc > 3 ? (unsigned)atoi(argv[3]) : 9;
	unsigned pause = argc > 4 ? (unsigned)atoi(argv[4]) : 50, taken = 0;

	if (argc < 2 || !instructions || !windows || windows > WINDOWS) {
		fprintf(stderr, "usage: steps PID [INSTRUCTIONS [WINDOWS [MILLISECONDS]]]\n");
		return 2;
	}
	pid = atoi(argv[1]);
	load_symbols();
	code = malloc(CACHE_SIZE);
	window = calloc(windows, sizeof(*window));
	if (!code || !window)
		die("memory");
	for (unsigned tries = 0; taken < windows && tries < 20 * windows; tries++) {
		struct timespec t = { pause / 1000, pause % 1000 * 1000000 };
		struct bt bt;

		attach();
		if (vcpu) {
			void *state;

			get(&cpu->engine_state, &state, sizeof(state));
			get(state, &bt, sizeof(bt));
			get(bt.vm, &vm, sizeof(vm));
			get(vm.rx, code, CACHE_SIZE);
			w = &window[taken++];
			step_window(instructions);
		}
		detach();
		nanosleep(&t, NULL);
	}
	print(taken);
	return 0;
}
