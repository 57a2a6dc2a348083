/*
 * virtio-net. See net.h. Pairs of queues, and the control queue behind them.
 *
 * What goes out is copied or handed to the host before its buffer is given back; what comes in is copied into buffers at
 * once: the device holds no chain between calls, so a reset has nothing to wait for. I/O thread, under vm->lock.
 *
 * A packet goes to the guest by the pair that the guest sent the last one of its connection by (5.1.6.5.6, automatic receive
 * steering).
 *
 * Not offered: receive side scaling, announcements, UFO (obsolete).
 *
 * Source: virtio 1.2, 5.1.
 */
#include "virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"
#include "net/offload.h"
#include "pci/pci.h"
#include "util/log.h"
#include "util/loop.h"
#include "virtio/virtio.h"

/* Of pair n: 2n and 2n + 1. */
enum { RX, TX, QUEUES };

#define QUEUE_SIZE 256u
/* What one turn sends: other devices and the vCPUs wait for the lock. */
#define SEND_FRAMES 256u
#define SEND_BYTES (512u << 10)

#define F_CSUM (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_CTRL_GUEST_OFFLOADS (1ull << 2)
#define F_MTU (1ull << 3)
#define F_MAC (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_GUEST_TSO6 (1ull << 8)
#define F_GUEST_ECN (1ull << 9)
#define F_HOST_TSO4 (1ull << 11)
#define F_HOST_TSO6 (1ull << 12)
#define F_HOST_ECN (1ull << 13)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)
#define F_CTRL_VQ (1ull << 17)
#define F_CTRL_RX (1ull << 18)
#define F_CTRL_VLAN (1ull << 19)
#define F_CTRL_RX_EXTRA (1ull << 20)
#define F_MQ (1ull << 22)
#define F_CTRL_MAC_ADDR (1ull << 23)
#define F_HOST_USO (1ull << 56)

#define GUEST_OFFLOADS (F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN)
#define HOST_SEGMENTATION (F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN | F_HOST_USO)
#define CONTROLS (F_CTRL_RX | F_CTRL_VLAN | F_CTRL_RX_EXTRA | F_CTRL_MAC_ADDR | F_CTRL_GUEST_OFFLOADS | F_MQ)

enum { STATUS_LINK_UP = 1 };
enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_VLAN = 2, CLASS_MQ = 4, CLASS_GUEST_OFFLOADS = 5 };
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST, RX_MODES };
enum { MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, VLAN_ADD = 0, VLAN_DEL = 1, MQ_PAIRS_SET = 0, GUEST_OFFLOADS_SET = 0 };
enum { ACK_OK = 0, ACK_ERROR = 1 };

#define MAC_TABLE 64u /* more: all addresses of that kind are let in */
#define VLANS 4096u
#define FLOWS 1024u
#define FLOW_BYTES 80u /* of a frame's begin, to find its connection */

/* struct virtio_net_hdr; without num_buffers (10 bytes) for a legacy driver that does not merge buffers. */
struct header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

_Static_assert(sizeof(struct header) == 12, "virtio 1.2, 5.1.6");

struct net_space {
	uint8_t mac[6];
	uint16_t status, max_virtqueue_pairs, mtu;
} __attribute__((packed));

struct mac_list {
	unsigned count;
	bool overflow; /* there were more: all match */
	uint8_t mac[MAC_TABLE][6];
};

struct virtio_net {
	struct net *net;
	struct loop *loop;
	struct virtio_device *virtio;
	struct loop_call send_more;
	unsigned header_size;
	unsigned pairs, active; /* that there are; that the driver uses */
	bool starved[VIRTIO_NET_PAIRS_MAX]; /* a frame waits for buffers: the driver's notifications are on */
	uint32_t received;      /* a bit for each pair that got frames since the last interrupt */
	uint8_t flow[FLOWS];    /* by a hash of addresses and ports: the pair that sent last */
	uint8_t mac[6];
	bool mode[RX_MODES];
	struct mac_list unicast, multicast;
	uint8_t vlans[VLANS / 8];
	struct virtqueue_chain *merged[VIRTQUEUE_SIZE_MAX]; /* of a frame being received */
};

/* ---- queues ---- */

static struct virtqueue *queue_of(const struct virtio_net *d, unsigned pair, unsigned way)
{
	return virtio_queue(d->virtio, pair * QUEUES + way);
}

/* Behind all pairs that the driver knows of (5.1.2). */
static unsigned control_index(const struct virtio_net *d)
{
	return (virtio_has(d->virtio, F_MQ) ? d->pairs : 1) * QUEUES;
}

/* The same both ways: addresses and, where there are some, ports, of a frame's first bytes. */
static uint8_t *flow_of(struct virtio_net *d, const uint8_t *start, size_t len)
{
	uint32_t hash = 0;

	if (len >= 38 && be16(start + 12) == 0x0800) {
		unsigned l4 = 14 + (start[14] & 15u) * 4;

		hash = be32(start + 26) ^ be32(start + 30);
		if ((start[23] == 6 || start[23] == 17) && !(be16(start + 20) & 0x3fff) && l4 + 4 <= len)
			hash ^= be16(start + l4) ^ be16(start + l4 + 2);
	} else if (len >= 58 && be16(start + 12) == 0x86dd) {
		for (unsigned i = 22; i < 54; i += 4)
			hash ^= be32(start + i);
		if (start[20] == 6 || start[20] == 17)
			hash ^= be16(start + 54) ^ be16(start + 56);
	}
	return &d->flow[hash * 2654435761u >> 22];
}

/* ---- from the guest ---- */

/* Takes the header off the front of a chain; `iov`, `count` are its segments from there on. False: it is not all there. */
static bool take_header(const struct virtio_net *d, const struct virtqueue_chain *c, struct header *h, struct iovec **iov,
			unsigned *count)
{
	size_t left = d->header_size;

	memset(h, 0, sizeof *h);
	if (virtio_copy_out(c, 0, h, left) < left)
		return false;
	*iov = c->out;
	*count = c->out_count;
	while (left) {
		size_t n = (*iov)->iov_len < left ? (*iov)->iov_len : left;

		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
		left -= n;
		if ((*iov)->iov_len == 0) {
			++*iov;
			--*count;
		}
	}
	return true;
}

static void send_chain(struct virtio_net *d, unsigned pair, const struct virtqueue_chain *c)
{
	struct header h;
	struct iovec *iov;
	unsigned count;

	if (!take_header(d, c, &h, &iov, &count)) {
		LOG(LOG_NET, "virtio-net: a frame without its header");
		return;
	}
	const struct net_frame f = {
		.iov = iov,
		.iov_count = count,
		.len = (uint32_t)(c->out_len - d->header_size),
		.offload = {
			.flags = h.flags & NET_NEEDS_CSUM,
			.gso = h.gso_type,
			.header_len = h.hdr_len,
			.gso_size = h.gso_size,
			.csum_start = h.csum_start,
			.csum_offset = h.csum_offset,
		},
	};
	if (d->active > 1) {
		uint8_t start[FLOW_BYTES];

		*flow_of(d, start, net_flatten(&f, start, sizeof start)) = (uint8_t)pair;
	}
	net_send(d->net, &f);
}

static void send_from(struct virtio_net *d, unsigned pair)
{
	struct virtqueue *q = queue_of(d, pair, TX);
	struct virtqueue_chain *c;
	unsigned frames = 0;
	uint64_t bytes = 0;

	if (!virtqueue_ready(q))
		return;
	virtqueue_want_notify(q, false);
	for (;;) {
		if (frames == SEND_FRAMES || bytes >= SEND_BYTES) {
			loop_call_soon(d->loop, &d->send_more);
			break;
		}
		if (!net_can_send(d->net))
			break; /* until nic_sendable */
		if ((c = virtqueue_get(q)) == NULL) {
			if (virtqueue_want_notify(q, true))
				continue;
			break;
		}
		bytes += c->out_len;
		frames++;
		send_chain(d, pair, c);
		virtqueue_put(q, c, 0);
	}
	if (frames) {
		net_send_end(d->net);
		virtqueue_interrupt(q);
	}
}

static void send_all(void *opaque)
{
	struct virtio_net *d = opaque;

	for (unsigned pair = 0; pair < d->active; pair++)
		send_from(d, pair);
}

static void nic_sendable(void *nic) { send_all(nic); }

/* ---- to the guest ---- */

static bool listed(const struct mac_list *l, const uint8_t *mac)
{
	for (unsigned i = 0; i < l->count; i++)
		if (memcmp(l->mac[i], mac, 6) == 0)
			return true;
	return l->overflow;
}

/* Does the driver want this frame? (5.1.6.5.1 to 5.1.6.5.3) */
static bool wanted(const struct virtio_net *d, const uint8_t *start)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (virtio_has(d->virtio, F_CTRL_VLAN) && be16(start + 12) == 0x8100) {
		unsigned vlan = be16(start + 14) & 0xfff;

		if (!(d->vlans[vlan / 8] >> vlan % 8 & 1))
			return false;
	}
	if (d->mode[RX_PROMISC])
		return true;
	if (memcmp(start, broadcast, 6) == 0)
		return !d->mode[RX_NOBCAST];
	if (start[0] & 1)
		return !d->mode[RX_NOMULTI] && (d->mode[RX_ALLMULTI] || listed(&d->multicast, start));
	return !d->mode[RX_NOUNI] &&
	       (d->mode[RX_ALLUNI] || memcmp(start, d->mac, 6) == 0 || listed(&d->unicast, start));
}

/* Gets buffers for `len` bytes. How many; 0: not enough now; -1: there will never be. */
static int get_buffers(struct virtio_net *d, unsigned pair, uint64_t len)
{
	struct virtqueue *q = queue_of(d, pair, RX);
	bool merges = virtio_has(d->virtio, F_MRG_RXBUF), never = false;
	struct virtqueue_chain *c;
	unsigned count = 0;
	uint64_t room = 0;

	for (;;) {
		while (room < len && !never && (c = virtqueue_get(q)) != NULL) {
			d->merged[count++] = c;
			room += c->in_len;
			never = room < len && (!merges || count == QUEUE_SIZE || d->merged[0]->in_len < d->header_size);
		}
		if (room >= len || never)
			break;
		d->starved[pair] = true;
		if (!virtqueue_want_notify(q, true) || !virtqueue_ready(q))
			break;
	}
	if (room < len) {
		while (count)
			virtqueue_unget(q, d->merged[--count]);
		return never ? -1 : 0;
	}
	if (d->starved[pair])
		virtqueue_want_notify(q, false);
	d->starved[pair] = false;
	return (int)count;
}

/* Copies `len` bytes to where the chains got so far; *chain and *at move on. */
static void put_bytes(struct virtio_net *d, unsigned *chain, size_t *at, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		size_t n = virtio_copy_in(d->merged[*chain], *at, p, len);

		*at += n;
		p += n;
		len -= n;
		if (len) {
			++*chain;
			*at = 0;
		}
	}
}

static bool nic_receive(void *nic, const struct net_frame *f)
{
	struct virtio_net *d = nic;
	const struct net_offload *o = &f->offload;
	uint64_t total = (uint64_t)d->header_size + f->len;
	uint8_t start[FLOW_BYTES] = {0};
	unsigned chain = 0, pair = 0;
	size_t at = 0, len = net_flatten(f, start, sizeof start);

	if (d->active > 1)
		pair = *flow_of(d, start, len);
	if (pair >= d->active || !virtqueue_ready(queue_of(d, pair, RX)))
		pair = 0;
	struct virtqueue *q = queue_of(d, pair, RX);
	if (!virtqueue_ready(q) || !wanted(d, start))
		return true;
	int count = get_buffers(d, pair, total);
	if (count <= 0)
		return count < 0;
	struct header h = {
		.flags = virtio_has(d->virtio, F_GUEST_CSUM) ? o->flags : 0,
		.gso_type = o->gso,
		.hdr_len = o->header_len,
		.gso_size = o->gso_size,
		.csum_start = o->csum_start,
		.csum_offset = o->csum_offset,
		.num_buffers = (uint16_t)count,
	};
	put_bytes(d, &chain, &at, &h, d->header_size);
	for (unsigned i = 0; i < f->iov_count; i++)
		put_bytes(d, &chain, &at, f->iov[i].iov_base, f->iov[i].iov_len);
	for (int i = 0; i < count; i++) {
		uint64_t room = d->merged[i]->in_len, n = total < room ? total : room;

		virtqueue_fill(q, d->merged[i], (uint32_t)n);
		total -= n;
	}
	virtqueue_flush(q);
	d->received |= 1u << pair;
	return true;
}

static void nic_receive_end(void *nic)
{
	struct virtio_net *d = nic;
	uint32_t received = d->received;

	d->received = 0;
	for (; received; received &= received - 1) {
		struct virtqueue *q = queue_of(d, (unsigned)__builtin_ctz(received), RX);

		if (virtqueue_ready(q))
			virtqueue_interrupt(q);
	}
}

static void nic_link_changed(void *nic, bool up)
{
	(void)up;
	virtio_config_changed(((struct virtio_net *)nic)->virtio);
}

static const struct net_nic_ops nic_ops = {
	.receive = nic_receive,
	.receive_end = nic_receive_end,
	.sendable = nic_sendable,
	.link_changed = nic_link_changed,
};

/* ---- the control queue ---- */

static void set_offloads(struct virtio_net *d, uint64_t features)
{
	unsigned can = 0;

	if (features & F_GUEST_CSUM)
		can = NET_CAN_CSUM | (features & F_GUEST_TSO4 ? NET_CAN_TSO4 : 0) |
		      (features & F_GUEST_TSO6 ? NET_CAN_TSO6 : 0) | (features & F_GUEST_ECN ? NET_CAN_ECN : 0);
	net_set_can_receive(d->net, can);
}

/* One list of a MAC table at *at of the command. */
static bool read_macs(const struct virtqueue_chain *c, size_t *at, struct mac_list *l)
{
	uint32_t entries;

	if (virtio_copy_out(c, *at, &entries, sizeof entries) < sizeof entries ||
	    entries > (c->out_len - *at - sizeof entries) / 6)
		return false;
	*at += sizeof entries;
	l->overflow = entries > MAC_TABLE;
	l->count = l->overflow ? 0 : entries;
	virtio_copy_out(c, *at, l->mac, l->count * 6);
	*at += (size_t)entries * 6;
	return true;
}

static bool control_mac(struct virtio_net *d, const struct virtqueue_chain *c, unsigned command, size_t at)
{
	struct mac_list unicast, multicast;
	uint8_t mac[6];

	if (command == MAC_ADDR_SET) {
		if (virtio_copy_out(c, at, mac, sizeof mac) < sizeof mac)
			return false;
		memcpy(d->mac, mac, sizeof d->mac);
		return true;
	}
	if (command != MAC_TABLE_SET || !read_macs(c, &at, &unicast) || !read_macs(c, &at, &multicast))
		return false;
	d->unicast = unicast;
	d->multicast = multicast;
	return true;
}

static bool control_vlan(struct virtio_net *d, const struct virtqueue_chain *c, unsigned command, size_t at)
{
	uint16_t vlan;

	if (virtio_copy_out(c, at, &vlan, sizeof vlan) < sizeof vlan || vlan >= VLANS)
		return false;
	uint8_t bit = (uint8_t)(1 << vlan % 8);
	if (command == VLAN_ADD)
		d->vlans[vlan / 8] |= bit;
	else if (command == VLAN_DEL)
		d->vlans[vlan / 8] &= (uint8_t)~bit;
	else
		return false;
	return true;
}

static bool control_rx(struct virtio_net *d, const struct virtqueue_chain *c, unsigned command, size_t at)
{
	uint8_t on;

	if (command >= RX_MODES || virtio_copy_out(c, at, &on, 1) < 1)
		return false;
	d->mode[command] = on != 0;
	return true;
}

static bool control_offloads(struct virtio_net *d, const struct virtqueue_chain *c, unsigned command, size_t at)
{
	uint64_t offloads;

	if (command != GUEST_OFFLOADS_SET || virtio_copy_out(c, at, &offloads, sizeof offloads) < sizeof offloads ||
	    (offloads & ~(virtio_features(d->virtio) & GUEST_OFFLOADS)))
		return false;
	set_offloads(d, offloads);
	return true;
}

static bool control_pairs(struct virtio_net *d, const struct virtqueue_chain *c, unsigned command, size_t at)
{
	uint16_t pairs;

	if (command != MQ_PAIRS_SET || virtio_copy_out(c, at, &pairs, sizeof pairs) < sizeof pairs || !pairs ||
	    pairs > d->pairs)
		return false;
	d->active = pairs;
	memset(d->flow, 0, sizeof d->flow);
	for (unsigned pair = 0; pair < pairs; pair++)
		virtqueue_want_notify(queue_of(d, pair, RX), false);
	return true;
}

static bool control_one(struct virtio_net *d, const struct virtqueue_chain *c)
{
	uint8_t command[2];
	size_t at = sizeof command;

	if (virtio_copy_out(c, 0, command, sizeof command) < sizeof command)
		return false;
	switch (command[0]) {
	case CLASS_RX:
		return virtio_has(d->virtio, F_CTRL_RX) && control_rx(d, c, command[1], at);
	case CLASS_MAC:
		return virtio_has(d->virtio, command[1] == MAC_ADDR_SET ? F_CTRL_MAC_ADDR : F_CTRL_RX) &&
		       control_mac(d, c, command[1], at);
	case CLASS_VLAN:
		return virtio_has(d->virtio, F_CTRL_VLAN) && control_vlan(d, c, command[1], at);
	case CLASS_MQ:
		return virtio_has(d->virtio, F_MQ) && control_pairs(d, c, command[1], at);
	case CLASS_GUEST_OFFLOADS:
		return virtio_has(d->virtio, F_CTRL_GUEST_OFFLOADS) && control_offloads(d, c, command[1], at);
	}
	return false;
}

static void control_all(struct virtio_net *d)
{
	struct virtqueue *q = virtio_queue(d->virtio, control_index(d));
	struct virtqueue_chain *c;

	while ((c = virtqueue_get(q)) != NULL) {
		uint8_t ack = control_one(d, c) ? ACK_OK : ACK_ERROR;

		virtqueue_put(q, c, (uint32_t)virtio_copy_in(c, 0, &ack, 1));
	}
	virtqueue_interrupt(q);
}

/* ---- the device ---- */

static uint64_t features(void *opaque)
{
	const struct virtio_net *d = opaque;

	return F_CSUM | HOST_SEGMENTATION | GUEST_OFFLOADS | F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ |
	       (d->pairs > 1 ? CONTROLS : CONTROLS & ~F_MQ) | (net_configuration(d->net)->mtu ? F_MTU : 0);
}

/* What needs what: 5.1.3.1. */
static bool features_ok(void *opaque, uint64_t f)
{
	(void)opaque;
	if ((f & (F_GUEST_TSO4 | F_GUEST_TSO6)) && !(f & F_GUEST_CSUM))
		return false;
	if ((f & F_GUEST_ECN) && !(f & (F_GUEST_TSO4 | F_GUEST_TSO6)))
		return false;
	if ((f & HOST_SEGMENTATION) && !(f & F_CSUM))
		return false;
	if ((f & F_HOST_ECN) && !(f & (F_HOST_TSO4 | F_HOST_TSO6)))
		return false;
	return !(f & CONTROLS) || (f & F_CTRL_VQ);
}

static void driver_ok(void *opaque)
{
	struct virtio_net *d = opaque;

	d->header_size = virtio_has(d->virtio, VIRTIO_F_VERSION_1) || virtio_has(d->virtio, F_MRG_RXBUF) ? 12 : 10;
	set_offloads(d, virtio_features(d->virtio));
	virtqueue_want_notify(queue_of(d, 0, RX), false);
	net_receive_ready(d->net);
}

static void notify(void *opaque, unsigned queue)
{
	struct virtio_net *d = opaque;

	if (queue == control_index(d))
		control_all(d);
	else if (queue / QUEUES >= d->active)
		return; /* not in use */
	else if (queue % QUEUES == RX)
		net_receive_ready(d->net);
	else
		send_from(d, queue / QUEUES);
}

static void reset(void *opaque)
{
	struct virtio_net *d = opaque;

	loop_call_cancel(d->loop, &d->send_more);
	memset(d->mode, 0, sizeof d->mode);
	d->mode[RX_PROMISC] = true; /* until a driver says what it wants */
	d->unicast = d->multicast = (struct mac_list){0};
	memset(d->vlans, 0, sizeof d->vlans);
	memcpy(d->mac, net_configuration(d->net)->mac, sizeof d->mac);
	memset(d->starved, 0, sizeof d->starved);
	memset(d->flow, 0, sizeof d->flow);
	d->received = 0;
	d->active = 1;
	net_set_can_receive(d->net, 0);
}

static void queue_reset(void *opaque, unsigned queue)
{
	(void)opaque; /* no chain is held */
	(void)queue;
}

static void config_read(void *opaque, unsigned offset, void *buf, unsigned len)
{
	const struct virtio_net *d = opaque;
	struct net_space space = {.status = net_link_up(d->net) ? STATUS_LINK_UP : 0, .max_virtqueue_pairs = (uint16_t)d->pairs};

	memcpy(space.mac, d->mac, sizeof space.mac);
	space.mtu = net_configuration(d->net)->mtu;
	memcpy(buf, (const uint8_t *)&space + offset, len);
}

/* Legacy drivers set the address here. */
static void config_write(void *opaque, unsigned offset, const void *buf, unsigned len)
{
	struct virtio_net *d = opaque;

	if (!virtio_has(d->virtio, VIRTIO_F_VERSION_1) && offset < sizeof d->mac && len <= sizeof d->mac - offset)
		memcpy(d->mac + offset, buf, len);
}

static const struct virtio_ops ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.class_code = 0x020000, /* Ethernet controller */
	.features = features,
	.features_ok = features_ok,
	.driver_ok = driver_ok,
	.notify = notify,
	.reset = reset,
	.queue_reset = queue_reset,
	.config_read = config_read,
	.config_write = config_write,
	.config_size = sizeof(struct net_space),
};

struct virtio_net *virtio_net_new(const struct virtio_net_config *config)
{
	unsigned pairs = !config->pairs ? 1 : config->pairs < VIRTIO_NET_PAIRS_MAX ? config->pairs : VIRTIO_NET_PAIRS_MAX;
	struct virtio_net *d = calloc(1, sizeof *d);
	const struct virtio_config virtio = {
		.pci = config->pci,
		.devfn = config->devfn,
		.loop = config->loop,
		.ops = &ops,
		.opaque = d,
		.queues = pairs * QUEUES + 1,
		.queue_size = QUEUE_SIZE,
		.rom = config->rom,
	};

	if (!d)
		return NULL;
	d->net = config->net;
	d->loop = config->loop;
	d->pairs = pairs;
	d->send_more = (struct loop_call){.run = send_all, .opaque = d};
	net_attach(d->net, &nic_ops, d);
	reset(d);
	if ((d->virtio = virtio_new(&virtio)) == NULL) {
		int err = errno;

		net_detach(d->net);
		free(d);
		errno = err;
		return NULL;
	}
	return d;
}

void virtio_net_free(struct virtio_net *d)
{
	if (!d)
		return;
	virtio_free(d->virtio);
	net_detach(d->net);
	free(d);
}
