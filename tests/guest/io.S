// MODES: 32 64
/*
 * Port and memory I/O by every kind of instruction: the counter of the HPET, which stands still, and the PIC's
 * mask register keep what is written.
 */
#include "guest.inc"

	.set HPET, 0xfed00000
	.set COUNTER, HPET + 0xf0
	.bss
	.balign 4096
device_pd: .skip 4096
buf:	.skip 64
	.data
	.balign 8
pic_bytes: .byte 0xf1, 0xf2, 0xf3, 0xf7, 0xfb, 0xfa
	.text

	/* BX = COUNTER. name, code that leaves a value in the counter's low half or in EAX */
.macro T name:req, code:req, want:req
	movl $0x20, (BX)
	mov $0x30, %eax
	mov $0x50, %ecx
	\code
	mov (BX), %ecx
	CHECK4 "\name", %ecx, $\want
.endm
.macro A name:req, code:req, want:req
	movl $0x20, (BX)
	mov $0x30, %eax
	mov $0x50, %ecx
	\code
	CHECK4 "\name", %eax, $\want
.endm

test_main:
#if LONG
	movl $device_pd + 7, boot_pdpt + 24
	movl $0xfec00087 + 0x18, device_pd + 502 * 8
	mov %cr3, %rax
	mov %rax, %cr3
#endif
	mov $COUNTER, %ebx
	A "mov from", "mov (%ebx), %eax", 0x20
	T "mov to", "mov %ecx, (%ebx)", 0x50
	T "mov imm", "movl $0x70, (%ebx)", 0x70
	T "add", "addl $0x10, (%ebx)", 0x30
	T "adc register", "stc; adc %ecx, (%ebx)", 0x71
	A "add from", "add (%ebx), %eax", 0x50
	T "sub", "subl $0x10, (%ebx)", 0x10
	T "or", "orl $0x40, (%ebx)", 0x60
	T "and", "andl $0, (%ebx)", 0
	T "xor", "lock xorl $0x30, (%ebx)", 0x10
	T "inc", "incl (%ebx)", 0x21
	T "neg", "negl (%ebx); andl $0xff, (%ebx)", 0xe0
	T "not", "notl (%ebx); andl $0xff, (%ebx)", 0xdf
	T "shl", "shll $1, (%ebx)", 0x40
	T "rol cl", "mov $2, %cl; roll %cl, (%ebx)", 0x80
	T "xchg", "xchg %ecx, (%ebx)", 0x50
	A "xchg: old value", "xchg %eax, (%ebx)", 0x20
	T "xadd", "lock xadd %eax, (%ebx)", 0x50
	A "xadd: old value", "xadd %eax, (%ebx)", 0x20
	T "cmpxchg equal", "mov $0x20, %eax; lock cmpxchg %ecx, (%ebx)", 0x50
	T "cmpxchg unequal", "lock cmpxchg %ecx, (%ebx)", 0x20
	A "cmpxchg unequal: eax", "cmpxchg %ecx, (%ebx)", 0x20
	A "cmp", "cmpl $0x20, (%ebx); sete %al; movzbl %al, %eax", 1
	A "test", "testl $0x20, (%ebx); setnz %al; movzbl %al, %eax", 1
	A "bt", "btl $5, (%ebx); setc %al; movzbl %al, %eax", 1
	T "bts", "btsl $6, (%ebx)", 0x60
	A "imul", "imul $3, (%ebx), %eax", 0x60
	A "movd from", "movd (%ebx), %xmm0; movd %xmm0, %eax", 0x20
	T "movd to", "movd %ecx, %xmm0; movd %xmm0, (%ebx)", 0x50
	T "movss to", "movd %ecx, %xmm0; movss %xmm0, (%ebx)", 0x50
	A "fild", "fildl (%ebx); fistpl buf; mov buf, %eax", 0x20
	T "fistp", "mov %ecx, buf; fildl buf; fistpl (%ebx)", 0x50
	A "movs from", "mov %ebx, %esi; mov $buf, %edi; movsl; mov buf, %eax", 0x20
	T "movs to", "mov $buf, %esi; movl $0x40, buf; mov %ebx, %edi; movsl", 0x40
	T "stos", "mov %ebx, %edi; stosl", 0x30
	T "rep stos of 1", "mov %ebx, %edi; mov $1, %ecx; rep stosl", 0x30
	A "lods", "mov %ebx, %esi; lodsl", 0x20
	A "cmps", "movl $0x20, buf; mov $buf, %esi; mov %ebx, %edi; cmpsl; sete %al; movzbl %al, %eax", 1
	A "scas", "mov $0x20, %eax; mov %ebx, %edi; scasl; sete %al; movzbl %al, %eax", 1
	A "cmov", "cmp %eax, %eax; cmove (%ebx), %eax", 0x20
#if LONG
	A "movslq", "movslq (%rbx), %rax", 0x20
#else
	A "push from", "pushl (%ebx); pop %eax", 0x20
	T "pop to", "push $0x60; popl (%ebx)", 0x60
#endif
	movl $0, (BX)
	/* by rep movsl: what the HPET can do */
	mov $HPET, %esi
	mov $buf, %edi
	mov $1, %ecx
	rep movsl
	mov HPET - COUNTER(BX), %eax
	CHECK4 "rep movsl from a register", buf, %eax
	CHECK4 "rep movsl: esi", %esi, $HPET + 4

	/* -- ports */
	mov $0xf0, %al
	out %al, $0x21
	xor %eax, %eax
	in $0x21, %al
	CHECK4 "out, in", %eax, $0xf0
	mov $0x21, %edx
	mov $0xe5, %al
	out %al, %dx
	mov $0x12345678, %eax
	in %dx, %al
	CHECK4 "in leaves the rest of eax", %eax, $0x123456e5
	mov $pic_bytes, %esi
	outsb
	in %dx, %al
	movzbl %al, %eax
	CHECK4 "outsb", %eax, $0xf1
	CHECK4 "outsb: esi", %esi, $pic_bytes+1
	mov $5, %ecx
	rep outsb
	in %dx, %al
	movzbl %al, %eax
	CHECK4 "rep outsb: the last", %eax, $0xfa
	CHECK4 "rep outsb: esi", %esi, $pic_bytes+6
	CHECK4 "rep outsb: ecx", %ecx, $0
	mov $buf, %edi
	movl $0, buf
	movl $0, buf + 4
	mov $5, %ecx
	rep insb
	CHECK4 "rep insb", buf, $0xfafafafa
	CHECK4 "rep insb: just 5", buf + 4, $0xfa
	CHECK4 "rep insb: edi", %edi, $buf+5
	std
	mov $buf + 3, %edi
	movl $0, buf
	mov $2, %ecx
	rep insb
	cld
	CHECK4 "rep insb backwards", buf, $0xfafa0000
	CHECK4 "rep insb backwards: edi", %edi, $buf+1
	/* CMOS: a byte of its RAM */
	mov $0x50, %al
	out %al, $0x70
	mov $0x5a, %al
	out %al, $0x71
	mov $0x50, %al
	out %al, $0x70
	in $0x71, %al
	movzbl %al, %eax
	CHECK4 "CMOS RAM", %eax, $0x5a
	/* a port that nothing answers, RAM that is not there */
	mov $0x1234, %edx
	in %dx, %eax
	SAY "ok a port of nothing"
	mov $0x0f000000, %ebx
	shl $1, %ebx /* behind RAM */
	mov (BX), %eax
	mov %eax, (BX)
	SAY "ok memory of nothing"
	mov $0xff, %al
	out %al, $0x21
	ret
