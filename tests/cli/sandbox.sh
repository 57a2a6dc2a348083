# Sourced by run: the sandbox of whole machines. What a role may and may not is tests/unit/sandbox.c's.

refused "unknown sandbox" 2 'on, off or chroot' run --kernel "$kernel" --sandbox maybe

# threads PID WANT: of each thread whether it has a filter (2) and no_new_privs; all lines are to be WANT.
threads() {
	local status
	for status in /proc/"$1"/task/*/status; do
		awk '/^NoNewPrivs|^Seccomp:/ { printf "%s ", $2 } END { print "" }' "$status"
	done | sort -u
}

# inside PID: waits until it is in the sandbox, or gone.
inside() {
	local i
	for ((i = 0; i < 1200; i++)); do
		[ "$(threads "$1" 2>/dev/null)" = "1 2 " ] || [ ! -e "/proc/$1" ] && return
		sleep 0.1
	done
}

# boxed NAME WANT OPTIONS...: a machine with threads of all kinds, as they are when it runs and after resets.
boxed() {
	local name=$1 want=$2 got again pid
	shift 2
	mkdir -p "$tmp/shared"
	truncate -s 1M "$tmp/boxed.img"
	"$ringside" run --memory 64M --disk "$tmp/boxed.img" --share "$tmp/shared" --net "user,pcap=$tmp/frames" \
		--net user --net "socket,listen=unix:$tmp/socket" --vnc "unix:$tmp/vnc" --vsock "$tmp/vsock" --qmp "unix:$tmp/boxed.qmp" \
		--cpus 2 --boot c "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
	pid=$!
	sleep 1
	[ "$want" != "1 2 " ] || inside $pid
	got=$(threads $pid)
	root=$(ls "/proc/$pid/root/" 2>/dev/null | tr '\n' ' ')
	networks=$(readlink "/proc/$pid/ns/net" "/proc/self/ns/net" | sort -u | wc -l)
	for _ in 1 2; do
		python3 tests/qmp_client.py "$tmp/boxed.qmp" system_reset >/dev/null
		sleep 0.7
	done
	[ "$want" != "1 2 " ] || inside $pid
	again=$(threads $pid)
	kill -TERM $pid
	wait $pid
	status=$?
	if [ "$got" = "$want" ] && [ "$again" = "$want" ] && [ $status = 143 ] && ! grep -qv "^ringside: engine " "$tmp/err" &&
		[ ! -e "$tmp/vnc" ] && [ ! -e "$tmp/vsock" ] && [ ! -e "$tmp/boxed.qmp" ] && [ ! -e "$tmp/socket" ]; then
		result ok "$name"
	else
		result not-ok "$name"
		echo "# threads: $got; after resets: $again; status $status; left: $(ls "$tmp" | grep -E 'vnc|vsock|qmp$|socket' | tr '\n' ' ')"
		head -n 5 "$tmp/err" | sed 's/^/# /'
	fi
}

boxed "sandbox: every thread has its filter, also after resets" "1 2 "
boxed "sandbox: off" "0 0 " --sandbox off
if unshare -Urmn true 2>/dev/null; then
	boxed "sandbox: in namespaces" "1 2 " --sandbox chroot
	[ "$root" = "etc proc tmp " ] || [ "$root" = "etc proc ${tmp%%/*} " ] && result ok "sandbox: a root without files" ||
		{ result not-ok "sandbox: a root without files"; echo "# $root"; }
	"$ringside" run --kernel "$tmp/halt" --memory 64M --sandbox chroot >"$tmp/out" 2>"$tmp/err" </dev/null &
	pid=$!
	inside $pid
	left=$(ls "/proc/$pid/root/" | wc -l) networks=$(readlink "/proc/$pid/ns/net" /proc/self/ns/net | sort -u | wc -l)
	kill -TERM $pid
	wait $pid
	[ "$left" = 0 ] && [ "$networks" = 2 ] && result ok "sandbox: a machine without a network has none" ||
		{ result not-ok "sandbox: a machine without a network has none"; echo "# $left files, $networks networks"; }
	# /etc/resolv.conf is a link, as where a daemon keeps it, and is replaced while the machine runs.
	got=$(unshare -Urm bash -c 'mount -t tmpfs none /mnt && mkdir /mnt/etc /mnt/names && cp /etc/ld.so.cache /etc/passwd /mnt/etc &&
		ln -s ../mnt/names/resolv.conf /mnt/etc/resolv.conf && echo nameserver 127.0.0.1 >/mnt/names/resolv.conf &&
		mount --bind /mnt/etc /etc || exit 1
		"$1" run --kernel "$2" --memory 64M --net user --sandbox chroot </dev/null >/dev/null &
		for ((i = 0; i < 300; i++)); do [ -e /proc/$!/root/usr ] || break; sleep 0.1; done
		echo nameserver 127.0.0.2 >/mnt/names/new && mv /mnt/names/new /mnt/names/resolv.conf
		cat /proc/$!/root/etc/resolv.conf
		kill $!' - "$ringside" "$tmp/halt" 2>"$tmp/err")
	[ "$got" = "nameserver 127.0.0.2" ] && result ok "sandbox: name servers that change" ||
		{ result not-ok "sandbox: name servers that change"; echo "# $got"; sed 's/^/# /' "$tmp/err"; }
else
	echo "# this host permits no namespaces: --sandbox chroot is not tested"
fi

# Nobody has rights of root's in a machine that was given no files.
"$ringside" run --kernel "$tmp/halt" --memory 64M --cpus 2 --disk "$tmp/boxed.img" >"$tmp/out" 2>"$tmp/err" </dev/null &
pid=$!
inside $pid
got=$(awk '/^Cap(Eff|Prm|Inh|Amb)/ { print $2 }' /proc/$pid/task/*/status | sort -u)
kill -TERM $pid
wait $pid
[ "$got" = 0000000000000000 ] && result ok "sandbox: no capabilities" || { result not-ok "sandbox: no capabilities"; echo "# $got"; }

# A client of the VNC server that wants cryptography, whose library looks at files when it is first used: it has a (wrong)
# password.
echo secret >"$tmp/password"
"$ringside" run --kernel "$tmp/halt" --memory 64M --vnc "unix:$tmp/vnc,password-file=$tmp/password" >"$tmp/out" 2>"$tmp/err" </dev/null &
pid=$!
inside $pid
# shellcheck disable=SC2016
python3 - "$tmp/vnc" >"$tmp/clients" 2>&1 <<-'EOF'
	import socket, sys
	def client(says):
	    s = socket.socket(socket.AF_UNIX)
	    s.settimeout(60)
	    s.connect(sys.argv[1])
	    s.sendall(says)
	    return s
	def take(s, n):
	    got = b""
	    while len(got) < n:
	        part = s.recv(n - len(got))
	        if not part:
	            break
	        got += part
	    return got
	s = client(b"RFB 003.008\n")
	print(take(s, 12)[:4], take(s, 2))
	s.sendall(b"\x02")
	print(len(take(s, 16)))
	s.sendall(bytes(16))
	print("refused", int.from_bytes(take(s, 4), "big"))
EOF
kill -TERM $pid
wait $pid
[ $? = 143 ] && grep -qx 16 "$tmp/clients" && grep -qx 'refused 1' "$tmp/clients" &&
	result ok "sandbox: VNC with a password" ||
	{ result not-ok "sandbox: VNC with a password"; sed 's/^/# /' "$tmp/clients" "$tmp/err"; }

# Resets without end, under every engine: all that a machine is made of is made again in the sandbox.
for engine in $engines; do
	timeout -s TERM 2 "$ringside" run --kernel "$tmp/reset" --memory 64M --engine "$engine" >/dev/null 2>"$tmp/err" </dev/null
	[ $? = 124 ] && [ ! -s "$tmp/err" ] && result ok "sandbox: resets, $engine" ||
		{ result not-ok "sandbox: resets, $engine"; sed 's/^/# /' "$tmp/err"; }
done

# A boot sector that reads sector 1 by the BIOS five times a second and prints its first byte, or E. The server goes and
# comes back: its socket, or its host's name, is out of reach for all but a network disk's workers.
hex "$tmp/reader" 31 c0 8e d8 8e c0 b2 80 b8 01 02 b9 02 00 b6 00 bb 00 7e cd 13 b0 45 72 03 a0 00 7e ba f8 03 ee \
	b8 00 86 b9 02 00 ba 00 00 cd 15 eb d9
truncate -s 510 "$tmp/reader"
hex "$tmp/signature" 55 aa
(cat "$tmp/reader" "$tmp/signature"; printf 'R') >"$tmp/served.img"
truncate -s 1M "$tmp/served.img"

# printed PATTERN: waits until the boot sector has printed that.
printed() {
	local i
	for ((i = 0; i < 600; i++)); do
		tr -d '\0' <"$tmp/out" | grep -qE "$1" && return
		sleep 0.1
	done
	return 1
}

# The server, ready when this returns, and gone when that does. (On a busy machine a qemu-nbd may be gone again at once,
# without a word, and one that has only just begun overhears SIGTERM; in a container nobody may wait for the dead.)
is_alive() { awk '/^State:/ && $2 != "Z" { found = 1 } END { exit !found }' "/proc/$1/status" 2>/dev/null; }
serve() {
	local i
	for i in 1 2 3; do
		qemu-nbd --fork --pid-file="$tmp/nbd.pid" -f raw -t "$@" "$tmp/served.img" >"$tmp/nbd.err" 2>&1
		sleep 0.2
		is_alive "$(cat "$tmp/nbd.pid" 2>/dev/null)" && return
		echo "no server at the ${i}th try" >>"$tmp/nbd.err"
	done
	return 1
}
stop_serving() {
	local pid
	pid=$(cat "$tmp/nbd.pid" 2>/dev/null)
	while [ -n "$pid" ] && is_alive "$pid" && kill "$pid" 2>/dev/null; do sleep 0.2; done
	rm -f "$tmp/nbd.pid"
}

# comes_back NAME DISK SERVER-OPTIONS... -- OPTIONS...
comes_back() {
	local name=$1 disk=$2 server=() pid good=not-ok
	shift 2
	while [ "$1" != -- ]; do server+=("$1"); shift; done
	shift
	serve "${server[@]}"
	"$ringside" run --memory 64M --disk "$disk" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null &
	pid=$!
	printed 'RR' && stop_serving && printed 'RR+E' && serve "${server[@]}" && printed 'RR+E+R' && good=ok
	kill $pid
	wait $pid
	stop_serving
	result $good "$name"
	if [ $good != ok ]; then
		echo "# $(tail -c 60 "$tmp/out" | tr -d '\0' | tail -n 1)"
		head -n 5 "$tmp/err" "$tmp/nbd.err" | sed 's/^/# /'
	fi
}
port=$((20000 + $$ % 10000))
comes_back "sandbox: a server's disk that goes and comes back, by name" "nbd://localhost:$port" -p "$port" --
! unshare -Urmn true 2>/dev/null ||
	{ mkdir "$tmp/a b" && comes_back "sandbox: and by a socket, in namespaces" "nbd+unix:///?socket=$tmp/a%20b/nbd.sock" \
		-k "$tmp/a b/nbd.sock" -- --sandbox chroot; }
# The server is named in the header of a file only, two images down.
qemu-img create -q -f qcow2 -u -b "nbd://localhost:$port" -F raw "$tmp/middle.qcow2" 1M
(cd "$tmp" && qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 -u top.qcow2 1M)
comes_back "sandbox: and behind two images" "$tmp/top.qcow2" -p "$port" --
