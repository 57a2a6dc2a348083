// MODES: 32 64
/*
 * Exceptions: vectors, error codes, stack frames, gates and what is wrong with them, double faults,
 * priorities. SDM 3, chapter 6.
 */
#include "guest.inc"

	.set NPC, SLOT          /* code 0, not present */
	.set CONF, SLOT + 8     /* code 0, conforming */
	.set NPD1, SLOT + 0x11  /* data 1, not present */
	.set RO1, SLOT + 0x19   /* data 1, read-only */
	.set SMALL, SLOT + 0x20 /* data 0, limit 0xfff */
	.set SMALLC, SLOT + 0x28 /* code 0, limit 0xfff bytes, base 0 */
	.set BAD, 0x50000000

	/* ---- one row a vector */
	R "#DE", U, VDE, 0, "div %ecx"
	R "#DE", K, VDE, 0, "div %ecx"
	R "#BP", K, VBP, 0, "int3; 9:"
	R "#UD", K, VUD, 0, "ud2"
	R "#UD ud1", U, VUD, 0, ".byte 0x0f, 0xb9, 0xc0"
	R "#UD undefined opcode", U, VUD, 0, ".byte 0x0f, 0x0a"
	R "#UD undefined group", U, VUD, 0, ".byte 0xfe, 0xf8"
	R "#UD lea register", U, VUD, 0, ".byte 0x8d, 0xc0"
	R "#UD pop group", U, VUD, 0, ".byte 0x8f, 0xc8"
	R "#NM x87, TS", U, VNM, 0, "fnop", pre=set_ts
	R "#NM x87, TS", K, VNM, 0, "fld1", pre=set_ts
	R "#NM x87, EM", U, VNM, 0, "fld1", pre=set_em
	R "#NM sse, TS", U, VNM, 0, "movaps %xmm0, %xmm1", pre=set_ts
	R "#UD sse, EM", U, VUD, 0, "movaps %xmm0, %xmm1", pre=set_em
	R "#UD sse, EM and TS", U, VUD, 0, "movaps %xmm0, %xmm1", pre=set_em_ts
	R "#NM mmx, TS", U, VNM, 0, "movq %mm0, %mm1", pre=set_ts
	R "#UD mmx, EM", U, VUD, 0, "movq %mm0, %mm1", pre=set_em
	R "#NM fwait, TS and MP", U, VNM, 0, "fwait", pre=set_ts
	R "fwait, TS without MP", U, OK, 0, "fwait", pre=set_ts_no_mp
	R "fwait, EM", U, OK, 0, "fwait", pre=set_em
	R "#NM fxsave, TS", U, VNM, 0, "fxsave (%ebx)", pre=set_ts
	R "#UD sse without OSFXSR", U, VUD, 0, "movaps %xmm0, %xmm1", pre=no_osfxsr
	R "mov with TS", U, OK, 0, "mov %eax, %ecx", pre=set_ts
	R "prefetch with TS and EM", U, OK, 0, "prefetcht0 (%ebx)", pre=set_em_ts
	R "sfence with TS and EM", U, OK, 0, "sfence", pre=set_em_ts
	R "#GP not present data segment is #NP", K, VNP, SLOT+0x10, "mov $NPD1&~3, %ecx; 9: mov %ecx, %ds"
	R "#GP fxsave misaligned", U, VGP, 0, "fxsave 8(%ebx)"
	R "#GP movaps misaligned", U, VGP, 0, "movaps 8(%ebx), %xmm0"
	R "#GP movntps misaligned", U, VGP, 0, "movntps %xmm0, 4(%ebx)"
	R "movups misaligned", U, OK, 0, "movups 9(%ebx), %xmm0"
	R "#AC word", U, VAC, 0, "mov 1(%ebx), %ax", fl=AC_, pre=set_am
	R "#AC long", U, VAC, 0, "mov 2(%ebx), %eax", fl=AC_, pre=set_am
	R "#AC store", U, VAC, 0, "mov %eax, 3(%ebx)", fl=AC_, pre=set_am
	R "#AC push", U, VAC, 0, "sub $1, rSP; 9: push rAX", fl=AC_, pre=set_am
	R "#AC movups: 16 bytes are checked or not", U, OK, 0, "movups 16(%ebx), %xmm0", fl=AC_, pre=set_am
	R "#AC aligned", U, OK, 0, "mov 4(%ebx), %eax", fl=AC_, pre=set_am
	R "#AC byte", U, OK, 0, "mov 1(%ebx), %al", fl=AC_, pre=set_am
	R "#AC not without AM", U, OK, 0, "mov 1(%ebx), %eax", fl=AC_
	R "#AC not without AC", U, OK, 0, "mov 1(%ebx), %eax", pre=set_am
	R "#AC not at ring 0", K, OK, 0, "mov 1(%ebx), %eax", fl=AC_, pre=set_am
	R "#MF", U, VMF, 0, "fninit; fldcw fcw_ze; fld1; fldz; fdivrp; 9: fwait", post=do_fninit
	R "#MF by the next instruction", U, VMF, 0, "fninit; fldcw fcw_ze; fld1; fldz; fdivrp; nop; 9: fld1", post=do_fninit
	R "#MF not by fnstsw", U, OK, 0, "fninit; fldcw fcw_ze; fld1; fldz; fdivrp; fnstsw %ax; and $0x8084, %ax; movzwl %ax, %eax", post=do_fninit, val=0x8084
	R "#XM", U, VXM, 0, "ldmxcsr mxcsr_ze; xorps %xmm0, %xmm0; movaps %xmm0, %xmm1; movss one, %xmm0; 9: divss %xmm1, %xmm0", post=do_ldmxcsr
	R "#UD instead of #XM without OSXMMEXCPT", U, VUD, 0, "ldmxcsr mxcsr_ze; xorps %xmm0, %xmm0; movaps %xmm0, %xmm1; movss one, %xmm0; 9: divss %xmm1, %xmm0", pre=no_osxmmexcpt, post=do_ldmxcsr
	R "ldmxcsr reserved bits", U, VGP, 0, "movl $0x10000, (%ebx); 9: ldmxcsr (%ebx)"

	/* ---- resume flag in the frame: set by faults, clear after traps */
.macro RF name:req, vec:req, err:req, body:req, want:req
	R "RF: \name", U, \vec, \err, "\body", val=\want, mask=0x10000, bits=16
.endm
	RF "#UD", VUD, 0, "ud2", 0x10000
	RF "#GP", VGP, 0, "cli", 0x10000
	RF "#DE", VDE, 0, "div %ecx", 0x10000
	RF "int 0x80", 0x80, 0, "int $0x80; 9:", 0
	RF "int3", VBP, 0, "int3; 9:", 0

	/* ---- priority and decoding */
	R "15 bytes", U, OK, 0, ".fill 13, 1, 0x66; .byte 0x89, 0xc0"
	R "16 bytes", U, VGP, 0, ".fill 14, 1, 0x66; .byte 0x89, 0xc0"
	R "16 bytes and undefined", U, VGP, 0, ".fill 14, 1, 0x66; .byte 0x0f, 0x0b"
	R "20 prefixes", U, VGP, 0, ".fill 20, 1, 0x2e; nop"
	R "lock nop", U, VUD, 0, ".byte 0xf0, 0x90"
	R "lock cli: #UD before #GP", U, VUD, 0, ".byte 0xf0, 0xfa"
	R "lock add register", U, VUD, 0, ".byte 0xf0, 0x01, 0xc0"
	R "lock cmp memory", U, VUD, 0, ".byte 0xf0, 0x39, 0x03"
	R "lock bt memory", U, VUD, 0, "lock; .byte 0x0f, 0xa3, 0x03"
	R "lock xadd", U, OK, 0, "lock xadd %eax, (%ebx)"
	R "lock fault: #UD before #PF", U, VUD, 0, "mov $BAD, %ebx; 9: .byte 0xf0, 0x89, 0x03", bits=2
	R "#PF before #DE", U, VPF, 4, "mov $BAD, %edi; 9: divl (%edi)"
	R "#PF before #AC", U, VPF, 4, "mov $BAD + 1, %edi; 9: mov (%edi), %eax", fl=AC_, pre=set_am
	R "#NM before #PF", U, VNM, 0, "mov $BAD, %edi; 9: fldl (%edi)", pre=set_ts
	R "#GP alignment before #PF", U, VGP, 0, "mov $BAD + 1, %edi; 9: movaps (%edi), %xmm0"
	R "#GP privilege before #PF", U, VGP, 0, "mov $BAD, %edi; 9: lgdt (%edi)"
	R "#MF before #PF", U, VMF, 0, "fninit; fldcw fcw_ze; fld1; fldz; fdivrp; mov $BAD, %edi; 9: fldl (%edi)", post=do_fninit
	R "wrong ss: #GP", U, VGP, D0, "mov $D0, %ecx; 9: mov %ecx, %ss"

	/* ---- gates that do not work */
	R "gate not present", K, VNP, 0x50*8+2, "int $0x50"
	R "gate not present", U, VNP, 0x50*8+2, "int $0x50"
	R "gate DPL before present", U, VGP, 0x51*8+2, "int $0x51"
	R "gate of type 0", K, VGP, 0x52*8+2, "int $0x52"
	R "gate of code segment type", K, VGP, 0x53*8+2, "int $0x53"
	R "gate with null selector", K, VGP, 0, "int $0x54"
	R "gate with data selector", K, VGP, D0, "int $0x55"
	R "gate to code not present", K, VNP, NPC, "int $0x56"
	R "gate to code not present", U, VNP, NPC, "int $0x56"
	R "gate to code of ring 3", K, VGP, C3&~3, "int $0x57"
	R "gate past the GDT", K, VGP, GDT_BYTES, "int $0x58"
	R "gate to the LDT, out of it", K, VGP, 0x84, "int $0x59"
	R "gate past the limit of the IDT", K, VGP, 0xa0*8+2, "int $0xa0", pre=short_idt
	R "gate past the limit of the IDT", U, VGP, 0xa0*8+2, "int $0xa0", pre=short_idt
#if LONG
	R "task gate", K, VGP, 0x5a*8+2, "int $0x5a"
	R "16-bit gate", K, VGP, 0x5b*8+2, "int $0x5b"
	R "gate to 32-bit code", K, VGP, C0C, "int $0x5c"
	R "non-canonical rsp1", U, VSS, 0, "int $0x5e", pre=rsp1_noncanonical, post=rsp1_back
	R "gate to a non-canonical offset", K, VGP, 0, "int $0x5f"
#else
	R "ss1 null", U, VTS, 0, "int $0x5e", pre=ss1_null, post=ss1_back
	R "ss1 of ring 3", U, VTS, 0x20, "int $0x5e", pre=ss1_ring3, post=ss1_back
	R "ss1 with wrong RPL", U, VTS, D1&~3, "int $0x5e", pre=ss1_rpl, post=ss1_back
	R "ss1 code", U, VTS, C1&~3, "int $0x5e", pre=ss1_code, post=ss1_back
	R "ss1 read-only", U, VTS, SLOT+0x18, "int $0x5e", pre=ss1_ro, post=ss1_back
	R "ss1 not present", U, VSS, SLOT+0x10, "int $0x5e", pre=ss1_np, post=ss1_back
	R "ss1 past the GDT", U, VTS, GDT_BYTES, "int $0x5e", pre=ss1_past, post=ss1_back
	R "gate offset past the limit of the code", K, VGP, 0, "int $0x5f", need=feat_not_tcg /* TCG runs what lies past the limit */
#endif
	/* hardware exceptions through them: EXT in the error code */
	R "EXT: #UD, gate not present", U, VNP, 6*8+3, "ud2", pre=ud_gate_np, post=ud_gate_back
	R "EXT: #UD, null selector", U, VGP, 1, "ud2", pre=ud_gate_null, post=ud_gate_back
	R "EXT: #UD, data selector", U, VGP, D0+1, "ud2", pre=ud_gate_data, post=ud_gate_back
	R "int 6 through the same: no EXT", K, VNP, 6*8+2, "int $6", pre=ud_gate_np, post=ud_gate_back
	R "EXT: int3 is software: gate not present", U, VNP, 3*8+2, "int3", pre=bp_gate_np, post=bp_gate_back
	/* ---- double fault: contributory on contributory, page fault on either */
	/* Not on TCG: under KVM there the first of them is delivered as the second fault by itself, and KVM, which gets each #GP, is
	 * not told what was being delivered */
	R "double: #GP, then #NP", U, VDF, 0, "cli", pre=gp_gate_np, post=gp_gate_back, bits=10, need=feat_not_tcg
	R "double: #GP, then #NP", K, VDF, 0, "mov $NPC, %ecx; mov $0xfff8, %ecx; 9: mov %ecx, %ds", pre=gp_gate_np, post=gp_gate_back, bits=10, need=feat_not_tcg
	R "double: #DE, then #GP", U, VDF, 0, "div %ecx", pre=de_gate_null, post=de_gate_back, bits=10, need=feat_not_tcg
	R "double: #PF, then #NP", U, VDF, 0, "mov BAD, %ecx", pre=pf_gate_np, post=pf_gate_back, bits=10, need=feat_not_tcg
	R "double: #NP, then #NP", K, VDF, 0, "int $0x50", pre=np_gate_np, post=np_gate_back, bits=10, need=feat_not_tcg
	R "not double: #UD, then #NP", U, VNP, 6*8+3, "ud2", pre=ud_gate_np, post=ud_gate_back
	R "not double: int, then #NP", U, VNP, 0x50*8+2, "int $0x50"
	R "not double: #NM, then #NP", U, VNP, 7*8+3, "fld1", pre=nm_gate_np_ts, post=nm_gate_back

.macro GATE_NP name, vec
\name\()_gate_np:
	andb $~0x80, idt + \vec * 2 * W + 5
	ret
\name\()_gate_back:
	orb $0x80, idt + \vec * 2 * W + 5
	movw $C0, idt + \vec * 2 * W + 2
	xor %eax, %eax
	ret
.endm
	GATE_NP ud, 6
	GATE_NP bp, 3
	GATE_NP gp, 13
	GATE_NP pf, 14
	GATE_NP np, 11
	GATE_NP de, 0
	GATE_NP nm, 7
ud_gate_null:
	movw $0, idt + 6 * 2 * W + 2
	ret
de_gate_null:
	movw $0, idt + 0 * 2 * W + 2
	ret
ud_gate_data:
	movw $D0, idt + 6 * 2 * W + 2
	ret
short_idt:
	lidt idtr_short
	ret
#if LONG
rsp1_noncanonical:
	movl $0x8000, tss_rsp + 12
	ret
rsp1_back:
	movl $0, tss_rsp + 12
	xor %eax, %eax
	ret
#else
.macro SS1 name, sel
ss1_\name:
	movl $\sel, tss_esp0 + 12
	ret
.endm
	SS1 null, 0
	SS1 ring3, D3
	SS1 rpl, D1&~3
	SS1 code, C1
	SS1 ro, RO1
	SS1 np, NPD1
	SS1 past, GDT_BYTES+1
ss1_back:
	movl $D1, tss_esp0 + 12
	xor %eax, %eax
	ret
#endif
set_ts:	mov %cr0, AX
	or $0xa, %eax
	mov AX, %cr0
	ret
set_ts_no_mp:
	mov %cr0, AX
	or $8, %eax
	and $~2, %eax
	mov AX, %cr0
	ret
set_em:	mov %cr0, AX
	or $4, %eax
	mov AX, %cr0
	ret
set_em_ts:
	mov %cr0, AX
	or $0xc, %eax
	mov AX, %cr0
	ret
set_am:	mov %cr0, AX
	or $0x40000, %eax
	mov AX, %cr0
	ret
no_osfxsr:
	mov %cr4, AX
	and $~0x200, %eax
	mov AX, %cr4
	ret
no_osxmmexcpt:
	mov %cr4, AX
	and $~0x400, %eax
	mov AX, %cr4
	ret
do_fninit:
	fnclex
	fninit
	xor %eax, %eax
	ret
do_ldmxcsr:
	ldmxcsr mxcsr_default
	xor %eax, %eax
	ret

nm_gate_np_ts:
	call nm_gate_np
	jmp set_ts
	.data
	.balign 8
fcw_ze:	.short 0x37b
	.balign 4
mxcsr_ze: .long 0x1d80
mxcsr_default: .long 0x1f80
one:	.float 1.0
	.balign 8
idtr_short:
	.short 0xa0 * 2 * W - 1
	.long idt, 0
cap_sp:	.quad 0
cap_fl:	.quad 0
cap_ss:	.quad 0
cap_cs:	.quad 0
	.text
	/* A handler that notes what it found. */
cap_handler:
#if LONG
	mov %rsp, cap_sp
	mov %ss, %eax
	mov %eax, cap_ss
	mov %cs, %eax
	mov %eax, cap_cs
	pushfq
	pop cap_fl
	push $0
	push $0x44
#else
	mov %esp, %ss:cap_sp
	mov %ss, %ss:cap_ss
	mov %cs, %ss:cap_cs
	pushfl
	pop %ss:cap_fl
	push $0
	push $0x44
#endif
	jmp trap_common
	/* At ring 1: cannot do what trap_common does. */
ring1_handler:
	mov %ss, %ecx
	ud2
int_44:	int $0x44
	ud2
int_45:	int $0x45
	ud2
int_5e:	int $0x5e
	ud2
int_46:	int $0x46
	ud2
int_47:	int $0x47
	ud2
misaligned:
	sub $3, SP
	mov SP, BP
	int $0x44
nested:	ud2
	ud2
	/* faults itself, twice */
nested_handler:
	incl nest_count
	cmpl $3, nest_count
	jb 1f
	push $0
	push $6
	jmp trap_common
1:
nested_ud:
	ud2
	.data
nest_count: .long 0
	.text

test_main:
	call paging_on
	SETDESC NPC, 0, 0xfffff, (0x1b + 0xc000 + LONG * (0x2000 - 0x4000))
	SETDESC CONF, 0, 0xfffff, (0x9f + 0xc000 + LONG * (0x2000 - 0x4000))
	SETDESC NPD1, 0, 0xfffff, 0xc033
	SETDESC RO1, 0, 0xfffff, 0xc0b1
	SETDESC SMALL, 0, 0xfff, 0x4093
	SETDESC SMALLC, 0, 0xfff, 0x409b
	SETIDT 0x44, cap_handler, attr=0xee
	SETIDT 0x45, cap_handler, attr=0xef
	SETIDT 0x46, cap_handler, attr=0xee, sel=CONF
	SETIDT 0x50, cap_handler, attr=0x6e
	SETIDT 0x51, cap_handler, attr=0x0e
	SETIDT 0x52, cap_handler, attr=0xe0
	SETIDT 0x53, cap_handler, attr=0xfa
	SETIDT 0x54, cap_handler, attr=0xee, sel=0
	SETIDT 0x55, cap_handler, attr=0xee, sel=D0
	SETIDT 0x56, cap_handler, attr=0xee, sel=NPC
	SETIDT 0x57, cap_handler, attr=0xee, sel=C3
	SETIDT 0x58, cap_handler, attr=0xee, sel=GDT_BYTES
	SETIDT 0x59, cap_handler, attr=0xee, sel=0x84
	SETIDT 0x5a, cap_handler, attr=0xe5, sel=TSSDF
	SETIDT 0x5b, cap_handler, attr=0xe6
	SETIDT 0x5c, cap_handler, attr=0xee, sel=C0C
	SETIDT 0x5e, ring1_handler, attr=0xee, sel=C1
#if LONG
	SETIDT 0x5f, cap_handler, attr=0xee
	movl $0x8000, idt + 0x5f * 16 + 8
	SETIDT 0x47, cap_handler, attr=0xee, ist=2
#else
	SETIDT 0x5f, cap_handler, attr=0xee, sel=SMALLC
	SETIDT 0x47, handler16-LOW, attr=0xe6, sel=C16
#endif
	call run_rows

	/* -- the frame from ring 3 */
	TRY int_44, U, (IF_ | 0x8d5)
	mov cap_sp, BX
	CHECK4 "frame from ring 3: ip", (BX), $int_44+2
	CHECK4 "frame: cs", W(BX), $C3
	CHECK4 "frame: flags", 2*W(BX), $0xad7
	CHECK4 "frame: sp", 3*W(BX), $snip_stack_top
	CHECK4 "frame: ss", 4*W(BX), $D3
	add $(5 * W), BX
	CHECK4 "frame: starts at the TSS's stack", %ebx, $trap_stack_top
	CHECK4 "interrupt gate: IF cleared, arithmetic flags kept", cap_fl, $0x8d7
	CHECK4 "handler's cs", cap_cs, $C0
#if LONG
	CHECK4 "handler's ss is null", cap_ss, $0
#else
	CHECK4 "handler's ss", cap_ss, $D0
#endif
	TRY int_45, U, (IF_ | 0x8d5)
	CHECK4 "trap gate keeps IF", cap_fl, $0xad7
	TRY int_44, U, (NT_ | IF_ | IOPL3 | AC_ | ID_)
	CHECK4 "NT cleared, AC ID IOPL kept", cap_fl, $(IOPL3 | AC_ | ID_ | 2)
	mov cap_sp, BX
	CHECK4 "NT in the frame", 2*W(BX), $(NT_ | IF_ | IOPL3 | AC_ | ID_ | 2)
	TRY int_44, U, DF_
	CHECK4 "DF kept", cap_fl, $(DF_ | 2)
	/* -- from ring 0 */
	TRY int_44, K, IF_
	mov cap_sp, BX
	CHECK4 "frame from ring 0: ip", (BX), $int_44+2
	CHECK4 "frame from ring 0: cs", W(BX), $C0
#if LONG
	CHECK4 "frame from ring 0: sp", 3*W(BX), $snip_stack_top
	CHECK4 "frame from ring 0: ss", 4*W(BX), $D0
	CHECK4 "ss kept", cap_ss, $D0
	add $(5 * W), BX
#else
	add $(3 * W), BX
#endif
	CHECK4 "frame from ring 0: on its stack", %ebx, $snip_stack_top
#if LONG
	TRY misaligned, K
	mov cap_sp, %rbx
	CHECK4 "frame aligned to 16", %ebx, $snip_stack_top-16-40
	CHECK4 "and RSP as it was", 24(%rbx), $snip_stack_top-3
	/* -- IST */
	TRY int_47, U
	CHECK4 "IST from ring 3", cap_sp, $ist2_top-40
	TRY int_47, K
	CHECK4 "IST from ring 0", cap_sp, $ist2_top-40
	mov cap_sp, %rbx
	CHECK4 "IST from ring 0: saved sp", 24(%rbx), $snip_stack_top
#else
	/* -- 16-bit gates push words */
	TRY int_47, K, 0x8d5
	mov cap_sp, %ebx
	CHECK2 "16-bit gate: cs", 2(%ebx), $C0
	CHECK2 "16-bit gate: flags", 4(%ebx), $0x8d7
	add $6, %ebx
	CHECK4 "16-bit gate: three words", %ebx, $snip_stack_top
#endif
	/* -- conforming handler: runs at ring 3 */
	SETIDT 0x46, conforming_handler, attr=0xee, sel=CONF
	TRY int_46, U
	CHECK4 "conforming handler: cs", tr_cs, $CONF+3
	CHECK4 "conforming handler: stack not switched", tr_sp, $snip_stack_top-3*W-LONG*2*W
	/* -- through a gate to ring 1 */
	TRY int_5e, U
	CHECK4 "ring 1 handler: cs", tr_cs, $C1
#if LONG
	CHECK4 "ring 1 handler: ss", tr_cx, $1
#else
	CHECK4 "ring 1 handler: ss", tr_cx, $D1
#endif
	CHECK4 "ring 1 handler: sp", tr_sp, $RING1_TOP-5*W
	/* -- a handler that faults */
	SETIDT 6, nested_handler
	TRY nested, K
	CHECK4 "nested faults", nest_count, $3
	CHECK4 "nested faults: the innermost ip", tr_ip, $nested_ud
	SETIDT 6, stubs+6*16
	ret
conforming_handler:
	ud2
#if !LONG
	.set RING1_TOP, ring1_stack_top
	.section .low, "awx"
	.code16
handler16: /* a 16-bit gate leads to 16-bit code */
	mov $cap_sp, %eax
	movl %esp, %ss:(%eax)
	ljmpl $C0, $1f
	.text
	.code32
1:	push $0
	push $0x47
	jmp trap_common
#else
	.set RING1_TOP, trap_stack_top
#endif
