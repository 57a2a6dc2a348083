// MODES: host32 32 host64 64
/*
 * Pushes and calls at a stack pointer in every distance from the edge of a page, aligned or not: what is in memory then, and
 * where the stack pointer is. pushes.S has the same with pages that are not there.
 */
#include "user.inc"

	.set FAR, 56
	.set REACH, 112
	.bss
	.balign 4096
	.skip 4096
edge:	.skip 4096
kept:	.skip 8
	.text

	/* What a CALL has pushed is not the same in all programs. */
.macro RELATIVE to:req
	.if LONG
	subq $\to, (SP)
	.else
	subl $\to, (SP)
	.endif
.endm
	/* \body at all distances, twice each */
.macro PUSHES name:req, body:req
	mov $-2 * FAR - 1, %ebp
1:	mov $edge - REACH, %edi
	mov $(REACH + FAR) / 4, %ecx
	mov $0x54535251, %eax
	rep stosl
	lea 2 * FAR + 1(BP), %ecx
	shr %ecx
	mov $0x11223344, %eax
	mov $0x55667788, %ebx
	mov $0x99aabbcc, %edx
	mov $edge + 2 * FAR, %esi
	mov SP, kept
	lea edge - FAR(CX), SP
	\body
	mov SP, AX
	mov kept, SP
	sub $edge, AX
	call mix
	mov $edge - REACH, %esi
2:	mov (SI), %eax
	call mix
	add $4, %esi
	cmp $edge + FAR, %esi
	jb 2b
	inc %ebp
	cmp $2 * FAR, %ebp
	jle 1b
	mov hash, AX
	EMIT "\name"
.endm

user_body:
	push BX
	push BP
	push SI
	push DI
	PUSHES "one", "push rAX"
	PUSHES "two", "push rAX; push rBX"
	PUSHES "three", "push rAX; push rBX; push rDX"
	PUSHES "six", "push rAX; push rBX; push rDX; push rAX; push rDX; push rBX"
	PUSHES "other work between", "push rAX; mov (rSI), %edi; push rBX; add 4(rSI), %edi; lea 7(rDI), %edx; push rDX; push $-7"
	PUSHES "immediates", "push $0x12345678; push $5; pushw $0x1234; push rAX"
	PUSHES "memory", "push 8(rSI); push (rSI); push (rSP)"
	PUSHES "the stack pointer", "mov $edge, %edi; sub rSP, rDI; push rDI; push rDI; pop rDX; push rBX"
	PUSHES "room", "push rAX; sub $24, rSP; push rBX; mov rAX, 16(rSP); push rDX"
	PUSHES "pops between", "push rAX; push rBX; pop rDX; push rBX; pop rDX; pop rDX"
	PUSHES "call", "call 9f; 9: RELATIVE 9b"
	PUSHES "calls behind pushes", "push rAX; push rBX; call 9f; 9: RELATIVE 9b; call 8f; 8: RELATIVE 8b; push rDX"
	PUSHES "call by a register", "mov $9f, %edi; call *rDI; 9: RELATIVE 9b"
	PUSHES "call and return", "push rAX; call 9f; push rBX; jmp 8f; 9: push rDX; pop rDI; ret; 8: push $3"
	pop DI
	pop SI
	pop BP
	pop BX
	ret
