// MODES: 32 64
// ARGS: --testdev
// QEMU: -device pc-testdev
/*
 * QEMU's pc-testdev: a port and memory that keep what is written, and interrupt lines to raise: level and
 * edge interrupts by the I/O APIC and the PIC.
 */
#include "guest.inc"

	.set LAPIC, 0xfee00000
	.set IOAPIC, 0xfec00000
	.set TESTMEM, 0xff000000
	.bss
	.balign 4096
apic_pd: .skip 4096
count:	.skip 8
lower_at: .skip 8
order:	.skip 8
irr_seen: .skip 8
buf:	.skip 64
	.text

	/* level: EOI leaves the line as it is until `lower_at` have come */
h_level:
	push AX
	push BX
	push DX
	incl count
	mov $IOAPIC, %ebx
	movl $0x24, (BX) /* input 10, low */
	mov 0x10(BX), %eax
	and $0x4000, %eax
	or %eax, irr_seen
	mov count, %eax
	cmp lower_at, %eax
	jb 1f
	mov $0x200a, %edx
	xor %eax, %eax
	out %al, %dx
1:	mov $LAPIC, %ebx
	movl $0, 0xb0(BX)
	pop DX
	pop BX
	pop AX
	IRET
h_edge:	push BX
	incl count
	mov $LAPIC, %ebx
	movl $0, 0xb0(BX)
	pop BX
	IRET
.macro PICH n
	push AX
	incl count
	shll $8, order
	orl $\n, order
	mov $0x20, %al
	out %al, $0x20
	pop AX
	IRET
.endm
h_pic3:	PICH 3
h_pic5:	PICH 5
.macro LINE n, value
	mov $0x2000 + \n, %edx
	mov $\value, %al
	out %al, %dx
.endm
.macro OPEN
	sti
	nop
	nop
	nop
	nop
	cli
.endm

test_main:
#if LONG
	movl $apic_pd + 7, boot_pdpt + 24
	movl $0xfec00087 + 0x18, apic_pd + 502 * 8
	movl $0xfee00087 + 0x18, apic_pd + 503 * 8
	movl $0xff000087 + 0x18, apic_pd + 504 * 8
	mov %cr3, %rax
	mov %rax, %cr3
#endif
	/* -- the port */
	mov $0x12345678, %eax
	out %eax, $0xe0
	xor %eax, %eax
	in $0xe0, %eax
	CHECK4 "port, 4 bytes", %eax, $0x12345678
	xor %eax, %eax
	in $0xe1, %al
	CHECK4 "port, byte 1", %eax, $0x56
	xor %eax, %eax
	in $0xe2, %ax
	CHECK4 "port, word 2", %eax, $0x1234
	mov $0x99, %al
	out %al, $0xe2
	in $0xe0, %eax
	CHECK4 "port, byte written", %eax, $0x12995678
	mov $buf, %edi
	mov $0xe0, %edx
	mov $2, %ecx
	rep insl
	CHECK4 "port, rep insl", buf + 4, $0x12995678
	movl $0xcafebabe, buf
	mov $buf, %esi
	outsl
	in $0xe0, %eax
	CHECK4 "port, outsl", %eax, $0xcafebabe
	/* -- the memory */
	mov $TESTMEM, %ebx
	movl $0x11223344, 0x40(BX)
	CHECK4 "memory, 4 bytes", 0x40(BX), $0x11223344
	movb $0x99, 0x41(BX)
	CHECK4 "memory, byte", 0x40(BX), $0x11229944
	movw $0x5566, 0x42(BX)
	CHECK4 "memory, word", 0x40(BX), $0x55669944
	addl $1, 0x40(BX)
	CHECK4 "memory, add", 0x40(BX), $0x55669945
	mov 0x41(BX), %eax
	movl $0, 0x44(BX)
	movl $0x01020304, 0x46(BX)
	CHECK4 "memory, unaligned", 0x44(BX), $0x03040000
	movups buf, %xmm0
	movups %xmm0, 0x80(BX)
	CHECK4 "memory, 16 bytes", 0x80(BX), $0xcafebabe
	CHECK4 "memory, 16 bytes, the second", 0x84(BX), $0x12995678
	mov $buf, %esi
	lea 0x100(BX), DI
	mov $5, %ecx
	rep movsb
	CHECK4 "memory, rep movsb", 0x100(BX), $0xcafebabe
	lea 0x200(BX), DI
	mov $0x5a5a5a5a, %eax
	mov $4, %ecx
	rep stosl
	CHECK4 "memory, rep stosl", 0x20c(BX), $0x5a5a5a5a
	fld1
	fstpl 0x300(BX)
	CHECK4 "memory, fstpl", 0x304(BX), $0x3ff00000
	mov $0x12345678, %eax
	lock xchg %eax, 0x40(BX)
	CHECK4 "memory, xchg", 0x40(BX), $0x12345678
	CHECK4 "memory, xchg: old", %eax, $0x55669945
	lea 0x400(BX), AX
	mov SP, BP
	mov AX, SP
	push $0x77
	mov BP, SP
	CHECK4 "memory, push", 0x400-W(BX), $0x77
	/* -- I/O APIC, level */
	SETIDT 0x50, h_level
	SETIDT 0x51, h_edge
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(BX)
	movl $0, 0x80(BX)
	mov $IOAPIC, %ebx
	movl $0x25, (BX)
	movl $0, 0x10(BX)
	movl $0x24, (BX)
	movl $0x8050, 0x10(BX)
	movl $3, lower_at
	OPEN
	CHECK4 "level: nothing yet", count, $0
	LINE 10, 1
	OPEN
	CHECK4 "level: again until the line falls", count, $3
	CHECK4 "level: remote IRR in service", irr_seen, $0x4000
	movl $0x24, (BX)
	mov 0x10(BX), %eax
	and $0x4000, %eax
	CHECK4 "level: remote IRR after", %eax, $0
	/* masked while it rises, then opened */
	movl $0x18050, 0x10(BX)
	movl $0, count
	movl $1, lower_at
	LINE 10, 1
	OPEN
	CHECK4 "level, masked", count, $0
	movl $0x8050, 0x10(BX)
	OPEN
	CHECK4 "level, unmasked while high", count, $1
	/* fallen before it is opened: nothing */
	movl $0x18050, 0x10(BX)
	movl $0, count
	LINE 10, 1
	LINE 10, 0
	movl $0x8050, 0x10(BX)
	OPEN
	CHECK4 "level, fallen in time", count, $0
	movl $0x18050, 0x10(BX)
	/* -- edge */
	movl $0x1b, (BX)
	movl $0, 0x10(BX)
	movl $0x1a, (BX)
	movl $0x0051, 0x10(BX) /* input 5 */
	LINE 5, 0
	LINE 5, 1
	OPEN
	CHECK4 "edge", count, $1
	OPEN
	LINE 5, 1
	OPEN
	CHECK4 "edge: still high", count, $1
	LINE 5, 0
	LINE 5, 1
	OPEN
	CHECK4 "edge: risen again", count, $2
	movl $0x10051, 0x10(BX)
	LINE 5, 0

	/* -- PIC: two lines, priority, edge */
	mov $LAPIC, %ebx
	movl $0x700, 0x350(BX)
	SETIDT 0x43, h_pic3
	SETIDT 0x45, h_pic5
	.irp v, 0x1120, 0x4021, 0x0421, 0x0121, 0xd721
	mov $(\v >> 8), %al
	out %al, $(\v & 0xff)
	.endr
	movl $0, count
	LINE 5, 1
	LINE 3, 1
	OPEN
	CHECK4 "PIC: both came", count, $2
	CHECK4 "PIC: 3 before 5", order, $0x0305
	OPEN
	CHECK4 "PIC: edges, once each", count, $2
	LINE 3, 0
	LINE 3, 1
	LINE 3, 0
	OPEN
	LINE 5, 0
	mov $0xff, %al
	out %al, $0x21
	ret
