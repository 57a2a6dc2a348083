// MODES: 32 64
/*
 * Exact state at a fault: flags (live or dead), registers and stack pointer in the frame of #PF,
 * #DE, #GP and #UD. 0x50000000 is mapped nowhere.
 */
#include "guest.inc"

	/* Flags at a #PF by ring 3, read. want: CF 1, PF 4, AF 0x10, ZF 0x40, SF 0x80, DF 0x400, OF 0x800. */
.macro FL name:req, body:req, want:req, err=4
	R "flags: \name", U, VPF, \err, "\body", val=\want, mask=0xcd5, bits=16
.endm
	.set BAD, 0x50000000

.macro lretn
#if LONG
	lretq
#else
	lretl
#endif
.endm
.macro iretn
#if LONG
	iretq
#else
	iretl
#endif
.endm

	FL "stc, dead after", "stc; 9: mov BAD, %eax; clc", 1
	FL "clc, dead after", "stc; clc; 9: mov BAD, %eax; stc", 0
	FL "cmc", "stc; cmc; cmc; 9: mov BAD, %eax; xor %eax, %eax", 1
	R "flags: imul", U, VPF, 4, "mov $0x10000, %eax; imul %eax, %eax; 9: mov BAD, %edx; add $1, %ecx", val=0x801, mask=0xc01, bits=16
	FL "std", "std; 9: mov BAD, %eax; cld", 0x400
	FL "add, dead after", "mov $0x7fffffff, %eax; add $1, %eax; 9: mov BAD, %eax; add %eax, %eax", 0x894
	FL "add carry zero", "mov $-1, %eax; add $1, %eax; 9: mov BAD, %ecx; test %eax, %eax", 0x55
	FL "sub borrow", "mov $0, %eax; sub $1, %eax; 9: mov BAD, %ecx; or $1, %eax", 0x95
	FL "sub overflow", "mov $0x80, %al; sub $1, %al; 9: mov BAD, %ecx; and $1, %eax", 0x810
	FL "cmp equal", "cmp %eax, %eax; 9: mov BAD, %ecx; cmp $1, %eax", 0x44
	FL "inc keeps carry", "stc; mov $0xff, %cl; inc %cl; 9: mov BAD, %edx; add $1, %ecx", 0x55
	FL "dec keeps carry", "stc; mov $0x80, %cl; dec %cl; 9: mov BAD, %edx; add $1, %ecx", 0x811
	FL "neg", "mov $1, %ecx; neg %ecx; 9: mov BAD, %edx; add $1, %ecx", 0x95
	FL "not changes none", "stc; std; not %ecx; 9: mov BAD, %edx; add $1, %ecx", 0x401
	R "flags: shl 1", U, VPF, 4, "mov $0xc0000000, %ecx; shl $1, %ecx; 9: mov BAD, %edx; add $1, %ecx", val=0x85, mask=0xcc5, bits=16
	FL "shl by cl = 0", "mov $1, %eax; cmp $2, %eax; xor %ecx, %ecx; stc; shl %cl, %eax; 9: mov BAD, %edx; add $1, %ecx", 0x45
	FL "rol changes CF OF only", "xor %eax, %eax; mov $0x80000000, %eax; rol $1, %eax; 9: mov BAD, %edx; add $1, %ecx", 0x845
	FL "bt", "mov $4, %eax; xor %ecx, %ecx; bt $2, %eax; 9: mov BAD, %edx; add $1, %ecx", 0x45
	FL "sahf", "mov $0xd5, %ah; sahf; 9: mov BAD, %edx; add $1, %ecx", 0xd5
	FL "popf", "pushw $0xcd7; popfw; 9: mov BAD, %edx; add $1, %ecx", 0xcd5
	FL "after a taken branch", "stc; jc 1f; ud2; 1: 9: mov BAD, %edx; add $1, %ecx", 1
	FL "after a branch not taken", "clc; jc 1f; 9: mov BAD, %edx; add $1, %ecx; 1: ud2", 0
	FL "after a loop", "mov $3, %ecx; stc; 1: inc %eax; loop 1b; 9: mov BAD, %edx; add $1, %ecx", 0x11
	FL "after lea and mov", "stc; lea 5(%eax), %eax; mov %eax, %ecx; 9: mov BAD, %edx; clc", 1
	FL "after a push and pop", "stc; push rAX; pop rCX; 9: mov BAD, %edx; clc", 1
	FL "after a call and ret", "stc; call 1f; jmp 2f; 1: ret; 2: 9: mov BAD, %edx; clc", 1
	FL "after a memory load", "stc; mov (%ebx), %eax; 9: mov BAD, %edx; clc", 1
	FL "after a store", "stc; mov %eax, (%ebx); 9: mov BAD, %edx; clc", 1
	FL "after an add to memory", "movl $-1, (%ebx); addl $1, (%ebx); 9: mov BAD, %edx; clc", 0x55
	FL "store", "stc; 9: mov %edx, BAD; clc", 1, 6
	FL "add from memory", "stc; 9: add BAD, %edx; clc", 1, 4
	FL "add to memory", "stc; 9: add %edx, BAD; clc", 1, 6
	FL "adc to memory", "stc; 9: adc %edx, BAD; clc", 1, 6
	FL "inc memory", "stc; 9: incl BAD; clc", 1, 6
	FL "cmp memory", "stc; 9: cmpl $5, BAD; clc", 1, 4
	FL "test memory", "stc; 9: testl $5, BAD; clc", 1, 4
	FL "shl memory", "stc; 9: shll $5, BAD; clc", 1, 6
	FL "shl memory by 0", "stc; 9: shll %cl, BAD; clc", 1, 6
	FL "shld memory", "stc; 9: shld $5, %eax, BAD; clc", 1, 6
	FL "bt memory", "stc; 9: btl $5, BAD; clc", 1, 4
	FL "bts memory", "stc; 9: btsl $5, BAD; clc", 1, 6
	FL "bts memory far", "stc; mov $0x80000000, %eax; 9: btsl %eax, BAD; clc", 1, 6
	FL "xchg memory", "stc; 9: xchg %eax, BAD; clc", 1, 6
	FL "xadd memory", "stc; 9: xadd %eax, BAD; clc", 1, 6
	FL "cmpxchg memory", "stc; 9: cmpxchg %eax, BAD; clc", 1, 6
	FL "cmpxchg8b memory", "stc; 9: cmpxchg8b BAD; clc", 1, 6
	FL "lock add", "stc; 9: lock addl $1, BAD; clc", 1, 6
	FL "neg memory", "stc; 9: negl BAD; clc", 1, 6
	FL "mul memory", "stc; 9: mull BAD; clc", 1, 4
	FL "div memory", "stc; 9: divl BAD; clc", 1, 4
	FL "imul memory", "stc; 9: imul BAD, %eax; clc", 1, 4
	FL "setc memory", "stc; 9: setc BAD; clc", 1, 6
	FL "cmov memory, false", "stc; 9: cmovnc BAD, %eax; clc", 1, 4
	FL "movdqu load", "stc; 9: movdqu BAD, %xmm0; clc", 1, 4
	FL "movdqu store", "stc; 9: movdqu %xmm0, BAD; clc", 1, 6
	FL "fld", "stc; 9: fldl BAD; clc", 1, 4
	FL "fstp", "fldz; stc; 9: fstpl BAD; clc", 1, 6
	FL "fxsave", "stc; 9: fxsave BAD; clc", 1, 6
	FL "comisd memory", "stc; 9: comisd BAD, %xmm0; clc", 1, 4
	FL "scas", "mov $BAD, %edi; stc; 9: scasb; clc", 1, 4
	FL "cmps", "mov $BAD, %esi; stc; 9: cmpsb; clc", 1, 4
	FL "repe cmps in the middle", "mov $BAD - 2, %esi; mov $(BAD & 0x3fffffff), %edi; mov $9, %ecx; stc; 9: mov BAD, %eax; clc", 1, 4
	FL "lods", "mov $BAD, %esi; stc; 9: lodsl; clc", 1, 4
	FL "pop to memory", "push rAX; stc; 9: pop BAD; clc", 1, 6
	FL "push memory", "stc; 9: push BAD; clc", 1, 4
	FL "jmp memory", "stc; 9: jmp *BAD; clc", 1, 4
	FL "call memory", "stc; 9: call *BAD; clc", 1, 4
	FL "movzx", "stc; 9: movzbl BAD, %eax; clc", 1, 4
	FL "lar memory", "stc; 9: lar BAD, %eax; clc", 1, 4
	FL "mov from segment", "stc; 9: mov %ds, BAD; clc", 1, 6
	FL "sgdt", "stc; 9: sgdt BAD; clc", 1, 6

	/* #DE, #UD, #GP */
.macro FV name:req, vec:req, body:req, want:req, err=0
	R "flags: \name", U, \vec, \err, "\body", val=\want, mask=0xcd5, bits=16
.endm
	FV "div by zero", VDE, "stc; 9: div %ecx; clc", 1
	FV "div by zero after add", VDE, "mov $-1, %eax; add $1, %eax; 9: div %ecx; clc", 0x55
	FV "div overflow", VDE, "mov $1, %edx; mov $1, %ecx; cmp %eax, %eax; 9: div %ecx; clc", 0x44
	FV "idiv overflow", VDE, "mov $0x80000000, %eax; cltd; mov $-1, %ecx; cmp %eax, %eax; 9: idiv %ecx; clc", 0x44
	FV "div 8 overflow", VDE, "mov $0x100, %eax; mov $1, %ecx; stc; 9: div %cl; clc", 1
	FV "idiv 8 overflow", VDE, "mov $0x80, %eax; mov $1, %ecx; stc; 9: idiv %cl; clc", 1
	FV "idiv 16 overflow", VDE, "mov $0x8000, %eax; mov $0xffff, %edx; mov $-1, %ecx; stc; 9: idiv %cx; clc", 1
	FV "ud2", VUD, "stc; 9: ud2; clc", 1
	FV "cli", VGP, "stc; 9: cli; clc", 1
	FV "int3", VBP, "stc; int3; 9: clc", 1
	FV "int 0x80", 0x80, "stc; int $0x80; 9: clc", 1
	FV "movaps misaligned", VGP, "stc; 9: movaps 1(%ebx), %xmm0; clc", 1
	FV "lock on a register", VUD, "stc; 9: .byte 0xf0, 0x01, 0xc0; clc", 1
	FV "lock mov", VUD, "stc; 9: .byte 0xf0, 0x89, 0x03; clc", 1
#if !LONG
	FV "aam 0", VDE, "stc; 9: .byte 0xd4, 0; clc", 1
	FV "bound", VBR, "stc; movl $5, (%ebx); movl $9, 4(%ebx); sbb %ecx, %ecx; stc; 9: bound %ecx, (%ebx); clc", 0x95
	FV "into", VOF, "mov $0x7f, %al; inc %al; into; 9: add %al, %al", 0x890
#else
	FV "div 64", VDE, "stc; 9: div %rcx; clc", 1
	FV "idiv 64 overflow", VDE, "mov $1, %eax; ror $1, %rax; cqo; mov $-1, %rcx; 9: idiv %rcx; clc", 0x801
	FV "non-canonical load", VGP, "mov $1, %eax; ror $1, %rax; 9: mov (%rax), %ecx; clc", 0x801
	FV "non-canonical push", VSS, "mov $1, %eax; ror $1, %rax; mov %rax, %rsp; 9: push %rax; clc", 0x801
	FV "non-canonical store, dead flags", VGP, "mov $1, %eax; ror $1, %rax; cmp %eax, %eax; 9: mov %ecx, 5(%rax); add %ecx, %ecx", 0x44
#endif

	/* Registers and the stack pointer. */
.macro RG name:req, body:req, want:req, err=4
	R "state: \name", U, VPF, \err, "\body", val=\want
.endm
	RG "results before the fault", "mov $1, %eax; add $5, %eax; 9: mov BAD, %ecx; add $7, %eax", 6
	RG "load into its own base", "mov $BAD, %eax; 9: mov (%eax), %eax", BAD
	RG "load with index", "mov $BAD, %eax; mov $4, %ecx; 9: mov 8(%eax,%ecx,4), %eax", BAD
	RG "push: stack pointer", "mov $BAD + 64, %eax; mov rAX, rSP; 9: push rAX", BAD+64, 6
	RG "xchg", "mov $0x77, %eax; 9: xchg %eax, BAD", 0x77, 6
	RG "xadd", "mov $0x77, %eax; 9: xadd %eax, BAD", 0x77, 6
	RG "cmpxchg", "mov $0x77, %eax; 9: cmpxchg %ecx, BAD", 0x77, 6
	RG "mul", "mov $0x77, %eax; 9: mull BAD", 0x77
	RG "lods", "mov $BAD, %esi; mov $0x77, %eax; 9: lodsb", 0x77
	RG "xlat", "mov $BAD, %ebx; mov $0x77, %eax; 9: xlatb", 0x77
	RG "cmov false loads", "mov $0x77, %eax; cmp %eax, %eax; 9: cmovne BAD, %eax", 0x77
	RG "leave", "mov $BAD, %ebp; mov $0x77, %eax; 9: leave", 0x77
	RG "8-bit register", "mov $0x1234, %eax; mov $0x56, %ah; 9: add BAD, %ah", 0x5634

.macro SPROW name:req, vec:req, err:req, body:req, post:req
	R "sp: \name", U, \vec, \err, "\body", post=\post
.endm
	SPROW "push", VPF, 6, "mov $BAD, %eax; mov rAX, rSP; 9: push rAX", sp_bad
	SPROW "push memory", VPF, 4, "9: push BAD", sp_start
	SPROW "pop to bad memory", VPF, 6, "push rAX; 9: pop BAD", sp_pushed
	SPROW "call on a bad stack", VPF, 6, "mov $BAD, %eax; mov rAX, rSP; 9: call 1f; 1:", sp_bad
	SPROW "call through bad memory", VPF, 4, "9: call *BAD", sp_start
	SPROW "ret on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: ret", sp_bad
	SPROW "ret n on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: ret $8", sp_bad
	SPROW "pop on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: pop rCX", sp_bad
	SPROW "pushf on a bad stack", VPF, 6, "mov $BAD, %eax; mov rAX, rSP; 9: pushf", sp_bad
	SPROW "popf on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: popf", sp_bad
	SPROW "enter on a bad stack", VPF, 6, "mov $BAD, %eax; mov rAX, rSP; 9: enter $16, $0", sp_bad
	SPROW "enter: last write of the frame checked", VPF, 6, "9: enter $0xfff0, $0; nop; mov $BAD, %eax; mov rAX, rSP; 9: push rAX", sp_bad
	SPROW "enter nested, bad frame", VPF, 4, "mov $BAD, %ebp; 9: enter $16, $3", sp_start
	SPROW "leave with a bad frame", VPF, 4, "mov $BAD, %ebp; 9: leave", sp_start
	SPROW "pop into sp-relative", OK, 0, "movl $0, -W(%esp); push $0x77; pop -W(%esp); mov -W(%esp), %eax", sp_start
	SPROW "iret on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: iretn", sp_bad
	SPROW "lret on a bad stack", VPF, 4, "mov $BAD, %eax; mov rAX, rSP; 9: lretn", sp_bad
	SPROW "push sp", OK, 0, "push rSP; pop rCX; cmp rCX, rSP; je 1f; ud2; 1:", sp_start
	SPROW "pop sp", OK, 0, "mov rSP, rCX; push rCX; pop rSP; mov rSP, rAX", sp_start
	SPROW "div by zero", VDE, 0, "push rAX; 9: div %ecx", sp_pushed
#if !LONG
	SPROW "pusha on a bad stack", VPF, 6, "mov $BAD, %eax; mov %eax, %esp; 9: pusha", sp_bad
	SPROW "pusha half bad", VPF, 6, "mov $0x40000000, %ecx; mov $BAD, %eax; mov %eax, %esp; 9: pusha", sp_bad
	SPROW "popa on a bad stack", VPF, 4, "mov $BAD, %eax; mov %eax, %esp; 9: popa", sp_bad
	SPROW "pop ds on a bad stack", VPF, 4, "mov $BAD, %eax; mov %eax, %esp; 9: pop %ds", sp_bad
	SPROW "bad pop ss", VGP, 0, "push $0; 9: pop %ss", sp_pushed
#endif
	SPROW "bad pop fs", VGP, D0, "push $D0; 9: pop %fs", sp_pushed

sp_bad:
	mov $BAD, %eax
	sub tr_sp, AX
	ret
sp_start:
	mov $snip_stack_top, %eax
	sub tr_sp, AX
	ret
sp_pushed:
	mov $snip_stack_top - W, %eax
	sub tr_sp, AX
	ret

	/* Jumps to nowhere: the instruction pointer of the fault is the target. */
jump_bad:
	mov $BAD, %eax
	jmp *AX
call_bad:
	mov $BAD, %eax
	call *AX
ret_bad:
	push $BAD
	ret

test_main:
	call paging_on
	call run_rows
	TRY jump_bad, U
	CHECK4 "jump to nowhere: vector", tr_vec, $VPF
	CHECK4 "jump to nowhere: ip", tr_ip, $BAD
	CHECK4 "jump to nowhere: cr2", tr_cr2, $BAD
	TRY call_bad, U
	CHECK4 "call to nowhere: vector", tr_vec, $VPF
	CHECK4 "call to nowhere: ip", tr_ip, $BAD
	CHECK4 "call to nowhere: sp, pushed", tr_sp, $snip_stack_top-W
	TRY ret_bad, U
	CHECK4 "ret to nowhere: ip", tr_ip, $BAD
	CHECK4 "ret to nowhere: sp, popped", tr_sp, $snip_stack_top
	mov $scratch + 0x1000, BX
	TRY jump_bad, K
	movzbl feat_nx, %ecx
	shl $(4 * LONG), %ecx
	and $(0x10 * LONG), %ecx /* I/D: with EFER.NXE only */
	CHECK4 "jump to nowhere, ring 0: error", tr_err, %ecx
	ret
