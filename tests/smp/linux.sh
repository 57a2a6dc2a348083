# Sourced by run and tsan: what Linux is to do on several vCPUs. $few: not empty where a few rounds of everything have to do,
# as they have for the interpreter. NAME says in the test's lines what machine it is.
. tests/boot/guest.sh
few=

limit() { # ENGINE SECONDS: the interpreter takes longer
	[ "$1" = interp ] && echo $(($2 * 8)) || echo "$2"
}
few() { [ "$1" = interp ] || [ -n "$few" ]; } # ENGINE
turns() { few "$1" && echo 2000 || echo 10000; } # ENGINE: of the stress program

make_initrd() { # GUEST
	[ -e "$tmp/stress" ] || gcc -O2 -static -pthread -D_GNU_SOURCE -o "$tmp/stress" tests/smp/stress.c || exit 1
	tools/make-initramfs "$guests/$1/busybox" "$tmp/$1.gz" "$tmp/stress:bin/stress"
}

# start NAME ENGINE GUEST CPUS APPEND [ARGUMENTS...]
start() {
	local name=$1 engine=$2 guest=$3 cpus=$4 append=$5 begin=$SECONDS
	shift 5
	[ -e "$tmp/$guest.gz" ] || make_initrd "$guest"
	guest_start --engine "$engine" --cpus "$cpus" --kernel "$guests/$guest/vmlinuz" --initrd "$tmp/$guest.gz" \
		--memory 512M --append "console=ttyS0 loglevel=4 $append" --stats "$@"
	guest_shell "$(limit "$engine" 60)"
	check "$name: a shell ($((SECONDS - begin)) s)" $?
	[ -n "$guest_pid" ]
}

# quiet NAME ENGINE: nothing in the kernel's log that should not be
quiet() {
	local pattern='BUG:|Oops|WARNING: CPU|Call Trace|unchecked MSR|detected.*stall|lockup|hung task|topology.*(bug|mismatch)'
	pattern="$pattern|TSC.*(unstable|skew|unsynchronized)|clocksource: timekeeping watchdog|APIC (error|ID mismatch)"
	guest_run "dmesg | grep -E '$pattern|Firmware Bug|not responding|Stuck'" "$(limit "$2" 20)" && [ -z "$reply" ]
	check "$1: a quiet kernel log" $? "$reply"
}

# What the kernel says of its processors.
processors() {
	local name=$1 engine=$2 cpus=$3 seconds
	seconds=$(limit "$engine" 20)
	guest_run "nproc; grep -c '^cpu cores.*: $cpus\$' /proc/cpuinfo; grep -c '^siblings.*: $cpus\$' /proc/cpuinfo" "$seconds" &&
		[ "$(sort -u <<<"$reply")" = "$cpus" ]
	check "$name: $cpus processors, cores of one package" $? "$reply"
	guest_run "cat /sys/devices/system/cpu/cpu*/topology/core_id | sort -n | xargs echo" "$seconds" &&
		[ "$(tr -d ' ' <<<"$reply")" = "$(seq -s '' 0 $((cpus - 1)))" ]
	check "$name: each its own core" $? "$reply"
	guest_run "dmesg | grep -cE 'PV spinlocks enabled|[Ss]etup pv remote TLB flush|setup PV IPIs'" "$seconds" &&
		[ "$reply" = 3 ]
	check "$name: paravirtual spin locks, TLB flush and IPIs" $? "$reply"
}

stress() {
	local name=$1 engine=$2 cpus=$3 test begin
	for test in count futex shootdown map jit fork; do
		begin=$SECONDS
		guest_run "stress $test $cpus $(turns "$engine")" "$(limit "$engine" 90)" && [ "$reply" = "$test ok" ]
		check "$name: $test ($((SECONDS - begin)) s)" $? "$reply"
		[ -n "$guest_pid" ] || return 1
	done
}

# Load on all CPUs while something else is done; its output is in $reply. under_load ENGINE SECONDS COMMAND
under_load() {
	guest_run "rm -f /tmp/stop; (while [ ! -e /tmp/stop ]; do stress count $cpus 500 >>/tmp/load; done) & \
(while [ ! -e /tmp/stop ]; do (exit 3) | cat; done) & \
(while [ ! -e /tmp/stop ]; do stress jit $cpus 500 >>/tmp/load; stress shootdown $cpus 200 >>/tmp/load; done) & \
{ $3; } 2>&1; >/tmp/stop; wait; grep -vx '[a-z]* ok' /tmp/load; rm /tmp/load" "$(limit "$1" "$2")" || return 1
	reply=$(grep -vE '^\[[0-9]+\]' <<<"$reply") # the shell's words about background jobs
}

# Linux patches itself while all CPUs run.
text_patching() {
	local name=$1 engine=$2 cpus=$3 rounds=25
	few "$engine" && rounds=3
	under_load "$engine" 120 "i=0; while [ \$i -lt $((rounds * 2)) ]; do i=\$((i+1)); \
echo 1 >/proc/sys/kernel/sched_schedstats; echo 0 >/proc/sys/kernel/sched_schedstats; done; echo done" && [ "$reply" = "done" ]
	check "$name: jump labels on and off under load" $? "$reply"
	guest_run "mount -t tracefs tracefs /sys/kernel/tracing; cd /sys/kernel/tracing; grep -c function available_tracers" 20
	under_load "$engine" 240 "i=0; while [ \$i -lt $((rounds / 3)) ]; do i=\$((i+1)); \
echo function >current_tracer; echo nop >current_tracer; done; echo done" && [ "$reply" = "done" ]
	check "$name: ftrace on and off under load" $? "$reply"
	under_load "$engine" 120 "i=0; while [ \$i -lt $rounds ]; do i=\$((i+1)); echo 'p:r vfs_read' >kprobe_events; \
echo 'p:w vfs_write' >>kprobe_events; echo 1 >events/kprobes/enable; read up idle </proc/uptime; \
echo 0 >events/kprobes/enable; while read name hits missed; do [ \$hits != 0 ] || echo \$name was not hit; done <kprobe_profile; \
echo >kprobe_events; done; echo done" && [ "$reply" = "done" ]
	check "$name: kprobes come and go under load" $? "$reply"
	guest_run "cd; umount /sys/kernel/tracing" 20
}

hotplug() {
	local name=$1 engine=$2 cpus=$3 rounds=12
	few "$engine" && rounds=2
	under_load "$engine" 180 "i=0; while [ \$i -lt $rounds ]; do i=\$((i+1)); c=\$((i % ($cpus - 1) + 1)); \
echo 0 >/sys/devices/system/cpu/cpu\$c/online; echo 1 >/sys/devices/system/cpu/cpu\$c/online; done; nproc" && [ "$reply" = "$cpus" ]
	check "$name: CPUs go and come under load" $? "$reply"
	guest_run "for i in 1 2 3; do for c in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 0 >\$c; done; nproc; \
for c in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 1 >\$c; done; nproc; done" "$(limit "$engine" 60)" &&
		[ "$(sort -u <<<"$reply" | tr '\n' ' ')" = "1 $cpus " ]
	check "$name: all but one go, and come back" $? "$reply"
}

nmi() {
	guest_run "dmesg -c >/dev/null; echo 1 >/proc/sys/kernel/sysrq; echo l >/proc/sysrq-trigger; sleep 1; \
dmesg | grep -cE 'NMI backtrace for cpu [0-9]+'; dmesg -c >/dev/null" "$(limit "$2" 20)" && grep -qx "$3" <<<"$reply"
	check "$1: a backtrace of every CPU by NMI" $? "$reply"
}

everything() { # ENGINE GUEST CPUS
	local engine=$1 guest=$2 cpus=$3 name="$2, $3 vCPUs, $1"
	# a host that is busy keeps vCPUs waiting for longer than the kernel's 20 seconds; with sanitizers for minutes
	local patient="watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"
	[ -z "$sanitized" ] || patient="nowatchdog rcupdate.rcu_cpu_stall_timeout=300"
	start "$name" "$engine" "$guest" "$cpus" "$patient" || return
	processors "$name" "$engine" "$cpus"
	stress "$name" "$engine" "$cpus" || return
	text_patching "$name" "$engine" "$cpus"
	hotplug "$name" "$engine" "$cpus"
	quiet "$name" "$engine"
	nmi "$name" "$engine" "$cpus"
	guest_send poweroff
	guest_wait "$(limit "$engine" 30)"
	[ "$status" = 0 ] && grep -q '^  vCPU 1 ' "$tmp/err"
	check "$name: power off, status 0" $? "status $status"
}
