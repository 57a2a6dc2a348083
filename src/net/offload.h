/*
 * What network cards do for their drivers, in software: the Internet checksum, and cutting of large TCP and UDP packets
 * into segments. Pure functions on frames in host memory that nobody else changes; every length is checked.
 *
 * Sources: RFC 1071, RFC 9293, RFC 768, RFC 8200; virtio 1.2, 5.1.6.2.
 */
#ifndef RINGSIDE_NET_OFFLOAD_H
#define RINGSIDE_NET_OFFLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/net.h"
#include "util/big_endian.h"

/* Where the headers of a frame are; 0 for what it has not. */
struct net_headers {
	bool ip4, ip6, fragment; /* fragment: `l4` is not a header, or what follows is not all */
	uint8_t protocol;        /* of IP */
	unsigned l3, l4;         /* offsets of the IP header; of what it carries, when all of it is in the frame */
	unsigned end;            /* where the IP packet ends; padding may follow */
};

/* False: no IP, or malformed. l4 <= end <= len. */
bool net_parse(const uint8_t *frame, size_t len, struct net_headers *h);

/* The ones' complement sum of data, folded to 16 bits, as if behind `sum`; in network byte order as it lies in memory. */
uint16_t net_sum(const void *data, size_t len, uint32_t sum);
/* That of the pseudo header of a packet whose L4 part has `len` bytes. */
uint16_t net_pseudo_sum(const uint8_t *frame, const struct net_headers *h, uint32_t len);
/* Puts the checksum in an IPv4 header of `len` bytes. */
void net_ip4_checksum(uint8_t *header, size_t len);

/* Does what offload->flags say and clears NET_NEEDS_CSUM. False: the description does not fit the frame. */
bool net_finish_checksum(uint8_t *frame, size_t len, struct net_offload *offload);

/* Cuts a frame into segments: `emit` gets each, with complete checksums. The frame is changed. Stack is used for headers
 * only. False: the description does not fit, and nothing was emitted. */
bool net_segment(uint8_t *frame, size_t len, const struct net_offload *offload,
		 void (*emit)(void *opaque, const struct net_frame *f), void *opaque);

/* Copies a frame's bytes, at most `size`. */
size_t net_flatten(const struct net_frame *f, void *buf, size_t size);

#endif
