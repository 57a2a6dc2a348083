// MODES: 64
// CPUS: 4
// HOST-CPUS: 2
// TIMEOUT: 90
// QEMU-SKIP: its TCG executes bytes of old and new code mixed where INT3 holds executors off
/*
 * Code that another processor changes: by each of the ways in which the manual promises what is then executed, and
 * those that systems rely on besides. Every result is exact: a value that no version of the code returns, an older
 * version than one seen before, or an old one after the new one was acknowledged, is an error.
 * Sources: SDM 3A 8.1.3 "Handling Self- and Cross-Modifying Code"; APM 2 7.6.1.
 *
 * Version v of a patched function returns v in each of eax's four bytes, so that mixtures show.
 */
#include "guest.inc"
#include "smp.inc"

	.set ROUNDS, 200
	.set FRESH, 0x800000 /* 512 KiB for fresh code */
	.set VIEW, 0x40000000

	.bss
	.balign 4096
version: .skip 128 /* the newest that is published */
acks:	.skip 128
errors:	.skip 128
done:	.skip 128
pointer: .skip 128
stepped: .skip 128 /* INT3s that executors took */
	.balign 4096
ptab:	.skip 4096
pdir:	.skip 4096

	/* Functions that are patched, each in a page of its own; `shared` has one a processor in one page. */
	.section .smc, "awx"
	.balign 4096
patched:
	mov $0, %eax
	ret
	.balign 64
	.skip 3
aligned: /* the immediate is at a multiple of 4 */
	mov $0, %eax
	ret
	.balign 4096
	.skip 4094
crossing: /* the immediate lies in two pages */
	mov $0, %eax
	ret
	.balign 4096
shared:
	.rept 4
	mov $0, %eax
	ret
	.balign 64
	.endr
	.balign 4096
spin:	nop
	jmp spin
	ret
	.balign 4096
spin2:	jmp spin2
	ret
	.balign 4096
	.skip 3
call_site:
	call one
	ret
	.balign 64
one:	mov $0x01010101, %eax
	ret
	.balign 64
two:	mov $0x02020202, %eax
	ret
	.balign 4096
view_a:	mov $0x0a0a0a0a, %eax
	ret
	.balign 4096
view_b:	mov $0x0b0b0b0b, %eax
	ret
	.balign 4096
	.text

bad:	lock incl errors
	ret
	/* edx version -> eax what its code returns */
value:	mov %edx, %eax
	and $0x7f, %eax
	imul $0x01010101, %eax, %eax
	ret
	/* edi: what all other processors have to add up to in acks; then it is 0 again */
await:	pause
	cmp %edi, acks
	jne await
	movl $0, acks
	ret
clear:	movl $0, version
	movl $0, acks
	movl $0, errors
	movl $0, done
	movl $0, pointer
	movl $0, stepped
	movl $0, pending
	movl $0, patched + 1
	movl $0, crossing + 1
	movl $0, aligned + 1
	ret
serialize:
	push %rax
	push %rbx
	push %rcx
	push %rdx
	xor %eax, %eax
	cpuid
	pop %rdx
	pop %rcx
	pop %rbx
	pop %rax
	ret

	/* -- the manual's way: nobody executes it meanwhile; a flag, a serializing instruction. rbp: the function */
.macro BY_FLAG name:req, function:req, store:req
\name:	mov $\function, %ebp
	mov $1, %r12d
	test %edi, %edi
	jnz by_flag_reader
1:	mov %r12d, %edx
	call value
	\store
	mov %r12d, version
	mov $3, %edi
	call await
	inc %r12d
	cmp $ROUNDS, %r12d
	jbe 1b
	ret
.endm
by_flag_reader:
	pause
	cmp %r12d, version
	jb by_flag_reader
	call serialize
	mov %r12d, %edx
	call value
	mov %eax, %r13d
	call *%rbp
	cmp %r13d, %eax
	je 3f
	call bad
3:	call *%rbp /* and once more */
	cmp %r13d, %eax
	je 3f
	call bad
3:	lock incl acks
	inc %r12d
	cmp $ROUNDS, %r12d
	jbe by_flag_reader
	ret
	BY_FLAG flag_mov, patched, "mov %eax, 1(%rbp)"
	BY_FLAG flag_crossing, crossing, "mov %eax, 1(%rbp)"
	BY_FLAG flag_xchg, patched, "xchg %eax, 1(%rbp)"
	BY_FLAG flag_cmpxchg, patched, "mov %eax, %ecx; mov 1(%rbp), %eax; lock cmpxchg %ecx, 1(%rbp)"
	BY_FLAG flag_vector, patched, "movd %eax, %xmm0; movd %xmm0, 1(%rbp)"
	BY_FLAG flag_stos, patched, "lea 1(%rbp), %rdi; mov $4, %ecx; rep stosb"
	BY_FLAG flag_movs, patched, "mov %eax, 9(%rbp); lea 9(%rbp), %rsi; lea 1(%rbp), %rdi; mov $4, %ecx; rep movsb"
	BY_FLAG flag_nti, patched, "movnti %eax, 1(%rbp); sfence"

	/* -- as Linux does it: INT3 over the first byte, the rest, then the first byte, all synchronized in between,
	 * while the others execute it all the time. Who steps on the INT3 does what the new code does. */
int3_writer:
	mov $1, %r12d
1:	mov %r12d, %edx
	mov %r12d, pending
	movb $0xcc, (%rbp)
	call sync_all
	call value
	/* the rest, byte by byte: nobody can be in it */
	mov %al, 1(%rbp)
	mov %al, 2(%rbp)
	mov %al, 3(%rbp)
	mov %al, 4(%rbp)
	call sync_all
	movb $0xb8, (%rbp)
	call sync_all
	mov %r12d, version
	inc %r12d
	cmp $60, %r12d
	jbe 1b
	movl $1, done
	ret
sync_all: /* an IPI to the others, whose handler serializes */
	push %rdx
	IPI 0xc4060
	mov $3, %edi
	call await
	pop %rdx
	ret
	.bss
pending: .skip 128
	.text
	.balign 16
on_sync: push %rax
	call serialize
	lock incl acks
	call smp_eoi
	pop %rax
	iretq
	.balign 16
on_int3: /* only from the patched function: its version that is on the way */
	push %rdx
	mov pending, %edx
	call value
	pop %rdx
	addq $4, (%rsp) /* past the immediate */
	lock incl stepped
	iretq

int3_job:
	test %edi, %edi
	jz int3_writer
	xor %r12d, %r12d /* the newest version seen */
1:	mov version, %r13d /* the least that may come */
	call *%rbp
	mov %eax, %ecx
	and $0x7f, %ecx
	imul $0x01010101, %ecx, %edx
	cmp %edx, %eax
	jne 2f
	cmp %r13d, %ecx
	jb 2f
	cmp %r12d, %ecx
	jb 2f
	mov %ecx, %r12d
	jmp 3f
2:	call bad
3:	cmpl $0, done
	je 1b
	ret
int3_near: mov $patched, %ebp
	jmp int3_job
int3_crossing: mov $crossing, %ebp
	jmp int3_job

	/* -- one byte or an aligned word changes under the executors: old or new, never older than seen, and in the end new */
	.macro LIVE name:req, store:req
\name:	test %edi, %edi
	jnz 2f
	mov $1, %r12d
1:	mov %r12d, %edx
	call value
	\store
	mov %r12d, version
	mov $200, %ecx
3:	dec %ecx
	jnz 3b
	inc %r12d
	cmp $60, %r12d
	jbe 1b
	mov $3, %edi
	jmp await
2:	xor %r12d, %r12d
1:	call *%rbp
	mov %eax, %ecx
	and $0x7f, %ecx
	imul $0x01010101, %ecx, %edx
	cmp %edx, %eax
	jne 2f
	cmp %r12d, %ecx
	jb 2f
	mov %ecx, %r12d
	cmp $60, %ecx
	jb 1b
	lock incl acks
	ret
2:	call bad
	jmp 1b
	.endm
	LIVE live_word, "mov %eax, 1(%rbp)"
live_aligned:
	mov $aligned, %ebp
	jmp live_word

	/* -- fresh code at addresses never executed before, published by a pointer, no serialization */
	.set FRESH_COUNT, 4000
fresh:	test %edi, %edi
	jnz 2f
	mov $1, %r12d
	mov $FRESH, %ebp
1:	mov %r12d, %edx
	call value
	movb $0xb8, (%rbp)
	mov %eax, 1(%rbp)
	movb $0xc3, 5(%rbp)
	mov %rbp, pointer
	add $40, %rbp
	inc %r12d
	cmp $FRESH_COUNT, %r12d
	jbe 1b
	mov $3, %edi
	jmp await
2:	mov $FRESH + 40 * (FRESH_COUNT - 1), %r14d
1:	mov pointer, %rbp
	test %rbp, %rbp
	jz 1b
	call *%rbp
	lea -FRESH(%rbp), %ecx
	xor %edx, %edx
	xchg %eax, %ecx
	mov $40, %r13d
	div %r13d
	lea 1(%rax), %edx
	call value
	cmp %ecx, %eax
	je 3f
	call bad
3:	cmp %r14, %rbp
	jne 1b
	lock incl acks
	ret

	/* -- each processor patches a function of its own, all in one page, others executing there */
own:	mov %edi, %ebp
	shl $6, %ebp
	add $shared, %ebp
	mov %edi, %r15d
	mov $1, %r12d
1:	lea (%r12,%r15,8), %edx
	call value
	mov %eax, 1(%rbp)
	mov %eax, %r13d
	call *%rbp
	cmp %r13d, %eax
	je 2f
	call bad
2:	inc %r12d
	cmp $ROUNDS * 2, %r12d
	jbe 1b
	ret

	/* -- tight loops that touch no memory: executors must see that they were ended */
stop_spin:
	test %edi, %edi
	jnz 2f
	mov $500, %edi
	call smp_delay
	movw $0x9090, spin + 1 /* nop; nop */
	mov $3, %edi
	jmp await
2:	call spin
	lock incl acks
	ret
stop_spin2:
	test %edi, %edi
	jnz 2f
	mov $500, %edi
	call smp_delay
	movw $0x9090, spin2
	mov $3, %edi
	jmp await
2:	call spin2
	lock incl acks
	ret

	/* -- a static call whose aligned displacement changes */
retarget:
	test %edi, %edi
	jnz 3f
	mov $2000, %r12d
1:	movl $two - call_site - 5, call_site + 1
	pause
	movl $one - call_site - 5, call_site + 1
	dec %r12d
	jnz 1b
	movl $1, done
	ret
3:	call call_site
	cmp $0x01010101, %eax
	je 4f
	cmp $0x02020202, %eax
	je 4f
	call bad
4:	cmpl $0, done
	je 3b
	ret

	/* -- the mapping changes: INVLPG everywhere by IPI, then nobody executes the old page or reads it */
remap:	test %edi, %edi
	jnz 3f
	mov $1, %r12d
1:	mov %r12d, pending
	mov $view_a + 7, %eax
	test $1, %r12d
	jz 2f
	mov $view_b + 7, %eax
2:	mov %eax, ptab
	invlpg VIEW
	IPI 0xc4061
	mov $3, %edi
	call await
	mov %r12d, version
	inc %r12d
	cmp $ROUNDS, %r12d
	jbe 1b
	movl $1, done
	ret
3:	mov $VIEW, %ebp
	mov version, %r12d
	call *%rbp
	mov VIEW + 1, %ebx /* the same as data */
	cmp pending, %r12d /* has the next one not begun? then it must have been this one */
	jne 5f
	mov $0x0a0a0a0a, %ecx
	test $1, %r12d
	jz 4f
	mov $0x0b0b0b0b, %ecx
4:	cmp %ecx, %eax
	jne 7f
	cmp %ecx, %ebx
	je 8f
	jmp 7f
5:	cmp $0x0a0a0a0a, %eax
	je 6f
	cmp $0x0b0b0b0b, %eax
	jne 7f
6:	cmp $0x0a0a0a0a, %ebx
	je 8f
	cmp $0x0b0b0b0b, %ebx
	je 8f
7:	call bad
8:	cmpl $0, done
	je 3b
	ret
	.balign 16
on_shoot: push %rax
	invlpg VIEW
	lock incl acks
	call smp_eoi
	pop %rax
	iretq

.macro MODIFY name:req, job:req, n=4
	call clear
	SMP_RUN \job, \n
	CHECK4 "\name", errors, $0
.endm

test_main:
	SETIDT 0x60, on_sync
	SETIDT 0x61, on_shoot
	SETIDT 3, on_int3
	mov $4, %edi
	call smp_start
	movl $view_a + 7, ptab
	movl $ptab + 7, pdir
	movl $pdir + 7, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3
	MODIFY "a flag and CPUID", flag_mov
	MODIFY "a flag and CPUID, an instruction across pages", flag_crossing
	MODIFY "a flag and CPUID, stored by XCHG", flag_xchg
	MODIFY "a flag and CPUID, stored by LOCK CMPXCHG", flag_cmpxchg
	MODIFY "a flag and CPUID, stored from a vector register", flag_vector
	MODIFY "a flag and CPUID, stored by REP STOSB", flag_stos
	MODIFY "a flag and CPUID, copied by REP MOVSB", flag_movs
	MODIFY "a flag and CPUID, MOVNTI", flag_nti
	MODIFY "INT3, the rest, the first byte", int3_near
	MODIFY "INT3, the rest, the first byte, across pages", int3_crossing
	PUTS "# INT3s stepped on: 0x"
	PUTHEX stepped
	NEWLINE
	MODIFY "an aligned immediate of code that runs", live_aligned
	MODIFY "an aligned call displacement of code that runs", retarget
	MODIFY "fresh code, published by a pointer", fresh
	MODIFY "the same once more", fresh
	MODIFY "everybody's own function in one page", own
	MODIFY "a loop ends", stop_spin
	MODIFY "a jump to itself ends", stop_spin2
	MODIFY "remapped, INVLPG by IPI", remap
	ret
