/*
 * What segment.c, interrupt.c, transfer.c, iret.c, task.c and syscall.c share: descriptors, and
 * stack frames that are built before anything is committed. Private to src/cpu.
 *
 * The rule for all of them: compute, write to memory, then commit to the vCPU. A step that returns
 * X_FAULT or X_EXIT has changed nothing but memory that running it again changes in the same way.
 *
 * `ext` in what follows is the EXT bit of an error code: 1 while an event that the program did not
 * ask for is delivered (SDM 3A 6.13), else 0.
 */
#ifndef RINGSIDE_PROTECTION_H
#define RINGSIDE_PROTECTION_H

#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "util/log.h"

/* A log line from where guest vector state may be live: printing would destroy it. */
#define CPU_LOG(cpu, topic, ...)                                                                                       \
	do {                                                                                                           \
		if (__builtin_expect(log_on(topic), 0)) {                                                              \
			cpu_fpu_leave(cpu);                                                                            \
			log_write(topic, __VA_ARGS__);                                                                 \
		}                                                                                                      \
	} while (0)

/* System descriptor types, SDM 3A table 3-2. In long mode the 32-bit numbers mean the 64-bit ones. */
enum {
	TYPE_TSS16 = 1,
	TYPE_LDT = 2,
	TYPE_TSS16_BUSY = 3,
	TYPE_CALL16 = 4,
	TYPE_TASK_GATE = 5,
	TYPE_INT16 = 6,
	TYPE_TRAP16 = 7,
	TYPE_TSS32 = 9,
	TYPE_TSS32_BUSY = 11,
	TYPE_CALL32 = 12,
	TYPE_INT32 = 14,
	TYPE_TRAP32 = 15,
};
#define TYPE_BUSY 2u

#define SELECTOR_RPL(s) ((s)&3u)
#define SELECTOR_NULL(s) (!((s)&0xfffcu))
#define SELECTOR_TI 4u

struct descriptor {
	uint64_t linear; /* where it is */
	uint64_t raw;
	uint64_t high; /* second half of a 16-byte one, else 0 */
	uint16_t selector;
	uint16_t attr; /* as in struct segment */
};

static inline uint16_t descriptor_attr(uint64_t raw) { return raw >> 40 & 0xf0ff; }
static inline unsigned descriptor_type(const struct descriptor *d) { return d->attr & (SEG_S | SEG_TYPE); }
static inline bool descriptor_is_code(const struct descriptor *d) { return (d->attr & SEG_S) && (d->attr & SEG_CODE); }
static inline bool descriptor_is_writable_data(const struct descriptor *d)
{
	return (d->attr & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
}
static inline bool descriptor_is_conforming(const struct descriptor *d)
{
	return descriptor_is_code(d) && (d->attr & SEG_CONFORMING);
}
static inline uint64_t descriptor_base(const struct descriptor *d)
{
	return (d->raw >> 16 & 0xffffff) | (d->raw >> 32 & 0xff000000) | d->high << 32;
}
static inline uint32_t descriptor_limit(const struct descriptor *d)
{
	uint32_t limit = (uint32_t)((d->raw & 0xffff) | (d->raw >> 32 & 0xf0000));

	return d->attr & SEG_G ? limit << 12 | 0xfff : limit;
}
/* Gates: */
static inline uint16_t gate_selector(const struct descriptor *d) { return (uint16_t)(d->raw >> 16); }
static inline uint64_t gate_offset(const struct descriptor *d)
{
	return (d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000) | d->high << 32;
}

static inline bool cpu_canonical(uint64_t linear) { return (uint64_t)((int64_t)(linear << 16) >> 16) == linear; }

/* Raises vector v with the error code that names a selector. */
static inline enum x raise_selector(struct cpu *cpu, enum vector v, uint16_t selector, unsigned ext)
{
	return cpu_raise_error(cpu, v, (selector & 0xfffcu) | ext);
}

/* Reads the descriptor of a selector that is not null; v(selector) when it is outside its table. */
enum x descriptor_read(struct cpu *cpu, uint16_t selector, struct descriptor *d, enum vector v, unsigned ext);
/* The upper half of a system descriptor or call gate in long mode; v(selector) when it is cut off by
 * the table's limit or not a descriptor's upper half. */
enum x descriptor_read_high(struct cpu *cpu, struct descriptor *d, enum vector v, unsigned ext);
/* Sets the accessed bit in memory, if it is clear. */
enum x descriptor_mark_accessed(struct cpu *cpu, struct descriptor *d);
/* Atomically sets and clears bits of byte 5 (type, DPL, P) in memory. */
enum x descriptor_change(struct cpu *cpu, const struct descriptor *d, uint8_t set, uint8_t clear);
/* What the segment register holds once d is loaded into it. */
struct segment descriptor_segment(const struct descriptor *d, uint16_t selector);

/* Checks a stack segment for privilege level cpl (RPL, DPL, writable, present): v(selector) or
 * #SS(selector). The selector is not null. */
enum x stack_segment_check(struct cpu *cpu, const struct descriptor *d, unsigned cpl, enum vector v, unsigned ext);
/* RIP in a code segment that is about to be loaded: #GP(0), EXT set if ext. */
enum x code_offset_check(struct cpu *cpu, const struct segment *cs, uint64_t rip, unsigned ext);
/* L and D together in long mode: #GP(selector). */
enum x code_bits_check(struct cpu *cpu, const struct descriptor *d, unsigned ext);
static inline bool code_is_64(const struct cpu *cpu, uint16_t attr) { return cpu_long_active(cpu) && (attr & SEG_L); }

/* Data segments that the new, outer CPL may not use become null. */
void segments_drop_privileged(struct cpu *cpu, unsigned cpl);
/* A data segment register made null. */
void segment_set_null(struct cpu *cpu, enum sreg s, uint16_t selector);
/* SS as a null selector at privilege level cpl, in 64-bit mode. */
struct segment segment_null_stack(uint16_t selector, unsigned cpl);
/* The fixed segments of SYSCALL, SYSENTER and their returns. */
struct segment segment_flat_code(uint16_t selector, unsigned dpl, bool is_64);
struct segment segment_flat_data(uint16_t selector, unsigned dpl);
struct segment segment_v8086(uint16_t selector);

/* A stack on which a frame is built or read. Nothing of it is in the vCPU until the caller commits. */
struct stack {
	struct segment ss;
	uint64_t sp;
	unsigned bits;  /* 16, 32, 64 */
	unsigned flags; /* for mmu_*: MMU_SUPERVISOR where CPL is 3 still and the stack is an inner ring's */
	uint32_t error; /* error code of its #SS */
};
struct stack stack_current(const struct cpu *cpu);
enum x stack_push(struct cpu *cpu, struct stack *st, uint64_t value, unsigned size);
enum x stack_pop(struct cpu *cpu, struct stack *st, uint64_t *value, unsigned size);
/* `size` bytes at sp, without moving it. */
enum x stack_peek(struct cpu *cpu, const struct stack *st, uint64_t offset, uint64_t *value, unsigned size);
void stack_drop(struct stack *st, uint64_t size);                   /* moves sp up */
void stack_commit(struct cpu *cpu, const struct stack *st);         /* SS and (R/E)SP */
void stack_commit_pointer(struct cpu *cpu, const struct stack *st); /* (R/E)SP alone */

/* SS:(E)SP of an inner ring from the current TSS, checked: #TS, #SS(selector). In long mode RSP only
 * (ist 1-7, or 0 for RSPn), SS null. */
enum x tss_inner_stack(struct cpu *cpu, unsigned cpl, unsigned ist, struct stack *st, unsigned ext);

/* What RET and IRET check of a code selector that they pop (RPL is the CPL to return to), and of the
 * SS that goes with it: #GP(0), #GP(selector), #NP(selector), #SS(selector). */
enum x return_code_check(struct cpu *cpu, uint16_t selector, struct descriptor *d);
enum x return_stack_check(struct cpu *cpu, uint16_t selector, const struct descriptor *cs, struct segment *ss);
unsigned return_stack_bits(const struct cpu *cpu, const struct descriptor *cs, const struct segment *ss);

/* The hardware task switch; `tss` is the new task's descriptor, its type checked, and that it is
 * present. The old task is saved with RIP `next` and these flags. X_FAULT with cpu->tr unchanged:
 * nothing happened; otherwise the fault is one of the new task's, before its first instruction. */
struct task_event {
	uint64_t next, flags;
	bool has_error; /* pushed on the new task's stack */
	uint32_t error;
	unsigned ext;
};
enum x task_switch(struct cpu *cpu, const struct descriptor *tss, enum task_switch_source source,
		   const struct task_event *e);

/* Delivery through the IVT or the IDT of one event; X_FAULT leaves what it raised in cpu->fault. */
struct event {
	enum event_type type;
	uint8_t vector;
	bool has_error;
	uint32_t error;
	bool resume;  /* a fault: RF is set in the saved flags, the instruction will run again */
	uint64_t rip; /* to save */
};
enum x interrupt_deliver(struct cpu *cpu, const struct event *e);

#endif
