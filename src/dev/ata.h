/*
 * An ATA drive: a disk, or a CD-ROM drive behind the PACKET command. It has the registers and the command set; the
 * controller in front of it (ide.c, ahci.c) has the bus, the interrupts and the DMA engine.
 *
 * A command runs: ata_drive_execute with the registers filled in; then, if data is to be moved, the drive calls
 * ops->pio (a block of data is in, or wanted in, its buffer: ata_drive_pio_read and _write) or ops->dma (the
 * controller calls ata_drive_dma when it is ready); and at last ops->finished. Any of these may come before
 * ata_drive_execute returns, or later on the I/O thread. Everything is called under vm->lock.
 *
 * Sources: ATA/ATAPI-6 (T13/1410D), ATA8-ACS (T13/1699D) for queued commands and DATA SET MANAGEMENT.
 */
#ifndef RINGSIDE_ATA_H
#define RINGSIDE_ATA_H

#include <stdbool.h>
#include <stdint.h>

#include "dev/ata_transfer.h"

struct cdrom;

#define ATA_BSY 0x80
#define ATA_DRDY 0x40
#define ATA_DF 0x20
#define ATA_DSC 0x10
#define ATA_DRQ 0x08
#define ATA_ERR 0x01

#define ATA_ERROR_ICRC 0x80
#define ATA_ERROR_UNC 0x40
#define ATA_ERROR_IDNF 0x10
#define ATA_ERROR_ABRT 0x04

#define ATA_DEVICE_LBA 0x40
#define ATA_DEVICE_DEV 0x10

#define ATA_COMMAND_DEVICE_RESET 0x08
#define ATA_COMMAND_READ_QUEUED 0x60
#define ATA_COMMAND_WRITE_QUEUED 0x61
#define ATA_COMMAND_DIAGNOSTIC 0x90
#define ATA_COMMAND_PACKET 0xa0

#define ATA_BUFFER_SIZE 65536u
#define ATA_PACKET_SIZE 12u
#define ATA_QUEUE_DEPTH 32u
#define ATA_MULTIPLE_MAX 16u /* sectors a DRQ block of READ MULTIPLE; the setting after a reset too */
#define ATA_HEADS 16u /* of the default translation */
#define ATA_SECTORS_PER_TRACK 63u

/* [0] or lba[0..2] is what was written last, [1] or lba[3..5] what was there before: LBA48's upper halves. */
struct ata_registers {
	uint8_t feature[2], count[2], lba[6];
	uint8_t device, command;
	uint8_t error, status;
};

struct ata_drive_ops {
	/* The command has ended: status and error say how. PIO reads and DEVICE RESET end without an interrupt. */
	void (*finished)(void *opaque, bool interrupt);
	/* DRQ is set for a block of PIO data. NULL: the drive moves it as DMA (d->pio tells), as over a SATA link. */
	void (*pio)(void *opaque, bool interrupt);
	/* Data waits for ata_drive_dma. */
	void (*dma)(void *opaque);
	/* The data could not be moved: -ENODATA, -EFAULT or -ENOMEM, see ata_transfer.h. Status is still as while data
	 * is moved; ata_drive_abort ends the command. */
	void (*dma_failed)(void *opaque, int result);
	/* struct ata_table.next for this command. */
	int (*next)(void *opaque, uint64_t *gpa, uint32_t *len);
	/* A queued command has ended. result: 0 or -errno. NULL: no queue. */
	void (*queued_finished)(void *opaque, unsigned tag, int result);
};

struct ata_config {
	struct block *block; /* NULL: a CD-ROM drive without a disc */
	bool cdrom;
	bool sata;          /* behind a SATA link: IDENTIFY says so, queued commands if ops->queued_finished */
	const char *serial; /* at most 20 characters; NULL: none */
	struct pci_device *pci; /* whose DMA it is */
	const struct ata_drive_ops *ops;
	void *opaque;
};

enum ata_phase {
	ATA_IDLE,
	ATA_BUSY,    /* the drive works, or its disk does */
	ATA_PIO_IN,  /* DRQ: the host reads the buffer */
	ATA_PIO_OUT, /* DRQ: the host fills it */
	ATA_DMA,     /* waits for ata_drive_dma */
	ATA_MOVING,  /* DMA is under way */
};

struct ata_queued {
	struct ata_drive *drive;
	unsigned tag;
	struct ata_transfer transfer;
};

struct ata_drive {
	struct ata_config config;
	struct ata_registers regs;
	uint64_t sectors; /* of a disk */
	struct cdrom *cdrom;
	/* settings */
	uint8_t multiple; /* sectors a DRQ block of READ MULTIPLE; 0: not set */
	uint8_t transfer_mode; /* as SET FEATURES chose it: 0x20.. multiword DMA, 0x40.. Ultra DMA */
	bool write_cache, look_ahead, smart, standby;
	uint16_t heads, sectors_per_track; /* the current translation */
	/* the command */
	enum ata_phase phase;
	bool pio;      /* its protocol */
	bool to_host;
	bool on_disk;  /* data comes from or goes to the disk; else it is in the buffer, all of it */
	bool fua;
	bool wants_packet; /* of ATA_PIO_OUT: it is the PACKET command's packet */
	uint64_t offset, left; /* bytes of the disk that have not been in the buffer yet */
	uint32_t drq_size;     /* bytes a DRQ block */
	uint32_t at, drq_end, filled; /* in the buffer: the host is here; this DRQ block ends; data ends */
	void (*received)(struct ata_drive *d); /* the host's data, d->filled bytes. NULL: to the disk */
	void (*then)(struct ata_drive *d); /* when `request` has succeeded */
	uint32_t trim_at; /* DATA SET MANAGEMENT: in the buffer */
	/* the disk's */
	bool busy;      /* `request` is under way */
	bool cancelled; /* and nobody wants to hear of it */
	/* Waits for the end of what was cancelled, perhaps without vm->lock: the controller lets nothing through. */
	bool draining;
	struct block_request request;
	struct iovec iov;
	struct ata_transfer transfer;
	/* queued commands, each allocated when its tag is first used */
	struct ata_queued *queue[ATA_QUEUE_DEPTH];
	uint32_t queued; /* tags under way */
	/* The queued command that failed, for its log page */
	bool queue_error;
	uint8_t queue_error_tag;
	struct ata_registers queue_error_regs;
	uint8_t *buffer; /* ATA_BUFFER_SIZE */
};

struct ata_drive *ata_drive_new(const struct ata_config *config); /* NULL: errno */
void ata_drive_free(struct ata_drive *d);                         /* waits for the disk; NULL is nothing */

/* Power-on, SRST, COMRESET: what was under way is forgotten (waits for the disk), the signature is in the registers. */
void ata_drive_reset(struct ata_drive *d);
/* What was under way is forgotten (waits for the disk); the registers stay. */
void ata_drive_cancel(struct ata_drive *d);
/* Starts the command in regs.command. The drive is ATA_IDLE. */
void ata_drive_execute(struct ata_drive *d);
/* The packet of a PACKET command that the controller got by another way than PIO. Instead of ata_drive_execute. */
void ata_drive_packet(struct ata_drive *d, const uint8_t packet[ATA_PACKET_SIZE]);
/* READ and WRITE FPDMA QUEUED. `table` is copied. 0: ops->queued_finished will be called; -EINVAL: not such a command,
 * or outside the disk; -errno as ata_transfer_start. */
int ata_drive_queue(struct ata_drive *d, const struct ata_registers *regs, const struct ata_table *table);

/* In ATA_PIO_IN and ATA_PIO_OUT: `size` bytes, 2 or 4, little end first. Elsewhere: ones, and nothing. */
uint32_t ata_drive_pio_read(struct ata_drive *d, unsigned size);
void ata_drive_pio_write(struct ata_drive *d, uint32_t value, unsigned size);
/* In ATA_DMA: moves the data. */
void ata_drive_dma(struct ata_drive *d);
/* The command ends with an error, after ops->dma_failed. */
void ata_drive_abort(struct ata_drive *d);
/* DMA was stopped in the middle of a command: what is under way is forgotten (waits for the disk). The drive stays as
 * it is, until it is reset. */
void ata_drive_stop_dma(struct ata_drive *d);

/* ---- between ata.c, ata_command.c, ata_identify.c and atapi.c ---- */

/* The drive's signature, and its registers as after a reset. */
void ata_set_signature(struct ata_drive *d);
/* Ends the command. error: the error register; 0 is success. */
void ata_finish(struct ata_drive *d, uint8_t error, bool interrupt);
/* The host gets `len` bytes of the buffer, by the command's protocol. */
void ata_send(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio);
/* The host is to give `len` bytes (at most ATA_BUFFER_SIZE), then `received` is called. */
void ata_receive(struct ata_drive *d, uint32_t len, uint32_t drq_size, bool pio, void (*received)(struct ata_drive *d));
/* Moves a range of the disk. */
void ata_move_disk(struct ata_drive *d, bool to_host, uint64_t offset, uint64_t len, uint32_t drq_size, bool pio);

/* Starts a request of the disk, with `len` bytes of the buffer if it is one of data. `then` comes when it has
 * succeeded; if it has not, the command has ended with an error. */
void ata_disk(struct ata_drive *d, enum block_op op, uint64_t offset, uint64_t len, void (*then)(struct ata_drive *d));
/* The range of a command, in sectors. False: it is not on the disk. */
bool ata_range(const struct ata_drive *d, const struct ata_registers *r, bool ext, uint64_t *lba, uint32_t *count);
/* Runs regs.command. ata_command.c. */
void ata_run_command(struct ata_drive *d);

/* Fill the buffer with 512 bytes. ata_identify.c. */
void ata_identify_disk(const struct ata_drive *d, uint8_t *buf);
void ata_identify_packet(const struct ata_drive *d, uint8_t *buf);
bool ata_log_page(const struct ata_drive *d, uint8_t log, uint16_t page, uint8_t *buf); /* false: no such page */
void ata_smart(struct ata_drive *d); /* the SMART command */

/* atapi.c: the PACKET command, and when its packet is there */
void atapi_packet(struct ata_drive *d);
void atapi_run(struct ata_drive *d, const uint8_t packet[ATA_PACKET_SIZE]);
/* Ends a packet's data phase. result: 0 or the disk's -errno. */
void atapi_finish(struct ata_drive *d, int result);
/* Registers that go with a DRQ block of `len` bytes. */
void atapi_drq(struct ata_drive *d, uint32_t len);

static inline bool ata_is_packet(const struct ata_drive *d) { return d->config.cdrom; }
/* Writes last after a flush only; else as soon as they end, and there is nothing to turn on. */
static inline bool ata_has_cache(const struct ata_drive *d)
{
	return !ata_is_packet(d) && block_write_cache(d->config.block);
}

#endif
