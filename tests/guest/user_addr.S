// MODES: host32 32 host64 64
/*
 * Addressing: every base and index register, scales, displacements, sums that wrap, the stack pointer
 * as operand and as base, legacy high bytes beside memory operands. After each access every
 * register but the destination must be as before.
 */
#include "user.inc"

	.bss
	.balign 64
arena:	.skip 8192
regs_after: .skip 16 * 8
save_sp: .skip 8
	.text

	/* Fills the arena with bytes that depend on the place. */
fill:	mov $arena, %edi
	xor %ecx, %ecx
1:	mov %ecx, %eax
	imul $0x9d, %eax, %eax
	shr $3, %eax
	xor %ecx, %eax
	mov %al, (DI,CX)
	inc %ecx
	cmp $8192, %ecx
	jb 1b
	ret
	/* hash of the arena into `hash` */
hash_arena:
	mov $arena, %esi
	mov $8192 / W, %ecx
1:	mov (SI), AX
	call mix
	add $W, SI
	dec %ecx
	jnz 1b
	ret
	/* All general registers into the hash; called with the stack as it was. */
hash_regs:
	mov AX, regs_after
	mov CX, regs_after + 8
	mov DX, regs_after + 16
	mov BX, regs_after + 24
	mov BP, regs_after + 32
	mov SI, regs_after + 40
	mov DI, regs_after + 48
#if LONG
	mov %r8, regs_after + 56
	mov %r9, regs_after + 64
	mov %r10, regs_after + 72
	mov %r11, regs_after + 80
	mov %r12, regs_after + 88
	mov %r13, regs_after + 96
	mov %r14, regs_after + 104
	mov %r15, regs_after + 112
#endif
	PUSHF
	pop AX
	and $0x8d5, %eax
	call mix
	xor %ecx, %ecx
1:	mov regs_after(,CX,8), AX
	call mix
	inc %ecx
	cmp $7 + 8 * LONG, %ecx
	jb 1b
	ret
	/* Every register a small number of its own. */
load_regs:
	mov $0x10, %eax
	mov $0x11, %ecx
	mov $0x12, %edx
	mov $0x13, %ebx
	mov $0x14, %ebp
	mov $0x15, %esi
	mov $0x16, %edi
#if LONG
	mov $0x17, %r8d
	mov $0x18, %r9d
	mov $0x19, %r10d
	mov $0x1a, %r11d
	mov $0x1b, %r12d
	mov $0x1c, %r13d
	mov $0x1d, %r14d
	mov $0x1e, %r15d
#endif
	ret

.macro ONE code:req
	call load_regs
	stc
	\code
	call hash_regs
.endm
.macro BEGIN
	movl $0, hash
#if LONG
	movl $0, hash + 4
#endif
.endm
.macro DONE name:req
	call hash_arena
	mov hash, AX
	EMIT "\name"
.endm
#if LONG
	.macro EACH_BASE m:req
	.irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	\m \r
	.endr
	.endm
	.macro EACH_INDEX m:req, b:req
	.irp i, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	\m \b, \i
	.endr
	.endm
	.set TOP, 0xfffffffffffffff0
#else
	.macro EACH_BASE m:req
	.irp r, eax, ecx, edx, ebx, ebp, esi, edi
	\m \r
	.endr
	.endm
	.macro EACH_INDEX m:req, b:req
	.irp i, eax, ecx, edx, ebx, ebp, esi, edi
	\m \b, \i
	.endr
	.endm
	.set TOP, 0xfffffff0
#endif
.macro BASE_ROW r
	ONE "mov arena(%\r), %al; mov %cl, arena(%\r)"
	ONE "add %ecx, arena+64(%\r)"
	ONE "xor arena+3(%\r), %edx; adc $5, %dl"
	ONE "incl arena+100(%\r)"
	ONE "mov $arena, %\r; addb $7, 0x100(%\r); xor %\r, %\r"
	ONE "mov $arena, %\r; lea -0x80(%\r), %\r; mov 0x80(%\r), %\r; mov %\r, arena+512"
	ONE "mov $arena+1024, %\r; xchg %\r, (%\r); mov arena+1024, %\r; sub $arena, %\r; movl $0, arena+1024"
.endm
.macro INDEX_ROW b, i
	ONE "movzbl arena(%\b,%\i,8), %eax; add %eax, arena+8(%\b,%\i)"
	ONE "movb $0x5a, arena(%\b,%\i,2)"
	ONE "lea arena(%\b,%\i,4), %edx; sub $arena, %edx"
.endm
.macro INDEX_ROWS b
	EACH_INDEX INDEX_ROW, \b
.endm

user_body:
	push BX
	push BP
	push SI
	push DI
	mov SP, save_sp
	call fill
	BEGIN
	EACH_BASE BASE_ROW
	DONE "every base"
	BEGIN
	EACH_BASE INDEX_ROWS
	DONE "every base and index"

	/* sums that wrap */
	BEGIN
	ONE "mov $TOP, rAX; mov arena+0x20(%eax), %ecx; and $0xff, rAX"
	ONE "mov $0xfffffff0, %edx; mov $0x20, %ecx; movl $0x77, arena(%ecx,%edx); xor %edx, %edx"
	ONE "mov $0x80000000, %eax; mov arena(,%eax,2), %ecx"
	ONE "mov $0x33333334, %esi; mov arena+4(%esi,%esi,4), %ecx; xor %esi, %esi"
#if LONG
	ONE "mov $-16, %rax; mov arena+0x20(%rax), %ecx"
	ONE "mov $-1, %rax; mov $arena+100, %ecx; mov (%rcx,%rax,8), %edx; mov %edx, 8(%rcx,%rax,4); xor %ecx, %ecx"
	ONE "mov $0x2000000000000000, %rax; mov $arena, %ecx; mov (%rcx,%rax,8), %edx; xor %ecx, %ecx"
	ONE "mov $0x100000010, %rax; mov arena(%eax), %ecx"
	ONE "lea arena(%rip), %rax; mov 3(%rax), %ecx; xor %eax, %eax; movb $9, arena+5(%rip); cmpl $0x12345, arena+8(%rip); addl $0x11223344, arena+16(%rip)"
#endif
	DONE "wrapping sums"

	/* the stack pointer */
	BEGIN
	ONE "push rAX; push rCX; mov (rSP), rDX; mov W(rSP), rBX; pop rSI; pop rDI"
	ONE "push rDI; push (rSP); pop rAX; pop rCX"
	ONE "push rDI; push rSI; pop (rSP); pop rAX"
	ONE "push rDI; push rSI; push rDX; pop W(rSP); pop rAX; pop rCX"
	ONE "push rAX; push rCX; addl $5, W(rSP); pop rDX; pop rDX"
	ONE "push rSP; pop rAX; sub rSP, rAX"
	ONE "mov rSP, rAX; sub $64, rSP; mov rAX, (rSP); mov %ecx, 32(rSP); mov (rSP), rSP; mov -32(rAX), %edx; xor %eax, %eax"
	ONE "mov rSP, rBX; push rCX; xchg rBX, (rSP); pop rDX; sub rSP, rDX"
	ONE "push $77f; call *(rSP); lea W(rSP), rSP; jmp 78f; 77: mov $0x99, %edx; ret; 78:"
	ONE "push $77f; mov $3, %ecx; jmp *(rSP); ud2; 77: pop rDX; xor %edx, %edx"
	ONE "mov $2, %ecx; push rAX; push rDX; push rBX; mov (rSP,rCX,4), rSI; lea (rSP,rCX), rDI; sub rSP, rDI; lea 3*W(rSP), rSP"
	ONE "enter $32, $0; mov %edx, -8(rBP); mov rBP, rAX; sub rSP, rAX; mov -8(rBP), %ecx; leave"
	ONE "push rAX; mov rSP, rBP; enter $16, $2; mov rBP, rAX; sub rSP, rAX; leave; xor %ebp, %ebp; pop rDX"
	ONE "pushw $0x1234; pushw $0x5678; pop rAX; push rAX; popw %cx; popw %dx; and $0xffff, %eax"
	ONE "push $-5; pop rAX; push $0x12345; pop rCX"
	ONE "mov rSP, rBP; push rDX; mov rBP, rSP; xor %ebp, %ebp"
	ONE "mov rSP, rDX; add $-64, rSP; and $-16, rSP; movl $7, (rSP); mov (rSP), %ebx; mov rDX, rSP; xor %edx, %edx"
	ONE "inc rSP; dec rSP; mov rSP, rAX; neg rSP; neg rSP; sub rSP, rAX"
	ONE "push rSI; notl (rSP); sete (rSP); cmpb $0, (rSP); pop rSI"
	mov save_sp, AX
	sub SP, AX
	call mix
	DONE "stack pointer"

	/* legacy high bytes beside memory operands */
	BEGIN
	.irp r, ah, bh, ch, dh, al, bl, cl, dl
	ONE "mov %\r, arena+1; add arena+2, %\r; sub %\r, arena+3; cmp arena+4, %\r; xor arena+5(%esi), %\r"
	ONE "xchg %\r, arena+6; cmpxchg %\r, arena+7; xadd %\r, arena+8; setc %\r; adc arena+9(%edi,%esi), %\r"
	ONE "movzbl %\r, %esi; movsbw %\r, %di; test %\r, arena+10; mov $0x5c, %\r; rol $3, %\r; neg %\r"
	ONE "mov arena+11(%ebp), %\r; inc %\r; mov %\r, arena+12(%ebp,%edi,2)"
	.endr
#if LONG
	.irp r, sil, dil, bpl, r8b, r12b, r13b, r15b
	ONE "mov %\r, arena+1; add arena+2, %\r; sub %\r, arena+3; cmp arena+4, %\r; xor arena+5(%rsi), %\r; and $0xff, %esi"
	ONE "xchg %\r, arena+6; cmpxchg %\r, arena+7; xadd %\r, arena+8; setc %\r; movzbl %\r, %eax"
	.endr
#endif
	DONE "bytes and memory"

	/* every size and alignment */
	BEGIN
	.set i, 0
	.rept 40
	ONE "movzwl arena+60+i, %eax; mov arena+60+i, %ecx; add %ecx, arena+160+i; xor %dx, arena+200+i; movsbl arena+i, %edx; addb $3, arena+300+i"
#if LONG
	ONE "mov arena+60+i, %rax; add %rax, arena+160+i; movslq arena+61+i, %rcx; lock xadd %rcx, arena+192+((i)&56)"
#endif
	ONE "movups arena+50+i, %xmm0; paddb %xmm0, %xmm0; movups %xmm0, arena+450+i; movd %xmm0, %eax"
	ONE "fldt arena+600+i; fstpt arena+700+i; fildll arena+800+i; fistpll arena+900+i"
	.set i, i + 1
	.endr
	DONE "sizes and alignments"
	mov save_sp, SP
	pop DI
	pop SI
	pop BP
	pop BX
	ret
