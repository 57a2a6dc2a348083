// MODES: 32 64
/*
 * The sensitive instructions, one row each, at CPL 0 and CPL 3 and where it means something in
 * v8086, real and 16-bit protected mode: the result, or the exact fault. SDM 2 and 3, chapters 5 to 7.
 */
#include "guest.inc"

	.set RO0, SLOT          /* data, DPL 0, read-only, limit 0xfff */
	.set RW3, SLOT + 0x0b   /* data, DPL 3, limit 0x12345 */
	.set XO0, SLOT + 0x10   /* code, DPL 0, execute-only */
	.set CF0, SLOT + 0x18   /* code, DPL 0, conforming, readable */
	.set XO3, SLOT + 0x23   /* code, DPL 3, execute-only */
	.set NP3, SLOT + 0x2b   /* data, DPL 3, not present */
	.set CG3, SLOT + 0x33   /* 32-bit call gate, DPL 3 (LONG: 64-bit, 16 bytes) */
	.set RO3, SLOT + 0x43   /* data, DPL 3, read-only */
	.set RW1, SLOT + 0x49   /* data, DPL 1 */
	.set NPC, SLOT + 0x50   /* code, DPL 0, not present */
	.set TS1, SLOT + 0x58   /* 16-bit TSS */
	.set XX6, SLOT + 0x60   /* 16-bit interrupt gate: not for a GDT */
	.set TG5, SLOT + 0x68   /* task gate */
	.set NPC3, SLOT + 0x73  /* code, DPL 3, not present */
	.set TS9, SLOT + 0x80   /* 32/64-bit TSS, DPL 0, 16 bytes */
	.set UMIP, 0x800
	.set IOPL3_, 0x3000

	/* In every flat mode alike. */
.macro NATIVE_CODE
	NATIVE
.endm
.macro RKU name:req, vec:req, err:req, body:req, fl=2, cr4=0, need=0, val, mask=-1
	R "\name", K, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", U, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#if LONG
	R "\name", CK, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", CU, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#else
	R "\name", K16, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", U16, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#endif
.endm
	/* Allowed at CPL 0, #GP(0) at CPL 3. */
.macro RPRIV name:req, body:req, fl=2, cr4=0, need=0, val, mask=-1
	R "\name", K, OK, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", U, VGP, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#if LONG
	R "\name", CK, OK, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", CU, VGP, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#else
	R "\name", K16, OK, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", U16, VGP, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", V86, VGP, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", REAL, OK, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#endif
.endm
	/* #UD at every ring of protected mode. */
.macro RUD name:req, body:req, fl=2, cr4=0, need=0, val, mask=-1
	RKU "\name", VUD, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
.endm
.macro RREAL name:req, vec:req, err:req, body:req, fl=2, cr4=0, need=0, val, mask=-1
#if !LONG
	R "\name", REAL, \vec, 0, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
	R "\name", V86, \vec, \err, "\body", \fl, \cr4, 0, 0, \need, \val, \mask
#endif
.endm
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

	/* ---- SGDT SIDT SLDT STR SMSW ---- */
	RKU "sgdt limit", OK, 0, "sgdt (%ebx); movzwl (%ebx), %eax", val=GDT_BYTES-1
	RKU "sidt limit", OK, 0, "sidt (%ebx); movzwl (%ebx), %eax", val=256*2*W-1
	R "sgdt base", U, OK, 0, "sgdt (%ebx); mov 2(%ebx), %eax", val=gdt
	R "sidt base", U, OK, 0, "sidt (%ebx); mov 2(%ebx), %eax", val=idt
	RKU "sldt register", OK, 0, "mov $-1, %eax; sldt %eax", val=LDTSEL
	RKU "sldt memory", OK, 0, "movl $-1, (%ebx); sldt (%ebx); mov (%ebx), %eax", val=0xffff0000+LDTSEL
	RKU "str register", OK, 0, "mov $-1, %eax; str %eax", val=TSS
	RKU "str 16-bit register", OK, 0, "mov $-1, %eax; str %ax", val=0xffff0000+TSS
	RKU "str memory", OK, 0, "movl $-1, (%ebx); str (%ebx); mov (%ebx), %eax", val=0xffff0000+TSS
	RKU "smsw", OK, 0, "smsw %ax", val=0x33, mask=0xffff
	RKU "smsw memory", OK, 0, "movl $-1, (%ebx); smsw (%ebx); mov (%ebx), %eax", val=0xffff0033
	R "sgdt umip", K, OK, 0, "sgdt (%ebx)", cr4=UMIP, need=feat_umip
	R "smsw umip", K, OK, 0, "smsw %eax", cr4=UMIP, need=feat_umip
	R "str umip", K, OK, 0, "str %eax", cr4=UMIP, need=feat_umip
	R "sgdt umip", U, VGP, 0, "sgdt (%ebx)", cr4=UMIP, need=feat_umip
	R "sidt umip", U, VGP, 0, "sidt (%ebx)", cr4=UMIP, need=feat_umip
	R "sldt umip", U, VGP, 0, "sldt (%ebx)", cr4=UMIP, need=feat_umip
	R "sldt umip register", U, VGP, 0, "sldt %eax", cr4=UMIP, need=feat_umip
	R "str umip", U, VGP, 0, "str %eax", cr4=UMIP, need=feat_umip
	R "smsw umip", U, VGP, 0, "smsw %eax", cr4=UMIP, need=feat_umip
	R "smsw umip memory", U, VGP, 0, "smsw (%ebx)", cr4=UMIP, need=feat_umip
	R "sgdt register form", U, VUD, 0, ".byte 0x0f, 0x01, 0xc0" /* VMX: enclv */
	RREAL "sgdt", OK, 0, "sgdt (%bx); mov (%bx), %ax", val=GDT_BYTES-1, mask=0xffff
	RREAL "smsw", OK, 0, "smsw %ax; and $0xfffe, %ax", val=0x32, mask=0xffff
	RREAL "sldt", VUD, 0, "sldt %ax"
	RREAL "str", VUD, 0, "str %ax"
	RREAL "lldt", VUD, 0, "lldt %ax"
	RREAL "ltr", VUD, 0, "ltr %ax"
	RREAL "lar", VUD, 0, "lar %cx, %ax"
	RREAL "lsl", VUD, 0, "lsl %cx, %ax"
	RREAL "verr", VUD, 0, "verr %ax"
	RREAL "verw", VUD, 0, "verw %ax"
#if !LONG
	RREAL "arpl", VUD, 0, "arpl %ax, %cx"
	R "sgdt umip", V86, VGP, 0, "sgdt (%bx)", cr4=UMIP, need=feat_umip
	R "smsw umip", V86, VGP, 0, "smsw %ax", cr4=UMIP, need=feat_umip
	R "sldt umip", V86, VUD, 0, "sldt %ax", cr4=UMIP, need=feat_umip
	R "arpl raises", U, OK, 0, "mov $0x13, %ecx; mov $0x10, %eax; arpl %cx, %ax; jz 1f; xor %eax, %eax; 1:", val=0x13
	R "arpl keeps", U, OK, 0, "mov $0x10, %ecx; mov $0x13, %eax; arpl %cx, %ax; jnz 1f; xor %eax, %eax; 1:", val=0x13
#endif

	/* ---- PUSHF POPF CLI STI ---- */
	R "pushf", K, OK, 0, "pushf; pop %ax", fl=0x3893, val=0x3893, mask=0xffff
	R "pushf", U, OK, 0, "pushf; pop %ax", fl=0x3893, val=0x3893, mask=0xffff
	R "pushf shows IF", U, OK, 0, "pushf; pop %ax", fl=0x202, val=0x202, mask=0xffff
	R "popf IF IOPL NT", K, OK, 0, "pushw $0x7202; popfw; pushf; pop %ax; pushw $2; popfw", val=0x7202, mask=0xffff
	R "popf IF clear", K, OK, 0, "pushw $2; popfw; pushf; pop %ax", fl=0x3202, val=2, mask=0xffff
	R "popf IOPL 0: IF IOPL kept", U, OK, 0, "pushw $0x3a02; popfw; pushf; pop %ax", val=0x0802, mask=0xffff
	R "popf IOPL 0: IF not cleared", U, OK, 0, "pushw $0xd7; popfw; pushf; pop %ax", fl=0x202, val=0x2d7, mask=0xffff
	R "popf IOPL 3: IF set IOPL kept", U, OK, 0, "pushw $0x0202; popfw; pushf; pop %ax", fl=0x3002, val=0x3202, mask=0xffff
	R "popf IOPL 1", RING1, OK, 0, "pushw $0x0202; popfw; pushf; pop %ax", fl=0x1002, val=0x1202, mask=0xffff
	R "popf IOPL 1", RING2, OK, 0, "pushw $0x3202; popfw; pushf; pop %ax", fl=0x1002, val=0x1002, mask=0xffff
#if LONG
	R "popfq high", U, OK, 0, "push $0x3f7cd7; popfq; pushfq; pop %rax; push $2; popfq", val=0x244cd7
	R "popfq high", K, OK, 0, "push $0x3c7cd7; popfq; pushfq; pop %rax; push $2; popfq", val=0x247cd7
	R "popfq reserved", U, OK, 0, "movabs $0xffffffffffc0802a, %rax; push %rax; popfq; pushfq; pop %rax; push $2; popfq", val=2
#else
	R "popfl high", U, OK, 0, "pushl $0x3f7cd7; popfl; pushfl; pop %eax; pushl $2; popfl", val=0x244cd7
	R "popfl high", K, OK, 0, "pushl $0x3c7cd7; popfl; pushfl; pop %eax; pushl $2; popfl", val=0x247cd7
	R "popfl reserved", U, OK, 0, "pushl $0xffc0802a; popfl; pushfl; pop %eax", val=2
	R "pushf", V86, VGP, 0, "pushf"
	R "popf", V86, VGP, 0, "popf"
	R "pushfl", V86, VGP, 0, "pushfl"
	R "pushf IOPL 3", V86, OK, 0, "pushf; pop %ax", fl=0x3002, val=0x3002, mask=0xffff
	R "popf IOPL 3", V86, OK, 0, "pushw $0x0202; popf; pushf; pop %ax", fl=0x3002, val=0x3202, mask=0xffff
	R "popfl IOPL 3 VM RF", V86, OK, 0, "pushl $0x30202; popfl; pushfl; pop %eax", fl=0x3002, val=0x3202
	R "popf", REAL, OK, 0, "pushw $0x7202; popf; pushf; pop %ax; pushw $2; popf", val=0x7202, mask=0xffff
	R "cli", V86, VGP, 0, "cli"
	R "sti", V86, VGP, 0, "sti"
	R "cli IOPL 3", V86, OK, 0, "cli; pushf; pop %ax", fl=0x3202, val=0x3002, mask=0xffff
	R "sti IOPL 3", V86, OK, 0, "sti; pushf; pop %ax", fl=0x3002, val=0x3202, mask=0xffff
	R "sti cli", REAL, OK, 0, "sti; pushf; pop %ax; cli", val=0x202, mask=0xffff
	R "int 0x80", V86, VGP, 0, "int $0x80"
	R "int 0x80 IOPL 3", V86, 0x80, 0, "int $0x80; 9:", fl=0x3002
	R "int 0x20 IOPL 3: gate DPL", V86, VGP, 0x102, "int $0x20", fl=0x3002
	R "int3", V86, VBP, 0, "int3; 9:"
	R "into", V86, VOF, 0, "into; 9:", fl=0x802
	R "int 0x80", REAL, 0x80, 0, "int $0x80; 9:"
	R "iret", V86, VGP, 0, "iret"
	R "iret IOPL 3", V86, OK, 0, "pushw $0x247; pushw %cs; pushw $(77f - LOW); iret; hlt; 77: pushf; pop %ax", fl=0x3002, val=0x3247, mask=0xffff
	R "iret", REAL, OK, 0, "pushw $0x47; pushw %cs; pushw $(77f - LOW); iret; hlt; 77: pushf; pop %ax", val=0x47, mask=0xffff
	R "mov ds", V86, OK, 0, "mov $0x1234, %ax; mov %ax, %ds; xor %ax, %ax; mov %ds, %ax", val=0x1234, mask=0xffff
	R "mov cs", V86, VUD, 0, "mov %ax, %cs"
	R "in", V86, VGP, 0, "in $0x84, %al"
	R "in IOPL 3: bitmap rules", V86, VGP, 0, "in $0x84, %al", fl=0x3002
	R "in bitmap", V86, OK, 0, "in $0x80, %al"
	R "in word bitmap", V86, OK, 0, "in $0x82, %ax"
	R "in word half denied", V86, VGP, 0, "in $0x83, %ax"
	R "out", REAL, OK, 0, "out %al, $0x80"
#endif
	R "cli", U, VGP, 0, "cli"
	R "sti", U, VGP, 0, "sti"
	R "cli", RING1, VGP, 0, "cli"
	R "cli", K, OK, 0, "cli; pushf; pop %ax", fl=0x202, val=2, mask=0xffff
	R "sti", K, OK, 0, "sti; pushf; pop %ax; cli", val=0x202, mask=0xffff
	R "cli IOPL 3", U, OK, 0, "cli; pushf; pop %ax", fl=0x3202, val=0x3002, mask=0xffff
	R "sti IOPL 3", U, OK, 0, "sti; pushf; pop %ax", fl=0x3002, val=0x3202, mask=0xffff
	R "sti IOPL 1", RING1, OK, 0, "sti; pushf; pop %ax", fl=0x1002, val=0x1202, mask=0xffff
	R "sti IOPL 1", RING2, VGP, 0, "sti", fl=0x1002
	R "cli PVI", U, OK, 0, "cli; pushf; pop %ax", fl=0x202, cr4=2, val=0x202, mask=0xffff, need=feat_vme, post=vif_clear
	R "sti PVI", U, OK, 0, "sti; pushf; pop %ax", fl=0x202, cr4=2, val=0x202, mask=0xffff, need=feat_vme, post=vif_set
	R "sti PVI with VIP", U, VGP, 0, "sti", fl=0x100202, cr4=2, need=feat_vme

	/* ---- LAR LSL VERR VERW ---- */
.macro RLAR name, mode, sel, want
	R "lar \name", \mode, OK, 0, "mov $\sel, %ecx; lar %ecx, %eax; jz 1f; mov $0x77, %eax; 1:", val=\want, mask=0xf0ffff
.endm
.macro RLSL name, mode, sel, want
	R "lsl \name", \mode, OK, 0, "mov $\sel, %ecx; lsl %ecx, %eax; jz 1f; mov $0x77, %eax; 1:", val=\want
.endm
.macro RVER name, mode, sel, r, w
	R "verr \name", \mode, OK, 0, "mov $\sel, %eax; verr %ax; setz %al; movzbl %al, %eax", val=\r
	R "verw \name", \mode, OK, 0, "mov $\sel, %eax; verw %ax; setz %al; movzbl %al, %eax", val=\w
.endm
	RLAR "null", K, 0, 0x77
	RLAR "null RPL 3", U, 3, 0x77
	RLAR "past the limit", K, GDT_BYTES, 0x77
	RLAR "data 0", K, D0, 0xc09300
	RLAR "data 0", U, D0, 0x77
	RLAR "data 0 RPL 3", K, D0+3, 0x77
	RLAR "data 3", K, D3, 0xc0f300
	RLAR "data 3", U, D3, 0xc0f300
	RLAR "read-only 0", K, RO0, 0x9100
	RLAR "conforming 0", U, CF0, 0xc09f00
	RLAR "not present 3", U, NP3, 0x007300
	RLAR "tss", K, TSS, 0x8b00
	RLAR "tss", U, TSS, 0x77
	RLAR "available tss", K, TS9, 0x8900
	RLAR "ldt", K, LDTSEL, 0x8200
	R "lar call gate", U, OK, 0, "mov $CG3, %ecx; lar %ecx, %eax; setz %al", val=0xec01, mask=0xffff
	RLAR "int gate type", K, XX6, 0x77
	RLAR "in the LDT", U, 0x17, 0xc0f300
	RLAR "past the LDT", U, 0x87, 0x77
#if LONG
	RLAR "16-bit tss", K, TS1, 0x77
	RLAR "task gate", K, TG5, 0x77
	RLAR "code 64", U, U64, 0xa0fb00
	R "lar 64-bit zero-extends", U, OK, 0, "mov $-1, %rax; mov $D3, %ecx; lar %rcx, %rax", val=0xc0f300, mask=~0xf0000
#else
	RLAR "16-bit tss", K, TS1, 0x8100
	RLAR "task gate", K, TG5, 0x8500
#endif
	R "lar 16-bit operand", U, OK, 0, "mov $-1, %eax; mov $D3, %ecx; lar %cx, %ax", val=0xfffff300
	R "lar keeps destination", U, OK, 0, "mov $0x1234, %eax; xor %ecx, %ecx; lar %ecx, %eax", val=0x1234
	RLSL "data 3", U, D3, 0xffffffff
	RLSL "bytes", U, RW3, 0x12345
	RLSL "read-only 0", K, RO0, 0xfff
	RLSL "read-only 0", U, RO0, 0x77
	RLSL "conforming 0", U, CF0, 0xffffffff
	RLSL "tss", K, TSS, tss_end-tss-1
	RLSL "ldt", K, LDTSEL, 127
	RLSL "call gate", U, CG3, 0x77
	RLSL "null", K, 0, 0x77
#if LONG
	RLSL "16-bit tss", K, TS1, 0x77
#else
	RLSL "16-bit tss", K, TS1, 43
#endif
	RVER "null", K, 0, 0, 0
	RVER "data 3", U, D3, 1, 1
	RVER "data 0", U, D0, 0, 0
	RVER "data 0", K, D0, 1, 1
	RVER "read-only 3", U, RO3, 1, 0
	RVER "execute-only 3", U, XO3, 0, 0
	RVER "code 3", U, U32, 1, 0
	RVER "conforming 0", U, CF0, 1, 0
	RVER "not present", U, NP3, 1, 1
	RVER "tss", K, TSS, 0, 0
	RVER "call gate", U, CG3, 0, 0
	RVER "past the limit", U, 0xfffb, 0, 0

	/* ---- segment registers ---- */
	RKU "mov to cs", VUD, 0, "mov %eax, %cs"
	RKU "mov to segment 6", VUD, 0, ".byte 0x8e, 0xf0"
	RKU "mov from segment 7", VUD, 0, ".byte 0x8c, 0xf8"
	R "mov ds, data 0", U, VGP, D0, "mov %ecx, %eax; mov $0x10, %ecx; 9: mov %ecx, %ds"
	R "mov ds, data 0 RPL 3", K, VGP, D0, "mov $0x13, %ecx; 9: mov %ecx, %ds"
	R "mov ds, data 0", K, OK, 0, "mov $D0, %ecx; mov %ecx, %ds; mov %ds, %eax", val=D0
	R "mov ds, data 1", U, VGP, SLOT+0x48, "mov $RW1, %ecx; 9: mov %ecx, %ds"
	R "mov ds, data 1", RING1, OK, 0, "mov $RW1, %ecx; mov %ecx, %ds; mov %ds, %eax", val=RW1
	R "mov ds, data 3", U, OK, 0, "mov $D3, %ecx; mov %ecx, %ds; mov %ds, %eax", val=D3
	R "mov ds, data 3 RPL 0", U, OK, 0, "mov $0x20, %ecx; mov %ecx, %ds; mov %ds, %eax", val=0x20
	R "mov ds, null", U, OK, 0, "mov %ecx, %ds; mov %ds, %eax", val=0
	R "mov ds, null RPL 3", U, OK, 0, "mov $3, %ecx; mov %ecx, %ds; mov %ds, %eax", val=3
	R "mov ds, execute-only", U, VGP, SLOT+0x20, "mov $XO3, %ecx; 9: mov %ecx, %ds"
	R "mov ds, conforming 0", U, OK, 0, "mov $CF0, %ecx; mov %ecx, %ds; mov %ds, %eax", val=CF0
	R "mov ds, not present", U, VNP, SLOT+0x28, "mov $NP3, %ecx; 9: mov %ecx, %ds"
	R "mov ds, tss", K, VGP, TSS, "mov $TSS, %ecx; 9: mov %ecx, %ds"
	R "mov ds, call gate", U, VGP, SLOT+0x30, "mov $CG3, %ecx; 9: mov %ecx, %ds"
	R "mov ds, past the GDT", U, VGP, GDT_BYTES, "mov $GDT_BYTES, %ecx; 9: mov %ecx, %ds"
	R "mov ds, 0xffff", U, VGP, 0xfffc, "mov $0xffff, %ecx; 9: mov %ecx, %ds"
	R "mov ds, LDT", U, OK, 0, "mov $0x17, %ecx; mov %ecx, %ds; mov %ds, %eax", val=0x17
	R "mov ds, past the LDT", U, VGP, 0x84, "mov $0x87, %ecx; 9: mov %ecx, %ds"
	R "mov fs, data 3", U, OK, 0, "mov $D3, %ecx; mov %ecx, %fs; mov %fs, %eax", val=D3
	R "mov gs, data 0", U, VGP, D0, "mov $D0, %ecx; 9: mov %ecx, %gs"
	R "pop fs, data 0", U, VGP, D0, "push $D0; 9: pop %fs"
	R "pop fs", U, OK, 0, "push $D3; pop %fs; mov %fs, %eax", val=D3
	R "push fs", U, OK, 0, "push $D3; pop %fs; push %fs; pop %ax", val=D3, mask=0xffff
	R "mov ss, null", U, VGP, 0, "9: mov %ecx, %ss", bits=2
	R "mov ss, data 3", U, OK, 0, "mov $D3B, %ecx; mov %ecx, %ss; mov %ss, %eax", val=D3B
	R "mov ss, RPL 0", U, VGP, 0x20, "mov $0x20, %ecx; 9: mov %ecx, %ss"
	R "mov ss, data 3 RPL 0", K, VGP, 0x20, "mov $0x20, %ecx; 9: mov %ecx, %ss"
	R "mov ss, data 3", K, VGP, 0x20, "mov $0x23, %ecx; 9: mov %ecx, %ss"
	R "mov ss, read-only", U, VGP, SLOT+0x40, "mov $RO3, %ecx; 9: mov %ecx, %ss"
	R "mov ss, code", U, VGP, 0x18, "mov $U32, %ecx; 9: mov %ecx, %ss"
	R "mov ss, not present", U, VSS, SLOT+0x28, "mov $NP3, %ecx; 9: mov %ecx, %ss"
	R "mov from ds 32-bit zero-extends", U, OK, 0, "mov $-1, %eax; mov %ds, %eax", val=D3
	R "mov from ds 16-bit", U, OK, 0, "mov $-1, %eax; mov %ds, %ax", val=0xffff0000+D3
	R "mov from ds memory 16-bit", U, OK, 0, "movl $-1, (%ebx); mov %ds, (%ebx); mov (%ebx), %eax", val=0xffff0000+D3
	R "lfs", U, OK, 0, "movl $0x99, (%ebx); movw $D3B, 4(%ebx); lfs (%ebx), %ecx; mov %fs, %eax; shl $16, %eax; mov %cx, %ax", val=(D3B<<16)+0x99
	R "lgs register form", U, VUD, 0, ".byte 0x0f, 0xb5, 0xc0"
	R "lss, wrong ring", U, VGP, D0, "movl $0x99, (%ebx); movw $D0, 4(%ebx); 9: lss (%ebx), %ecx"
#if LONG
	R "mov ss, null", K, OK, 0, "mov %ecx, %ss; mov %ss, %eax", val=0
	R "mov ss, null RPL 1", RING1, OK, 0, "mov $1, %ecx; mov %ecx, %ss; mov %ss, %eax", val=1
	R "push cs", U, VUD, 0, ".byte 0x0e"
	R "push ss", U, VUD, 0, ".byte 0x16"
	R "pop ss", U, VUD, 0, ".byte 0x17"
	R "push ds", U, VUD, 0, ".byte 0x1e"
	R "pop ds", U, VUD, 0, ".byte 0x1f"
	R "push es", U, VUD, 0, ".byte 0x06"
	R "pop es", U, VUD, 0, ".byte 0x07"
	R "push ds", CU, OK, 0, "push %ds; pop %eax; and $0xffff, %eax", val=D3
	R "mov ss, null", CU, VGP, 0, "mov %ecx, %ss"
	R "mov ss, null", CK, VGP, 0, "mov %ecx, %ss"
	R "mov ds, data 0", CU, VGP, D0, "mov $D0, %ecx; 9: mov %ecx, %ds"
	R "mov fs selector zeroes base", U, OK, 0, "mov %ecx, %fs; mov %fs, %eax", val=0
#else
	R "mov ss, null", K, VGP, 0, "mov %ecx, %ss"
	R "push ds", U, OK, 0, "push %ds; pop %ax", val=D3, mask=0xffff
	R "push cs", U, OK, 0, "push %cs; pop %ax", val=U32, mask=0xffff
	R "pop ds, data 0", U, VGP, D0, "push $D0; 9: pop %ds"
	R "pop ss, data 3", U, OK, 0, "push $D3B; pop %ss; mov %ss, %eax", val=D3B
	R "pop ss, null", U, VGP, 0, "push $0; 9: pop %ss"
	R "lds null, then use", U, VGP, 0, "movl $0, (%ebx); movl $0, 4(%ebx); lds (%ebx), %ecx; 9: mov (%ecx), %eax"
#endif

	/* ---- far CALL, JMP, RET; IRET; INT ---- */
.macro FARPTR sel
	movl $77f, (%ebx)
	movw $\sel, 4(%ebx)
.endm
	R "ljmp same ring", U, OK, 0, "FARPTR C3; ljmp *(%ebx); ud2; 77: mov %cs, %eax", val=C3
	R "ljmp same ring, RPL 0", U, OK, 0, "FARPTR (C3 & ~3); ljmp *(%ebx); ud2; 77: mov %cs, %eax", val=C3
	R "ljmp same ring", K, OK, 0, "FARPTR C0; ljmp *(%ebx); ud2; 77: mov %cs, %eax", val=C0
	R "ljmp RPL 3", K, VGP, C0, "FARPTR (C0 + 3); 9: ljmp *(%ebx); 77:"
	R "ljmp inner ring", U, VGP, C0, "FARPTR C0; 9: ljmp *(%ebx); 77:"
	R "ljmp outer ring", K, VGP, 0x28, "FARPTR U64; 9: ljmp *(%ebx); 77:"
	R "lcall inner ring", U, VGP, C0, "FARPTR C0; 9: lcall *(%ebx); 77:"
	R "ljmp data", U, VGP, 0x20, "FARPTR D3; 9: ljmp *(%ebx); 77:"
	R "ljmp null", U, VGP, 0, "FARPTR 0; 9: ljmp *(%ebx); 77:"
	R "ljmp past the GDT", U, VGP, GDT_BYTES, "FARPTR GDT_BYTES; 9: ljmp *(%ebx); 77:"
	R "ljmp not present", K, VNP, SLOT+0x50, "FARPTR NPC; 9: ljmp *(%ebx); 77:"
	R "ljmp not present", U, VNP, SLOT+0x70, "FARPTR NPC3; 9: ljmp *(%ebx); 77:"
	R "ljmp inner ring not present", U, VGP, SLOT+0x50, "FARPTR NPC; 9: ljmp *(%ebx); 77:"
	R "ljmp conforming", U, OK, 0, "FARPTR CF0; ljmp *(%ebx); ud2; .code32; 77: mov %cs, %eax; NATIVE_CODE", val=CF0+3
	R "ljmp memory operand form register", U, VUD, 0, ".byte 0xff, 0xe8"
	R "lcall register form", U, VUD, 0, ".byte 0xff, 0xd8"
	R "lcall pushes cs", U, OK, 0, "FARPTR C3; lcall *(%ebx); 77: mov 4(%esp), %eax; movzwl %ax, %eax", val=C3
	R "lret same ring", U, OK, 0, "mov $C3, %eax; push rAX; mov $77f, %eax; push rAX; lretn; ud2; 77: mov %cs, %eax", val=C3
	R "lret to ring 3", K, OK, 0, "push $D3; push $snip_stack_top-64; push $C3; push $77f; lretn; ud2; 77: mov %cs, %eax", val=C3
	R "lret to ring 3: stack", K, OK, 0, "push $D3; push $snip_stack_top-64; push $C3; push $77f; lretn; ud2; 77: mov %esp, %eax", val=snip_stack_top-64
	R "lret to ring 3: ds of ring 0 nulled", K, OK, 0, "mov $D0, %eax; mov %eax, %ds; push $D3; push $snip_stack_top-64; push $C3; push $77f; lretn; ud2; 77: mov %ds, %eax", val=0
	R "lret to ring 3: es of ring 3 kept", K, OK, 0, "push $D3; push $snip_stack_top-64; push $C3; push $77f; lretn; ud2; 77: mov %es, %eax", val=D3
	R "lret to inner ring", U, VGP, C0, "push $C0; push $77f; 9: lretn; ud2; 77:"
	R "lret null", U, VGP, 0, "push $0; push $77f; 9: lretn; ud2; 77:"
	R "lret data", U, VGP, 0x20, "push $D3; push $77f; 9: lretn; ud2; 77:"
	R "lret to ring 3, null stack", K, VGP, 0, "push $0; push $snip_stack_top-64; push $C3; push $77f; 9: lretn; ud2; 77:"
	R "lret to ring 3, stack of ring 0", K, VGP, D0, "push $D0; push $snip_stack_top-64; push $C3; push $77f; 9: lretn; ud2; 77:"
	R "lret to ring 3, stack not present", K, VSS, SLOT+0x28, "push $NP3; push $snip_stack_top-64; push $C3; push $77f; 9: lretn; ud2; 77:"
	R "lret not present", U, VNP, SLOT+0x70, "push $NPC3; push $77f; 9: lretn; ud2; 77:"
	R "iret same ring", U, OK, 0, "mov %esp, %ecx; mov %ss, %eax; push rAX; push rCX; push $0x247; push $C3; push $77f; iretn; ud2; 77: pushf; pop %ax", fl=2, val=0x47, mask=0xffff
	R "iret to inner ring", U, VGP, C0, "push $D0; push $0; push $2; push $C0; push $77f; 9: iretn; ud2; 77:"
	R "iret with NT", U, VTS, 0, "mov $2, %eax; push rAX; 9: iretn", fl=0x4002, pre=skip_long_nt, bits=14
	R "iret IOPL change at ring 0", K, OK, 0, "mov %esp, %ecx; mov %ss, %eax; push rAX; push rCX; push $0x3002; push $C0; push $77f; iretn; ud2; 77: pushf; pop %ax", val=0x3002, mask=0xffff
	R "iret to ring 3 with IOPL", K, OK, 0, "push $D3; push $snip_stack_top-64; push $0x3202; push $C3; push $77f; iretn; ud2; 77: cli; pushf; pop %ax", val=0x3002, mask=0xffff
	R "iret null cs", U, VGP, 0, "mov %ss, %eax; push rAX; push $0; push $2; push $0; push $77f; 9: iretn; ud2; 77:"
	R "int 0x80", U, 0x80, 0, "int $0x80; 9:"
	R "int 0x80", K, 0x80, 0, "int $0x80; 9:"
	R "int 0x20, gate of ring 0", U, VGP, 0x102, "int $0x20"
	R "int 0x20, gate of ring 0", RING1, VGP, 0x102, "int $0x20"
	R "int 0x20", K, 0x20, 0, "int $0x20; 9:"
	R "int 13, no error code", K, 15, 0, "int $15; 9:"
	R "int 13 from ring 3", U, VGP, 13*8+2, "int $13"
	R "int3", U, VBP, 0, "int3; 9:"
	R "int 3, two bytes", U, VBP, 0, ".byte 0xcd, 3; 9:"
	R "int1", U, VDB, 0, ".byte 0xf1; 9:"
	R "int 0xff, past no limit", U, VGP, 0xff*8+2, "int $0xff"
#if LONG
	R "into", U, VUD, 0, ".byte 0xce"
	R "bound/evex", U, VUD, 0, ".byte 0x62, 0x00, 0x00, 0x00, 0x00, 0x00"
	R "direct far call", U, VUD, 0, ".byte 0x9a, 0, 0, 0, 0, 0, 0"
	R "direct far jump", U, VUD, 0, ".byte 0xea, 0, 0, 0, 0, 0, 0"
	R "into", CU, VOF, 0, "into; 9:", fl=0x802
#else
	R "into", U, VOF, 0, "into; 9:", fl=0x802
	R "into not taken", U, OK, 0, "into"
	R "bound", U, VBR, 0, "movl $0, (%ebx); movl $5, 4(%ebx); movl $6, %ecx; 9: bound %ecx, (%ebx)"
	R "bound inside", U, OK, 0, "movl $-1, (%ebx); movl $5, 4(%ebx); movl $-1, %ecx; bound %ecx, (%ebx)"
	R "bound register form", U, VUD, 0, ".byte 0x62, 0xc0"
	R "lcall direct", U, OK, 0, "lcall $C3, $77f; ud2; 77: mov 4(%esp), %ax; mov %cs, %cx; sub %cx, %ax", val=0, mask=0xffff
#endif

	/* ---- I/O ---- */
	R "in", K, OK, 0, "in $0x84, %al"
	R "in", U, VGP, 0, "in $0x84, %al"
	R "in dx", U, VGP, 0, "in %dx, %eax"
	R "out", U, VGP, 0, "out %al, $0x84"
	R "in bitmap", U, OK, 0, "in $0x80, %al"
	R "out bitmap", U, OK, 0, "out %al, $0x80"
	R "in word bitmap", U, OK, 0, "in $0x82, %ax"
	R "in word half denied", U, VGP, 0, "in $0x83, %ax"
	R "in long bitmap", U, OK, 0, "in $0x80, %eax"
	R "in long last denied", U, VGP, 0, "in $0x81, %eax"
	R "in IOPL 3", U, OK, 0, "in $0x84, %al", fl=0x3002
	R "in IOPL 1", RING1, OK, 0, "in $0x84, %al", fl=0x1002
	R "in IOPL 1", RING2, VGP, 0, "in $0x84, %al", fl=0x1002
	R "insb", U, VGP, 0, "insb"
	R "outsb", U, VGP, 0, "outsb"
	R "rep outsb count 0", U, VGP, 0, "rep outsb"
	R "rep outsb count 0", K, OK, 0, "rep outsb"
	R "in 0xffff", U, VGP, 0, "mov $0xffff, %edx; 9: in %dx, %al"
	R "in word 0xffff: last bitmap byte", U, VGP, 0, "mov $0xffff, %edx; 9: in %dx, %ax"

	/* ---- privileged at CPL 3 ---- */
	R "hlt", U, VGP, 0, "hlt"
	R "hlt", RING1, VGP, 0, "hlt"
	R "clts", U, VGP, 0, "clts"
	R "clts", K, OK, 0, "clts; smsw %ax", val=0x33, mask=0xffff
	R "lmsw", U, VGP, 0, "lmsw %ax"
	R "lmsw keeps PE", K, OK, 0, "mov $0xfff2, %ax; lmsw %ax; smsw %ax", val=0x33, mask=0xffff, bits=0
	R "lmsw sets TS", K, OK, 0, "mov $0xb, %ax; lmsw %ax; smsw %ax", val=0x3b, mask=0xffff
	R "wbinvd", U, VGP, 0, "wbinvd"
	R "wbinvd", K, OK, 0, "wbinvd"
	R "invd", U, VGP, 0, "invd"
	R "invd", K, OK, 0, "invd"
	R "lgdt", U, VGP, 0, "lgdt (%ebx)"
	R "lidt", U, VGP, 0, "lidt (%ebx)"
	R "lldt", U, VGP, 0, "lldt %ax"
	R "ltr", U, VGP, 0, "ltr %ax"
	R "lldt null", K, OK, 0, "xor %eax, %eax; lldt %ax; sldt %eax; mov $LDTSEL, %ecx; lldt %cx", val=0
	R "lldt not an LDT", K, VGP, D0, "mov $D0, %eax; 9: lldt %ax"
	R "lldt in the LDT", K, VGP, 0x14, "mov $0x17, %eax; 9: lldt %ax"
	R "ltr busy", K, VGP, TSS, "mov $TSS, %eax; 9: ltr %ax"
	R "ltr null", K, VGP, 0, "xor %eax, %eax; 9: ltr %ax", post=tr_restore
	R "ltr data", K, VGP, D0, "mov $D0, %eax; 9: ltr %ax"
	R "invlpg", U, VGP, 0, "invlpg (%ebx)"
	R "invlpg", K, OK, 0, "invlpg (%ebx)"
	R "invlpg register form", K, VUD, 0, ".byte 0x0f, 0x01, 0xff"
	R "mov cr0", U, VGP, 0, "mov %cr0, rAX"
	R "mov to cr0", U, VGP, 0, "mov rAX, %cr0"
	R "mov cr2", U, VGP, 0, "mov %cr2, rAX"
	R "mov cr3", U, VGP, 0, "mov %cr3, rAX"
	R "mov cr4", U, VGP, 0, "mov %cr4, rAX"
	R "mov cr0", K, OK, 0, "mov %cr0, rAX", val=CR0_BASE, mask=0x7fffffff
	R "mov cr1", K, VUD, 0, ".byte 0x0f, 0x20, 0xc8"
	R "mov cr5", K, VUD, 0, ".byte 0x0f, 0x20, 0xe8"
	R "mov to cr7", K, VUD, 0, ".byte 0x0f, 0x22, 0xf8"
	R "mov cr1", U, VUD, 0, ".byte 0x0f, 0x20, 0xc8", need=feat_never
	R "mov cr2 back", K, OK, 0, "mov $0x12345, %eax; mov rAX, %cr2; xor %eax, %eax; mov %cr2, rAX", val=0x12345
	R "mov cr4", K, OK, 0, "mov %cr4, rAX", val=CR4_BASE
	R "mov cr4 reserved bit", K, VGP, 0, "mov %cr4, rAX; bts $29, %eax; 9: mov rAX, %cr4", need=feat_not_tcg
	R "mov cr0 PG without PE", K, VGP, 0, "mov $0x80000010, %eax; 9: mov rAX, %cr0", need=feat_not_tcg
	R "mov cr0 NW without CD", K, VGP, 0, "mov %cr0, rAX; or $0x20000000, %eax; 9: mov rAX, %cr0", need=feat_not_tcg
	R "mov dr7", U, VGP, 0, "mov %db7, rAX"
	R "mov to dr0", U, VGP, 0, "mov rAX, %db0"
	R "mov dr7", K, OK, 0, "mov %db7, rAX", val=0x400
	R "mov dr4 is dr6", K, OK, 0, "xor %eax, %eax; mov rAX, %db6; mov %db4, rAX", val=0xffff0ff0
	R "mov dr4 with CR4.DE", K, VUD, 0, "mov %db4, rAX", cr4=8
	R "mov dr5 with CR4.DE", K, VUD, 0, "mov rAX, %db5", cr4=8
	R "mov dr0 back", K, OK, 0, "mov $0x1234, %eax; mov rAX, %db0; xor %eax, %eax; mov %db0, rAX", val=0x1234
	R "rdmsr", U, VGP, 0, "rdmsr"
	R "wrmsr", U, VGP, 0, "wrmsr"
	R "rdmsr unknown", K, VGP, 0, "mov $0x1234567, %ecx; 9: rdmsr"
	R "wrmsr unknown", K, VGP, 0, "mov $0x1234567, %ecx; 9: wrmsr"
	R "wrmsr rdmsr", K, OK, 0, "mov $0x175, %ecx; mov $0x77665544, %eax; xor %edx, %edx; wrmsr; xor %eax, %eax; rdmsr", val=0x77665544, need=feat_sep
	R "rdtsc", U, OK, 0, "rdtsc"
	R "rdtsc TSD", U, VGP, 0, "rdtsc", cr4=4
	R "rdtsc TSD", RING1, VGP, 0, "rdtsc", cr4=4
	R "rdtsc TSD", K, OK, 0, "rdtsc", cr4=4
	R "rdtscp TSD", U, VGP, 0, "rdtscp", cr4=4, need=feat_rdtscp
	R "rdpmc", U, VGP, 0, "rdpmc"
	R "cpuid", U, OK, 0, "mov $0x40000000, %eax; cpuid; xor %eax, %eax", val=0
	R "sysret without SCE", K, VUD, 0, "sysretl", pre=efer_sce_off, post=efer_sce_back
	R "syscall without SCE", U, VUD, 0, "syscall", pre=efer_sce_off, post=efer_sce_back
	R "syscall without SCE", K, VUD, 0, "syscall", pre=efer_sce_off, post=efer_sce_back
	R "rsm", K, VUD, 0, "rsm"
	R "rsm", U, VUD, 0, "rsm"
	R "xgetbv without OSXSAVE", U, VUD, 0, "xgetbv"
	R "xgetbv", U, OK, 0, "xgetbv; and $1, %eax", cr4=0x40000, need=feat_xsave, val=1
	R "xgetbv ecx=7", U, VGP, 0, "mov $7, %ecx; 9: xgetbv", cr4=0x40000, need=feat_xsave
	R "xsetbv", U, VGP, 0, "xsetbv", cr4=0x40000, need=feat_xsave
	R "xsetbv without x87", K, VGP, 0, "mov $2, %eax; 9: xsetbv", cr4=0x40000, need=feat_xsave
	R "xsetbv", K, OK, 0, "xgetbv; xsetbv; and $1, %eax", cr4=0x40000, need=feat_xsave, val=1
#if LONG
	R "swapgs", U, VGP, 0, "swapgs"
	R "swapgs", K, OK, 0, "swapgs; swapgs"
	R "swapgs", CU, VUD, 0, ".byte 0x0f, 0x01, 0xf8"
	R "sysret", U, VGP, 0, "sysretq"
	R "sysret 32", U, VGP, 0, "sysretl"
	R "sysenter", U, VGP, 0, "sysenter", need=feat_intel
	R "sysenter", U, VUD, 0, "sysenter", need=feat_amd
	R "sysexit", U, VGP, 0, ".byte 0x0f, 0x35"
	R "mov cr8", U, VGP, 0, "mov %cr8, %rax"
	R "mov cr8", K, OK, 0, "mov $5, %eax; mov %rax, %cr8; xor %eax, %eax; mov %cr8, %rax; xor %ecx, %ecx; mov %rcx, %cr8", val=5
	R "mov cr8 reserved", K, VGP, 0, "mov $0x10, %eax; 9: mov %rax, %cr8"
	R "mov cr0 high bits", K, VGP, 0, "mov %cr0, %rax; bts $32, %rax; 9: mov %rax, %cr0", need=feat_not_tcg
	R "mov cr4 without PAE", K, VGP, 0, "mov %cr4, %rax; and $~0x20, %eax; 9: mov %rax, %cr4", need=feat_not_tcg
	R "mov cr3 reserved", K, VGP, 0, "mov %cr3, %rax; bts $62, %rax; 9: mov %rax, %cr3", need=feat_not_tcg
	R "mov dr7 high bits", K, VGP, 0, "mov $1, %eax; shl $32, %rax; 9: mov %rax, %db7"
	R "mov dr6 high bits", K, VGP, 0, "mov $1, %eax; shl $32, %rax; 9: mov %rax, %db6"
	R "wrmsr non-canonical", K, VGP, 0, "mov $0xc0000101, %ecx; mov $0x80000000, %edx; 9: wrmsr"
	R "wrmsr efer reserved", K, VGP, 0, "mov $0xc0000080, %ecx; rdmsr; or $0x200, %eax; 9: wrmsr"
	R "wrmsr efer LME with paging", K, VGP, 0, "mov $0xc0000080, %ecx; rdmsr; and $~0x100, %eax; 9: wrmsr"
	R "rdfsbase without CR4", U, VUD, 0, "rdfsbase %rax"
	R "rdfsbase", U, OK, 0, "rdfsbase %rax", cr4=0x10000, need=feat_fsgsbase, val=0
	R "wrgsbase", U, OK, 0, "mov $0x1234, %eax; wrgsbase %rax; rdgsbase %rcx; xor %eax, %eax; wrgsbase %rax; mov %ecx, %eax", cr4=0x10000, need=feat_fsgsbase, val=0x1234
	R "wrfsbase non-canonical", U, VGP, 0, "movabs $0x8000000000000000, %rax; 9: wrfsbase %rax", cr4=0x10000, need=feat_fsgsbase
	R "rdfsbase compat", CU, VUD, 0, ".byte 0xf3, 0x0f, 0xae, 0xc0", cr4=0x10000, need=feat_fsgsbase
	R "mov cr3", CU, VGP, 0, "mov %cr3, %eax"
	R "mov cr0", CK, OK, 0, "mov %cr0, %eax", val=CR0_BASE, mask=0x7fffffff
#else
	R "swapgs", K, VUD, 0, ".byte 0x0f, 0x01, 0xf8"
	R "sysenter, CS MSR null", U, VGP, 0, "sysenter", need=feat_sep
	R "sysexit", U, VGP, 0, ".byte 0x0f, 0x35", need=feat_sep
	R "sysexit, CS MSR null", K, VGP, 0, ".byte 0x0f, 0x35", need=feat_sep
	R "hlt", V86, VGP, 0, "hlt"
	R "clts", V86, VGP, 0, "clts"
	R "lgdt", V86, VGP, 0, "lgdt (%bx)"
	R "lidt", V86, VGP, 0, "lidt (%bx)"
	R "mov cr0", V86, VGP, 0, "mov %cr0, %eax"
	R "mov dr0", V86, VGP, 0, "mov %db0, %eax"
	R "rdmsr", V86, VGP, 0, "rdmsr"
	R "wbinvd", V86, VGP, 0, "wbinvd"
	R "invlpg", V86, VGP, 0, "invlpg (%bx)"
	R "lmsw", V86, VGP, 0, "lmsw %ax"
	R "rdtsc TSD", V86, VGP, 0, "rdtsc", cr4=4
	R "mov cr0", REAL, OK, 0, "mov %cr0, %eax", val=CR0_BASE-1
	R "mov cs", REAL, VUD, 0, "mov %ax, %cs"
	R "cli 16:3", U16, VGP, 0, "cli"
	R "sgdt 16", U16, OK, 0, "sgdt (%bx); mov 5(%bx), %al", val=0, mask=0xff
	R "lldt 16", U16, VGP, 0, "lldt %ax"
	R "int 0x80 16", U16, 0x80, 0, "int $0x80; 9:"
#endif

	/* VIF after a row */
vif_set:
	mov tr_fl, %eax
	and $VIF_, %eax
	xor $VIF_, %eax
	ret
vif_clear:
	mov tr_fl, %eax
	and $VIF_, %eax
	ret
skip_long_nt:
	/* 64-bit: #GP(0). 32-bit: a task switch to the back link, 0, which is no TSS: #TS(0). */
#if LONG
	movb $VGP, ROW_VEC(SI)
	movl $0, ROW_ERR(SI)
#endif
	ret
tr_restore:
	andb $~2, gdt + TSS + 5
	mov $TSS, %eax
	ltr %ax
	xor %eax, %eax
	ret
efer_sce_off:
	mov $0xc0000080, %ecx
	rdmsr
	and $~1, %eax
	wrmsr
	ret
efer_sce_back:
	mov $0xc0000080, %ecx
	rdmsr
#if LONG
	or $1, %eax
#endif
	wrmsr
	xor %eax, %eax
	ret

	.data
feat_never: .byte 0
	.text

test_main:
	SETDESC RO0, 0, 0xfff, 0x91
	SETDESC RW3, 0, 0x12345, 0xf3
	SETDESC XO0, 0, 0xfffff, 0xc099
	SETDESC CF0, 0, 0xfffff, 0xc09f
	SETDESC XO3, 0, 0xfffff, 0xc0f9
	SETDESC NP3, 0, 0xfffff, 0x73
	SETGATE CG3, C0, gate_target, 0xec
	SETDESC RO3, 0, 0xfffff, 0xc0f1
	SETDESC RW1, 0, 0xfffff, 0xc0b3
	SETDESC NPC, 0, 0xfffff, (0x1b + 0xc000 + LONG * (0x2000 - 0x4000))
	SETDESC NPC3, 0, 0xfffff, (0x7b + 0xc000 + LONG * (0x2000 - 0x4000))
	SETDESC TS1, 0, 43, 0x81
	SETGATE XX6, C0, gate_target, 0x86
	SETGATE TG5, TSSDF, 0, 0x85
	SETDESC TS9, 0, 103, 0x89
	movb $0xf0, tss_io + 0x10
	jmp run_rows
gate_target:
	ud2
