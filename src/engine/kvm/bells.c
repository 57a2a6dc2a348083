/*
 * Notifications of virtio queues without an exit: KVM adds to an eventfd (ioeventfd) and the guest goes on.
 *
 * Called under vm->lock. A write of any size counts. What KVM does not take, or has no room for, stays an exit.
 * Source: Linux Documentation/virt/kvm/api.rst, "KVM_IOEVENTFD", "KVM_CAP_IOEVENTFD_ANY_LENGTH".
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"
#include "util/log.h"

static bool assign(struct kvm_vm *vm, const struct engine_bell *b, bool on)
{
	struct kvm_ioeventfd e = {
		.addr = b->addr, .fd = b->fd,
		.flags = (b->port ? KVM_IOEVENTFD_FLAG_PIO : 0) | (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (ioctl(vm->fd, KVM_IOEVENTFD, &e) == 0)
		return true;
	LOG(LOG_KVM, "bell at %s%#llx, on %d: %s", b->port ? "port " : "", (unsigned long long)b->addr, on, strerror(errno));
	return false;
}

static bool listed(const struct engine_bell *list, unsigned count, const struct engine_bell *b)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].addr == b->addr && list[i].port == b->port && list[i].fd == b->fd)
			return true;
	return false;
}

void kvm_bells(void *engine_vm, const struct engine_bell *bell, unsigned count)
{
	struct kvm_vm *vm = engine_vm;
	unsigned kept = 0;

	if (!vm->host->bells)
		return;
	for (unsigned i = 0; i < vm->bells; i++)
		if (listed(bell, count, &vm->bell[i]))
			vm->bell[kept++] = vm->bell[i];
		else
			assign(vm, &vm->bell[i], false);
	vm->bells = kept;
	for (unsigned i = 0; i < count && vm->bells < ENGINE_BELLS_MAX; i++)
		if (!listed(vm->bell, vm->bells, &bell[i]) && assign(vm, &bell[i], true))
			vm->bell[vm->bells++] = bell[i];
}
