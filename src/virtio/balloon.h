/*
 * virtio memory balloon: the guest gives memory back to the host, when asked (a target is set), and by itself (free
 * page reporting); and says how it is doing (statistics). Under vm->lock.
 */
#ifndef RINGSIDE_VIRTIO_BALLOON_H
#define RINGSIDE_VIRTIO_BALLOON_H

#include <stdint.h>

struct loop;
struct memory;
struct pci_bus;
struct virtio_balloon;

/* In the order of their tags (section 5.5.6.4). Bytes, but for the counts of faults and huge pages. */
enum balloon_statistic {
	BALLOON_SWAPPED_IN, BALLOON_SWAPPED_OUT, BALLOON_MAJOR_FAULTS, BALLOON_MINOR_FAULTS, BALLOON_FREE, BALLOON_TOTAL,
	BALLOON_AVAILABLE, BALLOON_CACHES, BALLOON_HUGE_PAGES, BALLOON_HUGE_PAGES_FAILED, BALLOON_STATISTICS,
};
#define BALLOON_UNKNOWN UINT64_MAX

/* `target`: bytes of memory that the guest is to keep. NULL: errno. */
struct virtio_balloon *virtio_balloon_new(struct pci_bus *pci, struct loop *loop, struct memory *memory,
					  uint64_t target);
void virtio_balloon_free(struct virtio_balloon *b);

void virtio_balloon_set_target(struct virtio_balloon *b, uint64_t target);
uint64_t virtio_balloon_size(const struct virtio_balloon *b); /* bytes that the guest says it has given */
/* What the guest last said; BALLOON_UNKNOWN where it said nothing. Asks it for newer figures. */
void virtio_balloon_statistics(struct virtio_balloon *b, uint64_t value[BALLOON_STATISTICS]);

#endif
