/*
 * A directory tree of the host that nothing leads out of: names are looked up below its root only, no symbolic link is
 * ever followed, and only regular files and directories are opened.
 *
 * Paths are relative to the root, "" is the root itself; names are single components. Any thread. Everything returns
 * 0, a descriptor, or -errno.
 */
#ifndef RINGSIDE_TREE_H
#define RINGSIDE_TREE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct tree {
	int root; /* -1: closed */
};

int tree_init(struct tree *t, const char *directory);
void tree_free(struct tree *t);

/* An O_PATH descriptor of what is there, of a symbolic link too. */
int tree_find(const struct tree *t, const char *path);
/* The same of a directory, to do something with a name in it. */
int tree_find_directory(const struct tree *t, const char *path);
/* Opens what an O_PATH descriptor stands for. -ENXIO: neither a file nor a directory. */
int tree_reopen(int found, int flags);
/* Creates and opens a regular file (flags without O_CREAT; O_EXCL counts), or opens the one that is there. */
int tree_create(int directory, const char *name, int flags, mode_t mode);
/* The name is one component, and neither "." nor "..". */
bool tree_is_name(const char *name);

/* By an O_PATH descriptor. */
int tree_chmod(int found, mode_t mode);
int tree_truncate(int found, off_t size);
int tree_set_times(int found, const struct timespec times[2]);
int tree_link(int found, int directory, const char *name);
/* Extended attributes of files and directories; of other things -EOPNOTSUPP. How many bytes there were, or 0. */
ssize_t tree_get_xattr(int found, const char *name, void *value, size_t size);
ssize_t tree_list_xattrs(int found, void *list, size_t size);
int tree_set_xattr(int found, const char *name, const void *value, size_t size, int flags);
int tree_remove_xattr(int found, const char *name);

#endif
