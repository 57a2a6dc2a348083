# Sourced by the boot tests: a guest run as a background process, talked to over a pipe.
# Output is in $log; all functions return 0 when what was asked for happened.

ringside=${RINGSIDE:-build/ringside}
. tests/patience.sh
guests=${GUESTS:-.cache/guests}
tmp=$(mktemp -d)
log=$tmp/log
guest_pid=
trap 'guest_kill; rm -rf "$tmp"' EXIT

count=0 failed=0
# check NAME STATUS [WHY]: one line of TAP; STATUS 0 is good.
check() {
	count=$((count + 1))
	if [ "$2" = 0 ]; then
		echo "ok $count - $1"
	else
		failed=$((failed + 1))
		echo "not ok $count - $1"
		[ $# -lt 3 ] || echo "# $3"
		echo "# the end of its output:"
		tail -n 15 "$log" 2>/dev/null | tr -d '\r' | sed 's/^/#   /'
		tail -n 5 "$tmp/err" 2>/dev/null | sed 's/^/#   stderr: /'
	fi
}

summary() {
	echo "$((count - failed)) passed, $failed failed"
	[ $failed = 0 ]
}

engine_exists() { "$ringside" doctor --engines | grep -qx "$1"; }

# guest_start ARGUMENTS OF RUN...: the guest's input is fd 7 from now on.
guest_start() {
	guest_kill
	rm -f "$tmp/in"
	mkfifo "$tmp/in"
	: >"$log"
	# Open for both: that neither waits for a reader nor breaks when the guest has ended.
	exec 7<>"$tmp/in"
	"$ringside" run "$@" <"$tmp/in" >"$log" 2>"$tmp/err" 7>&- &
	guest_pid=$!
}

guest_kill() {
	[ -n "$guest_pid" ] || return 0
	exec 7>&-
	kill -KILL "$guest_pid" 2>/dev/null
	wait "$guest_pid" 2>/dev/null
	guest_pid=
}

guest_send() { printf '%s\n' "$1" >&7; }

# guest_expect PATTERN SECONDS [TIMES]: waits until the output has the pattern (in TIMES lines).
guest_expect() {
	local begin=$SECONDS times=${3:-1}
	until [ "$(grep -acE -- "$1" "$log")" -ge "$times" ]; do
		kill -0 "$guest_pid" 2>/dev/null || { sleep 0.1; [ "$(grep -acE -- "$1" "$log")" -ge "$times" ]; return; }
		! waited "$begin" "$2" || return 1
		sleep 0.1
	done
}

# guest_run COMMAND SECONDS: runs it in the guest's shell; its output is in $reply.
guest_run() {
	local tag=t$((++guest_tag))
	# The echo of the command itself has the quotes in it.
	guest_send "echo $tag'-begin'; $1; echo $tag'-end'"
	guest_expect "^$tag-end" "$2" || { reply=; return 1; }
	reply=$(tr -d '\r' <"$log" | sed -n "/^$tag-begin/,/^$tag-end/p" | sed '1d;$d')
}
guest_tag=0

# guest_wait SECONDS: waits for its end; the status is in $status.
guest_wait() {
	local begin=$SECONDS
	while kill -0 "$guest_pid" 2>/dev/null; do
		! waited "$begin" "$1" || { status=timeout; guest_kill; return 1; }
		sleep 0.1
	done
	wait "$guest_pid"
	status=$?
	guest_pid=
	exec 7>&-
}

guest_shell() { guest_expect 'This is a busybox shell' "$1" && guest_expect '^ringside:' "$1"; }
