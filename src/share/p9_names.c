/*
 * 9P: requests that make, remove and move names. See p9_internal.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "share/p9_internal.h"

enum { UNLINK_DIRECTORY = 0x200 };

/* What was just made at `name`: its owner and mode as the client wants them, and its qid. mode 0: left alone. */
static int finish_new(struct p9 *s, int directory, const char *name, uint32_t mode, uint32_t uid, uint32_t gid,
		      struct out *out)
{
	const struct tree below = {directory};
	struct stat st;
	int r = 0, fd = tree_find(&below, name);

	if (fd < 0)
		return fd;
	if (s->root && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		r = -errno;
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0 && mode)
		r = tree_chmod(fd, safe_mode(mode, S_ISDIR(st.st_mode)));
	close(fd);
	if (r == 0)
		p9_put_qid(s, out, &st);
	return r;
}

int p9_mkdir(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), mode, gid;
	char name[NAME_SIZE];

	p9_get_text(in, name, sizeof name);
	mode = get32(in);
	gid = get32(in);
	int directory = in->bad ? -EINVAL : p9_fid_open_parent(s, number, name), r;
	if (directory < 0)
		return directory;
	r = mkdirat(directory, name, 0700) < 0 ? -errno
					       : finish_new(s, directory, name, mode, p9_fid_find(s, number)->uid, gid, out);
	close(directory);
	return r;
}

int p9_mknod(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), mode, gid;
	char name[NAME_SIZE];

	p9_get_text(in, name, sizeof name);
	mode = get32(in);
	get(in, 8); /* a device's number */
	gid = get32(in);
	int directory = in->bad ? -EINVAL : p9_fid_open_parent(s, number, name), r;
	if (directory < 0)
		return directory;
	if (S_ISCHR(mode) || S_ISBLK(mode))
		r = -EPERM;
	else if (mknodat(directory, name, (mode & S_IFMT) | 0600, 0) < 0)
		r = -errno;
	else
		r = finish_new(s, directory, name, mode, p9_fid_find(s, number)->uid, gid, out);
	close(directory);
	return r;
}

int p9_symlink(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), gid;
	char name[NAME_SIZE], target[PATH_MAX];

	p9_get_text(in, name, sizeof name);
	p9_get_text(in, target, sizeof target);
	gid = get32(in);
	int directory = in->bad ? -EINVAL : p9_fid_open_parent(s, number, name), r;
	if (directory < 0)
		return directory;
	r = symlinkat(target, directory, name) < 0
		    ? -errno
		    : finish_new(s, directory, name, 0, p9_fid_find(s, number)->uid, gid, out);
	close(directory);
	return r;
}

int p9_link(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t parent = get32(in), number = get32(in);
	char name[NAME_SIZE];
	int directory, found, r;

	(void)out;
	p9_get_text(in, name, sizeof name);
	if (in->bad)
		return -EINVAL;
	if ((directory = p9_fid_open_parent(s, parent, name)) < 0)
		return directory;
	r = found = p9_fid_open_path(s, number);
	if (found >= 0) {
		r = tree_link(found, directory, name);
		close(found);
	}
	close(directory);
	return r;
}

static int remove_at(int directory, const char *name, bool is_directory)
{
	return unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

int p9_unlinkat(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), flags;
	char name[NAME_SIZE];

	(void)out;
	p9_get_text(in, name, sizeof name);
	flags = get32(in);
	int directory = in->bad ? -EINVAL : p9_fid_open_parent(s, number, name);
	if (directory < 0)
		return directory;
	int r = remove_at(directory, name, flags & UNLINK_DIRECTORY);
	close(directory);
	return r;
}

/* A fid's directory, and its name in it. */
static int open_own_parent(struct p9 *s, const struct fid *f, const char **name)
{
	const char *slash = strrchr(f->path, '/');
	char parent[PATH_MAX];

	if (s->readonly)
		return -EROFS;
	if (!*f->path)
		return -EBUSY; /* the root itself */
	*name = slash ? slash + 1 : f->path;
	size_t len = slash ? (size_t)(slash - f->path) : 0;
	memcpy(parent, f->path, len);
	parent[len] = '\0';
	return tree_find_directory(&s->tree, parent);
}

/* The fid is gone, whether the file is or not. */
int p9_remove(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in);
	const struct fid *f = p9_fid_find(s, number);
	const char *name;

	(void)out;
	if (!f)
		return -EBADF;
	int directory = open_own_parent(s, f, &name), r = directory;
	if (directory >= 0) {
		r = remove_at(directory, name, false);
		if (r == -EISDIR)
			r = remove_at(directory, name, true);
		close(directory);
	}
	p9_fid_clunk(s, number);
	return r;
}

/* Moves `from`, in directory `old` as `old_name`, to `name` in the directory that is fid `parent`. */
static int move(struct p9 *s, int old, const char *old_name, const char *from, uint32_t parent, const char *name)
{
	char source[PATH_MAX], target[PATH_MAX];
	int directory = p9_fid_open_parent(s, parent, name), r;

	if (directory < 0)
		return directory;
	r = p9_join(target, p9_fid_find(s, parent)->path, name);
	if (r == 0 && renameat(old, old_name, directory, name) < 0)
		r = -errno;
	close(directory);
	if (r < 0)
		return r;
	memcpy(source, from, strlen(from) + 1); /* it may be a fid's own path */
	p9_fid_renamed(s, source, target);
	return 0;
}

int p9_rename(struct p9 *s, struct in *in, struct out *out)
{
	const struct fid *f = p9_fid_find(s, get32(in));
	uint32_t parent = get32(in);
	char name[NAME_SIZE];
	const char *old_name;

	(void)out;
	p9_get_text(in, name, sizeof name);
	if (in->bad)
		return -EINVAL;
	if (!f)
		return -EBADF;
	int old = open_own_parent(s, f, &old_name);
	if (old < 0)
		return old;
	int r = move(s, old, old_name, f->path, parent, name);
	close(old);
	return r;
}

int p9_renameat(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t old_parent = get32(in), parent;
	char old_name[NAME_SIZE], name[NAME_SIZE], from[PATH_MAX];

	(void)out;
	p9_get_text(in, old_name, sizeof old_name);
	parent = get32(in);
	p9_get_text(in, name, sizeof name);
	int old = in->bad ? -EINVAL : p9_fid_open_parent(s, old_parent, old_name);
	if (old < 0)
		return old;
	int r = p9_join(from, p9_fid_find(s, old_parent)->path, old_name);
	if (r == 0)
		r = move(s, old, old_name, from, parent, name);
	close(old);
	return r;
}
