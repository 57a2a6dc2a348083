/*
 * /dev/kvm: opened once, and whether this kernel's KVM has what the engine needs.
 *
 * Any thread. The descriptor stays open as long as the process lives: a machine that is reset in a sandbox makes a new
 * VM from it. Whether guests really run is not asked here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"
#include "sandbox/sandbox.h"

#define VERSION 12 /* of the interface; there was no other since Linux 2.6.22 */

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
	{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
	{ KVM_CAP_XCRS, "KVM_CAP_XCRS" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR" },
	{ KVM_CAP_X86_MSR_FILTER, "KVM_CAP_X86_MSR_FILTER" },
};

static struct kvm_host host = { .fd = -1 };
static char reason[160];
static int host_error;

static int extension(int cap) { return ioctl(host.fd, KVM_CHECK_EXTENSION, cap); }

static int probe(void)
{
	int version, size;

	host.fd = sandbox_open("/dev/kvm", O_RDWR);
	if (host.fd < 0) {
		int err = errno;

		snprintf(reason, sizeof(reason), "/dev/kvm: %s", strerror(err));
		return -err;
	}
	version = ioctl(host.fd, KVM_GET_API_VERSION, 0);
	if (version != VERSION) {
		snprintf(reason, sizeof(reason), "/dev/kvm: interface version %d, not %d", version, VERSION);
		return -EOPNOTSUPP;
	}
	for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (extension(needed[i].cap) <= 0) {
			snprintf(reason, sizeof(reason), "this kernel's KVM has no %s (Linux 5.10 has)", needed[i].name);
			return -EOPNOTSUPP;
		}
	size = ioctl(host.fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run)) {
		snprintf(reason, sizeof(reason), "/dev/kvm: KVM_GET_VCPU_MMAP_SIZE: %d", size);
		return -EOPNOTSUPP;
	}
	host.run_size = (size_t)size;
	host.split_irqchip = extension(KVM_CAP_SPLIT_IRQCHIP) > 0 && extension(KVM_CAP_SIGNAL_MSI) > 0 &&
			     extension(KVM_CAP_IRQ_ROUTING) > 0 && extension(KVM_CAP_MP_STATE) > 0;
	host.irqfd = extension(KVM_CAP_IRQFD) > 0;
	host.bells = extension(KVM_CAP_IOEVENTFD) > 0 && extension(KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
	host.sregs2 = extension(KVM_CAP_SREGS2) > 0;
	host.exit_on_emulation_failure = extension(KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0;
	return 0;
}

void kvm_host_loses_xcr0(void) { host.loses_xcr0 = true; }

static void open_once(void)
{
	host_error = probe();
	if (host_error && host.fd >= 0) {
		close(host.fd);
		host.fd = -1;
	}
}

int kvm_host_open(const struct kvm_host **found, const char **why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, open_once);
	*found = &host;
	*why = reason;
	return host_error;
}
