# Sourced by run: how Ringside ends, by exit status, with guests of a few bytes; pipes and signals.

guest "$tmp/halt" f4 eb fd                                      # hlt in a loop, interrupts off
guest "$tmp/chatter" 66 ba f8 03 b0 79 ee b0 0a ee eb f7        # out 'y', newline, for ever
# raises RTS; then waits for a byte and sends it back, for ever
guest "$tmp/echo" 66 ba fc 03 b0 03 ee 66 ba fd 03 ec a8 01 74 f7 66 ba f8 03 ec ee eb ef
guest "$tmp/ud" 0f 0b                                           # ud2 without an IDT
guest "$tmp/exit" b0 05 e6 f4 eb fe                             # out 0xf4, 5
guest "$tmp/reset" b0 fe e6 64 eb fe                            # keyboard controller: pulse reset
guest "$tmp/reset2" 66 ba f9 0c b0 06 ee eb fe                  # 0xcf9: hard reset
guest "$tmp/off" 66 ba 04 06 66 b8 00 34 66 ef eb fe            # PM1a control: S5
guest "$tmp/nowhere" ea 00 00 00 f0 10 00                       # jmp 0x10:0xf0000000
guest "$tmp/end" b8 f0 ff ff 03 ff e0                           # jmp to the last bytes of 64 MiB
guest "$tmp/wild" bc 00 00 00 c0 50 eb fd                       # pushes without end, from 0xc0000000 down

engines=$("$ringside" doctor --engines)

# ends NAME STATUS STDERR-PATTERN IMAGE OPTIONS...: on every engine.
ends() {
	local name=$1 status=$2 pattern=$3 image=$4 engine got
	shift 4
	for engine in $engines; do
		timeout 120 "$ringside" run --kernel "$image" --memory 64M --engine "$engine" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
		got=$?
		if [ $got = "$status" ] && grep -qE -- "$pattern" "$tmp/err" || { [ $got = "$status" ] && [ -z "$pattern" ] && [ ! -s "$tmp/err" ]; }; then
			result ok "$name, $engine"
		else
			result not-ok "$name, $engine"
			echo "# status $got, wanted $status and stderr matching: $pattern"
			head -n 5 "$tmp/err" | sed 's/^/# /'
		fi
	done
}

ends "power off" 0 '' "$tmp/off"
ends "debug exit" 11 '' "$tmp/exit" --debug-exit 0xf4
ends "reset by the keyboard controller, --no-reboot" 0 '' "$tmp/reset" --no-reboot
ends "reset by port 0xcf9, --no-reboot" 0 '' "$tmp/reset2" --no-reboot
ends "triple fault" 4 'triple fault' "$tmp/ud"
ends "a jump into nothing" 4 'triple fault' "$tmp/nowhere"
ends "off the end of memory" 4 'triple fault' "$tmp/end"
ends "--stats" 0 '^statistics: ' "$tmp/off" --stats

# --engine auto says in one line what it takes, and why not KVM; --engine kvm then refuses with the same reason.
timeout 120 "$ringside" run --kernel "$tmp/off" --memory 64M >/dev/null 2>"$tmp/err" </dev/null
if [ $? = 0 ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -qE '^ringside: engine [a-z]+( \(not kvm: .*\))?$' "$tmp/err"; then
	result ok "--engine auto is the default and says so"
else
	result not-ok "--engine auto is the default and says so"
	sed 's/^/# /' "$tmp/err"
fi
if ! grep -qx kvm <<<"$engines"; then
	reason=$(sed -n 's/^ringside: engine [a-z]* (not kvm: \(.*\))$/\1/p' "$tmp/err")
	refused "--engine kvm where it is not fit" 1 "--engine kvm: .*${reason%%[(;]*}" run --kernel "$tmp/off" --memory 64M --engine kvm
fi

# A guest that only touches nothing must not keep Ringside from ending.
timeout -s TERM 2 "$ringside" run --kernel "$tmp/wild" --memory 64M >/dev/null 2>&1 </dev/null
status=$?
[ $status = 124 ] || [ $status = 4 ] && result ok "pushes through memory" || { result not-ok "pushes through memory"; echo "# status $status"; }

# runs PID: waits until it does, which is when it has a second thread, or is gone.
runs() {
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" = 1 ] || return
		sleep 0.1
	done
}

# signalled NAME STATUS SIGNAL [STDERR-PATTERN]
signalled() {
	"$ringside" run --kernel "$tmp/halt" --memory 64M >"$tmp/out" 2>"$tmp/err" </dev/null &
	local pid=$! got i
	runs $pid
	kill -"$3" $pid
	if [ "$3" = USR1 ]; then
		for ((i = 0; i < 600; i++)); do
			! grep -qE "$4" "$tmp/err" || break
			sleep 0.1
		done
		kill -TERM $pid
	fi
	wait $pid
	got=$?
	[ $got = "$2" ] && grep -qE "${4-}" "$tmp/err" && result ok "$1" || { [ $got = "$2" ] && [ -z "${4-}" ] && result ok "$1"; } ||
		{ result not-ok "$1"; echo "# status $got"; }
}
signalled "SIGTERM" 143 TERM
signalled "SIGHUP" 129 HUP
signalled "SIGUSR1 prints statistics" 143 USR1 '^statistics: '
# Background jobs of a shell without job control ignore SIGINT: a shell of their own has it back.
timeout -s INT 1 "$ringside" run --kernel "$tmp/halt" --memory 64M >/dev/null 2>&1 </dev/null
[ $? = 124 ] && result ok "SIGINT" || result not-ok "SIGINT"

# Pipes, files, nothing.
echoed() { # NAME FILE
	local pid i
	: >"$tmp/copy"
	cat "$2" | "$ringside" run --kernel "$tmp/echo" --memory 64M > >(cat >"$tmp/copy") 2>/dev/null &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		[ "$(stat -c %s "$tmp/copy")" -lt "$(stat -c %s "$2")" ] || break
		sleep 0.1
	done
	kill -TERM $pid
	wait $pid
	cmp -s "$2" "$tmp/copy" && result ok "$1" || { result not-ok "$1"; ls -l "$2" "$tmp/copy" | sed 's/^/# /'; }
}
echo hello >"$tmp/data"
echoed "stdin and stdout are pipes" "$tmp/data"
head -c 20000 "$kernel" >"$tmp/data"
echoed "20000 bytes of any kind through the serial line and back" "$tmp/data"
timeout 120 "$ringside" run --kernel "$tmp/off" --memory 64M <&- >"$tmp/out" 2>&1
[ $? = 0 ] && result ok "stdin is closed" || result not-ok "stdin is closed"
timeout 120 "$ringside" run --kernel "$tmp/off" --memory 64M </dev/null >&- 2>/dev/null
[ $? = 0 ] && result ok "stdout is closed from the start" || result not-ok "stdout is closed from the start"

# What the parent left open is closed, but for what the command line names; what it closed is open.
truncate -s 1M "$tmp/eight"
"$ringside" run --kernel "$tmp/halt" --memory 64M --disk /dev/fd/8,ro --append "fd=6" </dev/null >&- 2>&- \
	5<"$tmp/eight" 6<"$tmp/eight" 7<"$tmp/eight" 8<"$tmp/eight" 100<"$tmp/eight" &
pid=$!
runs $pid
got=$(cd /proc/$pid/fd && for fd in 1 2 5 6 7 8 100; do echo "$fd:$(readlink $fd)"; done | sed "s,$tmp/,,")
kill -TERM $pid
wait $pid
[ $? = 143 ] && [ "$(echo $got | sed -E 's/ (5|7):[^ ]*//g')" = "1:/dev/null 2:/dev/null 6:eight 8:eight 100:" ] &&
	[[ "$got" != *5:eight* && "$got" != *7:eight* ]] && result ok "descriptors that were inherited" ||
	{ result not-ok "descriptors that were inherited"; echo "# $got"; }
timeout 120 bash -c '"$1" run --kernel "$2" --memory 64M </dev/null 2>/dev/null; echo $? >"$3"' - "$ringside" "$tmp/chatter" "$tmp/status" |
	head -n 3 >"$tmp/out"
[ "$(cat "$tmp/status")" = 141 ] && [ "$(wc -l <"$tmp/out")" = 3 ] && result ok "the reader of stdout goes away" ||
	result not-ok "the reader of stdout goes away"
