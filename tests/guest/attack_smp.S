// MODES: 64
// CPUS: 4
// TIMEOUT: 90
// QEMU-SKIP: reads of memory that is nowhere are up to the machine
/*
 * Page tables that change under the walker: two processors write entries of both levels without end and without any
 * flush, two others read, write and run what these map. An access may see any of the mappings that there were, or
 * fault; it must not reach a page that none of them named. All stores of 8 bytes have MARK in their low half, so a torn
 * or misplaced one shows, and so do the pages around.
 */
#include "guest.inc"
#include "smp.inc"
#include "attack.inc"

	.set MARK, 0x5a5a5a5a
	.set VIEW, 0x40000000
	.set CODE, 0x40400000 /* not the next entry of the directory: strings run over the end of the view */
	.set RECOVER, 16 /* gs: where a page fault goes on */
	.set ROUNDS, 20000
	.set NOWHERE, 0x2000000000

	.bss
	.balign 4096
canary0: .skip 4096
data_a:	.skip 4096
canary1: .skip 4096
data_b:	.skip 4096
canary2: .skip 4096
code_a:	.skip 4096
canary3: .skip 4096
code_b:	.skip 4096
canary4: .skip 4096
table_a: .skip 4096
table_b: .skip 4096
code_table_a: .skip 4096
code_table_b: .skip 4096
directory: .skip 4096
canary5: .skip 4096
	.data
	.balign 128
victims: .skip 128 /* those that are still at it */
faults:	.skip 128
	.balign 8
data_entries: .quad data_a + 7, data_b + 7, data_a + 5, 0, data_b + 3, NOWHERE + 7, 0x1ffffff000 + 7, data_a + 7
code_entries: .quad code_a + 7, code_b + 7, code_a + 5, 0, code_b + 5, code_a + 7, 0, code_b + 7
	/* of the directory: the same once more in other tables, nothing, a reserved bit */
dir_entries: .quad table_a + 7, table_b + 7, 0, table_a + 5, table_b + 7, table_a + 7, table_a + 7 + (1 << 50), table_b + 5
code_dir_entries: .quad code_table_a + 7, code_table_b + 7, 0, code_table_a + 5, code_table_b + 7, code_table_a + 7
	.quad code_table_b + 7 + (1 << 50), code_table_b + 5

	.text
	/* r15: this processor's seed -> rax */
random:	XORSHIFT %r15, %rax, 13, 7, 17
	mov %r15, %rax
	ret

on_page_fault:
	lock incl faults
	add $8, %rsp
	push %rax
	mov %gs:RECOVER, %rax
	mov %rax, 8(%rsp)
	pop %rax
	iretq

.macro RECOVERS where:req
	movq $\where, %gs:RECOVER
.endm

	/* edi: which processor */
job:	mov $0x9e3779b97f4a7c15, %r15
	imul %rdi, %r15
	add $0x1234567, %r15
	mov %rsp, %r12 /* a fault in a call leaves its return address */
	cmp $2, %edi
	jae victim
attacker:
	call random
	mov %eax, %ecx
	shr $8, %rax
	mov %eax, %edx
	and $7, %edx /* which entry */
	shr $3, %eax
	and $511, %eax /* where */
	test $0xf0, %cl
	jz 2f
	test $1, %cl
	jz 1f
	mov data_entries(,%rdx,8), %rsi
	mov %rsi, table_a(,%rax,8)
	mov data_entries(,%rdx,8), %rsi
	xor $511, %eax
	mov %rsi, table_b(,%rax,8)
	jmp 3f
1:	mov code_entries(,%rdx,8), %rsi
	mov %rsi, code_table_a(,%rax,8)
	xor $511, %eax
	mov %rsi, code_table_b(,%rax,8)
	jmp 3f
2:	mov dir_entries(,%rdx,8), %rsi
	mov %rsi, directory
	mov code_dir_entries(,%rdx,8), %rsi
	mov %rsi, directory + 16
3:	cmpl $0, victims
	jne attacker
	ret

victim:	mov $ROUNDS, %r14d
again:	RECOVERS next
	call random
	mov %eax, %ebx
	mov %ebx, %ecx
	shr $20, %ecx
	and $7, %ecx
	and $0x1ffff8, %ebx
	lea VIEW(%rbx), %rbx
	mov $MARK, %edx
	jmp *kinds(,%rcx,8)
k_load:	mov (%rbx), %eax
	cmp %edx, %eax
	je next
	cmp $-1, %eax /* nowhere */
	je next
	lock incl bad
	jmp next
k_store: bts $40, %rdx
	mov %rdx, (%rbx)
	jmp next
k_xadd:	shl $32, %rax
	lock xadd %rax, (%rbx)
	jmp next
k_string:
	mov %rdx, %rax
	mov %rbx, %rdi
	mov $600, %ecx /* into the next page, and the one behind */
	rep stosq
	jmp next
k_copy:	mov $data_a, %esi
	mov %rbx, %rdi
	mov $64, %ecx
	rep movsq
	jmp next
k_pair:	movq %rdx, %xmm0
	punpcklqdq %xmm0, %xmm0
	and $~15, %rbx
	movups %xmm0, (%rbx)
	jmp next
k_cross: /* eight bytes in two pages: half of them, if the second faults, must not be there */
	or $0xffc, %ebx
	mov (%rbx), %rax
	jmp next
k_call:	mov %rbx, %rax
	add $CODE - VIEW, %rax
	and $~15, %rax
	xor %ecx, %ecx
	call *%rax
	cmp $0x0a0a0a0a, %ecx
	je next
	cmp $0x0b0b0b0b, %ecx
	je next
	lock incl bad
next:	mov %r12, %rsp
	dec %r14d
	jnz again
	lock decl victims
	ret
	.data
	.balign 8
kinds:	.quad k_load, k_store, k_xadd, k_string, k_copy, k_pair, k_cross, k_call
	.text

	/* edi: a page, eax: what its functions say */
fill_code:
	xor %ecx, %ecx
1:	movb $0xb9, (%rdi,%rcx) /* mov $..., %ecx; ret */
	mov %eax, 1(%rdi,%rcx)
	movb $0xc3, 5(%rdi,%rcx)
	add $16, %ecx
	cmp $4096, %ecx
	jb 1b
	ret

test_main:
	SETIDT 14, on_page_fault
	mov $4, %edi
	call smp_start
	FILL_CANARIES canary0, canary1, canary2, canary3, canary4, canary5
	mov $MARK, %eax
	mov $data_a, %edi
	call fill_page
	mov $data_b, %edi
	call fill_page
	mov $code_a, %edi
	mov $0x0a0a0a0a, %eax
	call fill_code
	mov $code_b, %edi
	mov $0x0b0b0b0b, %eax
	call fill_code
	movq $directory + 7, boot_pdpt + 8
	movl $2, victims
	SMP_RUN job, 4
	CHECK4 "what is read and run is what was mapped", bad, $0
	CHECK_CANARIES canary0, canary1, canary2, canary3, canary4, canary5
	CHECK4 "the pages around are as they were", bad, $0
	mov $MARK, %eax
	mov $8, %ecx
	mov $data_a, %edi
	call check_page
	mov $data_b, %edi
	call check_page
	CHECK4 "every store is whole and where it belongs", bad, $0
	mov $code_a, %edi
	call check_code
	mov $code_b, %edi
	call check_code
	CHECK4 "code that could be run but not written is as it was", bad, $0
	cmpl $100, faults
	setae %al
	movzbl %al, %eax
	CHECK4 "there were page faults", %eax, $1
	PUTS "# page faults 0x"
	PUTHEX faults
	NEWLINE
	ret
check_code:
	xor %ecx, %ecx
1:	cmpb $0xb9, (%rdi,%rcx)
	jne 2f
	cmpb $0xc3, 5(%rdi,%rcx)
	je 3f
2:	incl bad
3:	add $16, %ecx
	cmp $4096, %ecx
	jb 1b
	ret
