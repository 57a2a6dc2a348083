// MODES: 32 64
/*
 * Accesses and code across pages that are not neighbours in memory: every instruction at every offset
 * before a page's end, against the same on a plain buffer. Linear BASE maps three pages in reverse.
 */
#include "guest.inc"

	.set BASE, 0x40000000
#if LONG
	.set PTE, 8
#else
	.set PTE, 4
#endif
	.bss
	.balign 4096
pages:	.skip 4096 * 3
plain:	.skip 4096 * 3
spare:	.skip 4096
ptab:	.skip 4096
pdir:	.skip 4096
op:	.skip 8
result:	.skip 64
wrong:	.skip 8
	.text

	/* Both buffers the same bytes. */
fill:	push CX
	push DI
	push AX
	mov $plain, %edi
	xor %ecx, %ecx
1:	mov %ecx, %eax
	imul $0x5b, %eax, %eax
	shr $2, %eax
	xor %ecx, %eax
	mov %al, (DI,CX)
	mov %al, BASE(CX)
	inc %ecx
	cmp $4096 * 3, %ecx
	jb 1b
	pop AX
	pop DI
	pop CX
	ret
	/* wrong += differences near the pages' ends */
compare:
	mov $0xe00, %ecx
1:	mov plain(CX), %eax
	cmp BASE(CX), %eax
	je 2f
	incl wrong
2:	add $4, %ecx
	cmp $0x2400, %ecx
	jb 1b
	/* and the physical order: page 0 is the third, page 1 the first, page 2 the second */
	mov plain + 0x1000, %eax
	cmp pages, %eax
	je 3f
	incl wrong
3:	ret

	/* *op for offsets ECX to EBX, step EDX: at BASE and at plain; compares results and memory. */
run_op:	movl $0, wrong
	call fill
1:	push CX
	push BX
	push DX
	push CX
	lea BASE(CX), %edi
	call one
	mov AX, result
	mov DX, result + 8
	mov (SP), CX
	lea plain(CX), %edi
	call one
	pop CX
	cmp result, AX
	je 2f
	incl wrong
2:	cmp result + 8, DX
	je 3f
	incl wrong
3:	pop DX
	pop BX
	pop CX
	add %edx, %ecx
	cmp %ebx, %ecx
	jb 1b
	jmp compare
one:	mov SP, BP
	mov $0x12345678, %eax
	mov $0x9abcdef0, %edx
	mov $5, %ecx
	mov $0x77, %ebx
	mov $spare, %esi
	cmp %eax, %eax
	stc
	call *op
	PUSHF
	pop CX
	and $0x8d5, %ecx
	add CX, AX
	ret

.macro X name:req, code:req, from=0xfe0, to=0x1002, step=1
	movl $1f, op
	mov $\from, %ecx
	mov $\to, %ebx
	mov $\step, %edx
	call run_op
	CHECK4 "\name", wrong, $0
	jmp 2f
1:	\code
	ret
2:
.endm

test_main:
	call paging_on
	movl $pages + 4096 * 2 + 7, ptab
	movl $pages + 7, ptab + PTE
	movl $pages + 4096 + 7, ptab + 2 * PTE
#if LONG
	movl $pdir + 7, boot_pdpt + 8
	movl $ptab + 7, pdir
#else
	movl $ptab + 7, boot_pd + 0x400
#endif
	mov %cr3, AX
	mov AX, %cr3
	fninit

	X "mov load", "mov (rDI), %eax"
	X "mov load 16", "mov (rDI), %ax"
	X "mov store", "mov %eax, (rDI)"
	X "mov store 16", "mov %dx, (rDI)"
	X "mov store imm", "movl $0x55aa1234, (rDI)"
	X "movzx", "movzwl (rDI), %eax"
	X "add from memory", "add (rDI), %eax"
	X "adc to memory", "adc %eax, (rDI)"
	X "add 16", "addw $0x7fff, (rDI)"
	X "inc", "incl (rDI)"
	X "not", "notl (rDI)"
	X "neg", "negl (rDI)"
	X "shl", "shll $3, (rDI)"
	X "rcr", "rcrl %cl, (rDI)"
	X "shld", "shld %cl, %edx, (rDI)"
	X "xchg", "xchg %eax, (rDI)"
	X "lock xadd", "lock xadd %eax, (rDI)"
	X "cmpxchg, equal", "mov (rDI), %eax; lock cmpxchg %edx, (rDI)"
	X "cmpxchg, unequal", "cmpxchg %edx, (rDI)"
	X "cmpxchg8b", "mov (rDI), %eax; mov 4(rDI), %edx; lock cmpxchg8b (rDI)"
	X "bts", "btsl $17, (rDI)"
	X "bt far", "mov $-77, %eax; btcl %eax, (rDI)"
	X "setcc", "setc (rDI)"
	X "cmov", "cmovc (rDI), %eax"
	X "imul", "imul (rDI), %eax"
	X "mul", "mull (rDI)"
	X "push from memory", "push (rDI); pop rAX"
	X "pop to memory", "push rDX; pop (rDI)"
	X "push on it", "lea W(rDI), rSP; push rDX; lea -W(rBP), rSP"
	X "pop from it", "mov rDI, rSP; pop rAX; lea -W(rBP), rSP"
	X "enter, leave on it", "mov rBP, saved_bp; lea 2*W(rDI), rSP; enter $8, $0; movl $5, -4(rBP); leave; mov saved_bp, rBP; lea -W(rBP), rSP", 0xfe0, 0x1002, W
	X "call on it", "mov rDI, rSP; call 3f; 3: pop rAX; lea -W(rBP), rSP"
	X "ret from it", "movl $3f, (rDI); movl $0, W-4(rDI); movl $3f, (rDI); mov rDI, rSP; ret; ud2; 3: lea -W(rBP), rSP; xor %eax, %eax"
	X "jmp through it", "movl $3f, (rDI); movl $0, W-4(rDI); movl $3f, (rDI); jmp *(rDI); ud2; 3: xor %eax, %eax"
	X "lfs", "movl $0x1234, (rDI); movw $D3, 4(rDI); lfs (rDI), %eax"
	X "sgdt", "sgdt (rDI)"
	X "sidt", "sidt (rDI); lidt (rDI)"
	X "movups", "movups (rDI), %xmm0; paddb %xmm0, %xmm0; movups %xmm0, (rDI)"
	X "movd", "movd (rDI), %xmm0; paddb %xmm0, %xmm0; movd %xmm0, (rDI)"
	X "movq", "movq (rDI), %xmm0; paddb %xmm0, %xmm0; movq %xmm0, (rDI)"
	X "movhps", "movhps (rDI), %xmm0; movhps %xmm0, 3(rDI)"
	X "maskmovdqu", "pcmpeqb %xmm1, %xmm1; psrldq $3, %xmm1; movups spare, %xmm0; maskmovdqu %xmm1, %xmm0"
	X "lddqu", "lddqu (rDI), %xmm0; movd %xmm0, %eax"
	X "fldt", "fldt (rDI); fstpt 16(rDI)"
	X "fstpl", "fldpi; fstpl (rDI)"
	X "fildll", "fildll (rDI); fistpll 1(rDI)"
	X "fbstp", "fildl spare; fbstp (rDI)"
	X "fnstenv", "fnstenv spare; fldenv spare; fnstcw (rDI); fldcw (rDI)"
	X "fxsave", "fninit; fxsave (rDI); fxrstor (rDI); movd 160(rDI), %xmm0", 0xe00, 0x1010, 16
	X "rep movsb to it", "rep movsb"
	X "rep movsl to it", "rep movsl"
	X "rep movsl from it", "xchg rSI, rDI; rep movsl"
	X "rep movsw inside it", "lea 3(rDI), rSI; rep movsw"
	X "rep stosl", "rep stosl"
	X "rep stosb many", "mov $300, %ecx; rep stosb", 0xf00, 0xf08
	X "rep lodsl", "mov rDI, rSI; rep lodsl"
	X "rep stosw backwards", "std; rep stosw; cld"
	X "repe cmpsb", "mov rDI, rSI; repe cmpsb"
	X "repne scasw", "repne scasw"
#if LONG
	X "mov 64", "mov (%rdi), %rax"
	X "mov store 64", "mov %rdi, %rdx; movabs $0x1122334455667788, %rax; mov %rax, (%rdi); xor %edx, %edx"
	X "add 64", "add %rax, (%rdi)"
	X "cmpxchg16b", "mov (%rdi), %rax; mov 8(%rdi), %rdx; lock cmpxchg16b (%rdi)", 0xfd0, 0x1010, 16
	X "rep movsq", "rep movsq"
	X "movbe-like bswap", "mov (%rdi), %rax; bswap %rax; mov %rax, 3(%rdi)"
#else
	X "pusha on it", "lea 32(rDI), rSP; push %eax; mov %esp, %ebx; mov %ebp, saved_bp; xor %ebp, %ebp; xor %ebx, %ebx; xor %edi, %edi; pusha; add $12, %esp; movl $0, (%esp); mov saved_bp, %ebp; lea -4(%ebp), %esp", 0xff0, 0x1010
	X "bound", "movl $0, (rDI); movl $-1, 4(rDI); movl $0x7fffffff, 4(rDI); bound %ecx, (rDI)"
	X "pop segment", "pushl $D3; popl (rDI); mov rDI, rSP; pop %fs; lea -W(rBP), rSP; mov %fs, %eax"
#endif

	/* -- code that runs through the pages */
	mov $BASE + 0xe00, %edi
	mov $0x200, %ecx
1:	movw $0xc0ff, (DI) /* inc %eax */
	add $2, DI
	loop 1b
	movb $0xc3, (DI)
	xor %eax, %eax
	mov $BASE + 0xe00, %ebx
	call *BX
	CHECK4 "code through two pages", %eax, $0x200
	/* shifted by one byte: an instruction lies across */
	mov $BASE + 0xe01, %edi
	mov $0x200, %ecx
1:	movw $0xc0ff, (DI)
	add $2, DI
	loop 1b
	movb $0xc3, (DI)
	xor %eax, %eax
	inc %ebx
	call *BX
	CHECK4 "an instruction across", %eax, $0x200
	/* the second page is another now */
	movl $0xc3c0ffc0, plain /* the rest of inc, inc, ret */
	movl $plain + 7, ptab + PTE
	invlpg BASE + 0x1000
	xor %eax, %eax
	call *BX
	CHECK4 "the second page remapped", %eax, $0x101
	movl $pages + 7, ptab + PTE
	invlpg BASE + 0x1000
	xor %eax, %eax
	call *BX
	CHECK4 "and back", %eax, $0x200
	/* a loop across the pages, patched in the second */
	mov $BASE + 0xffb, %edi
	movw $0xb990, (DI) /* nop; mov $3, %ecx */
	movl $3, 2(DI)
	movw $0xc0ff, 6(DI) /* inc %eax */
	movl $0xc3fce2, 8(DI) /* loop -4 */
	mov $BASE + 0xffb, %ebx
	xor %eax, %eax
	call *BX
	CHECK4 "a loop across", %eax, $3
	movb $0xc8, BASE + 0x1002 /* dec */
	xor %eax, %eax
	call *BX
	CHECK4 "patched in the second page", %eax, $-3
	movb $7, BASE + 0xffd
	xor %eax, %eax
	call *BX
	CHECK4 "patched in the first page", %eax, $-7
	ret
	.bss
	.balign 8
saved_bp: .skip 8
	.text
