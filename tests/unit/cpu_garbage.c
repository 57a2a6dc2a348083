/*
 * Random descriptors, gates, task states, page tables and control registers, and random transfers,
 * events, segment loads and accesses among them, with a fixed seed: nothing may crash, hang or leave
 * the processor in a state that its own rules exclude.
 */
#include "cpu_fixture.h"

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t n) { return (rnd() >> 11) % n; }

/* Mostly addresses that mean something. */
static uint64_t address(void)
{
	static const uint64_t base[] = {0,
					GDT,
					IDT,
					TSS,
					TABLES,
					CODE,
					0x200000,
					0xfee00000,
					0xffffffff00000000,
					0x7ffffffff000,
					0xffff800000000000,
					0xfffff000,
					0xfff000};

	if (below(8) == 0)
		return rnd();
	return base[below(sizeof base / sizeof *base)] + below(0x1100);
}

static uint16_t selector(void) { return below(6) ? (uint16_t)below(0x100) : (uint16_t)rnd(); }

static void scramble_tables(struct guest *g)
{
	for (unsigned i = 1; i < 32; i++)
		if (below(2))
			put(g, GDT + 8 * i,
			    descriptor((uint32_t)address(), (uint32_t)rnd(), (unsigned)rnd() | (below(8) ? SEG_P : 0)),
			    8);
	for (unsigned i = 0; i < 64; i++)
		put(g, IDT + 8 * below(512),
		    gate(selector(), (uint32_t)address(), 0xc | (unsigned)below(4), (unsigned)below(4),
			 (unsigned)below(8)),
		    8);
	for (unsigned i = 0; i < 64; i++)
		put(g, TSS + 4 * below(512), below(2) ? address() : selector(), 4);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t entry = below(4) ? (below(16) << 20) | below(0x1000) | 1 : rnd();

		put(g, TABLES + 8 * below(0x600), entry, 8);
	}
}

static void scramble_state(struct guest *g)
{
	struct cpu *cpu = &g->cpu;

	cpu->rflags = (rnd() & RFLAGS_ALL & ~(cpu_long_active(cpu) ? (uint64_t)RFLAGS_VM : 0)) | RFLAGS_FIXED;
	cpu->cr4 = (cpu->cr4 & CR4_PAE) | (rnd() & (CR4_VME | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PKE));
	cpu->gpr[RSP] = address();
	for (unsigned s = 0; s < SREG_COUNT; s++)
		if (s != SS && s != CS && below(2))
			cpu->seg[s] = segment_of(selector(), gdt_get(g, selector() & 0xf8));
	cpu_update_mode(cpu);
	mmu_flush(cpu, true);
}

static enum x step(struct guest *g)
{
	static const unsigned opsizes[] = {2, 4, 8};
	struct cpu *cpu = &g->cpu;
	unsigned opsize = opsizes[below(cpu->mode == MODE_LONG ? 3 : 2)], got;
	uint64_t v[8] = {rnd()};
	uint8_t bytes[15];
	uint32_t u;
	void *hva;
	bool ok;

	switch (below(20)) {
	case 0:
		return transfer_far_jmp(cpu, selector(), address(), opsize, address());
	case 1:
		return transfer_far_call(cpu, selector(), address(), opsize, address());
	case 2:
		return transfer_far_ret(cpu, opsize, (uint16_t)rnd());
	case 3:
		return transfer_iret(cpu, opsize, address());
	case 4:
		return transfer_int(cpu, EVENT_SOFT_INT, (uint8_t)rnd(), address());
	case 5:
		return cpu_deliver_event(cpu, below(4), (uint8_t)rnd());
	case 6:
		return segment_load(cpu, below(2) ? SS : DS, selector());
	case 7:
		return segment_load_ldtr(cpu, selector());
	case 8:
		return segment_load_tr(cpu, selector());
	case 9:
		return segment_lar(cpu, selector(), &ok, &u);
	case 10:
		return segment_lsl(cpu, selector(), &ok, &u);
	case 11:
		return mmu_read_slow(cpu, address(), v, 1u + (unsigned)below(64), 0);
	case 12:
		return mmu_write(cpu, address(), v, 1u + (unsigned)below(64), 0);
	case 13:
		return mmu_fetch(cpu, address(), bytes, 15, &got);
	case 14:
		return mmu_writable_pointer(cpu, address(), 8, &hva);
	case 15:
		return transfer_syscall(cpu, address());
	case 16:
		return transfer_sysret(cpu, opsize);
	case 17:
		return transfer_io_permission(cpu, (uint16_t)rnd(), 4);
	case 18:
		mmu_flush_page(cpu, address());
		return X_OK;
	default:
		return mmu_fill(cpu, address(), below(3), &hva);
	}
}

static void answer_io(struct cpu *cpu)
{
	if (cpu->exit.reason != EXIT_MMIO && cpu->exit.reason != EXIT_PIO)
		return;
	if (cpu->io.count < IO_LOG_MAX) {
		cpu->io.access[cpu->io.count] = cpu->exit.io;
		cpu->io.access[cpu->io.count++].value = rnd();
	}
}

static void run(struct guest *g, unsigned steps)
{
	struct cpu *cpu = &g->cpu;

	for (unsigned i = 0; i < steps; i++) {
		enum x x;

		if (below(16) == 0)
			scramble_tables(g);
		if (below(4) == 0)
			scramble_state(g);
		cpu->io.next = 0;
		x = step(g);
		if (x == X_FAULT) {
			if (cpu->fault.vector > 31)
				CHECK(0);
			do
				x = cpu_deliver_fault(cpu);
			while (x == X_EXIT && cpu->exit.reason == EXIT_MMIO &&
			       (answer_io(cpu), cpu->io.count < IO_LOG_MAX));
		}
		if (x == X_EXIT)
			answer_io(cpu);
		if (below(2))
			cpu->io.count = cpu->io.next = 0;
		if (cpu->mode != MODE_V8086 && cpu->cpl != SEG_DPL(cpu->seg[SS].attr))
			CHECK(0);
	}
	CHECK(true);
}

int main(void)
{
	for (unsigned i = 0; i < 300; i++) {
		struct guest *g = i & 1 ? guest_long() : guest_protected();

		g->cpu.efer |= EFER_SCE;
		g->cpu.star = rnd();
		g->cpuid.amd = below(2);
		if (!(i & 1) && (i & 2)) { /* 32-bit paging */
			for (unsigned k = 0; k < 1024; k++)
				put(g, TABLES + 4 * k, (k & 3) << 22 | 0x87, 4);
			g->cpu.cr3 = TABLES;
			g->cpu.cr4 = CR4_PSE;
			g->cpu.cr0 |= CR0_PG;
		}
		run(g, 2000);
		guest_free(g);
	}
	return report();
}
