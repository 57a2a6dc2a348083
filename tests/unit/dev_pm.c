/*
 * ACPI fixed hardware: status and enable, SCI, the PM timer, sleep, GPEs.
 */
#include "dev/pm.h"

#include "dev_fixture.h"

static struct pm *pm;
static unsigned offs;

static void power_off(void *opaque)
{
	(void)opaque;
	offs++;
}

#define GPE0 (PM_BASE + 0x20)

static void start_with(const struct pm_layout *layout)
{
	static const struct pm_ops ops = {.power_off = power_off};

	fixture_start();
	offs = 0;
	pm = pm_new(&pio, queue, test_line(9), layout, &ops, NULL);
	CHECK_EQ(pm_base(pm), 0);
	pm_map(pm, PM_BASE);
}

static void start(void) { start_with(&pm_ich9); }

static void stop(void)
{
	pm_free(pm);
	fixture_stop();
}

static void power_button(void)
{
	start();
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 4), 0);
	pm_power_button(pm);
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 2), 0x100);
	CHECK_EQ(lines[9].level, 0);
	out(PM_BASE + PM1A_EVT + 2, 2, 0xffff);
	CHECK_EQ(lines[9].level, 1);
	CHECK_EQ(in(PM_BASE + PM1A_EVT + 2, 2), 0x721); /* what there is to enable */
	out(PM_BASE + PM1A_EVT, 2, 0xfeff);
	CHECK_EQ(lines[9].level, 1);
	out(PM_BASE + PM1A_EVT, 2, 0x100); /* a one clears */
	CHECK_EQ(lines[9].level, 0);
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 2), 0);
	out(PM_BASE + PM1A_EVT + 2, 1, 0); /* byte accesses */
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 4), 0x7000000);
	stop();
}

static void timer(void)
{
	uint32_t a, b;

	start();
	a = (uint32_t)in(PM_BASE + PM_TMR, 4);
	pass(SECOND);
	b = (uint32_t)in(PM_BASE + PM_TMR, 4);
	CHECK(b - a >= PM_TIMER_HZ && b - a <= PM_TIMER_HZ + 1);
	CHECK_EQ(in(PM_BASE + PM_TMR + 2, 2), b >> 16);
	CHECK_EQ(in(PM_BASE + PM_TMR + 1, 1), b >> 8 & 0xff);
	out(PM_BASE + PM_TMR, 4, 0);
	CHECK_EQ(in(PM_BASE + PM_TMR, 4), b);
	/* Its most significant bit changes every 2^31 ticks, 600 s. */
	out(PM_BASE + PM1A_EVT, 2, 0xffff);
	out(PM_BASE + PM1A_EVT + 2, 2, 1);
	uint64_t left = ((1ull << 31) - (b & 0x7fffffff)) * SECOND / PM_TIMER_HZ;
	pass(left - SECOND);
	CHECK_EQ(lines[9].level, 0);
	pass(2 * SECOND);
	CHECK_EQ(lines[9].level, 1);
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 2), 1);
	out(PM_BASE + PM1A_EVT, 2, 1);
	CHECK_EQ(lines[9].level, 0);
	pass(600 * SECOND);
	CHECK_EQ(lines[9].rises, 2);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX); /* until somebody clears it */
	out(PM_BASE + PM1A_EVT + 2, 2, 0);
	out(PM_BASE + PM1A_EVT, 2, 1);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	/* By polling alone */
	pass(601 * SECOND);
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 2), 1);
	CHECK_EQ(lines[9].level, 0);
	pm_reset(pm);
	CHECK_EQ(in(PM_BASE + PM1A_EVT, 4), 0);
	stop();
}

static void sleep_states(void)
{
	start();
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2), 1); /* SCI_EN: there is no legacy mode */
	out(PM_BASE + PM1A_CNT, 2, 0);
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2), 1);
	out(PM_BASE + PM1A_CNT, 2, PM_SLP_TYP_S5 << 10);
	CHECK_EQ(offs, 0);
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2), PM_SLP_TYP_S5 << 10 | 1);
	out(PM_BASE + PM1A_CNT, 2, 1 << 10 | 1 << 13); /* S1, which there is not */
	CHECK_EQ(offs, 0);
	out(PM_BASE + PM1A_CNT, 2, PM_SLP_TYP_S5 << 10 | 1 << 13 | 1);
	CHECK_EQ(offs, 1);
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2) & 1 << 13, 0); /* write-only */
	pm_reset(pm);
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2), 1);
	stop();
}

static void gpe(void)
{
	start();
	pm_gpe_raise(pm, 9);
	pm_gpe_raise(pm, 64);
	CHECK_EQ(in(GPE0, 8), 1 << 9);
	CHECK_EQ(lines[9].level, 0);
	out(GPE0 + 8, 8, 0xffffffffffffffff);
	CHECK_EQ(in(GPE0 + 8, 8), 0xffffffffffffffff);
	CHECK_EQ(lines[9].level, 1);
	out(GPE0 + 1, 1, 1); /* another one's */
	CHECK_EQ(lines[9].level, 1);
	out(GPE0 + 1, 1, 2);
	CHECK_EQ(lines[9].level, 0);
	pm_gpe_raise(pm, 63);
	CHECK_EQ(in(GPE0 + 7, 1), 0x80);
	pm_reset(pm);
	CHECK_EQ(in(GPE0, 8) | in(GPE0 + 8, 8), 0);
	CHECK_EQ(lines[9].level, 0);
	stop();
}

/* Two chip sets' layouts; the block moves. */
static void layouts(void)
{
	start_with(&pm_piix4);
	pm_gpe_raise(pm, 15);
	pm_gpe_raise(pm, 16); /* there are 16 */
	CHECK_EQ(in(PM_BASE + 0x0c, 4), 0x8000);
	out(PM_BASE + 0x0e, 2, 0x8001);
	CHECK_EQ(in(PM_BASE + 0x0c, 4), 0x80018000);
	CHECK_EQ(lines[9].level, 1);
	CHECK_EQ(in(PM_BASE + 0x30, 4), 0);
	pm_map(pm, 0xb000);
	CHECK_EQ(pm_base(pm), 0xb000);
	CHECK_EQ(in(PM_BASE + PM1A_CNT, 2), 0xffff);
	CHECK_EQ(in(0xb000 + PM1A_CNT, 2), 1);
	CHECK_EQ(in(0xb03c, 4), 0);
	CHECK_EQ(in(0xb040, 4), 0xffffffff);
	pm_map(pm, 0);
	CHECK_EQ(pio.count, 0);
	stop();
	start();
	CHECK_EQ(in(PM_BASE + 0x30, 4), 0x20); /* SMI_EN: firmware finds SMM taken care of */
	out(PM_BASE + 0x30, 4, 0x11);
	CHECK_EQ(in(PM_BASE + 0x30, 4), 0x31);
	CHECK_EQ(in(PM_BASE + 0x7c, 4), 0);
	stop();
}

int main(void)
{
	power_button();
	timer();
	sleep_states();
	gpe();
	layouts();
	start();
	abuse(&pio, PM_BASE, 0x80, 50000);
	stop();
	return summary();
}
