/*
 * The self-test: a child process makes a small machine, as the engine makes its own, and runs selftest_guest.S in it; the
 * parent waits for a bounded time and kills it then, for a KVM that is not fit may never come back from KVM_RUN.
 *
 * What both share is struct shared and the guest's memory: so the parent knows where the guest hung. The child says through a
 * pipe when it has the result: the kernel takes ten milliseconds and more to take a machine down, which nobody waits for. So the
 * child may live on for that long; it leaves no zombie, for SIGCHLD has SA_NOCLDWAIT from then on.
 * To be called while the process has one thread; not by two threads at once.
 * Source: Linux Documentation/virt/kvm/api.rst; the guest's tables by Intel SDM volume 3, 4.5 and 3.4.5.
 */
#include "engine/kvm/selftest.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"

#define BOUND_US 100000       /* for the guest to come to its end, of time in which the child could run */
#define BOUND_WALL_US 3000000 /* in any case: making a machine is the kernel's work and comes to an end */
#define EMULATED_TIMES 50     /* for both, where the processor is emulated itself */
#define TICK_US 10000         /* how often the parent looks; more between two looks is a host that had stopped altogether */
#define BOUND_KILL_MS 100
#define CPUID_ENTRIES 256
#define EXITS_MAX 100

enum step {
#define X(name, number, text) STEP_##name = number,
	SELFTEST_STEPS(X)
#undef X
};

#define XCR0 3 /* x87, SSE: what the guest sets */

static const char *const step_text[] = {
#define X(name, number, text) [number] = text,
	SELFTEST_STEPS(X)
#undef X
};

extern const uint8_t selftest_guest[], selftest_guest_end[];

/* Shared with the child. */
struct shared {
	int result; /* 0 or -errno, when the child has ended */
	uint32_t exits;
	bool created; /* the machine is there, and the guest starts */
	char why[160];
};

struct machine {
	struct shared *shared;
	uint8_t *ram;
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	struct kvm_run *run;
	uint64_t string; /* what came by REP OUTSB so far */
	unsigned string_len;
	bool out_seen, read_seen, write_seen, window_wanted;
};

/* What went wrong, into the report; -err. */
static int fails(struct machine *m, const char *what, int err)
{
	snprintf(m->shared->why, sizeof(m->shared->why), "%s%s%s", what, err == EIO ? "" : ": ", err == EIO ? "" : strerror(err));
	return -err;
}

static int call(struct machine *m, int fd, unsigned long request, void *argument, const char *name)
{
	int r = ioctl(fd, request, argument);

	return r < 0 ? fails(m, name, errno) : r;
}

/* The guest's code, and what it is to find in memory. */
static void fill_ram(uint8_t *ram)
{
	uint64_t *pml4 = (uint64_t *)(ram + SELFTEST_PML4), *pt = (uint64_t *)(ram + SELFTEST_PT);

	memcpy(ram + SELFTEST_CODE, selftest_guest, (size_t)(selftest_guest_end - selftest_guest));
	*(uint32_t *)(ram + SELFTEST_XCR0) = XCR0;
	pml4[0] = pml4[SELFTEST_HIGH >> 39 & 511] = SELFTEST_PDPT | 7;
	*(uint64_t *)(ram + SELFTEST_PDPT) = SELFTEST_PD | 7;
	*(uint64_t *)(ram + SELFTEST_PD) = SELFTEST_PT | 7;
	for (unsigned page = 0; page < SELFTEST_RAM >> 12; page++)
		pt[page] = (uint64_t)page << 12 | 3;
	pt[(SELFTEST_CODE >> 12) + 1] |= 4;
	pt[(SELFTEST_USER_STACK >> 12) - 1] |= 4;
	pt[SELFTEST_ALIAS >> 12] = SELFTEST_DATA | 3;
	pt[SELFTEST_MMIO >> 12] = SELFTEST_MMIO_GPA | 0x1b;
	pt[SELFTEST_READ_ONLY >> 12] = SELFTEST_DATA | 1;
	pt[SELFTEST_NX >> 12] = SELFTEST_CODE | 3 | 1ull << 63;
	*(uint32_t *)(ram + SELFTEST_HIDDEN + 8) = SELFTEST_MAGIC;
}

static int set_cpuid(struct machine *m)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	int r;

	if (!cpuid)
		return fails(m, "CPUID", ENOMEM);
	cpuid->nent = CPUID_ENTRIES;
	r = call(m, m->vm.host->fd, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
	if (r >= 0)
		r = call(m, m->vcpu.fd, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	free(cpuid);
	return r;
}

static int set_registers(struct machine *m)
{
	struct kvm_regs regs = { .rip = SELFTEST_CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	int r = call(m, m->vcpu.fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");

	if (r < 0)
		return r;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	r = call(m, m->vcpu.fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	return r < 0 ? r : call(m, m->vcpu.fd, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static int create(struct machine *m)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = SELFTEST_RAM,
		.userspace_addr = (uint64_t)m->ram,
	};
	const char *what;
	int r = kvm_vm_make(&m->vm, &what);

	if (r < 0)
		return fails(m, what, -r);
	r = kvm_apics.begin(&m->vm);
	if (r < 0 && r != -EOPNOTSUPP)
		return fails(m, "local APICs in the kernel", -r);
	m->ram[SELFTEST_HAS_APIC] = m->vm.apics;
	r = call(m, m->vm.fd, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
	if (r < 0)
		return r;
	m->vcpu.fd = r = call(m, m->vm.fd, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	if (r < 0)
		return r;
	m->run = mmap(NULL, m->vm.host->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu.fd, 0);
	if (m->run == MAP_FAILED)
		return fails(m, "mmap of a vCPU", errno);
	r = set_cpuid(m);
	return r < 0 ? r : set_registers(m);
}

static const char *step_name(const uint8_t *ram)
{
	unsigned step = ((const volatile uint8_t *)ram)[SELFTEST_STEP];

	return step < sizeof(step_text) / sizeof(step_text[0]) ? step_text[step] : "what cannot be";
}

static int goes_wrong(struct machine *m, const char *how)
{
	char what[128];

	snprintf(what, sizeof(what), "guests go wrong in %s%s", step_name(m->ram), how);
	return fails(m, what, EIO);
}

static int message(struct machine *m)
{
	const struct apic_msi msi = { .address = 0xfee00000, .data = SELFTEST_VECTOR_MSI };
	int r = m->vm.apics ? kvm_apics.message(&m->vm, &msi) : 0;

	return r < 0 ? fails(m, "KVM_SIGNAL_MSI", -r) : r > 0 ? 0 : goes_wrong(m, ": nobody takes a message");
}

/* 1: the guest says that it is done. */
static int port(struct machine *m)
{
	uint8_t *data = (uint8_t *)m->run + m->run->io.data_offset;
	unsigned bytes = m->run->io.size * m->run->io.count;
	bool in = m->run->io.direction == KVM_EXIT_IO_IN;

	if (in && m->run->io.port == SELFTEST_PORT_IN && bytes == 2) {
		memcpy(data, &(uint16_t){ SELFTEST_IN }, 2);
		return 0;
	}
	if (!in && m->run->io.port == SELFTEST_PORT_OUT && m->run->io.size == 4) {
		m->out_seen = bytes == 4 && memcmp(data, &(uint32_t){ SELFTEST_OUT }, 4) == 0;
		return 0;
	}
	if (!in && m->run->io.port == SELFTEST_PORT_OUT && m->run->io.size == 1 && m->string_len + bytes <= 8) {
		memcpy((uint8_t *)&m->string + m->string_len, data, bytes);
		m->string_len += bytes;
		return 0;
	}
	if (!in && m->run->io.port == SELFTEST_PORT_INTERRUPT) {
		m->window_wanted = true;
		m->run->request_interrupt_window = 1;
		return 0;
	}
	if (!in && m->run->io.port == SELFTEST_PORT_MSI)
		return message(m);
	if (!in && m->run->io.port == SELFTEST_PORT_EXIT)
		return 0;
	if (!in && m->run->io.port == SELFTEST_PORT_DONE)
		return 1;
	return goes_wrong(m, in || m->run->io.port != SELFTEST_PORT_FAIL ? ": unexpected port I/O" : "");
}

static int memory_io(struct machine *m)
{
	if (!m->run->mmio.is_write && m->run->mmio.phys_addr == SELFTEST_MMIO_GPA + 0x10 && m->run->mmio.len == 4) {
		memcpy(m->run->mmio.data, &(uint32_t){ SELFTEST_MMIO_IN }, 4);
		m->read_seen = true;
		return 0;
	}
	if (m->run->mmio.is_write && m->run->mmio.phys_addr == SELFTEST_MMIO_GPA + 0x18 && m->run->mmio.len == 8 &&
	    memcmp(m->run->mmio.data, &(uint64_t){ SELFTEST_MMIO_OUT }, 8) == 0) {
		m->write_seen = true;
		return 0;
	}
	return goes_wrong(m, ": unexpected memory I/O");
}

static int interrupt(struct machine *m, unsigned vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	if (!m->run->ready_for_interrupt_injection || !m->run->if_flag)
		return goes_wrong(m, ": no interrupt can be sent");
	if (m->vm.apics)
		return kvm_apic_extint(&m->vcpu, (uint8_t)vector) ? 0 : goes_wrong(m, ": no interrupt can be sent");
	return call(m, m->vcpu.fd, KVM_INTERRUPT, &irq, "KVM_INTERRUPT");
}

static int exited(struct machine *m)
{
	char how[80];

	switch (m->run->exit_reason) {
	case KVM_EXIT_IO:
		return port(m);
	case KVM_EXIT_MMIO:
		return memory_io(m);
	case KVM_EXIT_HLT:
		if (m->vm.apics)
			break;
		return interrupt(m, SELFTEST_VECTOR_HLT);
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		if (!m->window_wanted)
			break;
		m->window_wanted = false;
		m->run->request_interrupt_window = 0;
		return interrupt(m, SELFTEST_VECTOR_WINDOW);
	default:
		break;
	}
	snprintf(how, sizeof(how), ": KVM's exit reason is %u (%s)", m->run->exit_reason,
		 m->run->exit_reason == KVM_EXIT_INTERNAL_ERROR && m->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ?
			 "it cannot emulate an instruction" :
		 m->run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? "internal error" :
		 m->run->exit_reason == KVM_EXIT_SHUTDOWN ? "triple fault" :
		 m->run->exit_reason == KVM_EXIT_FAIL_ENTRY ? "the processor refuses" : "unexpected");
	return goes_wrong(m, how);
}

/* The guest has come to its end: is all as it should be? */
static int judge(struct machine *m)
{
	struct kvm_regs regs;
	int r = call(m, m->vcpu.fd, KVM_GET_REGS, &regs, "KVM_GET_REGS");

	if (r < 0)
		return r;
	if (*(uint64_t *)(m->ram + SELFTEST_COUNTS) != SELFTEST_EVENTS ||
	    *(uint64_t *)(m->ram + SELFTEST_APIC_COUNTS) != (m->vm.apics ? SELFTEST_APIC_EVENTS : 0) || regs.r14 != SELFTEST_MAGIC ||
	    m->string != SELFTEST_STRING || !m->out_seen || !m->read_seen || !m->write_seen)
		return goes_wrong(m, ": other results");
	return 0;
}

static int run_guest(struct machine *m)
{
	int r;

	for (unsigned n = 0; n < EXITS_MAX; n++) {
		r = ioctl(m->vcpu.fd, KVM_RUN, 0);
		if (r < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (r < 0) {
			char what[128];
			int err = errno;

			snprintf(what, sizeof(what), "guests go wrong in %s: KVM_RUN", step_name(m->ram));
			return fails(m, what, err);
		}
		m->shared->exits++;
		r = exited(m);
		if (r < 0)
			return r;
		if (r > 0)
			return judge(m);
	}
	return goes_wrong(m, ": too many exits");
}

static _Noreturn void child(const struct kvm_host *host, struct shared *shared, uint8_t *ram, int done)
{
	static struct machine m;
	int r;

	m = (struct machine){ .shared = shared, .ram = ram, .vm.host = host };
	m.vcpu.vm = &m.vm;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = create(&m);
	shared->created = true;
	if (r == 0)
		r = run_guest(&m);
	shared->result = r;
	_exit(write(done, "", 1) != 1); /* if nobody hears, its end does */
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* For how long the child could have run and another process did, in microseconds (Linux sched-stats.rst). */
static uint64_t waited_us(pid_t pid)
{
	char path[40], text[80] = "";
	uint64_t waited = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) <= 0 || sscanf(text, "%*u %lu", &waited) != 1)
		waited = 0;
	close(fd);
	return waited / 1000;
}

/* QEMU's TCG says so in CPUID: under it an exit takes a thousand times as long. */
static bool emulated(void)
{
	unsigned eax, name[3];

	__cpuid(0x40000000, eax, name[0], name[1], name[2]);
	return memcmp(name, "TCGTCGTCGTCG", sizeof(name)) == 0;
}

/* Waits until the child is done or has ended; false: it hangs or takes too long, and is killed. */
static bool await(pid_t pid, int done, const volatile struct shared *shared)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd poll_fd[2] = { { .fd = done, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	uint64_t start = now_us(), now = start, waited = 0, used = 0, times = emulated() ? EMULATED_TIMES : 1;
	bool ended = false;

	while (!ended && used < times * BOUND_US && now - start < times * BOUND_WALL_US) {
		uint64_t before = now, waited_before = waited, passed;

		ended = poll(poll_fd, 2, TICK_US / 1000) > 0;
		now = now_us();
		waited = waited_us(pid);
		passed = now - before < 2 * TICK_US ? now - before : 2 * TICK_US;
		if (shared->created && passed > waited - waited_before)
			used += passed - (waited - waited_before);
	}
	/* It has its end of the pipe still, so this is its pid. One that cannot even be killed is left to its fate. */
	if (!ended && kill(pid, SIGKILL) == 0)
		poll(poll_fd, 2, BOUND_KILL_MS);
	if (fd >= 0)
		close(fd);
	return ended;
}

int kvm_selftest(const struct kvm_host *host, struct kvm_selftest *test)
{
	uint64_t start = now_us();
	uint8_t *memory = mmap(NULL, SELFTEST_RAM + sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sigaction no_zombies = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };
	struct shared *shared;
	int done[2] = { -1, -1 };
	pid_t pid;
	int r;

	*test = (struct kvm_selftest){ 0 };
	if (memory == MAP_FAILED) {
		snprintf(test->why, sizeof(test->why), "self-test: %s", strerror(errno));
		return -ENOMEM;
	}
	shared = (struct shared *)(memory + SELFTEST_RAM);
	shared->result = -EIO;
	snprintf(shared->why, sizeof(shared->why), "self-test: its process ended");
	fill_ram(memory);
	sigaction(SIGCHLD, &no_zombies, NULL);
	pid = pipe2(done, O_CLOEXEC) < 0 ? -1 : fork();
	if (pid == 0)
		child(host, shared, memory, done[1]);
	if (pid < 0) {
		shared->result = -errno;
		snprintf(shared->why, sizeof(shared->why), "self-test: no process: %s", strerror(errno));
	}
	if (done[1] >= 0)
		close(done[1]);
	if (pid > 0 && !await(pid, done[0], shared) && shared->result < 0) {
		shared->result = -ETIMEDOUT;
		snprintf(shared->why, sizeof(shared->why), "guests hang in %s", step_name(memory));
	}
	if (done[0] >= 0)
		close(done[0]);
	r = shared->result;
	if (r < 0)
		memcpy(test->why, shared->why, sizeof(test->why));
	else
		test->exits = shared->exits;
	test->loses_xcr0 = *(uint32_t *)(memory + SELFTEST_XCR0) != XCR0;
	test->us = (uint32_t)(now_us() - start);
	munmap(memory, SELFTEST_RAM + sizeof(struct shared));
	return r;
}
