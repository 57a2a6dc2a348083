/*
 * Guest memory in KVM: a slot for each piece of what the memory map shows, read-only where stores go to a device.
 *
 * The map changes under vm->lock, seldom (PAM registers, BARs, flash commands). Whoever is to be entered next brings
 * the slots up to date, under kvm_vm.lock; slots that stay as they are are not touched, so other vCPUs in the guest
 * never miss RAM. What they may miss for a moment is memory that is being remapped: that comes as an MMIO exit, and
 * kvm_memory_access answers it.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"
#include "util/log.h"

static int set_slot(struct kvm_vm *vm, unsigned n, const struct memory_map *piece, uint64_t len)
{
	struct kvm_userspace_memory_region region = {
		.slot = n,
		.flags = piece->readonly ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = piece->gpa,
		.memory_size = len,
		.userspace_addr = (uint64_t)(uintptr_t)(vm->memory->base + piece->offset),
	};

	LOG(LOG_KVM, "slot %u: %#llx bytes at %#llx, offset %#llx%s", n, (unsigned long long)len,
	    (unsigned long long)piece->gpa, (unsigned long long)piece->offset, piece->readonly ? ", read-only" : "");
	vm->slot_changes++;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	vm->slot[n] = *piece;
	vm->slot[n].len = len;
	return 0;
}

static bool same(const struct memory_map *a, const struct memory_map *b)
{
	return a->gpa == b->gpa && a->len == b->len && a->offset == b->offset && a->readonly == b->readonly;
}

static bool listed(const struct memory_map *piece, unsigned count, const struct memory_map *wanted)
{
	for (unsigned i = 0; i < count; i++)
		if (same(&piece[i], wanted))
			return true;
	return false;
}

/* The first slot that is free. */
static unsigned free_slot(const struct kvm_vm *vm)
{
	unsigned n = 0;

	while (n < MEMORY_PIECES_MAX && vm->slot[n].len)
		n++;
	return n;
}

static int update(struct kvm_vm *vm)
{
	struct memory_map piece[MEMORY_PIECES_MAX];
	uint32_t version;
	unsigned count = memory_pieces(vm->memory, piece, &version);
	int r;

	for (unsigned n = 0; n < MEMORY_PIECES_MAX; n++)
		if (vm->slot[n].len && !listed(piece, count, &vm->slot[n]) &&
		    (r = set_slot(vm, n, &(struct memory_map){ .gpa = vm->slot[n].gpa, .offset = vm->slot[n].offset,
							       .readonly = vm->slot[n].readonly }, 0)) < 0)
			return r;
	for (unsigned i = 0; i < count; i++) {
		unsigned n = free_slot(vm);

		if (listed(vm->slot, MEMORY_PIECES_MAX, &piece[i]))
			continue;
		if (n == MEMORY_PIECES_MAX)
			return -ENOSPC;
		if ((r = set_slot(vm, n, &piece[i], piece[i].len)) < 0)
			return r;
	}
	__atomic_store_n(&vm->maps_version, version, __ATOMIC_RELEASE);
	return 0;
}

int kvm_memory_update(struct kvm_vm *vm)
{
	int r = 0;

	if (__atomic_load_n(&vm->maps_version, __ATOMIC_ACQUIRE) ==
	    __atomic_load_n(&vm->memory->maps_version, __ATOMIC_ACQUIRE))
		return 0;
	pthread_mutex_lock(&vm->lock);
	if (vm->maps_version != __atomic_load_n(&vm->memory->maps_version, __ATOMIC_ACQUIRE))
		r = update(vm);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

bool kvm_memory_access(struct kvm_vm *vm, uint64_t gpa, uint8_t *data, unsigned len, bool write)
{
	if (write)
		return memory_write(vm->memory, gpa, data, len) == 0;
	return memory_read(vm->memory, gpa, data, len) == 0;
}
