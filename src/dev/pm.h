/*
 * ACPI power management registers: PM1a event and control blocks, the PM timer, and GPE block 0, in the I/O space that
 * the chip set gives them.
 *
 * Called under vm->lock. Sources: ACPI specification 5.0, chapter 4.8 "ACPI Register Model"; for where they lie, Intel
 * 82371AB (PIIX4) data sheet (290562), 7.2, and ICH9 data sheet (316972), 13.8.3.
 */
#ifndef RINGSIDE_PM_H
#define RINGSIDE_PM_H

#include <stdbool.h>
#include <stdint.h>

#include "irq/irq.h"

/* Offsets in the I/O space */
#define PM1A_EVT 0 /* status, enable: 2 bytes each */
#define PM1A_CNT 4 /* 2 bytes */
#define PM_TMR 8   /* 4 bytes, 32 bits wide */

struct pm_layout {
	uint16_t size;   /* of the I/O space, and its alignment */
	uint8_t gpe0;    /* GPE block: as many bytes of status as of enables */
	uint8_t gpe0_len;
	uint8_t smi_enable; /* SMI_EN, 4 bytes; 0: none */
};

extern const struct pm_layout pm_piix4, pm_ich9;

#define PM_BASE 0x600u /* where firmware puts it, and ACPI's tables say */
#define PM_TIMER_HZ 3579545u
#define PM_SLP_TYP_S5 5 /* what \_S5 in the DSDT says */
#define PM_SCI_GSI 9    /* level, active high */

struct bus;
struct timer_queue;
struct pm;

struct pm_ops {
	void (*power_off)(void *opaque); /* the guest entered S5 */
};

/* `sci` is the level of the system control interrupt. Not mapped yet. NULL: errno. */
struct pm *pm_new(struct bus *pio, struct timer_queue *timers, struct irq_line sci, const struct pm_layout *layout,
		  const struct pm_ops *ops, void *opaque);
void pm_free(struct pm *pm);
void pm_reset(struct pm *pm);
/* The chip set moves the I/O space; 0: nowhere. Not over other ports. */
void pm_map(struct pm *pm, uint16_t base);
uint16_t pm_base(const struct pm *pm); /* where it is; 0: nowhere */

void pm_power_button(struct pm *pm);             /* somebody pressed it: the guest may shut down */
void pm_gpe_raise(struct pm *pm, unsigned event); /* below 8 * gpe0_len / 2: sets the status bit */

#endif
