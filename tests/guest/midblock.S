// MODES: 64
/*
 * What one stretch of code has looked up, and what it does then: it maps a page elsewhere, takes its rights, or is itself
 * mapped elsewhere, and goes on with the next instruction as if nothing had been known before. In loops, so that it is
 * translated, chained and known by the time that matters.
 *
 * A is a page, A1 the one behind it. Frame n has n in its first word, n + 0x100 in its second.
 */
#include "guest.inc"
#include "remap.inc"

	.set A, 0x80f35000
	.set A1, A + 0x1000
	.set FRAME, 0x4000000
	.set F1, FRAME + 0x1000
	.set F2, FRAME + 0x2000
	.set CODE1, FRAME + 0x3000
	.set CODE2, FRAME + 0x4000
	.set PTE_A, table + (A >> 12 & 511) * 8
	.set PTE_A1, PTE_A + 8
	.set LOOPS, 20
	.set CR4_SMEP, 1 << 20
	.set XCR0_PKRU, 1 << 9

	.bss
	.balign 4096
wdir:	.skip 4096
table:	.skip 4096
area:	.skip 4096
bad:	.skip 8
pkru_offset: .skip 8
	.data
	.balign 16
invalidated: .quad 0, A
	.text
	NATIVE

.macro CRBITS reg:req, set=0, clear=0
	mov %\reg, %rax
	or $\set, %eax
	and $~(\clear), %eax
	mov %rax, %\reg
.endm
	/* r12 += 1 unless A shows frame n; both words are off one register */
.macro SEES n:req
	mov (%rsi), %eax
	mov 8(%rsi), %edx
	sub $\n, %eax
	sub $\n + 0x100, %edx
	or %edx, %eax
	neg %eax
	adc $0, %r12
.endm
	/* A page that is read, mapped elsewhere and read, all in one go. */
.macro REMAPS name:req, how:req
remaps_\name:
	mov $A, %esi
	mov $PTE_A, %edi
	mov $LOOPS, %ebp
	xor %r12d, %r12d
1:	.irp n, 1, 2, 1, 2
	movl $FRAME + \n * 0x1000 + 7, (%rdi)
	\how
	SEES \n
	.endr
	dec %ebp
	jnz 1b
	int3
	/* And what is written. */
writes_\name:
	mov $A, %esi
	mov $PTE_A, %edi
	mov $LOOPS, %ebp
	mov $5, %r12d
	mov %r12, F1 + 64
	mov %r12, F2 + 64
1:	.irp n, 1, 2
	movl $FRAME + \n * 0x1000 + 7, (%rdi)
	\how
	incl 64(%rsi)
	incl 68(%rsi)
	.endr
	dec %ebp
	jnz 1b
	mov F1 + 64, %r12
	xor F2 + 64, %r12
	movabs $LOOPS << 32 | (LOOPS + 5), %rax
	sub F1 + 64, %rax
	or %rax, %r12
	int3
.endm
	REMAPS invlpg, "invlpg (%rsi)"
	REMAPS cr3, "mov %cr3, %rax; mov %rax, %cr3"
	REMAPS invpcid, "xor %ebx, %ebx; invpcid invalidated, %rbx"
	REMAPS invpcid2, "mov $2, %ebx; invpcid invalidated, %rbx"
	REMAPS pge, "CRBITS cr4, CR4_PGE; CRBITS cr4, 0, CR4_PGE"
	REMAPS wp, "CRBITS cr0, CR0_WP; CRBITS cr0, 0, CR0_WP"

	/* A page loses its rights between two accesses, in the last round. */
.macro LOSES name:req, keep:req, lose:req, access:req
loses_\name:
	mov $A, %esi
	mov $LOOPS, %ebp
1:	\keep
	mov (%rsi), %r12d
	movl $0, 136(%rsi)
	cmp $1, %ebp
	je 2f
	\access
	dec %ebp
	jmp 1b
2:	\lose
loses_\name\()_ip:
	\access
	int3
.endm
	LOSES wp, "CRBITS cr0, CR0_WP; CRBITS cr0, 0, CR0_WP", "CRBITS cr0, CR0_WP", "mov %eax, 8(%rsi)"
	LOSES clac, "stac", "clac", "mov 8(%rsi), %eax"
	LOSES clac_write, "stac", "clac", "mov %eax, 136(%rsi)"
	LOSES popf, "stac; pushf; popf", "clac; pushf; stac; mov (%rsi), %r12d; popf", "mov 8(%rsi), %eax"
	LOSES smap, "CRBITS cr4, CR4_SMAP; CRBITS cr4, 0, CR4_SMAP", "CRBITS cr4, CR4_SMAP", "mov 8(%rsi), %eax"
.macro KEY value
	mov $\value, %eax
	xor %ecx, %ecx
	xor %edx, %edx
	wrpkru
.endm
	LOSES key, "KEY 0", "KEY 4", "mov 8(%rsi), %eax"
	LOSES key_write, "KEY 0", "KEY 8", "mov %eax, 136(%rsi)"
.macro RESTORE value
	mov pkru_offset, %edi
	movl $\value, area(%rdi)
	mov $XCR0_PKRU, %eax
	xor %edx, %edx
	xrstor area
.endm
	LOSES key_restored, "RESTORE 0", "RESTORE 4", "mov 8(%rsi), %eax"

	/* With user access and without, by turns, each with its own pages: r12 += 1 for each wrong value. */
turns:	mov $A, %esi
	mov $supervisors, %edi
	mov $LOOPS, %ebp
	xor %r12d, %r12d
1:	.rept 3
	stac
	mov (%rsi), %eax
	mov (%rdi), %edx
	clac
	add 8(%rdi), %edx
	sub $1, %eax
	setnz %al
	sub $30, %edx
	setnz %dl
	or %dl, %al
	movzbl %al, %eax
	add %rax, %r12
	.endr
	dec %ebp
	jnz 1b
	int3
	.data
	.balign 16
supervisors: .quad 10, 20
	.text

	/*
	 * Code at A that maps A elsewhere: each frame has its own copy, which tells in eax whose it is. r8d: the entry to set,
	 * rdi where, r9 where to go then.
	 */
.macro MOVES name:req, how:req
moves_\name:
	mov %r8d, (%rdi)
	\how
	mov $0x11111111, %eax
	jmp *%r9
moves_\name\()_end:
.endm
	MOVES invlpg, "invlpg (%rsi)"
	MOVES cr3, "mov %cr3, %rax; mov %rax, %cr3"
	MOVES invpcid, "xor %ebx, %ebx; invpcid invalidated, %rbx"
	MOVES call, "call *%r10"
	/* what moves_call calls */
mover:	invlpg (%rsi)
	ret

	/* Runs rdx's code of ecx bytes, from A: frames 1 and 2 by turns; r12 += 1 for each that is the wrong one's. */
move_rounds:
	.irp n, 1, 2
	push %rcx
	push %rsi
	mov %rdx, %rsi
	mov $CODE\n, %edi
	rep movsb
	pop %rsi
	pop %rcx
	/* the constant is seven bytes before the end of what ends in 41 ff e1 */
	movl $\n, CODE\n - 7(%rcx)
	.endr
	mov $A, %esi
	mov $PTE_A, %edi
	mov $mover, %r10d
	mov $3f, %r9d
	mov $LOOPS, %ebp
	xor %r12d, %r12d
	mov $1, %ebx
	movl $CODE1 + 7, (%rdi)
	invlpg (%rsi)
	/* r14: the frame that goes on */
1:	mov $2, %r14d
2:	mov %r14d, %r8d
	shl $12, %r8d
	add $FRAME + 0x2000 + 7, %r8d
	jmp *%rsi
3:	cmp %r14d, %eax
	setne %al
	movzbl %al, %eax
	add %rax, %r12
	dec %r14d
	jnz 2b
	dec %ebp
	jnz 1b
	ret

	/* MAP, and nothing old is left */
.macro REMAP pte:req, to:req, flags=7, high=0
	MAP \pte, \to, \flags, \high
	RELOAD
.endm
.macro RUN name:req, code:req, mode=K, need=feat_always
	cmpb $0, \need
	je 7f
	TRY \code, \mode
	CHECK4 "\name: ends", tr_vec, $VBP
	CHECK "\name", tr_r8 + 32, $0
7:
.endm
.macro FAULTS name:req, code:req, error:req, at:req, mode=K, need=feat_always
	cmpb $0, \need
	je 7f
	TRY \code, \mode
	CHECK4 "\name: vector", tr_vec, $VPF
	CHECK4 "\name: error", tr_err, $\error
	mov $\at, %ecx
	CHECK "\name: address", tr_cr2, %rcx
	CHECK4 "\name: ip", tr_ip, $\code\()_ip
7:
.endm
.macro MOVE name:req, code:req, need=feat_always
	cmpb $0, \need
	je 7f
	mov $\code, %edx
	mov $\code\()_end - \code, %ecx
	call move_rounds
	CHECK "code that maps itself elsewhere: \name", %r12, $0
7:
.endm

remaps:	REMAP PTE_A, F1
	.irp how, invlpg, cr3, pge, wp
	RUN "read behind \how", remaps_\how
	RUN "written behind \how", writes_\how
	.endr
	.irp how, invpcid, invpcid2
	RUN "read behind \how", remaps_\how, K, feat_invpcid
	RUN "written behind \how", writes_\how, K, feat_invpcid
	.endr
	ret

loses:	movl $0, F1 + 136
	REMAP PTE_A, F1, 5
	/* the store of the last round but one needs WP off */
	FAULTS "WP behind a store", loses_wp, 3, A+8
	movl $0x101, F1 + 8
	REMAP PTE_A, F1
	/* all but A is the kernel's */
	cmpb $0, feat_smap
	je 1f
	movl $boot_pd + 3, boot_pdpt
	RELOAD
	FAULTS "SMAP behind a read", loses_smap, 1, A+8
	CR4BIT CR4_SMAP, 1
	FAULTS "CLAC behind a read", loses_clac, 1, A+8
	FAULTS "CLAC behind a store", loses_clac_write, 3, A+136
	FAULTS "POPF behind a read", loses_popf, 1, A+8
	CHECK4 "nothing was stored", F1 + 136, $0
	RUN "STAC and CLAC by turns", turns
	CR4BIT CR4_SMAP, 0
	movl $boot_pd + 7, boot_pdpt
1:	cmpb $0, feat_pku
	je 9f
	CR4BIT CR4_PKE, 1
	REMAP PTE_A, F1, 7, 0x08000000
	.irp mode, U, K
	FAULTS "WRPKRU behind a read, \mode", loses_key, 0x21+(\mode&1)*4, A+8, \mode
	call key_back
	.endr
	FAULTS "WRPKRU behind a store", loses_key_write, 0x27, A+136, U
	call key_back
	CHECK4 "nothing was stored by key", F1 + 136, $0
	cmpb $0, feat_xsave
	je 8f
	CR4BIT CR4_OSXSAVE, 1
	xor %ecx, %ecx
	xor %edx, %edx
	mov $XCR0_PKRU + 1, %eax
	xsetbv
	mov $0xd, %eax
	mov $9, %ecx
	cpuid
	mov %ebx, pkru_offset
	movl $XCR0_PKRU, area + 512
	FAULTS "XRSTOR behind a read", loses_key_restored, 0x25, A+8, U
	call key_back
	xor %ecx, %ecx
	xor %edx, %edx
	mov $1, %eax
	xsetbv
	CR4BIT CR4_OSXSAVE, 0
8:	CR4BIT CR4_PKE, 0
	REMAP PTE_A, F1
9:	ret
key_back: KEY 0
	ret

moves:	MOVE "INVLPG", moves_invlpg
	MOVE "MOV CR3", moves_cr3
	MOVE "INVPCID", moves_invpcid, feat_invpcid
	MOVE "in a call", moves_call
	ret

	/* Code that takes its own page the right to be run: the next instruction is not. */
moves_nx: movl $0x80000000, 4(%rdi)
	invlpg (%rsi)
moves_nx_fault:
	int3
moves_user: andl $~4, (%rdi)
	jmp 1f
1:	mov %cr4, %rax
	or $CR4_SMEP, %eax
	orl $4, (%rdi)
	mov %rax, %cr4
moves_user_fault:
	int3
moves_own_end:
own:	mov $moves_nx, %esi
	mov $CODE1, %edi
	mov $moves_own_end - moves_nx, %ecx
	rep movsb
	mov $A, %esi
	mov $PTE_A, %edi
	cmpb $0, feat_nx
	je 1f
	mov $LOOPS, %ebp
2:	REMAP PTE_A, CODE1
	movl $PTE_A, %edi
	TRY go_own_nx, K
	CHECK4 "code takes its page's right to be run: vector", tr_vec, $VPF
	CHECK4 "code takes its page's right to be run: error", tr_err, $0x11
	CHECK4 "code takes its page's right to be run: ip", tr_ip, "$A + moves_nx_fault - moves_nx"
	dec %ebp
	jnz 2b
1:	cmpb $0, feat_smep
	je 1f
	mov $LOOPS, %ebp
	movl $boot_pd + 3, boot_pdpt /* all else is the kernel's */
2:	REMAP PTE_A, CODE1
	TRY go_own_user, K
	CHECK4 "a user's page turns SMEP on: vector", tr_vec, $VPF
	CHECK4 "a user's page turns SMEP on: error", tr_err, $0x11
	CHECK4 "a user's page turns SMEP on: ip", tr_ip, "$A + moves_user_fault - moves_nx"
	dec %ebp
	jnz 2b
	movl $boot_pd + 7, boot_pdpt
	REMAP PTE_A, F1
1:	ret
go_own_nx: mov $A, %esi
	mov $PTE_A, %edi
	jmp *%rsi
go_own_user: mov $A + moves_user - moves_nx, %esi
	mov $PTE_A, %edi
	jmp *%rsi

	/*
	 * Code in A that goes on in A1, by a jump, a conditional one, a call, and over the border; A1 is mapped elsewhere between
	 * two runs, and A stays.
	 */
crossings:
	/* A: at 0x100 jmp A1+0x100; at 0x200 test, jz A1+0x110; at 0x300 call A1+0x120; at 0xffe nops */
	movb $0xe9, CODE1 + 0x100
	movl $0x1100 - 0x105, CODE1 + 0x101
	movl $0x840fc031, CODE1 + 0x200 /* xor %eax, %eax; jz */
	movl $0x1110 - 0x208, CODE1 + 0x204
	movb $0xe8, CODE1 + 0x300
	movl $0x1120 - 0x305, CODE1 + 0x301
	movl $0x90909090, CODE1 + 0xffc
	.irp n, 1, 2
	.irp at, 0x100, 0x110, 0x120, 0
	movb $0xb8, FRAME + \n * 0x1000 + 0x4000 + \at
	movl $\n, FRAME + \n * 0x1000 + 0x4000 + \at + 1
	movb $0xcc, FRAME + \n * 0x1000 + 0x4000 + \at + 5
	.endr
	.endr
	REMAP PTE_A, CODE1
	xor %ebx, %ebx
	mov $LOOPS, %ebp
1:	.irp n, 1, 2
	movl $FRAME + \n * 0x1000 + 0x4000 + 7, PTE_A1
	mov $A1, %eax
	invlpg (%rax)
	.irp from, 0x100, 0x200, 0x300, 0xffc
	TRY "A + \from", U
	cmpl $\n, tr_ax
	setne %al
	movzbl %al, %eax
	add %eax, %ebx
	TRY "A + \from", K
	cmpl $\n, tr_ax
	setne %al
	movzbl %al, %eax
	add %eax, %ebx
	.endr
	.endr
	dec %ebp
	jnz 1b
	CHECK4 "on in a page that is mapped elsewhere", %ebx, $0
	/* an instruction in two pages: mov $imm, %eax from A + 0xffd, of which A1 has the upper half */
	movb $0xb8, CODE1 + 0xffd
	movw $0x1234, CODE1 + 0xffe
	.irp n, 1, 2
	movl $0xcc000000 + \n, FRAME + \n * 0x1000 + 0x4000
	movw $0, FRAME + \n * 0x1000 + 0x4001
	movb $0xcc, FRAME + \n * 0x1000 + 0x4002
	.endr
	mov $LOOPS, %ebp
1:	.irp n, 1, 2
	movl $FRAME + \n * 0x1000 + 0x4000 + 7, PTE_A1
	mov $A1, %eax
	invlpg (%rax)
	.irp mode, U, K
	TRY A+0xffd, \mode
	cmpl $\n * 0x10000 + 0x1234, tr_ax
	setne %al
	movzbl %al, %eax
	add %eax, %ebx
	.endr
	.endr
	dec %ebp
	jnz 1b
	CHECK4 "an instruction whose second page is mapped elsewhere", %ebx, $0
	ret

test_main:
	.irp n, 1, 2
	movl $\n, F\n
	movl $\n + 0x100, F\n + 8
	.endr
	movl $wdir + 7, boot_pdpt + 2 * 8
	movl $table + 7, wdir + (A >> 21 & 511) * 8
	call remaps
	call loses
	call moves
	call own
	call crossings
	ret
