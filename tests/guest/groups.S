// MODES: 64
/*
 * Several accesses off the same registers, mixed: the stack, a structure, arrays with an index; and between them, or as
 * their last, whatever needs registers of its own: calls and jumps into other pages, direct, by register and by memory,
 * returns, shifts by CL, strings, PUSHF, instructions that an engine may leave to its interpreter. A translator that
 * looks up what several accesses share must have it, and know where, in all of them.
 *
 * Each case runs six times, so that what is looked up the first time is known later on, in the kernel and in user mode,
 * where code may be made for any address. Its digest must be the same in both, and on all engines.
 */
#include "guest.inc"

	.set ROUNDS, 6
	.bss
	.balign 4096
data:	.skip 4096
digest:	.skip 8

	.section .smc, "awx"
	NATIVE
	.balign 4096
	/* in other pages than the cases: rax += what they can see */
far:	add (%rsp), %rax
	ret
	.balign 64
far_deep: push %rbx
	push %rax
	add 16(%rsp), %rax
	mov 8(%rbx), %rbx
	add %rbx, %rax
	pop %rbx
	pop %rbx
	ret
	.balign 64
far_pop: pop %rdx /* not by a RET */
	add %rdx, %rax
	jmp *%rdx
	.balign 64
far_ret: ret $16
	.balign 64
far_jump: add 8(%rbx), %rax
	jmp *%rdx
	.balign 4096

	/*
	 * One case: rbx, rsi, rdi, rbp name data, r9 counts rounds; what it leaves in rax and rdx, in data and on the stack
	 * is in the digest.
	 */
.macro CASE label:req
	.balign 64
\label:	mov $data + 512, %ebx
	lea 512(%rbx), %rsi
	lea 1024(%rbx), %rdi
	lea 1536(%rbx), %rbp
	mov $3, %ecx
	mov $ROUNDS, %r9d
	xor %eax, %eax
	xor %edx, %edx
10:
.endm
.macro END
	dec %r9d
	jnz 10b
	int3
.endm

	CASE call_far
	push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; call far; pop %rdx; pop %rdx
	END
	CASE call_far_store
	push %rax; mov %rax, (%rbx); push %rdx; mov %rax, 8(%rbx); call far; pop %rdx; pop %rdx
	END
	CASE call_far_twice
	push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; call far; push %rdx; add 16(%rbx), %rdx
	push %rsi; mov %rdx, 24(%rbx); call far_deep; add $32, %rsp
	END
	CASE call_far_index
	push %rax; mov (%rbx,%rcx,8), %rdx; push %rdx; add 8(%rbx,%rcx,8), %rdx; call far; pop %rdx; pop %rdx
	END
	CASE call_far_three
	push %rax; mov (%rbx), %rdx; push %rdx; add (%rsi), %rdx; add 8(%rbx), %rdx; add 8(%rsi), %rdx
	call far; pop %rdx; pop %rdx
	END
	CASE call_far_owed
	push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; sub $24, %rsp; xor %edx, %edx; call far
	add $24, %rsp; pop %rdx; pop %rdx
	END
	CASE call_register
	mov $far, %edx; push %rax; add (%rbx), %rax; push %rdx; add 8(%rbx), %rax; call *%rdx; pop %rdx
	pop %rdx
	END
	CASE call_memory
	movq $far, 16(%rbx); push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; call *16(%rbx)
	pop %rdx; pop %rdx
	END
	CASE call_table
	movq $far, 16(%rbx,%rcx,8); push %rax; mov (%rbx,%rcx,8), %rdx; push %rdx; add 8(%rbx,%rcx,8), %rdx
	call *16(%rbx,%rcx,8); pop %rdx; pop %rdx
	END
	CASE call_by_stack
	push $far; push %rax; add (%rbx), %rax; push %rdx; add 8(%rbx), %rax; call *16(%rsp); pop %rdx
	pop %rdx; pop %rdx
	END
	CASE call_by_r10
	mov $far, %r10d; push %rax; add (%rbx), %rax; push %r10; add 8(%rbx), %rax; call *%r10; pop %r11
	pop %r10; add %r11, %rax
	END
	CASE call_and_pop
	push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; call far_pop; pop %rdx; pop %rdx
	END
	CASE ret_n
	push %rax; mov (%rbx), %rdx; push %rdx; add 8(%rbx), %rdx; call far_ret; add %rdx, %rax
	END
	CASE ret_far
	push $11f; push $far_jump; mov (%rbx), %rax; mov $11f, %edx; push %rax; add 8(%rbx), %rax; pop %r8
	add 16(%rbx), %rax; ret; ud2; .balign 64; 11: pop %r8; add %r8, %rax
	END
	CASE jmp_memory
	movq $far_jump, 16(%rbx); push %rax; add (%rbx), %rax; push %rcx; add 8(%rbx), %rax; mov $11f, %edx
	pop %r8; jmp *16(%rbx); ud2; .balign 64; 11: pop %rdx; add %rdx, %rax
	END
	CASE branches
	push %rax; mov (%rbx), %rdx; push %rdx; xor %r8d, %r8d; js far_jump; add 8(%rbx), %rdx; push %rcx
	jo far_jump; add 16(%rbx), %rdx; pop %r8; jp 11f; mov %rdx, 24(%rbx); 11: pop %rdx; pop %r8
	add %rdx, %rax; add %r8, %rax
	END
	CASE push_memory
	push (%rbx); push 8(%rbx); mov (%rsi), %rdx; push 8(%rsi); pop 24(%rbx); push 16(%rsp); pop 16(%rsi)
	pop %rdx; pop (%rsi); add %rdx, %rax
	END
	CASE push_r10
	mov (%rbx), %r10; push %r10; mov (%rsi), %r11; push %r11; add 8(%rbx), %r10; add 8(%rsi), %r11
	push %r14; pop %r15; pop %r10; pop %r11; add %r10, %rax; add %r11, %rax
	END
	CASE off_r10
	lea (%rbx), %r10; lea (%rsi), %r11; mov (%r10), %rdx; add (%r11), %rdx; mov %rdx, 8(%r10)
	mov %rdx, 16(%r11); push %r10; add 24(%r10), %rdx; pop %r14; add 32(%r14), %rdx
	add 24(%r11,%rcx), %rdx; mov %rdx, 40(%r11,%rcx); add %rdx, %rax
	END
	CASE shift
	push %rax; mov (%rbx), %rdx; push %rdx; shl %cl, %rdx; add 8(%rbx), %rdx; rolq %cl, 16(%rbx)
	push %rdx; add 16(%rbx), %rdx; shrdq %cl, %rdx, 24(%rbx); pop %rdx; pop %r8; pop %r10; add %rdx, %rax
	END
	CASE bits
	push %rax; mov (%rbx), %rdx; push %rdx; btsq $3, 8(%rbx); bts %rcx, 16(%rbx); add 8(%rbx), %rdx
	push %rdx; btc %rdx, %rax; pop %rdx; pop %r8; pop %r8; add %rdx, %rax
	END
	CASE high_bytes
	push %rax; mov (%rbx), %dh; push %rdx; mov %ah, 1(%rbx); add 2(%rbx), %dh; mov %ch, 3(%rbx); pop %rdx
	pop %r8; mov %bh, %ah; add %rdx, %rax
	END
	CASE flags
	push %rax; mov (%rbx), %rdx; pushf; add 8(%rbx), %rdx; pushf; pop %r8; and $0x8d5, %r8; add %r8, %rax
	popf; pop %r8; adc 16(%rbx), %rdx; mov %rdx, 24(%rbx)
	END
	CASE atomic
	push %rax; mov (%rbx), %rdx; lock xadd %rdx, 8(%rbx); push %rdx; xchg %rdx, 16(%rbx)
	lock cmpxchg %rdx, 24(%rbx); push %rax; lock incq 32(%rbx); pop %rdx; pop %r8; pop %r8; add %rdx, %rax
	END
	CASE strings
	push %rax; mov (%rbx), %rdx; push %rsi; push %rdi; add 8(%rbx), %rdx; movsq; add (%rsi), %rdx; stosq
	add 8(%rsi), %rdx; lodsq; push %rdx; cmpsb; pop %rdx; pop %rdi; pop %rsi; pop %r8; mov %rdx, 16(%rbx)
	add %rdx, %rax
	END
	CASE repeats
	push %rax; mov (%rbx), %rdx; push %rcx; push %rsi; push %rdi; add 8(%rbx), %rdx; rep movsb; push %rdx
	add 8(%rsi), %rdx; mov 24(%rsp), %rcx; rep stosq; pop %rdx; pop %rdi; pop %rsi; pop %rcx; pop %r8
	add %rdx, %rax; add 16(%rbx), %rax
	END
	CASE interpreted
	push %rax; mov (%rbx), %rdx; mov (%rsi), %r8; xlat; push %rdx; add 8(%rbx), %rdx; add 8(%rsi), %r8
	xlat; push %r8; add 16(%rbx), %rdx; add 16(%rsi), %r8; xlat; mov %rdx, 24(%rbx); mov %r8, 24(%rsi)
	pop %r8; pop %r8; pop %r8; add %rdx, %rax
	END
	/* more look-ups in one block than it has groups */
	CASE interpreted_often
	.rept 6; xlat; mov (%rbx), %rdx; add (%rsi), %rdx; add (%rdi), %rdx; add 8(%rbp), %rdx; push %rdx
	pop %r8; add 8(%rbx,%rcx), %rax; add 8(%rsi,%rcx), %rax; .endr; mov %rdx, 8(%rbx)
	END
	CASE frame
	push %rbp; mov %rsp, %rbp; sub $32, %rsp; mov %rax, -8(%rbp); mov (%rbx), %rdx; mov %rdx, -16(%rbp)
	add 8(%rbx), %rdx; push %rdx; call far; add -8(%rbp), %rax; leave
	END
	CASE unroll_free
	mov (%rbx), %rdx; add %rdx, 8(%rbx); add $16, %rbx; mov -8(%rbx), %rdx; add %rdx, %rax
	END
	CASE divide
	push %rax; mov (%rbx), %r8; push %rdx; xor %edx, %edx; mov $7, %r11d; mov 8(%rbx), %rax; div %r11
	mov %rdx, 16(%rbx); mulq 24(%rbx); pop %rdx; pop %r8; add %rdx, %rax
	END
	CASE wide
	push %rax; mov (%rbx), %rdx; movups (%rsi), %xmm0; push %rdx; movups %xmm0, 16(%rbx)
	add 8(%rbx), %rdx; paddq 16(%rsi), %xmm0; movq %xmm0, 24(%rbx); push %rdx; movq %xmm0, %r8
	add %r8, %rax; add $24, %rsp
	END

	.text
	NATIVE
	/* The same data and stack for each run. */
prepare: push %rdi
	mov $data, %edi
	mov $512, %ecx
	mov $0x123456789abcdef1, %rax
1:	mov %rax, (%rdi)
	imul $0x35a7, %rax, %rax
	add $0x1234567, %rax
	add $8, %rdi
	dec %ecx
	jnz 1b
	mov $snip_stack_top - 512, %edi
	mov $64, %ecx
	xor %eax, %eax
	rep stosq
	pop %rdi
	ret

	/* What a run has left, into rax: registers, data, the part of the stack that no exception is pushed to. */
digest_of: mov tr_ax, %rax
	imul $31, %rax, %rax
	add tr_dx, %rax
	imul $31, %rax, %rax
	add tr_sp, %rax
	mov $data, %esi
	mov $512, %ecx
1:	rol $7, %rax
	add (%rsi), %rax
	imul $0x35a7, %rax, %rax
	add $8, %rsi
	dec %ecx
	jnz 1b
	ret

.macro BOTH label:req
	call prepare
	TRY \label, K
	CHECK4 "\label in the kernel", tr_vec, $VBP
	call digest_of
	mov %rax, digest
	VALUE "\label", digest
	call prepare
	TRY \label, U
	CHECK4 "\label in user mode", tr_vec, $VBP
	call digest_of
	CHECK "\label: the same in both", %rax, digest
.endm

test_main:
	call paging_on
	.irp case, call_far, call_far_store, call_far_twice, call_far_index, call_far_three, call_far_owed, call_register, call_memory, \
		call_table, call_by_stack, call_by_r10, call_and_pop, ret_n, ret_far, jmp_memory, branches, push_memory, push_r10, \
		off_r10, shift, bits, high_bytes, flags, atomic, strings, repeats, interpreted, interpreted_often, frame, \
		unroll_free, divide, wide
	BOTH \case
	.endr
	ret
