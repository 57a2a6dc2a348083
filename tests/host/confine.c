/*
 * confine RULE... -- COMMAND [ARGUMENT...]: runs a command where the host refuses what it refuses in containers and on
 * hardened systems. Rules are seccomp filters, and stay for all that the command starts:
 *
 *   container   what container engines refuse by default to processes without capabilities: namespaces, mounts, io_uring,
 *               userfaultfd, perf, keys, BPF, modules, NUMA policies and the like. EPERM; clone3: ENOSYS
 *   landlock    no Landlock (a kernel or an engine older than it)
 *   seccomp     no filters of one's own
 *   exec        nothing becomes executable but files of programs and libraries: EACCES, as where SELinux denies it
 *   wx          nothing that was writable becomes executable: systemd's MemoryDenyWriteExecute=
 *   memfd       no files in memory
 *   tmpfile     no nameless files: EOPNOTSUPP, as on overlayfs before Linux 6.1
 *
 * Sources: seccomp_rule_add(3), clone(2), the documentation of Docker's default profile.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

static const int container[] = {
	SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(userfaultfd),
	SCMP_SYS(perf_event_open), SCMP_SYS(bpf), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
	SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
	SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(open_tree), SCMP_SYS(move_mount),
	SCMP_SYS(mount_setattr), SCMP_SYS(open_by_handle_at), SCMP_SYS(quotactl), SCMP_SYS(fanotify_init), SCMP_SYS(syslog),
	SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd), SCMP_SYS(process_madvise), SCMP_SYS(mbind), SCMP_SYS(set_mempolicy),
	SCMP_SYS(get_mempolicy), SCMP_SYS(move_pages), SCMP_SYS(migrate_pages), SCMP_SYS(iopl), SCMP_SYS(ioperm),
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(reboot),
	SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(acct),
	SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(vhangup),
};

static int refuse(scmp_filter_ctx filter, int error, int call)
{
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), call, 0);
}

static int refuse_container(scmp_filter_ctx filter)
{
	int r = 0;

	for (unsigned i = 0; i < sizeof container / sizeof container[0] && r == 0; i++)
		r = refuse(filter, EPERM, container[i]);
	for (unsigned bit = 0; bit < 32 && r == 0; bit++)
		if (NAMESPACES >> bit & 1)
			r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
					     SCMP_A0(SCMP_CMP_MASKED_EQ, 1ull << bit, 1ull << bit));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_VSOCK));
	return r ? r : refuse(filter, ENOSYS, SCMP_SYS(clone3));
}

static int refuse_gain(scmp_filter_ctx filter)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
				 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC | PROT_WRITE));

	return r ? r : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
					SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
}

/* Shared memory, or what a process has written itself; a library's own pages are private and come executable. */
static int refuse_exec(scmp_filter_ctx filter)
{
	static const int shares[] = {MAP_SHARED, MAP_ANONYMOUS};
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(mmap), 2,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC),
				     SCMP_A3(SCMP_CMP_MASKED_EQ, (unsigned)shares[i], (unsigned)shares[i]));
	return r ? r : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(mprotect), 1,
					SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
}

static int add(scmp_filter_ctx filter, const char *rule)
{
	if (strcmp(rule, "container") == 0)
		return refuse_container(filter);
	if (strcmp(rule, "landlock") == 0)
		return refuse(filter, EPERM, SCMP_SYS(landlock_create_ruleset));
	if (strcmp(rule, "seccomp") == 0)
		return refuse(filter, EPERM, SCMP_SYS(seccomp));
	if (strcmp(rule, "exec") == 0)
		return refuse_exec(filter);
	if (strcmp(rule, "wx") == 0)
		return refuse_gain(filter);
	if (strcmp(rule, "memfd") == 0)
		return refuse(filter, EPERM, SCMP_SYS(memfd_create));
	if (strcmp(rule, "tmpfile") == 0)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EOPNOTSUPP), SCMP_SYS(openat), 1,
					SCMP_A2(SCMP_CMP_MASKED_EQ, O_TMPFILE, O_TMPFILE));
	return -EINVAL;
}

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int i, r = filter ? 0 : -ENOMEM;

	for (i = 1; r == 0 && i < argc && strcmp(argv[i], "--") != 0; i++) {
		r = add(filter, argv[i]);
		if (r < 0)
			fprintf(stderr, "confine: rule '%s': %s\n", argv[i], strerror(-r));
	}
	if (r == 0 && (r = seccomp_load(filter)) < 0)
		fprintf(stderr, "confine: %s\n", strerror(-r));
	if (r < 0 || i + 1 >= argc)
		return 125;
	execvp(argv[i + 1], argv + i + 1);
	fprintf(stderr, "confine: %s: %s\n", argv[i + 1], strerror(errno));
	return 126;
}
