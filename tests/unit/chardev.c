/*
 * Character back ends and the loop under them: sockets with clients that come and go, a pty, a file, shared
 * descriptors with a filter, a device that takes little at a time. Also loop calls and sources, and option values.
 */
#include "ui/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dev_fixture.h"
#include "util/keyval.h"
#include "util/loop.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *loop;
static char dir[] = "/tmp/ringside-chardev-XXXXXX";

struct device {
	char got[8192];
	size_t len, takes; /* at most so many bytes at a time */
	unsigned room, opened, closed;
};

static size_t receive(void *opaque, const uint8_t *data, size_t len)
{
	struct device *d = opaque;
	size_t n = len < d->takes ? len : d->takes;

	if (n > sizeof d->got - d->len)
		n = sizeof d->got - d->len;
	memcpy(d->got + d->len, data, n);
	d->len += n;
	return n;
}
static void output_ready(void *opaque) { ((struct device *)opaque)->room++; }
static void connected(void *opaque, bool open)
{
	struct device *d = opaque;

	if (open)
		d->opened++;
	else
		d->closed++;
}
static const struct chardev_ops ops = {receive, output_ready, connected};

/* Turns of the loop: it is woken first, so it never waits. */
static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		loop_wake(loop);
		loop_turn(loop);
	}
}

static int client(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A client waits until there is one again, and nobody asks for it without pause. */
static void no_descriptor_free(struct chardev *c, const char *path)
{
	struct rlimit usual = {0}, none;
	int waits = client(path), next = dup(waits);
	unsigned turned = 0;

	close(next);
	CHECK(waits >= 0 && getrlimit(RLIMIT_NOFILE, &usual) == 0);
	none = usual;
	none.rlim_cur = (rlim_t)next;
	setrlimit(RLIMIT_NOFILE, &none);
	turns(1);
	for (uint64_t begin = clock_now(); clock_now() - begin < 300000000; turned++)
		loop_turn(loop);
	setrlimit(RLIMIT_NOFILE, &usual);
	CHECK(!chardev_connected(c));
	CHECK_SAYING(turned < 100, "%u turns of the loop in 0.3 s", turned);
	while (!chardev_connected(c))
		loop_turn(loop);
	close(waits);
}

static void unix_socket(void)
{
	char spec[64], error[256], text[64];
	struct device d = {.takes = 3};
	int one, two;

	snprintf(spec, sizeof spec, "unix:%s/line", dir);
	struct chardev *c = chardev_new(loop, spec, error, sizeof error);

	CHECK(c != NULL);
	chardev_attach(c, &ops, &d);
	CHECK(!chardev_connected(c));
	CHECK_EQ(chardev_write(c, (const uint8_t *)"lost", 4), 4);
	one = client(spec + 5);
	turns(2);
	CHECK(one >= 0 && d.opened == 1 && chardev_connected(c));
	two = client(spec + 5); /* one at a time: it waits */
	turns(2);
	CHECK(two >= 0 && d.opened == 1);
	CHECK_EQ(write(one, "hello, guest", 12), 12);
	turns(1);
	CHECK_EQ(d.len, 3);
	turns(6);
	CHECK(d.len == 12 && memcmp(d.got, "hello, guest", 12) == 0);
	CHECK_EQ(chardev_write(c, (const uint8_t *)"hello", 5), 5);
	CHECK(read(one, text, sizeof text) == 5 && memcmp(text, "hello", 5) == 0);

	/* A client that does not read: output becomes short, and goes on when it reads. */
	static uint8_t much[1 << 20];
	size_t taken = chardev_write(c, much, sizeof much);

	CHECK(taken < sizeof much);
	turns(2);
	CHECK_EQ(d.room, 0);
	for (size_t n = 0; n < taken;)
		n += (size_t)read(one, much, sizeof much);
	turns(2);
	CHECK_EQ(d.room, 1);
	close(one);
	turns(3);
	CHECK(d.closed == 1 && d.opened == 2 && chardev_connected(c));
	close(two);
	turns(3);
	CHECK(d.closed == 2 && !chardev_connected(c));
	one = client(spec + 5);
	turns(2);
	CHECK(one >= 0 && d.opened == 3);

	/* What a client sent before it went is not lost, though the device is slow. */
	d.len = d.takes = 0;
	CHECK_EQ(write(one, much, 6000), 6000);
	close(one);
	turns(4);
	CHECK_EQ(d.closed, 2);
	CHECK_EQ(chardev_write(c, (const uint8_t *)"lost", 4), 4);
	d.takes = 1000;
	turns(12);
	CHECK_EQ(d.len, 6000);
	CHECK_EQ(d.closed, 3);
	/* Nobody waits for a device that takes nothing of what one who has gone has left. */
	one = client(spec + 5);
	turns(2);
	d.len = d.takes = 0;
	CHECK_EQ(write(one, much, 6000), 6000);
	turns(2);
	two = client(spec + 5);
	turns(2);
	CHECK_EQ(d.opened, 4);
	close(one);
	turns(2);
	CHECK(d.opened == 5 && d.closed == 4 && chardev_connected(c));
	close(two);
	turns(2);
	CHECK(!chardev_connected(c));
	no_descriptor_free(c, spec + 5);
	chardev_free(c);
	CHECK_EQ(client(spec + 5), -1);

	/* A socket that a dead process left is no obstacle. */
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int dead = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", spec + 5);
	CHECK_EQ(bind(dead, (struct sockaddr *)&a, sizeof a), 0);
	close(dead);
	c = chardev_new(loop, spec, error, sizeof error);
	CHECK(c != NULL);
	CHECK(!chardev_new(loop, spec, error, sizeof error) && strstr(error, "in use"));
	chardev_free(c);
}

static size_t without_x(void *opaque, uint8_t *data, size_t len)
{
	size_t left = 0;

	++*(unsigned *)opaque;
	for (size_t i = 0; i < len; i++)
		if (data[i] != 'x')
			data[left++] = data[i];
	return left;
}
static unsigned broken_count;
static void broken(void *opaque)
{
	(void)opaque;
	broken_count++;
}

static void shared(void)
{
	int in[2], out[2];
	unsigned filtered = 0;
	struct device d = {.takes = 100};
	const struct chardev_owner owner = {without_x, broken, &filtered};

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	struct chardev *c = chardev_new_fds(loop, in[0], out[1], &owner);

	CHECK(c != NULL);
	CHECK_EQ(write(in[1], "axb", 3), 3); /* keys are obeyed without a device, too */
	turns(2);
	CHECK_EQ(filtered, 1);
	chardev_attach(c, &ops, &d);
	turns(1);
	CHECK(d.len == 2 && memcmp(d.got, "ab", 2) == 0);
	close(in[1]);
	turns(3);
	close(out[0]);
	CHECK_EQ(chardev_write(c, (const uint8_t *)"x", 1), 1);
	CHECK_EQ(broken_count, 1);
	chardev_free(c);
	CHECK(fcntl(in[0], F_GETFD) >= 0); /* not ours to close */
	close(in[0]);
	close(out[1]);
}

static void file_and_pty(void)
{
	char spec[128], error[256], text[16] = "";
	struct device d = {.takes = 100};

	snprintf(spec, sizeof spec, "file:%s/out", dir);
	struct chardev *c = chardev_new(loop, spec, error, sizeof error);

	CHECK(c != NULL);
	chardev_write_all(c, (const uint8_t *)"log", 3);
	chardev_free(c);
	int fd = open(spec + 5, O_RDONLY);
	CHECK(read(fd, text, sizeof text) == 3 && memcmp(text, "log", 3) == 0);
	close(fd);
	CHECK(!chardev_new(loop, "file:/nonexistent/x", error, sizeof error) && strstr(error, "No such file"));

	/* Nobody reads the pty: the guest is not held up. */
	static const uint8_t much[1 << 17];
	c = chardev_new(loop, "pty", error, sizeof error);
	CHECK(c != NULL);
	chardev_attach(c, &ops, &d);
	CHECK_EQ(chardev_write(c, much, sizeof much), sizeof much);
	turns(3);
	chardev_free(c);
}

static void names(void)
{
	static const char *const good[] = {"null", "pty", "file:a", "unix:/b", "tcp:0", "tcp:127.0.0.1:65535"};
	static const char *const bad[] = {"", "nul", "ptyx", "file:", "unix:", "tcp:", "tcp:x", "tcp:65536", "tcp:host:1", "tcp::1x"};
	char error[256], path[300] = "unix:";

	for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++)
		CHECK_EQ(chardev_check(good[i], error, sizeof error), 0);
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK_EQ(chardev_check(bad[i], error, sizeof error), -EINVAL);
	memset(path + 5, 'p', 200);
	CHECK_EQ(chardev_check(path, error, sizeof error), -EINVAL);
}

/* ---- the loop ---- */

struct counter {
	struct loop_call call;
	unsigned ran, again;
};

static void count_call(void *opaque)
{
	struct counter *n = opaque;

	n->ran++;
	if (n->again) {
		n->again--;
		loop_call_soon(loop, &n->call);
	}
}

static void calls(void)
{
	struct counter a = {.call = {.run = count_call, .opaque = &a}, .again = 3}, b = {.call = {.run = count_call, .opaque = &b}};

	loop_call_soon(loop, &a.call);
	loop_call_soon(loop, &b.call);
	loop_call_soon(loop, &b.call); /* once however often */
	loop_turn(loop);
	CHECK(a.ran == 1 && b.ran == 1);
	loop_turn(loop); /* what a call asks for wakes the next turn */
	CHECK_EQ(a.ran, 2);
	loop_call_soon(loop, &b.call);
	loop_call_cancel(loop, &a.call);
	loop_turn(loop);
	CHECK(a.ran == 2 && b.ran == 2);
}

static struct loop_fd first, second;
static int ready_count;
static void remove_both(void *opaque, short revents)
{
	(void)opaque;
	ready_count += revents & POLLIN ? 1 : 100;
	loop_remove_fd(loop, &first);
	loop_remove_fd(loop, &second);
}

static void removal(void)
{
	int p[2];

	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	first = second = (struct loop_fd){.fd = p[0], .events = POLLIN, .ready = remove_both};
	loop_add_fd(loop, &first);
	loop_add_fd(loop, &second);
	turns(2);
	CHECK_EQ(ready_count, 1); /* whichever came first took the other away */
	close(p[0]);
	close(p[1]);
}

/* ---- option values ---- */

static void values(void)
{
	struct keyval kv;
	const char *wrong;
	bool flag = false;

	CHECK_EQ(keyval_split(&kv, "a,,b=c,format=raw,ro,x=,snapshot=off", &wrong), 0);
	CHECK(strcmp(kv.first, "a,b=c") == 0);
	CHECK(strcmp(keyval_take(&kv, "format"), "raw") == 0 && strcmp(keyval_take(&kv, "x"), "") == 0);
	CHECK(!keyval_take(&kv, "raw"));
	CHECK(keyval_take_flag(&kv, "ro", &flag) == 0 && flag);
	CHECK(strcmp(keyval_left(&kv), "snapshot") == 0);
	CHECK(keyval_take_flag(&kv, "snapshot", &flag) == 0 && !flag);
	CHECK(!keyval_left(&kv));
	keyval_free(&kv);
	CHECK(keyval_split(&kv, "a,=b", &wrong) == -EINVAL && strcmp(wrong, "=b") == 0);
	keyval_free(&kv);
	CHECK(keyval_split(&kv, "a,b=1,b=2", &wrong) == -EINVAL && strcmp(wrong, "b") == 0);
	keyval_free(&kv);
	CHECK(keyval_split(&kv, "a,,", &wrong) == 0 && strcmp(kv.first, "a,") == 0 && kv.count == 0);
	keyval_free(&kv);
	CHECK(keyval_split(&kv, "a,", &wrong) == -EINVAL);
	keyval_free(&kv);
	CHECK(keyval_split_pairs(&kv, "on=maybe", &wrong) == 0 && keyval_take_flag(&kv, "on", &flag) == -EINVAL);
	keyval_free(&kv);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN); /* as the program has it */
	if (!mkdtemp(dir))
		return 1;
	pthread_mutex_lock(&lock);
	loop = loop_new(&lock);
	calls();
	removal();
	unix_socket();
	shared();
	file_and_pty();
	names();
	values();
	loop_free(loop);
	pthread_mutex_unlock(&lock);
	char path[128];
	snprintf(path, sizeof path, "%s/out", dir);
	unlink(path);
	rmdir(dir);
	return summary();
}
