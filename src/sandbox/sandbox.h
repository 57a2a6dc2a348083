/*
 * The sandbox: what the threads of this process may ask of the host once the machine is built. Each thread has a role,
 * and each role a list of system calls, which a seccomp filter enforces; where the host has Landlock, files are out of
 * reach but for those that the machine was given. docs/security.md says what all this is good for.
 *
 * A property of the process, so there is one. Without sandbox_prepare nothing here does anything: tests that have
 * several machines in a process go without.
 *
 * Sources: seccomp(2), seccomp_rule_add(3), landlock(7), user_namespaces(7), pivot_root(2).
 */
#ifndef RINGSIDE_SANDBOX_H
#define RINGSIDE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

/* X(enumerator, what it is called in messages) */
#define SANDBOX_ROLE_LIST(X) \
	X(SANDBOX_IO, "the I/O thread") \
	X(SANDBOX_VCPU, "a vCPU's thread") \
	X(SANDBOX_DISK, "a disk's worker") \
	X(SANDBOX_REMOTE_DISK, "a network disk's worker") \
	X(SANDBOX_SHARE, "a shared directory's worker") \
	X(SANDBOX_SCREEN, "the VNC server's thread") \
	X(SANDBOX_FILE, "a file's writer") \
	X(SANDBOX_TRANSLATOR, "the translator's helper")

enum sandbox_role {
#define X(id, name) id,
	SANDBOX_ROLE_LIST(X)
#undef X
	SANDBOX_ROLES
};

/* What this machine's roles need besides what they always do: a set. */
enum sandbox_need {
	SANDBOX_INET = 1 << 0,   /* the I/O thread opens Internet sockets */
	SANDBOX_UNIX = 1 << 1,   /* it connects to Unix sockets */
	SANDBOX_TAP = 1 << 2,    /* it and the vCPUs set a tap device's offloads */
	SANDBOX_FILES = 1 << 3,  /* it reads files of SANDBOX_READ paths */
	SANDBOX_UNLINK = 1 << 4, /* it removes sockets at the end, from SANDBOX_REMOVE paths */
	SANDBOX_DEVICE = 1 << 5, /* it and the vCPUs use KVM's descriptors */
};

/* Which threads may do what below a directory, or with a file. */
enum sandbox_path_kind {
	SANDBOX_READ,         /* the I/O thread and workers of network disks: read */
	SANDBOX_REMOVE,       /* the I/O thread: remove files; connect to sockets */
	SANDBOX_SHARE_READ,   /* workers of shared directories: read */
	SANDBOX_SHARE_WRITE,  /* they: everything but devices */
};

struct sandbox_path {
	const char *path;
	enum sandbox_path_kind kind;
};

#define SANDBOX_PATHS 96u /* more than options name: 32 disks of servers, 16 consoles, 8 shares, 8 networks ... */

struct sandbox_config {
	unsigned needs; /* a set of enum sandbox_need */
	bool chroot;    /* namespaces too: of users, mounts, and networks if no network is needed */
	bool network;   /* some thread uses the host's network: with chroot, it is kept */
	const char *device; /* with SANDBOX_DEVICE: a file to be read and written that may be opened later; NULL: none */
	unsigned paths;
	struct sandbox_path path[SANDBOX_PATHS];
};

/*
 * Compiles the filters, opens what paths name, and with `chroot` leaves the host's namespaces. Main thread, before any
 * other is there and before anything is opened for the machine. 0, or -errno and one line in error[0..size).
 */
int sandbox_prepare(const struct sandbox_config *config, char *error, size_t size);

/*
 * The calling thread has this role from now on, for good, and threads that it starts can do no more than it can. Of
 * root's capabilities it keeps what reaches the files that the role was given. A
 * call that the role has no need of ends the process with one line and status 159 (SIGSYS). The main thread enters as
 * SANDBOX_IO when the machine is built; the others do first of all. A failure ends the process likewise.
 */
void sandbox_enter(enum sandbox_role role);

/*
 * open(2) for files that a machine needs when it is built, and so again after a reset, when paths are out of reach: the
 * descriptor (the caller's to close) is a duplicate of one that is kept, read from its beginning. Any thread.
 */
int sandbox_open(const char *path, int flags);
bool sandbox_can_open(const char *path); /* to read it */

#endif
