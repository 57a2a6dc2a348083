/*
 * ACPI fixed hardware. See pm.h.
 *
 * There is no legacy mode: FADT names no SMI command port, so SCI_EN is always set. S5 is the only
 * sleep state; other sleep types do nothing.
 *
 * Called under vm->lock. Source: ACPI specification 5.0, chapter 4.8.
 */
#include "dev/pm.h"

#include <errno.h>
#include <stdlib.h>

#include "mem/bus.h"
#include "util/log.h"
#include "util/timer.h"

/* PM1 status and enable */
#define PM1_TMR (1u << 0)
#define PM1_GBL (1u << 5)
#define PM1_PWRBTN (1u << 8)
#define PM1_SLPBTN (1u << 9)
#define PM1_RTC (1u << 10)
#define PM1_WAK (1u << 15) /* status only */
#define PM1_STATUS_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

/* PM1 control, low and high byte */
#define CNT_LOW_SCI_EN 0x01
#define CNT_LOW_BM_RLD 0x02
#define CNT_HIGH_SLP_TYP(v) ((v) >> 2 & 7)
#define CNT_HIGH_SLP_TYP_BITS 0x1c
#define CNT_HIGH_SLP_EN 0x20

#define NS_PER_S 1000000000ull
#define TIMER_MSB_SHIFT 31

struct pm {
	uint16_t status, enable;
	uint8_t control[2];
	uint32_t gpe_status, gpe_enable;
	uint64_t msb_changes; /* of the timer, that are in `status` */
	struct irq_line sci;
	struct timer_queue *timers;
	struct timer overflow; /* armed while the timer's interrupt is enabled */
	const struct pm_ops *ops;
	void *opaque;
};

/* ---- PM timer ---- */

static uint64_t timer_ticks(const struct pm *pm)
{
	return (uint64_t)((unsigned __int128)timer_queue_now(pm->timers) * PM_TIMER_HZ / NS_PER_S);
}

static void update(struct pm *pm)
{
	uint64_t changes = timer_ticks(pm) >> TIMER_MSB_SHIFT;

	if (changes != pm->msb_changes) {
		pm->msb_changes = changes;
		pm->status |= PM1_TMR;
	}
	if ((pm->enable & PM1_TMR) && !(pm->status & PM1_TMR)) {
		unsigned __int128 tick = (unsigned __int128)(changes + 1) << TIMER_MSB_SHIFT;

		timer_arm(&pm->overflow, (uint64_t)((tick * NS_PER_S + PM_TIMER_HZ - 1) / PM_TIMER_HZ));
	} else {
		timer_cancel(&pm->overflow);
	}
	irq_set(&pm->sci, (pm->status & pm->enable) || (pm->gpe_status & pm->gpe_enable));
}

static void overflow_fired(void *opaque)
{
	update(opaque);
}

/* ---- registers: all but the timer are taken byte by byte ---- */

static uint64_t event_read(void *dev, uint64_t offset, unsigned size)
{
	struct pm *pm = dev;

	(void)size;
	update(pm);
	uint16_t reg = offset < 2 ? pm->status : pm->enable;
	return reg >> (offset & 1) * 8 & 0xff;
}

static void event_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pm *pm = dev;
	unsigned shift = (offset & 1) * 8;
	uint16_t v = (uint16_t)(value << shift), byte = (uint16_t)(0xff << shift);

	(void)size;
	update(pm);
	if (offset < 2)
		pm->status &= (uint16_t)~(v & PM1_STATUS_BITS); /* ones clear */
	else
		pm->enable = (pm->enable & (uint16_t)~byte) | (v & PM1_ENABLE_BITS);
	update(pm);
}

static uint64_t control_read(void *dev, uint64_t offset, unsigned size)
{
	(void)size;
	return ((struct pm *)dev)->control[offset];
}

static void control_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pm *pm = dev;

	(void)size;
	if (offset == 0) {
		pm->control[0] = CNT_LOW_SCI_EN | (value & CNT_LOW_BM_RLD);
		return;
	}
	pm->control[1] = value & CNT_HIGH_SLP_TYP_BITS;
	if (!(value & CNT_HIGH_SLP_EN))
		return;
	LOG(LOG_ACPI, "sleep type %u", (unsigned)CNT_HIGH_SLP_TYP(value));
	if (CNT_HIGH_SLP_TYP(value) == PM_SLP_TYP_S5)
		pm->ops->power_off(pm->opaque);
}

static uint64_t timer_read(void *dev, uint64_t offset, unsigned size)
{
	(void)size;
	return (uint32_t)timer_ticks(dev) >> offset * 8;
}

static uint64_t gpe_read(void *dev, uint64_t offset, unsigned size)
{
	struct pm *pm = dev;

	(void)size;
	return (offset < 4 ? pm->gpe_status : pm->gpe_enable) >> (offset & 3) * 8 & 0xff;
}

static void gpe_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pm *pm = dev;
	unsigned shift = (offset & 3) * 8;
	uint32_t v = (uint32_t)(value & 0xff) << shift;

	(void)size;
	if (offset < 4)
		pm->gpe_status &= ~v;
	else
		pm->gpe_enable = (pm->gpe_enable & ~(0xffu << shift)) | v;
	update(pm);
}

static const struct bus_ops event_ops = {.read = event_read, .write = event_write, .max_size = 1};
static const struct bus_ops control_ops = {.read = control_read, .write = control_write, .max_size = 1};
static const struct bus_ops timer_ops = {.read = timer_read, .max_size = 4};
static const struct bus_ops gpe_ops = {.read = gpe_read, .write = gpe_write, .max_size = 1};

/* ---- for the machine ---- */

void pm_power_button(struct pm *pm)
{
	pm->status |= PM1_PWRBTN;
	update(pm);
}

void pm_gpe_raise(struct pm *pm, unsigned event)
{
	if (event < 32)
		pm->gpe_status |= 1u << event;
	update(pm);
}

void pm_reset(struct pm *pm)
{
	pm->status = pm->enable = 0;
	pm->control[0] = CNT_LOW_SCI_EN;
	pm->control[1] = 0;
	pm->gpe_status = pm->gpe_enable = 0;
	pm->msb_changes = timer_ticks(pm) >> TIMER_MSB_SHIFT;
	update(pm);
}

struct pm *pm_new(struct bus *pio, struct timer_queue *timers, struct irq_line sci, const struct pm_ops *ops, void *opaque)
{
	struct pm *pm = calloc(1, sizeof *pm);
	int err;

	if (!pm)
		return NULL;
	pm->sci = sci;
	pm->timers = timers;
	pm->ops = ops;
	pm->opaque = opaque;
	timer_init(&pm->overflow, timers, overflow_fired, pm);
	pm_reset(pm);
	if ((err = bus_register(pio, PM1A_EVT, 4, &event_ops, pm, "pm1a-event")) ||
	    (err = bus_register(pio, PM1A_CNT, 2, &control_ops, pm, "pm1a-control")) ||
	    (err = bus_register(pio, PM_TMR, 4, &timer_ops, pm, "pm-timer")) ||
	    (err = bus_register(pio, PM_GPE0, PM_GPE0_LEN, &gpe_ops, pm, "gpe0"))) {
		free(pm);
		errno = -err;
		return NULL;
	}
	return pm;
}

void pm_free(struct pm *pm)
{
	if (!pm)
		return;
	timer_cancel(&pm->overflow);
	free(pm);
}
