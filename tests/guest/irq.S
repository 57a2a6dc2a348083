// MODES: 32 64
/*
 * Interrupts: PIC and PIT, local APIC (timer, self IPI, priorities, NMI, x2APIC), I/O APIC; STI and
 * HLT, closed loops, state across interrupts that come anywhere. Nothing printed depends on time.
 */
#include "guest.inc"

	.set LAPIC, 0xfee00000
	.set IOAPIC, 0xfec00000
	/* LAPIC registers through BP = its base */
#define APIC(reg) reg(BP)

	.bss
	.balign 4096
apic_pd: .skip 4096
ticks:	.skip 8
last_ip: .skip 8
last_cs: .skip 8
order:	.skip 64
order_n: .skip 8
nmis:	.skip 8
nmi_depth: .skip 8
nmi_max: .skip 8
bigbuf:	.skip 65536
	.data
	.balign 16
double1: .double 1.0000001
smc_rounds: .long 100000
	.text

.macro OUTB port, value
	mov $\value, %al
	out %al, $\port
.endm
	/* PIC: vectors 0x40 and 0x48, IRQ 0 open */
pic_init:
	OUTB 0x20, 0x11
	OUTB 0x21, 0x40
	OUTB 0x21, 0x04
	OUTB 0x21, 0x01
	OUTB 0xa0, 0x11
	OUTB 0xa1, 0x48
	OUTB 0xa1, 0x02
	OUTB 0xa1, 0x01
	OUTB 0xa1, 0xff
	OUTB 0x21, 0xfe
	ret
pic_mask:
	OUTB 0x21, 0xff
	ret
	/* 1 kHz */
pit_1khz:
	OUTB 0x43, 0x34
	OUTB 0x40, (1193 & 0xff)
	OUTB 0x40, (1193 >> 8)
	ret
	/* one shot in about 1 ms, mode 0 */
pit_once:
	OUTB 0x43, 0x30
	OUTB 0x40, (1193 & 0xff)
	OUTB 0x40, (1193 >> 8)
	ret
	/* stops it */
pit_off:
	OUTB 0x43, 0x30
	ret
	/* until the PIC has IRQ 0 pending */
wait_irr:
	OUTB 0x20, 0x0a
1:	in $0x20, %al
	test $1, %al
	jz 1b
	ret

	/* Handlers. pic_tick: counts, notes where, and when `leave_to` is set goes there. */
pic_tick:
	push AX
	incl ticks
	mov W(SP), AX
	mov AX, last_ip
	mov 2*W(SP), AX
	mov AX, last_cs
	OUTB 0x20, 0x20
	mov leave_to, AX
	test AX, AX
	jz 1f
	cmpl $3, ticks
	jb 1f
	mov AX, W(SP)
	andl $~IF_, 3*W(SP) /* on a slow host the next tick is here already */
1:	pop AX
	IRET
	.data
	.balign 8
leave_to: .quad 0
	.text
	/* LAPIC vectors: counts and EOI */
.macro NOTE vec
	push AX
	push BX
	mov order_n, %ebx
	movb $\vec, order(BX)
	incl order_n
	pop BX
	pop AX
.endm
.macro EOI
	push BP
	mov $LAPIC, %ebp
	movl $0, APIC(0xb0)
	pop BP
.endm
h_50:	incl ticks
	NOTE 0x50
	EOI
	IRET
h_60:	NOTE 0x60
	push BP
	mov $LAPIC, %ebp
	/* while 0x60 is in service: 0x50 waits, 0x70 comes at once */
	movl $0x40050, APIC(0x300)
	call icr_idle
	movl $0x40070, APIC(0x300)
	call icr_idle
	sti
	nop
	nop
	cli
	pop BP
	NOTE 0x61
	EOI
	IRET
h_70:	NOTE 0x70
	EOI
	IRET
h_nmi:	push AX
	incl nmis
	incl nmi_depth
	mov nmi_depth, %eax
	cmp nmi_max, %eax
	jbe 1f
	mov %eax, nmi_max
1:	cmpl $2, nmis
	jae 2f
	push BP
	mov $LAPIC, %ebp
	movl $0x40400, APIC(0x300) /* another, that must wait for IRET */
	call icr_idle
	pop BP
	mov $100, %eax
3:	dec %eax
	jnz 3b
2:	decl nmi_depth
	pop AX
	IRET
h_x2:	push AX
	push CX
	push DX
	incl ticks
	mov $0x80b, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	pop DX
	pop CX
	pop AX
	IRET
#if LONG
	/* An interrupt in `walk`: are RSP and CF what they are before the instruction that is next? */
h_walk:	push %rax
	push %rcx
	push %rdx
	incl ticks
	mov 24(%rsp), %rax
	sub $walk, %rax
	cmp $walk_end - walk, %rax
	jae 2f
	incl walk_seen
	movzbl walk_at(%rax), %ecx
	mov walk_rsp, %rdx
	sub 48(%rsp), %rdx
	lea (%rdx,%rdx), %edx /* 16 to a word, and CF */
	mov 40(%rsp), %eax
	and $1, %eax
	or %eax, %edx
	cmp %ecx, %edx
	je 2f
	incl walk_wrong
2:	push %rbp
	mov $LAPIC, %ebp
	mov 32(%rsp), %rax /* where the last one came: on a slow host the next is always here already */
	xchg %rax, walk_last
	cmp %rax, walk_last
	je 3f
	movl $0, walk_stuck
3:	incl walk_stuck
	cmpl $8, walk_stuck
	jb 4f
	movl $0, walk_stuck
	addl $1000, walk_period
	mov walk_period, %eax
	mov %eax, APIC(0x380)
4:	movl $0, APIC(0xb0)
	pop %rbp
	pop %rdx
	pop %rcx
	pop %rax
	iretq
	/* How far below RBX it finds RSP. BP = LAPIC */
h_below: push %rax
	mov %rbx, %rax
	sub 32(%rsp), %rax
	mov %eax, below
	movl $0, APIC(0xb0)
	pop %rax
	iretq
	/* What compilers put at the beginning and the end of a function. EDI = 0, CF. */
walk:
w0:	push %rbp
w1:	push %rbx
w2:	mov %edi, %ebx
w3:	sub $24, %rsp
w4:	xor %eax, %eax
w5:	cmp $1, %edi
w6:	mov %eax, %edx
w7:	push $3
w8:	pop %rcx
w9:	lea 24(%rsp), %rsp
w10:	mov %ebx, %eax
w11:	pop %rbx
w12:	pop %rbp
w13:	ret
walk_end:
	.macro AT at, words, carry
	.org walk_at + (\at - walk)
	.byte \words * 16 + \carry
	.endm
	.section .rodata
walk_at:
	AT w0, 0, 1
	AT w1, 1, 1
	AT w2, 2, 1
	AT w3, 2, 1
	AT w4, 5, 0
	AT w5, 5, 0
	AT w6, 5, 1
	AT w7, 5, 1
	AT w8, 6, 1
	AT w9, 5, 1
	AT w10, 2, 1
	AT w11, 2, 1
	AT w12, 1, 1
	AT w13, 0, 1
	.bss
	.balign 8
walk_rsp: .skip 8
walk_seen: .skip 8
walk_wrong: .skip 8
walk_last: .skip 8
walk_stuck: .skip 8
	.data
walk_period: .long 1500
	.bss
	.balign 8
below:	.skip 8
	.text
#endif
icr_idle: /* BP = LAPIC */
1:	testl $0x1000, APIC(0x300)
	jnz 1b
	ret

.macro EXPECT_ORDER name:req, lo:req, n:req
	CHECK4 "\name: how many", order_n, $\n
	CHECK4 "\name: which", order, $\lo
	movl $0, order_n
	movl $0, order
	movl $0, order + 4
.endm

	/* A long computation with live flags, SSE and x87 state; EDX = result. */
checksum:
	push CX
	push BX
	mov $0x12345678, %eax
	mov $0x9abcdef0, %edx
	mov $200000, %ecx
	xor %ebx, %ebx
	movsd double1, %xmm0
	movapd %xmm0, %xmm1
	fninit
	fldl double1
	fld1
1:	add %eax, %edx
	mov %edx, %ebx
	rcl $3, %ebx
	adc %ebx, %eax
	lea 5(%eax), %eax
	sbb $7, %edx
	setc %bl
	mulsd %xmm1, %xmm0
	fmul %st(1), %st
	dec %ecx
	jnz 1b
	movq %xmm0, scratch
	xor scratch, %edx
	xor scratch + 4, %edx
	fstpl scratch
	fstp %st
	xor scratch, %edx
	xor %eax, %edx
	pop BX
	pop CX
	ret

test_main:
	cmpb $0, feat_not_tcg
	jne 1f
	movl $10000, smc_rounds /* TCG translates anew each time */
1:
#if LONG
	/* the last GiB below 4 GiB: the APICs' two large pages */
	movl $apic_pd + 7, boot_pdpt + 24
	movl $0xfec00087 + 0x18, apic_pd + 502 * 8
	movl $0xfee00087 + 0x18, apic_pd + 503 * 8
	mov %cr3, %rax
	mov %rax, %cr3
#endif
	mov $LAPIC, %ebp
	movl $0x1ff, APIC(0xf0)
	movl $0x700, APIC(0x350) /* LINT0: the PIC */
	movl $0x10000, APIC(0x320)
	movl $0, APIC(0x80)
	SETIDT 0x40, pic_tick
	SETIDT 0x50, h_50
	SETIDT 0x60, h_60
	SETIDT 0x70, h_70
	SETIDT 2, h_nmi

	/* -- PIT by the PIC into a closed loop */
	call pic_init
	movl $0, ticks
	movl $1f, leave_to
	call pit_1khz
	sti
loop0:	jmp loop0
1:	cli
	movl $0, leave_to
	CHECK4 "interrupts reach jmp .", ticks, $3
	CHECK4 "jmp .: saved ip", last_ip, $loop0
	/* a loop of several blocks that looks at memory */
	movl $0, ticks
	sti
1:	mov ticks, %eax
	test $1, %ecx
	jz 2f
	inc %ecx
	jmp 3f
2:	add $3, %ecx
3:	cmp $4, %eax
	jb 1b
	cli
	SAY "ok interrupts reach a loop of blocks"
	/* a loop that calls */
	movl $0, ticks
	sti
1:	call 2f
	cmpl $4, ticks
	jb 1b
	cli
	jmp 3f
2:	ret
3:	SAY "ok interrupts reach a loop with calls"
	/* -- HLT */
	movl $0, ticks
	mov $3, %ecx
1:	sti
hlt0:	hlt
hlt1:	cli
	CHECK4 "hlt: the saved ip is behind it", last_ip, $hlt1
	loop 1b
	/* more of them when the host was late and two came at once */
	cmpl $3, ticks
	jae 1f
	SAY "FAIL hlt: fewer ticks than HLTs"
	jmp 2f
1:	SAY "ok hlt: a tick each"
2:

	/* -- STI, POPF, IRET with an interrupt pending */
	call pit_off
	sti /* what was late comes now */
	nop
	nop
	cli
	call pit_once
	call wait_irr
	movl $0, ticks
	sti
	nop
sti1:	nop
	nop
	cli
	CHECK4 "sti: after the next instruction", last_ip, $sti1
	CHECK4 "sti: once", ticks, $1
	call pit_once
	call wait_irr
	mov $1000, %ecx
1:	sti
	cli
	loop 1b
	CHECK4 "sti; cli lets none in", ticks, $1
	PUSHF
	orl $0x200, (SP)
	POPF
popf1:	nop
	nop
	cli
	CHECK4 "popf: at once", last_ip, $popf1
	CHECK4 "popf: once", ticks, $2
	call pit_once
	call wait_irr
	PUSHF
	orl $0x200, (SP)
#if LONG
	pop %rcx
	mov %ss, %eax
	mov %rsp, %rdx
	push %rax
	push %rdx
	push %rcx
#endif
	mov $C0, %eax
	push AX
	mov $iret1, %eax
	push AX
	IRET
	nop
iret1:	nop
	cli
	CHECK4 "iret: at once", last_ip, $iret1
	/* with IF clear it stays pending, however long */
	call pit_once
	call wait_irr
	movl $0, ticks
	mov $300000, %ecx
1:	dec %ecx
	jnz 1b
	CHECK4 "cli holds it", ticks, $0
	sti
	nop
	nop
	cli
	CHECK4 "and it comes then", ticks, $1
	/* sti in a shadow of mov ss; both held back */
	call pit_once
	call wait_irr
	movl $0, ticks
	PUSHF
	orl $0x200, (SP)
	pop AX
	push AX
	mov %ss, %edx
	POPF
ss1:	mov %edx, %ss
	nop
	cli
	CHECK4 "popf, then mov ss", last_ip, $ss1
	/* ring 3, IOPL 0: a closed loop is left too */
	movl $u_out, leave_to
	movl $0, ticks
	call pit_1khz
	TRY u_loop, U, IF_
	CHECK4 "ring 3 loop: left", tr_ip, $u_out+1
	CHECK4 "ring 3 loop: ticks", ticks, $3
	CHECK4 "ring 3 loop: cs", last_cs, $C3
	movl $0, leave_to
#if LONG
	movl $cu_out, leave_to
	movl $0, ticks
	TRY cu_loop, CU, IF_
	CHECK4 "compatibility mode loop: left", tr_ip, $cu_out+1
	CHECK4 "compatibility mode loop: cs", last_cs, $U32
	movl $0, leave_to
#endif

	/* -- state across interrupts that come anywhere */
	cli
	call checksum
	mov %edx, %esi
	xor %edi, %edi
	mov $5, %ecx
	movl $0, ticks
	sti
1:	call checksum
	cmp %esi, %edx
	je 2f
	inc %edi
2:	loop 1b
	cli
	CHECK4 "flags, SSE and x87 live across interrupts", %edi, $0
	/* rep movs under interrupts */
	mov $200, %edx
	xor %ebx, %ebx
	sti
1:	mov $bigbuf, %edi
	mov $65536, %ecx
	mov %dl, %al
	rep stosb
	cmp $bigbuf + 65536, %edi
	je 2f
	inc %ebx
2:	dec %edx
	jnz 1b
	cli
	CHECK4 "rep stosb under interrupts", %ebx, $0
	CHECK4 "and its bytes", bigbuf + 32764, $0x01010101
	/* self-modifying code under interrupts */
	mov smc_rounds, %ecx
	xor %eax, %eax
	sti
1:	.byte 0x05 /* add $imm, %eax */
smc_imm: .long 0
	incl smc_imm
	loop 1b
	cli
	mov %eax, %ebx
	mov smc_rounds, %eax
	dec %eax
	imull smc_rounds, %eax
	shr %eax
	xor %ebx, %eax
	shl %eax
	CHECK4 "self-modifying code under interrupts", %eax, $0
	call pit_off
	call pic_mask

	/* -- local APIC timer */
	mov $LAPIC, %ebp
	movl $3, APIC(0x3e0) /* divide by 16 */
	movl $0x50, APIC(0x320) /* one shot */
	movl $0, ticks
	movl $1000, APIC(0x380)
	sti
1:	cmpl $1, ticks
	jb 1b
	cli
	CHECK4 "LAPIC timer, one shot", ticks, $1
	CHECK4 "LAPIC timer: counted down", APIC(0x390), $0
	movl $0x20050, APIC(0x320) /* periodic */
	movl $10000, APIC(0x380)
	movl $0, ticks
1:	sti
	hlt
	cli
	cmpl $5, ticks
	jb 1b
	SAY "ok LAPIC timer, periodic"
#if LONG
	/* what it finds where pushes and pops are */
	SETIDT 0x51, h_walk
	lea -8(%rsp), %rax
	mov %rax, walk_rsp
	movl $0, ticks
	movl $0x20051, APIC(0x320)
	mov walk_period, %eax
	mov %eax, APIC(0x380)
	sti
1:	xor %edi, %edi
	stc
	call walk
	cmpl $2000, ticks
	jb 1b
	cli
	CHECK4 "pushes and pops: RSP and CF", walk_wrong, $0
	cmpl $100, walk_seen
	jae 1f
	SAY "FAIL pushes and pops: too few interrupts in them"
1:	SETIDT 0x52, h_below
	mov %rsp, %rbx
	movl $0x40052, APIC(0x300)
	call icr_idle
	sti
	lea -64(%rsp), %rsp
	nop
	cli
	lea 64(%rsp), %rsp
	CHECK4 "LEA of RSP in the shadow of STI", below, $64
#endif
	movl $0, APIC(0x380)
	movl $0x10050, APIC(0x320)
	/* a period that ran out just before is still delivered */
	sti
	nop
	nop
	cli
	movl $0, ticks
	movl $1, APIC(0x380)
	mov $100000, %ecx
	sti
1:	dec %ecx
	jnz 1b
	cli
	CHECK4 "LAPIC timer, masked", ticks, $0
	cmpb $0, feat_tsc_deadline
	je 1f
	movl $0x40050, APIC(0x320)
	mfence
	rdtsc
	add $100000, %eax
	adc $0, %edx
	mov $0x6e0, %ecx
	wrmsr
	movl $0, ticks
	sti
2:	cmpl $1, ticks
	jb 2b
	cli
	CHECK4 "TSC deadline", ticks, $1
	mov $0x6e0, %ecx
	rdmsr
	or %edx, %eax
	CHECK4 "TSC deadline: disarmed", %eax, $0
	/* in the past: at once */
	mov $1, %eax
	xor %edx, %edx
	movl $0, ticks
	wrmsr
	sti
2:	cmpl $1, ticks
	jb 2b
	cli
	CHECK4 "TSC deadline in the past", ticks, $1
1:	movl $0x10050, APIC(0x320)
	movl $0, order_n
	movl $0, order
	movl $0, order + 4

	/* -- self IPIs and priorities */
	sti
	movl $0x40050, APIC(0x300)
	call icr_idle
	nop
	cli
	EXPECT_ORDER "self IPI", 0x50, 1
	movl $0x40050, APIC(0x300)
	call icr_idle
	movl $0x40070, APIC(0x300)
	call icr_idle
	mov APIC(0x220), %eax /* IRR 0x40 to 0x5f */
	and $0x10000, %eax
	CHECK4 "pending in the IRR", %eax, $0x10000
	sti
	nop
	nop
	cli
	EXPECT_ORDER "the higher first", 0x5070, 2
	/* the same vector twice while pending: once */
	movl $0x40050, APIC(0x300)
	call icr_idle
	movl $0x40050, APIC(0x300)
	call icr_idle
	sti
	nop
	nop
	nop
	cli
	EXPECT_ORDER "pending twice comes once", 0x50, 1
	/* task priority */
	movl $0x50, APIC(0x80)
	movl $0x40050, APIC(0x300)
	call icr_idle
	sti
	nop
	nop
	cli
	EXPECT_ORDER "TPR holds its class", 0, 0
	sti
	movl $0x40070, APIC(0x300)
	call icr_idle
	nop
	cli
	EXPECT_ORDER "TPR lets higher ones in", 0x70, 1
	sti
	movl $0x40, APIC(0x80)
	nop
	nop
	cli
	EXPECT_ORDER "TPR lowered", 0x50, 1
#if LONG
	mov $5, %eax
	mov %rax, %cr8
	CHECK4 "CR8 is the TPR", APIC(0x80), $0x50
	movl $0x40050, APIC(0x300)
	call icr_idle
	sti
	nop
	nop
	cli
	EXPECT_ORDER "CR8 holds its class", 0, 0
	sti
	xor %eax, %eax
	mov %rax, %cr8
	nop
	nop
	cli
	EXPECT_ORDER "CR8 lowered", 0x50, 1
#endif
	movl $0, APIC(0x80)
	/* nested: 0x60's handler sends 0x50 and 0x70 */
	sti
	movl $0x40060, APIC(0x300)
	call icr_idle
	nop
	nop
	cli
	EXPECT_ORDER "nested by priority", 0x50617060, 4
	/* -- NMI */
	movl $0x40400, APIC(0x300)
	call icr_idle
	nop
	nop
	CHECK4 "NMI with IF clear, and the second behind IRET", nmis, $2
	CHECK4 "NMI blocked in its handler", nmi_max, $1

	/* -- I/O APIC: the PIT on input 2 */
	mov $IOAPIC, %ebx
	movl $1, (BX)
	mov 0x10(BX), %eax
	shr $16, %eax
	and $0xff, %eax
	CHECK4 "I/O APIC: 24 inputs", %eax, $23
	movl $0x15, (BX)
	movl $0, 0x10(BX)
	movl $0x14, (BX)
	movl $0x50, 0x10(BX)
	movl $0, ticks
	call pit_1khz
1:	sti
	hlt
	cli
	cmpl $3, ticks
	jb 1b
	SAY "ok PIT by the I/O APIC"
	movl $0x14, (BX)
	movl $0x10050, 0x10(BX)
	sti
	nop
	nop
	cli
	movl $0, ticks
	mov $1000000, %ecx
	sti
1:	dec %ecx
	jnz 1b
	cli
	CHECK4 "I/O APIC: masked", ticks, $0
	/* level-triggered, while the broadcast of EOIs is suppressed: the next one comes when the I/O APIC is told */
	testl $1 << 24, APIC(0x30)
	jz 3f
	movl $0x11ff, APIC(0xf0)
	call pit_once
	movl $0, ticks
	movl $0x8050, 0x10(BX)
	sti
1:	cmpl $1, ticks
	jb 1b
	mov $100000, %ecx
1:	dec %ecx
	jnz 1b
	cli
	cmpl $1, ticks
	jne 2f
	movl $0x50, 0x40(BX)
	sti
1:	cmpl $2, ticks
	jb 1b
	cli
2:	movl $0x10050, 0x10(BX)
	movl $0x1ff, APIC(0xf0)
	CHECK4 "I/O APIC: EOI by its own register", ticks, $2
	jmp 4f
3:	SAY "ok I/O APIC: EOI by its own register"
4:	call pit_off

	/* -- x2APIC */
	cmpb $0, feat_x2apic
	je 9f
	TRY read_x2apic, K
	CHECK4 "x2APIC MSR in xAPIC mode", tr_vec, $VGP
	mov $0x1b, %ecx
	rdmsr
	or $0x400, %eax
	wrmsr
	rdmsr
	and $0xc00, %eax
	CHECK4 "x2APIC mode", %eax, $0xc00
	SETIDT 0x50, h_x2
	mov $0x802, %ecx
	rdmsr
	CHECK4 "x2APIC: ID", %eax, $0
	movl $0, ticks
	sti
	mov $0x83f, %ecx /* self IPI */
	mov $0x50, %eax
	xor %edx, %edx
	wrmsr
	nop
	cli
	CHECK4 "x2APIC: self IPI", ticks, $1
	sti
	mov $0x830, %ecx
	mov $0x40050, %eax
	wrmsr
	nop
	cli
	CHECK4 "x2APIC: ICR", ticks, $2
	mov $0x838, %ecx
	xor %eax, %eax
	wrmsr
	mov $0x832, %ecx
	mov $0x50, %eax
	wrmsr
	mov $0x838, %ecx
	mov $1000, %eax
	wrmsr
	sti
1:	cmpl $3, ticks
	jb 1b
	cli
	CHECK4 "x2APIC: timer", ticks, $3
	TRY write_x2apic_id, K
	CHECK4 "x2APIC: writing the ID", tr_vec, $VGP
	TRY write_x2apic_eoi, K
	CHECK4 "x2APIC: EOI of not 0", tr_vec, $VGP
	TRY read_x2apic_eoi, K
	CHECK4 "x2APIC: reading EOI", tr_vec, $VGP
	TRY read_x2apic_gap, K
	CHECK4 "x2APIC: a register that is none", tr_vec, $VGP
	TRY x2apic_to_xapic, K
	CHECK4 "x2APIC to xAPIC directly", tr_vec, $VGP
9:	ret

	.balign 16
u_loop:	jmp u_loop
u_out:	int3
#if LONG
	.code32
cu_loop: inc %ecx
	jmp cu_loop
cu_out:	int3
	.code64
#endif
read_x2apic:
	mov $0x802, %ecx
	rdmsr
	int3
write_x2apic_id:
	mov $0x802, %ecx
	wrmsr
	int3
write_x2apic_eoi:
	mov $0x80b, %ecx
	mov $1, %eax
	wrmsr
	int3
read_x2apic_eoi:
	mov $0x80b, %ecx
	rdmsr
	int3
read_x2apic_gap:
	mov $0x804, %ecx
	rdmsr
	int3
x2apic_to_xapic:
	mov $0x1b, %ecx
	rdmsr
	and $~0x400, %eax
	wrmsr
	int3
