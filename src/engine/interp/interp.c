/*
 * The reference engine: fetch, decode (with a cache), check, dispatch, retire; and its run loop.
 *
 * Everything is on the vCPU's thread. The decode cache belongs to the thread: an entry says what
 * given bytes at a given address mean in a given mode, and the bytes are compared every time, so
 * it never has to be told of anything. SDM 3A 6.6-6.8 (interrupt shadows, RF), 18 (debug).
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/code_memory.h"
#include "engine/interp/interp.h"
#include "engine/interp/hostfault.h"
#include "engine/interp/stub.h"
#include "util/log.h"

interp_fn *const interp_handlers[INSN_COUNT] = {
#define HANDLER(id, fn) [INSN_##id] = fn,
#include "engine/interp/handlers.def"
#undef HANDLER
};

/* ---- checks before a handler ---- */

#define VECTOR_FLAGS (INSN_X87 | INSN_MMX | INSN_SSE | INSN_AVX | INSN_AVX512)

/* What does this instruction on this vCPU. Encodings of newer instructions that older processors
 * run as something else do so here too. */
static interp_fn *handler_of(const struct cpu *cpu, const struct insn *insn)
{
	const struct insn_desc *desc = insn_desc(insn);
	interp_fn *fn = interp_handlers[insn->id];
	if (!cpu_has(cpu, desc->feature)) {
		switch (insn->id) {
		case INSN_LZCNT:
			return alu_bsr;
		case INSN_TZCNT:
			return alu_bsf;
		case INSN_VMCALL:
		case INSN_VMMCALL:
		case INSN_WBNOINVD:
		case INSN_CLDEMOTE:
		case INSN_PREFETCHW:
		case INSN_PREFETCHWT1:
			return fn;
		default:
			return system_ud;
		}
	}
	if (fn)
		return fn;
	return desc->xlate == XLATE_IDENT || (desc->flags & VECTOR_FLAGS) ? vector_execute : system_ud;
}

static bool needs_checks(const struct insn *insn)
{
	return insn->lock || (insn_desc(insn)->flags & (VECTOR_FLAGS | INSN_PRIVILEGED | INSN_NOT_REAL));
}

static bool lock_allowed(const struct insn *insn)
{
	if (insn->id == INSN_MOV_CR) /* LOCK MOV CR0 is another name of CR8; the decoder has seen to it */
		return true;
	return (insn_desc(insn)->flags & INSN_LOCKABLE) && insn->operand[0].kind == OPERAND_MEM;
}

static enum x check_vector(struct cpu *cpu, const struct insn *insn)
{
	enum x x = fpu_check(cpu, insn);
	bool from_memory = (insn->id == INSN_CVTPI2PS || insn->id == INSN_CVTPI2PD) && insn->mem_index_of >= 0;
	/* no MMX register: whether a pending x87 exception counts is for the host to say, when it runs it */
	if (x == X_FAULT && from_memory && cpu->fault.vector == VEC_MF)
		return X_OK;
	return x;
}

/* #UD before #NM before #GP. */
static enum x check(struct cpu *cpu, const struct insn *insn)
{
	uint32_t flags = insn_desc(insn)->flags;
	if (insn->lock && !lock_allowed(insn))
		return cpu_raise(cpu, VEC_UD);
	if ((flags & INSN_NOT_REAL) && cpu_real_or_v86(cpu))
		return cpu_raise(cpu, VEC_UD);
	if (flags & VECTOR_FLAGS)
		TRY(check_vector(cpu, insn));
	if ((flags & INSN_PRIVILEGED) && cpu->cpl && insn->id != INSN_XSETBV) /* that has a #UD of its own first */
		return cpu_raise_error(cpu, VEC_GP, 0);
	return X_OK;
}

/* Runs a decoded instruction: X_OK (RIP at the next), X_JUMP (RIP set), X_FAULT, X_EXIT. */
static inline enum x execute(struct cpu *cpu, const struct insn *insn, interp_fn *fn, bool checks)
{
	cpu->io.next = 0;
	if (checks && fn != system_ud)
		TRY(check(cpu, insn));
	uint64_t next = next_rip(cpu, insn);
	enum x x = fn(cpu, insn);
	if (__builtin_expect(x == X_OK, 1))
		cpu->rip = next;
	else if (x == X_EXIT && cpu->exit.reason == EXIT_HLT)
		cpu->rip = next;
	else if (x != X_JUMP)
		return x;
	if (__builtin_expect(cpu->io.count, 0))
		cpu->io.count = cpu->io.next = 0;
	return x;
}

/* Shadows that the instruction sets stay set: whoever calls this, not interp_step, ends them. */
enum x interp_execute(struct cpu *cpu, const struct insn *insn)
{
	enum x x = execute(cpu, insn, handler_of(cpu, insn), needs_checks(insn));
	return x == X_JUMP ? X_OK : x;
}

/* ---- fetch and decode ---- */

#define DECODE_ENTRIES 16384

struct decoded {
	uint64_t linear;
	uint64_t low, high, mask_low, mask_high; /* the instruction's bytes */
	interp_fn *fn;
	uint8_t bits;
	bool checks;
	struct insn insn;
} __attribute__((aligned(64)));

struct decode_cache {
	struct decoded entry[DECODE_ENTRIES];
};

static __thread struct decode_cache *decode_cache;
static __thread const struct cpuid_table *decode_cpuid; /* handlers were chosen by it */
static pthread_key_t decode_cache_key;
static pthread_once_t decode_cache_once = PTHREAD_ONCE_INIT;

static void decode_cache_free(void *cache) { munmap(cache, sizeof(struct decode_cache)); }

static void decode_cache_key_create(void)
{
	pthread_key_create(&decode_cache_key, decode_cache_free);
}

static struct decode_cache *decode_cache_get(const struct cpu *cpu)
{
	struct decode_cache *cache = decode_cache;
	if (__builtin_expect(cache && decode_cpuid == cpu->cpuid, 1))
		return cache;
	if (cache) {
		for (unsigned i = 0; i < DECODE_ENTRIES; i++)
			cache->entry[i].bits = 0;
	} else {
		pthread_once(&decode_cache_once, decode_cache_key_create);
		/* Fresh pages, of zeroes: an engine that interprets little touches little of it. */
		cache = mmap(NULL, sizeof(*cache), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (cache == MAP_FAILED)
			return NULL;
		pthread_setspecific(decode_cache_key, cache);
		decode_cache = cache;
	}
	decode_cpuid = cpu->cpuid;
	return cache;
}

static inline struct decoded *decode_entry(struct decode_cache *cache, uint64_t linear)
{
	return &cache->entry[(linear ^ linear >> 14) & (DECODE_ENTRIES - 1)];
}

static inline uint64_t low_bytes(unsigned n)
{
	return n >= 8 ? ~0ull : (1ull << n * 8) - 1;
}

static inline bool same_bytes(const struct decoded *d, const void *p)
{
	if ((host_load(p, 8) ^ d->low) & d->mask_low)
		return false;
	return !d->mask_high || !((host_load((const uint8_t *)p + 8, 8) ^ d->high) & d->mask_high);
}

static enum x decode(struct cpu *cpu, uint64_t linear, unsigned bits, const uint8_t buf[16], unsigned got, bool cut,
		     struct decoded *d)
{
	d->bits = 0;
	switch (insn_decode(&d->insn, buf, got, bits)) {
	case DECODE_OK:
		break;
	case DECODE_INVALID:
		return cpu_raise(cpu, VEC_UD);
	case DECODE_TOO_LONG:
		return cpu_raise_error(cpu, VEC_GP, 0);
	case DECODE_SHORT: {
		uint8_t more;
		if (!cut && got < INSN_MAX_LEN) /* the page that holds the rest faults */
			TRY(mmu_fetch(cpu, linear + got, &more, 1, &got));
		return cpu_raise_error(cpu, VEC_GP, 0);
	}
	}
	unsigned len = d->insn.len;
	d->linear = linear;
	d->low = host_load(buf, 8);
	d->high = host_load(buf + 8, 8);
	d->mask_low = low_bytes(len);
	d->mask_high = len > 8 ? low_bytes(len - 8) : 0;
	d->fn = handler_of(cpu, &d->insn);
	d->checks = needs_checks(&d->insn);
	d->bits = (uint8_t)bits;
	return X_OK;
}

static enum x fetch_slow(struct cpu *cpu, uint64_t linear, unsigned bits, struct decoded *d)
{
	uint8_t buf[16] = { 0 };
	unsigned want = INSN_MAX_LEN, got;
	if (bits != 64) {
		uint64_t room = (uint64_t)cpu->seg[CS].limit - cpu->rip + 1;
		if (cpu->rip > cpu->seg[CS].limit)
			return cpu_raise_error(cpu, VEC_GP, 0);
		if (room < want)
			want = (unsigned)room;
	} else if (!is_canonical(linear)) {
		return cpu_raise_error(cpu, VEC_GP, 0);
	}
	TRY(mmu_fetch(cpu, linear, buf, want, &got));
	if (d->bits == bits && d->linear == linear && d->insn.len <= got && same_bytes(d, buf))
		return X_OK;
	return decode(cpu, linear, bits, buf, got, got == want && want < INSN_MAX_LEN, d);
}

/* The decoded instruction at RIP; `spare` is used when there is no cache. */
static inline enum x fetch(struct cpu *cpu, struct decoded *spare, struct decoded **out)
{
	struct decode_cache *cache = decode_cache_get(cpu);
	uint64_t linear = cpu->rip;
	unsigned bits = cpu_code_bits(cpu);
	if (cpu->mode != MODE_LONG)
		linear = (uint32_t)(linear + cpu->seg[CS].base);
	enum tlb_mode mode = cpu->cpl == 3 ? TLB_USER : cpu->cr4 & CR4_SMEP ? TLB_KERNEL : TLB_KERNEL_USER;
	struct decoded *d = spare;
	if (__builtin_expect(cache != NULL, 1))
		d = decode_entry(cache, linear);
	else
		d->bits = 0;
	*out = d;
	if (__builtin_expect(d->linear == linear && d->bits == bits, 1)) {
		const void *p = mmu_tlb_hit(cpu, linear, 16, mode, TLB_FETCH);
		if (__builtin_expect(p && same_bytes(d, p), 1) &&
		    (bits == 64 || cpu->rip + d->insn.len - 1 <= cpu->seg[CS].limit)) {
			const struct decoded *next = decode_entry(cache, linear + d->insn.len);
			__builtin_prefetch(next);
			__builtin_prefetch(&next->insn.opsize);
			return X_OK;
		}
	}
	return fetch_slow(cpu, linear, bits, d);
}

/* ---- one step ---- */

static void log_insn(struct cpu *cpu, const struct insn *insn)
{
	char text[96];
	cpu_fpu_leave(cpu); /* printf may use vector registers */
	insn_disassemble(insn, cpu->rip, text, sizeof(text));
	log_write(LOG_INTERP, "%04x:%016llx %s", cpu->seg[CS].selector, (unsigned long long)cpu->rip, text);
}

/* Delivers cpu->fault; the instruction's I/O is then done for good. */
static enum x deliver(struct cpu *cpu)
{
	TRY(cpu_deliver_fault(cpu));
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	cpu->io.count = cpu->io.next = 0;
	return X_OK;
}

/* The #DB trap that became due, unless a MOV SS holds it back. */
static enum x deliver_debug_trap(struct cpu *cpu)
{
	if (!cpu->db_pending || cpu->mov_ss_shadow)
		return X_OK;
	cpu_raise_debug(cpu, cpu->db_pending);
	TRY(deliver(cpu));
	cpu->db_pending = 0;
	return X_OK;
}

/* TF was set when the instruction began: is there a trap after it? Not after what clears TF itself
 * on the way into a handler. */
static bool single_steps(const struct cpu *cpu, const struct insn *insn)
{
	switch (insn->id) {
	case INSN_INT:
	case INSN_INT1:
	case INSN_INT3:
	case INSN_INTO:
	case INSN_SYSCALL:
		return cpu->rflags & RFLAGS_TF;
	default:
		return true;
	}
}

/* An instruction while something of the debug kind, or a shadow, is about. */
static enum x step_special(struct cpu *cpu)
{
	struct decoded spare, *d;
	TRY(deliver_debug_trap(cpu));
	uint64_t dr6, pending = cpu->db_pending, rf = cpu->rflags & RFLAGS_RF;
	bool tf = cpu->rflags & RFLAGS_TF, sti = cpu->sti_shadow, mov_ss = cpu->mov_ss_shadow;
	uint64_t linear = cpu->mode == MODE_LONG ? cpu->rip : (uint32_t)(cpu->rip + cpu->seg[CS].base);
	if (!rf && !mov_ss && debug_armed(cpu) && debug_exec_match(cpu, linear, &dr6)) {
		cpu_raise_debug(cpu, dr6);
		return deliver(cpu);
	}
	cpu->rflags &= ~(uint64_t)RFLAGS_RF;
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	enum x x = fetch(cpu, &spare, &d);
	if (x == X_OK) {
		if (__builtin_expect(log_on(LOG_INTERP), 0))
			log_insn(cpu, &d->insn);
		x = execute(cpu, &d->insn, d->fn, d->checks);
	}
	if (x == X_FAULT || (x == X_EXIT && cpu->exit.reason != EXIT_HLT)) {
		cpu->rflags |= rf;
		cpu->sti_shadow = sti;
		cpu->mov_ss_shadow = mov_ss;
		cpu->db_pending = pending;
		return x == X_FAULT ? deliver(cpu) : x;
	}
	cpu->insns++;
	if (x == X_JUMP && (insn_desc(&d->insn)->flags & INSN_STRING))
		cpu->rflags |= rf; /* still at the same instruction */
	if (tf && !cpu->mov_ss_shadow && single_steps(cpu, &d->insn))
		cpu->db_pending |= 1u << 14; /* DR6.BS */
	if (x == X_EXIT && !cpu->db_pending)
		return x;
	cpu->halted = false; /* a trap after HLT wakes it */
	return deliver_debug_trap(cpu);
}

/* What becomes of an instruction that ran as `x` says, while nothing special was about. */
static inline enum x retire(struct cpu *cpu, enum x x)
{
	if (__builtin_expect(x == X_OK || x == X_JUMP, 1)) {
		cpu->insns++;
		return X_OK;
	}
	if (x == X_EXIT) {
		cpu->insns += cpu->exit.reason == EXIT_HLT;
		return X_EXIT;
	}
	return interp_deliver(cpu);
}

static inline enum x step(struct cpu *cpu)
{
	struct decoded spare, *d;
	if (__builtin_expect((cpu->rflags & (RFLAGS_TF | RFLAGS_RF)) || debug_armed(cpu) || cpu->db_pending ||
				     cpu->sti_shadow || cpu->mov_ss_shadow || log_on(LOG_INTERP),
			     0))
		return step_special(cpu);
	enum x x = fetch(cpu, &spare, &d);
	if (__builtin_expect(x == X_OK, 1))
		x = execute(cpu, &d->insn, d->fn, d->checks);
	return retire(cpu, x);
}

void interp_prepare(struct cpu *cpu)
{
	cpu_fpu_leave(cpu);
	decode_cache_get(cpu);
	stub_prepare();
}

int interp_reserve(unsigned threads) { return stub_reserve(threads); }

enum x interp_step(struct cpu *cpu)
{
	return step(cpu);
}

enum x interp_deliver(struct cpu *cpu)
{
	cpu->db_pending = 0;
	return deliver(cpu);
}

enum x interp_run_decoded(struct cpu *cpu, const struct insn *insn)
{
	enum x x;

	if (__builtin_expect(log_on(LOG_INTERP), 0))
		return step(cpu);
	x = execute(cpu, insn, handler_of(cpu, insn), needs_checks(insn));
	return retire(cpu, x);
}

/* ---- the engine ---- */

static void *interp_vm_create(struct memory *memory)
{
	hostfault_install();
	return memory; /* no state of its own; not NULL */
}

static void interp_vm_destroy(void *engine_vm)
{
	(void)engine_vm;
}

static int interp_vcpu_create(void *engine_vm, struct cpu *cpu)
{
	(void)engine_vm;
	cpu->hooks = NULL;
	cpu->engine_state = NULL;
	return 0;
}

static void interp_vcpu_destroy(struct cpu *cpu)
{
	(void)cpu;
}

static void interp_run(struct cpu *cpu, struct exit *exit)
{
	*exit = (struct exit){ .reason = EXIT_REQUEST };
	do {
		if (__builtin_expect(step(cpu) != X_OK, 0)) {
			*exit = cpu->exit;
			break;
		}
		if (__builtin_expect(cpu->want_irq_window, 0) && cpu_window_open(cpu)) {
			exit->reason = EXIT_IRQ_WINDOW;
			break;
		}
	} while (!__atomic_load_n(&cpu->request, __ATOMIC_RELAXED));
	cpu_fpu_leave(cpu);
}

static void interp_kick(struct cpu *cpu)
{
	__atomic_fetch_or(&cpu->request, REQUEST_EXIT, __ATOMIC_SEQ_CST);
}

static void interp_print_stats(void *engine_vm, struct cpu *const *cpus, unsigned count, FILE *out)
{
	uint64_t insns = 0;
	(void)engine_vm;
	for (unsigned i = 0; i < count; i++)
		insns += cpus[i]->insns;
	fprintf(out, "  %-28s %llu\n", "instructions interpreted", (unsigned long long)insns);
}

const struct engine engine_interp = {
	.name = "interp",
	.help = "the reference: interprets one instruction after the other",
	.probe = code_memory_probe,
	.vm_create = interp_vm_create,
	.vm_destroy = interp_vm_destroy,
	.vcpu_create = interp_vcpu_create,
	.vcpu_destroy = interp_vcpu_destroy,
	.run = interp_run,
	.kick = interp_kick,
	.print_stats = interp_print_stats,
};
