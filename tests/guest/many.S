// MODES: 32 64
// TIMEOUT: 60
// ENV: RINGSIDE_BT_CACHE=24
/*
 * More code than the translation cache may hold: 32768 functions over 2 MiB, run three times, then
 * written anew and run again, with a table of pointers in an order that jumps about.
 */
#include "guest.inc"

	.set AREA, 0x1000000
	.set COUNT, 32768
	.text
	/* function n: add $n + EBP, %eax; ret, in 64 bytes with a jump over a hole */
write_all:
	mov $AREA, %edi
	xor %ecx, %ecx
1:	movb $0x05, (DI) /* add $imm, %eax */
	lea (CX,BP), %eax
	mov %eax, 1(DI)
	movw $0x20eb, 5(DI) /* jmp .+34 */
	movb $0xc3, 39(DI)
	add $64, DI
	inc %ecx
	cmp $COUNT, %ecx
	jb 1b
	ret
	/* EAX = sum of what they do */
run_all:
	xor %eax, %eax
	xor %ecx, %ecx
1:	imul $12345, %ecx, %edx /* odd: a permutation */
	and $COUNT - 1, %edx
	shl $6, %edx
	add $AREA, %edx
	call *DX
	inc %ecx
	cmp $COUNT, %ecx
	jb 1b
	ret

test_main:
	call paging_on
	mov $1, %ebp
	call write_all
	call run_all
	CHECK4 "first run", %eax, $(COUNT / 2 * (COUNT + 1))
	call run_all
	CHECK4 "second run", %eax, $(COUNT / 2 * (COUNT + 1))
	call run_all
	CHECK4 "third run", %eax, $(COUNT / 2 * (COUNT + 1))
	mov $100, %ebp
	call write_all
	call run_all
	CHECK4 "written anew", %eax, $(COUNT / 2 * (COUNT + 1) + 99 * COUNT)
	/* one in a hundred changed between runs */
	mov $50, %ebx
	mov $(COUNT / 2 * (COUNT + 1) + 99 * COUNT), %esi
1:	imul $655, %ebx, %edx
	shl $6, %edx
	add $7, %esi
	addl $7, AREA + 1(DX)
	test $15, %ebx
	jnz 2f
	call run_all
	cmp %eax, %esi
	je 2f
	SAY "FAIL a function changed between runs"
	incl failures
2:	dec %ebx
	jnz 1b
	SAY "ok functions changed between runs"
	ret
