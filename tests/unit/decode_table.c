/*
 * The instruction table itself: rows that contradict themselves, sensitive instructions that would be
 * copied, limits of the decoder (truncated, too long, a guard page behind the bytes), the flags that
 * liveness may kill, the disassembler in small buffers.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "cpu/decode_table.h"

static struct insn decode_ok(unsigned mode, const char *bytes, size_t size)
{
	struct insn insn;
	enum decode_result result = insn_decode(&insn, (const uint8_t *)bytes, size, mode);
	CHECK_SAYING(result == DECODE_OK && insn.len == size, "%02x %02x ...: %d", bytes[0] & 0xff,
		     bytes[1] & 0xff, result);
	return insn;
}
#define DECODE(mode, bytes) decode_ok(mode, bytes, sizeof(bytes) - 1)

static void check_rows(void)
{
	for (unsigned i = 1; i < insn_desc_count; i++) {
		const struct insn_desc *d = &insn_descs[i];
		const struct decode_row *row = &decode_rows[i];
		const struct operand_rule *first = &operand_rules[row->operand[0] & 0xff];
		CHECK_SAYING(d->id > INSN_INVALID && d->id < INSN_COUNT && d->name[0], "row %u", i);
		CHECK_SAYING(!(d->eflags_written & d->eflags_undefined), "%s", d->name);
		CHECK_SAYING(!(d->flags & (INSN_PRIVILEGED | INSN_SENSITIVE | INSN_IOPL)) || d->xlate != XLATE_IDENT, "%s",
			     d->name);
		CHECK_SAYING(!(d->flags & INSN_PRIVILEGED) || (d->flags & INSN_SENSITIVE), "%s", d->name);
		CHECK_SAYING(!(d->flags & INSN_BRANCH) || d->xlate != XLATE_IDENT, "%s", d->name);
		CHECK_SAYING(!(d->flags & INSN_LOCKABLE) ||
				     (first->where == AT_RM && (row->operand[0] >> 8 & ACCESS_WRITE)),
			     "%s", d->name);
		CHECK_SAYING(!((d->flags & INSN_ONLY_64) && (d->flags & INSN_NOT_64)), "%s", d->name);
	}
}

/* Popek and Goldberg's sensitive instructions of the x86, and the privileged ones: none may be copied. */
static void check_sensitive(void)
{
	static const struct {
		unsigned mode;
		const char *bytes;
	} rows[] = {
		{ 64, "\x0f\x01\x00" /* sgdt */ }, { 64, "\x0f\x01\x08" /* sidt */ }, { 64, "\x0f\x00\xc0" /* sldt */ },
		{ 64, "\x0f\x00\xc8" /* str */ }, { 64, "\x0f\x01\xe0" /* smsw */ }, { 64, "\x9c" /* pushf */ },
		{ 64, "\x9d" /* popf */ }, { 64, "\x0f\x02\xc1" /* lar */ }, { 64, "\x0f\x03\xc1" /* lsl */ },
		{ 64, "\x0f\x00\xe0" /* verr */ }, { 64, "\x0f\x00\xe8" /* verw */ },
		{ 64, "\x8c\xd8" /* mov ax, ds */ },
		{ 64, "\x8e\xd8" /* mov ds, ax */ }, { 32, "\x1e" /* push ds */ }, { 32, "\x1f" /* pop ds */ },
		{ 64, "\x0f\xa0" /* push fs */ }, { 64, "\x0f\xa1" /* pop fs */ }, { 64, "\xff\x18" /* call far */ },
		{ 64, "\xff\x28" /* jmp far */ }, { 64, "\xcb" /* ret far */ }, { 64, "\xcd\x80" /* int */ },
		{ 64, "\xcf" /* iret */ }, { 32, "\x63\xc8" /* arpl */ }, { 64, "\x0f\xa2" /* cpuid */ },
		{ 64, "\x0f\x31" /* rdtsc */ }, { 64, "\x0f\x01\xd0" /* xgetbv */ }, { 64, "\xfa" /* cli */ },
		{ 64, "\xfb" /* sti */ },
		{ 64, "\xe4\x60" /* in */ }, { 64, "\x6c" /* ins */ }, { 64, "\xf4" /* hlt */ },
		{ 64, "\x0f\x01\x10" /* lgdt */ }, { 64, "\x0f\x20\xc0" /* mov rax, cr0 */ },
		{ 64, "\x0f\x22\xd8" /* mov cr3, rax */ }, { 64, "\x0f\x23\xf8" /* mov dr7, rax */ },
		{ 64, "\x0f\x30" /* wrmsr */ }, { 64, "\x0f\x01\xf8" /* swapgs */ }, { 64, "\x0f\x05" /* syscall */ },
		{ 64, "\x0f\x07" /* sysret */ }, { 64, "\x0f\x01\x38" /* invlpg */ }, { 64, "\x0f\x09" /* wbinvd */ },
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t size = strlen(rows[i].bytes);
		char bytes[16];
		memcpy(bytes, rows[i].bytes, size + 1);
		struct insn insn;
		static const uint8_t zeros[15];
		uint8_t padded[15];
		memcpy(padded, zeros, 15);
		memcpy(padded, bytes, size);
		if (rows[i].bytes[1] == 0x01 && size == 2)
			size = 3; /* ModRM 00 ends the string */
		enum decode_result result = insn_decode(&insn, padded, 15, rows[i].mode);
		CHECK_SAYING(result == DECODE_OK, "row %u", i);
		CHECK_SAYING(insn_desc(&insn)->xlate != XLATE_IDENT, "%s", insn_mnemonic(&insn));
		CHECK_SAYING(insn_desc(&insn)->flags & INSN_SENSITIVE, "%s", insn_mnemonic(&insn));
	}
}

static void check_limits(void)
{
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *pages = mmap(NULL, page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct insn insn;
	CHECK_SAYING(pages != MAP_FAILED && !mprotect(pages + page, page, PROT_NONE), "mmap");
	/* every shorter prefix of an instruction is DECODE_SHORT, and nothing behind it is read */
	static const struct {
		uint8_t size, bytes[15];
	} whole[] = {
		{ 11, { 0x48, 0xc7, 0x84, 0x24, 0x78, 0x56, 0x34, 0x12, 1, 2, 3 } }, /* needs 12 */
		{ 9, { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7 } },
		{ 8, { 0x62, 0xf1, 0x7c, 0x48, 0x58, 0x84, 0x24, 0 } },
		{ 4, { 0xc4, 0xe2, 0x71, 0x98 } },
		{ 3, { 0x66, 0x0f, 0x38 } },
		{ 1, { 0xc5 } },
		{ 14, { 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66 } },
	};
	for (unsigned i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		for (unsigned n = 0; n <= whole[i].size; n++) {
			uint8_t *at = pages + page - n;
			memcpy(at, whole[i].bytes, n);
			CHECK_SAYING(insn_decode(&insn, at, n, 64) == DECODE_SHORT, "string %u, %u bytes", i, n);
		}
	/* 15 bytes are an instruction, 16 are not */
	uint8_t nops[17];
	memset(nops, 0x66, sizeof(nops));
	nops[14] = 0x90;
	CHECK_SAYING(insn_decode(&insn, nops, 15, 64) == DECODE_OK && insn.len == 15, "15 bytes");
	nops[14] = 0x66;
	nops[15] = 0x90;
	CHECK_SAYING(insn_decode(&insn, nops, 16, 64) == DECODE_TOO_LONG, "16 bytes");
	CHECK_SAYING(insn_decode(&insn, nops, 15, 64) == DECODE_TOO_LONG, "15 prefixes");
	munmap(pages, page * 2);
}

static void check_fields(void)
{
	struct insn i = DECODE(64, "\x65\x48\x8b\x04\x25\x28\x00\x00\x00"); /* mov rax, gs:[0x28] */
	CHECK_SAYING(i.id == INSN_MOV && i.mem_seg == GS && i.mem_base == REG_NONE && i.mem_disp == 0x28 &&
			     i.mem_index_of == 1,
		     "gs:[0x28]");
	CHECK_SAYING(i.operand[0].kind == OPERAND_GPR && i.operand[0].reg == RAX && i.operand[0].size == 8, "rax");
	CHECK_SAYING(i.opcode_at == 2 && i.modrm_at == 3 && i.sib_at == 4 && i.disp_at == 5 && i.disp_size == 4, "offsets");
	i = DECODE(64, "\x48\x8d\x05\xf9\xff\xff\xff"); /* lea rax, [rip-7] */
	CHECK_SAYING(i.mem_base == REG_RIP && i.mem_disp == -7 && i.operand[1].size == 0, "rip");
	i = DECODE(64, "\x88\xe5"); /* mov ch, ah */
	CHECK_SAYING(i.operand[0].high8 && i.operand[0].reg == RCX && i.operand[1].high8 && i.operand[1].reg == RAX, "ch, ah");
	i = DECODE(64, "\x40\x88\xe5"); /* mov bpl, spl */
	CHECK_SAYING(!i.operand[0].high8 && i.operand[0].reg == RBP && i.operand[1].reg == RSP, "bpl, spl");
	i = DECODE(64, "\x66\x6a\xff"); /* push word -1 */
	CHECK_SAYING(i.opsize == 2 && i.imm == -1, "push word");
	i = DECODE(64, "\x66\xe9\x00\x00\x00\x80"); /* Intel: 66 does not shorten near branches in 64-bit mode */
	CHECK_SAYING(i.opsize == 8 && i.imm == INT32_MIN && i.operand[0].kind == OPERAND_REL, "jmp");
	i = DECODE(16, "\x66\xea\x78\x56\x34\x12\x08\x00"); /* jmp 8:0x12345678 */
	CHECK_SAYING(i.id == INSN_JMP_FAR && i.imm == 0x12345678 && i.imm2 == 8 && i.imm_size == 6, "jmp far");
	i = DECODE(64, "\xc8\x10\x00\x02"); /* enter 16, 2 */
	CHECK_SAYING(i.imm == 16 && i.imm2 == 2 && i.imm_size == 3, "enter");
	i = DECODE(64, "\xf3\x48\xa5"); /* rep movsq */
	CHECK_SAYING(i.id == INSN_MOVS && i.rep && i.operand[0].size == 8 && i.mem_index_of == -1 && i.mem_seg == DS, "movs");
	i = DECODE(64, "\xc4\xe2\x79\x18\x05\x00\x00\x00\x00"); /* vbroadcastss xmm0, [rip] */
	CHECK_SAYING(i.encoding == ENCODING_VEX && i.map == MAP_0F38 && i.operand[1].size == 4, "vbroadcastss");
	i = DECODE(64, "\x62\xf1\x7c\xdb\x58\x48\x01"); /* vaddps zmm1{k3}{z}, zmm0, dword [rax+4]{1to16} */
	CHECK_SAYING(i.evex_aaa == 3 && i.evex_z && i.evex_b && i.mem_disp == 4 && i.operand[2].size == 4, "broadcast");
	CHECK_SAYING(i.operand[2].access == (ACCESS_READ | ACCESS_CONDITIONAL), "masked read");
}

static void check_flags(void)
{
	struct insn i = DECODE(64, "\xd3\xe0"); /* shl eax, cl */
	CHECK_SAYING(insn_eflags_killed(&i) == 0, "shl eax, cl");
	i = DECODE(64, "\xc1\xe0\x20"); /* shl eax, 32: masked to 0 */
	CHECK_SAYING(insn_eflags_killed(&i) == 0, "shl eax, 32");
	i = DECODE(64, "\x48\xc1\xe0\x20"); /* shl rax, 32 */
	CHECK_SAYING(insn_eflags_killed(&i) == EF_ARITH, "shl rax, 32");
	i = DECODE(64, "\xd1\xe0"); /* shl eax, 1 */
	CHECK_SAYING(insn_eflags_killed(&i) == EF_ARITH && !(insn_eflags_undefined(&i) & EF_OF), "shl eax, 1");
	i = DECODE(64, "\xff\xc0"); /* inc eax */
	CHECK_SAYING(insn_eflags_killed(&i) == (EF_ARITH & ~EF_CF), "inc");
	i = DECODE(64, "\xf3\xa6"); /* repe cmpsb */
	CHECK_SAYING(insn_eflags_killed(&i) == 0 && insn_eflags_read(&i) == EF_DF, "repe cmpsb");
	i = DECODE(64, "\xa6"); /* cmpsb */
	CHECK_SAYING(insn_eflags_killed(&i) == EF_ARITH, "cmpsb");
	i = DECODE(64, "\x0f\x87\x00\x00\x00\x00"); /* ja */
	CHECK_SAYING(insn_eflags_read(&i) == (EF_CF | EF_ZF) && insn_eflags_killed(&i) == 0, "ja");
	i = DECODE(64, "\x11\xc0"); /* adc */
	CHECK_SAYING(insn_eflags_read(&i) == EF_CF && insn_eflags_killed(&i) == EF_ARITH, "adc");
}

static void check_disassembler(void)
{
	uint64_t state = 1;
	for (unsigned n = 0; n < 200000; n++) {
		uint8_t bytes[16];
		char buf[200];
		struct insn insn;
		for (unsigned k = 0; k < 16; k += 8) {
			state = state * 6364136223846793005ull + 1442695040888963407ull;
			uint64_t mixed = state ^ state >> 31;
			memcpy(bytes + k, &mixed, 8);
		}
		if (insn_decode(&insn, bytes, 15, 16 << n % 3) != DECODE_OK)
			continue;
		size_t size = n % sizeof(buf);
		memset(buf, 0x7f, sizeof(buf));
		insn_disassemble(&insn, state, buf, size);
		if ((size && !memchr(buf, 0, size)) || (size < sizeof(buf) && buf[size] != 0x7f)) {
			CHECK_SAYING(false, "buffer of %zu", size);
			return;
		}
	}
	char buf[100];
	struct insn i = DECODE(64, "\xf0\x48\x0f\xb1\x4c\x93\xf8");
	insn_disassemble(&i, 0, buf, sizeof(buf));
	CHECK_SAYING(!strcmp(buf, "lock cmpxchg qword ptr [rbx+rdx*4-0x8], rcx"), "%s", buf);
	i = DECODE(64, "\x75\xfe");
	insn_disassemble(&i, 0x1000, buf, sizeof(buf));
	CHECK_SAYING(!strcmp(buf, "jne 0x1000"), "%s", buf);
}

int main(void)
{
	decode_tables_init();
	check_rows();
	check_sensitive();
	check_limits();
	check_fields();
	check_flags();
	check_disassembler();
	return summary();
}
