// MODES: host32 32 host64 64
/*
 * String instructions: every operation, size, direction and prefix, counts 0 to 40, overlapping
 * operands; registers, flags and memory after each are hashed.
 */
#include "user.inc"

	.data
	.balign 16
pattern: .ascii "the quick brown fox jumps over the lazy dog, and then aaaaaaaaaaaaaaaaaaaaaabbbbb some more text."
	.fill 32, 1, 0x61
	.balign 16
	.fill 256, 1, 0
work:	.skip 1024
	.balign 8
counts:	.long 0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40
counts_end:
	/* offset of the destination from the source */
offsets: .long 0, 1, 2, 3, 4, 8, 15, 16, 17, 64, -1, -2, -4, -8, -16, -17
offsets_end:
str_ptr: .quad 0
dir:	.quad 0
count:	.quad 0
flags:	.quad 0
	.text

run_str: /* *str_ptr for every count, offset and direction */
	push BX
	push BP
	push SI
	push DI
	movl $0, hash
#if LONG
	movl $0, hash + 4
#endif
	movl $0, dir
0:	mov $counts, %ebx
1:	mov $offsets, %ebp
2:	/* fresh memory */
	cld
	mov $work, %edi
	mov $pattern, %esi
	mov $128, %ecx
3:	mov (SI), %al
	mov %al, (DI)
	mov %al, 128(DI)
	mov %al, 256(DI)
	mov %al, 384(DI)
	inc SI
	inc DI
	dec %ecx
	jnz 3b
	mov $work + 200, %esi
	mov (BP), %edi
	add $work + 200, %edi
	mov (BX), %ecx
	mov %ecx, count
	mov $0x61616161, %eax
#if LONG
	mov %rax, %rdx
	shl $32, %rdx
	or %rdx, %rax
#endif
	xor %edx, %edx
	cmpl $0, dir
	je 4f
	std
4:	cmp %edx, %edx
	call *str_ptr
	PUSHF
	cld
	pop flags
	push CX
	push AX
	sub $work, SI
	mov SI, AX
	call mix
	sub $work, DI
	mov DI, AX
	call mix
	pop AX
	call mix
	pop CX
	mov CX, AX
	call mix
	mov flags, AX
	and $0xcd5, %eax
	call mix
	mov $work, %esi
	mov $512 / W, %ecx
5:	mov (SI), AX
	call mix
	add $W, SI
	dec %ecx
	jnz 5b
	add $4, BP
	cmp $offsets_end, %ebp
	jb 2b
	add $4, BX
	cmp $counts_end, %ebx
	jb 1b
	xorl $1, dir
	jnz 0b
	mov hash, AX
	pop DI
	pop SI
	pop BP
	pop BX
	ret

.macro STR name:req, code:req
	movl $708f, str_ptr
	call run_str
	EMIT "\name"
	jmp 709f
708:	\code
	ret
709:
.endm
.macro STRS op:req
	.irp s, b, w, l
	STR "\op\s", "\op\s"
	STR "rep \op\s", "rep \op\s"
	STR "repne \op\s", "repne \op\s"
	.endr
#if LONG
	STR "\op q", "\op\()q"
	STR "rep \op q", "rep \op\()q"
	STR "repne \op q", "repne \op\()q"
	STR "rep \op\()b, 32-bit addresses", ".byte 0x67; rep \op\()b"
	STR "rep \op\()l, 32-bit addresses", ".byte 0x67; rep \op\()l"
#endif
.endm
user_body:
	STRS movs
	STRS stos
	STRS lods
	STRS scas
	STRS cmps
	/* one at a time, as a loop */
	STR "movsb in a loop", "jecxz 2f; 1: movsb; loop 1b; 2:"
	STR "lodsb stosb in a loop", "jecxz 2f; 1: lodsb; xor $0x20, %al; stosb; loop 1b; 2:"
	STR "strlen by repne scasb", "mov $0x20, %al; repne scasb; setz %al"
	STR "memcmp by repe cmpsb", "repe cmpsb; seta %al; setb %ah"
	STR "rep movsb twice", "push rCX; rep movsb; pop rCX; rep movsb"
	STR "rep stosb of a large count", "mov $300, %ecx; mov $work, %edi; cld; rep stosb"
	STR "direction changed between", "rep movsb; mov $3, %ecx; cld; rep movsb; std; mov $5, %ecx; rep stosb"
	STR "es and segment override", ".byte 0x26; lodsb; .byte 0x3e; movsb"
	ret
