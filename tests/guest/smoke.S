// MODES: 32 64
/* The frame of the tests itself: rows in every mode, faults, checks. */
#include "guest.inc"

	R "runs to its end", K, OK, 0, "mov $5, %eax", val=5
	R "runs to its end", U, OK, 0, "mov $6, %eax", val=6
	R "rings 1 and 2", RING1, OK, 0, "mov %cs, %eax", val=C1
	R "rings 1 and 2", RING2, OK, 0, "mov %cs, %eax", val=C2
	R "ud2", K, VUD, 0, "ud2"
	R "ud2", U, VUD, 0, "ud2"
	R "second instruction", U, VUD, 0, "nop; 9: ud2"
	R "cli", U, VGP, 0, "cli"
	R "16-bit", K16, OK, 0, "mov %sp, %ax", val=0x7f00, mask=0xffff
	R "16-bit", U16, OK, 0, "mov %sp, %ax", val=0xfff0, mask=0xffff
	R "16-bit ud2", K16, VUD, 0, "ud2"
	R "16-bit ud2", U16, VUD, 0, "nop; nop; 9: ud2"
#if LONG
	R "64-bit register", U, OK, 0, "mov $0x123456789abcdef0, %rax", val=0x123456789abcdef0
	R "compat", CU, OK, 0, "mov %cs, %eax", val=U32
	R "compat", CK, OK, 0, "inc %eax; dec %eax; mov %cs, %eax", val=C0C
	R "compat ud2", CU, VUD, 0, "ud2"
#else
	R "v8086", V86, OK, 0, "mov %cs, %ax", val=0x1000, mask=0xffff
	R "v8086 ud2", V86, VUD, 0, "ud2"
	R "real", REAL, OK, 0, "mov %cs, %ax", val=0x1000, mask=0xffff
	R "real ud2", REAL, VUD, 0, "ud2"
	R "real second", REAL, VUD, 0, "nop; 9: ud2"
#endif

test_main:
	SAY "# hello"
	call run_rows
	CHECK "check", $5, $5
	VALUE "value", $0xabcdef0
	ret
