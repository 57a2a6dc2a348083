/*
 * The architectural state of one x86-64 logical processor, and what the rest of src/cpu does to it.
 *
 * Host-independent: nothing here knows which engine runs or what the machine around it is. What
 * the processor needs of the outside (time, local APIC, port and memory I/O) it asks of
 * struct cpu_env. One thread, the vCPU's, touches a struct cpu; others only set `request`.
 *
 * Errors: functions that can fault return enum x. X_FAULT: an exception is recorded in cpu->fault
 * and no architectural state of the failed step has changed; whoever runs the instruction ends up
 * in cpu_deliver_fault. X_EXIT: an exit is recorded in cpu->exit (I/O to do outside): leave, let
 * the loop do it, and run the same instruction again; cpu->io then has the answer.
 *
 * Compiled with -mgeneral-regs-only: guest vector state may be live in the host's registers.
 */
#ifndef RINGSIDE_CPU_H
#define RINGSIDE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <unistd.h>

/* Both have a macro of that name for access(2); they are included here so that they cannot come later. */
#undef X_OK

#include "cpu/exit.h"
#include "cpu/insn.h"
#include "cpu/tlb.h"

struct memory;
struct store_log;
struct cpu;

enum vector {
	VEC_DE, VEC_DB, VEC_NMI, VEC_BP, VEC_OF, VEC_BR, VEC_UD, VEC_NM, VEC_DF, VEC_TS = 10, VEC_NP, VEC_SS,
	VEC_GP, VEC_PF, VEC_MF = 16, VEC_AC, VEC_MC, VEC_XM,
};

enum {
	RFLAGS_FIXED = 1 << 1, RFLAGS_TF = 1 << 8, RFLAGS_IF = 1 << 9, RFLAGS_DF = 1 << 10, RFLAGS_IOPL = 3 << 12,
	RFLAGS_NT = 1 << 14, RFLAGS_RF = 1 << 16, RFLAGS_VM = 1 << 17, RFLAGS_AC = 1 << 18, RFLAGS_VIF = 1 << 19,
	RFLAGS_VIP = 1 << 20, RFLAGS_ID = 1 << 21,
	RFLAGS_ALL = 0x3f7fd7,
};
#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)
#define CR4_VME (1u << 0)
#define CR4_PVI (1u << 1)
#define CR4_TSD (1u << 2)
#define CR4_DE (1u << 3)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_MCE (1u << 6)
#define CR4_PGE (1u << 7)
#define CR4_PCE (1u << 8)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP (1u << 11)
#define CR4_FSGSBASE (1u << 16)
#define CR4_PCIDE (1u << 17)
#define CR4_OSXSAVE (1u << 18)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define CR4_PKE (1u << 22)
#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)
#define EFER_FFXSR (1u << 14)

/* A segment register with its hidden part. Limit in bytes, granularity applied. */
struct segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attr; /* SEG_* : bits 8-15 and 20-23 of the descriptor's high word, shifted right by 8 */
};
#define SEG_TYPE 0xfu
#define SEG_ACCESSED 1u
#define SEG_WRITABLE 2u    /* data */
#define SEG_EXPAND_DOWN 4u /* data */
#define SEG_READABLE 2u    /* code */
#define SEG_CONFORMING 4u  /* code */
#define SEG_CODE 8u
#define SEG_S 0x10u /* code or data, not system */
#define SEG_DPL_SHIFT 5
#define SEG_DPL(attr) ((attr) >> SEG_DPL_SHIFT & 3)
#define SEG_P 0x80u
#define SEG_AVL 0x1000u
#define SEG_L 0x2000u
#define SEG_DB 0x4000u
#define SEG_G 0x8000u
#define SEG_UNUSABLE 0 /* attr of a null selector: P clear */

enum { MODE_REAL, MODE_V8086, MODE_PROTECTED, MODE_COMPAT, MODE_LONG };

enum x { X_OK = 0, X_FAULT, X_EXIT };
#define TRY(expr) \
	do { \
		enum x x_ = (expr); \
		if (__builtin_expect(x_ != X_OK, 0)) \
			return x_; \
	} while (0)

enum event_type {
	EVENT_EXTERNAL,
	EVENT_NMI,
	EVENT_EXCEPTION,
	EVENT_SOFT_INT,       /* INT n */
	EVENT_SOFT_EXCEPTION, /* INT3, INTO */
	EVENT_ICEBP,          /* INT1 */
};

struct fault {
	uint8_t vector;
	uint8_t type; /* enum event_type */
	bool has_error;
	uint32_t error;
	uint64_t cr2; /* for VEC_PF: loaded into CR2 when it is delivered */
	uint64_t dr6; /* for VEC_DB: bits to set in DR6 when it is delivered */
};

/* Bits of cpu->request, set by other threads (atomically), looked at by engines between instructions
 * (interp) or blocks (bt). Any bit makes engine->run return soon with EXIT_REQUEST. */
enum {
	REQUEST_EXIT = 1,      /* somebody wants the loop: an interrupt may be pending, a pause, a stop */
	REQUEST_ENGINE = 2,    /* the engine itself wants it to come out of guest code */
};

/* Bits of cpu->want_irq_window. */
enum {
	WANT_IRQ = 1, /* a maskable interrupt waits for cpu_interruptible() */
	WANT_NMI = 2, /* an NMI waits for the IRET that unblocks NMIs (or the end of a MOV SS shadow) */
};

/* What the processor asks of the machine. All are called on the vCPU's thread, without vm->lock,
 * with no guest state in host vector registers lost (they must not touch vector registers, or be
 * called through cpu_fpu_leave, see fpu.h). */
struct cpu_env {
	uint64_t (*tsc)(void *opaque);               /* guest TSC now, before TSC_ADJUST/offset: the host's */
	uint8_t (*get_tpr)(void *opaque);            /* CR8: TPR bits 7-4 */
	void (*set_tpr)(void *opaque, uint8_t cr8);
	uint64_t (*get_apic_base)(void *opaque);     /* IA32_APIC_BASE */
	bool (*set_apic_base)(void *opaque, uint64_t value); /* false: #GP */
	bool (*x2apic_read)(void *opaque, uint32_t msr, uint64_t *value);  /* 0x800-0x8ff, TSC_DEADLINE; false: #GP */
	bool (*x2apic_write)(void *opaque, uint32_t msr, uint64_t value);
	bool (*pv_read)(void *opaque, uint32_t msr, uint64_t *value);      /* KVM paravirtual MSRs; false: #GP */
	bool (*pv_write)(void *opaque, uint32_t msr, uint64_t value);
	uint64_t (*hypercall)(void *opaque, uint64_t nr, const uint64_t arg[4]); /* VMCALL/VMMCALL, KVM ABI */
	void (*pause)(void *opaque); /* PAUSE: it may be spinning for what another vCPU does. May be NULL */
};

struct mtrr_state {
	uint64_t def_type, fixed[11], base[8], mask[8];
};

struct cpu {
	/* Hot: generated code reaches these by [gs + offset]; keep them first and in this order. */
	uint64_t gpr[GPR_COUNT];
	uint64_t rip;
	uint64_t rflags; /* complete: arithmetic and system flags */
	uint32_t request; /* REQUEST_*, atomic */
	uint8_t cpl;     /* 3 in virtual-8086 mode */
	uint8_t mode;    /* MODE_* ; derived, see cpu_update_mode */
	uint8_t tlb_mode; /* enum tlb_mode that data accesses use now; derived */
	bool fpu_live;   /* guest vector state is in the host's registers, not in *fpu */
	/* WANT_*: an event waits that cannot be delivered yet. Written by the loop before engine->run, by this
	 * vCPU's thread only; it does not by itself make run return. Engines return with EXIT_IRQ_WINDOW at the
	 * instruction boundary where cpu_window_open() becomes true (after STI, POPF, IRET, MOV SS..., and when
	 * a shadow ends). Entered with answers in `io`, the window may be open already: then they return after
	 * the instruction that the answers belong to, not before it. Zero: no check is needed. */
	uint8_t want_irq_window;
	struct segment seg[SREG_COUNT];

	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
	uint32_t pkru_shadow; /* PKRU as last seen for data access checks (kept in the XSAVE area as well) */
	struct segment ldtr, tr;
	struct { uint64_t base; uint16_t limit; } gdtr, idtr;
	uint64_t dr[8]; /* 4, 5 unused */
	uint64_t pdpte[4]; /* PAE paging: loaded on MOV CR3 */

	/* MSRs */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, pat;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t tsc_offset; /* the machine's; guest TSC = env->tsc() + tsc_offset + tsc_adjust */
	uint64_t tsc_adjust, misc_enable, spec_ctrl, mcg_status, debugctl;
	struct mtrr_state mtrr;

	/* Between instructions. nmi_pending: the engine had taken an NMI and gives it back, for the loop. */
	bool sti_shadow;    /* the previous instruction was STI with IF clear before: no interrupt yet */
	bool mov_ss_shadow; /* MOV SS / POP SS: no interrupt, no debug trap yet */
	bool nmi_blocked;   /* until IRET */
	bool nmi_pending;
	bool halted;
	uint64_t db_pending; /* DR6 bits of a #DB trap to deliver after this instruction */
	struct fault fault; /* valid when a function returned X_FAULT */

	/* XSAVE area (standard format, 64-byte aligned, fpu_size bytes), see fpu.h */
	uint8_t *fpu;
	uint32_t fpu_size;

	struct exit exit; /* valid when a function returned X_EXIT */
	struct io_log io; /* answers to the I/O of the current instruction */
	/* An exit that came up while the vCPU was not in an engine's run: the loop analyses it before it enters the guest.
	 * EXIT_REQUEST: none. */
	struct exit owed;
	uint8_t tpr_class; /* the local APIC's TPR, as CR8, when run is called: for engines whose processor has a copy */

	struct memory *memory; /* RAM */
	uint32_t maps_version; /* of the mappings that the TLB goes by: memory_maps_changed */
	const struct cpu_env *env;
	void *env_opaque;
	const struct cpuid_table *cpuid; /* what the guest sees */
	uint32_t index; /* 0 = BSP; also the initial APIC ID */

	/* Told when translations or cached mode may be stale. NULL where the engine needs nothing. */
	const struct cpu_engine_hooks *hooks;
	void *engine_state; /* the engine's own, per vCPU */
	/* The engine has the state: here are only RIP, RFLAGS.IF, the shadows and `halted`, as they bear on interrupts,
	 * and what src/cpu has that no instruction touches directly (MTRRs, the TSC's offsets, ...). Whoever reads or
	 * changes more, on the vCPU's thread, calls cpu_fetch_state before. */
	bool state_away;
	uint8_t *window;         /* for locked accesses that cross pages, see mmu_crossing_pointer; NULL: none was yet */
	uint64_t window_page[2]; /* RAM offsets of what is mapped there */
	/* NULL, or where changes of RAM are noted: store_log.h */
	struct store_log *store_log;

	uint64_t insns;   /* retired, as far as the engine counts them */
	uint64_t tlb_accesses; /* data accesses that the software TLB served; counted only with `counting` */
	bool counting;    /* count what costs time to count; set before the vCPU runs */
	uint64_t faults_delivered[32], interrupts_delivered;
	uint64_t tlb_misses, tlb_recalls, tlb_flushes, tlb_switches; /* recalls: misses that the victim level served, besides */

	/* The rest is large, and reached by generated code at [gs + offset + index * 8]. */
	struct tlb tlb[1]; /* an array of one, so that it reads like a pointer */
	struct branch_cache branch_cache[1];
	struct tlb_wide tlb_wide[1];
	uint64_t engine_word[32]; /* whatever the engine's generated code wants at hand */
};

struct cpu_engine_hooks {
	/* Brings the state back; on the vCPU's thread. Not NULL in an engine that sets state_away. */
	void (*fetch_state)(struct cpu *cpu);
	/* A store by this vCPU is about to change len bytes at `offset` of the host mapping of memory, in a
	 * PAGE_HAS_CODE page, before the next instruction. May be called while the engine looks for code itself. */
	void (*code_write)(struct cpu *cpu, uint64_t offset, uint64_t len);
	/* Around accesses of this vCPU to guest memory, on its thread, while the engine does not run it. */
	void (*access_begin)(struct cpu *cpu);
	void (*access_end)(struct cpu *cpu);
	/* Instruction mappings of the whole address space / of one page may have changed. */
	void (*tlb_flushed)(struct cpu *cpu, bool global_too);
	void (*tlb_flushed_page)(struct cpu *cpu, uint64_t gva);
	/* Another address space (tlb->current), or what was known of it is not true any more: its generation has changed. */
	void (*tlb_switched)(struct cpu *cpu);
};

/* ---- life: cpu.c ---- */
int cpu_init(struct cpu *cpu, struct memory *memory, const struct cpu_env *env, void *env_opaque,
	     const struct cpuid_table *cpuid, uint32_t index); /* 0 or -errno; state as after RESET */
void cpu_free(struct cpu *cpu);
void cpu_reset(struct cpu *cpu, bool init); /* RESET, or INIT# when `init` (SDM 3, table 10-1) */
/* Recomputes mode, cpl (from SS.DPL; 0 in real mode, 3 in v8086), tlb_mode. Call after any change
 * of CR0.PE/PG, EFER, CS, SS, RFLAGS.VM/AC, CR4.SMAP. */
void cpu_update_mode(struct cpu *cpu);
/* Copies everything architectural, for checks and snapshots (not TLB, not env). */
void cpu_copy_state(struct cpu *to, const struct cpu *from);
/* Text of the whole state, for triple faults and mismatches. Never more than size bytes. */
void cpu_dump(struct cpu *cpu, char *buf, size_t size);
/* First difference between two states (registers, segments, control registers, MSRs, vector state),
 * as text in buf; false when equal. eflags_ignore: bits that need not agree. */
bool cpu_diff(struct cpu *a, struct cpu *b, uint64_t eflags_ignore, char *buf, size_t size);

static inline void cpu_fetch_state(struct cpu *cpu)
{
	if (cpu->state_away)
		cpu->hooks->fetch_state(cpu);
}

static inline bool cpu_long_active(const struct cpu *cpu) { return cpu->efer & EFER_LMA; }
static inline unsigned cpu_code_bits(const struct cpu *cpu) /* 16, 32 or 64 */
{
	if (cpu->mode == MODE_LONG)
		return 64;
	return cpu->seg[CS].attr & SEG_DB ? 32 : 16;
}
static inline unsigned cpu_stack_bits(const struct cpu *cpu)
{
	if (cpu->mode == MODE_LONG)
		return 64;
	return cpu->seg[SS].attr & SEG_DB ? 32 : 16;
}
static inline bool cpu_real_or_v86(const struct cpu *cpu) { return cpu->mode <= MODE_V8086; }

/* ---- exceptions and interrupts: exception.c ---- */
enum x cpu_raise(struct cpu *cpu, enum vector v);                     /* records; returns X_FAULT */
enum x cpu_raise_error(struct cpu *cpu, enum vector v, uint32_t error);
enum x cpu_raise_page_fault(struct cpu *cpu, uint64_t gva, uint32_t error);
enum x cpu_raise_debug(struct cpu *cpu, uint64_t dr6_bits);
/* Delivers cpu->fault through the IDT with the double-fault rules; saved RIP is cpu->rip (for
 * INT n the caller has advanced it). X_OK, or X_EXIT with EXIT_SHUTDOWN (triple fault) or for I/O. */
enum x cpu_deliver_fault(struct cpu *cpu);
/* Delivers an interrupt or event through the IDT. Faults while delivering are handled inside. */
enum x cpu_deliver_event(struct cpu *cpu, enum event_type type, uint8_t vector);
/* True when a maskable interrupt may be delivered now (IF, shadows). */
static inline bool cpu_interruptible(const struct cpu *cpu)
{
	return (cpu->rflags & RFLAGS_IF) && !cpu->sti_shadow && !cpu->mov_ss_shadow;
}
/* True when an NMI may be delivered now. */
static inline bool cpu_nmi_deliverable(const struct cpu *cpu)
{
	return !cpu->nmi_blocked && !cpu->mov_ss_shadow;
}
/* True when what cpu->want_irq_window waits for may be delivered now: engines leave. */
static inline bool cpu_window_open(const struct cpu *cpu)
{
	return ((cpu->want_irq_window & WANT_IRQ) && cpu_interruptible(cpu)) ||
	       ((cpu->want_irq_window & WANT_NMI) && cpu_nmi_deliverable(cpu));
}

/* ---- segmentation: segment.c ---- */
enum x segment_load(struct cpu *cpu, enum sreg s, uint16_t selector); /* MOV/POP to DS ES FS GS SS */
enum x segment_load_ldtr(struct cpu *cpu, uint16_t selector);
enum x segment_load_tr(struct cpu *cpu, uint16_t selector);
void segment_set_real(struct cpu *cpu, enum sreg s, uint16_t selector); /* real / v8086: base = selector * 16 */
/* Linear address of seg:offset for an access of `size` bytes, limits and rights checked. access:
 * ACCESS_READ, ACCESS_WRITE or both. #GP(0)/#SS(0); canonical check in 64-bit mode. */
enum x segment_linear(struct cpu *cpu, enum sreg s, uint64_t offset, uint64_t size, unsigned access, uint64_t *linear);
/* LAR, LSL, VERR, VERW: true = ZF set. */
enum x segment_lar(struct cpu *cpu, uint16_t selector, bool *ok, uint32_t *rights);
enum x segment_lsl(struct cpu *cpu, uint16_t selector, bool *ok, uint32_t *limit);
enum x segment_verify(struct cpu *cpu, uint16_t selector, bool write, bool *ok);

/* ---- far control transfer: transfer.c. rip of the next instruction is passed in `next`. ---- */
enum x transfer_far_jmp(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, uint64_t next);
enum x transfer_far_call(struct cpu *cpu, uint16_t selector, uint64_t offset, unsigned opsize, uint64_t next);
enum x transfer_far_ret(struct cpu *cpu, unsigned opsize, uint16_t pop_bytes);
enum x transfer_iret(struct cpu *cpu, unsigned opsize, uint64_t next);
enum x transfer_syscall(struct cpu *cpu, uint64_t next);
enum x transfer_sysret(struct cpu *cpu, unsigned opsize);
enum x transfer_sysenter(struct cpu *cpu);
enum x transfer_sysexit(struct cpu *cpu, unsigned opsize);
enum task_switch_source { TASK_SWITCH_JMP, TASK_SWITCH_CALL, TASK_SWITCH_IRET, TASK_SWITCH_GATE };
enum x transfer_task_switch(struct cpu *cpu, uint16_t tss_selector, enum task_switch_source source, uint64_t next,
			    bool has_error, uint32_t error);
/* INT n, INT3, INTO, INT1 as instructions, all rules (v8086 with VME and IOPL, gate DPL). */
enum x transfer_int(struct cpu *cpu, enum event_type type, uint8_t vector, uint64_t next);
/* May this vCPU touch ports [port, port+size)? IOPL and the TSS's I/O permission bitmap; #GP(0) if not. */
enum x transfer_io_permission(struct cpu *cpu, uint16_t port, unsigned size);

/* ---- control registers, MSRs: system.c, msr.c ---- */
enum x cpu_read_cr(struct cpu *cpu, unsigned n, uint64_t *value); /* 0 2 3 4 8 */
enum x cpu_write_cr(struct cpu *cpu, unsigned n, uint64_t value); /* all checks and side effects, TLB flushes */
enum x cpu_read_dr(struct cpu *cpu, unsigned n, uint64_t *value);
enum x cpu_write_dr(struct cpu *cpu, unsigned n, uint64_t value);
enum x cpu_xsetbv(struct cpu *cpu, uint32_t index, uint64_t value);
enum x cpu_invlpg(struct cpu *cpu, uint64_t linear);
enum x cpu_invpcid(struct cpu *cpu, uint64_t type, uint64_t pcid, uint64_t linear);
/* POPF / IRET rule: which of `value`'s bits may be loaded at this CPL and IOPL; opsize 2, 4, 8. */
void cpu_write_rflags_user(struct cpu *cpu, uint64_t value, unsigned opsize);
enum x msr_read(struct cpu *cpu, uint32_t msr, uint64_t *value);
enum x msr_write(struct cpu *cpu, uint32_t msr, uint64_t value);
uint64_t cpu_tsc(struct cpu *cpu); /* what RDTSC gives */

/* Hardware breakpoints: DR7-enabled execution / data / I/O matches set db_pending or raise. */
bool debug_exec_match(const struct cpu *cpu, uint64_t linear, uint64_t *dr6_bits);
uint64_t debug_data_match(const struct cpu *cpu, uint64_t linear, unsigned size, bool write); /* DR6 bits */
uint64_t debug_io_match(const struct cpu *cpu, uint16_t port, unsigned size);
static inline bool debug_armed(const struct cpu *cpu) { return cpu->dr[7] & 0xff; }

#endif
