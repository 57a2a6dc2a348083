/*
 * Local APIC: priorities, EOI, LVT, IPIs by every destination form, xAPIC and x2APIC registers and their errors,
 * IA32_APIC_BASE's states, paravirtual EOI, its state taken and given, and local APICs that are elsewhere.
 */
#include "lapic_fixture.h"

static void test_priority(void)
{
	setup();
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(lapic_ack(apic[0]), -1);
	CHECK(lapic_deliver(apic[0], LAPIC_FIXED, 0x41, false));
	CHECK(!lapic_deliver(apic[0], LAPIC_FIXED, 0x41, false));
	CHECK(lapic_deliver(apic[0], LAPIC_FIXED, 0x91, true));
	CHECK(kicks[0] >= 1);
	CHECK_EQ(lapic_pending_vector(apic[0]), 0x91);
	CHECK_EQ(lapic_ack(apic[0]), 0x91);
	CHECK_EQ(rd(0, 0xa0), 0x90);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK(lapic_deliver(apic[0], LAPIC_FIXED, 0x9f, false)); /* same class: waits */
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK(lapic_deliver(apic[0], LAPIC_FIXED, 0xa0, false));
	CHECK_EQ(lapic_ack(apic[0]), 0xa0);
	CHECK_EQ(rd(0, 0x150), 1); /* ISR */
	CHECK_EQ(rd(0, 0x140), 1u << 17);
	CHECK_EQ(rd(0, 0x1c0), 1u << 17); /* TMR */
	CHECK_EQ(rd(0, 0x240), 1u << 31); /* IRR */
	wr(0, 0xb0, 0);
	CHECK_EQ(eois, 0);
	wr(0, 0xb0, 0);
	CHECK_EQ(eois, 1);
	CHECK_EQ(eoi_vector, 0x91);
	CHECK_EQ(lapic_ack(apic[0]), 0x9f);
	wr(0, 0xb0, 0);
	CHECK_EQ(eois, 1);
	lapic_set_cr8(apic[0], 4);
	CHECK_EQ(rd(0, 0x80), 0x40);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	kicks[0] = 0;
	lapic_set_cr8(apic[0], 3);
	CHECK_EQ(kicks[0], 1);
	CHECK_EQ(lapic_ack(apic[0]), 0x41);
	wr(0, 0xb0, 0);
	wr(0, 0xb0, 0); /* EOI with nothing in service */
	/* Vectors below 16 are errors. */
	CHECK(!lapic_deliver(apic[0], LAPIC_FIXED, 15, false));
	CHECK_EQ(rd(0, 0x280), 0);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 1 << 6);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 0);
	/* Software-disabled: nothing is accepted, NMIs are. */
	wr(0, 0xf0, 0xff);
	CHECK(!lapic_deliver(apic[0], LAPIC_FIXED, 0x50, false));
	CHECK(lapic_deliver(apic[0], LAPIC_NMI, 0, false));
	CHECK_EQ(nmis[0], 1);
	teardown();
}

static void test_lvt(void)
{
	setup();
	/* Virtual wire: LINT0 passes the 8259 on. */
	CHECK_EQ(rd(0, 0x350), 0x10000);
	wr(0, 0x350, 0x700);
	lapic_set_lint(apic[0], 0, true);
	CHECK(lapic_extint_pending(apic[0]));
	lapic_set_lint(apic[1], 0, true);
	CHECK(!lapic_extint_pending(apic[1]));
	wr(0, 0x350, 0x10700);
	CHECK(!lapic_extint_pending(apic[0]));
	CHECK(lapic_deliver(apic[0], LAPIC_EXTINT, 0, false)); /* by the I/O APIC */
	CHECK(lapic_extint_pending(apic[0]));
	lapic_set_lint(apic[0], 0, true); /* INTR stays high: the message holds */
	CHECK(lapic_extint_pending(apic[0]));
	lapic_set_lint(apic[0], 0, false);
	lapic_set_lint(apic[0], 0, true);
	CHECK(!lapic_extint_pending(apic[0]));
	kicks[0] = 0;
	wr(0, 0x350, 0x700);
	CHECK(lapic_extint_pending(apic[0]));
	CHECK_EQ(kicks[0], 1);
	lapic_set_lint(apic[0], 0, false);
	/* LINT0 fixed, edge: Linux's "virtual wire IRQ". */
	wr(0, 0x350, 0x30);
	lapic_set_lint(apic[0], 0, true);
	lapic_set_lint(apic[0], 0, true);
	CHECK_EQ(lapic_ack(apic[0]), 0x30);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	lapic_set_lint(apic[0], 0, false);
	/* Fixed, level: again after EOI while high. */
	wr(0, 0x350, 0x8031);
	lapic_set_lint(apic[0], 0, true);
	CHECK_EQ(rd(0, 0x350), 0xc031);
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	lapic_set_lint(apic[0], 0, false);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(rd(0, 0x350), 0x8031);
	/* LINT1: NMI. */
	lapic_set_lint(apic[0], 1, true);
	CHECK_EQ(nmis[0], 0);
	lapic_set_lint(apic[0], 1, false);
	wr(0, 0x360, 0x400);
	lapic_set_lint(apic[0], 1, true);
	lapic_set_lint(apic[0], 1, true);
	CHECK_EQ(nmis[0], 1);
	/* A level that is there comes through when it is let; an edge is not made by writing the LVT. */
	lapic_set_lint(apic[0], 0, true);
	wr(0, 0x350, 0x8400);
	CHECK_EQ(nmis[0], 1);
	wr(0, 0x350, 0x8031);
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	lapic_set_lint(apic[0], 0, false);
	wr(0, 0xb0, 0);
	/* Registers that cannot be written are left alone, those that are not there are errors. */
	wr(0, 0x280, 0);
	wr(0, 0x280, 0);
	for (unsigned r = 0x100; r < 0x280; r += 0x10)
		wr(0, r, 0xffffffff);
	wr(0, 0x20, 0), wr(0, 0x30, 0), wr(0, 0x90, 0), wr(0, 0xa0, 0), wr(0, 0xc0, 0), wr(0, 0x390, 0);
	CHECK_EQ(rd(0, 0x20), 0);
	CHECK_EQ(rd(0, 0x30), 0x1050014);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 0);
	wr(0, 0x2f0, 0);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 1 << 7);
	wr(0, 0x280, 0);
	/* The error LVT, also with a vector that is itself an error. */
	wr(0, 0x370, 0xfe);
	rd(0, 0x3c0);
	CHECK_EQ(lapic_ack(apic[0]), 0xfe);
	wr(0, 0xb0, 0);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 1 << 7);
	wr(0, 0x370, 3);
	rd(0, 0x3c0);
	rd(0, 0x3c0);
	/* Disabling masks them all. */
	wr(0, 0xf0, 0xff);
	CHECK_EQ(rd(0, 0x350), 0x18031);
	wr(0, 0x350, 0x31);
	CHECK_EQ(rd(0, 0x350), 0x10031);
	teardown();
}

/* Which of the local APICs got vector v. */
static unsigned got(uint8_t v)
{
	unsigned who = 0;

	for (unsigned i = 0; i < CPUS; i++)
		while (lapic_pending_vector(apic[i]) >= 0) {
			if (lapic_ack(apic[i]) == v)
				who |= 1 << i;
			wr(i, 0xb0, 0);
			if (lapic_get_base(apic[i]) & 0x400)
				lapic_msr_write(apic[i], 0x80b, 0);
		}
	return who;
}

static void test_ipi(void)
{
	struct lapic_message m = { .dest = 2, .mode = LAPIC_FIXED, .vector = 0x55 };
	bool coalesced;

	setup();
	icr(0, 1, 0x44);
	CHECK_EQ(got(0x44), 2);
	CHECK_EQ(rd(0, 0x310), 1u << 24);
	icr(0, 0xff, 0x44);
	CHECK_EQ(got(0x44), 0xf);
	icr(1, 0, 0x40044); /* self */
	CHECK_EQ(got(0x44), 2);
	icr(1, 0, 0x80044); /* all */
	CHECK_EQ(got(0x44), 0xf);
	icr(1, 0, 0xc0044); /* others */
	CHECK_EQ(got(0x44), 0xd);
	icr(1, 9, 0x44); /* nobody */
	CHECK_EQ(got(0x44), 0);
	/* Logical, flat */
	for (unsigned i = 0; i < CPUS; i++)
		wr(i, 0xd0, 1u << (24 + i));
	icr(0, 0x6, 0x844);
	CHECK_EQ(got(0x44), 6);
	icr(0, 0xff, 0x844);
	CHECK_EQ(got(0x44), 0xf);
	/* Logical, cluster */
	for (unsigned i = 0; i < CPUS; i++) {
		wr(i, 0xe0, 0x0fffffff);
		wr(i, 0xd0, ((i / 2) << 4 | 1 << (i % 2)) << 24);
	}
	icr(0, 0x12, 0x844);
	CHECK_EQ(got(0x44), 8);
	icr(0, 0x03, 0x844);
	CHECK_EQ(got(0x44), 3);
	/* Lowest priority: one of them, not the busy one. */
	wr(0, 0x80, 0x30);
	icr(3, 0x03, 0x944);
	CHECK_EQ(got(0x44), 2);
	wr(0, 0x80, 0);
	/* NMI, INIT, STARTUP */
	icr(0, 3, 0x400);
	CHECK_EQ(nmis[3], 1);
	icr(0, 2, 0xc500);
	icr(0, 2, 0x8500); /* de-assert */
	CHECK_EQ(inits[2], 1);
	icr(0, 2, 0x500); /* edge: there is nothing to de-assert */
	CHECK_EQ(inits[2], 2);
	icr(0, 1, 0x10); /* the lowest vector that there is */
	CHECK_EQ(got(0x10), 2);
	icr(0, 2, 0x69a);
	CHECK_EQ(startups[2], 1);
	CHECK_EQ(startup_vector, 0x9a);
	icr(0, 1, 5);
	wr(0, 0x280, 0);
	CHECK_EQ(rd(0, 0x280), 1 << 5);
	/* Messages and MSIs */
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 1);
	CHECK(!coalesced);
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 1);
	CHECK(coalesced);
	CHECK_EQ(got(0x55), 4);
	m.dest = 77;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 0);
	CHECK_EQ(lapic_bus_deliver_msi(&bus, 0xfee03000, 0x66), 1);
	CHECK_EQ(got(0x66), 8);
	CHECK_EQ(lapic_bus_deliver_msi(&bus, 0xfee03000, 0x8066), 1); /* level */
	CHECK_EQ(got(0x66), 8);
	CHECK_EQ(eois, 1);
	CHECK_EQ(lapic_bus_deliver_msi(&bus, 0xfee03004, 0x67), 2); /* logical */
	CHECK_EQ(got(0x67), 3);
	/* Who is disabled takes no interrupt, and does not count. */
	wr(3, 0xf0, 0xff);
	m.dest = 3;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 0);
	m.mode = LAPIC_LOWEST;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 0);
	m.mode = LAPIC_NMI;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 1);
	CHECK_EQ(nmis[3], 2);
	/* RESET */
	wr(1, 0x80, 0x35);
	lapic_deliver(apic[1], LAPIC_FIXED, 0x99, true);
	lapic_ack(apic[1]);
	lapic_reset(apic[1], false);
	CHECK_EQ(rd(1, 0x80), 0);
	CHECK_EQ(rd(1, 0xa0), 0);
	CHECK_EQ(rd(1, 0x140) | rd(1, 0x1c0), 0);
	CHECK_EQ(rd(1, 0xd0), 0);
	CHECK_EQ(rd(1, 0xe0), 0xffffffff);
	CHECK_EQ(rd(1, 0xf0), 0xff);
	CHECK_EQ(rd(1, 0x300) | rd(1, 0x310), 0);
	teardown();
}

static void test_x2apic(void)
{
	uint64_t v;

	setup();
	CHECK(!lapic_msr_read(apic[1], 0x802, &v));
	icr(0, 1, 0x44);
	CHECK_EQ(got(0x44), 2);
	for (unsigned i = 0; i < CPUS; i++)
		CHECK(x2_on(i));
	CHECK(!lapic_claims(apic[1], 0xfee00020, 4));
	CHECK_EQ(msr(0, 0x830), 0x44); /* the destination has another format here */
	CHECK_EQ(msr(1, 0x802), 1);
	CHECK_EQ(msr(1, 0x803), 0x1050014);
	CHECK_EQ(msr(3, 0x80d), 8);
	CHECK_EQ(msr(1, 0x80f), 0x1ff);
	CHECK(!lapic_msr_read(apic[1], 0x80b, &v));
	CHECK(!lapic_msr_read(apic[1], 0x80e, &v));
	CHECK(!lapic_msr_read(apic[1], 0x831, &v));
	CHECK(!lapic_msr_read(apic[1], 0x83f, &v));
	CHECK(!lapic_msr_read(apic[1], 0x7ff, &v) && !lapic_msr_read(apic[1], 0x902, &v));
	CHECK(!lapic_msr_write(apic[1], 0x7ff, 0) && !lapic_msr_write(apic[1], 0x908, 0));
	CHECK(!lapic_msr_write(apic[1], 0x802, 1));
	CHECK(!lapic_msr_write(apic[1], 0x80b, 1));
	CHECK(!lapic_msr_write(apic[1], 0x808, 0x100));
	CHECK(!lapic_msr_write(apic[1], 0x80f, 1ull << 32));
	CHECK(!lapic_msr_write(apic[1], 0x830, 1 << 13));
	CHECK(lapic_msr_write(apic[1], 0x828, 0));
	CHECK(!lapic_msr_write(apic[1], 0x828, 1));
	CHECK(lapic_msr_write(apic[1], 0x830, 2ull << 32 | 0x77));
	CHECK_EQ(got(0x77), 4);
	CHECK_EQ(msr(1, 0x830), 2ull << 32 | 0x77);
	CHECK(lapic_msr_write(apic[1], 0x830, 0xbull << 32 | 0x877));
	CHECK_EQ(got(0x77), 0xb);
	CHECK(lapic_msr_write(apic[1], 0x830, 0xffffffffull << 32 | 0x77));
	CHECK_EQ(got(0x77), 0xf);
	/* 255 is an APIC ID here; from the I/O APIC it is everybody. */
	CHECK(lapic_msr_write(apic[1], 0x830, 0xffull << 32 | 0x77));
	CHECK_EQ(got(0x77), 0);
	CHECK_EQ(lapic_bus_deliver(&bus, &(struct lapic_message){.dest = 0xff, .vector = 0x77}, NULL), CPUS);
	CHECK_EQ(got(0x77), 0xf);
	/* Reserved bits; those that are read-only may be written back. */
	static const struct { uint32_t msr, ok, bad; } bits[] = {
		{0x80f, 0x1ff, 0x400}, {0x832, 0x710ec, 1 << 19}, {0x832, 0x200ec, 1 << 8}, {0x833, 0x14ec, 1 << 15},
		{0x835, 0x1f7ec, 1 << 17}, {0x836, 0x107ec, 1 << 11}, {0x837, 0x10ec, 1 << 8}, {0x83e, 0xb, 4}};
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		CHECK(lapic_msr_write(apic[3], bits[i].msr, bits[i].ok));
		CHECK(!lapic_msr_write(apic[3], bits[i].msr, bits[i].ok | bits[i].bad));
		CHECK_EQ(msr(3, bits[i].msr) & bits[i].bad, 0);
	}
	CHECK_EQ(msr(3, 0x832), 0x200ec);
	CHECK_EQ(msr(3, 0x835), 0x1a7ec);
	CHECK(lapic_msr_write(apic[1], 0x83f, 0x88));
	CHECK_EQ(got(0x88), 2);
	/* States of IA32_APIC_BASE */
	CHECK(!lapic_set_base(apic[1], 0xfee00800)); /* x2APIC to xAPIC */
	CHECK(lapic_set_base(apic[1], 0xfee00000));
	CHECK(!lapic_set_base(apic[1], 0xfee00c00)); /* off to x2APIC */
	CHECK(!lapic_set_base(apic[1], 0xfee00400));
	CHECK(lapic_set_base(apic[1], 0xfed00800));
	CHECK(lapic_claims(apic[1], 0xfed00ff0, 4) && !lapic_claims(apic[1], 0xfee00000, 4) &&
	      !lapic_claims(apic[1], 0xfed00ffc, 8));
	CHECK(!lapic_set_base(apic[1], 0xfee00801));
	CHECK(!lapic_set_base(apic[1], 1ull << 46 | 0x800));
	CHECK_EQ(lapic_get_base(apic[0]) & 0x100, 0x100);
	CHECK_EQ(lapic_get_base(apic[1]) & 0x100, 0);
	CHECK_EQ(rd(1, 0xf0), 0xff); /* its state was lost */
	teardown();
}

static uint8_t flag(void)
{
	uint8_t byte = 0xff;

	memory_read(&memory, 0x1000, &byte, 1);
	return byte;
}

static void set_flag(uint8_t byte) { memory_write(&memory, 0x1000, &byte, 1); }

/* EOI by a flag in guest memory: offered when nobody waits for it, seen when the vCPU's thread looks. */
static void test_pv_eoi(void)
{
	setup();
	lapic_set_pv_eoi(apic[0], 0x1001);
	CHECK_EQ(lapic_get_pv_eoi(apic[0]), 0x1001);
	icr(1, 0, 0x50);
	CHECK_EQ(lapic_ack(apic[0]), 0x50);
	CHECK_EQ(flag(), 1);
	/* the guest has done it; a lower vector comes: a kick, though it seems to have to wait */
	set_flag(0);
	kicks[0] = 0;
	icr(1, 0, 0x40);
	CHECK_EQ(kicks[0], 1);
	lapic_pv_eoi(apic[0]);
	CHECK_EQ(lapic_pv_eois(apic[0]), 1);
	CHECK_EQ(lapic_ack(apic[0]), 0x40);
	/* it has not: the offer is taken back, the real EOI lets the next one in */
	CHECK_EQ(flag(), 1);
	icr(1, 0, 0x30);
	lapic_pv_eoi(apic[0]);
	CHECK_EQ(flag(), 0);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_ack(apic[0]), 0x30);
	/* an EOI by the register takes the offer back too */
	CHECK_EQ(flag(), 1);
	wr(0, 0xb0, 0);
	CHECK_EQ(flag(), 0);
	/* not offered: another one waits, something was interrupted, level-triggered */
	icr(1, 0, 0x50);
	icr(1, 0, 0x60);
	CHECK_EQ(lapic_ack(apic[0]), 0x60);
	CHECK_EQ(flag(), 0);
	wr(0, 0xb0, 0);
	CHECK_EQ(lapic_ack(apic[0]), 0x50);
	CHECK_EQ(flag(), 1);
	icr(1, 0, 0x60);
	lapic_pv_eoi(apic[0]);
	CHECK_EQ(lapic_ack(apic[0]), 0x60);
	CHECK_EQ(flag(), 0);
	wr(0, 0xb0, 0);
	wr(0, 0xb0, 0);
	lapic_deliver(apic[0], LAPIC_FIXED, 0x55, true);
	CHECK_EQ(lapic_ack(apic[0]), 0x55);
	CHECK_EQ(flag(), 0);
	wr(0, 0xb0, 0);
	/* the guest looks at its own registers */
	icr(1, 0, 0x50);
	lapic_ack(apic[0]);
	set_flag(0);
	CHECK_EQ(rd(0, 0x120), 0);
	/* no memory there: never offered */
	lapic_set_pv_eoi(apic[0], 0xfffffffff001);
	icr(1, 0, 0x50);
	CHECK_EQ(lapic_ack(apic[0]), 0x50);
	wr(0, 0xb0, 0);
	lapic_reset(apic[0], true);
	CHECK_EQ(lapic_get_pv_eoi(apic[0]), 0);
	teardown();
}

/* Random accesses of every register: nothing crashes, hangs or stays armed after RESET. */
static void test_random(void)
{
	uint64_t v;

	setup();
	srand(1);
	for (unsigned i = 0; i < 300000; i++) {
		unsigned c = rand() % CPUS;
		uint64_t value = rand() & 1 ? (uint64_t)rand() << 32 ^ (uint64_t)rand() << 1 : (uint64_t)(rand() & 0x1ff);

		switch (rand() % 8) {
		case 0:
			lapic_write(apic[c], (unsigned)rand() & 0xfff, value, 1u << (rand() & 3));
			break;
		case 1:
			lapic_write(apic[c], (unsigned)rand() & 0xff0, value, 4);
			break;
		case 2:
			lapic_read(apic[c], (unsigned)rand() & 0xfff, 1u << (rand() & 3));
			break;
		case 3:
			lapic_msr_write(apic[c], 0x800 + ((unsigned)rand() & 0xff), value);
			break;
		case 4:
			lapic_msr_read(apic[c], 0x800 + ((unsigned)rand() & 0xff), &v);
			break;
		case 5:
			lapic_msr_write(apic[c], 0x6e0, rand() & 1 ? now * 2 + value % 100000 : value);
			break;
		case 6:
			advance(rand() % 100000);
			lapic_ack(apic[c]);
			break;
		default:
			lapic_set_lint(apic[c], rand() & 1, rand() & 1);
			lapic_set_pv_eoi(apic[c], rand() & 1 ? 0x1001 : value);
			set_flag(rand() & 1);
			lapic_pv_eoi(apic[c]);
			if (rand() % 50 == 0)
				lapic_set_base(apic[c], value);
			if (rand() % 50 == 0)
				lapic_set_base(apic[c], 0xfee00000 | (uint64_t)(rand() & 3) << 10);
			if (rand() % 200 == 0)
				lapic_reset(apic[c], rand() & 1);
		}
	}
	for (unsigned c = 0; c < CPUS; c++)
		lapic_reset(apic[c], false);
	CHECK_EQ(timer_queue_next(queue), UINT64_MAX);
	for (unsigned c = 0; c < CPUS; c++)
		CHECK_EQ(lapic_pending_vector(apic[c]), -1);
	teardown();
}

/* ---- local APICs that are elsewhere ---- */

static struct apic_msi last;
static unsigned sent;
static int answer;

static int on_message(void *opaque, const struct apic_msi *m)
{
	(void)opaque;
	last = *m;
	sent++;
	return answer;
}

/* A state taken from one and given to another that is as after RESET: the same registers, timers that end when they
 * would have ended. */
static void test_state(void)
{
	static const unsigned compared[] = { 0x80, 0xa0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350,
					     0x360, 0x370, 0x380, 0x390, 0x3e0 };
	struct apic_state s;
	uint32_t before[sizeof(compared) / sizeof(compared[0])];

	setup();
	wr(0, 0xd0, 0x5a000000);
	wr(0, 0xe0, 0x0fffffff);
	wr(0, 0x80, 0x21);
	wr(0, 0x320, 0x20031); /* periodic */
	wr(0, 0x350, 0x700);
	wr(0, 0x370, 0xfe);
	wr(0, 0x3e0, 0xa); /* by 128 */
	wr(0, 0x310, 0x03000000);
	wr(0, 0x300, 0x04077);
	lapic_deliver(apic[0], LAPIC_FIXED, 0x91, true);
	CHECK_EQ(lapic_ack(apic[0]), 0x91);
	lapic_deliver(apic[0], LAPIC_FIXED, 0x51, false);
	CHECK(lapic_bus_has_vector(&bus, 0x91));
	CHECK(lapic_bus_has_vector(&bus, 0x51));
	CHECK(!lapic_bus_has_vector(&bus, 0x52));
	wr(0, 0x380, 1000); /* 128 us a period */
	advance(32000);
	for (unsigned i = 0; i < sizeof(compared) / sizeof(compared[0]); i++)
		before[i] = rd(0, compared[i]);
	lapic_get_state(apic[0], &s);
	CHECK_EQ(s.reg[2], 0);
	CHECK_EQ(s.reg[0x14], 1u << 17); /* ISR, TMR, IRR */
	CHECK_EQ(s.reg[0x1c], 1u << 17);
	CHECK_EQ(s.reg[0x22], 1u << 17);
	CHECK_EQ(s.reg[0x39], 750);
	lapic_reset(apic[0], false);
	CHECK(!lapic_bus_has_vector(&bus, 0x91));
	lapic_set_state(apic[0], &s);
	for (unsigned i = 0; i < sizeof(compared) / sizeof(compared[0]); i++)
		CHECK_EQ(rd(0, compared[i]), before[i]);
	wr(0, 0xb0, 0);
	CHECK_EQ(eois, 1);
	CHECK_EQ(eoi_vector, 0x91);
	CHECK_EQ(lapic_ack(apic[0]), 0x51);
	wr(0, 0xb0, 0);
	advance(95000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	advance(1500);
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	wr(0, 0xb0, 0);
	advance(128000); /* periods stay what they were */
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	wr(0, 0xb0, 0);

	/* A tick that is due comes with the state. */
	now += 129000;
	timer_queue_set_now(queue, now);
	lapic_get_state(apic[0], &s);
	CHECK_EQ(s.reg[0x21], 1u << 17);
	lapic_set_state(apic[0], &s);
	CHECK_EQ(lapic_ack(apic[0]), 0x31);
	wr(0, 0xb0, 0);

	/* With its broadcast suppressed the end of a level-triggered interrupt is for the guest to tell. */
	wr(0, 0xf0, 0x11ff);
	CHECK_EQ(rd(0, 0xf0), 0x11ff);
	lapic_deliver(apic[0], LAPIC_FIXED, 0x92, true);
	CHECK_EQ(lapic_ack(apic[0]), 0x92);
	wr(0, 0xb0, 0);
	CHECK_EQ(eois, 1);
	CHECK(!lapic_bus_has_vector(&bus, 0x92));
	wr(0, 0xf0, 0x1ff);

	/* x2APIC mode, the TSC's deadline, a timer of one shot that has ended. */
	CHECK(x2_on(1));
	wr(0, 0x320, 0x32);
	wr(0, 0x380, 10);
	advance(10000);
	CHECK_EQ(lapic_ack(apic[0]), 0x32);
	wr(0, 0xb0, 0);
	lapic_get_state(apic[0], &s);
	CHECK_EQ(s.reg[0x38], 0);
	lapic_set_state(apic[0], &s);
	advance(1000000);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK(lapic_msr_write(apic[1], 0x832, 0x40033));
	CHECK(lapic_msr_write(apic[1], 0x6e0, now * 2 + 20000));
	CHECK(lapic_msr_write(apic[1], 0x830, 0x12345678ull << 32 | 0x44000));
	lapic_get_state(apic[1], &s);
	CHECK_EQ(s.reg[2], 1u << 24);
	CHECK_EQ(s.tsc_deadline, now * 2 + 20000);
	CHECK_EQ(s.base & 0xc00, 0xc00);
	lapic_reset(apic[1], false);
	lapic_set_state(apic[1], &s);
	CHECK_EQ(msr(1, 0x802), 1);
	CHECK_EQ(msr(1, 0x80d), 2);
	CHECK_EQ(msr(1, 0x830), 0x12345678ull << 32 | 0x44000);
	advance(9000);
	CHECK_EQ(lapic_pending_vector(apic[1]), -1);
	advance(2000);
	CHECK_EQ(lapic_ack(apic[1]), 0x33);
	teardown();
}

/* Asleep: nothing is pending, timers stand still, messages go out as what a device would write, pins are asked. */
static void test_elsewhere(void)
{
	struct lapic_message m = { .dest = 2, .mode = LAPIC_FIXED, .vector = 0x41, .level = true };
	bool coalesced = true;

	setup();
	wr(0, 0x320, 0x20031);
	wr(0, 0x380, 1000);
	lapic_deliver(apic[0], LAPIC_FIXED, 0x91, false);
	lapic_bus_set_elsewhere(&bus, on_message, NULL);
	CHECK_EQ(lapic_pending_vector(apic[0]), -1);
	CHECK_EQ(lapic_ack(apic[0]), -1);
	CHECK(!lapic_claims(apic[0], 0xfee00020, 4));
	kicks[0] = 0;
	advance(1000000);
	CHECK_EQ(kicks[0], 0);
	answer = 1;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 1);
	CHECK(!coalesced);
	CHECK_EQ(last.address, 0xfee02000);
	CHECK_EQ(last.data, 0xc041);
	m = (struct lapic_message){ .dest = 0xff, .logical = true, .mode = LAPIC_LOWEST, .vector = 0x42 };
	answer = 0;
	CHECK_EQ(lapic_bus_deliver(&bus, &m, &coalesced), 1);
	CHECK(coalesced);
	CHECK_EQ(last.address, 0xfeeff00c);
	CHECK_EQ(last.data, 0x142);
	answer = -EPERM;
	CHECK_EQ(lapic_bus_deliver_msi(&bus, 0xfee03000, 0x4500), 0);
	CHECK_EQ(last.address, 0xfee03000);
	CHECK_EQ(last.data, 0x500);
	CHECK_EQ(sent, 3);
	m = (struct lapic_message){ .dest = 0, .mode = LAPIC_SMI };
	CHECK_EQ(lapic_bus_deliver(&bus, &m, NULL), 0);
	CHECK_EQ(sent, 3);
	CHECK(!lapic_extint_pending(apic[1]));
	lapic_set_lint(apic[1], 0, true);
	CHECK(lapic_extint_pending(apic[1])); /* though it is masked here */
	CHECK_EQ(kicks[1], 1);
	lapic_set_lint(apic[1], 0, false);
	CHECK(!lapic_extint_pending(apic[1]));
	lapic_set_lint(apic[1], 0, true);
	m = (struct lapic_message){ .dest = 1, .mode = LAPIC_EXTINT };
	lapic_bus_deliver(&bus, &m, NULL);
	CHECK_EQ(sent, 3);
	lapic_bus_set_elsewhere(&bus, NULL, NULL);
	CHECK(lapic_extint_pending(apic[1])); /* by the message: LINT0 is masked */
	lapic_set_lint(apic[1], 0, false);
	CHECK(!lapic_extint_pending(apic[1]));
	CHECK_EQ(lapic_pending_vector(apic[0]), 0x91);
	CHECK(lapic_claims(apic[0], 0xfee00020, 4));
	teardown();
}

int main(void)
{
	if (memory_init(&memory, 1 << 20) < 0)
		return 1;
	test_priority();
	test_lvt();
	test_ipi();
	test_x2apic();
	test_pv_eoi();
	test_random();
	test_state();
	test_elsewhere();
	memory_free(&memory);
	return summary();
}
