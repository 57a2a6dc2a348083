/*
 * The 82540EM under a driver: EEPROM both ways, PHY, link, interrupts and their throttling, legacy and extended transmit
 * descriptors, large sends, VLAN tags, receive rings, buffer sizes, filters, loopback, statistics.
 */
#include "virtio_driver.h"

#include "dev/e1000_internal.h"
#include "dev/e1000.h"
#include "net_fixture.h"

#define BASE 0xe0000000u
#define IO 0xc000u
#define TX_RING 0x100000u
#define RX_RING 0x110000u
#define TX_DATA 0x200000u
#define RX_DATA 0x400000u
#define RING 32u

enum { EOP = 1, IFCS = 2, IC = 4, TSE = 4, RS = 8, DEXT = 0x20, VLE = 0x40 };

static struct net *net;
static struct e1000 *card;
static int peer;
static unsigned tx_tail, rx_tail, rx_next;
static uint8_t p[NET_FRAME_MAX], got[NET_FRAME_MAX];

static uint32_t rd(unsigned r) { return (uint32_t)mmio_in(BASE + r, 4); }
static void wr(unsigned r, uint32_t v) { mmio_out(BASE + r, 4, v); }

static void start(void)
{
	vd_start();
	net = nf_open(loop, queue, &peer);
	const struct e1000_config config = {.pci = pci, .devfn = -1, .loop = loop, .timers = queue, .net = net};
	card = e1000_new(&config);
	if (!card)
		exit(1);
	pci_config_write(pci, 0, 0, 0x10, BASE, 4);
	pci_config_write(pci, 0, 0, 0x14, IO, 4);
	pci_config_write(pci, 0, 0, 4, 7, 2);
}

static void set_rings(uint32_t rctl)
{
	memset(vd_ram(TX_RING), 0, RING * 16);
	memset(vd_ram(RX_RING), 0, RING * 16);
	wr(TDBAL, TX_RING);
	wr(TDLEN, RING * 16);
	wr(TDH, 0);
	wr(TDT, 0);
	wr(RDBAL, RX_RING);
	wr(RDLEN, RING * 16);
	wr(RDH, 0);
	wr(RDT, 0);
	tx_tail = rx_tail = rx_next = 0;
	for (unsigned i = 0; i < RING; i++)
		vd_put64(RX_RING + 16 * i, RX_DATA + 0x8000 * i);
	wr(RXCSUM, RXCSUM_IPOFL | RXCSUM_TUOFL);
	wr(TCTL, TCTL_EN | TCTL_PSP);
	wr(RCTL, RCTL_EN | RCTL_BAM | rctl);
}

static void stop(void)
{
	e1000_free(card);
	net_close(net);
	close(peer);
	vd_stop();
}

/* ---- EEPROM, PHY, link ---- */

static void microwire_bit(unsigned bit)
{
	wr(EECD, 0x42 | bit << 2);
	wr(EECD, 0x43 | bit << 2);
	wr(EECD, 0x42 | bit << 2);
}

static uint16_t microwire_read(unsigned word)
{
	uint16_t v = 0;

	wr(EECD, 0x40);
	CHECK(rd(EECD) & 0x80);
	wr(EECD, 0x42);
	for (int i = 8; i >= 0; i--)
		microwire_bit((6u << 6 | word) >> i & 1);
	CHECK(!(rd(EECD) & 8));
	for (int i = 0; i < 16; i++) {
		microwire_bit(0);
		v = (uint16_t)(v << 1 | (rd(EECD) >> 3 & 1));
	}
	wr(EECD, 0);
	return v;
}

static void test_eeprom(void)
{
	uint16_t sum = 0, sum_slow = 0;

	start();
	for (unsigned i = 0; i < 64; i++) {
		wr(EERD, i << 8 | 1);
		CHECK(rd(EERD) & 0x10);
		uint16_t word = (uint16_t)(rd(EERD) >> 16);
		sum = (uint16_t)(sum + word);
		sum_slow = (uint16_t)(sum_slow + microwire_read(i));
		if (i < 3)
			CHECK_EQ(word, nf_mac[2 * i] | nf_mac[2 * i + 1] << 8);
	}
	CHECK_EQ(sum, 0xbaba);
	CHECK_EQ(sum_slow, 0xbaba);
	CHECK_EQ(rd(RAL), 0x12005452);
	CHECK_EQ(rd(RAH), 0x80005634);
	stop();
}

static uint32_t mdic(uint32_t v)
{
	wr(MDIC, v);
	CHECK(rd(MDIC) & 0x10000000);
	return rd(MDIC);
}

static void test_link(void)
{
	start();
	CHECK_EQ(mdic(0x08000000 | 1 << 21 | 2 << 16) & 0xffff, 0x0141);
	CHECK_EQ(mdic(0x08000000 | 1 << 21 | 1 << 16) & 0x24, 0x24);
	CHECK(mdic(0x08000000 | 2 << 21 | 2 << 16) & 0x40000000); /* no such PHY */
	mdic(0x04000000 | 1 << 21 | 4 << 16 | 0x0001);
	CHECK_EQ(mdic(0x08000000 | 1 << 21 | 4 << 16) & 0xffff, 1);
	mdic(0x04000000 | 1 << 21 | 2 << 16 | 0x5555); /* read-only */
	CHECK_EQ(mdic(0x08000000 | 1 << 21 | 2 << 16) & 0xffff, 0x0141);
	rd(ICR);
	mdic(0x04000000 | 1 << 21 | 0x1340); /* negotiation starts again */
	CHECK_EQ(rd(ICR), ICR_LSC);
	CHECK_EQ(rd(STATUS) & 0xc3, 0x83);
	wr(CTRL, rd(CTRL) & ~CTRL_SLU);
	CHECK(!(rd(STATUS) & STATUS_LU));
	wr(CTRL, rd(CTRL) | CTRL_SLU);
	rd(ICR);
	close(peer);
	peer = -1;
	vd_turn();
	vd_turn();
	CHECK(!(rd(STATUS) & STATUS_LU));
	CHECK_EQ(rd(ICR), ICR_LSC);
	CHECK_EQ(mdic(0x08000000 | 1 << 21 | 1 << 16) & 0x24, 0);
	/* the ports see the same registers */
	out(IO, 4, STATUS);
	CHECK_EQ(in(IO + 4, 4), rd(STATUS));
	out(IO, 4, FCTTV);
	out(IO + 4, 4, 0x1234);
	CHECK_EQ(rd(FCTTV), 0x1234);
	CHECK_EQ(mmio_in(BASE + FCTTV, 1), 0x34);
	mmio_out(BASE + FCTTV, 1, 0xff);
	CHECK_EQ(rd(FCTTV), 0x1234);
	wr(CTRL, CTRL_RST);
	CHECK_EQ(rd(FCTTV), 0);
	CHECK(!(rd(CTRL) & CTRL_RST));
	CHECK_EQ(rd(0x1fffc), 0);
	stop();
}

static void test_interrupts(void)
{
	start();
	wr(ICS, ICR_LSC | ICR_TXDW);
	CHECK(!vd_intx);
	wr(IMS, ICR_LSC);
	CHECK(vd_intx);
	CHECK_EQ(rd(ICR), ICR_LSC | ICR_TXDW);
	CHECK(!vd_intx);
	CHECK_EQ(rd(ICR), 0);
	wr(ICS, ICR_LSC);
	wr(IMC, ICR_LSC);
	CHECK(!vd_intx);
	wr(ICR, ICR_LSC); /* a written one clears */
	CHECK_EQ(rd(ICR), 0);
	CHECK_EQ(rd(IMS), 0);
	/* at most one in ITR's time */
	wr(IMS, ICR_LSC);
	wr(ITR, 1000); /* 256 us */
	pass(SECOND);
	wr(ICS, ICR_LSC);
	CHECK(vd_intx);
	rd(ICR);
	wr(ICS, ICR_LSC);
	CHECK(!vd_intx);
	pass(200 * MICROSECOND);
	CHECK(!vd_intx);
	pass(60 * MICROSECOND);
	CHECK(vd_intx);
	stop();
}

/* ---- sending ---- */

static void put_descriptor(uint64_t address, uint32_t command_and_length, uint32_t last)
{
	uint64_t at = TX_RING + 16 * tx_tail;

	vd_put64(at, address);
	vd_put32(at + 8, command_and_length);
	vd_put32(at + 12, last);
	tx_tail = (tx_tail + 1) % RING;
}

static void go(void)
{
	wr(TDT, tx_tail);
	vd_turn();
	vd_turn();
	CHECK_EQ(rd(TDH), tx_tail);
}

static void put_context(unsigned ip, unsigned tu, unsigned tu_at, unsigned tu_end, unsigned header, unsigned mss, uint32_t command,
			uint32_t payload)
{
	uint64_t at = TX_RING + 16 * tx_tail;

	put_descriptor(0, (command | DEXT) << 24 | payload, mss << 16 | header << 8);
	*vd_ram(at) = (uint8_t)ip;
	*vd_ram(at + 1) = (uint8_t)(ip + 10);
	vd_put16(at + 2, (uint16_t)(tu - 1));
	*vd_ram(at + 4) = (uint8_t)tu;
	*vd_ram(at + 5) = (uint8_t)tu_at;
	vd_put16(at + 6, (uint16_t)tu_end);
}

static void test_legacy_send(void)
{
	unsigned h;

	start();
	set_rings(0);
	size_t len = nf_packet(p, false, true, 200, &h);
	memcpy(vd_ram(TX_DATA), p, len);
	rd(ICR);
	put_descriptor(TX_DATA, IFCS << 24 | 100, 0); /* two buffers */
	put_descriptor(TX_DATA + 100, (uint32_t)((EOP | IFCS | RS) << 24 | (len - 100)), 0);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(memcmp(got, p, len), 0);
	CHECK_EQ(*vd_ram(TX_RING + 12), 0);
	CHECK_EQ(*vd_ram(TX_RING + 28), 1); /* DD where RS asked for it */
	CHECK_EQ(rd(ICR), ICR_TXDW | ICR_TXQE);
	/* a checksum by offsets */
	nf_leave_checksum(vd_ram(TX_DATA), len, true);
	put_descriptor(TX_DATA, (uint32_t)((EOP | IC) << 24 | 50 << 16 | len), 34 << 8);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(memcmp(got, p, len), 0);
	/* short ones are padded, tags inserted */
	put_descriptor(TX_DATA, (uint32_t)EOP << 24 | 20, 0);
	wr(CTRL, rd(CTRL) | CTRL_VME);
	wr(VET, 0x8100);
	put_descriptor(TX_DATA, (uint32_t)((EOP | VLE) << 24 | len), 0x2007u << 16);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), 60);
	CHECK_EQ(nf_receive(peer, got, sizeof got), len + 4);
	CHECK_EQ(memcmp(got + 12, "\x81\x00\x20\x07\x08\x00", 6), 0);
	CHECK_EQ(rd(GPTC), 4);
	CHECK_EQ(rd(GPTC), 0);
	CHECK_EQ(rd(GOTCL), 2 * (len + 4) + 64 + len + 8);
	/* not in RAM: lost, and the ring goes on */
	put_descriptor(0xfee00000, (uint32_t)(EOP | RS) << 24 | 100, 0);
	put_descriptor(TX_DATA, (uint32_t)(EOP << 24 | len), 0);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	/* longer than any frame */
	for (unsigned i = 0; i < 6; i++)
		put_descriptor(TX_DATA, 16000, 0);
	put_descriptor(TX_DATA, (uint32_t)EOP << 24 | 100, 0);
	put_descriptor(TX_DATA, (uint32_t)(EOP << 24 | len), 0);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), len);
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	stop();
}

static void test_extended_send(void)
{
	unsigned h;

	start();
	set_rings(0);
	for (unsigned i = 0; i < 4; i++) {
		bool ip6 = i & 1, tcp = i & 2;
		size_t len = nf_packet(p, ip6, tcp, 333, &h);
		unsigned l4 = ip6 ? 54 : 34;

		memcpy(vd_ram(TX_DATA), p, len);
		nf_leave_checksum(vd_ram(TX_DATA), len, tcp);
		if (!ip6)
			vd_put16(TX_DATA + 24, 0);
		/* with and without an end of the sum */
		put_context(14, l4, l4 + (tcp ? 16 : 6), i & 2 ? (unsigned)len - 1 : 0, 0, 0, ip6 ? 1 : 3, 0);
		put_descriptor(TX_DATA, DEXT << 24 | 1 << 20 | 99, (ip6 ? 2u : 3u) << 8);
		put_descriptor(TX_DATA + 99, (uint32_t)((DEXT | EOP | RS) << 24 | 1 << 20 | (len - 99)), 0);
		go();
		CHECK_EQ(nf_receive(peer, got, sizeof got), len);
		CHECK_EQ(memcmp(got, p, len), 0);
	}
	stop();
}

static void test_large_send(bool ip6, unsigned payload, unsigned mss)
{
	unsigned h, l4 = ip6 ? 54 : 34, sent = 0, count = 0;
	uint32_t size;

	start();
	set_rings(0);
	nf_packet(p, ip6, true, 1000, &h);
	for (unsigned i = 0; i < payload; i++)
		*vd_ram(TX_DATA + h + i) = (uint8_t)(i + i / 256);
	memcpy(vd_ram(TX_DATA), p, h);
	put_be16(vd_ram(TX_DATA + (ip6 ? 18 : 16)), 0); /* lengths and sums are the card's */
	put_be16(vd_ram(TX_DATA + 24), ip6 ? 0xc0 << 8 : 0);
	memcpy(vd_ram(TX_DATA + 22), p + 22, ip6 ? 32 : 2);
	put_context(14, l4, l4 + 16, 0, h, mss, ip6 ? 1 | TSE : 3 | TSE, payload);
	for (uint32_t at = 0, total = h + payload; at < total; at += size) {
		size = total - at < 9000 ? total - at : 9000;
		put_descriptor(TX_DATA + at, (DEXT | TSE | (at + size == total ? EOP | RS : 0)) << 24 | 1 << 20 | size, 3 << 8);
	}
	wr(TDT, tx_tail);
	for (unsigned i = 0; i < 5; i++) {
		vd_turn();
		size_t len;
		while ((len = nf_receive(peer, got, sizeof got)) != 0) {
			bool last = sent + (len - h) == payload;

			CHECK(nf_right(got, len));
			CHECK(len == h + mss || last);
			CHECK_EQ(be32(got + l4 + 4), (uint32_t)(0xfffff000 + sent));
			CHECK_EQ(got[l4 + 13], 0x10 | (sent ? 0 : 0x80) | (last ? 9 : 0));
			if (!ip6)
				CHECK_EQ(be16(got + 18), 0x1234 + count);
			CHECK_EQ(memcmp(got + h, vd_ram(TX_DATA + h + sent), len - h), 0);
			sent += (unsigned)(len - h);
			count++;
		}
	}
	CHECK_EQ(sent, payload);
	CHECK_EQ(rd(TSCTC), 1);
	CHECK_EQ(rd(GPTC), count);
	stop();
}

/* ---- receiving ---- */

static void give(unsigned n)
{
	rx_tail = (rx_tail + n) % RING;
	wr(RDT, rx_tail);
	vd_turn();
}

/* The next frame in the ring; 0: none. *status, *special of its last descriptor. */
static size_t take(uint8_t *status, uint16_t *special)
{
	size_t len = 0;

	for (;;) {
		uint64_t at = RX_RING + 16 * rx_next;
		uint8_t s = *vd_ram(at + 12);

		if (!(s & 1))
			return 0;
		uint16_t n = (uint16_t)vd_get(at + 8, 2);
		memcpy(got + len, vd_ram(RX_DATA + 0x8000 * rx_next), n);
		len += n;
		*special = (uint16_t)vd_get(at + 14, 2);
		*vd_ram(at + 12) = 0;
		rx_next = (rx_next + 1) % RING;
		*status = s;
		if (s & 2)
			return len;
	}
}

static void test_receive(void)
{
	unsigned h;
	uint8_t status;
	uint16_t special;

	start();
	set_rings(0);
	size_t len = nf_packet(p, false, true, 300, &h);
	memcpy(p, nf_mac, 6);
	nf_send(peer, p, len);
	vd_turn();
	CHECK_EQ(take(&status, &special), 0);
	rd(ICR);
	give(4);
	CHECK_EQ(take(&status, &special), len + 4);
	CHECK_EQ(memcmp(got, p, len), 0);
	CHECK(rd(ICR) & ICR_RXT0);
	CHECK_EQ(status, 0x07); /* DD, EOP; the checksums are for the driver to look at */
	uint32_t crc = UINT32_MAX;
	for (size_t i = 0; i < len + 4; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			uint32_t x = (crc ^ got[i] >> bit) & 1;

			crc = crc >> 1 ^ (x ? 0xedb88320 : 0);
		}
	CHECK_EQ(crc, 0xdebb20e3); /* of a frame with its FCS */
	/* one whose sum the net has made */
	const struct iovec iov = {p, len};
	const struct net_frame f = {.iov = &iov, .iov_count = 1, .len = (uint32_t)len, .offload = nf_leave_checksum(p, len, true)};
	net_deliver(net, &f);
	net_deliver_end(net);
	CHECK_EQ(take(&status, &special), len + 4);
	CHECK(nf_right(got, len));
	CHECK_EQ(status, 0x63);
	/* short: padded; CRC stripped; tag stripped */
	set_rings(RCTL_SECRC);
	give(8);
	nf_send(peer, p, 30);
	wr(CTRL, rd(CTRL) | CTRL_VME);
	wr(VET, 0x8100);
	vd_turn();
	CHECK_EQ(take(&status, &special), 60);
	memmove(p + 16, p + 12, 200);
	memcpy(p + 12, "\x81\x00\x60\x05", 4);
	nf_send(peer, p, 204);
	vd_turn();
	CHECK_EQ(take(&status, &special), 200);
	CHECK_EQ(special, 0x6005);
	CHECK(status & 8);
	CHECK_EQ(memcmp(got + 12, p + 16, 100), 0);
	wr(CTRL, rd(CTRL) & ~CTRL_VME);
	/* too long without LPE; then over several buffers of 256 bytes */
	len = nf_packet(p, false, false, 3000, &h);
	memcpy(p, nf_mac, 6);
	nf_send(peer, p, len);
	vd_turn();
	CHECK_EQ(take(&status, &special), 0);
	CHECK_EQ(rd(ROC), 1);
	set_rings(RCTL_SECRC | RCTL_LPE | 3 << 16);
	give(11);
	rd(ICR);
	nf_send(peer, p, len);
	vd_turn();
	CHECK_EQ(take(&status, &special), 0); /* twelve are needed */
	give(1);
	CHECK_EQ(take(&status, &special), len);
	CHECK_EQ(memcmp(got, p, len), 0);
	CHECK(!(rd(ICR) & ICR_RXDMT0));
	/* half of the ring is left */
	set_rings(RCTL_SECRC | RCTL_LPE);
	give(18);
	nf_send(peer, p, len);
	vd_turn();
	CHECK(rd(ICR) & ICR_RXDMT0);
	nf_send(peer, p, len);
	vd_turn();
	CHECK(!(rd(ICR) & ICR_RXDMT0));
	CHECK_EQ(rd(RDH), 4);
	/* off: nothing comes */
	wr(RCTL, 0);
	nf_send(peer, p, 100);
	vd_turn();
	CHECK_EQ(rd(RDH), 4);
	stop();
}

static bool comes(const char *mac)
{
	unsigned h;
	uint8_t status;
	uint16_t special;
	size_t len = nf_packet(p, false, false, 100, &h);

	memcpy(p, mac, 6);
	give(1);
	nf_send(peer, p, len);
	vd_turn();
	bool came = take(&status, &special) != 0;
	if (!came) /* the descriptor is still there */
		rx_tail = (rx_tail + RING - 1) % RING;
	wr(RDT, rx_tail);
	return came;
}

static void test_filters(void)
{
	static const char other[] = "\x52\x54\x00\x12\x34\x57", group[] = "\x01\x00\x5e\x00\x00\xfb";

	start();
	set_rings(0);
	CHECK(comes((const char *)nf_mac) && comes("\xff\xff\xff\xff\xff\xff"));
	CHECK(!comes(other) && !comes(group));
	wr(RCTL, RCTL_EN | RCTL_UPE);
	CHECK(comes(other) && !comes("\xff\xff\xff\xff\xff\xff") && !comes(group));
	wr(RCTL, RCTL_EN | RCTL_MPE);
	CHECK(!comes(other) && comes(group));
	wr(RCTL, RCTL_EN);
	wr(RAL + 8, 0x12005452);
	wr(RAH + 8, 0x80005734);
	CHECK(comes(other));
	wr(RAH + 8, 0x5734);
	CHECK(!comes(other));
	/* hash of 00:fb by MO 0: bits 47:36 = 0xfb0 */
	wr(MTA + 0xfb0 / 32 * 4, 1u << 0xfb0 % 32);
	CHECK(comes(group));
	wr(RCTL, RCTL_EN | 1 << 12);
	CHECK(!comes(group));
	wr(MTA + 0xf60 / 32 * 4, 1u << 0xf60 % 32); /* MO 1: bits 46:35 */
	CHECK(comes(group));
	wr(RCTL, RCTL_EN | RCTL_UPE | RCTL_VFE);
	CHECK(comes(other)); /* has no tag */
	stop();
}

static void test_loopback(void)
{
	unsigned h;
	uint8_t status;
	uint16_t special;

	start();
	set_rings(RCTL_UPE | RCTL_SECRC);
	give(8);
	mdic(0x04000000 | 1 << 21 | 0x4140);
	size_t len = nf_packet(p, false, true, 2000, &h);
	memcpy(vd_ram(TX_DATA), p, len);
	put_context(14, 34, 50, 0, h, 1000, 3 | TSE, 2000);
	put_descriptor(TX_DATA, (uint32_t)((DEXT | TSE | EOP) << 24 | 1 << 20 | len), 3 << 8);
	go();
	CHECK_EQ(nf_receive(peer, got, sizeof got), 0);
	for (unsigned i = 0; i < 2; i++) {
		CHECK_EQ(take(&status, &special), h + 1000);
		CHECK(nf_right(got, h + 1000));
	}
	stop();
}

/* Rings that cannot be, registers at random. */
static void test_hostile(void)
{
	start();
	set_rings(0);
	wr(TDT, 0xffff);
	wr(RDT, 0xffff);
	vd_turn();
	wr(TDH, 0xfff0);
	vd_turn();
	wr(TDLEN, 0);
	wr(TDH, 5);
	vd_turn();
	wr(TDLEN, 0x1000);
	wr(TDBAL, 0xf0000000);
	wr(TDBAH, 0xfffff);
	wr(TDT, 7);
	vd_turn();
	CHECK_EQ(rd(TDH), 5); /* no descriptors there */
	abuse(&mmio, BASE, 0x6000, 20000);
	vd_turn();
	abuse(&pio, IO, 0x40, 2000);
	vd_turn();
	stop();
}

int main(void)
{
	test_eeprom();
	test_link();
	test_interrupts();
	test_legacy_send();
	test_extended_send();
	test_large_send(false, 60000, 1460);
	test_large_send(true, 5000, 1440);
	test_large_send(false, 200000, 1448); /* more than one IP packet has room for */
	test_large_send(false, 1, 1460);
	test_receive();
	test_filters();
	test_loopback();
	test_hostile();
	return summary();
}
