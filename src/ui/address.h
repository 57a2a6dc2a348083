/*
 * Addresses of screens: "[HOST]:DISPLAY" is TCP port 5900 + DISPLAY, HOST a numeric address, 127.0.0.1 without; IPv6 in
 * brackets; "unix:PATH" a Unix socket. Any thread.
 */
#ifndef RINGSIDE_ADDRESS_H
#define RINGSIDE_ADDRESS_H

#include <sys/socket.h>
#include <sys/un.h>

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_un unix_path;
		struct sockaddr_storage storage;
	};
	socklen_t len;
};

/* 0, -EINVAL, -ENAMETOOLONG (a path). */
int address_parse(struct address *a, const char *text);
/* A socket that listens there, not blocking, or -errno. A Unix socket that nobody listens on any more is replaced; a new
 * one is this user's only. */
int address_listen(const struct address *a);
int address_connect(const struct address *a); /* a descriptor or -errno */
void address_unlink(const struct address *a); /* a Unix socket's path; else nothing */

#endif
