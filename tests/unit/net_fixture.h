/*
 * What tests of networks share: a net whose other side the test holds, as the end of a socket pair that carries frames
 * behind their length; and frames. Header only, single thread.
 */
#ifndef NET_FIXTURE_H
#define NET_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/net.h"
#include "net/offload.h"

static const uint8_t nf_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

/* *peer: the other end, non-blocking. */
static inline struct net *nf_open(struct loop *loop, struct timer_queue *timers, int *peer)
{
	struct net_config config = {.kind = NET_SOCKET};
	const struct net_host host = {.loop = loop, .timers = timers};
	char error[256];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0) {
		perror("socketpair");
		exit(1);
	}
	memcpy(config.mac, nf_mac, sizeof config.mac);
	config.fd = pair[0];
	*peer = pair[1];
	struct net *n = net_open(&host, &config, error, sizeof error);
	if (!n) {
		printf("not ok: %s\n", error);
		exit(1);
	}
	return n;
}

/* Sends a frame from the other side. */
static inline void nf_send(int peer, const void *frame, size_t len)
{
	uint8_t length[4];

	put_be32(length, (uint32_t)len);
	ssize_t a = write(peer, length, 4), b = write(peer, frame, len);
	(void)a;
	(void)b;
}

/* The next whole frame that came to the other side; its length, 0 when there is none. */
static inline size_t nf_receive(int peer, uint8_t *frame, size_t size)
{
	uint8_t length[4];
	int there;

	if (ioctl(peer, FIONREAD, &there) < 0 || recv(peer, length, 4, MSG_DONTWAIT | MSG_PEEK) != 4)
		return 0;
	size_t len = be32(length);
	if ((size_t)there < 4 + len || len > size)
		return 0;
	struct iovec iov[2] = {{length, 4}, {frame, len}};
	return readv(peer, iov, 2) == (ssize_t)(4 + len) ? len : 0;
}

/* A TCP or UDP packet from 10.0.2.15 to 10.0.2.2 (fec0::...) with `payload` bytes that count up; checksums right.
 * Returns its length. `headers`: where the payload begins. */
static inline size_t nf_packet(uint8_t *p, bool ip6, bool tcp, size_t payload, unsigned *headers)
{
	unsigned l3 = 14, l4 = l3 + (ip6 ? 40 : 20), h = l4 + (tcp ? 20 : 8);
	struct net_headers parsed;

	memset(p, 0, h);
	memcpy(p, "\x52\x55\x0a\x00\x02\x02", 6);
	memcpy(p + 6, nf_mac, 6);
	put_be16(p + 12, ip6 ? 0x86dd : 0x0800);
	if (ip6) {
		p[l3] = 0x60;
		put_be16(p + l3 + 4, (unsigned)(h - l4 + payload));
		p[l3 + 6] = tcp ? 6 : 17;
		p[l3 + 7] = 64;
		memcpy(p + l3 + 8, "\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f\xfe\xc0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 32);
	} else {
		p[l3] = 0x45;
		put_be16(p + l3 + 2, (unsigned)(h - l3 + payload));
		put_be16(p + l3 + 4, 0x1234);
		p[l3 + 8] = 64;
		p[l3 + 9] = tcp ? 6 : 17;
		memcpy(p + l3 + 12, "\x0a\x00\x02\x0f\x0a\x00\x02\x02", 8);
		net_ip4_checksum(p + l3, 20);
	}
	put_be16(p + l4, 1025);
	put_be16(p + l4 + 2, 80);
	if (tcp) {
		put_be32(p + l4 + 4, 0xfffff000);
		p[l4 + 12] = 0x50;
		p[l4 + 13] = 0x99; /* CWR, ACK, PSH, FIN */
		put_be16(p + l4 + 14, 0x1000);
	} else {
		put_be16(p + l4 + 4, (unsigned)(8 + payload));
	}
	for (size_t i = 0; i < payload; i++)
		p[h + i] = (uint8_t)(i + i / 256);
	net_parse(p, h + payload, &parsed);
	uint16_t sum = (uint16_t)~net_sum(p + l4, h - l4 + payload, net_pseudo_sum(p, &parsed, (uint32_t)(h - l4 + payload)));
	memcpy(p + l4 + (tcp ? 16 : 6), &sum, 2);
	*headers = h;
	return h + payload;
}

/* Are the checksums of this IP packet right? */
static inline bool nf_right(const uint8_t *p, size_t len)
{
	struct net_headers h;

	if (!net_parse(p, len, &h) || (h.ip4 && net_sum(p + h.l3, h.l4 - h.l3, 0) != 0xffff))
		return false;
	return h.fragment || net_sum(p + h.l4, h.end - h.l4, net_pseudo_sum(p, &h, h.end - h.l4)) == 0xffff;
}

/* Leaves the checksum to the other side, as a driver with offloads does. */
static inline struct net_offload nf_leave_checksum(uint8_t *p, size_t len, bool tcp)
{
	struct net_headers h;

	net_parse(p, len, &h);
	uint16_t sum = net_pseudo_sum(p, &h, h.end - h.l4);
	memcpy(p + h.l4 + (tcp ? 16 : 6), &sum, 2);
	return (struct net_offload){.flags = NET_NEEDS_CSUM, .csum_start = (uint16_t)h.l4, .csum_offset = tcp ? 16 : 6};
}

#endif
