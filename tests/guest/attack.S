// MODES: 64
// TIMEOUT: 60
// QEMU-SKIP: reads of memory that is nowhere are up to the machine
/*
 * A guest that looks for the host: at every kind of address it reads, writes, pushes, calls and returns, with that address
 * unmapped (nothing but the right fault may happen), and with every address of the machine mapped to one page of its own
 * (nothing but that page may be read, written or run, so also where the monitor has its code and its tables). Code is
 * rewritten through one alias and run through another, segment bases are anything, page tables are garbage and loops.
 * Canaries around what may change must stay.
 */
#include "guest.inc"
#include "attack.inc"

	.set ALL, 7
	.set ROUNDS, 4000
	.set FETCH, 0x10

	.bss
	.balign 4096
canary0: .skip 4096
page:	.skip 4096
canary1: .skip 4096
all_pt:	.skip 4096
all_pd:	.skip 4096
all_pdpt: .skip 4096
junk:	.skip 4096 * 4
canary2: .skip 4096
	.data
	.balign 8
seed:	.quad 0x9e3779b97f4a7c15
target:	.quad 0
hash:	.quad 0
	/* where a host process has what it is made of, and ends of what there is */
kinds:	.quad 0x0000555555554000, 0x00007ffff7fc0000, 0x00007fffffffe000, 0x0000700000000000, 0x0000000040001000
	.quad 0x00000000fee00000, 0x00000000fffff000, 0x0000000100000000, 0x0000007ffffff000
	.quad 0xffff800000000000, 0xffffffff80000000, 0xffffffffff600000, 0xfffffffffffff000, 0x0000800000000000
	.quad 0x8000000000000000, 0xdead000000000000, 0xffff7ffffffff000, 0x00007ffffffff000
	.set KINDS, (. - kinds) / 8

	.text
	/* RAX: the next random number. Keeps the rest. */
random:	mov seed, %rax
	push %rcx
	XORSHIFT %rax, %rcx, 13, 7, 17
	mov %rax, seed
	pop %rcx
	ret

	/* RAX: an address of some kind that is not in the low GiB; half of them as a host's process has them. 8-aligned. */
address:
	push %rdx
1:	call random
	mov %rax, %rdx
	call random
	and $~7, %rax
	test $1, %dl
	jz 2f
	/* of a kind, up to a GiB from it */
	and $0x3ffffff8, %eax
	shr $32, %rdx
3:	cmp $KINDS, %edx
	jb 4f
	shr $1, %edx
	jmp 3b
4:	xor kinds(,%rdx,8), %rax
	jmp 5f
2:	test $2, %dl
	jz 5f
	shl $17, %rax /* canonical */
	sar $17, %rax
	and $~7, %rax
5:	mov %rax, %rdx
	shr $30, %rdx
	jz 1b
	pop %rdx
	ret

	/* ZF: RAX is canonical */
canonical:
	push %rax
	sar $47, %rax
	inc %rax
	cmp $1, %rax
	ja 1f
	pop %rax
	cmp %eax, %eax
	ret
1:	pop %rax
	test %rsp, %rsp
	ret

	/* What is tried with `target` unmapped, in ring 3. */
t_load:	mov target, %rax
	mov (%rax), %rcx
	int3
t_byte:	mov target, %rax
	movzbl 7(%rax), %ecx
	int3
t_store: mov target, %rax
	mov %rcx, (%rax)
	int3
t_rmw:	mov target, %rax
	lock xadd %rcx, (%rax)
	int3
t_vector: mov target, %rax
	movups %xmm0, (%rax)
	int3
t_string: mov target, %rdi
	mov $64, %ecx
	rep stosb
	int3
t_push:	mov target, %rsp
	push %rax
	int3
t_call:	mov target, %rax
	call *%rax
	int3
t_jump:	jmp *target
	int3
t_return: push target
	ret
	int3
t_index: mov target, %rax
	mov $8, %ecx
	lea -64(%rax), %rax
	mov (%rax,%rcx,8), %edx
	int3
t_fill:	mov $0x7f0000000ff0, %rdi
	movq $1, (%rdi) /* a TLB has it then */
	mov $0x2000000000000002, %rcx
	rep stosq
	int3
t_copy:	mov $0x7f0000000ff0, %rdi
	movq $1, (%rdi)
	mov $page, %esi
	mov (%rsi), %rax
	mov $0x2000000000000002, %rcx
	rep movsq
	int3
	/* and where it faults: at the address itself; a byte behind; 8 below; as a fetch there */
	.data
	.balign 4
tries:	.long t_load, 0, t_byte, 7, t_store, 0, t_rmw, 0, t_vector, 0, t_string, 0, t_push, -8, t_index, 0
	.long t_call, FETCH, t_jump, FETCH, t_return, FETCH
	.set TRIES, (. - tries) / 8
	.text

	/* All tries at `target`; *bad counts what is not the right fault. */
try_all:
	xor %ebp, %ebp
1:	mov tries(,%rbp,8), %eax
	movslq tries + 4(,%rbp,8), %r14
	mov %eax, try_row + ROW_CODE
	movl $0, try_row + ROW_END
	movb $U, try_row + ROW_MODE
	movl $2, try_row + ROW_FL
	movl $0, try_row + ROW_CR4
	mov $try_row, %esi
	push %rbp
	push %r14
	call run_snippet
	pop %r14
	pop %rbp
	mov target, %rax
	cmp $FETCH, %r14
	je 2f
	add %r14, %rax
2:	mov $VGP, %edx
	mov tries(,%rbp,8), %ecx
	cmp $t_push, %ecx
	jne 3f
	mov $VSS, %edx
3:	call canonical
	jne 4f
	mov $VPF, %edx
	cmp tr_cr2, %rax
	jne 5f
4:	cmp tr_vec, %rdx
	je 6f
5:	incl bad
	cmpl $5, bad
	ja 6f
	PUTS "# at "
	PUTHEX target
	PUTS " try "
	PUTHEX %rbp
	PUTS " vec "
	PUTHEX tr_vec
	PUTS " cr2 "
	PUTHEX tr_cr2
	NEWLINE
6:	inc %ebp
	cmp $TRIES, %ebp
	jb 1b
	ret

	/* Every address but the low GiB is `page` (EAX: its rights, or 0 for none at all). */
map_all:
	lea page(%rax), %edx
	test %eax, %eax
	jnz 1f
	xor %edx, %edx
1:	xor %ecx, %ecx
2:	mov %rdx, all_pt(,%rcx,8)
	movq $all_pt + ALL, all_pd(,%rcx,8)
	movq $all_pd + ALL, all_pdpt(,%rcx,8)
	test %ecx, %ecx
	jz 3f
	movq $all_pdpt + ALL, boot_pml4(,%rcx,8)
	movq $all_pd + ALL, boot_pdpt(,%rcx,8)
3:	inc %ecx
	cmp $512, %ecx
	jb 2b
	mov %cr3, %rax
	mov %rax, %cr3
	ret

	/* page: at each 8 bytes a number that follows from where */
fill_numbers:
	xor %ecx, %ecx
1:	imul $0x9e3779b1, %ecx, %eax
	mov %rax, page(%rcx)
	add $8, %ecx
	cmp $4096, %ecx
	jb 1b
	ret
	/* page: at each 16 bytes a function: rbx++ */
fill_code:
	xor %ecx, %ecx
1:	movl $0xc3c3ff48, page(%rcx) /* inc %rbx; ret */
	movb $0xcc, page + 4(%rcx)
	add $16, %ecx
	cmp $4096, %ecx
	jb 1b
	ret

	/* an address that is mapped by map_all: canonical, its 16 bytes in one page */
mapped_address:
	call address
	shl $16, %rax
	sar $16, %rax
	and $~15, %rax
	push %rax
	sar $30, %rax
	pop %rax
	jz mapped_address
	ret

.macro VERDICT name:req
	CHECK_CANARIES canary0, canary1, canary2
	CHECK "\name", bad, $0
	movq $0, bad
.endm

test_main:
	FILL_CANARIES canary0, canary1, canary2

	/* -- nothing is mapped: a fault, and the right one */
	xor %eax, %eax
	call map_all
	xor %ebx, %ebx
1:	mov kinds(,%rbx,8), %rax
	mov %rax, target
	call try_all
	inc %ebx
	cmp $KINDS, %ebx
	jb 1b
	mov $300, %ebx
1:	call address
	mov %rax, target
	call try_all
	dec %ebx
	jnz 1b
	VERDICT "every access to what is not mapped faults, and there"

	/* -- strings whose length in bytes wraps round to little: as far as there is memory */
	movq $page + ALL, all_pt
	mov %cr3, %rax
	mov %rax, %cr3
.irp where, t_fill, t_copy
	movq $0, page + 0xff0
	TRY \where, U
	CHECK4 "\where with a length that wraps: a page fault", tr_vec, $VPF
	mov $0x7f0000001000, %rax
	CHECK "\where: where the memory ends", tr_cr2, %rax
	mov $0x2000000000000000, %rax
	CHECK "\where: what is left of the count", tr_cx, %rax
.endr
	VERDICT "nothing else was written"

	/* -- everything is mapped to one page: it is what is read, and what is written */
	mov $ALL, %eax
	call map_all
	call fill_numbers
	mov $ROUNDS, %ebx
1:	call mapped_address
	mov %eax, %ecx
	and $0xfff, %ecx
	imul $0x9e3779b1, %ecx, %edx
	mov (%rax), %rsi
	cmp %rdx, %rsi
	jne 2f
	pxor %xmm0, %xmm0
	movups (%rax), %xmm0
	movq %xmm0, %rsi
	cmp %rdx, %rsi
	jne 2f
	xor %edi, %edi
	lock xadd %rdi, (%rax)
	cmp %rdx, %rdi
	je 3f
2:	incl bad
3:	dec %ebx
	jnz 1b
	VERDICT "reads at every kind of address: the guest's own page"
	mov $ROUNDS, %ebx
1:	call mapped_address
	mov %rax, %rdi
	call random
	mov %rax, %rdx
	mov %edi, %ecx
	and $0xfff, %ecx
	mov %rdx, (%rdi)
	cmp %rdx, page(%rcx)
	jne 2f
	not %rdx
	mov %rsp, %rsi
	lea 8(%rdi), %rsp
	push %rdx
	mov %rsi, %rsp
	cmp %rdx, page(%rcx)
	jne 2f
	mov %rdi, %rsi
	mov $16, %ecx
	mov $0x5a, %al
	rep stosb
	mov %esi, %ecx
	and $0xfff, %ecx
	mov $0x5a5a5a5a5a5a5a5a, %rax
	cmp %rax, page(%rcx)
	jne 2f
	cmp %rax, page + 8(%rcx)
	je 3f
2:	incl bad
3:	dec %ebx
	jnz 1b
	VERDICT "writes and pushes at every kind of address: the guest's own page"

	/* -- and what is run, so also where the translations are */
	call fill_code
	xor %ebx, %ebx
	mov $ROUNDS, %ebp
1:	call mapped_address
	call *%rax
	call mapped_address
	push $2f
	push %rax
	ret
2:	call mapped_address
	push $3f
	jmp *%rax
3:	dec %ebp
	jnz 1b
	CHECK "calls, returns and jumps to every kind of address run the guest's own code", %rbx, $(3 * ROUNDS)

	/* -- code is rewritten through one alias, and run through another */
	mov $ROUNDS, %ebp
1:	call random
	mov %rax, %r12
	and $0xff0, %r12d
	call mapped_address
	and $~0xfff, %rax
	lea (%rax,%r12), %r13
	call mapped_address
	and $~0xfff, %rax
	lea (%rax,%r12), %r14
	call random
	movb $0xb8, (%r13) /* mov $..., %eax; ret */
	mov %eax, 1(%r13)
	movb $0xc3, 5(%r13)
	mov %eax, %ebx
	call *%r14
	cmp %ebx, %eax
	je 2f
	incl bad
2:	dec %ebp
	jnz 1b
	VERDICT "code that was just written through another alias is what runs"

	/* -- segment bases of all kinds, wrapping round */
	call fill_numbers
	mov $ROUNDS, %ebp
1:	call mapped_address
	mov %rax, %r12
	call random
	shl $16, %rax
	sar $16, %rax
	mov %rax, %rbx
	mov %rax, %rdx
	shr $32, %rdx
	mov $0xc0000100, %ecx
	wrmsr
	mov $0xc0000101, %ecx
	wrmsr
	mov %r12, %rax
	sub %rbx, %rax
	mov %fs:(%rax), %rsi
	lea -64(%rax), %rdx
	mov $8, %ecx
	mov %gs:(%rdx,%rcx,8), %rdi
	mov %r12d, %ecx
	and $0xfff, %ecx
	cmp page(%rcx), %rsi
	jne 2f
	cmp %rsi, %rdi
	jne 2f
	movq $0x77, %fs:(%rax)
	cmpq $0x77, page(%rcx)
	jne 2f
	mov %rsi, %gs:(%rax)
	jmp 3f
2:	incl bad
3:	dec %ebp
	jnz 1b
	VERDICT "segment bases of all kinds reach what they name"
	xor %eax, %eax
	xor %edx, %edx
	mov $0xc0000100, %ecx
	wrmsr
	mov $0xc0000101, %ecx
	wrmsr

	/* -- page tables that are garbage: of themselves, of memory that is nowhere, of devices */
	xor %ebx, %ebx
1:	call random
	mov %rax, %rcx
	and $7, %ecx
	jmp *walks(,%rcx,8)
w_self:	and $0x3, %eax
	shl $12, %eax
	add $junk, %eax
	or $ALL, %eax
	jmp 2f
w_large: or $0x87, %rax
	mov $0xfffffe00001fe087, %rcx
	and %rcx, %rax
	mov $0x8000003000000000, %rcx
	or %rcx, %rax
	jmp 2f
w_nowhere: mov $0x0000003ffffff007, %rcx
	and %rcx, %rax
	mov $0x0000002000000007, %rcx
	or %rcx, %rax
	jmp 2f
w_device: mov $0xfee00007, %eax
	jmp 2f
w_rom:	mov $0xfffff007, %eax
	jmp 2f
w_reserved: bts $50, %rax
	or $1, %rax
	jmp 2f
w_end:	mov $0x0ffff007, %eax /* the last page of RAM, and behind it */
	jmp 2f
w_none:	and $~1, %rax
2:	mov %rax, junk(,%rbx,8)
	inc %ebx
	cmp $2048, %ebx
	jb 1b
	movq $junk + ALL, boot_pml4 + 256 * 8
	movq $junk + 4096 + ALL, boot_pml4 + 257 * 8
	mov $ROUNDS, %ebp
1:	call random
	shl $24, %rax
	shr $24, %rax
	bts $47, %rax /* entries 256 and 257 */
	shl $16, %rax
	sar $16, %rax
	and $~7, %rax
	mov %rax, target
	call walk_one
	dec %ebp
	jnz 1b
	PUTS "# what it faults with 0x" /* with no RAM there, machines differ */
	PUTHEX hash
	NEWLINE
	VERDICT "page tables of garbage harm nobody else"
	ret

	.data
	.balign 8
walks:	.quad w_self, w_large, w_nowhere, w_device, w_rom, w_reserved, w_end, w_none
	.text
walk_one:
	TRY t_load, U
	mov tr_vec, %rax
	mov tr_err, %rcx
	shl $8, %rcx
	add %rcx, %rax
	imul $31, hash, %rdx
	add %rdx, %rax
	mov %rax, hash
	ret
