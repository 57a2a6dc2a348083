// MODES: 64
// CPUS: 4
// TIMEOUT: 60
// QEMU-SKIP: version 7.2 ends by SIGSEGV when an NMI is sent to a processor that waits for SIPI
/*
 * Processors and their local APICs among each other: the state after INIT and SIPI, IPIs by every delivery mode,
 * destination mode and shorthand, in xAPIC and x2APIC mode, NMIs, wake-ups out of HLT, one time for all.
 * Sources: SDM 3A 9.4 (initialization), 11.6 (IPIs), 11.12 (x2APIC), 18.17.4 (TSC).
 */
#include "guest.inc"
#include "smp.inc"
#include "ipi.inc"

	.set VECTOR, 0x60
	.data
	.balign 8
pings:	.quad 3000 /* times that each wakes another */
	.text

	.bss
	.balign 128
errors:	.skip 8
	.balign 128
turn:	.skip 128
stamp:	.skip 128
	.text

.macro GET name:req, n:req, mask:req, icr:req, dest=0, where=got
	IPI \icr, \dest
	mov $\n, %edi
	mov $\where, %esi
	call who
	CHECK4 "\name", %eax, $\mask
.endm

	/* logical destinations */
set_flat:
	mov $LAPIC, %eax
	movl $-1, 0xe0(%rax)
	mov %edi, %ecx
	mov $0x1000000, %edx
	shl %cl, %edx
	mov %edx, 0xd0(%rax)
	ret
set_cluster: /* two in each */
	mov $LAPIC, %eax
	movl $0x0fffffff, 0xe0(%rax)
	mov %edi, %ecx
	and $1, %ecx
	mov $1, %edx
	shl %cl, %edx
	shr $1, %edi
	shl $4, %edi
	or %edi, %edx
	shl $24, %edx
	mov %edx, 0xd0(%rax)
	ret
	/* task priority 0x50 but for CPU 3; 0x70 for CPU 1 alone; 0 */
tpr_all_but_3:
	cmp $3, %edi
	je tpr_0
	mov $5, %eax
	mov %rax, %cr8
	ret
tpr_1:	cmp $1, %edi
	jne tpr_0
	mov $7, %eax
	mov %rax, %cr8
	ret
tpr_0:	xor %eax, %eax
	mov %rax, %cr8
	ret

	/* Sleeps until its own count is edi or more. */
sleep_until:
	mov %gs:CPU_INDEX, %eax
1:	cli
	cmp %edi, got(,%rax,4)
	jae 2f
	sti
	hlt
	jmp 1b
2:	sti
	ret
	/* Two wake each other by turns. */
ping:	mov $1, %r12d
	mov %edi, %r13d
1:	test %r13d, %r13d
	jnz 2f
	mov $1, %edx
	mov $0x4000 + VECTOR, %eax
	call smp_ipi
2:	mov %r12d, %edi
	call sleep_until
	test %r13d, %r13d
	jz 3f
	xor %edx, %edx
	mov $0x4000 + VECTOR, %eax
	call smp_ipi
3:	inc %r12d
	cmp pings, %r12d
	jbe 1b
	ret
	/* Everybody interrupts the next one, again when that one has noticed. */
ring:	mov %edi, %r13d
	inc %edi
	cmp smp_cpus, %edi
	jb 1f
	xor %edi, %edi
1:	mov %edi, %r14d
	mov $1, %r12d
2:	mov %r14d, %edx
	mov $0x4000 + VECTOR, %eax
	call smp_ipi
3:	cmp %r12d, got(,%r14,4)
	jae 4f
	pause
	jmp 3b
4:	inc %r12d
	cmp pings, %r12d
	jbe 2b
	jmp smp_barrier
	/* Who has the turn stores its time; it must not be less than what the one before stored. */
times:	mov %edi, %r13d
	mov pings, %r12d
1:	cmp %r13d, turn
	je 2f
	pause
	jmp 1b
2:	lfence
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	cmp stamp, %rax
	jae 3f
	lock incl errors
3:	mov %rax, stamp
	lea 1(%r13), %eax
	and $3, %eax
	mov %eax, turn
	dec %r12d
	jnz 1b
	ret
	/* CPU 1's own timer wakes it. */
timer:	cmp $1, %edi
	jne 1f
	mov $LAPIC, %eax
	movl $0xb, 0x3e0(%rax)
	movl $VECTOR, 0x320(%rax)
	movl $1000000, 0x380(%rax)
	mov $1, %edi
	call sleep_until
	mov $LAPIC, %eax
	movl $0x10000, 0x320(%rax)
1:	ret
to_x2apic:
	mov $0x1b, %ecx
	rdmsr
	or $0x400, %eax
	wrmsr
	mov $0x802, %ecx
	rdmsr
	cmp %edi, %eax
	je 1f
	lock incl errors
1:	mov $0x80d, %ecx /* LDR: cluster 0, a bit each */
	rdmsr
	mov $1, %edx
	mov %edi, %ecx
	shl %cl, %edx
	cmp %edx, %eax
	je 1f
	lock incl errors
1:	ret

test_main:
	cmpb $0, feat_not_tcg
	jne 1f
	movl $100, pings /* on KVM there all run on one processor */
1:
	SETIDT VECTOR, on_count
	SETIDT 2, on_nmi
	mov $4, %edi
	call smp_start
	sti

	/* -- what a processor starts with */
	mov $1, %eax
	cpuid
	mov %eax, %r12d
	mov $smp_entry, %r14d
	shr $4, %r14d
	mov $1, %r13d
1:	mov %r13d, %ebp
	shl $5, %ebp
	CHECK4 "start: CR0", smp_first(%rbp), $0x60000010
	CHECK4 "start: RFLAGS", smp_first + 8(%rbp), $2
	CHECK4 "start: CS", smp_first + 16(%rbp), %r14d
	CHECK4 "start: EDX, the signature", smp_first + 24(%rbp), %r12d
	inc %r13d
	cmp $4, %r13d
	jb 1b
	mov $0x1b, %ecx
	rdmsr
	and $0x900, %eax
	CHECK4 "this is the first processor, and its APIC is on", %eax, $0x900

	/* -- destinations */
	GET "physical", 1, 4, 0x4000 + VECTOR, 2
	GET "physical, itself", 1, 1, 0x4000 + VECTOR, 0
	GET "physical, nobody", 0, 0, 0x4000 + VECTOR, 9
	GET "physical broadcast", 4, 15, 0x4000 + VECTOR, 0xff
	GET "shorthand: self", 1, 1, 0x44000 + VECTOR
	GET "shorthand: all", 4, 15, 0x84000 + VECTOR
	GET "shorthand: all but self", 3, 14, 0xc4000 + VECTOR
	SMP_RUN set_flat, 4
	GET "logical, flat", 2, 10, 0x4800 + VECTOR, 0xa
	GET "logical, flat, all", 4, 15, 0x4800 + VECTOR, 0xff
	GET "logical, flat, nobody", 0, 0, 0x4800 + VECTOR, 0x30
	SMP_RUN tpr_all_but_3, 4
	GET "lowest priority", 1, 8, 0x4900 + VECTOR, 0xf
	SMP_RUN tpr_0, 4
	IPI 0x4900 + VECTOR, 0xf
	mov $1, %edi
	mov $got, %esi
	call who
	popcnt %eax, %eax
	CHECK4 "lowest priority, all equal: one", %eax, $1
	SMP_RUN set_cluster, 4
	GET "logical, cluster 0", 2, 3, 0x4800 + VECTOR, 0x03
	GET "logical, cluster 1, one", 1, 8, 0x4800 + VECTOR, 0x12
	GET "logical, cluster 1", 2, 12, 0x4800 + VECTOR, 0x13
	GET "logical, cluster, nobody", 0, 0, 0x4800 + VECTOR, 0x23
	GET "logical, all clusters", 4, 15, 0x4800 + VECTOR, 0xff
	SMP_RUN set_flat, 4

	/* -- task priority holds it back */
	SMP_RUN tpr_1, 4
	GET "CR8: held back", 3, 13, 0x84000 + VECTOR
	SMP_RUN tpr_0, 4
	mov $1, %edi
	mov $got, %esi
	call who
	CHECK4 "CR8: let in", %eax, $2

	/* -- NMI, INIT, SIPI */
	GET "NMI", 1, 4, 0x4400, 2, got_nmi
	GET "NMI to itself", 1, 1, 0x4400, 0, got_nmi
	GET "NMI, all but self", 3, 14, 0xc4400, 0, got_nmi
	GET "NMI: the vector does not matter", 3, 14, 0xc44ff, 0, got_nmi
	mov smp_up, %r12d
	mov $smp_entry, %eax
	shr $12, %eax
	or $0x4600, %eax
	mov $1, %edx
	call smp_ipi
	GET "SIPI to one that runs: ignored", 4, 15, 0x84000 + VECTOR
	CHECK4 "and it has not started again", smp_up, %r12d
	IPI 0x8500, 3 /* INIT level de-assert */
	GET "INIT de-assert does nothing", 4, 15, 0x84000 + VECTOR
	IPI 0x4500, 3
	mov $20, %edi
	call smp_delay
	GET "INIT: waits for SIPI", 3, 7, 0x84000 + VECTOR
	GET "INIT: not even NMI", 2, 6, 0xc4400, 0, got_nmi
	mov $3, %edi
	call smp_start_one
	inc %r12d
	CHECK4 "SIPI: started again", smp_up, %r12d
	CHECK4 "INIT leaves CR0.CD and NW", smp_first + 96, $0x10
	GET "SIPI: it works again", 4, 15, 0x84000 + VECTOR
	mov $30, %r13d
1:	mov $2, %edi
	call smp_start_one
	dec %r13d
	jnz 1b
	GET "INIT and SIPI thirty times", 4, 15, 0x84000 + VECTOR

	/* -- wake-ups */
	SMP_RUN ping, 2
	CHECK4 "two by turns: one", got, pings
	CHECK4 "two by turns: the other", got + 4, pings
	movq $0, got
	SMP_RUN ring, 4
	CHECK4 "everybody the next one: 0", got, pings
	CHECK4 "everybody the next one: 1", got + 4, pings
	CHECK4 "everybody the next one: 2", got + 8, pings
	CHECK4 "everybody the next one: 3", got + 12, pings
	movq $0, got
	movq $0, got + 8
	SMP_RUN timer, 4
	mov $1, %edi
	mov $got, %esi
	call who
	CHECK4 "another processor's timer wakes it", %eax, $2
	SMP_RUN times, 4
	CHECK4 "time does not go back from one to the next", errors, $0

	/* -- x2APIC */
	cmpb $0, feat_x2apic
	je 9f
	cli
	SMP_RUN to_x2apic, 4
	movb $1, smp_x2apic
	sti
	CHECK4 "x2APIC: IDs", errors, $0
	GET "x2APIC: physical", 1, 4, 0x4000 + VECTOR, 2
	GET "x2APIC: 0xff is nobody", 0, 0, 0x4000 + VECTOR, 0xff
	GET "x2APIC: broadcast", 4, 15, 0x4000 + VECTOR, 0xffffffff
	GET "x2APIC: logical", 2, 10, 0x4800 + VECTOR, 0xa
	GET "x2APIC: another cluster", 0, 0, 0x4800 + VECTOR, 0x1000a
	GET "x2APIC: logical broadcast", 4, 15, 0x4800 + VECTOR, 0xffffffff
	GET "x2APIC: all but self", 3, 14, 0xc4000 + VECTOR
	GET "x2APIC: NMI", 1, 8, 0x4400, 3, got_nmi
	mov smp_up, %r12d
	mov $1, %edi
	call smp_start_one
	inc %r12d
	CHECK4 "x2APIC: INIT and SIPI", smp_up, %r12d
	GET "x2APIC: it is still in that mode", 4, 15, 0x84000 + VECTOR
	SMP_RUN ping, 2
	CHECK4 "x2APIC: two by turns", got, pings
	CHECK4 "x2APIC: two by turns", got + 4, pings
9:	cli
	ret
