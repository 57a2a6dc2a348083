/*
 * Which system calls a role has, as one table, and the filters made of it by libseccomp. Runs before any thread is
 * there.
 *
 * The I/O thread starts vCPUs' threads and disks' workers, also after a reset, and a filter once entered holds for what
 * is started later: so it has what they have.
 *
 * Sources: seccomp(2), seccomp_rule_add(3), and the system calls' own pages for the arguments that are looked at.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h> /* struct termios2 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define KVM_IOCTLS 0xae00u /* the byte of an ioctl's number that says whose it is */
#define IOCTL_OWNER 0xff00u
#define SECCOMP_SET_FILTER 1
#define SOCK_TYPE 0xfu

enum {
	IO = 1 << SANDBOX_IO,
	VCPU = 1 << SANDBOX_VCPU,
	DISK = 1 << SANDBOX_DISK,
	REMOTE = 1 << SANDBOX_REMOTE_DISK,
	SHARE = 1 << SANDBOX_SHARE,
	SCREEN = 1 << SANDBOX_SCREEN,
	FILE_WRITER = 1 << SANDBOX_FILE,
	ALL = (1 << SANDBOX_ROLES) - 1,
};

struct row {
	int call;
	unsigned roles;
	unsigned needs; /* in these machines only, if it is not 0 */
	unsigned conditions;
	struct scmp_arg_cmp condition[3]; /* all of them */
};

#define C(n, ...) .conditions = n, .condition = {__VA_ARGS__}
#define IS(argument, value) {argument, SCMP_CMP_EQ, value, 0}
#define BITS(argument, mask, value) {argument, SCMP_CMP_MASKED_EQ, mask, value}

/* TCP, UDP and ICMP: not SCTP, DCCP and the like, for whose sake the kernel would load modules. */
#define SOCKET(type) BITS(1, SOCK_TYPE, type), {2, SCMP_CMP_LE, IPPROTO_ICMPV6, 0}

static const struct row rows[] = {
	/* memory: nothing becomes executable (engine/code_memory.h) */
	{SCMP_SYS(mmap), ALL, C(1, BITS(2, PROT_EXEC, 0))},
	{SCMP_SYS(mprotect), ALL, C(1, BITS(2, PROT_EXEC, 0))},
	{SCMP_SYS(munmap), ALL},
	{SCMP_SYS(mremap), ALL},
	{SCMP_SYS(madvise), ALL},
	{SCMP_SYS(brk), ALL},
	{SCMP_SYS(mincore), IO},

	/* threads, signals, time */
	{SCMP_SYS(futex), ALL},
	{SCMP_SYS(sched_yield), ALL},
	{SCMP_SYS(sched_getaffinity), ALL}, /* malloc */
	{SCMP_SYS(exit), ALL},
	{SCMP_SYS(exit_group), ALL},
	{SCMP_SYS(rt_sigreturn), ALL},
	{SCMP_SYS(rt_sigaction), ALL}, /* a crash gives way to the action that was there before */
	{SCMP_SYS(rt_sigprocmask), ALL},
	{SCMP_SYS(sigaltstack), ALL},
	{SCMP_SYS(getpid), ALL},
	{SCMP_SYS(gettid), ALL},
	{SCMP_SYS(restart_syscall), ALL},
	{SCMP_SYS(clock_gettime), ALL},
	{SCMP_SYS(clock_nanosleep), ALL},
	{SCMP_SYS(nanosleep), ALL},
	{SCMP_SYS(gettimeofday), ALL},
	{SCMP_SYS(time), ALL},
	{SCMP_SYS(getrandom), ALL},
	{SCMP_SYS(sysinfo), ALL}, /* qsort */
	{SCMP_SYS(arch_prctl), VCPU}, /* the translator's GS */
	{SCMP_SYS(set_robust_list), IO},
	{SCMP_SYS(rseq), IO},
	{SCMP_SYS(clone), IO,
	 C(1, BITS(0, CLONE_THREAD | CLONE_VM | CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC |
			      CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_PTRACE,
		   CLONE_THREAD | CLONE_VM))},
	{SCMP_SYS(seccomp), IO, C(1, IS(0, SECCOMP_SET_FILTER))}, /* of the threads that it starts */
	{SCMP_SYS(landlock_restrict_self), IO},
	{SCMP_SYS(capget), IO},
	{SCMP_SYS(capset), IO},

	/* descriptors that are open already */
	{SCMP_SYS(read), ALL},
	{SCMP_SYS(write), ALL},
	{SCMP_SYS(readv), ALL},
	{SCMP_SYS(writev), ALL},
	{SCMP_SYS(pread64), ALL},
	{SCMP_SYS(pwrite64), ALL},
	{SCMP_SYS(close), ALL},
	{SCMP_SYS(fstat), ALL},
	{SCMP_SYS(newfstatat), ALL, C(1, BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH))}, /* fstat, as glibc does it */
	{SCMP_SYS(lseek), ALL},
	{SCMP_SYS(poll), IO | REMOTE | SCREEN | VCPU},
	{SCMP_SYS(ppoll), IO | REMOTE | SCREEN | VCPU},
	{SCMP_SYS(select), SCREEN},
	{SCMP_SYS(pselect6), SCREEN},
	{SCMP_SYS(fcntl), ALL, C(1, IS(1, F_GETFL))},
	{SCMP_SYS(fcntl), IO | REMOTE | SCREEN, C(1, IS(1, F_SETFL))},
	{SCMP_SYS(fcntl), IO | REMOTE | SCREEN, C(1, IS(1, F_GETFD))},
	{SCMP_SYS(fcntl), IO | REMOTE | SCREEN, C(1, IS(1, F_SETFD))},
	{SCMP_SYS(fcntl), IO | SHARE, C(1, IS(1, F_DUPFD_CLOEXEC))},
	{SCMP_SYS(fcntl), DISK | SHARE | IO, C(1, IS(1, F_OFD_SETLK))},
	{SCMP_SYS(fcntl), SHARE, C(1, IS(1, F_OFD_GETLK))},
	{SCMP_SYS(ioctl), ALL, C(1, IS(1, TCGETS))}, /* whoever crashes restores the terminal */
	{SCMP_SYS(ioctl), ALL, C(1, IS(1, TCSETS))},
	{SCMP_SYS(ioctl), ALL, C(1, IS(1, TCGETS2))}, /* the C library since 2.42 */
	{SCMP_SYS(ioctl), ALL, C(1, IS(1, TCSETS2))},
	{SCMP_SYS(ioctl), IO | REMOTE, C(1, IS(1, FIONREAD))}, /* libslirp; the resolver, for a second answer */
	{SCMP_SYS(ioctl), IO | VCPU, .needs = SANDBOX_TAP, C(1, IS(1, TUNSETOFFLOAD))}, /* what a guest's driver takes */
	{SCMP_SYS(ioctl), IO | VCPU, .needs = SANDBOX_DEVICE, C(1, BITS(1, IOCTL_OWNER, KVM_IOCTLS))},
	/* a key's interrupt, and a way for more of them */
	{SCMP_SYS(ioctl), SCREEN, .needs = SANDBOX_DEVICE, C(1, IS(1, KVM_SIGNAL_MSI))},
	{SCMP_SYS(ioctl), SCREEN, .needs = SANDBOX_DEVICE, C(1, IS(1, KVM_IRQFD))},
	{SCMP_SYS(ioctl), SCREEN, .needs = SANDBOX_DEVICE, C(1, IS(1, KVM_SET_GSI_ROUTING))},
	{SCMP_SYS(ioctl), SCREEN, .needs = SANDBOX_DEVICE, C(1, IS(1, KVM_GET_DIRTY_LOG))}, /* has the picture changed? */
	{SCMP_SYS(timerfd_settime), IO | VCPU},
	{SCMP_SYS(io_uring_enter), IO | VCPU}, /* the rings take reads and writes only */

	/* what a machine is made of, after a reset */
	{SCMP_SYS(timerfd_create), IO},
	{SCMP_SYS(eventfd2), IO},
	/* a virtio device's bell, when the guest places its registers; a way for its interrupts */
	{SCMP_SYS(eventfd2), VCPU | SCREEN, .needs = SANDBOX_DEVICE},
	{SCMP_SYS(memfd_create), IO},
	{SCMP_SYS(ftruncate), IO | DISK | SHARE},

	/* disks and guest memory */
	{SCMP_SYS(preadv), DISK | IO},
	{SCMP_SYS(pwritev), DISK | IO},
	{SCMP_SYS(preadv2), DISK | IO},
	{SCMP_SYS(pwritev2), DISK | IO},
	{SCMP_SYS(fsync), DISK | SHARE | FILE_WRITER | IO},
	{SCMP_SYS(fdatasync), DISK | SHARE | FILE_WRITER | IO},
	{SCMP_SYS(fallocate), DISK | SHARE | VCPU},

	/* sockets */
	{SCMP_SYS(accept4), IO | SCREEN},
	{SCMP_SYS(accept), SCREEN},
	{SCMP_SYS(accept), IO, .needs = SANDBOX_INET}, /* libslirp */
	{SCMP_SYS(recvfrom), IO | REMOTE | SCREEN | VCPU},
	{SCMP_SYS(recvmsg), IO | REMOTE},
	{SCMP_SYS(sendto), IO | REMOTE | SCREEN | VCPU},
	{SCMP_SYS(sendmsg), IO | REMOTE | VCPU},
	{SCMP_SYS(sendmmsg), REMOTE}, /* the resolver */
	{SCMP_SYS(shutdown), IO | REMOTE | SCREEN},
	{SCMP_SYS(getsockopt), IO | REMOTE | SCREEN},
	{SCMP_SYS(setsockopt), IO | REMOTE | SCREEN},
	{SCMP_SYS(getsockname), IO | REMOTE | SCREEN},
	{SCMP_SYS(getpeername), IO | REMOTE | SCREEN},
	{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(3, IS(0, AF_INET), SOCKET(SOCK_STREAM))},
	{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(3, IS(0, AF_INET), SOCKET(SOCK_DGRAM))},
	{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(3, IS(0, AF_INET6), SOCKET(SOCK_STREAM))},
	{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(3, IS(0, AF_INET6), SOCKET(SOCK_DGRAM))},
	{SCMP_SYS(socket), IO, .needs = SANDBOX_UNIX, C(2, IS(0, AF_UNIX), BITS(1, SOCK_TYPE, SOCK_STREAM))},
	{SCMP_SYS(connect), IO, .needs = SANDBOX_INET | SANDBOX_UNIX},
	{SCMP_SYS(bind), IO, .needs = SANDBOX_INET},
	{SCMP_SYS(listen), IO, .needs = SANDBOX_INET},
	{SCMP_SYS(socket), REMOTE, C(1, IS(0, AF_UNIX))},
	{SCMP_SYS(socket), REMOTE, C(3, IS(0, AF_INET), SOCKET(SOCK_STREAM))},
	{SCMP_SYS(socket), REMOTE, C(3, IS(0, AF_INET), SOCKET(SOCK_DGRAM))},
	{SCMP_SYS(socket), REMOTE, C(3, IS(0, AF_INET6), SOCKET(SOCK_STREAM))},
	{SCMP_SYS(socket), REMOTE, C(3, IS(0, AF_INET6), SOCKET(SOCK_DGRAM))},
	{SCMP_SYS(socket), REMOTE, C(2, IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE))}, /* the resolver: which addresses there are */
	{SCMP_SYS(connect), REMOTE},
	{SCMP_SYS(bind), REMOTE},

	/* files by name; Landlock says which */
	{SCMP_SYS(openat), IO, .needs = SANDBOX_FILES, C(1, BITS(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY))},
	{SCMP_SYS(newfstatat), IO, .needs = SANDBOX_FILES},
	{SCMP_SYS(openat), REMOTE, C(1, BITS(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY))},
	{SCMP_SYS(newfstatat), REMOTE},
	{SCMP_SYS(uname), REMOTE},
	{SCMP_SYS(access), REMOTE},
	{SCMP_SYS(getrusage), REMOTE | SCREEN}, /* gnutls, libgcrypt */
	{SCMP_SYS(getuid), REMOTE},
	{SCMP_SYS(unlink), IO, .needs = SANDBOX_UNLINK},
	{SCMP_SYS(openat2), SHARE},
	{SCMP_SYS(openat), SHARE},
	{SCMP_SYS(newfstatat), SHARE},
	{SCMP_SYS(statx), SHARE},
	{SCMP_SYS(statfs), SHARE},
	{SCMP_SYS(fstatfs), SHARE},
	{SCMP_SYS(getdents64), SHARE},
	{SCMP_SYS(readlinkat), SHARE},
	{SCMP_SYS(mkdirat), SHARE},
	{SCMP_SYS(mknodat), SHARE, C(1, BITS(2, S_IFMT, S_IFREG))},
	{SCMP_SYS(mknodat), SHARE, C(1, BITS(2, S_IFMT, S_IFIFO))},
	{SCMP_SYS(mknodat), SHARE, C(1, BITS(2, S_IFMT, S_IFSOCK))},
	{SCMP_SYS(symlinkat), SHARE},
	{SCMP_SYS(linkat), SHARE},
	{SCMP_SYS(renameat), SHARE},
	{SCMP_SYS(renameat2), SHARE},
	{SCMP_SYS(unlinkat), SHARE},
	{SCMP_SYS(chmod), SHARE},
	{SCMP_SYS(fchmod), SHARE},
	{SCMP_SYS(fchmodat), SHARE},
	{SCMP_SYS(fchown), SHARE},
	{SCMP_SYS(fchownat), SHARE},
	{SCMP_SYS(truncate), SHARE},
	{SCMP_SYS(utimensat), SHARE},
	{SCMP_SYS(geteuid), SHARE | REMOTE},
	{SCMP_SYS(getxattr), SHARE},
	{SCMP_SYS(setxattr), SHARE},
	{SCMP_SYS(listxattr), SHARE},
	{SCMP_SYS(removexattr), SHARE},
	{SCMP_SYS(fgetxattr), SHARE},
	{SCMP_SYS(fsetxattr), SHARE},
	{SCMP_SYS(flistxattr), SHARE},
	{SCMP_SYS(fremovexattr), SHARE},
};

/* Libraries try these and go on without: the call fails, and nothing ends. */
static const struct {
	struct row row;
	int error;
} refused[] = {
	{{SCMP_SYS(clone3), IO}, ENOSYS}, /* its flags are out of a filter's sight; the C library goes on with clone */
	{{SCMP_SYS(openat), ALL & ~SHARE, C(1, BITS(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY))}, EACCES},
	/* if_nametoindex, for a name server's address with a link's name behind it */
	{{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(2, IS(0, AF_UNIX), BITS(1, SOCK_TYPE, SOCK_DGRAM))}, EACCES},
	/* if_indextoname, for a client's link-local address; the system's log */
	{{SCMP_SYS(socket), SCREEN, C(1, BITS(1, SOCK_TYPE, SOCK_DGRAM))}, EACCES},
	/* a guest's ping, where ping_group_range refuses ICMP sockets: libslirp tries a raw one then */
	{{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(2, IS(0, AF_INET), BITS(1, SOCK_TYPE, SOCK_RAW))}, EPERM},
	{{SCMP_SYS(socket), IO, .needs = SANDBOX_INET, C(2, IS(0, AF_INET6), BITS(1, SOCK_TYPE, SOCK_RAW))}, EPERM},
};

static unsigned calls_of(enum sandbox_role role)
{
	switch (role) {
	case SANDBOX_IO:
		return IO | VCPU | DISK;
	case SANDBOX_REMOTE_DISK: /* snapshots, and qcow2 files over a server's disk, are files */
		return REMOTE | DISK;
	default:
		return 1u << role;
	}
}

static bool applies(const struct row *r, unsigned calls, unsigned needs)
{
	return (r->roles & calls) && (!r->needs || (r->needs & needs));
}

/* Is the call allowed to be as this row has it, so that a refusal would contradict that? */
static bool allowed(const struct row *refusal, unsigned calls, unsigned needs)
{
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].call == refusal->call && applies(&rows[i], calls, needs) &&
		    (!rows[i].conditions || !memcmp(rows[i].condition, refusal->condition, sizeof refusal->condition)))
			return true;
	return false;
}

static int add(scmp_filter_ctx filter, uint32_t action, const struct row *r)
{
	return seccomp_rule_add_array(filter, action, r->call, r->conditions, r->condition);
}

static int add_rows(scmp_filter_ctx filter, enum sandbox_role role, unsigned needs)
{
	unsigned calls = calls_of(role);
	int r = 0;

	for (unsigned i = 0; i < sizeof rows / sizeof rows[0] && r == 0; i++)
		if (applies(&rows[i], calls, needs))
			r = add(filter, SCMP_ACT_ALLOW, &rows[i]);
	for (unsigned i = 0; i < sizeof refused / sizeof refused[0] && r == 0; i++)
		if (applies(&refused[i].row, calls, needs) && !allowed(&refused[i].row, calls, needs))
			r = add(filter, SCMP_ACT_ERRNO((uint32_t)refused[i].error), &refused[i].row);
	/* Signals: to threads of this process. */
	const struct row own = {SCMP_SYS(tgkill), C(1, IS(0, (uint64_t)getpid()))};
	return r == 0 ? add(filter, SCMP_ACT_ALLOW, &own) : r;
}

/* libseccomp writes programs to descriptors. */
static int read_program(scmp_filter_ctx filter, struct sock_fprog *program)
{
	int fd = memfd_create("ringside-filter", MFD_CLOEXEC), r;
	struct stat st;

	if (fd < 0)
		return -errno;
	r = seccomp_export_bpf(filter, fd);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0 && !(program->filter = malloc((size_t)st.st_size)))
		r = -ENOMEM;
	if (r == 0 && pread(fd, program->filter, (size_t)st.st_size, 0) != st.st_size)
		r = -EIO;
	if (r == 0)
		program->len = (unsigned short)((size_t)st.st_size / sizeof *program->filter);
	close(fd);
	return r;
}

int sandbox_compile(enum sandbox_role role, unsigned needs, struct sock_fprog *program)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	int r = filter ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: the table is long */
	if (r == 0) /* a call by INT 0x80, say: not only the thread ends */
		r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_rows(filter, role, needs);
	if (r == 0)
		r = read_program(filter, program);
	if (filter)
		seccomp_release(filter);
	return r;
}

char *sandbox_call_name(int call) { return seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call); }
