// MODES: 32 64
/*
 * Debug exceptions: single step over everything that is special, breakpoints in DR0 to DR3 for
 * execution, data and I/O, RF, DR6, GD, INT1. SDM 3, chapter 17. The #DB handler logs the saved
 * instruction pointer and DR6, sets RF and goes on.
 */
#include "guest.inc"


	.bss
	.balign 8
db_count: .skip 8
db_ip:	.skip 8 * 64
db_dr6:	.skip 8 * 64
data:	.skip 64
	.text
db_handler:
	push AX
	push BX
	push CX
	mov db_count, %ebx
	cmp $64, %ebx
	jae 1f
	mov 3 * W(SP), AX
	mov %eax, db_ip(,BX,4)
	mov %db6, AX
	mov %eax, db_dr6(,BX,4)
	incl db_count
1:	mov $0xffff0ff0, %eax
	mov AX, %db6
	orl $RF_, 5 * W(SP)
	cmpl $63, %ebx
	jb 1f
	/* far too many: stop */
	andl $~TF_, 5 * W(SP)
	xor %eax, %eax
	mov AX, %db7
1:	pop CX
	pop BX
	pop AX
	IRET

	/* SI: name, BX: table of expected ips up to 0, DI: expected bits of DR6 (0xe00f) of each */
check_steps:
	push AX
	push CX
	push DX
	xor %ecx, %ecx
1:	mov (BX,CX,4), %eax
	test %eax, %eax
	jz 2f
	cmp %ecx, db_count
	jbe 3f
	cmp db_ip(,CX,4), %eax
	jne 3f
	mov db_dr6(,CX,4), %edx
	and $0xe00f, %edx
	cmp %edi, %edx
	jne 4f
	inc %ecx
	jmp 1b
2:	cmp %ecx, db_count
	jne 3f
	mov %ecx, %eax
	mov %ecx, %edx
	call check_equal
	jmp 5f
3:	/* which step, and where it was */
	push AX
	incl failures
	PUTS "FAIL "
	call put_string
	PUTS " got step "
	PUTHEX CX
	PUTS " of "
	PUTHEX db_count
	PUTS " at "
	mov db_ip(,CX,4), %eax
	call put_hex
	PUTS " want "
	pop AX
	call put_hex
	NEWLINE
	jmp 5f
4:	mov %edx, %eax
	mov %edi, %edx
	call check_equal
5:	movl $0, db_count
	pop DX
	pop CX
	pop AX
	ret

.macro STEPS name:req, dr6:req, ips:vararg
	.pushsection .rodata
700:	.asciz "\name"
	.balign 4
701:	.long \ips
	.long 0
	.popsection
	push SI
	push BX
	push DI
	mov $700b, SI
	mov $701b, BX
	mov $\dr6, DI
	call check_steps
	pop DI
	pop BX
	pop SI
.endm
.macro TF_ON
	PUSHF
	orl $TF_, (SP)
	POPF
.endm
.macro TF_OFF
	PUSHF
	andl $~TF_, (SP)
	POPF
.endm
.macro DR n, addr
	mov $\addr, %eax
	mov AX, %db\n
.endm
.macro DR7 value
	mov $\value, %eax
	mov AX, %db7
.endm

test_main:
	SETIDT 1, db_handler
	mov $0xffff0ff0, %eax
	mov AX, %db6

	/* -- single step */
	TF_ON
	nop
s1:	add $1, %eax
s2:	mov $5, %ecx
s3:	TF_OFF
s4:	STEPS "plain instructions", 0x4000, s1, s2, s3, s3+1, s3+1+7, s4
	TF_ON
	nop
s5:	jmp s6
	nop
s6:	call s8
s7:	jmp s9
s8:	ret
s9:	TF_OFF
s10:	STEPS "branches", 0x4000, s5, s6, s8, s7, s9, s9+1, s9+8, s10
	mov $data, %edi
	mov $data + 32, %esi
	mov $3, %ecx
	TF_ON
r1:	rep movsb
r2:	TF_OFF
r3:	STEPS "each iteration of rep movsb", 0x4000, r1, r1, r2, r2+1, r2+8, r3
	xor %ecx, %ecx
	TF_ON
r4:	rep movsb
r5:	TF_OFF
r6:	STEPS "rep movsb of count 0", 0x4000, r5, r5+1, r5+8, r6
	mov $3, %ecx
	mov $data, %edi
	mov $data, %esi
	TF_ON
r7:	repe cmpsb
r8:	TF_OFF
r9:	STEPS "repe cmpsb", 0x4000, r7, r7, r8, r8+1, r8+8, r9
	mov $2, %ecx
	TF_ON
l1:	nop
l2:	loop l1
l3:	TF_OFF
l4:	STEPS "loop", 0x4000, l2, l1, l2, l3, l3+1, l3+8, l4
	mov %ss, %edx
	TF_ON
	nop
m1:	mov %edx, %ss
m2:	nop
m3:	nop
m4:	TF_OFF
m5:	STEPS "mov ss holds the trap back", 0x4000, m1, m3, m4, m4+1, m4+8, m5
	/* an INT: the handler runs without TF; the trap comes after the instruction behind it */
	SETIDT 0x40, plain_iret
	TF_ON
	nop
i1:	int $0x40
i2:	nop
i3:	TF_OFF
i4:	STEPS "int and iret", 0x4000, i1, i3, i3+1, i3+8, i4
	/* an instruction that faults */
	SETIDT 6, skip_ud2
	TF_ON
	nop
u1:	ud2
u2:	nop
u3:	TF_OFF
u4:	STEPS "fault and iret", 0x4000, u1, u3, u3+1, u3+8, u4
	SETIDT 6, stubs+6*16
	TF_ON
	nop
p1:	pushw $0x102
p2:	popfw
p3:	TF_OFF
p4:	STEPS "popf that keeps TF", 0x4000, p1, p2, p3, p3+1, p3+8, p4
	TF_ON
	nop
c1:	cli
c2:	sti
c3:	nop
c4:	cli
c5:	TF_OFF
c6:	STEPS "sti does not hold the trap back", 0x4000, c1, c2, c3, c4, c5, c5+1, c5+8, c6
	TF_ON
	nop
v1:	cpuid
v2:	mov %cr0, rAX
v3:	in $0x61, %al
v4:	TF_OFF
v5:	STEPS "instructions that exit", 0x4000, v1, v2, v3, v4, v4+1, v4+8, v5
	TF_ON
	PUSHF
	pop AX
	TF_OFF
	movl $0, db_count
	and $TF_, %eax
	CHECK4 "pushf shows TF", %eax, $TF_
	/* iret that sets TF: the trap comes after the next instruction */
	PUSHF
	orl $TF_, (SP)
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
	mov $x1, %eax
	push AX
	IRET
x1:	nop
x2:	TF_OFF
x3:	STEPS "iret sets TF", 0x4000, x2, x2+1, x2+8, x3
	xor %eax, %eax
	TF_ON
	nop
y1:	fnop
y2:	movups data, %xmm0
y3:	lock incl data
y4:	cmpxchg %eax, data
y5:	jo y7
y6:	TF_OFF
y7:	STEPS "fpu, sse, lock, jcc not taken", 0x4000, y1, y2, y3, y4, y5, y6, y6+1, y6+8, y7

	/* -- execution breakpoints */
	DR 0, e1
	DR7 0x402
	nop
e1:	nop
	nop
	STEPS "execution breakpoint", 1, e1
	mov $5, %ecx
	DR 1, e2
	DR7 0x408
e2:	loop e2
	STEPS "execution breakpoint in a loop", 2, e2, e2, e2, e2, e2
	DR 2, e3
	DR7 0x420
	jmp e3
	nop
e3:	rep stosb /* ecx = 0 */
	STEPS "breakpoint at a branch target", 4, e3
	/* on the second byte of an instruction: no */
	DR 3, e4+1
	DR7 0x480
e4:	mov $0x90909090, %eax
	STEPS "breakpoint inside an instruction", 0
	/* behind mov ss: held back, an execution breakpoint is lost or delayed by processor; not tested */
	/* a breakpoint and the step before it at once */
	DR 0, e6
	DR7 0x402
	TF_ON
	nop
e6:	nop
e7:	TF_OFF
e8:	DR7 0x400
	CHECK4 "step before a breakpoint: ip", db_ip, $e6
	movl $0, db_count
	/* RF in the frame skips it */
	DR 0, e9
	DR7 0x402
	PUSHF
	orl $RF_, (SP)
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
	mov $e9, %eax
	push AX
	IRET
e9:	nop
	nop
	STEPS "iret with RF", 0
	/* self-written code under a breakpoint */
	DR7 0x400

	/* -- data breakpoints: LEN 0 1 byte, 1 2 bytes, 3 4 bytes, 2 8 bytes; RW 1 write, 3 both */
	DR 0, data+4
	DR7 0x000d0402
	movl $1, data + 4
d1:	mov data + 4, %eax
	movl $1, data
	movl $1, data + 8
	movb $1, data + 7
d2:	movw $1, data + 3
d3:	nop
	STEPS "write breakpoint, 4 bytes", 1, d1, d2, d3
	DR7 0x000f0402
	mov data + 4, %eax
d4:	add %eax, data + 4
d5:	cmp %eax, data + 5
d6:	lea data + 4, %eax
	mov data, %eax
	STEPS "access breakpoint", 1, d4, d5, d6
	DR7 0x00010402
	movb $1, data + 4
d7:	movb $1, data + 5
	movl $1, data + 1
d8:	nop
	STEPS "1 byte", 1, d7, d8
	DR7 0x00050402
	movb $1, data + 5
d9:	movb $1, data + 6
	STEPS "2 bytes", 1, d9
	DR 0, data+8
	DR7 0x00090402
	movb $1, data + 15
d10:	movb $1, data + 16
	movb $1, data + 7
	STEPS "8 bytes", 1, d10
	mov $data, %edi
	mov $6, %ecx
	DR 0, data+2
	DR7 0x00010402
d11:	rep stosb
d12:	nop
	STEPS "rep stosb hits in the middle", 1, d11
	mov $data, %edi
	mov $3, %ecx
d13:	rep stosb
d14:	nop
	STEPS "rep stosb hits with the last", 1, d14
	DR 0, data
	DR7 0x000d0402
	mov SP, BX
	mov $data + W, %esp
	push AX
d15:	mov BX, SP
	STEPS "push hits", 1, d15
	mov $data, %esp
	mov BX, SP
	STEPS "moving sp does not", 1
	/* two at once */
	DR 1, data+1
	DR7 0x001d040a
	movl $1, data
d16:	nop
	STEPS "two at once", 3, d16
	DR7 0x400
	movl $1, data
	STEPS "none enabled", 0
	/* mov ss holds a data breakpoint back by one instruction */
	DR 0, data
	DR7 0x000f0402
	mov %ss, data
d17:	mov data, %ss
	nop
d18:	nop
	STEPS "mov ss from a watched word", 1, d17, d18
	/* lock and xchg, sse, fpu */
	xchg %eax, data
d19:	movups %xmm0, data
d20:	fldl data
d21:	fstpl data
d22:	fxsave scratch
	STEPS "xchg, movups, fld, fstp", 1, d19, d20, d21, d22
	DR7 0x400
	fninit

	/* -- I/O breakpoints */
	mov %cr4, AX
	or $8, %eax
	mov AX, %cr4
	DR 0, 0x80
	DR7 0x00020402
	in $0x80, %al
o1:	out %al, $0x80
o2:	in $0x84, %al
	STEPS "I/O breakpoint", 1, o1, o2
	DR7 0x400
	mov %cr4, AX
	and $~8, %eax
	mov AX, %cr4

	/* -- general detect */
	DR7 0x2400
g1:	mov %db0, rCX
g2:	nop
	STEPS "DR7.GD", 0x2000, g1
	mov %db7, rCX
	CHECK4 "GD cleared", %ecx, $0x400
	/* -- INT1 */
	cmpb $0, feat_not_tcg
	je 1f
	.byte 0xf1
g3:	nop
	STEPS "int1", 0, g3
1:

	/* -- DR6 and DR7 as registers */
	xor %eax, %eax
	mov AX, %db6
	mov %db6, rCX
	CHECK4 "DR6 fixed bits", %ecx, $0xffff0ff0
	mov $0xffffffff, %eax
	mov AX, %db7
	mov %db7, rCX
	mov $0x400, %eax
	mov AX, %db7
	and $0xffffc7ff, %ecx
	CHECK4 "DR7 fixed bits", %ecx, $0xffff07ff
	movl $0, db_count
	/* -- ring 3: step and watch */
	SETIDT 1, stubs+16
	TRY u_code, U, TF_
	CHECK4 "ring 3 step: vector", tr_vec, $VDB
	CHECK4 "ring 3 step: ip", tr_ip, $u_code+1
	mov tr_fl, %eax
	and $TF_ | RF_, %eax
	CHECK4 "ring 3 step: TF in the frame, no RF", %eax, $TF_
	xor %eax, %eax
	mov AX, %db6
	DR 0, u_code+1
	DR7 0x402
	TRY u_code, U
	CHECK4 "ring 3 breakpoint: ip", tr_ip, $u_code+1
	mov tr_fl, %eax
	and $RF_, %eax
	CHECK4 "ring 3 breakpoint: no RF in the frame", %eax, $0
	mov %db6, AX
	and $0xf, %eax
	CHECK4 "ring 3 breakpoint: DR6", %eax, $1
	TRY u_code, U, RF_
	CHECK4 "RF lasts one instruction", tr_ip, $u_code+1
	TRY u_code+1, U, RF_
	CHECK4 "RF over the breakpoint", tr_ip, $u_code+3
	DR7 0x400
	/* TF and a fault: the fault alone */
	TRY u_fault, U, TF_
	CHECK4 "TF and a fault: vector", tr_vec, $VUD
	mov tr_fl, %eax
	and $TF_, %eax
	CHECK4 "TF in the fault's frame", %eax, $TF_
	ret
u_code:	nop
	nop
	int3
u_fault: ud2
plain_iret:
	nop
	IRET
skip_ud2:
	addl $2, (SP)
	IRET
