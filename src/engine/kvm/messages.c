/*
 * Messages to local APICs in the kernel: of devices (MSI) and of the I/O APIC.
 *
 * A message that is sent has a route of KVM's and an eventfd (irqfd) from then on, and the next one like it is a write
 * to that. The route is the message itself, so whatever a guest does to the vectors of a device leaves no route that is
 * wrong, only some that nobody uses; those are the first to make room. Without room, and for NMI, INIT and SIPI, which keep
 * their order, it is KVM_SIGNAL_MSI.
 *
 * Any thread, one at a time. Source: Linux Documentation/virt/kvm/api.rst, "KVM_IRQFD", "KVM_SET_GSI_ROUTING",
 * "KVM_SIGNAL_MSI".
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"
#include "util/log.h"

#define MSI_MODE 0x700u
#define MSI_LOWEST 0x100u
/* Without a route that is free one in so many messages takes another's: changing routes takes KVM some time. */
#define MISSES_FOR_ROOM 64

/* All routes: those of the I/O APIC's level-triggered pins, by which KVM knows which EOIs to tell of, and ours behind them. */
static int set_routes(struct kvm_vm *vm)
{
	union {
		struct kvm_irq_routing list;
		uint8_t room[sizeof(struct kvm_irq_routing) +
			     (KVM_PINS + KVM_ROUTES) * sizeof(struct kvm_irq_routing_entry)];
	} all;

	memset(&all, 0, sizeof(all));
	for (unsigned i = 0; i < KVM_PINS + KVM_ROUTES; i++) {
		const struct apic_msi *m = i < KVM_PINS ? &vm->pin[i] : &vm->route[i - KVM_PINS].msi;

		if (m->address)
			all.list.entries[all.list.nr++] = (struct kvm_irq_routing_entry){
				.gsi = i, .type = KVM_IRQ_ROUTING_MSI,
				.u.msi = { .address_lo = (uint32_t)m->address, .address_hi = (uint32_t)(m->address >> 32),
					   .data = m->data },
			};
	}
	vm->route_changes++;
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &all) < 0 ? -errno : 0;
}

int kvm_set_pins(struct kvm_vm *vm, const struct apic_msi *pin, unsigned count)
{
	memset(vm->pin, 0, sizeof(vm->pin));
	memcpy(vm->pin, pin, (count < KVM_PINS ? count : KVM_PINS) * sizeof(*pin));
	return set_routes(vm);
}

/* ---- eventfds ---- */

static bool same(const struct apic_msi *a, const struct apic_msi *b)
{
	return a->address == b->address && a->data == b->data;
}

static struct kvm_route *find(struct kvm_vm *vm, const struct apic_msi *m)
{
	for (unsigned i = 0; i < KVM_ROUTES; i++)
		if (same(&vm->route[i].msi, m))
			return &vm->route[i];
	return NULL;
}

static bool make_eventfd(struct kvm_vm *vm, struct kvm_route *r)
{
	struct kvm_irqfd irqfd = { .gsi = KVM_PINS + (uint32_t)(r - vm->route) };
	int fd;

	if (r->has_fd)
		return true;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return false;
	irqfd.fd = (uint32_t)fd;
	if (ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0) {
		LOG(LOG_KVM, "KVM_IRQFD: %s", strerror(errno));
		close(fd);
		return false;
	}
	r->fd = fd;
	r->has_fd = true;
	return true;
}

/* What KVM could not deliver at once it does later, by a work item that looks the route up then. KVM_IRQFD waits for that, and
 * for those of eventfds that were closed before. */
static void take_back(struct kvm_vm *vm, struct kvm_route *r)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)r->fd, .gsi = KVM_PINS + (uint32_t)(r - vm->route), .flags = KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0)
		LOG(LOG_KVM, "KVM_IRQFD, to take it back: %s", strerror(errno));
	close(r->fd);
	*r = (struct kvm_route){ 0 };
}

/* From now on `m` has a route, if there is room for it. */
static void add_route(struct kvm_vm *vm, const struct apic_msi *m)
{
	struct kvm_route *r = &vm->route[0];

	for (unsigned i = 1; i < KVM_ROUTES; i++)
		if (vm->route[i].used < r->used)
			r = &vm->route[i];
	if (r->msi.address) {
		if (++vm->route_misses % MISSES_FOR_ROOM)
			return;
		take_back(vm, r);
	}
	if (!make_eventfd(vm, r))
		return;
	r->msi = *m;
	r->used = vm->messages;
	if (set_routes(vm) < 0)
		r->msi = (struct apic_msi){ 0 }; /* KVM keeps the old ones */
}

int kvm_message(struct kvm_vm *vm, const struct apic_msi *m)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)m->address, .address_hi = (uint32_t)(m->address >> 32), .data = m->data,
	};
	struct kvm_route *r = find(vm, m);
	const uint64_t one = 1;
	int taken;

	vm->messages++;
	if (r) {
		r->used = vm->messages;
		if (write(r->fd, &one, sizeof(one)) == sizeof(one)) {
			vm->messages_by_fd++;
			return 1;
		}
	}
	taken = ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
	if (taken < 0)
		return -errno;
	if (!r && vm->host->irqfd && (m->data & MSI_MODE) <= MSI_LOWEST)
		add_route(vm, m);
	return taken;
}

void kvm_end_messages(struct kvm_vm *vm)
{
	struct kvm_route *last = NULL;

	for (unsigned i = 0; i < KVM_ROUTES; i++) {
		if (!vm->route[i].has_fd)
			continue;
		if (last)
			close(last->fd);
		last = &vm->route[i];
	}
	if (last)
		take_back(vm, last);
	memset(vm->route, 0, sizeof(vm->route));
}
