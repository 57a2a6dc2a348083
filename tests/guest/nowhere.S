// MODES: 64
/*
 * Branches to addresses that are none, in user mode and in the kernel: #GP, at the branch, with the stack as it was. Among them
 * addresses that a translator may mark with, in its tables, that there is nothing.
 */
#include "guest.inc"

	.bss
	.balign 8
target:	.skip 8
	.text
	NATIVE
jmp_register: mov target, %rax
	jmp *%rax
jmp_memory: mov $target, %eax
	jmp *(%rax)
jmp_table: mov $2, %ecx
	jmp *target - 16(,%rcx,8)
call_register: mov target, %rax
	call *%rax
call_memory: mov $target, %eax
	call *(%rax)
call_table: mov $2, %ecx
	call *target - 16(,%rcx,8)
return:	push target
	ret
	/* behind a call, so that there is something that a RET may be taken for */
returns: call 1f
	int3
1:	mov target, %rax
	mov %rax, (%rsp)
	push $0
	pop %rax
	ret

	/* as often as it takes to be translated, and to be found where branches go */
.macro NOWHERE from:req, mode:req
	.rept 3
	TRY \from, \mode
	CHECK4 "\from: vector", tr_vec, $VGP
	CHECK "\from: error code", tr_err, $0
	VALUE "\from: ip", tr_ip
	VALUE "\from: sp", tr_sp
	.endr
.endm

test_main:
	mov $1f, %ebx
2:	mov (%rbx), %rax
	mov %rax, target
	VALUE "to", target
	.irp mode, U, K
	.irp from, jmp_register, jmp_memory, jmp_table, call_register, call_memory, call_table, return, returns
	NOWHERE \from, \mode
	.endr
	.endr
	add $8, %rbx
	cmp $9f, %ebx
	jb 2b
	ret
	.section .rodata
	.balign 8
1:	.quad 0xc000000000000000, 0xc000000000001000, 0xbfffffffffffffff, 0xc000000000000001, 0x4000000000000000
	.quad 0x8000000000000000, 0x0000800000000000, 0xffff7fffffffffff
9:
