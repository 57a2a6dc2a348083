// MODES: host32 32 host64 64
/*
 * 1024 functions and 1024 that call one of them each, in pages of their own: so many that some have the same place in a
 * translator's table of where branches go. Called by a register, by a pointer in memory and by an index into a table.
 */
#include "user.inc"

#if LONG
#define WORD .quad
#else
#define WORD .long
#endif
	.set COUNT, 1024
	.bss
	.balign 16
table:	.skip 2 * COUNT * W
	.text

	.balign 4096
leaves:	/* number n: EAX += n */
	.set n, 0
	.rept COUNT
	.balign 64
	add $n, %eax
	ret
	.set n, n + 1
	.endr
	.balign 4096
callers: /* number n calls leaf 5n + 3: EAX = 3 * (EAX + (5n + 3) mod 1024) */
	.set n, 0
	.rept COUNT
	.balign 64
	call leaves + 64 * ((5 * n + 3) & (COUNT - 1))
	lea (AX,AX,2), %eax
	ret
	.set n, n + 1
	.endr

	/* \call is done for each function, its number in ECX and its address in DX; twice in order, twice jumping about */
.macro ROUNDS name:req, call:vararg
	xor %eax, %eax
	mov $4, %ebp
1:	xor %ebx, %ebx
2:	mov %ebx, %ecx
	cmp $2, %ebp
	ja 3f
	imul $12345, %ebx, %ecx
	and $2 * COUNT - 1, %ecx
3:	mov %ecx, %edx
	shl $6, %edx
	add $leaves, %edx
	\call
	inc %ebx
	cmp $2 * COUNT, %ebx
	jb 2b
	dec %ebp
	jnz 1b
	EMIT "\name"
.endm

.macro BY_POINTER
	lea table(,CX,W), %edx
	call *(DX)
.endm

user_body:
	push BX
	push BP
	push SI
	push DI
	mov $leaves, %edx
	xor %ecx, %ecx
1:	mov DX, table(,CX,W)
	add $64, %edx
	inc %ecx
	cmp $2 * COUNT, %ecx
	jb 1b
	ROUNDS "calls by a register", call *DX
	ROUNDS "calls by a table", call *table(,CX,W)
	ROUNDS "calls by a pointer", BY_POINTER
	pop DI
	pop SI
	pop BP
	pop BX
	ret
