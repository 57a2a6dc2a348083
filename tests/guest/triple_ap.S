// MODES: 64
// CPUS: 3
// EXIT: 4
// QEMU-EXIT: 0
/* A triple fault of another processor than the first, while the rest sleeps or spins: it ends the machine. */
#include "guest.inc"
#include "smp.inc"

	.data
	.balign 8
nothing: .skip 16
	.text
job:	cmp $2, %edi
	jne 1f
	lidt nothing
	ud2
1:	test %edi, %edi
	jz 2f
	cli
	hlt
2:	jmp 2b
test_main:
	mov $3, %edi
	call smp_start
	SAY "ok this far"
	SMP_RUN job, 3
	SAY "FAIL still here"
	ret
