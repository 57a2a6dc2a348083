// MODES: 32 64
/*
 * Segmentation: limits, expand-down, rights, bases and wrap, accessed bits, LDT, call gates. QEMU's
 * TCG does not check limits and rights of accesses. SDM 3, chapters 3 and 5.
 */
#include "guest.inc"

	.set S4K, SLOT + 3          /* data 3, base scratch_page, limit 0xfff, bytes */
	.set SDOWN, SLOT + 0x0b     /* the same, expand-down, 32-bit */
	.set SDOWN16, SLOT + 0x13   /* expand-down, 16-bit */
	.set SG, SLOT + 0x1b        /* limit 0 in pages */
	.set SRO, SLOT + 0x23       /* read-only */
	.set SXO, SLOT + 0x2b       /* code 3, execute-only, flat */
	.set SRX, SLOT + 0x33       /* code 3, readable, flat */
	.set SCODE, SLOT + 0x3b     /* code 3, base codebuf, limit 0xf */
	.set SNACC, SLOT + 0x43     /* data 3, accessed bit clear */
	.set GATE, SLOT + 0x53      /* call gate, DPL 3, to C0; LONG: 16 bytes */
	.set GATE0, SLOT + 0x60     /* DPL 0 */
	.set GATENP, SLOT + 0x73
	.set GATENULL, SLOT + 0x83
	.set GATEDATA, SLOT + 0x93
	.set GATENPC, SLOT + 0xa3
	.set GATE3, SLOT + 0xb3     /* to ring 3 code */
	.set GATECONF, SLOT + 0xc3  /* to conforming code */
	.set GATE16, SLOT + 0xd3    /* 16-bit (LONG: bad type) */
	.set GATE1, SLOT + 0xe3     /* to ring 1 */
	.set GATEHI, SLOT + 0xf3    /* LONG: type bits in the upper half */
	.set CONF, SLOT + 0x100
	.set NPC, SLOT + 0x108
	.set SNACCC, SLOT + 0x113
	.set LDT2, SLOT + 0x120
	.set GATEFLOOR, SLOT + 0x143
#if LONG
	.set FLAT, CU
#else
	.set FLAT, U
#endif

	/* ---- limits; in compatibility mode as in 32-bit mode */
.macro FSROW name:req, vec:req, sel:req, body:req
	.if \vec == OK
	R "\name", FLAT, \vec, 0, "mov $\sel, %eax; mov %eax, %fs; 9: \body"
	.else
	R "\name", FLAT, \vec, 0, "mov $\sel, %eax; mov %eax, %fs; 9: \body", need=feat_not_tcg
	.endif
.endm
	FSROW "byte at the limit", OK, S4K, "mov %fs:0xfff, %al"
	FSROW "byte past the limit", VGP, S4K, "mov %fs:0x1000, %al"
	FSROW "long at the limit", OK, S4K, "mov %fs:0xffc, %eax"
	FSROW "long across the limit", VGP, S4K, "mov %fs:0xffd, %eax"
	FSROW "store across the limit", VGP, S4K, "mov %eax, %fs:0xffe"
	FSROW "word across the limit", VGP, S4K, "mov %fs:0xfff, %ax"
	FSROW "negative offset", VGP, S4K, "mov %fs:-1, %al"
	FSROW "long across 4 GiB", VGP, S4K, "mov %fs:-2, %eax"
	FSROW "16 bytes at the limit", OK, S4K, "movups %fs:0xff0, %xmm0"
	FSROW "16 bytes across the limit", VGP, S4K, "movups %fs:0xff1, %xmm0"
	FSROW "10 bytes across the limit", VGP, S4K, "fldt %fs:0xff7"
	FSROW "fxsave across the limit", VGP, S4K, "fxsave %fs:0xe10"
	FSROW "cmpxchg8b across the limit", VGP, S4K, "cmpxchg8b %fs:0xff9"
	FSROW "add across the limit", VGP, S4K, "addl $1, %fs:0xffd"
	FSROW "lea does not check", OK, S4K, ".byte 0x64; lea 0x5000, %eax"
	FSROW "jmp indirect past the limit", VGP, S4K, "jmp *%fs:0x1000"
	FSROW "push from past the limit", VGP, S4K, "pushl %fs:0xffd"
	FSROW "pop to past the limit", VGP, S4K, "pushl %eax; 9: popl %fs:0xffd"
	FSROW "bt far past the limit", VGP, S4K, "mov $0x8000, %ecx; 9: bt %ecx, %fs:0"
	FSROW "lods past the limit", VGP, S4K, "mov $0x1000, %esi; 9: fs lodsb"
	FSROW "rep lods up to the limit", VGP, S4K, "mov $0xff0, %esi; mov $100, %ecx; 9: rep lodsb %fs:(%esi)"
	FSROW "page limit", OK, SG, "mov %fs:0xffc, %eax"
	FSROW "past a page limit", VGP, SG, "mov %fs:0xffd, %eax"
	FSROW "expand-down: at the limit", VGP, SDOWN, "mov %fs:0xfff, %al"
	FSROW "expand-down: past the limit", OK, SDOWN, "mov %fs:0x1000, %al"
	FSROW "expand-down: across", VGP, SDOWN, "mov %fs:0xffe, %eax"
	FSROW "expand-down: 0", VGP, SDOWN, "mov %fs:0, %al"
	FSROW "expand-down: across the top", VGP, SDOWN, "mov %fs:-2, %eax"
	FSROW "expand-down 16: at 0xffff", OK, SDOWN16, "mov %fs:0xffff, %al"
	FSROW "expand-down 16: across the top", VGP, SDOWN16, "mov %fs:0xfffe, %eax"
	FSROW "expand-down 16: past the top", VGP, SDOWN16, "mov %fs:0x10000, %al"
	FSROW "read-only: read", OK, SRO, "mov %fs:0, %eax"
	FSROW "read-only: write", VGP, SRO, "mov %eax, %fs:0"
	FSROW "read-only: add", VGP, SRO, "addl $1, %fs:0"
	FSROW "read-only: cmpxchg unequal", VGP, SRO, "cmpxchg %ecx, %fs:0"
	FSROW "readable code: read", OK, SRX, "mov %fs:(%ebx), %eax"
	FSROW "readable code: write", VGP, SRX, "mov %eax, %fs:(%ebx)"
	FSROW "null: read", VGP, 0, "mov %fs:(%ebx), %eax"
	FSROW "null with RPL: write", VGP, 3, "mov %eax, %fs:(%ebx)"
	R "null: read", LONG*CK, VGP, 0, "mov %fs:(%ebx), %eax", need=feat_not_tcg
	R "cs: write", FLAT, VGP, 0, "mov %eax, %cs:(%ebx)", need=feat_not_tcg
	R "cs: read", FLAT, OK, 0, "mov %cs:(%ebx), %eax"
	R "execute-only cs: read", FLAT, VGP, 0, "ljmp $SXO, $1f; 1: 9: mov %cs:(%ebx), %eax", need=feat_not_tcg
	R "ss: past the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; 9: mov %ss:0x1000, %al", need=feat_not_tcg
	R "ebp is ss", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0x1000, %ebp; 9: mov (%ebp), %al", need=feat_not_tcg
	R "ebp index is ds", FLAT, OK, 0, "mov $S4K, %eax; mov %eax, %ss; mov %ebx, %ebp; mov (,%ebp,1), %al"
	R "esp is ss", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; 9: mov (%esp), %al", need=feat_not_tcg
	R "push past the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0x1004, %esp; 9: push %eax", need=feat_not_tcg
	R "push below 0", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $2, %esp; 9: push %eax", need=feat_not_tcg
	R "pop past the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0xffe, %esp; 9: pop %eax", need=feat_not_tcg
	R "call, push past the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0, %esp; 9: call 1f; 1:", need=feat_not_tcg
	R "push at the limit", FLAT, OK, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0x1000, %esp; push %eax; pop %ecx"
	R "pusha across the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $0x10, %esp; 9: pusha", need=feat_not_tcg
	R "enter past the limit", FLAT, VSS, 0, "mov $S4K, %eax; mov %eax, %ss; mov $2, %esp; 9: enter $0, $0", need=feat_not_tcg
	/* a 16-bit stack: SP wraps, the rest of ESP stays */
	R "16-bit stack: push wraps", FLAT, OK, 0, "mov $D16U, %eax; mov %eax, %ss; mov $0x12340000, %esp; push %eax; mov %esp, %eax", val=0x1234fffc
	R "16-bit stack: pop wraps", FLAT, OK, 0, "mov $D16U, %eax; mov %eax, %ss; mov $0x1234fffc, %esp; pop %ecx; mov %esp, %eax", val=0x12340000
	R "16-bit stack: push across the top", FLAT, VSS, 0, "mov $D16U, %eax; mov %eax, %ss; mov $2, %esp; 9: push %eax", need=feat_not_tcg
	R "16-bit stack: leave uses BP", FLAT, OK, 0, "mov $D16U, %eax; mov %eax, %ss; mov $0x5678fffc, %ebp; mov $0x43210100, %esp; leave; mov %esp, %eax", val=0x43210000
	R "16-bit stack: enter", FLAT, OK, 0, "mov $D16U, %eax; mov %eax, %ss; mov $0x43210100, %esp; enter $0x10, $0; mov %esp, %eax", val=0x432100ec

#if LONG
	/* ---- 64-bit mode: bases of FS and GS only, no limits */
	R "64: fs has its base", U, OK, 0, "mov $S4K, %eax; mov %eax, %fs; mov %fs:0x104, %eax", val=0x11223344
	R "64: fs has no limit", U, OK, 0, "mov $S4K, %eax; mov %eax, %fs; mov %fs:0x1104, %eax", val=0x55667788
	R "64: es has no base", U, OK, 0, "mov $S4K, %eax; mov %eax, %es; movl $0x77, (%ebx); mov %es:(%ebx), %eax", val=0x77
	R "64: null ds works", U, OK, 0, "xor %eax, %eax; mov %eax, %ds; movl $0x77, (%ebx); mov (%ebx), %eax", val=0x77
	R "64: write through cs", U, OK, 0, "movl $0x78, %cs:(%ebx); mov (%ebx), %eax", val=0x78
	R "64: read-only fs is writable", U, OK, 0, "mov $SRO, %eax; mov %eax, %fs; mov %fs:8, %eax; mov %eax, %fs:8"
	R "64: fs base and a 32-bit address", U, OK, 0, "mov $S4K, %eax; mov %eax, %fs; mov $0x104, %eax; mov %fs:(%eax), %eax", val=0x11223344
	R "64: the 32-bit address wraps before the base", U, OK, 0, "mov $S4K, %eax; mov %eax, %fs; mov $-4, %eax; mov %fs:0x108(%eax), %eax", val=0x11223344
#else
	/* ---- 16-bit addresses */
	R "16: word across 0xffff", REAL, VGP, 0, "mov $0xffff, %bx; 9: mov (%bx), %ax", bits=2, need=feat_not_tcg
	R "16: long across 0xffff", REAL, VGP, 0, "mov $0xfffd, %bx; 9: mov (%bx), %eax", need=feat_not_tcg
	R "16: 32-bit offset past 0xffff", REAL, VGP, 0, "mov $0x10000, %ebx; 9: mov (%ebx), %al", need=feat_not_tcg
	R "16: word across 0xffff", V86, VGP, 0, "mov $0xffff, %bx; 9: mov (%bx), %ax", need=feat_not_tcg
	R "16: 32-bit offset past 0xffff", V86, VGP, 0, "mov $0x10000, %ebx; 9: mov (%ebx), %al", need=feat_not_tcg
	R "16: word across 0xffff", U16, VGP, 0, "mov $0xffff, %bx; 9: mov (%bx), %ax", need=feat_not_tcg
	R "16: 32-bit offset past 0xffff", K16, VGP, 0, "mov $0x10000, %ebx; 9: mov (%ebx), %al", need=feat_not_tcg
	R "16: the sum wraps", REAL, OK, 0, "movw $0x7788, lowscratch + 2 - LOW; mov $lowscratch - LOW, %bx; mov $0xfff0, %si; mov 0x12(%bx,%si), %ax", val=0x7788, mask=0xffff
	R "16: the sum wraps", V86, OK, 0, "movw $0x7788, lowscratch + 2 - LOW; mov $lowscratch - LOW, %bx; mov $0xfff0, %si; mov 0x12(%bx,%si), %ax", val=0x7788, mask=0xffff
	R "16: the sum wraps", U16, OK, 0, "movw $0x7788, lowscratch + 2 - LOW; mov $lowscratch - LOW, %bx; mov $0xfff0, %si; mov 0x12(%bx,%si), %ax", val=0x7788, mask=0xffff
	R "16: push at sp = 0 wraps", V86, OK, 0, "xor %esp, %esp; push %ax; mov %esp, %eax", val=0xfffe
	R "16: push at sp = 1", V86, VSS, 0, "mov $1, %esp; 9: push %ax", need=feat_not_tcg
	R "16: pop at sp = 0xffff", V86, VSS, 0, "mov $0xffff, %esp; 9: pop %ax", need=feat_not_tcg
	R "16: pusha at sp = 7", V86, VSS, 0, "mov $7, %esp; 9: pusha", need=feat_not_tcg
	R "16: push at sp = 0 wraps", REAL, OK, 0, "xor %esp, %esp; push %ax; mov %esp, %eax; mov $0xfff0, %sp", val=0xfffe
	R "16: movsw across 0xffff", V86, VGP, 0, "mov $0xffff, %si; 9: movsw", need=feat_not_tcg
	R "16: movsb at 0xffff wraps si", V86, OK, 0, "mov $0xffff, %si; movsb; movzx %si, %eax", val=0
	R "16: rep movsb through the wrap", V86, OK, 0, "mov $0xfffe, %si; mov $4, %cx; rep movsb; movzx %si, %eax", val=2
	R "16: upper halves of esi kept", V86, OK, 0, "mov $0x1234ffff, %esi; lodsb; mov %esi, %eax", val=0x12340000
	R "16: loop uses cx", V86, OK, 0, "mov $0x10001, %ecx; loop 1f; mov $1, %ax; 1: mov %ecx, %eax", val=0x10000
	R "16: addr32 loop uses ecx", V86, OK, 0, "mov $0x10001, %ecx; xor %eax, %eax; 1: inc %ax; addr32 loop 1b; mov %ecx, %eax", val=0
	R "16: jcxz", V86, OK, 0, "mov $0x10000, %ecx; jcxz 1f; ud2; 1:"
	R "16: jecxz", V86, OK, 0, "mov $0x10000, %ecx; jecxz 1f; jmp 2f; 1: ud2; 2:"
	R "16: near jump past 0xffff with 32-bit operand", V86, VGP, 0, "mov $0x10000, %eax; 9: jmp *%eax", need=feat_not_tcg
	R "16: near call past 0xffff with 32-bit operand", V86, VGP, 0, "mov $0x20000, %eax; 9: call *%eax", need=feat_not_tcg
	R "16: retl past 0xffff", V86, VGP, 0, "pushl $0x20000; 9: retl", need=feat_not_tcg
	R "16: xlat wraps", V86, OK, 0, "movb $0x5c, lowscratch + 1 - LOW; mov $lowscratch - LOW + 0xff02, %ebx; movzx %bx, %ebx; mov $0xff, %al; xlatb; movzbl %al, %eax", val=0x5c
#endif

	.bss
	.balign 4096
scratch_page: .skip 8192
codebuf: .skip 4096
	.data
	.balign 8
ldt2:	.quad 0
	D 0x1000, 0xfff, 0x40f3
fptr:	.long 0
	.short 0
	.balign 8
got_sp:	.quad 0
got_ss:	.quad 0
got_cs:	.quad 0
got_fl:	.quad 0
frame:	.skip 64
	.text

	/* Where the gates lead: notes the stack and goes back. */
gate_target:
#if LONG
	mov %rsp, got_sp
	mov %ss, %eax
	mov %eax, got_ss
	mov %cs, %eax
	mov %eax, got_cs
	mov (%rsp), %rax
	mov %rax, frame
	mov 8(%rsp), %rax
	mov %rax, frame + 8
	mov 16(%rsp), %rax
	mov %rax, frame + 16
	mov 24(%rsp), %rax
	mov %rax, frame + 24
	lretq
#else
	mov %esp, %ss:got_sp
	mov %ss, %ss:got_ss
	mov %cs, %ss:got_cs
	.set i, 0
	.rept 8
	mov i * 4(%esp), %eax
	mov %eax, frame + i * 4
	.set i, i + 1
	.endr
	lretl $12
#endif
	.macro VIA_GATE sel
	movl $0, fptr
	movw $\sel, fptr + 4
	.endm
u_gate:
#if !LONG
	push $0x333
	push $0x222
	push $0x111
#endif
	lcall *fptr
u_gate_back:
	mov SP, DX
	int3
u_jmp:	ljmp *fptr
conf_target:
	mov %cs, %eax
	mov %eax, got_cs
	mov SP, got_sp
	int3
ring1_target:
	mov %cs, %eax
	ud2

test_main:
	movl $0x11223344, scratch_page + 0x104
	movl $0x55667788, scratch_page + 0x1104
	SETDESC S4K, scratch_page, 0xfff, 0x40f3
	SETDESC SDOWN, scratch_page, 0xfff, 0x40f7
	SETDESC SDOWN16, scratch_page, 0xfff, 0xf7
	SETDESC SG, scratch_page, 0, 0xc0f3
	SETDESC SRO, scratch_page, 0xfff, 0x40f1
	SETDESC SXO, 0, 0xfffff, 0xc0f9
	SETDESC SRX, 0, 0xfffff, 0xc0fb
	SETDESC SNACC, 0, 0xfffff, 0xc0f2
	SETDESC SNACCC, 0, 0xfffff, (0xc0fa + LONG * (0x2000 - 0x4000))
	SETDESC CONF, 0, 0xfffff, (0xc09f + LONG * (0x2000 - 0x4000))
	SETDESC NPC, 0, 0xfffff, (0xc01b + LONG * (0x2000 - 0x4000))
	SETDESC LDT2, ldt2, 15, 0x82
	SETGATE GATE, C0, gate_target, 0xec, 3*(1-LONG)
	SETGATE GATE0, C0, gate_target, 0x8c
	SETGATE GATENP, C0, gate_target, 0x6c
	SETGATE GATENULL, 0, gate_target, 0xec
	SETGATE GATEDATA, D0, gate_target, 0xec
	SETGATE GATENPC, NPC, gate_target, 0xec
	SETGATE GATE3, C3, conf_target, 0xec
	SETGATE GATECONF, CONF, conf_target, 0xec
	SETGATE GATE1, C1, ring1_target, 0xec
	SETGATE GATEHI, C0, gate_target, 0xec
#if LONG
	SETGATE GATE16, C0, gate_target, 0xe4
	movl $0x0100, gdt + (GATEHI & ~7) + 12
#else
	SETGATE GATE16, C16, gate16_target-LOW, 0xe4, 2
#endif
	call run_rows

	/* -- accessed bits */
	mov $SNACC, %eax
	mov %eax, %fs
	mov gdt + (SNACC & ~7) + 4, %ecx
	shr $8, %ecx
	and $0xff, %ecx
	CHECK4 "accessed bit of data", %ecx, $0xf3
	movl $1f, fptr
	movw $SNACCC, fptr + 4
	TRY u_jmp, U
	jmp 2f
1:	int3
2:	mov gdt + (SNACCC & ~7) + 4, %ecx
	shr $8, %ecx
	and $0xff, %ecx
	CHECK4 "accessed bit of code", %ecx, $0xfb

	/* -- LDT */
	mov $LDT2, %eax
	lldt %ax
	mov $0x0c, %eax
	mov %eax, %fs
	mov %fs, %ecx
	CHECK4 "selector of another LDT", %ecx, $0x0c
#if !LONG
	movl $0xabcd, scratch_page
	movl $scratch_page, %eax
	sub $0x1000, %eax
	mov %ax, ldt2 + 8 + 2
	movl $scratch_page, %eax
	shr $16, %eax
	mov %al, ldt2 + 8 + 4
	mov %ax, %cx
	movl $scratch_page, %eax
	movw %ax, ldt2 + 8 + 2
	mov $0x0c, %eax
	mov %eax, %fs
	mov %fs:0, %ecx
	CHECK4 "base from the LDT", %ecx, $0xabcd
	/* the hidden part stays though the descriptor changes */
	movw $0, ldt2 + 8 + 2
	mov %fs:0, %ecx
	CHECK4 "hidden part stays", %ecx, $0xabcd
#endif
	mov $LDTSEL, %eax
	lldt %ax
	xor %eax, %eax
	mov %eax, %fs

	/* -- call gates */
	VIA_GATE GATE
	TRY u_gate, U
	CHECK4 "call gate: came back", tr_vec, $VBP
	CHECK4 "call gate: to", tr_ip, $u_gate_back+3+LONG
#if LONG
	CHECK4 "call gate: rsp back", tr_dx, $snip_stack_top
	CHECK4 "call gate: stack of ring 0", got_sp, $trap_stack_top-32
	CHECK4 "call gate: ss null", got_ss, $0
	CHECK4 "call gate: return ip", frame, $u_gate_back
	CHECK4 "call gate: return cs", frame + 8, $C3
	CHECK4 "call gate: old rsp", frame + 16, $snip_stack_top
	CHECK4 "call gate: old ss", frame + 24, $D3
#else
	CHECK4 "call gate: parameters released at both ends", tr_dx, $snip_stack_top
	CHECK4 "call gate: stack of ring 0", got_sp, $trap_stack_top-28
	CHECK4 "call gate: ss", got_ss, $D0
	CHECK4 "call gate: return ip", frame, $u_gate_back
	CHECK4 "call gate: return cs", frame + 4, $C3
	CHECK4 "call gate: parameter 1", frame + 8, $0x111
	CHECK4 "call gate: parameter 2", frame + 12, $0x222
	CHECK4 "call gate: parameter 3", frame + 16, $0x333
	CHECK4 "call gate: old esp", frame + 20, $snip_stack_top-12
	CHECK4 "call gate: old ss", frame + 24, $D3
#endif
	CHECK4 "call gate: cs", got_cs, $C0
	TRY u_gate, K
	CHECK4 "call gate from ring 0: came back", tr_vec, $VBP
#if LONG
	CHECK4 "call gate from ring 0: no stack switch", got_sp, $snip_stack_top-16
#else
	CHECK4 "call gate from ring 0: no stack switch", got_sp, $snip_stack_top-12-8
	CHECK4 "call gate from ring 0: no copy", frame + 8, $0x111
#endif
.macro GATEFAIL name:req, sel:req, where:req, mode:req, vec:req, err:req
	VIA_GATE \sel
	TRY \where, \mode
	CHECK4 "\name: vector", tr_vec, $\vec
	CHECK4 "\name: error", tr_err, $\err
.endm
	GATEFAIL "gate of DPL 0", GATE0, u_gate, U, VGP, GATE0
	GATEFAIL "gate of DPL 0 with RPL 3", GATE0+3, u_gate, K, VGP, GATE0
	GATEFAIL "gate not present", GATENP, u_gate, U, VNP, GATENP&~3
	GATEFAIL "gate to null", GATENULL, u_gate, U, VGP, 0
	GATEFAIL "gate to data", GATEDATA, u_gate, U, VGP, D0
	GATEFAIL "gate to code not present", GATENPC, u_gate, U, VNP, NPC
	GATEFAIL "gate to ring 3 from ring 0", GATE3, u_gate, K, VGP, C3&~3
	GATEFAIL "jmp through a gate to ring 0", GATE, u_jmp, U, VGP, C0
	GATEFAIL "jmp through a gate, ring 0", GATE0, u_jmp, U, VGP, GATE0
	GATEFAIL "gate to ring 1", GATE1, u_gate, U, VUD, 0
	CHECK4 "gate to ring 1: cs", tr_cs, $C1
	GATEFAIL "jmp through a gate to conforming code", GATECONF, u_jmp, U, VBP, 0
	CHECK4 "conforming: cs", got_cs, $CONF+3
	CHECK4 "conforming: sp", got_sp, $snip_stack_top
	GATEFAIL "call through a gate to ring 3", GATE3, u_gate, U, VBP, 0
	CHECK4 "gate to ring 3: cs", got_cs, $C3
#if LONG
	GATEFAIL "gate with bits in the upper type", GATEHI, u_gate, U, VGP, GATEHI&~3
	GATEFAIL "16-bit gate", GATE16, u_gate, U, VGP, GATE16&~3
#else
	/* -- 16-bit gate: two words of parameters */
	VIA_GATE GATE16
	TRY u_gate16, U
	CHECK4 "16-bit gate: came back", tr_vec, $VBP
	CHECK4 "16-bit gate: ip, cs", frame, $0x006bf000
	CHECK4 "16-bit gate: parameters", frame + 4, $0x44443333
	CHECK2 "16-bit gate: old sp", frame + 8, $0xffec
	CHECK2 "16-bit gate: old ss", frame + 10, $D16U
	CHECK4 "16-bit gate: sp after", tr_dx, $0xfff0
	/* -- TSS with a bad stack for ring 0 would be a double fault; ring 1's: */
	movl $0, tss_esp0 + 12
	GATEFAIL "gate, ss1 null", GATE1, u_gate, U, VTS, 0
	movl $D3, tss_esp0 + 12
	GATEFAIL "gate, ss1 of ring 3", GATE1, u_gate, U, VTS, 0x20
	movl $D1, tss_esp0 + 12

	cmpb $0, feat_not_tcg
	je 9f
	/* -- code limits: base codebuf, limit 0xf */
	SETDESC SCODE, codebuf, 0xf, 0x40fb
	mov $codebuf, %edi
	mov $0x90909090, %eax
	mov $8, %ecx
	rep stosl
	movw $SCODE, fptr + 4
	movl $0, fptr
	TRY u_jmp, U
	CHECK4 "running past the limit: vector", tr_vec, $VGP
	CHECK4 "running past the limit: ip", tr_ip, $0x10
	CHECK4 "running past the limit: cs", tr_cs, $SCODE
	movw $0xc031, codebuf + 15
	movl $12, fptr
	TRY u_jmp, U
	CHECK4 "instruction across the limit: vector", tr_vec, $VGP
	CHECK4 "instruction across the limit: ip", tr_ip, $0xf
	movl $0x10, fptr
	TRY u_jmp, U
	CHECK4 "far jump past the limit: vector", tr_vec, $VGP
	CHECK4 "far jump past the limit: error", tr_err, $0
	CHECK4 "far jump past the limit: ip", tr_ip, $u_jmp
	movw $0x0eeb, codebuf + 4 /* jmp .+16 */
	movl $4, fptr
	TRY u_jmp, U
	CHECK4 "jmp past the limit: ip of the jmp", tr_ip, $4
	CHECK4 "jmp past the limit: vector", tr_vec, $VGP
	movw $0x0e74, codebuf + 4 /* je .+16 */
	TRY u_jmp, U, 0x42
	CHECK4 "je past the limit: ip of the je", tr_ip, $4
	movl $0x000010e8, codebuf + 4 /* call */
	movb $0, codebuf + 8
	TRY u_jmp, U
	CHECK4 "call past the limit: ip of the call", tr_ip, $4
	CHECK4 "call past the limit: sp", tr_sp, $snip_stack_top
	movw $0x206a, codebuf + 4 /* push $0x20; ret */
	movb $0xc3, codebuf + 6
	TRY u_jmp, U
	CHECK4 "ret past the limit: ip of the ret", tr_ip, $6
	CHECK4 "ret past the limit: sp", tr_sp, $snip_stack_top-4
9:
#endif
	ret
#if !LONG
	/* from 16-bit code of ring 3 */
	.section .low, "awx"
	.code16
u16_code:
	pushw $0x4444
	pushw $0x3333
	jmp u16_call
	.org 0x1ffc
	.text
	.code32
u_gate16:
	mov $D16U, %eax
	mov %eax, %ss
	mov $0xfff0, %esp
	ljmp $C16U, $u16_code - LOW
	.section .low, "awx"
	.code16
	.org 0xeffb
u16_call:
	lcall $GATE16, $0
	movzx %sp, %edx
	ljmpl $U32, $u16_back
gate16_target:
	mov $0, %ebx
	.set i, 0
	.rept 3
	movl i * 4(%esp), %eax
	mov $frame + i * 4, %ebx
	movl %eax, %ss:(%ebx)
	.set i, i + 1
	.endr
	lretw $4
	.text
	.code32
u16_back:
	mov $D3, %eax
	mov %eax, %ss
	int3
#endif
