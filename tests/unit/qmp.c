/*
 * The control socket with clients that do not read: nobody waits for them, what there is for them is bounded, and one that
 * reads late after all gets whole messages in order.
 */
#include "control/qmp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "machine/vm.h"
#include "util/loop.h"

#define TEXT_MAX (4u << 20)
#define NEGOTIATE "{\"execute\": \"qmp_capabilities\"}"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[] = "/tmp/ringside-qmp-XXXXXX", spec[64], *text;
static struct vm vm;
static struct qmp *qmp;

static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		loop_wake(vm.loop);
		loop_turn(vm.loop);
	}
}

static int client(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s", spec + 5);
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(write(fd, NEGOTIATE, strlen(NEGOTIATE)), strlen(NEGOTIATE));
	turns(3);
	return fd;
}

/* Reads all that comes, also while the loop turns. Whether it was the end; `text` is it, with a zero behind it. */
static bool read_all(int fd)
{
	size_t len = 0;
	ssize_t n = 0;

	for (unsigned idle = 0; idle < 5 && len < TEXT_MAX;) {
		n = recv(fd, text + len, TEXT_MAX - len, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n > 0)
			len += (size_t)n;
		idle = n > 0 ? 0 : idle + 1;
		turns(2);
	}
	text[len] = '\0';
	return n == 0;
}

/* Whole lines that have `what`, and whether all lines are whole. */
static unsigned lines(const char *what, bool *whole)
{
	unsigned count = 0;

	*whole = true;
	for (char *line = text, *end; *line; line = end + 2) {
		end = strstr(line, "\r\n");
		if (!end) {
			*whole = false;
			break;
		}
		*end = '\0';
		*whole &= line[0] == '{' && end[-1] == '}';
		count += strstr(line, what) != NULL;
	}
	return count;
}

static void events_wait(void)
{
	int fd = client();
	bool whole;

	for (unsigned i = 0; i < 6000; i++)
		qmp_event(qmp, "STOP", NULL);
	CHECK(!read_all(fd));
	CHECK_EQ(lines("\"STOP\"", &whole), 6000);
	CHECK(whole);
	close(fd);
	turns(3);
}

static void commands_wait(void)
{
	static const char command[] = "{\"execute\": \"query-commands\", \"id\": \"it\"}";
	int fd = client();
	unsigned sent = 0;
	bool whole;

	while (sent < 100000 && send(fd, command, sizeof command - 1, MSG_DONTWAIT) == sizeof command - 1) {
		sent++;
		turns(1);
	}
	CHECK(sent > 100 && sent < 100000);
	CHECK(!read_all(fd));
	CHECK_EQ(lines("\"it\"", &whole), sent);
	CHECK(whole);
	close(fd);
	turns(3);
}

static void sent_away(void)
{
	int fd = client(), other;
	bool whole;

	for (unsigned i = 0; i < 60000; i++)
		qmp_event(qmp, "STOP", NULL);
	turns(2);
	CHECK(read_all(fd));
	CHECK(lines("\"STOP\"", &whole) > 100);
	other = client(); /* there is room for the next one */
	qmp_event(qmp, "RESUME", NULL);
	CHECK(!read_all(other));
	CHECK(lines("\"RESUME\"", &whole) == 1 && whole);
	close(fd);
	close(other);
	turns(3);
}

int main(void)
{
	char error[256];

	text = malloc(TEXT_MAX + 1);
	vm.loop = loop_new(&lock);
	if (!text || !vm.loop || !mkdtemp(dir))
		return 2;
	pthread_mutex_lock(&lock);
	snprintf(spec, sizeof spec, "unix:%s/qmp", dir);
	qmp = qmp_new(&vm, spec, error, sizeof error);
	CHECK(qmp != NULL);
	events_wait();
	commands_wait();
	sent_away();
	qmp_free(qmp);
	loop_free(vm.loop);
	rmdir(dir);
	free(text);
	return summary();
}
