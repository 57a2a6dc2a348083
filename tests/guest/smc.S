// MODES: 32 64
/*
 * Self-modifying code: stores into the next instruction, the own block, loops, chained blocks,
 * across pages, through an alias, into a page that is mapped elsewhere or remapped.
 * Linear 1 GiB + x is an alias of x; page 2 GiB is mapped by remap_pte.
 */
#include "guest.inc"

	.set ALIAS, 0x40000000
	.set REMAP, 0x80000000
	.bss
	.balign 4096
	.skip 4096
buf:	.skip 4096 * 4
other:	.skip 4096
remap_table: .skip 4096
remap_dir: .skip 4096

	.data
	.balign 16
nops16:	.fill 16, 1, 0x90
incs16:	.rept 8
	.byte 0xff, 0xc0 /* inc %eax */
	.endr

	.section .smc, "awx"
	NATIVE
	/* buf: mov $EAX, %eax; ret */
put_mov_ret: /* DI where, EAX value */
	movb $0xb8, (DI)
	mov %eax, 1(DI)
	movb $0xc3, 5(DI)
	ret

test_main:
	call paging_on
#if LONG
	movl $boot_pd + 7, boot_pdpt + 8
	movl $remap_dir + 7, boot_pdpt + 16
	movl $remap_table + 7, remap_dir
#else
	mov $boot_pd, %esi
	lea 1024(%esi), %edi
	mov $256, %ecx
	rep movsl
	movl $remap_table + 7, boot_pd + 2048
#endif
	mov %cr3, AX
	mov AX, %cr3

	/* -- a function written anew between calls */
	xor %ebx, %ebx
	xor %ebp, %ebp
1:	mov %ebx, %eax
	mov $buf, %edi
	call put_mov_ret
	call buf
	cmp %ebx, %eax
	setne %al
	movzbl %al, %eax
	add %eax, %ebp
	inc %ebx
	cmp $200, %ebx
	jb 1b
	CHECK4 "function rewritten between calls", %ebp, $0

	/* -- the next instruction */
	xor %eax, %eax
	movb $0x11, 1f + 1
1:	mov $0x22, %al
	CHECK4 "store into the next instruction", %eax, $0x11

	/* -- some way ahead, same block */
	xor %eax, %eax
	mov $0x77, %ecx
	mov %cl, 1f + 1
	inc %ecx
	dec %ecx
	nop
	nop
1:	mov $0, %al
	CHECK4 "store ahead in the block", %eax, $0x77

	/* -- length of instructions changes: 5-byte mov becomes nops, then the other way */
	mov $1, %eax
	movl $0x90909090, 1f
	movb $0x90, 1f + 4
1:	mov $2, %eax
	CHECK4 "instruction becomes nops", %eax, $1
	mov $1, %eax
	movl $0x000033b8, 1f
1:	nop
	nop
	nop
	nop
	nop
	and $0xffff, %eax
	CHECK4 "nops become an instruction", %eax, $0x33
	movl $0x90909090, 1b

	/* -- a store that changes its own immediate: in effect the next time */
	mov $2, %ecx
	xor %edx, %edx
1:	movl $0, scratch
self:	movb $5, scratch
	mov scratch, %eax
	add %eax, %edx
	mov $9, %al
	mov %al, self + 7 - (1 - LONG)
	loop 1b
	CHECK4 "own immediate", %edx, $14
	/* -- REP over the instructions behind it */
	mov $1, %eax
	mov $nops16, %esi
	mov $1f, %edi
	mov $4, %ecx
	rep movsb
1:	.byte 0xff, 0xc0, 0xff, 0xc0 /* inc %eax twice */
	CHECK4 "rep movsb over what follows", %eax, $1
	mov $0, %eax
	mov $incs16, %esi
	mov $1f, %edi
	mov $4, %ecx
	rep movsb
1:	nop
	nop
	nop
	nop
	CHECK4 "rep movsb makes instructions", %eax, $2

	/* -- loop body patched in each pass: inc, dec, inc, ... */
	mov $101, %ecx
	xor %eax, %eax
1:	.byte 0xff
loopmod: .byte 0xc0 /* inc %eax; 0xc8 is dec */
	xorb $8, loopmod
	loop 1b
	CHECK4 "loop body patched in each pass", %eax, $1
	/* the patch late, the change ahead in the loop */
	mov $100, %ecx
	xor %eax, %eax
	xor %edx, %edx
1:	add %edx, %eax
	inc %edx
	mov %dl, 2f + 2
	jmp 2f
	ud2
2:	add $0, %eax
	loop 1b
	CHECK4 "loop adds its counter twice", %eax, $(4950 + 5050)

	/* -- a branch is patched */
	mov $0, %ecx
	mov $3, %edx
1:	.byte 0xeb
2:	.byte 0
3:	inc %ecx
4:	inc %ecx
	movb $4b - 3b, 2b
	dec %edx
	jnz 1b
	CHECK4 "jump displacement patched", %ecx, $4
	/* condition of a hot branch is flipped */
	mov $1000, %ecx
	xor %eax, %eax
	mov $500, %edx
1:	cmp $500, %ecx
	jne 2f
	xorb $1, 3f
2:	test %eax, %eax
3:	je 4f /* becomes jne */
	dec %eax
	jmp 5f
4:	inc %eax
5:	loop 1b
	VALUE "hot branch flipped", AX

	/* -- every kind of store */
.macro KIND name:req, code:req
	mov $0x00c3c031, %eax /* buf: xor %eax, %eax; ret */
	mov %eax, buf
	call buf
	mov $0x1, %eax
	call buf
	mov $buf, %edi
	\code
	mov $0x1, %eax
	call buf
	CHECK4 "\name", %eax, $2
.endm
	/* ff c0 c3: inc %eax; ret */
	KIND "store 8", "movb $0xff, (%edi); movb $0xc0, 1(%edi); movb $0xc3, 2(%edi)"
	KIND "store 16", "movb $0xc3, 2(%edi); movw $0xc0ff, (%edi)"
	KIND "store 32", "movl $0x90c3c0ff, (%edi)"
	KIND "store unaligned", "movl $0xc3c0ff90, -1(%edi)"
	KIND "xchg", "mov $0x90c3c0ff, %eax; xchg %eax, (%edi)"
	KIND "lock cmpxchg", "mov (%edi), %eax; mov $0x90c3c0ff, %ecx; lock cmpxchg %ecx, (%edi)"
	KIND "cmpxchg8b", "mov (%edi), %eax; mov 4(%edi), %edx; mov $0x90c3c0ff, %ebx; mov %edx, %ecx; lock cmpxchg8b (%edi)"
	KIND "xor memory", "xorl $(0x00c3c031 ^ 0x90c3c0ff), (%edi)"
	KIND "add memory", "addl $(0x90c3c0ff - 0x00c3c031), (%edi)"
	KIND "xadd", "mov $(0x90c3c0ff - 0x00c3c031), %eax; lock xadd %eax, (%edi)"
	KIND "stosl", "mov $0x90c3c0ff, %eax; stosl"
	KIND "push", "mov rSP, rDX; mov $buf + W, %esp; push $0x10c3c0ff; mov rDX, rSP"
	KIND "pop", "push $0x10c3c0ff; pop (%edi)"
	KIND "movd", "mov $0x90c3c0ff, %eax; movd %eax, %xmm0; movd %xmm0, (%edi)"
	KIND "movdqu", "mov $0x90c3c0ff, %eax; movd %eax, %xmm0; movdqu %xmm0, (%edi)"
	KIND "movups unaligned", "mov $0x90c3c0ff, %eax; movd %eax, %xmm0; pslldq $3, %xmm0; movups %xmm0, -3(%edi)"
	KIND "movnti", "mov $0x90c3c0ff, %eax; movnti %eax, (%edi); mfence"
	KIND "fistp", "movl $0x10c3c0ff, scratch; fildl scratch; fistpl (%edi)"
	KIND "fstp", "movl $0x10c3c0ff, scratch; flds scratch; fstps (%edi)"
	KIND "shl memory", "movl $0x4861e07f, (%edi); roll $1, (%edi); movl $0x90c3c0ff, (%edi)"
	KIND "bts", "movl $0x10c3c0ff, (%edi); btsl $31, (%edi)"
	KIND "setcc", "movl $0x00c3c0fe, (%edi); stc; sbbb %al, %al; mov %al, (%edi)"
	KIND "through the alias", "movl $0x90c3c0ff, ALIAS(%edi)"
	KIND "push through the alias", "mov rSP, rDX; mov $buf + W + ALIAS, %esp; push $0x10c3c0ff; mov rDX, rSP"
	KIND "lock or", "movl $0x10c3c0ff, (%edi); call buf; lock orl $0x80000000, (%edi)"
	KIND "rep movsb", "movl $0x90c3c0ff, scratch; mov $scratch, %esi; mov $4, %ecx; rep movsb"
	KIND "movsl backwards", "movl $0x90c3c0ff, scratch; mov $scratch, %esi; std; movsl; cld"
	KIND "fxsave", "mov $0x90c3c0ff, %eax; fxsave scratch2; mov %eax, scratch2 + 160; fxrstor scratch2; fxsave buf - 160; fninit"
#if LONG
	KIND "store 64", "movabs $0x1122334490c3c0ff, %rax; mov %rax, (%rdi)"
	KIND "cmpxchg16b", "mov (%rdi), %rax; mov 8(%rdi), %rdx; mov $0x90c3c0ff, %ebx; mov %rdx, %rcx; lock cmpxchg16b (%rdi)"
	KIND "stosq", "mov $0x90c3c0ff, %eax; stosq"
#endif

	/* -- alias: executed at both addresses, written at both */
	mov $3, %eax
	mov $buf, %edi
	call put_mov_ret
	call buf
	mov $buf + ALIAS, %ebx
	call *BX
	movb $4, buf + 1
	call *BX
	CHECK4 "executed at the alias", %eax, $4
	mov $buf + ALIAS, %edi
	movb $5, 1(%edi)
	call *BX
	CHECK4 "written and executed at the alias", %eax, $5
	call buf
	CHECK4 "written at the alias", %eax, $5

	/* -- an instruction across two pages: each half patched */
	mov $0x12345678, %eax
	mov $buf + 4096 - 3, %edi
	call put_mov_ret
	call buf + 4096 - 3
	CHECK4 "across two pages", %eax, $0x12345678
	movb $0x99, buf + 4096
	call buf + 4096 - 3
	CHECK4 "second page patched", %eax, $0x12995678
	movb $0x88, buf + 4096 - 1
	call buf + 4096 - 3
	CHECK4 "first page patched", %eax, $0x12998878
	movb $0x55, buf + 4096 + ALIAS
	call buf + 4096 - 3
	CHECK4 "second page patched through the alias", %eax, $0x12558878
	movl $0xabcd1122, buf + 4096 - 2
	call buf + 4096 - 3
	CHECK4 "store across the pages", %eax, $0xabcd1122

	/* -- blocks that chain into the patched page */
	mov $buf, %edi
	movb $0xe9, (%edi) /* jmp buf + 4096 */
	movl $4096 - 5, 1(%edi)
	mov $1, %eax
	mov $buf + 4096, %edi
	call put_mov_ret
	xor %ebp, %ebp
	mov $1, %ecx
1:	call buf
	cmp %ecx, %eax
	je 2f
	inc %ebp
2:	inc %ecx
	mov %ecx, buf + 4096 + 1
	cmp $100, %ecx
	jb 1b
	CHECK4 "chained into a patched page", %ebp, $0
	/* the jump itself goes elsewhere */
	mov $77, %eax
	mov $buf + 8192, %edi
	call put_mov_ret
	movl $8192 - 5, buf + 1
	call buf
	CHECK4 "chained jump patched", %eax, $77

	/* -- data beside code: no change of what runs */
	mov $buf, %edi
	/* buf: incl buf+64; ret */
	movw $0x05ff, (%edi)
#if LONG
	movl $64 - 6, 2(%edi)
#else
	movl $buf + 64, 2(%edi)
#endif
	movb $0xc3, 6(%edi)
	movl $0, buf + 64
	mov $5000, %ecx
1:	call buf
	loop 1b
	CHECK4 "counter beside the code", buf + 64, $5000

	/* -- the callee patches what its caller runs next */
	mov $0, %eax
	call patcher
patched: mov $1, %eax
	CHECK4 "callee patches its return", %eax, $0x2a
	/* -- the stack runs through the page of the code */
	mov SP, BX
	mov $0x2b, %eax
	mov $buf, %edi
	call put_mov_ret
	mov $buf + 128, %esp
	mov $100, %ecx
1:	call buf
	push CX
	pop CX
	loop 1b
	mov BX, SP
	CHECK4 "stack in the page of the code", %eax, $0x2b
	/* a CALL whose pushed address overwrites its target's next bytes */
	mov $buf, %edi
	movl $0x90909090, buf
	movl $0x90909090, buf + 4
	movl $0x90909090, buf + 8
	movl $0x90909090, buf + 12
	movb $0xc3, buf + 16
	call buf
	mov SP, BX
	mov $1f, %eax
	movb $0x5a, buf /* pop; then a jump back */
	movb $0xff, buf + 1
	movb $0xe2, buf + 2 /* jmp *%edx */
	mov $buf + 4 + W, %esp
	call buf
1:	mov BX, SP
	CHECK4 "CALL pushes into its target's block", %edx, $1b

	/* -- remapped page */
	movl $buf + 7, remap_table
	mov $0x111, %eax
	mov $buf, %edi
	call put_mov_ret
	mov $0x222, %eax
	mov $other, %edi
	call put_mov_ret
	mov $REMAP, %ebx
	mov $50, %ecx
	xor %ebp, %ebp
1:	movl $buf + 7, remap_table
	invlpg (BX)
	call *BX
	cmp $0x111, %eax
	je 2f
	inc %ebp
2:	movl $other + 7, remap_table
	invlpg (BX)
	call *BX
	cmp $0x222, %eax
	je 2f
	inc %ebp
2:	loop 1b
	CHECK4 "page remapped, INVLPG", %ebp, $0
	mov $50, %ecx
1:	movl $buf + 7, remap_table
	mov %cr3, AX
	mov AX, %cr3
	call *BX
	cmp $0x111, %eax
	je 2f
	inc %ebp
2:	movl $other + 7, remap_table
	mov %cr3, AX
	mov AX, %cr3
	call *BX
	cmp $0x222, %eax
	je 2f
	inc %ebp
2:	loop 1b
	CHECK4 "page remapped, CR3", %ebp, $0
	/* the code changes at its physical address while mapped elsewhere */
	movl $buf + 7, remap_table
	invlpg (BX)
	call *BX
	movb $0x44, buf + 1
	call *BX
	CHECK4 "changed below the mapping", %eax, $0x144
	movb $0x45, 1(BX)
	call buf
	CHECK4 "changed above the mapping", %eax, $0x145
	/* the page goes away and comes back */
	movl $0, remap_table
	invlpg (BX)
	TRY REMAP, K
	CHECK4 "page unmapped: vector", tr_vec, $VPF
	CHECK4 "page unmapped: ip", tr_ip, $REMAP
	movl $buf + 7, remap_table
	call *BX
	CHECK4 "page mapped again", %eax, $0x145
	/* an instruction across into a page that is missing */
	movb $0xb8, buf + 4095
	TRY REMAP+4095, U
	CHECK4 "fetch into a missing page: vector", tr_vec, $VPF
	CHECK4 "fetch into a missing page: ip", tr_ip, $REMAP+4095
	CHECK4 "fetch into a missing page: cr2", tr_cr2, $REMAP+4096
	movl $other + 7, remap_table + 4 + 4 * LONG
	movl $0xcc112233, other
	movb $0xcc, other + 4
	TRY REMAP+4095, U
	CHECK4 "fetch across: value", tr_ax, $0xcc112233

	/* -- the same bytes in another mode: 40 40 40: inc thrice, or prefixes */
	movl $0x40404040, buf
	movl $0xcbc0ff40, buf + 4
	mov SP, BP
	mov $10, %eax
#if LONG
	/* 64-bit: prefixes, inc %eax, lret; compatibility mode: five incs, inc, lret */
	sub $8, %rsp
	movl $1f, (%rsp)
	movl $C0, 4(%rsp)
	jmp buf
1:	CHECK4 "64-bit reading of the bytes", %eax, $11
	mov $10, %eax
	mov $snip_stack_top - 8, %esp
	movl $1f, (%rsp)
	movl $C0, 4(%rsp)
	ljmp *far32
1:	mov %rbp, %rsp
	CHECK4 "compatibility reading of the bytes", %eax, $16
#else
	push $C0C
	push $1f
	jmp buf
1:	CHECK4 "32-bit reading of the bytes", %eax, $16
	movl $0x40404040, buf
	movl $0xcb66c0ff, buf + 4 /* 16-bit: inc %ax four times, inc %ax, lretl */
	SETDESC SLOT, buf, 0xffff, A_CODE
	mov $0x1fffa, %eax
	push $C0
	push $1f
	ljmp $SLOT, $0
1:	mov %ebp, %esp
	CHECK4 "16-bit reading of the bytes", %eax, $0x1ffff
#endif
	ret

patcher:
	movl $0x2a, patched + 1
	ret

	.data
	.balign 16
#if LONG
far32:	.long buf
	.short C0C
#endif
	.balign 64
scratch2: .skip 512
	.text
