/*
 * 9P: extended attributes. See p9_internal.h.
 *
 * A fid is made to stand for an attribute (or for the list of names): what is read from it was read when it was made, and
 * what is written to it is set when it is clunked. Only the namespace `user.` is there: others are the host's own affairs
 * (capabilities, labels), and no guest's.
 *
 * Source: the 9P2000.L protocol (diod's protocol.md), xattrwalk and xattrcreate; xattr(7).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/xattr.h>

#include "share/p9_internal.h"

#define VALUE_MAX 65536u /* XATTR_SIZE_MAX and XATTR_LIST_MAX of Linux */

static bool is_users(const char *name) { return strncmp(name, "user.", 5) == 0 && name[5]; }

/* Drops the names that a client does not see. */
static size_t filter_names(uint8_t *list, size_t size)
{
	size_t kept = 0;

	for (size_t at = 0, len; at < size; at += len) {
		len = strnlen((char *)list + at, size - at) + 1;
		if (len > size - at)
			break;
		if (is_users((char *)list + at)) {
			memmove(list + kept, list + at, len);
			kept += len;
		}
	}
	return kept;
}

static int new_attribute(const char *name, size_t size, struct attribute **a)
{
	if (!(*a = calloc(1, sizeof **a + size)))
		return -ENOMEM;
	memcpy((*a)->name, name, strlen(name) + 1);
	(*a)->size = size;
	return 0;
}

/* Reads it, or the list if the name is empty. */
static int load(struct p9 *s, uint32_t number, const char *name, struct attribute **a)
{
	int fd = p9_fid_open_path(s, number), r;
	ssize_t n;

	if (fd < 0)
		return fd;
	if ((r = new_attribute(name, VALUE_MAX, a)) == 0) {
		n = *name ? tree_get_xattr(fd, name, (*a)->data, VALUE_MAX) : tree_list_xattrs(fd, (*a)->data, VALUE_MAX);
		if (n >= 0 && !*name)
			n = (ssize_t)filter_names((*a)->data, (size_t)n);
		r = n < 0 ? (int)n : 0;
		(*a)->size = n < 0 ? 0 : (size_t)n;
	}
	close(fd);
	return r;
}

int p9_xattrwalk(struct p9 *s, struct in *in, struct out *out)
{
	uint32_t number = get32(in), new = get32(in);
	const struct fid *f = p9_fid_find(s, number);
	struct attribute *a = NULL, *fitting;
	char name[NAME_SIZE];
	int r;

	p9_get_text(in, name, sizeof name);
	if (in->bad)
		return -EINVAL;
	if (!f || f->attribute || new == number)
		return -EBADF;
	if (*name && !is_users(name))
		return -EOPNOTSUPP;
	if ((r = load(s, number, name, &a)) == 0 && (fitting = realloc(a, sizeof *a + a->size)) != NULL)
		a = fitting;
	if (r == 0 && (r = p9_fid_new(s, new, f->path, f->uid)) == 0 &&
	    (r = p9_fid_set_attribute(s, p9_fid_find(s, new), a)) < 0)
		p9_fid_clunk(s, new);
	if (r < 0) {
		free(a);
		return r;
	}
	put(out, a->size, 8);
	return 0;
}

int p9_xattrcreate(struct p9 *s, struct in *in, struct out *out)
{
	struct fid *f = p9_fid_find(s, get32(in));
	struct attribute *a;
	char name[NAME_SIZE];
	int r;

	(void)out;
	p9_get_text(in, name, sizeof name);
	uint64_t size = get(in, 8);
	uint32_t flags = get32(in);
	if (in->bad)
		return -EINVAL;
	if (!f || f->attribute || f->fd >= 0)
		return -EBADF;
	if (s->readonly)
		return -EROFS;
	if (!is_users(name))
		return -EOPNOTSUPP;
	if (size > VALUE_MAX)
		return -E2BIG;
	if ((flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) || flags == (XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if ((r = new_attribute(name, (size_t)size, &a)) < 0)
		return r;
	a->set = true;
	a->flags = (int)flags;
	if ((r = p9_fid_set_attribute(s, f, a)) < 0)
		free(a);
	return r;
}

int p9_xattr_read(const struct attribute *a, uint64_t offset, uint64_t count, struct out *out)
{
	uint64_t left = offset < a->size ? a->size - offset : 0, room = out->max - out->used;

	if (a->set)
		return -EBADF;
	if (room < 4)
		return -EINVAL;
	count = count < left ? count : left;
	count = count < room - 4 ? count : room - 4;
	put(out, count, 4);
	put_bytes(out, a->data + (count ? offset : 0), (size_t)count);
	return 0;
}

int p9_xattr_write(struct attribute *a, uint64_t offset, uint64_t count, const struct in *in, struct out *out)
{
	if (!a->set)
		return -EBADF;
	if (count > in->left || offset > a->size || count > a->size - offset)
		return -ENOSPC;
	memcpy(a->data + offset, in->at, (size_t)count);
	if (offset + count > a->written)
		a->written = offset + count;
	put(out, count, 4);
	return 0;
}

/* The client is done with a fid: what it wrote is set. A value of no bytes takes the attribute away, which is how Linux
 * asks for that. */
int p9_xattr_commit(struct p9 *s, const struct fid *f)
{
	const struct attribute *a = f->attribute;
	int fd, r;

	if (!a->set)
		return 0;
	if (a->written < a->size)
		return -EIO; /* not all of it has come */
	if ((fd = tree_find(&s->tree, f->path)) < 0)
		return fd;
	r = a->size || a->flags != XATTR_REPLACE ? tree_set_xattr(fd, a->name, a->data, a->size, a->flags) :
						   tree_remove_xattr(fd, a->name);
	close(fd);
	return r;
}
