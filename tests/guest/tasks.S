// MODES: 32
/*
 * Hardware task switching: JMP, CALL, IRET, gates in the GDT and the IDT; 32- and 16-bit TSSs; busy
 * bits, back link, NT, CR0.TS, CR3, LDT, T flag, faults. SDM 3, chapter 7.
 */
#include "guest.inc"

	.set TA, SLOT          /* 32-bit TSS A */
	.set TB, SLOT + 8      /* 32-bit TSS B */
	.set T16, SLOT + 0x10  /* 16-bit TSS */
	.set TGATE, SLOT + 0x1b /* task gate to A, DPL 3 */
	.set TNP, SLOT + 0x20  /* TSS not present */
	.set TSHORT, SLOT + 0x28 /* TSS with limit 0x66 */
	.set TGATE0, SLOT + 0x30
	.set LDTB, SLOT + 0x38
	.set TGNP, SLOT + 0x43
	.set TGDATA, SLOT + 0x4b
	.set NPCS, SLOT + 0x50
	.set T3, SLOT + 0x5b   /* TSS with DPL 3 */

	.data
	.balign 16
.macro MAKETSS label, entry, stack, ldt=0, cs=C0, ss=D0, fl=2, ds=D0, trap=0
\label:	.long 0
	.long trap_stack_top, D0, 0, 0, 0, 0
	.long 0
	.long \entry, \fl
	.long 0xa0a0, 0xc1c1, 0xd2d2, 0xb3b3, \stack, 0xb5b5, 0x5656, 0xd7d7
	.long \ds, \cs, \ss, \ds, 0, 0, \ldt
	.short \trap, 104
.endm
	MAKETSS tss_a, task_a, ist3_top
	.balign 16
	MAKETSS tss_b, task_b, ist2_top, ldt=LDTB
	.balign 16
tss_16:	.short 0
	.short 0, 0, 0, 0, 0, 0
	.short task_16 - LOW, 2
	.short 0xa0a0, 0xc1c1, 0xd2d2, 0xb3b3, 0x7f00, 0xb5b5, 0x5656, 0xd7d7
	.short D16, C16, S16, D16, 0
	.balign 16
tss_16_end:
ldt_b:	.quad 0
	D 0x1234, 0xff, 0x40f3
got:	.skip 64
save_a:	.skip 104
err_got: .long 0
	.text

	/* Task A: notes its registers, goes back as it was called. */
task_a:
	mov %eax, got
	mov %ecx, got + 4
	mov %esi, got + 8
	mov %edi, got + 12
	mov %ebp, got + 16
	mov %esp, got + 20
	pushfl
	popl got + 24
	mov %cr0, %eax
	mov %eax, got + 28
	str %eax
	mov %eax, got + 32
	mov gdt + TSS + 4, %eax
	mov %eax, got + 36
	mov gdt + TA + 4, %eax
	mov %eax, got + 40
	mov tss_a, %eax
	mov %eax, got + 44
	incl runs
	testl $NT_, got + 24
	jnz 1f
	ljmp $TSS, $0
	jmp task_a
1:	iretl
task_a_after: /* continues here when it is entered again */
	incl again
	jmp task_a
	.data
runs:	.long 0
again:	.long 0
	.text
task_b:
	sldt %eax
	mov %eax, got
	mov $0xc, %eax
	mov %eax, %fs
	mov %fs, %ecx
	mov %ecx, got + 56
	lcall $TA, $0
	mov gdt + TB + 4, %eax
	mov %eax, got + 48
	iretl
	jmp task_b
	/* For faults: enters by what is in fptr. */
fptr:	.long 0
	.short 0
do_jmp:	ljmp *fptr
do_call: lcall *fptr
do_iret_nt:
	pushl $NT_ | 2
	popfl
1:	iretl
	.set do_iret_at, 1b
int_50:	int $0x50
after_50: int3
	/* Handler tasks for the IDT: error code on the stack. */
task_gp:
	popl err_got
	mov tss_b, %eax /* back link */
	mov %eax, got + 52
	/* skip the two bytes of the faulting instruction */
	addl $2, tss + 0x20
	iretl
	jmp task_gp

read_marker:
	mov marker + 0x40000000, %eax
	int3
task_cr3:
	mov marker + 0x40000000, %eax
	mov %eax, got + 56
	mov %cr3, %eax
	mov %eax, got + 60
	iretl
	/* after a fault inside task A: the main task again, by hand */
back_to_main:
	andb $~2, gdt + TSS + 5
	andb $~2, gdt + TA + 5
	mov $TSS, %eax
	ltr %ax
	mov $LDTSEL, %eax
	lldt %ax
	movl $task_a, tss_a + 0x20
	movl $2, tss_a + 0x24
	movl $ist3_top, tss_a + 0x38
	ret
	.data
marker:	.long 0
	.bss
	.balign 4096
pd_a:	.skip 4096

	.section .low, "awx"
	.code16
task_16:
	mov %ax, got16 - LOW
	mov %cx, got16 + 2 - LOW
	mov %sp, got16 + 4 - LOW
	pushf
	popw got16 + 6 - LOW
	iretw
	jmp task_16
got16:	.skip 16
	.text
	.code32

.macro FAULT name:req, sel:req, where:req, mode:req, vec:req, err:req
	movw $\sel, fptr + 4
	TRY \where, \mode
	CHECK4 "\name: vector", tr_vec, $\vec
	CHECK4 "\name: error", tr_err, $\err
	CHECK4 "\name: ip", tr_ip, $\where
.endm

test_main:
	SETDESC TA, tss_a, 103, 0x89
	SETDESC TB, tss_b, 103, 0x89
	SETDESC T16, tss_16, 43, 0x81
	SETGATE TGATE, TA, 0, 0xe5
	SETGATE TGATE0, TA, 0, 0x85
	SETDESC TNP, tss_a, 103, 0x09
	SETDESC TSHORT, tss_a, 102, 0x89
	SETDESC LDTB, ldt_b, 15, 0x82
	SETGATE TGNP, TA, 0, 0x65
	SETGATE TGDATA, D0, 0, 0xe5
	SETDESC NPCS, 0, 0xfffff, 0xc01b
	SETDESC T3, tss_a, 103, 0xe9

	/* -- JMP there and back */
	mov $0x1111, %eax
	mov $0x2222, %ecx
	mov $0x5555, %ebp
	stc
	ljmp $TA, $0
	setc %bl
	movzbl %bl, %ebx
	CHECK4 "jmp: eax back", %eax, $0x1111
	CHECK4 "jmp: ecx back", %ecx, $0x2222
	CHECK4 "jmp: flags back", %ebx, $1
	CHECK4 "jmp: eax there", got, $0xa0a0
	CHECK4 "jmp: ecx there", got + 4, $0xc1c1
	CHECK4 "jmp: edi there", got + 12, $0xd7d7
	CHECK4 "jmp: esp there", got + 20, $ist3_top
	CHECK4 "jmp: NT not set", got + 24, $2
	mov got + 28, %eax
	and $8, %eax
	CHECK4 "jmp: CR0.TS set", %eax, $8
	CHECK4 "jmp: task register", got + 32, $TA
	mov got + 36, %eax
	and $0xff00, %eax
	CHECK4 "jmp: the old task is not busy", %eax, $0x8900
	mov got + 40, %eax
	and $0xff00, %eax
	CHECK4 "jmp: the new task is busy", %eax, $0x8b00
	mov gdt + TA + 4, %eax
	and $0xff00, %eax
	CHECK4 "jmp back: A not busy", %eax, $0x8900
	mov gdt + TSS + 4, %eax
	and $0xff00, %eax
	CHECK4 "jmp back: main busy", %eax, $0x8b00
	str %eax
	CHECK4 "jmp back: task register", %eax, $TSS
	clts

	/* -- CALL and IRET. A goes on behind its JMP. */
	movl $task_a, tss_a + 0x20
	movl $2, tss_a + 0x24
	lcall $TA, $0
	CHECK4 "call: runs", runs, $2
	mov got + 24, %eax
	CHECK4 "call: NT set", %eax, $(NT_ | 2)
	mov got + 44, %eax
	and $0xffff, %eax
	CHECK4 "call: back link", %eax, $TSS
	mov got + 36, %eax
	and $0xff00, %eax
	CHECK4 "call: the old task stays busy", %eax, $0x8b00
	mov gdt + TA + 4, %eax
	and $0xff00, %eax
	CHECK4 "iret: A not busy", %eax, $0x8900
	mov tss_a + 0x24, %eax
	and $NT_, %eax
	CHECK4 "iret: NT cleared in A's flags", %eax, $0
	CHECK4 "iret: A goes on behind its IRET", tss_a + 0x20, $task_a_after
	pushfl
	popl %eax
	and $NT_, %eax
	CHECK4 "main has no NT", %eax, $0
	/* entered again it goes on there */
	lcall $TA, $0
	CHECK4 "call again: continues", again, $1
	CHECK4 "call again: runs", runs, $3

	/* -- nested: main calls B, B calls A; LDT */
	lcall $TB, $0
	CHECK4 "nested: runs", runs, $4
	mov got + 44, %eax
	and $0xffff, %eax
	CHECK4 "nested: A's back link", %eax, $TB
	mov tss_b, %eax
	and $0xffff, %eax
	CHECK4 "nested: B's back link", %eax, $TSS
	CHECK4 "nested: fs by B's LDT", got + 56, $0xc
	mov got + 48, %eax
	and $0xff00, %eax
	CHECK4 "nested: B busy while it runs", %eax, $0x8b00
	sldt %eax
	CHECK4 "LDT of main back", %eax, $0

	/* -- task gates */
	lcall $TGATE, $0
	CHECK4 "gate: runs", runs, $5
	ljmp $TGATE0, $0x12345678
	CHECK4 "gate, jmp: runs", runs, $6
	SETIDT 0x50, 0, attr=0xe5, sel=TA
	int $0x50
	CHECK4 "gate in the IDT: runs", runs, $7
	mov got + 24, %eax
	and $NT_, %eax
	CHECK4 "gate in the IDT: NT", %eax, $NT_
	/* from ring 3 */
	TRY int_50, U
	CHECK4 "gate in the IDT from ring 3: came back", tr_ip, $after_50+1
	CHECK4 "gate in the IDT from ring 3: cs", tr_cs, $U32
	CHECK4 "gate in the IDT from ring 3: runs", runs, $8
	/* an exception with an error code. KVM on TCG gets the #GP and injects it again, for which TCG finds no task gate */
	cmpb $0, feat_not_tcg
	je no_task_gp
	movl $task_gp, tss_b + 0x20
	movl $ist2_top, tss_b + 0x38
	movl $2, tss_b + 0x24
	SETIDT 13, 0, attr=0x85, sel=TB
	mov $0xfff8, %eax
	mov %eax, %fs
	SETIDT 13, stubs+13*16
	CHECK4 "exception by task gate: error code", err_got, $0xfff8
	mov got + 52, %eax
	and $0xffff, %eax
	CHECK4 "exception by task gate: back link", %eax, $TSS
no_task_gp:

	/* -- 16-bit TSS */
	mov $0x12345678, %eax
	lcall $T16, $0
	CHECK4 "16-bit: eax kept over it", %eax, $0x12345678
	CHECK4 "16-bit: ax, cx there", got16, $0xc1c1a0a0
	CHECK2 "16-bit: sp there", got16 + 4, $0x7f00
	CHECK2 "16-bit: NT there", got16 + 6, $0x4002
	CHECK2 "16-bit: back link", tss_16, $TSS

	/* -- T flag: #DB after the switch */
	movw $1, tss_a + 0x64
	movl $task_a, tss_a + 0x20
	movl $2, tss_a + 0x24
	movl $ist3_top, tss_a + 0x38
	movw $TA, fptr + 4
	xor %eax, %eax
	mov %eax, %db6
	TRY do_call, K
	CHECK4 "T flag: vector", tr_vec, $VDB
	CHECK4 "T flag: at the new task's first instruction", tr_ip, $task_a
	mov %db6, %eax
	and $0xe00f, %eax
	CHECK4 "T flag: DR6.BT", %eax, $0x8000
	movw $0, tss_a + 0x64
	/* back as the main task by hand */
	andb $~2, gdt + TSS + 5
	andb $~2, gdt + TA + 5
	mov $TSS, %eax
	ltr %ax
	mov $LDTSEL, %eax
	lldt %ax
	movl $task_a, tss_a + 0x20
	movl $2, tss_a + 0x24
	movl $ist3_top, tss_a + 0x38

	/* -- CR3: task A has another page directory, that maps 0x40000000 */
	call paging_on
	mov $boot_pd, %esi
	mov $pd_a, %edi
	mov $1024, %ecx
	rep movsl
	movl $0x87, pd_a + 0x400
	movl $0x600df00d, marker
	mov %cr3, %eax
	mov %eax, tss + 0x1c
	movl $pd_a, tss_a + 0x1c
	movl $task_cr3, tss_a + 0x20
	lcall $TA, $0
	CHECK4 "CR3 of the new task", got + 60, $pd_a
	CHECK4 "its mapping", got + 56, $0x600df00d
	mov %cr3, %eax
	CHECK4 "CR3 back", %eax, $boot_pd
	TRY read_marker, K
	CHECK4 "no such mapping here", tr_vec, $VPF
	movl $task_a, tss_a + 0x20
	mov %cr3, %eax
	mov %eax, tss_a + 0x1c
	mov %eax, tss_b + 0x1c

	/* -- what is wrong with the new task is found in the new task: its handler's frame is there. (For
	   CS and SS that needs a handler that is a task: there is no stack yet.) */
	movw $TA, fptr + 4
	movl $0xfff8, tss_a + 0x54
	TRY do_jmp, K
	CHECK4 "bad ds: vector", tr_vec, $VTS
	CHECK4 "bad ds: error", tr_err, $0xfff8
	CHECK4 "bad ds: ip of the new task", tr_ip, $task_a
	call back_to_main
	movl $D0, tss_a + 0x54

	/* -- faults before the switch */
	FAULT "busy", TSS, do_jmp, K, VGP, TSS
	FAULT "busy, call", TSS, do_call, K, VGP, TSS
	FAULT "not present", TNP, do_jmp, K, VNP, TNP
	FAULT "too short", TSHORT, do_jmp, K, VTS, TSHORT
	FAULT "TSS of ring 0 from ring 3", TA, do_jmp, U, VGP, TA
	FAULT "gate of ring 0 from ring 3", TGATE0, do_call, U, VGP, TGATE0
	FAULT "gate not present", TGNP, do_call, U, VNP, TGNP&~3
	FAULT "gate to data", TGDATA, do_call, U, VGP, D0
	FAULT "TSS with RPL > DPL", TA+3, do_call, K, VGP, TA
	movw $0x18, tss
	TRY do_iret_nt, K
	CHECK4 "iret, back link to data: vector", tr_vec, $VTS
	CHECK4 "iret, back link to data: error", tr_err, $0x18
	movw $TA, tss
	TRY do_iret_nt, K
	CHECK4 "iret, back link not busy: vector", tr_vec, $VTS
	CHECK4 "iret, back link not busy: error", tr_err, $TA
	movw $0, tss
	ret
