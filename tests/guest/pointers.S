// MODES: 64
/*
 * Code that goes along pointers: lists over more pages than a translator may remember, nodes 4 GiB apart, across two pages,
 * at addresses that are none; pages that are mapped elsewhere between two walks, by INVLPG, MOV CR3 and in another address
 * space, large ones as well. In user mode, and in the kernel with SMAP.
 *
 * 2 GiB + x is mapped page by page to the frames at POOL; the same plus a multiple of 4 GiB, at one page, to others.
 */
#include "guest.inc"
#include "remap.inc"

	.set W, 0x80000000
	.set POOL, 0x4000000
	.set LARGE_POOL, 0x6000000
	.set PAGES, 2560   /* in the long list */
	.set STRIDE, 1111
	.set TABLES, 6
	.set ALIASED, 2600 /* pages of W */
	.set REMAPPED, 2700
	.set SPLIT, 2710
	.set REMAP, W + REMAPPED * 4096 + 0x40
	.set CROSSING, W + SPLIT * 4096 + 4092
	.set LARGE, W + (100 << 21) + 0x5040
	.set LOOPS, 20

	.bss
	.balign 4096
wdir:	.skip 4096
tables:	.skip 4096 * TABLES
alias_dir: .skip 4096 * 3
alias_table: .skip 4096 * 3
pml4b:	.skip 4096
pdptb:	.skip 4096
wdirb:	.skip 4096
tableb:	.skip 4096
start:	.skip 8
steps:	.skip 8
want:	.skip 8
bad:	.skip 8
mode:	.skip 8

	.text
	NATIVE
	/* What is tested. A node: next, value, next again. */
walk:	mov start, %rdx
	mov steps, %ecx
	xor %eax, %eax
1:	lea (%rax,%rax,4), %rax
walk_ip: add 8(%rdx), %rax
	mov (%rdx), %rdx
	dec %ecx
	jnz 1b
	int3
hop:	mov start, %rdx
	mov steps, %ecx
	xor %eax, %eax
1:
hop_ip:	mov 16(%rdx), %rdx
	dec %ecx
	jnz 1b
	mov 8(%rdx), %rax
	int3

.macro SET what:req, to:req
	movabs $\to, %rax
	mov %rax, \what
.endm
	/* bad += 1 unless the walk gave `to` */
.macro WANT to:req
	EXPECT tr_ax, \to
.endm
.macro NODE at:req, next:req, value:req
	movabs $\next, %rax
	mov %rax, \at
	movq $\value, \at + 8
	mov %rax, \at + 16
.endm

	/* rdi = page eax's node, from the beginning of W. Keeps all else */
node_of: push %rdx
	push %rax
	imul $72, %eax, %edi
	and $0x7f8, %edi
	shl $12, %eax
	add %eax, %edi
	pop %rax
	pop %rdx
	ret
	/* eax = the page behind page eax in the list */
next_of: add $STRIDE, %eax
	cmp $PAGES, %eax
	jb 1f
	sub $PAGES, %eax
1:	ret

long_list:
	xor %eax, %eax
1:	call node_of
	mov %edi, %ebx
	mov %eax, %ecx
	call next_of
	call node_of
	mov $W, %edx
	add %rdi, %rdx
	mov %rdx, POOL(%rbx)
	mov %rdx, POOL + 16(%rbx)
	imul %ecx, %ecx
	inc %ecx
	mov %rcx, POOL + 8(%rbx)
	test %eax, %eax
	jnz 1b
	/* the same sum, by page numbers */
	xor %ebx, %ebx
	mov $(3 * PAGES + 5), %ecx
2:	lea (%rbx,%rbx,4), %rbx
	mov %eax, %edx
	imul %edx, %edx
	inc %edx
	add %rdx, %rbx
	call next_of
	dec %ecx
	jnz 2b
	mov %rbx, want
	mov %eax, %ebx
	xor %eax, %eax
	call node_of
	mov $W, %eax
	add %rdi, %rax
	mov %rax, start
	movl $(3 * PAGES + 5), steps
	GO walk
	CHECK "a long list", tr_ax, want
	GO walk
	CHECK "a long list again", tr_ax, want
	GO hop
	imul %ebx, %ebx
	inc %ebx
	mov %rbx, want
	CHECK "a long list, hopped along", tr_ax, want
	ret

	.set ALIAS0, W + ALIASED * 4096 + 0x100
aliases:
	NODE "POOL + ALIASED * 4096 + 0x100", "ALIAS0 + 0x100000000", 1
	NODE "POOL + (3072 + 1) * 4096 + 0x100", "ALIAS0 + 0x200000000", 2
	NODE "POOL + (3072 + 2) * 4096 + 0x100", "ALIAS0 + 0x300000000", 3
	NODE "POOL + (3072 + 3) * 4096 + 0x100", ALIAS0, 4
	SET start, ALIAS0
	xor %ebx, %ebx
	mov $400, %ecx
1:	mov %ecx, %eax /* 400, 399, ...: 1, 2, 3, 4, 1, ... */
	neg %eax
	and $3, %eax
	inc %eax
	lea (%rbx,%rbx,4), %rbx
	add %rax, %rbx
	dec %ecx
	jnz 1b
	mov %rbx, want
	movl $400, steps
	GO walk
	CHECK "nodes 4 GiB apart", tr_ax, want
	movl $402, steps
	GO hop
	CHECK "nodes 4 GiB apart, hopped along", tr_ax, $3
	ret

	.set PTE, tables + REMAPPED * 8
	.set FRAME1, POOL + 3080 * 4096
	.set FRAME2, POOL + 3081 * 4096
remapped:
	NODE "FRAME1 + 0x40", REMAP, 1
	NODE "FRAME2 + 0x40", REMAP, 2
	SET start, REMAP
	movl $0, bad
	mov $LOOPS, %ebp
	mov $REMAP, %ebx
1:	.irp how, "invlpg (%rbx)", "mov %cr3, %rax; mov %rax, %cr3"
	.irp n, 1, 2
	movl $FRAME\n + 7, PTE
	\how
	movl $5, steps
	GO hop
	WANT $\n
	movl $1, steps
	GO walk
	WANT $\n
	.endr
	.endr
	dec %ebp
	jnz 1b
	CHECK4 "mapped elsewhere", bad, $0

	movl $3, steps
	mov $LOOPS, %ebp
1:	movl $0, PTE
	invlpg (%rbx)
	.irp code, walk, hop
	GO \code
	CHECK4 "not mapped: vector of \code", tr_vec, $VPF
	mov mode, %eax /* user or not, not present, read */
	cmp $U, %al
	sete %al
	movzbl %al, %eax
	shl $2, %eax
	mov %rax, want
	CHECK "not mapped: error code of \code", tr_err, want
	CHECK "not mapped: ip of \code", tr_ip, $\code\()_ip
	.ifc \code, walk
	mov $(REMAP + 8), %eax
	.else
	mov $(REMAP + 16), %eax
	.endif
	mov %rax, want
	CHECK "not mapped: address of \code", tr_cr2, want
	.endr
	movl $FRAME1 + 7, PTE
	GO hop
	CHECK "mapped again", tr_ax, $1
	dec %ebp
	jnz 1b

	NODE "LARGE_POOL + 0x5040", LARGE, 1
	NODE "LARGE_POOL + 0x205040", LARGE, 2
	SET start, LARGE
	movl $0, bad
	mov $LOOPS, %ebp
	mov $LARGE - 0x5040, %ebx /* another page of it */
1:	.irp n, 1, 2
	movl $LARGE_POOL + (\n - 1) * 0x200000 + 0x87, wdir + 100 * 8
	invlpg (%rbx)
	GO hop
	WANT $\n
	.endr
	dec %ebp
	jnz 1b
	CHECK4 "a large page mapped elsewhere", bad, $0
	ret

	.set SPLIT1, POOL + 3090 * 4096
	.set SPLIT2, POOL + 3095 * 4096
crossing:
	movl $SPLIT1 + 7, tables + SPLIT * 8
	movl $SPLIT2 + 7, tables + (SPLIT + 1) * 8
	RELOAD
	NODE "FRAME1 + 0x40", CROSSING, 1
	movl $REMAP, SPLIT1 + 4092
	movl $0, SPLIT2
	movl $5, SPLIT2 + 4
	movl $0, SPLIT2 + 8
	movl $REMAP, SPLIT2 + 12
	movl $0, SPLIT2 + 16
	movl $0, SPLIT2 - 4
	SET start, CROSSING
	movl $7, steps
	GO walk
	mov tr_ax, %rbx
	GO walk
	CHECK "a node in two pages again", tr_ax, %rbx
	VALUE "a node in two pages", tr_ax
	GO hop
	CHECK "a node in two pages, hopped along", tr_ax, $1
	movl $8, steps
	GO hop
	CHECK "a node in two pages, hopped to", tr_ax, $5
	/* the first page alone is there */
	movl $0, tables + (SPLIT + 1) * 8
	mov $(W + (SPLIT + 1) * 4096), %ebx
	invlpg (%rbx)
	mov %rbx, want
	.irp code, walk, hop
	GO \code
	CHECK4 "half a node: vector of \code", tr_vec, $VPF
	.ifc \code, hop
	addq $12, want
	.else
	addq $4, want
	.endif
	CHECK "half a node: address of \code", tr_cr2, want
	mov %rbx, want
	.endr
	ret

	/* Twice each, behind nodes that are there. */
.macro NOWHERE to:req
	NODE "FRAME1 + 0x40", \to, 1
	SET start, REMAP
	movl $4, steps
	.rept 2
	GO walk
	CHECK4 "no address \to", tr_vec, $VGP
	CHECK "no address \to: ip", tr_ip, $walk_ip
	SET want, \to
	CHECK "no address \to: register", tr_dx, want
	GO hop
	CHECK4 "no address \to, hopped to", tr_vec, $VGP
	.endr
.endm
nowhere:
	NOWHERE 0x8000000000000000
	NOWHERE 0xbffffffffffffff0
	NOWHERE 0xbffffffffffffff8
	NOWHERE 0xbfffffffffffffff
	NOWHERE 0xc000000000000000
	NOWHERE 0xc000000000000ff0
	NOWHERE 0xc000000000000fff
	NOWHERE 0xc000000000001000
	NOWHERE 0x0000800000000000
	NOWHERE 0xffff7ffffffff000
	.irp at, 0xfffffffffffff000, 0xffffffffffffff00, 0xfffffffffffffff0
	NODE "FRAME1 + 0x40", \at, 1
	.rept 2
	GO walk
	VALUE "\at: vector", tr_vec
	VALUE "\at: address", tr_cr2
	GO hop
	VALUE "\at: vector, hopped to", tr_vec
	.endr
	.endr
	/* page 0 is somewhere */
	NODE 0x10, 0x10, 77
	NODE "FRAME1 + 0x40", 0x10, 1
	GO hop
	CHECK "page 0", tr_ax, $77
	ret

.macro SPACE cr3:req, value:req
	mov \cr3, %cr3
	GO hop
	WANT $\value
.endm
	/* PCID 1 has FRAME1 at REMAP, PCID 2 has FRAME2 there. */
spaces:	cmpb $0, feat_pcid
	je 9f
	NODE "FRAME1 + 0x40", REMAP, 1
	movl $FRAME1 + 7, PTE
	mov %cr3, %rbp
	mov boot_pml4, %rax
	and $7, %eax
	add $pdptb, %eax
	mov %rax, pml4b
	COPY boot_pdpt, pdptb
	COPY wdir, wdirb
	COPY "tables + 5 * 4096", tableb
	movl $wdirb + 7, pdptb + 2 * 8
	movl $tableb + 7, wdirb + 5 * 8
	movl $FRAME2 + 7, tableb + (REMAPPED - 5 * 512) * 8
	TWO_SPACES pml4b
	SET start, REMAP
	movl $5, steps
	movl $0, bad
	mov $LOOPS, %ebx
1:	SPACE %r12, 1
	SPACE %r12, 1
	SPACE %r13, 2
	SPACE %r13, 2
	dec %ebx
	jnz 1b
	CHECK4 "two address spaces", bad, $0
	mov %rbp, %cr3
	CR4BIT CR4_PCIDE, 0
9:	ret

all:	call long_list
	call aliases
	call remapped
	call spaces
	call crossing
	call nowhere
	movl $FRAME1 + 7, PTE
	call long_list
	ret

test_main:
	movl $wdir + 7, boot_pdpt + 2 * 8
	mov $POOL + 7, %eax
	xor %ecx, %ecx
1:	mov %eax, tables(,%rcx,8)
	add $4096, %eax
	inc %ecx
	cmp $(TABLES * 512), %ecx
	jb 1b
	.irp n, 0, 1, 2, 3, 4, 5
	movl $tables + \n * 4096 + 7, wdir + \n * 8
	.endr
	.irp n, 1, 2, 3
	movl $alias_dir + (\n - 1) * 4096 + 7, boot_pdpt + (2 + 4 * \n) * 8
	movl $alias_table + (\n - 1) * 4096 + 7, alias_dir + (\n - 1) * 4096 + 5 * 8
	movl $POOL + (3072 + \n) * 4096 + 7, alias_table + (\n - 1) * 4096 + (ALIASED - 5 * 512) * 8
	.endr
	RELOAD

	movb $U, mode
	call all
	/* nothing is a user's any more */
	movb $K, mode
	movl $boot_pdpt + 3, boot_pml4
	RELOAD
	cmpb $0, feat_smap
	je 1f
	CR4BIT CR4_SMAP, 1
1:	call all
	ret
