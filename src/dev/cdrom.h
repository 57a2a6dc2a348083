/*
 * A CD or DVD drive's commands: SCSI's, as MMC has them. What is behind the PACKET command of an ATAPI drive and behind
 * a CD-ROM of a SCSI controller. It decodes a command and says what is to be transferred; it moves no data itself.
 *
 * A disc is an image of 2048-byte sectors in one data track. Called under vm->lock.
 *
 * Sources: MMC-5 (T10/1675D), SPC-3 (T10/1416D), and INF-8090 for what PC drives do beside them.
 */
#ifndef RINGSIDE_CDROM_H
#define RINGSIDE_CDROM_H

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

#define CDROM_SECTOR 2048u
#define CDROM_BUFFER_SIZE 4096u /* no reply is longer, no parameter list is taken that is */
#define CDROM_CDB_SIZE 12u

struct cdrom;

enum cdrom_data {
	CDROM_NONE,
	CDROM_REPLY, /* `len` bytes of the buffer go to the host */
	CDROM_READ,  /* `len` bytes of the disk from `offset` do */
	CDROM_LIST,  /* the host gives `len` bytes, for cdrom_list */
};

struct cdrom_result {
	uint8_t key, asc, ascq; /* sense; key 0: good */
	enum cdrom_data data;
	uint64_t offset;
	uint32_t len;
};

#define CDROM_KEY_NOT_READY 0x02
#define CDROM_KEY_MEDIUM_ERROR 0x03
#define CDROM_KEY_ILLEGAL_REQUEST 0x05
#define CDROM_KEY_UNIT_ATTENTION 0x06
#define CDROM_KEY_ABORTED 0x0b

/* block NULL: no disc. serial may be NULL; both outlive the drive. NULL: errno. */
struct cdrom *cdrom_new(struct block *block, const char *serial);
void cdrom_free(struct cdrom *c);
void cdrom_reset(struct cdrom *c); /* power-on or bus reset: told to the host by its next command */

/* Decodes a command. `buffer` has CDROM_BUFFER_SIZE bytes. A sense that is not good is kept for REQUEST SENSE. */
void cdrom_command(struct cdrom *c, const uint8_t cdb[CDROM_CDB_SIZE], uint8_t *buffer, struct cdrom_result *result);
/* The parameter list of the last command. */
void cdrom_list(struct cdrom *c, const uint8_t *list, uint32_t len, struct cdrom_result *result);
/* A CDROM_READ could not be carried out: sense for it. result: -errno. */
void cdrom_read_failed(struct cdrom *c, int error, struct cdrom_result *result);
/* The sense of the last command in the fixed format, 18 bytes: for a transport that delivers it with the status. */
void cdrom_sense(const struct cdrom *c, uint8_t buffer[18]);

#endif
