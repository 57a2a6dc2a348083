/*
 * --disk FILE[,format=raw|qcow2][,if=virtio|ide|sata|scsi][,ro][,snapshot][,cache=MODE]
 *        [,aio=io_uring|threads][,serial=TEXT]
 * --cdrom FILE[,format=...][,if=ide|sata|scsi]
 *
 * Main thread, before anything is started.
 */
#include "cmd/option_disk.h"

#include <errno.h>
#include <string.h>

#include "cmd/options.h"
#include "dev/ahci.h"
#include "dev/ide.h"
#include "util/keyval.h"

struct word {
	const char *text;
	int value;
};

static const struct word interfaces[] = {
	{"virtio", DISK_VIRTIO}, {"ide", DISK_IDE}, {"sata", DISK_SATA}, {"scsi", DISK_SCSI}, {NULL, 0},
};

static const struct word caches[] = {
	{"writeback", BLOCK_WRITEBACK}, {"writethrough", BLOCK_WRITETHROUGH},
	{"none", BLOCK_NONE}, {"unsafe", BLOCK_UNSAFE}, {NULL, 0},
};

static const struct word aios[] = {{"io_uring", BLOCK_AIO_BEST}, {"threads", BLOCK_AIO_THREADS}, {NULL, 0}};

/* What belongs to `text`, -1: nothing. */
static int find(const struct word *words, const char *text)
{
	for (; words->text; words++)
		if (strcmp(words->text, text) == 0)
			return words->value;
	return -1;
}

static bool is_printable(const char *s)
{
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

static int parse_words(struct disk_config *d, struct keyval *kv, const char *option, const char *value)
{
	const char *text;
	int n;

	if ((text = keyval_take(kv, "if")) != NULL) {
		if ((n = find(interfaces, text)) < 0 || (d->cdrom && n == DISK_VIRTIO))
			return option_bad("%s %s: if=%s: %side, sata or scsi is wanted", option, value, text,
					   d->cdrom ? "" : "virtio, ");
		d->interface = (enum disk_interface)n;
	}
	if ((text = keyval_take(kv, "cache")) != NULL) {
		if ((n = find(caches, text)) < 0)
			return option_bad("%s %s: cache=%s: writeback, writethrough, none or unsafe is wanted", option,
					   value, text);
		d->block.cache = (enum block_cache)n;
	}
	if ((text = keyval_take(kv, "aio")) != NULL) {
		if ((n = find(aios, text)) < 0)
			return option_bad("%s %s: aio=%s: io_uring or threads is wanted", option, value, text);
		d->block.aio = (enum block_aio)n;
	}
	if ((d->block.format = keyval_take(kv, "format")) != NULL && !block_format_known(d->block.format))
		return option_bad("%s %s: format=%s: unknown; there are: %s", option, value, d->block.format,
				   block_formats());
	d->block.internal = keyval_take(kv, "internal");
	if ((d->serial = keyval_take(kv, "serial")) != NULL &&
	    (strlen(d->serial) > DISK_SERIAL_MAX || !is_printable(d->serial)))
		return option_bad("%s %s: serial=%s: at most %u printable ASCII characters are wanted", option, value,
				   d->serial, DISK_SERIAL_MAX);
	return 0;
}

static int parse(struct disk_config *d, struct keyval *kv, const char *option, const char *value)
{
	const char *word;

	switch (keyval_split(kv, value, &word)) {
	case 0:
		break;
	case -ENOMEM:
		return option_bad("%s: out of memory", option);
	default:
		return option_bad("%s %s: '%s' is twice there or not a KEY=VALUE", option, value, word);
	}
	d->block.path = kv->first;
	if (*d->block.path == '\0')
		return option_bad("%s %s: a file is wanted first", option, value);
	if (!d->cdrom && (keyval_take_flag(kv, "ro", &d->block.readonly) < 0 ||
			  keyval_take_flag(kv, "snapshot", &d->block.snapshot) < 0))
		return option_bad("%s %s: ro and snapshot are on or off", option, value);
	int r = parse_words(d, kv, option, value);
	if (r == 0 && (word = keyval_left(kv)) != NULL)
		return option_bad("%s %s: unknown word '%s'; there are: %sformat, if, internal, cache, aio, serial", option, value, word,
				   d->cdrom ? "" : "ro, snapshot, ");
	return r;
}

static int add(struct backends_config *b, struct disk_config d, const char *option, const char *value)
{
	struct keyval kv;
	int r;

	if (b->disk_count == DISKS_MAX)
		return option_bad("%s %s: more than %u disks", option, value, DISKS_MAX);
	r = parse(&d, &kv, option, value);
	if (r < 0)
		keyval_free(&kv);
	else
		b->disk[b->disk_count++] = d; /* with the words of kv */
	return r;
}

int option_disk(struct backends_config *b, const char *value)
{
	return add(b, (struct disk_config){.interface = DISK_VIRTIO}, "--disk", value);
}

int option_cdrom(struct backends_config *b, const char *value)
{
	return add(b, (struct disk_config){.interface = DISK_IDE, .cdrom = true, .block.readonly = true}, "--cdrom",
		   value);
}

static unsigned count(const struct backends_config *b, enum disk_interface interface)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->disk_count; i++)
		n += b->disk[i].interface == interface;
	return n;
}

int option_disk_check(const struct backends_config *b, bool has_ide)
{
	unsigned ide = count(b, DISK_IDE), sata = count(b, DISK_SATA);

	if (!has_ide && ide + sata > AHCI_PORTS)
		return option_bad("%u disks with if=ide or if=sata (--cdrom is ide): this machine has room for %u", ide + sata,
				   AHCI_PORTS);
	if (has_ide && ide > IDE_CHANNELS * IDE_DRIVES)
		return option_bad("%u disks with if=ide (--cdrom is): there is room for %u", ide, IDE_CHANNELS * IDE_DRIVES);
	if (sata > AHCI_PORTS)
		return option_bad("%u disks with if=sata: there is room for %u", sata, AHCI_PORTS);
	return 0;
}
