/*
 * A vCPU's state between struct cpu and KVM, in full: registers, segments, control and debug registers, MSRs, vector
 * state, interrupt shadows, NMI blocking.
 *
 * On the vCPU's thread, while it is not in KVM_RUN and KVM has nothing to complete. What KVM has of an event that it
 * has begun to deliver, or was to deliver next, is delivered by src/cpu when the state is loaded, so that the state is
 * at an instruction boundary with nothing else pending.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/kvm/kvm.h"

#define MSR_TSC 0x10u
#define PKRU_COMPONENT 9
#define XCOMP_BV_END (FPU_XCOMP_BV + 56) /* of the XSAVE header */
#define DR6_FIXED 0xffff0ff0ull

/* KVM's XSAVE area has the host's layout, which is the guest's. */
_Static_assert(sizeof(struct kvm_xsave) == 4096, "as fpu.c's");

/* MSRs that KVM has (features.c), but for those that are in struct kvm_sregs. */
static const struct {
	uint32_t msr;
	enum feature feature;
	size_t offset;
} msrs[] = {
#define FIELD(number, feature, name) { number, feature, offsetof(struct cpu, name) },
	FIELD(0x174, FEATURE_NONE, sysenter_cs)
	FIELD(0x175, FEATURE_NONE, sysenter_esp)
	FIELD(0x176, FEATURE_NONE, sysenter_eip)
	FIELD(0x277, FEATURE_NONE, pat)
	FIELD(0xda0, FEATURE_XSAVES, xss)
	FIELD(0xc0000081, FEATURE_NONE, star)
	FIELD(0xc0000082, FEATURE_NONE, lstar)
	FIELD(0xc0000083, FEATURE_NONE, cstar)
	FIELD(0xc0000084, FEATURE_NONE, sfmask)
	FIELD(0xc0000102, FEATURE_NONE, kernel_gs_base)
	FIELD(0xc0000103, FEATURE_RDTSCP, tsc_aux)
#undef FIELD
};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

static uint64_t *field(struct cpu *cpu, unsigned i) { return (uint64_t *)((uint8_t *)cpu + msrs[i].offset); }

static int call(struct kvm_vcpu *k, unsigned long request, const char *name, void *arg)
{
	return ioctl(k->fd, request, arg) < 0 ? kvm_fail(k, name, errno) : 0;
}
#define CALL(k, request, arg) call(k, request, #request, arg)

#define RETURN_IF(expr) \
	do { \
		int r_ = (expr); \
		if (r_ < 0) \
			return r_; \
	} while (0)

/* ---- general registers ---- */

static int store_regs(struct kvm_vcpu *k)
{
	const struct cpu *cpu = k->cpu;
	const uint64_t *r = cpu->gpr;
	struct kvm_regs regs = {
		.rax = r[RAX], .rbx = r[RBX], .rcx = r[RCX], .rdx = r[RDX], .rsi = r[RSI], .rdi = r[RDI], .rsp = r[RSP],
		.rbp = r[RBP], .r8 = r[R8], .r9 = r[R9], .r10 = r[R10], .r11 = r[R11], .r12 = r[R12], .r13 = r[R13],
		.r14 = r[R14], .r15 = r[R15], .rip = cpu->rip, .rflags = cpu->rflags,
	};

	return CALL(k, KVM_SET_REGS, &regs);
}

static int load_regs(struct kvm_vcpu *k)
{
	struct kvm_regs regs;
	struct cpu *cpu = k->cpu;

	RETURN_IF(CALL(k, KVM_GET_REGS, &regs));
	const uint64_t gpr[GPR_COUNT] = {
		[RAX] = regs.rax, [RBX] = regs.rbx, [RCX] = regs.rcx, [RDX] = regs.rdx, [RSI] = regs.rsi,
		[RDI] = regs.rdi, [RSP] = regs.rsp, [RBP] = regs.rbp, [R8] = regs.r8, [R9] = regs.r9, [R10] = regs.r10,
		[R11] = regs.r11, [R12] = regs.r12, [R13] = regs.r13, [R14] = regs.r14, [R15] = regs.r15,
	};
	memcpy(cpu->gpr, gpr, sizeof(gpr));
	cpu->rip = regs.rip;
	cpu->rflags = regs.rflags;
	return 0;
}

/* ---- segments and control registers ---- */

/* SREGS2 begins as SREGS does; behind that it has the PDPTEs in place of a bitmap of interrupts. */
union sregs {
	struct kvm_sregs old;
	struct kvm_sregs2 new;
};
_Static_assert(offsetof(struct kvm_sregs, apic_base) == offsetof(struct kvm_sregs2, apic_base), "as said");

static struct kvm_segment to_kvm(const struct segment *s)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector, .type = s->attr & SEG_TYPE,
		.s = !!(s->attr & SEG_S), .dpl = SEG_DPL(s->attr), .present = !!(s->attr & SEG_P),
		.avl = !!(s->attr & SEG_AVL), .l = !!(s->attr & SEG_L), .db = !!(s->attr & SEG_DB),
		.g = !!(s->attr & SEG_G), .unusable = !(s->attr & SEG_P),
	};
}

static struct segment from_kvm(const struct kvm_segment *s)
{
	uint16_t attr = (uint16_t)(s->dpl << SEG_DPL_SHIFT); /* a null SS has a DPL too */

	if (s->present && !s->unusable)
		attr |= (uint16_t)(SEG_P | s->type | (s->s ? SEG_S : 0) | (s->avl ? SEG_AVL : 0) | (s->l ? SEG_L : 0) |
				   (s->db ? SEG_DB : 0) | (s->g ? SEG_G : 0));
	return (struct segment){ .base = s->base, .limit = s->limit, .selector = s->selector, .attr = attr };
}

static int set_sregs(struct kvm_vcpu *k, union sregs *s)
{
	return k->vm->host->sregs2 ? CALL(k, KVM_SET_SREGS2, &s->new) : CALL(k, KVM_SET_SREGS, &s->old);
}

static int store_sregs(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	union sregs s;
	struct kvm_sregs *o = &s.old;

	memset(&s, 0, sizeof(s));
	o->cs = to_kvm(&cpu->seg[CS]);
	o->ds = to_kvm(&cpu->seg[DS]);
	o->es = to_kvm(&cpu->seg[ES]);
	o->fs = to_kvm(&cpu->seg[FS]);
	o->gs = to_kvm(&cpu->seg[GS]);
	o->ss = to_kvm(&cpu->seg[SS]);
	o->tr = to_kvm(&cpu->tr);
	o->ldt = to_kvm(&cpu->ldtr);
	if (!cpu_long_active(cpu))
		o->cs.l = 0; /* means nothing, and KVM takes no such state */
	/* The processor takes CPL from SS.DPL; what was loaded in real mode may say something else. */
	if (cpu->mode == MODE_REAL)
		o->ss.dpl = 0;
	o->gdt = (struct kvm_dtable){ .base = cpu->gdtr.base, .limit = cpu->gdtr.limit };
	o->idt = (struct kvm_dtable){ .base = cpu->idtr.base, .limit = cpu->idtr.limit };
	o->cr0 = cpu->cr0;
	o->cr2 = cpu->cr2;
	o->cr3 = cpu->cr3;
	o->cr4 = cpu->cr4;
	o->efer = cpu->efer;
	if (!k->vm->apics) {
		k->cr8 = cpu->env->get_tpr(cpu->env_opaque);
		k->apic_base = cpu->env->get_apic_base(cpu->env_opaque);
	}
	o->cr8 = k->run->cr8 = k->cr8;
	o->apic_base = k->apic_base;
	if (k->vm->host->sregs2) {
		s.new.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
		memcpy(s.new.pdptrs, cpu->pdpte, sizeof(cpu->pdpte));
		if (!(cpu->cr0 & CR0_PG) || !(cpu->cr4 & CR4_PAE) || cpu_long_active(cpu))
			s.new.flags = 0;
	}
	if (k->flush) { /* a change of CR4.PGE empties the TLB */
		o->cr4 ^= CR4_PGE;
		RETURN_IF(set_sregs(k, &s));
		o->cr4 ^= CR4_PGE;
		k->flush = false;
	}
	return set_sregs(k, &s);
}

static int load_sregs(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	union sregs s;
	const struct kvm_sregs *o = &s.old;

	RETURN_IF(k->vm->host->sregs2 ? CALL(k, KVM_GET_SREGS2, &s.new) : CALL(k, KVM_GET_SREGS, &s.old));
	cpu->seg[CS] = from_kvm(&o->cs);
	cpu->seg[DS] = from_kvm(&o->ds);
	cpu->seg[ES] = from_kvm(&o->es);
	cpu->seg[FS] = from_kvm(&o->fs);
	cpu->seg[GS] = from_kvm(&o->gs);
	cpu->seg[SS] = from_kvm(&o->ss);
	cpu->tr = from_kvm(&o->tr);
	cpu->ldtr = from_kvm(&o->ldt);
	cpu->gdtr.base = o->gdt.base;
	cpu->gdtr.limit = o->gdt.limit;
	cpu->idtr.base = o->idt.base;
	cpu->idtr.limit = o->idt.limit;
	cpu->cr0 = o->cr0;
	cpu->cr2 = o->cr2;
	cpu->cr3 = o->cr3;
	cpu->cr4 = o->cr4;
	cpu->efer = o->efer;
	if (k->vm->apics) {
		k->cr8 = (uint8_t)o->cr8;
		k->apic_base = o->apic_base;
	}
	if (k->vm->host->sregs2 && (s.new.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID))
		memcpy(cpu->pdpte, s.new.pdptrs, sizeof(cpu->pdpte));
	return 0;
}

/* Without SREGS2 the PDPTEs are what memory says now, as after a MOV to CR3. */
static void load_pdptes(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;

	if (!k->vm->host->sregs2 && (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !cpu_long_active(cpu))
		memory_read(cpu->memory, cpu->cr3 & 0xffffffe0, cpu->pdpte, sizeof(cpu->pdpte));
}

/* ---- MSRs, time ---- */

union msr_list {
	struct kvm_msrs list;
	uint8_t room[sizeof(struct kvm_msrs) + MSRS * sizeof(struct kvm_msr_entry)];
};

/* The numbers of those that the guest has; which[]: their rows. */
static void list_msrs(const struct cpu *cpu, union msr_list *all, unsigned which[MSRS])
{
	memset(all, 0, sizeof(*all));
	for (unsigned i = 0; i < MSRS; i++)
		if (cpu_has(cpu, msrs[i].feature)) {
			which[all->list.nmsrs] = i;
			all->list.entries[all->list.nmsrs++].index = msrs[i].msr;
		}
}

/* KVM says how many it did: the next one is wrong. */
static int check_msrs(struct kvm_vcpu *k, const union msr_list *all, int done, const char *name)
{
	char what[48];

	if (done == (int)all->list.nmsrs)
		return 0;
	snprintf(what, sizeof(what), "%s, MSR %#x", name, done < 0 ? 0 : all->list.entries[done].index);
	return kvm_fail(k, what, done < 0 ? errno : EINVAL);
}

static int store_msrs(struct kvm_vcpu *k)
{
	union msr_list all;
	unsigned which[MSRS];

	list_msrs(k->cpu, &all, which);
	for (unsigned n = 0; n < all.list.nmsrs; n++)
		all.list.entries[n].data = *field(k->cpu, which[n]);
	return check_msrs(k, &all, ioctl(k->fd, KVM_SET_MSRS, &all), "KVM_SET_MSRS");
}

static int load_msrs(struct kvm_vcpu *k)
{
	union msr_list all;
	unsigned which[MSRS];

	list_msrs(k->cpu, &all, which);
	RETURN_IF(check_msrs(k, &all, ioctl(k->fd, KVM_GET_MSRS, &all), "KVM_GET_MSRS"));
	for (unsigned n = 0; n < all.list.nmsrs; n++)
		*field(k->cpu, which[n]) = all.list.entries[n].data;
	return 0;
}

int kvm_store_tsc_offset(struct kvm_vcpu *k)
{
	uint64_t offset = k->cpu->tsc_offset + k->cpu->tsc_adjust;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)&offset,
	};
	union kvm_one_msr msr = { .list.nmsrs = 1 };

	if (!k->tsc_by_msr && ioctl(k->fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
		k->tsc_by_msr = true; /* before Linux 5.16 */
	if (k->tsc_by_msr) {
		msr.list.entries[0].index = MSR_TSC;
		msr.list.entries[0].data = k->cpu->env->tsc(k->cpu->env_opaque) + offset;
		if (ioctl(k->fd, KVM_SET_MSRS, &msr) != 1)
			return kvm_fail(k, "KVM_SET_MSRS, TSC", errno);
	}
	k->tsc_offset = offset;
	return 0;
}

/* ---- vector state ---- */

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

static int store_xsave(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	const struct xsave_component *pkru = &cpu->cpuid->xsave[PKRU_COMPONENT];
	struct kvm_xsave area;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = cpu->xcr0 };
	uint8_t *a = (uint8_t *)&area;
	uint64_t present = get64(cpu->fpu + FPU_XSTATE_BV) & cpu->cpuid->xcr0_mask;

	memset(a, 0, sizeof(area));
	memcpy(a, cpu->fpu, cpu->fpu_size < sizeof(area) ? cpu->fpu_size : sizeof(area));
	memset(a + FPU_XCOMP_BV, 0, XCOMP_BV_END - FPU_XCOMP_BV);
	if (pkru->size) {
		memset(a + pkru->offset, 0, pkru->size);
		memcpy(a + pkru->offset, &cpu->pkru_shadow, sizeof(cpu->pkru_shadow));
		present |= XCR0_PKRU;
	}
	/* MXCSR goes with SSE or AVX. */
	present |= XCR0_X87 | XCR0_SSE;
	memcpy(a + FPU_XSTATE_BV, &present, 8);
	RETURN_IF(CALL(k, KVM_SET_XSAVE, &area));
	return CALL(k, KVM_SET_XCRS, &xcrs);
}

static int load_xsave(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	const struct xsave_component *pkru = &cpu->cpuid->xsave[PKRU_COMPONENT];
	uint32_t mxcsr_mask;
	struct kvm_xsave area;
	struct kvm_xcrs xcrs;
	uint8_t *a = (uint8_t *)&area;
	uint64_t present;

	RETURN_IF(CALL(k, KVM_GET_XSAVE, &area));
	RETURN_IF(CALL(k, KVM_GET_XCRS, &xcrs));
	cpu->xcr0 = xcrs.xcrs[0].value;
	present = get64(a + FPU_XSTATE_BV);
	if (pkru->size) {
		memcpy(&cpu->pkru_shadow, a + pkru->offset, sizeof(cpu->pkru_shadow));
		memset(a + pkru->offset, 0, pkru->size);
	}
	present &= cpu->cpuid->xcr0_mask & ~(uint64_t)XCR0_PKRU;
	memcpy(&mxcsr_mask, cpu->fpu + FPU_MXCSR_MASK, 4);
	memcpy(cpu->fpu, a, cpu->fpu_size < sizeof(area) ? cpu->fpu_size : sizeof(area));
	memcpy(cpu->fpu + FPU_MXCSR_MASK, &mxcsr_mask, 4);
	memcpy(cpu->fpu + FPU_XSTATE_BV, &present, 8);
	return 0;
}

/* ---- debug registers, events ---- */

static int store_debug(struct kvm_vcpu *k)
{
	const uint64_t *dr = k->cpu->dr;
	struct kvm_debugregs d = { .db = { dr[0], dr[1], dr[2], dr[3] }, .dr6 = dr[6], .dr7 = dr[7] };

	return CALL(k, KVM_SET_DEBUGREGS, &d);
}

static int load_debug(struct kvm_vcpu *k)
{
	struct kvm_debugregs d;

	RETURN_IF(CALL(k, KVM_GET_DEBUGREGS, &d));
	memcpy(k->cpu->dr, d.db, sizeof(d.db));
	k->cpu->dr[6] = d.dr6;
	k->cpu->dr[7] = d.dr7;
	return 0;
}

static int store_events(struct kvm_vcpu *k)
{
	const struct cpu *cpu = k->cpu;
	/* An NMI that comes by a local APIC in the kernel waits there. */
	struct kvm_vcpu_events e = {
		.flags = (k->vm->apics ? 0 : KVM_VCPUEVENT_VALID_NMI_PENDING) | KVM_VCPUEVENT_VALID_SHADOW,
		.interrupt.shadow = (uint8_t)((cpu->sti_shadow ? KVM_X86_SHADOW_INT_STI : 0) |
					      (cpu->mov_ss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0)),
		.nmi.masked = cpu->nmi_blocked,
	};

	return CALL(k, KVM_SET_VCPU_EVENTS, &e);
}

/* An event was on its way: src/cpu delivers it. What that needs of the loop is owed to it by the next run. */
static void deliver_pending(struct kvm_vcpu *k, const struct kvm_vcpu_events *e)
{
	struct cpu *cpu = k->cpu;
	enum x x = X_OK;

	if (e->exception.injected) {
		cpu->fault = (struct fault){
			.vector = e->exception.nr, .type = EVENT_EXCEPTION, .has_error = e->exception.has_error_code,
			.error = e->exception.error_code, .cr2 = cpu->cr2,
		};
		x = cpu_deliver_fault(cpu);
		/* A fault whose delivery needs I/O: the instruction will raise it again. */
		if (x == X_EXIT && cpu->exit.reason != EXIT_SHUTDOWN)
			x = X_OK;
	} else if (e->nmi.injected) {
		x = cpu_deliver_event(cpu, EVENT_NMI, VEC_NMI);
	} else if (e->interrupt.injected && !e->interrupt.soft) {
		x = cpu_deliver_event(cpu, EVENT_EXTERNAL, e->interrupt.nr);
	}
	if (!k->vm->apics)
		cpu->nmi_pending |= e->nmi.pending;
	if (x != X_EXIT)
		return;
	cpu->owed = cpu->exit;
	if (cpu->exit.reason != EXIT_SHUTDOWN)
		cpu->owed = (struct exit){ .reason = EXIT_ERROR,
					   .error = "an interrupt's delivery reads or writes device memory" };
}

static int load_events(struct kvm_vcpu *k, struct kvm_vcpu_events *e)
{
	struct cpu *cpu = k->cpu;

	RETURN_IF(CALL(k, KVM_GET_VCPU_EVENTS, e));
	cpu->sti_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_STI;
	cpu->mov_ss_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
	/* One that is injected is not taken yet. */
	cpu->nmi_blocked = e->nmi.masked && !e->nmi.injected;
	return 0;
}

/* ---- all of it ---- */

int kvm_state_store(struct kvm_vcpu *k)
{
	RETURN_IF(store_sregs(k));
	RETURN_IF(store_msrs(k));
	RETURN_IF(store_regs(k));
	RETURN_IF(store_debug(k));
	RETURN_IF(store_xsave(k));
	RETURN_IF(store_events(k));
	RETURN_IF(kvm_store_tsc_offset(k));
	if (k->vm->apics)
		RETURN_IF(kvm_apic_store(k));
	k->stats.stores++;
	return 0;
}

int kvm_state_load(struct kvm_vcpu *k)
{
	struct cpu *cpu = k->cpu;
	struct kvm_vcpu_events events;

	if (k->vm->apics)
		RETURN_IF(kvm_apic_load(k));
	RETURN_IF(load_regs(k));
	RETURN_IF(load_sregs(k));
	RETURN_IF(load_msrs(k));
	RETURN_IF(load_debug(k));
	RETURN_IF(load_xsave(k));
	RETURN_IF(load_events(k, &events));
	load_pdptes(k);
	cpu_update_mode(cpu);
	mmu_flush(cpu, true); /* the guest has changed its page tables since the software TLB was last used */
	k->flush = false;
	deliver_pending(k, &events);
	k->stats.fetches++;
	return 0;
}
