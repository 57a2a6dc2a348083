// MODES: 64
// CPUS: 4
// TIMEOUT: 60
/*
 * Atomicity among processors: counters and locks by every kind of locked instruction end at the exact sum, aligned
 * accesses are never torn, locked ones not even across cache lines and pages.
 * Sources: SDM 3A 8.1.1 (guaranteed atomic operations), 8.1.2 (bus locking).
 */
#include "guest.inc"
#include "smp.inc"

	.set TURNS, 20000
	.set FAR, 0x40000000 /* two pages that are not neighbours in memory */

	.bss
	.balign 4096
pages:	.skip 4096 * 3
ptab:	.skip 4096
pdir:	.skip 4096
counter: .skip 256
lock_word: .skip 128
plain:	.skip 128
torn:	.skip 128
job_code: .skip 8
	.text

	/* Every processor runs the code TURNS times; rsi at counter, rdi at FAR + 4096, r8 number of this processor. */
turns:	mov %edi, %r8d
	call smp_barrier
	mov $TURNS, %r9d
	mov $counter, %esi
	mov $FAR + 4096, %edi
	jmp *job_code
.macro EVERYBODY code:req, turns=TURNS
	.pushsection .snip, "ax"
	.balign 16
800:	.if \turns != TURNS
	mov $\turns, %r9d
	.endif
801:	\code
	dec %r9d
	jnz 801b
	ret
	.popsection
	movq $800b, job_code
	call clear
	SMP_RUN turns, 4
.endm
.macro SUM name:req, want:req, code:req, turns=TURNS, at=counter
	EVERYBODY "\code", \turns
	mov \at, %rax
	CHECK "\name", %rax, $(\want)
.endm

clear:	mov $counter, %edi
	mov $256 / 8, %ecx
	xor %eax, %eax
	rep stosq
	mov %rax, lock_word
	mov %rax, plain
	mov %rax, torn
	mov $FAR, %edi
	mov $8192 / 8, %ecx
	rep stosq
	ret

	/* -- torn accesses: CPU 0 and 2 store all zeros and all ones, CPU 1 and 3 look */
.macro TORN name:req, store:req, load:req, size, at=counter
	.pushsection .snip, "ax"
	.balign 16
800:	call smp_barrier
	mov $\at, %esi
	mov $TURNS, %ecx
	test $1, %edi
	jnz 803f
	xor %eax, %eax
	pxor %xmm0, %xmm0
802:	\store
	not %rax
	movq %rax, %xmm0
	punpcklqdq %xmm0, %xmm0
	dec %ecx
	jnz 802b
	ret
803:	\load
	test %rax, %rax
	jz 804f
	.if \size < 8
	mov $(1 << (\size * 8 & 63)) - 1, %edx
	.else
	mov $-1, %rdx
	.endif
	cmp %rdx, %rax
	je 804f
	lock incl torn
804:	dec %ecx
	jnz 803b
	ret
	.popsection
	call clear
	SMP_RUN 800b, 4
	CHECK4 "\name", torn, $0
.endm

test_main:
	mov $4, %edi
	call smp_start
	movl $pages + 4096 * 2 + 7, ptab
	movl $pages + 7, ptab + 8
	movl $ptab + 7, pdir
	movl $pdir + 7, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3

	SUM "lock inc", 4*TURNS, "lock incl (%rsi)"
	SUM "lock dec", -4*TURNS, "lock decq (%rsi)"
	SUM "lock add", 12*TURNS, "lock addq $3, (%rsi)"
	SUM "lock add, 2 bytes", (4*TURNS)&0xffff, "lock addw $1, (%rsi)"
	SUM "lock adc", 8*TURNS, "stc; lock adcq $1, (%rsi)"
	SUM "lock sub", 4*TURNS, "mov $-1, %rax; lock sub %rax, (%rsi)"
	SUM "lock sbb", -8*TURNS, "stc; lock sbbq $1, (%rsi)"
	SUM "lock xadd", 4*TURNS, "mov $1, %eax; lock xadd %rax, (%rsi)"
	SUM "lock not", 0, "lock notq (%rsi)"
	SUM "lock neg", 0, "lock negq (%rsi)"
	SUM "lock xor", 0, "mov $1, %eax; mov %r8d, %ecx; shl %cl, %eax; lock xorl %eax, (%rsi)"
	SUM "lock or, and: four bits of one byte", 0, "mov $1, %eax; mov %r8d, %ecx; shl %cl, %eax; lock orb %al, (%rsi); test %al, (%rsi); jnz 1f; lock incl torn; 1: not %eax; lock andb %al, (%rsi); not %eax; test %al, (%rsi); jz 1f; lock incl torn; 1:"
	CHECK4 "lock or, and: each keeps its bit", torn, $0
	SUM "lock bts, btr, btc: own bits", 0, "lock btsl %r8d, (%rsi); jnc 1f; lock incl torn; 1: lock btrl %r8d, (%rsi); jc 1f; lock incl torn; 1: lock btcl %r8d, (%rsi); lock btcl %r8d, (%rsi)"
	CHECK4 "lock bts, btr: each keeps its bit", torn, $0
	SUM "lock cmpxchg", 4*TURNS, "mov (%rsi), %rax; 1: lea 1(%rax), %rdx; lock cmpxchg %rdx, (%rsi); jnz 1b"
	SUM "lock cmpxchg, 1 byte", (4*TURNS)&0xff, "mov (%rsi), %al; 1: lea 1(%rax), %edx; lock cmpxchg %dl, (%rsi); jnz 1b"
	SUM "lock cmpxchg8b", 4*TURNS, "mov (%rsi), %eax; mov 4(%rsi), %edx; 1: mov %eax, %ebx; mov %edx, %ecx; add $1, %ebx; adc $0, %ecx; lock cmpxchg8b (%rsi); jnz 1b"
	SUM "lock cmpxchg16b", 4*TURNS, "mov (%rsi), %rax; mov 8(%rsi), %rdx; 1: mov %rax, %rbx; mov %rdx, %rcx; add $1, %rbx; sub $1, %rcx; lock cmpxchg16b (%rsi); jnz 1b"
	mov counter, %rax
	add counter + 8, %rax
	CHECK "lock cmpxchg16b: both halves", %rax, $0

	/* -- locks around plain accesses */
	SUM "a lock by xchg", 4*TURNS, "1: mov $1, %eax; xchg %eax, lock_word; test %eax, %eax; jz 3f; 2: pause; cmpl $0, lock_word; jne 2b; jmp 1b; 3: incq plain; movl $0, lock_word", at=plain
	SUM "a lock by lock bts", 4*TURNS, "1: lock btsl $0, lock_word; jnc 3f; 2: pause; testl $1, lock_word; jnz 2b; jmp 1b; 3: incq plain; lock btrl $0, lock_word", at=plain
	SUM "a ticket lock", 4*2000, "mov $1, %eax; lock xadd %ax, lock_word; 1: cmp %ax, lock_word + 2; je 2f; pause; jmp 1b; 2: incq plain; incw lock_word + 2", turns=2000, at=plain

	/* -- not aligned */
	SUM "lock add across cache lines", 4*1000, "lock addq $1, 61(%rsi)", turns=1000, at=counter+61
	SUM "lock xadd across cache lines", 4*1000, "mov $1, %eax; lock xadd %eax, 62(%rsi)", turns=1000, at=counter+62
	SUM "lock cmpxchg across cache lines", 4*1000, "mov 60(%rsi), %rax; 1: lea 1(%rax), %rdx; lock cmpxchg %rdx, 60(%rsi); jnz 1b", turns=1000, at=counter+60
	SUM "lock add across pages", 4*1000, "lock addq $1, -3(%rdi)", turns=1000, at=FAR+4093
	SUM "lock inc across pages", 4*1000, "lock incl -1(%rdi)", turns=1000, at=FAR+4095
	SUM "lock xadd across pages", 4*1000, "mov $1, %eax; lock xadd %rax, -5(%rdi)", turns=1000, at=FAR+4091
	SUM "lock cmpxchg across pages", 4*1000, "mov -4(%rdi), %rax; 1: lea 1(%rax), %rdx; lock cmpxchg %rdx, -4(%rdi); jnz 1b", turns=1000, at=FAR+4092
	SUM "a lock by xchg across pages", 4*500, "1: mov $1, %eax; xchg %ax, -1(%rdi); test %ax, %ax; jz 3f; 2: pause; cmpw $0, -1(%rdi); jne 2b; jmp 1b; 3: incq plain; mov $0, %eax; xchg %ax, -1(%rdi)", turns=500, at=plain

	/* -- torn */
	TORN "2 bytes, aligned", "mov %ax, (%rsi)", "movzwl (%rsi), %eax", 2
	TORN "4 bytes, aligned", "mov %eax, (%rsi)", "mov (%rsi), %eax", 4
	TORN "8 bytes, aligned", "mov %rax, (%rsi)", "mov (%rsi), %rax", 8
	TORN "8 bytes, movq from a vector register", "movq %xmm0, (%rsi)", "movq (%rsi), %xmm1; movq %xmm1, %rax", 8
	TORN "8 bytes, x87", "mov %rax, -64(%rsp); fildll -64(%rsp); fistpll (%rsi)", "fildll (%rsi); fistpll -64(%rsp); mov -64(%rsp), %rax", 8
	TORN "8 bytes, push and pop", "mov %rsp, %rdx; lea 8(%rsi), %rsp; push %rax; mov %rdx, %rsp", "mov %rsp, %rdx; mov %rsi, %rsp; pop %rax; mov %rdx, %rsp", 8, at=counter+128
	TORN "8 bytes, rep stosq, lodsq", "push %rcx; mov $1, %ecx; mov %rsi, %rdi; rep stosq; pop %rcx; mov $0, %edi", "lodsq; sub $8, %rsi", 8
	TORN "8 bytes, xchg", "mov %rax, %rdx; xchg %rdx, (%rsi)", "xor %eax, %eax; lock xadd %rax, (%rsi)", 8
	cmpb $0, feat_avx
	je 9f
	/* processors with AVX promise it for 16 bytes */
	TORN "16 bytes, movaps", "movaps %xmm0, (%rsi)", "movaps (%rsi), %xmm1; movhlps %xmm1, %xmm2; movq %xmm1, %rax; movq %xmm2, %rdx; cmp %rax, %rdx; je 1f; mov $7, %eax; 1:", 8
9:	ret
