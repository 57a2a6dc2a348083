// MODES: 64
/*
 * Returns: what lies between a CALL and its RET may be anything. Return addresses changed or dropped, stacks
 * switched, more calls than returns and the other way round, retpolines; the caller's page mapped elsewhere,
 * its code changed, the mode another when the callee comes back.
 * Linear 1 GiB + x is an alias of x, for user code; page 2 GiB is mapped by remap_pte.
 */
#include "guest.inc"

	.set ALIAS, 0x40000000
	.set REMAP, 0x80000000
	.set DEPTH, 20000
	.set CALLER_IMM, 3 /* bytes into it, where the constant is */
	.bss
	.balign 4096
buf:	.skip 4096
other:	.skip 4096
remap_table: .skip 4096
remap_dir: .skip 4096
	.skip 8 * DEPTH + 4096
deep_stack:
old_sp:	.skip 8
jump_sp: .skip 8

	.section .smc, "awx"
	NATIVE
	/* Copied to buf and other, with another constant: */
caller:	call *%rdi
	mov $0x111, %eax
	ret
caller_end:

to_other: /* the caller's page becomes `other` by INVLPG */
	movl $other + 7, remap_table
	invlpg (%rbx)
	ret
to_other_cr3:
	movl $other + 7, remap_table
	mov %cr3, %rax
	mov %rax, %cr3
	ret
patch:	/* changes its caller */
	incl buf + CALLER_IMM
	ret
	.balign 64
add1:	add $1, %eax
	ret
	.balign 64
add2:	add $2, %eax
	ret
	.balign 16
thunk:	/* a retpoline, to rbx */
	call 2f
1:	pause
	lfence
	jmp 1b
2:	mov %rbx, (%rsp)
	ret
thunk_far: /* the same, not known by its looks */
	call 2f
1:	pause
	jmp 1b
	.balign 64
2:	nop
	mov %rbx, (%rsp)
	nop
	ret
thunk_drop: /* a RET by way of a CALL that is dropped */
	call 1f
	ud2
	.balign 64
1:	lea 8(%rsp), %rsp
	ret
recurse: /* edx deep */
	dec %edx
	jz 1f
	call recurse
1:	inc %eax
	ret
jumper:	/* edx deep, then back to who saved jump_sp */
	dec %edx
	jz 1f
	call jumper
	ud2
1:	mov jump_sp, %rsp
	ret
f_stac:	stac
	ret
f_clac:	clac
	ret
	.balign 64
user_reads:
	call f_stac
	mov ALIAS + buf, %eax
	call f_clac
user_reads_fault:
	mov ALIAS + buf, %ebx
	int3
	.balign 64
far_ret: /* to where nobody can go */
	call 1f
	ud2
	.balign 64
1:	movabs $0x123456789abcdef0, %rax
	mov %rax, (%rsp)
	nop
far_ret_ip:
	ret $24
	.balign 64
far_jump: /* the same by its looks a jump */
	call 1f
	ud2
	.balign 64
1:	movabs $0x123456789abcdef0, %rax
	mov %rax, (%rsp)
far_jump_ip:
	ret

copy_caller: /* rdi: where; eax: the constant */
	push %rdi
	push %rcx
	mov $caller, %esi
	mov $caller_end - caller, %ecx
	rep movsb
	pop %rcx
	pop %rdi
	mov %eax, CALLER_IMM(%rdi)
	ret

test_main:
	call paging_on
	movl $boot_pd + 7, boot_pdpt + 8
	movl $remap_dir + 7, boot_pdpt + 16
	movl $remap_table + 7, remap_dir
	mov %cr3, %rax
	mov %rax, %cr3

	/* -- retpolines */
	xor %eax, %eax
	mov $1000, %ecx
1:	mov $add1, %ebx
	call thunk
	mov $add2, %ebx
	call thunk
	mov $add1, %ebx
	call thunk_far
	mov $add2, %ebx
	call thunk_far
	call 2f
	loop 1b
	jmp 3f
	.balign 64
2:	add $10, %eax
	jmp thunk_drop
3:	CHECK4 "retpolines", %eax, $16000

	/* -- deeper than any cache of returns, and back */
	xor %eax, %eax
	mov $5, %ecx
1:	mov %rsp, old_sp
	mov $deep_stack, %esp
	mov $DEPTH, %edx
	call recurse
	mov old_sp, %rsp
	loop 1b
	CHECK4 "deep recursion", %eax, $(5 * DEPTH)

	/* -- calls that never return, and returns that were never called */
	xor %eax, %eax
	mov $100000, %ecx
	mov %rsp, %rbx
1:	call 2f
	ud2
	.balign 64
2:	inc %eax
	mov %rbx, %rsp
	loop 1b
	CHECK4 "calls that never return", %eax, $100000
	xor %eax, %eax
	mov $100000, %ecx
1:	push $2f
	test $1, %cl
	jz 3f
	ret
	.balign 64
3:	inc %eax
	ret
2:	inc %eax
	loop 1b
	CHECK4 "returns that were never called", %eax, $150000

	/* -- out of many frames at once */
	xor %eax, %eax
	mov $2000, %ecx
1:	call 2f
	inc %eax
	loop 1b
	jmp 3f
	.balign 64
2:	mov %rsp, jump_sp
	lea 1(%rcx), %edx
	and $31, %edx
	inc %edx
	call jumper
	ud2
3:	CHECK4 "out of many frames at once", %eax, $2000

	/* -- the caller's page is another when the callee returns */
	mov $0x111, %eax
	mov $buf, %edi
	call copy_caller
	mov $0x222, %eax
	mov $other, %edi
	call copy_caller
	mov $REMAP, %ebx
	xor %ebp, %ebp
	mov $200, %ecx
1:	movl $buf + 7, remap_table
	invlpg (%rbx)
	mov $add1, %edi
	call *%rbx
	cmp $0x111, %eax
	setne %al
	movzbl %al, %eax
	add %eax, %ebp
	mov $to_other, %edi
	call *%rbx
	cmp $0x222, %eax
	setne %al
	movzbl %al, %eax
	add %eax, %ebp
	movl $buf + 7, remap_table
	mov %cr3, %rax
	mov %rax, %cr3
	mov $to_other_cr3, %edi
	call *%rbx
	cmp $0x222, %eax
	setne %al
	movzbl %al, %eax
	add %eax, %ebp
	loop 1b
	CHECK4 "caller's page remapped by the callee", %ebp, $0

	/* -- the callee changes what it returns to */
	mov $0, %eax
	mov $buf, %edi
	call copy_caller
	xor %ebp, %ebp
	mov $200, %ecx
1:	mov $patch, %edi
	mov $buf, %ebx
	call *%rbx
	add %eax, %ebp
	mov $add1, %edi
	call *%rbx
	add %eax, %ebp
	loop 1b
	CHECK4 "caller changed by the callee", %ebp, $(200 * 201)

	/* -- nowhere to return to */
	mov $5, %ecx
1:	TRY far_ret
	CHECK4 "RET to no address: vector", tr_vec, $VGP
	CHECK4 "RET to no address: ip", tr_ip, $far_ret_ip
	CHECK4 "RET to no address: sp", tr_sp, $(snip_stack_top - 8)
	TRY far_jump
	CHECK4 "the same stored by a MOV: vector", tr_vec, $VGP
	CHECK4 "the same stored by a MOV: ip", tr_ip, $far_jump_ip
	CHECK4 "the same stored by a MOV: sp", tr_sp, $(snip_stack_top - 8)
	dec %ecx
	jnz 1b

	/* -- STAC and CLAC in the callee */
	mov $7, %eax
	xor %ecx, %ecx
	cpuid
	bt $20, %ebx
	jnc 3f
	andb $~4, boot_pdpt
	mov CR4_NOW, %rax
	bts $21, %eax
	mov %rax, CR4_NOW
	mov %rax, %cr4
	movl $0x5a, buf
	mov $5, %ecx
1:	TRY user_reads
	CHECK4 "STAC in the callee holds for the caller", tr_ax, $0x5a
	CHECK4 "CLAC in the callee as well: vector", tr_vec, $VPF
	CHECK4 "CLAC in the callee as well: ip", tr_ip, $user_reads_fault
	dec %ecx
	jnz 1b
	mov CR4_NOW, %rax
	btr $21, %eax
	mov %rax, CR4_NOW
	mov %rax, %cr4
	orb $4, boot_pdpt
	mov %cr3, %rax
	mov %rax, %cr3
3:	ret
