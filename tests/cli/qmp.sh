# Sourced by run: the control socket and serial lines on sockets, with a guest that echoes.

timeout 30 python3 tests/cli/qmp.py "$ringside" "$tmp/echo" "$tmp" >"$tmp/out" 2>&1
while read -r verdict name; do
	case $verdict in ok | not-ok) result "$verdict" "$name" ;; *) echo "# $verdict $name" ;; esac
done <"$tmp/out"
grep -qx "ok qmp: quit" "$tmp/out" || result not-ok "qmp: the test came to its end"

refused "qmp on no socket" 2 'unix:PATH or tcp:' run --kernel "$kernel" --qmp stdio
refused "qmp at a path that cannot be" 1 'No such file' run --kernel "$kernel" --qmp unix:/nonexistent/socket
refused "unknown serial line" 2 'stdio, null, file:PATH' run --kernel "$kernel" --serial lines
refused "five serial ports" 2 'at most' run --kernel "$kernel" --serial none --serial none --serial none --serial none --serial none
refused "standard input on two ports" 2 'one port only' run --kernel "$kernel" --serial stdio --serial stdio
