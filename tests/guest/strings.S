// MODES: 32 64
/*
 * REP instructions that fault in the middle: registers at the fault, memory done so far, and going on
 * after the handler has mapped the page. Nothing is mapped from EDGE on.
 */
#include "guest.inc"

	.set EDGE, 0x800000
#if LONG
	.set PDE, boot_pd + (EDGE >> 21) * 8
#else
	.set PDE, boot_pd + (EDGE >> 22) * 4
#endif
	.data
saved_pde: .long 0
	.text
.macro REPROW name:req, code:req, vec=VPF, err:req, si, di, cx:req, cr2:req
	.text
	NATIVE
	jmp 2f
1:	\code
	int3
2:	TRY 1b, U
	CHECK4 "\name: vector", tr_vec, $\vec
	CHECK4 "\name: error", tr_err, $\err
	CHECK4 "\name: cr2", tr_cr2, $\cr2
	CHECK4 "\name: ecx", tr_cx, $\cx
	.ifnb \si
	CHECK4 "\name: esi", tr_si, $\si
	.endif
	.ifnb \di
	CHECK4 "\name: edi", tr_di, $\di
	.endif
.endm
	/* maps the page and goes on */
map_handler:
	push AX
	mov saved_pde, %eax
	mov %eax, PDE
	pop AX
	add $W, SP
	IRET
unmap:	movl $0, PDE
	mov %cr3, AX
	mov AX, %cr3
	ret

test_main:
	call paging_on
	mov PDE, %eax
	mov %eax, saved_pde
	movl $0x44332211, EDGE - 8
	movl $0x88776655, EDGE - 4
	movl $0x0badf00d, EDGE
	movl $0x0badf11d, EDGE + 4
	call unmap

	REPROW "rep movsb, source", "mov $EDGE - 8, %esi; mov $20, %ecx; rep movsb", err=4, si=EDGE, di=scratch+200, cx=12, cr2=EDGE
	CHECK4 "bytes done", scratch + 192, $0x44332211
	REPROW "rep movsb, destination", "mov $EDGE - 8, %edi; mov $20, %ecx; rep movsb", err=6, si=scratch+136, di=EDGE, cx=12, cr2=EDGE
	REPROW "rep movsl, source across", "mov $EDGE - 6, %esi; mov $5, %ecx; rep movsl", err=4, si=EDGE-2, di=scratch+196, cx=4, cr2=EDGE
	REPROW "rep movsl, destination across", "mov $EDGE - 7, %edi; mov $5, %ecx; rep movsl", err=6, si=scratch+132, di=EDGE-3, cx=4, cr2=EDGE
	REPROW "rep movsl, both: the source first", "mov $EDGE - 4, %edi; mov $EDGE - 4, %esi; mov $5, %ecx; rep movsl", err=4, si=EDGE, di=EDGE, cx=4, cr2=EDGE
	REPROW "rep movsb backwards into the edge", "std; mov $EDGE + 1, %esi; mov $5, %ecx; rep movsb", err=4, si=EDGE+1, di=scratch+192, cx=5, cr2=EDGE+1
	REPROW "rep stosw", "mov $EDGE - 6, %edi; mov $20, %ecx; rep stosw", err=6, di=EDGE, cx=17, cr2=EDGE
	REPROW "rep stosl across", "mov $EDGE - 6, %edi; mov $20, %ecx; rep stosl", err=6, di=EDGE-2, cx=19, cr2=EDGE
	REPROW "rep lodsb", "mov $EDGE - 3, %esi; mov $20, %ecx; rep lodsb", err=4, si=EDGE, cx=17, cr2=EDGE
	movl $0x44332211, EDGE - 8
	movl $0x88776655, EDGE - 4
	REPROW "rep lodsb again", "mov $EDGE - 3, %esi; mov $20, %ecx; rep lodsb", err=4, si=EDGE, cx=17, cr2=EDGE
	CHECK4 "rep lodsb again: al is the last byte", tr_ax, $0x6088
	REPROW "repne scasb", "mov $EDGE - 3, %edi; mov $20, %ecx; mov $1, %al; repne scasb", err=4, di=EDGE, cx=17, cr2=EDGE
	REPROW "repe cmpsb", "mov $EDGE - 3, %edi; mov $EDGE - 3, %esi; mov $20, %ecx; repe cmpsb", err=4, si=EDGE, di=EDGE, cx=17, cr2=EDGE
	mov tr_fl, %eax
	and $0x8d5, %eax
	VALUE "flags at a fault inside repe cmpsb", AX
	REPROW "repne cmpsl across", "mov $EDGE - 5, %edi; mov $20, %ecx; repne cmpsl", err=4, si=scratch+132, di=EDGE-1, cx=19, cr2=EDGE
	REPROW "movsb alone", "mov $EDGE, %esi; movsb", err=4, si=EDGE, di=scratch+192, cx=0, cr2=EDGE
	REPROW "stosl alone", "mov $EDGE - 1, %edi; stosl", err=6, di=EDGE-1, cx=0, cr2=EDGE
	/* a count of 0 touches nothing, a comparison that ends before the edge neither */
	REPROW "count 0", "mov $EDGE, %esi; mov $EDGE, %edi; rep movsl; rep stosb; repe cmpsb; repne scasl; rep lodsb", vec=VBP, err=0, si=EDGE, di=EDGE, cx=0, cr2=EDGE
	REPROW "repne scasb ends in time", "mov $EDGE - 3, %edi; mov $20, %ecx; mov $0x88, %al; repne scasb", vec=VBP, err=0, di=EDGE, cx=17, cr2=EDGE
	REPROW "repe scasb ends at once", "mov $EDGE - 3, %edi; mov $20, %ecx; mov $1, %al; repe scasb", vec=VBP, err=0, di=EDGE-2, cx=19, cr2=EDGE
#if LONG
	REPROW "rep movsq across", "mov $EDGE - 12, %esi; mov $5, %ecx; rep movsq", err=4, si=EDGE-4, di=scratch+200, cx=4, cr2=EDGE
	REPROW "rep stosb with a count of more than 32 bits", "mov $EDGE - 4, %edi; mov $1, %ecx; shl $32, %rcx; rep stosb", err=6, di=EDGE, cx=0xfffffffc, cr2=EDGE
	CHECK4 "the count's upper half", tr_cx + 4, $0
	/* addresses that are not canonical, and next to what no entry of a TLB is for */
	REPROW "rep movsq, destination not canonical", "movabs $0xbffffffffffffff8, %rdi; mov $2, %ecx; rep movsq", vec=VGP, err=0, si=scratch+128, di=0xfffffff8, cx=2, cr2=EDGE
	CHECK4 "the source's upper half", tr_si + 4, $0
	CHECK4 "the destination's upper half", tr_di + 4, $0xbfffffff
	REPROW "rep movsq, source not canonical", "movabs $0xbffffffffffffff8, %rsi; mov $2, %ecx; rep movsq", vec=VGP, err=0, si=0xfffffff8, di=scratch+192, cx=2, cr2=EDGE
	CHECK4 "the source's upper half", tr_si + 4, $0xbfffffff
	REPROW "rep stosq, destination not canonical", "movabs $0xbffffffffffffff8, %rdi; mov $2, %ecx; rep stosq", vec=VGP, err=0, di=0xfffffff8, cx=2, cr2=EDGE
	CHECK4 "the destination's upper half", tr_di + 4, $0xbfffffff
	REPROW "rep stosq, another", "movabs $0xc000000000000ff8, %rdi; mov $2, %ecx; rep stosq", vec=VGP, err=0, di=0xff8, cx=2, cr2=EDGE
	CHECK4 "the destination's upper half", tr_di + 4, $0xc0000000
	REPROW "movsq, destination not canonical", "movabs $0xbffffffffffffff8, %rdi; movsq", vec=VGP, err=0, si=scratch+128, di=0xfffffff8, cx=0, cr2=EDGE
	CHECK4 "the source's upper half", tr_si + 4, $0
#endif

	/* -- the handler maps the page; the instruction goes on */
	movl $0x44332211, EDGE - 8
	movl $0x88776655, EDGE - 4
	SETIDT 14, map_handler
	call unmap
	mov $EDGE - 8, %esi
	mov $scratch, %edi
	mov $16, %ecx
	rep movsb
	CHECK4 "goes on: ecx", %ecx, $0
	CHECK4 "goes on: esi", %esi, $EDGE+8
	CHECK4 "goes on: first bytes", scratch, $0x44332211
	CHECK4 "goes on: behind the edge", scratch + 8, $0x0badf00d
	CHECK4 "goes on: the last", scratch + 12, $0x0badf11d
	call unmap
	mov $EDGE - 6, %esi
	mov $scratch, %edi
	mov $3, %ecx
	rep movsl
	CHECK4 "goes on across: ecx", %ecx, $0
	CHECK4 "goes on across: value", scratch + 4, $0xf00d8877
	call unmap
	mov $EDGE - 100, %edi
	mov $EDGE - 100, %esi
	mov $200, %ecx
	repe cmpsb
	setz %al
	movzbl %al, %eax
	CHECK4 "repe cmpsb goes on: equal", %eax, $1
	CHECK4 "repe cmpsb goes on: ecx", %ecx, $0
	/* many pages at once, the pages coming one by one */
	call unmap
	mov $EDGE - 4096, %edi
	mov $8192 / 4, %ecx
	mov $0x5a5a5a5a, %eax
	rep stosl
	CHECK4 "rep stosl goes on: edi", %edi, $EDGE+4096
	CHECK4 "rep stosl goes on: value", EDGE + 4092, $0x5a5a5a5a
	/* flags live over a fault that is resumed */
	call unmap
	stc
	mov EDGE, %eax
	setc %al
	movzbl %al, %eax
	CHECK4 "flags over a resumed fault", %eax, $1
	call unmap
	mov $5, %eax
	mov $7, %ecx
	cmp %ecx, %eax
	addl $0, scratch
	cmp %ecx, %eax
	push EDGE
	setb %al
	add $W, SP
	movzbl %al, %eax
	CHECK4 "flags over a resumed push", %eax, $1
	SETIDT 14, stubs+14*16
	ret
