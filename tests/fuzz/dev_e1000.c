/*
 * A hostile driver for the e1000: registers, descriptors of every kind, rings anywhere, frames from outside.
 */
#include "driver.h"

#include "../unit/virtio_driver.h"

#include "../unit/net_fixture.h"
#include "dev/e1000.h"
#include "dev/e1000_internal.h"

#define BASE 0xe0000000u
#define IO 0xc000u
enum { STEPS = 500 };

static uint8_t frame[NET_FRAME_MAX];

static uint64_t address(struct fuzz_input *in)
{
	uint64_t kind = fuzz_take(in, 1);

	switch (kind % 16) {
	case 0: return fuzz_take(in, 8);
	case 1: return BASE + fuzz_take(in, 3);
	case 2: return VD_RAM - fuzz_take(in, 1);
	default: return 0x10000 + fuzz_take(in, 2);
	}
}

static void wr(unsigned r, uint32_t v) { mmio_out(BASE + r, 4, v); }

static void set_up(struct fuzz_input *in)
{
	pci_config_write(pci, 0, 0, 4, 7, 2);
	wr(TDBAL, 0x1000);
	wr(TDBAH, 0);
	wr(TDLEN, 0x400);
	wr(TDH, 0);
	wr(RDBAL, 0x2000);
	wr(RDBAH, 0);
	wr(RDLEN, 0x400);
	wr(RDH, 0);
	for (unsigned i = 0; i < 64; i++)
		vd_put64(0x2000 + 16 * i, address(in));
	wr(RDT, 63);
	wr(TCTL, TCTL_EN | TCTL_PSP);
	wr(RCTL, RCTL_EN | (uint32_t)fuzz_take(in, 4));
	wr(CTRL, (uint32_t)fuzz_take(in, 1) << 24 & ~CTRL_RST);
}

/* Some transmit descriptors, with headers that make sense now and then; then the tail. */
static void transmit(struct fuzz_input *in)
{
	unsigned n = (unsigned)fuzz_take(in, 1) % 8 + 1, head = (unsigned)mmio_in(BASE + TDH, 4) % 64, h;
	uint8_t kind = (uint8_t)fuzz_take(in, 1);

	if (kind & 1) {
		size_t len = nf_packet(frame, kind & 2, kind & 4, fuzz_take(in, 2), &h);

		memcpy(vd_ram(0x10000), frame, len);
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = 0x1000 + 16 * ((head + i) % 64);
		uint8_t what = (uint8_t)fuzz_take(in, 1);

		vd_put64(at, what & 1 ? 0x10000 : what & 2 ? fuzz_take(in, 8) : address(in));
		vd_put32(at + 8, (uint32_t)fuzz_take(in, 4));
		vd_put32(at + 12, (uint32_t)fuzz_take(in, 4));
		if (what & 4) { /* a context that fits the packet above */
			vd_put64(at, 14 | 24 << 8 | (uint64_t)34 << 32 | (uint64_t)50 << 40);
			vd_put32(at + 8, 0x27000000 | 2000);
			vd_put32(at + 12, (uint32_t)fuzz_take(in, 2) << 16 | 54 << 8);
		} else if (what & 8) {
			vd_put32(at + 8, 0x24100000 | (what & 16 ? 0x01000000 : 0) | (uint32_t)fuzz_take(in, 2));
		}
	}
	wr(TDT, (head + n) % 64);
}

static void from_outside(struct net *net, int peer, struct fuzz_input *in)
{
	uint8_t kind = (uint8_t)fuzz_take(in, 1);
	unsigned h;
	size_t len = nf_packet(frame, kind & 1, kind & 2, fuzz_take(in, 2), &h);

	if (kind & 4)
		memcpy(frame, nf_mac, 6);
	if (kind & 8)
		len = fuzz_take(in, 2) % (len + 1);
	if (kind & 16) {
		nf_send(peer, frame, len);
		return;
	}
	const struct iovec iov = {frame, len};
	const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len,
				    .offload = {.flags = kind >> 5 & 3, .csum_start = 34, .csum_offset = 16}};
	net_deliver(net, &f);
	net_deliver_end(net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	int peer;

	vd_start();
	struct net *net = nf_open(loop, queue, &peer);
	const struct e1000_config config = {.pci = pci, .devfn = -1, .loop = loop, .timers = queue, .net = net};
	struct e1000 *card = e1000_new(&config);
	if (!card)
		abort();
	pci_config_write(pci, 0, 0, 0x10, BASE, 4);
	pci_config_write(pci, 0, 0, 0x14, IO, 4);
	set_up(&in);
	for (unsigned i = 0; i < STEPS && in.size; i++) {
		uint64_t offset, value;
		unsigned access;

		switch (fuzz_take(&in, 1) % 16) {
		case 0: case 1: case 2:
			access = 1u << fuzz_take(&in, 1) % 4;
			offset = fuzz_take(&in, 2) % 0x6010;
			value = fuzz_take(&in, access);
			mmio_out(BASE + offset, access, value);
			break;
		case 3:
			access = 1u << fuzz_take(&in, 1) % 4;
			mmio_in(BASE + fuzz_take(&in, 3) % 0x20000, access);
			break;
		case 4:
			out(IO, 4, fuzz_take(&in, 2));
			out(IO + 4, 4, fuzz_take(&in, 4));
			break;
		case 5:
			offset = fuzz_take(&in, 1) & 0xfc;
			pci_config_write(pci, 0, 0, (unsigned)offset, (uint32_t)fuzz_take(&in, 4), 4);
			break;
		case 6: set_up(&in); break;
		case 7: case 8: vd_turn(); break;
		case 9: case 10: case 11: from_outside(net, peer, &in); break;
		case 12: pass(fuzz_take(&in, 1) * MICROSECOND * 100); break;
		default: transmit(&in);
		}
	}
	vd_turn();
	e1000_free(card);
	net_close(net);
	close(peer);
	vd_stop();
	return 0;
}
