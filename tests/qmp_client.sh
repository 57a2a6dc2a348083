# Sourced, by a shell that may ignore SIGPIPE: a QMP client in nothing but bash, for tests/kvm/rig has no more.
# qmp_client.py is one for sockets with a path.

# qmp_connect PORT: to that port of 127.0.0.1, when somebody listens; 1: nobody does.
qmp_connect() {
	local i
	qmp_socket= answer=
	trap '' PIPE
	for i in $(seq 1200); do
		{ exec {qmp_socket}<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null && break
		sleep 0.05
	done
	[ -n "$qmp_socket" ] && read -r -t 60 answer 2>/dev/null <&"$qmp_socket" && qmp_command qmp_capabilities
}

# qmp_command NAME [JSON]: what is answered, events left out, in $answer; 1: nobody answers any more.
qmp_command() {
	printf '{"execute": "%s", "arguments": %s}\n' "$1" "${2:-{\}}" >&"$qmp_socket" 2>/dev/null || return 1
	while read -r -t 60 answer 2>/dev/null <&"$qmp_socket"; do
		[[ $answer == *'"event"'* ]] || return 0
	done
	return 1
}
