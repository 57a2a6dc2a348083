/*
 * The local APICs in the kernel: KVM's "split" interrupt controllers. The 8259s and the I/O APIC stay the machine's.
 *
 * A halted vCPU sleeps in KVM_RUN then, and the local APIC's timers and messages between vCPUs cost no exit. Messages of
 * devices go in by messages.c. The 8259's interrupt comes by kvm_apic_extint, at an interrupt window that KVM
 * opens when the local APIC's LINT0 lets it through. The ends of level-triggered interrupts come back as exits, for those
 * vectors that the routes of the I/O APIC's pins name.
 *
 * message and routes: any thread; the rest: while the vCPU is not in run. Source: Linux Documentation/virt/kvm/api.rst,
 * "KVM_CAP_SPLIT_IRQCHIP".
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpuid.h"
#include "engine/kvm/kvm.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_STEAL_TIME 0x4b564d03u
#define MSR_PV_EOI 0x4b564d04u
#define REG(offset) ((offset) >> 4)
#define BASE_ENABLE (1u << 11)
#define SVR 0xf0
#define SVR_NO_EOI_BROADCAST (1u << 12)
#define IRR 0x200
#define LVT_TIMER 0x320
#define LVT_TIMER_MODE 0x60000u
#define LVT_PERIODIC 0x20000u
#define INITIAL_COUNT 0x380
#define CURRENT_COUNT 0x390
#define DIVIDE 0x3e0
#define LVT_LINT0 0x350
#define LVT_MASKED (1u << 16)
#define LVT_MODE 0x700u
#define LVT_EXTINT 0x700u
/* As KVM sends itself a paravirtual kick: a message of the kind "remote read". */
#define MSI_TO(id) (0xfee00000ull | (uint64_t)(id) << 12)
#define KICK 0x300u

static int begin(void *engine_vm)
{
	struct kvm_vm *vm = engine_vm;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = KVM_PINS };

	if (!vm->host->split_irqchip)
		return -EOPNOTSUPP;
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0)
		return -errno;
	vm->apics = true;
	return kvm_set_msr_filter(vm);
}

static int message(void *engine_vm, const struct apic_msi *m) { return kvm_message(engine_vm, m); }

static int routes(void *engine_vm, const struct apic_msi *pin, unsigned count)
{
	return kvm_set_pins(engine_vm, pin, count);
}

/* ---- state ---- */

int kvm_set_msr(struct kvm_vcpu *k, uint32_t index, uint64_t value, const char *name)
{
	union kvm_one_msr msr = { .list.nmsrs = 1 };

	msr.list.entries[0].index = index;
	msr.list.entries[0].data = value;
	errno = 0; /* stays so if KVM knows the MSR and not the value */
	return ioctl(k->fd, KVM_SET_MSRS, &msr) == 1 ? 0 : kvm_fail(k, name, errno ? errno : EINVAL);
}

uint64_t kvm_get_msr(struct kvm_vcpu *k, uint32_t index)
{
	union kvm_one_msr msr = { .list.nmsrs = 1 };

	msr.list.entries[0].index = index;
	return ioctl(k->fd, KVM_GET_MSRS, &msr) == 1 ? msr.list.entries[0].data : 0;
}

static int put(struct cpu *cpu, const struct apic_state *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);
	struct kvm_lapic_state page;
	int r;

	memset(&page, 0, sizeof(page));
	for (unsigned i = 0; i < APIC_REGISTERS; i++)
		memcpy(page.regs + 16 * i, &s->reg[i], sizeof(s->reg[i]));
	k->left = __builtin_ia32_rdtsc();
	k->wait_sipi = s->wait_sipi;
	k->apic_base = s->base;
	k->cr8 = (uint8_t)(s->reg[REG(0x80)] >> 4 & 0xf);
	/* What the paravirtual MSRs name has to be memory. */
	if ((r = kvm_memory_update(k->vm)) < 0)
		return r;
	if ((r = kvm_set_msr(k, MSR_APIC_BASE, s->base, "KVM_SET_MSRS, APIC base")) < 0 || (r = kvm_store_tsc_offset(k)) < 0)
		return r;
	if (ioctl(k->fd, KVM_SET_LAPIC, &page) < 0)
		return kvm_fail(k, "KVM_SET_LAPIC", errno);
	if (s->tsc_deadline && (r = kvm_set_msr(k, MSR_TSC_DEADLINE, s->tsc_deadline, "KVM_SET_MSRS, TSC deadline")) < 0)
		return r;
	/* A kernel that has not got these did not show them to the guest: then they are 0. */
	if (s->pv_eoi && (r = kvm_set_msr(k, MSR_PV_EOI, s->pv_eoi, "KVM_SET_MSRS, EOI")) < 0)
		return r;
	if (s->unhalted)
		kvm_message(k->vm, &(struct apic_msi){ .address = MSI_TO(cpu->index), .data = KICK });
	if (s->clock && (r = kvm_set_msr(k, KVM_MSR_SYSTEM_TIME, s->clock, "KVM_SET_MSRS, clock")) < 0)
		return r;
	return s->steal_time ? kvm_set_msr(k, MSR_STEAL_TIME, s->steal_time, "KVM_SET_MSRS, steal time") : 0;
}

/* KVM makes the timer's tick an interrupt when the vCPU is next entered, and nothing shows one that waits for that. */
static void take_tick(const struct kvm_vcpu *k, struct apic_state *s)
{
	uint32_t lvt = s->reg[REG(LVT_TIMER)], divide = s->reg[REG(DIVIDE)];
	unsigned shift = (((divide & 3) | (divide & 8) >> 1) + 1) & 7;
	uint64_t period = (uint64_t)s->reg[REG(INITIAL_COUNT)] << shift, left = (uint64_t)s->reg[REG(CURRENT_COUNT)] << shift;
	uint64_t out = (unsigned __int128)(__builtin_ia32_rdtsc() - k->left) * 1000000 / k->cpu->cpuid->tsc_khz;

	if ((lvt & LVT_TIMER_MODE) == LVT_PERIODIC && !(lvt & LVT_MASKED) && period && left <= period && period - left < out)
		s->reg[REG(IRR) + (lvt & 0xff) / 32] |= 1u << (lvt & 31);
}

static int get(struct cpu *cpu, struct apic_state *s)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);
	struct kvm_lapic_state page;
	struct kvm_vcpu_events e;

	kvm_end_messages(k->vm);
	/* Through KVM, if it is here: an INIT, SIPI or NMI may have come since. What KVM does not take stays as it is. */
	if (!cpu->state_away)
		cpu->state_away = kvm_state_store(k) == 0;
	cpu_fetch_state(cpu); /* an interrupt that is being delivered is in service, no longer pending */
	memset(s, 0, sizeof(*s));
	if (ioctl(k->fd, KVM_GET_LAPIC, &page) < 0)
		return kvm_fail(k, "KVM_GET_LAPIC", errno);
	if (ioctl(k->fd, KVM_GET_VCPU_EVENTS, &e) < 0)
		return kvm_fail(k, "KVM_GET_VCPU_EVENTS", errno);
	cpu->nmi_pending |= e.nmi.pending;
	for (unsigned i = 0; i < APIC_REGISTERS; i++)
		memcpy(&s->reg[i], page.regs + 16 * i, sizeof(s->reg[i]));
	s->base = kvm_get_msr(k, MSR_APIC_BASE);
	s->tsc_deadline = cpu_has(cpu, FEATURE_TSC_DEADLINE) ? kvm_get_msr(k, MSR_TSC_DEADLINE) : 0;
	s->pv_eoi = kvm_get_msr(k, MSR_PV_EOI);
	s->steal_time = kvm_get_msr(k, MSR_STEAL_TIME);
	s->clock = kvm_get_msr(k, KVM_MSR_SYSTEM_TIME);
	s->wait_sipi = k->wait_sipi;
	s->unhalted = s->steal_time; /* the guest may use kicks; KVM does not tell whether one waits */
	take_tick(k, s);
	return 0;
}

/* One register; false: not known. */
static bool get_register(struct kvm_vcpu *k, unsigned offset, uint32_t *value)
{
	struct kvm_lapic_state page;

	if (ioctl(k->fd, KVM_GET_LAPIC, &page) < 0)
		return false;
	memcpy(value, page.regs + offset, sizeof(*value));
	return true;
}

/* No other event is being delivered. */
static bool nothing_else(const struct kvm_vcpu_events *e)
{
	return !e->exception.injected && !e->exception.pending && !e->interrupt.injected && !e->nmi.injected;
}

static bool lint0(struct kvm_vcpu *k)
{
	uint32_t lvt;

	if (!(k->apic_base & BASE_ENABLE))
		return true;
	return get_register(k, LVT_LINT0, &lvt) && !(lvt & LVT_MASKED) && (lvt & LVT_MODE) == LVT_EXTINT;
}

/* With the state KVM has said it, LINT0 included, when the guest was left. */
static bool takes_extint(struct cpu *cpu, bool sent)
{
	struct kvm_vcpu *k = kvm_vcpu_of(cpu);
	struct kvm_vcpu_events e;

	if (!cpu->state_away)
		return cpu_interruptible(cpu) && (sent || lint0(k));
	return cpu_interruptible(cpu) || (sent && (cpu->rflags & RFLAGS_IF) && ioctl(k->fd, KVM_GET_VCPU_EVENTS, &e) == 0 &&
					  !e.interrupt.shadow && nothing_else(&e));
}

bool kvm_apic_broadcasts_eoi(struct kvm_vcpu *k)
{
	uint32_t svr;

	return !get_register(k, SVR, &svr) || !(svr & SVR_NO_EOI_BROADCAST);
}

const struct engine_apics kvm_apics = {
	.begin = begin, .message = message, .routes = routes, .put = put, .get = get, .takes_extint = takes_extint,
	.get_clock = kvm_get_clock, .set_clock = kvm_set_clock,
};

/* ---- what the vCPU does ---- */

int kvm_apic_store(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	struct kvm_mp_state mp = {
		.mp_state = k->wait_sipi ? KVM_MP_STATE_INIT_RECEIVED : cpu->halted ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE,
	};

	if (ioctl(k->fd, KVM_SET_MP_STATE, &mp) < 0)
		return kvm_fail(k, "KVM_SET_MP_STATE", errno);
	cpu->halted = false;
	return 0;
}

int kvm_apic_load(struct kvm_vcpu *k)
{
	struct kvm_mp_state mp;

	if (ioctl(k->fd, KVM_GET_MP_STATE, &mp) < 0)
		return kvm_fail(k, "KVM_GET_MP_STATE", errno);
	k->wait_sipi = mp.mp_state == KVM_MP_STATE_INIT_RECEIVED || mp.mp_state == KVM_MP_STATE_UNINITIALIZED;
	k->cpu->halted = mp.mp_state == KVM_MP_STATE_HALTED;
	return 0;
}

/* By KVM_SET_VCPU_EVENTS: what KVM_INTERRUPT leaves nobody could read back before it is delivered. */
bool kvm_apic_extint(struct kvm_vcpu *k, uint8_t vector)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu_events e;

	if (ioctl(k->fd, KVM_GET_VCPU_EVENTS, &e) < 0 || !nothing_else(&e))
		return false;
	e.interrupt.injected = 1;
	e.interrupt.nr = vector;
	e.interrupt.soft = 0;
	e.flags = 0;
	return ioctl(k->fd, KVM_SET_VCPU_EVENTS, &e) == 0 && ioctl(k->fd, KVM_SET_MP_STATE, &mp) == 0;
}
