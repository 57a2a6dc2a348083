/*
 * The 9P server by its messages: what a client may do, and that nothing leads out of the tree.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "dev_fixture.h"
#include "share/p9.h"

enum {
	STATFS = 8, LOPEN = 12, LCREATE = 14, SYMLINK = 16, MKNOD = 18, RENAME = 20, READLINK = 22, GETATTR = 24, SETATTR = 26,
	XATTRWALK = 30, XATTRCREATE = 32, READDIR = 40, FSYNC = 50, LINK = 70, MKDIR = 72, RENAMEAT = 74, UNLINKAT = 76, VERSION = 100,
	ATTACH = 104, WALK = 110, READ = 116, WRITE = 118, CLUNK = 120, REMOVE = 122,
};
enum { ROOT = 1, WORK = 2, OTHER = 3 };

static struct p9 *server;
static char top[] = "/tmp/ringside-p9-XXXXXX"; /* top/tree is shared, top/secret is not */
static uint8_t message[P9_MESSAGE_MAX], reply[P9_MESSAGE_MAX];
static size_t length; /* of the message so far */

static char *in_top(const char *name)
{
	static char path[2][256];
	static unsigned n;
	char *p = path[n++ % 2];

	snprintf(p, 256, "%s/%s", top, name);
	return p;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static void number(uint64_t v, unsigned bytes)
{
	memcpy(message + length, &v, bytes);
	length += bytes;
}

static void text(const char *s)
{
	number(strlen(s), 2);
	memcpy(message + length, s, strlen(s));
	length += strlen(s);
}

static void begin(uint8_t type)
{
	length = 4;
	number(type, 1);
	number(7, 2);
}

/* Sends what was built. 0, or the error's number. */
static int send(void)
{
	size_t n;
	uint32_t v;

	memcpy(message, &(uint32_t){(uint32_t)length}, 4);
	n = p9_handle(server, message, length, reply, sizeof reply);
	memcpy(&v, reply, 4);
	if (n < 7 || v != n || reply[5] != 7) {
		CHECK(!"a whole reply");
		return -1;
	}
	if (reply[4] == 7) {
		memcpy(&v, reply + 7, 4);
		return (int)v;
	}
	CHECK_EQ(reply[4], message[4] + 1);
	return 0;
}

static uint64_t answer(unsigned at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, reply + 7 + at, bytes);
	return v;
}

/* `names` are separated by spaces. */
static int walk(uint32_t from, uint32_t to, const char *names)
{
	char copy[256], *save = NULL;
	unsigned count = 0;

	begin(WALK);
	number(from, 4);
	number(to, 4);
	size_t at = length;
	number(0, 2);
	snprintf(copy, sizeof copy, "%s", names);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save), count++)
		text(w);
	memcpy(message + at, &count, 2);
	int r = send();
	return r ? r : answer(0, 2) == count ? 0 : ENOENT;
}

static int clunk(uint32_t fid)
{
	begin(CLUNK);
	number(fid, 4);
	return send();
}

static int open_fid(uint32_t fid, int flags)
{
	begin(LOPEN);
	number(fid, 4);
	number((uint32_t)flags, 4);
	return send();
}

static int create(uint32_t fid, const char *name, int flags, unsigned mode)
{
	begin(LCREATE);
	number(fid, 4);
	text(name);
	number((uint32_t)flags, 4);
	number(mode, 4);
	number(0, 4);
	return send();
}

static int make_dir(uint32_t fid, const char *name)
{
	begin(MKDIR);
	number(fid, 4);
	text(name);
	number(0755, 4);
	number(0, 4);
	return send();
}

static int write_fid(uint32_t fid, uint64_t offset, const char *s)
{
	begin(WRITE);
	number(fid, 4);
	number(offset, 8);
	number(strlen(s), 4);
	memcpy(message + length, s, strlen(s));
	length += strlen(s);
	return send();
}

static int read_fid(uint32_t fid, uint64_t offset, uint32_t count)
{
	begin(READ);
	number(fid, 4);
	number(offset, 8);
	number(count, 4);
	return send();
}

static int rename_at(uint32_t from, const char *a, uint32_t to, const char *b)
{
	begin(RENAMEAT);
	number(from, 4);
	text(a);
	number(to, 4);
	text(b);
	return send();
}

static int unlink_at(uint32_t fid, const char *name, uint32_t flags)
{
	begin(UNLINKAT);
	number(fid, 4);
	text(name);
	number(flags, 4);
	return send();
}

static int make_symlink(uint32_t fid, const char *name, const char *target)
{
	begin(SYMLINK);
	number(fid, 4);
	text(name);
	text(target);
	number(0, 4);
	return send();
}

static int set_mode(uint32_t fid, unsigned mode)
{
	begin(SETATTR);
	number(fid, 4);
	number(1, 4);
	number(mode, 4);
	for (unsigned i = 0; i < 12; i++)
		number(0, 4);
	return send();
}

static int set_size(uint32_t fid, uint64_t size)
{
	begin(SETATTR);
	number(fid, 4);
	number(8, 4);
	for (unsigned i = 0; i < 3; i++)
		number(0, 4);
	number(size, 8);
	for (unsigned i = 0; i < 4; i++)
		number(0, 8);
	return send();
}

static int get_attributes(uint32_t fid)
{
	begin(GETATTR);
	number(fid, 4);
	number(0x7ff, 8);
	return send();
}

static void start(bool readonly)
{
	strcpy(strrchr(top, '-'), "-XXXXXX");
	if (!mkdtemp(top) || mkdir(in_top("tree"), 0755) < 0 || mkdir(in_top("tree/sub"), 0755) < 0)
		exit(1);
	write_file(in_top("secret"), "secret");
	write_file(in_top("tree/file"), "contents");
	if (symlink("/etc/passwd", in_top("tree/absolute")) < 0 || symlink("../secret", in_top("tree/relative")) < 0 ||
	    symlink("..", in_top("tree/up")) < 0 || symlink("sub", in_top("tree/inside")) < 0 ||
	    mkfifo(in_top("tree/fifo"), 0600) < 0)
		exit(1);
	server = p9_new(in_top("tree"), readonly);
	if (!server) {
		perror("p9_new");
		exit(1);
	}
	begin(VERSION);
	number(65536, 4);
	text("9P2000.L");
	CHECK_EQ(send(), 0);
	CHECK_EQ(answer(0, 4), 65536);
	begin(ATTACH);
	number(ROOT, 4);
	number(UINT32_MAX, 4);
	text("root");
	text("");
	number(0, 4);
	CHECK_EQ(send(), 0);
	CHECK_EQ(answer(0, 1), 0x80);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static void stop(void)
{
	p9_free(server);
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool file_is(const char *path, const char *contents)
{
	char got[256] = "";
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(got, 1, sizeof got - 1, f) : 0;

	if (f)
		fclose(f);
	return f && n == strlen(contents) && strcmp(got, contents) == 0;
}

/* ---- ordinary work ---- */

static void test_files(void)
{
	struct stat st;

	start(false);
	CHECK_EQ(walk(ROOT, WORK, "file"), 0);
	CHECK_EQ(read_fid(WORK, 0, 100), EBADF); /* not open */
	CHECK_EQ(open_fid(WORK, O_RDWR), 0);
	CHECK_EQ(open_fid(WORK, O_RDWR), EBADF);
	CHECK_EQ(read_fid(WORK, 3, 100), 0);
	CHECK_EQ(answer(0, 4), 5);
	CHECK(memcmp(reply + 11, "tents", 5) == 0);
	CHECK_EQ(read_fid(WORK, 1000, 100), 0);
	CHECK_EQ(answer(0, 4), 0);
	CHECK_EQ(write_fid(WORK, 4, "WRITE"), 0);
	CHECK(file_is(in_top("tree/file"), "contWRITE"));
	CHECK_EQ(set_size(WORK, 4), 0);
	CHECK(file_is(in_top("tree/file"), "cont"));
	CHECK_EQ(set_size(WORK, UINT64_MAX), EINVAL);
	CHECK_EQ(set_mode(WORK, 04755), 0);
	CHECK(stat(in_top("tree/file"), &st) == 0 && (st.st_mode & 07777) == 0755); /* no set-user-ID */
	CHECK_EQ(get_attributes(WORK), 0);
	CHECK_EQ(answer(8 + 13, 4), 0100755);
	CHECK_EQ(answer(8 + 13 + 12 + 16, 8), 4);
	begin(FSYNC);
	number(WORK, 4);
	number(0, 4);
	CHECK_EQ(send(), 0);
	CHECK_EQ(unlink_at(ROOT, "file", 0), 0);
	CHECK_EQ(read_fid(WORK, 0, 4), 0); /* open, without a name */
	CHECK_EQ(get_attributes(WORK), 0);
	CHECK_EQ(clunk(WORK), 0);
	CHECK_EQ(clunk(WORK), EBADF);
	CHECK_EQ(walk(ROOT, WORK, ""), 0);
	CHECK_EQ(create(WORK, "new", O_RDWR | O_EXCL, 06640), 0);
	CHECK_EQ(write_fid(WORK, 0, "abc"), 0);
	CHECK(file_is(in_top("tree/new"), "abc"));
	CHECK(stat(in_top("tree/new"), &st) == 0 && (st.st_mode & 07777) == 0640);
	clunk(WORK);
	CHECK_EQ(walk(ROOT, WORK, ""), 0);
	CHECK_EQ(create(WORK, "new", O_RDWR | O_EXCL, 0600), EEXIST);
	CHECK_EQ(create(WORK, "new", O_RDWR, 0600), 0);
	CHECK_EQ(read_fid(WORK, 0, 10), 0);
	CHECK_EQ(answer(0, 4), 3);
	stop();
}

static void test_directories(void)
{
	unsigned seen = 0;
	uint64_t offset = 0;

	start(false);
	CHECK_EQ(make_dir(ROOT, "a"), 0);
	CHECK_EQ(make_dir(ROOT, "a"), EEXIST);
	CHECK_EQ(walk(ROOT, WORK, "a"), 0);
	CHECK_EQ(make_dir(WORK, "b"), 0);
	CHECK_EQ(walk(WORK, OTHER, "b"), 0);
	CHECK_EQ(rename_at(ROOT, "a", ROOT, "z"), 0);
	CHECK_EQ(make_dir(OTHER, "c"), 0); /* the fids went along */
	CHECK(access(in_top("tree/z/b/c"), F_OK) == 0);
	CHECK_EQ(walk(OTHER, 9, ".. .. sub"), 0);
	CHECK_EQ(walk(OTHER, 10, "c .. .. .. .. .. .. file"), 0); /* above the root is the root */
	CHECK_EQ(get_attributes(10), 0);
	CHECK_EQ(unlink_at(ROOT, "z", 0x200), ENOTEMPTY);
	CHECK_EQ(unlink_at(OTHER, "c", 0x200), 0);
	begin(RENAME);
	number(OTHER, 4);
	number(ROOT, 4);
	text("moved");
	CHECK_EQ(send(), 0);
	CHECK_EQ(get_attributes(OTHER), 0);
	begin(REMOVE);
	number(OTHER, 4);
	CHECK_EQ(send(), 0);
	CHECK_EQ(clunk(OTHER), EBADF);
	CHECK(access(in_top("tree/moved"), F_OK) < 0);
	begin(REMOVE);
	number(ROOT, 4);
	CHECK_EQ(send(), EBUSY);
	stop();

	start(false);
	CHECK_EQ(walk(ROOT, WORK, ""), 0);
	CHECK_EQ(open_fid(WORK, O_RDONLY | O_DIRECTORY), 0);
	CHECK_EQ(read_fid(WORK, 0, 100), EISDIR);
	for (;;) { /* in small pieces */
		begin(READDIR);
		number(WORK, 4);
		number(offset, 8);
		number(64, 4);
		CHECK_EQ(send(), 0);
		uint64_t bytes = answer(0, 4);
		CHECK(bytes <= 64);
		if (!bytes || seen > 100)
			break;
		for (uint64_t at = 4; at < 4 + bytes; at += 24 + answer((unsigned)at + 22, 2), seen++)
			offset = answer((unsigned)at + 13, 8);
	}
	CHECK_EQ(seen, 2 + 7); /* ".", "..", and what start() made */
	stop();
}

/* ---- ways out, and what must not be opened ---- */

static void test_escape(void)
{
	static const char *const links[] = {"absolute", "relative", "up", "inside"};
	struct stat before, after;

	start(false);
	stat(in_top("secret"), &before);
	CHECK_EQ(walk(ROOT, WORK, ".. secret"), ENOENT);
	CHECK_EQ(walk(ROOT, WORK, "sub/../.."), ENOENT);
	CHECK_EQ(walk(ROOT, WORK, "/etc"), ENOENT);
	CHECK_EQ(walk(ROOT, WORK, "."), ENOENT);
	CHECK_EQ(walk(ROOT, WORK, "up secret"), ENOENT);
	CHECK_EQ(walk(ROOT, WORK, "inside x"), ENOENT);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(walk(ROOT, 20 + i, links[i]), 0);
		CHECK_EQ(open_fid(20 + i, O_RDONLY), ELOOP);
		CHECK_EQ(open_fid(20 + i, O_RDWR | O_TRUNC), ELOOP);
		CHECK(set_size(20 + i, 0) != 0);
		CHECK(set_mode(20 + i, 0777) != 0);
		CHECK(make_dir(20 + i, "x") != 0);
		CHECK(unlink_at(20 + i, "secret", 0) != 0);
		CHECK(rename_at(20 + i, "secret", ROOT, "stolen") != 0);
		CHECK(rename_at(ROOT, "file", 20 + i, "planted") != 0);
		CHECK_EQ(walk(ROOT, 30, ""), 0);
		CHECK_EQ(create(30, links[i], O_RDWR, 0600), ELOOP);
		clunk(30);
		begin(READLINK);
		number(20 + i, 4);
		CHECK_EQ(send(), 0);
	}
	CHECK_EQ(make_symlink(ROOT, "mine", "/etc"), 0);
	CHECK_EQ(walk(ROOT, 40, "mine passwd"), ENOENT);
	CHECK_EQ(make_dir(ROOT, "../out"), EINVAL);
	CHECK_EQ(make_dir(ROOT, ".."), EINVAL);
	CHECK_EQ(make_dir(ROOT, ""), EINVAL);
	CHECK_EQ(unlink_at(ROOT, "../secret", 0), EINVAL);
	CHECK_EQ(rename_at(ROOT, "../secret", ROOT, "stolen"), EINVAL);
	CHECK_EQ(rename_at(ROOT, "file", ROOT, "../planted"), EINVAL);
	/* A directory that becomes a link behind the client's back. */
	CHECK_EQ(walk(ROOT, 50, "sub"), 0);
	if (rmdir(in_top("tree/sub")) < 0 || symlink("..", in_top("tree/sub")) < 0)
		exit(1);
	CHECK(walk(50, 51, "secret") != 0);
	CHECK(make_dir(50, "out") != 0);
	CHECK(unlink_at(50, "secret", 0) != 0);
	CHECK(access(in_top("out"), F_OK) < 0);
	/* Neither waits nor opens what is no file. */
	CHECK_EQ(walk(ROOT, 60, "fifo"), 0);
	CHECK_EQ(open_fid(60, O_RDONLY), ENXIO);
	begin(MKNOD);
	number(ROOT, 4);
	text("device");
	number(S_IFCHR | 0666, 4);
	number(1, 4);
	number(3, 4);
	number(0, 4);
	CHECK_EQ(send(), EPERM);
	stat(in_top("secret"), &after);
	CHECK(before.st_mode == after.st_mode && before.st_ctim.tv_nsec == after.st_ctim.tv_nsec);
	CHECK(file_is(in_top("secret"), "secret"));
	stop();
}

static void test_readonly(void)
{
	start(true);
	CHECK_EQ(walk(ROOT, WORK, "file"), 0);
	CHECK_EQ(open_fid(WORK, O_RDWR), EROFS);
	CHECK_EQ(open_fid(WORK, O_RDONLY | O_TRUNC), EROFS);
	CHECK_EQ(set_mode(WORK, 0600), EROFS);
	CHECK_EQ(set_size(WORK, 0), EROFS);
	CHECK_EQ(make_dir(ROOT, "x"), EROFS);
	CHECK_EQ(make_symlink(ROOT, "x", "y"), EROFS);
	CHECK_EQ(unlink_at(ROOT, "file", 0), EROFS);
	CHECK_EQ(rename_at(ROOT, "file", ROOT, "x"), EROFS);
	CHECK_EQ(create(ROOT, "x", O_RDONLY, 0600), EROFS);
	begin(REMOVE);
	number(WORK, 4);
	CHECK_EQ(send(), EROFS);
	CHECK_EQ(walk(ROOT, WORK, "file"), 0);
	CHECK_EQ(open_fid(WORK, O_RDONLY), 0);
	CHECK_EQ(read_fid(WORK, 0, 100), 0);
	CHECK(file_is(in_top("tree/file"), "contents"));
	stop();
}

/* ---- a client that breaks the rules ---- */

static void test_malformed(void)
{
	start(false);
	unsigned before = descriptors();
	CHECK_EQ(walk(ROOT, ROOT, "sub"), 0);    /* a fid may become what it is walked to */
	CHECK_EQ(walk(ROOT, ROOT, ".."), 0);
	CHECK_EQ(walk(ROOT, WORK, ""), 0);
	CHECK_EQ(walk(ROOT, WORK, "file"), EINVAL); /* taken */
	CHECK_EQ(walk(99, 98, ""), EBADF);
	begin(WALK);
	number(ROOT, 4);
	number(70, 4);
	number(17, 2);
	CHECK_EQ(send(), EINVAL);
	begin(WALK);
	number(ROOT, 4);
	number(70, 4);
	number(1, 2);
	number(500, 2); /* a name that is longer than the message */
	CHECK_EQ(send(), EINVAL);
	begin(XATTRWALK);
	CHECK_EQ(send(), EINVAL);
	begin(255);
	CHECK_EQ(send(), EOPNOTSUPP);
	for (unsigned type = 0; type < 256; type++) { /* nothing behind the header */
		begin((uint8_t)type);
		if (type != 108 && type != 7)
			CHECK(send() != 0);
	}
	for (size_t n = 0; n < 7; n++)
		CHECK_EQ(p9_handle(server, message, n, reply, sizeof reply), 0);
	begin(GETATTR);
	number(ROOT, 4);
	number(0, 8);
	memcpy(message, &(uint32_t){(uint32_t)length + 1}, 4);
	CHECK_EQ(p9_handle(server, message, length, reply, sizeof reply), 0); /* says it is longer than it is */
	memcpy(message, &(uint32_t){(uint32_t)length}, 4);
	CHECK_EQ(p9_handle(server, message, length, reply, 10), 0);
	CHECK_EQ(p9_handle(server, message, length, reply, 50), 11); /* no room: an error */
	CHECK_EQ(reply[4], 7);
	CHECK_EQ(walk(ROOT, 80, "file"), 0);
	CHECK_EQ(open_fid(80, O_RDWR), 0);
	begin(WRITE); /* more than is there */
	number(80, 4);
	number(0, 8);
	number(UINT32_MAX, 4);
	CHECK_EQ(send(), EINVAL);
	CHECK_EQ(read_fid(80, UINT64_MAX, 1), EINVAL);
	CHECK_EQ(read_fid(80, 0, UINT32_MAX), 0);
	CHECK_EQ(answer(0, 4), 8);
	CHECK(descriptors() == before + 1);
	begin(VERSION); /* a new session: all fids are gone */
	number(8192, 4);
	text("9P2000");
	CHECK_EQ(send(), 0);
	CHECK_EQ(answer(4, 2), 7); /* "unknown" */
	CHECK_EQ(clunk(80), EBADF);
	CHECK(descriptors() == before);
	stop();
}

/* What one client may hold is bounded. */
static void test_bound(void)
{
	int r = 0;
	uint32_t fid = 1000;
	char name[201];

	start(false);
	memset(name, 'n', 200);
	name[200] = '\0';
	CHECK_EQ(walk(ROOT, WORK, ""), 0);
	for (unsigned i = 0; i < 15; i++) {
		CHECK_EQ(make_dir(WORK, name), 0);
		CHECK_EQ(walk(WORK, WORK, name), 0);
	}
	while (fid < 1000000 && (r = walk(WORK, fid, "")) == 0)
		fid++;
	CHECK_EQ(r, ENFILE);
	p9_reset(server);
	stop();

	unsigned before = 0;
	start(false);
	before = descriptors();
	for (fid = 1000; fid < 5000; fid++)
		if (walk(ROOT, fid, "file") != 0 || (r = open_fid(fid, O_RDONLY)) != 0)
			break;
	CHECK_EQ(r, ENFILE);
	CHECK(fid > 1000 && fid <= 1512 && descriptors() - before == fid - 1000);
	clunk(1000);
	CHECK_EQ(open_fid(fid, O_RDONLY), 0);
	p9_reset(server);
	CHECK(descriptors() == before);
	stop();
}

static int xattr_walk(uint32_t fid, uint32_t new, const char *name)
{
	begin(XATTRWALK);
	number(fid, 4);
	number(new, 4);
	text(name);
	return send();
}

static int xattr_create(uint32_t fid, const char *name, uint64_t size, uint32_t flags)
{
	begin(XATTRCREATE);
	number(fid, 4);
	text(name);
	number(size, 8);
	number(flags, 4);
	return send();
}

/* As Linux's client does it. */
static int set_xattr(const char *name, const char *value, uint32_t flags)
{
	int r = walk(ROOT, OTHER, "file"), end;

	if (r == 0)
		r = xattr_create(OTHER, name, strlen(value), flags);
	if (r == 0 && *value)
		r = write_fid(OTHER, 0, value);
	end = clunk(OTHER);
	return r ? r : end;
}

static void test_xattrs(void)
{
	char value[64];

	start(false);
	write_file(in_top("tree/file"), "text");
	if (setxattr(in_top("tree/file"), "user.host", "value", 5, 0) < 0) {
		printf("# no extended attributes here: not tested\n");
		stop();
		return;
	}
	CHECK_EQ(walk(ROOT, WORK, "file"), 0);
	CHECK_EQ(xattr_walk(WORK, OTHER, "user.host"), 0);
	CHECK_EQ(answer(0, 8), 5);
	CHECK_EQ(read_fid(OTHER, 0, 100), 0);
	CHECK(answer(0, 4) == 5 && memcmp(reply + 11, "value", 5) == 0);
	CHECK_EQ(read_fid(OTHER, 3, 100), 0);
	CHECK(answer(0, 4) == 2 && memcmp(reply + 11, "ue", 2) == 0);
	CHECK_EQ(read_fid(OTHER, UINT64_MAX, 100), 0);
	CHECK_EQ(answer(0, 4), 0);
	CHECK_EQ(write_fid(OTHER, 0, "x"), EBADF);
	CHECK_EQ(open_fid(OTHER, O_RDONLY), EBADF);
	CHECK_EQ(xattr_walk(OTHER, 77, "user.host"), EBADF);
	CHECK_EQ(clunk(OTHER), 0);
	CHECK_EQ(xattr_walk(WORK, OTHER, "user.none"), ENODATA);
	CHECK_EQ(xattr_walk(WORK, OTHER, "security.capability"), EOPNOTSUPP);
	CHECK_EQ(clunk(OTHER), EBADF); /* nothing was made */
	/* from the client */
	CHECK_EQ(set_xattr("user.guest", "what it says", 0), 0);
	CHECK_EQ(getxattr(in_top("tree/file"), "user.guest", value, sizeof value), 12);
	CHECK(memcmp(value, "what it says", 12) == 0);
	CHECK_EQ(set_xattr("user.guest", "again", XATTR_CREATE), EEXIST);
	CHECK_EQ(set_xattr("user.new", "again", XATTR_REPLACE), ENODATA);
	CHECK_EQ(set_xattr("trusted.guest", "x", 0), EOPNOTSUPP);
	CHECK_EQ(set_xattr("security.capability", "x", 0), EOPNOTSUPP);
	CHECK_EQ(set_xattr("user.", "x", 0), EOPNOTSUPP);
	CHECK_EQ(xattr_walk(WORK, OTHER, ""), 0);
	CHECK_EQ(answer(0, 8), 10 + 11);
	CHECK_EQ(clunk(OTHER), 0);
	CHECK_EQ(set_xattr("user.guest", "", XATTR_REPLACE), 0); /* takes it away */
	CHECK(getxattr(in_top("tree/file"), "user.guest", value, sizeof value) < 0);
	/* half of a value, too much of one */
	CHECK_EQ(walk(ROOT, OTHER, "file"), 0);
	CHECK_EQ(xattr_create(OTHER, "user.half", 4, 0), 0);
	CHECK_EQ(read_fid(OTHER, 0, 4), EBADF);
	CHECK_EQ(write_fid(OTHER, 2, "abc"), ENOSPC);
	CHECK_EQ(write_fid(OTHER, 0, "ab"), 0);
	CHECK_EQ(clunk(OTHER), EIO);
	CHECK_EQ(walk(ROOT, OTHER, "file"), 0);
	CHECK_EQ(xattr_create(OTHER, "user.long", 65537, 0), E2BIG);
	CHECK_EQ(clunk(OTHER), 0);
	CHECK_EQ(listxattr(in_top("tree/file"), value, sizeof value), 10);
	stop();
	start(true);
	write_file(in_top("tree/file"), "text");
	CHECK_EQ(set_xattr("user.guest", "x", 0), EROFS);
	stop();
}

int main(void)
{
	test_files();
	test_directories();
	test_escape();
	test_readonly();
	test_xattrs();
	test_malformed();
	test_bound();
	return summary();
}
