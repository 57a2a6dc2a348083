/*
 * Addresses of screens. See address.h.
 */
#include "ui/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VNC_PORT 5900
#define BACKLOG 8

static int parse_unix(struct address *a, const char *path)
{
	size_t len = strlen(path);

	if (len == 0)
		return -EINVAL;
	if (len >= sizeof a->unix_path.sun_path)
		return -ENAMETOOLONG;
	a->unix_path.sun_family = AF_UNIX;
	memcpy(a->unix_path.sun_path, path, len + 1);
	a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return 0;
}

static int parse_tcp(struct address *a, const char *host, size_t len, uint16_t port)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)&a->storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->storage;
	char name[INET6_ADDRSTRLEN] = "127.0.0.1";

	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (len >= sizeof name)
		return -EINVAL;
	if (len > 0) {
		memcpy(name, host, len);
		name[len] = '\0';
	}
	if (inet_pton(AF_INET, name, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(port);
		a->len = sizeof *in4;
		return 0;
	}
	if (inet_pton(AF_INET6, name, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		a->len = sizeof *in6;
		return 0;
	}
	return -EINVAL;
}

int address_parse(struct address *a, const char *text)
{
	const char *colon = strrchr(text, ':');
	char *end;

	memset(a, 0, sizeof *a);
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(a, text + 5);
	if (!colon || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	unsigned long display = strtoul(colon + 1, &end, 10);
	if (*end || display > 65535 - VNC_PORT)
		return -EINVAL;
	return parse_tcp(a, text, (size_t)(colon - text), (uint16_t)(VNC_PORT + display));
}

int address_connect(const struct address *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, &a->any, a->len) < 0) {
		int err = errno;

		close(fd);
		errno = err;
		fd = -1;
	}
	return fd < 0 ? -errno : fd;
}

void address_unlink(const struct address *a)
{
	if (a->any.sa_family == AF_UNIX)
		unlink(a->unix_path.sun_path);
}

int address_listen(const struct address *a)
{
	int fd, r, on = 1;

	if (a->any.sa_family == AF_UNIX) {
		if ((r = address_connect(a)) == -ECONNREFUSED)
			address_unlink(a);
		else if (r >= 0)
			close(r);
	}
	fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (a->any.sa_family == AF_UNIX)
		fchmod(fd, 0600); /* what bind makes of it in the file system */
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &a->any, a->len) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}
