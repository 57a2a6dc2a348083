# Sourced by run: Ringside in a terminal (script(1) makes one): keys, and the mode restored however it ends.

# in_terminal COMMAND KEYS...: runs it in a terminal of its own and, when that is in raw mode, types KEYS: printf formats;
# of ?TEXT it waits until TEXT was shown. What was shown is in $tmp/shown; the modes before and after in $tmp/before and
# $tmp/after; its status in $tmp/status. In COMMAND `until_mode -icanon` waits for raw mode, `until_mode icanon` for its end.
export ASAN_OPTIONS="${ASAN_OPTIONS-}:handle_segv=0"
in_terminal() {
	local command=$1
	shift
	rm -f "$tmp/before" "$tmp/after" "$tmp/status" "$tmp/tty"
	: >"$tmp/shown"
	cat >"$tmp/session" <<-END
		until_mode() { until stty -a </dev/tty | grep -qE "(^| )\$1( |$)"; do sleep 0.1; done; }
		stty -a >"$tmp/before"
		tty >"$tmp/tty"
		$command
		echo \$? >"$tmp/status"
		stty -a >"$tmp/after"
	END
	type_keys "$@" | timeout 120 script -qefc "bash $tmp/session" /dev/null >"$tmp/shown" 2>&1
}

# For in_terminal.
type_keys() {
	local keys end=$((SECONDS + 120))
	is_over() { [ -s "$tmp/status" ] || [ $SECONDS -gt $end ]; }
	until is_over || { [ -s "$tmp/tty" ] && stty -a -F "$(cat "$tmp/tty")" 2>/dev/null | grep -q -- ' -icanon'; }; do
		sleep 0.1
	done
	for keys; do
		case $keys in
		\?*) until is_over || grep -qF -- "$(printf "${keys#?}")" "$tmp/shown"; do sleep 0.1; done ;;
		*) is_over || printf "$keys" ;;
		esac
	done
	until is_over; do sleep 0.1; done # at the end of its input script(1) would type Ctrl-D
}

# terminal_test NAME STATUS PATTERN
terminal_test() {
	if [ "$(cat "$tmp/status" 2>/dev/null)" = "$2" ] && cmp -s "$tmp/before" "$tmp/after" && { [ -z "$3" ] || grep -qE -- "$3" "$tmp/shown"; }; then
		result ok "$1"
	else
		result not-ok "$1"
		echo "# status $(cat "$tmp/status" 2>/dev/null), wanted $2; shown:"
		head -n 10 "$tmp/shown" | sed 's/^/#   /'
		diff "$tmp/before" "$tmp/after" | sed 's/^/#   /'
	fi
}

run_echo="'$ringside' run --kernel $tmp/echo --memory 64M"
in_terminal "$run_echo" '\001x'
terminal_test "Ctrl-A x ends it" 0 ''
in_terminal "$run_echo" '\001h' '?Ctrl-A x' '\001x'
terminal_test "Ctrl-A h lists the keys" 0 'Ctrl-A x'
in_terminal "$run_echo" '\001s' '?statistics: ' '\001x'
terminal_test "Ctrl-A s prints statistics" 0 'statistics: '
in_terminal "$run_echo" 'a\001\001\003b' '?a\001\003b' '\001x'
terminal_test "other keys, and Ctrl-A twice, go to the guest" 0 "$(printf 'a\001\003b')"
in_terminal "$run_echo; true" '\001a' '?\001' '\001x'
terminal_test "Ctrl-A a sends Ctrl-A" 0 "$(printf '\001')"
for signal in TERM:143 HUP:129 SEGV:139 ABRT:134; do
	in_terminal "(until_mode -icanon; pkill -${signal%:*} -P \$\$ ringside) & $run_echo"
	terminal_test "SIG${signal%:*} leaves the terminal as it was" "${signal#*:}" ''
done
in_terminal "'$ringside' run --kernel $tmp/ud --memory 64M"
terminal_test "a triple fault leaves the terminal as it was" 4 'triple fault'
in_terminal "'$ringside' run --kernel $tmp/none"
terminal_test "an error leaves the terminal as it was" 1 'No such file'
# Suspended from outside, the terminal is as it was; continued, it is raw again.
in_terminal "(until_mode -icanon; pkill -TSTP -P \$\$ ringside; until_mode icanon; stty -a </dev/tty >$tmp/suspended
	pkill -CONT -P \$\$ ringside; until_mode -icanon; stty -a </dev/tty >$tmp/continued; echo continued >/dev/tty) & $run_echo" \
	'?continued' '\001x'
terminal_test "SIGTSTP and SIGCONT: goes on" 0 ''
cmp -s "$tmp/before" "$tmp/suspended" && result ok "SIGTSTP: the terminal is as it was" || result not-ok "SIGTSTP: the terminal is as it was"
grep -q -- '-icanon' "$tmp/continued" && result ok "SIGCONT: raw again" || result not-ok "SIGCONT: raw again"
