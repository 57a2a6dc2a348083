/*
 * System instructions. What they do lies in src/cpu; here are their operands and their checks of
 * privilege (INSN_PRIVILEGED is checked before the handler runs).
 * SDM 2; SDM 3A 2.8, 5.9; APM 3. On the vCPU's thread.
 */
#include "engine/interp/interp.h"

static enum x general_protection(struct cpu *cpu)
{
	return cpu_raise_error(cpu, VEC_GP, 0);
}

/* UMIP: SGDT SIDT SLDT STR SMSW only at CPL 0 */
static enum x umip_check(struct cpu *cpu)
{
	if ((cpu->cr4 & CR4_UMIP) && cpu->cpl)
		return general_protection(cpu);
	return X_OK;
}

/* ---- interrupt flag, halt ---- */

/* CLI and STI below IOPL: 1 = on the virtual flag (VME, PVI), 0 = on IF, -1 = #GP. */
static int interrupt_flag_rule(const struct cpu *cpu)
{
	unsigned iopl = cpu->rflags >> 12 & 3;
	if (!(cpu->cr0 & CR0_PE) || cpu->cpl <= iopl)
		return 0;
	if (cpu->mode == MODE_V8086)
		return cpu->cr4 & CR4_VME ? 1 : -1;
	return (cpu->cr4 & CR4_PVI) && cpu->cpl == 3 ? 1 : -1;
}

enum x system_cli(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	int rule = interrupt_flag_rule(cpu);
	if (rule < 0)
		return general_protection(cpu);
	cpu->rflags &= ~(uint64_t)(rule ? RFLAGS_VIF : RFLAGS_IF);
	return X_OK;
}

enum x system_sti(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	int rule = interrupt_flag_rule(cpu);
	if (rule < 0 || (rule && (cpu->rflags & RFLAGS_VIP)))
		return general_protection(cpu);
	if (rule) {
		cpu->rflags |= RFLAGS_VIF;
		return X_OK;
	}
	if (!(cpu->rflags & RFLAGS_IF))
		cpu->sti_shadow = true;
	cpu->rflags |= RFLAGS_IF;
	return X_OK;
}

/* Retires, and leaves: the loop waits for an interrupt. */
enum x system_hlt(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	cpu->halted = true;
	cpu->exit = (struct exit){ .reason = EXIT_HLT };
	return X_EXIT;
}

/* ---- descriptor tables ---- */

enum x system_lgdt_lidt(struct cpu *cpu, const struct insn *insn)
{
	unsigned wide = insn->mode == 64 ? 8 : 4;
	uint64_t limit, base, ea = mem_offset(cpu, insn, 0);
	TRY(mem_load(cpu, insn->mem_seg, ea, 2, &limit));
	TRY(mem_load(cpu, insn->mem_seg, (ea + 2) & size_mask(insn->addrsize), wide, &base));
	if (insn->opsize == 2)
		base &= 0xffffff;
	if (insn->mode == 64 && !is_canonical(base))
		return general_protection(cpu);
	if (insn->id == INSN_LGDT) {
		cpu->gdtr.base = base;
		cpu->gdtr.limit = (uint16_t)limit;
	} else {
		cpu->idtr.base = base;
		cpu->idtr.limit = (uint16_t)limit;
	}
	return X_OK;
}

enum x system_sgdt_sidt(struct cpu *cpu, const struct insn *insn)
{
	unsigned wide = insn->mode == 64 ? 8 : 4;
	bool gdt = insn->id == INSN_SGDT;
	uint64_t base = gdt ? cpu->gdtr.base : cpu->idtr.base, linear;
	uint16_t limit = gdt ? cpu->gdtr.limit : cpu->idtr.limit;
	uint8_t image[10];
	TRY(umip_check(cpu));
	__builtin_memcpy(image, &limit, 2);
	__builtin_memcpy(image + 2, &base, 8);
	TRY(mem_linear(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 2 + wide, ACCESS_WRITE, &linear));
	return mmu_write(cpu, linear, image, 2 + wide, MMU_WRITE);
}

enum x system_lldt_ltr(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	TRY(operand_read(cpu, insn, 0, &v));
	return insn->id == INSN_LLDT ? segment_load_ldtr(cpu, (uint16_t)v) : segment_load_tr(cpu, (uint16_t)v);
}

/* To a register as wide as the operand size, to memory always 16 bits. */
static enum x store_selector(struct cpu *cpu, const struct insn *insn, uint64_t v)
{
	TRY(umip_check(cpu));
	if (insn->operand[0].kind == OPERAND_GPR) {
		reg_write(cpu, insn->operand[0].reg, insn->opsize, v);
		return X_OK;
	}
	return mem_store(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 2, v);
}

enum x system_sldt_str(struct cpu *cpu, const struct insn *insn)
{
	return store_selector(cpu, insn, insn->id == INSN_SLDT ? cpu->ldtr.selector : cpu->tr.selector);
}

enum x system_smsw(struct cpu *cpu, const struct insn *insn)
{
	return store_selector(cpu, insn, cpu->cr0);
}

enum x system_lmsw(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	TRY(operand_read(cpu, insn, 0, &v));
	/* PE, MP, EM, TS; PE can be set, not cleared */
	return cpu_write_cr(cpu, 0, (cpu->cr0 & ~0xeull) | (v & 0xf));
}

enum x system_clts(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return cpu_write_cr(cpu, 0, cpu->cr0 & ~(uint64_t)CR0_TS);
}

/* LAR LSL VERR VERW: the selector is 16 bits whatever the operand size. */
static enum x selector_operand(struct cpu *cpu, const struct insn *insn, unsigned n, uint16_t *selector)
{
	const struct operand *op = &insn->operand[n];
	uint64_t v;
	if (op->kind == OPERAND_GPR)
		v = cpu->gpr[op->reg];
	else
		TRY(mem_load(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 2, &v));
	*selector = (uint16_t)v;
	return X_OK;
}

static void set_zf(struct cpu *cpu, bool on)
{
	cpu->rflags = on ? cpu->rflags | EF_ZF : cpu->rflags & ~(uint64_t)EF_ZF;
}

enum x system_lar_lsl(struct cpu *cpu, const struct insn *insn)
{
	uint16_t selector;
	uint32_t v;
	bool ok;
	TRY(selector_operand(cpu, insn, 1, &selector));
	if (insn->id == INSN_LAR)
		TRY(segment_lar(cpu, selector, &ok, &v));
	else
		TRY(segment_lsl(cpu, selector, &ok, &v));
	if (ok)
		reg_write(cpu, insn->operand[0].reg, insn->opsize, v);
	set_zf(cpu, ok);
	return X_OK;
}

enum x system_verr_verw(struct cpu *cpu, const struct insn *insn)
{
	uint16_t selector;
	bool ok;
	TRY(selector_operand(cpu, insn, 0, &selector));
	TRY(segment_verify(cpu, selector, insn->id == INSN_VERW, &ok));
	set_zf(cpu, ok);
	return X_OK;
}

enum x system_arpl(struct cpu *cpu, const struct insn *insn)
{
	struct rmw m;
	uint64_t src;
	bool again;
	TRY(operand_read(cpu, insn, 1, &src));
	TRY(rmw_begin(cpu, insn, 0, &m));
	bool adjust = (m.old & 3) < (src & 3);
	if (adjust)
		TRY(rmw_commit(cpu, &m, (m.old & ~3ull) | (src & 3), &again));
	set_zf(cpu, adjust);
	return X_OK;
}

/* ---- control, debug and model-specific registers ---- */

enum x system_mov_cr(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
	unsigned size = insn->mode == 64 ? 8 : 4;
	uint64_t v;
	if (to->kind == OPERAND_CR)
		return cpu_write_cr(cpu, to->reg, reg_read(cpu, from->reg, size));
	TRY(cpu_read_cr(cpu, from->reg, &v));
	reg_write(cpu, to->reg, size, v);
	return X_OK;
}

enum x system_mov_dr(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *to = &insn->operand[0], *from = &insn->operand[1];
	unsigned size = insn->mode == 64 ? 8 : 4;
	uint64_t v;
	if (to->kind == OPERAND_DR)
		return cpu_write_dr(cpu, to->reg, reg_read(cpu, from->reg, size));
	TRY(cpu_read_dr(cpu, from->reg, &v));
	reg_write(cpu, to->reg, size, v);
	return X_OK;
}

static void set_edx_eax(struct cpu *cpu, uint64_t v)
{
	cpu->gpr[RAX] = (uint32_t)v;
	cpu->gpr[RDX] = v >> 32;
}

static uint64_t get_edx_eax(const struct cpu *cpu)
{
	return cpu->gpr[RDX] << 32 | (uint32_t)cpu->gpr[RAX];
}

enum x system_rdmsr(struct cpu *cpu, const struct insn *insn)
{
	uint64_t v;
	(void)insn;
	TRY(msr_read(cpu, (uint32_t)cpu->gpr[RCX], &v));
	set_edx_eax(cpu, v);
	return X_OK;
}

enum x system_wrmsr(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return msr_write(cpu, (uint32_t)cpu->gpr[RCX], get_edx_eax(cpu));
}

enum x system_rdtsc(struct cpu *cpu, const struct insn *insn)
{
	if ((cpu->cr4 & CR4_TSD) && cpu->cpl)
		return general_protection(cpu);
	set_edx_eax(cpu, cpu_tsc(cpu));
	if (insn->id == INSN_RDTSCP)
		cpu->gpr[RCX] = (uint32_t)cpu->tsc_aux;
	return X_OK;
}

/* There are no performance counters: any number is a wrong one. */
enum x system_rdpmc(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return general_protection(cpu);
}

enum x system_rdpid(struct cpu *cpu, const struct insn *insn)
{
	reg_write(cpu, insn->operand[0].reg, insn->mode == 64 ? 8 : 4, cpu->tsc_aux);
	return X_OK;
}

enum x system_cpuid(struct cpu *cpu, const struct insn *insn)
{
	uint32_t out[4];
	(void)insn;
	cpuid_execute(cpu, (uint32_t)cpu->gpr[RAX], (uint32_t)cpu->gpr[RCX], out);
	cpu->gpr[RAX] = out[0];
	cpu->gpr[RBX] = out[1];
	cpu->gpr[RCX] = out[2];
	cpu->gpr[RDX] = out[3];
	return X_OK;
}

/* XINUSE, which is what XSAVE leaves in XSTATE_BV. */
static uint64_t components_in_use(struct cpu *cpu)
{
	bool live = cpu->fpu_live;
	uint64_t bv;
	cpu_fpu_leave(cpu);
	__builtin_memcpy(&bv, cpu->fpu + FPU_XSTATE_BV, 8);
	if (live)
		cpu_fpu_enter(cpu);
	return cpu->pkru_shadow ? bv | XCR0_PKRU : bv & ~(uint64_t)XCR0_PKRU;
}

enum x system_xgetbv(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	if (!(cpu->cr4 & CR4_OSXSAVE))
		return cpu_raise(cpu, VEC_UD);
	switch ((uint32_t)cpu->gpr[RCX]) {
	case 0:
		set_edx_eax(cpu, cpu->xcr0);
		return X_OK;
	case 1:
		if (!cpu_has(cpu, FEATURE_XGETBV1))
			return general_protection(cpu);
		set_edx_eax(cpu, cpu->xcr0 & components_in_use(cpu));
		return X_OK;
	default:
		return general_protection(cpu);
	}
}

enum x system_xsetbv(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	if (!(cpu->cr4 & CR4_OSXSAVE))
		return cpu_raise(cpu, VEC_UD);
	if (cpu->cpl)
		return general_protection(cpu);
	return cpu_xsetbv(cpu, (uint32_t)cpu->gpr[RCX], get_edx_eax(cpu));
}

enum x system_swapgs(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	uint64_t base = cpu->seg[GS].base;
	cpu->seg[GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
	return X_OK;
}

/* RDFSBASE RDGSBASE WRFSBASE WRGSBASE */
enum x system_fsgsbase(struct cpu *cpu, const struct insn *insn)
{
	const struct operand *op = &insn->operand[0];
	bool fs = insn->id == INSN_RDFSBASE || insn->id == INSN_WRFSBASE;
	struct segment *seg = &cpu->seg[fs ? FS : GS];
	if (!(cpu->cr4 & CR4_FSGSBASE))
		return cpu_raise(cpu, VEC_UD);
	if (insn->id == INSN_RDFSBASE || insn->id == INSN_RDGSBASE) {
		reg_write(cpu, op->reg, insn->opsize, seg->base);
		return X_OK;
	}
	uint64_t v = reg_read(cpu, op->reg, insn->opsize);
	if (!is_canonical(v))
		return general_protection(cpu);
	seg->base = v;
	return X_OK;
}

enum x system_clac_stac(struct cpu *cpu, const struct insn *insn)
{
	if (cpu->cpl)
		return cpu_raise(cpu, VEC_UD);
	if (insn->id == INSN_STAC)
		cpu->rflags |= RFLAGS_AC;
	else
		cpu->rflags &= ~(uint64_t)RFLAGS_AC;
	cpu_update_mode(cpu);
	return X_OK;
}

/* RDPKRU, WRPKRU. PKRU counts for every access of this vCPU, so what the TLB holds is void. */
enum x system_pkru(struct cpu *cpu, const struct insn *insn)
{
	if (!(cpu->cr4 & CR4_PKE))
		return cpu_raise(cpu, VEC_UD);
	if ((uint32_t)cpu->gpr[RCX])
		return general_protection(cpu);
	if (insn->id == INSN_RDPKRU) {
		cpu->gpr[RAX] = cpu->pkru_shadow;
		cpu->gpr[RDX] = 0;
		return X_OK;
	}
	if ((uint32_t)cpu->gpr[RDX])
		return general_protection(cpu);
	cpu->pkru_shadow = (uint32_t)cpu->gpr[RAX];
	mmu_flush(cpu, true);
	return X_OK;
}

/* ---- caches and translations ---- */

enum x system_invlpg(struct cpu *cpu, const struct insn *insn)
{
	uint64_t linear = mem_offset(cpu, insn, 0);
	if (insn->mode != 64)
		linear = (uint32_t)(linear + cpu->seg[insn->mem_seg].base);
	else if (insn->mem_seg >= FS)
		linear += cpu->seg[insn->mem_seg].base;
	return cpu_invlpg(cpu, linear);
}

enum x system_invpcid(struct cpu *cpu, const struct insn *insn)
{
	uint64_t linear, descriptor[2], type = reg_read(cpu, insn->operand[0].reg, insn->mode == 64 ? 8 : 4);
	TRY(mem_linear(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 16, ACCESS_READ, &linear));
	TRY(mmu_read(cpu, linear, descriptor, 16, MMU_READ));
	return cpu_invpcid(cpu, type, descriptor[0], descriptor[1]);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: caches are coherent; the address must be readable. */
enum x system_clflush(struct cpu *cpu, const struct insn *insn)
{
	uint64_t linear;
	TRY(segment_linear(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), 1, ACCESS_READ, &linear));
	return mmu_probe(cpu, linear, 1, MMU_READ);
}

/* ---- XSAVE and FXSAVE: fpu.c checks all but segment limits ---- */

static bool saves(const struct insn *insn)
{
	switch (insn->id) {
	case INSN_FXSAVE:
	case INSN_XSAVE:
	case INSN_XSAVEC:
	case INSN_XSAVEOPT:
	case INSN_XSAVES:
		return true;
	default:
		return false;
	}
}

enum x system_xsave(struct cpu *cpu, const struct insn *insn)
{
	bool save = saves(insn);
	uint64_t linear;
	TRY(segment_linear(cpu, insn->mem_seg, mem_offset(cpu, insn, 0), fpu_memory_size(cpu, insn),
			   save ? ACCESS_WRITE : ACCESS_READ, &linear));
	return save ? fpu_xsave(cpu, insn, linear) : fpu_xrstor(cpu, insn, linear);
}

/* ---- the rest ---- */

enum x system_pause(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	__builtin_ia32_pause();
	if (cpu->env->pause)
		cpu->env->pause(cpu->env_opaque);
	return X_OK;
}

/* VMCALL and VMMCALL, whichever the guest has found: KVM's hypercalls. */
enum x system_hypercall(struct cpu *cpu, const struct insn *insn)
{
	uint64_t mask = insn->mode == 64 ? ~0ull : UINT32_MAX;
	uint64_t arg[4] = { cpu->gpr[RBX] & mask, cpu->gpr[RCX] & mask, cpu->gpr[RDX] & mask, cpu->gpr[RSI] & mask };
	uint64_t result = (uint64_t)-1; /* KVM_EPERM */
	if (!cpu->env->hypercall)
		return cpu_raise(cpu, VEC_UD);
	if (!cpu->cpl) {
		bool live = cpu->fpu_live;
		cpu_fpu_leave(cpu);
		result = cpu->env->hypercall(cpu->env_opaque, cpu->gpr[RAX] & mask, arg);
		if (live)
			cpu_fpu_enter(cpu);
	}
	cpu->gpr[RAX] = result & mask;
	return X_OK;
}

/* RDRAND, RDSEED: the host's. CF = there was one. */
enum x system_rdrand(struct cpu *cpu, const struct insn *insn)
{
	unsigned size = insn->operand[0].size;
	uint64_t v = 0;
	bool ok;
	if (insn->id == INSN_RDRAND)
		asm volatile("rdrand %0" : "=r"(v), "=@ccc"(ok));
	else
		asm volatile("rdseed %0" : "=r"(v), "=@ccc"(ok));
	operand_reg_write(cpu, &insn->operand[0], ok ? v & size_mask(size) : 0);
	cpu->rflags = (cpu->rflags & ~(uint64_t)EF_ARITH) | (ok ? EF_CF : 0);
	return X_OK;
}

enum x system_ud(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return cpu_raise(cpu, VEC_UD);
}

/* RSM outside of system-management mode, which is where we always are. */
enum x system_rsm(struct cpu *cpu, const struct insn *insn)
{
	(void)insn;
	return cpu_raise(cpu, VEC_UD);
}
