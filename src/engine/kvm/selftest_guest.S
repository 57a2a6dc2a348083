/*
 * The guest of the self-test: position SELFTEST_CODE, started there in real mode with the tables of selftest.c ready.
 * A step that finds something wrong writes to SELFTEST_PORT_FAIL; the byte at SELFTEST_STEP says which it was.
 */
#include "engine/kvm/selftest.h"

#define X(name, number, text) .set name, number;
SELFTEST_STEPS(X)
#undef X
#define AT(label) (label - selftest_guest + SELFTEST_CODE)
#define COUNT(n) (SELFTEST_COUNTS + n)
#define STEP(name) movb $name, SELFTEST_STEP

	.section .rodata
	.balign 4096
	.globl selftest_guest, selftest_guest_end
selftest_guest:
	.code16
	cli
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $SELFTEST_STACK, %sp
	cld

	STEP(SELFTEST_REAL)
	movw $AT(real_int), 0x20 * 4
	movw $0, 0x20 * 4 + 2
	movl $0x12345, %eax
	movl $10, %ecx
1:	addl %ecx, %eax
	loop 1b
	cmpl $0x12345 + 55, %eax
	jne fail16
	int $0x20
	cmpw $0x2020, %bx
	jne fail16
	movw $0x100, %ax		/* a segment: 0x100:8 is 0x1008 */
	movw %ax, %es
	movl %es:8, %eax
	cmpl AT(selftest_guest) + 8, %eax
	jne fail16

	STEP(SELFTEST_PORTS)
	movw $SELFTEST_PORT_IN, %dx
	inw %dx, %ax
	cmpw $SELFTEST_IN, %ax
	jne fail16
	movl $SELFTEST_OUT, %eax
	movw $SELFTEST_PORT_OUT, %dx
	outl %eax, %dx

	STEP(SELFTEST_PROTECTED)
	lgdtl AT(gdt_pointer)
	lidtl AT(idt32_pointer)
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x08, $AT(protected)

real_int:
	incb COUNT(0)
	movw $0x2020, %bx
	iretw
fail16:	movw $SELFTEST_PORT_FAIL, %dx
	outb %al, %dx
	hlt

	.code32
protected:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $SELFTEST_STACK, %esp
	movl $0x18, %eax
	movl %eax, %fs
	movl $SELFTEST_MAGIC, %fs:0x10		/* its base is DATA */
	cmpl $SELFTEST_MAGIC, SELFTEST_DATA + 0x10
	jne fail32
	int $0x21
	cmpl $0x2121, %ebx
	jne fail32

	STEP(SELFTEST_LONG)
	movl %cr4, %eax
	orl $0x620, %eax			/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $SELFTEST_PML4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x901, %eax			/* NXE, LME, SCE */
	wrmsr
	movl %cr0, %eax
	orl $0x80010022, %eax			/* PG, WP, NE, MP */
	movl %eax, %cr0
	ljmpl $0x28, $AT(long_mode)

protected_int:
	incb COUNT(1)
	movl $0x2121, %ebx
	iretl
fail32:	movl $SELFTEST_PORT_FAIL, %edx
	outb %al, %dx
	hlt

	.code64
long_mode:
	movl $0x30, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %eax, %es
	lidt AT(idt64_pointer)
	movl $0x50, %eax
	ltr %ax
	movabsq $0x123456789abcdef0, %r8
	movq %r8, %r15
	bswapq %r15
	rolq $32, %r15
	movabsq $0x78563412f0debc9a, %rax
	cmpq %rax, %r15
	jne fail64
	xorl %eax, %eax
	cpuid
	testl %ebx, %ebx
	jz fail64
	movl $0xc0000100, %ecx			/* FS.base, above what 32 bits say */
	movl $SELFTEST_DATA, %eax
	movl $SELFTEST_HIGH >> 32, %edx
	wrmsr
	cmpl $SELFTEST_MAGIC, %fs:0x10
	jne fail64

	STEP(SELFTEST_VECTOR)
	fninit
	fld1
	fadd %st(0)
	fistpl SELFTEST_DATA + 0x20
	cmpl $2, SELFTEST_DATA + 0x20
	jne fail64
	movq %r8, %xmm9
	paddq %xmm9, %xmm9
	movq %xmm9, %rax
	addq %r8, %r8
	cmpq %r8, %rax
	jne fail64
	movl $1, %eax
	cpuid
	btl $26, %ecx				/* XSAVE */
	jnc 1f
	movq %cr4, %rax
	orl $0x40000, %eax			/* OSXSAVE */
	movq %rax, %cr4
	xorl %ecx, %ecx
	xorl %edx, %edx
	movl $3, %eax
	xsetbv
	outb %al, $SELFTEST_PORT_EXIT
	xgetbv
	movl %eax, SELFTEST_XCR0
1:

	STEP(SELFTEST_PAGING)
	movl $SELFTEST_MAGIC, SELFTEST_ALIAS + 0x30
	cmpl $SELFTEST_MAGIC, SELFTEST_DATA + 0x30
	jne fail64
	movabsq $SELFTEST_HIGH + AT(1f), %rax
	jmpq *%rax
1:	leaq 1b(%rip), %rcx
	cmpq %rcx, %rax
	jne fail64
	movabsq $AT(1f), %rax
	jmpq *%rax
1:	cmpl $SELFTEST_MAGIC, SELFTEST_ABSENT + 8	/* the handler maps HIDDEN there */
	jne fail64
	cmpq $SELFTEST_ABSENT + 8, %r12
	jne fail64
	testl %r13d, %r13d
	jnz fail64
	movl $1, SELFTEST_READ_ONLY
	cmpl $3, %r13d				/* present, write */
	jne fail64
	movl $SELFTEST_NX + AT(returns) - SELFTEST_CODE, %eax
	callq *%rax
	cmpl $0x11, %r13d			/* present, fetch */
	jne fail64

	STEP(SELFTEST_RING3)
	movl $0xc0000081, %ecx			/* STAR, LSTAR, FMASK */
	xorl %eax, %eax
	movl $0x003b0028, %edx
	wrmsr
	incl %ecx
	movl $AT(on_syscall), %eax
	xorl %edx, %edx
	wrmsr
	movl $0xc0000084, %ecx
	movl $0x700, %eax
	wrmsr
	pushq $0x43
	pushq $SELFTEST_USER_STACK
	pushq $2
	pushq $0x4b
	pushq $AT(user)
	iretq
after_user:
	cmpl $0x3333, %ebx
	jne fail64

	movl $SELFTEST_STACK, %esp
	cmpb $0, SELFTEST_HAS_APIC
	je 1f

	STEP(SELFTEST_APIC)
	movl $0x1b, %ecx			/* APIC_BASE: x2APIC mode */
	rdmsr
	orl $0xc00, %eax
	wrmsr
	xorl %edx, %edx
	movl $0x80f, %ecx			/* spurious vector: on */
	movl $0x1ff, %eax
	wrmsr
	movl $0x835, %ecx			/* LINT0: the 8259's, for VECTOR_WINDOW */
	movl $0x700, %eax
	wrmsr
	xorl %ebx, %ebx
	outb %al, $SELFTEST_PORT_MSI
	nop
	testl %ebx, %ebx			/* not yet */
	jnz fail64
	sti
	nop
	cli
	cmpl $SELFTEST_VECTOR_MSI, %ebx
	jne fail64
	sti
	movl $0x830, %ecx			/* command: to itself */
	movl $0x40000 | SELFTEST_VECTOR_IPI, %eax
	wrmsr
	nop
	cli
	cmpl $SELFTEST_VECTOR_IPI, %ebx
	jne fail64
	movl $0x83e, %ecx			/* timer: by 1, once, in 0.1 ms */
	movl $0xb, %eax
	wrmsr
	movl $0x832, %ecx
	movl $SELFTEST_VECTOR_HLT, %eax
	wrmsr
	movl $0x838, %ecx
	movl $100000, %eax
	wrmsr
1:
	STEP(SELFTEST_INTERRUPTS)
	xorl %ebx, %ebx
	sti
halt:	hlt					/* the monitor sends VECTOR_HLT, or the timer */
	cmpl $SELFTEST_VECTOR_HLT, %ebx
	jne fail64
	cli
	outb %al, $SELFTEST_PORT_INTERRUPT
	nop
	cmpl $SELFTEST_VECTOR_HLT, %ebx		/* not yet */
	jne fail64
	sti
	nop
	nop
	cli
	cmpl $SELFTEST_VECTOR_WINDOW, %ebx
	jne fail64

	STEP(SELFTEST_MEMORY_IO)
	movl SELFTEST_MMIO + 0x10, %eax
	movl $SELFTEST_MMIO_IN, %ecx
	cmpl %ecx, %eax
	jne fail64
	movabsq $SELFTEST_MMIO_OUT, %rax
	movq %rax, SELFTEST_MMIO + 0x18
	movl $AT(string), %esi
	movl $8, %ecx
	movl $SELFTEST_PORT_OUT, %edx
	rep outsb
	testl %ecx, %ecx
	jnz fail64
	rdtsc					/* it goes on */
	movl %eax, %ebx
	movl $1000, %ecx
1:	rdtsc
	cmpl %ebx, %eax
	loope 1b
	je fail64

	STEP(SELFTEST_END)
	movl $SELFTEST_MAGIC, %r14d
	outb %al, $SELFTEST_PORT_DONE
	hlt

fail64:	movl $SELFTEST_PORT_FAIL, %edx
	outb %al, %dx
	hlt

/* Maps HIDDEN, in ring 3's reach, where the fault was; r12 its address, r13 its error code. A forbidden fetch: returns. */
on_page_fault:
	incb COUNT(2)
	popq %r13
	movq %cr2, %r12
	testl $0x10, %r13d
	jnz 1f
	movq %r12, %rax
	shrq $12, %rax
	andl $511, %eax
	movq $SELFTEST_HIDDEN + 7, SELFTEST_PT(, %rax, 8)
	invlpg (%r12)
	iretq
1:	movq 24(%rsp), %rsp
returns:
	retq

on_syscall:
	incb COUNT(3)
	movl %cs, %eax
	cmpl $0x28, %eax
	jne fail64
	sysretq

/* CLI of ring 3: skipped. */
on_protection:
	incb COUNT(4)
	cmpq $0, (%rsp)
	jne fail64
	cmpq $AT(user_cli), 8(%rsp)
	jne fail64
	cmpq $0x4b, 16(%rsp)
	jne fail64
	addq $8, %rsp
	incq (%rsp)
	iretq

on_user_int:
	incb COUNT(5)
	movq (%rsp), %rax
	cmpq $AT(user_end), %rax
	jne fail64
	cmpl $SELFTEST_STACK - 40, %esp		/* RSP0 of the TSS */
	jne fail64
	jmp after_user

on_hlt_vector:
	incb COUNT(6)
	movl $SELFTEST_VECTOR_HLT, %ebx
	cmpq $AT(halt), (%rsp)			/* QEMU's TCG forgets at an exit that STI was the last instruction: */
	jne 1f
	incq (%rsp)				/* the timer came before HLT, and nothing would end that */
1:	cmpb $0, SELFTEST_HAS_APIC
	jne end_of_interrupt
	iretq
on_window_vector:
	incb COUNT(7)
	movl $SELFTEST_VECTOR_WINDOW, %ebx
	iretq
on_msi_vector:
	incb SELFTEST_APIC_COUNTS
	movl $SELFTEST_VECTOR_MSI, %ebx
	jmp end_of_interrupt
on_ipi_vector:
	incb SELFTEST_APIC_COUNTS + 1
	movl $SELFTEST_VECTOR_IPI, %ebx
end_of_interrupt:
	movl $0x80b, %ecx
	xorl %eax, %eax
	xorl %edx, %edx
	wrmsr
	iretq

	.balign 8
string:	.quad SELFTEST_STRING
gdt:	.quad 0
	.quad 0x00cf9b000000ffff		/* 08 code, 32 bits */
	.quad 0x00cf93000000ffff		/* 10 data */
	.quad 0x0040930000000fff | SELFTEST_DATA << 16	/* 18 data at DATA */
	.quad 0
	.quad 0x00af9b000000ffff		/* 28 code, 64 bits */
	.quad 0x00cf93000000ffff		/* 30 data */
	.quad 0
	.quad 0x00cff3000000ffff		/* 40 data, ring 3 */
	.quad 0x00affb000000ffff		/* 48 code, 64 bits, ring 3 */
	.word tss_end - tss - 1, AT(tss), 0x8900, 0	/* 50 TSS */
	.quad 0
gdt_end:
tss:	.long 0
	.quad SELFTEST_STACK, 0, 0, 0, SELFTEST_IST, 0, 0, 0, 0, 0, 0, 0
	.word 0, tss_end - tss
tss_end:
#define GATE(handler, kind) .word AT(handler), 0x28, kind, 0; .quad 0
idt64:	.fill 13 * 2, 8, 0
	GATE(on_protection, 0x8e00)		/* 13 #GP */
	GATE(on_page_fault, 0x8e01)		/* 14 #PF, by IST 1 */
	.fill (0x30 - 15) * 2, 8, 0
	GATE(on_user_int, 0xee00)		/* 0x30, from ring 3 */
	.fill (SELFTEST_VECTOR_HLT - 0x31) * 2, 8, 0
	GATE(on_hlt_vector, 0x8e00)
	GATE(on_window_vector, 0x8e00)
	GATE(on_msi_vector, 0x8e00)
	GATE(on_ipi_vector, 0x8e00)
idt64_end:
idt32:	.fill 0x21, 8, 0
	.word AT(protected_int), 0x08, 0x8e00, 0
idt32_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long AT(gdt)
idt32_pointer:
	.word idt32_end - idt32 - 1
	.long AT(idt32)
idt64_pointer:
	.word idt64_end - idt64 - 1
	.quad AT(idt64)

	.org 0x1000
user:	syscall
	cmpl $SELFTEST_MAGIC, SELFTEST_ALIAS + 8	/* not ring 3's; the handler maps HIDDEN */
	jne 1f
	cmpl $5, %r13d				/* present, user */
	jne 1f
user_cli:
	cli
	pushq $0x3333
	popq %rbx
1:	int $0x30
user_end:
	.org 0x2000
selftest_guest_end:
	.section .note.GNU-stack, "", @progbits
