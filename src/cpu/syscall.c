/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT.
 *
 * Sources: SDM 2B and APM 3, the four instructions. Where the vendors differ the guest's CPUID
 * decides: on AMD, SYSCALL and SYSRET exist outside 64-bit mode as well and SYSRET does not look at
 * RCX; SYSENTER and SYSEXIT do not exist in long mode. Thread: the vCPU's; no lock.
 */
#include "cpu/protection.h"

#include "cpu/cpuid.h"

#define SYSRET_FLAGS 0x3c7fd7ull

static void commit_ring(struct cpu *cpu, struct segment cs, struct segment ss, uint64_t rip)
{
	cpu->seg[CS] = cs;
	cpu->seg[SS] = ss;
	cpu->rip = rip;
	cpu_update_mode(cpu);
}

static bool syscall_exists(const struct cpu *cpu)
{
	if (!(cpu->efer & EFER_SCE) || cpu_real_or_v86(cpu))
		return false;
	return cpu->mode == MODE_LONG || cpu->cpuid->amd;
}

enum x transfer_syscall(struct cpu *cpu, uint64_t next)
{
	uint16_t selector = cpu->star >> 32 & 0xfffc;
	bool is_long = cpu_long_active(cpu);
	uint64_t target;

	if (!syscall_exists(cpu))
		return cpu_raise(cpu, VEC_UD);
	if (is_long) {
		cpu->gpr[RCX] = next;
		cpu->gpr[R11] = cpu->rflags & ~(uint64_t)RFLAGS_RF;
		cpu->rflags &= ~(cpu->sfmask | RFLAGS_RF);
		cpu->rflags |= RFLAGS_FIXED;
		target = cpu->mode == MODE_LONG ? cpu->lstar : cpu->cstar;
	} else {
		cpu->gpr[RCX] = (uint32_t)next;
		cpu->rflags &= ~(uint64_t)(RFLAGS_IF | RFLAGS_RF | RFLAGS_VM);
		target = (uint32_t)cpu->star;
	}
	commit_ring(cpu, segment_flat_code(selector, 0, is_long), segment_flat_data((uint16_t)(selector + 8), 0),
		    target);
	return X_OK;
}

enum x transfer_sysret(struct cpu *cpu, unsigned opsize)
{
	uint16_t selector = cpu->star >> 48 & 0xfffc;
	bool is_64 = opsize == 8;
	uint64_t rip = is_64 ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];

	if (!syscall_exists(cpu))
		return cpu_raise(cpu, VEC_UD);
	if (cpu->cpl != 0 || (is_64 && !cpu->cpuid->amd && !cpu_canonical(rip)))
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (cpu_long_active(cpu))
		cpu->rflags = (cpu->gpr[R11] & SYSRET_FLAGS & ~(uint64_t)(RFLAGS_RF | RFLAGS_VM)) | RFLAGS_FIXED;
	else
		cpu->rflags |= RFLAGS_IF;
	commit_ring(cpu, segment_flat_code((uint16_t)((selector + (is_64 ? 16 : 0)) | 3), 3, is_64),
		    segment_flat_data((uint16_t)((selector + 8) | 3), 3), rip);
	return X_OK;
}

static bool sysenter_exists(const struct cpu *cpu) { return !(cpu->cpuid->amd && cpu_long_active(cpu)); }

enum x transfer_sysenter(struct cpu *cpu)
{
	uint16_t selector = cpu->sysenter_cs & 0xfffc;
	bool is_long = cpu_long_active(cpu);

	if (!sysenter_exists(cpu))
		return cpu_raise(cpu, VEC_UD);
	if (cpu->mode == MODE_REAL || !selector)
		return cpu_raise_error(cpu, VEC_GP, 0);
	cpu->rflags &= ~(uint64_t)(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
	cpu->gpr[RSP] = is_long ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	commit_ring(cpu, segment_flat_code(selector, 0, is_long), segment_flat_data((uint16_t)(selector + 8), 0),
		    is_long ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip);
	return X_OK;
}

enum x transfer_sysexit(struct cpu *cpu, unsigned opsize)
{
	uint16_t selector = cpu->sysenter_cs & 0xfffc, cs;
	uint64_t rip = cpu->gpr[RDX], rsp = cpu->gpr[RCX];
	bool is_64 = opsize == 8;

	if (!sysenter_exists(cpu))
		return cpu_raise(cpu, VEC_UD);
	if (cpu->mode == MODE_REAL || !selector || cpu->cpl != 0)
		return cpu_raise_error(cpu, VEC_GP, 0);
	if (is_64 && (!cpu_canonical(rip) || !cpu_canonical(rsp)))
		return cpu_raise_error(cpu, VEC_GP, 0);
	cs = (uint16_t)((selector + (is_64 ? 32 : 16)) | 3);
	cpu->gpr[RSP] = is_64 ? rsp : (uint32_t)rsp;
	commit_ring(cpu, segment_flat_code(cs, 3, is_64), segment_flat_data((uint16_t)(cs + 8), 3),
		    is_64 ? rip : (uint32_t)rip);
	return X_OK;
}
