/*
 * Life of a struct cpu: creation, RESET and INIT, the derived mode, and copies, comparisons and
 * dumps of the state.
 *
 * vCPU's thread, or any one thread while the vCPU does not run. Source: SDM 3A chapter 10, table
 * "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "mem/memory.h"
#include "util/pages.h"

#define PAT_RESET 0x0007040600070406ull
#define MISC_ENABLE_RESET (1ull << 0 | 1ull << 11 | 1ull << 12) /* fast strings; no BTS, no PEBS */
/* After RESET the MTRRs are really off. There is no firmware that would set them up before the
 * kernel looks (which then does without PAT), so they start as firmware leaves them: all write-back. */
#define MTRR_DEF_TYPE_RESET (1ull << 11 | 6)

int cpu_init(struct cpu *cpu, struct memory *memory, const struct cpu_env *env, void *env_opaque,
	     const struct cpuid_table *cpuid, uint32_t index)
{
	int err;

	/* All but the translator's own tables; mmu_flush makes tlb_wide. Most of the large ones is never touched. */
	memset(cpu, 0, offsetof(struct cpu, tlb));
	pages_make_fresh(cpu->tlb, sizeof(cpu->tlb));
	memset(cpu->engine_word, 0, sizeof(cpu->engine_word));
	cpu->memory = memory;
	cpu->env = env;
	cpu->env_opaque = env_opaque;
	cpu->cpuid = cpuid;
	cpu->index = index;
	err = fpu_init(cpu);
	if (err)
		return err;
	cpu_reset(cpu, false);
	return 0;
}

void cpu_free(struct cpu *cpu)
{
	if (cpu->fpu)
		fpu_free(cpu);
	if (cpu->window)
		munmap(cpu->window, 2 * PAGE_SIZE);
}

/* What RESET sets and INIT leaves alone. */
static void reset_only(struct cpu *cpu)
{
	cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
	cpu->xcr0 = XCR0_X87;
	cpu->xss = 0;
	cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = 0;
	cpu->kernel_gs_base = cpu->tsc_aux = 0;
	cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
	cpu->tsc_adjust = 0;
	cpu->pat = PAT_RESET;
	cpu->misc_enable = MISC_ENABLE_RESET;
	cpu->spec_ctrl = cpu->mcg_status = 0;
	memset(&cpu->mtrr, 0, sizeof(cpu->mtrr));
	cpu->mtrr.def_type = MTRR_DEF_TYPE_RESET;
}

void cpu_reset(struct cpu *cpu, bool init)
{
	const struct cpuid_entry *leaf1 = cpuid_find(cpu->cpuid, 1, 0);

	cpu_fpu_leave(cpu);
	fpu_reset(cpu, init);
	if (!init)
		reset_only(cpu);
	cpu->cr0 = (cpu->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	cpu->debugctl = 0;

	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[RDX] = leaf1 ? leaf1->eax : 0;
	cpu->rip = 0xfff0;
	cpu->rflags = RFLAGS_FIXED;
	for (unsigned s = 0; s < SREG_COUNT; s++)
		cpu->seg[s] = (struct segment){ .limit = 0xffff, .attr = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED };
	cpu->seg[CS].selector = 0xf000;
	cpu->seg[CS].base = 0xffff0000;
	cpu->seg[CS].attr |= SEG_CODE;
	cpu->ldtr = (struct segment){ .limit = 0xffff, .attr = SEG_P | 2 };
	cpu->tr = (struct segment){ .limit = 0xffff, .attr = SEG_P | 0xb };
	cpu->gdtr.base = cpu->idtr.base = 0;
	cpu->gdtr.limit = cpu->idtr.limit = 0xffff;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr[6] = 0xffff0ff0;
	cpu->dr[7] = 0x400;
	memset(cpu->pdpte, 0, sizeof(cpu->pdpte));

	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	cpu->nmi_blocked = cpu->nmi_pending = false;
	cpu->halted = false;
	cpu->db_pending = 0;
	cpu->want_irq_window = 0;
	memset(&cpu->fault, 0, sizeof(cpu->fault));
	cpu->io.count = cpu->io.next = 0;
	cpu_update_mode(cpu);
	mmu_flush(cpu, true);
}

void cpu_update_mode(struct cpu *cpu)
{
	const struct segment *ss = &cpu->seg[SS];

	if (!(cpu->cr0 & CR0_PE)) {
		cpu->mode = MODE_REAL;
		cpu->cpl = 0;
	} else if (!(cpu->efer & EFER_LMA) && (cpu->rflags & RFLAGS_VM)) {
		cpu->mode = MODE_V8086;
		cpu->cpl = 3;
	} else {
		if (cpu->efer & EFER_LMA)
			cpu->mode = cpu->seg[CS].attr & SEG_L ? MODE_LONG : MODE_COMPAT;
		else
			cpu->mode = MODE_PROTECTED;
		/* A null SS, as 64-bit mode allows below CPL 3, keeps its DPL as well. */
		cpu->cpl = SEG_DPL(ss->attr);
	}
	if (cpu->cpl == 3)
		cpu->tlb_mode = TLB_USER;
	else if ((cpu->cr4 & CR4_SMAP) && !(cpu->rflags & RFLAGS_AC))
		cpu->tlb_mode = TLB_KERNEL;
	else
		cpu->tlb_mode = TLB_KERNEL_USER;
}

/* Neither may be live in the host's registers. The target's TLB is flushed when the control
 * registers differ; it is the caller's when only page tables do. */
void cpu_copy_state(struct cpu *to, const struct cpu *from)
{
	uint32_t request = to->request;
	bool flush = to->cr0 != from->cr0 || to->cr3 != from->cr3 || to->cr4 != from->cr4 || to->efer != from->efer ||
		     to->pkru_shadow != from->pkru_shadow || memcmp(to->pdpte, from->pdpte, sizeof(to->pdpte));

	/* All before `fpu` is the processor's state, but for `request`. */
	memcpy(to, from, offsetof(struct cpu, fpu));
	to->request = request;
	to->fpu_live = false;
	memcpy(to->fpu, from->fpu, to->fpu_size < from->fpu_size ? to->fpu_size : from->fpu_size);
	to->io.count = from->io.count;
	to->io.next = from->io.next;
	memcpy(to->io.access, from->io.access, from->io.count * sizeof(from->io.access[0]));
	if (flush)
		mmu_flush(to, true);
}

/* ---- text ---- */

struct text {
	char *buf;
	size_t size, used; /* used < size once size > 0 */
};

static void __attribute__((format(printf, 2, 3))) text_add(struct text *t, const char *fmt, ...)
{
	va_list args;
	int n;

	if (t->used + 1 >= t->size)
		return;
	va_start(args, fmt);
	n = vsnprintf(t->buf + t->used, t->size - t->used, fmt, args);
	va_end(args);
	if (n > 0)
		t->used = t->used + (size_t)n < t->size ? t->used + (size_t)n : t->size - 1;
}

static const char *const gpr_names[GPR_COUNT] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
						  "r8",	 "r9",	"r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const sreg_names[SREG_COUNT] = { "es", "cs", "ss", "ds", "fs", "gs" };
static const char *const mode_names[] = { "real", "virtual-8086", "protected", "compatibility", "64-bit" };

static void dump_segment(struct text *t, const char *name, const struct segment *s)
{
	text_add(t, "%-4s %04x base %016" PRIx64 " limit %08x attr %04x\n", name, s->selector, s->base, s->limit,
		 s->attr);
}

static void dump_vectors(struct text *t, const struct cpu *cpu)
{
	uint16_t fcw, fsw;
	uint32_t mxcsr;
	uint64_t bv, lane[2];

	memcpy(&fcw, cpu->fpu + FPU_FCW, 2);
	memcpy(&fsw, cpu->fpu + FPU_FSW, 2);
	memcpy(&mxcsr, cpu->fpu + FPU_MXCSR, 4);
	memcpy(&bv, cpu->fpu + FPU_XSTATE_BV, 8);
	text_add(t, "fcw %04x fsw %04x ftw %02x mxcsr %08x xstate_bv %" PRIx64 " pkru %08x\n", fcw, fsw,
		 cpu->fpu[FPU_FTW], mxcsr, bv, cpu->pkru_shadow);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(lane, cpu->fpu + FPU_XMM + 16 * i, 16);
		if (lane[0] | lane[1])
			text_add(t, "xmm%-2u %016" PRIx64 "_%016" PRIx64 "\n", i, lane[1], lane[0]);
	}
}

void cpu_dump(struct cpu *cpu, char *buf, size_t size)
{
	struct text t = { buf, size, 0 };

	if (!size)
		return;
	buf[0] = 0;
	cpu_fpu_leave(cpu);
	text_add(&t, "vcpu %u: %s mode, cpl %u%s%s%s\n", cpu->index, mode_names[cpu->mode], cpu->cpl,
		 cpu->halted ? ", halted" : "", cpu->nmi_blocked ? ", NMI blocked" : "",
		 cpu->sti_shadow || cpu->mov_ss_shadow ? ", interrupt shadow" : "");
	text_add(&t, "rip %016" PRIx64 " rflags %08" PRIx64 "\n", cpu->rip, cpu->rflags);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		text_add(&t, "%-3s %016" PRIx64 "%c", gpr_names[i], cpu->gpr[i], i % 4 == 3 ? '\n' : ' ');
	for (unsigned i = 0; i < SREG_COUNT; i++)
		dump_segment(&t, sreg_names[i], &cpu->seg[i]);
	dump_segment(&t, "ldtr", &cpu->ldtr);
	dump_segment(&t, "tr", &cpu->tr);
	text_add(&t, "gdtr %016" PRIx64 " limit %04x  idtr %016" PRIx64 " limit %04x\n", cpu->gdtr.base,
		 cpu->gdtr.limit, cpu->idtr.base, cpu->idtr.limit);
	text_add(&t, "cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64 " efer %04" PRIx64
		     " xcr0 %" PRIx64 "\n",
		 cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4, cpu->efer, cpu->xcr0);
	text_add(&t, "dr0 %016" PRIx64 " dr1 %016" PRIx64 " dr2 %016" PRIx64 " dr3 %016" PRIx64 "\n", cpu->dr[0],
		 cpu->dr[1], cpu->dr[2], cpu->dr[3]);
	text_add(&t, "dr6 %08" PRIx64 " dr7 %08" PRIx64 "  last fault: vector %u error %x cr2 %016" PRIx64 "\n",
		 cpu->dr[6], cpu->dr[7], cpu->fault.vector, cpu->fault.error, cpu->fault.cr2);
	text_add(&t, "star %016" PRIx64 " lstar %016" PRIx64 " sfmask %08" PRIx64 " kernel_gs_base %016" PRIx64 "\n",
		 cpu->star, cpu->lstar, cpu->sfmask, cpu->kernel_gs_base);
	dump_vectors(&t, cpu);
}

/* ---- comparison ---- */

#define FIELD(name) { #name, offsetof(struct cpu, name), sizeof(((struct cpu *)0)->name) }

static const struct {
	const char *name;
	size_t offset, size; /* size 1-8 */
} compared[] = {
	FIELD(rip), FIELD(cpl), FIELD(mode), FIELD(cr0), FIELD(cr2), FIELD(cr3), FIELD(cr4), FIELD(efer), FIELD(xcr0),
	FIELD(xss), FIELD(pkru_shadow), FIELD(gdtr.base), FIELD(gdtr.limit), FIELD(idtr.base), FIELD(idtr.limit),
	FIELD(dr[0]), FIELD(dr[1]), FIELD(dr[2]), FIELD(dr[3]), FIELD(dr[6]), FIELD(dr[7]), FIELD(pdpte[0]),
	FIELD(pdpte[1]), FIELD(pdpte[2]), FIELD(pdpte[3]), FIELD(star), FIELD(lstar), FIELD(cstar), FIELD(sfmask),
	FIELD(kernel_gs_base), FIELD(tsc_aux), FIELD(pat), FIELD(sysenter_cs), FIELD(sysenter_esp), FIELD(sysenter_eip),
	FIELD(tsc_offset), FIELD(tsc_adjust), FIELD(misc_enable), FIELD(spec_ctrl), FIELD(mcg_status), FIELD(debugctl),
	FIELD(sti_shadow), FIELD(mov_ss_shadow), FIELD(nmi_blocked), FIELD(halted), FIELD(db_pending),
};

static bool diff_value(char *buf, size_t size, const char *name, uint64_t a, uint64_t b)
{
	if (a == b)
		return false;
	snprintf(buf, size, "%s: %#" PRIx64 " and %#" PRIx64, name, a, b);
	return true;
}

static bool diff_segment(char *buf, size_t size, const char *name, const struct segment *a, const struct segment *b)
{
	if (a->selector == b->selector && a->base == b->base && a->limit == b->limit && a->attr == b->attr)
		return false;
	snprintf(buf, size,
		 "%s: %04x base %#" PRIx64 " limit %#x attr %04x and %04x base %#" PRIx64 " limit %#x attr %04x", name,
		 a->selector, a->base, a->limit, a->attr, b->selector, b->base, b->limit, b->attr);
	return true;
}

/* `count` registers of `bytes` bytes, `stride` apart, at `offset` in the XSAVE areas. */
static bool diff_registers(char *buf, size_t size, const char *name, const struct cpu *a, const struct cpu *b,
			   unsigned offset, unsigned count, unsigned bytes, unsigned stride)
{
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *x = a->fpu + offset + i * stride, *y = b->fpu + offset + i * stride;
		struct text t = { buf, size, 0 };

		if (!memcmp(x, y, bytes))
			continue;
		text_add(&t, "%s%u: ", name, i);
		for (unsigned k = bytes; k--;)
			text_add(&t, "%02x", x[k]);
		text_add(&t, " and ");
		for (unsigned k = bytes; k--;)
			text_add(&t, "%02x", y[k]);
		return true;
	}
	return false;
}

static bool diff_vectors(const struct cpu *a, const struct cpu *b, char *buf, size_t size)
{
	static const struct {
		const char *name;
		unsigned component, count, bytes;
	} upper[] = { { "ymm_high", 2, 16, 16 }, { "k", 5, 8, 8 }, { "zmm_high", 6, 16, 32 }, { "zmm16+", 7, 16, 64 } };

	if (diff_registers(buf, size, "fcw, fsw, ftw, fop, fip, fdp", a, b, FPU_FCW, 1, FPU_MXCSR, 0) ||
	    diff_registers(buf, size, "mxcsr", a, b, FPU_MXCSR, 1, 4, 0) ||
	    diff_registers(buf, size, "st", a, b, FPU_ST, 8, 10, 16) ||
	    diff_registers(buf, size, "xmm", a, b, FPU_XMM, 16, 16, 16))
		return true;
	for (unsigned i = 0; i < sizeof(upper) / sizeof(*upper); i++) {
		const struct xsave_component *c = &a->cpuid->xsave[upper[i].component];

		if (c->size && diff_registers(buf, size, upper[i].name, a, b, c->offset, upper[i].count, upper[i].bytes,
					      upper[i].bytes))
			return true;
	}
	return false;
}

bool cpu_diff(struct cpu *a, struct cpu *b, uint64_t eflags_ignore, char *buf, size_t size)
{
	cpu_fpu_leave(a);
	cpu_fpu_leave(b);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		if (diff_value(buf, size, gpr_names[i], a->gpr[i], b->gpr[i]))
			return true;
	if (diff_value(buf, size, "rflags", a->rflags & ~eflags_ignore, b->rflags & ~eflags_ignore))
		return true;
	for (unsigned i = 0; i < SREG_COUNT; i++)
		if (diff_segment(buf, size, sreg_names[i], &a->seg[i], &b->seg[i]))
			return true;
	if (diff_segment(buf, size, "ldtr", &a->ldtr, &b->ldtr) || diff_segment(buf, size, "tr", &a->tr, &b->tr))
		return true;
	for (size_t i = 0; i < sizeof(compared) / sizeof(*compared); i++) {
		uint64_t x = 0, y = 0;

		memcpy(&x, (const uint8_t *)a + compared[i].offset, compared[i].size);
		memcpy(&y, (const uint8_t *)b + compared[i].offset, compared[i].size);
		if (diff_value(buf, size, compared[i].name, x, y))
			return true;
	}
	if (memcmp(&a->mtrr, &b->mtrr, sizeof(a->mtrr))) {
		snprintf(buf, size, "MTRRs differ");
		return true;
	}
	return diff_vectors(a, b, buf, size);
}
