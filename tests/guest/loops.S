// MODES: 64
/*
 * Loops over memory, with one or several pointers, across pages that are not neighbours in memory: each
 * against the same on a plain buffer, from many places before a page's end. Then what a page fault in a later
 * round leaves behind, and which A and D bits are set. Linear BASE maps four pages in another order.
 */
#include "guest.inc"

	.set BASE, 0x40000000
	.set SIZE, 0x4000
	.set STEP, 23
	.bss
	.balign 4096
pages:	.skip SIZE
plain:	.skip SIZE
pattern: .skip SIZE
ptab:	.skip 4096
pdir:	.skip 4096
op:	.skip 8
wrong:	.skip 8
from:	.skip 8
result:	.skip 128
	.text

make_pattern:
	xor %ecx, %ecx
1:	imul $0x5b2d, %ecx, %eax
	shr $3, %eax
	xor %ecx, %eax
	mov %al, pattern(%rcx)
	inc %ecx
	cmp $SIZE, %ecx
	jb 1b
	ret
	/* Both buffers the same bytes. */
fill:	mov $pattern, %esi
	mov $plain, %edi
	mov $SIZE / 8, %ecx
	rep movsq
	mov $pattern, %esi
	mov $BASE, %edi
	mov $SIZE / 8, %ecx
	rep movsq
	ret
	/* Runs *op on the buffer at rbp: source rsi, destination rdi, another r8, count rcx. Its rax, rdx, flags and
	 * how far the pointers went to rbx */
run_one:
	push %rbx
	push %rbp
	mov from, %r9
	lea (%rbp,%r9), %rsi
	lea 0x1007(%rbp,%r9), %rdi
	lea 0x2003(%rbp,%r9), %r8
	mov %rsi, %r14
	mov %rdi, %r15
	mov $37, %ecx
	xor %eax, %eax
	xor %edx, %edx
	xor %r10d, %r10d
	xor %r11d, %r11d
	call *op
	pushfq
	pop %r12
	and $0x8d5, %r12d
	pop %rbp
	pop %rbx
	mov %rax, (%rbx)
	mov %rdx, 8(%rbx)
	mov %r12, 16(%rbx)
	mov %rcx, 24(%rbx)
	sub %rbp, %rsi
	sub %rbp, %rdi
	mov %rsi, 32(%rbx)
	mov %rdi, 40(%rbx)
	ret
run_op:
	movl $0, wrong
	movl $0xd80, from
1:	call fill
	mov $BASE, %ebp
	mov $result, %ebx
	call run_one
	mov $plain, %ebp
	mov $result + 64, %ebx
	call run_one
	xor %ecx, %ecx
2:	mov result(%rcx), %rax
	cmp result + 64(%rcx), %rax
	je 3f
	incl wrong
3:	add $8, %ecx
	cmp $48, %ecx
	jb 2b
	mov $plain, %esi
	mov $BASE, %edi
	mov $SIZE / 8, %ecx
	repe cmpsq
	je 4f
	incl wrong
4:
	addl $STEP, from
	cmpl $0x1010, from
	jb 1b
	ret

.macro X name:req, code:req
	movl $1f, op
	call run_op
	CHECK4 "\name", wrong, $0
	jmp 2f
	.balign 32
1:	\code
	ret
2:
.endm

set_pte: /* ebx: which; eax: its low bits */
	andl $~0xfff, ptab(,%rbx,8)
	or %eax, ptab(,%rbx,8)
	mov %ebx, %ecx
	shl $12, %ecx
	invlpg BASE(%rcx)
	ret

	.balign 32
fault_read: /* the third page is not there */
	mov $BASE + 0x1fd0, %edi
	xor %edx, %edx
	xor %ebx, %ebx
1:
fault_read_ip:
	mov (%rdi,%rdx,8), %rax
	add $1, %rbx
	inc %rdx
	cmp $100, %edx
	jne 1b
	int3
	.balign 32
fault_write: /* the third page is read-only */
	mov $BASE + 0x1fd8, %edi
	xor %edx, %edx
1:	mov (%rdi,%rdx,8), %rax
	inc %rax
	cmp %edx, %edx
fault_write_ip:
	mov %rax, (%rdi,%rdx,8)
	inc %rdx
	cmp $100, %edx
	jne 1b
	int3
	.balign 32
fault_between: /* it would be written if there were no #DE */
	mov $BASE + 0x2000, %edi
	xor %edx, %edx
	xor %ecx, %ecx
	mov $7, %ebx
	mov (%rdi,%rdx,8), %rax
	mov 8(%rdi,%rdx,8), %rax
	div %rcx
	mov %rax, 16(%rdi,%rdx,8)
	int3

test_main:
	call paging_on
	movl $pages + 0x3000 + 7, ptab
	movl $pages + 7, ptab + 8
	movl $pages + 0x2000 + 7, ptab + 16
	movl $pages + 0x1000 + 7, ptab + 24
	movl $pdir + 7, boot_pdpt + 8
	movl $ptab + 7, pdir
	mov %cr3, %rax
	mov %rax, %cr3

	call make_pattern
	X "copy 64, indexed", "xor %eax, %eax; 3: movups (%rsi,%rax), %xmm0; movups 16(%rsi,%rax), %xmm1; movups %xmm0, (%rdi,%rax); movups %xmm1, 16(%rdi,%rax); add $32, %rax; cmp $0x280, %rax; jb 3b"
	X "copy, a pointer each", "3: mov (%rsi), %rax; mov %rax, (%rdi); add $8, %rsi; add $8, %rdi; dec %ecx; jnz 3b"
	X "copy bytes", "3: movzbl (%rsi,%rcx), %eax; mov %al, (%rdi,%rcx); dec %rcx; jnz 3b"
	X "copy upwards into itself", "lea 3(%rsi), %rdi; 3: mov (%rsi), %eax; mov %eax, (%rdi); add $4, %rsi; add $4, %rdi; dec %ecx; jnz 3b"
	X "multiply and add", "3: mov (%rsi,%rdx,8), %rax; imul %rcx, %rax; add (%rdi,%rdx,8), %rax; mov %rax, (%rdi,%rdx,8); inc %rdx; cmp $40, %edx; jne 3b"
	X "add to memory", "3: mov (%rsi,%rdx,4), %eax; add %eax, (%rdi,%rdx,4); add $1, %rdx; cmp $90, %rdx; jb 3b"
	X "carry through memory", "xor %eax, %eax; 3: mov (%rsi,%rdx,8), %rax; adc (%r8,%rdx,8), %rax; mov %rax, (%rdi,%rdx,8); lea 1(%rdx), %rdx; dec %ecx; jnz 3b"
	X "carry through one array", "clc; 3: adc %rcx, (%rdi,%rdx,8); inc %rdx; dec %ecx; jnz 3b"
	X "downwards", "mov $50, %edx; 3: mov -8(%rsi,%rdx,8), %rax; xor %rax, -8(%rdi,%rdx,8); sub $1, %rdx; jnz 3b"
	X "downwards by pointers", "lea 0x180(%rsi), %rsi; 3: mov (%rsi), %rax; sub $12, %rsi; add %rax, (%rdi); lea 8(%rdi), %rdi; sub $1, %ecx; jg 3b"
	X "registers that stay in memory", "3: mov (%r14,%r10,8), %rax; mov %rax, (%r15,%r10,8); add 4(%r14,%r10,8), %r11; inc %r10; cmp $41, %r10; jne 3b; mov %r11, %rax"
	X "loaded into them", "3: mov (%rsi,%rdx,8), %r10; mov 8(%rsi,%rdx,8), %r11; add %r11, %r10; mov %r10, (%rdi,%rdx,8); inc %rdx; cmp $39, %edx; jne 3b; mov %r11, %rax"
	X "an index alone", "3: mov (,%rsi,1), %eax; add %eax, 4(,%rsi,1); add $4, %rsi; dec %ecx; jnz 3b"
	X "shifted by the count", "3: mov (%rsi,%rdx,8), %rax; shl %cl, %rax; xor %rax, (%rdi,%rdx,8); inc %rdx; dec %ecx; jnz 3b"
	X "count as an index", "3: mov (%rsi,%rcx,8), %rax; add %rax, (%rdi,%rcx,8); sub $1, %rcx; jns 3b"
	X "count as a base", "mov %rsi, %rcx; mov $30, %edx; 3: addb $3, (%rcx); add $17, %rcx; incb -1(%rcx); dec %edx; jnz 3b; xor %ecx, %ecx"
	X "high bytes", "3: mov (%rsi,%rdx), %ah; add 1(%rsi,%rdx), %al; mov %ah, (%rdi,%rdx); add $2, %rdx; dec %ecx; jnz 3b"
	X "two ways out", "3: mov (%rsi,%rdx), %al; cmp $0x31, %al; je 4f; mov %al, 3(%rdi,%rdx); inc %rdx; cmp $300, %edx; jne 3b; 4:"
	X "find", "3: cmpb $0x77, (%rsi,%rdx); je 4f; add $1, %rdx; cmp $700, %edx; jb 3b; 4:"
	X "fill", "3: mov %rcx, (%rdi); mov %rdx, 8(%rdi); mov %rcx, 16(%rdi); add $24, %rdi; dec %ecx; jnz 3b"
	X "fill past the last", "3: mov %ecx, -4(%rdi,%rcx,4); dec %rcx; jne 3b"
	X "push and pop", "mov %rsp, %rbx; mov %rdi, %rsp; 3: push %rcx; push (%rsi); pop %rax; add %rax, %rdx; dec %ecx; jnz 3b; mov %rbx, %rsp"
	X "pop", "mov %rsp, %rbx; mov %rdi, %rsp; 3: pop %rax; add %rax, %rdx; dec %ecx; jnz 3b; mov %rbx, %rsp"
	X "a pointer that is loaded", "3: mov (%rsi), %eax; and $0x1ff, %eax; mov (%rdi,%rax), %al; mov %al, 1(%rdi,%rdx); mov %eax, 8(%rsi); add $4, %rsi; inc %edx; dec %ecx; jnz 3b"
	X "an index that wraps", "3: mov (%rsi,%rdx), %eax; xor %eax, (%rdi,%rdx); add $0x155, %dx; and $0x3ff, %edx; dec %ecx; jnz 3b"
	X "wide steps", "3: mov (%rdi), %rax; add %rax, 0x1f8(%rdi); add $0x55, %rdi; dec %ecx; jnz 3b"
	X "exchange", "3: mov (%rsi,%rdx,2), %ax; lock xadd %ax, (%rdi,%rdx,2); inc %rdx; cmp $99, %edx; jne 3b"
	X "compare and exchange", "3: mov (%rdi,%rdx,4), %eax; mov %ecx, %ebx; lock cmpxchg %ebx, (%rdi,%rdx,4); inc %rdx; cmp $99, %edx; jne 3b; xor %eax, %eax"

	/* -- faults */
	mov $2, %ebx
	mov $6, %eax
	call set_pte
	TRY fault_read, K
	CHECK4 "read: #PF", tr_vec, $14
	CHECK4 "read: error code", tr_err, $0
	CHECK4 "read: address", tr_cr2, $BASE + 0x2000
	CHECK4 "read: RIP", tr_ip, $fault_read_ip
	CHECK4 "read: index", tr_dx, $6
	CHECK4 "read: rounds", tr_bx, $6
	mov $2, %ebx
	mov $5, %eax
	call set_pte
	movl $0x1111, pages + 0x2000
	TRY fault_write, U
	CHECK4 "write: #PF", tr_vec, $14
	CHECK4 "write: error code", tr_err, $7
	CHECK4 "write: address", tr_cr2, $BASE + 0x2000
	CHECK4 "write: RIP", tr_ip, $fault_write_ip
	CHECK4 "write: index", tr_dx, $5
	CHECK4 "write: what was loaded", tr_ax, $0x1112
	CHECK4 "write: what is there", BASE + 0x2000, $0x1111
	mov tr_fl, %eax
	and $0x8d5, %eax
	CHECK4 "write: flags", %eax, $0x44

	/* -- A and D bits */
	mov $2, %ebx
	mov $7, %eax
	call set_pte
	TRY fault_between, K
	CHECK4 "between: #DE", tr_vec, $0
	mov ptab + 16, %eax
	and $0x60, %eax
	CHECK4 "between: A, not D", %eax, $0x20
	movl $1, BASE + 0x2000
	mov ptab + 16, %eax
	and $0x60, %eax
	CHECK4 "A and D", %eax, $0x60
	ret
