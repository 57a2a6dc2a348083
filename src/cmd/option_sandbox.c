/*
 * --sandbox on|off|chroot
 *
 * What the machine's threads may do follows from the configuration alone, so that it is known before anything runs.
 * Main thread.
 */
#include "cmd/option_sandbox.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/image.h"
#include "sandbox/sandbox.h"

#define RESOLVER "/etc/resolv.conf"

int option_sandbox(struct run_options *o, const char *v)
{
	if (strcmp(v, "on") == 0)
		o->sandbox = SANDBOX_ON;
	else if (strcmp(v, "off") == 0)
		o->sandbox = SANDBOX_OFF;
	else if (strcmp(v, "chroot") == 0)
		o->sandbox = SANDBOX_CHROOT;
	else
		return option_bad("--sandbox %s: on, off or chroot is wanted", v);
	return 0;
}

/* Absolute: the working directory is not the same in a new root. What is not there is left out; who needs it says so.
 * Those that there is no room for are counted. */
static void add_path(struct sandbox_config *c, const char *path, enum sandbox_path_kind kind)
{
	char directory[PATH_MAX] = "", *full = NULL;

	if ((*path != '/' && !getcwd(directory, sizeof directory)) ||
	    asprintf(&full, "%s%s%s", directory, *path == '/' ? "" : "/", path) < 0)
		return;
	for (unsigned i = 0; i < c->paths && i < SANDBOX_PATHS; i++)
		if (c->path[i].kind == kind && strcmp(c->path[i].path, full) == 0) {
			free(full);
			return;
		}
	if (c->paths++ < SANDBOX_PATHS)
		c->path[c->paths - 1] = (struct sandbox_path){full, kind};
	else
		free(full);
}

static void add_directory_of(struct sandbox_config *c, const char *path, enum sandbox_path_kind kind)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	add_path(c, *directory ? directory : "/", kind);
}

/* A Unix socket that is made, and removed at the end. */
static void add_listener(struct sandbox_config *c, const char *path)
{
	c->needs |= SANDBOX_UNLINK;
	add_directory_of(c, path, SANDBOX_REMOVE);
}

/* What chardev.h and address.h call unix:PATH. */
static void add_line(struct sandbox_config *c, const char *line)
{
	if (line && strncmp(line, "unix:", 5) == 0)
		add_listener(c, line + 5);
	else if (line && strcmp(line, "stdio") != 0 && strcmp(line, "null") != 0)
		c->network |= strncmp(line, "tcp:", 4) == 0;
}

static void add_socket(struct sandbox_config *c, const struct net_config *n)
{
	bool local = n->fd < 0 && n->socket.address.any.sa_family == AF_UNIX;

	c->network |= !local;
	if (n->fd >= 0)
		return;
	if (local && n->socket.listen)
		add_listener(c, n->socket.address.un.sun_path);
	else if (local)
		add_directory_of(c, n->socket.address.un.sun_path, SANDBOX_REMOVE);
	if (!n->socket.listen)
		c->needs |= local ? SANDBOX_UNIX : SANDBOX_INET;
}

/* libslirp reads the file again when it has changed. It is often replaced by another one: then the directory has to be
 * known, which is one with little in it (/run/systemd/resolve) where /etc/resolv.conf is a link. All of /etc is what any
 * user may read, but root may read more. */
static void add_resolver(struct sandbox_config *c)
{
	char *real = realpath(RESOLVER, NULL);

	add_path(c, RESOLVER, SANDBOX_READ);
	if (real && (geteuid() != 0 || strncmp(real, "/etc/", 5) != 0))
		add_directory_of(c, real, SANDBOX_READ);
	free(real);
}

static void add_net(struct sandbox_config *c, const struct net_config *n)
{
	switch (n->kind) {
	case NET_USER:
		c->network = true;
		c->needs |= SANDBOX_INET | SANDBOX_FILES;
		add_resolver(c);
		if (n->user.tftp[0])
			add_path(c, n->user.tftp, SANDBOX_READ);
		break;
	case NET_TAP:
		c->network = true;
		c->needs |= SANDBOX_TAP;
		break;
	case NET_SOCKET:
		add_socket(c, n);
		break;
	}
}

/* A value in a URI's query (RFC 3986, 2.1), which ends at & or #. */
static void unescape(char *to, const char *from, size_t size)
{
	size_t len = 0;

	while (*from && !strchr("&#", *from) && len + 1 < size) {
		char hex[3] = "";

		if (*from == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
			memcpy(hex, from + 1, 2);
			from += 2;
		}
		to[len++] = *hex ? (char)strtoul(hex, NULL, 16) : *from;
		from++;
	}
	to[len] = '\0';
}

/* The socket of a server that is connected to again when it was lost. */
static void add_disk(void *config, const char *path)
{
	struct sandbox_config *c = config;
	const char *key = strstr(path, "socket=");
	char socket[PATH_MAX];

	if (!nbd_is_uri(path))
		return;
	c->network = true;
	add_path(c, "/etc", SANDBOX_READ); /* the resolver's files, certificates */
	if (key) {
		unescape(socket, key + strlen("socket="), sizeof socket);
		add_directory_of(c, socket, SANDBOX_READ);
	}
}

static void add_backends(struct sandbox_config *c, const struct backends_config *b)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		add_line(c, b->serial[i]);
	for (unsigned i = 0; i < b->consoles; i++)
		add_line(c, b->console[i].line);
	add_line(c, b->qmp);
	for (unsigned i = 0; i < b->screen.vnc.addresses; i++) {
		add_line(c, b->screen.vnc.address[i]);
		c->network |= strncmp(b->screen.vnc.address[i], "unix:", 5) != 0;
	}
	for (unsigned i = 0; i < b->disk_count; i++)
		image_each_path(b->disk[i].block.path, b->disk[i].block.format, add_disk, c);
	for (unsigned i = 0; i < b->shares; i++)
		add_path(c, b->share[i].directory, b->share[i].readonly ? SANDBOX_SHARE_READ : SANDBOX_SHARE_WRITE);
	if (b->vsock) {
		c->needs |= SANDBOX_UNIX;
		add_listener(c, b->vsock);
	}
	for (unsigned i = 0; i < b->nets; i++)
		add_net(c, &b->net[i]);
}

/* What engines open: the one that was chosen, or any that the machine may be moved to (vm_move). */
static void add_engines(struct sandbox_config *c, const struct vm_config *vm)
{
	for (unsigned i = 0; engines[i]; i++)
		if (engines[i]->device && engine_found_fit(engines[i]) && (engines[i] == vm->engine || vm->backends.qmp)) {
			c->needs |= SANDBOX_DEVICE;
			c->device = engines[i]->device;
		}
}

int option_sandbox_prepare(const struct run_options *o, char *error, size_t size)
{
	struct sandbox_config c = {.chroot = o->sandbox == SANDBOX_CHROOT};

	if (o->sandbox == SANDBOX_OFF)
		return 0;
	add_backends(&c, &o->vm.backends);
	add_engines(&c, &o->vm);
	if (c.paths > SANDBOX_PATHS) {
		snprintf(error, size, "--sandbox: %u files and directories, but %u are the most; --sandbox off does without",
			 c.paths, SANDBOX_PATHS);
		return -E2BIG;
	}
	return sandbox_prepare(&c, error, size);
}
