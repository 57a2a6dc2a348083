/*
 * A disk's SCSI commands: it decodes a command and says what is to be done; it moves no data itself. What cdrom.h is for
 * CD-ROM drives. Called under vm->lock.
 *
 * Sources: SPC-4 (T10/1731-D), SBC-3 (T10/BSR INCITS 514).
 */
#ifndef RINGSIDE_SCSI_DISK_H
#define RINGSIDE_SCSI_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"

#define SCSI_CDB_SIZE 32u
#define SCSI_BUFFER_SIZE 4096u /* no reply is longer, no parameter list is taken that is */
#define SCSI_RANGES_MAX 64u

#define SCSI_KEY_MEDIUM_ERROR 0x03
#define SCSI_KEY_HARDWARE_ERROR 0x04
#define SCSI_KEY_ILLEGAL_REQUEST 0x05
#define SCSI_KEY_DATA_PROTECT 0x07

struct scsi_disk {
	struct block *block;
	const char *serial; /* NULL: none */
};

enum scsi_what {
	SCSI_NOTHING,
	SCSI_REPLY, /* `len` bytes of the buffer go to the host */
	SCSI_LIST,  /* the host gives `len` bytes, for scsi_disk_list */
	SCSI_BLOCK, /* `op` of the disk, for `ranges` ranges one after the other (a flush: none) */
};

struct scsi_result {
	uint8_t key, asc, ascq; /* sense; key 0: good */
	enum scsi_what what;
	uint32_t len;
	enum block_op op; /* a read or write has one range, and its data is the command's */
	bool fua, may_unmap;
	unsigned ranges;
	struct {
		uint64_t offset, len; /* bytes; inside the disk */
	} range[SCSI_RANGES_MAX];
};

/* Decodes a command. `buffer` has SCSI_BUFFER_SIZE bytes. */
void scsi_disk_command(const struct scsi_disk *d, const uint8_t cdb[SCSI_CDB_SIZE], uint8_t *buffer,
		       struct scsi_result *result);
/* The parameter list of the command, `len` bytes of it. */
void scsi_disk_list(const struct scsi_disk *d, const uint8_t cdb[SCSI_CDB_SIZE], const uint8_t *list, uint32_t len,
		    struct scsi_result *result);
/* Sense for a block operation that ended with `error` (-errno). */
void scsi_disk_failed(int error, struct scsi_result *result);
/* Sense data in the fixed format, 18 bytes. */
void scsi_sense(const struct scsi_result *result, uint8_t buffer[18]);

#endif
