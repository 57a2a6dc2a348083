/*
 * Translated accesses of EVEX instructions, whose displacements of one byte count in their own units. That of the host's
 * copy has to be the guest's. No host with AVX-512 is needed: the code is translated and read, not run.
 */
#include "cpu_fixture.h"
#include "engine/bt/bt.h"

extern const uint8_t guest_code[], guest_end[];
__asm__(".pushsection .rodata\n"
	"guest_code:\n"
	"vmovdqu64 (%rdi), %zmm0\n"
	"vmovdqu64 0x40(%rdi), %zmm1\n"
	"vmovdqu64 0x80(%rdi), %zmm17\n"
	"vmovdqu64 -0x40(%rdi), %zmm2\n"
	"vmovdqu64 0x10(%rdi), %zmm3\n"
	"vmovdqu64 %zmm1, 0x40(%rdi)\n"
	"vmovdqu64 %ymm1, 0x20(%rdi)\n"
	"vpaddq 0x8(%rdi){1to8}, %zmm1, %zmm2\n"
	"vaddss 0x4(%rdi), %xmm16, %xmm2\n"
	"vmovdqu64 0x40(%r13), %zmm1\n"
	"vmovdqu64 0x80(%r13), %zmm1\n"
	"hlt\n"
	"guest_end:\n"
	".popsection");

enum { INSNS = 11 };

int main(void)
{
	struct guest *g = guest_long();
	struct insn want[INSNS], insn;
	struct cpu *cpu = &g->cpu;
	unsigned found = 0, offset = 0;
	void *engine = engine_bt.vm_create(&g->memory);
	const struct block *b;
	const struct bt *bt;
	uint32_t id;

	memcpy(at(g, CODE), guest_code, (size_t)(guest_end - guest_code));
	for (unsigned n = 0; n < INSNS; offset += want[n++].len)
		CHECK_EQ(insn_decode(&want[n], guest_code + offset, 15, 64), DECODE_OK);
	for (unsigned f = 0; f < FEATURE_COUNT; f++)
		g->cpuid.has[f] = true;
	cpu->cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
	cpu->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512;
	if (!engine || engine_bt.vcpu_create(engine, cpu) < 0) {
		perror("engine bt");
		return 1;
	}
	bt = bt_of(cpu);
	cache_activate(bt_of(cpu));
	id = cache_find(bt_of(cpu), bt_key(cpu));
	CHECK(id != NO_BLOCK);
	b = bt_block(bt, id);
	CHECK_EQ(b->insns, INSNS + 1);
	for (uint32_t host = b->entry; host < b->end; host += insn.len) {
		if (insn_decode(&insn, bt->rw + host, 15, 64) != DECODE_OK)
			break;
		if (insn.encoding != ENCODING_EVEX || found == INSNS)
			continue;
		CHECK_EQ(insn.id, want[found].id);
		CHECK_EQ(insn.mem_base, want[found].mem_base);
		CHECK_EQ(insn.mem_index, RCX);
		CHECK_EQ(insn.mem_disp, want[found].mem_disp);
		found++;
	}
	CHECK_EQ(found, INSNS);
	cache_rest(bt_of(cpu));
	engine_bt.vcpu_destroy(cpu);
	engine_bt.vm_destroy(engine);
	guest_free(g);
	return report();
}
