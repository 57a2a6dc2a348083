// MODES: 64
/*
 * What user code pushes, or has right below a register, at every distance from the edges of pages: groups of PUSH, PUSH
 * between other work, CALL, a frame. The page below the edge, or above it, is there, is not, is read-only, is the kernel's;
 * where a push faults there the page is then mapped and the program goes on at the instruction. And at edges of what is an
 * address at all, and around 0.
 *
 * After each run the vector, RIP, RSP, CR2, error code and the memory about the edge go into a digest, which all engines must
 * agree on. A fault that is mended must leave what there is where nothing faulted.
 */
#include "guest.inc"
#include "remap.inc"

#define BODIES one, two, three, six, work, flags, words, room, popped, rsp, direct, by_register, by_memory, pushed, far, away, frame, pointer
	.set AREA, 0x80000000
	.set EDGE0, AREA + 0x1000 /* of three pages: the one in the middle is what differs between cases */
	.set EDGE1, AREA + 0x2000
	.set FRAMES, 0x4000000
	.set NEAR, 112 /* bytes: what the bodies push at most, and how far from an edge they begin */
	.set FAR, 56

	.bss
	.balign 4096
dir:	.skip 4096
table:	.skip 4096
ends_pdpt: .skip 4096
ends_dir: .skip 4096
ends_table: .skip 4096
	/* a case */
edge:	.skip 8
above:	.skip 8 /* of the edge: where its page is mapped for the kernel */
below:	.skip 8
pte:	.skip 8
body:	.skip 8
	/* a run */
go_ip:	.skip 8
go_sp:	.skip 8
go_bp:	.skip 8
go_cx:	.skip 8
go_dx:	.skip 8
hash:	.skip 8 /* of all runs */
ended:	.skip 8 /* of what there is in the end */
want:	.skip 8
faults:	.skip 8
bad:	.skip 8
mode:	.skip 8

	.text
	NATIVE
go:	mov go_bp, %rbp
	mov go_cx, %rcx
	mov go_dx, %rdx
	mov $0x2222222222222222, %rbx
	mov $0x3333333333333333, %r12
	mov $0x4444444444444444, %r13
	mov $0x5555555555555555, %r10
	mov $0x6666666666666666, %r9
	mov $scratch, %esi
	mov $called, %eax
	mov %rax, 16(%rsi)
	cmp %rsi, %rbx
	mov go_sp, %rsp
	jmp *go_ip

	.balign 4096
one:	push %rbp
	int3
two:	push %rbp; push %r10
	int3
three:	push %rbp; push %rbx; push %r12
	int3
six:	push %rbp; push %rbx; push %r12; push %r13; push %r9; push %r10
	int3
work:	push %rbp; mov (%rsi), %rdx; push %rbx; add 8(%rsi), %rdx; lea 5(%rdx), %ecx; push %r12; mov %rcx, 24(%rsi); push $-7
	int3
flags:	push %rbp; pushf; push $0x12345678; push 16(%rsi); push %fs
	int3
words:	pushw %bp; push %rbx; pushw $0x55; push %r12
	int3
room:	push %rbp; sub $24, %rsp; push %rbx; mov %rbp, 16(%rsp); push %r12
	int3
popped:	push %rbp; push %rbx; pop %rdx; push %r12; pop %rdx; pop %rdx
	int3
rsp:	push %rsp; push %rbp; push (%rsp)
	int3
direct:	call called
	int3
by_register: call *%rax
	int3
by_memory: call *16(%rsi)
	int3
pushed:	push %rbp; push %rbx; call called
	int3
far:	push %rbp; call called_far
	int3
away:	call 1f
1:	push %rbx; call 2f
2:	int3
	/* as good as pushes: what is right below another register, written, and read before that */
frame:	mov %rsp, %rbp; mov %rbx, -8(%rbp); mov %r12, -24(%rbp); mov -16(%rbp), %rdx; mov %rdx, -24(%rbp)
	int3
pointer: lea (%rsp), %rdx; mov -8(%rdx), %rcx; add %rcx, -16(%rdx); mov %r13, -8(%rdx)
	int3
	.balign 64
called:	push %r12
	int3
	.balign 4096
called_far: push %r12; push %r13
	int3
	.balign 4096

	/* rax mixed into *rdx. Changes rcx */
mix:	xor (%rdx), %rax
	movabs $0x9e3779b97f4a7c15, %rcx
	imul %rcx, %rax
	rol $29, %rax
	mov %rax, (%rdx)
	ret
.macro MIX what:req, into=hash
	mov \what, %rax
	mov $\into, %edx
	call mix
.endm

	/* rax = a digest of the memory about the edge */
digest:	mov below, %rsi
	mov above, %rdi
	movabs $0x9e3779b97f4a7c15, %rcx
	xor %eax, %eax
	mov $-NEAR, %rbx
1:	xor (%rsi,%rbx), %rax
	imul %rcx, %rax
	rol $29, %rax
	add $8, %rbx
	jnz 1b
2:	xor (%rdi,%rbx), %rax
	imul %rcx, %rax
	rol $29, %rax
	add $8, %rbx
	cmp $FAR, %rbx
	jb 2b
	ret
fill_memory:
	mov below, %rdi
	sub $NEAR, %rdi
	movabs $0x5857565554535251, %rax
	mov $NEAR / 8, %ecx
	rep stosq
	mov above, %rdi
	mov $FAR / 8, %ecx
	rep stosq
	ret

	/* From go_sp. What faults for a page's sake is mended, once. */
run:	call fill_memory
	movq $0x11111111, go_bp
	movq $0, go_cx
	movq $0, go_dx
	mov body, %rax
	mov %rax, go_ip
	GO go
	xor %ebp, %ebp
1:	MIX tr_vec
	MIX tr_ip
	MIX tr_sp
	cmpb $VBP, tr_vec
	je 8f
	incl faults
	MIX tr_err
	cmpb $VPF, tr_vec
	jne 8f
	MIX tr_cr2
	cmpb $7, pte
	je 8f
	test %ebp, %ebp
	jnz 8f
	call digest
	MIX %rax
	mov pte, %rax
	or $7, %eax
	mov %rax, table + 8
	mov $EDGE0, %eax
	invlpg (%rax)
	.irp r, ip, sp, bp, cx, dx
	mov tr_\r, %rax
	mov %rax, go_\r
	.endr
	inc %ebp
	GO go
	jmp 1b
8:	MIX tr_vec, ended
	MIX tr_sp, ended
	call digest
	push %rax
	MIX %rax
	pop %rax
	MIX %rax, ended
	test %ebp, %ebp
	jz 9f
	mov pte, %rax
	mov %rax, table + 8
	mov $EDGE0, %eax
	invlpg (%rax)
9:	ret

	/* All distances of one body. */
all:	movl $0, faults
	movq $0, hash
	movq $0, ended
	mov pte, %rax
	mov %rax, table + 8
	RELOAD
	mov $-FAR, %r15
1:	mov edge, %rax
	add %r15, %rax
	mov %rax, go_sp
	call run
	inc %r15
	cmp $FAR, %r15
	jle 1b
	ret

.macro CASE name:req, at:req, below_is:req, above_is:req, flags=7, same=0, count
	.irp b, BODIES
	movabs $\at, %rax
	mov %rax, edge
	movq $\below_is, below
	movq $\above_is, above
	movq $FRAMES + 0x1000 + \flags, pte
	movq $\b, body
	call all
	VALUE "\name: \b", hash
	.if \same == 1
	mov ended, %rax
	mov %rax, ended_\b
	.elseif \same == 2
	CHECK "\name: \b: as if it had been there", ended, ended_\b
	.endif
	.ifnb \count
	CHECK4 "\name: \b: faults", faults, $\count
	.endif
	.endr
.endm

	.bss
	.balign 8
	.irp b, BODIES
ended_\b: .skip 8
	.endr
	.text

test_main:
	movb $U, mode
	movl $dir + 7, boot_pdpt + 2 * 8
	movl $table + 7, dir
	.irp n, 0, 1, 2
	movl $FRAMES + \n * 0x1000 + 7, table + \n * 8
	.endr
	/* the last page below the hole in the addresses, the first above it, and the last of all */
	.irp n, 255, 256, 511
	movl $ends_pdpt + 7, boot_pml4 + \n * 8
	.endr
	.irp n, 0, 511
	movl $ends_dir + 7, ends_pdpt + \n * 8
	movl $ends_table + 7, ends_dir + \n * 8
	.endr
	movl $FRAMES + 0x10000 + 7, ends_table
	movl $FRAMES + 0x11000 + 7, ends_table + 511 * 8
	RELOAD

	CASE "below is there", EDGE1, FRAMES + 0x2000, FRAMES + 0x2000, 7, 1, 0
	CASE "below is not there", EDGE1, FRAMES + 0x2000, FRAMES + 0x2000, 6, 2
	CASE "below is read-only", EDGE1, FRAMES + 0x2000, FRAMES + 0x2000, 5, 2
	CASE "below is the kernel's", EDGE1, FRAMES + 0x2000, FRAMES + 0x2000, 3, 2
	CASE "above is there", EDGE0, FRAMES + 0x1000, FRAMES + 0x1000, 7, 1, 0
	CASE "above is not there", EDGE0, FRAMES + 0x1000, FRAMES + 0x1000, 6, 2
	CASE "above is read-only", EDGE0, FRAMES + 0x1000, FRAMES + 0x1000, 5, 2
	CASE "0x1000", 0x1000, 0x1000, 0x1000
	CASE "0", 0, FRAMES + 0x12000, 0
	CASE "the hole's beginning", 0x800000000000, FRAMES + 0x12000, FRAMES + 0x10000
	CASE "the hole's end", 0xffff800000000000, FRAMES + 0x12000, FRAMES + 0x10000
	.irp at, 0x4000000000000000, 0x8000000000000000, 0xbffffffffffff000, 0xc000000000000000, 0xc000000000001000, 0xc000000000002000
	CASE "\at", \at, FRAMES + 0x12000, FRAMES + 0x10000, 7, 0, (2 * FAR + 1)
	.endr
	ret
