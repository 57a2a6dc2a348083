// MODES: 32 64
// QEMU-SKIP: TCG takes reserved bits of CR4 and hangs
/*
 * Garbage into every control register, debug register, XCR and a few thousand MSRs, with a handler
 * that steps over what faults. What may be written and what may not is hashed: the engines must agree.
 */
#include "guest.inc"

	.data
	.balign 8
faults:	.quad 0
skip_to: .quad 0
step:	.long 1
hash:	.quad 0
garbage_lo: .long 0, 0xffffffff, 0xdeadbeef, 0x80000000, 0x12345678, 1, 0x0f0f0f0f
garbage_hi: .long 0, 0xffffffff, 0xdeadbeef, 0x80000000, 0x0000ffff, 0, 0xf0f0f0f0
garbage_end:
	.text
handler_error: /* goes to skip_to */
	add $W, SP
handler:
	incl faults
	push AX
	mov skip_to, AX
	mov AX, W(SP)
	pop AX
	IRET
	/* hash = hash * 31 + EAX */
mix:	push CX
	mov hash, %ecx
	imul $31, %ecx, %ecx
	add %eax, %ecx
	mov %ecx, hash
	pop CX
	ret
	/* one MSR, ECX: can it be read, what values can be written; restored after */
one_msr:
	push BX
	push SI
	push DI
	mov %ecx, %ebp
	movl $1f, skip_to
	xor %edi, %edi
	rdmsr
	mov %eax, %esi
	mov %edx, %ebx
	mov $1, %edi
1:	xor %ecx, %ecx
2:	push CX
	mov garbage_lo(,CX,4), %eax
	mov garbage_hi(,CX,4), %edx
	mov %ebp, %ecx
	movl $3f, skip_to
	shl $1, %edi
	wrmsr
	or $1, %edi
3:	pop CX
	inc %ecx
	cmp $7, %ecx
	jb 2b
	test $0x80, %edi /* readable */
	jz 4f
	mov %esi, %eax
	mov %ebx, %edx
	mov %ebp, %ecx
	movl $4f, skip_to
	wrmsr
4:	mov %edi, %eax
	call mix
	mov %ebp, %ecx
	pop DI
	pop SI
	pop BX
	ret

.macro MSRS name, from, to
	movl $0, hash
	mov $\from, %ecx
1:	call one_msr
	add step, %ecx
	jc 2f
	cmp $\to, %ecx
	jb 1b
2:
	mov hash, %eax
	VALUE "MSRs \name", AX
.endm

	/* a control register with each single bit changed */
.macro CRBITS n, skipmask
	movl $0, hash
	xor %ebp, %ebp
1:	mov $\skipmask, %eax
	bt %ebp, %eax
	jc 3f
	mov %cr\n, BX
	movl $2f, skip_to
	mov BX, AX
	btc %ebp, %eax
	mov AX, %cr\n
	mov $1, %esi
	mov BX, %cr\n
	jmp 4f
2:	xor %esi, %esi
4:	mov %esi, %eax
	call mix
3:	inc %ebp
	cmp $32, %ebp
	jb 1b
	mov hash, %eax
	VALUE "CR\n bit by bit", AX
.endm

test_main:
	cmpb $0, feat_not_tcg
	jne 1f
	movl $23, step /* each MSR costs nine exits, through two monitors */
1:	SETIDT 6, handler
	SETIDT 13, handler_error
	SETIDT 1, db_handler
	/* CR0 but PE and PG; CR4 but PAE, SMEP, SMAP (all pages are user pages), VMXE aside */
	CRBITS 0, 0x80000001
	CRBITS 4, 0x00300020
	/* CR2, CR3 and back */
	mov $-1, AX
	mov AX, %cr2
	mov %cr2, BX
	CHECK4 "CR2 takes anything", %ebx, $-1
#if !LONG
	mov $-1, AX
	mov AX, %cr3
	mov %cr3, BX
	VALUE "CR3 of ones", BX
	xor %eax, %eax
	mov AX, %cr3
#else
	mov %cr3, %rbx
	movl $1f, skip_to
	mov $-1, %rax
	mov %rax, %cr3
	SAY "FAIL CR3 of ones taken"
1:	mov %cr3, %rax
	sub %rbx, %rax
	CHECK4 "CR3 unchanged", %eax, $0
	xor %ebp, %ebp
1:	movl $2f, skip_to
	mov %ebp, %eax
	shl $4, %rax
	mov %rax, %cr8
2:	inc %ebp
	cmp $64, %ebp
	jb 1b
	xor %eax, %eax
	mov %rax, %cr8
#endif
	/* debug registers */
	xor %ebp, %ebp
1:	mov garbage_lo(,BP,4), %eax
	mov AX, %db0
	mov AX, %db1
	mov AX, %db2
	mov AX, %db3
	mov AX, %db6
	mov AX, %db7
	nop
	nop
	mov $0x400, %eax
	mov AX, %db7
	inc %ebp
	cmp $7, %ebp
	jb 1b
	SAY "ok debug registers"
	/* XCR0 */
	cmpb $0, feat_xsave
	je 9f
	mov %cr4, AX
	or $0x40000, %eax
	mov AX, %cr4
	movl $0, hash
	xor %ebp, %ebp
1:	movl $2f, skip_to
	mov %ebp, %eax
	xor %edx, %edx
	xor %ecx, %ecx
	xor %esi, %esi
	xsetbv
	inc %esi
2:	mov %esi, %eax
	call mix
	inc %ebp
	cmp $0x400, %ebp
	jb 1b
	mov hash, %eax
	VALUE "XCR0", AX
	mov $1, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	xsetbv
	mov CR4_NOW, AX
	mov AX, %cr4
9:	/* MSRs; not APIC_BASE, not EFER: they take the machine away from under us */
	MSRS "0 to 0x1a", 0, 0x1b
	MSRS "0x1c to 0xff", 0x1c, 0x100
	MSRS "0x100 to 0x6df", 0x100, 0x6e0
	MSRS "0x6e1 to 0x7ff", 0x6e1, 0x800
	MSRS "0x800 to 0x8ff", 0x800, 0x900
	MSRS "0x900 to 0x1fff", 0x900, 0x2000
	MSRS "0x40000000 to 0x400000ff", 0x40000000, 0x40000100
	MSRS "0xc0000000 to 0xc000007f", 0xc0000000, 0xc0000080
	MSRS "0xc0000081 to 0xc0001fff", 0xc0000081, 0xc0002000
	MSRS "0xc0010000 to 0xc0010fff", 0xc0010000, 0xc0011000
	MSRS "0xc0011000 to 0xc0011fff", 0xc0011000, 0xc0012000
	MSRS "0xfffffff0 to the end", 0xfffffff0, 0xffffffff
	SAY "ok still here"
	ret
db_handler:
	push AX
	mov $0x400, %eax
	mov AX, %db7
	orl $RF_, 3 * W(SP)
	pop AX
	IRET
