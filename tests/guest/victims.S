// MODES: 64
/*
 * Two pages 16 MiB apart, used by turns: in a translation cache that is direct mapped they have one place, and a cache behind
 * it has the one that is not there. Then one of them changes, its mapping, its rights, or what it is watched for, and the
 * other one stays. In user mode, and in the kernel.
 *
 * A, B and C are at W + AT, the same plus 16 and 32 MiB; frame n lies at FRAME + n pages and has n in it.
 */
#include "guest.inc"
#include "remap.inc"

	.set W, 0x80000000
	.set AT, 0xf35000
	.set APART, 0x1000000
	.set A, W + AT
	.set B, A + APART
	.set C, B + APART
	.set FRAME, 0x4000000
	.set F1, FRAME + 0x1000
	.set F2, FRAME + 0x2000
	.set F3, FRAME + 0x3000
	.set F4, FRAME + 0x4000
	.set F5, FRAME + 0x5000
	.set CODE1, FRAME + 0x9000
	.set CODE2, FRAME + 0xa000
	.set CODE3, FRAME + 0xb000
	.set LARGE_FRAME, 0x6000000
	.set LA, W + 0x6000000 /* large pages */
	.set LB, LA + APART
	.set ENTRY, (AT >> 12 & 511) * 8
	.set DIR, (AT >> 21) * 8
	.set PTE_A, table_a + ENTRY
	.set PTE_B, table_b + ENTRY
	.set PTE_C, table_c + ENTRY
	.set GLOBAL, 0x107
	.set LOOPS, 10

	.bss
	.balign 4096
wdir:	.skip 4096
table_a: .skip 4096
table_b: .skip 4096
table_c: .skip 4096
pml4b:	.skip 4096
pdptb:	.skip 4096
wdirb:	.skip 4096
table_ab: .skip 4096
table_bb: .skip 4096
want:	.skip 8
bad:	.skip 8
mode:	.skip 8

	.text
	NATIVE
	/* What is tested: A and B by turns; eax and edx are what was read. */
pair:	mov $A, %esi
	mov $B, %edi
	mov $4, %ecx
1:	mov (%rsi), %eax
	mov (%rdi), %edx
	dec %ecx
	jnz 1b
	int3
	/* The last one is A. */
pair_a:	mov $A, %esi
	mov $B, %edi
	mov $4, %ecx
1:	mov (%rdi), %edx
	mov (%rsi), %eax
	dec %ecx
	jnz 1b
	int3
	/* What they are written: ebp, and one more. */
pair_write: mov $A, %esi
	mov $B, %edi
	mov $4, %ecx
1:	mov %ecx, 64(%rsi)
	mov %ecx, 64(%rdi)
	dec %ecx
	jnz 1b
	int3
pair_large: mov $LA + 0x5040, %esi
	mov $LB + 0x5040, %edi
	mov $4, %ecx
1:	mov (%rsi), %eax
	mov (%rdi), %edx
	dec %ecx
	jnz 1b
	int3
	/* What they have is run. */
pair_call: mov $A, %esi
	mov $B, %edi
	mov $4, %ebx
1:	call *%rsi
	mov %eax, %edx
	call *%rdi
	dec %ebx
	jnz 1b
	int3
call_a:	mov $A, %eax
	call *%rax
	mov %eax, %edx
	int3
	/* A's key loses its rights, and gets them again. */
pair_key: mov $A, %esi
	mov $B, %edi
	mov $4, %ebx
1:	mov (%rsi), %eax
	mov (%rdi), %eax
	dec %ebx
	jnz 1b
	mov $4, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	wrpkru
	mov (%rdi), %ebp
key_ip:	mov (%rsi), %eax
	int3
key_back: xor %eax, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	wrpkru
	int3
	/* With AC, and then without. */
pair_ac: mov $A, %esi
	mov $B, %edi
	mov $4, %ebx
	stac
1:	mov (%rsi), %eax
	mov (%rdi), %eax
	dec %ebx
	jnz 1b
	clac
	mov PTE_A, %eax
ac_ip:	mov (%rsi), %eax
	int3

	/* bad += 1 unless it ended in INT3 with these values in eax and edx */
.macro WANT code:req, a:req, b:req
	GO \code
	movl $1, want
	cmpl $VBP, tr_vec
	jne 8f
	cmpl $\a, tr_ax
	jne 8f
	cmpl $\b, tr_dx
	jne 8f
	movl $0, want
8:	mov want, %eax
	add %eax, bad
.endm
	/* and unless it ended in this exception; a #PF at that address */
.macro ENDS code:req, vec:req, at=0
	GO \code
	movl $1, want
	cmpl $\vec, tr_vec
	jne 8f
	.if \vec == VPF
	mov $\at, %eax
	cmp %rax, tr_cr2
	jne 8f
	.endif
	movl $0, want
8:	mov want, %eax
	add %eax, bad
.endm
.macro INVALIDATE linear:req
	mov $\linear, %ebx
	invlpg (%rbx)
.endm
.macro FRESH
	MAP PTE_A, F1
	MAP PTE_B, F2
	MAP PTE_C, F5
	RELOAD
.endm

mappings:
	mov $LOOPS, %ebp
1:	FRESH
	WANT pair, 1, 2
	MAP PTE_A, F3
	INVALIDATE A + 0x123
	WANT pair, 3, 2
	MAP PTE_B, F4
	INVALIDATE B
	WANT pair, 3, 4
	WANT pair_a, 3, 4
	MAP PTE_A, F1
	INVALIDATE A
	WANT pair, 1, 4
	WANT pair_a, 1, 4
	MAP PTE_B, F2
	INVALIDATE B
	WANT pair, 1, 2
	MAP PTE_A, F3
	MAP PTE_B, F4
	RELOAD
	WANT pair_a, 3, 4
	MAP PTE_A, F1
	RELOAD
	WANT pair_a, 1, 4
	INVALIDATE C
	WANT pair, 1, 4
	MAP PTE_A, 0, 0
	INVALIDATE A
	ENDS pair, VPF, A
	MAP PTE_A, F1
	WANT pair, 1, 4
	MAP PTE_B, 0, 0
	INVALIDATE B
	ENDS pair, VPF, B
	dec %ebp
	jnz 1b
	VERDICT "mapped elsewhere"
	ret

large:	mov $LOOPS, %ebp
1:	movl $LARGE_FRAME + 0x87, wdir + 48 * 8
	movl $LARGE_FRAME + 0x200087, wdir + 56 * 8
	RELOAD
	WANT pair_large, 11, 12
	movl $LARGE_FRAME + 0x400087, wdir + 48 * 8
	INVALIDATE LA + 0x123456
	WANT pair_large, 13, 12
	movl $LARGE_FRAME + 0x87, wdir + 56 * 8
	INVALIDATE LB + 0x1ff000
	WANT pair_large, 13, 11
	dec %ebp
	jnz 1b
	VERDICT "large pages mapped elsewhere"
	ret

globals:
	cmpb $0, feat_pge
	je 9f
	mov $LOOPS, %ebp
1:	CR4BIT CR4_PGE, 1
	MAP PTE_A, F1, GLOBAL
	MAP PTE_B, F2
	INVALIDATE A
	INVALIDATE B
	WANT pair, 1, 2
	WANT pair_a, 1, 2
	MAP PTE_B, F4
	RELOAD
	WANT pair, 1, 4
	MAP PTE_B, F2, GLOBAL
	INVALIDATE B
	WANT pair, 1, 2
	MAP PTE_A, F3, GLOBAL
	INVALIDATE A
	WANT pair, 3, 2
	MAP PTE_B, F4, GLOBAL
	INVALIDATE B
	WANT pair_a, 3, 4
	MAP PTE_A, F1
	MAP PTE_B, F2
	CR4BIT CR4_PGE, 0
	WANT pair, 1, 2
	WANT pair_a, 1, 2
	dec %ebp
	jnz 1b
9:	VERDICT "global pages"
	ret

rights:	CR0BIT CR0_WP, 1
	mov $LOOPS, %ebp
1:	FRESH
	ENDS pair_write, VBP
	movl $0, F1 + 64
	movl $0, F2 + 64
	MAP PTE_A, F1, 5
	INVALIDATE A
	ENDS pair_write, VPF, A + 64
	cmpl $0, F1 + 64
	je 2f
	incl bad
2:	MAP PTE_A, F1
	ENDS pair_write, VBP
	MAP PTE_B, F2, 5
	INVALIDATE B
	ENDS pair_write, VPF, B + 64
	WANT pair, 1, 2
	MAP PTE_B, F2
	ENDS pair_write, VBP
	/* dirty bits */
	MAP PTE_A, F1, 0x27
	MAP PTE_B, F2, 0x27
	RELOAD
	WANT pair, 1, 2
	WANT pair_a, 1, 2
	mov PTE_A, %eax
	or PTE_B, %eax
	and $0x40, %eax
	add %eax, bad
	ENDS pair_write, VBP
	MAP PTE_A, F1, 0x27
	INVALIDATE A
	ENDS pair_write, VBP
	mov PTE_A, %eax
	and PTE_B, %eax
	and $0x40, %eax
	xor $0x40, %eax
	add %eax, bad
	/* not a user's */
	cmpb $U, mode
	jne 3f
	MAP PTE_A, F1, 3
	INVALIDATE A
	ENDS pair, VPF, A
	MAP PTE_A, F1
	WANT pair, 1, 2
	jmp 4f
	/* CR0.WP alone */
3:	MAP PTE_A, F1, 5
	MAP PTE_B, F2, 5
	RELOAD
	CR0BIT CR0_WP, 0
	ENDS pair_write, VBP
	CR0BIT CR0_WP, 1
	ENDS pair_write, VPF, A + 64
4:	dec %ebp
	jnz 1b
	CR0BIT CR0_WP, 0
	VERDICT "rights and dirty bits"
	ret

keys:	cmpb $0, feat_pku
	je 9f
	CR4BIT CR4_PKE, 1
	mov $LOOPS, %ebp
1:	FRESH
	MAP PTE_A, F1, 7, 0x08000000
	INVALIDATE A
	ENDS pair_key, VPF, A
	cmpl $2, tr_bp
	je 2f
	incl bad
2:	GO key_back
	WANT pair, 1, 2
	dec %ebp
	jnz 1b
	MAP PTE_A, F1
	CR4BIT CR4_PKE, 0
9:	VERDICT "a protection key's rights"
	ret

smap:	cmpb $0, feat_smap
	je 9f
	movl $boot_pd + 3, boot_pdpt /* all else is no user's */
	RELOAD
	mov $LOOPS, %ebp
1:	FRESH
	WANT pair, 1, 2
	WANT pair_a, 1, 2
	CR4BIT CR4_SMAP, 1
	ENDS pair, VPF, A
	ENDS pair_a, VPF, B
	ENDS pair_ac, VPF, A
	cmpl $ac_ip, tr_ip
	je 2f
	incl bad
2:	CR4BIT CR4_SMAP, 0
	dec %ebp
	jnz 1b
9:	VERDICT "SMAP"
	ret

watched: mov $LOOPS, %ebp
1:	FRESH
	WANT pair, 1, 2
	ENDS pair_write, VBP
	mov $A, %eax
	mov %rax, %db0
	mov $0x000f0402, %eax /* four bytes, read or written */
	mov %rax, %db7
	ENDS pair, VDB
	mov $B + 64, %eax
	mov %rax, %db0
	mov $0x000d0402, %eax
	mov %rax, %db7
	WANT pair, 1, 2
	ENDS pair_write, VDB
	mov $0x400, %eax
	mov %rax, %db7
	WANT pair, 1, 2
	ENDS pair_write, VBP
	dec %ebp
	jnz 1b
	VERDICT "breakpoints"
	ret

	/* edi: mov $EAX, %eax; ret */
put_code: movb $0xb8, (%rdi)
	mov %eax, 1(%rdi)
	movb $0xc3, 5(%rdi)
	ret
code:	mov $21, %eax
	mov $CODE1, %edi
	call put_code
	mov $22, %eax
	mov $CODE2, %edi
	call put_code
	mov $23, %eax
	mov $CODE3, %edi
	call put_code
	mov $LOOPS, %ebp
1:	MAP PTE_A, CODE1
	MAP PTE_B, CODE2
	RELOAD
	WANT pair_call, 22, 21
	MAP PTE_A, CODE3
	INVALIDATE A
	WANT pair_call, 22, 23
	MAP PTE_B, CODE1
	INVALIDATE B
	WANT pair_call, 21, 23
	MAP PTE_A, CODE2
	MAP PTE_B, CODE3
	RELOAD
	WANT pair_call, 23, 22
	cmpb $0, feat_nx
	je 2f
	MAP PTE_A, CODE2, 7, 0x80000000
	INVALIDATE A
	ENDS pair_call, VPF, A
	MAP PTE_A, CODE2
	WANT pair_call, 23, 22
2:	dec %ebp
	jnz 1b
	VERDICT "code mapped elsewhere"
	/* both are written by turns, then one of them is run, written and run */
	mov $LOOPS, %ebp
1:	MAP PTE_A, CODE1
	MAP PTE_B, CODE2
	RELOAD
	ENDS pair_write, VBP
	mov $A, %edi
	mov $B, %esi
	mov %ebp, %eax
	call put_code
	mov %eax, (%rsi)
	mov %eax, 64(%rdi)
	GO call_a
	cmp %ebp, tr_dx
	je 2f
	incl bad
2:	ENDS pair_write, VBP
	lea 100(%rbp), %eax
	call put_code
	mov %eax, (%rsi)
	GO call_a
	subl $100, tr_dx
	cmp %ebp, tr_dx
	je 2f
	incl bad
	/* by the frame's own address */
2:	ENDS pair_write, VBP
	mov $CODE1, %edi
	lea 200(%rbp), %eax
	call put_code
	GO call_a
	subl $200, tr_dx
	cmp %ebp, tr_dx
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "code written"
	ret

	/* PCID 1 has frames 1 and 2, PCID 2 has 3 and 4. */
spaces:	cmpb $0, feat_pcid
	je 9f
	FRESH
	mov %cr3, %rbp
	mov boot_pml4, %rax
	and $7, %eax
	add $pdptb, %eax
	mov %rax, pml4b
	COPY boot_pdpt, pdptb
	COPY wdir, wdirb
	COPY table_a, table_ab
	COPY table_b, table_bb
	movl $wdirb + 7, pdptb + 2 * 8
	movl $table_ab + 7, wdirb + DIR
	movl $table_bb + 7, wdirb + DIR + 64
	MAP table_ab + ENTRY, F3
	MAP table_bb + ENTRY, F4
	TWO_SPACES pml4b
	mov $LOOPS, %r14d
1:	mov %r12, %cr3
	WANT pair, 1, 2
	mov %r13, %cr3
	WANT pair, 3, 4
	mov %r12, %cr3
	WANT pair_a, 1, 2
	mov %r13, %cr3
	WANT pair_a, 3, 4
	/* A is changed in the space that is not loaded, while both are known there */
	cmpb $0, feat_invpcid
	je 2f
	.irp type, 0, 1, 2, 3
	mov %r12, %cr3
	WANT pair, 1, 2
	mov %r13, %cr3
	MAP PTE_A, F5
	mov $\type, %ebx
	invpcid invalidated, %rbx
	WANT pair, 3, 4
	mov %r12, %cr3
	WANT pair, 5, 2
	MAP PTE_A, F1
	mov $\type, %ebx
	invpcid invalidated, %rbx
	.endr
	/* and by a MOV CR3 that keeps nothing */
2:	mov %r12, %cr3
	WANT pair, 1, 2
	mov %r13, %cr3
	MAP PTE_A, F5
	btr $63, %r12
	mov %r12, %cr3
	bts $63, %r12
	WANT pair, 5, 2
	MAP PTE_A, F1
	INVALIDATE A
	WANT pair, 1, 2
	dec %r14d
	jnz 1b
	mov %rbp, %cr3
	CR4BIT CR4_PCIDE, 0
9:	VERDICT "address spaces"
	ret
	.data
	.balign 16
invalidated: .quad 1, A
	.text

all:	call mappings
	call large
	call globals
	call rights
	call watched
	call code
	call spaces
	ret

test_main:
	.irp n, 1, 2, 3, 4, 5
	movl $\n, F\n
	.endr
	.irp n, 0, 1, 2
	movl $11 + \n, LARGE_FRAME + \n * 0x200000 + 0x5040
	.endr
	movl $wdir + 7, boot_pdpt + 2 * 8
	movl $table_a + 7, wdir + DIR
	movl $table_b + 7, wdir + DIR + 64
	movl $table_c + 7, wdir + DIR + 128
	RELOAD
	movb $U, mode
	call all
	call keys
	movb $K, mode
	call all
	call smap
	ret
