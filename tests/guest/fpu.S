// MODES: 32 64
/*
 * FXSAVE, XSAVE and friends as system software sees them: images, headers, masks, faults; state kept
 * across rings, exceptions and everything that leaves the engine. SDM 1, chapter 13.
 */
#include "guest.inc"

	.set OSXSAVE, 0x40000
#if LONG
	.set XMMS, 16
#else
	.set XMMS, 8
#endif

	R "xgetbv", U, OK, 0, "xgetbv; and $3, %eax", val=3, need=feat_avx, cr4=OSXSAVE
	R "#UD avx without OSXSAVE", U, VUD, 0, "vxorps %xmm0, %xmm0, %xmm0", need=feat_avx
	R "#UD avx without XCR0.AVX", U, VUD, 0, "vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx, pre=xcr0_sse, post=xcr0_all
	R "avx", U, OK, 0, "vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx
	R "#NM avx, TS", U, VNM, 0, "vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx, pre=set_ts
	R "avx, EM does not count", U, OK, 0, "vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx, pre=set_em
	R "#UD avx with lock", U, VUD, 0, ".byte 0xf0; vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx
	R "#UD avx with 66", U, VUD, 0, ".byte 0x66; vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx
	R "#UD avx with f3", U, VUD, 0, ".byte 0xf3; vxorps %xmm0, %xmm0, %xmm0", cr4=OSXSAVE, need=feat_avx
	R "#UD vex.vvvv not 1111", U, VUD, 0, ".byte 0xc5, 0xe8, 0x28, 0xc1", cr4=OSXSAVE, need=feat_avx
	R "vmovaps misaligned", U, VGP, 0, "vmovaps 8(%ebx), %xmm0", cr4=OSXSAVE, need=feat_avx
	R "vaddps misaligned is fine", U, OK, 0, "vaddps 8(%ebx), %xmm0, %xmm1", cr4=OSXSAVE, need=feat_avx
	R "vmovaps 32 misaligned by 16", U, VGP, 0, "vmovaps 16(%ebx), %ymm0", cr4=OSXSAVE, need=feat_avx
	R "#UD xsave without OSXSAVE", U, VUD, 0, "xsave (%ebx)", need=feat_xsave
	R "#GP xsave misaligned", U, VGP, 0, "xsave 32(%ebx)", cr4=OSXSAVE, need=feat_xsave
	R "#NM xsave, TS", U, VNM, 0, "xsave (%ebx)", cr4=OSXSAVE, need=feat_xsave, pre=set_ts
	R "#NM xrstor, TS", U, VNM, 0, "xrstor (%ebx)", cr4=OSXSAVE, need=feat_xsave, pre=set_ts
	R "#UD xsave register form", U, VUD, 0, ".byte 0x0f, 0xae, 0xe0", cr4=OSXSAVE, need=feat_xsave
	R "#UD lock xsave", U, VUD, 0, ".byte 0xf0; xsave (%ebx)", cr4=OSXSAVE, need=feat_xsave
	R "#GP xsaves", U, VGP, 0, "xsaves area", cr4=OSXSAVE, need=feat_xsaves
	R "#GP xrstors", U, VGP, 0, "xrstors area", cr4=OSXSAVE, need=feat_xsaves
	R "xsetbv avx without sse", K, VGP, 0, "mov $5, %eax; 9: xsetbv", cr4=OSXSAVE, need=feat_xsave
	R "xsetbv 0", K, VGP, 0, "mov $0, %eax; 9: xsetbv", cr4=OSXSAVE, need=feat_xsave
	R "xsetbv unknown bit", K, VGP, 0, "mov $3, %eax; mov $0x40000000, %edx; 9: xsetbv", cr4=OSXSAVE, need=feat_xsave
	R "xsetbv of XCR1", K, VGP, 0, "mov $3, %eax; mov $1, %ecx; 9: xsetbv", cr4=OSXSAVE, need=feat_xsave
	R "fxsave misaligned", U, VGP, 0, "fxsave 8(%ebx)"
	R "fxrstor: MXCSR reserved", U, VGP, 0, "fxsave area; movl $0x10000, area + 24; 9: fxrstor area"
	R "fxrstor", U, OK, 0, "fxsave area; movl $0x1f85, area + 24; fxrstor area; stmxcsr (%ebx); ldmxcsr mxcsr_default; mov (%ebx), %eax", val=0x1f85
.macro XR name:req, vec:req, body:req
	R "xrstor: \name", U, \vec, 0, "mov $7, %eax; call clear_area; \body; 9: xrstor area", cr4=OSXSAVE, need=feat_xsave, bits=2
.endm
	XR "empty header", OK, "nop"
	XR "header of x87 and SSE", OK, "movl $3, area + 512; movl $0x1f80, area + 24"
	XR "unknown bit in XSTATE_BV", VGP, "movl $0x40000000, area + 516"
	XR "compact bit alone", VGP, "movl $0x40000000, area + 520"
	XR "XCOMP_BV set", VGP, "movl $0x80000000, area + 524; movl $0x40000000, area + 520"
	XR "XCOMP_BV of the standard form", VGP, "movl $1, area + 520"
	XR "reserved byte 16", VGP, "movb $1, area + 528"
	XR "reserved byte 23", VGP, "movb $1, area + 535"
	XR "MXCSR reserved", VGP, "movl $3, area + 512; movl $0x80000000, area + 24"

set_ts:	mov %cr0, AX
	or $0xa, %eax
	mov AX, %cr0
	ret
set_em:	mov %cr0, AX
	or $4, %eax
	mov AX, %cr0
	ret
	/* XCR0 needs CR4.OSXSAVE */
xcr0_sse:
	mov %cr4, AX
	push AX
	or $OSXSAVE, %eax
	mov AX, %cr4
	xor %ecx, %ecx
	xor %edx, %edx
	mov $3, %eax
	xsetbv
	pop AX
	mov AX, %cr4
	ret
xcr0_all:
	mov %cr4, AX
	push AX
	or $OSXSAVE, %eax
	mov AX, %cr4
	xor %ecx, %ecx
	xor %edx, %edx
	mov $3, %eax
	cmpb $0, feat_avx
	je 1f
	mov $7, %eax
1:	xsetbv
	pop AX
	mov AX, %cr4
	xor %eax, %eax
	ret
	/* Keeps all but flags */
clear_area:
	push AX
	push CX
	push DI
	mov $area, %edi
	mov $1024, %ecx
	xor %eax, %eax
	rep stosb
	pop DI
	pop CX
	pop AX
	ret

	.bss
	.balign 64
area:	.skip 4096
area2:	.skip 4096
	.data
	.balign 4
mxcsr_default: .long 0x1f80
count:	.long 0
	.balign 32
pat:	.set i, 0
	.rept 64
	.long 0x01010101 * i + 0x10203040
	.set i, i + 1
	.endr
	.text

.macro CMPXU n
	movups %xmm\n, area2
	push CX
	mov area2, %eax
	cmp pat + \n * 8, %eax
	jne 2f
	mov area2 + 12, %eax
	cmp pat + \n * 8 + 12, %eax
	je 1f
2:	incl count
1:	pop CX
.endm
.macro LOADY n
	vmovups pat + \n * 8, %ymm\n
.endm
.macro LOADX n
	movups pat + \n * 8, %xmm\n
.endm
.macro CMPYU n
	.if \n
	vextractf128 $1, %ymm\n, area2
	push CX
	mov area2, %eax
	cmp pat + \n * 8 + 16, %eax
	je 1f
	incl count
1:	pop CX
	.endif
.endm
	/* xmm n = pat + 16 * n; ymm's upper half pat + 8 * n; st(n) */
load_state:
	.set i, 0
	.rept XMMS
	.altmacro
	LOADX %i
	.noaltmacro
	.set i, i + 1
	.endr
	fninit
	fldpi
	fldl2e
	fld1
	ret
check_state: /* count += differences */
	.set i, 0
	.rept XMMS
	.altmacro
	CMPXU %i
	.noaltmacro
	.set i, i + 1
	.endr
	fld1
	fcomip %st(1), %st
	je 1f
	incl count
1:	fstp %st
	fldl2e
	fcomip %st(1), %st
	je 1f
	incl count
1:	fstp %st
	fldpi
	fcomip %st(1), %st
	je 1f
	incl count
1:	fstp %st
	ret
	.macro EXITS
	in $0x61, %al
	out %al, $0x80
	cpuid
	rdtsc
	mov %cr0, rAX
	mov rAX, %cr0
	mov %cr3, rAX
	mov rAX, %cr3
	invlpg scratch
	mov $0x174, %ecx
	rdmsr
	wrmsr
	sgdt scratch
	lgdt scratch
	clts
	wbinvd
	.endm

test_main:
	cmpb $0, feat_xsave
	je 1f
	call xcr0_all
1:	call paging_on
	/* -- image of FXSAVE */
	call clear_area
	fninit
	fld1
	fldpi
	movups pat, %xmm0
	movups pat + 16, %xmm7
	fxsave area
	CHECK2 "fxsave: control word", area, $0x37f
	CHECK2 "fxsave: status word, TOP 6", area + 2, $0x3000
	movzbl area + 4, %eax
	CHECK4 "fxsave: abridged tags", %eax, $0xc0
	CHECK4 "fxsave: MXCSR", area + 24, $0x1f80
	CHECK4 "fxsave: st0 mantissa", area + 36, $0xc90fdaa2
	CHECK2 "fxsave: st0 exponent", area + 40, $0x4000
	CHECK2 "fxsave: st1 exponent", area + 56, $0x3fff
	CHECK4 "fxsave: xmm0", area + 160, $0x10203040
	CHECK4 "fxsave: xmm7", area+272, $0x14243444
	/* -- and back */
	movl $0x12345678, area + 160
	fninit
	fxrstor area
	movd %xmm0, %eax
	CHECK4 "fxrstor: xmm0", %eax, $0x12345678
	fnstsw %ax
	movzwl %ax, %eax
	CHECK4 "fxrstor: status word", %eax, $0x3000
	fninit

	/* -- state lives through everything */
	movl $0, count
	call load_state
	EXITS
	call check_state
	CHECK4 "state kept over exits", count, $0
	movl $0, count
	call load_state
	TRY through, U
	fninit
	CHECK4 "state kept into ring 3", tr_ax, $0
	movl $0, count
	call load_state
	SETIDT 6, skip_ud2
	mov $50, %ebp
1:	ud2
	dec %ebp
	jnz 1b
	call check_state
	CHECK4 "state kept over exceptions", count, $0
	cmpb $0, feat_avx
	je 9f
	orl $OSXSAVE, CR4_NOW
	mov CR4_NOW, AX
	mov AX, %cr4
	movl $0, count
	.set i, 0
	.rept XMMS
	.altmacro
	LOADY %i
	.noaltmacro
	.set i, i + 1
	.endr
	EXITS
	.set i, 0
	.rept XMMS
	.altmacro
	CMPYU %i
	.noaltmacro
	.set i, i + 1
	.endr
	CHECK4 "upper halves kept over exits", count, $0

	/* -- XSAVE, standard form */
	call clear_area
	movl $-1, area + 512 + 24
	fninit
	movups pat, %xmm0
	vmovups pat, %ymm1
	mov $7, %eax
	xor %edx, %edx
	xsave area
	mov area + 512, %eax
	and $6, %eax
	CHECK4 "xsave: XSTATE_BV has SSE and AVX", %eax, $6
	CHECK4 "xsave: XCOMP_BV", area + 520, $0
	CHECK4 "xsave: reserved bytes untouched", area + 536, $-1
	CHECK4 "xsave: xmm1", area + 176, $0x10203040
	CHECK4 "xsave: upper half of ymm1", area + 576 + 16, $0x14243444
	/* only what is asked for */
	movl $0x77, area + 176
	movl $0x78, area + 592
	mov $4, %eax
	xsave area
	CHECK4 "xsave of AVX alone leaves the XMM part", area + 176, $0x77
	CHECK4 "and writes its own", area + 592, $0x14243444
	/* XRSTOR: a component with its bit clear goes to its initial state */
	movl $0, area + 536
	movl $2, area + 512
	mov $6, %eax
	xrstor area
	vextractf128 $1, %ymm1, area2
	CHECK4 "xrstor: AVX initialised", area2, $0
	movd %xmm1, %eax
	CHECK4 "xrstor: SSE loaded", %eax, $0x77
	/* a component not asked for stays */
	vmovups pat, %ymm1
	movl $0, area + 512
	mov $2, %eax
	xrstor area
	vextractf128 $1, %ymm1, area2
	CHECK4 "xrstor: what is not asked for stays", area2, $0x14243444
	movd %xmm1, %eax
	CHECK4 "xrstor: SSE initialised", %eax, $0
	/* XINUSE */
	cmpb $0, feat_xgetbv1
	je 1f
	vmovups pat, %ymm1
	mov $1, %ecx
	xgetbv
	and $4, %eax
	CHECK4 "xgetbv 1: AVX in use", %eax, $4
1:	/* XSAVEC: compact */
	cmpb $0, feat_xsavec
	je 1f
	call clear_area
	vmovups pat, %ymm1
	mov $4, %eax
	xor %edx, %edx
	xsavec area
	CHECK4 "xsavec: XCOMP_BV", area + 520, $4
	CHECK4 "xsavec: XCOMP_BV high", area + 524, $0x80000000
	CHECK4 "xsavec: XSTATE_BV", area + 512, $4
	CHECK4 "xsavec: AVX at its place", area + 592, $0x14243444
	vzeroall
	mov $4, %eax
	xrstor area
	vextractf128 $1, %ymm1, area2
	CHECK4 "xrstor, compact", area2, $0x14243444
1:	cmpb $0, feat_xsaves
	je 1f
	vmovups pat, %ymm1
	call clear_area
	mov $7, %eax
	xor %edx, %edx
	xsaves area
	vzeroall
	mov $7, %eax
	xrstors area
	vextractf128 $1, %ymm1, area2
	CHECK4 "xsaves, xrstors", area2, $0x14243444
	call clear_area
	movl $0, area + 524
	TRY do_xrstors, K
	CHECK4 "xrstors of the standard form", tr_vec, $VGP
1:	vzeroall
9:	/* rows, each with a fresh state */
	andl $~OSXSAVE, CR4_NOW
	mov CR4_NOW, AX
	mov AX, %cr4
	SETIDT 6, stubs+6*16
	jmp run_rows

skip_ud2:
#if LONG
	addq $2, (SP)
#else
	addl $2, (SP)
#endif
	IRET
do_xrstors:
	mov $7, %eax
	xor %edx, %edx
	xrstors area
	int3
through:
	call check_state
	mov count, %eax
	int3
