/*
 * The report on a difference: what it is, how the block began, its instructions, what was asked and
 * stored, and both sides' states. vCPU's thread; no vector state is live.
 */
#include "engine/check/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "util/log.h"

#define STATE_SIZE 8192u
#define LISTED_MAX 64u /* instructions, stores, blocks */

static void __attribute__((format(printf, 2, 3))) add(struct check *c, const char *fmt, ...)
{
	size_t used = strlen(c->report);
	va_list args;

	va_start(args, fmt);
	vsnprintf(c->report + used, REPORT_SIZE - used, fmt, args);
	va_end(args);
}

static void add_start(struct check *c)
{
	static const char *const names[GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
						     "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

	add(c, "before the block:\nrip %016" PRIx64 " rflags %08" PRIx64 "\n", c->start.rip, c->start.rflags);
	for (unsigned i = 0; i < GPR_COUNT; i++)
		add(c, "%-3s %016" PRIx64 "%c", names[i], c->start.gpr[i], i % 4 == 3 ? '\n' : ' ');
}

static void add_insns(struct check *c)
{
	unsigned from = c->steps > LISTED_MAX ? c->steps - LISTED_MAX : 0;

	add(c, "the block: bt completed %u instructions%s; the interpreter ran\n", c->insns,
	    c->partial ? " and a part of a REP" : "");
	for (unsigned i = from; i < c->steps; i++) {
		const struct trace *t = check_trace(c, i);
		struct insn insn;
		char text[96] = "(not to be read)", bytes[2 * INSN_MAX_LEN + 1] = "";

		if (check_peek(c, t->linear, t->bits, &insn)) {
			insn_disassemble(&insn, t->rip, text, sizeof text);
			for (unsigned k = 0; k < insn.len; k++)
				snprintf(bytes + 2 * k, 3, "%02x", insn.bytes[k]);
		}
		add(c, "%5u %016" PRIx64 "  %-30s  %s\n", i + 1, t->rip, bytes, text);
	}
	add(c, "then bt is at %016" PRIx64 ", the interpreter at %016" PRIx64 "\n", c->first->rip, c->second->rip);
}

static void add_stores(struct check *c, const char *who, const struct memory *m, const struct store_log *log)
{
	if (log->count)
		add(c, "stores through the monitor, %s:", who);
	for (unsigned i = 0; i < log->count && i < LISTED_MAX; i++)
		add(c, " %#" PRIx64 "+%u%s", memory_offset_to_gpa(m, (uint64_t)(log->store[i].hva - m->base)),
		    log->store[i].size, log->store[i].entry ? " (page table)" : "");
	if (log->count)
		add(c, "\n");
}

static void add_history(struct check *c)
{
	uint64_t n = c->stats.blocks < LISTED_MAX ? c->stats.blocks : LISTED_MAX;

	add(c, "the blocks before it, last first:");
	for (uint64_t i = 1; i <= n; i++)
		add(c, "%s%016" PRIx64, i % 6 == 1 ? "\n  " : " ", c->history[(c->stats.blocks - i) % HISTORY]);
	add(c, "\n(--log check compares all memory after every block)\n");
}

static void add_state(struct check *c, const char *who, struct cpu *cpu)
{
	static _Thread_local char text[STATE_SIZE];

	cpu_dump(cpu, text, sizeof text);
	add(c, "%s:\n%s", who, text);
}

void check_report(struct check *c)
{
	char rest;

	snprintf(c->error, sizeof c->error,
		 "bt and interp differ after %" PRIu64 " instructions, block at %#" PRIx64 ": %.160s", c->stats.insns,
		 c->start.rip, c->what);
	c->report[0] = 0;
	add(c, "%s\nblock %" PRIu64 "; difference (bt and interp): %s\n", c->error, c->stats.blocks, c->what);
	add_start(c);
	add_insns(c);
	add_stores(c, "bt", c->vm->memory, &c->first_log);
	add_stores(c, "interp", &c->vm->copy, &c->second_log);
	add_history(c);
	add_state(c, "bt", c->first);
	add_state(c, "interp", c->second);
	for (char *line = c->report; *line; line += strcspn(line, "\n") + (rest != 0)) {
		rest = line[strcspn(line, "\n")];
		log_write(LOG_CHECK, "%.*s", (int)strcspn(line, "\n"), line);
	}
}
