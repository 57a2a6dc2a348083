// MODES: 64
// CPUS: 4
// TIMEOUT: 60
// QEMU-SKIP: its TCG offers none of KVM's interface
/*
 * KVM's paravirtual interface among several processors: EOI in memory, kicks out of HLT, IPIs by hypercall, steal time
 * with its "preempted" flag and the TLB flush left there. Source: Linux Documentation/virt/kvm/x86/{msr,hypercalls}.rst.
 */
#include "guest.inc"
#include "smp.inc"
#include "ipi.inc"

	.set VIEW, 0x40000000
	.set MSR_STEAL, 0x4b564d03
	.set MSR_EOI, 0x4b564d04
	.set KICKS, 3000

	.bss
	.balign 4096
ptab:	.skip 4096
pdir:	.skip 4096
page_a:	.skip 4096
page_b:	.skip 4096
	.balign 128
flag:	.skip 128 /* EOI not wanted */
flags_seen: .skip 128 /* one bit an interrupt */
skipped: .skip 128 /* EOIs not done */
go:	.skip 128
result:	.skip 128
steal:	.skip 128
offered: .skip 128
	.text

	/* Ends an interrupt as Linux does. Ruins rax. */
pv_eoi:	lock btrl $0, flag
	jnc smp_eoi
	lock incl skipped
	ret
	.balign 16
on_60:
on_70:	push %rax
	mov flags_seen, %eax
	shl $1, %eax
	or flag, %eax
	mov %eax, flags_seen
	mov %gs:CPU_INDEX, %eax
	lock incl got(,%rax,4)
	call pv_eoi
	pop %rax
	iretq
	/* Waits, in the handler, until the hypervisor takes the offer back. */
	.balign 16
on_80:	push %rax
	mov flag, %eax
	mov %eax, result
	movl $1, go
1:	pause
	testl $1, flag
	jnz 1b
	call pv_eoi
	pop %rax
	iretq
	/* CPU 1 sends a lower vector while CPU 0 is in on_80. */
late:	cmp $1, %edi
	jne 2f
1:	pause
	cmpl $1, go
	jne 1b
	IPI 0x4060, 0
	ret
2:	test %edi, %edi
	jnz 3f
	IPI 0x44080
1:	pause
	cmpl $1, got
	jne 1b
3:	ret

.macro HYPERCALL nr:req, a=0, b=0, c=0, d=0
	mov $\nr, %eax
	mov $\a, %rbx
	mov $\b, %rcx
	mov $\c, %rdx
	mov $\d, %rsi
	vmcall
.endm
.macro SENT name:req, n:req, mask:req, low=0, high=0, min=0, icr=0x60, where=got
	HYPERCALL 10, \low, \high, \min, \icr
	CHECK "\name: how many", %rax, $\n
	mov $\n, %edi
	mov $\where, %esi
	call who
	CHECK4 "\name: who", %eax, $\mask
.endm

	/* -- kicks: CPU 1 halts with interrupts off; each kick ends one HLT, whether it comes before or after */
kicks:	mov $1, %r12d
	test %edi, %edi
	jnz 2f
1:	mov %r12d, %ecx /* sometimes early, sometimes late */
	and $1023, %ecx
3:	dec %ecx
	jns 3b
	mov %r12d, go
	HYPERCALL 5, 0, 1
	or %eax, result
4:	pause
	cmp %r12d, result + 8
	jne 4b
	inc %r12d
	cmp $KICKS, %r12d
	jbe 1b
	ret
2:	cmp $1, %edi
	jne 9f
	cli
5:	hlt
	cmp %r12d, go
	jb 5b
	mov %r12d, result + 8
	inc %r12d
	cmp $KICKS, %r12d
	jbe 5b
	sti
9:	ret

	/* -- a TLB flush left for one that sleeps */
sleeper:
	cmp $1, %edi
	jne 4f
	mov $MSR_STEAL, %ecx
	mov $steal + 1, %eax
	xor %edx, %edx
	wrmsr
	mov $1, %r12d
1:	mov VIEW, %ebx /* into the TLB */
	movzbl steal + 16, %eax
	or %eax, result /* it runs, so this is 0 */
	mov %r12d, go
2:	cli
	cmp %r12d, result + 4
	jae 3f
	sti
	hlt
	jmp 2b
3:	sti
	cmp %r12d, result + 16
	jne 6f
	invlpg VIEW
6:	mov VIEW, %ebx
	mov %r12d, %ecx
	and $1, %ecx
	cmp %ecx, %ebx
	je 5f
	lock incl result + 8
5:	inc %r12d
	cmp $200, %r12d
	jbe 1b
	mov $MSR_STEAL, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	ret
4:	test %edi, %edi
	jnz 9f
	mov $1, %r12d
1:	pause
	cmp %r12d, go
	jne 1b
	mov $page_a + 7, %eax
	test $1, %r12d
	jz 3f
	mov $page_b + 7, %eax
3:	mov %eax, ptab
	mov $50000, %ecx /* who sleeps need not be told to be preempted */
2:	pause
	dec %ecx
	jz 6f
	mov $1, %eax
	mov $3, %edx
	lock cmpxchg %dl, steal + 16
	jne 2b /* not yet, or it just woke up */
	lock incl result + 12
	jmp 7f
6:	mov %r12d, result + 16 /* it is to flush itself */
7:	mov %r12d, result + 4
	IPI 0x4061, 1
	inc %r12d
	cmp $200, %r12d
	jbe 1b
9:	ret

.macro OFFERED bit:req, else:req /* what are hypercalls is not offered where KVM would answer them (tests/unit/cpuid_table) */
	btl $\bit, offered
	jnc \else
.endm

bad_steal:
	mov $MSR_STEAL, %ecx
	mov $steal + 3, %eax
	xor %edx, %edx
	wrmsr
	int3
bad_eoi: mov $MSR_EOI, %ecx
	mov $flag + 3, %eax
	xor %edx, %edx
	wrmsr
	int3

test_main:
	mov $0x40000001, %eax
	cpuid
	and $0xae0, %eax
	mov %eax, offered
	and $0x60, %eax
	CHECK4 "offered: steal time, EOI", %eax, $0x60
	SETIDT 0x60, on_60
	SETIDT 0x61, on_count
	SETIDT 0x70, on_70
	SETIDT 0x80, on_80
	SETIDT 2, on_nmi
	mov $4, %edi
	call smp_start

	/* -- EOI */
	mov $MSR_EOI, %ecx
	mov $flag + 1, %eax
	xor %edx, %edx
	wrmsr
	rdmsr
	CHECK4 "EOI: the MSR", %eax, $flag + 1
	sti
	IPI 0x44060
	nop
	IPI 0x44070
	nop
	CHECK4 "EOI: both came", got, $2
	CHECK4 "EOI: none was wanted", flags_seen, $3
	CHECK4 "EOI: none was done", skipped, $2
	mov $LAPIC, %ebx
	CHECK4 "EOI: nothing is in service", 0x130(%rbx), $0
	CHECK4 "EOI: the flag is clear", flag, $0
	cli
	movl $0, got
	movl $0, flags_seen
	movl $0, skipped
	IPI 0x44060
	IPI 0x44070
	sti
	nop
	nop
	cli
	CHECK4 "EOI, two at once: both came", got, $2
	CHECK4 "EOI, two at once: wanted after the first", flags_seen, $1
	CHECK4 "EOI, two at once: one done", skipped, $1
	movl $0, got
	movl $0, result
	movl $0, go
	sti
	SMP_RUN late, 2
	CHECK4 "EOI: it was not wanted", result, $1
	CHECK4 "EOI: wanted when another comes: that one came", got, $1
	cli
	mov $MSR_EOI, %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	movl $0, flags_seen
	movl $0, got
	sti
	IPI 0x44060
	nop
	CHECK4 "EOI, off: wanted", flags_seen, $0
	CHECK4 "EOI, off: it came", got, $1
	TRY bad_eoi, K
	CHECK4 "EOI: a reserved bit", tr_vec, $VGP
	movl $0, got

	/* -- IPIs */
	SETIDT 0x60, on_count
	sti
	OFFERED 11, no_ipis
	SENT "two", 2, 10, low=10
	SENT "counted from 1", 2, 10, low=5, min=1
	SENT "all", 4, 15, low=-1
	SENT "the high half", 0, 0, high=-1
	SENT "beyond the last", 1, 8, low=0xff, min=3
	SENT "far beyond", 0, 0, low=-1, high=-1, min=0xffffffffffffff00
	SENT "NMI", 3, 14, low=14, icr=0x400, where=got_nmi
	HYPERCALL 10, 15, 0, 0, 0xc0060
	CHECK "a shorthand", %rax, $-22

	/* -- kicks */
no_ipis:
	OFFERED 7, no_kicks
	movl $0, go
	movq $0, result
	movq $0, result + 8
	SMP_RUN kicks, 2
	CHECK4 "every kick ended a HLT", result + 8, $KICKS
	CHECK4 "and said so", result, $0
no_kicks:

	/* -- steal time */
	TRY bad_steal, K
	CHECK4 "steal time: a reserved bit", tr_vec, $VGP
	OFFERED 9, no_flush
	movl $page_a + 7, ptab
	movl $ptab + 7, pdir
	movl $pdir + 7, boot_pdpt + 8
	movl $0, page_a
	movl $1, page_b
	movl $0, go
	movq $0, result
	movq $0, result + 8
	SMP_RUN sleeper, 2
	CHECK4 "preempted: not while it runs", result, $0
	CHECK4 "preempted: flushes that were left are done", result + 8, $0
	cmpl $1, result + 12
	sbb %eax, %eax
	CHECK4 "preempted: some were left", %eax, $0
	mov steal + 8, %eax
	and $1, %eax
	CHECK4 "steal time: the version is even", %eax, $0
no_flush:
	cli
	/* -- last, for KVM itself sends it, and nobody waits for the last processor any more */
	OFFERED 11, 1f
	HYPERCALL 10, 8, 0, 0, 0x500
	CHECK "INIT", %rax, $-22
1:	ret
