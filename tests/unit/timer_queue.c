/*
 * The timer queue: order, re-arming, cancelling, the budget of one run, and the timerfd.
 */
#include "util/timer.h"

#include <poll.h>
#include <unistd.h>

#include "dev_fixture.h"

#define MANY 500

struct probe {
	struct timer timer;
	uint64_t fired_at;
	unsigned fired;
	uint64_t rearm; /* ns after the deadline; 0: once */
};

static uint64_t last_deadline;
static bool ordered = true;

static void fire(void *opaque)
{
	struct probe *p = opaque;

	if (p->timer.deadline < last_deadline)
		ordered = false;
	last_deadline = p->timer.deadline;
	p->fired++;
	p->fired_at = timer_queue_now(queue);
	if (p->rearm)
		timer_arm(&p->timer, p->timer.deadline + p->rearm);
}

static void random_order(void)
{
	static struct probe probe[MANY];
	static uint64_t wanted[MANY];

	fixture_start();
	for (unsigned i = 0; i < MANY; i++) {
		wanted[i] = 1000 * SECOND + random64() % SECOND;
		timer_init(&probe[i].timer, queue, fire, &probe[i]);
		timer_arm(&probe[i].timer, wanted[i]);
	}
	for (unsigned i = 0; i < MANY; i++) { /* some move, some go */
		if (i % 3 == 0) {
			wanted[i] = 1000 * SECOND + random64() % SECOND;
			timer_arm(&probe[i].timer, wanted[i]);
		}
		if (i % 7 == 0)
			timer_cancel(&probe[i].timer);
	}
	CHECK(!timer_armed(&probe[0].timer) && timer_armed(&probe[1].timer));
	last_deadline = 0;
	pass(SECOND);
	CHECK(ordered);
	for (unsigned i = 0; i < MANY; i++) {
		CHECK_EQ(probe[i].fired, i % 7 != 0);
		CHECK(!timer_armed(&probe[i].timer));
		if (probe[i].fired)
			CHECK_EQ(probe[i].fired_at, wanted[i]);
	}
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	timer_cancel(&probe[0].timer); /* not armed: nothing */
	fixture_stop();
}

static void periodic(void)
{
	struct probe p = {.rearm = 10};

	fixture_start();
	timer_init(&p.timer, queue, fire, &p);
	timer_arm(&p.timer, 1000 * SECOND + 10);
	last_deadline = 0;
	pass(100);
	CHECK_EQ(p.fired, 10);
	/* Far behind, one run fires it once and not a million times. */
	stall(SECOND);
	CHECK_EQ(p.fired, 11);
	CHECK(timer_armed(&p.timer));
	fixture_stop();
	CHECK(!timer_armed(&p.timer)); /* the queue has let go of it */
}

static bool readable(struct timer_queue *q, int ms)
{
	struct pollfd fd = {.fd = timer_queue_fd(q), .events = POLLIN};

	return poll(&fd, 1, ms) == 1;
}

static void real_time(void)
{
	struct probe p = {0}, past = {0}, far = {0};
	uint64_t start = clock_now();

	queue = timer_queue_new();
	CHECK(queue != NULL);
	timer_init(&p.timer, queue, fire, &p);
	timer_init(&past.timer, queue, fire, &past);
	timer_init(&far.timer, queue, fire, &far);
	CHECK(!readable(queue, 0));
	timer_arm(&far.timer, UINT64_MAX - 1);
	timer_arm(&p.timer, start + 20 * MILLISECOND);
	last_deadline = 0;
	CHECK(!readable(queue, 0));
	CHECK(readable(queue, 2000));
	timer_queue_run(queue);
	CHECK_EQ(p.fired, 1);
	CHECK(p.fired_at >= start + 20 * MILLISECOND);
	CHECK(!readable(queue, 0));
	timer_arm(&past.timer, 0); /* due at once */
	last_deadline = 0;
	CHECK(readable(queue, 2000));
	timer_queue_run(queue);
	CHECK_EQ(past.fired, 1);
	/* A timer that moves back or goes away costs at most one wake-up for nothing. */
	timer_arm(&p.timer, clock_now() + 5 * MILLISECOND);
	timer_arm(&p.timer, clock_now() + 30 * MILLISECOND);
	last_deadline = 0;
	for (unsigned i = 0; i < 2 && p.fired == 1; i++) {
		CHECK(readable(queue, 2000));
		timer_queue_run(queue);
	}
	CHECK_EQ(p.fired, 2);
	CHECK_EQ(far.fired, 0);
	timer_cancel(&far.timer);
	timer_queue_free(queue);
}

int main(void)
{
	random_order();
	periodic();
	real_time();
	return summary();
}
