// MODES: 64
/*
 * Long mode: SYSCALL and SYSRET from 64-bit and compatibility mode, canonical addresses, FS and GS
 * bases, SWAPGS, operand and address sizes, REX, compatibility mode, returns to every ring.
 */
#include "guest.inc"

	.set NC, 0x800000000000 /* the first non-canonical address */
	.set SFMASK, 0x47700

	/* ---- SYSCALL: goes to LSTAR's handler, which ends in INT3 */
	R "syscall: rcx", U, VBP, 0, "syscall; 8: mov %rcx, %rax", bits=10, post=post_syscall
	R "syscall: flags masked", U, VBP, 0, "syscall", bits=10, fl=0x40ad7, post=post_syscall_flags
	R "syscall: cs ss", U, VBP, 0, "syscall", bits=10, post=post_syscall_cs
	R "syscall: sp kept", U, VBP, 0, "syscall", bits=10, post=post_syscall_sp
	R "syscall at ring 0", K, VBP, 0, "syscall", bits=10, post=post_syscall_cs
	R "syscall in compatibility mode", CU, VUD, 0, "syscall", need=feat_intel
	R "syscall in compatibility mode", CU, VBP, 0, "syscall", bits=10, need=feat_amd, post=post_cstar
	R "sysenter", U, VUD, 0, "sysenter", need=feat_amd
	R "sysret: cs", U, OK, 0, "movl $1, back; syscall; mov %cs, %eax", val=C3
	R "sysret: ss", U, OK, 0, "movl $1, back; syscall; mov %ss, %eax", val=D3
	R "sysret: flags back", U, OK, 0, "movl $1, back; stc; std; syscall; pushf; pop %ax; cld", val=0x403, mask=0xffff, fl=0
	R "sysret: IF back", U, OK, 0, "movl $1, back; syscall; pushf; pop %ax", fl=0x3202, val=0x3202, mask=0xffff
	R "sysret: sp", U, OK, 0, "movl $1, back; mov %rsp, %rbp; syscall; sub %rbp, %rsp; mov %rsp, %rax", val=0
	R "sysret: RF and VM in r11 ignored", U, OK, 0, "movl $2, back; syscall; pushfq; pop %rax; push $2; popfq", val=0x3c7cd7
	R "sysret to compatibility mode: cs", U, OK, 0, "movl $3, back; syscall; mov %cs, %eax", val=U32
	R "sysret to compatibility mode: runs 32-bit code", U, OK, 0, "movl $3, back; syscall; mov $1, %eax; .byte 0x40, 0x90; nop", val=2
	R "syscall and back in compatibility mode", CU, OK, 0, "movl $3, back; syscall; mov %cs, %eax", need=feat_amd, val=U32
	R "SFMASK.TF: no step in the handler", U, VBP, 0, "pushfq; orl $0x100, (%rsp); popfq; syscall", bits=10, post=post_syscall_r11_tf
	R "sysret at ring 3", U, VGP, 0, "sysretq"

	/* ---- canonical addresses */
	R "jmp non-canonical", U, VGP, 0, "mov $NC, %rax; 9: jmp *%rax"
	R "call non-canonical", U, VGP, 0, "mov $NC, %rax; 9: call *%rax", post=sp_start
	R "ret non-canonical", U, VGP, 0, "mov $NC, %rax; push %rax; 9: ret", post=sp_minus_8
	R "lretq non-canonical", U, VGP, 0, "mov $NC, %rax; push $C3; push %rax; 9: lretq", post=sp_minus_16
	R "iretq non-canonical", U, VGP, 0, "mov $NC, %rax; push $D3; push $0; push $2; push $C3; push %rax; 9: iretq"
	R "iretq non-canonical stack", U, OK, 0, "mov %rsp, %rcx; mov $NC, %rax; push $D3; push %rax; push $2; push $C3; push $77f; iretq; 77: mov %rsp, %rax; mov %rcx, %rsp", val=NC
	R "iretq to ring 3, null ss", K, VGP, 0, "push $0; push $0; push $2; push $C3; push $77f; 9: iretq; 77:"
	R "iretq to ring 3, null ss, same ring", U, VGP, 0, "push $0; push $0; push $2; push $C3; push $77f; 9: iretq; 77:"
	R "iretq to ring 0, null ss", K, OK, 0, "mov %rsp, %rcx; push $0; push %rcx; push $2; push $C0; push $77f; iretq; 77: mov %ss, %eax", val=0
	R "iretq to ring 1, null ss", K, VUD, 0, "mov %rsp, %rcx; push $1; push %rcx; push $2; push $C1; push $77f; iretq; 77: mov %ss, %eax; 9: ud2", val=1
	R "iretq to ring 2", K, VUD, 0, "mov %rsp, %rcx; push $D2; push %rcx; push $2; push $C2; push $77f; iretq; 77: mov %cs, %eax; 9: ud2", val=C2
	R "iretq to compatibility mode", K, OK, 0, "push $D3; push $snip_stack_top; push $2; push $U32; push $77f; iretq; 77: mov %cs, %eax; .byte 0x40; .byte 0x48", val=U32
	R "iretq to 16-bit compatibility mode", K, VUD, 0, "push $D16U; push $0xfff0; push $2; push $C16U; push $ud_16 - LOW; 9: iretq", bits=10, post=post_16
	R "iretl pops longs", K, OK, 0, "mov %rsp, %rcx; sub $20, %rsp; movl $77f, (%rsp); movl $C0, 4(%rsp); movl $0x203, 8(%rsp); mov %ecx, 12(%rsp); movl $D0, 16(%rsp); iretl; 77: setc %al; cli; movzbl %al, %eax; mov %rcx, %rsp", val=1
	R "load non-canonical", U, VGP, 0, "mov $NC, %rax; 9: mov (%rax), %al"
	R "load below the hole", U, VPF, 4, "mov $NC - 1, %rax; 9: mov (%rax), %al"
	R "load across into the hole", U, VGP, 0, "mov $NC - 1, %rax; 9: mov (%rax), %ax", need=feat_always
	R "load with ss base register", U, VSS, 0, "mov $NC, %rbp; 9: mov (%rbp), %al"
	R "load with rsp", U, VSS, 0, "mov $NC, %rsp; 9: mov (%rsp), %al"
	R "load ds: rbp", U, VGP, 0, "mov $NC, %rbp; 9: mov %ds:(%rbp), %al", need=feat_never
	R "load fs: rbp", U, VGP, 0, "mov $NC, %rbp; 9: mov %fs:(%rbp), %al"
	R "the sum wraps at 2^64", U, OK, 0, "mov $-1, %rax; movl $0x55, (%rbx); mov 1(%rax,%rbx), %eax", val=0x55
	R "invlpg non-canonical", K, OK, 0, "mov $NC, %rax; invlpg (%rax)"
	R "lidt non-canonical base", K, VGP, 0, "movw $0xfff, (%ebx); mov $NC, %rax; mov %rax, 2(%ebx); 9: lidt (%ebx)", need=feat_not_tcg
	R "lgdt non-canonical base", K, VGP, 0, "movw $0xfff, (%ebx); mov $NC, %rax; mov %rax, 2(%ebx); 9: lgdt (%ebx)", need=feat_not_tcg

	/* ---- FS and GS */
	R "fs base MSR", K, OK, 0, "mov $0xc0000100, %ecx; mov $scratch, %eax; xor %edx, %edx; wrmsr; movl $0x77, 16(%rbx); mov %fs:16, %eax", val=0x77
	R "gs base MSR, high", K, VPF, 0, "mov $0xc0000101, %ecx; mov $0, %eax; mov $0xffff8000, %edx; wrmsr; 9: mov %gs:16, %eax", post=gs_zero
	R "swapgs", K, OK, 0, "mov $0xc0000102, %ecx; mov $scratch, %eax; xor %edx, %edx; wrmsr; movl $0x78, 16(%rbx); swapgs; mov %gs:16, %eax; swapgs", val=0x78
	R "swapgs is seen in the MSR", K, OK, 0, "mov $0xc0000102, %ecx; mov $scratch, %eax; xor %edx, %edx; wrmsr; swapgs; mov $0xc0000101, %ecx; rdmsr; swapgs", val=scratch, mask=0xffffffff
	R "the base wraps", K, OK, 0, "mov $0xc0000100, %ecx; mov $-16, %eax; mov $-1, %edx; wrmsr; movl $0x79, (%rbx); mov %fs:16(%rbx), %eax", val=0x79
	R "base and displacement non-canonical", K, VGP, 0, "mov $0xc0000100, %ecx; mov $-1, %eax; mov $0x7fff, %edx; wrmsr; 9: mov %fs:1, %al", need=feat_not_tcg
	R "wrfsbase", U, OK, 0, "wrfsbase %rbx; movl $0x7a, 8(%rbx); mov %fs:8, %eax", cr4=0x10000, need=feat_fsgsbase, val=0x7a
	R "wrfsbase 32", U, OK, 0, "mov $-1, %rax; wrfsbase %eax; rdfsbase %rax", cr4=0x10000, need=feat_fsgsbase, val=0xffffffff
	R "a selector loads a 32-bit base", U, OK, 0, "mov $D3, %eax; mov %eax, %fs; movl $0x7b, (%rbx); mov %fs:(%rbx), %eax", val=0x7b

	/* ---- operand sizes */
	R "32-bit result clears the upper half", U, OK, 0, "mov $-1, %rax; mov $1, %eax", val=1
	R "16-bit result keeps the rest", U, OK, 0, "mov $-1, %rax; mov $1, %ax", val=0xffffffffffff0001
	R "cmov false clears the upper half", U, OK, 0, "mov $-1, %rax; cmp %eax, %eax; cmovne %ecx, %eax", val=0xffffffff
	R "xchg eax eax is nop", U, OK, 0, "mov $-1, %rax; .byte 0x90", val=-1
	R "xchg r8d eax is not", U, OK, 0, "mov $-1, %rax; .byte 0x41, 0x90; mov %r8, %rax", val=0xffffffff
	R "87 c0 clears the upper half", U, OK, 0, "mov $-1, %rax; .byte 0x87, 0xc0", val=0xffffffff
	R "bswap 32", U, OK, 0, "mov $0x1122334455667788, %rax; bswap %eax", val=0x88776655
	R "bswap 64", U, OK, 0, "mov $0x1122334455667788, %rax; bswap %rax", val=0x8877665544332211
	R "movslq", U, OK, 0, "mov $0x80000000, %eax; movslq %eax, %rax", val=0xffffffff80000000
	R "movslq without REX.W", U, OK, 0, "mov $-1, %rax; mov $0x80000000, %ecx; .byte 0x63, 0xc1", val=0x80000000
	R "cltq, cqto", U, OK, 0, "mov $0x80000000, %eax; cltq; cqto; mov %rdx, %rax", val=-1
	R "push imm8 is sign-extended", U, OK, 0, "push $-2; pop %rax", val=-2
	R "push imm32 is sign-extended", U, OK, 0, "push $-0x7fffffff; pop %rax", val=0xffffffff80000001
	R "pushw", U, OK, 0, "mov %rsp, %rcx; pushw $0x1234; sub %rsp, %rcx; popw %ax; mov %ecx, %eax", val=2
	R "sil, not dh", U, OK, 0, "mov $0x1122, %esi; mov %sil, %al; movzbl %al, %eax", val=0x22
	R "spl", U, OK, 0, "mov %rsp, %rcx; mov $0x80, %spl; mov %rsp, %rax; mov %rcx, %rsp; and $0xff, %eax", val=0x80
	R "ah with another prefix", U, OK, 0, "mov $0x1122, %eax; .byte 0x66; mov %ah, %cl; movzbl %cl, %eax", val=0x11
	R "REX before a legacy prefix is void", U, OK, 0, "mov $-1, %rax; .byte 0x48, 0x66, 0xb8, 0x34, 0x12", val=0xffffffffffff1234
	R "REX.W beats 66", U, OK, 0, "mov $-1, %rax; .byte 0x66, 0x48, 0xc7, 0xc0, 5, 0, 0, 0", val=5
	R "mul 64", U, OK, 0, "mov $-1, %rax; mul %rax; mov %rdx, %rax", val=-2
	R "div 64", U, OK, 0, "mov $1, %edx; mov $5, %eax; mov $7, %ecx; div %rcx; ", val=0x2492492492492493
	R "shl 64 count 63", U, OK, 0, "mov $1, %eax; shl $63, %rax", val=0x8000000000000000
	R "shift count masked to 6 bits", U, OK, 0, "mov $3, %eax; mov $65, %ecx; shl %cl, %rax", val=6
	R "movabs load", U, OK, 0, "movl $0x99, scratch; movabs scratch, %eax", val=0x99
	R "lea 32 of a 64-bit sum", U, OK, 0, "mov $-1, %rax; lea 5(%rax), %eax", val=4
	R "enter, leave", U, OK, 0, "mov %rsp, %rcx; enter $32, $0; leave; sub %rsp, %rcx; mov %rcx, %rax", val=0
	R "lahf sahf", U, OK, 0, "mov $0xd5, %ah; sahf; mov $0, %ah; lahf; shr $8, %eax", val=0xd7, mask=0xff, need=feat_lahf64

	/* ---- addresses */
	R "rip-relative", U, OK, 0, "lea 77f(%rip), %rax; sub $77f, %rax; 77:", val=0
	R "rip-relative with an immediate", U, OK, 0, "movl $0x12345678, scratch(%rip); mov (%rbx), %eax", val=0x12345678
	R "eip-relative", U, OK, 0, "lea 77f(%eip), %rax; sub $77f, %rax; 77:", val=0
	R "67: address cut to 32 bits", U, OK, 0, "mov $0x100000000, %rax; add %rbx, %rax; movl $0x31, (%rbx); mov (%eax), %eax", val=0x31
	R "67: negative displacement", U, OK, 0, "lea 16(%rbx), %rax; movl $0x32, (%rbx); mov -16(%eax), %eax", val=0x32
	R "67: sum cut to 32 bits", U, OK, 0, "mov $0xfffffff0, %eax; movl $0x33, (%rbx); mov 16(%eax,%ebx), %eax", val=0x33
	R "67: lea", U, OK, 0, "mov $-1, %rax; lea 2(%eax), %rax", val=1
	R "67: movs", U, OK, 0, "mov $0x100000000, %rax; add %rax, %rsi; add %rax, %rdi; .byte 0x67; movsl; mov %rsi, %rax; sub $scratch + 128, %rax", val=4
	R "67: rep stos uses ecx", U, OK, 0, "mov $0x100000002, %rcx; .byte 0x67; rep stosb; mov %rcx, %rax", val=0
	R "67: loop uses ecx", U, OK, 0, "mov $0x100000001, %rcx; mov $7, %eax; .byte 0x67; loop 1f; mov $8, %eax; 1:", val=8
	R "jecxz", U, OK, 0, "mov $0x100000000, %rcx; mov $7, %eax; jecxz 1f; mov $8, %eax; 1:", val=7
	R "jrcxz", U, OK, 0, "mov $0x100000000, %rcx; mov $7, %eax; jrcxz 1f; mov $8, %eax; 1:", val=8
	R "rsp is no index", U, OK, 0, "movl $0x34, (%rbx); .byte 0x8b, 0x04, 0x23", val=0x34
	R "r12 is an index", U, OK, 0, "movl $0x35, 12(%rbx); .byte 0x42, 0x8b, 0x04, 0x23", val=0x35
	R "r13 needs a displacement", U, OK, 0, "mov %rbx, %r13; movl $0x36, (%rbx); mov (%r13), %eax", val=0x36
	R "r12 as base", U, OK, 0, "mov %rbx, %r12; movl $0x37, (%rbx); mov (%r12), %eax", val=0x37
	R "no base, index", U, OK, 0, "mov %rbx, %rax; shr $3, %rax; movl $0x38, (%rbx); mov (,%rax,8), %eax", val=0x38
	R "string ops 64", U, OK, 0, "mov $0x1122334455667788, %rax; mov %rax, (%rsi); xor %eax, %eax; lodsq", val=0x1122334455667788
	R "xlat 64", U, OK, 0, "movb $0x39, 5(%rbx); mov $5, %eax; xlatb", val=0x39

	/* ---- opcodes that are gone */
.macro GONE name:req, bytes:req
	R "no \name", U, VUD, 0, ".byte \bytes"
.endm
	GONE "pusha", "0x60"
	GONE "popa", "0x61"
	GONE "daa", "0x27"
	GONE "das", "0x2f"
	GONE "aaa", "0x37"
	GONE "aas", "0x3f"
	GONE "aam", "0xd4, 10"
	GONE "aad", "0xd5, 10"
	GONE "salc", "0xd6"
	GONE "into", "0xce"
	GONE "lds", "0xc5, 0x06"
	GONE "les", "0xc4, 0x06"
	GONE "82 group", "0x82, 0xc0, 1"
	R "lahf without the feature or with", U, OK, 0, "lahf", need=feat_lahf64

	/* ---- compatibility mode */
	R "compat: inc", CU, OK, 0, ".byte 0x40; .byte 0x40", val=0x600f
	R "compat: addresses wrap at 4 GiB", CU, OK, 0, "movl $0x41, (%ebx); mov $0xfffffff0, %ecx; mov 16(%ebx,%ecx), %eax", val=0x41
	R "compat: pusha popa", CU, OK, 0, "pusha; mov $5, %eax; popa", val=0x600d
	R "compat: push 4 bytes", CU, OK, 0, "mov %esp, %eax; push %eax; sub %esp, %eax", val=4
	R "compat: les", CU, OK, 0, "movl $0x99, (%ebx); movw $D3, 4(%ebx); les (%ebx), %eax", val=0x99
	R "compat: daa", CU, OK, 0, "mov $0x0f, %eax; daa; movzbl %al, %eax", val=0x15
	R "compat: aam 0", CU, VDE, 0, ".byte 0xd4, 0", bits=2
	R "compat: int 0x80", CU, 0x80, 0, "int $0x80; 9:"
	R "compat: lret to 64-bit", CU, OK, 0, "push $C3; push $77f; lret; 77: .code64; mov $0x100000000, %rax; shr $32, %rax; 8:", val=1
	R "compat: mov cr3 sees 32 bits", CK, OK, 0, "mov %cr3, %eax", val=boot_pml4
	R "compat: rdmsr", CK, OK, 0, "mov $0xc0000080, %ecx; rdmsr; and $0x500, %eax", val=0x500
	R "compat: wrfsbase is not there", CU, VUD, 0, ".byte 0xf3, 0x0f, 0xae, 0xd0"
	R "compat: page fault address", CU, VPF, 4, "mov 0xfffff000, %eax"
	R "compat: ring 0 stack of 16 bits", CK, OK, 0, "mov $S16, %eax; mov %eax, %ss; mov $0x7f00, %esp; push %eax; mov %esp, %eax", val=0x7efc

	.data
	.balign 8
feat_never: .byte 0
	.balign 8
back:	.quad 0
sys_rcx: .quad 0
sys_r11: .quad 0
sys_fl:	.quad 0
sys_cs:	.quad 0
sys_ss:	.quad 0
sys_rsp: .quad 0
	.section .low, "awx"
	.code16
ud_16:	mov %sp, %ax
	ud2
	.text
	.code64
lstar:
	mov %rcx, sys_rcx
	mov %r11, sys_r11
	mov %rsp, sys_rsp
	mov %cs, %eax
	mov %eax, sys_cs
	mov %ss, %eax
	mov %eax, sys_ss
	mov $trap_stack_top, %esp
	pushfq
	pop sys_fl
	mov sys_rsp, %rsp
	mov back, %eax
	movl $0, back
	cmp $1, %eax
	je 1f
	cmp $2, %eax
	je 2f
	cmp $3, %eax
	je 3f
	int3
1:	sysretq
2:	mov $0x3ffcd7, %r11d
	and $~0x100, %r11d
	sysretq
3:	mov $2, %r11d
	sysretl
cstar:
	movl $0xc5, sys_cs + 4
	cmpl $3, back
	je lstar
	int3

post_syscall:
	mov cur_row, %ecx
	mov ROW_CODE(%rcx), %eax
	add $2, %eax
	sub sys_rcx, %rax
	ret
post_syscall_flags:
	mov sys_r11, %rax
	xor $0x40ad7, %rax
	mov sys_fl, %rcx
	xor $(0x40ad7 & ~SFMASK), %rcx
	or %rcx, %rax
	ret
post_syscall_cs:
	mov sys_cs, %eax
	xor $C0, %eax
	mov sys_ss, %ecx
	xor $D0, %ecx
	or %ecx, %eax
	ret
post_syscall_sp:
	mov sys_rsp, %rax
	sub $snip_stack_top, %rax
	ret
post_syscall_r11_tf:
	mov sys_r11, %eax
	and $0x100, %eax
	xor $0x100, %eax
	ret
post_cstar:
	mov sys_cs + 4, %eax
	movl $0, sys_cs + 4
	sub $0xc5, %eax
	ret
sp_start:
	mov $snip_stack_top, %eax
	sub tr_sp, %rax
	ret
sp_minus_8:
	mov $snip_stack_top - 8, %eax
	sub tr_sp, %rax
	ret
sp_minus_16:
	mov $snip_stack_top - 16, %eax
	sub tr_sp, %rax
	ret
gs_zero:
	mov $0xc0000101, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	ret
post_16:
	mov tr_ax, %eax
	sub $0xfff0, %eax
	movzwl %ax, %eax
	cmpl $C16U, tr_cs
	je 1f
	inc %eax
1:	ret
test_main:
	mov $0xc0000081, %ecx /* STAR */
	xor %eax, %eax
	mov $(0x1b << 16) + C0, %edx
	wrmsr
	mov $0xc0000082, %ecx
	mov $lstar, %eax
	xor %edx, %edx
	wrmsr
	mov $0xc0000083, %ecx
	mov $cstar, %eax
	wrmsr
	mov $0xc0000084, %ecx
	mov $SFMASK, %eax
	wrmsr
	jmp run_rows
