/*
 * Hostile frames: headers that are nearly right, descriptions that do not fit, fragments, TCP options, DHCP; through
 * segmentation, reassembly, and to libslirp (which may reach nothing outside).
 */
#include "driver.h"

#include "../unit/dev_fixture.h"
#include "../unit/net_fixture.h"
#include "net/fragment.h"
#include "util/loop.h"

enum { STEPS = 60, CHANGES = 12 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t p[NET_FRAME_MAX], work[NET_FRAME_MAX];
static size_t received;

static bool nic_receive(void *nic, const struct net_frame *f)
{
	(void)nic;
	received += net_flatten(f, work, sizeof work);
	if (f->offload.flags & NET_NEEDS_CSUM && f->offload.csum_start + f->offload.csum_offset + 2u > f->len)
		abort();
	return received % 7 != 0;
}

static void nic_nothing(void *nic) { (void)nic; }
static const struct net_nic_ops nic_ops = {.receive = nic_receive, .receive_end = nic_nothing, .sendable = nic_nothing};

static void emit(void *opaque, const struct net_frame *f)
{
	size_t *total = opaque;

	*total += f->len;
	if (f->len > NET_FRAME_MAX || f->iov_count != 1 || !nf_right(f->iov[0].iov_base, f->len))
		abort(); /* a segment is a packet, whatever it was made of */
}

/* A packet with some bytes of its headers changed. Returns its length. */
static size_t make_frame(struct fuzz_input *in)
{
	uint8_t kind = (uint8_t)fuzz_take(in, 1);
	unsigned h, changes = (unsigned)fuzz_take(in, 1) % CHANGES;
	size_t len = nf_packet(p, kind & 1, kind & 2, fuzz_take(in, kind & 4 ? 2 : 1), &h);

	if (kind & 8) { /* a fragment */
		put_be16(p + 18, (unsigned)fuzz_take(in, 1) % 4);
		put_be16(p + 20, (unsigned)fuzz_take(in, 2) & (kind & 16 ? 0x2003 : 0x3fff));
	}
	if (kind & 32) /* a request to the network's own services */
		put_be16(p + 36, (const uint16_t[]){67, 69, 53, 80}[fuzz_take(in, 1) % 4]);
	for (unsigned i = 0; i < changes; i++)
		p[fuzz_take(in, 1) % (h + 40)] = (uint8_t)fuzz_take(in, 1);
	if ((kind & 64) && p[12] == 8)
		net_ip4_checksum(p + 14, 20);
	return kind & 128 ? fuzz_take(in, 2) % (len + 1) : len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	const struct net_config config = {.kind = NET_USER, .fd = -1, .user = {.restricted = true}};
	char error[256];

	fixture_start();
	struct loop *loop = loop_new(&lock);
	const struct net_host host = {.loop = loop, .timers = queue};
	struct net *net = net_open(&host, &config, error, sizeof error);
	struct fragments *fragments = fragments_new();
	if (!net || !fragments)
		abort();
	pthread_mutex_lock(&lock);
	net_attach(net, &nic_ops, NULL);
	net_set_can_receive(net, (unsigned)fuzz_take(&in, 1) % 32);
	for (unsigned i = 0; i < STEPS && in.size; i++) {
		size_t len = make_frame(&in), total = 0;
		struct net_offload o = {.flags = NET_NEEDS_CSUM, .gso = (uint8_t)fuzz_take(&in, 1) & 0x87,
					.gso_size = (uint16_t)(fuzz_take(&in, 2) | 16), .csum_start = 34, .csum_offset = 16};
		struct net_headers h;

		if (net_parse(p, len, &h) && (h.l3 > h.l4 || h.l4 > h.end || h.end > len))
			abort();
		if (net_parse(p, len, &h) && h.ip4 && h.fragment)
			fragments_add(fragments, p, &h, i + 1, &total);
		memcpy(work, p, len);
		net_segment(work, len, &o, emit, &total);
		const struct iovec iov = {p, len};
		struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len, .offload = o};
		if (fuzz_take(&in, 1) % 2)
			f.offload = (struct net_offload){0};
		if (fuzz_take(&in, 1) % 4)
			net_send(net, &f);
		else
			net_deliver(net, &f);
		net_send_end(net);
		if (fuzz_take(&in, 1) % 8 == 0) {
			net_receive_ready(net);
			loop_wake(loop);
			loop_turn(loop);
		}
	}
	net_detach(net);
	fragments_free(fragments);
	net_close(net);
	pthread_mutex_unlock(&lock);
	loop_free(loop);
	fixture_stop();
	return 0;
}
