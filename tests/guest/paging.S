// MODES: 32 pae 64
/*
 * Paging: 2-level with PSE, PAE, 4-level. Rights, error codes, CR2, accessed and dirty bits, reserved
 * bits, NX, WP, SMEP, SMAP, page sizes, page-crossing accesses, and what INVLPG, CR3 and CR4 flush.
 * SDM 3, chapter 4. The page under test is at BASE, the next behind it, a large one at BIG.
 */
#include "guest.inc"
#ifndef PAE
#define PAE 0
#endif
#if LONG || PAE
	.set PTE, 8
#else
	.set PTE, 4
#endif
	.set BASE, 0x40000000
	.set BIG, 0x40400000
	.set HUGE, 0x80000000
	.set WP, 0x10000

	.bss
	.balign 4096
page0:	.skip 4096
page1:	.skip 4096
page2:	.skip 4096
ptab:	.skip 4096
pdir:	.skip 4096
pml4b:	.skip 4096
pdptb:	.skip 4096
pdptp:	.skip 4096
	.text
#if LONG || PAE
	.set PDE_BASE, pdir
	.set PDE_BIG, pdir + 2 * 8
#else
	.set PDE_BASE, boot_pd + 0x400
	.set PDE_BIG, boot_pd + 0x404
#endif

/*
 * A row with page table entries. pte, pde: flags of the page at BASE (hi: their high words), pte1: of
 * the next page, big: flags of the large page at BIG, maps 0. cr2: expected after #PF. bits that must be
 * set at the end in the PTE: set; that must not: clear. wp: CR0.WP. super: the rest of memory is made
 * supervisor (for SMEP, SMAP).
 */
.macro P name:req, mode:req, vec:req, err:req, body:req, pte=7, ptehi=0, pte1=7, pde=7, pdehi=0, big=0x87, bighi=0, cr2=BASE, set=0, clear=0, wp=0, super=0, fl=2, cr4=0, need=0, val, bits=0
	.text
	NATIVE
.Lpre\@:
	movl $page0 + \pte, ptab
	movl $page1 + \pte1, ptab + PTE
	movl $ptab + \pde, PDE_BASE
	movl $\big, PDE_BIG
#if LONG || PAE
	movl $\ptehi, ptab + 4
	movl $\pdehi, PDE_BASE + 4
	movl $\bighi, PDE_BIG + 4
#endif
	mov $\wp, %eax
	mov $\super, %edx
	jmp row_begins
.Lpost\@:
	mov $\cr2, %eax
	mov $\set, %ecx
	mov $\clear, %edx
	jmp row_ends
	R "\name", \mode, \vec, \err, "\body", \fl, \cr4, .Lpre\@, .Lpost\@, \need, \val, -1, \bits
.endm

row_begins:
	test %eax, %eax
	jz 1f
	mov %cr0, AX
	or $WP, %eax
	mov AX, %cr0
1:	test %edx, %edx
	jz 1f
	andb $~4, boot_pd
1:	mov %cr3, AX
	mov AX, %cr3
	movb $0xc3, page0
	movl $0, page0 + 0xffc
	movl $0, page1
	ret
row_ends:
	orb $4, boot_pd
	push AX
	mov %cr3, AX
	mov AX, %cr3
	pop AX
	cmpl $VPF, tr_vec
	jne 1f
	cmp %eax, tr_cr2
	jne 9f
#if LONG
	cmpl $0, tr_cr2 + 4
	jne 9f
#endif
1:	mov ptab, %eax
	and %ecx, %eax
	cmp %ecx, %eax
	jne 9f
	test %edx, ptab
	jnz 9f
	xor %eax, %eax
	ret
9:	mov $1, %eax
	ret

	/* I/D of fetches: when NX or SMEP is on. */
	.set INSN, 0x10*(LONG|PAE)
	/* ---- present, rights */
	P "read, not present", K, VPF, 0, "mov BASE, %ecx", pte=0, clear=0x60
	P "write, not present", K, VPF, 2, "mov %ecx, BASE", pte=0
	P "fetch, not present", K, VPF, INSN, "mov $BASE, %eax; call *rAX", pte=0, bits=10
	P "read, not present", U, VPF, 4, "mov BASE, %ecx", pte=0
	P "write, not present", U, VPF, 6, "mov %ecx, BASE", pte=0
	P "fetch, not present", U, VPF, 4+INSN, "mov $BASE, %eax; call *rAX", pte=0, bits=10
	P "not present, other bits set", U, VPF, 4, "mov BASE, %ecx", pte=0xffe
	P "read, directory entry not present", U, VPF, 4, "mov BASE, %ecx", pde=0
	P "write, directory entry not present", K, VPF, 2, "mov %ecx, BASE+8", pde=0, cr2=BASE+8
	P "read", U, OK, 0, "movzbl BASE, %eax", val=0xc3, set=0x20, clear=0x40
	P "write", U, OK, 0, "movl $0xc3, BASE", set=0x60
	P "read-modify-write", U, OK, 0, "addl $1, BASE+4", set=0x60
	P "cmpxchg unequal writes too", U, OK, 0, "lock cmpxchg %ecx, BASE+4", set=0x60
	P "fetch", U, OK, 0, "mov $BASE, %eax; call *rAX", set=0x20, clear=0x40
	P "read", K, OK, 0, "movzbl BASE, %eax", pte=3, val=0xc3, set=0x20, clear=0x40
	P "write", K, OK, 0, "movl $0xc3, BASE", pte=3, set=0x60
	P "read, supervisor page", U, VPF, 5, "mov BASE, %ecx", pte=3
	P "write, supervisor page", U, VPF, 7, "mov %ecx, BASE", pte=3
	P "fetch, supervisor page", U, VPF, 5+INSN, "mov $BASE, %eax; call *rAX", pte=3, bits=10
	P "read, supervisor directory", U, VPF, 5, "mov BASE, %ecx", pde=3
	P "write, read-only page", U, VPF, 7, "mov %ecx, BASE", pte=5, clear=0x40
	P "write, read-only directory", U, VPF, 7, "mov %ecx, BASE", pde=5, clear=0x40
	P "add, read-only page", U, VPF, 7, "add %ecx, BASE", pte=5, clear=0x40
	P "xchg, read-only page", U, VPF, 7, "xchg %ecx, BASE", pte=5, clear=0x40
	P "cmpxchg, read-only page", U, VPF, 7, "cmpxchg %ecx, BASE", pte=5, clear=0x40
	P "shl by 0, read-only page", U, VPF, 7, "shll %cl, BASE", pte=5, clear=0x40
	P "bts set bit, read-only page", U, VPF, 7, "btsl $0, BASE", pte=5
	P "read, read-only page", U, OK, 0, "mov BASE, %ecx", pte=5, set=0x20, clear=0x40
	P "cmp, read-only page", U, OK, 0, "cmpl $0, BASE", pte=5
	P "write, read-only user page", K, OK, 0, "movl $0xc3, BASE", pte=5, set=0x60
	P "write, read-only page", K, OK, 0, "movl $0xc3, BASE", pte=1, set=0x60
	P "write, read-only page, WP", K, VPF, 3, "movl $0xc3, BASE", pte=1, wp=1, clear=0x40
	P "write, read-only user page, WP", K, VPF, 3, "movl $0xc3, BASE", pte=5, wp=1, clear=0x40
	P "write, read-only directory, WP", K, VPF, 3, "movl $0xc3, BASE", pde=5, wp=1, clear=0x40
	P "write, WP", K, OK, 0, "movl $0xc3, BASE", pte=3, wp=1, set=0x60
	P "supervisor page by ring 1", RING1, OK, 0, "mov BASE, %ecx", pte=3
	P "supervisor page by ring 2", RING2, OK, 0, "mov BASE, %ecx", pte=3
	P "read-only page by ring 2, WP", RING2, VPF, 3, "mov %ecx, BASE", pte=1, wp=1
	P "push, read-only page", U, VPF, 7, "mov $BASE + 64, %eax; mov rAX, rSP; 9: push rAX", pte=5, cr2=BASE+64-W

	/* ---- large pages */
	P "large page read", U, OK, 0, "mov BIG + magic, %eax", val=0x12345678
	P "large page read", K, OK, 0, "mov BIG + magic, %eax", big=0x83, val=0x12345678
	P "large page, supervisor", U, VPF, 5, "mov BIG + magic, %eax", big=0x83, cr2=BIG+magic
	P "large page, read-only", U, VPF, 7, "mov %eax, BIG + magic", big=0x85, cr2=BIG+magic
	P "large page, not present", U, VPF, 4, "mov BIG + magic, %eax", big=0x86, cr2=BIG+magic
	P "large page, reserved address bit", K, VPF, 9, "mov BIG + magic, %eax", big=0x200083-0x1fe000*(LONG|PAE), cr2=BIG+magic
	P "large page, reserved address bit", U, VPF, 0xd, "mov BIG + magic, %eax", big=0x200087-0x1fe000*(LONG|PAE), cr2=BIG+magic
	P "large page, PAT bit", U, OK, 0, "mov BIG + magic, %eax", big=0x1087, val=0x12345678, need=feat_pat

#if LONG || PAE
	/* ---- reserved bits, NX */
	P "reserved: address bit 51", K, VPF, 9, "mov BASE, %ecx", ptehi=0x80000
	P "reserved: address bit 51", U, VPF, 0xd, "mov BASE, %ecx", ptehi=0x80000
	P "reserved: write", U, VPF, 0xf, "mov %ecx, BASE", ptehi=0x80000
	P "reserved: directory", K, VPF, 9, "mov BASE, %ecx", pdehi=0x80000
	P "reserved beats rights", U, VPF, 0xd, "mov BASE, %ecx", pte=3, ptehi=0x80000
	P "reserved, not present", U, VPF, 4, "mov BASE, %ecx", pte=6, ptehi=0x80000
	P "NX fetch", U, VPF, 0x15, "mov $BASE, %eax; call *rAX", ptehi=0x80000000, bits=10, need=feat_nx
	P "NX fetch", K, VPF, 0x11, "mov $BASE, %eax; call *rAX", ptehi=0x80000000, bits=10, need=feat_nx
	P "NX fetch, directory", U, VPF, 0x15, "mov $BASE, %eax; call *rAX", pdehi=0x80000000, bits=10, need=feat_nx
	P "NX read", U, OK, 0, "movzbl BASE, %eax", ptehi=0x80000000, val=0xc3, need=feat_nx
	P "NX write", U, OK, 0, "movb %al, BASE + 8", ptehi=0x80000000, need=feat_nx
	P "NX large page", U, VPF, 0x15, "mov $BIG, %eax; call *rAX", bighi=0x80000000, cr2=BIG, bits=10, need=feat_nx
#if LONG
	P "ignored bits 52 to 58", U, OK, 0, "movzbl BASE, %eax", ptehi=0x07f00000, val=0xc3
	P "ignored bits of the directory", U, OK, 0, "movzbl BASE, %eax", pdehi=0x7ff00000, pde=0xf07, val=0xc3
#else
	P "reserved bit 62", U, VPF, 0xd, "movzbl BASE, %eax", ptehi=0x40000000
	P "reserved bit 52", U, VPF, 0xd, "movzbl BASE, %eax", ptehi=0x00100000
#endif
#endif
	/* ---- SMEP, SMAP */
	.set SMEP, 1 << 20
	.set SMAP, 1 << 21
	P "SMEP: fetch from a user page", K, VPF, 0x11, "mov $BASE, %eax; call *rAX", cr4=SMEP, super=1, bits=10, need=feat_smep
	P "SMEP: fetch from a supervisor page", K, OK, 0, "mov $BASE, %eax; call *rAX", pte=3, cr4=SMEP, super=1, need=feat_smep
	P "SMEP: user directory, supervisor page", K, OK, 0, "mov $BASE, %eax; call *rAX", pte=3, pde=7, cr4=SMEP, super=1, need=feat_smep
	P "SMEP: read from a user page", K, OK, 0, "mov BASE, %ecx", cr4=SMEP, super=1, need=feat_smep
	P "SMEP: not present", K, VPF, 0x10, "mov $BASE, %eax; call *rAX", pte=0, cr4=SMEP, super=1, bits=10, need=feat_smep
	P "SMAP: read", K, VPF, 1, "mov BASE, %ecx", cr4=SMAP, super=1, need=feat_smap
	P "SMAP: write", K, VPF, 3, "mov %ecx, BASE", cr4=SMAP, super=1, need=feat_smap
	P "SMAP: read, AC", K, OK, 0, "mov BASE, %ecx", fl=AC_, cr4=SMAP, super=1, need=feat_smap
	P "SMAP: stac", K, OK, 0, "stac; mov BASE, %ecx; clac", cr4=SMAP, super=1, need=feat_smap
	P "SMAP: clac", K, VPF, 1, "stac; mov BASE, %ecx; clac; 9: mov BASE, %ecx", cr4=SMAP, super=1, need=feat_smap
	P "SMAP: fetch is SMEP's affair", K, OK, 0, "mov $BASE, %eax; call *rAX", cr4=SMAP, super=1, need=feat_smap
	P "SMAP: supervisor page", K, OK, 0, "mov BASE, %ecx", pte=3, cr4=SMAP, super=1, need=feat_smap
	P "SMAP: user page by ring 3", U, OK, 0, "mov BASE, %ecx", cr4=0, need=feat_smap
	P "stac", U, VUD, 0, "stac", need=feat_smap
	P "clac", U, VUD, 0, "clac", need=feat_smap
	P "stac", K, OK, 0, "stac; pushf; clac", need=feat_smap
	P "SMAP: write, read-only, AC, WP", K, VPF, 3, "mov %ecx, BASE", pte=5, wp=1, fl=AC_, cr4=SMAP, super=1, need=feat_smap

	/* ---- accesses across two pages */
	.set X, BASE + 0xffe
	P "cross: read, second missing", U, VPF, 4, "mov X, %eax", pte1=0, cr2=BASE+0x1000
	P "cross: read, first missing", U, VPF, 4, "mov X, %eax", pte=0, cr2=X
	P "cross: read, both missing", U, VPF, 4, "mov X, %eax", pte=0, pte1=0, cr2=X
	P "cross: write, second missing", U, VPF, 6, "mov %ebx, X", pte1=0, cr2=BASE+0x1000
	P "cross: write, first missing", U, VPF, 6, "mov %ebx, X", pte=0, cr2=X
	P "cross: write, second read-only", U, VPF, 7, "mov %ebx, X", pte1=5, cr2=BASE+0x1000
	P "cross: write, second supervisor", U, VPF, 7, "mov %ebx, X", pte1=3, cr2=BASE+0x1000
	P "cross: add, second read-only", U, VPF, 7, "add %ebx, X", pte1=5, cr2=BASE+0x1000
	P "cross: xchg, second read-only", U, VPF, 7, "xchg %ebx, X", pte1=5, cr2=BASE+0x1000
	P "cross: write nothing of it", K, OK, 0, "mov page0 + 0xffc, %eax", val=0
	P "cross: write", U, OK, 0, "movl $0x44332211, X; mov X, %eax", set=0x60, val=0x44332211
	P "cross: read word", U, VPF, 4, "mov X + 1, %ax", pte1=0, cr2=BASE+0x1000
	P "cross: last byte alone", U, OK, 0, "movzbl BASE + 0xfff, %eax", pte1=0, val=0
	P "cross: movdqu", U, VPF, 4, "movdqu X - 8, %xmm0", pte1=0, cr2=BASE+0x1000
	P "cross: movdqu store", U, VPF, 6, "movdqu %xmm0, X - 8", pte1=0, cr2=BASE+0x1000
	P "cross: fldt", U, VPF, 4, "fldt X - 4", pte1=0, cr2=BASE+0x1000
	P "cross: fstpt", U, VPF, 6, "fld1; 9: fstpt X - 4", pte1=0, cr2=BASE+0x1000
	P "cross: push", U, VPF, 6, "mov $X + W, %eax; mov rAX, rSP; 9: push rAX", pte1=0, cr2=BASE+0x1000
	P "cross: pop", U, VPF, 4, "mov $X, %eax; mov rAX, rSP; 9: pop rAX", pte1=0, cr2=BASE+0x1000
	P "cross: call", U, VPF, 6, "mov $X + W, %eax; mov rAX, rSP; 9: call 1f; 1:", pte=0, cr2=X
	P "cross: movsl source", U, VPF, 4, "mov $X, %esi; 9: movsl", pte1=0, cr2=BASE+0x1000
	P "cross: movsl destination", U, VPF, 6, "mov $X, %edi; 9: movsl", pte1=0, cr2=BASE+0x1000
	P "cross: stosl", U, VPF, 6, "mov $X, %edi; 9: stosl", pte1=0, cr2=BASE+0x1000
	P "cross: rep movsb stops at the page", U, VPF, 4, "mov $BASE + 0xff0, %esi; mov $100, %ecx; 9: rep movsb", pte1=0, cr2=BASE+0x1000
	P "cross: rep stosl stops at the page", U, VPF, 6, "mov $BASE + 0xff0, %edi; mov $100, %ecx; 9: rep stosl", pte1=0, cr2=BASE+0x1000
	P "cross: rep movsb backwards", U, VPF, 4, "std; mov $BASE + 0x1004, %esi; mov $100, %ecx; 9: rep movsb", pte=0, cr2=BASE+0xfff
	P "cross: cmpxchg8b", U, VPF, 7, "cmpxchg8b X - 4", pte1=5, cr2=BASE+0x1000
	P "cross: lfs", U, VPF, 4, "lfs X - 2, %ecx", pte1=0, cr2=BASE+0x1000
	P "cross: lgdt", K, VPF, 0, "lgdt X - 1", pte1=0, cr2=BASE+0x1000
	P "cross: fxrstor", U, VPF, 4, "fxrstor BASE + 0xf80", pte1=0, cr2=BASE+0x1000
	P "cross: fxsave", U, VPF, 6, "fxsave BASE + 0xf80", pte1=0, cr2=BASE+0x1000
	P "cross: jmp indirect", U, VPF, 4, "jmp *X", pte1=0, cr2=BASE+0x1000
#if LONG
	P "cross: 64-bit read", U, VPF, 4, "mov X - 4, %rax", pte1=0, cr2=BASE+0x1000
	P "cross: cmpxchg16b aligned, read-only", U, VPF, 7, "cmpxchg16b BASE + 0xff0", pte=5, cr2=BASE+0xff0
	P "address size 32", U, OK, 0, "mov $X, %eax; add $1, %rax; movb $7, (%eax); movzbl (%eax), %eax", val=7
	P "PKRU: access disabled, read", U, VPF, 0x25, "mov $4, %eax; wrpkru; 9: mov BASE, %ecx", ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "PKRU: access disabled, ring 0", K, VPF, 0x21, "mov $4, %eax; wrpkru; 9: mov BASE, %ecx", ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "PKRU: write disabled, write", U, VPF, 0x27, "mov $8, %eax; wrpkru; 9: mov %ecx, BASE", ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "PKRU: write disabled, read", U, OK, 0, "mov $8, %eax; wrpkru; mov BASE, %ecx", ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "PKRU: write disabled, ring 0 without WP", K, OK, 0, "mov $8, %eax; wrpkru; movl $0xc3, BASE", ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "PKRU: supervisor page", K, OK, 0, "mov $4, %eax; wrpkru; movl $0xc3, BASE", pte=3, ptehi=0x08000000, cr4=1<<22, need=feat_pku
	P "wrpkru without CR4.PKE", U, VUD, 0, "wrpkru", need=feat_pku
#endif

	.data
	.balign 16
magic:	.long 0x12345678
	.text
.macro SETPTE where, value, hi=0
	movl $\value, \where
#if LONG || PAE
	movl $\hi, \where + 4
#endif
.endm

test_main:
#if PAE
	/* PAE: four directories; the first GiB is as in boot.inc, by 2 MiB pages */
	mov $boot_pd, %edi
	mov $0x87, %eax
	mov $512, %ecx
1:	mov %eax, (%edi)
	movl $0, 4(%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	movl $boot_pd + 1, pdptp
	movl $pdir + 1, pdptp + 8
	mov $pdptp, %eax
	mov %eax, %cr3
	mov %eax, tss_df + 0x1c
	orl $0x20, CR4_NOW
	mov CR4_NOW, %eax
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	rdmsr
	or $0x800, %eax
	wrmsr
	orl $0x80000000, CR0_NOW
	mov CR0_NOW, %eax
	mov %eax, %cr0
#else
	call paging_on
#endif
#if LONG
	movl $pdir + 7, boot_pdpt + 8
#endif
#if PAE
	/* QEMU's TCG sets a bit that is reserved in PDPTEs, for which KVM on it then refuses each MOV to CR4 that loads
	 * them, as the manual wants */
	cmpb $0, feat_not_tcg
	jne 1f
	movb $0, feat_smep
	movb $0, feat_pge
1:
#endif
	call run_rows

	/* -- accessed bits of the upper levels */
#if PAE
	mov pdptp, %ecx
	and $0x20, %ecx
	CHECK4 "PDPTEs have no accessed bit", %ecx, $0
#endif
	SETPTE PDE_BASE, ptab+7
	SETPTE ptab, page0+7
	SETPTE PDE_BIG, 0x87
	mov %cr3, AX
	mov AX, %cr3
	mov BASE, %ecx
	mov PDE_BASE, %ecx
	and $0x60, %ecx
	CHECK4 "accessed bit in the directory", %ecx, $0x20
	mov BIG, %ecx
	mov PDE_BIG, %ecx
	and $0x60, %ecx
	CHECK4 "accessed bit of a large page", %ecx, $0x20
	mov BIG, %ecx
	mov %ecx, BIG
	mov PDE_BIG, %ecx
	and $0x60, %ecx
	CHECK4 "dirty bit of a large page", %ecx, $0x60
	/* read first, then write: dirty is set though the translation is cached */
	SETPTE ptab, page0+7
	invlpg BASE
	mov BASE, %ecx
	mov ptab, %ecx
	and $0x60, %ecx
	CHECK4 "read leaves dirty clear", %ecx, $0x20
	movb $0xc3, BASE
	mov ptab, %ecx
	and $0x60, %ecx
	CHECK4 "write after read sets dirty", %ecx, $0x60
	SETPTE ptab, page0+7
	invlpg BASE
	movb $0xc3, BASE
	mov ptab, %ecx
	and $0x60, %ecx
	CHECK4 "dirty cleared, flushed, set again", %ecx, $0x60

	/* -- what flushes */
	movl $0x1111, page0 + 16
	movl $0x2222, page1 + 16
	SETPTE ptab, page0+7
	invlpg BASE
	CHECK4 "first page", BASE + 16, $0x1111
	SETPTE ptab, page1+7
	invlpg BASE + 0x123
	CHECK4 "INVLPG, any byte of the page", BASE + 16, $0x2222
	SETPTE ptab, page0+7
	mov %cr3, AX
	mov AX, %cr3
	CHECK4 "CR3 flushes", BASE + 16, $0x1111
	/* not present to present needs no flush */
	SETPTE ptab, 0
	invlpg BASE
	TRY read_base, K
	CHECK4 "not present", tr_vec, $VPF
	SETPTE ptab, page1+7
	CHECK4 "present now, without a flush", BASE + 16, $0x2222
	/* the directory's entry changes */
	SETPTE ptab, page0+7
	SETPTE PDE_BASE, 0x87 + 0x400000
	mov %cr3, AX
	mov AX, %cr3
	mov BASE + 16, %ecx
	SETPTE PDE_BASE, ptab+7
	invlpg BASE
	CHECK4 "large page split, INVLPG", BASE + 16, $0x1111
	/* global pages */
	cmpb $0, feat_pge
	je 1f
	SETPTE ptab, page0+0x107
	mov %cr4, AX
	or $0x80, %eax
	mov AX, %cr4
	mov BASE + 16, %ecx
	SETPTE ptab, page1+0x107
	invlpg BASE
	CHECK4 "INVLPG flushes a global page", BASE + 16, $0x2222
	SETPTE ptab, page0+0x107
	mov %cr4, AX
	and $~0x80, %eax
	mov AX, %cr4
	CHECK4 "CR4.PGE off flushes global pages", BASE + 16, $0x1111
	SETPTE ptab, page1+0x107
	mov %cr4, AX
	or $0x80, %eax
	mov AX, %cr4
	CHECK4 "CR4.PGE on flushes", BASE + 16, $0x2222
	mov %cr4, AX
	and $~0x80, %eax
	mov AX, %cr4
1:
	/* WP takes effect at once */
	SETPTE ptab, page0+5
	invlpg BASE
	movb $0xc3, BASE
	orl $WP, CR0_NOW
	mov CR0_NOW, AX
	mov AX, %cr0
	TRY write_base, K
	CHECK4 "CR0.WP set after a write", tr_vec, $VPF
	andl $~WP, CR0_NOW
	mov CR0_NOW, AX
	mov AX, %cr0
	TRY write_base, K
	CHECK4 "CR0.WP cleared again", tr_vec, $VBP
	/* a user access after a supervisor one of the same page */
	SETPTE ptab, page0+3
	invlpg BASE
	mov BASE, %ecx
	TRY read_base, U
	CHECK4 "supervisor page cached, then user read", tr_err, $5
	TRY read_base, K
	CHECK4 "and ring 0 again", tr_vec, $VBP

	/* user code reaches descriptor tables in supervisor pages */
	movl $0x000023b8, page0 + 0x20 /* mov $0x23, %eax; mov %eax, %fs; int3 */
	movl $0xcce08e00, page0 + 0x24
	SETPTE ptab, page0+7
	andb $~4, boot_pd
	mov %cr3, AX
	mov AX, %cr3
	TRY BASE+0x20, U
	CHECK4 "segment load with a supervisor GDT", tr_vec, $VBP
	CHECK2 "and its selector", tr_fs, $0x23
	TRY read_magic, U
	CHECK4 "user fetch of supervisor code", tr_err, $5+INSN
	orb $4, boot_pd
	mov %cr3, AX
	mov AX, %cr3

#if LONG
	/* -- 1 GiB pages */
	cmpb $0, feat_1g
	je 1f
	movl $0x87, boot_pdpt + 16
	mov $HUGE, %ebx
	CHECK4 "1 GiB page", magic(%rbx), $0x12345678
	mov boot_pdpt + 16, %ecx
	and $0x60, %ecx
	CHECK4 "1 GiB page: accessed", %ecx, $0x20
	movl $0x2087, boot_pdpt + 16
	mov %cr3, %rax
	mov %rax, %cr3
	TRY read_huge, K
	CHECK4 "1 GiB page: reserved address bit", tr_err, $9
	movl $0x85, boot_pdpt + 16
	mov %cr3, %rax
	mov %rax, %cr3
	TRY write_huge, U
	CHECK4 "1 GiB page: read-only", tr_err, $7
	movl $0, boot_pdpt + 16
	mov %cr3, %rax
	mov %rax, %cr3
1:	/* -- upper levels */
	movl $pdir + 5, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3
	SETPTE ptab, page0+7
	TRY write_base, U
	CHECK4 "read-only at the PDPT", tr_err, $7
	movl $pdir + 3, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3
	TRY read_base, U
	CHECK4 "supervisor at the PDPT", tr_err, $5
	movl $0, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3
	TRY read_base, U
	CHECK4 "not present at the PDPT", tr_err, $4
	movl $pdir + 7, boot_pdpt + 8
	mov %cr3, %rax
	mov %rax, %cr3
	/* the second half of the address space: PML4 entry 511 by a copy */
	mov boot_pml4, %rax
	mov %rax, boot_pml4 + 511 * 8
	mov $magic, %eax
	bts $63, %rax
	sar $16, %rax /* 0xffff8000... */
	mov $0xffffff8000000000, %rcx
	add $magic, %rcx
	mov (%rcx), %edx
	CHECK4 "top of the address space", %edx, $0x12345678
	movl $boot_pdpt + 0x87, boot_pml4 + 511 * 8
	mov %cr3, %rax
	mov %rax, %cr3
	TRY read_top, K
	CHECK4 "reserved PS bit in the PML4", tr_err, $9
	movl $0, boot_pml4 + 511 * 8
	TRY read_top, U
	CHECK4 "not present in the PML4", tr_err, $4
	mov tr_cr2, %rcx
	CHECK "64-bit CR2", %rcx, $0xffffff8000000000
	TRY read_noncanonical, U
	CHECK4 "non-canonical: vector", tr_vec, $VGP
	CHECK4 "non-canonical: error", tr_err, $0
	call pcid_tests
#elif !PAE
	/* paging off and on */
	SETPTE ptab, page1+7
	mov %cr0, %eax
	and $0x7fffffff, %eax
	mov %eax, %cr0
	mov magic, %ecx
	or $0x80000000, %eax
	mov %eax, %cr0
	CHECK4 "CR0.PG off and on flushes", BASE + 16, $0x2222
	CHECK4 "memory without paging", %ecx, $0x12345678
	/* without PSE the large page bit is ignored: the directory entry points to a table */
	movl $ptab + 0x87, PDE_BASE
	mov %cr4, %eax
	and $~0x10, %eax
	movl $boot_pt, %edi
	/* all of the first 4 MiB by a table, or nothing would run */
	mov $7, %edx
	mov $1024, %ecx
1:	mov %edx, (%edi)
	add $4, %edi
	add $0x1000, %edx
	loop 1b
	movl $boot_pt + 7, boot_pd
	mov %cr3, %edx
	mov %edx, %cr3
	mov %eax, %cr4
	CHECK4 "PS ignored without CR4.PSE", BASE + 16, $0x2222
	or $0x10, %eax
	mov %eax, %cr4
#else
	/* reserved bits of a PDPTE: MOV CR3 raises #GP; entries are loaded then, and only then */
	movl $pdir + 1 + 2, pdptp + 8
	TRY reload_cr3, K
	CHECK4 "reserved bit in a PDPTE: vector", tr_vec, $VGP
	movl $0, pdptp + 8
	TRY read_base, K
	CHECK4 "PDPTE registers are loaded by MOV CR3 only", tr_vec, $VBP
	mov %cr3, %eax
	mov %eax, %cr3
	TRY read_base, K
	CHECK4 "PDPTE not present: error", tr_err, $0
	CHECK4 "PDPTE not present: vector", tr_vec, $VPF
	movl $pdir + 1, pdptp + 8
	mov %cr3, %eax
	mov %eax, %cr3
	CHECK4 "PDPTE present again", BIG + magic, $0x12345678
	/* without NXE, bit 63 is reserved */
	mov $0xc0000080, %ecx
	rdmsr
	and $~0x800, %eax
	wrmsr
	SETPTE ptab, page0+7, 0x80000000
	invlpg BASE
	TRY read_base, K
	CHECK4 "NX without EFER.NXE is reserved", tr_err, $9
#endif
	ret

reload_cr3:
	mov %cr3, AX
	mov AX, %cr3
	int3
read_base:
	mov BASE, %ecx
	int3
write_base:
	movb $0xc3, BASE
	int3
read_magic:
	mov magic, %ecx
	int3
#if LONG
read_huge:
	mov $HUGE, %ebx
	mov (%rbx), %ecx
	int3
write_huge:
	mov $HUGE, %ebx
	mov %ecx, (%rbx)
	int3
read_top:
	mov $0xffffff8000000000, %rcx
	mov (%rcx), %ecx
	int3
read_noncanonical:
	mov $0x800000000000, %rcx
	mov (%rcx), %ecx
	int3
invpcid_type:
	invpcid inv_desc, %rdx
	int3
invpcid_4:
	mov $4, %edx
	invpcid inv_desc, %rdx
	int3
invpcid_bad:
	xor %edx, %edx
	invpcid inv_bad, %rdx
	int3
invpcid_noncanonical:
	xor %edx, %edx
	invpcid inv_nc, %rdx
	int3
pcid_on:
	mov %cr4, %rax
	bts $17, %rax
	mov %rax, %cr4
	int3
	.data
	.balign 16
inv_desc: .quad 1, BASE
inv_bad: .quad 0x1000, BASE
inv_nc:	.quad 1, 0x800000000000
	.text
	/* Two address spaces, PCID 1 and 2, that differ at BASE: page0 and page1. */
pcid_tests:
	cmpb $0, feat_pcid
	je 9f
	/* CR4.PCIDE with CR3[11:0] != 0: #GP */
	mov %cr3, %rbx
	lea 8(%rbx), %rax
	mov %rax, %cr3
	TRY pcid_on, K
	CHECK4 "CR4.PCIDE with a PCID in CR3", tr_vec, $VGP
	mov %rbx, %cr3
	orl $1 << 17, CR4_NOW
	mov CR4_NOW, %rax
	mov %rax, %cr4
	/* a second space: pml4b -> pdptb -> the same, but BASE by pml4's own directory */
	mov boot_pml4, %rax
	movq $pdptb + 7, pml4b
	mov boot_pdpt, %rax
	mov %rax, pdptb
	movq $pdirb + 7, pdptb + 8
	movq $ptabb + 7, pdirb
	movq $page1 + 7, ptabb
	movq $page0 + 7, ptab
	lea 1(%rbx), %r12
	mov $pml4b + 2, %r13d
	mov $20, %ecx
	xor %ebp, %ebp
1:	mov %r12, %cr3
	cmpl $0x1111, BASE + 16
	je 2f
	inc %ebp
2:	mov %r13, %cr3
	cmpl $0x2222, BASE + 16
	je 2f
	inc %ebp
2:	bts $63, %r12
	bts $63, %r13
	loop 1b
	CHECK4 "PCID: two address spaces", %ebp, $0
	/* INVPCID of an address in the other space */
	btr $63, %r12
	mov %r12, %cr3
	bts $63, %r12
	mov BASE + 16, %ecx
	cmpb $0, feat_invpcid
	je 3f
	mov %r13, %cr3
	movq $page2 + 7, ptab
	movl $0x3333, page2 + 16
	xor %edx, %edx
	invpcid inv_desc, %rdx
	mov %r12, %cr3
	CHECK4 "INVPCID type 0", BASE + 16, $0x3333
	mov %r13, %cr3
	movq $page0 + 7, ptab
	mov $1, %edx
	invpcid inv_desc, %rdx
	mov %r12, %cr3
	CHECK4 "INVPCID type 1", BASE + 16, $0x1111
	mov %r13, %cr3
	movq $page2 + 7, ptab
	mov $2, %edx
	invpcid inv_desc, %rdx
	mov %r12, %cr3
	CHECK4 "INVPCID type 2", BASE + 16, $0x3333
	mov %r13, %cr3
	movq $page0 + 7, ptab
	mov $3, %edx
	invpcid inv_desc, %rdx
	mov %r12, %cr3
	CHECK4 "INVPCID type 3", BASE + 16, $0x1111
	TRY invpcid_4, K
	CHECK4 "INVPCID type 4", tr_vec, $VGP
	TRY invpcid_bad, K
	CHECK4 "INVPCID reserved bits of the PCID", tr_vec, $VGP
	TRY invpcid_noncanonical, K
	CHECK4 "INVPCID non-canonical", tr_vec, $VGP
	TRY invpcid_type, U
	CHECK4 "INVPCID at ring 3", tr_vec, $VGP
3:	/* MOV CR3 without bit 63 flushes its PCID */
	mov %r12, %cr3
	mov BASE + 16, %ecx
	movq $page2 + 7, ptab
	btr $63, %r12
	mov %r12, %cr3
	CHECK4 "MOV CR3 flushes its PCID", BASE + 16, $0x3333
	mov %cr3, %rax
	sub %rbx, %rax
	CHECK4 "CR3 holds the PCID, not bit 63", %eax, $1
	mov %rbx, %cr3
	andl $~(1 << 17), CR4_NOW
	mov CR4_NOW, %rax
	mov %rax, %cr4
9:	ret
	.bss
	.balign 4096
pdirb:	.skip 4096
ptabb:	.skip 4096
	.text
#else
	.bss
	.balign 4096
boot_pt: .skip 4096
	.text
#endif
