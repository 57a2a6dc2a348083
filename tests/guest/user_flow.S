// MODES: host32 32 host64 64
/*
 * Control flow: recursion, returns that do not match calls, jump tables, indirect calls with many
 * targets, deep stacks, long loops of short blocks, conditional chains, coroutines.
 */
#include "user.inc"

	.data
	.balign 8
#if LONG
#define WORD .quad
#else
#define WORD .long
#endif
table:	WORD t0, t1, t2, t3, t4, t5, t6, t7
other_sp: .quad 0
	.bss
	.balign 16
	.skip 4096
co_stack:
	.text

fib:	cmp $2, %eax
	jb 1f
	push AX
	dec %eax
	call fib
	pop CX
	push AX
	lea -2(CX), %eax
	call fib
	pop CX
	add %ecx, %eax
1:	ret
ack:	/* Ackermann: eax = m, ecx = n -> ecx */
	test %eax, %eax
	jnz 1f
	inc %ecx
	ret
1:	test %ecx, %ecx
	jnz 2f
	dec %eax
	mov $1, %ecx
	jmp ack
2:	push AX
	dec %ecx
	call ack
	pop AX
	dec %eax
	jmp ack
deep:	dec %ecx
	jz 1f
	call deep
1:	inc %eax
	ret
t0:	add $1, %eax
	ret
t1:	rol $3, %eax
	ret
t2:	xor $0x5a5a, %eax
	ret
t3:	sub $77, %eax
	ret
t4:	imul $13, %eax, %eax
	ret
t5:	not %eax
	ret
t6:	bswap %eax
	ret
t7:	lea 3(%eax,%eax), %eax
	ret
	/* goes on at the other stack */
yield:	push BX
	push BP
	xchg SP, other_sp
	pop BP
	pop BX
	ret
coroutine:
1:	add $3, %edx
	call yield
	rol $1, %edx
	call yield
	jmp 1b

user_body:
	push BX
	push BP
	push SI
	push DI
	mov $20, %eax
	call fib
	EMIT "fib 20"
	mov $2, %eax
	mov $9, %ecx
	call ack
	mov %ecx, %eax
	EMIT "ackermann 2 9"
	xor %eax, %eax
	mov $3000, %ecx
	call deep
	EMIT "calls 3000 deep"
	/* indirect calls */
	mov $0x12345678, %eax
	mov $20000, %ecx
	mov $1, %edx
1:	imul $1103515245, %edx, %edx
	add $12345, %edx
	mov %edx, %ebx
	shr $16, %ebx
	and $7, %ebx
	call *table(,BX,W)
	dec %ecx
	jnz 1b
	EMIT "indirect calls"
	/* the same by a jump table in a register */
	mov $0x12345678, %eax
	mov $20000, %ecx
1:	mov %eax, %ebx
	and $7, %ebx
	mov table(,BX,W), BX
	call *BX
	loop 1b
	EMIT "indirect calls by register"
	/* push and ret as a jump */
	xor %eax, %eax
	mov $1000, %ecx
1:	test $1, %ecx
	jz 2f
	push $3f
	ret
2:	push $4f
	ret
3:	add $5, %eax
	jmp 5f
4:	rol $1, %eax
5:	loop 1b
	EMIT "push and ret"
	/* a call whose return is dropped */
	xor %eax, %eax
	mov $1000, %ecx
1:	call 2f
	ud2
2:	pop DX
	inc %eax
	loop 1b
	EMIT "call and pop"
	/* return to the caller's caller */
	xor %eax, %eax
	mov $500, %ecx
1:	call 3f
	add $1, %eax
	loop 1b
	jmp 4f
3:	call 5f
	ret
5:	add $2, %eax
	add $W, SP
	ret
4:	EMIT "return past the caller"
	/* ret n */
	xor %eax, %eax
	mov $500, %ecx
1:	push CX
	push CX
	call 2f
	loop 1b
	jmp 3f
2:	add W(SP), AX
	ret $(2 * W)
3:	EMIT "ret n"
	/* collatz: branches that nobody foresees */
	xor %edi, %edi
	mov $2000, %esi
1:	mov %esi, %eax
2:	cmp $1, %eax
	je 4f
	inc %edi
	shr $1, %eax
	jnc 2b
	lea 1(%eax,%eax), %eax
	lea 1(%eax,%eax,2), %eax
	jmp 2b
4:	dec %esi
	cmp $1, %esi
	ja 1b
	mov %edi, %eax
	EMIT "collatz"
	/* coroutines */
	mov $co_stack - 3 * W, %eax
	mov AX, other_sp
	movl $coroutine, co_stack - W
#if LONG
	movl $0, co_stack - 4
#endif
	xor %edx, %edx
	mov $1000, %esi
1:	call yield
	dec %esi
	jnz 1b
	mov %edx, %eax
	EMIT "coroutines"
	/* a bubble sort of 64 numbers */
	sub $256, SP
	mov $1, %edx
	xor %ecx, %ecx
1:	imul $1103515245, %edx, %edx
	add $12345, %edx
	mov %edx, (SP,CX,4)
	inc %ecx
	cmp $64, %ecx
	jb 1b
	mov $63, %esi
1:	xor %ecx, %ecx
2:	mov (SP,CX,4), %eax
	cmp 4(SP,CX,4), %eax
	jle 3f
	xchg %eax, 4(SP,CX,4)
	mov %eax, (SP,CX,4)
3:	inc %ecx
	cmp %esi, %ecx
	jb 2b
	dec %esi
	jnz 1b
	xor %eax, %eax
	xor %ecx, %ecx
1:	rol $5, %eax
	xor (SP,CX,4), %eax
	inc %ecx
	cmp $64, %ecx
	jb 1b
	add $256, SP
	EMIT "bubble sort"
	/* a sieve */
	mov $out + 32768, %edi
	push DI
	mov $16384, %ecx
	xor %eax, %eax
	rep stosb
	pop DI
	mov $2, %ebx
1:	cmpb $0, (DI,BX)
	jne 3f
	inc %eax
	lea (BX,BX), %ecx
2:	cmp $16384, %ecx
	jae 3f
	movb $1, (DI,CX)
	add %ebx, %ecx
	jmp 2b
3:	inc %ebx
	cmp $16384, %ebx
	jb 1b
	EMIT "primes below 16384"
	/* one long block, and jumps into its middle */
	xor %eax, %eax
	mov $64, %ecx
1:	mov $long_block, %edx
	lea (CX,CX,2), %ebx
	add %ebx, %edx
	call *DX
	loop 1b
	EMIT "jumps into a long block"
	pop DI
	pop SI
	pop BP
	pop BX
	ret
long_block:
	.rept 80
	.byte 0x83, 0xc0, 0x01 /* add $1, %eax */
	.endr
	ret
