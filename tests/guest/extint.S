// MODES: 32 64
// TIMEOUT: 60
// QEMU-SKIP: its local APICs do nothing about ExtINT messages
/*
 * The 8259's interrupts, sent on by the I/O APIC as ExtINT while LINT0 is masked: in HLT, in a loop, after CLI. Nothing
 * printed depends on time. Source: Intel 82093AA data sheet, delivery mode 111; MultiProcessor Specification 3.6.2.1.
 */
#include "guest.inc"

	.set LAPIC, 0xfee00000
	.set IOAPIC, 0xfec00000
	.set EXTINT, 0x700
	.set MASKED, 0x10000
	.bss
	.balign 4096
apic_pd: .skip 4096
ticks:	.skip 8
	.text

.macro OUTB port, value
	mov $\value, %al
	out %al, $\port
.endm
.macro PIN value /* the PIT's */
	mov $IOAPIC, %ebx
	movl $0x14, (BX)
	movl $\value, 0x10(BX)
.endm
.macro PIT /* 1 kHz */
	OUTB 0x43, 0x34
	OUTB 0x40, (1193 & 0xff)
	OUTB 0x40, (1193 >> 8)
.endm
on_40:	push AX
	incl ticks
	OUTB 0x20, 0x20
	pop AX
	IRET

test_main:
#if LONG
	/* the last GiB below 4 GiB: the APICs' two large pages */
	movl $apic_pd + 7, boot_pdpt + 24
	movl $0xfec00087 + 0x18, apic_pd + 502 * 8
	movl $0xfee00087 + 0x18, apic_pd + 503 * 8
	mov %cr3, %rax
	mov %rax, %cr3
#endif
	SETIDT 0x40, on_40
	/* 8259: vectors from 0x40, IRQ 0 open */
	OUTB 0x20, 0x11
	OUTB 0x21, 0x40
	OUTB 0x21, 0x04
	OUTB 0x21, 0x01
	OUTB 0x21, 0xfe
	OUTB 0xa1, 0xff
	mov $LAPIC, %ebp
	movl $0x1ff, 0xf0(BP)
	movl $MASKED | EXTINT, 0x350(BP)
	/* The first processor, edges. */
	mov $IOAPIC, %ebx
	movl $0x15, (BX)
	movl $0, 0x10(BX)
	PIN EXTINT
	PIT

	movl $0, ticks
1:	sti
	hlt
	cli
	cmpl $3, ticks
	jb 1b
	SAY "ok in HLT"

	movl $0, ticks
	sti
1:	cmpl $3, ticks
	jb 1b
	cli
	SAY "ok in a loop"

	/* They come while nobody takes them: until the 8259 has one pending, and longer. */
	mov $3, %ecx
2:	movl $0, ticks
	OUTB 0x20, 0x0a
1:	in $0x20, %al
	test $1, %al
	jz 1b
	mov $100000, %edx
1:	dec %edx
	jnz 1b
	cmpl $0, ticks
	jne 3f
	sti
1:	cmpl $1, ticks
	jb 1b
	cli
	dec %ecx
	jnz 2b
3:	CHECK4 "after CLI", %ecx, $0

	/* The PIT rests until none is pending, and goes on with the pin masked. */
	OUTB 0x43, 0x30
	sti
1:	OUTB 0x20, 0x0a
	in $0x20, %al
	test $1, %al
	jnz 1b
	cli
	PIN MASKED | EXTINT
	movl $0, ticks
	PIT
	sti
1:	OUTB 0x20, 0x0a
	in $0x20, %al
	test $1, %al
	jz 1b
	mov $1000000, %ecx
1:	dec %ecx
	jnz 1b
	cli
	CHECK4 "not by a masked pin", ticks, $0

	/* By LINT0 again. */
	movl $EXTINT, 0x350(BP)
	movl $0, ticks
1:	sti
	hlt
	cli
	cmpl $3, ticks
	jb 1b
	SAY "ok by LINT0"
	movl $MASKED, 0x350(BP)
	OUTB 0x43, 0x30
	ret
