// MODES: 32
/*
 * Real mode, and the ways between the modes: IVT, wrap, operand and address prefixes, strings, big
 * real mode, interrupts in real mode, real to protected to long mode and back. SDM 3, chapter 20.
 */
#include "guest.inc"

	.set LM, SLOT /* 64-bit code */
	.set L, lowscratch - LOW

	R "int: pushes flags, cs, ip", REAL, 0x33, 0, "int $0x33; 9:", fl=0x8d7, post=rm_frame
	R "int clears IF and TF", REAL, 0x33, 0, "sti; int $0x33; 9:"
	R "div by zero: ip of the instruction", REAL, VDE, 0, "div %cl"
	R "aam 0", REAL, VDE, 0, "aam $0", bits=2
	R "ud2", REAL, VUD, 0, "ud2"
	R "bound", REAL, VBR, 0, "movw $5, (%bx); movw $6, 2(%bx); 9: bound %ax, (%bx)"
	R "into", REAL, VOF, 0, "mov $0x7f, %al; inc %al; into; 9:"
	R "int3", REAL, VBP, 0, "int3; 9:"
	R "iret: 16 bits of flags", REAL, OK, 0, "pushl $0; popfl; pushw $0x8d7; pushw %cs; pushw $(77f - LOW); iret; 77: pushf; pop %ax", val=0x8d7, mask=0xffff
	R "iretl", REAL, OK, 0, "pushl $0x2408d7; pushl $0x1000; pushl $(77f - LOW); iretl; 77: pushfl; pop %eax; pushl $2; popfl", val=0x2408d7
	R "popfl", REAL, OK, 0, "pushl $0x3f7cd7; popfl; pushfl; pop %eax; pushl $2; popfl", val=0x247cd7
	R "lcall, lret", REAL, OK, 0, "lcall $0x1000, $(77f - LOW); 76: jmp 78f; 77: mov %sp, %bp; mov (%bp), %ax; sub $(76b - LOW), %ax; lret; 78:", val=0, mask=0xffff
	R "lcall to another segment of the same place", REAL, OK, 0, "lcall $0x0fff, $(77f - LOW + 16); jmp 78f; 77: mov %cs, %ax; lret; 78:", val=0x0fff, mask=0xffff
	R "ljmp", REAL, OK, 0, "ljmp $0x0f00, $(77f - LOW + 0x1000); ud2; 77: mov %cs, %ax; ljmp $0x1000, $(78f - LOW); 78:", val=0xf00, mask=0xffff
	R "ljmpl", REAL, OK, 0, "ljmpl $0x1000, $(77f - LOW); ud2; 77:"
	R "ljmp indirect", REAL, OK, 0, "movw $(77f - LOW), (%bx); movw $0x1000, 2(%bx); ljmp *(%bx); ud2; 77:"
	R "lret n", REAL, OK, 0, "pushw $1; pushw $2; pushw %cs; pushw $(77f - LOW); lret $4; ud2; 77: mov %sp, %ax", val=0xfff0, mask=0xffff
	R "mov ds: base is selector * 16", REAL, OK, 0, "movb $0x5a, (%bx); mov $0x0fff, %ax; mov %ax, %ds; mov 16(%bx), %al; movzbl %al, %eax", val=0x5a
	R "es, fs, gs", REAL, OK, 0, "movb $0x5b, 3(%bx); mov $0x1000, %ax; mov %ax, %gs; mov %gs:3(%bx), %al; movzbl %al, %eax", val=0x5b
	R "lds", REAL, OK, 0, "movl $0x1234abcd, (%bx); lds (%bx), %ax; mov %ds, %cx; shl $16, %ecx; movzwl %ax, %eax; or %ecx, %eax", val=0x1234abcd
	R "any selector", REAL, OK, 0, "mov $0xffff, %ax; mov %ax, %es; mov %es, %ax", val=0xffff, mask=0xffff
	R "ffff:0010 is 1 MiB", REAL, OK, 0, "mov $0xffff, %ax; mov %ax, %es; mov %es:0x10, %eax", val=0x1badb002
	R "mov ss", REAL, OK, 0, "mov $0x0ff0, %ax; mov %ax, %ss; mov $0x80, %sp; pushw $0x77; mov %sp, %ax; mov $0x1000, %cx; mov %cx, %ss; mov $0xfff0, %sp", val=0x7e, mask=0xffff
	R "32-bit operands", REAL, OK, 0, "mov $0x12345678, %eax; add $0x11111111, %eax", val=0x23456789
	R "32-bit address", REAL, OK, 0, "movl $0x99, 8(%ebx); mov $2, %ecx; mov (%ebx,%ecx,4), %eax", val=0x99
	R "pushl popl", REAL, OK, 0, "pushl $0x12345678; pop %ax; pop %cx; shl $16, %ecx; movzwl %ax, %eax; or %ecx, %eax", val=0x12345678
	R "pusha popa", REAL, OK, 0, "mov $0x1234, %ax; pusha; xor %ax, %ax; popa; movzwl %ax, %eax", val=0x1234
	R "push sp", REAL, OK, 0, "push %sp; pop %ax", val=0xfff0, mask=0xffff
	R "enter 1", REAL, OK, 0, "mov %bp, %cx; enter $8, $1; mov %bp, %ax; sub %sp, %ax; leave; movzwl %ax, %eax", val=10
	R "rep movsb", REAL, OK, 0, "push %ds; pop %es; movl $0x44332211, (%bx); lea (%bx), %si; lea 8(%bx), %di; mov $4, %cx; rep movsb; mov 8(%bx), %eax", val=0x44332211
	R "rep stosl", REAL, OK, 0, "push %ds; pop %es; mov $0x55667788, %eax; mov %bx, %di; mov $2, %cx; rep stosl; mov 4(%bx), %eax", val=0x55667788
	R "rep movsb with 32-bit addresses", REAL, OK, 0, "movl $0x44332211, (%bx); lea (%ebx), %esi; lea 8(%ebx), %edi; mov $4, %ecx; addr32 rep movsb; mov 8(%bx), %eax", val=0x44332211
	R "loop", REAL, OK, 0, "mov $5, %cx; xor %eax, %eax; 1: inc %ax; loop 1b", val=5
	R "xlat", REAL, OK, 0, "movb $0x77, 5(%bx); mov $5, %al; xlatb; movzbl %al, %eax", val=0x77
	R "aaa aas daa das aad", REAL, OK, 0, "mov $0x000b, %ax; aaa; mov %ax, %cx; mov $0x9c, %al; daa; movzbl %al, %eax; shl $16, %eax; mov %cx, %ax", val=0x00020101
	R "jump across 0x7fff", REAL, OK, 0, "mov $(77f - LOW), %ax; jmp *%ax; ud2; 77: xor %eax, %eax", val=0
	R "cpuid", REAL, OK, 0, "mov $1, %eax; cpuid; xor %eax, %eax", val=0
	R "fpu", REAL, OK, 0, "fninit; fld1; fld1; faddp; fistpl (%bx); mov (%bx), %eax", val=2
	R "sse", REAL, OK, 0, "mov $7, %eax; movd %eax, %xmm0; paddd %xmm0, %xmm0; movd %xmm0, %eax", val=14
	R "bsf bsr bt shld", REAL, OK, 0, "mov $0x80, %cx; bsf %cx, %ax; mov $0x12345678, %ecx; shld $8, %ecx, %eax", val=0x712
	R "movzx movsx", REAL, OK, 0, "mov $0x80, %cl; movsbl %cl, %eax; movzbw %cl, %ax", val=0xffff0080
	R "cmpxchg xadd bswap", REAL, OK, 0, "mov $0x11223344, %eax; bswap %eax", val=0x44332211
	R "lock add", REAL, OK, 0, "movl $4, (%bx); lock addl $3, (%bx); mov (%bx), %eax", val=7
	R "lgdt keeps 24 bits of the base", REAL, OK, 0, "sgdtl 16(%bx); movw $7, (%bx); movl $0xab123456, 2(%bx); lgdtw (%bx); sgdt 32(%bx); mov 34(%bx), %eax; and $0xffffff, %eax; lgdtl 16(%bx)", val=0x123456
	R "lgdtl", REAL, OK, 0, "sgdtl 16(%bx); movw $7, (%bx); movl $0xab123456, 2(%bx); lgdtl (%bx); sgdtl 32(%bx); mov 34(%bx), %eax; lgdtl 16(%bx)", val=0xab123456
	R "rdmsr", REAL, OK, 0, "mov $0xc0000080, %ecx; rdmsr", val=0
	R "mov cr0 and back", REAL, OK, 0, "mov %cr0, %eax; mov %eax, %cr0; and $1, %eax", val=0
	R "invlpg", REAL, OK, 0, "invlpg (%bx)"
	R "hlt at ring 0 is not there; cli sti", REAL, OK, 0, "sti; cli"
	R "sysenter", REAL, VGP, 0, "sysenter", need=feat_sep
	R "syscall", REAL, VUD, 0, "syscall"
	R "self-modifying", REAL, OK, 0, "movb $0x42, %cs:(77f - LOW + 1); 77: mov $0, %al; movzbl %al, %eax", val=0x42
	R "single step", REAL, VDB, 0, "pushw $0x102; popf; nop; 9: nop", bits=2
	R "single step in the frame", REAL, VDB, 0, "nop; 9: nop", fl=0x102
	R "lock nop", REAL, VUD, 0, ".byte 0xf0, 0x90"

rm_frame: /* the words that INT pushed */
	movzwl LOW + 0xfff0 - 2, %eax
	xor $0x8d7, %eax
	movzwl LOW + 0xfff0 - 4, %ecx
	xor $0x1000, %ecx
	or %ecx, %eax
	ret

	/* ---- code that leaves real mode by itself */
	.section .low, "awx"
	.code16
	.balign 16
r_ticks: .long 0
r_save_08: .long 0
unreal:	/* FS with a limit of 4 GiB from protected mode, used in real mode */
	lgdtl rm_gdtr - LOW
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	jmp 1f
1:	mov $D0, %cx
	mov %cx, %fs
	and $~1, %al
	mov %eax, %cr0
	jmp 1f
1:	mov $0x100000, %ecx
	mov %fs:(%ecx), %eax
	int3
unreal_kept: /* a selector load in real mode keeps the limit */
	lgdtl rm_gdtr - LOW
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	jmp 1f
1:	mov $D0, %cx
	mov %cx, %fs
	and $~1, %al
	mov %eax, %cr0
	jmp 1f
1:	mov $0xf000, %cx
	mov %cx, %fs
	mov $0x10000, %ecx
	mov %fs:(%ecx), %eax
	int3
r_irq8:	incl %cs:(r_ticks - LOW)
	push %ax
	mov $0x20, %al
	out %al, $0x20
	pop %ax
	iretw
real_irq: /* PIC at 8, PIT fast, a closed loop */
	xor %ax, %ax
	mov %ax, %es
	mov %es:0x20, %eax
	mov %eax, %cs:(r_save_08 - LOW)
	movw $r_irq8 - LOW, %es:0x20
	movw $0x1000, %es:0x22
	mov $0x11, %al
	out %al, $0x20
	mov $8, %al
	out %al, $0x21
	mov $4, %al
	out %al, $0x21
	mov $1, %al
	out %al, $0x21
	mov $0xfe, %al
	out %al, $0x21
	mov $0x34, %al
	out %al, $0x43
	mov $0xa9, %al
	out %al, $0x40
	mov $4, %al
	out %al, $0x40
	sti
1:	cmpl $3, %cs:(r_ticks - LOW)
	jb 1b
2:	hlt
	cmpl $5, %cs:(r_ticks - LOW)
	jb 2b
	cli
	mov $0xff, %al
	out %al, $0x21
	mov $0x30, %al
	out %al, $0x43
	mov %cs:(r_save_08 - LOW), %eax
	mov %eax, %es:0x20
	mov %cs:(r_ticks - LOW), %eax
	cmp $5, %eax
	jbe 3f
	mov $5, %eax /* a slow host: more came on the way to CLI */
3:	int3

	/* real, protected, long, compatibility, protected, real */
grand_tour:
	lgdtl rm_gdtr - LOW
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $C0, $tour_32
tour_back16:
	mov $D16, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %cr0, %eax
	and $~1, %al
	mov %eax, %cr0
	ljmp $LOW >> 4, $1f - LOW
1:	mov $LOW >> 4, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0xfff0, %esp
	lidtl rm_idtr - LOW
	mov tour_val - LOW, %eax
	int3
tour_val: .long 0
tour_cs: .long 0
	.text
	.code32
tour_32:
	mov $D0, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $ist3_top, %esp
	mov %cr4, %eax
	or $0x20, %eax
	mov %eax, %cr4
	mov $l_pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	/* compatibility mode now */
	rdmsr
	and $0x500, %eax
	mov %eax, tour_efer
	ljmp $LM, $1f
	.code64
1:	mov $0x1122334455667788, %rax
	rol $8, %rax
	mov %eax, tour_val
	mov %rax, %r15
	mov %cs, %ecx
	mov %ecx, tour_cs
	push $C0C
	push $tour_compat
	lretq
	.code32
tour_compat:
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov $0xc0000080, %ecx
	rdmsr
	mov %eax, tour_efer_after
	and $~0x100, %eax
	wrmsr
	mov %cr4, %eax
	and $~0x20, %eax
	mov %eax, %cr4
	ljmp $C16, $tour_back16 - LOW

	.data
tour_efer: .long 0
tour_efer_after: .long 0
	.bss
	.balign 4096
l_pml4:	.skip 4096
l_pdpt:	.skip 4096
l_pd:	.skip 4096
	.text

test_main:
	SETDESC LM, 0, 0xfffff, (A_CODE | A_L | A_G)
	movl $l_pdpt + 7, l_pml4
	movl $l_pd + 7, l_pdpt
	mov $l_pd, %edi
	mov $0x87, %eax
	mov $8, %ecx
1:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	call run_rows
	TRY unreal, REAL
	CHECK4 "big real mode: vector", tr_vec, $VBP
	CHECK4 "big real mode: reads 1 MiB", tr_ax, $0x1badb002
	TRY unreal_kept, REAL
	CHECK4 "big real mode: limit kept by a real mode load", tr_ax, $0x1badb002
	TRY real_irq, REAL
	CHECK4 "interrupts in real mode", tr_ax, $5
	cmpb $0, feat_lm
	je 9f
	mov $3, %ebx
1:	TRY grand_tour, REAL
	CHECK4 "real, protected, long, protected, real: vector", tr_vec, $VBP
	CHECK4 "64-bit code ran", tr_ax, $0x66778811
	CHECK4 "64-bit cs", tour_cs, $LM
	CHECK4 "LMA on", tour_efer, $0x500
	CHECK4 "LMA off", tour_efer_after, $0x100
	dec %ebx
	jnz 1b
9:	ret
