// MODES: 32
/*
 * SYSENTER, SYSEXIT, SYSCALL and SYSRET (where the processor has them outside long mode) in 32-bit mode:
 * segments, stack, flags, ways in from ring 3 and v8086 mode. SDM 2, AMD's manual 3.
 */
#include "guest.inc"

	.set STACK, ist3_top

	.data
	.balign 8
got_cs:	.long 0
got_ss:	.long 0
got_sp:	.long 0
got_fl:	.long 0
got_cx:	.long 0
back:	.long 0
	.text
.macro SAVE
	mov %cs, got_cs
	mov %ss, got_ss
	mov %esp, got_sp
	mov %ecx, got_cx
.endm
	/* SYSENTER's entry; `back`: 1 to go back, EDX = ip and ECX = sp of the caller's choice */
entry:	mov $D0, %eax
	mov %eax, %ds
	SAVE
	pushfl
	popl got_fl
	cmpl $1, back
	je 1f
	int3
1:	mov $u_after, %edx
	mov $snip_stack_top - 64, %ecx
	sysexit
scentry: /* SYSCALL's */
	SAVE
	mov $STACK, %esp
	pushfl
	popl got_fl
	mov got_sp, %esp
	cmpl $1, back
	je 1f
	int3
1:	sysretl
u_sysenter:
	sysenter
	ud2
u_after:
	mov %cs, %eax
	mov %ss, %ebx
	int3
u_syscall:
	syscall
u_sys_after:
	mov %cs, %eax
	mov %ss, %ebx
	pushfl
	pop %edx
	int3
	.section .low, "awx"
	.code16
v_sysenter:
	sysenter
	.text
	.code32

.macro SETMSR index, lo, hi=0
	mov $\index, %ecx
	mov $\lo, %eax
	mov $\hi, %edx
	wrmsr
.endm

test_main:
	cmpb $0, feat_sep
	je 9f
	SETMSR 0x174, C0
	SETMSR 0x175, STACK
	SETMSR 0x176, entry
	TRY u_sysenter, U, (IOPL3 | IF_ | 0x8d5)
	CHECK4 "sysenter: arrived", tr_vec, $VBP
	CHECK2 "sysenter: cs", got_cs, $C0
	CHECK2 "sysenter: ss", got_ss, $D0
	CHECK4 "sysenter: esp", got_sp, $STACK
	mov got_fl, %eax
	and $(VM_ | IF_ | IOPL3), %eax
	CHECK4 "sysenter: IF cleared, IOPL kept", %eax, $IOPL3
	TRY u_sysenter, K
	CHECK4 "sysenter from ring 0", tr_vec, $VBP
	CHECK4 "sysenter from ring 0: esp", got_sp, $STACK
	TRY v_sysenter, V86
	CHECK4 "sysenter from v8086 mode", tr_vec, $VBP
	CHECK2 "sysenter from v8086 mode: cs", got_cs, $C0
	mov got_fl, %eax
	and $VM_, %eax
	CHECK4 "sysenter from v8086 mode: VM cleared", %eax, $0
	movl $1, back
	mov $20, %ebp
1:	TRY u_sysenter, U
	dec %ebp
	jnz 1b
	movl $0, back
	CHECK4 "sysexit: back", tr_vec, $VBP
	CHECK4 "sysexit: cs", tr_ax, $U32
	CHECK4 "sysexit: ss", tr_bx, $D3
	CHECK4 "sysexit: esp", tr_sp, $snip_stack_top-64
	SETMSR 0x174, 3
	TRY u_sysenter, U
	CHECK4 "sysenter with a null CS: vector", tr_vec, $VGP
	CHECK4 "sysenter with a null CS: ip", tr_ip, $u_sysenter
	SETMSR 0x174, 0
9:	/* SYSCALL outside long mode: AMD */
	cmpb $0, feat_amd
	je 9f
	cmpb $0, feat_syscall
	je 9f
	SETMSR 0xc0000081, scentry, ((0x1b << 16) | C0)
	mov $0xc0000080, %ecx
	rdmsr
	or $1, %eax
	wrmsr
	TRY u_syscall, U, (IF_ | 0x8d5)
	CHECK4 "syscall: arrived", tr_vec, $VBP
	CHECK2 "syscall: cs", got_cs, $C0
	CHECK2 "syscall: ss", got_ss, $D0
	CHECK4 "syscall: ecx is the next instruction", got_cx, $u_sys_after
	CHECK4 "syscall: esp kept", got_sp, $snip_stack_top
	mov got_fl, %eax
	and $0x202, %eax
	CHECK4 "syscall: IF cleared", %eax, $2
	movl $1, back
	TRY u_syscall, U, IF_
	CHECK4 "sysret: back", tr_vec, $VBP
	CHECK4 "sysret: cs", tr_ax, $U32
	CHECK4 "sysret: ss", tr_bx, $D3
	mov tr_dx, %eax
	and $0x200, %eax
	CHECK4 "sysret: IF set", %eax, $0x200
9:	ret
