// MODES: 32 64
// EXIT: 4
// QEMU-EXIT: 0
/* A triple fault: the processor shuts down; Ringside ends with status 4 (QEMU resets). */
#include "guest.inc"

	.data
	.balign 8
nothing: .skip 16
	.text
test_main:
	SAY "ok this far"
	lidt nothing
	ud2
	SAY "FAIL still here"
	ret
