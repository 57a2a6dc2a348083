/*
 * SMBus host controllers. See smbus.h.
 *
 * Called under vm->lock. Sources: Intel 82371AB (PIIX4) data sheet (290562), 7.3 "SMBus I/O Space Registers"; ICH9 data
 * sheet (316972), 18.2 "SMBus I/O and Memory Mapped I/O Registers".
 */
#include "dev/smbus.h"

#include <string.h>

/* Registers of both */
enum { HOST_STATUS = 0, HOST_CONTROL = 2, HOST_COMMAND = 3, HOST_ADDRESS = 4, HOST_DATA0 = 5, HOST_DATA1 = 6, HOST_BLOCK = 7 };
/* PIIX4 */
enum { SLAVE_CONTROL = 8, SLAVE_EVENT = 0x0a };
/* ICH9 */
enum {
	PEC = 8, OWN_ADDRESS = 9, AUX_CONTROL = 0x0d, SMLINK_PINS = 0x0e, SMBUS_PINS = 0x0f,
	NOTIFY_COMMAND = 0x11,
};

#define STATUS_DEVICE_ERROR 0x04 /* what was addressed did not answer */
#define STATUS_CAUSES 0x1e       /* of the interrupt; a written one clears */
#define STATUS_ICH9_CLEAR 0xbe   /* also "byte done" and SMBALERT# */
#define STATUS_IN_USE 0x40       /* ICH9: set by reading the register, so that one of several owners begins */
#define CONTROL_INTERRUPT 0x01
#define CONTROL_START 0x40 /* reads as 0, as LAST_BYTE does */
#define CONTROL_KEPT 0x1f  /* KILL, too: there is never a transaction that it could end */
#define CONTROL_ICH9_KEPT 0x9f
#define OWN_ADDRESS_RESET 0x44
#define PINS_IDLE 0x07 /* clock and data are high, the clock is not held */

static void update(const struct smbus *s)
{
	irq_set(&s->irq, (s->control & CONTROL_INTERRUPT) && (s->status & STATUS_CAUSES));
}

/* Bits of a register that only keeps what is written. */
static uint8_t kept(const struct smbus *s, unsigned reg)
{
	switch (reg) {
	case HOST_COMMAND:
	case HOST_ADDRESS:
	case HOST_DATA0:
	case HOST_DATA1:
		return 0xff;
	}
	if (!s->ich9)
		return reg == SLAVE_CONTROL ? 0x0f : reg == SLAVE_EVENT || reg == SLAVE_EVENT + 1 ? 0xff : 0;
	switch (reg) {
	case PEC:
		return 0xff;
	case OWN_ADDRESS:
		return 0x7f;
	case AUX_CONTROL:
		return 0x03;
	case SMLINK_PINS:
	case SMBUS_PINS:
		return 0x04;
	case NOTIFY_COMMAND:
		return 0x07;
	}
	return 0;
}

static uint64_t smbus_read(void *dev, uint64_t offset, unsigned size)
{
	struct smbus *s = dev;
	uint8_t value;

	(void)size;
	switch (offset) {
	case HOST_STATUS:
		value = s->status;
		if (s->ich9)
			s->status |= STATUS_IN_USE;
		return value;
	case HOST_CONTROL:
		s->block_at = 0;
		return s->control;
	case HOST_BLOCK:
		return s->block[s->block_at++ % SMBUS_BLOCK];
	}
	return s->reg[offset];
}

static void control_write(struct smbus *s, uint8_t value)
{
	s->control = value & (s->ich9 ? CONTROL_ICH9_KEPT : CONTROL_KEPT);
	if ((value & CONTROL_START) && s->enabled)
		s->status |= STATUS_DEVICE_ERROR;
}

static void smbus_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	struct smbus *s = dev;
	uint8_t bits = kept(s, (unsigned)offset);

	(void)size;
	switch (offset) {
	case HOST_STATUS:
		s->status &= (uint8_t)~(value & (s->ich9 ? STATUS_ICH9_CLEAR | STATUS_IN_USE : STATUS_CAUSES));
		break;
	case HOST_CONTROL:
		control_write(s, (uint8_t)value);
		break;
	case HOST_BLOCK:
		s->block[s->block_at++ % SMBUS_BLOCK] = (uint8_t)value;
		break;
	default:
		s->reg[offset] = (s->reg[offset] & (uint8_t)~bits) | ((uint8_t)value & bits);
	}
	update(s);
}

const struct bus_ops smbus_ops = {.read = smbus_read, .write = smbus_write, .max_size = 1};

void smbus_restart(struct smbus *s)
{
	s->status = s->control = 0;
	s->block_at = 0;
	update(s);
}

void smbus_init(struct smbus *s, struct irq_line irq, bool ich9)
{
	memset(s, 0, sizeof *s);
	s->irq = irq;
	s->ich9 = ich9;
	if (ich9) {
		s->reg[OWN_ADDRESS] = OWN_ADDRESS_RESET;
		s->reg[SMLINK_PINS] = s->reg[SMBUS_PINS] = PINS_IDLE;
	}
}
