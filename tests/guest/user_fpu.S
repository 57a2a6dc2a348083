// MODES: host32 32 host64 64
/*
 * x87, MMX, SSE, and AVX where there is: results, status, tags and control words hashed.
 */
#include "user.inc"

	.data
	.balign 32
fvals:	.double 0.0, 1.0, -1.0, 3.141592653589793, 1e300, -1e-300, 0.1, 123456.789, -2.5, 4.9e-324
	.quad 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x0010000000000000, 0x43e0000000000000
fvals_end:
	.balign 32
xa:	.quad 0x0123456789abcdef, 0xfedcba9876543210, 0x8000000080000000, 0x7fff8000ff80007f
xb:	.quad 0x1111222233334444, 0x8080808080808080, 0x00ff00ff00ff00ff, 0x3ff0000000000000
xr:	.skip 64
fop:	.quad 0
fenv:	.skip 128
fst:	.skip 16
cw:	.short 0x37f, 0x77f, 0xb7f, 0xf7f, 0x27f, 0x07f
cw_end:
mxcsr:	.long 0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0
mxcsr_end:
dflt:	.long 0x1f80
	.text

	/* x87: for all pairs of values and control words: st1 = a, st0 = b, then the code; the top two, the status
	 * word and the environment's tags are hashed. */
run_fpu:
	push BX
	push BP
	push SI
	push DI
	movl $0, hash
#if LONG
	movl $0, hash + 4
#endif
	mov $cw, %ebp
0:	mov $fvals, %esi
1:	mov $fvals, %edi
2:	fninit
	fldcw (BP)
	fldl (SI)
	fldl (DI)
	fnclex
	xor %eax, %eax
	call *fop
	push AX
	fnstsw %ax
	movzwl %ax, %eax
	call mix
	pop AX
	call mix
	fnstenv fenv
	mov fenv + 8, %eax
	and $0xffff, %eax
	call mix
	fldenv fenv
	fnclex
	movl $0, fst
	movl $0, fst + 4
	movl $0, fst + 8
	fstpt fst
	mov fst, %eax
	call mix
	mov fst + 4, %eax
	call mix
	movzwl fst + 8, %eax
	call mix
	fstpt fst
	mov fst, %eax
	call mix
	mov fst + 4, %eax
	call mix
	movzwl fst + 8, %eax
	call mix
	add $8, DI
	cmp $fvals_end, %edi
	jb 2b
	add $8, SI
	cmp $fvals_end, %esi
	jb 1b
	add $2, BP
	cmp $cw_end, %ebp
	jb 0b
	fninit
	mov hash, AX
	pop DI
	pop SI
	pop BP
	pop BX
	ret
.macro FPU name:req, code:req
	movl $708f, fop
	call run_fpu
	EMIT "\name"
	jmp 709f
708:	\code
	ret
709:
.endm

	/* SSE: xmm0 = a, xmm1 = b, for the doubles in pairs and two fixed patterns, all roundings. */
run_sse:
	push BX
	push BP
	push SI
	push DI
	movl $0, hash
#if LONG
	movl $0, hash + 4
#endif
	mov $mxcsr, %ebp
0:	mov $fvals, %esi
1:	mov $fvals, %edi
2:	ldmxcsr (BP)
	movsd (SI), %xmm0
	movhpd (DI), %xmm0
	movsd (DI), %xmm1
	movhpd xa, %xmm1
	movdqa xb, %xmm2
	pxor %xmm3, %xmm3
	xor %eax, %eax
	xor %ecx, %ecx
	call *fop
	push CX
	call mix
	pop AX
	call mix
	.set i, 0
	.rept 4
	movdqu %xmm0, xr
	mov xr + i, %eax
	call mix
	movdqu %xmm3, xr
	mov xr + i, %eax
	call mix
	.set i, i + 4
	.endr
	stmxcsr xr
	mov xr, %eax
	call mix
	add $8, DI
	cmp $fvals_end, %edi
	jb 2b
	add $8, SI
	cmp $fvals_end, %esi
	jb 1b
	add $4, BP
	cmp $mxcsr_end, %ebp
	jb 0b
	ldmxcsr dflt
	mov hash, AX
	pop DI
	pop SI
	pop BP
	pop BX
	ret
.macro SSE name:req, code:req, need=u_always
	cmpb $0, \need
	je 709f
	movl $708f, fop
	call run_sse
	EMIT "\name"
	jmp 709f
708:	\code
	ret
709:
.endm
.macro SSE2 ops:vararg
	.irp o, \ops
	SSE "\o", "\o %xmm1, %xmm0"
	SSE "\o mem", "\o xa, %xmm0"
	.endr
.endm

.macro PUSHFN
	PUSHF
.endm
user_body:
	FPU "fadd", "fadd %st(1), %st"
	FPU "faddp", "faddp"
	FPU "fsub", "fsub %st(1), %st"
	FPU "fsubr", "fsubr %st, %st(1)"
	FPU "fmul", "fmul %st(1), %st"
	FPU "fdiv", "fdiv %st(1), %st"
	FPU "fdivr", "fdivrp"
	FPU "fadd m64", "faddl fvals + 24"
	FPU "fmul m32", "fmuls xb"
	FPU "fiadd m16", "fiadds xa"
	FPU "fidiv m32", "fidivl xa"
	FPU "fsqrt", "fsqrt"
	FPU "fabs fchs", "fabs; fchs"
	FPU "frndint", "frndint"
	FPU "fscale", "fscale"
	FPU "fxtract", "fxtract"
	FPU "fprem", "fprem"
	FPU "fprem1", "fprem1"
	FPU "fxam", "fxam; fnstsw %ax"
	FPU "ftst", "ftst; fnstsw %ax"
	FPU "fcom", "fcom %st(1); fnstsw %ax"
	FPU "fucompp", "fucompp; fnstsw %ax"
	FPU "fcomi", "xor %eax, %eax; fcomi %st(1), %st; PUSHFN; pop rAX; and $0x45, %eax"
	FPU "fucomip", "fucomip %st(1), %st; setc %al; setz %ah"
	FPU "fcmov", "fcomi %st(1), %st; fcmovb %st(1), %st; fcmovnu %st(1), %st"
	FPU "fist m16", "fists xr; mov xr, %ax"
	FPU "fistp m32", "fistpl xr; mov xr, %eax"
	FPU "fistp m64", "fistpll xr; mov xr, %eax; xor xr + 4, %eax"
	FPU "fisttp", "fisttpl xr; mov xr, %eax"
	FPU "fild m64", "fildll xa"
	FPU "fbstp", "movl $0, xr; movl $0, xr + 4; fbstp xr; mov xr, %eax; xor xr + 4, %eax"
	FPU "fbld", "movl $0x12345678, xr; movl $0x00345678, xr + 4; movw $0x8000, xr + 8; fbld xr"
	FPU "fst m32", "fsts xr; mov xr, %eax"
	FPU "fst m64", "fstl xr; mov xr, %eax; xor xr + 4, %eax"
	FPU "f2xm1", "f2xm1"
	FPU "fyl2x", "fyl2x"
	FPU "fyl2xp1", "fyl2xp1"
	FPU "fpatan", "fpatan"
	FPU "fptan", "fptan"
	FPU "fsin", "fsin"
	FPU "fcos", "fcos"
	FPU "fsincos", "fsincos"
	FPU "constants", "fldpi; fldl2e; fldl2t; fldlg2; fldln2; faddp; faddp; faddp; faddp"
	FPU "stack overflow", "fld1; fld1; fld1; fld1; fld1; fld1; fld1; fnstsw %ax"
	FPU "stack underflow", "fstp %st; fstp %st; fadd %st(1), %st; fnstsw %ax"
	FPU "fxch ffree fincstp", "fxch; ffree %st(1); fincstp; fnstsw %ax; fdecstp"
	FPU "fsave frstor", "fnsave fenv; mov fenv, %eax; frstor fenv"
	FPU "mmx aliasing", "movq xa, %mm3; fnstsw %ax; movq %mm3, xr; mov xr, %eax; emms"
	FPU "mmx arithmetic", "movq xa, %mm0; movq xb, %mm1; paddb %mm1, %mm0; pmullw %mm0, %mm1; punpcklbw %mm1, %mm0; pmaddwd xa, %mm0; packuswb %mm1, %mm0; psrlq $3, %mm0; movd %mm0, %eax; emms"

	SSE2 addps, addpd, addss, addsd, mulps, mulpd, mulsd, subps, subsd, divps, divpd, divsd, divss, minps, maxpd, minsd, maxss
	SSE2 sqrtps, sqrtpd, sqrtsd, andps, andnpd, orps, xorpd, unpcklps, unpckhpd
	SSE2 paddb, paddw, paddd, paddq, psubb, psubsw, psubusb, paddusw, pmullw, pmulhw, pmulhuw, pmuludq, pmaddwd, psadbw, pavgb
	SSE2 pand, pandn, por, pxor, pcmpeqb, pcmpeqd, pcmpgtw, pcmpgtd, pminub, pmaxsw, packsswb, packssdw, packuswb
	SSE2 punpcklbw, punpckhwd, punpckldq, punpckhqdq, psllw, pslld, psllq, psrlw, psrld, psrlq, psraw, psrad
	SSE2 cvtps2pd, cvtpd2ps, cvtdq2ps, cvtps2dq, cvttps2dq, cvtdq2pd, cvtpd2dq, cvttpd2dq, cvtsd2ss, cvtss2sd
	SSE "rcpps", "rcpps xb, %xmm0"
	SSE "rsqrtps", "rsqrtps xb, %xmm0"
	SSE "cmpps", "cmpltps %xmm1, %xmm0; cmpnlepd %xmm1, %xmm3; cmpunordsd %xmm1, %xmm0"
	SSE "comisd", "comisd %xmm1, %xmm0; seta %al; setp %ah; ucomiss %xmm1, %xmm0; setb %cl"
	SSE "shuffles", "shufps $0x1b, %xmm1, %xmm0; shufpd $1, %xmm1, %xmm3; pshufd $0x4e, %xmm0, %xmm3; pshuflw $0x1b, %xmm3, %xmm0; pshufhw $0x93, xa, %xmm3"
	SSE "movmsk", "movmskps %xmm0, %eax; movmskpd %xmm1, %ecx; pmovmskb %xmm2, %ecx"
	SSE "pinsrw pextrw", "pextrw $3, %xmm0, %eax; pinsrw $6, %eax, %xmm3; pinsrw $0, xa, %xmm3"
	SSE "cvtsd2si", "cvtsd2si %xmm0, %eax; cvttss2si %xmm1, %ecx"
	SSE "cvtsi2sd", "mov $-12345, %eax; cvtsi2sd %eax, %xmm0; cvtsi2ssl xa, %xmm3"
	SSE "movd", "movd %xmm0, %eax; movd %eax, %xmm3"
	SSE "mov forms", "movlps %xmm0, xr; movhpd xr, %xmm3; movhlps %xmm0, %xmm3; movss %xmm1, %xmm0; movsd %xmm3, %xmm0; movq %xmm0, %xmm3"
	SSE "unaligned and non-temporal", "movups %xmm0, xr + 1; movdqu xr + 3, %xmm3; movntdq %xmm3, xr; movntps %xmm3, xr + 16; sfence; movaps xr, %xmm0"
	SSE "maskmovdqu", "push rDI; mov $xr, %edi; movdqa %xmm3, xr; maskmovdqu %xmm2, %xmm0; movdqa xr, %xmm3; pop rDI"
	SSE "shifts by bytes", "pslldq $5, %xmm0; psrldq $3, %xmm0; psllw $3, %xmm0; psrad $7, %xmm0"
	SSE "sse3", "haddps %xmm1, %xmm0; hsubpd %xmm0, %xmm1; addsubps %xmm1, %xmm0; movddup xa, %xmm3; lddqu xa + 1, %xmm3", u_popcnt
	SSE "ssse3", "pshufb %xmm1, %xmm0; pabsd %xmm0, %xmm3; phaddw %xmm1, %xmm0; palignr $5, %xmm1, %xmm0; pmulhrsw xa, %xmm0; psignb %xmm1, %xmm0", u_popcnt
	SSE "sse4.1", "pmulld %xmm1, %xmm0; pminsd xa, %xmm0; pblendw $0x5a, %xmm1, %xmm0; roundpd $1, %xmm1, %xmm3; ptest %xmm1, %xmm0; setc %al; setz %ah; pextrd $2, %xmm0, %ecx; insertps $0x1c, %xmm1, %xmm3; dpps $0xff, %xmm1, %xmm3; pmovsxbw %xmm1, %xmm0; mpsadbw $3, xa, %xmm0", u_sse42
	SSE "sse4.2", "mov $9, %eax; mov $7, %edx; pcmpestri $0x0c, %xmm1, %xmm0; setc %al; pcmpgtq %xmm1, %xmm0; pcmpistrm $0x44, xa, %xmm3; movdqa %xmm0, %xmm3", u_sse42
	SSE "avx", "vaddps %ymm1, %ymm0, %ymm3; vmovups xa, %ymm2; vxorps %ymm2, %ymm3, %ymm3; vextractf128 $1, %ymm3, %xmm0; vblendvps %xmm1, xa, %xmm0, %xmm0; vbroadcastss xb, %ymm1; vaddpd %ymm1, %ymm3, %ymm3; vzeroupper; vmovd %xmm3, %eax", u_avx
	SSE "avx2", "vpaddd xa, %ymm1, %ymm3; vpermq $0x1b, %ymm3, %ymm3; vpmuludq %ymm3, %ymm2, %ymm0; vpsllvd %ymm2, %ymm3, %ymm3; vextracti128 $1, %ymm3, %xmm0; vpbroadcastb %xmm0, %ymm1; vpshufb %ymm1, %ymm3, %ymm3; vzeroall; vmovdqa xa, %xmm3", u_avx2
	SSE "vgather", "vpcmpeqd %ymm2, %ymm2, %ymm2; vpxor %ymm1, %ymm1, %ymm1; mov $xa, %ecx; vpgatherdd %ymm2, (rCX,%ymm1,4), %ymm3; xor %ecx, %ecx; vmaskmovps xa, %xmm0, %xmm0", u_avx2
	ret
