// MODES: host32 32 host64 64
/*
 * Integer instructions of user mode over tables of operands, results and defined flags hashed: one
 * line an instruction and operand size.
 */
#include "user.inc"

	.data
	.balign 8
#if LONG
vals:	.quad 0, 1, 2, -1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff
	.quad 0x7fffffffffffffff, 0x8000000000000000, 0x123456789abcdef0, 0x5555555555555555, 31, 32, 33, 63, 64, 17, 8, 9
vals_end:
#else
vals:	.long 0, 1, 2, -1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0x12345678, 0x55555555
	.long 31, 32, 33, 17, 8, 9, 15, 16
vals_end:
#endif
op_ptr:	.quad 0
flag_mask: .quad 0
	/* how OF is defined: 0 as the mask says, 1 only when the count is 1, of a count of 5 bits; 2 of 6 bits */
op_kind: .quad 0
got_flags: .quad 0
op_result: .quad 0
	.balign 16
mem:	.quad 0, 0
	.text

	/* Runs *op_ptr for all pairs: AX, CX, DX set, CF 0 and all flags set. */
run_op:
	push BX
	push BP
	push SI
	push DI
	movl $0, hash
#if LONG
	movl $0, hash + 4
#endif
	mov $vals, %esi
1:	mov $vals, %edi
2:	xor %ebp, %ebp
3:	mov (SI), AX
	mov (DI), CX
	mov AX, DX
	xor CX, DX
	mov AX, mem
	mov $0x55, %ebx
	test %ebp, %ebp
	jz 4f
	PUSHF
	orl $0x8d5, (SP)
	jmp 5f
4:	PUSHF
	andl $~0x8d5, (SP)
5:	POPF
	call *op_ptr
	PUSHF
	pop got_flags
	push CX
	call mix
	mov DX, AX
	call mix
	mov mem, AX
	call mix
	mov BX, AX
	call mix
	pop CX
	mov got_flags, AX
	and flag_mask, AX
	cmpl $0, op_kind
	je 7f
	mov (DI), %ecx
	and $31, %ecx
	cmpl $1, op_kind
	je 6f
	mov (DI), %ecx
	and $63, %ecx
6:	jecxz 7f
	and $~0x10, %eax /* AF */
	cmp $1, %ecx
	je 7f
	and $~0x800, %eax
7:	call mix
	xor $1, %ebp
	jnz 3b
	add $W, DI
	cmp $vals_end, %edi
	jb 2b
	add $W, SI
	cmp $vals_end, %esi
	jb 1b
	mov hash, AX
	pop DI
	pop SI
	pop BP
	pop BX
	ret

.macro OP name:req, code:req, mask=0x8d5, kind=0, need=u_always
	cmpb $0, \need
	je 709f
	movl $708f, op_ptr
	movl $\mask, flag_mask
	movl $\kind, op_kind
	call run_op
	EMIT "\name"
	jmp 709f
708:	\code
	ret
709:
.endm
	/* In all sizes */
.macro OPS name:req, b:req, w:req, l:req, q:req, mask=0x8d5, kind=0, kindq=0
	OP "\name b", "\b", \mask, \kind
	OP "\name w", "\w", \mask, \kind
	OP "\name l", "\l", \mask, \kind
#if LONG
	OP "\name q", "\q", \mask, \kindq
#endif
.endm
.macro ALU2 op:req, mask=0x8d5
	OPS "\op", "\op %cl, %al", "\op %cx, %ax", "\op %ecx, %eax", "\op %rcx, %rax", \mask
	OPS "\op high", "\op %ch, %al", "\op %ax, %cx; mov %ecx, %edx", "\op %eax, %ecx; mov %ecx, %edx", "\op %rax, %rcx; mov %rcx, %rdx", \mask
	OPS "\op mem", "\op %cl, mem", "\op %cx, mem", "\op %ecx, mem", "\op %rcx, mem", \mask
	OPS "\op from mem", "\op mem, %cl; mov %ecx, %edx", "\op mem, %cx; mov %ecx, %edx", "\op mem, %ecx; mov %ecx, %edx", "\op mem, %rcx; mov %rcx, %rdx", \mask
	OPS "\op imm", "\op $0x5a, %al", "\op $0x7f5a, %ax", "\op $0x5a5a5a5a, %ecx; mov %ecx, %edx", "\op $-0x5a5a5a5a, %rax", \mask
	OPS "\op imm8", "\op $-3, %cl; mov %ecx, %edx", "\op $-3, %ax", "\op $-3, %eax", "\op $-3, %rax", \mask
.endm
.macro ALU1 op:req, mask=0x8d5
	OPS "\op", "\op %al", "\op %ax", "\op %eax", "\op %rax", \mask
	OPS "\op mem", "\op\()b mem", "\op\()w mem", "\op\()l mem", "\op\()q mem", \mask
.endm
.macro SHIFT op:req, mask=0x8c5
	OPS "\op cl", "\op %cl, %al", "\op %cl, %ax", "\op %cl, %eax", "\op %cl, %rax", \mask, 1, 2
	OPS "\op cl mem", "\op\()b %cl, mem", "\op\()w %cl, mem", "\op\()l %cl, mem", "\op\()q %cl, mem", \mask, 1, 2
	OPS "\op 1", "\op $1, %al", "\op $1, %ax", "\op $1, %eax", "\op $1, %rax", \mask
	OPS "\op 5", "\op $5, %al", "\op $5, %ax", "\op $5, %eax", "\op $5, %rax", (\mask & ~0x800)
	OPS "\op 0", "\op $0, %al", "\op $0, %ax", "\op $0, %eax", "\op $0, %rax"
.endm

user_body:
	ALU2 add
	ALU2 or, 0x8c5
	ALU2 adc
	ALU2 sbb
	ALU2 and, 0x8c5
	ALU2 sub
	ALU2 xor, 0x8c5
	ALU2 cmp
	OPS "test", "test %cl, %al", "test %cx, %ax", "test %ecx, %eax", "test %rcx, %rax", 0x8c5
	OPS "test imm", "test $0x5a, %al", "test $0x7f5a, %ax", "test $0x5a5a5a5a, %eax", "test $0x5a5a5a5a, %rax", 0x8c5
	ALU1 inc
	ALU1 dec
	ALU1 neg
	ALU1 not
	SHIFT shl
	SHIFT shr
	SHIFT sar
	SHIFT rol, 0x8d5
	SHIFT ror, 0x8d5
	/* through carry: 8 and 16 bits rotate by the count modulo 9 and 17 */
	OPS "rcl cl", "rcl %cl, %al", "rcl %cl, %ax", "rcl %cl, %eax", "rcl %cl, %rax", 0xd5, 0, 0
	OPS "rcr cl", "rcr %cl, %al", "rcr %cl, %ax", "rcr %cl, %eax", "rcr %cl, %rax", 0xd5, 0, 0
	OPS "rcl 1", "rcl $1, %al", "rcl $1, %ax", "rcl $1, %eax", "rcl $1, %rax"
	OPS "rcr 1", "rcr $1, %al", "rcr $1, %ax", "rcr $1, %eax", "rcr $1, %rax"
	OPS "rcl mem", "rclb $3, mem", "rclw $7, mem", "rcll $30, mem", "rclq $60, mem", 0xd5
	OP "shld l", "shld %cl, %edx, %eax", 0x8c5, 1
	OP "shrd l", "shrd %cl, %edx, %eax", 0x8c5, 1
	OP "shld w 5", "shld $5, %dx, %ax", 0xc5
	OP "shrd w 16", "shrd $11, %dx, %ax", 0xc5
	OP "shld mem", "shld %cl, %edx, mem", 0x8c5, 1
#if LONG
	OP "shld q", "shld %cl, %rdx, %rax", 0x8c5, 2
	OP "shrd q", "shrd %cl, %rdx, %rax", 0x8c5, 2
#endif
	OPS "mul", "mul %cl", "mul %cx", "mul %ecx", "mul %rcx", 0x801
	OPS "imul", "imul %cl", "imul %cx", "imul %ecx", "imul %rcx", 0x801
	OPS "imul 2", "nop", "imul %cx, %ax", "imul %ecx, %eax", "imul %rcx, %rax", 0x801
	OPS "imul 3", "nop", "imul $-77, %cx, %ax", "imul $12345, %ecx, %eax", "imul $-123456, %rcx, %rax", 0x801
	OPS "mul mem", "mulb mem", "mulw mem", "mull mem", "mulq mem", 0x801
	/* quotients that fit: the dividend's upper half is smaller than the divisor */
	OPS "div", "movzbl %al, %eax; or $1, %cl; div %cl", "xor %edx, %edx; or $1, %cx; div %cx", "xor %edx, %edx; or $1, %ecx; div %ecx", "xor %edx, %edx; or $1, %rcx; div %rcx", 0
	OP "div wide", "mov %ecx, %edx; or $0x80000000, %ecx; and $0x7fffffff, %edx; div %ecx", 0
	OPS "idiv", "movsbw %al, %ax; and $0x7f, %cl; or $2, %cl; idiv %cl", "cwd; and $0x7fff, %cx; or $2, %cx; idiv %cx", "cltd; and $0x7fffffff, %ecx; or $2, %ecx; idiv %ecx", "cqto; shr %rcx; or $2, %rcx; idiv %rcx", 0
	OP "idiv negative", "cltd; or $0x80000000, %ecx; and $~1, %ecx; idiv %ecx", 0
	OPS "bt", "nop", "bt %cx, %ax", "bt %ecx, %eax", "bt %rcx, %rax", 1
	OPS "bts", "nop", "bts %cx, %ax", "bts %ecx, %eax", "bts %rcx, %rax", 1
	OPS "btr", "nop", "btr %cx, %ax", "btr %ecx, %eax", "btr %rcx, %rax", 1
	OPS "btc", "nop", "btc %cx, %ax", "btc %ecx, %eax", "btc %rcx, %rax", 1
	OPS "btc imm", "nop", "btc $37, %ax", "btc $37, %eax", "btc $37, %rax", 1
	OP "bts mem", "and $31, %ecx; bts %ecx, mem", 1
	OP "btr mem imm", "btrl $9, mem", 1
	OPS "bsf", "nop", "or $0x8000, %cx; bsf %cx, %ax", "or $0x80000000, %ecx; bsf %ecx, %eax", "or $0x40, %rcx; bsf %rcx, %rax", 0x40
	OPS "bsr", "nop", "or $1, %cx; bsr %cx, %ax", "or $1, %ecx; bsr %ecx, %eax", "or $1, %rcx; bsr %rcx, %rax", 0x40
	OP "bsf zero: ZF, destination kept", "xor %ecx, %ecx; bsf %ecx, %ebx", 0x40
	OP "bswap", "bswap %eax", 0x8d5
	OPS "xadd", "xadd %cl, %al", "xadd %cx, %ax", "xadd %ecx, %eax; mov %ecx, %edx", "xadd %rcx, %rax; mov %rcx, %rdx"
	OPS "xadd mem", "lock xadd %cl, mem; mov %ecx, %edx", "lock xadd %cx, mem; mov %ecx, %edx", "lock xadd %ecx, mem; mov %ecx, %edx", "lock xadd %rcx, mem; mov %rcx, %rdx"
	OPS "cmpxchg", "cmpxchg %dl, %cl; mov %ecx, %edx", "cmpxchg %dx, %cx; mov %ecx, %edx", "cmpxchg %edx, %ecx; mov %ecx, %edx", "cmpxchg %rdx, %rcx; mov %rcx, %rdx"
	OPS "cmpxchg mem", "lock cmpxchg %dl, mem", "lock cmpxchg %dx, mem", "lock cmpxchg %ecx, mem", "lock cmpxchg %rcx, mem"
	OP "cmpxchg8b", "mov mem, %eax; xor %ecx, %ebx; mov mem + 4, %edx; cmpxchg8b mem", 0x40
	OP "cmpxchg8b unequal", "mov %ecx, %edx; not %edx; cmpxchg8b mem", 0x40
	OP "xchg mem", "xchg %ecx, mem; mov %ecx, %edx"
	OP "lahf", "lahf"
	OP "sahf", "mov %cl, %ah; sahf"
	OP "cbw cwde", "cbw; mov %eax, %edx; cwde"
	OP "cwd cdq", "cwd; mov %edx, %ebx; cltd"
	OP "stc cmc clc", "cmc"
	OP "movzx movsx", "movzbl %cl, %eax; movswl %cx, %edx; movsbw %al, %bx; movzwl %dx, %ecx"
	OP "lea", "lea 0x1234(%eax,%ecx,8), %edx"
	OP "lea 16", "lea -5(%eax,%ecx,2), %dx"
	OP "xlat", "mov $vals, %ebx; and $63, %eax; xlat; xor %ebx, %ebx", 0x8d5
	OP "enter leave", "enter $16, $0; mov %eax, -4(rBP); mov -4(rBP), %edx; leave"
	OP "push pop", "push rAX; push rCX; pop rAX; pop rDX"
	OP "pushf popf", "push $0x8d5; and %ecx, (rSP); popf"
	.irp cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
	OP "set\cc", "cmp %ecx, %eax; set\cc %bl; cmov\cc %ecx, %edx"
	OP "j\cc", "sub %ecx, %eax; j\cc 1f; mov $77, %ebx; 1:"
	.endr
	OP "loop", "and $31, %ecx; inc %ecx; 1: add %ecx, %eax; loop 1b"
	OP "loopne", "and $31, %ecx; inc %ecx; 1: dec %eax; loopne 1b"
	OP "loope", "and $31, %ecx; inc %ecx; 1: test $1, %cl; loope 1b"
	OP "jecxz", "jecxz 1f; mov $66, %ebx; 1:"
	/* flags that live through other instructions */
	OP "carry chain", "add %ecx, %eax; adc $0, %edx; mov %eax, %ebx; lea 1(%ebx), %ebx; adc %edx, %ebx; push rAX; pop rAX; sbb %eax, %eax"
	OP "inc inside a carry chain", "add %ecx, %eax; inc %edx; adc %edx, %eax; dec %ecx; sbb %ecx, %eax"
	OP "flags over a call", "cmp %ecx, %eax; call 1f; jmp 2f; 1: ret; 2: adc $5, %ebx"
	OP "flags over a load and store", "cmp %ecx, %eax; mov mem, %edx; mov %edx, mem + 8; adc $5, %ebx; setg %dl"
	OP "flags over a shift by 0", "cmp %ecx, %eax; mov $0, %cl; shl %cl, %edx; adc $5, %ebx"
	OP "shift count 1 and over", "and $31, %ecx; shl %cl, %eax; setc %bl", 0xc5
	OP "neg adc", "neg %eax; adc $0, %edx; neg %edx"
	OP "nop forms", "nop; .byte 0x66, 0x90; nopl (%eax); nopw 0x55(%eax,%ecx)"
	OP "partial registers", "mov %cl, %ah; mov %ch, %dl; add %ah, %dh; xchg %al, %ah; mov %ax, %bx"

	OP "popcnt", "popcnt %ecx, %eax", 0x8d5, 0, u_popcnt
	OP "popcnt w", "popcnt %cx, %ax", 0x8d5, 0, u_popcnt
	OP "lzcnt", "lzcnt %ecx, %eax", 0x41, 0, u_lzcnt
	OP "lzcnt w", "lzcnt %cx, %ax", 0x41, 0, u_lzcnt
	OP "tzcnt", "tzcnt %ecx, %eax", 0x41, 0, u_bmi1
	OP "tzcnt w", "tzcnt %cx, %ax", 0x41, 0, u_bmi1
	OP "andn", "andn %ecx, %eax, %edx", 0x8c1, 0, u_bmi1
	OP "bextr", "bextr %ecx, %eax, %edx", 0x841, 0, u_bmi1
	OP "blsi", "blsi %ecx, %edx", 0x8c1, 0, u_bmi1
	OP "blsr", "blsr %ecx, %edx", 0x8c1, 0, u_bmi1
	OP "blsmsk", "blsmsk %ecx, %edx", 0x8c1, 0, u_bmi1
	OP "bzhi", "bzhi %ecx, %eax, %edx", 0x8c1, 0, u_bmi2
	OP "mulx", "mulx %ecx, %eax, %ebx", 0x8d5, 0, u_bmi2
	OP "pdep", "pdep %ecx, %eax, %edx", 0x8d5, 0, u_bmi2
	OP "pext", "pext %ecx, %eax, %edx", 0x8d5, 0, u_bmi2
	OP "pext mem", "pext mem, %ecx, %edx", 0x8d5, 0, u_bmi2
	OP "rorx", "rorx $7, %ecx, %edx", 0x8d5, 0, u_bmi2
	OP "sarx shlx shrx", "sarx %ecx, %eax, %edx; shlx %ecx, %eax, %ebx; shrx %ecx, %eax, %eax", 0x8d5, 0, u_bmi2
	OP "adcx adox", "adcx %ecx, %eax; adox %ecx, %edx; adcx mem, %edx", 0x8d5, 0, u_adx
	OP "movbe", "movbe mem, %edx; movbe %ecx, mem; movbe mem, %ax", 0x8d5, 0, u_movbe
	OP "crc32", "crc32b %cl, %eax; crc32w %cx, %eax; crc32l mem, %eax", 0x8d5, 0, u_sse42
#if LONG
	OP "popcnt q", "popcnt %rcx, %rax", 0x8d5, 0, u_popcnt
	OP "lzcnt q", "lzcnt %rcx, %rax", 0x41, 0, u_lzcnt
	OP "tzcnt q", "tzcnt %rcx, %rax", 0x41, 0, u_bmi1
	OP "andn q", "andn %rcx, %rax, %rdx", 0x8c1, 0, u_bmi1
	OP "bextr q", "bextr %rcx, %rax, %rdx", 0x841, 0, u_bmi1
	OP "blsi q", "blsi %rcx, %rdx; blsr %rcx, %rbx", 0x8c1, 0, u_bmi1
	OP "bzhi q", "bzhi %rcx, %rax, %rdx", 0x8c1, 0, u_bmi2
	OP "mulx q", "mulx %rcx, %rax, %rbx", 0x8d5, 0, u_bmi2
	OP "pdep q", "pdep %rcx, %rax, %rdx", 0x8d5, 0, u_bmi2
	OP "pext q", "pext %rcx, %rax, %rdx", 0x8d5, 0, u_bmi2
	OP "rorx q", "rorx $43, %rcx, %rdx", 0x8d5, 0, u_bmi2
	OP "shlx q", "sarx %rcx, %rax, %rdx; shlx %rcx, %rax, %rbx; shrx %rcx, %rax, %rax", 0x8d5, 0, u_bmi2
	OP "adcx q", "adcx %rcx, %rax; adox %rcx, %rdx", 0x8d5, 0, u_adx
	OP "movbe q", "movbe mem, %rdx; movbe %rcx, mem", 0x8d5, 0, u_movbe
	OP "crc32 q", "crc32q %rcx, %rax", 0x8d5, 0, u_sse42
	OP "bswap q", "bswap %rax"
	OP "cdqe cqo", "cltq; cqto; movslq %ecx, %rbx"
	OP "cmpxchg16b", "mov mem, %rax; mov mem + 8, %rdx; lock cmpxchg16b mem", 0x40
	OP "r8 to r15", "xor %r10d, %r10d; mov %rax, %r8; mov %rcx, %r15; add %r8, %r15; mov %r15d, %r9d; adc %r9b, %r10b; mov %r10b, %dl; mov %r15, %rbx; xor %r10d, %r10d", 0
	OP "sil dil bpl", "push %rsi; mov %ecx, %esi; mov %sil, %dl; pop %rsi", 0x8d5
	OP "lea q", "lea -7(%rax,%rcx,4), %rdx"
#else
	OP "daa", "daa", 0xd5
	OP "das", "das", 0xd5
	OP "aaa", "aaa", 0x11
	OP "aas", "aas", 0x11
	OP "aam", "aam", 0xc4
	OP "aam 7", "aam $7", 0xc4
	OP "aad", "aad", 0xc4
	OP "aad 16", "aad $16", 0xc4
	OP "salc", ".byte 0xd6"
	OP "inc dec by one byte", "inc %eax; dec %ecx; mov %ecx, %edx"
	OP "82 group", ".byte 0x82, 0xc0, 0x7f"
	OP "pusha popa", "pusha; xor %eax, %eax; popa"
	OP "push pop segment", "push %ds; pop %edx; push %es; pop %es; movzwl %dx, %edx; xor %edx, %edx", 0x44
	OP "xchg ax", "xchg %eax, %edx; xchg %ax, %cx"
#endif
	ret
