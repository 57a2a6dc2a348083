/*
 * Puts IPv4 packets together that came in fragments, within a fixed amount of memory: FRAGMENT_PACKETS at a time, the
 * oldest is given up for a new one. One thread at a time.
 *
 * Source: RFC 791, 3.2.
 */
#ifndef RINGSIDE_NET_FRAGMENT_H
#define RINGSIDE_NET_FRAGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "net/offload.h"

#define FRAGMENT_PACKETS 16u
#define FRAGMENT_NS 30000000000ull /* how long a packet waits for the rest of it */

struct fragments;

struct fragments *fragments_new(void); /* NULL: no memory */
void fragments_free(struct fragments *f);
/* Adds a frame with a fragment, whose headers are `h`. When that completes a packet: its frame, of *len bytes, until the next
 * call. Else NULL. */
uint8_t *fragments_add(struct fragments *f, const uint8_t *frame, const struct net_headers *h, uint64_t now, size_t *len);

#endif
