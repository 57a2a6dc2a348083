// MODES: 32
/*
 * Virtual-8086 mode: frames, segment registers, IOPL, reflection of INT by a monitor, VME with its
 * redirection map, VIF and VIP. SDM 3, chapter 20.
 */
#include "guest.inc"

	.set VME, 1

	R "segment base is selector * 16", V86, OK, 0, "movb $0x5a, (%bx); mov $0x0fff, %ax; mov %ax, %ds; mov 16(%bx), %al; movzbl %al, %eax", val=0x5a
	R "ffff:0010 is 1 MiB", V86, OK, 0, "mov $0xffff, %ax; mov %ax, %es; mov %es:0x10, %eax", val=0x1badb002
	R "ljmp", V86, OK, 0, "ljmp $0x0f00, $(77f - LOW + 0x1000); ud2; 77: mov %cs, %ax; ljmp $0x1000, $(78f - LOW); 78:", val=0xf00, mask=0xffff
	R "lcall lret", V86, OK, 0, "lcall $0x1000, $(77f - LOW); jmp 78f; 77: mov $7, %eax; lret; 78:", val=7
	R "pop ss", V86, OK, 0, "pushw $0x0ff0; pop %ss; mov %ss, %ax", val=0xff0, mask=0xffff
	R "any selector", V86, OK, 0, "mov $3, %ax; mov %ax, %fs; mov %fs, %ax", val=3, mask=0xffff
	R "#DE", V86, VDE, 0, "div %cl"
	R "#BR", V86, VBR, 0, "movw $5, (%bx); movw $6, 2(%bx); 9: bound %ax, (%bx)"
	R "#NM", V86, VNM, 0, "fld1", pre=set_ts
	R "#DB", V86, VDB, 0, "nop; 9: nop", fl=0x102
	R "int1", V86, VDB, 0, ".byte 0xf1; 9:", need=feat_not_tcg
	R "lock nop", V86, VUD, 0, ".byte 0xf0, 0x90"
	R "mov to cr3", V86, VGP, 0, "mov %eax, %cr3"
	R "clts", V86, VGP, 0, "clts"
	R "invd", V86, VGP, 0, "invd"
	R "rdtsc", V86, OK, 0, "rdtsc"
	R "cpuid", V86, OK, 0, "xor %eax, %eax; cpuid; xor %eax, %eax", val=0
	R "sysenter, cs MSR null", V86, VGP, 0, "sysenter", need=feat_sep
	R "iretl IOPL 3: VM and IOPL kept", V86, OK, 0, "pushl $0x1246; pushl $0x1000; pushl $(77f - LOW); iretl; 77: pushfl; pop %eax", fl=0x3002, val=0x3246
	R "pushfl IOPL 3: no VM, no RF", V86, OK, 0, "pushfl; pop %eax", fl=0x3002, val=0x3002
	R "int 0x80 IOPL 3 to a gate of ring 1", V86, VGP, C1&~3, "int $0x81", fl=0x3002
	R "int 0x82 IOPL 3 to conforming code", V86, VGP, SLOT, "int $0x82", fl=0x3002
	R "stack of 16 bits", V86, OK, 0, "mov $0x1fffe, %esp; push %ax; mov %esp, %eax", val=0x1fffc
	R "movs", V86, OK, 0, "push %ds; pop %es; movb $0x33, (%bx); mov %bx, %si; lea 9(%bx), %di; movsb; movzbl 9(%bx), %eax", val=0x33
	R "insb bitmap", V86, VGP, 0, "push %ds; pop %es; mov $0x84, %dx; 9: insb", bits=2
	R "rep outsb bitmap allowed", V86, OK, 0, "mov %bx, %si; mov $0x80, %dx; mov $3, %cx; rep outsb; movzwl %cx, %eax", val=0

	/* ---- VME */
	R "VME: cli", V86, OK, 0, "cli; pushf; pop %ax", fl=0x80202, cr4=VME, val=0x3002, mask=0xffff, need=feat_vme, post=vif_clear_if_set
	R "VME: sti", V86, OK, 0, "sti; pushf; pop %ax", fl=0x202, cr4=VME, val=0x3202, mask=0xffff, need=feat_vme, post=vif_set
	R "VME: sti with VIP", V86, VGP, 0, "sti", fl=0x100202, cr4=VME, need=feat_vme
	R "VME: sti IOPL 3 is IF", V86, OK, 0, "sti; pushf; pop %ax", fl=0x3002, cr4=VME, val=0x3202, mask=0xffff, need=feat_vme
	R "VME: pushf shows VIF", V86, OK, 0, "pushf; pop %ax", fl=0x80002, cr4=VME, val=0x3202, mask=0xffff, need=feat_vme
	R "VME: pushf without VIF", V86, OK, 0, "pushf; pop %ax", fl=0x00202, cr4=VME, val=0x3002, mask=0xffff, need=feat_vme
	R "VME: pushfl", V86, VGP, 0, "pushfl", cr4=VME, need=feat_vme
	R "VME: popfl", V86, VGP, 0, "popfl", cr4=VME, need=feat_vme
	R "VME: popf sets VIF", V86, OK, 0, "pushw $0x0247; popf; pushf; pop %ax", fl=0x202, cr4=VME, val=0x3247, mask=0xffff, need=feat_vme, post=vif_set
	R "VME: popf clears VIF", V86, OK, 0, "pushw $0x0047; popf; pushf; pop %ax", fl=0x80202, cr4=VME, val=0x3047, mask=0xffff, need=feat_vme, post=vif_clear_if_set
	R "VME: popf with TF", V86, VGP, 0, "pushw $0x0100; 9: popf", cr4=VME, need=feat_vme
	R "VME: popf IF with VIP", V86, VGP, 0, "pushw $0x0200; 9: popf", fl=0x100202, cr4=VME, need=feat_vme
	R "VME: popf no IF with VIP", V86, OK, 0, "pushw $0; popf", fl=0x100202, cr4=VME, need=feat_vme
	R "VME: iret", V86, OK, 0, "pushw $0x0247; pushw %cs; pushw $(77f - LOW); iret; ud2; 77: pushf; pop %ax", fl=0x202, cr4=VME, val=0x3247, mask=0xffff, need=feat_vme, post=vif_set
	R "VME: iret with TF", V86, VGP, 0, "pushw $0x0100; pushw %cs; pushw $(77f - LOW); 9: iret; 77:", cr4=VME, need=feat_vme
	R "VME: int redirected: runs in v86 mode", V86, OK, 0, "int $0x21; nop", fl=0x80202, cr4=VME, val=0x2121, mask=0xffff, need=feat_vme
	R "VME: int redirected: flags image", V86, OK, 0, "movw $0, %cs:(int21_flags - LOW); int $0x21; mov %cs:(int21_flags - LOW), %ax", fl=0x80202, cr4=VME, val=0x3202, mask=0xffff, need=feat_vme
	R "VME: int redirected clears VIF", V86, OK, 0, "int $0x21; mov %cs:(int21_inner - LOW), %ax", fl=0x80202, cr4=VME, val=0x3002, mask=0xffff, need=feat_vme
	R "VME: int redirected, IOPL 3", V86, OK, 0, "int $0x21; mov %cs:(int21_flags - LOW), %ax", fl=0x3202, cr4=VME, val=0x3202, mask=0xffff, need=feat_vme
	R "VME: int not redirected", V86, VGP, 0, "int $0x80", cr4=VME, need=feat_vme
	R "VME: int not redirected, IOPL 3", V86, 0x80, 0, "int $0x80; 9:", fl=0x3002, cr4=VME, need=feat_vme
	R "VME: int3 is never redirected", V86, VBP, 0, "int3; 9:", cr4=VME, need=feat_vme

	.data
	.balign 4
cap:	.skip 32
mon_count: .long 0
old_gp:	.quad 0
	.text
set_ts:	mov %cr0, %eax
	or $0xa, %eax
	mov %eax, %cr0
	ret
vif_set:
	mov tr_fl, %eax
	and $VIF_, %eax
	xor $VIF_, %eax
	ret
vif_clear_if_set:
	mov tr_fl, %eax
	and $(VIF_ | IF_), %eax
	xor $IF_, %eax
	ret

	.section .low, "awx"
	.code16
int21:	/* the v86 task's own handler */
	push %bp
	mov %sp, %bp
	mov 6(%bp), %ax
	mov %ax, %cs:(int21_flags - LOW)
	pushf
	popw %cs:(int21_inner - LOW)
	pop %bp
	mov $0x2121, %ax
	iret
int21_flags: .short 0
int21_inner: .short 0
reflected: /* asks for INT 0x22, that the monitor reflects */
	mov $5, %ecx
	xor %eax, %eax
1:	int $0x22
	loop 1b
	int3
int22:	inc %ax
	iret
v86_44:	mov $0x1234, %ax
	mov %ax, %fs
	mov $0x5678, %ax
	mov %ax, %gs
	int $0x84
	.text
	.code32
	/* Monitor: #GP from v86 mode: INT n and IRET are done for it, anything else is the test's end. */
monitor:
	testl $VM_, 12(%esp)
	jz 2f
	push %eax
	push %ebx
	push %ecx
	push %edx
	mov $D0, %eax
	mov %eax, %ds
	/* stack: edx ecx ebx eax err eip cs eflags esp ss */
	mov 24(%esp), %ebx
	shl $4, %ebx
	add 20(%esp), %ebx
	movzwl 36(%esp), %edx
	shl $4, %edx
	movzwl 32(%esp), %ecx
	add %ecx, %edx /* linear stack */
	movzbl (%ebx), %eax
	cmp $0xcd, %al
	je 3f
	cmp $0xcf, %al
	je 4f
	pop %edx
	pop %ecx
	pop %ebx
	pop %eax
2:	jmp *old_gp
3:	incl mon_count
	mov 28(%esp), %eax
	mov %ax, -2(%edx)
	mov 24(%esp), %eax
	mov %ax, -4(%edx)
	mov 20(%esp), %eax
	add $2, %eax
	mov %ax, -6(%edx)
	subw $6, 32(%esp)
	movzbl 1(%ebx), %eax
	movzwl (,%eax,4), %ecx
	mov %ecx, 20(%esp)
	movzwl 2(,%eax,4), %ecx
	mov %ecx, 24(%esp)
	jmp 5f
4:	movzwl (%edx), %eax
	mov %eax, 20(%esp)
	movzwl 2(%edx), %eax
	mov %eax, 24(%esp)
	addw $6, 32(%esp)
5:	pop %edx
	pop %ecx
	pop %ebx
	pop %eax
	add $4, %esp
	iretl
cap_handler: /* what the handler of an interrupt from v86 mode finds */
	mov %ds, %ss:cap
	mov %es, %ss:cap + 2
	mov %fs, %ss:cap + 4
	mov %gs, %ss:cap + 6
	mov %esp, %ss:cap + 8
	mov %ss, %ss:cap + 12
	pushfl
	popl %ss:cap + 16
	push $0
	push $0x84
	jmp trap_common
	/* ring 3 cannot get into v86 mode by IRET */
u_iret_vm:
	push $D3
	push $snip_stack_top
	push $(VM_ | 2)
	push $U32
	push $1f
	iretl
1:	mov %cs, %eax
	int3

test_main:
	SETDESC SLOT, 0, 0xfffff, 0xc09f
	SETIDT 0x81, stubs+0x81*16, attr=0xee, sel=C1
	SETIDT 0x82, stubs+0x82*16, attr=0xee, sel=SLOT
	SETIDT 0x84, cap_handler, attr=0xee
	movb $0xf0, tss_io + 0x10
	/* INT 0x21 goes to the v86 task under VME */
	andb $~2, tss_io - 32 + 4
	movl $(LOW << 12) + int21 - LOW, 0x21 * 4
	movl $(LOW << 12) + int22 - LOW, 0x22 * 4
	call run_rows

	/* -- the frame */
	TRY v86_44, V86, (IOPL3 | IF_ | 0x8d5)
	CHECK4 "frame: vector", tr_vec, $0x84
	mov tr_frame, %ebx
	CHECK4 "frame: cs", 8(%ebx), $LOW >> 4
	CHECK4 "frame: flags", 12(%ebx), $(VM_ | IOPL3 | IF_ | 0x8d7)
	CHECK4 "frame: esp", 16(%ebx), $0xfff0
	CHECK4 "frame: ss", 20(%ebx), $LOW >> 4
	CHECK4 "frame: es", 24(%ebx), $LOW >> 4
	CHECK4 "frame: ds", 28(%ebx), $LOW >> 4
	CHECK4 "frame: fs", 32(%ebx), $0x1234
	CHECK4 "frame: gs", 36(%ebx), $0x5678
	CHECK4 "handler: ds and es null", cap, $0
	CHECK4 "handler: fs and gs null", cap + 4, $0
	CHECK4 "handler: esp", cap + 8, $trap_stack_top-36
	CHECK4 "handler: ss", cap + 12, $D0
	CHECK4 "handler: VM and IF clear, IOPL kept", cap + 16, $(IOPL3 | 0x8d7)

	/* -- a monitor that reflects */
	movl $stubs + 13 * 16, old_gp
	SETIDT 13, monitor
	TRY reflected, V86
	SETIDT 13, stubs+13*16
	CHECK4 "reflected: vector", tr_vec, $VBP
	CHECK4 "reflected: handler ran", tr_ax, $5
	CHECK4 "reflected: times", mon_count, $5
	CHECK4 "reflected: sp", tr_sp, $0xfff0

	/* -- ring 3 */
	TRY u_iret_vm, U
	CHECK4 "iret of ring 3 does not set VM", tr_ax, $U32
	ret
