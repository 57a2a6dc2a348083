/*
 * What the two sides ask of the machine: the first really asks, the second gets the recorded answers.
 *
 * vCPU's thread; vm->lock is given up while the machine is asked, since it may want a lock that is
 * held by somebody who writes to RAM. Only the time stamp counter is asked for with it held.
 */
#include "engine/check/check.h"

#include <stdlib.h>

#include "cpu/fpu.h"

static const char *const ask_names[] = {
	[ASK_TSC] = "the time stamp counter", [ASK_GET_TPR] = "CR8", [ASK_SET_TPR] = "a write of CR8",
	[ASK_GET_APIC_BASE] = "the APIC base", [ASK_SET_APIC_BASE] = "a write of the APIC base",
	[ASK_X2APIC_READ] = "an x2APIC register", [ASK_X2APIC_WRITE] = "a write of an x2APIC register",
	[ASK_PV_READ] = "a paravirtual MSR", [ASK_PV_WRITE] = "a write of a paravirtual MSR",
	[ASK_HYPERCALL] = "a hypercall",
};

/* ---- the first side ---- */

/* Outside of blocks nothing is noted, nor what the machine asks the processor in turn while it answers,
 * nor what other threads ask (the local APIC's timer wants to know the guest's time). */
static bool noting(const struct check *c)
{
	return pthread_equal(pthread_self(), c->thread) && c->running && !c->asking;
}

/* Where to note a question; NULL: nowhere. */
static struct ask *record(struct check *c, enum ask_kind kind, uint64_t in0, uint64_t in1)
{
	static struct ask nowhere;

	if (!noting(c))
		return NULL;
	if (c->ask_count == ASKS_MAX) {
		c->ask_overflow = true;
		return &nowhere;
	}
	c->ask[c->ask_count] = (struct ask){.kind = kind, .in = {in0, in1}};
	return &c->ask[c->ask_count++];
}

static bool machine_enter(struct check *c)
{
	if (!noting(c))
		return false;
	cpu_fpu_leave(c->first);
	c->asking = true;
	pthread_mutex_unlock(&c->vm->lock);
	return true;
}

static void machine_leave(struct check *c, bool entered)
{
	if (!entered)
		return;
	pthread_mutex_lock(&c->vm->lock);
	c->asking = false;
}

static uint64_t first_tsc(void *opaque)
{
	struct check *c = opaque;
	struct ask *a = record(c, ASK_TSC, 0, 0);
	uint64_t tsc = c->env->tsc(c->env_opaque);

	if (a)
		a->out = tsc;
	return tsc;
}

static uint8_t first_get_tpr(void *opaque)
{
	struct check *c = opaque;
	struct ask *a = record(c, ASK_GET_TPR, 0, 0);

	bool entered = machine_enter(c);
	uint8_t tpr = c->env->get_tpr(c->env_opaque);
	machine_leave(c, entered);
	if (a)
		a->out = tpr;
	return tpr;
}

static void first_set_tpr(void *opaque, uint8_t cr8)
{
	struct check *c = opaque;

	record(c, ASK_SET_TPR, cr8, 0);
	bool entered = machine_enter(c);
	c->env->set_tpr(c->env_opaque, cr8);
	machine_leave(c, entered);
}

static uint64_t first_get_apic_base(void *opaque)
{
	struct check *c = opaque;
	struct ask *a = record(c, ASK_GET_APIC_BASE, 0, 0);

	bool entered = machine_enter(c);
	uint64_t base = c->env->get_apic_base(c->env_opaque);
	machine_leave(c, entered);
	if (a)
		a->out = base;
	return base;
}

static bool first_set_apic_base(void *opaque, uint64_t value)
{
	struct check *c = opaque;
	struct ask *a = record(c, ASK_SET_APIC_BASE, value, 0);

	bool entered = machine_enter(c);
	bool ok = c->env->set_apic_base(c->env_opaque, value);
	machine_leave(c, entered);
	if (a)
		a->ok = ok;
	return ok;
}

typedef bool read_fn(void *opaque, uint32_t msr, uint64_t *value);
typedef bool write_fn(void *opaque, uint32_t msr, uint64_t value);

static bool first_read(struct check *c, enum ask_kind kind, read_fn *read, uint32_t msr, uint64_t *value)
{
	struct ask *a = record(c, kind, msr, 0);

	bool entered = machine_enter(c);
	bool ok = read(c->env_opaque, msr, value);
	machine_leave(c, entered);
	if (a) {
		a->ok = ok;
		a->out = ok ? *value : 0;
	}
	return ok;
}

static bool first_write(struct check *c, enum ask_kind kind, write_fn *write, uint32_t msr, uint64_t value)
{
	struct ask *a = record(c, kind, msr, value);

	bool entered = machine_enter(c);
	bool ok = write(c->env_opaque, msr, value);
	machine_leave(c, entered);
	if (a)
		a->ok = ok;
	return ok;
}

static bool first_x2apic_read(void *opaque, uint32_t msr, uint64_t *value)
{
	struct check *c = opaque;

	return first_read(c, ASK_X2APIC_READ, c->env->x2apic_read, msr, value);
}

static bool first_x2apic_write(void *opaque, uint32_t msr, uint64_t value)
{
	struct check *c = opaque;

	return first_write(c, ASK_X2APIC_WRITE, c->env->x2apic_write, msr, value);
}

static bool first_pv_read(void *opaque, uint32_t msr, uint64_t *value)
{
	struct check *c = opaque;

	return first_read(c, ASK_PV_READ, c->env->pv_read, msr, value);
}

static bool first_pv_write(void *opaque, uint32_t msr, uint64_t value)
{
	struct check *c = opaque;

	return first_write(c, ASK_PV_WRITE, c->env->pv_write, msr, value);
}

static uint64_t first_hypercall(void *opaque, uint64_t nr, const uint64_t arg[4])
{
	struct check *c = opaque;
	struct ask *a = record(c, ASK_HYPERCALL, nr, arg[0]);

	for (unsigned i = 1; a && i < 4; i++)
		a->in[1 + i] = arg[i];
	bool entered = machine_enter(c);
	uint64_t result = c->env->hypercall(c->env_opaque, nr, arg);
	machine_leave(c, entered);
	if (a)
		a->out = result;
	return result;
}

/* ---- the second side ---- */

static void wrong(struct check *c, const char *asked, const char *expected)
{
	if (c->ask_wrong[0])
		return;
	cpu_fpu_leave(c->second); /* for snprintf */
	snprintf(c->ask_wrong, sizeof c->ask_wrong, "asks: the first side for %s, the second for %s", expected, asked);
}

/* What others wrote to RAM meanwhile. */
static void play_late_writes(struct check *c, unsigned ask)
{
	for (struct late_write *w = c->late; w; w = w->next)
		if (w->ask == ask) {
			cpu_fpu_leave(c->second); /* for memcpy */
			check_mirror_write(c->vm, w->offset, w->bytes, w->len);
		}
}

static const struct ask *replay(struct check *c, enum ask_kind kind, uint64_t in0, uint64_t in1, const uint64_t more[3])
{
	static const struct ask nothing;
	const struct ask *a = &c->ask[c->ask_next];
	bool same;

	if (c->ask_next >= c->ask_count) {
		wrong(c, ask_names[kind], "nothing");
		return &nothing;
	}
	same = a->kind == kind && a->in[0] == in0 && a->in[1] == in1;
	for (unsigned i = 0; more && i < 3; i++)
		same = same && a->in[2 + i] == more[i];
	if (!same) {
		wrong(c, a->kind == kind ? "the same with other operands" : ask_names[kind], ask_names[a->kind]);
		return &nothing;
	}
	play_late_writes(c, c->ask_next);
	c->ask_next++;
	c->stats.asks++;
	return a;
}

/* The translator may read the clock without asking; then nobody knows what it saw. */
static uint64_t second_tsc(void *opaque)
{
	struct check *c = opaque;

	if (c->ask_next < c->ask_count && c->ask[c->ask_next].kind == ASK_TSC)
		return replay(c, ASK_TSC, 0, 0, NULL)->out;
	c->clock_unasked = true;
	return c->env->tsc(c->env_opaque);
}

static uint8_t second_get_tpr(void *opaque) { return (uint8_t)replay(opaque, ASK_GET_TPR, 0, 0, NULL)->out; }
static void second_set_tpr(void *opaque, uint8_t cr8) { replay(opaque, ASK_SET_TPR, cr8, 0, NULL); }
static uint64_t second_get_apic_base(void *opaque) { return replay(opaque, ASK_GET_APIC_BASE, 0, 0, NULL)->out; }

static bool second_set_apic_base(void *opaque, uint64_t value)
{
	return replay(opaque, ASK_SET_APIC_BASE, value, 0, NULL)->ok;
}

static bool second_x2apic_read(void *opaque, uint32_t msr, uint64_t *value)
{
	const struct ask *a = replay(opaque, ASK_X2APIC_READ, msr, 0, NULL);

	*value = a->out;
	return a->ok;
}

static bool second_x2apic_write(void *opaque, uint32_t msr, uint64_t value)
{
	return replay(opaque, ASK_X2APIC_WRITE, msr, value, NULL)->ok;
}

static bool second_pv_read(void *opaque, uint32_t msr, uint64_t *value)
{
	const struct ask *a = replay(opaque, ASK_PV_READ, msr, 0, NULL);

	*value = a->out;
	return a->ok;
}

static bool second_pv_write(void *opaque, uint32_t msr, uint64_t value)
{
	return replay(opaque, ASK_PV_WRITE, msr, value, NULL)->ok;
}

static uint64_t second_hypercall(void *opaque, uint64_t nr, const uint64_t arg[4])
{
	return replay(opaque, ASK_HYPERCALL, nr, arg[0], arg + 1)->out;
}

/* ---- both ---- */

/* A function that the machine does not have stays absent. */
void check_env_init(struct check *c)
{
#define WRAP(name) \
	do { \
		c->first_env.name = c->env->name ? first_##name : NULL; \
		c->second_env.name = c->env->name ? second_##name : NULL; \
	} while (0)
	WRAP(tsc);
	WRAP(get_tpr);
	WRAP(set_tpr);
	WRAP(get_apic_base);
	WRAP(set_apic_base);
	WRAP(x2apic_read);
	WRAP(x2apic_write);
	WRAP(pv_read);
	WRAP(pv_write);
	WRAP(hypercall);
#undef WRAP
	c->late_end = &c->late;
}

void check_env_begin(struct check *c)
{
	c->ask_count = c->ask_next = 0;
	c->ask_overflow = c->clock_unasked = false;
	c->ask_wrong[0] = 0;
}

void check_env_end(struct check *c)
{
	while (c->late) {
		struct late_write *w = c->late;

		c->late = w->next;
		free(w);
	}
	c->late_end = &c->late;
	c->late_lost = false;
}

bool check_env_same(struct check *c)
{
	if (c->ask_wrong[0]) {
		snprintf(c->what, sizeof c->what, "%s", c->ask_wrong);
		return false;
	}
	if (c->ask_next < c->ask_count) {
		snprintf(c->what, sizeof c->what, "asks: the first side for %s, the second for nothing",
			 ask_names[c->ask[c->ask_next].kind]);
		return false;
	}
	return true;
}
