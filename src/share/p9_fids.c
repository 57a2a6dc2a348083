/*
 * 9P: fids and the texts of messages. See p9_internal.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "share/p9_internal.h"

#define STATE_MAX (64u << 20) /* bytes of all fids */

/* ---- messages ---- */

void p9_get_text(struct in *m, char *text, size_t size)
{
	size_t len = (size_t)get(m, 2);

	text[0] = '\0';
	if (len >= size || len > m->left || memchr(m->at, 0, len)) {
		m->bad = true;
		return;
	}
	memcpy(text, m->at, len);
	text[len] = '\0';
	m->at += len;
	m->left -= len;
}

void p9_put_text(struct out *m, const char *text)
{
	size_t len = strlen(text);

	put(m, len, 2);
	put_bytes(m, text, len);
}

/* Names a file for good: files on other devices below the root are told apart by theirs. */
static uint64_t qid_path(const struct p9 *s, dev_t device, ino_t number)
{
	return number ^ (device == s->device ? 0 : (uint64_t)device * 0x9e3779b97f4a7c15u);
}

void p9_put_qid(const struct p9 *s, struct out *m, const struct stat *st)
{
	put(m, S_ISDIR(st->st_mode) ? QID_DIRECTORY : S_ISLNK(st->st_mode) ? QID_LINK : QID_FILE, 1);
	put(m, (uint64_t)st->st_mtim.tv_sec ^ (uint64_t)st->st_mtim.tv_nsec ^ (uint64_t)st->st_size << 8, 4);
	put(m, qid_path(s, st->st_dev, st->st_ino), 8);
}

/* ---- fids ---- */

static struct fid **fid_slot(struct p9 *s, uint32_t number)
{
	struct fid **p = &s->bucket[number % BUCKETS];

	while (*p && (*p)->number != number)
		p = &(*p)->next;
	return p;
}

struct fid *p9_fid_find(struct p9 *s, uint32_t number) { return *fid_slot(s, number); }

static size_t fid_cost(const char *path) { return sizeof(struct fid) + strlen(path) + 64; }

static size_t attribute_cost(const struct fid *f) { return f->attribute ? sizeof *f->attribute + f->attribute->size : 0; }

int p9_fid_new(struct p9 *s, uint32_t number, const char *path, uint32_t uid)
{
	struct fid *f;

	if (p9_fid_find(s, number))
		return -EINVAL;
	if (s->state + fid_cost(path) > STATE_MAX)
		return -ENFILE;
	if (!(f = calloc(1, sizeof *f)) || !(f->path = strdup(path))) {
		free(f);
		return -ENOMEM;
	}
	f->number = number;
	f->uid = uid;
	f->refs = 1;
	f->fd = -1;
	f->next = s->bucket[number % BUCKETS];
	s->bucket[number % BUCKETS] = f;
	s->state += fid_cost(path);
	return 0;
}

void p9_fid_put(struct p9 *s, struct fid *f)
{
	if (--f->refs)
		return;
	s->state -= fid_cost(f->path) + attribute_cost(f);
	free(f->attribute);
	if (f->fd >= 0) {
		close(f->fd);
		s->open--;
	}
	free(f->path);
	free(f);
}

int p9_fid_clunk(struct p9 *s, uint32_t number)
{
	struct fid **p = fid_slot(s, number), *f = *p;

	if (!f)
		return -EBADF;
	*p = f->next;
	p9_fid_put(s, f);
	return 0;
}

int p9_fid_set_path(struct p9 *s, struct fid *f, const char *path)
{
	size_t state = s->state - fid_cost(f->path) + fid_cost(path);

	if (state > STATE_MAX && state > s->state)
		return -ENFILE;
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	s->state = state;
	free(f->path);
	f->path = copy;
	return 0;
}

int p9_fid_set_attribute(struct p9 *s, struct fid *f, struct attribute *a)
{
	if (s->state + sizeof *a + a->size > STATE_MAX)
		return -ENFILE;
	f->attribute = a;
	s->state += attribute_cost(f);
	return 0;
}

int p9_join(char path[PATH_MAX], const char *directory, const char *name)
{
	size_t a = strlen(directory), b = strlen(name);

	if (a + b + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	memmove(path, directory, a);
	if (a)
		path[a++] = '/';
	memcpy(path + a, name, b + 1);
	return 0;
}

void p9_fid_renamed(struct p9 *s, const char *from, const char *to)
{
	size_t len = strlen(from);
	char path[PATH_MAX];

	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct fid *f = s->bucket[i]; f; f = f->next) {
			if (strncmp(f->path, from, len) != 0 || (f->path[len] != '/' && f->path[len] != '\0'))
				continue;
			/* Where the path became too long, or there is no room for it, the fid is lost to its client. */
			if (f->path[len] == '\0' ? p9_fid_set_path(s, f, to) : p9_join(path, to, f->path + len + 1) ||
								  p9_fid_set_path(s, f, path))
				continue;
		}
}

int p9_fid_open_path(struct p9 *s, uint32_t number)
{
	const struct fid *f = p9_fid_find(s, number);

	return f ? tree_find(&s->tree, f->path) : -EBADF;
}

int p9_fid_open_parent(struct p9 *s, uint32_t number, const char *name)
{
	const struct fid *f = p9_fid_find(s, number);

	if (!f)
		return -EBADF;
	if (s->readonly)
		return -EROFS;
	if (!tree_is_name(name))
		return -EINVAL;
	return tree_find_directory(&s->tree, f->path);
}
