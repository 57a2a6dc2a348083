/*
 * Files that threads can reach: Landlock where the host has it, and with `chroot` a root directory of its own. See
 * sandbox.h. Main thread, but for paths_enter.
 *
 * Sources: landlock(7), Linux's Documentation/userspace-api/landlock.rst; user_namespaces(7), mount_namespaces(7),
 * pivot_root(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define RIGHTS(first, last) ((2ull << (last)) - (1ull << (first)))
#define RIGHTS_V1 RIGHTS(0, 12)
#define RIGHTS_V2 RIGHTS(0, 13) /* LANDLOCK_ACCESS_FS_REFER */
#define RIGHTS_V3 RIGHTS(0, 14) /* LANDLOCK_ACCESS_FS_TRUNCATE */
#define RIGHT_TRUNCATE (1ull << 14)

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE \
	(READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | RIGHT_TRUNCATE)
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE)

/* struct landlock_ruleset_attr since ABI 6 (Linux 6.12), of which older headers know the beginning. Signals are not
 * scoped: threads with domains of their own kick each other. */
struct rules_v6 {
	uint64_t handled_access_fs, handled_access_net, scoped;
};
#define SCOPE_ABSTRACT_UNIX_SOCKET 1u

/* Those of shared directories' workers, and of all other threads. -1: no Landlock here. */
static int share_rules = -1, other_rules = -1;
static int kept_path[SANDBOX_PATHS]; /* O_PATH: of config.path[], or -1; for the new root */

/* ---- Landlock ---- */

static bool is_share(enum sandbox_path_kind kind) { return kind == SANDBOX_SHARE_READ || kind == SANDBOX_SHARE_WRITE; }

static uint64_t rights_of(enum sandbox_path_kind kind)
{
	switch (kind) {
	case SANDBOX_READ:
	case SANDBOX_SHARE_READ:
		return READ;
	case SANDBOX_REMOVE:
		return LANDLOCK_ACCESS_FS_REMOVE_FILE;
	case SANDBOX_SHARE_WRITE:
		return WRITE;
	}
	return 0;
}

/* The number of a set of rules, with the paths for shares or the others in it. */
static int new_rules(const struct sandbox_config *c, int abi, bool shares)
{
	uint64_t handled = abi >= 3 ? RIGHTS_V3 : abi == 2 ? RIGHTS_V2 : RIGHTS_V1;
	const struct rules_v6 attr = {.handled_access_fs = handled, .scoped = SCOPE_ABSTRACT_UNIX_SOCKET};
	size_t known = abi >= 6 ? sizeof attr : sizeof attr.handled_access_fs;
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, known, 0), r = 0;
	struct stat st;

	if (rules < 0)
		return -errno;
	for (unsigned i = 0; i < c->paths && r == 0; i++) {
		struct landlock_path_beneath_attr beneath = {.allowed_access = rights_of(c->path[i].kind) & handled,
							     .parent_fd = kept_path[i]};

		if (is_share(c->path[i].kind) != shares || kept_path[i] < 0 || fstat(kept_path[i], &st) < 0)
			continue;
		if (!S_ISDIR(st.st_mode))
			beneath.allowed_access &= OF_FILES;
		if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
			r = -errno;
	}
	if (r < 0)
		close(rules);
	return r < 0 ? r : rules;
}

static int prepare_landlock(const struct sandbox_config *c)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 1)
		return 0; /* a host without it */
	if ((other_rules = new_rules(c, abi, false)) < 0)
		return other_rules;
	share_rules = new_rules(c, abi, true);
	return share_rules < 0 ? share_rules : 0;
}

int paths_enter(enum sandbox_role role, const char **what)
{
	int rules = role == SANDBOX_SHARE ? share_rules : other_rules;

	*what = "Landlock";
	return rules >= 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}

/* ---- namespaces ---- */

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Everybody stays who he is: root may have all users so, others themselves. */
static int map_ids(uid_t uid, gid_t gid)
{
	char map[64];
	int r;

	if (uid == 0 && write_file("/proc/self/uid_map", "0 0 4294967295") == 0)
		return write_file("/proc/self/gid_map", "0 0 4294967295");
	snprintf(map, sizeof map, "%u %u 1", (unsigned)uid, (unsigned)uid);
	if ((r = write_file("/proc/self/uid_map", map)) < 0 || (r = write_file("/proc/self/setgroups", "deny")) < 0)
		return r;
	snprintf(map, sizeof map, "%u %u 1", (unsigned)gid, (unsigned)gid);
	return write_file("/proc/self/gid_map", map);
}

static int leave_namespaces(const struct sandbox_config *c, const char **what)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (c->network ? 0 : CLONE_NEWNET), r;

	*what = "chroot: this host does not permit namespaces";
	if (unshare(flags) < 0)
		return -errno;
	*what = "chroot: users";
	if ((r = map_ids(uid, gid)) < 0)
		return r;
	*what = "chroot: mounts";
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

int paths_prepare(const struct sandbox_config *c, const char **what)
{
	int r = c->chroot ? leave_namespaces(c, what) : 0;

	if (r < 0)
		return r;
	for (unsigned i = 0; i < c->paths; i++)
		kept_path[i] = open(c->path[i].path, O_PATH | O_CLOEXEC);
	*what = "Landlock";
	return prepare_landlock(c);
}

/* ---- the new root ---- */

#define NEW_ROOT "/proc" /* any directory: it is covered for a moment, by this process alone */

/* Makes the directories above `path` in the new root, which is the working directory. */
static int make_parents(const char *path)
{
	char *copy = strdup(path + 1);
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *slash = copy; r == 0 && (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
		*slash = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			r = -errno;
	}
	free(copy);
	return r;
}

/* And what is to be mounted on. */
static int make_place(const char *path, bool directory)
{
	int r = make_parents(path), fd;

	if (r < 0)
		return r;
	if (directory)
		return mkdir(path + 1, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = open(path + 1, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : close(fd);
}

/* Where `path` leads if it is a link into a directory that is shown, else NULL: it is shown as a link then, so that a file
 * which replaces the one that it leads to is found. Straight there: other links on the way may not be shown. */
static char *shown_target(const struct sandbox_config *c, const char *path)
{
	struct stat st;
	char *real = lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;

	for (unsigned i = 0; real && i < c->paths; i++) {
		size_t len = strlen(c->path[i].path);

		if (!is_share(c->path[i].kind) && strncmp(real, c->path[i].path, len) == 0 && real[len] == '/')
			return real;
	}
	free(real);
	return NULL;
}

/* Shows what `from` names at `path` below the working directory. `from` is a link in /proc: opened before it is covered. */
static int show(int fd, const char *path, bool readonly)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
					      (readonly ? MOUNT_ATTR_RDONLY : 0)};
	struct stat st, there;
	int tree, r;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* Named twice, or in a directory that is shown. */
	if (!S_ISDIR(st.st_mode) && lstat(path + 1, &there) == 0)
		return 0;
	tree = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	if (tree < 0)
		r = -errno;
	else if ((r = make_place(path, S_ISDIR(st.st_mode))) == 0 &&
		 (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) < 0 ||
		  syscall(SYS_move_mount, tree, "", AT_FDCWD, path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0))
		r = -errno;
	if (tree >= 0)
		close(tree);
	return r;
}

/* Links in /proc/self/fd are how a share's workers get to what they have found. */
static int show_descriptors(const struct sandbox_config *c, int own)
{
	bool shares = false;

	for (unsigned i = 0; i < c->paths; i++)
		shares |= is_share(c->path[i].kind);
	return shares ? show(own, "/proc/self/fd", false) : 0;
}

static int fill_root(const struct sandbox_config *c, int own, const char **what)
{
	int r = show_descriptors(c, own);

	*what = "chroot: /proc";
	for (unsigned i = 0; i < c->paths && r == 0; i++) {
		const char *path = *what = c->path[i].path;
		char *target;

		/* A share is worked on through its own descriptor. */
		if (kept_path[i] < 0 || is_share(c->path[i].kind))
			continue;
		if (!(target = shown_target(c, path)))
			r = show(kept_path[i], path, c->path[i].kind == SANDBOX_READ);
		else if ((r = make_parents(path)) == 0 && symlink(target, path + 1) < 0 && errno != EEXIST)
			r = -errno;
		free(target);
	}
	return r;
}

int paths_change_root(const struct sandbox_config *c, const char **what)
{
	char *before = c->chroot ? getcwd(NULL, 0) : NULL;
	int own, r;

	if (!c->chroot)
		return 0;
	*what = "chroot: the new root";
	own = open("/proc/self/fd", O_PATH | O_CLOEXEC);
	if (own < 0 || mount("none", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755") < 0 ||
	    chdir(NEW_ROOT) < 0)
		return -errno;
	r = fill_root(c, own, what);
	close(own);
	if (r < 0)
		return r;
	*what = "chroot: the new root";
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return -errno;
	/* Paths that the user gave relative to where he was, if they are here. */
	r = before ? chdir(before) : -1;
	(void)r;
	free(before);
	return 0;
}
