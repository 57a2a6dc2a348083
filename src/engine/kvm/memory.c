/*
 * Guest memory in KVM: a slot for each piece of what the memory map shows, read-only where stores go to a device.
 *
 * The map changes under vm->lock, seldom (PAM registers, BARs, flash commands). Whoever is to be entered next brings
 * the slots up to date, under kvm_vm.lock; slots that stay as they are are not touched, so other vCPUs in the guest
 * never miss RAM. What they may miss for a moment is memory that is being remapped: that comes as an MMIO exit, and
 * kvm_memory_access answers it.
 *
 * What vCPUs write to blocks besides RAM (a screen's memory) KVM logs, and if somebody wants it, what they write to RAM;
 * kvm_note_written takes the logs, on any thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"
#include "util/log.h"

/* RAM only on demand: a log of it costs large pages, and an exit to the kernel for each page that is written. */
static bool logged(const struct kvm_vm *vm, const struct memory_map *piece)
{
	return (piece->offset >= vm->memory->size || vm->logs_ram) && !piece->readonly;
}

static void mark(struct kvm_vm *vm, const struct memory_map *slot, uint64_t page)
{
	__atomic_fetch_or(&vm->memory->state[(slot->offset >> PAGE_SHIFT) + page], PAGE_DIRTY, __ATOMIC_SEQ_CST);
}

/* Whatever was written to it before. */
static void forget(struct kvm_vm *vm, const struct memory_map *slot)
{
	for (uint64_t page = 0; page < slot->len >> PAGE_SHIFT; page++)
		__atomic_fetch_and(&vm->memory->state[(slot->offset >> PAGE_SHIFT) + page], (uint8_t)~PAGE_DIRTY,
				   __ATOMIC_SEQ_CST);
}

/* kvm_vm.lock held. What KVM does not tell counts as written. */
static void note_slot(struct kvm_vm *vm, unsigned n)
{
	const struct memory_map *slot = &vm->slot[n];
	struct kvm_dirty_log log = { .slot = n, .dirty_bitmap = vm->written };
	uint64_t pages = slot->len >> PAGE_SHIFT;
	bool told = ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) == 0;

	for (uint64_t page = 0; page < pages; page++)
		if (!told || vm->written[page / 64] >> page % 64 & 1)
			mark(vm, slot, page);
}

void kvm_note_written(void *engine_vm)
{
	struct kvm_vm *vm = engine_vm;

	pthread_mutex_lock(&vm->lock);
	for (unsigned n = 0; n < MEMORY_PIECES_MAX; n++)
		if (vm->slot[n].len && logged(vm, &vm->slot[n]))
			note_slot(vm, n);
	pthread_mutex_unlock(&vm->lock);
}

static int tell_slot(struct kvm_vm *vm, unsigned n, const struct memory_map *piece, uint64_t len)
{
	struct kvm_userspace_memory_region region = {
		.slot = n,
		.flags = (piece->readonly ? KVM_MEM_READONLY : 0) | (logged(vm, piece) ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = piece->gpa,
		.memory_size = len,
		.userspace_addr = (uint64_t)(uintptr_t)(vm->memory->base + piece->offset),
	};

	LOG(LOG_KVM, "slot %u: %#llx bytes at %#llx, offset %#llx%s", n, (unsigned long long)len,
	    (unsigned long long)piece->gpa, (unsigned long long)piece->offset, piece->readonly ? ", read-only" : "");
	vm->slot_changes++;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static int set_slot(struct kvm_vm *vm, unsigned n, const struct memory_map *piece, uint64_t len)
{
	int r = tell_slot(vm, n, piece, len);

	if (r < 0)
		return r;
	for (uint64_t page = 0; !len && logged(vm, piece) && page < vm->slot[n].len >> PAGE_SHIFT; page++)
		mark(vm, &vm->slot[n], page); /* its log is gone */
	vm->slot[n] = *piece;
	vm->slot[n].len = len;
	return 0;
}

static bool is_ram(const struct kvm_vm *vm, const struct memory_map *slot)
{
	return slot->len && slot->offset < vm->memory->size;
}

int kvm_log_ram(void *engine_vm, bool on)
{
	struct kvm_vm *vm = engine_vm;
	int r = 0;

	pthread_mutex_lock(&vm->lock);
	vm->logs_ram = on;
	for (unsigned n = 0; n < MEMORY_PIECES_MAX; n++) {
		if (is_ram(vm, &vm->slot[n]) && on)
			forget(vm, &vm->slot[n]);
		if (is_ram(vm, &vm->slot[n]) && r == 0)
			r = tell_slot(vm, n, &vm->slot[n], vm->slot[n].len);
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
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
