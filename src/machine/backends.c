/*
 * Opens and closes what is behind the devices. See backends.h.
 */
#include "machine/backends.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/qmp.h"
#include "machine/console.h"
#include "machine/vm.h"
#include "share/share.h"
#include "virtio/vsock.h"
#include "ui/chardev.h"

static bool is_stdio(const char *spec) { return strcmp(spec, "stdio") == 0; }

static bool open_serial(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct backends_config *config = &vm->config.backends;
	bool any = false;

	for (unsigned i = 0; i < SERIAL_PORTS; i++) {
		const char *spec = config->serial[i];
		int n = snprintf(error, size, "--serial ");

		if (!spec)
			continue;
		any = true;
		b->serial[i] = is_stdio(spec) ? console_chardev(vm->console)
					      : chardev_new(vm->loop, spec, error + n, size - (size_t)n);
		if (!b->serial[i])
			return false;
	}
	if (!any && !config->no_serial && !config->screen.text)
		b->serial[0] = console_chardev(vm->console);
	return true;
}

static void close_serial(struct backends *b, struct vm *vm)
{
	for (unsigned i = 0; i < SERIAL_PORTS; i++)
		if (b->serial[i] && b->serial[i] != console_chardev(vm->console))
			chardev_free(b->serial[i]);
}

static bool open_consoles(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct backends_config *config = &vm->config.backends;

	for (unsigned i = 0; i < config->consoles; i++) {
		const char *line = config->console[i].line;
		int n = snprintf(error, size, "--console ");

		b->console[i] = is_stdio(line) ? console_chardev(vm->console)
					       : chardev_new(vm->loop, line, error + n, size - (size_t)n);
		if (!b->console[i])
			return false;
	}
	return true;
}

static void close_consoles(struct backends *b, struct vm *vm)
{
	for (unsigned i = 0; i < VIRTIO_CONSOLE_PORTS; i++)
		if (b->console[i] && b->console[i] != console_chardev(vm->console))
			chardev_free(b->console[i]);
}

static bool open_shares(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct backends_config *config = &vm->config.backends;

	for (unsigned i = 0; i < config->shares; i++) {
		int n = snprintf(error, size, "--share ");

		b->share[i] = share_open(vm->loop, config->share[i].directory, config->share[i].readonly, error + n,
					 size - (size_t)n);
		if (!b->share[i])
			return false;
	}
	return true;
}

static void close_shares(struct backends *b)
{
	for (unsigned i = 0; i < SHARES_MAX; i++)
		share_close(b->share[i]);
}

static bool open_vsock(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const char *path = vm->config.backends.vsock;

	if (!path)
		return true;
	b->vsock = virtio_vsock_listen(path);
	if (b->vsock < 0)
		snprintf(error, size, "--vsock %s: %s", path, strerror(-b->vsock));
	return b->vsock >= 0;
}

static void close_vsock(struct backends *b, struct vm *vm)
{
	if (b->vsock <= 0) /* never opened, or not to be had */
		return;
	close(b->vsock);
	unlink(vm->config.backends.vsock);
}

static bool open_disks(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct backends_config *config = &vm->config.backends;

	for (unsigned i = 0; i < config->disk_count; i++) {
		if (!(b->disk[i] = block_open(vm->loop, &config->disk[i].block, error, size)))
			return false;
		b->disk_count++;
	}
	return true;
}

static void close_disks(struct backends *b)
{
	while (b->disk_count)
		block_close(b->disk[--b->disk_count]);
}

static bool open_nets(struct backends *b, struct vm *vm, char *error, size_t size)
{
	const struct net_host host = {.loop = vm->loop, .timers = vm->timers};

	for (unsigned i = 0; i < vm->config.backends.nets; i++)
		if (!(b->net[i] = net_open(&host, &vm->config.backends.net[i], error, size)))
			return false;
	return true;
}

static bool open_qmp(struct backends *b, struct vm *vm, char *error, size_t size)
{
	int n = snprintf(error, size, "--qmp ");

	if (vm->config.backends.qmp)
		b->qmp = qmp_new(vm, vm->config.backends.qmp, error + n, size - (size_t)n);
	return b->qmp || !vm->config.backends.qmp;
}

bool backends_open(struct backends *b, struct vm *vm, char *error, size_t size)
{
	return open_serial(b, vm, error, size) && open_consoles(b, vm, error, size) &&
	       open_shares(b, vm, error, size) && open_vsock(b, vm, error, size) &&
	       open_disks(b, vm, error, size) && open_nets(b, vm, error, size) &&
	       screen_open(&b->screen, vm, error, size) && open_qmp(b, vm, error, size);
}

void backends_close(struct backends *b, struct vm *vm)
{
	if (b->qmp)
		qmp_free(b->qmp);
	screen_close(&b->screen);
	close_vsock(b, vm);
	close_shares(b);
	close_consoles(b, vm);
	close_serial(b, vm);
	for (unsigned i = 0; i < NET_MAX; i++)
		net_close(b->net[i]);
	close_disks(b);
	memset(b, 0, sizeof *b);
}
