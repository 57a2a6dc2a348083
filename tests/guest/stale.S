// MODES: 32 64
/*
 * The same code run again after the state that it was translated under has changed: segment bases,
 * rings, modes, control registers, debug registers, descriptor tables. What was right before must
 * not be used now.
 */
#include "guest.inc"
#include "remap.inc"

	.bss
	.balign 4096
a0:	.skip 4096
a1:	.skip 4096
	.data
fptr:	.long 0
	.short 0
bad:	.long 0
mxcsr_division: .long 0x1d80 /* division by zero is not masked */
mxcsr_none: .long 0x1f80
	.balign 16
ones:	.long 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000
	.text

	/* Code that is run in changing surroundings; each ends in INT3. */
c_cli:	cli
	int3
c_fpu:	fld1
	fstp %st
	int3
c_sse:	movaps %xmm0, %xmm1
	int3
c_rdtsc: rdtsc
	int3
c_in:	in $0x80, %al
	int3
c_read:	mov a0, %eax
	int3
c_misaligned: mov a0 + 1, %eax
	int3
c_umip:	smsw %eax
	int3
c_nops:	nop
	nop
	nop
	int3
c_int:	int $0x20
	int3
c_write: movl $1, a0 + 16
	int3
c_popf:	push $0x202
	POPF
	PUSHF
	pop AX
	int3
c_fs:	mov %fs:8, %eax
	int3
c_avx:	vmovaps %ymm0, %ymm1
	int3
c_sse_memory: movaps ones, %xmm1
	int3
c_xgetbv: xor %ecx, %ecx
	xgetbv
	int3
c_wait:	fwait
	int3
c_dr4:	mov %db4, AX
	int3
c_xm:	ldmxcsr mxcsr_division
	movaps ones, %xmm1
	xorps %xmm0, %xmm0
	divps %xmm0, %xmm1
	int3
#if LONG
c_fsgsbase: rdfsbase %rax
	int3
c_syscall: syscall
	int3
syscalled: int3
#endif

.macro WANT where:req, mode:req, vec:req, fl=2
	TRY \where, \mode, \fl
	mov $\vec, %ecx
	cmp tr_vec, %ecx
	je 4f
	incl bad
4:
.endm
.macro XCR0 value
	xor %ecx, %ecx
	xor %edx, %edx
	mov $\value, %eax
	xsetbv
.endm
.macro MSR number, low, high
	mov $\number, %ecx
	mov $\low, %eax
	mov $\high, %edx
	wrmsr
.endm

test_main:
	call paging_on
	mov $10, %ebx
1:	WANT c_cli, K, VBP
	WANT c_cli, U, VGP
	WANT c_cli, U, VBP, IOPL3
	WANT c_cli, RING1, VGP
	WANT c_cli, RING1, VBP, IOPL1
	dec %ebx
	jnz 1b
	VERDICT "cli by ring and IOPL"
	mov $10, %ebx
1:	WANT c_fpu, U, VBP
	CR0BIT 8, 1
	WANT c_fpu, U, VNM
	WANT c_sse, U, VNM
	CR0BIT 8, 0
	WANT c_sse, U, VBP
	CR0BIT 4, 1
	WANT c_fpu, U, VNM
	WANT c_sse, U, VUD
	CR0BIT 4, 0
	WANT c_fpu, U, VBP
	CR4BIT 0x200, 0
	WANT c_sse, U, VUD
	CR4BIT 0x200, 1
	WANT c_sse, U, VBP
	dec %ebx
	jnz 1b
	VERDICT "fpu by CR0.TS, CR0.EM, CR4.OSFXSR"
	mov $10, %ebx
1:	WANT c_wait, U, VBP
	CR0BIT 8, 1
	CR0BIT 2, 0
	WANT c_wait, U, VBP
	CR0BIT 2, 1
	WANT c_wait, U, VNM
	CR0BIT 8, 0
	dec %ebx
	jnz 1b
	VERDICT "fwait by CR0.TS, CR0.MP"
	mov $10, %ebx
1:	WANT c_xm, U, VXM
	WANT c_xm, K, VXM
	CR4BIT 0x400, 0
	WANT c_xm, U, VUD
	WANT c_xm, K, VUD
	CR4BIT 0x400, 1
	dec %ebx
	jnz 1b
	ldmxcsr mxcsr_none
	VERDICT "divps by CR4.OSXMMEXCPT"
	mov $10, %ebx
1:	WANT c_dr4, K, VBP
	CR4BIT 8, 1
	WANT c_dr4, K, VUD
	CR4BIT 8, 0
	dec %ebx
	jnz 1b
	VERDICT "mov from dr4 by CR4.DE"
	cmpb $0, feat_avx
	je 2f
	mov $10, %ebx
1:	WANT c_avx, U, VUD
	WANT c_xgetbv, U, VUD
	CR4BIT 0x40000, 1
	WANT c_xgetbv, U, VBP
	XCR0 7
	WANT c_avx, U, VBP
	WANT c_avx, K, VBP
	XCR0 3
	WANT c_avx, U, VUD
	WANT c_avx, K, VUD
	WANT c_sse, U, VBP
	WANT c_sse_memory, U, VBP
	XCR0 7
	WANT c_avx, U, VBP
	CR0BIT 8, 1
	WANT c_avx, U, VNM
	CR0BIT 8, 0
	WANT c_avx, U, VBP
	CR4BIT 0x40000, 0
	WANT c_avx, U, VUD
	CR4BIT 0x40000, 1
	XCR0 1
	WANT c_sse_memory, U, VBP
	CR4BIT 0x40000, 0
	dec %ebx
	jnz 1b
2:	VERDICT "avx, xgetbv by XCR0, CR0.TS, CR4.OSXSAVE"
#if LONG
	cmpb $0, feat_fsgsbase
	je 2f
	mov $10, %ebx
1:	WANT c_fsgsbase, U, VUD
	CR4BIT 0x10000, 1
	WANT c_fsgsbase, U, VBP
	WANT c_fsgsbase, K, VBP
	CR4BIT 0x10000, 0
	dec %ebx
	jnz 1b
2:	VERDICT "rdfsbase by CR4.FSGSBASE"
	MSR 0xc0000081, 0, (D0|3)<<16|C0
	MSR 0xc0000084, 0, 0
	mov $10, %ebp
1:	MSR 0xc0000082, syscalled, 0
	WANT c_syscall, U, VBP
	cmpl $syscalled + 1, tr_ip
	je 2f
	incl bad
2:	MSR 0xc0000082, syscalled-1, 0
	WANT c_syscall, U, VBP
	cmpl $syscalled, tr_ip
	je 2f
	incl bad
2:	MSR 0xc0000080, 0xd00, 0
	WANT c_syscall, U, VUD
	MSR 0xc0000080, 0xd01, 0
	dec %ebp
	jnz 1b
	VERDICT "syscall by LSTAR, EFER.SCE"
#endif
	mov $10, %ebx
1:	WANT c_rdtsc, U, VBP
	CR4BIT 4, 1
	WANT c_rdtsc, U, VGP
	WANT c_rdtsc, K, VBP
	CR4BIT 4, 0
	dec %ebx
	jnz 1b
	VERDICT "rdtsc by CR4.TSD"
	cmpb $0, feat_umip
	je 2f
	mov $10, %ebx
1:	WANT c_umip, U, VBP
	CR4BIT 0x800, 1
	WANT c_umip, U, VGP
	WANT c_umip, K, VBP
	CR4BIT 0x800, 0
	dec %ebx
	jnz 1b
2:	VERDICT "smsw by CR4.UMIP"
	mov $10, %ebx
1:	movb $0xff, tss_io + 0x10
	WANT c_in, U, VGP
	movb $0xfe, tss_io + 0x10
	WANT c_in, U, VBP
	movb $0xff, tss_io + 0x10
	WANT c_in, U, VBP, IOPL3
	dec %ebx
	jnz 1b
	VERDICT "in by bitmap and IOPL"
	cmpb $0, feat_not_tcg
	je 2f
	mov $10, %ebx
1:	WANT c_misaligned, U, VBP, AC_
	CR0BIT 0x40000, 1
	WANT c_misaligned, U, VAC, AC_
	WANT c_misaligned, U, VBP
	WANT c_misaligned, K, VBP, AC_
	CR0BIT 0x40000, 0
	dec %ebx
	jnz 1b
2:	VERDICT "alignment by CR0.AM and EFLAGS.AC"
	/* gates of the IDT */
	mov $10, %ebx
1:	WANT c_int, U, VGP
	orb $0x60, idt + 0x20 * 2 * W + 5
	WANT c_int, U, 0x20
	andb $~0x60, idt + 0x20 * 2 * W + 5
	WANT c_int, K, 0x20
	dec %ebx
	jnz 1b
	VERDICT "int by the gate's DPL"
	/* popf: IF changes at ring 0 or with IOPL 3 alone */
	mov $10, %ebx
1:	TRY c_popf, K
	testl $0x200, tr_ax
	jnz 2f
	incl bad
2:	TRY c_popf, U
	testl $0x200, tr_ax
	jz 2f
	incl bad
2:	TRY c_popf, U, IOPL3
	testl $0x200, tr_ax
	jnz 2f
	incl bad
2:	dec %ebx
	jnz 1b
	VERDICT "popf by ring and IOPL"
	/* user and supervisor pages, and the stores to read-only ones */
	mov $10, %ebx
1:	WANT c_read, U, VBP
	WANT c_write, U, VBP
	andb $~2, boot_pd
	mov %cr3, AX
	mov AX, %cr3
	WANT c_write, U, VPF
	WANT c_read, U, VBP
	WANT c_write, K, VBP
	orb $2, boot_pd
	mov %cr3, AX
	mov AX, %cr3
	WANT c_write, U, VBP
	dec %ebx
	jnz 1b
	VERDICT "store by the page's rights"
	/* breakpoints on code that has run */
	mov $10, %ebx
1:	WANT c_nops, U, VBP
	mov $c_nops + 1, %eax
	mov AX, %db0
	mov $0x402, %eax
	mov AX, %db7
	WANT c_nops, U, VDB
	mov $0x400, %eax
	mov AX, %db7
	WANT c_nops, U, VBP
	mov $a0 + 16, %eax
	mov AX, %db1
	mov $0x00d00408, %eax
	mov AX, %db7
	WANT c_write, U, VDB
	WANT c_write, K, VDB
	mov $0x400, %eax
	mov AX, %db7
	WANT c_write, U, VBP
	WANT c_nops, U, VDB, TF_
	WANT c_nops, U, VBP
	dec %ebx
	jnz 1b
	VERDICT "breakpoints and steps on code that has run"

	/* a base that changes under the same code */
	movl $0x100, a0 + 8
	movl $0x200, a1 + 8
	mov $10, %ebx
1:	SETDESC SLOT, a0, 0xfff, 0x40f3
	mov $SLOT + 3, %eax
	mov %eax, %fs
	call get_fs
	cmp $0x100, %eax
	je 2f
	incl bad
2:	SETDESC SLOT, a1, 0xfff, 0x40f3
	call get_fs
	cmp $0x100, %eax /* the hidden part is as before */
	je 2f
	incl bad
2:	mov $SLOT + 3, %eax
	mov %eax, %fs
	call get_fs
	cmp $0x200, %eax
	je 2f
	incl bad
2:	dec %ebx
	jnz 1b
	VERDICT "fs base"
	xor %eax, %eax
	mov %eax, %fs
#if LONG
	mov $10, %ebx
1:	mov $0xc0000100, %ecx
	mov $a0, %eax
	xor %edx, %edx
	wrmsr
	call get_fs
	cmp $0x100, %eax
	je 2f
	incl bad
2:	mov $0xc0000100, %ecx
	mov $a1, %eax
	xor %edx, %edx
	wrmsr
	call get_fs
	cmp $0x200, %eax
	je 2f
	incl bad
2:	dec %ebx
	jnz 1b
	VERDICT "fs base by MSR"
	/* the same bytes in 64-bit and compatibility mode: 48 ff c0 is inc %rax, or dec %eax and inc %eax */
	mov $10, %ebx
1:	TRY c_same, U
	cmpl $0x600e, tr_ax
	je 2f
	incl bad
2:	TRY c_same, CU
	cmpl $0x600d, tr_ax
	je 2f
	incl bad
2:	TRY c_same, CK
	cmpl $0x600d, tr_ax
	je 2f
	incl bad
2:	TRY c_same, K
	cmpl $0x600e, tr_ax
	je 2f
	incl bad
2:	dec %ebx
	jnz 1b
	VERDICT "64-bit and compatibility mode in turn"
#else
	/* DS, ES and SS */
	SETDESC SLOT, a0, 0xfffff, 0xc093
	SETDESC SLOT+8, a1, 0xfffff, 0xc093
	movl $0x11, a0
	movl $0x22, a1
	mov $10, %ebp
1:	push %ebp
	mov $D0, %eax
	mov $a0, %ebx
	call with_ds
	cmp $0x11, %eax
	je 2f
	incl bad
2:	mov $D0, %eax
	mov $a1, %ebx
	call with_ds
	cmp $0x22, %eax
	je 2f
	incl bad
2:	mov $SLOT, %eax
	xor %ebx, %ebx
	call with_ds
	cmp $0x11, %eax
	je 2f
	incl bad
2:	mov $SLOT + 8, %eax
	xor %ebx, %ebx
	call with_ds
	cmp $0x22, %eax
	je 2f
	incl bad
2:	mov $SLOT + 8, %eax
	mov $a0 - a1, %ebx
	call with_ds
	cmp $0x11, %eax
	je 2f
	incl bad
2:	pop %ebp
	dec %ebp
	jnz 1b
	VERDICT "ds base"
	mov $10, %ebp
1:	mov $D0, %eax
	mov $a0 + 0x100, %ebx
	call with_ss
	cmpl $0x1234, a0 + 0xfc
	je 2f
	incl bad
2:	movl $0, a0 + 0xfc
	mov $SLOT + 8, %eax
	mov $0x200, %ebx
	call with_ss
	cmpl $0x1234, a1 + 0x1fc
	je 2f
	incl bad
2:	movl $0, a1 + 0x1fc
	dec %ebp
	jnz 1b
	VERDICT "ss base"
	/* a 16-bit stack under the same code */
	mov $10, %ebp
1:	mov $S16, %eax
	mov $0x00127e00, %ebx
	movl $0, 0x7dfc
	call with_ss
	cmpl $0x1234, 0x7dfc
	je 2f
	incl bad
2:	mov $D0, %eax
	mov $a0 + 0x100, %ebx
	movl $0, a0 + 0xfc
	call with_ss
	cmpl $0x1234, a0 + 0xfc
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "16- and 32-bit stacks in turn"
	/* CS base: the same linear code at another offset; what CALL pushes tells */
	SETDESC SLOT+0x10, 0x1000, 0xfffff, 0xc09b
	mov $10, %ebp
1:	movl $c_where, fptr
	movw $C0, fptr + 4
	lcall *fptr
	cmp $c_where_back, %eax
	je 2f
	incl bad
2:	movl $c_where - 0x1000, fptr
	movw $SLOT+0x10, fptr + 4
	lcall *fptr
	cmp $c_where_back - 0x1000, %eax
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "cs base"
	/* a limit that shrinks under a read */
	cmpb $0, feat_not_tcg
	je 3f
	mov $10, %ebp
1:	SETDESC SLOT+0x18, a0, 0xfff, 0x40f3
	mov $SLOT + 0x1b, %eax
	mov %eax, %fs
	call get_fs
	TRY c_fs_limit, U
	cmpl $VBP, tr_vec
	je 2f
	incl bad
2:	SETDESC SLOT+0x18, a0, 7, 0x40f3
	TRY c_fs_limit, U
	cmpl $VGP, tr_vec
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
3:	VERDICT "limit"
	/* paging on and off */
	mov $10, %ebp
1:	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	call get_a0
	cmp $0x11, %eax
	je 2f
	incl bad
2:	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	call get_a0
	cmp $0x11, %eax
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "paging off and on"
	/* 16- and 32-bit code: 40 is inc %ax or inc %eax */
	SETDESC SLOT+0x20, 0x100000, 0xffff, A_CODE
	mov $10, %ebp
1:	mov $0x1ffff, %eax
	movl $c_inc, fptr
	movw $C0, fptr + 4
	lcall *fptr
	cmp $0x20000, %eax
	je 2f
	incl bad
2:	mov $0x1ffff, %eax
	movl $c_inc16 - 0x100000, fptr
	movw $SLOT + 0x20, fptr + 4
	lcall *fptr
	cmp $0x10000, %eax
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "16- and 32-bit code in turn"
#endif
	/* a call target behind a pointer that changes; the return address on the stack changed */
	mov $100, %ebx
	xor %edx, %edx
1:	mov $ind_a, %eax
	test $1, %ebx
	jz 2f
	mov $ind_b, %eax
2:	call *AX
	dec %ebx
	jnz 1b
	CHECK4 "indirect calls in turn", %edx, $(50 + 5000)
	mov $100, %ebx
	xor %edx, %edx
1:	call ret_elsewhere
	add $1000, %edx
3:	dec %ebx
	jnz 1b
	CHECK4 "return address changed in turn", %edx, $(50 * 1000 + 50)
	ret
ind_a:	inc %edx
	ret
ind_b:	add $100, %edx
	ret
ret_elsewhere:
	test $1, %ebx
	jz 1f
	mov $3b, %eax
	mov AX, (SP)
	inc %edx
1:	ret
get_fs:	mov %fs:8, %eax
	ret
get_a0:	mov a0, %eax
	ret
#if LONG
c_same:	.byte 0x48, 0xff, 0xc0
	int3
#else
	/* EAX selector, EBX offset -> EAX */
with_ds: mov %eax, %ds
	mov (%ebx), %eax
	mov $D0, %ecx
	mov %ecx, %ds
	ret
	/* EAX selector, EBX stack pointer */
with_ss: mov %esp, %edx
	mov %eax, %ss
	mov %ebx, %esp
	push $0x1234
	pop %ecx
	push %ecx
	mov $D0, %ecx
	mov %ecx, %ss
	mov %edx, %esp
	ret
c_where: call 1f
c_where_back:
1:	pop %eax
	lret
c_fs_limit:
	mov $SLOT + 0x1b, %eax
	mov %eax, %fs
	mov %fs:8, %eax
	int3
c_inc:	.byte 0x40
	lret
	/* as 16-bit code */
c_inc16: .byte 0x40, 0x66, 0xcb /* inc %ax; lretl */
#endif
