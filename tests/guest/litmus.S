// MODES: 64
// CPUS: 4
// HOST-CPUS: 2
// TIMEOUT: 60
/*
 * Litmus tests of x86-TSO: what several processors may see of each other's stores. Each is run a fixed number
 * of times, in batches of instances with variables of their own, so that processors are at about the same
 * place; outcomes that the model forbids must never be there, how often the interesting allowed ones were is
 * told. Names and outcomes as in Owens, Sarkar, Sewell, "A Better x86 Memory Model: x86-TSO", and SDM 3A 8.2.3.
 *
 * A thread's code has rsi at its instance: X, Y, Z in lines of their own. What it reads goes to eax and ebx, and
 * from there to R0, R1 (thread 0), R2, R3 (thread 1), and so on.
 */
#include "guest.inc"
#include "smp.inc"

	.set INSTANCES, 128
	.set ROUNDS, 100
	.set INSTANCE, 256

	.set X, 0
	.set Y, 64
	.set Z, 128
	.set R0, 192
	.set R1, 196
	.set R2, 200
	.set R3, 204
	.set R4, 208
	.set R5, 212
	.set R6, 216
	.set R7, 220

	.bss
	.balign 4096
instances: .skip INSTANCES * INSTANCE
	/* the test that runs */
thread_code: .skip 32
condition: .skip 8
seen:	.skip 8
	.text

	/* edi: which thread */
litmus_job:
	push %r12
	push %r13
	push %r14
	mov %edi, %r12d
	mov thread_code(,%rdi,8), %r13
	mov $ROUNDS, %r14d
1:	call smp_barrier
	test %r12d, %r12d
	jnz 2f
	call clear
2:	call smp_barrier
	/* one begins a little earlier, then the other */
	mov %r14d, %ecx
	test $1, %r12d
	jz 3f
	neg %ecx
3:	and $31, %ecx
4:	dec %ecx
	jns 4b
	mov $instances, %esi
	mov $INSTANCES, %ecx
	call *%r13
	call smp_barrier
	test %r12d, %r12d
	jnz 5f
	call count
5:	dec %r14d
	jnz 1b
	pop %r14
	pop %r13
	pop %r12
	ret

clear:	mov $instances, %edi
	mov $INSTANCES * INSTANCE / 8, %ecx
	xor %eax, %eax
	rep stosq
	ret
count:	mov $instances, %esi
	mov $INSTANCES, %ecx
1:	call *condition
	jnz 2f
	incl seen
2:	add $INSTANCE, %rsi
	dec %ecx
	jnz 1b
	ret

.macro THREAD number:req, code:req
	.pushsection .snip, "ax"
	.balign 64
800:
	xor %eax, %eax
	xor %ebx, %ebx
	\code
	mov %eax, 192 + 8 * \number(%rsi)
	mov %ebx, 196 + 8 * \number(%rsi)
	add $INSTANCE, %rsi
	dec %ecx
	jnz 800b
	ret
	.popsection
	movq $800b, thread_code + 8 * \number
.endm
	/* The interesting outcome: up to six "variable, value" pairs. */
.macro WHEN v1:req, w1:req, v2, w2, v3, w3, v4, w4
	.pushsection .snip, "ax"
801:	cmpl $\w1, \v1(%rsi)
	.ifnb \v2
	jne 802f
	cmpl $\w2, \v2(%rsi)
	.endif
	.ifnb \v3
	jne 802f
	cmpl $\w3, \v3(%rsi)
	.endif
	.ifnb \v4
	jne 802f
	cmpl $\w4, \v4(%rsi)
	.endif
802:	ret
	.popsection
	movq $801b, condition
.endm
.macro LITMUS threads:req
	movl $0, seen
	SMP_RUN litmus_job, \threads
.endm
.macro FORBIDDEN name:req, threads:req
	LITMUS \threads
	CHECK4 "\name", seen, $0
.endm
.macro ALLOWED name:req, threads:req
	LITMUS \threads
	PUTS "# \name: allowed, seen 0x"
	PUTHEX seen
	PUTS " times of 0x"
	PUTHEX $(ROUNDS * INSTANCES)
	NEWLINE
.endm

test_main:
	mov $4, %edi
	call smp_start

	/* -- SB: a load may pass an earlier store to another place */
	THREAD 0, "movl $1, X(%rsi); mov Y(%rsi), %eax"
	THREAD 1, "movl $1, Y(%rsi); mov X(%rsi), %eax"
	WHEN R0, 0, R2, 0
	ALLOWED "SB", 2
	THREAD 0, "movl $1, X(%rsi); mfence; mov Y(%rsi), %eax"
	ALLOWED "SB, one MFENCE", 2
	THREAD 1, "movl $1, Y(%rsi); mfence; mov X(%rsi), %eax"
	FORBIDDEN "SB, MFENCE", 2
	THREAD 0, "movl $1, X(%rsi); lock addl $0, (%rsp); mov Y(%rsi), %eax"
	THREAD 1, "movl $1, Y(%rsi); lock addl $0, (%rsp); mov X(%rsi), %eax"
	FORBIDDEN "SB, LOCK ADD to the stack", 2
	THREAD 0, "mov $1, %edx; xchg %edx, X(%rsi); mov Y(%rsi), %eax"
	THREAD 1, "mov $1, %edx; xchg %edx, Y(%rsi); mov X(%rsi), %eax"
	FORBIDDEN "SB, stores by XCHG", 2
	THREAD 0, "movl $1, X(%rsi); xor %eax, %eax; push %rbx; push %rcx; cpuid; pop %rcx; pop %rbx; mov Y(%rsi), %eax"
	THREAD 1, "movl $1, Y(%rsi); mfence; mov X(%rsi), %eax"
	FORBIDDEN "SB, CPUID and MFENCE", 2
	THREAD 0, "movl $1, X(%rsi); xor %edx, %edx; lock xaddl %edx, Z(%rsi); mov Y(%rsi), %eax"
	THREAD 1, "movl $1, Y(%rsi); mov $0, %eax; xor %edx, %edx; lock cmpxchg %edx, X(%rsi)"
	FORBIDDEN "SB, LOCK XADD and a load by LOCK CMPXCHG", 2
	THREAD 0, "movl $1, X(%rsi); movnti %ecx, Z(%rsi); sfence; mov Y(%rsi), %eax"
	THREAD 1, "movl $1, Y(%rsi); sfence; mov X(%rsi), %eax"
	ALLOWED "SB, SFENCE does not help", 2
	THREAD 0, "movb $1, X(%rsi); mov Y(%rsi), %eax"
	THREAD 1, "movq $1, Y(%rsi); movzbl X(%rsi), %eax"
	ALLOWED "SB, sizes mixed", 2
	THREAD 0, "movb $1, X(%rsi); mfence; mov Y(%rsi), %eax"
	THREAD 1, "movq $1, Y(%rsi); mfence; movzbl X(%rsi), %eax"
	FORBIDDEN "SB, sizes mixed, MFENCE", 2

	/* -- MP: stores in order, loads in order */
	THREAD 0, "movl $1, X(%rsi); movl $1, Y(%rsi)"
	THREAD 1, "mov Y(%rsi), %eax; mov X(%rsi), %ebx"
	WHEN R2, 1, R3, 0
	FORBIDDEN "MP", 2
	THREAD 0, "movl $1, X(%rsi); lock incl Y(%rsi)"
	FORBIDDEN "MP, LOCK INC", 2
	THREAD 0, "movw $1, X(%rsi); movq $1, Y(%rsi)"
	THREAD 1, "movzbl Y(%rsi), %eax; mov X(%rsi), %rbx"
	FORBIDDEN "MP, sizes mixed", 2
	THREAD 0, "movd %ecx, %xmm0; movd %xmm0, X(%rsi); movl $1, Y(%rsi)"
	THREAD 1, "mov Y(%rsi), %eax; mov X(%rsi), %ebx"
	FORBIDDEN "MP, a vector store", 2
	THREAD 0, "push %rcx; push %rsi; mov %rsi, %rdi; mov $1, %eax; mov $4, %ecx; rep stosl; pop %rsi; pop %rcx; movl $1, Y(%rsi); mov $0, %eax"
	FORBIDDEN "MP, REP STOS before the flag", 2
	THREAD 0, "movnti %ecx, X(%rsi); sfence; movl $1, Y(%rsi)"
	FORBIDDEN "MP, MOVNTI and SFENCE", 2
	THREAD 0, "push $1; popq X(%rsi); movl $1, Y(%rsi)"
	FORBIDDEN "MP, POP to memory", 2

	/* -- LB: a store does not pass an earlier load */
	THREAD 0, "mov X(%rsi), %eax; movl $1, Y(%rsi)"
	THREAD 1, "mov Y(%rsi), %eax; movl $1, X(%rsi)"
	WHEN R0, 1, R2, 1
	FORBIDDEN "LB", 2
	THREAD 0, "mov X(%rsi), %eax; mov $1, %edx; xchg %edx, Y(%rsi)"
	FORBIDDEN "LB, XCHG", 2

	/* -- S, R, 2+2W: the order of stores to one place */
	THREAD 0, "movl $2, X(%rsi); movl $1, Y(%rsi)"
	THREAD 1, "mov Y(%rsi), %eax; movl $1, X(%rsi)"
	WHEN X, 2, R2, 1
	FORBIDDEN "S", 2
	THREAD 0, "movl $1, X(%rsi); movl $1, Y(%rsi)"
	THREAD 1, "movl $2, Y(%rsi); mov X(%rsi), %eax"
	WHEN Y, 2, R2, 0
	ALLOWED "R", 2
	THREAD 0, "movl $1, X(%rsi); mfence; movl $1, Y(%rsi)"
	THREAD 1, "movl $2, Y(%rsi); mfence; mov X(%rsi), %eax"
	FORBIDDEN "R, MFENCE", 2
	THREAD 0, "movl $1, X(%rsi); movl $2, Y(%rsi)"
	THREAD 1, "movl $1, Y(%rsi); movl $2, X(%rsi)"
	WHEN X, 1, Y, 1
	FORBIDDEN "2+2W", 2
	THREAD 0, "mov $1, %edx; xchg %edx, X(%rsi); movl $2, Y(%rsi)"
	FORBIDDEN "2+2W, XCHG", 2

	/* -- one place: coherence, and a processor sees its own stores first */
	THREAD 0, "movl $1, X(%rsi)"
	THREAD 1, "mov X(%rsi), %eax; mov X(%rsi), %ebx"
	WHEN R2, 1, R3, 0
	FORBIDDEN "CoRR", 2
	THREAD 0, "mov X(%rsi), %eax; movl $1, X(%rsi)"
	THREAD 1, "mov X(%rsi), %eax; movl $2, X(%rsi)"
	WHEN R0, 2, R2, 1
	FORBIDDEN "n4", 2
	THREAD 0, "movl $1, X(%rsi); mov X(%rsi), %eax"
	THREAD 1, "movl $2, X(%rsi); mov X(%rsi), %eax"
	WHEN R0, 2, R2, 1
	FORBIDDEN "n5", 2
	THREAD 0, "movl $1, X(%rsi); mov X(%rsi), %eax; mov Y(%rsi), %ebx"
	THREAD 1, "movl $2, Y(%rsi); movl $2, X(%rsi)"
	WHEN X, 1, R0, 1, R1, 0
	ALLOWED "n6", 2
	THREAD 0, "movl $1, X(%rsi); mfence; mov X(%rsi), %eax; mov Y(%rsi), %ebx"
	FORBIDDEN "n6, MFENCE", 2
	THREAD 0, "movl $1, X(%rsi); mov X(%rsi), %eax; mov Y(%rsi), %ebx"
	THREAD 1, "movl $1, Y(%rsi); mov Y(%rsi), %eax; mov X(%rsi), %ebx"
	WHEN R0, 1, R1, 0, R2, 1, R3, 0
	ALLOWED "SB, own store first (n3 of the manual's 8.2.3.5)", 2

	/* -- three and four processors: stores reach all others at once */
	THREAD 0, "movl $1, X(%rsi)"
	THREAD 1, "mov X(%rsi), %eax; movl $1, Y(%rsi)"
	THREAD 2, "mov Y(%rsi), %eax; mov X(%rsi), %ebx"
	WHEN R2, 1, R4, 1, R5, 0
	FORBIDDEN "WRC", 3
	THREAD 1, "mov X(%rsi), %eax; mov Y(%rsi), %ebx"
	THREAD 2, "movl $1, Y(%rsi); mov X(%rsi), %eax"
	WHEN R2, 1, R3, 0, R4, 0
	ALLOWED "RWC", 3
	THREAD 2, "movl $1, Y(%rsi); mfence; mov X(%rsi), %eax"
	FORBIDDEN "RWC, MFENCE", 3
	THREAD 0, "movl $2, X(%rsi); movl $1, Y(%rsi)"
	THREAD 1, "movl $2, Y(%rsi); movl $1, Z(%rsi)"
	THREAD 2, "movl $2, Z(%rsi); movl $1, X(%rsi)"
	WHEN X, 2, Y, 2, Z, 2
	FORBIDDEN "3.2W", 3
	THREAD 0, "movl $1, X(%rsi)"
	THREAD 1, "movl $1, Y(%rsi)"
	THREAD 2, "mov X(%rsi), %eax; mov Y(%rsi), %ebx"
	THREAD 3, "mov Y(%rsi), %eax; mov X(%rsi), %ebx"
	WHEN R4, 1, R5, 0, R6, 1, R7, 0
	FORBIDDEN "IRIW", 4
	THREAD 0, "mov $1, %edx; xchg %edx, X(%rsi)"
	THREAD 1, "lock btsl $0, Y(%rsi)"
	FORBIDDEN "IRIW, locked", 4
	ret
