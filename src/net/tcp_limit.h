/*
 * A bound on what libslirp keeps of a guest's TCP segments. It queues what comes out of order, a buffer for each segment
 * however short, for as long as the gap before it stays. So each segment that libslirp is given is put to the account of
 * its connection until libslirp has acknowledged all of them; when too much is, only what fills the gap goes through.
 * (A segment that is dropped is sent again, as on any network.)
 *
 * I/O thread, under vm->lock. Source: RFC 9293, 3.1 and 3.4.
 */
#ifndef RINGSIDE_TCP_LIMIT_H
#define RINGSIDE_TCP_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/offload.h"

#define TCP_LIMIT_BUFFER 8192u           /* what a segment takes besides its bytes: the pages of a buffer that are touched */
#define TCP_LIMIT_CONNECTION (2u << 20)  /* bytes */
#define TCP_LIMIT_ALL (64u << 20)

struct tcp_limit;

/* `in_use(opaque, port)`: is there a connection of the guest's `port`? Asked when the account is full, to close those of
 * connections that ended without a word. `refresh` comes before some of that. */
struct tcp_limit *tcp_limit_new(void (*refresh)(void *opaque), bool (*in_use)(void *opaque, uint16_t port), void *opaque);
void tcp_limit_free(struct tcp_limit *l);
/* A TCP packet of the guest's, whole. False: it must not reach libslirp. */
bool tcp_limit_send(struct tcp_limit *l, const uint8_t *frame, const struct net_headers *h);
/* One of libslirp's, for the guest. */
void tcp_limit_receive(struct tcp_limit *l, const uint8_t *frame, const struct net_headers *h);
size_t tcp_limit_held(const struct tcp_limit *l); /* bytes on all accounts */

#endif
