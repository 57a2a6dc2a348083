// MODES: 64
/*
 * User code of one page of memory at several linear addresses, in turn and within each other: addresses that come of RIP
 * are always those of where it runs. Its page mapped elsewhere, and the one that it branches to; branches from it to no
 * canonical address. The same addresses in two address spaces that MOV CR3 keeps, whose code and whose mapping change
 * while they are not current. Linear 1 GiB + x is an alias of x, page 2 GiB is mapped by remap_table, the last page that
 * user code can be in by edge_table.
 */
#include "guest.inc"
#include "remap.inc"

	.set ALIAS, 0x40000000
	.set REMAP, 0x80000000
	.set EDGE, 0x7ffffffff000
	.set DEPTH, 20
	.bss
	.balign 4096
remap_table: .skip 4096
remap_dir: .skip 4096
edge_pdpt: .skip 4096
edge_dir: .skip 4096
edge_table: .skip 4096
pml4b:	.skip 4096
pdptb:	.skip 4096
dirb:	.skip 4096
tableb:	.skip 4096
target:	.skip 8
want:	.skip 8
bad:	.skip 8

	.section .smc, "awx"
	NATIVE
	.balign 4096
page:	lea page(%rip), %rax
	ret
	.balign 64
pushed:	call 1f
	ret
	.balign 64
1:	mov (%rsp), %rax
	ret
	.balign 64
reads:	mov number(%rip), %eax
	ret
number:	.long 0x1234
	.balign 64
answer:	call 1f
	add $1, %eax
	ret
	.balign 64
1:	mov $0, %eax /* patched */
answer_end: ret
	.balign 64
calls:	call next_page
	lea calls(%rip), %rcx
	sub %rcx, %rax /* the return address, from here */
	add %rbx, %rax
	ret
	.balign 64
jumps:	xor %eax, %eax
	jz next_page_jump
	ud2
	.balign 64
turns:	/* and the same at the other address, edx deep: rdi and rsi */
	lea turns(%rip), %rax
	add %rax, %rbx
	dec %edx
	jz 1f
	xchg %rdi, %rsi
	call *%rdi
1:	lea turns(%rip), %rax
	add %rax, %rbx
	ret
	.balign 64
cpuids:	/* the interpreter's, in the middle of a block */
	mov $7, %esi
	mov %ebx, %edi
	xor %eax, %eax
	cpuid
	lea cpuids(%rip), %rax
	mov %edi, %ebx
	ret
	.balign 64
edge_call: call . + 0x100000
	.balign 64
edge_jump: jmp . + 0x100000
	.balign 64
edge_jcc: cmp %eax, %eax
edge_jcc_ip: je . + 0x100000
	.balign 64
far_call: call far
	add $0x100, %eax
	ret
	.balign 64
far_jump: jmp far
	.balign 64
far_jcc: cmp %eax, %eax
	je far
	ret
	.balign 4096
next_page: mov (%rsp), %rax
	lea next_page(%rip), %rbx
	ret
	.balign 64
next_page_jump: lea next_page_jump(%rip), %rax
	ret
	.balign 64
far:	mov $0x11, %eax /* 0x22 in `other` */
	ret
	.balign 4096
copy:	.skip 4096 /* of the first page, with another number */
other:	.skip 4096 /* of the second */

	.text
	NATIVE
go:	call *target
	int3
go_turns: mov $DEPTH, %edx
	xor %ebx, %ebx
	mov $turns, %edi
	mov $turns + ALIAS, %esi
	call *%rdi
	int3
go_jump: jmp *target

/* \where and its alias in turn; \add: what the result is from there. */
.macro BOTH name:req, where:req, add=0
	movl $0, bad
	mov $20, %ebx
1:	mov %ebx, %eax
	and $1, %eax
	shl $30, %eax
	add $\where, %eax
	mov %rax, target
	add $\add, %eax
	mov %rax, want
	TRY go, U
	EXPECT tr_ax, want
	dec %ebx
	jnz 1b
	CHECK4 "\name", bad, $0
.endm

/* Twice what runs at EDGE: #GP there, with nothing pushed. */
.macro NOWHERE name:req, where:req, ip
	.rept 2
	movabs $EDGE + \where - page, %rax
	mov %rax, target
	movabs $EDGE + \ip - page, %rax
	mov %rax, want
	TRY go_jump, U
	CHECK4 "\name: vector", tr_vec, $VGP
	CHECK "\name: ip", tr_ip, want
	CHECK4 "\name: sp", tr_sp, $snip_stack_top
	.endr
.endm

/* The page at REMAP is \what; the number there is \number. */
.macro MAPPED what:req, number:req
	movl $\what + 7, remap_table
	invlpg (%rbx)
	TRY go, U
	EXPECT tr_ax, $\number
.endm

/* Branches out of the page at REMAP, with the page \what behind it, where \number is. */
.macro BEHIND what:req, number:req
	movl $\what + 7, remap_table + 8
	invlpg (%rbx)
	FAR far_call, \number + 0x100
	FAR far_jump, \number
	FAR far_jcc, \number
.endm

.macro FAR where:req, result:req
	mov $REMAP + \where - page, %eax
	mov %rax, target
	.rept 2
	TRY go, U
	EXPECT tr_ax, $\result
	.endr
.endm

/* With nothing there they fault at their target. */
.macro FAR_FAULTS where:req
	mov $REMAP + \where - page, %eax
	mov %rax, target
	TRY go, U
	mov tr_ip, %eax
	xor $REMAP + far - page, %eax
	or %eax, bad
	mov tr_vec, %eax
	xor $VPF, %eax
	or %eax, bad
.endm

far_branches:
	COPY next_page, other
	movl $0x22, other + (far - next_page) + 1
	movl $page + 7, remap_table
	mov $REMAP, %ebx
	invlpg (%rbx)
	mov $REMAP + 4096, %ebx
	movl $0, bad
	mov $20, %ebp
1:	BEHIND next_page, 0x11
	BEHIND other, 0x22
	movl $next_page + 7, remap_table + 8
	RELOAD
	FAR far_call, 0x111
	FAR far_jump, 0x11
	movl $0, remap_table + 8
	invlpg (%rbx)
	FAR_FAULTS far_call
	FAR_FAULTS far_jump
	FAR_FAULTS far_jcc
	dec %ebp
	jnz 1b
	CHECK4 "branches into another page, which is mapped otherwise", bad, $0
	movl $next_page + 7, remap_table + 8
	movl $0, bad
	mov $20, %ebp
1:	mov %ebp, next_page + (far - next_page) + 1
	mov $REMAP + far_call - page, %eax
	mov %rax, target
	.rept 3
	TRY go, U
	mov tr_ax, %eax
	sub $0x100, %eax
	xor %ebp, %eax
	or %eax, bad
	.endr
	dec %ebp
	jnz 1b
	CHECK4 "branches into another page, whose code changes", bad, $0
	ret

/* With the address space \cr3 what `target` gives is \value. */
.macro SPACE cr3:req, value:req
	mov \cr3, %cr3
	TRY go, U
	EXPECT tr_ax, \value
.endm

/* PCID 1 has `page` at REMAP, PCID 2 has `copy` there. */
spaces:	mov $1, %eax
	cpuid
	bt $17, %ecx
	jnc 9f
	mov %cr3, %rbx
	mov %rbx, pml4_now
	movl $pdptb + 7, pml4b
	movl $boot_pd + 7, pdptb
	movl $boot_pd + 7, pdptb + 8
	movl $dirb + 7, pdptb + 16
	movl $tableb + 7, dirb
	movl $copy + 7, tableb
	movl $page + 7, remap_table
	TWO_SPACES pml4b
	movl $0, bad
	mov $20, %ecx
1:	SPACE %r12, $0x1234
	SPACE %r12, $0x1234
	SPACE %r13, $0x5678
	SPACE %r13, $0x5678
	dec %ecx
	jnz 1b
	CHECK4 "two address spaces", bad, $0

	mov $REMAP + answer - page, %eax
	mov %rax, target
	mov $20, %ebp
1:	mov %r12, %cr3
	mov %ebp, answer_end - 4
	lea 100(%rbp), %eax
	mov %eax, copy + (answer_end - page) - 4
	lea 1(%rbp), %edx
	lea 101(%rbp), %esi
	SPACE %r13, %rsi
	SPACE %r12, %rdx
	SPACE %r13, %rsi
	dec %ebp
	jnz 1b
	CHECK4 "two address spaces, code changed", bad, $0

	mov $7, %eax
	xor %ecx, %ecx
	cpuid
	bt $10, %ebx
	jnc 8f
	mov $20, %ebp
1:	movl $page + 7, tableb
	mov %r12, %cr3
	xor %edx, %edx
	invpcid inv_remap, %rdx
	SPACE %r13, $2
	movl $copy + 7, tableb
	mov %r12, %cr3
	mov $1, %edx
	invpcid inv_remap, %rdx
	SPACE %r13, $102
	SPACE %r12, $2
	movl $page + 7, tableb
	mov %r13, %rax
	btr $63, %rax
	mov %rax, %cr3
	SPACE %r13, $2
	movl $copy + 7, tableb
	movl $REMAP, %eax
	invlpg (%rax)
	SPACE %r13, $102
	dec %ebp
	jnz 1b
	CHECK4 "two address spaces, mappings changed", bad, $0
8:	/* a branch into a global page, which another address space's INVLPG says is another */
	CR4BIT CR4_PGE, 1
	mov pml4_now, %rax
	lea 3(%rax), %r13
	bts $63, %r13
	movl $0x11, next_page + (far - next_page) + 1
	mov $REMAP + far_jump - page, %eax
	mov %rax, target
	movl $0, bad
	mov $20, %ebp
	mov $REMAP + 4096, %r14d
1:	movl $next_page + 0x107, remap_table + 8
	invlpg (%r14)
	.rept 4
	SPACE %r12, $0x11
	.endr
	mov %r13, %cr3
	movl $other + 0x107, remap_table + 8
	invlpg (%r14)
	SPACE %r12, $0x22
	mov %r13, %cr3
	dec %ebp
	jnz 1b
	CHECK4 "two address spaces, a global page", bad, $0
	mov pml4_now, %rax
	mov %rax, %cr3
	CR4BIT CR4_PCIDE, 0
	CR4BIT CR4_PGE, 0
9:	ret
	.data
	.balign 16
inv_remap: .quad 2, REMAP
pml4_now: .quad 0
	.text

test_main:
	call paging_on
	movl $boot_pd + 7, boot_pdpt + 8
	movl $remap_dir + 7, boot_pdpt + 16
	movl $remap_table + 7, remap_dir
	movl $edge_pdpt + 7, boot_pml4 + 255 * 8
	movl $edge_dir + 7, edge_pdpt + 511 * 8
	movl $edge_table + 7, edge_dir + 511 * 8
	movl $page + 7, edge_table + 511 * 8
	RELOAD

	BOTH "an address from RIP", page
	BOTH "what CALL pushes", pushed, 5
	BOTH "across CPUID", cpuids
	BOTH "a branch into another page", jumps, "next_page_jump - jumps"
	BOTH "a call into another page", calls, "next_page - calls + 5"

	mov $20, %ecx
1:	TRY go_turns, U
	mov $turns, %eax
	imul $(2 * DEPTH), %rax, %rax
	movabs $(DEPTH * ALIAS), %rdx
	add %rdx, %rax
	mov %rax, want
	CHECK "calls to the other address", tr_bx, want
	dec %ecx
	jnz 1b

	COPY page, copy
	movl $0x5678, copy + (number - page)
	movl $0, bad
	mov $REMAP + reads - page, %eax
	mov %rax, target
	mov $REMAP, %ebx
	mov $20, %ecx
1:	MAPPED page, 0x1234
	MAPPED copy, 0x5678
	RELOAD
	dec %ecx
	jnz 1b
	CHECK4 "another page at the same address", bad, $0

	call far_branches
	mov $REMAP + reads - page, %eax
	mov %rax, target
	call spaces
	NOWHERE "CALL to no address", edge_call, edge_call
	NOWHERE "JMP to no address", edge_jump, edge_jump
	NOWHERE "JE to no address", edge_jcc, edge_jcc_ip
	ret
