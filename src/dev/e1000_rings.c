/*
 * Intel 82540EM: what is sent and received. See e1000_internal.h.
 *
 * A packet is collected from its descriptors in `packet`, completed, and given to the net whole; a large one (TSO) as one
 * frame that is left to be segmented, or, past what IP can say, as several. Receive descriptors are filled as frames come.
 * Nothing of a guest's is held between calls but what is in `packet`.
 *
 * I/O thread, under vm->lock. Source: 317453-006, chapters 3 (descriptors), 10 (filters).
 */
#include <string.h>

#include "dev/e1000_internal.h"
#include "net/offload.h"
#include "util/log.h"

#define FRAME_MIN 60u       /* shorter ones are padded */
#define FRAME_LIMIT 1518u   /* without RCTL.LPE, and without FCS and tag */
#define FRAME_LIMIT_LONG 16380u
#define FCS_SIZE 4u
#define VLAN_SIZE 4u
#define ADDRESSES 12u       /* of an Ethernet header */
#define IP_MAX 65535u
#define DESCRIPTORS_A_TURN 512u
#define BYTES_A_TURN (512u << 10)

/* Transmit descriptors (3.3): commands in bits 31:24 of the third word. */
#define CMD_EOP 0x01u
#define CMD_IC 0x04u  /* legacy: put a checksum */
#define CMD_TSE 0x04u /* extended */
#define CMD_RS 0x08u
#define CMD_RPS 0x10u
#define CMD_DEXT 0x20u
#define CMD_VLE 0x40u
#define TUCMD_TCP 0x01u
#define DTYP_DATA 1u
#define POPTS_IXSM 0x01u
#define POPTS_TXSM 0x02u
#define TXD_DD 0x01u

/* Receive descriptors (3.2.3). */
#define RXD_DD 0x01u
#define RXD_EOP 0x02u
#define RXD_IXSM 0x04u
#define RXD_VP 0x08u
#define RXD_TCPCS 0x20u
#define RXD_IPCS 0x40u
#define RXD_PIF 0x80u

enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6, TCP_SEQUENCE = 4, TCP_FLAGS = 13 };
enum { IP4_TOTAL_LENGTH = 2, IP4_ID = 4, IP6_PAYLOAD_LENGTH = 4, IP6_HEADER = 40, UDP_LENGTH = 4 };
#define TCP_FIN_PSH 0x09u

struct ring {
	uint64_t base;
	uint32_t count, head, tail;
};

/* False: the ring cannot be worked on, for its registers or because there is nothing in it. */
static bool get_ring(const struct e1000 *d, unsigned base_register, struct ring *r)
{
	const uint32_t *reg = &d->reg[base_register / 4]; /* BAL, BAH, LEN, H, T: 4, 4, 8, 8 bytes apart */

	r->base = reg[0] | (uint64_t)reg[1] << 32;
	r->count = reg[2] / DESCRIPTOR_SIZE;
	r->head = reg[4];
	r->tail = reg[6];
	return r->head < r->count && r->tail < r->count && r->head != r->tail;
}

static uint64_t descriptor_at(const struct ring *r) { return r->base + (uint64_t)r->head * DESCRIPTOR_SIZE; }

/* `packets` of `size` bytes in all, FCS included, whose addresses are those of `frame`. */
static void count_frames(struct e1000 *d, bool sent, const uint8_t *frame, uint32_t packets, uint64_t size)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint32_t limits[] = {64, 127, 255, 511, 1023, UINT32_MAX};
	unsigned i = 0;

	while (size / packets > limits[i])
		i++;
	e1000_count(d, (sent ? PTC64 : PRC64) + 4 * i, packets);
	e1000_count(d, sent ? TPT : TPR, packets);
	e1000_count(d, sent ? GPTC : GPRC, packets);
	e1000_count64(d, sent ? GOTCL : GORCL, size);
	e1000_count64(d, sent ? TOTL : TORL, size);
	if (memcmp(frame, broadcast, sizeof broadcast) == 0)
		e1000_count(d, sent ? BPTC : BPRC, packets);
	else if (frame[0] & 1)
		e1000_count(d, sent ? MPTC : MPRC, packets);
}

/* ---- sending ---- */

static bool loops_back(const struct e1000 *d)
{
	return (e1000_get(d, RCTL) & RCTL_LBM) || (d->phy[PHY_CONTROL] & PHY_CONTROL_LOOPBACK);
}

static void loop_back(void *opaque, const struct net_frame *f)
{
	struct e1000 *d = opaque;

	if (!e1000_nic_ops.receive(d, f))
		e1000_count(d, MPC, 1);
}

static void emit(struct e1000 *d, uint32_t len, uint32_t packets, struct net_offload offload)
{
	const struct iovec iov = {.iov_base = d->packet, .iov_len = len};
	struct net_frame f = {.iov = &iov, .iov_count = 1, .len = len, .offload = offload};

	if (len < NET_ETHERNET_HEADER)
		return;
	count_frames(d, true, d->packet, packets, len + (uint64_t)(packets - 1) * offload.header_len + packets * FCS_SIZE);
	if (!loops_back(d)) {
		net_send(d->net, &f);
		return;
	}
	if (offload.gso) {
		net_segment(d->packet, len, &offload, loop_back, d);
	} else if (net_finish_checksum(d->packet, len, &f.offload)) {
		loop_back(d, &f);
	}
	e1000_nic_ops.receive_end(d);
}

/* The sum of [start, end] goes to `at`; end 0: to the last byte. What does not lie in the packet is not done. */
static void put_checksum(struct e1000 *d, unsigned start, unsigned at, unsigned end)
{
	uint32_t stop = end && end + 1 < d->len ? end + 1 : d->len;

	if (start >= stop || at + 2 > d->len)
		return;
	uint16_t sum = (uint16_t)~net_sum(d->packet + start, stop - start, 0);
	if (!sum)
		sum = 0xffff;
	memcpy(d->packet + at, &sum, sizeof sum);
}

/* Checksums of a packet that is sent as it is. That of TCP or UDP is left to the other side if it can be. */
static struct net_offload finish_packet(struct e1000 *d)
{
	const struct e1000_context *c = &d->context;
	struct net_offload offload = {0};

	if (d->legacy_checksum)
		put_checksum(d, d->legacy_start, d->legacy_at, 0);
	if (d->options & POPTS_IXSM)
		put_checksum(d, c->ip_start, c->ip_at, c->ip_end);
	if (!(d->options & POPTS_TXSM))
		return offload;
	if (c->tu_end || c->tu_at < c->tu_start || c->tu_at + 2u > d->len) {
		put_checksum(d, c->tu_start, c->tu_at, c->tu_end);
		return offload;
	}
	offload.flags = NET_NEEDS_CSUM;
	offload.csum_start = c->tu_start;
	offload.csum_offset = (uint16_t)(c->tu_at - c->tu_start);
	return offload;
}

/* A large packet, or a part of one that IP has lengths for: the driver left lengths and sums to the card (3.5). A VLAN tag
 * goes to the last part only, which is the only one with every system that is known. */
static void emit_large(struct e1000 *d, bool last)
{
	const struct e1000_context *c = &d->context;
	uint8_t *p = d->packet, *ip = p + c->ip_start;
	uint32_t payload = d->len - c->header_len;
	struct net_headers h;

	if (c->ip_start + 20u > c->header_len || d->len <= c->header_len)
		return;
	if (ip[0] >> 4 == 4)
		put_be16(ip + IP4_TOTAL_LENGTH, d->len - c->ip_start);
	else
		put_be16(ip + IP6_PAYLOAD_LENGTH, d->len - c->ip_start - IP6_HEADER);
	if (!net_parse(p, d->len, &h) || h.fragment || h.protocol != (c->tcp ? PROTOCOL_TCP : PROTOCOL_UDP) ||
	    h.l4 + (c->tcp ? 20u : 8u) > c->header_len) {
		LOG(LOG_NET, "e1000: a packet to be segmented that cannot be");
		return;
	}
	uint8_t flags = p[h.l4 + TCP_FLAGS];
	unsigned checksum = c->tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
	uint16_t sum = net_pseudo_sum(p, &h, h.end - h.l4);
	memcpy(p + h.l4 + checksum, &sum, sizeof sum);
	if (h.ip4)
		net_ip4_checksum(ip, h.l4 - h.l3);
	if (c->tcp && !last)
		p[h.l4 + TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	if (!c->tcp)
		put_be16(p + h.l4 + UDP_LENGTH, h.end - h.l4);
	unsigned segments = (payload + c->mss - 1) / c->mss;
	emit(d, d->len, segments, (struct net_offload){
		.flags = NET_NEEDS_CSUM,
		.gso = !c->tcp ? NET_GSO_UDP : h.ip4 ? NET_GSO_TCP4 : NET_GSO_TCP6,
		.header_len = c->header_len,
		.gso_size = c->mss,
		.csum_start = (uint16_t)h.l4,
		.csum_offset = (uint16_t)checksum,
	});
	if (last) {
		e1000_count(d, TSCTC, 1);
		return;
	}
	/* The part that follows begins with the same header, moved on. A net does not change what it sends, but loopback
	 * does, at and behind the first segment's headers: those are the same bytes. */
	if (c->tcp) {
		p[h.l4 + TCP_FLAGS] = flags & 0x7f; /* CWR is for the first segment */
		put_be32(p + h.l4 + TCP_SEQUENCE, be32(p + h.l4 + TCP_SEQUENCE) + payload);
	}
	if (h.ip4)
		put_be16(ip + IP4_ID, (be16(ip + IP4_ID) + segments) & 0xffff);
	d->len = c->header_len;
}

/* How long a part of a large packet gets: a multiple of segments that IP's length can say. */
static uint32_t part_limit(const struct e1000 *d)
{
	const struct e1000_context *c = &d->context;

	if (!d->segmenting || c->mss == 0 || c->header_len <= c->ip_start)
		return sizeof d->packet;
	uint32_t room = IP_MAX - (c->header_len - c->ip_start);
	uint32_t limit = c->header_len + (room >= c->mss ? room / c->mss * c->mss : room);
	return limit < sizeof d->packet ? limit : sizeof d->packet;
}

/* Adds the data of one descriptor to the packet. */
static void collect(struct e1000 *d, uint64_t gpa, uint32_t len)
{
	uint32_t limit = part_limit(d);

	while (len && !d->dropping) {
		if (d->len >= limit) {
			if (!d->segmenting || d->context.mss == 0) {
				d->dropping = true; /* no such packet fits on a wire */
				return;
			}
			emit_large(d, false);
			if (d->len >= limit) {
				d->dropping = true;
				return;
			}
		}
		uint32_t n = len < limit - d->len ? len : limit - d->len;
		if (pci_dma_read(&d->pci, gpa, d->packet + d->len, n) < 0) {
			d->dropping = true;
			return;
		}
		d->len += n;
		gpa += n;
		len -= n;
	}
}

static void insert_tag(struct e1000 *d, uint16_t tag)
{
	if (d->len < NET_ETHERNET_HEADER || d->len + VLAN_SIZE > sizeof d->packet)
		return;
	memmove(d->packet + ADDRESSES + VLAN_SIZE, d->packet + ADDRESSES, d->len - ADDRESSES);
	put_be16(d->packet + ADDRESSES, e1000_get(d, VET) & 0xffff);
	put_be16(d->packet + ADDRESSES + 2, tag);
	d->len += VLAN_SIZE;
}

static void forget_packet(struct e1000 *d)
{
	d->len = 0;
	d->dropping = d->segmenting = d->legacy_checksum = false;
	d->options = 0;
}

static void end_packet(struct e1000 *d, bool tagged, uint16_t tag)
{
	bool tag_it = tagged && (e1000_get(d, CTRL) & CTRL_VME);

	if (d->dropping) {
		LOG(LOG_NET, "e1000: a packet is dropped: too long, or not in RAM");
	} else if (d->segmenting && d->context.mss) {
		struct e1000_context saved = d->context;

		if (tag_it) {
			insert_tag(d, tag);
			d->context.header_len = (uint8_t)(saved.header_len + VLAN_SIZE);
			d->context.ip_start = (uint8_t)(saved.ip_start + VLAN_SIZE);
		}
		emit_large(d, true);
		d->context = saved;
	} else {
		struct net_offload offload = finish_packet(d);
		unsigned before = d->len;

		if (tag_it)
			insert_tag(d, tag);
		if (offload.flags)
			offload.csum_start = (uint16_t)(offload.csum_start + d->len - before);
		if ((e1000_get(d, TCTL) & TCTL_PSP) && d->len < FRAME_MIN && !offload.flags) {
			memset(d->packet + d->len, 0, FRAME_MIN - d->len);
			d->len = FRAME_MIN;
		}
		emit(d, d->len, 1, offload);
	}
	forget_packet(d);
}

static void set_context(struct e1000 *d, const uint8_t *descriptor)
{
	d->context = (struct e1000_context){
		.ip_start = descriptor[0],
		.ip_at = descriptor[1],
		.ip_end = pci_get16(descriptor + 2),
		.tu_start = descriptor[4],
		.tu_at = descriptor[5],
		.tu_end = pci_get16(descriptor + 6),
		.header_len = descriptor[13],
		.mss = pci_get16(descriptor + 14),
		.tcp = descriptor[11] & TUCMD_TCP,
	};
}

/* One transmit descriptor; returns how many bytes it had. */
static uint32_t send_descriptor(struct e1000 *d, const uint8_t *descriptor)
{
	uint64_t gpa = pci_get32(descriptor) | (uint64_t)pci_get32(descriptor + 4) << 32;
	uint32_t word = pci_get32(descriptor + 8), len;
	unsigned command = word >> 24;

	if (command & CMD_DEXT) {
		len = word & 0xfffff;
		if ((word >> 20 & 15) != DTYP_DATA) {
			set_context(d, descriptor);
			return 0;
		}
		if (d->len == 0 && !d->dropping) { /* what the first one says goes for the packet */
			d->options = descriptor[13];
			d->segmenting = command & CMD_TSE;
		}
	} else {
		len = word & 0xffff;
		if (command & CMD_IC) {
			d->legacy_checksum = true;
			d->legacy_at = descriptor[10];
			d->legacy_start = descriptor[13];
		}
	}
	collect(d, gpa, len);
	if (command & CMD_EOP)
		end_packet(d, command & CMD_VLE, pci_get16(descriptor + 14));
	return len;
}

void e1000_send_all(void *opaque)
{
	struct e1000 *d = opaque;
	uint32_t done = 0, bytes = 0, causes = 0;
	uint8_t descriptor[DESCRIPTOR_SIZE], status;
	struct ring r;

	if (!(e1000_get(d, TCTL) & TCTL_EN) || !get_ring(d, TDBAL, &r))
		return;
	while (r.head != r.tail && net_can_send(d->net)) {
		if (done == DESCRIPTORS_A_TURN || bytes >= BYTES_A_TURN) {
			loop_call_soon(d->loop, &d->send_call);
			break;
		}
		uint64_t at = descriptor_at(&r);
		if (pci_dma_read(&d->pci, at, descriptor, sizeof descriptor) < 0) {
			LOG(LOG_NET, "e1000: transmit descriptors that are not in RAM");
			break;
		}
		bytes += send_descriptor(d, descriptor);
		if (descriptor[11] & (CMD_RS | CMD_RPS)) {
			status = descriptor[12] | TXD_DD;
			pci_dma_write(&d->pci, at + 12, &status, 1);
			causes |= ICR_TXDW;
		}
		r.head = (r.head + 1) % r.count;
		done++;
	}
	if (!done)
		return;
	d->reg[TDH / 4] = r.head;
	net_send_end(d->net);
	e1000_cause(d, causes | (r.head == r.tail ? ICR_TXQE : 0));
}

static void nic_sendable(void *nic) { e1000_send_all(nic); }

/* ---- receiving ---- */

static bool multicast_wanted(const struct e1000 *d, const uint8_t *mac)
{
	static const unsigned shifts[] = {4, 3, 2, 0}; /* RCTL.MO: bits 47:36, 46:35, 45:34, 43:32 of the address */
	unsigned hash = ((mac[4] | (unsigned)mac[5] << 8) >> shifts[RCTL_MO(e1000_get(d, RCTL))]) & 0xfff;

	return e1000_get(d, MTA + hash / 32 * 4) >> hash % 32 & 1;
}

/* The card's filters (10.1 to 10.3). *inexact: by hash only. */
static bool wanted(const struct e1000 *d, const uint8_t *frame, bool *inexact)
{
	uint32_t rctl = e1000_get(d, RCTL);
	const uint8_t *mac = frame;

	*inexact = false;
	if ((rctl & RCTL_VFE) && be16(frame + ADDRESSES) == (e1000_get(d, VET) & 0xffff)) {
		unsigned vlan = be16(frame + ADDRESSES + 2) & 0xfff;

		if (!(e1000_get(d, VFTA + vlan / 32 * 4) >> vlan % 32 & 1))
			return false;
	}
	if (memcmp(mac, "\xff\xff\xff\xff\xff\xff", 6) == 0 && (rctl & RCTL_BAM))
		return true;
	if (rctl & (mac[0] & 1 ? RCTL_MPE : RCTL_UPE))
		return true;
	for (unsigned r = RAL; r < RA_END; r += 8)
		if ((e1000_get(d, r + 4) & RAH_AV) && e1000_get(d, r) == pci_get32(mac) &&
		    (e1000_get(d, r + 4) & 0xffff) == pci_get16(mac + 4))
			return true;
	*inexact = true;
	return (mac[0] & 1) && multicast_wanted(d, mac);
}

static uint32_t buffer_size(const struct e1000 *d)
{
	uint32_t rctl = e1000_get(d, RCTL), size = 2048u >> RCTL_BSIZE(rctl);

	return (rctl & RCTL_BSEX) && RCTL_BSIZE(rctl) ? size * 16 : size;
}

static uint32_t frame_check_sequence(const uint8_t *data, size_t len)
{
	static uint32_t table[256];
	uint32_t crc = UINT32_MAX;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (int bit = 0; bit < 8; bit++)
				c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
			table[i] = c;
		}
	for (size_t i = 0; i < len; i++)
		crc = table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
	return ~crc;
}

/* What the status bits of the last descriptor say of the packet's checksums (3.2.3.1). */
static uint8_t checksum_status(const struct e1000 *d, const struct net_offload *o, uint32_t len)
{
	uint32_t rxcsum = e1000_get(d, RXCSUM);
	struct net_headers h;

	if (!(o->flags & NET_CSUM_VALID) || !net_parse(d->received, len, &h))
		return RXD_IXSM;
	uint8_t status = h.ip4 && (rxcsum & RXCSUM_IPOFL) ? RXD_IPCS : 0;
	if (!h.fragment && (h.protocol == PROTOCOL_TCP || h.protocol == PROTOCOL_UDP) && (rxcsum & RXCSUM_TUOFL))
		status |= RXD_TCPCS;
	return status ? status : RXD_IXSM;
}

static uint32_t free_descriptors(const struct ring *r)
{
	return r->head <= r->tail ? r->tail - r->head : r->count - r->head + r->tail;
}

static void minimum_threshold(struct e1000 *d, const struct ring *before, const struct ring *after)
{
	uint32_t threshold = before->count >> (1 + RCTL_RDMTS(e1000_get(d, RCTL)));

	if (free_descriptors(before) > threshold && free_descriptors(after) <= threshold)
		e1000_cause(d, ICR_RXDMT0);
}

/* Fills descriptors with the `len` bytes of `received`. */
static void fill_descriptors(struct e1000 *d, struct ring *r, uint32_t len, uint8_t status, uint16_t special)
{
	uint32_t size = buffer_size(d), done = 0;
	unsigned start = RXCSUM_PCSS(e1000_get(d, RXCSUM));
	uint16_t sum = start < len ? net_sum(d->received + start, len - start, 0) : 0;

	while (done < len) {
		uint64_t at = descriptor_at(r);
		uint32_t n = len - done < size ? len - done : size;
		uint8_t descriptor[DESCRIPTOR_SIZE] = {0};

		if (pci_dma_read(&d->pci, at, descriptor, 8) < 0)
			return;
		uint64_t buffer = pci_get32(descriptor) | (uint64_t)pci_get32(descriptor + 4) << 32;
		if (buffer)
			pci_dma_write(&d->pci, buffer, d->received + done, n);
		done += n;
		pci_put16(descriptor + 8, (uint16_t)n);
		memcpy(descriptor + 10, &sum, sizeof sum);
		descriptor[12] = done == len ? (uint8_t)(status | RXD_DD | RXD_EOP) : RXD_DD;
		pci_put16(descriptor + 14, special);
		/* Status comes last: it is what the driver waits for. */
		uint8_t last = descriptor[12];
		descriptor[12] = 0;
		pci_dma_write(&d->pci, at, descriptor, sizeof descriptor);
		__atomic_thread_fence(__ATOMIC_RELEASE);
		pci_dma_write(&d->pci, at + 12, &last, 1);
		r->head = (r->head + 1) % r->count;
	}
}

static bool nic_receive(void *nic, const struct net_frame *f)
{
	struct e1000 *d = nic;
	uint32_t rctl = e1000_get(d, RCTL), len;
	uint8_t status = 0;
	uint16_t special = 0;
	bool inexact;
	struct ring r, before;

	if (!(rctl & RCTL_EN) || f->len > FRAME_LIMIT_LONG)
		return true;
	len = (uint32_t)net_flatten(f, d->received, sizeof d->received);
	if (len < FRAME_MIN) {
		memset(d->received + len, 0, FRAME_MIN - len);
		len = FRAME_MIN;
	}
	bool tagged = be16(d->received + ADDRESSES) == (e1000_get(d, VET) & 0xffff);
	if (!(rctl & RCTL_LPE) && len > FRAME_LIMIT - FCS_SIZE + (tagged ? VLAN_SIZE : 0)) {
		e1000_count(d, ROC, 1);
		return true;
	}
	if (!wanted(d, d->received, &inexact))
		return true;
	status = checksum_status(d, &f->offload, len) | (inexact ? RXD_PIF : 0);
	if (tagged && (e1000_get(d, CTRL) & CTRL_VME)) {
		special = be16(d->received + ADDRESSES + 2);
		memmove(d->received + ADDRESSES, d->received + ADDRESSES + VLAN_SIZE, len - ADDRESSES - VLAN_SIZE);
		len -= VLAN_SIZE;
		status |= RXD_VP;
	}
	uint32_t size = len;
	if (!(rctl & RCTL_SECRC)) {
		uint32_t fcs = frame_check_sequence(d->received, len);

		memcpy(d->received + len, &fcs, sizeof fcs);
		size += FCS_SIZE;
	}
	uint32_t needed = (size + buffer_size(d) - 1) / buffer_size(d);
	bool some = get_ring(d, RDBAL, &r);
	if (r.count && needed >= r.count) { /* more than this ring can ever have */
		e1000_count(d, MPC, 1);
		return true;
	}
	if (!some || free_descriptors(&r) < needed)
		return false;
	before = r;
	d->some_received = true;
	count_frames(d, false, d->received, 1, len + FCS_SIZE);
	fill_descriptors(d, &r, size, status, special);
	d->reg[RDH / 4] = r.head;
	minimum_threshold(d, &before, &r);
	return true;
}

static void nic_receive_end(void *nic)
{
	struct e1000 *d = nic;

	if (d->some_received)
		e1000_cause(d, ICR_RXT0);
	d->some_received = false;
}

void e1000_receive_more(void *opaque) { net_receive_ready(((struct e1000 *)opaque)->net); }

const struct net_nic_ops e1000_nic_ops = {
	.receive = nic_receive,
	.receive_end = nic_receive_end,
	.sendable = nic_sendable,
	.link_changed = e1000_link_changed,
};

void e1000_rings_reset(struct e1000 *d)
{
	forget_packet(d);
	d->context = (struct e1000_context){0};
	loop_call_cancel(d->loop, &d->send_call);
	loop_call_cancel(d->loop, &d->receive_call);
}
