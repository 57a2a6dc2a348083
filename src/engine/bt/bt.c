/*
 * Engine bt: dynamic binary translation of unmodified guest code, x86-64 to x86-64. bt.h says how
 * translated code looks; here is the loop that finds blocks, enters them and deals with why they were
 * left, and the engine's table.
 *
 * What has no translation is done by the interpreter, one instruction at a time: sensitive instructions,
 * debug traps, interrupt shadows, instructions whose memory is not plain RAM. It raises all faults.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "engine/bt/bt.h"


/* ---- stores to translated code ---- */

/* By the vCPU itself, which is about to store; cache_sync deals with it when it has. */
static void hook_code_write(struct cpu *cpu, uint64_t offset, uint64_t len)
{
	struct bt *bt = bt_of(cpu);
	uint64_t end = offset + len;

	if (bt->write_count && bt->write_count <= WRITES) {
		uint64_t *start = &bt->write[bt->write_count - 1].offset, *length = &bt->write[bt->write_count - 1].len;

		if (!((*start ^ offset) & PAGE_MASK) && *start + *length <= (*start | ~PAGE_MASK) + 1) {
			end = *start + *length > end ? *start + *length : end;
			*start = *start < offset ? *start : offset;
			*length = end - *start;
			return;
		}
	}
	if (bt->write_count < WRITES) {
		bt->write[bt->write_count].offset = offset;
		bt->write[bt->write_count].len = len;
	}
	if (bt->write_count <= WRITES)
		bt->write_count++;
}

/* Its TLB may have entries for writing to pages that have got code since it rests. */
static void hook_access_begin(struct cpu *cpu) { cache_activate(bt_of(cpu)); }

static void hook_access_end(struct cpu *cpu) { cache_rest(bt_of(cpu)); }

static void hook_flushed(struct cpu *cpu, bool global_too)
{
	branch_flush(bt_of(cpu), global_too);
}

static void hook_flushed_page(struct cpu *cpu, uint64_t gva) { branch_flush_page(bt_of(cpu), gva); }

static void hook_switched(struct cpu *cpu) { branch_switch(bt_of(cpu)); }

static const struct cpu_engine_hooks hooks = {
	.code_write = hook_code_write,
	.access_begin = hook_access_begin,
	.access_end = hook_access_end,
	.tlb_flushed = hook_flushed,
	.tlb_flushed_page = hook_flushed_page,
	.tlb_switched = hook_switched,
};

/* By a device, on any thread. */
static void device_write(void *opaque, uint64_t offset, uint64_t len) { cache_invalidate(opaque, offset, len); }

/* ---- out of translated code ---- */

/* The link to what goes on at an instruction without groups. */
static unsigned one_by_one_link(const struct bt *bt, uint32_t id, unsigned insn)
{
	const struct link *l = &bt->links[bt_block(bt, id)->links];
	unsigned n = 0;

	while (l[n].insn != insn || !(l[n].key & KEY_ONE_BY_ONE))
		n++;
	return n;
}

/* An access missed the TLB. 0: it will hit now; else what to leave the block with. A group that is looked up
 * for writing before it has to be may not be writable yet: then it is as if it crossed into another page. */
uint32_t bt_miss(struct cpu *cpu, uint64_t address, uint32_t info, uint32_t id)
{
	bool write = MISS_WRITE(info), live = cpu->fpu_live, readable = false, crosses;
	unsigned size = MISS_SIZE(info);
	struct bt *bt = bt_of(cpu);
	bool faults = false;
	void *hva = NULL;

	crosses = (address & 0xfff) + size > PAGE_SIZE;
	cpu->engine_word[WORD_BLOCK] = id;
	cpu->engine_word[WORD_MISS_INFO] = info;
	if (!MISS_NO_FILL(info) && !crosses) {
		enum x x = mmu_fill(cpu, address, write && !MISS_READ_FIRST(info) ? MMU_WRITE : MMU_READ, &hva);

		if (live && !cpu->fpu_live)
			bt_fpu_enter(cpu);
		if (__builtin_expect(bt->write_count != 0, 0)) /* an A or D bit, in a page with code */
			return LEAVE_CODE(LEAVE_STOP, MISS_INSN(info), 0);
		if (x == X_OK && hva && mmu_tlb_hit(cpu, address, size, cpu->tlb_mode, write ? TLB_WRITE : TLB_READ)) {
			if (MISS_WIDE(info))
				mmu_wide_enter(cpu, address);
			return 0;
		}
		readable = x == X_OK && hva && MISS_READ_FIRST(info);
		/* nothing can come before this #PF: no #MF, no #GP of an operand that has to be aligned */
		faults = x == X_FAULT && cpu->fault.vector == VEC_PF && !MISS_GROUP(info) && size <= 8 &&
			 !bt_block(bt, id)->fpu;
	}
	if (readable)
		return LEAVE_CODE(LEAVE_LINK, one_by_one_link(bt, id, MISS_INSN(info)), 0);
	bt->stats.aborted++;
	if (!bt->unchained)
		return callout_access(bt, id, MISS_INSN(info), faults);
	return LEAVE_CODE(LEAVE_INTERPRET, MISS_INSN(info), 0);
}

/* A request came while `bt_miss` was away: the block is left where the access missed. */
static uint32_t on_miss_stop(struct cpu *cpu)
{
	return LEAVE_CODE(LEAVE_STOP, MISS_INSN((uint32_t)cpu->engine_word[WORD_MISS_INFO]), 0);
}

static bool canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }

/* The branch went nowhere: back to before it, for the interpreter to raise the fault. */
static bool branch_faults(struct bt *bt, const struct block *b, const struct link *l)
{
	struct cpu *cpu = bt->cpu;

	if ((b->key & KEY_CODE) != KEY_CODE64 || canonical(cpu->rip))
		return false;
	cpu->gpr[RSP] += (uint64_t)l->undo;
	cpu->rip = bt_insn_rip(bt, b, l->insn);
	return true;
}

/* What follows a block. */
enum next {
	NEXT_BLOCK,     /* at cpu->rip, in mode *key */
	NEXT_INTERPRET, /* the instruction at cpu->rip */
	NEXT_WINDOW,    /* the shadow of STI has ended */
	NEXT_REQUEST,
	NEXT_EXIT,      /* what cpu->exit says */
};

/* Where execution went when it left a block: sets cpu->rip. `from` and `link`: the way it took, to chain. */
static enum next left(struct bt *bt, uint32_t code, uint32_t *key, uint32_t *from, unsigned *link)
{
	struct cpu *cpu = bt->cpu;
	uint32_t id = (uint32_t)cpu->engine_word[WORD_BLOCK], index = LEAVE_INDEX(code);
	const struct block *b;
	const struct link *l;
	uint64_t base;

	if (LEAVE_KIND(code) == LEAVE_RETURN) {
		index = RETURN_FROM_LINK((uint32_t)cpu->engine_word[WORD_RETURN_FROM]);
		id = RETURN_FROM_BLOCK((uint32_t)cpu->engine_word[WORD_RETURN_FROM]);
	}
	b = bt_block(bt, id);
	l = &bt->links[b->links + index];
	base = bt_rip_base(bt, b);
	*from = NO_BLOCK;
	switch (LEAVE_KIND(code)) {
	case LEAVE_LINK:
		cpu->rip = base + l->target;
		*key = l->key;
		*from = id;
		*link = index;
		return branch_faults(bt, b, l) ? NEXT_INTERPRET : NEXT_BLOCK;
	case LEAVE_BRANCH:
	case LEAVE_RETURN:
		if (l->kind == LINK_PAGE)
			cpu->rip = base + l->target;
		*key = l->key;
		*from = id;
		*link = index;
		bt->stats.branch_misses++;
		return branch_faults(bt, b, l) ? NEXT_INTERPRET : NEXT_BLOCK;
	case LEAVE_INTERPRET:
		cpu->rip = bt_insn_rip(bt, b, index);
		bt->stats.interpreted_insn[LEAVE_INSN(code)]++;
		return NEXT_INTERPRET;
	case LEAVE_FPU:
		cpu->rip = base + b->rip;
		*key = b->key;
		bt_fpu_enter(cpu);
		return NEXT_BLOCK;
	case LEAVE_WINDOW:
		cpu->rip = base + l->target;
		*key = l->key;
		return NEXT_WINDOW;
	case LEAVE_STOP:
		cpu->rip = bt_insn_rip(bt, b, index);
		/* no interrupt may come between STI and the next instruction */
		return b->shadowed >> index & 1 ? NEXT_INTERPRET : NEXT_REQUEST;
	case LEAVE_LOOP:
		*key = bt_key(cpu);
		return callout_special(cpu) || (*key & KEY_INTERPRET) ? NEXT_INTERPRET : NEXT_BLOCK;
	case LEAVE_EXIT_WINDOW:
		cpu->exit = (struct exit){ .reason = EXIT_IRQ_WINDOW };
		return NEXT_EXIT;
	case LEAVE_EXIT:
		return NEXT_EXIT;
	case LEAVE_REQUEST:
	case LEAVE_ENTER: /* the routines know it, nobody else */
		break;
	}
	return NEXT_REQUEST;
}

static uint32_t enter(struct bt *bt, uint32_t key, uint32_t id)
{
	const struct block *b = bt_block(bt, id);

	if (b->fpu)
		bt_fpu_enter(bt->cpu);
	branch_select(bt, key & ~(uint32_t)KEY_ONE_BY_ONE);
	bt->stats.entered++;
	return bt->enter(bt->cpu, bt_host(bt, b->entry));
}

/* ---- the loop ---- */

/* One instruction. False: leave, *exit says why. */
static bool interpret(struct bt *bt, struct exit *exit)
{
	struct cpu *cpu = bt->cpu;

	bt->stats.interpreted++;
	if (interp_step(cpu) != X_OK) {
		*exit = cpu->exit;
		return false;
	}
	if (__builtin_expect(cpu->want_irq_window, 0) && cpu_window_open(cpu)) {
		exit->reason = EXIT_IRQ_WINDOW;
		return false;
	}
	return true;
}

/* Blocks, one after the other, until an instruction has to be interpreted. False: leave. */
static bool run_blocks(struct bt *bt, struct exit *exit)
{
	struct cpu *cpu = bt->cpu;
	uint32_t key = bt_key(cpu), id, from = NO_BLOCK;
	uint64_t resets = 0;
	bool direct = false;
	unsigned link = 0;

	if (key & KEY_INTERPRET)
		return true;
	cache_sync(bt);
	for (;;) {
		id = cache_find(bt, key);
		if (id == NO_BLOCK)
			return true;
		if (from) {
			if (direct)
				cache_chain(bt, from, link, id, resets);
			else
				branch_insert(bt, key, cpu->rip, id);
		}
		resets = __atomic_load_n(&bt->vm->resets, __ATOMIC_ACQUIRE);
		switch (left(bt, enter(bt, key, id), &key, &from, &link)) {
		case NEXT_BLOCK:
			direct = from && bt->links[bt_block(bt, from)->links + link].kind == LINK_DIRECT;
			cache_sync(bt);
			break;
		case NEXT_INTERPRET:
			return true;
		case NEXT_WINDOW:
			cache_sync(bt);
			if (!cpu_window_open(cpu))
				break;
			exit->reason = EXIT_IRQ_WINDOW;
			return false;
		case NEXT_EXIT:
			*exit = cpu->exit;
			return false;
		case NEXT_REQUEST:
			return false;
		}
	}
}

static void bt_run(struct cpu *cpu, struct exit *exit)
{
	struct bt *bt = bt_of(cpu);
	bool go_on = true;

	*exit = (struct exit){ .reason = EXIT_REQUEST };
	signal_enter(bt);
	cache_activate(bt);
	if (cpu->io.count)
		go_on = interpret(bt, exit);
	while (go_on) {
		uint32_t request = __atomic_load_n(&cpu->request, __ATOMIC_RELAXED);

		if (__builtin_expect(request & ~(uint32_t)REQUEST_ENGINE, 0))
			break;
		if (__builtin_expect(request, 0))
			__atomic_fetch_and(&cpu->request, ~(uint32_t)REQUEST_ENGINE, __ATOMIC_SEQ_CST);
		cache_sync(bt);
		if (__builtin_expect(callout_special(cpu), 0))
			bt->stats.interpreted_special++;
		else if (!run_blocks(bt, exit)) {
			if (exit->reason != EXIT_REQUEST)
				break;
			continue;
		}
		go_on = interpret(bt, exit);
	}
	cache_rest(bt);
	signal_leave(bt);
	cpu_fpu_leave(cpu);
}

/* ---- one block at a time ---- */

/* A string instruction with REP at cpu->rip, which interp_step may leave half done. */
static bool at_rep(struct cpu *cpu)
{
	uint64_t linear = cpu->mode == MODE_LONG ? cpu->rip : (uint32_t)(cpu->rip + cpu->seg[CS].base);
	struct fault fault = cpu->fault;
	struct insn insn;
	uint8_t bytes[INSN_MAX_LEN];
	unsigned got = 0;
	bool rep = mmu_fetch(cpu, linear, bytes, INSN_MAX_LEN, &got) == X_OK &&
		   insn_decode(&insn, bytes, got, cpu_code_bits(cpu)) == DECODE_OK &&
		   (insn_desc(&insn)->flags & INSN_STRING) && (insn.rep || insn.repne);

	cpu->fault = fault;
	return rep;
}

static enum x run_insn(struct cpu *cpu, unsigned *insns, bool *partial)
{
	uint64_t rip = cpu->rip, delivered = 0, after = 0;
	bool rep = at_rep(cpu);
	enum x x;

	for (unsigned v = 0; v < 32; v++)
		delivered += cpu->faults_delivered[v];
	x = interp_step(cpu);
	for (unsigned v = 0; v < 32; v++)
		after += cpu->faults_delivered[v];
	*partial = rep && x == X_OK && cpu->rip == rip && delivered == after;
	if (!*partial && (x == X_OK || cpu->exit.reason == EXIT_HLT))
		(*insns)++;
	return x;
}

/* The instruction of a block that it was left at by a link. */
static unsigned link_insn(const struct bt *bt, uint32_t id, uint32_t code)
{
	return bt->links[bt_block(bt, id)->links + LEAVE_INDEX(code)].insn;
}

/* What goes on one by one in the middle of a block still belongs to it. */
static enum x run_block(struct bt *bt, uint32_t key, uint32_t id, unsigned *insns, bool *partial)
{
	uint32_t code, from;
	unsigned link;

	while (id != NO_BLOCK) {
		code = enter(bt, key, id);
		enum next next = left(bt, code, &key, &from, &link);

		switch (next) {
		case NEXT_BLOCK:
		case NEXT_WINDOW:
			*insns += link_insn(bt, id, code);
			if (!(key & KEY_ONE_BY_ONE)) {
				(*insns)++;
				return X_OK;
			}
			id = cache_find(bt, key);
			break;
		case NEXT_INTERPRET:
			/* a branch that faults has its link in the code, anything else its own number */
			*insns += LEAVE_KIND(code) == LEAVE_BRANCH || LEAVE_KIND(code) == LEAVE_LINK ?
					  link_insn(bt, id, code) : LEAVE_INDEX(code);
			id = NO_BLOCK;
			break;
		case NEXT_REQUEST:
			*insns += LEAVE_KIND(code) == LEAVE_STOP ? LEAVE_INDEX(code) : 0;
			return X_OK;
		case NEXT_EXIT: /* of call-outs, which there are none of */
			return X_OK;
		}
	}
	return run_insn(bt->cpu, insns, partial);
}

enum x bt_run_block(struct cpu *cpu, unsigned *insns, bool *partial)
{
	struct bt *bt = bt_of(cpu);
	uint32_t key = bt_key(cpu), id = NO_BLOCK;
	enum x x;

	*insns = 0;
	*partial = false;
	signal_enter(bt);
	cache_activate(bt);
	if (!cpu->io.count && !callout_special(cpu) && !(key & KEY_INTERPRET))
		id = cache_find(bt, key);
	x = run_block(bt, key, id, insns, partial);
	cache_rest(bt);
	signal_leave(bt);
	return x;
}

/* ---- life ---- */

static int bt_probe(char *why, size_t size)
{
	if (__builtin_cpu_supports("bmi2"))
		return code_memory_probe(why, size);
	snprintf(why, size, "this processor, or this virtual machine's CPU model, has no BMI2");
	return -EOPNOTSUPP;
}

static void *bt_vm_create(struct memory *memory)
{
	struct bt_vm *vm;
	int err = signal_init();

	if (!err && !__builtin_cpu_supports("bmi2"))
		err = -EOPNOTSUPP;
	if (err) {
		errno = -err;
		return NULL;
	}
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	vm->memory = memory;
	if (getrandom(&vm->branch_empty, sizeof(vm->branch_empty), 0) != sizeof(vm->branch_empty))
		err = errno ? -errno : -EIO;
	vm->branch_empty = 1ull << 62 | vm->branch_empty >> 3;
	if (!err)
		err = cache_init(vm);
	if (err) {
		free(vm);
		errno = -err;
		return NULL;
	}
	routine_init(vm);
	memory->code_write = device_write;
	memory->code_write_opaque = vm;
	return vm;
}

/* Stores are nobody's business any more. */
static void forget_code_pages(struct memory *memory)
{
	for (uint64_t page = 0; page < memory->end >> PAGE_SHIFT; page++)
		if (__atomic_load_n(&memory->state[page], __ATOMIC_RELAXED) & PAGE_HAS_CODE)
			__atomic_fetch_and(&memory->state[page], (uint8_t)~PAGE_HAS_CODE, __ATOMIC_RELAXED);
}

static void bt_vm_destroy(void *engine_vm)
{
	struct bt_vm *vm = engine_vm;

	vm->memory->code_write = NULL;
	forget_code_pages(vm->memory);
	cache_free(vm);
	free(vm);
}

static int vcpu_create(struct bt_vm *vm, struct cpu *cpu, bool unchained)
{
	struct bt *bt;
	int err;

	if (vm->vcpus == VCPUS)
		return -ENOSPC;
	bt = calloc(1, sizeof(*bt));
	if (!bt)
		return -ENOMEM;
	*bt = (struct bt){ .cpu = cpu, .memory = vm->memory, .vm = vm, .unchained = unchained, .rw = vm->rw, .rx = vm->rx,
			   .blocks = vm->blocks, .marks = vm->marks, .links = vm->links, .leave = vm->leave,
			   .miss = vm->miss, .callout = vm->callout, .callout_last = vm->callout_last, .enter = vm->enter, .e.base = vm->rw, .active = NOT_ACTIVE };
	err = return_init(bt);
	if (err) {
		return_free(bt);
		free(bt);
		return err;
	}
	host_init(&bt->e);
	branch_init(bt);
	cpu->engine_word[WORD_ARITH] = EF_ARITH;
	cpu->engine_word[WORD_PUSHF] = RFLAGS_ALL & ~(uint64_t)(EF_ARITH | RFLAGS_VM | RFLAGS_RF);
	cpu->engine_word[WORD_MISS_FN] = (uint64_t)(uintptr_t)bt_miss;
	cpu->engine_word[WORD_STOP_FN] = (uint64_t)(uintptr_t)on_miss_stop;
	cpu->engine_word[WORD_CALLOUT_FN] = (uint64_t)(uintptr_t)callout_run;
#ifdef TSAN
	bt->enter = seen_enter;
	cpu->engine_word[WORD_MISS_FN] = (uint64_t)(uintptr_t)seen_miss;
	cpu->engine_word[WORD_CALLOUT_FN] = (uint64_t)(uintptr_t)seen_callout;
#endif
	cpu->engine_word[WORD_SELF] = (uint64_t)(uintptr_t)cpu;
	cpu->engine_state = bt;
	cpu->hooks = &hooks;
	lock_take(&vm->lock);
	vm->vcpu[vm->vcpus++] = bt;
	lock_release(&vm->lock);
	return 0;
}

int bt_vcpu_create_unchained(struct memory *memory, struct cpu *cpu)
{
	struct bt_vm *vm = bt_vm_create(memory);
	int err;

	if (!vm)
		return -errno;
	err = vcpu_create(vm, cpu, true);
	if (err)
		bt_vm_destroy(vm);
	return err;
}

static int bt_vcpu_create(void *engine_vm, struct cpu *cpu) { return vcpu_create(engine_vm, cpu, false); }

void bt_vcpu_destroy(struct cpu *cpu)
{
	struct bt *bt = bt_of(cpu);

	lock_take(&bt->vm->lock);
	for (unsigned n = 0; n < bt->vm->vcpus; n++)
		if (bt->vm->vcpu[n] == bt)
			bt->vm->vcpu[n] = NULL;
	lock_release(&bt->vm->lock);
	if (bt->unchained) /* it made one for itself */
		bt_vm_destroy(bt->vm);
	cpu->hooks = NULL;
	cpu->engine_state = NULL;
	return_free(bt);
	free(bt);
}

static void bt_kick(struct cpu *cpu) { signal_interrupt(bt_of(cpu), REQUEST_EXIT); }

/* ---- statistics ---- */

static const char *const names[INSN_COUNT] = {
#define MNEMONIC(id, name) [INSN_##id] = #id,
#include "cpu/insn_ids.def"
#undef MNEMONIC
};

static void print_share(FILE *out, const char *name, uint64_t part, uint64_t all)
{
	uint64_t tenths = all ? (part * 1000 + all / 2) / all : 0;

	fprintf(out, "    %-26s %" PRIu64 " (%" PRIu64 ".%" PRIu64 " %%)\n", name, part, tenths / 10, tenths % 10);
}

static void print_interpreted(const struct bt_stats *s, FILE *out)
{
	bool shown[INSN_COUNT] = { false };

	for (unsigned line = 0; line < 12; line++) {
		unsigned best = 0;

		for (unsigned i = 1; i < INSN_COUNT; i++)
			if (!shown[i] && s->interpreted_insn[i] > s->interpreted_insn[best])
				best = i;
		if (!best || shown[best])
			break;
		shown[best] = true;
		fprintf(out, "    %-26s %" PRIu64 "\n", names[best], s->interpreted_insn[best]);
	}
}

static void print_sum(const struct bt_vm *vm, const struct bt_stats *s, FILE *out)
{
	uint64_t sites = s->made.ident + s->made.inlined + s->made.callout, used = 0;

	for (unsigned r = 0; r < REGIONS; r++)
		used += vm->region[r].code % REGION_SIZE + vm->region[r].cold % REGION_SIZE - REGION_HOT;
	engine_print(out, "blocks translated", s->blocks);
	engine_print(out, "instructions translated", sites);
	print_share(out, "IDENT", s->made.ident, sites);
	print_share(out, "INLINE", s->made.inlined, sites);
	print_share(out, "CALL-OUT", s->made.callout, sites);
	engine_print(out, "TLB look-ups translated", s->made.tlb_lookups);
	engine_print(out, "  accesses that share one", s->made.shared);
	fprintf(out, "  %-28s %" PRIu64 " -> %" PRIu64 ", and %" PRIu64 " rarely run\n", "bytes, guest to host",
		s->guest_bytes, s->host_bytes, s->cold_bytes);
	fprintf(out, "  %-28s %" PRIu64 " of %u KiB\n", "translation cache", used >> 10, vm->regions * (REGION_SIZE >> 10));
	fprintf(out, "  %-28s %u KiB\n", "  in large pages", code_memory_large(&vm->cache) * (CODE_MEMORY_LARGE >> 10));
	engine_print(out, "  look-ups", s->lookups);
	engine_print(out, "  hits", s->lookups > s->blocks ? s->lookups - s->blocks : 0);
	engine_print(out, "  blocks evicted", s->evicted_blocks);
	engine_print(out, "  blocks invalidated", s->invalidated);
	engine_print(out, "  stores to code pages", s->code_writes);
	engine_print(out, "  pages unsettled", s->unsettled);
	engine_print(out, "  comparisons of them", s->compared);
	engine_print(out, "jumps chained", s->chained);
	engine_print(out, "jumps unchained", s->unchained);
	engine_print(out, "branch cache misses", s->branch_misses);
	engine_print(out, "branch cache flushes", s->branch_flushes);
	engine_print(out, "translated code entered", s->entered);
	engine_print(out, "kicks", s->kicks);
	engine_print(out, "  host instructions stepped", s->steps);
	engine_print(out, "accesses interpreted", s->aborted);
	engine_print(out, "instructions interpreted", s->interpreted);
	print_interpreted(s, out);
}

static void bt_print_stats(void *engine_vm, struct cpu *const *cpus, unsigned count, FILE *out)
{
	struct bt_vm *vm = engine_vm;
	struct bt_stats sum = vm->stats;

	for (unsigned i = 0; i < count; i++)
		for (unsigned n = 0; n < sizeof(sum) / sizeof(uint64_t); n++)
			((uint64_t *)&sum)[n] += ((const uint64_t *)&bt_of(cpus[i])->stats)[n];
	print_sum(vm, &sum, out);
}

static void bt_each_range(void *engine_vm, range_fn *tell, void *arg) { cache_each_range(engine_vm, tell, arg); }

int bt_reserve(void) { return code_memory_reserve(CACHE_SIZE, 1); }

const struct engine engine_bt = {
	.name = "bt",
	.help = "dynamic binary translation: unmodified guests on hosts without hardware assist",
	.probe = bt_probe,
	.reserve = bt_reserve,
	.vm_create = bt_vm_create,
	.vm_destroy = bt_vm_destroy,
	.vcpu_create = bt_vcpu_create,
	.vcpu_destroy = bt_vcpu_destroy,
	.run = bt_run,
	.kick = bt_kick,
	.print_stats = bt_print_stats,
	.each_range = bt_each_range,
};
