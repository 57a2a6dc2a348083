// MODES: 32
/*
 * Segments of every base and limit: what is within the limit reaches base + offset, modulo 4 GiB, and nothing else; what
 * is not faults, and has done nothing. Data, stack and code.
 */
#include "guest.inc"
#include "attack.inc"

	.set ROUNDS, 3000
	.bss
	.balign 4096
canary0: .skip 4096
page:	.skip 4096
canary1: .skip 4096
	.data
	.balign 8
seed:	.long 0x9e3779b9
target:	.long 0
far:	.long 0
	.short SLOT + 8
base:	.long 0
limit:	.long 0 /* of the last byte */

	.text
random:	mov seed, %eax
	push %ecx
	XORSHIFT %eax, %ecx, 13, 17, 5
	mov %eax, seed
	pop %ecx
	ret

t_data:	mov $SLOT, %eax
	mov %eax, %fs
	mov target, %ecx
	mov %fs:(%ecx), %edx
	mov %fs:3(%ecx), %al
	notl %fs:(%ecx)
	int3
t_indexed:
	mov $SLOT, %eax
	mov %eax, %gs
	mov target, %ecx
	mov $16, %edx
	sub $64, %ecx
	mov %gs:(%ecx,%edx,4), %edx
	notl %gs:64(%ecx)
	int3
t_string:
	mov $SLOT, %eax
	mov %eax, %es
	mov target, %edi
	mov $1, %ecx
	mov $0x77777777, %eax
	rep stosl
	int3
t_stack: /* up to 4 GiB only: an exception comes to this stack */
	mov $SLOT, %eax
	mov target, %ebx
	mov %eax, %ss
	lea 4(%ebx), %esp
	push $0x55555555
	mov (%esp), %edx
	mov $D0, %eax
	mov %eax, %ss
	mov $snip_stack_top, %esp
	int3
t_code:	xor %ebx, %ebx
	lcall *far
	int3
function: /* it lies where base + offset says */
	mov $0x1234567, %edx
	lret

	/* Descriptor at SLOT (data) and SLOT + 8 (code): `base`, `limit` rounded down to what it can be in eax. */
make_segments:
	mov limit, %ecx
	mov $0x4093, %edx
	cmp $0x100000, %ecx
	jb 1f
	or $0xfff, %ecx
	mov %ecx, limit
	shr $12, %ecx
	or $0x8000, %edx
1:	push %ecx
	push %edx
	mov base, %eax
	call set_desc_regs
	mov %eax, gdt + SLOT
	mov %edx, gdt + SLOT + 4
	pop %edx
	pop %ecx
	or $8, %edx
	mov base, %eax
	call set_desc_regs
	mov %eax, gdt + SLOT + 8
	mov %edx, gdt + SLOT + 12
	ret

	/* A place in `page`, a base, a limit that may or may not hold it. eax: the place */
choose:	call random
	mov %eax, base
	call random
	mov %eax, limit
	call random
	test $0x10000, %eax
	jz 1f
	movl $-1, limit
1:	test $0x20000, %eax
	jz 1f
	andl $0xfffff, base
1:	and $0xffc, %eax
	add $page, %eax
	mov %eax, %ecx
	sub base, %ecx
	mov %ecx, target
	push %eax
	call make_segments
	pop %eax
	ret

	/* edi: the place, eax: what it was -> *bad when `vec` is not what the limit says; ZF: it was within */
verdict:
	push %eax
	mov target, %edx
	add $3, %edx
	jc 1f /* offset + 3 wraps: beyond any limit */
	cmp limit, %edx
	ja 1f
	cmpl $VBP, tr_vec
	je 2f
	incl bad
2:	pop %eax
	cmp %eax, %eax
	ret
1:	cmpl $VGP, tr_vec
	je 3f
	incl bad
3:	pop %eax
	cmp (%edi), %eax
	je 4f
	incl bad
4:	test %esp, %esp
	ret

.macro TRIES name:req, where:req, become:req
	movl $0, bad
	mov $ROUNDS, %ebp
1:	call choose
	mov %eax, %edi
	call random
	mov %eax, (%edi)
	push %eax
	TRY \where, K
	pop %eax
	call verdict
	jne 3f
	.ifc \become,not
	cmp tr_dx, %eax
	jne 2f
	not %eax
	.else
	mov $\become, %eax
	.endif
	cmp %eax, (%edi)
	je 3f
2:	incl bad
3:	dec %ebp
	jnz 1b
	CHECK_CANARIES canary0, canary1
	CHECK4 "\name", bad, $0
.endm

test_main:
	FILL_CANARIES canary0, canary1
	TRIES "data", t_data, not
	TRIES "data with an index", t_indexed, not
	TRIES "strings", t_string, 0x77777777

	movl $0, bad
	mov $ROUNDS, %ebp
1:	call choose
	mov %eax, %edi
	movl $-1, limit
	call make_segments
	/* the four bytes of the push do not wrap */
	cmpl $-8, target
	ja 3f
	TRY t_stack, K
	cmpl $VBP, tr_vec
	jne 2f
	cmpl $0x55555555, tr_dx
	jne 2f
	cmpl $0x55555555, (%edi)
	je 3f
2:	incl bad
3:	dec %ebp
	jnz 1b
	CHECK_CANARIES canary0, canary1
	CHECK4 "the stack", bad, $0

	movl $0, bad
	mov $ROUNDS, %ebp
1:	call choose
	mov $function, %eax
	sub base, %eax
	mov %eax, far
	TRY t_code, K
	mov far, %eax
	add $5, %eax /* of the LRET: the limit may lie in between */
	jc 3f
	mov limit, %edx
	cmp %edx, %eax
	ja 4f
	cmpl $VBP, tr_vec
	jne 2f
	cmpl $0x1234567, tr_dx
	je 3f
2:	incl bad
	jmp 3f
4:	cmpl $VGP, tr_vec
	jne 2b
3:	dec %ebp
	jnz 1b
	CHECK4 "code", bad, $0
	ret
