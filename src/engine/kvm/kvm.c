/*
 * The KVM engine: guests run on the host's processor, by Linux's KVM. Life of its VMs and vCPUs, statistics.
 *
 * KVM is a processor, as the other engines are, and has the local APICs if it may. vm_create and vm_destroy are
 * called once a VM by who builds it, vcpu_create and vcpu_destroy once a vCPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/fpu.h"
#include "engine/interp/hostfault.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/selftest.h"
#include "util/log.h"

/* Where no PC has anything: what Intel's processors without unrestricted guests need for real mode. */
#define IDENTITY_MAP 0xfeffc000ull
#define TSS_ADDRESS 0xfeffd000ul

/* Has this kernel what is needed, and do guests run? */
static int probe(char *why, size_t size)
{
	const struct kvm_host *host;
	struct kvm_selftest test;
	const char *reason;
	int r = kvm_host_open(&host, &reason);

	if (r == 0) {
		r = kvm_selftest(host, &test);
		reason = test.why;
		if (r == 0 && test.loses_xcr0)
			kvm_host_loses_xcr0();
	}
	if (r < 0)
		snprintf(why, size, "%s", reason);
	else
		snprintf(why, size, "self-test passed in %u ms%s", (test.us + 999) / 1000,
			 test.loses_xcr0 ? "; guests get no XSAVE and no AVX, for XCR0 is lost at exits" : "");
	return r;
}

int kvm_vm_make(struct kvm_vm *vm, const char **what)
{
	uint64_t identity = IDENTITY_MAP;
	struct kvm_enable_cap quirks = {
		.cap = KVM_CAP_DISABLE_QUIRKS2,
		.args[0] = KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS,
	};
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args[0] = 1 };

	*what = "KVM_CREATE_VM";
	vm->fd = ioctl(vm->host->fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return -errno;
	*what = "KVM_SET_IDENTITY_MAP_ADDR";
	if (ioctl(vm->host->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 &&
	    ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return -errno;
	*what = "KVM_SET_TSS_ADDR";
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
		return -errno;
	/* Behaviour that no processor has; a KVM without the choice keeps it. */
	ioctl(vm->fd, KVM_ENABLE_CAP, &quirks);
	*what = "KVM_CAP_EXIT_ON_EMULATION_FAILURE";
	if (vm->host->exit_on_emulation_failure && ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
		return -errno;
	*what = "KVM_X86_SET_MSR_FILTER";
	return kvm_set_msr_filter(vm);
}

static void vm_destroy(void *engine_vm)
{
	struct kvm_vm *vm = engine_vm;

	if (vm->memory->note_written_opaque == vm) {
		kvm_note_written(vm);
		vm->memory->note_written = NULL;
		vm->memory->note_written_opaque = NULL;
	}
	kvm_end_messages(vm);
	if (vm->fd >= 0)
		close(vm->fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm->written);
	free(vm);
}

static void *vm_create(struct memory *memory)
{
	const struct kvm_host *host;
	const char *why;
	struct kvm_vm *vm;
	int r = kvm_host_open(&host, &why);

	if (r < 0) {
		LOG(LOG_KVM, "%s", why);
		errno = -r;
		return NULL;
	}
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	vm->host = host;
	vm->memory = memory;
	vm->written = malloc(memory_span(memory) >> PAGE_SHIFT >> 3);
	if (!vm->written) {
		free(vm);
		return NULL;
	}
	vm->maps_version = 1; /* never a version: there are no slots yet */
	pthread_mutex_init(&vm->lock, NULL);
	hostfault_install();
	r = kvm_vm_make(vm, &why);
	if (r < 0)
		LOG(LOG_KVM, "%s: %s", why, strerror(-r));
	if (r == 0)
		r = kvm_signal_init();
	if (r < 0) {
		vm_destroy(vm);
		errno = -r;
		return NULL;
	}
	memory->note_written = kvm_note_written;
	memory->note_written_opaque = vm;
	return vm;
}

static const struct cpu_engine_hooks hooks;

static void vcpu_destroy(struct cpu *cpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);

	if (!k)
		return;
	cpu_fetch_state(cpu);
	if (cpu->owed.error == k->error)
		cpu->owed.error = "kvm: the state could not be had";
	if (k->run)
		munmap(k->run, k->vm->host->run_size);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	cpu->engine_state = NULL;
	cpu->hooks = NULL;
}

static int vcpu_create(void *engine_vm, struct cpu *cpu)
{
	struct kvm_vm *vm = engine_vm;
	struct kvm_vcpu *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	k->vm = vm;
	k->cpu = cpu;
	k->flush = true;
	cpu->engine_state = k;
	cpu->hooks = &hooks;
	k->fd = ioctl(vm->fd, KVM_CREATE_VCPU, cpu->index);
	if (k->fd < 0) {
		r = -errno;
		goto fail;
	}
	k->run = mmap(NULL, vm->host->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (k->run == MAP_FAILED) {
		k->run = NULL;
		r = -errno;
		goto fail;
	}
	r = kvm_set_cpuid(k);
	if (r == 0)
		return 0;
fail:
	vcpu_destroy(cpu);
	return r;
}

/* The guest, or the machine for it, has emptied the TLB in software: KVM's has to follow, if it does not have the state
 * already. */
static void tlb_flushed(struct cpu *cpu, bool global_too)
{
	(void)global_too;
	kvm_vcpu_of(cpu)->flush = true;
}

static void tlb_flushed_page(struct cpu *cpu, uint64_t gva)
{
	(void)gva;
	kvm_vcpu_of(cpu)->flush = true;
}

static const struct cpu_engine_hooks hooks = {
	.fetch_state = kvm_engine_fetch,
	.tlb_flushed = tlb_flushed,
	.tlb_flushed_page = tlb_flushed_page,
};

/* ---- statistics ---- */

static const char *const exit_names[KVM_EXITS] = {
	[KVM_EXIT_IO] = "IO", [KVM_EXIT_HLT] = "HLT", [KVM_EXIT_MMIO] = "MMIO",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN", [KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY", [KVM_EXIT_INTR] = "INTR", [KVM_EXIT_SET_TPR] = "SET_TPR",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR", [KVM_EXIT_X86_RDMSR] = "X86_RDMSR",
	[KVM_EXIT_X86_WRMSR] = "X86_WRMSR", [KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI", [KVM_EXITS - 1] = "others",
};

static void print_stats(void *engine_vm, struct cpu *const *cpus, unsigned count, FILE *out)
{
	const struct kvm_vm *vm = engine_vm;
	uint64_t exits[KVM_EXITS] = { 0 }, fetches = 0, stores = 0, interpreted = 0, injected = 0;
	char name[48];

	for (unsigned i = 0; i < count; i++) {
		const struct kvm_vcpu *k = kvm_vcpu_of(cpus[i]);

		for (unsigned n = 0; n < KVM_EXITS; n++)
			exits[n] += k->stats.exits[n];
		fetches += k->stats.fetches;
		stores += k->stats.stores;
		interpreted += k->stats.interpreted;
		injected += k->stats.injected;
	}
	for (unsigned n = 0; n < KVM_EXITS; n++)
		if (exits[n]) {
			if (exit_names[n])
				snprintf(name, sizeof(name), "KVM_EXIT_%s", exit_names[n]);
			else
				snprintf(name, sizeof(name), "KVM_EXIT %u", n);
			engine_print(out, name, exits[n]);
		}
	engine_print(out, "events injected by KVM", injected);
	engine_print(out, "states fetched", fetches);
	engine_print(out, "states stored", stores);
	engine_print(out, "instructions interpreted", interpreted);
	engine_print(out, "changes of memory slots", vm->slot_changes);
	engine_print(out, "bells", vm->bells);
	if (vm->apics) {
		engine_print(out, "messages to local APICs", vm->messages);
		engine_print(out, "of these by irqfd", vm->messages_by_fd);
		engine_print(out, "changes of interrupt routes", vm->route_changes);
	}
}

const struct engine engine_kvm = {
	.name = "kvm",
	.help = "the host's processor, by Linux's KVM",
	.device = "/dev/kvm",
	.without_code = true,
	.probe = probe,
	.vm_create = vm_create,
	.vm_destroy = vm_destroy,
	.limit_cpuid = kvm_limit_cpuid,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.run = kvm_engine_run,
	.kick = kvm_engine_kick,
	.deliver = kvm_engine_deliver,
	.apics = &kvm_apics,
	.bells = kvm_bells,
	.log_ram = kvm_log_ram,
	.print_stats = print_stats,
};
