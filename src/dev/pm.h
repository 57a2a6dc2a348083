/*
 * ACPI power management registers: PM1a event and control blocks, the PM timer, and GPE block 0.
 *
 * Called under vm->lock. Source: ACPI specification 5.0, chapter 4.8 "ACPI Register Model".
 */
#ifndef RINGSIDE_PM_H
#define RINGSIDE_PM_H

#include <stdbool.h>
#include <stdint.h>

#include "irq/irq.h"

#define PM_BASE 0x600u
#define PM1A_EVT (PM_BASE + 0) /* status, enable: 2 bytes each */
#define PM1A_CNT (PM_BASE + 4) /* 2 bytes */
#define PM_TMR (PM_BASE + 8)   /* 4 bytes, 32 bits wide */
#define PM_GPE0 (PM_BASE + 16) /* status, enable */
#define PM_GPE0_LEN 8          /* 4 bytes each: 32 events */
#define PM_TIMER_HZ 3579545u
#define PM_SLP_TYP_S5 5 /* what \_S5 in the DSDT says */
#define PM_SCI_GSI 9    /* level, active high */

struct bus;
struct timer_queue;
struct pm;

struct pm_ops {
	void (*power_off)(void *opaque); /* the guest entered S5 */
};

/* `sci` is the level of the system control interrupt. NULL: errno. */
struct pm *pm_new(struct bus *pio, struct timer_queue *timers, struct irq_line sci, const struct pm_ops *ops, void *opaque);
void pm_free(struct pm *pm);
void pm_reset(struct pm *pm);

void pm_power_button(struct pm *pm);             /* somebody pressed it: the guest may shut down */
void pm_gpe_raise(struct pm *pm, unsigned event); /* 0-31: sets the status bit */

#endif
