/*
 * Instructions whose operands lie in I/O memory, on the interpreter: every device access happens once
 * and in order, although the instruction runs again after each; and what it changes besides, x87 pops
 * above all, happens once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/engine.h"
#include "mem/memory.h"

#define RAM (4u << 20)
#define DEVICE 0x80000000u
#define DEVICE_SIZE 256

enum { TABLES = 0x10000, CODE = 0x20000, STACK = 0x40000, DATA = 0x50000 };

static struct memory memory;
static struct cpuid_table cpuid;
static struct cpu cpu;
static uint8_t device[DEVICE_SIZE];
static char accesses[256]; /* "r8w4": what the device saw */

static uint64_t env_tsc(void *o) { (void)o; return 1; }
static uint64_t env_get_apic(void *o) { (void)o; return 0xfee00900; }
static const struct cpu_env env = { .tsc = env_tsc, .get_apic_base = env_get_apic };

static void put64(uint64_t gpa, uint64_t v)
{
	memory_write(&memory, gpa, &v, 8);
}

static uint64_t get64(uint64_t gpa)
{
	uint64_t v = 0;
	memory_read(&memory, gpa, &v, 8);
	return v;
}

static bool set_up(void)
{
	if (memory_init(&memory, RAM) || cpuid_build(&cpuid, 1) || cpu_init(&cpu, &memory, &env, NULL, &cpuid, 0) ||
	    !engine_interp.vm_create(&memory) || engine_interp.vcpu_create(&memory, &cpu))
		return false;
	put64(TABLES, (TABLES + 0x1000) | 3);
	for (unsigned i = 0; i < 4; i++) {
		put64(TABLES + 0x1000 + i * 8, (TABLES + 0x2000 + i * 0x1000) | 3);
		for (uint64_t k = 0; k < 512; k++)
			put64(TABLES + 0x2000 + i * 0x1000 + k * 8, (((uint64_t)i << 9 | k) << 21) | 0x83);
	}
	cpu.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG | CR0_MP;
	cpu.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
	cpu.cr3 = TABLES;
	cpu.efer = EFER_LME | EFER_LMA;
	cpu.xcr0 = cpuid.xcr0_mask & 7;
	cpu.seg[CS] = (struct segment){ .selector = 8, .limit = 0xffffffff, .attr = 0xa09b };
	cpu.seg[SS] = cpu.seg[DS] = cpu.seg[ES] = (struct segment){ .selector = 16, .limit = 0xffffffff, .attr = 0xc093 };
	cpu_update_mode(&cpu);
	return true;
}

static void device_access(struct io_access *io)
{
	size_t at = io->addr - DEVICE, n = strlen(accesses);
	snprintf(accesses + n, sizeof(accesses) - n, "%c%u", io->write ? 'w' : 'r', io->size);
	if (io->addr < DEVICE || at + io->size > DEVICE_SIZE)
		return;
	if (io->write) {
		memcpy(device + at, &io->value, io->size);
	} else {
		io->value = 0;
		memcpy(&io->value, device + at, io->size);
	}
}

/* Runs code up to its HLT. rdi = the device, rsi = RAM. */
static bool run(const char *what, const void *code, size_t len)
{
	struct exit exit;
	static const uint8_t hlt = 0xf4;
	check_about = what;
	accesses[0] = 0;
	for (unsigned i = 0; i < DEVICE_SIZE; i++)
		device[i] = (uint8_t)(i + 1);
	for (unsigned i = 0; i < 512; i++)
		put64(DATA + i * 8, 0x0101010101010101ull * (i & 0xff));
	memory_write(&memory, CODE, code, len);
	memory_write(&memory, CODE + len, &hlt, 1);
	cpu.rip = CODE;
	cpu.gpr[RDI] = DEVICE;
	cpu.gpr[RSI] = DATA;
	cpu.gpr[RSP] = STACK;
	cpu.halted = false;
	cpu.rflags = RFLAGS_FIXED;
	for (unsigned n = 0; n < 1000; n++) {
		cpu.request = 0;
		engine_interp.run(&cpu, &exit);
		if (exit.reason == EXIT_HLT)
			return true;
		if (exit.reason != EXIT_MMIO)
			break;
		device_access(&exit.io);
		cpu.io.access[cpu.io.count++] = exit.io;
	}
	failed++;
	printf("not ok: %s: exit %d at %#llx\n", what, exit.reason, (unsigned long long)cpu.rip);
	return false;
}
#define RUN(what, ...) run(what, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static uint64_t device64(unsigned at)
{
	uint64_t v;
	memcpy(&v, device + at, 8);
	return v;
}

static unsigned x87_top(void)
{
	return cpu.fpu[FPU_FSW + 1] >> 3 & 7;
}

static void test_integer(void)
{
	if (RUN("mov eax, [device]", 0x8b, 0x07)) {
		CHECK(!strcmp(accesses, "r4") && cpu.gpr[RAX] == 0x04030201);
	}
	if (RUN("add [device], rsi", 0x48, 0x01, 0x37)) {
		CHECK(!strcmp(accesses, "r8w8") && device64(0) == 0x0807060504030201ull + DATA);
	}
	if (RUN("lock inc dword [device]", 0xf0, 0xff, 0x07)) {
		CHECK(!strcmp(accesses, "r4w4") && device[0] == 2);
	}
	cpu.gpr[RAX] = 0x04030201;
	if (RUN("lock cmpxchg [device], esi", 0xf0, 0x0f, 0xb1, 0x37)) {
		CHECK(!strcmp(accesses, "r4w4") && (uint32_t)device64(0) == DATA && (cpu.rflags & EF_ZF));
	}
	cpu.gpr[RAX] = 0x1234;
	if (RUN("xchg [device], ax", 0x66, 0x87, 0x07)) {
		CHECK(!strcmp(accesses, "r2w2") && device[0] == 0x34 && (uint16_t)cpu.gpr[RAX] == 0x0201);
	}
	if (RUN("push [device]; pop [device+8]", 0xff, 0x37, 0x8f, 0x47, 0x08)) {
		CHECK(!strcmp(accesses, "r8w8") && device64(8) == device64(0) && cpu.gpr[RSP] == STACK);
		CHECK(get64(STACK - 8) == 0x0807060504030201ull);
	}
	if (RUN("call [device]", 0x48, 0xc7, 0x47, 0x10, 0x0c, 0x00, 0x02, 0x00, 0xff, 0x57, 0x10, 0xf4)) {
		CHECK(!strcmp(accesses, "w8r8") && cpu.gpr[RSP] == STACK - 8);
	}
	if (RUN("mov misaligned", 0x8b, 0x47, 0x03)) {
		CHECK(!strcmp(accesses, "r1r2r1") || !strcmp(accesses, "r1r4"));
		CHECK(cpu.gpr[RAX] == 0x07060504);
	}
}

static void test_string(void)
{
	cpu.gpr[RCX] = 5;
	if (RUN("rep movsb to the device", 0xb9, 5, 0, 0, 0, 0xf3, 0xa4)) {
		CHECK(!strcmp(accesses, "w1w1w1w1w1") && cpu.gpr[RCX] == 0 && cpu.gpr[RDI] == DEVICE + 5);
	}
	if (RUN("rep movsd from the device", 0x48, 0x87, 0xf7, 0xb9, 3, 0, 0, 0, 0xf3, 0xa5)) {
		CHECK(!strcmp(accesses, "r4r4r4") && get64(DATA) == device64(0) && cpu.gpr[RSI] == DEVICE + 12);
	}
	if (RUN("rep movsw inside the device", 0x48, 0x8d, 0x77, 0x20, 0xb9, 2, 0, 0, 0, 0xf3, 0x66, 0xa5)) {
		CHECK(!strcmp(accesses, "r2w2r2w2") && device[0] == 0x21 && device[3] == 0x24);
	}
	if (RUN("repne scasb", 0xb0, 3, 0xb9, 9, 0, 0, 0, 0xf2, 0xae)) {
		CHECK(!strcmp(accesses, "r1r1r1") && cpu.gpr[RCX] == 6 && (cpu.rflags & EF_ZF));
	}
}

static void test_vector(void)
{
	if (RUN("fninit; fldpi; fld1; fstp qword [device]; fistp dword [device+8]", 0xdb, 0xe3, 0xd9, 0xeb, 0xd9, 0xe8, 0xdd,
		0x1f, 0xdb, 0x5f, 0x08)) {
		CHECK(!strcmp(accesses, "w8w4") && device64(0) == 0x3ff0000000000000ull && device[8] == 3);
		CHECK(x87_top() == 0);
	}
	if (RUN("fstp tbyte [device]", 0xdb, 0xe3, 0xd9, 0xe8, 0xdb, 0x3f)) {
		CHECK(!strcmp(accesses, "w8w2") && device[9] == 0x3f && x87_top() == 0);
	}
	if (RUN("fnsave [device]", 0xdb, 0xe3, 0xd9, 0xe8, 0xdd, 0x37)) {
		CHECK(x87_top() == 0 && device[28 + 7] == 0x80 && device[28 + 9] == 0x3f);
	}
	if (RUN("movups xmm0, [device]; movaps [device+32], xmm0", 0x0f, 0x10, 0x07, 0x0f, 0x29, 0x47, 0x20)) {
		CHECK(!strcmp(accesses, "r8r8w8w8") && !memcmp(device, device + 32, 16));
	}
	if (RUN("movq mm0, [device]; movq [device+8], mm0; emms", 0x0f, 0x6f, 0x07, 0x0f, 0x7f, 0x47, 0x08, 0x0f, 0x77)) {
		CHECK(!strcmp(accesses, "r8w8") && device64(8) == device64(0));
	}
	if (RUN("cvtsi2sd xmm0, [device]; cvttsd2si eax, xmm0", 0xf2, 0x0f, 0x2a, 0x07, 0xf2, 0x0f, 0x2c, 0xc0)) {
		CHECK(!strcmp(accesses, "r4") && (uint32_t)cpu.gpr[RAX] == 0x04030201);
	}
	if (cpuid.has[FEATURE_AVX2] &&
	    RUN("vpcmpeqd mask; vpmaskmovd load and store; gather", 0xc5, 0xf1, 0x76, 0xc9, /* xmm1 = ones */
		0xc4, 0xe2, 0x71, 0x8c, 0x17, /* vpmaskmovd xmm2, xmm1, [rdi] */
		0xc4, 0xe2, 0x71, 0x8e, 0x57, 0x20, /* vpmaskmovd [rdi+32], xmm1, xmm2 */
		0xc5, 0xe1, 0xef, 0xdb, /* xmm3 = 0 */
		0xc4, 0xe2, 0x71, 0x90, 0x24, 0x9f)) { /* vpgatherdd xmm4, [rdi+xmm3*4], xmm1 */
		CHECK(!strcmp(accesses, "r4r4r4r4w4w4w4w4r4r4r4r4") && !memcmp(device, device + 32, 16));
	}
	if (RUN("popcnt eax, [device]", 0xf3, 0x0f, 0xb8, 0x07)) {
		CHECK(!strcmp(accesses, "r4") && cpu.gpr[RAX] == 5);
	}
}

int main(void)
{
	if (!set_up()) {
		printf("not ok: no vCPU\n0 passed, 1 failed\n");
		return 1;
	}
	test_integer();
	test_string();
	test_vector();
	cpu_free(&cpu);
	memory_free(&memory);
	return summary();
}
