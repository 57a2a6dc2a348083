// MODES: 32 64
// EXIT: 4
// QEMU-EXIT: 0
/* A triple fault by paging: the handlers' stack and table go away under a page fault. */
#include "guest.inc"

test_main:
	SAY "ok this far"
	call paging_on
	mov $0x50000000, %eax
	mov AX, SP
#if LONG
	/* no IST for the double fault */
	movb $0, idt + 8 * 16 + 4
#else
	/* a double fault by an interrupt gate, on the same stack */
	mov $stubs + 8 * 16, %edx
	mov %dx, idt + 64
	movw $C0, idt + 66
	shr $16, %edx
	mov %dx, idt + 70
	movw $0x8e00, idt + 68
#endif
	push AX
	ret
