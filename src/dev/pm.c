/*
 * ACPI fixed hardware. See pm.h.
 *
 * There is no legacy mode: FADT names no SMI command port, so SCI_EN is always set. S5 is the only
 * sleep state; other sleep types do nothing.
 *
 * Called under vm->lock. Source: ACPI specification 5.0, chapter 4.8.
 */
#include "dev/pm.h"

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

#define SMI_APMC_EN 0x20 /* set: firmware takes it that SMM is set up, and leaves it alone */

#define NS_PER_S 1000000000ull
#define TIMER_MSB_SHIFT 31

struct pm {
	uint16_t status, enable;
	uint8_t control[2];
	uint64_t gpe_status, gpe_enable;
	uint32_t smi_enable; /* kept; there are no SMIs */
	uint64_t msb_changes; /* of the timer, that are in `status` */
	struct irq_line sci;
	struct timer_queue *timers;
	struct timer overflow; /* armed while the timer's interrupt is enabled */
	const struct pm_layout *layout;
	struct bus *pio;
	uint16_t base; /* 0: not mapped */
	const struct pm_ops *ops;
	void *opaque;
};

const struct pm_layout pm_piix4 = {.size = 64, .gpe0 = 0x0c, .gpe0_len = 4};
const struct pm_layout pm_ich9 = {.size = 128, .gpe0 = 0x20, .gpe0_len = 16, .smi_enable = 0x30};

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

static bool inside(uint64_t offset, unsigned first, unsigned len) { return offset >= first && offset - first < len; }

static uint8_t byte_of(uint64_t reg, uint64_t n) { return (uint8_t)(reg >> n * 8); }

static void set_byte(uint64_t *reg, uint64_t n, uint8_t value)
{
	*reg = (*reg & ~(0xffull << n * 8)) | (uint64_t)value << n * 8;
}

static uint8_t register_read(const struct pm *pm, uint64_t offset)
{
	const struct pm_layout *l = pm->layout;
	unsigned half = l->gpe0_len / 2;

	if (offset < PM1A_EVT + 2)
		return byte_of(pm->status, offset);
	if (offset < PM1A_EVT + 4)
		return byte_of(pm->enable, offset - 2);
	if (inside(offset, PM1A_CNT, 2))
		return pm->control[offset - PM1A_CNT];
	if (inside(offset, l->gpe0, half))
		return byte_of(pm->gpe_status, offset - l->gpe0);
	if (inside(offset, l->gpe0 + half, half))
		return byte_of(pm->gpe_enable, offset - l->gpe0 - half);
	if (l->smi_enable && inside(offset, l->smi_enable, 4))
		return byte_of(pm->smi_enable, offset - l->smi_enable);
	return 0;
}

static void control_write(struct pm *pm, uint64_t n, uint8_t value)
{
	if (n == 0) {
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

static void register_write(struct pm *pm, uint64_t offset, uint8_t value)
{
	const struct pm_layout *l = pm->layout;
	unsigned half = l->gpe0_len / 2;
	uint64_t reg;

	if (offset < PM1A_EVT + 2) {
		pm->status &= (uint16_t)~(value << offset * 8 & PM1_STATUS_BITS); /* ones clear */
	} else if (offset < PM1A_EVT + 4) {
		reg = pm->enable;
		set_byte(&reg, offset - 2, value);
		pm->enable = reg & PM1_ENABLE_BITS;
	} else if (inside(offset, PM1A_CNT, 2)) {
		control_write(pm, offset - PM1A_CNT, value);
	} else if (inside(offset, l->gpe0, half)) {
		pm->gpe_status &= ~((uint64_t)value << (offset - l->gpe0) * 8);
	} else if (inside(offset, l->gpe0 + half, half)) {
		set_byte(&pm->gpe_enable, offset - l->gpe0 - half, value);
	} else if (l->smi_enable && inside(offset, l->smi_enable, 4)) {
		reg = pm->smi_enable;
		set_byte(&reg, offset - l->smi_enable, value);
		pm->smi_enable = (uint32_t)reg | SMI_APMC_EN;
	}
}

static uint64_t pm_read(void *dev, uint64_t offset, unsigned size)
{
	struct pm *pm = dev;
	uint64_t value = 0;

	if (inside(offset, PM_TMR, 4))
		return (uint32_t)timer_ticks(pm) >> (offset - PM_TMR) * 8;
	update(pm);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)register_read(pm, offset + i) << i * 8;
	return value;
}

static void pm_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct pm *pm = dev;

	update(pm);
	for (unsigned i = 0; i < size; i++)
		register_write(pm, offset + i, (uint8_t)(value >> i * 8));
	update(pm);
}

static const struct bus_ops pm_bus_ops = {.read = pm_read, .write = pm_write, .max_size = 4};

/* ---- for the machine ---- */

void pm_power_button(struct pm *pm)
{
	pm->status |= PM1_PWRBTN;
	update(pm);
}

void pm_gpe_raise(struct pm *pm, unsigned event)
{
	if (event < pm->layout->gpe0_len / 2 * 8u)
		pm->gpe_status |= 1ull << event;
	update(pm);
}

void pm_reset(struct pm *pm)
{
	pm->status = pm->enable = 0;
	pm->control[0] = CNT_LOW_SCI_EN;
	pm->control[1] = 0;
	pm->gpe_status = pm->gpe_enable = 0;
	pm->smi_enable = SMI_APMC_EN;
	pm->msb_changes = timer_ticks(pm) >> TIMER_MSB_SHIFT;
	update(pm);
}

void pm_map(struct pm *pm, uint16_t base)
{
	if (base == pm->base)
		return;
	if (pm->base)
		bus_unregister(pm->pio, pm->base);
	pm->base = base;
	if (base && bus_register(pm->pio, base, pm->layout->size, &pm_bus_ops, pm, "acpi-pm") < 0)
		pm->base = 0;
	LOG(LOG_ACPI, "registers at port %#x", pm->base);
}

uint16_t pm_base(const struct pm *pm) { return pm->base; }

struct pm *pm_new(struct bus *pio, struct timer_queue *timers, struct irq_line sci, const struct pm_layout *layout,
		  const struct pm_ops *ops, void *opaque)
{
	struct pm *pm = calloc(1, sizeof *pm);

	if (!pm)
		return NULL;
	pm->sci = sci;
	pm->timers = timers;
	pm->layout = layout;
	pm->pio = pio;
	pm->ops = ops;
	pm->opaque = opaque;
	timer_init(&pm->overflow, timers, overflow_fired, pm);
	pm_reset(pm);
	return pm;
}

void pm_free(struct pm *pm)
{
	if (!pm)
		return;
	timer_cancel(&pm->overflow);
	free(pm);
}
