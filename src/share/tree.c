/*
 * A directory tree that nothing leads out of. See tree.h.
 *
 * openat2(2) does the looking up: RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS hold for every component, whatever others do
 * to the tree meanwhile. What was found is pinned by its O_PATH descriptor; calls that know no such descriptors get to
 * it by its link in /proc, which names just that file.
 */
#include "share/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LINK_SIZE 32 /* "/proc/self/fd/N" */

static int result(int r) { return r < 0 ? -errno : r; }

static int look_up(int directory, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_PATH | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	do /* a rename meanwhile */
		fd = (int)syscall(SYS_openat2, directory, *path ? path : ".", &how, sizeof how);
	while (fd < 0 && errno == EAGAIN);
	return result(fd);
}

static const char *link_of(int fd, char link[LINK_SIZE])
{
	snprintf(link, LINK_SIZE, "/proc/self/fd/%d", fd);
	return link;
}

int tree_init(struct tree *t, const char *directory)
{
	t->root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->root < 0)
		return -errno;
	int fd = look_up(t->root, "", O_DIRECTORY); /* does this host know openat2? */
	if (fd < 0) {
		tree_free(t);
		return fd;
	}
	close(fd);
	return 0;
}

void tree_free(struct tree *t)
{
	if (t->root >= 0)
		close(t->root);
	t->root = -1;
}

bool tree_is_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int tree_find(const struct tree *t, const char *path) { return look_up(t->root, path, 0); }
int tree_find_directory(const struct tree *t, const char *path) { return look_up(t->root, path, O_DIRECTORY); }

int tree_reopen(int found, int flags)
{
	char link[LINK_SIZE];
	struct stat st;

	if (fstat(found, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -ENXIO;
	return result(open(link_of(found, link), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
}

int tree_create(int directory, const char *name, int flags, mode_t mode)
{
	int fd = openat(directory, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);

	if (fd >= 0 || errno != EEXIST || (flags & O_EXCL))
		return result(fd);
	int found = look_up(directory, name, 0);
	if (found < 0)
		return found;
	fd = tree_reopen(found, flags);
	close(found);
	return fd;
}

int tree_chmod(int found, mode_t mode)
{
	char link[LINK_SIZE];

	return result(chmod(link_of(found, link), mode));
}

int tree_truncate(int found, off_t size)
{
	char link[LINK_SIZE];
	struct stat st;

	if (fstat(found, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	return result(truncate(link_of(found, link), size));
}

int tree_set_times(int found, const struct timespec times[2])
{
	char link[LINK_SIZE];
	int r = utimensat(found, "", times, AT_EMPTY_PATH);

	if (r < 0 && (errno == EINVAL || errno == ENOENT)) /* hosts before Linux 5.8 */
		r = utimensat(AT_FDCWD, link_of(found, link), times, 0);
	return result(r);
}

int tree_link(int found, int directory, const char *name)
{
	char link[LINK_SIZE];

	return result(linkat(AT_FDCWD, link_of(found, link), directory, name, AT_SYMLINK_FOLLOW));
}

/* Its link in /proc, by which the calls that know no O_PATH descriptors get to it; NULL: it has no attributes. */
static const char *attribute_link(int found, char link[LINK_SIZE])
{
	struct stat st;

	return fstat(found, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) ? link_of(found, link) : NULL;
}

ssize_t tree_get_xattr(int found, const char *name, void *value, size_t size)
{
	char link[LINK_SIZE];
	ssize_t n = attribute_link(found, link) ? getxattr(link, name, value, size) : (errno = EOPNOTSUPP, -1);

	return n < 0 ? -errno : n;
}

ssize_t tree_list_xattrs(int found, void *list, size_t size)
{
	char link[LINK_SIZE];
	ssize_t n = attribute_link(found, link) ? listxattr(link, list, size) : (errno = EOPNOTSUPP, -1);

	return n < 0 ? -errno : n;
}

int tree_set_xattr(int found, const char *name, const void *value, size_t size, int flags)
{
	char link[LINK_SIZE];

	return attribute_link(found, link) ? result(setxattr(link, name, value, size, flags)) : -EOPNOTSUPP;
}

int tree_remove_xattr(int found, const char *name)
{
	char link[LINK_SIZE];

	return attribute_link(found, link) ? result(removexattr(link, name)) : -EOPNOTSUPP;
}
